"Mixtures against quadrature, the network against laws that are known, extreme numbers, files, refusals."
import math

import numpy as np
import pytest
import torch
from common import assert_complete, assert_refused, assert_threads_do_not_matter
from scipy import integrate, stats

from uqphys import mdn as module
from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.calibration import recalibrate
from uqphys.mdn import MemberLaws, Mixture, MixtureDensityNet, bootstrap_weights
from uqphys.models import random_spins
from uqphys.training import as_samples, load_state, save_state


def random_mixture(rng, K, d, batch=()):
    factors = np.tril(rng.normal(0, 0.4, (*batch, K, d, d)))
    factors[..., range(d), range(d)] = rng.uniform(0.2, 0.9, (*batch, K, d))
    return Mixture(rng.normal(size=(*batch, K)), rng.normal(0, 1.5, (*batch, K, d)), factors)


# ---- closed forms against quadrature, to 1e-8

@pytest.mark.parametrize("seed", range(8))
def test_one_output_against_quadrature(seed):
    rng = np.random.default_rng(seed)
    law, p = random_mixture(rng, 1 + seed % 4, 1), lambda t: math.exp(law.log_prob([t]))
    spots = np.sort(law.means[:, 0])
    integral = lambda f, a=-25.0, b=25.0: integrate.quad(f, a, b, points=spots[(a < spots) & (spots < b)], epsabs=1e-13, epsrel=1e-12, limit=400)[0]
    assert abs(integral(p) - 1) < 1e-10
    for n, moment in enumerate(law.moments(6)[:, 0], 1):
        assert abs(integral(lambda t: t**n * p(t)) - moment) < 1e-8 * max(1, abs(moment))
    assert abs(law.covariance()[0, 0] - integral(lambda t: (t - law.mean()[0]) ** 2 * p(t))) < 1e-8
    for t in rng.normal(0, 2, 3):
        assert abs(integral(p, b=t) - law.cdf([t])[0]) < 1e-8
        score = integral(lambda s: law.cdf([s])[0] ** 2, b=t) + integral(lambda s: (1 - law.cdf([s])[0]) ** 2, a=t)
        assert abs(score - law.crps([t])[0]) < 1e-8
    for chance in (1e-10, 0.3, 0.99):
        assert abs(law.cdf(law.quantile(chance))[0] / chance - 1) < 1e-8
    for beta in rng.normal(0, 2, 3):
        log_z, tilted = law.tilt(beta)
        weighted = lambda t: math.exp(law.log_prob([t]) - beta * t - log_z)
        assert abs(integral(weighted) - 1) < 1e-8 and abs(integral(lambda t: t * weighted(t)) - tilted.mean()[0]) < 1e-8
        assert abs(integral(weighted, b=0.3) - tilted.cdf([0.3])[0]) < 1e-8


@pytest.mark.parametrize("seed", range(4))
def test_several_outputs_against_quadrature(seed):
    rng = np.random.default_rng([seed, 2])
    law = random_mixture(rng, 3, 2)
    p = lambda a, b: math.exp(law.log_prob([a, b]))
    value = rng.normal()
    norm = integrate.quad(lambda t: p(t, value), -20, 20, points=np.sort(law.means[:, 0]), epsabs=1e-13, limit=400)[0]
    assert abs(norm - math.exp(law.marginal(1).log_prob([value]))) < 1e-8
    side = law.given(1, [value])
    for t in rng.normal(size=3):
        assert abs(p(t, value) / norm - math.exp(side.log_prob([t]))) < 1e-8
    grid = np.linspace(-14, 14, 1401)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    density = sum(w * stats.multivariate_normal(m, L @ L.T).pdf(points) for w, m, L in zip(np.exp(law.log_weights), law.means, law.factors)) * 4e-4
    b = rng.normal(0, 0.5, 2)
    log_z, tilted = law.tilt(b)
    weight = density * np.exp(-points @ b)
    assert abs(np.log(weight.sum()) - log_z) < 1e-8
    np.testing.assert_allclose(weight @ points / weight.sum(), tilted.mean(), atol=1e-8)
    np.testing.assert_allclose((density[:, None] * points).T @ points - np.outer(law.mean(), law.mean()), law.covariance(), atol=1e-8)


