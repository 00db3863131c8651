"""Small checkpoints, written without PyTorch: networks of random numbers, PyTorch's two containers by the pickle
module."""
import contextlib
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

KINDS = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


class View:
    """A tensor as PyTorch stores it: a storage (a flat array), a first number, sizes and strides."""

    def __init__(self, storage, shape, strides=None, offset=0, kind=None, parameter=False):
        self.storage, self.shape, self.offset, self.parameter = storage, tuple(shape), offset, parameter
        self.kind = kind or KINDS[storage.dtype.str[1:]]
        if strides is None:
            strides, step = [], 1
            for n in reversed(self.shape):
                strides.insert(0, step)
                step *= n
        self.strides = tuple(strides)


def view(array):
    return View(np.ascontiguousarray(array).reshape(-1), array.shape)


@contextlib.contextmanager
def fake_torch():
    """Names that pickle can write down; there is no PyTorch here."""
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in (*KINDS.values(), "BFloat16Storage", "ComplexFloatStorage"):
        kind = type(name, (), {"__module__": "torch"})
        setattr(torch, name, kind)
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *a: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    torch._utils = utils
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch, utils
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def pickled(tree, legacy=False, protocol=2):
    """The pickle that torch.save would write, and the storages in order."""
    storages, out = [], io.BytesIO()

    def key(storage):
        for i, other in enumerate(storages):
            if other is storage:
                return str(i)
        storages.append(storage)
        return str(len(storages) - 1)

    with fake_torch() as (torch, utils):
        class Storage:
            def __init__(self, owner):
                self.owner = owner

        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                if not isinstance(value, Storage):
                    return None
                kind, storage = getattr(torch, value.owner.kind), value.owner.storage
                return ("storage", kind, key(storage), "cpu", storage.size) + ((None,) if legacy else ())

            def reducer_override(self, value):
                if not isinstance(value, View):
                    return NotImplemented
                call = utils._rebuild_tensor_v2, (Storage(value), value.offset, value.shape, value.strides, False, {})
                if value.parameter:
                    plain = View(value.storage, value.shape, value.strides, value.offset, value.kind)
                    return utils._rebuild_parameter, (plain, True, {})
                return call

        Pickler(out, protocol).dump(tree)
    return out.getvalue(), storages


def save_zip(path, tree, protocol=2, root="archive", pickle_bytes=None, storages=None, **more):
    """torch.save(tree, path); more: further entries of the archive."""
    if pickle_bytes is None:
        pickle_bytes, storages = pickled(tree, protocol=protocol)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{root}/data.pkl", pickle_bytes)
        archive.writestr(f"{root}/byteorder", more.pop("byteorder", "little"))
        for i, storage in enumerate(storages or []):
            archive.writestr(f"{root}/data/{i}", storage.tobytes())
        archive.writestr(f"{root}/version", "3\n")
        for name, value in more.items():
            archive.writestr(f"{root}/{name}", value)


def save_legacy(path, tree, pickle_bytes=None):
    body, storages = pickled(tree, legacy=True)
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True,
                                                     "type_sizes": {}}):
            file.write(pickle.dumps(value, 2))
        file.write(body if pickle_bytes is None else pickle_bytes)
        file.write(pickle.dumps([str(i) for i in range(len(storages))], 2))
        for storage in storages:
            file.write(struct.pack("<q", storage.size) + storage.tobytes())


def save_safetensors(path, arrays, header=None):
    listed, at = {}, 0
    for name, array in arrays.items():
        dtype = {"f4": "F32", "f2": "F16", "i8": "I64", "f8": "F64"}[array.dtype.str[1:]]
        listed[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(listed).encode() if header is None else header
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())


# ---------------------------------------------------------------- networks

WIDTH, EMBED, PATCH, GRID, VOCAB, CONTEXT, MLP = 64, 16, 4, 2, 50, 8, 96


