"""What the values of an ONNX graph are: weights through what only moves them, products with weights, normalisations.
In: a Graph. Out: for a tower's nodes its Linear and Norm events, in the order of computation."""
import numpy as np

from .errors import Refused
from .tensors import STORED, Memory, Tensor

OPAQUE = ("Shape", "Size", "ConstantOfShape", "Range")  # what they give depends on sizes alone
MOVES = ("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Gather", "Slice",
         "Split", "Dropout")
SEEN_THROUGH = ("Identity", "Cast", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Flatten")  # by weight()
QUANTISED = ("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul",
             "ConvInteger", "QLinearConv", "MatMulNBits")


class Linear:
    """weight [out, in], bias [out] or None; the node, and the value behind the bias."""

    def __init__(self, node, weight):
        self.node, self.weight, self.bias, self.value = node, weight, None, node.outputs[0]


class Norm:
    def __init__(self, node, weight, bias, eps):
        self.node, self.weight, self.bias, self.eps = node, weight, bias, eps


class Walker:
    def __init__(self, graph):
        self.graph, self.path, self.known = graph, graph.path, {}
        self.producer = {value: node for node in graph.nodes for value in node.outputs if value}
        self.consumers = {}
        for node in graph.nodes:
            for value in node.inputs:
                self.consumers.setdefault(value, []).append(node)
            if node.op in QUANTISED:
                raise Refused(f"{self.path}: node {node.name or node.op}: {node.op}: a quantised graph, which is not "
                              "read; convert the one that it was made from")
            if node.domain not in ("", "ai.onnx"):
                raise Refused(f"{self.path}: node {node.name or node.op}: {node.domain}.{node.op}: an optimised graph, "
                              "which is not read; convert the one that it was made from")

    # ---- values that are weights

    def weight(self, value):
        """The float Tensor that a value is, through what only moves it; None when it is computed."""
        if value not in self.known:
            self.known[value] = None  # a cycle would end here
            self.known[value] = self._weight(value)
        return self.known[value]

    def _weight(self, value):
        tensor = self.graph.tensors.get(value)
        if tensor is not None:
            return tensor if tensor.is_float() else None
        node = self.producer.get(value)
        if node is None:
            return None
        if node.op == "Constant":
            return self._constant(node)
        if node.op not in SEEN_THROUGH or not node.inputs:
            return None
        tensor = self.weight(node.inputs[0])
        if tensor is None or node.op in ("Identity", "Cast"):
            return tensor
        if node.op == "Transpose":
            order = node.attributes.get("perm") or list(range(len(tensor.shape)))[::-1]
            return tensor.permuted(order) if sorted(order) == list(range(len(tensor.shape))) else None
        kept = [d for d in tensor.shape if d != 1]  # sizes of 1 come and go; another shape is another weight
        if node.op in ("Reshape", "Flatten"):
            sizes = self.integers(node.inputs[1]) if node.op == "Reshape" else kept[:1] + [-1]
            if sizes is None or None in sizes or len([d for d in sizes if d != 1]) != len(kept) or \
                    any(a not in (b, -1) for a, b in zip([d for d in sizes if d != 1], kept)):
                return None
        return tensor.reshaped(tuple(kept))

    @staticmethod
    def _constant(node):
        for value in node.attributes.values():
            if isinstance(value, Tensor):
                return value if value.is_float() else None
            if isinstance(value, float):
                return Tensor(Memory(np.float32(value).tobytes(), ""), "F32", ())
        return None

    def integers(self, value):
        """The numbers of a small constant of integers; None for what is not known."""
        node = self.producer.get(value)
        tensor = self.graph.tensors.get(value)
        if node is not None and node.op == "Constant":
            found = next(iter(node.attributes.values()), None)
            if isinstance(found, int):
                return [found]
            if isinstance(found, list):
                return found
            tensor = found if isinstance(found, Tensor) else None
        if tensor is not None and tensor.dtype in ("I64", "I32") and tensor.size <= 64:
            return np.frombuffer(tensor.storage.read(0, tensor.storage.size), STORED[tensor.dtype]).tolist()
        if node is not None and node.op == "Concat" and node.inputs:
            return [None] * (len(node.inputs) - 1) + (self.integers(node.inputs[-1]) or [None])[-1:]
        if node is not None and node.op in ("Unsqueeze", "Squeeze", "Cast", "Reshape", "Identity") and node.inputs:
            return self.integers(node.inputs[0])
        return None

    def number(self, value):
        """A constant of one number."""
        tensor = self.weight(value)
        return float(tensor.array().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None

    def weights_behind(self, value, fits, inside):
        """Weights that a value is made of and that fit; not through values of the towers themselves."""
        found, pending, seen = {}, [value], set()
        while pending:
            name = pending.pop()
            if name in seen or name in inside:
                continue
            seen.add(name)
            tensor = self.weight(name)
            if tensor is not None and fits(tensor):
                found[id(tensor.storage), tensor.offset, tensor.shape] = tensor
                continue
            node = self.producer.get(name)
            if node is not None and node.op not in OPAQUE:
                pending += node.inputs
        return list(found.values())

    # ---- towers

    def reach(self, value):
        """The values that are computed from one, but not those that only depend on its size."""
        inside, pending = {value}, [value]
        while pending:
            for node in self.consumers.get(pending.pop(), ()):
                if node.op in OPAQUE:
                    continue
                for out in node.outputs:
                    if out and out not in inside:
                        inside.add(out)
                        pending.append(out)
        return inside

    def from_input(self, value):
        """The graph's input that a value is, through what only moves or casts it, and what changes it on the way."""
        changed, seen = [], 0
        while value not in self.graph.inputs:
            node = self.producer.get(value)
            seen += 1
            if node is None or not node.inputs or seen > 1000:
                return None, changed
            if node.op not in MOVES:
                if node.op in OPAQUE:
                    return None, changed
                changed.append(node.op)
            value = node.inputs[0]
        return value, changed

    def events(self, nodes, inside, used):
        """Linears and norms of a tower, in the order of the network; used: the nodes that they consist of."""
        out = []
        for node in nodes:
            if node.index in used:
                continue
            event = self._linear(node, inside, used) if node.op in ("MatMul", "Gemm") else self._norm(node, used)
            if event:
                used.add(node.index)
                out.append(event)
        return out

    def _linear(self, node, inside, used):
        weights = [self.weight(value) for value in node.inputs[:2]]
        if weights[1] is None:
            if weights[0] is not None and node.inputs[1] in inside:
                raise self.strange(node, "weights on the left")
            return None
        tensor = weights[1]
        if len(tensor.shape) != 2:
            raise self.strange(node, f"weights of shape {list(tensor.shape)}")
        if node.op == "MatMul":
            linear = Linear(node, tensor.transposed())
        else:
            a = node.attributes
            if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
                raise self.strange(node, "a Gemm with alpha, beta or transA")
            linear = Linear(node, tensor if a.get("transB", 0) else tensor.transposed())
            if len(node.inputs) > 2 and node.inputs[2]:
                linear.bias = self.weight(node.inputs[2])
                if linear.bias is None:
                    raise self.strange(node, "a bias that is computed")
        if linear.bias is None:
            self._take_bias(linear, used)
        return linear

    def _take_bias(self, linear, used):
        value = linear.node.outputs[0]
        for _ in range(3):
            after = self.consumers.get(value, [])
            if len(after) == 1 and after[0].op in ("Cast", "Identity"):
                value = after[0].outputs[0]
        for node in self.consumers.get(value, []):
            if node.op != "Add":
                continue
            other = [self.weight(v) for v in node.inputs if v != value]
            if len(other) == 1 and other[0] is not None and other[0].shape == linear.weight.shape[:1]:
                linear.bias, linear.value = other[0], node.outputs[0]
                used.add(node.index)
                return

    def _norm(self, node, used):
        if node.op == "LayerNormalization":
            weights = [self.weight(value) for value in node.inputs[1:3]]
            if len(weights) != 2 or None in weights:
                raise self.strange(node, "its weights are computed")
            return Norm(node, *weights, node.attributes.get("epsilon", 1e-5))
        if node.op != "Mul":
            return None
        weight = next((w for w in map(self.weight, node.inputs) if w is not None and len(w.shape) == 1 and w.size > 1),
                      None)
        after = self.consumers.get(node.outputs[0], [])
        while len(after) == 1 and after[0].op in ("Cast", "Identity"):
            after = self.consumers.get(after[0].outputs[0], [])
        add = next((n for n in after if n.op == "Add"), None)
        if weight is None or add is None:
            return None
        bias = next((w for w in map(self.weight, add.inputs) if w is not None and w.shape == weight.shape), None)
        if bias is None:
            return None
        used.add(add.index)
        return Norm(node, weight, bias, self._eps(node))

    def _eps(self, node):
        """The small number that is added below the root."""
        pending, seen = [(value, 0) for value in node.inputs], set()
        while pending:
            value, depth = pending.pop(0)
            before = self.producer.get(value)
            if before is None or depth > 6 or value in seen:
                continue
            seen.add(value)
            if before.op == "Add":
                eps = next((n for n in map(self.number, before.inputs) if n is not None and 0 < n < 1), None)
                if eps is not None:
                    return float(f"{eps:.7g}")
            pending += [(v, depth + 1) for v in before.inputs]
        return 1e-5

    def strange(self, node, why):
        return Refused(f"{self.path}: node {node.name or node.outputs[0]}: {why}: not as CLIP's ViT computes")

    def attention_operand(self, value):
        """Where a projection goes in: the product of two computed matrices, and as which of them."""
        pending, seen = [value], set()
        while pending:
            name = pending.pop(0)
            for node in self.consumers.get(name, ()):
                if node.op in OPAQUE or node.index in seen:
                    continue
                if node.op == "MatMul":
                    return node, node.inputs.index(name)
                seen.add(node.index)
                pending += node.outputs
        return None, None

    def head_width(self, product, side):
        """The last size of the reshape before query times key."""
        value = product.inputs[side]
        for _ in range(12):
            node = self.producer.get(value)
            if node is None or not node.inputs:
                return None
            if node.op == "Reshape":
                sizes = self.integers(node.inputs[1])
                return sizes[-1] if sizes and sizes[-1] and sizes[-1] > 0 else None
            value = next((v for v in node.inputs if self.weight(v) is None), node.inputs[0])
        return None
