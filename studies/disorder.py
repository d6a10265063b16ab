"""Few labels for a defect in a disordered alloy: are the intervals right, how many labels are needed, and which method says the law best?

    python studies/disorder.py              # about 20 minutes on two cores; writes studies/disorder.json, and goes on where it was stopped
    python studies/disorder.py --quick      # two repetitions of each part; writes and judges nothing

The vacancy of `uqphys.defects` in a random alloy with 30 % B; its density of states is known exactly. The network sees the first shell.
Coverage: 300 labels, all random, or 150 random and 150 chosen for 1750 K; ln Z and mean energy with their 95 % intervals at six
temperatures, 200 times. Trap: random labels of a vacancy that relaxes where labels hardly ever are, 100 times. Labels: the error
of the concentration with 100 to 800 labels, half of them chosen, 30 times each. Table: CRPS and log score on 1000 new environments,
300 labels, ten drawings. Targets: coverage of 92 to 98 % at 2000, 1750 and 1500 K, and a 5 %
error of the concentration with a twentieth of the labels that brute force needs; the exit status is 1 if one is missed.
"""
import argparse
import json
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.special import logsumexp
from tqdm import tqdm

from uqphys.committees import EnsembleNet
from uqphys.defects import BOLTZMANN, Vacancy, brute_force_labels, exact_density, first_shell_classes, random_environments, shell_sums
from uqphys.architectures import MLP
from uqphys.disorder import choose_environments, importance_log_z, thermal_defects
from uqphys.gp import ExactGP
from uqphys.mdn import MixtureDensityNet

FILE, COMPOSITION, LABELS, TARGET = Path(__file__).with_suffix(".json"), 0.3, 300, (0.92, 0.98)
TEMPERATURES = np.array([2500, 2000, 1750, 1500, 1250, 1000])
JUDGED, CHOSEN_FOR = [1, 2, 3], 1750  # 2000, 1750 and 1500 K
BETA = 1 / (BOLTZMANN * TEMPERATURES)
REPETITIONS = {"random": 200, "chosen": 200, "labels 100": 30, "labels 200": 30, "labels 400": 30, "labels 800": 30, "table": 10, "trap": 100}
VACANCY = Vacancy()
TRAP = Vacancy(relaxation=0.6, threshold=6.0)  # it relaxes in one environment of 1500, and then by a lot
EXACT, EXACT_TRAP = (exact_density(vacancy, COMPOSITION) for vacancy in (VACANCY, TRAP))
LEVELS = (np.arange(40) + 0.5) / 40  # of the quantile regressor: the midpoint rule for the CRPS

CLASSES, _counts = first_shell_classes()
_B = (CLASSES[:, 0] + 12) // 2
DESCRIPTORS, LOG_WEIGHTS = CLASSES / (12, 24), np.log(_counts) + _B * np.log(COMPOSITION) + (12 - _B) * np.log(1 - COMPOSITION)
FIRST = 1 - 2 * (np.arange(4096)[:, None] >> np.arange(12) & 1)
CLASS_OF_FIRST = shell_sums(np.concatenate([FIRST, np.ones((4096, 30), int)], 1))[:, :2]


def labelled(n, seed, vacancy=VACANCY):
    "Random environments: what the network sees of them, and their energies."
    e = random_environments(COMPOSITION, n, seed)
    return shell_sums(e)[:, :2] / (12, 24), vacancy.energy(e, seed=seed + 1)[:, None]


def labelled_as(classes, seed):
    "Environments with given first shells, all else random: their energies."
    e, rng = random_environments(COMPOSITION, len(classes), seed), np.random.default_rng([seed, 1])
    for k, row in enumerate(classes):
        e[k, :12] = FIRST[rng.choice(np.flatnonzero((CLASS_OF_FIRST == row).all(1)))]
    return VACANCY.energy(e, seed=seed + 1)[:, None]


