"""Which uncertainty for what? Every method of chapter 3 on the same four problems; notebook 329_which_method shows the table.

    python studies/uncertainty.py
    python studies/uncertainty.py --splits 2 --out trial.json
    python studies/uncertainty.py --only ExactGP SparseGP --out trial.json

Each problem is drawn afresh ten times (the real data are cut into ten folds); every method sees the same splits. Finished
pieces are kept in results/uncertainty/ under a hash of all that they depend on, settings, options and the package's code, so
that an interrupted study continues where it stopped; the summary goes to studies/uncertainty.json. A fit that fails is counted.
A new method is one more row of `METHODS`: a `Method` if it is made of a network, a `Process` if it needs none.
All scores are in units of the spread of the targets (of each output, over the test examples of all splits), so that problems
can be compared. Seconds are processor seconds with one thread, without the time of compiling.
"""

import argparse
import functools
import hashlib
import json
import math
import re
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from tqdm import tqdm

import uqphys
from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.bnn import LastLayer
from uqphys.committees import EnsembleNet
from uqphys.datasets import split_by_chain
from uqphys.deep_kernel import DeepKernelGP
from uqphys.gp import ExactGP, make_kernel
from uqphys.hmc import HMCNet
from uqphys.lattice_gp import LatticeGP
from uqphys.lattice_kernels import ExtensiveGP, PatternKernel, ShellKernel
from uqphys.models import Ising
from uqphys.penalty import PenaltyNet, SGLDNet
from uqphys.predictive import Predictive
from uqphys.sampling import one_thread, sample
from uqphys.sparse_gp import MultitaskGP, SparseGP
from uqphys.training import as_samples, train, write_file
from uqphys.variational import VariationalNet

