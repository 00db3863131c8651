"""A pickle, read as data: no name in it is looked up, no call in it is made.

An interpreter of its own for the opcodes of protocols 0 to 5. A global becomes a Global, which is only its name; a call
becomes a Call, which is only what would be called and with what. Names that are not on the list are refused before
anything else of the file is read. collections.OrderedDict becomes a dict; what else a Call means is for
torch_file.py to say.
"""
import struct

from .errors import Refused

MAX_PICKLE = 256 << 20  # bytes of one pickle without its tensors; real ones have less than 2 MB
MAX_ITEMS = 20_000_000  # opcodes

# What checkpoints of CLIP hold. A name alone runs nothing here, so the list is not what makes the reader safe; it makes
# a file that is something else, or that is meant to do something else, be refused by name.
TORCH_NAMES = {
    "torch": {"Size", "device", "dtype", "ByteStorage", "CharStorage", "ShortStorage", "IntStorage", "LongStorage",
              "HalfStorage", "FloatStorage", "DoubleStorage", "BFloat16Storage", "BoolStorage", "UntypedStorage",
              "ComplexFloatStorage", "ComplexDoubleStorage", "Tensor", "float32", "float64", "float16", "bfloat16",
              "int64", "int32", "int16", "int8", "uint8", "bool", "strided", "preserve_format", "contiguous_format"},
    "torch.cuda": {"ByteStorage", "CharStorage", "ShortStorage", "IntStorage", "LongStorage", "HalfStorage",
                   "FloatStorage", "DoubleStorage", "BFloat16Storage", "BoolStorage"},
    "torch.storage": {"UntypedStorage", "TypedStorage", "_TypedStorage", "_UntypedStorage"},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
                     "_rebuild_parameter_with_state"},
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "torch.jit._pickle": {"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist",
                          "build_tensor_from_id", "restore_type_tag"},
}
OTHER_NAMES = {
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "argparse": {"Namespace"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "__builtin__": {"set", "frozenset", "bytearray", "complex", "slice", "dict", "list", "int", "float", "bool"},
    "builtins": {"set", "frozenset", "bytearray", "complex", "slice", "dict", "list", "int", "float", "bool"},
}


class Global:
    """module.name, a name and no more."""
    __slots__ = ("module", "name")

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __str__(self):
        return f"{self.module}.{self.name}"


class Call:
    """What the pickle would call, with what, and the state it would set then."""
    __slots__ = ("what", "arguments", "state")

    def __init__(self, what, arguments):
        self.what, self.arguments, self.state = what, arguments, None


class Reference:
    """A persistent id: here a storage, which lies elsewhere in the file."""
    __slots__ = ("id",)

    def __init__(self, id):
        self.id = id


class _Mark:
    pass


_MARK = _Mark()


def allowed(module, name, scripted):
    """scripted: a TorchScript archive, whose own classes are all below __torch__."""
    if scripted and (module == "__torch__" or module.startswith("__torch__.")):
        return True
    return name in TORCH_NAMES.get(module, ()) or name in OTHER_NAMES.get(module, ())


class PickleReader:
    """read() gives the next pickle of a stream; position is then just behind it."""

    def __init__(self, data, path, scripted=False):
        self.data, self.path, self.scripted, self.position = data, path, scripted, 0

    def read(self):
        self.stack, self.memo, self.start = [], {}, self.position
        try:
            for _ in range(MAX_ITEMS):
                code = self._take(1)[0]
                if code == 0x2E:  # STOP
                    if len(self.stack) != 1 or self.stack[0] is _MARK:
                        raise self._broken("it ends with more or less than one object")
                    return self.stack.pop()
                action = _ACTIONS.get(code)
                if action is None:
                    raise self._broken(f"opcode 0x{code:02x} is not known")
                action(self)
        except (IndexError, KeyError, struct.error):
            raise self._broken("an opcode has not the objects that it needs") from None
        except (ValueError, OverflowError, UnicodeDecodeError):
            raise self._broken("a value is malformed") from None
        except (TypeError, AttributeError):
            raise self._broken("an object is not of the kind that an opcode needs") from None
        raise self._broken("it has too many opcodes")

    # ---- bytes

    def _broken(self, why):
        return Refused(f"{self.path}: byte {self.position} of the pickle: {why}")

    def _take(self, n):
        end = self.position + n
        if n < 0 or end > len(self.data):
            raise Refused(f"{self.path}: the pickle is cut off")
        if end - self.start > MAX_PICKLE:
            raise Refused(f"{self.path}: the pickle is above the limit of {MAX_PICKLE >> 20} MB")
        piece = bytes(self.data[self.position:end])
        self.position = end
        return piece

    def _line(self):
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise Refused(f"{self.path}: the pickle is cut off")
        line = self._take(end - self.position)
        self.position += 1
        return line

    def _number(self, form):
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    # ---- the stack

    def _push(self, value):
        self.stack.append(value)

    def _pop(self):
        value = self.stack.pop()
        if value is _MARK:
            raise self._broken("a mark where an object is needed")
        return value

    def _top(self):
        if self.stack[-1] is _MARK:
            raise self._broken("a mark where an object is needed")
        return self.stack[-1]

    def _to_mark(self):
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1:]
                del self.stack[i:]
                return items
        raise self._broken("no mark")

    # ---- names and calls

    def _global(self, module, name):
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._broken("a global's name is no text")
        if not allowed(module, name, self.scripted):
            shown = "".join(c if c.isprintable() else "?" for c in f"{module}.{name}")[:120]
            raise Refused(f"{self.path}: refused: its pickle names {shown}, and only tensors and plain data are read "
                          "from a pickle; nothing of it was run")
        self._push(Global(module, name))

    def _call(self, what, arguments):
        if not isinstance(what, Global) or not isinstance(arguments, tuple):
            raise self._broken("a call of what is no name")
        name = str(what)
        if name in ("collections.OrderedDict", "builtins.dict", "__builtin__.dict", "collections.defaultdict"):
            pairs = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], (list, dict)) else []
            self._push(dict(pairs))
        elif name.startswith("torch.jit._pickle.build_") and not name.endswith("_id") and len(arguments) == 1:
            self._push(arguments[0])
        elif name == "torch.jit._pickle.restore_type_tag" and len(arguments) == 2:
            self._push(arguments[0])
        else:
            self._push(Call(what, arguments))

    def _build(self):
        state, target = self._pop(), self._top()
        if isinstance(target, Call):
            target.state = state
        elif not isinstance(target, (dict, list)):  # attributes of an OrderedDict, such as _metadata, say nothing
            raise self._broken("a state for what has none")

    def _set_items(self, target, items):
        if not isinstance(target, dict):
            raise self._broken("items for what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(value, (Call, Reference)) and key in target:
                raise Refused(f"{self.path}: tensor {key} comes twice")
            target[key] = value

    def _append(self, items):
        target = self._top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(items)
        else:
            raise self._broken("items for what is no list")

    def _remember(self, key):
        self.memo[key] = self._top()

    def _text(self, raw, encoding="utf-8"):
        self._push(raw.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict"))

    def _integer_line(self):
        line = self._line()
        self._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))

    def _quoted(self):
        line = self._line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise self._broken("a string without its quotes")
        self._text(line[1:-1].decode("ascii").encode("latin-1").replace(b"\\\\", b"\\"), "latin-1")

    def _inst(self):
        module, name = self._line().decode(), self._line().decode()
        arguments = tuple(self._to_mark())
        self._global(module, name)
        self._call(self._pop(), arguments)

    def _obj(self):
        what, *arguments = self._to_mark()
        self._call(what, tuple(arguments))

    def _two(self, act):
        last, first = self._pop(), self._pop()
        act(first, last)

    def _new_with_keywords(self):
        keywords, arguments, what = self._pop(), self._pop(), self._pop()
        self._call(what, (*arguments, keywords))

    def _extension(self):
        raise Refused(f"{self.path}: refused: its pickle uses copyreg's extension codes, and only tensors and plain "
                      "data are read from a pickle; nothing of it was run")

    def _tuple(self, n):
        items = tuple(self._pop() for _ in range(n))[::-1]
        self._push(items)

    def _nothing(self):
        pass

    def _protocol(self):
        version = self._take(1)[0]
        if version > 5:
            raise Refused(f"{self.path}: the pickle is of protocol {version}, and 5 is the highest that is known")


