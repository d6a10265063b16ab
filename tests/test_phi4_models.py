"""The laws of models by other roads: sums written out, torch's gradients, dense matrices, bonds counted one by one."""
import itertools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from uqphys.exact import enumerate_states
from uqphys.exact_fields import free_field, free_propagator, ring_field, ring_two_point
from uqphys.models import FIELD_OBSERVABLES, CustomModel, Ising, Phi4, random_fields, random_spins

SHAPES = [(2,), (5,), (2, 2), (3, 2), (4, 5), (2, 3, 4), (2, 2, 3, 2)]


def bonds(shape):
    "Every (site, next site) along every axis, as flat numbers: twice where a length is 2."
    number = np.arange(math.prod(shape)).reshape(shape)
    return [(a, b) for axis in range(len(shape)) for a, b in zip(number.ravel().tolist(), np.roll(number, -1, axis).ravel().tolist())]


# ---- both actions, their conversion, force

@pytest.mark.parametrize("shape", SHAPES)
def test_the_actions_are_the_sums_written_out(shape):
    kappa, lam, m2, lam_m = 0.17, 0.6, -1.3, 2.2
    for x in random_fields(shape, 3, 1):
        f, pairs = x.ravel().tolist(), bonds(shape)
        first = sum(v**2 + lam * (v**2 - 1) ** 2 for v in f) - 2 * kappa * sum(f[i] * f[j] for i, j in pairs)
        second = sum((f[i] - f[j]) ** 2 for i, j in pairs) + sum(m2 * v**2 + lam_m * v**4 for v in f)
        for model, action in ((Phi4(shape, kappa, lam), first), (Phi4.from_mass(shape, m2, lam_m), second)):
            seen = model.observables(x)
            m = sum(f) / len(f)
            wanted = dict(energy=action / len(f), m=m, abs_m=abs(m), m2=m**2, m4=m**4,
                          phi2=sum(v**2 for v in f) / len(f), phi4=sum(v**4 for v in f) / len(f))
            assert tuple(seen) == FIELD_OBSERVABLES and math.isclose(model.energy(x), action, rel_tol=1e-13)
            for name, value in wanted.items():
                assert math.isclose(seen[name], value, rel_tol=1e-12, abs_tol=1e-14), name


