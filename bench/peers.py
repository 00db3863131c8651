"""clipc against ONNX Runtime and PyTorch on the same random ViT-B/32, in one run, in turn.

Needs torch, transformers, onnx and onnxruntime (nothing else of this project does), and build/bench/embed:

    make bench
    python bench/peers.py --models /tmp/peers --threads 2 --rounds 5

Every round runs each engine once in a process of its own; what counts is the ratio of the minima and of the
medians, since machines are noisy. The exactness of the embeddings is the tests' business."""
import argparse
import json
import os
import subprocess
import sys

WORKER = r"""
import json, os, sys, time
engine, folder, tower, batch, threads, seconds, tokens = sys.argv[1:4] + [int(a) for a in sys.argv[4:8]]
os.environ["OMP_NUM_THREADS"] = str(threads)
import numpy as np
rng = np.random.default_rng(1)
if tower == "image":
    x = rng.standard_normal((batch, 3, 224, 224), dtype=np.float32)
else:
    x = np.full((batch, tokens), 49407, np.int64); x[:, 0] = 49406; x[:, 1:-1] = rng.integers(300, 40000, (batch, tokens - 2))
if engine == "onnxruntime":
    import onnxruntime as ort
    options = ort.SessionOptions(); options.intra_op_num_threads = threads; options.inter_op_num_threads = 1
    session = ort.InferenceSession(f"{folder}/{tower}.onnx", options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, {"x": x})[0]
else:
    import torch
    from transformers import CLIPModel
    torch.set_num_threads(threads)
    model = CLIPModel.from_pretrained(folder).eval(); input = torch.from_numpy(x)
    def run():
        with torch.inference_mode():
            if tower == "image": y = model.get_image_features(pixel_values=input)
            else: y = model.get_text_features(input_ids=input)
            y = getattr(y, "pooler_output", y)
            return (y / y.norm(dim=-1, keepdim=True)).numpy()
for _ in range(3): run()
times, end = [], time.perf_counter() + seconds
while len(times) < 7 or time.perf_counter() < end:
    start = time.perf_counter(); run(); times.append((time.perf_counter() - start) * 1e3 / batch)
print(json.dumps([min(times), float(np.median(times))]))
"""


def make_model(folder):
    """A ViT-B/32 with random weights, as a Hugging Face folder and as two ONNX files."""
    import torch
    from transformers import CLIPConfig, CLIPModel
    torch.manual_seed(7)
    text = dict(bos_token_id=49406, eos_token_id=49407)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={})).eval()
    model.save_pretrained(folder)

    class Tower(torch.nn.Module):
        def __init__(self, tower, projection, argument):
            super().__init__()
            self.tower, self.projection, self.argument = tower, projection, argument

        def forward(self, x):
            y = self.projection(self.tower(**{self.argument: x}).pooler_output)
            return y / y.norm(dim=-1, keepdim=True)

    # Eager attention exports to plain products, which is what the runtime is fastest at.
    model = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.full((2, 77), 49407)
    ids[:, 0], ids[:, 1:10] = 49406, 320
    for tower, module, sample, axes in (
            ("image", Tower(model.vision_model, model.visual_projection, "pixel_values"), torch.randn(2, 3, 224, 224), {0: "b"}),
            ("text", Tower(model.text_model, model.text_projection, "input_ids"), ids, {0: "b", 1: "s"})):
        torch.onnx.export(module, (sample,), f"{folder}/{tower}.onnx", input_names=["x"], output_names=["e"],
                          dynamic_axes={"x": axes, "e": {0: "b"}}, opset_version=17, dynamo=False)


def run_clipc(program, folder, tower, batch, threads, seconds, tokens):
    line = subprocess.run([program, folder, tower, str(batch), str(threads), str(seconds), str(tokens)], check=True,
                          capture_output=True, text=True).stdout.strip().split(",")
    return [float(line[3]), float(line[4])]


def run_peer(engine, folder, tower, batch, threads, seconds, tokens):
    arguments = [engine, folder, tower, str(batch), str(threads), str(seconds), str(tokens)]
    output = subprocess.run([sys.executable, "-c", WORKER] + arguments, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="/tmp/clipc-peers", help="where the model is made once and kept")
    parser.add_argument("--program", default="build/bench/embed")
    parser.add_argument("--engines", nargs="+", default=["clipc", "onnxruntime"], choices=["clipc", "onnxruntime", "torch"])
    parser.add_argument("--towers", nargs="+", default=["image", "text"], choices=["image", "text"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=77)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="per engine and round")
    options = parser.parse_args()
    if not os.path.exists(f"{options.models}/text.onnx"):
        make_model(options.models)
    print("tower,engine,batch,threads,min_ms,median_ms,min_ratio_to_onnxruntime,median_ratio")
    for tower in options.towers:
        times = {engine: [] for engine in options.engines}
        for _ in range(options.rounds):
            for engine in options.engines:
                arguments = (options.models, tower, options.batch, options.threads, options.seconds, options.tokens)
                times[engine].append(run_clipc(options.program, *arguments) if engine == "clipc" else run_peer(engine, *arguments))
        best = {engine: (min(t[0] for t in rows), sorted(t[1] for t in rows)[len(rows) // 2]) for engine, rows in times.items()}
        base = best.get("onnxruntime", best[options.engines[0]])
        for engine, (least, median) in best.items():
            print(f"{tower},{engine},{options.batch},{options.threads},{least:.2f},{median:.2f},{least / base[0]:.2f},{median / base[1]:.2f}")


if __name__ == "__main__":
    main()
