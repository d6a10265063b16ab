"""Bad calls of ensembles and sweeps, in the manner of test_bad_calls: (function, call, argument, value, accepted)."""
import math
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from common import assert_complete, assert_refused, row_name, rows_of
from uqphys import ensembles, sweeps
from uqphys.ensembles import append, load, repair, sample_to, save
from uqphys.models import Ising, Phi4
from uqphys.sampling import sample
from uqphys.sweeps import sweep, tabulate

MODULES = (ensembles, sweeps)
EXEMPT = {"ensembles.Damaged": "an exception, raised and caught inside"}
WHOLE, MODEL = "whole number >= ", "Ising((4, 4))"
ISING = Ising((4, 4))
COUNTS = ((0, "0"), (-1, "-1"), (1.5, r"1\.5"), (math.nan, "nan"), (True, "True"), ("many", "'many'"), (None, "None"), ([3], r"\[3\]"), (10**30, "1000"))
SEEDS = ((-1, "-1"), (1.5, r"1\.5"), (True, "True"), ("one", "'one'"), (None, "None"))
BETAS = ((-0.1, r"-0\.1"), (math.nan, "nan"), (math.inf, "inf"), ("hot", "'hot'"), (None, "None"), (True, "True"), ([0.4], r"\[0\.4\]"))
PATHS = ((None, "None"), (3, "3"), ("", "''"), (b"bytes", "b'bytes'"), (["a"], r"\['a'\]"), (1.5, r"1\.5"), ("a\0b", r"a\\+x00b"), (Path, "Path"))
FLAGS = ((None, "None"), (1, "1"), ("yes", "'yes'"), (0.0, r"0\.0"))
KEEPS = ((None, "None"), ("all", "'all'"), (True, "True"), (["configs"], r"\['configs'\]"), (np.array(["configs", "observables"]), "array"))
EVERY = ((0, "0"), (-1, "-1"), (1.5, r"1\.5"), (True, "True"), ("often", "'often'"), (None, "None"), ([5], r"\[5\]"), (10**30, "1000"))
MODELS = ((None, "None"), ("ising", "ising"), (3, "3"), (Ising, "Ising"), ({}, "{}"), (np.ones((4, 4)), "array|ndarray"))
BURNS = ((-1, "-1"), (1.5, r"1\.5"), ("long", "'long'"), (True, "True"), (None, "None"), (math.nan, "nan"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Stores that the calls are made on; none of them may change."
    home = tmp_path_factory.mktemp("calls")
    save(plain(), home / "saved")
    save(more(draws=30), home / "long")
    save(plain().expand_dims(beta=[0.4]), home / "warm")
    save(plain().assign_coords(draw=[3, 5, 9, 11, 12, 20]), home / "numbered")
    sample_to(home / "run", ISING, 0.4, draws=6, burn_in=0, seed=0, progress=False)
    (home / "foreign").mkdir()
    (home / "foreign" / "letter.txt").write_text("dear all")
    (home / "empty").mkdir()
    (home / "file").write_text("not a folder")
    for name in ("seal", "lost", "hurt"):
        save(plain(), home / name)
    manifest = home / "seal" / ".uqphys" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"energy", b"enargy", 1))
    (home / "lost" / ".uqphys" / "manifest.json").unlink()
    chunk = home / "hurt" / "energy" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    (home / "begun").mkdir()
    (home / "begun" / ".uqphys").mkdir()
    return home


@cache
def plain():
    return sample(ISING, 0.4, draws=6, burn_in=0, seed=0, progress=False)


def more(**changes):
    return sample(ISING, 0.4, **{"draws": 4, "burn_in": 0, "seed": 1, "progress": False} | changes)


def told(**attrs):
    return plain().assign_attrs(**attrs)


def with_variable(values, name="odd", dims=("chain", "draw")):
    return plain().assign({name: (dims, values)})


class NoFloat:
    "Something that JSON does not know."
    def __repr__(self):
        return "<no float>"


