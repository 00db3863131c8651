"""Which files a checkpoint consists of. In: what the user named, a file or a folder. Out: a Checkpoint, its tensors by
name and the files that lie beside them."""
import json
import os
import re

from .errors import Failed, Refused
from .onnx_file import read_onnx
from .safetensors_file import read_index, read_safetensors
from .torch_file import read_torch

HF = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
             "open_clip_pytorch_model.pt", "open_clip_model.pt")
ONNX = ("model.onnx", "onnx/model.onnx")
ONNX_PAIRS = (("vision_model.onnx", "text_model.onnx"), ("onnx/vision_model.onnx", "onnx/text_model.onnx"),
              ("visual.onnx", "textual.onnx"), ("visual/model.onnx", "textual/model.onnx"))
ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".onnx")
MAX_CONFIG = 64 << 20


class Checkpoint:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder  # what sentences name, and where the files beside it lie
        self.tensors, self.graphs = {}, []

    def beside(self, name):
        path = os.path.join(self.folder, name)
        return path if os.path.isfile(path) else None


def read_json(path):
    try:
        if os.path.getsize(path) > MAX_CONFIG:
            raise Refused(f"{path}: above the limit of {MAX_CONFIG >> 20} MB")
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None
    except (ValueError, RecursionError):
        raise Refused(f"{path}: no JSON") from None


def find(path):
    """The files to read: one, or the index of several, or two of ONNX."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise Failed(f"{path}: no such file or folder")
        shard = re.fullmatch(r"(.+)-\d{5}-of-\d{5}(\.bin|\.safetensors)", os.path.basename(path))
        if shard:
            raise Refused(f"{path}: one shard of several: name the folder, or {shard[1]}{shard[2]}.index.json")
        return [path]
    has_open_clip = os.path.isfile(os.path.join(path, "open_clip_config.json"))
    for name in (*OPEN_CLIP, *HF, *ONNX) if has_open_clip else (*HF, *OPEN_CLIP, *ONNX):
        if os.path.isfile(os.path.join(path, name)):
            return [os.path.join(path, name)]
    for pair in ONNX_PAIRS:
        if all(os.path.isfile(os.path.join(path, name)) for name in pair):
            return [os.path.join(path, name) for name in pair]
    try:
        found = sorted(name for name in os.listdir(path) if name.lower().endswith(ENDINGS))
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None
    if any(re.search(r"-\d{5}-of-\d{5}\.", name) for name in found):
        raise Refused(f"{path}: has shards, but no index of them (pytorch_model.bin.index.json)")
    if len(found) != 1:
        raise Refused(f"{path}: has no weights that are known" if not found else
                      f"{path}: has several checkpoints ({', '.join(found[:5])}): name one of them")
    return [os.path.join(path, found[0])]


def _read_one(path, ema):
    name = path.lower()
    if name.endswith(".safetensors"):
        return read_safetensors(path)
    if name.endswith(".onnx"):
        raise Refused(f"{path}: an ONNX file among shards")
    return read_torch(path, ema)[0]


def _read_shards(index, ema):
    folder, tensors, by_shard = os.path.dirname(index), {}, {}
    for tensor, shard in read_index(index).items():
        by_shard.setdefault(shard, []).append(tensor)
    seen = {}
    for shard, names in sorted(by_shard.items()):
        path = os.path.join(folder, shard)
        if not os.path.isfile(path):
            raise Refused(f"{path}: the index lists this shard, but it is not there")
        held = _read_one(path, ema)
        for name in held:
            if name in seen:
                raise Refused(f"{path}: tensor {name} comes twice: {seen[name]} has it too")
            seen[name] = shard
        for name in names:
            if name not in held:
                raise Refused(f"{path}: the index lists tensor {name} here, but it is not there")
            tensors[name] = held[name]
    return tensors


def open_checkpoint(paths, ema):
    files = [file for path in paths for file in find(path)]
    first = files[0]
    folder = paths[0] if os.path.isdir(paths[0]) else os.path.dirname(first) or "."
    checkpoint = Checkpoint(first, folder)
    if any(file.lower().endswith(".onnx") for file in files):
        if len(files) > 2 or not all(file.lower().endswith(".onnx") for file in files):
            raise Refused(f"{first}: two inputs may be the two towers in ONNX, and nothing else")
        checkpoint.graphs = [read_onnx(file) for file in files]
        return checkpoint
    if len(files) > 1:
        raise Refused(f"{files[1]}: two inputs may be the two towers in ONNX, and nothing else")
    checkpoint.tensors = _read_shards(first, ema) if first.endswith(".index.json") else _read_one(first, ema)
    return checkpoint
