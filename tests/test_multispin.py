"""Multi-spin coding: sixty-four spins in a word, each with its own dice, and the Boltzmann law to the last digit."""
import math
import os
import subprocess
import sys
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import stats

from uqphys.analysis import estimates
from uqphys.exact import BETA_C, all_states, enumerate_states, kaufman, transfer_matrix
from uqphys.models import Ising, random_spins
from uqphys.multispin import METHODS, _partners, acceptance_digits, pack
from uqphys.sampling import sample


def mover(model, beta, spins, seed):
    "64 replicas that begin as the given spins (64, *shape); all their dice come from the generator of the first."
    move, = METHODS["multispin-replicas"].movers(model, beta, spins, [np.random.default_rng(seed)] + 63 * [None])
    return move


# ---- nothing is shared

@pytest.mark.parametrize("temperature", [1.5, 2.0, 2.3, 2.6])
def test_replicas_from_random_starts_stay_distinct(temperature):
    "With shared random numbers 2 of 64 replicas are left at T = 2.0 after these 3000 sweeps, and 18 at 2.3."
    model = Ising((64, 64))
    x, _ = mover(model, 1 / temperature, random_spins(model.shape, 64, 1), 2)(1, 3000, True)
    assert len(np.unique(x.reshape(64, -1), axis=0)) == 64


def correlations(x):
    "Correlation coefficients of all pairs of rows, times sqrt(n)."
    return np.corrcoef(x)[np.triu_indices(len(x), 1)] * np.sqrt(x.shape[1])


@pytest.mark.parametrize("temperature", [2.0, 2.6, 5.0])
def test_replicas_are_uncorrelated(temperature):
    "Energies and magnetisations of 64 replicas far apart in time: every pair, and all pairs together."
    model = Ising((8, 8))
    run = sample(model, 1 / temperature, draws=3000, chains=64, thin=8, burn_in=200, method="multispin", seed=3,
                 keep="observables", progress=False)
    for name in ("energy", "m2"):
        z = correlations(run[name].values)  # (autocorrelation would widen them; 8 sweeps are enough off the critical point)
        assert np.abs(z).max() < 5 and abs(z.mean()) < 4 / np.sqrt(z.size) * 2 and 0.85 < z.var() < 1.2, (name, z.var())


def test_even_single_decisions_are_uncorrelated():
    "One sweep from one and the same configuration: whether replica a flips site i says nothing of replica b."
    model, spins = Ising((16, 16)), np.ones((64, 16, 16), dtype=np.int8)
    flips = []
    for seed in range(40):
        x, _ = mover(model, 0.2, spins.copy(), seed)(1, 1, True)
        flips.append(x[:, 0, ::2, ::2].reshape(64, -1) < 0)  # one colour: all its neighbours were up
    flips = np.concatenate(flips, axis=1)
    z = correlations(flips.astype(float))
    assert np.abs(z).max() < 4.5 and 0.9 < z.var() < 1.1
    z_sites = correlations(flips.reshape(64, 40, -1).transpose(2, 0, 1).reshape(64, -1).astype(float))
    assert np.abs(z_sites).max() < 4.5 and 0.9 < z_sites.var() < 1.1


# ---- every probability, to the last digit

