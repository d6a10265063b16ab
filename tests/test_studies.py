"""Studies in a file: every form of one is read strictly, walked, reported, and goes on where it was stopped."""
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from common import assert_complete, assert_refused, row_name
from test_cli import call

from uqphys import roads, studies
from uqphys.analysis import estimates
from uqphys.exact import enumerate_states
from uqphys.models import Ising
from uqphys.roads import as_dictionary, make_generator, result_rows, walk
from uqphys.sampling import sample
from uqphys.studies import MODELS, ROADS, TABLES, find_function, make_model, parse_study, read_study

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(f for f in (ROOT / "studies").glob("*.toml") if f.name != "transition.toml")
SPINS = {"shape": [4, 4], "J2": 0.1, "K": 0.2}
FIELD = {"kind": "phi4", "shape": [4, 4], "kappa": 0.2, "lam": 0.5}
LEARN = {"training": {"n": 40}, "surrogate": {"kind": "pair-sum"}}
SHORT = {"draws": 300, "burn_in": 100}
ENERGY = {"seed": 3, "temperature": 2.6, "model": SPINS, **LEARN, "ensemble": SHORT, "bias": {"probes": 60}}
BOX = {**ENERGY, "model": {"kind": "black-box", "exact": "mine.py:energy", "name": "mine", "shape": [4, 4]}}
REAL = {"seed": 3, "beta": 1.0, "model": FIELD, **LEARN, "ensemble": {"draws": 50, "chains": 4, "average_draws": 50}, "bias": {"probes": 30}}
SAMPLER = {"seed": 3, "beta": 0.33, "model": SPINS, "sampler": {"kind": "autoregressive", "steps": 40, "samples": 100}, "ensemble": {"draws": 500}}
OBSERVABLE = {"seed": 3, "beta": 0.33, "model": SPINS, **LEARN, "observable": {"name": "m2"}, "ensemble": SHORT}
CURVES = {"seed": 3, "temperature": [2.2, 2.7, 3.4], "model": SPINS, **LEARN, "ensemble": SHORT, "curves": {"peak": ["specific_heat"]},
          "bias": {"probes": 60, "draws": 60}}
MAP = {**ENERGY, "temperature": [2.4, 2.8], "map": {}}
FUNCTION = "import numpy as np\n\n\ndef energy(s):\n    return -np.sum(s * np.roll(s, 1, 0) + s * np.roll(s, 1, 1)) - 0.2 * np.sum(s) ** 2 / 16\n"


def changed(base, path, value):
    "The study with one entry changed (None: taken out); path is table.key, or a key before the tables."
    table, _, key = path.rpartition(".")
    inside = dict(base.get(table, {})) if table else dict(base)
    inside[key] = value
    if value is None:
        del inside[key]
    return {**base, table: inside} if table else inside


