"""Maps over couplings: kernels against autograd, the posterior against dense algebra, maps against exact lattices, many times."""
import hashlib
import json
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize_scalar

from common import assert_complete, assert_refused, row_name
from uqphys import maps
from uqphys.exact import all_states, kaufman
from uqphys.maps import (CouplingMap, Observations, correlated_means, critical_factor, gaussian_factor, join, log_marginal_likelihood,
                         observations_from_runs)
from uqphys.models import Ising, Phi4, pair_sum, plaquette_sum, site_sum
from uqphys.sampling import sample
from uqphys.training import save_state

rng = np.random.default_rng(0)


# ---- the prior, from its definition, by automatic differentiation

def prior_by_hand(p, units, x, y):
    "k(x, y) of one pair of couplings in internal units, as the page defines it."
    D, critical = len(units.inputs), units.critical
    linear = [d for d, name in enumerate(units.inputs) if name != "h"]
    factors = []
    for d, name in enumerate(units.inputs):
        bell = lambda s: torch.exp(-((x[d] - s * y[d]) ** 2) / (2 * math.exp(2 * p[1 + d])))
        factors.append((bell(1) + bell(-1)) / 2 if name == "h" else bell(1))
    total = 100 * (1 + sum(x[d] * y[d] for d in linear)) + math.exp(2 * p[0]) * math.prod(factors)
    if critical < 0:
        return total
    tilted = [d for d, name in enumerate(units.inputs) if d != critical and name not in ("h", "L")]

    def warped(z):
        centre = p[D + 2] + sum(p[D + 5 + k] * z[d] for k, d in enumerate(tilted))
        t, width = z[critical] - centre, math.exp(p[D + 3])
        if "L" in units.inputs:
            d = units.inputs.index("L")
            width = width * (z[d] * units.reach[d] + units.middle[d]) / units.middle[d]
        return t * t + width * width, torch.asinh(t / width)
    (r2, u), (s2, v) = warped(x), warped(y)
    steep = r2 * s2 * torch.exp(-((u - v) ** 2) / (2 * math.exp(2 * p[D + 4])))
    total = total + math.exp(2 * p[D + 1]) * steep * math.prod(f for d, f in enumerate(factors) if d != critical)
    if "h" in units.inputs:
        d = units.inputs.index("h")

        def fold(sign):
            r, q = (torch.sqrt(t * t + math.exp(2 * p[-1])) for t in (x[d], y[d]))
            u, v = (torch.asinh(t / math.exp(p[-1])) for t in (x[d], sign * y[d]))
            return r * q * torch.exp(-((u - v) ** 2) / 2 / 1.5**2)
        total = total + math.exp(2 * p[-2]) * (fold(1) + fold(-1)) / 2 * math.prod(f for k, f in enumerate(factors) if k != d)
    return total


def natural(z, units):
    "Couplings in internal units: products with β, where β is an input, and 1/L."
    beta = z[units.inputs.index("beta")] if "beta" in units.inputs else 1.0
    u = torch.stack([1 / c if name == "L" else c if name == "beta" else beta * c for c, name in zip(z, units.inputs)])
    return (u - torch.tensor(units.middle)) / torch.tensor(units.reach)


def differentiated(p, units, x, a, y, b):
    "Prior covariance of the derivatives of φ of orders a at couplings x and b at y: by automatic differentiation through the products."
    x, y = (torch.tensor(z, requires_grad=True) for z in (x, y))
    value = units.unit**2 * prior_by_hand(p, units, natural(x, units), natural(y, units))
    for z, orders in ((x, a), (y, b)):
        for d, times in enumerate(orders):
            for _ in range(times):
                slope, = torch.autograd.grad(value, z, create_graph=True, allow_unused=True)
                if slope is None:
                    return 0.0
                value = slope[d]
                if not value.requires_grad:
                    value = value + 0 * (x.sum() + y.sum())
    return float(value.detach())


KINDS = {("beta",): "beta", ("K",): None, ("beta", "K"): "beta", ("beta", "h"): "beta", ("beta", "L"): "beta", ("beta", "K", "h"): "beta", ("h", "J2"): "J2"}


def random_problem(inputs, n, seed):
    "Observations of random orders at random couplings, with correlated errors."
    random = np.random.default_rng(seed)
    points = random.uniform(0.2, 0.7, (n, len(inputs)))
    orders = np.zeros((n, len(inputs)), int)
    for row in orders:
        for _ in range(random.integers(3)):
            row[random.choice([d for d, name in enumerate(inputs) if name != "L"])] += 1
    orders[0], orders[0, 0] = 0, 1
    if "L" in inputs:
        points[:, inputs.index("L")] = random.integers(4, 20, n)
    noise = random.normal(size=(n, n)) * 0.3
    return Observations(inputs, points, orders, random.normal(size=n), noise @ noise.T / n + 0.02 * np.eye(n))