class Bottomless:
    "A model without a lowest energy."
    shape = (4, 4)

    def energy(self, x):
        return np.full(x.shape[:-2], -np.inf)


class Sulky:
    "An executor of sorts."
    submit = "later"


GRID = np.zeros((4, 6))
NOT_ENSEMBLES = ((None, "NoneType"), (3, "int"), ("saved", "str"), (GRID, "ndarray"), ({}, "dict"), (pd.DataFrame({"draw": [1]}), "DataFrame"))
UNFIT = [  # ensembles that cannot be stored: argument, ensemble, what is shown, what is accepted
    ("ensemble", lambda: xr.Dataset(), r"\(\)", "dimension draw"),
    ("ensemble", lambda: xr.Dataset({"m": ("chain", [1.0])}), "chain", "dimension draw"),
    ("ensemble", lambda: xr.Dataset(coords={"draw": [0, 1]}), "draw", "with variables"),
    ("ensemble", lambda: plain().energy, "DataArray", "must be a Dataset"),
    ("ensemble", lambda: plain().isel(draw=slice(0, 0)), "no draws", "at least one"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype(object)), "object", "numbers of at most 8 bytes"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype(str)), "<U", "numbers of at most 8 bytes"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype("S3")), "S3", "numbers of at most 8 bytes"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype(complex)), "complex128", "numbers of at most 8 bytes"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype(np.longdouble)), "float128", "numbers of at most 8 bytes"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype("M8[ns]")), "datetime64", "numbers of at most 8 bytes"),
    (r"ensemble\['odd'\]", lambda: with_variable(GRID.astype("m8[ns]")), "timedelta64", "numbers of at most 8 bytes"),
    (r"ensemble\['two words'\]", lambda: with_variable(GRID, "two words"), "two words", "letters, digits and _"),
    (r"ensemble\['a/b'\]", lambda: with_variable(GRID, "a/b"), "a/b", "letters, digits and _"),
    (r"ensemble\['\.\.'\]", lambda: with_variable(GRID, ".."), r"\.\.", "letters, digits and _"),
    (r"ensemble\['100%'\]", lambda: with_variable(GRID, "100%"), "100%", "letters, digits and _"),
    (r"ensemble\[''\]", lambda: with_variable(GRID, ""), "''", "letters, digits and _"),
    (r"ensemble\['_'\]", lambda: with_variable(GRID, "_"), "'_'", "letters, digits and _"),
    (r"ensemble\[3\]", lambda: with_variable(GRID, 3), "3", "letters, digits and _"),
    (r"ensemble\['c\.d'\]", lambda: plain().assign_coords({"c.d": 1.0}), r"c\.d", "letters, digits and _"),
    (r"ensemble\['b{80}", lambda: with_variable(GRID.astype(object), "b" * 80), "bbb", "numbers of at most 8 bytes"),
    (r"ensemble.*", lambda: with_variable(GRID, "n" * 300), "nnn", "must be|is needed|letters"),
    (r"ensemble.*", lambda: with_variable(GRID, "a b" * 100), "a b", "letters, digits and _"),
    (r"ensemble\['label'\]", lambda: plain().assign_coords(label=("chain", list("abcd"))), "<U1", "numbers of at most 8 bytes"),
    (r"ensemble\['chain'\]", lambda: plain().assign_coords(chain=list("abcd")), "<U1", "numbers of at most 8 bytes"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine={1, 2}), r"\{1, 2\}", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=NoFloat()), "<no float>", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=1j), "1j", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=b"raw"), "b'raw'", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=Path("a")), "Path", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=[1, {2}]), r"\[1, \{2\}\]", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=ISING), r"Ising\(", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=np.array([1j])), "1j", "must be text, a number"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine=[np.float32(1)]), "1", "must be text, a number"),
    (r"ensemble\.attrs\[\(1, 2\)\]", lambda: plain().assign_attrs({(1, 2): 3}), "3", "must be"),
    (r"ensemble\.attrs\[5\]", lambda: plain().assign_attrs({5: "five"}), "five", "must be"),
    (r"ensemble\.attrs.*", lambda: plain().assign_attrs({"k" * 400: {1}}), r"\{1\}|kkk", "must be"),
    (r"ensemble\.attrs\['mine'\]", lambda: told(mine={"a" * 500}), "aaa", "must be text, a number"),
]
UNFIT_ROWS = [(f"ensembles.{name}", lambda t, make=make, call=call: call(t, make()), argument, shown, accepted)
              for name, call in (("save", lambda t, e: save(e, t.home / "new")), ("append", lambda t, e: append(t.home / "saved", e)))
              for argument, make, shown, accepted in UNFIT]

