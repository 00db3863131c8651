#!/usr/bin/env python3
"""CLIP weights as they are published, to a Hugging Face folder with safetensors, which clipc opens.

Reads OpenAI's .pt (TorchScript archives), state_dicts and checkpoints of open_clip (.pt, .bin, safetensors), Hugging
Face's pytorch_model.bin and its shards, and ONNX exports, without PyTorch. Pickles are read as data: nothing in them is
run, and one that names anything but tensors and plain data is refused.

Examples:
  python convert.py ViT-B-32.pt -o vit-b-32
  python convert.py epoch_32.pt --config open_clip_config.json --ema -o fine-tuned --dtype f16
  python convert.py path/to/folder-with-pytorch_model.bin -o folder
  python convert.py vision_model.onnx text_model.onnx --logit-scale 100 -o from-onnx
  clipc embed -m vit-b-32 --text "a photo of a cat"

Exit status: 0 converted, 1 reading or writing failed, 2 usage, or the input is refused.
"""
import argparse
import math
import os
import re
import signal
import sys

try:
    import numpy  # noqa: F401
except ImportError:
    print("convert.py: needs numpy: python3 -m pip install numpy", file=sys.stderr)
    sys.exit(2)

from clipc_convert import names, network as networks
from clipc_convert.errors import Failed, Refused
from clipc_convert.folder import OutputFolder, write_weights
from clipc_convert.onnx_graph import network_of_graphs
from clipc_convert.preprocessing import preprocessor_config, write_json, write_tokenizer
from clipc_convert.sources import open_checkpoint, read_json
from clipc_convert.tensors import SIZES, scalar

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def byte_count(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.strip().lower())
    if not match or float(match[1]) * UNITS[match[2]] < 1:
        raise argparse.ArgumentTypeError(f"{text} is no size such as 5GB")
    return int(float(match[1]) * UNITS[match[2]])


def positive(text):
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def parser():
    summary, _, rest = __doc__.partition("Examples:")
    p = argparse.ArgumentParser(prog="convert.py", description=summary, epilog="Examples:" + rest,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("input", nargs="+", metavar="INPUT", help="a checkpoint's file or folder; or two ONNX files, one per tower")
    add("-o", "--out", required=True, metavar="DIR", help="the folder to make; it must not be there yet")
    add("--dtype", choices=("f32", "f16", "bf16"), default="f32", help="numbers to store [f32]")
    add("--activation", choices=networks.ACTIVATIONS, help="what the network has, where its files do not say")
    add("--heads", type=positive, metavar="N", help="image tower's attention heads, where its files do not say")
    add("--config", metavar="FILE", help="config.json or open_clip_config.json [the one beside the input]")
    add("--tokenizer", metavar="DIR", help="folder whose tokeniser to copy, or none [the input's, else CLIP's]")
    add("--logit-scale", type=float, metavar="X", help="what logits are multiplied by, where the input has none")
    add("--ema", action="store_true", help="take the averaged weights of a training checkpoint")
    add("--max-shard-size", type=byte_count, default=byte_count("5GB"), metavar="SIZE", help="[5GB]")
    add("-q", "--quiet", action="store_true", help="no progress bar and no notes")
    return p


def configuration(checkpoint, kind, args):
    """(path, JSON) of the config that belongs to the tensors' spelling; (None, None) where there is none."""
    path = args.config
    if path is None:
        path = checkpoint.beside("open_clip_config.json" if kind == "open_clip" else "config.json")
    return (path, read_json(path)) if path else (None, None)


def plan(checkpoint, args):
    """The checkpoint's tensors -> (network, {name: Tensor}, config.json, notes)."""
    tensors = names.strip_wrappers(checkpoint.tensors, checkpoint.path)
    kind = names.spelling(tensors, checkpoint.path)
    path, config = configuration(checkpoint, kind, args)
    notes = []
    if kind == "open_clip":
        if config and "model_type" in config:
            raise Refused(f"{path}: Hugging Face's config, but the tensors have open_clip's names")
        network = networks.network_of_open_clip(config, path) if config else \
            networks.network_of_shapes(tensors, args.activation, args.heads, checkpoint.path)
        if config and args.activation:
            for tower in network.towers():
                tower.activation = args.activation
        out, left = names.from_open_clip(tensors, network, checkpoint.path)
        out_config = networks.config_of(network, args.dtype.upper())
    else:
        if config is None:
            raise Refused(f"{checkpoint.path}: has no config.json beside it: name it by --config")
        network = networks.network_of_hf(config, kind == "hf-bare", path)
        out, left = names.from_hf(tensors, network, checkpoint.path)
        out_config = hf_config(config, args)
    if "logit_bias" in left:
        notes.append("logit_bias is left out, for a CLIPModel has none: cosines stay, probabilities do not")
        left.remove("logit_bias")
    if left:
        notes.append(f"{len(left)} tensors that no CLIP reads are left out: "
                     f"{', '.join(sorted(left)[:4])}{' ...' if len(left) > 4 else ''}")
    return network, out, out_config, notes


def hf_config(config, args):
    """The source's own, with what the conversion changes."""
    config = dict(config)
    key = "dtype" if "dtype" in config else "torch_dtype"
    config[key] = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[args.dtype]
    for part in ("text_config", "vision_config", "text_config_dict", "vision_config_dict"):
        if isinstance(config.get(part), dict):
            config[part] = {k: v for k, v in config[part].items() if k not in ("dtype", "torch_dtype")}
            if args.activation:
                config[part]["hidden_act"] = args.activation
    if args.activation and "hidden_act" in config:
        config["hidden_act"] = args.activation
    return config


def plan_onnx(checkpoint, args):
    network, out = network_of_graphs(checkpoint.graphs, args.activation, args.heads)
    if network.vision and network.text and "logit_scale" not in out:
        if args.logit_scale is None:
            raise Refused(f"{checkpoint.path}: the graphs hold no logit_scale; say --logit-scale 100 for OpenAI's, "
                          "LAION's and most other models")
        out["logit_scale"] = scalar(math.log(args.logit_scale), checkpoint.path)
    return network, out, networks.config_of(network, args.dtype.upper()), []


class Progress:
    """A bar on a terminal, by tqdm where that is installed."""

    def __init__(self, total, quiet):
        self.bar = None
        if quiet or not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: it does not know
        plain = "{percentage:3.0f} %  {n_fmt}/{total_fmt}B  {rate_fmt}  {remaining} left" if columns < 60 else None
        self.bar = tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1000, desc="converting", leave=False,
                        ncols=columns - 1, nrows=20, bar_format=plain)

    def __call__(self, n):
        if self.bar is not None:
            self.bar.update(n)

    def close(self):
        if self.bar is not None:
            self.bar.close()


