"""Bad calls of foreign, in the manner of test_bad_calls: (function, call, argument, value, accepted)."""
import contextlib
import math
import os
from functools import cache
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import xarray as xr

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import foreign
from uqphys.foreign import from_arrays, from_file, load_pyerrors, save_pyerrors, to_netcdf, to_pyerrors
from uqphys.models import Ising, Phi4, random_fields, random_spins

EXEMPT = {}
BETAS = ((-0.1, r"-0\.1"), (math.nan, "nan"), (math.inf, "inf"), ("hot", "'hot'"), (True, "True"))
PATHS = ((None, "None"), (3, "3"), ("", "''"), (b"a.nc", "b'a.nc'"), (["a.nc"], r"\['a.nc'\]"))


@cache
def things():
    "What the calls work on, all of it small."
    t = SimpleNamespace(law=Ising((4, 4)), field=Phi4((4,), 0.2, 0.5), spins=random_spins((4, 4), 40, 0), fields=random_fields((4,), 40, 0))
    t.two = t.spins.reshape(2, 20, 4, 4)
    t.energies, t.series = t.law.energy(t.spins), np.arange(40.0)
    t.run = from_arrays(t.spins, model=t.law, beta=0.3)
    t.short = t.run.isel(draw=slice(0, 5))
    t.ladder = xr.concat([t.run, t.run], "beta")
    return t


