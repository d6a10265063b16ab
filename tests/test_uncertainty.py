"The comparison of methods: complete, made by this program, and judged by scores that see what they should."

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).parents[1] / "studies" / "uncertainty.py"


@pytest.fixture(scope="module")
def study():
    return runpy.run_path(str(STUDY))


@pytest.fixture(scope="module")
def told():
    return json.loads(STUDY.with_suffix(".json").read_text())


def test_every_method_met_every_problem_ten_times(study, told):
    assert study["recipe"]() == {key: value for key, value in told.items() if key != "rows"}
    rows = {(row["problem"], row["method"]): row for row in told["rows"]}
    assert set(rows) == set(study["pairs"]()) and len(rows) == 8 * 4 + 1
    keys = ("crps", "negative_log_density", "coverage_50", "coverage_90", "coverage_95", "energy_score", "joint_energy_score", "fit_seconds", "predict_seconds")
    for row in rows.values():
        assert row["splits"] + len(row["failed"]) >= 10 and (row["splits"] >= 10 or all(row["failed"]))
        if row["splits"]:
            assert all(row[key]["error"] >= 0 and np.isfinite(row[key]["value"]) for key in keys), row


def test_the_program_still_gives_these_numbers(study, told):
    "The same splits and seeds: other machines round otherwise, which moves a training a little, and much less than the error."
    row = next(row for row in told["rows"] if (row["problem"], row["method"]) == ("diabetes", "one network"))
    again = [study["piece"]("diabetes", k, "one network") for k in range(10)]
    for key in ("crps", "joint_energy_score", "negative_log_density"):
        assert abs(np.mean([p[key] for p in again]) - row[key]["value"]) < 0.35 * row[key]["error"], key
    assert row["doubted"] == 0 == len(row["doubts"]) and all(p["doubts"] == [] for p in again)


def test_no_plaquette_configuration_is_a_copy_of_an_example(study):
    learn, judge = study["plaquettes"](3)
    assert len(learn) == 100 and 380 <= len(judge) <= 400
    turned = lambda x: {np.rot90(x, k, (0, 1)).tobytes() for k in range(4)} | {(-np.rot90(x, k, (0, 1))).tobytes() for k in range(4)}
    known = {form for x in learn.x for form in turned(x)}
    assert not known & {np.ascontiguousarray(x).tobytes() for x in judge.x}


def test_a_piece_is_kept_and_made_again_when_the_code_changes(study, tmp_path, monkeypatch):
    finished, calls = study["finished"], []
    monkeypatch.setitem(finished.__globals__, "piece", lambda *job: (calls.append(job), dict(job=list(job)))[1])
    one = finished(tmp_path, ("gap", 0, "one network"))
    assert finished(tmp_path, ("gap", 0, "one network")) == one and len(calls) == 1
    monkeypatch.setitem(finished.__globals__, "code", lambda: "another")
    assert finished(tmp_path, ("gap", 0, "one network")) == one and len(calls) == 2


def test_kinds_of_doubts_and_errors_of_folds(study):
    told = [["only 12 effective samples (wanted at least 100)"], ["only 9 effective samples (wanted at least 100)", "R-hat 1.07"], []]
    assert study["kinds_of"](told) == {"only # effective samples (wanted at least #)": 2, "R-hat #": 1}
    plain, folds = (study["mean_and_error"]([1.0, 2.0, 4.0] * 3 + [3.0], problem)["error"] for problem in ("gap", "diabetes"))
    assert abs(folds / plain - (19 / 9) ** 0.5) < 0.05
