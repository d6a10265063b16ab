"""What a Predictive says: three laws held against SciPy, quadrature and samples; scores against their exact expectations."""
from dataclasses import replace

import numpy as np
import pytest
import scoringrules
from scipy import stats
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq
from scipy.special import gamma, polygamma

from uqphys import predictive as module
from uqphys.predictive import Predictive, average_score, calibration, cdf, interval, log_prob, mixture_predictive, sample_predictive, score, take

R = np.array([[1.0, 0.6], [0.6, 1.0]])


def make(law, n=4, d=2, s=7, correlation=R, seed=0):
    "A belief of one of the laws at n inputs."
    rng = np.random.default_rng(seed)
    draws, noise = rng.normal(size=(s, n, d)), rng.uniform(0.1, 1, (s, n, d))
    if law == "mixture":
        return mixture_predictive(draws, noise, correlation)
    return Predictive(draws.mean(0), draws.var(0), noise.mean(0), draws, correlation, 5.0 if law == "student" else None)


laws = pytest.mark.parametrize("law", ["normal", "student", "mixture"])


# ---- the laws

@laws
def test_the_density_is_the_one_of_scipy(law):
    p, y = make(law), np.random.default_rng(1).normal(size=(4, 2))
    total = [R * np.outer(v, v) ** 0.5 for v in p.variance]
    exact = {
        "normal": lambda i: stats.multivariate_normal(p.mean[i], total[i]).logpdf(y[i]),
        "student": lambda i: stats.multivariate_t(p.mean[i], 0.6 * total[i], df=5).logpdf(y[i]),
        "mixture": lambda i: np.log(np.mean([stats.multivariate_normal(f, R * np.outer(v, v) ** 0.5).pdf(y[i]) for f, v in zip(p.draws[:, i], p.noise[:, i])])),
    }[law]
    np.testing.assert_allclose(log_prob(p, y), [exact(i) for i in range(4)], rtol=1e-12)
    assert np.array_equal(p.log_prob(y), log_prob(p, y))


@laws
def test_the_density_has_norm_one_and_the_moments_that_it_says(law):
    p = make(law, n=1)
    density = lambda b, a: np.exp(log_prob(p, [[a, b]])[0])
    side = np.linspace(-9, 9, 181)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    many = take(p, np.zeros(len(grid), dtype=int))
    weight = np.exp(log_prob(many, grid)) * 0.1**2
    tail = 2e-3 if law == "student" else 1e-9
    assert abs(weight.sum() - 1) < tail
    np.testing.assert_allclose(weight @ grid, p.mean[0], atol=20 * tail)
    np.testing.assert_allclose(weight @ (grid - p.mean[0]) ** 2, p.variance[0], rtol=40 * tail + 1e-9)
    assert abs(dblquad(density, -1, 1, -1, 1)[0] - weight.reshape(181, 181)[80:101, 80:101].sum()) < 0.05  # the same density, integrated otherwise


@laws
def test_cdf_is_the_integral_of_the_density(law):
    p = make(law, d=1, correlation=None)
    for i, b in enumerate((-1.0, 0.0, 0.4, 2.0)):
        one = take(p, [i])
        assert abs(quad(lambda u: np.exp(log_prob(one, [[u]])[0]), -np.inf, b, epsabs=1e-11)[0] - cdf(one, [[b]])[0, 0]) < 1e-8


@laws
@pytest.mark.parametrize("level", [1e-6, 0.5, 0.95, 1 - 1e-9])
def test_interval_inverts_cdf(law, level):
    p = make(law, n=50, s=200)
    low, high = interval(p, level)
    assert np.abs(cdf(p, low) - (0.5 - level / 2)).max() < 1e-12 and np.abs(cdf(p, high) - (0.5 + level / 2)).max() < 1e-12
    assert (low < high).all()


def test_quantiles_of_hard_mixtures():
    # narrow, far apart and of very different widths: Newton alone would leave or crawl
    rng = np.random.default_rng(2)
    draws, noise = rng.choice([-1, 1], (40, 60, 1)) * rng.uniform(0, 9, (1, 60, 1)), 10 ** rng.uniform(-9, 1, (40, 60, 1))
    p = mixture_predictive(draws, noise)
    for level in (0.31, 0.92, 0.999):  # not at a plateau, k of 40 components, where any value between two peaks is a quantile
        low, high = interval(p, level)
        for i in range(60):
            target = lambda u, q: stats.norm.cdf(u, draws[:, i, 0], noise[:, i, 0] ** 0.5).mean() - q
            exact = [brentq(target, -60, 60, args=(q,), xtol=1e-13) for q in (0.5 - level / 2, 0.5 + level / 2)]
            np.testing.assert_allclose([low[i, 0], high[i, 0]], exact, atol=1e-8 * p.variance[i, 0] ** 0.5)