@pytest.mark.parametrize("inputs", KINDS)
def test_the_prior_covariance_is_the_derivative_of_the_prior(inputs):
    o = random_problem(inputs, 14, 1)
    units = maps._units(o, KINDS[inputs])
    mean, spread = maps._hyperprior(units)
    p = mean + 0.4 * spread * np.random.default_rng(2).standard_normal(len(mean))
    data = maps._data(o, units)
    scale = maps._places(o.points, o.orders, units)[1]
    found = maps._prior(p[None], units, o.points, o.orders, o.points, o.orders)[0] * np.outer(scale, scale)
    for i in range(14):
        for j in range(14):
            exact = differentiated(p, units, o.points[i], o.orders[i], o.points[j], o.orders[j])
            assert abs(found[i, j] - exact) < 1e-9 * max(scale[i] * scale[j], abs(exact)), (o.orders[i], o.orders[j])


def test_the_public_factors_are_the_derivatives():
    x, y = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def steep():
        r2 = [(z - 0.44) ** 2 + 0.05**2 for z in (x, y)]
        u = [torch.asinh((z - 0.44) / 0.05) for z in (x, y)]
        return r2[0] * r2[1] * torch.exp(-((u[0] - u[1]) ** 2) / 2 / 1.5**2)
    for a in range(3):
        for b in range(3):
            for make, call in ((lambda: torch.exp(-((x - y) ** 2) / 2 / 0.7**2), lambda *z: gaussian_factor(*z, 0.7)),
                               (steep, lambda *z: critical_factor(*z, 0.44, 0.05, 1.5))):
                value = make()
                for z in a * [x] + b * [y]:
                    value, = torch.autograd.grad(value, z, create_graph=True)
                found = call(np.array([0.3]), a, np.array([0.5]), b)[0, 0]
                assert abs(found - float(value.detach())) < 1e-10 * max(1, abs(found))


# ---- inference

@pytest.mark.parametrize("inputs", KINDS)
def test_evidence_and_gradient_against_dense_algebra(inputs):
    o = random_problem(inputs, 12, 3)
    units = maps._units(o, KINDS[inputs])
    mean, spread = maps._hyperprior(units)
    p = mean + 0.3 * spread * np.random.default_rng(4).standard_normal(len(mean))
    data = maps._data(o, units)

    scale = maps._places(o.points, o.orders, units)[1]  # ln p is that of the values over these

    def dense(p):
        prior = [[differentiated(p, units, x, a, y, b) for y, b in zip(o.points, o.orders)] for x, a in zip(o.points, o.orders)]
        return stats.multivariate_normal(np.zeros(12), np.array(prior) + o.covariance).logpdf(o.values) + np.log(scale).sum()
    value, gradient = log_marginal_likelihood(o, p, KINDS[inputs])
    assert abs(value - dense(p)) < 1e-6
    at = lambda s: log_marginal_likelihood(o, p + s, KINDS[inputs])[0]
    for k, step in enumerate(1e-3 * np.eye(len(p))):  # fifth-order differences
        slope = (at(-2 * step) - 8 * at(-step) + 8 * at(step) - at(2 * step)) / 12e-3
        assert abs(slope - gradient[k]) < 1e-6 * max(1, np.abs(gradient).max())
    np.testing.assert_allclose(maps._log_posteriors(np.stack([p, p + 0.1]), data)[1], maps._log_posterior(p + 0.1, data)[0], atol=1e-7)


@pytest.mark.parametrize("inputs", KINDS)
def test_the_posterior_is_dense_conditioning(inputs):
    o = random_problem(inputs, 12, 5)
    learned = CouplingMap(inputs, critical=KINDS[inputs], beta=None if "beta" in inputs else 0.4, members=3, draws=30, starts=2).fit(o)
    data, new = learned.data, random_problem(inputs, 4, 6).points
    name = "energy" if "beta" in inputs else "m" if "h" in inputs else "plaquettes"
    belief = learned.predict(new, ("log_partition", name))
    x, a, factor = (np.concatenate(part) for part in zip(*(maps._target(learned, new, kind) for kind in ("log_partition", name))))
    seen = o.points, o.orders
    means, spreads, weights = [], [], []
    for member in learned.members:
        k = lambda xs, orders, ys, others: np.array([[differentiated(member.parameters, data.units, q, i, r, j) for r, j in zip(ys, others)]
                                                     for q, i in zip(xs, orders)])
        gram, cross = k(*seen, *seen) + o.covariance, k(x, a, *seen)
        means.append(factor * (cross @ np.linalg.solve(gram, o.values)))
        spreads.append(factor**2 * np.diag(k(x, a, x, a) - cross @ np.linalg.solve(gram, cross.T)))
        weights.append(member.weight)
    mean = np.average(means, 0, weights)
    spread = np.average(spreads + (means - mean) ** 2, 0, weights)
    np.testing.assert_allclose(belief.mean.T.ravel(), mean, atol=1e-8 * max(1, np.abs(mean).max()))
    np.testing.assert_allclose(belief.epistemic.T.ravel(), spread, atol=1e-8 * max(1, spread.max()))
    assert np.abs(belief.draws.mean(0) - belief.mean).max() < 5 * np.sqrt(belief.epistemic.max() / 30)


