"""The autoregressive network is a law: normalised, causal, sampled as it says, with an unbiased gradient."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from common import assert_complete, assert_refused, row_name
from uqphys import autoregressive
from uqphys.autoregressive import AutoregressiveNet
from uqphys.exact import BETA_C, all_states, enumerate_states
from uqphys.models import Ising, random_spins

KINDS = [((), True), ((), False), ((3,), True), ((3,), False), ((2, 3), True), ((2, 3), False)]
kinds = pytest.mark.parametrize("hidden, flip", KINDS)


def shaken(shape, hidden=(3,), flip=True, spread=0.4, seed=0, **options):
    "A network with random weights, biases included."
    net, generator = AutoregressiveNet(shape, hidden, flip, **options), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p += spread * torch.randn(p.shape, dtype=p.dtype, generator=generator)
    return net


def states(shape):
    return np.concatenate(list(all_states(shape)))


def adam(net, model, beta, steps, n=200, learning_rate=0.02):
    "A short reverse training; the last values of ln q + beta E."
    optimiser, generator = torch.optim.Adam(net.parameters(), learning_rate), torch.Generator().manual_seed(7)
    for step in range(steps):
        now = min(1.0, 0.3 + 1.4 * step / steps) * beta
        optimiser.param_groups[0]["lr"] = learning_rate * min(1.0, 2 - 2 * step / steps)
        loss, values = net.reverse_loss(lambda x: now * model.energy(x), n, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return values


@kinds
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_the_probabilities_of_all_states_add_up_to_one(hidden, flip, spread):
    with torch.no_grad():
        log_q = shaken((4, 4), hidden, flip, spread).log_prob(states((4, 4)))
    assert log_q.dtype == torch.float64 and log_q.shape == (2**16,)
    assert abs(log_q.exp().sum().item() - 1) < 1e-10
    if flip:
        assert (log_q - log_q.flip(0)).abs().max() < 1e-12
    elif spread:
        assert (log_q - log_q.flip(0)).abs().max() > 0.1


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 2, 3), (1, 1), (1,)])
def test_any_dimension(shape):
    net, x = shaken(shape, flip=False), states(shape)
    assert abs(net.log_prob(x).exp().sum().item() - 1) < 1e-12
    assert net.conditionals(x).shape == x.shape and net.sample(5, 0)[0].shape == (5, *shape)


@kinds
def test_conditionals_depend_on_earlier_sites_only(hidden, flip):
    net, sites = shaken((3, 4), hidden, flip), 12
    x = torch.as_tensor(random_spins((3, 4), 1, 0)).double()
    same = x.repeat(sites, 1, 1)
    turned = (same.reshape(sites, sites) * (1 - 2 * torch.eye(sites))).reshape(sites, 3, 4)
    change = (net.conditionals(turned) - net.conditionals(same)).detach().reshape(sites, sites).abs()
    assert change.tril().max() < 1e-15 and (change[np.triu_indices(sites, 1)] > 1e-12).all()


@kinds
def test_log_prob_is_the_product_of_the_conditionals(hidden, flip):
    net, x = shaken((3, 3), hidden, flip), random_spins((3, 3), 50, 1)
    p = net.conditionals(x).detach().numpy()
    assert np.abs(np.log(np.where(x > 0, p, 1 - p)).sum((1, 2)) - net.log_prob(x).detach().numpy()).max() < 1e-12
    if flip:
        assert (p[:, 0, 0] == 0.5).all()


@kinds
@pytest.mark.parametrize("shape", [(3, 3), (5,), (2, 3, 2)])
def test_sampling_agrees_with_the_whole_network(hidden, flip, shape):
    net = shaken(shape, hidden, flip)
    x, log_q = net.sample(300, seed=3)
    assert x.dtype == np.int8 and set(np.unique(x)) == {-1, 1} and log_q.dtype == np.float64
    coins = torch.rand(x[0].size, 300, dtype=torch.float64, generator=autoregressive.torch_generators(3, 1)[0]).numpy()
    y = np.ones((300, x[0].size), dtype=np.int8)
    for i in range(x[0].size):
        p = net.conditionals(y.reshape(x.shape)).detach().numpy().reshape(300, -1)[:, i]
        y[:, i] = np.where(coins[i] < p, 1, -1)
    assert np.array_equal(x.reshape(300, -1), y)
    assert np.abs(log_q - net.log_prob(x).detach().numpy()).max() < 1e-12


@kinds
def test_frequencies(hidden, flip):
    net, n = shaken((3, 3), hidden, flip), 40_000
    expected = n * net.log_prob(states((3, 3))).exp().detach().numpy()
    counts = np.bincount((net.sample(n, seed=5)[0].reshape(n, -1) > 0) @ (1 << np.arange(9)), minlength=512)
    often = expected > 8
    seen, due = (np.append(a[often], a[~often].sum()) for a in (counts, expected))
    assert stats.chisquare(seen, due).pvalue > 1e-4


def test_a_seed_gives_the_same_bits_and_another_does_not():
    net, state = shaken((4, 4)), torch.get_rng_state()
    (x, p), (y, q), (z, _) = net.sample(200, 1), net.sample(200, 1), net.sample(200, 2)
    assert np.array_equal(x, y) and np.array_equal(p, q) and not np.array_equal(x, z)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(AutoregressiveNet((4, 4), seed=1).parameters(), AutoregressiveNet((4, 4), seed=1).parameters()))


@pytest.mark.parametrize("flip", [True, False])
def test_no_state_is_impossible(flip):
    net = shaken((4, 4), (3,), flip, spread=1e4, epsilon=1e-5)
    with torch.no_grad():
        log_q, p = net.log_prob(states((4, 4))), net.conditionals(states((4, 4))[::97])
    assert log_q.min() >= 16 * math.log(1e-5) - 1e-9 and abs(log_q.exp().sum().item() - 1) < 1e-10
    assert p.min() >= 1e-5 * (1 - 1e-9) and p.max() <= 1 - 1e-5 * (1 - 1e-9)
    assert p.min() < 1.1e-5


@pytest.mark.parametrize("flip", [True, False])
def test_the_gradient_of_the_reverse_loss_is_that_of_the_divergence(flip):
    net, model, beta, repeats = shaken((2, 3), (2,), flip, 0.2), Ising((2, 3), h=0.0 if flip else 0.2), 0.3, 2500
    parameters, x = list(net.parameters()), states((2, 3))
    log_q = net.log_prob(x)
    exact = (log_q.exp() * (log_q + beta * torch.as_tensor(model.energy(x)))).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    generator, noisy = torch.Generator().manual_seed(0), []
    for _ in range(repeats):
        loss, _ = net.reverse_loss(lambda s: beta * model.energy(s), 6, generator)
        noisy.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    noisy = torch.stack(noisy)
    acts = noisy.std(0) > 1e-12
    z = ((noisy.mean(0) - exact) / noisy.std(0) * repeats**0.5)[acts]
    assert acts.sum() > 50 and exact[~acts].abs().max() < 1e-12
    assert z.abs().max() < 4.8 and z.square().mean() < 3  # the weights are correlated, so their mean square is not sharply 1
    assert (exact[acts].abs() / (noisy.std(0)[acts] / repeats**0.5)).max() > 10  # a gradient that is zero would be seen


def test_values_of_the_reverse_loss_and_the_forward_loss():
    net, model = shaken((3, 3)), Ising((3, 3))
    loss, values = net.reverse_loss(lambda x: 0.4 * model.energy(x), 50, torch.Generator().manual_seed(1))
    assert loss.requires_grad and not values.requires_grad and values.shape == (50,)
    assert values.min() >= -enumerate_states(model, 0.4).lnZ - 20 and torch.isfinite(values).all()
    x = random_spins((3, 3), 40, 2)
    assert net.forward_loss(x).item() == pytest.approx(-net.log_prob(x).mean().item())
    assert torch.autograd.grad(net.forward_loss(x), net.skip)[0].abs().max() > 0


def test_forward_learning_reaches_the_entropy_of_the_data():
    model, x = Ising((2, 3), h=0.2), states((2, 3))
    p = torch.as_tensor(-0.4 * model.energy(x)).softmax(0)
    net = AutoregressiveNet((2, 3), (4,), flip_symmetric=False)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(400):
        optimiser.zero_grad()
        (-(p * net.log_prob(x)).sum()).backward()
        optimiser.step()
    assert 0 <= (p * (p.log() - net.log_prob(x))).sum().item() < 0.002


def test_a_trained_network_is_close_to_the_exact_law_and_normalised():
    model, net = Ising((4, 4)), AutoregressiveNet((4, 4), (4,))
    adam(net, model, BETA_C, 200)
    truth, x = enumerate_states(model, BETA_C), states((4, 4))
    with torch.no_grad():
        log_q = net.log_prob(x)
    excess = (log_q.exp() * (log_q + BETA_C * torch.as_tensor(model.energy(x)))).sum().item() + truth.lnZ
    assert abs(log_q.exp().sum().item() - 1) < 1e-10 and (log_q - log_q.flip(0)).abs().max() < 1e-12
    assert 0 <= excess < 0.003 * truth.lnZ


def test_config_and_weights_make_it_again():
    net = shaken((3, 3), (2, 2), False)
    twin = type(net)(**net.config)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.log_prob(states((3, 3))), net.log_prob(states((3, 3))))


def things():
    net = AutoregressiveNet((2, 3))
    return SimpleNamespace(net=net, energy=Ising((2, 3)).energy, rng=torch.Generator(), x=random_spins((2, 3), 4, 0))


NAME = "autoregressive.AutoregressiveNet"
FLOOR, COUNT, SPIN, SHAPE = "> 0 and < 0.5", "whole number >=", r"-1 or \+1|spins -1, \+1", "must be"
TABLE = [(NAME, call, *expected) for call, *expected in [
    *[(lambda t, v=v: AutoregressiveNet(v), "shape", shown, SHAPE) for v, shown in
      ((None, "None"), (4, "4"), ((), r"\(\)"), ((0, 3), r"\(0, 3\)"), ((2.5, 3), r"2\.5"), ("ab", "'ab'"))],
    *[(lambda t, v=v: AutoregressiveNet((2, 3), v), "hidden", shown, "expected a sequence|whole number >= 1") for v, shown in
      ((4, "4"), ((0,), "0"), ("8", "'8'"), ((2.5,), r"2\.5"), (None, "None"))],
    *[(lambda t, v=v: AutoregressiveNet((2, 3), flip_symmetric=v), "flip_symmetric", shown, "True or False") for v, shown in ((1, "1"), (None, "None"), ("no", "'no'"))],
    *[(lambda t, v=v: AutoregressiveNet((2, 3), epsilon=v), "epsilon", shown, FLOOR) for v, shown in
      ((0.0, r"0\.0"), (0.5, r"0\.5"), (-1, "-1"), (math.nan, "nan"), (None, "None"), ("small", "'small'"), (True, "True"))],
    *[(lambda t, v=v: AutoregressiveNet((2, 3), seed=v), "seed", shown, COUNT) for v, shown in ((-1, "-1"), (1.5, r"1\.5"), (None, "None"))],
    *[(lambda t, v=v, m=m: getattr(t.net, m)(v), "x", shown, accepted)
      for m in ("log_prob", "conditionals", "forward_loss") for v, shown, accepted in
      ((None, "None", SPIN), ([[1, -1]], "list", SPIN), (np.zeros((4, 2, 3)), r"0\.0", SPIN), (np.full((4, 2, 3), np.nan), "nan", SPIN),
       (np.ones((2, 3)), r"\(2, 3\)", r"\(n, 2, 3\)"), (np.ones((1, 1, 2, 3)), r"\(1, 1, 2, 3\)", r"\(n, 2, 3\)"))],
    *[(lambda t, m=m: getattr(t.net, m)(np.ones((4, 3, 2))), r"x\.shape", r"\(4, 3, 2\)", r"\(\.\.\., 2, 3\)") for m in ("log_prob", "conditionals")],
    (lambda t: t.net.forward_loss(np.ones((0, 2, 3))), "x", r"\(0, 2, 3\)", "at least one"),
    *[(lambda t, v=v: t.net.sample(v, 0), "n", shown, COUNT) for v, shown in ((0, "0"), (1.5, r"1\.5"), (None, "None"), (True, "True"))],
    *[(lambda t, v=v: t.net.sample(5, v), "seed", shown, COUNT) for v, shown in ((-1, "-1"), (1.5, r"1\.5"), (None, "None"))],
    *[(lambda t, v=v: t.net.reverse_loss(t.energy, v, t.rng), "n", shown, COUNT) for v, shown in ((1, "1"), (0, "0"), ("all", "'all'"))],
    *[(lambda t, v=v: t.net.reverse_loss(t.energy, 5, v), "generator", shown, "torch.Generator") for v, shown in ((0, "0"), (None, "None"))],
    *[(lambda t, v=v: t.net.reverse_loss(v, 5, t.rng), "energy", shown, accepted) for v, shown, accepted in
      ((None, "None", "callable"), (lambda x: x.sum(), r"\(\)", "each of the 5"), (lambda x: x.sum((1, 2)) * math.nan, "nan", "finite real number"))],
]]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *expected = TABLE[row]
    assert_refused(call, things(), *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete((autoregressive,), TABLE, {})


def test_arrays_of_any_layout_are_read_alike():
    net, x = AutoregressiveNet((3, 4), hidden=(3,), seed=1), random_spins((3, 4), 6, seed=0)
    frozen = x.copy()
    frozen.flags.writeable = False
    with torch.no_grad():
        expected = net.log_prob(x)
        for same in (x[::-1][::-1], np.asfortranarray(x), x.astype(">i4"), x.astype(">f8"), x.astype(np.longdouble), frozen, torch.as_tensor(x)):
            assert torch.equal(net.log_prob(same), expected)
        assert torch.equal(net.log_prob(x[::-1]), expected.flip(0))
