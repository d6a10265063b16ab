"""How many independent functions does a sampler draw in a second? uqphys beside Pyro's and NumPyro's NUTS, in one run.

    pip install -e '.[bench]'                  # brings NumPyro and JAX
    python studies/bench_bayes.py              # what `make bench` runs, about half an hour on an idle machine
    python studies/bench_bayes.py --quick      # a small rehearsal that judges nothing
    python studies/bench_bayes.py --busy       # measure although the machine is busy; its load is written down

What is compared. One posterior: a 1-50-1 tanh network with a learned width of the noise, 152 coordinates with prior N(0, 1),
100 points with a gap (`NetworkPosterior`). The density of NumPyro's variant is written in JAX, and held against ours at
random weights before anything is timed. Effective samples (ArviZ, bulk) of the function at 13 inputs and of the log
density; the least of the 14 is judged, and so is their median. Judged are samplers that tune themselves, each peer at its best of
the rows below: NumPyro's NUTS with one chain and with 32 (chain_method "vectorized"), single and double precision, trees of depth
10 (its default), 8 and 7; Pyro's with automatic differentiation and with our gradient. Shown beside, and not judged: NumPyro's plain
HMC with 32 chains, to which the length of trajectories is handed that *our* warm-up found (the longest of ours, or its half, which is
their mean). It cannot find one by itself; what is left of the ratio there is the cost of a gradient and of a step.

What is timed. Processor seconds of the draws, one thread, without compilation, set-up and warm-up. The seconds of the warm-up are
beside, and a ratio that counts them too, for runs of these lengths; NumPyro compiles in its warm-up, which is some seconds of
it. Other work on the machine makes all of it slower and not in proportion: without a free core nothing is measured.

The result is a table, the list of targets with met or missed, and studies/bench_bayes.json. The exit status is 1 if a
target is missed or could not be measured.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1") | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
GRID = np.linspace(-1.2, 1.2, 13)[:, None]


class Size(NamedTuple):
    "How much one program does."
    chains: int
    warmup: int
    draws: int  # of each chain
    depth: int = 10  # of NumPyro's trees, at most
    share: float | None = None  # of our tuned length of trajectories, for NumPyro's HMC; None: NUTS


FULL = {"uqphys": Size(32, 400, 200), "uqphys, autograd": Size(8, 200, 40), "pyro, autograd": Size(1, 100, 80), "pyro, our gradient": Size(1, 150, 120),
        "numpyro, NUTS, float32": Size(1, 400, 2000), "numpyro, NUTS, float64": Size(1, 400, 1000),
        "numpyro, NUTS, 32 chains": Size(32, 200, 60), "numpyro, NUTS, depth 8": Size(32, 300, 200, 8), "numpyro, NUTS, depth 7": Size(32, 300, 400, 7),
        "numpyro, HMC, half length": Size(32, 300, 400, share=0.5), "numpyro, HMC, full length": Size(32, 300, 200, share=1.0),
        "numpyro, HMC, half, float64": Size(32, 300, 200, share=0.5)}
QUICK = {name: size._replace(chains=min(size.chains, 4), warmup=20, draws=20) for name, size in FULL.items()}


def posterior():
    "The posterior that all share."
    from uqphys.architectures import MLP
    from uqphys.posteriors import NetworkPosterior
    from uqphys.training import as_samples
    rng = np.random.default_rng(0)
    x = np.sort(np.concatenate([rng.uniform(-1, -0.3, 50), rng.uniform(0.3, 1, 50)]))[:, None]
    return NetworkPosterior(MLP((1,), (50,)), as_samples(x, np.sin(4 * x) + 0.1 * rng.normal(size=x.shape)))


# ---- the programs: each returns theta (chains, draws, P), log density, gradients per draw, warm-up and sampling seconds, facts

def with_torch(name: str, target, size: Size, length):
    "Our sampler, or Pyro's."
    from uqphys.hmc import fused_gradient, hamiltonian_monte_carlo, no_u_turn
    gradient = target.value_and_gradient if "autograd" in name else fused_gradient(target)
    gradient(target.start(2, 1))  # compile
    method = hamiltonian_monte_carlo if name.startswith("uqphys") else no_u_turn
    run = method(gradient, target.start(size.chains, 1), draws=size.draws, warmup=size.warmup, seed=1, progress=False)
    return run.theta.numpy(), run.stats["lp"], run.stats["n_steps"].mean(), run.facts["warmup_seconds"], run.facts["seconds"], {
        k: run.facts[k] for k in ("trajectory", "step_size") if k in run.facts}


def in_jax(target):
    "Minus the log density of theta (P,), in JAX."
    import jax.numpy as jnp
    from uqphys.posteriors import _NOISE_CENTRE
    spread = jnp.asarray(np.concatenate([block.spread.numpy().ravel() for block in target.prior.blocks]))
    x, y = (jnp.asarray(values.numpy()[:, 0]) for values in (target.inputs, target.targets))
    constant = 0.5 * target.n * np.log(2 * np.pi)

    def potential(z):
        w = z["theta"] * spread
        f = w[100] + w[101:151] @ jnp.tanh(w[:50, None] * x + w[50:100, None])
        log_sigma = _NOISE_CENTRE + w[151]
        return 0.5 * (((y - f) * jnp.exp(-log_sigma)) ** 2).sum() + target.n * log_sigma + constant + 0.5 * (z["theta"] ** 2).sum()
    return potential


def with_numpyro(name: str, target, size: Size, length):
    "NumPyro's NUTS or HMC: a run after the warm-up, less the seconds in which NumPyro sets it up (it traces anew each time)."
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.infer import HMC, MCMC, NUTS
    numpyro.enable_x64("float64" in name)
    potential, start = in_jax(target), target.start(max(size.chains, 2), 1)
    ours, theirs = ((-target.log_density(start)).numpy(), [float(potential({"theta": jnp.asarray(t)})) for t in start.numpy()])
    if not np.allclose(ours, theirs, rtol=1e-10 if "float64" in name else 1e-3):
        raise RuntimeError(f"{name} has another density: {theirs}, not {ours}")
    if size.share is None:
        kernel = NUTS(potential_fn=potential, max_tree_depth=size.depth)
    else:
        kernel = HMC(potential_fn=potential, trajectory_length=size.share * length, target_accept_prob=0.7)
    chain = MCMC(kernel, num_warmup=size.warmup, num_samples=size.draws, num_chains=size.chains, chain_method="vectorized", progress_bar=False)
    start, fields = {"theta": jnp.asarray(start.numpy()[0] if size.chains == 1 else start.numpy())}, ("num_steps", "potential_energy")
    begin = time.process_time()
    chain.warmup(jax.random.PRNGKey(1), init_params=start, extra_fields=fields)
    jax.block_until_ready(chain.post_warmup_state)
    warm = time.process_time() - begin
    state, runs = chain.post_warmup_state, []
    for draws in (2, 2, size.draws, size.draws):  # the first of a length compiles; two draws tell what it costs to set up a run
        chain.num_samples, chain.post_warmup_state, begin = draws, state, time.process_time()
        chain.run(jax.random.PRNGKey(2 + len(runs)), extra_fields=fields)
        theta = np.array(jax.block_until_ready(chain.get_samples(group_by_chain=True)["theta"]), dtype=float)
        told, seconds = chain.get_extra_fields(group_by_chain=True), time.process_time() - begin
        runs.append((seconds, float(np.max(told["num_steps"], 0).sum())))  # chains wait for the longest trajectory
    (few_seconds, few), (all_seconds, steps) = runs[1], runs[3]
    seconds = (all_seconds - few_seconds) / (steps - few) * steps
    density = -np.array(told["potential_energy"], dtype=float)
    return theta, density, float(np.mean(told["num_steps"])), warm, seconds, dict(setup_seconds=all_seconds - seconds)


def measure(name: str, size: Size, length=None) -> dict:
    "One row of the table; length: of our trajectories."
    import arviz
    import torch
    torch.set_num_threads(1)
    target = posterior()
    theta, density, steps, warm, seconds, facts = (with_numpyro if name.startswith("numpyro") else with_torch)(name, target, size, length)
    f = target.functions(torch.tensor(theta).flatten(0, 1), GRID)[0].reshape(*theta.shape[:2], -1)
    values = arviz.convert_to_dataset({"q": np.concatenate([f, density[..., None]], -1)})
    ess = arviz.ess(values)["q"].values
    r_hat = float(arviz.rhat(values)["q"].values.max()) if len(theta) > 1 else np.nan
    return dict(program=name, chains=size.chains, warmup=size.warmup, draws=size.draws, gradients_per_draw=float(steps), warmup_seconds=warm, seconds=seconds,
                microseconds_per_gradient=1e6 * seconds / (steps * density.size), ess_least=float(ess.min()), ess_median=float(np.median(ess)),
                ess_log_density=float(ess[-1]), r_hat=r_hat if np.isfinite(r_hat) else None, least_per_second=float(ess.min() / seconds), median_per_second=float(np.median(ess) / seconds),
                least_per_second_with_warmup=float(ess.min() / (warm + seconds)), **facts,
                mean=f.mean((0, 1)).tolist(), error=(f.std((0, 1)) / np.sqrt(ess[:-1])).tolist())


# ---- targets and the whole

def tunes_itself(row: dict) -> bool:
    "Whether a sampler finds its own length of trajectories."
    return ", HMC" not in row["program"]


def targets(rows: list) -> list:
    "What has to be reached; None if it could not be measured."
    ours, out = next((r for r in rows if r["program"] == "uqphys"), None), []
    for peer, limit in (("pyro", 50.0), ("numpyro", 1.5)):
        theirs = [r for r in rows if r["program"].split(",")[0] == peer and tunes_itself(r)]
        for kind in ("least", "median"):
            value = ours[f"{kind}_per_second"] / max(r[f"{kind}_per_second"] for r in theirs) if ours and theirs else None
            text = f"{'least' if kind == 'least' else 'median'} effective samples a second: times {peer}'s NUTS at its best"
            out.append(dict(target=text, value=value, limit=limit, met=None if value is None else bool(value >= limit)))
    return out


def with_our_length(rows: list) -> list:
    "Ratios to peers that were handed the length of our trajectories: shown, not judged."
    ours = next(r for r in rows if r["program"] == "uqphys")
    return [dict(program=r["program"]) | {kind: ours[f"{kind}_per_second"] / r[f"{kind}_per_second"] for kind in ("least", "median")} for r in rows if not tunes_itself(r)]


def with_warmup(rows: list) -> list:
    "The same ratio of the least effective samples a second, warm-up counted: shown, not judged, for it depends on the lengths of the runs."
    best = lambda peer: max((r["least_per_second_with_warmup"] for r in rows if r["program"].split(",")[0] == peer and tunes_itself(r)), default=None)
    ours = next(r for r in rows if r["program"] == "uqphys")["least_per_second_with_warmup"]
    return [dict(peer=peer, value=ours / theirs) for peer in ("pyro", "numpyro") if (theirs := best(peer))]


def disagreement(rows: list) -> list:
    "Largest |z| of each program's mean function against ours, at the 13 inputs."
    ours = next(r for r in rows if r["program"] == "uqphys")
    z = lambda r: np.abs(np.subtract(r["mean"], ours["mean"])) / np.hypot(r["error"], ours["error"])
    return [dict(program=r["program"], largest_z=float(z(r).max())) for r in rows if r is not ours]


def part(name: str, quick: bool, length):
    "Measure in a process of its own, whose threads are limited before anything is loaded; None if the program is not installed."
    if name.startswith("numpyro") and version("numpyro") is None:
        return None
    command = [sys.executable, __file__, "--part", name, *(["--quick"] if quick else []), *(["--length", str(length)] if length else [])]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"bench_bayes: {name} stopped, see above")
    print(f"  {name} done", file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict:
    try:
        cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()} | {
        name: version(name) for name in ("numpy", "numba", "torch", "pyro-ppl", "numpyro", "jax", "arviz")}


def show(found: dict):
    "The table and the targets."
    print(f"{found['machine']['cpu']}, one thread; 1-50-1 network, 100 points; processor seconds\n")
    print(f"{'program':32s}{'chains':>7s}{'draws':>7s}{'grad/draw':>11s}{'us/grad':>9s}{'warm s':>8s}{'s':>8s}{'least ESS/s':>13s}{'with warm-up':>14s}{'median ESS/s':>14s}{'R-hat':>7s}")
    for r in found["rows"]:
        r_hat = "-" if r["r_hat"] is None else f"{r['r_hat']:.3f}"
        print(f"{r['program']:32s}{r['chains']:7d}{r['draws']:7d}{r['gradients_per_draw']:11.0f}{r['microseconds_per_gradient']:9.1f}"
              f"{r['warmup_seconds']:8.1f}{r['seconds']:8.2f}{r['least_per_second']:13.2f}{r['least_per_second_with_warmup']:14.2f}{r['median_per_second']:14.2f}{r_hat:>7s}")
    print("\nNumPyro's HMC, handed the length that our warm-up found: ours is " + ", ".join(
          f"{t['least']:.3g} (least), {t['median']:.3g} (median) times {t['program']}" for t in found["with_our_length"]))
    print("\nleast ESS/s with the warm-up counted, times the best of: " + ", ".join(f"{t['peer']} {t['value']:.3g}" for t in found["with_warmup"]))
    print("\nlargest |z| of the mean function against uqphys: " + ", ".join(f"{d['program']} {d['largest_z']:.1f}" for d in found["disagreement"]))
    if found["machine"]["numpyro"] is None:
        print("\nnumpyro is missing and was not compared: pip install numpyro==0.22.0 jax==0.10.2")
    print("\n" + ("targets (a rehearsal: not judged)" if found["quick"] else "targets"))
    for t in found["targets"]:
        verdict = {True: "met", False: "MISSED", None: "NOT MEASURED"}[t["met"]]
        value = "-" if t["value"] is None else f"{t['value']:.3g}"
        print(f"  {t['target']:66s}{value:>8s} >= {t['limit']:<6g}{'' if found['quick'] else verdict}")


def run(sizes: dict, options) -> dict:
    "All rows, one after the other."
    begin, load = time.perf_counter(), os.getloadavg()[0]
    if load > os.cpu_count() - 0.5 and not (options.busy or options.quick):
        raise SystemExit(f"bench_bayes: {load:.1f} processes are running on {os.cpu_count()} cores; without a free core seconds mean little (--busy: all the same)")
    rows = []
    for name in sizes:
        row = part(name, options.quick, rows[0]["trajectory"] if rows else None)
        rows += [row] if row else []
    return dict(machine=machine(), quick=options.quick, load_before=load, rows=rows, seconds=time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small rehearsal: the same table, nothing is judged")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--busy", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--judge", action="store_true", help="measure nothing: judge the rows of the file once more")
    parser.add_argument("--part", choices=FULL, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    if options.part:
        print(json.dumps(measure(options.part, sizes[options.part], options.length)))
        return 0
    if options.judge:
        found = json.loads(options.out.read_text())
    else:
        found = run(sizes, options)
    rows = found["rows"]
    found |= dict(targets=targets(rows), with_our_length=with_our_length(rows), with_warmup=with_warmup(rows), disagreement=disagreement(rows))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    show(found)
    return 0 if options.quick or all(t["met"] for t in found["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
