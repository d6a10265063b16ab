"""Energies of networks: symmetric to rounding, and single moves at a cost that no lattice size changes."""
import itertools
import math
import time

import numpy as np
import pytest
import torch

from uqphys.analysis import gamma_error
from uqphys.architectures import MLP, LocalEnergyNet, Network, SiteValues, _descriptors, environment, shell_offsets
from uqphys.learned_models import LearnedModel
from uqphys.models import Ising, random_fields, random_spins
from uqphys.sampling import one_thread, sample

OPTIONS = [dict(zip(("shells", "window", "flip_symmetric", "linear", "values", "plaquettes", "squares"), choice))
           for choice in itertools.product((1, 3), (0, 1), (True, False), (True, False), ("spins", "real"), (True, False), (True,))]


def configurations(net, shape, n, seed):
    return (random_spins if net.config["values"] == "spins" else random_fields)(shape, n, seed)


def images(x, ndim, flip):
    "All rotations and reflections of x (n, *shape), shifted, and turned over where that is claimed."
    axes = range(1, ndim + 1)
    for order in itertools.permutations(axes):
        for signs in itertools.product((1, -1), repeat=ndim):
            image = np.flip(x.transpose(0, *order), [a for a, s in zip(axes, signs) if s < 0])
            for turned in ((image, -image) if flip else (image,)):
                yield np.roll(turned, [a % 3 for a in axes], list(axes)).copy()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_energy_is_symmetric_to_rounding(options):
    net = LocalEnergyNet(**options, hidden=(7, 5), seed=3)
    x = configurations(net, (6, 6), 3, seed=5)
    net.standardise(x)
    with torch.no_grad():
        energy = net(x)
        assert max(float((net(image) - energy).abs().max()) for image in images(x, 2, options["flip_symmetric"])) < 1e-10
        if not options["flip_symmetric"]:
            assert float((net(-x) - energy).abs().max()) > 1e-6


def slow_change(net, x, site, value):
    "The sum over all sites of what their energies change by."
    after = x.copy()
    after[tuple(site)] = value
    with torch.no_grad():
        energies = [(net.site_features(_descriptors(y, net.config)) @ net.head.weight[0]).numpy() for y in (x, after)]
    return math.fsum(energies[1] - energies[0])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_move_costs_what_the_whole_lattice_says(options):
    net, rng = LocalEnergyNet(**options, hidden=(7, 5), seed=3), np.random.default_rng(0)
    for shape in ((3, 4), (8, 7)):
        x = configurations(net, shape, 2, seed=6)
        net.standardise(x)
        sites = np.stack([rng.integers(0, n, 4) for n in shape], 1)
        new = -x[(slice(None), *sites.T)] if options["values"] == "spins" else rng.standard_normal((2, 4))
        fast = LearnedModel(shape, net).energy_changes(x, sites, new)
        slow = [[slow_change(net, x[n], sites[k], new[n, k]) for k in range(4)] for n in range(2)]
        assert np.abs(fast - slow).max() < 1e-12


def test_at_64_a_move_is_exact_and_fifty_times_faster():
    net = LocalEnergyNet(hidden=(16,), seed=0)
    law, x = LearnedModel((64, 64), net), random_spins((64, 64), 1, seed=2)
    sites = np.random.default_rng(0).integers(0, 64, (1000, 2))
    new = -x[(slice(None), *sites.T)]
    law.energy_changes(x, sites[:1], new[:, :1])
    slow = [slow_change(net, x[0], sites[k], new[0, k]) for k in range(20)]
    assert np.abs(law.energy_changes(x, sites[:20], new[:, :20])[0] - slow).max() < 1e-12

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    one = min(seconds(lambda: law.energy_changes(x, sites, new)) for _ in range(5)) / len(sites)
    with torch.no_grad(), one_thread():  # a full difference needs two of these; counting environments would be slower
        whole = min(seconds(lambda: net(SiteValues(_descriptors(x, net.config)))) for _ in range(10))
    assert 2 * whole > 50 * one


def test_a_table_of_patterns_is_the_network():
    net = LocalEnergyNet(window=1, seed=2)
    law, x = LearnedModel((5, 5), net), random_spins((5, 5), 4, seed=0)
    from uqphys.models import pattern_index
    np.testing.assert_allclose(law.pattern_energies()[pattern_index(x)].sum((1, 2)), law.energy(x), atol=1e-10)
    assert not hasattr(LearnedModel((5, 5), LocalEnergyNet(shells=3)), "pattern_energies")
    assert repr(law) == repr(LearnedModel((5, 5), LocalEnergyNet(window=1, seed=2))) != repr(LearnedModel((5, 5), LocalEnergyNet(seed=2)))


