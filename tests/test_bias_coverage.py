"""Is the 95 % interval of the bias right in 95 of 100 cases? Measured by walking the whole road many times.

Each repetition draws new training data, fits a new surrogate, samples a new ensemble and buys new probes, on the 4x4
lattice, where the exact bias of that very surrogate is known by enumeration. The seeds are fixed. `studies/coverage.py`
does the same with more repetitions.
"""

import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from uqphys.bias import summarise

STUDY = Path(__file__).parents[1] / "studies" / "coverage.py"
REPETITIONS = 400
OBSERVABLES = ["energy", "abs_m", "m2", "susceptibility"]
CASES = ["too simple", "rich enough"]


def load_study():
    spec = importlib.util.spec_from_file_location("coverage_study", STUDY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def repetition(job):
    return load_study().repetition(*job)


@pytest.fixture(scope="module")
def rehearsals():
    jobs = [(case, seed) for case in CASES for seed in range(REPETITIONS)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = pd.DataFrame([row for found in pool.map(repetition, jobs, chunksize=8) for row in found])
    print("\n" + pd.concat({case: summarise(rows[rows["case"] == case]) for case in CASES}).round(4).to_string())
    return rows


def of(rows, case, evidence, observable):
    return rows[(rows["case"] == case) & (rows["evidence"] == evidence) & (rows["observable"] == observable)]


def coverage(g):
    return float(((g["low"] <= g["true_bias"]) & (g["true_bias"] <= g["high"])).mean())


@pytest.mark.parametrize("observable", OBSERVABLES)
@pytest.mark.parametrize("case", CASES)
def test_coverage_of_probe_evidence(rehearsals, case, observable):
    g = of(rehearsals, case, "probe", observable)
    assert len(g) >= 200 and (g["exact_evaluations"] <= 100).all()
    assert 0.92 <= coverage(g) <= 0.98


@pytest.mark.parametrize("observable", OBSERVABLES)
@pytest.mark.parametrize("case", CASES)
def test_errors_of_the_prediction_are_normal(rehearsals, case, observable):
    g = of(rehearsals, case, "probe", observable)
    z = (g["predicted_bias"] - g["true_bias"]) / ((g["high"] - g["low"]) / (2 * stats.norm.ppf(0.975)))
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert stats.kstest(z, "norm").pvalue > 1e-3


@pytest.mark.parametrize("observable", OBSERVABLES)
def test_correction_removes_two_thirds_of_the_bias(rehearsals, observable):
    g = of(rehearsals, "too simple", "probe", observable)
    root = lambda v: np.sqrt(np.mean(np.square(v)))
    assert root(g["corrected"] - g["exact"]) <= root(g["true_bias"]) / 3


@pytest.mark.parametrize("case", CASES)
def test_posterior_says_when_it_is_not_to_be_trusted(rehearsals, case):
    g = rehearsals[(rehearsals["case"] == case) & (rehearsals["evidence"] == "posterior")]
    missed = g[(g["low"] > g["true_bias"]) | (g["high"] < g["true_bias"])]
    assert len(missed) > 0.1 * len(g), "the posterior alone is known to miss often; if it no longer does, say so"
    assert (~missed["trust"].astype(bool)).mean() >= 0.9


@pytest.mark.parametrize("observable", OBSERVABLES)
@pytest.mark.parametrize("case", CASES)
def test_the_test_has_power(rehearsals, case, observable):
    "Intervals a third too narrow, or shifted by one standard error, must be caught."
    g = of(rehearsals, case, "probe", observable)
    middle, half = (g["low"] + g["high"]) / 2, (g["high"] - g["low"]) / 2
    narrow = g.assign(low=middle - half / 1.5, high=middle + half / 1.5)
    shifted = g.assign(low=g["low"] + half / 1.96, high=g["high"] + half / 1.96)
    assert coverage(narrow) < 0.92 and coverage(shifted) < 0.92
