"""The pictures of compare.py, each as PNG and SVG; matplotlib is imported when the first is asked for."""
from __future__ import annotations

import os

from clipc_program import Failed

LEAST = 1e-9  # what is equal stands on the floor of a logarithmic axis, unfilled
COLOURS = {"f32": "C0", "bf16": "C1", "int8": "C2"}
PANELS = {"image": "image tower", "text": "text tower"}


def load():
    try:
        import matplotlib
    except ImportError as trouble:
        raise Failed("--plot needs matplotlib: python3 -m pip install matplotlib") from trouble
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "clipc"
    import matplotlib.pyplot
    return matplotlib.pyplot


def height(value):
    return min(max(value, LEAST), 1e3)


def save(pyplot, figure, name):
    """NAME.png and NAME.svg, each under its name when it is whole."""
    for kind, extra in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        part = f"{name}.{kind}.part"
        try:
            figure.savefig(part, format=kind, **extra)
            os.replace(part, f"{name}.{kind}")
        finally:
            if os.path.exists(part):
                os.remove(part)
    pyplot.close(figure)


def title(report):
    return f"clipc {report['clipc']} against {report['reference']}"


def by_input(pyplot, report, name):
    """The difference of each input's embedding, by precision, and of its pixels."""
    inputs = [entry for entry in report["inputs"] if "error" not in entry]
    series = [("pixels", [(i, e["pixel_difference"]) for i, e in enumerate(inputs) if "pixel_difference" in e])]
    for precision in inputs[0]["embedding"] if inputs else []:
        series.append((precision, [(i, e["embedding"][precision]["difference"]) for i, e in enumerate(inputs)]))
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    for (label, points), marker in zip(series, "xosD"):
        if points:
            axes.plot([i for i, _ in points], [height(d) for _, d in points], marker, markersize=5,
                      color=COLOURS.get(label, "0.5"), label=label if label == "pixels" else f"embedding, {label}")
    axes.axhline(report["thresholds"]["f32"], color="0.4", linewidth=0.8, linestyle="--", label="threshold of f32")
    n_images = sum(e["kind"] == "image" for e in inputs)
    if 0 < n_images < len(inputs):
        axes.axvline(n_images - 0.5, color="0.8", linewidth=0.8)
    axes.set(yscale="log", xlabel="input: pictures, then texts", ylabel="greatest difference (1e-9: none)",
             title=title(report))
    axes.set_ylim(bottom=LEAST / 2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small", ncols=2)
    save(pyplot, figure, name)


def draw_line(axes, precision, values, marker):
    """Relative errors by layer; those that are nought lie on the floor, beside the line."""
    style = {"color": COLOURS[precision], "markersize": 4}
    line = [height(value) if value > LEAST else float("nan") for value in values]
    axes.plot(range(len(line)), line, marker=marker, label=precision, **style)
    equal = [layer for layer, value in enumerate(values) if not value > LEAST]
    style["markersize"] = {"f32": 9, "bf16": 6, "int8": 3}[precision]  # one in the other
    axes.plot(equal, [LEAST] * len(equal), marker, fillstyle="none", **style)


def by_layer(pyplot, report, name):
    """The relative error of each layer, a line for each precision, a panel for each tower."""
    rows = report["layers"]
    kinds = [kind for kind in PANELS if any(row["kind"] == kind for row in rows)]
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(1.6 + 4.2 * len(kinds), 4.2), sharey=True, squeeze=False,
                                     layout="constrained")
    for axes, kind in zip(panels[0], kinds):
        ours = [row for row in rows if row["kind"] == kind]
        for precision, marker in zip(COLOURS, "osD"):
            values = [row["worst_relative"] for row in ours if row["precision"] == precision]
            if values:
                draw_line(axes, precision, values, marker)
        axes.set(yscale="log", xlabel="layer (0: before the first block)",
                 title=f"{PANELS[kind]}, worst of {ours[0]['n']}")
        axes.grid(axis="y", color="0.9")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0][0].set_ylabel("relative error |a - b| / |b|  (1e-9: none)")
    panels[0][0].set_ylim(bottom=LEAST / 2)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.suptitle(title(report), fontsize="medium")
    save(pyplot, figure, name)
