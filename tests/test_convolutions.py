"""Convolutions on lattices: exact symmetries in one to four dimensions, rolls, gradients, types, seeds, and bad calls."""
import itertools
import math

import numpy as np
import pytest
import torch

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import convolutions
from uqphys.architectures import ACTIVATIONS, kernel_images, point_group
from uqphys.convolutions import LatticeCNN, circular_convolution, transform_lattice
from uqphys.models import random_fields, random_spins
from uqphys.sampling import one_thread

SHAPES = [(7,), (4, 6), (3, 4, 5), (3, 4, 3, 3)]
CASES = [(shape, values, kernel) for shape in SHAPES for values in ("spins", "real") for kernel in (2, 3) if len(shape) < 4 or kernel == 2]


def configurations(shape, values, n=3, seed=0):
    return (random_spins if values == "spins" else random_fields)(shape, n, seed)


# ---- the group

@pytest.mark.parametrize("ndim", (1, 2, 3, 4))
def test_the_point_group_is_a_group(ndim):
    group = point_group(ndim)
    assert len(group) == 2**ndim * math.factorial(ndim) and len({g.tobytes() for g in group}) == len(group)
    some = group if ndim < 4 else group[::17]
    listed = {g.tobytes() for g in group}
    assert all(np.ascontiguousarray(g @ h).tobytes() in listed for g in some for h in some)
    assert all((g @ g.T == np.eye(ndim)).all() for g in group)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_transformation_moves_every_site_where_the_matrix_says(shape):
    ndim, x = len(shape), random_fields(shape, 2, seed=1)
    for g in point_group(ndim)[:: 1 if ndim < 4 else 29]:
        moved = transform_lattice(x, g, ndim)
        for r in itertools.product(*map(range, shape)):
            assert (moved[(slice(None), *((g @ r) % moved.shape[1:]))] == x[(slice(None), *r)]).all()
        assert np.array_equal(transform_lattice(torch.from_numpy(x), g, ndim).numpy(), moved)


def test_the_images_of_a_kernel_are_permutations_that_form_a_group():
    for ndim, width in ((1, 4), (2, 3), (2, 4), (3, 2), (3, 3)):
        images = kernel_images(ndim, width)
        listed = {row.tobytes() for row in images}
        assert (np.sort(images) == np.arange(width**ndim)).all()
        assert all(images[a][images[b]].tobytes() in listed for a in range(len(images)) for b in range(0, len(images), 5))


# ---- the convolution

