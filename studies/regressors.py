"""Which regressor for what? Six of them on the same three tasks; notebook 216_regressors shows the results.

    python studies/regressors.py

Every repetition has its own chains, its own seeds and its own trainings. Finished pieces are kept in results/regressors/,
so that an interrupted study continues where it stopped; the summary goes to studies/regressors.json. Seconds are processor
seconds with one thread: on an idle machine the same as those of a clock, and no others on a busy one.
"""

import argparse
import functools
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from tqdm import tqdm

from uqphys.architectures import MLP, LocalEnergyNet, environment, point_group
from uqphys.convolutions import LatticeCNN, transform_lattice
from uqphys.datasets import Samples, samples, split_by_chain
from uqphys.models import Ising, Phi4
from uqphys.sampling import one_thread, sample
from uqphys.training import train, write_file

SETTINGS = dict(
    length=8, large=16, chains=20, thin=20, burn_in=300, held_out=0.2,
    test=2000, test_large=400, test_chains=40, moved=100,
    ising=dict(J2=0.1, K=0.2, beta=1 / 2.9), phi4=dict(m2=-1.25, lam=1.0),
    mlp=dict(hidden=[64], learning_rate=1e-3, epochs=500, patience=100, weight_decay=[3.0, 10.0]),
    cnn=dict(channels=[8, 8], kernel=3, dtype="float32", optimiser="lbfgs", epochs=30, patience=8),
    local=dict(hidden=[16], shells=2, learning_rate=2e-2, epochs=400, patience=100),
    boosting=dict(learning_rate=[0.1, 0.3], max_leaf_nodes=[4, 8, 31], min_samples_leaf=5, max_iter=2000, n_iter_no_change=20),
    ridge=dict(penalty=[1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
)
PIECES = [("energy", 500), ("squared force", 500), ("structure factor", 500), ("energy", 120), ("energy", 2000)]
TOO_DEAR = {("energy", 2000): ("LatticeCNN",)}  # a minute of one core for each training


# ---- three tasks: configurations, and one number of each that is wanted

def model_of(task, length):
    "The lattice model that the configurations of a task come from, and its inverse temperature."
    if task == "squared force":
        return Phi4.from_mass((length, length), **SETTINGS["phi4"]), 1.0
    couplings = {k: v for k, v in SETTINGS["ising"].items() if k != "beta"}
    return Ising((length, length), **couplings), SETTINGS["ising"]["beta"]


def target(task, x):
    "The wanted number (n,) of configurations x (n, L, L)."
    model, sites = model_of(task, x.shape[1])[0], x[0].size
    if task == "energy":
        return model.energy(x) / sites
    if task == "squared force":
        return (np.asarray(model.force(x)) ** 2).mean((1, 2))
    waves = np.abs(np.fft.fft2(x)) ** 2 / sites
    return 0.5 * (waves[:, 0, 1] + waves[:, 1, 0])


def draw(task, length, n, chains, seed):
    "n configurations from independent chains, with their targets, as `Samples`."
    model, beta = model_of(task, length)
    run = sample(model, beta, draws=n // chains, chains=chains, burn_in=SETTINGS["burn_in"], thin=SETTINGS["thin"], seed=seed, progress=False)
    wanted = lambda run: target(task, run["config"].values.reshape(-1, length, length)).reshape(run["config"].shape[:2])
    return samples(run, wanted)


@functools.lru_cache(maxsize=1)
def data_of(task, n, repetition):
    "What to learn from, and fresh chains to be judged by, on the same and on a larger lattice."
    s, seed = SETTINGS, 10_000 * (1 + repetition) + n
    return (draw(task, s["length"], n, s["chains"], seed), draw(task, s["length"], s["test"], s["test_chains"], seed + 3000),
            draw(task, s["large"], s["test_large"], s["test_chains"], seed + 6000))


def hand_made(x):
    "Features (n, p) of configurations (n, L, L) that a physicist would write down: means of what the sites see, and the magnetisation."
    seen, m = environment(x, powers=x.dtype.kind == "f").mean(-2).numpy(), x.mean((1, 2))
    return np.column_stack([seen, np.abs(m), m**2])


# ---- six regressors: fit(data, learn, judge, seed) returns (predict, number of parameters, seconds of the fit, what was chosen)

def parts(data, seed):
    "The rows to learn from and to judge by: the same whole chains that `train` would choose."
    return split_by_chain(data, (1 - SETTINGS["held_out"], SETTINGS["held_out"]), seed=seed)


def error_of(predict, data):
    "Root-mean-square error of predictions."
    return float(np.sqrt(np.mean((predict(data.x) - data.y[:, 0]) ** 2)))


def fit_network(make, data, seed, **options):
    "Train a network of the project; extensive ones learn sums over the lattice."
    net, start = make(), time.process_time()
    scale = data.x[0].size if net.extensive else 1
    history = train(net, Samples(data.x, data.y * scale, data.chain, data.run), seed=seed, validation=SETTINGS["held_out"], progress=False, **options)

    def predict(x):
        with torch.no_grad():
            return net(x)[:, 0].numpy() / (x[0].size if net.extensive else 1)

    said = dict(epochs=len(history.training), best=history.best_epoch)
    return predict, sum(p.numel() for p in net.parameters()), time.process_time() - start, said


def fit_mlp(task, data, seed):
    "Two strengths of weight decay; the held-out chains choose."
    s, fits = SETTINGS["mlp"], {}
    options = dict(learning_rate=s["learning_rate"], epochs=s["epochs"], patience=s["patience"], batch_size=max(64, len(data) // 8))
    make = lambda: MLP(data.x.shape[1:], hidden=s["hidden"], flip_symmetric=True, seed=seed)
    for decay in s["weight_decay"]:
        fits[decay] = fit_network(make, data, seed, weight_decay=decay, **options)
    held = data.take(parts(data, seed)[1])
    best = min(fits, key=lambda decay: error_of(fits[decay][0], held))
    return *fits[best][:3], fits[best][3] | dict(weight_decay=best, tuning=sum(f[2] for f in fits.values()))


def fit_cnn(task, data, seed):
    s = SETTINGS["cnn"]
    shape = dict(channels=s["channels"], kernel=s["kernel"], dtype=s["dtype"], values="real" if data.x.dtype.kind == "f" else "spins")
    make = lambda: LatticeCNN(2, **shape, lattice_symmetric=True, flip_symmetric=True, extensive=task != "structure factor", seed=seed)
    return fit_network(make, data, seed, optimiser=s["optimiser"], epochs=s["epochs"], patience=s["patience"])


def fit_local(task, data, seed):
    s = SETTINGS["local"]
    make = lambda: LocalEnergyNet(hidden=s["hidden"], shells=s["shells"], values="real" if data.x.dtype.kind == "f" else "spins", seed=seed)
    return fit_network(make, data, seed, learning_rate=s["learning_rate"], epochs=s["epochs"], patience=s["patience"])


def fit_boosting(see, task, data, seed):
    "Gradient boosting with early stopping; learning rate and size of the trees are chosen by the held-out chains."
    s, (learn, judge), begin, found = SETTINGS["boosting"], parts(data, seed), time.process_time(), None
    z, y = see(data.x), data.y[:, 0]
    seeing, common = time.process_time() - begin, {k: s[k] for k in ("min_samples_leaf", "max_iter", "n_iter_no_change")}
    for rate, leaves in itertools.product(s["learning_rate"], s["max_leaf_nodes"]):
        start = time.process_time()
        trees = HistGradientBoostingRegressor(learning_rate=rate, max_leaf_nodes=leaves, early_stopping=True, tol=0.0, random_state=seed, **common)
        trees.fit(z[learn], y[learn], X_val=z[judge], y_val=y[judge])
        trial = np.mean((trees.predict(z[judge]) - y[judge]) ** 2), trees, time.process_time() - start, rate, leaves
        found = trial if found is None or trial[0] < found[0] else found
    _, trees, seconds, rate, leaves = found
    size = sum(tree.get_n_leaf_nodes() for stage in trees._predictors for tree in stage)
    said = dict(learning_rate=rate, max_leaf_nodes=leaves, trees=trees.n_iter_, tuning=time.process_time() - begin)
    return lambda x: trees.predict(see(x)), size, seeing + seconds, said


def fit_ridge(task, data, seed):
    "Linear in the hand-made features; the penalty is chosen by the held-out chains."
    (learn, judge), start = parts(data, seed), time.process_time()
    z, y = hand_made(data.x), data.y[:, 0]
    centre, spread, middle = z[learn].mean(0), z[learn].std(0), y[learn].mean()
    u, fits = (z - centre) / spread, {}
    for penalty in SETTINGS["ridge"]["penalty"]:
        gram = u[learn].T @ u[learn] + penalty * len(learn) * np.eye(u.shape[1])
        fits[penalty] = np.linalg.solve(gram, u[learn].T @ (y[learn] - middle))
    best = min(fits, key=lambda penalty: np.mean((u[judge] @ fits[penalty] + middle - y[judge]) ** 2))
    seconds = time.process_time() - start
    return lambda x: (hand_made(x) - centre) / spread @ fits[best] + middle, len(centre) + 1, seconds, dict(penalty=best)


def raw(x):
    "A configuration as a list of numbers."
    return x.reshape(len(x), -1).astype(float)


REGRESSORS = {
    "MLP": fit_mlp,
    "LatticeCNN": fit_cnn,
    "LocalEnergyNet": fit_local,
    "boosting, raw": functools.partial(fit_boosting, raw),
    "boosting, features": functools.partial(fit_boosting, hand_made),
    "ridge, features": fit_ridge,
}
ANY_LENGTH = tuple(name for name in REGRESSORS if name not in ("MLP", "boosting, raw"))


# ---- one piece: one training, and what it is worth

def largest_change(predict, x):
    "Largest change of a prediction under turning, mirroring, shifting and flipping (largest of all configurations and images)."
    before, worst = predict(x), 0.0
    for g, shift, sign in itertools.product(point_group(2), ((0, 0), (1, 3)), (1, -1)):
        moved = np.ascontiguousarray(np.roll(transform_lattice(sign * x, g, 2), shift, (1, 2)))
        worst = max(worst, float(np.abs(predict(moved) - before).max()))
    return worst


def piece(task, n, repetition, name):
    "Train one regressor on one repetition's data and judge it on fresh chains."
    begin = time.process_time()
    with one_thread():
        data, test, large = data_of(task, n, repetition)
        predict, size, seconds, said = REGRESSORS[name](task, data, repetition)
        out = dict(task=task, n=n, repetition=repetition, regressor=name, parameters=size, seconds=seconds, chosen=said,
                   error=error_of(predict, test), spread=float(test.y.std()), change=largest_change(predict, test.x[:: len(test) // SETTINGS["moved"]]))
        if name in ANY_LENGTH:
            out |= dict(error_large=error_of(predict, large), spread_large=float(large.y.std()))
    return out | dict(seconds_in_all=time.process_time() - begin)


def settings_of(name):
    "The settings that a regressor's pieces depend on: those of the data, and its own."
    own = {"MLP": "mlp", "LatticeCNN": "cnn", "LocalEnergyNet": "local", "ridge, features": "ridge"}.get(name, "boosting")
    return {k: v for k, v in SETTINGS.items() if k == own or k not in ("mlp", "cnn", "local", "boosting", "ridge")}


def finished(file, job):
    "A piece from an earlier run, if it was made with the same settings; else it is made and kept."
    settings = settings_of(job[-1])
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["settings"] == json.loads(json.dumps(settings)):
            return kept["piece"]
    done = piece(*job)
    write_file(file, json.dumps(dict(settings=settings, piece=done)))
    return done


# ---- the summary

def mean_and_error(values):
    "Mean over repetitions, its standard error, and the scatter."
    scatter = float(np.std(values, ddof=1))
    return {"value": float(f"{np.mean(values):.6g}"), "error": float(f"{scatter / len(values) ** 0.5:.3g}"), "scatter": float(f"{scatter:.3g}")}


def summary(pieces):
    "One row for each task, number of configurations, and regressor."
    rows = []
    for (task, n), name in itertools.product(PIECES, REGRESSORS):
        if name in TOO_DEAR.get((task, n), ()):
            continue
        chosen = [p for p in pieces if (p["task"], p["n"], p["regressor"]) == (task, n, name)]
        row = dict(task=task, n=n, regressor=name, repetitions=len(chosen))
        for key in ("parameters", "seconds", "error", "spread", "change", "error_large", "spread_large"):
            row[key] = mean_and_error([p[key] for p in chosen]) if key in chosen[0] else None
        row["unexplained"] = mean_and_error([(p["error"] / p["spread"]) ** 2 for p in chosen])
        row["unexplained_large"] = mean_and_error([(p["error_large"] / p["spread_large"]) ** 2 for p in chosen]) if name in ANY_LENGTH else None
        row["tuning"] = mean_and_error([p["chosen"].get("tuning", p["seconds"]) for p in chosen])
        row["errors"] = [float(f"{p['error']:.4g}") for p in chosen]
        row["chosen"] = [{k: v for k, v in p["chosen"].items() if k != "tuning"} for p in chosen]
        rows.append(row)
    return dict(settings=SETTINGS, seconds=sum(p["seconds_in_all"] for p in pieces), rows=rows)


def dump(told):
    "JSON with one line for each row."
    head = json.dumps({k: v for k, v in told.items() if k != "rows"}, indent=1)
    return head[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(json.dumps(row) for row in told["rows"]) + "\n ]\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("results/regressors"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [(*at, r, name) for at, r, name in itertools.product(PIECES, range(options.repetitions), REGRESSORS) if name not in TOO_DEAR.get(at, ())]
    pieces = []
    for job in tqdm(jobs, desc="trainings"):
        file = options.folder / ("-".join(map(str, job)).replace(", ", "-").replace(" ", "-") + ".json")
        pieces.append(finished(file, job))
    told = summary(pieces)
    write_file(options.out, dump(told))
    for row in told["rows"]:
        print(f"{row['task']:18s} {row['n']:5d} {row['regressor']:20s} {row['parameters']['value']:8.0f} {row['seconds']['value']:6.2f} s "
              f"{row['error']['value']:.2e} ± {row['error']['error']:.0e} {row['unexplained']['value']:.1e}")


if __name__ == "__main__":
    main()
