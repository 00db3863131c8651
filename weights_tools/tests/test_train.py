"""train.py without torch: options, checkpoints and their refusals, batches, curves, counting, the model's folder."""
import csv
import gzip
import io
import json
import pickle
import random
import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))
import drawer
import train
from clipc_program import Failed
from clipc_train import checkpoint, curves, data, folder, measure, readme, recipe

TINY = TOOLS.parent / "models" / "tiny"
SETTINGS = {"--seed": 1, "--loss": "softmax", "--merges": "abc", "stages": [[1, 2.5]]}
STAGE = recipe.Stage("both", steps=4, horizon=4, batch=20, lr=1e-3, seed="test", exchanged=0.5)


@pytest.fixture(scope="module")
def merges(tmp_path_factory):
    """Enough merges for the tokeniser: those of the bundled model."""
    path = tmp_path_factory.mktemp("merges") / "merges with spaces.txt"
    path.write_bytes((TINY / "merges.txt").read_bytes())
    return path


@pytest.fixture(scope="module")
def drawn():
    progress = types.SimpleNamespace(step=lambda n=1: None)
    kinds = ((data.pool_picture, 60), (data.pair_of_pictures, 12))
    return [data.draw_all(draw, n, 1, 2, progress) for draw, n in kinds]


# ---------------------------------------------------------------- the command

def run(*arguments):
    return train.main([str(a) for a in arguments])


