"""Finite-size scaling: fits and collapses of made-up data with known exponents, repeated until their errors are tested as well;
and the square Ising model, whose exponents are known exactly."""
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from uqphys.analysis import DERIVED, Estimate, estimates, gamma_error
from uqphys.exact import BETA_C, transfer_matrix
from uqphys.models import Ising
from uqphys.reweighting import Measured
from uqphys.sampling import sample
from uqphys.scaling import Fit, _minus_log_posterior, _problem_of, collapse, dynamic_exponent, power_law, scaling_table, shifted_peaks

T_C = 1 / BETA_C


def shape_of(kind, x):
    "A hump, like a susceptibility; a step, like a Binder cumulant; and an odd function, which crosses zero."
    if kind == "odd":
        return -np.tanh(x)
    return 1 / (1 + np.exp(x)) + np.exp(-(x**2) / 2) if kind == "hump" else 0.66 / (1 + 0.1 * np.exp(1.2 * x))


def made_up(kind, seed, t_c, nu, exponent, noise, sides=(8, 12, 16, 24, 32), points=9):
    "Data that scale perfectly, with independent errors."
    L, x = np.repeat(sides, points), np.tile(np.linspace(-1.6, 1.6, points), len(sides))
    y = L**exponent * shape_of(kind, x)
    error = noise * L**exponent if kind == "odd" else noise * y
    value = y + error * np.random.default_rng(seed).normal(size=len(L))
    return pd.DataFrame({"L": L, "T": t_c + x * L ** (-1 / nu), "value": value, "error": error})


CASES = {  # kind, T_c, ν, exponent, relative error, what is known
    "susceptibility": ("hump", 2.27, 1.0, 1.75, 0.01, None),
    "another universality class": ("hump", 4.5, 0.63, -0.5, 0.02, None),
    "Binder": ("step", 2.27, 1.0, 0.0, 0.004, {"exponent": 0.0}),
    "crosses zero": ("odd", 2.27, 1.0, 0.0, 0.01, None),
    "crosses zero, exponent known": ("odd", 2.27, 1.0, 0.0, 0.01, {"exponent": 0.0}),
}
SETS = {"crosses zero": 32, "crosses zero, exponent known": 32}  # and 80 of the others


@cache
def scores(case):
    "z of T_c, ν and the exponent over independent data sets, and the root mean squares of the left-out points."
    kind, t_c, nu, exponent, noise, known = CASES[case]
    z, left = [], []
    for k in range(SETS.get(case, 80)):
        found = collapse(made_up(kind, 1000 + k, t_c, nu, exponent, noise), known=known)
        pairs = ((found.t_c, t_c), (found.nu, nu), (found.exponent, exponent))
        z.append([(m.value - truth) / m.error for m, truth in pairs if m.error])
        left.append(np.sqrt((found.data["z"] ** 2).mean()))
    return np.array(z).T, np.array(left)


@pytest.mark.parametrize("case", CASES)
def test_the_errors_of_a_collapse_cover(case):
    z, left = scores(case)
    for part in z:
        print(f"{case}: mean z {part.mean():.2f}, rms {part.std():.2f}, 95 % cover {np.mean(np.abs(part) < 1.96):.3f}")
        assert np.abs(part).max() < 4.5 and abs(part.mean()) * np.sqrt(part.size) < 3.5
        assert abs(part.var() - 1) * np.sqrt(part.size / 2) < 3.5 and stats.kstest(part, "norm").pvalue > 0.005
        assert np.mean(np.abs(part) < 1.96) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / part.size)
    assert 0.8 < left.mean() < 1.1


def test_that_test_has_power():
    for part in scores("susceptibility")[0]:
        for wrong in (1.6 * part, part / 1.6, part + 0.5):
            normal = abs(wrong.var() - 1) * np.sqrt(wrong.size / 2) < 3.5 and stats.kstest(wrong, "norm").pvalue > 0.005
            assert not (normal and abs(wrong.mean()) * np.sqrt(wrong.size) < 3.5)


