"""The clipc program, asked for vectors, pixels and ids: what compare.py and zero_shot.py know of it.

Its complaints go to this process's stderr as they come. Its exit status 1, an input that failed, is handed on; any
other but 0 raises Failed, and by then the program has said why.
"""
from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading

import numpy as np

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pnm", ".pgm", ".ppm", ".pbm")
ITEM_FAILED = 1


class Failed(Exception):
    """Nothing can be computed. The sentence may be empty: then the program has said it."""


class Progress:
    """A bar on a terminal, by tqdm where that is installed."""

    def __init__(self, what, total, quiet=False):
        self.bar = None
        if quiet or not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self.bar = tqdm(total=total, desc=what, leave=False)

    def step(self, n=1):
        if self.bar is not None:
            self.bar.update(n)

    def say(self, line):
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)

    def close(self):
        if self.bar is not None:
            self.bar.close()


def pictures_of(folder):
    """The pictures directly in a folder as clipc picks them: by their endings, sorted by the bytes of their names."""
    names = [name for name in os.listdir(folder) if name[0] != "." and
             any(name.lower().endswith(ending) and len(name) > len(ending) for ending in ENDINGS)]
    paths = [os.path.join(folder, name) for name in sorted(names, key=os.fsencode)]
    return [path for path in paths if not os.path.isdir(path)]


def lines_of(path):
    """The lines of a file that are not empty, as clipc reads lists: a byte order mark and CR do not belong to them."""
    with open(path, "rb") as file:
        data = file.read()
    data = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    if b"\0" in data:
        lines = data.split(b"\0")
    else:
        lines = [line[:-1] if line.endswith(b"\r") else line for line in data.split(b"\n")]
    return [os.fsdecode(line) for line in lines if line]


def one_line(text):
    """Whether a line of a file can be this text."""
    return "\n" not in text and not text.endswith("\r")


class Clipc:
    def __init__(self, program, model, options=()):
        """options: for every command, such as --reference hf."""
        self.program, self.model, self.options = program, model, list(options)

    def _run(self, command, arguments, read, stdin=None, progress=None):
        """(what read makes of the program's output, None where that is cut short; exit status)"""
        words = [self.program, command, "-m", self.model, *self.options, *arguments]
        say = progress.say if progress is not None else lambda line: print(line, file=sys.stderr)
        try:
            process = subprocess.Popen(words, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
        except OSError as trouble:
            raise Failed(f"{self.program}: cannot be run: {trouble.strerror}; name clipc by --program") from trouble

        def forward():
            for line in process.stderr:
                say(line.decode("utf-8", "replace").rstrip("\n"))

        teller = threading.Thread(target=forward, daemon=True)
        teller.start()
        result = None
        try:
            with process:
                try:
                    result = read(process.stdout)
                except (ValueError, EOFError):  # it ended early: the exit status says so, or the check below
                    result = None
                except BaseException:
                    process.terminate()
                    raise
                teller.join()
        finally:
            teller.join()
        if process.returncode < 0:
            raise Failed(f"{self.program} {command}: was ended by signal {-process.returncode}")
        if process.returncode not in (0, ITEM_FAILED):
            raise Failed("")
        if result is None and (process.returncode == 0 or command != "preprocess"):
            raise Failed(f"{self.program} {command}: gives something else than was asked for")
        return result, process.returncode

    def embed(self, paths=(), texts=(), options=(), progress=None):
        """(float32 [pictures and texts, dimension] with rows of NaN for what failed, exit status)"""
        if not paths and not texts:
            raise Failed("nothing to embed")

        def rows(stream):
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            if dtype != np.dtype("<f4") or len(shape) != 2 or shape[0] != len(paths) + len(texts):
                raise ValueError
            vectors = np.empty(shape, dtype)
            for i in range(shape[0]):
                row = stream.read(4 * shape[1])
                if len(row) != 4 * shape[1]:
                    raise ValueError
                vectors[i] = np.frombuffer(row, dtype)
                if progress is not None:
                    progress.step()
            return vectors

        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as listed:
            arguments = ["-f", "npy", *options]
            if paths:
                listed.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
                listed.seek(0)
                arguments += ["--image", "-"]
            for number, (plain, group) in enumerate(itertools.groupby(texts, one_line)):
                if not plain:
                    arguments += [word for text in group for word in ("--text", text)]
                    continue
                arguments += ["--texts", os.path.join(folder, str(number))]
                with open(arguments[-1], "wb") as file:
                    file.write(b"".join(os.fsencode(text) + b"\n" for text in group))
            return self._run("embed", arguments, rows, listed, progress)

    def pixels(self, path, progress=None):
        """float32 [3, height, width], or None where the picture cannot be read."""
        def read(stream):
            data = stream.read()
            if not data:
                raise ValueError
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.seek(0)
                return np.load(file, allow_pickle=False)[0]

        return self._run("preprocess", ["--image", path, "-o", "-"], read, None, progress)[0]

    def ids(self, texts, progress=None):
        """A list of ids for each text, or None where it has none."""
        def read(stream):
            lists = [json.loads(line) for line in stream]
            if len(lists) != len(texts):
                raise ValueError
            return lists

        if all(one_line(text) for text in texts):
            with tempfile.TemporaryFile() as listed:
                listed.write(b"".join(os.fsencode(text) + b"\n" for text in texts))
                listed.seek(0)
                return self._run("tokenize", ["-"], read, listed, progress)[0]
        return self._run("tokenize", ["--", *texts], read, None, progress)[0]

    def inspect(self):
        return self._run("inspect", ["-f", "json"], lambda stream: json.load(stream))[0]


def default_program():
    """The one of the environment, of the source tree's build, or of the path."""
    built = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "build", "clipc")
    return os.environ.get("CLIPC_PROGRAM") or (os.path.normpath(built) if os.access(built, os.X_OK) else "clipc")
