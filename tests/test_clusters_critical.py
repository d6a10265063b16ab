"""Cluster updates at criticality: Binder ratios against exact ones, the 3D transition, and chains that exchange configurations.

Errors come from the Γ-method or from independent chains; seeds are fixed; |z| < 4 for a single number.
"""
import itertools
import math
from functools import cache

import numpy as np
import pytest

from uqphys.analysis import estimates, gamma_error
from uqphys.clusters import METHODS
from uqphys.exact import BETA_C, enumerate_states, transfer_matrix
from uqphys.models import Ising, random_spins
from uqphys.reweighting import combine, crossing
from uqphys.sampling import sample
from uqphys.tempering import _exchange, temper

NAMES = sorted(METHODS)
K_C = 0.221654626  # of the simple cubic lattice: Ferrenberg, Xu and Landau, Phys. Rev. E 97, 043301 (2018)


# ---- two dimensions: exact Binder ratios at the critical point

@cache
def binder(method, L):
    run = sample(Ising((L, L)), BETA_C, draws=50_000, burn_in=100, method=method, seed=L, keep="observables", progress=False)
    return estimates(run)["binder"]


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("L, exact", [(4, 0.61719932), (8, 0.61304538), (9, 0.61264431)])
def test_exact_binder_ratios(method, L, exact):
    averages = transfer_matrix(L, BETA_C).averages
    assert abs(1 - averages["m4"] / (3 * averages["m2"] ** 2) - exact) < 1e-8
    found = binder(method, L)
    assert found.error < 6e-4 and abs(found.value - exact) < 4 * found.error, str(found)


def test_the_binder_ratios_are_sharp_enough_to_tell_the_lattices_apart():
    "The exact ones of L = 4 and 8 differ by 0.0042: what was sampled at one must not pass for the other."
    for method in NAMES:
        found = binder(method, 4)
        assert abs(found.value - 0.61304538) > 4 * found.error


# ---- three dimensions

DRAWS = {8: 120_000, 12: 90_000, 16: 60_000}


@cache
def cube(L, side):
    "A run at K_c (1 + 0.003 side)."
    return sample(Ising((L, L, L)), K_C * (1 + 0.003 * side), draws=DRAWS[L], burn_in=100, method="swendsen-wang",
                  seed=10 * L + side, keep="observables", progress=False)


def test_the_crossings_bracket_the_transition():
    "U4 falls with L on the hot side of K_c, and rises with L on the cold side."
    for side in (-1, 1):
        found = [estimates(cube(L, side))["binder"] for L in DRAWS]
        for small, large in zip(found, found[1:]):
            gap = side * (large.value - small.value)
            assert gap > 4 * math.hypot(small.error, large.error), (side, str(small), str(large))


def test_the_crossing_is_at_the_known_transition():
    "The curves of 12 and 16 meet within 0.1 % of K_c; those of 8 and 16 a little above, as corrections to scaling want it."
    combined = {L: combine([cube(L, -1), cube(L, 1)]) for L in DRAWS}
    where, height = crossing(combined[12], combined[16])
    assert where.error < 4e-4 * K_C and abs(where.value / K_C - 1) < 1e-3, str(where)
    assert abs(height.value - 0.4655) < 4 * height.error + 0.02  # U4 in the limit of large L: 0.46548(5), Ferrenberg et al.
    where, _ = crossing(combined[8], combined[16])
    assert where.error < 2e-4 * K_C and abs(where.value / K_C - 1) < 1e-3 and where.value > K_C, str(where)


# ---- exchanges of configurations

def chain_of(method, model, beta, x, seed):
    settings = {"clusters": 3} if method == "wolff" else {}
    return METHODS[method].movers(model, beta, x[None], [np.random.default_rng(seed)], **settings)[0]


def seen(chain, model):
    "The spins that a chain's state holds, without moving it."
    if chain.state[0].dtype == np.uint8:
        return 2 * (chain.state[0] & 1).astype(np.int8).reshape(model.shape) - 1
    bits = np.unpackbits(chain.state[0][:-1].astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, : model.shape[-1]]
    return 2 * bits.astype(np.int8).reshape(model.shape) - 1


EXCHANGED = [Ising((4, 5)), Ising((3, 70)), Ising((2, 3)), Ising((3, 4, 5)), Ising((4, 4), J=-0.5, J2=0.2, h=0.1)]


@pytest.mark.parametrize("betas", [(0.2, 0.5), (0.0, 0.5), (1e-20, 0.4), (0.3, 1e4)])
@pytest.mark.parametrize("model", EXCHANGED, ids=str)
@pytest.mark.parametrize("method", NAMES)
def test_the_state_is_the_configuration_and_nothing_else(method, model, betas):
    "Two chains swap their states and go on: as two chains that were put there, with their own dice and temperature."
    x, y = random_spins(model.shape, 2, 7)
    first, second = (chain_of(method, model, b, s, seed) for b, s, seed in zip(betas, (x, y), (1, 2)))
    assert isinstance(first.state, tuple) and np.array_equal(seen(first, model), x) and np.array_equal(seen(second, model), y)
    first(1, 5), second(1, 5)
    x, y = seen(first, model), seen(second, model)
    twins = [chain_of(method, model, b, s, seed) for b, s, seed in zip(betas, random_spins(model.shape, 2, 7), (1, 2))]
    for twin, start in zip(twins, (y, x)):
        twin(1, 5)
        twin.put(start)
    _exchange(first, second)
    assert np.array_equal(seen(first, model), y) and np.array_equal(seen(second, model), x)
    for chain, twin in zip((first, second), twins):
        assert np.array_equal(chain(10, 2)[0], twin(10, 2)[0])


@pytest.mark.parametrize("method", NAMES)
def test_tempering_around_clusters(method):
    "Against the transfer matrix, by the scatter of 32 ladders."
    exact = transfer_matrix(6, 0.5).averages
    run = sample(Ising((6, 6)), 0.5, method="tempering", settings={"around": method}, draws=300, chains=32, burn_in=50,
                 seed=3, keep="observables", progress=False)
    assert 0 < run.attrs["swap_acceptance"] < 1 and run.attrs["round_trips"] > 0
    for name in ("energy", "m", "abs_m", "m2", "m4"):
        means = run[name].values.mean(axis=1)
        assert abs(means.mean() - exact[name]) < 4 * means.std(ddof=1) / math.sqrt(32), name


@pytest.mark.parametrize("method", NAMES)
def test_a_ladder_of_clusters_down_to_infinite_temperature(method):
    "All temperatures, and a field, and the two kernels of Wolff side by side (at beta = 0 no bond can open)."
    for model, betas in ((Ising((3, 4)), (0.0, 0.2, 0.45)), (Ising((3, 3), h=0.1), (0.0, 0.25, 0.4))):
        runs = temper(model, betas, around=method, draws=1500, chains=8, burn_in=50, seed=4, progress=False)
        for beta, name in itertools.product(betas, ("energy", "m", "m2")):
            found, exact = gamma_error(runs[name].sel(beta=beta).values), enumerate_states(model, beta).averages[name]
            assert abs(found.value - exact) < 4 * found.error, (beta, name, str(found), exact)
