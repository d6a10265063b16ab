"Thermal defects from few labels: closed forms against quadrature, what the study found, refusals."
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from common import assert_complete, assert_refused
from scipy.stats import norm
from scipy.stats import t as student

from uqphys import disorder as module
from uqphys.disorder import UNSEEN, DefectReport, choose_environments, density_of_states, importance_log_z, thermal_defects
from uqphys.mdn import MixtureDensityNet


@pytest.fixture(scope="module")
def study():
    return runpy.run_path(str(Path(__file__).parents[1] / "studies" / "disorder.py"))


@pytest.fixture(scope="module")
def rows(study):
    return json.loads(study["FILE"].read_text())["rows"]


@pytest.fixture(scope="module")
def net():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (80, 1))
    return MixtureDensityNet(components=2, members=5, steps=150, seed=1).fit(x, 0.3 * x + 0.1 * rng.choice([-1, 1], (80, 1)) + 0.03 * rng.normal(size=(80, 1)), progress=False)


WHERE, LOGS = np.linspace(-1, 1, 7)[:, None], np.log([1, 2, 3, 4, 3, 2, 1.0])


# ---- closed forms

def test_partition_sums_are_integrals_over_the_density(net):
    grid = np.linspace(-4, 4, 40_001)
    g = density_of_states(net, WHERE, grid, log_weights=LOGS)
    assert np.allclose(np.trapezoid(g, grid), 1, atol=1e-8)
    labels = np.array([-0.5, 0.1, -0.3, 0.4])
    report = thermal_defects(net, WHERE, [0.0, 3.0, 8.0], log_weights=LOGS, energies=labels)
    for k, beta in enumerate((0.0, 3.0, 8.0)):
        weighted = g * np.exp(-beta * grid)
        z = np.trapezoid(weighted, grid)
        np.testing.assert_allclose(np.log(z), report.log_z[:, k], atol=1e-8)
        np.testing.assert_allclose(np.trapezoid(weighted * grid, grid) / z, report.mean_energy[:, k], atol=1e-8)
        below = np.trapezoid(weighted[:, grid <= 0.1], grid[grid <= 0.1]) / z
        assert abs(below.mean() - report.unseen[k]) < 1e-3
    assert np.allclose(report.log_z[:, 0], 0, atol=1e-12)


def test_the_report(net):
    report = thermal_defects(net, WHERE, [2.0, 5.0])
    low, high = report.interval()
    assert np.allclose(report.interval("concentration"), np.exp([low, high])) and not report.trusted.any() and np.isnan(report.unseen).all() and "not checked" in repr(report)
    narrow = report.interval(level=0.5)
    assert (low < narrow[0]).all() and (narrow[1] < high).all()
    hurt = DefectReport(report.beta, report.log_z, report.mean_energy, np.array([0.1, UNSEEN + 0.01]))
    assert hurt.trusted.tolist() == [True, False] and repr(hurt).count("not to be trusted") == 1


def test_environments_are_chosen_where_the_answer_is(net):
    which, ratio = choose_environments(net, WHERE, 5.0, 4000, seed=1, log_weights=LOGS)
    assert np.array_equal(which, choose_environments(net, WHERE, 5.0, 4000, seed=1, log_weights=LOGS)[0])
    assert WHERE[which].mean() < -0.15  # the cheap ones
    p = np.exp(LOGS - np.log(16))
    assert np.isclose(np.exp(ratio).mean(), 1, atol=0.1)  # E_q[p/q] = 1
    share = np.bincount(which, minlength=7) / 4000
    np.testing.assert_allclose(share[share > 0.02], (p / np.exp([ratio[which == k][0] if (which == k).any() else 0 for k in range(7)]))[share > 0.02], rtol=0.2)


