"""The study of observables from couplings: its results, its smallest run, interrupted and resumed, and its counting on cases whose count is known."""
import json
import math

import numpy as np
import pandas as pd
import pytest
from study import STUDIES, load_study

from uqphys.couplings import COUPLINGS, OUTPUTS, couplings
from uqphys.exact import BETA_C, all_states, enumerate_states, kaufman, transfer_matrix
from uqphys.models import Ising


study = load_study("observables.py")


@pytest.fixture(scope="module")
def told():
    return json.loads((STUDIES / "observables.json").read_text())


# ---- what the study found

SHOWN = ("64 runs", "256 runs", "1024 runs", "3072 runs")


def mean(told, case, which, key):
    return np.mean([v for v, _ in told["cases"][case][which][key].values()])


def test_the_results_are_those_of_the_script_as_it_is(told):
    assert told["settings"]["cases"] == study.CASES and told["settings"]["sizes"] == [10, 20]
    assert {c: v["networks"] for c, v in told["cases"].items()} == {c: v["networks"] for c, v in study.CASES.items()}
    learn, judge = study.runs()
    for case, given in study.CASES.items():
        assert told["cases"][case]["learned_from"] == given["runs"] and told["cases"][case]["couplings"] == len(study.asked(case, judge))


def test_error_bars_are_honest_from_a_thousand_runs_on_and_nowhere_beyond_the_lesson(told):
    for case in SHOWN[2:]:
        assert all(0.93 < r["within_2"] < 0.99 for r in told["cases"][case]["regions"].values())
    for case in ("L <= 8", "small J2, K"):
        assert told["cases"][case]["regions"]["all"]["within_2"] < 0.7 and mean(told, case, "judge", "coverage_before") < 0.7


def test_intervals_of_corrected_values_hold(told):
    for case, c in told["cases"].items():
        assert 0.92 < mean(told, case, "judge", "coverage") < 0.97 and mean(told, case, "exact", "coverage") > 0.89
    held = np.concatenate([c["averages"]["held"] for c in told["cases"].values()])
    assert abs(held.mean() - 0.95) < 3 * held.std(ddof=1) / math.sqrt(len(held)) < 0.07


def test_what_is_repaired_is_what_neighbours_share(told):
    parts = {case: told["cases"][case]["parts"] for case in SHOWN}
    for case, p in parts.items():
        assert np.isclose(p["common"]["all"][0] + p["network"]["all"][0] + p["run"]["all"][0], p["total"]["all"][0])
        assert p["common"]["all"][0] + p["network"]["all"][0] > 1.5 * p["run"]["all"][0]  # the networks are wrong by more than the runs
    near, left = {}, {}
    for case, c in told["cases"].items():
        near[case] = np.interp(c["memory"]["nearest"], c["memory"]["distance"], c["memory"]["correlation"])
        left[case] = mean(told, case, "judge", "after") / mean(told, case, "judge", "before")
    order = sorted(near, key=near.get)
    assert [left[c] for c in order[:4]] == sorted((left[c] for c in order[:4]), reverse=True) and max(left[c] for c in order[4:]) < 0.7
    assert near["3072 runs"] < 0.05 < 0.97 < left["3072 runs"] and near["64 runs"] > 0.35 and left["64 runs"] < 0.75


def test_curves_and_couplings_and_the_classifier(told):
    poor, good = (told["cases"][c] for c in ("64 runs", "3072 runs"))
    chi = poor["curves"]["chi"]["susceptibility"]
    assert np.mean(chi["after"]) < 0.1 * np.mean(chi["before"]) and np.mean(chi["coverage"]) > 0.9
    place = lambda who: np.sqrt(np.mean((np.array(chi["tops"][who])[:, 0] / np.array(chi["tops"]["exact"])[:, 0] - 1) ** 2))
    assert place("after") < 0.005 < 0.02 < place("before")
    error = lambda c, who: np.sqrt(np.mean([np.square(f[who]["error"]) for f in c["inverse"]], 0))
    assert (error(poor, "after") < 0.25 * error(poor, "before")).all() and (error(poor, "after") < 1.7 * error(good, "after")).all()
    for L in told["settings"]["sizes"]:
        network, corrected, ideal = (np.array([p["places"][who][0] for p in told["phases"] if p["L"] == L]) for who in ("network", "corrected", "ideal"))
        error = ideal.std(ddof=1) / math.sqrt(len(ideal))
        assert abs(ideal.mean() - 1 / BETA_C) < 3 * error < 0.01 and network.mean() - ideal.mean() > 4 * math.hypot(error, network.std(ddof=1) / math.sqrt(len(network)))
        assert abs(corrected.mean() - ideal.mean()) < 0.15 * (network.mean() - ideal.mean())
    hits = [h for p in told["phases"] for h in p["hits"]]
    assert abs(np.mean(hits) - 0.95) < 3 * math.sqrt(0.95 * 0.05 / len(hits))


