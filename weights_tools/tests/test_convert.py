"""convert.py end to end: every kind of checkpoint that the real libraries write, to the reference's embeddings; what it
writes, in which precision, with how much memory; and that nothing half-written is left."""
import argparse
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOOLS), str(TOOLS / "tests")]
import checkpoints
import convert
import recipes
from clipc_convert import folder as folder_module
from clipc_convert import network, tensors
from clipc_convert.tensors import narrowed, widened

PROGRAM = os.environ.get("CLIPC_PROGRAM") or str(recipes.ROOT / "build" / "clipc")


def run(*arguments):
    return convert.main([str(a) for a in arguments])


def check_nothing_left(folder, *but):
    assert sorted(p.name for p in folder.iterdir()) == sorted(but)


@pytest.fixture
def openai(tmp_path):
    """An OpenAI state_dict as a file, and its arrays."""
    arrays = checkpoints.openai_arrays()
    checkpoints.save_zip(tmp_path / "in.pt", {k: checkpoints.view(v) for k, v in arrays.items()})
    return tmp_path / "in.pt", arrays


# ---------------------------------------------------------------- against the references

@pytest.mark.parametrize("kind", sorted(p.name for p in recipes.GOLDENS.iterdir()))
def test_embeddings_equal_the_references(kind, tmp_path):
    if not os.access(PROGRAM, os.X_OK):
        pytest.skip(f"{PROGRAM} is not built")
    source, out, golden = tmp_path / "in", tmp_path / "out", recipes.golden(kind)
    source.mkdir()
    recipes.unpack(kind, source)
    assert run(*[source / name for name in golden["input"]], *golden.get("arguments", []), "-o", out, "-q") == 0
    command = [PROGRAM, "embed", "-m", str(out), "--reference", golden["reference"]]
    for picture in golden["picture_inputs"]:
        command += ["--image", str(recipes.ROOT / picture)]
    for text in golden["text_inputs"]:
        command += ["--text", text]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    got = np.array([json.loads(line)["embedding"] for line in lines])
    assert np.abs(got - np.array(golden["images"] + golden["texts"])).max() < 1e-5
    scale = checkpoints.read_folder(out)[0]["logit_scale"]
    assert scale == pytest.approx(np.log(14.25) if "--logit-scale" in golden.get("arguments", []) else 85 / 32,
                                  rel=1e-6)