@pytest.mark.parametrize("arguments,said", [
    ([], "--out"), (["--out", "x"], "training needs --merges"), (["--out", "x", "--evaluate", "--resume"], "exclude"),
    (["--out", "x", "--loss", "triplet"], "triplet"),
    (["--out", "x", "--pool", "999"], "999 is no whole number from 1000"),
    (["--out", "x", "--every", "0"], "0 is no whole number from 1"), (["--out", "x", "--threads", "two"], "two is no"),
])
def test_usage(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2 and said in capsys.readouterr().err


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("train.py: ") and err.count("\n") == 1
    return err


def test_refusals_name_the_file(merges, tmp_path, capsys):
    out = tmp_path / "new"
    assert f"{tmp_path / 'none.gz'}: No such file" in refused(capsys, "--merges", tmp_path / "none.gz", "--out", out)
    assert "is there already" in refused(capsys, "--merges", merges, "--out", tmp_path)
    assert "there is no checkpoint" in refused(capsys, "--merges", merges, "--out", out, "--resume")
    assert "has no model.safetensors" in refused(capsys, "--evaluate", "--out", out)
    assert "--clipc nowhere: there is no" in refused(capsys, "--evaluate", "--out", TINY, "--clipc", "nowhere")
    (tmp_path / "new.training").mkdir()
    (tmp_path / "new.training" / "checkpoint.npz").write_bytes(b"")
    assert "--resume goes on with it" in refused(capsys, "--merges", merges, "--out", out)
    assert "is damaged" in refused(capsys, "--merges", merges, "--out", out, "--resume")
    assert not out.exists()


@pytest.mark.parametrize("content,said", [
    (b"", "has no 2558 different merges"), (b"#version: 0.2\ni n\n", "line 3 is no merge"),
    (b"#version: 0.2\n" + b"i n\n" * 3000, "has no 2558 different merges"),
    (b"\xff\xfe" * 50, "is not UTF-8"), (gzip.compress(b"i n\n" * 3000), "is not UTF-8"),
])
def test_merges_are_checked(content, said, tmp_path, capsys):
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    assert said in refused(capsys, "--merges", path, "--out", tmp_path / "new")


@pytest.mark.parametrize("damage", [lambda b: b[:len(b) // 2], lambda b: b"\0" + b[1:],
                                    lambda b: b[:60] + b"\xff" * 40 + b[100:]])
def test_damaged_gzip(damage, merges, tmp_path, capsys):
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(damage(gzip.compress(merges.read_bytes())))
    assert "damaged gzip" in refused(capsys, "--merges", path, "--out", tmp_path / "new")


def test_without_torch_a_sentence_says_what_is_missing(merges, tmp_path):
    code = ("import sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv.pop(1)); import train; "
            "sys.exit(train.main(sys.argv[1:]))")
    run = subprocess.run([sys.executable, "-c", code, str(TOOLS), "--merges", str(merges), "--out",
                          str(tmp_path / "new")], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("train.py: needs torch") and not (tmp_path / "new").exists()


def test_help_has_an_example():
    run = subprocess.run([sys.executable, str(TOOLS / "train.py"), "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "--pool 4000 --shorten 20" in run.stdout and "the bias" in run.stdout


# ---------------------------------------------------------------- checkpoints

def kept(path):
    arrays = {"model/a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "optimiser/0/step": np.float32(3)}
    checkpoint.save(path, SETTINGS, {"stage": 1, "rows": [{"loss": 1 / 3}]}, arrays)
    return arrays


def test_a_checkpoint_comes_back_to_the_bit(tmp_path):
    arrays = kept(tmp_path / "c.npz")
    settings, progress, back = checkpoint.load(tmp_path / "c.npz")
    assert settings == SETTINGS and progress == {"stage": 1, "rows": [{"loss": 1 / 3}]} and set(back) == set(arrays)
    for name, value in arrays.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize("change,said", [
    ({"--loss": "sigmoid"}, "is of a training with --loss softmax, not sigmoid"),
    ({"--seed": 2}, "with --seed 1, not 2"), ({"--merges": "x"}, "another file of --merges"),
    ({"stages": [[1, 2.25]]}, "its stages is not that"), ({"new": 1}, "its new is not that"),
])
def test_a_checkpoint_of_another_training_is_refused(change, said, tmp_path):
    with pytest.raises(Failed, match=said):
        checkpoint.check_settings(tmp_path / "c.npz", SETTINGS, {**SETTINGS, **change})
    checkpoint.check_settings(tmp_path / "c.npz", SETTINGS, {**SETTINGS, "stages": ((1, 2.5),)})


def test_resuming_with_another_option_is_refused(merges, tmp_path, capsys):
    arguments = ["--merges", str(merges), "--out", str(tmp_path / "new")]
    args = train.parser().parse_args(arguments)
    (tmp_path / "new.training").mkdir()
    checkpoint.save(tmp_path / "new.training" / "checkpoint.npz", recipe.settings(args), {}, {})
    assert "--loss softmax, not sigmoid" in refused(capsys, *arguments, "--resume", "--loss", "sigmoid")
    assert "--pool 100000, not 5000" in refused(capsys, *arguments, "--resume", "--pool", "5000")


def test_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.npz"
    kept(path)
    whole, rng = path.read_bytes(), random.Random(5)
    for cut in [0, 1, 30, *(rng.randrange(len(whole)) for _ in range(30))]:
        path.write_bytes(whole[:cut])
        with pytest.raises(Failed, match="c.npz: is damaged"):
            checkpoint.load(path)
    n_refused = 0
    for _ in range(300):  # one wrong byte: refused, or it was one that says nothing
        i = rng.randrange(len(whole))
        path.write_bytes(whole[:i] + bytes([whole[i] ^ rng.randrange(1, 256)]) + whole[i + 1:])
        try:
            assert checkpoint.load(path)[2]["model/a.weight"].tobytes() == np.arange(6, dtype=np.float32).tobytes()
        except Failed:
            n_refused += 1
    assert n_refused > 150


class Bomb:
    def __reduce__(self):
        return (open, (str(Bomb.target), "w"))


def test_no_pickle_is_run(tmp_path):
    Bomb.target = tmp_path / "ran"
    inner = io.BytesIO()
    np.lib.format.write_array(inner, np.array([Bomb()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as file:
        file.writestr("about.npy", inner.getvalue())
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("c.npz", "p.npz"):
        with pytest.raises(Failed, match="is damaged or no checkpoint"):
            checkpoint.load(tmp_path / name)
    assert not Bomb.target.exists()


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path):
    path = tmp_path / "c.npz"
    kept(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        with checkpoint.appearing(path) as part:
            part.write_bytes(b"half")
            raise RuntimeError
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["c.npz"]


# ---------------------------------------------------------------- the recipe and the batches

def test_learning_rate_warms_up_and_falls():
    stage = recipe.Stage("s", steps=100, horizon=100, batch=1, lr=1e-2, seed="")
    rates = [recipe.learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-2 / 11, rel=1e-3) and max(rates) == rates[10] < 1e-2
    assert rates[10:] == sorted(rates[10:], reverse=True) and 1e-4 < rates[-1] < 2e-4


def test_shortened_stages_keep_a_step():
    assert [s.steps for s in recipe.stages()] == [s.steps for s in recipe.STAGES]
    assert all(s.steps >= 1 and s.horizon >= s.steps for n in (1, 7, 20, 10**6) for s in recipe.stages(n))


def same(a, b):
    return (a.pixels == b.pixels).all() and a.texts == b.texts and (a.also_true == b.also_true).all()


def test_batches_go_on_from_a_kept_place(drawn):
    one, other = (data.Batches(STAGE, 1, *drawn) for _ in range(2))
    for _ in range(5):
        one.next()
    place = json.loads(json.dumps(one.place()))
    following = [one.next() for _ in range(8)]  # past a new shuffle of both
    other.go_to(place)
    assert all(same(batch, other.next()) for batch in following)
    assert not same(following[0], data.Batches(replace(STAGE, seed="other"), 1, *drawn).next())


def test_drawing_does_not_depend_on_the_processes(drawn):
    progress = types.SimpleNamespace(step=lambda n=1: None)
    concepts, pixels = data.draw_all(data.pair_of_pictures, 12, 1, 1, progress)
    assert concepts == drawn[1][0] and (pixels == drawn[1][1]).all()


def test_pairs_are_the_same_shapes_exchanged(drawn):
    concepts, pixels = drawn[1]
    for first, second, a, b in zip(concepts[::2], concepts[1::2], pixels[::2], pixels[1::2]):
        assert drawer.exchanged(first) == second != first and (a != b).any()
        assert not drawer.is_held_out(first) and not drawer.is_held_out(second)


def test_a_batch_marks_what_else_is_true(drawn):
    batch = data.Batches(STAGE, 1, *drawn).next()
    assert batch.pixels.shape == (20, 60, 60, 3) and len(batch.texts) == 40 and batch.also_true.shape == (20, 40)
    assert not batch.also_true.diagonal().any()
    red, any_red = drawer.Concept("shape", "circle", "red"), drawer.Concept("shape", "circle")
    blue = replace(red, colour="blue")
    above = drawer.Concept("relation", "circle", "red", place="above", what2="star", colour2="blue")
    assert data.true_of([red, any_red, above], [red, blue, above, drawer.exchanged(above)]).tolist() == [
        [True, True, False], [False, True, False], [False, False, True], [False, False, False]]


# ---------------------------------------------------------------- curves

def rows_of(n=40):
    rng, rows = random.Random(3), []
    for step in range(1, n + 1):
        rows.append({"step": step, "stage": "high" if step <= n // 2 else "low", "learning_rate": 1e-3 / step,
                     "loss": 3 / step + rng.random() / 5})
        if step % 10 == 0:
            rows[-1].update({name: step / n for name in curves.MEASURED})
    return rows


def test_the_csv_has_every_step(tmp_path):
    curves.write_csv(tmp_path / "curves.csv", rows_of())
    with open(tmp_path / "curves.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 40 and tuple(table[0]) == curves.COLUMNS
    assert table[8]["held_out"] == "" and table[9]["held_out"] == "0.25" == table[9]["glyph"]
    assert float(table[4]["loss"]) == pytest.approx(rows_of()[4]["loss"], rel=1e-5) and table[4]["stage"] == "high"


def test_smoothing():
    assert curves.smoothed([]) == [] and curves.smoothed([2.0] * 9) == pytest.approx([2.0] * 9)
    assert curves.smoothed([0.0, 1.0], share=0.5) == pytest.approx([0, 2 / 3])


def test_the_picture_is_the_same_for_the_same_rows(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws the curves")
    pyplot = curves.load_pyplot()
    for name in "ab":
        (tmp_path / name).mkdir()
        curves.write(tmp_path / name, rows_of(), "title", pyplot)
    for kind in ("csv", "png", "svg"):
        assert (tmp_path / "a" / f"curves.{kind}").read_bytes() == (tmp_path / "b" / f"curves.{kind}").read_bytes()
    assert (tmp_path / "a" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "a" / "curves.svg").read_text()
    curves.write(tmp_path / "a", rows_of(3), "nothing measured yet", pyplot)


def test_without_matplotlib_the_csv_is_written(tmp_path):
    curves.write(tmp_path, rows_of(), "title", None)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]


# ---------------------------------------------------------------- counting, and the folder

def oracle(examination, wrong_order=False, wrong_held_out=0, wrong_turned=False):
    """A model that knows: every concept has a direction of its own."""
    def embed(pixels, texts):
        n, pairs, per = len(examination.concepts), len(examination.pairs), examination.per_caption
        basis = np.eye(n + 2 * pairs, dtype=np.float32)
        said, changed = basis[n:n + pairs], basis[n + pairs:]
        pictures = [*np.repeat(basis[:n], per, 0), *(changed if wrong_order else said)]
        for i in range(wrong_held_out):
            pictures[i * per] = basis[(i + 1) % n]
        assert len(pixels) == len(pictures) and len(texts) == n + 4 * pairs
        turned = (changed, said) if wrong_turned else (said, changed)
        return np.array(pictures), np.concatenate([basis[:n], said, changed, *turned])
    return embed


def test_counting():
    examination = measure.Examination(1, 2, n_order=30)
    found = examination.measure(oracle(examination))
    assert (found.held_out, found.order, found.turned) == (1, 1, 1) and set(found.by_category.values()) == {1}
    assert (found.n_pictures, found.n_captions) == (128, 64)
    found = examination.measure(oracle(examination, wrong_turned=True))
    assert (found.held_out, found.order, found.turned) == (1, 1, 0)
    found = examination.measure(oracle(examination, True, 14))  # the first picture of each of the 14 shapes
    assert (found.order, found.turned) == (0, 0) and found.held_out == pytest.approx(114 / 128)
    assert found.by_category["shape"] == 0.5 and found.by_category["count"] == 1
    assert set(found.row()) == set(curves.MEASURED)
    assert not {drawer.caption(c) for c in examination.pairs} & set(examination.texts[:64])
    assert all(" below " in t or " to the right of " in t for t in examination.texts[64 + 60:])


def test_the_readme_states_what_was_measured(tmp_path):
    args = train.parser().parse_args(["--out", "x", "--loss", "sigmoid", "--pool", "5000"])
    examination = measure.Examination(1, 1, n_order=10)
    good, bad = (examination.measure(oracle(examination, *wrong)) for wrong in ((), (True, 14)))
    ranks = {t: [(1, 0.5), (2, 0.25)] for t in train.TEMPLATES}
    readme.write(tmp_path, args, good, {"f32": good, "int8": bad}, ranks, 12.4, -9.5)
    text = (tmp_path / "README.md").read_text()
    assert "| torch | clipc, f32 | clipc, int8 |" in text and "| held-out, shape | 100.0 % | 100.0 % | 0.0 % |" in text
    assert "| order, above and left of | 100.0 % | 100.0 % | 0.0 % |" in text and "bias,\n-9.500," in text
    assert "--out tiny --loss sigmoid --pool 5000\n" in text
    assert "1 of 2 right at rank 1, lowest probability 0.25" in text
    assert "{" not in text.replace("`{}`", "").replace("`a photo of a {}`", "")
    readme.write(tmp_path, args, good, {}, ranks, 12.4, None)
    assert "Not measured" in (tmp_path / "README.md").read_text()


def test_the_bundled_models_small_files_are_this_recipes(merges, tmp_path):
    folder.write_all(folder.read_merges(merges), tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
                 "preprocessor_config.json", "labels.txt"):
        assert (tmp_path / name).read_bytes() == (TINY / name).read_bytes(), name
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {p.name for p in (TINY / "pictures").iterdir()}


def test_files_written_elsewhere_are_taken_from_a_gzip(merges, tmp_path):
    path = tmp_path / "m.txt.gz"
    path.write_bytes(gzip.compress(merges.read_bytes()))
    assert folder.read_merges(path) == folder.read_merges(merges)
