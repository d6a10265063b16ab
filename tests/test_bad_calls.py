"""A table of bad calls: each is refused at once with one `ValueError` that says which argument, which value, and what is accepted.

A row is (function, call, argument, value, accepted): the call gets the `Things` below; the other three are regular expressions that
the message must match. Every public callable of the modules stands in the table, or in `EXEMPT` with the reason.
"""
import copy
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import analysis, architectures, bias, bnn, exact, last_layer, lattice_gp, models, multispin, predictive, sampling, tempering, training
from uqphys.analysis import DERIVED
from uqphys.architectures import LocalEnergyNet
from uqphys.bias import Approximation, predict_bias, rehearse
from uqphys.bnn import LastLayer
from uqphys.exact import enumerate_states
from uqphys.lattice_gp import LatticeGP
from uqphys.models import CustomModel, Ising, Phi4, random_spins
from uqphys.predictive import Predictive
from uqphys.sampling import sample
from uqphys.training import labelled, load_state, save_state, train

MODULES = (models, exact, sampling, multispin, tempering, analysis, architectures, training, predictive, last_layer, bnn, lattice_gp, bias)
EXEMPT = {
    "models.pattern_spins": "takes no argument",
    "models.fcc_triangles": "takes no argument",
    "sampling.progress_bar": "made by functions that have checked their arguments",
    "sampling.one_thread": "takes no argument",
    "sampling.Method": "a plain record of functions",
    "sampling.next_word": "a compiled kernel",
    "analysis.Derived": "a formula with its gradient; linearised checks what goes in",
    "models.Model": "a protocol; check_model judges who follows it",
    "architectures.SiteSum": "base class without arguments; its methods are walked through LocalEnergyNet",
    "architectures.Network": "base class; its subclasses check their arguments",
    "architectures.Regressor": "base class; its subclasses check their arguments",
    **dict.fromkeys(("exact.ExactResult", "exact.TransferResult", "exact.KaufmanResult", "exact.OnsagerResult", "sampling.Tables",
                     "analysis.Estimate", "architectures.Environments", "architectures.SiteValues", "training.Labelled", "training.History", "last_layer.Posterior", "last_layer.InverseWishart",
                     "bias.Classes", "bias.Doubt"), "a plain record of results, made by the function that checks"),
}
SAYS = r"must|expected|accepted|need|at least|at most|takes"  # how a message leads to what is accepted


class Lattice:
    "A model of one's own on 3 x 3 spins, with any energy."

    shape = (3, 3)

    def __init__(self, energy):
        self.energy = energy

    def observables(self, x):
        return {"m": x.mean(axis=(-2, -1))}


@cache
def things():
    "What the calls work on, all of it small: models, data, fitted surrogates, an ensemble, a report."
    t = SimpleNamespace(ising=Ising((4, 4), K=0.2), plain=Ising((4, 4)), cube=Ising((3, 3, 3)), odd=Ising((5, 4)))
    t.nan = Lattice(lambda x: np.where(x.sum(axis=(-2, -1)) == 9, np.nan, 0.0))
    t.never = Lattice(lambda x: np.full(x.shape[:-2], np.inf))
    t.one = Lattice(lambda x: 0.0 * x)  # an energy of the wrong shape
    t.squares = lambda x: -x.sum(axis=(-2, -1)) ** 2
    t.chain_energy = lambda x: -(x * np.roll(x, 1, -1)).sum(axis=(-2, -1))
    t.own = CustomModel((4, 4), t.squares)
    t.x, t.y = labelled(t.ising, 0.4, 40, seed=1)
    t.spin = random_spins((4, 4), 6, 0)
    t.half, t.flat = np.where(t.x > 0, 0.5, -1.0), t.x.reshape(len(t.x), -1)
    t.half_cube = 0.5 * random_spins((3, 3, 3), 8, 0)
    t.hole = t.y.copy()
    t.hole[3] = np.nan
    t.surrogate = LastLayer(architectures.pair_network()).fit(t.x, t.y, progress=False)
    t.two = LastLayer(architectures.pair_network()).fit(t.x, np.hstack([t.y, t.y**2]), progress=False)
    t.approximation = Approximation(t.ising, t.surrogate)
    run = dict(draws=60, chains=2, burn_in=50, seed=1, progress=False)
    t.ensemble = sample(t.approximation, 0.4, **run)
    t.bare = sample(t.approximation, 0.4, keep="observables", **run)
    t.other, t.wide = sample(t.ising, 0.4, **run), sample(Ising((5, 5)), 0.4, **run)
    t.lost = t.ensemble.copy()
    t.lost.attrs = {}
    t.report = predict_bias(t.approximation, t.ensemble, probes=20, seed=0)
    t.classes = bias.sort_draws(t.ensemble)
    t.gp = LatticeGP(correlations=(0.5,), linear=(1.0,), nuggets=(1e-6,)).fit(t.x, t.y)
    t.net, t.net3 = LocalEnergyNet(hidden=(3,)), LocalEnergyNet(3, hidden=(3,))
    t.belief = t.surrogate.predict(t.x)
    rng = np.random.default_rng(0)
    layer = dict(features=rng.standard_normal((6, 2)), targets=rng.standard_normal((6, 1)), prior_mean=np.zeros((1, 2)))
    t.layer = dict(layer, column_covariance=np.eye(2), row_covariance=np.eye(1), sigma=np.ones(6))
    t.em = dict(layer, base_covariance=np.eye(2))
    t.posterior = last_layer.last_layer_posterior(**t.layer)
    t.series = rng.standard_normal((2, 50))
    t.rehearsal = pd.DataFrame({"evidence": ["probe"], "observable": ["energy"]})
    return t


def fill(folder):
    "Files that a call may meet, as old, damaged and foreign ones; what each holds must be the same afterwards."
    t = things()
    save_state(folder / "other.pt", dict(kind="something else"))
    t.surrogate.save(folder / "layer.pt")
    whole = (folder / "layer.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pt").write_bytes(b"")
    (folder / "text.pt").write_text("not a file of ours")
    (folder / "old.json").write_text("{}")
    (folder / "folder").mkdir()


def contents(folder):
    "Every file below a folder, and what it holds."
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def predicted(**changes):
    "A Predictive of three inputs and two outputs, with some arguments changed."
    zero, one = np.zeros((3, 2)), np.ones((3, 2))
    return Predictive(**dict(dict(mean=zero, epistemic=one, aleatoric=one, draws=np.zeros((4, 3, 2))), **changes))


def fit_net(t, **changes):
    "A training of two epochs, of a copy of the network, with some arguments changed."
    call = dict(dict(network=copy.deepcopy(t.net), x=t.x, y=t.y, seed=0, epochs=2, progress=False), **changes)
    return train(call.pop("network"), call.pop("x"), call.pop("y"), **call)


def run(t, model=None, beta=0.4, **changes):
    "A short chain, with some arguments changed."
    return sample(t.ising if model is None else model, beta, **dict(dict(draws=5, burn_in=5, seed=0, progress=False), **changes))


def temper(t, betas=(0.3, 0.4), **changes):
    return tempering.temper(t.ising, betas, **dict(dict(draws=5, burn_in=5, seed=0, progress=False), **changes))


def ask(t, ensemble=None, observables=None, **changes):
    "A bias report, with some arguments changed."
    call = dict(dict(probes=20, seed=0), **changes)
    return predict_bias(call.pop("approximation", t.approximation), t.ensemble if ensemble is None else ensemble, observables, **call)


def spoil(x):
    "An energy that changes what it is given."
    x[:] = 1.0
    return x.sum(axis=(-2, -1))


def odd_values(values):
    "A lattice that says something of its sites."
    lattice = Lattice(len)
    lattice.values = values
    return lattice


def walk(t, truth=None, beta=0.4, make=bias.too_simple, **changes):
    "A short rehearsal, with some arguments changed."
    return rehearse(truth or t.ising, beta, make, **dict(dict(seed=0, draws=20, chains=2, training=20, probes=10), **changes))


SEEDS = ((None, "None"), (1.5, r"1\.5"), (-1, "-1"), (True, "True"), ("one", "'one'"))
BETAS = ((-0.1, r"-0\.1"), (math.nan, "nan"), (math.inf, "inf"), ("hot", "'hot'"), (None, "None"), (True, "True"))
NOT_COUNTS = ((0, "0"), (-3, "-3"), (2.5, r"2\.5"), (True, "True"), (None, "None"))
WHOLE, REAL, COLD = "whole number >= ", "finite number", "finite number >= 0"
SPINS = r"spin must be -1 or \+1"
IN_FOLDER = r"expected a file name in an existing, writable folder"


