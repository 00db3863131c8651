"""compare.py: its arithmetic and verdicts with a made-up reference, and the program's side for real; no library."""
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))
import compare
import references
from clipc_program import Clipc, Failed

ROOT = TOOLS.parent
PROGRAM = os.environ.get("CLIPC_PROGRAM") or str(ROOT / "build" / "clipc")
MODEL = str(ROOT / "models" / "tiny")
PICTURES = [str(ROOT / "models" / "tiny" / "pictures" / name) for name in ("red_circle.png", "red_car.jpg")]
needs_program = pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason=f"{PROGRAM} is not built")
INFINITY = float("inf")


class Echo:
    """A reference that says what the program says, turned by `error` in the first component of every vector."""
    name = "echo 1.0"

    def __init__(self, model=MODEL, error=0.0, pixel_error=0.0, extra_id=False):
        self.clipc = Clipc(PROGRAM, model)
        self.error, self.pixel_error, self.extra_id = error, pixel_error, extra_id

    def _vector(self, **inputs):
        vector = self.clipc.embed(**inputs)[0][0].copy()
        vector[0] += self.error
        return vector

    def embed_image(self, path):
        return self._vector(paths=[path])

    def embed_text(self, text):
        return self._vector(texts=[text])

    def pixels(self, path):
        return self.clipc.pixels(path) + np.float32(self.pixel_error)

    def ids(self, text):
        return self.clipc.ids([text])[0] + [7] * self.extra_id


