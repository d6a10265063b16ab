"""The study of the plaquette model: what its files hold is what the page claims, and its scripts can be interrupted.

The numbers of the page are computed here once more from the raw rows, by other lines; the statistics must refuse uncorrected numbers.
"""
import json

import numpy as np
import pytest
from scipy.stats import chi2
from study import STUDIES, load_study

EXACT_4_8 = 2.457516  # by transfer matrix, see the page
OBSERVABLES = ("abs_m", "susceptibility", "specific_heat")


def read(name):
    return json.loads((STUDIES / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study():
    return read("plaquette")


@pytest.fixture(scope="module")
def cost():
    return read("cost")


def crossings(study, kind, sizes):
    return [c for r in study["rows"].values() if r["kind"] == kind and r["seed"] < 100 for c in r["crossings"] if c["sizes"] == sizes]


def chain(study, sizes):
    return next(r for r in study["rows"].values() if r["kind"] == "exact" and r["sizes"] == sizes)


def reference(study, sizes):
    "The exact crossing of these lattices and its error."
    return (EXACT_4_8, 0.0) if sizes == [4, 8] else (chain(study, sizes)["T"], chain(study, sizes)["error"])


def p_value(found, exact, error, name):
    z = [(c[name] - exact) / np.hypot(c["error"], error) for c in found]
    return chi2.sf(np.square(z).sum(), len(z))


# ---- the critical temperature

@pytest.mark.parametrize("sizes", [[4, 8], [8, 16]], ids=str)
@pytest.mark.parametrize("kind", ["pairs", "local"])
def test_corrected_crossings_are_right_within_their_own_errors(study, kind, sizes):
    found = crossings(study, kind, sizes)
    assert len(found) >= 6
    assert 0.005 < p_value(found, *reference(study, sizes), "corrected") < 0.995
    if kind == "pairs":  # the same test refuses what was not corrected
        assert p_value(found, *reference(study, sizes), "surrogate") < 1e-4


def test_the_error_bars_are_neither_too_small_nor_too_large(study):
    z = [(c["corrected"] - reference(study, s)[0]) / np.hypot(c["error"], reference(study, s)[1])
         for kind in ("pairs", "local") for s in ([4, 8], [8, 16]) for c in crossings(study, kind, s)]
    # the two crossings of one row share the runs on L = 8: fewer independent numbers than rows
    low, high = np.sqrt(chi2.ppf([0.001, 0.999], len(z) // 2) / (len(z) // 2))
    assert low < np.sqrt(np.mean(np.square(z))) < high


def test_chains_of_the_exact_model_agree_with_the_transfer_matrix(study):
    found = chain(study, [4, 8])
    assert abs(found["T"] - EXACT_4_8) < 3.3 * found["error"] and found["error"] < 0.01


def test_one_twentieth_of_the_exact_energies(study):
    exact = chain(study, [8, 16])
    for kind in ("pairs", "local"):
        for c in crossings(study, kind, [8, 16]):
            plain = exact["sweeps"] / 2 * (exact["error"] / c["error"]) ** 2  # of the larger lattice alone
            assert c["exact_evaluations"] == 60 + 2 * 100
            assert plain > 20 * c["exact_evaluations"]


def test_crossings_approach_the_literature(study):
    mean = lambda sizes: np.mean([c["corrected"] for k in ("pairs", "local") for c in crossings(study, k, sizes)])
    error = np.mean([c["error"] for c in crossings(study, "local", [8, 16])]) / np.sqrt(len(crossings(study, "local", [8, 16])))
    assert EXACT_4_8 + 0.015 < mean([8, 16]) < 2.493 + 3 * error
    assert abs(mean([8, 16]) + (mean([8, 16]) - EXACT_4_8) / (2**2.75 - 1) - 2.493) < 4 * error


# ---- the cost

def corrected(cost, kind="local"):
    "Row, observable, probes, the corrected value and its error, and the exact chain's."
    for label, r in cost["rows"].items():
        if r.get("kind") == kind:
            for name in OBSERVABLES:
                probes, free = r[name]["probes"], cost["rows"][f"free-{label}"][name]
                whole = free["value"] - probes["predicted"], np.hypot(free["error"], probes["doubt"])
                yield r, name, probes, whole, cost["rows"][f"exact-{r['T']:g}"][name]


def test_the_claimed_errors_are_honest(cost):
    z = np.array([(value - e["value"]) / np.hypot(error, e["error"]) for *_, (value, error), e in corrected(cost)])
    short = np.array([(p["corrected"] - e["value"]) / np.hypot(p["error"], e["error"]) for _, _, p, _, e in corrected(cost)])
    inside = np.array([(p["predicted"] - p["inside"]) / p["doubt"] for _, _, p, *_ in corrected(cost)])
    independent = len(z) // 3  # the three observables of one ensemble go together
    low, high = np.sqrt(chi2.ppf([0.001, 0.999], independent) / independent)
    assert len(z) >= 27 and low < np.sqrt(np.mean(z**2)) < high and low < np.sqrt(np.mean(short**2)) < high
    assert np.sqrt(np.mean(inside**2)) < high and np.abs(inside).max() < 3.5


def test_uncorrected_pairs_are_refused_by_the_same_doubt(cost):
    raw = np.array([p["inside"] / p["doubt"] for r, _, p, *_ in corrected(cost, "pairs") if r["T"] == 2.493])
    after = np.array([(p["predicted"] - p["inside"]) / p["doubt"] for _, _, p, *_ in corrected(cost, "pairs")])
    assert np.abs(raw).max() > 4 and np.abs(after).max() < 3.5


@pytest.mark.parametrize("name", OBSERVABLES)
@pytest.mark.parametrize("T", [3.0, 2.493, 2.2])
def test_fifty_times_fewer_than_plain_and_five_times_fewer_than_delayed_acceptance(cost, T, name):
    rows = [(r, whole[1], e) for r, n, _, whole, e in corrected(cost) if r["T"] == T and n == name]
    error2 = np.mean([error**2 for _, error, _ in rows])  # the whole error, with the simulation's own
    plain = rows[0][2]["error"] ** 2 * cost["rows"][f"exact-{T:g}"]["sweeps"] / error2
    delayed = np.mean([r[name]["delayed"]["error"] ** 2 * r["proposals"] * r["moved"] for r, *_ in rows]) / error2
    assert len(rows) >= 3 and {r["evaluations"] for r, *_ in rows} == {200}
    assert plain > 50 * 200 and delayed > 5 * 200
    assert plain / (2 * rows[0][2]["tau"]) > 5 * 200  # even if every exact energy bought an independent draw


# ---- the scripts

@pytest.mark.parametrize("name", ["plaquette", "cost"])
def test_an_interrupted_study_goes_on_where_it_stopped(name, tmp_path, monkeypatch):
    module, made = load_study(f"{name}.py"), []

    def make(label, broken):
        made.append(label)
        if broken and label == "b":
            raise KeyboardInterrupt
        return dict(kind=label, T=1.0)

    def rows(broken):
        return lambda *_: {label: (make, (label, broken)) for label in "abc"}

    folder, out = tmp_path / "rows", tmp_path / "study.json"
    monkeypatch.setattr(module, "tasks", rows(True))
    with pytest.raises(KeyboardInterrupt):
        module.main(folder=folder, out=out)
    assert made == ["a", "b"] and [p.name for p in folder.iterdir()] == ["a.json"] and not out.exists()
    monkeypatch.setattr(module, "tasks", rows(False))
    assert list(module.main(folder=folder, out=out)) == ["a", "b", "c"]
    assert made == ["a", "b", "b", "c"]
    first = out.read_text()
    module.main(folder=folder, out=out, only=())
    assert made == ["a", "b", "b", "c"] and out.read_text() == first and {"rows", "version"} <= set(json.loads(first))


def test_the_smallest_run_of_the_critical_temperature(tmp_path):
    module = load_study("plaquette.py")
    rows = module.main(seeds=1, large=0, scale=0.2, folder=tmp_path / "rows", out=tmp_path / "study.json", only=["exact-4"])
    found = rows["exact-4"]
    assert abs(found["T"] - EXACT_4_8) < 4 * found["error"] and found["sweeps"] == 2 * 2 * 8 * 1200 * 8
    found = module.surrogate_row("pairs", 0, sizes=(4, 8), draws=100)
    c, = found["crossings"]
    assert c["surrogate"] > c["corrected"] and c["exact_evaluations"] <= 260 and abs(c["corrected"] - EXACT_4_8) < 4 * c["error"]


def test_the_smallest_run_of_the_cost(tmp_path):
    module = load_study("cost.py")
    rows = module.main(seeds=1, scale=0.1, folder=tmp_path / "rows", out=tmp_path / "cost.json", only=["pairs-3-0"])
    for name in OBSERVABLES:
        p = rows["pairs-3-0"][name]["probes"]
        assert abs(p["predicted"] - p["inside"]) < 4 * p["doubt"] and p["doubt"] <= 1.5 * p["error"]


def test_the_bias_inside_an_ensemble_is_that_of_the_exact_weights():
    module = load_study("cost.py")
    from uqphys.bias import Approximation
    from uqphys.sampling import sample

    model = Approximation(module.TRUTH, module.too_simple(0).fit(*module.examples(0), progress=False))
    ensemble = sample(model, 1 / 3.0, draws=60, chains=4, thin=20, burn_in=100, seed=0, progress=False)
    x = ensemble["config"].values.reshape(-1, 16, 16)
    w = np.exp(-(module.TRUTH.energy(x) - model.energy(x)) / 3.0)
    w, m, e = w / w.sum(), np.abs(x.mean((1, 2))), module.TRUTH.energy(x)
    after = {"abs_m": w @ m, "susceptibility": 256 * (w @ m**2 - (w @ m) ** 2) / 3.0, "specific_heat": (w @ e**2 - (w @ e) ** 2) / 256 / 9.0}
    e = model.energy(x)
    before = {"abs_m": m.mean(), "susceptibility": 256 * m.var() / 3.0, "specific_heat": e.var() / 256 / 9.0}
    for name, value in module.inside(model, ensemble, 1 / 3.0).items():
        assert value == pytest.approx(before[name] - after[name], rel=1e-6, abs=1e-10)
