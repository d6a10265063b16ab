"""Kill -9 at any moment, any damage to files, workers that die: nothing lost, nothing twice, never a wrong number."""
import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from tqdm import tqdm

from uqphys.ensembles import append, load, repair, sample_to, save
from uqphys.models import Ising, Phi4
from uqphys.sampling import sample
from uqphys.sweeps import sweep

START = multiprocessing.get_context("forkserver")  # children begin with everything imported, and without our threads
START.set_forkserver_preload(["tests.preloaded"])
RUNS = {
    "metropolis": (Ising((12, 12), K=0.1, h=0.1), dict(method="metropolis", draws=600, checkpoint_every=15)),
    "swendsen-wang": (Ising((12, 12)), dict(method="swendsen-wang", draws=600, checkpoint_every=15)),
    "wolff": (Ising((12, 12)), dict(method="wolff", draws=500, checkpoint_every=13, settings={"clusters": 5})),
    "multispin-replicas": (Ising((12, 12)), dict(method="multispin-replicas", chains=70, draws=200, checkpoint_every=6)),
    "local": (Ising((8, 8)), dict(method="local", draws=600, checkpoint_every=15, keep="observables")),
    "hmc": (Phi4((6, 6), 0.2, 0.5), dict(method="hmc", draws=500, checkpoint_every=13)),
    "cluster-phi4": (Phi4((6, 6), 0.2, 0.5), dict(method="cluster-phi4", draws=500, checkpoint_every=13)),
    "tempering": (Ising((4, 4)), dict(method="tempering", draws=200, checkpoint_every=10, settings={"betas": [0.1, 0.2, 0.3]})),
    "burn-in": (Ising((12, 12)), dict(method="metropolis", burn_in="auto", draws=500, checkpoint_every=15)),
}
BETA = 0.3


def options(name):
    return dict(burn_in=20, seed=7, progress=False) | RUNS[name][1]


def same(found, expected):
    "Every number of two ensembles, bit for bit, and their attributes."
    assert list(found.variables) == list(expected.variables) and found.attrs == expected.attrs
    for name in expected.variables:
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name


def run_child(name, path):
    sample_to(path, RUNS[name][0], BETA, **options(name))


def kill_after(target, arguments, seconds):
    "Start a process of its own group, kill -9 the whole group after so many seconds; did that end it?"
    child = START.Process(target=in_a_group, args=(target, *arguments))
    child.start()
    child.join(seconds)
    if child.is_alive():
        with_group(child.pid)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def in_a_group(target, *arguments):
    os.setpgid(0, 0)
    with_locks_of_its_own()
    target(*arguments)


def with_locks_of_its_own():
    "As in a process that was not forked: tqdm and numba have locks which forks share, and the killed may have held them."
    tqdm.set_lock(threading.RLock())
    assert hasattr(numba.np.ufunc.parallel, "_backend_init_process_lock")
    numba.np.ufunc.parallel._backend_init_process_lock = multiprocessing.RLock()


def with_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet, or it has just ended
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def child_time(target, arguments):
    "How long the whole work takes in a child."
    begin = time.perf_counter()
    assert not kill_after(target, arguments, 300)
    return time.perf_counter() - begin


def tell_preloaded(path):
    path.write_text(str("tests.preloaded" in sys.modules))


def test_children_begin_with_everything_imported(tmp_path):
    "Else nearly all of their lives would be spent on imports, and nearly all kills fall there."
    assert not kill_after(tell_preloaded, (tmp_path / "told",), 300)
    assert (tmp_path / "told").read_text() == "True"


def dies_with_the_lock():
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_who_dies_with_the_lock_of_progress_bars_holds_nobody_up(tmp_path):
    "tqdm's lock is shared with forked processes. It stays taken for all children that have no other."
    for target, arguments, code in ((dies_with_the_lock, (), -signal.SIGKILL), (run_child, ("wolff", tmp_path / "run"), 0),
                                    (sweep_child, (tmp_path / "sweep", 1), 0)):
        child = START.Process(target=target, args=arguments)
        child.start()
        child.join(120)
        exitcode = child.exitcode
        child.kill()
        assert exitcode == code, target


@pytest.mark.parametrize("name", RUNS)
def test_sample_to_survives_kill_9(name, tmp_path):
    "At random moments, again and again on the same store, until it is finished: the bits of an undisturbed run."
    rng, kills = np.random.default_rng(list(RUNS).index(name)), 0
    child_time(run_child, (name, tmp_path / "undisturbed"))  # the first child of all also starts the server
    whole = child_time(run_child, (name, tmp_path / "again"))
    expected = load(tmp_path / "undisturbed")
    plain = sample(RUNS[name][0], BETA, **{k: v for k, v in options(name).items() if k != "checkpoint_every"})
    same(expected, plain)
    rounds = 0
    while kills < 12:
        path, rounds, seen = tmp_path / f"round{rounds}", rounds + 1, 0
        while kill_after(run_child, (name, path), rng.uniform(0, 0.7 * whole)):
            kills += 1
            assert kills < 200, "the children never get done"
            now = look(path)
            assert now >= seen and now % RUNS[name][1]["checkpoint_every"] == 0 or now == RUNS[name][1]["draws"]
            seen = now
        same(load(path), expected)
    print(f"{name}: {kills} kills in {rounds} runs of {whole:.2f} s")


