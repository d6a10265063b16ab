"""Committees: the calibration of few members, the split of noise, recombinations, who sees which rows, and the surrogate."""
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from uqphys import committees
from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.committees import EnsembleNet, calibrate_exact, calibrate_noisy, recombinations
from uqphys.datasets import Samples


def gaussian_committee(rng, n, members, alpha, noise=0.0):
    "Errors and variances of a committee that fits the assumptions."
    width = np.exp(rng.normal(size=(n, 1)))
    y = width * rng.normal(size=(members, n, 1))
    truth = alpha * width * rng.normal(size=(n, 1)) + np.sqrt(noise) * rng.normal(size=(n, 1))
    return truth - y.mean(0), y.var(0, ddof=1)


def fitted(*args, groups=None, **options):
    "A committee fitted in silence."
    data = args[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EnsembleNet(*args[:-1], **options).fit(*data, groups=groups, progress=False)


@pytest.fixture(scope="module")
def line():
    "Noisy points of a smooth function."
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(60, 1))
    return x, np.sin(2 * x) + 0.2 * rng.normal(size=x.shape)


# ---- the size of the spread

@pytest.mark.parametrize("members", [6, 8, 20])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
def test_the_unbiased_factor_is_right_and_the_plain_average_is_wrong_as_foretold(members, alpha):
    rng = np.random.default_rng([members, int(10 * alpha)])
    errors, variances = gaussian_committee(rng, 100_000, members, alpha)
    for by in ("moments", "likelihood"):
        found = calibrate_exact(errors, variances, members, by=by)
        assert abs(found.alpha[0] - alpha) < 4 * found.alpha_error[0] < 0.4 * alpha
    terms = errors**2 / variances
    expected = (alpha**2 + 1 / members) * (members - 1) / (members - 3)
    assert abs(terms.mean() - expected) < 5 * terms.std() / np.sqrt(len(terms))
    assert terms.mean() > alpha**2 + 5 * terms.std() / np.sqrt(len(terms))


def test_by_moments_is_the_formula_of_the_paper():
    errors, variances = gaussian_committee(np.random.default_rng(8), 50, 5, 1.2)
    formula = -1 / 5 + 2 / 4 * (errors**2 / variances).mean()
    assert np.isclose(calibrate_exact(errors, variances, 5, by="moments").alpha[0], np.sqrt(formula))


def test_by_likelihood_is_the_scale_of_students_law():
    errors, variances = gaussian_committee(np.random.default_rng(9), 40, 5, 1.2)
    found = calibrate_exact(np.hstack([errors, 3 * errors]), np.hstack([variances, variances]), 5).alpha
    for k, factor in enumerate((1, 3)):
        _, _, scale = stats.t.fit(factor * errors / np.sqrt(variances), fdf=4, floc=0)
        assert np.isclose(found[k], np.sqrt(scale**2 - 1 / 5), rtol=1e-3)


@pytest.mark.parametrize("members,n", [(4, 100), (8, 20)])
def test_the_stated_error_is_right_for_few_members_and_for_few_rows(members, n):
    share, sets = {}, [gaussian_committee(np.random.default_rng([13, members, seed]), n, members, 1.5) for seed in range(400)]
    for by in ("likelihood", "moments"):
        found = [calibrate_exact(*data, members, by=by) for data in sets]
        share[by] = np.mean([abs(c.alpha[0] - 1.5) < 2 * c.alpha_error[0] for c in found])
        assert np.isnan([c.alpha_error[0] for c in found]).all() == (by == "moments" and members < 6)  # no error rather than one that means nothing
    assert share["likelihood"] > 0.89 > 0.86 > share["moments"]  # 0.95 if the estimate were normal; the scatter of a share is 0.015


