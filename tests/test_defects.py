"The alloy and its vacancies: energies in space, the sampler, the exact density of states by other ways, refusals."
import itertools

import numpy as np
import pytest
import torch
from common import assert_complete, assert_refused
from scipy import stats
from scipy.special import logsumexp

from uqphys import defects as module
from uqphys.defects import (BOLTZMANN, DefectDensity, Vacancy, brute_force_labels, check_fraction, environments, exact_density, first_shell_classes,
                            random_environments, sampled_density, shell_sums)
from uqphys.models import BinaryAlloy, fcc_shells, fcc_triangles, random_spins, short_range_order
from uqphys.sampling import sample

PRIMITIVE = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


# ---- the alloy

@pytest.mark.parametrize("shape", [(3, 3, 3), (4, 3, 5), (4, 5, 4)])
def test_the_energy_is_that_of_atoms_in_space(shape):
    model = BinaryAlloy(shape, pairs=(0.3, -0.2, 0.1), triplet=0.05, h=0.4)
    x = random_spins(shape, 2, seed=1)
    steps = np.array(list(itertools.product(*map(range, shape))))
    images = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3))) * shape
    square = ((((steps[:, None, None] - steps[None, :, None] + images) @ PRIMITIVE) ** 2).sum(-1) * 2).round(6)
    bonds = [(square == k).sum(-1) for k in (1, 2, 3)]
    near = bonds[0]
    for s, energy in zip(x.reshape(2, -1).astype(float), model.energy(x)):
        told = -0.4 * s.sum() + sum(V * s @ A @ s / 2 for V, A in zip(model.pairs, bonds))
        if min(shape) > 3:  # on shorter tori three steps may close around the torus
            told += 0.05 * np.einsum("i,j,k,ij,jk,ik->", s, s, s, near, near, near) / 6
        else:
            told += 0.05 * sum(s.reshape(shape)[tuple(at)] * s.reshape(shape)[tuple((at + a) % shape)] * s.reshape(shape)[tuple((at + b) % shape)]
                               for at in steps for a, b in fcc_triangles()) / 3
        assert abs(told - energy) < 1e-10
    assert torch.allclose(model.energy(torch.tensor(x)), torch.tensor(model.energy(x)))


def test_changes_are_differences():
    model, x = BinaryAlloy((3, 4, 5), pairs=(0.3, -0.2, 0.1), triplet=0.05, h=0.4), random_spins((3, 4, 5), 3, seed=2)
    sites = np.argwhere(np.ones((3, 4, 5)))
    costs = model.energy_changes(x, sites, -x.reshape(3, -1))
    for k, site in enumerate(sites):
        other = x.copy()
        other[(slice(None), *site)] *= -1
        np.testing.assert_allclose(costs[:, k], model.energy(other) - model.energy(x), atol=1e-12)
    assert not model.energy_changes(x, sites, x.reshape(3, -1)).any()


def test_triangles_by_distance():
    near = fcc_shells(1)[0]
    length = lambda step: ((np.asarray(step) @ PRIMITIVE) ** 2).sum()
    wanted = {frozenset((tuple(a), tuple(b))) for a in near for b in near if abs(length(a - b) - 0.5) < 1e-9}
    assert {frozenset(map(tuple, pair)) for pair in fcc_triangles()} == wanted and len(wanted) == 24
    fcc_shells(1)[0][:] = 0
    fcc_triangles()[:] = 0
    assert fcc_shells(1)[0].any() and fcc_triangles().any()  # what is handed out is a copy


