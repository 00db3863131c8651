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
import compare_layers
import compare_plots
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

    def __init__(self, model=MODEL, error=0.0, pixel_error=0.0, extra_id=False, layer_error=0.0, n_left_out=0):
        self.clipc = Clipc(PROGRAM, model)
        self.error, self.pixel_error, self.extra_id = error, pixel_error, extra_id
        self.layer_error, self.n_left_out = layer_error, n_left_out

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

    def _layers(self, **inputs):
        seen = []
        self.clipc.layers(lambda which, layers: seen.append(layers.copy()), **inputs)
        seen[0][2] *= 1 + self.layer_error
        return seen[0][self.n_left_out:]

    def layers_image(self, path):
        return self._layers(paths=[path])

    def layers_text(self, text):
        return np.pad(self._layers(texts=[text]), ((0, 0), (0, 3), (0, 0)), constant_values=9)  # as pads behind it


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


def test_layers_apart():
    theirs = np.array([[3.0, 4.0], [0.0, 5.0]])
    assert compare_layers.of_layer(theirs, theirs) == {"difference": 0, "relative": 0, "cosine": 1}
    assert compare_layers.of_layer(theirs * 1.5, theirs) == {"difference": 2.5, "relative": 0.5, "cosine": 1}
    assert compare_layers.of_layer([[3, 4], [5, 0]], theirs) == {"difference": 5, "relative": 1, "cosine": 0}
    assert compare_layers.of_layer([[3, 4], [0, 0]], theirs)["cosine"] == 0
    zero = np.zeros((2, 2))
    assert compare_layers.of_layer(zero, zero) == {"difference": 0, "relative": 0, "cosine": 1}
    assert compare_layers.of_layer(theirs, zero)["relative"] == INFINITY
    assert compare_layers.of_layer(theirs * np.nan, theirs) == \
        {"difference": INFINITY, "relative": INFINITY, "cosine": -1} == compare_layers.of_layer(theirs, theirs + INFINITY)


def test_layers_of_an_input():
    ours = np.arange(1, 13, dtype=np.float32).reshape(3, 2, 2)
    behind = np.concatenate([ours, ours], axis=1)
    assert [layer["difference"] for layer in compare_layers.of_input(ours, behind)] == [0, 0, 0]
    behind[1, 1, 0] += 0.5
    assert [layer["difference"] for layer in compare_layers.of_input(ours, behind)] == [0, 0.5, 0]
    assert compare_layers.of_input(ours, ours[:2]) is None
    assert compare_layers.of_input(ours, ours[:, :1]) is None
    assert compare_layers.of_input(ours, ours[:, :, :1]) is None


def test_which_inputs_are_looked_at():
    inputs = [entry("a", 0), {"kind": "image", "input": "b", "error": "broken"}, entry("c", 0), entry("d", 0),
              entry("t", 0, kind="text", ids_equal=False), entry("u", 0, kind="text", ids_equal=True)]
    assert [e["input"] for e in compare_layers.choose(inputs, 2)] == ["a", "c", "u"]
    assert compare_layers.choose(inputs, 0) == []


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

    def layers(self, look, paths, texts, options, progress):
        self.asked.append((options[1], list(paths), list(texts)))
        for which, what in enumerate([*paths, *texts]):
            step = {"f32": 0.0, "int8": 0.25}[options[1]] * (1 + (what == "b"))
            look(which, None if what == "late" else np.full((1 if what == "short" else 2, 3, 2), 1 + step))

    def layers_image(self, path):
        return None if path == "timm" else np.ones((2, 3, 2))

    def layers_text(self, text):
        return np.ones((2, 5, 2))


