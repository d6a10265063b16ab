"""The exact answers against a sum of its own: every bond written down from the definition, every state from itertools.

Nothing of `Ising` is used here but its name for the couplings, which are binary fractions: energies are then exact, and states of
equal energy stay equal at any temperature.
"""
import itertools
import math
import warnings
from functools import cache

import numpy as np
import pytest

from uqphys.exact import BETA_C, all_states, enumerate_states, kaufman, onsager, transfer_matrix
from uqphys.models import Ising

SHAPES = [(2, 2), (2, 3), (3, 2), (3, 3), (2, 5), (4, 3), (2, 2, 2), (2, 3, 2)]
COUPLINGS = [{}, {"J": -1.0}, {"h": 0.375}, {"J": -0.75, "h": -1.5}, {"J": 0.0, "J2": 0.625, "h": -0.125}, {"J": 0.5, "K": -0.75},
             {"J": 0.75, "J2": -0.375, "K": 0.25, "h": -0.25}, {"J": -0.5, "J2": 0.25, "K": 0.5, "h": 0.125}]
BETAS = (0.0, 0.05, 0.4375, 1.5, 40.0, 1e6, 1e15, 1e300)


@cache
def census(shape):
    "Of every state: the sums over neighbours, diagonals and squares, and the sum of the spins; whole numbers, (4, 2^N)."
    sites = list(itertools.product(*map(range, shape)))
    spin = dict(zip(sites, np.array(list(itertools.product((1, -1), repeat=len(sites)))).T))

    def at(site, *axes):
        return spin[tuple((x + axes.count(k)) % length for k, (x, length) in enumerate(zip(site, shape)))]

    near, diagonal, square = np.zeros((3, 2 ** len(sites)), dtype=int)
    for site in sites:
        for a in range(len(shape)):
            near += at(site) * at(site, a)
        for a, b in itertools.combinations(range(len(shape)), 2):  # a square has two diagonals
            diagonal += at(site) * at(site, a, b) + at(site, a) * at(site, b)
            square += at(site) * at(site, a) * at(site, b) * at(site, a, b)
    return np.array([near, diagonal, square, sum(spin.values())])