def test_pool_marginal_given_of_batches():
    law = random_mixture(np.random.default_rng(3), 3, 3, (4, 2))
    y = np.random.default_rng(4).normal(size=(4, 2, 3))
    pooled = law.pool(np.log([0.1, 0.2, 0.3, 0.4]))
    expected = np.log(np.einsum("m,mb->b", [0.1, 0.2, 0.3, 0.4], np.exp(law.log_prob(y[:1]))))
    np.testing.assert_allclose(pooled.log_prob(y[0]), expected, rtol=1e-12)
    order = law.marginal([2, 0])
    np.testing.assert_allclose(order.covariance(), law.covariance()[..., [[2], [0]], [2, 0]], rtol=1e-12)
    joint = law.log_prob(y) - law.marginal([0, 2]).log_prob(y[..., [0, 2]])
    np.testing.assert_allclose(law.given([0, 2], y[..., [0, 2]]).log_prob(y[..., [1]]), joint, rtol=1e-9)
    np.testing.assert_array_equal(law[1].means, law.means[1])


def test_samples_are_of_the_law():
    law = random_mixture(np.random.default_rng(5), 3, 2, (2,))
    draws = law.sample(40_000, seed=1)
    assert np.array_equal(draws, law.sample(40_000, seed=1)) and draws.shape == (40_000, 2, 2)
    for n in range(2):
        error = np.sqrt(np.diag(law.covariance()[n]) / 40_000)
        assert (abs(draws[:, n].mean(0) - law.mean()[n]) < 5 * error).all()
        for j in range(2):
            one = law[n].marginal(j)
            assert stats.kstest(draws[:2000, n, j], lambda t: np.array([one.cdf([v])[0] for v in t])).pvalue > 1e-4


# ---- numbers at the edge

def test_ten_thousand_extreme_inputs_are_finite_or_refused():
    "Every answer of a mixture with numbers from 1e-150 to 1e150, and its log density there, is finite, or one named error."
    rng, finite, refused = np.random.default_rng(6), 0, 0
    for _ in range(10_000):
        size = lambda shape, powers=((-150, 0, 0, 150) if rng.random() < 0.3 else (-70, -20, 0, 0, 20, 70)): rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.choice(powers, shape)
        K, d = rng.integers(1, 4), rng.integers(1, 3)
        factors = np.tril(size((K, d, d)))
        factors[:, range(d), range(d)] = abs(factors[:, range(d), range(d)])
        try:
            law, y = Mixture(size(K), size((K, d)), factors), size(d)
            with np.errstate(all="raise", under="ignore"):
                answers = (law.log_prob(y), law.cdf(y), law.quantile(0.3), law.crps(y), law.mean(), law.covariance())
            assert all(np.isfinite(answer).all() for answer in answers)
            finite += 1
        except ValueError as error:
            assert "must be" in str(error)
            refused += 1
    assert finite > 2000 and refused > 500


def test_a_component_of_weight_zero_is_not_there():
    far = Mixture([0.0, -np.inf], [[0.0], [1e70]], [[[1.0]], [[1.0]]])
    assert abs(far.quantile(0.3)[0] - stats.norm.ppf(0.3)) < 1e-12 and abs(far.mean()[0]) < 1e-12


@pytest.mark.parametrize("x", [np.linspace(-1, 1, 60)[:, None], random_spins((4, 4), 60, seed=1)], ids=["numbers", "spins"])
def test_the_choice_does_not_care_where_zero_is(x):
    "Held-out scores without a trend: adding a constant to the targets changes nothing."
    y = x.reshape(60, -1)[:, :1] * 0.3 + 0.1 * np.random.default_rng(2).normal(size=(60, 1))
    network = MLP((1,), hidden=(4,)) if x.ndim == 2 else LocalEnergyNet(2, hidden=(3,))
    fit = lambda shift: MixtureDensityNet(network, members=2, steps=40, trend=False, seed=1).fit(x, y + shift, progress=False)
    here, there = fit(0.0), fit(100.0)
    assert here.members.components == there.members.components
    np.testing.assert_allclose(list(here.diagnostics["scores"].values()), list(there.diagnostics["scores"].values()), atol=1e-6)


