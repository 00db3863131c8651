#!/usr/bin/env python3
"""Makes tests/goldens/convert/: checkpoints of every kind that weights_tools/convert.py reads, written by PyTorch,
open_clip, huggingface_hub and PyTorch's ONNX exporters, with the embeddings that the libraries compute from them.

The weights are the synthetic ones of make_models.py, so a file is stored as a recipe: its bytes without those of the
tensors, and which tensor stands where. A recipe is lines of JSON under xz:
    {"file": name, "bytes": n, "sha256": of the whole}          begins a file
    {"literal": base64}                                         bytes as they are
    {"tensor": name, "dtype": "F32", "shape": [..], "order": [1, 0]}   a tensor's numbers, little-endian; order, where
                                                                given, is the order of its dimensions in the file
golden.json has the command line, the texts and pictures, and the normalised embeddings.

Beside the other goldens' libraries it needs onnx, onnxruntime and onnxscript.

    python make_convert.py [--out tests/goldens/convert] [KIND]...
"""
import argparse
import base64
import hashlib
import json
import lzma
import os
import shutil
import sys
import tempfile
import warnings
import zipfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_models import weights  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TEXTS = ["a photo of a cat", "Hello, World! 2024", "zwei Hunde im Schnee", "a"]
PICTURES = ["models/tiny/pictures/red_circle.png", "models/tiny/pictures/three_green_stars.png",
            "models/tiny/pictures/yellow_heart_top.png", "models/tiny/pictures/red_car.jpg"]
CODES = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
SMALL = 64  # bytes: a tensor below this stays in the literal


def fill(module):
    """Gives a module the synthetic numbers of its names; the names' numbers as float32."""
    import torch
    arrays = {}
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                arrays[name] = weights(name, "F32", tuple(tensor.shape))
                tensor.copy_(torch.from_numpy(arrays[name]))
    return arrays


# ---------------------------------------------------------------- recipes

def places(data, arrays):
    """[(first byte, end, line)], not overlapping, of the tensors that lie in data."""
    found = []
    for name, array in arrays.items():
        for dtype in ("F32", "F16"):
            for order in ([None, [1, 0]] if array.ndim == 2 else [None]):
                raw = (array if order is None else array.transpose(order)).astype(CODES[dtype]).tobytes()
                if len(raw) < SMALL:
                    continue
                at = data.find(raw)
                while at >= 0:
                    line = {"tensor": name, "dtype": dtype, "shape": list(array.shape)}
                    found.append((at, at + len(raw), line if order is None else {**line, "order": order}))
                    at = data.find(raw, at + len(raw))
    out, end = [], 0
    for place in sorted(found, key=lambda p: (p[0], -p[1])):
        if place[0] >= end:
            out.append(place)
            end = place[1]
    return out