def test_the_stated_error_of_alpha_is_the_scatter_of_alpha_also_for_correlated_rows():
    z = []
    for seed in range(200):
        errors, variances = gaussian_committee(np.random.default_rng([7, seed]), 200, 12, 1.5)
        groups = np.repeat(np.arange(200), 5)
        found = calibrate_exact(np.repeat(errors, 5, 0), np.repeat(variances, 5, 0), 12, groups=groups)
        z.append((found.alpha[0] - 1.5) / found.alpha_error[0])
    assert abs(np.mean(z)) < 0.35 and 0.8 < np.std(z) < 1.25
    assert np.isnan(calibrate_exact(errors, variances, 12, groups=np.zeros(200)).alpha_error).all()


def test_a_committee_that_is_better_than_its_spread_has_factor_zero():
    errors, variances = gaussian_committee(np.random.default_rng(3), 400, 8, 0.0)
    assert calibrate_exact(errors * 0.1, variances, 8).alpha[0] == 0


def test_noise_is_told_from_spread():
    z = []
    for seed in range(25):
        errors, variances = gaussian_committee(np.random.default_rng([11, seed]), 300, 8, 1.5, noise=2.0)
        found = calibrate_noisy(errors, variances, np.ones_like(errors), 8)
        z.append([np.log(found.alpha[0] / 1.5) * found.alpha[0] / found.alpha_error[0], np.log(found.noise[0] / 2) * found.noise[0] / found.noise_error[0]])
    assert (abs(np.mean(z, 0)) < 0.6).all() and (np.std(z, 0) < 1.5).all() and (np.std(z, 0) > 0.6).all()


def test_where_noise_is_all_the_raw_committee_is_kept_and_the_error_says_so():
    errors = np.random.default_rng(5).normal(size=(50, 1))
    found = calibrate_noisy(errors, np.full((50, 1), 1e-8), np.ones((50, 1)), 8)
    assert np.isclose(found.alpha[0], 1, rtol=0.05) and np.isclose(found.alpha_error[0] / found.alpha[0], 1, rtol=0.1)
    assert np.isclose(found.noise[0], np.mean(errors**2), rtol=0.02)
    fixed = calibrate_noisy(errors, np.full((50, 1), 1e-8), np.ones((50, 1)), 8, alpha=1.0)
    assert fixed.alpha[0] == 1 and fixed.alpha_error[0] == 0 and np.isclose(fixed.noise[0], found.noise[0], rtol=1e-3)


@pytest.mark.parametrize("members,tiny", [(32, 1e-30), (100, 1e-12)])
def test_a_row_on_which_all_members_agree_does_not_spoil_the_others(members, tiny):
    rng = np.random.default_rng(17)
    errors, variances = gaussian_committee(rng, 300, members, 1.5, noise=0.25)
    plain = calibrate_noisy(errors, variances, np.ones_like(errors), members)
    more = calibrate_noisy(np.vstack([errors, [[0.3]]]), np.vstack([variances, [[tiny]]]), np.ones((301, 1)), members)
    assert abs(more.alpha[0] / plain.alpha[0] - 1) < 0.01 and abs(more.noise[0] / plain.noise[0] - 1) < 0.03


# ---- functions

@pytest.mark.parametrize("freedom", [None, 3, 7])
def test_recombinations_have_exact_moments(freedom):
    y, w = np.random.default_rng(1).normal(size=(8, 4)), recombinations(8, 300, seed=2, degrees_of_freedom=freedom)
    f = y.mean(0) + w @ (y - y.mean(0))
    size = 1 if freedom is None else freedom / (freedom - 2)
    assert np.allclose(f.mean(0), y.mean(0)) and np.allclose(np.cov(f.T, bias=True), size * np.cov(y.T))
    assert np.array_equal(w, recombinations(8, 300, seed=2, degrees_of_freedom=freedom))


