"""The benchmark: the truth it judges by, the seeds and files of its rows, and the counting, tried on cases whose count is known."""
import dataclasses
import json
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from common import assert_complete, assert_refused, row_name
from scipy import stats

from uqphys import benchmark
from uqphys.benchmark import (FIELD_METHODS, METHODS, SYSTEMS, CorrugatedPhi4, System, Tabulated, approximate, benchmark_goals, benchmark_row, collect_benchmark, load_benchmark, plot_benchmark,
                              restore_benchmark, run_benchmark, sample_law, save_benchmark, summarise_benchmark, tabulate, true_bias)
from uqphys.bias import _differences, _fair_probes, _process, sort_draws, too_simple
from uqphys.field_gp import FieldGP
from uqphys.models import Ising, Phi4, pattern_index
from uqphys.predictive import Predictive
from uqphys.training import labelled

TRUTH, BETA = Ising((4, 4), J2=0.1, K=0.2), 1 / 2.6
SYSTEM = System(TRUTH, (2.6,), 3.25, examples=20, draws=60, average_draws=60, exact_draws=20, probes=20)
LONELY = CorrugatedPhi4((3, 4), 0.0, 0.5, 0.1, 4.0)  # no neighbours: averages are integrals over one variable
FIELD = System(LONELY, (1.0,), 1.25, examples=20, truth="long runs", draws=30, average_draws=30, long_draws=30, thin=2, exact_draws=20, probes=20, observables=("energy", "phi2"))
STUDY = Path(__file__).parents[1] / "studies" / "benchmark.json"


class Table:
    "A surrogate that is a given table of patterns, and perhaps something that no table holds; its belief is a constant shift."

    def __init__(self, table, extra=0.0, width=0.1):
        self.table, self.extra, self.width = np.asarray(table, dtype=float), extra, width

    def fit(self, x, y):
        return self

    def predict(self, x):
        x = np.asarray(x)
        mean = (self.table[pattern_index(x)].sum((1, 2)) + self.extra * x.sum((1, 2)) ** 4 / 256)[:, None]  # on 4x4, the square would be a sum over patterns
        shifts = self.width * np.linspace(-1, 1, 20)[:, None, None]
        return Predictive(mean, np.full_like(mean, shifts.var()), np.zeros_like(mean), mean + shifts)


def near_truth(seed, size=0.03):
    "Couplings that are nearly right."
    d = np.random.default_rng(seed).normal(size=3) * size
    return Table(Ising((4, 4), J=1 + d[0], J2=0.1 + d[1], K=0.2 + d[2]).pattern_energies())


def quick(seed):
    return near_truth(seed)


def broken(seed):
    class Broken(Table):
        def fit(self, x, y):
            raise ValueError("examples=20: too few")

    return Broken(np.zeros(512))


class Interrupts:
    "Finishes some rows, then is interrupted."

    def __init__(self, rows):
        self.left = rows

    def __call__(self, seed):
        outer = self

        class Surrogate(Table):
            def fit(self, x, y):
                if not outer.left:
                    raise KeyboardInterrupt
                outer.left -= 1
                return self

        return Surrogate(near_truth(seed).table)


# ---- tables

@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (8, 6)])
def test_a_table_is_found_whatever_its_symmetries(shape):
    rng = np.random.default_rng(0)
    surrogate = Table(rng.normal(size=512))
    table, x = tabulate(surrogate, shape), np.where(rng.random((300, *shape)) < rng.random((300, 1, 1)), 1, -1).astype(np.int8)
    off = np.abs(table[pattern_index(x)].sum((1, 2)) - surrogate.predict(x).mean[:, 0]).max()
    assert off < 1e-8 * np.ptp(surrogate.predict(x).mean)


def test_what_no_table_holds_is_refused():
    with pytest.raises(ValueError, match="3x3 patterns"):
        tabulate(Table(near_truth(0).table, extra=1e-6), (4, 4))
    with pytest.raises(ValueError, match="finite"):
        tabulate(Table(np.full(512, np.nan)), (4, 4))


def test_symmetries_are_those_of_the_belief():
    for table, flip, lattice in ((Ising((4, 4), J2=0.3).pattern_energies(), True, True), (Ising((4, 4), h=0.1).pattern_energies(), False, True),
                                 (np.random.default_rng(0).normal(size=512), False, False)):
        held = Tabulated(Table(table), (4, 4))
        assert (held.flip_symmetric, held.lattice_symmetric) == (flip, lattice)


def test_everything_but_the_energy_is_the_surrogates_own():
    held = Tabulated(near_truth(0), (4, 4))
    assert held.width == 0.1 and not hasattr(held, "spare")
    again = pickle.loads(pickle.dumps(held))
    assert np.array_equal(again.pattern_energies(), held.pattern_energies())
    held.pattern_energies()[:] = 0  # a copy
    assert held.pattern_energies().any()
    held.surrogate.table = held.surrogate.table * 1.01
    with pytest.raises(ValueError, match="fitted again"):
        held.predict(np.ones((1, 4, 4), dtype=np.int8))


# ---- the truth