def test_a_quantile_beyond_a_needle():
    p = mixture_predictive(np.array([-1, 0.1 * stats.norm.ppf(0.95), 1]).reshape(3, 1, 1), np.array([0.1, 1e-12, 0.1]).reshape(3, 1, 1) ** 2)
    assert abs(cdf(p, interval(p, 0.9)[1])[0, 0] - 0.95) < 1e-7


@pytest.mark.parametrize("level", [1 - 1.2e-16, 1e-17, 0, 1, np.nan])
def test_levels_that_rounding_makes_certain_are_refused(level):
    with pytest.raises(ValueError, match="level="):
        interval(make("mixture"), level)


def test_nothing_to_judge_is_refused():
    p = make("normal")
    with pytest.raises(ValueError, match=r"levels of shape \(0,\)"):
        calibration(p, p.mean, [])
    sure = Predictive([[0.0], [1.0]], [[0.0], [0.0]], [[0.0], [0.0]], [[[0.0], [1.0]]])
    with pytest.raises(ValueError, match="predictive: a batch of inputs has no uncertainty"):
        average_score(sure, [[0.0], [1.0]], 2)


def test_draws_that_agree_and_have_hardly_any_noise_have_an_interval():
    p = Predictive([[2.0]], [[0.0]], [[0.0]], np.full((5, 1, 1), 2.0), noise=np.zeros((5, 1, 1)))
    assert np.allclose(interval(p, 0.9), 2.0) and np.isclose(cdf(p, [[1.9]])[0, 0], 0) and np.isclose(cdf(p, [[2.1]])[0, 0], 1)


def test_a_mixture_has_the_moments_of_total_variance():
    rng = np.random.default_rng(3)
    draws, noise = rng.normal(size=(6, 3, 2)), rng.uniform(1, 2, (6, 3, 2))
    p = mixture_predictive(draws, noise)
    assert np.array_equal(p.mean, draws.mean(0)) and np.array_equal(p.epistemic, draws.var(0)) and np.array_equal(p.aleatoric, noise.mean(0))
    q = mixture_predictive(draws)
    assert q.noise is None and not q.aleatoric.any() and np.isfinite(score(q, draws[0])["negative_log_density"])


# ---- samples

@laws
def test_samples_follow_the_law(law):
    rng, size = np.random.default_rng(4), 20000
    p = make(law, n=2)
    if law == "normal":  # whose draws must themselves be normal
        root = np.sqrt(p.epistemic)
        p = Predictive(p.mean, p.epistemic, p.aleatoric, p.mean + rng.multivariate_normal([0, 0], R, (size, 2)) * root, R)
    if law == "student":  # noise only, where the law of the sum is exact
        p = Predictive(p.mean, np.zeros((2, 2)), p.aleatoric, p.mean[None], R, 5.0)
    y = sample_predictive(p, size, seed=5)
    few = p if law == "mixture" else replace(p, draws=p.draws[:1])  # the law itself does not need the draws
    for i in range(2):
        for k in range(2):
            column = take(few, np.full(size, i))
            assert stats.kstest(cdf(column, y[:, i])[:, k], "uniform").pvalue > 1e-3
    between = np.cov(p.draws[:, 0].T, bias=True) if law != "student" else 0
    within = R * (np.sqrt(p.aleatoric[0][:, None] * p.aleatoric[0]) if law != "mixture" else np.sqrt(p.noise[:, 0, :, None] * p.noise[:, 0, None]).mean(0))
    np.testing.assert_allclose(np.cov(y[:, 0].T), between + within, atol=0.06)
    assert stats.kstest(1.1 * cdf(take(few, np.zeros(size, dtype=int)), y[:, 0])[:, 0], "uniform").pvalue < 1e-6  # it can fail


