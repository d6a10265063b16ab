"""Ensembles from and to files of others: round trips to the bit, refusals, damaged files, and no false alarm about repeats."""
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyerrors
import pytest
import xarray as xr

from uqphys import foreign
from uqphys.analysis import diagnostics, estimates, gamma_error, two_point_function
from uqphys.foreign import from_arrays, from_file, load_pyerrors, save_pyerrors, to_netcdf, to_pyerrors
from uqphys.models import CustomModel, Ising, Phi4, random_spins
from uqphys.reweighting import combine
from uqphys.sampling import sample
from uqphys.tempering import temper

LAWS = {"square": Ising((4, 6), J2=0.3, K=0.1, h=0.2), "cube": Ising((2, 4, 4)), "field": Phi4((4, 4), 0.2, 0.5), "ring": Phi4((7,), 0.2, 0.5)}


def same_types(one, two):
    "The same variables with the same types."
    return {n: v.dtype for n, v in one.variables.items()} == {n: v.dtype for n, v in two.variables.items()}


@pytest.fixture(scope="module")
def runs():
    "A short run of each law."
    return {name: sample(law, 0.3, draws=60, chains=3, seed=5, burn_in=20, thin=2, progress=False) for name, law in LAWS.items()}


@pytest.fixture
def here(tmp_path, monkeypatch):
    "An empty folder, in which we stand."
    monkeypatch.chdir(tmp_path)
    return tmp_path


def total(run, law):
    "Total energies of an ensemble."
    return run.energy.values * math.prod(law.shape)


# ---- from arrays

@pytest.mark.parametrize("name", LAWS)
def test_what_sample_drew_comes_back_to_the_bit(runs, name):
    law, run = LAWS[name], runs[name]
    again = from_arrays(run.config.values, total(run, law), model=law, beta=0.3, source="sample")
    xr.testing.assert_equal(again, run)
    assert same_types(again, run) and list(again.data_vars) == list(run.data_vars)
    assert {k: again.attrs[k] for k in ("model", "couplings", "shape", "beta", "uqphys_version")} == \
        {k: run.attrs[k] for k in ("model", "couplings", "shape", "beta", "uqphys_version")}
    assert again.method == "foreign" and again.source == "sample" and "seed" not in again.attrs
    alone = from_arrays(run.config.values, model=law, beta=0.3)
    xr.testing.assert_equal(alone, run)
    assert estimates(again) == estimates(run) and diagnostics(again).equals(diagnostics(run))
    assert combine([again.isel(chain=[0, 1]), again.isel(chain=[2])]) is not None


def test_blocks_do_not_matter(runs):
    law, run = LAWS["field"], runs["field"]
    long = np.concatenate([np.random.default_rng(k).normal(size=(1, 40_000, 4, 4)) for k in range(2)])
    seen = from_arrays(long, law.energy(long), model=law)
    for name, values in law.observables(long).items():
        assert np.array_equal(seen[name], values), name
    assert run.sizes["chain"] == 3


def test_one_chain_other_types_and_other_memory(runs):
    law, run = LAWS["square"], runs["square"]
    x, energies = run.config.values[0], total(run, law)[0]
    wanted = from_arrays(x, energies, model=law)
    assert wanted.sizes == {"chain": 1, "draw": 60, "x": 4, "y": 6} and wanted.config.dtype == np.int8
    for kind in (np.int16, np.uint8, np.float32, np.float16, np.longdouble, ">i4", ">f8"):
        given = x.astype(kind) if kind is not np.uint8 else x.astype(np.int8)
        xr.testing.assert_identical(from_arrays(given, energies, model=law), wanted)
    xr.testing.assert_identical(from_arrays(np.asfortranarray(x), energies.astype(np.float32), model=law), wanted)
    xr.testing.assert_identical(from_arrays(x.tolist(), energies.tolist(), model=law), wanted)
    xr.testing.assert_identical(from_arrays(np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0), model=law), wanted)


