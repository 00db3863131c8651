#!/usr/bin/env python3
"""Makes tests/goldens/models/: for each model its configuration, the list of its tensors and the embeddings
that transformers or open_clip compute.

The weights are synthetic and stored nowhere: tests/synthetic.c computes the same ones. The rule: byte i of a
tensor is the top byte of mix(fnv1a(name) ^ i * 0x9e3779b9), mix being two rounds of xor-shift and multiply,
and b = that byte gives the value
  of a scalar, or shape [1]      85/32, and -161/16 for a logit_bias
  of rank 1, named *.weight      1 + (b // 4 - 32) / 128       (LayerNorm)
  of rank 1 otherwise            (2b - 255) / 2048
  of rank 2 and more             (2b - 255) / 256 / 2^e, e the largest with 4^e <= elements per row
  of an integer tensor           i
so that no value has more than eight significant bits: F32, F16 and BF16 files hold the same numbers.
Picture k is the floats (2b - 255) / 256 of the name pixels.k, [3, H, W], plus for each channel a colour,
(2b - 255) / 64 of the name colour.k; or it is RGB by a formula (formula_rgb).

Every folder is written with the real file names and read back by the real library.
"""
import argparse
import gzip
import json
import os
import shutil
import struct
import sys
import tempfile
import warnings

import numpy as np

MASK = 0xFFFFFFFF


def fnv1a(name):
    h = 0x811C9DC5
    for byte in name.encode():
        h = ((h ^ byte) * 0x01000193) & MASK
    return h


def hash_bytes(name, n):
    x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B9) ^ np.uint32(fnv1a(name))
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x >> np.uint32(24)).astype(np.int32)


