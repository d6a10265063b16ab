"""Which uncertainty for what? Every method of chapter 3 on the same four problems; notebook 316_which_method shows the table.

    python studies/uncertainty.py            # about half an hour with two workers
    python studies/uncertainty.py --splits 2 --out trial.json

Each problem is split, or drawn afresh, in ten ways; every method sees the same splits. Finished pieces are kept in
results/uncertainty/, so that an interrupted study continues where it stopped; the summary goes to studies/uncertainty.json.
All scores are in units of the spread of the targets (of each output, over the test examples of all splits), so that problems
can be compared. Seconds are processor seconds with one thread.
"""

import argparse
import functools
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from tqdm import tqdm

from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.bnn import LastLayer
from uqphys.committees import EnsembleNet
from uqphys.hmc import HMCNet
from uqphys.models import Ising
from uqphys.penalty import PenaltyNet, SGLDNet
from uqphys.predictive import Predictive
from uqphys.sampling import one_thread, sample
from uqphys.training import _parts, as_samples, train, write_file
from uqphys.variational import VariationalNet

SETTINGS = dict(
    gap=dict(n=80, noise=0.1, test=400, edge=0.7, end=2.0, hidden=30),
    two=dict(n=150, test=400, correlation=0.7, hidden=30),
    diabetes=dict(test=0.1, hidden=30),
    plaquettes=dict(n=100, test=400, length=8, K=0.2, beta=1 / 2.6, chains=10, thin=20, hidden=8),
    version=1,
)


# ---- four problems: examples to learn from and to be judged by

def gap(split):
    "One dimension, noise of one width, and no data in the middle."
    s, rng = SETTINGS["gap"], np.random.default_rng([1, split])
    f = lambda x: np.sin(3 * x) + 0.3 * x
    x = rng.uniform(s["edge"], s["end"], (s["n"], 1)) * rng.choice([-1, 1], (s["n"], 1))
    t = rng.uniform(-s["end"], s["end"], (s["test"], 1))
    noisy = lambda x: f(x) + s["noise"] * rng.standard_normal(x.shape)
    return as_samples(x, noisy(x)), as_samples(t, noisy(t))


def two(split):
    "Two outputs whose noise is correlated, and wide on the right."
    s, rng = SETTINGS["two"], np.random.default_rng([2, split])
    f = lambda x: np.concatenate([np.sin(2 * x), np.cos(3 * x) + 0.5 * x], 1)
    root = np.linalg.cholesky([[1, s["correlation"]], [s["correlation"], 1]])
    noisy = lambda x: f(x) + (0.03 + 0.4 / (1 + np.exp(-3 * x))) * rng.standard_normal((len(x), 2)) @ root.T
    x, t = rng.uniform(-2, 2, (s["n"], 1)), rng.uniform(-2, 2, (s["test"], 1))
    return as_samples(x, noisy(x)), as_samples(t, noisy(t))


def diabetes(split):
    "442 patients, ten numbers each, and how their disease went on: real data, very noisy."
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng([3, split]).permutation(len(x))
    held = int(round(SETTINGS["diabetes"]["test"] * len(x)))
    return as_samples(x[order[held:]], y[order[held:], None]), as_samples(x[order[:held]], y[order[:held], None])