def test_with_both_the_law_is_student_and_samples_use_the_noise_of_each_draw():
    # inverse-gamma noise shared by all inputs of a draw makes the t exactly; here draws carry it
    rng, s = np.random.default_rng(6), 20000
    noise = np.broadcast_to((3.0 / rng.chisquare(5, (s, 1, 1))), (s, 2, 1))  # variance 1 on average
    p = Predictive(np.zeros((2, 1)), np.zeros((2, 1)), np.ones((2, 1)), np.zeros((s, 2, 1)), degrees_of_freedom=5, noise=noise)
    y = sample_predictive(p, s, 0)
    assert stats.kstest(y[:, 0, 0], stats.t(5, scale=0.6**0.5).cdf).pvalue > 1e-3
    exact = polygamma(1, 2.5) / (polygamma(1, 2.5) + polygamma(1, 0.5))  # correlation of log sizes that share a chi-square of 5
    assert abs(np.corrcoef(np.log(np.abs(y[:, :, 0])).T)[0, 1] - exact) < 4 / np.sqrt(s)
    assert np.allclose(log_prob(p, np.ones((2, 1))), stats.t(5, scale=0.6**0.5).logpdf(1))


def test_samples_are_reproducible_and_joint():
    p = make("mixture", n=3)
    assert np.array_equal(p.sample(9, seed=1), p.sample(9, seed=1)) and not np.array_equal(p.sample(9, seed=1), p.sample(9, seed=2))
    ramp = Predictive(np.zeros((2, 1)), np.ones((2, 1)), np.full((2, 1), 1e-12), np.random.default_rng(0).normal(size=(500, 1, 1)) * np.ones((1, 2, 1)))
    y = ramp.sample(300)
    assert np.abs(y[:, 0] - y[:, 1]).max() < 1e-4


def test_fewer_samples_than_draws_are_taken_from_all_of_them():
    # draws are stored chain by chain: the first half is one chain
    draws = np.repeat([-1.0, 1.0], 100).reshape(200, 1, 1) * np.ones(2)
    p = mixture_predictive(draws, np.full(draws.shape, 1e-4))
    means = [p.sample(100, seed).mean() for seed in range(20)]
    assert np.abs(means).max() < 0.5 and np.std(means) > 0.01  # mean 0, scatter 0.07 without replacement
    assert p.sample(200, 0)[:, 0, 0].round().sum() == 0  # all draws, once each
    parts = [p.sample(300, seed)[:, 0, 0].round().sum() for seed in range(20)]
    assert np.std(parts) > 2  # the third hundred is chosen at random too
    scores = score(take(p, [0]), [[-1.0, -1.0]])["energy_score"], score(take(p, [0]), [[1.0, 1.0]])["energy_score"]
    assert abs(scores[0] - scores[1]) < 0.5  # a belief that is symmetric; half of the chains gave 0.004 and 2.8


def test_samples_of_a_student_law_share_their_size_across_inputs():
    n, size, nu = 50, 40000, 4
    p = Predictive(np.zeros((n, 1)), np.zeros((n, 1)), np.full((n, 1), 2.0), np.zeros((1, n, 1)), degrees_of_freedom=nu)
    averages = p.sample(size, seed=3)[:, :, 0].mean(1) * np.sqrt(n)
    assert stats.kstest(averages, stats.t(nu).cdf).pvalue > 1e-3
    assert stats.kstest(averages / np.sqrt(2), "norm").pvalue < 1e-6  # what one size for each input would give


