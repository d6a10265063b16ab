"""Phases: the triangular lattice and its clusters, the classifier, its curves and crossings, the study's targets, bad calls."""
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import phases
from uqphys.analysis import gamma_error
from uqphys.architectures import MLP
from uqphys.datasets import split_by_chain
from uqphys.exact import BETA_C, enumerate_states
from uqphys.models import Ising, random_spins
from uqphys.phases import (TRIANGULAR_T_C, PhaseClassifier, TriangularIsing, crossing_temperature, output_curve, phase_samples, train_classifier,
                           triangular_clusters)
from uqphys.sampling import sample

STUDY = json.loads((Path(__file__).parents[1] / "studies" / "phases.json").read_text())
T_C = 1 / BETA_C


# ---- the triangular lattice

def test_the_triangular_energy_counts_every_bond_once():
    model, x = TriangularIsing((3, 5), J=0.7), random_spins((3, 5), 40, seed=0)
    by_hand = np.zeros(len(x))
    for i in range(3):
        for j in range(5):
            for a, b in ((1, 0), (0, 1), (1, 1)):
                by_hand -= 0.7 * x[:, i, j] * x[:, (i + a) % 3, (j + b) % 5]
    assert np.allclose(model.energy(x), by_hand, atol=1e-12) and torch.allclose(model.energy(torch.from_numpy(x)), torch.from_numpy(by_hand))
    assert model.energy(np.ones((3, 5), dtype=np.int8)) == -0.7 * 45 and model.observables(x)["energy"].shape == (40,)


@pytest.mark.parametrize("method", ("clusters", "local"))
def test_both_samplers_give_the_exact_averages(method):
    model = TriangularIsing((3, 4))
    exact = enumerate_states(model, 0.22)
    run = triangular_clusters(model, 0.22, draws=800, seed=3) if method == "clusters" else sample(model, 0.22, draws=3000, thin=4, seed=3, method="local", progress=False)
    for name in ("energy", "abs_m", "m4"):
        found = gamma_error(run[name].values)
        assert abs(found.value - exact.averages[name]) < 4 * found.error < 0.1 * abs(exact.averages[name])


