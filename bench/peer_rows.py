"""The rows of the comparison: what each engine is asked to do, and the ratio that clipc is held to.

A row has contestants, the first of which is the one judged, and checks: `at least` a ratio of the contestant's least
time to the first one's, `at most` such a ratio; `limit` and `share`, an upper and a lower bound of the first's own.
"""

from dataclasses import dataclass, field


@dataclass
class Contestant:
    name: str
    engine: str
    precision: str
    shape: str = "ViT-B-32"
    tower: str = "image"
    batch: int = 1
    tokens: int = 77
    pad_to: int = 0
    threads: int = 2
    one_core: bool = False
    tier: str = ""
    gemm: str = ""
    environment: dict = field(default_factory=dict)


@dataclass
class Check:
    name: str  # the contestant compared with the first; of a limit or a share, the first
    kind: str  # at least, at most, limit, share
    floor: float
    aim: float | None = None


@dataclass
class Row:
    id: str
    title: str
    contestants: list
    checks: list
    value: str = "ms_per_item_min"  # of the JSON line; the least over the rounds counts, of a share the median
    unit: str = "ms"


def classifier_tokens():
    """Mean tokens of 1000 labels in 7 templates: every word here is one token of CLIP's vocabulary, but itap is two."""
    nouns = (
        "cat dog horse cow sheep pig goat bird duck chicken fish shark whale frog snake lion tiger bear wolf fox car "
        "bus truck train boat ship plane bike bridge tower house church castle garden river beach mountain forest "
        "desert island chair table lamp clock phone camera guitar piano"
    ).split()
    adjectives = "red blue green white black old young big tiny wet".split()
    templates = (
        "itap of a {} .",
        "a bad photo of the {} .",
        "a origami {} .",
        "a photo of the large {} .",
        "a {} in a video game .",
        "art of the {} .",
        "a photo of the small {} .",
    )
    labels = nouns + [f"{a} {n}" for a in adjectives for n in nouns]
    labels += [f"{a} {b} {n}" for a in adjectives for b in adjectives if a != b for n in nouns]
    texts = [template.format(label).split() for label in labels[:1000] for template in templates]
    return sum(2 + len(words) + words.count("itap") for words in texts) / len(texts)


def versus(row_id, title, precision, peers, **work):
    """clipc against peers on the same work; peers: name -> (engine, floor, aim, what differs)."""
    contestants = [Contestant("clipc", "clipc", precision, **work)]
    checks = []
    for name, (engine, floor, aim, differs) in peers.items():
        contestants.append(Contestant(name, engine, precision, **{**work, **differs}))
        if floor:
            checks.append(Check(name, "at least", floor, aim))
    return Row(row_id, title, contestants, checks)


def tower_rows():
    floors = {  # row: precision: (OpenVINO's floor and aim)
        "b32-image-b1": {"f32": (1.20, 1.30), "bf16": (1.15, 1.30), "int8": (1.15, 1.40)},
        "b32-image-b32": {"f32": (1.08, 1.20), "bf16": (1.05, 1.20), "int8": (1.10, 1.20)},
        "l14-image-b1": {"f32": (1.00, 1.08), "bf16": (1.15, 1.25), "int8": (1.10, 1.20)},
        "b32-text77-b1": {"f32": (1.15, 1.30), "bf16": (1.20, 1.40), "int8": (1.20, 1.40)},
        "b32-text8-b1": {"f32": (1.00, 1.05), "bf16": (1.05, 1.10), "int8": (1.05, 1.20)},
        "classifier": {"f32": (5.0, None), "bf16": (5.0, None), "int8": (5.0, None)},
    }
    work = {
        "b32-image-b1": ("ViT-B/32 image", {}),
        "b32-image-b32": ("ViT-B/32 image, batch 32", dict(batch=32)),
        "l14-image-b1": ("ViT-L/14 image", dict(shape="ViT-L-14")),
        "b32-text77-b1": ("ViT-B/32 text, 77 tokens", dict(tower="text")),
        "b32-text8-b1": ("ViT-B/32 text, 8 tokens", dict(tower="text", tokens=8)),
        # 10 labels at a time, as open_clip builds its classifiers
        "classifier": ("1000 labels x 7 templates", dict(tower="text", tokens=round(classifier_tokens()), batch=70)),
    }
    onnxruntime = {"f32": (1.45, 1.6), "int8": (1.8, 2.2)}
    padded = {"f32": 3.5, "bf16": 4.0, "int8": 4.0}
    rows = []
    for name, (title, what) in work.items():
        for precision, (floor, aim) in floors[name].items():
            if name == "classifier":
                peers = {"openvino, padded to 77": ("openvino", floor, aim, dict(pad_to=77))}
            else:
                peers = {"openvino": ("openvino", floor, aim, {})}
            if name == "b32-text8-b1":
                peers["openvino, padded to 77"] = ("openvino", padded[precision], None, dict(pad_to=77))
            if name != "classifier" and precision != "bf16":
                peers["onnxruntime"] = (
                    "onnxruntime",
                    *(onnxruntime[precision] if name == "b32-image-b1" else (None, None)),
                    {},
                )
            if name == "b32-image-b1" and precision == "f32":
                peers["candle"] = ("candle", 3.5, 4.0, {})
            if name == "b32-image-b1" and precision != "int8":
                peers["torch"] = ("torch", None, None, {})
            model, rest = name.rsplit("-", 1) if name != "classifier" else (name, "")
            rows.append(
                versus(
                    "-".join(filter(None, (model, precision, rest))), f"{title}, {precision}", precision, peers, **what
                )
            )
    return rows


