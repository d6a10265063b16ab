"""A Bayesian network on 100 000 examples, one percent of them per step; notebook 313_penalty shows the results.

    python studies/penalty.py

The posterior of a small network (1 input, 3 hidden units, 11 coordinates) is sampled by Hamiltonian Monte Carlo with all examples in
every gradient and in every test (the reference), by the penalty method with ten batches of 100 and a control variate of 128 nodes,
and by naive subsampling: the same batches with neither penalty nor control variate. All use the same root L of the covariance and
start where a pilot run of the penalty method ended. Steps are timed in one process, with all examples and with one percent in turns.

Finished pieces are kept in results/penalty/ with the settings that made them, so that an interrupted study continues where it
stopped; a piece made with other settings is refused. The summary goes to studies/penalty.json.
"""

import argparse
import json
import time
from pathlib import Path

import arviz
import numpy as np
import torch

from uqphys.architectures import MLP
from uqphys.penalty import NodeControl, _climb, _polish, penalty_metropolis
from uqphys.posteriors import NetworkPosterior
from uqphys.sampling import one_thread
from uqphys.training import as_samples

SETTINGS = {"n": 100_000, "hidden": [3], "sigma": 0.3, "gap": [0.25, 0.4], "data_seed": 1, "batch_size": 100, "batches": 10, "nodes": 128, "leapfrog": 4,
            "starts": 16, "pilot": {"chains": 16, "burn_in": 400, "draws": 200}, "hmc": {"chains": 4, "burn_in": 50, "draws": 500},
            "penalty": {"chains": 16, "burn_in": 200, "draws": 2000}, "naive": {"chains": 16, "burn_in": 0, "draws": 4000}}
GRID = np.linspace(-1.2, 1.2, 25)[:, None]


def problem():
    "Posterior of the network, and its control variate."
    rng, (low, high) = np.random.default_rng(SETTINGS["data_seed"]), SETTINGS["gap"]
    x = rng.uniform(-1, 1 - (high - low), SETTINGS["n"])
    x = np.where(x < low, x, x + high - low)[:, None]
    y = np.tanh(5 * (x + 0.7)) - 1.5 * np.tanh(5 * x) + np.tanh(5 * (x - 0.6)) + SETTINGS["sigma"] * rng.normal(size=x.shape)
    posterior = NetworkPosterior(MLP((1,), tuple(SETTINGS["hidden"])), as_samples(x, y))
    return posterior, NodeControl(posterior, SETTINGS["nodes"])


def functions(posterior, theta):
    "Function values on the grid, (chains, draws, k)."
    f = posterior.functions(theta.flatten(0, 1), GRID)[0]
    return f.reshape(*theta.shape[:2], -1)


def chains(posterior, name, start, **options):
    "One of the runs: thetas, functions on the grid, records."
    given = {k: v for k, v in SETTINGS[name].items() if k != "chains"} | {"seed": len(name)} | options
    run = penalty_metropolis(posterior, start[: SETTINGS[name]["chains"]], **given)
    told = {"acceptance": float(run.acceptance.mean()), "noise": float(run.noise.median()), "refused": float(run.refused.mean()),
            "touched": run.touched, "seconds_per_step": run.seconds, "step": float(run.step.mean())}
    return {"theta": run.theta.numpy(), "f": functions(posterior, run.theta), "root": run.factor.numpy(), "told": json.dumps(told)}


def piece(folder, name, make):
    "A finished piece, made if it is not there; exits if it was made with other settings."
    file, wanted = folder / f"{name}.npz", json.dumps(SETTINGS, sort_keys=True)
    if not file.exists():
        start = time.perf_counter()
        with one_thread():
            made = make()
        part = file.with_name(f"{name}.part.npz")
        np.savez(part, settings=wanted, seconds=time.perf_counter() - start, **made)
        part.replace(file)
    found = dict(np.load(file))
    if str(found["settings"]) != wanted:
        raise SystemExit(f"{file}: made with other settings; expected those of this study: give another --folder, or remove the file")
    return found


def moments(f):
    "Mean and standard deviation of the function (k,), and their standard errors from effective sample sizes."
    mean, sd = f.mean((0, 1)), f.std((0, 1))
    square = (f - mean) ** 2
    ess = lambda v: arviz.ess({"v": v})["v"].values
    sd_error = square.std((0, 1)) / np.sqrt(ess(square)) / (2 * sd)
    return {"mean": mean, "sd": sd, "mean_error": sd / np.sqrt(ess(f)), "sd_error": sd_error, "ess": ess(f), "r_hat": arviz.rhat({"v": f})["v"].values}


