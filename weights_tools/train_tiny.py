#!/usr/bin/env python3
"""Train models/tiny: a real, small CLIP in the Hugging Face layout.

Pictures and captions come from drawer.py, the tokeniser is OpenAI's BPE with its merges cut to the
first few thousand, the network is transformers.CLIPModel and the loss is CLIP's symmetric
cross-entropy. Two things help it learn within an hour on two cores: a caption that happens to be true
of another picture in the batch is left out of that picture's negatives, and every picture gets one
extra, hard negative caption that differs from the truth in a single attribute.

Accuracy is measured on 64 combinations that training never shows (for instance no orange circle, ever),
as top-1 among their 64 captions, and is written into the model's README.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import multiprocessing
import random
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import drawer

IMAGE_SIZE, PATCH_SIZE, CONTEXT_LENGTH = 60, 10, 32
VOCAB_SIZE = 3072  # 256 bytes, 256 bytes that end a word, 2558 merges, start and end of text
TEST_PICTURES = 40  # per held-out caption
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Stage:
    """AdamW from a fresh state; the learning rate warms up and then follows a cosine over `horizon` steps."""
    name: str
    steps: int
    horizon: int
    batch: int
    lr: float
    seed: str  # of the order and the captions, after --seed


STAGES = (Stage("high", steps=600, horizon=2000, batch=256, lr=1.5e-3, seed="captions"),
          Stage("low", steps=400, horizon=400, batch=128, lr=6e-4, seed="captions/low"))

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
               "four purple circles", "yellow heart at the bottom",
               "red circle to the left of a purple square",
               "green horizontal stripes", "red dots", "blue car", "yellow boat", "house under the sun",
               "tree under a rainbow", "black letter H", "blue digit 1", "face", "pink flower"]

README = """\
# The bundled model

A real CLIP in the Hugging Face layout, small enough to come with the source. It was trained by
`weights_tools/train_tiny.py` on pictures that `weights_tools/drawer.py` draws: shapes, colours, counts,
positions, textures, simple scenes, letters and digits, with captions from a grammar.

**It knows these drawings, not photographs.** A photograph gets a vector and scores like any other picture,
but they mean nothing. For photographs give clipc a folder in the same layout with real weights, for instance
one of OpenAI's `clip-vit-base-patch32`: `config.json`, `model.safetensors`, `preprocessor_config.json`,
`vocab.json`, `merges.txt`.

## Accuracy

**{accuracy:.1f} % top-1** among {captions} captions, on {pictures} pictures of combinations that training
never showed. An orange circle, for instance, is in no training picture, alone or with others, and in no
caption, although orange things and circles are. The pictures' seeds are new too.

| held-out combinations | top-1 among all {captions} captions |
|---|---|
{rows}

**It does not reliably know which of two shapes is which.** Given a picture of a red circle above a blue
square and the captions "a red circle above a blue square" and "a blue square above a red circle", or others
of that kind, it is right in {order:.0f} % of cases (chance is 50 %). The captions of the table contain no such
reversed pair; they ask which shapes and colours there are, and whether one is above or beside the other.

Of the pictures in `pictures/`, drawn with further new seeds and scored against the {labels} labels of
`labels.txt` by transformers (`CLIPImageProcessor` with Pillow, `CLIPTokenizer`, `CLIPModel`):

{demo}

## What it is

| | |
|---|---|
| picture | {size} x {size}, patch {patch}; vision width 128, 4 layers, 4 heads |
| text | at most {context} ids; vocabulary {vocab}; width 64, 4 layers, 2 heads |
| embedding | 128; quick_gelu; float32 weights |
| training | {stages}, out of {pool}, seed {seed} |
| time | {minutes:.0f} minutes on two CPU cores |

The network and its inputs are CLIP's. The loss is CLIP's symmetric cross-entropy, with one hard negative
caption per picture, and captions that happen to be true of another picture are not counted against it.