MODELS = [
    *rows_of("models.check_number", lambda t, v: models.check_number("J", v), "J",
             ((math.inf, "inf"), (None, "None"), ("1", "'1'"), (True, "True"), (1j, "1j"), (10**400, "1000")), REAL),
    *rows_of("models.check_beta", lambda t, v: models.check_beta(v), "beta", BETAS, COLD),
    *rows_of("models.check_count", lambda t, v: models.check_count("draws", v), "draws", NOT_COUNTS, WHOLE + "1"),
    *rows_of("models.check_seed", lambda t, v: models.check_seed(v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("models.check_flag", lambda t, v: models.check_flag("flip", v), "flip", (("no", "'no'"), (1, "1"), (None, "None")), "True or False"),
    *rows_of("models.check_shape", lambda t, v: models.check_shape(v), "shape",
             ((4, "4"), ((), r"\(\)"), ((4, 0), r"\(4, 0\)"), ((4.0, 4), r"4\.0"), ("44", "'44'"), (None, "None")), "tuple of whole numbers"),
    *rows_of("models.check_spins", lambda t, v: models.check_spins(np.array(v), (2,)), "x",
             (([0, 1], "0"), ([1.0, 0.5], r"0\.5"), ([1.0, math.nan], "nan")), SPINS),
    ("models.check_spins", lambda t: models.check_spins([1, -1], (2,)), "x", "list", "array or torch tensor"),
    ("models.check_spins", lambda t: models.check_spins(np.array(["a", "b"]), (2,)), "x", "<U1", "numeric NumPy array"),
    ("models.check_spins", lambda t: models.check_spins(np.ones((2, 3)), (2, 2)), r"x\.shape", r"\(2, 3\)", r"\(\.\.\., 2, 2\)"),
    ("models.check_spins", lambda t: models.check_spins(torch.tensor([1.0, 2.0]), (2,)), "x", "2", SPINS),
    ("models.random_spins", lambda t: random_spins((4, 4), 0, 0), "n", "0", WHOLE + "1"),
    ("models.random_spins", lambda t: random_spins((4, -4), 1, 0), "shape", "-4", "whole numbers"),
    *rows_of("models.random_spins", lambda t, v: random_spins((4, 4), 1, v), "seed", SEEDS, WHOLE + "0"),
    ("models.site_sum", lambda t: models.site_sum(np.ones(4), 2), "x", r"\(4,\)", "axes"),
    ("models.pair_sum", lambda t: models.pair_sum(np.ones(4), 2), "x", r"\(4,\)", "axes"),
    ("models.diagonal_sum", lambda t: models.diagonal_sum(np.ones(4), 2), "x", r"\(4,\)", "axes"),
    ("models.plaquette_sum", lambda t: models.plaquette_sum(np.ones(4), 2), "x", r"\(4,\)", "axes"),
    ("models.spin_observables", lambda t: models.spin_observables(t.spin, np.zeros(5), 2), r"energy\.shape", r"\(5,\)", r"\(6, 4, 4\)"),
    *rows_of("models.check_model", lambda t, v: models.check_model(v), "model", ((None, "None"), (Ising, "class"), (3, "3")), r"energy\(x\)"),
    *rows_of("models.Ising", lambda t, v: Ising(v), "shape",
             (((4,), r"\(4,\)"), ((2, 2, 2, 2), r"\(2, 2, 2, 2\)"), ((1, 4), r"\(1, 4\)"), (16, "16"), ((4, True), "True")), "2 or 3 whole numbers >= 2"),
    *rows_of("models.Ising", lambda t, v: Ising((4, 4), J=v), "J", ((None, "None"), (math.nan, "nan"), ("1", "'1'"), (True, "True")), REAL),
    *rows_of("models.Ising", lambda t, v: Ising((4, 4), h=v), "h", ((math.inf, "inf"), ([0.1], r"\[0\.1\]")), REAL),
    ("models.Ising", lambda t: t.ising.energy(np.zeros((4, 4))), "x", "0", SPINS),
    ("models.Ising", lambda t: t.ising.energy(np.ones((4, 5))), "x", r"\(4, 5\)", r"\(\.\.\., 4, 4\)"),
    ("models.Ising", lambda t: t.ising.energy("up"), "x", "'up'", "spins"),
    ("models.Ising", lambda t: t.ising.observables(torch.zeros(4, 4)), "x", "0", SPINS),
    ("models.Ising", lambda t: t.cube.pattern_energies(), "shape", r"\(3, 3, 3\)", "two dimensions"),
    ("models.pattern_index", lambda t: models.pattern_index(np.ones(4)), "x", "1", "two axes"),
    ("models.pattern_index", lambda t: models.pattern_index(np.zeros((4, 4))), "x", "0", SPINS),
    ("models.pattern_counts", lambda t: models.pattern_counts(np.full((2, 4, 4), 3)), "x", "3", SPINS),
    *rows_of("models.pattern_classes", lambda t, v: models.pattern_classes(v), "flip", (("no", "'no'"), (None, "None"), (1, "1")), "True or False"),
    ("models.check_column", lambda t: models.check_column("energy", np.zeros(3), 4), "energy", r"\(3,\)", "each of the 4 configurations"),
    ("models.check_column", lambda t: models.check_column("energy", 0.5, 1), "energy", r"\(\)", "finite real number"),
    ("models.check_column", lambda t: models.check_column("energy", ["a", "b"], 2), "energy", "<U1", "finite real number"),
    ("models.check_column", lambda t: models.check_column("energy", np.ones(2, complex), 2), "energy", "complex128", "finite real number"),
    ("models.check_column", lambda t: models.check_column("energy", torch.tensor([0.0, math.inf]), 2), "energy", "inf", "finite real number"),
    *rows_of("models.check_count", lambda t, v: models.check_count("draws", v), "draws", ((2**63, "9223372036854775808"), (10**400, "1000")), r"< 2\*\*63"),
    *[row for name in ("site_sum", "pair_sum", "diagonal_sum", "plaquette_sum") for row in rows_of(
        f"models.{name}", lambda t, v, name=name: getattr(models, name)(np.ones((4, 4)), v), "ndim", ((0, "0"), (-1, "-1"), (1.5, r"1\.5"), (None, "None")), "whole number")],
    *rows_of("models.spin_observables", lambda t, v: models.spin_observables(v, np.zeros(1), 2), "x", ((None, "None"), (3.0, r"3\.0"), ([1], r"\[1\]")), "array or torch"),
    ("models.field_observables", lambda t: models.field_observables(None, np.zeros(1), 2), "x", "None", "array or torch"),
    *rows_of("models.fcc_shells", lambda t, v: models.fcc_shells(v), "most", NOT_COUNTS, WHOLE + "1"),
    ("models.fcc_shells", lambda t: models.fcc_shells(21), "most", "21", "at most 20"),
    *rows_of("models.BinaryAlloy", lambda t, v: models.BinaryAlloy(v), "shape", (((4, 4), r"\(4, 4\)"), ((4, 4, 2), r"\(4, 4, 2\)"), (4, "4")), "whole numbers >= 3"),
    *rows_of("models.BinaryAlloy", lambda t, v: models.BinaryAlloy((4, 4, 4), v), "pairs", (((), r"\(\)"), (0.1, r"0\.1"), ((1, 2, 3, 4), r"\(1, 2, 3, 4\)")), "one to three"),
    *rows_of("models.BinaryAlloy", lambda t, v: models.BinaryAlloy((4, 4, 4), (0.1, v)), "pairs", ((math.nan, "nan"), ("a", "'a'")), "finite numbers"),
    *rows_of("models.BinaryAlloy", lambda t, v: models.BinaryAlloy((4, 4, 4), triplet=v), "triplet", ((math.inf, "inf"), (None, "None")), "finite number"),
    *rows_of("models.BinaryAlloy", lambda t, v: models.BinaryAlloy((4, 4, 4), h=v), "h", ((math.inf, "inf"), (None, "None")), "finite number"),
    ("models.BinaryAlloy", lambda t: models.BinaryAlloy((4, 4, 4)).energy(np.zeros((4, 4, 4))), "x", "0", SPINS),
    ("models.BinaryAlloy", lambda t: models.BinaryAlloy((4, 4, 4)).energy_changes(np.ones((1, 4, 4, 4)), [[0, 0]], [[1]]), "sites", r"\[\[0, 0\]\]", "must be whole numbers"),
    *rows_of("models.short_range_order", lambda t, v: models.short_range_order(v, 0.5), "pairs", ((2.0, "2"), (-0.5, r"-0\.5"), ("a", "'a'"), (math.nan, "nan")), "must be"),
    ("models.short_range_order", lambda t: models.short_range_order([0.5, 0.5], [0.1] * 3), "m", r"\(3,\)", r"\(2,\)"),
    *rows_of("models.short_range_order", lambda t, v: models.short_range_order(0.5, v), "m", ((1.0, "1"), (None, "None")), "must be"),
    *rows_of("models.check_real", lambda t, v: models.check_real("beta", v), "beta", ((math.nan, "nan"), ("a", "'a'"), ([[1], [1, 2]], r"\[\[1\]"), (1j, "1j")), "finite real numbers"),
    ("models.check_spins", lambda t: models.check_spins(np.ma.masked_equal(np.ones((4, 4)), 0), (4, 4)), "x", "masked", "numeric NumPy array"),
    ("models.site_values", lambda t: models.site_values(odd_values("angles")), r"model\.values", "'angles'", "'spins' or 'real'"),
    ("models.check_field", lambda t: models.check_field([0.5, 1.0], (2,)), "x", "list", "array or torch tensor of real numbers"),
    ("models.check_field", lambda t: models.check_field(np.array(["a", "b"]), (2,)), "x", "<U1", "numeric NumPy array"),
    ("models.check_field", lambda t: models.check_field(np.ones(2, complex), (2,)), "x", "complex128", "real numbers"),
    ("models.check_field", lambda t: models.check_field(np.ones((2, 3)), (2, 2)), r"x\.shape", r"\(2, 3\)", r"\(\.\.\., 2, 2\)"),
    *rows_of("models.check_field", lambda t, v: models.check_field(np.array([0.1, v]), (2,)), "x", ((math.nan, "nan"), (-math.inf, "-inf"), (1e200, r"1e\+200")), "finite number, below 1e75"),
    ("models.check_field", lambda t: models.check_field(torch.tensor([math.inf, 1.0]), (2,)), "x", "inf", "finite number"),
    *rows_of("models.random_fields", lambda t, v: models.random_fields((4, 4), v, 0), "n", NOT_COUNTS, WHOLE + "1"),
    ("models.random_fields", lambda t: models.random_fields((4, 0), 1, 0), "shape", r"\(4, 0\)", "whole numbers"),
    *rows_of("models.random_fields", lambda t, v: models.random_fields((4, 4), 1, v), "seed", SEEDS, WHOLE + "0"),
    ("models.field_observables", lambda t: models.field_observables(np.ones((6, 4, 4)), np.zeros(5), 2), r"energy\.shape", r"\(5,\)", r"\(6, 4, 4\)"),
    *rows_of("models.Phi4", lambda t, v: Phi4(v, 0.1, 1.0), "shape", (((), r"\(\)"), ((1, 4), r"\(1, 4\)"), (4, "4"), ((4, True), "True")), "whole numbers >= 2"),
    *rows_of("models.Phi4", lambda t, v: Phi4((4, 4), v, 1.0), "kappa", ((math.nan, "nan"), ("1", "'1'"), (True, "True"), (None, "None")), "finite number"),
    *rows_of("models.Phi4", lambda t, v: Phi4((4, 4), 0.1, v), "lam", ((-0.5, r"-0\.5"), (math.inf, "inf"), (None, "None")), "finite number"),
    ("models.Phi4", lambda t: Phi4((4, 4), 0.1, 1.0, m2=-1.0), "kappa|m2", r"-1\.0", "a finite number and None"),
    *rows_of("models.Phi4", lambda t, v: Phi4.from_mass((4, 4), v, 1.0), "m2", ((None, "None"), (math.nan, "nan"), ("heavy", "'heavy'")), "finite number"),
    *rows_of("models.Phi4", lambda t, v: Phi4((4, 4), v, 0.0), "kappa", ((0.25, r"0\.25"), (-0.3, r"-0\.3")), r"\|kappa\| < 1/4"),
    ("models.Phi4", lambda t: Phi4.from_mass((4, 4), 0.0, 0.0), "m2", r"0\.0", "m2 > 0"),
    ("models.Phi4", lambda t: Phi4((4, 4), 0.0, 1.0).other_convention(), "kappa", r"0\.0", "kappa > 0"),
    ("models.Phi4", lambda t: Phi4((4, 4), 0.1, 1.0).energy(np.ones((4, 5))), r"x\.shape", r"\(4, 5\)", r"\(\.\.\., 4, 4\)"),
    ("models.Phi4", lambda t: Phi4((4, 4), 0.1, 1.0).force(np.full((4, 4), math.nan)), "x", "nan", "finite number"),
    ("models.Phi4", lambda t: Phi4((4, 4), 0.1, 1.0).energy(np.full((4, 4), 1e200)), "x", r"1e\+200", "finite number, below 1e75"),
    ("models.Phi4", lambda t: Phi4((4, 4), 0.1, 1.0).observables("high"), "x", "'high'", "real numbers"),
    *rows_of("models.CustomModel", lambda t, v: CustomModel(v, t.squares), "shape", ((4, "4"), ((2,) * 5, r"\(2, 2, 2, 2, 2\)"), ((4, 0), r"\(4, 0\)")), "whole numbers >= 1"),
    *rows_of("models.CustomModel", lambda t, v: CustomModel((4, 4), v), "energy", ((None, "None"), (1.0, r"1\.0"), ("H", "'H'")), "must be a function"),
    *rows_of("models.CustomModel", lambda t, v: CustomModel((4, 4), t.squares, v), "values", (("angles", "'angles'"), (None, "None")), "'spins' or 'real'"),
    *rows_of("models.CustomModel", lambda t, v: CustomModel((4, 4), t.squares, interaction_range=v), "interaction_range",
             ((-1, "-1"), (1.0, r"1\.0"), (True, "True"), ("near", "'near'")), WHOLE + "0"),
    ("models.CustomModel", lambda t: CustomModel((5, 5), t.chain_energy, interaction_range=0), "interaction_range", "0", "must be a distance"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=3), "observables", "3", "must be a function"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, uses_torch="yes"), "uses_torch", "'yes'", "True or False"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), lambda x: x.nothing), "energy", "AttributeError", "must give one finite number"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), lambda x: x.sum()), "energy", r"\(\)", "must"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), lambda x: np.full(len(x), math.nan)), "energy", "nan", "must"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), lambda x: t.squares(x) - t.squares(x).mean()), "energy", "alone", "must look at each"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), spoil), "energy", "changes", "must leave them alone"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=lambda x: [1]), "observables", r"\[1\]", "must be a dict"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=lambda x: {"energy": t.squares(x)}), "observables", "'energy'", "must be a non-empty text"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=lambda x: {"q": x}), "observables", r"\(2, 4, 4\)", "one finite real number"),
    *rows_of("models.CustomModel", lambda t, v: CustomModel((4, 4), t.squares, observables=lambda x: {v: x[:, 0, 0]}), "observables",
             tuple((name, repr(name)) for name in ("config", "chain", "draw", "beta", "x", "y", "z", "t", "", 1)) + (("a|b", r"'a\|b'"),), "must be a non-empty text"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=lambda x: 1 / 0), "observables", "ZeroDivisionError", "must return a dict"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=lambda x: {"q": spoil(x)}), "observables", "changes", "must leave them alone"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, observables=lambda x: {"q": x.sort(axis=1) or x[:, 0, 0]}), "observables", "changes", "must leave them alone"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), t.squares, np.array([1, 2])), "values", r"array\(\[1, 2\]\)", "'spins' or 'real'"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), lambda x: x.detach().sum((1, 2)), "real", uses_torch=True), "energy", "has no gradient", "must be written in torch.*uses_torch=False"),
    ("models.CustomModel", lambda t: CustomModel((4, 4), lambda x: (x * x.detach()).sum((1, 2)), "real", uses_torch=True), "energy", "slope", "must be written in torch.*uses_torch=False"),
    ("models.CustomModel", lambda t: t.own.energy(np.zeros((4, 4))), "x", "0", SPINS),
    ("models.CustomModel", lambda t: t.own.observables(np.ones((4, 5))), r"x\.shape", r"\(4, 5\)", r"\(\.\.\., 4, 4\)"),
    ("models.CustomModel", lambda t: t.own.energy_changes(np.ones((4, 4)), [[0, 0]], np.ones((1, 1))), r"x\.shape", r"\(4, 4\)", "array"),
    ("models.CustomModel", lambda t: t.own.energy_changes(np.ones((1, 4, 4)), [[0, 4]], np.ones((1, 1))), "sites", "4", "below the lengths"),
    ("models.CustomModel", lambda t: t.own.energy_changes(np.ones((1, 4, 4)), [[0.5, 0]], np.ones((1, 1))), "sites", r"0\.5", "whole numbers"),
    ("models.CustomModel", lambda t: t.own.energy_changes(np.ones((1, 4, 4)), [[0, 0]], np.ones((2, 1))), r"new\.shape", r"\(2, 1\)", r"\(\.\.\., 1, 1\)"),
    ("models.CustomModel", lambda t: t.own.energy_changes(np.ones((1, 4, 4)), [[0, 0]], np.zeros((1, 1))), "new", "0", SPINS),
]

