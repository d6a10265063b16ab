"""The penalty method: its numbers, its law, its networks."""
import warnings

import numpy as np
import pytest
import torch
from scipy import special, stats

from uqphys.architectures import MLP
from uqphys.penalty import (GradientControl, NodeControl, PenaltyNet, SGLDNet, SubsampledPosterior, mean_acceptance, noise_limit, penalty,
                            penalty_metropolis, stochastic_langevin)
from uqphys.posteriors import NetworkPosterior
from uqphys.sampling import one_thread
from uqphys.training import as_samples


class Line:
    "y = theta · (1, x) with known noise and prior N(0, 1)."

    def __init__(self, n=500, sigma=0.5, seed=0):
        rng = np.random.default_rng(seed)
        self.x, self.n, self.sigma = torch.as_tensor(np.stack([np.ones(n), rng.uniform(-1, 1, n)], 1)), n, sigma
        self.y = self.x @ torch.tensor([0.5, -1.0], dtype=torch.float64) + sigma * torch.as_tensor(rng.normal(size=n))

    def log_prior(self, theta):
        return -0.5 * theta.square().sum(1)

    def log_likelihoods(self, theta, rows=None):
        x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        return -0.5 * ((y - (x * theta[:, None]).sum(-1)) / self.sigma).square()

    def exact(self, share=1.0):
        covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + share * self.x.T @ self.x / self.sigma**2)
        return share * covariance @ self.x.T @ self.y / self.sigma**2, covariance


LINE = Line()


def start(chains, share=1.0):
    mean, covariance = LINE.exact(share)
    z = torch.randn(chains, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(11))
    return mean + z @ torch.linalg.cholesky(covariance).T


def z_scores(theta, mean, covariance):
    "Means and covariances against the exact ones; errors from independent chains."
    centred = theta - mean
    products = torch.einsum("csp,csq->cpq", centred, centred) / theta.shape[1]
    found = torch.cat([centred.mean(1), (products - covariance).flatten(1)[:, [0, 1, 3]]], 1)
    return (found.mean(0) / found.std(0) * len(theta) ** 0.5).numpy()


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20, 100, 200])
def test_closed_form_is_the_logarithm_of_the_hypergeometric_function(n):
    mpmath = pytest.importorskip("mpmath")
    limit = noise_limit(n)
    for share in (0.01, 0.3, 0.9, 0.999):
        exact = -mpmath.log(mpmath.hyp0f1(mpmath.mpf(n - 1) / 2, -(n - 1) * mpmath.mpf(share * limit) / 4))
        assert penalty(share * limit, n) == pytest.approx(float(exact), rel=1e-9)
        assert share > 0.99 or penalty(share * limit, n, "series", 300) == pytest.approx(float(exact), rel=1e-9)
    assert np.isinf(penalty([limit, 2 * limit, np.nan, np.inf], n)).all() and penalty(0.0, n) == 0
    assert abs(special.jv((n - 3) / 2, np.sqrt((n - 1) * limit))) < 1e-9


def test_large_numbers_of_batches():
    for n in (201, 1000, 100_000):
        assert penalty(1.0, n) == pytest.approx(0.5 + 1 / (4 * (n + 1)) + 1 / (3 * (n + 1) * (n + 3)), rel=1e-6)
    assert penalty(5.0, 200) == pytest.approx(penalty(5.0, 201), rel=1e-3)


@pytest.mark.parametrize("n, three, plain", [(5, 0.6105, 0.6400), (20, 0.6066, 0.6143)])
def test_average_of_the_fine(n, three, plain):
    chi2 = stats.chi2.ppf((np.arange(200_000) + 0.5) / 200_000, n - 1) / (n - 1)
    kept = chi2 < noise_limit(n)
    closed = (np.exp(-penalty(chi2, n)) * kept).mean() + (special.hyp0f1((n - 1) / 2, -(n - 1) * chi2 / 4) * ~kept).mean()
    assert closed == pytest.approx(np.exp(-0.5), abs=2e-5)
    coefficients = [0.5, 1 / (4 * (n + 1)), 1 / (3 * (n + 1) * (n + 3))]
    assert np.exp(-sum(c * chi2 ** (k + 1) for k, c in enumerate(coefficients))).mean() == pytest.approx(three, abs=1e-4)
    assert np.exp(-penalty(chi2, kind="known")).mean() == pytest.approx(plain, abs=1e-4)