def test_hugging_faces_library_reads_what_is_written(openai, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none", "-q") == 0
    theirs = safetensors.load_file(tmp_path / "out" / "model.safetensors")
    ours = checkpoints.read_folder(tmp_path / "out")[0]
    assert theirs.keys() == ours.keys() and all(np.array_equal(theirs[k], ours[k]) for k in ours)


# ---------------------------------------------------------------- what is written

def test_names_and_numbers(openai, tmp_path):
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none") == 0
    got, dtypes = checkpoints.read_folder(tmp_path / "out")
    want = checkpoints.hf_arrays(openai[1])
    assert dtypes == {"F32"} and got.keys() == want.keys()
    for name, array in want.items():
        assert np.array_equal(got[name], array), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["projection_dim"] == 16 and config["torch_dtype"] == "float32"
    assert config["text_config"] | {"vocab_size": 50, "max_position_embeddings": 8, "num_attention_heads": 1,
                                    "hidden_act": "quick_gelu", "eos_token_id": 49} == config["text_config"]
    vision = config["vision_config"]
    assert vision | {"image_size": 8, "patch_size": 4, "intermediate_size": 96} == vision


@pytest.mark.parametrize("wrap", [
    lambda t: t, lambda t: OrderedDict(t), lambda t: {"state_dict": t},
    lambda t: {"model": t, "optimizer": {"state": {}}},
    lambda t: {"epoch": 3, "state_dict": {"module." + k: v for k, v in t.items()}, "args": None},
    lambda t: {"module": {"_orig_mod." + k: v for k, v in t.items()}},
    lambda t: {"model_state_dict": {"module._orig_mod." + k: v for k, v in t.items()}},
    lambda t: {"state_dict": {("visual._orig_mod." + k[7:] if k[:7] == "visual." else k): v for k, v in t.items()}},
    lambda t: {"state_dict": t, "best": np.float64(0.5), "top": np.arange(3),
               "args": argparse.Namespace(lr=1, names={"a"})},
    lambda t: {"state_dict_ema": t, "epoch": 1},
    lambda t: {"model": {"state_dict": {"model." + k: v for k, v in t.items()}}}])
@pytest.mark.parametrize("save", [checkpoints.save_zip, checkpoints.save_legacy])
def test_wrappers_of_training(wrap, save, tmp_path):
    arrays = checkpoints.openai_arrays(marks=False)
    tree = {k: checkpoints.View(v.reshape(-1), v.shape, parameter=True) for k, v in arrays.items()}
    save(tmp_path / "in.pt", wrap(tree))
    assert run(tmp_path / "in.pt", "-o", tmp_path / "out", "--tokenizer", "none", "--activation", "gelu", "-q") == 0
    got, want = checkpoints.read_folder(tmp_path / "out")[0], checkpoints.hf_arrays(arrays)
    assert got.keys() == want.keys() and all(np.array_equal(got[k], want[k]) for k in want)


def test_averaged_weights_on_demand(tmp_path, capsys):
    one, two = checkpoints.openai_arrays(1), checkpoints.openai_arrays(2)
    tree = [{k: checkpoints.view(v) for k, v in arrays.items()} for arrays in (one, two)]
    checkpoints.save_zip(tmp_path / "in.pt", {"state_dict": tree[0], "state_dict_ema": tree[1]})
    for option, arrays in (([], one), (["--ema"], two)):
        assert run(tmp_path / "in.pt", "-o", tmp_path / ("out" + "".join(option)), "--tokenizer", "none", "-q",
                   *option) == 0
        got = checkpoints.read_folder(tmp_path / ("out" + "".join(option)))[0]
        assert np.array_equal(got["visual_projection.weight"], arrays["visual.proj"].T)
    checkpoints.save_zip(tmp_path / "plain.pt", {"state_dict": tree[0]})
    assert run(tmp_path / "plain.pt", "-o", tmp_path / "no", "--ema") == 2
    assert "has no averaged weights" in capsys.readouterr().err


def test_tensors_that_are_views(tmp_path):
    """One flat storage for all, a transposed one, one with gaps, a scalar within another."""
    arrays = checkpoints.openai_arrays()
    floats = {k: v for k, v in arrays.items() if v.dtype == np.float32}
    flat, tree, at = np.concatenate([v.reshape(-1) for v in floats.values()]), {}, 0
    for name, array in floats.items():
        tree[name] = checkpoints.View(flat, array.shape, offset=at)
        at += array.size
    for name in ("visual.proj", "transformer.resblocks.0.mlp.c_fc.weight"):
        n, m = arrays[name].shape
        tree[name] = checkpoints.View(np.ascontiguousarray(arrays[name].T).reshape(-1), (n, m), (1, n))
    gaps = np.zeros((64, 7), np.float32)
    gaps[:, 3] = arrays["ln_final.weight"]
    tree["ln_final.weight"] = checkpoints.View(gaps.reshape(-1), (64,), (7,), offset=3)
    tree["logit_scale"] = checkpoints.View(np.array([1, 2.5], np.float64), (), offset=1)
    tree.update({k: checkpoints.view(v) for k, v in arrays.items() if v.dtype != np.float32})
    checkpoints.save_zip(tmp_path / "in.pt", tree)
    assert run(tmp_path / "in.pt", "-o", tmp_path / "out", "--tokenizer", "none", "-q") == 0
    got, want = checkpoints.read_folder(tmp_path / "out")[0], checkpoints.hf_arrays(arrays)
    assert got.keys() == want.keys() and all(np.array_equal(got[k], want[k]) for k in want)


@pytest.mark.parametrize("dtype, code", [("f16", np.float16), ("bf16", None)])
def test_half_precision(dtype, code, openai, tmp_path):
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none", "--dtype", dtype, "-q") == 0
    got, dtypes = checkpoints.read_folder(tmp_path / "out")
    assert dtypes == {dtype.upper()}
    for name, array in checkpoints.hf_arrays(openai[1]).items():
        if code:
            assert np.array_equal(got[name], array.astype(code).astype(np.float32))
        else:
            assert np.abs(got[name] - array).max() <= np.abs(array).max() / 256
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == \
        {"f16": "float16", "bf16": "bfloat16"}[dtype]


@pytest.mark.parametrize("name, vision, text", [
    ("B/32", (768, 12, 32, 7, 12), (512, 12, 8)), ("L/14", (1024, 24, 14, 16, 16), (768, 12, 12)),
    ("H/14", (1280, 32, 14, 16, 16), (1024, 24, 16)), ("g/14", (1408, 40, 14, 16, 16), (1024, 24, 16)),
    ("bigG/14", (1664, 48, 14, 16, 16), (1280, 32, 20))])
def test_heads_of_the_published_networks(name, vision, text):
    """H, g and bigG have heads that are not of 64."""
    def shaped(*shape):
        return tensors.Tensor(None, "F32", shape)

    width, layers, patch, grid, heads = vision
    held = {"visual.conv1.weight": shaped(width, 3, patch, patch), "visual.proj": shaped(width, 512),
            "visual.positional_embedding": shaped(grid * grid + 1, width), "positional_embedding": shaped(77, text[0]),
            "token_embedding.weight": shaped(49408, text[0])}
    for prefix, n, w in (("visual.", layers, width), ("", text[1], text[0])):
        for i in range(n):
            held[f"{prefix}transformer.resblocks.{i}.mlp.c_fc.weight"] = shaped(4 * w, w)
    found = network.network_of_shapes(held, "gelu", None, "x")
    assert (found.vision.layers, found.vision.heads, found.vision.image) == (layers, heads, patch * grid)
    assert (found.text.layers, found.text.heads, found.text.context) == (text[1], text[2], 77)


def test_rounding_to_bf16():
    """To nearest, ties to even; infinities and NaNs stay what they are."""
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F800000, 0xFF800000, 0x7FC00000,
                     0x7F800001, 0x00000001, 0x80000000], np.uint32)
    out = np.frombuffer(narrowed(bits.view(np.float32), "BF16"), "<u2")
    assert out.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x3F80, 0x7F80, 0xFF80, 0x7FC0, 0x7FC0, 0x0000, 0x8000]
    assert np.array_equal(widened(out.tobytes(), "BF16")[:7].view(np.uint32) >> 16, out[:7])
    assert narrowed(np.array([3.4e38], np.float32), "BF16") is None
    assert narrowed(np.array([7e4], np.float32), "F16") is None
    assert narrowed(np.array([1e300]), "F32") is None


