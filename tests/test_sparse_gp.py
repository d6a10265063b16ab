"Mixed outputs and inducing inputs: evidence, slopes and predictions against dense algebra, the bound's limits, memory, refusals."

import subprocess
import sys

import numpy as np
import pytest
import torch
from common import assert_complete, assert_refused
from scipy.stats import kstest, multivariate_normal

from uqphys import sparse_gp as module
from uqphys.gp import ExactGP, _in_logarithms, _numbers, _set, _value_and_slope, make_kernel
from uqphys.sampling import one_thread
from uqphys.sparse_gp import MultitaskGP, SparseGP
from uqphys.training import load_state, save_state


@pytest.fixture(autouse=True)
def single():
    with one_thread():
        yield


def data(n=25, p=2, d=2, seed=0):
    "Inputs (n, p) and correlated noisy waves (n, d)."
    rng = np.random.default_rng(seed)
    x, mix = rng.uniform(-2, 2, (n, p)), np.linalg.cholesky(0.3 * np.eye(d) + 0.7)
    return x, np.stack([np.sin((1 + k) * x[:, 0]) + 0.3 * x.sum(1) for k in range(d)], 1) + 0.2 * rng.standard_normal((n, d)) @ mix.T


def mixture(given, n=12, d=3, seed=1):
    "A process of mixed outputs at hyperparameters drawn at random."
    rng = np.random.default_rng(seed)
    x, y = (torch.from_numpy(rng.normal(size=(n, k))) for k in (2, d))
    noise = torch.from_numpy(rng.uniform(0.05, 0.5, (n, d))) if given else torch.zeros((n, d), dtype=torch.float64)
    process = module._Mixture("matern52", x, y, noise, True)
    _set(process, _numbers(process) + rng.normal(0, 0.5, len(_numbers(process))))
    return process


def matern(x, t, lengths):
    "Matern 5/2 from its formula."
    r = np.sqrt(5 * (((x[:, None] - t[None]) / lengths) ** 2).sum(-1))
    return (1 + r + r**2 / 3) * np.exp(-r)


def signal(process, x, t):
    "Covariance of f at x and t, (n, d, m, d), by its definition."
    T, lengths = process.mixing.detach().numpy(), [k.lengthscale.detach().numpy().ravel() for k in process.kernel.parts]
    return sum(np.einsum("a,b,nm->namb", T[:, i], T[:, i], matern(x, t, lengths[i])) for i in range(len(T)))


def targets(process):
    "Covariance of all targets, (n d, n d)."
    x, T, s = process.x.numpy(), process.mixing.detach().numpy(), process.log_noise.detach().exp().numpy()
    n, d = process.y.shape
    whole = signal(process, x, x) + np.einsum("ab,nm->namb", (T * s) @ T.T, np.eye(n))
    return whole.reshape(n * d, n * d) + np.diag(process.given.numpy().ravel())


@pytest.mark.parametrize("given", [False, True])
def test_the_evidence_of_mixed_outputs_is_that_of_the_dense_normal_law(given):
    process = mixture(given)
    exact = multivariate_normal(np.zeros(36), targets(process)).logpdf(process.y.numpy().ravel())
    assert abs(process.log_evidence().item() - exact) < 1e-7 * abs(exact)


def sparse(move=True, seed=2, n=40, m=7, given=True):
    "A sparse process with given and learned noise."
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rng.normal(size=(n, 2))), torch.from_numpy(rng.normal(size=n))
    noise = torch.from_numpy(rng.uniform(0.05, 0.5, n)) if given else torch.zeros(n, dtype=torch.float64)
    return module._Sparse(_in_logarithms(make_kernel("matern52", 2)), x, y, noise, True, x[:m] + 0.1, move)


@pytest.mark.parametrize("make", [lambda: mixture(False), lambda: mixture(True), sparse, lambda: sparse(False)])
def test_slopes_are_those_of_differences(make, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 16)  # more than one chunk
    process = make()
    at = _numbers(process)
    slope, moved = _value_and_slope(process, at)[1], 1e-5 * np.eye(len(at))
    numeric = [(_value_and_slope(process, at + e)[0] - _value_and_slope(process, at - e)[0]) / 2e-5 for e in moved]
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-5 * np.abs(slope).max())


