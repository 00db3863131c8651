"""JPEG files in the page cache to vectors, images per second: clipc's program against one Python process with Pillow,
transformers' processor (its Pillow one and its torchvision one) and OpenVINO, the same weights, threads and precision.

clipc is timed as a whole process, model opening included; Python from its first file, all imports and a first
picture behind it. The engines take turns, `--rounds` times; the greatest rate of each counts, and the better Python
process is the one compared with."""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from tqdm import tqdm

import peer_models
from peer_engines import Failed, flags, last_line, pack, run_json

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {"640x480": (640, 480, 96, 1.3), "4000x3000": (4000, 3000, 12, 2.0)}  # width, height, files, floor
SHAPE = "ViT-B-32"


def make_files(photos, folder, name, count):
    """count JPEGs of one size, quality 90, from the photographs in turn, each with its own cut and camera noise."""
    from PIL import Image

    width, height = SIZES[name][:2]
    sources = sorted(
        os.path.join(photos, f) for f in os.listdir(photos) if f.lower().endswith((".jpg", ".jpeg", ".png"))
    )
    if not sources:
        sys.exit(f"end_to_end.py: no photographs in {photos}")
    os.makedirs(folder, exist_ok=True)
    for i in range(count):
        path = os.path.join(folder, f"{i:03d}.jpg")
        if os.path.exists(path):
            continue
        rng = np.random.default_rng(i)
        picture = Image.open(sources[i % len(sources)]).convert("RGB")
        scale = min(picture.width / width, picture.height / height) * rng.uniform(0.8, 1)
        left = rng.uniform(0, picture.width - scale * width)
        top = rng.uniform(0, picture.height - scale * height)
        box = (left, top, left + scale * width, top + scale * height)
        pixels = np.asarray(picture.resize((width, height), Image.BICUBIC, box=box), np.float32)
        noisy = pixels + rng.standard_normal(pixels.shape, np.float32) * 3
        Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8)).save(path + ".part", "JPEG", quality=90)
        os.replace(path + ".part", path)
    return sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".jpg"))[:count]


def python_worker(options):
    """One Python process; prints images per second of the whole list, and writes the vectors."""
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import openvino
    import torch
    import transformers
    from PIL import Image

    torch.set_num_threads(options.threads)
    kind = transformers.CLIPImageProcessor if options.worker == "torchvision" else transformers.CLIPImageProcessorPil
    processor = kind()
    make = peer_models.ensure_openvino_int8 if options.precision == "int8" else peer_models.ensure_openvino
    core = openvino.Core()
    model = core.read_model(make(options.cache, SHAPE, "image"))
    model.reshape({0: [options.batch, 3, 224, 224]})
    hint = "bf16" if options.precision == "bf16" else "f32"
    config = dict(INFERENCE_NUM_THREADS=options.threads, PERFORMANCE_HINT="LATENCY", INFERENCE_PRECISION_HINT=hint)
    request = core.compile_model(model, "CPU", config).create_infer_request()
    paths = [os.path.join(options.files, f) for f in sorted(os.listdir(options.files)) if f.endswith(".jpg")]

    def embed(some):
        pictures = [Image.open(path).convert("RGB") for path in some]
        pixels = np.asarray(processor(pictures, return_tensors="np")["pixel_values"], np.float32)
        lacking = options.batch - len(some)
        if lacking:
            pixels = np.concatenate([pixels, np.zeros((lacking, 3, 224, 224), np.float32)])
        return np.array(next(iter(request.infer([pixels]).values())))[: len(some)]

    embed(paths[: options.batch])
    start = time.perf_counter()
    vectors = np.concatenate([embed(paths[i : i + options.batch]) for i in range(0, len(paths), options.batch)])
    seconds = time.perf_counter() - start
    np.save(options.out, vectors)
    print(json.dumps(dict(rate=len(paths) / seconds)))


def run_python(options, processor, batch, folder, vectors, precision):
    command = [sys.executable, os.path.abspath(__file__)]
    command += flags(worker=processor, files=folder, batch=batch, out=vectors)
    return run_json(command + flags(precision=precision, threads=options.threads, cache=options.cache))["rate"]


def run_clipc(options, model, batch, folder, vectors, count):
    command = [options.program, "embed", "-m", model, "--reference", "hf", "-f", "npy", "--image", folder]
    command += flags(precision=options.precision, threads=options.threads, batch=batch, out=vectors)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise Failed(last_line(done.stderr) or f"exit status {done.returncode}")
    return count / seconds


