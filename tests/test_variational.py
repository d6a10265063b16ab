"""Variational networks: exact posteriors recovered, mean field as theory says, ranks, bits, and nothing left behind in Pyro."""
import warnings

import numpy as np
import pyro
import pytest
import torch

from uqphys import variational
from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.calibration import rank_test
from uqphys.posteriors import NetworkPosterior, _standard
from uqphys.training import as_samples
from uqphys.variational import Guide, VariationalNet, fit_guide

ZERO = torch.zeros(1, 4, dtype=torch.float64)


@pytest.fixture(scope="module")
def gaussian():
    "A correlated Gaussian: its log density, mean and covariance."
    rng = np.random.default_rng(0)
    a = torch.as_tensor(rng.normal(size=(4, 4)))
    covariance, mean = a @ a.T + 0.1 * torch.eye(4), torch.as_tensor(rng.normal(size=4))
    law = torch.distributions.MultivariateNormal(mean, covariance)
    return law.log_prob, mean, covariance


def fitted(**options):
    "A small variational network fitted in silence, and its data."
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, size=(40, 1))
    y = np.sin(2 * x) + 0.2 * rng.normal(size=x.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VariationalNet(MLP((1,), (4,)), **(dict(steps=60, starts=2, particles=2, draws=20, rank=3) | options)).fit(x, y, progress=False), x


def test_a_guide_of_enough_columns_finds_mean_and_covariance(gaussian):
    density, mean, covariance = gaussian
    guide = fit_guide(density, ZERO, rank=3, steps=800, particles=32, learning_rate=0.05, seed=1)
    sd = covariance.diagonal().sqrt()
    assert ((guide.mean[0] - mean) / sd).abs().max() < 0.01
    assert ((guide.covariance()[0] - covariance) / torch.outer(sd, sd)).abs().max() < 0.02


def test_mean_field_has_the_variances_of_the_conditionals(gaussian):
    density, mean, covariance = gaussian
    guide = fit_guide(density, ZERO, rank=0, steps=800, particles=256, learning_rate=0.03, seed=1)
    known = 1 / torch.linalg.inv(covariance).diagonal()
    assert (guide.scale[0] ** 2 / known - 1).abs().max() < 0.06 and (known < 0.7 * covariance.diagonal()).any()
    assert guide.factor.shape == (1, 4, 0) and torch.allclose(guide.covariance()[0], torch.diag(guide.scale[0] ** 2))


def test_the_bound_is_the_evidence_where_the_guide_is_exact_and_below_it_elsewhere(gaussian):
    density, *_ = gaussian  # normalised: the log evidence is 0
    full, plain = (fit_guide(density, ZERO, rank=rank, steps=800, particles=32, learning_rate=0.05, seed=1) for rank in (3, 0))
    assert abs(full.history[-50:].mean()) < 1e-3 and plain.history[-50:].mean() < -0.1


def test_pyros_own_bound_agrees(gaussian):
    density, *_ = gaussian
    model, guide = variational._programs(density, ZERO, 2, 500, 0.5, torch.Generator().manual_seed(0))
    with pyro.get_param_store().scope(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(3)
        own = float(variational._bound(model, guide))
        torch.default_generator.manual_seed(3)
        theirs = -pyro.infer.Trace_ELBO(max_plate_nesting=2).loss(model, guide) / 500
    assert np.isclose(own, theirs)


def test_several_problems_are_fitted_side_by_side(gaussian):
    density, mean, covariance = gaussian
    shift = torch.tensor([[0.0], [5.0]], dtype=torch.float64)
    both = fit_guide(lambda theta: density(theta - shift), torch.zeros(2, 4, dtype=torch.float64), rank=3, steps=800, particles=16, learning_rate=0.05, seed=1)
    assert torch.allclose(both.mean[1] - both.mean[0], torch.full((4,), 5.0, dtype=torch.float64), atol=0.05)
    draws = both.draw(20_000, seed=2)
    assert torch.allclose(torch.cov(draws[1].T), both.covariance()[1], atol=0.3)
    laws = torch.distributions.MultivariateNormal(both.mean, both.covariance())
    assert torch.allclose(both.log_prob(draws[:, :5]), laws.log_prob(draws[:, :5].movedim(1, 0)).movedim(0, 1))


def test_ranks_are_uniform_for_the_right_family_and_not_for_mean_field():
    rng, R = np.random.default_rng(5), 200
    X = torch.as_tensor(rng.normal(size=(R, 15, 2)) @ np.array([[1, 0.9], [0.9, 1]]))
    true = torch.as_tensor(rng.normal(size=(R, 2)))
    Y = (X @ true[..., None])[..., 0] + torch.as_tensor(rng.normal(size=(R, 15)))
    density = lambda theta: -0.5 * (theta**2).sum(-1) - 0.5 * ((Y - (X @ theta[..., None])[..., 0]) ** 2).sum(-1)
    p = {}
    for rank in (1, 0):
        draws = fit_guide(density, torch.zeros(R, 2, dtype=torch.float64), rank=rank, steps=500, learning_rate=0.05, width=0.3, seed=3).draw(63, seed=4)
        p[rank] = min(np.min(v) for v in rank_test((draws < true[:, None]).sum(1).numpy(), 63).values())
    assert p[1] > 0.005 and p[0] < 1e-6


def test_pyro_and_the_global_generators_are_left_as_they_were():
    pyro.get_param_store().clear()
    pyro.param("mean", torch.tensor([1.0, 2.0]))
    state, numpy_state, checks = torch.get_rng_state(), np.random.get_state()[1].tobytes(), torch.distributions.Distribution._validate_args
    one, x = fitted(seed=3)
    assert list(pyro.get_param_store().keys()) == ["mean"] and pyro.param("mean").tolist() == [1.0, 2.0]
    assert torch.equal(state, torch.get_rng_state()) and numpy_state == np.random.get_state()[1].tobytes()
    assert torch.distributions.Distribution._validate_args == checks
    with pytest.raises(ValueError, match="diverges"):
        fit_guide(lambda theta: theta.sum(-1) * np.nan, ZERO)
    assert list(pyro.get_param_store().keys()) == ["mean"] and torch.equal(state, torch.get_rng_state())
    pyro.get_param_store().clear()
    torch.manual_seed(99)  # what others do to the global generator changes nothing
    two, other = fitted(seed=3)[0], fitted(seed=4)[0]
    assert torch.equal(one.weights, two.weights) and not torch.equal(one.weights, other.weights)


def test_annealing_counts_the_data_often_at_first_and_ends_in_the_same_law(gaussian):
    density, mean, covariance = gaussian
    seen = []

    def tempered(theta, weight):
        seen.append(weight)
        return weight * density(theta)

    guide = fit_guide(tempered, ZERO, rank=3, steps=1000, annealing=0.4, particles=16, learning_rate=0.05, seed=1)
    weights = np.array(seen[2:])
    assert len(weights) == 1000 and weights[0] == 100 and (np.diff(weights[:401]) < 0).all() and (weights[400:] == 1).all() and guide.history.shape == (600, 1)
    sd = covariance.diagonal().sqrt()
    assert ((guide.mean[0] - mean) / sd).abs().max() < 0.02 and ((guide.covariance()[0] - covariance) / torch.outer(sd, sd)).abs().max() < 0.05


def gap_data():
    "Noisy points of a smooth function, none in the middle."
    rng = np.random.default_rng(7)
    x = np.sort(np.concatenate([rng.uniform(-2, -0.7, 75), rng.uniform(0.8, 2, 75)]))[:, None]
    return x, np.sin(3 * x) + 0.3 * x + 0.15 * rng.normal(size=x.shape)


def silent(surrogate, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return surrogate.fit(x, y, progress=False)


def test_the_recipe_of_the_network_finds_the_noise_that_a_fit_without_annealing_misses():
    x, y = gap_data()
    found = {share: silent(VariationalNet(MLP((1,), (20,)), steps=2000, starts=1, seed=3, annealing=share), x, y) for share in (VariationalNet().options["annealing"], 0.0)}
    bound, noise = zip(*((net.diagnostics["evidence_bound"], net.predict(x).aleatoric.mean() ** 0.5) for net in found.values()))
    assert bound[0] > bound[1] + 8 and abs(noise[0] - 0.15) < 0.03 and noise[1] > 0.2


def test_the_bound_is_that_of_the_evidence_with_all_its_constants():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 3))
    y = 5 + 20 * x @ rng.normal(size=(3, 1)) + 10 * rng.normal(size=(30, 1))
    options = dict(noise="none", tolerance=0.4, prior_scale=3.0)
    net = silent(VariationalNet(MLP((3,), ()), rank=4, steps=800, starts=1, seed=1, **options), x, y)
    posterior = NetworkPosterior(MLP((3,), ()), as_samples(x, y), **options)
    J = torch.autograd.functional.jacobian(lambda t: _standard(posterior.prior, t[None], posterior.inputs)[0][0, :, 0], torch.zeros(4, dtype=torch.float64))
    covariance = (J @ J.T + 0.4**2 * torch.eye(30)) * float(posterior.prior.scale) ** 2
    exact = float(torch.distributions.MultivariateNormal(torch.full((30,), y.mean(), dtype=torch.float64), covariance).log_prob(torch.as_tensor(y[:, 0])))
    assert abs(net.diagnostics["evidence_bound"] - exact) < 0.05 and abs(net.guide.history[-50:].mean() - exact) < 0.05
    assert net.doubts == () and net.diagnostics["pareto_k"] < 0.7 and net.diagnostics["reweightable"] is True


def test_other_units_of_the_targets_shift_the_bound_by_their_logarithm():
    rng = np.random.default_rng(2)
    x = rng.choice([-1, 1], size=(30, 4, 4)).astype(np.int8)
    y = np.hstack([-(x * np.roll(x, 1, 1)).sum((1, 2))[:, None] + rng.normal(size=(30, 1)), x.sum((1, 2))[:, None] + rng.normal(size=(30, 1))])
    for noise in ("homoscedastic", "heteroscedastic"):
        one, other = (silent(VariationalNet(LocalEnergyNet(2, hidden=(3,), outputs=2), noise=noise, steps=30, starts=1, draws=5), x, unit * y) for unit in (1, 8.0))
        for name in ("evidence_bound", "constant_evidence"):
            assert np.isclose(other.diagnostics[name] - one.diagnostics[name], -60 * np.log(8))


def test_the_evidence_of_a_constant_is_right():
    y = np.array([[3.0, -1.0], [4.0, 2.0], [3.5, 0.5]])
    posterior = NetworkPosterior(MLP((1,), (2,), outputs=2), as_samples(np.arange(3.0)[:, None], y))
    t, rng = posterior.targets.numpy(), np.random.default_rng(0)
    c, s = rng.normal(size=(400_000, 1, 1)), np.exp(-2 + 1.5 * rng.normal(size=(400_000, 1, 1)))
    likelihood = np.exp((-0.5 * ((t - c) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi)).sum(1))
    wrong = likelihood.std(0) / likelihood.mean(0) / 400_000**0.5
    assert abs(variational._constant_evidence(posterior) - np.log(likelihood.mean(0)).sum()) < 5 * wrong.sum() < 0.1


def test_a_bound_that_gives_no_reason_to_see_a_signal_is_doubted():
    x, y = gap_data()
    few = silent(VariationalNet(MLP((1,), (20,)), steps=600, starts=1, seed=1), x[::5], y[::5])
    assert few.diagnostics["evidence_bound"] < few.diagnostics["constant_evidence"] and any("constant and noise" in doubt for doubt in few.doubts)
    facts = dict(evidence_bound=-100.0, evidence_spread=4.0, constant_evidence=-110.0)
    assert variational._unlike(facts, 50) == () and "differ by 6.0" in variational._unlike(facts | dict(evidence_spread=6.0), 50)[0]


def test_pareto_k_is_small_for_a_guide_that_misses_half_of_the_posterior():
    twins = lambda theta: torch.logsumexp(torch.stack([-0.5 * (theta - 8).square().sum(-1), -0.5 * (theta + 8).square().sum(-1)]), 0)
    one = fit_guide(twins, ZERO + 8, rank=1, steps=200, learning_rate=0.05, seed=1)
    assert variational._pareto(variational._log_weights(one, twins, 3)) < 0.7 and (one.mean - 8).abs().max() < 0.1


@pytest.mark.parametrize("wrong", [lambda v: v.sum(), lambda v: v.mean(0), lambda v: v.sum(1), lambda v: v[..., None], lambda v: v.T, lambda v: v.numpy()])
def test_a_log_density_of_the_wrong_shape_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^log_density returns .*\(3, 4\), \(particles, R\)$"):
        fit_guide(lambda theta: wrong(-0.5 * theta.square().sum(-1)), torch.zeros(4, 2, dtype=torch.float64), particles=3, steps=10)


def test_a_fit_may_be_called_without_gradients_and_inside_a_pyro_program():
    plain, x = fitted(steps=20)
    with torch.no_grad():
        assert torch.equal(fitted(steps=20)[0].weights, plain.weights)
    with pyro.poutine.trace() as outer:
        assert torch.equal(fitted(steps=20)[0].weights, plain.weights)
    assert not set(outer.trace.nodes) & {"theta", "density", "mean", "log_scale", "factor", "particles", "problems"}


def test_more_columns_than_weights_are_not_used():
    net, _ = fitted(steps=20, rank=500)
    assert net.guide.factor.shape == (1, net.prior.size, net.prior.size)


def test_no_two_parts_of_a_fit_share_random_numbers(monkeypatch):
    seeds, start, fit, draw = [], NetworkPosterior.start, variational.fit_guide, Guide.draw
    monkeypatch.setattr(NetworkPosterior, "start", lambda self, k, seed: (seeds.append(seed), start(self, k, seed))[1])
    monkeypatch.setattr(variational, "fit_guide", lambda *a, seed, **o: (seeds.append(seed), fit(*a, seed=seed, **o))[1])
    monkeypatch.setattr(Guide, "draw", lambda self, k, seed: (seeds.append(seed), draw(self, k, seed))[1])
    fitted(steps=20, seed=2**63 - 1)
    assert len(seeds) == len(set(seeds)) == 4


def test_what_is_loaded_has_the_guide_and_may_be_fitted_again_as_the_original(tmp_path):
    x = np.linspace(-1, 1, 20)[:, None]
    net = silent(VariationalNet(None, steps=20, starts=1, rank=2), x, np.sin(x))
    net.save(tmp_path / "net")
    again = VariationalNet.load(tmp_path / "net")
    assert all(torch.equal(getattr(again.guide, k), getattr(net.guide, k)) for k in ("mean", "scale", "factor")) and np.array_equal(again.guide.history, net.guide.history)
    assert again.diagnostics == net.diagnostics and again.template is None
    assert silent(again, x, np.hstack([x, x])).predict(x).mean.shape == (20, 2)
    given = fitted(steps=20)[0]
    given.save(tmp_path / "given")
    assert VariationalNet.load(tmp_path / "given").template is not None


class Heir(VariationalNet):
    "A subclass, which must be able to keep itself."


def test_a_file_is_written_once_and_whole_by_subclasses_too(tmp_path, monkeypatch):
    "There is no moment at which an older file is gone and the new one is half there."
    from uqphys import posteriors
    x = np.linspace(-1, 1, 20)[:, None]
    net, writes, own = silent(Heir(MLP((1,), (3,)), steps=20, starts=1, rank=2), x, np.sin(x)), [], posteriors.save_state
    monkeypatch.setattr(posteriors, "save_state", lambda path, state: (writes.append(set(state)), own(path, state)))
    net.save(tmp_path / "net")
    assert len(writes) == 1 and {"guide", "weights"} <= writes[0] and not hasattr(variational, "save_state")
    again = Heir.load(tmp_path / "net")
    assert type(again) is Heir and torch.equal(again.guide.factor, net.guide.factor) and np.array_equal(again.predict(x).draws, net.predict(x).draws)
    with pytest.raises(ValueError, match="holds something else than 'VariationalNet'"):
        VariationalNet.load(tmp_path / "net")


def test_a_fit_that_fails_leaves_the_guide_of_the_one_before(monkeypatch):
    net, x = fitted(steps=20)
    guide, draws = net.guide, net.predict(x).draws
    monkeypatch.setattr(Guide, "draw", lambda self, k, seed, own=Guide.draw: own(self, k, seed) * (np.nan if k == 20 else 1.0))
    with pytest.raises(ValueError, match="weights are not finite"):
        net.fit(x, np.sin(x), progress=False)
    assert net.guide is guide and np.array_equal(net.predict(x).draws, draws)


@pytest.mark.parametrize("noise", ["homoscedastic", "heteroscedastic", "none"])
@pytest.mark.parametrize("rank", [0, 3])
def test_a_network_is_fitted_saved_and_loaded(noise, rank, tmp_path):
    net, x = fitted(noise=noise, rank=rank)
    p = net.predict(x)
    assert p.draws.shape == (20, 40, 1) and (p.aleatoric > 0).all() == (noise != "none")
    assert {"evidence_bound", "evidence_spread", "pareto_k"} <= set(net.diagnostics) and "r_hat" not in net.diagnostics
    assert net.diagnostics["reweightable"] is (net.diagnostics["pareto_k"] < 0.7) and "reweightable" not in repr(net)
    net.save(tmp_path / "net")
    again = VariationalNet.load(tmp_path / "net")
    assert np.array_equal(again.predict(x).draws, p.draws) and again.options == net.options and again.doubts == net.doubts


def test_spins_are_read_by_the_local_network():
    rng = np.random.default_rng(2)
    x = rng.choice([-1, 1], size=(30, 4, 4)).astype(np.int8)
    y = -(x * np.roll(x, 1, 1)).sum((1, 2))[:, None].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = VariationalNet(LocalEnergyNet(2, hidden=(3,)), steps=40, starts=1, draws=10).fit(x, y, progress=False)
    assert np.isfinite(net.predict(x).mean).all()


def test_a_fit_that_has_not_ended_is_doubted():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1000)
    assert variational._rising(np.minimum(np.arange(1000) / 5, 50) + noise, 1) == ()
    assert "second half" in variational._rising(np.arange(1000) / 5 + noise, 1)[0]
    assert variational._rising(np.arange(1000) / 5 + noise, 150) == ()
    assert "did not rise" in variational._rising(-np.arange(1000) / 5 + noise, 1)[0]
    with pytest.warns(UserWarning, match="second half"):
        x = np.linspace(-2, 2, 40)[:, None]
        VariationalNet(MLP((1,), (10,)), steps=300, starts=1, seed=1, annealing=0.0).fit(x, np.sin(2 * x), progress=False)


