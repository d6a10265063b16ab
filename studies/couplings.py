"""Simulations for a network that predicts observables from couplings; notebook 214_couplings learns from them.

    python studies/couplings.py

Rows to learn from, and fewer but longer ones to judge by, of other couplings and with two sizes that the first have not.
Finished pieces of 64 rows are kept in results/couplings/, so that an interrupted study continues where it stopped; all of
them together go to studies/couplings.npz: arrays `learn` and `judge` of single precision, columns as in `columns`, and
`seconds`, what the runs of each cost.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uqphys.couplings import coupling_design, run_couplings
from uqphys.sampling import one_thread

PIECE = 64
SETS = {
    "learn": dict(rows=3072, draws={8: 8000, 12: 4000, 32: 1000}, seed=1, sizes=(4, 6, 8, 10, 12, 16, 20, 24, 32)),
    "judge": dict(rows=320, draws={32: 8000}, seed=2, sizes=(4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)),
}  # draws: up to which L how many


def piece(name, k, folder):
    "Rows k * PIECE onwards of a set: simulated, or read if they have been."
    file = folder / f"{name}-{k:03d}.npz"
    if not file.exists():
        chosen, start = SETS[name], time.perf_counter()
        rows = coupling_design(chosen["rows"], chosen["seed"], chosen["sizes"])[k * PIECE : (k + 1) * PIECE]
        draws = [next(n for limit, n in chosen["draws"].items() if L <= limit) for L in rows[:, 5]]
        with one_thread():
            table = run_couplings(rows, draws=draws, seed=1000 * chosen["seed"] + k, progress=False)
        part = file.with_suffix(".part.npz")
        np.savez(part, rows=table.to_numpy(), columns=np.array(table.columns, dtype=str), seconds=time.perf_counter() - start)
        part.replace(file)
    with np.load(file, allow_pickle=False) as found:
        return found["rows"], found["columns"], float(found["seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/couplings"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".npz"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    told = {}
    for name, chosen in SETS.items():
        pieces = [piece(name, k, options.folder) for k in tqdm(range(-(-chosen["rows"] // PIECE)), desc=name)]
        told[name] = np.concatenate([rows for rows, _, _ in pieces]).astype(np.float32)
        told[f"{name}_seconds"] = sum(seconds for _, _, seconds in pieces)
    part = options.out.with_suffix(".part.npz")
    np.savez_compressed(part, columns=pieces[0][1], **told)
    part.replace(options.out)
    print({name: value.shape if np.ndim(value) else round(float(value)) for name, value in told.items()})


if __name__ == "__main__":
    main()
