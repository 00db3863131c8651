"""The converted folder: written under another name beside its own, which it gets when it is whole and on the disk."""
import os
import shutil
import tempfile

from .errors import Failed, Refused
from .preprocessing import write_json
from .safetensors_file import plan_shards, write_safetensors
from .tensors import SIZES

SPARE = 8 << 20  # bytes for the files beside the weights


class OutputFolder:
    """with OutputFolder(path) as folder: ... writes into folder.path; path appears at the end, or nothing does."""

    def __init__(self, path):
        self.final = os.path.abspath(path)
        self.shown = path
        self.path = None

    def check(self, size):
        """Refuses early what would fail late."""
        parent = os.path.dirname(self.final)
        if os.path.lexists(self.final) and not (os.path.isdir(self.final) and not os.listdir(self.final)):
            raise Refused(f"{self.shown}: is already there; choose another name or remove it")
        if not os.path.isdir(parent):
            raise Failed(f"{parent}: no such folder")
        free = shutil.disk_usage(parent).free
        if free < size + SPARE:
            raise Failed(f"{self.shown}: not enough space: {(size + SPARE) >> 20} MB are needed and {free >> 20} MB "
                         "are free")

    def __enter__(self):
        parent, name = os.path.split(self.final)
        try:
            self.path = tempfile.mkdtemp(prefix=f".{name[:100]}.", suffix=".partial", dir=parent)
            os.chmod(self.path, 0o777 & ~_umask())
        except OSError as trouble:
            raise Failed(f"{self.shown}: cannot be written: {trouble.strerror}") from None
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self._finish()
                return False
        except OSError as trouble:
            value = trouble
        finally:
            if os.path.lexists(self.path):
                shutil.rmtree(self.path, ignore_errors=True)
        if isinstance(value, OSError):
            raise Failed(f"{self.shown}: cannot be written: {value.strerror}") from None
        return False

    def _finish(self):
        for name in os.listdir(self.path):
            _sync(os.path.join(self.path, name))
        _sync(self.path)
        if os.path.isdir(self.final):
            os.rmdir(self.final)
        os.rename(self.path, self.final)
        _sync(os.path.dirname(self.final))


def _umask():
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync(path):
    try:
        fd = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_weights(folder, tensors, dtype, shard_bytes, progress):
    """model.safetensors, or its shards and their index."""
    shards = plan_shards(tensors, dtype, shard_bytes)
    if len(shards) == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors, dtype, progress)
        return
    weight_map = {}
    for i, names in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(os.path.join(folder, file), {name: tensors[name] for name in names}, dtype, progress)
        weight_map.update(dict.fromkeys(names, file))
    total = sum(tensor.size for tensor in tensors.values()) * SIZES[dtype]
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})