def test_the_scaling_function_is_found():
    x, z = np.linspace(-1.4, 1.4, 8), []
    for k in range(40):
        known = {"t_c": 2.27, "nu": 1.0, "exponent": 1.75}
        mean, error = collapse(made_up("hump", k, 2.27, 1.0, 1.75, 0.02), known=known).function(x)
        z.append((mean - shape_of("hump", x)) / error)
    assert np.abs(z).max() < 4.5 and 0.7 < np.std(z) < 1.2


def test_units_do_not_matter():
    data = made_up("hump", 3, 2.27, 1.0, 1.75, 0.01)
    one, other = collapse(data), collapse(data.assign(T=10 * data["T"], value=1e-3 * data["value"], error=1e-3 * data["error"]))
    assert np.isclose(other.t_c.value, 10 * one.t_c.value, rtol=1e-4) and np.isclose(other.t_c.error, 10 * one.t_c.error, rtol=0.05)
    assert np.isclose(other.nu.value, one.nu.value, atol=0.1 * one.nu.error) and np.isclose(other.nu.error, one.nu.error, rtol=0.05)
    assert np.isclose(other.exponent.value, one.exponent.value, atol=0.1 * one.exponent.error)


def test_what_is_known_is_held_and_helps():
    data = made_up("hump", 4, 2.27, 1.0, 1.75, 0.01)
    free, held = collapse(data), collapse(data, known={"nu": 1.0})
    assert held.nu == Measured(1.0, 0.0) and held.t_c.error < free.t_c.error and held.exponent.error <= 1.05 * free.exponent.error
    assert str(held).startswith("T_c = 2.2") and np.allclose(held.covariance[1], 0)


def test_data_that_do_not_scale_say_so():
    data = made_up("hump", 5, 2.27, 1.0, 1.75, 0.003)
    rough = data.assign(value=data["value"] * (1 + 0.03 * np.random.default_rng(1).normal(size=len(data))))
    assert collapse(data).misfit < 1 < collapse(rough).misfit  # scatter ten times larger than the errors


def test_power_laws_and_peaks_have_right_errors():
    rng, sides = np.random.default_rng(1), np.array([8, 12, 16, 32, 64])
    z, p = [], []
    for _ in range(400):
        y = 0.7 * sides**1.75
        law = power_law(sides, [Measured(v * (1 + 0.02 * rng.normal()), 0.02 * v) for v in y])
        tops = 2.27 + 0.9 * sides**-1.25
        line = shifted_peaks(sides, [Measured(v + 1e-3 * rng.normal(), 1e-3) for v in tops], nu=0.8)
        curve = shifted_peaks(sides, [Measured(v + 1e-4 * rng.normal(), 1e-4) for v in tops])
        pairs = ((law["exponent"], 1.75), (law["amplitude"], 0.7), (line["t_c"], 2.27), (line["a"], 0.9), (curve["t_c"], 2.27), (curve["nu"], 0.8))
        z.append([(m.value - truth) / m.error for m, truth in pairs])
        p.append([law.p, line.p, curve.p])
    for part in np.array(z).T:
        assert stats.kstest(part, "norm").pvalue > 0.005, (part.mean(), part.std())
    for part in np.array(p).T:
        assert stats.kstest(part, "uniform").pvalue > 0.005


def test_dynamic_exponent_counts_sweeps():
    memories = [Estimate(0.0, 1.0, 0.05 * L**2.17, 0.01 * L**1.5, 10**6) for L in (16, 32, 64)]
    for thin in (1, 4):
        found = dynamic_exponent((16, 32, 64), memories, thin=thin)
        by_hand = power_law((16, 32, 64), [Measured(thin * m.tau_int, thin * m.tau_int_error) for m in memories])
        assert np.isclose(found["exponent"].value, 2.17) and np.isclose(found["amplitude"].value, 0.05 * thin)
        for name in ("exponent", "amplitude"):
            assert np.isclose(found[name].error, by_hand[name].error, rtol=1e-9)


def test_scaling_table_is_what_estimates_say():
    run = {"draws": 500, "chains": 4, "method": "metropolis", "keep": "observables", "progress": False}
    runs = [sample(Ising((L, L)), 1 / T, seed=L, **run) for L, T in ((4, 2.2), (6, 2.4))]
    for name in ("energy", "abs_m", *DERIVED):
        table = scaling_table(runs, name)
        assert list(table["L"]) == [4, 6] and np.allclose(table["T"], [2.2, 2.4])
        for row, ensemble in zip(table.itertuples(), runs):
            found = estimates(ensemble)[name]
            assert (row.value, row.error) == (found.value, found.error)


