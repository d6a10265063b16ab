"""A Bayesian network on 100 000 examples, one percent of them per step; notebook 313_penalty shows the results.

    python studies/penalty.py

The posterior of a small network (1 input, 3 hidden units, 11 coordinates) is sampled in these ways:

- reference: Hamiltonian Monte Carlo of notebook 312 with all examples in every gradient and every test. It shares the network's
  forward and backward pass and the posterior with the penalty method, but neither the sampler nor the start: L-BFGS from draws of
  the prior, the curvature there by differences of gradients.
- penalty: trajectories along the slope of a control variate, 25 batches of 40 examples in every test, from a start of its own.
- a table: random walks with and without penalty, for three control variates (128 nodes, 24 nodes, none), of which the last two leave
  noise of order one. The two walks of a pair start at the same places and have the same steps, batches, and thinning. Batches are
  made of runs of eight neighbours in a random order (the default), and once more, for 24 nodes, of independent draws (the paper's).

Compared are the function on a grid and ln sigma, the width of the noise: together they are the posterior predictive. Steps of the
same random walk are timed with all examples and with one percent, for every control variate and both ways to draw, in turns, in one
process. All takes about ten minutes of one core; finished pieces are kept in results/penalty/ with the settings that made them, so
that an interrupted study goes on where it stopped; a piece made with other settings is refused (remove it, and only it is made anew). The summary goes to
studies/penalty.json.
"""

import argparse
import json
import os
import time
from pathlib import Path

import arviz
import numpy as np
import torch
from scipy import optimize

from uqphys.architectures import MLP
from uqphys.hmc import fused_gradient, hamiltonian_monte_carlo
from uqphys.penalty import NodeControl, _climb, _polish, penalty_metropolis
from uqphys.posteriors import NetworkPosterior
from uqphys.sampling import one_thread
from uqphys.training import as_samples

SETTINGS = {"n": 100_000, "hidden": [3], "sigma": 0.3, "gap": [0.25, 0.4], "data_seed": 1, "batch_size": 40, "batches": 25, "starts": 16,
            "reference": {"starts": 16, "chains": 8, "warmup": 200, "draws": 2000, "seed": 5},
            "pilot": {"chains": 32, "burn_in": 1000, "draws": 500, "leapfrog": 4, "seed": 6},
            "penalty": {"chains": 16, "draws": 4000, "leapfrog": 4, "seed": 7},
            "table": {"nodes": {"nodes": 128, "chains": 16, "step": 0.5, "draws": 2000, "thin": 10},
                      "few": {"nodes": 24, "chains": 16, "step": 0.25, "draws": 2000, "thin": 30},
                      "drawn": {"nodes": 24, "chains": 16, "step": 0.25, "draws": 2000, "thin": 30, "run_length": 1},
                      "none": {"nodes": 0, "chains": 32, "step": 0.055, "draws": 600, "thin": 125}},
            "timing": {"chains": [1, 16, 64], "rounds": 21}}
GRID = np.linspace(-1.2, 1.2, 25)[:, None]


def problem():
    "Posterior of the network."
    rng, (low, high) = np.random.default_rng(SETTINGS["data_seed"]), SETTINGS["gap"]
    x = rng.uniform(-1, 1 - (high - low), SETTINGS["n"])
    x = np.where(x < low, x, x + high - low)[:, None]
    y = np.tanh(5 * (x + 0.7)) - 1.5 * np.tanh(5 * x) + np.tanh(5 * (x - 0.6)) + SETTINGS["sigma"] * rng.normal(size=x.shape)
    return NetworkPosterior(MLP((1,), tuple(SETTINGS["hidden"])), as_samples(x, y))


def functions(posterior, theta):
    "Function values on the grid, and last ln sigma, (chains, draws, k + 1)."
    f, variance = posterior.functions(theta.flatten(0, 1), GRID)
    told = np.concatenate([f.reshape(len(f), -1), 0.5 * np.log(variance.reshape(len(f), -1)[:, :1])], 1)
    return told.reshape(*theta.shape[:2], -1)


def piece(folder, name, make, *own):
    "A finished piece, made if it is not there; exits if it was made with other settings: those that all share, the pilot's, and its own."
    shared = {k: v for k, v in SETTINGS.items() if not isinstance(v, dict) or k == "pilot"}
    file, wanted = folder / f"{name}.npz", json.dumps([shared, *own], sort_keys=True)
    if not file.exists():
        start = time.process_time()
        with one_thread():
            made = make()
        part = file.with_name(f"{name}.part.npz")
        np.savez(part, settings=wanted, seconds=time.process_time() - start, **made)
        part.replace(file)
    found = dict(np.load(file))
    if str(found["settings"]) != wanted:
        raise SystemExit(f"{file}: made with other settings; expected those of this study: give another --folder, or remove the file")
    return found