def test_a_network_at_extreme_inputs():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(60, 2))
    net = MixtureDensityNet(components=2, members=3, steps=60, trend=False, seed=1).fit(x, x[:, :1] + 0.1 * rng.normal(size=(60, 1)), progress=False)
    new = rng.choice([-1.0, 1.0], (10_000, 2)) * 10.0 ** rng.choice([-150, 0, 150], (10_000, 2))
    assert np.isfinite(net.predict(new).log_prob(rng.normal(size=(10_000, 1)))).all()


HARD = {
    "huge": (np.linspace(-1, 1, 20)[:, None], 1e150 * np.linspace(1, 2, 20)[:, None]), "tiny": (np.linspace(-1, 1, 20)[:, None], 1e-150 * np.linspace(1, 2, 20)[:, None]),
    "huge inputs": (1e150 * np.linspace(-1, 1, 20)[:, None], np.linspace(1, 2, 20)[:, None] ** 2), "tiny inputs": (1e-150 * np.linspace(-1, 1, 20)[:, None], np.linspace(1, 2, 20)[:, None] ** 2),
    "large": (np.linspace(-1, 1, 20)[:, None], 1e30 * np.linspace(1, 2, 20)[:, None] ** 2), "small": (np.linspace(-1, 1, 20)[:, None], 1e-30 * np.linspace(1, 2, 20)[:, None] ** 2),
    "one point again and again": (np.ones((20, 1)), np.ones((20, 1))), "one input, many targets": (np.ones((20, 1)), np.arange(20.0)[:, None]),
    "one point": (np.ones((1, 1)), np.ones((1, 1))), "two targets": (np.linspace(-1, 1, 20)[:, None], np.repeat([[0.0], [1.0]], 10, 0)),
    "constant": (np.linspace(-1, 1, 20)[:, None], np.full((20, 1), 3.0)), "a line": (np.linspace(-1, 1, 20)[:, None], np.linspace(1, 2, 20)[:, None]),
    "an outlier": (np.linspace(-1, 1, 20)[:, None], np.r_[np.zeros(19), 1e9][:, None]), "a constant second": (np.linspace(-1, 1, 20)[:, None], np.c_[np.arange(20.0), np.ones(20)]),
    "twice the same": (np.linspace(-1, 1, 20)[:, None], np.c_[np.arange(20.0) ** 2, np.arange(20.0) ** 2]),
}
REFUSED = {"huge", "tiny", "one point again and again", "one point", "constant", "a constant second"}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("components", [1, 3])
def test_hard_data_are_learned_or_refused(name, components):
    x, y = HARD[name]
    learner = MixtureDensityNet(components=components, members=3, steps=100, seed=1)
    if name in REFUSED:
        with pytest.raises(ValueError, match=r"^(y|x)\b.*(expected|needed)"):
            learner.fit(x, y, progress=False)
    else:
        belief = learner.fit(x, y, progress=False).predict(x)
        assert np.isfinite(belief.log_prob(y)).all() and np.isfinite(belief.variance).all() and (belief.variance > 0).all()


# ---- learning

def bimodal(n, seed, d=1):
    "Two branches, with a probability and a width that depend on x."
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1))
    up = rng.random((n, 1)) < 1 / (1 + np.exp(-2 * x))
    y = np.where(up, 1 + x, -1 + 0.5 * x) + (0.15 + 0.1 * x**2) * rng.normal(size=(n, 1))
    return x, np.concatenate([y] + [y**2] * (d - 1), 1)


