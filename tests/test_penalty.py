"""The penalty method: its numbers, its law, its networks."""
import functools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats

import uqphys.penalty
from uqphys.architectures import MLP
from uqphys.penalty import (GradientControl, NodeControl, PenaltyNet, SGLDNet, SubsampledPosterior, _Compiled, _fine, _fine_coefficients, _fresh_rows,
                            mean_acceptance, noise_limit, penalty, penalty_metropolis, stochastic_langevin)
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


def test_nan_is_never_paid_for():
    for kind in ("closed", "series", "known", "none"):
        fine = penalty([np.nan, 1.0], batches=5, kind=kind)
        assert np.isinf(fine[0]) and np.isfinite(fine[1])
        told = kind if kind != "known" else "half"
        assert np.isinf(_fine(np.nan, *_fine_coefficients(told, 5, 3)))
    for delta in (np.nan, np.inf):
        with pytest.raises(ValueError, match="delta"):
            mean_acceptance(delta, 1.0)


@pytest.mark.parametrize("batches", [2, 3, 10, 25, 200, 1000])
def test_compiled_fine_is_the_fine(batches):
    shares = np.linspace(0, 0.99, 34) if batches < 500 else np.linspace(0, 0.3, 10)
    for kind in ("closed", "series"):
        found = [_fine(x, *_fine_coefficients(kind, batches, 3)) for x in shares * noise_limit(batches)]
        assert np.allclose(found, penalty(shares * noise_limit(batches), batches, kind), rtol=1e-8, atol=1e-12)
        assert np.isinf(_fine(noise_limit(batches), *_fine_coefficients(kind, batches, 3)))


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


def test_the_distance_falls_with_the_root_of_the_number_of_draws():
    numbers = torch.as_tensor(np.random.default_rng(0).normal(size=800))

    class Mean:
        n = 800
        log_prior = staticmethod(lambda theta: -0.5 * theta.square().sum(1))
        log_likelihoods = staticmethod(lambda theta, rows=None: -0.5 * ((numbers if rows is None else numbers[rows]) - theta).square())

    mean, width, slopes, end = numbers.sum() / 801, 801**-0.5, {}, {}
    begin = mean + width * torch.randn(256, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for kind in ("closed", "none"):
        with one_thread():
            run = penalty_metropolis(Mean, begin, kind=kind, step=0.65, draws=100, thin=15, burn_in=0, batch_size=16, batches=20, factor=torch.tensor([[width]]).double(), seed=2)
        assert 0.8 < run.noise.mean() < 2.5 and run.refused.mean() < 0.02
        white = (run.theta - mean) / width
        running = torch.cat([white, (white.square() - 1) / 2**0.5], -1).cumsum(1) / torch.arange(1, 101)[:, None]
        far = running.unflatten(0, (128, -1)).mean(1).square().mean((0, 2)).sqrt().numpy()
        slopes[kind], end[kind] = np.polyfit(np.log(np.arange(5, 101)), np.log(far[4:]), 1)[0], far[-1]
    assert abs(slopes["closed"] + 0.5) < 0.1 and slopes["none"] > -0.3 and end["none"] > 2 * end["closed"]


def test_calibration_by_simulation_tells_the_penalty_from_its_absence():
    rng = np.random.default_rng(4)
    chains, n = 800, 400
    truth, x = torch.as_tensor(rng.normal(size=(chains, 1))), torch.as_tensor(rng.uniform(0.5, 1.5, (chains, n)))
    y = truth * x + torch.as_tensor(rng.normal(size=(chains, n)))

    class Slopes:
        n = 400
        log_prior = staticmethod(lambda theta: -0.5 * theta.square().sum(1))

        @staticmethod
        def log_likelihoods(theta, rows=None):
            a, b = (x, y) if rows is None else (x.gather(1, rows), y.gather(1, rows))
            return -0.5 * (b - theta * a).square()

    root, middle = (1 + x.square().sum(1)).rsqrt()[:, None, None], {}
    for kind in ("closed", "none"):  # equal in all but the penalty
        with one_thread():
            run = penalty_metropolis(Slopes, truth, kind=kind, step=0.7, draws=9, thin=60, burn_in=0, batch_size=2, batches=40, factor=root, seed=5)
        assert 1 < run.noise.mean() < 4 and run.refused.mean() < 0.05
        rank = (run.theta < truth[:, None]).sum(1).numpy()
        middle[kind] = (((rank >= 3) & (rank <= 6)).mean() - 0.4) / (0.4 * 0.6 / chains) ** 0.5
    assert abs(middle["closed"]) < 3 < middle["none"]  # heated: the truth lies in the middle of too wide a sample


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


class Counted:
    "A line that counts how often all its examples are evaluated."

    n, log_prior, calls = LINE.n, staticmethod(LINE.log_prior), 0

    def log_likelihoods(self, theta, rows=None):
        self.calls += rows is None
        return LINE.log_likelihoods(theta, rows)


@pytest.mark.parametrize("chains", [1, 4, 48])
def test_a_full_batch_step_evaluates_the_data_once(chains):
    counted = Counted()
    run = penalty_metropolis(counted, start(chains), batch_size=None, draws=40, burn_in=0, step=0.5, factor=torch.linalg.cholesky(LINE.exact()[1]))
    assert counted.calls == 41 and 0.2 < run.acceptance.mean() < 0.95  # one at the start, then one for every step


def small_posterior(noise="homoscedastic", hidden=(3,), outputs=1, n=12_000, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1))
    y = np.sin(4 * x) + np.arange(outputs) * x + 0.2 * rng.normal(size=(n, outputs))
    return NetworkPosterior(MLP((1,), hidden, outputs=outputs), as_samples(x, y), noise)