def test_draws_are_joint_and_of_one_free_energy():
    "The energy of a draw is minus the slope of its own free energy, and many draws have the covariance of the process."
    o = random_problem(("beta",), 8, 7)
    learned = CouplingMap(critical="beta", members=2, draws=20_000, starts=2).fit(o)
    x = np.array([0.4, 0.4 + 1e-3, 0.4 + 5e-4])
    draws = learned.predict(x, ("log_partition", "energy")).draws
    slope = (draws[:, 1, 0] - draws[:, 0, 0]) / 1e-3
    assert np.abs(slope + draws[:, 2, 1]).max() < 1e-2 * draws[:, 2, 1].std() + 1e-3
    belief = learned.predict(x[:2], ("energy", "specific_heat"))
    z = (belief.draws.var(0) / belief.epistemic - 1) / np.sqrt(2 / 20_000)
    assert np.abs(z).max() < 5


def test_same_seed_same_bits_and_files(tmp_path):
    o = random_problem(("beta", "K"), 10, 8)
    one, two, three = (CouplingMap(("beta", "K"), critical="beta", seed=s, members=5, draws=20, starts=2).fit(o) for s in (1, 1, 2))
    points = [[0.3, 0.4], [0.5, 0.2]]
    digest = lambda m: hashlib.sha256(m.predict(points).draws.tobytes()).hexdigest()
    assert digest(one) == digest(two) != digest(three)
    one.save(tmp_path / "map")
    again = CouplingMap.load(tmp_path / "map")
    assert digest(again) == digest(one) and repr(again) == repr(one) and again.options == one.options
    (tmp_path / "map").write_bytes((tmp_path / "map").read_bytes()[:-20])
    with pytest.raises(ValueError, match="map"):
        CouplingMap.load(tmp_path / "map")


# ---- runs

def test_derivatives_from_runs_against_all_states():
    "First and second derivatives by beta, K and h of the 3x4 lattice: z-scores over couplings are standard normal."
    states = np.concatenate(list(all_states((3, 4))))
    sums = pair_sum(states, 2), plaquette_sum(states, 2), site_sum(states, 2)

    def phi(beta, K, h):
        weight = beta * (sums[0] + K * sums[1] + h * sums[2])
        return (weight.max() + np.log(np.exp(weight - weight.max()).sum())) / 12
    z = []
    for seed, (beta, K, h) in enumerate(np.random.default_rng(1).uniform([0.1, -0.3, -0.3], [0.5, 0.5, 0.3], (24, 3))):
        run = sample(Ising((3, 4), K=K, h=h), beta, draws=1000, chains=4, burn_in=50, seed=seed, progress=False)
        o, step = observations_from_runs(run, ("beta", "K", "h")), 1e-3
        assert len(o.values) == 9
        for value, orders, variance in zip(o.values, o.orders, np.diag(o.covariance)):
            names = [d for d, k in enumerate(orders) for _ in range(k)]
            shifts = [0]
            for d in names:
                shifts = [s + sign * step / 2 * np.eye(3)[d] for s in shifts for sign in (-1, 1)]
            signs = [1.0]
            for _ in names:
                signs = [s * sign for s in signs for sign in (-1, 1)]
            exact = sum(s * phi(*(np.array([beta, K, h]) + shift)) for s, shift in zip(signs, shifts)) / step ** len(names)
            z.append((value - exact) / np.sqrt(variance))
    z = np.array(z).reshape(24, 9)
    assert np.abs(z).max() < 4.5 and np.abs(z.mean(0) * np.sqrt(24)).max() < 4
    assert 0.7 < (z**2).mean() < 1.3  # 216 scores, correlated within a run


