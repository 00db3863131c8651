"""What the network is: by config.json, by open_clip_config.json, or by the shapes of OpenAI's and open_clip's tensors.

Out: a Network, and the config.json of a CLIPModel for it. What a CLIPModel cannot express is refused by name.
"""
import functools
import re
from dataclasses import dataclass

from .errors import Refused
from .names import OPENAI_MARKS

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh", "gelu_new")
HEAD_WIDTHS = {(1280, 32): 80, (1408, 40): 88, (1664, 48): 104}  # H, g and bigG: not 64, by width and layers
LIMITS = {"width": 16384, "layers": 256, "heads": 256, "mlp": 65536, "vocabulary": 4194304, "context": 4096,
          "image": 4096, "patch": 512}


@dataclass
class Tower:
    kind: str  # vision or text
    width: int
    layers: int
    heads: int
    mlp: int
    activation: str
    eps: float = 1e-5
    image: int = 0
    patch: int = 0
    vocabulary: int = 0
    context: int = 0
    eos: int = None

    def check(self, path):
        for name, most in LIMITS.items():
            value = getattr(self, name)
            of_vision, of_text = name in ("image", "patch"), name in ("vocabulary", "context")
            needed = not of_text if self.kind == "vision" else not of_vision
            if type(value) is not int or not (1 <= value <= most if needed else value == 0):
                raise Refused(f"{path}: the {self.kind} tower's {name} is {value}: out of range")
        if self.width % self.heads:
            raise Refused(f"{path}: the {self.kind} tower's width {self.width} is not a multiple of its {self.heads} "
                          "heads")
        if self.activation not in ACTIVATIONS:
            raise Refused(f"{path}: hidden_act is {self.activation}: not one of {', '.join(ACTIVATIONS)}")
        if self.patch > self.image:
            raise Refused(f"{path}: patch_size is {self.patch}: it is larger than image_size")


@dataclass
class Network:
    embedding: int
    vision: Tower = None
    text: Tower = None
    projected: bool = True
    bare: bool = False  # names without text_model. and vision_model.
    preprocess: dict = None  # open_clip's preprocess_cfg
    notes: tuple = ()

    def towers(self):
        return [tower for tower in (self.text, self.vision) if tower]


# ---------------------------------------------------------------- Hugging Face

def _get(config, key, absent):
    value = config.get(key, absent)
    return absent if value is None else value


def _sub_config(config, part):
    """text_config_dict of old exports, when not null, stands in place of text_config, with defaults where it is
    silent."""
    old = config.get(part + "_config_dict")
    sub = old if old is not None else config.get(part + "_config")
    return sub if isinstance(sub, dict) else {}


def _hf_tower(kind, sub):
    text = kind == "text"
    width = 512 if text else 768
    tower = Tower(kind, _get(sub, "hidden_size", width), _get(sub, "num_hidden_layers", 12),
                  _get(sub, "num_attention_heads", 8 if text else 12), _get(sub, "intermediate_size", 4 * width),
                  _get(sub, "hidden_act", "quick_gelu"), _get(sub, "layer_norm_eps", 1e-5))
    if text:
        tower.vocabulary = _get(sub, "vocab_size", 49408)
        tower.context = _get(sub, "max_position_embeddings", 77)
    else:
        tower.image, tower.patch = _get(sub, "image_size", 224), _get(sub, "patch_size", 32)
    return tower


def _well_formed(read):
    """A field of another type than it should have is a sentence too."""
    @functools.wraps(read)
    def checked(config, *rest):
        try:
            return read(config, *rest)
        except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError):
            raise Refused(f"{rest[-1]}: a field is not of the type that it should have") from None
    return checked


@_well_formed
def network_of_hf(config, bare, path):
    if not isinstance(config, dict):
        raise Refused(f"{path}: no JSON object")
    kind = config.get("model_type")
    if kind is None and any(key in config for key in ("text_config", "vision_config")):
        kind = "clip"
    if kind not in ("clip", "clip_text_model", "clip_vision_model"):
        raise Refused(f"{path}: model_type is {kind}: not one of clip, clip_text_model, clip_vision_model")
    if config.get("quantization_config"):
        raise Refused(f"{path}: quantization_config: quantised checkpoints are not supported")
    architecture = next((a for a in config.get("architectures") or [] if isinstance(a, str) and a.startswith("CLIP")),
                        None)
    network = Network(_get(config, "projection_dim", 512), bare=bare)
    for part in ("text", "vision"):
        only = kind == f"clip_{part}_model" or (architecture or "").startswith("CLIP" + part.capitalize())
        sub = config if kind == f"clip_{part}_model" else _sub_config(config, part)
        if only:
            network.projected = architecture is None or "WithProjection" in architecture
            network.embedding = _get(sub, "projection_dim", 512)
            network.vision = network.text = None
            setattr(network, part, _hf_tower(part, sub))
            break
        if kind == "clip":
            setattr(network, part, _hf_tower(part, sub))
    for tower in network.towers():
        tower.check(path)
    return network


