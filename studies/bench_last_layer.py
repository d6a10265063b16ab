"""How long do fit and prediction of a Bayesian last layer take? uqphys beside laplace-torch, in one run.

    pip install --no-deps laplace-torch==0.3 curvlinops-for-pytorch==3.0.1 asdfghjkl==0.1a4 backpack-for-pytorch==1.7.1 \\
        einops==0.8.2 einconv==0.1.0 torchmetrics==1.9.0 lightning-utilities==0.15.3 unfoldnd==0.2.3
    python studies/bench_last_layer.py              # two minutes; part of `make bench`
    python studies/bench_last_layer.py --quick      # a small rehearsal that judges nothing

(`--no-deps`, since laplace-torch asks for torchvision, which it does not use here, and which comes with another torch.)

What is compared. 20,000 examples, 64 features of a fixed network (one of them the constant 1), 10 outputs whose noise is
correlated. Everybody gets the same frozen network, with the least-squares head that laplace-torch needs as the mode; the time of
finding that head is not counted against it. Timed are the fit (for uqphys with the search for the hyperparameters V and kappa,
for laplace-torch with a given noise and prior precision, the search for the prior precision apart) and the prediction of mean
and covariance at 2,000 new inputs. uqphys always returns joint draws as well, which laplace-torch does not: two of them, the fewest,
in the judged time; its default of 200, which is more than was asked of the other, in a row of its own, whose ratio is told too.
laplace-torch is timed with the fastest of several batch sizes (the full structure
with the one that was fastest in a trial, 1000). It knows one noise variance for all outputs; it is given the
best one, from the residuals. NLL is minus the mean log density of the 2,000 new targets, all ten outputs jointly. With correlated
noise the gain in NLL is that of the matrix V, which laplace-torch does not have. So both are also run once on a second problem, with
the same, independent noise on all outputs ("equal"): there the two must agree, but for the 55 numbers of V that uqphys learns and
nobody needs, which cost 55 / (2 x 20,000) = 0.0014. These rows are not timed against each other.

Processor seconds, one thread, the least of several repetitions in turns, nine (two of the full structure, which takes seconds):
any other work on the machine only adds.
The exit status is 1 if a target is missed or could not be measured.
"""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before anything is loaded

import argparse
import copy
import importlib.metadata
import json
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import multivariate_normal

from uqphys.architectures import MLP
from uqphys.bnn import LastLayer

PEER = ("pip install --no-deps laplace-torch==0.3 curvlinops-for-pytorch==3.0.1 asdfghjkl==0.1a4 backpack-for-pytorch==1.7.1 einops==0.8.2 "
        "einconv==0.1.0 torchmetrics==1.9.0 lightning-utilities==0.15.3 unfoldnd==0.2.3")


class Scale(NamedTuple):
    "How much is done."
    n: int
    test: int
    features: int
    outputs: int
    repetitions: int
    batches: tuple


FULL, QUICK = Scale(20_000, 2_000, 64, 10, 9, (1000, 5000, 20_000)), Scale(1_000, 200, 16, 3, 2, (1000,))


ALLOWED = 0.01  # nats by which NLL may differ where the noise is equal


def problem(scale: Scale, equal: bool = False) -> tuple:
    "(network, train, test): targets linear in the network's features, noise correlated between the outputs, or equal and independent."
    rng = np.random.default_rng(0)
    network = MLP((8,), (scale.features - 1,), outputs=scale.outputs, seed=0)
    A = 0.3 * rng.standard_normal((scale.outputs, scale.features))
    mix = np.tril(rng.standard_normal((scale.outputs, scale.outputs))) * 0.05 + 0.1 * np.eye(scale.outputs)
    mix = 0.1 * np.eye(scale.outputs) if equal else mix

    def draw(n):
        x = rng.standard_normal((n, 8))
        with torch.no_grad():
            return x, network.features(x).numpy() @ A.T + rng.standard_normal((n, scale.outputs)) @ mix.T
    train, test = draw(scale.n), draw(scale.test)
    with torch.no_grad():
        network.head.weight[:] = torch.linalg.lstsq(network.features(train[0]), torch.from_numpy(train[1])).solution.T
    return network, train, test


