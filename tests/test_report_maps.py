"""The map of a bias from a few reports: coverage over designs, left-out runs, reports without an exact energy, and where to run next."""
import functools
from dataclasses import replace

import numpy as np
import pytest
from common import assert_complete, assert_refused, row_name
from scipy import stats

from uqphys import report_maps
from uqphys.bias import _report
from uqphys.models import Ising
from uqphys.report_maps import ReportMap
from uqphys.sampling import sample

INPUTS = ("beta", "K", "L")


@functools.cache
def row_sums(L):
    s = ((np.arange(2**L)[:, None] >> np.arange(L)) & 1) * 2.0 - 1
    bonds = s * np.roll(s, 1, 1)
    return bonds.sum(1), s @ s.T, bonds @ bonds.T


def log_z(L, beta, J, K):
    "ln Z of an L x L torus by a transfer matrix between rows."
    within, between, squares = row_sums(L)
    minus = J * (within[:, None] + within) / 2 + J * between + K * squares
    w = np.linalg.eigvalsh(np.exp(beta * (minus - minus.max())))
    return L * (beta * minus.max() + np.log(w.max())) + np.log(((w / w.max()) ** L).sum())


@functools.cache
def known_bias(beta, K, L, step=1e-4):
    "Energy per site of pairs with J = 1.11 minus that of pairs and squares."
    energy = lambda J, K: -(log_z(L, beta + step, J, K) - log_z(L, beta - step, J, K)) / (2 * step) / L**2
    return energy(1.11, 0.0) - energy(1.0, K)


EVERYTHING = [(float(b), K, L) for b in np.linspace(0.2, 0.5, 16) for K in (0.0, 0.1, 0.2, 0.3) for L in (4, 6, 8)]


def truth():
    return np.array([known_bias(*place) for place in EVERYTHING])


def made_up(values, sigma, rng, trust="yes", names=("energy",)):
    "A report that errs as it says."
    b = np.atleast_1d(values) + sigma * rng.standard_normal(len(names))
    rows = dict(surrogate=0 * b, predicted_bias=b, low=b - 1.96 * sigma, high=b + 1.96 * sigma, corrected=-b, error=0 * b + sigma)
    return _report(list(names), rows, 100, dict.fromkeys(names, f"{trust}: made up"), {})


def design(seed, n=16, sigma=0.002, **options):
    "A map of n reports at random places, and the numbers of the places."
    rng = np.random.default_rng(seed)
    at = rng.permutation(len(EVERYTHING))[:n]
    return ReportMap(INPUTS, seed=seed, **options).fit([EVERYTHING[i] for i in at], [made_up(truth()[i], sigma, rng) for i in at]), at


@functools.cache
def designs(n, sigma, count=24):
    "Coverage, root-mean-square error, and mean square z of left-out runs, of many designs."
    found = []
    for seed in range(count):
        one, at = design(seed, n, sigma)
        rest = np.setdiff1d(np.arange(len(EVERYTHING)), at)
        belief = one.predict([EVERYTHING[i] for i in rest])
        (low, high), known = belief.interval(0.95), truth()[rest]
        found.append((np.mean((low[:, 0] <= known) & (known <= high[:, 0])), np.sqrt(np.mean((belief.mean[:, 0] - known) ** 2)), (one.left_out() ** 2).mean()))
    return np.array(found)


def test_the_transfer_matrix_is_the_enumeration():
    from uqphys.exact import enumerate_states

    for J, K in ((1.11, 0.0), (1.0, 0.3)):
        exact = enumerate_states(Ising((4, 4), J=J, K=K), 0.35).averages["energy"]
        assert np.isclose(-(log_z(4, 0.3501, J, K) - log_z(4, 0.3499, J, K)) / 2e-4 / 16, exact, atol=1e-6)


@pytest.mark.parametrize("n, sigma", [(12, 0.002), (16, 0.002), (16, 0.02), (32, 0.002)])
def test_intervals_between_the_runs_hold_the_bias(n, sigma):
    "Pooled over two dozen designs; the error of the mean is that of designs, whose places hang together."
    coverage = designs(n, sigma)[:, 0]
    error = coverage.std(ddof=1) / len(coverage) ** 0.5
    assert coverage.mean() > 0.95 - 4 * max(error, 0.005), (coverage.mean(), error)


def test_more_runs_make_smaller_errors():
    small, large = (np.median(designs(n, 0.002)[:, 1]) for n in (12, 32))
    size = np.sqrt(np.mean(truth() ** 2))
    assert large < small / 1.5 and small < size / 2


