"""Do the intervals of a map over two couplings hold what they claim?

    python studies/maps.py              # about half an hour on one core; writes studies/maps.json, and goes on where it was stopped
    python studies/maps.py --quick      # two designs of each case; writes and judges nothing

Twelve runs at random places (a Latin square) on the 4 x 4 lattice, all of whose 2^16 states are known. So a run is simulated
exactly, without a chain: first and second derivatives of ln Z/N, plus Gaussian errors with the covariance that 2000 independent
draws have. The map's 95 % intervals are held against the exact values at 60 random couplings, inside the hull of the runs and
outside of it. Cases: couplings beta and K, and beta and h; the process lives in natural couplings (as in `uqphys.maps`), or, with K
for comparison, in the inputs themselves. Target: coverage of 92 to 98 % within two standard errors; the exit status is 1 if missed.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from scipy.spatial import Delaunay
from tqdm import tqdm

from uqphys import maps
from uqphys.exact import all_states
from uqphys.models import pair_sum, plaquette_sum, site_sum

FILE, RUNS, DRAWS, POINTS, TARGET = Path(__file__).with_suffix(".json"), 12, 2000, 60, (0.92, 0.98)
CASES = {("K", "natural"): 24, ("K", "inputs"): 24, ("h", "natural"): 8}  # the second coupling, where the process lives, and how many designs
BOXES = {("beta", "K"): ([0.1, -0.4], [0.8, 0.6]), ("beta", "h"): ([0.1, 0.0], [0.6, 0.3])}
QUANTITIES = {("beta", "K"): ("log_partition", "energy", "specific_heat", "plaquettes"),
              ("beta", "h"): ("log_partition", "energy", "specific_heat", "m", "two_point_susceptibility")}


def table():
    "Sums over pairs, squares and sites of the 4 x 4 lattice, and the logarithms of how many states have them."
    states = np.concatenate(list(all_states((4, 4))))
    sums, counts = np.unique(np.column_stack([pair_sum(states, 2), plaquette_sum(states, 2), site_sum(states, 2)]), axis=0, return_counts=True)
    return sums.T, np.log(counts)


def law(known, point, inputs):
    "Sums, energy and probabilities at a point, and ln Z."
    (pairs, squares, sites), log_count = known
    at = dict(zip(inputs, point))
    energy = -pairs - at.get("K", 0.0) * squares - at.get("h", 0.0) * sites
    logs = log_count - at["beta"] * energy
    weight = np.exp(logs - logs.max())
    return {"K": squares, "h": sites}, energy, weight / weight.sum(), logs.max() + math.log(weight.sum())


def exact_run(known, point, inputs):
    "Orders, values and covariance of the errors of the derivatives that a run of independent draws tells."
    sums, energy, chance, _ = law(known, point, inputs)
    beta, other = point[0], inputs[1]
    first = [-energy / 16, beta * sums[other] / 16]
    series, orders = list(first), [[1, 0], [0, 1]]
    for i, j in ((0, 0), (0, 1), (1, 1)):
        a, b = first[i], first[j]
        series.append(16 * (a - chance @ a) * (b - chance @ b) + (b / beta if (i, j) == (0, 1) else 0.0))
        orders.append(np.add(orders[i], orders[j]).tolist())
    series = np.array(series)
    away = series - (mean := series @ chance)[:, None]
    return orders, mean, (away * chance) @ away.T / DRAWS


def truth(known, points, inputs):
    "Exact values of all quantities of this case at points (m, 2)."
    found = []
    for point in points:
        sums, energy, chance, log_z = law(known, point, inputs)
        beta, mean, other = point[0], chance @ energy, sums[inputs[1]]
        values = [log_z / 16, mean / 16, beta**2 * (chance @ (energy - mean) ** 2) / 16, chance @ other / 16]
        found.append(values + ([] if inputs[1] == "K" else [(chance @ other**2 - (chance @ other) ** 2) / 16]))
    return np.array(found)


def observe(known, places, inputs, rng):
    "Observations of one run at each place, and ln Z/N at infinite temperature."
    parts = [maps.Observations(inputs, [[0.0, place] for place in (0.0, 0.2)], [[0, 0]] * 2, [math.log(2)] * 2, np.zeros((2, 2)))]
    for place in places:
        orders, values, covariance = exact_run(known, place, inputs)
        size, vectors = np.linalg.eigh(covariance)
        values = values + vectors @ (np.sqrt(np.clip(size, 0, None)) * rng.standard_normal(5))
        parts.append(maps.Observations(inputs, np.tile(place, (5, 1)), orders, values, (covariance + covariance.T) / 2))
    return maps.join(*parts)


def measure(known, inputs, design):
    "One design: for every quantity the coverage (everywhere, inside the hull of the runs, outside), errors and beliefs."
    (low, high), rng, begin = np.array(BOXES[inputs]), np.random.default_rng([design, 1]), time.perf_counter()
    places = low + (high - low) * rng.permuted((np.arange(RUNS) + 0.5) / RUNS * np.ones((2, 1)), axis=1).T
    points = low + (high - low) * rng.uniform(size=(POINTS, 2))
    o, exact, hull = observe(known, places, inputs, rng), truth(known, points, inputs), Delaunay(places).find_simplex(points) >= 0
    learned = maps.CouplingMap(inputs, critical="beta", starts=3, members=20, draws=400, seed=design).fit(o)
    belief = learned.predict(points, QUANTITIES[inputs])
    bottom, top = belief.interval(0.95)
    inside = (bottom <= exact) & (exact <= top)
    means = dict(coverage=inside, inside_hull=inside[hull], outside_hull=inside[~hull], square_error=(belief.mean - exact) ** 2, variance=belief.epistemic)
    return {name: values.mean(0).tolist() for name, values in means.items()} | dict(effective=learned.effective_members, seconds=time.perf_counter() - begin)


def summary(rows, inputs):
    "Means over designs with their standard errors, for each quantity."
    found = {}
    for k, name in enumerate(QUANTITIES[inputs]):
        column = lambda key: np.array([row[key][k] for row in rows])
        found[name] = {key: [float(v := column(key).mean()), float(column(key).std(ddof=1) / math.sqrt(len(rows)))]
                       for key in ("coverage", "inside_hull", "outside_hull")}
        found[name] |= {"error": float(np.sqrt(column("square_error").mean())), "believed": float(np.sqrt(column("variance").mean()))}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two designs of each case; writes and judges nothing")
    quick, known, products = parser.parse_args().quick, table(), maps._products
    stored = json.loads(FILE.read_text())["designs"] if FILE.exists() and not quick else {}
    wanted = [(other, kind, design) for (other, kind), designs in CASES.items() for design in range(2 if quick else designs)]
    for other, kind, design in tqdm(wanted):
        rows, inputs = stored.setdefault(f"{other}, {kind}", []), ("beta", other)
        if len(rows) > design:
            continue
        maps._products = products if kind == "natural" else lambda names: []  # without products the process lives in the inputs
        rows.append(measure(known, inputs, design))
        if not quick:
            FILE.write_text(json.dumps(dict(designs=stored), indent=1) + "\n")
    maps._products = products
    result = {key: summary(rows, ("beta", key.split(",")[0])) for key, rows in stored.items()}
    print(json.dumps(result, indent=1))
    if quick:
        return
    settings = dict(cases=[[*case, designs] for case, designs in CASES.items()], runs=RUNS, draws=DRAWS, points=POINTS, target=TARGET, boxes={inputs[1]: box for inputs, box in BOXES.items()})
    FILE.write_text(json.dumps(dict(settings=settings, summary=result, designs=stored), indent=1) + "\n")
    covered = [found["coverage"] for key, case in result.items() if key.endswith("natural") for name, found in case.items() if name != "log_partition"]
    raise SystemExit(any(value + 2 * error < TARGET[0] or value - 2 * error > TARGET[1] for value, error in covered))


if __name__ == "__main__":
    main()
