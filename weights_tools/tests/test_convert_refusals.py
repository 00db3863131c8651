"""What convert.py refuses: pickles that would run something (and the proof that nothing ran), networks that are not
CLIP's ViT, files that are damaged, cut off or contradict each other. Always a sentence, never a folder."""
import copyreg
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOOLS), str(TOOLS / "tests")]
import checkpoints
import convert
import recipes

EVENTS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen",
          "socket.connect", "shutil.rmtree", "builtins.input"}
heard, listening = [], [False]


def _hook(event, arguments):
    if listening[0] and event in EVENTS:
        heard.append((event, arguments))


sys.addaudithook(_hook)


@pytest.fixture
def refused(tmp_path, capsys):
    """refused(sentence part, arguments): converting is refused with it, in one line, and leaves nothing."""
    def check(sentence, *arguments, status=2):
        before = sorted(os.listdir(tmp_path))
        assert convert.main([*map(str, arguments), "-o", str(tmp_path / "out"), "--tokenizer", "none"]) == status
        error = capsys.readouterr().err
        assert error.startswith("convert.py: ") and error.count("\n") == 1
        assert sentence in error
        assert sorted(os.listdir(tmp_path)) == before
    return check


def views(arrays):
    return {k: checkpoints.view(v) for k, v in arrays.items()}


# ---------------------------------------------------------------- pickles that would run something

class Runs:
    def __init__(self, what, *arguments):
        self.what, self.arguments = what, arguments

    def __reduce__(self):
        return self.what, self.arguments


def evil(marker):
    """Name -> pickle: each would make the file, in another way that pickle has of calling something."""
    marker = str(marker)
    touch, plain = f"touch '{marker}'", f"touch '{marker}'".encode()
    code = f"open({marker!r}, 'w')"
    text = b"X" + struct.pack("<I", len(plain)) + plain
    out = {f"reduce, protocol {n}": pickle.dumps(Runs(os.system, touch), n) for n in range(6)}
    out.update({f"eval, protocol {n}": pickle.dumps(Runs(eval, code), n) for n in range(6)})
    out.update({
        "exec": pickle.dumps(Runs(exec, code), 2),
        "getattr": b"cbuiltins\ngetattr\ncos\nsystem\nX\x01\x00\x00\x00a\x86R.",
        "import": pickle.dumps(Runs(__import__, "os"), 4),
        "INST": b"(S'touch \"" + marker.encode() + b"\"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "NEWOBJ": b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85}\x92.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "STACK_GLOBAL, by the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93" + text + b"\x85R.",
        "a name with dots": b"\x80\x04\x8c\x08builtins\x8c\x10dict.__class__.x\x93" + text + b"\x85R.",
        "subprocess": b"csubprocess\nPopen\n" + text + b"\x85R.",
        "below torch": b"ctorch.serialization\nload\n" + text + b"\x85R.",
        "torch's hub": b"ctorch.hub\nload\n" + text + b"\x85R.",
        "numpy": b"cnumpy.testing._private.utils\nrunstring\n" + text + b"}\x86R.",
        "pydoc": b"cpydoc\npipepager\n" + text + text + b"\x86R.",
        "runpy": b"crunpy\n_run_code\n" + text + b"\x85R.",
        "a list's item": pickle.dumps([1, {"a": (Runs(os.system, touch),)}], 2),
        "a dictionary's key": pickle.dumps({Runs(os.system, touch): 1}, 2),
        "thrown away": b"cos\nsystem\n" + text + b"\x85R0}.",
        "before a tensor": b"\x80\x02}(X\x01\x00\x00\x00acos\nsystem\n" + text + b"\x85Ru.",
    })
    return out


CASES = list(evil(Path("marker")))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("container", ["zip", "torchscript", "legacy", "bare", "bin"])
def test_a_malicious_pickle_runs_nothing(case, container, tmp_path, refused):
    marker = tmp_path.parent / f"{tmp_path.name}.ran"
    data = evil(marker)[case]
    path = tmp_path / ("pytorch_model.bin" if container == "bin" else "in.pt")
    if container == "legacy":
        checkpoints.save_legacy(path, {}, pickle_bytes=data)
    elif container == "bare":
        path.write_bytes(data)
    else:
        more = {"constants.pkl": b"\x80\x02).", "code/__torch__.py": f"open({str(marker)!r}, 'w')"}
        checkpoints.save_zip(path, None, pickle_bytes=data, **(more if container == "torchscript" else {}))
    heard.clear()
    listening[0] = True
    try:
        if container == "bare" and data[:1] not in b"\x80(c}]":
            refused("", path)
        else:
            refused("refused: its pickle names ", path)
    finally:
        listening[0] = False
    assert heard == [] and not marker.exists()