def test_importance_sampling_is_unbiased_and_its_error_is_right():
    "Normal energies, chosen with a shifted law: 400 repetitions."
    rng, z = np.random.default_rng(2), []
    for _ in range(400):
        e = rng.normal(-1, 1, 200)
        z.append(importance_log_z(e, -0.5 * e**2 + 0.5 * (e + 1) ** 2, 1.5))
    value, error, effective = np.array(z).T
    assert abs((np.exp(value - 1.125)).mean() - 1) < 5 * np.exp(value - 1.125).std() / 20
    assert abs(np.sqrt((error**2).mean()) / value.std() - 1) < 0.2 and (effective <= 200).all()


# ---- what the study found (issue: few labels)

def test_the_study_is_whole(study, rows):
    assert {part: len(rows[part]) for part in rows} == study["REPETITIONS"]


@pytest.mark.parametrize("part", ["random", "chosen"])
@pytest.mark.parametrize("name", ["log_z", "mean_energy"])
def test_intervals_from_300_labels_hold_95_of_100(study, rows, part, name):
    "At 2000, 1750 and 1500 K; the interval of the concentration is that of ln Z, exponentiated."
    inside = np.array([row[f"{name}_inside"] for row in rows[part]])[:, study["JUDGED"]].mean(0)
    low, high = study["TARGET"] if name == "log_z" else (0.90, 0.995)
    assert len(rows[part]) >= 200 and (low <= inside).all() and (inside <= high).all(), inside


def test_the_intervals_have_power(study, rows):
    "Intervals a third narrower, or shifted by one and a half standard errors either way, would be caught."
    limit = student(15).ppf(0.975)
    for part in ("random", "chosen"):
        z = np.array([np.divide(row["log_z"], row["log_z_error"]) for row in rows[part]])[:, study["JUDGED"]]
        for hurt in (1.5 * z, z + 1.5, z - 1.5):
            assert ((abs(hurt) < limit).mean(0) < 0.92).all()


def test_a_twentieth_of_the_labels_of_brute_force(study, rows):
    ours, importance, brute = study["labels_needed"](study["summarise"](rows))
    print("labels for 5 %:", ours.round(), "without a network:", importance.round(), "brute force:", brute.round(), "ratio", (brute / ours).round(1))
    assert (ours[study["JUDGED"]] <= brute[study["JUDGED"]] / 20).all()


@pytest.mark.parametrize("part", ["random", "chosen"])
def test_the_warning_fires_before_coverage_is_lost(rows, part):
    "Where the tail is cold, not where it is a trap (next test). Cooling down: as long as most reports do not warn, 92 % are covered; random labels are warned of while they still are; what is trusted is covered."
    column = lambda key: np.array([row[key] for row in rows[part]])
    inside, warned = column("log_z_inside"), column("unseen") > UNSEEN
    print("covered", inside.mean(0), "warned", warned.mean(0))
    assert (inside.mean(0)[warned.mean(0) < 0.5] >= 0.92).all() and inside[~warned].mean() > 0.92
    if part == "random":
        assert ((warned.mean(0) > 0.95) & (inside.mean(0) > 0.92)).any()


def test_the_trap_is_told_as_it_is(rows):
    "What no label shows, no interval knows: coverage is lost without a warning, as the page says."
    inside, unseen = (np.array([row[key] for row in rows["trap"]]) for key in ("log_z_inside", "unseen"))
    assert inside[:, 2].mean() < 0.8 and (unseen[:, 2] > UNSEEN).mean() < 0.1 and (unseen[:, 4] > UNSEEN).mean() > 0.8


def test_the_scores_of_quantiles(study):
    "Exact quantiles of a normal law have its CRPS and nearly its log score; ties are no catastrophe."
    rng = np.random.default_rng(3)
    centre = rng.normal(size=20_000)
    y, q = centre + rng.normal(size=20_000), centre[:, None] + norm.ppf(study["LEVELS"])
    crps, log_score = study["quantile_scores"](q, y)
    assert abs(crps - 1 / np.sqrt(np.pi)) < 0.01 and abs(log_score - 0.5 * np.log(2 * np.pi) - 0.5) < 0.03
    tied = study["quantile_scores"](np.round(q), y)
    assert np.isfinite(tied).all()