def test_a_number_that_f16_cannot_hold_is_refused(tmp_path, capsys):
    arrays = checkpoints.openai_arrays()
    arrays["ln_final.bias"][5] = 1e6
    checkpoints.save_zip(tmp_path / "in.pt", {k: checkpoints.view(v) for k, v in arrays.items()})
    assert run(tmp_path / "in.pt", "-o", tmp_path / "out", "--tokenizer", "none", "--dtype", "f16") == 2
    assert "text_model.final_layer_norm.bias has numbers that F16 cannot hold" in capsys.readouterr().err
    check_nothing_left(tmp_path, "in.pt")


def test_shards_and_their_index(openai, tmp_path):
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none", "--max-shard-size", "60kB", "-q") == 0
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    got = checkpoints.read_folder(tmp_path / "out")[0]
    assert index["weight_map"].keys() == got.keys() and len(set(index["weight_map"].values())) > 2
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in got.values())
    assert run(tmp_path / "out", "-o", tmp_path / "again", "--tokenizer", "none", "-q") == 0
    again = checkpoints.read_folder(tmp_path / "again")[0]
    assert all(np.array_equal(again[k], got[k]) for k in got)


def test_one_tower_of_hugging_face(tmp_path):
    arrays = {k: v for k, v in checkpoints.hf_arrays(checkpoints.openai_arrays()).items()
              if k.startswith("vision_model.")}
    config = {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"], "dtype": "float16",
              **checkpoints.hf_config()["vision_config"]}
    bare = {k.removeprefix("vision_model."): v for k, v in arrays.items()}
    for name, held in (("prefixed", arrays), ("bare", bare)):
        (tmp_path / name).mkdir()
        views = {k: checkpoints.view(v) for k, v in held.items()}
        checkpoints.save_zip(tmp_path / name / "pytorch_model.bin", views)
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        assert run(tmp_path / name, "-o", tmp_path / (name + ".out"), "-q") == 0
        assert checkpoints.read_folder(tmp_path / (name + ".out"))[0].keys() == held.keys()
        written = json.loads((tmp_path / (name + ".out") / "config.json").read_text())
        assert written == {**config, "dtype": "float32"}
        assert not (tmp_path / (name + ".out") / "vocab.json").exists()