def test_the_cases_would_run(tmp_path):
    """Python's own reader does run them: the test above is not an empty one."""
    marker = tmp_path / "ran"
    for case, data in evil(marker).items():
        if case.startswith(("reduce", "eval", "exec", "INST", "OBJ", "STACK", "a list's", "thrown")):
            try:
                pickle.loads(data)
            except TypeError:
                pass
            assert marker.exists(), case
            marker.unlink()


def test_codes_of_the_extension_registry(tmp_path, refused):
    copyreg.add_extension("os", "system", 240)
    try:
        marker = tmp_path.parent / "extension.ran"
        for protocol, code in ((2, b"\x82\xf0"), (2, b"\x83\xf0\x00"), (2, b"\x84\xf0\x00\x00\x00")):
            data = b"\x80" + bytes([protocol]) + code + b"X\x01\x00\x00\x00a\x85R."
            checkpoints.save_zip(tmp_path / "in.pt", None, pickle_bytes=data)
            refused("uses copyreg's extension codes", tmp_path / "in.pt")
        assert not marker.exists()
    finally:
        copyreg.remove_extension("os", "system", 240)


def test_torchscript_names_only_in_its_archives(tmp_path, refused):
    data = b"\x80\x02c__torch__.a\nB\n)\x81}b."
    checkpoints.save_zip(tmp_path / "in.pt", None, pickle_bytes=data)
    refused("its pickle names __torch__.a.B", tmp_path / "in.pt")


def test_a_pickled_model_is_no_state_dict(tmp_path, refused):
    for data, sentence in ((b"copen_clip.model\nCLIP\n)\x81}b.", "its pickle names open_clip.model.CLIP"),
                           (b"ccollections\nCounter\n)R.", "it holds a collections.Counter, not a state_dict"),
                           (b"]K\x01a.", "it holds no dictionary of tensors"), (b"}.", "it holds no tensors by name")):
        checkpoints.save_zip(tmp_path / "in.pt", None, pickle_bytes=data)
        refused(sentence, tmp_path / "in.pt")


@pytest.mark.parametrize("data, sentence", [
    (b"", "the pickle is cut off"), (b"\x80\x09.", "protocol 9"), (b"\xff.", "opcode 0xff is not known"),
    (b"(.", "more or less than one object"), (b"K\x01K\x02.", "more or less than one object"),
    (b".", "more or less than one"),
    (b"R.", "has not the objects"), (b"}(]K\x01u.", "not of the kind"), (b"h\x05.", "has not the objects"),
    (b"I12x\n.", "malformed"), (b"X\xff\xff\xff\x7fabc.", "cut off"), (b"]K\x01K\x02s.", "no dictionary"),
    (b"K\x01K\x02a.", "no list"), (b"t.", "no mark"), (b"K\x01)R.", "no name"), (b"K\x01}b.", "none"),
    (b"I" + b"9" * 5000 + b"\n.", "malformed"), (b"\x8b\xff\xff\xff\xff.", "cut off"), (b"K\x01Q.", "no dictionary")])
def test_broken_pickles(data, sentence, tmp_path, refused):
    checkpoints.save_zip(tmp_path / "in.pt", None, pickle_bytes=data)
    refused(sentence, tmp_path / "in.pt")


# ---------------------------------------------------------------- tensors

@pytest.mark.parametrize("change, sentence", [
    (lambda v: setattr(v, "shape", (64, 65)), "lies outside of its storage"),
    (lambda v: setattr(v, "offset", 1), "lies outside of its storage"),
    (lambda v: setattr(v, "strides", (65, 1)), "lies outside of its storage"),
    (lambda v: setattr(v, "strides", (1 << 62, 1)), "lies outside of its storage"),
    (lambda v: setattr(v, "strides", (-64, 1)), "has a negative size"),
    (lambda v: setattr(v, "shape", (-64, 64)), "has a negative size"),
    (lambda v: setattr(v, "strides", (1,)), "has 2 dimensions and 1 strides"),
    (lambda v: setattr(v, "shape", (64, "64")), "is malformed"),
    (lambda v: setattr(v, "kind", "ComplexFloatStorage"), "is of torch.ComplexFloatStorage, which is not read")])