@pytest.mark.parametrize("noise, hidden, outputs", [("homoscedastic", (3,), 1), ("heteroscedastic", (4, 5), 2), ("none", (3,), 1)])
def test_compiled_steps_are_the_plain_ones(noise, hidden, outputs, monkeypatch):
    posterior = small_posterior(noise, hidden, outputs)
    control, begin, runs = NodeControl(posterior, 128), 0.3 * posterior.start(3, 2), {}
    root = (0.02 if noise != "none" else 0.001) * torch.eye(posterior.size, dtype=torch.float64).expand(3, -1, -1)
    cases = (dict(batch_size=None), dict(step=0.02), dict(control=control), dict(control=control, proposal="langevin", leapfrog=3, thin=2),
             dict(control=control, proposal="langevin", target="tempered", kind="series"), dict(control=control, kind="half"), dict(control=control, kind="none"))
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(_Compiled, "of", classmethod(lambda *rest: None))
        with one_thread():
            runs[compiled] = [penalty_metropolis(posterior, begin, **(dict(draws=35, burn_in=3, batch_size=24, batches=5, factor=root, seed=6, step=0.1) | o)) for o in cases]
    moved = 0
    for fast, plain in zip(runs[True], runs[False]):
        assert torch.allclose(fast.theta, plain.theta, atol=1e-7) and torch.allclose(fast.acceptance, plain.acceptance, atol=1e-5)
        assert torch.allclose(fast.noise, plain.noise, rtol=1e-4, atol=1e-7) and torch.equal(fast.refused, plain.refused) and fast.touched == plain.touched
        moved += (fast.theta[:, 0] != fast.theta[:, -1]).any()
    assert moved >= 3  # chains that move, so that the comparison means something


def test_runs_of_neighbours_are_fair():
    rows = _fresh_rows(12345, 500, 400, 40, 4)
    counts, runs = np.bincount(rows.flatten(), minlength=40), rows.view(-1, 4)
    assert stats.chisquare(np.bincount(runs[:, 0], minlength=40)).pvalue > 1e-3 and (np.abs(counts - 5000) < 5 * 5000**0.5 * 2).all()
    assert torch.equal(runs[:, 1:], (runs[:, :1] + torch.arange(1, 4)) % 40)
    posterior = small_posterior(n=10_000)
    problem = SubsampledPosterior(posterior, 50, 400)
    assert problem.run == 2 and torch.equal(problem.order.sort()[0], torch.arange(10_000)) and not torch.equal(problem.order, torch.arange(10_000))
    assert [SubsampledPosterior(LINE, 8).run, SubsampledPosterior(posterior, 25).run] == [1, 1]
    generator = torch.Generator().manual_seed(0)
    at = 0.3 * posterior.start(1, 2)
    exact = SubsampledPosterior(posterior, None).log_ratios(at, 1.001 * at, generator).item()
    d = problem.log_ratios(at, 1.001 * at, generator)[0]
    assert abs(float(d.mean()) - exact) < 4 * float(d.std()) / 400**0.5


def test_one_percent_is_cheap():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (100_000, 1))
    posterior = NetworkPosterior(MLP((1,), (3,)), as_samples(x, np.sin(4 * x) + 0.2 * rng.normal(size=x.shape)))
    control, begin, seconds = NodeControl(posterior, 128), 0.3 * posterior.start(16, 2), []
    for k in range(4):  # in turns, and the fastest of each: other work on the machine only adds
        seconds.append([penalty_metropolis(posterior, begin, step=0.01, burn_in=0, draws=draws, **o).seconds
                        for draws, o in ((4, dict(batch_size=None)), (64, dict(batch_size=40, batches=25, control=control)))])
    full, penalised = np.min(seconds[1:], axis=0)
    assert full > 14 * penalised and full < 0.05  # the study finds more than 20; the second: compiled, not plain torch


