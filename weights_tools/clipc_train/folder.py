"""The files of the model's folder but for the weights: the tokeniser, the preparation of pictures, the demo."""
from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import drawer
from clipc_program import Failed

from .recipe import CONTEXT_LENGTH, IMAGE_SIZE, MEAN, STD, VOCAB_SIZE

START, END = "<|startoftext|>", "<|endoftext|>"
N_MERGES = VOCAB_SIZE - 2 * 256 - 2

DEMO = [  # (file name, concept, width, height): what the demo shows
    ("red_circle.png", drawer.Concept("shape", "circle", "red"), 224, 224),
    ("blue_square.png", drawer.Concept("shape", "square", "blue"), 224, 224),
    ("three_green_stars.png", drawer.Concept("count", "star", "green", 3), 320, 240),
    ("five_purple_circles.png", drawer.Concept("count", "circle", "purple", 5), 240, 240),
    ("yellow_heart_top.png", drawer.Concept("place", "heart", "yellow", place="top"), 240, 320),
    ("circle_above_square.png", drawer.Concept("relation", "circle", "red", place="above", what2="square",
                                               colour2="purple"), 240, 240),
    ("green_checkerboard.png", drawer.Concept("texture", "checkerboard", "green"), 224, 224),
    ("red_car.jpg", drawer.Concept("thing", "car", "red"), 320, 240),
    ("yellow_fish.jpg", drawer.Concept("thing", "fish", "yellow"), 320, 240),
    ("house_under_moon.jpg", drawer.Concept("scene", "house", what2="moon"), 320, 240),
    ("letter_a.png", drawer.Concept("glyph", "A", "black"), 224, 224),
    ("digit_7.png", drawer.Concept("glyph", "7", "blue"), 224, 224),
]
DISTRACTORS = ["green circle", "red square", "purple triangle", "three green hearts", "two green stars",
               "four purple circles", "yellow heart at the bottom", "red circle to the left of a purple square",
               "green horizontal stripes", "red dots", "blue car", "yellow boat", "house under the sun",
               "tree under a rainbow", "black letter H", "blue digit 1", "face", "pink flower"]


def write_json(path: Path, value, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def byte_symbols() -> list[str]:
    """The 256 byte symbols of byte-level BPE, in CLIP's id order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def read_merges(path: Path) -> list[str]:
    """The first N_MERGES of OpenAI's list, whose first line is a comment."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            merges = file.read().split("\n")[1:N_MERGES + 1]
    except (gzip.BadGzipFile, EOFError, zlib.error) as trouble:
        raise Failed(f"{path}: is a damaged gzip file") from trouble
    except UnicodeDecodeError as trouble:
        raise Failed(f"{path}: is not UTF-8") from trouble
    except OSError as trouble:
        raise Failed(f"{path}: {trouble.strerror}") from trouble
    for number, line in enumerate(merges, 2):
        if len(line.split(" ")) != 2 or not all(line.split(" ")):
            raise Failed(f"{path}: line {number} is no merge of two symbols")
    if len(merges) < N_MERGES or len({merge.replace(" ", "") for merge in merges}) < N_MERGES:
        raise Failed(f"{path}: has no {N_MERGES} different merges; bpe_simple_vocab_16e6.txt.gz is needed")
    return merges


def write_tokeniser(merges: list[str], out: Path) -> None:
    """vocab.json, merges.txt and the two small configs."""
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + [START, END]
    write_json(out / "vocab.json", {t: i for i, t in enumerate(tokens)}, indent=None)
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    write_json(out / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": START, "do_lower_case": True, "eos_token": END, "errors": "replace",
        "model_max_length": CONTEXT_LENGTH, "pad_token": END, "tokenizer_class": "CLIPTokenizer", "unk_token": END})
    write_json(out / "special_tokens_map.json",
               {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END})


def write_preprocessor(out: Path) -> None:
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    write_json(out / "preprocessor_config.json", {
        "crop_size": size, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": list(MEAN),
        "image_processor_type": "CLIPImageProcessor", "image_std": list(STD), "resample": 3,
        "rescale_factor": 1 / 255, "size": {"shortest_edge": IMAGE_SIZE}})


def write_demo(out: Path) -> None:
    """The demo's pictures, from seeds that training never uses, and its label list."""
    (out / "pictures").mkdir(exist_ok=True)
    for name, concept, width, height in DEMO:
        drawn = drawer.draw(concept, f"demo/{Path(name).stem}", width, height)
        drawn.save(out / "pictures" / name, optimize=True, quality=92)
    labels = [drawer.phrase(c)[1] for _, c, _, _ in DEMO] + DISTRACTORS
    (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")


def write_all(merges: list[str], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_tokeniser(merges, out)
    write_preprocessor(out)
    write_demo(out)
