"""ONNX graphs, made here node by node: that weights are found however an exporter spells the network, and that a
network that only resembles CLIP's ViT is refused, since its weights in a CLIPModel would give other numbers without a
word."""
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOOLS), str(TOOLS / "tests")]
import checkpoints
import convert
from checkpoints import CONTEXT, GRID, PATCH, VOCAB, WIDTH

# ---------------------------------------------------------------- protobuf


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor_proto(array, name="", how="raw"):
    kind = {"f4": 1, "i8": 7, "f2": 10}[array.dtype.str[1:]]
    out = b"".join(field(1, n) for n in array.shape) + field(2, kind) + field(8, name)
    if isinstance(how, dict):  # external data
        return out + b"".join(field(13, field(1, k) + field(2, str(v))) for k, v in how.items()) + field(14, 1)
    if how == "typed" and kind == 10:
        return out + field(5, b"".join(varint(int(v)) for v in array.view(np.uint16).reshape(-1)))
    if how == "typed":
        return out + field({1: 4, 7: 7}[kind], array.tobytes() if kind == 1 else
                           b"".join(varint(int(v)) for v in array.reshape(-1)))
    return out + field(9, array.tobytes())


def attribute(name, value):
    out = field(1, name)
    if isinstance(value, np.ndarray):
        return out + field(5, tensor_proto(value)) + field(20, 4)
    if isinstance(value, list):
        return out + b"".join(field(8, v) for v in value) + field(20, 7)
    return out + field({int: 3, float: 2, str: 4}[type(value)], value)


class Graph:
    def __init__(self, how="raw"):
        self.nodes, self.tensors, self.inputs, self.outputs, self.count, self.how = [], [], [], [], 0, how

    def node(self, op, *inputs, domain="", outputs=1, **attributes):
        out = [f"v{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in out) + field(4, op) +
                          b"".join(field(5, attribute(k, v)) for k, v in attributes.items()) +
                          (field(7, domain) if domain else b""))
        return out[0] if outputs == 1 else out

    def tensor(self, array, how=None):
        name = f"t{len(self.tensors)}"
        self.tensors.append(tensor_proto(np.ascontiguousarray(array), name, how or self.how))
        return name

    def ints(self, *values):
        return self.node("Constant", value=np.array(values, np.int64))

    def input(self, name, kind, shape):
        dims = b"".join(field(1, field(1, n) if n else field(2, "n")) for n in shape)
        self.inputs.append(field(1, name) + field(2, field(1, field(1, kind) + field(2, dims))))
        return name

    def save(self, path):
        graph = b"".join(field(1, n) for n in self.nodes) + b"".join(field(5, t) for t in self.tensors) + \
            b"".join(field(11, i) for i in self.inputs) + b"".join(field(12, o) for o in self.outputs)
        path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 17)))


# ---------------------------------------------------------------- CLIP, as exporters may write it

class Spelling:
    """How the network is written down; each of these is another network if it says so."""
    linear = "matmul"      # gemm, gemm-transposed, transpose-node, bias-first
    norm = "whole"         # parts, reciprocal
    order = "qkv"
    packed = False
    positions = "table"    # gather, unsqueezed
    activation = "quick_gelu"
    heads = 2
    scale = "exp"          # folded, output, first, none
    cast = False
    how = "raw"
    change = ""            # what makes it another network

    def __init__(self, **more):
        for name, value in more.items():
            assert hasattr(self, name)
            setattr(self, name, value)