SAVE = [
    *rows_of("ensembles.save", lambda t, v: save(v, t.home / "new"), "ensemble", NOT_ENSEMBLES, "must be a Dataset"),
    *rows_of("ensembles.save", lambda t, v: save(plain(), v), "path", PATHS, "must be"),
    *rows_of("ensembles.save", lambda t, v: save(plain(), t.home / "new", overwrite=v), "overwrite", FLAGS, "must be True or False"),
    ("ensembles.save", lambda t: save(plain(), t.home / "saved"), "path", "6 draws", "overwrite=True"),
    ("ensembles.save", lambda t: save(plain(), t.home / "run"), "path", "6 draws", "overwrite=True"),
    ("ensembles.save", lambda t: save(plain(), t.home / "foreign"), "path", "foreign", "must be new, empty"),
    ("ensembles.save", lambda t: save(plain(), t.home / "foreign", overwrite=True), "path", "foreign", "must be new, empty"),
    ("ensembles.save", lambda t: save(plain(), t.home / "file"), "path", "file", "must be the name of a folder"),
    ("ensembles.save", lambda t: save(plain(), t.home / "file", overwrite=True), "path", "file", "must be the name of a folder"),
    ("ensembles.save", lambda t: save(plain(), t.home / "file" / "deeper"), "path", "deeper", "must be a folder to write to"),
    ("ensembles.save", lambda t: save(plain(), t.home / ("n" * 300)), "path", "nnn", "must be"),
    ("ensembles.save", lambda t: save(plain(), "/proc/no_such"), "path", "/proc/no_such", "must be a folder to write to"),
    ("ensembles.save", lambda t: save(plain(), t.home / "seal"), "path", "manifest.json", "damaged"),
    ("ensembles.save", lambda t: save(xr.Dataset({"m": (("chain", "draw"), np.broadcast_to(np.float32(0), (2**29, 1)))}), t.home / "new"),
     r"ensemble\['m'\]", "2.0 GiB", "at most 1 GiB"),
]

SLICES = ((5, "5"), ("all", "'all'"), ((0, 5), r"\(0, 5\)"), ([0, 1], r"\[0, 1\]"), (1.5, r"1\.5"), (True, "True"), (range(3), r"range\(0, 3\)"),
          (np.arange(3), "array"), (slice("a", "b"), "slice"), (slice(0, 3, 0), r"slice\(0, 3, 0\)"), (slice(0.5, 2), r"slice\(0\.5"),
          (slice(None, None, "x"), "slice"), (slice(None, math.nan), "nan"))
