"""Stored ensembles come back to the bit, grow in constant memory, and say what does not fit; nothing is ever half there."""
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

from uqphys.ensembles import append, load, repair, sample_to, save
from uqphys.models import CustomModel, Ising, Phi4
from uqphys.sampling import METHODS, sample
from uqphys.sweeps import sweep
from uqphys.tempering import temper

CRITICAL = np.log(1 + np.sqrt(2)) / 2


def small(draws=60, **changes):
    return sample(Ising((8, 8)), CRITICAL, **{"draws": draws, "burn_in": 10, "seed": 0, "progress": False} | changes)


ENSEMBLES = {
    "spins": small(),
    "observables": small(keep="observables"),
    "a field": sample(Phi4((4, 4), 0.2, 0.5), draws=30, burn_in=10, seed=0, progress=False),
    "three dimensions": sample(Ising((4, 4, 2)), 0.2, draws=30, chains=3, burn_in=10, seed=0, progress=False),
    "many temperatures": temper(Ising((4, 4)), [0.2, 0.3, 0.4], draws=30, burn_in=10, seed=0, keep="configs", progress=False),
    "one of many": temper(Ising((4, 4)), [0.2, 0.3], draws=30, burn_in=10, seed=0, keep="configs", progress=False).sel(beta=0.3),
    "a chain": small().isel(chain=1),
    "every third draw": small().isel(draw=slice(5, None, 3)),
    "other types": small().assign(up=lambda d: d.m > 0, few=lambda d: d.energy.astype("f4"), count=lambda d: (d.m * 64).astype("i4"),
                                  foreign=lambda d: d.m.astype(">f8")),
    "hundreds of chains": small(chains=300, keep="observables"),
    "strange numbers": small().assign(odd=lambda d: d.m * np.inf),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_round_trip(name, tmp_path):
    "What is loaded is what was saved: numbers, types, order, coordinates, attributes; and plain xarray reads it too."
    ensemble = ENSEMBLES[name]
    found = load(save(ensemble, tmp_path / "a.zarr"))
    xr.testing.assert_identical(found, ensemble)
    assert list(found.data_vars) == list(ensemble.data_vars)
    for variable in found.data_vars:
        assert found[variable].dtype == ensemble[variable].dtype.newbyteorder("=")
        assert found[variable].dims == ensemble[variable].dims
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).load()
    for variable in found.data_vars:
        np.testing.assert_array_equal(plain[variable].values, ensemble[variable].values)


def test_slices_and_observables(tmp_path):
    "Any slice of draws, with or without configurations."
    ensemble = small(draws=3000, chains=8)
    path = save(ensemble, tmp_path / "a")
    for draws in (slice(0, 1), slice(2990, None), slice(1000, 2100), slice(None, None, 7), slice(-5, None), slice(50, 50)):
        xr.testing.assert_identical(load(path, draws=draws), ensemble.isel(draw=draws))
    xr.testing.assert_identical(load(path, keep="observables"), ensemble.drop_vars("config"))


@pytest.mark.parametrize("pieces", [[1, 1, 1], [60, 3000, 5], [2047, 1, 1, 2048], [700, 700, 700, 700]])
def test_append_equals_one_save(pieces, tmp_path):
    "However a run is cut into pieces, the store is the same."
    whole = small(draws=sum(pieces), chains=8)
    ends = np.cumsum([0, *pieces])
    save(whole.isel(draw=slice(0, pieces[0])), tmp_path / "a")
    for k, (start, end) in enumerate(zip(ends[1:], ends[2:])):
        part = whole.isel(draw=slice(start, end))  # numbered on, and (every other time) from 0 again
        assert append(tmp_path / "a", part.assign_coords(draw=np.arange(end - start)) if k % 2 else part) == end
    xr.testing.assert_identical(load(tmp_path / "a"), whole)