def run(capsys, monkeypatch, reference, *arguments):
    monkeypatch.setattr(references, "make", lambda library, folder, torchvision=False: reference)
    status = compare.main(["--program", PROGRAM, "-m", MODEL, *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# ---------------------------------------------------------------- arithmetic

def test_the_greatest_difference():
    assert compare.greatest_difference([1, 2, 3], [1, 2.5, 2.75]) == 0.5
    assert compare.greatest_difference([], []) == 0
    assert compare.greatest_difference([1, 2], [1, 2, 3]) == INFINITY
    assert compare.greatest_difference([1, np.nan], [1, np.nan]) == INFINITY
    assert compare.greatest_difference(np.zeros((1, 2)), np.zeros((2, 1))) == INFINITY


def test_cosines():
    assert compare.cosine([3, 4], [6, 8]) == 1
    assert compare.cosine([1, 0], [0, 2]) == 0
    assert compare.cosine([1, 0], [-1, 0]) == -1
    assert compare.cosine([0, 0], [1, 0]) == 0
    assert compare.cosine([1, np.nan], [1, 0]) == -1 == compare.cosine([1], [1, 0])


def entry(name, difference, cosine=1.0, kind="image", **more):
    return {"kind": kind, "input": name, "embedding": {"f32": {"difference": difference, "cosine": cosine}}, **more}


def test_worst_and_mean():
    inputs = [entry("a", 0.1, 0.9), entry("b", 0.3, 0.8), entry("t", 0.5, 0.1, "text"),
              {"kind": "image", "input": "c", "error": "broken"}]
    row = compare.summary(inputs, "f32", "image")
    assert row["n"] == 2 and row["worst_input"] == "b"
    assert row["worst_difference"] == 0.3 and row["mean_difference"] == pytest.approx(0.2)
    assert row["worst_cosine"] == 0.8 and row["mean_cosine"] == pytest.approx(0.85)
    assert compare.summary(inputs[3:], "f32", "image") is None


@pytest.mark.parametrize("inputs,floors,n", [
    ([entry("a", 1e-5)], {}, 0), ([entry("a", 1.01e-5)], {}, 1), ([entry("a", INFINITY)], {}, 1),
    ([entry("a", float("nan"))], {}, 1),
    ([entry("a", 0, pixel_difference=1e-6)], {}, 0), ([entry("a", 0, pixel_difference=2e-6)], {}, 1),
    ([entry("a", 0, pixel_difference=INFINITY)], {}, 1),
    ([entry("a", 0, kind="text", ids_equal=True)], {}, 0), ([entry("a", 0, kind="text", ids_equal=False)], {}, 1),
    ([entry("a", 0, 0.99)], {"f32": 0.99}, 0), ([entry("a", 0, 0.98)], {"f32": 0.99}, 1),
    ([entry("a", 0, 0.5)], {"int8": 0.99}, 0), ([{"kind": "image", "input": "a", "error": "broken"}], {}, 1),
])
def test_verdicts(inputs, floors, n):
    assert len(compare.judge(inputs, 1e-5, 1e-6, floors)) == n


class MadeUp:
    """clipc's and the reference's part at once, in numbers that are easy to follow."""
    name = "made up"

    def __init__(self):
        self.asked = []

    def embed(self, paths, texts, options, progress):
        self.asked.append((options[1], list(paths), list(texts)))
        step = {"f32": 0.0, "int8": 0.25}[options[1]]
        rows = [[np.nan] * 2 if "broken" in path else [1 - step, step] for path in paths] + [[0, 1 - step]] * len(texts)
        return np.array(rows, dtype=np.float32), int("broken" in "".join(paths))

    def pixels(self, path, progress=None):
        return np.full((3, 2, 2), 0.5 if progress is None else 0.25, dtype=np.float32)

    def ids(self, texts):
        return [[1, 2]] * len(texts) if isinstance(texts, list) else [1, 2 + texts.count("!")]

    def embed_image(self, path):
        if "odd" in path:
            raise ValueError("cannot do this\nbecause")
        return np.array([1, 0])

    def embed_text(self, text):
        return np.array([0, 1])


def test_measuring():
    both = MadeUp()
    good, broken, odd, plain, loud = compare.measure(both, both, ["a", "broken", "odd"], ["b", "c!"], ["f32", "int8"])
    assert both.asked == [("f32", ["a", "broken", "odd"], ["b", "c!"]), ("int8", ["a", "odd"], ["b", "c!"])]
    assert good["pixel_difference"] == 0.25 and good["embedding"]["f32"] == {"difference": 0, "cosine": 1}
    assert good["embedding"]["int8"]["difference"] == 0.25
    assert good["embedding"]["int8"]["cosine"] == pytest.approx(0.75 / 0.625 ** 0.5)
    assert broken == {"kind": "image", "input": "broken", "error": "clipc gives no vector in f32"}
    assert odd == {"kind": "image", "input": "odd", "error": "made up: cannot do this"}
    assert plain["ids_equal"] and plain["embedding"]["int8"] == {"difference": 0.25, "cosine": 1}
    assert not loud["ids_equal"] and (loud["ids"], loud["reference_ids"]) == ([1, 2], [1, 3])


# ---------------------------------------------------------------- with the program

@needs_program
def test_equal_is_within(capsys, monkeypatch):
    status, out, err = run(capsys, monkeypatch, Echo(), "--image", Path(PICTURES[0]).parent, "--text", "a red circle",
                           "--min-cosine", "bf16=0.999", "--min-cosine", "int8=0.99")
    assert (status, err) == (0, "") and "echo 1.0" in out and "1 of 1 texts equal" in out
    assert "12 pictures, greatest difference 0\n" in out and "beyond" not in out


@needs_program
def test_differences_show_and_count(capsys, monkeypatch):
    arguments = ("-i", PICTURES[0], "--text", "a", "--precisions", "f32,int8", "-f", "json")
    status, out, _ = run(capsys, monkeypatch, Echo(error=3e-5), *arguments)
    report = json.loads(out)
    assert status == 1 and not report["within"] and len(report["beyond"]) == 2
    assert [row["worst_difference"] for row in report["summary"] if row["precision"] == "f32"] == \
        [pytest.approx(3e-5, rel=0.01)] * 2
    assert [list(e["embedding"]) for e in report["inputs"]] == [["f32", "int8"]] * 2
    assert run(capsys, monkeypatch, Echo(error=3e-5), *arguments, "--threshold", "4e-5")[0] == 0
    assert run(capsys, monkeypatch, Echo(pixel_error=1e-3), *arguments)[0] == 1
    assert run(capsys, monkeypatch, Echo(pixel_error=1e-3), *arguments, "--pixel-threshold", "0.01")[0] == 0
    assert run(capsys, monkeypatch, Echo(extra_id=True), *arguments)[0] == 1
    assert run(capsys, monkeypatch, Echo(), *arguments, "--min-cosine", "int8=0.9999999")[0] == 1


@needs_program
def test_odd_inputs(tmp_path, capsys, monkeypatch):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "-dash\n.png").write_bytes(Path(PICTURES[0]).read_bytes())
    (tmp_path / "texts").write_bytes("\ufeffzwei Hunde\r\n\r\n犬\n".encode())
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, monkeypatch, Echo(), "--image=-dash\n.png", "-i", "broken.png", "--text", "a\nb",
                           "--text", "", "--texts", "texts", "-f", "json", "--precisions", "f32")
    report = json.loads(out)
    assert status == 1 and err.count("broken.png") == 1 and len(report["beyond"]) == 1
    assert [e["input"] for e in report["inputs"]] == ["-dash\n.png", "broken.png", "a\nb", "", "zwei Hunde", "犬"]
    assert all(row["worst_difference"] == 0 for row in report["summary"])