@pytest.mark.parametrize("shape,width", [((9,), 4), ((9,), 1), ((6, 5), 3), ((4, 6), 2), ((3, 4, 5), 3), ((3, 4, 5, 3), 3), ((4, 2, 3, 2), 2), ((2, 3, 2, 2, 3), 2)])
def test_the_convolution_is_a_sum_of_rolls(shape, width):
    generator, ndim = torch.Generator().manual_seed(1), len(shape)
    x = torch.randn((2, 3, *shape), generator=generator, dtype=torch.float64)
    kernel = torch.randn((4, 3, *[width] * ndim), generator=generator, dtype=torch.float64)
    total = 0
    for place in itertools.product(range(width), repeat=ndim):
        near = torch.roll(x, [(width - 1) // 2 - p for p in place], list(range(2, 2 + ndim)))
        total = total + torch.einsum("ni...,oi->no...", near, kernel[(..., *place)])
    assert (circular_convolution(x, kernel) - total).abs().max() < 1e-12


# ---- the network

def largest_change(net, x, elements, shifts, signs):
    "Largest relative change of the outputs under all combinations."
    axes, found = tuple(range(1, x.ndim)), []
    with torch.no_grad():
        before = net(x)
        for g in elements:
            turned = transform_lattice(x, g, len(axes))
            moved = np.concatenate([np.roll(sign * turned, shift, axes) for shift in shifts for sign in signs])
            found.append(float((net(moved).unflatten(0, (-1, len(x))) - before).abs().max() / before.abs().max()))
    return max(found)


@pytest.mark.parametrize("extensive", (True, False))
@pytest.mark.parametrize("shape,values,kernel", CASES)
def test_a_network_has_every_symmetry_that_it_claims(shape, values, kernel, extensive):
    if kernel == 3 and len(shape) == 3 and extensive:
        pytest.skip("the same for means")
    ndim, x = len(shape), configurations(shape, values, 2)
    elements = point_group(ndim)[:: 1 if ndim < 4 else 37]
    shifts = [(0,) * ndim, *np.eye(ndim, dtype=int).tolist(), tuple(range(1, ndim + 1))]
    for oriented in (True, False):
        net = LatticeCNN(ndim, (2, 2), kernel, outputs=2, lattice_symmetric=True, flip_symmetric=True, extensive=extensive, values=values, oriented=oriented)
        if values == "real":
            net.standardise(x)
        assert largest_change(net, x, elements, shifts, (1, -1)) < 1e-10


def test_a_network_has_no_symmetry_that_it_does_not_claim():
    x, group = random_fields((5, 6), 4, seed=3), point_group(2)
    turns, flips = (group, [(0, 0)], (1,)), (group[:1], [(0, 0)], (-1,))
    for options, turned, flipped in (({}, False, False), ({"lattice_symmetric": True}, True, False), ({"flip_symmetric": True}, False, True)):
        net = LatticeCNN(2, values="real", **options)
        assert largest_change(net, x, group[:1], [(1, 0), (0, 1), (2, 3)], (1,)) < 1e-12
        for elements, claimed in ((turns, turned), (flips, flipped)):
            change = largest_change(net, x, *elements)
            assert change < 1e-12 if claimed else change > 1e-3


def test_every_activation_is_used():
    x = random_fields((5, 6), 4, seed=3)
    with torch.no_grad():
        told = {name: LatticeCNN(2, values="real", activation=name)(x).numpy() for name in ACTIVATIONS}
    assert all(np.abs(told[a] - told[b]).max() > 1e-3 * np.abs(told[a]).max() for a, b in itertools.combinations(told, 2))


def test_an_oriented_network_tells_apart_what_one_that_is_not_cannot():
    "Two configurations whose sites have the same spins and sums over neighbours and diagonal neighbours, but in other directions."
    x = np.array([["-+++-", "-+---", "+--+-", "+--++"], ["-+-++", "-+++-", "++---", "----+"]])
    x = np.array([[[1 if s == "+" else -1 for s in row] for row in rows] for rows in x], dtype=np.int8)
    with torch.no_grad():
        blind, seeing = (LatticeCNN(2, (4,), lattice_symmetric=True, oriented=oriented, seed=1)(x)[:, 0] for oriented in (False, True))
    assert abs(blind[0] - blind[1]) < 1e-13 and abs(seeing[0] - seeing[1]) > 1e-2


def test_features_begin_with_one_or_the_number_of_sites_and_are_double():
    x = random_spins((4, 5), 3, seed=0)
    for dtype in ("float64", "float32"):
        for extensive in (True, False):
            net = LatticeCNN(channels=(3, 4), extensive=extensive, dtype=dtype)
            features = net.features(x)
            assert features.shape == (3, 8) and features.dtype == torch.float64 and net(x).dtype == torch.float64
            assert (features[:, 0] == (20 if extensive else 1)).all() and net.extensive is extensive
            assert net.weights[0].dtype == getattr(torch, dtype)


def test_single_precision_is_the_same_network_to_single_precision():
    x = random_spins((6, 6), 5, seed=0)
    one, two = (LatticeCNN(lattice_symmetric=True, flip_symmetric=True, dtype=d)(x) for d in ("float64", "float32"))
    assert 0 < (one - two).abs().max() < 1e-5 * one.abs().max()


def test_sums_over_sites_are_extensive_and_means_are_not():
    x = random_spins((3, 4), 3, seed=0)
    tiled = np.tile(x, (1, 2, 3))
    net = LatticeCNN(extensive=True, lattice_symmetric=True)
    assert torch.allclose(net(tiled), 6 * net(x), rtol=1e-12)
    assert torch.allclose(LatticeCNN()(tiled), LatticeCNN()(x), rtol=1e-12)


def test_the_reach_is_how_far_a_site_is_felt():
    for channels, kernel in (((2,), 3), ((2, 2), 3), ((2, 2), 4), ((2, 2, 2), 5)):
        net = LatticeCNN(1, channels, kernel, values="real", activation="tanh")
        x = torch.zeros((1, 41), dtype=torch.float64, requires_grad=True)
        h = x[:, None]
        for k in range(len(channels)):
            h = convolutions._layer(net, k, h)
        (gradient,) = torch.autograd.grad(h[0, :, 20].sum(), x)
        seen = np.flatnonzero(gradient[0].numpy())
        assert max(seen.max() - 20, 20 - seen.min()) == net.reach


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_reach_the_weights_and_the_fields(shape):
    ndim = len(shape)
    net = LatticeCNN(ndim, (2, 2), 2, lattice_symmetric=True, flip_symmetric=True, extensive=True, values="real")
    x = torch.from_numpy(random_fields(shape, 2, seed=5)).requires_grad_(True)
    net(x).sum().backward()
    assert x.grad.abs().min() > 0 and all(p.grad.abs().max() > 0 for p in net.parameters())
    step, site = torch.zeros_like(x), (1, *[1] * ndim)
    step[site] = 1e-4
    with torch.no_grad():
        numeric = float((net(x + step) - net(x - step)).sum()) / 2e-4
    assert math.isclose(numeric, float(x.grad[site]), rel_tol=1e-5, abs_tol=1e-9)


def test_the_seed_decides_and_torch_is_left_alone():
    x, state = random_spins((5, 5), 4, seed=0), torch.random.get_rng_state()
    with one_thread():
        one, again, other = (LatticeCNN(lattice_symmetric=True, seed=s)(x) for s in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    net = LatticeCNN(3, (2, 3), 2, 2, True, True, True, "float32", "real", 7, "silu", False)
    assert torch.equal(net.weights[1], type(net)(**net.config).weights[1])


def test_standardising_brings_fields_to_order_one():
    x = 30 + 4 * random_fields((6, 6), 50, seed=0)
    net = LatticeCNN(values="real")
    net.standardise(x)
    assert abs(float(net.offset) - 30) < 1 and abs(float(net.scale) - 4) < 0.5
    flip = LatticeCNN(values="real", flip_symmetric=True)
    flip.standardise(x)
    assert float(flip.offset) == 0 and torch.allclose(flip(x), flip(-x), rtol=1e-13)


def test_standardising_a_constant_divides_by_nothing():
    for value in (0.3, 0.1, 0.0):
        net = LatticeCNN(values="real")
        net.standardise(np.full((3, 5, 7), value))
        assert net.scale == 1 and torch.isfinite(net(random_fields((5, 7), 2, seed=0))).all()


def test_inputs_may_be_lists_and_arrays_of_any_layout():
    net, x = LatticeCNN(values="real"), random_fields((4, 5), 3, seed=0)
    still = x.copy()
    still.flags.writeable = False
    for same in (x.tolist(), x[:, ::-1][:, ::-1], x.astype(">f8"), x.astype(np.longdouble), np.asfortranarray(x), still, torch.from_numpy(x)):
        assert torch.equal(net(same), net(x))
    spins = random_spins((4, 5), 3, seed=0)
    assert torch.equal(LatticeCNN()(spins.tolist()), LatticeCNN()(spins)) and torch.equal(LatticeCNN()(spins.astype(">i4")), LatticeCNN()(spins))


def test_orientations_are_listed_only_where_they_are_used(monkeypatch):
    x = random_spins((3,) * 4, 2, seed=0)
    for ndim, width in ((1, 4), (2, 5), (3, 3), (3, 4), (4, 3)):
        images = kernel_images(ndim, width)
        assert np.array_equal(convolutions._orbits(ndim, width), np.unique(images.min(0), return_inverse=True)[1])
    monkeypatch.setattr(convolutions, "kernel_images", None)
    assert LatticeCNN(4)(x).shape == LatticeCNN(4, lattice_symmetric=True, oriented=False)(x).shape == (2, 1)
    assert LatticeCNN(6, (1,)).reach == 1


# ---- bad calls

SPINS = random_spins((4, 4), 3, seed=0)
ONE = torch.ones(1, 1, 4, 4)
NAME = "convolutions.LatticeCNN"
COUNTS = ((0, "0"), (1.5, r"1\.5"), (True, "True"), ("two", "'two'"), (None, "None"))
FLAGS = ((1, "1"), ("yes", "'yes'"), (None, "None"))
BAD = [
    *rows_of("convolutions.transform_lattice", lambda t, v: transform_lattice(SPINS, v, 2), "element",
             (([[1, 1], [0, 1]], r"\[\[1, 1\], \[0, 1\]\]"), (np.eye(3), "array"), (None, "None"), ("turn", "'turn'"), ([[2, 0], [0, 1]], "2"), ([[1, 0], [0]], r"\[0\]")), "signed permutation"),
    *rows_of("convolutions.transform_lattice", lambda t, v: transform_lattice(v, np.eye(2), 2), "x", ((None, "None"), ([[1]], r"\[\[1\]\]"), (np.ones(3), r"\(3,\)")), "array or tensor"),
    *rows_of("convolutions.transform_lattice", lambda t, v: transform_lattice(SPINS, np.eye(2), v), "ndim", COUNTS, "must be"),
    *rows_of("convolutions.circular_convolution", lambda t, v: circular_convolution(v, torch.ones(1, 1, 3, 3)), "x",
             ((None, "None"), (ONE.numpy(), "float32"), (ONE.int(), "int32"), (ONE[0], r"\(1, 4, 4\)"), (ONE[..., :2], r"\(4, 2\)"), (ONE.double(), "float64")), "must be"),
    *rows_of("convolutions.circular_convolution", lambda t, v: circular_convolution(ONE, v), "kernel", ((None, "None"), (ONE[0, 0], r"\(4, 4\)"), (torch.ones(1, 1, 2, 3), r"\(1, 1, 2, 3\)")), "must be"),
    *rows_of(NAME, lambda t, v: LatticeCNN(v), "ndim", (*COUNTS, (7, "7")), "must be"),
    *rows_of(NAME, lambda t, v: LatticeCNN(channels=v), "channels", (((), r"\(\)"), (8, "8"), ((8, 0), "0"), ("88", "'88'"), (None, "None"), ((8, 2.5), r"2\.5")), "must be|expected"),
    *rows_of(NAME, lambda t, v: LatticeCNN(kernel=v), "kernel", (*COUNTS, (999, "999")), "must"),
    *rows_of(NAME, lambda t, v: LatticeCNN(outputs=v), "outputs", COUNTS, "must be"),
    *(row for flag in ("lattice_symmetric", "flip_symmetric", "extensive", "oriented")
      for row in rows_of(NAME, lambda t, v, flag=flag: LatticeCNN(**{flag: v}), flag, FLAGS, "must be True or False")),
    *rows_of(NAME, lambda t, v: LatticeCNN(dtype=v), "dtype", (("float16", "'float16'"), (torch.float64, "float64"), (None, "None")), "must be one of"),
    *rows_of(NAME, lambda t, v: LatticeCNN(values=v), "values", (("complex", "'complex'"), (None, "None")), "must be one of"),
    *rows_of(NAME, lambda t, v: LatticeCNN(activation=v), "activation", (("sin", "'sin'"), (None, "None")), "must be one of"),
    *rows_of(NAME, lambda t, v: LatticeCNN(seed=v), "seed", ((-1, "-1"), (1.5, r"1\.5"), (None, "None"), (True, "True")), "must be a whole number"),
    *rows_of(NAME, lambda t, v: LatticeCNN()(v), "x", ((None, "None"), ([[1]], r"\(1, 1\)"), (SPINS[0], r"\(4, 4\)"), (SPINS[:0], r"\(0, 4, 4\)"), (SPINS * 0, "0"), ("up", "'up'"),
                                                   (1j * SPINS, "complex"), (SPINS[:, :2], r"\(2, 4\)"), (np.full((1, 4, 4), math.nan), "nan")), "must be|expected"),
    *rows_of(NAME, lambda t, v: LatticeCNN(v, (1,), lattice_symmetric=True), "kernel", ((6, "3"),), "at most"),
    *rows_of(NAME, lambda t, v: LatticeCNN(kernel=v, flip_symmetric=True), "kernel", ((1, "1"),), "must be at least 2"),
    *rows_of(NAME, lambda t, v: LatticeCNN(values="real").standardise(v), "x", ((None, "None"), (np.full((1, 4, 4), math.inf), "inf"), (np.ones((1, 2, 2)), r"\(2, 2\)")), "must be|expected"),
]


@pytest.mark.parametrize("k", range(len(BAD)), ids=row_name(BAD))
def test_a_bad_call_is_refused(k):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, None, argument, value, accepted)


def test_the_table_is_complete():
    assert_complete((convolutions,), BAD, {})
