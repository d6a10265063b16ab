"""Self-learning Monte Carlo on the plaquette model (K = 0.2 J) at its critical temperature: how much shorter is the memory?

    python studies/self_learning.py            # about ten minutes on one core
    python studies/self_learning.py --sizes 10 # only some of the lattices

For L = 10, 20 and 40 at T = 2.493 the integrated autocorrelation time of |m| is measured, each with eight chains, of

- local:  Metropolis updates of single spins, in sweeps;
- pairs:  single clusters (Wolff) of a pair Hamiltonian learned from 600 exact energies, in proposals. A proposal turns a share of
  the lattice (`touched_pairs`, accepted or not); `ratio_touched` is the ratio to local if a sweep of touched sites is the unit;
- nested: walks of L such clusters that are accepted with a learned local energy (a last layer on the same 600 energies), in walks.

Each unit costs one exact energy (a sweep costs as much, if a flip is charged for the bonds around it). `z` compares means of |m| with
that of local updates, in standard errors.

Finished rows are kept in results/self_learning/, so that an interrupted study goes on where it stopped. Result:
studies/self_learning.json.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np

from uqphys import __version__
from uqphys.analysis import gamma_error
from uqphys.architectures import LocalEnergyNet
from uqphys.bias import Approximation
from uqphys.bnn import LastLayer
from uqphys.chains import Subchain, _walker, learn_pairs, metropolis_hastings
from uqphys.models import Ising
from uqphys.sampling import _generators, sample

HERE = Path(__file__).parent
TEMPERATURE, SIZES, CHAINS = 2.493, (10, 20, 40), 8


def compare(L, seed, proposals=12000, walks=2000, lengths=300):
    "One row: three ways of sampling one lattice."
    model, beta = Ising((L, L), K=0.2), 1 / TEMPERATURE
    learned = learn_pairs(model, beta, seed=seed)
    cluster = Subchain(learned.model, 1, "wolff")
    given = dict(chains=CHAINS, seed=seed, progress=False)
    pairs = metropolis_hastings(model, beta, cluster, draws=proposals, burn_in=500, **given)
    surrogate = LastLayer(LocalEnergyNet(hidden=(16,), seed=0), seed=0, epochs=0).fit(learned.configurations, learned.energies[:, None], progress=False)
    nested = metropolis_hastings(model, beta, Subchain(Approximation(model, surrogate), L, cluster), draws=walks, burn_in=50, **given)
    guess = max(1, round(0.04 * L**2.17))  # sweeps
    thin = max(1, guess // 10)
    local = sample(model, beta, draws=lengths * guess // thin, thin=thin, burn_in=50 * guess, method="metropolis", keep="observables", **given)
    touched = _walker(cluster, beta, _generators([seed], CHAINS), None)
    x = pairs["config"].values[:, ::200]
    share = np.mean([(touched.propose(x[:, k])[0] != x[:, k]).mean() for k in range(x.shape[1])])
    row = {"L": L, "J": learned.model.J, "learning_evaluations": learned.exact_evaluations, "touched_pairs": float(share)}
    slow = gamma_error(local["abs_m"].values)
    row |= {"tau_local": slow.tau_int * thin, "tau_local_error": slow.tau_int_error * thin, "abs_m_local": str(slow)}
    for name, run in (("pairs", pairs), ("nested", nested)):
        found = gamma_error(run["abs_m"].values)
        row |= {f"tau_{name}": found.tau_int, f"tau_{name}_error": found.tau_int_error, f"abs_m_{name}": str(found),
                f"acceptance_{name}": run.attrs["acceptance"], f"ratio_{name}": slow.tau_int * thin / found.tau_int,
                f"z_{name}": (found.value - slow.value) / math.hypot(found.error, slow.error)}
    return row | {"ratio_touched": row["ratio_pairs"] / float(share)}


def main(sizes, out):
    kept = HERE.parent / "results" / "self_learning"
    kept.mkdir(parents=True, exist_ok=True)
    rows = []
    for L in sizes:
        file = kept / f"{L}.json"
        if not file.exists():
            row = compare(L, seed=L)
            file.write_text(json.dumps(row))
        rows.append(json.loads(file.read_text()))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    told = {"temperature": TEMPERATURE, "K": 0.2, "chains": CHAINS, "version": __version__, "rows": rows}
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=HERE / "self_learning.json")
    given = parser.parse_args()
    main(given.sizes, given.out)