@pytest.mark.parametrize("save", [checkpoints.save_zip, checkpoints.save_legacy])
def test_tensors_that_lie_wrong(change, sentence, save, tmp_path, refused):
    tree = views(checkpoints.openai_arrays())
    change(tree["visual.transformer.resblocks.0.attn.out_proj.weight"])
    save(tmp_path / "in.pt", tree)
    if save is checkpoints.save_legacy and "Complex" in sentence:
        sentence = "no tensor says of what kind it is"
    refused(sentence, tmp_path / "in.pt")


@pytest.mark.parametrize("name, value, sentence", [
    ("visual.ln_post.bias", np.zeros(63, np.float32), "visual.ln_post.bias has shape [63] where the config needs [64]"),
    ("visual.ln_post.bias", None, "tensor visual.ln_post.bias is missing"),
    ("ln_final.weight", np.zeros(64, np.int64), "tensor ln_final.weight is of I64, not of F32, F16 or BF16"),
    ("visual.proj", None, "tensor visual.proj is missing, so the network cannot be inferred"),
    ("visual.conv1.weight", np.zeros((64, 3, 4), np.float32), "visual.conv1.weight is misshapen"),
    ("visual.positional_embedding", np.zeros((7, 64), np.float32), "has 7 rows: no square of patches"),
    ("visual.conv1.weight", np.zeros((64, 1, 4, 4), np.float32),
     "has shape [64, 1, 4, 4] where the config needs [64, 3, 4, 4]"),
    ("transformer.resblocks.3.ln_1.bias", np.zeros(64, np.float32),
     "tensor transformer.resblocks.1.attn.in_proj_weight is"),
    ("transformer.resblocks.0.ls_1.gamma", np.zeros(64, np.float32), "LayerScale is not supported"),
    ("visual.extra.weight", np.zeros(64, np.float32), "visual.extra.weight is no part of the network"),
    ("visual.layer1.0.conv1.weight", np.zeros(4, np.float32), "ResNet towers are not supported"),
    ("visual.trunk.pos_embed", np.zeros(4, np.float32), "timm towers are not supported"),
    ("visual.attn_pool.query", np.zeros(4, np.float32), "CoCa is not supported"),
    ("vision_model.head.probe", np.zeros(4, np.float32), "SigLIP is not supported"),
    ("text.transformer.embeddings.word.weight", np.zeros(4, np.float32),
     "text towers of other families are not supported"),
    ("text_projection.bias", np.zeros(16, np.float32), "a projection with a bias has no place in a CLIPModel")])
def test_other_networks(name, value, sentence, tmp_path, refused):
    arrays = checkpoints.openai_arrays()
    arrays.pop(name, None)
    if value is not None:
        arrays[name] = value
    checkpoints.save_zip(tmp_path / "in.pt", views(arrays))
    refused(sentence, tmp_path / "in.pt")


def test_files_that_are_no_weights(tmp_path, refused):
    for name, data, sentence in (("in.pt", b"", "the file is empty"), ("in.pt", b"hello", "no file of PyTorch's"),
                                 ("in.safetensors", b"abc", "the header is cut off"),
                                 ("in.onnx", b"", "the file is empty"),
                                 ("in.onnx", b"hello, world", "no ONNX"),
                                 ("in.pt", bytes(257) + b"ustar" + bytes(300), "PyTorch before 0.1.10")):
        (tmp_path / name).write_bytes(data)
        refused(sentence, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "in.pt", "w") as archive:
        archive.writestr("a.txt", "a")
    refused("a zip archive without data.pkl", tmp_path / "in.pt")
    checkpoints.save_zip(tmp_path / "in.pt", views({"something.weight": np.zeros(3, np.float32)}))
    refused("none of the known spellings: there is no tensor", tmp_path / "in.pt")
    refused("no such file or folder", tmp_path / "missing.pt", status=1)
    checkpoints.save_zip(tmp_path / "in.pt", {}, byteorder="big")
    refused("big-endian", tmp_path / "in.pt")


def test_the_activation_must_be_known(tmp_path, refused):
    checkpoints.save_zip(tmp_path / "in.pt", views(checkpoints.openai_arrays(marks=False)))
    refused("say --activation quick_gelu", tmp_path / "in.pt")