LOAD = [
    *rows_of("ensembles.load", lambda t, v: load(v), "path", PATHS, "must be"),
    *rows_of("ensembles.load", lambda t, v: load(t.home / "saved", draws=v), "draws", SLICES, "must be None or a slice"),
    *rows_of("ensembles.load", lambda t, v: load(t.home / "saved", keep=v), "keep", KEEPS, "'configs', 'observables'"),
    ("ensembles.load", lambda t: load(t.home / "nowhere"), "path", "nowhere", "must be an ensemble"),
    ("ensembles.load", lambda t: load(t.home / "foreign"), "path", "foreign", "must be an ensemble"),
    ("ensembles.load", lambda t: load(t.home / "empty"), "path", "empty", "must be an ensemble"),
    ("ensembles.load", lambda t: load(t.home / "begun"), "path", "begun", "must be an ensemble|no draws yet; sample_to"),
    ("ensembles.load", lambda t: load(t.home / "file"), "path", "file", "must be an ensemble"),
    ("ensembles.load", lambda t: load(t.home / ("n" * 300)), "path", "nnn", "must be"),
    ("ensembles.load", lambda t: load(t.home / "seal"), "path", "manifest.json", "damaged"),
    ("ensembles.load", lambda t: load(t.home / "lost"), "path", "manifest.json", "must be an ensemble"),
    ("ensembles.load", lambda t: load(t.home / "hurt"), "path", "energy/0.0", "repair"),
]

APPEND = [
    *rows_of("ensembles.append", lambda t, v: append(t.home / "saved", v), "ensemble", NOT_ENSEMBLES, "must be a Dataset"),
    *rows_of("ensembles.append", lambda t, v: append(v, more()), "path", PATHS, "must be"),
    ("ensembles.append", lambda t: append(t.home / "nowhere", more()), "path", "nowhere", "must be an ensemble"),
    ("ensembles.append", lambda t: append(t.home / "foreign", more()), "path", "foreign", "must be"),
    ("ensembles.append", lambda t: append(t.home / "empty", more()), "path", "empty", "save"),
    ("ensembles.append", lambda t: append(t.home / "file", more()), "path", "file", "must be"),
    ("ensembles.append", lambda t: append(t.home / ("n" * 300), more()), "path", "nnn", "must be"),
    ("ensembles.append", lambda t: append(t.home / "seal", more()), "path", "manifest.json", "damaged"),
    ("ensembles.append", lambda t: append(t.home / "hurt", more()), "path", "energy/0.0", "repair"),
    ("ensembles.append", lambda t: append(t.home / "run", more()), "path", "run", "same call with more draws="),
    ("ensembles.append", lambda t: append(t.home / "saved", plain()), "ensemble", "6 draws", "must be new"),
    ("ensembles.append", lambda t: append(t.home / "saved", sample(ISING, 0.5, draws=4, burn_in=0, seed=1, progress=False)),
     r"ensemble\.attrs\['beta'\]", r"0\.5.*0\.4", "same law"),
    ("ensembles.append", lambda t: append(t.home / "saved", sample(Ising((4, 4), h=0.1), 0.4, draws=4, burn_in=0, seed=1, progress=False)),
     r"ensemble\.attrs\['(model|couplings)'\]", r"h.*0\.1", "same law"),
    ("ensembles.append", lambda t: append(t.home / "saved", sample(Ising((6, 4)), 0.4, draws=4, burn_in=0, seed=1, progress=False)),
     r"ensemble\.attrs\['(model|shape)'\]", "6", "same law"),
    ("ensembles.append", lambda t: append(t.home / "saved", more(thin=2)), r"ensemble\.attrs\['thin'\]", "2", "same law"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().drop_attrs()), r"ensemble\.attrs\['model'\]", "None", "same law"),
    ("ensembles.append", lambda t: append(t.home / "saved", more(chains=3)), r"ensemble\['\w+'\]", r"\[3, 4\]|\[3, 4, 4, 4\]", "must agree"),
    ("ensembles.append", lambda t: append(t.home / "saved", more(keep="observables")), "ensemble", "energy", "must be the same"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign(new=lambda d: d.m)), "ensemble", "new", "must be the same"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().astype("f4")), r"ensemble\['\w+'\]", "float32", "must agree"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().transpose("draw", ...)), r"ensemble\['\w+'\]", "draw", "must agree"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign(energy=lambda d: d.energy.isel(chain=0))), r"ensemble\['energy'\]",
     r"\['draw'\]", "must agree"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign_coords(draw=np.arange(4) + 8)), r"ensemble\.draw", "8", "must begin with 6"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign_coords(draw=[6, 8, 7, 9])), r"ensemble\.draw", "6|8", "must"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign_coords(draw=[6, 7, 9, 10])), r"ensemble\.draw", "6|9", "must"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign_coords(draw=[6.0, math.nan, 7.0, 8.0])), r"ensemble\.draw", "nan|6", "must"),
    ("ensembles.append", lambda t: append(t.home / "saved", more().assign_coords(chain=[4, 5, 6, 7])), r"ensemble.*", "chain", "must be"),
    ("ensembles.append", lambda t: append(t.home / "numbered", more().assign_coords(draw=[20, 21, 22, 23])), r"ensemble\.draw", "20", "must be larger"),
    ("ensembles.append", lambda t: append(t.home / "numbered", more().assign_coords(draw=[21, 22, 22, 23])), r"ensemble\.draw", "2[12]", "must"),
    ("ensembles.append", lambda t: append(t.home / "numbered", more().assign_coords(draw=[24, 23, 22, 21])), r"ensemble\.draw", "2[1-4]", "must"),
    ("ensembles.append", lambda t: append(t.home / "numbered", more()), r"ensemble\.draw", "0", "must be larger"),
    ("ensembles.append", lambda t: append(t.home / "warm", more().expand_dims(beta=[0.5])), r"ensemble\['beta'\]", r"0\.5|beta", "must be the same"),
    ("ensembles.append", lambda t: append(t.home / "warm", more().expand_dims(beta=[0.4, 0.5])), r"ensemble\['beta'\]|ensemble\['\w+'\]", r"\[2", "must agree"),
]

