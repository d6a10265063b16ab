"""Functions from the posterior at any number of inputs: Matheron's rule against exact joint sampling, and predictions beyond 5000 inputs."""
from functools import cache

import gpytorch
import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm

from common import assert_refused, row_name, rows_of
from uqphys import gp as module
from uqphys import sparse_gp
from uqphys.gp import ExactGP, _covariance, pathwise_draws
from uqphys.sampling import one_thread
from uqphys.sparse_gp import MultitaskGP, SparseGP


@pytest.fixture(autouse=True)
def single():
    with one_thread():
        yield


def whitened(draws, mean, covariance, least=1e-6):
    "Draws (k, n) in the directions that the covariance has, each with expected variance one."
    values, vectors = np.linalg.eigh(covariance)
    kept = values > least * values[-1]
    return (draws - mean) @ vectors[:, kept] / np.sqrt(values[kept])


SMOOTH = {"RBF": lambda: gpytorch.kernels.RBFKernel(ard_num_dims=2), "Matern 1/2": lambda: gpytorch.kernels.MaternKernel(nu=0.5, ard_num_dims=2),
          "Matern 3/2": lambda: gpytorch.kernels.MaternKernel(nu=1.5), "Matern 5/2": lambda: gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=2)}


def path_problem(name, seed=1):
    kernel, rng = gpytorch.kernels.ScaleKernel(SMOOTH[name]()).double(), np.random.default_rng(seed)
    kernel.outputscale, lengths = 2.5, kernel.base_kernel.lengthscale.shape
    kernel.base_kernel.lengthscale = torch.tensor([[0.7, 1.4]] if lengths == (1, 2) else [[0.9]], dtype=torch.float64)
    x, new = rng.uniform(-2, 2, (40, 2)), rng.uniform(-3, 3, (500, 2))
    y, noise = np.sin(x.sum(1)), rng.uniform(0.01, 0.1, 40)
    A, B = _covariance(kernel, x, x) + np.diag(noise), _covariance(kernel, new, x)
    return kernel, x, y, noise, new, 0.3 + B @ np.linalg.solve(A, y - 0.3), _covariance(kernel, new, new) - B @ np.linalg.solve(A, B.T)


@pytest.mark.parametrize("name", SMOOTH)
def test_pathwise_draws_have_the_exact_mean_and_covariance_at_500_points(name):
    "Few waves, so that a shared set would show. Errors are told from the groups, which are independent."
    kernel, x, y, noise, new, mean, covariance = path_problem(name)
    u = whitened(pathwise_draws(kernel, x, y, noise, 3000, seed=2, features=32, groups=1500, mean=0.3)(new), mean, covariance, 0.02)
    d = u.shape[1]
    z_mean = u.mean(0) * np.sqrt(3000)
    whole = (u**2).mean(1).reshape(1500, 2).mean(1)
    assert d > 20 and 1e-4 < chi2.sf((z_mean**2).sum(), d) < 1 - 1e-4
    assert abs(whole.mean() - 1) < 4 * whole.std(ddof=1) / np.sqrt(1500)
    rng, z = np.random.default_rng(3), []
    for _ in range(40):  # covariances of random pairs of directions
        a, b = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
        product = ((u @ a) * (u @ b)).reshape(1500, 2).mean(1)
        z.append(product.mean() / (product.std(ddof=1) / np.sqrt(1500)))
    assert max(abs(np.array(z))) < norm.isf(5e-5 / 40)


def test_one_set_of_waves_is_wrong_and_that_shows():
    kernel, x, y, noise, new, mean, covariance = path_problem("RBF")
    f = pathwise_draws(kernel, x, y, noise, 3000, seed=2, features=32, groups=1, mean=0.3)(new)
    u = whitened(f, mean, covariance, 0.02)
    assert abs((u**2).mean(0) - 1).max() > 10 * np.sqrt(2 / 3000)


def test_pathwise_draws_keep_their_kernel_and_their_bits():
    kernel, x, y, noise, new, *_ = path_problem("Matern 5/2")
    f = pathwise_draws(kernel, x, y, noise, 5, seed=1)
    before = f(new)
    kernel.outputscale = 9.0
    assert np.array_equal(f(new), before)
    kernel.outputscale = 2.5
    assert np.array_equal(pathwise_draws(kernel, x, y, noise, 5, seed=1)(new), before)
    np.testing.assert_allclose(f(new, chunk=17), before, atol=1e-10)
    assert f.jitter == 0.0 and len(f) == 5