def test_left_out_runs_are_those_of_a_second_fit():
    "With the lengths as they are: the formula against conditioning on all others."
    import torch

    one, at = design(3)
    process, total = one.process.processes[0], []
    with torch.no_grad():
        means, variances = [], []
        for vector in process.vectors:
            report_maps._set(process, vector)
            C = process.covariance().numpy()
            rest = np.arange(1, len(C))
            gain = np.linalg.solve(C[np.ix_(rest, rest)], C[rest, 0])
            means.append(gain @ process.y.numpy()[rest]), variances.append(C[0, 0] - gain @ C[rest, 0])
    expected = (process.y.numpy()[0] - np.mean(means)) / np.sqrt(np.mean(variances) + np.var(means))
    assert np.isclose(design(3)[0].left_out()[0, 0], expected, rtol=1e-6)


def test_reports_that_err_more_than_they_say_are_seen():
    "Errors of 0.1 where 0.002 is stated: no smooth function goes through them, and the map knows little."
    rng, at = np.random.default_rng(0), np.random.default_rng(1).permutation(len(EVERYTHING))[:40]
    reports = [made_up(truth()[i] + 0.1 * rng.standard_normal(), 0.002, rng) for i in at]
    one = ReportMap(INPUTS).fit([EVERYTHING[i] for i in at], reports)
    honest = design(1, 40)[0]
    assert np.sqrt(one.predict(EVERYTHING).epistemic.mean()) > 3 * np.sqrt(honest.predict(EVERYTHING).epistemic.mean())


# ---- reports without an exact energy

def cheap(beta, L, seed=0):
    return sample(Ising((L, L), J=1.11), beta, draws=2000, chains=8, thin=5, burn_in=200, seed=seed, keep="observables", progress=False)


def test_a_cheap_run_is_corrected():
    one, z = design(0, 40)[0], []
    for seed, (beta, K, L) in enumerate([(0.23, 0.05, 4), (0.28, 0.25, 6), (0.33, 0.15, 8), (0.37, 0.22, 4), (0.44, 0.12, 6), (0.48, 0.27, 8)]):
        report = one.report(cheap(beta, L, seed), {"K": K})
        row = report.table.loc["energy"]
        exact = -(log_z(L, beta + 1e-4, 1.0, K) - log_z(L, beta - 1e-4, 1.0, K)) / 2e-4 / L**2
        z.append((row["corrected"] - exact) / row["error"])
        assert row["exact_evaluations"] == 0 and np.isclose(row["corrected"], row["surrogate"] - row["predicted_bias"]) and row["trust"] == "yes", report.verdicts
    assert stats.chi2.sf(np.sum(np.square(z)), len(z)) > 1e-3, z


def test_doubts_are_named():
    one = design(0, 40)[0]
    for beta, K, what in ((0.7, 0.1, "beta=0.7 lies outside"), (0.3, 0.6, "K=0.6 lies outside")):
        report = one.report(cheap(beta, 4), {"K": K})
        assert report.table.loc["energy", "trust"] == "with probes" and what in report.verdicts["energy"] and "a corrected run here" in report.verdicts["energy"]
    few = design(0, 5)[0]
    assert "no run is near" in few.report(cheap(0.5, 8), {"K": 0.3}).verdicts["energy"]
    rng = np.random.default_rng(0)
    bad = ReportMap(INPUTS).fit(EVERYTHING[:40:2], [made_up(b, 0.002, rng, trust="no" if k % 3 == 0 else "yes") for k, b in enumerate(truth()[:40:2])])
    verdict = bad.report(cheap(EVERYTHING[2][0], 6), {"K": 0.0}).verdicts["energy"]
    assert verdict.startswith("no:") and "7 of 20 runs have reports that say 'no'" in verdict
    weak = ReportMap(INPUTS).fit(EVERYTHING[:40:2], [made_up(b, 0.002, rng, trust="with probes" if k % 3 == 0 else "yes") for k, b in enumerate(truth()[:40:2])])
    assert weak.report(cheap(EVERYTHING[2][0], 6), {"K": 0.0}).verdicts["energy"].startswith("with probes:")


def placed(values, sigma, rng, beta, L, exact="Ising(K=0.1)"):
    "A made-up report that tells where it was made."
    return replace(made_up(values, sigma, rng), settings=dict(beta=beta, shape=[L, L], exact=exact))