def labels(n, chosen, seed):
    "n labels, all random or half of them chosen; and ln p/q of each, where q is the law of all n together (Veach and Guibas' balance heuristic)."
    if not chosen:
        return *labelled(n, seed), np.zeros(n)
    d, E = labelled(n // 2, seed)
    first = MixtureDensityNet(components=3, members=8, steps=300, seed=seed + 3).fit(d, E, progress=False)
    beta = 1 / (BOLTZMANN * CHOSEN_FOR)
    which, _ = choose_environments(first, DESCRIPTORS, beta, n - n // 2, seed + 4, log_weights=LOG_WEIGHTS)
    each = LOG_WEIGHTS + first.distribution(DESCRIPTORS).tilt(beta)[0]
    q = np.exp(each - logsumexp(each, axis=1, keepdims=True)).mean(0)
    d = np.concatenate([d, DESCRIPTORS[which]])
    row = (abs(d[:, None] - DESCRIPTORS).max(-1) < 1e-9).argmax(1)
    return d, np.concatenate([E, labelled_as(CLASSES[which], seed + 2)]), -np.log(0.5 + 0.5 * q / np.exp(LOG_WEIGHTS))[row]


def thermal(d, E, log_ratio, seed, exact=EXACT):
    "What labels say at six temperatures: errors made, errors told, whether the interval holds the truth, and what is unseen."
    net = MixtureDensityNet(components=3, seed=seed).fit(d, E, progress=False)
    report = thermal_defects(net, DESCRIPTORS, BETA, log_weights=LOG_WEIGHTS, energies=E)
    found = {"unseen": report.unseen, "importance": [importance_log_z(E, log_ratio, b)[0] for b in BETA] - exact.log_z(BETA)}
    for name, truth in (("log_z", exact.log_z(BETA)), ("mean_energy", exact.mean_energy(BETA))):
        value, error = report.estimate(name)
        low, high = report.interval(name)
        found |= {name: value - truth, f"{name}_error": error, f"{name}_inside": ((low < truth) & (truth < high)).astype(int)}
    return {key: np.round(value, 5).tolist() for key, value in found.items()}


def quantile_scores(quantiles, y, least=1.7e-4):
    """CRPS and log score of predicted quantiles (n, 40) at y (n,): the distribution function is linear between them, the tails exponential.

    least: smallest distance between neighbours, so that no density exceeds that of a mixture's narrowest component.
    """
    q = np.maximum.accumulate(np.sort(quantiles, axis=1) - least * np.arange(len(LEVELS)), axis=1) + least * np.arange(len(LEVELS))
    pinball = (np.where(y[:, None] < q, 1 - LEVELS, LEVELS) * abs(y[:, None] - q)).mean(1)
    density, end = (LEVELS[1] - LEVELS[0]) / np.diff(q, axis=1), LEVELS[0]
    rate = [(LEVELS[2] - LEVELS[0]) / gap / end for gap in (q[:, 2] - q[:, 0], q[:, -1] - q[:, -3])]  # of the tails
    inside = np.take_along_axis(density, np.clip((y[:, None] > q).sum(1) - 1, 0, len(LEVELS) - 2)[:, None], 1)[:, 0]
    below, above = np.maximum(q[:, 0] - y, 0), np.maximum(y - q[:, -1], 0)
    log_tail = np.where(below > 0, np.log(end * rate[0]) - rate[0] * below, np.log(end * rate[1]) - rate[1] * above)
    return 2 * pinball.mean(), -np.where((below > 0) | (above > 0), log_tail, np.log(inside)).mean()


def table(seed):
    "CRPS and negative log density of each method, from the same labels at the same new environments."
    from sklearn.ensemble import GradientBoostingRegressor

    (d, E), (new, truth) = labelled(LABELS, seed), labelled(1000, seed + 500)
    learners = {"mixture density network": MixtureDensityNet(seed=seed), "the same, one component": MixtureDensityNet(components=1, seed=seed),
                "mean-variance committee": EnsembleNet(MLP((2,), hidden=(16,)), noise="heteroscedastic", seed=seed), "Gaussian process": ExactGP(seed=seed)}
    found = {}
    for name, learner in learners.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # doubts of a committee with few rows to calibrate on
            score = learner.fit(d, E, progress=False).predict(new).score(truth)
        found[name] = [score["crps"], score["negative_log_density"], score["coverage_90"]]
    q = np.stack([GradientBoostingRegressor(loss="quantile", alpha=a, n_estimators=60, max_depth=2, min_samples_leaf=10, random_state=seed).fit(d, E[:, 0]).predict(new) for a in LEVELS], 1)
    found["quantile regression (boosting)"] = [*quantile_scores(q, truth[:, 0]), float(((q[:, 1:3].mean(1) < truth[:, 0]) & (truth[:, 0] < q[:, -3:-1].mean(1))).mean())]
    return {name: np.round(values, 5).tolist() for name, values in found.items()}


def repetition(part, r):
    "One repetition of a part; its seed is its number, apart from those of the others."
    seed = 10_000 * list(REPETITIONS).index(part) + 10 * r
    if part == "table":
        return table(seed)
    if part == "trap":
        return thermal(*labelled(LABELS, seed, TRAP), np.zeros(LABELS), seed, EXACT_TRAP)
    return thermal(*(labels(int(part.split()[1]), True, seed) if part.startswith("labels") else labels(LABELS, part == "chosen", seed)), seed)


def summarise(rows):
    "Coverage, errors and warnings by part; labels needed for 5 % at each temperature, and brute force's; the table's means and errors."
    told = {}
    for part in rows:
        if part == "table":
            names = rows[part][0]
            values = {name: np.array([row[name] for row in rows[part]]) for name in names}
            told[part] = {name: [v.mean(0).round(4).tolist(), (v.std(0, ddof=1) / np.sqrt(len(v))).round(4).tolist()] for name, v in values.items()}
            continue
        column = lambda key: np.array([row[key] for row in rows[part]])
        told[part] = {f"{name} coverage": column(f"{name}_inside").mean(0).round(4).tolist() for name in ("log_z", "mean_energy")}
        told[part] |= {"rms error of ln Z": np.sqrt((column("log_z") ** 2).mean(0)).round(4).tolist(), "told": np.sqrt((column("log_z_error") ** 2).mean(0)).round(4).tolist(),
                       "error of c": np.sqrt((np.expm1(column("log_z")) ** 2).mean(0)).round(4).tolist(),
                       "error of c without a network": np.sqrt((np.expm1(column("importance")) ** 2).mean(0)).round(4).tolist(), "warned": (column("unseen") > 0.5).mean(0).round(4).tolist()}
    return told


SIZES = (100, 200, 400, 800)


def labels_needed(summary):
    """For each temperature the labels for a 5 % error of c: from errors that fall like n^-1/2 through all sizes (logarithmic mean).

    Of the network, of importance sampling with the same labels but no network, of brute force. Above 800 it is an extrapolation.
    """
    needed = lambda key: np.exp(np.mean([np.log(n * (np.array(summary[f"labels {n}"][key]) / 0.05) ** 2) for n in SIZES], 0))
    return needed("error of c"), needed("error of c without a network"), brute_force_labels(EXACT, BETA)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two repetitions of each part; write and judge nothing")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    quick, workers = (options := parser.parse_args()).quick, options.workers
    rows = json.loads(FILE.read_text())["rows"] if FILE.exists() and not quick else {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part, count in REPETITIONS.items():
            done = rows.setdefault(part, [])
            left = range(len(done), 2 if quick else count)
            for row in tqdm(pool.map(repetition, [part] * len(left), left), desc=part, total=len(left)):
                done.append(row)
                if not quick:
                    write(rows)
    summary = summarise(rows)
    ours, importance, brute = labels_needed(summary)
    print(json.dumps(summary, indent=1))
    print("labels for 5 %:", ours.round(), "without a network:", importance.round(), "brute force:", brute.round())
    inside = np.array([summary[part]["log_z coverage"] for part in ("random", "chosen")])[:, JUDGED]
    return int(not quick and (not ((TARGET[0] <= inside) & (inside <= TARGET[1])).all() or (ours[JUDGED] > brute[JUDGED] / 20).any()))


def write(rows):
    "The file is replaced only when complete."
    part = FILE.with_suffix(".part")
    part.write_text(json.dumps(dict(temperatures=TEMPERATURES.tolist(), rows=rows)))
    part.replace(FILE)


if __name__ == "__main__":
    raise SystemExit(main())
