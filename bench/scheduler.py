"""The scheduler against tokio: bench/scheduler.c and bench/tokio in turn, the least of all rounds of each row.

  python3 bench/scheduler.py                 needs cargo for tokio; without it clipc's column stands alone
Prints a table and writes it as CSV and Markdown. Python's standard library is enough."""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def build_tokio(folder):
    cargo = shutil.which("cargo") or shutil.which("cargo", path=os.path.expanduser("~/.cargo/bin"))
    if not cargo:
        print("scheduler.py: cargo is not there: without tokio", file=sys.stderr)
        return None
    command = [cargo, "build", "--release", "--locked", "--target-dir", folder]
    if subprocess.run(command, cwd=os.path.join(HERE, "tokio")).returncode != 0:
        sys.exit("scheduler.py: building bench/tokio failed")
    return os.path.join(folder, "release", "tokio-peer")


def run(program, threads, best):
    """One process; keeps the least of each row."""
    done = subprocess.run([program, str(threads)], stdout=subprocess.PIPE, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"scheduler.py: {program} ended with {done.returncode}")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        unit = "ns" if "ns" in row else "bytes"
        key = (row["row"], unit)
        best[key] = min(best.get(key, float("inf")), row[unit])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/bench/scheduler", help="the built bench/scheduler.c [%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="workers of both [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each [%(default)s]")
    parser.add_argument("--cache", default="build/tokio", help="where tokio is built [%(default)s]")
    parser.add_argument("--out", default="build/bench-scheduler", help="folder of the tables [%(default)s]")
    options = parser.parse_args()
    if not os.path.exists(options.program):
        sys.exit(f"scheduler.py: {options.program} is not there: make bench")
    programs = {"clipc": options.program, "tokio": build_tokio(os.path.abspath(options.cache))}
    best = {name: {} for name, program in programs.items() if program}
    for _ in range(options.rounds):
        for name in best:
            run(programs[name], options.threads, best[name])
    os.makedirs(options.out, exist_ok=True)
    lines = ["| row | clipc | tokio | tokio / clipc |", "|---|---|---|---|"]
    with open(os.path.join(options.out, "scheduler.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "unit", "clipc", "tokio"])
        for (row, unit), ours in best["clipc"].items():
            theirs = best.get("tokio", {}).get((row, unit))
            writer.writerow([row, unit, ours, theirs])
            cells = (f"{theirs:.0f} {unit}", f"{theirs / ours:.1f}") if theirs else ("-", "-")
            lines.append(f"| {row} | {ours:.0f} {unit} | {cells[0]} | {cells[1]} |")
    with open(os.path.join(options.out, "scheduler.md"), "w") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
