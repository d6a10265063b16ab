"""The comparison of regressors: its targets, its rules, its finished pieces, what it found, and one cell of its table again."""
import itertools
import json
import math

import numpy as np
import pytest
from study import STUDIES, load_study

TOLD = json.loads((STUDIES / "regressors.json").read_text())
ROWS = {(row["task"], row["n"], row["regressor"]): row for row in TOLD["rows"]}
TASKS = ("energy", "squared force", "structure factor")
NETWORKS = ("MLP", "LatticeCNN", "LocalEnergyNet")
NAMES = (*NETWORKS, "boosting, raw", "boosting, features", "ridge, features")


@pytest.fixture(scope="module")
def study():
    "The program of the study."
    return load_study("regressors.py")


def left(task, name, n=500):
    "The share of the variance that a regressor leaves."
    return ROWS[task, n, name]["unexplained"]["value"]


# ---- the program

def test_the_targets_are_what_the_page_says(study):
    rng = np.random.default_rng(0)
    phi, spins = rng.normal(size=(2, 4, 4)), rng.choice([-1, 1], size=(3, 8, 8)).astype(np.int8)
    action, force = study.model_of("squared force", 4)[0].energy, np.zeros((2, 4, 4))
    for i, j in itertools.product(range(4), repeat=2):
        step = np.zeros((4, 4))
        step[i, j] = 1e-5
        force[:, i, j] = (action(phi + step) - action(phi - step)) / 2e-5
    assert np.allclose(study.target("squared force", phi), (force**2).mean((1, 2)), rtol=1e-6)
    r, waves = np.arange(8), []
    for axis in (1, 2):
        phase = 2 * np.pi * (r[:, None] if axis == 1 else r[None, :]) / 8 * np.ones((8, 8))
        waves.append((spins * np.cos(phase)).sum((1, 2)) ** 2 + (spins * np.sin(phase)).sum((1, 2)) ** 2)
    assert np.allclose(study.target("structure factor", spins), sum(waves) / 128)
    by_hand = [-sum(s[i, j] * (s[i - 1, j] + s[i, j - 1] + 0.1 * (s[i - 1, j - 1] + s[i - 1, (j + 1) % 8])
               + 0.2 * s[i - 1, j] * s[i, j - 1] * s[i - 1, j - 1]) for i, j in itertools.product(range(8), repeat=2)) for s in spins.astype(int)]
    assert np.allclose(64 * study.target("energy", spins), by_hand)


def test_what_is_held_out_is_whole_chains_and_the_judges_are_fresh(study):
    data, test, large = study.data_of("structure factor", 120, 1000)
    learn, judge = study.parts(data, 3)
    assert len(data) == 120 and len(test) == 2000 and large.x.shape[1:] == (16, 16) and len(learn) == 96
    assert not set(data.chain[learn]) & set(data.chain[judge]) and len(learn) + len(judge) == len(data)
    assert not {x.tobytes() for x in data.x[np.abs(data.x.mean((1, 2))) < 0.5]} & {x.tobytes() for x in test.x}


def test_hand_made_features_do_not_change_when_the_lattice_moves(study):
    spins = np.random.default_rng(1).choice([-1, 1], size=(3, 8, 8)).astype(np.int8)
    assert study.largest_change(lambda x: study.hand_made(x).sum(1), spins) < 1e-12
    assert study.largest_change(lambda x: x[:, 0, 0].astype(float), spins) == 2


def test_a_finished_piece_is_kept_and_one_of_other_settings_is_made_again(study, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(study, "piece", lambda *job: made.append(job) or {"error": float(len(made))})
    file, job = tmp_path / "piece.json", ("energy", 500, 0, "MLP")
    assert [study.finished(file, job)["error"] for _ in range(3)] == [1.0, 1.0, 1.0] and made == [job]
    monkeypatch.setitem(study.SETTINGS, "thin", 7)
    assert study.finished(file, job)["error"] == 2.0 and len(list(tmp_path.iterdir())) == 1


# ---- what it found

def test_the_table_is_complete(study):
    assert TOLD["settings"] == json.loads(json.dumps(study.SETTINGS)) and tuple(study.REGRESSORS) == NAMES
    assert set(ROWS) == {(*at, name) for at, name in itertools.product(study.PIECES, NAMES) if name not in study.TOO_DEAR.get(at, ())}
    assert set(study.PIECES) >= {(task, 500) for task in TASKS} and all(n != 500 for _, n in study.TOO_DEAR) and {t for t, _, _ in ROWS} == set(TASKS)
    for (_, _, name), row in ROWS.items():
        assert row["repetitions"] == len(row["errors"]) == len(row["chosen"]) >= 5
        for key in ("parameters", "seconds", "error", "spread", "change", "unexplained"):
            assert all(math.isfinite(v) and v >= 0 for v in row[key].values()), (name, key)
        assert math.isclose(np.mean(row["errors"]), row["error"]["value"], rel_tol=1e-3) and row["seconds"]["value"] > 0
        assert (row["error_large"] is None) == (name in ("MLP", "boosting, raw"))


def test_the_best_network_beats_boosting_on_sums_over_sites():
    error = lambda task, name: ROWS[task, 500, name]["error"]["value"]
    for task, raw, features in (("energy", 500, 50), ("squared force", 20, 8)):
        best = min(error(task, name) for name in NETWORKS)
        assert raw * best < error(task, "boosting, raw") and features * best < error(task, "boosting, features")


def test_a_straight_line_wins_where_the_target_is_one_and_nowhere_else_among_sums():
    assert left("energy", "ridge, features") < 1e-16 < left("energy", "LocalEnergyNet")
    assert 10 * left("squared force", "LocalEnergyNet") < left("squared force", "ridge, features") < left("squared force", "boosting, features")


def test_symmetry_is_kept_by_those_who_have_it():
    for (_, _, name), row in ROWS.items():
        moved = row["change"]["value"] / row["spread"]["value"]
        assert moved > 0.1 if name in ("MLP", "boosting, raw") else moved < 1e-4, (name, moved)


def test_a_sum_over_sites_goes_on_to_a_larger_lattice_and_a_wave_does_not():
    for task in ("energy", "squared force"):
        row = ROWS[task, 500, "LocalEnergyNet"]
        assert row["error_large"]["value"] < row["error"]["value"]
    assert all(ROWS["structure factor", 500, name]["unexplained_large"]["value"] > 0.2 for name in NAMES if name not in ("MLP", "boosting, raw"))


@pytest.mark.parametrize("name", ("LocalEnergyNet", "boosting, features", "ridge, features"))
def test_a_new_repetition_agrees_with_the_table(study, name):
    found, row = study.piece("energy", 500, 77, name), ROWS["energy", 500, name]
    error = row["error"]
    assert abs(found["error"] - error["value"]) < 5 * error["scatter"] * (1 + 1 / row["repetitions"]) ** 0.5, (found["error"], error)
    assert abs(found["spread"] / row["spread"]["value"] - 1) < 0.1 and found["error_large"] < 0.2 * found["spread_large"]
