"""What an error bar costs in exact energies, on the plaquette model (K = 0.2 J) with L = 16: plain chain, delayed acceptance, probes.

    python studies/cost.py                  # about ten minutes on one core
    python studies/cost.py --seeds 10       # more repetitions
    python studies/cost.py --collect        # only put into the JSON file what is finished

Rows:

- (exact, T): a long Metropolis chain of the exact model. One exact energy is charged for each sweep.
- (surrogate, T, seed): a surrogate is fitted to 100 exact energies of configurations that a plain Ising model made at its own critical
  temperature. Three ways to the averages of the exact model follow. "probes": a long chain of the surrogate, its bias predicted from 100
  exact energies. "delayed": an exact chain whose proposals are twenty sweeps of the surrogate. "inside": the bias within the surrogate's
  own ensemble with the exact energy of every draw, which a real user could not afford: the answer the prediction must hit.
- (free, surrogate, T, seed): the same surrogate, simulated for as many sweeps as the exact chain, of which only averages are kept. No
  exact energy is asked for. Its average minus the predicted bias is the corrected value; its error and the doubt add in quadrature.

`error` is one standard error of an average; `doubt` that part of it which comes from not knowing the surrogate's error (the interval of
the predicted bias, over 3.92). Each row is a file of its own in results/cost/, so that an interrupted study goes on where it stopped.
Result: studies/cost.json.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

from uqphys import __version__
from uqphys.analysis import DERIVED, estimates
from uqphys.architectures import LocalEnergyNet
from uqphys.bias import Approximation, class_weights, predict_bias, too_simple
from uqphys.bnn import LastLayer
from uqphys.chains import Subchain, evaluation_cost, metropolis_hastings
from uqphys.models import Ising
from uqphys.sampling import sample
from uqphys.training import write_file

HERE = Path(__file__).parent
L, K, EXAMPLES, PROBES, CHAINS, STEPS = 16, 0.2, 100, 100, 8, 20
TEMPERATURES, OBSERVABLES = (3.0, 2.493, 2.2), ["abs_m", "susceptibility", "specific_heat"]
TRUTH, ONSAGER = Ising((L, L), K=K), np.log(1 + np.sqrt(2)) / 2


def local(seed):
    "A local-energy network with a Bayesian last layer."
    return LastLayer(LocalEnergyNet(hidden=(16,), seed=seed), seed=seed, epochs=200)


SURROGATES = {"local": local, "pairs": too_simple}


def examples(seed):
    "Configurations of a plain Ising model at its critical temperature, and their energies in the plaquette model."
    run = sample(Ising((L, L)), ONSAGER, draws=EXAMPLES // 4, chains=4, thin=5, burn_in=100, method="wolff", seed=seed, progress=False)
    x = run["config"].values.reshape(-1, L, L)
    return x, TRUTH.energy(x)[:, None]


def inside(model, ensemble, beta):
    "The bias within one ensemble, from the exact energy of every draw: name -> number."
    x = ensemble["config"].values.reshape(-1, L, L)
    learned, exact, m = model.energy(x), TRUTH.energy(x), np.abs(x.mean((1, 2)))
    weights = class_weights((exact - learned)[None], np.ones(len(x)), beta)[0]

    def averages(energy, w):
        e = energy / L**2
        means = {n: np.average(v, weights=w) for n, v in dict(energy=e, energy2=e**2, abs_m=m, m2=m**2, m4=m**4).items()}
        return {n: float(means[n] if n in means else DERIVED[n](means, beta, L**2)) for n in OBSERVABLES}

    before, after = averages(learned, None), averages(exact, weights)
    return {n: before[n] - after[n] for n in OBSERVABLES}


def exact_row(T, draws):
    "One row: the plain chain."
    run = sample(TRUTH, 1 / T, draws=draws, chains=CHAINS, burn_in=1000, method="metropolis", keep="observables", seed=1, progress=False)
    found = estimates(run)
    return dict(T=T, sweeps=CHAINS * draws, seed=1, **{n: dict(value=found[n].value, error=found[n].error, tau=found[n].tau_int) for n in OBSERVABLES})


def surrogate_row(kind, T, seed, draws, proposals):
    "One row: a new surrogate, probes, delayed acceptance."
    model, beta = Approximation(TRUTH, SURROGATES[kind](seed).fit(*examples(seed), progress=False)), 1 / T
    ensemble = sample(model, beta, draws=draws, chains=CHAINS, thin=40, burn_in=400, seed=seed, progress=False)
    report = predict_bias(model, ensemble, OBSERVABLES, probes=PROBES, seed=seed).table
    known = inside(model, ensemble, beta)
    run = metropolis_hastings(TRUTH, beta, Subchain(model, STEPS), draws=proposals, chains=CHAINS, burn_in=20, seed=seed, keep="observables", progress=False)
    cost = evaluation_cost(run, OBSERVABLES)
    row = dict(kind=kind, T=T, seed=seed, draws=draws, evaluations=EXAMPLES + PROBES, acceptance=run.attrs["acceptance"], moved=run.attrs["moved"], proposals=CHAINS * proposals)
    for n in OBSERVABLES:
        r, c = report.loc[n], cost.loc[n]
        probes = dict(surrogate=r["surrogate"], predicted=r["predicted_bias"], corrected=r["corrected"], error=r["error"], doubt=(r["high"] - r["low"]) / 3.92, inside=known[n], trust=r["trust"])
        row[n] = dict(probes={k: v if k == "trust" else float(v) for k, v in probes.items()},
                      delayed=dict(value=float(c["value"]), error=float(c["error"]), tau=float(c["tau_int"]), evaluations=float(c["evaluations"])))
    return row


def free_row(kind, T, seed, draws):
    "One row: a long chain of the surrogate of the same seed, without a single exact energy."
    model = Approximation(TRUTH, SURROGATES[kind](seed).fit(*examples(seed), progress=False))
    run = sample(model, 1 / T, draws=draws, chains=CHAINS, thin=4, burn_in=400, keep="observables", seed=1000 + seed, progress=False)
    found = estimates(run)
    return dict(kind="free", of=kind, T=T, seed=seed, sweeps=4 * CHAINS * draws, **{n: dict(value=found[n].value, error=found[n].error) for n in OBSERVABLES})


def tasks(seeds, scale):
    "Name of a row -> how it is made."
    sized = lambda n: max(20, round(n * scale))
    exact = {f"exact-{T:g}": (exact_row, (T, sized(50000))) for T in TEMPERATURES}
    local = {f"local-{T:g}-{seed}": (surrogate_row, ("local", T, seed, sized(500), sized(300))) for seed in range(seeds) for T in TEMPERATURES}
    pairs = {f"pairs-{T:g}-0": (surrogate_row, ("pairs", T, 0, sized(500), sized(300))) for T in TEMPERATURES}
    free = {f"free-{name}": (free_row, (*arguments[:3], sized(12500))) for name, (_, arguments) in (local | pairs).items()}
    return exact | local | pairs | free


def collect(folder, out):
    "Put all finished rows into one file."
    rows = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
    told = dict(L=L, K=K, temperatures=TEMPERATURES, examples=EXAMPLES, probes=PROBES, steps=STEPS, chains=CHAINS, thin=40, version=__version__)
    write_file(out, json.dumps(told | {"rows": rows}) + "\n")
    return rows


def main(seeds=3, scale=1.0, folder=HERE.parent / "results" / "cost", out=HERE / "cost.json", only=None):
    "Make what is missing and collect it."
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, arguments) in tasks(seeds, scale).items():
        if (only is None or name in only) and not (file := folder / f"{name}.json").exists():
            write_file(file, json.dumps(make(*arguments)))
            print(name, "made", file=sys.stderr, flush=True)
    return collect(folder, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the local-energy surrogate at each temperature")
    parser.add_argument("--scale", type=float, default=1.0, help="length of all runs, in units of the committed study's")
    parser.add_argument("--only", nargs="+", default=None, metavar="ROW", help="names of rows, such as local-3-0")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "results" / "cost")
    parser.add_argument("--out", type=Path, default=HERE / "cost.json")
    parser.add_argument("--collect", action="store_true", help="make nothing")
    options = parser.parse_args()
    main(options.seeds, options.scale, options.folder, options.out, () if options.collect else options.only)
