"""Observables from couplings: exact symmetries, errors that are errors, exact answers, resuming, refusals."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from uqphys.couplings import (_TAME, COUPLINGS, OUTPUTS, RANGES, CouplingNet, _best_stretch, _first_mode, _table_parts,
                              check_couplings, coordinates, coupling_design, couplings, from_tame, run_couplings, tame_estimates, train_couplings, without_units)
from uqphys.exact import enumerate_states, kaufman
from uqphys.models import Ising
from uqphys.sampling import sample
from uqphys.training import load_network, save_network

STUDY = Path(__file__).parents[1] / "studies" / "couplings.npz"


def tables():
    with np.load(STUDY, allow_pickle=False) as file:
        return [pd.DataFrame(file[name], columns=file["columns"], dtype=float) for name in ("learn", "judge")]


@pytest.fixture(scope="module")
def trained():
    learn, judge = tables()
    net = CouplingNet(seed=0)
    train_couplings(net, learn, seed=0, epochs=200, progress=False)
    return net, judge


def test_widths_are_stretched_on_rows_that_were_held_out(trained):
    net, _ = trained
    x, y = _table_parts(tables()[0])
    held = np.random.default_rng([0, 2]).permutation(len(x))[: len(x) // 10]
    mean, width = belief(net, x[held])
    width = width / net.stretch.numpy()
    factors = [_best_stretch(y[held, k] - mean[:, k], width[:, k], y[held, 6 + k]) for k in range(6)]
    assert np.allclose(net.stretch.numpy(), factors, rtol=1e-6) and abs(net.stretch.numpy() - 1).max() > 0.05


def belief(net, x):
    with torch.no_grad():
        mean, width = net.means_and_widths(net(x))
    return mean.numpy(), width.numpy() * net.stretch.numpy()


def exact_tame(row):
    "The tame numbers of a small lattice by adding up all states."
    beta, J, J2, K, h, L = row
    model = Ising((int(L), int(L)), J, J2, K, h)
    extra = {"first": _first_mode, "energy2": lambda x: (model.energy(x) / L**2) ** 2}
    means = enumerate_states(model, beta, extra).averages
    return without_units([[d(means, beta, L**2) for d in _TAME.values()]], row[None])[0]


@pytest.mark.parametrize("seed", range(3))
def test_symmetries_hold_to_the_bit(seed):
    x = coupling_design(50, seed)
    x[:, 4] += 0.01
    flipped, scaled = x.copy(), x * [0.25, 4, 4, 4, 4, 1]
    flipped[:, 4] *= -1
    net = CouplingNet((16,), seed)
    net.standardise(x)
    with torch.no_grad():
        assert torch.equal(net(x), net(flipped)) and torch.equal(net(x), net(scaled))  # a factor 4 is exact in binary
        assert not torch.equal(net(x), net(x * [1, 1, 1, 1, 2, 1]))
    one, two = net.predict(x), net.predict(scaled)
    assert np.allclose(two.value, one.value * [4, 1, 0.25, 1, 1, 1], rtol=1e-12) and np.allclose(two.error, one.error * [4, 1, 0.25, 1, 1, 1], rtol=1e-12)


@pytest.mark.parametrize("name", OUTPUTS)
def test_gradients_of_tame_numbers(name):
    derived, beta, n = _TAME[name], 0.4, 36
    means = {"energy": -1.3, "energy2": 1.8, "abs_m": 0.6, "m2": 0.45, "m4": 0.27, "first": 2.1}
    slopes = derived.gradient(means, beta, n)
    assert set(slopes) == set(derived.needs)
    for key in derived.needs:
        up, down = (derived(means | {key: means[key] + d}, beta, n) for d in (1e-6, -1e-6))
        assert math.isclose((up - down) / 2e-6, slopes[key], rel_tol=1e-6)


def test_way_back_and_its_slopes():
    x = coupling_design(40, 3)
    rng = np.random.default_rng(0)
    z = np.column_stack([rng.uniform(0.2, 1, 40), rng.normal(0, 2, 40), rng.normal(0, 2, 40), rng.normal(0, 1, 40), rng.uniform(-6, 0.6, 40), rng.uniform(0.05, 5, 40)])
    error = from_tame(z, np.full(z.shape, 0.01), x).error
    for k in range(6):
        step = np.zeros((1, 6))
        step[0, k] = 1e-6
        numeric = (from_tame(z + step, z, x).value - from_tame(z - step, z, x).value)[:, k] / 2e-6
        assert np.allclose(0.01 * abs(numeric), error[:, k], rtol=1e-5)


def test_first_mode_is_the_structure_factor():
    x = np.random.default_rng(0).choice([-1, 1], (5, 6, 6)).astype(np.int8)
    power = np.abs(np.fft.fft2(x)) ** 2 / 36
    assert np.allclose(_first_mode(x), (power[:, 1, 0] + power[:, 0, 1]) / 2)


def test_errors_of_runs_are_errors():
    "Sixty runs of one law against all states: z-scores of each tame number are standard normal."
    row = couplings(0.36, 4, J2=0.1, K=0.2, h=0.05)
    table = run_couplings(np.repeat(row, 60, 0), draws=400, seed=5, progress=False)
    _, y = _table_parts(table)
    z = (y[:, :6] - exact_tame(row[0])) / y[:, 6:]
    p = [stats.kstest(z[:, k], "norm").pvalue for k in range(6)]
    assert min(p) > 1e-3 and abs(z.mean(0)).max() < 4.5 / 60**0.5 and 0.6 < z.std() < 1.4


def test_rows_do_not_depend_on_each_other():
    x = coupling_design(4, 0, (4, 6))
    whole, part = run_couplings(x, draws=50, seed=1, progress=False), run_couplings(x[:2], draws=50, seed=1, progress=False)
    pd.testing.assert_frame_equal(whole.head(2), part)
    assert not np.allclose(whole[[*OUTPUTS]], run_couplings(x, draws=50, seed=2, progress=False)[[*OUTPUTS]])
    assert np.array_equal(coupling_design(100, 3)[:70], coupling_design(70, 3))


def test_design_stays_in_its_ranges():
    beta, J, J2, K, h, L = coupling_design(4096, 1).T
    inside = {"u": beta * (J + 1.4 * J2 + 0.5 * K), "J2/J": J2 / J, "K/J": K / J, "beta h": beta * h, "L": L}
    for name, (low, high) in RANGES.items():
        assert low - 1e-9 <= inside[name].min() and inside[name].max() <= high + 1e-9
    assert 0.3 < np.mean(h == 0) < 0.37 and (J == 1).all()


def test_likelihood_is_that_of_normal_numbers():
    net = CouplingNet((8,))
    x, y = coupling_design(30, 0), np.random.default_rng(0).uniform(0.1, 1, (30, 12))
    with torch.no_grad():
        mean, width = (v.numpy() for v in net.means_and_widths(net(x)))
        found = net.mismatch(net(x), torch.as_tensor(y)).numpy()
    expected = -stats.norm(mean, np.hypot(width, y[:, 6:])).logpdf(y[:, :6]).sum(1)
    assert np.allclose(found, expected - 3 * np.log(2 * np.pi))


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
def test_stretch_finds_the_factor(true):
    rng = np.random.default_rng(1)
    width, noise = rng.uniform(0.5, 2, 20_000), rng.uniform(0, 1, 20_000)
    assert abs(_best_stretch(rng.normal(0, np.hypot(true * width, noise)), width, noise) / true - 1) < 0.04


def test_study_is_as_the_notebook_says():
    learn, judge = tables()
    assert len(learn) == 3072 and len(judge) == 320 and not set(learn.L) & {14, 28} and {14, 28} <= set(judge.L)
    design = coupling_design(3072, 1)
    assert np.allclose(learn[[*COUPLINGS]].to_numpy(), design, rtol=1e-6)
    draws = [8000 if L <= 8 else 4000 if L <= 12 else 1000 for L in design[:8, 5]]
    again = run_couplings(design[:8], draws=draws, seed=1000, progress=False)  # made again, they are the same
    assert np.allclose(again, learn.head(8), rtol=1e-4) and set(draws) == {1000, 4000, 8000}


def test_errors_of_the_network_hold_on_long_runs(trained):
    net, judge = trained
    x, y = _table_parts(judge)
    mean, width = belief(net, x)
    t = (y[:, :6] - mean) / np.hypot(width, y[:, 6:])
    assert 0.60 < np.mean(abs(t) < 1) < 0.80 and 0.91 < np.mean(abs(t) < 2) < 0.985
    assert ((np.mean(abs(t) < 2, 0) > 0.88) & (np.mean(abs(t) < 1, 0) < 0.86)).all()  # each of the six
    assert (np.median(abs(y[:, :6] - mean), 0) < [0.004, 0.04, 0.06, 0.06, 0.06, 0.06]).all()
    shuffled = mean[np.random.default_rng(0).permutation(len(mean))]
    assert np.mean(abs(y[:, :6] - shuffled) / np.hypot(width, y[:, 6:]) < 2) < 0.3  # the same test, failing


def test_exact_answers_lie_in_the_error(trained):
    net, _ = trained
    small = coupling_design(40, seed=11, sizes=(4,))
    mean, width = belief(net, small)
    t = (np.array([exact_tame(row) for row in small]) - mean) / width
    assert np.mean(abs(t) < 2) > 0.9 and 0.55 < np.mean(abs(t) < 1) < 0.9
    cold = small[:, 0] * (small[:, 1] + 1.4 * small[:, 2] + 0.5 * small[:, 3]) > 0.55
    assert np.mean(abs(t[cold]) < 2) > 0.8 and np.mean(t[cold] ** 2) < 4
    for L in (8, 14, 32):
        betas = np.linspace(0.2, 0.6, 21)
        value, error = net.predict(couplings(betas, L))
        known = np.array([(q.energy, q.specific_heat) for q in (kaufman(L, b) for b in betas)])
        t = (value[:, [0, 3]] - known) / error[:, [0, 3]]
        assert 0.3 < np.sqrt(np.mean(t**2)) < 1.6 and abs(value[:, 0] - known[:, 0]).max() < 0.03


def test_an_interrupted_training_gives_the_same_bits(tmp_path):
    table = run_couplings(coupling_design(40, 0, (4, 6)), draws=60, seed=0, progress=False)
    whole, parts = CouplingNet((8,)), CouplingNet((8,))
    options = dict(seed=0, epochs=60, batch_size=10, progress=False)
    train_couplings(whole, table, **options)
    calls = {"n": 0}

    def interrupt(*_):
        calls["n"] += 1
        if calls["n"] > 100:
            raise KeyboardInterrupt

    handle = parts.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_couplings(parts, table, **options, checkpoint=tmp_path / "state")
    handle.remove()
    with pytest.raises(ValueError, match="has not been trained"):
        parts.predict(couplings(0.3, 4))
    train_couplings(parts, table, **options, checkpoint=tmp_path / "state")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))
    save_network(tmp_path / "net", parts)
    again = load_network(tmp_path / "net", CouplingNet)
    x = table[[*COUPLINGS]]
    assert all(np.array_equal(a, b) for a, b in zip(again.predict(x), whole.predict(x)))


def test_observables_agree_with_the_tools_of_chapter_one():
    from uqphys.analysis import correlation_length, estimates

    run = sample(Ising((6, 6), K=0.2, h=-0.1), 0.35, draws=500, seed=0, progress=False)
    tame, plain = tame_estimates(run), estimates(run) | {"xi": correlation_length(run, connected=False)}
    x = couplings(0.35, 6, K=0.2, h=-0.1)
    z = without_units([[tame[n].value for n in OUTPUTS]], x)
    value = from_tame(z, z, x).value[0]
    assert np.isnan(from_tame(z * [1, 1, 1, 1, 1, -1], z, x).value[0, 5])
    assert all(math.isclose(value[k], plain[n].value, rel_tol=2e-3 if n == "xi" else 1e-10) for k, n in enumerate(OUTPUTS))


def run_of(**options):
    return sample(Ising((4, 4)), 0.3, draws=12, burn_in=10, seed=0, progress=False, **options)


BAD = [
    (lambda net, t: couplings(torch.tensor([0.3 + 1j]), 8), "beta"),
    (lambda net, t: couplings("0.3", 8), "beta of type"),
    (lambda net, t: couplings(True, 8), "beta=True"),
    (lambda net, t: couplings(0.3, 8, K=[[0.1], [0.1, 0.2]]), "K="),
    (lambda net, t: tame_estimates(None), "ensemble=NoneType"),
    (lambda net, t: tame_estimates(run_of(keep="observables")), "ensemble=Dataset"),
    (lambda net, t: tame_estimates(sample(Ising((4, 6)), 0.3, draws=12, burn_in=10, seed=0, progress=False)), "(4, 6)"),
    (lambda net, t: from_tame(np.ones(6), np.ones((1, 6)), couplings(0.3, 8)), "z of shape (6,)"),
    (lambda net, t: from_tame(np.ones((1, 6)), np.ones((3, 6)), couplings(0.3, 8)), "errors of shape (3, 6)"),
    (lambda net, t: from_tame(np.ones((1, 6)), None, couplings(0.3, 8)), "errors of type object"),
    (lambda net, t: without_units(np.ones((2, 6)), couplings(0.3, 8)), "numbers of shape (2, 6)"),
    (lambda net, t: coupling_design(4, 0, ()), "sizes=()"),
    (lambda net, t: run_couplings(couplings(0.3, 8, J2=-0.8), seed=0), "J2=-0.8"),
    (lambda net, t: run_couplings(couplings(0.3, 8, K=-3), seed=0), "K=-3"),
    (lambda net, t: run_couplings(couplings(0.3, 8), draws=[20, 30], seed=0), "draws of length 2"),
    (lambda net, t: train_couplings(net, t.assign(energy="x"), seed=0), "table"),
    (lambda net, t: train_couplings(net, t, seed=0, device="moon"), "device='moon'"),
    (lambda net, t: couplings(0.0, 8), "beta=0"),
    (lambda net, t: couplings(math.nan, 8), "beta=nan"),
    (lambda net, t: couplings(0.3, 8, J=-1), "J=-1"),
    (lambda net, t: couplings(0.3, 8, K=math.inf), "K=inf"),
    (lambda net, t: couplings(0.3, 1), "L=1"),
    (lambda net, t: couplings(0.3, 8.5), "L=8.5"),
    (lambda net, t: couplings("hot", 8), "'hot'"),
    (lambda net, t: couplings([0.3, 0.4], [4, 6, 8]), "couplings"),
    (lambda net, t: check_couplings(np.ones(6)), "x of shape"),
    (lambda net, t: check_couplings(None), "x"),
    (lambda net, t: check_couplings(t.drop(columns="K")), "'K'"),
    (lambda net, t: net.predict(couplings(0.3, 64)), "L=64"),
    (lambda net, t: net.predict(couplings(0.3, 8, J2=0.9)), "J2/J=0.9"),
    (lambda net, t: net.predict(couplings(0.3, 8, h=3.0)), "beta h"),
    (lambda net, t: CouplingNet().predict(couplings(0.3, 8)), "has not been trained"),
    (lambda net, t: CouplingNet(hidden=8), "hidden=8"),
    (lambda net, t: CouplingNet(seed=-1), "seed=-1"),
    (lambda net, t: coupling_design(0, 0), "n=0"),
    (lambda net, t: coupling_design(4, 0, (4.5,)), "sizes=4.5"),
    (lambda net, t: run_couplings(couplings(0.3, 4), draws=3, seed=0), "draws=3"),
    (lambda net, t: run_couplings(couplings(0.3, 4), seed=None), "seed=None"),
    (lambda net, t: train_couplings(net, t.head(10), seed=0), "table of 10 rows"),
    (lambda net, t: train_couplings(net, t.to_numpy(), seed=0), "table"),
    (lambda net, t: train_couplings(net, t.assign(xi_error=0.0), seed=0), "xi_error=0"),
    (lambda net, t: train_couplings(net, t.assign(energy=math.nan), seed=0), "energy=nan"),
    (lambda net, t: train_couplings(torch.nn.Linear(6, 12), t, seed=0), "network of type Linear"),
    (lambda net, t: train_couplings(net, t, seed=0, batch_size=0), "batch_size=0"),
    (lambda net, t: train_couplings(net, t, seed=0, epochs=0), "epochs=0"),
]


@pytest.mark.parametrize("call, names", BAD)
def test_bad_calls(trained, call, names):
    net, judge = trained
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        call(net, judge)
    message = str(caught.value)
    assert names in message and len(message) < 400 and "\n" not in message
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # nothing lost
