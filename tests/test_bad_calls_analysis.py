"""Bad calls of analysis, reweighting and scaling, in the manner of test_bad_calls: (function, call, argument, value, accepted)."""
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from common import assert_complete, assert_refused, row_name
from uqphys import analysis, reweighting, scaling
from uqphys.analysis import Estimate
from uqphys.models import Ising
from uqphys.reweighting import Measured, combine
from uqphys.sampling import sample

MODULES = (reweighting, scaling)
EXEMPT = {
    "reweighting.Measured": "a plain record of results",
    "scaling.Fit": "a plain record of results, made by the fits that check",
    "scaling.Collapse": "a plain record of results, made by collapse",
}
ENSEMBLE = r"sample\(\)"


@cache
def things():
    "Small ensembles, runs combined, a table, numbers with errors."
    t, run = SimpleNamespace(), dict(draws=400, chains=2, burn_in=100, method="metropolis", progress=False)
    t.square, t.oblong = sample(Ising((4, 4)), 0.4, seed=1, **run), sample(Ising((4, 6)), 0.4, seed=2, **run)
    t.bare = sample(Ising((4, 4)), 0.4, seed=3, keep="observables", **run)
    t.warm, t.cold = (sample(Ising((4, 4)), b, seed=4 + k, **run) for k, b in enumerate((0.05, 1.5)))
    t.other = sample(Ising((4, 4), h=0.1), 0.4, seed=6, **run)
    t.lost = t.square.copy()
    t.lost.attrs = {}
    t.hole = t.square.assign(config=t.square.config.astype(float).where(t.square.config > 0))
    t.one, t.eight = combine([t.square]), combine([sample(Ising((8, 8)), 0.44, seed=7, **(run | {"draws": 3000}))])
    t.short = combine([t.square.isel(draw=slice(0, 30))])
    L, x = np.repeat([8, 16, 32], 5), np.tile(np.linspace(-1, 1, 5), 3)
    t.table = pd.DataFrame({"L": L, "T": 2.27 + x / L, "value": 1 - 0.3 * x, "error": 0.01})
    t.points, t.memories = [Measured(2.0, 0.1), Measured(3.0, 0.1), Measured(4.0, 0.1)], [Estimate(0, 1, 1.0, 0.1, 100)] * 2
    return t


def rows_of(function, make, argument, values, accepted):
    "The same call with one argument at several bad values."
    return [(function, lambda t, value=value: make(t, value), argument, shown, accepted) for value, shown in values]


NOT_A_LIST = ((None, "None"), ("runs", "str"), ([], "list"))
ANALYSIS = [
    ("analysis.autocorrelation", lambda t: analysis.autocorrelation(np.ones((2, 50)), "m"), "m", r"1\.0", "needed"),
    ("analysis.autocorrelation", lambda t: analysis.autocorrelation(np.ones((2, 5)), "m"), "m", r"\(2, 5\)", "at least 10"),
    *rows_of("analysis.Autocorrelation", lambda t, v: analysis.autocorrelation(np.random.default_rng(0).normal(size=(2, 50))).bias(v), "S",
             ((0.0, r"0\.0"), (-1.0, r"-1\.0"), (math.nan, "nan"), ("2", "'2'")), "must"),
    ("analysis.two_point_function", lambda t: analysis.two_point_function(t.bare), "ensemble", "no configurations", "needed"),
    ("analysis.two_point_function", lambda t: analysis.two_point_function(t.square.config), "ensemble", "DataArray", ENSEMBLE),
    ("analysis.two_point_function", lambda t: analysis.two_point_function(t.oblong), "axis", r"\(4, 6\)", "needed"),
    *rows_of("analysis.two_point_function", lambda t, v: analysis.two_point_function(t.square, axis=v), "axis",
             ((2, "2"), (-1, "-1"), (True, "True"), ("x", "'x'"), (0.5, r"0\.5")), "from 0 to 1"),
    *rows_of("analysis.two_point_function", lambda t, v: analysis.two_point_function(t.square, connected=v), "connected",
             ((1, "1"), ("no", "'no'"), (None, "None")), "True or False"),
    ("analysis.two_point_map", lambda t: analysis.two_point_map(t.bare), "ensemble", "no configurations", "needed"),
    ("analysis.two_point_map", lambda t: analysis.two_point_map(t.hole), "ensemble", r"\(2, 400, 4, 4\)", "finite"),
    ("analysis.structure_factor", lambda t: analysis.structure_factor(t.square, connected=0), "connected", "0", "True or False"),
    ("analysis.structure_factor", lambda t: analysis.structure_factor(None), "ensemble", "None", ENSEMBLE),
    ("analysis.correlation_length", lambda t: analysis.correlation_length(t.bare), "ensemble", "no configurations", "needed"),
    ("analysis.correlation_length", lambda t: analysis.correlation_length(t.square.isel(x=slice(0, 1))), "ensemble", r"1, 4", "lengths >= 2"),
]