def test_the_same_seed_gives_the_same_configurations():
    model, options = TriangularIsing((5, 4)), dict(draws=5, chains=3)
    one, again, other = (triangular_clusters(model, 0.3, seed=s, **options)["config"].values for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    for model in (TriangularIsing((4, 4)), Ising((4, 4))):
        one, again, other = (phase_samples(model, [2.0, 3.0], draws=10, seed=s) for s in (1, 1, 2))
        assert all(a.identical(b) for a, b in zip(one, again)) and not np.array_equal(one[0]["config"], other[0]["config"])
        assert [1 / e.attrs["beta"] for e in one] == [2.0, 3.0]


def test_sweeps_are_thinned_and_thrown_away():
    "The same sweeps, of which other ones are kept."
    configs = lambda **options: triangular_clusters(TriangularIsing((5, 4)), 0.2, chains=3, seed=1, **options)["config"].values
    every = configs(draws=10, thin=1, burn_in=0)
    assert not np.array_equal(every[:, :-1], every[:, 1:])
    assert np.array_equal(configs(draws=5, thin=2, burn_in=0), every[:, 1::2])
    assert np.array_equal(configs(draws=7, thin=1, burn_in=3), every[:, 3:])


def test_every_temperature_has_random_numbers_of_its_own():
    for model in (TriangularIsing((4, 4)), Ising((4, 4))):
        one, other = phase_samples(model, [2.5, 2.5], draws=10, seed=0)
        assert not np.array_equal(one["config"], other["config"]) and one.attrs["beta"] == other.attrs["beta"]


def test_an_ensemble_of_clusters_is_described_as_those_of_sample():
    run = triangular_clusters(TriangularIsing((4, 4), 0.5), 0.3, draws=4, chains=3, burn_in=7, thin=2, seed=5)
    like = sample(Ising((4, 4)), 0.3, draws=4, chains=3, burn_in=7, thin=2, seed=5, method="swendsen-wang", progress=False)
    assert list(run.coords) == list(like.coords) and run.sizes == like.sizes and set(run.data_vars) == set(like.data_vars)
    assert set(like.attrs) - set(run.attrs) == {"mean_clusters"} and run.attrs["uqphys_version"] == like.attrs["uqphys_version"]
    told = {name: run.attrs[name] for name in ("couplings", "burn_in", "thin", "seed", "method", "shape")}
    assert told == {"couplings": '{"J": 0.5}', "burn_in": 7, "thin": 2, "seed": 5, "method": "swendsen-wang", "shape": [4, 4]}


# ---- the classifier

def test_a_classifier_is_blind_to_a_flip_and_remembers_how_it_was_made():
    net, x = PhaseClassifier((6, 6), hidden=(7,), dtype="float64", seed=3), random_spins((6, 6), 20, seed=0)
    assert np.allclose(net.probability(x), net.probability(-x), atol=1e-14) and net.probability(x).shape == (20,)
    assert torch.equal(net(x), PhaseClassifier(**net.config)(x)) and (net.scale == 36**0.75).all()
    plain = PhaseClassifier((6, 6), hidden=(7,), flip_symmetric=False)
    assert np.abs(plain.probability(x) - plain.probability(-x)).max() > 1e-4


def test_spins_may_come_in_any_memory():
    net, x = PhaseClassifier((4, 6), hidden=(3,)), random_spins((4, 6), 5, seed=0)
    told, frozen = net.probability(x), np.broadcast_to(x, x.shape)
    kinds = (frozen, x.astype(float), x.astype(">f8"), x.astype(">i2"), np.asfortranarray(x), x[::-1, ::-1][::-1, ::-1], torch.from_numpy(x))
    assert not frozen.flags.writeable and all(np.array_equal(net.probability(y), told) for y in kinds)
    assert np.array_equal(net.probability(x[:, ::-1, ::-1]), net.probability(x[:, ::-1, ::-1].copy()))


@pytest.fixture(scope="module")
def trained():
    "A network of ten by ten spins, and what made it."
    temperatures = T_C + 0.05 * (np.arange(40) - 19.5)
    runs, net = phase_samples(Ising((10, 10)), temperatures, draws=40, seed=1), PhaseClassifier((10, 10), hidden=(20,))
    history = train_classifier(net, runs, T_C, seed=0, epochs=40)  # 4800 configurations to learn from, 760 steps
    return SimpleNamespace(net=net, runs=runs, history=history)


def test_training_finds_the_order(trained):
    cold, hot = phase_samples(Ising((10, 10)), [1.5, 3.5], draws=50, seed=9)
    told = [trained.net.probability(e["config"].values.reshape(-1, 10, 10)).mean() for e in (cold, hot)]
    assert told[0] > 0.95 and told[1] < 0.05
    assert trained.history.validation[trained.history.best_epoch] < 0.45 < math.log(2)


def test_training_is_repeatable_to_the_bit(trained):
    nets = [PhaseClassifier((10, 10), hidden=(5,)) for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1)):
        train_classifier(net, trained.runs[::4], T_C, seed=seed, epochs=2)
    assert torch.equal(nets[0].head.weight, nets[1].head.weight) and not torch.equal(nets[0].head.weight, nets[2].head.weight)


def test_rate_and_decay_of_the_training_are_used(trained):
    weights = []
    for options in ({}, {"learning_rate": 0.03}, {"weight_decay": 1e-3}, {"learning_rate": 0.01}, {"weight_decay": 0.5}, {"batch_size": 64}, {"epochs": 3}):
        net = PhaseClassifier((10, 10), hidden=(5,))
        train_classifier(net, trained.runs[::4], T_C, **{"seed": 0, "epochs": 2, **options})
        weights.append(net.head.weight.detach().numpy())
    assert all(np.array_equal(w, weights[0]) for w in weights[1:3])  # these are what its signature says
    assert all(not np.array_equal(w, weights[0]) for w in weights[3:])


def test_one_chain_in_four_is_held_out(trained, monkeypatch):
    seen = {}
    monkeypatch.setattr(phases, "train", lambda net, examples, **options: seen.update(examples=examples, **options))
    train_classifier(trained.net, trained.runs, T_C, seed=0)
    learn, judge = split_by_chain(seen["examples"], (1 - seen["validation"], seen["validation"]), seed=0)
    assert len(judge) * 3 == len(learn) == 4800 and seen["loss"] == "cross_entropy"


