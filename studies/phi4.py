"""Scalar φ⁴ in two dimensions, L = 8: what a learned action does to the averages, and whether it can be put right; notebook 51.

    python studies/phi4.py               # a quarter of an hour of processor time
    python studies/phi4.py --seeds 20    # twenty surrogates in place of eight for each action and coupling
    python studies/phi4.py --quick       # one small row in each of two cases: seconds; results/phi4_quick.json, nothing in studies/

Actions are S = Σ [Σμ (φ_x - φ_{x+μ})² + m²φ² + λφ⁴] with m² = -4, weight e^{-S}, and in three of the four cases a term that the surrogate
lacks, or has to find. Each row: 60 exact actions to learn from, an ensemble of the surrogate, the bias as three kinds of evidence foretell
it, and the bias itself, from a long run of an action near to both, reweighted to either.

Every row has random numbers of its own, and so has the long run of every exact action, which its rows share. Finished rows are kept in
results/phi4/ with the settings that made them, so that an interrupted study goes on where it stopped. Result: studies/phi4.json.
"""
import argparse
import json
import math
import time
import warnings
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from uqphys import __version__
from uqphys.analysis import DERIVED
from uqphys.architectures import LocalEnergyNet, Regressor
from uqphys.bias import Approximation, choose_probes, predict_bias, sort_draws
from uqphys.bnn import LastLayer
from uqphys.chains import Subchain, exact_evidence, metropolis_hastings
from uqphys.models import Phi4, field_observables
from uqphys.sampling import one_thread, sample

HERE = Path(__file__).parent
SHAPE, V, MASS = (8, 8), 64, -4.0
LAMBDAS = (8.0, 6.008, 5.0)  # the tutorial's (2101.08176); that of 1904.12072; nearer to the critical point
CASES = {  # the exact action, and what stands in for it
    "wrong power": (dict(), "cubic"),
    "sixth power": (dict(sixth=1.5), "quartic"),
    "gradient": (dict(improved=True), "quartic"),
    "network": (dict(sixth=1.5, improved=True), "network"),
}
SIZES = dict(examples=60, heat=0.8, draws=100, chains=32, thin=2, probes=100, exact_draws=60, long_draws=10000, long_chains=32)
QUICK = dict(SIZES, examples=40, draws=60, thin=1, chains=16, probes=20, exact_draws=20, long_draws=100)
SEEDS = "four numbers of SeedSequence([case, 1000 λ, 1 + row]): learning, ensemble, probes, exact chain; long runs: the first of [case, 1000 λ, 0]"
OBSERVABLES = ("energy", "phi2", "abs_m", "susceptibility", "m2", "xi")


# ---- actions


@dataclass(frozen=True)
class Action:
    "The φ⁴ action, with a sixth power, and with the gradient improved by its next order (Symanzik): 4/3 of it, less 1/12 at distance 2."

    lam: float
    sixth: float = 0.0
    improved: bool = False
    shape, n_sites, values, flip_symmetric, lattice_symmetric = SHAPE, V, "real", True, True
    gradient = property(lambda self: (4 / 3, -1 / 12) if self.improved else (1.0,))

    def energy(self, x):
        "Total action (...) of fields x (..., 8, 8)."
        x = np.asarray(x, dtype=float)
        s = x * x
        density = s * (MASS + s * (self.lam + self.sixth * s))
        for distance, weight in enumerate(self.gradient, 1):
            density += weight * sum((x - np.roll(x, distance, axis)) ** 2 for axis in (-2, -1))
        return density.sum((-2, -1))

    def force(self, x):
        "Minus the derivative of the action, shape of x."
        x = np.asarray(x, dtype=float)
        s = x * x
        force = -x * (2 * MASS + s * (4 * self.lam + 6 * self.sixth * s))
        for distance, weight in enumerate(self.gradient, 1):
            force -= 2 * weight * sum(2 * x - np.roll(x, distance, axis) - np.roll(x, -distance, axis) for axis in (-2, -1))
        return force

    def observables(self, x):
        "The usual observables, each (...)."
        return field_observables(x, self.energy(x), 2)


