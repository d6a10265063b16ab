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
    assert set(rows) == set(study["pairs"]()) and len(rows) == len(told["rows"]) >= 56
    keys = ("crps", "negative_log_density", "coverage_50", "coverage_90", "coverage_95", "energy_score", "joint_energy_score", "fit_seconds", "predict_seconds")
    for row in rows.values():
        assert row["splits"] + len(row["failed"]) >= 10 and (row["splits"] >= 10 or all(row["failed"]))
        if row["splits"]:
            assert all(row[key]["error"] >= 0 and np.isfinite(row[key]["value"]) for key in keys), row
        kept = [score for score in row["each"]["crps"] if score is not None]
        assert len(kept) == row["splits"] and np.isclose(np.mean(kept), row["crps"]["value"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("problem, method", [("diabetes", "one network"), ("gap", "ExactGP"), ("two", "ExactGP, noise given"), ("plaquettes", "ExtensiveGP, shells")])
def test_the_program_still_gives_these_numbers(study, told, problem, method):
    "The same splits and seeds: other machines round otherwise, which moves a training a little, and much less than the error."
    row = next(row for row in told["rows"] if (row["problem"], row["method"]) == (problem, method))
    again = [study["piece"](problem, k, method) for k in range(10)]
    for key in ("crps", "joint_energy_score", "negative_log_density"):
        assert abs(np.mean([p[key] for p in again]) - row[key]["value"]) < 0.35 * row[key]["error"], key
    knows_doubt = method.startswith("ExactGP")  # the others have no words for it, and must not be counted as sure
    assert row["doubted"] == (0 if knows_doubt else None) and not row["doubts"] and all(p["doubts"] == ([] if knows_doubt else None) for p in again)


def test_only_one_method_is_given_the_noise_and_it_is_the_true_one(study):
    assert [name for name in study["METHODS"] if study["given"](name, np.zeros((3, 1)))] == ["ExactGP, noise given"]
    learn, judge = zip(*(study["two"](k) for k in range(10)))
    x, y = (np.concatenate([getattr(part, name) for part in (*learn, *judge)]) for name in ("x", "y"))
    noise = y - np.concatenate([np.sin(2 * x), np.cos(3 * x) + 0.5 * x], 1)
    squares = noise**2 / study["given"]("ExactGP, noise given", x)["variance"]
    for inside in (x[:, 0] < -1, abs(x[:, 0]) <= 1, x[:, 0] > 1):
        assert (abs(squares[inside].mean(0) - 1) < 4 * (2 / inside.sum()) ** 0.5).all()  # a squared normal number has variance 2


def test_raw_spins_have_one_length_and_a_linear_part_is_all_that_is_added(study):
    data, _ = study["plaquettes"](0)
    plain = study["METHODS"]["ExactGP, raw spins"].make("plaquettes", data, 0).kernel
    assert plain.base_kernel.lengthscale.shape == (1, 1) and plain.base_kernel.lengthscale_prior is not None and plain.base_kernel.ard_num_dims is None
    plain, linear = (study["METHODS"][name].make("plaquettes", data, 0).template.config for name in ("LastLayer", "LastLayer, linear part"))
    assert linear == plain | {"linear": True} and not plain["linear"]


def test_scores_of_two_methods_are_compared_split_by_split(study):
    row = lambda *scores: dict(problem="gap", each=dict(crps=list(scores)))
    found = study["difference"](row(1.0, None, 3.0, 5.0), row(0.5, 2.0, 2.0, 4.5), "crps")
    assert np.isclose(found["value"], 2 / 3, rtol=1e-4) and np.isclose(found["error"], np.std([0.5, 1.0, 0.5], ddof=1) / 3**0.5, rtol=0.1)
    assert np.isnan(study["difference"](row(1.0, 2.0), dict(problem="gap", each={}), "crps")["value"])


def test_a_trial_of_some_methods_leaves_the_table_alone(study, tmp_path, monkeypatch, capsys):
    "A part of the methods goes into a file of its own, and is asked for by names that exist."
    main, names = study["main"], ["no network", "ExtensiveGP, patterns"]
    for words in (["--only", *names], ["--only", "no such"], ["--splits", "1"]):
        monkeypatch.setattr("sys.argv", ["uncertainty.py", *words])
        with pytest.raises(SystemExit):
            main()
    assert "the table of all methods" in capsys.readouterr().err
    assert [pair for pair in study["pairs"](names)] == [("gap", names[0]), ("two", names[0]), ("diabetes", names[0]), ("plaquettes", names[0]), ("plaquettes", names[1])]


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


def test_a_fit_that_fails_is_counted_and_ends_nothing(study, monkeypatch):
    class Broken:
        def __init__(self, seed):
            self.seed = seed

        def fit(self, data, progress):
            raise ValueError(f"seed {self.seed} is not liked")

    monkeypatch.setitem(study["METHODS"], "broken", study["Process"](Broken, only=("gap",)))
    pieces = [study["piece"]("gap", k, "broken") for k in (3, 4)]
    assert [p["failed"] for p in pieces] == ["seed 3 is not liked", "seed 4 is not liked"]
    row = next(row for row in study["summary"](pieces, ["broken"])["rows"] if row["method"] == "broken")
    assert row["splits"] == 0 and len(row["failed"]) == 2 and row["doubted"] is None and row["each"] == {}


def test_kinds_of_doubts_and_errors_of_folds(study):
    told = [["only 12 effective samples (wanted at least 100)"], ["only 9 effective samples (wanted at least 100)", "R-hat 1.07"], []]
    assert study["kinds_of"](told) == {"only # effective samples (wanted at least #)": 2, "R-hat #": 1}
    plain, folds = (study["mean_and_error"]([1.0, 2.0, 4.0] * 3 + [3.0], problem)["error"] for problem in ("gap", "diabetes"))
    assert abs(folds / plain - (19 / 9) ** 0.5) < 0.05