def test_errors_of_one_run_are_joint():
    "The whole vector (e, var) of one run has a chi-squared distance from the truth, and the correlation matters."
    L, b, repetitions = 8, 0.42, 200
    run = sample(Ising((L, L)), b, draws=1000, chains=4 * repetitions, method="swendsen-wang", keep="observables", seed=2, progress=False)
    exact, square, off = kaufman(L, b), [], []
    for r in range(repetitions):
        o = observations_from_runs(run.isel(chain=slice(4 * r, 4 * r + 4)))
        miss = o.values - [-exact.energy, exact.specific_heat / b**2]
        square.append(miss @ np.linalg.solve(o.covariance, miss))
        off.append([miss, np.sqrt(np.diag(o.covariance)), o.covariance[0, 1]])
    miss, claimed = np.array([v[0] for v in off]), np.mean([v[2] for v in off])
    scatter = np.cov(miss.T)[0, 1]
    error = np.sqrt((scatter**2 + miss[:, 0].var() * miss[:, 1].var()) / repetitions)
    assert abs(claimed - scatter) < 4 * error
    assert stats.kstest(stats.chi2(2).cdf(square), "uniform").pvalue > 1e-3
    assert np.abs(miss.mean(0) / miss.std(0)).max() * np.sqrt(repetitions) < 4  # the variance is not biased


def test_variances_of_short_runs_are_not_too_small():
    "200 nearly independent draws: a variance around their own mean is 0.5 % too small; at least 3/4 of that is put back."
    run = sample(Ising((4, 4)), 0.2, draws=50, chains=1200, burn_in=50, thin=10, method="swendsen-wang", keep="observables", seed=3, progress=False)
    energy = kaufman(4, 0.2).energy
    parts = [run.isel(chain=slice(4 * r, 4 * r + 4)) for r in range(300)]
    around_exact = np.array([16 * ((part.energy.values - energy) ** 2).mean() for part in parts])  # unbiased, and made from the same draws
    own = np.array([16 * part.energy.values.var() for part in parts]) - around_exact
    ours = np.array([observations_from_runs(part).values[1] for part in parts]) - around_exact
    assert own.mean() < -10 * own.std() / np.sqrt(300) and abs(ours.mean()) < 0.25 * abs(own.mean())


def test_a_run_at_infinite_temperature_and_a_field_of_zero():
    run = sample(Ising((4, 4)), 0.0, draws=400, chains=4, burn_in=5, seed=1, progress=False)
    o = observations_from_runs(run, ("beta", "h"))
    assert o.orders.tolist() == [[1, 0], [2, 0]] and abs(o.values[1] - 2) < 5 * np.sqrt(o.covariance[1, 1])


# ---- maps against the exact lattice, many times

def banks(L, betas, repetitions, seed):
    many = [sample(Ising((L, L)), b, draws=1000, chains=4 * repetitions, method="swendsen-wang", keep="observables", seed=seed, progress=False)
            for b in betas]
    return [observations_from_runs([run.isel(chain=slice(4 * r, 4 * r + 4)) for run in many]) for r in range(repetitions)]


@pytest.mark.parametrize("L, betas", [(16, np.linspace(0.36, 0.52, 7)), (32, np.linspace(0.38, 0.5, 7))])
def test_coverage_and_peak(L, betas):
    "Targets 3 and 4 over 60 repetitions: 92 to 98 % of the map inside 95 % intervals; the peak within its own error bar."
    repetitions, x, line = 60, np.linspace(betas[0], betas[-1], 25), np.linspace(betas[0], betas[-1], 61)
    truth = np.array([(k.energy, k.specific_heat) for k in (kaufman(L, b) for b in x)])
    top = minimize_scalar(lambda b: -kaufman(L, b).specific_heat, bounds=(0.4, 0.48), method="bounded", options=dict(xatol=1e-9)).x
    inside, z = [], []
    for r, o in enumerate(banks(L, betas, repetitions, 2026)):
        learned = CouplingMap(critical="beta", seed=r).fit(o)
        low, high = learned.predict(x, ("energy", "specific_heat")).interval(0.95)
        inside.append(((low <= truth) & (truth <= high)).mean(0))
        found = learned.peak(line)
        z.append((found.location - top) / found.location_error)
    inside, z = np.array(inside), np.array(z)
    print(f"L={L}: coverage e, c {inside.mean(0)} ± {inside.std(0) / repetitions**0.5}; peak: mean z {z.mean():.2f}, rms {np.sqrt((z**2).mean()):.2f}, "
          f"|z|<1: {(abs(z) < 1).mean():.2f}, |z|<2: {(abs(z) < 2).mean():.2f}, max {abs(z).max():.1f}")
    assert (inside.mean(0) > 0.92).all() and (inside.mean(0) < 0.98).all()
    assert abs(z.mean()) * np.sqrt(repetitions) < 4 and np.abs(z).max() < 4
    assert stats.chi2(repetitions).ppf(1e-3) < (z**2).sum() < stats.chi2(repetitions).ppf(1 - 1e-3)


