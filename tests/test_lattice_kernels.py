"""Kernels that know the lattice: symmetries to rounding, algebra against dense matrices, coverage over repetitions, draws against the exact posterior."""
import itertools
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import gpytorch
import numpy as np
import pytest
import torch
from scipy.stats import chi2, multivariate_normal, norm

from common import assert_complete, assert_refused, assert_threads_do_not_matter, row_name, rows_of
from uqphys import lattice_kernels
from uqphys.architectures import shell_offsets
from uqphys.calibration import rank_test
from uqphys.gp import _covariance, pathwise_draws
from uqphys.lattice_gp import class_counts, distinct_rows, pattern_kernel, symmetric_forms
from uqphys.lattice_kernels import (ExtensiveGP, PairCorrelationKernel, PatternKernel, ShellKernel, StructureFactorKernel, _component,
                                    _hyperprior, _log_variances, _problem, _reduced, _solve, check_dimension)
from uqphys.models import Ising, random_spins
from uqphys.sampling import sample

KERNELS = {
    "patterns": lambda: PatternKernel(), "patterns, field": lambda: PatternKernel(False),
    "shells 1D": lambda: ShellKernel(1, 3), "shells": lambda: ShellKernel(2, 3), "shells, squares, field": lambda: ShellKernel(2, 2, True, False, False),
    "additive": lambda: ShellKernel(2, 6, additive=True), "additive, all": lambda: ShellKernel(2, 4, True, True, False),
    "shells 3D": lambda: ShellKernel(3, 2), "shells 3D, squares": lambda: ShellKernel(3, 1, True), "additive 3D": lambda: ShellKernel(3, 4, True, True, False),
}
GLOBAL = {
    "pairs": lambda: PairCorrelationKernel(), "pairs, field": lambda: PairCorrelationKernel(2, 3, False), "pairs 3D": lambda: PairCorrelationKernel(3, 3),
    "factors": lambda: StructureFactorKernel(), "factors, field": lambda: StructureFactorKernel(2, 3, False), "factors 3D": lambda: StructureFactorKernel(3, 4),
}
sites_sums, everything = pytest.mark.parametrize("name", KERNELS), pytest.mark.parametrize("name", KERNELS | GLOBAL)


# ---- what a kernel sees

def images(x, rng):
    "Every rotation and reflection of x, each shifted at random."
    d = x.ndim - 1
    for axes, signs in itertools.product(itertools.permutations(range(d)), itertools.product((1, -1), repeat=d)):
        y = x.transpose(0, *(1 + np.array(axes)))[(slice(None), *(slice(None, None, s) for s in signs))]
        yield np.roll(y, rng.integers(0, 7, d), tuple(range(1, d + 1)))


@everything
def test_symmetries_hold_to_rounding(name):
    kernel, rng = (KERNELS | GLOBAL)[name](), np.random.default_rng(1)
    x = random_spins((7,) * kernel.ndim, 4, seed=1)
    seen, unit = kernel.inputs(x), kernel.inputs(x).abs().max()
    assert seen.dtype == torch.float64
    for y in images(x, rng):
        assert (kernel.inputs(y) - seen).abs().max() <= (1e-14 * unit if "factors" in name else 0)
    flipped = (kernel.inputs(-x) - seen).abs().max()
    assert flipped <= 1e-14 * unit if kernel.flip_symmetric else flipped > 1e-3
    K, moved = (kernel(kernel.inputs(z)).to_dense().detach() for z in (x, next(images(x, rng))))
    assert torch.allclose(K, moved, rtol=1e-12) and torch.allclose(K, K.T) and torch.allclose(K.diagonal(), kernel(seen, diag=True).detach())
    assert torch.linalg.eigvalsh(K).min() > -1e-12 * K.diagonal().max()


def slow_counts(kernel, x):
    "Environments by loops over sites and displacements."
    _, ndim, shells, plaquettes, additive, flip = kernel.config
    out = np.zeros((len(x), kernel.classes))
    unit = np.eye(ndim, dtype=int)
    for n in range(len(x)):
        for place in np.ndindex(x.shape[1:]):
            at = lambda *steps, n=n, place=place: int(x[n][tuple((np.array(place) + sum(steps, np.zeros(ndim, int))) % x.shape[1:])])
            seen = [sum(at(o) != at() for o in shell) for shell in shell_offsets(ndim, shells)]
            sizes = [len(shell) for shell in shell_offsets(ndim, shells)]
            if plaquettes:
                corners = [(i * unit[a], j * unit[b]) for a, b in itertools.combinations(range(ndim), 2) for i in (1, -1) for j in (1, -1)]
                seen.append(sum(at() * at(u) * at(v) * at(u, v) < 0 for u, v in corners))
                sizes.append(len(corners))
            if not flip:
                seen.append(int(at() > 0))
                sizes.append(1)
            start = np.cumsum([0, *np.add(sizes, 1)])
            for index in [s + m for s, m in zip(start, seen)] if additive else [np.ravel_multi_index(seen[::-1], np.add(sizes, 1)[::-1])]:
                out[n, index] += 1
    return out