def clock(work) -> tuple:
    begin = time.process_time()
    found = work()
    return found, time.process_time() - begin


def log_density(mean, covariances, y) -> float:
    "Minus the mean log density of the rows of y, jointly over the outputs."
    L = np.linalg.cholesky(covariances)
    z = np.linalg.solve(L, (y - mean)[:, :, None])[:, :, 0]
    logs = -0.5 * (z**2).sum(1) - np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1) - 0.5 * y.shape[1] * np.log(2 * np.pi)
    i = len(y) // 2
    assert abs(logs[i] - multivariate_normal.logpdf(y[i], mean[i], covariances[i])) < 1e-8
    return float(-logs.mean())


def ours(network, train, test, draws: int, kind: str) -> dict:
    "uqphys: fit, predict, NLL."
    layer, fit = clock(lambda: LastLayer(network, epochs=0, draws=draws, row_covariance=kind).fit(*train))
    belief, predict = clock(lambda: layer.predict(test[0]))
    return dict(program="uqphys", method=f"V {kind}, {draws} joint draws", fit=fit, predict=predict, search=0.0,
                nll=float(-belief.log_prob(test[1]).mean()), error=float(np.sqrt(((belief.mean - test[1]) ** 2).mean())))


class Body(torch.nn.Module):
    "The features of an MLP as a module, in single precision as laplace-torch's users have it."

    def __init__(self, network):
        super().__init__()
        self.shared = network.shared.float()

    def forward(self, x):
        h = self.shared(x)
        return torch.cat([torch.ones_like(h[:, :1]), h], 1)


def theirs(network, train, test, structure: str, batch: int) -> dict:
    "laplace-torch: fit, predict, NLL."
    from laplace import Laplace
    x, y, xt = (torch.from_numpy(a).float() for a in (*train, test[0]))
    net = copy.deepcopy(network)
    head = torch.nn.Linear(net.head.in_features, net.head.out_features, bias=False)
    with torch.no_grad():
        head.weight.copy_(net.head.weight)
    model = torch.nn.Sequential(Body(net), head).eval()
    with torch.no_grad():
        noise = float((model(x) - y).std())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch)
    layer = Laplace(model, "regression", subset_of_weights="last_layer", hessian_structure=structure, sigma_noise=noise, prior_precision=1.0)
    _, fit = clock(lambda: layer.fit(loader))
    _, search = clock(lambda: layer.optimize_prior_precision(method="marglik", n_steps=50))
    (mean, functions), predict = clock(lambda: layer(xt))
    mean, covariances = mean.detach().double().numpy(), functions.detach().double().numpy() + noise**2 * np.eye(y.shape[1])
    return dict(program="laplace-torch", method=structure, batch=batch, fit=fit, predict=predict, search=search,
                nll=log_density(mean, covariances, test[1]), error=float(np.sqrt(((mean - test[1]) ** 2).mean())))


def missing() -> str | None:
    "Why laplace-torch cannot be used; None if it can."
    try:
        import laplace  # noqa: F401
    except ImportError as error:
        return str(error)


def compare(scale: Scale, absent) -> list:
    "All take turns; the least of each time."
    network, train, test = problem(scale)
    works = {f"uqphys {kind} {draws}": (lambda kind=kind, draws=draws: ours(network, train, test, draws, kind))
             for kind, draws in (("best", 2), ("best", 200), ("unknown", 2))}
    if absent is None:
        works |= {f"laplace {s} {b}": (lambda s=s, b=b: theirs(network, train, test, s, b)) for s in ("kron", "full") for b in scale.batches[: None if s == "kron" else 1]}
    for work in works.values():
        work()  # warm-up
    rows = {}
    for repetition in range(scale.repetitions):
        for name, work in works.items():
            if name.startswith("laplace full") and repetition > 1:
                continue  # seconds each
            rows.setdefault(name, []).append(work())
    timed = [found[0] | {k: min(r[k] for r in found) for k in ("fit", "predict", "search")} | dict(repetitions=len(found), noise="correlated") for found in rows.values()]
    same = problem(scale, equal=True)
    once = [ours(*same, 2, "best")] + ([theirs(*same, s, scale.batches[0]) for s in ("kron", "full")] if absent is None else [])
    return timed + [row | dict(repetitions=1, noise="equal") for row in once]