def test_coverage_over_two_couplings_is_what_the_study_found():
    "The study's 24 designs over β and K: intervals of e, c and squares hold 95 %; two designs are made again and agree with what it keeps."
    study = runpy.run_path(str(Path(__file__).parents[1] / "studies" / "maps.py"))
    known, stored = study["table"](), json.loads(study["FILE"].read_text())
    for case, designs in study["CASES"].items():
        assert len(stored["designs"][", ".join(case)]) == designs
    assert all(0.92 - 2 * s < v < 0.98 + 2 * s for v, s in (c["coverage"] for name, c in stored["summary"]["K, natural"].items() if name != "log_partition"))
    error = lambda case: np.sqrt(np.mean([row["square_error"] for row in stored["designs"][case]], 0))
    assert error("K, natural")[3] < 0.6 * error("K, inputs")[3]
    for design in range(2):
        found, kept = study["measure"](known, ("beta", "K"), design), stored["designs"]["K, natural"][design]
        print("coverage", found["coverage"], kept["coverage"], "square error", np.array(found["square_error"]) / kept["square_error"])
        assert np.abs(np.subtract(found["coverage"], kept["coverage"])).max() < 0.06  # three of sixty places
        assert np.abs(np.log(np.divide(found["square_error"], kept["square_error"]))).max() < 0.2


def test_derivatives_make_the_map_three_times_better():
    "Target 2: five runs on 16x16 over 0.3 to 0.6, with and without their variances, 30 repetitions."
    x, repetitions = np.linspace(0.3, 0.6, 61), 30
    truth, errors = np.array([kaufman(16, b).energy for b in x]), []
    for r, o in enumerate(banks(16, np.linspace(0.3, 0.6, 5), repetitions, 99)):
        maps_ = [CouplingMap(critical="beta", seed=r, starts=4, members=20, draws=20).fit(d) for d in (o.up_to(1), o)]
        errors.append([np.sqrt(((m.predict(x).mean[:, 0] - truth) ** 2).mean()) for m in maps_])
    errors = np.array(errors)
    mean, error = errors.mean(0), errors.std(0, ddof=1) / np.sqrt(repetitions)
    ratio = mean[0] / mean[1]
    ratio_error = ratio * np.hypot(*(error / mean))
    print(f"ratio of mean errors {ratio:.2f} ± {ratio_error:.2f}, {mean}")
    assert ratio - 2 * ratio_error > 3


def test_the_chosen_runs_are_better():
    "Target 5: seven runs on 32x32, four of them chosen, against seven evenly spaced and against random ones; ranges at random places."
    quick, logs = dict(critical="beta", starts=2, members=20, draws=20), []
    for seed in range(8):
        low = np.random.default_rng([seed, 3]).uniform(0.14, 0.26)
        x = np.linspace(low, low + 0.5, 41)
        truth = np.array([kaufman(32, b).energy for b in x])
        def runs(betas, branch):
            return observations_from_runs([sample(Ising((32, 32)), float(b), draws=1000, chains=4, method="swendsen-wang", keep="observables",
                                                  seed=7000 + 100 * seed + 10 * branch + k, progress=False) for k, b in enumerate(betas)])
        missed = lambda o: np.sqrt(((CouplingMap(seed=seed, **quick).fit(o).predict(x).mean[:, 0] - truth) ** 2).mean())
        start = chosen = runs(x[[0, 20, 40]], 0)
        for step in range(4):
            chosen = join(chosen, runs(CouplingMap(seed=seed, **quick).fit(chosen).next_run(x, "energy").point, 1 + step))
        anywhere = join(start, runs(np.random.default_rng([seed, 4]).uniform(x[0], x[-1], 4), 5))
        logs.append(np.log([missed(chosen), missed(runs(np.linspace(x[0], x[-1], 7), 6)), missed(anywhere)]))
    more = np.array(logs)[:, 1:] - np.array(logs)[:, :1]
    print(f"evenly spaced, random over chosen: {np.exp(more.mean(0))}, log {more.mean(0)} ± {more.std(0, ddof=1) / 8**0.5}")
    assert (more.mean(0) > 0).all() and more[:, 1].mean() > 2 * more[:, 1].std(ddof=1) / 8**0.5


def test_the_expected_gain_is_the_gain():
    "With one parameter vector, the variance after a run with the foreseen errors falls by the score."
    o = banks(8, [0.3, 0.4, 0.5], 1, 5)[0]
    learned = CouplingMap(critical="beta", members=2, draws=2, starts=1).fit(o)
    member = learned.members[0]._replace(weight=1.0)
    learned.members = [member]
    x, at = np.linspace(0.3, 0.5, 9)[:, None], np.array([[0.42]])
    score = learned.next_run(at, ("energy", "specific_heat"), over=x).scores[0]
    before = learned.predict(x, ("energy", "specific_heat")).epistemic.sum() / 18
    _, _, noise = maps._expected_run(learned.data, at[0], learned.data.rows)
    _, factor = maps._places(np.repeat(at, 2, 0), np.array([[1], [2]]), learned.data.units)
    longer = join(o, Observations(("beta",), np.repeat(at, 2, 0), [[1], [2]], [0.0, 0.0], noise * np.outer(factor, factor)))
    data = maps._data(longer, learned.data.units)
    learned.data, (learned.members, _) = data, maps._conditioned(data, [member.parameters], [1.0])
    after = learned.predict(x, ("energy", "specific_heat")).epistemic.sum() / 18
    assert abs(score - (before - after)) < 1e-8 * before