def test_the_number_of_components_is_found_by_cross_validation():
    x, y = bimodal(600, 1)
    net = MixtureDensityNet(members=3, steps=300, seed=1).fit(x, y, progress=False)
    scores = net.diagnostics["scores"]
    best = max(scores.values())
    assert net.members.components in (2, 3) and scores[net.members.components] > best - 0.05 and scores[2] > best - 0.05  # widths that curve may ask for a third
    assert scores[2] > scores[1] + 0.3
    line = MixtureDensityNet(members=3, steps=300, seed=1).fit(x, x + 0.1 * np.random.default_rng(2).normal(size=x.shape), progress=False)
    assert line.members.components == 1


def test_the_network_prefers_two_humps_and_says_where():
    x, y = bimodal(1000, 3)
    new, truth = bimodal(1000, 4)
    one, two = (MixtureDensityNet(components=K, members=4, steps=400, seed=1).fit(x, y, progress=False).predict(new).score(truth) for K in (1, 2))
    assert two["negative_log_density"] < one["negative_log_density"] - 0.3 and two["crps"] < 0.9 * one["crps"]
    assert abs(two["coverage_90"] - 0.9) < 4 * np.sqrt(0.09 / 1000) + 0.02


def test_epistemic_shrinks_and_aleatoric_stays():
    "Four times the data: half the scatter of the members; the noise is what it is. Far from the data the members disagree."
    told = []
    for n in (400, 1600):
        x, y = bimodal(n, 5)
        p = MixtureDensityNet(components=2, members=24, steps=400, seed=1).fit(x, y, progress=False).predict(np.linspace(-0.9, 0.9, 20)[:, None])
        told.append((np.sqrt(p.epistemic.mean()), np.sqrt(p.aleatoric.mean())))
    (few, noise_few), (many, noise_many) = told
    assert 1.6 < few / many < 2.4 and abs(noise_few / noise_many - 1) < 0.1
    far = MixtureDensityNet(components=2, members=12, steps=400, seed=1).fit(*bimodal(100, 5), progress=False).predict(np.array([[0.0], [4.0]]))
    assert far.epistemic[1, 0] > 10 * far.epistemic[0, 0]


def test_the_scatter_of_members_is_the_error_of_the_mean():
    "A mean of 40 numbers: the Bayesian bootstrap has the standard error s/sqrt(n+1); 40 data sets, 95 % intervals of Student's t."
    inside, ratio = [], []
    for seed in range(40):
        y = np.random.default_rng([seed, 1]).normal(size=(40, 1))
        p = MixtureDensityNet(MLP((1,), hidden=()), components=1, members=16, steps=400, prior_scale=0.1, seed=seed).fit(np.zeros((40, 1)), y, progress=False).predict(np.zeros((1, 1)))
        error = np.sqrt(p.draws[:, 0, 0].var(ddof=1) * (1 + 1 / 16))
        inside.append(abs(p.mean[0, 0]) < stats.t(15).ppf(0.975) * error)
        ratio.append(error / (y.std() / np.sqrt(40)))
    assert 0.85 <= np.mean(inside) <= 1.0 and abs(np.mean(ratio) - 1) < 0.12


def test_chains_are_weighted_as_wholes():
    w = bootstrap_weights(np.repeat(["a", "b", "c"], 5), 200, seed=1)
    assert (w.reshape(200, 3, 5) == w.reshape(200, 3, 5)[:, :, :1]).all() and np.allclose(w.sum(1), 15)
    x, y = bimodal(60, 6)
    x, y = np.repeat(x[:12], 5, 0), np.repeat(y[:12], 5, 0)  # five copies of twelve examples: worth no more than twelve
    fit = lambda **told: MixtureDensityNet(components=1, members=16, steps=400, seed=1).fit(x, y, progress=False, **told).predict(x).epistemic.mean()
    assert fit(groups=np.repeat(np.arange(12), 5)) > 1.8 * fit()


def test_same_seed_same_bits_and_nothing_global():
    x, y = bimodal(80, 7, d=2)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()
    draw = lambda seed: MixtureDensityNet(components=2, members=3, steps=40, seed=seed).fit(x, y, progress=False).predict(x[:5]).draws
    assert np.array_equal(draw(1), draw(1)) and not np.array_equal(draw(1), draw(2))
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == np.random.get_state()[1].tobytes()