@pytest.fixture(scope="module")
def scores():
    "z-scores of long runs against the enumeration: of nearly right surrogates, and of bad ones, where the plain difference decides."
    found = {"near": [], "far": []}
    for kind, size, count in (("near", 0.03, 16), ("far", 0.5, 6)):
        for seed in range(count):
            pair = approximate(TRUTH, near_truth(seed, size))
            beta = BETA * (1 + 0.005 * seed)  # another exact run for each
            long = true_bias(*pair, beta, truth="long runs", draws=80, seed=seed)
            z = (long["true_bias"] - true_bias(*pair, beta)["true_bias"]) / long["truth_error"]
            assert (long["truth_error"] > 0).all()
            found[kind].append(z.to_numpy())
    return {kind: np.array(z) for kind, z in found.items()}


@pytest.mark.parametrize("kind", ["near", "far"])
def test_long_runs_agree_with_the_enumeration_within_their_errors(scores, kind):
    z = scores[kind]
    for column in (0, 1, 3):  # energy, |m|, susceptibility; m2 goes with |m|
        assert stats.kstest(z[:, column], stats.t(31).cdf).pvalue > 1e-3
    assert np.abs(z).max() < 5


def test_a_law_without_a_table_is_drawn_exactly():
    pair = approximate(TRUTH, Table(near_truth(0).table, extra=-0.02))
    assert not hasattr(pair[0], "pattern_energies") and pair[0].flip_symmetric
    known = true_bias(*pair, BETA)
    values = known["exact"] + known["true_bias"]
    z = []
    for seed in range(30):
        e = sample_law(*pair, BETA, draws=200, chains=4, seed=seed)
        z.append([(e[n].values.mean() - values[n]) / (e[n].values.std() / 800**0.5) for n in ("energy", "abs_m")])
    assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in np.array(z).T)


def test_a_larger_law_without_a_table_is_driven_by_the_nearest():
    model = Ising((4, 5), J2=0.1, K=0.2)
    law, walk = approximate(model, Table(near_truth(0).table, extra=-0.01))
    assert law.n_sites > 16
    e = sample_law(law, walk, BETA, draws=60, chains=16, thin=20, seed=1)
    from uqphys.bias import exact_bias

    known = exact_bias(law, BETA, ["abs_m"]).iloc[0]
    means = e["abs_m"].values.mean(1)
    assert abs(means.mean() - known.sum()) < 4.5 * means.std(ddof=1) / 4


# ---- fields

class Action:
    "A surrogate of fields that is a given action; its belief is a constant shift."

    def __init__(self, model):
        self.model = model

    def fit(self, x, y):
        return self

    def predict(self, x):
        mean, shifts = np.asarray(self.model.energy(np.asarray(x)))[:, None], 0.1 * np.linspace(-1, 1, 20)[:, None, None]
        return Predictive(mean, np.full_like(mean, shifts.var()), np.zeros_like(mean), mean + shifts)


def smoother(seed):
    "A surrogate that knows less of the substrate."
    return Action(CorrugatedPhi4((3, 4), 0.0, 0.5, 0.05, 4.0))


def alone(model, beta=1.0):
    "Averages of a field without neighbours, by quadrature."
    phi = np.linspace(-6, 6, 6001)
    action = model.energy(phi[:, None, None] * np.ones(model.shape)) / np.prod(model.shape)
    share = np.exp(-beta * action)
    return pd.Series({name: share @ values / share.sum() for name, values in (("energy", action), ("phi2", phi**2), ("phi4", phi**4))})


def fields(model=LONELY, n=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *model.shape)) * 0.7


def test_the_action_is_that_of_phi4_and_a_cosine():
    model, x = CorrugatedPhi4((4, 6), 0.3, 0.7, 0.4, 3.0), fields(Ising((4, 6)))
    assert np.allclose(model.energy(x), Phi4((4, 6), 0.3, 0.7).energy(x) + 0.4 * (1 - np.cos(3 * x)).sum((1, 2)), rtol=1e-12)
    assert np.allclose(model.energy(-np.roll(x, (1, 2), (1, 2))[:, ::-1]), model.energy(x), rtol=1e-12)
    assert np.isclose(model.energy(x[0]), model.energy(x)[0]) and model.observables(x[:6].reshape(2, 3, 4, 6))["phi2"].shape == (2, 3)
    step = 1e-5 * np.eye(24).reshape(24, 4, 6)
    assert np.allclose([(model.energy(one - step) - model.energy(one + step)).reshape(4, 6) / 2e-5 for one in x[:3]], model.force(x[:3]), atol=1e-7)
    assert pickle.loads(pickle.dumps(model)) == model


def test_a_law_of_fields_is_drawn_exactly():
    "The walk knows nothing of the cosine, which is five times as deep here."
    deep = CorrugatedPhi4((3, 4), 0.0, 0.5, 0.5, 4.0)
    law, walk = approximate(LONELY, Action(deep), fields())
    run = sample_law(law, walk, 0.9, draws=100, chains=32, thin=2, seed=3)
    known = alone(deep, 0.9)
    assert 0.3 < run.attrs["acceptance"] < 0.9
    for name in known.index:
        assert stats.ttest_1samp(run[name].values.mean(1), known[name]).pvalue > 1e-3, name
    unseen = abs(alone(walk.model, 0.9)["phi4"] - known["phi4"])  # what proposals without the decision would give
    assert unseen > 6 * run["phi4"].values.mean(1).std() / 32**0.5


