#!/usr/bin/env python3
"""clipc against transformers or open_clip, on your own weights, pictures and sentences.

Compared are the pixels that the network sees (greatest absolute difference), the token ids (equal or not), what the
towers hold between their blocks, layer by layer (shown, not judged), and the final embeddings of length 1 in every
precision (greatest difference of a component, cosine).

Examples:
  python compare.py -m ../models/tiny --image ../models/tiny/pictures --text "a red circle" --plot difference
  python compare.py -m fine-tuned --with open_clip --image photos/ --texts captions.txt --threshold 1e-5
  python compare.py -m ViT-B-32 --clipc-model vit-b-32.clipc --image photos/ --min-cosine int8=0.99 --format json

Without --min-cosine bf16 and int8 are shown, not judged; clipc quality says more of them, without Python.
Exit status: 0 all within the thresholds, 1 a difference beyond them or an input that could not be read, 2 not compared.
"""
from __future__ import annotations

import argparse
import json
import os
import sys

try:
    import numpy as np
except ImportError:
    print("compare.py: needs numpy: python3 -m pip install numpy", file=sys.stderr)
    sys.exit(2)

import compare_layers
import compare_plots
import references
from clipc_program import (Clipc, Failed, Progress, add_tool_options, lines_of, pictures_of, run_tool, tool_parser,
                           whole, write_report)

PRECISIONS = ("f32", "bf16", "int8")
KINDS = {"transformers": "hf", "transformers-tv": "hf-tv", "open_clip": "openai"}  # --with: clipc's --reference


# ---------------------------------------------------------------- arithmetic