def test_duplicates(tmp_path, refused):
    arrays = checkpoints.openai_arrays()
    tree = views(arrays)
    checkpoints.save_zip(tmp_path / "in.pt", {**tree, "visual._orig_mod.proj": tree["visual.proj"]})
    refused("tensor visual.proj comes twice", tmp_path / "in.pt")
    data, storages = checkpoints.pickled({**tree, "visual.proJ": tree["visual.proj"]})
    data = data.replace(b"visual.proJ", b"visual.proj")
    checkpoints.save_zip(tmp_path / "in.pt", None, pickle_bytes=data, storages=storages)
    refused("tensor visual.proj comes twice", tmp_path / "in.pt")
    with pytest.warns(UserWarning):
        with zipfile.ZipFile(tmp_path / "in.pt", "a") as archive:
            archive.writestr("archive/data/0", b"again")
    refused("archive/data/0 comes twice in the archive", tmp_path / "in.pt")
    entry = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f'{{"a": {entry}, "a": {entry}}}'.encode()
    checkpoints.save_safetensors(tmp_path / "in.safetensors", {"a": np.zeros(1, np.float32)}, header)
    refused("tensor a comes twice", tmp_path / "in.safetensors")


@pytest.mark.parametrize("header, sentence", [
    ({"a": ["F32", [2], 0, 8], "b": ["F32", [1], 4, 8]}, "tensors overlap, or there is a hole"),
    ({"a": ["F32", [1], 0, 4], "b": ["F32", [0], 8, 8]}, "tensors overlap, or there is a hole"),
    ({"a": ["F32", [1], 4, 8]}, "tensors overlap, or there is a hole"),
    ({"a": ["F32", [1], 0, 4]}, "bytes behind the last"),
    ({"a": ["F32", [3], 0, 12]}, "tensor a ends behind the file"), ({"a": ["F32", [1], 8, 4]}, "tensor a ends behind"),
    ({"a": ["F32", [1], 0, 8]}, "tensor a of shape [1] has 8 bytes"),
    ({"a": ["F32", [-1], 0, 8]}, "tensor a is malformed"),
    ({"a": [["F32"], [1], 0, 8]}, "tensor a is malformed"), ({"a": [None, [1], 0, 8]}, "tensor a is malformed"),
    ({"a": ["F32", 1, 0, 8]}, "tensor a is malformed"), ({"a": ["F32", [1], 0, None]}, "tensor a is malformed"),
    ([1], "the header is no JSON object"), ("x", "the header is no JSON object")])
def test_headers_of_safetensors(header, sentence, tmp_path, refused):
    if isinstance(header, dict):
        header = {k: {"dtype": d, "shape": s, "data_offsets": [b, e]} for k, (d, s, b, e) in header.items()}
    checkpoints.save_safetensors(tmp_path / "in.safetensors", {"a": np.zeros(2, np.float32)},
                                 json.dumps(header).encode())
    refused(sentence, tmp_path / "in.safetensors")


# ---------------------------------------------------------------- shards

def write_shards(folder):
    arrays = checkpoints.hf_arrays(checkpoints.openai_arrays())
    files = [f"pytorch_model-{i + 1:05d}-of-00002.bin" for i in range(2)]
    names = sorted(arrays)
    parts = [{k: arrays[k] for k in names[i::2]} for i in range(2)]
    for file, part in zip(files, parts):
        checkpoints.save_zip(folder / file, views(part))
    weight_map = {k: files[i] for i in range(2) for k in parts[i]}
    (folder / "config.json").write_text(json.dumps(checkpoints.hf_config()))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return files, parts, weight_map


def test_mixed_shards(tmp_path, refused):
    files, parts, weight_map = write_shards(tmp_path)
    index = tmp_path / "pytorch_model.bin.index.json"

    def say(weights):
        index.write_text(json.dumps({"weight_map": weights}))

    refused("one shard of several: name the folder, or pytorch_model.bin.index.json", tmp_path / files[0])
    some = sorted(parts[0])[0]
    say({**weight_map, some: files[1]})
    refused(f"the index lists tensor {some} here, but it is not there", tmp_path)
    say({**weight_map, some: "pytorch_model-00001-of-00003.bin"})
    refused("mixed shards: it lists files of 00002 and 00003", tmp_path)
    say({**weight_map, some: "model-00001-of-00002.safetensors"})
    refused("mixed shards: it lists files of .bin and .safetensors", tmp_path)
    for name in ("../x.bin", "/etc/passwd", "", 3, "a\\b.bin"):
        say({**weight_map, some: name})
        refused("a shard must be a plain file name", tmp_path)
    index.write_text("{}")
    refused("weight_map is missing", tmp_path)
    index.write_text('{"weight_map": {}}')
    refused("weight_map is empty", tmp_path)
    index.write_text('{"weight_map": {"a": "x.bin", "a": "y.bin"}}')
    refused("tensor a comes twice", tmp_path)
    say(weight_map)
    checkpoints.save_zip(tmp_path / files[1], views({**parts[1], some: parts[0][some]}))
    refused(f"tensor {some} comes twice", tmp_path)
    (tmp_path / files[1]).unlink()
    refused("the index lists this shard, but it is not there", tmp_path)
    index.unlink()
    refused("has shards, but no index of them", tmp_path)


