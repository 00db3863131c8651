"""The ratio table of a peers.csv, in Markdown."""

import csv
import statistics

import peer_models


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def collect(path):
    """{(row, contestant): [one dictionary per round]}"""
    runs = {}
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            runs.setdefault((line["row"], line["contestant"]), []).append(line)
    return runs


def least(runs, key):
    values = [v for v in (number(run[key]) for run in runs) if v is not None]
    return min(values) if values else None


def median(runs, key):
    values = [v for v in (number(run[key]) for run in runs) if v is not None]
    return statistics.median(values) if values else None


def verdict(check, ratio, value):
    if check.kind == "limit":
        return f"<= {check.floor:g}", value is not None and value <= check.floor
    if check.kind == "share":
        return f">= {check.floor:g}", value is not None and value >= check.floor
    if check.kind == "at most":
        return f"<= {check.floor:g}", ratio is not None and ratio <= check.floor
    aim = f" ({check.aim:g})" if check.aim else ""
    return f">= {check.floor:g}{aim}", ratio is not None and ratio >= check.floor


def share(contestant, runs, first_runs):
    """Of the peak that clipc measured in the same rounds, work really done: clipc's own, a peer's whole tower."""
    if contestant.engine.startswith("clipc"):
        return max((v for v in (number(run["peak_share"]) for run in runs) if v is not None), default=None)
    peak, ms = median(first_runs, "peak_gops"), least(runs, "ms_per_item_min")
    if not peak or not ms:
        return None
    tokens = max(contestant.tokens, contestant.pad_to)
    work = peer_models.gop_per_item(contestant.shape, contestant.tower, tokens)
    return work / (ms * 1e-3) / (peak * contestant.threads)


def show(value, form):
    return "" if value is None else form % value


def row_lines(row, runs):
    first = row.contestants[0]
    first_runs = runs.get((row.id, first.name), [])
    typical = "ms_per_item_median" if row.value == "ms_per_item_min" else row.value
    base, base_median = least(first_runs, row.value), median(first_runs, typical)
    for contestant in row.contestants:
        own = runs.get((row.id, contestant.name), [])
        if not own:
            continue
        value, middle = least(own, row.value), median(own, typical)
        value = middle if row.value == "tower_to_gemm" else value
        ratio = value / base if value and base and contestant is not first else None
        ratio_median = middle / base_median if middle and base_median and contestant is not first else None
        check = next((c for c in row.checks if c.name == contestant.name), None)
        floor, holds = verdict(check, ratio, value) if check else ("", None)
        known = value is not None if check and check.kind in ("limit", "share") else ratio is not None
        outcome = "" if not check else "?" if not known else "yes" if holds else "NO"
        error = next((run["error"] for run in own if run["error"]), "") if value is None else ""
        yield (
            row.title if contestant is first else "",
            contestant.name,
            error or own[0]["tier"] or own[0]["ran_as"],
            show(value, f"%.2f {row.unit}".strip()),
            show(middle, "%.2f"),
            show(ratio, "%.2f"),
            show(ratio_median, "%.2f"),
            floor,
            outcome,
            show(share(contestant, own, first_runs), "%.2f") if row.value not in ("first_ms", "peak_rss_mb") else "",
            show(median(own, "peak_rss_mb"), "%.0f"),
            show(least(own, "cosine"), "%.5f"),
        )


def table(path, rows, machine):
    runs = collect(path)
    everything = [run for group in runs.values() for run in group]
    heads = (
        "row",
        "engine",
        "ran",
        "least",
        "median",
        "ratio",
        "of medians",
        "floor (aim)",
        "holds",
        "share of peak",
        "RSS MB",
        "cosine to f32",
    )
    lines = [line for row in rows for line in row_lines(row, runs)]
    widths = [max([len(head)] + [len(line[i]) for line in lines]) for i, head in enumerate(heads)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in [heads] + lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    versions = sorted({f"{run['engine']} {run['version']}" for run in everything if run["version"]})
    rounds = max((int(run["round"]) for run in everything), default=0)
    load = max((number(run["load"]) or 0 for run in everything), default=0)
    about = [machine] if machine else []
    about.append(
        f"{rounds} rounds, ms per item; ratio: the engine's least over the first engine's; highest load {load:.1f}"
    )
    return "\n".join(about + versions + [""] + text)