def test_what_symmetry_knows():
    o = random_problem(("beta", "h"), 9, 9)
    belief = CouplingMap(("beta", "h"), critical="beta", members=3, draws=10, starts=2).fit(o)
    one, two = (belief.predict([[0.4, s * 0.3], [0.3, 0.0]], ("m", "energy", "two_point_susceptibility")) for s in (1, -1))
    np.testing.assert_allclose(one.mean * [-1, 1, 1], two.mean, rtol=1e-9, atol=1e-9)
    assert abs(one.mean[1, 0]) < 1e-12 and one.epistemic[1, 0] < 1e-12


def test_a_fixed_beta_and_one_other_coupling():
    "Squares as a function of K at beta = 0.3, from energies' conjugates alone."
    ks = np.linspace(-0.5, 0.5, 5)
    runs = [sample(Ising((3, 4), K=k), 0.3, draws=1000, chains=4, burn_in=50, seed=3, progress=False) for k in ks]
    learned = CouplingMap(("K",), beta=0.3).fit(observations_from_runs(runs, ("K",)))
    states = np.concatenate(list(all_states((3, 4))))
    p, s = pair_sum(states, 2), plaquette_sum(states, 2)
    x = np.linspace(-0.5, 0.5, 11)
    weights = [np.exp(0.3 * (p + k * s)) for k in x]
    belief, truth = learned.predict(x, "plaquettes"), np.array([w @ s / w.sum() / 12 for w in weights])
    assert np.abs((belief.mean[:, 0] - truth) / np.sqrt(belief.epistemic[:, 0])).max() < 4 and np.sqrt(belief.epistemic.max()) < 0.05


# ---- refusals

@pytest.fixture(scope="module")
def things():
    o = random_problem(("beta",), 6, 1)
    run = sample(Ising((4, 4)), 0.3, draws=50, chains=2, burn_in=20, seed=1, progress=False)
    return SimpleNamespace(o=o, run=run, fitted=CouplingMap(members=2, draws=2, starts=1).fit(o), field=random_problem(("beta", "h"), 6, 1))


def observed(**changes):
    return Observations(**(dict(inputs=("beta",), points=[[0.1], [0.2]], orders=[[1], [2]], values=[1.0, 2.0], covariance=np.eye(2)) | changes))


