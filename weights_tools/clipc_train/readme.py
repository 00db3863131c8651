"""The model's README.md: what it was trained on, and how often it is right."""
from __future__ import annotations

import itertools
from pathlib import Path

import drawer

from .folder import DEMO, DISTRACTORS, N_MERGES
from .measure import Accuracy
from .recipe import CONTEXT_LENGTH, DIMENSION, IMAGE_SIZE, PATCH_SIZE, TEXT, VISION, VOCAB_SIZE, stages

README = """\
# The bundled model

A real CLIP in the Hugging Face layout, small enough to come with the source. It was trained by
`weights_tools/train.py` on pictures that `weights_tools/drawer.py` draws: shapes, colours, counts,
positions, textures, simple scenes, letters and digits, with captions from a grammar.

**It knows these drawings, not photographs.** A photograph gets a vector and scores like any other picture,
but they mean nothing. For photographs give clipc a folder in the same layout with real weights, for instance
one of OpenAI's `clip-vit-base-patch32`: `config.json`, `model.safetensors`, `preprocessor_config.json`,
`vocab.json`, `merges.txt`.

## Accuracy

**{held_out:.1f} % top-1** among {captions} captions, on {pictures} pictures of combinations that training never showed.
An orange circle, for instance, is in no training picture, alone or with others, and in no caption, although
orange things and circles are. The pictures' seeds are new too.

| | {columns} |
|---|{rules}|
{rows}

- Held-out: the right one among all {captions} captions. These have no two that differ in the order of two shapes.
- Order: 400 pictures of two shapes, in combinations that training may show, with two captions: "a red circle above a
  blue square" and "a blue square above a red circle", or the same with "to the left of"; chance is 50 %. In the
  last line it is said from the other side: "a blue square below a red circle", "to the right of".
{precisions}

Of the pictures in `pictures/`, drawn with further new seeds and scored against the {labels} labels of
`labels.txt` by transformers (`CLIPImageProcessor` with Pillow, `CLIPTokenizer`, `CLIPModel`):

{demo}

## What it is

| | |
|---|---|
| picture | {size} x {size}, patch {patch}; vision width {vision[hidden_size]}, {vision[num_hidden_layers]} layers, \
{vision[num_attention_heads]} heads |
| text | at most {context} ids; vocabulary {vocab}; width {text[hidden_size]}, {text[num_hidden_layers]} layers, \
{text[num_attention_heads]} heads |
| embedding | {dimension}; quick_gelu; float32 weights |
| training | {stages}, of {pool} and {pairs} pairs, seed {seed} |
| time | {minutes:.0f} minutes on {threads} CPU cores |

The network and its inputs are CLIP's. The loss is {loss}.
Every picture has one hard negative caption; captions that happen to be true of another picture are not counted
against it. The last three stages also show pairs of pictures in which two shapes have changed places.

To train it again (the list of merges is in openai/CLIP, folder `clip`), or to measure it:

    cd weights_tools
    python3 -m venv venv && . venv/bin/activate && pip install '.[train]'
    python train.py --merges bpe_simple_vocab_16e6.txt.gz --out tiny{options}
    python train.py --out ../models/tiny --evaluate --clipc ../build/clipc

The weights depend on the versions of torch and transformers, on the CPU and on the number of threads in their last
digits.

## Where it comes from

`merges.txt` and `vocab.json` are the first {n_merges} merges of `bpe_simple_vocab_16e6.txt.gz` from
openai/CLIP (MIT licence, copyright 2021 OpenAI), with the two special tokens as the last two ids. All else
here, pictures included, was made by this project's scripts; nothing was taken from any data set or any other
weights.
"""
LOSS = {"softmax": "CLIP's symmetric cross-entropy",
        "sigmoid": "SigLIP's, of each picture and caption by themselves; its bias,\n{bias:.3f}, is not in the files: a "
                   "CLIPModel has no place for it, and it changes no order of captions"}


def table(by_torch: Accuracy, by_clipc: dict[str, Accuracy]) -> list[str]:
    """The lines of the table of accuracies: torch's column, then clipc's, by precision."""
    columns = [by_torch, *by_clipc.values()]
    lines = [("**held-out, all**", [a.held_out for a in columns])]
    lines += [(f"held-out, {k}", [a.by_category[k] for a in columns]) for k in drawer.CATEGORIES]
    lines += [("order, above and left of", [a.order for a in columns]),
              ("order, below and right of", [a.turned for a in columns])]
    return [f"| {name} | " + " | ".join(f"{100 * v:.1f} %" for v in values) + " |" for name, values in lines]


def demo_lines(ranks: dict[str, list[tuple[int, float]]]) -> list[str]:
    return [f"- template `{template}`: {sum(rank == 1 for rank, _ in found)} of {len(found)} right at rank 1, "
            f"lowest probability {min(p for _, p in found):.2f}" for template, found in ranks.items()]


def write(out: Path, args, by_torch: Accuracy, by_clipc: dict[str, Accuracy], ranks, minutes: float,
          bias: float | None) -> None:
    options = "".join(f" {name} {value}" for name, value, default in
                      (("--loss", args.loss, "softmax"), ("--pool", args.pool, 100000), ("--seed", args.seed, 1),
                       ("--shorten", args.shorten, 1)) if value != default)
    text = README.format(
        held_out=100 * by_torch.held_out, captions=by_torch.n_captions, pictures=by_torch.n_pictures,
        columns=" | ".join(["torch", *(f"clipc, {p}" for p in by_clipc)]),
        rules="|".join(["---"] * (1 + len(by_clipc))),
        rows="\n".join(table(by_torch, by_clipc)),
        precisions="" if by_clipc else "- Not measured in bf16 and int8; `--evaluate --clipc PROGRAM` does it.\n",
        labels=len(DEMO) + len(DISTRACTORS), demo="\n".join(demo_lines(ranks)),
        size=IMAGE_SIZE, patch=PATCH_SIZE, context=CONTEXT_LENGTH, vocab=VOCAB_SIZE, vision=VISION, text=TEXT,
        dimension=DIMENSION,
        stages=", then ".join(f"{' + '.join(str(s.steps) for s in group)} steps of {batch} pictures"
                              for batch, group in itertools.groupby(stages(args.shorten), lambda s: s.batch)),
        pool=args.pool, pairs=args.pool // 8, seed=args.seed, minutes=minutes, threads=args.threads,
        loss=LOSS[args.loss].format(bias=bias or 0), options=options, n_merges=N_MERGES)
    (out / "README.md").write_text(text.replace("\n\n\n", "\n\n"), encoding="utf-8")
