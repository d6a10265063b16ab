"""Every sampler against exact answers, and the errors against the truth.

A Monte Carlo result z = (estimate - exact) / error must be a standard normal variable: mean 0 if the sampler is right, variance 1
if the error is. Hundreds of independent runs (another seed each) are collected and their z tested for exactly that.
"""
from functools import cache

import numpy as np
import pytest
from scipy import stats

from common import assert_threads_do_not_matter
from uqphys.analysis import DERIVED, estimates
from uqphys.exact import BETA_C, enumerate_states, kaufman, transfer_matrix
from uqphys.models import Ising
from uqphys.sampling import sample

CHECKED = ("energy", "abs_m", "susceptibility", "specific_heat")
COUPLINGS = {
    "nearest": ({}, 0.44),
    "all ferro": ({"J2": 0.1, "K": 0.2, "h": 0.05}, 1 / 2.6),
    "frustrated": ({"J": 0.7, "J2": -0.2, "K": -0.3, "h": 0.1}, 0.6),
}
BETAS = (0.35, BETA_C, 0.55)
FOUR = [(c, m) for c in COUPLINGS for m in ("metropolis", "heatbath", "local", "batched")]
FOUR += [("nearest", m) for m in ("checkerboard", "wolff", "swendsen-wang")]
FEWER = {"batched": 12, "heatbath": 30}  # seeds; all other methods 60


@cache
def enumerated(model, beta):
    square = {"energy2": lambda x: (model.energy(x) / model.n_sites) ** 2}
    means = dict(enumerate_states(model, beta, observables=square).averages)
    return means | {name: derived(means, beta, model.n_sites) for name, derived in DERIVED.items()}


@cache
def exact_square(L, beta):
    "What is known of an L x L torus with J = 1: all from the transfer matrix where it can be had, else Kaufman's two."
    answer = kaufman(L, beta)
    known = {"energy": answer.energy, "specific_heat": answer.specific_heat}
    if L <= 9:
        means = dict(transfer_matrix(L, beta).averages)
        assert abs(means["energy"] - answer.energy) < 1e-9
        known |= {"abs_m": means["abs_m"], "susceptibility": DERIVED["susceptibility"](means, beta, L * L)}
    return known


def z_scores(model, beta, exact, seed, **arguments):
    found = estimates(sample(model, beta, seed=seed, keep="observables", progress=False, **arguments))
    return {name: (found[name].value - exact[name]) / found[name].error for name in CHECKED if name in exact}


@cache
def four_by_four(couplings, method):
    "z of every checked observable at L = 4 over independent seeds: {observable: array}."
    values, beta = COUPLINGS[couplings]
    model, first = Ising((4, 4), **values), 1000 * FOUR.index((couplings, method))
    run = {"draws": 120, "chains": 64, "burn_in": 150} if method == "batched" else {"draws": 6000, "chains": 4, "burn_in": 100}
    seeds = range(first, first + FEWER.get(method, 60))
    rows = [z_scores(model, beta, enumerated(model, beta), seed, method=method, **run) for seed in seeds]
    return {name: np.array([row[name] for row in rows]) for name in CHECKED}


@cache
def eight_by_eight(beta):
    model, first = Ising((8, 8)), 100_000 + 1000 * BETAS.index(beta)
    draws = 20000 if beta > BETA_C else 10000  # in the cold, rare turns of the whole lattice dominate the susceptibility
    rows = [z_scores(model, beta, exact_square(8, beta), seed, draws=draws, burn_in=200) for seed in range(first, first + 60)]
    return {name: np.array([row[name] for row in rows]) for name in CHECKED}


@pytest.mark.parametrize("couplings, method", FOUR)
def test_four_by_four(couplings, method):
    for name, z in four_by_four(couplings, method).items():
        assert np.abs(z).max() < 4.5, (name, z)  # one of 2600 lies beyond 4
        assert abs(z.mean()) * np.sqrt(z.size) < 4, (name, z.mean())  # all seeds together: a far sharper test