EXACT = [
    ("exact.all_states", lambda t: exact.all_states((5, 5)), "shape", r"\(5, 5\)", "at most 24"),
    ("exact.all_states", lambda t: exact.all_states(4), "shape", "4", "tuple"),
    ("exact.all_states", lambda t: exact.all_states((3, 3), chunk=0), "chunk", "0", WHOLE + "1"),
    *rows_of("exact.enumerate_states", lambda t, v: enumerate_states(t.ising, v), "beta", BETAS, COLD),
    ("exact.enumerate_states", lambda t: enumerate_states(Ising((5, 5)), 0.4), "shape", r"\(5, 5\)", "at most 24"),
    ("exact.enumerate_states", lambda t: enumerate_states(None, 0.4), "model", "None", r"energy\(x\)"),
    ("exact.enumerate_states", lambda t: enumerate_states(t.nan, 0.4), "energy", "nan", "finite"),
    ("exact.enumerate_states", lambda t: enumerate_states(t.one, 0.4), "energy", r"\(512, 3, 3\)", "one finite real number"),
    ("exact.enumerate_states", lambda t: enumerate_states(t.ising, 0.4, ["m"]), "observables", r"\['m'\]", "dict"),
    ("exact.enumerate_states", lambda t: enumerate_states(t.ising, 0.4, {"m": len}), "observables", "'m'", "already"),
    ("exact.enumerate_states", lambda t: enumerate_states(t.ising, 0.4, {"q": lambda x: x}), "observables", "'q'", "one finite real number"),
    ("exact.enumerate_states", lambda t: enumerate_states(t.ising, 0.4, chunk=1.5), "chunk", r"1\.5", WHOLE + "1"),
    *rows_of("exact.transfer_matrix", lambda t, v: exact.transfer_matrix(v, 0.4), "L", ((10, "10"), (1, "1"), (4.0, r"4\.0"), ("4", "'4'")), "whole number"),
    *rows_of("exact.transfer_matrix", lambda t, v: exact.transfer_matrix(3, v), "beta", BETAS, COLD),
    ("exact.transfer_matrix", lambda t: exact.transfer_matrix(3, 0.4, J=None), "J", "None", REAL),
    ("exact.transfer_matrix", lambda t: exact.transfer_matrix(3, 0.4, h=math.inf), "h", "inf", REAL),
    ("exact.transfer_matrix", lambda t: exact.transfer_matrix(4, 1e307), "beta", r"1e\+307", "must be smaller"),
    ("exact.transfer_matrix", lambda t: exact.transfer_matrix(4, 1.0, J=1e308), "J", r"1e\+308", "must be smaller"),
    ("exact.transfer_matrix", lambda t: exact.transfer_matrix(10**10, 1.0), "L", "10000000000", "from 2 to 9"),
    ("exact.transfer_matrix", lambda t: exact.transfer_matrix(10**200, 1.0), "L", "1000", WHOLE + "2"),
    *rows_of("exact.kaufman", lambda t, v: exact.kaufman(v, 0.4), "L", ((1, "1"), (8.5, r"8\.5"), (None, "None")), WHOLE + "2"),
    *rows_of("exact.kaufman", lambda t, v: exact.kaufman(4, v), "beta", BETAS, COLD),
    *rows_of("exact.onsager", lambda t, v: exact.onsager(v), "beta", BETAS, COLD),
    *rows_of("exact.kaufman", lambda t, v: exact.kaufman(v, 0.4), "L", ((10**6 + 1, "1000001"), (10**9, "1000000000")), r"from 2 to 10\*\*6"),
    *rows_of("exact.kaufman", lambda t, v: exact.kaufman(v, 0.4), "L", ((10**30, "1000"), (10**400, "1000")), WHOLE + "2"),
    ("exact.kaufman", lambda t: exact.kaufman(1000, 1e303), "beta", r"1e\+303", "must be smaller"),
    ("exact.onsager", lambda t: exact.onsager(1e308), "beta", r"1e\+308", "must be smaller"),
]