def targets(rows: list) -> list:
    "What has to be reached."
    timed, same, out = [r for r in rows if r["noise"] == "correlated"], [r for r in rows if r["noise"] == "equal"], []
    mine = timed[0]
    for structure in ("kron", "full"):
        peers = [r for r in timed if r["method"] == structure]
        best = min(peers, key=lambda r: r["fit"] + r["predict"]) if peers else None
        ratio = (best["fit"] + best["predict"]) / (mine["fit"] + mine["predict"]) if best else None
        out.append(dict(target=f"fit + predict: times laplace-torch {structure}", value=ratio, limit=20.0, met=None if best is None else ratio >= 20,
                        with_200_draws=best and (best["fit"] + best["predict"]) / (timed[1]["fit"] + timed[1]["predict"])))
        gain = best["nll"] - mine["nll"] if best else None
        out.append(dict(target=f"NLL of laplace-torch {structure} minus ours", value=gain, limit=0.0, met=None if best is None else gain >= 0))
        gain = next((r["nll"] - same[0]["nll"] for r in same if r["method"] == structure), None)
        out.append(dict(target=f"the same where the noise is equal, {structure}", value=gain, limit=-ALLOWED, met=None if gain is None else gain >= -ALLOWED))
    return out


def machine() -> dict:
    "Where it was measured."
    def version(name):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None
    try:
        cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()} | {n: version(n) for n in ("numpy", "torch", "uqphys", "laplace-torch")}


def show(found: dict):
    print(f"{found['machine']['cpu']}; one thread; {found['options']['n']} examples, {found['options']['features']} features, {found['options']['outputs']} outputs; milliseconds\n")
    print(f"  {'program':15s}{'method':42s}{'fit':>9s}{'predict':>9s}{'search':>9s}{'NLL':>10s}")
    for r in found["rows"]:
        method = r["method"] + (f", batches of {r['batch']}" if "batch" in r else "") + (", equal noise" if r["noise"] == "equal" else "")
        print(f"  {r['program']:15s}{method:42s}{1e3 * r['fit']:9.1f}{1e3 * r['predict']:9.1f}{1e3 * r['search']:9.1f}{r['nll']:10.3f}")
    if found["missing"]:
        print(f"\nlaplace-torch cannot be used ({found['missing']}) and was not compared: {PEER}")
    print("\n" + ("targets (a rehearsal: not judged)" if found["quick"] else "targets"))
    for t in found["targets"]:
        verdict = {True: "met", False: "MISSED", None: "NOT MEASURED"}[t["met"]]
        value = "-" if t["value"] is None else f"{t['value']:.3g}"
        print(f"  {t['target']:58s}{value:>8s} >= {t['limit']:<6g}{'' if found['quick'] else verdict}"
              + (f"  ({t['with_200_draws']:.3g} with 200 joint draws)" if t.get("with_200_draws") else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small rehearsal: the same table, nothing is judged")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what laplace-torch has to say about its own dependencies
    torch.set_num_threads(1)
    scale, absent, begin = QUICK if options.quick else FULL, missing(), time.perf_counter()
    found = dict(machine=machine(), quick=options.quick, options=scale._asdict(), load_before=os.getloadavg()[0], missing=absent)
    found["rows"] = compare(scale, absent)
    found["targets"], found["seconds"] = targets(found["rows"]), time.perf_counter() - begin
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    show(found)
    return 0 if options.quick or all(t["met"] for t in found["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