REPAIR = [
    *rows_of("ensembles.repair", lambda t, v: repair(v), "path", PATHS, "must be"),
    ("ensembles.repair", lambda t: repair(t.home / "nowhere"), "path", "nowhere", "must be an ensemble"),
    ("ensembles.repair", lambda t: repair(t.home / "foreign"), "path", "foreign", "must be"),
    ("ensembles.repair", lambda t: repair(t.home / "empty"), "path", "empty", "must be|save"),
    ("ensembles.repair", lambda t: repair(t.home / "begun"), "path", "begun", "must be|save"),
    ("ensembles.repair", lambda t: repair(t.home / "file"), "path", "file", "must be"),
    ("ensembles.repair", lambda t: repair(t.home / ("n" * 300)), "path", "nnn", "must be"),
    ("ensembles.repair", lambda t: repair(t.home / "seal"), "path", "manifest.json", "damaged"),
    ("ensembles.repair", lambda t: repair(t.home / "lost"), "path", "manifest.json", "must be an ensemble"),
    ("ensembles.repair", lambda t: repair(t.home / "hurt"), "path", "energy/0.0", "nothing can be repaired"),
]


def to(t, path="new", model=ISING, beta=0.4, **told):
    "A small run; a path of text lies in the folder of the test."
    where = t.home / path if isinstance(path, str) and path in NAMES else path
    return sample_to(where, model, beta, **{"draws": 4, "burn_in": 0, "seed": 0, "progress": False} | told)


