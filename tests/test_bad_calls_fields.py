"""Bad calls of exact_fields, clusters and fields, in the manner of test_bad_calls: (function, call, argument, value, accepted)."""
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import clusters, exact_fields, fields
from uqphys.clusters import fk_clusters
from uqphys.exact_fields import exact_field, free_field, free_propagator, layered_field, ring_field, ring_two_point, site_field
from uqphys.models import CustomModel, Ising, Phi4, random_spins
from uqphys.sampling import sample

MODULES = (exact_fields, clusters, fields)
EXEMPT = {"exact_fields.FieldResult": "a plain record of results, made by the functions that check"}
SEEDS = ((None, "None"), (1.5, r"1\.5"), (-1, "-1"), (True, "True"), ("one", "'one'"))
BETAS = ((-0.1, r"-0\.1"), (math.nan, "nan"), (math.inf, "inf"), ("hot", "'hot'"), (None, "None"), (True, "True"))
COLD, SPINS = "finite number >= 0", r"spin must be -1 or \+1"


@cache
def things():
    "What the calls work on, all of it small."
    t = SimpleNamespace(free=Phi4((3,), 0.2, 0.0), lone=Phi4((3,), 0.0, 0.5), ring=Phi4((3,), 0.2, 0.5), plane=Phi4((6, 5), 0.1, 0.5))
    t.sharp, t.ising, t.squares = Phi4((4,), 0.3, 1e9), Ising((4, 4)), Ising((4, 4), K=0.1)
    t.up, t.own = np.ones((4, 4), dtype=np.int8), CustomModel((4,), lambda x: (x**2).sum(axis=-1), values="real")
    return t


NOT_FIELDS = ((None, "None"), (Ising((4, 4)), r"Ising\("), (Phi4, "Phi4"), ("phi4", "'phi4'"), (np.ones((30, 30)), "array|ndarray"))
FINE = {free_field: "free", free_propagator: "free", site_field: "lone", ring_field: "ring", ring_two_point: "ring", layered_field: "ring",
        exact_field: "ring"}


def walk(function):
    "No field, and no inverse temperature, for each of the exact answers."
    name, good = f"exact_fields.{function.__name__}", FINE[function]
    return [*rows_of(name, lambda t, v: function(v), "model", NOT_FIELDS, "must be a Phi4"),
            *rows_of(name, lambda t, v: function(getattr(t, good), v), "beta", BETAS, COLD),
            (name, lambda t: function(getattr(t, good), 0.0), "beta", r"0\.0", "finite number > 0")]


EXACT_FIELDS = [
    *(row for function in FINE for row in walk(function)),
    ("exact_fields.free_field", lambda t: free_field(t.ring), "lam", r"0\.5", "must be 0"),
    ("exact_fields.free_propagator", lambda t: free_propagator(t.ring), "lam", r"0\.5", "must be 0"),
    ("exact_fields.site_field", lambda t: site_field(t.ring), "hopping", r"0\.4", "must be 0"),
    *rows_of("exact_fields.ring_field", lambda t, v: ring_field(Phi4(v, 0.1, 0.5)), "model", (((2, 3), r"\(2, 3\)"), ((2, 2, 2), r"\(2, 2, 2\)")), "ring"),
    ("exact_fields.ring_two_point", lambda t: ring_two_point(t.plane), "model", r"\(6, 5\)", "ring"),
    ("exact_fields.ring_field", lambda t: ring_field(Phi4((3,), -0.55, 0.0)), "lam", "0", "must be .*free_field"),
    ("exact_fields.ring_field", lambda t: ring_field(t.sharp), "lam", r"1000000000\.0, kappa=0\.3, beta=1\.0", "must be a smaller lam"),
    ("exact_fields.ring_field", lambda t: ring_field(Phi4((3,), -1.0, 0.05), 3.0), "lam", r"0\.05, kappa=-1\.0, beta=3\.0", r"must be a larger lam, a smaller \|kappa\|"),
    ("exact_fields.ring_two_point", lambda t: ring_two_point(t.sharp), "lam", r"1000000000\.0", "must be a smaller lam"),
    ("exact_fields.ring_two_point", lambda t: ring_two_point(Phi4((3,), -1.0, 0.05), 3.0), "lam", r"0\.05", "must be a larger lam"),
    ("exact_fields.layered_field", lambda t: layered_field(Phi4((4, 4), 0.6, 1e-9)), "lam", r"1e-09, kappa=0\.6", r"must be a larger lam, a smaller \|kappa\|, a smaller beta"),
    ("exact_fields.layered_field", lambda t: layered_field(t.sharp), "lam", r"1000000000\.0", "must be a smaller lam"),
    ("exact_fields.layered_field", lambda t: layered_field(Phi4((3, 3), -0.3, 0.0)), "lam", r"0\.0", "must be > 0, or use free_field"),
    ("exact_fields.exact_field", lambda t: exact_field(Phi4.from_mass((4, 4), -4.0, 1e-9)), "lam", r"1e-09, m2=-4\.0", "must be a larger lam, a larger m2"),
    ("exact_fields.layered_field", lambda t: layered_field(t.plane), "model", r"\(6, 5\)", "at most 4 sites"),
    ("exact_fields.exact_field", lambda t: exact_field(t.plane), "model", r"\(6, 5\)", "must"),
]