To train it again (the list of merges is in openai/CLIP, folder `clip`), or to measure it:

    cd weights_tools
    python3 -m venv venv && . venv/bin/activate && pip install '.[train]'
    python train_tiny.py --merges bpe_simple_vocab_16e6.txt.gz --out ../models/tiny
    python train_tiny.py --out ../models/tiny --evaluate

The weights depend on the versions of torch and transformers and on the CPU in their last digits.

## Where it comes from

`merges.txt` and `vocab.json` are the first {n_merges} merges of `bpe_simple_vocab_16e6.txt.gz` from
openai/CLIP (MIT licence, copyright 2021 OpenAI), with the two special tokens as the last two ids. All else
here, pictures included, was made by this project's scripts; nothing was taken from any data set or any other
weights.
"""


# ------------------------------------------------------------------------------------ tokeniser

def byte_symbols() -> list[str]:
    """The 256 byte symbols of byte-level BPE, in CLIP's id order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def write_tokeniser(merges_file: Path, out: Path) -> None:
    """vocab.json, merges.txt and the two small configs, cut to VOCAB_SIZE."""
    opener = gzip.open if merges_file.suffix == ".gz" else open
    with opener(merges_file, "rt", encoding="utf-8") as f:
        merges = f.read().split("\n")[1:VOCAB_SIZE - 512 - 2 + 1]
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + [START, END]
    assert len(tokens) == len(set(tokens)) == VOCAB_SIZE
    write_json(out / "vocab.json", {t: i for i, t in enumerate(tokens)}, indent=None)
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    write_json(out / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": START, "do_lower_case": True, "eos_token": END,
        "errors": "replace", "model_max_length": CONTEXT_LENGTH, "pad_token": END,
        "tokenizer_class": "CLIPTokenizer", "unk_token": END})
    write_json(out / "special_tokens_map.json",
               {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END})