def test_what_is_no_input_must_be_as_in_the_runs():
    "A map over K, made at one temperature and one size, says no elsewhere; it used to say yes, wrong by a fifth of the bias and more."
    rng, grid = np.random.default_rng(0), np.linspace(0, 0.3, 9)
    one = ReportMap(("K",)).fit(grid, [placed(known_bias(0.25, float(K), 4), 0.001, rng, 0.25, 4) for K in grid])
    assert one.report(cheap(0.25, 4), {"K": 0.11}).table["trust"].tolist() == ["yes"]
    for beta, L, said in ((0.45, 4, "beta=0.45, where the runs had 0.25, and the map does not know beta"), (0.25, 8, "L=8, where the runs had 4, and")):
        verdict = one.report(cheap(beta, L), {"K": 0.11}).verdicts["energy"]
        assert verdict.startswith("no:") and said in verdict


def test_places_are_those_of_the_reports():
    rng, betas = np.random.default_rng(0), np.linspace(0.2, 0.5, 9)
    reports = [placed(known_bias(float(b), 0.1, 4), 0.001, rng, float(b), 4, exact=repr(Ising((4, 4), J=1.11))) for b in betas]
    with pytest.raises(ValueError, match=r"points with beta=0.5 at place 0: its report was made at beta=0.2"):
        ReportMap().fit(betas[::-1], reports)
    one = ReportMap().fit(betas, reports)
    with pytest.raises(ValueError, match="exact model of the reports; expected an ensemble of the approximation"):
        one.report(cheap(0.3, 4))


def test_one_input_needs_no_couplings():
    rng, betas = np.random.default_rng(0), np.linspace(0.2, 0.5, 9)
    one = ReportMap().fit(betas, [made_up(known_bias(float(b), 0.1, 4), 0.001, rng) for b in betas])
    report = one.report(cheap(0.36, 4))
    assert abs(report.table.loc["energy", "predicted_bias"] - known_bias(0.36, 0.1, 4)) < 4 * np.sqrt(one.predict([0.36]).epistemic[0, 0]) + 1e-6
    assert report.settings["place"] == {"beta": 0.36} and one.predict(0.36 * np.ones(3)).mean.shape == (3, 1)


def test_observables_are_separate_and_draws_joint():
    rng, at = np.random.default_rng(0), range(0, len(EVERYTHING), 8)
    both = ReportMap(INPUTS).fit([EVERYTHING[i] for i in at], [made_up([truth()[i], -2 * truth()[i]], 0.002, rng, names=("energy", "other")) for i in at])
    belief = both.predict(EVERYTHING[:5])
    assert belief.mean.shape == (5, 2) and belief.draws.shape == (400, 5, 2) and np.abs(2 * belief.mean[:, 0] + belief.mean[:, 1]).max() < 0.05
    near = both.predict([(0.3, 0.1, 6), (0.301, 0.1, 6)], "energy").draws[:, :, 0]
    assert np.corrcoef(near.T)[0, 1] > 0.99


def test_the_gain_is_the_fall_of_the_variance():
    "Against conditioning each set of lengths on one run more; the map knows the covariance from 400 draws."
    import torch

    one, at = design(2, 16)
    candidates, process = [EVERYTHING[i] for i in np.setdiff1d(np.arange(len(EVERYTHING)), at)[::6]], one.process.processes[0]
    choice = one.next_run(candidates, "energy", over=EVERYTHING[::4])
    z = lambda places: torch.from_numpy((report_maps._seen(one, np.array(places, dtype=float)) - one.process.inside[0]) / one.process.inside[1])
    noise, before, falls = (np.median(one.sigma) / one.process.outside[1][0]) ** 2, [], []
    with torch.no_grad():
        means = []
        for vector in process.vectors:
            report_maps._set(process, vector)
            both = torch.cat([z(EVERYTHING[::4]), z(candidates)])
            root = torch.linalg.cholesky(process.covariance())
            half = torch.linalg.solve_triangular(root, process.kernel(process.x, both).to_dense(), upper=False)
            C = (process.kernel(both).to_dense() - half.T @ half).numpy()
            means.append((half.T @ torch.linalg.solve_triangular(root, process.y[:, None], upper=False))[:, 0].numpy()), before.append(C)
    C, m = np.mean(before, 0) + np.cov(np.array(means).T, bias=True), len(EVERYTHING[::4])
    expected = (C[:m, m:] ** 2).mean(0) / (np.diag(C)[m:] + noise) / np.diag(C)[:m].mean()
    large = expected > 0.1  # squares of covariances of 400 draws: errors of about 10 %
    assert np.corrcoef(expected, choice.gain)[0, 1] > 0.95 and large.sum() > 3 and np.abs(choice.gain / expected - 1)[large].max() < 0.4
    assert tuple(choice.point) == tuple(map(float, candidates[choice.index])) and choice.gain.argmax() == choice.index