def test_measuring_layers():
    both = MadeUp()
    inputs = [entry(name, 0) for name in ("a", "timm", "b", "short", "late")] + [entry("t", 0, kind="text")]
    compare_layers.measure(both, both, inputs, ["f32", "int8"], 8)
    assert both.asked == [(p, ["a", "b", "short", "late"], ["t"]) for p in ("f32", "int8")]
    a, timm, b, short, late, text = inputs
    assert a["layers"]["int8"] == [pytest.approx({"difference": 0.25, "relative": 0.25, "cosine": 1})] * 2
    assert "layers" not in timm and "layers_error" not in timm
    assert short["layers_error"] == "clipc has layers of [1, 3, 2], made up of [2, 3, 2]"
    assert late["layers_error"] == "clipc shows no layers"
    assert len(compare.judge(inputs, 1e-5, 1e-6, {})) == 2
    rows = compare_layers.summary(inputs, ["f32", "int8"])
    assert [(row["kind"], row["precision"], row["layer"], row["n"]) for row in rows] == \
        [(kind, p, layer, n) for kind, n in (("image", 2), ("text", 1)) for p in ("f32", "int8") for layer in (0, 1)]
    assert [row["worst_relative"] for row in rows] == [0, 0, 0.5, 0.5, 0, 0, 0.25, 0.25]
    lines = compare_layers.as_lines(rows)
    assert len(lines) == 8 and lines[0].startswith("image layers, worst of 2:")
    assert lines[3].split() == ["1", "0", "0", "1.0000000", "0.5", "0.5", "1.0000000"]
    assert compare_layers.as_lines([]) == []


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
def test_layers_show_and_do_not_count(capsys, monkeypatch):
    arguments = ("-i", Path(PICTURES[0]).parent, "--text", "a", "--text", "a red circle", "-f", "json")
    status, out, err = run(capsys, monkeypatch, Echo(layer_error=0.5), *arguments, "--layers", "2")
    report = json.loads(out)
    assert (status, err) == (0, "") and report["within"]
    for row in report["layers"]:
        assert row["n"] == 2
        if row["precision"] == "f32":
            assert row["worst_relative"] == (pytest.approx(1 / 3) if row["layer"] == 2 else 0)
        elif (row["kind"], row["layer"]) == ("text", 0):
            assert row["worst_relative"] == 0  # the token embedding is f32
        elif row["layer"] != 2:
            assert 1e-5 < row["worst_relative"] < 0.1 and row["worst_cosine"] > 0.99
    assert {(row["kind"], row["precision"]) for row in report["layers"]} == \
        {(kind, p) for kind in ("image", "text") for p in compare.PRECISIONS}
    assert sum("layers" in e for e in report["inputs"]) == 4
    status, out, _ = run(capsys, monkeypatch, Echo(n_left_out=1), "-i", PICTURES[0])
    assert status == 1 and out.count("layers not compared: clipc has layers of [") == 1
    status, out, _ = run(capsys, monkeypatch, Echo(n_left_out=1), "-i", PICTURES[0], "--layers", "0")
    assert status == 0 and "layers, worst" not in out and "layers not" not in out


@needs_program
def test_layers_of_the_program(tmp_path, capfd):
    seen = []
    (tmp_path / "broken.png").write_bytes(b"no picture")
    status = Clipc(PROGRAM, MODEL).layers(lambda which, layers: seen.append((which, layers)),
                                          [PICTURES[0], str(tmp_path / "broken.png")], ["a\nb"])
    assert status == 1 and [which for which, _ in seen] == [0, 1, 2] and seen[1][1] is None
    assert seen[0][1].shape[0] > 1 and seen[0][1].ndim == 3 and seen[0][1].dtype == np.float32
    assert np.isfinite(seen[2][1]).all() and "broken.png" in capfd.readouterr().err
    with pytest.raises(Failed, match="nothing to look at"):
        Clipc(PROGRAM, MODEL).layers(print)


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


@pytest.mark.parametrize("tool", ("compare", "convert", "train", "zero_shot"))
def test_without_numpy_a_sentence_says_so(tool):
    code = f"import sys; sys.modules['numpy'] = None; sys.path.insert(0, {str(TOOLS)!r}); import {tool}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith(f"{tool}.py: needs numpy: ")