# ---------------------------------------------------------------- open_clip

VISION_KEYS = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout", "act_kwargs",
               "norm_kwargs", "pool_type", "output_tokens", "attn_pooler_queries", "attn_pooler_heads", "block_type",
               "pos_embed_type", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop",
               "timm_drop_path", "final_ln_after_pool"}
TEXT_KEYS = {"context_length", "vocab_size", "tokenizer_kwargs", "tokenizer_mode", "width", "heads", "layers",
             "mlp_ratio", "pad_id", "eos_id", "pool_type", "output_tokens", "act_kwargs", "norm_kwargs", "block_type",
             "final_ln_after_pool", "hf_tokenizer_name", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
             "proj_type"}
MODEL_KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale", "init_logit_bias",
              "nonscalar_logit_scale", "output_dict", "cast_dtype"}


def _refuse_keys(cfg, where, known, path):
    for key, value in cfg.items():
        if key not in known and value not in (None, False, 0, "", [], {}):
            raise Refused(f"{path}: {where}{key} is {value}: not supported, for a CLIPModel has no place for it")


def _square(value, name, path):
    values = value if isinstance(value, list) else [value, value]
    if len(values) != 2 or values[0] != values[1]:
        raise Refused(f"{path}: {name} is {value}: only square ones have a place in a CLIPModel")
    return values[0]


def _open_clip_tower(kind, cfg, quick, path):
    where = f"model_cfg.{kind}_cfg."
    if not isinstance(cfg, dict):
        raise Refused(f"{path}: {where[:-1]}: it is needed")
    if cfg.get("timm_model_name"):
        raise Refused(f"{path}: {where}timm_model_name is {cfg['timm_model_name']}: timm towers are not supported")
    if cfg.get("hf_model_name"):
        raise Refused(f"{path}: {where}hf_model_name is {cfg['hf_model_name']}: text towers of other families are not "
                      "supported")
    if isinstance(cfg.get("layers"), list):
        raise Refused(f"{path}: {where}layers is {cfg['layers']}: ResNet towers are not supported")
    _refuse_keys(cfg, where, VISION_KEYS if kind == "vision" else TEXT_KEYS, path)
    width = _get(cfg, "width", 768 if kind == "vision" else 512)
    act, norm = _get(cfg, "act_kwargs", {}), _get(cfg, "norm_kwargs", {})
    tanh = act.get("approximate") == "tanh"
    tower = Tower(kind, width, _get(cfg, "layers", 12), 1, int(width * _get(cfg, "mlp_ratio", 4.0)),
                  "quick_gelu" if quick else "gelu_pytorch_tanh" if tanh else "gelu", norm.get("eps", 1e-5))
    pools = {"vision": ("tok",), "text": ("argmax", "eos")}[kind]
    pool = _get(cfg, "pool_type", pools[0])
    if pool not in pools:
        raise Refused(f"{path}: {where}pool_type is {pool}: not supported, for a CLIPModel has no place for it")
    if kind == "vision":
        tower.heads = width // _get(cfg, "head_width", 64)
        tower.image = _square(_get(cfg, "image_size", 224), where + "image_size", path)
        tower.patch = _square(_get(cfg, "patch_size", 16), where + "patch_size", path)
    else:
        tower.heads = _get(cfg, "heads", 8)
        tower.vocabulary, tower.context = _get(cfg, "vocab_size", 49408), _get(cfg, "context_length", 77)
        if pool == "eos":
            tower.eos = _get(cfg, "eos_id", 2)
            if tower.eos == 2:
                raise Refused(f"{path}: {where}eos_id is 2: a CLIPModel takes that for the largest id")
    return tower


@_well_formed
def network_of_open_clip(config, path):
    model = config.get("model_cfg", config) if isinstance(config, dict) else None
    if not isinstance(model, dict) or "embed_dim" not in model:
        raise Refused(f"{path}: embed_dim is missing")
    if model.get("multimodal_cfg"):
        raise Refused(f"{path}: model_cfg.multimodal_cfg: CoCa is not supported")
    _refuse_keys(model, "model_cfg.", MODEL_KEYS, path)
    quick = bool(model.get("quick_gelu"))
    network = Network(model["embed_dim"], _open_clip_tower("vision", model.get("vision_cfg"), quick, path),
                      _open_clip_tower("text", model.get("text_cfg"), quick, path))
    network.preprocess = dict(config.get("preprocess_cfg") or {}) if model is not config else {}
    for tower in network.towers():
        tower.check(path)
    return network