SAMPLING = [
    ("sampling.site_at", lambda t: sampling.site_at((4, 4), (1,)), "step", r"\(1,\)", "axis|lattice axes|2"),
    ("sampling.interaction_tables", lambda t: sampling.interaction_tables(None), "model", "None", "Ising"),
    ("sampling.acceptance_table", lambda t: sampling.acceptance_table(t.ising, -1.0, sampling.interaction_tables(t.ising)), "beta", r"-1\.0", COLD),
    ("sampling.colour_sites", lambda t: sampling.colour_sites(t.nan), "model", "Lattice", "Ising"),
    ("sampling.choose_method", lambda t: sampling.choose_method(t.ising, "wolf"), "method", "'wolf'", "'metropolis', 'checkerboard'"),
    ("sampling.choose_method", lambda t: sampling.choose_method(Ising((5, 4)), "checkerboard"), "method", r"\(5, 4\)", "even lengths"),
    ("sampling.choose_method", lambda t: sampling.choose_method(Ising((4, 4), J2=0.1), "checkerboard"), "method", r"J2=0\.1", "J2=0"),
    ("sampling.choose_method", lambda t: sampling.choose_method(t.nan, "metropolis"), "method", "Lattice", "Ising model"),
    ("sampling.choose_method", lambda t: sampling.choose_method(t.cube, "local"), "method", r"\(3, 3, 3\)", "two dimensions"),
    ("sampling.choose_method", lambda t: sampling.choose_method(None), "model", "None", r"energy\(x\)|shape"),
    ("sampling.start_patterns", lambda t: sampling.start_patterns((0, 4)), "shape", r"\(0, 4\)", "whole numbers"),
    *rows_of("sampling.sample", lambda t, v: run(t, beta=v), "beta", BETAS, COLD),
    *rows_of("sampling.sample", lambda t, v: run(t, seed=v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("sampling.sample", lambda t, v: run(t, draws=v), "draws", NOT_COUNTS, WHOLE + "1"),
    ("sampling.sample", lambda t: run(t, chains=0), "chains", "0", WHOLE + "1"),
    ("sampling.sample", lambda t: run(t, thin=0), "thin", "0", WHOLE + "1"),
    *rows_of("sampling.sample", lambda t, v: run(t, burn_in=v), "burn_in", ((-1, "-1"), ("long", "'long'"), (None, "None"), (1.0, r"1\.0")), "number"),
    ("sampling.sample", lambda t: run(t, keep="all"), "keep", "'all'", "'configs', 'observables'"),
    ("sampling.sample", lambda t: run(t, method="wolf"), "method", "'wolf'", "'auto', 'metropolis'"),
    ("sampling.sample", lambda t: run(t, t.odd, method="checkerboard"), "method", r"\(5, 4\)", "even lengths"),
    ("sampling.sample", lambda t: run(t, t.cube, method="checkerboard"), "method", r"\(3, 3, 3\)", "even lengths"),
    ("sampling.sample", lambda t: run(t, "Ising"), "model", "'Ising'", "shape"),
    ("sampling.sample", lambda t: run(t, SimpleNamespace(shape=(4, 4))), "model", "namespace", r"energy\(x\)"),
    ("sampling.sample", lambda t: run(t, t.nan), "energy", "nan", "for every configuration"),
    ("sampling.sample", lambda t: run(t, t.never), "energy", "inf", "finite"),
    ("sampling.sample", lambda t: run(t, t.one), "energy", r"\(1, 3, 3\)", "one number per configuration"),
    ("sampling.sample", lambda t: run(t, settings=[1]), "settings", r"\[1\]", "dict"),
    ("sampling.sample", lambda t: run(t, settings={"step_size": 0.1}), "settings", "step_size", "accepted are: none"),
    ("sampling.sample", lambda t: run(t, method="hmc"), "method", "'hmc'", "needs real numbers"),
    ("sampling.sample", lambda t: run(t, draws=10, burn_in="auto", method="metropolis"), "draws", "10", "20 tau_int"),
    ("sampling.flip_table", lambda t: sampling.flip_table(t.ising, -1.0, sampling.interaction_tables(t.ising)), "beta", r"-1\.0", COLD),
    ("sampling.flip_table", lambda t: sampling.flip_table(t.ising, 0.4, None), "tables", "NoneType", "interaction_tables"),
    ("sampling.acceptance_table", lambda t: sampling.acceptance_table(t.ising, 0.4, (1, 2, 3)), "tables", "tuple", "interaction_tables"),
    *rows_of("sampling.site_at", lambda t, v: sampling.site_at((4, 4), v), "step", (((1.5, 1), r"1\.5"), ((True, 1), "True"), (("a", 1), "'a'"), (([], 1), r"\[\]"), (3, "3")), "whole number"),
    *rows_of("sampling.start_patterns", lambda t, v: sampling.start_patterns(v), "shape", ((4, "4"), (None, "None")), "must"),
    *rows_of("sampling.sample", lambda t, v: run(t, progress=v), "progress", (("no", "'no'"), (None, "None"), (1, "1")), "True or False"),
    ("sampling.sample", lambda t: sample(t.ising, 0.0, draws=20, method="tempering", seed=1), "beta", r"0\.0", "> 0"),
    ("sampling.sample", lambda t: sample(Ising((64, 64)), 0.4, draws=10**12, chains=2, burn_in=0, seed=1, progress=False), "draws", "1000000000000", "fewer"),
    ("sampling.flip_table", lambda t: sampling.flip_table(t.nan, 1.0, None), "model", "Lattice", "Ising"),
    ("sampling.acceptance_table", lambda t: sampling.acceptance_table(t.nan, 1.0, None), "model", "Lattice", "Ising"),
    ("sampling.observables_from_sums", lambda t: sampling.observables_from_sums(t.nan, np.zeros(4)), "model", "Lattice", "Ising"),
    ("sampling.observables_from_sums", lambda t: sampling.observables_from_sums(t.ising, np.zeros(3)), "sums", r"\(3,\)", "must"),
    ("sampling.equilibration", lambda t: sampling.equilibration(np.ones(50)), "series", r"\(50,\)", "needed"),
    ("sampling.equilibration", lambda t: sampling.equilibration(np.full((2, 50), np.nan)), "series", r"\(2, 50\)", "finite"),
    ("sampling.equilibration", lambda t: sampling.equilibration("text"), "series", "text", "needed"),
    ("sampling.find_method", lambda t: sampling.find_method(t.ising, "wolf"), "method", "'wolf'", "accepted"),
    ("sampling.find_method", lambda t: sampling.find_method(t.ising, "auto"), "method", "'auto'", "accepted"),
]

MULTISPIN = [
    *rows_of("sampling.random_state", lambda t, v: sampling.random_state(v), "generator", ((None, "None"), (3, "3"), ("PCG64", "'PCG64'")), "needed"),
    ("sampling.random_state", lambda t: sampling.random_state(np.random.default_rng(1), 0), "lanes", "0", WHOLE + "1"),
    *rows_of("multispin.binary_digits", lambda t, v: multispin.binary_digits(v), "p", ((1.5, r"1\.5"), (-0.1, r"-0\.1"), (math.nan, "nan"), ("1", "'1'"), (None, "None")), "between 0 and 1"),
    *rows_of("multispin.acceptance_digits", lambda t, v: multispin.acceptance_digits(v, 4), "exponent", BETAS, "must"),
    ("multispin.acceptance_digits", lambda t: multispin.acceptance_digits(0.4, 1), "neighbours", "1", WHOLE + "2"),
    ("multispin.pack", lambda t: multispin.pack(np.ones((3, 4, 4), np.int8), False), "x", r"\(3, 4, 4\)", "must"),
    ("multispin.pack", lambda t: multispin.pack(np.ones((64, 3, 4), np.int8), False), "shape", r"\(3, 4\)", "must"),
    ("multispin.pack", lambda t: multispin.pack(np.ones((1, 64, 4), np.int8), True), "shape", r"\(64, 4\)", "must"),
    ("multispin.pack", lambda t: multispin.pack(np.zeros((64, 4, 4), np.int8), False), "x", "0", "must"),
    ("multispin.sites_fit", lambda t: multispin.sites_fit(128), "shape", "128", "whole numbers"),
    ("sampling.sample", lambda t: run(t, method="multispin"), "method", r"K=0\.2", "needs"),
    ("sampling.sample", lambda t: run(t, t.odd, method="multispin"), "method", r"\(5, 4\)", "even lengths"),
]

TEMPERING = [
    *rows_of("tempering.temper", lambda t, v: temper(t, v), "betas", (([0.4], r"\[0\.4\]"), ([0.4, 0.3], r"\[0\.4, 0\.3\]"), (0.4, r"0\.4"), (None, "None"), ([0.4, 0.4], r"0\.4, 0\.4")), "rising"),
    ("tempering.temper", lambda t: temper(t, [-0.1, 0.4]), "betas", r"-0\.1", COLD),
    ("tempering.temper", lambda t: temper(t, [0.4, math.nan]), "betas", "nan", COLD),
    *rows_of("tempering.temper", lambda t, v: temper(t, around=v), "around", (("multispin", "'multispin'"), ("wolf", "'wolf'"), (3, "3")), "one of"),
    ("tempering.temper", lambda t: temper(t, around="hmc"), "around", "'hmc'", "needs"),
    ("tempering.temper", lambda t: temper(t, draws=0), "draws", "0", WHOLE + "1"),
    ("tempering.temper", lambda t: temper(t, seed=None), "seed", "None", WHOLE + "0"),
    ("sampling.sample", lambda t: run(t, method="tempering", settings={"betas": [0.1, 0.2]}), "betas", r"\[0\.1, 0\.2\]", "must"),
    *rows_of("sampling.sample", lambda t, v: run(t, method="tempering", settings={"hottest": v}), "hottest", ((3.0, r"3\.0"), ("a", "'a'"), (-1, "-1")), "must"),
    ("sampling.sample", lambda t: run(t, method="tempering", settings={"hottest": 0.1, "acceptance": 1 - 1e-6}), "hottest", r"0\.1", "100 temperatures"),
    ("sampling.sample", lambda t: run(t, method="tempering", settings={"acceptance": 1.0}), "acceptance", r"1\.0", "between"),
]

ANALYSIS = [
    ("analysis.format_uncertainty", lambda t: analysis.format_uncertainty("0.3", 0.1), "value", "'0.3'", "real number"),
    ("analysis.format_uncertainty", lambda t: analysis.format_uncertainty(0.3, None), "error", "None", "real number"),
    ("analysis.format_uncertainty", lambda t: analysis.format_uncertainty(0.3, -0.1), "error", r"-0\.1", ">= 0"),
    ("analysis.as_obs", lambda t: analysis.as_obs(np.ones((2, 2, 20)), "e"), "e", r"\(2, 2, 20\)", r"\(chain, draw\)"),
    ("analysis.as_obs", lambda t: analysis.as_obs(t.series, "a|b"), "name", r"a\|b", r"without '\|'"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error(np.ones((2, 9)), "e"), "e", r"\(2, 9\)", "at least 10"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error(np.where(t.series > 2, np.nan, t.series), "e"), "e", "nan", "finite number"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error(t.series * 1j, "e"), "e", "ndarray|complex", "real numbers"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error(None, "e"), "e", "None", "real numbers"),
    ("analysis.gamma_error", lambda t: analysis.gamma_error(t.series, 3), "name", "3", "text"),
    ("analysis.observable_series", lambda t: analysis.observable_series(None), "ensemble", "None", "Dataset"),
    ("analysis.observable_series", lambda t: analysis.observable_series(t.ensemble[["config"]]), "ensemble", "config", r"dims \(chain, draw\)"),
    ("analysis.linearised", lambda t: analysis.linearised(DERIVED["binder"], {"m2": t.series}, 0.4, 16), "values", "m4", SAYS),
    ("analysis.linearised", lambda t: analysis.linearised(DERIVED["susceptibility"], {"m2": t.series, "abs_m": t.series}, -1.0, 16), "beta", r"-1\.0", COLD),
    ("analysis.linearised", lambda t: analysis.linearised(DERIVED["susceptibility"], {"m2": t.series, "abs_m": t.series}, 1.0, 0), "n_sites", "0", WHOLE + "1"),
    ("analysis.estimates", lambda t: analysis.estimates({"energy": t.series}), "ensemble", "dict", "Dataset"),
    ("analysis.estimates", lambda t: analysis.estimates(t.lost), r"ensemble\.attrs", "'beta', 'shape'", r"sample\(\)"),
    ("analysis.diagnostics", lambda t: analysis.diagnostics(t.series), "ensemble", "ndarray", "Dataset"),
    ("analysis.autocorrelation", lambda t: analysis.autocorrelation(np.ones((2, 50)), "m"), "m", r"1\.0", "series that changes is needed"),
    *rows_of("analysis.Autocorrelation", lambda t, v: analysis.autocorrelation(t.series).bias(v), "S",
             ((0.0, r"0\.0"), (-1.0, r"-1\.0"), (math.nan, "nan"), ("2", "'2'")), "must be"),
    ("analysis.two_point_function", lambda t: analysis.two_point_function(t.bare), "ensemble", "no configurations", "keep='configs'"),
    ("analysis.two_point_function", lambda t: analysis.two_point_function(t.ensemble.isel(x=slice(0, 3))), "axis", r"\(3, 4\)", "0 to 1"),
    *rows_of("analysis.two_point_function", lambda t, v: analysis.two_point_function(t.ensemble, axis=v), "axis",
             ((2, "2"), (-1, "-1"), (True, "True"), ("x", "'x'"), (0.5, r"0\.5")), "from 0 to 1"),
    *rows_of("analysis.two_point_map", lambda t, v: analysis.two_point_map(t.ensemble, connected=v), "connected",
             ((1, "1"), ("no", "'no'"), (None, "None")), "True or False"),
    ("analysis.structure_factor", lambda t: analysis.structure_factor(None), "ensemble", "None", "Dataset"),
    ("analysis.correlation_length", lambda t: analysis.correlation_length(t.bare), "ensemble", "no configurations", "keep='configs'"),
    ("analysis.correlation_length", lambda t: analysis.correlation_length(t.ensemble.isel(x=slice(0, 1))), r"ensemble\.config", r"1, 4\)", "lengths >= 2"),
]

NETWORKS = [
    ("architectures.shell_offsets", lambda t: architectures.shell_offsets(0, 1), "ndim", "0", WHOLE + "1"),
    ("architectures.shell_offsets", lambda t: architectures.shell_offsets(2, 1.5), "shells", r"1\.5", WHOLE + "1"),
    ("architectures.environment", lambda t: architectures.environment("up"), "x", "'up'", SAYS),
    ("architectures.environment", lambda t: architectures.environment(np.ones(4)), "x", r"\(4,\)", SAYS),
    ("architectures.environment", lambda t: architectures.environment(t.spin, shells=0), "shells", "0", WHOLE + "1"),
    *rows_of("architectures.LocalEnergyNet", lambda t, v: LocalEnergyNet(v), "ndim", ((0, "0"), ("2", "'2'"), (None, "None")), ">= 1"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(5), "ndim", "5", "1 to 4"),
    *rows_of("architectures.LocalEnergyNet", lambda t, v: LocalEnergyNet(hidden=v), "hidden",
             (("16", "'16'"), (16, "16"), ((16, 0), "0"), (None, "None"), (16.0, r"16\.0")), r"sequence|whole number"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(shells=0), "shells", "0", WHOLE + "1"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(outputs=0), "outputs", "0", WHOLE + "1"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(flip_symmetric="no"), "flip_symmetric", "'no'", "True or False"),
    *rows_of("architectures.LocalEnergyNet", lambda t, v: LocalEnergyNet(seed=v), "seed", SEEDS, WHOLE + "0"),
    ("architectures.LocalEnergyNet", lambda t: t.net(t.half), "x", r"0\.5", SPINS),
    ("architectures.LocalEnergyNet", lambda t: t.net(t.flat), "x", r"\(40, 16\)", "2-dimensional"),
    ("architectures.LocalEnergyNet", lambda t: t.net.features(t.x[:0]), "x", "0", "at least one"),
    ("architectures.pair_network", lambda t: architectures.pair_network(ndim=5), "ndim", "5", "1 to 4"),
    ("architectures.pair_network", lambda t: architectures.pair_network(shells=0), "shells", "0", WHOLE + "1"),
    ("architectures.pattern_features", lambda t: architectures.pattern_features(t.net3), "net", "ndim=3", "ndim=2"),
    ("architectures.pattern_features", lambda t: architectures.pattern_features(LocalEnergyNet(shells=3)), "net", "shells=3", "at most 2"),
    ("architectures.pattern_features", lambda t: architectures.pattern_features(None), "net", "None", "LocalEnergyNet|network"),
    *rows_of("architectures.torch_generators", lambda t, v: architectures.torch_generators(v, 2), "seed", SEEDS, WHOLE + "0"),
    ("architectures.torch_generators", lambda t: architectures.torch_generators(0, 0), "n", "0", WHOLE + "1"),
    ("architectures.check_choice", lambda t: architectures.check_choice("dtype", 64, ("a", "b")), "dtype", "64", "one of 'a', 'b'"),
    ("architectures.check_widths", lambda t: architectures.check_widths("hidden", (4, -1)), "hidden", "-1", WHOLE + "1"),
    ("architectures.as_inputs", lambda t: architectures.as_inputs(np.ones((2, 3)), (4,), torch.zeros(1)), "x", r"\(2, 3\)", r"\(n, 4\)"),
    ("architectures.window_offsets", lambda t: architectures.window_offsets(2, -1), "window", "-1", WHOLE + "0"),
    *rows_of("architectures.point_group", lambda t, v: architectures.point_group(v), "ndim", NOT_COUNTS, WHOLE + "1"),
    ("architectures.point_group", lambda t: architectures.point_group(7), "ndim", "7", "at most 6"),
    *rows_of("architectures.kernel_images", lambda t, v: architectures.kernel_images(v, 3), "ndim", NOT_COUNTS, WHOLE + "1"),
    *rows_of("architectures.kernel_images", lambda t, v: architectures.kernel_images(2, v), "width", NOT_COUNTS, WHOLE + "1"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(window=-1), "window", "-1", WHOLE + "0"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(window=1, hidden=()), "window", "1", "must be 0"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(values="complex"), "values", "'complex'", "'spins', 'real'"),
    ("architectures.LocalEnergyNet", lambda t: LocalEnergyNet(values="real")(np.full((1, 4, 4), np.nan)), "x", "nan", "finite"),
    *rows_of("architectures.MLP", lambda t, v: architectures.MLP(v), "shape", ((4, "4"), ((), r"\(\)"), ((4, 0), r"\(4, 0\)"), (None, "None")), "tuple"),
    ("architectures.MLP", lambda t: architectures.MLP((4,), hidden=3), "hidden", "3", "sequence"),
    ("architectures.MLP", lambda t: architectures.MLP((4,), outputs=0), "outputs", "0", WHOLE + "1"),
    ("architectures.MLP", lambda t: architectures.MLP((4,), activation="step"), "activation", "'step'", "'tanh'"),
    ("architectures.MLP", lambda t: architectures.MLP((4,), dtype="int8"), "dtype", "'int8'", "'float32'"),
    ("architectures.MLP", lambda t: architectures.MLP((4,), flip_symmetric=1), "flip_symmetric", "1", "True or False"),
    *rows_of("architectures.MLP", lambda t, v: architectures.MLP((4,), seed=v), "seed", SEEDS, WHOLE + "0"),
    ("architectures.MLP", lambda t: architectures.MLP((4,))(np.ones((2, 3))), "x", r"\(2, 3\)", r"\(n, 4\)"),
    ("architectures.MLP", lambda t: architectures.MLP((2,)).standardise(np.full((3, 2), np.inf)), "x", "finite", "finite"),
]

TRAINING = [
    ("training.labelled", lambda t: labelled(t.ising, 0.4, 0, seed=0), "n", "0", WHOLE + "1"),
    ("training.labelled", lambda t: labelled(t.ising, math.nan, 4, seed=0), "beta", "nan", COLD),
    ("training.labelled", lambda t: labelled(t.ising, 0.4, 4, seed=0, thin=0), "thin", "0", WHOLE + "1"),
    ("training.labelled", lambda t: labelled(None, 0.4, 4, seed=0), "model", "None", "shape"),
    *rows_of("training.labelled", lambda t, v: labelled(t.ising, 0.4, 4, seed=v), "seed", SEEDS, WHOLE + "0"),
    ("training.write_file", lambda t: training.write_file(t.folder / "none" / "a.txt", ""), "path", "a.txt", IN_FOLDER),
    ("training.write_file", lambda t: training.write_file(t.folder / "text.pt" / "a.txt", b""), "path", "a.txt", IN_FOLDER),
    ("training.write_file", lambda t: training.write_file(t.folder / "folder", "new"), "path", "folder", IN_FOLDER),
    *rows_of("training.write_file", lambda t, v: training.write_file(v, "new"), "path", ((None, "None"), ("", "''"), ("/", "'/'")), "file name"),
    ("training.write_file", lambda t: training.write_file(t.folder / "old.json", 3), "content", "3", "text|str|bytes"),
    ("training.save_state", lambda t: save_state(t.folder / "none" / "a.pt", {}), "path", "a.pt", IN_FOLDER),
    ("training.save_state", lambda t: save_state(t.folder / "text.pt" / "a.pt", {}), "path", "a.pt", IN_FOLDER),
    ("training.save_state", lambda t: save_state(t.folder / "folder", {}), "path", "folder", IN_FOLDER),
    ("training.save_state", lambda t: save_state(None, {}), "path", "None", "file name"),
    ("training.save_state", lambda t: save_state(t.folder / "layer.pt", {"f": lambda: 0}), "state", "lambda|function", SAYS),
    ("training.save_state", lambda t: save_state(t.folder / "layer.pt", [1, 2]), "state", r"\[1, 2\]|list", "dict"),
    ("training.load_state", lambda t: load_state(t.folder / "none.pt", "training"), "path", "none.pt", "written by uqphys"),
    ("training.as_samples", lambda t: training.as_samples(t.x, t.y[:5]), "y", r"\(5, 1\)", r"\(40, d\)"),
    ("training.as_samples", lambda t: training.as_samples(t.x, t.y, groups=[0]), "groups", r"\(1,\)", r"\(40,\)"),
    ("training.load_state", lambda t: load_state(t.folder / "cut.pt", "LastLayer"), "path", "cut.pt.*truncated", SAYS),
    ("training.load_state", lambda t: load_state(t.folder / "empty.pt", "LastLayer"), "path", "empty.pt.*truncated", SAYS),
    ("training.load_state", lambda t: load_state(t.folder / "text.pt", "LastLayer"), "path", "text.pt", SAYS),
    ("training.load_state", lambda t: load_state(t.folder / "folder", "LastLayer"), "path", "folder", SAYS),
    ("training.load_state", lambda t: load_state(t.folder / "other.pt", "LastLayer"), "path", "other.pt", "'LastLayer'"),
    ("training.load_state", lambda t: load_state(None, "LastLayer"), "path", "None", "file|expected"),
    ("training.check_labelled", lambda t: training.check_labelled(t.x, t.y[:, 0]), "y", r"\(40,\)", r"\(40, d\)"),
    ("training.check_labelled", lambda t: training.check_labelled(t.x, t.y[1:]), "y", r"\(39, 1\)", r"\(40, d\)"),
    ("training.check_labelled", lambda t: training.check_labelled(t.x, t.hole), "y", "nan", "finite numbers"),
    ("training.check_labelled", lambda t: training.check_labelled(t.x, "cold"), "y", "'cold'", "numbers"),
    ("training.check_labelled", lambda t: training.check_labelled(3, t.y), "x", "3", "configurations"),
    ("training.check_labelled", lambda t: training.check_labelled(t.x[:2], t.y[:2], minimum=4), "x", "2", "at least 4"),
    ("training.train", lambda t: fit_net(t, network=None), "network", "None", "head"),
    ("training.train", lambda t: fit_net(t, x=t.half), "x", r"0\.5", SPINS),
    ("training.train", lambda t: fit_net(t, x=t.flat), "x", r"\(40, 16\)", "2-dimensional"),
    ("training.train", lambda t: fit_net(t, y=t.hole), "y", "nan", "finite"),
    ("training.train", lambda t: fit_net(t, y=np.hstack([t.y, t.y])), "y", r"\(40, 2\)", SAYS),
    *rows_of("training.train", lambda t, v: fit_net(t, epochs=v), "epochs", NOT_COUNTS, WHOLE + "1"),
    *rows_of("training.train", lambda t, v: fit_net(t, learning_rate=v), "learning_rate",
             ((0, "0"), (-1e-3, r"-0\.001"), (math.nan, "nan"), ("fast", "'fast'"), ([0.1], r"\[0\.1\]")), "positive number"),
    *rows_of("training.train", lambda t, v: fit_net(t, validation=v), "validation", ((1.0, r"1\.0"), (-0.1, r"-0\.1"), (None, "None")), "less than 1"),
    ("training.train", lambda t: fit_net(t, validation=0.999), "validation", r"0\.999", SAYS),
    ("training.train", lambda t: fit_net(t, batch_size=0), "batch_size", "0", WHOLE + "1"),
    ("training.train", lambda t: fit_net(t, patience=0), "patience", "0", WHOLE + "1"),
    ("training.train", lambda t: fit_net(t, checkpoint_every=0), "checkpoint_every", "0", WHOLE + "1"),
    *rows_of("training.train", lambda t, v: fit_net(t, seed=v), "seed", SEEDS, WHOLE + "0"),
    ("training.train", lambda t: fit_net(t, checkpoint=t.folder / "none" / "a.pt"), "checkpoint|path", "a.pt", IN_FOLDER),
    ("training.train", lambda t: fit_net(t, checkpoint=t.folder / "cut.pt"), "checkpoint|path", "cut.pt", SAYS),
    ("training.train", lambda t: fit_net(t, checkpoint=t.folder / "layer.pt"), "checkpoint|path", "layer.pt", "'training'"),
    ("training.train", lambda t: fit_net(t, batch_size=33), "batch_size", "33", "at most 32"),
    ("training.train", lambda t: fit_net(t, x=np.where(t.x > 0, np.nan, 1.0)), "x", "nan", "finite"),
    ("training.train", lambda t: fit_net(t, x=np.full(t.x.shape, "up")), "x", "<U2", "numbers"),
    ("training.train", lambda t: fit_net(t, loss="absolute"), "loss", "'absolute'", "'cross_entropy'"),
    ("training.train", lambda t: fit_net(t, loss="cross_entropy"), "y", r"\d", "between 0 and 1"),
    ("training.train", lambda t: fit_net(t, optimiser="sgd"), "optimiser", "'sgd'", "'lbfgs'"),
    ("training.train", lambda t: fit_net(t, schedule="stairs"), "schedule", "'stairs'", "'cosine'"),
    ("training.train", lambda t: fit_net(t, weight_decay=-0.1), "weight_decay", r"-0\.1", ">= 0"),
    ("training.train", lambda t: fit_net(t, device="moon"), "device", "'moon'", "'cpu'"),
    ("training.train", lambda t: fit_net(t, groups=np.zeros(3)), "groups", r"\(3,\)", r"\(40,\)"),
    ("training.train", lambda t: fit_net(t, groups=np.zeros(40)), "validation", r"0\.2", "more chains"),
    ("training.save_network", lambda t: training.save_network(t.folder / "a.pt", None), "network", "None", "Network"),
    ("training.save_network", lambda t: training.save_network(t.folder / "none" / "a.pt", t.net), "path", "a.pt", IN_FOLDER),
    ("training.load_network", lambda t: training.load_network(t.folder / "none.pt"), "path", "none.pt", "written by uqphys"),
    ("training.load_network", lambda t: training.load_network(t.folder / "layer.pt"), "path", "layer.pt", "'network'"),
    ("training.load_network", lambda t: training.load_network(t.folder / "cut.pt"), "path", "cut.pt.*truncated", SAYS),
    ("training.load_network", lambda t: training.load_network(t.folder / "none.pt", device="moon"), "device", "'moon'", "'cpu'"),
    *rows_of("training.check_device", lambda t, v: training.check_device(v), "device", (("moon", "'moon'"), (1.5, r"1\.5"), ("cuda:99", "cuda:99")), "'cpu'"),
]

PREDICTIVE = [
    ("predictive.Predictive", lambda t: predicted(mean=np.zeros(3)), "mean", r"\(3,\)", r"\(n, d\)"),
    ("predictive.Predictive", lambda t: predicted(mean="high"), "mean", "'high'", "numbers"),
    ("predictive.Predictive", lambda t: predicted(mean=np.full((3, 2), np.nan)), "mean", "nan", "finite"),
    ("predictive.Predictive", lambda t: predicted(epistemic=np.ones((2, 3))), "epistemic", r"\(2, 3\)", r"\(3, 2\)"),
    ("predictive.Predictive", lambda t: predicted(aleatoric=np.full((3, 2), -1.0)), "aleatoric", r"-1\.0", ">= 0"),
    ("predictive.Predictive", lambda t: predicted(draws=np.zeros((4, 2, 3))), "draws", r"\(4, 2, 3\)", r"\(s, 3, 2\)"),
    ("predictive.Predictive", lambda t: predicted(draws=np.zeros((0, 3, 2))), "draws", r"\(0, 3, 2\)", SAYS),
    ("predictive.Predictive", lambda t: predicted(correlation=np.eye(3)), "correlation", r"\(3, 3\)", r"\(2, 2\)"),
    ("predictive.Predictive", lambda t: predicted(correlation=np.array([[1.0, 2.0], [2.0, 1.0]])), "correlation", "2", SAYS),
    ("predictive.sample_predictive", lambda t: predictive.sample_predictive(t.belief, 0, 0), "k", "0", WHOLE + "1"),
    ("predictive.Predictive", lambda t: predicted(degrees_of_freedom=2), "degrees_of_freedom", "2", "> 2"),
    ("predictive.Predictive", lambda t: predicted(noise=np.ones((3, 2))), "noise", r"\(3, 2\)", r"\(4, 3, 2\)"),
    ("predictive.Predictive", lambda t: predicted(noise=-np.ones((4, 3, 2))), "noise", r"-1\.0", ">= 0"),
    ("predictive.mixture_predictive", lambda t: predictive.mixture_predictive(np.ones(3)), "draws", r"\(3,\)", r"\(s, n, d\)"),
    ("predictive.cdf", lambda t: predictive.cdf(t.belief, t.y[:5]), "y", r"\(5, 1\)", r"\(40, 1\)"),
    ("predictive.take", lambda t: predictive.take(t.belief, [99]), "rows", "99", "at least one of the 40"),
    ("predictive.sample_predictive", lambda t: predictive.sample_predictive(t.belief, 10**18, 0), "k", "1000000000000000000", "at most"),
    ("predictive.calibration", lambda t: predictive.calibration(t.belief, t.y, [[0.1], [0.2, 0.3]]), "levels", "0.1", "expected"),
    ("predictive.average_score", lambda t: predictive.average_score(t.belief, t.y, 41), "size", "41", "at most the 40"),
    ("predictive.sample_predictive", lambda t: predictive.sample_predictive(None, 1, 0), "predictive", "None", "Predictive"),
    *rows_of("predictive.sample_predictive", lambda t, v: predictive.sample_predictive(t.belief, 1, v), "seed", SEEDS, WHOLE + "0"),
    ("predictive.log_prob", lambda t: predictive.log_prob(t.belief, t.y[:, 0]), "y", r"\(40,\)", r"\(40, 1\)"),
    ("predictive.log_prob", lambda t: predictive.log_prob(t.belief, t.hole), "y", "nan", "finite"),
    ("predictive.log_prob", lambda t: predictive.log_prob(predicted(epistemic=np.zeros((3, 2)), aleatoric=np.zeros((3, 2))), np.zeros((3, 2))),
     "variance", "0", "positive"),
    *rows_of("predictive.interval", lambda t, v: predictive.interval(t.belief, v), "level",
             ((0, "0"), (1, "1"), (1.5, r"1\.5"), (-0.1, r"-0\.1"), (math.nan, "nan"), ("95%", "'95%'"), (None, "None"), (True, "True")), "between 0 and 1"),
    ("predictive.score", lambda t: predictive.score(t.belief, t.y[:5]), "y", r"\(5, 1\)", r"\(40, 1\)"),
    ("predictive.score", lambda t: predictive.score(t.belief, t.hole), "y", "nan", "finite"),
    ("predictive.calibration", lambda t: predictive.calibration(t.belief, t.y.T), "y", r"\(1, 40\)", r"\(40, 1\)"),
    ("predictive.calibration", lambda t: predictive.calibration(t.belief, t.y, [0.5, 1.0]), "level", r"1\.0", "between 0 and 1"),
    ("predictive.calibration", lambda t: predictive.calibration(t.belief, t.y, "all"), "level", "'all'", SAYS),
]

infer = lambda t, **changes: last_layer.last_layer_posterior(**dict(t.layer, **changes))
maximise = lambda t, **changes: last_layer.expectation_maximisation(**dict(t.em, **changes))
fit = lambda x, y, **options: LastLayer(**options).fit(x, y, progress=False)
BNN = [
    ("last_layer.last_layer_posterior", lambda t: infer(t, features=np.ones(6)), "features", r"\(6,\)", r"\(n, p\)"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, targets=np.ones((5, 1))), "targets", r"\(5, 1\)", SAYS),
    ("last_layer.last_layer_posterior", lambda t: infer(t, targets=np.full((6, 1), np.nan)), "targets", "nan", "finite"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, prior_mean=np.zeros((2, 1))), "prior_mean", r"\(2, 1\)", r"\(1, 2\)"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, column_covariance=-np.eye(2)), "column_covariance", "-1", "positive"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, row_covariance=-np.eye(1)), "row_covariance", "-1", "positive"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, sigma=np.ones(5)), "sigma", r"\(5,\)", r"\(6,\)"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, sigma=np.zeros(6)), "sigma", "0", "positive"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, targets=np.full((6, 1), np.nan)), "targets", "nan", "finite"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, prior_mean=np.zeros((1, 3))), "prior_mean", r"\(1, 3\)", r"\(1, 2\)"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, column_covariance="diag"), "column_covariance", "'diag'", "'scalar' or 'full'"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, column_covariance="full", strength=-1.0), "strength", r"-1\.0", ">= 0"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, iterations=0), "iterations", "0", WHOLE + "1"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, tolerance=math.nan), "tolerance", "nan", "number"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, directions=np.ones((5, 1))), "directions", r"\(5, 1\)", SAYS),
    ("last_layer.draw_weights", lambda t: last_layer.draw_weights(t.posterior, np.eye(1), 0, 0), "k", "0", WHOLE + "1"),
    ("last_layer.draw_weights", lambda t: last_layer.draw_weights(t.posterior, np.eye(2), 3, 0), "row_covariance", r"\(2, 2\)", r"\(1, 1\)"),
    ("last_layer.last_layer_predictive", lambda t: last_layer.last_layer_predictive(np.ones((3, 2)), None, np.eye(1), np.ones(3), 2, 0), "posterior", "None", "expected a Posterior"),
    ("last_layer.update_posterior", lambda t: last_layer.update_posterior(None, np.ones((2, 2)), np.ones((2, 1)), np.eye(1), np.ones(2)), "posterior", "None", "expected a Posterior"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, sigma=np.full(6, 1e-160)), "sigma", r"e\+1", "less than 1e140"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, column_covariance=np.eye(2)), "column_covariance", "array", "'scalar' or 'full'"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, strength=5.0), "strength", r"5\.0", "must be 0"),
    *rows_of("last_layer.draw_weights", lambda t, v: last_layer.draw_weights(t.posterior, np.eye(1), 3, v), "seed", SEEDS, WHOLE + "0"),
    ("last_layer.last_layer_predictive", lambda t: last_layer.last_layer_predictive(np.ones((3, 2)), t.posterior, np.eye(1), np.ones(3), 0, 0), "draws", "0", WHOLE),
    ("last_layer.last_layer_predictive", lambda t: last_layer.last_layer_predictive(np.ones((3, 5)), t.posterior, np.eye(1), np.ones(3), 2, 0), "features", r"\(3, 5\)", SAYS),
    ("last_layer.last_layer_predictive", lambda t: last_layer.last_layer_predictive(np.ones((3, 2)), t.posterior, np.eye(1), np.ones(2), 2, 0), "sigma", r"\(2,\)", r"\(3,\)"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, row_covariance=last_layer.InverseWishart(np.eye(1), 0.0)), "degrees_of_freedom", r"0\.0", "exceed"),
    ("last_layer.last_layer_posterior", lambda t: infer(t, row_covariance=last_layer.InverseWishart(-np.eye(1), 3.0)), "scale", "-1", "positive"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, row_prior=np.eye(1)), "row_prior", "ndarray", "InverseWishart"),
    ("last_layer.expectation_maximisation", lambda t: maximise(t, move_prior_mean="yes"), "move_prior_mean", "'yes'", "True or False"),
    ("last_layer.last_layer_predictive", lambda t: last_layer.last_layer_predictive(np.ones((3, 2)), t.posterior, last_layer.InverseWishart(np.eye(1), 1.5),
                                                                                   np.ones(3), 2, 0), "degrees_of_freedom", r"1\.5", "exceed"),
    ("last_layer.last_layer_interpolation", lambda t: last_layer.last_layer_interpolation(*(t.layer[k] for k in ("features", "targets", "prior_mean",
                                                                                           "column_covariance", "row_covariance"))), "targets", "6 rows", "must be"),
    ("last_layer.update_posterior", lambda t: last_layer.update_posterior(t.posterior, np.ones((2, 2)), np.ones((2, 1)), np.eye(1), [1.0, 0.0]), "sigma", r"0\.0", "positive"),
    ("last_layer.update_posterior", lambda t: last_layer.update_posterior(t.posterior, np.ones((2, 3)), np.ones((2, 1)), np.eye(1), np.ones(2)), "features", r"\(2, 3\)", r"\(2, 2\)"),
    *rows_of("bnn.LastLayer", lambda t, v: LastLayer(seed=v), "seed", SEEDS, WHOLE + "0"),
    ("bnn.LastLayer", lambda t: LastLayer("deep"), "architecture", "'deep'", "network"),
    *rows_of("bnn.LastLayer", lambda t, v: LastLayer(epochs=v), "epochs", ((-1, "-1"), (1.5, r"1\.5"), (None, "None")), WHOLE + "0"),
    *rows_of("bnn.LastLayer", lambda t, v: LastLayer(draws=v), "draws", ((0, "0"), (1, "1"), (True, "True")), WHOLE + "2"),
    ("bnn.LastLayer", lambda t: LastLayer(column_covariance="diag"), "column_covariance", "'diag'", "'scalar', 'full'"),
    ("bnn.LastLayer", lambda t: LastLayer(column_covariance=np.eye(2)), "column_covariance", "array", "'scalar', 'full'"),
    ("bnn.LastLayer", lambda t: LastLayer(strength=5.0), "strength", r"5\.0", "must be 0"),
    ("bnn.LastLayer", lambda t: LastLayer(draws=10**18), "draws", "1000000000000000000", "at most 1000000"),
    *rows_of("bnn.LastLayer", lambda t, v: LastLayer(strength=v), "strength", ((-1, "-1"), (math.nan, "nan"), (None, "None"), ([1], r"\[1\]")), COLD),
    *rows_of("bnn.LastLayer", lambda t, v: LastLayer(noise=v), "noise", (("no", "'no'"), (True, "True"), (None, "None")), "'homoscedastic', 'heteroscedastic', 'none'"),
    *rows_of("bnn.LastLayer", lambda t, v: LastLayer(row_covariance=v), "row_covariance", (("known", "'known'"), (1, "1")), "'best', 'unknown'"),
    ("bnn.LastLayer", lambda t: LastLayer(prior_mean="zero"), "prior_mean", "'zero'", "'constant', 'head'"),
    ("bnn.LastLayer", lambda t: LastLayer(t.net, prior_mean="head"), "epochs", "1000", "must be 0"),
    ("bnn.LastLayer", lambda t: LastLayer(prior_mean="head", epochs=0), "architecture", "None", "expected a network"),
    ("bnn.LastLayer", lambda t: LastLayer(noise="none", column_covariance="full"), "column_covariance", "'full'", "must be 'scalar'"),
    ("bnn.LastLayer", lambda t: LastLayer(architectures.pair_network(), noise="none").fit(t.x, t.y**3), "noise", "2 features", "expected noise='homoscedastic'"),
    ("bnn.LastLayer", lambda t: LastLayer(t.net, epochs=0, prior_mean="head").fit(t.x, np.hstack([t.y, t.y])), "y", r"\(40, 2\)", r"\(n, 1\)"),
    ("bnn.LastLayer", lambda t: LastLayer().fit(t.x, t.y, groups=np.zeros(3)), "groups", r"\(3,\)", r"\(40,\)"),
    ("bnn.LastLayer", lambda t: LastLayer.transfer("net"), "architecture", "'net'", "network"),
    ("bnn.LastLayer", lambda t: LastLayer.transfer(LastLayer(t.net)), "source", "not fitted", r"fit\(x, y\)"),
    ("bnn.LastLayer", lambda t: LastLayer.transfer(t.net, epochs=3), "epochs", "3", "must be left out"),
    ("bnn.LastLayer", lambda t: LastLayer(t.net).update(t.x, t.y), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bnn.LastLayer", lambda t: t.surrogate.update(t.x, t.hole), "y", "nan", "finite"),
    ("bnn.LastLayer", lambda t: t.surrogate.update(t.x, np.hstack([t.y, t.y])), "y", r"\(40, 2\)", r"\(40, 1\)"),
    ("bnn.LastLayer", lambda t: fit(t.x, t.y[:, 0]), "y", r"\(40,\)", r"\(40, d\)"),
    ("bnn.LastLayer", lambda t: fit(t.x, t.hole), "y", "nan", "finite"),
    ("bnn.LastLayer", lambda t: fit(t.x[:3], t.y[:3]), "x", "3", "at least 4"),
    ("bnn.LastLayer", lambda t: fit(t.half, t.y, epochs=0), "x", r"0\.5", SPINS),
    ("bnn.LastLayer", lambda t: fit(t.x[:, 0, 0], t.y, epochs=0), "x", r"\(40,\)", SAYS),
    ("bnn.LastLayer", lambda t: LastLayer().mean(t.x), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bnn.LastLayer", lambda t: LastLayer(t.net).predict(t.x), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bnn.LastLayer", lambda t: LastLayer(t.net).pattern_energies(), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bnn.LastLayer", lambda t: LastLayer().save(t.folder / "a.pt"), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bnn.LastLayer", lambda t: t.surrogate.predict(t.half), "x", r"0\.5", SPINS),
    ("bnn.LastLayer", lambda t: t.surrogate.mean(t.flat), "x", r"\(40, 16\)", "2-dimensional"),
    ("bnn.LastLayer", lambda t: t.surrogate.save(t.folder / "none" / "a.pt"), "path", "a.pt", IN_FOLDER),
    ("bnn.LastLayer", lambda t: t.surrogate.save(t.folder / "folder"), "path", "folder", IN_FOLDER),
    ("bnn.LastLayer", lambda t: LastLayer.load(t.folder / "none.pt"), "path", "none.pt", "written by uqphys"),
    ("bnn.LastLayer", lambda t: LastLayer.load(t.folder / "cut.pt"), "path", "cut.pt.*truncated", SAYS),
    ("bnn.LastLayer", lambda t: LastLayer.load(t.folder / "other.pt"), "path", "other.pt", "'LastLayer'"),
]

