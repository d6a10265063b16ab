"""Speed that matters: how many independent samples of m^2 does a method give in a second, at the critical point?

    python studies/slowing.py            # about 15 minutes on one core
    python studies/slowing.py --retime   # take the seconds again, on a quieter machine say, and keep the rest
    python studies/slowing.py --fit      # only fit again what studies/slowing.json holds

A sampler is as fast as its updates per second divided by its memory. So every method runs at beta_c on L = 8 ... 128 and
two things are measured: the integrated autocorrelation time tau_int of m^2 (of the energy and |m| as well) by the
Gamma method, and the seconds of a sweep with its observables. One chain is worth 1 / (2 tau_int seconds_per_sweep)
independent samples a second; the 64 chains of a word 64 times that. How tau_int grows is the dynamic exponent z.

- A *sweep* is one update of every site. For Wolff it is N flipped spins, that is N / <cluster size> clusters; a
  configuration is looked at after every cluster, so that tau_int may come out below the half that independent sweeps have.
- The local methods are looked at every tau_int / 10 sweeps: cutting tau_int's sum so changes it by about 0.1 %, and
  measuring costs next to nothing.
- Seconds are processor seconds of one thread, the least of several blocks, for whatever else the machine does.
- "metropolis" tries a flip with probability 0.95, "multispin" and "multispin-replicas" with 15/16; all visit the colours of
  the checkerboard in the same order. It is the same dynamics but for that, and it matters a little: at L = 8, 1.3 % more
  trials make tau_int 3.7 % shorter. The 64 replicas of a word give the longest runs.

Finished rows are kept in results/slowing/, so that an interrupted study continues where it stopped; the summary goes to
studies/slowing.json: "rows" (one per method and L) and "exponents" (z of m^2, with errors).
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import chi2

from uqphys.analysis import gamma_error
from uqphys.exact import BETA_C
from uqphys.models import Ising
from uqphys.sampling import sample

SIZES = (8, 16, 32, 64, 128)


class Plan(NamedTuple):
    "How a method is run."
    chains: int  # 64 share the words of "multispin-replicas"
    local: bool  # does it slow down like L**2.17?
    guess: float  # tau_int(m2) in recorded units: guess * (L / 8)**2.05 if local, else guess * (L / 8)**0.25
    lengths: dict  # L -> length of the run, all chains together, in guesses of tau_int
    settings: dict | None = None


def _lengths(*values):
    return dict(zip(SIZES, values))


PLANS = {
    "metropolis": Plan(1, True, 3.3, _lengths(300000, 150000, 30000, 12000, 800)),
    "heatbath": Plan(1, True, 7.0, _lengths(150000, 60000, 12000, 4000, 400)),
    "multispin": Plan(1, True, 3.4, {128: 20000}),  # one lattice fills the words where L is a multiple of 128
    "multispin-replicas": Plan(64, True, 3.4, _lengths(1000000, 400000, 400000, 200000, 40000)),
    "wolff": Plan(1, False, 1.5, _lengths(60000, 60000, 50000, 50000, 30000), {"clusters": 1}),
    "swendsen-wang": Plan(1, False, 2.7, _lengths(60000, 60000, 40000, 30000, 20000)),
}


# ---- memory

def run_of(method: str, L: int, length: float, seed: int):
    "An ensemble of observables at beta_c, as long as so many guesses of tau_int."
    plan = PLANS[method]
    tau = plan.guess * (L / 8) ** (2.05 if plan.local else 0.25)
    thin = max(1, round(tau / 10)) if plan.local else 1
    draws = round(length * tau / thin / plan.chains)
    return sample(Ising((L, L)), BETA_C, draws=draws, chains=plan.chains, thin=thin, burn_in=round(20 * tau) + 50,
                  method=method, settings=plan.settings, seed=seed, keep="observables", progress=False)


def taus(ensemble, L: int) -> dict:
    "tau_int and its error in sweeps, for m2, energy and |m|."
    unit = ensemble.attrs["thin"]  # sweeps from one draw to the next
    if ensemble.attrs["method"] == "wolff":
        unit *= ensemble.attrs["mean_cluster_size"] / L**2
    found = {name: gamma_error(ensemble[name].values, name) for name in ("m2", "energy", "abs_m")}
    return {name: (unit * g.tau_int, unit * g.tau_int_error) for name, g in found.items()}


# ---- seconds

def seconds_per_draw(method: str, L: int, thin: int, seconds: float = 0.4, blocks: int = 5) -> float:
    "Processor seconds from one draw to the next, observables measured: the least of several blocks."
    plan, draws = PLANS[method], 20
    def block(draws):
        begin = time.process_time()
        sample(Ising((L, L)), BETA_C, draws=draws, chains=plan.chains, thin=thin, burn_in=50, method=method,
               settings=plan.settings, seed=1, keep="observables", progress=False)
        return time.process_time() - begin
    block(draws)  # compilation and caches
    while block(draws) < seconds / 2:
        draws *= 2
    return min(block(draws) for _ in range(blocks)) / (draws + 50 / thin)


# ---- rows and exponents

def row(method: str, L: int, seed: int) -> dict:
    "One line of the table: memory, seconds, and what they make together."
    plan = PLANS[method]
    ensemble = run_of(method, L, plan.lengths[L], seed)
    found, thin = taus(ensemble, L), ensemble.attrs["thin"]
    unit = thin if method != "wolff" else ensemble.attrs["mean_cluster_size"] / L**2
    tau, error = found["m2"]
    out = dict(method=method, L=L, tau_int=tau, tau_int_error=error, chains=plan.chains)
    for name in ("energy", "abs_m"):
        out[f"tau_int_{name}"], out[f"tau_int_{name}_error"] = found[name]
    return timed(out | dict(sweeps_per_draw=unit, thin=thin, draws=ensemble.sizes["draw"], seed=seed))


def timed(r: dict) -> dict:
    "The row with its seconds, and with what they make of tau_int."
    seconds = seconds_per_draw(r["method"], r["L"], r["thin"]) / r["sweeps_per_draw"]
    return r | dict(seconds_per_sweep=seconds, effective_per_second=r["chains"] / (2 * r["tau_int"] * seconds))


def power_law(sizes, tau, error, offset: bool) -> dict:
    "Fit tau_int = a L**z, or a L**z + c: z with its error, chi squared and its p-value."
    sizes, tau, error = (np.asarray(y, dtype=float) for y in (sizes, tau, error))
    law = (lambda x, a, z, c: a * x**z + c) if offset else (lambda x, a, z: a * x**z)
    z = np.log(tau[-1] / tau[-2]) / np.log(sizes[-1] / sizes[-2])
    start = [tau[-1] / sizes[-1] ** z, z] + [0.0] * offset
    best, covariance = curve_fit(law, sizes, tau, start, sigma=error, absolute_sigma=True, maxfev=10000)
    square, freedom = float(np.sum(((law(sizes, *best) - tau) / error) ** 2)), len(sizes) - len(best)
    return dict(z=float(best[1]), z_error=float(covariance[1, 1] ** 0.5), a=float(best[0]), c=float(best[2]) if offset else 0.0,
                chi2=square, freedom=freedom, p_value=float(chi2.sf(square, freedom)), sizes=[int(L) for L in sizes])


def exponents(rows: list) -> dict:
    """z of m2 for every method with at least three sizes.

    For the local methods tau_int = a L**z + c over all sizes, where c is the share of the many fast modes of m2, which
    do not know of L; "plain" is a L**z from L = 32 on, where c hardly matters. For cluster methods a L**z over all sizes:
    an effective exponent of a growth so slow that it may be a logarithm.
    """
    out = {}
    for method, plan in PLANS.items():
        mine = sorted((r for r in rows if r["method"] == method), key=lambda r: r["L"])
        if len(mine) >= 4:
            columns = lambda chosen: zip(*((r["L"], r["tau_int"], r["tau_int_error"]) for r in chosen))
            out[method] = power_law(*columns(mine), offset=plan.local)
            if plan.local:
                out[method]["plain"] = power_law(*columns([r for r in mine if r["L"] >= 32]), offset=False)
    return out


def machine() -> dict:
    "Where it was measured."
    try:
        cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "numba", "uqphys")}
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def summary(rows: list) -> dict:
    "What the notebooks read."
    order = {method: k for k, method in enumerate(PLANS)}
    rows = sorted(rows, key=lambda r: (order[r["method"]], r["L"]))
    return {"beta": BETA_C, "machine": machine(), "exponents": exponents(rows), "rows": rows}


def finish(folder: Path, methods, sizes, seed: int) -> list:
    "Make the rows that are missing, keep each in a file of its own, return all there are."
    folder.mkdir(parents=True, exist_ok=True)
    for L in sizes:
        for method in (m for m in methods if L in PLANS[m].lengths):
            file = folder / f"{method}-{L:03d}.json"
            if not file.exists():
                file.with_suffix(".part").write_text(json.dumps(row(method, L, seed)))
                file.with_suffix(".part").replace(file)
                print(line(json.loads(file.read_text())), flush=True)
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def line(r: dict) -> str:
    return (f"{r['method']:20s}{r['L']:5d}{r['tau_int']:11.3f} +- {r['tau_int_error']:<8.3f}{1e6 * r['seconds_per_sweep']:12.2f}"
            f"{r['effective_per_second']:16.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=SIZES)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--folder", type=Path, default=Path("results/slowing"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--retime", action="store_true", help="measure seconds only")
    parser.add_argument("--fit", action="store_true", help="measure nothing")
    options = parser.parse_args()
    numba.set_num_threads(1)
    before = json.loads(options.out.read_text()) if options.fit or options.retime else None
    if before:
        rows = before["rows"] if options.fit else [timed(r) for r in before["rows"]]
    else:
        rows = finish(options.folder, options.methods, options.sizes, options.seed)
    found = summary(rows) | ({"machine": before["machine"]} if options.fit else {})
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{'method':20s}{'L':>5s}{'tau_int(m2), sweeps':>23s}{'us / sweep':>12s}{'effective / s':>16s}")
    print("\n".join(map(line, found["rows"])))
    for method, fit in found["exponents"].items():
        plain = f"; a L**z from L = 32 on: {fit['plain']['z']:.3f} +- {fit['plain']['z_error']:.3f}" if "plain" in fit else ""
        print(f"z of {method:20s}{fit['z']:7.3f} +- {fit['z_error']:.3f}  (p = {fit['p_value']:.2f}){plain}")


if __name__ == "__main__":
    main()
