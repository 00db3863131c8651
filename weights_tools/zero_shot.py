#!/usr/bin/env python3
"""How often a model finds the class of a picture by the classes' names: the numbers of `clipc zeroshot-eval`, from the
vectors that `clipc embed` writes, to check it and to build on.

TREE/FOLDER/PICTURE: each folder holds the pictures of one class. A class's vector is the normalised mean of its
normalised prompts; the class of the greatest cosine wins, the first of equals.
Lines of the file of classes, UTF-8:
  folder<TAB>name   for each class, in any order; classes without a folder are choices too
  name              or names alone, one for each folder, in the order of the folders' sorted names
Without it a class has its folder's name, with _ as a space. Lines of the file of templates: a sentence with {} where
the name goes. Empty lines are left out in both. Pictures that cannot be read are told of and do not count.

Examples:
  python zero_shot.py -m ../models/tiny --images pictures/
  python zero_shot.py -m ViT-B-32 --images imagenet/val --classes names.tsv --templates openai.txt --precision int8
  python zero_shot.py -m ViT-B-32 --images pets/ --format json | jq .top_1

Exit status: 0, 1 a picture could not be read, 2 nothing could be computed.
"""
from __future__ import annotations

import collections
import json
import os
import sys

try:
    import numpy as np
except ImportError:
    print("zero_shot.py: needs numpy: python3 -m pip install numpy", file=sys.stderr)
    sys.exit(2)

from clipc_program import (Clipc, Failed, Progress, add_tool_options, lines_of, pictures_of, run_tool, shown,
                           tool_parser, whole, write_report)

DEFAULT_TEMPLATE = "a photo of a {}"
Tree = collections.namedtuple("Tree", "folders names pictures classes")  # classes: of each picture, its class's place


def read_classes(path, folders, tree):
    """([folder], [name]) of the file of classes."""
    lines = lines_of(path)
    n_tabs = sum("\t" in line for line in lines)
    if 0 < n_tabs < len(lines):
        raise Failed(f"{path}: {n_tabs} of {len(lines)} lines have a tab; all must (folder, tab, name), or none")
    if n_tabs == 0 and len(lines) != len(folders):
        raise Failed(f"{path}: has {len(lines)} names for the {len(folders)} folders of {tree}")
    if n_tabs == 0:
        return folders, lines
    pairs = [line.split("\t", 1) for line in lines]
    for folder, times in collections.Counter(folder for folder, _ in pairs).items():
        if times > 1:
            raise Failed(f'{path}: folder "{folder}" comes twice')
    return [folder for folder, _ in pairs], [name for _, name in pairs]


def read_tree(tree, classes_file=None):
    found = [name for name in os.listdir(tree) if name[0] != "." and os.path.isdir(os.path.join(tree, name))]
    found.sort(key=os.fsencode)
    if not found:
        raise Failed(f"{tree}: has no folders of pictures in it")
    folders, names = found, [folder.replace("_", " ") for folder in found]
    if classes_file is not None:
        folders, names = read_classes(classes_file, found, tree)
    place = {folder: i for i, folder in enumerate(folders)}
    pictures, classes = [], []
    for folder in found:
        if folder not in place:
            raise Failed(f'{classes_file}: has no line for the folder "{folder}"')
        paths = pictures_of(os.path.join(tree, folder))
        pictures += paths
        classes += [place[folder]] * len(paths)
    return Tree(folders, names, pictures, classes)


def read_templates(path):
    if path is None:
        return [DEFAULT_TEMPLATE]
    templates = lines_of(path)
    for template in templates:
        if "{}" not in template:
            raise Failed(f'{path}: "{template}" has no {{}} where the class goes')
    if not templates:
        raise Failed(f"{path}: has no templates")
    return templates


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def class_vectors(prompts):
    """[classes, templates, dimension] -> float32 [classes, dimension]"""
    return unit(unit(prompts.astype(np.float64)).sum(1)).astype(np.float32)


def logits(pictures, classes, scale, bias):
    """float32 [pictures, classes]. Classes with one vector have one score to the last bit, so that they are equals."""
    unlike, which = np.unique(classes, axis=0, return_inverse=True)
    cosines = unit(pictures.astype(np.float64)) @ unit(unlike.astype(np.float64)).T
    return (scale * cosines + bias).astype(np.float32)[:, which.reshape(-1)]