def test_without_a_model():
    x = random_spins((4, 6), 30, 1)
    spins, fields = from_arrays(x, ndim=2), from_arrays(x, np.arange(30), ndim=2, fields=True)
    assert list(spins.data_vars) == ["m", "abs_m", "m2", "m4", "config"] and spins.config.dtype == np.int8
    assert list(fields.data_vars) == ["energy", "m", "abs_m", "m2", "m4", "phi2", "phi4", "config"] and fields.config.dtype == np.float64
    assert np.array_equal(fields.energy.values[0] * 24, np.arange(30)) and (fields.phi2 == 1).all()
    assert np.array_equal(spins.m.values[0], x.mean(axis=(1, 2))) and np.allclose(spins.m4, spins.m**4)
    assert set(spins.attrs) == {"shape", "uqphys_version", "method", "source"}
    assert from_arrays(x, ndim=1).sizes == {"chain": 30, "draw": 4, "x": 6}
    two_point_function(spins, axis=0)


def test_observables_and_labels_come_along():
    x = random_spins((3, 3), 20, 2)
    found = from_arrays(x, model=Ising((3, 3)), observables={"charge": np.arange(20), "on": np.arange(20) % 2 == 0}, draw=np.arange(5, 25))
    assert found.charge.dtype == found.on.dtype == np.float64 and found.charge.values.tolist() == [list(range(20))]
    assert found.draw.values.tolist() == list(range(5, 25)) and found.chain.values.tolist() == [0]


def test_a_model_of_a_users_own():
    law = CustomModel((5,), lambda x: (x**2).sum(axis=-1), values="real", observables=lambda x: {"top": x.max(axis=-1)})
    x = np.random.default_rng(0).normal(size=(2, 20, 5))
    found = from_arrays(x, (x**2).sum(axis=-1), model=law)
    assert np.array_equal(found.top, x.max(axis=-1))
    with pytest.raises(ValueError, match="top.* come from the model"):
        from_arrays(x, model=law, observables={"top": np.zeros((2, 20))})


# ---- energies

def hints(own, sites):
    "Wrong energies, and what is said of them."
    rng = np.random.default_rng(1)
    mixed = own.reshape(-1)[rng.permutation(own.size)].reshape(own.shape)
    return [(own / sites, "energies per site"), (-own, "opposite sign"), (-own / sites, "per site and with the opposite sign"),
            (2 * own, "all are 2 times"), (0.5 * own, "all are 0.5 times"), (own + 7, r"larger by 7: another zero"), (own - 7, "larger by -7"),
            (np.roll(own, 1, axis=1), "draw before"), (np.roll(own, -1, axis=1), "draw after"), (mixed, "another order")]


@pytest.mark.parametrize("row", range(10))
def test_a_mismatch_of_energies_is_explained(runs, row):
    law, run = LAWS["square"], runs["square"]
    wrong, words = hints(total(run, law), 24)[row]
    for given in (wrong, wrong.astype(np.float32)):
        with pytest.raises(ValueError, match=rf"energies: \S+ at chain \d, draw \d+, but model.energy gives .*{words}"):
            from_arrays(run.config.values, given, model=law)


def test_one_wrong_energy_is_found_where_it_is(runs):
    law, run = LAWS["square"], runs["square"]
    wrong = total(run, law)
    wrong[1, 17] += 1e-3
    with pytest.raises(ValueError, match=rf"{wrong[1, 17]:.6g}\d* at chain 1, draw 17, but model.energy gives {wrong[1, 17] - 1e-3:.6g}") as caught:
        from_arrays(run.config.values, wrong, model=law)
    assert "times" not in str(caught.value) and "order" not in str(caught.value)
    from_arrays(run.config.values, wrong, model=law, tolerance=1e-3)
    from_arrays(run.config.values, wrong, ndim=2)  # nobody knows better