def test_threads_do_not_matter():
    assert_threads_do_not_matter("""
import hashlib, numpy as np
from uqphys.mdn import MixtureDensityNet
x = np.linspace(-1, 1, 300)[:, None]
net = MixtureDensityNet(components=2, members=4, steps=30, seed=1).fit(x, np.sin(3 * x) + 0.1 * np.cos(99 * x), progress=False)
print(hashlib.sha256(net.predict(x).draws.tobytes()).hexdigest())
""")


def test_equal_inputs_are_computed_once_and_change_nothing():
    rng = np.random.default_rng(8)
    x, y = rng.integers(-2, 3, (100, 1)).astype(float), rng.normal(size=(100, 1))
    few = MixtureDensityNet(components=2, members=3, steps=30, seed=1).fit(x, y, progress=False)
    moved = MixtureDensityNet(components=2, members=3, steps=30, seed=1).fit(x + 1e-13 * np.arange(100)[:, None], y, progress=False)
    np.testing.assert_allclose(few.predict(x).draws, moved.predict(x).draws, atol=1e-8)


def test_spins_go_through_local_energies():
    x = random_spins((4, 4), 120, seed=1)
    y = x.reshape(120, -1).sum(1, keepdims=True) ** 2 / 16.0
    net = MixtureDensityNet(LocalEnergyNet(2, hidden=(4,)), components=2, members=3, steps=60, seed=1).fit(x, y, progress=False)
    assert net.predict(x).draws.shape == (3, 120, 1)
    with pytest.raises(ValueError, match=r"x of shape \(2, 6, 6\): expected"):
        net.predict(random_spins((6, 6), 2, seed=1))
    assert np.allclose(net.predict(x[:3]).mean, net.predict(np.roll(x[:3], 1, 2)).mean)


def test_constant_weights_keep_a_mean_extensive(tmp_path):
    "Spins turned over far from each other: their changes of the mean add up, for weights that do not look at the input, and not for others."
    x = random_spins((6, 6), 60, seed=2)
    y = -(x * np.roll(x, 1, 1)).sum((1, 2), dtype=float)[:, None]
    both, near, far = (x[:20].copy() for _ in range(3))
    near[:, 0, 0] *= -1; far[:, 3, 3] *= -1; both[:, [0, 3], [0, 3]] *= -1
    beyond = {}
    for mixing in ("input", "constant"):
        net = MixtureDensityNet(LocalEnergyNet(2, hidden=(4,)), components=2, members=3, steps=80, mixing=mixing, seed=1).fit(x, y, progress=False)
        mean = lambda s: net.predict(s).mean[:, 0]
        beyond[mixing] = abs(mean(both) - mean(near) - mean(far) + mean(x[:20])).max()
    assert beyond["constant"] < 1e-10 < 1e-4 < beyond["input"]
    weights = np.exp(net.distribution(x).log_weights)
    assert np.ptp(weights, axis=1).max() == 0 and np.ptp(weights[:, 0], axis=0).max() > 0  # of a member, not of an input
    net.save(tmp_path / "net")
    assert np.array_equal(MixtureDensityNet.load(tmp_path / "net").predict(x).draws, net.predict(x).draws)


def test_constant_weights_are_learned():
    "Three of ten targets come from the upper branch, whatever x is."
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (600, 1))
    y = x + np.where(rng.random((600, 1)) < 0.3, 1.0, -1.0) + 0.1 * rng.normal(size=x.shape)
    law = MixtureDensityNet(components=2, members=4, steps=400, mixing="constant", seed=1).fit(x, y, progress=False).predict(np.array([[-0.8], [0.0], [0.8]])).law.pooled
    share = 1 - law.cdf(np.array([[-0.8], [0.0], [0.8]]))[:, 0]
    assert np.abs(share - 0.3).max() < 4 * np.sqrt(0.3 * 0.7 / 600)


