"""Errors, autocorrelation and correlations in space, against processes of which everything is known.

An AR(1) process knows its autocorrelation; a free field drawn in momentum space knows its two-point function; all states of a
4 x 4 lattice can be added up. Estimates must be right within their errors, and the errors must be right themselves.
"""
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from uqphys.analysis import (DERIVED, Estimate, autocorrelation, correlation_length, estimates, gamma_error, linearised, structure_factor,
                             two_point_function, two_point_map)
from uqphys.exact import BETA_C, enumerate_states, kaufman, transfer_matrix
from uqphys.models import Ising
from uqphys.sampling import sample
from uqphys.tempering import temper

BINDER = {4: 0.61719932, 8: 0.61304538, 9: 0.61264431}  # exact, at the critical point of the infinite lattice
FREE = {(8,): 0.5, (3, 4): 0.8, (2, 3, 4): 1.0}  # shape: mass squared


def standard_normal(z):
    "Mean, variance and whole distribution of independent z-scores: True if nothing speaks against N(0, 1)."
    mean, variance = z.mean() * np.sqrt(z.size), (z.var() - 1) * np.sqrt(z.size / 2)
    return abs(mean) < 3.5 and abs(variance) < 3.5 and stats.kstest(z, "norm").pvalue > 0.005


def ar1(a, repetitions, chains, draws, rng):
    "x' = a x + noise, (repetitions, chains, draws): mean 0, variance 1, autocorrelation a**t."
    noise = rng.normal(size=(draws, repetitions, chains)) * np.sqrt(1 - a * a)
    x = np.empty_like(noise)
    x[0] = rng.normal(size=(repetitions, chains))
    for t in range(1, draws):
        x[t] = a * x[t - 1] + noise[t]
    return np.moveaxis(x, 0, -1)


@cache
def walks(a):
    return [gamma_error(series) for series in ar1(a, 500, 4, 4000, np.random.default_rng(int(100 * a)))]


@pytest.mark.parametrize("a", (0.0, 0.5, 0.9))
def test_the_error_of_a_mean_covers(a):
    z = np.array([e.value / e.error for e in walks(a)])
    assert standard_normal(z), (z.mean(), z.std())
    assert abs(np.mean(np.abs(z) < 1.96) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / z.size)


@pytest.mark.parametrize("a", (0.5, 0.9))
def test_the_error_of_tau_int_covers(a):
    z = np.array([(e.tau_int - 0.5 * (1 + a) / (1 - a)) / e.tau_int_error for e in walks(a)])
    assert abs(z.mean()) < 0.35 and abs(z.std() - 1) < 0.2, (z.mean(), z.std())  # Wolff's formula is good to this, not exact
    assert abs(np.mean(np.abs(z) < 1.96) - 0.95) < 0.045