@pytest.mark.parametrize("given", [False, True])
def test_predictions_of_mixed_outputs_are_those_of_dense_conditioning(given):
    x, y = data()
    variance = np.random.default_rng(5).uniform(0.01, 0.05, y.shape) if given else None
    gp = MultitaskGP(restarts=0, draws=4000).fit(x, y, variance=variance, progress=False)
    t, (offset, scale), process = np.random.default_rng(6).uniform(-2, 2, (5, 2)), gp.outside, gp.process
    z, known = (t - gp.inside[0]) / gp.inside[1], process.x.numpy()
    cross, own = signal(process, known, z).reshape(50, 10), signal(process, z, z).reshape(10, 10)
    gain = np.linalg.solve(targets(process), cross)
    unit, belief = np.tile(scale, 5), gp.predict(t)
    covariance = (own - cross.T @ gain) * np.outer(unit, unit)
    mean = (offset + (gain.T @ process.y.numpy().ravel()).reshape(5, 2) * scale).ravel()
    np.testing.assert_allclose(belief.mean.ravel(), mean, atol=1e-8)
    np.testing.assert_allclose(gp.mean(t), belief.mean, atol=1e-10)
    np.testing.assert_allclose(belief.epistemic.ravel(), covariance.diagonal(), atol=1e-9)
    noise = gp.hyperparameters["noise_covariance"]
    np.testing.assert_allclose(belief.aleatoric, np.tile(noise.diagonal(), (5, 1)))
    np.testing.assert_allclose(belief.correlation, noise / np.sqrt(np.outer(noise.diagonal(), noise.diagonal())))
    white = np.linalg.solve(np.linalg.cholesky(covariance + 1e-13 * np.eye(10)), (belief.draws.reshape(4000, 10) - mean).T)
    z = (white @ white.T / 4000 - np.eye(10)) * np.sqrt(4000 / (1 + np.eye(10)))  # of the draws' covariance, standard normal
    assert np.abs(z).max() < 4.5 and kstest(white.ravel(), "norm").pvalue > 1e-3
    whole = targets(process) * np.outer(*[np.tile(scale, 25)] * 2)
    assert abs(gp.log_marginal - multivariate_normal(np.tile(offset, 25), whole).logpdf(y.ravel())) < 1e-6


def test_with_one_kernel_for_all_any_two_covariances_have_this_form():
    rng = np.random.default_rng(3)
    B, S = (a @ a.T for a in rng.normal(size=(2, 3, 3)))
    root = np.linalg.cholesky(B)
    values, vectors = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, S).T))
    process = mixture(False)
    with torch.no_grad():
        process.mixing.copy_(torch.from_numpy(root @ vectors)), process.log_noise.copy_(torch.from_numpy(np.log(values)))
        for kernel in process.kernel.parts:
            kernel.lengthscale = torch.tensor([0.7, 1.3], dtype=torch.float64)
    x = process.x.numpy()
    whole = np.kron(matern(x, x, [0.7, 1.3]), B) + np.kron(np.eye(12), S)
    exact = multivariate_normal(np.zeros(36), whole).logpdf(process.y.numpy().ravel())
    assert abs(process.log_evidence().item() - exact) < 1e-7 * abs(exact)


def test_exact_targets_are_met():
    x = np.linspace(-1, 1, 12)[:, None]
    y = np.concatenate([np.sin(3 * x), np.exp(x)], 1)
    gp = MultitaskGP("matern32", noise="none", restarts=0).fit(x, y, progress=False)
    np.testing.assert_allclose(gp.mean(x), y, atol=1e-6)
    assert gp.predict(x).aleatoric.max() == 0 and gp.predict(x).correlation is None


def test_correlated_noise_is_found_and_its_value_is_right():
    "The correlation 0.7 from 30 sets of 80 examples: Fisher's z is normal with variance 1 / (80 - 3), a little more as f is learned too."
    found = []
    for seed in range(30):
        rng = np.random.default_rng([8, seed])
        x = rng.uniform(-2, 2, (80, 1))
        y = np.concatenate([np.sin(2 * x), np.cos(x)], 1) + 0.3 * rng.standard_normal((80, 2)) @ np.linalg.cholesky([[1, 0.7], [0.7, 1]]).T
        C = MultitaskGP("rbf", restarts=0).fit(x, y, progress=False).hyperparameters["noise_covariance"]
        found.append(np.arctanh(C[0, 1] / np.sqrt(C[0, 0] * C[1, 1])))
    found = np.array(found)
    assert abs(found.mean() - np.arctanh(0.7)) < 4 * found.std(ddof=1) / 30**0.5
    assert 0.5 < found.var(ddof=1) * 77 < 2