NAMES = ("new", "saved", "run", "foreign", "file", "seal", "n" * 300, "file/deeper")
AGAIN = dict(path="run", draws=8)  # a call of another kind for the run that is there
SAMPLE_TO = [
    *rows_of("ensembles.sample_to", lambda t, v: to(t, v), "path", PATHS, "must be"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, model=v), "model", MODELS, "needs"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, beta=v), "beta", BETAS, "finite number >= 0"),
    *(row for name in ("draws", "chains", "thin")
      for row in rows_of("ensembles.sample_to", lambda t, v, name=name: to(t, **{name: v}), name, COUNTS, WHOLE + "1")),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, burn_in=v), "burn_in", BURNS, WHOLE + "0|'auto' or a number of sweeps >= 0"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, seed=v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, keep=v), "keep", KEEPS, "'configs', 'observables'"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, checkpoint_every=v), "checkpoint_every", EVERY, r"whole number >= 1|must be 'auto' or"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, progress=v), "progress", FLAGS, "must be True or False"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, method=v), "method", ((None, "None"), ("fast", "'fast'"), (3, "3"), (["wolff"], "wolff")), "accepted are"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, method=v), "method", (("hmc", "hmc"), ("cluster-phi4", "cluster-phi4")), "needs"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, settings=v), "settings", ((3, "3"), ("fast", "'fast'"), ([1], r"\[1\]"), ({"speed": 2}, "speed")),
             "must be None or a dict|accepted are"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, method="wolff", settings={"clusters": v}), "clusters",
             ((0, "0"), (1.5, r"1\.5"), ({1}, r"\{1\}"), (NoFloat(), "no float"), (1j, "1j")), "must be"),
    *rows_of("ensembles.sample_to", lambda t, v: to(t, settings=v), "settings", (({1: 2}, "1"), ({(1, 2): 3}, r"\(1, 2\)"), ({"speed": {1}}, "speed")), "accepted are|must be"),
    ("ensembles.sample_to", lambda t: to(t, "saved"), "path", "saved", "must be a new folder"),
    ("ensembles.sample_to", lambda t: to(t, "foreign"), "path", "foreign", "must be new, empty"),
    ("ensembles.sample_to", lambda t: to(t, "file"), "path", "file", "must be the name of a folder"),
    ("ensembles.sample_to", lambda t: to(t, "file/deeper"), "path", "deeper", "must be a folder to write to"),
    ("ensembles.sample_to", lambda t: to(t, "n" * 300), "path", "nnn", "must be"),
    ("ensembles.sample_to", lambda t: to(t, "seal"), "path", "manifest.json", "damaged"),
    ("ensembles.sample_to", lambda t: to(t, "/proc/no_such"), "path", "/proc/no_such", "must be a folder to write to"),
    *((("ensembles.sample_to", lambda t, name=name, value=value: to(t, **AGAIN | {name: value}), name, shown, "must be the same call")
       for name, value, shown in (("beta", 0.5, r"0\.5"), ("seed", 1, "1"), ("chains", 3, "3"), ("thin", 2, "2"), ("burn_in", 5, "5"),
                                  ("keep", "observables", "observables"), ("method", "metropolis", "metropolis"), ("checkpoint_every", 3, "3"),
                                  ("model", Ising((4, 4), h=0.1), r"h=0\.1"), ("model", Ising((6, 4)), r"\(6, 4\)"), ("model", Phi4((4, 4), 0.2, 0.5), "Phi4")))),
    ("ensembles.sample_to", lambda t: to(t, method="wolff", settings={"clusters": 2**40}), "clusters", "1099511627776", "must be"),
    ("ensembles.sample_to", lambda t: to(t, model=Bottomless()), r"model\.energy", "-inf", "must be"),
]


def grid(t, models=ISING, betas=(0.3, 0.4), folder="grid", **told):
    return sweep(models, betas, t.home / folder if folder in ("grid", "file", "file/deeper", "n" * 300) else folder,
                 **{"draws": 4, "burn_in": 0, "seed": 0, "progress": False} | told)