def test_exact_targets_need_jitter_and_it_is_told():
    kernel, x = gpytorch.kernels.RBFKernel().double(), np.linspace(0, 1, 60)[:, None]
    kernel.lengthscale = 2.0
    f = pathwise_draws(kernel, x, np.sin(x[:, 0]), 0.0, 20, seed=1)
    assert 0 < f.jitter < 1e-6 and abs(f(x) - np.sin(x[:, 0])).max() < 1e-2


def test_columns_that_a_kernel_sees():
    kernel, rng = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(active_dims=(1,))).double(), np.random.default_rng(1)
    x = rng.normal(size=(20, 3))
    f = pathwise_draws(kernel, x, np.cos(x[:, 1]), 0.01, 10, seed=1)
    moved = x + [1.0, 0.0, -3.0]
    np.testing.assert_allclose(f(moved), f(x), atol=1e-9)


# ---- predictions at many inputs

def surface(n=60, seed=8):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 2))
    return x, np.stack([np.sin(2 * x[:, 0]) * x[:, 1], x.sum(1) ** 2], 1) + 0.1 * rng.standard_normal((n, 2)), rng.uniform(-3, 3, (5001, 2))


@pytest.mark.parametrize("noise", ["homoscedastic", "given", "none"])
@pytest.mark.parametrize("how", ["best", "averaged"])
def test_predictions_at_many_inputs_are_those_at_few(noise, how, monkeypatch):
    "Mean, variance and noise to rounding; the draws by their mean and spread at each of many inputs."
    x, y, many = surface()
    variance = None if noise != "given" else np.full(y.shape, 0.01)
    gp = ExactGP("matern52", noise=noise, hyperparameters=how, restarts=0, draws=400).fit(x, y, variance=variance, progress=False)
    near = gp.predict(many[:700])
    monkeypatch.setattr(module, "_TOGETHER", 699)
    far = gp.predict(many[:700])
    for name in ("mean", "epistemic", "aleatoric"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-9, atol=1e-9 * y.std())
    assert np.array_equal(gp.predict(many[:700]).draws, far.draws) and not np.array_equal(near.draws, far.draws)
    for k in range(2):
        z = np.sqrt(400) * (far.draws[..., k].mean(0) - far.mean[:, k]) / np.sqrt(far.epistemic[:, k])
        ratio = far.draws[..., k].var(0) / far.epistemic[:, k]
        assert abs(np.mean(z)) < 1 and 0.5 < np.sqrt(np.mean(z**2)) < 1.6 and abs(np.log(ratio).mean()) < 0.2


def test_beyond_five_thousand_inputs_functions_are_pathwise():
    x, y, many = surface()
    gp = ExactGP("rbf", restarts=0, draws=20).fit(x, y, progress=False)
    far = gp.predict(many)
    assert far.draws.shape == (20, 5001, 2)
    np.testing.assert_allclose(far.mean, gp.mean(many), rtol=1e-9, atol=1e-9 * y.std())


@pytest.mark.parametrize("kernel", ["rbf", "matern32"])
def test_far_draws_have_the_exact_joint_law(kernel, monkeypatch):
    "Two hundred sets of draws, each with waves of its own: at forty inputs, the covariance between inputs, too."
    x, y, many = surface()
    gp = ExactGP(kernel, restarts=0, draws=20).fit(x, y[:, :1], progress=False)
    near, scale = gp.predict(many[:40]), gp.outside[1][0]
    with torch.no_grad():
        covariance = module._conditional(gp.processes[0], module._inputs(gp, many[:40]))[1].numpy() * scale**2
    monkeypatch.setattr(module, "_TOGETHER", 39)
    whole = []
    for seed in range(200):
        gp.options["seed"] = seed
        u = whitened(gp.predict(many[:40]).draws[..., 0], near.mean[:, 0], covariance, 0.01)
        whole.append([(u**2).mean(), u.mean(), (u[:, 0] ** 2).mean(), (u[:, -1] ** 2).mean(), (u[:, 0] * u[:, 1]).mean() + 1, (u[:, -1] * u[:, -2]).mean() + 1])
    whole = np.array(whole) - [1, 0, 1, 1, 1, 1]
    z = whole.mean(0) / (whole.std(0, ddof=1) / np.sqrt(200))
    assert np.abs(z).max() < norm.isf(5e-5)