def _long(raw):
    return int.from_bytes(raw, "little", signed=True)


_P = PickleReader
_ACTIONS = {
    0x80: _P._protocol,
    0x95: lambda r: r._take(8) and None,  # FRAME
    ord("("): lambda r: r._push(_MARK),
    ord("0"): lambda r: r.stack.pop() and None,
    ord("1"): lambda r: r._to_mark() and None,
    ord("2"): lambda r: r._push(r._top()),
    ord("N"): lambda r: r._push(None),
    0x88: lambda r: r._push(True),
    0x89: lambda r: r._push(False),
    ord("I"): _P._integer_line,
    ord("J"): lambda r: r._push(r._number("<i")),
    ord("K"): lambda r: r._push(r._number("<B")),
    ord("M"): lambda r: r._push(r._number("<H")),
    ord("L"): lambda r: r._push(int(r._line().rstrip(b"L"))),
    0x8A: lambda r: r._push(_long(r._take(r._number("<B")))),
    0x8B: lambda r: r._push(_long(r._take(r._number("<i")))),
    ord("F"): lambda r: r._push(float(r._line())),
    ord("G"): lambda r: r._push(r._number(">d")),
    ord("S"): _P._quoted,
    ord("T"): lambda r: r._text(r._take(r._number("<i")), "latin-1"),
    ord("U"): lambda r: r._text(r._take(r._number("<B")), "latin-1"),
    ord("V"): lambda r: r._text(r._line(), "raw-unicode-escape"),
    ord("X"): lambda r: r._text(r._take(r._number("<I"))),
    0x8C: lambda r: r._text(r._take(r._number("<B"))),
    0x8D: lambda r: r._text(r._take(r._number("<Q"))),
    ord("B"): lambda r: r._push(r._take(r._number("<I"))),
    ord("C"): lambda r: r._push(r._take(r._number("<B"))),
    0x8E: lambda r: r._push(r._take(r._number("<Q"))),
    0x96: lambda r: r._push(r._take(r._number("<Q"))),  # BYTEARRAY8
    ord("]"): lambda r: r._push([]),
    ord("l"): lambda r: r._push(r._to_mark()),
    ord("a"): lambda r: r._append([r._pop()]),
    ord("e"): lambda r: r._append(r._to_mark()),
    ord(")"): lambda r: r._push(()),
    ord("t"): lambda r: r._push(tuple(r._to_mark())),
    0x85: lambda r: r._tuple(1),
    0x86: lambda r: r._tuple(2),
    0x87: lambda r: r._tuple(3),
    ord("}"): lambda r: r._push({}),
    ord("d"): lambda r: (lambda items: (r._push({}), r._set_items(r._top(), items)))(r._to_mark()),
    ord("s"): lambda r: r._two(lambda key, value: r._set_items(r._top(), [key, value])),
    ord("u"): lambda r: (lambda items: r._set_items(r._top(), items))(r._to_mark()),
    0x8F: lambda r: r._push(set()),
    0x90: lambda r: r._append(r._to_mark()),
    0x91: lambda r: r._push(frozenset(r._to_mark())),
    ord("p"): lambda r: r._remember(int(r._line())),
    ord("q"): lambda r: r._remember(r._number("<B")),
    ord("r"): lambda r: r._remember(r._number("<I")),
    0x94: lambda r: r._remember(len(r.memo)),
    ord("g"): lambda r: r._push(r.memo[int(r._line())]),
    ord("h"): lambda r: r._push(r.memo[r._number("<B")]),
    ord("j"): lambda r: r._push(r.memo[r._number("<I")]),
    ord("c"): lambda r: r._global(r._line().decode(), r._line().decode()),
    0x93: lambda r: r._two(r._global),  # STACK_GLOBAL
    ord("R"): lambda r: r._two(r._call),
    ord("b"): _P._build,
    ord("i"): _P._inst,
    ord("o"): _P._obj,
    0x81: lambda r: r._two(r._call),  # NEWOBJ
    0x92: _P._new_with_keywords,
    0x82: _P._extension,
    0x83: _P._extension,
    0x84: _P._extension,
    ord("P"): lambda r: r._push(Reference(r._line().decode())),
    ord("Q"): lambda r: r._push(Reference(r._pop())),
}