LIST_OF = "must be a list of inverse temperatures"
TOLD_BETAS = ((0.4, r"0\.4", LIST_OF), (None, "None", LIST_OF), ("hot", "'h", "finite number >= 0|" + LIST_OF), ([], r"\[\]", LIST_OF), ((), r"\(\)", LIST_OF),
              ([[]], r"\[\[\]\]", LIST_OF), ({}, "{}", LIST_OF), ({0.4}, r"0\.4", LIST_OF), ([math.nan], "nan", "finite number >= 0"),
              ([-0.1], r"-0\.1", "finite number >= 0"), ([0.3, math.inf], "inf", "finite number >= 0"), ([True], "True", "finite number >= 0"),
              (["0.4"], r"'0\.4'", "finite number >= 0"), ([None], "None", "finite number >= 0"), ([0.3, [0.4]], r"0\.4", "must be"),
              ([[0.3], 0.4], r"0\.4", "must be"), ([[0.3], [0.4]], "2 lists for 1", "one for each"), ([[[0.3]]], r"0\.3", "must be|finite number"),
              (np.array([]), r"array|\[\]", LIST_OF), (np.ones((1, 2, 2)), "array|1", "must be|finite number"), ([0.3, 0.4, 0.3], r"0\.3", "must be all different"),
              ([0.4, np.float64(0.4)], r"0\.4", "must be all different"), ({"a": 1}, "a", LIST_OF), ([1j], "1j", "finite number >= 0"),
              ([b"1"], "b'1'", "finite number >= 0"), (0.4j, r"0\.4j", LIST_OF), ({0: 0.4}, r"0\.4|\{", LIST_OF),
              ([[0.3, "x"]], "'x'", "finite number >= 0"), ([0.3] + ["a" * 500], "aaa", "finite number >= 0"))
PLACES = tuple((value, shown) for value, shown in PATHS)
EXECUTORS = ((3, "3"), ("pool", "'pool'"), (Sulky(), "Sulky"), (object(), "object"), ({"submit": 1}, "submit"), (True, "True"))
SWEEP = [
    *[("sweeps.sweep", lambda t, v=value: grid(t, betas=v), "betas?", shown, accepted) for value, shown, accepted in TOLD_BETAS],
    *rows_of("sweeps.sweep", lambda t, v: grid(t, models=v), "models?", (*MODELS, ([], r"\[\]"), ((), r"\[\]|\(\)"), ([None], "None"), ([ISING, "x"], "'x'"),
             (["ising"], "'ising'"), ([[ISING]], "Ising")), "must be|needs"),
    ("sweeps.sweep", lambda t: grid(t, models=[ISING, ISING]), "betas|models", r"Ising\(", "must be all different"),
    ("sweeps.sweep", lambda t: grid(t, models=[ISING, Ising((6, 4))], betas=[[0.3]]), "betas", "1 lists? for 2", "one for each"),
    ("sweeps.sweep", lambda t: grid(t, models=[ISING, Ising((6, 4))], betas=[[0.3], []]), "betas", r"\[\]", LIST_OF),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, folder=v), "path|folder", PLACES, "must be"),
    ("sweeps.sweep", lambda t: grid(t, folder="file"), "path|folder", "file", "must be"),
    ("sweeps.sweep", lambda t: grid(t, folder="file/deeper"), "path|folder", "deeper", "must be"),
    ("sweeps.sweep", lambda t: grid(t, folder="n" * 300), "path|folder", "nnn", "must be"),
    ("sweeps.sweep", lambda t: grid(t, folder="/proc/no_such"), "path|folder", "/proc", "must be a folder to write to"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, executor=v), "executor", EXECUTORS, "must be None, or an Executor"),
    *(row for name in ("draws", "chains", "thin")
      for row in rows_of("sweeps.sweep", lambda t, v, name=name: grid(t, **{name: v}), name, COUNTS, WHOLE + "1")),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, burn_in=v), "burn_in", BURNS, WHOLE + "0|'auto' or a number of sweeps >= 0"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, seed=v), "seed", SEEDS, WHOLE + "0"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, keep=v), "keep", KEEPS, "'configs', 'observables'"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, checkpoint_every=v), "checkpoint_every", EVERY, r"whole number >= 1|must be 'auto' or"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, progress=v), "progress", FLAGS, "must be True or False"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, method=v), "method", ((None, "None"), ("fast", "'fast'"), (3, "3"), (["wolff"], "wolff"), ("hmc", "hmc")),
             "accepted are|needs"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, settings=v), "settings", ((3, "3"), ("fast", "'fast'"), ([1], r"\[1\]"), ({"speed": 2}, "speed"),
             ({1: 2}, "1"), ({(1, 2): 3}, r"\(1, 2\)")), "must be None or a dict|accepted are"),
    *rows_of("sweeps.sweep", lambda t, v: grid(t, method="wolff", settings={"clusters": v}), "clusters",
             ((0, "0"), (1.5, r"1\.5"), ({1}, r"\{1\}"), (NoFloat(), "no float"), (1j, "1j")), "must be"),
]