def plaquettes(split):
    "Total energies of an Ising model with plaquettes on 8 x 8 sites: exact numbers, no noise. Whole chains are held out."
    s = SETTINGS["plaquettes"]
    model = Ising((s["length"], s["length"]), K=s["K"])

    def draw(n, chains, seed):
        run = sample(model, s["beta"], draws=n // chains, chains=chains, burn_in=300, thin=s["thin"], seed=seed, progress=False)
        x = run["config"].values.reshape(-1, *model.shape)
        return as_samples(x, np.asarray(model.energy(x), dtype=float)[:, None], groups=np.repeat(np.arange(chains), n // chains))

    return draw(s["n"], s["chains"], 10_000 + split), draw(s["test"], 40, 20_000 + split)


PROBLEMS = {"gap": gap, "two": two, "diabetes": diabetes, "plaquettes": plaquettes}


@functools.lru_cache(maxsize=None)
def spread_of(problem, splits=10):
    "Spread of each output over the test examples of all splits: the unit of the scores."
    return np.concatenate([PROBLEMS[problem](k)[1].y for k in range(splits)]).std(0)


# ---- the methods: (problem, data, seed) -> surrogate

def network(problem, data, seed):
    "The same network for every method."
    hidden, d = (SETTINGS[problem]["hidden"],), data.y.shape[1]
    if problem == "plaquettes":
        return LocalEnergyNet(hidden=hidden, outputs=d, seed=seed)
    return MLP(data.x.shape[1:], hidden=hidden, outputs=d, seed=seed)


def noise_of(problem):
    return "heteroscedastic" if problem == "two" else "homoscedastic"


def method(kind, **options):
    return lambda problem, data, seed: kind(network(problem, data, seed), noise=noise_of(problem), seed=seed, **options)


class OneNetwork:
    "What most people do: train one network, and take the scatter of its errors on held-out rows for the error bar."

    def __init__(self, network, noise, seed):
        self.network, self.seed = network, seed

    def fit(self, data, progress=False):
        train(self.network, data, validation=0.2, patience=100, seed=self.seed, progress=progress)
        learn, judge = _parts(data, 0.2, self.seed)
        self.width = (data.y[judge] - self.mean(data.x[judge])).std(0)

    def mean(self, x):
        with torch.no_grad():
            return self.network(x).numpy()

    def predict(self, x):
        mean = self.mean(x)
        return Predictive(mean, np.zeros_like(mean), np.tile(self.width**2, (len(x), 1)), mean[None])


METHODS = {
    "one network": method(OneNetwork),
    "EnsembleNet": method(EnsembleNet),
    "LastLayer": method(LastLayer),
    "HMCNet": method(HMCNet, chains=8),
    "PenaltyNet": method(PenaltyNet, batch_size=20, batches=5, chain_draws=1000, burn_in=1000, thin=2),
    "SGLDNet": method(SGLDNet, batch_size=20),
    "VariationalNet": method(VariationalNet),
}


# ---- one piece

def scores(belief, y, unit):
    "The scores of a prediction, in units of the targets' spread."
    told = Predictive.score(scaled(belief, unit), y / unit)
    return {name: float(value) for name, value in told.items()}


def scaled(belief, unit):
    "A prediction in other units."
    noise = None if belief.noise is None else belief.noise / unit**2
    return Predictive(belief.mean / unit, belief.epistemic / unit**2, belief.aleatoric / unit**2, belief.draws / unit, belief.correlation,
                      belief.degrees_of_freedom, noise)


def piece(problem, split, name):
    "Fit one method to one split and judge it."
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubts of the chains are kept below
        data, test = PROBLEMS[problem](split)
        surrogate, start = METHODS[name](problem, data, split), time.process_time()
        surrogate.fit(data, progress=False)
        fitted = time.process_time()
        belief = surrogate.predict(test.x)
        done = time.process_time()
    return dict(problem=problem, split=split, method=name, fit_seconds=fitted - start, predict_seconds=done - fitted,
                doubts=list(getattr(surrogate, "doubts", ())), **scores(belief, test.y, spread_of(problem)))


def finished(folder, job):
    "A piece from an earlier run with the same settings; else it is made and kept."
    file = folder / ("-".join(map(str, job)).replace(" ", "-") + ".json")
    settings = dict(problem=SETTINGS[job[0]], version=SETTINGS["version"])
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["settings"] == json.loads(json.dumps(settings)):
            return kept["piece"]
    done = piece(*job)
    write_file(file, json.dumps(dict(settings=settings, piece=done)))
    return done


# ---- the summary

def mean_and_error(values):
    return dict(value=float(f"{np.mean(values):.5g}"), error=float(f"{np.std(values, ddof=1) / len(values) ** 0.5:.2g}"))


def summary(pieces):
    "One row for each problem and method."
    rows = []
    for problem in PROBLEMS:
        for name in METHODS:
            chosen = [p for p in pieces if (p["problem"], p["method"]) == (problem, name)]
            keys = [key for key, value in chosen[0].items() if isinstance(value, float)]
            row = dict(problem=problem, method=name, splits=len(chosen)) | {key: mean_and_error([p[key] for p in chosen]) for key in keys}
            row["doubted"] = sum(bool(p["doubts"]) for p in chosen)
            row["doubts"] = sorted({doubt for p in chosen for doubt in p["doubts"]})[:3]
            rows.append(row)
    return dict(settings=SETTINGS, rows=rows)


def dump(told):
    "JSON with one line for each row."
    head = json.dumps({k: v for k, v in told.items() if k != "rows"}, indent=1)
    return head[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(json.dumps(row) for row in told["rows"]) + "\n ]\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/uncertainty"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [(problem, split, name) for split in range(options.splits) for problem in PROBLEMS for name in METHODS]
    with ProcessPoolExecutor(options.workers) as pool:
        waiting = [pool.submit(finished, options.folder, job) for job in jobs]
        for _ in tqdm(as_completed(waiting), total=len(jobs), desc="fits"):
            pass
        pieces = [future.result() for future in waiting]
    told = summary(pieces)
    write_file(options.out, dump(told))
    for row in told["rows"]:
        print(f"{row['problem']:11s} {row['method']:15s}", *(f"{key} {row[key]['value']:.3g}({row[key]['error']:.1g})" for key in
              ("crps", "negative_log_density", "coverage_95", "energy_score", "fit_seconds")), f"doubted {row['doubted']}")


if __name__ == "__main__":
    main()