def write_json(path: Path, value, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def write_preprocessor(out: Path) -> None:
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    write_json(out / "preprocessor_config.json", {
        "crop_size": size, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": list(MEAN),
        "image_processor_type": "CLIPImageProcessor", "image_std": list(STD), "resample": 3,
        "rescale_factor": 1 / 255, "size": {"shortest_edge": IMAGE_SIZE}})


class Tokeniser:
    """Captions to padded ids, with a cache: the grammar repeats itself."""

    def __init__(self, folder: Path):
        from transformers import CLIPTokenizer
        self.tokeniser, self.cache = CLIPTokenizer.from_pretrained(folder), {}

    def __call__(self, texts: list[str]):
        import torch
        for text in texts:
            if text not in self.cache:
                self.cache[text] = self.tokeniser(text)["input_ids"]
        rows = [self.cache[t] for t in texts]
        longest = max(map(len, rows))
        assert longest <= CONTEXT_LENGTH
        return torch.tensor([r + [VOCAB_SIZE - 1] * (longest - len(r)) for r in rows])


# ------------------------------------------------------------------------------------- pictures

def picture(concept: drawer.Concept, seed: str) -> np.ndarray:
    """u8 [60, 60, 3]: drawn at a random size, then reduced as the image processor does it."""
    rng = random.Random(seed)
    scene, size = drawer.compose(concept, rng), rng.choice((60, 75, 96, 120, 160))
    drawn = drawer.render(scene, size, size, supersample=1 if size > 100 else 2)
    return np.asarray(drawn.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def training_picture(job: tuple[int, int]):
    seed, i = job
    concept = drawer.random_concept(random.Random(f"{seed}/concept/{i}"))
    return concept, picture(concept, f"{seed}/train/{i}")


def draw_pool(n: int, seed: int, workers: int):
    """The training set: n concepts and u8 [n, 60, 60, 3]."""
    concepts, pixels = [], np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    with multiprocessing.Pool(workers) as pool:
        jobs = ((seed, i) for i in range(n))
        for i, (c, p) in enumerate(tqdm(pool.imap(training_picture, jobs, 256), "drawing", n)):
            concepts.append(c)
            pixels[i] = p
    return concepts, pixels


def normalised(pixels: np.ndarray):
    """u8 [n, 60, 60, 3] to f32 [n, 3, 60, 60] as preprocessor_config.json says."""
    import torch
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


# ---------------------------------------------------------------------------------------- model

def new_model():
    from transformers import CLIPConfig, CLIPModel
    end = VOCAB_SIZE - 1
    text = dict(vocab_size=VOCAB_SIZE, hidden_size=64, intermediate_size=256, num_hidden_layers=4,
                num_attention_heads=2, max_position_embeddings=CONTEXT_LENGTH, hidden_act="quick_gelu",
                bos_token_id=end - 1, eos_token_id=end, pad_token_id=end, projection_dim=128)
    vision = dict(image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, hidden_size=128, intermediate_size=512,
                  num_hidden_layers=4, num_attention_heads=4, hidden_act="quick_gelu", projection_dim=128)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def embed_images(model, pixels):
    import torch.nn.functional as F
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return F.normalize(model.visual_projection(pooled), dim=-1)


def embed_texts(model, ids):
    import torch.nn.functional as F
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


CODES: dict = {"": 0, 0: 0}


def codes(concepts) -> np.ndarray:
    """i32 [n, 7]: every attribute as a number, 0 where nothing is said."""
    names = [f.name for f in fields(drawer.Concept)]
    rows = [[CODES.setdefault(getattr(c, name), len(CODES)) for name in names] for c in concepts]
    return np.array(rows, np.int32)


def true_of(captions: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """bool [n_pictures, n_captions]: nothing that the caption says contradicts the picture."""
    said, shown = captions[None, :, :], pictures[:, None, :]
    return ((said == 0) | (said == shown)).all(-1)


def clip_loss(model, pixels, concepts, tokenise, rng):
    """CLIP's symmetric cross-entropy with one hard negative caption per picture."""
    import torch
    import torch.nn.functional as F
    n = len(concepts)
    said = [drawer.less_said(c, rng) for c in concepts]
    said += [drawer.altered(c, rng) for c in said]
    texts = [drawer.caption(c, rng) for c in said]
    unique = sorted(set(texts))
    row = {t: i for i, t in enumerate(unique)}
    text = embed_texts(model, tokenise(unique))[torch.tensor([row[t] for t in texts])]
    logits = model.logit_scale.exp() * embed_images(model, pixels) @ text.T  # [n, 2n]
    also_true = true_of(codes(said), codes(concepts))
    also_true[np.arange(n), np.arange(n)] = False
    logits = logits.masked_fill(torch.from_numpy(also_true), -1e4)
    target = torch.arange(n)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :n].T, target)) / 2


# ------------------------------------------------------------------------------------- accuracy