def test_a_single_flip_on_a_large_lattice_is_seen_in_single_precision():
    law, x = Ising((512, 512)), np.ones((10, 512, 512), dtype=np.int8)
    energies = law.energy(x).astype(np.float32)
    from_arrays(x, energies, model=law)
    x[3, 5, 5] = -1
    with pytest.raises(ValueError, match="draw 3, but model.energy gives -524280"):
        from_arrays(x, energies, model=law)


# ---- the same data twice

def metropolis(L, beta, draws, seed):
    "Honest chains: (2, draws, L, L)."
    return sample(Ising((L, L)), beta, draws=draws, chains=2, seed=seed, method="metropolis", burn_in=100, progress=False).config.values


@pytest.mark.parametrize("beta", (0.05, 0.2, 0.35, 0.44, 0.6, 0.8, 1.2))
@pytest.mark.parametrize("L", (2, 3, 4))
def test_no_false_alarm_about_honest_chains(L, beta):
    foreign._refuse_repeats(metropolis(L, beta, 50_000, seed=int(100 * beta) + L))


def single_flips(shape, beta, draws, seed):
    "A draw after every attempted flip: (1, draws, *shape). Neighbouring draws differ in one spin at most."
    law, rng, size = Ising(shape), np.random.default_rng(seed), math.prod(shape)
    states = np.array([[1 if code >> k & 1 else -1 for k in range(size)] for code in range(2**size)], dtype=np.int8)
    energy, code, path = law.energy(states.reshape(-1, *shape)), 0, np.empty(draws, dtype=int)
    sites, dice = rng.integers(0, size, draws), rng.random(draws)
    accept = np.exp(-beta * np.maximum(0, energy[np.arange(2**size)[:, None] ^ (1 << np.arange(size))] - energy[:, None]))
    for t in range(draws):
        if dice[t] < accept[code, sites[t]]:
            code ^= 1 << int(sites[t])
        path[t] = code
    return states[path].reshape(1, draws, *shape)


@pytest.mark.parametrize("shape", ((2, 2), (2, 3), (3, 3), (3, 4)))
@pytest.mark.parametrize("beta", (0.0, 0.1, 0.3, 0.6))
def test_no_false_alarm_about_single_flips(shape, beta):
    foreign._refuse_repeats(single_flips(shape, beta, 100_000, seed=3))
    for k in range(20):
        foreign._refuse_repeats(single_flips(shape, beta, 2000, seed=100 + k))


@pytest.mark.parametrize("beta,draws", ((0.1, 20), (0.3, 500), (0.44, 3000), (0.6, 5000), (0.3, 50_000)))
def test_a_doubled_file_is_found(beta, draws):
    one, two = metropolis(4, beta, 50_000, seed=9)[:, :draws]
    with pytest.raises(ValueError, match=r"chain 0: draws \d+\.\.\.\d+ occur again at draws \d+\.\.\.\d+"):
        from_arrays(np.concatenate([one, one]), ndim=2)
    with pytest.raises(ValueError, match=rf"chain 0: draws \d+\.\.\.{draws - 1} occur again at chain 1: draws \d+\.\.\.{draws + draws - 1}"):
        foreign._refuse_repeats(np.stack([np.concatenate([one, two]), np.concatenate([two[::-1], one])]))
    with pytest.raises(ValueError, match=f"chain 2 is identical to chain 0, in all {draws} draws"):
        from_arrays(np.stack([one, two, one]), ndim=2)


def test_the_places_of_a_repeat_are_named():
    x = random_spins((8, 8), 400, 4)
    for length, found in ((15, False), (16, True), (100, True)):
        y = x.copy()
        y[250:250 + length] = x[31:31 + length]
        if not found:
            from_arrays(y, ndim=2)
            continue
        with pytest.raises(ValueError, match=rf"chain 0: draws 31\.\.\.{30 + length} occur again at draws 250\.\.\.{249 + length};"):
            from_arrays(y, ndim=2)