def test_the_sampler_knows_the_alloy():
    "Without bonds every atom is alone; with weak ones the energy is that of random alloys with Boltzmann's weights. The triplet matters."
    alone = sample(BinaryAlloy((4, 4, 4), pairs=(0.0,), h=0.5), 1.0, draws=100, chains=8, burn_in=10, seed=1, progress=False)
    m = alone.m.values
    assert abs(m.mean() - np.tanh(0.5)) < 5 * np.sqrt((1 - np.tanh(0.5) ** 2) / 64 / m.size * 3)
    model, beta = BinaryAlloy((4, 4, 4), pairs=(0.2, -0.1, 0.05), triplet=0.15), 0.25
    x = random_spins((4, 4, 4), 200_000, seed=3)
    free = model.energy(x)

    def weighted(energies):
        weight = np.exp(-beta * (energies - energies.min()))
        mean = np.average(free, weights=weight)
        return mean / 64, np.sqrt(np.average((free - mean) ** 2, weights=weight) * (weight**2).sum()) / weight.sum() / 64
    expected, error = weighted(free)
    run = sample(model, beta, draws=300, chains=8, burn_in=20, seed=2, progress=False)
    each = run.energy.values.mean(1)
    error = np.hypot(each.std(ddof=1) / np.sqrt(8), error)
    assert abs(each.mean() - expected) < 5 * error
    without = weighted(BinaryAlloy((4, 4, 4), pairs=model.pairs).energy(x))[0]
    assert abs(without - expected) > 10 * error  # so that a sampler without the triplet would be seen


def test_alloys_with_other_bonds_have_other_dice_and_say_so():
    runs = [sample(BinaryAlloy((3, 3, 3), pairs=pairs), 0.5, draws=30, chains=2, burn_in=2, seed=1, progress=False, keep="observables") for pairs in ((0.1,), (0.2,), (0.1, 0.1))]
    assert len({run.attrs["random_state"] for run in runs}) == 3 and len({run.attrs["couplings"] for run in runs}) == 3
    assert '"pairs1": 0.1' in runs[0].attrs["couplings"]


def test_order_of_known_alloys():
    i, j, k = np.indices((6, 6, 6))
    for x, m in ((np.where((i + j) % 2, -1, 1), 0.0), (np.where((i % 2 == j % 2) & (j % 2 == k % 2), 1, -1), -0.5)):
        seen = BinaryAlloy((6, 6, 6)).observables(x)
        assert seen["m"] == m and np.allclose([short_range_order(seen[f"pairs{n}"], m) for n in (1, 2, 3)], (-1 / 3, 1, -1 / 3))


# ---- environments and the exact density

def test_environments_are_the_neighbours_in_space():
    x = random_spins((5, 6, 7), 1, seed=4)
    place = np.concatenate(fcc_shells(3))
    square = ((place @ PRIMITIVE) ** 2).sum(1) * 2
    assert np.allclose(square, [1] * 12 + [2] * 6 + [3] * 24)
    found = environments(x, [[1, 2, 3]])[0, 0]
    assert all(found[n] == x[0, (1 + a) % 5, (2 + b) % 6, (3 + c) % 7] for n, (a, b, c) in enumerate(place))


def test_the_first_shell_has_the_symmetry_of_the_cube():
    "Every symmetry of the cube leaves S1 and P1 as they are: rotations permute the twelve neighbours."
    near = fcc_shells(1)[0] @ PRIMITIVE
    e = random_environments(0.4, 50, seed=5)
    for rotation in (np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]), -np.eye(3)):
        order = [int(np.flatnonzero((abs(near - rotation @ v) < 1e-9).all(1))[0]) for v in near]
        turned = e.copy()
        turned[:, :12] = e[:, order]
        assert np.array_equal(shell_sums(turned)[:, :2], shell_sums(e)[:, :2])