def convert(args):
    if args.logit_scale is not None and not 0 < args.logit_scale < 1e4:
        raise Refused("--logit-scale: a number above 0 and below 10000 is needed")
    if not args.out:
        raise Refused("--out: the folder needs a name")
    checkpoint = open_checkpoint(args.input, args.ema)
    network, tensors, config, notes = (plan_onnx if checkpoint.graphs else plan)(checkpoint, args)
    dtype = args.dtype.upper()
    size = sum(tensor.size for tensor in tensors.values()) * SIZES[dtype]
    folder = OutputFolder(args.out)
    folder.check(size)
    with folder:
        write_json(os.path.join(folder.path, "config.json"), config)
        if network.vision:
            source = checkpoint.beside("preprocessor_config.json")
            write_json(os.path.join(folder.path, "preprocessor_config.json"),
                       read_json(source) if source else preprocessor_config(network, checkpoint.path))
        write_tokenizer(folder.path, network, checkpoint.folder, args.tokenizer, checkpoint.path)
        progress = Progress(size, args.quiet)
        try:
            write_weights(folder.path, tensors, dtype, args.max_shard_size, progress)
        finally:
            progress.close()
    if not args.quiet:
        for note in notes:
            print(f"convert.py: note: {note}", file=sys.stderr)
        towers = ", ".join(f"{t.kind} {t.layers} layers of {t.width} ({t.activation})" for t in network.towers())
        print(f"{args.out}: {len(tensors)} tensors, {size / 1e6:.1f} MB in {dtype}; {towers}", flush=True)


def interrupted(*_):
    raise KeyboardInterrupt


def main(arguments=None):
    args = parser().parse_args(arguments)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupted)
    try:
        convert(args)
        return 0
    except (Refused, Failed) as trouble:
        print(f"convert.py: {trouble}", file=sys.stderr)
        return 2 if isinstance(trouble, Refused) else 1
    except OSError as trouble:
        print(f"convert.py: {trouble.filename or 'standard output'}: {trouble.strerror}", file=sys.stderr)
        if not trouble.filename:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has nowhere to go
        return 1
    except KeyboardInterrupt:
        print("convert.py: interrupted: nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