def test_preprocessing_of_open_clip(tmp_path):
    arrays = checkpoints.openai_arrays(marks=False)
    checkpoints.save_safetensors(tmp_path / "open_clip_model.safetensors", arrays)
    config = checkpoints.open_clip_config(preprocess={"mean": 0.5, "std": [1, 2, 3], "resize_mode": "squash",
                                                      "interpolation": "bilinear", "fill_color": 0})
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert run(tmp_path, "-o", tmp_path / "out", "--tokenizer", "none", "-q") == 0
    processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 8, "width": 8} and processor["do_center_crop"] is False
    assert processor["resample"] == 2 and processor["image_mean"] == [0.5] * 3 and processor["image_std"] == [1, 2, 3]
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["vision_config"]["num_attention_heads"] == 2 and written["vision_config"]["hidden_act"] == "gelu"


def test_tokenizer_files(openai, tmp_path, capsys):
    """Copied where they are; CLIP's own for its vocabulary alone."""
    assert run(openai[0], "-o", tmp_path / "out") == 2
    assert "vocabulary has 50 words and CLIP's has 49408" in capsys.readouterr().err
    words = tmp_path / "words"
    words.mkdir()
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", words) == 2
    (words / "vocab.json").write_text("{}")
    (words / "merges.txt").write_text("#version: 0.2\n")
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", words, "-q") == 0
    assert (tmp_path / "out" / "merges.txt").read_text() == "#version: 0.2\n"


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0 and "python convert.py ViT-B-32.pt -o vit-b-32" in capsys.readouterr().out


# ---------------------------------------------------------------- whole or not at all

def test_spaces_and_letters_of_other_scripts(openai, tmp_path):
    source = tmp_path / "ein Ordner \u00fc" / "\u6a21\u578b ViT.pt"
    source.parent.mkdir()
    shutil.copy(openai[0], source)
    out = tmp_path / "\u0432\u044b\u0432\u043e\u0434 1"
    assert run(source, "-o", out, "--tokenizer", "none", "-q") == 0
    assert (out / "model.safetensors").exists()


def test_a_folder_that_is_there_stays(openai, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none", "-q") == 0  # empty: taken
    before = sorted(os.listdir(tmp_path / "out"))
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none") == 2
    assert "is already there" in capsys.readouterr().err and sorted(os.listdir(tmp_path / "out")) == before


def test_disk_full_is_said_before(openai, tmp_path, capsys, monkeypatch):
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda path: usage)
    assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none") == 1
    assert "not enough space" in capsys.readouterr().err
    check_nothing_left(tmp_path, "in.pt")


def test_disk_full_midway(openai, tmp_path):
    """A limit on the size of files stands for the disk's: the write fails as it does there."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    arguments = [openai[0], "-o", tmp_path / "out", "--tokenizer", "none"]
    done = subprocess.run([sys.executable, TOOLS / "convert.py", *arguments],
                          capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1 and "out: cannot be written: File too large" in done.stderr
    check_nothing_left(tmp_path, "in.pt")


def test_read_only_target(openai, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(folder_module.os, "mkdir", refuse)
        assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none") == 1
    assert "out: cannot be written: Read-only file system" in capsys.readouterr().err
    assert run(openai[0], "-o", tmp_path / "no" / "out", "--tokenizer", "none") == 1
    assert "no: no such folder" in capsys.readouterr().err
    check_nothing_left(tmp_path, "in.pt")


def start_ending(name, source, out):
    """A conversion that gets the signal with the first bytes of the weights."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(TOOLS)!r})
