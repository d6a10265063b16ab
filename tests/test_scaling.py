"""Finite-size scaling: fits and collapses of made-up data with known exponents, repeated until their errors are tested as well;
and the square Ising model, whose exponents are known exactly."""
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
from uqphys.scaling import _minus_log_posterior, _problem_of, collapse, dynamic_exponent, power_law, scaling_table, shifted_peaks

T_C = 1 / BETA_C


def shape_of(kind, x):
    "Two scaling functions: a hump, like a susceptibility, and a step, like a Binder cumulant."
    return 1 / (1 + np.exp(x)) + np.exp(-(x**2) / 2) if kind == "hump" else 0.66 / (1 + 0.1 * np.exp(1.2 * x))


def made_up(kind, seed, t_c, nu, exponent, noise, sides=(8, 12, 16, 24, 32), points=9):
    "Data that scale perfectly, with independent errors."
    L, x = np.repeat(sides, points), np.tile(np.linspace(-1.6, 1.6, points), len(sides))
    y = L**exponent * shape_of(kind, x)
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"L": L, "T": t_c + x * L ** (-1 / nu), "value": y * (1 + noise * rng.normal(size=len(L))), "error": noise * y})


CASES = {  # kind, T_c, ν, exponent, relative error, what is known
    "susceptibility": ("hump", 2.27, 1.0, 1.75, 0.01, None),
    "another universality class": ("hump", 4.5, 0.63, -0.5, 0.02, None),
    "Binder": ("step", 2.27, 1.0, 0.0, 0.004, {"exponent": 0.0}),
}


@cache
def scores(case, repetitions=80):
    "z of T_c, ν and the exponent over independent data sets, and the root mean squares of the left-out points."
    kind, t_c, nu, exponent, noise, known = CASES[case]
    z, left = [], []
    for k in range(repetitions):
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
    memories = [Estimate(0.0, 1.0, 0.05 * L**2.17, 0.01 * L**2.17, 10**6) for L in (16, 32, 64)]
    one, four = dynamic_exponent((16, 32, 64), memories), dynamic_exponent((16, 32, 64), memories, thin=4)
    assert np.isclose(one["exponent"].value, 2.17) and np.isclose(four["exponent"].value, 2.17)
    assert np.isclose(four["amplitude"].value, 4 * one["amplitude"].value)


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
    run = {"draws": 500, "thin": 8, "chains": 64, "burn_in": 1500, "method": "multispin-replicas", "keep": "observables", "progress": False}
    return [sample(Ising((L, L)), 1 / T, seed=5000 * L + k, **run) for L in (16, 24, 32, 48)
            for k, T in enumerate(2.27 + np.linspace(-1.6, 1.6, 9) / L)]


@pytest.mark.parametrize("name, exponent", [("binder", 0.0), ("susceptibility", 1.75), ("abs_m", -0.125)])
def test_the_square_ising_model(name, exponent):
    found = collapse(scaling_table(square(), name), known={"exponent": 0.0} if exponent == 0 else None)
    for measured, exact in ((found.t_c, T_C), (found.nu, 1.0), (found.exponent, exponent)):
        assert abs(measured.value - exact) < 4 * measured.error or measured.error == 0, (name, str(found))
    assert found.misfit < 1 and found.t_c.error < 0.01
    if name == "binder":
        assert found.t_c.error < 0.002 and found.nu.error < 0.05


def test_critical_slowing_down():
    run = {"draws": 8000, "chains": 64, "burn_in": 3000, "method": "multispin-replicas", "keep": "observables", "progress": False}
    sides = (16, 24, 32, 48)
    memories = [gamma_error(sample(Ising((L, L)), BETA_C, seed=80 + L, **run).m2) for L in sides]
    z = dynamic_exponent(sides, memories)["exponent"]
    assert abs(z.value - 2.1669) < 4 * z.error and z.error < 0.1  # arXiv:2407.12480


def test_the_gradient_of_the_likelihood():
    q, rng = _problem_of(made_up("hump", 6, 2.27, 1.0, 1.75, 0.1)), np.random.default_rng(0)
    for _ in range(5):
        p = np.array([2.26, 0.05, 1.7, *q.centres]) + rng.normal(size=6) * [0.02, 0.1, 0.1, 0.5, 0.3, 0.5]
        slope = _minus_log_posterior(p, q)[1]
        for k, step in enumerate(1e-5 * np.eye(6)):
            up, down = _minus_log_posterior(p + step, q)[0], _minus_log_posterior(p - step, q)[0]
            assert np.isclose((up - down) / 2e-5, slope[k], rtol=1e-4, atol=1e-3), (k, slope)
