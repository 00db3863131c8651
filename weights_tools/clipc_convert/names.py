"""The parts of the network as Hugging Face and open_clip (and OpenAI) spell them: which tensors a network has, in which
shape, and open_clip's turned into Hugging Face's as transformers' own conversion does it: in_proj cut in three rows of
parts, projections transposed.
"""
import re

from .errors import Refused

WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model.", "clip_model.")
OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
IGNORED = re.compile(r"(.*\.)?(position_ids|attn_mask)|" + "|".join(OPENAI_MARKS))
INSIDE = re.compile(r"(text\.)?(visual|vision_model|text_model|encoder|transformer|embeddings)\.")

OTHERS = [  # what a name says of networks that are not CLIP's ViT, in the library's words
    (r"visual\.trunk\.", "timm towers are not supported"),
    (r"(visual|vision_model)\.(layer[1-4]\.|attnpool\.)", "ResNet towers are not supported"),
    (r"(visual\.attn_pool\.|text_decoder\.|text\.cls_emb)", "CoCa is not supported"),
    (r"(vision_model\.head\.|text_model\.head\.)", "SigLIP is not supported"),
    (r"text\.transformer\.(embeddings|encoder|shared|block)", "text towers of other families are not supported"),
    (r"(text_model|bert)\.(encoder\.layer\.|embeddings\.word_embeddings|embeddings\.token_type)",
     "text towers of other families are not supported"),
    (r".*\.ls_[12]\.gamma", "LayerScale is not supported"),
    (r"(image_encoder|text_encoder)\.", "MobileCLIP's own files are not supported"),
    (r"(unet|vae|first_stage_model|model\.diffusion_model|cond_stage_model)\.", "no CLIP, but a diffusion model"),
]

BLOCK = [  # Hugging Face's leaf, open_clip's, rows and columns by name: d width, m MLP width
    ("layer_norm1.weight", "ln_1.weight", "d"), ("layer_norm1.bias", "ln_1.bias", "d"),
    ("self_attn.out_proj.weight", "attn.out_proj.weight", "dd"), ("self_attn.out_proj.bias", "attn.out_proj.bias", "d"),
    ("layer_norm2.weight", "ln_2.weight", "d"), ("layer_norm2.bias", "ln_2.bias", "d"),
    ("mlp.fc1.weight", "mlp.c_fc.weight", "md"), ("mlp.fc1.bias", "mlp.c_fc.bias", "m"),
    ("mlp.fc2.weight", "mlp.c_proj.weight", "dm"), ("mlp.fc2.bias", "mlp.c_proj.bias", "d"),
]
VISION = [  # p patch, t positions
    ("embeddings.class_embedding", "class_embedding", "d"),
    ("embeddings.patch_embedding.weight", "conv1.weight", "d3pp"),
    ("embeddings.position_embedding.weight", "positional_embedding", "td"),
    ("pre_layrnorm.weight", "ln_pre.weight", "d"), ("pre_layrnorm.bias", "ln_pre.bias", "d"),
    ("post_layernorm.weight", "ln_post.weight", "d"), ("post_layernorm.bias", "ln_post.bias", "d"),
]
TEXT = [  # v vocabulary, t positions
    ("embeddings.token_embedding.weight", "token_embedding.weight", "vd"),
    ("embeddings.position_embedding.weight", "positional_embedding", "td"),
    ("final_layer_norm.weight", "ln_final.weight", "d"), ("final_layer_norm.bias", "ln_final.bias", "d"),
]


def strip_wrappers(tensors, path):
    """Prefixes that every name has, of training and compiling, say nothing."""
    again = True
    while again:
        again = False
        for prefix in WRAPPERS:
            if tensors and all(name.startswith(prefix) for name in tensors):
                tensors = {name[len(prefix):]: tensor for name, tensor in tensors.items()}
                again = True
    mixed = {}
    for name, tensor in tensors.items():  # torch.compile of a part of the model
        plain = name.replace("_orig_mod.", "")
        if plain in mixed:
            raise Refused(f"{path}: tensor {plain} comes twice")
        mixed[plain] = tensor
    return mixed


def spelling(tensors, path):
    """hf, hf-bare or open_clip; refuses other networks by name."""
    for name in tensors:
        for pattern, why in OTHERS:
            if re.match(pattern, name):
                raise Refused(f"{path}: tensor {name}: {why}")
    if any(name.startswith(("vision_model.", "text_model.")) for name in tensors):
        return "hf"
    if any(name.startswith("embeddings.") for name in tensors):
        return "hf-bare"
    if any(name.startswith("visual.") or re.match(r"(text\.)?token_embedding\.weight", name) for name in tensors):
        return "open_clip"
    raise Refused(f"{path}: none of the known spellings: there is no tensor vision_model.embeddings.class_embedding "
                  "and no visual.class_embedding")


