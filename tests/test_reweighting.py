"""Reweighting against exact answers at every temperature, and its errors against the truth.

A lazy chain of exact draws on 4 x 4 sites (each kept for a geometric number of steps) has a known law and a known autocorrelation
time. Hundreds of repetitions give z-scores, which must be standard normal: of single runs, of several, of free energies, at the ends
of the reach, and of peaks and crossings.
"""
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.optimize import brentq, minimize_scalar

from uqphys.analysis import DERIVED, estimates, gamma_error
from uqphys.exact import kaufman, transfer_matrix
from uqphys.models import Ising
from uqphys.reweighting import _cut, _influence, _solve, _value, combine, crossing, peak, reweight
from uqphys.sampling import sample
from uqphys.tempering import temper

NAMES = ["energy", "abs_m", "susceptibility", "two_point_susceptibility", "specific_heat", "binder"]
TINY = Ising((4, 4))


def standard_normal(z):
    "Mean, variance and whole distribution of independent z-scores: True if nothing speaks against N(0, 1)."
    mean, variance = z.mean() * np.sqrt(z.size), (z.var() - 1) * np.sqrt(z.size / 2)
    return abs(mean) < 3.5 and abs(variance) < 3.5 and stats.kstest(z, "norm").pvalue > 0.005


@cache
def states():
    x = (2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1) - 1).astype(np.int8).reshape(-1, 4, 4)
    return TINY.observables(x)


@cache
def law(beta):
    weight = np.exp(-beta * 16 * (states()["energy"] + 2))
    return np.cumsum(weight) / weight.sum()


def lazy_run(beta, a, chains, draws, seed):
    "Exact draws, each kept for a geometric number of steps: every observable has the autocorrelation a**t."
    rng = np.random.default_rng(seed)
    fresh = np.searchsorted(law(beta), rng.random((chains, draws)))
    last = np.maximum.accumulate(np.where(rng.random((chains, draws)) < a, 0, np.arange(draws)), axis=1)
    pick = np.take_along_axis(fresh, last, axis=1)
    series = {n: (("chain", "draw"), v[pick]) for n, v in states().items()}
    return xr.Dataset(series, attrs={"beta": beta, "shape": [4, 4], "model": repr(TINY), "seed": seed})


@cache
def exact(L, beta):
    averages = transfer_matrix(L, beta).averages
    N, known = L * L, averages | {"specific_heat": kaufman(L, beta).specific_heat}
    return known | {"susceptibility": beta * N * (averages["m2"] - averages["abs_m"] ** 2), "two_point_susceptibility": N * averages["m2"],
                    "binder": 1 - averages["m4"] / (3 * averages["m2"] ** 2)}


@cache
def scores(betas, target, a=0.5, draws=1500, repetitions=150):
    "z of each of NAMES at the target temperature, {name: array}, and of the last free energy."
    rows, free = [], []
    for k in range(repetitions):
        c = combine([lazy_run(b, a, 4, draws, 10_000 * len(betas) + 10 * k + i) for i, b in enumerate(betas)])
        found = c.at(target, NAMES).isel(beta=0)
        rows.append((found.value.values - [exact(4, target)[n] for n in NAMES]) / found.error.values)
        if len(betas) > 1:
            difference = kaufman(4, betas[-1]).lnZ - kaufman(4, betas[0]).lnZ
            free.append((c.free_energies[-1] + difference) / c.free_energy_errors[-1])
    return dict(zip(NAMES, np.array(rows).T)) | ({"free energy": np.array(free)} if free else {})


CASES = {"at home": ((0.40,), 0.40), "one run, warmer": ((0.40,), 0.35), "one run, colder": ((0.38,), 0.43),
         "two runs": ((0.34, 0.46), 0.40), "three runs": ((0.30, 0.38, 0.46), 0.42)}


@pytest.mark.parametrize("case", CASES)
def test_z_scores_are_standard_normal(case):
    for name, z in scores(*CASES[case]).items():
        print(f"{case}, {name}: mean {z.mean():.2f}, rms {z.std():.2f}")
        assert np.abs(z).max() < 4.5 and standard_normal(z), (name, z.mean(), z.std(), stats.kstest(z, "norm").pvalue)


def test_that_test_has_power():
    for z in scores(*CASES["two runs"]).values():
        for wrong in (z * 1.4, z / 1.5, z + 0.4, z * np.sqrt(3)):  # the last: autocorrelation forgotten
            assert not standard_normal(wrong)


