"""An ONNX file's graph, by a reader of its own for the little of protobuf that it needs. Tensors stay in the file, or
in the files of external data beside it. Field numbers: onnx.proto of ONNX 1.x."""
import mmap
import os
import struct

from .errors import Failed, Refused
from .tensors import SIZES, STORED, Bytes, Memory, Tensor, file_size, numbers

DTYPES = {1: "F32", 2: "U8", 3: "I8", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 16: "BF16"}
MAX_NODES = 1_000_000
VARINT, FIXED64, CHUNK, FIXED32 = 0, 1, 2, 5


class Node:
    __slots__ = ("op", "domain", "name", "inputs", "outputs", "attributes", "index")

    def __init__(self):
        self.op = self.domain = self.name = ""
        self.inputs, self.outputs, self.attributes = [], [], {}


class Graph:
    def __init__(self, path):
        self.path = path
        self.nodes, self.tensors, self.outputs = [], {}, []
        self.inputs = {}  # name -> shape, with None where any size will do


class _Reader:
    def __init__(self, data, path):
        self.data, self.path = data, path

    def broken(self):
        return Refused(f"{self.path}: the file is cut off, damaged or no ONNX")

    def varint(self, at, end):
        value = shift = 0
        while at < end and shift < 64:
            byte = self.data[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.broken()

    def fields(self, at, end):
        """(number, wire type, value): the value of a CHUNK is where it begins and ends."""
        while at < end:
            key, at = self.varint(at, end)
            number, kind = key >> 3, key & 7
            if kind == VARINT:
                value, at = self.varint(at, end)
            elif kind == CHUNK:
                n, at = self.varint(at, end)
                if n > end - at:
                    raise self.broken()
                value, at = (at, at + n), at + n
            elif kind in (FIXED32, FIXED64):
                n = 4 if kind == FIXED32 else 8
                if n > end - at:
                    raise self.broken()
                value, at = bytes(self.data[at:at + n]), at + n
            else:
                raise self.broken()
            if number == 0:
                raise self.broken()
            yield number, kind, value

    def text(self, chunk):
        if isinstance(chunk, tuple):
            try:
                return bytes(self.data[chunk[0]:chunk[1]]).decode("utf-8")
            except UnicodeDecodeError:
                pass
        raise self.broken()

    def integers(self, kind, value):
        """A repeated integer field, packed or not."""
        if kind == VARINT:
            return [_signed(value)]
        if kind != CHUNK:
            raise self.broken()
        out, (at, end) = [], value
        while at < end:
            n, at = self.varint(at, end)
            out.append(_signed(n))
        return out

    def chunk(self, kind, value):
        if kind != CHUNK:
            raise self.broken()
        return value


def _signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def read_onnx(path):
    size = file_size(path)
    if size == 0:
        raise Refused(f"{path}: the file is empty")
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader, graph = _Reader(data, path), Graph(path)
            found = False
            for number, kind, value in reader.fields(0, size):
                if number == 7:
                    found = True
                    _graph(reader, graph, reader.chunk(kind, value))
            if not found or not graph.nodes:
                raise reader.broken()
            return graph
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from None


def _graph(reader, graph, chunk):
    for number, kind, value in reader.fields(*chunk):
        if number == 1:
            node = _node(reader, reader.chunk(kind, value))
            node.index = len(graph.nodes)
            graph.nodes.append(node)
            if len(graph.nodes) > MAX_NODES:
                raise Refused(f"{graph.path}: it has more than {MAX_NODES} nodes")
        elif number == 5:
            name, tensor = _tensor(reader, reader.chunk(kind, value))
            if name in graph.tensors:
                raise Refused(f"{graph.path}: tensor {name} comes twice")
            graph.tensors[name] = tensor
        elif number == 11:
            name, shape = _value_info(reader, reader.chunk(kind, value))
            graph.inputs[name] = shape
        elif number == 12:
            graph.outputs.append(_value_info(reader, reader.chunk(kind, value))[0])
        elif number == 15:
            raise Refused(f"{graph.path}: it has sparse tensors, which are not read")
    for name in graph.tensors:  # old files list the initializers among the inputs
        graph.inputs.pop(name, None)


def _node(reader, chunk):
    node = Node()
    for number, kind, value in reader.fields(*chunk):
        if number == 1:
            node.inputs.append(reader.text(value))
        elif number == 2:
            node.outputs.append(reader.text(value))
        elif number == 3:
            node.name = reader.text(value)
        elif number == 4:
            node.op = reader.text(value)
        elif number == 5:
            name, attribute = _attribute(reader, reader.chunk(kind, value))
            node.attributes[name] = attribute
        elif number == 7:
            node.domain = reader.text(value)
    return node


def _attribute(reader, chunk):
    """The value by the field that is there: a float, an integer, a text, a Tensor, integers."""
    name, out, ints = "", None, []
    for number, kind, value in reader.fields(*chunk):
        if number == 1:
            name = reader.text(value)
        elif number == 2 and kind == FIXED32:
            out = struct.unpack("<f", value)[0]
        elif number == 3 and kind == VARINT:
            out = _signed(value)
        elif number == 4:
            at, end = reader.chunk(kind, value)
            out = bytes(reader.data[at:min(end, at + 256)]).decode("utf-8", "replace")
        elif number == 5:
            out = _tensor(reader, reader.chunk(kind, value))[1]
        elif number == 8:
            ints += reader.integers(kind, value)
            out = ints
    return name, out


def _value_info(reader, chunk):
    name, shape = "", None
    for number, kind, value in reader.fields(*chunk):
        if number == 1:
            name = reader.text(value)
        elif number == 2:
            for n, k, v in reader.fields(*reader.chunk(kind, value)):
                if n != 1:
                    continue
                for n2, k2, v2 in reader.fields(*reader.chunk(k, v)):
                    if n2 == 2:
                        shape = [_dimension(reader, reader.chunk(k3, v3))
                                 for n3, k3, v3 in reader.fields(*reader.chunk(k2, v2)) if n3 == 1]
    return name, shape


def _dimension(reader, chunk):
    for number, kind, value in reader.fields(*chunk):
        if number == 1 and kind == VARINT and 0 < value < 1 << 31:
            return value
    return None


def _external(reader, entries, n, path, name):
    """The stretch of a file of external data: a plain path below the folder of the graph."""
    where = dict(entries)
    location = where.get("location", "")
    parts = location.split("/")
    if not location or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
        raise Refused(f"{path}: tensor {name} lies in {location!r}, which is no file below the folder")
    file = os.path.join(os.path.dirname(path), location)
    if not os.path.isfile(file):
        raise Refused(f"{file}: the file of external data is not there; tensor {name} lies in it")
    try:
        offset, length = int(where.get("offset", "0")), int(where.get("length", str(n)))
    except ValueError:
        raise reader.broken() from None
    if offset < 0 or length != n or offset + length > file_size(file):
        raise Refused(f"{file}: tensor {name} ends behind the file: it is cut off")
    return Bytes(file, offset, length)


def _tensor(reader, chunk):
    dims, kind_number, name, stretch, entries, external, values = [], 0, "", None, [], False, []
    for number, kind, value in reader.fields(*chunk):
        if number == 1:
            dims += reader.integers(kind, value)
        elif number == 2 and kind == VARINT:
            kind_number = value
        elif number == 8:
            name = reader.text(value)
        elif number in (9, 4, 10) and kind == CHUNK:  # raw bytes, or packed floats and doubles, which are the same
            stretch = value
        elif number in (4, 10) and kind in (FIXED32, FIXED64):
            values.append(value)
        elif number in (5, 7):
            values += reader.integers(kind, value)
        elif number == 13:
            pair = {n: reader.text(v) for n, k, v in reader.fields(*reader.chunk(kind, value)) if k == CHUNK}
            entries.append((pair.get(1, ""), pair.get(2, "")))
        elif number == 14 and kind == VARINT:
            external = value == 1
    dtype = DTYPES.get(kind_number)
    if dtype is None or any(d < 0 for d in dims):
        return name, None  # of a kind that no weight has: complex, text, below 8 bits
    n = numbers(dims) * SIZES[dtype]
    if external:
        storage = _external(reader, entries, n, reader.path, name)
    elif stretch is not None:
        storage = Bytes(reader.path, stretch[0], stretch[1] - stretch[0])
    else:
        storage = Memory(_packed(values, dtype), reader.path)
    if storage.size != n:
        raise Refused(f"{reader.path}: tensor {name} of shape {dims} has {storage.size} bytes")
    return name, Tensor(storage, dtype, dims)


def _packed(values, dtype):
    if values and isinstance(values[0], bytes):
        return b"".join(values)
    import numpy as np
    wide = {"F16": "<u2", "BF16": "<u2"}.get(dtype, STORED[dtype])
    return np.array([v & 0xFFFF for v in values] if wide == "<u2" else values, dtype="<i8").astype(wide).tobytes()