def test_targets(tmp_path, refused, monkeypatch, capsys):
    checkpoints.save_zip(tmp_path / "in.pt", views(checkpoints.openai_arrays()))
    monkeypatch.chdir(tmp_path)
    for target, status, sentence in (("", 2, "--out: the folder needs a name"), (".", 2, ".: is already there"),
                                     ("in.pt", 2, "in.pt: is already there"), ("in.pt/out", 1, "no such folder"),
                                     ("no/out", 1, "no such folder")):
        assert convert.main(["in.pt", "--out", target, "--tokenizer", "none"]) == status
        assert sentence in capsys.readouterr().err
        assert os.listdir() == ["in.pt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_the_last_line_has_no_room(tmp_path):
    checkpoints.save_zip(tmp_path / "in.pt", views(checkpoints.openai_arrays()))
    command = [sys.executable, str(TOOLS / "convert.py"), "in.pt", "-o", "out", "--tokenizer", "none"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "convert.py: standard output: No space left on device\n"
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_dtype_that_nobody_knows(tmp_path, refused):
    arrays = checkpoints.hf_arrays(checkpoints.openai_arrays())
    (tmp_path / "config.json").write_text(json.dumps(checkpoints.hf_config()))
    path = tmp_path / "model.safetensors"
    checkpoints.save_safetensors(path, {**arrays, "spare": np.zeros(3, np.float32)})
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    for name, dtype in (("spare", "F8_E4M3"), ("logit_scale", "F99")):
        header = json.loads(data[8:8 + n])
        header[name]["dtype"] = dtype
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n:])
        if name == "spare":  # nobody needs it
            assert convert.main([str(tmp_path), "-o", str(tmp_path / "out"), "--tokenizer", "none", "-q"]) == 0
            shutil.rmtree(tmp_path / "out")
        else:
            refused(f"model.safetensors: tensor {name} is of {dtype}, not of F32, F16 or BF16", tmp_path)


def test_folders(tmp_path, refused):
    refused("has no weights that are known", tmp_path)
    for name in ("a.pt", "b.pt"):
        checkpoints.save_zip(tmp_path / name, {})
    refused("has several checkpoints (a.pt, b.pt): name one of them", tmp_path)
    refused("two inputs may be the two towers in ONNX, and nothing else", tmp_path / "a.pt", tmp_path / "b.pt")


# ---------------------------------------------------------------- configurations

@pytest.mark.parametrize("config, sentence", [
    (None, "has no config.json beside it"), ({"model_type": "siglip"}, "model_type is siglip: not one of clip,"),
    ({"model_type": "chinese_clip"}, "model_type is chinese_clip"), ([], "no JSON object"),
    (checkpoints.hf_config(quantization_config={"bits": 8}), "quantised checkpoints are not supported"),
    (checkpoints.hf_config(projection_dim=24), "has shape [16, 64] where the config needs [24, 64]"),
    (checkpoints.hf_config(text_config_dict={}), "where the config needs [49408, 512]"),
    (checkpoints.hf_config(vision_config={"hidden_size": "64"}), "the vision tower's width is 64: out of range"),
    (checkpoints.hf_config(vision_config={"hidden_act": "relu"}), "hidden_act is relu: not one of"),
    (checkpoints.hf_config(vision_config={"num_attention_heads": 7}), "is not a multiple of its 7 heads"),
    (checkpoints.hf_config(vision_config={"num_hidden_layers": -1}), "layers is -1: out of range")])
def test_config_of_hugging_face(config, sentence, tmp_path, refused):
    checkpoints.save_zip(tmp_path / "pytorch_model.bin", views(checkpoints.hf_arrays(checkpoints.openai_arrays())))
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    refused(sentence, tmp_path)