def test_the_reference_is_what_the_folder_is(tmp_path):
    assert references.choose(MODEL) == "transformers"
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert references.choose(str(tmp_path)) == "open_clip"
    (tmp_path / "config.json").write_text("{}")
    assert references.choose(str(tmp_path)) == "transformers"


def test_ids_end_with_the_end_token():
    assert references.cut([1, 5, 2, 0, 0], 2) == [1, 5, 2]
    assert references.cut([1, 5, 9], 2) == [1, 5, 9] == references.cut([1, 5, 9], None)


def test_hooks_on_blocks():
    torch = pytest.importorskip("torch")
    reference = references.OpenClip.__new__(references.OpenClip)
    reference.torch = torch

    class Block(torch.nn.Module):
        def forward(self, x, attn_mask=None):
            return x + 1

    class Tower(torch.nn.Module):
        def __init__(self, batch_first):
            super().__init__()
            self.transformer = torch.nn.Module()
            self.transformer.batch_first, self.transformer.resblocks = batch_first, torch.nn.ModuleList([Block(), Block()])

    for batch_first in (True, False):
        tower = Tower(batch_first)
        x = torch.arange(6.0).reshape(1, 3, 2)
        x = x if batch_first else x.transpose(0, 1)
        blocks = tower.transformer.resblocks
        for _ in range(2):  # no hook is left behind
            layers = reference._layers(tower, lambda: blocks[1](blocks[0](x, attn_mask=None), attn_mask=None))
            assert (layers == np.arange(6.0).reshape(3, 2) + np.arange(3).reshape(3, 1, 1)).all()
    assert reference._layers(torch.nn.Module(), None) is None


def test_a_plot_needs_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Failed, match="--plot needs matplotlib"):
        compare_plots.load()


def test_a_plot_is_two_files(tmp_path):
    pytest.importorskip("matplotlib")
    inputs = [entry("a", 1e-7, pixel_difference=0.0), entry("b", INFINITY, pixel_difference=INFINITY),
              entry("c", 0.0, kind="text", ids_equal=True), {"kind": "text", "input": "d", "error": "broken"}]
    report = {"clipc": "1", "reference": "echo", "thresholds": {"f32": 1e-5}, "inputs": inputs}
    compare_plots.by_input(compare_plots.load(), report, str(tmp_path / "difference"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["difference.png", "difference.svg"]
    assert (tmp_path / "difference.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "difference.svg").read_text()
    compare_plots.by_input(compare_plots.load(), {**report, "inputs": []}, str(tmp_path / "none"))


def test_a_plot_by_layer(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"kind": kind, "precision": precision, "layer": layer, "n": 2, "worst_relative": relative}
            for kind, n_layers in (("image", 4), ("text", 3)) for precision, relative in
            (("f32", 0.0), ("bf16", 1e-3), ("int8", INFINITY)) for layer in range(n_layers)]
    report = {"clipc": "1", "reference": "echo", "layers": rows}
    for name, shown in (("both", rows), ("one", rows[:5]), ("equal", rows[:1])):
        compare_plots.by_layer(compare_plots.load(), {**report, "layers": shown}, str(tmp_path / name))
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "both.svg").read_text()
    assert "image tower" in svg and "text tower" in svg and "int8" in svg
    assert "text tower" not in (tmp_path / "one.svg").read_text()
    assert len(list(tmp_path.iterdir())) == 6


@needs_program
def test_the_plots_of_a_run(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    assert run(capsys, monkeypatch, Echo(), "--text", "a", "--plot", tmp_path / "d")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d-layers.png", "d-layers.svg", "d.png", "d.svg"]


def test_help():
    run = subprocess.run([sys.executable, str(TOOLS / "compare.py"), "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "python compare.py -m ../models/tiny" in run.stdout
    assert "layer by layer (shown, not judged)" in " ".join(run.stdout.split())