def test_repeats_of_fields_are_found_too(runs):
    x = np.random.default_rng(0).normal(size=(40, 3, 3))
    from_arrays(x, ndim=2, fields=True)
    with pytest.raises(ValueError, match=r"draws 0\.\.\.39 occur again at draws 40\.\.\.79"):
        from_arrays(np.concatenate([x, x]), ndim=2, fields=True)
    from_arrays(np.concatenate([x, -x, x * (1 + 1e-15)]), ndim=2, fields=True)


def test_little_variety_is_no_evidence():
    cold = np.ones((2, 300, 4, 4), dtype=np.int8)
    from_arrays(cold, ndim=2)
    for k in range(6):
        cold[:, 10 * k, 0, k % 4] *= -1
    from_arrays(cold, ndim=2)
    few = random_spins((4, 4), 3, 0)
    from_arrays(np.stack([few, few]), ndim=2)  # three draws may agree
    with pytest.raises(ValueError, match="chain 1 is identical to chain 0"):
        more = random_spins((4, 4), 6, 0)
        from_arrays(np.stack([more, more]), ndim=2)


# ---- files

def write(path, arrays):
    "Arrays into a file of the kind that its name tells."
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
    elif path.suffix == ".nc":
        dims = iter(range(1000))
        xr.Dataset({n: ([f"d{next(dims)}" for _ in v.shape], v) for n, v in arrays.items()}).to_netcdf(path, engine="h5netcdf")
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values, compression="gzip")


@pytest.mark.parametrize("ending", (".npz", ".h5", ".hdf5", ".nc", ".NPZ"))
@pytest.mark.parametrize("name", ("square", "field"))
def test_every_kind_of_file_is_read(runs, here, ending, name):
    law, run = LAWS[name], runs[name]
    arrays = {"configs": run.config.values, "energies": total(run, law), "charge": run.m.values, "draw": np.arange(100, 160)}
    path = here / f"a{ending}"
    write(path.with_suffix(ending.lower()), arrays)
    if ending == ".NPZ":
        path.with_suffix(".npz").rename(path)
    wanted = from_arrays(*list(arrays.values())[:2], model=law, beta=0.3, observables={"q": arrays["charge"]}, draw=arrays["draw"], source=path.name)
    xr.testing.assert_identical(from_file(path, model=law, beta=0.3, observables={"q": "charge"}), wanted)
    found = from_file(str(path), energies=None, draw=None, model=law, beta=0.3, source="x")
    assert found.draw.values.tolist() == list(range(60)) and found.source == "x" and np.array_equal(found.energy, run.energy)
    with pytest.raises(ValueError, match="energies='E': not in .* configs, .*energies"):
        from_file(path, energies="E", model=law)
    with pytest.raises(ValueError, match="observables='flux': not in .*; must be one of what is there: "):
        from_file(path, observables=["flux"], model=law)


def test_groups(here):
    x = random_spins((4, 4), 20, 0)
    with h5py.File("a.h5", "w") as file:
        file["run/one/s"], file["L"] = x, 4
    xr.testing.assert_identical(from_file("a.h5", configs="run/one/s", energies=None, ndim=2), from_file("a.h5", group="run", configs="one/s", energies=None, ndim=2))
    xr.Dataset({"configs": (("t", "x", "y"), x)}).to_netcdf("b.nc", group="run", engine="h5netcdf")
    assert np.array_equal(from_file("b.nc", group="run", energies=None, ndim=2).config[0], x)
    for path, group, words in (("a.h5", "walk", "group='walk' is not there; it holds L, run"), ("b.nc", "walk", "cannot be read; .*group not found: walk"), ("a.h5", "L", "not there")):
        with pytest.raises(ValueError, match=words):
            from_file(path, group=group, ndim=2)