@pytest.mark.parametrize("members,subsample", [(8, 0.5), (12, 2 / 3), (8, 0.8), (8, 1.0)])
def test_whole_groups_are_unseen_by_equally_many(members, subsample):
    chain = np.repeat(np.arange(15), 4)
    unseen = committees._unseen(Samples(np.zeros((60, 1)), np.zeros((60, 1)), chain, np.zeros(60, dtype=int)), members, subsample, True, 1)
    assert all(len({tuple(column) for column in unseen[:, chain == c].T}) == 1 for c in range(15))
    rows, who = committees._judges(unseen)
    assert np.take_along_axis(unseen[:, rows], who, 0).all()
    if round((1 - subsample) * members) >= 4:
        assert len(rows) == 60 and np.ptp(unseen.sum(1)) <= 4
    else:
        assert len(rows) == 12 and len(who) == members


# ---- the surrogate

@pytest.mark.parametrize("noise", ["none", "homoscedastic", "heteroscedastic"])
@pytest.mark.parametrize("calibrate", [True, False])
def test_predictions_are_consistent_and_saved_to_the_bit(line, noise, calibrate, tmp_path):
    options = dict(members=5, noise=noise, calibrate=calibrate, draws=60, epochs=15)
    surrogate, x = fitted(MLP((1,), (6,)), line, **options), np.linspace(-3, 3, 7)[:, None]
    p, c = surrogate.predict(x), surrogate.calibration
    f = committees._outputs(surrogate, x)[0]
    assert np.allclose(p.mean, f.mean(0)) and np.allclose(p.mean, surrogate.mean(x))
    assert np.allclose(p.epistemic, (c.alpha**2 + 1 / 5) * 2 * f.var(0, ddof=1)) and np.allclose(p.draws.var(0), p.epistemic)
    assert (p.aleatoric > 0).all() == (noise != "none") and (p.degrees_of_freedom == 4) == (noise == "none")
    assert np.allclose(surrogate.members(x).std(0), c.alpha * f.std(0)) and (calibrate or (c.alpha == 1).all())
    surrogate.save(tmp_path / "committee")
    again = EnsembleNet.load(tmp_path / "committee")
    q = again.predict(x)
    assert all(np.array_equal(getattr(p, k), getattr(q, k)) for k in ("mean", "epistemic", "aleatoric", "draws"))
    assert again.options == surrogate.options and again.diagnostics == surrogate.diagnostics and repr(again) == repr(surrogate)