def look(path):
    "How many draws a store holds that may not even exist; reading it must be possible at any time."
    try:
        return load(path).sizes["draw"]
    except ValueError as error:
        assert any(what in str(error) for what in ("there is nothing", "no draws yet", "manifest.json")), error
        return 0


def short_run(path):
    sample_to(path, Ising((8, 8)), BETA, draws=40, checkpoint_every=10, burn_in=5, method="wolff", settings={"clusters": 5}, seed=1, progress=False)


def killed_at(step, path):
    "Run, and die at the so-and-so-many-th thing that is done to the file system."
    count = iter(range(10**9))

    def counted(real):
        def do(*arguments, **named):
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)
        return do
    for action in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir"):
        setattr(os, action, counted(getattr(os, action)))
    short_run(path)


def test_killed_at_every_step_of_a_commit(tmp_path):
    "Death before each single act on the file system, from the first folder through two commits of a run."
    short_run(tmp_path / "undisturbed")
    expected = load(tmp_path / "undisturbed")
    for step in range(90):
        path = tmp_path / str(step)
        child = START.Process(target=killed_at, args=(step, path))
        child.start()
        child.join(120)
        assert not child.is_alive(), step
        assert child.exitcode == -signal.SIGKILL
        look(path)
        short_run(path)
        same(load(path), expected)
        shutil.rmtree(path)


GRID = dict(models=[Ising((8, 8)), Ising((12, 12))], betas=[0.2, 0.3, 0.4])
POINT = dict(draws=400, burn_in=20, seed=2, checkpoint_every=50, progress=False, keep="configs")


def sweep_child(folder, workers):
    if workers == 1:
        sweep(**GRID, folder=folder, **POINT)
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
            sweep(**GRID, folder=folder, executor=pool, **POINT)


@pytest.mark.parametrize("workers", [1, 2])
def test_sweep_survives_kill_9(workers, tmp_path):
    "The whole group of processes is killed at random moments; started again, every point ends with its bits."
    rng, kills, rounds = np.random.default_rng(workers), 0, 0
    child_time(sweep_child, (tmp_path / "undisturbed", workers))
    whole = child_time(sweep_child, (tmp_path / "again", workers))
    expected = {p.name: load(p) for p in (tmp_path / "undisturbed").iterdir()}
    assert len(expected) == 6
    while kills < 50:
        folder, rounds = tmp_path / f"round{rounds}", rounds + 1
        while kill_after(sweep_child, (folder, workers), rng.uniform(0, 0.9 * whole)):
            kills += 1
            assert kills < 300, "the children never get done"
        assert {p.name for p in folder.iterdir()} == set(expected)
        for path in folder.iterdir():
            same(load(path), expected[path.name])
        table = sweep(**GRID, folder=folder, **POINT)
        assert (table.state == "kept").all()
    print(f"{workers} workers: {kills} kills in {rounds} sweeps of {whole:.2f} s")


def test_a_dask_worker_is_killed(tmp_path):
    "On a real cluster of processes: one worker dies in mid-sweep, Dask gives its point to another, same bits."
    distributed = pytest.importorskip("dask.distributed")
    big = POINT | {"draws": 3000, "thin": 20}
    sweep(**GRID, folder=tmp_path / "alone", **big)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, \
            distributed.Client(cluster) as client:
        executor, killed = client.get_executor(), []
        client.run(lambda: __import__("uqphys.sweeps"))

        def murder():
            while len(list((tmp_path / "dask").glob("*/.uqphys/states/*"))) < 3:
                time.sleep(0.01)
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        murderer = threading.Thread(target=murder)
        murderer.start()
        table = sweep(**GRID, folder=tmp_path / "dask", executor=executor, **big)
        murderer.join()
    assert killed and (table.state == "sampled").all(), table
    for path in (tmp_path / "alone").iterdir():
        same(load(tmp_path / "dask" / path.name), load(path))


# Damage. Each returns what it did, in words.

def files_of(path, rng):
    return sorted(f for f in path.rglob("*") if f.is_file() and f.name != "lock")


def truncate(path, rng):
    file = rng.choice(files_of(path, rng))
    file.write_bytes(file.read_bytes()[: rng.integers(file.stat().st_size)])
    return f"truncated {file}"


