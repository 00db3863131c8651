#!/usr/bin/env python3
"""Train a small CLIP whose weights clipc runs: models/tiny, from nothing but drawings and captions.

Pictures and captions come from drawer.py, the tokeniser is OpenAI's BPE with its merges cut to the first few thousand,
the network is transformers.CLIPModel. Every picture gets one extra, hard negative caption that differs from the truth
in one or two attributes, and a caption that happens to be true of another picture of the batch is not counted against
it. Accuracy is measured on 64 combinations that training never shows (no orange circle, ever).

--loss softmax is CLIP's symmetric cross-entropy. --loss sigmoid is SigLIP's, which judges each picture and caption by
themselves, with a learned temperature and a learned bias. A CLIPModel has no place for the bias, so it is not in the
files; the README says it. Cosines, ranks and softmax do not change by it: it is the same for all captions. What clipc
shows as probabilities is softmax with the stored temperature, which this loss did not train for that; whoever wants
SigLIP's own adds the bias to the logits before the sigmoid.

Training goes on in DIR.training: checkpoint.npz, and curves.csv, curves.png and curves.svg, which are written anew at
each checkpoint. After Ctrl-C, or a power cut, --resume with the same options goes on from the last checkpoint and ends
with the same bits as without the break (same torch, machine and --threads). DIR appears when the model is whole.

Examples:
  python train.py --merges bpe_simple_vocab_16e6.txt.gz --out tiny
  python train.py --merges bpe_simple_vocab_16e6.txt.gz --out tiny --resume
  python train.py --merges bpe_simple_vocab_16e6.txt.gz --out try --pool 4000 --shorten 20   (a minute or two)
  python train.py --out ../models/tiny --evaluate --clipc ../build/clipc

Exit status: 0, 1 reading or writing failed, 2 usage, or the input is refused, 130 interrupted.
"""
from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

try:
    import numpy  # noqa: F401
    import PIL  # noqa: F401
except ImportError as missing:
    print(f"train.py: needs {missing.name}: python3 -m pip install '.[train]'", file=sys.stderr)
    sys.exit(2)

from clipc_program import Failed, Progress, default_program, shown, tool_parser
from clipc_train import checkpoint, curves, data, folder, measure, readme, recipe

TEMPLATES = ("a photo of a {}", "{}")
PER_CAPTION = {"checkpoint": 5, "end": 40}  # held-out pictures of each caption


class Bar(Progress):
    """A progress bar that knows the loss and may start in the middle."""

    def __init__(self, what, total, done, quiet):
        super().__init__(what, total, quiet)
        if self.bar is not None and done:
            self.bar.initial = self.bar.n = done

    def show(self, loss):
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)