def test_the_truth_of_fields_is_that_of_the_integral():
    z = []
    for k in range(8):
        exact, cheap = CorrugatedPhi4((3, 4), 0.0, 0.5 + 0.02 * k, 0.1, 4.0), CorrugatedPhi4((3, 4), 0.0, 0.5, 0.02 * k, 4.0)  # another run for each
        long = true_bias(*approximate(exact, Action(cheap), fields()), 1.0, ("energy", "phi2", "phi4"), truth="long runs", draws=40, thin=2)
        assert (long["truth_error"] > 0).all()
        z.append((long["true_bias"] - (alone(cheap) - alone(exact))) / long["truth_error"])
    for column in np.array(z).T:
        assert stats.kstest(column, stats.t(31).cdf).pvalue > 1e-3
    assert np.abs(z).max() < 5


def test_a_process_of_fields_keeps_its_mean_until_it_is_fitted_again():
    x = fields()
    gp = FieldGP(draws=20).fit(x, LONELY.energy(x)[:, None])
    law = approximate(LONELY, gp, x)[0]
    new = fields(seed=1)
    assert np.allclose(law.energy(new), gp.predict(new).mean[:, 0], rtol=1e-9) and law.flip_symmetric and law.lattice_symmetric
    gp.fit(x[:30], LONELY.energy(x[:30])[:, None])
    with pytest.raises(ValueError, match="fitted again"):
        law.energy(new)


@pytest.mark.parametrize("kind, noise, linear", [("HMC", "none", True), ("HMC", "homoscedastic", False), ("penalty", "none", True)])
def test_the_mean_of_many_networks_is_one_wide_layer(kind, noise, linear):
    from uqphys.architectures import LocalEnergyNet
    from uqphys.hmc import HMCNet
    from uqphys.penalty import PenaltyNet

    x, network = fields(), LocalEnergyNet(hidden=(3,), linear=linear, values="real", seed=1)
    short = dict(chains=2, warmup=20, steps=5, draws=6) if kind == "HMC" else dict(chains=2, starts=2, batch_size=4, batches=3, chain_draws=6, burn_in=3, leapfrog=2, draws=6)
    net = (HMCNet if kind == "HMC" else PenaltyNet)(network, noise=noise, seed=0, **short)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a chain of six steps has not arrived anywhere
        net.fit(x, LONELY.energy(x)[:, None], progress=False)
        law, new = approximate(LONELY, net, x)[0] if linear else None, fields(seed=1)
        assert np.allclose(benchmark._quick_mean(net)(new), net.predict(new).mean, rtol=1e-12, atol=1e-10)
        net.fit(x[:30], LONELY.energy(x[:30])[:, None], progress=False)
    if linear:
        with pytest.raises(ValueError, match="PenaltyNet: was fitted again|HMCNet: was fitted again"):
            law.energy(new)


def test_the_fields_that_go_farthest_are_probed():
    "Most of the ten with the largest twelfth power, none of which random probes meet: beyond its probes a belief extrapolates."
    model, beta = SYSTEMS["phi4 8x8"].model, 1 / 1.1
    x, y = labelled(model, 1 / 1.25, 60, seed=3)
    law, walk = approximate(model, FieldGP(draws=50, seed=0).fit(x, y), x)
    classes = sort_draws(sample_law(law, walk, beta, draws=100, chains=32, thin=2, seed=5))
    many, errors, met, z = classes.representatives, {}, {}, {}
    D, far = _differences(law, many), np.argsort((many**12).sum((1, 2)))[-10:]
    for choice in ("spanning", "random"):
        at = _fair_probes(law, classes, 100, choice, 0)[0]
        belief = _process(law, many[at], D[at], 0, 100).predict(many)
        wrong, sd = belief.mean[:, 0] - D, np.sqrt(belief.epistemic[:, 0])
        errors[choice], met[choice], z[choice] = wrong.std(), np.isin(far, at).sum(), (wrong / sd.clip(1e-300))[sd > 0]
    assert met["spanning"] > 5 and met["random"] == 0 and errors["spanning"] < errors["random"] / 2, (met, errors)
    assert np.mean(z["spanning"] ** 2) < 2 and np.abs(z["spanning"]).max() < 6 < np.abs(z["random"]).max()


def test_a_law_that_does_not_hold_its_fields_is_refused():
    class Falls(Action):
        def predict(self, x):
            belief = super().predict(x)
            return Predictive(-belief.mean, belief.epistemic, belief.aleatoric, -belief.draws)

    class Hole(Action):
        def predict(self, x):
            belief = super().predict(x)
            mean = np.where((np.abs(x).max((1, 2)) > 1.6)[:, None], -1e4 * np.abs(x).max((1, 2))[:, None], belief.mean)
            return Predictive(mean, belief.epistemic, belief.aleatoric, belief.draws - belief.mean + mean)

    with pytest.raises(ValueError, match="fourth power"):
        approximate(LONELY, Falls(LONELY), fields())
    law, walk = approximate(LONELY, Hole(LONELY), fields().clip(-1.2, 1.2))
    law.surrogate.farthest = 0.4  # as if the examples had been small
    with pytest.raises(ValueError, match="lets fields grow"):
        sample_law(law, walk, 1.0, draws=40, chains=8, seed=0)


def test_a_row_of_fields_has_every_case():
    told = dict(systems={"field": FIELD}, methods={"quick": smoother})
    cases = pd.DataFrame(benchmark_row("field", "quick", 0, **told))
    assert len(cases) == 3 * 2 and (cases["truth_error"] > 0).all()
    known = (alone(smoother(0).model) - alone(LONELY))[["energy", "phi2"]].to_numpy()
    first = cases[cases["evidence"] == "probe"]
    assert (np.abs(first["true_bias"] - known) < 5 * first["truth_error"]).all() and (first["exact_evaluations"] == 20).all()
    again = benchmark_row("field", "quick", 0, **told)
    assert rows_without_time(dict(rows=again)) == rows_without_time(dict(rows=cases.to_dict("records")))


