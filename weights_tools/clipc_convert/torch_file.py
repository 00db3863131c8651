"""Files that PyTorch writes, without PyTorch: torch.save (the zip archive, and the stream of before 1.6) and
torch.jit.save (TorchScript, which is what OpenAI published). Out: named tensors that stay in the file.

A checkpoint of training is looked through for its weights: they are the tensors of `state_dict`, `model` and the like;
`ema` asks for those that training averaged.
"""
import mmap
import struct
import zipfile
import zlib

from .errors import Failed, Refused
from .pickle_reader import Call, Global, PickleReader, Reference
from .tensors import SIZES, Bytes, Tensor, check_extent

STORAGES = {"FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64",
            "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
            "BoolStorage": "BOOL"}
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int64": "I64", "int32": "I32",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "module", "weights")
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
              "torch.nn.parameter.Parameter", "torch._tensor._rebuild_from_type_v2")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_DEPTH, MAX_TENSORS = 64, 200_000


def is_zip(path):
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def read_torch(path, ema=False):
    """{name: Tensor}, and whether the file was a TorchScript archive."""
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None
    if not head:
        raise Refused(f"{path}: the file is empty")
    if head[:4] == b"PK\x03\x04":
        archive = _Archive(path)
        return archive.tensors(ema), archive.scripted
    if head[257:262] == b"ustar":
        raise Refused(f"{path}: a tar file of PyTorch before 0.1.10, which is not read")
    if head[:1] not in (b"\x80", b"(", b"c", b"}", b"]"):
        raise Refused(f"{path}: neither a zip archive nor a pickle, so no file of PyTorch's")
    return _legacy(path, ema), False


# ---------------------------------------------------------------- the zip archive

class _Archive:
    def __init__(self, path):
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                names = [info.filename for info in infos]
                pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
                if len(pickles) != 1:
                    raise Refused(f"{path}: a zip archive without data.pkl, so no file of PyTorch's")
                if len(set(names)) != len(names):
                    twice = next(name for name in names if names.count(name) > 1)
                    raise Refused(f"{path}: {twice} comes twice in the archive")
                self.root = pickles[0][:-len("data.pkl")]
                self.infos = {info.filename: info for info in infos}
                self.scripted = f"{self.root}constants.pkl" in self.infos
                order = self._small(archive, "byteorder", b"little")
                if order.strip() != b"little":
                    raise Refused(f"{path}: written on a big-endian machine, which is not read")
                info = self.infos[pickles[0]]
                if info.file_size > 256 << 20:
                    raise Refused(f"{path}: its data.pkl is above the limit of 256 MB")
                self.pickle = archive.read(info)
        except zipfile.BadZipFile as trouble:
            raise Refused(f"{path}: the archive is damaged or cut off ({str(trouble).lower().rstrip('.')})") from None
        except (EOFError, struct.error, zlib.error, NotImplementedError, RuntimeError):
            raise Refused(f"{path}: the archive is damaged or cut off") from None
        except OSError as trouble:
            raise Failed(f"{path}: {trouble.strerror or 'the archive is cut off'}") from None

    def _small(self, archive, name, absent):
        info = self.infos.get(self.root + name)
        return absent if info is None else archive.read(info)[:64]

    def tensors(self, ema):
        self.stretches = {}
        tree = PickleReader(self.pickle, self.path, self.scripted).read()
        if self.scripted:
            out = {}
            _module_tensors(tree, "", out, self._storage, self.path, 0)
            if not out:
                raise Refused(f"{self.path}: the archive holds no weights")
            return out
        return state_dict(tree, self._storage, self.path, ema)

    def _storage(self, key):
        """The stretch of data/<key>, and what compares its checksum the first time."""
        if key in self.stretches:
            return self.stretches[key]
        name = f"{self.root}data/{key}"
        info = self.infos.get(name)
        if info is None:
            raise Refused(f"{self.path}: {name} is missing in the archive: it is cut off or damaged")
        if info.compress_type != zipfile.ZIP_STORED:
            raise Refused(f"{self.path}: {name} is compressed, which PyTorch does not do; pack the archive again "
                          "without")
        with open(self.path, "rb") as file:
            file.seek(info.header_offset)
            head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise Refused(f"{self.path}: the archive is damaged or cut off at {name}")
        n_name, n_extra = struct.unpack("<HH", head[26:30])
        stretch = Bytes(self.path, info.header_offset + 30 + n_name + n_extra, info.file_size)
        state = {"checked": False}

        def check():
            if state["checked"]:
                return
            crc, first = 0, 0
            while first < stretch.size:
                n = min(4 << 20, stretch.size - first)
                crc = zlib.crc32(stretch.read(first, n), crc)
                first += n
            if crc != info.CRC:
                raise Refused(f"{self.path}: the checksum of {name} is wrong: the archive is damaged")
            state["checked"] = True

        self.stretches[key] = (stretch, check)
        return stretch, check


# ---------------------------------------------------------------- before 1.6: pickles, then the storages in a row

def _legacy(path, ema):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = PickleReader(data, path)
        if reader.read() != LEGACY_MAGIC:
            raise Refused(f"{path}: a pickle that torch.save did not write")
        if reader.read() != 1001:
            raise Refused(f"{path}: not the version of torch.save's stream that is known")
        system = reader.read()
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise Refused(f"{path}: written on a big-endian machine, which is not read")
        tree = reader.read()
        keys = reader.read()
        if not isinstance(keys, list):
            raise Refused(f"{path}: the list of its storages is missing")
        dtypes = {}
        _storage_dtypes(tree, dtypes, set(), path)
        stretches, at, end = {}, reader.position, len(data)
        for key in keys:
            size = SIZES.get(dtypes.get(key), None)
            if size is None:
                raise Refused(f"{path}: storage {key} is listed, but no tensor says of what kind it is")
            if at + 8 > end:
                raise Refused(f"{path}: the file is cut off")
            n = struct.unpack("<q", data[at:at + 8])[0]
            if n < 0 or at + 8 + n * size > end:
                raise Refused(f"{path}: the file is cut off")
            stretches[key] = (Bytes(path, at + 8, n * size), None)
            at += 8 + n * size

    def storage(key):
        if key not in stretches:
            raise Refused(f"{path}: storage {key} is missing in the file")
        return stretches[key]

    return state_dict(tree, storage, path, ema)


