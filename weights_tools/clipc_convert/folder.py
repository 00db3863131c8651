"""The converted folder: written under another name beside its own, which it gets when it is whole and on the disk."""
import os
import shutil

try:
    import fcntl
except ImportError:
    fcntl = None

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
        self.lock = None

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
            for i in range(1000):
                self.path = os.path.join(os.fsencode(parent), b"." + os.fsencode(name)[:200] + b".%d.partial" % i)
                self.path = os.fsdecode(self.path)
                if self._take():
                    return self
            raise FileExistsError(0, "other conversions to it are under way")
        except OSError as trouble:
            raise Failed(f"{self.shown}: cannot be written: {trouble.strerror}") from None

    def _take(self):
        """Makes the folder, or takes over one that nobody holds any more: its owner was ended by force."""
        try:
            os.mkdir(self.path)
            made = True
        except FileExistsError:
            made = False
        if fcntl is None:
            return made
        try:
            self.lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(self.lock), os.lstat(self.path)):
                for left in os.listdir(self.path):
                    os.unlink(os.path.join(self.path, left))
                return True
        except BlockingIOError:
            pass
        except OSError:
            if made:  # a file system without locks
                return True
        self._release()
        return False

    def _release(self):
        if self.lock is not None:
            os.close(self.lock)
        self.lock = None

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
            self._release()
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