def clipc_model(options):
    """clipc's packed file of the weights that OpenVINO has; the folder itself with --folder."""
    worker = [sys.executable, os.path.join(HERE, "peer_worker.py"), "--prepare"]
    run_json(worker + flags(cache=options.cache, engine="openvino", precision=options.precision))
    folder = os.path.join(options.cache, SHAPE)
    peer_models.copy_vocabulary(options.vocabulary, folder)
    if options.folder:
        return folder
    path = os.path.join(folder, f"{options.precision}.clipc")
    pack(options.program, folder, options.precision, path)
    return path


def worst_cosine(a, b):
    a, b = (np.load(path).astype(np.float64) for path in (a, b))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    return float((a * b).sum(axis=1).min())


def compare(options, model, name, work, writer):
    count = options.files_per_size or SIZES[name][2]
    folder = os.path.join(work, name)
    for path in make_files(options.photos, folder, name, count):  # into the page cache
        with open(path, "rb") as file:
            file.read()
    kinds = [(who, batch) for who in ("clipc", "pil", "torchvision") for batch in (1, 8)]
    rates = {kind: [] for kind in kinds}
    try:
        for turn in tqdm(range(options.rounds), desc=name, unit="round"):
            start = turn % len(kinds)
            for who, batch in kinds[start:] + kinds[:start]:
                vectors = f"{folder}-{who}.npy"
                try:
                    if who == "clipc":
                        rate = run_clipc(options, model, batch, folder, vectors, count)
                    else:
                        rate = run_python(options, who, batch, folder, vectors, options.precision)
                except Failed as reason:
                    print(f"\n{who}, batch {batch}: {reason}", file=sys.stderr)
                    continue
                rates[who, batch].append(rate)
                load = f"{os.getloadavg()[0]:.2f}"
                writer.writerow([name, who, batch, options.precision, options.threads, turn + 1, f"{rate:.3f}", load])
    except KeyboardInterrupt:
        print("\nstopped; what was measured is kept", file=sys.stderr)
    report(name, rates)
    report_accuracy(options, folder)


def report_accuracy(options, folder):
    try:
        run_python(options, "pil", 1, folder, f"{folder}-f32.npy", "f32")
    except Failed:
        return
    for who in ("clipc", "pil", "torchvision"):
        if os.path.exists(f"{folder}-{who}.npy"):
            cosine = worst_cosine(f"{folder}-{who}.npy", f"{folder}-f32.npy")
            print(f"{who}: worst cosine to the Pillow process in f32 {cosine:.5f}")


def report(name, rates):
    best = {kind: max(values) for kind, values in rates.items() if values}
    ours = max((rate for (who, _), rate in best.items() if who == "clipc"), default=None)
    theirs = max((rate for (who, _), rate in best.items() if who != "clipc"), default=None)
    width, height, _, floor = SIZES[name]
    print(f"\n| JPEG of {width} x {height} | batch | images/s |\n|---|---|---|")
    for (who, batch), rate in best.items():
        print(f"| {who if who == 'clipc' else 'python, ' + who} | {batch} | {rate:.1f} |")
    if ours and theirs:
        holds = "holds" if ours / theirs >= floor else "DOES NOT HOLD"
        print(f"\nclipc / the better Python process: {ours / theirs:.2f} (floor {floor}: {holds})\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python bench/end_to_end.py --photos ~/Pictures --rounds 3",
    )
    repository = os.path.dirname(HERE)
    parser.add_argument(
        "--photos",
        default=os.path.join(repository, "tests", "goldens", "photos"),
        help="folder of the photographs that are scaled [tests/goldens/photos]",
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--files-per-size", type=int, default=0, metavar="N", help="[96 small ones, 12 large ones]")
    parser.add_argument("--precision", default="int8", choices=("f32", "bf16", "int8"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--program", default="build/clipc", help="[build/clipc]")
    parser.add_argument("--cache", default=os.path.join(tempfile.gettempdir(), "clipc-peers"), help="of the models")
    parser.add_argument(
        "--vocabulary",
        default=os.path.join(repository, "models", "tiny"),
        metavar="DIR",
        help="folder whose vocab.json and merges.txt go beside the random weights [models/tiny]",
    )
    parser.add_argument(
        "--folder", action="store_true", help="clipc opens the Hugging Face folder instead of a packed file"
    )
    parser.add_argument("--out", default="build/bench-peers/end_to_end.csv")
    for name in ("--worker", "--files"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        python_worker(options)
        return
    try:
        model = clipc_model(options)
    except Failed as reason:
        sys.exit(f"end_to_end.py: {reason}")
    os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
    with tempfile.TemporaryDirectory() as work, open(options.out, "w", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerow(["size", "engine", "batch", "precision", "threads", "round", "images_per_second", "load"])
        for name in options.sizes:
            compare(options, model, name, work, writer)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