def test_a_component_that_nobody_needs_is_reported():
    x = np.linspace(-1, 1, 200)[:, None]
    net = MixtureDensityNet(components=6, members=3, steps=300, floor=0.3, seed=1).fit(x, x + 0.01 * np.random.default_rng(9).normal(size=x.shape), progress=False)
    assert np.isfinite(net.diagnostics["log_density"])
    far = MixtureDensityNet(components=2, members=3, steps=100, trend=False, seed=1).fit(x, x**3, progress=False)
    far.members.centre = torch.tensor([[0.0], [1e6]], dtype=torch.float64)  # nobody is there
    data, weights = as_samples(x, x**3), np.ones((3, 200))
    assert module._told(far.members, data, weights)["dead_components"] == 1.0 and net.diagnostics["dead_components"] < 6


# ---- the contract

def fitted(d=1, **more):
    return MixtureDensityNet(components=2, members=4, steps=120, seed=1, **more).fit(*bimodal(150, 10, d), progress=False)


def test_the_belief_is_one_law():
    net, (x, y) = fitted(2), bimodal(40, 11, 2)
    p = net.predict(x)
    many = p.sample(20_000, seed=1)
    np.testing.assert_allclose(many.mean(0), p.mean, atol=0.05)
    np.testing.assert_allclose(many.var(0), p.variance, rtol=0.15, atol=0.02)
    low, high = p.interval(0.8)
    np.testing.assert_allclose(p.cdf(high) - p.cdf(low), 0.8, atol=1e-9)
    part = p.take([3, 5])
    assert np.array_equal(part.cdf(y[[3, 5]]), p.cdf(y)[[3, 5]]) and np.array_equal(part.log_prob(y[[3, 5]]), p.log_prob(y)[[3, 5]])
    assert set(p.score(y)) >= {"crps", "negative_log_density"} and p.average_score(y, 5)["batches"] == 8 and "mixtures of 2 normals" in repr(p)
    laws = net.distribution(x)
    np.testing.assert_allclose(p.log_prob(y), np.log(np.exp(laws.log_prob(y)).mean(0)), rtol=1e-10)


def test_it_can_be_recalibrated():
    net = MixtureDensityNet(components=2, members=4, steps=300, seed=1).fit(*bimodal(200, 12), progress=False)
    x, y = bimodal(400, 13)
    p = net.predict(x)
    narrow = p.law.stretch(1.0, 0.5)
    np.testing.assert_allclose(np.diagonal(narrow.mixtures.covariance(), 0, -2, -1), 0.25 * np.diagonal(p.law.mixtures.covariance(), 0, -2, -1), rtol=1e-9)
    again = recalibrate(p, y)
    assert abs(again.epistemic - 1) < 0.4 and np.isfinite(again.apply(p).log_prob(y)).all()