NAMES = "'beta', 'J', 'J2', 'K', 'h', 'L'"
TABLE = [
    ("maps.check_inputs", lambda t: maps.check_inputs("T"), "inputs", "T", NAMES),
    ("maps.check_inputs", lambda t: maps.check_inputs(()), "inputs", r"\(\)", "different names"),
    ("maps.check_inputs", lambda t: maps.check_inputs(("h", "h")), "inputs", "h", "different names"),
    ("maps.Observations", lambda t: observed(points=[[0.1, 2], [0.2, 3]]), "points", r"\(2, 2\)", r"\(n, 1\)"),
    ("maps.Observations", lambda t: observed(points=[[-0.1], [0.2]]), "beta", "-0.1", "at least 0"),
    ("maps.Observations", lambda t: observed(points=[[np.nan], [0.2]]), "points", "nan", "finite"),
    ("maps.Observations", lambda t: observed(orders=[[1], [3]]), "orders", "3", "at most 2"),
    ("maps.Observations", lambda t: observed(orders=[[1], [0.5]]), "orders", "0.5", "whole numbers"),
    ("maps.Observations", lambda t: observed(orders=[[-1], [1]]), "orders", "-1", ">= 0"),
    ("maps.Observations", lambda t: observed(inputs=("L",), points=[[4], [8]]), "orders", "1", "0 for L"),
    ("maps.Observations", lambda t: observed(values=[1.0]), "values", r"\(1,\)", r"\(2,\)"),
    ("maps.Observations", lambda t: observed(values=[1.0, np.inf]), "values", "inf", "finite"),
    ("maps.Observations", lambda t: observed(covariance=[[1.0, 2.0], [2.0, 1.0]]), "covariance", "2.0", "without negative eigenvalues"),
    ("maps.Observations", lambda t: observed(covariance=[[1.0, 0.5], [0.0, 1.0]]), "covariance", "0.5", "symmetric"),
    ("maps.Observations", lambda t: observed(covariance=np.eye(3)), "covariance", r"\(3, 3\)", r"\(2, 2\)"),
    ("maps.Observations", lambda t: t.o.up_to(-1), "order", "-1", ">= 0"),
    ("maps.Observations", lambda t: observed().up_to(0), "order", "0", "at least 1"),
    ("maps.join", lambda t: maps.join(), "observations", r"\[\]", "at least one"),
    ("maps.join", lambda t: maps.join(t.o, 3), "observations", "3", "Observations"),
    ("maps.join", lambda t: maps.join(t.o, t.field), "observations", "'h'", "same inputs"),
    ("maps.correlated_means", lambda t: correlated_means([np.ones((2, 20))]), "series", "0", "a run that moves"),
    ("maps.observations_from_runs", lambda t: observations_from_runs([]), "runs", r"\[\]", "at least one"),
    ("maps.observations_from_runs", lambda t: observations_from_runs(5), "ensemble", "int", "xarray.Dataset"),
    ("maps.observations_from_runs", lambda t: observations_from_runs(t.run.assign_attrs(couplings=None)), "attrs", "couplings", "sample"),
    ("maps.observations_from_runs", lambda t: observations_from_runs(t.run.assign_attrs(couplings="{}"), ("K",)), "attrs", "couplings", "sample"),
    ("maps.observations_from_runs", lambda t: observations_from_runs([t.run, t.run.assign_attrs(shape=[8, 8]).drop_vars("config")]), "L", "4.0", "same in all runs"),
    ("maps.observations_from_runs", lambda t: observations_from_runs(t.run.drop_vars("config"), ("K",)), "run", "energy", "conjugate"),
    ("maps.log_marginal_likelihood", lambda t: log_marginal_likelihood(3, [0.0, 0.0]), "observations", "3", "Observations"),
    ("maps.log_marginal_likelihood", lambda t: log_marginal_likelihood(t.o, [0.0]), "parameters", r"\(1,\)", r"\(2,\)"),
    ("maps.log_marginal_likelihood", lambda t: log_marginal_likelihood(t.o, [0.0, 0.0], "h"), "critical", "h", "'beta'"),
    ("maps.CouplingMap", lambda t: CouplingMap("x"), "inputs", "x", NAMES),
    ("maps.CouplingMap", lambda t: CouplingMap(critical="K"), "critical", "K", "'beta'"),
    ("maps.CouplingMap", lambda t: CouplingMap(beta=0.3), "beta", "0.3", "None where beta is an input"),
    ("maps.CouplingMap", lambda t: CouplingMap(("h",), beta=-1), "beta", "-1", "> 0"),
    ("maps.CouplingMap", lambda t: CouplingMap(starts=0), "starts", "0", ">= 1"),
    ("maps.CouplingMap", lambda t: CouplingMap(members=1), "members", "1", ">= 2"),
    ("maps.CouplingMap", lambda t: CouplingMap(draws=10), "draws", "10", ">= 40"),
    ("maps.CouplingMap", lambda t: CouplingMap(seed=-1), "seed", "-1", ">= 0"),
    ("maps.CouplingMap", lambda t: CouplingMap().fit(5), "observations", "5", "Observations"),
    ("maps.CouplingMap", lambda t: CouplingMap().fit(t.field), "observations", "'h'", "of the inputs"),
    ("maps.CouplingMap", lambda t: CouplingMap().fit(observed(orders=[[0], [0]])), "observations", "ln Z alone", "at least one derivative"),
    ("maps.CouplingMap", lambda t: CouplingMap().fit(observed(points=[[0.1], [0.1]], orders=[[1], [1]], covariance=np.zeros((2, 2)))),
     "values", "2.0", "one value"),
    ("maps.CouplingMap", lambda t: CouplingMap().predict([0.3]), "map", "not fitted", "fit"),
    ("maps.CouplingMap", lambda t: t.fitted.predict([0.3], "M"), "quantity", "M", "'specific_heat'"),
    ("maps.CouplingMap", lambda t: t.fitted.predict([0.3], ()), "quantity", r"\(\)", "energy"),
    ("maps.CouplingMap", lambda t: t.fitted.predict([0.3], 3), "quantity", "3", "energy"),
    ("maps.CouplingMap", lambda t: t.fitted.predict([-0.3]), "beta", "-0.3", "at least 0"),
    ("maps.CouplingMap", lambda t: t.fitted.predict(np.zeros((2, 2))), "points", r"\(2, 2\)", r"\(n, 1\)"),
    ("maps.CouplingMap", lambda t: t.fitted.predict(np.linspace(0, 1, 4000)), "points", "4000", "3000"),
    ("maps.CouplingMap", lambda t: t.fitted.peak([0.1, 0.2]), "points", r"\(2, 1\)", "at least 5"),
    ("maps.CouplingMap", lambda t: t.fitted.peak([0.1, 0.2, 0.3, 0.4, 0.6]), "points", r"\(5, 1\)", "even steps"),
    ("maps.CouplingMap", lambda t: t.fitted.peak(np.linspace(0, 1, 9), ("energy",)), "quantity", "energy", "one name"),
    ("maps.CouplingMap", lambda t: t.fitted.next_run([[-1.0]]), "candidates", "-1", "at least 0"),
    ("maps.CouplingMap", lambda t: CouplingMap.load("/nowhere/at/all"), "path", "nowhere", "no such file"),
]
EXEMPT = {"maps.Peak": "returned", "maps.NextRun": "returned", "maps.gaussian_factor": "plain algebra of arrays", "maps.critical_factor": "the same"}