def count(scores, truth):
    """(right at 1, right within 5, the class that won) of each picture; the first of equals comes first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = order == np.asarray(truth)[:, None]
    return hits[:, 0], hits.any(1), order[:, 0]


def share(part, whole):
    return part / whole if whole else 0.0


def add_up(model, tree, vectors, classes, scale, bias, top):
    """The report, as `clipc zeroshot-eval -f json` has it."""
    readable = ~np.isnan(vectors).any(1)
    vectors, truth = vectors[readable], np.array(tree.classes, dtype=np.int64)[readable]
    first, five, won = [], [], []
    for i in range(0, len(truth), 4096):
        scores = logits(vectors[i:i + 4096], classes, scale, bias)
        for out, part in zip((first, five, won), count(scores, truth[i:i + 4096])):
            out.extend(part.tolist())
    n = np.bincount(truth, minlength=len(tree.folders))
    right = np.bincount(truth[np.array(first, dtype=bool)], minlength=len(tree.folders))
    pairs = collections.Counter((int(a), b) for a, b in zip(truth, won) if a != b)
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:top]
    seen = n > 0
    return {
        "model": model, "n_images": len(truth), "n_failed": int((~readable).sum()), "n_classes": len(tree.folders),
        "top_1": share(sum(first), len(truth)), "top_5": share(sum(five), len(truth)),
        "mean_per_class": float((right[seen] / n[seen]).mean()) if seen.any() else 0.0,
        "classes": [{"folder": folder, "name": name, "n_images": int(a), "n_top_1": int(b)}
                    for folder, name, a, b in zip(tree.folders, tree.names, n, right)],
        "confusions": [{"class": tree.folders[a], "taken_for": tree.folders[b], "n": times}
                       for (a, b), times in ranked],
    }


def as_lines(report):
    by_folder = {entry["folder"]: entry for entry in report["classes"]}
    lines = [f"pictures         {report['n_images']}, of {report['n_classes']} classes",
             f"top-1            {100 * report['top_1']:.2f} %",
             f"top-5            {100 * report['top_5']:.2f} %",
             f"mean per class   {100 * report['mean_per_class']:.2f} %"]
    if report["confusions"]:
        lines.append("taken for another")
    for pair in report["confusions"]:
        one = by_folder[pair["class"]]
        lines.append(f"  {pair['n']:6d} of {one['n_images']:<6d} {shown(one['name'])} -> "
                     f"{shown(by_folder[pair['taken_for']]['name'])}")
    return "\n".join(lines) + "\n"


def as_json(report):
    """Shares with as many digits as the program writes."""
    report = {key: float(f"{value:.9g}") if isinstance(value, float) else value for key, value in report.items()}
    return json.dumps(report, ensure_ascii=False) + "\n"


def embed(clipc, what, paths, texts, options, quiet):
    with Progress(what, len(paths) + len(texts), quiet) as progress:
        return clipc.embed(paths, texts, options, progress)


def evaluate(args):
    """(report, exit status)"""
    tree, templates = read_tree(args.images, args.classes), read_templates(args.templates)
    options = [word for name in ("precision", "reference", "threads") if getattr(args, name) is not None
               for word in (f"--{name}", str(getattr(args, name)))]
    clipc = Clipc(args.program, args.model, options)
    about = clipc.inspect()
    prompts = [template.replace("{}", name) for name in tree.names for template in templates]
    vectors, status = embed(clipc, "classes", [], prompts, ["--batch", str(min(len(templates), 32))], args.quiet)
    if status:
        raise Failed("the classes' names have no vectors")
    classes = class_vectors(vectors.reshape(len(tree.names), len(templates), -1))
    vectors, status = embed(clipc, "pictures", tree.pictures, [], ["--batch", str(args.batch)], args.quiet)
    return add_up(args.model, tree, vectors, classes, about["logit_scale"], about["logit_bias"], args.top), status


def parser():
    p = tool_parser("zero_shot.py", __doc__)
    add = p.add_argument
    add("-m", "--model", required=True, metavar="MODEL", help="the model, as clipc's -m")
    add("-i", "--images", required=True, metavar="TREE", help="a folder with one folder of pictures for each class")
    add("--classes", metavar="FILE", help="the classes' names [the folders' names, _ as a space]")
    add("--templates", metavar="FILE", help=f"a sentence around {{}} on each line; several are averaged "
                                            f"[{DEFAULT_TEMPLATE}]")
    add("-k", "--top", type=whole, default=10, metavar="N", help="confusions to show [10]")
    add("--precision", choices=("f32", "bf16", "int8"), help="numbers to compute in [f32, or the packed file's]")
    add("--reference", choices=("openai", "hf", "hf-tv"), help="whose numbers to give [what the folder is]")
    add("-t", "--threads", type=whole, metavar="N", help="threads to compute with [as many as there are cores]")
    add("--batch", type=whole, default=8, metavar="N", help="pictures computed at once [8]")
    add_tool_options(p)
    return p


def main(arguments=None):
    args = parser().parse_args(arguments)

    def work():
        report, status = evaluate(args)
        write_report((as_json if args.format == "json" else as_lines)(report))
        return status

    return run_tool("zero_shot.py", work)


if __name__ == "__main__":
    sys.exit(main())
