"""The models that the peers run: random weights of the real shapes, made once and kept in a cache folder.

    CACHE/ViT-B-32/            a Hugging Face folder (clipc, torch and candle read it)
    CACHE/ViT-B-32/image.onnx  one file per tower: ONNX Runtime; its int8 in image-int8.onnx (dynamic)
    CACHE/ViT-B-32/image.xml   the same for OpenVINO, f32 kept; NNCF's calibrated int8 in image-int8.xml
    CACHE/ViT-B-32/reference-image.npy, reference-text-8.npy   PyTorch f32's embeddings of the first inputs

The weights are what transformers initialises a model with, from a fixed seed: times do not depend on them."""

import os
import shutil

import numpy as np

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32).reshape(3, 1, 1)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32).reshape(3, 1, 1)
START, END = 49406, 49407
CONTEXT = 77

# width, layers, patch of the image tower; width, layers of the text tower; embedding. Heads are width / 64.
SHAPES = {
    "ViT-B-32": dict(image=(768, 12, 32), text=(512, 12), embedding=512),
    "ViT-B-16": dict(image=(768, 12, 16), text=(512, 12), embedding=512),
    "ViT-L-14": dict(image=(1024, 24, 14), text=(768, 12), embedding=768),
}


def gop_per_item(shape, tower, tokens):
    """Multiplications and additions, in 1e9, of one item when nothing is skipped: what the peers compute."""
    spec = SHAPES[shape]
    width, layers = spec[tower][:2]
    patches = (224 // spec["image"][2]) ** 2
    rows = patches + 1 if tower == "image" else tokens
    block = 12 * width * width * rows + 2 * rows * rows * width
    patch = patches * 3 * spec["image"][2] ** 2 * width if tower == "image" else 0
    return 2e-9 * (layers * block + patch + width * spec["embedding"])


def pictures(count):
    """u8 [count, 224, 224, 3]: smooth random pictures, the same whatever the count."""
    y, x = np.mgrid[0:224, 0:224] / 224.0
    batch = np.empty((count, 224, 224, 3), np.uint8)
    for i in range(count):
        rng = np.random.default_rng(1000 + i)
        for channel in range(3):
            waves = [a * np.sin(6.28 * (u * x + v * y) + p) for a, u, v, p in rng.uniform(-8, 8, (6, 4))]
            value = sum(waves) * 8 + rng.normal(0, 12, x.shape) + rng.uniform(60, 190)
            batch[i, :, :, channel] = np.clip(value, 0, 255).astype(np.uint8)
    return batch


def pixels(count):
    """f32 [count, 3, 224, 224]: the same pictures as the network sees them."""
    scaled = pictures(count).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return np.ascontiguousarray((scaled - MEAN) / STD)


def token_ids(count, tokens, padded=0):
    """i64 [count, max(tokens, padded)]: start, random words, end; after the end only more ends, as CLIP pads."""
    ids = np.full((count, max(tokens, padded)), END, np.int64)
    ids[:, 0] = START
    for i in range(count):
        ids[i, 1 : tokens - 1] = np.random.default_rng(2000 + i).integers(300, 40000, tokens - 2)
    return ids


def inputs(tower, batch, tokens, padded=0):
    return pixels(batch) if tower == "image" else token_ids(batch, tokens, padded)


def ensure_folder(cache, shape):
    """The Hugging Face folder; clipc, torch and candle read it."""
    folder = os.path.join(cache, shape)
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        import torch
        from transformers import CLIPConfig, CLIPModel

        spec = SHAPES[shape]
        torch.manual_seed(7)

        def tower(width, layers, **more):
            return dict(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=width // 64,
                projection_dim=spec["embedding"],
                **more,
            )

        config = CLIPConfig(
            text_config=tower(*spec["text"], bos_token_id=START, eos_token_id=END),
            vision_config=tower(*spec["image"][:2], patch_size=spec["image"][2]),
            projection_dim=spec["embedding"],
        )
        CLIPModel(config).eval().save_pretrained(folder)
    return folder


def copy_vocabulary(source, folder):
    """clipc's commands want a tokeniser beside the weights, whatever its words."""
    for name in ("vocab.json", "merges.txt"):
        if os.path.exists(os.path.join(source, name)) and not os.path.exists(os.path.join(folder, name)):
            shutil.copy(os.path.join(source, name), folder)


def load_torch(folder, **options):
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(folder, **options).eval()


def torch_tower(model, tower):
    """A module from the tower's input to L2-normalised embeddings."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model.vision_model if tower == "image" else model.text_model
            self.projection = model.visual_projection if tower == "image" else model.text_projection

        def forward(self, x):
            y = self.body(pixel_values=x) if tower == "image" else self.body(input_ids=x)
            y = self.projection(y.pooler_output)
            return y / y.norm(dim=-1, keepdim=True)

    return Tower().eval()


def whole(path, write):
    """Lets a file appear only when it is whole: write(temporary path), then rename, an IR's weights first."""
    if os.path.exists(path):
        return path
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, "part-" + name)
    write(temporary)
    for old, new in ((os.path.splitext(temporary)[0] + ".bin", os.path.splitext(path)[0] + ".bin"), (temporary, path)):
        if os.path.exists(old):
            os.replace(old, new)
    return path