@pytest.mark.parametrize("composition", [0.1, 0.5, 0.8])
def test_the_density_against_random_environments(composition):
    vacancy, n = Vacancy(triplet=0.01, threshold=3.0), 20_000
    exact, E = exact_density(vacancy, composition), np.sort(vacancy.energy(random_environments(composition, n, seed=6), seed=7))
    assert abs(logsumexp(exact.log_weights)) < 1e-12
    assert abs(exact.cumulative(E[::20]) - (np.arange(n)[::20] + 0.5) / n).max() < 2 / np.sqrt(n)
    for beta in (0.5, 2.0):
        weight = np.exp(-beta * E)
        assert abs(np.log(weight.mean()) - exact.log_z(beta)) < 5 * weight.std() / weight.mean() / np.sqrt(n)
    assert exact.density(1.5).shape == () and exact.cumulative(np.ones((2, 3))).shape == (2, 3)
    grid = np.linspace(E[0] - 1, E[-1] + 1, 4_001)
    g = exact.density(grid)
    assert abs(np.trapezoid(g, grid) - 1) < 1e-8 and abs(np.trapezoid(g * grid, grid) - exact.mean_energy(0.0)) < 1e-8
    assert abs(exact.mean_energy(3.0) + (exact.log_z(3.0005) - exact.log_z(2.9995)) / 1e-3) < 1e-5