def own_rows():
    """clipc against itself: threads, and its AVX2 tier against OpenBLAS and across precisions."""
    haswell = {"OPENBLAS_CORETYPE": "Haswell"}
    return [
        *(
            Row(
                f"threads-{p}",
                f"2 threads against 1, {p}",
                [Contestant("clipc", "clipc", p), Contestant("clipc, 1 thread", "clipc", p, threads=1)],
                [Check("clipc, 1 thread", "at least", 1.85)],
            )
            for p in ("f32", "bf16", "int8")
        ),
        *(
            Row(
                f"one-core-{p}",
                f"2 threads on one core against 1, {p}",
                [
                    Contestant("clipc, 1 thread", "clipc", p, threads=1, one_core=True),
                    Contestant("clipc, 2 threads", "clipc", p, one_core=True),
                ],
                [Check("clipc, 2 threads", "at most", 1.2)],
            )
            for p in ("f32", "int8")
        ),
        Row(
            "openblas-f32",
            "AVX2 tier against OpenBLAS's Haswell kernels, f32",
            [
                Contestant("clipc, avx2", "clipc", "f32", tier="avx2"),
                Contestant("clipc, OpenBLAS", "clipc", "f32", tier="avx2", gemm="openblas", environment=haswell),
            ],
            [Check("clipc, OpenBLAS", "at least", 1.2)],
        ),
        Row(
            "avx2-int8",
            "AVX2 tier, int8 against f32",
            [
                Contestant("clipc, avx2 int8", "clipc", "int8", tier="avx2"),
                Contestant("clipc, avx2 f32", "clipc", "f32", tier="avx2"),
            ],
            [Check("clipc, avx2 f32", "at least", 1.5)],
        ),
    ]


def gemm_rows():
    """Rate of the whole image tower over that of its products alone on the same packed weights (bench/products.c)."""
    floors = {1: {"f32": 0.90, "bf16": 0.90, "int8": 0.82}, 32: {"f32": 0.94, "bf16": 0.94, "int8": 0.88}}
    return [
        Row(
            f"gemm-{precision}-b{batch}",
            f"ViT-B/32 image / products alone, batch {batch}, {precision}",
            [Contestant("clipc", "clipc-products", precision, batch=batch)],
            [Check("clipc", "share", floor)],
            value="tower_to_gemm",
            unit="",
        )
        for batch, floor_of in floors.items()
        for precision, floor in floor_of.items()
    ]


def open_rows():
    """Model file to first image vector in a fresh process with a warm page cache: clipc's is the whole process,
    decoding included; a peer's starts after its imports."""
    rows = []
    for precision, limit in (("f32", 60), ("int8", 25)):
        rows.append(
            Row(
                f"open-{precision}",
                f"packed file to first vector, {precision}",
                [
                    Contestant("clipc", "clipc-packed", precision),
                    Contestant("openvino", "openvino", precision),
                    Contestant("openvino, its cache", "openvino-cached", precision),
                    Contestant("onnxruntime", "onnxruntime", precision),
                ],
                [Check("clipc", "limit", limit)],
                value="first_ms",
            )
        )
    rows.append(
        Row(
            "open-folder",
            "Hugging Face folder to first vector, f32",
            [Contestant("clipc", "clipc-folder", "f32")],
            [Check("clipc", "limit", 250)],
            value="first_ms",
        )
    )
    rows.append(
        Row(
            "memory-f32",
            "peak RSS, packed file, image tower, f32",
            [
                Contestant("clipc", "clipc-packed", "f32"),
                Contestant("openvino", "openvino", "f32"),
                Contestant("onnxruntime", "onnxruntime", "f32"),
            ],
            [Check("clipc", "limit", 352 + 64)],
            value="peak_rss_mb",
            unit="MB",
        )
    )
    return rows


def all_rows():
    return tower_rows() + gemm_rows() + own_rows() + open_rows()
