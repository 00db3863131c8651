"""The model, transformers' CLIPModel, and the two losses. The one part that needs torch."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from .folder import DEMO
from .recipe import (CONTEXT_LENGTH, DIMENSION, IMAGE_SIZE, MEAN, PATCH_SIZE, STD, TEXT, VISION, VOCAB_SIZE)

transformers.utils.logging.disable_progress_bar()
MASKED = -1e4
BIAS = "logit_bias"  # the name that open_clip gives it


def new_model(loss: str) -> CLIPModel:
    """Random weights. The sigmoid loss starts from SigLIP's temperature and bias."""
    end = VOCAB_SIZE - 1
    text = dict(TEXT, vocab_size=VOCAB_SIZE, max_position_embeddings=CONTEXT_LENGTH, hidden_act="quick_gelu",
                bos_token_id=end - 1, eos_token_id=end, pad_token_id=end, projection_dim=DIMENSION)
    vision = dict(VISION, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, hidden_act="quick_gelu",
                  projection_dim=DIMENSION)
    scale = {"logit_scale_init_value": math.log(10)} if loss == "sigmoid" else {}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIMENSION, **scale))
    if loss == "sigmoid":
        model.register_parameter(BIAS, torch.nn.Parameter(torch.tensor(-10.0)))
    return model


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """u8 [n, 60, 60, 3] to f32 [n, 3, 60, 60] as preprocessor_config.json says."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Tokeniser:
    """Captions to padded ids, with a cache: the grammar repeats itself."""

    def __init__(self, folder: Path):
        self.tokeniser, self.cache = CLIPTokenizer.from_pretrained(folder), {}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        for text in texts:
            if text not in self.cache:
                self.cache[text] = self.tokeniser(text)["input_ids"]
        rows = [self.cache[t] for t in texts]
        longest = max(map(len, rows))
        assert longest <= CONTEXT_LENGTH
        return torch.tensor([r + [VOCAB_SIZE - 1] * (longest - len(r)) for r in rows])


def embed_pictures(model, pixels: np.ndarray) -> torch.Tensor:
    pooled = model.vision_model(pixel_values=normalised(pixels)).pooler_output
    return F.normalize(model.visual_projection(pooled), dim=-1)


def embed_texts(model, ids: torch.Tensor) -> torch.Tensor:
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


class Embedder:
    """numpy in and out, without gradients: what measure.py asks. ClipcEmbedder there is the same by clipc."""

    def __init__(self, model, tokenise: Tokeniser):
        self.model, self.tokenise = model, tokenise

    def __call__(self, pixels: np.ndarray, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        self.model.eval()
        with torch.no_grad():
            parts = np.array_split(pixels, 1 + len(pixels) // 256)
            pictures = torch.cat([embed_pictures(self.model, part) for part in parts])
            captions = torch.cat([embed_texts(self.model, self.tokenise(texts[i:i + 256]))
                                  for i in range(0, len(texts), 256)])
        self.model.train()
        return pictures.numpy(), captions.numpy()


# ---------------------------------------------------------------- losses

def softmax_loss(logits: torch.Tensor, also_true: torch.Tensor) -> torch.Tensor:
    """CLIP's: which caption belongs to the picture, and which picture to the caption. logits [n, n + hard negatives]"""
    n = len(logits)
    logits, target = logits.masked_fill(also_true, MASKED), torch.arange(n)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :n].T, target)) / 2


def sigmoid_loss(logits: torch.Tensor, also_true: torch.Tensor) -> torch.Tensor:
    """SigLIP's: of each picture and caption by themselves, whether they belong together; the sum, by picture."""
    n = len(logits)
    sign = 2 * torch.eye(n, logits.shape[1]) - 1
    return -F.logsigmoid(sign * logits).masked_fill(also_true, 0).sum() / n


def batch_loss(model, batch, tokenise: Tokeniser, text_only: bool = False) -> torch.Tensor:
    """A data.Batch to its loss, by the loss that the model was made for. text_only: for the text tower alone."""
    unique = sorted(set(batch.texts))
    row = {text: i for i, text in enumerate(unique)}
    texts = embed_texts(model, tokenise(unique))[torch.tensor([row[text] for text in batch.texts])]
    with torch.set_grad_enabled(not text_only):
        pictures = embed_pictures(model, batch.pixels)
    logits = model.logit_scale.exp() * pictures @ texts.T
    also_true = torch.from_numpy(batch.also_true)
    if hasattr(model, BIAS):
        return sigmoid_loss(logits + getattr(model, BIAS), also_true)
    return softmax_loss(logits, also_true)


def make_optimiser(model) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
                             betas=(0.9, 0.98))


def descend(model, optimiser, loss: torch.Tensor, lr: float) -> float:
    """One step of the optimiser; the loss as a number."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return loss.item()


# ---------------------------------------------------------------- state

def arrays_of(model, optimiser) -> dict[str, np.ndarray]:
    """Everything that changes while it trains, by name, but for the order and the captions, which are data.py's."""
    arrays = {f"model/{name}": value.numpy().copy() for name, value in model.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        arrays.update({f"optimiser/{i}/{name}": value.numpy().copy() for name, value in state.items()})
    arrays["torch_rng"] = torch.get_rng_state().numpy().copy()
    return arrays


def take_arrays(model, optimiser, arrays: dict[str, np.ndarray]) -> None:
    model.load_state_dict({name.removeprefix("model/"): torch.from_numpy(value.copy())
                           for name, value in arrays.items() if name.startswith("model/")})
    states: dict[int, dict] = {}
    for name, value in arrays.items():
        if name.startswith("optimiser/"):
            _, i, field = name.split("/")
            states.setdefault(int(i), {})[field] = torch.from_numpy(value.copy())
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    torch.set_rng_state(torch.from_numpy(arrays["torch_rng"].copy()))


def save_weights(model, out: Path) -> None:
    """config.json and model.safetensors as transformers opens them; a bias has no place in a CLIPModel."""
    model.config.architectures = ["CLIPModel"]
    for config in (model.config, model.config.text_config, model.config.vision_config):
        config.dtype = "float32"
    model.config.save_pretrained(out)
    state = {k: v.detach().float().contiguous() for k, v in model.state_dict().items() if k != BIAS}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def bias_of(model) -> float | None:
    return getattr(model, BIAS).item() if hasattr(model, BIAS) else None


# ---------------------------------------------------------------- a finished folder

def open_embedder(folder: Path) -> Embedder:
    return Embedder(CLIPModel.from_pretrained(folder), Tokeniser(folder))


def demo_ranks(folder: Path, template: str) -> list[tuple[int, float]]:
    """(rank, probability) of the true label of each demo picture, all by transformers from the saved folder."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPImageProcessorPil.from_pretrained(folder)
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    texts = [template.format(label) for label in labels]
    ids = CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    pictures = [Image.open(folder / "pictures" / name) for name, _, _, _ in DEMO]
    with torch.no_grad():
        logits = model(**ids, **processor(images=pictures, return_tensors="pt")).logits_per_image
    own = logits.diagonal()[:, None]
    return list(zip((1 + (logits > own).sum(1)).tolist(), logits.softmax(1).diagonal().tolist()))
