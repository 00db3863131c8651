"""How often a model is right about pictures that it was not trained on, asked of torch or of clipc."""
from __future__ import annotations

import os
import random
import tempfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

import drawer
from clipc_program import Clipc, Failed

from .data import picture

PRECISIONS = ("f32", "bf16", "int8")


@dataclass(frozen=True)
class Accuracy:
    """Shares from 0 to 1."""
    held_out: float               # top-1 among the held-out captions
    by_category: dict[str, float]
    order: float                  # of captions with "above" or "left of" and the same with the shapes exchanged
    turned: float                 # the same said from the other side, with "below" or "right of"; chance is 0.5
    n_pictures: int
    n_captions: int
    best: np.ndarray              # which held-out caption each held-out picture got

    def row(self) -> dict[str, float]:
        return {"held_out": self.held_out, "order": self.order, "turned": self.turned, **self.by_category}


class Examination:
    """Held-out pictures, `per_caption` of each of the 64 combinations, and `n_order` pictures of two shapes."""

    def __init__(self, seed: int, per_caption: int, n_order: int = 400):
        self.concepts, self.per_caption = drawer.held_out_concepts(), per_caption
        rng = random.Random(f"{seed}/order")
        self.pairs = [drawer.random_concept(rng, "relation") for _ in range(n_order)]
        pictures = [picture(c, f"{seed}/test/{i}/{j}") for i, c in enumerate(self.concepts) for j in range(per_caption)]
        pictures += [picture(c, f"{seed}/order/{i}") for i, c in enumerate(self.pairs)]
        self.pixels = np.stack(pictures)
        changed = [drawer.exchanged(c) for c in self.pairs]
        self.texts = [drawer.caption(c) for c in self.concepts]
        for say in (drawer.caption, drawer.turned_caption):
            self.texts += [say(c) for c in self.pairs] + [say(c) for c in changed]

    def measure(self, embed) -> Accuracy:
        """embed(pixels, texts) gives unit vectors of both."""
        pictures, texts = embed(self.pixels, self.texts)
        n, n_pairs = len(self.concepts), len(self.pairs)
        best = (pictures[:n * self.per_caption] @ texts[:n].T).argmax(1)
        hit = (best.reshape(n, -1) == np.arange(n)[:, None]).mean(1)
        categories = [c.category for c in self.concepts]
        by_category = {k: float(hit[[c == k for c in categories]].mean()) for k in drawer.CATEGORIES}
        cosines = (pictures[-n_pairs:] * texts[n:].reshape(4, n_pairs, -1)).sum(2)
        order, turned = ((cosines[i] > cosines[i + 1]).mean() for i in (0, 2))
        return Accuracy(float(hit.mean()), by_category, float(order), float(turned), n * self.per_caption, n, best)


class ClipcEmbedder:
    """The same by the clipc program, in one of its precisions."""

    def __init__(self, program: str, model: str, precision: str):
        self.clipc, self.options = Clipc(program, model), ["--precision", precision, "--batch", "32"]

    def __call__(self, pixels, texts):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, f"{i:05d}.png") for i in range(len(pixels))]
            for path, shown in zip(paths, pixels):
                Image.fromarray(shown).save(path)
            vectors, status = self.clipc.embed(paths, texts, self.options)
        if status:
            raise Failed(f"{self.clipc.program}: could not embed all of the held-out pictures")
        return vectors[:len(paths)], vectors[len(paths):]


def by_clipc(program: str, model: str, examination: Examination) -> dict[str, Accuracy]:
    return {precision: examination.measure(ClipcEmbedder(program, model, precision)) for precision in PRECISIONS}