def test_the_study():
    told = json.loads((Path(__file__).parents[1] / "studies/penalty.json").read_text())
    found, z, spread = told["found"], told["z"], {name: np.mean(np.array(m["sd"]) / told["found"]["hmc"]["sd"]) for name, m in told["found"].items()}
    assert max(found["hmc"]["r_hat"]) < 1.01 and told["told"]["hmc"]["divergences"] == 0 and told["told"]["hmc"]["reached"] >= 4
    assert told["told"]["penalty"]["touched"] == 0.01 and max(np.abs(z["penalty"]["mean"]).max(), np.abs(z["penalty"]["sd"]).max()) < 4
    for name in ("nodes closed", "few closed", "none closed", "nodes none"):
        assert np.abs(z[name]["mean"]).max() < 4.5 and np.abs(z[name]["sd"]).max() < 4.5, name
    for name in ("few", "none"):
        same = [{k: told["told"][f"{name} {kind}"][k] for k in ("chains", "step", "touched")} for kind in ("closed", "none")]
        assert same[0] == same[1] and told["told"][f"{name} closed"]["noise"] > 1
        assert np.abs(z[f"{name} none"]["sd"]).max() > 5 and spread[f"{name} none"] > 1.15 and abs(spread[f"{name} closed"] - 1) < 0.15
    assert max(max(found[name]["r_hat"]) for name in found if not name.startswith("none")) < 1.05
    assert all(one["ratio"] > 20 for one in told["timing"]["steps"])


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


def test_networks_say_what_is_wrong_with_their_settings(monkeypatch):
    monkeypatch.setattr(uqphys.penalty, "_climb", functools.partial(uqphys.penalty._climb, steps=100))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 1))
    y = np.tanh(3 * x) + 0.2 * rng.normal(size=x.shape)
    small = dict(chains=2, chain_draws=10, burn_in=10, starts=1, draws=10)
    for options, word in ((dict(penalty="half", batch_size=4), "half of an estimated variance"), (dict(batches=3, batch_size=4), "3 batches only"),
                          (dict(batch_size=6, batches=10), "a full batch is cheaper"), (dict(penalty="none", batch_size=4), "no penalty")):
        net = PenaltyNet(MLP((1,), (1,)), **(dict(batches=10) | small | options))
        with pytest.warns(UserWarning):
            net.fit(x, y, progress=False)
        assert any(word in doubt for doubt in net.doubts)
    for net in (PenaltyNet(MLP((1,), (1,)), batch_size=61, target="tempered", **small), SGLDNet(MLP((1,), (1,)), batch_size=61, target="tempered", **small)):
        with pytest.raises(ValueError, match="batch_size=61.*tempered.*at most 60"):
            net.fit(x, y, progress=False)


def test_same_seed_same_bits():
    runs = [penalty_metropolis(LINE, start(4), draws=20, burn_in=30, batch_size=5, proposal="langevin", seed=s).theta for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("call, argument", [
    (lambda: penalty(-1.0, 5), "chi_square=-1"), (lambda: penalty(1.0, 1), "batches=1"), (lambda: penalty(1.0, 5, "best"), "kind='best'"),
    (lambda: penalty(1.0, 5, terms=0), "terms=0"), (lambda: mean_acceptance(0.0, -1.0), "sigma=-1.0"), (lambda: noise_limit(1), "batches=1"),
    (lambda: SubsampledPosterior(LINE, 501, target="tempered"), "batch_size=501"), (lambda: SubsampledPosterior(LINE, None, target="tempered"), "batch_size=None"),
    (lambda: SubsampledPosterior(LINE, 10, control="nodes"), "control='nodes'"), (lambda: PenaltyNet(penalty="known"), "penalty='known'"),
    (lambda: penalty_metropolis(LINE, start(2), kind="known"), "kind='known'"),
    (lambda: penalty_metropolis(LINE, start(2) * np.nan), "start: log density nan in chain 0"), (lambda: penalty_metropolis(LINE, start(2).numpy()), "start of type ndarray"),
    (lambda: penalty_metropolis(LINE, start(2)[0]), "shape (2,)"), (lambda: penalty_metropolis(LINE, start(2).float()), "float64"),
    (lambda: penalty_metropolis(LINE, start(2), factor=torch.eye(3, dtype=torch.float64)), "factor with shape (3, 3)"),
    (lambda: penalty_metropolis(LINE, start(2), factor=np.nan * torch.eye(2, dtype=torch.float64)), "not finite"),
    (lambda: stochastic_langevin(LINE, start(2).numpy(), step=0.1), "start of type ndarray"),
    (lambda: SubsampledPosterior(LINE, 0), "batch_size=0"), (lambda: SubsampledPosterior(LINE, 10, 1), "batches=1"),
    (lambda: SubsampledPosterior(LINE, 10, target="hot"), "target='hot'"), (lambda: penalty_metropolis(LINE, start(2), draws=0), "draws=0"),
    (lambda: penalty_metropolis(LINE, start(2), proposal="jump"), "proposal='jump'"), (lambda: penalty_metropolis(LINE, start(2), step=0.0), "step=0.0"),
    (lambda: stochastic_langevin(LINE, start(2), step=-1.0), "step=-1.0"), (lambda: PenaltyNet(batches=1), "batches=1"),
    (lambda: PenaltyNet(control_variate="magic"), "control_variate='magic'"), (lambda: SGLDNet(target="hot"), "target='hot'")])
def test_bad_input(call, argument):
    with pytest.raises(ValueError, match="(?s)^[^\n]*$") as caught:
        call()
    assert argument in str(caught.value)