def test_arrays_are_copies_that_nobody_can_change():
    noise = np.ones((2, 1))
    p = Predictive(np.zeros((2, 1)), np.zeros((2, 1)), noise, np.zeros((1, 2, 1)))
    noise[:] = -1
    assert np.array_equal(p.aleatoric, np.ones((2, 1)))
    for name in ("mean", "epistemic", "aleatoric", "draws"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(p, name)[:] = 7


# ---- scores

@laws
def test_crps_is_its_integral(law):
    p, y = make(law, d=1, correlation=None), np.array([[0.3], [-2.0], [1.5], [0.0]])
    for i in range(4):
        one, value = take(p, [i]), y[i, 0]
        F = lambda u: cdf(one, [[u]])[0, 0]
        exact = quad(lambda u: F(u) ** 2, -80, value, limit=500)[0] + quad(lambda u: (1 - F(u)) ** 2, value, 80, limit=500)[0]
        assert abs(score(one, y[[i]])["crps"] - exact) < 1e-5


def test_crps_of_a_mixture_is_the_one_of_the_library():
    rng = np.random.default_rng(7)
    for s in (1, 2, 5, 8):
        centre, width, y = rng.normal(size=(9, s)), np.exp(rng.normal(size=(9, s))), rng.normal(size=9)
        np.testing.assert_allclose(module._crps_mixture(y, centre, width), scoringrules.crps_mixnorm(y, centre, width), rtol=1e-12)


def test_expected_scores_are_exact():
    rng, n = np.random.default_rng(8), 40000
    zero, one = np.zeros((n, 1)), np.ones((n, 1))
    y = rng.standard_normal((n, 1))
    marks = module._crps(Predictive(zero, zero, one, zero[None]), y)
    assert abs(marks.mean() - 1 / np.sqrt(np.pi)) < 4 * marks.std() / np.sqrt(n)
    t = rng.standard_t(5, (n, 1)) * 0.6**0.5
    marks = module._crps(Predictive(zero, zero, one, zero[None], degrees_of_freedom=5), t)
    other = rng.standard_t(5, (n, 1)) * 0.6**0.5
    gap = np.abs(t - other)  # half the mean distance of two draws is the expected score of an honest prediction
    assert abs(marks.mean() - gap.mean() / 2) < 4 * np.hypot(marks.std(), gap.std() / 2) / np.sqrt(n)
    entropy = score(Predictive(zero, zero, one, zero[None]), y)["negative_log_density"]
    assert abs(entropy - 0.5 * np.log(2 * np.pi * np.e)) < 4 * np.sqrt(0.5 / n)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_expected_energy_score_is_exact_and_without_bias(d):
    n = 1500
    y = np.random.default_rng(9).standard_normal((n, d))
    p = Predictive(np.zeros((n, d)), np.zeros((n, d)), np.ones((n, d)), np.zeros((1, n, d)))
    marks = module._energy_score(p, y)
    assert abs(marks.mean() - gamma((d + 1) / 2) / gamma(d / 2)) < 4 * marks.std() / np.sqrt(n)


def test_the_energy_score_has_no_bias_of_its_100_samples():
    n = 1500  # y = 0, so that nothing but the samples scatters
    marks = module._energy_score(Predictive(np.zeros((n, 2)), np.zeros((n, 2)), np.ones((n, 2)), np.zeros((1, n, 2))), np.zeros((n, 2)))
    error = marks.std() / np.sqrt(n)
    assert abs(marks.mean() - (np.sqrt(np.pi / 2) - np.sqrt(np.pi) / 2)) < 4 * error and error < 0.0015  # the usual estimate is off by 0.0089


@pytest.mark.parametrize("name", ["negative_log_density", "crps", "energy_score"])
@laws
def test_honest_beliefs_score_best(law, name):
    p = make(law, n=1)
    p = take(p, np.zeros(1000, dtype=int))
    source = p if law != "student" else Predictive(p.mean, 0 * p.mean, p.variance, p.mean[None], R, 5.0)
    if law == "normal":
        source = Predictive(p.mean, 0 * p.mean, p.variance, p.mean[None], R)
    y = np.stack([take(source, [0]).sample(1000, 11)[:, 0]])[0]
    honest = score(source, y)[name]
    for a, shift in ((0.6, 0), (1.6, 0), (1, 0.4)):
        liar = Predictive(source.mean + shift, a**2 * source.epistemic, a**2 * source.aleatoric, shift + source.mean + a * (source.draws - source.mean), R,
                          source.degrees_of_freedom, None if source.noise is None else a**2 * source.noise)
        assert score(liar, y)[name] > honest


def test_plain_checks():
    n = 20000
    y, p = np.random.default_rng(12).standard_normal((n, 1)), Predictive(np.zeros((n, 1)), np.full((n, 1), 0.3), np.full((n, 1), 0.7), np.zeros((1, n, 1)))
    found = score(p, y)
    for level in (0.5, 0.9, 0.95):
        assert abs(found[f"coverage_{round(100 * level)}"] - level) < 4 * np.sqrt(level * (1 - level) / n)
        low, high = interval(p, level)
        assert found[f"coverage_{round(100 * level)}"] == np.mean((low <= y) & (y <= high)) == calibration(p, y, [level])[0]
    assert np.isclose(found["sharpness"], 1) and abs(found["mean_square_z"] - 1) < 4 * np.sqrt(2 / n)
    assert list(found)[:2] == ["root_mean_square_error", "negative_log_density"]


def test_average_score_sees_errors_in_common_and_single_scores_do_not():
    rng = np.random.default_rng(13)
    offset = rng.standard_normal((800, 1, 1))
    joint = Predictive(np.zeros((40, 1)), np.ones((40, 1)), np.full((40, 1), 0.25), offset * np.ones((1, 40, 1)))
    apart = Predictive(joint.mean, joint.epistemic, joint.aleatoric, rng.permuted(joint.draws, axis=0))
    worlds = rng.standard_normal((300, 1, 1)) + 0.5 * rng.standard_normal((300, 40, 1))
    z, crps, single = ([[read(p, w) for w in worlds] for p in (joint, apart)] for read in (
        lambda p, w: average_score(p, w, 40)["mean_square_z"], lambda p, w: average_score(p, w, 40)["crps"], lambda p, w: score(p, w)["crps"]))
    assert abs(np.mean(z[0]) - 1) < 5 * np.sqrt(2 / 300 + 2 / 800) and np.mean(z[1]) > 10
    assert np.mean(crps[1]) > np.mean(crps[0]) + 0.05 and np.array_equal(single[0], single[1])
    assert average_score(joint, worlds[0], 7)["batches"] == 5
    gap = np.array([average_score(apart, w, 40)["joint_energy_score"] - average_score(joint, w, 40)["joint_energy_score"] for w in worlds[:100]])
    assert gap.mean() > 5 * gap.std(ddof=1) / 10


def test_the_joint_energy_score_is_that_of_the_library_and_has_no_bias():
    rng = np.random.default_rng(21)
    members, truth = rng.normal(size=(30, 4, 6)), rng.normal(size=(4, 6))
    library = scoringrules.es_ensemble(truth, np.moveaxis(members, 0, 1), m_axis=-2, v_axis=-1, estimator="fair").mean()
    assert abs(module._joint_energy_score(members, truth) - library) < 1e-12
    found = [module._joint_energy_score(rng.standard_normal((5, 40, 3)), rng.standard_normal((40, 3))) for _ in range(100)]
    exact = gamma(2) / gamma(1.5)  # half the mean distance of two standard normal vectors in three dimensions
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / 10


def test_the_energy_score_of_a_mixture_of_two_draws():
    "Pairs of samples share a draw half of the time; if each draw came equally often they would do so too rarely, by one in a hundred."
    p = mixture_predictive(np.ones((2, 500, 2)) * np.array([-1.0, 1.0])[:, None, None], np.full((2, 500, 2), 1e-10))
    found = [module._energy_score(p.take([0]), np.zeros((1, 2)), seed)[0] for seed in range(1500)]
    exact = 2**0.5 * (1 - 0.5)
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / 1500**0.5 < 0.002
    chosen = module._members(p, 4000, 0)[:, 0, 0] > 0
    assert abs(chosen.mean() - 0.5) < 4 * 0.5 / 4000**0.5 and chosen.sum() != 2000
    assert np.array_equal(module._members(p, 5, 1), module._members(p, 5, 1)) and p.draws.flags.writeable is False


def test_the_joint_score_takes_all_outputs_of_a_batch_as_one_vector():
    p, y = make("mixture", n=6, d=2, s=200), np.random.default_rng(5).normal(size=(6, 2))
    rows = np.random.default_rng(3).permutation(6).reshape(2, 3)
    members = module._members(p, 200, 3)[:, rows].reshape(200, 2, 6)
    library = scoringrules.es_ensemble(y[rows].reshape(2, 6), np.moveaxis(members, 0, 1), m_axis=-2, v_axis=-1, estimator="fair").mean()
    assert average_score(p, y, 3, seed=3)["joint_energy_score"] == pytest.approx(library, rel=1e-12)


# ---- edges

def test_no_noise_but_ignorance_is_scored_and_certainty_is_refused():
    sure = dict(mean=[[0.0]], aleatoric=[[0.0]], draws=np.zeros((2, 1, 1)))
    assert all(np.isfinite(v) for v in score(Predictive(epistemic=[[1.0]], **sure), [[0.5]]).values())
    with pytest.raises(ValueError, match="variance=0"):
        log_prob(Predictive(epistemic=[[0.0]], **sure), [[0.0]])
    with pytest.raises(ValueError, match="noise=0"):
        log_prob(Predictive(**{**sure, "draws": [[[-1.0]], [[1.0]]]}, epistemic=[[1.0]], noise=np.zeros((2, 1, 1))), [[0.0]])


@laws
def test_take_gives_the_same_beliefs(law):
    p, y = make(law, n=6), np.random.default_rng(14).normal(size=(6, 2))
    for rows in ([4, 1], slice(2, 5), np.array([True, False, True, False, False, True]), -1):
        chosen = np.atleast_1d(np.arange(6)[rows])
        q = p.take(rows)
        assert np.array_equal(q.log_prob(y[chosen]), p.log_prob(y)[chosen]) and np.array_equal(q.draws, p.draws[:, chosen])
        np.testing.assert_allclose(q.interval(0.9), np.array(p.interval(0.9))[:, chosen], atol=1e-12)


def test_sizes_and_shapes_are_refused_by_name():
    p = make("normal")
    for call, says in ((lambda: p.sample(10**18), "k=1000000000000000000: expected at most"), (lambda: calibration(p, p.mean, [[0.1], [0.2, 0.3]]), "levels="),
                       (lambda: Predictive([[0.0]], [[1e308]], [[1e308]], [[[0.0]]]), "epistemic \\+ aleatoric=inf")):
        with pytest.raises(ValueError, match=says):
            call()
    assert isinstance(hash(p), int)


@pytest.mark.parametrize("rows", [[], [9], "all", 0.5, [True, False], [[0, 1]]])
def test_take_refuses(rows):
    with pytest.raises(ValueError, match="rows=.*expected"):
        take(make("normal"), rows)


SPREAD = np.sqrt(1.5) * np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1)  # of variance 1


