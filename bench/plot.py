"""Bars of a peers.csv as SVG: ms per item of one picture, by engine and precision.

    python bench/plot.py build/bench-peers/peers.csv -o speed.svg --rows 'b32-image-*-b1'

The picture has no ground and follows the reader's light or dark setting. A bar of more than three times clipc's
longest is cut short, and marked."""

import argparse
import fnmatch

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first

import peer_report  # noqa: E402
import peer_rows  # noqa: E402

INK = "#57606a"
OURS, PEER = "#e8590c", "#8b98a5"
NAMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}
STYLE = "<style>@media (prefers-color-scheme: dark) { text { fill: #c9d1d9 !important } }</style>"


def bars(path, pattern):
    """[(row title, [(contestant, least ms)])], every row that was measured."""
    runs = peer_report.collect(path)
    for row in peer_rows.tower_rows():
        found = [(c.name, peer_report.least(runs.get((row.id, c.name), []), row.value)) for c in row.contestants]
        found = [(name, value) for name, value in found if value]
        if found and fnmatch.fnmatch(row.id, pattern):
            yield row.title, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv")
    parser.add_argument("-o", "--out", default="peers.svg")
    parser.add_argument("--rows", default="b32-image-*-b1", help="[b32-image-*-b1]")
    options = parser.parse_args()
    groups = list(bars(options.csv, options.rows))
    if not groups:
        raise SystemExit(f"plot.py: no row of {options.csv} fits {options.rows}")
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "clipc",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
        }
    )
    n_bars = sum(len(found) for _, found in groups)
    figure, axes = plt.subplots(figsize=(7.6, 0.27 * n_bars + 0.42 * len(groups) + 0.2))
    longest = max(value for _, found in groups for _, value in found)
    own = [value for _, found in groups for name, value in found if name == "clipc"]
    longest = min(longest, 3 * max(own)) if own else longest
    y = 0.0
    for title, found in groups:
        axes.text(0, y - 0.1, f"{title}: ms", ha="left", va="center", weight="bold")
        for name, value in sorted(found, key=lambda item: item[1]):
            y += 1
            shown = min(value, longest)
            axes.barh(y, shown, height=0.78, color=OURS if name == "clipc" else PEER)
            axes.text(shown + longest * 0.01, y, f"{value:.1f}" if shown == value else f"/ /  {value:.0f}", va="center")
            axes.text(-longest * 0.01, y, NAMES.get(name, name), ha="right", va="center")
        y += 1.5
    axes.set_xlim(0, longest * 1.08)
    axes.set_ylim(y - 0.8, -0.8)
    axes.axis("off")
    figure.savefig(options.out, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    with open(options.out, encoding="utf-8") as file:
        text = file.read()
    text = text.replace("'DejaVu Sans'", "sans-serif")
    head = text.index(">", text.index("<svg")) + 1
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(text[:head] + STYLE + text[head:])


if __name__ == "__main__":
    main()