CLUSTERS = [
    *rows_of("clusters.fk_clusters", lambda t, v: fk_clusters(t.ising, t.up, v, seed=0), "beta", BETAS, COLD),
    *rows_of("clusters.fk_clusters", lambda t, v: fk_clusters(t.ising, t.up, 0.4, seed=v), "seed", SEEDS, "whole number >= 0"),
    ("clusters.fk_clusters", lambda t: fk_clusters(t.squares, t.up, 0.4, seed=0), "model", r"K=0\.1", "takes any"),
    ("clusters.fk_clusters", lambda t: fk_clusters(t.plane, t.up, 0.4, seed=0), "model", r"Phi4\(", "needs an Ising model"),
    ("clusters.fk_clusters", lambda t: fk_clusters(None, t.up, 0.4, seed=0), "model", "None", "needs an Ising model"),
    ("clusters.fk_clusters", lambda t: fk_clusters(t.ising, 0 * t.up, 0.4, seed=0), "x", "0", SPINS),
    ("clusters.fk_clusters", lambda t: fk_clusters(t.ising, [[1, -1]], 0.4, seed=0), "x", "list", "array"),
    ("clusters.fk_clusters", lambda t: fk_clusters(t.ising, t.up[:3], 0.4, seed=0), r"x\.shape", r"\(3, 4\)", r"\(\.\.\., 4, 4\)"),
    ("clusters.fk_clusters", lambda t: fk_clusters(t.ising, random_spins((4, 4), 2, 0), 0.4, seed=0), r"x\.shape", r"\(2, 4, 4\)", "one configuration"),
    *rows_of("clusters.METHODS", lambda t, v: sample(t.ising, 0.4, method="wolff", settings={"clusters": v}, seed=0), "clusters",
             ((0, "0"), (-2, "-2"), (1.5, r"1\.5"), (True, "True"), ("all", "'all'")), "whole number >= 1"),
    *rows_of("clusters.METHODS", lambda t, v: sample(t.ising, 0.4, method="wolff", settings={"clusters": v}, seed=0), "clusters",
             ((2**31 + 1, "2147483649"), (10**18, "1000"), (10**20, "1000"), (10**400, "1000")), r"from 1 to 2\*\*31|whole number >= 1 and < 2\*\*63"),
    *rows_of("clusters.METHODS", lambda t, v: sample(t.squares, 0.4, method=v, seed=0), "method", (("wolff", "K=0.1"), ("swendsen-wang", "K=0.1")), "takes any"),
    *rows_of("clusters.METHODS", lambda t, v: sample(t.plane, method=v, seed=0), "method", (("wolff", "wolff"), ("swendsen-wang", "wendsen")), "needs"),
    ("clusters.METHODS", lambda t: sample(t.ising, 0.4, method="swendsen-wang", settings={"clusters": 3}, seed=0), "settings", "clusters", "accepted are: none"),
]

FIELDS = [
    *rows_of("fields.METHODS", lambda t, v: sample(t.ring, method="hmc", settings={"step_size": v}, seed=0), "step_size",
             ((0.0, "0"), (-0.1, r"-0\.1"), (math.nan, "nan"), ("small", "'small'"), (True, "True")), "must"),
    *rows_of("fields.METHODS", lambda t, v: sample(t.ring, method="hmc", settings={"steps": v}, seed=0), "steps",
             ((0, "0"), (2.5, r"2\.5"), ("many", "'many'"), (True, "True"), (10**12, "10{12}")), "whole number"),
    *rows_of("fields.METHODS", lambda t, v: sample(t.ring, method="metropolis", settings={"width": v}, seed=0), "width",
             ((0.0, "0"), (-1.0, r"-1\.0"), (math.inf, "inf"), ("wide", "'wide'")), "must"),
    *rows_of("fields.METHODS", lambda t, v: sample(t.ising, 0.4, method=v, seed=0), "method", (("hmc", "hmc"), ("cluster-phi4", "cluster-phi4")), "needs"),
    ("fields.METHODS", lambda t: sample(t.own, method="cluster-phi4", seed=0), "method", "cluster-phi4", "needs"),
    ("fields.METHODS", lambda t: sample(t.own, method="hmc", seed=0), "method", "hmc", "needs"),
    ("fields.METHODS", lambda t: sample(t.ring, method="metropolis", settings={"steps": 3}, seed=0), "settings", "steps", "accepted are"),
]

TABLE = EXACT_FIELDS + CLUSTERS + FIELDS


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *expected = TABLE[row]
    assert_refused(call, SimpleNamespace(**vars(things())), *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete(MODULES, TABLE, EXEMPT)