@pytest.mark.parametrize("config, sentence", [
    (checkpoints.open_clip_config(vision={"timm_model_name": "vit"}), "timm towers are not supported"),
    (checkpoints.open_clip_config(vision={"layers": [3, 4, 6, 3]}), "ResNet towers are not supported"),
    (checkpoints.open_clip_config(text={"hf_model_name": "xlm"}), "text towers of other families are not supported"),
    (checkpoints.open_clip_config(multimodal_cfg={"a": 1}), "CoCa is not supported"),
    (checkpoints.open_clip_config(vision={"no_ln_pre": True}), "no_ln_pre is True: not supported"),
    (checkpoints.open_clip_config(vision={"pool_type": "avg"}), "pool_type is avg: not supported"),
    (checkpoints.open_clip_config(text={"pool_type": "last"}), "pool_type is last: not supported"),
    (checkpoints.open_clip_config(text={"no_causal_mask": True}), "no_causal_mask is True: not supported"),
    (checkpoints.open_clip_config(text={"pool_type": "eos"}), "eos_id is 2: a CLIPModel takes that for the largest id"),
    (checkpoints.open_clip_config(vision={"image_size": [8, 16]}), "only square ones have a place"),
    (checkpoints.open_clip_config(vision={"width": "64"}), "a field is not of the type that it should have"),
    (checkpoints.open_clip_config(vision={"head_width": 0}), "a field is not of the type that it should have"),
    (checkpoints.open_clip_config(new_key=3), "model_cfg.new_key is 3: not supported"),
    (checkpoints.open_clip_config(preprocess={"resize_mode": "longest"}), "resize_mode is longest"),
    ({"model_cfg": {}}, "embed_dim is missing"),
    (checkpoints.hf_config(), "Hugging Face's config, but the tensors have")])
def test_config_of_open_clip(config, sentence, tmp_path, refused):
    checkpoints.save_safetensors(tmp_path / "open_clip_model.safetensors", checkpoints.openai_arrays(marks=False))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    refused(sentence, tmp_path)


# ---------------------------------------------------------------- damage

def containers(folder):
    arrays = checkpoints.openai_arrays()
    checkpoints.save_zip(folder / "zip.pt", views(arrays))
    checkpoints.save_legacy(folder / "legacy.pt", views(arrays))
    checkpoints.save_safetensors(folder / "file.safetensors", arrays)
    (folder / "onnx").mkdir()
    recipes.unpack("onnx-plain", folder / "onnx")
    (folder / "onnx" / "model.onnx").rename(folder / "graph.onnx")
    (folder / "onnx").rmdir()


def test_cut_off_at_any_place(tmp_path, capsys):
    containers(tmp_path)
    rng = random.Random(1)
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        cut = tmp_path / ("cut" + path.suffix)
        for n in sorted({*range(0, 200, 9), *(rng.randrange(len(data)) for _ in range(30)), len(data) - 1}):
            cut.write_bytes(data[:n])
            assert convert.main([str(cut), "-o", str(tmp_path / "out"), "--tokenizer", "none"]) == 2, (path.name, n)
            assert capsys.readouterr().err.count("\n") == 1
        cut.unlink()
    assert len(list(tmp_path.iterdir())) == 4


def test_wrong_bytes_anywhere(tmp_path, capsys):
    """A sentence or a folder, whatever single bytes are wrong; CLIPC_SEED chooses which."""
    seed = int(os.environ.get("CLIPC_SEED", "1"))
    print("CLIPC_SEED", seed)
    containers(tmp_path)
    rng = random.Random(seed)
    for path in sorted(tmp_path.iterdir()):
        data = bytearray(path.read_bytes())
        size = 40000 if path.suffix == ".onnx" else len(data)
        hot = [at for at in (*range(0, min(6000, size)), *range(max(0, size - 6000), size))]
        broken = tmp_path / ("broken" + path.suffix)
        for _ in range(15 if path.suffix == ".onnx" else 60):
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.choice(hot)] = rng.randrange(256)
            broken.write_bytes(changed)
            status = convert.main([str(broken), "-o", str(tmp_path / "out"), "--tokenizer", "none", "-q"])
            error = capsys.readouterr().err
            assert status in (0, 1, 2) and error.count("\n") == (status != 0)
            assert (tmp_path / "out").exists() == (status == 0)
            if status == 0:
                for file in (tmp_path / "out").iterdir():
                    file.unlink()
                (tmp_path / "out").rmdir()
        broken.unlink()
    assert len(list(tmp_path.iterdir())) == 4


def test_damage_within_a_tensor_is_seen(tmp_path, refused):
    checkpoints.save_zip(tmp_path / "in.pt", views(checkpoints.openai_arrays()))
    data = bytearray((tmp_path / "in.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "in.pt").write_bytes(data)
    refused("the archive is damaged", tmp_path / "in.pt")
