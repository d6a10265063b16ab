"""Free energies of the Ising model from autoregressive networks, at study scale; notebook 211_generating shows the results.

    python studies/free_energy.py

Networks learn L = 8 at seven temperatures and five other sizes at the critical one, three networks each, all with the same recipe.
At the lowest temperature others begin their annealing too late, and are then taught by configurations of a chain. Each network
is judged by draws of its own, often repeated, and by configurations of a chain, against Kaufman's exact results.
Finished networks are kept in results/free_energy/, and trainings in checkpoints there, so that an interrupted study continues
where it stopped, to the same bits; one made with other settings is made anew. The summary goes to studies/free_energy.json.
Its `seconds` are processor time, summed over the networks; one that was interrupted counts from its last start.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from uqphys.autoregressive import AutoregressiveNet
from uqphys.datasets import samples
from uqphys.exact import BETA_C, kaufman, transfer_matrix
from uqphys.generating import importance_weights, train_generator
from uqphys.models import Ising
from uqphys.sampling import one_thread, sample
from uqphys.training import write_file

BETAS, SIZES, COLD = (BETA_C, 0.1, 0.2, 0.35, 0.5, 0.6, 0.8), (4, 6, 8, 10, 12, 16), 0.8
STEPS, DRAWS, REPEATS, REPEATED = 400, 20_000, 20, 5_000
SETTINGS = {"steps": STEPS, "draws": DRAWS, "repeats": REPEATS, "repeated_draws": REPEATED}


def jobs(seeds):
    "Every network: (kind of training, L, beta, seed)."
    plain = [("plain", 8, beta) for beta in BETAS] + [("plain", L, BETA_C) for L in SIZES if L != 8]
    return [(*job, seed) for job in [*plain, ("late start", 8, COLD)] for seed in range(seeds)]


def chain(model, beta, seed, chains=4):
    "Configurations of the exact law, by a Markov chain."
    return sample(model, beta, draws=2500, chains=chains, thin=4, seed=seed, progress=False)


def judged(net, model, beta, seed):
    "What a network is worth: by its own draws, and by configurations of the law itself."
    exact = kaufman(model.shape[0], beta)
    w = importance_weights(net, model, beta, n=DRAWS, seed=1000 + seed)
    truth = {"energy": exact.energy} | ({"abs_m": transfer_matrix(8, beta).averages["abs_m"]} if model.shape[0] == 8 else {})
    averages = {name: (w.expectation(name).value, w.expectation(name).error, value) for name, value in truth.items()}
    repeated = [importance_weights(net, model, beta, n=REPEATED, seed=2000 + 100 * seed + k).ln_z for k in range(REPEATS)]
    x = chain(model, beta, 3000 + seed).config.values.reshape(-1, *model.shape)
    with torch.no_grad():
        there = -beta * model.energy(x) - net.log_prob(x).numpy() - exact.lnZ
    return {"ln_z": w.ln_z.value, "error": w.ln_z.error, "exact": exact.lnZ, "z": (w.ln_z.value - exact.lnZ) / w.ln_z.error,
            "raw": w.variational.value, "raw_error": w.variational.error, "raw_excess": w.variational.value / exact.lnZ + 1,
            "ess": w.ess, "pareto_k": w.pareto_k, "spread": float(w.log_weights.std()), "trusted": w.trusted, "averages": averages,
            "repeated_z": [(e.value - exact.lnZ) / e.error for e in repeated],
            "chain_excess": float(there.mean()), "chain_ess": float(1 / np.exp(there).mean()), "chain_largest": float(there.max())}


def one_network(kind, L, beta, seed, checkpoint):
    "Train a network and judge it."
    model, net, clock = Ising((L, L)), AutoregressiveNet((L, L), seed=seed), time.process_time()
    start = beta / 2 if kind == "late start" else None
    train_generator(net, model, beta, seed=seed, steps=STEPS, start=start, checkpoint=checkpoint, progress=False)
    out = {"kind": kind, "L": L, "beta": beta, "seed": seed, "training_seconds": time.process_time() - clock}
    own = 10_000 * BETAS.index(beta) if kind == "plain" else 0  # random numbers of its own for each temperature: independent deviations
    out["result"] = judged(net, model, beta, seed + own)
    if kind == "late start":
        data = samples(chain(model, beta, 4000 + seed, chains=10))
        train_generator(net, model, beta, seed=seed, steps=300, learning_rate=0.002, anneal=0, direction="forward", data=data, progress=False)
        out["taught"] = judged(net, model, beta, seed)
    return out | {"seconds": time.process_time() - clock}


def finished(file):
    "The result of a network, or None if there is none yet, or one that was made with other settings."
    piece = json.loads(file.read_text()) if file.exists() else {}
    return {k: v for k, v in piece.items() if k != "settings"} if piece.get("settings") == SETTINGS else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="networks for each case")
    parser.add_argument("--folder", type=Path, default=Path("results/free_energy"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for kind, L, beta, seed in tqdm(jobs(options.seeds), desc="networks"):
        file = options.folder / f"{kind.replace(' ', '-')}-{L}-{beta:.4f}-{seed}.json"
        if finished(file) is None:
            with one_thread():
                done = one_network(kind, L, beta, seed, file.with_suffix(".checkpoint"))
            write_file(file, json.dumps(done | {"settings": SETTINGS}))
        file.with_suffix(".checkpoint").unlink(missing_ok=True)
        found.append(finished(file))
    told = {**SETTINGS, "beta_c": BETA_C, "cold": COLD,
            "seconds": sum(f["seconds"] for f in found), "networks": found}
    write_file(options.out, json.dumps(told, indent=1) + "\n")
    for f in found:
        r = f["result"]
        print(f"{f['kind']:10s} L={f['L']:<2d} beta={f['beta']:.4f} seed={f['seed']}: raw {r['raw_excess']:+.4%}, z {r['z']:+.2f}, "
              f"ESS {r['ess']:.1%} (chain {r['chain_ess']:.1%}), Pareto k {r['pareto_k']:+.2f}, {f['training_seconds']:.0f} s")


if __name__ == "__main__":
    main()