def test_a_saved_map_is_the_same(tmp_path):
    one = design(0)[0]
    one.save(tmp_path / "map.json")
    again = ReportMap.load(tmp_path / "map.json")
    assert np.array_equal(again.predict(EVERYTHING[:20]).draws, one.predict(EVERYTHING[:20]).draws) and np.array_equal(again.left_out(), one.left_out())
    text = (tmp_path / "map.json").read_text()
    for damage in (lambda t: t[:100], lambda t: "", lambda t: "[]", lambda t: t.replace("ReportMap", "Map"), lambda t: t.replace('"bias": [[', '"bias": [[1.0], ['), lambda t: t.replace('"names"', '"nams"'),
                   lambda t: t.replace('"names": ["energy"]', '"names": [3]'), lambda t: t.replace('"yes"', '"maybe"'), lambda t: t.replace('"sigma": [[', '"sigma": [[-'), lambda t: t.replace('"exact": []', '"exact": 3')):
        assert damage(text) != text
        (tmp_path / "hurt.json").write_text(damage(text))
        with pytest.raises(ValueError, match="hurt.json"):
            ReportMap.load(tmp_path / "hurt.json")


def test_a_refused_fit_leaves_the_map_as_it_was():
    one = design(0)[0]
    before = one.predict(EVERYTHING[:5]).mean
    with pytest.raises(ValueError):
        one.fit(EVERYTHING[:4], [made_up(np.nan, 0.1, np.random.default_rng(0))] * 4)
    assert np.array_equal(one.predict(EVERYTHING[:5]).mean, before)


# ---- bad calls

@pytest.fixture(scope="module")
def things():
    return dict(map=design(0)[0], run=cheap(0.3, 4), report=made_up(0.1, 0.01, np.random.default_rng(0)))


NAME = "report_maps.ReportMap"
BAD = [
    (NAME, lambda t: ReportMap("beta"), "inputs", "beta", "names"),
    (NAME, lambda t: ReportMap(()), "inputs", "()", "names"),
    (NAME, lambda t: ReportMap(("K", "K")), "inputs", "K", "different"),
    (NAME, lambda t: ReportMap(draws=1), "draws", "1", ">= 2"),
    (NAME, lambda t: ReportMap(seed=-1), "seed", "-1", "whole number"),
    (NAME, lambda t: ReportMap().fit([0.1, 0.2, 0.3], [t["report"]] * 3), "points", "3", "at least 4"),
    (NAME, lambda t: ReportMap().fit([0.1, 0.2, 0.3, 0.4], [t["report"]] * 3), "reports", "BiasReport|observable", "4 BiasReports"),
    (NAME, lambda t: ReportMap().fit([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]), "reports", "1, 2", "BiasReports"),
    (NAME, lambda t: ReportMap().fit([0.1, 0.2, 0.3, np.nan], [t["report"]] * 4), "points", "nan", "finite"),
    (NAME, lambda t: ReportMap().fit([-0.1, 0.2, 0.3, 0.4], [t["report"]] * 4), "points", "-0.1", ">= 0"),
    (NAME, lambda t: ReportMap(("L",)).fit([0, 2, 3, 4], [t["report"]] * 4), "points", "0.0", ">= 1"),
    (NAME, lambda t: ReportMap().predict([0.3]), "map", "not fitted", "fit"),
    (NAME, lambda t: t["map"].predict([0.3]), "points", r"1,", "beta, K, L"),
    (NAME, lambda t: t["map"].predict(EVERYTHING[:2], "m"), "observables", "m", "energy"),
    (NAME, lambda t: t["map"].predict(EVERYTHING[:2], [["energy"]]), "observables", "energy", "names"),
    (NAME, lambda t: t["map"].next_run(EVERYTHING[:2], ["energy"]), "observable", "energy", "one of"),
    (NAME, lambda t: t["map"].report(t["run"]), "couplings", "None", "K"),
    (NAME, lambda t: t["map"].report(t["run"], {"J": 1.0}), "couplings", "J", "K"),
    (NAME, lambda t: t["map"].report(t["run"], {"K": "big"}), "K", "big", "number"),
    (NAME, lambda t: t["map"].report(3, {"K": 0.1}), "ensemble", "int", "sample"),
    (NAME, lambda t: t["map"].report(sample(Ising((4, 6)), 0.3, draws=50, chains=2, burn_in=10, seed=0, progress=False), {"K": 0.1}), "ensemble", "4, 6", "equal"),
    (NAME, lambda t: ReportMap.load("no/such"), "path", "no/such", "ReportMap.save"),
]


@pytest.mark.parametrize("row", BAD, ids=row_name)
def test_bad_call_is_refused(row, things):
    assert_refused(row[1], things, *row[2:])


def test_every_public_callable_stands_in_the_table():
    assert_complete([report_maps], BAD, {"report_maps.NextReport": "a result"})