def test_names_mean_the_method_for_fields_where_sites_are_real(tmp_path):
    assert list(FIELD_METHODS) == list(METHODS)
    for name in METHODS:
        assert benchmark._maker(SYSTEMS["phi4 8x8"], name, METHODS) is FIELD_METHODS[name] and benchmark._maker(SYSTEMS["ising 4x4"], name, METHODS) is METHODS[name]
    assert benchmark._maker(SYSTEMS["phi4 8x8"], "GP", {"GP": smoother}) is smoother
    told = dict(systems={"field": FIELD}, methods={"pair sum": METHODS["pair sum"]}, repetitions=1, progress=False)
    with ProcessPoolExecutor(1) as pool:
        row = run_benchmark(tmp_path, executor=pool, **told)[0]
    assert not row["failed"] and row["settings"] == benchmark._settings(FIELD, FIELD_METHODS["pair sum"]) and len(row["rows"]) == 6
    assert collect_benchmark(tmp_path, systems=told["systems"], methods=told["methods"])[0]["rows"] == row["rows"]


def test_surrogates_for_fields_learn():
    "Each makes a law that is held together, from a few examples; those that take longer are tried by the study."
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4, 4)) * 0.7
    model = CorrugatedPhi4((4, 4), 0.25, 0.5, 0.1, 4.0)
    for name in ("last layer", "GP", "pair sum"):
        surrogate = FIELD_METHODS[name](1)
        silent = {"progress": False} if "progress" in surrogate.fit.__code__.co_varnames else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # doubts of a fit
            law, walk = approximate(model, surrogate.fit(x, model.energy(x)[:, None], **silent), x)
        new = rng.normal(size=(100, 4, 4)) * 0.6
        assert (law.energy(new) - model.energy(new)).std() < 0.4 * model.energy(new).std(), name
        assert walk.model.quartic > 0 and walk.model.hopping > 0


# ---- rows

def test_a_row_has_every_case_and_tells_the_truth():
    cases = pd.DataFrame(benchmark_row("here", "quick", 3, systems={"here": SYSTEM}, methods={"quick": quick}))
    assert len(cases) == 3 * 4 and set(cases["evidence"]) == {"posterior", "probe", "exact"}
    assert cases.groupby("observable")["true_bias"].nunique().eq(1).all()
    assert (cases.loc[cases["evidence"] == "posterior", "exact_evaluations"] == 0).all() and (cases.loc[cases["evidence"] == "probe", "exact_evaluations"] == 20).all()


def rows_without_time(content):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in content["rows"]]


def test_more_systems_methods_and_temperatures_change_no_row(tmp_path):
    warmer = System(TRUTH, (3.0, 2.6), 3.25, examples=20, draws=60, average_draws=60, exact_draws=20, probes=20)
    few = benchmark_row("here", "quick", 0, systems={"here": SYSTEM}, methods={"quick": quick})
    many = benchmark_row("here", "quick", 0, systems={"there": warmer, "here": warmer}, methods={"pair sum": too_simple, "quick": quick})
    strip = lambda rows: rows_without_time({"rows": [r for r in rows if r["temperature"] == 2.6]})
    assert strip(few) == strip(many)
    assert strip(few) != strip(benchmark_row("here", "quick", 1, systems={"here": SYSTEM}, methods={"quick": quick}))


def test_an_interrupted_benchmark_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"m": Interrupts(2)}, repetitions=4, progress=False)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(kept) == 2 and all(name.endswith(".json") for name in kept)
    rows = run_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"m": Interrupts(2)}, repetitions=4, progress=False)
    assert [c["seed"] for c in rows] == [0, 1, 2, 3] and all((tmp_path / name).read_bytes() == text for name, text in kept.items())
    assert len(collect_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"m": Interrupts(0)})) == 4


@pytest.mark.parametrize("damage", [lambda t: t[: len(t) // 2], lambda t: "", lambda t: "[]", lambda t: t.replace('"true_bias": ', '"true_bias": 1', 1),
                                    lambda t: t.replace('"seed": 1', '"seed": 7', 1)])
def test_a_damaged_row_is_said_and_made_anew(tmp_path, damage):
    told = dict(systems={"here": SYSTEM}, methods={"quick": quick}, repetitions=2, progress=False)
    first = run_benchmark(tmp_path, **told)
    file = sorted(tmp_path.iterdir())[1]
    whole = file.read_text()
    assert damage(whole) != whole
    file.write_text(damage(whole))
    with pytest.warns(UserWarning, match="damaged"):
        again = run_benchmark(tmp_path, **told)
    assert list(map(rows_without_time, again)) == list(map(rows_without_time, first))
    assert json.loads(file.read_text())["digest"] == json.loads(whole)["digest"] or "seconds" in whole


def test_a_row_is_made_again_by_naming_it(tmp_path):
    told = dict(systems={"here": SYSTEM}, methods={"quick": quick}, repetitions=2, progress=False)
    run_benchmark(tmp_path, **told)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    run_benchmark(tmp_path, redo=[("here", "quick", 1)], **told)
    changed = [name for name in before if (tmp_path / name).stat().st_mtime_ns != before[name]]
    assert changed == ["here--quick--00001.json"]


def test_other_settings_are_refused(tmp_path):
    told = dict(repetitions=1, progress=False)
    run_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"pair sum": too_simple}, **told)
    other = System(TRUTH, (2.6,), 3.25, examples=21, draws=60, exact_draws=20, probes=20)
    with pytest.raises(ValueError, match="other settings"):
        run_benchmark(tmp_path, systems={"here": other}, methods={"pair sum": too_simple}, **told)
    with pytest.raises(ValueError, match="other settings"):  # the same name for another surrogate
        run_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"pair sum": METHODS["GP"]}, **told)