def test_the_label_is_what_comes_out(trained):
    x = np.linspace(-3, 4, 10) / 10
    right = crossing_temperature(output_curve(trained.net, phase_samples(Ising((10, 10)), 2.27 + x, draws=100, thin=8, seed=2)))
    net, label = PhaseClassifier((10, 10), hidden=(20,)), 2.0
    train_classifier(net, phase_samples(Ising((10, 10)), label + 0.05 * (np.arange(40) - 19.5), draws=40, seed=3), label, seed=0, epochs=20)
    wrong = crossing_temperature(output_curve(net, phase_samples(Ising((10, 10)), label + x, draws=100, thin=8, seed=4)))
    assert abs(right.value - T_C) < 0.08 and wrong.value < right.value - 0.1


def test_a_curve_does_not_depend_on_the_order_of_the_dimensions(trained):
    run = phase_samples(Ising((10, 10)), [2.0, 2.5], draws=12, seed=5)
    turned = [e.transpose("x", "draw", "y", "chain") for e in run]
    pd.testing.assert_frame_equal(output_curve(trained.net, run), output_curve(trained.net, turned))


def test_the_error_of_a_curve_knows_of_chains(trained):
    run = phase_samples(Ising((10, 10)), [2.3], draws=40, chains=4, seed=5)
    x = run[0]["config"].values
    twice = xr.Dataset({"config": (("chain", "draw", "x", "y"), np.repeat(x, 5, axis=1))}, attrs=run[0].attrs)  # every draw five times
    one, repeated = output_curve(trained.net, run), output_curve(trained.net, [twice])
    assert math.isclose(one["value"][0], repeated["value"][0], rel_tol=1e-9) and 0.6 < repeated["error"][0] / one["error"][0] < 1.6
    assert one["L"][0] == 10 and math.isclose(one["T"][0], 2.3)


# ---- crossings

def test_a_crossing_is_found_where_it_is_with_the_right_error():
    rng, t, z = np.random.default_rng(1), np.linspace(2.0, 2.6, 9), []
    logit = -5 * (t - 2.31) - 2 * (t - 2.31) ** 2
    for level in (0.5, 0.4):
        exact = pd.DataFrame(dict(L=10, T=t, value=1 / (1 + np.exp(-logit)), error=1e-3))
        shift = math.log(level / (1 - level))
        u = (-5 + math.sqrt(25 - 8 * shift)) / 4  # -5u - 2u² = shift
        assert math.isclose(crossing_temperature(exact, level).value, 2.31 + u, abs_tol=1e-9)
    for _ in range(600):
        noisy = pd.DataFrame(dict(L=10, T=t, value=1 / (1 + np.exp(-logit)) + 0.01 * rng.normal(size=9), error=0.01))
        found = crossing_temperature(noisy)
        z.append((found.value - 2.31) / found.error)
    assert abs(np.mean(z)) < 0.15 and 0.85 < np.std(z) < 1.15


# ---- the study

def test_the_study_meets_its_targets():
    square, triangular = (STUDY["cases"]["label at T_c"][lattice] for lattice in ("square", "triangular"))
    assert tuple(STUDY["sizes"]) == (10, 20, 30, 40) and STUDY["cases"]["label at T_c"]["repetitions"] >= 5
    assert abs(square["t_c"]["value"] - T_C) < 0.006 and square["t_c"]["error"] < 0.006
    assert abs(square["nu"]["value"] - 1) < 0.15 and square["nu"]["error"] < 0.05
    assert abs(triangular["t_c"]["value"] - TRIANGULAR_T_C) < 0.04 and triangular["t_c"]["error"] < 0.02


def test_the_study_shows_that_the_label_decides():
    wrong = STUDY["cases"]["label at 2.20"]["square"]
    assert abs(wrong["t_c"]["value"] - 2.20) < 0.5 * (T_C - 2.20)


# ---- bad calls

SMALL = TriangularIsing((4, 4))
COUNTS = ((0, "0"), (1.5, r"1\.5"), (True, "True"), ("two", "'two'"), (None, "None"))
SEEDS = ((-1, "-1"), (1.5, r"1\.5"), (None, "None"), (True, "True"))
NET = PhaseClassifier((4, 4), hidden=(3,))
GOOD = [triangular_clusters(SMALL, 1 / T, draws=10, chains=2, burn_in=2, seed=0) for T in (2.0, 5.0)]
CURVE = pd.DataFrame(dict(L=10, T=np.linspace(2, 3, 6), value=np.linspace(0.7, 0.3, 6), error=0.01))
BARE = GOOD[0].drop_vars("config")


def with_beta(beta):
    return [GOOD[0].assign_attrs(beta=beta)]


