"""Repeat the whole road many times and count: how often does the 95 % interval of the bias hold the exact bias?

    python studies/coverage.py --repetitions 1000 --workers 2

Each repetition draws new training data, fits a new surrogate, runs a new ensemble and buys new probes, on the 4x4
lattice of the warning in the documentation (J=1, J2=0.1, K=0.2, T=2.6). Finished repetitions are kept in
results/coverage/, so that an interrupted study continues where it stopped; the summary goes to studies/coverage.json.
"""
if __name__ == "coverage":  # numba looks for the package of this name, and finds this file first where programs of this folder are run
    raise ImportError("this is the study of coverage, not the package")


import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from uqphys.bias import rehearse, rich_enough, summarise, too_simple
from uqphys.models import Ising

TRUTH, BETA = Ising((4, 4), J=1.0, J2=0.1, K=0.2), 1 / 2.6
CASES = {  # name -> surrogate, and the inverse temperature at which it is trained
    "too simple": (too_simple, BETA),
    "rich enough": (rich_enough, 0.8 * BETA),
    "rich, trained too cold": (rich_enough, BETA),
}


def repetition(case: str, seed: int) -> list:
    "One walk down the road, as plain rows."
    make_surrogate, training_beta = CASES[case]
    return rehearse(TRUTH, BETA, make_surrogate, training_beta=training_beta, seed=seed).assign(case=case).to_dict("records")


def finish(folder: Path, repetitions: int, workers: int) -> pd.DataFrame:
    "Run what is missing, keep every finished repetition in a file of its own, return all rows."
    folder.mkdir(parents=True, exist_ok=True)
    file = lambda case, seed: folder / f"{case.replace(',', '').replace(' ', '-')}-{seed:06d}.json"
    wanted = [(case, seed) for case in CASES for seed in range(repetitions)]
    missing = [job for job in wanted if not file(*job).exists()]
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(repetition, *job): job for job in missing}
        for done in tqdm(as_completed(running), total=len(missing), desc="repetitions"):
            part = file(*running[done]).with_suffix(".part")
            part.write_text(json.dumps(done.result()))
            part.replace(file(*running[done]))
    return pd.DataFrame([row for job in wanted for row in json.loads(file(*job).read_text())])


def summary(rows: pd.DataFrame) -> dict:
    "What the notebook shows: counts, errors, and the standardised errors of every repetition."
    out = {"repetitions": int(rows["seed"].nunique()), "truth": repr(TRUTH), "beta": BETA, "cases": {}}
    for case, group in rows.groupby("case", sort=False):
        table = json.loads(summarise(group).reset_index().to_json(orient="records", double_precision=6))  # NaN becomes null
        g = group[group["evidence"] == "probe"]
        z = (g["predicted_bias"] - g["true_bias"]) / ((g["high"] - g["low"]) / 3.92)
        scores = {name: [round(float(v), 3) for v in z[g["observable"] == name]] for name in g["observable"].unique()}
        trusted = {name: [int(v == "yes") for v in g.loc[g["observable"] == name, "trust"]] for name in scores}
        out["cases"][case] = {"table": table, "z_scores": scores, "trusted": trusted}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/coverage"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    rows = finish(options.folder, options.repetitions, options.workers)
    options.out.write_text(json.dumps(summary(rows), indent=1) + "\n")
    for case, group in rows.groupby("case", sort=False):
        print(f"\n{case}\n{summarise(group).round(4).to_string()}")


if __name__ == "__main__":
    main()