def test_a_failed_fit_is_kept_with_its_words(tmp_path):
    rows = run_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"quick": quick, "broken": broken}, repetitions=1, progress=False)
    assert rows[1]["rows"] == [] and rows[1]["failed"] == "examples=20: too few"
    save_benchmark(rows, tmp_path / "all.json")
    table, told = load_benchmark(tmp_path / "all.json")
    assert told["failed"] == [["here", "broken", 0, "examples=20: too few"]] and set(table["method"]) == {"quick"}


def test_a_pool_gives_the_same_rows(tmp_path):
    told = dict(systems={"here": SYSTEM}, methods={"quick": quick}, repetitions=2, progress=False)
    here = run_benchmark(tmp_path / "here", **told)
    with ProcessPoolExecutor(1) as pool:
        there = run_benchmark(tmp_path / "there", executor=pool, **told)
    assert list(map(rows_without_time, here)) == list(map(rows_without_time, there))


def test_rows_say_where_they_come_from(tmp_path):
    row = run_benchmark(tmp_path, systems={"here": SYSTEM}, methods={"quick": quick}, repetitions=1, progress=False)[0]
    assert row["version"] and row["settings"]["system"]["examples"] == 20 and row["settings"]["surrogate"] == "Table" and row["seconds"] > 0
    assert row["commit"] is None or (len(row["commit"]) == 40 and isinstance(row["clean"], bool))


# ---- the counting

def made_up(n=2000, seed=0, width=1.0, bias=0.5, trust="yes", system="made 4x4", evidence="probe", noise=1e-3):
    "Cases whose predictions scatter normally around the bias, with intervals `width` times as wide as they should be."
    rng = np.random.default_rng(seed)
    true = bias * rng.choice([-1, 1], n)
    predicted = true + noise * rng.normal(size=n)
    half = width * 1.96 * noise
    return pd.DataFrame(dict(system=system, method="m", seed=np.arange(n), temperature=2.6, evidence=evidence, observable="energy", true_bias=true, truth_error=0.0, exact=1.0, exact_error=0.0,
                             predicted_bias=predicted, low=predicted - half, high=predicted + half, corrected=1 + true - predicted, trust=trust, exact_evaluations=100,
                             seconds=1.0, fit_seconds=2.0))


@pytest.mark.parametrize("width", [0.5, 1.0, 1.5])
def test_coverage_is_counted(width):
    row = summarise_benchmark(made_up(width=width)).iloc[0]
    expected = 1 - 2 * stats.norm.sf(1.96 * width)
    assert abs(row["coverage"] - expected) < 4 * row["coverage_error"] and row["surrogates"] == 2000
    assert np.isclose(row["rms_bias"], 0.5) and abs(row["rms_missed"] / (1e-3 / 0.5) - 1) < 0.1 and np.isclose(row["rms_after"], row["rms_missed"])


def test_the_error_of_a_coverage_counts_surrogates_not_cases():
    cases = made_up(n=10)
    many = pd.concat([cases.assign(observable=name) for name in ("energy", "abs_m", "m2", "susceptibility")])
    one, four = (summarise_benchmark(t).iloc[0] for t in (cases, many))
    assert four["cases"] == 40 and four["surrogates"] == 10 and four["coverage_error"] == one["coverage_error"] > 0.05


def test_a_prediction_that_is_not_a_number_is_wrong():
    cases = made_up(n=10, width=3)
    cases.loc[0, ["predicted_bias", "low", "high", "corrected"]] = np.nan
    row = summarise_benchmark(cases).iloc[0]
    assert row["coverage"] == 0.9 and row["far"] == 0.1 and row["far_not_trusted"] == 0


def test_no_number_is_an_infinite_error_in_any_order():
    for order in (1, -1):
        cases = pd.concat([made_up(n=50).assign(observable=name, predicted_bias=value) for name, value in (("abs_m", np.nan), ("energy", 0.5))][::order])
        assert benchmark_goals(cases).loc["bias left after probes / bias, L <= 8", "measured"] == np.inf


def test_a_thousand_cases_are_needed_where_they_are_asked_for():
    met = benchmark_goals(made_up(n=900))["met"]
    assert met["coverage of all intervals from probes"] == met["coverage where probes say yes"] == "too few cases" and met["least coverage of a system and method"] == "yes"
    assert benchmark_goals(made_up(n=50, system="large 32x32")).loc["error after correction / bias, L <= 8", "met"] == "not measured"


def test_rounding_is_not_a_bias():
    cases = made_up(n=50, bias=1e-14, noise=1e-15, width=0.01)
    row = summarise_benchmark(cases).iloc[0]
    assert row["coverage"] == 1 and row["far"] == 0 and np.isnan(row["rms_missed"])


