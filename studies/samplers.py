"""Generators in place of the Markov chain: their bias, three corrections at equal numbers of exact energies, and where each breaks.

    python studies/samplers.py                      # about seven minutes on one core
    python studies/samplers.py --seeds 5            # more networks for each case
    python studies/samplers.py --sizes 4 6 8 12 16  # larger lattices, too
    python studies/samplers.py --kinds size flow    # only these rows
    python studies/samplers.py --collect            # nothing is run

Kinds of rows, one network each:

- training, temperature, size: an autoregressive network learns the Ising model; its own averages, the spread s of its ln w, its
  effective sample size by its own draws and by draws of the exact law, and forty repetitions of three corrections, m = 100 exact
  energies each: `reweighting` (m draws), `chain` (independence Metropolis, m proposals), `probes` (`predict_bias` with m probes
  among 2000 draws), beside `raw` (2000 draws, no exact energy). Truth: transfer matrix up to L = 8, Kaufman beyond;
- third: the same for couplings across two sites, which no term of the regression knows. Truth: all states;
- budget: the same for one network with other m;
- collapse: networks that are not symmetric under a flip and learn from one Metropolis chain, as they are and symmetrised;
- flow: flows for the φ⁴ field at points of Albergo, Kanwar and Shanahan;
- reference: Metropolis and Wolff, what an error costs them.

A finished row is a file in results/samplers/, so that an interrupted study goes on where it stopped; one made with other settings is made
anew. All rows go to studies/samplers.json. `seconds` are processor time.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from uqphys import __version__
from uqphys.analysis import gamma_error
from uqphys.autoregressive import AutoregressiveNet
from uqphys.bias import predict_bias
from uqphys.chains import FreshDraws, metropolis_hastings
from uqphys.exact import BETA_C, all_states, enumerate_states, kaufman, transfer_matrix
from uqphys.flows import CheckerboardFlow
from uqphys.generating import importance_weights, train_generator
from uqphys.models import Ising, Phi4, spin_observables
from uqphys.replacements import FlipSymmetrised, LearnedSampler
from uqphys.sampling import one_thread, sample
from uqphys.training import write_file

HERE = Path(__file__).parent
KINDS = ("training", "temperature", "size", "third", "budget", "collapse", "flow", "reference")
SETTINGS = {"repetitions": 40, "free_draws": 2000, "draws": 20_000, "samples": 500, "chain_draws": 8000, "exact_draws": 4000,
            "seeds": "quality by own draws and by draws of the exact law: those of the row; repetition r: 1000 seed + r"}
T_C, M, SIZES = 1 / BETA_C, 100, (4, 6, 8)
ALBERGO = {6: 6.975, 8: 6.008, 10: 5.550}  # λ at m² = -4, m_p L ≈ 4


class ThirdNeighbours:
    "An Ising model of pairs, plaquettes and a coupling across two sites, which no term of the regression knows."
    values, flip_symmetric, lattice_symmetric = "spins", True, True

    def __init__(self, shape):
        self.shape = shape

    def __repr__(self):
        return f"ThirdNeighbours({self.shape})"

    def energy(self, x):
        y = x.double() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=float)
        roll = torch.roll if isinstance(x, torch.Tensor) else np.roll
        return Ising(self.shape, J2=0.1, K=0.1).energy(y) - 0.1 * sum((y * roll(y, 2, a)).sum((-2, -1)) for a in (-2, -1))

    def observables(self, x):
        return spin_observables(np.asarray(x), self.energy(x), 2)


def cases(kinds=KINDS, seeds=1, sizes=SIZES):
    "Every row: a dictionary of what decides it; one of each kind first."
    rows = [dict(kind="training", L=8, T=T_C, steps=steps, seed=k, m=M) for steps in (25, 50, 100, 200, 400) for k in range(seeds)]
    rows += [dict(kind="temperature", L=8, T=T, steps=100, seed=k, m=M) for T in (1.8, 2.0, 2.6, 3.0) for k in range(seeds)]
    rows += [dict(kind="third", L=4, T=1 / 0.33, steps=steps, seed=k, m=M) for steps in (50, 100) for k in range(seeds)]
    rows += [dict(kind="budget", L=8, T=T_C, steps=100, seed=0, m=m) for m in (30, 1000)]
    rows += [dict(kind="collapse", L=4, T=T, steps=600, seed=k) for T in (1.0, 1.3, 1.6, 2.0, T_C) for k in range(seeds)]
    rows += [dict(kind="reference", L=L, T=T_C, seed=0) for L in (8,)]
    rows += [dict(kind="size", L=L, T=T_C, steps=200, seed=k, m=M) for L in sizes if L != 8 for k in range(seeds)]
    rows += [dict(kind="flow", L=L, steps=300, seed=0) for L in ALBERGO if L <= max(sizes)]
    return sorted((row for row in rows if row["kind"] in kinds), key=lambda row: (row["L"] > 8, row["seed"], row["kind"] == "flow", row["L"]))


# ---- the truth, and networks

def model_of(row):
    return (ThirdNeighbours if row["kind"] == "third" else Ising)((row["L"], row["L"]))


def truth_of(row):
    "Exact averages, and the free energy per site."
    L, beta = row["L"], 1 / row["T"]
    if row["kind"] == "third":
        found = enumerate_states(model_of(row), beta)
    elif L <= 8:
        found = transfer_matrix(L, beta)
    else:
        exact = kaufman(L, beta)
        return {"energy": exact.energy, "free_energy": -exact.lnZ / beta / L**2}
    return {name: found.averages[name] for name in ("energy", "abs_m")} | {"free_energy": -found.lnZ / beta / L**2}


def trained(row, settings):
    "A network, and the processor seconds of its training."
    model, net, clock = model_of(row), AutoregressiveNet((row["L"], row["L"]), seed=row["seed"]), time.process_time()
    train_generator(net, model, 1 / row["T"], seed=row["seed"], steps=row["steps"], samples=settings["samples"], progress=False)
    return net, time.process_time() - clock


def acceptance(log_weights):
    "Of independence Metropolis in its stationary state: the mean of min(w, w') over pairs of draws, in units of the mean of w."
    w = np.sort(np.exp(log_weights - log_weights.max()))
    return float(w @ (2 * np.arange(len(w))[::-1]) / (len(w) - 1) / w.sum())


def seeds_of(row):
    "Two seeds that no other row has: of the network's own draws, and of the exact ones."
    numbers = [KINDS.index(row["kind"]), row["L"], round(1000 * row.get("T", 0)), row["steps"], row.get("m", 0), 1 + row["seed"]]
    return [int(s) for s in np.random.SeedSequence(numbers).generate_state(2)]


def quality(net, model, beta, seed, settings, n=None):
    "How far a generator is from the law, by its own draws."
    w = importance_weights(net, model, beta, n=n or settings["draws"], seed=seed)
    return {"draws_seed": seed, "spread": float(w.log_weights.std()), "ess": w.ess, "pareto_k": w.pareto_k, "acceptance": acceptance(w.log_weights),
            "trusted": w.trusted, "ln_z": w.ln_z.value, "ln_z_error": w.ln_z.error, "variational": w.variational.value,
            "variational_error": w.variational.error}


def seen_from_there(net, model, beta, seed, ln_z, settings):
    "The same by draws of the exact law: 1/ESS is the mean of w/Z over them."
    if math.prod(model.shape) <= 16:  # by adding up all states
        states = np.concatenate(list(all_states(model.shape)))
        law = np.exp(-beta * model.energy(states) - ln_z)
        x = states[np.random.default_rng(seed).choice(len(states), settings["exact_draws"], p=law / law.sum())]
    else:
        x = sample(model, beta, draws=settings["exact_draws"] // 4, thin=2, seed=seed, progress=False).config.values.reshape(-1, *model.shape)
    with torch.no_grad():
        there = -beta * model.energy(x) - net.log_prob(x).numpy() - ln_z
    return {"ess_there": float(1 / np.exp(there).mean()), "largest_there": float(there.max()), "forward": float(there.mean())}


# ---- three corrections

def corrected(net, model, beta, m, seed, names, settings):
    "One repetition: {method: {name: (value, error)}}, what each trusts, and processor seconds."
    sampler, found, trust, seconds = LearnedSampler(model, net, beta), {}, {}, {}
    clock = time.process_time()

    def lap(method):
        nonlocal clock
        seconds[method], clock = time.process_time() - clock, time.process_time()

    w = importance_weights(net, model, beta, n=m, seed=seed)
    found["reweighting"] = {n: (e.value, e.error) for n in names for e in [w.free_energy() if n == "free_energy" else w.expectation(n)]}
    trust["reweighting"] = w.trusted
    lap("reweighting")
    chain = metropolis_hastings(model, beta, FreshDraws(net), draws=m - m // 10, burn_in=m // 10, chains=1, seed=seed, keep="observables", progress=False)
    series = {n: gamma_error(chain[n].values) for n in names if n != "free_energy"}
    found["chain"] = {n: (e.value, e.error) for n, e in series.items()}
    lap("chain")
    ensemble = sampler.sample(settings["free_draws"] // 4, seed=seed)
    lap("raw")
    table = predict_bias(sampler, ensemble, list(names), probes=m, seed=seed).table
    found["probes"] = {n: (table.loc[n, "corrected"], table.loc[n, "error"]) for n in names}
    trust["probes"] = {n: table.loc[n, "trust"] for n in names}
    lap("probes")
    D = np.asarray(model.observables(ensemble["config"].values.reshape(-1, *model.shape))["energy"])
    raw = {"energy": D, "abs_m": ensemble["abs_m"].values.ravel(), "free_energy": D - ensemble["energy"].values.ravel()}
    found["raw"] = {n: (raw[n].mean(), raw[n].std(ddof=1) / len(D) ** 0.5) for n in names}
    return found, trust, seconds, chain.attrs["acceptance"]


def short(value):
    "Seven digits are enough."
    return float(f"{float(value):.7g}")


def repeated(net, row, names, settings):
    "All repetitions as columns."
    model, out, trust, seconds, accepted = model_of(row), {}, {"reweighting": [], "probes": {n: [] for n in names}}, {}, []
    for r in range(settings["repetitions"]):
        found, believed, spent, rate = corrected(net, model, 1 / row["T"], row["m"], 1000 * row["seed"] + r, names, settings)
        for method, values in found.items():
            for name, pair in values.items():
                columns = out.setdefault(method, {}).setdefault(name, {"value": [], "error": []})
                for key, number in zip(columns, pair):
                    columns[key].append(short(number))
        trust["reweighting"].append(bool(believed["reweighting"]))
        for n in names:
            trust["probes"][n].append(believed["probes"][n])
        seconds = {k: seconds.get(k, 0.0) + v / settings["repetitions"] for k, v in spent.items()}
        accepted.append(short(rate))
    return {"methods": out, "trust": trust, "seconds": seconds, "chain_acceptance": accepted}


def learned(row, settings):
    "A row of the first five kinds."
    (net, spent), beta, truth = trained(row, settings), 1 / row["T"], truth_of(row)
    out = {"truth": truth, "training_seconds": spent, "training_energies": row["steps"] * settings["samples"]}
    model, ln_z = model_of(row), -truth["free_energy"] * beta * row["L"] ** 2
    own, there = seeds_of(row)
    out |= quality(net, model, beta, own, settings) | seen_from_there(net, model, beta, there, ln_z, settings) | {"ln_z_exact": ln_z}
    return out | repeated(net, row, tuple(truth), settings)


# ---- the other kinds

COLLAPSE = ("abs_m", "binder", "m", "two_point_susceptibility", "free_energy")


def collapse(row, settings):
    "A network that learns from one chain of single flips, which may never have turned the magnetisation; and the same with a coin."
    beta, model, clock = 1 / row["T"], model_of(row), time.process_time()
    data = sample(model, beta, draws=settings["chain_draws"] // 4, chains=1, thin=2, burn_in=200, method="metropolis", seed=row["seed"], progress=False)
    net, x = AutoregressiveNet(model.shape, flip_symmetric=False, seed=row["seed"]), data["config"].values.reshape(-1, *model.shape)
    train_generator(net, model, beta, seed=row["seed"], steps=row["steps"], samples=300, direction="forward", data=x, validation=0, anneal=0.0, progress=False)
    spent, exact = time.process_time() - clock, transfer_matrix(row["L"], beta)
    a = exact.averages
    truth = {"abs_m": a["abs_m"], "binder": 1 - a["m4"] / (3 * a["m2"] ** 2), "m": 0.0, "two_point_susceptibility": row["L"] ** 2 * a["m2"],
             "free_energy": -exact.lnZ / beta / row["L"] ** 2}
    up = float((data["m"].values > 0).mean())
    out = {"truth": truth, "training_seconds": spent, "data_minority": min(up, float((data["m"].values < 0).mean()))}
    for who, generator in (("alone", net), ("symmetrised", FlipSymmetrised(net))):
        sampler = LearnedSampler(model, generator, beta)
        ensemble = sampler.sample(settings["chain_draws"] // 4, seed=row["seed"])
        table = predict_bias(sampler, ensemble, list(COLLAPSE), probes=M, seed=row["seed"]).table
        m = ensemble["m"].values
        out[who] = {"minority": float(min((m > 0).mean(), (m < 0).mean())), "overlap": sampler.overlaps(ensemble)["flip"],
                    **{c: {n: short(table.loc[n, c]) for n in COLLAPSE} for c in ("surrogate", "corrected", "error")},
                    "trust": {n: table.loc[n, "trust"] for n in COLLAPSE}}
    return out


def flow(row, settings):
    "A flow for the φ⁴ field."
    L = row["L"]
    model, net, clock = Phi4.from_mass((L, L), -4.0, ALBERGO[L]), CheckerboardFlow((L, L), layers=8, hidden=(12, 12), width=0.4, seed=row["seed"]), time.process_time()
    train_generator(net, model, seed=row["seed"], steps=row["steps"], samples=128, learning_rate=0.004, start=1.0, anneal=0.0, progress=False)
    return {"lambda": ALBERGO[L], "training_seconds": time.process_time() - clock} | quality(net, model, 1.0, seeds_of(row)[0], settings, settings["draws"] // 2)


def reference(row, settings):
    "What an independent draw costs chains that need no network: in exact energies (a sweep is one) and seconds."
    L, model, out = row["L"], Ising((row["L"], row["L"])), {"truth": truth_of(row)}
    for method in ("metropolis", "wolff"):
        clock = time.process_time()
        run = sample(model, BETA_C, draws=settings["chain_draws"], chains=4, burn_in=500, method=method, seed=row["seed"], keep="observables", progress=False)
        spent = time.process_time() - clock
        size = 1.0 if method == "metropolis" else float(run.attrs["mean_cluster_size"]) / L**2
        found = {n: gamma_error(run[n].values) for n in ("energy", "abs_m")}
        out[method] = {"energies_per_draw": size, "seconds_per_draw": spent / (4 * settings["chain_draws"]),
                       **{n: {"value": e.value, "error": e.error, "tau_int": e.tau_int, "n": 4 * settings["chain_draws"]} for n, e in found.items()}}
    return out


MAKE = {"collapse": collapse, "flow": flow, "reference": reference}


# ---- the study

def row_file(folder, row):
    "Where a row is kept."
    return folder / ("-".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + ".json")


def finished(file, row, settings):
    "A finished row, or None if there is none yet, or something else, or one that was made with other settings."
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not a row
        return None
    return kept if kept.get("settings") == settings and {k: kept.get(k) for k in row} == row else None


def run_row(row, settings=SETTINGS):
    "One row, from its seeds alone."
    clock = time.process_time()
    with one_thread():
        out = MAKE.get(row["kind"], learned)(row, settings)
    return row | out | {"row_seconds": time.process_time() - clock, "settings": settings, "version": __version__}


def study(rows, folder, settings=SETTINGS, run=True, progress=True):
    "Make what is missing, and give all finished rows."
    folder.mkdir(parents=True, exist_ok=True)
    for row in tqdm(rows, desc="rows", disable=not progress) if run else []:
        if finished(row_file(folder, row), row, settings) is None:
            write_file(row_file(folder, row), json.dumps(run_row(row, settings)))
    return [kept for row in rows if (kept := finished(row_file(folder, row), row, settings))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="networks for each case")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="lattices of the rows `size` and `flow`")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, metavar="KIND", help="rows to make: " + ", ".join(KINDS))
    parser.add_argument("--collect", action="store_true", help="only put into the JSON file what is finished")
    parser.add_argument("--folder", type=Path, default=Path("results/samplers"))
    parser.add_argument("--out", type=Path, default=HERE / "samplers.json")
    given = parser.parse_args()
    study(cases(given.kinds, given.seeds, given.sizes), given.folder, run=not given.collect)
    rows = [{k: v for k, v in kept.items() if k not in ("settings", "version")} for kept in study(cases(seeds=given.seeds, sizes=given.sizes), given.folder, run=False)]
    told = {"version": __version__, "settings": SETTINGS, "seconds": sum(r["row_seconds"] for r in rows), "rows": rows}
    write_file(given.out, json.dumps(told) + "\n")
    print(f"{len(rows)} rows of {len(cases(seeds=given.seeds, sizes=given.sizes))} in {given.out.name}")


if __name__ == "__main__":
    main()
