"""checkpoint.npz: an interrupted training, to go on to the same bits. numpy arrays and one JSON text; no pickles.

It appears whole or not at all, and its zip checksums are compared as it is read.
"""
from __future__ import annotations

import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from clipc_program import Failed

FORMAT = "clipc training 1"


@contextmanager
def appearing(path: Path):
    """A name to write to, which becomes `path` when the block ends well."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save(path: Path, settings: dict, progress: dict, arrays: dict[str, np.ndarray]) -> None:
    text = json.dumps({"format": FORMAT, "settings": settings, "progress": progress})
    with appearing(path) as part, open(part, "wb") as file:
        np.savez(file, about=np.frombuffer(text.encode(), np.uint8), **arrays)


def load(path: Path) -> tuple[dict, dict, dict[str, np.ndarray]]:
    """(settings, progress, arrays)"""
    try:
        data = path.read_bytes()
    except FileNotFoundError as trouble:
        raise Failed(f"{path}: there is no checkpoint; start without --resume") from trouble
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise ValueError("another format")
        return about["settings"], about["progress"], arrays
    except Exception as trouble:  # numpy and zipfile have many words for damage
        raise Failed(f"{path}: is damaged or no checkpoint of train.py; delete it to start anew") from trouble


def check_settings(path: Path, saved: dict, wanted: dict) -> None:
    """Refuses a checkpoint of another training, by the first option that differs."""
    wanted = json.loads(json.dumps(wanted))  # tuples are lists there
    for name in wanted:
        if saved.get(name) == wanted[name]:
            continue
        if name == "--merges":
            raise Failed(f"{path}: is of a training with another file of --merges")
        if name.startswith("--"):
            raise Failed(f"{path}: is of a training with {name} {saved.get(name)}, not {wanted[name]}")
        raise Failed(f"{path}: is of a training by another recipe: its {name} is not that of this train.py")