@sites_sums
@pytest.mark.parametrize("L", [2, 3, 5])
def test_environments_are_counted_as_by_hand(name, L):
    kernel = KERNELS[name]()
    x = random_spins((L, L + 1, L)[: kernel.ndim], 2, seed=L)
    expected = class_counts(x, kernel.flip_symmetric) if "patterns" in name else slow_counts(kernel, x)
    assert np.array_equal(kernel.inputs(x).numpy(), expected)


@pytest.mark.parametrize("flip", [True, False])
def test_the_pattern_kernel_is_the_heat_kernel(flip):
    kernel = PatternKernel(flip)
    for rho in (0.02, 0.5, 0.97):
        kernel.correlation, part = rho, len(kernel.degrees)
        B, w = kernel.basis.numpy()[:, :part], kernel.weights().detach().numpy()[:part]
        np.testing.assert_allclose((B * w) @ B.T, pattern_kernel(rho, flip), atol=1e-14)
    linear = kernel.inputs(x := random_spins((5, 6), 30, seed=1)).numpy() @ kernel.basis[:, part:].numpy()
    y = Ising((5, 6), J2=0.3, K=-0.4, h=0.0 if flip else 0.2).energy(x)
    assert abs(linear @ np.linalg.lstsq(linear, y, rcond=None)[0] - y).max() < 1e-10


def test_the_shell_kernel_is_an_average_over_arrangements():
    "Two shells in one dimension, and the centre: four neighbours and two correlations."
    kernel, rho = ShellKernel(1, 2, False, False, False), (0.3, 0.7, 0.5)
    kernel.correlation, part = rho, len(kernel.degrees)
    spins = np.array(list(itertools.product((1, -1), repeat=5)))  # two near, two far relative to the centre; the centre
    unlike = (spins[:, None] != spins).astype(float)
    heat = rho[0] ** unlike[..., :2].sum(-1) * rho[1] ** unlike[..., 2:4].sum(-1) * rho[2] ** unlike[..., 4]
    place = (spins[:, :2] < 0).sum(1) + 3 * (spins[:, 2:4] < 0).sum(1) + 9 * (spins[:, 4] < 0)
    member = np.eye(18)[place] / np.bincount(place)
    B, w = kernel.basis.numpy()[:, :part], kernel.weights().detach().numpy()[:part]
    np.testing.assert_allclose((B * w) @ B.T, member.T @ heat @ member, atol=1e-14)


def test_forty_shells_in_three_dimensions():
    "Shells of up to 96 neighbours: binomial coefficients that no 64-bit integer holds."
    kernel = ShellKernel(3, 40, additive=True)
    values = kernel.basis.numpy()
    assert np.isfinite(values).all() and np.abs(values).max() > 1


@sites_sums
def test_kernels_are_differentiable(name):
    kernel = KERNELS[name]()
    counts = kernel.inputs(random_spins((4,) * kernel.ndim, 3, seed=2))
    value = kernel(counts).to_dense().sum()
    slopes = torch.autograd.grad(value, list(kernel.parameters()))
    for p, slope in zip(kernel.parameters(), slopes):
        for i in range(p.numel()):
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    p[i] += step
                    ends.append(float(kernel(counts).to_dense().sum()))
                    p[i] -= step
            assert abs((ends[0] - ends[1]) / 2e-5 - float(slope[i].detach())) < 1e-6 * abs(float(value.detach()))


def test_one_matrix_for_two_sizes():
    for kernel in (PatternKernel(), ShellKernel(2, 3), ShellKernel(2, 8, additive=True)):
        x = random_spins((8, 8), 3, seed=1)
        K = kernel(torch.cat([kernel.inputs(x), kernel.inputs(np.tile(x, (1, 4, 4)))])).to_dense().detach()
        torch.testing.assert_close(K[3:, 3:], 256 * K[:3, :3])
        torch.testing.assert_close(K[:3, 3:], 16 * K[:3, :3])


def test_global_inputs_against_their_definition():
    x = random_spins((6, 6), 3, seed=3)
    q = np.indices((6, 6)).reshape(2, -1).T
    S = lambda k: abs((x.reshape(3, -1) * np.exp(2j * np.pi * (q @ k) / 6)).sum(1)) ** 2 / 36
    stars = [[(0, 0)], [(1, 0), (0, 1)], [(1, 1), (1, -1)], [(2, 0), (0, 2)]]
    np.testing.assert_allclose(StructureFactorKernel().inputs(x), np.stack([np.mean([S(k) for k in star], 0) for star in stars], 1), atol=1e-12)
    C = lambda shell: np.mean([(x * np.roll(x, o, (1, 2))).mean((1, 2)) for o in shell], 0)
    np.testing.assert_allclose(PairCorrelationKernel(2, 5).inputs(x), np.stack([C(s) for s in shell_offsets(2, 5)], 1), atol=1e-14)


# ---- the algebra