def test_append_refuses_what_does_not_fit(tmp_path):
    "Another law, other chains or types, pieces that are there already, wrong numbers: refused by name, and nothing changes."
    first, path = small(), tmp_path / "a"
    save(first, path)
    wrong = {"beta": small(seed=1).assign_attrs(beta=0.3), "model": small(seed=1).assign_attrs(model="other"),
             r"chain|energy": small(seed=1, chains=3), "variables": small(seed=1, keep="observables"), "already": first,
             "begin": small(seed=1).assign_coords(draw=np.arange(7, 67)), "dtype|float32": small(seed=1).astype("f4"),
             "draws": small(seed=1).isel(draw=slice(0, 0)), "Dataset": 7}
    for what, ensemble in wrong.items():
        with pytest.raises(ValueError, match=what):
            append(path, ensemble)
        xr.testing.assert_identical(load(path), first)
    append(path, small(seed=1))
    assert json.loads(load(path).attrs["appended"])[0]["seed"] == 1
    with pytest.raises(ValueError, match="already"):
        append(path, small(seed=1))
    with pytest.raises(ValueError, match="nothing"):
        append(tmp_path / "none", first)


def test_a_million_draws_in_constant_memory(tmp_path):
    "10^6 draws of five observables, 4000 at a time: memory does not grow, and neither does the time for a piece."
    code = f"""
import time, numpy as np, xarray as xr
from uqphys.ensembles import append, save, load
rng, names, times, peak = np.random.default_rng(0), ("energy", "m", "abs_m", "m2", "m4"), [], []
def piece(k):
    return xr.Dataset({{n: (("chain", "draw"), rng.normal(size=(4, 4000))) for n in names}}, coords={{"chain": range(4), "draw": 4000 * k + np.arange(4000)}})
path = save(piece(0), {str(tmp_path / "a")!r})
for k in range(1, 250):
    more = piece(k)
    begin = time.process_time(); append(path, more); times.append(time.process_time() - begin)
    peak.append(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]))
print(peak[-1] - peak[40], np.median(times[-50:]), np.median(times[:50]), load(path, draws=slice(-1, None)).draw.item())
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    grown, late, early, last = map(float, told)
    print(f"peak memory grew by {grown / 1024:.1f} MB over the last 800 000 draws; {1e3 * early:.1f} ms a piece early, {1e3 * late:.1f} late")
    assert last == 999_999
    assert grown < 20 * 1024  # kB; all numbers together are 160 MB
    assert late < 3 * early


def test_overwrite_replaces_all(tmp_path):
    "Nothing of an overwritten ensemble is left, also where the old one was damaged."
    path = tmp_path / "a"
    save(small(draws=3000, chains=8), path)
    with pytest.raises(ValueError, match="overwrite=True"):
        save(small(), path)
    for damage in (lambda: None, lambda: (path / ".uqphys/manifest.json").write_text("x"), lambda: (path / "zarr.json").unlink()):
        damage()
        save(ENSEMBLES["observables"], path, overwrite=True)
        xr.testing.assert_identical(load(path), ENSEMBLES["observables"])
        assert not (path / "config").exists() or not any((path / "config").iterdir())
        xr.testing.assert_equal(xr.open_zarr(path, consolidated=False).load().drop_vars(["chain", "draw"], errors="ignore"),
                                ENSEMBLES["observables"].drop_vars(["chain", "draw"]))


MODELS = {"hmc": Phi4((4, 4), 0.2, 0.5), "cluster-phi4": Phi4((4, 4), 0.2, 0.5), "multispin": Ising((128, 2)),
          "multispin-replicas": Ising((8, 8))}


@pytest.mark.parametrize("method", METHODS[1:])
def test_sample_to_is_sample(method, tmp_path):
    "The same bits as sample(), written at once, in pieces, or continued; and all attributes of it."
    model = MODELS.get(method, Ising((8, 8)))
    options = dict(draws=40, chains=3, burn_in=7, thin=2, method=method, seed=3, progress=False)
    expected = sample(model, 0.3, **options)
    path = sample_to(tmp_path / "a", model, 0.3, **options, checkpoint_every=7)
    xr.testing.assert_identical(load(path), expected)
    sample_to(tmp_path / "b", model, 0.3, **options | {"draws": 11}, checkpoint_every=7)
    sample_to(tmp_path / "b", model, 0.3, **options, checkpoint_every=7)
    xr.testing.assert_identical(load(tmp_path / "b"), expected)


def test_a_model_of_ones_own(tmp_path):
    "A learned or home-made energy is known again by its energies; another one is refused."
    one, two = (CustomModel((4, 4), lambda x, c=c: -c * (x * np.roll(x, 1, -1)).sum((-1, -2))) for c in (1.0, 1.1))
    options = dict(draws=30, burn_in=5, seed=0, progress=False, checkpoint_every=8)
    path = sample_to(tmp_path / "a", one, 0.3, **options)
    xr.testing.assert_identical(load(path), sample(one, 0.3, draws=30, burn_in=5, seed=0, progress=False))
    with pytest.raises(ValueError, match="must be the same call"):
        sample_to(path, two, 0.3, **options)


def test_another_call_is_refused(tmp_path):
    "Each argument that would change the numbers is compared."
    good = dict(model=Ising((8, 8)), beta=0.3, chains=3, burn_in=7, thin=2, method="wolff", settings={"clusters": 3}, seed=3,
                keep="configs", checkpoint_every=7)
    path = sample_to(tmp_path / "a", **good, draws=20, progress=False)
    before = load(path)
    changes = dict(model=Ising((8, 8), J=0.9), beta=0.31, chains=4, burn_in=8, thin=1, method="swendsen-wang", settings={"clusters": 4},
                   seed=4, keep="observables", checkpoint_every=8)
    for name, value in changes.items():
        call = good | {name: value} | ({"settings": None} if name == "method" else {})
        with pytest.raises(ValueError, match="must be the same call" if name != "model" else "model|energies"):
            sample_to(path, **call, draws=40, progress=False)
        xr.testing.assert_identical(load(path), before)
    sample_to(path, **good, draws=5, progress=False)  # fewer draws are there already
    xr.testing.assert_identical(load(path), before)


def test_long_runs_continue_short_ones(tmp_path):
    "More draws with the burn-in that was found for the short run."
    options = dict(method="metropolis", seed=1, progress=False, checkpoint_every=50)
    path = sample_to(tmp_path / "a", Ising((4, 4)), 0.3, draws=300, **options)
    found = load(path).attrs
    sample_to(path, Ising((4, 4)), 0.3, draws=900, **options)
    expected = sample(Ising((4, 4)), 0.3, draws=900, method="metropolis", seed=1, progress=False, burn_in=found["burn_in"])
    assert load(path).attrs["burn_in_reason"] == found["burn_in_reason"] != "asked for"
    assert np.array_equal(load(path).config, expected.config)


def test_two_writers(tmp_path):
    "A second writer is refused while the first one lives; a reader is not."
    from uqphys.ensembles import _Store

    save(small(), tmp_path / "a")
    with _Store(tmp_path / "a"):
        with pytest.raises(ValueError, match="another process"):
            append(tmp_path / "a", small(seed=1))
        assert load(tmp_path / "a").sizes["draw"] == 60
    append(tmp_path / "a", small(seed=1))


def test_reading_while_writing(tmp_path):
    "A reader sees whole checkpoints only, whatever the writer is doing."
    options = dict(burn_in=10, seed=5, progress=False, checkpoint_every=20)
    expected, seen, path = sample(Ising((8, 8)), 0.4, draws=4000, burn_in=10, seed=5, progress=False), [], tmp_path / "a"
    sample_to(path, Ising((8, 8)), 0.4, draws=20, **options)
    writer = threading.Thread(target=sample_to, args=(path, Ising((8, 8)), 0.4), kwargs=options | {"draws": 4000})
    writer.start()
    while writer.is_alive():
        now = load(path)
        seen.append(now.sizes["draw"])
        assert np.array_equal(now.config, expected.config[:, : seen[-1]]) and np.array_equal(now.energy, expected.energy[:, : seen[-1]])
    writer.join()
    assert all(n % 20 == 0 for n in seen) and len(set(seen)) > 5
    assert load(path).sizes["draw"] == 4000


def full_disk(tmp_path):
    "A file system of one megabyte, if we may mount one."
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("no permission to mount a small file system")
    return place


def test_full_disk(tmp_path):
    "A disk that fills up: one clear error, and what was stored before is intact and can be continued elsewhere."
    place = full_disk(tmp_path)
    try:
        options = dict(burn_in=5, seed=0, progress=False, checkpoint_every=200)
        with pytest.raises(ValueError, match=r"a'.*(No space|space).*intact"):
            sample_to(place / "a", Ising((32, 32)), 0.1, draws=100_000, **options)
        found = load(place / "a")
        assert found.sizes["draw"] >= 200
        expected = sample(Ising((32, 32)), 0.1, draws=found.sizes["draw"], burn_in=5, seed=0, progress=False)
        assert np.array_equal(found.config, expected.config) and np.array_equal(found.energy, expected.energy)
        with pytest.raises(ValueError, match="No space"):
            save(sample(Ising((64, 64)), 0.1, draws=500, burn_in=5, seed=0, progress=False), place / "b")
        shutil.copytree(place / "a", tmp_path / "elsewhere")
        goal = found.sizes["draw"] + 300
        sample_to(tmp_path / "elsewhere", Ising((32, 32)), 0.1, draws=goal, **options)
        assert np.array_equal(load(tmp_path / "elsewhere").energy, sample(Ising((32, 32)), 0.1, draws=goal, burn_in=5, seed=0, progress=False).energy)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_file_size_limit(tmp_path):
    "Where files may not grow (rlimit), the error names the path, and the old draws are intact."
    code = f"""
