"""A normalizing flow for the φ⁴ field at L = 8, m² = -4, λ = 8, against HMC; notebook 202_flows shows the results.

    python studies/flow_phi4.py

Stages: training (checkpointed), draws of the flow, a run of HMC whose configurations judge the flow's tails too. What is finished is
kept in results/flow_phi4/ with the recipe that made it, so that an interrupted study continues where it stopped, to the same bits, its
clock included; a folder made with another recipe is refused. The summary goes to studies/flow_phi4.json.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from uqphys.analysis import gamma_error
from uqphys.flows import CheckerboardFlow
from uqphys.generating import importance_weights, train_generator
from uqphys.models import Phi4
from uqphys.sampling import one_thread, sample
from uqphys.training import load_network, save_network

MODEL = Phi4.from_mass((8, 8), -4.0, 8.0)
CONFIG = {"shape": (8, 8), "layers": 8, "hidden": (12, 12), "width": 0.4, "seed": 0}
TRAINING = {"steps": 800, "samples": 128, "learning_rate": 0.004, "start": 1.0, "anneal": 0.0}
CHAIN = {"draws": 20_000, "chains": 4, "thin": 2, "seed": 4, "method": "hmc"}
DRAWS, BINS, EVERY = 50_000, np.linspace(-0.8, 0.8, 41), 20  # the story of the training: means of 20 steps


def recipe(training):
    "All that decides the numbers, as plain data."
    return json.loads(json.dumps({"model": repr(MODEL), "config": CONFIG, "training": training, "draws": DRAWS, "chain": CHAIN}))


def write(file, told):
    "A JSON file that is there whole or not at all."
    part = file.with_suffix(".part")
    part.write_text(json.dumps(told, indent=1) + "\n")
    part.replace(file)
    return told


def once(file, made_by, make):
    "What a finished stage told, or make it; `SystemExit` if the file was made by another recipe."
    if not file.exists():
        return write(file, {"recipe": made_by, **make()})
    told = json.loads(file.read_text())
    if told.get("recipe") != made_by:
        raise SystemExit(f"{file} was made by another recipe, {told.get('recipe')}, not by {made_by}: remove its folder, or give another --folder")
    return told


class Clock:
    "Seconds spent on a training, kept beside its checkpoint; of a session that was killed, up to its last checkpoint."

    def __init__(self, file, checkpoint):
        self.file, self.spent = file, {"wall": 0.0, "cpu": 0.0}
        if file.exists():
            told = json.loads(file.read_text())
            lost = max(0.0, checkpoint.stat().st_mtime - told["began"]) if checkpoint.exists() else 0.0
            self.spent = {"wall": told["wall"] + lost, "cpu": told["cpu"] + lost}  # the CPU time of a killed session: at most its wall time
        self.began, self.cpu = time.time(), time.process_time()
        write(file, {**self.spent, "began": self.began})

    def read(self):
        return {"training": self.spent["wall"] + time.time() - self.began, "training_cpu": self.spent["cpu"] + time.process_time() - self.cpu}


def train(folder, training):
    "Train, with checkpoints; the flow goes to a file of its own."
    checkpoint = folder / "training.checkpoint"
    clock, flow = Clock(folder / "clock.json", checkpoint), CheckerboardFlow(**CONFIG)
    history = train_generator(flow, MODEL, seed=1, checkpoint=checkpoint, checkpoint_every=50, progress=False, **training)
    save_network(folder / "flow.safetensors", flow)
    spread = np.array(history.spread).reshape(-1, EVERY).mean(1)
    return {"seconds": clock.read(), "story": {"step": list(range(EVERY, training["steps"] + 1, EVERY)), "spread": spread.round(4).tolist()}}


def acceptance(log_weights, seed):
    "Share of accepted moves where the draws are proposals of an independence Metropolis chain, one after the other."
    uniform, now, accepted = np.random.default_rng(seed).random(len(log_weights)), log_weights[0], 0
    for new, u in zip(log_weights[1:], uniform):
        if new >= now or u < math.exp(new - now):
            now, accepted = new, accepted + 1
    return accepted / (len(log_weights) - 1)


def histogram(m, weights=None):
    return np.histogram(m, BINS, density=True, weights=weights)[0].round(5).tolist()


def judge(folder):
    "Draws of the trained flow, and what their weights give."
    flow, clock = load_network(folder / "flow.safetensors"), time.process_time()
    w = importance_weights(flow, MODEL, n=DRAWS, seed=2)
    seconds, m, chi = time.process_time() - clock, w.x.mean((1, 2)), w.expectation(lambda x: 64 * x.mean((1, 2)) ** 2)
    energy = w.free_energy()
    return {"draws": DRAWS, "seconds": seconds, "ess": w.ess, "pareto_k": w.pareto_k, "trusted": w.trusted, "acceptance": acceptance(w.log_weights, 3),
            "free_energy": energy.value, "free_energy_error": energy.error, "variational": w.free_energy(reweighted=False).value,
            "chi": chi.value, "chi_error": chi.error, "chi_raw": float(64 * (m**2).mean()),
            "raw": histogram(m), "weighted": histogram(m, w.shares)}


def chain(folder, ln_z):
    "The same susceptibility by Hybrid Monte Carlo, and what its configurations say of the tails of the flow."
    clock = time.process_time()
    run = sample(MODEL, progress=False, **CHAIN)
    seconds, m = time.process_time() - clock, run.config.values.mean((2, 3))
    chi = gamma_error(64 * m**2)
    return {"draws": int(m.size), "chi": chi.value, "chi_error": chi.error, "tau_int": chi.tau_int, "seconds": seconds,
            "histogram": histogram(m.ravel()), "tails": tails(load_network(folder / "flow.safetensors"), run.config.values, ln_z)}


@torch.no_grad()
def tails(flow, x, ln_z):
    """Effective share 1 / <w/Z> over configurations x (chains, draws, 8, 8) of the true law, also of each chain; the share of the largest w
    in the sum; and the power of x with which ln q falls far out, as a median over 200 directions from 10 to 20 times white noise."""
    log_q = np.stack([np.concatenate([flow.log_prob(part).numpy() for part in np.array_split(one, 8)]) for one in x])
    w = np.exp(-MODEL.energy(x) - log_q - ln_z)
    far = np.random.default_rng(5).standard_normal((200, 8, 8))
    power = np.log2((flow.log_prob(20 * far) / flow.log_prob(10 * far)).numpy())
    return {"chain_ess": float(1 / w.mean()), "chain_ess_each": (1 / w.mean(1)).tolist(), "chain_largest": float(w.max() / w.sum()),
            "tail_power": float(np.median(power))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=TRAINING["steps"])
    parser.add_argument("--folder", type=Path, default=Path("results/flow_phi4"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if options.steps < EVERY or options.steps % EVERY:
        parser.error(f"--steps {options.steps}: must be a multiple of {EVERY}, at least {EVERY}")
    if not options.out.absolute().parent.is_dir() or options.out.is_dir():
        parser.error(f"--out {options.out}: must be a file in a folder that exists")
    options.folder.mkdir(parents=True, exist_ok=True)
    training = TRAINING | {"steps": options.steps}
    made_by = recipe(training)
    with one_thread():
        once(options.folder / "recipe.json", made_by, dict)  # before the first checkpoint
        trained = once(options.folder / "trained.json", made_by, lambda: train(options.folder, training))
        flow = once(options.folder / "flow.json", made_by, lambda: judge(options.folder))
        hmc = once(options.folder / "hmc.json", made_by, lambda: chain(options.folder, -64 * flow["free_energy"]))
    del flow["recipe"], hmc["recipe"]
    flow |= hmc.pop("tails")
    shown = {"raw": flow.pop("raw"), "weighted": flow.pop("weighted"), "hmc": hmc.pop("histogram")}
    z = (flow["chi"] - hmc["chi"]) / math.hypot(flow["chi_error"], hmc["chi_error"])
    told = {**made_by, "seconds": trained["seconds"], "flow": flow, "hmc": hmc, "z": z,
            "story": trained["story"], "bins": BINS.round(3).tolist(), "histogram": shown}
    write(options.out, told)
    print(f"ESS {flow['ess']:.1%}, by the chain {flow['chain_ess']:.1%}, acceptance {flow['acceptance']:.1%}, Pareto k {flow['pareto_k']:.2f}, trained in {told['seconds']['training']:.0f} s "
          f"({told['seconds']['training_cpu']:.0f} s of one core)\nchi: flow {flow['chi']:.4f}({flow['chi_error']:.4f}), "
          f"HMC {hmc['chi']:.4f}({hmc['chi_error']:.4f}), z = {z:+.2f}")


if __name__ == "__main__":
    main()
