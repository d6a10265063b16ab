"""The critical temperature of the plaquette model (K = 0.2 J) from learned energies, corrected: is it right within its own error bar?

    python studies/plaquette.py                  # about fifteen minutes on one core
    python studies/plaquette.py --seeds 40       # more repetitions
    python studies/plaquette.py --collect        # only put into the JSON file what is finished

Rows:

- (surrogate, seed): a surrogate is fitted to 60 exact energies of an 8 x 8 lattice, whose configurations a plain Ising model at its own
  critical temperature made. It is simulated on lattices L = 4, 8, 16 at two temperatures; 100 exact energies are bought on each lattice;
  Binder's ratios of neighbouring sizes cross, before and after correction. "pairs" is a sum over pairs (it cannot see the plaquette),
  "local" a local-energy network with a Bayesian last layer (it can). The rows "large" do the same with L = 16, 32.
- (exact, L): the same crossing of L and 2 L from plain Metropolis chains of the exact model; `sweeps` counts what they asked for.

Each row is a file of its own in results/plaquette/, so that an interrupted study goes on where it stopped. Result: studies/plaquette.json.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

from uqphys import __version__
from uqphys import reweighting
from uqphys.bias import Approximation, rich_enough, too_simple
from uqphys.models import Ising
from uqphys.propagation import crossing, predict_curves
from uqphys.reweighting import combine
from uqphys.sampling import sample
from uqphys.training import write_file

HERE = Path(__file__).parent
K, EXAMPLES, PROBES, CHAINS = 0.2, 60, 100, 8
AROUND, GRID = (1 / 2.57, 1 / 2.45), np.linspace(1 / 2.66, 1 / 2.37, 15)
SURROGATES = {"pairs": too_simple, "local": rich_enough}
ONSAGER = np.log(1 + np.sqrt(2)) / 2  # critical inverse temperature of the plain Ising model, in 1/J


def examples(L, n, seed):
    "Configurations of a plain Ising model at its critical temperature, (n, L, L), and their energies in the plaquette model, (n, 1)."
    run = sample(Ising((L, L)), ONSAGER, draws=-(-n // 4), chains=4, thin=5, burn_in=100, method="wolff", seed=seed, progress=False)
    x = run["config"].values.reshape(-1, L, L)[:n]
    return x, Ising((L, L), K=K).energy(x)[:, None]


def curves(surrogate, L, seed, draws, members=200):
    "Binder's ratio of the surrogate and of the exact law over temperature, from two runs of the surrogate and exact energies at probes."
    model = Approximation(Ising((L, L), K=K), surrogate)
    runs = [sample(model, beta, draws=draws, chains=CHAINS, thin=2 * L, burn_in=200, seed=seed, progress=False) for beta in AROUND]
    return predict_curves(model, runs, GRID, ["energy", "abs_m", "m2", "m4", "binder"], probes=PROBES, draws=members, seed=seed)


def surrogate_row(kind, seed, sizes=(4, 8, 16), draws=300):
    "One row: a new surrogate, and the crossings of neighbouring sizes."
    family, rows = {}, []
    surrogate = SURROGATES[kind](seed).fit(*examples(8, EXAMPLES, seed), progress=False)
    family = {L: curves(surrogate, L, seed, draws) for L in sizes}
    for small, large in zip(sizes, sizes[1:]):
        found = crossing(family[small], family[large]).table.loc["crossing_T_binder"]
        number = {n: float(found[n]) for n in ("surrogate", "predicted_bias", "low", "high", "corrected", "error")}
        evaluations = int(found["exact_evaluations"]) + EXAMPLES
        rows.append(dict(sizes=[small, large], trust=found["trust"], exact_evaluations=evaluations, **number))
    band = lambda c, which: np.quantile(getattr(c, which)["binder"], [0.025, 0.5, 0.975], axis=0).round(6).tolist()
    binder = {str(L): dict(surrogate=band(c, "surrogate"), corrected=band(c, "exact")) for L, c in family.items()}
    share = min(float(c.reach["effective_share"].min()) for c in family.values())
    return dict(kind=kind, seed=seed, draws=draws, crossings=rows, effective_share=share, binder=binder)


def exact_row(L, draws, thin, seed=1):
    "One row: the crossing of L and 2 L from plain chains of the exact model."
    given = dict(chains=CHAINS, burn_in=50 * thin, method="metropolis", keep="observables", seed=seed, progress=False)
    runs = {n: combine([sample(Ising((n, n), K=K), beta, draws=draws, thin=thin, **given) for beta in AROUND]) for n in (L, 2 * L)}
    beta, height = reweighting.crossing(runs[L], runs[2 * L], "binder")
    found = {n: run.at(GRID[3:-2], ["binder"]) for n, run in runs.items()}
    points = {str(n): {column: f[column].values.ravel().tolist() for column in ("value", "error")} for n, f in found.items()}
    return dict(kind="exact", sizes=[L, 2 * L], T=1 / beta.value, error=beta.error / beta.value**2, binder=height.value, points=points,
                sweeps=2 * len(AROUND) * CHAINS * draws * thin, draws=draws, thin=thin, seed=seed)


def tasks(seeds, large, scale):
    "Name of a row -> how it is made; the cheapest first."
    sized = lambda n: max(20, round(n * scale))
    exact = {f"exact-{L}": (exact_row, (L, sized(n), thin)) for L, n, thin in ((4, 6000, 8), (8, 7000, 16), (16, 1000, 64))}
    small = {f"{kind}-{seed}": (surrogate_row, (kind, seed, (4, 8, 16), sized(300))) for seed in range(seeds) for kind in SURROGATES}
    big = {f"large-{seed}": (surrogate_row, ("local", 100 + seed, (16, 32), sized(150))) for seed in range(large)}
    return exact | small | big


def collect(folder, out):
    "Put all finished rows into one file."
    rows = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
    told = dict(K=K, examples=EXAMPLES, probes=PROBES, chains=CHAINS, around=[1 / b for b in AROUND], temperatures=(1 / GRID).tolist(), points=(1 / GRID[3:-2]).tolist(), version=__version__)
    write_file(out, json.dumps(told | {"rows": rows}) + "\n")
    return rows


def main(seeds=8, large=3, scale=1.0, folder=HERE.parent / "results" / "plaquette", out=HERE / "plaquette.json", only=None):
    "Make what is missing and collect it."
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, arguments) in tasks(seeds, large, scale).items():
        if (only is None or name in only) and not (file := folder / f"{name}.json").exists():
            write_file(file, json.dumps(make(*arguments)))
            print(name, "made", file=sys.stderr, flush=True)
    return collect(folder, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="repetitions of each surrogate")
    parser.add_argument("--large", type=int, default=3, help="repetitions on 16 x 16 and 32 x 32")
    parser.add_argument("--scale", type=float, default=1.0, help="length of all runs, in units of the committed study's")
    parser.add_argument("--only", nargs="+", default=None, metavar="ROW", help="names of rows, such as pairs-3")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "results" / "plaquette")
    parser.add_argument("--out", type=Path, default=HERE / "plaquette.json")
    parser.add_argument("--collect", action="store_true", help="make nothing")
    options = parser.parse_args()
    main(options.seeds, options.large, options.scale, options.folder, options.out, () if options.collect else options.only)