GP = [
    *rows_of("lattice_gp.lattice_operations", lambda t, v: lattice_gp.lattice_operations(v), "shape", ((4, "4"), ((4, 0), r"\(4, 0\)")), "tuple"),
    ("lattice_gp.symmetric_forms", lambda t: lattice_gp.symmetric_forms(t.half, True, False), "x", r"0\.5", SPINS),
    ("lattice_gp.symmetric_forms", lambda t: lattice_gp.symmetric_forms(t.x, "no"), "flip", "no", SAYS),
    ("lattice_gp.lattice_features", lambda t: lattice_gp.lattice_features(t.half), "x", r"0\.5", SPINS),
    ("lattice_gp.lattice_features", lambda t: lattice_gp.lattice_features(t.x, "no"), "flip_symmetric", "no", SAYS),
    ("lattice_gp.lattice_features", lambda t: lattice_gp.lattice_features(t.x, lattice_symmetric=1), "lattice_symmetric", "1", SAYS),
    ("lattice_gp.canonical_forms", lambda t: lattice_gp.canonical_forms(t.half), "x", r"0\.5", SPINS),
    ("lattice_gp.canonical_forms", lambda t: lattice_gp.canonical_forms(1.5 * t.x), "x", r"1\.5", SPINS),
    ("lattice_gp.canonical_forms", lambda t: lattice_gp.canonical_forms(np.ones((2, 2, 2, 2, 2))), "x", r"\(2, 2, 2, 2, 2\)", SAYS),
    ("lattice_gp.distinct_rows", lambda t: lattice_gp.distinct_rows(3), "x", "3", "configurations"),
    ("lattice_gp.distinct_rows", lambda t: lattice_gp.distinct_rows(t.half), "x", r"0\.5", SPINS),
    ("lattice_gp.pattern_labels", lambda t: lattice_gp.pattern_labels(flip="no"), "flip", "'no'", "True or False"),
    ("lattice_gp.linear_terms", lambda t: lattice_gp.linear_terms(flip="no"), "flip", "'no'", "True or False"),
    *rows_of("lattice_gp.pattern_kernel", lambda t, v: lattice_gp.pattern_kernel(v), "correlation", ((1.0, r"1\.0"), (-0.1, r"-0\.1"), (math.nan, "nan"), (None, "None"), ("a", "'a'")),
             "at least 0 and less than 1"),
    ("lattice_gp.class_counts", lambda t: lattice_gp.class_counts(t.half), "x", r"0\.5", SPINS),
    ("lattice_gp.class_counts", lambda t: lattice_gp.class_counts(random_spins((3, 3, 3), 2, 0)), "x", r"\(2, 3, 3, 3\)", SAYS),
    ("lattice_gp.class_counts", lambda t: lattice_gp.class_counts(t.x, chunk=0), "chunk", "0", WHOLE + "1"),
    ("lattice_gp.far_terms", lambda t: lattice_gp.far_terms(t.half), "x", r"0\.5", SPINS),
    ("lattice_gp.far_terms", lambda t: lattice_gp.far_terms(t.x[0]), "x", r"\(4, 4\)", SAYS),
    ("lattice_gp.far_terms", lambda t: lattice_gp.far_terms(t.x, shells=0), "shells", "0", "whole number"),
    *rows_of("lattice_gp.LatticeGP", lambda t, v: LatticeGP(correlations=v), "correlations", (("abc", "'abc'"), ((), r"\(\)"), ((0.5, 1.0), r"1\.0"), (None, "None"), (["a"], r"\['a'\]")), "sequence of numbers"),
    *rows_of("lattice_gp.LatticeGP", lambda t, v: LatticeGP(nuggets=v), "nuggets", (((0.0,), r"0\.0"), ((math.nan,), "nan"), ((math.inf,), "inf")), "sequence of numbers"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP(linear=(-1.0,)), "linear", r"-1\.0", "sequence of numbers"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP(flip_symmetric="no"), "flip_symmetric", "'no'", "True or False"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP(draws=1), "draws", "1", WHOLE + "2"),
    *rows_of("lattice_gp.LatticeGP", lambda t, v: LatticeGP(seed=v), "seed", SEEDS, WHOLE + "0"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(t.x[:4], t.y[:4]), "x", "4", "at least 5"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(np.repeat(t.x[:4], 2, axis=0), np.repeat(t.y[:4], 2, axis=0)), "x", r"\d distinct", "at least 5"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(np.repeat(t.x[:6], 2, axis=0), np.arange(12.0)[:, None]), "y", "y=", "equivalent configuration"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(t.x, np.hstack([t.y, t.y])), "y", r"\(40, 2\)", r"\(40, 1\)"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(t.x, t.hole), "y", "nan", "finite"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(t.flat, t.y), "x", r"\(40, 16\)", "2 or 3 dimensions"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().fit(t.half, t.y), "x", r"0\.5", SPINS),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().predict(t.x), "process", "not fitted", r"fit\(x, y\)"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP().save(t.folder / "a.pt"), "process", "not fitted", r"fit\(x, y\)"),
    ("lattice_gp.LatticeGP", lambda t: t.gp.predict(random_spins((3, 3, 3), 2, 0)), "x", r"\(2, 3, 3, 3\)", "2-dimensional"),
    ("lattice_gp.LatticeGP", lambda t: t.gp.predict(t.half), "x", r"0\.5", SPINS),
    ("lattice_gp.LatticeGP", lambda t: t.gp.predict(t.x[:0]), "x", "0", SAYS),
    ("lattice_gp.LatticeGP", lambda t: t.gp.save(t.folder / "none" / "a.pt"), "path", "a.pt", IN_FOLDER),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP.load(t.folder / "none.pt"), "path", "none.pt", "written by uqphys"),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP.load(t.folder / "cut.pt"), "path", "cut.pt.*truncated", SAYS),
    ("lattice_gp.LatticeGP", lambda t: LatticeGP.load(t.folder / "layer.pt"), "path", "layer.pt", "'LatticeGP'"),
    ("lattice_gp.leave_one_out", lambda t: lattice_gp.leave_one_out(LatticeGP()), "gp|process", "not fitted", r"fit\(x, y\)"),
    ("lattice_gp.leave_one_out", lambda t: lattice_gp.leave_one_out(None), "gp|process", "None|not fitted", "LatticeGP|fit"),
]