class Training:
    """Where a training is. One step is next(batches), descend; keep() makes it safe to break off."""

    def __init__(self, args, network, settings, saved):
        """saved: (progress, arrays) of a checkpoint, or None to begin."""
        self.args, self.network, self.settings = args, network, settings
        self.work = work_folder(args)
        self.stages = recipe.stages(args.shorten)
        self.pool, self.pairs = draw_pictures(args)  # by processes that are forked, so before torch has threads
        self.model = network.new_model(args.loss)
        self.tokenise = network.Tokeniser(self.work / "model")
        self.examination = measure.Examination(args.seed, PER_CAPTION["checkpoint"], n_order=200)
        self.pyplot = curves.load_pyplot()
        self.rows, self.seconds, self.number, self.step = [], 0.0, 0, 0
        self.begin_stage(0)
        if saved:
            progress, arrays = saved
            self.begin_stage(progress["stage"])
            self.step, self.rows, self.seconds = progress["step"], progress["rows"], progress["seconds"]
            self.batches.go_to(progress["batches"])
            network.take_arrays(self.model, self.optimiser, arrays)

    def begin_stage(self, number):
        self.number, self.step = number, 0
        self.batches = data.Batches(self.stages[number], self.args.seed, self.pool, self.pairs)
        self.optimiser = self.network.make_optimiser(self.model)

    def run(self, started):
        n_all = sum(stage.steps for stage in self.stages)
        bar = Bar("training", n_all, len(self.rows), self.args.quiet)
        try:
            while True:
                stage = self.stages[self.number]
                while self.step < stage.steps:
                    bar.show(self.one_step(stage))
                    bar.step()
                    if len(self.rows) % self.args.every == 0 or len(self.rows) == n_all:
                        self.keep(started, bar)
                if self.number + 1 == len(self.stages):
                    break
                self.begin_stage(self.number + 1)
        finally:
            bar.close()

    def one_step(self, stage):
        rate = recipe.learning_rate(stage, self.step)
        loss = self.network.batch_loss(self.model, self.batches.next(), self.tokenise, stage.text_only)
        loss = self.network.descend(self.model, self.optimiser, loss, rate)
        self.step += 1
        self.rows.append({"step": len(self.rows) + 1, "stage": stage.name, "learning_rate": rate, "loss": loss})
        return loss

    def keep(self, started, bar):
        """Measures, then writes the checkpoint and the curves."""
        found = self.examination.measure(self.network.Embedder(self.model, self.tokenise))
        self.rows[-1].update(found.row())
        progress = {"stage": self.number, "step": self.step, "batches": self.batches.place(), "rows": self.rows,
                    "seconds": self.seconds + time.monotonic() - started, "versions": versions(self.args, self.network)}
        checkpoint.save(self.work / "checkpoint.npz", self.settings, progress,
                        self.network.arrays_of(self.model, self.optimiser))
        curves.write(self.work, self.rows, f"{self.args.out.name}: {self.args.loss} loss, seed {self.args.seed}",
                     self.pyplot)
        if not self.args.quiet:
            bar.say(f"step {len(self.rows)}: loss {self.rows[-1]['loss']:.3f}, held-out {100 * found.held_out:.1f} %, "
                    f"order {100 * found.order:.0f} % and {100 * found.turned:.0f} %")


def work_folder(args):
    return args.out.with_name(args.out.name + ".training")


def versions(args, network):
    return {"torch": network.torch.__version__, "--threads": args.threads}


