"""The drawer: the same seed gives the same picture, and training never meets a held-out combination."""

import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import drawer
from drawer import Concept


def training_concepts(n=4000, seed=0):
    rng = random.Random(seed)
    return [drawer.random_concept(rng) for _ in range(n)]


def pixels(concept, seed, width=60, height=60):
    return np.asarray(drawer.draw(concept, seed, width, height))


def test_held_out_captions_are_64_different_ones():
    concepts = drawer.held_out_concepts()
    assert len(concepts) == len({drawer.caption(c) for c in concepts}) == 64
    assert all(drawer.is_held_out(c) for c in concepts)


def test_a_held_out_caption_has_one_reason_only():
    """A held-out count, place or relation uses colours that training does show with these shapes."""
    for c in drawer.held_out_concepts():
        if c.category in ("count", "place", "relation"):
            assert (c.what, c.colour) not in drawer.HELD_SHAPES
            assert (c.what2, c.colour2) not in drawer.HELD_SHAPES


def test_training_never_sees_a_held_out_combination():
    for c in training_concepts():
        assert not drawer.is_held_out(c)
        if c.category in ("shape", "count", "place", "relation"):
            assert (c.what, c.colour) not in drawer.HELD_SHAPES
        assert {c.what, c.what2} not in [set(pair) for pair in drawer.HELD_RELATIONS]


def test_held_out_captions_never_appear_in_training_text():
    rng = random.Random(1)
    held = {drawer.caption(c) for c in drawer.held_out_concepts()}
    for c in training_concepts():
        said = drawer.less_said(c, rng)
        for concept in (said, drawer.altered(said, rng)):
            assert drawer.caption(concept) not in held


def test_every_attribute_of_a_held_out_combination_is_seen_elsewhere():
    seen = Counter()
    for c in training_concepts(8000):
        seen.update((c.category, f, getattr(c, f)) for f in ("what", "colour", "count", "place"))
    for c in drawer.held_out_concepts():
        for field in ("what", "colour", "count", "place"):
            assert seen[c.category, field, getattr(c, field)] > 0, (c, field)


def test_hard_negatives_differ_from_the_truth_in_what_they_say():
    rng = random.Random(2)
    for c in training_concepts(2000):
        other = drawer.altered(c, rng)
        assert other != c and other.category == c.category
        assert drawer.caption(other) != drawer.caption(c)


def test_same_seed_same_picture_other_seed_other_picture():
    for c in drawer.held_out_concepts()[::7]:
        assert (pixels(c, "a") == pixels(c, "a")).all()
        assert (pixels(c, "a") != pixels(c, "b")).any()


def test_all_kinds_draw_at_any_size():
    concepts = [Concept("shape", s, "red") for s in drawer.SHAPES]
    concepts += [Concept("texture", t, "blue") for t in drawer.TEXTURES]
    concepts += [Concept("thing", t, "pink") for t in drawer.THINGS]
    concepts += [Concept("thing", t) for t in drawer.NATURAL]
    concepts += [Concept("glyph", g, "green") for g in drawer.GLYPHS]
    concepts += [Concept("scene", g, what2=s) for g in drawer.GROUND for s in drawer.SKY]
    for c in concepts:
        for width, height in ((60, 60), (64, 48), (33, 70)):
            picture = pixels(c, "size", width, height)
            assert picture.shape == (height, width, 3)
            assert picture.std() > 3, c


@pytest.mark.parametrize("n", drawer.NUMBERS)
def test_count_draws_that_many_separate_shapes(n):
    scene = drawer.compose(Concept("count", "star", "red", n), random.Random(n))
    centres = [np.mean(points, axis=0) for _, points in scene.polygons]
    assert len(centres) == n
    for i, a in enumerate(centres):
        assert all(np.hypot(*(a - b)) > 0.18 for b in centres[:i])


def test_place_and_relation_put_shapes_where_they_say():
    def centres(concept):
        return [np.mean(p, axis=0) for _, p in drawer.compose(concept, random.Random(5)).polygons]

    base = Concept("place", "circle", "red")
    for place, axis, low in (("left", 0, True), ("right", 0, False), ("top", 1, True), ("bottom", 1, False)):
        assert (centres(replace(base, place=place))[0][axis] < 0.35) == low
    for place, axis in (("left", 0), ("above", 1)):
        first, second = centres(Concept("relation", "circle", "red", place=place, what2="square", colour2="blue"))
        assert first[axis] < second[axis] - 0.3


def test_captions():
    assert drawer.caption(Concept("shape", "circle", "orange")) == "an orange circle"
    assert drawer.caption(Concept("count", "cross", "red", 3)) == "three red crosses"
    assert drawer.caption(Concept("place", "star", "blue", place="top")) == "a blue star at the top"
    assert drawer.caption(Concept("glyph", "A", "red")) == "a red letter A"
    assert drawer.caption(Concept("glyph", "7")) == "the digit 7"
    assert drawer.caption(Concept("scene", "house", what2="moon")) == "a house under the moon"
    relation = Concept("relation", "circle", "red", place="above", what2="square", colour2="blue")
    said = {drawer.caption(relation, random.Random(i)) for i in range(200)}
    assert {"a red circle above a blue square", "a blue square below a red circle",
            "a photo of a red circle above a blue square"} <= said


def test_relations_exchanged_and_said_from_the_other_side():
    relation = Concept("relation", "circle", "red", place="left", what2="square", colour2="blue")
    other = Concept("relation", "square", "blue", place="left", what2="circle", colour2="red")
    assert drawer.exchanged(relation) == other
    assert drawer.turned_caption(relation) == "a blue square to the right of a red circle"
    for share, words in ((0, "to the left of"), (1, "to the right of")):
        assert all(words in drawer.caption(relation, random.Random(i), share) for i in range(40))


def test_concepts_of_one_category():
    assert {drawer.random_concept(random.Random(i), "relation").category for i in range(40)} == {"relation"}