def ensure_onnx(cache, shape, tower):
    def write(path):
        import torch

        # Eager attention exports to plain products, which the runtimes' own fusions know.
        module = torch_tower(load_torch(ensure_folder(cache, shape), attn_implementation="eager"), tower)
        sample = torch.from_numpy(inputs(tower, 2, CONTEXT))
        axes = {0: "b"} if tower == "image" else {0: "b", 1: "s"}
        torch.onnx.export(
            module,
            (sample,),
            path,
            input_names=["x"],
            output_names=["e"],
            opset_version=17,
            dynamic_axes={"x": axes, "e": {0: "b"}},
            dynamo=False,
        )

    ensure_folder(cache, shape)
    return whole(os.path.join(cache, shape, tower + ".onnx"), write)


def ensure_onnx_int8(cache, shape, tower):
    source = ensure_onnx(cache, shape, tower)

    def write(path):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(source, path, weight_type=QuantType.QInt8, per_channel=True)

    return whole(os.path.join(cache, shape, tower + "-int8.onnx"), write)


def ensure_openvino(cache, shape, tower):
    source = ensure_onnx(cache, shape, tower)

    def write(path):
        import openvino

        openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)

    return whole(os.path.join(cache, shape, tower + ".xml"), write)


def ensure_openvino_int8(cache, shape, tower):
    source = ensure_openvino(cache, shape, tower)

    def write(path):
        import nncf
        import openvino

        lengths = (CONTEXT, 8, 12, 20)  # short texts too, or its accuracy on them is poor
        samples = [
            {"x": pixels(16)[i : i + 1] if tower == "image" else token_ids(i + 1, lengths[i % 4])[i:]}
            for i in range(16)
        ]
        model = nncf.quantize(
            openvino.Core().read_model(source),
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER,
        )
        openvino.save_model(model, path, compress_to_fp16=False)

    return whole(os.path.join(cache, shape, tower + "-int8.xml"), write)


def ensure_reference(cache, shape, tower, tokens, count=4):
    """PyTorch f32's embeddings of the first inputs, [count, dimension]."""
    name = f"reference-{tower}" + (f"-{tokens}" if tower == "text" else "") + ".npy"

    def write(path):
        import torch

        module = torch_tower(load_torch(ensure_folder(cache, shape)), tower)
        with torch.inference_mode():
            np.save(path, module(torch.from_numpy(inputs(tower, count, tokens))).numpy())

    ensure_folder(cache, shape)
    return whole(os.path.join(cache, shape, name), write)
