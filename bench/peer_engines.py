"""How each engine is prepared and run: one method per engine, each gives the values of one JSON line."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

import peer_models

HERE = os.path.dirname(os.path.abspath(__file__))


class Failed(Exception):
    pass


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def run_json(command, environment=None):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise Failed(last_line(done.stderr) or f"exit status {done.returncode}")
    try:
        return json.loads(last_line(done.stdout))
    except ValueError:
        raise Failed(f"no JSON line from {os.path.basename(command[0])}: {last_line(done.stdout)[:80]}") from None


def pack(program, folder, precision, path):
    command = [program, "pack", "-m", folder, "--precision", precision, "-o", path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(last_line(done.stderr) or f"exit status {done.returncode}")


def flags(**values):
    """Command-line options of those that are not empty: pad_to=77 gives --pad-to 77."""
    pairs = [("--" + name.replace("_", "-"), str(value)) for name, value in values.items() if value != ""]
    return [word for pair in pairs for word in pair]


class Engines:
    def __init__(self, options):
        self.options = options
        self.cache = options.cache
        self.made = set()
        self.candle = os.path.join(self.cache, "candle", "release", "candle-peer")
        self.picture = os.path.join(self.cache, "picture.ppm")

    def worker(self, contestant, *more):
        program = [sys.executable, os.path.join(HERE, "peer_worker.py")]
        c = contestant
        work = flags(
            engine=c.engine, precision=c.precision, shape=c.shape, tower=c.tower, batch=c.batch, tokens=c.tokens
        )
        return program + work + flags(pad_to=c.pad_to, threads=c.threads, cache=self.cache) + list(more)

    def packed(self, contestant):
        return os.path.join(self.cache, contestant.shape, f"{contestant.precision}.clipc")

    def products(self):
        return os.path.join(os.path.dirname(self.options.program) or ".", "bench", "products")

    def prepare(self, contestant):
        """Makes what must exist before the clock runs; each in a process of its own, for none stays in memory."""
        c, folder = contestant, os.path.join(self.cache, contestant.shape)
        if c.engine == "clipc":
            if not shutil.which(self.options.program):
                raise Failed(f"there is no {self.options.program}: run make")
        elif c.engine == "clipc-products":
            if not os.path.exists(self.products()):
                raise Failed(f"there is no {self.products()}: run make bench")
        elif c.engine == "candle":
            self.prepare_candle(c)
        elif c.engine.startswith("clipc-"):
            self.prepare_folder(c)
            if c.engine == "clipc-packed" and self.packed(c) not in self.made:  # anew: the format may have changed
                pack(self.options.program, folder, c.precision, self.packed(c))
                self.made.add(self.packed(c))
        else:
            run_json(self.worker(c, "--prepare"))

    def prepare_folder(self, contestant):
        run_json(self.worker(dataclasses.replace(contestant, engine="torch"), "--prepare"))
        if self.options.vocabulary:
            peer_models.copy_vocabulary(self.options.vocabulary, os.path.join(self.cache, contestant.shape))
        with open(self.picture, "wb") as file:
            file.write(b"P6\n224 224\n255\n" + peer_models.pictures(1).tobytes())

    def prepare_candle(self, contestant):
        self.prepare_folder(contestant)
        if os.path.exists(self.candle):
            return
        cargo = shutil.which("cargo") or shutil.which("cargo", path=os.path.expanduser("~/.cargo/bin"))
        if not cargo:
            raise Failed("candle needs cargo, which is not there")
        print("building candle once, which takes minutes", file=sys.stderr)
        # candle's own repository builds for the CPU at hand too.
        command = [cargo, "build", "--release", "--locked", "--target-dir", os.path.join(self.cache, "candle")]
        environment = {**os.environ, "RUSTFLAGS": "-C target-cpu=native"}
        folder = os.path.join(HERE, "candle")
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(last_line(done.stderr))

    def run(self, contestant, opening):
        """One measurement; opening: the first result alone is wanted."""
        engine = contestant.engine
        if engine == "clipc":
            return self.run_clipc(contestant)
        if engine == "clipc-products":
            got = run_json(self.clipc_command(contestant, [self.products()]))
            same = dict(tier="kernels", peak_share="tower_share", ms_per_item_min="tower_ms")
            return {**got, **{key: got.get(theirs) for key, theirs in same.items()}}
        if engine.startswith("clipc-"):
            return self.run_embed(contestant)
        if engine == "candle":
            weights = os.path.join(self.cache, contestant.shape, "model.safetensors")
            work = [contestant.tower, str(contestant.batch), str(contestant.tokens), str(self.options.seconds)]
            return run_json([self.candle, weights] + work, {"RAYON_NUM_THREADS": str(contestant.threads)})
        return run_json(self.worker(contestant, "--seconds", "0" if opening else str(self.options.seconds)))

    def clipc_command(self, contestant, program):
        c = contestant
        work = flags(shape=c.shape, tower=c.tower, precision=c.precision, batch=c.batch)
        work += flags(tokens=c.tokens) if c.tower == "text" else []
        how = flags(threads=c.threads, seconds=self.options.seconds, tier=c.tier or self.options.tier, gemm=c.gemm)
        return program + work + how

    def run_clipc(self, contestant):
        c = contestant
        command = self.clipc_command(c, [self.options.program, "bench"])
        if c.one_core:
            command = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] + command
        return run_json(command, c.environment)

    def run_embed(self, contestant):
        """The whole life of `clipc embed` with one picture, as seen from outside."""
        packed = contestant.engine == "clipc-packed"
        model = self.packed(contestant) if packed else os.path.join(self.cache, contestant.shape)
        command = [self.options.program, "embed", "-m", model, "-f", "raw", "--image", self.picture]
        command += flags(precision=contestant.precision, threads=contestant.threads)
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
            start = time.perf_counter()
            child = subprocess.Popen(command, stdout=output, stderr=errors)
            _, status, usage = os.wait4(child.pid, 0)
            first_ms = (time.perf_counter() - start) * 1e3
            child.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            output.seek(0)
            vector = np.frombuffer(output.read(), "<f4") if child.returncode == 0 else None
            if child.returncode != 0:
                raise Failed(last_line(errors.read().decode(errors="replace")) or f"exit status {child.returncode}")
        reference = np.load(os.path.join(self.cache, contestant.shape, "reference-image.npy"))[0]
        if vector.shape != reference.shape:
            raise Failed(f"{vector.size} numbers where {reference.size} were wanted")
        return dict(
            first_ms=first_ms,
            peak_rss_mb=usage.ru_maxrss * 1024 / 1e6,
            ran_as=contestant.precision,
            cosine=float(vector @ reference / np.linalg.norm(vector)),
        )