REWEIGHTING = [
    *rows_of("reweighting.combine", lambda t, v: combine(v), "ensembles", NOT_A_LIST, ENSEMBLE),
    ("reweighting.combine", lambda t: combine(t.square), "ensembles", "Dataset", "a list"),
    ("reweighting.combine", lambda t: combine([t.square, 3]), "ensemble", "int", "Dataset"),
    ("reweighting.combine", lambda t: combine([t.lost]), "ensembles", r"'beta', 'shape'", ENSEMBLE),
    ("reweighting.combine", lambda t: combine([t.square.drop_vars("energy")]), "ensembles", "abs_m", "energy"),
    ("reweighting.combine", lambda t: combine([t.square, t.other]), "ensembles", r"h=0\.1", "same model"),
    ("reweighting.combine", lambda t: combine([t.square, t.square]), "ensembles", "seed=1", "independent"),
    ("reweighting.combine", lambda t: combine([t.warm, t.cold]), "ensembles", r"beta=0\.05 and beta=1\.5", "at least 20"),
    ("reweighting.reweight", lambda t: reweighting.reweight(t.square, 5e-3), "betas", r"0\.005", "at least"),
    ("reweighting.reweight", lambda t: reweighting.reweight([t.square], 0.4), "ensemble", "list", "Dataset"),
    *rows_of("reweighting.reweight", lambda t, v: reweighting.reweight(t.square, v), "betas",
             (("hot", "'hot'"), (None, "None"), ([], r"\[\]"), ([[0.4]], r"\[\[0\.4\]\]"), (True, "True")), "numbers >= 0"),
    *rows_of("reweighting.reweight", lambda t, v: reweighting.reweight(t.square, v), "beta", ((-0.4, r"-0\.4"), (math.nan, "nan")), ">= 0"),
    *rows_of("reweighting.reweight", lambda t, v: reweighting.reweight(t.square, 0.4, v), "observables",
             ((["mass"], "'mass'"), ("energy", "'energy'"), ([], r"\[\]"), (3, "3")), "energy"),
    *rows_of("reweighting.Combined", lambda t, v: t.one.at(0.4, minimum=v), "minimum", ((0, "0"), (-1.0, r"-1\.0"), ("a", "'a'"), (None, "None")), "must"),
    *rows_of("reweighting.Combined", lambda t, v: t.one.reach(share=v), "share", ((1.0, r"1\.0"), (-0.1, r"-0\.1"), (math.nan, "nan")), "has to|must"),
    ("reweighting.Combined", lambda t: t.one.n_eff(-1.0), "beta", r"-1\.0", ">= 0"),
    ("reweighting.Combined", lambda t: t.short.reach(), "minimum", r"beta=0\.4", "longer run"),
    ("reweighting.peak", lambda t: reweighting.peak(t.square, "energy"), "combined", "Dataset", r"combine\(\)"),
    ("reweighting.peak", lambda t: reweighting.peak(t.one, "mass"), "observables", "'mass'", "accepted"),
    ("reweighting.peak", lambda t: reweighting.peak(t.one, "energy"), "name", "'energy'", "needed"),
    *rows_of("reweighting.peak", lambda t, v: reweighting.peak(t.one, "specific_heat", v), "between",
             ((0.4, r"0\.4"), ((0.4,), r"\(0\.4,\)"), (("a", "b"), "'a'"), ((0.42, 0.38), r"0\.38"), ((0.01, 0.4), r"0\.01")), "needed|must"),
    ("reweighting.crossing", lambda t: reweighting.crossing(t.one, t.square), "second", "Dataset", r"combine\(\)"),
    ("reweighting.crossing", lambda t: reweighting.crossing(None, t.one), "first", "None", r"combine\(\)"),
    ("reweighting.crossing", lambda t: reweighting.crossing(t.one, t.eight, "energy", (0.42, 0.421)), "between", r"0\.42", "another range"),
]

SCALING = [
    *rows_of("scaling.scaling_table", lambda t, v: scaling.scaling_table(v, "m2"), "ensembles", NOT_A_LIST, ENSEMBLE),
    ("scaling.scaling_table", lambda t: scaling.scaling_table([t.oblong], "m2"), "ensembles", r"\(4, 6\)", "equal sides"),
    ("scaling.scaling_table", lambda t: scaling.scaling_table([t.lost], "m2"), "ensembles", r"\(\)", "equal sides"),
    ("scaling.scaling_table", lambda t: scaling.scaling_table([t.square], "mass"), "name", "'mass'", "accepted"),
    *rows_of("scaling.collapse", lambda t, v: scaling.collapse(v), "data", ((None, "None"), ({"L": [8]}, "dict")), "columns L, T, value, error"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.drop(columns="error")), "data", "DataFrame", "columns"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table[t.table.L < 20]), "data", "2 sizes", "at least"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(error=0.0)), "data", "error", "> 0"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(value=math.nan)), "data", "value", "finite"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(L="eight")), "data", "L", "numbers"),
    *rows_of("scaling.collapse", lambda t, v: scaling.collapse(t.table, known=v), "known",
             (("nu", "'nu'"), ({"gamma": 1.0}, "'gamma'"), ({"nu": 0.0}, r"0\.0"), ({"t_c": -1.0}, r"-1\.0"), ({"nu": "one"}, "'one'")), "needed|must"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], t.points), "points", r"sizes=\[8, 16\]", "needed"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 8], t.points[:2]), "points", "1 sizes", "at least 2"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], [1.0, 2.0]), "points", r"1\.0", r"\.value and \.error"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], [Measured(-1.0, 0.1), t.points[0]]), "points", "-1", "> 0"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], [Measured(1.0, 0.0), t.points[0]]), "points", "2 sizes", "errors > 0"),
    ("scaling.shifted_peaks", lambda t: scaling.shifted_peaks([8, 16], t.points[:2]), "points", "2 sizes", "at least 3"),
    *rows_of("scaling.shifted_peaks", lambda t, v: scaling.shifted_peaks([8, 16, 32], t.points, nu=v), "nu", ((0.0, r"0\.0"), (-1, "-1"), ("one", "'one'")), "must"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], [1.0, 2.0]), "memories", r"1\.0", "Estimates"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], t.memories, thin=4), "thin", "4", "smaller"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], t.memories, thin=0), "thin", "0", "whole number >= 1"),
]

TABLE = ANALYSIS + REWEIGHTING + SCALING


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *expected = TABLE[row]
    assert_refused(call, things(), *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete(MODULES, TABLE, EXEMPT)