def tower_dimensions(tower, embedding):
    sizes = {"d": tower.width, "m": tower.mlp, "e": embedding, "3": 3}
    if tower.kind == "vision":
        sizes.update(p=tower.patch, t=(tower.image // tower.patch) ** 2 + 1)
    else:
        sizes.update(v=tower.vocabulary, t=tower.context)
    return sizes


def hf_tensors(network):
    """[(name, shape)] of a CLIPModel, or of one tower of it."""
    out = []
    for tower in network.towers():
        sizes = tower_dimensions(tower, network.embedding)
        prefix = "" if network.bare else tower.kind + "_model."

        def add(name, letters, sizes=sizes):
            out.append((name, tuple(sizes[c] for c in letters)))

        for leaf, _, letters in VISION if tower.kind == "vision" else TEXT:
            add(prefix + leaf, letters)
        for i in range(tower.layers):
            layer = f"{prefix}encoder.layers.{i}."
            for part in "qkv":
                add(f"{layer}self_attn.{part}_proj.weight", "dd")
                add(f"{layer}self_attn.{part}_proj.bias", "d")
            for leaf, _, letters in BLOCK:
                add(layer + leaf, letters)
        if network.projected:
            add("visual_projection.weight" if tower.kind == "vision" else "text_projection.weight", "ed")
    if network.vision and network.text:
        out.append(("logit_scale", ()))
    return out


def fetch(tensors, name, shape, path):
    """The tensor, which must be there, of floats and of that shape."""
    tensor = tensors.get(name)
    if tensor is None:
        raise Refused(f"{path}: tensor {name} is missing")
    if not tensor.is_float():
        raise Refused(f"{path}: tensor {name} is of {tensor.dtype}, not of F32, F16 or BF16")
    if shape == () and tensor.shape == (1,):
        return tensor.reshaped(())
    if tensor.shape != tuple(shape):
        raise Refused(f"{path}: tensor {name} has shape {list(tensor.shape)} where the config needs {list(shape)}")
    return tensor


def from_hf(tensors, network, path):
    """{name: Tensor}, checked; and the names that are left over."""
    wanted = hf_tensors(network)
    out = {name: fetch(tensors, name, shape, path) for name, shape in wanted}
    if "logit_scale" in tensors and "logit_scale" not in out:
        out["logit_scale"] = fetch(tensors, "logit_scale", (), path)
    return out, _left_over(tensors, set(out), path)


def from_open_clip(tensors, network, path):
    out, used = {}, set()
    custom = "text." if "text.token_embedding.weight" in tensors else ""

    def take(name, shape):
        used.add(name)
        return fetch(tensors, name, shape, path)

    for tower in network.towers():
        sizes = tower_dimensions(tower, network.embedding)
        source = "visual." if tower.kind == "vision" else custom
        prefix = tower.kind + "_model."
        d, e = tower.width, network.embedding
        for leaf, theirs, letters in VISION if tower.kind == "vision" else TEXT:
            out[prefix + leaf] = take(source + theirs, tuple(sizes[c] for c in letters))
        for i in range(tower.layers):
            layer, block = f"{prefix}encoder.layers.{i}.", f"{source}transformer.resblocks.{i}."
            weight, bias = take(block + "attn.in_proj_weight", (3 * d, d)), take(block + "attn.in_proj_bias", (3 * d,))
            for k, part in enumerate("qkv"):
                out[f"{layer}self_attn.{part}_proj.weight"] = weight.rows(k * d, k * d + d)
                out[f"{layer}self_attn.{part}_proj.bias"] = bias.rows(k * d, k * d + d)
            for leaf, theirs, letters in BLOCK:
                out[layer + leaf] = take(block + theirs, tuple(sizes[c] for c in letters))
        if tower.kind == "vision":
            out["visual_projection.weight"] = take("visual.proj", (d, e)).transposed()
        else:
            if f"{custom}text_projection.bias" in tensors:
                raise Refused(f"{path}: tensor {custom}text_projection.bias: a projection with a bias has no place in "
                              "a CLIPModel")
            linear = f"{custom}text_projection.weight" in tensors
            out["text_projection.weight"] = take(f"{custom}text_projection.weight", (e, d)) if linear else \
                take(f"{custom}text_projection", (d, e)).transposed()
    if network.vision and network.text:
        out["logit_scale"] = take("logit_scale", ())
    return {name: out[name] for name, _ in hf_tensors(network)}, _left_over(tensors, used, path)


def _left_over(tensors, used, path):
    """Names that nothing reads. One inside a tower would change the numbers, so the network is another one then."""
    left = [name for name in tensors if name not in used and not IGNORED.fullmatch(name)]
    for name in left:
        if INSIDE.match(name):
            raise Refused(f"{path}: tensor {name} is no part of the network that the config says")
    return left
