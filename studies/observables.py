"""A network in place of the simulation, from couplings to averages: its errors, what exact runs can repair, what it is good for.

    python studies/observables.py                # about half an hour of one busy core
    python studies/observables.py --repeat 5     # five times as many networks in each case
    python studies/observables.py --quick        # one small network in each of two cases: seconds

Networks of notebook 214 learn from a part of the runs in studies/couplings.npz: from few of them, from small lattices only, from small
couplings only. Each is asked for three tables of couplings, and corrected by `predict_bias` with exact runs at random places:

- judge: the long runs of studies/couplings.npz, at other couplings and sizes than those learned from;
- exact: 240 couplings of the 4 x 4 lattice, every average of which is known by adding up all states;
- curves: temperature, with chi of the 8 x 8 lattice (transfer matrix), energy and specific heat of the 32 x 32 lattice (Kaufman).

For some of them couplings are inferred from runs, with the network before and after its correction. A last set of rows learns phases
(notebook 212) and holds the mean output against that of the ideal classifier. Finished rows, and the runs that are shared by all, are kept
in results/observables/, so that an interrupted study goes on where it stopped. Result: studies/observables.json.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import least_squares
from scipy.special import logsumexp

from uqphys import __version__
from uqphys.analysis import gamma_error
from uqphys.bias import predict_bias
from uqphys.couplings import (COUPLINGS, OUTPUTS, CouplingNet, Prediction, coordinates, coupling_design, couplings, from_tame, run_couplings,
                              table_observables, train_couplings, without_units)
from uqphys.exact import BETA_C, enumerate_states, kaufman, transfer_matrix
from uqphys.models import Ising
from uqphys.phases import PhaseClassifier, crossing_temperature, phase_samples, train_classifier
from uqphys.replacements import LearnedObservable, LearnedSimulation
from uqphys.sampling import one_thread

HERE = Path(__file__).parent
CASES = {  # what a network learns from; how many networks, exact runs for the correction of the judge's table
    "64 runs": dict(runs=64, networks=10, probes=100),
    "256 runs": dict(runs=256, networks=8, probes=100),
    "1024 runs": dict(runs=1024, networks=3, probes=100),
    "3072 runs": dict(runs=3072, networks=3, probes=100),
    "L <= 8": dict(runs=512, networks=5, probes=60),
    "small J2, K": dict(runs=384, networks=5, probes=60),
}
QUICK = {case: dict(runs=64, networks=1, probes=30, epochs=20) for case in ("64 runs", "L <= 8")}
T_SMALL, T_LARGE = np.linspace(1.7, 3.5, 37), np.linspace(1.9, 2.8, 37)  # of the two curves, in units of J
BETAS, SQUARES = np.linspace(0.30, 0.46, 13), np.linspace(0.0, 0.4, 13)  # the grid on which couplings are inferred, L = 12


def runs():
    "The runs of notebook 214: to learn from, and longer ones to judge by."
    with np.load(HERE / "couplings.npz", allow_pickle=False) as file:
        return tuple(pd.DataFrame(file[name], columns=file["columns"], dtype=float) for name in ("learn", "judge"))


def lesson(case, k, given, learn):
    "The rows that network k of a case learns from: disjoint for different k as far as there are enough."
    size, large = learn["L"], learn[["J2", "K"]].max(axis=1)
    rows = learn[size <= 8] if case == "L <= 8" else learn[large < 0.15] if case == "small J2, K" else learn
    pieces = max(1, len(rows) // given["runs"])
    order = np.random.default_rng([52, k // pieces]).permutation(len(rows))
    return rows.iloc[order[(k % pieces) * given["runs"] :][: given["runs"]]]


def asked(case, judge):
    "The rows of the judge that a case is asked for: beyond what it has learned from, where that was only a part."
    outside = judge["L"] >= 14 if case == "L <= 8" else judge[["J2", "K"]].max(axis=1) >= 0.15 if case == "small J2, K" else judge["L"] > 0
    return judge[outside]


class Anywhere:
    "A CouplingNet that answers also where it has seen no run, at its own risk."

    def __init__(self, net):
        self.net = net

    @torch.no_grad()
    def tame(self, x):
        "Means and widths of the tame numbers, (n, 6) each."
        mean, width = self.net.means_and_widths(self.net(x))
        return mean.numpy(), (self.net.stretch * width).numpy()

    def predict(self, x):
        "Observables with errors."
        return from_tame(*self.tame(x), x)


class Nothing:
    "No network: zero, give or take one."

    def predict(self, x):
        return np.zeros((len(x), 6)), np.ones((len(x), 6))


def learned(rows, seed, epochs=300):
    "A trained network."
    net = CouplingNet(seed=seed)
    train_couplings(net, rows, seed=seed, epochs=epochs, progress=False)
    return Anywhere(net)


def looked_up(table, tame=False):
    "A simulation that has been done: the rows of a table of runs."
    known = {tuple(row): k for k, row in enumerate(table[list(COUPLINGS)].to_numpy())}
    numbers = table[[*OUTPUTS, *(f"{n}_error" for n in OUTPUTS)]].to_numpy()

    def simulate(x):
        rows = [known[tuple(row)] for row in x]
        return Prediction(numbers[rows, :6], numbers[rows, 6:]) if tame else table_observables(table.iloc[rows])

    return simulate


def kept(file, make):
    "What make() gives, as JSON, from its file if it has been made; None for what is no number."
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(make()), encoding="utf-8")
        part.replace(file)
    return json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda text: None)


def first_mode(x):
    "S(k) at the smallest momentum, averaged over both axes."
    wave = np.exp(2j * np.pi * np.arange(x.shape[-1]) / x.shape[-1])
    return sum(np.abs(x.sum(axis, dtype=float) @ wave) ** 2 for axis in (-1, -2)) / (2 * x.shape[-1] ** 2)


def exact_observables(row):
    "Six exact averages of a 4 x 4 lattice, by adding up all states."
    beta, J, J2, K, h, L = row
    model = Ising((int(L), int(L)), J, J2, K, h)
    means = enumerate_states(model, beta, {"first": first_mode, "energy2": lambda x: (model.energy(x) / L**2) ** 2}).averages
    N, m2, m = L * L, means["m2"], means["abs_m"]
    xi = math.sqrt(N * m2 / means["first"] - 1) / (2 * math.sin(math.pi / L))
    return [means["energy"], m, beta * N * (m2 - m * m), beta**2 * N * (means["energy2"] - means["energy"] ** 2), 1 - means["m4"] / (3 * m2**2), xi]


def chi(row):
    "Exact susceptibility of nearest neighbours only, up to L = 9."
    found = transfer_matrix(int(row[5]), row[0]).averages
    return row[0] * row[5] ** 2 * (found["m2"] - found["abs_m"] ** 2)


def shared(folder, quick=False):
    "The tables that all networks are asked for: couplings, runs of them, exact answers."
    def table(name, x, draws, seed, exact):
        x, draws = (x[:: max(1, len(x) // 24)], max(50, draws // 20 if x[0, 5] > 4 else 400)) if quick else (x, draws)
        made = kept(folder / f"table_{name}.json", lambda: {
            "runs": run_couplings(x, draws=draws, seed=seed, progress=False).to_numpy().tolist(), "exact": exact(x)})
        columns = [*COUPLINGS, *OUTPUTS, *(f"{n}_error" for n in OUTPUTS)]
        return pd.DataFrame(made["runs"], columns=columns, dtype=float), np.array(made["exact"])

    thermal = lambda x: [[(q := kaufman(int(row[5]), row[0])).energy, q.specific_heat] for row in x]
    grid = couplings(*(a.ravel() for a in np.meshgrid(BETAS, [12.0], indexing="ij")))[:, 0]
    grid = couplings(np.repeat(grid, len(SQUARES)), 12, K=np.tile(SQUARES, len(BETAS)))
    rng = np.random.default_rng(521)
    found = {
        "exact": table("exact", coupling_design(240, seed=7, sizes=(4,)), 1000, 522, lambda x: [exact_observables(row) for row in x]),
        "chi": table("chi", couplings(1 / T_SMALL, 5 if quick else 8), 2000, 523, lambda x: [[chi(row)] for row in x]),
        "kaufman": table("kaufman", couplings(1 / T_LARGE, 6 if quick else 32), 1000, 524, thermal),
    }
    unknown = couplings(rng.uniform(0.31, 0.45, 40), 12, K=rng.uniform(0.02, 0.38, 40))
    return found if quick else found | {"grid": table("grid", grid, 1000, 525, lambda x: []), "unknown": table("unknown", unknown, 1000, 526, lambda x: [])}


def held_against(rows, unit, truth, noise, others):
    "Errors before and after the correction in units of the network's own error bar, and how often intervals hold the truth; at rows without a run."
    rest = ~rows["probed"].to_numpy()
    before, after = ((rows[c].to_numpy() - truth)[rest] for c in ("surrogate", "corrected"))
    rms = lambda v: float(np.sqrt(np.mean((v / unit[rest]) ** 2)))
    inside = lambda d, e: float(np.mean(abs(d) < 1.96 * np.hypot(e, noise)[rest]))
    told = {"before": rms(before), "after": rms(after), "noise": rms(noise[rest]), "coverage_before": inside(before, unit), "coverage": inside(after, rows["error"].to_numpy())}
    return told | {name: rms((value - truth)[rest]) for name, value in others.items()}


def answer(net, table, probes, seed, truth=None, others=(), names=OUTPUTS):
    "Report on a table of couplings: for each observable, at the rows without a run and for the average over all."
    x, measured, own = table[list(COUPLINGS)].to_numpy(), table_observables(table), net.predict(table[list(COUPLINGS)].to_numpy())
    report = predict_bias(LearnedSimulation(looked_up(table), net, inputs=coordinates), x, names, probes=probes, seed=seed)
    told = {}
    for j, name in enumerate(names):
        k = OUTPUTS.index(name)
        true, noise = (measured.value[:, k], measured.error[:, k]) if truth is None else (truth[:, j], 0 * truth[:, j])
        average, row = own.value[:, k].mean() - true.mean(), report.table.loc[name]
        told[name] = held_against(report.rows.loc[name], own.error[:, k], true, noise, {who: value[:, k] for who, value in dict(others).items()}) | {
            "bias": float(average), "predicted": float(row["predicted_bias"]), "low": float(row["low"]), "high": float(row["high"]), "trust": row["trust"]}
    return report, told


def top(T, value):
    "Place and height of the maximum of a curve: a parabola through the logarithms of five points."
    k = int(np.clip(np.argmax(value), 2, len(T) - 3))
    a, b, c = np.polyfit(T[k - 2 : k + 3] - T[k], np.log(value[k - 2 : k + 3]), 2)
    return float(T[k] - b / (2 * a)), float(np.exp(c - b * b / (4 * a)))


def inferred(values, errors, seen, noise):
    "beta and K from the observables of a run: least squares between the knots of a grid; (2,)."
    spline = lambda a: RectBivariateSpline(BETAS, SQUARES, a.reshape(len(BETAS), len(SQUARES)))
    curves, widths = [spline(v) for v in values.T], [spline(np.log(e)) for e in errors.T]
    starts = [(b, k) for b in BETAS[[3, 6, 9]] for k in SQUARES[[3, 9]]]
    out = []
    for row, error in zip(seen, noise):
        misfit = lambda p: [(f(*p)[0, 0] - v) / math.hypot(e, math.exp(w(*p)[0, 0])) for f, w, v, e in zip(curves, widths, row, error)]
        fits = [least_squares(misfit, start, bounds=([BETAS[0], SQUARES[0]], [BETAS[-1], SQUARES[-1]]), x_scale=(0.02, 0.1)) for start in starts]
        out.append(min(fits, key=lambda fit: fit.cost).x)
    return np.array(out)


def inverse_problem(net, tables, seed):
    "Couplings of 40 runs, by the network and by the corrected network: root-mean-square errors of beta and K."
    table, unknown = tables["grid"][0], tables["unknown"][0]
    names = ("energy", "abs_m", "susceptibility", "specific_heat")
    columns, seen = [OUTPUTS.index(n) for n in names], table_observables(unknown)
    report, _ = answer(net, table, 40, seed, names=names)
    told, true = {}, unknown[["beta", "K"]].to_numpy()
    own = net.predict(table[list(COUPLINGS)].to_numpy())
    for who, column, error in (("before", "surrogate", [own.error[:, k] for k in columns]), ("after", "corrected", [report.rows.loc[n]["error"].to_numpy() for n in names])):
        found = inferred(np.stack([report.rows.loc[n][column].to_numpy() for n in names], -1), np.maximum(np.stack(error, -1), 1e-9), seen.value[:, columns], seen.error[:, columns])
        told[who] = {"error": np.sqrt(np.mean((found - true) ** 2, 0)).tolist(), "bias": (found - true).mean(0).tolist()}
    return told


def network(case, k, given, tables, learn, judge):
    "One row: network k of a case, and all that it is asked for."
    start, epochs = time.perf_counter(), given.get("epochs", 300)
    rows, table, seed = lesson(case, k, given, learn), asked(case, judge), 1000 + k
    net = learned(rows, k, epochs)
    seconds = time.perf_counter() - start
    x, m = table[list(COUPLINGS)].to_numpy(), min(given["probes"], len(table) // 2)
    at = np.random.default_rng([seed, 1]).choice(len(table), m, replace=False)  # the probes of the reports below
    others = {}
    if given["runs"] < 1000:
        others["retrained"] = learned(pd.concat([rows, table.iloc[at]]), k, epochs).predict(x).value
    alone = predict_bias(LearnedSimulation(looked_up(table, tame=True), Nothing(), inputs=coordinates), x, probes=m, seed=seed).rows["corrected"]
    others["alone"] = from_tame(alone.to_numpy().reshape(6, -1).T, np.ones((len(x), 6)), x).value
    mean, width = net.tame(x)
    told = {"case": case, "network": k, "learned_from": len(rows), "probes": m, "training_seconds": seconds, "mean": mean.tolist(), "width": width.tolist()}
    told["judge"] = answer(net, table, m, seed, others=others)[1]
    told["exact"] = answer(net, tables["exact"][0], min(100, len(tables["exact"][0]) - 4), seed, tables["exact"][1])[1]
    told["curves"] = {name: curve(net, *tables[name], seed) for name in ("chi", "kaufman")}
    if k < 3 and "grid" in tables:
        told["inverse"] = inverse_problem(net, tables, seed)
    return told | {"seconds": time.perf_counter() - start}


def curve(net, table, truth, seed):
    "A curve of temperature before and after the correction by twenty runs, against exact values."
    names = ("susceptibility",) if truth.shape[1] == 1 else ("energy", "specific_heat")
    report, told = answer(net, table, 20, seed, truth, names=names)
    T = (1 / table["beta"]).to_numpy()
    for j, name in enumerate(names):
        rows = report.rows.loc[name]
        told[name] |= {who: rows[who].tolist() for who in ("surrogate", "corrected", "error", "probed")} | {"own_error": net.predict(table[list(COUPLINGS)].to_numpy()).error[:, OUTPUTS.index(name)].tolist()}
        if name != "energy":
            told[name]["tops"] = {"before": top(T, rows["surrogate"].to_numpy()), "after": top(T, rows["corrected"].to_numpy()), "exact": top(T, truth[:, j])}
    return told


def without_network(tables, k):
    "One row: the two curves from the twenty runs alone, that network k of each case is corrected with."
    start, told = time.perf_counter(), {}
    for name, (table, truth) in ((n, tables[n]) for n in ("chi", "kaufman")):
        x = table[list(COUPLINGS)].to_numpy()
        rows = predict_bias(LearnedSimulation(looked_up(table, tame=True), Nothing(), inputs=coordinates), x, probes=20, seed=1000 + k).rows["corrected"]
        value = from_tame(rows.to_numpy().reshape(6, -1).T, np.ones((len(x), 6)), x).value
        told |= {observable: value[:, OUTPUTS.index(observable)].tolist() for observable in (("susceptibility",) if truth.shape[1] == 1 else ("energy", "specific_heat"))}
    return told | {"seconds": time.perf_counter() - start}


# ---- a classifier of phases as a learned observable


class Output:
    "The mean output of a classifier, as the surrogate of a measurement."

    def __init__(self, net):
        self.net = net

    def predict(self, x):
        raise NotImplementedError("a classifier has no posterior")

    def mean(self, x):
        "Probability of 'ordered', (n, 1)."
        return self.net.probability(x)[:, None]


def ideal_classifier(L, temperatures, t_c=1 / BETA_C):
    "The best of all classifiers: the probability of T < t_c for a configuration from one of the temperatures, which its energy tells."
    T = np.asarray(temperatures)
    lnZ, cold = np.array([kaufman(L, 1 / t).lnZ for t in T]), T < t_c

    def probability(x):
        logs = -Ising((L, L)).energy(np.asarray(x))[:, None] / T - lnZ
        return np.exp(logsumexp(logs[:, cold], axis=1) - logsumexp(logs, axis=1))

    return probability


def training_temperatures(n=60, half=1.25):
    "Equal steps on both sides of T_c."
    return 1 / BETA_C + 2 * half / n * (np.arange(n) - (n - 1) / 2)


def classifier(L, k, draws=40, judged=150):
    "One row: a classifier, its output and that of the ideal one around T_c, and where each is 1/2, also after correction by 100 measurements."
    start, temperatures = time.perf_counter(), training_temperatures()
    ideal, net = ideal_classifier(L, temperatures), PhaseClassifier((L, L), seed=k)
    train_classifier(net, phase_samples(Ising((L, L)), temperatures, draws=draws, seed=5200 + k), 1 / BETA_C, seed=k)
    learned, curves, hits = LearnedObservable(ideal, "ordered", Output(net)), {"network": [], "ideal": [], "corrected": []}, []
    for e in phase_samples(Ising((L, L)), 2.27 + np.linspace(-3, 4, 10) / L, draws=judged, thin=8, seed=5300 + k):
        x, T = e["config"].values, 1 / e.attrs["beta"]
        outputs = {who: f(x.reshape(-1, L, L)).reshape(x.shape[:2]) for who, f in (("network", net.probability), ("ideal", ideal))}
        row = predict_bias(learned, e, probes=100, seed=k).table.loc["ordered"]
        for who, values in outputs.items():
            curves[who].append((L, T, (found := gamma_error(values)).value, max(found.error, 1e-6)))
        curves["corrected"].append((L, T, float(np.clip(row["corrected"], 1e-6, 1 - 1e-6)), float(row["error"])))
        hits.append(bool(row["low"] <= (outputs["network"] - outputs["ideal"]).mean() <= row["high"]))
    places = {who: vars(crossing_temperature(pd.DataFrame(c, columns=["L", "T", "value", "error"]))) for who, c in curves.items()}
    return {"L": L, "network": k, "places": {who: [p["value"], p["error"]] for who, p in places.items()}, "curves": curves, "hits": hits, "seconds": time.perf_counter() - start}


# ---- all rows together


def jackknife(values, groups=20):
    "Mean over rows (n, ...), and its error from leaving out groups of rows in turns."
    values = np.asarray(values, dtype=float)
    part = np.arange(len(values)) % groups
    left = np.array([values[part != g].mean(0) for g in range(groups)])
    return values.mean(0), np.sqrt((groups - 1) * left.var(0))


def decomposed(rows, table):
    "Mean square of network minus run in units of the network's error bar: what all networks have in common, what differs, the run's own part."
    mean, width = (np.array([r[key] for r in rows]) for key in ("mean", "width"))
    y, noise = (table[[f"{n}{end}" for n in OUTPUTS]].to_numpy() for end in ("", "_error"))
    bar = np.mean(width**2, 0)
    parts = {"total": np.mean((mean - y) ** 2, 0) / bar, "network": mean.var(0, ddof=1) / bar, "run": noise**2 / bar}
    parts["common"] = parts["total"] - parts["network"] - parts["run"]
    found = {}
    for name, part in parts.items():
        value, error = jackknife(part)
        everything = jackknife(part.mean(1))
        found[name] = {"value": value.tolist(), "error": error.tolist(), "all": [float(v) for v in everything]}
    return found


def memory(rows, table, edges=(0, 0.7, 1.0, 1.4, 1.8, 2.3, 3.0, 4.0)):
    "Correlation of the network's error at two couplings of a table, by their distance in scaled coordinates; and how far the nearest exact run is."
    x = coordinates(table[list(COUPLINGS)].to_numpy())
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-12)
    y, noise = (table[[f"{n}{end}" for n in OUTPUTS]].to_numpy() for end in ("", "_error"))
    apart, upper = np.linalg.norm(x[:, None] - x[None], axis=-1), np.triu_indices(len(x), 1)
    which, curves, nearest = np.digitize(apart[upper], edges) - 1, [], []
    for r in rows:
        t, part = (np.array(r["mean"]) - y) / np.array(r["width"]), (noise / np.array(r["width"])) ** 2
        t, part = np.clip(t, -4, 4), part
        product = [(t[upper[0]] * t[upper[1]])[which == b].mean(0) for b in range(len(edges) - 1)]
        curves.append((np.array(product) / (t**2 - part).mean(0)).mean(1))
        at = np.random.default_rng([1000 + r["network"], 1]).choice(len(x), r["probes"], replace=False)
        nearest.append(np.median(np.delete(apart[:, at], at, 0).min(1)))
    curves = np.array(curves)
    spread = curves.std(0, ddof=1) / math.sqrt(len(curves)) if len(curves) > 1 else None
    return {"distance": [float(apart[upper][which == b].mean()) for b in range(len(edges) - 1)], "correlation": curves.mean(0).tolist(), "error": None if spread is None else spread.tolist(), "nearest": float(np.mean(nearest))}


def regions(rows, table):
    "Shares of long runs within one and two joint error bars of the network, by region."
    x = table[list(COUPLINGS)].to_numpy()
    scaled, strong = (coordinates(x)[:, 0] - 0.4407) * x[:, 5], np.abs(x[:, 2:4]).max(1) > 0.2
    field = x[:, 0] * x[:, 4] * x[:, 5] ** 1.875
    chosen = {"all": x[:, 5] > 0, "disordered": scaled < -2, "near the transition": abs(scaled) <= 2, "ordered": scaled > 2, "small J2, K": ~strong, "large J2, K": strong,
              "no field": field == 0, "field": field > 0, "L = 14, 28 (never learned)": np.isin(x[:, 5], (14, 28)), "L <= 10": x[:, 5] <= 10, "L >= 20": x[:, 5] >= 20}
    y, noise = (table[[f"{n}{end}" for n in OUTPUTS]].to_numpy() for end in ("", "_error"))
    t = np.array([(np.array(r["mean"]) - y) / np.hypot(r["width"], noise) for r in rows])
    return {name: {"couplings": int(c.sum()), "within_1": float(np.mean(abs(t[:, c]) < 1)), "within_2": float(np.mean(abs(t[:, c]) < 2)), "mean_square": float(np.mean(t[:, c] ** 2))}
            for name, c in chosen.items() if c.any()}


def over_networks(rows, which, key):
    "Mean over networks and its error, for each observable: {name: [mean, error]}."
    out = {}
    for name in rows[0][which]:
        v = np.array([r[which][name].get(key, np.nan) for r in rows], dtype=float)
        if np.isfinite(v).all():
            out[name] = [float(v.mean()), float(v.std(ddof=1) / math.sqrt(len(v))) if len(v) > 1 else None]
    return out


def averages(rows, which):
    "Biases of averages over a table: how often the interval holds what all runs say, by network and by observable, and root-mean-square before and after."
    held = [float(np.mean([v["low"] <= v["bias"] <= v["high"] for v in r[which].values()])) for r in rows]
    told = {"held": held, "observables": {}}
    for name in rows[0][which]:
        bias, predicted, low, high = (np.array([r[which][name][c] for r in rows]) for c in ("bias", "predicted", "low", "high"))
        told["observables"][name] = {"before": float(np.sqrt(np.mean(bias**2))), "after": float(np.sqrt(np.mean((predicted - bias) ** 2))), "inside": int(np.sum((low <= bias) & (bias <= high))),
                      "of": len(rows), "half_interval": float(np.mean(high - low) / 2), "trusted": int(sum(r[which][name]["trust"] == "yes" for r in rows))}
    return told


def collect(rows, phases, alone, tables, judge, settings):
    "Everything that notebook 52 reads."
    told = {"version": __version__, "settings": settings, "seconds": sum(r["seconds"] for r in rows + phases + alone), "cases": {}}
    for case in dict.fromkeys(r["case"] for r in rows):
        here = [r for r in rows if r["case"] == case]
        table = asked(case, judge)
        keys = ("before", "after", "noise", "coverage_before", "coverage", "retrained", "alone")
        told["cases"][case] = {"networks": len(here), "learned_from": here[0]["learned_from"], "probes": here[0]["probes"], "couplings": len(table),
                               "training_seconds": float(np.mean([r["training_seconds"] for r in here])),
                               "parts": decomposed(here, table) if len(here) > 1 else None, "memory": memory(here, table), "regions": regions(here, table),
                               "judge": {key: over_networks(here, "judge", key) for key in keys}, "exact": {key: over_networks(here, "exact", key) for key in keys},
                               "averages": averages(here, "judge"),
                               "curves": {name: curves_of(here, alone, name, tables[name][1]) for name in ("chi", "kaufman")},
                               "first": here[0]["judge"],
                               "inverse": [r["inverse"] for r in here if "inverse" in r]}
    told["tables"] = {name: {"x": x[list(COUPLINGS)].to_numpy()[:, [0, 5]].tolist() if name != "exact" else [], "exact": exact.tolist() if name != "exact" else []}
                      for name, (x, exact) in tables.items() if name in ("chi", "kaufman")}
    told["phases"] = phases
    return told


def curves_of(rows, alone, name, truth):
    "Curves of the first network of a case; of all: root-mean-square errors at the temperatures without a run, and tops."
    found = {}
    for j, observable in enumerate(rows[0]["curves"][name]):
        each = [r["curves"][name][observable] for r in rows]
        rest = [~np.array(e["probed"]) for e in each]
        rms = lambda values: [float(np.sqrt(np.mean((np.array(v) - truth[:, j])[keep] ** 2))) for v, keep in zip(values, rest)]
        found[observable] = {"first": each[0], "coverage": [e["coverage"] for e in each], "coverage_before": [e["coverage_before"] for e in each],
                             "before": rms([e["surrogate"] for e in each]), "after": rms([e["corrected"] for e in each]),
                             "alone": rms([alone[r["network"]][observable] for r in rows if r["network"] < len(alone)])}
        if "tops" in each[0]:
            found[observable]["tops"] = {who: [e["tops"][who] for e in each] for who in ("before", "after", "exact")}
    return found


def main(folder=HERE.parent / "results" / "observables", out=HERE / "observables.json", cases=CASES, repeat=1, sizes=(10, 20), classifiers=5, quick=False):
    folder.mkdir(parents=True, exist_ok=True)
    learn, judge = runs()
    rows, phases, alone = [], [], []
    with one_thread():
        tables = shared(folder, quick)
        for case, given in cases.items():
            for k in range(given["networks"] * repeat):
                file = folder / f"{case.replace(' ', '_').replace('<=', 'to').replace(',', '')}-{k:03d}.json"
                rows.append(kept(file, lambda: network(case, k, given, tables, learn, judge)))
                print(file.stem, round(rows[-1]["seconds"], 1), {n: [round(v[c], 2) for c in ("before", "after", "noise", "coverage")] for n, v in rows[-1]["judge"].items()}, flush=True)
        for L in sizes:
            for k in range(classifiers * repeat):
                phases.append(kept(folder / f"classifier_{L}-{k:03d}.json", lambda: classifier(L, k, *((10, 30) if quick else ()))))
                print(f"classifier L = {L}", {who: round(v[0], 4) for who, v in phases[-1]["places"].items()}, round(phases[-1]["seconds"], 1), flush=True)
        for k in range(min(10, max(r["network"] for r in rows) + 1)):
            alone.append(kept(folder / f"alone-{k:03d}.json", lambda: without_network(tables, k)))
    told = collect(rows, phases, alone, tables, judge, {"cases": cases, "repeat": repeat, "sizes": list(sizes), "classifiers": classifiers, "seeds": "network k of a case: k; its reports: 1000 + k"})
    part = out.with_suffix(".part")
    part.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(out)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="of the pieces (default: results/observables, with --quick results/observables-quick)")
    parser.add_argument("--out", type=Path, help="of the result (default: studies/observables.json, with --quick observables.json in the folder)")
    given = parser.parse_args()
    folder = given.folder or HERE.parent / "results" / ("observables-quick" if given.quick else "observables")
    small = dict(cases=QUICK, sizes=(6,), classifiers=1, quick=True) if given.quick else {}
    main(folder, given.out or (folder if given.quick else HERE) / "observables.json", repeat=given.repeat, **small)