@pytest.mark.parametrize("L, betas", [(8, (0.42,)), (8, (0.40, 0.46)), (16, (0.36, 0.40, 0.43, 0.46, 0.50))])
def test_real_chains_against_kaufman(L, betas):
    run = {"draws": 4000, "chains": 4, "method": "metropolis", "keep": "observables", "progress": False}
    c = combine([sample(Ising((L, L)), b, seed=900 + 10 * L + k, **run) for k, b in enumerate(betas)])
    targets = np.linspace(*c.reach(), 9)
    found = c.at(targets, ["energy", "specific_heat"])
    for name in ("energy", "specific_heat"):
        z = (found.value.sel(observable=name) - [getattr(kaufman(L, b), name) for b in targets]) / found.error.sel(observable=name)
        assert np.abs(z).max() < 4, (name, z.values)
    for b, f, e in zip(c.betas[1:], c.free_energies[1:], c.free_energy_errors[1:]):
        assert abs(f + kaufman(L, b).lnZ - kaufman(L, c.betas[0]).lnZ) < 4 * e


def test_at_home_a_run_says_what_estimates_says():
    run = lazy_run(0.4, 0.3, 4, 1000, 5)
    here, there = estimates(run), reweight(run, 0.4).isel(beta=0)
    assert set(here) == set(there.observable.values)
    for name, estimate in here.items():
        assert np.isclose(there.sel(observable=name).value, estimate.value, rtol=1e-10, atol=1e-12)
        assert np.isclose(there.sel(observable=name).error, estimate.error, rtol=1e-6)
    assert np.isclose(there.n_eff, gamma_error(run.energy).n_eff)


def test_the_order_of_runs_and_splitting_one_run_change_nothing():
    runs = [lazy_run(b, 0.0, 4, 1000, k) for k, b in enumerate((0.35, 0.40, 0.45))]
    one, two = combine(runs), combine(runs[::-1])
    assert np.allclose(one.free_energies, two.free_energies, atol=1e-9)
    assert np.allclose(one.at(0.42).value, two.at(0.42).value, rtol=1e-9, atol=1e-12)
    halves = [r.isel(chain=s).assign_attrs(seed=10 * k + s.start) for k, r in enumerate(runs) for s in (slice(0, 2), slice(2, 4))]
    parts = combine(halves)  # six runs at three temperatures
    assert np.allclose(parts.free_energies[::2], one.free_energies, atol=0.02)
    assert np.allclose(parts.at(0.42, ["energy"]).value, one.at(0.42, ["energy"]).value, atol=2e-3)


def test_large_energies_do_not_overflow():
    run = {"draws": 300, "chains": 2, "burn_in": 300, "method": "metropolis", "keep": "observables", "progress": False}
    runs = [sample(Ising((64, 64), J=50.0), b / 50, seed=k, **run) for k, b in enumerate((0.30, 0.302))]  # E of order 1e5
    c = combine(runs)
    found = c.at([0.301 / 50], ["energy"])
    assert np.isfinite(found.value).all() and abs(float(found.value[0, 0]) / 50 - kaufman(64, 0.301).energy) < 4 * float(found.error[0, 0]) / 50


def test_the_mixture_equations_hold():
    c = combine([lazy_run(b, 0.4, 3, 800, k) for k, b in enumerate((0.3, 0.36, 0.44))])
    assert np.allclose(c._W @ c._omega, c.counts, rtol=1e-8)  # each run explains as many draws as it has
    O = c.overlap()
    assert np.allclose(O.sum(axis=1), 1) and np.allclose(c.counts[:, None] * O, (c.counts[:, None] * O).T)


def test_influences_are_derivatives():
    # what happens to all results if every draw counts a little more or less, with the free energies solved for anew
    c = combine([lazy_run(b, 0.4, 2, 400, 20 + k) for k, b in enumerate((0.3, 0.36, 0.44))])
    change = np.concatenate([(d - d.mean()).ravel() for d in _cut(np.random.default_rng(0).normal(size=c._omega.size), c.series)])

    def moved(step):
        omega = c._omega * (1 + step * change)
        other = replace(c, free_energies=_solve(c.betas, c._energy, omega, np.log(c.counts), c.free_energies))
        other.__dict__["_omega"] = omega
        return other
    up, down = moved(1e-4), moved(-1e-4)
    slopes = (c._response @ c._W * c._omega) @ change
    assert np.allclose((up.free_energies - down.free_energies) / 2e-4, -slopes, rtol=1e-4)
    for name in ("energy", "abs_m", *DERIVED):
        for beta in (0.28, 0.40):
            slope = (_value(up, beta, name) - _value(down, beta, name)) / 2e-4
            assert np.isclose(slope, _influence(c, beta, name)[1] @ change, rtol=1e-4), (name, beta)