class Cubic(Regressor):
    "Pairs, squares and |φ|³ in place of φ⁴: the wrong power."

    extensive = True

    def __init__(self, seed: int = 0, flip_symmetric: bool = True, lattice_symmetric: bool = True):
        super().__init__(seed=seed, flip_symmetric=flip_symmetric, lattice_symmetric=lattice_symmetric)  # declared: nobody else can know
        self.add_head(4, 1, torch.Generator().manual_seed(seed))

    def features(self, x):
        "Number of sites, pairs, squares and cubes, (n, 4)."
        x = torch.as_tensor(np.asarray(x), dtype=torch.float64)
        pairs = x * (x.roll(1, -1) + x.roll(1, -2))
        return torch.stack([torch.ones_like(x), pairs, x**2, x.abs() ** 3], -1).sum((-3, -2))


def surrogate(name, seed):
    "A surrogate by its name, to be fitted."
    if name == "cubic":
        return LastLayer(Cubic(), seed=seed, epochs=0)
    if name == "quartic":
        return LastLayer(LocalEnergyNet(hidden=(), shells=1, plaquettes=False, squares=False, linear=True, values="real"), seed=seed, epochs=0)
    return LastLayer(LocalEnergyNet(hidden=(8,), shells=3, linear=True, values="real", seed=seed), seed=seed, epochs=200)


def nearest_phi4(energy, x):
    "The φ⁴ model and β whose βS is nearest to an energy at the fields x (n, 8, 8): least squares; any quartic action is a φ⁴ model at some β."
    pairs, s = x * (np.roll(x, 1, -1) + np.roll(x, 1, -2)), x * x
    terms = np.stack([np.ones_like(x), -pairs, s, s * s], -1).sum((1, 2))
    _, a, b, c = np.linalg.lstsq(terms, energy(x), rcond=None)[0]
    beta = b + 2 * c
    return Phi4(SHAPE, a / (2 * beta), c / beta), beta


# ---- what is measured


def first_mode(x):
    "|φ_k|²/V² of fields (..., 8, 8) at the smallest momentum, averaged over both axes."
    wave = np.exp(2j * np.pi * np.arange(SHAPE[0]) / SHAPE[0])
    return sum(np.abs(x.sum(axis) @ wave) ** 2 for axis in (-1, -2)) / (2 * V * V)


def correlation_length(m2, first):
    "Second-moment correlation length, in lattice spacings, of the means <m²> and <|φ_k|²>/V²."
    return np.sqrt(m2 / first - 1) / (2 * math.sin(math.pi / SHAPE[0]))


def with_more(ensemble, middle=None):
    "An ensemble with `first` and `xi`: the linear function of m² and `first` that has the slope of the correlation length at `middle`."
    t, f, dims = ensemble["m2"].values, first_mode(ensemble["config"].values), ("chain", "draw")
    a, b = (t.mean(), f.mean()) if middle is None else middle
    slope = correlation_length(a, b) * np.array([1, -a / b]) / (2 * (a - b))  # of sqrt(a / b - 1)
    xi = correlation_length(t.mean(), f.mean()) + slope[0] * (t - t.mean()) + slope[1] * (f - f.mean())
    return ensemble.assign(first=(dims, f), xi=(dims, xi))


def foretell(law, ensemble, evidence, probes, seed):
    "A report on all observables; for probes, the correlation length has its slope halfway between the surrogate's and the corrected means."
    seen, middle = with_more(ensemble), None
    if evidence == "probe":  # first with the same probes on a part of the draws, for these means
        classes = sort_draws(seen)
        x = classes.representatives[choose_probes(classes, probes, seed)]
        table = predict_bias(law, seen.isel(draw=slice(None, None, 5)), ["m2", "first"], probes=x, seed=seed).table
        middle = (table["surrogate"] + table["corrected"]).to_numpy() / 2
    return predict_bias(law, with_more(ensemble, middle), OBSERVABLES, evidence=evidence, probes=probes, seed=seed)


def averages(weights, series, energy):
    "The observables from weighted series (chain, draw) and an energy per site, (6,)."
    w = weights / weights.sum()
    mean = {name: (w * v).sum() for name, v in series.items()} | {"energy": (w * energy).sum()}
    chi = DERIVED["susceptibility"](mean, 1.0, V)
    return np.array([mean["energy"], mean["phi2"], mean["abs_m"], chi, mean["m2"], correlation_length(mean["m2"], mean["first"])])