# ---- inducing inputs

@pytest.mark.parametrize("given", [False, True])
def test_the_bound_is_that_of_dense_algebra_and_below_the_evidence(given, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 16)
    process = sparse(given=given)
    with torch.no_grad():
        k = lambda a, b: matern(a.numpy(), b.numpy(), np.full(2, 2**0.5))
        D = process.given.numpy() + process.log_noise.exp().item()
        K, cross = k(process.x, process.x), k(process.inducing, process.x)
        Q = cross.T @ np.linalg.solve(k(process.inducing, process.inducing), cross)
        y, zero = process.y.numpy(), np.zeros(40)
        exact = multivariate_normal(zero, Q + np.diag(D)).logpdf(y) - 0.5 * ((K - Q).diagonal() / D).sum()
        assert abs(process.log_bound().item() - exact) < 1e-7 * abs(exact)
        evidence = multivariate_normal(zero, K + np.diag(D)).logpdf(y)
        assert exact < evidence - 1
        process.inducing = torch.nn.Parameter(process.x.clone())
        assert abs(process.log_bound().item() - evidence) < 1e-6


@pytest.mark.parametrize("given", [False, True])
def test_inducing_inputs_at_the_data_believe_what_the_exact_process_does(given):
    x, y = data(50, d=1)
    variance = np.random.default_rng(5).uniform(0.01, 0.1, y.shape) if given else None
    how = "given" if given else "homoscedastic"
    exact = ExactGP(noise=how, restarts=0).fit(x, y, variance=variance, progress=False)
    gp = SparseGP(inducing=x, noise=how, restarts=0).fit(x, y, variance=variance, progress=False)
    told = dict(exact.processes[0].named_parameters())  # the same hyperparameters, parameter by parameter
    with torch.no_grad():
        for name, value in gp.processes[0].named_parameters():
            value.copy_(told[name])
    module._condition(gp.processes[0])
    module._conclude_sparse(gp)
    t = np.random.default_rng(6).uniform(-2, 2, (30, 2))
    a, b = exact.predict(t), gp.predict(t)
    assert abs(exact.log_marginal[0] - gp.log_bound[0]) < 1e-6
    for name in ("mean", "epistemic", "aleatoric"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-6)
    np.testing.assert_allclose(gp.mean(t), b.mean, atol=1e-9)
    np.testing.assert_allclose(a.draws.std(0), b.draws.std(0), rtol=0.4)


def test_more_inducing_inputs_and_moving_them_raise_the_bound():
    x, y = data(300, p=1, d=1)
    fitted = lambda m, **more: SparseGP("rbf", inducing=m, restarts=0, **more).fit(x, y, progress=False).log_bound[0]
    exact = ExactGP("rbf", restarts=0).fit(x, y, progress=False).log_marginal[0]
    few, moved, many = fitted(4), fitted(4, move=True), fitted(25)
    assert few < moved < exact + 0.05 and moved < many < exact + 0.05 and many > exact - 0.5  # ends of searches, priors included in what they climb


@pytest.mark.parametrize("more", [dict(), dict(method="svgp", batch=100, steps=25), dict(noise="given", method="svgp", batch=100, steps=25)],
                         ids=lambda more: "-".join(map(str, more.values())) or "sgpr")
def test_a_known_prior_is_covered_as_often_as_it_should(more):
    "Functions of the kernel's own prior: squared errors in units of the believed variance are chi-squared, over 60 functions."
    rng, z = np.random.default_rng(9), []
    x = rng.uniform(-2, 2, (300, 1))
    t = rng.uniform(-2, 2, (60, 1))
    both = np.concatenate([x, t])
    root = np.linalg.cholesky(np.exp(-0.5 * (both - both.T) ** 2 / 0.5**2) + 1e-9 * np.eye(360))
    for k in range(60):
        f = root @ rng.standard_normal(360)
        given = rng.uniform(0.1, 0.5, (300, 1)) ** 2 if "noise" in more else np.full((300, 1), 0.09)  # unequal error bars where they are told
        y = f[:300, None] + np.sqrt(given) * rng.standard_normal((300, 1))
        gp = SparseGP("rbf", inducing=30, restarts=0, **more).fit(x, y, variance=given if "noise" in more else None, progress=False)
        belief = gp.predict(t[k : k + 1])
        z.append((belief.mean[0, 0] - f[300 + k]) / np.sqrt(belief.epistemic[0, 0]))
    assert kstest(z, "norm").pvalue > 1e-3 and abs(np.mean(np.square(z)) - 1) < 4 * np.sqrt(2 / 60)


