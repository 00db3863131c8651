"""clipc against OpenVINO, ONNX Runtime, PyTorch and candle on the same random models, in one run.

Every round runs each contestant of each row once, in a process of its own, the order rotated from round to round.
What counts is the ratio of the least times; machines differ and are noisy, so only figures of one run compare."""

import argparse
import csv
import datetime
import fnmatch
import os
import platform
import subprocess
import sys
import tempfile

from tqdm import tqdm

import peer_engines
import peer_report
import peer_rows

HERE = os.path.dirname(os.path.abspath(__file__))
QUICK = ("b32-image-f32-b1", "b32-image-int8-b1", "b32-text8-f32-b1")
COLUMNS = """time load round row contestant engine version precision ran_as shape tower batch tokens pad_to threads
ms_per_item_min ms_per_item_median ms_per_item_p95 items_per_second runs open_ms first_ms peak_rss_mb tier peak_share
peak_gops gop_per_item tower_to_gemm cosine error""".split()


def chosen_rows(options):
    rows = peer_rows.all_rows()
    if options.quick:
        return [row for row in rows if row.id in QUICK]
    if not options.rows:
        return rows
    wanted = [name for name in options.rows.split(",") if name]
    chosen = [row for row in rows if any(fnmatch.fnmatch(row.id, name) for name in wanted)]
    for name in wanted:
        if not any(fnmatch.fnmatch(row.id, name) for row in rows):
            sys.exit(f"peers.py: there is no row {name}; --list shows them")
    return chosen


def machine():
    name = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs, {platform.system()} {platform.machine()}"


def prepare(engines, work):
    """What cannot run, with the reason, by row and contestant."""
    broken = {}
    for row, contestant in tqdm(work, desc="models", unit="contestant", leave=False):
        try:
            engines.prepare(contestant)
        except peer_engines.Failed as reason:
            broken[row.id, contestant.name] = str(reason)
    return broken


def run_once(engines, row, contestant, broken):
    """One line of the CSV, of a measurement or of the reason why there is none."""
    result = dict(error=broken.get((row.id, contestant.name), ""))
    if not result["error"]:
        try:
            result.update(engines.run(contestant, opening=row.value in ("first_ms", "peak_rss_mb")))
        except peer_engines.Failed as reason:
            result["error"] = str(reason)
    now = datetime.datetime.now().isoformat(timespec="seconds")
    about = dict(row=row.id, contestant=contestant.name, time=now, load=f"{os.getloadavg()[0]:.2f}")
    return {**vars(contestant), **result, **about, "engine": contestant.engine}


def measure(options, rows):
    engines = peer_engines.Engines(options)
    kept = {row.id: [c for c in row.contestants if c.engine.split("-")[0] in options.engines] for row in rows}
    if os.getloadavg()[0] > 0.5:
        print(f"note: the machine is busy, load {os.getloadavg()[0]:.1f}: its times are worth little", file=sys.stderr)
    broken = prepare(engines, [(row, contestant) for row in rows for contestant in kept[row.id]])
    path = os.path.join(options.out, "peers.csv")
    total = options.rounds * sum(map(len, kept.values()))
    with open(path, "w", newline="") as file, tqdm(total=total, unit="run") as progress:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        try:
            for turn in range(options.rounds):
                for row in rows:
                    contestants = kept[row.id]
                    start = turn % max(1, len(contestants))
                    for contestant in contestants[start:] + contestants[:start]:
                        progress.set_description(f"round {turn + 1}: {row.id} {contestant.name}")
                        writer.writerow({**run_once(engines, row, contestant, broken), "round": turn + 1})
                        file.flush()
                        progress.update()
        except KeyboardInterrupt:
            print("\nstopped; what was measured is kept", file=sys.stderr)
    return path


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python bench/peers.py --quick\n"
        "  python bench/peers.py --rows 'b32-image-*,b32-text8-f32-b1' --rounds 5\n"
        "  python bench/peers.py --report build/bench-peers/peers.csv",
    )
    default_cache = os.path.join(tempfile.gettempdir(), "clipc-peers")
    vocabulary = os.path.join(os.path.dirname(HERE), "models", "tiny")
    parser.add_argument("--rows", metavar="ID,ID*", help="rows to run [all]; * stands for anything")
    parser.add_argument("--list", action="store_true", help="the rows, and leave")
    parser.add_argument("--quick", action="store_true", help=f"three rows only: {', '.join(QUICK)}")
    parser.add_argument(
        "--engines",
        nargs="+",
        default=["clipc", "openvino", "onnxruntime", "torch", "candle"],
        choices=["clipc", "openvino", "onnxruntime", "torch", "candle"],
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="per contestant and round [2]")
    parser.add_argument("--tier", default="", help="highest kernels that clipc may use [the best of this CPU]")
    parser.add_argument("--program", default="build/clipc", help="[build/clipc]")
    parser.add_argument(
        "--cache", default=default_cache, help=f"where the models are made once, about 9 GB [{default_cache}]"
    )
    parser.add_argument(
        "--vocabulary",
        default=vocabulary,
        metavar="DIR",
        help="folder whose vocab.json and merges.txt go beside the random weights [models/tiny]",
    )
    parser.add_argument(
        "--out", default="build/bench-peers", help="folder of peers.csv, peers.md, peers.svg [build/bench-peers]"
    )
    parser.add_argument("--report", metavar="CSV", help="only print the table of an earlier run")
    options = parser.parse_args()
    rows = chosen_rows(options)
    if options.list:
        for row in rows:
            print(f"{row.id:20s} {row.title}: {', '.join(c.name for c in row.contestants)}")
        return
    path = options.report
    if not path:
        os.makedirs(options.out, exist_ok=True)
        os.makedirs(options.cache, exist_ok=True)
        path = measure(options, rows)
    table = peer_report.table(path, peer_rows.all_rows(), "" if options.report else machine())
    print(table)
    if not options.report:
        with open(os.path.join(options.out, "peers.md"), "w") as file:
            file.write(table + "\n")
        picture = os.path.join(options.out, "peers.svg")
        subprocess.run([sys.executable, os.path.join(HERE, "plot.py"), path, "-o", picture])
        print(f"\nwritten: peers.csv, peers.md and peers.svg in {options.out}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