@pytest.mark.parametrize("part", ["random", "chosen", "labels 200", "trap"])
def test_the_study_is_what_the_code_gives(study, rows, part):
    for r in range(2 if part != "trap" else 1):
        again, kept = study["repetition"](part, r), rows[part][r]
        for key in ("log_z", "log_z_error"):
            np.testing.assert_allclose(np.array(again[key])[:4], np.array(kept[key])[:4], atol=0.03)  # training enlarges the last bits of a processor


def test_the_table(study, rows):
    "The mixture says the law best by the log score, and no method has a better CRPS; paired over ten drawings."
    score = lambda name: np.array([row[name] for row in rows["table"]])
    ours = score("mixture density network")
    for name in rows["table"][0]:
        if name != "mixture density network":
            gap = score(name) - ours
            error = gap.std(0, ddof=1) / np.sqrt(len(gap))
            print(f"{name}: CRPS {gap[:, 0].mean():+.5f} ± {error[0]:.5f}, log score {gap[:, 1].mean():+.3f} ± {error[1]:.3f}")
            assert gap[:, 1].mean() > 2 * error[1] and gap[:, 0].mean() > -2 * error[0], name


BAD = [
    *[(f"disorder.{f.__name__}", lambda t, f=f, n=n, v=v, more=more: f(**(dict(net=t, descriptors=WHERE) | more | {n: v})), n, s, "must") for f, more, cases in
      ((thermal_defects, dict(beta=1.0), (("net", 3, "3"), ("beta", -1.0, "-1"), ("beta", "a", "a"), ("log_weights", [0.0], "0.0"), ("energies", [1.0], r"\(1,\)"), ("energies", np.ones((5, 3)), r"\(5, 3\)"), ("beta", [], r"\(0,\)"), ("beta", [[1.0, 2.0]], r"\(1, 2\)"), ("energies", ["a"] * 3, "a"))),
       (choose_environments, dict(beta=1.0, n=3, seed=1), (("net", 3, "3"), ("beta", [1.0, 2.0], "1.0, 2.0"), ("n", 0, "0"), ("seed", -1, "-1"), ("log_weights", [0.0], "0.0"))),
       (density_of_states, dict(energy=[1.0]), (("net", 3, "3"), ("energy", [[1.0]], r"1, 1"), ("energy", [np.nan], "nan"), ("log_weights", [0.0], "0.0")))) for n, v, s in cases],
    ("disorder.thermal_defects", lambda t: thermal_defects(MixtureDensityNet(), WHERE, 1.0), "fit", "surrogate", "call fit"),
    ("disorder.importance_log_z", lambda t: importance_log_z([1.0], [0.0], 1.0), "energies", "1", "at least two"), ("disorder.importance_log_z", lambda t: importance_log_z([1.0, 2.0], [0.0], 1.0), "log_ratio", "1", "as many"),
    ("disorder.importance_log_z", lambda t: importance_log_z([1.0, 2.0], [0.0, 0.0], -1.0), "beta", "-1", "must"), ("disorder.importance_log_z", lambda t: importance_log_z([1.0, 2.0], [0.0, 0.0], [1.0]), "beta", "1.0", "must"),
    ("disorder.importance_log_z", lambda t: importance_log_z([1e200, 2e200], [0.0, 0.0], 1.0), "energies", "2e.200", "must be"), ("disorder.DefectReport", lambda t: DefectReport(1, 2, 3, 4), "beta", r"\(\)", "must be"),
    ("disorder.thermal_defects", lambda t: thermal_defects(t, np.full((3, 1), np.nan), 1.0), "descriptors", "not finite", "must be"),
    ("disorder.DefectReport", lambda t: thermal_defects(t, WHERE, 1.0).interval("entropy"), "name", "entropy", "must be"), ("disorder.DefectReport", lambda t: thermal_defects(t, WHERE, 1.0).interval(level=1), "level", "1", "between"),
]


@pytest.mark.parametrize("k", range(len(BAD)), ids=lambda k: f"{k}-{BAD[k][2]}")
def test_bad_calls_are_refused(k, net):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, net, argument, value, accepted)


def test_every_public_callable_is_walked():
    assert_complete([module], BAD, {})