# ---------------------------------------------------------------- by shapes

def _size(tensors, name, rank, dimension, path):
    tensor = tensors.get(name)
    if tensor is None or len(tensor.shape) != rank or tensor.shape[dimension] < 1:
        raise Refused(f"{path}: tensor {name} is {'missing' if tensor is None else 'misshapen'}, so the network cannot "
                      "be inferred")
    return tensor.shape[dimension]


def _layers(tensors, prefix):
    found = {int(m.group(1)) for m in (re.match(re.escape(prefix) + r"transformer\.resblocks\.(\d{1,4})\.", name)
                                       for name in tensors) if m}
    return max(found) + 1 if found else 0


def network_of_shapes(tensors, activation, heads, path):
    """As OpenAI's build_model infers it: heads of 64, but for the three towers that are known to have others."""
    openai = all(mark in tensors for mark in OPENAI_MARKS)
    if activation is None and not openai:
        raise Refused(f"{path}: has no config beside it, and its tensors do not say which activation the network has: "
                      "name open_clip's open_clip_config.json by --config; or say --activation quick_gelu (models of "
                      "OpenAI, DFN and MetaCLIP, names that end in -quickgelu) or --activation gelu (LAION's and "
                      "DataComp's)")
    activation = activation or "quick_gelu"
    custom = "text." if "text.token_embedding.weight" in tensors else ""
    width = _size(tensors, "visual.conv1.weight", 4, 0, path)
    rows = _size(tensors, "visual.positional_embedding", 2, 0, path)
    patch = _size(tensors, "visual.conv1.weight", 4, 3, path)
    grid = round(max(rows - 1, 0) ** 0.5)
    if grid < 1 or grid * grid != rows - 1:
        raise Refused(f"{path}: tensor visual.positional_embedding has {rows} rows: no square of patches")
    layers = _layers(tensors, "visual.")
    vision = Tower("vision", width, layers, heads or width // HEAD_WIDTHS.get((width, layers), 64),
                   _size(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2, 0, path), activation,
                   image=grid * patch, patch=patch)
    width = _size(tensors, custom + "token_embedding.weight", 2, 1, path)
    text = Tower("text", width, _layers(tensors, custom), width // 64,
                 _size(tensors, custom + "transformer.resblocks.0.mlp.c_fc.weight", 2, 0, path), activation,
                 vocabulary=_size(tensors, custom + "token_embedding.weight", 2, 0, path),
                 context=_size(tensors, custom + "positional_embedding", 2, 0, path))
    for tower in (vision, text):
        if tower.heads < 1 or tower.width % tower.heads:
            raise Refused(f"{path}: {tower.kind} layers and heads of 64 do not fit width {tower.width}: name a config "
                          "by --config")
        tower.check(path)
    return Network(_size(tensors, "visual.proj", 2, 1, path), vision, text)


# ---------------------------------------------------------------- config.json

def config_of(network, dtype):
    """The config.json of the converted folder."""
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    subs = {}
    for tower in network.towers():
        sub = {"model_type": f"clip_{tower.kind}_model", "hidden_size": tower.width, "intermediate_size": tower.mlp,
               "num_hidden_layers": tower.layers, "num_attention_heads": tower.heads, "hidden_act": tower.activation,
               "layer_norm_eps": tower.eps, "projection_dim": network.embedding}
        if tower.kind == "vision":
            sub.update(image_size=tower.image, patch_size=tower.patch, num_channels=3)
        else:
            eos = tower.vocabulary - 1 if tower.eos is None else tower.eos
            sub.update(vocab_size=tower.vocabulary, max_position_embeddings=tower.context, pad_token_id=eos,
                       bos_token_id=tower.vocabulary - 2, eos_token_id=eos)
        subs[tower.kind] = sub
    if len(subs) == 1:
        kind, sub = subs.popitem()
        name = f"CLIP{kind.capitalize()}Model" + ("WithProjection" if network.projected else "")
        return {"architectures": [name], **sub, "torch_dtype": names[dtype]}
    return {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": network.embedding,
            "logit_scale_init_value": 2.6592, "torch_dtype": names[dtype], "text_config": subs["text"],
            "vision_config": subs["vision"]}
