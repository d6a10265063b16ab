"""The posterior of all weights: densities against their definition, for every kind of network; the contract of surrogates."""
import json
import warnings

import numpy as np
import pytest
import torch

from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.convolutions import LatticeCNN
from uqphys.models import random_spins
from uqphys.posteriors import NOISES, BayesianNetwork, Chains, NetworkPosterior, NetworkPrior
from uqphys.training import as_samples

rng = np.random.default_rng(0)
SPINS = random_spins((4, 4), 20, seed=1)
FIELDS = rng.normal(size=(20, 4, 4))
VECTORS = rng.normal(size=(20, 3)) * [1, 10, 100]
NETWORKS = {
    "MLP": (MLP((3,), hidden=(5,), outputs=2), VECTORS),
    "deep": (MLP((3,), hidden=(5, 4), outputs=2, activation="silu"), VECTORS),
    "even": (MLP((3,), hidden=(5,), outputs=2, flip_symmetric=True), VECTORS),
    "linear": (MLP((3,), hidden=(), outputs=2), VECTORS),
    "single": (MLP((3,), hidden=(5,), outputs=2, dtype="float32"), VECTORS),
    "spins": (LocalEnergyNet(hidden=(5,), outputs=2), SPINS),
    "pairs": (LocalEnergyNet(hidden=(), linear=True, outputs=2), SPINS),
    "window": (LocalEnergyNet(hidden=(4,), outputs=2, window=1, linear=True), SPINS),
    "fields": (LocalEnergyNet(hidden=(5,), outputs=2, values="real"), FIELDS),
    "convolutions": (LatticeCNN(2, channels=(4,), outputs=2), SPINS),
    "extensive": (LatticeCNN(2, channels=(4,), outputs=2, extensive=True, values="real"), FIELDS),
}
kinds = pytest.mark.parametrize("kind", NETWORKS)


def posterior_of(kind, noise="homoscedastic"):
    network, x = NETWORKS[kind]
    y = np.stack([x.reshape(20, -1).sum(1), rng.normal(size=20)], 1) * [3.0, 0.1] + 5
    return NetworkPosterior(network, as_samples(x, y), noise=noise)


@kinds
@pytest.mark.parametrize("noise", NOISES)
def test_the_density_is_prior_times_likelihood(kind, noise):
    posterior = posterior_of(kind, noise)
    theta = posterior.start(3, seed=1) + 0.2
    f, variance = posterior.functions(theta, posterior.data.x)
    units = posterior.prior.sites * posterior.prior.scale.numpy()
    width = np.sqrt(variance) if noise != "none" else 0.01 * units * np.ones_like(f)
    logs = -0.5 * ((posterior.data.y - f) / width) ** 2 - np.log(width / units) - 0.5 * np.log(2 * np.pi)
    tolerance = dict(rtol=2e-4) if kind == "single" else dict(rtol=1e-8)
    np.testing.assert_allclose(posterior.log_likelihoods(theta).numpy(), logs.sum(2), **tolerance)
    np.testing.assert_allclose(posterior.log_density(theta).numpy(), logs.sum((1, 2)) - 0.5 * (theta**2).sum(1).numpy(), **tolerance)


@kinds
def test_functions_are_those_of_the_network_with_these_weights(kind):
    "The head's own weights, put into the network, give the network's own outputs (in standardised units)."
    posterior = posterior_of(kind)
    prior, network, x = posterior.prior, posterior.prior.network, posterior.data.x
    if network.extensive:
        pytest.skip("its features are centred and scaled; the test of the density covers them")
    theta = posterior.start(2, seed=3)
    weights = {}
    for block, part in zip(prior.blocks, theta[1].split([b.spread.numel() for b in prior.blocks])):
        weights[block.name] = part.reshape(block.shape) * block.spread
    weights["head.weight"] = weights.pop("head")
    network.load_state_dict(weights, strict=False)
    with torch.no_grad():
        own = network(x)
    expected = prior.offset + prior.scale * own
    np.testing.assert_allclose(posterior.functions(theta, x)[0][1], expected, rtol=1e-4 if kind == "single" else 1e-10)