def curvature_root(gradient, theta, h=1e-4):
    "L (P, P) with L Lᵀ the inverse of minus the second derivatives of the log density, from differences of its gradient."
    shifts = h * torch.eye(len(theta), dtype=theta.dtype)
    hessian = (gradient(theta + shifts)[1] - gradient(theta - shifts)[1]) / (2 * h)
    return torch.linalg.inv(torch.linalg.cholesky(-(hessian + hessian.T) / 2)).T


def reference(posterior):
    "Full-batch HMC from the highest of many climbs; each chain in the units of its own climb's end."
    gradient, s = fused_gradient(posterior), SETTINGS["reference"]

    def energy(theta):
        value, slope = gradient(torch.as_tensor(theta)[None])
        return -float(value[0]), -slope[0].numpy()

    climbs = [optimize.minimize(energy, theta, jac=True, method="L-BFGS-B", options=dict(maxiter=3000, maxfun=3000))
              for theta in posterior.start(s["starts"], s["seed"]).numpy()]
    height = np.array([-climb.fun for climb in climbs])
    best = [torch.as_tensor(climb.x) for climb, value in zip(climbs, height) if value > height.max() - 2][: s["chains"]]
    mode, root = torch.stack(best), torch.stack([curvature_root(gradient, theta) for theta in best])

    def whitened(u):
        value, slope = gradient(mode + (root @ u[..., None])[..., 0])
        return value, (root.mT @ slope[..., None])[..., 0]

    start = 2 * torch.randn(mode.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(s["seed"]))
    run = hamiltonian_monte_carlo(whitened, start, draws=s["draws"], warmup=s["warmup"], seed=s["seed"], progress=False)
    theta = mode[:, None] + run.theta @ root.mT
    told = {"chains": len(best), "climbs": s["starts"], "reached": int((height > height.max() - 2).sum()), "acceptance": float(run.stats["acceptance_rate"].mean()),
            "divergences": run.facts["divergences"], "gradients": run.facts["gradients"] / s["draws"], "seconds_per_step": run.facts["seconds"] / s["draws"],
            "touched": 1.0}
    return {"f": functions(posterior, theta), "told": json.dumps(told)}


def walk(posterior, start, keep=False, **options):
    "A run of the penalty method: functions on the grid, records."
    run = penalty_metropolis(posterior, start, batch_size=SETTINGS["batch_size"], batches=SETTINGS["batches"], **options)
    told = {"chains": len(start), "acceptance": float(run.acceptance.mean()), "noise": float(run.noise.mean()), "refused": float(run.refused.mean()),
            "touched": run.touched, "seconds_per_step": run.seconds, "step": float(run.step.mean())}
    kept = {"last": run.theta[:, -1].numpy(), "root": run.factor.numpy(), "step": run.step.mean().numpy()} if keep else {}
    return {"f": functions(posterior, run.theta), "told": json.dumps(told)} | kept


def pilot(posterior, control):
    "From climbs of its own to the posterior: where the walks start, their root L, and the step of trajectories."
    s, generator = SETTINGS["pilot"], torch.Generator().manual_seed(SETTINGS["pilot"]["seed"])
    mode, root = _polish(posterior, _climb(posterior, SETTINGS["starts"], s["seed"]), posterior.n, generator)
    start = mode + 1.5 * torch.randn(s["chains"], posterior.size, dtype=torch.float64, generator=generator) @ root.T
    return walk(posterior, start, True, control=control, factor=root, proposal="langevin", **{k: s[k] for k in ("burn_in", "draws", "leapfrog", "seed")})


def moments(f, replicas=False):
    "Mean and standard deviation of the function (k,), effective samples for both, and errors: from effective sample sizes, or from the scatter over chains."
    mean, sd = f.mean((0, 1)), f.std((0, 1))
    square = (f - mean) ** 2
    ess = lambda v: arviz.ess({"v": v})["v"].values
    error = (lambda v: v.mean(1).std(0, ddof=1) / len(v) ** 0.5) if replicas else lambda v: v.std((0, 1)) / np.sqrt(ess(v))
    return {"mean": mean, "sd": sd, "mean_error": error(f), "sd_error": error(square) / (2 * sd), "ess": np.minimum(ess(f), ess(square)), "r_hat": arviz.rhat({"v": f})["v"].values}