@pytest.mark.parametrize("bad, says", [
    (dict(degrees_of_freedom=2), "degrees_of_freedom=2"), (dict(degrees_of_freedom="many"), "degrees_of_freedom='many'"), (dict(degrees_of_freedom=np.inf), "inf"),
    (dict(correlation=[[4.0]]), r"correlation=\[\[4.0\]\].*ones on the diagonal"), (dict(mean=[["1"]]), r"mean=.*real numbers"), (dict(mean=[[1j]]), "mean=.*real numbers"),
    (dict(mean=np.ma.array([[7.0]], mask=[[True]])), "mean=.*real numbers"), (dict(mean=[[None]]), "mean=.*real numbers"), (dict(mean=[[1.0], [1, 2]]), "mean=.*real numbers"),
    (dict(mean=np.zeros((0, 1))), r"mean of shape \(0, 1\)"), (dict(mean=np.zeros((1, 0))), r"mean of shape \(1, 0\)"),
    (dict(noise=np.full((3, 1, 1), 2.0), draws=SPREAD), "aleatoric=1 at input 0: must be 2"), (dict(noise=np.ones((3, 1, 1)), draws=SPREAD + 5), "mean=0 at input 0: must be 5"),
    (dict(noise=np.ones((3, 1, 1))), "epistemic=1 at input 0: must be 0"),
    (dict(noise=np.ones((3, 1))), r"noise of shape \(3, 1\)"), (dict(noise=-np.ones((3, 1, 1))), "noise=-1"), (dict(noise=np.full((3, 1, 1), np.nan)), "noise=nan")])
def test_what_is_no_law_is_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        Predictive(**{**dict(mean=[[0.0]], epistemic=[[1.0]], aleatoric=[[1.0]], draws=np.zeros((3, 1, 1))), **bad})


def test_text_names_the_law():
    assert "mixture" in repr(make("mixture")) and "Student t, 5.0" in repr(make("student")) and repr(make("normal")).endswith(")")
    assert "mixture" not in repr(make("normal"))


@pytest.mark.parametrize("more, told", [(dict(law=5), "law=5: must have the methods"), (dict(law="x"), "law='x'.*lacks cdf"),
                                        (dict(law=True, degrees_of_freedom=5.0), "law=True: must have")])
def test_a_law_of_its_own_can_answer(more, told):
    with pytest.raises(ValueError, match=told):
        Predictive(np.zeros((2, 1)), np.zeros((2, 1)), np.ones((2, 1)), np.zeros((3, 2, 1)), **more)