@pytest.mark.parametrize("shape", SHAPES)
def test_conversion(shape):
    "phi_mass = sqrt(kappa) phi_kappa; the actions differ by lam N; back and forth is where one began."
    x, n = random_fields(shape, 4, 2), math.prod(shape)
    for model in (Phi4(shape, 0.21, 0.7), Phi4(shape, 0.05, 3.0), Phi4(shape, 0.1, 0.0)):
        other, factor = model.other_convention()
        assert other.convention == "mass-lambda" and factor == math.sqrt(model.kappa)
        assert math.isclose(other.m2, (1 - 2 * model.lam) / model.kappa - 2 * len(shape), abs_tol=1e-12)
        assert math.isclose(other.lam, model.lam / model.kappa**2)
        assert np.allclose(other.energy(factor * x), model.energy(x) - model.lam * n, rtol=1e-12)
    for m2, lam in ((-4.0, 8.0), (0.5, 0.1), (-15.0, 0.01), (0.3, 0.0)):
        model = Phi4.from_mass(shape, m2, lam)
        other, factor = model.other_convention()
        back, inverse = other.other_convention()
        assert math.isclose(back.m2, m2, abs_tol=1e-9) and math.isclose(back.lam, lam, abs_tol=1e-10) and math.isclose(factor * inverse, 1)
        assert np.allclose(other.energy(factor * x) - other.lam * n, model.energy(x), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_force_is_what_torch_says(shape):
    for model in (Phi4(shape, -0.3, 0.8), Phi4.from_mass(shape, -2.0, 1.5)):
        x = torch.tensor(random_fields(shape, 3, 3), requires_grad=True)
        (slope,) = torch.autograd.grad(model.energy(x).sum(), x)
        assert np.abs(model.force(x.detach().numpy()) + slope.numpy()).max() < 1e-12
        assert torch.allclose(model.force(x.detach()), -slope, rtol=0, atol=1e-12)
        assert np.allclose(model.energy(x).detach().numpy(), model.energy(x.detach().numpy()), rtol=1e-14, atol=0)


# ---- the free field

@pytest.mark.parametrize("model, beta", [(Phi4((7,), 0.3, 0), 1.0), (Phi4((2,), -0.2, 0), 0.7), (Phi4((4, 5), 0.2, 0), 1.3),
                                         (Phi4((2, 3, 4), -0.1, 0), 1.0), (Phi4.from_mass((6, 3), 0.5, 0), 2.0), (Phi4((5,), -0.52, 0), 1.0)])
def test_free_field_is_a_dense_inverse(model, beta):
    "The quadratic form read off the energies, inverted, and looked at with every plane wave."
    n, unit = math.prod(model.shape), np.eye(math.prod(model.shape))
    at = lambda v: model.energy(v.reshape(-1, *model.shape))
    one = at(unit)
    form = (at((unit[:, None] + unit[None]).reshape(n * n, n)).reshape(n, n) - one[:, None] - one) / 2
    assert np.allclose(np.diag(form), one)
    covariance = np.linalg.inv(2 * beta * form)
    where, found = np.indices(model.shape).reshape(len(model.shape), -1), free_propagator(model, beta)
    for k in np.ndindex(model.shape):
        wave = np.exp(2j * np.pi * sum(q * x / length for q, x, length in zip(k, where, model.shape))) / math.sqrt(n)
        assert abs(np.vdot(wave, covariance @ wave) - found[k]) < 1e-10 * found.max(), k
    result, m2 = free_field(model, beta), covariance.sum() / n**2
    wanted = dict(energy=(form * covariance).sum() / n, m=0.0, abs_m=math.sqrt(2 * m2 / math.pi), m2=m2, m4=3 * m2**2,
                  phi2=covariance[0, 0], phi4=3 * covariance[0, 0] ** 2)
    for name, value in wanted.items():
        assert math.isclose(result.averages[name], value, rel_tol=1e-9, abs_tol=1e-14), name
    assert math.isclose(result.lnZ, np.linalg.slogdet(2 * math.pi * covariance)[1] / 2, rel_tol=1e-10)


# ---- rings

@pytest.mark.parametrize("model", [Phi4((6,), 0.35, 0.4), Phi4((2, 2), 0.2, 1.0), Phi4((5,), -0.3, 2.0)])
def test_two_point_function(model):
    "Its sum is the susceptibility, its first and second values are phi2 and the bonds of the action, and a ring is a ring."
    G, found = ring_two_point(model, 0.9), ring_field(model, 0.9).averages
    assert abs(G.mean() - found["m2"]) < 1e-9 and abs(G[0] - found["phi2"]) < 1e-9
    per_site = 2 * len(model.shape) // 2
    action = model.quadratic * found["phi2"] + model.quartic * found["phi4"] + model.constant - model.hopping * per_site * G[1]
    assert abs(action - found["energy"]) < 1e-9 and np.allclose(G[1:], G[:0:-1], rtol=0, atol=1e-10)


# ---- models of one's own

def nearest(x):
    return -sum((x * np.roll(x, 1, axis)).sum(axis=tuple(range(1, x.ndim))) for axis in range(1, x.ndim))


def third(x):
    "Sites two steps apart."
    return -sum((x * np.roll(x, 2, axis)).sum(axis=tuple(range(1, x.ndim))) for axis in range(1, x.ndim))


@pytest.mark.parametrize("shape", [(4, 5), (2, 2), (3, 3, 2), (7, 8)])
def test_an_ising_model_of_ones_own(shape):
    own, ising = CustomModel(shape, nearest, interaction_range=1), Ising(shape)
    x = random_spins(shape, 6, 1)
    assert np.array_equal(own.energy(x), ising.energy(x)) and own.energy(x[0]).shape == ()
    assert np.array_equal(own.energy(x.reshape(2, 3, *shape)), ising.energy(x).reshape(2, 3))
    for name, value in ising.observables(x).items():
        assert np.array_equal(own.observables(x)[name], value), name
    sites = np.stack([np.arange(5) % length for length in shape], axis=1)
    new = -x[(slice(None), *sites.T)]
    change = own.energy_changes(x, sites, new)
    for (k, site), c in zip(np.ndenumerate(np.arange(30).reshape(6, 5)), change.ravel()):
        y = x[k[0]].copy()
        y[tuple(sites[k[1]])] *= -1
        assert c == ising.energy(y) - ising.energy(x[k[0]])
    if math.prod(shape) <= 20:
        assert math.isclose(enumerate_states(own, 0.3).lnZ, enumerate_states(ising, 0.3).lnZ, rel_tol=1e-13)


def test_ranges_that_are_too_short_are_refused():
    along = lambda x: (x * np.arange(x.shape[-1])).sum(axis=tuple(range(1, x.ndim)))  # knows where a site stands
    corner = lambda x: -(x * np.roll(x, (1, 1), (1, 2))).sum(axis=(1, 2))
    for energy, reach in ((nearest, 0), (third, 1), (corner, 0), (along, 1), (lambda x: nearest(x) ** 2 / x[0].size, 2)):
        with pytest.raises(ValueError, match=rf"interaction_range={reach}: .*must be a distance"):
            CustomModel((8, 8), energy, interaction_range=reach)
    for energy, reach in ((nearest, 1), (third, 2), (corner, 1), (nearest, 3), (along, None)):
        assert CustomModel((8, 8), energy, interaction_range=reach).interaction_range == reach
    with pytest.raises(ValueError, match="interaction_range=1: the energy fails on a window"):
        CustomModel((8, 8), lambda x: nearest(x.reshape(-1, 8, 8)), interaction_range=1)


@pytest.mark.parametrize("model", [Phi4((6, 7), 0.2, 0.7), Phi4((2, 5), 0.2, 0.7), Phi4((3, 4, 5), -0.1, 1.0)])
def test_a_field_of_ones_own(model):
    "In NumPy and in torch: the same numbers, changes and gradients."
    def energy(x):
        square, dims = x * x, tuple(range(1, x.ndim))
        roll = (lambda a: torch.roll(x, 1, a)) if torch.is_tensor(x) else (lambda a: np.roll(x, 1, a))
        return ((model.quadratic + model.quartic * square) * square - model.hopping * x * sum(map(roll, dims)) + model.constant).sum(dims)

    x, rng = random_fields(model.shape, 5, 2), np.random.default_rng(3)
    sites = np.stack([rng.integers(0, length, 4) for length in model.shape], axis=1)
    new = rng.standard_normal((5, 4))
    for uses_torch, reach in itertools.product((False, True), (None, 1)):
        own = CustomModel(model.shape, energy, "real", reach, uses_torch=uses_torch)
        assert np.allclose(own.energy(x), model.energy(x), rtol=1e-13)
        assert set(own.observables(x)) == set(FIELD_OBSERVABLES)
        for (k, j), change in np.ndenumerate(own.energy_changes(x, sites, new)):
            y = x[k].copy()
            y[tuple(sites[j])] = new[k, j]
            assert math.isclose(change, model.energy(y) - model.energy(x[k]), rel_tol=1e-9, abs_tol=1e-10)
    tensor = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad(own.energy(tensor).sum(), tensor)
    assert np.abs(slope.numpy() + model.force(x)).max() < 1e-12


def stretched(kappa):
    "A law made by a factory: each call makes a new function of the same name."
    def law(x):
        return ((x - kappa * np.roll(x, 1, 1)) ** 2).sum(axis=tuple(range(1, x.ndim)))
    return law


def in_torch(x):
    return (x**4).flatten(1).sum(1) - (x * torch.roll(x, 1, 1)).flatten(1).sum(1)


def test_a_law_is_known_by_its_name_and_its_energies():
    "Not by an address: two builds print the same, another coefficient prints another, a copy prints the same."
    one, twin, other = (CustomModel((4, 3), stretched(k), "real") for k in (0.3, 0.3, 0.3001))
    assert repr(one) == repr(twin) != repr(other) and " at 0x" not in repr(one) and "stretched.<locals>.law" in repr(one)
    assert one != twin and one == replace(one) and repr(replace(one)) == repr(one) and {one: 1}[replace(one)] == 1
    assert repr(replace(one, shape=(3, 4))) != repr(one) and repr(CustomModel((4, 3), nearest)) != repr(CustomModel((4, 3), third))
    model = CustomModel((4, 3), nearest, interaction_range=1)
    assert pickle.loads(pickle.dumps(model)) == model and repr(pickle.loads(pickle.dumps(model))) == repr(model)
    scaled = [CustomModel((4, 3), lambda x, f=f: f * nearest(x), "real") for f in (1.0, 1 + 1e-14, 1 + 1e-7)]  # rounding is no other law
    assert repr(scaled[0]) == repr(scaled[1]) != repr(scaled[2])


@pytest.mark.parametrize("uses_torch", [False, True])
def test_observables_leave_the_configurations_alone(uses_torch):
    "Those that change them are refused; and one that only does so later is shown a copy."
    late = []
    def zeroes(x):
        answer = x.reshape(len(x), -1).sum(1)
        if late:
            x *= 0
        return {"total": answer}

    energy = in_torch if uses_torch else lambda x: (x**2).sum((1, 2))
    model = CustomModel((4, 4), energy, "real", observables=zeroes, uses_torch=uses_torch)
    x = random_fields((4, 4), 3, 1)
    late.append(True)
    for given in (x.copy(), torch.tensor(x)):
        assert np.allclose(model.observables(given)["total"], x.sum((1, 2))) and np.array_equal(np.asarray(given), x)
    with pytest.raises(ValueError, match="observables=.*changes the configurations"):
        CustomModel((4, 4), energy, "real", observables=zeroes, uses_torch=uses_torch)


def test_a_gradient_that_lacks_a_term_is_refused():
    @torch.no_grad()
    def silent(x):
        return in_torch(x)

    half = lambda x: in_torch(x) + 0.2 * (x * x.detach()).flatten(1).sum(1)
    for energy in (silent, half, lambda x: in_torch(x.detach()), lambda x: torch.from_numpy(x.detach().numpy() ** 2).flatten(1).sum(1)):
        with pytest.raises(ValueError, match="^energy=.*uses_torch=False"):
            CustomModel((5, 4), energy, "real", uses_torch=True)
        CustomModel((5, 4), energy, uses_torch=True)  # spins need none
    rough = [lambda x: abs(x).flatten(1).sum(1), lambda x: 1e3 * torch.cos(3 * x).flatten(1).sum(1), lambda x: in_torch(x.float()),
             lambda x: torch.relu(x @ torch.ones(4, 2, dtype=x.dtype)).flatten(1).sum(1) ** 2, lambda x: 0 * in_torch(x) + 7]
    with torch.no_grad():  # whatever the caller's state is
        for energy in (in_torch, *rough):
            CustomModel((5, 4), energy, "real", uses_torch=True)


# ---- spins in three dimensions

@pytest.mark.parametrize("shape, couplings", [((2, 2, 3), {}), ((3, 3, 2), {"h": 0.1}), ((2, 2, 2), {"J": -0.7})])
def test_three_dimensional_enumeration_counts_bonds_twice_along_a_length_of_two(shape, couplings):
    "Bond by bond: along a length of 2 each pair is met twice, which is a coupling of 2 J."
    model, beta = Ising(shape, **couplings), 0.2
    weight, where = {}, list(np.ndindex(shape))
    for a, b in itertools.combinations(where, 2):
        apart = [(p, q, length) for p, q, length in zip(a, b, shape) if p != q]
        if len(apart) == 1 and (apart[0][0] - apart[0][1]) % apart[0][2] in (1, apart[0][2] - 1):
            weight[where.index(a), where.index(b)] = 2 if apart[0][2] == 2 else 1
    assert sum(weight.values()) == 3 * len(where) and sorted(map(tuple, map(sorted, bonds(shape)))) == sorted(
        pair for pair, times in weight.items() for _ in range(times))
    states = 1 - 2 * (np.arange(2 ** len(where))[:, None] >> np.arange(len(where)) & 1).astype(float)
    energy = -model.h * states.sum(1) - model.J * sum(times * states[:, i] * states[:, j] for (i, j), times in weight.items())
    boltzmann, m = np.exp(-beta * energy), states.mean(1)
    found = enumerate_states(model, beta)
    assert math.isclose(found.lnZ, math.log(boltzmann.sum()), rel_tol=1e-12)
    for name, value in dict(energy=energy / len(where), m=m, abs_m=abs(m), m2=m**2, m4=m**4).items():
        assert math.isclose(found.averages[name], boltzmann @ value / boltzmann.sum(), rel_tol=1e-11, abs_tol=1e-13), name
