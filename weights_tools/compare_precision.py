"""What bf16 and int8 change in the ranking of the bundled model: top-1 among the held-out captions.

    python compare_precision.py --program ../build/clipc --model ../models/tiny

Draws the held-out pictures as train_tiny.py does, embeds pictures and captions with the program in every precision
(and every tier that is named), and counts the pictures whose first caption is another than in f32."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

import drawer
import train_tiny


def embed(program, model, precision, tier, folder, captions):
    """float32 [pictures, dimension] and [captions, dimension] of one precision."""
    out = os.path.join(folder, "vectors.npy")
    with open(os.path.join(folder, "captions.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(captions) + "\n")
    pictures = os.path.join(folder, "pictures")
    subprocess.run([program, "embed", "-m", model, "--precision", precision, "--tier", tier, "--batch", "32",
                    "--image", pictures, "--texts", file.name, "-f", "npy", "-o", out], check=True)
    vectors = np.load(out)
    return vectors[:-len(captions)], vectors[-len(captions):]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/clipc")
    parser.add_argument("--model", default="models/tiny")
    parser.add_argument("--tiers", default="best", help="comma-separated, as clipc's --tier [best]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-caption", type=int, default=train_tiny.TEST_PICTURES)
    args = parser.parse_args()
    concepts = drawer.held_out_concepts()
    truth = np.repeat(np.arange(len(concepts)), args.per_caption)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "pictures"))
        for i, concept in enumerate(concepts):
            for j in range(args.per_caption):
                pixels = train_tiny.picture(concept, f"{args.seed}/test/{i}/{j}")
                Image.fromarray(pixels).save(os.path.join(folder, "pictures", f"{i:03d}-{j:03d}.png"))
        captions = [drawer.caption(concept) for concept in concepts]
        first = {}
        for tier in args.tiers.split(","):
            for precision in ("f32", "bf16", "int8"):
                images, texts = embed(args.program, args.model, precision, tier, folder, captions)
                first[precision] = (images @ texts.T).argmax(1)
                print(json.dumps({"tier": tier, "precision": precision, "pictures": len(truth),
                                  "captions": len(captions),
                                  "top1_percent": round(100 * float((first[precision] == truth).mean()), 2),
                                  "as_f32_percent": round(100 * float((first[precision] == first["f32"]).mean()), 2)}))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