@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("beta", [0.0, 0.15, 0.44])
def test_flip_rates_for_every_surrounding(ndim, beta):
    "The second colour of a sweep meets all surroundings; each flips with 15/16 min(1, exp(-beta dE))."
    shape = (8,) * ndim
    spins, model, counted = random_spins(shape, 64, 5), Ising((8,) * ndim), {}
    move = mover(model, beta, spins.copy(), 6)
    now = spins
    parity = np.indices(shape).sum(0) % 2
    for _ in range(150 if ndim == 2 else 30):
        then = move(1, 1, True)[0][:, 0]
        seen = np.where(parity == 0, then, now)  # what the second colour saw: the first one moved already
        around = sum(np.roll(seen, step, axis) for axis in range(1, ndim + 1) for step in (1, -1))
        apart = (2 * ndim - now * around) // 2
        for n in range(2 * ndim + 1):
            here = (apart == n) & (parity == 1)
            old = counted.get(n, (0, 0))
            counted[n] = old[0] + here.sum(), old[1] + (here & (then != now)).sum()
        now = then
    for n, (tries, flips) in counted.items():
        p = 15 / 16 * min(1.0, np.exp(-2 * beta * (2 * ndim - 2 * n)))
        if tries > 0:
            assert abs(flips - tries * p) <= 4.5 * np.sqrt(tries * p * (1 - p)), (n, tries, flips / tries, p)
    assert sum(tries > 500 for tries, _ in counted.values()) >= 3


def test_digits_are_exact():
    from fractions import Fraction

    for exponent, neighbours in product((0.0, 0.3, 2 * BETA_C, 7.0), (4, 6)):
        table = acceptance_digits(exponent, neighbours).reshape(-1, 4) != 0
        digits = np.logical_xor.accumulate(table, axis=1)
        for n in range(4):
            p = 15 / 16 * math.exp(-exponent * max(0, neighbours - 2 * n))
            assert sum(Fraction(int(d), 2 ** (k + 1)) for k, d in enumerate(digits[:, n])) == Fraction(float(p))


# ---- the exact law is left invariant

def exact_draws(model, beta, n, rng):
    states = np.concatenate(list(all_states(model.shape)))
    weight = np.exp(-beta * (model.energy(states) - model.energy(states).min()))
    law = weight / weight.sum()
    return states, law, rng.choice(len(states), size=n, p=law)


def p_value(model, beta, seed, batches=300):
    "Independent exact starts, one sweep each, chi-squared of where they end against the exact law."
    rng = np.random.default_rng(seed)
    states, law, starts = exact_draws(model, beta, 64 * batches, rng)
    counts, powers = np.zeros(len(states)), 1 << np.arange(model.n_sites)
    generators = [np.random.default_rng([seed, c]) if c % 64 == 0 else None for c in range(64 * batches)]
    for move in METHODS["multispin-replicas"].movers(model, beta, states[starts], generators):
        x, _ = move(1, 1, True)
        counts += np.bincount((x.reshape(64, -1) > 0) @ powers, minlength=len(states))
    order = np.argsort(law)  # pool states until at least 10 are expected in each bin
    edges = np.searchsorted(np.cumsum(law[order]) * counts.sum() // 10, np.unique(np.cumsum(law[order]) * counts.sum() // 10))
    observed, expected = np.add.reduceat(counts[order], edges), np.add.reduceat(law[order] * counts.sum(), edges)
    return stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


@cache
def p_values(shape, J, beta):
    return np.array([p_value(Ising(shape, J=J), beta, seed) for seed in range(40)])


@pytest.mark.parametrize("shape, J, beta", [((2, 2), 1.0, 0.25), ((2, 4), 1.0, 0.44), ((2, 4), -0.8, 0.4), ((2, 2, 2), 1.0, 0.15)])
def test_a_sweep_leaves_the_exact_law_invariant(shape, J, beta):
    p = p_values(shape, J, beta)
    assert p.min() > 1e-4 and stats.kstest(p, "uniform").pvalue > 0.001, p


# ---- means against exact answers

@pytest.mark.parametrize("layout, beta", [("multispin-replicas", 0.3), ("multispin-replicas", BETA_C), ("multispin-replicas", 0.5),
                                          ("multispin", 0.3), ("multispin", 0.42), ("multispin", 0.5)])
def test_kaufman(layout, beta):
    L, chains = (32, 64) if layout == "multispin-replicas" else (128, 2)
    run = sample(Ising((L, L)), beta, draws=2500, chains=chains, thin=4, burn_in=4000, method=layout, seed=7,
                 keep="observables", progress=False)
    exact, found = kaufman(L, beta), estimates(run)
    for name in ("energy", "specific_heat"):
        assert abs(found[name].value - getattr(exact, name)) < 4 * found[name].error, (name, str(found[name]))


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (4, 4), (2, 2, 4), (2, 4, 2)])
def test_smallest_lattices(shape):
    model, beta = Ising(shape, J=0.8), 0.35
    exact = enumerate_states(model, beta).averages
    run = sample(model, beta, draws=1500, chains=64, thin=3, burn_in=50, method="multispin", seed=8, keep="observables", progress=False)
    for name in ("energy", "abs_m", "m2", "m4"):
        means = run[name].values.mean(1)  # 64 independent chains
        assert abs(means.mean() - exact[name]) < 4 * means.std(ddof=1) / 8, name