def test_goals_are_met_by_honest_cases_and_missed_by_others():
    posterior = made_up(evidence="posterior", width=0.2, trust="with probes")
    honest = pd.concat([made_up(), made_up(system="made 16x16", seed=1), posterior])
    assert (benchmark_goals(honest)["met"] == "yes").all()
    assert benchmark_goals(pd.concat([made_up(), posterior])).filter(like="L = 16", axis=0)["met"].eq("not measured").all()
    missed = lambda cases: set(benchmark_goals(cases).query("met == 'no'").index)
    assert "coverage of all intervals from probes" in missed(pd.concat([honest, made_up(width=0.3)]))
    assert "coverage of all intervals from probes" in missed(made_up(width=3))
    assert "least coverage of a system and method" in missed(pd.concat([honest, made_up(n=50, width=0.5).assign(method="bold")]))
    assert "bias left after probes / bias, L <= 8" in missed(made_up(noise=0.2))
    assert "bias left / bias, worst method, L <= 8" in missed(pd.concat([made_up(bias=5.0), made_up(bias=0.001).assign(method="good")]))
    assert "not labelled yes where the posterior is far off" in missed(pd.concat([honest, posterior.assign(trust="yes")]))
    assert "truth known to a tenth of the bias" in missed(honest.assign(truth_error=0.1))


def test_a_file_gives_back_the_cases(tmp_path):
    rows = run_benchmark(tmp_path / "rows", systems={"here": SYSTEM}, methods={"quick": quick}, repetitions=2, progress=False)
    save_benchmark(rows, tmp_path / "all.json")
    table, told = load_benchmark(tmp_path / "all.json")
    a, b = summarise_benchmark(rows), summarise_benchmark(table)
    pd.testing.assert_frame_equal(a, b, rtol=2e-3)
    assert told["origins"][0]["version"] and "here, quick" in told["settings"]
    (tmp_path / "half.json").write_text((tmp_path / "all.json").read_text()[:900])
    with pytest.raises(ValueError, match="half.json"):
        load_benchmark(tmp_path / "half.json")


def test_a_study_goes_on_from_its_file(tmp_path):
    told = dict(systems={"here": SYSTEM}, methods={"quick": quick, "broken": broken}, progress=False)
    rows = run_benchmark(tmp_path / "rows", repetitions=2, **told)
    save_benchmark(rows, tmp_path / "all.json")
    assert restore_benchmark(tmp_path / "all.json", tmp_path / "again") == 4
    kept = {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}
    again = run_benchmark(tmp_path / "again", repetitions=3, **told)
    assert len(again) == 6 and all((tmp_path / "again" / name).read_bytes() == text for name, text in kept.items())
    assert [c["failed"] for c in again if c["method"] == "broken"] == ["examples=20: too few"] * 3
    assert {c["commit"] for c in again} == {c["commit"] for c in rows}
    pd.testing.assert_frame_equal(summarise_benchmark(rows), summarise_benchmark([c for c in again if c["seed"] < 2]), rtol=2e-3)
    (tmp_path / "again" / "here--quick--00000.json").unlink()
    assert restore_benchmark(tmp_path / "all.json", tmp_path / "again") == 1
    with pytest.raises(ValueError, match="other settings"):  # what was restored is refused where another benchmark is asked for
        run_benchmark(tmp_path / "again", repetitions=1, systems={"here": dataclasses.replace(SYSTEM, examples=21)}, methods={"quick": quick}, progress=False)


class Asking:
    "A surrogate that wants so many examples."

    def __init__(self, wanted):
        self.wanted, self.doubts, self.seen = wanted, (), []

    def fit(self, x, y):
        self.seen.append(len(x))
        self.doubts = ("no noise left: take more examples",) if len(x) < self.wanted else ()
        return self

    def predict(self, x):
        raise AssertionError("is not asked here")


@pytest.mark.parametrize("wanted, given", [(0, 20), (21, 40), (100, 160), (10_000, 160)])
def test_a_fit_that_asks_for_more_examples_gets_them(wanted, given):
    surrogate, x = benchmark._learned(SYSTEM, lambda seed: Asking(wanted), ("here", "asking", 0))
    assert len(x) == given == surrogate.seen[-1] and (wanted <= given) == (not surrogate.doubts)


