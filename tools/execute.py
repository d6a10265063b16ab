"""Execute the notebooks from clean, in the order of their numbers, and store their outputs.

Each notebook gets a fresh kernel; the time of each is printed. All together must stay within the budget (by
default 10 minutes, enough for some of them): the run ends with status 1 at an error, or where the budget is spent.

    python tools/execute.py [NAME ...] [--check] [--budget SECONDS]

NAME is the beginning of a file name, such as 01; --check executes without storing anything.
"""
import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbdev.clean import clean_nb

NBS = Path(__file__).resolve().parents[1] / "nbs"
ENVIRONMENT = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def in_order(names):
    "The notebooks whose file name begins with one of the names; index last, for it shows what the others found."
    paths = [path for path in NBS.glob("*.ipynb") if not names or path.name.startswith(tuple(names))]
    return sorted(paths, key=lambda path: (path.stem == "index", path.name.partition("_")))


def execute(path, seconds):
    "Execute one notebook from clean and return it."
    nb = nbformat.read(path, 4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    os.environ.update(ENVIRONMENT)
    quiet = ["--log-level=ERROR"]
    where = {"metadata": {"path": str(NBS)}}
    NotebookClient(
        nb, timeout=max(1, int(seconds)), kernel_name="python3", extra_arguments=quiet, record_timing=False, resources=where
    ).execute()
    return nb


def store(nb, path):
    "Write a notebook without execution counts and metadata (`make export` does the rest)."
    clean_nb(nb)
    nbformat.write(nb, path)


def main():
    "Execute, time and store."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only notebooks whose name begins so")
    parser.add_argument("--check", action="store_true", help="store nothing")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for all notebooks together")
    options = parser.parse_args()
    spent = 0.0
    for path in in_order(options.names):
        start = time.perf_counter()
        try:
            nb = execute(path, options.budget - spent)
        except (CellExecutionError, CellTimeoutError) as error:
            print(f"execute: {path.name} stopped:\n{error}", file=sys.stderr)
            return 1
        seconds = time.perf_counter() - start
        spent += seconds
        print(f"execute: {seconds:6.1f} s  {path.name}", flush=True)
        if spent > options.budget:
            print(f"execute: {spent:.0f} s are over the budget of {options.budget:.0f} s", file=sys.stderr)
            return 1
        if not options.check:
            store(nb, path)
    print(f"execute: {spent:6.1f} s  in all (budget {options.budget:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