def recipe_lines(folder, file, arrays):
    with open(os.path.join(folder, file), "rb") as f:
        data = f.read()
    lines, at = [{"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}], 0
    for first, end, line in [*places(data, arrays), (len(data), len(data), None)]:
        if first > at:
            lines.append({"literal": base64.b64encode(data[at:first]).decode()})
        if line:
            lines.append(line)
        at = end
    return lines


# ---------------------------------------------------------------- networks

def openai_module():
    """The modules of OpenAI's CLIP by their names, sized as its ViTs are but for the widths."""
    import torch
    from torch import nn

    class LayerNorm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.float()).to(x.dtype)

    class QuickGELU(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(1.702 * x)

    class Block(nn.Module):
        def __init__(self, width, mask):
            super().__init__()
            self.attn, self.ln_1, self.ln_2 = nn.MultiheadAttention(width,
                                                                    width // 64), LayerNorm(width), LayerNorm(width)
            self.mlp = nn.Sequential()
            self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
            self.mlp.add_module("gelu", QuickGELU())
            self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
            self.mask = mask

        def forward(self, x):
            y = self.ln_1(x)
            mask = None if self.mask is None else self.mask.to(x.dtype)
            x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
            return x + self.mlp(self.ln_2(x))

    class Transformer(nn.Module):
        def __init__(self, width, layers, mask=None):
            super().__init__()
            self.resblocks = nn.Sequential(*[Block(width, mask) for _ in range(layers)])

        def forward(self, x):
            return self.resblocks(x)

    class Visual(nn.Module):
        def __init__(self, width, layers, patch, grid, embed):
            super().__init__()
            self.class_embedding = nn.Parameter(torch.zeros(width))
            self.positional_embedding = nn.Parameter(torch.zeros(grid * grid + 1, width))
            self.proj = nn.Parameter(torch.zeros(width, embed))
            self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
            self.ln_pre, self.transformer, self.ln_post = LayerNorm(width), Transformer(width, layers), LayerNorm(width)

        def forward(self, x):
            x = self.conv1(x).flatten(2).transpose(1, 2)
            first = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = self.ln_pre(torch.cat([first, x], 1) + self.positional_embedding.to(x.dtype))
            x = self.transformer(x.transpose(0, 1)).transpose(0, 1)
            return self.ln_post(x[:, 0]) @ self.proj

    class CLIP(nn.Module):
        def __init__(self):
            super().__init__()
            self.positional_embedding = nn.Parameter(torch.zeros(77, 64))
            self.text_projection = nn.Parameter(torch.zeros(64, 48))
            self.logit_scale = nn.Parameter(torch.zeros(()))
            for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
                self.register_buffer(name, torch.tensor(value))
            self.visual = Visual(128, 2, 16, 2, 48)
            self.transformer = Transformer(64, 3, torch.full((77, 77), float("-inf")).triu(1))
            self.token_embedding, self.ln_final = nn.Embedding(49408, 64), LayerNorm(64)

        def forward(self, image, text):
            image = self.visual(image.to(self.visual.conv1.weight.dtype))
            x = self.token_embedding(text).to(self.text_projection.dtype)
            x = self.transformer((x + self.positional_embedding.to(x.dtype)).transpose(0, 1)).transpose(0, 1)
            text = self.ln_final(x)[torch.arange(x.shape[0]), text.argmax(-1)] @ self.text_projection
            return self.logit_scale.exp() * image @ text.t()

    return CLIP().eval()


def halve(model):
    """As OpenAI's convert_weights: products in half precision, the rest as it is."""
    import torch
    from torch import nn
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.half()
        if isinstance(module, nn.MultiheadAttention):
            for name in ("in_proj_weight", "in_proj_bias"):
                getattr(module, name).data = getattr(module, name).data.half()
        for name in ("text_projection", "proj"):
            if isinstance(getattr(module, name, None), torch.Tensor):
                getattr(module, name).data = getattr(module, name).data.half()


OPEN_CLIP_CONFIG = {
    "model_cfg": {"embed_dim": 40,
                  "vision_cfg": {"image_size": 48, "layers": 2, "width": 96, "head_width": 32, "patch_size": 16,
                                 "mlp_ratio": 2.5},
                  "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}},
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.3], "interpolation": "bilinear",
                       "resize_mode": "squash"}}


def open_clip_model(**more):
    import open_clip
    cfg = OPEN_CLIP_CONFIG["model_cfg"]
    model = open_clip.CLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"], **more)
    return model.eval()


def hf_model(act="gelu", image=50):
    import transformers
    text = dict(vocab_size=49408, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                hidden_act=act, eos_token_id=49407, bos_token_id=49406)
    vision = dict(hidden_size=96, intermediate_size=200, num_hidden_layers=2, num_attention_heads=3, image_size=image,
                  patch_size=16, hidden_act=act)
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision,
                                                          projection_dim=40)).eval()


# ---------------------------------------------------------------- embeddings

