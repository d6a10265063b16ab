"""Couplings from configurations: consistent, with honest errors, and refused where nothing can be told."""
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from common import assert_complete, assert_refused, row_name
from uqphys import inverse
from uqphys.exact import BETA_C, all_states
from uqphys.inverse import (CouplingEstimator, Couplings, check_terms, fisher_information, maximum_likelihood, pseudo_likelihood,
                            simulated_sums, sufficient_statistics, summaries)
from uqphys.models import Ising, random_spins
from uqphys.phases import TriangularIsing, triangular_clusters
from uqphys.sampling import sample

NAMES = ("J", "J2", "K", "h")
TRUTH = np.array([0.2, 0.06, -0.05, 0.1])


@cache
def everything(shape):
    return np.concatenate(list(all_states(shape)))


def exact_draws(theta, n, seed, shape=(4, 4), terms=NAMES):
    "Independent configurations, from the list of all states."
    weight = sufficient_statistics(everything(shape), terms) @ theta
    p = np.exp(weight - weight.max())
    return everything(shape)[np.random.default_rng(seed).choice(len(p), n, p=p / p.sum())]


def z_scores(results, truth):
    return np.array([(r.values - truth) / r.errors for r in results])


def slow_pseudo(x, theta):
    "The pseudo-likelihood, from energies of configurations with one spin turned."
    total = 0.0
    for site in range(x[0].size):
        y = x.copy().reshape(len(x), -1)
        y[:, site] *= -1
        change = (sufficient_statistics(y.reshape(x.shape)) - sufficient_statistics(x)) @ theta
        total -= np.logaddexp(0, change).sum()
    return total


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (2, 3), (2, 2)])
def test_the_maximum_is_one_of_the_pseudo_likelihood_written_out(shape):
    x = exact_draws(TRUTH, 300, 1, shape)
    found = pseudo_likelihood(x)
    best = slow_pseudo(x, found.values)
    for k, sign in [(k, sign) for k in range(4) for sign in (-1, 1)]:
        assert slow_pseudo(x, found.values + sign * 1e-4 * np.eye(4)[k]) < best


def test_statistics_are_minus_the_energy():
    x = random_spins((5, 4), 30, 1)
    assert np.allclose(sufficient_statistics(x) @ [1, 0.2, -0.3, 0.1], -Ising((5, 4), 1, 0.2, -0.3, 0.1).energy(x))
    assert np.array_equal(sufficient_statistics(torch.as_tensor(x)), sufficient_statistics(x))
    assert np.array_equal(sufficient_statistics(x, ("h", "J")), sufficient_statistics(x)[:, [3, 0]])


def test_consistent():
    small, large = (pseudo_likelihood(exact_draws(TRUTH, n, 2)) for n in (500, 50_000))
    assert (abs(large.values - TRUTH) < 4.5 * large.errors).all() and np.allclose(small.errors / large.errors, 10, rtol=0.2)


@pytest.mark.parametrize("shape, n", [((4, 4), 60), ((3, 4), 80), ((2, 4), 120)])
def test_errors_of_independent_configurations(shape, n):
    x = exact_draws(TRUTH, 200 * n, 3, shape).reshape(200, n, *shape)
    z = z_scores([pseudo_likelihood(y) for y in x], TRUTH)
    assert min(stats.kstest(column, "norm").pvalue for column in z.T) > 2e-4
    assert (abs(z.std(0) - 1) < 0.25).all()


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (2, 4)])
def test_the_middle_of_the_sandwich_is_the_covariance_of_the_slopes(shape):
    theta, x = np.array([0.2, -0.1, 0.3, 0.1]), everything(shape)
    slopes = inverse._slopes(x[..., None] * inverse._local_fields(x, NAMES), theta).sum((1, 2))
    weight = np.exp(sufficient_statistics(x) @ theta)
    exact = (slopes * (weight / weight.sum())[:, None]).T @ slopes
    y = exact_draws(theta, 60_000, 12, shape)
    found = pseudo_likelihood(y)
    curvature = inverse._pseudo_newton((y[..., None] * inverse._local_fields(y, NAMES)).reshape(-1, 4))[1]
    middle = curvature @ found.covariance @ curvature / len(y)
    assert (abs(middle - exact) < 0.04 * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))).all()