BAD = [  # a good study, what is changed, by what, and what the line must say
    (ENERGY, "beta", 0.4, "beta, temperature: expected exactly one"), (ENERGY, "temperature", [2.0], "temperature = [2.0]: expected"),
    (ENERGY, "temperature", [2.0, 2.0], "temperature = [2.0, 2.0]: expected"), (ENERGY, "temperature", {"from": 2}, "temperature = "),
    (ENERGY, "temperature", [2.0, 0.0], "temperature = [2.0, 0.0]"), (ENERGY, "temperature", [1.0, True], "temperature = [1.0, true]"),
    (ENERGY, "model.kind", "potts", '[model] kind = "potts": expected one of "ising"'), (ENERGY, "model.kind", ["ising"], "[model] kind"),
    (ENERGY, "model.kappa", 0.2, "[model] kappa: unknown key"), (ENERGY, "training.source", "books", '[training] source = "books"'),
    (ENERGY, "training.spread", 1.0, "[training] spread = 1.0: accepted only"), (ENERGY, "surrogate.kind", "gp", '[ensemble] burn_in = 100: accepted only'),
    (ENERGY, "bias.observables", ["phi2"], '[bias] observables = "phi2"'), (ENERGY, "bias.observables", ["free_energy"], '[bias] observables = ["free_energy"]'),
    (ENERGY, "ensemble.average_draws", 5, "[ensemble] average_draws = 5: expected 0, or"), (ENERGY, "ensemble.average_draws", False, "[ensemble] average_draws = false"),
    (changed(ENERGY, "bias.evidence", "exact"), "ensemble.average_draws", 500, "[ensemble] average_draws = 500: accepted only"),
    (changed(ENERGY, "bias.evidence", "exact"), "bias.estimator", "cumulant1", '[bias] estimator = "cumulant1": expected "reweighting"'),
    (changed(ENERGY, "training.source", "random"), "training.beta", 0.2, "[training] beta = 0.2: accepted only"),
    (changed(ENERGY, "model.shape", [6, 6]), "bias.enumerate", True, "[bias] enumerate = true: accepted only"),
    (changed({**ENERGY, "ensemble": {}}, "model.shape", [4, 4, 4]), "surrogate.kind", "ensemble", '[surrogate] kind = "ensemble": expected'),
    (ENERGY, "curve", {"points": 5}, "[curve]: unknown table; accepted are [model]"), (ENERGY, "observable", 3, "[observable]"),
    (ENERGY, "map", {}, "expected two numbers or more beside [map]"), (MAP, "map.runs", 1, "[map] runs = 1"),
    (changed(MAP, "model", {**FIELD}), "ensemble", {}, '[model] kind = "phi4": expected "ising"'),
    (BOX, "model.exact", "mine.py", '[model] exact = "mine.py": expected'), (BOX, "model.exact", "mine.py:1x", "[model] exact"), (BOX, "model.exact", 3, "[model] exact = 3"),
    (BOX, "model.name", None, "[model] name: missing"), (BOX, "model.name", " ", "[model] name"), (BOX, "model.cache", "", "[model] cache"),
    (BOX, "model.vectorised", 1, "[model] vectorised = 1: expected true or false"), (BOX, "model.values", "bits", '[model] values = "bits"'),
    (BOX, "training.n", 8, "[training] n = 8: expected a whole number >= 10 with"), (BOX, "model.audit", -1, "[model] audit = -1"), (BOX, "training.thin", 5, "[training] thin = 5: accepted only"),
    (changed({**BOX, "ensemble": {}}, "model.values", "real"), "model.flip_symmetric", True, "[model] flip_symmetric = true: accepted only"),
    (changed({**BOX, "ensemble": {}}, "model.values", "real"), "model.shape", [4, 4, 4], "[model] shape = [4, 4, 4]: expected two lengths"),
    (REAL, "model.lam", -1, "[model] lam = -1: expected"), (REAL, "model.shape", [4], "[model] shape = [4]"), (REAL, "model.depth", 0.3, "[model] depth: unknown"),
    (REAL, "ensemble.burn_in", 5, "[ensemble] burn_in = 5: accepted only"), (REAL, "bias.enumerate", True, "[bias] enumerate = true: accepted only"),
    (REAL, "bias.observables", ["charge"], "[bias] observables"),
    (SAMPLER, "sampler.kind", "flow", '[sampler] kind = "flow": expected "autoregressive"'), (SAMPLER, "sampler.n", 50, "[sampler] n = 50: accepted only"),
    (SAMPLER, "sampler.layers", 2, "[sampler] layers = 2: accepted only"), (SAMPLER, "sampler.steps", 0, "[sampler] steps = 0"),
    (SAMPLER, "sampler.learning_rate", 0, "[sampler] learning_rate = 0"), (SAMPLER, "beta", [0.3, 0.4], "expected one number beside [sampler]"),
    (SAMPLER, "beta", 0.0, "beta = 0.0: expected a number > 0 beside [sampler]"), (SAMPLER, "bias", {"evidence": "posterior"}, '[bias] evidence = "posterior": expected "probe", or members'),
    (SAMPLER, "bias", {"probes": 10}, "[bias] probes = 10"), (SAMPLER, "bias", {"estimator": "cumulant1"}, "[bias] estimator: unknown key"),
    (SAMPLER, "ensemble", {"thin": 2}, "[ensemble] thin: unknown key"), (SAMPLER, "training", {"n": 40}, "[training]: unknown table beside [sampler]"),
    (changed(SAMPLER, "model", FIELD), "sampler.kind", "autoregressive", 'expected "autoregressive" for spins, "flow" for a real field'),
    (changed(SAMPLER, "model", {**FIELD, "shape": [3, 4]}), "sampler.kind", "flow", "[model] shape = [3, 4]: expected even lengths"),
    (changed(SAMPLER, "model", {**FIELD, "kind": "corrugated-phi4", "depth": 0.3, "wave_number": 3.0}), "sampler.kind", "flow", '[sampler] direction = "reverse": expected "forward"'),
    (OBSERVABLE, "observable.name", "charge", '[observable] name = "charge": unknown'), (OBSERVABLE, "observable.name", None, "[observable] name: missing"),
    (OBSERVABLE, "training.source", "learned", '[training] source = "learned": expected'), (OBSERVABLE, "sampler", {"kind": "flow"}, "[sampler], [observable]"),
    (OBSERVABLE, "bias", {"observables": ["m2"]}, "[bias] observables: unknown key"), (OBSERVABLE, "beta", [0.3, 0.4], "expected one number beside [observable]"),
    (CURVES, "curves.peak", [], "expected something to ask of the curves"), (CURVES, "curves.peak", ["mass"], "[curves] peak"), (CURVES, "temperature", 2.6, "two numbers or more beside [curves]"),
    (CURVES, "curves.crossing", ["binder"], "[curves] crossing = [\"binder\"]: accepted only"), (CURVES, "curves.free_energy", [2.3, 4.0], "[curves] free_energy = [2.3, 4.0]"),
    (CURVES, "curves.at", [0], "[curves] at = [0.0]"), (CURVES, "curves.at", ["2.5"], "[curves] at"), (CURVES, "curves.free_energy", [2.3], "[curves] free_energy = [2.3]"), (CURVES, "curves.shapes", [[4]], "[curves] shapes"),
    (CURVES, "bias.evidence", "exact", '[bias] evidence = "exact"'), ({**CURVES, "ensemble": {}}, "model", FIELD, '[model] kind = "phi4": expected spins'),
    (changed(CURVES, "model", BOX["model"]), "curves.shapes", [[6, 6]], "no further lattices of a black box"),
    (changed(CURVES, "model.shape", [4, 4, 4]), "curves.shapes", [[6, 6]], "[curves] shapes = [[6, 6]]: expected shapes of as many"),
    (CURVES, "curves.shapes", [[4, 4]], "[curves] shapes = [[4, 4]]: expected different lattices, also from that of the model"),
    (CURVES, "curves.shapes", [[6, 6], [6, 6]], "expected different lattices"), (CURVES, "curves.free_energy", [2.5, 2.5], "expected two different temperatures"),
    (changed({**CURVES, "ensemble": {}}, "surrogate.kind", "gp"), "curves.shapes", [[2, 4]], "[curves] shapes = [[2, 4]]: expected lengths >= 3"),
    (ENERGY, "bias.observables", ["energy", "energy"], '[bias] observables = ["energy", "energy"]: expected a list, each once'),
    (ENERGY, "temperature", [2.6, 2.6000001], "that differ in six digits"),
    (SAMPLER, "ensemble", {"draws": 20, "chains": 2}, "expected as many draws in all chains together as there are probes"),
    (OBSERVABLE, "observable.name", "binder", '[observable] name = "binder": unknown; of this model there are energy, m'),
]