def _children(value):
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, Call):
        return (*value.arguments, value.state)
    return ()


def _storage_dtypes(tree, out, seen, path):
    """Every storage that the tree mentions, by its key."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, Reference):
            key, dtype, _ = _storage_id(value, path)
            out[key] = dtype
        elif id(value) not in seen:
            children = _children(value)
            if children:
                seen.add(id(value))
                pending.extend(children)


# ---------------------------------------------------------------- tensors

def _storage_id(reference, path):
    """("storage", kind, key, device, numbers, ...) -> key, dtype (None: bytes), numbers."""
    id = reference.id
    if not isinstance(id, tuple) or len(id) < 5 or id[0] != "storage" or not isinstance(id[1], Global):
        raise Refused(f"{path}: a persistent id that is no storage")
    if not isinstance(id[2], str) or not isinstance(id[4], int):
        raise Refused(f"{path}: a storage without a name or a size")
    if len(id) > 5 and id[5] is not None:
        raise Refused(f"{path}: storage {id[2]} is a view of another, which is not read")
    kind = id[1].name
    return id[2], STORAGES.get(kind) if kind != "UntypedStorage" else "U8", id[4]


def _ints(value):
    return isinstance(value, (tuple, list)) and all(isinstance(i, int) and not isinstance(i, bool) for i in value)


def as_tensor(value, name, storage, path):
    """The Tensor that a Call would rebuild; None when it would rebuild something else."""
    while isinstance(value, Call) and str(value.what) in PARAMETERS:
        arguments = value.arguments
        if str(value.what).endswith("_from_type_v2"):  # (function, type, arguments, state)
            if len(arguments) < 3 or not isinstance(arguments[0], Global) or not isinstance(arguments[2], tuple):
                raise Refused(f"{path}: tensor {name} is malformed")
            value = Call(arguments[0], arguments[2])
        else:
            value = arguments[0] if arguments else None
    if not isinstance(value, Call) or not str(value.what).startswith("torch._utils._rebuild_tensor"):
        return None
    arguments = value.arguments
    if len(arguments) < 4 or not isinstance(arguments[0], Reference) or not isinstance(arguments[1], int) or \
            not _ints(arguments[2]) or not _ints(arguments[3]):
        raise Refused(f"{path}: tensor {name} is malformed")
    key, dtype, _ = _storage_id(arguments[0], path)
    if str(value.what).endswith("_v3"):  # an untyped storage, and the dtype as the seventh argument
        dtype = DTYPES.get(arguments[6].name) if len(arguments) > 6 and isinstance(arguments[6], Global) else None
    if dtype is None:
        raise Refused(f"{path}: tensor {name} is of {arguments[0].id[1]}, which is not read")
    stretch, check = storage(key)
    tensor = Tensor(stretch, dtype, arguments[2], arguments[3], arguments[1], check)
    check_extent(tensor, name, path)
    return tensor


def _add(out, name, tensor, path):
    if name in out:
        raise Refused(f"{path}: tensor {name} comes twice")
    if len(out) >= MAX_TENSORS:
        raise Refused(f"{path}: it holds more than {MAX_TENSORS} tensors")
    out[name] = tensor


def _module_tensors(module, prefix, out, storage, path, depth):
    """TorchScript's objects: a module's attributes are its tensors and its modules."""
    state = module.state if isinstance(module, Call) else module
    if depth > MAX_DEPTH:
        raise Refused(f"{path}: its modules are nested deeper than {MAX_DEPTH}")
    if not isinstance(state, dict):
        return
    for key, value in state.items():
        name = f"{prefix}{key}"
        tensor = as_tensor(value, name, storage, path)
        if tensor is not None:
            _add(out, name, tensor, path)
        elif isinstance(value, Call) and value.what.module.startswith("__torch__"):
            _module_tensors(value, name + ".", out, storage, path, depth + 1)


def state_dict(tree, storage, path, ema):
    """The weights of what torch.save was given."""
    if isinstance(tree, Call):
        raise Refused(f"{path}: it holds a {tree.what}, not a state_dict")
    if not isinstance(tree, dict):
        raise Refused(f"{path}: it holds no dictionary of tensors")
    for _ in range(4):
        averaged = next((key for key in EMA_KEYS if isinstance(tree.get(key), dict)), None)
        plain = next((key for key in WEIGHT_KEYS if isinstance(tree.get(key), dict)), None)
        key = (averaged or plain) if ema else (plain or averaged)
        if key is None:
            break
        ema = ema and key != averaged
        tree = tree[key]
    if ema:
        raise Refused(f"{path}: it has no averaged weights ({', '.join(EMA_KEYS)}); leave out --ema")
    out = {}
    for key, value in tree.items():
        tensor = as_tensor(value, key, storage, path) if isinstance(key, str) else None
        if tensor is not None:
            _add(out, key, tensor, path)
    if not out:
        raise Refused(f"{path}: it holds no tensors by name, neither at the top nor below "
                      f"{', '.join(WEIGHT_KEYS + EMA_KEYS)}")
    return out