def test_mean_acceptance():
    ratio = lambda *a: float(mean_acceptance(1.0, 1.0, *a) / mean_acceptance(-1.0, 1.0, *a))
    assert ratio("known") == pytest.approx(np.exp(-1), rel=1e-12) and ratio("none") == pytest.approx(0.490, abs=5e-4)
    assert [round(float(mean_acceptance(0.0, s)), 3) for s in (0.5, 1, 2)] == [0.803, 0.617, 0.317]
    noise = np.random.default_rng(0).normal(size=(1_000_000, 5)) * 5**0.5
    drawn = np.minimum(1, np.exp(-(0.7 + noise.mean(1)) - penalty(noise.var(1, ddof=1) / 5, 5)))
    assert abs(drawn.mean() - mean_acceptance(0.7, 1.0, "closed", 5)) < 4 * drawn.std() / 1000


@pytest.mark.parametrize("name, options", [
    ("walk", {}), ("series", dict(kind="series")), ("langevin", dict(proposal="langevin")), ("tempered", dict(proposal="langevin", target="tempered")),
    ("control", dict(proposal="langevin", leapfrog=3, control=True)), ("full", dict(batch_size=None))])
def test_line_is_recovered(name, options):
    share = 5 / LINE.n if "target" in options else 1.0
    mean, covariance = LINE.exact(share)
    if options.get("control"):
        options = options | dict(control=GradientControl(LINE, mean.expand(48, 2)))
    given = dict(draws=500, burn_in=150, batch_size=5, batches=20, factor=torch.linalg.cholesky(covariance), seed=4) | options
    with one_thread():
        run = penalty_metropolis(LINE, start(48, share), **given)
    assert np.abs(z_scores(run.theta, mean, covariance)).max() < 4
    assert run.touched == (1.0 if name == "full" else 0.2 if name in ("walk", "series") else 0.4)
    assert run.theta.shape == (48, 500, 2) and run.noise.shape == run.refused.shape == run.acceptance.shape == (48, 500)


def test_naive_is_wrong_and_would_be_seen():
    mean, covariance = LINE.exact()
    with one_thread():
        run = penalty_metropolis(LINE, start(48), kind="none", step=1.0, draws=500, burn_in=0, batch_size=10, batches=10, factor=torch.linalg.cholesky(covariance), seed=4)
    assert np.abs(z_scores(run.theta, mean, covariance)).max() > 8


def test_sgld_is_biased_by_its_step():
    mean, covariance = LINE.exact()
    root = torch.linalg.cholesky(covariance)
    for step in (0.3, 0.5):
        with one_thread():
            theta = stochastic_langevin(LINE, start(96), step=step, draws=300, burn_in=100, factor=root, batch_size=50, seed=3)
        white = torch.linalg.solve_triangular(root, (theta - mean).mT, upper=False).square().mean((1, 2))
        h, error = step**2, float(white.std()) / 96**0.5
        assert abs(float(white.mean()) - (1 + h * 10 / 4) / (1 - h / 4)) < 4 * error + 0.03 and white.mean() > 1 + 4 * error
    with pytest.raises(ValueError, match="step=50.0.*smaller step"):
        stochastic_langevin(LINE, start(2), step=50.0)