def test_repeated_labels_in_a_file_are_refused(here):
    for name, labels in (("draw", [*range(10), *range(10)]), ("draw", [*range(19), 18]), ("chain", [3])):
        np.savez("a.npz", configs=random_spins((4, 4), 20, 0), **{name: labels})
        if name == "chain":
            assert from_file("a.npz", energies=None, ndim=2).chain.values.tolist() == [3]
            continue
        with pytest.raises(ValueError, match=r"draw\[\d+\]=\d+ comes after draw\[\d+\]=\d+: must be whole numbers that increase"):
            from_file("a.npz", energies=None, ndim=2)
        from_file("a.npz", energies=None, draw=None, ndim=2)


class _Bomb:
    "A pickle that leaves a trace when it is opened."

    def __reduce__(self):
        return open, ("trace", "w")


def test_a_pickle_is_never_opened(here):
    np.savez("a.npz", configs=np.array([_Bomb()], dtype=object))
    Path("b.npz").write_bytes(pickle.dumps(_Bomb()))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ValueError, match=f"path='{name}': cannot be read"):
            from_file(name, energies=None, ndim=2)
    assert not Path("trace").exists()


# ---- netCDF

@pytest.mark.parametrize("name", LAWS)
def test_netcdf_round_trip(runs, here, name):
    run = runs[name].assign_attrs(a=None, b=True, c=[1, "x", [None]], d=(1, 2), e=np.float32(0.1), f=np.arange(3), g=[], h={"i": math.inf}, j="",
                                  k=2**70, l=np.bool_(True), n=[1.0, 2.0], o="é" * 70_000, p=-0.0, beta=0.1 + 0.2)
    run.m.attrs["unit"] = "1"
    before = {n: dict(v.attrs) for n, v in run.variables.items()}, dict(run.attrs)
    to_netcdf(run, "a.nc")
    back = from_file("a.nc")
    xr.testing.assert_identical(back, run)
    assert same_types(back, run) and repr(back.attrs) == repr(run.attrs) and {k: type(v) for k, v in back.attrs.items()} == \
        {k: type(v) for k, v in run.attrs.items()}
    assert list(back.data_vars) == list(run.data_vars) and list(back.coords) == list(run.coords)
    assert before == ({n: dict(v.attrs) for n, v in run.variables.items()}, dict(run.attrs))
    with h5py.File("a.nc") as file:
        assert file["config"].compression == "gzip" and file["config"].shuffle
    del run.m.attrs["unit"]
    assert estimates(back) == estimates(run)


def test_netcdf_of_ladders_and_of_odd_numbers(here):
    ladder = temper(Ising((4, 4)), betas=[0.2, 0.3, 0.4], draws=60, chains=2, seed=1, progress=False)
    odd = xr.Dataset({"a": (("chain", "draw"), np.array([[math.nan, -0.0, math.inf]])), "b": (("draw",), np.array([True, False, True])),
                      "c": ((), np.uint8(3)), "d": (("x",), np.zeros(0, dtype=np.int16))}, coords={"beta": 0.3})
    for ensemble in (ladder, ladder.isel(beta=1), odd):
        to_netcdf(ensemble, "a.nc")
        xr.testing.assert_identical(from_file("a.nc"), ensemble)
        assert same_types(from_file("a.nc"), ensemble)
    assert np.signbit(from_file("a.nc").a.values[0, 1])


def test_a_file_can_replace_the_one_it_was_lazily_read_from(runs, here):
    to_netcdf(runs["square"], "a.nc")
    with xr.open_dataset("a.nc", engine="h5netcdf") as lazy:
        to_netcdf(lazy.isel(draw=slice(0, 20)).assign_attrs({k: v for k, v in lazy.attrs.items() if k != "uqphys_ensemble"}).drop_attrs(), "a.nc")
    assert from_file("a.nc").sizes["draw"] == 20