@cache
def scores():
    "z of the chain means of many independent words."
    model, beta = Ising((4, 4)), 0.44
    exact = dict(transfer_matrix(4, beta).averages)
    out = []
    for seed in range(60):
        run = sample(model, beta, draws=800, chains=64, thin=2, burn_in=60, method="multispin", seed=seed, keep="observables", progress=False)
        means = {name: run[name].values.mean(1) for name in ("energy", "abs_m")}
        out.append([(means[n].mean() - exact[n]) / (means[n].std(ddof=1) / 8) for n in means])
    return np.array(out)


def test_z_scores_are_standard_normal():
    for z in scores().T:
        assert stats.kstest(z, stats.t(63).cdf).pvalue > 0.005 and abs(z.mean()) * np.sqrt(z.size) < 3.5
        for wrong in (z + 0.8, z * 2):
            assert stats.kstest(wrong, stats.t(63).cdf).pvalue < 0.005


# ---- contracts

def test_large_lattices_fit_into_little_memory():
    "L = 4096, observables only: less than 1 GB for the whole process (ru_maxrss would count the parent's memory too)."
    code = ("from uqphys.models import Ising; from uqphys.sampling import sample;"
            "e = sample(Ising((4096, 4096)), 0.44, draws=10, chains=1, burn_in=10, method='multispin', seed=1, keep='observables', progress=False);"
            "assert e.energy.shape == (1, 10); print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert int(done.stdout) < 1e6, f"{done.stdout} kB"


@pytest.mark.parametrize("shape", [(128, 4), (8, 6), (4, 4, 4)])
def test_observables_are_those_of_the_model_to_the_bit(shape):
    model = Ising(shape, J=-0.7)
    run = sample(model, 0.3, draws=7, chains=3, burn_in=5, thin=2, method="multispin", seed=2, progress=False)
    for name, values in model.observables(run.config.values).items():
        assert np.array_equal(run[name], values), name


def test_same_bits_with_and_without_configurations_and_in_other_company():
    model, options = Ising((6, 6)), dict(draws=20, burn_in=5, thin=2, method="multispin", seed=4, progress=False)
    full, few, bare = sample(model, 0.4, chains=130, **options), sample(model, 0.4, chains=3, **options), sample(
        model, 0.4, chains=3, keep="observables", **options)
    assert np.array_equal(full.config[:3], few.config) and np.array_equal(few.energy, bare.energy)
    assert not np.array_equal(full.config[0], full.config[64]) and len(np.unique(full.m4.values[:, 5:], axis=0)) == 130


def test_partners_are_the_neighbours():
    for shape, sites in (((4, 6), False), ((128, 6), True), ((256, 2), True), ((2, 4, 6), False), ((128, 2, 4), True)):
        model, x = Ising(shape), random_spins(shape, 1 if sites else 64, 9)
        words = pack(x, sites)
        assert _partners(shape, sites).shape == (2, 2 * len(shape), words.shape[1] - (2 * int(np.prod(shape[1:])) // 2 if sites else 0))