@lru_cache(maxsize=1)  # rows of one action follow each other
def long_run(action, draws, chains, seed):
    "A long run of the φ⁴ model nearest to an action: series, fields, the action, and logarithms of the weights that lead to it."
    fields = sample(Phi4.from_mass(SHAPE, MASS, action.lam), draws=25, chains=8, thin=5, burn_in=100, method="hmc", seed=seed, progress=False)
    near, beta = nearest_phi4(action.energy, fields["config"].values.reshape(-1, *SHAPE))
    run = sample(near, beta, draws=draws, chains=chains, thin=2, burn_in=200, method="hmc", seed=seed + 1, progress=False)
    x = run["config"].values
    energy, series = action.energy(x), {name: run[name].values for name in ("phi2", "abs_m", "m2")}
    return series | {"first": first_mode(x)}, x, energy, beta * near.energy(x) - energy


def weighted(log_weights):
    "Weights, and the share of the draws that count."
    w = np.exp(log_weights - log_weights.max())
    return w, float(w.sum() ** 2 / (w**2).sum() / w.size)


def true_bias(law, sizes, seed):
    "Exact values, the bias itself, and both errors from leaving out chains in turns, (6,) each; and shares of the draws that count."
    series, x, energy, lead = long_run(law.exact, sizes["long_draws"], sizes["long_chains"], seed)
    own = np.stack([law.energy(chain) for chain in x])
    (w, share), (v, own_share) = weighted(lead), weighted(lead + energy - own)
    both = lambda keep: (averages(w[keep], {n: s[keep] for n, s in series.items()}, energy[keep] / V), averages(v[keep], {n: s[keep] for n, s in series.items()}, own[keep] / V))
    n = len(x)
    left = np.array([both(np.arange(n) != k) for k in range(n)])
    error = lambda a: np.sqrt((n - 1) * a.var(0))
    exact, cheap = both(np.arange(n) >= 0)
    return exact, error(left[:, 0]), cheap - exact, error(left[:, 1] - left[:, 0]), share, own_share


# ---- one row


def seeds_of(case, lam, seed=None):
    "Seeds of the parts of a row, its own by its coupling and number; without a number that of the long run of the exact action."
    key = [list(CASES).index(case), round(1000 * lam), 0 if seed is None else 1 + seed]
    state = [int(s) for s in np.random.SeedSequence(key).generate_state(4)]
    return state[0] if seed is None else dict(zip(("learning", "ensemble", "probes", "exact"), state))