def test_least_squares_finds_the_couplings_of_a_3d_model():
    law, x = Ising((4, 4, 4), J=0.8, J2=0.15, K=-0.1), random_spins((4, 4, 4), 30, seed=1)
    net = LocalEnergyNet(3, hidden=(), linear=True)
    phi = net.features(x).numpy()
    head = np.linalg.lstsq(phi, law.energy(x), rcond=None)[0]
    y = random_spins((5, 5, 5), 3, seed=2)
    np.testing.assert_allclose(net.features(y).numpy() @ head, Ising((5, 5, 5), J=0.8, J2=0.15, K=-0.1).energy(y), atol=1e-9)


# ---- a law does not change under a running chain

def test_a_model_keeps_a_copy_of_its_network():
    net, x, site = LocalEnergyNet(seed=1), random_spins((6, 6), 1, seed=0), np.array([[0, 0]])
    law, again = LearnedModel((6, 6), net), LearnedModel((6, 6), LocalEnergyNet(seed=1))
    energy, change, name = law.energy(x), law.energy_changes(x, site, -x[:, [0], [0]]), repr(law)
    net.head.weight.data *= 3
    y = x.copy()
    y[0, 0, 0] *= -1
    assert np.array_equal(law.energy(x), energy) and repr(law) == name
    np.testing.assert_allclose(law.energy(y) - law.energy(x), change[0], atol=1e-12)
    assert law == again and hash(law) == hash(again) and law != LearnedModel((6, 6), net) and law != LearnedModel((6, 5), again.network)
    assert law != 3 and np.array_equal(law.energy(torch.from_numpy(x)).numpy(), energy)  # .numpy(): no gradient of the weights
    assert not any(v.requires_grad for v in law.observables(torch.from_numpy(x)).values()) and next(net.parameters()).requires_grad


def test_two_architectures_with_the_same_weights_have_two_names():
    a = LocalEnergyNet(shells=1, squares=False)
    b = LocalEnergyNet(shells=2, plaquettes=False, squares=False)
    b.load_state_dict(a.state_dict())
    one, two = LearnedModel((6, 6), a), LearnedModel((6, 6), b)
    assert one != two and repr(one) != repr(two)


def test_no_configurations_and_any_layout():
    law, x, site = LearnedModel((4, 4), LocalEnergyNet(values="real", seed=2)), random_fields((4, 4), 3, seed=0), np.array([[0, 1]])
    for empty in (x[:0], torch.from_numpy(x[:0])):
        assert tuple(law.force(empty).shape) == (0, 4, 4) and tuple(law.energy(empty).shape) == (0,)
    assert law.energy_changes(x[:0], site, np.zeros((0, 1))).shape == (0, 1) and law.energy_changes(x, site[:0], np.zeros((3, 0))).shape == (3, 0)
    still = x.copy()
    still.flags.writeable = False
    for same in (x[:, ::-1][:, ::-1], x.astype(">f8"), np.asfortranarray(x), still):
        assert np.array_equal(law.energy(same), law.energy(x)) and np.array_equal(law.force(same), law.force(x))
        assert np.array_equal(law.energy_changes(same, site, np.ones((3, 1))), law.energy_changes(x, site, np.ones((3, 1))))
    turned = x[:, ::-1]
    assert np.array_equal(law.force(turned), law.force(turned.copy()))


@pytest.mark.parametrize("options, strength", ((dict(shells=3), 2), (dict(shells=1, window=2), 1)), ids=str)
def test_a_chain_on_the_loops_samples_the_exact_law(options, strength):
    "The window at strength 1: at 2 its chains fall into the uniform states seldom, and for long, and 4000 draws err by more than they know."
    small = LearnedModel((3, 3), LocalEnergyNet(hidden=(4,), seed=0, **options))  # 512 configurations
    every = np.where(np.arange(2**9)[:, None] >> np.arange(9) & 1, 1, -1).astype(np.int8).reshape(-1, 3, 3)
    energy = small.energy(every)
    beta = strength / energy.std()  # strong: a change of energies by a tenth shows
    weights = np.exp(-beta * (energy - energy.min()))
    run = sample(small, beta, draws=2000, chains=2, burn_in=100, seed=1, progress=False)
    assert run.attrs["method"] == "batched" and not hasattr(small, "pattern_energies")
    for name in ("energy", "m2"):
        seen = small.observables(every)[name]
        found, exact = gamma_error(run[name]), weights @ seen / weights.sum()
        assert abs(found.value - exact) < 4 * found.error and abs(seen.mean() - exact) > 8 * found.error