def brute_force(shape, beta, J=1.0, J2=0.0, K=0.0, h=0.0):
    "ln Z, the averages, the specific heat and P(m)."
    sums, n = census(shape), math.prod(shape)
    energy = -(np.array([J, J2, K, h]) @ sums)
    weight = np.exp(-beta * (energy - energy.min()))
    p, m = weight / weight.sum(), sums[3] / n
    averages = {"energy": p @ energy / n, "m": p @ m, "abs_m": p @ abs(m), "m2": p @ m**2, "m4": p @ m**4}
    spread = energy / n - averages["energy"]
    heat = p @ spread**2 * n * beta**2 if beta < 1e100 else None
    return -beta * energy.min() + math.log(weight.sum()), averages, heat, np.bincount((sums[3] + n) // 2, p, n + 1)


def assert_same(lnZ, averages, wanted):
    assert lnZ == pytest.approx(wanted[0], rel=1e-13, abs=1e-12)
    for name, value in wanted[1].items():
        assert averages[name] == pytest.approx(value, rel=1e-12, abs=1e-13), name


def test_the_brute_force_on_paper():
    "2 x 2: eight bonds; two states have all of them satisfied, two none, and twelve half. In 3D each site has 3, 6 and 3 of each kind."
    near, diagonal, square, total = census((2, 2))
    assert sorted(near) == [-8] * 2 + [0] * 12 + [8] * 2 and sorted(total) == [-4] + [-2] * 4 + [0] * 6 + [2] * 4 + [4]
    assert diagonal.max() == 8 and sorted(set(square)) == [-4, 4]
    assert census((2, 3, 2))[:, 0].tolist() == [36, 72, 36, 12]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_enumeration(shape):
    n = math.prod(shape)
    for values, beta in itertools.product(COUPLINGS, BETAS):
        model, wanted = Ising(shape, **values), brute_force(shape, beta, **values)
        found = enumerate_states(model, beta, {"e2": lambda x: model.energy(x) ** 2}, chunk=1000)
        assert_same(found.lnZ, found.averages, wanted)
        if beta < 10:
            heat = beta**2 * (found.averages["e2"] / n - n * found.averages["energy"] ** 2)
            assert heat == pytest.approx(wanted[2], rel=1e-10, abs=1e-11)


@pytest.mark.parametrize("L", [2, 3, 4])
def test_transfer_matrix(L):
    for J, h, beta in itertools.product((1.0, -1.0, 0.75), (0.0, -0.125, 4.0), BETAS):  # at J = -1, h = 4: many ground states
        wanted, found = brute_force((L, L), beta, J=J, h=h), transfer_matrix(L, beta, J=J, h=h)
        assert_same(found.lnZ, found.averages, wanted)
        np.testing.assert_allclose(found.probability, wanted[3], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("L", [5, 9])
def test_the_transfer_matrix_stays_a_probability_at_any_temperature(L):
    for beta, h in itertools.product((0.0, BETA_C, 1e4, 1e12, 1e300), (0.0, -0.5)):
        if L == 9 and (beta, h) != (1e300, 0.0):
            continue  # a second each
        found = transfer_matrix(L, beta, h=h)
        assert abs(found.probability.sum() - 1) < 1e-14 and (found.probability >= 0).all()
        if beta > 1:
            assert found.averages["abs_m"] == pytest.approx(1, abs=1e-14)
            assert found.averages["energy"] == pytest.approx(-2 - abs(h), abs=1e-14)
            assert found.lnZ == pytest.approx(beta * L * L * (2 + abs(h)) + math.log(2) * (h == 0), rel=1e-15)


def test_the_frustrated_ground_states_are_counted_right_at_any_temperature():
    "The 3 x 3 antiferromagnet has ground states of several m: how many of each, a double cannot say next to beta E = 1e16."
    near, total = census((3, 3))[[0, 3]]
    ground = np.bincount((total[near == near.min()] + 9) // 2, minlength=10)
    assert len(set(ground[ground > 0])) > 1
    for beta in (1e2, 1e8, 1e15, 1e300):
        np.testing.assert_allclose(transfer_matrix(3, beta, J=-1.0).probability, ground / ground.sum(), rtol=1e-13)


@pytest.mark.parametrize("L", [2, 3, 4])
def test_kaufman(L):
    for beta in (1e-6, 0.0, 0.1, 0.4, BETA_C, 0.45, 0.6, 1.5, 40.0, 1e6, 1e15, 1e300):
        lnZ, averages, heat, _ = brute_force((L, L), beta)
        found = kaufman(L, beta)
        assert found.lnZ == pytest.approx(lnZ, rel=1e-14)
        assert found.energy == pytest.approx(averages["energy"], rel=1e-12, abs=1e-15)
        if beta < 10:
            assert found.specific_heat == pytest.approx(heat, rel=1e-10, abs=1e-13)


def test_kaufman_against_the_transfer_matrix_and_the_infinite_lattice():
    for L, beta in ((5, 0.3), (6, 0.5), (7, BETA_C), (8, 0.44)):
        k, row = kaufman(L, beta), transfer_matrix(L, beta)
        assert (k.lnZ, k.energy) == pytest.approx((row.lnZ, row.averages["energy"]), rel=1e-12)
    for beta in (0.2, 0.42, 0.46, 0.7):
        k, o = kaufman(3000, beta), onsager(beta)
        assert (k.lnZ - math.log(2) * (beta > BETA_C)) / 3000**2 == pytest.approx(o.lnZ, rel=1e-13)
        assert (k.energy, k.specific_heat) == pytest.approx((o.energy, o.specific_heat), rel=1e-10)


def test_the_ends_of_the_range_are_silent():
    with warnings.catch_warnings(), np.errstate(over="raise", divide="raise", invalid="raise"):
        warnings.simplefilter("error")
        for beta in (0, 5e-324, 1e-300, 1e-9, BETA_C, 20, 100, 1e3, 1e100, 1e154, 1e155, 1e200, 1e300):
            o, k = onsager(beta), kaufman(64, beta)
            assert all(math.isfinite(value) for value in (o.lnZ, o.energy, o.magnetisation, k.lnZ, k.energy, k.specific_heat))
            assert math.isfinite(o.specific_heat) == (beta != BETA_C) and o.specific_heat >= 0
            if beta > 10:
                assert (o.lnZ, o.energy, o.magnetisation) == pytest.approx((2 * beta, -2, 1), rel=1e-14)
                assert k.lnZ == pytest.approx(64**2 * 2 * beta + math.log(2), rel=1e-14)
            transfer_matrix(3, beta, h=-0.3), enumerate_states(Ising((2, 2)), beta)


class Spoiling:
    "A model of one's own that overwrites what it is given."

    shape = (2, 3)

    def energy(self, x):
        answer = Ising(self.shape).energy(x)
        x[:] = 1
        return answer

    def observables(self, x):
        answer = {"m": x.mean((1, 2))}
        x[:] = 1
        return answer


def test_nobody_can_spoil_the_states_of_the_others():
    def spoil(x):
        x[:] = 1
        return x.mean((1, 2))

    for model in (Ising((2, 3)), Spoiling()):
        found = enumerate_states(model, 0.3, {"a": spoil, "b": lambda x: x.mean((1, 2)), "c": lambda x: x.mean((1, 2)) ** 2})
        assert found.averages["a"] == pytest.approx(1) and abs(found.averages["b"]) < 1e-14 > abs(found.averages["m"])
        assert_same(found.lnZ, {**brute_force((2, 3), 0.3)[1], "m2": found.averages["c"]}, brute_force((2, 3), 0.3))


def test_the_list_of_states():
    states = np.concatenate(list(all_states((2, 3), chunk=7)))
    assert len({tuple(x.ravel()) for x in states}) == 64 and set(np.unique(states)) == {-1, 1}
    assert all((x.ravel() > 0) @ (1 << np.arange(6)) == k for k, x in enumerate(states))