def test_errors_of_groups_see_what_is_repeated():
    x = exact_draws(TRUTH, 150 * 60, 4).reshape(150, 60, 4, 4).repeat(3, axis=1)  # every configuration three times
    labels = np.arange(180) // 3
    z = z_scores([pseudo_likelihood(y, groups=labels) for y in x], TRUTH)
    assert (abs(z.std(0) - 1) < 0.22).all() and min(stats.kstest(column, "norm").pvalue for column in z.T) > 2e-4
    naive = z_scores([pseudo_likelihood(y) for y in x], TRUTH)
    assert (naive.std(0) > 1.4).all()
    named = pseudo_likelihood(x[0], groups=np.array([f"block {k}" for k in labels]))
    assert np.allclose(named.covariance, pseudo_likelihood(x[0], groups=labels).covariance, rtol=1e-9)


def test_errors_of_chains_see_autocorrelation():
    run = sample(Ising((8, 8)), BETA_C, draws=120, chains=100, method="metropolis", burn_in=300, thin=5, seed=6, progress=False)
    run = run.isel(draw=np.arange(120).repeat(4))  # a chain that moves every fourth step
    z = z_scores([pseudo_likelihood(run.isel(chain=[k]), ("J", "J2")) for k in range(100)], [BETA_C, 0])
    naive = z_scores([pseudo_likelihood(run.config.values[k], ("J", "J2")) for k in range(100)], [BETA_C, 0])
    assert (abs(z.std(0) - 1) < 0.3).all() and min(stats.kstest(column, "norm").pvalue for column in z.T) > 2e-4
    assert (naive.std(0) > 1.5 * z.std(0)).all()
    together = pseudo_likelihood(run, ("J", "J2"))
    assert together.n == 48_000 and (abs(together.values - [BETA_C, 0]) < 4.5 * together.errors).all()
    correlation = together.covariance[0, 1] / np.prod(together.errors)
    assert -1 < correlation < -0.3  # neighbours of both kinds explain the same order


def test_one_large_snapshot():
    x = sample(Ising((32, 32)), 0.4, draws=60, thin=20, burn_in=200, chains=1, method="wolff", seed=7, progress=False).config.values[0]
    z = z_scores([pseudo_likelihood(y[None], ("J", "J2", "K")) for y in x], [0.4, 0, 0])
    assert (abs(z.std(0) - 1) < 0.4).all() and abs(z).max() < 5


def test_maximum_likelihood_matches_moments_and_sits_on_the_bound():
    x = exact_draws(TRUTH, 200 * 80, 8).reshape(200, 80, 4, 4)
    results = [maximum_likelihood(y) for y in x]
    weight = sufficient_statistics(everything((4, 4))) @ results[0].values
    p = np.exp(weight - weight.max())
    assert np.allclose(p @ sufficient_statistics(everything((4, 4))) / p.sum(), sufficient_statistics(x[0]).mean(0), atol=1e-8)
    z = z_scores(results, TRUTH)
    assert min(stats.kstest(column, "norm").pvalue for column in z.T) > 2e-4
    bound = np.sqrt(np.diag(np.linalg.inv(fisher_information((4, 4), TRUTH))) / 80)
    assert np.allclose(np.array([r.values for r in results]).std(0) / bound, 1, atol=0.2)


def test_fisher_information_is_the_covariance_of_the_sums():
    x = exact_draws(TRUTH, 200_000, 9)
    assert np.allclose(np.cov(sufficient_statistics(x).T) / fisher_information((4, 4), TRUTH), 1, atol=0.05)
    assert np.allclose(fisher_information((3, 3), (0, 0)[:1], ("h",)), 9)


def test_what_it_prints():
    assert str(Couplings(("J", "h"), np.array([0.44068, 0.0]), np.diag([0.0012**2, 0.01**2]), 5)) == "βJ = 0.4407(12), βh = 0.000(10)"
    assert check_terms(["h", "J"]) == ("h", "J")


def test_pure_field_has_the_closed_answer():
    x = exact_draws(np.array([0.3]), 500, 10, terms=("h",))
    for found in (pseudo_likelihood(x, ("h",)), maximum_likelihood(x, ("h",))):
        assert found.values[0] == pytest.approx(math.atanh(x.mean()), abs=1e-9)
        assert found.errors[0] == pytest.approx(1 / math.sqrt(8000 * (1 - x.mean() ** 2)), rel=1e-6)


def test_simulated_sums_and_summaries():
    theta = [[0.3, 0.1], [0.1, -0.2], [0.0, 0.0]]
    sums, twin = (simulated_sums((4, 4), theta, 800, terms=("J", "h"), seed=1) for _ in range(2))
    assert np.array_equal(sums, twin) and sums.shape == (3, 800, 2)
    for row, total in zip(theta, sums):
        states = sufficient_statistics(everything((4, 4)), ("J", "h"))
        p = np.exp(states @ row)
        mean, variance = p @ states / p.sum(), np.diag(fisher_information((4, 4), row, ("J", "h")))
        assert (abs(total.mean(0) - mean) < 8 * np.sqrt(variance / 800)).all()
    rows = summaries(sums, 16)
    assert rows.shape == (3, 3) and np.allclose(rows[:, :2], sums.mean(1) / 16) and np.allclose(rows[:, 2], 800**-0.5)


