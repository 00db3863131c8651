"""Which tensor of an ONNX graph is which part of CLIP: by what the nodes do, since exporters rename, fold and
transpose.

A tower is what is computed from the first convolution, or from the look-up of token ids, up to where the towers meet.
Its nodes that multiply by weights (MatMul and Gemm, each with its Add), normalise (LayerNormalization, or its parts
down to Mul and Add) and add positions come in the order of the network: the file lists nodes in the order of
computation. The three projections of attention may stand in any order; which is which is told by Softmax: its input is
query times key.
"""
import math

from .errors import Refused
from .names import from_hf
from .network import HEAD_WIDTHS, Network, Tower
from .onnx_walk import MOVES, OPAQUE, Linear, Norm, Walker
from .tensors import numbers, scalar

JOINS = ("Mul", "Add", "Sub", "Div", "Concat", "Where", "Einsum", "Conv")


# ---------------------------------------------------------------- the network's order

class TowerReader:
    def __init__(self, walker, kind, start, shared):
        self.walker, self.kind, self.path = walker, kind, walker.path
        self.inside = walker.reach(start) - shared
        nodes = [n for n in walker.graph.nodes if n.op not in OPAQUE and any(o in self.inside for o in n.outputs)
                 and any(v in self.inside for v in n.inputs)]
        self.nodes, self.read = nodes, set()
        self.events = walker.events(nodes, self.inside, self.read)
        self.at, self.out, self.prefix, self.at_projection = 0, {}, kind + "_model.", None

    def need(self, what, kind):
        event = self.events[self.at] if self.at < len(self.events) else None
        if not isinstance(event, kind):
            raise Refused(f"{self.path}: in the {self.kind} tower {what} is not where CLIP's ViT has it, so it is "
                          "another network")
        self.at += 1
        return event

    def peek(self, n, kind):
        return self.at + n < len(self.events) and isinstance(self.events[self.at + n], kind)

    def norm(self, name):
        event = self.need(name, Norm)
        self.put(name + ".weight", event.weight)
        self.put(name + ".bias", event.bias)
        return event.eps

    def put(self, name, tensor):
        self.out[self.prefix + name] = tensor

    def linear(self, name):
        event = self.need(name, Linear)
        self.put(name + ".weight", event.weight)
        if event.bias is None:
            raise Refused(f"{self.path}: in the {self.kind} tower {name} has no bias, so it is another network")
        self.put(name + ".bias", event.bias)
        return event

    def attention(self, layer, width):
        """Three projections, or one of three times the rows; the width of a head."""
        first = self.need("attention", Linear)
        if first.weight.shape[0] == 3 * width:
            if first.bias is None:
                raise Refused(f"{self.path}: in the {self.kind} tower attention has no bias, so it is another network")
            for k, part in enumerate("qkv"):
                self.put(f"{layer}self_attn.{part}_proj.weight", first.weight.rows(k * width, k * width + width))
                self.put(f"{layer}self_attn.{part}_proj.bias", first.bias.rows(k * width, k * width + width))
            product, _ = self.walker.attention_operand(first.value)
            return self.walker.head_width(product, 0) if product else None
        three = [first, self.need("attention", Linear), self.need("attention", Linear)]
        places = [self.walker.attention_operand(linear.value) for linear in three]
        products = [node.index if node else -1 for node, _ in places]
        scores = next((p for p in products if p >= 0 and products.count(p) == 2), None)
        roles = {}
        for linear, (node, side) in zip(three, places):
            part = "v" if node is None or node.index != scores else "qk"[side]
            if node is None or scores is None or part in roles:
                raise Refused(f"{self.path}: in the {self.kind} tower the three projections of attention cannot be "
                              "told apart, so it is another network")
            roles[part] = node
            self.put(f"{layer}self_attn.{part}_proj.weight", linear.weight)
            if linear.bias is None:
                raise Refused(f"{self.path}: in the {self.kind} tower attention has no bias, so it is another network")
            self.put(f"{layer}self_attn.{part}_proj.bias", linear.bias)
        return self.walker.head_width(roles["q"], 0)

    def activation(self, fc1, fc2):
        """By the operators between the two products."""
        between = [n for n in self.nodes if fc1.index < n.index < fc2.index and n.index not in self.read]
        ops = {n.op for n in between}
        if "Gelu" in ops:
            node = next(n for n in between if n.op == "Gelu")
            return "gelu_pytorch_tanh" if node.attributes.get("approximate") == "tanh" else "gelu"
        if "Erf" in ops:
            return "gelu"
        if "Tanh" in ops:
            return "gelu_pytorch_tanh"
        if "Sigmoid" in ops:
            factors = [self.walker.number(v) for n in between if n.op == "Mul" for v in n.inputs]
            if any(f is not None and abs(f - 1.702) < 1e-3 for f in factors):
                return "quick_gelu"
        raise Refused(f"{self.path}: in the {self.kind} tower the activation ({', '.join(sorted(ops)) or 'none'}) is "
                      "not one of quick_gelu, gelu, gelu_pytorch_tanh")

    def blocks(self, width):
        """Layers up to the last norm -> layers, heads, mlp, activation, eps."""
        layers, head, activation, mlp, eps = 0, None, None, 0, None
        while self.peek(0, Norm) and self.peek(1, Linear) and self.peek(2, Linear) and \
                (self.peek(3, Norm) or self.peek(3, Linear)):
            layer = f"encoder.layers.{layers}."
            eps = self.norm(layer + "layer_norm1")
            head = self.attention(layer, width) or head
            self.linear(layer + "self_attn.out_proj")
            self.norm(layer + "layer_norm2")
            fc1 = self.linear(layer + "mlp.fc1")
            fc2 = self.linear(layer + "mlp.fc2")
            mlp, self.last = fc1.weight.shape[0], fc2.node
            found = self.activation(fc1.node, fc2.node)
            if activation not in (None, found):
                raise Refused(f"{self.path}: the {self.kind} tower's layers have different activations")
            activation = found
            layers += 1
        if layers == 0:
            raise Refused(f"{self.path}: the {self.kind} tower has no layers as CLIP's ViT has them")
        if head is None or width % head:
            head = HEAD_WIDTHS.get((width, layers), 64)
        return layers, max(width // head, 1), mlp, activation, eps

    def check_rest(self, allowed):
        """A table that a tower is multiplied by, added or joined to beyond what was read would change the numbers."""
        for node in self.nodes:
            if node.op not in JOINS or node.index in self.read or node.index in allowed:
                continue
            tables = [t for value in node.inputs if value not in self.inside for t in
                      self.walker.weights_behind(value, lambda t: t.size > 1, self.inside)]
            if tables and not (self.kind == "text" and node.op in ("Add", "Where") and self.leads_to_softmax(node) and
                               all(map(self.is_mask, tables))):
                raise self.walker.strange(node, f"{node.op} with a table of shape {list(tables[0].shape)}")

    @staticmethod
    def is_mask(table):
        """Nothing, or so far below zero that nothing is left of it."""
        return table.size <= 1 << 24 and all(((block == 0) | (block < -1e3)).all() for block in table.blocks())

    def leads_to_softmax(self, node):
        """Whether it masks attention: what follows is Softmax, but for what only moves or masks."""
        for _ in range(8):
            after = [n for n in self.walker.consumers.get(node.outputs[0], ()) if n.op not in OPAQUE]
            if any(n.op == "Softmax" for n in after):
                return True
            node = next((n for n in after if n.op in (*MOVES, "Add", "Where", "Max", "Clip")), None)
            if node is None:
                return False
        return False

    def check_pooling(self):
        """The vision tower ends in the class token, the text tower in one position: none in a mean."""
        means = [n for n in self.nodes if n.index > self.last.index
                 and n.op in ("ReduceMean", "GlobalAveragePool", "ReduceMax", "ReduceSum")
                 and self.axes(n) == [1] and (self.at_projection is None or n.index < self.at_projection.index)]
        if means:
            raise self.walker.strange(means[0], f"{means[0].op} over the positions")

    def axes(self, node):
        axes = node.attributes.get("axes")
        return axes if axes is not None else self.walker.integers(node.inputs[1]) if len(node.inputs) > 1 else None

    def check_causal(self):
        """Something must mask the text tower's attention: one that sees both ways has no place in a CLIPModel."""
        for node in self.nodes:
            if node.op in ("Add", "Where") and self.leads_to_softmax(node):
                return
        raise Refused(f"{self.path}: the text tower's attention has no mask: it sees both ways, which a CLIPModel does "
                      "not")

    def projection(self, name):
        """The width of the embedding; None where the graph ends before."""
        if self.at == len(self.events):
            return None
        event = self.need("the projection", Linear)
        self.at_projection = event.node
        if event.bias is not None:
            raise Refused(f"{self.path}: the {self.kind} tower's projection has a bias, which has no place in a "
                          "CLIPModel")
        self.out[name] = event.weight
        if self.at != len(self.events):
            raise Refused(f"{self.path}: the {self.kind} tower goes on behind its projection, so it is another network")
        return event.weight.shape[0]

    def table(self, what, columns, after=None):
        """The one weight of rows of that many columns that an Add brings in first: the positions."""
        for node in self.nodes:
            if node.op != "Add" or (after is not None and node.index < after):
                continue
            for value in node.inputs:
                if value in self.inside:
                    continue
                found = self.walker.weights_behind(
                    value, lambda t: t.shape and t.shape[-1] == columns and t.size > columns, self.inside)
                if len(found) == 1:
                    table = found[0].reshaped((found[0].size // columns, columns))
                    if table is not None:
                        self.read.add(node.index)
                        return table
            break
        raise Refused(f"{self.path}: in the {self.kind} tower {what} are not found")


def _one_row(tensor, width):
    """The class token, which a graph of a fixed batch may hold once for every picture; None when they differ."""
    rows = tensor.reshaped((tensor.size // width, width))
    if rows is None or rows.shape[0] > 4096 or (rows.array() != rows.rows(0, 1).array()).any():
        return None
    return rows.rows(0, 1).reshaped((width,))


def _vision(walker, conv, shared, activation, heads):
    weight = walker.weight(conv.inputs[1])
    name, changed = walker.from_input(conv.inputs[0])
    if changed:
        raise Refused(f"{walker.path}: the graph prepares its pictures by itself ({', '.join(reversed(changed))}), "
                      "which is not read")
    if len(conv.inputs) > 2 and conv.inputs[2]:
        raise Refused(f"{walker.path}: the first convolution has a bias: SigLIP is not supported")
    reader = TowerReader(walker, "vision", conv.outputs[0], shared)
    width, patch = weight.shape[0], weight.shape[3]
    concat = next((n for n in reader.nodes if n.op == "Concat"), None)
    classes = [t for value in (concat.inputs if concat else []) if value not in reader.inside
               for t in walker.weights_behind(value, lambda t: t.shape[-1:] == (width,), reader.inside)]
    if len(classes) != 1:
        raise Refused(f"{walker.path}: in the vision tower the class token is not found: SigLIP and others without one "
                      "are not supported")
    reader.put("embeddings.class_embedding", _one_row(classes[0], width))
    reader.put("embeddings.patch_embedding.weight", weight)
    positions = reader.table("the positions", width, concat.index)
    reader.put("embeddings.position_embedding.weight", positions)
    reader.norm("pre_layrnorm")
    layers, n_heads, mlp, found, eps = reader.blocks(width)
    reader.norm("post_layernorm")
    embedding = reader.projection("visual_projection.weight")
    reader.check_rest({conv.index, concat.index})
    reader.check_pooling()
    grid = round(max(positions.shape[0] - 1, 0) ** 0.5)
    shape = walker.graph.inputs.get(name) or []
    image = shape[2] if len(shape) == 4 and shape[2] and shape[2] == shape[3] else grid * patch
    if grid * grid + 1 != positions.shape[0] or image // patch != grid:
        raise Refused(f"{walker.path}: the vision tower has {positions.shape[0]} positions: no square of patches")
    tower = Tower("vision", width, layers, heads or n_heads, mlp, activation or found, eps, image=image, patch=patch)
    return tower, embedding, reader


def _text(walker, gather, shared, activation):
    table = walker.weight(gather.inputs[0])
    reader = TowerReader(walker, "text", gather.outputs[0], shared)
    width = table.shape[1]
    reader.put("embeddings.token_embedding.weight", table)
    positions = reader.table("the positions", width)
    reader.put("embeddings.position_embedding.weight", positions)
    layers, heads, mlp, found, eps = reader.blocks(width)
    reader.norm("final_layer_norm")
    embedding = reader.projection("text_projection.weight")
    reader.check_rest({gather.index})
    reader.check_pooling()
    reader.check_causal()
    tower = Tower("text", width, layers, heads, mlp, activation or found, eps, vocabulary=table.shape[0],
                  context=positions.shape[0])
    return tower, embedding, reader


def _starts(walker):
    """The nodes at which towers begin."""
    images, texts = [], []
    for node in walker.graph.nodes:
        if node.op == "Conv" and len(node.inputs) > 1:
            weight = walker.weight(node.inputs[1])
            if weight is not None and len(weight.shape) == 4:
                images.append((node, weight))
        if node.op == "Gather" and len(node.inputs) > 1:
            weight = walker.weight(node.inputs[0])
            if weight is not None and len(weight.shape) == 2 and walker.from_input(node.inputs[1])[0]:
                texts.append(node)
    if len(images) > 1 or any(w.shape[1] != 3 or w.shape[2] != w.shape[3] for _, w in images):
        raise Refused(f"{walker.path}: it has {len(images)} convolutions where CLIP's ViT has one: ResNet, timm and "
                      "other towers are not supported")
    if len(texts) > 1:
        raise Refused(f"{walker.path}: it looks up several tables by its ids: text towers of other families are not "
                      "supported")
    return images[0][0] if images else None, texts[0] if texts else None


def _logit_scale(walker, readers):
    """The logarithm of what the cosines are multiplied by: behind the projections, or itself an output."""
    last = max(reader.events[-1].node.index for reader in readers)
    products = [(value, node.index > last) for node in walker.graph.nodes if node.op == "Mul" for value in node.inputs]
    for value, behind in products + [(value, True) for value in walker.graph.outputs]:
        exponential = _through_exp(walker, value)
        number = walker.number(exponential) if exponential is not None else None
        if number is not None:
            return number
        number = walker.number(value) if behind else None
        if number is not None and number > 0:
            return math.log(number)
    return None


def _through_exp(walker, value):
    for _ in range(4):
        node = walker.producer.get(value)
        if node is None or not node.inputs:
            return None
        if node.op == "Exp":
            return node.inputs[0]
        if node.op not in ("Cast", "Identity"):
            return None
        value = node.inputs[0]
    return None


def network_of_graphs(graphs, activation, heads):
    """(Network, {name: Tensor}) of one file with one or both towers, or of two with one each."""
    try:
        return _network(graphs, activation, heads)
    except (RecursionError, IndexError, KeyError, ValueError, TypeError, AttributeError):
        raise Refused(f"{graphs[0].path}: the graph is malformed") from None


def _network(graphs, activation, heads):
    towers, tensors, embeddings, scale = {}, {}, {}, None
    path = graphs[0].path
    for graph in graphs:
        walker = Walker(graph)
        conv, gather = _starts(walker)
        shared = walker.reach(conv.outputs[0]) & walker.reach(gather.outputs[0]) if conv and gather else set()
        if conv is None and gather is None:
            raise Refused(f"{graph.path}: there is neither a convolution of pictures nor a look-up of token ids in it")
        readers = []
        for kind, start in (("vision", conv), ("text", gather)):
            if start is None:
                continue
            if kind in towers:
                raise Refused(f"{graph.path}: both files have a {kind} tower")
            if kind == "vision":
                towers[kind], embeddings[kind], reader = _vision(walker, start, shared, activation, heads)
            else:
                towers[kind], embeddings[kind], reader = _text(walker, start, shared, activation)
            tensors.update(reader.out)
            readers.append(reader)
        if conv and gather:
            scale = _logit_scale(walker, readers)
    missing = [kind for kind, embedding in embeddings.items() if embedding is None]
    if missing and len(towers) > 1:
        raise Refused(f"{path}: the {missing[0]} tower ends before its projection: export the model that has it")
    if len(set(embeddings.values())) > 1:
        raise Refused(f"{path}: the towers' embeddings have {embeddings['vision']} and {embeddings['text']} numbers: "
                      "they are of different models")
    embedding = next(iter(embeddings.values()))
    network = Network(embedding or next(iter(towers.values())).width, towers.get("vision"), towers.get("text"),
                      projected=embedding is not None)
    for tower in network.towers():
        tower.check(path)
    if scale is not None and len(towers) == 2:
        tensors["logit_scale"] = scalar(scale, path)
    for name, tensor in tensors.items():
        if tensor is None or numbers(tensor.shape) == 0:
            raise Refused(f"{path}: {name} cannot be had as it is stored")
    if network.vision and network.text and "logit_scale" not in tensors:
        return network, tensors
    return network, from_hf(tensors, network, path)[0]