def pictures():
    from PIL import Image
    return [Image.open(os.path.join(ROOT, path)).convert("RGB") for path in PICTURES]


def unit(x):
    x = np.asarray(x, np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).tolist()


def by_open_clip(model, size, preprocess=None):
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    cfg = PreprocessCfg(size=(size, size), **(preprocess or {}))
    transform = image_transform_v2(cfg, is_train=False)
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(p) for p in pictures()]))
        texts = model.encode_text(open_clip.tokenizer.SimpleTokenizer()(TEXTS))
    return {"images": unit(images), "texts": unit(texts), "reference": "openai"}


def hf_inputs(size):
    import torch
    import open_clip
    import transformers
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": size},
                                                   crop_size={"height": size, "width": size})
    ids = open_clip.tokenizer.SimpleTokenizer()(TEXTS)
    return ids, torch.from_numpy(np.asarray(processor(pictures(), return_tensors="np")["pixel_values"]))


def by_transformers(model, size):
    import torch
    ids, pixels = hf_inputs(size)
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(input_ids=ids).pooler_output
    return {"images": unit(images), "texts": unit(texts), "reference": "hf"}


# ---------------------------------------------------------------- the kinds: folder -> (arrays, golden)

def without_sources(path):
    """Drops the archive's notes of which line of which file of this machine every operation came from."""
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.filename.endswith(".debug_pkl")]
        entries = [(info, archive.read(info)) for info in infos]
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in entries:
            archive.writestr(zipfile.ZipInfo(info.filename), data, info.compress_type)


def openai_jit(folder):
    import open_clip
    import torch
    model = openai_module()
    arrays = fill(model)
    halve(model)
    with torch.no_grad():
        traced = torch.jit.trace(model, (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long)),
                                 check_trace=False)
    path = os.path.join(folder, "ViT-tiny.pt")
    torch.jit.save(traced, path)
    without_sources(path)
    reference = open_clip.load_openai_model(path, precision="fp32", device="cpu").eval()
    return arrays, {"input": ["ViT-tiny.pt"], **by_open_clip(reference, 32)}


def openai_legacy(folder):
    """What a fine-tuning script kept: no marks, and the stream of before 1.6."""
    import open_clip
    import torch
    model = openai_module()
    arrays = fill(model)
    state = {k: v for k, v in model.state_dict().items() if k not in ("input_resolution", "context_length",
                                                                      "vocab_size")}
    reference = open_clip.model.build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32).float().eval()
    torch.save({"epoch": 3, "model_state_dict": state}, os.path.join(folder, "fine tuned \u00fc.pth"),
               _use_new_zipfile_serialization=False)
    return arrays, {"input": ["fine tuned \u00fc.pth"], "arguments": ["--activation", "quick_gelu"],
                    **by_open_clip(reference, 32)}


def open_clip_training(folder):
    import torch
    model = open_clip_model()
    arrays = fill(model)
    optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if n == "logit_scale"])
    model.logit_scale.grad = torch.tensor(1.0)
    before = model.logit_scale.detach().clone()
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.copy_(before)
    other = {"module." + k: v + 1 for k, v in model.state_dict().items() if k in ("logit_scale", "ln_final.bias")}
    torch.save({"epoch": 32, "name": "2024-model_ViT", "optimizer": optimizer.state_dict(),
                "scaler": {"scale": 65536.0},
                "state_dict": {"module." + k: v for k, v in model.state_dict().items()}, "state_dict_ema": other},
               os.path.join(folder, "epoch_32.pt"))
    with open(os.path.join(folder, "open_clip_config.json"), "w") as f:
        json.dump(OPEN_CLIP_CONFIG, f)
    return arrays, {"input": ["epoch_32.pt"], **by_open_clip(model, 48, OPEN_CLIP_CONFIG["preprocess_cfg"])}


