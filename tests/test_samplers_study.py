"""The study of learned samplers: what its page says is in its rows; its smallest run is made, interrupted, and continued."""
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from study import STUDIES, load_study

SMALL = {"repetitions": 3, "free_draws": 400, "draws": 2000, "samples": 100, "chain_draws": 800, "exact_draws": 400}
study = load_study("samplers.py")
TOLD = json.loads((STUDIES / "samplers.json").read_text(encoding="utf-8"))
ROWS = TOLD["rows"]
LEARNED = [r for r in ROWS if "methods" in r]


def off(row, method, name):
    found = row["methods"][method][name]
    return np.array(found["value"]) - row["truth"][name], np.array(found["error"])


# ---- what the page claims

def test_the_file_holds_every_row_once_with_the_settings_of_the_script():
    assert TOLD["settings"] == study.SETTINGS and TOLD["settings"]["repetitions"] >= 40
    found = [{k: r[k] for k in case} for case in study.cases() for r in ROWS if all(r.get(k) == v for k, v in case.items())]
    assert found == study.cases() and len(ROWS) == len(found)


def test_every_row_is_judged_by_draws_that_no_other_row_has():
    judged = [r for r in ROWS if "draws_seed" in r]
    assert len(judged) == len(LEARNED) + 2 and all(r["draws_seed"] == study.seeds_of(r)[0] for r in judged)
    rows = [row for row in study.cases(seeds=5, sizes=(4, 6, 8, 12, 16)) if "steps" in row]
    assert len({seed for row in rows for seed in study.seeds_of(row)}) == 2 * len(rows)
    z = np.array([(r["ln_z"] - r["ln_z_exact"]) / r["ln_z_error"] for r in LEARNED if r["pareto_k"] < 0.5])
    assert len(z) >= 7 and 1e-3 < stats.chi2.sf((z**2).sum(), len(z)) < 0.999 and abs(z.mean()) < 4 / len(z) ** 0.5


def test_the_truths_are_exact_and_every_repetition_is_there():
    for row in LEARNED:
        truth = study.truth_of(row)
        assert all(math.isclose(truth[n], row["truth"][n], rel_tol=1e-12) for n in truth)
        for method, names in row["methods"].items():
            assert set(names) == set(truth) - ({"free_energy"} if method == "chain" else set())
            for name in names:
                value, error = off(row, method, name)
                assert len(value) == len(error) == 40 and np.isfinite([value, error]).all() and (error >= 0).all()
                assert len(set(value)) > 1  # fresh draws in every repetition


def test_every_raw_free_energy_is_too_high():
    for row in LEARNED:
        value, error = off(row, "raw", "free_energy")
        assert value.mean() > -4 * error.mean() / 40**0.5
        assert row["variational"] + row["ln_z_exact"] > -4 * row["variational_error"]


def test_a_yes_is_held_from_the_critical_temperature_on_and_nowhere_else():
    "Pooled over the networks, within three standard deviations of a count; below T_c a tail that was not drawn is not seen."
    held = {}
    for row in LEARNED:
        for name in row["truth"]:
            value, error = off(row, "probes", name)
            for v, e, said in zip(value, error, row["trust"]["probes"][name]):
                held.setdefault((row["T"] < 2.2, said), []).append(abs(v) < 1.96 * e)
    n = len(held[False, "yes"])
    assert n > 500 and abs(np.mean(held[False, "yes"]) - 0.95) < 0.02 + 3 * math.sqrt(0.95 * 0.05 / n), (n, np.mean(held[False, "yes"]))
    assert np.mean(held[False, "no"]) < 0.8 and np.mean(held[True, "yes"]) < 0.8


def test_untrained_networks_are_never_trusted_and_never_repaired():
    for row in (r for r in LEARNED if r["kind"] == "training" and r["steps"] <= 50):
        for name in row["truth"]:
            assert "yes" not in row["trust"]["probes"][name]
            for method in ("reweighting", "chain", "probes"):
                if name in row["methods"][method]:
                    value, error = off(row, method, name)
                    assert (abs(value) < 1.96 * error).mean() < 0.7


def test_the_laws_of_the_spread_hold_where_it_is_small():
    small = [r for r in ROWS if "spread" in r and r["spread"] < 0.4]
    assert len(small) >= 5
    for row in small:
        assert abs(row["ess"] / math.exp(-row["spread"] ** 2) - 1) < 0.03 and abs(row["acceptance"] - special.erfc(row["spread"] / 2)) < 0.05


def test_a_forgotten_sign_is_doubted_and_mended():
    frozen = [r for r in ROWS if r["kind"] == "collapse" and r["data_minority"] == 0]
    assert len(frozen) >= 2
    for row in frozen:
        for name in ("m", "two_point_susceptibility", "free_energy"):
            alone, mended = row["alone"], row["symmetrised"]
            assert alone["trust"][name] == "no" and abs(alone["corrected"][name] - row["truth"][name]) > 10 * alone["error"][name]
            assert abs(mended["corrected"][name] - row["truth"][name]) < 4 * mended["error"][name]