# ---- a few examples at a time

def moved(given=True):
    "A sparse process, the factor of its inducing inputs, and the same process with other hyperparameters."
    process = sparse(move=False, given=given)
    anchor = module._inducing_root(process)[0].detach()
    _set(process, _numbers(process) + np.random.default_rng(4).normal(0, 0.2, len(_numbers(process))))
    return process, anchor


@pytest.mark.parametrize("given", [False, True])
def test_one_natural_step_with_all_examples_gives_the_bound_and_the_posterior_of_titsias(given):
    process, anchor = moved(given)
    rows = torch.arange(40)
    batch = module._batch(process, rows, anchor)
    sites = module._natural_step(None, batch, process.y, 1.0, 1.0)
    bound = module._estimated_bound(process, sites, batch, rows, 1.0)
    assert abs(bound.item() - process.log_bound().item()) < 1e-9 * abs(bound.item())
    slopes = [torch.autograd.grad(value, list(process.parameters())) for value in (bound, process.log_bound())]  # at the best q they agree
    for one, other in zip(*slopes):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-7, atol=1e-7)
    with torch.no_grad():  # mean and covariance of u from (B, b), beside those of dense algebra (Titsias 2009, eq. 10)
        K, cross = (process.kernel(process.inducing, v).to_dense().numpy() for v in (process.inducing, process.x))
        D, root = (process.given + process.log_noise.exp()).numpy(), np.linalg.inv(anchor.numpy())
        precision = np.linalg.inv(K) + root.T @ sites[0].numpy() @ root
        S = K @ np.linalg.inv(K + (cross / D) @ cross.T) @ K
        np.testing.assert_allclose(np.linalg.inv(precision), S, atol=1e-8)
        np.testing.assert_allclose(np.linalg.solve(precision, root.T @ sites[1].numpy()), S @ np.linalg.solve(K, cross @ (process.y.numpy() / D)), atol=1e-8)


def test_one_pass_with_falling_rates_is_one_step_with_all_and_estimates_are_unbiased():
    process, anchor = moved()
    rows, sites = torch.from_numpy(np.random.default_rng(0).permutation(40)), None
    whole = module._natural_step(None, module._batch(process, torch.arange(40), anchor), process.y, 1.0, 1.0)
    for t, few in enumerate(rows.split(8)):
        sites = module._natural_step(sites, module._batch(process, few, anchor), process.y[few], 5.0, 1 / (t + 1))
    for a, b in zip(sites, whole):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-10)
    off = (0.7 * whole[0], 1.2 * whole[1])  # any other q: unbiased, and below
    exact = module._estimated_bound(process, off, module._batch(process, rows, anchor), rows, 1.0).item()
    parts = [module._estimated_bound(process, off, module._batch(process, few, anchor), few, 5.0).item() for few in rows.split(8)]
    assert abs(np.mean(parts) - exact) < 1e-10 * abs(exact) and exact < process.log_bound().item() - 0.01


def test_every_example_comes_before_any_comes_again():
    rows = list(module._batches(23, 5, 9, np.random.default_rng(0)))
    assert all(len(r) == 5 for r in rows) and len(np.unique(np.concatenate(rows[:4]))) == 20 and len(np.unique(np.concatenate(rows[4:8]))) == 20


def test_batches_end_near_the_top_and_what_is_left_is_told(monkeypatch):
    x, y = data(5000, p=2, d=1)
    options = dict(inducing=25, restarts=0)
    top = SparseGP("rbf", **options).fit(x, y, progress=False).log_bound[0]
    for seed in range(3):
        gp = SparseGP("rbf", method="svgp", batch=500, seed=seed, **options).fit(x, y, progress=False)
        assert top - 3 < gp.log_bound[0] < top + 1 and not gp.doubts and gp.processes[0].left < 5
    hasty = SparseGP("rbf", method="svgp", batch=500, steps=3, **options)
    monkeypatch.setattr(module, "_SOME", 40)  # a start that knows little
    hasty.fit(x, y, progress=False)
    gap = top - hasty.log_bound[0]
    assert gap > 5 and hasty.processes[0].left > gap / 3 and "has not settled" in hasty.doubts[0]