@pytest.mark.parametrize("beta", BETAS)
def test_eight_by_eight(beta):
    for name, z in eight_by_eight(beta).items():
        assert np.abs(z).max() < 4.5, (name, z)
        assert abs(z.mean()) * np.sqrt(z.size) < 4, (name, z.mean())


@pytest.mark.parametrize("method", ("metropolis", "checkerboard", "heatbath", "local", "wolff", "swendsen-wang"))
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("L, draws", [(8, 10000), (16, 10000), (32, 10000)])
def test_kaufman(L, draws, beta, method):
    ensemble = sample(Ising((L, L)), beta, draws=draws, method=method, seed=L, keep="observables", progress=False)
    found = estimates(ensemble)
    for name, value in exact_square(L, beta).items():
        assert abs(found[name].value - value) < 4 * found[name].error, (name, str(found[name]), value)
        assert found[name].n_eff > 300, (name, found[name])


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3, 5), (2, 7), (2, 2, 2), (2, 3, 3), (3, 2, 2)])
def test_odd_and_smallest_lattices(shape):
    model, beta = Ising(shape, J=0.6, J2=-0.1, K=0.15, h=0.1), 0.3
    methods = {"metropolis", "heatbath"} | ({"local"} if len(shape) == 2 and min(shape) > 2 else set())
    for method in methods:
        z = z_scores(model, beta, enumerated(model, beta), 7, draws=20000, method=method, burn_in=200)
        assert max(map(abs, z.values())) < 4, (method, z)


def standard_normal(z):
    "Mean, variance and whole distribution of independent z-scores: True if nothing speaks against N(0, 1)."
    mean, variance = z.mean() * np.sqrt(z.size), (z.var() - 1) * np.sqrt(z.size / 2)
    return abs(mean) < 3.5 and abs(variance) < 3.5 and stats.kstest(z, "norm").pvalue > 0.005


def collected(name):
    "Independent z-scores of one observable over all methods, couplings, temperatures and seeds."
    parts = [four_by_four(*case)[name] for case in FOUR] + [eight_by_eight(beta)[name] for beta in BETAS]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", CHECKED)
def test_z_scores_are_standard_normal(name):
    z = collected(name)
    print(f"{name}: {z.size} runs, mean {z.mean():.3f}, variance {z.var():.3f}, KS p = {stats.kstest(z, 'norm').pvalue:.3f}")
    assert z.size > 600 and standard_normal(z)


@pytest.mark.parametrize("name", CHECKED)
def test_that_test_has_power(name):
    z = collected(name)
    for wrong in (z * 1.3, z / 1.3, z + 0.3, z - 0.3):  # errors 1.3 times too small or too large; values off by 0.3 errors
        assert not standard_normal(wrong)


THREADS = """
import hashlib, warnings
from uqphys.models import Ising
from uqphys.sampling import sample
digest = hashlib.sha256()
for method in ("metropolis", "heatbath", "local", "wolff", "swendsen-wang", "tempering"):
    e = sample(Ising((6, 6), J2=0.1), 0.4, draws=600, chains=3, method=method, seed=11, progress=False)
    for name in ("config", "energy", "abs_m"):
        digest.update(e[name].values.tobytes())
    digest.update(str(e.attrs["burn_in"]).encode())
print(digest.hexdigest())
"""


def test_same_bits_with_any_number_of_threads():
    assert_threads_do_not_matter(THREADS)


@pytest.mark.parametrize("method", ("metropolis", "checkerboard", "heatbath", "local", "batched", "multispin", "wolff",
                                    "swendsen-wang", "tempering"))
def test_more_chains_leave_the_earlier_ones(method):
    few, many = (sample(Ising((4, 4)), 0.4, draws=200, chains=c, method=method, seed=3, progress=False) for c in (2, 5))
    assert np.array_equal(few.config, many.config[:2]) and few.attrs["burn_in"] == many.attrs["burn_in"]