def timing(posterior, controls, start, root):
    "Seconds per step of the same random walk with all examples and with one percent, in rounds in which all take turns."
    small, out = {"batch_size": SETTINGS["batch_size"], "batches": SETTINGS["batches"]}, []
    kinds = {(name, run): small | {"control": control, "run_length": run} for name, control in controls.items() for run in (None, 1)}
    for c in SETTINGS["timing"]["chains"]:
        theta, rounds = start.repeat(-(-c // len(start)), 1)[:c], []
        for k in range(SETTINGS["timing"]["rounds"] + 1):
            turns = [({"batch_size": None}, max(3, 64 // c))] + [(o, max(64, 512 // c)) for o in kinds.values()]
            rounds.append([penalty_metropolis(posterior, theta, draws=draws, burn_in=0, step=0.5, factor=root, seed=k, **o).seconds for o, draws in turns])
        middle, best = np.median(rounds[1:], axis=0), np.min(rounds[1:], axis=0)  # the first round compiles
        for j, (name, run) in enumerate(kinds, 1):
            out.append({"chains": c, "control": name, "drawn": "runs" if run is None else "independent", "full": middle[0], "penalty": middle[j],
                        "ratio": middle[0] / middle[j], "full_best": best[0], "penalty_best": best[j], "best_ratio": best[0] / best[j]})
    return {"steps": out, "load": os.getloadavg()[0], "cores": os.cpu_count()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/penalty"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    posterior, s = problem(), SETTINGS
    controls = {name: NodeControl(posterior, one["nodes"]) if one["nodes"] else None for name, one in s["table"].items()}
    first = piece(options.folder, "pilot", lambda: pilot(posterior, controls["nodes"]))
    last, root = torch.as_tensor(first["last"]), torch.as_tensor(first["root"])
    timed = {name: controls[name] for name in ("nodes", "few", "none")}
    clock = piece(options.folder, "timing", lambda: {"told": json.dumps(timing(posterior, timed, last, root))}, s["timing"])
    runs, p = {"hmc": piece(options.folder, "reference", lambda: reference(posterior), s["reference"])}, s["penalty"]
    runs["penalty"] = piece(options.folder, "penalty", lambda: walk(
        posterior, last[: p["chains"]], control=controls["nodes"], factor=root, proposal="langevin", step=float(first["step"]), burn_in=0,
        **{k: p[k] for k in ("draws", "leapfrog", "seed")}), p)
    for name, one in s["table"].items():
        for kind in ("closed", "none"):
            runs[f"{name} {kind}"] = piece(options.folder, f"{name}_{kind}", lambda: walk(
                posterior, last[: one["chains"]], control=controls[name], factor=root, kind=kind, burn_in=0, seed=8, **{k: v for k, v in one.items() if k not in ("nodes", "chains")}), one)
    told = summary(runs, json.loads(str(clock["told"]))) | {"pilot": json.loads(str(first["told"]))}
    told["seconds"] |= {"pilot": float(first["seconds"]), "timing": float(clock["seconds"])}
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({k: v for k, v in told.items() if k in ("timing", "told", "seconds")}, indent=1))
    for name, z in told["z"].items():
        print(f"{name:12}: largest |z| of means {np.abs(z['mean']).max():.1f}, of spreads {np.abs(z['sd']).max():.1f}; mean spread {told['width'][name]}")


def width(f, hmc):
    "Spread of the function over that of HMC, (k,) averaged over the grid, and its error from the scatter over the chains of both."
    variance = hmc[..., :-1].var((0, 1))
    own = lambda v: ((v[..., :-1] - v[..., :-1].mean((0, 1))) ** 2 / variance).mean((1, 2))  # of every chain
    (found, scatter), (ground, noise) = ((v.mean(), v.std(ddof=1) / len(v) ** 0.5) for v in (own(f), own(hmc)))
    return {"ratio": float((found / ground) ** 0.5), "error": float(0.5 * (found / ground) ** 0.5 * np.hypot(scatter / found, noise / ground))}


def summary(runs, clock):
    "What the notebook shows. The first quarter of the walks of the table is left out; those without control variate have errors from their chains."
    used = {name: run["f"][:, run["f"].shape[1] // 4 * (" " in name) :] for name, run in runs.items()}
    found = {name: moments(f, name.startswith("none")) for name, f in used.items()}
    against = lambda m, what: (m[what] - found["hmc"][what]) / np.hypot(m[what + "_error"], found["hmc"][what + "_error"])
    z = {name: {what: against(m, what).round(2).tolist() for what in ("mean", "sd")} for name, m in found.items() if name != "hmc"}
    plain = {name: {k: np.round(v, 7).tolist() for k, v in m.items()} for name, m in found.items()}
    return {"settings": SETTINGS, "grid": GRID[:, 0].tolist(), "quantities": "the function on the grid, then ln sigma", "found": plain, "z": z,
            "width": {name: width(f, used["hmc"]) for name, f in used.items() if name != "hmc"}, "timing": clock,
            "told": {name: json.loads(str(run["told"])) for name, run in runs.items()}, "seconds": {name: float(run["seconds"]) for name, run in runs.items()}}


if __name__ == "__main__":
    main()