BAD = [
    *rows_of("phases.TriangularIsing", lambda t, v: TriangularIsing(v), "shape", (((2, 4), r"\(2, 4\)"), ((4,), r"\(4,\)"), (4, "4"), (None, "None"), ((4, 4, 4), r"\(4, 4, 4\)")), "must be a tuple"),
    *rows_of("phases.TriangularIsing", lambda t, v: TriangularIsing((4, 4), v), "J", ((math.nan, "nan"), (None, "None"), ("one", "'one'")), "must be a finite number"),
    *rows_of("phases.TriangularIsing", lambda t, v: SMALL.energy(v), "x", ((None, "None"), (np.zeros((4, 4)), "0"), (np.ones((4, 5)), r"\(4, 5\)")), "must be"),
    *rows_of("phases.triangular_clusters", lambda t, v: triangular_clusters(v, 0.2, seed=0), "model", ((Ising((4, 4)), "Ising"), (None, "None"), (TriangularIsing((4, 4), -1.0), r"-1\.0")), "must be a TriangularIsing"),
    *rows_of("phases.triangular_clusters", lambda t, v: triangular_clusters(SMALL, v, seed=0), "beta", ((-1, "-1"), (math.nan, "nan"), (None, "None")), "must be a finite number"),
    *rows_of("phases.triangular_clusters", lambda t, v: triangular_clusters(SMALL, 0.2, seed=v), "seed", SEEDS, "must be a whole number"),
    *(row for name in ("draws", "chains", "thin") for row in rows_of("phases.triangular_clusters", lambda t, v, n=name: triangular_clusters(SMALL, 0.2, seed=0, **{n: v}), name, COUNTS, "must be a whole number")),
    *rows_of("phases.triangular_clusters", lambda t, v: triangular_clusters(SMALL, 0.2, seed=0, burn_in=v), "burn_in", SEEDS, "must be a whole number"),
    *rows_of("phases.phase_samples", lambda t, v: phase_samples(v, [2.0], seed=0), "model", ((None, "None"), ("ising", "'ising'"), (Ising((4, 4), J=-1.0), r"-1\.0")), "must be an Ising"),
    *rows_of("phases.phase_samples", lambda t, v: phase_samples(SMALL, v, seed=0), "temperatures", (([], r"\[\]"), (b"hot", "b'hot'"), (np.full((2, 2), 2.0), "array"), (2.0, r"2\.0"), (None, "None"), ("hot", "'hot'"), ([0.0], r"0\.0"), ([2.0, math.nan], "nan"), ([-1.0], r"-1\.0"), (["hot"], "'hot'")), "must be"),
    *rows_of("phases.phase_samples", lambda t, v: phase_samples(SMALL, [2.0], seed=v), "seed", SEEDS, "must be a whole number"),
    *(row for name in ("draws", "chains", "thin") for row in rows_of("phases.phase_samples", lambda t, v, n=name: phase_samples(SMALL, [2.0], seed=0, **{n: v}), name, COUNTS, "must be a whole number")),
    *rows_of("phases.PhaseClassifier", lambda t, v: PhaseClassifier(v), "shape", (((0, 4), r"\(0, 4\)"), (4, "4"), (None, "None")), "must be a tuple"),
    *rows_of("phases.PhaseClassifier", lambda t, v: PhaseClassifier((4, 4), v), "hidden", ((8, "8"), ((0,), "0"), (None, "None")), "must be|expected"),
    *rows_of("phases.PhaseClassifier", lambda t, v: PhaseClassifier((4, 4), flip_symmetric=v), "flip_symmetric", ((1, "1"), (None, "None")), "must be True or False"),
    *rows_of("phases.PhaseClassifier", lambda t, v: PhaseClassifier((4, 4), dtype=v), "dtype", (("float16", "'float16'"), (None, "None")), "must be one of"),
    *rows_of("phases.PhaseClassifier", lambda t, v: PhaseClassifier((4, 4), seed=v), "seed", SEEDS, "must be a whole number"),
    *rows_of("phases.PhaseClassifier", lambda t, v: NET.probability(v), "x", ((None, "None"), (np.zeros((1, 4, 4)), "0"), (np.ones((1, 4, 5)), r"\(1, 4, 5\)"), (np.ones((4, 4)), r"\(4, 4\)")), "must be|expected"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(v, GOOD, 3.6, seed=0), "net", ((None, "NoneType"), (MLP((4, 4)), "MLP")), "must be a PhaseClassifier"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, GOOD, v, seed=0), "t_c", ((1.0, "1"), (9.0, "9"), (math.nan, "nan"), (None, "None")), "must be"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, GOOD, 3.6, seed=v), "seed", SEEDS, "must be a whole number"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, GOOD, 3.6, seed=0, epochs=v), "epochs", COUNTS, "must be a whole number"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, GOOD, 3.6, seed=0, learning_rate=v), "learning_rate", ((0.0, r"0\.0"), (math.nan, "nan"), ("fast", "'fast'")), "positive number"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, GOOD, 3.6, seed=0, batch_size=v), "batch_size", ((0, "0"), (1.5, r"1\.5")), "must be a whole number"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, v, 3.6, seed=0), "ensembles", (([], "list"), (GOOD[0], "Dataset"), (None, "NoneType"), ([1], "int"), ([BARE], "Dataset")), "must be"),
    *rows_of("phases.output_curve", lambda t, v: output_curve(NET, v), "ensembles", (([], "list"), (GOOD[0], "Dataset"), (None, "NoneType"), ([1], "int"), ([BARE], "Dataset")), "must be"),
    *rows_of("phases.output_curve", lambda t, v: output_curve(NET, with_beta(v)), "ensembles",
             (("0.4", r"'0\.4'"), (None, "None"), ([0.4], r"\[0\.4\]"), (math.inf, "inf"), (math.nan, "nan"), (True, "True"), (0.0, r"=0\.0"), (-1, "-1")), "must be a finite number > 0"),
    *rows_of("phases.train_classifier", lambda t, v: train_classifier(NET, with_beta(v), 3.6, seed=0), "ensembles", (("0.4", r"'0\.4'"), (math.inf, "inf")), "must be a finite number > 0"),
    *rows_of("phases.output_curve", lambda t, v: output_curve(NET, [v]), "ensembles",
             ((GOOD[0].isel(draw=[0, 1, 2]), "3 draws"), (GOOD[0].isel(chain=0), "Dataset"), (GOOD[0].rename(draw="time"), "Dataset"), (GOOD[0].assign(config=0 * GOOD[0].config), "contains 0")), "must"),
    ("phases.output_curve", lambda t: output_curve(PhaseClassifier((5, 5)), GOOD), "ensembles", r"\(4, 4\)", r"must be \(5, 5\)"),
    *rows_of("phases.output_curve", lambda t, v: output_curve(v, GOOD), "net", ((None, "NoneType"), (MLP((4, 4)), "MLP")), "must be a PhaseClassifier"),
    *rows_of("phases.crossing_temperature", lambda t, v: crossing_temperature(v), "curve", ((None, "NoneType"), (CURVE.drop(columns="error"), "DataFrame"), (CURVE.assign(L=range(6)), "DataFrame"), (CURVE[:2], "2 points"), (CURVE.assign(value=0.6), "6 points"), (CURVE.assign(T=2.5), "1 points")), "must be"),
    *rows_of("phases.crossing_temperature", lambda t, v: crossing_temperature(CURVE.assign(error=v)), "error", ((0.0, r"=0\.0"), (math.inf, "inf"), (1e-300, "1e-300"), (math.nan, "nan"), (-0.1, r"-0\.1"), ("small", "'small'")), "must be finite numbers from 1e-12 to 1"),
    *rows_of("phases.crossing_temperature", lambda t, v: crossing_temperature(CURVE.assign(value=[v, *CURVE["value"][1:]])), "value", ((1.2, r"1\.2"), (-0.1, r"-0\.1"), (math.nan, "nan"), ("0.7", "0.7")), "must be finite numbers from 0 to 1"),
    *rows_of("phases.crossing_temperature", lambda t, v: crossing_temperature(CURVE.assign(T=[v, *CURVE["T"][1:]])), "T", ((math.inf, "inf"), (math.nan, "nan"), ("cold", "'cold'")), "must be finite numbers"),
    *rows_of("phases.crossing_temperature", lambda t, v: crossing_temperature(CURVE, v), "level", ((0.0, r"0\.0"), (1.5, r"1\.5"), (math.nan, "nan"), (None, "None")), "must be"),
]


@pytest.mark.parametrize("k", range(len(BAD)), ids=row_name(BAD))
def test_a_bad_call_is_refused(k):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, None, argument, value, accepted)


def test_the_table_is_complete():
    assert_complete((phases,), BAD, {})