def weights(name, dtype, shape):
    n = int(np.prod(shape, dtype=np.int64))
    if dtype in ("I64", "U8"):
        return np.arange(n).reshape(shape)
    if shape in ((), (1,)):
        return np.full(shape, -161 / 16 if name.endswith("logit_bias") else 85 / 32, dtype=np.float32)
    b = hash_bytes(name, n)
    if len(shape) == 1:
        values = 1 + (b // 4 - 32) / 128 if name.endswith(".weight") else (2 * b - 255) / 2048
    else:
        e = 0
        while n and 4 ** (e + 1) <= n // shape[0]:
            e += 1
        values = (2 * b - 255) / (256 << e)
    return values.astype(np.float32).reshape(shape)


def noise_pixels(which, height, width):
    noise = (2 * hash_bytes(f"pixels.{which}", 3 * height * width) - 255) / 256
    colour = (2 * hash_bytes(f"colour.{which}", 3) - 255) / 64
    return (noise.reshape(1, 3, height, width) + colour.reshape(1, 3, 1, 1)).astype(np.float32)


def formula_rgb(width, height):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((7 * x + 13 * y + 29 * c + 5 * ((x * y) % 31)) % 256).astype(np.uint8)


# ---------------------------------------------------------------- the models

def hf(text, vision, projection=40, **top):
    return {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": projection,
            "text_config": text, "vision_config": vision, **top}


def text_cfg(width, mlp, layers, heads, act, vocab=120, context=20, eos=2, **more):
    return {"vocab_size": vocab, "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers,
            "num_attention_heads": heads, "max_position_embeddings": context, "hidden_act": act,
            "bos_token_id": vocab - 2, "pad_token_id": 1, "eos_token_id": eos, **more}


def vision_cfg(width, mlp, layers, heads, act, image, patch, **more):
    return {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers,
            "num_attention_heads": heads, "hidden_act": act, "image_size": image, "patch_size": patch, **more}


def processor(size, **more):
    return {"crop_size": size, "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": size, **more}


OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def oc(embed, vision, text, preprocess=None, **top):
    return {"model_cfg": {"embed_dim": embed, "vision_cfg": vision, "text_cfg": text, **top},
            "preprocess_cfg": {"mean": OPENAI_MEAN, "std": OPENAI_STD, **(preprocess or {})}}


N_MERGES = 600
N_WORDS = 512 + N_MERGES + 2
TEXTS = ["a photo of a cat", "Hello, World!", "sch\u00c3\u00b6n caf\u00e9 &amp;amp; it\u2019s 2024", "",
         "a long text that goes on and on until it is cut, and then some more of it", "stop <|endoftext|> and go",
         "\u0130STANBUL \u01c5 \ufb01sh"]

# Ids of the small vocabularies: 118 begins, 119 ends; 2 and 7 are the other ids that configs call the end.
FULL = [118] + [(11 * i) % 100 + 3 for i in range(18)] + [119]
SHORT = [118, 17, 45, 9, 88, 23, 119]
IDS = [SHORT, [118, 119], FULL, [118, 60, 61, 119] + [119] * 16, [118, 33, 2, 34, 7, 35, 119, 36, 7, 119, 5],
       [118, 90, 2, 91, 7, 92], [50]]
IDS_ABOVE = IDS + [[118, 5, 121, 8, 119, 9]]  # with an id above the end's
IDS_7 = [[118, 17, 45, 9, 88, 23, 7], [118, 119, 7], FULL[:19] + [7], [118, 60, 7] + [7] * 17,
         [118, 33, 2, 34, 7, 35, 119, 36, 7, 119, 5], SHORT]

MODELS = [
    # Heads that are not width / 64, a picture that is no multiple of the patch, the historical eos 2.
    dict(name="hf-quick", lib="hf", ids=IDS, dtype="F32",
         config=hf(text_cfg(64, 160, 3, 4, "quick_gelu"), vision_cfg(96, 200, 3, 3, "quick_gelu", 50, 16)),
         preprocessor=processor(50), rgb=[(112, 60), (50, 50), (91, 160)]),
    # erf GELU, an eps that is not 1e-5, the end token by its id.
    dict(name="hf-erf", lib="hf", ids=IDS_ABOVE, dtype="F32",
         config=hf(text_cfg(72, 288, 2, 3, "gelu", vocab=124, eos=119, layer_norm_eps=1e-3),
                   vision_cfg(160, 320, 2, 2, "gelu", 42, 14, layer_norm_eps=1e-2), projection=56),
         preprocessor=processor(42, resample=2), rgb=[(64, 61)]),
    # Both spellings of tanh GELU, an end id that is not the largest, F16, new keys of the preprocessor.
    dict(name="hf-tanh", lib="hf", ids=IDS_7, dtype="F16",
         config=hf(text_cfg(48, 192, 3, 6, "gelu_pytorch_tanh", eos=7),
                   vision_cfg(80, 120, 3, 5, "gelu_new", 64, 32), projection=64),
         preprocessor={**processor(64), "size": {"shortest_edge": 70}, "crop_size": {"height": 64, "width": 64}},
         rgb=[(75, 140)]),
    # text_config_dict and vision_config_dict override text_config and vision_config, with defaults for what they lack.
    dict(name="hf-override", lib="hf", ids=IDS, dtype="BF16",
         config=hf(text_cfg(64, 100, 5, 8, "gelu", eos=7, layer_norm_eps=1e-2),
                   vision_cfg(64, 100, 1, 4, "gelu", 224, 16, layer_norm_eps=1e-2), projection=24,
                   text_config_dict={k: v for k, v in text_cfg(64, 128, 2, 4, "", eos=2).items() if k != "hidden_act"},
                   vision_config_dict={k: v for k, v in vision_cfg(64, 128, 2, 2, "", 48, 16).items()
                                       if k != "hidden_act"})),
    # Three shards that begin at odd addresses, position_ids and other extras, three dtypes, a projection_dim inside
    # that does not count.
    dict(name="hf-sharded", lib="hf", ids=IDS[:3], dtype="mixed", shards=3,
         odd=[("a.byte", "U8", (1,)), ("two.bytes", "U8", (2,)), ("three.bytes", "U8", (3,))],
         extras=[("text_model.embeddings.position_ids", "I64", (1, 20)),
                 ("vision_model.embeddings.position_ids", "I64", (1, 10)),
                 ("text_model.pooler.dense.weight", "F16", (3, 5)), ("empty", "F32", (0, 7))],
         config=hf(text_cfg(64, 128, 2, 1, "quick_gelu", projection_dim=99),
                   vision_cfg(64, 128, 2, 4, "quick_gelu", 48, 16, projection_dim=98), projection=32)),
    # The sub-configs all but empty: 12 layers of 8 and 12 heads, 77 places, 49408 ids, eos 49407, 224 / 32.
    dict(name="hf-defaults", lib="hf", dtype="F16",
         ids=[[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 2, 49407, 49407, 5],
              [49406] + list(range(500, 575)) + [49407]],
         config={"model_type": "clip", "text_config": {"hidden_size": 24, "intermediate_size": 56},
                 "vision_config": {"hidden_size": 36, "intermediate_size": 60}, "projection_dim": 28}),
    # Stand-alone folders: with and without projection, prefix, and as older versions spelt them.
    dict(name="hf-text", lib="hf", cls="CLIPTextModel", ids=IDS[:4], dtype="F32",
         config={"architectures": ["CLIPTextModel"], "model_type": "clip_text_model",
                 **text_cfg(48, 96, 2, 4, "quick_gelu")}),
    dict(name="hf-text-prefix", lib="hf", cls="CLIPTextModel", ids=IDS[:4], dtype="F16", prefix="text_model.",
         extras=[("text_model.embeddings.position_ids", "I64", (1, 20))],
         config={"architectures": ["CLIPTextModel"], "model_type": "clip_text_model",
                 **text_cfg(48, 96, 2, 4, "gelu", eos=119, projection_dim=32)}),
    dict(name="hf-text-projection", lib="hf", cls="CLIPTextModelWithProjection", ids=IDS[:4], dtype="F32",
         config={"architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model",
                 **text_cfg(48, 96, 2, 4, "gelu", eos=119, projection_dim=32)}),
    dict(name="hf-vision", lib="hf", cls="CLIPVisionModel", dtype="F32",
         config={"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model",
                 **vision_cfg(48, 96, 2, 4, "quick_gelu", 40, 8)}),
    dict(name="hf-vision-prefix", lib="hf", cls="CLIPVisionModel", dtype="F32", prefix="vision_model.",
         config={"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model",
                 **vision_cfg(48, 96, 2, 4, "gelu", 40, 8, projection_dim=32)}),
    dict(name="hf-vision-projection", lib="hf", cls="CLIPVisionModelWithProjection", dtype="BF16",
         config={"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model",
                 **vision_cfg(48, 96, 2, 4, "gelu", 40, 8, projection_dim=32)}),
    # open_clip: head_width, the mlp_ratio of g/14, quick_gelu.
    dict(name="oc-quick", lib="oc", ids=IDS, dtype="F32",
         config=oc(40, {"image_size": 50, "layers": 3, "width": 96, "head_width": 32, "patch_size": 16,
                        "mlp_ratio": 4.3637},
                   {"context_length": 20, "vocab_size": 120, "width": 64, "heads": 4, "layers": 3, "mlp_ratio": 4.9231},
                   quick_gelu=True), rgb=[(112, 60), (91, 160)]),
    # Defaults: erf GELU, heads of 64 in pictures, 8 heads in texts; F16; a scalar written as [1].
    dict(name="oc-erf", lib="oc", ids=IDS[:5], dtype="F16", scalar_shape=(1,),
         config=oc(48, {"image_size": 48, "layers": 2, "width": 128, "patch_size": 16},
                   {"context_length": 20, "vocab_size": 120, "width": 64, "layers": 2},
                   preprocess={"interpolation": "bilinear", "resize_mode": "squash"}), rgb=[(64, 61)]),
    # As CLIPA: no ln_pre, mean of the patches and then the LayerNorm, texts that see both ways, last position.
    dict(name="oc-clipa", lib="oc", ids=IDS[:4], dtype="F32",
         config=oc(40, {"image_size": 56, "layers": 3, "width": 176, "head_width": 88, "mlp_ratio": 4.3637,
                        "patch_size": 14, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
                   {"context_length": 20, "vocab_size": 120, "width": 60, "heads": 5, "layers": 2, "pool_type": "last",
                    "no_causal_mask": True})),
    # The mean after the LayerNorm; texts that see both ways, pads included, pooled at the largest id.
    dict(name="oc-mean", lib="oc", ids=IDS, dtype="F32",
         config=oc(32, {"image_size": 48, "layers": 2, "width": 104, "head_width": 52, "patch_size": 16,
                        "pool_type": "avg"},
                   {"context_length": 20, "vocab_size": 120, "width": 48, "heads": 4, "layers": 2,
                    "no_causal_mask": True}, custom_text=True)),
    # custom_text with an end id, a projection with a bias, tanh GELU, an eps, a logit_bias, LayerNorm after class
    # pooling.
    dict(name="oc-eos", lib="oc", ids=IDS_7, dtype="BF16",
         config=oc(40, {"image_size": 48, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16,
                        "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3},
                        "final_ln_after_pool": True},
                   {"context_length": 20, "vocab_size": 120, "width": 64, "heads": 4, "layers": 2, "pool_type": "eos",
                    "eos_id": 7, "proj_bias": True, "act_kwargs": {"approximate": "tanh"},
                    "norm_kwargs": {"eps": 1e-3}}, custom_text=True, init_logit_bias=-10)),
    # A picture that is not square, the first position, no custom_text but a projection with a bias.
    dict(name="oc-first", lib="oc", ids=IDS[:3], dtype="F32", rgb=[(97, 53), (60, 90)],
         config=oc(40, {"image_size": [64, 40], "layers": 2, "width": 64, "head_width": 8, "patch_size": 16},
                   {"context_length": 20, "vocab_size": 120, "width": 64, "heads": 2, "layers": 2, "pool_type": "first",
                    "proj_bias": True, "no_causal_mask": True})),
    # custom_text whose file has the older names without "text."; the last of 20 positions of a causal text.
    dict(name="oc-old-names", lib="oc", ids=IDS[:5], dtype="F32", strip="text.",
         file="open_clip_pytorch_model.safetensors",
         config=oc(24, {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
                   {"context_length": 20, "vocab_size": 120, "width": 32, "heads": 2, "layers": 2,
                    "pool_type": "last"}, custom_text=True)),
    # Texts without a projection; positions of the kind that is computed once and stored.
    dict(name="oc-unprojected", lib="oc", ids=IDS[:5], dtype="F32",
         config=oc(32, {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8,
                        "pos_embed_type": "sin_cos_2d"},
                   {"context_length": 20, "vocab_size": 120, "width": 32, "heads": 2, "layers": 2,
                    "proj_type": "none"}, custom_text=True)),
    # From words to vectors: the real merges cut to N_MERGES.
    dict(name="hf-words", lib="hf", ids=[], dtype="F32", words=True,
         config=hf(text_cfg(32, 64, 2, 2, "quick_gelu", vocab=N_WORDS, eos=N_WORDS - 1),
                   vision_cfg(32, 64, 2, 2, "quick_gelu", 32, 16), projection=24)),
    dict(name="oc-words", lib="oc", ids=[], dtype="F32", words=True,
         config=oc(24, {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
                   {"context_length": 20, "vocab_size": N_WORDS, "width": 32, "heads": 2, "layers": 2})),
    # The full size.
    dict(name="hf-vit-b-32", lib="hf", dtype="BF16", pictures=2,
         ids=[[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 49407], [49406] + list(range(500, 575)) + [49407]],
         config=hf(text_cfg(512, 2048, 12, 8, "quick_gelu", vocab=49408, context=77),
                   vision_cfg(768, 3072, 12, 12, "quick_gelu", 224, 32), projection=512),
         preprocessor=processor(224), rgb=[(640, 480)]),
]


# ---------------------------------------------------------------- words

def read_merges(path):
    """The first N_MERGES of OpenAI's bpe_simple_vocab_16e6.txt.gz."""
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [line.rstrip("\n") for line in f][1:N_MERGES + 1]


def write_words(merges, folder):
    symbols = {b: chr(b) for b in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    order = list(symbols.values())
    order += [chr(256 + i) for i in range(256 - len(order))]
    tokens = order + [t + "</w>" for t in order] + [m.replace(" ", "") for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == N_WORDS == len(set(tokens))
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f, ensure_ascii=False)
        f.write("\n")
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")


def escape(c):
    return c if 32 < ord(c) < 127 and c != "\\" else "".join(f"\\x{b:02x}" for b in c.encode())


def text_ids(text, reference, folder, merges, context=20):
    if reference == "hf":
        import transformers
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        return tokenizer(text, truncation=True, max_length=context)["input_ids"]
    import open_clip.tokenizer
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "bpe.txt.gz")
        with gzip.open(path, "wt", encoding="utf-8") as f:
            f.write("#version: 0.2\n" + "\n".join(merges))  # a last newline would be one more merge
        tokenizer = open_clip.tokenizer.SimpleTokenizer(bpe_path=path, context_length=context)
        return tokenizer([text])[0].tolist()


# ---------------------------------------------------------------- files

def write_safetensors(path, tensors):
    """tensors: [(name, dtype, array)], written in this order, with the numbers the dtype holds."""
    header, at, blobs = {}, 0, []
    for name, dtype, array in tensors:
        if dtype == "BF16":
            blob = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        else:
            blob = array.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8", "U8": "u1"}[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def tensor_shapes(model):
    """[(name, shape)] as the library itself would save the model."""
    import torch
    with tempfile.TemporaryDirectory() as folder:
        if model["lib"] == "hf":
            import transformers
            write_configs(model, folder)
            cls = getattr(transformers, model.get("cls", "CLIPModel"))
            cls(cls.config_class.from_pretrained(folder)).save_pretrained(folder)
            from safetensors import safe_open
            names = {}
            for file in sorted(os.listdir(folder)):
                if file.endswith(".safetensors"):
                    with safe_open(os.path.join(folder, file), "np") as f:
                        names.update({k: tuple(f.get_slice(k).get_shape()) for k in f.keys()})
        else:
            import open_clip
            write_configs(model, folder)
            net = open_clip.create_model("local-dir:" + folder, load_weights=False)
            names = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    return sorted(names.items())


def file_tensors(model):
    """[(file, [(name, dtype, shape)])] as the test's folder holds them."""
    listed = []
    for i, (name, shape) in enumerate(tensor_shapes(model)):
        if model.get("strip"):
            name = name.removeprefix(model["strip"])
        if model.get("prefix"):
            name = model["prefix"] + name
        if shape == () and "scalar_shape" in model:
            shape = model["scalar_shape"]
        dtype = ("F32", "F16", "BF16")[i // 3 % 3] if model["dtype"] == "mixed" else model["dtype"]
        listed.append((name, dtype, shape))
    listed = model.get("odd", []) + listed + model.get("extras", [])
    n = model.get("shards", 1)
    if n == 1:
        usual = "model.safetensors" if model["lib"] == "hf" else "open_clip_model.safetensors"
        return [(model.get("file", usual), listed)]
    return [(f"model-{k + 1:05}-of-{n:05}.safetensors", listed[k::n]) for k in range(n)]


def write_configs(model, folder):
    def write(name, what):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(what, f, indent=1)
            f.write("\n")
    write("config.json" if model["lib"] == "hf" else "open_clip_config.json", model["config"])
    if "preprocessor" in model:
        write("preprocessor_config.json", model["preprocessor"])


def write_folder(model, files, folder):
    write_configs(model, folder)
    weight_map = {}
    for file, listed in files:
        write_safetensors(os.path.join(folder, file), [(n, d, weights(n, d, tuple(s))) for n, d, s in listed])
        weight_map.update({n: file for n, _, _ in listed})
    if len(files) > 1:
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": weight_map}, f)


# ---------------------------------------------------------------- the reference's numbers

class HfNet:
    def __init__(self, model, folder):
        import torch, transformers
        self.torch = torch
        cls = getattr(transformers, model.get("cls", "CLIPModel"))
        self.net, info = cls.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
        self.net.eval()
        assert not info["missing_keys"] and not info["mismatched_keys"], info
        extras = {n for n, _, _ in model.get("odd", []) + model.get("extras", [])}
        unexpected = {k for k in info["unexpected_keys"]}
        assert all(any(e.endswith(k) for e in extras) for k in unexpected), info
        config = self.net.config
        self.vision = getattr(config, "vision_config", config if "Vision" in cls.__name__ else None)
        self.has_text = "Vision" not in cls.__name__
        self.size = (self.vision.image_size,) * 2 if self.vision else None
        self.folder = folder

    def of(self, out):
        for key in ("image_embeds", "text_embeds", "pooler_output"):
            if getattr(out, key, None) is not None:
                return getattr(out, key)

    def image(self, pixels):
        return self.of(getattr(self.net, "get_image_features", self.net)(pixel_values=pixels))

    def text(self, ids):
        return self.of(getattr(self.net, "get_text_features", self.net)(input_ids=self.torch.tensor([ids])))

    def scalars(self):
        scale = getattr(self.net, "logit_scale", None)
        return (float(scale.exp()) if scale is not None else 1 / 0.07), 0.0

    def pixels_of(self, rgb, reference, model):
        from PIL import Image
        import transformers
        image = Image.fromarray(rgb)
        if reference == "openai":
            from open_clip.transform import image_transform
            size, p = model["preprocessor"]["size"], model["preprocessor"]
            if isinstance(size, dict) or p["resample"] != 3:
                return None
            mean, std = tuple(p["image_mean"]), tuple(p["image_std"])
            return image_transform(size, is_train=False, mean=mean, std=std)(image)[None]
        backend = transformers.AutoImageProcessor.from_pretrained(self.folder, use_fast=(reference == "hf-tv"))
        assert ("Pil" in type(backend).__name__) == (reference == "hf"), type(backend)
        return backend(images=image, return_tensors="pt")["pixel_values"].float()


class OpenClipNet:
    has_text = True

    def __init__(self, model, folder):
        import torch, open_clip
        self.torch = torch
        self.net, self.transform = open_clip.create_model_from_pretrained("local-dir:" + folder)
        self.net.eval()
        size = self.net.visual.image_size
        self.size = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        self.context = model["config"]["model_cfg"]["text_cfg"]["context_length"]

    def image(self, pixels):
        return self.net.encode_image(pixels)

    def text(self, ids):
        return self.net.encode_text(self.torch.tensor([ids + [0] * (self.context - len(ids))]))

    def scalars(self):
        bias = self.net.logit_bias
        return float(self.net.logit_scale.exp()), float(bias) if bias is not None else 0.0

    def pixels_of(self, rgb, reference, model):
        from PIL import Image
        return self.transform(Image.fromarray(rgb))[None] if reference == "openai" else None


def make(model, out, versions, merges):
    import torch
    files = file_tensors(model)
    target = os.path.join(out, model["name"])
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    write_configs(model, target)
    with open(os.path.join(target, "tensors.txt"), "w") as f:
        for file, listed in files:
            f.write(f"file {file}\n")
            for name, dtype, shape in listed:
                f.write(f"{dtype} {'x'.join(map(str, shape)) or '-'} {name}\n")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        write_folder(model, files, folder)
        net = (HfNet if model["lib"] == "hf" else OpenClipNet)(model, folder)
        cases = []
        if net.size:
            for k in range(model.get("pictures", 3)):
                cases.append((f"pixels {k}", net.image, torch.from_numpy(noise_pixels(k, *net.size))))
            for width, height in model.get("rgb", []):
                for reference in ("openai", "hf", "hf-tv"):
                    pixels = net.pixels_of(formula_rgb(width, height), reference, model)
                    if pixels is not None:
                        cases.append((f"rgb {width} {height} {reference}", net.image, pixels))
        if model.get("words"):
            write_words(merges, folder)
            write_words(merges, target)
            for reference in ("openai", "hf"):
                for text in TEXTS if (reference == "openai" or model["lib"] == "hf") else []:
                    escaped = "".join(escape(c) for c in text)
                    cases.append((f"text {reference} {escaped}", net.text, text_ids(text, reference, folder, merges)))
        if net.has_text:
            for ids in model["ids"]:
                cases.append(("ids " + " ".join(map(str, ids)), net.text, ids))
        results = [run(x)[0].float().numpy() for _, run, x in cases]
        scale, bias = net.scalars()
        net.net.double()
        exact = [run(x.double() if hasattr(x, "double") else x)[0].numpy() for _, run, x in cases]
    unit = lambda v: v.astype(np.float64) / np.linalg.norm(v.astype(np.float64))
    own = max(np.abs(unit(a) - unit(b)).max() for a, b in zip(results, exact))
    alike = [max([0] + [unit(results[i]) @ unit(results[j]) for i in range(len(cases)) for j in range(i)
                        if cases[i][0].split()[0] == cases[j][0].split()[0] == kind]) for kind in ("pixels", "ids")]
    with open(os.path.join(target, "golden.txt"), "w") as f:
        f.write(f"# {versions}\n")
        f.write(f"# float32 of the reference differs from its float64 by at most {own:.1e} (normalised)\n")
        f.write(f"dimension {len(results[0])}\nsize {' '.join(map(str, net.size or (0, 0)))}\n")
        f.write(f"logit_scale {scale:.9g}\nlogit_bias {bias:.9g}\n")
        for (case, _, _), vector in zip(cases, results):
            f.write(f"{case}\n= " + " ".join(f"{bits:08x}" for bits in vector.view(np.uint32)) + "\n")
    print(f"{model['name']:22} {len(cases):3} embeddings, own error {own:.1e}, most alike: pictures {alike[0]:.4f} "
          f"texts {alike[1]:.4f}, norm {np.linalg.norm(results[0]):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "models"))
    parser.add_argument("vocabulary", help="OpenAI's bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("names", nargs="*", help="models to make; all by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import numpy, open_clip, PIL, torch, torchvision, transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    merges = read_merges(args.vocabulary)
    versions = (f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
                f"transformers {transformers.__version__}, open_clip {open_clip.__version__}, "
                f"Pillow {PIL.__version__}, numpy {numpy.__version__}")
    print(versions)
    for model in MODELS:
        if not args.names or model["name"] in args.names:
            make(model, args.out, versions, merges)


if __name__ == "__main__":
    sys.exit(main())