class OneByOne:
    "The same posterior, whose full sums go chain by chain: all examples of one chain fit the cache better, so this is the faster way."

    def __init__(self, posterior):
        self.posterior, self.n, self.log_prior = posterior, posterior.n, posterior.log_prior

    def log_likelihoods(self, theta, rows=None):
        if rows is not None:
            return self.posterior.log_likelihoods(theta, rows)
        return torch.cat([self.posterior.log_likelihoods(t).sum(1, keepdim=True) for t in theta.split(1)])


def timing(posterior, control, start, root, chains=(1, 16, 64), rounds=7):
    "Seconds per step of the same random walk, with all examples and with one percent: the median over rounds that take turns."
    out = []
    for c in chains:
        theta, seconds = start.repeat(-(-c // len(start)), 1)[:c], {"full": [], "penalty": []}
        for k in range(rounds):
            for name, law, options, draws in (("full", OneByOne(posterior), {"batch_size": None}, 5),
                                              ("penalty", posterior, {"batch_size": 100, "batches": 10, "control": control}, 40)):
                seconds[name].append(penalty_metropolis(law, theta, draws=draws, burn_in=0, factor=root, seed=k, **options).seconds)
        full, penalty = (float(np.median(seconds[name])) for name in ("full", "penalty"))
        out.append({"chains": c, "full": full, "penalty": penalty, "ratio": full / penalty})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/penalty"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    (posterior, control), s = problem(), SETTINGS
    generator = torch.Generator().manual_seed(0)

    def begin():
        mode = _climb(posterior, s["starts"], 0)
        mode, root = _polish(posterior, mode, posterior.n, generator)
        return {"mode": mode.numpy(), "root": root.numpy()}

    first = {k: torch.as_tensor(v) for k, v in piece(options.folder, "start", begin).items() if k in ("mode", "root")}
    start = first["mode"] + 0.3 * torch.randn(16, posterior.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) @ first["root"].T
    small = dict(batch_size=s["batch_size"], batches=s["batches"])
    moving = dict(proposal="langevin", leapfrog=s["leapfrog"])
    runs = {"pilot": piece(options.folder, "pilot", lambda: chains(posterior, "pilot", start, factor=first["root"], control=control, **small, **moving))}
    root, last = torch.as_tensor(runs["pilot"]["root"]), torch.as_tensor(runs["pilot"]["theta"])[:, -1].clone()
    step = json.loads(str(runs["pilot"]["told"]))["step"]
    runs["penalty"] = piece(options.folder, "penalty", lambda: chains(posterior, "penalty", last, factor=root, step=step, control=control, **small, **moving))
    runs["naive"] = piece(options.folder, "naive", lambda: chains(posterior, "naive", last, factor=root, step=0.2, kind="none", **small))
    clock = piece(options.folder, "timing", lambda: {"told": json.dumps(timing(posterior, control, last, root))})
    runs["hmc"] = piece(options.folder, "hmc", lambda: chains(posterior, "hmc", last, factor=root, step=step, batch_size=None, **moving))
    told = summary(runs, json.loads(str(clock["told"])))
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({k: v for k, v in told.items() if k in ("z", "timing", "naive_z", "told")}, indent=1))


def summary(runs, clock):
    "What the notebook shows."
    found = {name: moments(run["f"]) for name, run in runs.items() if name != "pilot"}
    z = {}
    for name in ("penalty", "naive"):
        for what in ("mean", "sd"):
            gap = found[name][what] - found["hmc"][what]
            z[f"{name} {what}"] = (gap / np.hypot(found[name][what + "_error"], found["hmc"][what + "_error"])).round(2).tolist()
    plain = {name: {k: np.round(v, 7).tolist() for k, v in m.items()} for name, m in found.items()}
    return {"settings": SETTINGS, "grid": GRID[:, 0].tolist(), "found": plain, "z": z, "timing": clock, "weights": int(runs["hmc"]["theta"].shape[2]),
            "told": {name: json.loads(str(run["told"])) for name, run in runs.items()}, "seconds": {name: float(run["seconds"]) for name, run in runs.items()}}


if __name__ == "__main__":
    main()