def test_one_first_shell_is_the_part_of_the_whole():
    vacancy, (classes, counts) = Vacancy(), first_shell_classes()
    p = counts * 0.3 ** ((classes[:, 0] + 12) // 2) * 0.7 ** (12 - (classes[:, 0] + 12) // 2)
    parts = [exact_density(vacancy, 0.3, tuple(row)).log_z(5.0) for row in classes]
    assert abs(logsumexp(parts, b=p) - exact_density(vacancy, 0.3).log_z(5.0)) < 1e-12 and abs(p.sum() - 1) < 1e-12


def test_brute_force_needs_as_many_labels_as_told():
    vacancy, beta = Vacancy(), 2.0
    exact = exact_density(vacancy, 0.3)
    z = np.exp(-beta * vacancy.energy(random_environments(0.3, 400_000, seed=8), seed=9)).reshape(400, 1000).mean(1)
    told = 0.05 * np.sqrt(brute_force_labels(exact, beta) / 1000)
    assert abs(z.std() / np.exp(exact.log_z(beta)) / told - 1) < 5 / np.sqrt(800)
    assert stats.ks_2samp(vacancy.energy(random_environments(0.3, 2000, 1), 2), vacancy.energy(random_environments(0.3, 2000, 3), 4)).pvalue > 1e-4


def test_sampled_density_puts_classes_together():
    e = random_environments(0.3, 3000, seed=10)
    found = sampled_density(Vacancy(), e)
    assert len(found.energies) < 2500 and abs(logsumexp(found.log_weights)) < 1e-12
    assert abs(found.mean_energy(0.0) - Vacancy().energy(e).mean()) < 1e-12


V, E = "defects.Vacancy", random_environments(0.3, 4, seed=1)
EXACT = exact_density(Vacancy(), 0.3)
BAD = [
    *[(V, lambda t, n=n, v=v: Vacancy(**{n: v}), n, s, "must") for n, v, s in (("pairs", (1, 2), "1, 2"), ("pairs", (1, 2, np.nan), "nan"), ("base", "a", "a"), ("strain", -1, "-1"),
                                                                                   ("triplet", None, "None"), ("relaxation", np.inf, "inf"), ("threshold", True, "True"))],
    (V, lambda t: Vacancy().energy(np.zeros((2, 42))), "environment", "0", "must be"), (V, lambda t: Vacancy().energy(E, seed=-1), "seed", "-1", "must be"),
    *[("defects.check_fraction", lambda t, v=v: check_fraction("x", v), "x", str(v), "between 0 and 1") for v in (0, 1, "a", None)],
    ("defects.random_environments", lambda t: random_environments(2, 3, 1), "composition", "2", "between"), ("defects.random_environments", lambda t: random_environments(0.3, 0, 1), "n", "0", "must be"),
    ("defects.random_environments", lambda t: random_environments(0.3, 3, None), "seed", "None", "must be"),
    ("defects.environments", lambda t: environments(np.ones((2, 3, 5, 5))), "x", "3, 5, 5", ">= 4"), ("defects.environments", lambda t: environments([[1], [1, 2]]), "x", r"\[1, 2\]", "must be"), ("defects.environments", lambda t: environments(np.ones((1, 5, 5, 5)), [[0, 1, 5]]), "sites", "5", "below"), ("defects.environments", lambda t: environments(np.zeros((1, 5, 5, 5))), "x", "0", "must be"),
    ("defects.environments", lambda t: environments(np.ones((1, 5, 5, 5)), [[0, 1]]), "sites", "0, 1", "must be"), ("defects.environments", lambda t: environments(np.ones((1, 5, 5, 5)), [[0.5, 1, 1]]), "sites", "0.5", "must be"),
    ("defects.shell_sums", lambda t: shell_sums(np.ones((3, 41))), "environment", "array", "42"), ("defects.shell_sums", lambda t: shell_sums([1] * 42), "environment", "42", "must be"),
    ("defects.exact_density", lambda t: exact_density("v", 0.3), "vacancy", "v", "Vacancy"), ("defects.exact_density", lambda t: exact_density(Vacancy(), 0), "composition", "0", "between"),
    ("defects.exact_density", lambda t: exact_density(Vacancy(), 0.3, (0, 1)), "first_shell", "0, 1", "one of"), ("defects.exact_density", lambda t: exact_density(Vacancy(), 0.3, 5), "first_shell", "5", "one of"), ("defects.exact_density", lambda t: exact_density(Vacancy(), 0.3, (False, False)), "first_shell", "False", "one of"),
    ("defects.sampled_density", lambda t: sampled_density(None, E), "vacancy", "None", "Vacancy"), ("defects.sampled_density", lambda t: sampled_density(Vacancy(), E[:, :3]), "environment", "array", "42"),
    ("defects.brute_force_labels", lambda t: brute_force_labels(3, 1.0), "density", "3", "DefectDensity"), ("defects.brute_force_labels", lambda t: brute_force_labels(EXACT, 1.0, 0), "error", "0", "between"), ("defects.brute_force_labels", lambda t: brute_force_labels(EXACT, 1.0, 1e-200), "error", "1e-200", "between"),
    ("defects.DefectDensity", lambda t: EXACT.log_z(-1), "beta", "-1", ">= 0"), ("defects.DefectDensity", lambda t: EXACT.log_z(1e200), "beta", "1e.200", "below"), ("defects.DefectDensity", lambda t: DefectDensity([1.0], [0.0, 0.0], 0.1), "energies", r"\(1,\)", "must be"),
    ("defects.DefectDensity", lambda t: DefectDensity([1.0], [0.5], 0.1), "log_weights", "1.6", "add up to 1"), ("defects.DefectDensity", lambda t: DefectDensity([1.0], [0.0], -1), "strain", "-1", ">= 0"),
    ("defects.sampled_density", lambda t: sampled_density(Vacancy(), np.ones((0, 42), np.int8)), "environment", "array", "not empty"),
    ("defects.DefectDensity", lambda t: EXACT.mean_energy([np.nan]), "beta", "nan", "finite"),
    ("defects.DefectDensity", lambda t: EXACT.density(["a"]), "energy", "a", "must be"), ("defects.DefectDensity", lambda t: exact_density(Vacancy(strain=0), 0.3).density([1.0]), "strain", "0", "> 0"),
]


@pytest.mark.parametrize("k", range(len(BAD)), ids=lambda k: f"{k}-{BAD[k][2]}")
def test_bad_calls_are_refused(k):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, None, argument, value, accepted)


def test_every_public_callable_is_walked():
    assert_complete([module], BAD, {"defects.first_shell_classes": "takes no argument"})
    assert abs(BOLTZMANN * 11604.518 - 1) < 1e-6 and isinstance(EXACT, DefectDensity)