def greatest_difference(a, b):
    """Of two arrays; infinite where their shapes differ or one holds what is no number."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max()) if a.size else 0.0


def cosine(a, b):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        return -1.0
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    value = float(a @ b / lengths) if lengths != 0 else 0.0
    return min(1.0, value) if np.isfinite(value) else -1.0


def summary(inputs, precision, kind):
    """Worst and mean over the inputs of a kind; None where there are none."""
    found = [(entry["input"], entry["embedding"][precision]) for entry in inputs
             if entry["kind"] == kind and "error" not in entry]
    if not found:
        return None
    differences = [value["difference"] for _, value in found]
    cosines = [value["cosine"] for _, value in found]
    return {"precision": precision, "kind": kind, "n": len(found),
            "worst_difference": max(differences), "mean_difference": float(np.mean(differences)),
            "worst_cosine": min(cosines), "mean_cosine": float(np.mean(cosines)),
            "worst_input": found[int(np.argmax(differences))][0]}


# ---------------------------------------------------------------- measuring

def embed(clipc, inputs, precision, quiet):
    """{precision: vector} of each input, added to its "vectors"; "error" where there is none."""
    left = [entry for entry in inputs if "error" not in entry]
    paths = [entry["input"] for entry in left if entry["kind"] == "image"]
    texts = [entry["input"] for entry in left if entry["kind"] == "text"]
    if not left:
        return
    with Progress(f"clipc {precision}", len(left), quiet) as progress:
        vectors, _ = clipc.embed(paths, texts, ["--precision", precision], progress)
    for entry, vector in zip(left, vectors):
        entry.setdefault("vectors", {})[precision] = vector
        if np.isnan(vector).any():
            entry["error"] = f"clipc gives no vector in {precision}"


def measure_one(entry, ids, clipc, reference, progress):
    """Fills the entry of one input; its "error" says what kept it from being compared."""
    is_image, vectors = entry["kind"] == "image", entry.pop("vectors", {})
    if "error" in entry:
        return
    try:
        if is_image:
            expected, theirs = reference.embed_image(entry["input"]), reference.pixels(entry["input"])
        else:
            expected, theirs = reference.embed_text(entry["input"]), list(reference.ids(entry["input"]))
    except Exception as trouble:  # a library's own, whatever it is: this input has no reference
        entry["error"] = f"{reference.name}: {references.first_line(trouble)}"
        return
    if is_image:
        ours = clipc.pixels(entry["input"], progress)
        entry["pixel_difference"] = float("inf") if ours is None else greatest_difference(ours, theirs)
    else:
        entry["ids_equal"] = ids == theirs
        if not entry["ids_equal"]:
            entry["ids"], entry["reference_ids"] = ids, theirs
    entry["embedding"] = {precision: {"difference": greatest_difference(vector, expected),
                                      "cosine": cosine(vector, expected)} for precision, vector in vectors.items()}


def measure(clipc, reference, paths, texts, precisions, quiet=True):
    """[{"kind", "input", "pixel_difference" or "ids_equal", "embedding": {precision: ...}}], or with "error"."""
    inputs = [{"kind": "image", "input": path} for path in paths] + [{"kind": "text", "input": t} for t in texts]
    for precision in precisions:
        embed(clipc, inputs, precision, quiet)
    ids = [None] * len(paths) + (clipc.ids(texts) if texts else [])
    with Progress(reference.name, len(inputs), quiet) as progress:
        for entry, its_ids in zip(inputs, ids):
            measure_one(entry, its_ids, clipc, reference, progress)
            progress.step()
    return inputs


def judge(inputs, threshold, pixel_threshold, min_cosine):
    """Sentences about what is beyond its threshold."""
    beyond = []
    for entry in inputs:
        if "error" in entry:
            beyond.append(f"{entry['input']}: not compared: {entry['error']}")
            continue
        if not entry.get("pixel_difference", 0) <= pixel_threshold:
            beyond.append(f"{entry['input']}: pixels differ by {entry['pixel_difference']:.3g}")
        if not entry.get("ids_equal", True):
            beyond.append(f"{entry['input']}: other token ids")
        if "layers_error" in entry:
            beyond.append(f"{entry['input']}: layers not compared: {entry['layers_error']}")
        for precision, value in entry["embedding"].items():
            if precision == "f32" and not value["difference"] <= threshold:
                beyond.append(f"{entry['input']}: f32 differs by {value['difference']:.3g}")
            if precision in min_cosine and not value["cosine"] >= min_cosine[precision]:
                beyond.append(f"{entry['input']}: {precision} has cosine {value['cosine']:.6f}")
    return beyond


# ---------------------------------------------------------------- the report

def report_of(args, about, reference, inputs, precisions):
    rows = [summary(inputs, precision, kind) for kind in ("image", "text") for precision in precisions]
    beyond = judge(inputs, args.threshold, args.pixel_threshold, args.min_cosine)
    return {"clipc": about["version"], "reference": reference.name, "model": args.model,
            "thresholds": {"f32": args.threshold, "pixels": args.pixel_threshold, "min_cosine": args.min_cosine},
            "summary": [row for row in rows if row], "layers": compare_layers.summary(inputs, precisions),
            "within": not beyond, "beyond": beyond, "inputs": inputs}


def as_lines(report):
    pixels = [(entry["pixel_difference"], entry["input"]) for entry in report["inputs"] if "pixel_difference" in entry]
    ids = [entry["ids_equal"] for entry in report["inputs"] if "ids_equal" in entry]
    lines = [f"{report['model']}: clipc {report['clipc']} against {report['reference']}"]
    if pixels:
        worst = max(pixels)
        lines.append(f"pixels   {len(pixels)} pictures, greatest difference {worst[0]:.3g}"
                     + (f" ({worst[1]})" if worst[0] > 0 else ""))
    if ids:
        lines.append(f"ids      {sum(ids)} of {len(ids)} texts equal")
    lines.append(f"{'':13} {'n':>6} {'difference':>11} {'mean':>11} {'worst cosine':>13} {'mean cosine':>12}  worst")
    for row in report["summary"]:
        lines.append(f"{row['kind']:6} {row['precision']:6} {row['n']:6d} {row['worst_difference']:11.3g} "
                     f"{row['mean_difference']:11.3g} {row['worst_cosine']:13.8f} {row['mean_cosine']:12.8f}  "
                     f"{json.dumps(row['worst_input'], ensure_ascii=False)[:60]}")
    lines += compare_layers.as_lines(report["layers"])
    lines += [f"beyond: {sentence}" for sentence in report["beyond"]]
    return "\n".join(lines) + "\n"


def finite(value):
    """The report with null for infinities, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# ---------------------------------------------------------------- the command