@pytest.mark.parametrize("name", ["patterns", "patterns, field", "shells", "additive"])
@pytest.mark.parametrize("n", [15, 250])
@pytest.mark.parametrize("known", [False, True])
def test_evidence_slope_and_posterior_against_dense_matrices(name, n, known):
    kernels, rng = (KERNELS[name](),), np.random.default_rng(n)
    x, y = random_spins((5, 6), n, seed=4), 6 * rng.standard_normal(n)
    problem = _problem(kernels, x, y, rng.uniform(1, 3, n) if known else np.zeros(n))
    theta = _hyperprior(kernels, 1.0).mean + rng.uniform(-1, 1, 3 + kernels[0].sizes.shape[1])
    theta[0] = -2.0
    w = np.exp(_log_variances(kernels, theta)[0])
    G, cross = (problem.psi * w) @ problem.psi.T + np.diag(problem.variance + np.exp(-2.0) * 30), problem.psi * w
    for form in (problem, _reduced(problem)):
        found = _solve(form, kernels, theta)
        assert abs(found.log_evidence - multivariate_normal(cov=G).logpdf(y)) < 1e-7
        ends = [[_solve(form, kernels, theta + s * step).log_evidence for s in (1, -1)] for step in 1e-4 * np.eye(len(theta))]
        np.testing.assert_allclose(found.slope, [(a - b) / 2e-4 for a, b in ends], atol=2e-5, rtol=1e-5)
        c = _component(form, kernels, theta, 1.0)
        np.testing.assert_allclose(c.mean, cross.T @ np.linalg.solve(G, y), atol=1e-9)
        np.testing.assert_allclose(c.root @ c.root.T, np.diag(w) - cross.T @ np.linalg.solve(G, cross), atol=1e-10 * w.max())
    assert len(_reduced(problem).y) == (min(n, len(w)) if not known else n)


@pytest.mark.parametrize("noise", ["none", "homoscedastic"])
@pytest.mark.parametrize("n", [12, 60])
def test_what_is_left_to_judge_by_is_the_trace_of_the_residual_maker(noise, n):
    x = random_spins((4, 4), n, seed=n)
    x[-3:] = -x[:3]  # the same again
    gp = ExtensiveGP(ShellKernel(), noise=noise, average=False).fit(x, Ising((4, 4), J2=0.1, K=0.2).energy(x)[:, None])
    first = np.unique(symmetric_forms(x, True).reshape(n, -1), axis=0, return_index=True)[1]
    psi, (c,) = lattice_kernels._psi(gp.kernels, x[first]), gp.fitted.components
    K = psi * np.exp(lattice_kernels._log_variances(gp.kernels, c.theta)[0]) @ psi.T
    expected = np.trace(np.linalg.solve(K + 16 * c.per_site * np.eye(len(K)), 16 * c.per_site * np.eye(len(K))))
    assert len(first) < n and np.isclose(gp.spare, expected, rtol=1e-5, atol=1e-6) and 0 <= gp.spare <= len(first)


def test_log_variances_are_the_kernels_weights():
    for make in KERNELS.values():
        kernel = make()
        theta = np.random.default_rng(5).normal(size=3 + kernel.sizes.shape[1])
        kernel.correlation, kernel.linear = 1 / (1 + np.exp(-theta[3:])), np.exp(theta[2])
        np.testing.assert_allclose(np.exp(_log_variances((kernel,), theta)[0]), np.exp(theta[1]) * kernel.weights().detach().numpy(), rtol=1e-10)


def test_gpytorch_predicts_the_same():
    class Process(gpytorch.models.ExactGP):
        def __init__(self, x, y, likelihood, kernel):
            super().__init__(x, y, likelihood)
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), gpytorch.kernels.ScaleKernel(kernel)

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    x, new = random_spins((6, 6), 60, seed=1), random_spins((9, 9), 20, seed=2)
    y = Ising((6, 6), K=0.3).energy(x) + np.random.default_rng(1).standard_normal(60)
    gp = ExtensiveGP(noise="homoscedastic", average=False).fit(x, y[:, None])
    top, kernel = gp.fitted.top, PatternKernel()
    kernel.correlation, kernel.linear = 1 / (1 + np.exp(-top[3])), np.exp(top[2])
    model = Process(kernel.inputs(x), torch.tensor(y), gpytorch.likelihoods.GaussianLikelihood(), kernel).double().eval()
    model.covar_module.outputscale, model.likelihood.noise = np.exp(top[1]), 36 * np.exp(top[0])
    with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
        theirs = model(kernel.inputs(new))
    ours = gp.predict(new)
    np.testing.assert_allclose(ours.mean[:, 0], theirs.mean, rtol=1e-6)
    np.testing.assert_allclose(ours.epistemic[:, 0], theirs.variance, rtol=1e-4)