def table(**changes):
    row = {"model": "Ising", "shape": "4x4", "beta": 0.4, "state": "kept", "seconds": 0.0, "error": "", "path": "no_such_folder"}
    return pd.DataFrame([row | changes])


NOT_TABLES = ((None, "None"), (3, "int"), ("table", "str"), ({}, "dict"), ([], "list"), (GRID, "ndarray"), (pd.DataFrame(), "DataFrame"),
              (pd.DataFrame({"state": ["kept"]}), "DataFrame|path"), (pd.DataFrame({"path": ["a"]}), "DataFrame|state"), (pd.Series([1]), "Series"),
              (xr.Dataset(), "Dataset"))
NOT_NAMES = ((["energi"], "'energi'"), ("energi", "'energi'"), ("energy", "'energy'"), (3, "3"), ([3], "3"), ([None], "None"), ([["energy"]], "energy"), (True, "True"),
             ([{}], r"\{\}"), (1.5, r"1\.5"), (["m", "config"], "config"), ([math.nan], "nan"), ({"energi": 1}, "energi"))
TABULATE = [
    *rows_of("sweeps.tabulate", lambda t, v: tabulate(v), "table", NOT_TABLES, "must be the DataFrame that sweep"),
    *rows_of("sweeps.tabulate", lambda t, v: tabulate(table(path=str(t.home / "long")), v), "names", NOT_NAMES, "accepted are|must be"),
    *rows_of("sweeps.tabulate", lambda t, v: tabulate(table(path=v)), "path", ((None, "None"), (math.nan, "nan"), (3, "3"), ("no_such_folder", "no_such_folder")), "must be"),
    ("sweeps.tabulate", lambda t: tabulate(table(path=str(t.home / "foreign"))), "path", "foreign", "must be an ensemble"),
    ("sweeps.tabulate", lambda t: tabulate(table(path=str(t.home / "saved"))), "energy", r"\(4, 6\)", "at least 10 draws"),
    ("sweeps.tabulate", lambda t: tabulate(table(path=str(t.home / "hurt"))), "path", "energy/0.0", "repair"),
]

TABLE = SAVE + LOAD + APPEND + UNFIT_ROWS + REPAIR + SAMPLE_TO + SWEEP + TABULATE


def contents(home):
    "Every file below a folder; locks are not counted."
    return {str(f.relative_to(home)): f.read_bytes() for f in sorted(home.rglob("*")) if f.is_file() and f.name != "lock"}


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row, folder, monkeypatch):
    "In the required way, and what is stored stays as it is."
    _, call, *expected = TABLE[row]
    monkeypatch.chdir(folder)
    before = contents(folder)
    try:
        assert_refused(call, SimpleNamespace(home=folder), *expected)
        assert contents(folder) == before
    finally:  # one call that is not refused must not spoil the next
        for name in ("new", "grid"):
            shutil.rmtree(folder / name, ignore_errors=True)
        after = contents(folder)
        for name in after.keys() - before.keys():
            (folder / name).unlink()
        for name in (n for n in before if after.get(n) != before[n]):
            (folder / name).write_bytes(before[name])


def test_every_public_callable_stands_in_the_table():
    assert_complete(MODULES, TABLE, EXEMPT)


def test_the_table_is_long_enough():
    assert len(TABLE) >= 120 and {row[0] for row in TABLE} == {"ensembles.save", "ensembles.load", "ensembles.append", "ensembles.repair",
                                                               "ensembles.sample_to", "sweeps.sweep", "sweeps.tabulate"}