# ---- the smallest run

QUICK = {"64 runs": study.QUICK["64 runs"]}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    "A run that is interrupted at its last row, then continued; and which rows were made when."
    folder = tmp_path_factory.mktemp("observables")
    mine, made = load_study("observables.py"), []
    whole, classify = mine.network, mine.classifier

    def stopped(*args):
        raise KeyboardInterrupt

    mine.network = lambda *args: made.append(args[:2]) or whole(*args)
    mine.classifier = stopped
    options = dict(folder=folder / "rows", out=folder / "out.json", cases=QUICK, sizes=(6,), classifiers=1, quick=True)
    with pytest.raises(KeyboardInterrupt):
        mine.main(**options)
    assert not (folder / "out.json").exists() and not list((folder / "rows").glob("*.part"))
    before = {file.name: file.read_bytes() for file in (folder / "rows").glob("*.json")}
    mine.classifier = classify
    result = mine.main(**options)
    return folder, made, before, result


def test_an_interrupted_study_goes_on_where_it_stopped(smallest):
    folder, made, before, result = smallest
    assert made == [("64 runs", 0)]  # not made again
    after = {file.name: file.read_bytes() for file in (folder / "rows").glob("*.json")}
    assert set(after) - set(before) == {"classifier_6-000.json", "alone-000.json"} and all(after[name] == before[name] for name in before)
    assert (folder / "out.json").read_text() == json.dumps(result, indent=1) + "\n"


def test_the_smallest_run_has_what_the_page_reads(smallest, told):
    _, _, _, result = smallest
    assert set(result) == set(told)
    case, same = result["cases"]["64 runs"], told["cases"]["64 runs"]
    assert set(case) == set(same)
    assert set(case["first"]) == set(OUTPUTS) and set(case["first"]["xi"]) == set(same["first"]["xi"])


def test_a_classifier_is_the_same_again(smallest):
    folder = smallest[0]
    kept, again = json.loads((folder / "rows" / "classifier_6-000.json").read_text()), study.classifier(6, 0, 10, 30)
    assert json.loads(json.dumps(again["places"])) == kept["places"] and again["hits"] == kept["hits"]


# ---- what networks learn from, and are asked

def test_lessons_are_disjoint_and_tables_lie_outside():
    learn, judge = study.runs()
    for case, given in study.CASES.items():
        rows = [study.lesson(case, k, given, learn) for k in range(2)]
        asked = study.asked(case, judge)
        assert len(rows[0]) == given["runs"] and len(asked) > given["probes"] + 60
        fits = len(study.lesson(case, 0, dict(given, runs=10**6), learn)) // given["runs"]
        assert fits < 2 or not set(rows[0].index) & set(rows[1].index)
    small, part = (study.lesson(case, 0, study.CASES[case], learn) for case in ("L <= 8", "small J2, K"))
    assert small["L"].max() == 8 and study.asked("L <= 8", judge)["L"].min() == 14
    assert part[["J2", "K"]].max().max() < 0.15 <= study.asked("small J2, K", judge)[["J2", "K"]].max(axis=1).min()


# ---- exact answers

def test_exact_observables_of_a_small_lattice():
    beta, found = 0.41, study.exact_observables(couplings(0.41, 4)[0])
    known, thermal = transfer_matrix(4, beta).averages, kaufman(4, beta)
    m, m2, m4 = (known[n] for n in ("abs_m", "m2", "m4"))
    assert np.allclose(found[:5], [thermal.energy, m, beta * 16 * (m2 - m * m), thermal.specific_heat, 1 - m4 / (3 * m2 * m2)], rtol=1e-10)
    assert np.isclose(study.chi(couplings(beta, 4)[0]), found[2], rtol=1e-10)
    model = Ising((4, 4), 1.0, 0.1, 0.2, 0.05)
    x = np.concatenate(list(all_states((4, 4))))
    weight = np.exp(-0.3 * model.energy(x))
    wave = abs(np.fft.fft2(x)) ** 2 / 16
    ratio = (weight @ wave[:, 0, 0]) / (weight @ (wave[:, 0, 1] + wave[:, 1, 0]) / 2)
    assert np.isclose(study.exact_observables(couplings(0.3, 4, J2=0.1, K=0.2, h=0.05)[0])[5], math.sqrt(ratio - 1) / math.sqrt(2), rtol=1e-10)


