"""Seeded drawings and their captions: the data on which models/tiny is trained.

A `Concept` says what a picture shows (a red circle, three green stars, the letter A in blue ...).
    random_concept(rng)            a concept that training may see (never a held-out combination)
    held_out_concepts()            64 combinations, in a fixed order, that training never sees
    exchanged(relation)            the same two shapes, each where the other was
    caption(concept, rng)          one sentence from the grammar
    compose(concept, rng)          Scene: coloured polygons in the unit square
    render(scene, width, height)   Pillow picture of any size; the unit square is the centre square

Everything depends on the `random.Random` handed in and on nothing else, so a seed is a picture.
Polygons are the only primitive: no font files and no system library decide what a picture looks like.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

# ------------------------------------------------------------------------------------ vocabulary

COLOURS = {
    "red": (215, 30, 35), "orange": (245, 135, 20), "yellow": (245, 215, 35), "green": (40, 160, 60),
    "blue": (35, 80, 215), "purple": (125, 45, 165), "pink": (250, 135, 185), "brown": (120, 72, 35),
    "black": (18, 18, 20), "gray": (130, 130, 132),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond", "arrow", "crescent")
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PLACES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
          "centre": "in the centre"}
TEXTURES = ("horizontal stripes", "vertical stripes", "diagonal stripes", "dots", "checkerboard", "grid")
THINGS = ("house", "car", "boat", "flower", "fish", "cup", "umbrella", "balloon", "mushroom")  # any colour
NATURAL = ("tree", "face", "sun", "moon", "cloud", "rainbow")                      # their own colours
GROUND = ("house", "tree", "car", "flower", "boat", "mushroom", "umbrella", "cup")
SKY = {"sun": "the sun", "moon": "the moon", "cloud": "a cloud", "rainbow": "a rainbow"}

# Letters and digits as strokes on a grid of 5 columns and 7 rows: "xy xy xy;xy xy".
GLYPHS = {
    "A": "06 20 46;14 34", "B": "06 00 30 41 42 33 03;33 44 45 36 06", "C": "41 30 10 01 05 16 36 45",
    "D": "06 00 20 42 44 26 06", "E": "40 00 06 46;03 33", "F": "40 00 06;03 33",
    "G": "41 30 10 01 05 16 36 45 43 23", "H": "00 06;40 46;03 43", "I": "10 30;20 26;16 36",
    "J": "10 40;30 35 26 16 05", "K": "00 06;40 03 46", "L": "00 06 46", "M": "06 00 23 40 46",
    "N": "06 00 46 40", "O": "10 30 41 45 36 16 05 01 10", "P": "06 00 30 41 42 33 03",
    "Q": "10 30 41 45 36 16 05 01 10;24 46", "R": "06 00 30 41 42 33 03;23 46",
    "S": "41 30 10 01 02 13 33 44 45 36 16 05", "T": "00 40;20 26", "U": "00 05 16 36 45 40",
    "V": "00 26 40", "W": "00 16 23 36 40", "X": "00 46;40 06", "Y": "00 23 40;23 26", "Z": "00 40 06 46",
    "0": "10 30 41 45 36 16 05 01 10;41 05", "1": "02 20 26;06 46", "2": "01 10 30 41 42 06 46",
    "3": "01 10 30 41 42 33 13;33 44 45 36 16 05", "4": "36 30 04 44", "5": "40 00 02 32 43 45 36 16 05",
    "6": "41 30 10 01 05 16 36 45 44 33 13 04", "7": "00 40 16",
    "8": "10 30 41 42 33 13 02 01 10;33 44 45 36 16 05 04 13", "9": "05 16 36 45 41 30 10 01 02 13 33 42",
}

# Share of each category among the training pictures: the harder, the more.
CATEGORIES = {"shape": 14, "count": 18, "place": 11, "relation": 22, "texture": 6, "thing": 10, "scene": 6,
              "glyph": 13}


@dataclass(frozen=True)
class Concept:
    """What a picture shows, or what a caption says of it: "" and 0 are "not said"."""
    category: str
    what: str = ""
    colour: str = ""
    count: int = 0
    place: str = ""    # one of PLACES; for a relation "above" or "left": `what` is the upper or left one
    what2: str = ""
    colour2: str = ""


# ------------------------------------------------------------------------- held-out combinations

def _pairs(rows, columns, n: int, step: int) -> list[tuple]:
    """n different (row, column) pairs, spread so that no row and no column loses much."""
    rows, columns = list(rows), list(columns)
    return [(rows[k % len(rows)], columns[(step * k + k // len(rows) + 1) % len(columns)]) for k in range(n)]


HELD_SHAPES = _pairs(SHAPES, COLOURS, 14, 3)         # (shape, colour): in no category at all
HELD_COUNTS = _pairs(SHAPES, NUMBERS, 8, 3)          # (shape, count): in any colour
HELD_PLACES = _pairs(SHAPES, PLACES, 8, 2)           # (shape, place): in any colour
HELD_RELATIONS = _pairs(SHAPES[:6], SHAPES[6:], 6, 1)  # two shapes: in any colour, order or direction
HELD_TEXTURES = _pairs(TEXTURES, COLOURS, 8, 3)
HELD_THINGS = _pairs(THINGS, COLOURS, 8, 3)
HELD_SCENES = _pairs(GROUND[:4], SKY, 4, 3)
HELD_GLYPHS = _pairs("AEKRSW37", COLOURS, 8, 3)


def is_held_out(c: Concept) -> bool:
    """True when the concept contains a combination that training must not see."""
    if c.category == "texture":
        return (c.what, c.colour) in HELD_TEXTURES
    if c.category == "thing":
        return (c.what, c.colour) in HELD_THINGS
    if c.category == "scene":
        return (c.what, c.what2) in HELD_SCENES
    if c.category == "glyph":
        return (c.what, c.colour) in HELD_GLYPHS
    if (c.what, c.colour) in HELD_SHAPES or (c.what2, c.colour2) in HELD_SHAPES:
        return True
    return ((c.what, c.count) in HELD_COUNTS or (c.what, c.place) in HELD_PLACES
            or (c.what, c.what2) in HELD_RELATIONS or (c.what2, c.what) in HELD_RELATIONS)


def held_out_concepts() -> list[Concept]:
    """The 64 held-out combinations, each with one caption of its own."""
    rng = random.Random(64)

    def free_colour(shape, *taken):  # a colour that training does show with this shape
        return rng.choice([k for k in COLOURS if (shape, k) not in HELD_SHAPES and k not in taken])

    out = [Concept("shape", s, k) for s, k in HELD_SHAPES]
    out += [Concept("count", s, free_colour(s), n) for s, n in HELD_COUNTS]
    out += [Concept("place", s, free_colour(s), place=p) for s, p in HELD_PLACES]
    for i, (a, b) in enumerate(HELD_RELATIONS):
        ka = free_colour(a)
        out.append(Concept("relation", a, ka, place=("above", "left")[i % 2], what2=b,
                           colour2=free_colour(b, ka)))
    out += [Concept("texture", t, k) for t, k in HELD_TEXTURES]
    out += [Concept("thing", t, k) for t, k in HELD_THINGS]
    out += [Concept("scene", g, what2=s) for g, s in HELD_SCENES]
    out += [Concept("glyph", g, k) for g, k in HELD_GLYPHS]
    return out


# ------------------------------------------------------------------------------- random concepts

def _any_concept(category: str, rng: random.Random) -> Concept:
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    if category == "count":
        return Concept(category, shape, colour, rng.choice(list(NUMBERS)))
    if category == "place":
        return Concept(category, shape, colour, place=rng.choice(list(PLACES)))
    if category == "relation":
        other = rng.choice([s for s in SHAPES if s != shape])
        colour2 = rng.choice([k for k in COLOURS if k != colour])
        place = rng.choice(("above", "left"))
        return Concept(category, shape, colour, place=place, what2=other, colour2=colour2)
    if category == "texture":
        return Concept(category, rng.choice(TEXTURES), colour)
    if category == "thing":
        thing = rng.choice(THINGS + NATURAL)
        return Concept(category, thing, colour if thing in THINGS else "")
    if category == "scene":
        return Concept(category, rng.choice(GROUND), what2=rng.choice(list(SKY)))
    if category == "glyph":
        return Concept(category, rng.choice(list(GLYPHS)), colour)
    return Concept("shape", shape, colour)


def random_concept(rng: random.Random, category: str | None = None) -> Concept:
    """A concept for a training picture."""
    category = category or rng.choices(list(CATEGORIES), CATEGORIES.values())[0]
    while True:
        concept = _any_concept(category, rng)
        if not is_held_out(concept):
            return concept


def exchanged(c: Concept) -> Concept:
    """A relation's two shapes, each where the other was."""
    return replace(c, what=c.what2, colour=c.colour2, what2=c.what, colour2=c.colour)