import resource, numpy as np
from uqphys.ensembles import load, sample_to, save, append
from uqphys.models import Ising
from uqphys.sampling import sample
path, big = {str(tmp_path / "a")!r}, sample(Ising((64, 64)), 0.1, draws=400, burn_in=5, seed=1, progress=False)
first = sample(Ising((64, 64)), 0.1, draws=3, burn_in=5, seed=0, progress=False)
save(first, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for act in (lambda: append(path, big), lambda: save(big, path + "2"), lambda: save(big, path, overwrite=True)):
    try:
        act()
        print("no error")
    except ValueError as error:
        print(error)
assert load(path).identical(first)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all("a" in line and "File too large" in line for line in lines), lines


@pytest.mark.parametrize("act", ["save", "sample_to"])
def test_unwritable_path(act, tmp_path):
    "A path below a file, an empty name, a folder of other things: refused by name, nothing written."
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    work = {"save": lambda path: save(small(), path),
            "sample_to": lambda path: sample_to(path, Ising((4, 4)), 0.3, draws=5, burn_in=1, seed=0, progress=False)}[act]
    for path, why in ((tmp_path / "file", "a file"), (tmp_path / "file" / "below", "file|directory"), (tmp_path / "other", "something else"),
                      ("", "name of a folder"), (7, "name of a folder"), ("/proc/nothing/here", "cannot be written"), ("a\0b", "null|name")):
        with pytest.raises(ValueError, match=why):
            work(path)
    assert (tmp_path / "file").read_text() == "mine" and [f.name for f in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_a_commit_that_fails_leaves_no_trace(tmp_path, monkeypatch):
    "Whichever file cannot be written, the store is as it was."
    path, first = tmp_path / "a", small()
    save(first, path)
    before = sorted((str(f), f.read_bytes()) for f in path.rglob("*") if f.is_file())
    real = os.fsync
    for k in range(8):
        count = iter(range(100))

        def failing(handle):
            if next(count) == k:
                raise OSError(28, "No space left on device")
            real(handle)
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(ValueError, match="No space left on device.*intact"):
            append(path, small(seed=1))
        monkeypatch.setattr(os, "fsync", real)
        assert sorted((str(f), f.read_bytes()) for f in path.rglob("*") if f.is_file()) == before
    append(path, small(seed=1))


def test_size_at_the_transition(tmp_path):
    "At least seven times smaller than int8 at T_c, with everything that belongs to the store."
    for L in (16, 64, 128):
        ensemble = sample(Ising((L, L)), CRITICAL, draws=2000 if L == 16 else 200, thin=2, burn_in=300, seed=0, method="swendsen-wang", progress=False)
        path = save(ensemble, tmp_path / str(L))
        on_disk = sum(f.stat().st_size for f in (path / "config").iterdir())
        print(f"L = {L}: {ensemble.config.nbytes / on_disk:.1f} times smaller than int8")
        assert ensemble.config.nbytes / on_disk >= 7


def test_every_chunk_has_a_checksum(tmp_path):
    "Zarr itself, without our manifest, finds a flipped bit in any chunk of any array."
    path = save(small(draws=3000, chains=8), tmp_path / "a")
    rng, chunks = np.random.default_rng(0), [f for f in path.rglob("*") if f.is_file() and f.suffix != ".json" and ".uqphys" not in f.parts]
    assert len(chunks) > 5
    for chunk in chunks:
        good = chunk.read_bytes()
        bad = bytearray(good)
        bad[rng.integers(len(good))] ^= 1 << rng.integers(8)
        chunk.write_bytes(bad)
        with pytest.raises(ValueError, match="(?i)checksum"):
            zarr.open_group(path, mode="r")[chunk.parent.name][...]
        chunk.write_bytes(good)


def test_the_run_can_be_made_again_from_its_attributes(tmp_path):
    "Model, couplings, beta, method, settings, burn-in, thin, seed, version and the state of the random numbers are all there."
    path = sample_to(tmp_path / "a", Ising((8, 8), J=0.9, h=0.1), 0.4, draws=50, burn_in=20, thin=3, seed=11, method="wolff", progress=False)
    attrs = load(path).attrs
    model = Ising(tuple(attrs["shape"]), **{n: v for n, v in json.loads(attrs["couplings"]).items() if n != "shape"})
    again = sample(model, attrs["beta"], draws=50, burn_in=attrs["burn_in"], thin=attrs["thin"], seed=attrs["seed"], method=attrs["method"],
                   settings=json.loads(attrs["settings"]), progress=False)
    xr.testing.assert_equal(again, load(path))
    assert json.loads(attrs["random_state"])["entropy"][0] == 11 and attrs["uqphys_version"]
    states = list((path / ".uqphys" / "states").iterdir())
    assert states and any("dice" in name or "state" in name for name in np.load(states[-1], allow_pickle=False).files)


def test_repair_keeps_what_is_sound(tmp_path):
    "Cut back to the draws before the damage, and never further; nothing sound, no repair."
    whole = small(draws=9000, chains=8)
    for k, chunk in enumerate(("config/0.2.0.0", "energy/0.1", "m/0.0")):
        path = save(whole, tmp_path / str(k))
        chunk_draws = json.loads((path / chunk.partition("/")[0] / "zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"][1]
        expected = int(chunk.partition("/")[2].split(".")[1]) * chunk_draws
        (path / chunk).unlink()
        with pytest.raises(ValueError, match=f"{chunk} is missing"):
            load(path)
        if expected == 0:
            with pytest.raises(ValueError, match=f"{chunk} is missing"):
                repair(path)
            continue
        with pytest.warns(UserWarning, match=f"{chunk} is missing"):
            assert repair(path) == expected
        xr.testing.assert_identical(load(path), whole.isel(draw=slice(expected)))
        append(path, whole.isel(draw=slice(expected, None)))
        xr.testing.assert_identical(load(path), whole)


class Net:
    "A law whose text does not tell its coupling, as that of a network does not."
    n_sites, shape, ndim = 16, (4, 4), 2

    def __init__(self, coupling):
        self.coupling = coupling

    def __repr__(self):
        return "Net((4, 4))"

    def energy(self, x):
        x = np.asarray(x, float)
        return -self.coupling * (x * np.roll(x, 1, -1)).sum((-1, -2))

    def observables(self, x):
        m = np.asarray(x, float).mean((-1, -2))
        return {"energy": self.energy(x) / 16, "m": m, "abs_m": abs(m), "m2": m**2, "m4": m**4}


@pytest.mark.parametrize("unit", [1.0, 1e-21, 1e15])
def test_laws_are_told_apart_by_their_energies(unit, tmp_path):
    "In any unit of energy, and to a part in a million; a sweep does not take the store of one for that of another."
    options = dict(burn_in=5, seed=0, progress=False)
    path = sample_to(tmp_path / "a", Net(unit), 0.3 / unit, draws=10, **options)
    sample_to(path, Net(unit * (1 + 1e-9)), 0.3 / unit, draws=20, **options)
    for factor in (3.0, 1 + 1e-5, 1 - 3e-6):
        with pytest.raises(ValueError, match="energies of the model"):
            sample_to(path, Net(unit * factor), 0.3 / unit, draws=30, **options)
    one = sweep([Net(unit)], [0.3 / unit], tmp_path / "s", draws=10, **options)
    with pytest.warns(UserWarning, match="energies of the model"):
        two = sweep([Net(unit * (1 + 3e-6))], [0.3 / unit], tmp_path / "s", draws=10, **options)
    assert one.state[0] == "sampled" and two.state[0] == "failed"


def interrupted_append(path, monkeypatch, moves=4):
    "An append that dies while its files are carried to their places."
    real, count = os.replace, iter(range(100))

    def die(*arguments):
        if next(count) == moves:
            raise KeyboardInterrupt
        real(*arguments)
    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        append(path, small(seed=1))
    monkeypatch.setattr(os, "replace", real)


@pytest.mark.parametrize("moves", range(0, 14, 2))
def test_half_carried(moves, tmp_path, monkeypatch):
    "A commit that was not carried to its end is read as committed, survives a refused overwrite, and is finished by the next writer."
    path, first = save(small(), tmp_path / "a"), small()
    interrupted_append(path, monkeypatch, moves)
    both = load(path)
    assert both.sizes["draw"] == 120
    with pytest.raises(ValueError, match="complex"):
        save(first.assign(z=first.m * 1j), path, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ValueError, match="No space"):
            save(first, path, overwrite=True)
    xr.testing.assert_identical(load(path), both)
    append(path, small(seed=2))
    assert load(path).sizes["draw"] == 180 and not (path / ".uqphys" / "commit").exists()


def test_another_format_is_refused(tmp_path):
    "A manifest of a later format, or one that is no manifest at all: by name; a sweep fails at that point only."
    from uqphys.ensembles import _seal, _unseal

    path = save(small(), tmp_path / "a")
    manifest = _unseal((path / ".uqphys" / "manifest.json").read_bytes())
    for wrong in (manifest | {"format": 2}, {"format": 2}, [1], {}):
        (path / ".uqphys" / "manifest.json").write_bytes(_seal(wrong))
        for act in (load, repair, lambda p: append(p, small(seed=1)), lambda p: save(small(), p)):
            with pytest.raises(ValueError, match="another format"):
                act(path)


def test_frozen_chains_may_repeat_themselves(tmp_path):
    "Draws that continue the numbers are new, also where all of them look alike; draws that begin again are not."
    cold = sample(Ising((4, 4)), 4.0, draws=20, burn_in=100, seed=0, method="metropolis", progress=False)
    save(cold.isel(draw=slice(0, 10)), tmp_path / "a")
    assert append(tmp_path / "a", cold.isel(draw=slice(10, 20))) == 20
    with pytest.raises(ValueError, match="already"):
        append(tmp_path / "a", cold.isel(draw=slice(0, 10)))


def test_attributes_of_variables_come_back(tmp_path):
    "Units and long names are part of an ensemble; what Zarr keeps for itself is refused."
    told = small()
    told.energy.attrs.update(units="J", long_name="energy per site")
    xr.testing.assert_identical(load(save(told, tmp_path / "a")), told)
    with pytest.raises(ValueError, match="coordinates"):
        save(small().assign_attrs(coordinates="energy"), tmp_path / "b")


def test_a_relative_folder_is_found_by_workers_elsewhere(tmp_path, monkeypatch):
    "A pool that was started in another directory writes where the caller is."
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with ThreadPoolExecutor(2) as pool:
        table = sweep(Ising((4, 4)), [0.1, 0.2, 0.3], "runs", executor=pool, draws=20, burn_in=5, seed=0, progress=False)
    assert (table.state == "sampled").all() and all(os.path.isabs(path) for path in table.path)
    monkeypatch.chdir(tmp_path)
    for path, beta in zip(table.path, table.beta):
        expected = sample(Ising((4, 4)), beta, draws=20, burn_in=5, seed=0, keep="observables", progress=False)
        assert load(path).identical(expected)


def test_many_writers_in_threads(tmp_path):
    "Three threads that ask for the same run at once: one writes, the others wait or are refused by name; the bits are right."
    from concurrent.futures import ThreadPoolExecutor

    call = lambda _: sample_to(tmp_path / "a", Ising((8, 8)), 0.3, draws=200, burn_in=5, seed=0, checkpoint_every=20, progress=False)
    with ThreadPoolExecutor(3) as pool:
        answers = [promise.exception() for promise in [pool.submit(call, k) for k in range(3)]]
    assert all(e is None or "another process" in str(e) for e in answers) and None in answers
    assert load(tmp_path / "a").identical(sample(Ising((8, 8)), 0.3, draws=200, burn_in=5, seed=0, progress=False))


def test_old_memories_are_thinned_out(tmp_path):
    "However many checkpoints there were, at most sixteen states are kept, the last two among them; no other file is left over."
    path = sample_to(tmp_path / "a", Ising((4, 4)), 0.3, draws=300, burn_in=5, seed=0, checkpoint_every=5, progress=False)
    kept = sorted(int(f.stem.split("-")[1]) for f in (path / ".uqphys" / "states").iterdir())
    assert len(kept) <= 16 and kept[-2:] == [295, 300] and kept[0] < 100
    manifest = json.loads((path / ".uqphys" / "manifest.json").read_text())["manifest"]
    there = {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()} - {".uqphys/lock", ".uqphys/manifest.json"}
    assert there == set(manifest["files"])


def test_damaged_memories_are_not_used(tmp_path):
    "A run goes back to the last state that is sound, and past a damaged one, with the same bits."
    options = dict(burn_in=5, seed=0, checkpoint_every=10, progress=False)
    path = sample_to(tmp_path / "a", Ising((8, 8)), 0.3, draws=60, **options)
    for draws in (50, 60):
        (path / ".uqphys" / "states" / f"5-{draws}.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="40 of 60 draws are left"):
        sample_to(path, Ising((8, 8)), 0.3, draws=80, **options)
    assert load(path).identical(sample(Ising((8, 8)), 0.3, draws=80, burn_in=5, seed=0, progress=False))


def test_another_version_is_told(tmp_path):
    "A run that was begun with another version of the package goes on, with a warning."
    from uqphys.ensembles import _Store, _seal, _unseal

    options = dict(burn_in=5, seed=0, progress=False)
    path = sample_to(tmp_path / "a", Ising((4, 4)), 0.3, draws=20, **options)
    file = path / ".uqphys" / "manifest.json"
    file.write_bytes(_seal(_unseal(file.read_bytes()) | {"uqphys_version": "0.0.1"}))
    with pytest.warns(UserWarning, match="begun with uqphys 0.0.1"):
        sample_to(path, Ising((4, 4)), 0.3, draws=30, **options)
    with _Store(path) as store:
        assert store.read()["draws"] == 30


def test_what_does_not_grow_must_agree(tmp_path):
    "Two ladders of other temperatures are two ensembles."
    one, two, other = (temper(Ising((4, 4)), betas, draws=30, burn_in=5, seed=seed, progress=False)
                       for seed, betas in enumerate(([0.2, 0.3], [0.2, 0.3], [0.2, 0.31])))
    path = save(one, tmp_path / "a")
    with pytest.raises(ValueError, match="beta"):
        append(path, other)
    append(path, two)
    assert load(path).sizes == {"beta": 2, "chain": 4, "draw": 60}


def test_a_run_that_is_too_short_says_so(tmp_path):
    "As sample() does: refused by the pilot; a burn-in of one's own silences it."
    with pytest.raises(ValueError, match="shorter than 20 tau_int"):
        sample_to(tmp_path / "a", Ising((32, 32)), CRITICAL, draws=300, method="metropolis", seed=0, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_to(tmp_path / "b", Ising((32, 32)), CRITICAL, draws=300, burn_in=10, method="metropolis", seed=0, progress=False)


def test_what_was_lost_may_be_appended_again(tmp_path):
    "After a repair the very piece that was cut off is not taken for one that is there."
    first, second = small(draws=2048, chains=8), small(draws=3000, chains=8, seed=1)
    path = save(first, tmp_path / "a")
    append(path, second)
    whole = load(path)
    (path / "config" / "0.1.0.0").unlink()  # draws 2048 ... 4095: a chunk of eight chains of 64 spins holds 2048
    with pytest.warns(UserWarning, match="2048 of 5048 draws are left"):
        assert repair(path) == 2048
    assert append(path, second) == 5048
    xr.testing.assert_identical(load(path), whole)


def test_forbidden_configurations_do_not_blind_the_comparison(tmp_path):
    "An energy that is infinite somewhere: two laws are still told apart by the finite ones."
    from uqphys.ensembles import _refuse_other_call

    _refuse_other_call("p", {"energies": [1.0, math.inf, -2.0]}, {"energies": [1.0, math.inf, -2.0]})
    with pytest.raises(ValueError, match="energies of the model"):
        _refuse_other_call("p", {"energies": [1.0, math.inf, -2.0]}, {"energies": [1.1, math.inf, -2.0]})
    with pytest.raises(ValueError, match="energies of the model"):
        _refuse_other_call("p", {"energies": [1.0, math.inf, -2.0]}, {"energies": [1.0, 3.0, -2.0]})