@pytest.mark.parametrize("k", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_calls(k, things):
    _, call, argument, value, accepted = TABLE[k]
    assert_refused(call, things, argument, value, accepted)


def test_every_public_callable_stands_in_the_table():
    assert_complete((maps,), TABLE, EXEMPT)


def test_a_refused_fit_leaves_the_map_as_it_was(things):
    before = things.fitted.predict([0.3, 0.4]).draws
    for bad in (things.field, None, observed(orders=[[0], [0]])):
        with pytest.raises(ValueError):
            things.fitted.fit(bad)
        assert np.array_equal(things.fitted.predict([0.3, 0.4]).draws, before) and things.fitted.observations is things.o


def test_runs_of_other_families_are_refused(things):
    "Other models, other shapes, numbers that are none: nothing of it may become an observation."
    phi = [sample(Phi4((4, 4), kappa, 1.0), 1.0, draws=20, chains=2, burn_in=5, seed=1, progress=False) for kappa in (0.1, 0.2)]
    with pytest.raises(ValueError, match="no 'couplings' of an Ising model"):
        observations_from_runs(phi)
    ising = lambda shape: sample(Ising(shape), 0.3, draws=50, chains=2, burn_in=5, seed=1, keep="observables", progress=False)
    for shapes in (((4, 4), (4, 4, 4)), ((4, 6), (4, 8))):
        with pytest.raises(ValueError, match="runs with shape="):
            observations_from_runs([ising(shape) for shape in shapes])
    run = ising((4, 4))
    hurt = run.assign(energy=run.energy.where(run.energy.draw != 3))
    with pytest.raises(ValueError, match="no finite number"):
        observations_from_runs(hurt)
    strange = run.copy()
    strange.attrs["couplings"] = '{"J": NaN, "J2": 0, "K": 0, "h": 0}'
    with pytest.raises(ValueError, match="no 'couplings'"):
        observations_from_runs(strange)


def test_numbers_that_no_map_can_hold():
    make = lambda values, covariance: Observations(("beta",), [[0.3], [0.4]], [[1], [1]], values, covariance)
    for covariance in (np.diag([1e12, -100.0]), [[0, 1e-5], [1e-5, 1]], [[1, 2], [2, 1]], [[1e-20, 2e-20], [2e-20, 1e-20]]):
        with pytest.raises(ValueError, match="covariance="):
            make([1.0, 2.0], covariance)
    assert make([1.0, 2.0], np.diag([0.0, 1e-30])).covariance[1, 1] == 1e-30
    with pytest.raises(ValueError, match="values of size 2e\\+200"):
        make([1.0, 2e200], np.eye(2))
    with pytest.raises(ValueError, match="points of size"):
        Observations(("beta",), [[1e300]], [[1]], [1.0], [[1.0]])
    for series in ([], None, [np.ones((2, 5)), np.ones((2, 6))], [np.ones(5)]):
        with pytest.raises(ValueError, match="series of shapes"):
            correlated_means(series)


def test_a_damaged_file_is_named(things, tmp_path):
    learned = things.fitted
    state = maps._state(learned, "CouplingMap") | maps._parts_of(learned.observations)
    damages = [{k: v for k, v in state.items() if k != name} for name in ("options", "points", "best", "weights")]
    damages += [state | dict(parameters=state["parameters"][:, :1]), state | dict(best=state["best"][:1]), state | dict(options="text"),
                state | dict(weights=state["weights"][:-1]), state | dict(weights=[-w for w in state["weights"]]), state | dict(parameters=[1.0]),
                state | dict(parameters=state["parameters"] * math.nan), state | dict(options=state["options"] | {"unknown": 1})]
    for k, damaged in enumerate(damages):
        save_state(tmp_path / f"{k}.pt", damaged)
        with pytest.raises(ValueError, match=f"{k}.pt.*damaged"):
            CouplingMap.load(tmp_path / f"{k}.pt")
    with pytest.raises(ValueError, match="over"):
        learned.next_run([0.3, 0.4], over=[-0.1])