def test_frequencies_have_the_spectral_law_and_are_spread_evenly():
    "The mean of w cos(ωr) is the kernel itself, for each law; and its error is far below that of independent draws."
    r = np.array([0.3, 1.0, 2.5])
    for name in module.KERNELS:
        kernel, degrees = module.make_kernel(name), 2 * module.KERNELS[name]
        exact = _covariance(kernel, np.zeros((1, 1)), r[:, None])[0]
        sets = [module._frequencies(degrees, 128, 1, np.random.default_rng(seed)) for seed in range(300)]
        found = np.array([(w[:, None] * np.cos(f * r)).mean(0) for f, w in sets])
        z = (found.mean(0) - exact) / (found.std(0, ddof=1) / np.sqrt(300))
        assert np.abs(z).max() < norm.isf(1e-5), name
        alone = np.array([(np.cos(f * r) * w[:, None]).std(0) / np.sqrt(128) for f, w in sets]).mean(0)
        assert np.sqrt(found.var(0).mean() / (alone**2).mean()) < 0.6, name


def test_draws_are_nearer_to_the_exact_variance_than_with_independent_frequencies(monkeypatch):
    "Where data are dense the doubt that is left lives in the tail of the spectral law."
    kernel, x, y, _, _, _, _ = path_problem("Matern 5/2")
    new, noise = np.random.default_rng(5).uniform(-2, 2, (200, 2)), np.full(40, 1e-4)
    A, B = _covariance(kernel, x, x) + np.diag(noise), _covariance(kernel, new, x)
    exact, error = np.diag(_covariance(kernel, new, new) - B @ np.linalg.solve(A, B.T)), {}

    def independent(degrees, count, d, rng):
        return rng.standard_normal((count, d)) * np.sqrt(degrees / rng.chisquare(degrees, (count, 1))), np.ones(count)

    for choice in (module._frequencies, independent):
        monkeypatch.setattr(module, "_frequencies", choice)
        found = np.array([pathwise_draws(kernel, x, y, noise, 2000, seed=s, groups=5)(new).var(0) for s in range(12)])
        error[choice.__name__] = np.sqrt(np.mean((found / exact - 1) ** 2))
    assert error["_frequencies"] < 0.6 * error["independent"]


@cache
def fitted(kind):
    "A process of two outputs, and the inputs where it is asked."
    x, y, many = surface()
    given = np.full(y.shape, 0.01)
    with one_thread():
        gp = {"sgpr": lambda: SparseGP("matern32", inducing=25, restarts=0, draws=30).fit(x, y, progress=False),
              "svgp": lambda: SparseGP("rbf", method="svgp", inducing=25, restarts=0, draws=30, steps=200).fit(x, y, progress=False),
              "mixed": lambda: MultitaskGP("matern52", restarts=0, draws=30).fit(x, y, progress=False),
              "mixed, given": lambda: MultitaskGP("matern32", noise="given", restarts=0, draws=30).fit(x, y, variance=given, progress=False),
              "mixed, both": lambda: MultitaskGP("rbf", restarts=0, draws=30).fit(x, y, variance=given, progress=False)}[kind]()
    return gp, many[:20]


