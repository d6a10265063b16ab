"""Energies of networks: symmetric to rounding, and single moves at a cost that no lattice size changes."""
import itertools
import math
import time

import numpy as np
import pytest
import torch

from uqphys.architectures import LocalEnergyNet, _descriptors
from uqphys.learned_models import LearnedModel
from uqphys.models import Ising, random_fields, random_spins

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
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    one = min(seconds(lambda: law.energy_changes(x, sites, new)) for _ in range(5)) / len(sites)
    with torch.no_grad():
        whole = min(seconds(lambda: net(x)) for _ in range(5))  # a full difference needs two of these
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