@kinds
@pytest.mark.parametrize("noise", NOISES)
def test_the_gradient_is_the_slope(kind, noise):
    if kind == "single":
        pytest.skip("finite differences need float64")
    posterior = posterior_of(kind, noise)
    theta = 0.5 * posterior.start(2, seed=2) + 0.1
    value, gradient = posterior.value_and_gradient(theta)
    along = torch.randn(*theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    slope = (posterior.log_density(theta + 1e-6 * along) - posterior.log_density(theta - 1e-6 * along)) / 2e-6
    torch.testing.assert_close(value, posterior.log_density(theta))
    torch.testing.assert_close((gradient * along).sum(1), slope, rtol=2e-5, atol=1e-3)


@kinds
def test_rows_of_its_own_for_each_chain(kind):
    posterior = posterior_of(kind)
    theta = posterior.start(3, seed=1)
    rows = torch.tensor([[0, 5, 5], [19, 1, 2], [7, 7, 3]])
    whole = posterior.log_likelihoods(theta)
    tolerance = dict(rtol=1e-4, atol=1e-4) if kind == "single" else dict(rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(posterior.log_likelihoods(theta, rows), whole.gather(1, rows), **tolerance)
    torch.testing.assert_close(posterior.log_likelihoods(theta, rows[0]), whole[:, rows[0]], **tolerance)


@pytest.mark.parametrize("kind", ["spins", "pairs", "window", "fields", "extensive"])
def test_energies_are_extensive(kind):
    posterior = posterior_of(kind)
    theta, x = posterior.prior.draw(3, seed=1), posterior.data.x
    f, noise = posterior.functions(theta, x)
    f4, noise4 = posterior.functions(theta, np.tile(x, (1, 2, 2)))
    np.testing.assert_allclose(f4, 4 * f, rtol=1e-9)
    np.testing.assert_allclose(noise4, 4 * noise, rtol=1e-9)


def test_units_of_the_targets_do_not_matter():
    "The same data in other units: the same density, functions in these units."
    network, x = NETWORKS["MLP"]
    y = rng.normal(size=(20, 2))
    one, two = (NetworkPosterior(network, as_samples(x, target)) for target in (y, 1e6 * y - 3e7))
    theta = one.start(4, seed=5)
    torch.testing.assert_close(one.log_density(theta), two.log_density(theta), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(two.functions(theta, x)[0], 1e6 * one.functions(theta, x)[0] - 3e7, rtol=1e-9)
    np.testing.assert_allclose(two.functions(theta, x)[1], 1e12 * one.functions(theta, x)[1], rtol=1e-7)


def test_the_prior_is_standard_normal():
    prior = posterior_of("MLP").prior
    theta = prior.draw(4000, seed=1)
    assert np.array_equal(theta, prior.draw(4000, seed=1)) and not np.array_equal(theta, prior.draw(4000, seed=2))
    assert abs(theta.mean(0) * 4000**0.5).max() < 4.5 and abs(theta.var(0) - 1).max() < 4.5 * (2 / 4000) ** 0.5
    assert len(prior.names) == prior.size == theta.shape[1] and len(set(prior.names)) == prior.size


def test_climbing_finds_higher_ground_and_stays_near_no_saddle():
    posterior = NetworkPosterior(NETWORKS["MLP"][0], as_samples(VECTORS, np.random.default_rng(6).normal(size=(20, 2))))
    start = posterior.start(3, seed=1)
    top = posterior.maximise(start, steps=2000)
    assert (posterior.log_density(top) > posterior.log_density(start)).all()
    assert posterior.value_and_gradient(top)[1].abs().max() < 5.0 < posterior.value_and_gradient(start)[1].abs().max()


# ---- the contract

y1 = rng.normal(size=(20, 1))


class Guess(BayesianNetwork):
    "Draws from the prior, whatever the data: four chains, of which one may be told to be elsewhere."

    shift = 0.0

    def _infer(self, posterior, progress):
        theta = posterior.prior.draw(400, self.options["seed"]).reshape(4, 100, -1)
        theta[0] = theta[0] + self.shift
        return Chains(theta, {"diverging": np.zeros((4, 100), bool)}, {})


@kinds
@pytest.mark.parametrize("noise", NOISES)
def test_a_file_gives_the_same_predictions(kind, noise, tmp_path):
    network, x = NETWORKS[kind]
    y = rng.normal(size=(20, 2))
    surrogate = Guess(network, noise=noise, draws=7, seed=3).fit(x, y, progress=False)
    surrogate.save(tmp_path / "net.safetensors")
    again = Guess.load(tmp_path / "net.safetensors")
    for one, two in ((surrogate.predict(x), again.predict(x)), (surrogate.predict(x[:3]), again.predict(x[:3]))):
        assert np.array_equal(one.draws, two.draws) and np.array_equal(one.aleatoric, two.aleatoric) and one.draws.shape[0] == 7
    assert np.array_equal(again.mean(x), surrogate.mean(x)) and again.options == surrogate.options and again.diagnostics == surrogate.diagnostics
    belief = surrogate.predict(x)
    np.testing.assert_allclose(belief.mean, belief.draws.mean(0)), np.testing.assert_allclose(belief.epistemic, belief.draws.var(0))
    assert (belief.noise is None and not belief.aleatoric.any()) if noise == "none" else (belief.noise.shape == belief.draws.shape)
    json.dumps(again.diagnostics)


def test_chains_that_disagree_are_not_believed():
    x, y = VECTORS, rng.normal(size=(20, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = Guess(seed=1).fit(x, y, progress=False)
    assert fine.doubts == () and fine.diagnostics["r_hat"] < 1.05 and fine.diagnostics["divergences"] == 0
    lost = Guess(seed=1)
    lost.shift = 3.0
    with pytest.warns(UserWarning, match="the chains disagree"):
        lost.fit(x, y, progress=False)
    assert lost.diagnostics["r_hat"] > 1.05 and any("disagree" in doubt for doubt in lost.doubts)
    assert set(fine.inference.posterior) == {"function", "log_density", "log_sigma"} and "diverging" in fine.inference.sample_stats


@pytest.mark.parametrize("noise, where", [("homoscedastic", -1), ("heteroscedastic", -4)])  # its level: the one coordinate, or the head's constant
def test_chains_that_agree_about_functions_but_not_about_the_noise_are_not_believed(noise, where):
    "Many data, so that the log prior takes the place of the log density: and it does not know the sign of the noise's coordinate."
    x = np.linspace(-1, 1, 20_000)[:, None]

    class Torn(BayesianNetwork):
        apart = True

        def _infer(self, posterior, progress):
            theta = posterior.prior.draw(800, 1).reshape(4, 200, -1)
            theta[..., where] = theta[..., where].abs() + 0.5
            sign = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None].expand(4, 200)
            theta[..., where] *= sign if self.apart else sign.flatten()[torch.randperm(800, generator=torch.Generator().manual_seed(2))].reshape(4, 200)
            return Chains(theta, {}, {})
    torn, mixed = Torn(MLP((1,), (3,)), noise=noise), Torn(MLP((1,), (3,)), noise=noise)
    mixed.apart = False
    with pytest.warns(UserWarning, match="the chains disagree"):
        torn.fit(x, np.sin(3 * x), progress=False)
    mixed.fit(x, np.sin(3 * x), progress=False)
    assert set(torn.inference.posterior) == {"function", "log_prior", "log_sigma"} and torn.diagnostics["r_hat"] > 1.5
    assert not mixed.doubts and mixed.diagnostics["r_hat"] < 1.02


class Given(BayesianNetwork):
    "Returns theta of the caller's making, a function of the posterior."

    make = stats = None

    def _infer(self, posterior, progress):
        return Chains(self.make(posterior), self.stats or {}, {})


def doubted(make, **options):
    surrogate = Given(**options)
    surrogate.make = make
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        surrogate.fit(VECTORS, y1, progress=False)
    assert len([one for one in told if issubclass(one.category, UserWarning) and "Given: " in str(one.message)]) == bool(surrogate.doubts)
    return surrogate


@pytest.mark.parametrize("starts", [1, 4])  # all chains at one place, or each at its own
def test_chains_that_never_move_are_doubted(starts):
    surrogate = doubted(lambda p: p.start(starts, 1).expand(4, -1)[:, None].expand(-1, 50, -1).clone())
    assert "4 of 4 chains never moved" in surrogate.doubts
    assert any("R-hat cannot be measured" in doubt for doubt in surrogate.doubts) and any("effective samples cannot" in doubt for doubt in surrogate.doubts)
    assert np.isnan(surrogate.diagnostics["effective_samples"]) and np.isnan(surrogate.diagnostics["r_hat"])


def test_one_chain_that_never_moves_is_counted_and_one_chain_alone_is_not_compared():
    def one_stuck(posterior):
        theta = posterior.prior.draw(1600, 1).reshape(4, 400, -1)
        theta[2] = theta[2, 7]
        return theta
    assert "1 of 4 chains never moved" in doubted(one_stuck).doubts
    alone = doubted(lambda p: p.prior.draw(400, 1)[None])
    assert len(alone.doubts) == 1 and "R-hat cannot be measured" in alone.doubts[0] and alone.diagnostics["effective_samples"] > 100


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_and_leave_the_surrogate_as_it_was(value):
    surrogate = doubted(lambda p: p.prior.draw(400, 1).reshape(4, 100, -1))
    before = surrogate.predict(VECTORS).draws

    def broken(posterior):
        theta = posterior.prior.draw(400, 1).reshape(4, 100, -1)
        theta[1, 3, 5] = value
        return theta
    surrogate.make = broken
    with pytest.raises(ValueError, match="theta: .*not finite in 1 of 4 chains"):
        surrogate.fit(VECTORS, y1, progress=False)
    assert np.array_equal(surrogate.predict(VECTORS).draws, before)


def test_the_diagnosis_does_not_look_at_many_data_for_every_draw(monkeypatch):
    "All draws are judged by functions and log prior; the log density is asked for where it is cheap, and not where it is known."
    asked, own = [], NetworkPosterior.log_likelihoods

    def counted(self, theta, rows=None):
        asked.append(len(theta) * (self.n if rows is None else rows.shape[-1]))
        return own(self, theta, rows)
    monkeypatch.setattr(NetworkPosterior, "log_likelihoods", counted)
    x = np.linspace(-1, 1, 20_000)[:, None]

    def fitted(n, stats=None):
        asked.clear()
        surrogate = Given(MLP((1,), (3,)))
        surrogate.make, surrogate.stats = (lambda p: p.prior.draw(800, 1).reshape(4, 200, -1)), stats
        return surrogate.fit(x[:n], np.sin(3 * x[:n]), progress=False)
    few = fitted(50)
    assert sum(asked) == 800 * 50 and set(few.inference.posterior) == {"function", "log_density", "log_sigma"}
    many = fitted(20_000)
    assert sum(asked) <= 200 * 20_000 and set(many.inference.posterior) == {"function", "log_prior", "log_sigma"}
    assert many.inference.posterior["log_prior"].shape == (4, 200) and 400 < many.diagnostics["effective_samples"] < 1600 and not many.doubts
    known = fitted(20_000, {"lp": np.random.default_rng(1).normal(size=(4, 200))})
    assert not asked and np.array_equal(known.inference.posterior["log_density"], known.inference.sample_stats["lp"])


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 5.0])
def test_the_prior_of_the_noise_is_the_same_whatever_the_scale_of_functions(scale):
    "ln σ has the constant's prior N(-2, 1.5²), as one number or as the constant of a head, whose slopes have theirs."
    x = np.linspace(-1, 1, 20)[:, None]
    spreads = {}
    for noise in ("homoscedastic", "heteroscedastic"):
        prior = NetworkPrior(MLP((1,), (10,)), as_samples(x, np.sin(x)), noise, prior_scale=scale)
        spreads[noise] = prior.blocks[-1].spread
    assert spreads["homoscedastic"].tolist() == [1.5] and spreads["heteroscedastic"][0, 0] == 1.5
    np.testing.assert_allclose(spreads["heteroscedastic"][0, 1:], 10**-0.5)
    noise = prior.functions(prior.draw(4000, seed=1), np.zeros((1, 1)))[1][:, 0, 0] / float(prior.scale) ** 2
    hidden = (np.tanh(scale * np.random.default_rng(2).normal(size=10**6)) ** 2).mean()
    assert abs((0.5 * np.log(noise)).var() / (1.5**2 + hidden) - 1) < 4.5 * (2 / 4000) ** 0.5


def test_the_network_given_is_not_changed():
    network = MLP((3,), outputs=1, seed=4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    Guess(network).fit(VECTORS, rng.normal(size=(20, 1)), progress=False)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items()) and network.head.weight.requires_grad


@pytest.mark.parametrize("x, kind", [(SPINS, LocalEnergyNet), (VECTORS, MLP), (FIELDS, MLP)])
def test_a_network_is_found_for_the_data(x, kind):
    surrogate = Guess().fit(x, rng.normal(size=(20, 2)), progress=False)
    assert isinstance(surrogate.prior.network, kind) and surrogate.predict(x).mean.shape == (20, 2)


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint8, np.float32])
def test_whole_numbers_are_standardised_like_any_numbers(kind):
    "The type of the inputs does not matter; only spins, which are +1 and -1, are left as they are."
    x, y = np.arange(40)[:, None], rng.normal(size=(40, 1))
    one, two = (Guess(MLP((1,), (3,)), seed=1).fit(inputs, y, progress=False) for inputs in (x.astype(kind), x.astype(float)))
    assert one.prior.network.offset == 19.5 and np.array_equal(one.predict(x).draws, two.predict(x).draws)
    y = rng.normal(size=(20, 1))
    one, two = (Guess(MLP((4, 4), (3,)), seed=1).fit(inputs, y, progress=False) for inputs in (SPINS.astype(kind if kind != np.uint8 else np.int8), SPINS.astype(float)))
    assert not one.prior.network.offset.any() and np.array_equal(one.predict(SPINS).draws, two.predict(SPINS).draws)