def test_the_same_seed_gives_the_same_bits_and_nothing_global_changes(line):
    state = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    one, two, other = (fitted(MLP((1,), (5,)), line, members=4, epochs=10, seed=s).mean(line[0]) for s in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert torch.equal(state[0], torch.get_rng_state()) and state[1] == np.random.get_state()[1].tobytes()


def test_intervals_of_an_exact_target_hold_their_share():
    rng = np.random.default_rng(4)
    x, new = rng.uniform(-1, 1, size=(200, 2)), rng.uniform(-1, 1, size=(500, 2))
    truth = lambda x: np.sin(3 * x[:, :1]) * np.cos(2 * x[:, 1:])
    surrogate = fitted(MLP((2,), (10,)), (x, truth(x)), noise="none", members=8, epochs=40)
    low, high = surrogate.predict(new).interval(0.9)
    assert 0.8 < ((low < truth(new)) & (truth(new) < high)).mean() < 0.97


def test_energies_scale_with_the_lattice_and_so_do_all_variances():
    rng = np.random.default_rng(6)
    x = rng.choice([-1, 1], size=(60, 4, 4)).astype(np.int8)
    y = -(x * (np.roll(x, 1, 1) + np.roll(x, 1, 2))).sum((1, 2))[:, None] + rng.normal(size=(60, 1))
    large = np.tile(x, (1, 2, 2))  # the same surroundings, four times
    for noise in ("homoscedastic", "heteroscedastic"):
        surrogate = fitted(LocalEnergyNet(2, hidden=(4,)), (x, y), noise=noise, members=4, epochs=10)
        p, q = surrogate.predict(x), surrogate.predict(large)
        assert np.allclose(q.mean, 4 * p.mean) and np.allclose(q.epistemic, 16 * p.epistemic) and np.allclose(q.aleatoric, 4 * p.aleatoric, atol=0)
        assert 0.01 < p.aleatoric.min() and p.aleatoric.max() < 30  # few rows cannot make the noise vanish


def test_the_own_loss_is_a_log_density():
    outputs, y = torch.tensor([[0.3, 1.0, -0.5, 0.2]], dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    f, log_s = committees._halves(outputs, 1)
    exact = -stats.norm.logpdf(y.numpy(), f.numpy(), np.exp(log_s.numpy())).sum() - np.log(2 * np.pi)
    assert np.isclose(float(committees._gaussian_loss(1)(outputs, y)), exact)


def test_doubts_are_spoken(line):
    with pytest.warns(UserWarning, match="size of the spread"):
        surrogate = EnsembleNet(MLP((1,), (5,)), members=4, epochs=5).fit(*line, progress=False)
    assert len(surrogate.doubts) == 2 and "variance of the noise" in surrogate.doubts[1]


def test_doubts_of_few_chains_and_of_nothing_to_see(line):
    x, y = line
    told = committees._told
    new = EnsembleNet(noise="none")
    new.calibration = committees.Calibration(*np.array([[1.0], [0.1], [0.0], [0.0]]))
    data = Samples(x, y, np.arange(60) // 12, np.zeros(60, dtype=int))
    assert told(new, data, np.arange(60), 1.0)[1] == ()
    assert "itself known badly" in told(new, data, np.arange(48), 1.0)[1][0]
    flat = fitted(MLP((1,), (3,)), (x, 0 * y + 3), members=4, noise="none", epochs=3)
    assert flat.calibration.alpha[0] == 0 and "size of the spread" in flat.doubts[0]
    one = fitted(MLP((1,), (3,)), line, groups=np.arange(60) // 15, members=4, calibrate=False, epochs=3)
    assert np.isnan(one.calibration.noise_error[0]) and "variance of the noise" in one.doubts[0]


def test_three_chains_are_enough_where_nothing_is_judged(line):
    free = fitted(MLP((1,), (3,)), line, groups=np.arange(60) // 20, members=4, noise="none", calibrate=False, epochs=2)
    assert free.diagnostics["unseen_rows"] == 0 and free.diagnostics["learned_share"] == 1 and free.doubts == ()


@pytest.mark.parametrize("members,subsample,share", [(8, 0.5, 0.5), (8, 0.75, 0.6), (8, 1.0, 0.8)])
def test_the_share_that_members_learn_from_is_told(line, members, subsample, share):
    told = fitted(MLP((1,), (3,)), line, members=members, subsample=subsample, epochs=1).diagnostics["learned_share"]
    assert abs(told - share) < 0.01


def test_targets_of_any_unit_are_learned_or_refused(line):
    x, y = line
    for noise in ("none", "homoscedastic", "heteroscedastic"):
        plain, small = (fitted(MLP((1,), (4,)), (x, c * y), noise=noise, members=4, epochs=15) for c in (1, 1e-8))
        assert np.sqrt(np.mean((1e8 * small.mean(x) - plain.mean(x)) ** 2)) < 0.2 and 0.3 < np.mean(1e16 * small.predict(x).epistemic) / np.mean(plain.predict(x).epistemic) < 3
        with pytest.raises(ValueError, match="y with a spread of .*e-22: expected at least 1e-9"):
            fitted(MLP((1,), (4,)), (x, 1e-21 * y), noise=noise, members=4, epochs=15)
    constant = fitted(MLP((1,), (3,)), (x, 0 * y + 0.1), members=4, epochs=3)
    assert "all the same" in constant.doubts[-1]


@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_fails_changes_nothing(line):
    x, y = line
    new, good = EnsembleNet(MLP((1,), (3,)), members=4, epochs=2), fitted(MLP((1,), (3,)), line, members=4, epochs=2)
    before = good.predict(x).draws, repr(good)
    for surrogate in (new, good):
        with pytest.raises(ValueError):
            surrogate.fit(x, y * 1e200, progress=False)
    assert "not fitted" in repr(new) and np.array_equal(good.predict(x).draws, before[0]) and repr(good) == before[1]
    with pytest.raises(ValueError, match="not fitted"):
        new.predict(x)


def test_a_loaded_committee_without_a_network_of_its_own_may_be_fitted_to_other_targets(line, tmp_path):
    x, y = line
    fitted(None, line, members=4, epochs=1).save(tmp_path / "committee")
    again = EnsembleNet.load(tmp_path / "committee")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert again.fit(x, np.hstack([y, y]), progress=False).mean(x).shape == (60, 2)


@pytest.mark.parametrize("call,message", [
    (lambda: EnsembleNet(members=3), r"members=3.*>= 4"),
    (lambda: EnsembleNet(subsample=1.5), r"subsample=1\.5.*at most 1"),
    (lambda: EnsembleNet(subsample="x"), r"subsample='x'"),
    (lambda: EnsembleNet(subsample=0.95), r"subsample=0\.95: leaves no group out with 8 members; expected 1, or less than 0\.9375"),
    (lambda: calibrate_exact([[1e200]] * 3, [[1.0]] * 3, 8), r"errors up to 1e\+200"),
    (lambda: calibrate_exact([[1.0]], [[1.0]], 8, by="eye"), "by='eye'"),
    (lambda: EnsembleNet(draws=9), r"draws=9.*members \+ 2"),
    (lambda: EnsembleNet(7), r"network=7"),
    (lambda: EnsembleNet().mean(np.zeros((2, 1))), "not fitted"),
    (lambda: EnsembleNet(MLP((1,), (4,)), subsample=0.1).fit(np.zeros((8, 1)), np.zeros((8, 1)), groups=np.arange(8) // 2, progress=False), "subsample.*larger share"),
    (lambda: EnsembleNet().fit(np.zeros((8, 1)), np.zeros((8, 1)), groups=np.zeros(8)), "groups.*at least 4"),
    (lambda: calibrate_exact([[1.0]], [[-1.0]], 8), r"variances=-1\.0.*> 0"),
    (lambda: calibrate_exact([[np.nan]], [[1.0]], 8), "errors=nan"),
    (lambda: calibrate_exact([[1.0]], [[1.0]], 8, groups=[1, 2]), r"groups of shape \(2,\)"),
    (lambda: calibrate_noisy([[1.0]], [[1.0]], [[1.0]], 8, alpha=0), "alpha=0"),
    (lambda: recombinations(8, 300, seed=0, degrees_of_freedom=2), "degrees_of_freedom=2"),
    (lambda: recombinations(8, 10**13, seed=0), r"draws=10000000000000: .*at most 1250000"),
    (lambda: calibrate_exact(np.ones((4, 1)), np.ones((4, 1)), 8, groups=[1, "a", None, 2]), r"groups of shape \(4,\), type object"),
    (lambda: calibrate_exact(np.ones((2, 1)), np.ones((2, 1)), 8, groups=[[1], [1, 2]]), "groups of shape"),
    (lambda: calibrate_exact(np.ones((2, 1)), np.ones((2, 1)), 8, groups=[1.0, np.nan]), "groups of shape"),
    (lambda: calibrate_noisy(np.full((4, 1), 1e100), np.ones((4, 1)), np.full((4, 1), 1e-200), 8), r"noise from 1e-200"),
    (lambda: EnsembleNet(MLP((2,), (4,))).fit(np.zeros((60, 1)), np.zeros((60, 1)), progress=False), r"x of shape \(60, 1\)"),
])
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
