"""What the model is shown: pictures from drawer.py, captions, and which captions are true of which pictures."""
from __future__ import annotations

import multiprocessing
import random
import signal
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image

import drawer

from .recipe import IMAGE_SIZE, Stage


def picture(concept: drawer.Concept, seed: str) -> np.ndarray:
    """u8 [60, 60, 3]: drawn at a random size, then reduced as the image processor does it."""
    rng = random.Random(seed)
    scene, size = drawer.compose(concept, rng), rng.choice((60, 75, 96, 120, 160))
    drawn = drawer.render(scene, size, size, supersample=1 if size > 100 else 2)
    return np.asarray(drawn.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def pool_picture(job: tuple[int, int]):
    seed, i = job
    concept = drawer.random_concept(random.Random(f"{seed}/concept/{i}"))
    return [(concept, picture(concept, f"{seed}/train/{i}"))]


def pair_of_pictures(job: tuple[int, int]):
    """Two pictures of the same two shapes, which have changed places in the second."""
    seed, i = job
    concept = drawer.random_concept(random.Random(f"{seed}/pair/{i}"), "relation")
    return [(c, picture(c, f"{seed}/pair/{i}/{k}")) for k, c in enumerate((concept, drawer.exchanged(concept)))]


def begin_worker():
    """Ctrl-C reaches every process: the first of them ends the others, by SIGTERM, which must not raise there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def draw_all(draw, n: int, seed: int, workers: int, progress):
    """The concepts and u8 [pictures, 60, 60, 3] of draw((seed, 0)) to draw((seed, n - 1)), by several processes."""
    concepts, pixels = [], None
    with multiprocessing.Pool(workers, begin_worker) as pool:
        for drawn in pool.imap(draw, ((seed, i) for i in range(n)), 256):
            if pixels is None:
                pixels = np.empty((n * len(drawn), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
            for concept, shown in drawn:
                pixels[len(concepts)] = shown
                concepts.append(concept)
            progress.step()
        pool.close()
        pool.join()  # else they are ended by a signal, perhaps before begin_worker
    return concepts, pixels


def codes(concepts, numbers: dict) -> np.ndarray:
    """i32 [n, 7]: every attribute as a number, 0 where nothing is said."""
    names = [f.name for f in fields(drawer.Concept)]
    rows = [[numbers.setdefault(getattr(c, name), len(numbers)) for name in names] for c in concepts]
    return np.array(rows, np.int32)


def true_of(said, shown) -> np.ndarray:
    """bool [n_shown, n_said]: nothing that the caption says contradicts the picture."""
    numbers: dict = {"": 0, 0: 0}
    captions, pictures = codes(said, numbers)[None], codes(shown, numbers)[:, None]
    return ((captions == 0) | (captions == pictures)).all(-1)


@dataclass(frozen=True)
class Batch:
    pixels: np.ndarray     # u8 [n, 60, 60, 3]
    texts: list[str]       # n captions, and as many hard negatives
    also_true: np.ndarray  # bool [n, 2n]: where a caption of another picture, or a negative, is true of this one


class Batches:
    """The batches of a stage, one after the other; its place in them can be kept and found again."""

    def __init__(self, stage: Stage, seed: int, pool, pairs):
        self.stage, self.pool, self.pairs = stage, pool, pairs
        self.rng = random.Random(f"{seed}/{stage.seed}")
        self.order: list[int] = []       # of the pool's pictures that are left before it is shuffled again
        self.pair_order: list[int] = []  # of the pairs

    def _take(self, order: list[int], n: int, n_all: int) -> tuple[list[int], list[int]]:
        if len(order) < n:
            order = self.rng.sample(range(n_all), n_all)
        return order[:n], order[n:]

    def next(self) -> Batch:
        n_pairs = int(self.stage.batch * self.stage.exchanged) // 2
        concepts, pixels = self.pool
        chosen, self.order = self._take(self.order, self.stage.batch - 2 * n_pairs, len(concepts))
        shown, shown_pixels = [concepts[i] for i in chosen], pixels[chosen]
        if n_pairs:
            concepts, pixels = self.pairs
            chosen, self.pair_order = self._take(self.pair_order, n_pairs, len(concepts) // 2)
            chosen = [k for i in chosen for k in (2 * i, 2 * i + 1)]
            shown += [concepts[i] for i in chosen]
            shown_pixels = np.concatenate([shown_pixels, pixels[chosen]])
        said = [drawer.less_said(c, self.rng) for c in shown]
        said += [drawer.altered(c, self.rng) for c in said]
        texts = [drawer.caption(c, self.rng, self.stage.turned) for c in said]
        also_true = true_of(said, shown)
        np.fill_diagonal(also_true, False)
        return Batch(shown_pixels, texts, also_true)

    def place(self) -> dict:
        version, state, gauss = self.rng.getstate()
        return {"rng": [version, list(state), gauss], "order": self.order, "pair_order": self.pair_order}

    def go_to(self, place: dict) -> None:
        version, state, gauss = place["rng"]
        self.rng.setstate((version, tuple(state), gauss))
        self.order, self.pair_order = place["order"], place["pair_order"]