def draw_pictures(args):
    """The pool and the pairs of pictures with two shapes exchanged, each as (concepts, pixels)."""
    drawn = []
    for what, draw, n in (("drawing pictures", data.pool_picture, args.pool),
                          ("drawing pairs", data.pair_of_pictures, args.pool // 8)):
        progress = Progress(what, n, args.quiet)
        try:
            drawn.append(data.draw_all(draw, n, args.seed, args.threads, progress))
        finally:
            progress.close()
    return drawn


def load_network(args):
    """clipc_train.network, which needs torch, set up so that the same seed gives the same weights."""
    try:
        from clipc_train import network
    except ImportError as trouble:
        raise Failed(f"needs {trouble.name}: python3 -m pip install '.[train]'") from trouble
    network.torch.set_num_threads(args.threads)
    network.torch.manual_seed(args.seed)
    network.torch.use_deterministic_algorithms(True)
    return network


def find_saved(args, settings):
    """(progress, arrays) to resume from, or None; refuses where a checkpoint does not fit what was asked for."""
    path = work_folder(args) / "checkpoint.npz"
    if not args.resume:
        if path.exists():
            raise Failed(f"{path}: is of a training that was broken off; --resume goes on with it, or delete it")
        return None
    saved, progress, arrays = checkpoint.load(path)
    checkpoint.check_settings(path, saved, settings)
    return progress, arrays


def train(args):
    started = time.monotonic()
    if args.out.exists():
        raise Failed(f"{args.out}: is there already; --out names a folder to make")
    merges, settings = folder.read_merges(args.merges), recipe.settings(args)
    saved = find_saved(args, settings)
    network, made = load_network(args), work_folder(args) / "model"
    if saved and saved[0]["versions"] != versions(args, network):
        print("train.py: note: the checkpoint was made with another torch or another --threads: the weights will not "
              "be those of one go to the bit", file=sys.stderr)
    folder.write_all(merges, made)
    training = Training(args, network, settings, saved)
    if training.pyplot is None and not args.quiet:
        print("train.py: note: without matplotlib the curves are in curves.csv alone", file=sys.stderr)
    training.run(started)
    network.save_weights(training.model, made)
    minutes = (training.seconds + time.monotonic() - started) / 60
    by_torch, by_clipc, ranks = examine(args, network, made)
    readme.write(made, args, by_torch, by_clipc, ranks, minutes, network.bias_of(training.model))
    os.rename(made, args.out)
    (work_folder(args) / "checkpoint.npz").unlink()
    show(args.out, by_torch, by_clipc, ranks)


def examine(args, network, model):
    """(accuracies by torch, {precision: by clipc}, {template: ranks of the demo's pictures}) of a finished folder."""
    examination = measure.Examination(args.seed, PER_CAPTION["end"])
    by_torch = examination.measure(network.open_embedder(model))
    by_clipc = measure.by_clipc(args.clipc, str(model), examination) if args.clipc else {}
    return by_torch, by_clipc, {t: network.demo_ranks(model, t) for t in TEMPLATES}


def show(out, by_torch, by_clipc, ranks):
    print(f"{out}: {by_torch.n_pictures} held-out pictures, {by_torch.n_captions} captions; by torch"
          + "".join(f", by clipc in {precision}" for precision in by_clipc))
    print("\n".join(readme.table(by_torch, by_clipc)))
    for precision, found in by_clipc.items():
        same = (found.best == by_torch.best).mean()
        print(f"first caption as by torch, {precision}: {100 * same:.2f} % of pictures")
    print("\n".join(readme.demo_lines(ranks)))


def evaluate(args):
    if not (args.out / "model.safetensors").exists():
        raise Failed(f"{args.out}: has no model.safetensors; --evaluate measures a finished model")
    network = load_network(args)
    show(args.out, *examine(args, network, args.out))


def find_clipc(name):
    """The program to measure by, or None."""
    if name == "none":
        return None
    found = shutil.which(name or default_program())
    if name and not found:
        raise Failed(f"--clipc {name}: there is no such program")
    return found


def whole(least):
    def number(text):
        if not (text.isascii() and text.isdigit() and least <= int(text) < 10**9):
            raise argparse.ArgumentTypeError(f"{text} is no whole number from {least} up")
        return int(text)
    return number


def parser():
    p = tool_parser("train.py", __doc__)
    add = p.add_argument
    add("--merges", type=Path, metavar="FILE", help="OpenAI's bpe_simple_vocab_16e6.txt[.gz]")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to make; with --evaluate the one to measure")
    add("--loss", choices=recipe.LOSSES, default="softmax", help="see above [softmax]")
    add("--resume", action="store_true", help="go on from the checkpoint in DIR.training")
    add("--evaluate", action="store_true", help="only measure the model that is in DIR")
    add("--clipc", metavar="PROGRAM", help="also measure by this clipc, in f32, bf16 and int8 [build/clipc or the "
                                           "path's, where there is one; none: do not]")
    add("--pool", type=whole(1000), default=100000, metavar="N", help="training pictures to draw [100000]")
    add("--shorten", type=whole(1), default=1, metavar="N", help="divide the number of steps by N, to try it [1]")
    add("--every", type=whole(1), default=100, metavar="N", help="measure and keep a checkpoint each N steps [100]")
    add("--seed", type=whole(0), default=1, metavar="N", help="of everything [1]")
    add("--threads", type=whole(1), default=2, metavar="N", help="CPU threads [2]")
    add("-q", "--quiet", action="store_true", help="no progress")
    return p


def interrupted(*_):
    raise KeyboardInterrupt


def main(arguments=None):
    p = parser()
    args = p.parse_args(arguments)
    if args.evaluate and args.resume:
        p.error("--evaluate and --resume exclude each other")
    if not args.evaluate and args.merges is None:
        p.error("training needs --merges")
    before = {getattr(signal, name): signal.signal(getattr(signal, name), interrupted)
              for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)}
    try:
        args.clipc = find_clipc(args.clipc)
        evaluate(args) if args.evaluate else train(args)
        return 0
    except Failed as trouble:
        if str(trouble):  # else clipc has said it
            print(f"train.py: {shown(str(trouble))}", file=sys.stderr)
        return 2
    except OSError as trouble:
        print(f"train.py: {trouble.filename or args.out}: {trouble.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = not args.evaluate and (work_folder(args) / "checkpoint.npz").exists()
        print("train.py: interrupted" + "; --resume goes on from the last checkpoint" * kept, file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