def held_out_accuracy(model, tokenise, seed: int, per_caption: int):
    """Top-1 among the held-out captions: (overall, {category: accuracy}, pictures, captions)."""
    import torch
    concepts = drawer.held_out_concepts()
    pixels = np.stack([picture(c, f"{seed}/test/{i}/{j}")
                       for i, c in enumerate(concepts) for j in range(per_caption)])
    model.eval()
    with torch.no_grad():
        text = embed_texts(model, tokenise([drawer.caption(c) for c in concepts]))
        parts = np.array_split(pixels, 1 + len(pixels) // 256)
        image = torch.cat([embed_images(model, normalised(part)) for part in parts])
    model.train()
    best = (image @ text.T).argmax(1).numpy().reshape(len(concepts), per_caption)
    hit = (best == np.arange(len(concepts))[:, None]).mean(1)
    names = [c.category for c in concepts]
    by_category = {k: float(hit[[n == k for n in names]].mean()) for k in drawer.CATEGORIES}
    return float(hit.mean()), by_category, pixels.shape[0], len(concepts)


def order_accuracy(model, tokenise, seed: int, n: int = 400) -> float:
    """How often a relation's caption beats the same caption with its two shapes exchanged."""
    import torch
    rng, concepts = random.Random(f"{seed}/order"), []
    while len(concepts) < n:
        c = drawer.random_concept(rng)
        concepts += [c] if c.category == "relation" else []
    reversed_ = [replace(c, what=c.what2, colour=c.colour2, what2=c.what, colour2=c.colour) for c in concepts]
    pixels = np.stack([picture(c, f"{seed}/order/{i}") for i, c in enumerate(concepts)])
    with torch.no_grad():
        image = embed_images(model.eval(), normalised(pixels))
        said, swapped = (embed_texts(model, tokenise([drawer.caption(c) for c in some]))
                         for some in (concepts, reversed_))
    return float(((image * said).sum(1) > (image * swapped).sum(1)).float().mean())


# --------------------------------------------------------------------------------------- saving

def save(model, out: Path) -> None:
    from safetensors.torch import save_file
    model.config.architectures = ["CLIPModel"]
    for config in (model.config, model.config.text_config, model.config.vision_config):
        config.dtype = "float32"
    model.config.save_pretrained(out)
    state = {k: v.detach().float().contiguous() for k, v in model.state_dict().items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def write_demo(out: Path) -> None:
    """The demo's pictures, from seeds that training never uses, and its label list."""
    (out / "pictures").mkdir(exist_ok=True)
    for name, concept, width, height in DEMO:
        drawn = drawer.draw(concept, f"demo/{Path(name).stem}", width, height)
        drawn.save(out / "pictures" / name, optimize=True, quality=92)
    labels = [drawer.phrase(c)[1] for _, c, _, _ in DEMO] + DISTRACTORS
    (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")


def demo_ranks(out: Path, template: str) -> list[tuple[int, float]]:
    """(rank, probability) of the true label of each demo picture, by transformers from the saved folder."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
    model, processor = CLIPModel.from_pretrained(out).eval(), CLIPImageProcessorPil.from_pretrained(out)
    labels = (out / "labels.txt").read_text(encoding="utf-8").splitlines()
    texts = [template.format(label) for label in labels]
    ids = CLIPTokenizer.from_pretrained(out)(texts, padding=True, return_tensors="pt")
    pictures = [Image.open(out / "pictures" / name) for name, _, _, _ in DEMO]
    with torch.no_grad():
        logits = model(**ids, **processor(images=pictures, return_tensors="pt")).logits_per_image
    own = logits.diagonal()[:, None]
    return list(zip((1 + (logits > own).sum(1)).tolist(), logits.softmax(1).diagonal().tolist()))


def write_readme(out: Path, args, result, order: float, minutes: float) -> None:
    overall, by_category, n_pictures, n_captions = result
    demo = []
    for template in ("a photo of a {}", "{}"):
        ranks = demo_ranks(out, template)
        n_right = sum(rank == 1 for rank, _ in ranks)
        demo.append(f"- template `{template}`: {n_right} of {len(ranks)} right at rank 1, "
                    f"lowest probability {min(p for _, p in ranks):.2f}")
    text = README.format(
        accuracy=100 * overall, order=100 * order, captions=n_captions, pictures=n_pictures,
        demo="\n".join(demo),
        rows="\n".join(f"| {k} | {100 * v:.1f} % |" for k, v in by_category.items()),
        labels=len(DEMO) + len(DISTRACTORS), minutes=minutes, n_merges=VOCAB_SIZE - 514, vocab=VOCAB_SIZE,
        stages=", then ".join(f"{s.steps} steps of {s.batch} pictures" for s in STAGES), pool=args.pool,
        seed=args.seed, size=IMAGE_SIZE, patch=PATCH_SIZE, context=CONTEXT_LENGTH)
    (out / "README.md").write_text(text, encoding="utf-8")


# ----------------------------------------------------------------------------------------- main

def train_stage(model, stage: Stage, args, concepts, pixels, tokenise) -> None:
    import torch
    model.train()
    rng = random.Random(f"{args.seed}/{stage.seed}")
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05},
                                   {"params": others, "weight_decay": 0.0}], lr=stage.lr, betas=(0.9, 0.98))
    warm_up = min(200, stage.horizon // 10 + 1)
    order: list[int] = []
    bar = tqdm(range(stage.steps // args.shorten), f"training, {stage.name} rate", mininterval=1)
    for step in bar:
        if len(order) < stage.batch:
            order = rng.sample(range(len(concepts)), len(concepts))
        batch, order = order[:stage.batch], order[stage.batch:]
        for group in optimiser.param_groups:
            cosine = (1 + math.cos(math.pi * step / stage.horizon)) / 2
            group["lr"] = stage.lr * min(1, (step + 1) / warm_up) * (0.01 + 0.99 * cosine)
        loss = clip_loss(model, normalised(pixels[batch]), [concepts[i] for i in batch], tokenise, rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if args.checkpoint and (step + 1) % 100 == 0:
            save(model, args.checkpoint)
            overall, by_category, _, _ = held_out_accuracy(model, tokenise, args.seed, 5)
            tqdm.write(f"step {step + 1}: loss {loss.item():.3f}, held-out {overall:.3f} "
                       + " ".join(f"{k} {v:.2f}" for k, v in by_category.items()))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
               "  python train_tiny.py --merges bpe_simple_vocab_16e6.txt.gz --out ../models/tiny\n"
               "  python train_tiny.py --out ../models/tiny --evaluate")
    parser.add_argument("--merges", type=Path, help="OpenAI's bpe_simple_vocab_16e6.txt[.gz]")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model, made when missing")
    parser.add_argument("--evaluate", action="store_true", help="only measure the model that is in --out")
    parser.add_argument("--pool", type=int, default=100000,
                        help="training pictures to draw (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="save and measure here every 100 steps")
    parser.add_argument("--shorten", type=int, default=1, metavar="N",
                        help="divide the number of steps by N, to try the script")
    args = parser.parse_args()
    if not args.merges and not args.evaluate:
        parser.error("training needs --merges")
    return args


def report(result, order: float) -> None:
    overall, by_category, n_pictures, n_captions = result
    for name, value in by_category.items():
        print(f"held-out {name:9s} {100 * value:5.1f} %")
    print(f"order of two shapes {100 * order:.1f} % (chance is 50 %)")
    print(f"held-out top-1: {100 * overall:.2f} % of {n_pictures} pictures among {n_captions} captions")


def evaluate(args) -> None:
    from transformers import CLIPModel
    model = CLIPModel.from_pretrained(args.out)
    tokenise = Tokeniser(args.out)
    report(held_out_accuracy(model, tokenise, args.seed, TEST_PICTURES),
           order_accuracy(model, tokenise, args.seed))
    for template in ("a photo of a {}", "{}"):
        for (name, *_), (rank, share) in zip(DEMO, demo_ranks(args.out, template)):
            print(f"{name:28s} {template:16s} rank {rank}, probability {share:.3f}")


def main() -> None:
    args = arguments()
    import torch
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    if args.evaluate:
        return evaluate(args)
    start = time.monotonic()
    for folder in filter(None, (args.out, args.checkpoint)):
        folder.mkdir(parents=True, exist_ok=True)
        write_tokeniser(args.merges, folder)
        write_preprocessor(folder)
        write_demo(folder)
    tokenise = Tokeniser(args.out)
    concepts, pixels = draw_pool(args.pool, args.seed, args.threads)
    model = new_model()
    for stage in STAGES:
        train_stage(model, stage, args, concepts, pixels, tokenise)
    save(model, args.out)
    minutes = (time.monotonic() - start) / 60
    result = held_out_accuracy(model, tokenise, args.seed, TEST_PICTURES)
    order = order_accuracy(model, tokenise, args.seed)
    write_readme(args.out, args, result, order, minutes)
    print(f"{minutes:.1f} minutes")
    report(result, order)


if __name__ == "__main__":
    main()