@pytest.mark.parametrize("base, path, value, said", BAD, ids=[f"{path}={value}"[:50] for _, path, value, _ in BAD])
def test_what_cannot_be_is_refused_in_one_line(base, path, value, said):
    with pytest.raises(ValueError) as error:
        parse_study(changed(base, path, value), "mine.toml")
    assert str(error.value).startswith("mine.toml: ") and said in str(error.value) and "\n" not in str(error.value)


def test_the_good_ones_are_read():
    for base in (ENERGY, BOX, REAL, SAMPLER, OBSERVABLE, CURVES, MAP):
        assert parse_study(base).seed == 3


def test_every_entry_has_a_default_that_it_accepts_and_no_road_has_unknown_ones():
    for keys in [*MODELS.values(), *TABLES.values(), *(keys for road in ROADS.values() for keys in road.values())]:
        for name, (check, accepts, default) in keys.items():
            assert accepts and (default in (..., None) or check(default) == default), name
    assert all(set(keys) <= set(TABLES[table]) for road in ROADS.values() for table, keys in road.items())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_study_can_be_written_down_and_read_again(file):
    study = read_study(file)
    assert parse_study(json.loads(json.dumps(study.tables())), folder=study.folder) == study
    assert file.name in call("bias", "--help")[1], "the help tells of it"


