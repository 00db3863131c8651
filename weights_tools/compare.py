#!/usr/bin/env python3
"""clipc against transformers or open_clip, on your own weights, pictures and sentences.

Compared are the pixels that the network sees (greatest absolute difference), the token ids (equal or not), and the
final embeddings of length 1 in every precision (greatest difference of a component, cosine). Differences layer by layer
are not shown: clipc gives no vectors from inside its towers.

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
    sys.exit("compare.py: needs numpy: python3 -m pip install numpy")

import references
from clipc_program import Clipc, Failed, Progress, default_program, pictures_of

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
    progress = Progress(f"clipc {precision}", len(left), quiet)
    try:
        vectors, _ = clipc.embed(paths, texts, ["--precision", precision], progress)
    finally:
        progress.close()
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
    progress = Progress(reference.name, len(inputs), quiet)
    try:
        for entry, its_ids in zip(inputs, ids):
            measure_one(entry, its_ids, clipc, reference, progress)
            progress.step()
    finally:
        progress.close()
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
            "summary": [row for row in rows if row], "within": not beyond, "beyond": beyond, "inputs": inputs}


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
    lines += [f"beyond: {sentence}" for sentence in report["beyond"]]
    return "\n".join(lines) + "\n"


def finite(value):
    """The report with null for infinities, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def load_matplotlib():
    try:
        import matplotlib
    except ImportError as trouble:
        raise Failed("--plot needs matplotlib: python3 -m pip install matplotlib") from trouble
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "clipc"
    import matplotlib.pyplot
    return matplotlib.pyplot


def plot(pyplot, report, name):
    """NAME.png and NAME.svg: the difference of each input, by precision, and of the pixels."""
    inputs = [entry for entry in report["inputs"] if "error" not in entry]
    least = 1e-9  # what is equal stands on the floor of the logarithmic axis
    series = [("pixels", [(i, e["pixel_difference"]) for i, e in enumerate(inputs) if "pixel_difference" in e])]
    for precision in inputs[0]["embedding"] if inputs else []:
        series.append((precision, [(i, e["embedding"][precision]["difference"]) for i, e in enumerate(inputs)]))
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    for (label, points), marker in zip(series, "xosD"):
        if points:
            axes.plot([i for i, _ in points], [min(max(d, least), 1e3) for _, d in points], marker, markersize=5,
                      label=label if label == "pixels" else f"embedding, {label}")
    axes.axhline(report["thresholds"]["f32"], color="0.4", linewidth=0.8, linestyle="--", label="threshold of f32")
    n_images = sum(e["kind"] == "image" for e in inputs)
    if 0 < n_images < len(inputs):
        axes.axvline(n_images - 0.5, color="0.8", linewidth=0.8)
    axes.set(yscale="log", xlabel="input: pictures, then texts", ylabel="greatest difference (1e-9: none)",
             title=f"clipc {report['clipc']} against {report['reference']}")
    axes.set_ylim(bottom=least / 2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small", ncols=2)
    for kind, extra in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        part = f"{name}.{kind}.part"
        try:
            figure.savefig(part, format=kind, **extra)
            os.replace(part, f"{name}.{kind}")
        finally:
            if os.path.exists(part):
                os.remove(part)
    pyplot.close(figure)


# ---------------------------------------------------------------- the command

def gather(args):
    """(paths, texts)"""
    paths, texts = [], list(args.text)
    for path in args.image:
        if not os.path.isdir(path):
            paths.append(path)
            continue
        found = pictures_of(path)
        if not found:
            raise Failed(f"{path}: no pictures in this folder")
        paths += found
    for path in args.texts:
        try:
            with open(path, encoding="utf-8-sig") as file:
                texts += [line for line in file.read().split("\n") if line]
        except UnicodeDecodeError as trouble:
            raise Failed(f"{path}: is not UTF-8") from trouble
    if not paths and not texts:
        raise Failed("nothing to compare: give --image or --text")
    return paths, texts


def compare(args):
    paths, texts = gather(args)
    pyplot = load_matplotlib() if args.plot else None
    library = references.choose(args.model) if args.library == "auto" else args.library
    clipc = Clipc(args.program, args.clipc_model or args.model, ["--reference", KINDS[library]])
    about = clipc.inspect()
    precisions = args.precisions
    if about.get("packing"):
        precisions = [about["precision"]]  # a packed file has one
    reference = references.make(library.removesuffix("-tv"), args.model, torchvision=library.endswith("-tv"))
    inputs = measure(clipc, reference, paths, texts, precisions, args.quiet)
    report = report_of(args, about, reference, inputs, precisions)
    text = json.dumps(finite(report), ensure_ascii=False) + "\n" if args.format == "json" else as_lines(report)
    sys.stdout.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    sys.stdout.flush()
    if pyplot:
        plot(pyplot, report, args.plot)
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
    about, _, rest = __doc__.partition("Examples:")
    p = argparse.ArgumentParser(prog="compare.py", description=about, epilog="Examples:" + rest,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
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
    add("--plot", metavar="NAME", help="write NAME.png and NAME.svg: the differences of each input; by layer there is "
                                       "nothing to draw, see above")
    add("-f", "--format", choices=("lines", "json"), default="lines", help="json has every input [lines]")
    add("--program", default=default_program(), metavar="FILE", help="clipc [build/clipc, else the path's]")
    add("-q", "--quiet", action="store_true", help="no progress bar")
    return p


def main(arguments=None):
    args = parser().parse_args(arguments)
    args.min_cosine = dict(args.min_cosine)
    try:
        return compare(args)
    except (Failed, references.Missing) as trouble:
        if str(trouble):
            print(f"compare.py: {trouble}", file=sys.stderr)
    except OSError as trouble:
        print(f"compare.py: {trouble.filename or 'output'}: {trouble.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("compare.py: interrupted", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