@pytest.mark.parametrize("writer,name", ((to_netcdf, "a.nc"), (save_pyerrors, "a.json.gz")))
@pytest.mark.parametrize("where", ("fsync", "replace", "dump"))
def test_a_failure_leaves_the_old_file(runs, here, monkeypatch, writer, name, where):
    writer(runs["square"], name)
    old = Path(name).read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def half(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half")
        fail()
    if where == "dump":
        monkeypatch.setattr(xr.Dataset, "to_netcdf", half)
        monkeypatch.setattr(pyerrors.input.json, "dump_dict_to_json", lambda obs, path, **more: half(None, path))
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(ValueError, match=f"path='{name}': cannot be written; .*No space left on device"):
        writer(runs["cube"], name)
    assert Path(name).read_bytes() == old and os.listdir(here) == [name]
    monkeypatch.undo()
    os.chdir(here)
    writer(runs["cube"], here / name)
    assert Path(here / name).read_bytes() != old and os.listdir(here) == [name]


def test_a_stop_from_the_keyboard_leaves_nothing(runs, here, monkeypatch):
    def stop(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt
    monkeypatch.setattr(xr.Dataset, "to_netcdf", stop)
    with pytest.raises(KeyboardInterrupt):
        to_netcdf(runs["cube"], "a.nc")
    assert os.listdir(here) == []


def test_a_link_is_followed(runs, here):
    os.mkdir("far")
    os.symlink("far/a.nc", "a.nc")
    to_netcdf(runs["ring"], "a.nc")
    assert os.path.islink("a.nc") and os.listdir("far") == ["a.nc"]
    xr.testing.assert_identical(from_file("a.nc"), runs["ring"])


# ---- damage

def test_a_file_that_was_changed_afterwards_is_refused(runs, here):
    def change_value(file):
        file["m"][0, 3] += 1e-12

    def change_attribute(file):
        file.attrs["uqphys_ensemble"] = file.attrs["uqphys_ensemble"].replace('"beta": 0.3', '"beta": 0.4')

    def change_unit(file):
        told = json.loads(file.attrs["uqphys_ensemble"])
        told["variables"]["m"]["unit"] = "T"
        file.attrs["uqphys_ensemble"] = json.dumps(told)

    def take_away(file):
        del file["m4"]
    for change in (change_value, change_attribute, change_unit, take_away):
        to_netcdf(runs["square"], "a.nc")
        with h5py.File("a.nc", "r+") as file:
            change(file)
        with pytest.raises(ValueError, match="path='a.nc': cannot be read; .*damaged, or changed since"):
            from_file("a.nc")


def damaged(whole, k):
    "The bytes cut off at a random place (k < 60), or with some of them changed."
    rng = np.random.default_rng(k)
    if k < 60:
        return whole[:int(rng.integers(0, len(whole)))]
    changed = bytearray(whole)
    for place in rng.integers(0, len(whole), 1 + k % 4):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf cannot close what it could not open
@pytest.mark.parametrize("name", ("a.npz", "a.nc", "a.h5", "a.json.gz"))
def test_a_damaged_file_gives_an_error_or_what_was_in_it(runs, here, name):
    law, run = LAWS["field"], runs["field"]
    if name == "a.nc":
        to_netcdf(run, name)
    elif name == "a.json.gz":
        save_pyerrors(run, name)
    else:
        write(here / name, {"configs": run.config.values, "energies": total(run, law)})
    read = {"a.nc": from_file, "a.json.gz": load_pyerrors}.get(name, lambda path: from_file(path, model=law))
    whole, wanted, refused = Path(name).read_bytes(), read(name), 0
    for k in range(60 if name == "a.h5" else 120):  # nothing in plain HDF5 protects a bit
        Path(name).write_bytes(damaged(whole, k))
        try:
            found = read(name)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 300 and (name in str(error) or "not in" in str(error)), error
            continue
        assert k >= 60, "a part of a file passed for the whole"
        if name == "a.json.gz":
            assert {n: (o.value, o.dvalue) for n, o in found.items()} == {n: (o.value, o.dvalue) for n, o in wanted.items()}
        else:
            xr.testing.assert_identical(found, wanted)
    assert refused >= 60


# ---- pyerrors

def test_pyerrors_has_the_numbers_of_gamma_error(runs):
    for run in runs.values():
        obs = to_pyerrors(run)
        assert list(obs) == [n for n in run.data_vars if n != "config"]
        for name, o in obs.items():
            e = gamma_error(run[name].values, name)
            assert (o.value, o.dvalue, o.tag) == (e.value, e.error, name)
            assert len(o.e_content) == 1 and len(o.names) == 3
    names = {next(iter(to_pyerrors(run)["m"].e_content)) for run in runs.values()}
    assert len(names) == len(runs), "ensembles of different data need different names"
    run = runs["square"]
    assert to_pyerrors(run, ["m2"])["m2"].names == to_pyerrors(run)["energy"].names


def test_correlations_are_kept(runs):
    obs = to_pyerrors(runs["square"])
    nothing = obs["m2"] - 1.0 * obs["m2"]
    nothing.gamma_method()
    assert nothing.dvalue < 1e-14
    chi = 0.3 * 24 * (obs["m2"] - obs["abs_m"] ** 2)
    chi.gamma_method(S=2.0)
    wanted = estimates(runs["square"])["susceptibility"]
    assert np.isclose(chi.value, wanted.value, rtol=1e-12) and np.isclose(chi.dvalue, wanted.error, rtol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_pyerrors_round_trip(runs, here, name):
    run = runs[name].assign_attrs(a=None, b=[True, None], c=np.arange(2))
    obs = to_pyerrors(run)
    save_pyerrors(run, "a.json.gz")
    back = load_pyerrors("a.json.gz")
    assert list(back) == list(obs)
    for n, o in obs.items():
        assert back[n].value == o.value and np.isclose(back[n].dvalue, o.dvalue, rtol=1e-9, atol=1e-300) and back[n].names == o.names and back[n].tag == n
    both = back["m"] - 1.0 * obs["m"]  # the same ensemble, so that it cancels
    both.gamma_method()
    assert both.dvalue < 1e-12
    theirs = pyerrors.input.json.load_json_dict("a.json.gz", verbose=False, full_output=True)
    assert theirs["description"]["beta"] == run.beta and theirs["description"]["a"] is None
    for n, o in theirs["obsdata"].items():
        assert o.value == obs[n].value
    save_pyerrors(run.isel(chain=[1]), "b.json.gz", ["m", "m4"])
    alone, one = pyerrors.input.json.load_json_dict("b.json.gz", verbose=False), to_pyerrors(run.isel(chain=[1]))
    assert list(alone) == ["m", "m4"]
    for n, o in alone.items():  # with one chain pyerrors' own reader says the same
        o.gamma_method(S=2.0)
        assert o.value == one[n].value and np.isclose(o.dvalue, one[n].dvalue, rtol=1e-9)


def test_a_constant_observable_travels(runs, here):
    run = runs["square"].assign(flat=runs["square"].m * 0 + 0.1)
    save_pyerrors(run, "a.json.gz")
    assert load_pyerrors("a.json.gz")["flat"].dvalue == 0 and to_pyerrors(run)["flat"].value == 0.1


# ---- the import

def test_the_import_is_light():
    code = ("import xarray, sys, time, uqphys.models; t = time.perf_counter(); import uqphys.foreign; t = time.perf_counter() - t; "
            "import json; print(json.dumps([t, sorted({'pyerrors', 'numba', 'h5py', 'h5netcdf', 'torch', 'scipy', 'matplotlib'} & set(sys.modules))]))")
    done = [json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(t for t, _ in done) < 0.3 and not done[0][1]
