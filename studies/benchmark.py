"""The benchmark: all systems, all methods, all kinds of evidence, again and again, where the bias is known.

    python studies/benchmark.py --repetitions 20 --workers 2

Each row (system, method, number) is a file of its own in results/benchmark/, so that an interrupted study goes on where it stopped; the
cases of all finished rows go to studies/benchmark.json. With --systems and --methods only these are run; with --collect nothing is run.
A row is made again by naming it: --redo "ising 4x4,GP,3". --restore first puts the rows of studies/benchmark.json back into the folder, so
that a study goes on from what is published.
"""

import argparse
import contextlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from uqphys.benchmark import METHODS, SYSTEMS, benchmark_goals, collect_benchmark, restore_benchmark, run_benchmark, save_benchmark, summarise_benchmark


def row(text):
    "A row from its names: system,method,number."
    system, method, number = text.split(",")
    return system, method, int(number)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--redo", nargs="+", default=[], type=row, metavar="ROW")
    parser.add_argument("--collect", action="store_true", help="only put into the JSON file what is finished")
    parser.add_argument("--restore", action="store_true", help="begin with the rows of the JSON file")
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if options.restore:
        restore_benchmark(options.out, options.folder)
    if not options.collect:
        chosen = dict(systems={s: SYSTEMS[s] for s in options.systems}, methods={m: METHODS[m] for m in options.methods})
        with ProcessPoolExecutor(options.workers) if options.workers > 1 else contextlib.nullcontext() as pool:
            run_benchmark(options.folder, **chosen, repetitions=options.repetitions, redo=options.redo, executor=pool)
    rows = collect_benchmark(options.folder)
    save_benchmark(rows, options.out)
    print(summarise_benchmark(rows).round(3).to_string(), benchmark_goals(rows).round(3).to_string(), sep="\n\n")


if __name__ == "__main__":
    main()
