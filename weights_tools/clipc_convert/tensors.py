"""A tensor that stays in its file until it is written: where its numbers lie, and how they are to be turned.

Numbers are handed on in blocks, so that converting a tensor needs no second copy of it; only one that is stored neither
row by row nor as the transpose needs to be had whole.
"""
import os

import numpy as np

from .errors import Failed, Refused

BLOCK = 1 << 22  # numbers
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
          "U8": "u1", "BOOL": "u1"}
SIZES = {name: np.dtype(code).itemsize for name, code in STORED.items()}
FLOATS = ("F64", "F32", "F16", "BF16")


def numbers(shape):
    n = 1
    for size in shape:
        n *= size
    return n


class Bytes:
    """A stretch of a file."""

    def __init__(self, path, offset, size):
        self.path, self.offset, self.size = path, offset, size

    def read(self, first, size):
        if first < 0 or size < 0 or first + size > self.size:
            raise Refused(f"{self.path}: a tensor lies outside of its storage")
        out = bytearray(size)
        view, done = memoryview(out), 0
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset + first)
                while done < size:
                    n = file.readinto(view[done:done + (1 << 26)])
                    if not n:
                        raise Refused(f"{self.path}: the file is cut off")
                    done += n
        except OSError as trouble:
            raise Failed(f"{self.path}: cannot be read: {trouble.strerror}") from None
        return out


class Memory:
    """The same of bytes that are there."""

    def __init__(self, data, path):
        self.data, self.path, self.size = data, path, len(data)

    def read(self, first, size):
        if first < 0 or size < 0 or first + size > self.size:
            raise Refused(f"{self.path}: a tensor lies outside of its storage")
        return bytearray(self.data[first:first + size])


def row_strides(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def widened(raw, dtype):
    """Bytes of a float dtype to float32, or float64 for F64."""
    values = np.frombuffer(raw, STORED[dtype])
    if dtype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values if dtype in ("F32", "F64") else values.astype(np.float32)


def narrowed(values, dtype):
    """float32 or float64 to bytes of F32, F16 or BF16, rounded to nearest even; None where a finite one has no
    place."""
    with np.errstate(over="ignore"):
        if dtype == "F32":
            out = values.astype("<f4", copy=False)
            wide = out
        elif dtype == "F16":
            out = wide = values.astype("<f2")
        else:
            bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
            nan = (bits & 0x7FFFFFFF) > 0x7F800000
            rounded = (bits + (0x7FFF + ((bits >> np.uint32(16)) & 1)).astype(np.uint32)) >> np.uint32(16)
            out = np.where(nan, (bits >> np.uint32(16)) | 0x40, rounded).astype("<u2")
            wide = (out.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if np.isinf(wide).any() and (np.isinf(wide) & np.isfinite(values)).any():
        return None
    return out.tobytes()


class Tensor:
    """shape and strides count numbers of dtype from offset on, in a storage that can read(first byte, bytes)."""

    def __init__(self, storage, dtype, shape, strides=None, offset=0, check=None):
        self.storage, self.dtype, self.shape, self.offset = storage, dtype, tuple(shape), offset
        self.strides = row_strides(self.shape) if strides is None else tuple(strides)
        self.check = check  # called before the first number is read: the storage's checksum

    @property
    def size(self):
        return numbers(self.shape)

    def is_float(self):
        return self.dtype in FLOATS

    def _with(self, shape, strides, offset):
        return Tensor(self.storage, self.dtype, shape, strides, offset, self.check)

    def rows(self, first, end):
        return self._with((end - first, *self.shape[1:]), self.strides, self.offset + first * self.strides[0])

    def permuted(self, order):
        return self._with([self.shape[i] for i in order], [self.strides[i] for i in order], self.offset)

    def transposed(self):
        return self.permuted((1, 0))

    def reshaped(self, shape):
        """None where it would need a copy."""
        if numbers(shape) != self.size:
            return None
        return self._with(tuple(shape), None, self.offset) if self._flat() else None

    def _flat(self):
        return all(s == r for s, r, d in zip(self.strides, row_strides(self.shape), self.shape) if d != 1)

    def _read(self, first, n):
        size = SIZES[self.dtype]
        if self.check:
            self.check()
            self.check = None
        return widened(self.storage.read(first * size, n * size), self.dtype)

    def blocks(self):
        """The numbers, row by row, as float32 or float64."""
        n = self.size
        if n == 0:
            return
        if self._flat():
            for first in range(0, n, BLOCK):
                yield self._read(self.offset + first, min(BLOCK, n - first))
            return
        extent = 1 + sum((d - 1) * s for d, s in zip(self.shape, self.strides))
        values = self._read(self.offset, extent)
        step = values.itemsize
        view = np.lib.stride_tricks.as_strided(values, self.shape, [s * step for s in self.strides], writeable=False)
        per_row = numbers(self.shape[1:])
        at_once = max(1, BLOCK // max(per_row, 1))
        for first in range(0, self.shape[0], at_once):
            yield np.ascontiguousarray(view[first:first + at_once]).reshape(-1)

    def array(self):
        """All of it: for scalars and tests."""
        parts = list(self.blocks())
        return (np.concatenate(parts) if parts else np.zeros(0, np.float32)).reshape(self.shape)


def scalar(value, path):
    """A number that no file holds as it is."""
    return Tensor(Memory(np.float32(value).tobytes(), path), "F32", ())


def check_extent(tensor, name, path):
    """Refuses a tensor that reaches out of its storage."""
    if len(tensor.shape) != len(tensor.strides):
        raise Refused(f"{path}: tensor {name} has {len(tensor.shape)} dimensions and {len(tensor.strides)} strides")
    if any(d < 0 for d in tensor.shape) or any(s < 0 for s in tensor.strides) or tensor.offset < 0:
        raise Refused(f"{path}: tensor {name} has a negative size")
    if tensor.size == 0:
        return
    extent = tensor.offset + 1 + sum((d - 1) * s for d, s in zip(tensor.shape, tensor.strides))
    if extent * SIZES[tensor.dtype] > tensor.storage.size:
        raise Refused(f"{path}: tensor {name} lies outside of its storage")


def file_size(path):
    try:
        return os.stat(path).st_size
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None