weigh = lambda t, D=np.zeros((2, 3)), counts=np.ones(3), beta=0.4, estimator="reweighting": bias.class_weights(D, counts, beta, estimator)
BIAS = [
    ("bias.Approximation", lambda t: Approximation(None, t.surrogate), "exact", "None", r"energy\(x\)"),
    ("bias.Approximation", lambda t: Approximation(t.ising, None), "surrogate", "None", r"predict\(x\)"),
    ("bias.Approximation", lambda t: Approximation(t.ising, LastLayer(t.net)), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bias.Approximation", lambda t: Approximation(t.cube, LastLayer(t.net3)).energy(random_spins((3, 3, 3), 2, 0)), "surrogate", "not fitted", r"fit\(x, y\)"),
    ("bias.Approximation", lambda t: Approximation(t.ising, t.two), "surrogate", "2 outputs", "one"),
    ("bias.Approximation", lambda t: t.approximation.energy(np.ones((5, 5))), "x", r"\(5, 5\)", r"\(\.\.\., 4, 4\)"),
    ("bias.Approximation", lambda t: t.approximation.energy(t.half), "x", r"0\.5", SPINS),
    ("bias.Approximation", lambda t: t.approximation.observables(t.half), "x", r"0\.5", SPINS),
    ("bias.sort_draws", lambda t: bias.sort_draws(t.bare), "ensemble", "without 'config'", "keep='configs'"),
    ("bias.sort_draws", lambda t: bias.sort_draws(None), "ensemble", "None", "Dataset"),
    ("bias.class_weights", lambda t: weigh(t, estimator="guess"), "estimator", "'guess'", "reweighting, cumulant1"),
    ("bias.class_weights", lambda t: weigh(t, counts=np.ones(4)), "counts|difference", r"\(4,\)|\(2, 3\)", SAYS),
    ("bias.class_weights", lambda t: weigh(t, D=np.full((2, 3), np.nan)), "difference", "nan", "finite"),
    *rows_of("bias.class_weights", lambda t, v: weigh(t, beta=v), "beta", BETAS, COLD),
    ("bias.choose_probes", lambda t: bias.choose_probes(t.classes, 4, 0), "probes", "4", WHOLE + "5"),
    ("bias.choose_probes", lambda t: bias.choose_probes(None, 20, 0), "classes", "None", SAYS),
    *rows_of("bias.choose_probes", lambda t, v: bias.choose_probes(t.classes, 20, v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("bias.tail_index", lambda t, v: bias.tail_index(v), "log_weights", (([], "0|empty"), ("a", "'a'"), (np.full(50, np.nan), "nan")), SAYS),
    ("bias.BiasReport", lambda t: t.report.to_json(t.folder / "none" / "a.json"), "path", "a.json", IN_FOLDER),
    ("bias.BiasReport", lambda t: t.report.to_json(t.folder / "folder"), "path", "folder", IN_FOLDER),
    ("bias.BiasReport", lambda t: t.report.to_json(t.folder / "old.json" / "a.json"), "path", "a.json", IN_FOLDER),
    ("bias.BiasReport", lambda t: t.report.to_json(None), "path", "None", "file name"),
    ("bias.BiasReport", lambda t: t.report.plot("left"), "ax", "'left'", "axes|Axes"),
    ("bias.choose_probes", lambda t: bias.choose_probes(t.classes, 20, 0, order_by=[1.0]), "order_by", r"\(1,\)", SAYS),
    *rows_of("bias.find_valley", lambda t, v: bias.find_valley(v), "values", (([np.nan, 1.0], "nan"), ("a", "'a'"), (np.ma.array([1.0, 2.0]), r"masked|\[1")), SAYS),
    *rows_of("bias.find_valley", lambda t, v: bias.find_valley([1.0, 2.0], v), "least", ((0, "0"), (0.5, r"0\.5"), (True, "True"), ("a", "'a'"), (np.nan, "nan")), SAYS),
    ("bias.last_layer_error", lambda t: bias.last_layer_error(t.ising, t.ensemble), "approximation", "Ising", "Approximation"),
    ("bias.last_layer_error", lambda t: bias.last_layer_error(t.approximation, t.other), "ensemble", "energies", r"sample\(approximation"),
    ("bias.last_layer_error", lambda t: bias.last_layer_error(t.approximation, t.ensemble, "entropy"), "observables", "'entropy'", "offers"),
    *rows_of("bias.predict_bias", lambda t, v: ask(t, choice=v), "choice", (("best", "'best'"), (None, "None"), (["random"], "random")), SAYS),
    ("bias.predict_bias", lambda t: ask(t, approximation=t.ising), "approximation", "Ising", "Approximation"),
    ("bias.predict_bias", lambda t: ask(t, ensemble=t.bare), "ensemble", "without 'config'", "keep='configs'"),
    ("bias.predict_bias", lambda t: ask(t, ensemble={"energy": t.series}), "ensemble", "dict", "Dataset"),
    ("bias.predict_bias", lambda t: ask(t, ensemble=t.other), "ensemble", "energies", r"sample\(approximation"),
    ("bias.predict_bias", lambda t: ask(t, ensemble=t.wide), "ensemble", r"\(5, 5\)", r"\(4, 4\)"),
    ("bias.predict_bias", lambda t: ask(t, ensemble=t.lost), "ensemble", "beta, shape", r"sample\(\)"),
    *rows_of("bias.predict_bias", lambda t, v: ask(t, observables=v), "observables", ((["entropy"], "'entropy'"), ("heat", "'heat'"), ([], r"\[\]"), (3, "3"), ([None], "None")),
             "energy"),
    ("bias.predict_bias", lambda t: ask(t, evidence="guess"), "evidence", "'guess'", "'posterior' or 'probe'"),
    ("bias.predict_bias", lambda t: ask(t, estimator="guess"), "estimator", "'guess'", "reweighting, cumulant1"),
    *rows_of("bias.predict_bias", lambda t, v: ask(t, probes=v), "probes",
             ((4, "4"), (0, "0"), (-5, "-5"), (20.0, r"20\.0"), ("many", "'many'"), (None, "None"), (True, "True")), r"(whole )?number >= 5"),
    ("bias.predict_bias", lambda t: ask(t, probes=t.x[:3]), "probes", "3", "at least 5|>= 5"),
    ("bias.predict_bias", lambda t: ask(t, probes=random_spins((5, 5), 8, 0)), "probes", r"\(8, 5, 5\)", r"\(\.\.\., 4, 4\)"),
    ("bias.predict_bias", lambda t: ask(t, probes=t.half), "probes", r"0\.5", SPINS),
    *rows_of("bias.predict_bias", lambda t, v: ask(t, seed=v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("bias.exact_bias", lambda t, v: bias.exact_bias(t.approximation, v), "beta", BETAS, COLD),
    ("bias.exact_bias", lambda t: bias.exact_bias(t.approximation, 0.4, ["entropy"]), "observables", "'entropy'", "abs_m"),
    ("bias.exact_bias", lambda t: bias.exact_bias(t.approximation, 0.4, 3), "observables", "3", SAYS),
    ("bias.exact_bias", lambda t: bias.exact_bias(t.ising, 0.4), "approximation", "Ising", "Approximation"),
    ("bias.exact_bias", lambda t: bias.exact_bias(Approximation(Ising((5, 5)), t.surrogate), 0.4), "shape", r"\(5, 5\)", "at most 24"),
    *rows_of("bias.rehearse", lambda t, v: walk(t, seed=v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("bias.rehearse", lambda t, v: walk(t, beta=v), "beta", BETAS[:3], COLD),
    ("bias.rehearse", lambda t: walk(t, Ising((5, 5))), "shape|truth", r"\(5, 5\)", "at most"),
    ("bias.rehearse", lambda t: walk(t, make=None), "make_surrogate", "None", SAYS),
    ("bias.rehearse", lambda t: walk(t, training=2), "training", "2", "at least 4|>= 4"),
    ("bias.rehearse", lambda t: walk(t, evidences=("guess",)), "evidence", "'guess'", "'posterior' or 'probe'"),
    *rows_of("bias.too_simple", lambda t, v: bias.too_simple(v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("bias.rich_enough", lambda t, v: bias.rich_enough(v), "seed", SEEDS, WHOLE + "0"),
    ("bias.summarise", lambda t: bias.summarise(None), "rehearsals", "None", "DataFrame|rehearse"),
    ("bias.summarise", lambda t: bias.summarise(t.rehearsal), "rehearsals", "low", "DataFrame|rehearse|column"),
]

TABLE = MODELS + EXACT + SAMPLING + MULTISPIN + TEMPERING + ANALYSIS + NETWORKS + TRAINING + PREDICTIVE + BNN + GP + BIAS


@pytest.fixture(scope="session")
def ready():
    "The things, and a first compilation of what is compiled, so that no row carries that time."
    return things()


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row, ready, tmp_path):
    _, call, *expected = TABLE[row]
    fill(tmp_path)
    before = contents(tmp_path)
    assert_refused(call, SimpleNamespace(**vars(ready), folder=tmp_path), *expected)
    assert contents(tmp_path) == before, "files were left behind or changed"


def test_the_table_is_long_enough():
    assert len(TABLE) >= 60


def test_every_public_callable_stands_in_the_table():
    assert_complete(MODULES, TABLE, EXEMPT)


def test_a_refused_fit_leaves_the_surrogate_as_it_was(ready):
    surrogate = LastLayer(architectures.pair_network()).fit(ready.x, ready.y, progress=False)
    before = surrogate.predict(ready.spin)
    for x, y in ((ready.x, ready.hole), (ready.half, ready.y), (ready.x[:, 0, 0], ready.y)):
        with pytest.raises(ValueError):
            surrogate.fit(x, y, progress=False)
        assert np.array_equal(surrogate.predict(ready.spin).draws, before.draws)
    gp = copy.copy(ready.gp)
    before = gp.predict(ready.spin)
    with pytest.raises(ValueError):
        gp.fit(ready.x, ready.hole)
    assert np.array_equal(gp.predict(ready.spin).draws, before.draws)


def test_a_surrogate_can_be_fitted_after_a_refusal(ready):
    surrogate = LastLayer(epochs=0)
    with pytest.raises(ValueError):
        surrogate.fit(ready.half_cube, np.zeros((8, 1)), progress=False)
    assert surrogate.fit(ready.x, ready.y, progress=False).predict(ready.x).mean.shape == (40, 1)


def test_a_refused_training_leaves_the_network_as_it_was(ready):
    net = copy.deepcopy(ready.net)
    for bad in (dict(y=ready.hole), dict(seed=None), dict(x=ready.half), dict(validation=0.999)):
        with pytest.raises(ValueError):
            fit_net(ready, network=net, **bad)
        assert all(torch.equal(v, ready.net.state_dict()[k]) for k, v in net.state_dict().items()), bad