def test_a_file_of_svgp_does_not_grow_with_the_examples(tmp_path):
    sizes = []
    for n in (100, 1000):
        SparseGP(inducing=8, method="svgp", restarts=0, steps=5).fit(*data(n), progress=False).save(tmp_path / str(n))
        sizes.append((tmp_path / str(n)).stat().st_size)
    assert abs(sizes[0] - sizes[1]) < 100


@pytest.mark.parametrize("stop", [1, 7])
def test_an_interrupted_fit_changes_nothing(stop, monkeypatch):
    x, y = data(100)
    gp = SparseGP(inducing=8, method="svgp", restarts=0, steps=10, batch=30).fit(x, y, progress=False)
    before, real, count = gp.predict(x).draws, module._natural_step, iter(range(100))

    def interrupted(*arguments):
        if next(count) == stop:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "_natural_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gp.fit(x, 2 * y, progress=False)
    monkeypatch.undo()
    assert np.array_equal(gp.predict(x).draws, before)
    again = SparseGP(inducing=8, method="svgp", restarts=0, steps=10, batch=30).fit(x, y, progress=False)
    other = SparseGP(inducing=8, method="svgp", restarts=0, steps=10, batch=30, seed=1).fit(x, y, progress=False)
    assert np.array_equal(again.predict(x).draws, before) and not np.array_equal(again.hyperparameters[0]["lengthscale"], other.hyperparameters[0]["lengthscale"])