def files(t):
    "A folder's worth of files, good and bad, in the folder we stand in."
    np.savez("a.npz", configs=t.spins, energies=t.energies, text=np.array(["a"]), draw=np.arange(40))
    np.savez("twice.npz", configs=t.spins, energies=t.energies, draw=np.arange(40) // 2)
    np.savez("pickled.npz", configs=np.array([{}], dtype=object), energies=t.energies)
    with h5py.File("a.h5", "w") as file:
        file["run/configs"], file["run/energies"] = t.spins, t.energies
    with open("a.npz", "rb") as whole, open("half.npz", "wb") as half:
        half.write(whole.read()[:500])
    for name in ("text.h5", "text.nc", "text.npz", "text.json.gz"):
        with open(name, "w") as file:
            file.write("beta = 0.3\n")
    os.makedirs("folder.npz", exist_ok=True)
    os.makedirs("folder.nc", exist_ok=True)
    to_netcdf(t.run, "ours.nc")


def holding(x, value, *place):
    "A copy of an array with one value put in, as floats."
    y = np.array(x, dtype=float)
    y[place] = value
    return y


ARRAYS = ((None, "object"), ("spins", "<U5"), ({}, "object"), ([[1, 2], [3]], "list"), (np.ones((20, 4, 4), dtype=complex), "complex128"),
          (np.full((20, 4, 4), "up"), "<U2"), (np.ones((20, 4, 4), dtype=object), "object"), (np.ma.ones((20, 4, 4)), "masked"),
          (np.zeros((20, 4, 4), dtype="M8[s]"), "datetime64"))
SHAPES = ((np.ones((4, 4)), r"\(4, 4\)"), (np.ones((4, 4, 20)), r"\(4, 4, 20\)"), (np.ones((2, 2, 20, 4, 4)), r"\(2, 2, 20, 4, 4\)"),
          (np.ones((0, 4, 4)), r"\(0, 4, 4\)"), (np.ones((20, 4, 5)), r"\(20, 4, 5\)"), (np.float64(1.0), r"\(\)"))
NUMBERS = ((np.arange(39.0), r"\(39,\)"), (np.ones((1, 40)), r"\(1, 40\)"), (np.ones((40, 1)), r"\(40, 1\)"), (1.0, r"\(\)"))
GAS = r"2 \* configs.astype\(int\) - 1"
A = "foreign.from_arrays"
FROM_ARRAYS = [
    *rows_of(A, lambda t, v: from_arrays(v, model=t.law), "configs", ARRAYS, "must be an array of real numbers"),
    *rows_of(A, lambda t, v: from_arrays(v, model=t.law), r"configs\.shape", SHAPES, r"must be \(draw, 4, 4\) or \(chain, draw, 4, 4\)"),
    (A, lambda t: from_arrays(np.ones(40), ndim=1), r"configs\.shape", r"\(40,\)", r"must be \(draw, x\) or \(chain, draw, x\)"),
    (A, lambda t: from_arrays(t.spins), "ndim", "None", "must be told, by model=... or as ndim=2"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, ndim=v), "ndim", ((0, "0"), (1.0, r"1\.0"), (True, "True"), ("2", "'2'"), (5, "5")), "must be a whole number"),
    (A, lambda t: from_arrays(t.spins, model=t.law, ndim=1), "ndim", "1", "must be 2"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, model=v), "model", ((Ising, "Ising"), ("ising", "'ising'"), (3, "3")), "must have a shape"),
    (A, lambda t: from_arrays(t.spins > 0, ndim=2), "configs", "bool", GAS),
    (A, lambda t: from_arrays((t.spins + 1) // 2, ndim=2), "configs", r"contains 0 at chain 0, draw \d+, site", GAS),
    (A, lambda t: from_arrays((t.spins + 1.0) / 2, model=t.law), "configs", r"contains 0\.0", GAS),
    (A, lambda t: from_arrays(t.spins.view(np.uint8), ndim=2), "configs", "contains 255", r"view\('int8'\)"),
    (A, lambda t: from_arrays(holding(t.spins, 2, 7, 1, 3).astype(int), ndim=2), "configs", r"contains 2 at chain 0, draw 7, site \(1, 3\)", r"must be spins, -1 or \+1"),
    (A, lambda t: from_arrays(holding(t.spins, 0.5, 7, 1, 3), ndim=2), "configs", r"contains 0\.5 at chain 0, draw 7, site \(1, 3\)", "fields=True"),
    (A, lambda t: from_arrays(holding(t.two, np.nan, 1, 7, 1, 3), ndim=2), "configs", r"contains nan at chain 1, draw 7, site \(1, 3\)", "must be spins"),
    (A, lambda t: from_arrays(holding(t.two, np.nan, 1, 7, 1, 3), ndim=2, fields=True), "configs", r"contains nan at chain 1, draw 7, site \(1, 3\)", "must be finite"),
    (A, lambda t: from_arrays(holding(t.fields, -np.inf, 3, 2), model=t.field), "configs", r"contains -inf at chain 0, draw 3, site \(2,\)", "must be finite"),
    (A, lambda t: from_arrays(holding(t.fields, 1e80, 3, 2).astype(np.float64), model=t.field), "configs", r"contains 1e\+80", r"below 1e\+75"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, ndim=2, fields=v), "fields", ((1, "1"), ("yes", "'yes'")), "must be True or False"),
    (A, lambda t: from_arrays(t.spins, model=t.law, fields=True), "fields", "True", "must be False with this model, whose values are 'spins'"),
    (A, lambda t: from_arrays(t.fields, model=t.field, fields=False), "fields", "False", "must be True with this model, whose values are 'real'"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, v, model=t.law), r"energies\.shape", NUMBERS, r"must be \(40,\)"),
    (A, lambda t: from_arrays(t.two, np.ones((20, 2)), ndim=2), r"energies\.shape", r"\(20, 2\)", r"must be \(2, 20\)"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, v, model=t.law), "energies", (("E", "<U1"), ({}, "object"), (1j * np.ones(40), "complex128")), "must be an array"),
    (A, lambda t: from_arrays(t.spins, holding(t.energies, np.nan, 9), model=t.law), "energies", "contains nan at chain 0, draw 9", "must be finite"),
    (A, lambda t: from_arrays(t.spins, holding(t.energies, np.inf, 9).astype(np.float32), ndim=2), "energies", "contains inf at chain 0, draw 9", "must be finite"),
    (A, lambda t: from_arrays(t.spins, t.energies / 16, model=t.law), "energies", r"at chain 0, draw 0, but model\.energy gives", r"must be total energies.*per site"),
    (A, lambda t: from_arrays(t.spins, -t.energies, model=t.law), "energies", "all are -1 times these", "must be total energies.*opposite sign"),
    (A, lambda t: from_arrays(t.spins, holding(t.energies, 99, 5), model=t.law), "energies", "99 at chain 0, draw 5, but", "must be total energies"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, ndim=2, observables=v), "observables", ((["q"], r"\['q'\]"), ("q", "'q'"), (3, "3")), "must be a dict"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, ndim=2, observables={v: t.series}), "observables",
             tuple((v, repr(v).replace("|", r"\|")) for v in ("m", "energy", "config", "draw", "beta", "binder", "susceptibility", "energy2", "phi2", "", "a|b", "a/b", 3)), "must be a non-empty text"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, ndim=2, observables={"q": v}), r"observables\['q'\]\.shape", NUMBERS, r"must be \(40,\)"),
    (A, lambda t: from_arrays(t.spins, ndim=2, observables={"q": holding(t.series, np.nan, 8)}), r"observables\['q'\]", "contains nan at chain 0, draw 8", "must be finite"),
    (A, lambda t: from_arrays(t.spins, ndim=2, observables={"q": ["a"] * 40}), r"observables\['q'\]", "<U1", "must be an array of real numbers"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, model=t.law, beta=v), "beta", BETAS, "finite number >= 0"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, model=t.law, source=v), "source", ((None, "None"), (3, "3")), "must be text"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, model=t.law, tolerance=v), "tolerance", ((None, "None"), (-1e-3, r"-0\.001"), (math.nan, "nan"), (True, "True")), "must be a finite number >= 0"),
    *rows_of(A, lambda t, v: from_arrays(t.spins, ndim=2, draw=v), "draw", ((np.arange(39), r"\(39,\)"), (np.arange(40.0), "float64"), (3, r"\(\)")), "must be 40 whole numbers"),
    (A, lambda t: from_arrays(t.spins, ndim=2, draw=np.arange(40) // 2), r"draw\[1\]", "0 comes after", "must be whole numbers that increase"),
    (A, lambda t: from_arrays(t.two, ndim=2, chain=[1, 0]), r"chain\[1\]", "0 comes after", "must be whole numbers that increase"),
    (A, lambda t: from_arrays(np.stack([t.spins, t.spins]), ndim=2), "configs", "chain 1 is identical to chain 0, in all 40 draws", "must be draws of independent chains"),
    (A, lambda t: from_arrays(np.concatenate([t.spins, t.spins]), ndim=2), "configs", r"chain 0: draws 0\.\.\.39 occur again at draws 40\.\.\.79", "must be draws"),
    (A, lambda t: from_arrays(np.concatenate([t.two, t.two[::-1]], axis=1), ndim=2), "configs", r"chain 0: draws 20\.\.\.39 occur again at chain 1: draws 0\.\.\.19", "must be draws"),
]

F, KNOWN = "foreign.from_file", r"\.npz, \.h5, \.hdf5, \.nc"
FROM_FILE = [
    *rows_of(F, lambda t, v: from_file(v), "path", PATHS, "must be the path of a file"),
    *rows_of(F, lambda t, v: from_file(v, ndim=2), "path", (("a.csv", "'a.csv'"), ("a", "'a'"), ("a.npy", "'a.npy'"), (".npz", r"'\.npz'")), f"must end in one of {KNOWN}"),
    *rows_of(F, lambda t, v: from_file(v, ndim=2), "path", (("no.npz", "'no.npz': is not there"), ("folder.npz", "'folder.npz': is a folder"), ("x" * 200 + ".nc", r"xx\.nc': is not there")), "must be a file"),
    *rows_of(F, lambda t, v: from_file(v, ndim=2), "path", (("half.npz", "no complete npz"), ("text.npz", "no complete npz"), ("text.h5", "signature"), ("text.nc", "signature"), ("pickled.npz", "allow_pickle")), "cannot be read; must be a whole"),
    *rows_of(F, lambda t, v: from_file("a.npz", configs=v, ndim=2), "configs", (("spins", "'spins'"), ("Configs", "'Configs'")), "must be one of what is there: configs, energies, text, draw"),
    *rows_of(F, lambda t, v: from_file("a.npz", energies=v, ndim=2), "energies", (("E", "'E'"), ("energy", "'energy'")), "must be one of what is there, or None: configs"),
    *rows_of(F, lambda t, v: from_file("a.npz", configs=v, ndim=2), "configs", ((None, "None"), ("", "''"), (3, "3")), "must be the name of an array"),
    *rows_of(F, lambda t, v: from_file("a.npz", draw=v, ndim=2), "draw", ((3, "3"), ("", "''")), "must be the name of an array in the file, or None"),
    *rows_of(F, lambda t, v: from_file("a.npz", observables=v, ndim=2), "observables", (("q", "'q'"), ([3], r"\[3\]"), ({"q": 3}, "'q': 3"), (None, "None")), "must be a list of names"),
    (F, lambda t: from_file("a.npz", observables=["q"], ndim=2), "observables", "'q'", "must be one of what is there"),
    (F, lambda t: from_file("a.npz", observables=["text"], ndim=2), r"observables\['text'\]", "<U1", "must be an array of real numbers"),
    (F, lambda t: from_file("a.npz", configs="text", energies=None, ndim=2), "configs", "<U1", "must be an array of real numbers"),
    (F, lambda t: from_file("twice.npz", ndim=2), r"draw\[1\]", "0 comes after", "must be whole numbers that increase"),
    (F, lambda t: from_file("a.npz"), "ndim", "None", "must be told"),
    (F, lambda t: from_file("a.npz", colour=3), "colour", "unknown", "must be one of model, ndim"),
    (F, lambda t: from_file("a.h5", ndim=2), "configs", "'configs'", "must be one of what is there: run/configs, run/energies"),
    *rows_of(F, lambda t, v: from_file("a.h5", group=v, ndim=2), "group", (("walk", "'walk'"), ("run/configs", "'run/configs'")), "must be a whole .h5 file .*it holds run"),
    *rows_of(F, lambda t, v: from_file("a.h5", group=v, ndim=2), "group", ((3, "3"), ("", "''")), "must be the name of a group"),
    (F, lambda t: from_file("a.npz", group="run", ndim=2), "group", "'run'", "must be the name of a group"),
    *rows_of(F, lambda t, v: from_file("ours.nc", **v), r"beta|ndim|observables", (({"beta": 0.3}, "beta"), ({"ndim": 2}, "ndim"), ({"observables": ["m"]}, "observables")), "must be left out"),
]

NOT_ENSEMBLES = ((None, "None"), ("run", "str"), ({}, "dict"), (np.ones((2, 20)), "ndarray"))
N, P, S, L = "foreign.to_netcdf", "foreign.to_pyerrors", "foreign.save_pyerrors", "foreign.load_pyerrors"
OUT = [
    *rows_of(N, lambda t, v: to_netcdf(v, "b.nc"), "ensemble", NOT_ENSEMBLES, "must be an xarray.Dataset"),
    *rows_of(N, lambda t, v: to_netcdf(t.run, v), "path", PATHS, "must be the path of a file"),
    *rows_of(N, lambda t, v: to_netcdf(t.run, v), "path", (("b.npz", "'b.npz'"), ("b", "'b'")), r"must end in \.nc"),
    *rows_of(N, lambda t, v: to_netcdf(t.run, v), "path", (("no/b.nc", "'no/b.nc'"), ("folder.nc", "'folder.nc'"), ("a.npz/b.nc", "'a.npz/b.nc'")), "must be a file in an existing folder"),
    *rows_of(N, lambda t, v: to_netcdf(t.run.assign_attrs(a=v), "b.nc"), "a", (({1, 2}, r"\{1, 2\}"), (Ising((4, 4)), r"Ising\("), (1j, "1j"), ([{3: 4}], r"\{3: 4\}"), (np.array(["a"]), "array")), "must be None, text, numbers"),
    (N, lambda t: to_netcdf(t.run.assign_attrs({3: 4}), "b.nc"), "attribute", "3", "must be a non-empty text"),
    (N, lambda t: to_netcdf(t.run.assign_coords(who=("chain", ["me"])), "b.nc"), "'who'", "<U2", "must be whole or real numbers"),
    (N, lambda t: to_netcdf(t.run.assign(z=t.run.m + 1j), "b.nc"), "'z'", "complex128", "must be whole or real numbers"),
    (N, lambda t: to_netcdf(t.run.rename(m="a/b"), "b.nc"), "variable", "'a/b'", "must be whole or real numbers .* under a text without /"),
    *rows_of(P, lambda t, v: to_pyerrors(v), "ensemble", NOT_ENSEMBLES, "is needed"),
    (P, lambda t: to_pyerrors(t.ladder), "ensemble", "2 temperatures", "must be one of them"),
    (P, lambda t: to_pyerrors(t.short), "ensemble", r"energy: shape \(1, 5\)", "at least 10 draws"),
    *rows_of(P, lambda t, v: to_pyerrors(t.run, v), "names", (("m", "'m'"), ([], r"\[\]"), (["m", "q"], "'q'"), ([3], r"\[3\]"), (["config"], "'config'")), "must be a list of some of energy, m"),
    *rows_of(S, lambda t, v: save_pyerrors(t.run, v), "path", PATHS, "must be the path of a file"),
    *rows_of(S, lambda t, v: save_pyerrors(t.run, v), "path", (("b.json", "'b.json'"), ("b.gz", "'b.gz'")), r"must end in \.json\.gz"),
    (S, lambda t: save_pyerrors(t.run, "no/b.json.gz"), "path", "'no/b.json.gz'", "must be a file in an existing folder"),
    (S, lambda t: save_pyerrors(t.ladder, "b.json.gz"), "ensemble", "2 temperatures", "must be one of them"),
    (S, lambda t: save_pyerrors(t.run, "b.json.gz", ["q"]), "names", "'q'", "must be a list"),
    *rows_of(L, lambda t, v: load_pyerrors(v), "path", PATHS, "must be the path of a file"),
    *rows_of(L, lambda t, v: load_pyerrors(v), "path", (("no.json.gz", "'no.json.gz'"), ("a.npz", "'a.npz'")), r"must be a file that is there, and ends in \.json\.gz"),
    (L, lambda t: load_pyerrors("text.json.gz"), "path", "'text.json.gz'", "cannot be read; must be a whole"),
]

TABLE = FROM_ARRAYS + FROM_FILE + OUT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A folder with the files, in which the calls are made."
    place = tmp_path_factory.mktemp("files")
    with contextlib.ExitStack() as stack:
        stack.callback(os.chdir, os.getcwd())
        os.chdir(place)
        files(things())
        yield sorted(os.listdir(place))


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row, folder):
    _, call, *expected = TABLE[row]
    assert_refused(call, SimpleNamespace(**vars(things())), *expected)
    assert sorted(os.listdir()) == folder, "something was left behind"


def test_every_public_callable_stands_in_the_table():
    assert_complete((foreign,), TABLE, EXEMPT)