def test_simulations_are_thinned_after_a_hundred_sweeps(monkeypatch):
    asked = []
    monkeypatch.setattr(inverse, "sample", lambda model, beta=1.0, **options: asked.append((beta, options)) or sample(model, beta, **options))
    theta, kept = [[0.3], [0.1]], dict(terms=("J",), seed=4)
    every, second = simulated_sums((4, 4), theta, 10, thin=1, **kept), simulated_sums((4, 4), theta, 5, thin=2, **kept)
    assert np.array_equal(second, every[:, 1::2]) and not np.array_equal(second, every[:, :5])
    assert [(beta, options["burn_in"], options["thin"]) for beta, options in asked] == [(1.0, 100, 1)] * 2 + [(1.0, 100, 2)] * 2


def test_a_short_run_gives_an_estimate_but_no_error():
    t = things()
    assert np.array_equal(t.net.estimate(t.short), t.net.estimate(t.short.config.values.reshape(-1, 4, 4)))


def test_tensors_and_arrays_in_any_memory_give_the_same():
    x = exact_draws(TRUTH, 60, 20)
    told = pseudo_likelihood(x)
    for y in (torch.as_tensor(x), torch.as_tensor(x, dtype=torch.float64).requires_grad_(), torch.as_tensor(x, dtype=torch.bfloat16), x[::-1][::-1], x.astype(">f8"),
              np.broadcast_to(x, x.shape)):
        assert np.array_equal(sufficient_statistics(y), sufficient_statistics(x)) and np.array_equal(pseudo_likelihood(y).values, told.values)
        assert np.array_equal(maximum_likelihood(y).values, maximum_likelihood(x).values)
    sums = torch.ones(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert np.array_equal(summaries(sums, 4), summaries(sums.detach().numpy(), 4))
    grown = fisher_information((3, 3), torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True), ("J", "h"))
    assert np.array_equal(grown, fisher_information((3, 3), (0.1, 0.2), ("J", "h")))


def test_results_can_be_compared_and_collected():
    one, other = (pseudo_likelihood(exact_draws(TRUTH, 60, 20)) for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2 and one in [other, one]


def test_an_estimator_learns_the_posterior_mean():
    "One coupling, a field alone: the posterior mean is an integral over one number."
    rng = np.random.default_rng(3)
    h = rng.uniform(-0.5, 0.5, 200_000)
    total = 2 * rng.binomial(16, 1 / (1 + np.exp(-2 * h))) - 16
    found, index, counts = np.unique(total, return_inverse=True, return_counts=True)  # least squares sees the means only
    x, y = torch.as_tensor(summaries(found[:, None, None], 16)), torch.as_tensor(np.bincount(index, h) / counts)
    net, weight = CouplingEstimator(("h",), hidden=(16,)), torch.as_tensor(counts / counts.sum())
    net.standardise(x)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(600):
        optimiser.zero_grad()
        (weight * (net(x)[:, 0] - y).square()).sum().backward()
        optimiser.step()
    grid = np.linspace(-0.5, 0.5, 2001)
    for m in (-6, 0, 4, 8):
        weight = np.exp(grid * m - 16 * np.log(np.cosh(grid)))
        assert net(torch.as_tensor(summaries([[m]], 16))).item() == pytest.approx((grid * weight).sum() / weight.sum(), abs=0.02)
    spins = np.ones((1, 4, 4), dtype=np.int8)
    spins[0, 0] = -1
    assert net.estimate(spins)[0] == pytest.approx(net(torch.as_tensor(summaries([[8]], 16))).item())
    twin = type(net)(**net.config)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(x), net(x))


@cache
def things():
    x = random_spins((4, 4), 30, 0)
    run = sample(Ising((4, 4)), 0.2, draws=20, chains=2, burn_in=5, seed=1, progress=False)
    bare = TriangularIsing((4, 4))
    return SimpleNamespace(x=x, run=run, triangular=triangular_clusters(bare, 0.2, draws=20, chains=2, seed=0), other=run.rename(chain="c"), bare=run.drop_vars("config"), short=run.isel(draw=slice(0, 5)), net=CouplingEstimator(("J", "h"), (4,)),
                           line=np.where(np.arange(4) < 2, 1, -1) * np.ones((3, 4, 1)))


