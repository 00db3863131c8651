"""The clipc program, asked for vectors, layers, pixels and ids, and what the tools that ask it have in common.

Its complaints go to this process's stderr as they come. Its exit status 1, an input that failed, is handed on; any
other but 0 raises Failed, and by then the program has said why.
"""
from __future__ import annotations

import argparse
import itertools
import json
import os
import re
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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def pictures_of(folder):
    """The pictures directly in a folder as clipc picks them: by their endings, sorted by the bytes of their names.
    Fails where there are none."""
    names = [name for name in os.listdir(folder) if name[0] != "." and
             any(name.lower().endswith(ending) and len(name) > len(ending) for ending in ENDINGS)]
    paths = [os.path.join(folder, name) for name in sorted(names, key=os.fsencode)]
    paths = [path for path in paths if not os.path.isdir(path)]
    if not paths:
        raise Failed(f"{folder}: no pictures in this folder")
    return paths


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


def shown(text):
    """Fit for one line of a terminal."""
    return re.sub("[\x00-\x1f\x7f-\x9f]", "?", text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_header(stream):
    """The shape of the array that follows in a stream of .npy, which is float32."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype != np.dtype("<f4"):
        raise ValueError
    return shape


def read_floats(stream, shape):
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    data = stream.read(n_bytes)
    if len(data) != n_bytes:
        raise ValueError
    return np.frombuffer(data, "<f4").reshape(shape)


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
            shape = read_header(stream)
            if len(shape) != 2 or shape[0] != len(paths) + len(texts):
                raise ValueError
            vectors = np.empty(shape, np.float32)
            for i in range(shape[0]):
                vectors[i] = read_floats(stream, shape[1:])
                if progress is not None:
                    progress.step()
            return vectors

        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as listed:
            arguments = ["-f", "npy", *options]
            if paths:
                arguments += list_paths(listed, paths)
            for number, (plain, group) in enumerate(itertools.groupby(texts, one_line)):
                if not plain:
                    arguments += [word for text in group for word in ("--text", text)]
                    continue
                arguments += ["--texts", os.path.join(folder, str(number))]
                with open(arguments[-1], "wb") as file:
                    file.write(b"".join(os.fsencode(text) + b"\n" for text in group))
            return self._run("embed", arguments, rows, listed, progress)

    def layers(self, look, paths=(), texts=(), options=(), progress=None):
        """Calls look(which, float32 [layers, tokens, width]) for each of the pictures and then of the texts; None for
        what failed. Returns the exit status."""
        if not paths and not texts:
            raise Failed("nothing to look at")

        def read(stream):
            for which in range(len(paths) + len(texts)):
                shape = read_header(stream)
                if len(shape) != 3:
                    raise ValueError
                look(which, read_floats(stream, shape) if shape[0] > 0 else None)
                if progress is not None:
                    progress.step()
            return True

        with tempfile.TemporaryFile() as listed:
            arguments = ["-f", "npy", *options, *(list_paths(listed, paths) if paths else [])]
            arguments += [word for text in texts for word in ("--text", text)]
            return self._run("layers", arguments, read, listed, progress)[1]

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


def list_paths(file, paths):
    """Arguments that take the paths from stdin, which is to be this file."""
    file.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
    file.seek(0)
    return ["--image", "-"]


# ---------------------------------------------------------------- tools

def tool_parser(name, about):
    """For a tool whose docstring has a part "Examples:" behind its description."""
    description, _, rest = about.partition("Examples:")
    return argparse.ArgumentParser(prog=name, description=description, epilog="Examples:" + rest,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def add_tool_options(parser):
    add = parser.add_argument
    add("-f", "--format", choices=("lines", "json"), default="lines", help="json has all there is [lines]")
    add("--program", default=default_program(), metavar="FILE", help="clipc [build/clipc, else the path's]")
    add("-q", "--quiet", action="store_true", help="no progress bar")


def whole(text):
    """The type of an option that is a number from 0 up."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is no whole number")
    return int(text)


def write_report(text):
    """On stdout; bytes of a name that are no UTF-8 are replaced."""
    sys.stdout.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    sys.stdout.flush()


def run_tool(name, work):
    """The exit status: that of work(), or 2 where nothing can be computed, with a sentence."""
    try:
        return work()
    except Failed as trouble:
        if str(trouble):
            print(f"{name}: {shown(str(trouble))}", file=sys.stderr)
    except OSError as trouble:
        print(f"{name}: {trouble.filename or 'output'}: {trouble.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 2


def default_program():
    """The one of the environment, of the source tree's build, or of the path."""
    built = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "build", "clipc")
    return os.environ.get("CLIPC_PROGRAM") or (os.path.normpath(built) if os.access(built, os.X_OK) else "clipc")