def altered(c: Concept, rng: random.Random) -> Concept:
    """A concept that training may see and that differs from c in one or two attributes: a hard negative."""
    while True:
        other = _any_concept(c.category, rng)
        fields = [f for f in ("what", "colour", "count", "place", "what2", "colour2") if getattr(c, f)]
        field = rng.choice(fields)
        if c.category == "relation" and rng.random() < 0.5:
            new = rng.choice([exchanged(c), replace(c, colour=c.colour2, colour2=c.colour)])
        else:
            new = replace(c, **{field: getattr(other, field)})
        natural = c.category == "thing" and (new.what in NATURAL) != (not new.colour)
        if new != c and not natural and not is_held_out(new) and new.what != new.what2:
            return new


def less_said(c: Concept, rng: random.Random) -> Concept:
    """What a caption says of c: now and then it leaves the colours out."""
    can_drop = c.category in ("shape", "count", "place", "relation", "thing", "glyph")
    return replace(c, colour="", colour2="") if can_drop and rng.random() < 0.2 else c


# ----------------------------------------------------------------------------------- the grammar

TEMPLATES = ("{0}",) * 4 + ("a photo of {0}", "a photo of {0}.", "a drawing of {0}", "a picture of {0}",
             "an image of {0}", "this is a photo of {0}.", "there is {0}", "{1}", "a photo of a {1}",
             "a photo of a {1}", "a picture of a {1}.")