@pytest.mark.parametrize("name", ["last layer", "ensemble", "MDN", "HMC"])
def test_the_quick_mean_of_a_field_is_the_mean(name):
    "To rounding, at other fields than those it was solved at; where it is not a sum over known units there is none."
    x, y = labelled(LONELY, 1.0, 60, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short chains are no posterior
        surrogate = FIELD_METHODS[name](0)
        surrogate.fit(x, y, **({"progress": False} if "progress" in surrogate.fit.__code__.co_varnames else {}))
    quick, there = benchmark._quick_mean(surrogate, x), labelled(LONELY, 0.8, 30, seed=4).x
    assert np.allclose(quick(there), surrogate.predict(there).mean, rtol=1e-10, atol=1e-8)
    units = benchmark._hidden_units(surrogate)
    if units:
        class Squared:
            def predict(self, fields):
                belief = surrogate.predict(fields)
                return Predictive(belief.mean**2, belief.epistemic, belief.aleatoric, belief.draws)

        assert benchmark._solved_layer(Squared(), units, x) is None


def test_the_average_comes_from_the_longer_run():
    "More draws for the average alone: the same prediction, and less noise after the correction."
    few, many = (benchmark_row("here", "quick", 0, systems={"here": dataclasses.replace(SYSTEM, average_draws=n)}, methods={"quick": quick}) for n in (20, 3000))
    error = {}
    for name, cases in (("few", few), ("many", many)):
        probe = pd.DataFrame(cases).query("evidence == 'probe'").set_index("observable")
        error[name] = probe["error"]
        assert ((probe["corrected"] - probe["exact"]).abs() < 5 * probe["error"]).all() and np.allclose(probe["corrected"], probe["surrogate"] - probe["predicted_bias"], rtol=1e-12)
    assert [c["predicted_bias"] for c in few] == [c["predicted_bias"] for c in many] and (error["many"] < error["few"]).all()


def test_the_study_is_that_of_these_systems_and_methods():
    table, told = load_benchmark(STUDY)
    for key, kept in told["settings"].items():
        system, method = key.split(", ")
        assert kept == benchmark._settings(SYSTEMS[system], benchmark._maker(SYSTEMS[system], method, METHODS)), key
    assert set(table["evidence"]) == set(benchmark.EVIDENCES)


def test_the_picture_shows_every_method():
    import matplotlib

    matplotlib.use("Agg")
    axes = plot_benchmark(pd.concat([made_up(n=20), made_up(n=20, evidence="posterior").assign(method="other")]))
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["m", "other"] and axes[0].get_xlabel()


# ---- bad calls

@pytest.fixture(scope="module")
def things(tmp_path_factory):
    law, walk = approximate(TRUTH, near_truth(0))
    return dict(law=law, walk=walk, folder=tmp_path_factory.mktemp("rows"), cases=made_up(n=5), surrogate=near_truth(0),
                file=tmp_path_factory.mktemp("file") / "none.json")


ONE = dict(systems={"here": SYSTEM}, methods={"quick": quick}, progress=False)
BAD = [
    ("benchmark.System", lambda t: System("ising", (2.6,), 3.0), "model", "ising", "Ising"),
    ("benchmark.System", lambda t: System(Ising((4, 4, 4)), (2.6,), 3.0), "model", "4, 4, 4", "two dimensions"),
    ("benchmark.System", lambda t: System(Phi4((8, 8), 0.25, 0.5), (1.0,), 1.2), "truth", "enumeration", "long runs"),
    ("benchmark.System", lambda t: System(Phi4((8,), 0.25, 0.5), (1.0,), 1.2, truth="long runs"), "model", "Phi4", "two dimensions"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6,), 3.0, observables=("phi2",)), "observables", "phi2", "abs_m"),
    ("benchmark.CorrugatedPhi4", lambda t: CorrugatedPhi4((8,), 0.2, 0.5, 0.1, 4.0), "shape", "8,", "2"),
    ("benchmark.CorrugatedPhi4", lambda t: CorrugatedPhi4((8, 8), 0.2, 0.0, 0.1, 4.0), "lam", "0.0", "> 0"),
    ("benchmark.CorrugatedPhi4", lambda t: CorrugatedPhi4((8, 8), 0.2, 0.5, float("nan"), 4.0), "depth", "nan", "finite"),
    ("benchmark.System", lambda t: System(TRUTH, [2.6], 3.0), "temperatures", "2.6", "tuple"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6, 2.6), 3.0), "temperatures", "2.6", "without repetitions"),
    ("benchmark.System", lambda t: System(TRUTH, (float("nan"),), 3.0), "temperatures", "nan", "numbers > 0"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6,), 0.0), "training_temperature", "0", "> 0"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6,), 3.0, examples=True), "examples", "True", "whole number"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6,), 3.0, observables=("entropy",)), "observables", "entropy", "energy"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6,), 3.0, average_draws=0), "average_draws", "0", "whole number"),
    ("benchmark.sample_law", lambda t: sample_law(t["law"], t["walk"], 0.3, seed=0, keep="all"), "keep", "all", "configs"),
    ("benchmark.restore_benchmark", lambda t: restore_benchmark(t["file"], t["folder"]), "path", "none.json", "save_benchmark"),
    ("benchmark.System", lambda t: System(TRUTH, (2.6,), 3.0, truth="oracle"), "truth", "oracle", "enumeration"),
    ("benchmark.tabulate", lambda t: tabulate("net", (4, 4)), "surrogate", "net", "fitted"),
    ("benchmark.tabulate", lambda t: tabulate(t["surrogate"], (4, 2)), "shape", "4, 2", ">= 3"),
    ("benchmark.tabulate", lambda t: tabulate(t["surrogate"], (4, 4), tolerance=0.0), "tolerance", "0.0", "> 0"),
    ("benchmark.tabulate", lambda t: tabulate(t["surrogate"], (4, 4), seed=-1), "seed", "-1", "whole number"),
    ("benchmark.Tabulated", lambda t: Tabulated(None, (4, 4)), "surrogate", "None", "fitted"),
    ("benchmark.approximate", lambda t: approximate(TRUTH, None), "surrogate", "None", "fitted"),
    ("benchmark.approximate", lambda t: approximate("ising", t["surrogate"]), "model", "ising", "Model"),
    ("benchmark.approximate", lambda t: approximate(TRUTH, t["surrogate"], fields()), "x", "array", "None"),
    ("benchmark.approximate", lambda t: approximate(LONELY, Action(LONELY)), "x", "None", "learned from"),
    ("benchmark.approximate", lambda t: approximate(LONELY, Action(LONELY), fields()[:3]), "x", "3, 3, 4", "at least 5"),
    ("benchmark.approximate", lambda t: approximate(LONELY, Action(LONELY), fields() * np.nan), "x", "nan", "finite"),
    ("benchmark.approximate", lambda t: approximate(LONELY, None, fields()), "surrogate", "None", "fitted"),
    ("benchmark.sample_law", lambda t: sample_law("law", t["walk"], 0.3, seed=0), "law", "str", "approximate"),
    ("benchmark.sample_law", lambda t: sample_law(t["law"], t["walk"], -0.3, seed=0), "beta", "-0.3", ">= 0"),
    ("benchmark.sample_law", lambda t: sample_law(t["law"], t["walk"], 0.3, draws=True, seed=0), "draws", "True", "whole number"),
    ("benchmark.approximate", lambda t: approximate(LONELY, Action(LONELY), np.ma.masked_greater(fields(), 1.0)), "x", "mask", "without"),
    ("benchmark.true_bias", lambda t: true_bias(*approximate(LONELY, Action(LONELY), fields()), 1.0, ("energy",)), "truth", "enumeration", "long runs"),
    ("benchmark.true_bias", lambda t: true_bias(t["law"], None, 0.3), "walk", "NoneType", "approximate"),
    ("benchmark.true_bias", lambda t: true_bias(t["law"], t["walk"], 0.3, ("entropy",)), "observables", "entropy", "energy"),
    ("benchmark.true_bias", lambda t: true_bias(t["law"], t["walk"], 0.3, "energy"), "observables", "energy", "sequence"),
    ("benchmark.true_bias", lambda t: true_bias(t["law"], t["walk"], 0.3, truth="oracle"), "truth", "oracle", "enumeration"),
    ("benchmark.benchmark_row", lambda t: benchmark_row("ising 5x5", "GP", 0), "system", "ising 5x5", "ising 4x4"),
    ("benchmark.benchmark_row", lambda t: benchmark_row("ising 4x4", None, 0), "method", "None", "GP"),
    ("benchmark.benchmark_row", lambda t: benchmark_row("ising 4x4", "GP", True), "seed", "True", "whole number"),
    ("benchmark.benchmark_row", lambda t: benchmark_row("ising 4x4", "GP", 0, evidences=("guess",)), "evidences", "guess", "probe"),
    ("benchmark.benchmark_row", lambda t: benchmark_row("a", "GP", 0, systems={"a": TRUTH}), "systems", "Ising", "System"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE, repetitions=0), "repetitions", "0", "whole number"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE, redo=[("here", "GP", 0)]), "redo", "GP", "quick"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE, redo="here"), "redo", "here", "number"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE, executor=4), "executor", "4", "Executor"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE | dict(progress=1)), "progress", "1", "True"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE | dict(systems={})), "systems", r"\{\}", "dictionary"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE | dict(methods={"m": "GP"})), "methods", "GP", "function"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE | dict(systems={"../esc": SYSTEM})), "systems", "../esc", "letters"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE | dict(systems={"a b": SYSTEM, "a-b": SYSTEM})), "systems", "a b", "no two differ"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(t["folder"], **ONE | dict(methods={"m": lambda seed: None})), "methods", "None", "unfitted surrogate"),
    ("benchmark.benchmark_row", lambda t: benchmark_row("ising 4x4", "GP", 0, evidences=("probe", "probe")), "evidences", "probe", "each once"),
    ("benchmark.collect_benchmark", lambda t: collect_benchmark(None), "folder", "None", "path"),
    ("benchmark.true_bias", lambda t: true_bias(t["law"], t["walk"], None), "beta", "None", "number"),
    ("benchmark.System", lambda t: System(TRUTH, ([2.6],), 3.0), "temperatures", "2.6", "numbers"),
    ("benchmark.run_benchmark", lambda t: run_benchmark(None, **ONE), "folder", "None", "folder"),
    ("benchmark.collect_benchmark", lambda t: collect_benchmark(t["folder"]), "folder", "rows", "finished rows"),
    ("benchmark.summarise_benchmark", lambda t: summarise_benchmark([]), "rows", "list", "run_benchmark"),
    ("benchmark.summarise_benchmark", lambda t: summarise_benchmark(3), "rows", "int", "run_benchmark"),
    ("benchmark.summarise_benchmark", lambda t: summarise_benchmark(t["cases"].assign(true_bias=np.nan)), "rows", "5", "finite"),
    ("benchmark.summarise_benchmark", lambda t: summarise_benchmark(t["cases"].assign(low="a")), "rows", "5", "numbers"),
    ("benchmark.summarise_benchmark", lambda t: summarise_benchmark(t["cases"], by="size"), "by", "size", "system"),
    ("benchmark.benchmark_goals", lambda t: benchmark_goals(t["cases"].drop(columns="trust")), "rows", "trust", "run_benchmark"),
    ("benchmark.plot_benchmark", lambda t: plot_benchmark(t["cases"], axes=3), "axes", "3", "three"),
    ("benchmark.save_benchmark", lambda t: save_benchmark([], t["file"]), "contents", r"\[\]", "run_benchmark"),
    ("benchmark.load_benchmark", lambda t: load_benchmark(t["file"]), "path", "none.json", "save_benchmark"),
]


@pytest.mark.parametrize("k", range(len(BAD)), ids=row_name(BAD))
def test_refused(k, things):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, things, argument, value, accepted)


def test_complete():
    makers = {f"benchmark.{make.__name__}" for make in (*METHODS.values(), *FIELD_METHODS.values())} - {"benchmark.too_simple"}  # their seed is checked where it is used
    assert_complete([benchmark], BAD, makers)
