"""One peer engine, one tower, one process: prints one JSON line with the keys that `clipc bench` prints.

    python bench/peer_worker.py --engine openvino --precision int8 --tower image --cache CACHE

bench/peers.py runs it. Time before the engine has been imported does not count as opening."""

import argparse
import json
import os
import resource
import time

import numpy as np

import peer_models

ENGINES = ("openvino", "openvino-cached", "onnxruntime", "torch")


def open_openvino(options, x, cached=False):
    import openvino

    core = openvino.Core()
    path = model_path(options)
    config = {
        "INFERENCE_NUM_THREADS": options.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32",
    }
    if cached:
        config["CACHE_DIR"] = os.path.join(options.cache, "openvino-cache")
    start = time.perf_counter()
    model = core.read_model(path)
    model.reshape({0: list(x.shape)})  # a fixed shape is what OpenVINO is fastest at
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    request.set_input_tensor(0, openvino.Tensor(x, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor(0).data

    def ran_as():
        """What the products really ran in: the hint is only a hint."""
        kinds = {}
        for node in compiled.get_runtime_model().get_ordered_ops():
            about = node.get_rt_info()
            if about["layerType"].value in ("FullyConnected", "MatMul", "Convolution", "ScaledDotProductAttention"):
                kind = str(about["runtimePrecision"].value)
                kinds[kind] = kinds.get(kind, 0) + 1
        return " ".join(f"{kind}:{count}" for kind, count in sorted(kinds.items()))

    return start, run, ran_as, openvino.__version__.split("-")[0]


def open_onnxruntime(options, x):
    import onnxruntime

    if options.precision == "bf16":
        raise SystemExit("ONNX Runtime has no bf16 on x86 CPUs")
    path = model_path(options)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return start, lambda: session.run(None, {"x": x})[0], lambda: options.precision, onnxruntime.__version__


def open_torch(options, x):
    import torch
    import transformers

    if options.precision == "int8":
        raise SystemExit("PyTorch runs in f32 and bf16 here")
    torch.set_num_threads(options.threads)
    kind = torch.bfloat16 if options.precision == "bf16" else torch.float32
    folder = peer_models.ensure_folder(options.cache, options.shape)
    given = torch.from_numpy(x)
    given = given.to(kind) if options.tower == "image" else given
    start = time.perf_counter()
    module = peer_models.torch_tower(transformers.CLIPModel.from_pretrained(folder, dtype=kind), options.tower)

    def run():
        with torch.inference_mode():
            return module(given).float().numpy()

    return start, run, lambda: str(next(module.parameters()).dtype).split(".")[-1], torch.__version__


def open_engine(options, x):
    if options.engine.startswith("openvino"):
        return open_openvino(options, x, cached=options.engine == "openvino-cached")
    return (open_onnxruntime if options.engine == "onnxruntime" else open_torch)(options, x)


def model_path(options):
    """The file that the engine reads; made when it is missing."""
    make = {
        ("openvino", "f32"): peer_models.ensure_openvino,
        ("openvino", "int8"): peer_models.ensure_openvino_int8,
        ("onnxruntime", "f32"): peer_models.ensure_onnx,
        ("onnxruntime", "int8"): peer_models.ensure_onnx_int8,
    }
    kind = "int8" if options.precision == "int8" else "f32"
    return make[options.engine.split("-")[0], kind](options.cache, options.shape, options.tower)


def prepare(options):
    if options.engine != "torch":
        model_path(options)
    peer_models.ensure_reference(options.cache, options.shape, options.tower, options.tokens)


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, choices=ENGINES)
    parser.add_argument("--precision", default="f32", choices=("f32", "bf16", "int8"))
    parser.add_argument("--shape", default="ViT-B-32", choices=sorted(peer_models.SHAPES))
    parser.add_argument("--tower", default="image", choices=("image", "text"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=77, help="of a text, start and end counted")
    parser.add_argument("--pad-to", type=int, default=0, help="fill each text up to so many tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--cache", required=True, help="folder of the models, made when missing")
    parser.add_argument("--prepare", action="store_true", help="only make the model's files and PyTorch's embeddings")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    if options.prepare:
        prepare(options)
        print("{}")
        return
    x = peer_models.inputs(options.tower, options.batch, options.tokens, options.pad_to)
    start, run, ran_as, version = open_engine(options, x)
    opened = time.perf_counter()
    y = np.array(run())
    first = time.perf_counter()
    times = []
    if options.seconds > 0:
        run()
        end = time.perf_counter() + options.seconds
        while len(times) < 7 or time.perf_counter() < end:
            begin = time.perf_counter()
            run()
            times.append((time.perf_counter() - begin) * 1e3 / options.batch)
    result = dict(
        engine=options.engine,
        version=version,
        ran_as=ran_as(),
        open_ms=(opened - start) * 1e3,
        first_ms=(first - start) * 1e3,
        peak_rss_mb=peak_rss_mb(),
    )
    if times:
        result.update(
            ms_per_item_min=min(times),
            ms_per_item_median=float(np.median(times)),
            runs=len(times),
            ms_per_item_p95=float(np.percentile(times, 95)),
            items_per_second=1e3 / float(np.mean(times)),
        )
    reference = os.path.join(
        options.cache,
        options.shape,
        f"reference-{options.tower}" + (f"-{options.tokens}" if options.tower == "text" else "") + ".npy",
    )
    if os.path.exists(reference):
        n = min(4, options.batch)
        result["cosine"] = float((np.load(reference)[:n] * y[:n]).sum(-1).min())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