def open_clip_safetensors(folder):
    """custom_text and torch.compile's prefix, in half precision."""
    import open_clip
    from safetensors.torch import save_file
    cfg = OPEN_CLIP_CONFIG["model_cfg"]
    model = open_clip.CustomTextCLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"], quick_gelu=True).eval()
    arrays = fill(model)
    save_file({"_orig_mod." + k: v.half().contiguous() for k, v in model.state_dict().items()},
              os.path.join(folder, "open_clip_model.safetensors"))
    with open(os.path.join(folder, "open_clip_config.json"), "w") as f:
        json.dump({"model_cfg": {**cfg, "quick_gelu": True, "custom_text": True}}, f)
    return arrays, {"input": ["."], "arguments": ["--dtype", "f16"], **by_open_clip(model, 48)}


def hf_files(model, folder):
    model.config.save_pretrained(folder)
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as f:
        size = model.config.vision_config.image_size
        json.dump({"crop_size": size, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
                   "feature_extractor_type": "CLIPFeatureExtractor", "size": size,
                   "image_mean": [0.48145466, 0.4578275, 0.40821073],
                   "image_std": [0.26862954, 0.26130258, 0.27577711]}, f)


def hf_bin(folder):
    import torch
    model = hf_model("quick_gelu")
    arrays = fill(model)
    hf_files(model, folder)
    torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"))
    return arrays, {"input": ["."], "arguments": ["--dtype", "bf16", "--max-shard-size", "2MB"],
                    **by_transformers(model, 50)}


def hf_shards(folder):
    from huggingface_hub import save_torch_state_dict
    model = hf_model()
    arrays = fill(model)
    hf_files(model, folder)
    save_torch_state_dict(model.state_dict(), folder, filename_pattern="pytorch_model{suffix}.bin",
                          max_shard_size="1MB",
                          safe_serialization=False)
    return arrays, {"input": ["."], **by_transformers(model, 50)}


class Both:
    """A CLIPModel with tensors alone as its inputs and outputs."""
    def __new__(cls, model):
        import torch

        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, input_ids, pixel_values):
                out = self.model(input_ids=input_ids, pixel_values=pixel_values)
                return out.logits_per_image, out.text_embeds, out.image_embeds
        return Module().eval()


def by_onnxruntime(path, size):
    import onnxruntime
    ids, pixels = hf_inputs(size)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    _, texts, images = session.run(None, dict(zip(names, (ids.numpy(), pixels.numpy()))))
    return {"images": unit(images), "texts": unit(texts), "reference": "hf"}


def prefixed(arrays, prefix):
    return {**arrays, **{prefix + k: v for k, v in arrays.items()}}


def export(module, inputs, path, **more):
    import torch
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, path, **more)


def onnx_hf(folder):
    """LayerNorm in its parts, any batch and length."""
    import torch
    model = hf_model("quick_gelu", image=48)
    arrays = fill(model)
    path = os.path.join(folder, "model.onnx")
    axes = {"input_ids": {0: "n", 1: "length"}, "pixel_values": {0: "n"}}
    export(Both(model), (torch.full((2, 7), 49407), torch.zeros(2, 3, 48, 48)), path, dynamo=False, opset_version=14,
           input_names=["input_ids", "pixel_values"], output_names=["logits", "text_embeds", "image_embeds"],
           dynamic_axes=axes)
    return arrays, {"input": ["model.onnx"], **by_onnxruntime(path, 48)}