def test_a_refused_or_interrupted_fit_leaves_it_as_it_was(monkeypatch):
    net, x = fitted(), np.zeros((1, 1))
    before = net.predict(x).draws
    for bad in (lambda: net.fit(np.ones((20, 1)), np.ones((20, 1)), progress=False), lambda: net.fit(np.ones((20, 2)), np.full((20, 1), np.nan))):
        with pytest.raises(ValueError):
            bad()
    monkeypatch.setattr(module, "_learn", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        net.fit(*bimodal(50, 1), progress=False)
    assert np.array_equal(net.predict(x).draws, before)


def test_saved_loaded_and_damaged(tmp_path):
    net, x = fitted(2), bimodal(5, 1)[0]
    net.save(tmp_path / "net")
    again = MixtureDensityNet.load(tmp_path / "net")
    assert np.array_equal(again.predict(x).law.pooled.means, net.predict(x).law.pooled.means) and repr(again) == repr(net) and again.diagnostics == net.diagnostics
    state = load_state(tmp_path / "net", "MixtureDensityNet")
    damages = [{k: v for k, v in state.items() if k != key} for key in state if key != "kind"]
    damages += [state | {"options": state["options"] | {"unknown": 1}}, state | {"members": state["members"] | {"theta": torch.zeros(2, 3, dtype=torch.float64)}},
                state | {"members": state["members"] | {"centre": torch.zeros(5, 2, dtype=torch.float64)}}]
    for damaged in damages:
        save_state(tmp_path / "hurt", damaged)
        with pytest.raises(ValueError, match="hurt.*damaged.*MixtureDensityNet.save"):
            MixtureDensityNet.load(tmp_path / "hurt")
    (tmp_path / "cut").write_bytes((tmp_path / "net").read_bytes()[:200])
    for name in ("cut", "none"):
        with pytest.raises(ValueError, match=name):
            MixtureDensityNet.load(tmp_path / name)


X, Y = bimodal(30, 14)
ONE = Mixture([0.0, 0.0], [[0.0], [1.0]], [[[1.0]], [[1.0]]])
TWO = Mixture([0.0], [[0.0, 1.0]], [np.eye(2)])
NET, MIX, LAWS = "mdn.MixtureDensityNet", "mdn.Mixture", "mdn.MemberLaws"
BAD = [
    (NET, lambda t: MixtureDensityNet("net"), "network", "net", "Regressor"), (NET, lambda t: MixtureDensityNet(torch.nn.Linear(1, 1)), "network", "Linear", "Regressor"),
    *[(NET, lambda t, v=v: MixtureDensityNet(components=v), "components", str(v), "whole number") for v in (0, "some", 1.5, True)],
    *[(NET, lambda t, n=n, v=v: MixtureDensityNet(**{n: v}), n, str(v), "expected|must be") for n, v in
      (("members", 1), ("steps", 0), ("batch", 3), ("floor", 0), ("floor", 1), ("prior_scale", -1), ("learning_rate", 0), ("trend", 2), ("mixing", "equal"), ("mixing", None), ("seed", -1), ("floor", None))],
    (NET, lambda t: MixtureDensityNet().fit(X, Y[:5]), "y", "5", "30"), (NET, lambda t: MixtureDensityNet().fit(X, Y, progress=3), "progress", "3", "True"),
    (NET, lambda t: MixtureDensityNet().fit(X, np.ones((30, 1))), "y", "1", "expected targets that vary"),
    (NET, lambda t: MixtureDensityNet().fit(X, Y, groups=np.repeat([0, 1, 2], 10)), "groups", "3", "at least 8"), (NET, lambda t: MixtureDensityNet().fit(X, np.zeros((30, 0))), "y", r"30, 0", "at least one|expected|must"),
    (NET, lambda t: MixtureDensityNet().predict(X), "fit", "surrogate", "call fit"), (NET, lambda t: MixtureDensityNet().distribution(X), "fit", "surrogate", "call fit"),
    (NET, lambda t: MixtureDensityNet().save("here"), "fit", "surrogate", "call fit"), (NET, lambda t: MixtureDensityNet.load("nowhere"), "path", "nowhere", "file"),
    (NET, lambda t: t.predict(np.zeros((2, 3))), "x", r"2, 3", "expected"), (NET, lambda t: t.predict(np.zeros((0, 1))), "x", r"0, 1", "at least one"),
    (NET, lambda t: t.predict(np.full((1, 1), np.nan)), "x", "finite", "finite number"),
    (MIX, lambda t: Mixture([0.0], [1.0], [[[1.0]]]), "means", r"\(1,\)", "must be"), (MIX, lambda t: Mixture([0.0], [[np.inf]], [[[1.0]]]), "means", "inf", "finite"),
    (MIX, lambda t: Mixture([0.0], [[1.0]], [[[0.0]]]), "factors", "factors", "positive"), (MIX, lambda t: Mixture([0.0], [[1.0, 1.0]], [[[1.0, 2.0], [0.0, 1.0]]]), "factors", "factors", "lower"),
    (MIX, lambda t: Mixture([0.0, 1.0], [[1.0]], [[[1.0]]]), "log_weights", r"0\.0, 1\.0", r"shape \(1,\)"), (MIX, lambda t: Mixture([-np.inf], [[1.0]], [[[1.0]]]), "log_weights", "-inf", "finite"),
    (MIX, lambda t: ONE.log_prob([1.0, 2.0]), "y", r"\(2,\)", "must be"), (MIX, lambda t: ONE.cdf(["a"]), "y", "a", "must be"), (MIX, lambda t: ONE.quantile(0), "p", "0", "between"),
    (MIX, lambda t: ONE.moments(0), "order", "0", "must be"), (MIX, lambda t: ONE.sample(0, 1), "k", "0", "must be"), (MIX, lambda t: ONE.sample(1, -1), "seed", "-1", "must be"),
    (MIX, lambda t: ONE.tilt([1.0, 1.0]), "beta", r"1\.0", "must be"), (MIX, lambda t: ONE.tilt(1e200), "beta", "1e", "must be"), (MIX, lambda t: TWO.marginal([0, 0]), "outputs", r"\[0, 0\]", "different"),
    (MIX, lambda t: TWO.marginal(2), "outputs", "2", "from 0 to 1"), (MIX, lambda t: TWO.given([0, 1], [1.0, 1.0]), "outputs", "0, 1", "leave"), (MIX, lambda t: TWO.given(0, [1.0, 2.0, 3.0]), "values", "3", "must be"), (MIX, lambda t: TWO.given(0, [1e200]), "values", "1e.200", "within"),
    (MIX, lambda t: Mixture(np.ma.array([0.0, 5.0], mask=[0, 1]), [[0.0], [1.0]], [[[1.0]], [[1.0]]]), "log_weights", "mask", "must be"), (MIX, lambda t: Mixture([[0.0], [0.0, 1.0]], [[0.0], [1.0]], [[[1.0]], [[1.0]]]), "log_weights", "0.0", "must be"),
    (MIX, lambda t: Mixture([0.0], [[1e100]], [[[1.0]]]), "means", "1e.100", "at most"), (MIX, lambda t: Mixture([0.0], [[1.0]], [[[1e-100]]]), "factors", "1e-100", "at least"),
    (MIX, lambda t: TWO.marginal([[0], [0, 1]]), "outputs", r"\[0, 1\]", "must be"), (MIX, lambda t: ONE[7], "rows", "7", "must be"), (MIX, lambda t: Mixture([np.nan], [[0.0]], [[[1.0]]]), "log_weights", "nan", "must be"),
    *[(LAWS, lambda t, v=v: t.predict(X).law.stretch(*v), n, s, "must be") for v, n, s in (((-1, 1), "epistemic", "-1"), ((1, 0), "aleatoric", "0"), (("a", 1), "epistemic", "a"))],
    (MIX, lambda t: ONE.pool(), "mixture", r"\(\)", "must have"),
    (LAWS, lambda t: MemberLaws(ONE), "mixtures", "Mixture", "must be"), (LAWS, lambda t: MemberLaws(3), "mixtures", "3", "must be"),
    ("mdn.bootstrap_weights", lambda t: bootstrap_weights([], 3, 1), "groups", r"\[\]", "must be"), ("mdn.bootstrap_weights", lambda t: bootstrap_weights([1], 0, 1), "members", "0", "must be"),
    ("mdn.bootstrap_weights", lambda t: bootstrap_weights([1.0, np.nan], 3, 1), "groups", "float64", "expected"), ("mdn.bootstrap_weights", lambda t: bootstrap_weights(3, 3, 1), "groups", "3", "must be"),
    ("mdn.bootstrap_weights", lambda t: bootstrap_weights([1, 2], 3, -1), "seed", "-1", "must be"),
]


@pytest.fixture(scope="module")
def net():
    return fitted()


@pytest.mark.parametrize("k", range(len(BAD)), ids=lambda k: f"{k}-{BAD[k][2]}")
def test_bad_calls_are_refused(k, net):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, net, argument, value, accepted)


def test_every_public_callable_is_walked():
    assert_complete([module], BAD, {})
