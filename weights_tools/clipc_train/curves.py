"""How a training went: curves.csv with every step, and the same as a picture, curves.png and curves.svg."""
from __future__ import annotations

import csv
from pathlib import Path

import drawer

from .checkpoint import appearing

MEASURED = ("held_out", "order", "turned", *drawer.CATEGORIES)
COLUMNS = ("step", "stage", "learning_rate", "loss", *MEASURED)
Row = dict  # by the names of COLUMNS; without MEASURED where nothing was measured


def write_csv(path: Path, rows: list[Row]) -> None:
    with appearing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def smoothed(values: list[float], share: float = 0.05) -> list[float]:
    """An average that forgets, of what has been seen so far."""
    out, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = (1 - share) * total + share * value, (1 - share) * weight + share
        out.append(total / weight)
    return out


def load_pyplot():
    """matplotlib.pyplot that needs no screen, or None where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "clipc"  # the same curves, the same file
    from matplotlib import pyplot
    return pyplot


def draw_accuracy(axes, rows: list[Row]) -> None:
    measured = [row for row in rows if "held_out" in row]
    steps = [row["step"] for row in measured]
    for name, colour in zip(drawer.CATEGORIES, ("C0", "C1", "C2", "C4", "C5", "C6", "C8", "C9")):
        axes.plot(steps, [100 * row[name] for row in measured], color=colour, linewidth=1, marker=".", label=name)
    for name, marker, words in (("order", "^", "order: above, left"), ("turned", "v", "order: below, right")):
        axes.plot(steps, [100 * row[name] for row in measured], "--", color="C3", linewidth=1.5, marker=marker,
                  markersize=5, label=words)
    axes.axhline(50, color="C3", linewidth=0.6, linestyle=":", label="chance of order")
    axes.plot(steps, [100 * row["held_out"] for row in measured], color="black", linewidth=2.4, marker="o",
              markersize=5, label="all held-out")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize="small",
                frameon=False)
    axes.set(ylabel="right, %", ylim=(0, 102))


def draw_picture(pyplot, rows: list[Row], title: str):
    steps = [row["step"] for row in rows]
    figure, (loss, accuracy, rate) = pyplot.subplots(3, 1, figsize=(10, 9), sharex=True, layout="constrained",
                                                     height_ratios=(3, 4, 1.5))
    starts = [i for i, row in enumerate(rows) if i == 0 or row["stage"] != rows[i - 1]["stage"]]
    losses = [row["loss"] for row in rows]
    loss.plot(steps, losses, color="C0", linewidth=0.6, alpha=0.4, label="each batch")
    for first, end in zip(starts, [*starts[1:], len(rows)]):  # each stage by itself: its batches are of another kind
        loss.plot(steps[first:end], smoothed(losses[first:end]), color="C0", linewidth=2,
                  label="smoothed" if first == 0 else None)
    loss.set(ylabel="loss", title=title, ylim=(0, None))
    loss.legend(loc="upper right", fontsize="small", frameon=False)
    draw_accuracy(accuracy, rows)
    rate.plot(steps, [row["learning_rate"] for row in rows], color="C7", linewidth=1.5)
    rate.set(ylabel="learning rate", xlabel="step", ylim=(0, 1.3 * max(row["learning_rate"] for row in rows)))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3))
    for axes in (loss, accuracy, rate):
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        for i in starts[1:]:
            axes.axvline(steps[i] - 0.5, color="0.6", linewidth=0.8)
    for i in starts:
        rate.annotate(f"stage {rows[i]['stage']}", (steps[i], 0.98), xycoords=("data", "axes fraction"),
                      xytext=(3, 0), textcoords="offset points", va="top", fontsize="small", color="0.35")
    return figure


def write(folder: Path, rows: list[Row], title: str, pyplot) -> None:
    """The three files; without pyplot the CSV alone."""
    write_csv(folder / "curves.csv", rows)
    if pyplot is None:
        return
    figure = draw_picture(pyplot, rows, title)
    for kind, extra in (("png", {"dpi": 120}), ("svg", {"metadata": {"Date": None}})):
        with appearing(folder / f"curves.{kind}") as part:
            figure.savefig(part, format=kind, **extra)
    pyplot.close(figure)
