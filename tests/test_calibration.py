"""Calibration: errors that respect groups, factors with honest errors, and simulation-based calibration that can fail."""
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from uqphys.calibration import (
    Recalibration, calibration_error, coverage_curve, plot_calibration, plot_pit, plot_ranks, plot_scores, plot_sharpness, probability_integral_transform,
    rank_test, recalibrate, rescale, score_errors, sharpness, simulation_based_calibration)
from uqphys.predictive import Predictive, mixture_predictive


def normal(n, sigma=1.0, **more):
    "A belief of mean 0 that is noise only."
    return Predictive(np.zeros((n, 1)), np.zeros((n, 1)), np.full((n, 1), float(sigma) ** 2), np.zeros((1, n, 1)), **more)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# ---- counting

def test_pit_is_uniform_under_the_law_and_not_otherwise():
    rng = np.random.default_rng(0)
    y = rng.standard_t(5, (4000, 1)) * 0.6**0.5
    assert stats.kstest(probability_integral_transform(normal(4000, degrees_of_freedom=5), y)[:, 0], "uniform").pvalue > 0.01
    assert stats.kstest(probability_integral_transform(normal(4000), y)[:, 0], "uniform").pvalue < 1e-4


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_errors_of_the_coverage_are_the_scatter_between_worlds(shared):
    rng, groups = np.random.default_rng(1), np.repeat(np.arange(30), 20)
    observed, error = [], []
    for _ in range(300):
        y = np.sqrt(shared) * rng.standard_normal(30)[groups] + np.sqrt(1 - shared) * rng.standard_normal(600)
        curve = coverage_curve(normal(600), y[:, None], [0.3, 0.6, 0.9], groups)
        observed.append(curve.observed), error.append(curve.error)
    ratio = np.sqrt(np.mean(np.square(error), axis=0)) / np.std(observed, axis=0)
    assert np.all(abs(ratio - 1) < 5 * np.sqrt(0.5 / 300) + 0.03), ratio
    assert np.all(abs(np.mean(observed, axis=0) - [0.3, 0.6, 0.9]) < 4 * np.std(observed, axis=0) / np.sqrt(300))


def test_outputs_of_one_input_are_no_independent_trials():
    rng = np.random.default_rng(2)
    y = np.repeat(rng.standard_normal((500, 1)), 10, axis=1)  # ten times the same number
    p = Predictive(np.zeros((500, 10)), np.zeros((500, 10)), np.ones((500, 10)), np.zeros((1, 500, 10)))
    assert coverage_curve(p, y, [0.5]).error[0] == pytest.approx(np.sqrt(0.25 / 500), rel=0.02)


def test_an_error_is_never_zero_because_nothing_was_outside():
    curve = coverage_curve(normal(20, 9.0), np.zeros((20, 1)), [0.9])
    assert curve.observed[0] == 1 and curve.error[0] == pytest.approx(1 / 22) and curve.groups == 20


def test_names_of_groups_and_their_order_do_not_matter():
    y, rng = np.random.default_rng(3).standard_normal((60, 1)), np.random.default_rng(4)
    number = np.repeat(np.arange(6), 10)
    order = rng.permutation(60)
    one, two = coverage_curve(normal(60), y, groups=number), coverage_curve(normal(60), y[order], groups=np.array(list("abcdef"))[number][order])
    assert np.allclose(one.error, two.error) and np.allclose(one.observed, two.observed)


