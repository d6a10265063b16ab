"""The bias of an approximation over couplings: two laws learned together, two maps subtracted, or the differences alone?

    python studies/bias_maps.py              # about five minutes on one core; writes studies/bias_maps.json, and goes on where it was stopped
    python studies/bias_maps.py --quick      # two designs of each case; writes and judges nothing

The page's two laws on the 4 x 4 lattice: pairs and squares (K = 0.2), and pairs alone with the coupling that least squares finds
at beta = 0.35. Runs are simulated exactly: derivatives of ln Z/N plus Gaussian errors with the covariance of independent draws,
500 for the exact law and 4000 for the approximation. Each design puts runs at random places, one in each of as many equal
intervals; the approximation is also run wherever the exact law is. Three ways to the same bias: a BiasMap; the difference of two
independent CouplingMaps; one CouplingMap of the differences, which can use the common places only. Target: coverage of the
BiasMap's 95 % intervals of 92 to 98 %; the exit status is 1 if it is missed, as it is so far.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uqphys.bias_maps import BiasMap
from uqphys.exact import all_states
from uqphys.maps import CouplingMap, Observations, join
from uqphys.models import pair_sum, plaquette_sum, site_sum

FILE, TARGET, K, LEARNED_AT = Path(__file__).with_suffix(".json"), (0.92, 0.98), 0.2, 0.35
SETTINGS = dict(draws=dict(exact=500, approximation=4000), cases=dict(
    beta=dict(inputs=["beta"], low=[0.1], high=[0.7], exact=5, more=8, points=31, designs=30, quantities=["energy", "specific_heat"])))
WAYS = ("together", "subtracted", "differences")


def laws():
    "Counts of states by pairs, squares and spins, and the couplings (J, K) of both laws."
    states = np.concatenate(list(all_states((4, 4))))
    (pairs, squares, sites), counts = (lambda s, c: (s.T, c))(*np.unique(
        np.column_stack([pair_sum(states, 2), plaquette_sum(states, 2), site_sum(states, 2)]), axis=0, return_counts=True))
    full = -pairs - K * squares
    weight = counts * np.exp(-LEARNED_AT * (full - full.min()))
    J = float(-np.polyfit(pairs, full, 1, w=np.sqrt(weight))[0])
    return (pairs, squares, sites, np.log(counts)), dict(exact=(1.0, K), approximation=(J, 0.0))


def series(known, couplings, point, inputs):
    "Conjugate series of each input, energy, spins, and probabilities."
    (pairs, squares, sites, logs), (J, K) = known, couplings
    beta, h = point[0], dict(zip(inputs, point)).get("h", 0.0)
    energy = -J * pairs - K * squares - h * sites
    weight = np.exp(logs - beta * energy - (logs - beta * energy).max())
    return {"beta": -energy / 16, "h": beta * sites / 16}, energy, sites, weight / weight.sum()


def observe(known, couplings, places, inputs, draws, rng):
    "Observations of one run of independent draws at each place."
    parts = []
    for point in places:
        first, _, _, chance = series(known, couplings, point, inputs)
        names, rows, orders = list(inputs), [], []
        for i, name in enumerate(names):
            rows.append(first[name]), orders.append(np.eye(len(names), dtype=int)[i])
        for i in range(len(names)):
            for j in range(i, len(names)):
                a, b = rows[i], rows[j]
                rows.append(16 * (a - chance @ a) * (b - chance @ b) + (b / point[0] if i < j else 0.0)), orders.append(orders[i] + orders[j])
        rows = np.array(rows)
        mean = rows @ chance
        covariance = ((rows - mean[:, None]) * chance) @ (rows - mean[:, None]).T / draws
        size, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        values = mean + vectors @ (np.sqrt(np.clip(size, 0, None)) * rng.standard_normal(len(mean)))
        parts.append(Observations(inputs, np.tile(point, (len(mean), 1)), np.array(orders), values, (covariance + covariance.T) / 2))
    return join(*parts)


def truth(known, couplings, points, inputs, quantities):
    "Exact averages (m, d) of one law."
    found = []
    for point in points:
        _, energy, sites, chance = series(known, couplings, point, inputs)
        mean = chance @ energy
        values = dict(energy=mean / 16, specific_heat=point[0] ** 2 * (chance @ (energy - mean) ** 2) / 16, m=chance @ sites / 16)
        found.append([values[name] for name in quantities])
    return np.array(found)


def measure(known, couplings, case, design):
    "One design: for each way and quantity coverage, square error and believed variance of the bias."
    inputs, rng, begin = tuple(case["inputs"]), np.random.default_rng([design, 325]), time.perf_counter()
    low, high = np.array(case["low"]), np.array(case["high"])
    spots = lambda n: low + (high - low) * rng.permuted((np.arange(n) + rng.uniform(size=(len(low), n))) / n, axis=1).T
    places, more = spots(case["exact"]), spots(case["more"])
    points = low + (high - low) * (np.linspace(0, 1, case["points"])[:, None] if len(low) == 1 else rng.uniform(size=(case["points"], len(low))))
    names, options = tuple(case["quantities"]), dict(critical="beta", starts=3, members=20, draws=400, seed=design)
    exact, common, further = (observe(known, couplings[law], at, inputs, SETTINGS["draws"][law], rng)
                              for law, at in (("exact", places), ("approximation", places), ("approximation", more)))
    wanted = truth(known, couplings["approximation"], points, inputs, names) - truth(known, couplings["exact"], points, inputs, names)
    one, other = (CouplingMap(inputs, **options).fit(o).predict(points, names) for o in (join(common, further), exact))
    difference = Observations(inputs, exact.points, exact.orders, common.values - exact.values, common.covariance + exact.covariance)
    beliefs = dict(together=BiasMap(inputs, **options).fit(exact, join(common, further)).predict(points, names),
                   differences=CouplingMap(inputs, **options).fit(difference).predict(points, names))
    found = {}
    for way in WAYS:
        if way == "subtracted":
            mean, variance = one.mean - other.mean, one.epistemic + other.epistemic
            draws = one.draws - other.draws[np.random.default_rng(design).permutation(len(other.draws))]
            low_end, high_end = np.quantile(draws, [0.025, 0.975], axis=0)
        else:
            mean, variance, (low_end, high_end) = beliefs[way].mean, beliefs[way].epistemic, beliefs[way].interval(0.95)
        inside = (low_end <= wanted) & (wanted <= high_end)
        found[way] = dict(coverage=inside.mean(0).tolist(), square_error=((mean - wanted) ** 2).mean(0).tolist(), variance=variance.mean(0).tolist())
    return found | dict(bias=np.sqrt((wanted**2).mean(0)).tolist(), seconds=time.perf_counter() - begin)


def summary(rows, case):
    "Means over designs: coverage, root-mean-square errors, and how much larger the error is than that of the BiasMap (log ratio)."
    found = {}
    for k, name in enumerate(case["quantities"]):
        square = {way: np.array([row[way]["square_error"][k] for row in rows]) for way in WAYS}
        for way in WAYS:
            cover, more = np.array([row[way]["coverage"][k] for row in rows]), 0.5 * np.log(square[way] / square["together"])
            found.setdefault(way, {})[name] = dict(
                coverage=[float(v.mean()) for v in (cover,)] + [float(cover.std(ddof=1) / math.sqrt(len(rows)))], error=float(np.sqrt(square[way].mean())),
                believed=float(np.sqrt(np.mean([row[way]["variance"][k] for row in rows]))),
                log_ratio=[float(more.mean()), float(more.std(ddof=1) / math.sqrt(len(rows)))])
    return found | dict(bias=np.sqrt(np.mean(np.square([row["bias"] for row in rows]), axis=0)).tolist(), designs=len(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two designs of each case; writes and judges nothing")
    quick, (known, couplings) = parser.parse_args().quick, laws()
    stored = json.loads(FILE.read_text())["designs"] if FILE.exists() and not quick else {}
    cases = SETTINGS["cases"]
    for name, design in tqdm([(name, design) for name, case in cases.items() for design in range(2 if quick else case["designs"])]):
        rows = stored.setdefault(name, [])
        if len(rows) > design:
            continue
        rows.append(measure(known, couplings, cases[name], design))
        if not quick:
            FILE.write_text(json.dumps(dict(designs=stored), indent=1) + "\n")
    result = {name: summary(rows, cases[name]) for name, rows in stored.items()}
    print(json.dumps(result, indent=1))
    if quick:
        return
    FILE.write_text(json.dumps(dict(settings=SETTINGS, couplings=couplings, summary=result, designs=stored), indent=1) + "\n")
    raise SystemExit(not all(TARGET[0] < found["coverage"][0] < TARGET[1] for case in result.values() for found in case["together"].values()))


if __name__ == "__main__":
    main()