# ---- what networks accept

X = random_fields((4, 4), 3, seed=0)
ODD = [1j * X, np.full((3, 4, 4), "1"), X.astype(object), [[1], [1, 2]], "spins", None, np.ma.masked_less(X, 0), np.full((3, 4, 4), np.nan)]
TAKE = {"MLP": MLP((4, 4)), "fields": LocalEnergyNet(values="real"), "environment": environment}


@pytest.mark.parametrize("take", TAKE.values(), ids=TAKE)
def test_networks_take_real_numbers_of_any_kind_and_nothing_else(take):
    for same in (X.tolist(), X.astype(">f8"), X.astype(np.longdouble), X[:, ::-1][:, ::-1], np.asfortranarray(X), torch.from_numpy(X)):
        assert torch.equal(take(same), take(X))
    for odd in ODD:
        with pytest.raises(ValueError, match="x"):
            take(odd)


def test_single_precision_cannot_hold_everything():
    with pytest.raises(ValueError, match="float32"):
        MLP((4,), dtype="float32")(np.full((1, 4), 1e39))


@pytest.mark.parametrize("scale", (1.0, 1e-21, 1e-150, 1e100))
def test_standardising_knows_no_units(scale):
    x = scale * np.random.default_rng(0).normal(1, 0.1, (500, 2))
    net = MLP((2,))
    net.standardise(x)
    seen = (torch.from_numpy(x) - net.offset) / net.scale
    assert torch.allclose(seen.square().mean(0), torch.ones(2).double()) and torch.isfinite(net(x)).all()


def test_no_spread_is_not_divided_by():
    for net in (LocalEnergyNet(values="real", linear=True, window=1), LocalEnergyNet(values="real", shells=1)):
        for value in (0.3, 0.1, 0.0):
            net.standardise(np.full((3, 5, 7), value))
            assert (net.scale == 1).all() and torch.isfinite(net(random_fields((5, 7), 2, seed=0))).all()
    for value in (0.3, 0.1, 0.0, 1e-30):
        for dtype in ("float64", "float32"):
            net = MLP((2,), dtype=dtype)
            net.standardise(np.full((77, 2), value))
            assert (net.scale == 1).all()


def test_a_constant_network_and_foreign_environments_are_refused():
    x = random_spins((4, 4), 2, seed=0)
    for call in (lambda: MLP((4,), hidden=(), flip_symmetric=True), lambda: LocalEnergyNet(hidden=())(x)):
        with pytest.raises(ValueError, match="hidden=\\(\\).*constant"):
            call()
    for shells in (1, 3):
        with pytest.raises(ValueError, match="values of shape"):
            LocalEnergyNet()(LocalEnergyNet(shells=shells).environments(x))
    for call in (lambda: MLP((4,)).standardise(np.ones((0, 4))), lambda: LocalEnergyNet(values="real").standardise(np.ones((0, 4, 4)))):
        with pytest.raises(ValueError, match="empty"):
            call()


def test_shells_are_found_without_a_search_and_have_a_limit():
    for ndim, shells in ((1, 100), (2, 30), (3, 12), (4, 9)):
        found = shell_offsets(ndim, shells)
        square = [np.unique((o**2).sum(1)) for o in found]
        assert len(found) == shells and all(len(s) == 1 for s in square) and (np.diff(np.concatenate(square)) > 0).all()
        assert ndim != 2 or sum(len(o) for o in found) + 1 == sum(1 for i in range(-20, 21) for j in range(-20, 21) if i * i + j * j <= square[-1][0])
    for call in (lambda: shell_offsets(2, 101), lambda: LocalEnergyNet(shells=500), lambda: shell_offsets(6, 90)):
        with pytest.raises(ValueError, match="shells=.*at most"):
            call()


def test_a_name_of_the_library_stays_the_librarys():
    mine = type("MLP", (Network,), {"__module__": "mine"})
    assert Network.kinds["MLP"] is MLP is not mine
    assert type(LocalEnergyNet(ndim=np.int64(2)).config["ndim"]) is int
