"""Bad calls of datasets and learned_models, in the manner of test_bad_calls: (function, call, argument, value, accepted)."""
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import datasets, learned_models
from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.datasets import samples, split_by_chain, stream
from uqphys.ensembles import save
from uqphys.learned_models import LearnedModel
from uqphys.models import Ising, random_spins
from uqphys.sampling import sample

EXEMPT = {"datasets.Samples": "a plain record, made by the function that checks", "datasets.Stream": "made by stream, which checks"}


@cache
def things():
    "What the calls work on, all of it small."
    t = SimpleNamespace(run=sample(Ising((4, 4)), 0.3, draws=20, chains=3, burn_in=5, seed=0, progress=False))
    t.other = sample(Ising((4, 5)), 0.3, draws=4, chains=2, burn_in=5, seed=0, progress=False)
    t.data, t.net, t.x = samples(t.run), LocalEnergyNet(), random_spins((4, 4), 2, seed=0)
    t.law, t.site, t.new = LearnedModel((4, 4), t.net), np.array([[0, 1]]), np.ones((2, 1))
    return t


TARGETS = (("colour", "'colour'"), ((), r"\(\)"), (("m2", 3), "3"), (3, "3"), (None, "None"), (lambda run: run["m"] * math.nan, "nan"),
           (lambda run: run["none"], "none"), (lambda run: "cold", "function|lambda"))
TABLE = [
    *rows_of("datasets.samples", lambda t, v: samples(v), "ensembles", (("run", "'run'"), ([], r"\[\]"), (None, "None"), ([3], "int")), "ensemble"),
    *rows_of("datasets.samples", lambda t, v: samples(t.run, v), "target", TARGETS, "must"),
    *rows_of("datasets.samples", lambda t, v: samples(t.run, every=v), "every", ((0, "0"), (1.5, r"1\.5"), (None, "None")), "whole number >= 1"),
    ("datasets.samples", lambda t: samples([t.run, t.other]), "ensembles", r"\(4, 5\)", r"\(4, 4\)"),
    ("datasets.samples", lambda t: samples(t.run.drop_vars("config")), "ensembles", "no configurations", "keep='configs'"),
    ("datasets.samples", lambda t: samples(t.run.drop_attrs()), "ensembles", r"\[\]", "shape and beta"),
    *rows_of("datasets.stream", lambda t, v: stream(v), "paths?", ((3, "3"), ([], r"\[\]"), ([3], "3"), ("none.zarr", "none.zarr")), "must"),
    *rows_of("datasets.stream", lambda t, v: stream("run.zarr", v), "target", TARGETS, "must"),
    *rows_of("datasets.stream", lambda t, v: stream("run.zarr", block=v), "block", ((0, "0"), (2.5, r"2\.5")), "whole number >= 1"),
    ("datasets.stream", lambda t: stream("run.zarr", together=0), "together", "0", "whole number >= 1"),
    ("datasets.stream", lambda t: stream(["run.zarr", "other.zarr"]), "ensembles", r"\(4, 5\)", r"\(4, 4\)"),
    ("datasets.stream", lambda t: stream("bare.zarr"), "ensembles", "no configurations", "keep='configs'"),
    *rows_of("datasets.split_by_chain", lambda t, v: split_by_chain(t.data, v, seed=0), "shares",
             (("all", "'all'"), (0.5, r"0\.5"), ((0.5, 0.6), r"0\.6"), ((1.5, -0.5), r"-0\.5"), ((0.5, math.nan), "nan"), ((), r"\(\)")), "add up to 1"),
    ("datasets.split_by_chain", lambda t: split_by_chain(t.data, (0.25,) * 4, seed=0), "data", "3 chains", "at least 4"),
    *rows_of("datasets.split_by_chain", lambda t, v: split_by_chain(t.data, seed=v), "seed", ((-1, "-1"), (0.5, r"0\.5"), (None, "None")), "whole number >= 0"),
    *rows_of("learned_models.LearnedModel", lambda t, v: LearnedModel(v, t.net), "shape", ((4, "4"), ((4, 4, 4), r"\(4, 4, 4\)"), ((0, 4), r"\(0, 4\)")), "must"),
    *rows_of("learned_models.LearnedModel", lambda t, v: LearnedModel((4, 4), v), "network",
             ((None, "None"), (MLP((4, 4)), "MLP"), (LocalEnergyNet(outputs=2), "2 outputs")), "one output"),
    ("learned_models.LearnedModel", lambda t: LearnedModel((4, 4), type("Own", (LocalEnergyNet,), {"features": lambda self, x: x})()), "network", "Own", "must be a LocalEnergyNet"),
    ("learned_models.LearnedModel", lambda t: t.law.energy(t.x[:, :3]), "x", r"\(2, 3, 4\)", r"\(..., 4, 4\)"),
    ("learned_models.LearnedModel", lambda t: t.law.energy(0.0 * t.x), "x", r"0\.0", r"-1 or \+1"),
    ("learned_models.LearnedModel", lambda t: t.law.force(t.x), "network", "'spins'", "'real'"),
    ("learned_models.LearnedModel", lambda t: t.law.energy_changes(t.x, np.array([[0, 4]]), t.new), "sites", "4", "below"),
    ("learned_models.LearnedModel", lambda t: t.law.energy_changes(t.x, t.site, 0 * t.new), "new", r"0\.0", r"-1 or \+1"),
    ("learned_models.LearnedModel", lambda t: t.law.energy_changes(t.x, t.site, np.ones((2, 3))), "new", r"\(2, 3\)", r"\(2, 1\)|1\)"),
]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    t, (function, call, *expected) = things(), TABLE[row]
    if function == "datasets.stream":
        save(t.run, "run.zarr"), save(t.other, "other.zarr"), save(t.run.drop_vars("config"), "bare.zarr")
    assert_refused(call, t, *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete((datasets, learned_models), TABLE, EXEMPT)