import convert
sent = []
convert.Progress.__call__ = lambda self, n: sent or sent.append(1) or os.kill(os.getpid(), signal.{name})
sys.exit(convert.main({[str(source), "-o", str(out), "--tokenizer", "none", "-q"]!r}))
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interrupted(name, openai, tmp_path):
    ended = start_ending(name, openai[0], tmp_path / "out")
    assert ended.communicate()[1] == "convert.py: interrupted: nothing was written\n" and ended.returncode == 130
    check_nothing_left(tmp_path, "in.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="needs flock, and to wait for a process that is stopped")
def test_ended_by_force(openai, tmp_path):
    """The next conversion to the place takes the hidden folder over, but not that of one which lives."""
    for _ in range(2):
        assert start_ending("SIGKILL", openai[0], tmp_path / "out").wait() == -9
        check_nothing_left(tmp_path, "in.pt", ".out.0.partial")
    stopped = start_ending("SIGSTOP", openai[0], tmp_path / "out")
    assert os.WIFSTOPPED(os.waitpid(stopped.pid, os.WUNTRACED)[1])
    try:
        assert run(openai[0], "-o", tmp_path / "out", "--tokenizer", "none", "-q") == 0
        check_nothing_left(tmp_path, "in.pt", "out", ".out.0.partial")
        shutil.rmtree(tmp_path / "out")
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert stopped.communicate()[1] == "" and stopped.returncode == 0
    check_nothing_left(tmp_path, "in.pt", "out")


# ---------------------------------------------------------------- memory

def write_zeros_zip(path, tree, pickle_bytes, storages):
    """As save_zip, with storages of which one is large and not in memory."""
    with open(path, "wb") as file:
        entries = [("archive/data.pkl", pickle_bytes, None), ("archive/byteorder", b"little", None)]
        entries += [(f"archive/data/{i}", None, s) for i, s in enumerate(storages)]
        listed, zeros = [], bytes(1 << 20)
        for name, data, storage in entries:
            if data is None:
                size, crc = storage.nbytes, 0
                for _ in range(size >> 20):
                    crc = zlib.crc32(zeros, crc)
                crc = zlib.crc32(zeros[:size & ((1 << 20) - 1)], crc) if storage.strides == (0,) else \
                    zlib.crc32(storage.tobytes())
            else:
                size, crc = len(data), zlib.crc32(data)
            at, head = file.tell(), struct.pack("<5H3I2H", 20, 0, 0, 0, 33, crc, size, size, len(name), 0)
            file.write(b"PK\x03\x04" + head + name.encode())
            if data is not None or storage.strides != (0,):
                file.write(data if data is not None else storage.tobytes())
            else:
                file.truncate(file.tell() + size)
                file.seek(0, 2)
            listed.append((name, crc, size, at))
        first = file.tell()
        for name, crc, size, at in listed:
            file.write(b"PK\x01\x02" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 33, crc, size, size, len(name), 0, 0,
                                                   0, 0,
                                                   0, at) + name.encode())
        file.write(b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, len(listed), len(listed), file.tell() - first, first, 0))


@pytest.mark.skipif(sys.platform != "linux", reason="counts ru_maxrss in kB")
def test_memory(tmp_path):
    """A table of 320 MB does not come into memory: the bound is the largest tensor and 200 MB, here 200 MB alone."""
    rows = 5 << 18
    arrays = checkpoints.openai_arrays()
    tree = {k: checkpoints.view(v) for k, v in arrays.items()}
    large = np.broadcast_to(np.float32(0), (rows * 64,))
    tree["token_embedding.weight"] = checkpoints.View(large, (rows, 64))
    data, storages = checkpoints.pickled(tree)
    write_zeros_zip(tmp_path / "in.pt", tree, data, storages)
    assert (tmp_path / "in.pt").stat().st_size > 320 << 20
    arguments = [str(tmp_path / "in.pt"), "-o", str(tmp_path / "out"), "--tokenizer", "none", "--dtype", "bf16"]
    code = f"""
import resource, sys
sys.path.insert(0, {str(TOOLS)!r})
import convert
status = convert.main({arguments!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) << 10 < 200 << 20
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 160 << 20


def test_numbers_in_blocks_of_any_size(openai, tmp_path, monkeypatch):
    for block in (1 << 22, 5000, 97):
        monkeypatch.setattr(tensors, "BLOCK", block)
        assert run(openai[0], "-o", tmp_path / str(block), "--tokenizer", "none", "-q") == 0
        assert (tmp_path / str(block) / "model.safetensors").read_bytes() == \
            (tmp_path / str(1 << 22) / "model.safetensors").read_bytes()
