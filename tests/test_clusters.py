"""Cluster updates: invariance of the exact law, exact means, exact error bars, and what must hold to the bit.

The sharpest test comes first. From exactly distributed starts, one sweep must lead to exactly the same law; steps from
independent starts are independent, so the chi-squared is honest, and its p-values over many repetitions are uniform.
"""
import itertools
import json
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from scipy import stats

from common import assert_threads_do_not_matter
from uqphys.analysis import estimates, gamma_error
from uqphys.clusters import METHODS, _biased, _digits, _growth, _lattice, _SwendsenWang, _uniform, _Wolff, fk_clusters
from uqphys.exact import BETA_C, all_states, enumerate_states, kaufman, transfer_matrix
from uqphys.models import Ising, random_spins
from uqphys.sampling import next_word, random_state, sample

NAMES = sorted(METHODS)
TINY = {
    "square": (Ising((3, 3)), 0.4),
    "double bonds": (Ising((2, 2)), 0.2),
    "rectangle in a field": (Ising((2, 3), h=0.3), 0.25),
    "field": (Ising((3, 3), h=0.15), 0.35),
    "field down": (Ising((3, 3), J=0.8, h=-0.4), 0.3),
    "antiferromagnet, odd": (Ising((3, 3), J=-1.0), 0.5),
    "frustrated in a field": (Ising((3, 3), J=0.7, J2=-0.4, h=0.1), 0.5),
    "diagonals alone": (Ising((2, 4), J=0.0, J2=0.6), 0.3),
    "cube": (Ising((2, 2, 2), J=0.8, J2=0.1, h=0.05), 0.12),
}


@cache
def states_and_law(model, beta):
    states = np.concatenate(list(all_states(model.shape)))
    energy = model.energy(states)
    weight = np.exp(-beta * (energy - energy.min()))
    return states, weight / weight.sum()


def chain_of(method, model, beta, x, rng, clusters=2):
    settings = {"clusters": clusters} if method == "wolff" else {}
    return METHODS[method].movers(model, beta, x[None], [rng], **settings)[0]


def p_values(method, model, beta, repetitions, n, seed, wrong=None):
    "p of chi-squared of where one sweep leads from n exact draws, again and again."
    states, law = states_and_law(model, beta)
    rng, powers = np.random.default_rng(seed), 2 ** np.arange(model.n_sites)[::-1]
    number = {tuple(x.ravel().tolist()): k for k, x in enumerate(states)}
    assert len(number) == 2**model.n_sites == len(states) and powers.sum() == len(states) - 1
    chain, found = chain_of(method, *(wrong or (model, beta)), states[0], rng), []
    common = n * law >= 10
    for _ in range(repetitions):
        counts = np.zeros(len(states))
        for start in rng.choice(len(states), n, p=law):
            chain.put(states[start])
            counts[number[tuple(chain(1, 1)[0].ravel().tolist())]] += 1
        observed, expected = counts[common], n * law[common]
        if not common.all():
            observed, expected = np.append(observed, counts[~common].sum()), np.append(expected, n * law[~common].sum())
        found.append(stats.chisquare(observed, expected).pvalue)
    return np.array(found)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("method", NAMES)
def test_one_sweep_leaves_the_exact_law_invariant(method, name):
    p = p_values(method, *TINY[name], repetitions=20, n=2000, seed=100 + list(TINY).index(name))
    assert p.min() > 1e-4 / 20, p
    assert stats.kstest(p, "uniform").pvalue > 1e-3, p


