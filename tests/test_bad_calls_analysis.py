"""Bad calls of analysis, reweighting and scaling, in the manner of test_bad_calls: (function, call, argument, value, accepted)."""
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import analysis, reweighting, scaling
from uqphys.analysis import DERIVED, Derived, Estimate
from uqphys.models import Ising
from uqphys.reweighting import Measured, combine
from uqphys.sampling import sample
from uqphys.tempering import temper

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
    t.warm, t.cold = (sample(Ising((4, 4)), b, seed=4 + k, **run) for k, b in enumerate((0.05, 0.8)))
    t.frozen = t.square.assign(energy=0 * t.square.energy - 2)
    t.zero = t.square.assign(m2=0 * t.square.m2, m4=0 * t.square.m4)
    t.ladder = temper(Ising((4, 4)), [0.3, 0.4], draws=50, chains=2, burn_in=100, seed=8, keep="configs", progress=False)
    t.series = np.random.default_rng(0).normal(size=(2, 50))
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


def linear(derived=DERIVED["binder"], beta=0.4, **values):
    return analysis.linearised(derived, values, beta, 16)


SHAPES = (([8, 8], r"\(8, 8\)"), ([4.5, 4], r"4\.5"), ("44", "'44'"), (3, "3"), (None, "None"), ([0, 4], r"\[0, 4\]"), ([], r"\[\]"))
BETAS = (("hot", "'hot'"), (None, "None"), (-1.0, r"-1\.0"), (math.nan, "nan"))
TWICE = Derived(("m",), lambda means, beta, n: 2 * means["m"], lambda means, beta, n: {})
NOT_A_LIST = ((None, "None"), ("runs", "str"), ([], "list"))
ANALYSIS = [
    *rows_of("analysis.gamma_error", lambda t, v: analysis.gamma_error(t.series, "e", S=v), "S",
             ((0, "0"), (-1.0, r"-1\.0"), (math.inf, "inf"), ("2", "'2'"), (None, "None"), (True, "True"), (1e4, "10000")), "must be"),
    *rows_of("analysis.gamma_error", lambda t, v: analysis.gamma_error(t.series, "e", tau_exp=v), "tau_exp",
             ((0, "0"), (-1.0, r"-1\.0"), (math.nan, "nan"), ("2", "'2'"), ([3.0], r"\[3\.0\]")), "must be a finite number > 0"),
    *rows_of("analysis.autocorrelation",
             lambda t, v: analysis.autocorrelation(t.series, "e", S=v), "S", ((0, "0"), (1e9, r"1e\+09")), "must be"),
    ("analysis.autocorrelation", lambda t: analysis.autocorrelation(t.series, "e", tau_exp=-1), "tau_exp", "-1", "must be"),
    ("analysis.as_obs", lambda t: analysis.as_obs(t.series, "e", S="x"), "S", "'x'", "must be"),
    *rows_of("analysis.gamma_error", lambda t, v: analysis.gamma_error(np.where(t.series > 0, v, -v), "e"), "e",
             ((1e200, r"1e\+200"), (1e308, r"1e\+308"), (math.inf, "inf")), "finite number, below 1e140"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error(np.ma.masked_less(t.series, 0), "e"), "e", "MaskedArray", "without a mask"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error([[1.0] * 20, [1.0] * 21], "e"), "e", "list", "real numbers"),
    *rows_of("analysis.linearised",
             lambda t, v: linear(v, m2=t.series, m4=t.series), "derived", (("binder", "'binder'"), (None, "None")), r"DERIVED\['binder'\]"),
    *rows_of("analysis.linearised", lambda t, v: analysis.linearised(DERIVED["binder"], v, 0.4, 16), "values",
             ((None, "None"), ([1.0], r"\[1\.0\]"), ("m2", "'m2'")), "must be a dict"),
    *rows_of("analysis.linearised", lambda t, v: linear(m2=v, m4=t.series), r"values\['m2'\]",
             ((None, "None"), ("text", "str"), (["a"], "list"), (np.full((2, 50), math.nan), "nan"), (np.ma.masked_less(np.ones(20), 0),
             "Masked")), "real|finite"),
    ("analysis.linearised", lambda t: linear(m2=t.series, m4=t.series[:1]), "values", r"\(1, 50\), \(2, 50\)", "of one shape"),
    ("analysis.linearised", lambda t: linear(m2=t.series[:, :0], m4=t.series[:, :0]), "values", r"\(2, 0\)", "at least one draw"),
    ("analysis.linearised", lambda t: linear(m2=0 * t.series, m4=t.series), "values", "m2 = 0", "must be finite"),
    ("analysis.linearised", lambda t: linear(TWICE, m=t.series), "values", "None", "a derivative for each"),
    ("analysis.linearised",
     lambda t: linear(DERIVED["susceptibility"], 1e308, m2=t.series + 1e9, abs_m=t.series), "values", "inf", "must be finite"),
    *rows_of("analysis.estimates",
             lambda t, v: analysis.estimates(t.square.assign_attrs(shape=v)), "shape", SHAPES, "must be|the same is needed"),
    *rows_of("analysis.estimates", lambda t, v: analysis.estimates(t.square.assign_attrs(beta=v)), "beta", BETAS, ">= 0"),
    ("analysis.estimates", lambda t: analysis.estimates(t.ladder), "ensemble", "2 temperatures", r"ensemble\.sel\(beta=\.\.\.\)"),
    ("analysis.estimates", lambda t: analysis.estimates(t.zero), "values", "m2 = 0", "must be finite"),
    ("analysis.two_point_map", lambda t: analysis.two_point_map(t.ladder), "ensemble", "2 temperatures", r"ensemble\.sel\(beta=\.\.\.\)"),
    ("analysis.observable_series",
     lambda t: analysis.observable_series(t.square.assign(energy=1j * t.square.energy)), "ensemble", "'energy'.*complex", "real numbers"),
    ("analysis.observable_series",
     lambda t: analysis.observable_series(t.square.assign(m=t.square.m.astype(str))), "ensemble", "'m'", "real numbers"),
    ("analysis.two_point_function",
     lambda t: analysis.two_point_function(t.square.isel(draw=slice(0, 0))), r"ensemble\.config", r"\(2, 0, 4, 4\)", "at least 10 draws"),
    ("analysis.structure_factor",
     lambda t: analysis.structure_factor(t.square.isel(draw=slice(0, 9))), r"ensemble\.config", r"\(2, 9, 4, 4\)", "at least 10 draws"),
    ("analysis.correlation_length",
     lambda t: analysis.correlation_length(t.square.isel(chain=slice(0, 0))), r"ensemble\.config", r"\(0, 400", "at least 10 draws"),
    ("analysis.structure_factor",
     lambda t: analysis.structure_factor(t.square.assign(config=1j * t.square.config)), r"ensemble\.config", "complex", "real numbers"),
    ("analysis.two_point_map",
     lambda t: analysis.two_point_map(t.square.assign(config=t.square.config.astype(str))), r"ensemble\.config", "<U", "real numbers"),
    ("analysis.diagnostics",
     lambda t: analysis.diagnostics(t.square.isel(draw=slice(0, 0))), "abs_m|energy|m", r"\(2, 0\)", "at least 10 draws"),
    ("analysis.diagnostics", lambda t: analysis.diagnostics(t.ladder), "ensemble", "2 temperatures", "sel"),
    *rows_of("analysis.Estimate",
             lambda t, v: Estimate(0.0, 1.0, v, 0.0, 100), "tau_int", ((0, "0"), (-1.0, r"-1\.0"), ("1", "'1'"), (None, "None")), "> 0"),
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
    ("analysis.correlation_length",
     lambda t: analysis.correlation_length(t.square.isel(x=slice(0, 1))), "ensemble", r"1, 4", "lengths >= 2"),
]