def test_examples_come_as_arrays_or_samples():
    x, y = VECTORS, rng.normal(size=(20, 1))
    one = Guess(seed=1).fit(x, y, progress=False)
    two = Guess(seed=1).fit(as_samples(x, y, groups=["a"] * 10 + ["b"] * 10), progress=False)
    assert np.array_equal(one.predict(x).draws, two.predict(x).draws)
    with pytest.raises(ValueError, match="y=.*must be None"):
        Guess().fit(as_samples(x, y), y, progress=False)


BAD = [
    ("noise", lambda: Guess(noise="white")), ("prior_scale", lambda: Guess(prior_scale=0.0)), ("prior_scale", lambda: Guess(prior_scale="2")),
    ("tolerance", lambda: Guess(tolerance=-1)), ("draws", lambda: Guess(draws=1)), ("seed", lambda: Guess(seed=-1)),
    ("network", lambda: Guess("deep")), ("network", lambda: Guess(torch.nn.Linear(3, 1))), ("network", lambda: NetworkPrior(None, as_samples(VECTORS, y1))),
    ("not fitted", lambda: Guess().predict(VECTORS)), ("not fitted", lambda: Guess().mean(VECTORS)), ("not fitted", lambda: Guess().save("x")),
    ("y of shape", lambda: Guess(MLP((3,), outputs=2)).fit(VECTORS, y1)), ("x of shape", lambda: Guess(MLP((2,))).fit(VECTORS, y1)),
    ("x", lambda: Guess().fit(VECTORS[:1], y1[:1])), ("y", lambda: Guess().fit(VECTORS, np.full((20, 1), np.nan))),
    ("x of shape", lambda: Guess().fit(VECTORS, y1, progress=False).predict(VECTORS[:, :2])),
    ("theta of type", lambda: posterior_of("MLP").log_density(torch.zeros(2, 3))),
    ("theta of type", lambda: posterior_of("MLP").log_density(np.zeros((2, 3)))),
    ("theta of type", lambda: posterior_of("MLP").functions(np.zeros((2, posterior_of("MLP").size)), VECTORS)),
    ("x of shape", lambda: posterior_of("MLP").functions(posterior_of("MLP").start(2, 0), VECTORS[:0])),
    ("x of shape", lambda: Guess().fit(VECTORS, y1, progress=False).predict(VECTORS[:0])),
    ("path", lambda: Guess.load("nothing.safetensors")),
    ("learning_rate", lambda: posterior_of("MLP").maximise(posterior_of("MLP").start(1, 0), learning_rate=0)),
    ("steps", lambda: posterior_of("MLP").maximise(posterior_of("MLP").start(1, 0), steps=0)),
    ("data of type ndarray", lambda: NetworkPrior(MLP((3,)), VECTORS)), ("data of type NoneType", lambda: NetworkPosterior(MLP((3,)), None)),
    ("does not say how it infers", lambda: BayesianNetwork().fit(VECTORS, y1, progress=False)),
    ("x=.*rows of one length", lambda: Guess().fit(VECTORS, y1, progress=False).predict([[1], [2, 3]])),
    ("theta of dtype torch.float32", lambda: posterior_of("MLP").log_density(posterior_of("MLP").start(2, 0).float())),
    ("theta of type NoneType", lambda: posterior_of("MLP").maximise(None)),
    ("theta of type ndarray", lambda: posterior_of("MLP").maximise(posterior_of("MLP").start(2, 0).numpy())),
    ("theta: 2 of 2 climbs left", lambda: posterior_of("MLP").maximise(posterior_of("MLP").start(2, 0) * np.nan, steps=2)),
    ("theta: .* climbs left .*below 1e[+]30", lambda: posterior_of("MLP").maximise(posterior_of("MLP").start(2, 0), steps=5, learning_rate=1e30)),
]
for rows in (torch.tensor([20]), torch.tensor([-1]), torch.tensor([0.5]), [1, 2], torch.zeros(3, 2, dtype=torch.int64), torch.tensor([True])):
    BAD.append(("rows=.*numbers from 0 to 19", lambda rows=rows: posterior_of("MLP").log_likelihoods(posterior_of("MLP").start(4, 0), rows)))
for unit in (1e200, 1e-200):  # the variance of such noise is infinite, or zero
    BAD.append(("y has means .*measure y in other units", lambda unit=unit: Guess().fit(VECTORS, unit * y1, progress=False)))


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_does_not_fit_is_named(number):
    name, call = BAD[number]
    with pytest.raises(ValueError, match=name):
        call()


def test_a_file_of_another_kind_is_refused(tmp_path):
    class Other(Guess):
        pass

    Guess(seed=1).fit(VECTORS, y1, progress=False).save(tmp_path / "guess.safetensors")
    with pytest.raises(ValueError, match="guess.safetensors.*Other"):
        Other.load(tmp_path / "guess.safetensors")
