"""safetensors: reading the header, and writing tensor by tensor. The format's own library wants all tensors in memory
to write a file, so it is not used here; the tests hold the two against each other."""
import json
import os
import re
import struct

from .errors import Failed, Refused
from .tensors import SIZES, STORED, Bytes, Tensor, file_size, narrowed, numbers

MAX_HEADER = 100_000_000


def _pairs(path):
    def pairs(items):
        out = {}
        for key, value in items:
            if key in out:
                raise Refused(f"{path}: tensor {key} comes twice")
            out[key] = value
        return out
    return pairs


def read_safetensors(path):
    """{name: Tensor}"""
    size = file_size(path)
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            n = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if len(head) < 8 or n > min(MAX_HEADER, size - 8):
                raise Refused(f"{path}: the header is cut off or longer than the file")
            text = file.read(n)
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_pairs(path))
    except (ValueError, RecursionError):
        raise Refused(f"{path}: the header is no JSON") from None
    if not isinstance(header, dict):
        raise Refused(f"{path}: the header is no JSON object")
    header.pop("__metadata__", None)
    tensors, taken = {}, []
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            whole = type(dtype) is str and all(type(i) is int and i >= 0 for i in (*shape, begin, end))
        except (TypeError, KeyError, ValueError):
            whole = False
        if not whole:
            raise Refused(f"{path}: tensor {name} is malformed")
        if not begin <= end <= size - 8 - n:
            raise Refused(f"{path}: tensor {name} ends behind the file: it is cut off")
        taken.append((begin, end))
        if dtype in STORED and end - begin != numbers(shape) * SIZES[dtype]:
            raise Refused(f"{path}: tensor {name} of shape {shape} has {end - begin} bytes")
        tensors[name] = Tensor(Bytes(path, 8 + n + begin, end - begin), dtype, shape)
    at = 0
    for begin, end in sorted(taken):
        if begin != at:
            raise Refused(f"{path}: tensors overlap, or there is a hole between them")
        at = end
    if at != size - 8 - n:
        raise Refused(f"{path}: there are bytes behind the last tensor, or it is cut off")
    return tensors


def read_index(path):
    """The index of shards: {tensor: file name}."""
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file, object_pairs_hook=_pairs(path))
    except (ValueError, RecursionError):
        raise Refused(f"{path}: no JSON") from None
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None
    weights = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict):
        raise Refused(f"{path}: weight_map is missing")
    if not weights:
        raise Refused(f"{path}: weight_map is empty")
    for shard in weights.values():
        if not isinstance(shard, str) or not re.fullmatch(r"[^/\\\0]{1,255}", shard) or ".." in shard or shard == ".":
            raise Refused(f"{path}: a shard must be a plain file name")
    kinds = {os.path.splitext(shard)[1] for shard in weights.values()}
    totals = {match.group(1) for match in (re.search(r"-of-(\d+)\.\w+$", shard) for shard in weights.values()) if match}
    if len(kinds) > 1 or len(totals) > 1:
        raise Refused(f"{path}: mixed shards: it lists files of "
                      f"{' and '.join(sorted(kinds if len(kinds) > 1 else totals))}")
    return weights


# ---------------------------------------------------------------- writing

def plan_shards(tensors, dtype, limit):
    """[[name]]: in order, each file of at most limit bytes, or of one tensor."""
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        n = tensor.size * SIZES[dtype]
        if shards[-1] and size + n > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += n
    return shards


def write_safetensors(path, tensors, dtype, progress):
    """{name: Tensor} to a file in one dtype, a block at a time, and to the disk. progress is told the bytes written."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        n = tensor.size * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            for block in tensor.blocks():
                out = narrowed(block, dtype)
                if out is None:
                    raise Refused(f"{tensor.storage.path}: tensor {name} has numbers that {dtype} cannot hold: choose "
                                  "another --dtype")
                file.write(out)
                progress(len(out))
        file.flush()
        os.fsync(file.fileno())