def rows_of(name, call, argument, values, accepted):
    return [(f"inverse.{name}", lambda t, v=v: call(t, v(t) if callable(v) else v), argument, shown, accepted) for v, shown in values]


BAD_TERMS = ((None, "None"), ("J", "terms='J'"), ((), r"\(\):"), (("J", "J3"), "J3"), (("J", "J"), r"\('J', 'J'\)"), ((1,), r"\(1,\)"), ({"J": 1}, r"\{'J': 1\}"))
BAD_SPINS = ((None, "None"), ([[1, -1]], r"\[\[1, -1\]\]"), (np.zeros((2, 4, 4)), r"0\.0"), (np.full((2, 4, 4), np.nan), "nan"), (np.ones((3, 4, 1)), r"\(3, 4, 1\)"),
             (np.ones((0, 4, 4)), r"\(0, 4, 4\)"), (np.ones(4), r"\(4,\)"), ("spins", "'spins'"))
ONE, FEW = ((np.ones((4, 4)), r"\(4, 4\)"), (np.ones((1, 2, 4, 4)), r"\(1, 2, 4, 4\)")), "finite maximum"
SPINS, TERM, COUNT = r"-1, \+1|-1 or \+1|array of spins", "must be a tuple of different names", "whole number >="
DEAD = ((np.ones((3, 4, 4)), r"\(3, 4, 4\)"), (-np.ones((2, 4, 4)), r"\(2, 4, 4\)"))