def test_exact_numbers_of_small_lattices_collapse():
    # transfer-matrix values, with small errors put to them: what is left of U4 at L = 5 to 8 is the correction to scaling
    rows = []
    for L in (5, 6, 7, 8):
        for x in np.linspace(-1.0, 1.0, 7):
            T = T_C + x / L
            rows.append((L, T, DERIVED["binder"](transfer_matrix(L, 1 / T).averages, 1 / T, L * L), 2e-3))
    found = collapse(pd.DataFrame(rows, columns=["L", "T", "value", "error"]), known={"exponent": 0.0})
    assert abs(found.t_c.value - T_C) < 0.03 and abs(found.nu.value - 1) < 0.12


@cache
def square():
    "Runs of L = 16 to 48 around T_c, each of its own seed."
    run = {"draws": 800, "thin": 8, "chains": 64, "burn_in": 1500, "method": "multispin-replicas", "keep": "observables", "progress": False}
    return [sample(Ising((L, L)), 1 / T, seed=5000 * L + k, **run) for L in (16, 24, 32, 48)
            for k, T in enumerate(2.27 + np.linspace(-1.6, 1.6, 9) / L)]


@pytest.mark.parametrize("name, exponent", [("binder", 0.0), ("susceptibility", 1.75), ("abs_m", -0.125)])
def test_the_square_ising_model(name, exponent):
    found = collapse(scaling_table(square(), name), known={"exponent": 0.0} if exponent == 0 else None)
    for measured, exact in ((found.t_c, T_C), (found.nu, 1.0), (found.exponent, exponent)):
        low = 0.08 if name == "abs_m" and exact == 1 else 0.0  # ν from |m| is about 5 % low at these sizes: a correction to scaling
        assert abs(measured.value - exact) < 4 * measured.error + low or measured.error == 0, (name, str(found))
    assert found.misfit < 1 and found.t_c.error < 0.01
    if name == "binder":
        assert found.t_c.error < 0.002 and found.nu.error < 0.05


def test_critical_slowing_down():
    run = {"draws": 8000, "chains": 64, "burn_in": 3000, "method": "multispin-replicas", "keep": "observables", "progress": False}
    sides = (16, 24, 32, 48)
    memories = [gamma_error(sample(Ising((L, L)), BETA_C, seed=80 + L, **run).m2) for L in sides]
    z = dynamic_exponent(sides, memories)["exponent"]
    assert abs(z.value - 2.1669) < 4 * z.error and z.error < 0.1  # arXiv:2407.12480


@pytest.mark.parametrize("row, value, error", [(22, 0.0, 0.01), (22, 0.0, 1e9), (3, 0.0, 1.0)])
def test_values_of_zero_and_a_single_large_error_do_no_harm(row, value, error):
    for seed, exponent in ((9, 0.0), (10, 1.75), (11, -0.5)):
        data = made_up("odd", seed, 2.27, 1.0, exponent, 0.01)
        data.loc[row, ["value", "error"]] = value, error * data["L"][row] ** exponent
        found = collapse(data)
        for measured, truth in ((found.t_c, 2.27), (found.nu, 1.0), (found.exponent, exponent)):
            assert abs(measured.value - truth) < 4.5 * measured.error, str(found)
        assert found.t_c.error < 0.005 and found.nu.error < 0.05