@pytest.mark.parametrize("sigma", [1.0, 0.8])
@pytest.mark.parametrize("size", [1, 5])
def test_the_squared_calibration_error_is_unbiased(sigma, size):
    rng, levels, worlds = np.random.default_rng(5), np.linspace(0.05, 0.95, 19), 300
    found = [calibration_error(normal(200, sigma), np.repeat(rng.standard_normal((200 // size, 1)), size, axis=0), groups=np.arange(200) // size, resamples=10)
             for _ in range(worlds)]
    exact = np.mean((2 * stats.norm.cdf(sigma * stats.norm.ppf(0.5 + levels / 2)) - 1 - levels) ** 2)
    squares = [f.square for f in found]
    assert abs(np.mean(squares) - exact) < 4 * np.std(squares) / np.sqrt(worlds) + 2e-5
    if sigma == 1:  # what luck gives is what is said
        luck = np.mean([f.value**2 for f in found])
        assert np.mean([f.expected**2 for f in found]) == pytest.approx(luck, rel=0.25)


def test_the_error_of_the_calibration_error_is_its_scatter():
    rng = np.random.default_rng(6)
    found = [calibration_error(normal(300, 0.7), rng.standard_normal((300, 1)), seed=k) for k in range(150)]
    assert np.mean([f.error for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.25)
    assert calibration_error(normal(9), np.ones((9, 1)), seed=3) == calibration_error(normal(9), np.ones((9, 1)), seed=3)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 20.0])
def test_what_luck_gives_does_not_depend_on_the_prediction(sigma):
    levels, y = np.linspace(0.05, 0.95, 19), np.random.default_rng(27).standard_normal((500, 1))
    assert calibration_error(normal(500, sigma), y).expected == pytest.approx(np.sqrt(np.mean(levels * (1 - levels)) / 500), rel=1e-10)
    assert calibration_error(normal(20, 1e-9), y[:20]).expected == pytest.approx(np.sqrt(np.mean(levels * (1 - levels)) / 20), rel=1e-10)


@pytest.mark.parametrize("levels", [None, [0.95]])
def test_the_squared_error_is_unbiased_with_ten_rows_too(levels):
    rng = np.random.default_rng(28)
    squares = [calibration_error(normal(10), rng.standard_normal((10, 1)), levels, resamples=10).square for _ in range(1500)]
    assert abs(np.mean(squares)) < 4 * np.std(squares) / np.sqrt(1500)


def test_sharpness():
    p = normal(5, 2.0)
    assert sharpness(p) == 2 and sharpness(p, 0.9) == pytest.approx(4 * stats.norm.ppf(0.95))


# ---- recalibration

def test_one_factor_is_the_root_mean_square_z_and_its_error_is_known():
    y = np.random.default_rng(7).standard_normal((5000, 1))
    found = recalibrate(normal(5000, 0.5), y)
    assert found.epistemic == found.aleatoric == pytest.approx(np.sqrt(np.mean((y / 0.5) ** 2)), rel=1e-12)
    assert found.error[0] == pytest.approx(2 / np.sqrt(2 * 5000), rel=0.05)


def test_one_factor_of_correlated_outputs_whitens_them():
    rng, R = np.random.default_rng(8), np.array([[1.0, 0.8], [0.8, 1.0]])
    y = rng.multivariate_normal([0, 0], 4 * R, 2000)
    p = Predictive(np.zeros((2000, 2)), np.zeros((2000, 2)), np.ones((2000, 2)), np.zeros((1, 2000, 2)), R)
    found = recalibrate(p, y)
    assert found.epistemic == pytest.approx(np.sqrt(np.mean(np.sum(y @ np.linalg.inv(R) * y, 1)) / 2), rel=1e-12)
    assert abs(found.epistemic - 2) < 4 * found.error[0] and found.error[0] == pytest.approx(2 / np.sqrt(2 * 4000), rel=0.1)


@pytest.mark.parametrize("law", ["normal", "student", "mixture"])
def test_one_factor_has_the_highest_likelihood_and_undoes_a_rescaling(law):
    rng = np.random.default_rng(9)
    draws, noise = rng.normal(size=(15, 300, 1)), rng.uniform(0.2, 1, (15, 300, 1))
    p = mixture_predictive(draws, noise)
    if law != "mixture":
        p = Predictive(p.mean, p.epistemic, p.aleatoric, draws, degrees_of_freedom=4 if law == "student" else None)
    y = 1.5 * rng.standard_normal((300, 1))
    found = recalibrate(p, y)
    best = found.apply(p).log_prob(y).sum()
    assert all(rescale(p, a * found.epistemic, a * found.aleatoric).log_prob(y).sum() < best for a in (0.98, 1.02))
    assert recalibrate(rescale(p, 0.25, 0.25), y).epistemic == pytest.approx(4 * found.epistemic, rel=1e-5)
    assert recalibrate(found.apply(p), y).epistemic == pytest.approx(1, rel=1e-5)


def test_two_factors_and_their_errors_over_many_worlds():
    rng, z = np.random.default_rng(10), []
    for _ in range(120):
        true = 0.1 + rng.uniform(-2, 2, (400, 1)) ** 2
        y = true * rng.standard_normal((400, 1)) + 0.5 * rng.standard_normal((400, 1))
        found = recalibrate(Predictive(0 * y, (true / 2) ** 2, np.full((400, 1), 1.0), np.zeros((1, 400, 1))), y, "parts")
        z.append((np.log([found.epistemic / 2, found.aleatoric / 0.5])) * [found.epistemic, found.aleatoric] / np.array(found.error))
    z = np.array(z)
    assert np.all(abs(z.mean(0)) < 0.25 + 4 / np.sqrt(120)) and np.all(abs(z.std(0) - 1) < 0.3), (z.mean(0), z.std(0))


def test_two_factors_of_a_mixture():
    rng, n = np.random.default_rng(11), 1500
    width = np.where(np.arange(n) % 2, 3.0, 0.3)[:, None]
    draws = width * rng.choice([-1.0, 1.0], (20, n, 1))
    y = width * rng.choice([-1.0, 1.0], (n, 1)) + 0.4 * rng.standard_normal((n, 1))
    centred = draws - draws.mean(0)
    p = mixture_predictive(centred, np.full(draws.shape, 0.2**2))
    found = recalibrate(p, y, "parts")
    mended = found.apply(p)
    assert np.allclose(mended.draws.var(0), mended.epistemic) and np.allclose(mended.noise.mean(0), mended.aleatoric)
    assert mended.log_prob(y).sum() >= max(rescale(p, a, b).log_prob(y).sum() for a in (0.8, 1, 1.2) for b in (1, 2, 3)) - 1e-6


def test_errors_of_a_factor_respect_chains():
    rng, groups, factors, errors = np.random.default_rng(12), np.repeat(np.arange(40), 25), [], {True: [], False: []}
    for _ in range(200):
        scale = np.exp(0.5 * rng.standard_normal(40))[groups]
        y = (scale * rng.standard_normal(1000))[:, None]
        factors.append(recalibrate(normal(1000), y, groups=groups).epistemic)
        for grouped in errors:
            errors[grouped].append(recalibrate(normal(1000), y, groups=groups if grouped else None).error[0])
    assert np.sqrt(np.mean(np.square(errors[True]))) == pytest.approx(np.std(factors), rel=0.25)
    assert np.mean(errors[False]) < 0.6 * np.std(factors)


def test_the_quantile_factor_holds_its_share_exactly_at_any_size():
    # 19 rows at level 0.9: rank 18, and the next row is inside with probability 18/20 exactly, whatever the law
    rng, inside = np.random.default_rng(13), []
    for _ in range(2000):
        y = rng.standard_t(2, (20, 1))
        found = recalibrate(normal(19), y[:19], "quantile", 0.9)
        low, high = found.apply(normal(1)).interval(0.9)
        inside.append(low[0, 0] <= y[19, 0] <= high[0, 0])
    assert abs(np.mean(inside) - 0.9) < 4 * np.sqrt(0.09 / 2000)


def test_the_quantile_factor_has_an_honest_error_and_holds_the_chosen_level():
    rng = np.random.default_rng(14)
    z = []
    for _ in range(200):
        found = recalibrate(normal(500, 0.5), rng.standard_normal((500, 1)), "quantile", 0.8)
        z.append((found.epistemic - 2) / found.error[0])
    assert abs(np.mean(z)) < 0.3 and abs(np.std(z) - 1) < 0.25


def test_recalibrated_draws_stay_joint():
    rng = np.random.default_rng(15)
    p = mixture_predictive(rng.normal(size=(200, 1, 1)) * np.ones((1, 30, 1)), np.full((200, 30, 1), 0.1))
    q = Recalibration("total", 3.0, 3.0, (0.1, 0.1), 30).apply(p)
    assert np.allclose(np.corrcoef(q.draws[:, :, 0].T), 1) and np.allclose(q.draws.var(0), q.epistemic)
    assert np.allclose(np.sqrt(q.variance), 3 * np.sqrt(p.variance)) and np.allclose(q.mean, p.mean)


def test_draws_are_stretched_by_the_epistemic_factor_and_noise_by_the_other():
    rng = np.random.default_rng(21)
    p = mixture_predictive(5 + rng.normal(size=(40, 6, 2)), rng.uniform(1, 2, (40, 6, 2)))
    q = rescale(p, 3.0, 0.5)
    assert np.allclose(q.draws - p.mean, 3 * (p.draws - p.mean)) and np.allclose(q.epistemic, 9 * p.epistemic) and np.allclose(q.draws.var(0), q.epistemic)
    assert np.allclose(q.noise, p.noise / 4) and np.allclose(q.aleatoric, p.aleatoric / 4) and np.array_equal(q.mean, p.mean)


def test_the_quantile_factor_of_a_skew_mixture_far_from_zero():
    rng, n = np.random.default_rng(22), 399
    p = mixture_predictive(5 + rng.exponential(size=(30, n, 1)), np.full((30, n, 1), 0.1))
    y = 5.5 + 2 * rng.exponential(size=(n, 1))
    low, high = recalibrate(p, y, "quantile", 0.8).apply(p).interval(0.8)
    assert np.sum((low - 1e-6 <= y) & (y <= high + 1e-6)) == 320  # ceil(400 * 0.8) of 399


def test_factors_that_are_not_settled_are_not_applied():
    found = recalibrate(normal(20), np.zeros((20, 1)))
    with pytest.raises(ValueError, match="not settled by the examples"):
        found.apply(normal(3))
    assert found.apply(normal(3), unsettled=True).variance.max() < 1e-290
    with pytest.raises(ValueError, match="unsettled='yes'"):
        found.apply(normal(3), unsettled="yes")


@pytest.mark.parametrize("count", [2, 9, 10])
def test_two_factors_need_ten_groups_and_then_have_errors_of_the_right_size(count):
    rng, z = np.random.default_rng(30), []
    groups = np.arange(200) % count
    for _ in range(60):
        true = 0.2 + rng.uniform(-2, 2, (200, 1)) ** 2
        y = true * rng.standard_normal((200, 1)) + 0.5 * rng.standard_normal((200, 1))
        p = Predictive(0 * y, (true / 2) ** 2, np.full((200, 1), 0.25), np.zeros((1, 200, 1)))
        if count < 10:
            with pytest.raises(ValueError, match=f"groups: {count} groups; must be at least 10"):
                recalibrate(p, y, "parts", groups=groups)
            return
        found = recalibrate(p, y, "parts", groups=groups)
        z.append((found.epistemic - 2) / found.error[0])
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.5


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_errors_of_scores_are_the_scatter_between_worlds(shared):
    rng, groups, found = np.random.default_rng(31), np.repeat(np.arange(30), 10), []
    p = Predictive(np.zeros((300, 2)), np.full((300, 2), 0.3), np.full((300, 2), 0.7), np.random.default_rng(0).normal(0, 0.3**0.5, (100, 300, 2)))
    for _ in range(60):
        y = np.sqrt(shared) * rng.standard_normal((30, 2))[groups] + np.sqrt(1 - shared) * rng.standard_normal((300, 2))
        found.append((p.score(y), score_errors(p, y, groups)))
    assert list(found[0][0]) == list(p.score(y)) and set(found[0][1]) == set(found[0][0])
    for name in set(found[0][0]) - {"sharpness"}:  # which does not depend on what came
        claim, scatter = np.sqrt(np.mean([e[name] ** 2 for _, e in found])), np.std([s[name] for s, _ in found], ddof=1)
        assert abs(claim / scatter - 1) < 4 * np.sqrt(0.5 / 60), (name, claim, scatter)
    assert found[0][1]["sharpness"] == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_settled_is_said():
    y = np.random.default_rng(16).standard_normal((50, 1))
    with pytest.raises(ValueError, match="method='parts'.*total"):
        recalibrate(normal(50), y, "parts")
    with pytest.raises(ValueError, match="level=0.99"):
        recalibrate(normal(50), y, "quantile", 0.99)
    with pytest.raises(ValueError, match="variance=0"):
        recalibrate(normal(50, 0.0), y)
    with pytest.raises(ValueError, match="positive variance"):
        recalibrate(normal(50, 0.0), y, "quantile")
    # all scatter explained by what grows: the noise's factor runs to its bound, and is reported as not settled
    true = 0.1 + np.linspace(0, 3, 50)[:, None]
    found = recalibrate(Predictive(0 * y, true**2, np.full((50, 1), 0.01), np.zeros((1, 50, 1))), 0.9 * true * np.sign(y), "parts")
    assert np.isinf(found.error[1]) and found.epistemic == pytest.approx(0.9, rel=0.01) and "not settled" in repr(found)


@pytest.mark.parametrize("unit", [1e-12, 1e-4, 1e5, 1e9])
@pytest.mark.parametrize("law", ["student", "mixture"])
def test_factors_of_any_size_are_found(law, unit):
    rng = np.random.default_rng(23)
    y = rng.standard_t(5, (300, 1))
    p = normal(300, unit, degrees_of_freedom=5) if law == "student" else mixture_predictive(unit * rng.normal(size=(9, 300, 1)), np.full((9, 300, 1), unit**2))
    found = recalibrate(p, y)
    assert np.isfinite(found.error[0]) and found.epistemic == pytest.approx(recalibrate(rescale(p, 1 / unit, 1 / unit), y).epistemic / unit, rel=1e-5)


def test_one_wild_row_does_not_hide_the_factor():
    y = np.random.default_rng(24).standard_t(2.1, (200, 1))
    y[0] = 1e12
    found = recalibrate(normal(200, 1.0, degrees_of_freedom=2.1), y)
    likelihood = lambda a: rescale(normal(200, degrees_of_freedom=2.1), a, a).log_prob(y).sum()
    assert max(likelihood(a * found.epistemic) for a in (0.9, 1.1)) < likelihood(found.epistemic) and found.epistemic < 20


def test_a_factor_without_a_best_value_is_not_settled():
    found = recalibrate(normal(20, 1.0, degrees_of_freedom=5), np.zeros((20, 1)))  # the narrower the better, without end
    assert np.isinf(found.error[0]) and "not settled" in repr(found)
    assert np.isinf(recalibrate(normal(20), np.zeros((20, 1))).error[0])


def test_two_factors_far_from_one():
    rng = np.random.default_rng(25)
    true = 0.1 + rng.uniform(-2, 2, (2000, 1)) ** 2
    y = 1e6 * (true * rng.standard_normal((2000, 1)) + 0.5 * rng.standard_normal((2000, 1)))
    found = recalibrate(Predictive(0 * y, true**2, np.full((2000, 1), 0.25), np.zeros((1, 2000, 1))), y, "parts")
    assert abs(found.epistemic / 1e6 - 1) < 4 * found.error[0] / 1e6 < 0.4 and abs(found.aleatoric / 1e6 - 1) < 4 * found.error[1] / 1e6 < 1


@pytest.mark.parametrize("groups, d", [(None, 10), (np.arange(50) // 10, 1)], ids=["outputs", "chains"])
def test_a_level_needs_as_many_independent_groups(groups, d):
    n = 5 if groups is None else 50
    p = Predictive(np.zeros((n, d)), np.zeros((n, d)), np.ones((n, d)), np.zeros((1, n, d)))
    y = np.random.default_rng(26).standard_normal((n, d))
    with pytest.raises(ValueError, match="level=0.9: expected a level below 0.8333, which is what 5 independent groups"):
        recalibrate(p, y, "quantile", 0.9, groups)
    assert recalibrate(p, y, "quantile", 0.8, groups).level == 0.8


# ---- simulation-based calibration

X = np.random.default_rng(17).uniform(-1, 1, 8)
DESIGN = np.stack([np.ones(8), X], 1)
COVARIANCE = np.linalg.inv(np.eye(2) + DESIGN.T @ DESIGN / 0.09)


def line(scale=1.0, shift=0.0):
    "The exact posterior of a line, spoiled."
    factor, sigma = np.linalg.cholesky(COVARIANCE), np.sqrt(np.diag(COVARIANCE))
    return lambda data, seed: COVARIANCE @ DESIGN.T @ data / 0.09 + shift * sigma + scale * np.random.default_rng(seed).standard_normal((63, 2)) @ factor.T


def run(infer, repetitions, **more):
    return simulation_based_calibration(lambda rng: rng.standard_normal(2), lambda w, rng: DESIGN @ w + 0.3 * rng.standard_normal(8), infer, repetitions, 18, **more)


def log_likelihood(w, data):
    return -0.5 * np.sum((data - DESIGN @ w) ** 2) / 0.09


def test_the_exact_posterior_passes():
    ranks = run(line(), 600, quantities=log_likelihood)
    assert ranks.shape == (600, 3) and ranks.dtype.kind == "i" and ranks.min() >= 0 and ranks.max() <= 63
    assert min(p.min() for p in rank_test(ranks).values()) > 0.05 / 12


@pytest.mark.parametrize("infer, test", [(line(np.sqrt(0.8)), "spread"), (line(np.sqrt(1.2)), "spread"), (line(1.0, 0.2), "location"), (line(1.0, 0.2), "kolmogorov_smirnov"),
                                         (line(1.0, -0.3), "chi_square"), (line(np.sqrt(0.5)), "chi_square")])
def test_a_wrong_sampler_is_caught(infer, test):
    assert rank_test(run(infer, 3000))[test].max() < 0.003  # 20 % of variance is expected at 7 standard errors of the spread


def test_the_prior_passes_on_parameters_and_is_caught_by_the_likelihood():
    ranks = run(lambda data, seed: np.random.default_rng(seed).standard_normal((63, 2)), 300, quantities=log_likelihood)
    p = rank_test(ranks)
    assert min(v[:2].min() for v in p.values()) > 0.05 / 8 and p["chi_square"][2] < 1e-10


def test_worlds_do_not_depend_on_their_number_and_long_chains_are_thinned():
    assert np.array_equal(run(line(), 5), run(line(), 9)[:5])
    ramp = lambda data, seed: np.arange(1000.0)[:, None] * np.ones(2) - 500.5
    ranks = run(ramp, 3, draws=9)
    assert ranks.max() <= 9 and np.all((ranks == 4) | (ranks == 5))


def test_equal_values_are_ordered_at_random():
    coin = lambda rng: rng.integers(0, 2, 1).astype(float)
    ranks = simulation_based_calibration(coin, lambda w, rng: None, lambda d, seed: np.random.default_rng(seed).integers(0, 2, (31, 1)).astype(float), 1500, 2, 31)
    assert min(p.min() for p in rank_test(ranks, 31).values()) > 0.01


@pytest.mark.parametrize("draws, bins", [(63, None), (10, 4), (99, 7)])
def test_p_values_are_uniform(draws, bins):
    p = rank_test(np.random.default_rng(19).integers(0, draws + 1, (400, 3000)), draws, bins)
    for name, values in p.items():
        for level in (0.01, 0.05, 0.2):
            assert abs(np.mean(values < level) - level) < 4 * np.sqrt(level * (1 - level) / 3000), (name, level)
        if name != "chi_square":
            assert stats.kstest(values, "uniform").pvalue > 1e-3, name


# ---- pictures and refusals

def test_pictures_show_what_they_are_given():
    y = np.random.default_rng(20).standard_normal((200, 1))
    curve = coverage_curve(normal(200), y)
    ax = plot_calibration({"one": curve, "two": curve})
    assert np.array_equal(ax.lines[1].get_ydata(), curve.observed) and len(ax.get_legend().get_texts()) == 2
    assert plot_calibration(curve).get_legend() is None
    bars = plot_pit(probability_integral_transform(normal(200), y)[:, 0], bins=5).patches
    assert np.mean([bar.get_height() for bar in bars]) == pytest.approx(1) and len(bars) == 5
    ranks = np.arange(64).repeat(4)
    heights = plot_ranks(ranks).patches[0].get_data().values
    assert np.allclose(heights, 1)
    assert [t.get_text() for t in plot_sharpness({"a": normal(5), "b": normal(5, 2)}).get_yticklabels()] == ["a", "b"]
    few = plot_ranks(np.arange(10).repeat(20), draws=9).patches[0].get_data()  # fewer ranks than bins
    assert np.allclose(few.values, 1) and len(few.values) == 10
    p, y = {"a": normal(50), "b": normal(50, 2)}, np.random.default_rng(1).standard_normal((50, 1))
    ax = plot_scores(p, y, "mean_square_z")
    assert np.allclose(ax.lines[0].get_xdata(), [belief.score(y)["mean_square_z"] for belief in p.values()]) and [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    ends = np.array(ax.collections[0].get_segments())[:, :, 0]
    assert np.allclose(np.ptp(ends, axis=1) / 4, [score_errors(belief, y)["mean_square_z"] for belief in p.values()])
    ax = plot_calibration({"one": curve}, errors={"one": (e := calibration_error(normal(200), np.linspace(-2, 2, 200)[:, None]))})
    assert f"by luck {e.expected:.3f}" in ax.get_legend().get_texts()[0].get_text() and len({curve}) == 1
    mine = plt.subplots()[1]
    assert plot_ranks(ranks, ax=mine) is mine


HONEST, SEEN = normal(9), np.ones((9, 1))
BAD = [
    (lambda: coverage_curve(None, SEEN), "predictive=NoneType"), (lambda: coverage_curve(HONEST, SEEN[:3]), r"y of shape \(3, 1\)"),
    (lambda: coverage_curve(HONEST, SEEN, [0.5, 1]), "level=1"), (lambda: coverage_curve(HONEST, SEEN, groups=[1, 2]), r"groups of shape \(2,\)"),
    (lambda: coverage_curve(HONEST, SEEN, groups=np.zeros(9)), "groups: 1 group"), (lambda: calibration_error(HONEST, SEEN, resamples=1), "resamples=1"),
    (lambda: calibration_error(HONEST, SEEN, seed=-1), "seed=-1"), (lambda: sharpness(HONEST, 2), "level=2"), (lambda: sharpness(3), "predictive=int"),
    (lambda: rescale(HONEST, 0, 1), "epistemic=0"), (lambda: rescale(HONEST, 1, np.nan), "aleatoric=nan"), (lambda: rescale(HONEST, "2", 1), "epistemic='2'"),
    (lambda: recalibrate(HONEST, SEEN, "isotonic"), "method='isotonic'"), (lambda: recalibrate(HONEST, SEEN.T), r"y of shape \(1, 9\)"),
    (lambda: rank_test([0.5]), r"ranks=\[0.5\]"), (lambda: rank_test([0, 64]), "ranks=.*0 to 63"), (lambda: rank_test([[[1]]]), "ranks"),
    (lambda: rank_test([1, 2], 3, bins=9), "bins=9"), (lambda: plot_ranks([[1, 2]]), r"ranks of shape \(1, 2\)"), (lambda: plot_ranks([1], ax=3), "ax=3"),
    (lambda: plot_pit([2.0]), "transform=2.0"), (lambda: plot_pit([0.5], bins=10**15), "bins=10+: expected at most"), (lambda: plot_calibration({}), "curves={}"),
    (lambda: calibration_error(HONEST, SEEN, resamples=10**15), "resamples=10+: expected at most"), (lambda: rescale(HONEST, 1e300, 1), r"epistemic=1e\+300"),
    (lambda: score_errors(None, SEEN), "predictive=NoneType"), (lambda: plot_scores({}, SEEN), "predictives={}"), (lambda: plot_scores({"a": 1}, SEEN), "predictive=int"),
    (lambda: plot_scores({"a": HONEST}, SEEN, "crp"), "name='crp'"), (lambda: rank_test([[1], [1, 2]]), "ranks="), (lambda: plot_calibration([1]), r"curves=\[1\]"), (lambda: plot_sharpness({}), "predictives={}"),
    (lambda: plot_sharpness({"a": 1}), "predictive=int"), (lambda: run(None, 3), "infer=None"), (lambda: run(line(), 0), "repetitions=0"),
    (lambda: run(lambda d, s: np.full((63, 2), np.nan), 1), r"infer\(data, seed\)=nan"), (lambda: run(line(), 1, quantities=lambda w, d: np.nan), r"quantities\(parameters, data\)=nan"),
    (lambda: run(line(), 1, quantities=lambda w, d: w[w > 0]), "quantities gave arrays of shapes"), (lambda: run(line(), 1, quantities=lambda w, d: [[1.0]]), "quantities gave arrays"),
    (lambda: simulation_based_calibration(lambda rng: [np.nan], lambda w, rng: 0.0, line()), r"draw_prior\(rng\)=nan"),
    (lambda: simulation_based_calibration(lambda rng: np.ones((2, 3)), lambda w, rng: 0.0, line()), r"draw_prior gave an array of shape \(2, 3\)"),
    (lambda: coverage_curve(HONEST, SEEN, []), r"levels of shape \(0,\)"), (lambda: calibration_error(HONEST, SEEN, []), r"levels of shape \(0,\)"),
    (lambda: simulation_based_calibration(lambda rng: np.ones(rng.integers(1, 4)), lambda w, rng: len(w), lambda d, s: np.random.default_rng(s).normal(size=(63, d))), "draw_prior, quantities gave"),
    (lambda: recalibrate(HONEST, 1e200 * SEEN), r"y: 1e\+200 predicted standard deviations"),
    (lambda: run(line(), 1, draws=64), r"infer gave an array of shape \(63, 2\)"), (lambda: run(line(), 1, quantities=3), "quantities=3"),
]


@pytest.mark.parametrize("call, says", BAD, ids=[says for _, says in BAD])
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