def test_reach_ends_where_the_rule_says():
    c = combine([lazy_run(0.4, 0.0, 4, 2000, 3)])
    low, high = c.reach()
    for b in (low, high):
        assert c.n_eff(b) >= c.counts[0] / np.e * 0.999
        c.at(b, ["energy"])
    for b in (low - 1e-3, high + 1e-3):
        with pytest.raises(ValueError, match="effective draws"):
            c.at(b, ["energy"])
    wide = c.reach(share=0.0)
    assert wide[0] < low and wide[1] > high and c.at(wide[0], ["energy"], share=0.0).n_eff >= 99.9


@cache
def top():
    "Position and height of the exact maximum of the specific heat of 4 x 4."
    best = minimize_scalar(lambda b: -kaufman(4, b).specific_heat, bounds=(0.3, 0.55), method="bounded", options={"xatol": 1e-10})
    return best.x, -best.fun


def right(z):
    "Mean and rms of a few hundred z-scores of a nonlinear quantity."
    return np.abs(z).max() < 5 and abs(z.mean()) * np.sqrt(z.size) < 4 and abs(z.var() - 1) * np.sqrt(z.size / 2) < 3.5


def test_peaks_have_right_errors():
    z = []
    for k in range(120):
        runs = [lazy_run(b, 0.5, 4, 2000, 50_000 + 2 * k + i) for i, b in enumerate((0.36, 0.44))]
        position, height = peak(combine(runs), "specific_heat")
        z.append([(position.value - top()[0]) / position.error, (height.value - top()[1]) / height.error])
    for part in np.array(z).T:
        assert right(part), (part.mean(), part.std())
        assert not right(1.35 * part) and not right(part / 1.35)


def as_twenty_sites(run, **changes):
    "The same run, said to be of 4 x 5 sites: the total energies, and so all weights, are the same."
    return run.assign(energy=run.energy * 0.8, **changes).assign_attrs(shape=[4, 5])


def test_crossings_have_right_errors():
    # the second lattice is the first with m⁴ multiplied by a factor that depends on the energy; it has a third as many draws, and a curve
    # about twice as steep, so the two errors come in with quite different weights
    truth, weight = 0.40, np.diff(law(0.40), prepend=0.0) * states()["m4"]
    middle = (weight @ states()["energy"]) / weight.sum()
    factor = lambda e: 1 + 1.6 * (e - middle)  # its mean, weighted with m⁴, is 1 at the crossing
    z = []
    for k in range(200):
        first, run = (lazy_run(0.40, 0.5, 4, n, 70_000 + 2 * k + i) for i, n in enumerate((3600, 1200)))
        first, second = combine([first]), combine([as_twenty_sites(run, m4=run.m4 * factor(run.energy))])
        beta, value = crossing(first, second, between=(0.34, 0.46))
        z.append([(beta.value - truth) / beta.error, (value.value - exact(4, truth)["binder"]) / value.error])
    for part in np.array(z).T:
        assert right(part), (part.mean(), part.std())
        assert not right(1.3 * part) and not right(part / 1.3)


def test_noise_is_no_crossing():
    # two lattices of one law: the curves differ by nothing but noise, and cross in half of all cases
    found = 0
    for k in range(60):
        first, run = (lazy_run(0.40, 0.5, 4, 500, 90_000 + 2 * k + i) for i in (0, 1))
        try:
            crossing(combine([first]), combine([as_twenty_sites(run)]))
            found += 1
        except ValueError as error:
            assert re.search("do not cross|cross [2-9] times|may be noise", str(error)), error
    assert found <= 2
    with pytest.raises(ValueError, match="second: 16 sites"):
        crossing(combine([first]), combine([run]))