# ---- a black box

LOGGED = """from pathlib import Path

import numpy as np

LOG = Path(__file__).with_name("log")


def energy(s):
    LOG.open("a").write("x")
    if LOG.stat().st_size == STOP:
        raise KeyboardInterrupt
    return -np.sum(s * np.roll(s, 1, 0) + s * np.roll(s, 1, 1)) - 0.2 * np.sum(s) ** 2 / 16
"""
TOML = """seed = 3
temperature = 2.6
training.n = 40
surrogate.kind = "pair-sum"
ensemble = { draws = 300, burn_in = 100 }
bias.probes = 60
[model]
kind = "black-box"
exact = "mine.py:energy"
name = "mine"
shape = [4, 4]
"""


def put(folder, stop=0):
    "A study of a black box that counts its calls, and stops at one of them."
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(LOGGED.replace("STOP", str(stop)))
    (folder / "study.toml").write_text(TOML)
    return folder


def calls(folder):
    return (folder / "log").stat().st_size


def test_a_black_box_is_asked_once(tmp_path):
    folder = put(tmp_path)
    code, shown, said = call("bias", folder / "study.toml", "--out", folder / "out")
    assert code == 0 and said == "" and "exact energies: 100 asked for" in shown, said
    assert sorted(p.name for p in (folder / "out").iterdir() if "sqlite-" not in p.name) == ["bias.png", "energies.sqlite", "report.json", "report.md"]
    first, once = json.loads((folder / "out" / "report.json").read_text()), calls(folder)
    assert first["exact_energies"]["computed"] == once <= 100
    assert call("bias", folder / "study.toml", "--out", folder / "out")[0] == 0
    again = json.loads((folder / "out" / "report.json").read_text())
    assert calls(folder) == once and again["exact_energies"]["computed"] == 0, "an energy was paid for twice"
    assert again["observables"] == first["observables"] and "known already, 0 computed" in (folder / "out" / "report.md").read_text()


def test_a_black_box_goes_on_where_it_was_stopped(tmp_path):
    whole, part = put(tmp_path / "whole"), put(tmp_path / "part", stop=55)
    assert call("bias", whole / "study.toml", "--out", whole / "out")[0] == 0
    code, _, said = call("bias", part / "study.toml", "--out", part / "out")
    assert code == 130 and "starts again" in said and not (part / "out" / "report.json").exists()
    assert call("bias", put(part) / "study.toml", "--out", part / "out")[0] == 0
    assert calls(part) == calls(whole) + 1, "the call during which it was stopped is the only one that was lost"
    tables = [json.loads((f / "out" / "report.json").read_text())["observables"] for f in (whole, part)]
    assert tables[0] == tables[1]


def test_a_black_box_that_fails_or_was_changed_is_one_line(tmp_path):
    folder = put(tmp_path)
    (folder / "mine.py").write_text("def energy(s):\n    return float('nan')\n")
    code, _, said = call("bias", folder / "study.toml", "--out", folder / "out")
    assert code == 2 and said.count("\n") == 1 and "failed for" in said and not (folder / "out" / "report.json").exists()
    (folder / "study.toml").write_text(TOML + 'cache = "kept.sqlite"\naudit = 5\n')
    (folder / "mine.py").write_text(FUNCTION)
    assert call("bias", folder / "study.toml", "--out", folder / "out")[0] == 0 and (folder / "kept.sqlite").exists()
    (folder / "mine.py").write_text(FUNCTION.replace("0.2", "0.3"))
    code, _, said = call("bias", folder / "study.toml", "--out", folder / "out")
    assert code == 2 and said.count("\n") == 1 and "must be the same function" in said
    for text in ("", "def energy(:\n"):
        (folder / "mine.py").write_text(text)
        code, _, said = call("bias", folder / "study.toml", "--out", folder / "new")
        assert code == 2 and said.count("\n") == 1 and '[model] exact = "mine.py:energy"' in said and not (folder / "new").exists()