TABLE = [
    *rows_of("check_terms", lambda t, v: check_terms(v), "terms", BAD_TERMS, TERM),
    *rows_of("sufficient_statistics", lambda t, v: sufficient_statistics(t.x, v), "terms", BAD_TERMS, TERM),
    *rows_of("sufficient_statistics", lambda t, v: sufficient_statistics(v), "x", BAD_SPINS, SPINS),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(t.x, v), "terms", BAD_TERMS, TERM),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", BAD_SPINS, SPINS),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", ONE, r"must be \(n, Lx, Ly\)"),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", (*DEAD, (lambda t: t.line, r"\(3, 4, 4\)")), FEW),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", ((lambda t: t.bare, "energy"), (lambda t: t.other, r"\('c', 'draw'"), (lambda t: t.run.isel(chain=0), r"\('draw',")), "must be an ensemble with config"),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", ((lambda t: t.triangular, "TriangularIsing"),), "square lattice"),
    *rows_of("CouplingEstimator", lambda t, v: t.net.estimate(v), "x", ((lambda t: t.triangular, "TriangularIsing"),), "square lattice"),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", ((lambda t: t.run.isel(chain=slice(0, 0)), r"\(0, 4, 4\)"), (lambda t: t.run.isel(draw=slice(0, 0)), r"\(0, 4, 4\)")), "not empty"),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(v), "x", ((lambda t: t.short, "5 draws"),), "at least 10 draws"),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(t.x, groups=v), "groups",
             ((3, "3"), ([1, 2], r"\[1, 2\]"), (np.full(30, 0.5), r"0\.5"), ("ab", "'ab'"), ([[1, 2], [3]], r"\[\[1, 2\], \[3\]\]")), "must be whole numbers or names"),
    *rows_of("pseudo_likelihood", lambda t, v: pseudo_likelihood(t.x, groups=v), "groups", ((np.arange(30) % 9, "9 different"),), "at least 10"),
    *rows_of("maximum_likelihood", lambda t, v: maximum_likelihood(t.x, v), "terms", BAD_TERMS, TERM),
    *rows_of("maximum_likelihood", lambda t, v: maximum_likelihood(v), "x", BAD_SPINS, SPINS),
    *rows_of("maximum_likelihood", lambda t, v: maximum_likelihood(v), "x", ONE, r"must be \(n, Lx, Ly\)"),
    *rows_of("maximum_likelihood", lambda t, v: maximum_likelihood(v), "x", DEAD, FEW),
    *rows_of("maximum_likelihood", lambda t, v: maximum_likelihood(v), "x", ((lambda t: t.run, "Dataset"),), "independent configurations"),
    *rows_of("maximum_likelihood", lambda t, v: maximum_likelihood(v), "x", ((random_spins((5, 5), 9, 0), r"\(9, 5, 5\)"),), "at most 20"),
    *rows_of("fisher_information", lambda t, v: fisher_information(v, (0.1,), ("J",)), "shape",
             ((None, "None"), ((4,), r"\(4,\)"), ((1, 4), r"\(1, 4\)"), ((5, 5), r"\(5, 5\)"), ((2, 2, 2), r"\(2, 2, 2\)")), "must be"),
    *rows_of("fisher_information", lambda t, v: fisher_information((3, 3), v, ("J", "h")), "couplings",
             ((None, "None"), (0.3, r"0\.3"), ((0.3,), r"0\.3"), ((0.3, math.nan), "nan"), ((0.3, "h"), r"\(0\.3, 'h'\)"), ((0.3, None), "None"), ([[0.1], [0.2, 0.3]], r"\[\[0\.1\], \[0\.2, 0\.3\]\]"),
              ((0.1, 1e308), r"1e\+308"), ((0.1, True), "True"), ((0.1, 1j), "1j"), (("0.1", "0.2"), r"'0\.1'")), "must be 2 finite numbers up to 1e\\+06"),
    *rows_of("fisher_information", lambda t, v: fisher_information((3, 3), (0.1,), v), "terms", BAD_TERMS, TERM),
    *rows_of("simulated_sums", lambda t, v: simulated_sums((4, 4), v, 10, seed=1), "couplings",
             ((None, "None"), ([0.1, 0, 0, 0], r"0\.1"), ([[0.1, 0.2]], r"0\.2"), ([[0.1, 0, 0, math.inf]], "inf"), ("ab", "'ab'"), (np.zeros((0, 4)), r"\[\]"), (np.full((1, 4), 1j), r"1\.?j"),
              ([["0.1"] * 4], r"'0\.1'"), ([[True, 0.1, 0, 0]], "True"), (np.ones((1, 4), dtype=bool), "True"), ([[1e300, 0, 0, 0]], r"1e\+300"), ([[0.1], [0.1, 0.2]], r"\[0\.1\]")), "must be a table"),
    *rows_of("simulated_sums", lambda t, v: simulated_sums(v, [[0.1] * 4], 10, seed=1), "shape", ((None, "None"), ((4,), r"\(4,\)"), ((1, 4), r"\(1, 4\)")), "must be"),
    *rows_of("simulated_sums", lambda t, v: simulated_sums((4, 4), [[0.1] * 4], v, seed=1), "draws", ((0, "0"), (1.5, r"1\.5"), (None, "None")), COUNT),
    *rows_of("simulated_sums", lambda t, v: simulated_sums((4, 4), [[0.1] * 4], 9, thin=v, seed=1), "thin", ((0, "0"), (1.5, r"1\.5"), (None, "None")), COUNT),
    *rows_of("simulated_sums", lambda t, v: simulated_sums((4, 4), [[0.1] * 4], 9, seed=v), "seed", ((-1, "-1"), (1.5, r"1\.5"), (None, "None")), COUNT),
    *rows_of("simulated_sums", lambda t, v: simulated_sums((4, 4), [[0.1] * 4], 9, terms=v, seed=1), "terms", BAD_TERMS, TERM),
    *rows_of("summaries", lambda t, v: summaries(v, 16), "total", ((None, "None"), ("ab", "'ab'"), ([1.0], r"\(1,\)"), ([[math.nan]], "nan"), (np.zeros((0, 2)), r"\(0, 2\)"),
             ([[1, 2], [3]], r"\[\[1, 2\], \[3\]\]"), ([["1"]], "'1'"), ([[True]], "True"), (np.array([[1j]]), r"1\.?j")), "must be finite sums"),
    *rows_of("summaries", lambda t, v: summaries([[1.0]], v), "sites", ((0, "0"), (1.5, r"1\.5"), (None, "None")), COUNT),
    *rows_of("CouplingEstimator", lambda t, v: CouplingEstimator(v), "terms", BAD_TERMS, TERM),
    *rows_of("CouplingEstimator", lambda t, v: CouplingEstimator(hidden=v), "hidden", ((4, "4"), ((0,), "0"), (None, "None")), "expected a sequence|whole number >= 1"),
    *rows_of("CouplingEstimator", lambda t, v: CouplingEstimator(seed=v), "seed", ((-1, "-1"), (None, "None")), COUNT),
    *rows_of("CouplingEstimator", lambda t, v: t.net.estimate(v), "x", BAD_SPINS, SPINS),
    *rows_of("CouplingEstimator", lambda t, v: t.net(v), "x", (("ab", "'ab'"), ([[1.0, 2.0]], r"\(1, 2\)"), ([[1.0, math.nan, 1.0]], "not finite")), "expected|must be"),
]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *expected = TABLE[row]
    assert_refused(call, things(), *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete((inverse,), TABLE, {"inverse.Couplings": "a plain record of results, made by the functions that check"})