def gather(args):
    """(paths, texts)"""
    paths, texts = [], list(args.text)
    for path in args.image:
        if not os.path.isdir(path):
            paths.append(path)
            continue
        paths += pictures_of(path)
    for path in args.texts:
        try:
            texts += [line for line in lines_of(path) if line.encode()]
        except UnicodeEncodeError as trouble:
            raise Failed(f"{path}: is not UTF-8") from trouble
    if not paths and not texts:
        raise Failed("nothing to compare: give --image or --text")
    return paths, texts


def compare(args):
    paths, texts = gather(args)
    pyplot = compare_plots.load() if args.plot else None
    library = references.choose(args.model) if args.library == "auto" else args.library
    clipc = Clipc(args.program, args.clipc_model or args.model, ["--reference", KINDS[library]])
    about = clipc.inspect()
    precisions = args.precisions
    if about.get("packing"):
        precisions = [about["precision"]]  # a packed file has one
    reference = references.make(library.removesuffix("-tv"), args.model, torchvision=library.endswith("-tv"))
    inputs = measure(clipc, reference, paths, texts, precisions, args.quiet)
    compare_layers.measure(clipc, reference, inputs, precisions, args.layers, args.quiet)
    report = report_of(args, about, reference, inputs, precisions)
    write_report(json.dumps(finite(report), ensure_ascii=False) + "\n" if args.format == "json" else as_lines(report))
    if pyplot:
        compare_plots.by_input(pyplot, report, args.plot)
    if pyplot and report["layers"]:
        compare_plots.by_layer(pyplot, report, args.plot + "-layers")
    return 0 if report["within"] else 1


def precision_list(text):
    names = text.split(",")
    for name in names:
        if name not in PRECISIONS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PRECISIONS)}")
    return list(dict.fromkeys(names))


def number(text):
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 up")
    return value


def floor(text):
    precision, _, value = text.partition("=")
    if precision not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text} is not like int8=0.99")
    return precision, number(value)


def parser():
    p = tool_parser("compare.py", __doc__)
    add = p.add_argument
    add("-m", "--model", required=True, metavar="DIR", help="the folder that the reference opens")
    add("--clipc-model", metavar="MODEL", help="what clipc opens: a converted folder or a packed file [the same]")
    add("--with", dest="library", choices=("auto", *KINDS), default="auto",
        help="the reference: transformers with Pillow or with torchvision (-tv), open_clip [what the folder is]")
    add("-i", "--image", action="append", default=[], metavar="FILE|DIR", help="may be repeated")
    add("--text", action="append", default=[], metavar="TEXT", help="may be repeated")
    add("--texts", action="append", default=[], metavar="FILE", help="every line is a text; may be repeated")
    add("--precisions", type=precision_list, default=list(PRECISIONS), metavar="LIST", help="[f32,bf16,int8]")
    add("--threshold", type=number, default=1e-5, metavar="X",
        help="greatest difference of an f32 embedding's component [1e-5]")
    add("--pixel-threshold", type=number, default=1e-6, metavar="X", help="greatest difference of a pixel [1e-6]")
    add("--min-cosine", type=floor, action="append", default=[], metavar="PRECISION=X",
        help="least cosine of a precision, such as int8=0.99; may be repeated")
    add("--layers", type=whole, default=8, metavar="N",
        help="how many pictures and how many texts are looked at layer by layer [8]; 0: none")
    add("--plot", metavar="NAME", help="write the differences of each input as NAME.png and NAME.svg, those of each "
                                       "layer as NAME-layers.png and NAME-layers.svg")
    add_tool_options(p)
    return p


def main(arguments=None):
    args = parser().parse_args(arguments)
    args.min_cosine = dict(args.min_cosine)
    return run_tool("compare.py", lambda: compare(args))


if __name__ == "__main__":
    sys.exit(main())