def test_control_variates_are_unbiased_and_quiet():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (2000, 1))
    for noise in ("homoscedastic", "heteroscedastic"):
        posterior = NetworkPosterior(MLP((1,), (3,)), as_samples(x, np.sin(4 * x) + 0.2 * rng.normal(size=x.shape)), noise)
        generator = torch.Generator().manual_seed(0)
        at = 0.5 * posterior.start(1, 2)
        new = at + 0.02 * torch.randn(1, posterior.size, dtype=torch.float64, generator=generator)
        exact, spread = SubsampledPosterior(posterior, None).log_ratios(at, new, generator).item(), {}
        for name, control in (("none", None), ("gradient", GradientControl(posterior, at)), ("nodes", NodeControl(posterior, 32))):
            noisy = SubsampledPosterior(posterior, 50, 200, control=control)
            d = noisy.log_ratios(at, new, generator)[0].detach()
            spread[name] = float(d.std())
            assert abs(float(d.mean()) - exact) < 4 * spread[name] / 200**0.5
        assert spread["nodes"] < 0.03 * spread["none"] and spread["gradient"] < 0.2 * spread["none"]


def test_slope_is_a_gradient():
    mean, _ = LINE.exact()
    theta, rows = start(3), torch.arange(500).expand(3, -1)
    plain = SubsampledPosterior(LINE, 10)
    with_control = SubsampledPosterior(LINE, 10, control=GradientControl(LINE, mean.expand(3, 2)))
    exact = SubsampledPosterior(LINE, None).slope(theta, None)
    assert torch.allclose(plain.slope(theta, rows), exact) and torch.allclose(with_control.slope(theta, rows), exact)


@pytest.mark.parametrize("kind", [PenaltyNet, SGLDNet])
def test_networks_fit_predict_save_load(kind, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 1))
    y = np.tanh(3 * x) + 0.2 * rng.normal(size=x.shape)
    net = kind(MLP((1,), (1,)), batch_size=20, chains=4, chain_draws=60, burn_in=100, starts=2, draws=50, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few draws: the doubts are there to be told
        net.fit(x, y, progress=False)
    grid = np.linspace(-1, 1, 11)[:, None]
    assert np.abs(net.mean(grid) - np.tanh(3 * grid)).max() < 0.15 and net.predict(grid).draws.shape == (50, 11, 1)
    net.save(tmp_path / "net.uq")
    again = kind.load(tmp_path / "net.uq")
    assert np.array_equal(again.predict(grid).draws, net.predict(grid).draws) and again.options == net.options
    if kind is PenaltyNet:
        assert net.diagnostics["touched"] == 200 / 400 and 0 <= net.diagnostics["refused"] < 0.05 and 0.3 < net.diagnostics["acceptance"] <= 1
        assert {"noise_variance", "refused", "acceptance_rate"} <= set(net.inference.sample_stats)


def test_same_seed_same_bits():
    runs = [penalty_metropolis(LINE, start(4), draws=20, burn_in=30, batch_size=5, proposal="langevin", seed=s).theta for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("call, argument", [
    (lambda: penalty(-1.0, 5), "chi_square=-1"), (lambda: penalty(1.0, 1), "n=1"), (lambda: penalty(1.0, 5, "best"), "kind='best'"),
    (lambda: penalty(1.0, 5, terms=0), "terms=0"), (lambda: mean_acceptance(0.0, -1.0), "sigma=-1.0"), (lambda: noise_limit(1), "n=1"),
    (lambda: SubsampledPosterior(LINE, 0), "batch_size=0"), (lambda: SubsampledPosterior(LINE, 10, 1), "batches=1"),
    (lambda: SubsampledPosterior(LINE, 10, target="hot"), "target='hot'"), (lambda: penalty_metropolis(LINE, start(2), draws=0), "draws=0"),
    (lambda: penalty_metropolis(LINE, start(2), proposal="jump"), "proposal='jump'"), (lambda: penalty_metropolis(LINE, start(2), step=0.0), "step=0.0"),
    (lambda: stochastic_langevin(LINE, start(2), step=-1.0), "step=-1.0"), (lambda: PenaltyNet(batches=1), "batches=1"),
    (lambda: PenaltyNet(control_variate="magic"), "control_variate='magic'"), (lambda: SGLDNet(target="hot"), "target='hot'")])
def test_bad_input(call, argument):
    with pytest.raises(ValueError, match="(?s)^[^\n]*$") as caught:
        call()
    assert argument in str(caught.value)