def flip(path, rng):
    file = rng.choice(files_of(path, rng))
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    file.write_bytes(data)
    return f"flipped a bit of {file}"


def rename(path, rng):
    file = rng.choice(files_of(path, rng))
    file.rename(file.with_name(file.name + "x"))
    return f"renamed {file}"


def exchange(path, rng):
    one, two = rng.choice(files_of(path, rng), 2, replace=False)
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b), two.write_bytes(a)
    return f"exchanged {one} and {two}"


def half_delete(path, rng):
    files = files_of(path, rng)
    for file in rng.choice(files, len(files) // 2, replace=False):
        file.unlink()
    return "deleted half of the files"


def drop_folder(path, rng):
    folder = rng.choice(sorted(f for f in path.rglob("*") if f.is_dir()))
    shutil.rmtree(folder)
    return f"deleted {folder}"


def overwrite(path, rng):
    file = rng.choice(files_of(path, rng))
    file.write_bytes(rng.bytes(file.stat().st_size))
    return f"overwrote {file}"


def put_folder(path, rng):
    file = rng.choice(files_of(path, rng))
    file.unlink()
    file.mkdir()
    return f"put a folder in place of {file}"


def old_copy(path, rng):
    "A file as it was at an earlier checkpoint."
    names = [f for f in files_of(path, rng) if (path.with_name("earlier") / f.relative_to(path)).exists()]
    file = rng.choice(names)
    file.write_bytes((path.with_name("earlier") / file.relative_to(path)).read_bytes())
    return f"brought back an old {file}"


DAMAGES = [truncate, flip, rename, exchange, half_delete, drop_folder, overwrite, put_folder, old_copy, flip]


def harmless(error, path):
    "An error must name the store, and a file or a reason."
    text = str(error)
    assert str(path) in text and "\n" not in text and len(text) < 500, text
    return any(word in text for word in ("missing", "bytes", "content", "damaged", "read", "nothing", "manifest", "else in it", "written"))


def beyond_repair(path, good, kind):
    "A store may be given up only if its manifest is hurt, or (where nothing can be drawn again) a first chunk of it."
    hurt = {str(f.relative_to(good)) for f in files_of(good, None) if not (path / f.relative_to(good)).is_file()
            or (path / f.relative_to(good)).read_bytes() != f.read_bytes()}
    return ".uqphys/manifest.json" in hurt or (kind == "save" and any(set(name.partition("/")[2]) == {"0", "."} for name in hurt))


@pytest.mark.parametrize("kind", ["sample_to", "save"])
def test_damage(kind, tmp_path):
    "150 random corruptions of each kind of store: found, then repaired to a good checkpoint or refused by name; no wrong number."
    rng = np.random.default_rng(["sample_to", "save"].index(kind))
    call = dict(burn_in=20, seed=1, progress=False, checkpoint_every=1500, chains=8)
    model, draws = Ising((8, 8)), 6000
    if kind == "sample_to":
        sample_to(tmp_path / "good", model, 0.4, draws=3000, **call)
        shutil.copytree(tmp_path / "good", tmp_path / "earlier")
        sample_to(tmp_path / "good", model, 0.4, draws=draws, **call)
    else:
        save(sample(model, 0.4, draws=3000, chains=8, burn_in=20, seed=1, progress=False), tmp_path / "good")
        shutil.copytree(tmp_path / "good", tmp_path / "earlier")
        append(tmp_path / "good", sample(model, 0.4, draws=3000, chains=8, burn_in=20, seed=2, progress=False))
    expected, count = load(tmp_path / "good"), dict(unharmed=0, refused=0, repaired=0, hopeless=0)
    path = tmp_path / "bad"
    for k in range(150):
        shutil.copytree(tmp_path / "good", path)
        for _ in range(1 + (k % 7 == 0)):
            what = DAMAGES[k % len(DAMAGES)](path, rng)
        try:
            same(load(path), expected)  # what was damaged is not needed to read it
            count["unharmed"] += 1
        except ValueError as error:
            assert harmless(error, path), (what, error)
            count["refused"] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if kind == "sample_to":
                    sample_to(path, model, 0.4, draws=draws, **call)
                    same(load(path), expected)
                else:
                    left = repair(path)
                    found, cut = load(path), expected.isel(draw=slice(left))
                    assert left > 0 and found.sizes["draw"] == left
                    same(found.drop_attrs(), cut.drop_attrs())
            count["repaired"] += 1
        except ValueError as error:
            assert harmless(error, path) and beyond_repair(path, tmp_path / "good", kind), (what, error)
            count["hopeless"] += 1
        shutil.rmtree(path)
    print(kind, count)
    assert count["refused"] > 60 and count["repaired"] > 0