def plain_guide():
    return Guide(ZERO, ZERO + 1, torch.zeros(1, 4, 0, dtype=torch.float64), np.zeros((0, 1)))


def test_an_annealing_shorter_than_a_step_is_none():
    "The density is called with a weight, as is promised for any annealing above 0, and the weight is 1."
    seen = []
    guide = fit_guide(lambda theta, weight: (seen.append(weight), -weight * (theta**2).sum(-1))[1], ZERO, steps=10, annealing=0.05)
    assert set(seen) == {1.0} and len(guide.history) == 10
    plain = fit_guide(lambda theta: -(theta**2).sum(-1), ZERO, steps=10)
    assert torch.equal(guide.mean, plain.mean) and np.array_equal(guide.history, plain.history)


@pytest.mark.parametrize("call,message", [
    (lambda: VariationalNet(rank=-1), "rank=-1"),
    (lambda: VariationalNet(steps=5), "steps=5.*>= 10"),
    (lambda: VariationalNet(particles=1.5), r"particles=1\.5"),
    (lambda: VariationalNet(learning_rate=-1), "learning_rate=-1"),
    (lambda: VariationalNet(annealing=1), "annealing=1.*less than 1"),
    (lambda: fit_guide(lambda t: t.sum(-1), ZERO, annealing=-0.1), r"annealing=-0\.1"),
    (lambda: VariationalNet().predict(np.zeros((1, 1))), "not fitted"),
    (lambda: fit_guide(lambda t: t.sum(-1), np.zeros((1, 2))), r"start=.*\(R, P\)"),
    (lambda: fit_guide(lambda t: t.sum(-1), ZERO, seed=-1), "seed=-1"),
    (lambda: plain_guide().draw(0, seed=1), "k=0"),
    (lambda: plain_guide().log_prob(torch.zeros(3)), r"theta of type Tensor, shape \(3,\): expected a float64 tensor \(1, any, 4\)"),
    (lambda: plain_guide().log_prob(None), "theta of type NoneType"),
    (lambda: plain_guide().log_prob(np.zeros((1, 3, 4))), "theta of type ndarray"),
    (lambda: plain_guide().log_prob(torch.zeros(2, 3, 4, dtype=torch.float64)), "theta of type Tensor"),
    (lambda: Guide(1, 2, 3, 4), "mean of type int"),
    (lambda: Guide(ZERO, -ZERO - 1, torch.zeros(1, 4, 0, dtype=torch.float64), np.zeros((0, 1))), "scale=-1.0: expected standard deviations > 0"),
    (lambda: Guide(ZERO, ZERO + 1, torch.zeros(1, 3, 0, dtype=torch.float64), np.zeros((0, 1))), r"factor of type Tensor, shape \(1, 3, 0\)"),
    (lambda: fit_guide(None, ZERO), "log_density=None"),
    (lambda: fit_guide(lambda t: -(t**2).sum(-1), ZERO, steps=20, annealing=0.5), "log_density=.*a function of theta and a weight"),
    (lambda: fit_guide(lambda t, w: -w * (t**2).sum(-1), ZERO, steps=20), "log_density=.*a function of theta alone"),
    (lambda: fit_guide(lambda t: -(t.detach() ** 2).sum(-1), ZERO, steps=20), "log_density: torch cannot follow it"),
    (lambda: fit_guide(lambda t: -(t**2).sum(-1), ZERO[:0], steps=20), "start="),
    (lambda: fit_guide(lambda t: -(t**2).sum(-1), ZERO[:, :0], steps=20), "start="),
    (lambda: fit_guide(lambda t: -(t**2).sum(-1), ZERO, steps=20, width=1e300), r"width=1e\+300: the fit diverges at step 0"),
    (lambda: fit_guide(lambda t: -(t**2).sum(-1), ZERO, steps=20, learning_rate=1e30), r"learning_rate=1e\+30: the fit diverges at step"),
])
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