class Writer:
    def __init__(self, spelling, arrays):
        self.s, self.a, self.g = spelling, arrays, Graph(spelling.how)

    def linear(self, x, weight, bias, rows=slice(None)):
        g, w, form = self.g, self.a[weight][rows], self.s.linear
        b = None if bias is None else g.tensor(self.a[bias][rows])
        if form.startswith("gemm"):
            flat = g.node("Reshape", x, g.ints(-1, w.shape[1]))
            more = {"transB": 1} if form == "gemm-transposed" else {"alpha": 1.0}
            out = g.node("Gemm", flat, g.tensor(w if more.get("transB") else w.T), *([b] if b else []), **more)
            return g.node("Reshape", out, g.ints(1, -1, w.shape[0]))
        if form == "transpose-node":
            named = g.node("Identity", g.tensor(w))
            out = g.node("MatMul", x, g.node("Transpose", named, perm=[1, 0]))
        else:
            out = g.node("MatMul", x, g.tensor(w.T))
        if b is None:
            return out
        return g.node("Add", b, out) if form == "bias-first" else g.node("Add", out, b)

    def norm(self, x, name):
        g, weight, bias = self.g, self.g.tensor(self.a[name + ".weight"]), self.g.tensor(self.a[name + ".bias"])
        if self.s.norm == "whole":
            return g.node("LayerNormalization", x, weight, bias, epsilon=1e-6, axis=-1)
        middle = g.node("Sub", x, g.node("ReduceMean", x, axes=[-1]))
        square = g.node("ReduceMean", g.node("Pow", middle, g.node("Constant", value=np.array(2, np.float32))),
                        axes=[-1])
        root = g.node("Sqrt", g.node("Add", square, g.node("Constant", value=np.array(1e-6, np.float32))))
        out = g.node("Div", middle, root) if self.s.norm == "parts" else \
            g.node("Mul", middle, g.node("Reciprocal", root))
        return g.node("Add", g.node("Mul", out, weight), bias)

    def head(self, x):
        g = self.g
        return g.node("Transpose", g.node("Reshape", x, g.ints(1, -1, self.s.heads, WIDTH // self.s.heads)),
                      perm=[0, 2, 1, 3])

    def attention(self, x, block, text):
        g, parts = self.g, {}
        bias = None if self.s.change == "no bias" else block + "attn.in_proj_bias"
        if self.s.packed:
            qkv = self.linear(x, block + "attn.in_proj_weight", bias)
            split = g.node("Split", qkv, axis=2, outputs=3)
            parts = dict(zip("qkv", split))
        else:
            for part in self.s.order:
                k = "qkv".index(part) * WIDTH
                parts[part] = self.linear(x, block + "attn.in_proj_weight", bias, slice(k, k + WIDTH))
        q, k, v = (self.head(parts[part]) for part in "qkv")
        if self.s.change == ("rotary text" if text else "rotary"):
            table = g.tensor(np.ones((CONTEXT if text else 5, WIDTH // self.s.heads), np.float32))
            q, k = g.node("Mul", q, table), g.node("Mul", k, table)
        q = g.node("Mul", q, g.node("Constant", value_float=0.177))
        scores = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
        if text and self.s.change != "both ways":
            scores = g.node("Add", scores, g.tensor(np.triu(np.full((CONTEXT, CONTEXT), -np.inf, np.float32), 1)))
        if self.s.change == ("relative positions in texts" if text else "relative positions"):
            n = CONTEXT if text else 5
            scores = g.node("Add", scores, g.tensor(np.ones((2, n, n), np.float32)))
        out = g.node("Transpose", g.node("MatMul", g.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        out = g.node("Reshape", out, g.ints(1, -1, WIDTH))
        return self.linear(out, block + "attn.out_proj.weight", block + "attn.out_proj.bias")

    def act(self, x):
        g, kind = self.g, self.s.activation
        if kind == "quick_gelu":
            return g.node("Mul", x, g.node("Sigmoid", g.node("Mul", x, g.node("Constant", value_float=1.702))))
        if kind == "silu":
            return g.node("Mul", x, g.node("Sigmoid", x))
        if kind == "relu":
            return g.node("Relu", x)
        if kind == "gelu":
            return g.node("Mul", x, g.node("Erf", g.node("Mul", x, g.node("Constant", value_float=0.707))))
        return g.node("Gelu", x, approximate="tanh")

    def blocks(self, x, prefix, text):
        g = self.g
        for i in range(2):
            block = f"{prefix}transformer.resblocks.{i}."
            y = self.attention(self.norm(x, block + "ln_1"), block, text)
            if self.s.change == "layer scale":
                y = g.node("Mul", y, g.tensor(np.full(WIDTH, 0.1, np.float32)))
            x = g.node("Add", x, y)
            y = self.linear(self.norm(x, block + "ln_2"), block + "mlp.c_fc.weight", block + "mlp.c_fc.bias")
            y = self.linear(self.act(y), block + "mlp.c_proj.weight", block + "mlp.c_proj.bias")
            x = g.node("Add", x, y)
        return x

    def positions(self, x, name):
        g, table = self.g, self.a[name]
        if self.s.positions == "gather":
            other = g.node("Gather", g.tensor(table), g.tensor(np.arange(len(table))[None], how="raw"))
        else:
            other = g.tensor(table[None] if self.s.positions == "unsqueezed" else table)
        return g.node("Add", x, other)

    def cast(self, x):
        return self.g.node("Cast", x, to=1) if self.s.cast else x

    def vision(self):
        g, s = self.g, self.s
        size = GRID * PATCH
        pixels = g.input("pixels", 1, [0, 3, size, size])
        if s.change == "prepares":
            pixels = g.node("Div", pixels, g.node("Constant", value_float=255.0))
        more = [g.tensor(np.zeros(WIDTH, np.float32))] if s.change == "convolution's bias" else []
        x = g.node("Conv", self.cast(pixels), g.tensor(self.a["visual.conv1.weight"]), *more, strides=[PATCH, PATCH])
        if s.change == "two convolutions":
            x = g.node("Conv", x, g.tensor(np.zeros((WIDTH, WIDTH, 1, 1), np.float32)))
        x = g.node("Transpose", g.node("Reshape", x, g.ints(1, WIDTH, -1)), perm=[0, 2, 1])
        if s.change != "no class":
            first = g.node("Expand", g.tensor(self.a["visual.class_embedding"]), g.ints(1, 1, WIDTH))
            x = g.node("Concat", first, x, axis=1)
        x = self.positions(x, "visual.positional_embedding")
        if s.change == "registers":
            x = g.node("Concat", x, g.tensor(np.zeros((1, 4, WIDTH), np.float32)), axis=1)
        x = self.blocks(x if s.change == "no first norm" else self.norm(x, "visual.ln_pre"), "visual.", False)
        x = g.node("ReduceMean", x, axes=[1]) if s.change == "mean" else g.node("Gather", x, g.ints(0), axis=1)
        x = self.norm(x, "visual.ln_post")
        if s.change == "unprojected":
            return x
        x = g.node("MatMul", x, g.tensor(self.a["visual.proj"]))
        if s.change == "goes on":
            x = g.node("MatMul", x, g.tensor(np.eye(16, dtype=np.float32)))
        return x

    def text(self):
        g = self.g
        ids = g.input("ids", 7, [0, CONTEXT])
        x = g.node("Gather", g.tensor(self.a["token_embedding.weight"]), self.cast(ids))
        x = self.blocks(self.positions(x, "positional_embedding"), "", True)
        x = g.node("Gather", self.norm(x, "ln_final"), g.node("ArgMax", ids, axis=1), axis=1)
        return g.node("MatMul", x, g.tensor(self.a["text_projection"]))

    def both(self, path):
        g = self.g
        image, text = self.vision(), self.text()
        image = g.node("Div", image, g.node("ReduceL2", image, axes=[-1], keepdims=1))
        logits = g.node("MatMul", image, g.node("Transpose", text, perm=[1, 0]))
        scale = self.a["logit_scale"]
        if self.s.scale == "exp":
            g.node("Mul", logits, g.node("Exp", g.tensor(scale)))
        elif self.s.scale == "folded":
            g.node("Mul", logits, g.tensor(np.exp(scale)))
        elif self.s.scale == "output":
            g.outputs.append(field(1, g.node("Exp", g.tensor(scale))))
        elif self.s.scale == "first":
            g.node("MatMul", g.node("Mul", g.node("Exp", g.tensor(scale)), image), logits)
        g.save(path)


def arrays(dtype=np.float32):
    return checkpoints.openai_arrays(5, layers=2, marks=False, dtype=dtype)


def run(path, *arguments):
    paths = [str(p) for p in (path if isinstance(path, list) else [path])]
    return convert.main([*paths, "-o", str(tmp(path) / "out"), "--tokenizer", "none", *arguments])


def tmp(path):
    return (path[0] if isinstance(path, list) else path).parent


@pytest.mark.parametrize("spelling", [
    {}, {"linear": "gemm"}, {"linear": "gemm-transposed"}, {"linear": "transpose-node"}, {"linear": "bias-first"},
    {"norm": "parts"}, {"norm": "reciprocal"}, {"order": "kqv"}, {"order": "vkq"}, {"order": "vqk", "norm": "parts"},
    {"packed": True}, {"packed": True, "linear": "gemm"}, {"positions": "gather"}, {"positions": "unsqueezed"},
    {"activation": "gelu"}, {"activation": "gelu_pytorch_tanh"}, {"scale": "folded"},
    {"scale": "output"}, {"scale": "first"}, {"cast": True, "heads": 4},
    {"how": "typed"}, {"heads": 1}])
def test_every_spelling(spelling, tmp_path):
    Writer(Spelling(**spelling), arrays()).both(tmp_path / "in.onnx")
    assert run(tmp_path / "in.onnx", "-q") == 0
    got, want = checkpoints.read_folder(tmp_path / "out")[0], checkpoints.hf_arrays(arrays())
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert np.allclose(got[name], array, rtol=1e-6 if name == "logit_scale" else 0, atol=0), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        assert config[part]["hidden_act"] == spelling.get("activation", "quick_gelu")
        assert config[part]["num_attention_heads"] == spelling.get("heads", 2)
        assert config[part]["layer_norm_eps"] == pytest.approx(1e-6)
        assert config[part]["num_hidden_layers"] == 2 and config[part]["intermediate_size"] == 96
    assert config["vision_config"]["image_size"] == 8 and config["text_config"]["vocab_size"] == VOCAB


def test_half_precision_in_both_ways_of_storing(tmp_path):
    for how in ("raw", "typed"):
        half = {k: np.asarray(v) for k, v in arrays(np.float16).items()}
        Writer(Spelling(how=how), half).both(tmp_path / "in.onnx")
        assert run(tmp_path / "in.onnx", "-q", "--dtype", "f16") == 0
        got = checkpoints.read_folder(tmp_path / "out")[0]
        for name, array in checkpoints.hf_arrays(half).items():
            assert np.array_equal(got[name], array.astype(np.float32)), name
        for file in (tmp_path / "out").iterdir():
            file.unlink()


@pytest.mark.parametrize("spelling, sentence", [
    ({"change": "layer scale"}, "Mul with a table of shape [64]"),
    ({"change": "rotary"}, "Mul with a table of shape [5, 32]"),
    ({"change": "relative positions"}, "Add with a table of shape [2, 5, 5]"),
    ({"change": "rotary text"}, "Mul with a table of shape [8, 32]"),
    ({"change": "relative positions in texts"}, "Add with a table of shape [2, 8, 8]"),
    ({"change": "both ways"}, "it sees both ways, which a CLIPModel does not"),
    ({"change": "mean"}, "ReduceMean over the positions"),
    ({"change": "registers"}, "Concat with a table of shape [1, 4, 64]"),
    ({"change": "no class"}, "the class token is not found"),
    ({"change": "prepares"}, "prepares its pictures by itself (Div)"),
    ({"change": "convolution's bias"}, "the first convolution has a bias"),
    ({"change": "two convolutions"}, "2 convolutions"),
    ({"change": "no first norm"}, "the vision tower has no layers as CLIP's ViT has"),
    ({"change": "goes on"}, "goes on behind its projection"),
    ({"change": "no bias"}, "attention has no bias"), ({"change": "no bias", "packed": True}, "attention has no bias"),
    ({"change": "unprojected"}, "the vision tower ends before its projection"),
    ({"activation": "silu"}, "the activation (Mul, Sigmoid) is not one of"),
    ({"activation": "relu"}, "the activation (Relu)"),
    ({"scale": "none"}, "the graphs hold no logit_scale; say --logit-scale")])
def test_networks_that_only_resemble_it(spelling, sentence, tmp_path, capsys):
    Writer(Spelling(**spelling), arrays()).both(tmp_path / "in.onnx")
    assert run(tmp_path / "in.onnx") == 2
    assert sentence in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in.onnx"]


def test_one_tower_alone(tmp_path):
    for kind, method in (("vision", Writer.vision), ("text", Writer.text)):
        writer = Writer(Spelling(), arrays())
        method(writer)
        path = tmp_path / kind / "in.onnx"
        path.parent.mkdir()
        writer.g.save(path)
        assert run(path, "-q") == 0
        names = set(checkpoints.read_folder(path.parent / "out")[0])
        start = (kind, "visual_" if kind == "vision" else "text_")
        want = {name for name in checkpoints.hf_arrays(arrays()) if name.startswith(start)}
        assert names == want
    both = [tmp_path / "vision" / "in.onnx", tmp_path / "text" / "in.onnx"]
    assert run([both[0], both[0]]) == 2
    for file in (tmp_path / "vision" / "out").iterdir():
        file.unlink()
    assert run(both, "-q", "--logit-scale", "100") == 0
    got = checkpoints.read_folder(tmp_path / "vision" / "out")[0]
    assert got["logit_scale"] == pytest.approx(np.log(100)) and got.keys() == checkpoints.hf_arrays(arrays()).keys()


@pytest.mark.parametrize("node, sentence", [
    (("DequantizeLinear", ""), "a quantised graph, which is not read"), (("MatMulInteger", ""), "a quantised graph"),
    (("Attention", "com.microsoft"), "com.microsoft.Attention: an optimised graph, which is not read")])
def test_other_operators(node, sentence, tmp_path, capsys):
    writer = Writer(Spelling(), arrays())
    writer.g.node(node[0], "ids", domain=node[1])
    writer.both(tmp_path / "in.onnx")
    assert run(tmp_path / "in.onnx") == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize("how, sentence", [
    ({"location": "../outside"}, "which is no file below the folder"),
    ({"location": "/etc/passwd"}, "which is no file below"),
    ({"location": "a\\b"}, "which is no file below"), ({"offset": 0}, "which is no file below"),
    ({"location": "not-there"}, "the file of external data is not there"),
    ({"location": "data", "offset": 1 << 40}, "ends behind the file"), ({"location": "data", "offset": "x"}, "damaged"),
    ({"location": "data", "length": 3}, "ends behind the file")])
def test_external_data(how, sentence, tmp_path, capsys):
    (tmp_path / "data").write_bytes(bytes(1000))
    (tmp_path.parent / "outside").write_bytes(bytes(1000))
    writer = Writer(Spelling(), arrays())
    writer.g.tensor(np.zeros((4, 4), np.float32), how=how)
    writer.both(tmp_path / "in.onnx")
    assert run(tmp_path / "in.onnx") == 2 and sentence in capsys.readouterr().err


def test_graphs_that_are_none(tmp_path, capsys):
    for make, sentence in ((lambda g: g.node("Relu", "x"), "neither a convolution of pictures nor a look-up"),
                           (lambda g: [g.node("Identity", f"v{i + 1}") for i in range(5000)], "neither a convolution"),
                           (lambda g: g.node("MatMul", g.input("x", 1, [1, 4]), g.tensor(np.eye(4, dtype=np.float32))),
                            "neither a convolution")):
        graph = Graph()
        make(graph)
        graph.save(tmp_path / "in.onnx")
        assert run(tmp_path / "in.onnx") == 2 and sentence in capsys.readouterr().err
    graph = Graph()  # a weight that is itself: a cycle
    conv = graph.input("pixels", 1, [1, 3, 8, 8])
    graph.node("Conv", conv, "v2")
    graph.node("Identity", "v2")
    graph.node("Identity", "v1")
    graph.save(tmp_path / "in.onnx")
    assert run(tmp_path / "in.onnx") == 2
    assert capsys.readouterr().err.count("\n") == 1