def test_repeated_noisy_configurations_share_their_own_part():
    "Merged rows against a dense matrix in which equivalent configurations have one own part."
    x = random_spins((5, 5), 12, seed=1)
    x[6:] = np.rot90(-x[:6], 1, (1, 2))
    rng = np.random.default_rng(2)
    y, v = 5 * rng.standard_normal(12), rng.uniform(0.5, 2, 12)
    gp = ExtensiveGP(average=False, unit=1.0).fit(x, y[:, None], variance=v)
    theta = gp.fitted.top
    assert len(gp.fitted.y) == 6
    own = np.exp(theta[0]) * 25
    new = np.concatenate([x[:3], random_spins((5, 5), 3, seed=9)])
    psi, psi_new = (_problem(gp.kernels, z, np.zeros(len(z)), np.zeros(len(z))).psi for z in (x, new))
    w, same = np.exp(_log_variances(gp.kernels, theta)[0]), lambda a, b: (symmetric_forms(a)[:, None] == symmetric_forms(b)).all((2, 3))
    cov = lambda p, q, a, b: (p * w) @ q.T + own * same(a, b)
    gain = np.linalg.solve(cov(psi, psi, x, x) + np.diag(v), cov(psi, psi_new, x, new)).T
    p = gp.predict(new)
    np.testing.assert_allclose(p.mean[:, 0], gain @ y, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(p.epistemic[:, 0], np.diag(cov(psi_new, psi_new, new, new) - gain @ cov(psi, psi_new, x, new)), rtol=1e-7, atol=1e-10)


def test_units_of_the_targets_do_not_matter():
    x, new = random_spins((6, 6), 80, seed=1), random_spins((6, 6), 10, seed=2)
    y = Ising((6, 6), J2=0.4).energy(x)[:, None] + np.random.default_rng(1).standard_normal((80, 1))
    one, other = (ExtensiveGP(noise="homoscedastic").fit(x, unit * y).predict(new) for unit in (1.0, 1e9))
    np.testing.assert_allclose(other.mean, 1e9 * one.mean, rtol=1e-4)
    np.testing.assert_allclose(other.variance, 1e18 * one.variance, rtol=1e-2)


# ---- energies of larger lattices

@cache
def spins(L, n, seed, beta=1 / 3):
    "Configurations of the model with plaquettes."
    burn, thin = (300, 20) if L < 32 else (2000, 50)
    run = sample(Ising((L, L), K=0.2), beta, draws=-(-n // 4), chains=4, burn_in=burn, thin=thin, seed=seed, progress=False)
    return run["config"].values.reshape(-1, L, L)[:n]


def energy(x, far=0.0):
    "With plaquettes, and pairs at distance 3, which no 3x3 pattern holds."
    return Ising(x.shape[1:], K=0.2).energy(x) - far * sum((x * np.roll(x, 3, a)).sum((1, 2), dtype=float) for a in (1, 2))


def test_from_eight_to_thirty_two():
    "Target: error per site below 2e-3 J, from 300 configurations."
    gp = ExtensiveGP().fit(x := spins(8, 300, 1), energy(x)[:, None])
    new = spins(32, 200, 2)
    error = (gp.predict(new).mean[:, 0] - energy(new)) / 1024
    assert np.sqrt((error**2).mean()) < 2e-3
    assert abs(error).max() < 1e-9  # what exact targets in the span should give


@pytest.mark.parametrize("kernel, model", [(ShellKernel(3, 2, True), dict(J=1.0, J2=0.2, K=0.1)), (ShellKernel(3, 2, additive=True), dict(J2=-0.3)),
                                           (ShellKernel(2, 2, True, False, False), dict(J2=0.2, K=0.3, h=0.4)), (PatternKernel(False), dict(K=0.3, h=0.4))])
def test_models_in_the_span_are_learned_to_rounding(kernel, model):
    small, large = (4,) * kernel.ndim, (7,) * kernel.ndim
    x, new = random_spins(small, 150, seed=1), random_spins(large, 20, seed=2)
    p = ExtensiveGP(kernel, average=False).fit(x, Ising(small, **model).energy(x)[:, None]).predict(new)
    assert abs(p.mean[:, 0] - Ising(large, **model).energy(new)).max() < 1e-10
    assert p.epistemic.max() < 1e-8


def coverage(L, repetitions, far=0.0, noise=0.0, beta=1 / 3, seed=0):
    "Share of 95 % intervals that hold, at 32 x 32: the mean over training sets, and its error over these."
    x, new = (spins(*size, seed + k, beta) for k, size in ((1, (L, 300 * repetitions)), (2, (32, 8 * repetitions))))
    x, new, rows = x.reshape(repetitions, 300, L, L), new.reshape(repetitions, 8, 32, 32), []
    for r in range(repetitions):
        rng = np.random.default_rng([r, 3])
        y = energy(x[r], far) + noise * L * rng.standard_normal(300)
        p = ExtensiveGP(noise="homoscedastic" if noise else "none", seed=r).fit(x[r], y[:, None]).predict(new[r])
        target = energy(new[r], far) + noise * 32 * rng.standard_normal(8)
        low, high = p.interval(0.95)
        rows.append(((low[:, 0] < target) & (target < high[:, 0])).mean())
    return np.mean(rows), np.std(rows, ddof=1) / np.sqrt(repetitions)


@pytest.mark.parametrize("case", [dict(L=8, noise=0.05), dict(L=16, far=0.05)], ids=["noisy from 8", "outside the span from 16"])
def test_coverage_at_thirty_two(case):
    "Target: 92 to 98 %, over 80 training sets of 300 and 8 configurations each; its own error is below 1.2 %."
    value, error = coverage(repetitions=80, **case)
    assert 0.92 <= value <= 0.98 and error < 0.012, f"{value:.3f} ± {error:.3f}"


@pytest.mark.xfail(strict=True, reason="87 %: eight sites are a ring on which distance 3 is distance 5 as well, and the errors at 32 have a mean")
def test_coverage_outside_the_span_from_eight():
    "The same target, for pairs at distance 3 and training at 8 x 8 where the model orders: missed, see the notebook."
    value, error = coverage(L=8, far=0.05, repetitions=40)
    assert 0.92 <= value <= 0.98, f"{value:.3f} ± {error:.3f}"


def test_variance_grows_with_the_lattice():
    gp = ExtensiveGP(ShellKernel(2, 1)).fit(x := spins(8, 300, 1)[:100], energy(x)[:, None])
    new = random_spins((8, 8), 20, seed=3)
    one, sixteen = gp.predict(new), gp.predict(np.tile(new, (1, 4, 4)))
    own = sum(c.weight * c.per_site for c in gp.fitted.components)
    np.testing.assert_allclose(sixteen.mean, 16 * one.mean, rtol=1e-10)
    np.testing.assert_allclose(sixteen.epistemic - 1024 * own, 256 * (one.epistemic - 64 * own), rtol=1e-8)


# ---- whole functions

def exact_posterior(gp, new):
    "Mean and covariance at new configurations from dense matrices over configurations, at one choice of hyperparameters."
    f, theta = gp.fitted, gp.fitted.top
    psi, psi_new = (_problem(gp.kernels, z, np.zeros(len(z)), np.zeros(len(z))).psi for z in (f.x, new))
    w = np.exp(_log_variances(gp.kernels, theta)[0])
    G, cross = (psi * w) @ psi.T + np.diag(f.variance + np.exp(theta[0]) * f.x[0].size), (psi_new * w) @ psi.T
    return cross @ np.linalg.solve(G, f.y), (psi_new * w) @ psi_new.T - cross @ np.linalg.solve(G, cross.T)


def whitened(draws, mean, covariance, least=1e-6):
    "Draws (k, n) in the directions that the covariance has, each with expected variance one."
    values, vectors = np.linalg.eigh(covariance)
    kept = values > least * values[-1]
    return (draws - mean) @ vectors[:, kept] / np.sqrt(values[kept])


def assert_standard(u):
    "Independent rows of normal numbers with unit covariance: their means, variances and correlations, by their joint law and by the largest."
    k, d = u.shape
    pairs = np.triu_indices(d)
    z_mean = u.mean(0) * np.sqrt(k)
    z = (u.T @ u / k - np.eye(d))[pairs] * np.sqrt(k / np.where(pairs[0] == pairs[1], 2, 1))
    for scores in (z_mean, z):
        assert 1e-4 < chi2.sf((scores**2).sum(), len(scores)) < 1 - 1e-4
        assert abs(scores).max() < norm.isf(5e-5 / len(scores))


@pytest.mark.parametrize("noise", ["none", "homoscedastic"])
def test_functions_have_the_exact_mean_and_covariance_at_500_points(noise):
    x, y = random_spins((6, 6), 60, seed=1), np.random.default_rng(1).standard_normal(60)
    gp = ExtensiveGP(ShellKernel(2, 2), noise=noise, average=False).fit(x, (Ising((6, 6)).energy(x) + 3 * y)[:, None])
    new = np.concatenate([random_spins((6, 6), 250, seed=2), spins(6, 250, 3)])
    mean, covariance = exact_posterior(gp, new)
    u = whitened(gp.functions(20000, seed=4)(new), mean, covariance)
    assert u.shape[1] >= 15
    assert_standard(u)
    if noise == "homoscedastic":
        np.testing.assert_allclose(gp.predict(new).epistemic[:, 0], np.diag(covariance), rtol=1e-6, atol=1e-9)


def test_functions_are_a_mixture_over_the_averaged_hyperparameters():
    x = random_spins((6, 6), 40, seed=1)
    gp = ExtensiveGP(noise="homoscedastic").fit(x, (Ising((6, 6)).energy(x) + 5 * np.random.default_rng(1).standard_normal(40))[:, None])
    p = gp.predict(new := random_spins((6, 6), 30, seed=2))
    f = gp.functions(20000, seed=3)(new)
    z = (f.mean(0) - p.mean[:, 0]) / np.sqrt(p.epistemic[:, 0] / 20000)
    square = (f - p.mean[:, 0]) ** 2
    z2 = (square.mean(0) - p.epistemic[:, 0]) / (square.std(0) / np.sqrt(20000))
    assert max(abs(z).max(), abs(z2).max()) < 4.5 and len(gp.fitted.components) > 10


@sites_sums
@pytest.mark.parametrize("L", [2, 3, 6])
def test_differences_of_single_sites(name, L):
    kernel, rng = KERNELS[name](), np.random.default_rng(L)
    f, x = ExtensiveGP(kernel).prior_functions(4, seed=1), random_spins((L,) * kernel.ndim, 15, seed=1)
    sites = rng.integers(0, x[0].size, 15)
    turned = x.reshape(15, -1).copy()
    turned[np.arange(15), sites] *= -1
    whole = f(turned.reshape(x.shape)) - f(x)
    np.testing.assert_allclose(f.differences(x, sites).T, whole, rtol=0, atol=1e-13 * abs(f(x)).max())
    assert f.differences(x, sites).any()


@sites_sums
def test_differences_look_at_nothing_else(name):
    "At a cost that does not depend on the lattice: whatever is farther than twice the reach may be anything."
    kernel = KERNELS[name]()
    L, d = (40, 24, 14)[kernel.ndim - 1], kernel.ndim
    reach = 1 if "patterns" in name else int(max(abs(o).max() for o in shell_offsets(d, kernel.config[2])))
    f, x = ExtensiveGP(kernel).prior_functions(3, seed=1), random_spins((L,) * d, 1, seed=2)
    middle = np.ravel_multi_index((L // 2,) * d, (L,) * d)
    hidden, window = np.zeros_like(x), (slice(None), *[slice(L // 2 - 2 * reach, L // 2 + 2 * reach + 1)] * d)
    hidden[window] = x[window]
    assert (hidden == 0).any() and np.array_equal(f.differences(hidden, np.array([middle])), f.differences(x, np.array([middle])))
    tables = [lattice_kernels._geometry(kernel.config, (side,) * d).touched.shape[1] for side in (L, L - 1)]
    assert tables[0] == tables[1]


def test_chunks_seeds_and_sizes():
    gp = ExtensiveGP().fit(x := spins(8, 300, 1)[:80], energy(x)[:, None])
    new = random_spins((8, 8), 50, seed=1)
    f, g, other = gp.functions(6, seed=1), gp.functions(6, seed=1), gp.functions(6, seed=2)
    assert np.array_equal(f(new), g(new)) and not np.array_equal(f(new), other(new)) and f(new).shape == (6, 50)
    np.testing.assert_allclose(f(new, chunk=9), f(new), rtol=1e-12, atol=1e-12)
    same, changed = ExtensiveGP(seed=0).fit(x, energy(x)[:, None]), ExtensiveGP(seed=3).fit(x, energy(x)[:, None])
    assert np.array_equal(same.predict(new).draws, gp.predict(new).draws) and not np.array_equal(changed.predict(new).draws, gp.predict(new).draws)


def test_equivalent_configurations_share_all_of_a_draw():
    gp = ExtensiveGP(ShellKernel(2, 1)).fit(x := spins(8, 300, 1)[:60], energy(x)[:, None])
    new = random_spins((8, 8), 3, seed=5)
    p = gp.predict(np.concatenate([new, np.roll(np.rot90(-new, 1, (1, 2)), 3, 1), x[:2]]))
    np.testing.assert_allclose(p.draws[:, :3], p.draws[:, 3:6], rtol=1e-12)
    np.testing.assert_allclose(p.draws[:, 6:, 0], np.tile(energy(x[:2]), (200, 1)), rtol=1e-12)
    assert p.epistemic[:6].min() > 1e-3 and abs(p.epistemic[6:]).max() < 1e-9


# ---- calibration over functions from the prior

def world(r, noise, draws=63):
    "One function from the prior, 40 values of it, and the ranks of three new ones and of the hyperparameters."
    gp, rng = ExtensiveGP(noise=noise, unit=1.0, seed=r, restarts=2), np.random.default_rng([r, 6])
    f = gp.prior_functions(1, seed=r + 5000)
    up = lambda n: np.where(np.arange(n) % 2, 0.7, 0.5)[:, None, None]
    x, new = (np.where(rng.random((n, L, L)) < up(n), 1, -1).astype(np.int8) for n, L in ((40, 6), (3, 8)))
    width = np.exp(f.theta[0, 0] / 2)
    own = rng.standard_normal(40)[distinct_rows(symmetric_forms(x))[1]] if noise == "none" else rng.standard_normal(40)
    p = gp.fit(x, (f(x)[0] + 6 * width * own)[:, None]).predict(new)
    target, (low, high) = f(new)[0] + 8 * width * rng.standard_normal(3), p.interval(0.95)
    ranks = (p.sample(draws, seed=r)[:, :, 0] < target).sum(0), (gp.functions(draws, seed=r).theta < f.theta).sum(0)
    return np.concatenate(ranks), ((low[:, 0] < target) & (target < high[:, 0])).mean()


def test_ranks_and_coverage_over_200_functions_from_the_prior():
    "Hyperparameters are drawn with the functions, and averaged over by the fit."
    ranks, inside = (np.array(part) for part in zip(*(world(r, "none") for r in range(200))))
    p = np.concatenate([v for v in rank_test(ranks).values()])
    assert p.min() * len(p) > 0.01
    assert abs(inside.mean() - 0.95) < 3 * inside.std() / np.sqrt(200)


# ---- Matheron's rule

def test_pathwise_draws_of_a_sum_over_sites():
    kernel = gpytorch.kernels.ScaleKernel(ShellKernel(2, 1)).double()
    kernel.outputscale = 0.3
    x, new = (kernel.base_kernel.inputs(random_spins((6, 6), n, seed=n)).numpy() for n in (30, 500))
    y, A, B = np.random.default_rng(1).standard_normal(30), _covariance(kernel, x, x) + np.eye(30), _covariance(kernel, new, x)
    f = pathwise_draws(kernel, x, y, 1.0, 5000, seed=1)
    assert_standard(whitened(f(new), B @ np.linalg.solve(A, y), _covariance(kernel, new, new) - B @ np.linalg.solve(A, B.T)))


# ---- the contract

def test_saved_and_loaded(tmp_path):
    for kernel, options, variance in ((None, {}, None), ([PatternKernel(), ShellKernel(2, 4, additive=True)], dict(average=False), np.full(30, 0.5)),
                                      (ShellKernel(3, 1, False, True, False), dict(noise="homoscedastic", unit=2.0), None)):
        ndim = 2 if kernel is None or isinstance(kernel, list) else kernel.ndim
        x = random_spins((4,) * ndim, 30, seed=1)
        gp = ExtensiveGP(kernel, **options).fit(x, x.reshape(30, -1).sum(1, keepdims=True) ** 2.0, variance)
        gp.save(path := tmp_path / "gp.safetensors")
        again, new = ExtensiveGP.load(path), random_spins((5,) * ndim, 6, seed=2)
        a, b = gp.predict(new), again.predict(new)
        assert np.array_equal(a.draws, b.draws) and np.array_equal(a.mean, b.mean) and np.array_equal(a.variance, b.variance)
        assert gp.summary() == again.summary() and repr(gp) == repr(again)


def test_a_refused_fit_leaves_the_process_as_it_was():
    gp = ExtensiveGP().fit(x := spins(8, 300, 1)[:40], energy(x)[:, None])
    before = gp.predict(new := random_spins((8, 8), 5, seed=1)).draws
    for bad in (lambda: gp.fit(x, np.full((40, 1), np.nan)), lambda: gp.fit(np.concatenate([x, -x]), np.arange(80.0)[:, None]),
                lambda: gp.fit(x, energy(x)[:, None], variance=np.zeros(40)), lambda: gp.fit(x, 1e200 * np.ones((40, 1)))):
        with pytest.raises(ValueError):
            bad()
        assert np.array_equal(gp.predict(new).draws, before)


def test_threads_do_not_matter():
    assert_threads_do_not_matter("""
import hashlib, numpy as np
from uqphys.lattice_kernels import ExtensiveGP
from uqphys.models import Ising, random_spins
x = random_spins((6, 6), 200, seed=1)
gp = ExtensiveGP(noise="homoscedastic").fit(x, Ising((6, 6)).energy(x)[:, None] + np.random.default_rng(1).standard_normal((200, 1)))
print(hashlib.sha256(gp.predict(random_spins((12, 12), 40, seed=2)).draws.tobytes()).hexdigest())
""")


@pytest.mark.parametrize("case", ["tables, 8 x 8", "random waves, pair correlations, 8 x 8"])
def test_a_hundred_functions_at_a_hundred_thousand_configurations(case):
    "Target: below 30 s and 2 GB, measured in a process of its own."
    script = Path(__file__).resolve().parents[1] / "studies" / "bench_pathwise.py"
    done = subprocess.run([sys.executable, str(script), "--case", case], capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    assert "100 x 100000" in row["name"] and row["seconds"] < 30 and row["peak_bytes"] < 2e9


# ---- bad calls

X, Y = random_spins((4, 4), 6, seed=1), np.arange(6.0)[:, None]


@cache
def fitted():
    return ExtensiveGP(noise="homoscedastic", restarts=1).fit(X, Y)


RBF, LINE = gpytorch.kernels.RBFKernel().double(), np.linspace(0, 1, 5)[:, None]


K = "lattice_kernels."
COUNT, FLAG = "whole number", "True or False"
TABLE = [
    *rows_of(K + "check_dimension", lambda t, v: check_dimension(v), "ndim", [(0, "0"), (4, "4"), (2.0, r"2\.0"), (True, "True")], "must"),
    *rows_of(K + "PatternKernel", lambda t, v: PatternKernel(v), "flip_symmetric", [(1, "1"), (None, "None")], FLAG),
    *rows_of(K + "ShellKernel", lambda t, v: ShellKernel(v), "ndim", [(0, "0"), (4, "4"), ("2", "'2'")], "must"),
    *rows_of(K + "ShellKernel", lambda t, v: ShellKernel(2, v), "shells", [(0, "0"), (5, "5"), (10**9, "1000000000"), (1.5, r"1\.5")], "must"),
    *rows_of(K + "ShellKernel", lambda t, v: ShellKernel(2, v, additive=True), "shells", [(41, "41")], "at most 40"),
    *rows_of(K + "ShellKernel", lambda t, v: ShellKernel(1, 1, v), "plaquettes", [(True, "True"), (0, "0")], "must"),
    *rows_of(K + "ShellKernel", lambda t, v: ShellKernel(additive=v), "additive", [("yes", "yes")], FLAG),
    *rows_of(K + "PairCorrelationKernel", lambda t, v: PairCorrelationKernel(shells=v), "shells", [(0, "0"), (51, "51")], "must"),
    *rows_of(K + "PairCorrelationKernel", lambda t, v: PairCorrelationKernel().inputs(v), "x", [(X[0], r"\(4, 4\)"), (2 * X, "2|-2")], "expected|must"),
    *rows_of(K + "StructureFactorKernel", lambda t, v: StructureFactorKernel(stars=v), "stars", [(0, "0"), (-1, "-1"), (51, "51")], "must"),
    *rows_of(K + "StructureFactorKernel", lambda t, v: StructureFactorKernel().inputs(v), "x", [(random_spins((4, 6), 2, seed=1), r"\(2, 4, 6\)"), (random_spins((3, 3), 2, seed=1), r"\(2, 3, 3\)")], "equal lengths"),
    *rows_of(K + "SiteSumKernel", lambda t, v: PatternKernel()(torch.ones(2, v, dtype=torch.float64)).to_dense(), "x", [(3, r"\(2, 3\)")], "expected counts"),
    *rows_of(K + "SiteSumKernel", lambda t, v: setattr(PatternKernel(), "correlation", v), "correlation", [(1.0, r"1\.0"), (-0.1, r"-0\.1"), ("a", "'a'"), ([0.1, 0.2], "0.1")], "between 0 and 1"),
    *rows_of(K + "SiteSumKernel", lambda t, v: setattr(PatternKernel(), "linear", v), "linear", [(0.0, r"0\.0"), (np.nan, "nan")], "above 0"),
    *rows_of(K + "SiteSumKernel", lambda t, v: PatternKernel().prior_draws(v, 0), "k", [(0, "0")], COUNT),
    *rows_of(K + "SiteSumKernel", lambda t, v: PatternKernel().prior_draws(1, v), "seed", [(-1, "-1")], COUNT),
    *rows_of(K + "SiteSumKernel", lambda t, v: ShellKernel(3).inputs(v), "x", [(X, r"\(6, 4, 4\)"), (None, "None")], "expected"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(v), "kernel", [("rbf", "rbf"), (RBF, "RBF"), ([], r"\[\]"), ([PatternKernel(), ShellKernel(3)], "shells")], "expected"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(noise=v), "noise", [("some", "some"), (None, "None")], "must"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(average=v), "average", [(1, "1")], FLAG),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(restarts=v), "restarts", [(0, "0")], COUNT),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(unit=v), "unit", [(0.0, r"0\.0"), (-1, "-1"), ("J", "'J'"), (np.inf, "inf")], "expected None"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(draws=v), "draws", [(1, "1"), (2.5, r"2\.5")], COUNT),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(seed=v), "seed", [(-1, "-1")], COUNT),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().fit(v, Y), "x", [(X[:1], "1"), (X.astype(float) / 2, "0.5"), (random_spins((4,), 6, seed=1), r"\(6, 4\)")], "expected|must|needed"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().fit(X, v), "y", [(Y[:, 0], r"\(6,\)"), (np.ones((6, 2)), r"\(6, 2\)"), (Y * np.nan, "nan"), (1e200 * Y, r"5e\+200")], "expected"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().fit(X, Y + v), "y", [(1e12, r"1e\+12")], "subtract a constant"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP(unit=v).fit(X, Y), "unit", [(1e-20, "1e-20"), (1e-60, "1e-60")], "subtract a constant"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().fit(np.concatenate([X, v]), 1e-19 * np.arange(12.0)[:, None]), "y", [(-X, r"6e-19")], "must agree"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().fit(X, Y, v), "variance", [(1.0, r"1\.0"), (np.zeros(6), "0"), (-np.ones(6), "-1"), (np.ones(5), "1"), ("a", "'a'"), (np.full(6, np.inf), "inf")], "expected"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().fit(np.concatenate([X, v]), np.arange(12.0)[:, None]), "y", [(-X, r"6\.0")], "must agree"),
    *rows_of(K + "ExtensiveGP", lambda t, v: getattr(ExtensiveGP(), v)(*([3, 0] if v == "functions" else [X] if v == "predict" else [])), "fitted", [("predict", "not"), ("functions", "not"), ("summary", "not")], "call fit"),
    *rows_of(K + "ExtensiveGP", lambda t, v: fitted().functions(v, 0), "k", [(0, "0"), (1.5, r"1\.5")], COUNT),
    *rows_of(K + "ExtensiveGP", lambda t, v: fitted().functions(1, v), "seed", [(None, "None")], COUNT),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP().prior_functions(v, 0), "k", [(-1, "-1")], COUNT),
    *rows_of(K + "ExtensiveGP", lambda t, v: fitted().predict(v), "x", [(X[0], r"\(4, 4\)"), (random_spins((3, 3, 3), 1, seed=1), r"\(1, 3, 3, 3\)"), (0 * X, "0")], "expected|must"),
    *rows_of(K + "ExtensiveGP", lambda t, v: ExtensiveGP.load(v), "path", [("/nowhere/gp", "nowhere")], "expected"),
    *rows_of(K + "SiteFunctions", lambda t, v: fitted().functions(2, 0)(v), "x", [(np.ones((0, 4, 4)), r"\(0, 4, 4\)"), (0 * X, "0")], "expected|must"),
    *rows_of(K + "SiteFunctions", lambda t, v: fitted().functions(2, 0)(X, v), "chunk", [(0, "0")], COUNT),
    *rows_of(K + "SiteFunctions", lambda t, v: fitted().functions(2, 0).differences(v, np.zeros(6, int)), "x", [(X.astype(float), "float64"), (X[:, ::2], r"\(6, 2, 4\)"), (X[0], r"\(4, 4\)"), (X.tolist(), "list"), (0 * X, "no spin")], "expected|must"),
    *rows_of(K + "SiteFunctions", lambda t, v: fitted().functions(2, 0).differences(X, v), "sites", [(np.full(6, 16), "16"), (np.full(6, -1), "-1"), (np.zeros(5, int), "0"), (np.zeros(6), "0.")], "expected 6 whole numbers"),
]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *wanted = TABLE[row]
    fitted()
    assert_refused(call, None, *wanted)


def test_every_public_callable_stands_in_the_table():
    assert_complete([lattice_kernels], TABLE, {})
