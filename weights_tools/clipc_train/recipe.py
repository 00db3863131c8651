"""What is trained: the network's size, the stages, and what makes two trainings the same."""
from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace

IMAGE_SIZE, PATCH_SIZE, CONTEXT_LENGTH = 60, 10, 32
VOCAB_SIZE = 3072  # 256 bytes, 256 bytes that end a word, 2558 merges, start and end of text
DIMENSION = 128
VISION = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4)
TEXT = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=2)
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LOSSES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Stage:
    """AdamW from a fresh state; the learning rate warms up and then follows a cosine over `horizon` steps."""
    name: str
    steps: int
    horizon: int
    batch: int
    lr: float
    seed: str               # of the order and the captions, after --seed
    exchanged: float = 0.0  # share of the batch that is pairs of pictures with the same two shapes exchanged
    turned: float = 0.35    # share of relations that are said from the other side
    text_only: bool = False  # the pictures' tower stays as it is


STAGES = (Stage("high", steps=600, horizon=2000, batch=256, lr=1.5e-3, seed="captions"),
          Stage("low", steps=400, horizon=400, batch=128, lr=6e-4, seed="captions/low"),
          # Which shape is where: first in one wording, which both towers learn together, then in both wordings; and
          # then all of it once more.
          Stage("order", steps=320, horizon=400, batch=128, lr=8e-4, seed="captions/order", exchanged=0.6, turned=0),
          Stage("wording", steps=400, horizon=400, batch=128, lr=1e-3, seed="captions/wording", exchanged=0.6,
                turned=0.5, text_only=True),
          Stage("all", steps=280, horizon=280, batch=128, lr=5e-4, seed="captions/all", exchanged=0.2))


def stages(shorten: int = 1) -> tuple[Stage, ...]:
    """The stages with their steps divided, at least one left of each."""
    return tuple(replace(s, steps=max(1, s.steps // shorten), horizon=max(1, s.horizon // shorten)) for s in STAGES)


def learning_rate(stage: Stage, step: int) -> float:
    warm_up = min(200, stage.horizon // 10 + 1)
    cosine = (1 + math.cos(math.pi * step / stage.horizon)) / 2
    return stage.lr * min(1, (step + 1) / warm_up) * (0.01 + 0.99 * cosine)


def settings(args) -> dict:
    """All that decides the weights, but for the versions and the machine: what a checkpoint must agree with."""
    with open(args.merges, "rb") as file:
        merges = hashlib.sha256(file.read()).hexdigest()
    return {"--seed": args.seed, "--loss": args.loss, "--pool": args.pool, "--shorten": args.shorten,
            "--merges": merges,
            "network": [IMAGE_SIZE, PATCH_SIZE, CONTEXT_LENGTH, VOCAB_SIZE, DIMENSION, VISION, TEXT],
            "stages": [asdict(stage) for stage in stages(args.shorten)]}