REWEIGHTING = [
    *rows_of("reweighting.combine", lambda t, v: combine(v), "ensembles", NOT_A_LIST, ENSEMBLE),
    ("reweighting.combine", lambda t: combine(t.square), "ensembles", "Dataset", "a list"),
    ("reweighting.combine", lambda t: combine([t.square, 3]), r"ensembles\[1\]", "int", "Dataset"),
    ("reweighting.combine", lambda t: combine([None]), r"ensembles\[0\]", "NoneType", "Dataset"),
    *rows_of("reweighting.combine",
             lambda t, v: combine([t.square.assign_attrs(shape=v)]), r"ensembles\[0\]", SHAPES, "must be|the same is needed"),
    *rows_of("reweighting.combine", lambda t, v: combine([t.bare, t.bare.assign_attrs(seed=99, shape=v)]), r"ensembles\[1\]",
             (([8, 8], r"\(4, 4\)"), ([0, 4], r"\[0, 4\]"), ("44", "'44'")), "must be|the same"),
    *rows_of("reweighting.combine", lambda t, v: combine([t.square.assign_attrs(beta=v)]), r"ensembles\[0\]", BETAS, ">= 0"),
    ("reweighting.combine", lambda t: combine([t.ladder]), r"ensembles\[0\]", "2 temperatures", r"ensemble\.sel\(beta=\.\.\.\)"),
    ("reweighting.combine",
     lambda t: combine([t.ladder.sel(beta=b) for b in (0.3, 0.4)]), r"ensembles\[1\]", "seed=8", "exchange config.* must be independent"),
    ("reweighting.combine", lambda t: combine([t.frozen]), r"ensembles\[0\]", "-2", "must fluctuate"),
    ("reweighting.combine", lambda t: combine([t.square.assign(m=t.square.m * math.nan)]), r"ensembles\[0\]", "nan", "finite"),
    ("reweighting.combine", lambda t: combine([t.square.isel(draw=slice(0, 5))]), r"ensembles\[0\]", r"\(2, 5\)", "at least 10"),
    ("reweighting.reweight", lambda t: reweighting.reweight(t.zero, 0.4, ["binder"]), "observables", "'binder'.*m2 = 0", "must be finite"),
    ("reweighting.reweight", lambda t: reweighting.reweight(t.ladder, 0.4), "ensemble", "2 temperatures", "sel"),
    ("reweighting.combine", lambda t: combine([t.lost]), "ensembles", r"'beta', 'shape'", ENSEMBLE),
    ("reweighting.combine", lambda t: combine([t.square.drop_vars("energy")]), "ensembles", "abs_m", "energy"),
    ("reweighting.combine", lambda t: combine([t.square, t.other]), "ensembles", r"h=0\.1", "same model"),
    ("reweighting.combine", lambda t: combine([t.square, t.square]), "ensembles", "seed=1", "independent"),
    ("reweighting.combine", lambda t: combine([t.warm, t.cold]), "ensembles", r"beta=0\.05 and beta=0\.8", "at least 20"),
    ("reweighting.reweight", lambda t: reweighting.reweight(t.square, 5e-3), "betas", r"0\.005", "at least"),
    ("reweighting.reweight", lambda t: reweighting.reweight([t.square], 0.4), "ensemble", "list", "Dataset"),
    *rows_of("reweighting.reweight", lambda t, v: reweighting.reweight(t.square, v), "betas",
             (("hot", "'hot'"), (None, "None"), ([], r"\[\]"), ([[0.4]], r"\[\[0\.4\]\]"), ([[0.4], [0.4, 0.5]], r"0\.5"), (True,
             "True")), "numbers >= 0"),
    *rows_of("reweighting.reweight", lambda t, v: reweighting.reweight(t.square, v), "beta", ((-0.4, r"-0\.4"), (math.nan, "nan")), ">= 0"),
    *rows_of("reweighting.reweight", lambda t, v: reweighting.reweight(t.square, 0.4, v), "observables",
             ((["mass"], "'mass'"), ("energy", "'energy'"), ([], r"\[\]"), (3, "3")), "energy"),
    *rows_of("reweighting.Combined",
             lambda t, v: t.one.at(0.4, minimum=v), "minimum", ((0, "0"), (-1.0, r"-1\.0"), ("a", "'a'"), (None, "None")), "must"),
    *rows_of("reweighting.Combined",
             lambda t, v: t.one.reach(share=v), "share", ((1.0, r"1\.0"), (-0.1, r"-0\.1"), (math.nan, "nan")), "has to|must"),
    ("reweighting.Combined", lambda t: t.one.n_eff(-1.0), "beta", r"-1\.0", ">= 0"),
    ("reweighting.Combined", lambda t: t.short.reach(), "minimum", r"beta=0\.4", "longer run"),
    ("reweighting.peak", lambda t: reweighting.peak(t.square, "energy"), "combined", "Dataset", r"combine\(\)"),
    *rows_of("reweighting.peak", lambda t, v: reweighting.peak(t.one, v), "name",
             (("mass", "'mass'"), (None, "None"), (["energy"], r"\['energy'\]"), (3, "3")), "accepted"),
    ("reweighting.peak", lambda t: reweighting.peak(combine([t.zero]), "binder"), "name", "'binder'.*m2 = 0", "must be finite"),
    ("reweighting.crossing", lambda t: reweighting.crossing(t.one, t.eight, "mass"), "name", "'mass'", "accepted"),
    ("reweighting.crossing", lambda t: reweighting.crossing(t.one, t.short), "second", "16 sites", "must be a lattice of another size"),
    ("reweighting.crossing", lambda t: reweighting.crossing(t.one, t.eight, "m", (0.43, 0.44)), "between", r"0\.4[34]", "needed"),
    ("reweighting.peak", lambda t: reweighting.peak(t.one, "energy"), "name", "'energy'", "needed"),
    *rows_of("reweighting.peak", lambda t, v: reweighting.peak(t.one, "specific_heat", v), "between",
             ((0.4, r"0\.4"), ((0.4,), r"\(0\.4,\)"), (("a", "b"), "'a'"), ((0.42, 0.38), r"0\.38"), ((0.01, 0.4), r"0\.01"),
              ((math.nan, 0.4), "nan"), ((True, 0.4), "True"), ((0.4, 10**400), "between"), ({0.38, 0.4}, r"0\.38")), "needed|must"),
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
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], t.points), "points", r"sizes=\[8, 16\]", "must be as many"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 8], t.points[:2]), "points", "1 sizes", "at least 2"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], [1.0, 2.0]), "points", r"1\.0", r"\.value and \.error"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], [Measured(-1.0, 0.1), t.points[0]]), "points", "-1", "> 0"),
    ("scaling.power_law", lambda t: scaling.power_law([8, 16], [Measured(1.0, 0.0), t.points[0]]), "points", "2 sizes", "errors > 0"),
    ("scaling.shifted_peaks", lambda t: scaling.shifted_peaks([8, 16], t.points[:2]), "points", "2 sizes", "at least 3"),
    *rows_of("scaling.shifted_peaks", lambda t, v: scaling.shifted_peaks([8, 16, 32], t.points, nu=v), "nu", ((0.0, r"0\.0"), (-1, "-1"), ("one", "'one'")), "must"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], [1.0, 2.0]), "memories", r"1\.0", "Estimates"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], t.memories, thin=4), "thin", "4", "smaller"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], t.memories, thin=0), "thin", "0", "whole number >= 1"),
    ("scaling.dynamic_exponent", lambda t: scaling.dynamic_exponent([8, 16], t.memories, thin=10**400), "thin", "1000", "must"),
    *rows_of("scaling.dynamic_exponent", lambda t, v: scaling.dynamic_exponent([8, 16], [SimpleNamespace(tau_int=v, tau_int_error=0.1)] * 2, thin=2),
             "memories", ((None, "namespace"), ("3", "namespace"), (-1.0, "namespace"), (math.nan, "namespace")), "must be a list"),
    *rows_of("scaling.dynamic_exponent", lambda t, v: scaling.dynamic_exponent([8, 16], v), "memories", ((None, "None"), ([], r"\[\]")), "must be a list"),
    *rows_of("scaling.scaling_table", lambda t, v: scaling.scaling_table([t.square.assign_attrs(beta=v)], "m2"), "ensembles|beta",
             (("hot", "'hot'"), (None, "None"), (math.nan, "nan"), (0.0, r"0\.0"), (True, "True")), "must|needed"),
    *rows_of("scaling.scaling_table", lambda t, v: scaling.scaling_table([t.square.assign_attrs(shape=v)], "m2"), "ensembles|shape",
             ((3, "3"), (None, "None"), ("44", "44"), ((4.5, 4.5), r"4\.5")), "must|needed"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.head(9)), "data", "9 points of 2 sizes", "at least 10 points"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.head(0)), "data", "0 points", "at least 10 points"),
    ("scaling.collapse", lambda t: scaling.collapse(pd.concat([t.table, t.table], axis=1)), "data", "DataFrame", "one of each"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(value=0.0)), "data", "15 points", "must be > 7"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(error=1e6)), "data", "15 points", "must be > 7"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(value=1e200)), "data", "value", "below 1e30"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(error=1e-12)), "data", "1e-12", "at least 1e-7"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(T=2.27)), "data", r"2\.27", "different T"),
    ("scaling.collapse", lambda t: scaling.collapse(t.table.assign(L=t.table.L.astype("Int64").where(t.table.index > 2))), "data", "L", "finite"),
    *rows_of("scaling.collapse", lambda t, v: scaling.collapse(t.table, known=v), "known",
             (({"nu": 1e-9}, "1e-09"), ({"nu": 1e9}, r"1000000000"), ({"t_c": 1e9}, r"1000000000"), ({"exponent": 1e9}, r"1000000000")), "must be from"),
    *rows_of("scaling.collapse", lambda t, v: scaling.collapse(t.table, known={"exponent": 0.0, "nu": 1.0}).function(v), "x",
             (("a", "'a'"), ({1}, r"\{1\}"), ([1j], "1j"), (None, "None"), (math.nan, "nan"), ([[1, 2], [3]], r"\[3\]"), (True, "True"), (1e300, r"1e\+300")),
             "must be a finite number"),
    ("scaling.power_law", lambda t: scaling.power_law(list(range(1, 100)), t.points * 30), "points", "Measured", "must"),
    *rows_of("scaling.power_law", lambda t, v: scaling.power_law([8, 16], [v, t.points[0]]), "points",
             ((Measured("a", 0.1), "Measured"), (Measured(1j, 0.1), "Measured"), (Measured(10**400, 0.1), "Measured"), (Measured(1.0, math.inf), "inf"),
              (Measured(1e200, 0.1), "2 sizes"), (Measured(1.0, 1e-200), "2 sizes")), "must|needed"),
    ("scaling.shifted_peaks", lambda t: scaling.shifted_peaks([8, 16, 32], [t.points[0]] * 3), "points", "Measured", "give nu"),
    ("scaling.shifted_peaks", lambda t: scaling.shifted_peaks([8, 8 + 1e-9], t.points[:2], nu=1.0), "points", "Measured", "must"),
    *rows_of("scaling.shifted_peaks", lambda t, v: scaling.shifted_peaks([8, 16, 32], t.points, nu=v), "nu", ((1e-9, "1e-09"), (1e9, "1000000000")), "must"),
]

TABLE = ANALYSIS + REWEIGHTING + SCALING


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *expected = TABLE[row]
    assert_refused(call, things(), *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete(MODULES, TABLE, EXEMPT)