def onnx_open_clip(folder):
    """nn.MultiheadAttention in its parts, LayerNormalization whole, the towers in two files."""
    import torch
    model = open_clip_model(quick_gelu=True)
    arrays = fill(model)
    ids = torch.full((4, 77), 49407)

    class Image(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = model.visual

        def forward(self, x):
            return torch.nn.functional.normalize(model.encode_image(x), dim=-1)

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
            self.model.visual = torch.nn.Identity()

        def forward(self, ids):
            return self.model.encode_text(ids)

    golden = by_open_clip(model, 48)
    export(Image(), (torch.zeros(4, 3, 48, 48),), os.path.join(folder, "visual.onnx"), dynamo=False, opset_version=17)
    export(Text(), (ids,), os.path.join(folder, "textual.onnx"), dynamo=False, opset_version=17)
    return arrays, {"input": ["."], "arguments": ["--logit-scale", "14.25"], **golden}


def onnx_dynamo(folder):
    """The exporter by torch.export, with the weights in a file of their own."""
    import onnx
    import torch
    model = hf_model("gelu", image=48)
    arrays = fill(model)
    path = os.path.join(folder, "model.onnx")
    n = torch.export.Dim("n", min=2, max=64)
    export(Both(model), (torch.full((4, 77), 49407), torch.zeros(4, 3, 48, 48)), path, dynamo=True, external_data=True,
           dynamic_shapes=({0: n}, {0: n}), verbose=False)
    graph = onnx.load(path, load_external_data=False)
    for node in graph.graph.node:  # the lines of this machine's files that they came from
        del node.metadata_props[:]
    onnx.save(graph, path)
    return arrays, {"input": ["model.onnx"], **by_onnxruntime(path, 48)}


def onnx_plain(folder):
    """Not folded, and no name of a parameter left."""
    import onnx
    import torch
    model = hf_model("gelu_pytorch_tanh", image=48)
    arrays = fill(model)
    path = os.path.join(folder, "model.onnx")
    export(Both(model), (torch.full((4, 77), 49407), torch.zeros(4, 3, 48, 48)), path, dynamo=False, opset_version=14,
           do_constant_folding=False)
    graph = onnx.load(path)
    new = {}
    for i, tensor in enumerate(graph.graph.initializer):
        new[tensor.name] = tensor.name = f"w{i}"
    for node in graph.graph.node:
        node.name = ""
        for lists in (node.input, node.output):
            for k, name in enumerate(lists):
                if name:
                    lists[k] = new.setdefault(name, f"x{len(new)}")
    for value in [*graph.graph.input, *graph.graph.output]:
        value.name = new.setdefault(value.name, f"x{len(new)}")
    del graph.graph.value_info[:]
    onnx.save(graph, path)
    return arrays, {"input": ["model.onnx"], **by_onnxruntime(path, 48)}


KINDS = {"openai-jit": openai_jit, "openai-legacy": openai_legacy, "open-clip-training": open_clip_training,
         "open-clip-safetensors": open_clip_safetensors, "hf-bin": hf_bin, "hf-shards": hf_shards, "onnx-hf": onnx_hf,
         "onnx-open-clip": onnx_open_clip, "onnx-dynamo": onnx_dynamo, "onnx-plain": onnx_plain}


def versions():
    from importlib.metadata import PackageNotFoundError, version
    out = {}
    for name in ("torch", "open_clip_torch", "transformers", "huggingface_hub", "safetensors", "onnx", "onnxruntime",
                 "onnxscript", "pillow", "numpy"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "goldens", "convert"))
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    args = parser.parse_args()
    for kind in args.kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            arrays, golden = KINDS[kind](folder)
            out = os.path.join(args.out, kind)
            shutil.rmtree(out, ignore_errors=True)
            os.makedirs(out)
            lines = [line for file in sorted(os.listdir(folder)) for line in recipe_lines(folder, file, arrays)]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
            with open(os.path.join(out, "recipe.xz"), "wb") as f:
                f.write(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
            with open(os.path.join(out, "golden.json"), "w", encoding="utf-8") as f:
                json.dump({**golden, "text_inputs": TEXTS, "picture_inputs": PICTURES, "versions": versions()}, f,
                          ensure_ascii=False, indent=1)
                f.write("\n")
        print(kind, os.path.getsize(os.path.join(out, "recipe.xz")), "bytes")


if __name__ == "__main__":
    main()
