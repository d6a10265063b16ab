"""The two studies of speed: what is committed holds together, and their programs still do what they say."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uqphys.exact import BETA_C, transfer_matrix

STUDIES = Path(__file__).parents[1] / "studies"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_study", STUDIES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


slowing, bench = load("slowing"), load("bench")
STORED = json.loads((STUDIES / "slowing.json").read_text())
ROWS = {(r["method"], r["L"]): r for r in STORED["rows"]}
MEASURED = json.loads((STUDIES / "bench.json").read_text())


# ---- slowing.json

def test_every_planned_row_is_there_and_adds_up():
    assert set(ROWS) == {(method, L) for method, plan in slowing.PLANS.items() for L in plan.lengths}
    assert STORED["beta"] == BETA_C
    for (method, L), r in ROWS.items():
        assert r["effective_per_second"] == pytest.approx(r["chains"] / (2 * r["tau_int"] * r["seconds_per_sweep"]))
        assert 0 < r["tau_int_error"] < 0.25 * r["tau_int"], (method, L)
        assert 0.02 < 1e-9 * L**2 * r["chains"] / r["seconds_per_sweep"] < 20, (method, L)  # updates/ns
        length = r["draws"] * r["chains"] * r["sweeps_per_draw"] / r["tau_int"]
        assert length > 300, f"{method} at L={L}: only {length:.0f} tau_int long"


def test_exponents_follow_from_the_rows():
    again = slowing.exponents(STORED["rows"])
    assert again.keys() == STORED["exponents"].keys()
    for method, fit in STORED["exponents"].items():
        assert again[method]["z"] == pytest.approx(fit["z"], rel=1e-4)
        assert again[method]["z_error"] == pytest.approx(fit["z_error"], rel=1e-3)
        assert fit["p_value"] > 0.01, f"{method}: the law does not describe the data, chi2 {fit['chi2']:.1f} of {fit['freedom']}"


@pytest.mark.parametrize("method", ["metropolis", "multispin-replicas"])
def test_local_updates_slow_down_as_they_should(method):
    "z = 2.1667(5), Nightingale and Blote, PRL 76, 4548 (1996)."
    for fit in (STORED["exponents"][method], STORED["exponents"][method]["plain"]):
        assert 2.07 <= fit["z"] <= 2.27 and abs(fit["z"] - 2.1667) < 3 * fit["z_error"] and fit["z_error"] < 0.1


def test_the_heat_bath_has_the_same_exponent():
    fit = STORED["exponents"]["heatbath"]
    assert abs(fit["z"] - 2.1667) < 3 * fit["z_error"] and fit["z_error"] < 0.1


@pytest.mark.parametrize("method", ["wolff", "swendsen-wang"])
def test_clusters_hardly_slow_down(method):
    fit = STORED["exponents"][method]
    assert 0 < fit["z"] <= 0.4 and fit["z"] + 3 * fit["z_error"] <= 0.4


def test_clusters_win_at_the_largest_lattice_over_every_single_local_chain():
    rate = {method: ROWS[method, 128]["effective_per_second"] for method in slowing.PLANS}
    local = [method for method, plan in slowing.PLANS.items() if plan.local]
    assert min(rate["wolff"], rate["swendsen-wang"]) > 2 * max(rate[method] for method in local), rate


def test_the_fit_finds_what_was_put_in():
    sizes, rng, z = np.array(slowing.SIZES, dtype=float), np.random.default_rng(1), []
    truth = 0.025 * sizes**2.17 + 1.2
    for _ in range(300):
        tau = truth * (1 + 0.02 * rng.standard_normal(5))
        fit = slowing.power_law(sizes, tau, 0.02 * truth, offset=True)
        z.append((fit["z"] - 2.17) / fit["z_error"])
    assert abs(np.mean(z)) < 4 / math.sqrt(300) and 0.85 < np.std(z) < 1.15


@pytest.mark.parametrize("L", [8, 16])
@pytest.mark.parametrize("method", [m for m, plan in slowing.PLANS.items() if 8 in plan.lengths])
def test_the_smallest_sizes_come_out_again(method, L):
    "Shorter runs with another seed: tau_int within errors, and the means exact."
    plan = slowing.PLANS[method]
    length = min(20_000, plan.lengths[L]) if plan.local else plan.lengths[L]
    ensemble = slowing.run_of(method, L, length, seed=77)
    for name, (tau, error) in slowing.taus(ensemble, L).items():
        suffix = "" if name == "m2" else f"_{name}"
        stored = ROWS[method, L][f"tau_int{suffix}"], ROWS[method, L][f"tau_int{suffix}_error"]
        assert error < 0.12 * tau
        assert abs(tau - stored[0]) < 4 * math.hypot(error, stored[1]), (name, tau, error, stored)
    if L == 8:
        exact = transfer_matrix(L, BETA_C).averages
        for name in ("m2", "energy"):
            found = slowing.gamma_error(ensemble[name].values)
            assert abs(found.value - exact[name]) < 4 * found.error, name


# ---- bench.json and bench.py

def test_the_committed_comparison_is_complete():
    "All targets measured, none of them said to be met that is not, and they follow from the repetitions."
    assert not MEASURED["quick"] and MEASURED["missing"] == []
    for r in MEASURED["rows"]:
        for rates in (r["updates_per_ns"], r["by_wall_clock"]):
            assert len(rates["repetitions"]) >= 5 and rates["median"] == pytest.approx(np.median(rates["repetitions"]))
    assert bench.targets(MEASURED["rows"], MEASURED["threads"]) == MEASURED["targets"]
    for t in MEASURED["targets"]:
        assert t["met"] == (t["value"] >= t["limit"]), t
    names = {(tuple(r["shape"]), r["algorithm"], r["program"]) for r in MEASURED["rows"]}
    assert {(shape, algorithm, program) for shape in bench.FULL.shapes for algorithm in ("metropolis", "swendsen-wang", "wolff")
            for program in ("uqphys", *bench.PEERS)} <= names


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "quick.json"
    done = subprocess.run([sys.executable, STUDIES / "bench.py", "--quick", "--out", out], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_a_rehearsal_has_the_same_structure(rehearsal):
    found, said = rehearsal
    assert found["quick"] and found.keys() == MEASURED.keys() and found["missing"] == bench.missing()
    same = {(r["algorithm"], r["program"]) for r in MEASURED["rows"] if r["program"] not in found["missing"]}
    assert {(r["algorithm"], r["program"]) for r in found["rows"]} == same
    for r in found["rows"]:
        subtracted = r["program"] == "peapods" and r["algorithm"] != "metropolis"  # lost in the noise of so short a run, maybe
        assert r.keys() <= MEASURED["rows"][0].keys() and (subtracted or r["updates_per_ns"]["median"] > 0)
        assert f"{r['program']:9s}{r['method']:26s}" in said
    for t in found["targets"]:
        assert t["target"] in said and (t["value"] is None) == any(peer in t["target"] for peer in found["missing"])
    for peer in found["missing"]:
        assert f"pip install {bench.PEERS[peer]}" in said
    assert "MISSED" not in said, "a rehearsal judges nothing"


def test_what_is_missing_or_slow_is_not_met():
    "Without a peer there is nothing to be ahead of; a row below its limit is missed."
    rows = [r for r in MEASURED["rows"] if r["program"] != "mcising"]
    verdicts = {t["target"]: t["met"] for t in bench.targets(rows, [])}
    assert all(met is None for text, met in verdicts.items() if "mcising" in text or "two threads" in text)
    assert all(verdicts[t["target"]] == t["met"] for t in MEASURED["targets"] if "mcising" not in t["target"] and
               "two threads" not in t["target"])
    slow = [r | dict(updates_per_ns=bench.spread([1e-3])) for r in MEASURED["rows"] if r["program"] == "uqphys"]
    assert not any(t["met"] for t in bench.targets(slow, []))


def test_updates_are_counted_as_they_happen():
    "Our Wolff clusters are as large as N <m2> says, and a sweep counts every site, of every replica."
    start, m2 = bench.equilibrium((32, 32), 2000, seed=3)
    program = bench.ours("wolff", start, "wolff")
    sizes = np.array([program.advance(250) / 250 for _ in range(80)]) / 32**2  # of turned or seeded clusters alike
    error = math.hypot(sizes[10:].std(ddof=1) / math.sqrt(70), 0.01)  # 2000 looks at m2 with tau_int of 2: 0.008
    assert abs(sizes[10:].mean() - m2) < 4 * error, (sizes[10:].mean(), m2, error)
    for method, copies in (("metropolis", 1), ("multispin-replicas", 64), ("swendsen-wang", 1)):
        assert bench.ours(method, start, method, copies).advance(3) == 3 * 32**2 * copies