SETTINGS = dict(
    gap=dict(n=80, noise=0.1, test=400, edge=0.7, end=2.0, hidden=30),
    two=dict(n=150, test=400, correlation=0.7, hidden=30),
    diabetes=dict(folds=10, hidden=30),
    plaquettes=dict(n=100, test=400, length=8, K=0.2, beta=1 / 3, chains=10, thin=20, hidden=8),
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


def width(x):
    "Standard deviation of the noise in the second problem, (n, 1)."
    return 0.03 + 0.4 / (1 + np.exp(-3 * x))


def two(split):
    "Two outputs whose noise is correlated, and wide on the right."
    s, rng = SETTINGS["two"], np.random.default_rng([2, split])
    f = lambda x: np.concatenate([np.sin(2 * x), np.cos(3 * x) + 0.5 * x], 1)
    root = np.linalg.cholesky([[1, s["correlation"]], [s["correlation"], 1]])
    noisy = lambda x: f(x) + width(x) * rng.standard_normal((len(x), 2)) @ root.T
    x, t = rng.uniform(-2, 2, (s["n"], 1)), rng.uniform(-2, 2, (s["test"], 1))
    return as_samples(x, noisy(x)), as_samples(t, noisy(t))


def diabetes(split):
    "442 patients, ten numbers each, and how their disease went on: real data, very noisy."
    x, y = load_diabetes(return_X_y=True)
    held = np.zeros(len(x), bool)
    held[np.random.default_rng(3).permutation(len(x))[split % SETTINGS["diabetes"]["folds"] :: SETTINGS["diabetes"]["folds"]]] = True
    return as_samples(x[~held], y[~held, None]), as_samples(x[held], y[held, None])


def plaquettes(split):
    """Total energies of an Ising model with plaquettes on 8 x 8 sites: exact numbers, no noise. Whole chains are held out.

    A test configuration with the same surroundings as one of the examples (a copy, up to symmetries) is left out.
    """
    s = SETTINGS["plaquettes"]
    model = Ising((s["length"], s["length"]), K=s["K"])

    def draw(n, chains, seed):
        run = sample(model, s["beta"], draws=n // chains, chains=chains, burn_in=300, thin=s["thin"], seed=seed, progress=False)
        return run["config"].values.reshape(-1, *model.shape), np.repeat(np.arange(chains), n // chains)

    (x, chain), (t, other) = draw(s["n"], s["chains"], 10_000 + split), draw(s["test"], 40, 20_000 + split)
    counts = LocalEnergyNet().environments(np.concatenate([x, t])).counts.numpy()
    known = {row.tobytes() for row in counts[: len(x)]}
    new = np.array([row.tobytes() not in known for row in counts[len(x) :]])
    labelled = lambda x, chain: as_samples(x, np.asarray(model.energy(x), dtype=float)[:, None], groups=chain)
    return labelled(x, chain), labelled(t[new], other[new])


PROBLEMS = {"gap": gap, "two": two, "diabetes": diabetes, "plaquettes": plaquettes}


@functools.lru_cache(maxsize=None)
def spread_of(problem, splits=10):
    "Spread of each output over the test examples of all splits: the unit of the scores."
    return np.concatenate([PROBLEMS[problem](k)[1].y for k in range(splits)]).std(0)


# ---- the methods: (problem, data, seed) -> surrogate

TOGETHER = 20  # inputs whose joint energy score is taken; told by the root of the number of values
NOISE = dict(gap="homoscedastic", two="heteroscedastic", diabetes="homoscedastic", plaquettes="homoscedastic")


class Method(NamedTuple):
    """A surrogate of a network, the options that it is made with, others for single problems, and the problems that it meets (all if none is named).

    The option `network` holds options of the network.
    """

    kind: type
    options: dict = {}
    special: dict = {}
    only: tuple = ()

    def make(self, problem, data, seed):
        options = {"noise": NOISE[problem]} | self.options | self.special.get(problem, {})
        return self.kind(network(problem, data, seed, **options.pop("network", {})), seed=seed, **options)


class Process(Method):
    "The same for a Gaussian process: no network, and noise of one width unless it is given. Kernels are named as in `KERNELS`."

    def make(self, problem, data, seed):
        options = self.options | self.special.get(problem, {})
        kernel = {"kernel": KERNELS[options["kernel"]]()} if "kernel" in options else {}
        return self.kind(seed=seed, **options | kernel)


def network(problem, data, seed, **options):
    "The same network for every method that needs one."
    hidden, d = (SETTINGS[problem]["hidden"],), data.y.shape[1]
    if problem == "plaquettes":
        return LocalEnergyNet(hidden=hidden, outputs=d, seed=seed, **options)
    return MLP(data.x.shape[1:], hidden=hidden, outputs=d, seed=seed, **options)


KERNELS = {
    "one length": lambda: make_kernel("rbf", SETTINGS["plaquettes"]["length"] ** 2, one_length=True),  # as every site is like every other
    "patterns": PatternKernel,
    "shells": ShellKernel,
    "shells and squares": lambda: ShellKernel(plaquettes=True),
}


class NoNetwork:
    "What somebody says who has seen targets but no inputs: their mean and spread. Whoever does worse knows less than nothing."

    def __init__(self, network, noise, seed):
        pass

    def fit(self, data, progress=False):
        self.mean, self.width = data.y.mean(0), data.y.std(0, ddof=1)

    def predict(self, x):
        mean = np.tile(self.mean, (len(x), 1))
        return Predictive(mean, np.zeros_like(mean), np.tile(self.width**2, (len(x), 1)), mean[None])


class OneNetwork:
    "What most people do: train one network, and take the scatter of its errors on rows that it has not seen for the error bar."

    def __init__(self, network, noise, seed):
        self.network, self.seed = network, seed

    def fit(self, data, progress=False):
        learn, judge = split(data, 0.2, self.seed)  # the rows that stop the training early are others: train holds out its own
        train(self.network, data.take(learn), validation=0.2, patience=100, seed=self.seed, progress=progress)
        self.width = np.sqrt(((data.y[judge] - self.mean(data.x[judge])) ** 2).mean(0))

    def mean(self, x):
        with torch.no_grad():
            return self.network(x).numpy()

    def predict(self, x):
        mean = self.mean(x)
        return Predictive(mean, np.zeros_like(mean), np.tile(self.width**2, (len(x), 1)), mean[None])


def split(data, share, seed):
    "Rows to learn from and to judge by, whole chains."
    return split_by_chain(data, (1 - share, share), seed=seed)


# A chain's or a fit's length is what ten splits can pay for. Exact numbers are hard on the samplers that take small steps: they have to
# meet them within a given width, 3 % of the spread of the targets. The step of SGLD is the largest of 0.1, 0.03, 0.01, ... that stays finite.
EXACT = dict(noise="none", tolerance=0.03)
METHODS = {
    "no network": Method(NoNetwork),
    "one network": Method(OneNetwork),
    "EnsembleNet": Method(EnsembleNet, special=dict(plaquettes=dict(noise="none"))),
    "LastLayer": Method(LastLayer),
    "LastLayer, linear part": Method(LastLayer, dict(network=dict(linear=True)), only=("plaquettes",)),  # pairs and squares are features: the exact energy is a sum of them
    "HMCNet": Method(HMCNet, dict(chains=8, steps=200, warmup=200), dict(plaquettes=dict(steps=400, warmup=300))),
    "HMCNet, width given": Method(HMCNet, dict(chains=8, steps=400, warmup=300) | EXACT, only=("plaquettes",)),  # the rule of the samplers below
    "PenaltyNet": Method(PenaltyNet, dict(batch_size=4, batches=5, chain_draws=500, burn_in=700),
                         dict(diabetes=dict(chain_draws=250, burn_in=350, leapfrog=5), plaquettes=dict(EXACT, chain_draws=250, burn_in=250, leapfrog=5))),
    "SGLDNet": Method(SGLDNet, dict(batch_size=20, chain_draws=100, burn_in=500),
                      dict(gap=dict(step=0.03), two=dict(step=0.01), plaquettes=dict(EXACT, step=0.01))),
    "VariationalNet": Method(VariationalNet, dict(steps=2000, starts=2), dict(plaquettes=EXACT)),
    "ExactGP": Process(ExactGP, only=("gap", "two", "diabetes")),
    "ExactGP, averaged": Process(ExactGP, dict(hyperparameters="averaged"), only=("gap", "diabetes")),
    "ExactGP, noise given": Process(ExactGP, dict(noise="given"), only=("two",)),  # knows what nobody else does: the width of the noise, as from error bars
    "MultitaskGP": Process(MultitaskGP, only=("two",)),
    "SparseGP": Process(SparseGP, dict(inducing=30), dict(diabetes=dict(inducing=100)), only=("gap", "two", "diabetes")),
    "SparseGP, batches": Process(SparseGP, dict(method="svgp", inducing=30), dict(diabetes=dict(inducing=100)), only=("gap", "two", "diabetes")),
    "DeepKernelGP": Method(DeepKernelGP, special=dict(two=dict(noise="homoscedastic"))),  # its network as of the others, its noise as of the processes
    "ExactGP, raw spins": Process(ExactGP, dict(kernel="one length", noise="none"), only=("plaquettes",)),
    "LatticeGP": Process(LatticeGP, only=("plaquettes",)),
    "ExtensiveGP, patterns": Process(ExtensiveGP, dict(kernel="patterns"), only=("plaquettes",)),
    "ExtensiveGP, squares": Process(ExtensiveGP, dict(kernel="shells and squares"), only=("plaquettes",)),
    "ExtensiveGP, shells": Process(ExtensiveGP, dict(kernel="shells"), only=("plaquettes",)),  # does not see what the plaquettes do
}


def recipe():
    "All that decides the numbers beside the code: settings, noise, and the options of every method, as JSON has them."
    methods = {name: dict(kind=m.kind.__name__, options=m.options, special=m.special, only=m.only) for name, m in METHODS.items()}
    return json.loads(json.dumps(dict(settings=SETTINGS, together=TOGETHER, noise=NOISE, methods=methods)))


# ---- one piece

PARTS = dict(gap=dict(in_gap=lambda x: abs(x) < SETTINGS["gap"]["edge"]), two=dict(quiet=lambda x: x < -1, loud=lambda x: x > 1))


def scores(problem, belief, test):
    "The scores of a prediction, in units of the targets' spread; in the first two problems also for parts of the inputs."
    unit = spread_of(problem)
    noise = None if belief.noise is None else belief.noise / unit**2
    belief = Predictive(belief.mean / unit, belief.epistemic / unit**2, belief.aleatoric / unit**2, belief.draws / unit, belief.correlation,
                        belief.degrees_of_freedom, noise)
    told, y = belief.score(test.y / unit), test.y / unit
    told |= {f"{name}_of_averages": value for name, value in belief.average_score(y).items() if name in ("crps", "mean_square_z")}
    told["joint_energy_score"] = belief.average_score(y, size=TOGETHER)["joint_energy_score"] / (TOGETHER * y.shape[1]) ** 0.5
    for part, chosen in PARTS.get(problem, {}).items():
        inside = np.flatnonzero(chosen(test.x[:, 0]))
        told |= {f"{name}_{part}": value for name, value in belief.take(inside).score(y[inside]).items() if name in ("crps", "coverage_95", "negative_log_density")}
    return {name: float(value) for name, value in told.items()}


def given(name, x):
    "The true variances of the outputs, for the one method that is given them."
    return {"variance": np.repeat(width(x) ** 2, 2, axis=1)} if METHODS[name].options.get("noise") == "given" else {}


def fit(name, surrogate, data):
    "Fit; processes over local energies take inputs and targets apart."
    if isinstance(surrogate, (LatticeGP, ExtensiveGP)):
        return surrogate.fit(data.x, data.y)
    return surrogate.fit(data, progress=False, **given(name, data.x))


FAILURES = (ValueError, ArithmeticError)


@functools.cache
def compiled(name):
    "The first fit and prediction of a method in this program, which compiles and loads what later ones use: not timed."
    problem = (METHODS[name].only or tuple(PROBLEMS))[0]
    data, test = PROBLEMS[problem](0)
    surrogate = METHODS[name].make(problem, data, 0)
    try:
        fit(name, surrogate, data)
        surrogate.predict(test.x, **given(name, test.x))
    except FAILURES:  # counted where it is timed
        pass


def piece(problem, number, name):
    "Fit one method to one split and judge it."
    job = dict(problem=problem, split=number, method=name)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubts of the fits are kept below
        data, test = PROBLEMS[problem](number)
        compiled(name)
        surrogate, start = METHODS[name].make(problem, data, number), time.process_time()
        try:
            fit(name, surrogate, data)
        except FAILURES as error:
            return job | dict(failed=str(error))
        fitted = time.process_time()
        belief = surrogate.predict(test.x, **given(name, test.x))
        done = time.process_time()
    touched = getattr(surrogate, "diagnostics", {}).get("touched")
    return job | dict(fit_seconds=fitted - start, predict_seconds=done - fitted, **({} if touched is None else {"touched": float(touched)}),
                      doubts=list(surrogate.doubts) if hasattr(surrogate, "doubts") else None, **scores(problem, belief, test))


@functools.cache
def code():
    "A hash of this program and of the package."
    files = sorted(Path(uqphys.__file__).parent.glob("*.py")) + [Path(__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.name != "_modidx.py")).hexdigest()[:16]


def finished(folder, job):
    "A piece from an earlier run of the same code and settings; else it is made and kept."
    file = folder / ("-".join(map(str, job)).replace(" ", "-") + ".json")
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["code"] == code():
            return kept["piece"]
    done = piece(*job)
    write_file(file, json.dumps(dict(code=code(), piece=done)))
    return done


# ---- the summary

def pairs(chosen=None):
    "All problems, each with the methods that meet it; `chosen`: names of methods, None for all."
    names = METHODS if chosen is None else [name for name in METHODS if name in chosen]
    return [(problem, name) for problem in PROBLEMS for name in names if not METHODS[name].only or problem in METHODS[name].only]


def mean_and_error(values, problem):
    """Mean and its standard error.

    The learning sets of ten folds overlap, and their scores hang together: the variance of the mean is taken as the scatter's times
    (1/folds + share tested / share learned), after Nadeau and Bengio, Machine Learning 52, 239 (2003).
    """
    count = len(values)
    part = 1 / count + (1 / (SETTINGS["diabetes"]["folds"] - 1) if problem == "diabetes" else 0)
    return dict(value=float(f"{np.mean(values):.5g}"), error=float(f"{np.std(values, ddof=1) * part**0.5:.2g}"))


def kinds_of(doubts):
    "How often each kind of doubt came, whatever the numbers in it."
    return dict(Counter(kind for told in doubts for kind in {re.sub(r"-?\d[\d.]*%?", "#", doubt) for doubt in told}).most_common())


PAIRED = ("crps", "root_mean_square_error", "negative_log_density", "energy_score", "joint_energy_score", "coverage_95", "crps_in_gap")  # kept split by split


def difference(row, other, key):
    "Mean difference of a score between two rows, split by split, and its standard error; the row itself differs by nothing."
    both = [a - b for a, b in zip(row["each"].get(key, ()), other["each"].get(key, ())) if a is not None and b is not None]
    return mean_and_error(both, row["problem"]) if len(both) > 1 else dict(value=math.nan, error=math.nan)


def summary(pieces, chosen=None):
    "One row for each problem and method; `each`: scores split by split, None where a fit failed."
    rows = []
    for problem, name in pairs(chosen):
        tried = [p for p in pieces if (p["problem"], p["method"]) == (problem, name)]
        good = [p for p in tried if "failed" not in p]
        row = dict(problem=problem, method=name, splits=len(good), failed=[p["failed"] for p in tried if "failed" in p])
        keys = [key for key, value in good[0].items() if isinstance(value, float)] if len(good) > 1 else []
        row |= {key: mean_and_error([p[key] for p in good], problem) for key in keys}
        row["each"] = {key: [float(f"{p[key]:.6g}") if key in p else None for p in tried] for key in PAIRED if any(key in p for p in tried)}
        told = [p["doubts"] for p in good if p["doubts"] is not None]
        row["doubted"], row["doubts"] = sum(map(bool, told)) if told else None, kinds_of(told)
        rows.append(row)
    return recipe() | dict(rows=rows)


def dump(told):
    "JSON with one line for each row."
    head = json.dumps({k: v for k, v in told.items() if k != "rows"}, indent=1)
    return head[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(json.dumps(row) for row in told["rows"]) + "\n ]\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10, help="at least 2")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), metavar="METHOD", help="some methods, for a trial; all if left out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/uncertainty"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if options.splits < 2:
        parser.error("--splits: at least 2, for standard errors")
    if options.only and options.out == Path(__file__).with_suffix(".json"):
        parser.error("--only: give --out as well, for the table of all methods is not to be written over by a part")
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [(problem, number, name) for number in range(options.splits) for problem, name in pairs(options.only)]
    with ProcessPoolExecutor(options.workers) as pool:
        waiting = [pool.submit(finished, options.folder, job) for job in jobs]
        for _ in tqdm(as_completed(waiting), total=len(jobs), desc="fits"):
            pass
        pieces = [future.result() for future in waiting]
    told = summary(pieces, options.only)
    write_file(options.out, dump(told))
    for row in told["rows"]:
        print(f"{row['problem']:11s} {row['method']:22s}", *(f"{key} {row[key]['value']:.3g}({row[key]['error']:.1g})" for key in
              ("crps", "negative_log_density", "coverage_95", "energy_score", "fit_seconds") if key in row),
              f"doubted {'-' if row['doubted'] is None else row['doubted']}, failed {len(row['failed'])}")


if __name__ == "__main__":
    main()