@pytest.mark.parametrize("crossings", (2, 3))
def test_more_than_one_crossing_is_refused(crossings):
    # the second curve is the first plus the mean of a polynomial of the energy, which is -0.02 and +0.02 in turn
    run, betas = lazy_run(0.40, 0.0, 4, 2000, 5), np.linspace(0.36, 0.44, crossings + 1)
    e = run.energy.values.ravel()
    powers = [[np.average(e**n, weights=np.exp(-16 * (b - 0.40) * e)) for n in range(crossings + 1)] for b in betas]
    bend = np.polynomial.Polynomial(np.linalg.solve(powers, -0.02 * (-1.0) ** np.arange(crossings + 1)))
    first, second = combine([run]), combine([as_twenty_sites(run, abs_m=run.abs_m + bend(run.energy))])
    with pytest.raises(ValueError, match=f"cross {crossings} times"):
        crossing(first, second, "abs_m", (0.36, 0.44))


def _shared_draws(runs):
    "Draws that could come from either of two runs, the free energies being exact: sum of W (1 - W)."
    cold, warm = (float(r.attrs["beta"]) for r in runs)
    E = np.concatenate([16 * r.energy.values.ravel() for r in runs])
    odds = np.exp((kaufman(4, warm).lnZ - kaufman(4, cold).lnZ) - (cold - warm) * E)  # runs of equal length
    return (odds / (1 + odds) ** 2).sum()


def test_runs_that_share_too_little_are_refused():
    few, many = ([lazy_run(b, 0.0, 4, n, 30 + k) for k, b in enumerate((0.2, 0.7))] for n in (100, 1000))
    shared = float(np.minimum.reduce([_shared_draws(few), _shared_draws(many) / 10]))
    assert 5 < shared < 18  # so the few are too few, and ten times as many enough
    with pytest.raises(ValueError, match="draws are shared; at least 20 are needed"):
        combine(few)
    combine(many)


def test_a_cold_run_is_followed_by_one_and_a_half_standard_deviations():
    run = lazy_run(0.8, 0.0, 4, 4000, 9)
    c, end = combine([run]), 0.8 + 1.5 / (16 * float(run.energy.std()))
    assert c.reach()[1] > end + 0.1  # a nearly frozen lattice keeps its draws for ever
    with pytest.raises(ValueError, match="highest at the end") as refused:
        peak(c, "abs_m")
    assert np.isclose(float(re.search("beta=([0-9.]+)", str(refused.value)).group(1)), end, rtol=1e-5)


def test_far_away_the_ground_state_is_left():
    run = lazy_run(0.6, 0.0, 4, 2000, 3)
    ground = int((run.energy == -2).sum())
    c = combine([run])
    for beta in (50.0, 1e6, 1e300):
        assert np.isclose(c.n_eff(beta), ground * c.counts[0] / run.energy.size, rtol=1e-9)
        assert np.isclose(c.at(beta, ["energy"], share=0.0).value.item(), -2.0)


def test_one_temperature_of_a_ladder_is_a_run_and_two_are_refused():
    ladder = temper(TINY, [0.34, 0.40, 0.46], draws=3000, chains=4, seed=8, progress=False)
    found = reweight(ladder.sel(beta=0.40), [0.38, 0.42], NAMES)
    for b in (0.38, 0.42):
        for name in NAMES:
            point = found.sel(observable=name, beta=b)
            assert abs(point.value - exact(4, b)[name]) < 4.5 * point.error, (name, b)
    with pytest.raises(ValueError, match="exchange configurations"):
        combine([ladder.sel(beta=b) for b in (0.34, 0.46)])
    other = temper(TINY, [0.34, 0.40, 0.46], draws=500, chains=4, seed=9, progress=False)
    assert combine([ladder.sel(beta=0.34), other.sel(beta=0.46)]).betas.tolist() == [0.34, 0.46]


def test_a_crossing_of_two_lattices():
    run = {"draws": 20000, "chains": 4, "method": "metropolis", "keep": "observables", "progress": False}
    binder = lambda L, b: exact(L, b)["binder"]
    truth = brentq(lambda b: binder(4, b) - binder(5, b), 0.42, 0.48, xtol=1e-10)
    z = []
    for k in range(6):
        small, large = (combine([sample(Ising((L, L)), 0.44, seed=100 * L + k, **run)]) for L in (4, 5))
        beta, value = crossing(small, large, between=(0.405, 0.49))
        z.append([(beta.value - truth) / beta.error, (value.value - binder(4, truth)) / value.error])
    z = np.array(z)
    assert np.abs(z).max() < 4 and (np.abs(z.mean(axis=0)) * np.sqrt(len(z)) < 4).all()