# ---- the laws and the truths the script uses

def test_the_acceptance_is_the_mean_of_the_smaller_weight():
    log_weights = np.random.default_rng(0).standard_normal(60)
    w = np.exp(log_weights)
    pairs = np.minimum(w[:, None], w)[~np.eye(60, dtype=bool)].mean() / w.mean()
    assert math.isclose(study.acceptance(log_weights), pairs, rel_tol=1e-12)
    assert math.isclose(study.acceptance(log_weights + 900), pairs, rel_tol=1e-9) and study.acceptance(np.zeros(10)) == 1


def test_the_acceptance_of_normal_weights_has_its_law():
    "Thirty independent estimates at each spread: their mean is erfc(s/2) within its error, which a factor of 1.02 would break."
    for s in (0.3, 0.8, 1.4):
        found = [study.acceptance(s * np.random.default_rng([k, 1]).standard_normal(20_000)) for k in range(30)]
        z = (np.mean(found) - special.erfc(s / 2)) / (np.std(found, ddof=1) / 30**0.5)
        assert abs(z) < 4 and abs(1.02 * np.mean(found) - special.erfc(s / 2)) > 4 * np.std(found, ddof=1) / 30**0.5


def test_free_energies_of_a_good_network_have_normal_scores():
    "ln Z of a hundred draws, forty times, in units of its claimed error, for the networks whose weights have no tail."
    for row in (r for r in LEARNED if r["spread"] < 0.3):
        value, error = off(row, "reweighting", "free_energy")
        z = value / error
        assert abs(z.mean()) < 4 / 40**0.5 and stats.chi2.sf(((z - z.mean()) ** 2).sum(), 39) > 1e-3 / 10, (row["kind"], row["L"], z.std())


# ---- the script

@pytest.fixture(scope="module")
def small_rows():
    T = study.T_C
    return [dict(kind="size", L=4, T=T, steps=30, seed=0, m=30), dict(kind="third", L=4, T=3.0, steps=20, seed=0, m=30),
            dict(kind="collapse", L=4, T=1.3, steps=40, seed=0), dict(kind="flow", L=6, steps=4, seed=0)]


def without_times(row):
    return {k: v for k, v in row.items() if "seconds" not in k}


def test_the_smallest_run_is_made_interrupted_and_continued(small_rows, tmp_path, monkeypatch):
    "A run that dies in its third row keeps two; the next makes two, to the same bits as one that was never interrupted."
    made, true_row = [], study.run_row

    def dying(row, settings):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(row)
        return true_row(row, settings)

    monkeypatch.setattr(study, "run_row", dying)
    with pytest.raises(KeyboardInterrupt):
        study.study(small_rows, tmp_path / "a", SMALL, progress=False)
    assert len(list((tmp_path / "a").glob("*.json"))) == 2 == len(study.study(small_rows, tmp_path / "a", SMALL, run=False))
    monkeypatch.setattr(study, "run_row", lambda row, settings: made.append(row) or true_row(row, settings))
    found = study.study(small_rows, tmp_path / "a", SMALL, progress=False)
    assert made == small_rows and [r["kind"] for r in found] == [r["kind"] for r in small_rows]
    assert without_times(study.study(small_rows[:1], tmp_path / "b", SMALL, progress=False)[0]) == without_times(found[0])


def test_a_row_of_other_settings_or_half_a_row_is_made_anew(small_rows, tmp_path):
    row = small_rows[-1]
    file = study.row_file(tmp_path, row)
    first = study.study([row], tmp_path, SMALL, progress=False)[0]
    assert study.finished(file, row, SMALL) == first and study.finished(file, row, SMALL | {"draws": 2001}) is None
    assert study.finished(file, row | {"seed": 1}, SMALL) is None and study.finished(tmp_path / "none.json", row, SMALL) is None
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[:-10], encoding="utf-8")
    assert study.finished(file, row, SMALL) is None
    again = study.study([row], tmp_path, SMALL | {"draws": 1000}, progress=False)[0]
    assert again["settings"]["draws"] == 1000 and again["spread"] != first["spread"]


def test_larger_studies_hold_the_smaller_ones():
    rows = study.cases()
    assert len({study.row_file(Path("."), r) for r in rows}) == len(rows)
    larger = study.cases(seeds=3, sizes=(4, 6, 8, 12, 16))
    assert all(r in larger for r in rows) and len({study.row_file(Path("."), r) for r in larger}) == len(larger) > 2 * len(rows)
    assert {r["kind"] for r in rows} == set(study.KINDS) and all(r["kind"] == "flow" for r in study.cases(kinds=("flow",)))