TURNED = 0.35  # share of relations that are said from the other side: below, to the right of


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _coloured(colour: str, noun: str) -> str:
    return f"{colour} {noun}" if colour else noun


def _glyph_phrase(c: Concept, rng: random.Random | None) -> tuple[str, str]:
    noun = f"{'digit' if c.what.isdigit() else 'letter'} {c.what}"
    if c.colour and rng is not None and rng.random() < 0.3:
        return f"the {noun} in {c.colour}", f"{noun} in {c.colour}"
    body = _coloured(c.colour, noun)
    article = "the " if not c.colour or (rng is not None and rng.random() < 0.3) else ""
    return article + body if article else _article(body), body


def _relation_phrase(c: Concept, turned: bool) -> tuple[str, str]:
    first, second = _coloured(c.colour, c.what), _coloured(c.colour2, c.what2)
    words = "above" if c.place == "above" else "to the left of"
    if turned:  # the same said from the other side
        first, second = second, first
        words = "below" if c.place == "above" else "to the right of"
    body = f"{first} {words} {_article(second)}"
    return _article(body), body


def phrase(c: Concept, rng: random.Random | None = None, turned: float = TURNED) -> tuple[str, str]:
    """(with article, without): ("a red circle", "red circle"). Without rng the one canonical form."""
    noun = _coloured(c.colour, c.what)
    if c.category == "count":
        body = f"{NUMBERS[c.count]} {noun}{'es' if c.what == 'cross' else 's'}"
        return body, body
    if c.category == "place":
        body = f"{noun} {PLACES[c.place]}"
    elif c.category == "relation":
        return _relation_phrase(c, rng is not None and rng.random() < turned)
    elif c.category == "texture":
        if c.what == "dots" or c.what.endswith("stripes"):
            plain = rng is None or rng.random() < 0.7
            return (noun, noun) if plain else (f"a pattern of {noun}", f"pattern of {noun}")
        body = noun
    elif c.category == "scene":
        body = f"{c.what} under {SKY[c.what2]}"
    elif c.category == "glyph":
        return _glyph_phrase(c, rng)
    else:
        body = noun
    if c.what in ("sun", "moon") and rng is not None and rng.random() < 0.5:
        return f"the {body}", body
    return _article(body), body