def test_noise_and_constants_have_no_critical_point():
    data = made_up("odd", 0, 2.27, 1.0, 0.0, 0.01)
    tables = [data.assign(value=np.random.default_rng(k).normal(size=45), error=1.0) for k in range(10)]
    tables += [data.assign(value=1 + 0.01 * np.random.default_rng(k).normal(size=45)) for k in range(5)]
    for table in (*tables, data.assign(value=1.0), data.assign(value=0.0), data.assign(error=1e6), made_up("odd", 0, 2.27, 1.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match="do not determine T_c.*a curve of T alone is as good"):
            collapse(table)


def test_what_stops_a_collapse_is_named():
    data = made_up("hump", 1, 2.27, 1.0, 1.75, 0.01)
    with pytest.raises(ValueError, match="T_c must not end at its bound 2.3.*temperatures on both sides"):
        collapse(data[data["T"] > 2.3])
    assert abs(collapse(data[data["T"] > 2.3], known={"t_c": 2.27}).nu.value - 1) < 0.1  # T_c known: one side is enough
    with pytest.raises(ValueError, match="nu must not end at its bound 5"):
        collapse(data.assign(L=data["L"].astype(float) ** 8))
    with pytest.raises(ValueError, match="misfit must not end.*errors must be nearer to the scatter"):
        collapse(data.assign(error=1e-3))
    wrong = made_up("step", 1, 2.27, 1.0, 0.0, 0.004)
    wrong.loc[20, "value"] = 0.0
    with pytest.raises(ValueError, match="row 20, value 0, is far off"):
        collapse(wrong)


def test_equal_points_have_finite_errors():
    logs, inverse = np.log([8, 16, 32]), 1 / np.array([8, 16, 32])
    spread = logs.std() * math.sqrt(3)
    for last in (0.5, 0.50001):
        points = [Measured(0.5, 0.01), Measured(0.5, 0.01), Measured(last, 0.01)]
        law = power_law([8, 16, 32], points)
        assert np.isclose(law["exponent"].error, 0.02 / spread, rtol=1e-3)
        assert np.isclose(law["amplitude"].error, 0.5 * 0.02 * math.hypot(1 / math.sqrt(3), logs.mean() / spread), rtol=1e-3)
        line = shifted_peaks([8, 16, 32], points, nu=1.0)
        slope = 0.01 / math.sqrt(((inverse - inverse.mean()) ** 2).sum())
        assert np.isclose(line["a"].error, slope) and np.isclose(line["t_c"].error, math.hypot(0.01 / math.sqrt(3), slope * inverse.mean()))
    assert "(inf)" in str(Fit({"a": Measured(2.7e-9, math.inf)}, 0.0, 1))


def test_linear_fits_are_the_normal_equations():
    rng, L = np.random.default_rng(3), np.array([8, 12, 24, 48])
    e = 0.01 * rng.uniform(0.3, 3, size=4)
    y = 2.3 + 0.9 / L + e * rng.normal(size=4)
    X, W = np.stack([np.ones(4), 1 / L]).T, np.diag(1 / e**2)
    covariance = np.linalg.inv(X.T @ W @ X)
    best = covariance @ X.T @ W @ y
    fit = shifted_peaks(L, [Measured(*pair) for pair in zip(y, e)], nu=1.0)
    assert np.allclose([fit["t_c"].value, fit["a"].value], best)
    assert np.allclose([fit["t_c"].error, fit["a"].error], np.sqrt(np.diag(covariance)))
    assert np.isclose(fit.chi2, ((y - X @ best) @ W @ (y - X @ best)))


def test_peaks_that_do_not_determine_nu_are_refused_and_nothing_else_is_raised():
    rng, L, given = np.random.default_rng(0), np.array([8, 12, 16, 32, 64]), 0
    for k in range(300):
        amplitude, noise = ((0.05, 0.01), (0.9, 0.01), (0.9, 1e-3))[k % 3]
        try:
            fit = shifted_peaks(L, [Measured(2.27 + amplitude / size + noise * rng.normal(), noise) for size in L])
        except ValueError as error:
            assert "points=" in str(error) and "nu" in str(error)
            continue
        given += amplitude == 0.9 and noise == 1e-3
        assert 0.1 < fit["nu"].value < 10 and np.isfinite(fit["nu"].error) and fit["nu"].error < 1.2 * fit["nu"].value
    assert given == 100


def test_the_likelihood_and_the_priors_are_what_the_text_says():
    data = made_up("hump", 7, 2.27, 1.0, 1.75, 0.05)
    L, t, y, e = (data[c].to_numpy(dtype=float) for c in ("L", "T", "value", "error"))
    l = np.log(L) - np.log(L).mean()

    def by_hand(p):
        x, s, (spread, smooth, misfit) = (t - p[0]) * np.exp(l * np.exp(-p[1])), np.exp(l * p[2]), np.exp(p[3:])
        S = np.outer(s, s) * (spread**2 * np.exp(-(np.subtract.outer(x, x) ** 2) / (2 * smooth**2)) + misfit**2 * np.eye(len(x)))
        centres = np.log([y.std() + abs(y.mean()), np.ptp(t) / 4, np.median(e) / 10])
        prior = stats.norm.logpdf(p[3:], centres, [2, 1, 1.5]).sum() - stats.norm.logpdf(0, 0, [2, 1, 1.5]).sum()
        return -stats.multivariate_normal.logpdf(y, np.zeros(len(y)), S + np.diag(e**2)) - prior

    q, rng = _problem_of(data), np.random.default_rng(1)
    for _ in range(5):
        p = np.array([2.26, 0.05, 1.7, *q.centres]) + rng.normal(size=6) * [0.02, 0.1, 0.1, 1.0, 1.0, 1.0]
        assert np.isclose(_minus_log_posterior(p, q)[0], by_hand(p), rtol=1e-7)


def covariance_of(found):
    "K of the collapsed data, and K + errors, written anew from what the collapse says of itself."
    (spread, smooth, misfit), x = found.kernel, found.data["x"].to_numpy()
    K = lambda a, b: spread**2 * np.exp(-(np.subtract.outer(a, b) ** 2) / (2 * smooth**2))
    return K, K(x, x) + np.diag(found.data["y_error"] ** 2 + misfit**2)


def test_each_left_out_point_is_predicted_without_it():
    found = collapse(made_up("hump", 8, 2.27, 1.0, 1.75, 0.02))
    S, y = covariance_of(found)[1], found.data["y"].to_numpy()
    for k in (0, 7, 22, 44):
        rest = np.arange(len(y)) != k
        weights = np.linalg.solve(S[np.ix_(rest, rest)], S[rest, k])
        z = (y[k] - weights @ y[rest]) / math.sqrt(S[k, k] - weights @ S[rest, k])
        assert np.isclose(found.data["z"].iloc[k], z, rtol=1e-4)


def test_the_scaling_function_is_that_of_the_gaussian_process():
    found = collapse(made_up("hump", 8, 2.27, 1.0, 1.75, 0.02))
    K, S = covariance_of(found)
    x, known = np.array([-1.2, 0.1, 1.9]), found.data["x"].to_numpy()
    weights = np.linalg.solve(S, K(known, x))
    mean, error = found.function(x)
    assert np.allclose(mean, weights.T @ found.data["y"]) and np.allclose(error**2, np.diag(K(x, x) - weights.T @ K(known, x)), rtol=1e-4)
    assert np.allclose(found.function(x[:1])[1], error[:1]) and np.shape(found.function(0.5)[0]) == ()


def test_misfit_is_the_scatter_beyond_the_errors():
    misfit = []
    for seed in range(6):  # the scatter is ten times the errors
        data = made_up("odd", seed, 2.27, 1.0, 0.0, 0.02)
        found = collapse(data.assign(error=0.002), known={"exponent": 0.0})
        misfit.append(found.misfit)
        assert np.isclose(found.misfit, found.kernel[2] / np.median(found.data["y_error"]))
    assert abs(np.mean(misfit) / math.sqrt(99) - 1) < 0.25, misfit  # each is known to about 11 %


def test_the_gradient_of_the_likelihood():
    q, rng = _problem_of(made_up("hump", 6, 2.27, 1.0, 1.75, 0.1)), np.random.default_rng(0)
    for _ in range(5):
        p = np.array([2.26, 0.05, 1.7, *q.centres]) + rng.normal(size=6) * [0.02, 0.1, 0.1, 0.5, 0.3, 0.5]
        slope = _minus_log_posterior(p, q)[1]
        for k, step in enumerate(1e-5 * np.eye(6)):
            up, down = _minus_log_posterior(p + step, q)[0], _minus_log_posterior(p - step, q)[0]
            assert np.isclose((up - down) / 2e-5, slope[k], rtol=1e-4, atol=1e-3), (k, slope)
