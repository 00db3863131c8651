"""The layers' part of compare.py: what clipc's towers hold between their blocks against what the reference's do.

Of each input's layer: the greatest difference of a number, the relative error |a - b| / |b| of all its numbers, and the
least cosine of a token's row. Tokens that clipc does not compute, those behind a causal text's end, are left out.
"""
from __future__ import annotations

import numpy as np

from clipc_program import Progress

KINDS = ("image", "text")


def of_layer(ours, theirs):
    """Of two [tokens, width]."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return {"difference": float("inf"), "relative": float("inf"), "cosine": -1.0}
    apart, length = np.linalg.norm(a - b), np.linalg.norm(b)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(1) / np.where(lengths == 0, 1, lengths)
    cosines = np.where(lengths == 0, (a == b).all(1), cosines)
    return {"difference": float(np.abs(a - b).max()), "cosine": min(1.0, float(cosines.min())),
            "relative": float(apart / length) if length else 0.0 if apart == 0 else float("inf")}


def of_input(ours, theirs):
    """[of_layer] of two [layers, tokens, width]; None where they are of different networks."""
    n_layers, n_tokens, width = ours.shape
    if theirs.shape[0] != n_layers or theirs.shape[1] < n_tokens or theirs.shape[2] != width:
        return None
    return [of_layer(a, b[:n_tokens]) for a, b in zip(ours, theirs)]


def choose(inputs, most):
    """The first of each kind; texts of other ids have other layers."""
    fine = [entry for entry in inputs if "error" not in entry and entry.get("ids_equal", True)]
    return [entry for kind in KINDS for entry in [e for e in fine if e["kind"] == kind][:most]]


def look_at(reference, entry):
    return (reference.layers_image if entry["kind"] == "image" else reference.layers_text)(entry["input"])


def measure(clipc, reference, inputs, precisions, most, quiet=True):
    """Adds "layers", {precision: [of_layer]}, to the entries that are chosen; or "layers_error"."""
    chosen, states = choose(inputs, most), []
    with Progress(f"{reference.name}, layers", len(chosen), quiet) as progress:
        for entry in chosen:
            states.append(look_at(reference, entry))
            progress.step()
    seen = [(entry, state) for entry, state in zip(chosen, states) if state is not None]
    paths, texts = ([entry["input"] for entry, _ in seen if entry["kind"] == kind] for kind in KINDS)
    for precision in precisions if seen else []:
        def compare(which, ours):
            entry, theirs = seen[which]
            found = of_input(ours, theirs) if ours is not None else None
            if found is None:
                entry["layers_error"] = "clipc shows no layers" if ours is None else \
                    f"clipc has layers of {list(ours.shape)}, {reference.name} of {list(theirs.shape)}"
            else:
                entry.setdefault("layers", {})[precision] = found

        with Progress(f"clipc {precision}, layers", len(seen), quiet) as progress:
            clipc.layers(compare, paths, texts, ["--precision", precision], progress)


def summary(inputs, precisions):
    """For each kind, precision and layer the worst of the inputs."""
    rows = []
    for kind in KINDS:
        for precision in precisions:
            found = [entry["layers"][precision] for entry in inputs
                     if entry["kind"] == kind and precision in entry.get("layers", {})]
            for layer, values in enumerate(zip(*found)):
                rows.append({"kind": kind, "precision": precision, "layer": layer, "n": len(found),
                             "worst_difference": max(value["difference"] for value in values),
                             "worst_relative": max(value["relative"] for value in values),
                             "worst_cosine": min(value["cosine"] for value in values)})
    return rows


def as_lines(rows):
    """A table for each kind, a line for each layer."""
    lines = []
    for kind in KINDS:
        ours = [row for row in rows if row["kind"] == kind]
        precisions = list(dict.fromkeys(row["precision"] for row in ours))
        if not ours:
            continue
        lines.append(f"{kind} layers, worst of {ours[0]['n']}: greatest difference, |a - b| / |b|, least cosine of a "
                     "token")
        lines.append("layer" + "".join(f"  {precision:^32}" for precision in precisions).rstrip())
        for layer in range(1 + max(row["layer"] for row in ours)):
            values = [row for row in ours if row["layer"] == layer]
            lines.append(f"{layer:5d}" + "".join(f"  {row['worst_difference']:10.3g} {row['worst_relative']:10.3g} "
                                                 f"{row['worst_cosine']:10.7f}" for row in values))
    return lines