def test_a_function_is_that_of_the_folder(tmp_path):
    for name, number in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Law:\n    k: int = {number}\n\n\ndef energy(s):\n    return Law().k\n")
    for reference in ("mine:energy", "mine.py:energy"):
        assert [find_function(reference, tmp_path / name)(0) for name in ("a", "b")] == [1, 2]
    (tmp_path / "a" / "mine.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ValueError, match="cannot be loaded"):
        find_function("mine.py:energy", tmp_path / "a")


@pytest.mark.parametrize("line", ["raise KeyError('none')", "import sys; sys.exit(3)", "return None"])
def test_a_measurement_that_fails_is_one_line(line, tmp_path):
    (tmp_path / "mine.py").write_text(f"def size(x):\n    {line}\n")
    study = parse_study(changed(OBSERVABLE, "observable", {"name": "size", "exact": "mine.py:size"}), "mine.toml", tmp_path)
    with pytest.raises(ValueError) as error:
        walk(study)
    assert "\n" not in str(error.value) and ("mine.py:size" in str(error.value) or "size" in str(error.value))


def test_a_black_box_is_enumerated_only_if_that_is_asked_for(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION.replace("(s * np.roll(s, 1, 0) + s * np.roll(s, 1, 1))", "(s * np.roll(s, 1, 1) + s * np.roll(s, 1, 2), axis=(1, 2))")
                                      .replace("np.sum(s) ** 2", "np.sum(s, axis=(1, 2)) ** 2"))
    symmetric = {**BOX["model"], "flip_symmetric": True, "lattice_symmetric": True, "vectorised": True}
    study = parse_study({**BOX, "model": symmetric, "bias": {"probes": 60, "enumerate": True, "observables": ["energy", "m2"]}}, folder=tmp_path)
    found = walk(study)
    law = make_model(study)
    assert found.exact is not None and found.counts["computed"] < 1000, "images share an energy"
    known = enumerate_states(law, study.beta).averages
    assert all(abs(found.exact.loc[name, "exact"] - known[name]) < 1e-12 for name in ("energy", "m2"))


# ---- what else is learned

def judge(found, most=4.5):
    "The predicted biases are the exact ones, as far as the report says."
    (report,) = found.reports.values()
    assert json.loads(json.dumps(as_dictionary(found, next(iter(found.reports))), allow_nan=False))
    sigma = (report.table["high"] - report.table["low"]) / 3.92
    assert list(report.table.index) == list(found.exact.index)
    assert ((report.table["predicted_bias"] - found.exact["exact_bias"]).abs() <= most * sigma).all(), (report, found.exact)
    return report


def test_a_generator_that_learns_from_exact_draws_and_a_committee():
    forward = walk(parse_study(changed(SAMPLER, "sampler", {"kind": "autoregressive", "steps": 40, "direction": "forward", "n": 400})))
    assert judge(forward).settings["evidence"] == "probe" and forward.exact.loc["free_energy", "exact_bias"] >= 0
    study = parse_study({**changed(SAMPLER, "sampler.members", 3), "bias": {"evidence": "posterior", "observables": ["abs_m", "m2"]}})
    one, two = (make_generator(study, seed).state_dict() for seed in (0, 1))
    assert any((one[k] != two[k]).any() for k in one)
    report = walk(study).reports["posterior"]
    assert set(report.table["trust"]) == {"with probes"} and report.table["exact_evaluations"].max() == 0


def test_an_observable_of_the_model_and_random_examples():
    for source in ({"n": 40, "beta": 0.2}, {"n": 40, "source": "random"}):
        found = walk(parse_study({**OBSERVABLE, "training": source}))
        report = judge(found)
        assert list(report.table.index) == ["m2"]
    exact = enumerate_states(Ising((4, 4), J2=0.1, K=0.2), 0.33).averages["m2"]
    assert abs(found.exact.loc["m2", "exact"] - exact) < 1e-12
    assert found.exact.loc["m2", "exact_bias"] != 0


@pytest.mark.parametrize("kind", ["ensemble", "gp"])
def test_other_surrogates_of_spins_and_fields(kind):
    spins = parse_study({**ENERGY, "surrogate": {"kind": kind, "hidden": [4], "epochs": 60}, "ensemble": {"draws": 300, "average_draws": 0}})
    judge(walk(spins))
    field = walk(parse_study({**REAL, "surrogate": {"kind": kind, "hidden": [4], "epochs": 60}}))
    assert field.exact is None and list(field.reports["probe"].table.index) == ["energy", "abs_m", "m2", "susceptibility"]


def test_a_corrected_field_agrees_with_an_exact_run():
    study = read_study(ROOT / "studies" / "phi4_field.toml")
    table = walk(study).reports["probe"].table
    run = sample(study.exact, study.beta, draws=400, chains=8, thin=2, burn_in=50, seed=1, keep="observables", progress=False)
    exact = estimates(run)
    biased = 0
    for name in ("energy", "phi2", "abs_m"):
        row, e = table.loc[name], exact[name]
        assert abs(row["corrected"] - e.value) < 4.5 * math.hypot(row["error"], e.error), name
        biased = max(biased, abs(row["surrogate"] - e.value) / math.hypot(row["error"], e.error))
    assert biased > 6, "the surrogate alone is wrong"


def test_exact_chains_of_a_field():
    report = walk(parse_study({**REAL, "ensemble": {"draws": 50, "chains": 4}, "bias": {"evidence": "exact", "draws": 50, "observables": ["phi2"]}})).reports["exact"]
    assert report.table.loc["phi2", "exact_evaluations"] > 100 and report.settings["evidence"] == "exact"


# ---- several temperatures

def test_a_temperature_of_several_is_as_if_alone():
    base = {**changed(ENERGY, "temperature", None), "training": {"n": 40, "beta": 0.4}}
    several, alone = walk(parse_study({**base, "beta": [0.35, 0.45]})), walk(parse_study({**base, "beta": 0.35}))
    report = judge(several)
    label = f"T = {1 / 0.35:.6g} "
    first = report.table[report.table.index.str.startswith(label)].rename(index=lambda n: n.removeprefix(label))
    assert first.equals(alone.reports["probe"].table) and len(report.table) == 2 * len(first)
    assert result_rows(several, "probe")[1][0] == label + "energy" and set(several.parts) == {0.35, 0.45}


def test_a_map_is_asked_for():
    found = walk(parse_study({**MAP, "map": {"draws": 200, "points": 5, "runs": 3}}))
    assert set(found.map["quantity"]) == {"energy", "specific_heat"} and len(found.map) == 10 and (found.map["low"] < found.map["high"]).all()
    assert as_dictionary(found, "probe")["map"][0]["beta"] == pytest.approx(1 / 2.8)


def test_curves_of_one_lattice_and_all_that_can_be_asked():
    asked = {"at": [2.5], "peak": ["specific_heat"], "free_energy": [2.3, 3.0], "specific_heat": "slope", "points": 15}
    found = walk(parse_study({**CURVES, "curves": asked}))
    report = judge(found)
    assert {"T = 2.5 energy", "peak_T_specific_heat", "log_z_difference"} <= set(report.table.index)
    F = [-enumerate_states(found.study.exact, 1 / T).lnZ for T in (2.3, 3.0)]
    assert abs(found.exact.loc["log_z_difference", "exact"] - (F[0] - F[1])) < 1e-4
    assert abs(found.exact.loc["T = 2.5 energy", "exact"] - enumerate_states(found.study.exact, 0.4).averages["energy"]) < 1e-4
    assert found.reports["probe"].table["exact_evaluations"].max() == 60
    again = parse_study(json.loads(json.dumps(found.study.tables())))
    assert again == found.study and math.isclose(again.curves["free_energy"][0], 1 / 2.3)


def test_curves_without_an_answer_are_one_line(tmp_path):
    text = 'seed = 0\ntemperature = [3.5, 4.0]\nmodel.shape = [4, 4]\ntraining.n = 40\nsurrogate.kind = "pair-sum"\nensemble.draws = 200\ncurves.peak = ["specific_heat"]\n'
    (tmp_path / "far.toml").write_text(text)
    code, _, said = call("bias", tmp_path / "far.toml", "--out", tmp_path / "out")
    assert code == 2 and said.count("\n") == 1 and "no peak_T_specific_heat" in said and not list((tmp_path / "out").iterdir())


# ---- averages from a longer run

def test_a_longer_run_changes_averages_and_not_the_bias():
    short, long = (walk(parse_study(changed(ENERGY, "ensemble.average_draws", n))).reports["probe"] for n in (0, 2000))
    assert "longer_run" not in short.settings and long.settings["longer_run"] == 16000
    assert short.table[["predicted_bias", "low", "high"]].equals(long.table[["predicted_bias", "low", "high"]])
    assert (short.table["surrogate"] != long.table["surrogate"]).all() and (long.table["error"] < short.table["error"]).all()
    assert parse_study(ENERGY).ensemble["average_draws"] == 4 * 300


@pytest.mark.parametrize("name", ["sampler", "observable", "temperatures", "curves"])
def test_the_same_seed_gives_the_same_bytes(name, tmp_path):
    base = {"sampler": SAMPLER, "observable": OBSERVABLE, "temperatures": {**ENERGY, "temperature": [2.5, 2.6]}, "curves": CURVES}[name]
    one, two, other = (as_dictionary(walk(parse_study({**base, "seed": seed})), "probe") for seed in (3, 3, 4))
    assert json.dumps(one) == json.dumps(two) != json.dumps(other)


# ---- bad calls

EXEMPT = {
    "studies.Key": "a plain record of functions", "studies.Study": "made by parse_study, which checks",
    "roads.Walk": "a plain record of results", "roads.Law": "a plain record", "roads.Seeds": "a plain record",
    **{f"roads.{name}": "takes what parse_study and walk have checked" for name in (
        "make_surrogate", "make_examples", "make_generator", "result_rows", "as_markdown", "as_dictionary", "picture", "exact_answer")},
    "roads.aligned": "lays out text", "roads.markdown": "lays out text",
}
TABLE = [
    ("studies.find_function", lambda t: find_function("nowhere_at_all:energy"), "exact", "nowhere_at_all:energy", "expected"),
    ("studies.find_function", lambda t: find_function("math:energy"), "exact", "math:energy", "expected"),
    ("studies.find_function", lambda t: find_function(5), "reference", "5", "expected"),
    ("studies.parse_study", lambda t: parse_study(None), "content", "None", "dictionary"),
    ("studies.read_study", lambda t: read_study(None), "path", "None", "path of a study"),
    ("roads.walk", lambda t: walk(parse_study(ENERGY), "probe"), "evidences", "probe", "several"),
    ("roads.walk", lambda t: walk(parse_study(ENERGY), 5), "evidences", "5", "several"),
    ("roads.walk", lambda t: walk(parse_study(CURVES), ("probe", "posterior")), "evidences", "posterior", "one kind"),
    ("studies.parse_study", lambda t: parse_study({**ENERGY, "seed": -1}), "seed", "-1", "expected"),
    ("studies.read_study", lambda t: read_study("no/such/file.toml"), "file.toml", "cannot be read", "expected"),
    ("studies.make_model", lambda t: make_model(parse_study(BOX)), "exact", "mine.py:energy", "expected"),
    ("roads.walk", lambda t: walk(3), "study", "3", "expected"),
    ("roads.walk", lambda t: walk(parse_study(ENERGY), ("hope",)), "evidences", "hope", "accepted"),
    ("roads.walk", lambda t: walk(parse_study(SAMPLER), ("exact",)), "evidences", "exact", "accepted"),
]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, make, argument, value, accepted = TABLE[row]
    assert_refused(make, None, argument, value, accepted)


def test_every_public_callable_stands_in_the_table():
    assert_complete((studies, roads), TABLE, EXEMPT)