def test_the_ideal_classifier_is_bayes_theorem_and_nobody_is_better():
    temperatures = study.training_temperatures(n=8)
    x = np.concatenate(list(all_states((4, 4))))
    law = np.array([np.exp(-Ising((4, 4)).energy(x) / T - enumerate_states(Ising((4, 4)), 1 / T).lnZ) for T in temperatures])
    cold = temperatures < 1 / BETA_C
    by_hand, ideal = law[cold].sum(0) / law.sum(0), study.ideal_classifier(4, temperatures)(x)
    assert cold.sum() == 4 and np.allclose(ideal, by_hand, atol=1e-12)
    entropy = lambda p: -(law[cold].mean(0) @ np.log(p) + law[~cold].mean(0) @ np.log1p(-p))
    steps = np.random.default_rng(0).normal(size=len(x)) * 0.1
    assert all(entropy(1 / (1 + np.exp(-np.log(ideal / (1 - ideal)) - change))) > entropy(ideal) for change in (0.1, -0.1, steps))


def test_the_top_of_a_curve_and_couplings_from_a_table():
    T = np.linspace(1.7, 3.5, 37)
    place, height = study.top(T, 5 * np.exp(-((T - 2.31) ** 2)))
    assert abs(place - 2.31) < 1e-9 and abs(height - 5) < 1e-9
    b, k = (a.ravel() for a in np.meshgrid(study.BETAS, study.SQUARES, indexing="ij"))
    observables = lambda b, k: np.stack([b + 0.3 * k, b * b - k, np.exp(b) + k * b], -1)
    true = np.array([[0.33, 0.11], [0.41, 0.3]])
    values = observables(b, k)
    found = study.inferred(values, np.full(values.shape, 1e-3), observables(*true.T), np.full((2, 3), 1e-3))
    assert np.allclose(found, true, atol=1e-4)


# ---- the counting

def invented(common, spread, noise, networks=8, couplings_=320, seed=0):
    "Networks whose errors are a common part, a part of each, and that of the run, all normal and known."
    rng = np.random.default_rng(seed)
    shape = (couplings_, 6)
    y = rng.normal(size=shape) * noise
    shared = rng.normal(size=shape) * common
    rows = [{"mean": (shared + rng.normal(size=shape) * spread).tolist(), "width": np.ones(shape).tolist(), "network": k, "probes": 30} for k in range(networks)]
    x = np.random.default_rng(5).uniform(0.2, 0.5, couplings_)
    data = {**dict(zip(COUPLINGS, couplings(x, 8, J2=0.1 * rng.random(couplings_)).T)), **dict(zip(OUTPUTS, y.T)), **{f"{n}_error": noise for n in OUTPUTS}}
    return rows, pd.DataFrame(data)


def test_the_parts_of_the_error_are_found():
    z = {name: [] for name in ("common", "network", "run", "total")}
    for seed in range(40):
        parts = study.decomposed(*invented(0.5, 0.8, 0.4, seed=seed))
        for name, true in (("common", 0.25), ("network", 0.64), ("total", 1.05)):
            z[name] += [(v - true) / e for v, e in zip(parts[name]["value"], parts[name]["error"])]
        assert np.allclose(parts["run"]["value"], 0.16)
    for name in ("common", "network", "total"):  # 240 scores each: their mean to 0.065, their spread to 0.05 (and the jackknife's own scatter)
        assert abs(np.mean(z[name])) < 0.3 and 0.8 < np.std(z[name]) < 1.3, name
    nothing = [study.decomposed(*invented(0.0, 0.8, 0.4, seed=seed))["common"]["all"] for seed in range(20)]
    assert abs(np.mean([v / e for v, e in nothing])) < 4 / math.sqrt(20)


def test_the_memory_of_errors_is_found_and_absent_where_there_is_none():
    rows, table = invented(0.0, 0.8, 0.4)
    none = study.memory(rows, table)
    assert np.all(np.abs(none["correlation"]) < 5 * np.array(none["error"]) + 0.02) and none["nearest"] > 0
    smooth = np.sin(20 * table["beta"].to_numpy())[:, None] * np.ones(6)
    for r in rows:
        r["mean"] = (np.array(r["mean"]) * 0.2 + smooth).tolist()
    found = study.memory(rows, table)["correlation"]
    assert found[0] > 0.5 and found[0] > found[2] + 0.2


def test_errors_are_counted_where_nothing_was_run():
    n, rng = 4000, np.random.default_rng(2)
    truth, unit, noise = rng.normal(size=n), np.full(n, 2.0), np.full(n, 0.5)
    rows = pd.DataFrame({"surrogate": truth + 2 * rng.normal(size=n), "corrected": truth + rng.normal(size=n), "error": 1.0, "probed": np.arange(n) < 1000})
    seen = truth + noise * rng.normal(size=n)
    seen[:1000] = 1e9  # rows with a run do not count
    found = study.held_against(rows, unit, seen, noise, {"other": truth})
    expected = {"before": math.hypot(2, 0.5) / 2, "after": math.hypot(1, 0.5) / 2, "noise": 0.25, "coverage": 0.95, "coverage_before": 0.95, "other": 0.25}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert abs(found[name] - value) < (4 * math.sqrt(0.95 * 0.05 / 3000) if "coverage" in name else 4 * value / math.sqrt(6000)), name