@pytest.mark.parametrize("kind", ["sgpr", "svgp", "mixed", "mixed, given", "mixed, both"])
def test_sparse_and_mixed_processes_draw_the_exact_joint_law_at_many_inputs(kind, monkeypatch):
    "Mean and variances to rounding; of 150 sets of far draws the covariance, between inputs and between outputs, against that of many near draws."
    gp, new = fitted(kind)
    near = gp.predict(new)
    gp.options["draws"] = 20_000
    flat = lambda draws: draws.reshape(len(draws), -1)
    exact = flat(gp.predict(new).draws)
    covariance = np.cov(exact.T)
    gp.options["draws"] = 30
    monkeypatch.setattr(sparse_gp, "_TOGETHER", 19)
    far, whole, seed = gp.predict(new), [], gp.options["seed"]
    for name in ("mean", "epistemic", "aleatoric"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-9, atol=1e-9)
    for k in range(150):
        gp.options["seed"] = 1000 + k
        u = whitened(flat(gp.predict(new).draws), near.mean.ravel(), covariance, 0.02)
        whole.append([(u**2).mean() - 1, u.mean(), (u[:, 0] * u[:, 1]).mean(), (u[:, -1] * u[:, -2]).mean(), (u[:, 0] ** 2).mean() - 1, (u[:, -1] ** 2).mean() - 1])
    gp.options["seed"] = seed
    u = whitened(exact, near.mean.ravel(), covariance, 0.02)
    own = np.sqrt([2 / u.size, 1 / u.size, *[1 / len(u)] * 2, *[2 / len(u)] * 2])  # of the reference
    z = np.mean(whole, 0) / np.hypot(np.std(whole, 0, ddof=1) / np.sqrt(150), own)
    assert np.abs(z).max() < norm.isf(5e-5)


@pytest.mark.parametrize("kind, inputs", [("sgpr", 5001), ("mixed", 2501)])
def test_sparse_and_mixed_processes_answer_at_any_number_of_inputs(kind, inputs):
    gp, many = fitted(kind)[0], surface()[2][:inputs]
    far = gp.predict(many)
    assert far.draws.shape == (30, inputs, 2)
    np.testing.assert_allclose(far.mean, gp.mean(many), rtol=1e-7, atol=1e-7)


def test_a_kernel_without_waves_is_refused_beyond_five_thousand_inputs():
    x, y, many = surface()
    gp = ExactGP(gpytorch.kernels.ScaleKernel(gpytorch.kernels.RQKernel()), restarts=0).fit(x, y[:, :1], progress=False)
    assert gp.predict(many[:50]).mean.shape == (50, 1) and gp.mean(many).shape == (5001, 1)
    with pytest.raises(ValueError, match="^x of length 5001: with a RQKernel .* RBFKernel or a MaternKernel"):
        gp.predict(many)


# ---- bad calls

RBF, LINE = gpytorch.kernels.RBFKernel().double(), np.linspace(0, 1, 5)[:, None]


def path(t, **changes):
    "A call of pathwise_draws with something changed."
    return pathwise_draws(**(dict(kernel=RBF, x=LINE, y=LINE[:, 0], noise_variance=0.1, k=3, seed=0) | changes))


K, COUNT = "gp.", "whole number"
TABLE = [
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, kernel=v), "kernel", [(gpytorch.kernels.CosineKernel(), "CosineKernel"), (gpytorch.kernels.RBFKernelGrad(), "RBFKernelGrad"), ("rbf", "rbf"), (gpytorch.kernels.RBFKernel(batch_shape=torch.Size([2])), "RBF")], "expected an RBFKernel"),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, x=v), "x", [(LINE[:, 0], r"\(5,\)"), (np.nan * LINE, "nan"), ("a", "'a'")], "expected"),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, y=v), "y", [(LINE, r"\(5, 1\)"), (np.ones(4), r"\(4,\)")], "expected"),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, noise_variance=v), "noise_variance", [(-0.1, r"-0\.1"), (np.ones(4), "1"), (np.nan, "nan")], "expected"),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, k=v), "k", [(0, "0")], COUNT),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, seed=v), "seed", [(-1, "-1")], COUNT),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, features=v), "features", [(0, "0"), (2.5, r"2\.5")], COUNT),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, groups=v), "groups", [(0, "0"), (4, "4")], "must"),
    *rows_of(K + "pathwise_draws", lambda t, v: path(t, mean=v), "mean", [(np.nan, "nan"), ("a", "'a'")], "must"),
    *rows_of(K + "PathwiseDraws", lambda t, v: path(t)(v), "x", [(LINE[:, 0], r"\(5,\)"), (np.ones((2, 2)), r"\(2, 2\)"), (np.ones((0, 1)), r"\(0, 1\)")], "expected"),
    *rows_of(K + "PathwiseDraws", lambda t, v: path(t)(LINE, v), "chunk", [(0, "0")], COUNT),
]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *wanted = TABLE[row]
    assert_refused(call, None, *wanted)
