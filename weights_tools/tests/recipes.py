"""tests/goldens/convert/: a recipe back to the files that the real libraries wrote (tests/goldens/make_convert.py)."""
import base64
import functools
import hashlib
import json
import lzma
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDENS = ROOT / "tests" / "goldens" / "convert"
CODES = {"F32": "<f4", "F16": "<f2"}


def hash_bytes(name, n):
    h = 0x811C9DC5
    for byte in name.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B9) ^ np.uint32(h)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x >> np.uint32(24)).astype(np.int32)


@functools.lru_cache(maxsize=4)
def numbers(name, shape):
    """The synthetic weights of the goldens, as tests/goldens/make_models.py says them."""
    if shape in ((), (1,)):
        return np.full(shape, -161 / 16 if name.endswith("logit_bias") else 85 / 32, dtype=np.float32)
    n = int(np.prod(shape, dtype=np.int64))
    b = hash_bytes(name, n)
    if len(shape) == 1:
        values = 1 + (b // 4 - 32) / 128 if name.endswith(".weight") else (2 * b - 255) / 2048
    else:
        e = 0
        while n and 4 ** (e + 1) <= n // shape[0]:
            e += 1
        values = (2 * b - 255) / (256 << e)
    return values.astype(np.float32).reshape(shape)


def golden(kind):
    return json.loads((GOLDENS / kind / "golden.json").read_text(encoding="utf-8"))


def unpack(kind, folder):
    """Writes the files of a kind; their bytes are those that the library wrote."""
    file = digest = wanted = None
    for text in lzma.decompress((GOLDENS / kind / "recipe.xz").read_bytes()).decode().splitlines():
        line = json.loads(text)
        if "file" in line:
            if file:
                finish(file, digest, wanted)
            file, digest, wanted = open(folder / line["file"], "wb"), hashlib.sha256(), line["sha256"]
            continue
        if "literal" in line:
            raw = base64.b64decode(line["literal"])
        else:
            values = numbers(line["tensor"], tuple(line["shape"]))
            raw = values.transpose(line.get("order", range(values.ndim))).astype(CODES[line["dtype"]]).tobytes()
        file.write(raw)
        digest.update(raw)
    finish(file, digest, wanted)


def finish(file, digest, wanted):
    file.close()
    assert digest.hexdigest() == wanted, f"{file.name} is not what the library wrote"