MEMORY = """
import resource, numpy as np, torch
from uqphys import sparse_gp as module
from uqphys.gp import _in_logarithms, make_kernel
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, (100_000, 2)))
process = module._Sparse(_in_logarithms(make_kernel("matern52", 2)), x, torch.sin(x[:, 0]), torch.zeros(100_000, dtype=torch.float64), True, x[:300], True)
process.log_posterior().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_hundred_thousand_examples_and_300_inducing_inputs_need_less_than_a_gigabyte():
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert 1000 * int(run.stdout) < 1e9


# ---- both

@pytest.mark.parametrize("make", [lambda: MultitaskGP(restarts=0), lambda: SparseGP(inducing=8, restarts=0, move=True),
                                  lambda: SparseGP(inducing=8, restarts=0, move=True, method="svgp", steps=20)])
def test_files_seeds_and_refusals_leave_everything_as_it_was(make, tmp_path):
    x, y = data()
    gp, other = make().fit(x, y, progress=False), make().fit(x, y, progress=False)
    assert np.array_equal(gp.predict(x).draws, other.predict(x).draws)
    gp.save(tmp_path / "gp")
    again = type(gp).load(tmp_path / "gp")
    assert np.array_equal(again.predict(x).draws, gp.predict(x).draws) and repr(again) == repr(gp) and again.doubts == gp.doubts
    before = gp.predict(x).draws
    with pytest.raises(ValueError):
        gp.fit(x, np.full_like(y, np.nan), progress=False)
    with pytest.raises(ValueError):
        gp.fit(x, y, variance=-1.0, progress=False)
    assert np.array_equal(gp.predict(x).draws, before)


X, Y = data(12)
PAIR = np.tile(Y[:, :1], 2)
BAD = [
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP("cubic"), "kernel", "cubic", "one of"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(3), "kernel", "3", "one of"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(noise="much"), "noise", "much", "one of"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(restarts=-1), "restarts", "-1", ">= 0"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(draws=1), "draws", "1", ">= 2"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(seed=-1), "seed", "-1", ">= 0"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().fit(X, Y[:5]), "y", "5", "12"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().fit(X, PAIR), "y", "12, 2", "expected"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().fit(X, Y, variance=-1.0), "variance", "-1", ">= 0"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(noise="none").fit(X, Y, variance=1.0), "variance", "1", "None"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().fit(*data(2001), variance=1.0), "variance", "2001", "4000"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().fit(X, Y, progress=2), "progress", "2", "True"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().predict(X), "fit", "process", "call fit"),
    ("sparse_gp.MultitaskGP", lambda t: t["mixed"].predict(np.zeros((4, 3))), "x", "4, 3", "m, 2"),
    ("sparse_gp.MultitaskGP", lambda t: t["mixed"].predict(X, variance=np.ones(3)), "variance", "3", "12, 2"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP.load("nowhere"), "path", "nowhere", "file"),
    ("sparse_gp.SparseGP", lambda t: SparseGP("cubic"), "kernel", "cubic", "one of"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=0), "inducing", "0", ">= 1"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=np.full((3, 2), np.nan)), "inducing", "nan", "finite"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing="many"), "inducing", "many", "whole number"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=[[1, 2], [3]]), "inducing", "1, 2", "whole number"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=[["1"], ["2"]]), "inducing", "1", "real numbers"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=np.ones((3, 2), bool)), "inducing", "True", "finite"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=np.full((3, 2), 1e200)), "inducing", "1e[+]?200", "expected"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=3).fit(np.ma.masked_greater(X, 0.0), Y), "x", "mask", "without"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP().fit(X, np.ma.masked_greater(Y, 0.0)), "y", "mask", "without"),
    ("sparse_gp.MultitaskGP", lambda t: MultitaskGP(noise="none").fit(np.repeat(X, 2, 0), np.arange(48.0).reshape(24, 2) ** 2), "y", "row", "equal targets"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(move=1), "move", "1", "True"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(noise="none"), "noise", "none", "one of"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(method="vi"), "method", "vi", "one of"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(method=None), "method", "None", "one of"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(batch=0), "batch", "0", ">= 1"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(batch=2.5), "batch", "2.5", ">= 1"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(steps=-1), "steps", "-1", ">= 0"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(restarts=0.5), "restarts", "0.5", ">= 0"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=13).fit(X, Y), "inducing", "13", "12"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=np.zeros((3, 1))).fit(X, Y), "inducing", "3, 1", "m, 2"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=3, noise="given").fit(X, Y), "variance", "None", "variance of each"),
    ("sparse_gp.SparseGP", lambda t: SparseGP(inducing=3, noise="given").fit(X, Y, variance=0.0), "variance", "0", "> 0"),
    ("sparse_gp.SparseGP", lambda t: SparseGP().mean(X), "fit", "process", "call fit"),
    ("sparse_gp.SparseGP", lambda t: t["sparse"].mean(np.zeros((4, 1))), "x", "4, 1", "m, 2"),
    ("sparse_gp.SparseGP", lambda t: SparseGP.load("nowhere"), "path", "nowhere", "file"),
]


@pytest.fixture(scope="module")
def things():
    return dict(mixed=MultitaskGP(restarts=0).fit(X, Y, progress=False), sparse=SparseGP(inducing=5, restarts=0).fit(X, Y, progress=False))


@pytest.mark.parametrize("k", range(len(BAD)), ids=lambda k: f"{k}-{BAD[k][2]}-{BAD[k][3]}")
def test_bad_calls_are_refused(k, things):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, things, argument, value, accepted)


def test_a_damaged_file_is_named(tmp_path):
    "Right kind, wrong contents: one error that names the file."
    for name, gp in {"mixed": MultitaskGP(restarts=0), "sparse": SparseGP(inducing=4, restarts=0)}.items():
        gp.fit(X, Y, progress=False).save(tmp_path / name)
        state = load_state(tmp_path / name, type(gp).__name__)
        for lost in [key for key in state if key != "kind"]:
            save_state(tmp_path / "hurt", {key: value for key, value in state.items() if key != lost})
            with pytest.raises(ValueError, match="hurt.*damaged.*save"):
                type(gp).load(tmp_path / "hurt")


def test_a_search_that_has_not_begun_says_how_much_is_left():
    "Beyond the part that the starts see, with no step on all examples: both methods foretell the same rise."
    rng = np.random.default_rng(5)
    x = rng.uniform(-2, 2, (3000, 1))
    y = np.sin(3 * x) + 0.1 * rng.standard_normal(x.shape)
    rise = [SparseGP("rbf", inducing=15, restarts=0, steps=steps, seed=2).fit(x, y, progress=False) for steps in (0, 30)]
    begun, ended = (gp.processes[0].left for gp in rise)
    print(f"foretold {begun:.2f}, {ended:.4f}; the bound rose by {rise[1].log_bound[0] - rise[0].log_bound[0]:.2f}")
    assert ended < 0.1 < begun and 0.3 < begun / (rise[1].log_bound[0] - rise[0].log_bound[0]) < 3


def test_every_public_callable_is_walked():
    assert_complete([module], BAD, {})