def learned(case, lam, seed, sizes):
    "The exact action of a case, and its approximation by a surrogate that has seen some exact actions of hotter fields."
    (exact, kind), seed = CASES[case], seeds_of(case, lam, seed)["learning"]
    action = Action(lam, **exact)
    hot = sample(Phi4.from_mass(SHAPE, MASS, lam), sizes["heat"], draws=-(-sizes["examples"] // 4), chains=4, thin=10, burn_in=100, method="hmc", seed=seed, progress=False)
    x = hot["config"].values.reshape(-1, *SHAPE)[: sizes["examples"]]
    return action, x, Approximation(action, surrogate(kind, seed).fit(x, action.energy(x)[:, None], progress=False))


def walk(law, x):
    "Three trajectories of the φ⁴ model that is nearest to the surrogate's action: what drives its chains, and the exact ones."
    near, beta = nearest_phi4(law.energy, x)
    return Subchain(near, 3, moves="hmc", beta=beta)


def row(case, lam, seed, sizes=SIZES):
    "Walk the whole road once: numbers of all observables, as plain data."
    clock, seconds, seeds = time.process_time, {}, seeds_of(case, lam, seed)
    start = clock()
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubts of a fit; what they do to the answers is what is counted here
        action, x, law = learned(case, lam, seed, sizes)
        seconds["learning"], start = clock() - start, clock()
        driver = walk(law, x)
        ensemble = metropolis_hastings(law, 1.0, driver, draws=sizes["draws"], chains=sizes["chains"], thin=sizes["thin"], burn_in=20, seed=seeds["ensemble"], progress=False)
        seconds["ensemble"], start = clock() - start, clock()
        told = {"case": case, "lam": lam, "seed": seed, "ensemble_acceptance": float(ensemble.attrs["acceptance"]), "evidence": {}}
        for evidence in ("posterior", "probe", "exact"):
            if evidence == "exact":
                report = exact_evidence(law, ensemble, OBSERVABLES[:-1], proposal=driver, draws=sizes["exact_draws"], chains=sizes["chains"], seed=seeds["exact"], progress=False)
            else:
                report = foretell(law, ensemble, evidence, sizes["probes"], seeds["probes"])
            table = report.table[["surrogate", "predicted_bias", "low", "high", "corrected", "error", "exact_evaluations", "trust"]]
            told["evidence"][evidence] = table.loc[[n for n in OBSERVABLES if n in table.index]].to_dict("index")
            seconds[evidence], start = clock() - start, clock()
            if evidence != "posterior":
                told |= {k: float(report.settings[k]) for k in ("effective_share", "mean_square_z", "acceptance") if k in report.settings}
        exact, exact_error, bias, error, *shares = true_bias(law, sizes, seeds_of(case, lam))
        seconds["truth"] = clock() - start
    told |= {"shares": shares, "seconds": seconds}
    columns = dict(exact=exact, exact_error=exact_error, bias=bias, truth_error=error)
    return told | {"truth": {n: {c: float(v[k]) for c, v in columns.items()} for k, n in enumerate(OBSERVABLES)}}


# ---- all rows


def settings(case, sizes):
    "All that decides the numbers of a row beside its coupling and seed, as plain data."
    exact, kind = CASES[case]
    return {"version": __version__, "action": asdict(Action(0.0, **exact)) | {"lam": "of the row"}, "surrogate": kind, "m2": MASS, "shape": list(SHAPE), "seeds": SEEDS, **sizes}


def kept(file, made_by, make):
    "A finished row from its file, or make it; `SystemExit` if it was made with other settings."
    if file.exists():
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["settings"] != made_by:
            raise SystemExit(f"{file} was made with other settings, {told['settings']}: remove its folder, or give another --folder")
        return told["row"]
    found = json.loads(json.dumps(make(), allow_nan=False, default=float), parse_float=lambda digits: float(f"{float(digits):.7g}"))
    part = file.with_suffix(".part")
    part.write_text(json.dumps({"settings": made_by, "row": found}), encoding="utf-8")
    part.replace(file)
    return found


def check(cases, lambdas, seeds):
    "Refuse what no row can be made of."
    if unknown := [c for c in cases if c not in CASES]:
        raise ValueError(f"cases={unknown[0]!r}: expected some of {', '.join(CASES)}")
    if wrong := [v for v in lambdas if not 0 < v < math.inf]:
        raise ValueError(f"lambdas={wrong[0]}: expected positive finite couplings")
    if seeds < 1:
        raise ValueError(f"seeds={seeds}: expected at least 1")


def main(folder=HERE.parent / "results" / "phi4", out=HERE / "phi4.json", cases=tuple(CASES), lambdas=LAMBDAS, seeds=8, sizes=SIZES):
    check(cases, lambdas, seeds)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases:
        for lam in lambdas:
            for seed in range(seeds):
                file = folder / f"{case.replace(' ', '_')}-{lam:g}-{seed:03d}.json"
                rows.append(kept(file, settings(case, sizes), lambda: row(case, lam, seed, sizes)))
                told = {n: (round(v["predicted_bias"] / rows[-1]["truth"][n]["bias"], 2), v["low"] <= rows[-1]["truth"][n]["bias"] <= v["high"]) for n, v in rows[-1]["evidence"]["probe"].items()}
                print(file.stem, {k: round(v, 1) for k, v in rows[-1]["seconds"].items()}, [round(s, 2) for s in rows[-1]["shares"]], told, flush=True)
    told = {"version": __version__, "settings": {c: settings(c, sizes) for c in cases}, "rows": rows}
    part = out.with_suffix(".part")
    part.write_text(json.dumps(told, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(out)
    return told


def options(arguments=None):
    "What `main` is to be called with, from the command line."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="surrogates for each action and coupling")
    parser.add_argument("--quick", action="store_true", help="two small rows")
    parser.add_argument("--folder", type=Path, help="of finished rows: results/phi4, or results/phi4_quick")
    parser.add_argument("--out", type=Path, help="studies/phi4.json, or results/phi4_quick.json")
    given, results = parser.parse_args(arguments), HERE.parent / "results"
    if given.seeds < 1:
        parser.error(f"--seeds {given.seeds}: expected at least 1")
    if given.quick:
        small = dict(cases=("wrong power", "gradient"), lambdas=(8.0,), seeds=1, sizes=QUICK)
        return small | dict(folder=given.folder or results / "phi4_quick", out=given.out or results / "phi4_quick.json")
    return dict(folder=given.folder or results / "phi4", out=given.out or HERE / "phi4.json", seeds=given.seeds)


if __name__ == "__main__":
    main(**options())