def test_the_whole_autocorrelation_function():
    a = 0.8
    seen = autocorrelation(ar1(a, 1, 8, 20000, np.random.default_rng(4))[0])
    W = np.arange(60)
    known = 0.5 + (a - a ** (W + 1)) / (1 - a)
    assert np.abs(seen.rho[:60] - a**W).max() < 0.03
    assert np.abs((seen.tau_int[1:60] - known[1:]) / seen.tau_int_error[1:60]).max() < 4
    assert seen.tau_int_error[seen.window] > seen.bias()[seen.window] * 0.99  # the window stands where noise has won
    assert seen.bias()[seen.window // 3] > seen.tau_int_error[seen.window // 3]


@pytest.mark.parametrize("S", (1.0, 2.0, 6.0))
def test_the_window_is_where_wolff_puts_it(S):
    # eqs. (51), (52) of hep-lat/0306017: the first W at which exp(-W/τ) < τ/sqrt(W n)
    series = ar1(0.9, 1, 4, 4000, np.random.default_rng(8))[0]
    seen, estimate = autocorrelation(series, S=S), gamma_error(series, S=S)
    W = np.arange(1, len(seen.rho))
    tau = S / np.log((2 * seen.tau_int[1:] + 1) / (2 * seen.tau_int[1:] - 1))
    window = W[np.argmax(np.exp(-W / tau) < tau / np.sqrt(W * series.size))]
    assert seen.window == window and np.allclose(seen.bias(S)[1:], seen.tau_int[1:] * np.exp(-W / tau))
    assert np.isclose(estimate.tau_int, seen.tau_int[window] * (1 + (2 * window + 1) / series.size) / (1 + 1 / series.size))
    assert np.isclose(estimate.error, np.sqrt(2 * estimate.tau_int / series.size * series.var()), rtol=1e-3)
    assert S != 2 or (autocorrelation(series).window == window and gamma_error(series) == estimate
                      and np.array_equal(seen.bias(), seen.bias(2.0)))


def test_two_time_scales_need_to_be_told():
    # 3 % of the variance is forgotten in 200 draws, the rest at once: S = 2 sees only the rest
    rng, fast, slow = np.random.default_rng(9), 0.3, 0.99
    every = np.sqrt(0.95) * ar1(fast, 150, 4, 2000, rng) + np.sqrt(0.05) * ar1(slow, 150, 4, 2000, rng)
    truth = 0.5 + 0.95 * fast / (1 - fast) + 0.05 * slow / (1 - slow)
    rms = {}
    for way, told in {"S = 2": {}, "S = 30": {"S": 30.0}, "tau_exp": {"tau_exp": 200.0}}.items():
        found = [gamma_error(series, **told) for series in every]
        rms[way] = np.sqrt(np.mean([(e.value / e.error) ** 2 for e in found])), np.mean([e.tau_int for e in found])
    assert rms["S = 2"][0] > 1.6 and rms["S = 2"][1] < 0.5 * truth, rms
    assert 0.8 < rms["S = 30"][0] < 1.3 and 0.8 < rms["tau_exp"][0] < 1.3, rms
    assert 0.8 < rms["S = 30"][1] / truth < 1.25 and rms["tau_exp"][1] > 0.8 * truth, rms


def test_the_tail_is_attached_where_rho_is_lost():
    series, tau_exp = ar1(0.9, 1, 4, 4000, np.random.default_rng(8))[0], 25.0
    seen, estimate = autocorrelation(series, tau_exp=tau_exp), gamma_error(series, tau_exp=tau_exp)
    W = seen.window
    plain = seen.tau_int[W] * (1 + (2 * W + 1) / series.size) / (1 + 1 / series.size)
    assert np.isclose(estimate.tau_int, plain + tau_exp * abs(seen.rho[W + 1]))


def test_a_series_better_than_independent_is_called_independent():
    estimate = gamma_error(ar1(-0.9, 1, 4, 4000, np.random.default_rng(1))[0])
    assert np.isclose(estimate.tau_int, 0.5, rtol=1e-3) and np.isclose(estimate.error, 1 / np.sqrt(16000), rtol=0.1)


@pytest.mark.parametrize("L", BINDER)
def test_binder_at_finite_size(L):
    averages = transfer_matrix(L, BETA_C).averages
    assert abs(DERIVED["binder"](averages, BETA_C, L * L) - BINDER[L]) < 1e-8
    many = {"draws": 30000, "chains": 8, "method": "metropolis", "keep": "observables", "progress": False}
    run = sample(Ising((L, L)), BETA_C, seed=70 + L, **many)
    found = estimates(run)
    by_hand = {"binder": BINDER[L], "two_point_susceptibility": L * L * averages["m2"], "specific_heat": kaufman(L, BETA_C).specific_heat,
               "susceptibility": BETA_C * L * L * (averages["m2"] - averages["abs_m"] ** 2)}
    for name, exact in by_hand.items():
        assert abs(found[name].value - exact) < 4 * found[name].error, (name, str(found[name]), exact)
    if L == 4:
        assert abs(found["binder"].value - 0.61069) > 4 * found["binder"].error  # the infinite lattice is another number


def test_errors_of_derived_quantities_by_hand():
    # the sample mean of f over many independent runs scatters as much as each run says
    rng, n, beta = np.random.default_rng(12), 16, 0.4
    runs = np.clip(rng.normal(0.3, 0.4, size=(400, 2, 200)), -1, 1)
    formulas = {
        "susceptibility": lambda m: beta * n * ((m**2).mean() - abs(m).mean() ** 2),
        "two_point_susceptibility": lambda m: n * ((m**2).mean() - m.mean() ** 2),
        "binder": lambda m: 1 - (m**4).mean() / (3 * (m**2).mean() ** 2),
    }
    found = {name: [] for name in formulas}
    for m in runs:
        series = {"m": m, "abs_m": abs(m), "m2": m**2, "m4": m**4}
        for name, formula in formulas.items():
            estimate = gamma_error(linearised(DERIVED[name], series, beta, n))
            assert np.isclose(estimate.value, formula(m))
            found[name].append((estimate.value, estimate.error))
    for name, numbers in found.items():
        value, error = np.array(numbers).T
        assert abs(np.sqrt(np.mean(error**2)) / value.std() - 1) < 0.12, (name, np.sqrt(np.mean(error**2)), value.std())


def free_ensemble(shape, mass2, chains, draws, a, rng):
    "Exact draws of a free field with S(k) = 1/(2 (m² + k̂²)), each remembering the one before."
    k2 = sum(4 * np.sin(np.pi * n / L) ** 2 for n, L in zip(np.indices(shape), shape))
    S, axes = 1 / (2 * (mass2 + k2)), tuple(range(2, 2 + len(shape)))
    noise = rng.normal(size=(chains, draws, *shape))
    new = np.fft.ifftn(np.fft.fftn(noise, axes=axes) * np.sqrt(S), axes=axes).real
    for t in range(1, draws):
        new[:, t] = a * new[:, t - 1] + np.sqrt(1 - a * a) * new[:, t]
    return xr.Dataset({"config": (("chain", "draw", *"xyz"[: len(shape)]), new), "m": (("chain", "draw"), new.mean(axis=axes))}), S


def assert_standard(z, name, bias=0.0):
    "Mean and rms of z-scores as those of a standard normal variable, within 3.5 of their standard errors (and a known bias)."
    mean, excess = abs(z.mean()) - bias, (z.var() - 1) / np.sqrt((stats.kurtosis(z) + 2) / z.size)
    assert np.abs(z).max() < 5 and mean * np.sqrt(z.size) < 3.5 and abs(excess) < 3.5, (name, z.mean(), z.std())


@pytest.mark.parametrize("shape", FREE)
def test_free_field(shape):
    rng, z = np.random.default_rng(sum(shape)), {"S": [], "G": [], "line": []}
    for _ in range(120):
        ensemble, S = free_ensemble(shape, FREE[shape], 4, 300, 0.3, rng)
        G, zero = np.fft.ifftn(S).real, (0,) * (len(shape) - 1)
        momenta, surface, line = structure_factor(ensemble), two_point_map(ensemble), two_point_function(ensemble, axis=len(shape) - 1)
        z["S"].append(((momenta.value - S) / momenta.error).values.ravel()[:3])  # momenta of different |k| are independent
        z["G"].append(((surface.value - G) / surface.error).values.ravel()[0])
        exact = G[zero][: shape[-1] // 2 + 1]
        z["line"].append(((line.value - exact) / line.error).values[-1])
        assert np.allclose(line.value, surface.value.values[zero][: len(exact)]) and np.allclose(line.error, surface.error.values[zero][: len(exact)])
    for name, values in z.items():
        assert_standard(np.array(values).ravel(), name, bias=0.1)  # the estimate of a positive quantity and its error rise together


@pytest.mark.parametrize("shape", ((8,), (4, 6)))
def test_the_error_of_the_correlation_length(shape):
    rng, z = np.random.default_rng(11), []
    for _ in range(500):
        ensemble, _ = free_ensemble(shape, 0.7, 4, 300, 0.3, rng)
        xi = correlation_length(ensemble)
        z.append((xi.value - 0.7**-0.5) / xi.error)
    z = np.array(z)
    assert_standard(z, "xi", bias=0.1)
    for wrong in (0.75 * z, 1.25 * z):
        with pytest.raises(AssertionError):
            assert_standard(wrong, "xi", bias=0.1)


def test_two_point_functions_by_hand():
    rng = np.random.default_rng(3)
    x = rng.choice([-1, 1], size=(2, 12, 3, 4, 2)).astype(np.int8)
    ensemble = xr.Dataset({"config": (("chain", "draw", "x", "y", "z"), x), "m": (("chain", "draw"), x.mean((2, 3, 4)))})
    for connected in (True, False):
        surface = two_point_map(ensemble, connected)
        for r in ((0, 0, 0), (1, 0, 0), (2, 3, 1)):
            plain = (x * np.roll(x, r, axis=(2, 3, 4))).mean() - connected * x.mean() ** 2
            assert np.isclose(surface.value.values[r], plain)
        for axis, length in enumerate(x.shape[2:]):
            line = two_point_function(ensemble, axis, connected)
            index = tuple(np.arange(length // 2 + 1) if a == axis else 0 for a in range(3))
            assert np.allclose(line.value, surface.value.values[index])
        momenta = structure_factor(ensemble, connected)
        assert np.allclose(np.fft.fftn(surface.value), momenta.value)


def test_a_mean_field_is_taken_off_with_its_error():
    rng, z, zero = np.random.default_rng(6), [], []
    for _ in range(200):
        x = ar1(0.7, 4, 16, 400, rng).transpose(0, 2, 1).reshape(4, 400, 4, 4) + ar1(0.7, 4, 1, 400, rng).reshape(4, 400, 1, 1) + 2.0
        ensemble = xr.Dataset({"config": (("chain", "draw", "x", "y"), x), "m": (("chain", "draw"), x.mean((2, 3)))})
        G = two_point_function(ensemble).isel(r=2)
        z.append(float((G.value - 1.0) / G.error))  # the common part has variance 1; the mean 2 must be gone
        S = structure_factor(ensemble).isel(n_x=0, n_y=0)
        zero.append(float((S.value - 17.0) / S.error))  # 16 (1 + 1/16)
        assert np.isclose(S.value, 16 * (ensemble.m.values**2).mean() - 16 * ensemble.m.values.mean() ** 2)
        assert np.isclose(S.value, two_point_map(ensemble).value.sum())
    for scores in (np.array(z), np.array(zero)):
        assert_standard(scores, "with a mean field", bias=0.1)


@pytest.mark.parametrize("couplings, beta", [({}, 0.35), ({"J2": 0.1, "K": 0.15}, 0.3), ({"h": 0.1}, 0.3)])
def test_spins_against_all_states(couplings, beta):
    model = Ising((4, 4), **couplings)
    wanted = {f"G{r}": lambda s, r=r: (s * np.roll(s, r, axis=(1, 2))).mean((1, 2)) for r in ((0, 1), (1, 1), (2, 2))}
    wanted["F"] = lambda s: np.abs(np.fft.fft2(s)[:, 1, 0]) ** 2 / 16
    exact = enumerate_states(model, beta, wanted).averages
    ensemble = sample(model, beta, draws=15000, seed=5, method="metropolis", progress=False)
    surface, xi = two_point_map(ensemble), correlation_length(ensemble)
    for r in ((0, 1), (1, 1), (2, 2)):
        value, error = float(surface.value[r]), float(surface.error[r])
        assert abs(value - exact[f"G{r}"] + exact["m"] ** 2) < 4 * error, (r, value, error)
    truth = np.sqrt(16 * (exact["m2"] - exact["m"] ** 2) / exact["F"] - 1) / (2 * np.sin(np.pi / 4))
    assert abs(xi.value - truth) < 4 * xi.error


def test_a_length_too_short_to_be_seen_is_not_a_number():
    seen = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(2, 100, 6))
        seen.append(correlation_length(xr.Dataset({"config": (("chain", "draw", "x"), noise), "m": (("chain", "draw"), noise.mean(2))})).value)
    assert 0 < np.isnan(seen).sum() < 20  # white noise: S(0) is above S(k) in half of the cases


def test_a_tempered_run_is_analysed_one_temperature_at_a_time():
    run = temper(Ising((4, 4)), [0.3, 0.4], draws=3000, chains=4, seed=3, keep="configs", progress=False)
    for beta in (0.3, 0.4):
        one = run.sel(beta=beta)
        found, averages = estimates(one), transfer_matrix(4, beta).averages
        chi = beta * 16 * (averages["m2"] - averages["abs_m"] ** 2)
        for name, exact in (("energy", averages["energy"]), ("susceptibility", chi)):
            assert abs(found[name].value - exact) < 4 * found[name].error, (beta, name)
        assert np.isclose(structure_factor(one, connected=False).value[0, 0], 16 * found["m2"].value)


def test_a_length_in_attrs_may_be_an_array():
    run = sample(Ising((4, 4)), 0.4, draws=50, burn_in=100, seed=1, method="metropolis", progress=False)
    assert estimates(run.assign_attrs(shape=np.array([4, 4]), beta=np.float64(0.4))) == estimates(run)
    chain = run.isel(y=0, drop=True).assign_attrs(shape=np.int64(4))  # a list of one number comes back from a file like this
    assert estimates(chain)["susceptibility"].value > 0


def test_a_time_of_zero_is_no_time():
    assert np.isnan(Estimate(0.0, 1.0, np.nan, np.nan, 5).n_eff)
    for tau in (0, -1.0, "1", None):
        with pytest.raises(ValueError, match="tau_int="):
            Estimate(0.0, 1.0, tau, 0.0, 100)