def openai_arrays(seed=0, layers=1, vocabulary=VOCAB, marks=True, dtype=np.float32):
    """A state_dict with OpenAI's names."""
    rng = np.random.default_rng(seed)

    def values(*shape):
        return (rng.standard_normal(shape) * 0.1).astype(dtype)

    d, out = WIDTH, {}
    out.update({"visual.class_embedding": values(d), "visual.conv1.weight": values(d, 3, PATCH, PATCH),
                "visual.positional_embedding": values(GRID * GRID + 1, d), "visual.proj": values(d, EMBED),
                "token_embedding.weight": values(vocabulary, d), "positional_embedding": values(CONTEXT, d),
                "text_projection": values(d, EMBED), "logit_scale": np.array(2.5, dtype)})
    for norm in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        out.update({norm + ".weight": values(d), norm + ".bias": values(d)})
    for tower in ("visual.", ""):
        for i in range(layers):
            block = f"{tower}transformer.resblocks.{i}."
            out.update({block + "attn.in_proj_weight": values(3 * d, d), block + "attn.in_proj_bias": values(3 * d)})
            for leaf, shape in (("ln_1.weight", (d,)), ("ln_1.bias", (d,)), ("ln_2.weight", (d,)), ("ln_2.bias", (d,)),
                                ("attn.out_proj.weight", (d, d)), ("attn.out_proj.bias", (d,)),
                                ("mlp.c_fc.weight", (MLP, d)), ("mlp.c_fc.bias", (MLP,)),
                                ("mlp.c_proj.weight", (d, MLP)), ("mlp.c_proj.bias", (d,))):
                out[block + leaf] = values(*shape)
    if marks:
        out.update({"input_resolution": np.array(GRID * PATCH), "context_length": np.array(CONTEXT),
                    "vocab_size": np.array(vocabulary)})
    return out


def hf_arrays(arrays):
    """The same network with Hugging Face's names: what converting must give, said here a second time and by hand."""
    out = {}
    for name, value in arrays.items():
        kind = "vision_model." if name.startswith("visual.") else "text_model."
        short = name.removeprefix("visual.")
        if short in ("input_resolution", "context_length", "vocab_size"):
            continue
        if short.startswith("transformer.resblocks."):
            _, _, i, leaf = short.split(".", 3)
            layer = f"{kind}encoder.layers.{i}."
            if leaf.startswith("attn.in_proj_"):
                for part, piece in zip("qkv", np.split(value, 3)):
                    out[f"{layer}self_attn.{part}_proj.{leaf.removeprefix('attn.in_proj_')}"] = piece
                continue
            for theirs, ours in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                                 ("attn.out_proj", "self_attn.out_proj"),
                                 ("c_fc", "fc1"), ("c_proj", "fc2")):
                leaf = leaf.replace(theirs, ours)
            out[layer + leaf] = value
            continue
        named = {"class_embedding": "embeddings.class_embedding", "conv1.weight": "embeddings.patch_embedding.weight",
                 "positional_embedding": "embeddings.position_embedding.weight", "ln_pre.weight": "pre_layrnorm.weight",
                 "ln_pre.bias": "pre_layrnorm.bias", "ln_post.weight": "post_layernorm.weight",
                 "ln_post.bias": "post_layernorm.bias", "ln_final.weight": "final_layer_norm.weight",
                 "ln_final.bias": "final_layer_norm.bias",
                 "token_embedding.weight": "embeddings.token_embedding.weight"}.get(short)
        if named:
            out[kind + named] = value
        elif short == "proj":
            out["visual_projection.weight"] = value.T
        elif short == "text_projection":
            out["text_projection.weight"] = value.T
        else:
            out[name] = value
    return out


def hf_config(**more):
    tower = {"hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": 1, "num_attention_heads": 1}
    return {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": EMBED,
            "text_config": {**tower, "vocab_size": VOCAB, "max_position_embeddings": CONTEXT,
                            "eos_token_id": VOCAB - 1},
            "vision_config": {**tower, "image_size": GRID * PATCH, "patch_size": PATCH}, **more}


def open_clip_config(vision=None, text=None, preprocess=None, **more):
    return {"model_cfg": {"embed_dim": EMBED, **more,
                          "vision_cfg": {"image_size": GRID * PATCH, "patch_size": PATCH, "width": WIDTH, "layers": 1,
                                         "head_width": 32, "mlp_ratio": 1.5, **(vision or {})},
                          "text_cfg": {"context_length": CONTEXT, "vocab_size": VOCAB, "width": WIDTH, "heads": 2,
                                       "layers": 1, "mlp_ratio": 1.5, **(text or {})}},
            "preprocess_cfg": preprocess or {}}


def read_folder(folder):
    """{name: float32 array} of a converted folder, and its dtypes."""
    arrays, dtypes = {}, set()
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        n = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + n])
        assert header.pop("__metadata__") == {"format": "pt"} and n % 8 == 0
        for name, entry in header.items():
            first, end = entry["data_offsets"]
            raw = data[8 + n + first:8 + n + end]
            dtypes.add(entry["dtype"])
            if entry["dtype"] == "BF16":
                array = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
            else:
                array = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype("<f4")
            assert name not in arrays
            arrays[name] = array.reshape(entry["shape"])
    return arrays, dtypes
