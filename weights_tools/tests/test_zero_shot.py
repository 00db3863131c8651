"""zero_shot.py: the same numbers as `clipc zeroshot-eval` on the bundled model, and each of its rules by itself."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))
import clipc_program
import zero_shot

ROOT = TOOLS.parent
PROGRAM = os.environ.get("CLIPC_PROGRAM") or str(ROOT / "build" / "clipc")
MODEL = str(ROOT / "models" / "tiny")
needs_program = pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason=f"{PROGRAM} is not built")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """14 folders of 4 drawings, some in a folder that is not theirs; beside them what is no picture."""
    pytest.importorskip("PIL", reason="Pillow draws the tree of pictures")
    import drawer
    tree = tmp_path_factory.mktemp("tree with spaces")
    concepts = drawer.held_out_concepts()[::4][:14]
    for i, concept in enumerate(concepts):
        folder = tree / drawer.caption(concept).replace(" ", "_")
        folder.mkdir()
        for j in range(4):
            what = concepts[(i * 5 + 1) % 14] if j == 3 and i % 3 else concept
            drawer.draw(what, f"zero_shot/{i}/{j}", 72 + i, 64).save(folder / f"{j}.{'JPG' if j == 1 else 'png'}")
        (folder / "notes.txt").write_text("no picture")
        (folder / ".hidden.png").write_bytes(b"no picture")
        (folder / "folder.png").mkdir()
    (tree / ".hidden").mkdir()
    (tree / "README").write_text("no folder")
    return tree


def ours(capsys, *arguments):
    status = zero_shot.main(["--program", PROGRAM, "-m", MODEL, *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def theirs(*arguments):
    run = subprocess.run([PROGRAM, "zeroshot-eval", "-m", MODEL, *map(str, arguments)], capture_output=True)
    return run.returncode, run.stdout.decode(), run.stderr.decode()


def check_same(capsys, *arguments):
    """Both formats; returns the report."""
    assert ours(capsys, *arguments)[:2] == theirs(*arguments)[:2]
    status, text, _ = ours(capsys, *arguments, "-f", "json")
    expected_status, expected, _ = theirs(*arguments, "-f", "json")
    assert (status, json.loads(text)) == (expected_status, json.loads(expected))
    return json.loads(text)


# ---------------------------------------------------------------- against the program

@needs_program
def test_the_same_numbers_as_the_program(drawn, capsys):
    report = check_same(capsys, "--images", drawn)
    assert report["n_images"] == 56 and report["n_classes"] == 14 and report["n_failed"] == 0
    assert 0.5 < report["top_1"] < 1 and report["top_1"] < report["top_5"] and report["confusions"]


@needs_program
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_same_numbers_in_other_precisions(precision, drawn, capsys):
    check_same(capsys, "--images", drawn, "--precision", precision, "--top", 2)


@needs_program
def test_the_same_numbers_with_both_files(drawn, tmp_path, capsys):
    """Several templates, a class without a folder, and two classes of one name: the first of equals wins."""
    folders = sorted(p.name for p in drawn.iterdir() if p.is_dir() and p.name[0] != ".")
    lines = [f"{folder}\t{folder.replace('_', ' ')}" for folder in reversed(folders)]
    lines[5] = f"{folders[8]}\t{folders[7].replace('_', ' ')}"  # as folders[7], which comes after it
    lines.insert(3, "nowhere\ta purple Ärger")
    (tmp_path / "classes").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines + ["", ""]).encode())
    (tmp_path / "templates").write_bytes(b"a photo of a {}\n\n{}\r\nthis is {}, yes, {}.\n")
    report = check_same(capsys, "--images", drawn, "--classes", tmp_path / "classes",
                        "--templates", tmp_path / "templates", "--batch", 3)
    assert report["n_classes"] == 15 and report["classes"][3]["n_images"] == 0
    assert any((pair["class"], pair["taken_for"]) == (folders[7], folders[8]) for pair in report["confusions"])


@needs_program
def test_plain_names_belong_to_the_sorted_folders(drawn, tmp_path, capsys):
    folders = sorted(p.name for p in drawn.iterdir() if p.is_dir() and p.name[0] != ".")
    (tmp_path / "names").write_text("".join(f"{folder[::-1]}\n" for folder in folders))
    report = check_same(capsys, "--images", drawn, "--classes", tmp_path / "names")
    assert report["classes"][0] == {**report["classes"][0], "folder": folders[0], "name": folders[0][::-1]}


@needs_program
def test_pictures_that_cannot_be_read_do_not_count(drawn, tmp_path, capsys):
    for name in ("one", "two\nlines"):
        (tmp_path / name).mkdir()
    picture = next(drawn.glob("*/0.png")).read_bytes()
    (tmp_path / "one" / "a.png").write_bytes(picture)
    (tmp_path / "one" / "b.png").write_bytes(picture[:50])
    (tmp_path / "two\nlines" / "c\nd.png").write_bytes(picture)
    report = check_same(capsys, "--images", tmp_path)
    status, _, err = ours(capsys, "--images", tmp_path)
    assert status == 1 and "b.png" in err and report["n_images"] == 2 and report["n_failed"] == 1


@needs_program
@pytest.mark.parametrize("classes,templates,said", [
    ("a\n", None, "1 names for the 2 folders"), ("x\ta\ny\n", None, "1 of 2 lines have a tab"),
    ("x\ta\nx\tb\n", None, "comes twice"), ("x\ta\n", None, "no line for the folder"),
    (None, "a photo\n", "has no {}"), (None, "\n", "has no templates"),
])
def test_refusals_are_the_programs(classes, templates, said, tmp_path, capsys):
    arguments = ["--images", tmp_path / "tree"]
    for folder in "xy":
        (tmp_path / "tree" / folder).mkdir(parents=True)
        (tmp_path / "tree" / folder / "a.png").write_bytes(b"")
    for name, text in (("classes", classes), ("templates", templates)):
        if text is not None:
            (tmp_path / name).write_text(text)
            arguments += [f"--{name}", tmp_path / name]
    status, out, err = ours(capsys, *arguments)
    expected = theirs(*arguments)
    assert (status, out) == (2, "") == expected[:2] and said in err
    assert err.replace("zero_shot.py: ", "") == expected[2].replace("clipc: ", "")


# ---------------------------------------------------------------- by itself

def test_refusals_without_the_program(tmp_path, capsys):
    assert ours(capsys, "--images", tmp_path)[0] == 2
    (tmp_path / "empty").mkdir()
    status, _, err = ours(capsys, "--images", tmp_path)
    assert status == 2 and "no pictures in this folder" in err
    (tmp_path / "empty" / "a.png").write_bytes(b"")
    assert zero_shot.main(["--program", str(tmp_path / "none"), "-m", MODEL, "--images", str(tmp_path)]) == 2
    assert "cannot be run" in capsys.readouterr().err
    assert "nowhere: No such file" in ours(capsys, "--images", "nowhere")[2]


def test_a_class_vector_is_the_mean_of_unit_vectors():
    prompts = np.array([[[3, 0], [0, 0.5]], [[1, 0], [1, 0]]], dtype=np.float32)
    np.testing.assert_allclose(zero_shot.class_vectors(prompts), [[0.5 ** 0.5] * 2, [1, 0]], rtol=1e-7)


def test_the_first_of_equals_wins():
    rng = np.random.default_rng(7)
    classes = rng.standard_normal((40, 33)).astype(np.float32)
    classes[30] = classes[11]
    scores = zero_shot.logits(classes, classes, 100, -10)
    assert (scores[:, 30] == scores[:, 11]).all() and scores[11, 11] == pytest.approx(90)
    first, five, won = zero_shot.count(scores, range(40))
    assert won[30] == won[11] == 11 and not first[30] and five[30] and first.sum() == 39


def test_within_five():
    scores = np.array([[6, 5, 4, 3, 2, 1]] * 6, dtype=np.float32)
    first, five, _ = zero_shot.count(scores, range(6))
    assert first.tolist() == [True] + [False] * 5 and five.tolist() == [True] * 5 + [False]


def test_confusions_are_ranked_and_cut():
    tree = zero_shot.Tree(["a", "b", "c"], ["a", "b", "c"], [], [0, 0, 0, 2, 2, 1, 1])
    basis, nan = np.eye(3, dtype=np.float32), np.full((1, 3), np.nan, dtype=np.float32)
    vectors = np.concatenate([basis[[1, 2, 2, 0, 0, 1]], nan])
    report = zero_shot.add_up("m", tree, vectors, basis, 1, 0, 2)
    assert report["confusions"] == [{"class": "a", "taken_for": "c", "n": 2}, {"class": "c", "taken_for": "a", "n": 2}]
    assert (report["n_images"], report["n_failed"]) == (6, 1)
    assert report["top_1"] == pytest.approx(1 / 6) and report["mean_per_class"] == pytest.approx(1 / 3)


def test_lines_as_the_program_reads_them(tmp_path):
    path = tmp_path / "list"
    for data, lines in ((b"\xef\xbb\xbfa\r\n\nb \n\xff", ["a", "b ", "\udcff"]), (b"a\n\0b\r\0", ["a\n", "b\r"]),
                        (b"\r\n", []), (b"", [])):
        path.write_bytes(data)
        assert clipc_program.lines_of(str(path)) == lines


def test_a_bar_where_tqdm_and_a_terminal_are(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    assert clipc_program.Progress("pictures", 3).bar is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = clipc_program.Progress("pictures", 3)
    bar.step(2)
    bar.say("a picture is broken")
    bar.close()
    assert "a picture is broken" in capsys.readouterr().err
    assert clipc_program.Progress("pictures", 3, quiet=True).bar is None


def test_help_has_an_example():
    run = subprocess.run([sys.executable, str(TOOLS / "zero_shot.py"), "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "python zero_shot.py -m ../models/tiny" in run.stdout