WRONG = {
    "temperature": (Ising((3, 3), h=0.1), 0.43),
    "field": (Ising((3, 3), h=0.13), 0.4),
    "diagonals": (Ising((3, 3), J2=0.06, h=0.1), 0.4),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("method", NAMES)
def test_the_invariance_test_would_see_a_chain_that_is_slightly_wrong(method, name):
    p = p_values(method, Ising((3, 3), h=0.1), 0.4, repetitions=1, n=60_000, seed=1, wrong=WRONG[name])
    assert p[0] < 1e-4


# ---- means and error bars

SMALL = {
    "4x4": (Ising((4, 4)), BETA_C),
    "4x4 field": (Ising((4, 4), h=0.05), 0.4),
    "3x4 antiferromagnet": (Ising((3, 4), J=-1.0, h=0.3), 0.4),
    "4x4 frustrated": (Ising((4, 4), J=0.7, J2=-0.2, h=0.1), 0.6),
    "5x3 J2": (Ising((5, 3), J2=0.2), 0.25),
    "2x7 hot": (Ising((2, 7)), 0.1),
    "2x2x3": (Ising((2, 2, 3)), 0.2),
    "3x3x2": (Ising((3, 3, 2), h=0.02), 0.2),
    "2x2x4 J2": (Ising((2, 2, 4), J=0.6, J2=-0.05), 0.2),
}
CHECKED = ("energy", "abs_m", "m2", "m4", "m")


@cache
def z_scores(method, name):
    "z of each observable over independent seeds: {observable: array}."
    model, beta = SMALL[name]
    exact, rows = enumerate_states(model, beta).averages, []
    first = 1000 * (NAMES.index(method) + 2 * list(SMALL).index(name))
    for seed in range(first, first + 12):
        run = sample(model, beta, draws=3000, burn_in=100, method=method, seed=seed, keep="observables", progress=False)
        found = {observable: gamma_error(run[observable].values) for observable in CHECKED}
        rows.append([(found[o].value - exact[o]) / found[o].error for o in CHECKED])
    return dict(zip(CHECKED, np.array(rows).T))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("method", NAMES)
def test_means_against_enumeration(method, name):
    for observable, z in z_scores(method, name).items():
        assert np.abs(z).max() < 4.5, (observable, z)
        assert abs(z.mean()) * np.sqrt(z.size) < 4, (observable, z.mean())


def test_the_z_scores_together_are_standard_normal():
    "Errors that are too large are as wrong as means that are off; one observable, so that the z are independent."
    z = np.concatenate([z_scores(method, name)["energy"] for method in NAMES for name in SMALL])
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(z.mean()) * np.sqrt(z.size) < 4 and 0.8 < z.std() < 1.25, (z.mean(), z.std())  # 216 z: 0.05 on the width


@pytest.mark.parametrize("method", NAMES)
def test_transfer_matrix_and_the_binder_ratio(method):
    for L, u4 in ((8, 0.61304538), (9, 0.61264431)):
        exact = transfer_matrix(L, BETA_C).averages
        run = sample(Ising((L, L)), BETA_C, draws=8000, burn_in=100, method=method, seed=L, keep="observables", progress=False)
        found = estimates(run)
        for name in ("energy", "abs_m", "m2", "m4"):
            assert abs(found[name].value - exact[name]) < 4 * found[name].error, (L, name)
        assert abs(1 - exact["m4"] / (3 * exact["m2"] ** 2) - u4) < 1e-7
        assert abs(found["binder"].value - u4) < 4 * found["binder"].error < 0.02


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("shape, beta", [(16, 0.35), (32, BETA_C), (65, BETA_C), (16, 0.6)])
def test_kaufman(method, shape, beta):
    run = sample(Ising((shape, shape)), beta, draws=4000, burn_in=100, method=method, seed=2, keep="observables", progress=False)
    found, exact = estimates(run), kaufman(shape, beta)
    assert abs(found["energy"].value - exact.energy) < 4 * found["energy"].error < 0.01
    assert abs(found["specific_heat"].value - exact.specific_heat) < 4 * found["specific_heat"].error


# ---- clusters

@pytest.mark.parametrize("model, beta", [(Ising((3, 3)), 0.4), (Ising((2, 5)), 0.25), (Ising((2, 2, 3)), 0.2)])
def test_cluster_sizes_are_the_susceptibility(model, beta):
    "Sum of |C|^2 / N^2 over all clusters has the mean <m^2>: independent draws from the exact law."
    states, law = states_and_law(model, beta)
    starts = np.random.default_rng(3).choice(len(states), 1500, p=law)
    sums = [(np.bincount(fk_clusters(model, states[k], beta, seed=i).ravel()) ** 2).sum() for i, k in enumerate(starts)]
    mean = np.array(sums) / model.n_sites**2
    z = (mean.mean() - law @ model.observables(states)["m2"]) / (mean.std(ddof=1) / np.sqrt(len(mean)))
    assert abs(z) < 4
    chain = _Wolff(model, beta, states[starts[0]], np.random.default_rng(4), 1)
    chain(1, 100, False)
    chain(20000, 1, False)
    found = gamma_error(chain.sizes)
    assert abs(found.value - model.n_sites * (law @ model.observables(states)["m2"])) < 4 * found.error


def test_clusters_are_made_of_satisfied_bonds_and_the_ghost_holds_spins_along_the_field():
    model, x = Ising((20, 70), h=-0.05), random_spins((20, 70), 1, 1)[0]
    labels = fk_clusters(model, x, 0.5, seed=1)
    assert (labels == 0).any() and (x[labels == 0] == -1).all()
    for label in range(1, labels.max() + 1):
        assert abs(x[labels == label].mean()) == 1
    assert labels.max() == np.unique(labels).size - 1
    assert np.array_equal(labels, fk_clusters(model, x, 0.5, seed=1))
    assert not np.array_equal(labels, fk_clusters(model, x, 0.5, seed=2))
    free = fk_clusters(Ising((20, 70)), x, 0.0, seed=1)  # no bonds at all
    assert np.array_equal(free.ravel(), np.arange(1, 1401))
    assert (fk_clusters(Ising((4, 4)), np.ones((4, 4)), 1e3, seed=1) == 1).all()  # no bond is closed


# ---- what the chains say of themselves

@cache
def joint_law(model, beta):
    "All sets of open bonds: the weight of each, summed over the states that satisfy it, and the cluster of every site (0: the ghost's)."
    sites = list(itertools.product(*map(range, model.shape)))
    number = {site: k + 1 for k, site in enumerate(sites)}
    step = lambda site, axis: tuple((x + (k == axis)) % model.shape[k] for k, x in enumerate(site))
    bonds = [(number[site], number[step(site, axis)], model.J) for site in sites for axis in range(model.ndim)]
    bonds += [(number[site], 0, model.h) for site in sites if model.h != 0]
    is_open = np.arange(2 ** len(bonds)) >> np.arange(len(bonds))[:, None] & 1 == 1  # (bonds, sets)
    sets, weight = np.arange(2 ** len(bonds)), np.zeros(2 ** len(bonds))
    for spins in itertools.product((-1, 1), repeat=len(sites)):
        s = (1, *spins)  # the ghost is up
        weight += sets & sum((coupling * s[i] * s[j] < 0) << k for k, (i, j, coupling) in enumerate(bonds)) == 0
    for k, (_, _, coupling) in enumerate(bonds):
        closed = math.exp(-2 * beta * abs(coupling))
        weight *= np.where(is_open[k], 1 - closed, closed)
    cluster = np.tile(np.arange(len(sites) + 1)[:, None], sets.size)
    for _ in sites:  # the smallest number spreads along the open bonds
        for k, (i, j, _) in enumerate(bonds):
            low = np.minimum(cluster[i], cluster[j])
            cluster[i], cluster[j] = np.where(is_open[k], low, cluster[i]), np.where(is_open[k], low, cluster[j])
    return weight / weight.sum(), cluster[1:]


REPORTED = {
    "2x3": (Ising((2, 3)), 0.2),
    "2x3 antiferromagnet": (Ising((2, 3), J=-0.8), 0.4),
    "2x3 in a field": (Ising((2, 3), h=0.3), 0.2),
    "2x3 antiferromagnet in a field": (Ising((2, 3), J=-0.5, h=-0.4), 0.3),
    "3x3": (Ising((3, 3)), 0.3),
}


@pytest.mark.parametrize("name", REPORTED)
def test_reports_against_all_states_and_all_bonds(name):
    "Forty chains each, from exact draws: nothing has to be burnt in, and their means are independent."
    model, beta = REPORTED[name]
    weight, cluster = joint_law(model, beta)
    n, own = model.n_sites, np.arange(1, model.n_sites + 1)[:, None]
    exact = {"mean_clusters": weight @ (cluster == own).sum(0), "turned_clusters": weight @ (cluster != 0).mean(0) * n / (n + 1)}
    size = weight @ sum((cluster == site).sum(0) for site in cluster) / n  # of the cluster of a random site
    exact |= {"mean_cluster_size": size} if model.h == 0 else {}  # in a field a growth ends early
    states, law = states_and_law(model, beta)
    for method in NAMES:
        said = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            chain = chain_of(method, model, beta, states[rng.choice(len(states), p=law)], rng, clusters=3)
            chain(1500, 2, False)
            said.append(chain.report())
        for key in said[0].keys() & exact.keys():
            found = np.array([s[key] for s in said])
            error = found.std(ddof=1) / np.sqrt(len(found))
            assert error < 0.004 * exact[key]
            assert abs(found.mean() - exact[key]) < 4 * error, (method, key, found.mean(), exact[key], error)
        if method == "wolff" and model.h != 0:
            assert 1 < np.mean([s["mean_cluster_size"] for s in said]) < size


TUNED = {"hot": (Ising((16, 16)), 0.0), "warm": (Ising((16, 16)), 0.25), "critical": (Ising((16, 16)), BETA_C),
         "cold": (Ising((16, 16)), 0.6), "cube": (Ising((6, 6, 6)), 0.2), "field": (Ising((16, 16), h=0.1), 0.3),
         "diagonals": (Ising((12, 12), J=0.5, J2=0.3), 0.2)}


@pytest.mark.parametrize("name", TUNED)
def test_the_tuned_number_of_clusters_makes_up_the_lattice(name):
    model, beta = TUNED[name]
    for seed in range(3):
        run = sample(model, beta, draws=1000, burn_in=20, method="wolff", seed=seed, keep="observables", progress=False)
        share = json.loads(run.attrs["settings"])["clusters"] * run.attrs["mean_cluster_size"] / model.n_sites
        assert 0.5 < share < 2, share


# ---- the dice

@pytest.mark.parametrize("ties", [1, 3, 8, 9, 10, 11, 16, 20, 31, 32, 33, 40, 51])
def test_the_dice_follow_every_digit(ties):
    "A decision is `number < q`, where the number has 64 digits. With q of the same first digits as a number, it hangs on a late one."
    for lane, bit in itertools.product((0, 31), (0, 63)):
        state = random_state(np.random.default_rng(ties), 32)
        copy = state.copy()
        words = [[int(next_word(copy, k)) for _ in range(64)] for k in range(32)]
        numbers = np.array([[sum((w >> k & 1) << 63 - d for d, w in enumerate(row)) for k in range(64)] for row in words], dtype=object)
        for flip in (0, 1):  # the digit after the ties is the same, and q ends there; or it differs
            q = (int(numbers[lane, bit]) >> 63 - ties ^ flip) << 63 - ties
            dice = np.zeros(32, dtype=np.uint64)
            _biased(state.copy(), _digits(q / 2**64), np.zeros(32, dtype=np.uint64), dice)
            assert [[int(w) >> k & 1 for k in range(64)] for w in dice] == (numbers < q).astype(int).tolist()


def value_of(digits):
    assert all(int(d) in (0, 2**64 - 1) for d in digits)
    return sum(Fraction(int(d) & 1, 2 ** (k + 1)) for k, d in enumerate(digits))


@pytest.mark.parametrize("beta", [0.013, 0.4, 3.0])
def test_the_digits_are_all_those_of_the_chance(beta):
    model = Ising((3, 4), J=0.7, J2=-0.3, h=0.11)
    rows, table = _lattice(model, beta)
    assert rows.kind.tolist() == [0, 0, 1, 1, 3]
    for coupling, digits in zip((0.7, 0.7, 0.3, 0.3, 0.11), table):
        assert value_of(digits) == Fraction(math.exp(-2 * beta * coupling))
    growth = _growth(Ising((3, 4), J=0.7), beta, np.random.default_rng(0))
    assert value_of(growth.digits) == Fraction(math.exp(-2 * beta * 0.7)) == Fraction(float(growth.closed[0]))


def test_the_uniform_numbers_have_53_digits():
    state = random_state(np.random.default_rng(3), 32)
    copy = state.copy()
    assert all(_uniform(state) == (int(next_word(copy, 0)) >> 11) / 2**53 for _ in range(100))


# ---- to the bit

LATTICES = [Ising((2, 2)), Ising((5, 64)), Ising((3, 65), J2=0.1, h=-0.2), Ising((2, 3, 70), J=-0.6, h=0.1), Ising((4, 5, 6)),
            Ising((16, 16), J=0.3, J2=0.7)]


@pytest.mark.parametrize("model", LATTICES, ids=str)
@pytest.mark.parametrize("method", NAMES)
def test_values_are_the_models_and_a_chain_does_not_care_how_it_is_cut(method, model):
    x = random_spins(model.shape, 1, 5)[0]
    whole, cut, blind = (chain_of(method, model, 0.3, x, np.random.default_rng(6)) for _ in range(3))
    configs, values = whole(12, 2)
    parts = [cut(draws, 2) for draws in (1, 4, 7)]
    assert configs.dtype == np.int8 and configs.shape == (1, 12, *model.shape)
    assert np.array_equal(configs, np.concatenate([p[0] for p in parts], axis=1))
    nothing, same = blind(12, 2, False)
    assert nothing is None
    for name, known in model.observables(configs).items():
        assert np.array_equal(values[name], known) and np.array_equal(same[name], known)
        assert np.array_equal(np.concatenate([p[1][name] for p in parts], axis=1), known)
    whole(1, 3), cut(3, 1)
    assert np.array_equal(whole(1, 1)[0], cut(1, 1)[0])  # thin or draw: the same sweeps


def test_another_seed_gives_other_bits():
    for method in NAMES:
        a, b = (chain_of(method, Ising((8, 8)), 0.4, np.ones((8, 8)), np.random.default_rng(s))(20, 1)[0] for s in (1, 2))
        assert not np.array_equal(a, b)


THREADS = """
import hashlib
from uqphys.models import Ising
from uqphys.sampling import sample
digest = hashlib.sha256()
for method in ("wolff", "swendsen-wang"):
    e = sample(Ising((12, 12), h=0.01), 0.4, draws=200, chains=5, method=method, seed=3, progress=False)
    for name in ("config", "energy", "m4"):
        digest.update(e[name].values.tobytes())
    digest.update(e.attrs["settings"].encode())
print(digest.hexdigest())
"""


def test_same_bits_with_any_number_of_threads():
    assert_threads_do_not_matter(THREADS)


@pytest.mark.parametrize("method", NAMES)
def test_more_chains_leave_the_earlier_ones(method):
    few, many = (sample(Ising((6, 6)), 0.4, draws=200, chains=c, method=method, seed=3, progress=False) for c in (2, 5))
    assert np.array_equal(few.config, many.config[:2])
    assert few.attrs["settings"] == many.attrs["settings"] and few.attrs["burn_in"] == many.attrs["burn_in"]


# ---- at the edges

@pytest.mark.parametrize("method", NAMES)
def test_infinite_temperature_is_fair_coins(method):
    "A fixed number of clusters of one site each would keep the parity of up spins: one in N + 1 must be idle."
    model = Ising((3, 4))  # an even number of sites, and of clusters per sweep
    run = sample(model, 0.0, draws=4000, burn_in=50, method=method, seed=1, keep="observables", progress=False)
    even = gamma_error(np.mod(np.rint((run.m.values * 12 + 12) / 2), 2))
    assert abs(even.value - 0.5) < 4 * even.error
    exact = enumerate_states(model, 0.0).averages
    for name in CHECKED:
        found = gamma_error(run[name].values)
        assert abs(found.value - exact[name]) < 4 * found.error, name


@pytest.mark.parametrize("method", NAMES)
def test_absolute_zero(method):
    run = sample(Ising((4, 6)), 1e4, draws=50, burn_in=0, method=method, seed=1, keep="observables", progress=False)
    assert (run.energy == -2).all() and (run.abs_m == 1).all() and set(np.unique(run.m)) == {-1, 1}
    held = sample(Ising((4, 6), h=0.1), 1e4, draws=50, burn_in=20, method=method, seed=1, keep="observables", progress=False)
    assert (held.m == 1).all()


def test_wolff_takes_any_number_of_clusters_and_reports():
    for clusters in (1, 7):
        run = sample(Ising((4, 4)), 0.4, draws=4000, method="wolff", settings={"clusters": clusters}, burn_in=50, seed=5,
                     keep="observables", progress=False)
        found, exact = gamma_error(run.m2.values), enumerate_states(Ising((4, 4)), 0.4).averages["m2"]
        assert abs(found.value - exact) < 4 * found.error
        assert abs(run.attrs["mean_cluster_size"] - 16 * exact) < 0.3 and abs(run.attrs["turned_clusters"] - 16 / 17) < 0.01
    swendsen_wang = sample(Ising((4, 4)), 0.0, draws=10, burn_in=0, method="swendsen-wang", seed=1, progress=False)
    assert swendsen_wang.attrs["mean_clusters"] == 16


@pytest.mark.parametrize("method", NAMES)
def test_what_cannot_be_treated_is_refused(method):
    class Other:
        shape = (4, 4)

        def energy(self, x):
            return Ising((4, 4)).energy(x)

    with pytest.raises(ValueError, match="K=0.1 couples four"):
        sample(Ising((4, 4), K=0.1), 0.4, method=method, seed=1)
    with pytest.raises(ValueError, match="Ising model"):
        sample(Other(), 0.4, method=method, seed=1)
    with pytest.raises(ValueError, match="settings"):
        sample(Ising((4, 4)), 0.4, method=method, settings={"clusters": 1.5}, seed=1)


def test_a_mover_can_be_put_elsewhere():
    for chain in (_SwendsenWang(Ising((3, 5)), 0.4, np.ones((3, 5)), np.random.default_rng(0)),
                  _Wolff(Ising((3, 5)), 0.4, np.ones((3, 5)), np.random.default_rng(0), 1)):
        cold, x = chain.__class__.__name__, random_spins((3, 5), 1, 9)[0]
        chain.put(x)
        bits = chain.work.bits[:3, 0] if cold == "_SwendsenWang" else (chain.growth.cells.reshape(3, 5) & 1) @ (1 << np.arange(5))
        assert bits.tolist() == ((x > 0) @ (1 << np.arange(5))).tolist()