def caption(c: Concept, rng: random.Random | None = None, turned: float = TURNED) -> str:
    """A sentence that says c. Without rng: the canonical phrase with its article."""
    words = phrase(c, rng, turned)
    return (rng.choice(TEMPLATES) if rng is not None else "{0}").format(*words)


def turned_caption(c: Concept) -> str:
    """A relation said from the other side: "a blue square below a red circle"."""
    return _relation_phrase(c, True)[0]


# ------------------------------------------------------------------- outlines, in [-1, 1] x [-1, 1]

Polygon = tuple[str, list[tuple[float, float]]]  # role ("main", "dark", "pale" or a name in FIXED), points
FIXED = {"bark": (115, 75, 40), "leaf": (45, 140, 55), "ink": (25, 25, 30), "glass": (190, 225, 240),
         "gold": (250, 205, 50), "cream": (225, 205, 165), "skin": (240, 195, 140), "snow": (225, 230, 238),
         "lamp": (245, 240, 190), "mouth": (190, 50, 50)}


def _disc(x=0.0, y=0.0, rx=1.0, ry=None, start=0.0, stop=360.0, n=28):
    ry = rx if ry is None else ry
    angles = [math.radians(start + (stop - start) * i / n) for i in range(n + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def _box(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _band(x, y, outer, inner, start=0.0, stop=360.0):
    return _disc(x, y, outer, None, start, stop) + _disc(x, y, inner, None, start, stop)[::-1]


def _turned(radii, start=-90.0):
    """A polygon from polar radii at equal angles."""
    step = 360.0 / len(radii)
    return [(r * math.cos(math.radians(start + i * step)), r * math.sin(math.radians(start + i * step)))
            for i, r in enumerate(radii)]


def _heart():
    out = []
    for i in range(33):
        t = 2 * math.pi * i / 32
        out.append((math.sin(t) ** 3,
                    -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16))
    return out


def _crescent():
    return _disc(0.15, 0, 1, None, 60, 300) + _disc(0.55, 0, 0.87, None, 276, 84)


def _shape_outline(kind: str) -> list[Polygon]:
    t = 0.36
    points = {
        "circle": lambda: _disc(), "square": lambda: _box(-.88, -.88, .88, .88),
        "triangle": lambda: [(0, -.95), (1, .85), (-1, .85)], "star": lambda: _turned([1.08, .44] * 5),
        "cross": lambda: [(-t, -1), (t, -1), (t, -t), (1, -t), (1, t), (t, t), (t, 1), (-t, 1), (-t, t),
                          (-1, t), (-1, -t), (-t, -t)],
        "ring": lambda: _band(0, 0, 1, .56), "heart": _heart,
        "diamond": lambda: [(0, -1.1), (.72, 0), (0, 1.1), (-.72, 0)],
        "arrow": lambda: [(-1, -.3), (.1, -.3), (.1, -.85), (1.05, 0), (.1, .85), (.1, .3), (-1, .3)],
        "crescent": _crescent,
    }[kind]()
    return [("main", points)]


def _thing_outline(kind: str) -> list[Polygon]:
    if kind == "house":
        return [("main", _box(-.75, -.15, .75, .95)), ("dark", [(-1, -.15), (0, -1), (1, -.15)]),
                ("cream", _box(-.2, .35, .2, .95)), ("glass", _box(.35, .1, .6, .4)),
                ("glass", _box(-.6, .1, -.35, .4))]
    if kind == "car":
        return [("main", [(-1, .0), (-.6, -.05), (-.4, -.5), (.35, -.5), (.6, -.05), (1, .05), (1, .45),
                          (-1, .45)]),
                ("glass", [(-.45, -.05), (-.32, -.4), (-.05, -.4), (-.05, -.05)]),
                ("glass", [(.05, -.05), (.05, -.4), (.28, -.4), (.45, -.05)]),
                ("ink", _disc(-.55, .45, .25)), ("ink", _disc(.55, .45, .25))]
    if kind == "boat":
        return [("main", [(-1, .35), (1, .35), (.65, .9), (-.65, .9)]), ("bark", _box(-.05, -1, .05, .35)),
                ("pale", [(.1, -.95), (.85, .2), (.1, .2)]), ("pale", [(-.1, -.75), (-.65, .2), (-.1, .2)])]
    if kind == "flower":
        petals = [("main", _disc(.42 * math.cos(a), -.4 + .42 * math.sin(a), .3))
                  for a in (math.radians(60 * i) for i in range(6))]
        return [("leaf", _box(-.06, 0, .06, 1)), ("leaf", _disc(.25, .6, .25, .12)), *petals,
                ("cream", _disc(0, -.4, .24))]
    if kind == "fish":
        return [("main", _disc(-.2, 0, .75, .5)), ("dark", [(.4, 0), (1, -.5), (1, .5)]),
                ("snow", _disc(-.55, -.1, .15)), ("ink", _disc(-.57, -.1, .07))]
    if kind == "cup":
        return [("dark", _band(.55, .0, .42, .24, -100, 100)),
                ("main", [(-.75, -.65), (.6, -.65), (.42, .8), (-.57, .8)]),
                ("dark", _disc(-.075, -.65, .675, .12))]
    if kind == "umbrella":
        return [("bark", _box(-.05, -.9, .05, .8)), ("bark", _band(.17, .75, .22, .12, 0, 180)),
                ("main", _disc(0, .05, 1, 1, 180, 360)), ("dark", _disc(0, .05, .33, 1, 180, 360))]
    if kind == "balloon":
        return [("ink", _box(-.025, .4, .025, 1)), ("main", _disc(0, -.3, .6, .72)),
                ("main", [(0, .35), (.14, .55), (-.14, .55)]), ("pale", _disc(-.2, -.55, .13, .2))]
    return [("cream", _box(-.25, .0, .25, .95)), ("main", _disc(0, .1, .95, 1, 180, 360)),  # mushroom
            ("snow", _disc(-.4, -.25, .17)), ("snow", _disc(.3, -.4, .2)), ("snow", _disc(.55, -.05, .1))]


def _natural_outline(kind: str) -> list[Polygon]:
    if kind == "tree":
        return [("bark", _box(-.15, .2, .15, 1)), ("leaf", _disc(0, -.55, .5)),
                ("leaf", _disc(-.4, -.1, .45)), ("leaf", _disc(.4, -.1, .45))]
    if kind == "face":
        return [("skin", _disc(0, 0, .95)), ("ink", _disc(-.35, -.25, .13)), ("ink", _disc(.35, -.25, .13)),
                ("mouth", _band(0, .1, .55, .42, 20, 160))]
    if kind == "sun":
        rays = [("gold", [(.62 * math.cos(a - .2), .62 * math.sin(a - .2)),
                          (1.05 * math.cos(a), 1.05 * math.sin(a)),
                          (.62 * math.cos(a + .2), .62 * math.sin(a + .2))])
                for a in (math.radians(36 * i) for i in range(10))]
        return [*rays, ("gold", _disc(0, 0, .56))]
    if kind == "moon":
        return [("lamp", _crescent())]
    if kind == "cloud":
        return [("snow", _disc(-.5, .15, .45)), ("snow", _disc(0, -.1, .55)), ("snow", _disc(.5, .15, .42)),
                ("snow", _box(-.5, .1, .5, .6))]
    bands = ("red", "orange", "yellow", "green", "blue", "purple")                     # rainbow
    return [(name, _band(0, .6, 1.05 - .11 * i, .94 - .11 * i, 180, 360)) for i, name in enumerate(bands)]


def _glyph_outline(glyph: str, half_width: float) -> list[Polygon]:
    out = []
    for stroke in GLYPHS[glyph].split(";"):
        points = [((int(p[0]) - 2) * .34, (int(p[1]) - 3) / 3) for p in stroke.split()]
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            length = math.hypot(x1 - x0, y1 - y0)
            dx, dy = half_width * (y0 - y1) / length, half_width * (x1 - x0) / length
            out.append(("main", [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy),
                                 (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)]))
        out += [("main", _disc(x, y, half_width, n=10)) for x, y in points]
    return out


# --------------------------------------------------------------------------- concept -> Scene

@dataclass
class Scene:
    """Polygons in unit coordinates (0..1 across the centre square), painted in order."""
    top: tuple          # background colours, blended from top to bottom
    bottom: tuple
    noise: int          # grain added to the finished picture, +- this many grey levels
    noise_seed: int
    polygons: list      # (rgb, [(x, y), ...])


def _jitter(rgb, rng: random.Random, amount: int = 12):
    return tuple(max(0, min(255, v + rng.randint(-amount, amount))) for v in rgb)


def _mix(rgb, other, share: float):
    return tuple(int(v + (o - v) * share) for v, o in zip(rgb, other))


def _put(scene: Scene, outline: list[Polygon], colour: str, x, y, size, rng, tilt=10.0) -> None:
    """Paint an outline at (x, y), `size` across, tilted by up to `tilt` degrees."""
    angle = math.radians(rng.uniform(-tilt, tilt))
    cos, sin = math.cos(angle) * size / 2, math.sin(angle) * size / 2
    wide = rng.uniform(.92, 1.06)
    main = _jitter(COLOURS.get(colour, (128, 128, 128)), rng)
    roles = {"main": main, "dark": _mix(main, (0, 0, 0), .28), "pale": _mix(main, (255, 255, 255), .45)}
    for role, points in outline:
        if role not in roles:
            roles[role] = _jitter(FIXED.get(role) or COLOURS[role], rng, 8)
        scene.polygons.append((roles[role], [(x + wide * px * cos - py * sin, y + wide * px * sin + py * cos)
                                             for px, py in points]))


def _background(rng: random.Random, kind: str) -> Scene:
    if kind == "night":
        top = _jitter((25, 28, 62), rng, 14)
    elif kind == "sky":
        top = _jitter((140, 195, 240), rng, 14)
    elif kind == "dark":
        top = _jitter((42, 42, 46), rng, 14)
    else:
        grey = rng.randint(218, 250)
        top = _jitter((grey, grey, grey), rng, 7)
    return Scene(top, _jitter(top, rng, 9), rng.choice((0, 0, 2, 4, 7, 10)), rng.getrandbits(30), [])


def _paper(concept: Concept, rng: random.Random) -> Scene:
    """Light paper, or dark paper when every colour of the concept shows on it."""
    murky = {"black", "brown", "gray", "purple"}
    dark = rng.random() < .15 and not {concept.colour, concept.colour2} & murky
    return _background(rng, "dark" if dark else "light")


def _spread(n: int, size: float, rng: random.Random) -> list[tuple[float, float]]:
    """n random centres, no two closer than a little over `size`."""
    low, high = size * .56, 1 - size * .56
    while True:
        points: list[tuple[float, float]] = []
        for _ in range(60):
            x, y = rng.uniform(low, high), rng.uniform(low, high)
            if all(math.hypot(x - a, y - b) > size * 1.15 for a, b in points):
                points.append((x, y))
                if len(points) == n:
                    return points


def _texture(scene: Scene, kind: str, colour: str, rng: random.Random) -> None:
    rgb, step, phase = _jitter(COLOURS[colour], rng), rng.uniform(.17, .27), rng.random()
    lines = [(i + phase) * step for i in range(-9, 13)]
    thick = step * (rng.uniform(.16, .22) if kind == "grid" else rng.uniform(.42, .58))
    for a in lines:
        if kind in ("horizontal stripes", "grid"):
            scene.polygons.append((rgb, _box(-1, a, 2, a + thick)))
        if kind in ("vertical stripes", "grid"):
            scene.polygons.append((rgb, _box(a, -1, a + thick, 2)))
        if kind == "diagonal stripes":
            b, t = 1.42 * a, 1.42 * thick
            scene.polygons.append((rgb, [(b + 1.5, -1), (b + 1.5 + t, -1), (b - 1.5 + t, 2), (b - 1.5, 2)]))
        if kind == "dots":
            scene.polygons += [(rgb, _disc(a, b, step * .3, n=14)) for b in lines]
        if kind == "checkerboard":
            i = lines.index(a)
            scene.polygons += [(rgb, _box(a, b, a + step, b + step))
                               for j, b in enumerate(lines) if (i + j) % 2]


def _any_outline(kind: str) -> list[Polygon]:
    if kind in SHAPES:
        return _shape_outline(kind)
    return _natural_outline(kind) if kind in NATURAL else _thing_outline(kind)


def _landscape(c: Concept, rng: random.Random) -> Scene:
    scene = _background(rng, "night" if c.what2 == "moon" else "sky")
    land = _jitter((60, 110, 190) if c.what == "boat" else (120, 180, 90), rng)
    scene.polygons.append((land, _box(-1, rng.uniform(.74, .8), 2, 2)))
    wide = .62 if c.what2 == "rainbow" else .34
    _put(scene, _natural_outline(c.what2), "", rng.uniform(.28, .72), rng.uniform(.19, .23),
         wide * rng.uniform(.9, 1.1), rng, 4)
    colour = rng.choice([k for k in COLOURS if k not in ("black", "blue", "green", "gray")])
    _put(scene, _any_outline(c.what), colour, rng.uniform(.3, .7), rng.uniform(.62, .68),
         rng.uniform(.46, .56), rng, 3)
    return scene


def compose(c: Concept, rng: random.Random) -> Scene:
    """A scene that shows the concept, with place, size, tilt, tint and paper varied by rng."""
    u = rng.uniform
    if c.category == "scene":
        return _landscape(c, rng)
    if c.category == "thing" and c.what in NATURAL:
        scene = _background(rng, {"moon": "night", "cloud": "sky"}.get(c.what, rng.choice(("sky", "light"))))
    else:
        scene = _paper(c, rng)
    if c.category == "texture":
        _texture(scene, c.what, c.colour, rng)
    elif c.category == "count":
        size = u(.2, .27)
        for x, y in _spread(c.count, size, rng):
            _put(scene, _shape_outline(c.what), c.colour, x, y, size * u(.92, 1.05), rng)
    elif c.category == "place":
        x, y = {"left": (.2, .5), "right": (.8, .5), "top": (.5, .2), "bottom": (.5, .8),
                "centre": (.5, .5)}[c.place]
        _put(scene, _shape_outline(c.what), c.colour, x + u(-.05, .05), y + u(-.05, .05), u(.24, .32), rng)
    elif c.category == "relation":
        across, gap, size = u(.42, .58), u(.21, .25), u(.3, .38)
        for what, colour, side in ((c.what, c.colour, -gap), (c.what2, c.colour2, gap)):
            x, y = (across, .5 + side) if c.place == "above" else (.5 + side, across)
            _put(scene, _shape_outline(what), colour, x + u(-.03, .03), y + u(-.03, .03),
                 size * u(.92, 1.08), rng)
    else:
        outline = _glyph_outline(c.what, u(.1, .17)) if c.category == "glyph" else _any_outline(c.what)
        _put(scene, outline, c.colour, .5 + u(-.07, .07), .5 + u(-.07, .07), u(.56, .8), rng, 8)
    return scene


# ------------------------------------------------------------------------------------ rendering

def render(scene: Scene, width: int, height: int, supersample: int = 2) -> Image.Image:
    """RGB picture. The scene's unit square is the centre square of the picture."""
    w, h = width * supersample, height * supersample
    side, left, top = min(w, h), (w - min(w, h)) / 2, (h - min(w, h)) / 2
    ramp = np.linspace(scene.top, scene.bottom, h).astype(np.uint8)
    picture = Image.fromarray(np.repeat(ramp[:, None, :], w, axis=1))
    draw = ImageDraw.Draw(picture)
    for rgb, points in scene.polygons:
        draw.polygon([(left + x * side, top + y * side) for x, y in points], fill=rgb)
    if supersample > 1:
        picture = picture.reduce(supersample)
    if scene.noise:
        generator = np.random.default_rng(scene.noise_seed)
        grain = generator.integers(-scene.noise, scene.noise + 1, (height, width, 1), dtype=np.int16)
        picture = Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))
    return picture


def draw(concept: Concept, seed: str | int, width: int, height: int) -> Image.Image:
    """The picture of a concept that belongs to a seed."""
    return render(compose(concept, random.Random(seed)), width, height)