@needs_program
def test_a_packed_file_has_one_precision(tmp_path, capsys, monkeypatch):
    packed = str(tmp_path / "a.clipc")
    subprocess.run([PROGRAM, "pack", "-m", MODEL, "--precision", "int8", "-o", packed], check=True, capture_output=True)
    status, out, _ = run(capsys, monkeypatch, Echo(), "--clipc-model", packed, "-i", PICTURES[1], "-f", "json")
    report = json.loads(out)
    assert status == 0 and [row["precision"] for row in report["summary"]] == ["int8"]
    assert 1e-5 < report["summary"][0]["worst_difference"] < 0.1


@needs_program
def test_what_cannot_be_compared(tmp_path, capsys, monkeypatch):
    assert "nothing to compare" in run(capsys, monkeypatch, Echo())[2]
    assert "no pictures in this folder" in run(capsys, monkeypatch, Echo(), "-i", tmp_path)[2]
    status, out, err = run(capsys, monkeypatch, Echo(), "--clipc-model", tmp_path / "none", "--text", "a")
    assert (status, out) == (2, "") and err.startswith("clipc: ") and "none" in err
    status, _, err = run(capsys, monkeypatch, Echo(), "--text", "a", "--program", tmp_path / "none")
    assert status == 2 and "cannot be run" in err
    (tmp_path / "other").write_text("#!/bin/sh\necho surprise\n")
    (tmp_path / "other").chmod(0o755)
    with pytest.raises(Failed, match="something else"):
        Clipc(str(tmp_path / "other"), MODEL).embed(texts=["a"])
    (tmp_path / "killed").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "killed").chmod(0o755)
    with pytest.raises(Failed, match="signal 9"):
        Clipc(str(tmp_path / "killed"), MODEL).ids(["a"])


# ---------------------------------------------------------------- references, pictures

def test_missing_libraries_are_named(capsys, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    for library, packages in references.NEEDED.items():
        with pytest.raises(references.Missing, match=f"--with {library} needs torch: .*pip install {packages}"):
            references.make(library, MODEL)


def test_the_reference_is_what_the_folder_is(tmp_path):
    assert references.choose(MODEL) == "transformers"
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert references.choose(str(tmp_path)) == "open_clip"
    (tmp_path / "config.json").write_text("{}")
    assert references.choose(str(tmp_path)) == "transformers"


def test_ids_end_with_the_end_token():
    assert references.cut([1, 5, 2, 0, 0], 2) == [1, 5, 2]
    assert references.cut([1, 5, 9], 2) == [1, 5, 9] == references.cut([1, 5, 9], None)


def test_a_plot_needs_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Failed, match="--plot needs matplotlib"):
        compare.load_matplotlib()


def test_a_plot_is_two_files(tmp_path):
    pytest.importorskip("matplotlib")
    inputs = [entry("a", 1e-7, pixel_difference=0.0), entry("b", INFINITY, pixel_difference=INFINITY),
              entry("c", 0.0, kind="text", ids_equal=True), {"kind": "text", "input": "d", "error": "broken"}]
    report = {"clipc": "1", "reference": "echo", "thresholds": {"f32": 1e-5}, "inputs": inputs}
    compare.plot(compare.load_matplotlib(), report, str(tmp_path / "difference"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["difference.png", "difference.svg"]
    assert (tmp_path / "difference.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "difference.svg").read_text()
    compare.plot(compare.load_matplotlib(), {**report, "inputs": []}, str(tmp_path / "none"))


def test_help_says_what_there_is_not():
    run = subprocess.run([sys.executable, str(TOOLS / "compare.py"), "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "python compare.py -m ../models/tiny" in run.stdout
    assert "no vectors from inside its towers" in " ".join(run.stdout.split())
