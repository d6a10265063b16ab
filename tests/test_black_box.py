"The black box: every energy is counted, kept, and computed once; nothing is lost, and nothing wrong is read."
import copy
import os
import pickle
import re
import signal
import sqlite3
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from common import assert_complete, assert_refused, row_name
from uqphys import black_box
from uqphys.architectures import LocalEnergyNet, pair_network
from uqphys.bias import Approximation, exact_bias, predict_bias
from uqphys.black_box import AtomsEnergy, BlackBox, Counts, translations
from uqphys.bnn import LastLayer
from uqphys.chains import Subchain, metropolis_hastings
from uqphys.exact import enumerate_states
from uqphys.models import Ising, Phi4, check_model, random_fields, random_spins
from uqphys.sampling import sample
from uqphys.training import labelled

TRUTH, BETA = Ising((3, 4), J2=0.1, K=0.2), 0.35
LATTICE = dict(flip_symmetric=True, lattice_symmetric=True)


class Counting:
    "The energy of TRUTH; how often it was computed, and of what."

    def __init__(self, model=TRUTH):
        self.model, self.seen = model, []

    def __call__(self, x):
        assert x.dtype == np.float64
        self.seen.append(x.tobytes())
        return self.model.energy(x)


def one_energy(x):
    "The same as a function of a module, which can travel to a process."
    return TRUTH.energy(x)


def broken_energy(x):
    "It kills its worker at one configuration."
    if x.sum() == 12:
        os._exit(3)
    return TRUTH.energy(x)


# ---- counting and keeping

@pytest.mark.parametrize("cached", [False, True])
def test_every_energy_is_right_and_computed_once(cached, tmp_path):
    told = dict(cache=tmp_path / "e.sqlite", name="truth") if cached else {}
    function = Counting()
    box = BlackBox(function, (3, 4), **told)
    check_model(box)
    x = random_spins((3, 4), 40, seed=0)
    x = np.concatenate([x, x[:10]])
    np.testing.assert_array_equal(box.energy(x), TRUTH.energy(x))
    distinct = len(np.unique(x.reshape(50, -1), axis=0))
    assert box.counts == Counts(50, 50 - distinct, distinct, 0) and len(function.seen) == distinct == len(set(function.seen))
    for y in (x.reshape(5, 2, 5, 3, 4), x.astype(float), np.asfortranarray(x)):
        np.testing.assert_array_equal(box.energy(y), TRUTH.energy(y))
    assert box.energy(x[0]) == TRUTH.energy(x[0]) and np.ndim(box.energy(x[0])) == 0
    assert box.energy(x[:0]).shape == (0,) and box.energy(np.ones((2, 0, 3, 4))).shape == (2, 0)
    tensor = box.energy(torch.as_tensor(x))
    assert tensor.dtype == torch.float64 and np.array_equal(tensor.numpy(), TRUTH.energy(x))
    assert len(function.seen) == distinct and box.counts.asked == box.counts.recalled + box.counts.computed
    for name, value in TRUTH.observables(x).items():
        np.testing.assert_allclose(box.observables(x)[name], value)
    known = box.known()
    np.testing.assert_array_equal(known.y[:, 0], TRUTH.energy(known.x))
    assert known.x.dtype == np.int8 and known.x.shape == (distinct, 3, 4) and box.known().x is not known.x


def test_fields(tmp_path):
    phi = Phi4((3, 3), 0.2, 0.5)
    boxes = [BlackBox(phi.energy, (3, 3), values="real", cache=tmp_path / "f.sqlite", name="phi4") for _ in range(2)]
    x = random_fields((3, 3), 20, seed=0)
    x[0, 0, 0], x[1] = 0.0, x[0]
    x[1, 0, 0] = -0.0
    for box in boxes:
        np.testing.assert_array_equal(box.energy(x), phi.energy(x))
        np.testing.assert_array_equal(box.observables(x)["phi4"], phi.observables(x)["phi4"])
    assert boxes[0].counts.computed == 19 and boxes[1].counts.computed == 0 and boxes[1].known().x.dtype == np.float64
    run = sample(boxes[1], 1.0, draws=3, chains=2, burn_in=1, seed=0, progress=False)
    np.testing.assert_allclose(run["energy"], phi.energy(run["config"].values) / 9)


def test_no_bits_are_lost_on_disk(tmp_path):
    "Every finite double comes back as it was, zero without its sign."
    numbers = iter([-0.0, 5e-324, 1.7976931348623157e308, -1 / 3, 2.0**53 + 2, 1e-300, 7.0])
    x = random_spins((9,), 7, seed=0)
    make = lambda f: BlackBox(f, (9,), cache=tmp_path / "e.sqlite", name="bits")
    first = make(lambda s: next(numbers)).energy(x)
    box = make(None or np.sum)
    assert np.array_equal(box.energy(x).view(np.int64), first.view(np.int64)) and box.counts.computed == 0


@pytest.mark.parametrize("told", [dict(flip_symmetric=True), dict(lattice_symmetric=True), LATTICE, dict(permutations=translations((3, 4))),
                                  dict(permutations=translations((3, 4)), flip_symmetric=True)], ids=str)
def test_symmetric_configurations_share_an_entry(told):
    "All 4096: right energies, as many entries as classes (Burnside), and bits that do not depend on who came first."
    images = translations((3, 4)) if "flip_symmetric" not in told or "permutations" in told else np.arange(12)[None]
    if told.get("lattice_symmetric"):
        sites = np.arange(12).reshape(3, 4)
        images = np.array([np.roll(g, step, (0, 1)).ravel() for g in (sites, sites[::-1], sites[:, ::-1], sites[::-1, ::-1])
                           for step in np.ndindex(3, 4)])
    def cycles(image):
        seen, lengths = set(), []
        for k in range(12):
            length = 0
            while k not in seen:
                seen.add(k)
                k, length = image[k], length + 1
            lengths += [length] * (length > 0)
        return lengths
    fixed = [2 ** len(cycles(g)) for g in images]
    if told.get("flip_symmetric"):
        fixed += [2 ** len(cycles(g)) if all(n % 2 == 0 for n in cycles(g)) else 0 for g in images]
    x = 2 * ((np.arange(4096)[:, None] >> np.arange(12)) & 1).reshape(-1, 3, 4).astype(np.int8) - 1
    function = Counting()
    box = BlackBox(function, (3, 4), **told)
    np.testing.assert_allclose(box.energy(x), TRUTH.energy(x), atol=1e-12)
    assert box.counts.computed == len(function.seen) == np.mean(fixed)
    other = BlackBox(function, (3, 4), **told)
    for k in np.random.default_rng(0).permutation(4096)[:300]:
        assert other.energy(x[k]) == box.energy(x[k])
    assert box.audit(n=50, seed=1) < 1e-12


def test_a_box_without_symmetries_reads_what_one_with_them_wrote(tmp_path):
    told = dict(cache=tmp_path / "e.sqlite", name="truth")
    with_them, without = BlackBox(one_energy, (3, 4), **told, **LATTICE), BlackBox(one_energy, (3, 4), **told)
    x = random_spins((3, 4), 30, seed=0)
    with_them.energy(x)
    np.testing.assert_array_equal(without.energy(x), TRUTH.energy(x))
    assert len(without.known().y) > len(np.unique(x.reshape(30, -1), axis=0))


def test_an_audit_finds_what_is_wrong(tmp_path):
    tilted = lambda s: TRUTH.energy(s) + 0.01 * s.sum()
    x = random_spins((3, 4), 30, seed=0)
    for told, right in ((dict(lattice_symmetric=True), True), (LATTICE, False)):
        box = BlackBox(tilted, (3, 4), **told)
        box.energy(x)
        if right:
            known = len(box.known().y)
            assert box.audit(n=30) < 1e-12 and 5 * known < box.counts.computed <= (1 + 1 + 4) * known  # two axes, shifted and reflected
        else:
            with pytest.raises(ValueError, match="at its image under a flip"):
                box.audit(n=30)
    box = BlackBox(lambda s: (s * np.arange(12).reshape(3, 4)).sum(), (3, 4), permutations=translations((3, 4)))
    box.energy(x)
    with pytest.raises(ValueError, match="at its image under permutation"):
        box.audit(n=5)
    box.function = lambda s: np.nan
    with pytest.raises(ValueError, match="gives nan"):
        box.audit(n=1)


STRIPES = (-1.0) ** np.arange(4)
WRONG = {"a flip": lambda s: s.sum(), "an exchange of axes 0 and 1": lambda s: (s * np.roll(s, 1, 1)).sum(),
         "a shift along axis 1": lambda s: (s @ STRIPES).sum() ** 3}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_audit_of_one_energy_finds_any_one_wrong_symmetry(wrong):
    "Whatever the seed, one configuration is enough, if it is not its own image or of its image's energy by chance; a large constant hides nothing."
    part, caught = WRONG[wrong], 0
    for seed in range(40):
        box = BlackBox(lambda s: 1e6 + Ising((4, 4)).energy(s) + 0.05 * part(s), (4, 4), flip_symmetric=True, lattice_symmetric=True)
        box.energy(random_spins((4, 4), 1, seed=seed))
        (x,) = box.known().x
        if abs(part(box._generators()[wrong](x)) - part(x)) > 0.1:
            caught += 1
            with pytest.raises(ValueError, match=f"at its image under {wrong}"):
                box.audit(n=1, seed=seed)
    assert caught > 20, caught


def test_an_audit_is_as_strict_as_the_energies_differ():
    for constant in (0.0, 1e7):
        box = BlackBox(lambda s: constant + TRUTH.energy(s), (3, 4), cache=None)
        box.energy(random_spins((3, 4), 20, seed=0))
        spread, function = float(np.ptp(box.known().y)), box.function
        assert box.audit(n=20) == 0.0
        for off, right in ((0.5e-6, True), (4e-6, False)):
            box.function = lambda s: function(s) + off * spread
            if right or constant * 1e-12 > off * spread:
                assert box.audit(n=20) <= 1e-6 * spread + 1e-12 * (constant + spread)
            else:
                with pytest.raises(ValueError, match="at its configuration"):
                    box.audit(n=20)
    one = BlackBox(lambda s: 3.0, (3, 4), **LATTICE)
    one.energy(np.ones((3, 4)))
    assert one.audit() == 0.0 and one.counts == (3, 0, 3, 0)  # of all its images, the flip alone is another configuration


def test_an_audit_keeps_to_the_batch():
    sizes = []
    def many(x):
        sizes.append(len(x))
        return x.sum((1, 2)) ** 2
    box = BlackBox(many, (3, 4), vectorised=True, batch=7, **LATTICE)
    box.energy(random_spins((3, 4), 20, seed=0))
    assert box.audit(n=20) < 1e-12 and max(sizes) == 7


def test_known_energies_are_those_of_first_images():
    box, x = BlackBox(one_energy, (3, 4), **LATTICE), random_spins((3, 4), 30, seed=0)
    box.energy(x)
    known = box.known()
    np.testing.assert_array_equal(box._forms(known.x), known.x.reshape(len(known.x), -1))
    np.testing.assert_array_equal(known.y[:, 0], TRUTH.energy(known.x))
    assert {v.tobytes() for v in known.x} != {v.tobytes() for v in x} and "first image" in BlackBox.known.__doc__


def test_copies_share_the_file_and_count_anew(tmp_path):
    x = random_spins((3, 4), 10, seed=0)
    with ThreadPoolExecutor(1) as pool:
        for told in (dict(cache=tmp_path / "e.sqlite", name="truth"), {}):
            box = BlackBox(one_energy, (3, 4), executor=pool, **told)
            box.energy(x)
            for twin in (pickle.loads(pickle.dumps(box)), copy.deepcopy(box)):
                assert twin.counts == Counts() and twin.executor is None and repr(twin) == repr(box)
                np.testing.assert_array_equal(twin.energy(x), TRUTH.energy(x))
                assert twin.counts.computed == 0
            assert len(pickle.dumps(box)) < 3000 + 1000 * (not told)


def test_a_relative_path_is_that_of_the_beginning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    box = BlackBox(one_energy, (3, 4), cache="e.sqlite", name="truth")
    box.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    box.energy(random_spins((3, 4), 3, seed=0))
    box.close()
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["e.sqlite"]


# ---- interruptions, crashes, and several processes

class Slow:
    "The energy of TRUTH, after a pause."

    def __init__(self, pause):
        self.pause = pause

    def __call__(self, x):
        time.sleep(self.pause)
        return TRUTH.energy(x)


def chain(cache, pause=0):
    "A chain of exact energies, and the box that gave them."
    box = BlackBox(Slow(pause), (3, 4), cache=cache, name="slow")
    return metropolis_hastings(box, 0.2, Subchain(Ising((3, 4), J=1.1)), draws=60, chains=3, burn_in=10, seed=4, progress=False), box


def forked(work):
    "The number of a child process that does some work and ends."
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def known_in(path):
    "How many energies a file holds, seen by somebody else."
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5) as link:
            return link.execute("SELECT count(*) FROM energies").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_chain_that_was_killed_goes_on_with_the_same_bits(tmp_path):
    cache = tmp_path / "e.sqlite"
    dying = forked(lambda: chain(cache, 0.05))
    whole, never = chain(tmp_path / "other.sqlite")
    begin = time.monotonic()
    while known_in(cache) < 30 and time.monotonic() - begin < 100:
        time.sleep(0.02)
    os.kill(dying, signal.SIGKILL)
    assert os.waitpid(dying, 0)[1] == signal.SIGKILL
    kept = known_in(cache)
    assert 30 <= kept < never.counts.computed
    resumed, box = chain(cache)
    assert box.counts.asked == never.counts.asked and box.counts.computed == never.counts.computed - kept
    assert resumed.identical(whole)


def test_a_kill_loses_only_what_was_being_computed(tmp_path):
    "Each energy is written to a list before it is given back; all but the last stand in the file."
    told = tmp_path / "told.txt"

    def energy(x):
        with open(told, "a") as file:
            file.write("x")
        if os.path.getsize(told) == 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    box = lambda: BlackBox(energy, (3, 4), cache=tmp_path / "e.sqlite", name="doomed")
    assert os.waitpid(forked(lambda: box().energy(random_spins((3, 4), 60, seed=0))), 0)[1] == signal.SIGKILL
    assert told.stat().st_size == 25 and len(box().known().y) == 24


def ask_much(path, seed):
    box = BlackBox(one_energy, (3, 4), cache=path, name="shared")
    for k in range(5):
        x = random_spins((3, 4), 60, seed=10 * (seed % 2) + k)
        if not np.array_equal(box.energy(x), TRUTH.energy(x)):
            return None
    return box.counts.computed


def test_several_processes_share_a_file(tmp_path):
    "Four begin it at once; each answer is right, and nothing is there twice."
    with ProcessPoolExecutor(4) as pool:
        computed = list(pool.map(ask_much, [tmp_path / "e.sqlite"] * 4, range(4)))
    distinct = len({row.tobytes() for seed in (0, 1) for k in range(5) for row in random_spins((3, 4), 60, seed=10 * seed + k)})
    box = BlackBox(one_energy, (3, 4), cache=tmp_path / "e.sqlite", name="shared")
    assert None not in computed and len(box.known().y) == distinct <= sum(computed)
    np.testing.assert_array_equal(box.known().y[:, 0], TRUTH.energy(box.known().x))


def test_of_two_that_compute_the_same_the_first_counts_for_both(tmp_path):
    told, x = dict(cache=tmp_path / "e.sqlite", name="noise"), np.ones((3, 4))

    def slow_and_late(s):
        assert BlackBox(lambda s: 1.0, (3, 4), **told).energy(s) == 1.0
        return 2.0

    box = BlackBox(slow_and_late, (3, 4), **told)
    assert box.energy(x) == 1.0 == box.energy(x)


def test_a_forked_child_has_a_connection_of_its_own(tmp_path):
    box = BlackBox(one_energy, (3, 4), cache=tmp_path / "e.sqlite", name="forked")
    box.energy(random_spins((3, 4), 5, seed=0))
    x = random_spins((3, 4), 30, seed=1)
    assert os.waitpid(forked(lambda: box.energy(x)), 0)[1] == 0
    before = box.counts.computed
    np.testing.assert_array_equal(box.energy(x), TRUTH.energy(x))
    assert box.counts.computed == before and box.audit(n=20) < 1e-12


def test_threads_share_a_box(tmp_path):
    box = BlackBox(one_energy, (3, 4), cache=tmp_path / "e.sqlite", name="threads")
    x = random_spins((3, 4), 400, seed=0)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(box.energy, np.split(x, 40)))
    np.testing.assert_array_equal(np.concatenate(parts), TRUTH.energy(x))
    assert box.counts.asked == 400 == box.counts.recalled + box.counts.computed


# ---- executors

@pytest.mark.parametrize("vectorised", [False, True])
def test_processes_compute_what_is_missing(vectorised, tmp_path):
    x = random_spins((3, 4), 50, seed=0)
    with ProcessPoolExecutor(2) as pool:
        box = BlackBox(one_energy, (3, 4), cache=tmp_path / "e.sqlite", name="pool", executor=pool, vectorised=vectorised, batch=7)
        np.testing.assert_allclose(box.energy(x), TRUTH.energy(x), atol=1e-12)
        computed = box.counts.computed
        np.testing.assert_allclose(box.energy(x[::-1]), TRUTH.energy(x[::-1]), atol=1e-12)
        assert box.counts.computed == computed and pool.submit(abs, -1).result() == 1
    box.energy(x)  # the pool is gone, and not needed
    with pytest.raises(ValueError, match="executor=ProcessPoolExecutor.*shutdown"):
        box.energy(random_spins((3, 4), 5, seed=9))


def test_a_batch_is_never_larger_than_asked_for():
    sizes = []
    box = BlackBox(lambda x: sizes.append(len(x)) or TRUTH.energy(x), (3, 4), vectorised=True, batch=7)
    x = np.unique(random_spins((3, 4), 60, seed=0), axis=0)
    np.testing.assert_array_equal(box.energy(x), TRUTH.energy(x))
    assert sizes == [7] * (len(x) // 7) + [len(x) % 7] * (len(x) % 7 > 0)


def test_a_worker_that_dies_is_no_impossible_configuration(tmp_path):
    x = np.concatenate([np.unique(random_spins((3, 4), 20, seed=0), axis=0), np.ones((1, 3, 4), np.int8)])
    told = dict(cache=tmp_path / "e.sqlite", name="dies", failed="impossible")
    with ProcessPoolExecutor(1) as pool:
        box = BlackBox(broken_energy, (3, 4), executor=pool, **told)
        with pytest.raises(ValueError, match="executor=ProcessPoolExecutor.*BrokenProcessPool.*kept"):
            box.energy(x)
    assert box.failures == [] and len(box.known().y) >= 15
    assert np.isfinite(BlackBox(one_energy, (3, 4), **told).energy(x)).all()


def test_what_cannot_travel_is_the_pool_s_trouble():
    with ProcessPoolExecutor(1) as pool:
        box = BlackBox(lambda x: 1.0, (3, 4), executor=pool)
        with pytest.raises(ValueError, match="can travel"):
            box.energy(np.ones((2, 3, 4)))
    assert box.failures == [] and box.counts.failed == 0


def test_ctrl_c_keeps_what_had_arrived(tmp_path):
    "Here, and through a pool where others are still at work."
    x = np.unique(random_spins((3, 4), 40, seed=0), axis=0)
    done = []

    def energy(s):
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(1)
        return TRUTH.energy(s)

    box = BlackBox(energy, (3, 4), cache=tmp_path / "here.sqlite", name="here")
    with pytest.raises(KeyboardInterrupt):
        box.energy(x)
    assert len(box.known().y) == 12

    class Pool:
        "A pool of which six promises are kept; in the seventh somebody presses Ctrl-C, the others are never kept."

        def __init__(self):
            self.given = 0

        def submit(self, work, piece):
            promise, self.given = Future(), self.given + 1
            if self.given < 7:
                promise.set_result(work(piece))
            elif self.given == 7:
                promise.set_exception(KeyboardInterrupt())
            return promise

    box = BlackBox(one_energy, (3, 4), cache=tmp_path / "pool.sqlite", name="pool", executor=Pool())
    with pytest.raises(KeyboardInterrupt):
        box.energy(x)
    assert len(box.known().y) == 6


def test_a_dask_client(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        x = random_spins((3, 4), 12, seed=0)
        box = BlackBox(one_energy, (3, 4), executor=client.get_executor())
        np.testing.assert_array_equal(box.energy(x), TRUTH.energy(x))
        with pytest.raises(ValueError, match="get_executor"):
            BlackBox(one_energy, (3, 4), executor=client).energy(x)


# ---- failures

def test_failures_are_told_kept_and_forgotten(tmp_path):
    told = dict(cache=tmp_path / "e.sqlite", name="fails")
    x = np.unique(random_spins((3, 4), 40, seed=0), axis=0)
    bad = x.sum((1, 2)) == 2
    fails = lambda s: TRUTH.energy(s) if s.sum() != 2 else np.nan
    box = BlackBox(fails, (3, 4), **told)
    with pytest.raises(ValueError, match=f"failed for {bad.sum()} of {len(x)} configurations, the others are kept; first x = [+-]+: it gives nan"):
        box.energy(x)
    assert box.counts.failed == bad.sum() and len(box.known().y) == (~bad).sum()
    np.testing.assert_array_equal(sorted(f.x.tobytes() for f in box.failures), sorted(row.tobytes() for row in x[bad]))
    assert np.isfinite(box.energy(x[~bad])).all() and box.counts.computed == len(x)
    with pytest.raises(ValueError, match="1 of 1"):
        box.energy(x[bad][0])
    inf = BlackBox(np.sum, (3, 4), **told, failed="impossible")
    np.testing.assert_array_equal(inf.energy(x), np.where(bad, np.inf, TRUTH.energy(x)))
    assert inf.counts.computed == 0 and inf.failures[0].complaint == "it gives nan"
    BlackBox(one_energy, (3, 4), **told).energy(x[bad][:1])  # another process mends one
    assert np.isfinite(inf.energy(x[bad][0])) and len(inf.failures) == bad.sum() - 1
    inf.forget_failures()
    assert inf.failures == [] and len(inf.known().y) == (~bad).sum() + 1
    inf.function = one_energy
    np.testing.assert_array_equal(inf.energy(x), TRUTH.energy(x))


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("value", [None, "1", True, 1j, [1.0, 2.0], np.inf, -np.inf, np.ma.masked, {}, 10**400, RuntimeError("no\nconvergence \udcff\0")],
                         ids=lambda v: repr(v)[:12])
def test_what_is_no_number_is_a_failure(value, vectorised, tmp_path):
    def energy(x):
        if isinstance(value, Exception):
            raise value
        return value

    box = BlackBox(energy, (3, 4), cache=tmp_path / "e.sqlite", name="none", vectorised=vectorised, failed="impossible")
    assert np.isinf(box.energy(random_spins((3, 4), 3, seed=0))).all() and box.counts.failed == 3
    assert all("\n" not in failure.complaint and failure.complaint for failure in box.failures) and len(box.failures) == 3


def test_a_function_cannot_spoil_what_it_is_shown():
    def vandal(s):
        energy = TRUTH.energy(s)
        s[:] = 0
        return energy

    x = random_spins((3, 4), 10, seed=0)
    for told in ({}, dict(vectorised=True), LATTICE):
        given = x.copy()
        box = BlackBox(vandal, (3, 4), **told)
        np.testing.assert_allclose(box.energy(given), TRUTH.energy(x))
        assert np.array_equal(given, x) and (abs(box.known().x) == 1).all()


def test_impossible_configurations_are_never_reached():
    box = BlackBox(lambda s: TRUTH.energy(s) if s[0, 0] < 0 else np.nan, (3, 4), failed="impossible")
    run = metropolis_hastings(box, BETA, Subchain(Ising((3, 4))), draws=100, chains=3, start=-np.ones((3, 3, 4)), burn_in=0, seed=0, progress=False)
    assert (run["config"].values[..., 0, 0] == -1).all() and np.isfinite(run["energy"]).all() and box.counts.failed > 0


# ---- files

def written(path, n=200):
    box = BlackBox(one_energy, (3, 4), cache=path, name="file")
    box.energy(random_spins((3, 4), n, seed=0))
    box.close()
    return box


def test_a_damaged_file_is_refused_or_right_and_left_alone(tmp_path):
    "A hundred changed bytes, anywhere: no energy that is read is ever wrong, and a refused file is as it was."
    path, refused = tmp_path / "e.sqlite", 0
    written(path)
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    x = random_spins((3, 4), 200, seed=0)
    for _ in range(100):
        data = bytearray(sound)
        k = int(rng.integers(len(data)))
        data[k] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            box = BlackBox(lambda s: 1e6, (3, 4), cache=path, name="file")
            y = box.energy(x)
            assert ((y == TRUTH.energy(x)) | (y == 1e6)).all()
            box.close()
        except ValueError as error:
            assert re.search("cache=", str(error)) and "\n" not in str(error)
            del error
            refused += 1
        for name in ("e.sqlite-wal", "e.sqlite-shm"):
            (tmp_path / name).unlink(missing_ok=True)
    assert refused > 20


@pytest.mark.parametrize("spoil", [lambda d: d[:-5000], lambda d: d[:50], lambda d: b"text" + d[4:], lambda d: d[:68] + b"\0\0\0\0" + d[72:], lambda d: b"\0" * len(d)])
def test_what_is_no_cache_is_refused_and_left_alone(spoil, tmp_path):
    path = tmp_path / "e.sqlite"
    written(path)
    path.write_bytes(spoilt := spoil(path.read_bytes()))
    with pytest.raises(ValueError, match="cache=.*damaged.*left as it is"):
        BlackBox(one_energy, (3, 4), cache=path, name="file")
    assert path.read_bytes() == spoilt and [p.name for p in tmp_path.iterdir()] == ["e.sqlite"]


def test_a_file_of_other_physics_is_refused(tmp_path):
    path = tmp_path / "e.sqlite"
    written(path)
    before = path.read_bytes()
    for told in (dict(name="other"), dict(shape=(4, 3)), dict(values="real")):
        with pytest.raises(ValueError, match="cache=.*holds energies of .*file.*; must be a file of"):
            BlackBox(one_energy, **{"shape": (3, 4), "name": "file", "cache": path, **told})
    assert path.read_bytes() == before


def test_a_file_that_disappears_is_missed(tmp_path):
    box = written(tmp_path / "e.sqlite", 5)
    box.energy(random_spins((3, 4), 6, seed=0))
    (tmp_path / "e.sqlite").unlink()
    with pytest.raises(ValueError, match="removed or replaced"):
        box.energy(random_spins((3, 4), 5, seed=7))


def test_an_unwritable_folder(tmp_path):
    for cache in (tmp_path / "none" / "e.sqlite", tmp_path):
        with pytest.raises(ValueError, match="cache=.*must be a file in an existing, writable folder"):
            BlackBox(one_energy, (3, 4), cache=cache, name="file")
    (tmp_path / "e.sqlite").touch()  # an empty file is a new one
    assert written(tmp_path / "e.sqlite", 3).counts.computed == 3


# ---- with the rest of the package

def test_it_takes_the_place_of_a_model():
    "enumerate_states, labelled, sample, metropolis_hastings, predict_bias, exact_bias: as with the law itself, bit by bit."
    box = BlackBox(one_energy, (3, 4), name="truth", **LATTICE)
    for name, value in enumerate_states(TRUTH, BETA).averages.items():
        assert abs(enumerate_states(box, BETA).averages[name] - value) < 1e-12
    assert box.counts.computed < 200
    proposal = Subchain(Ising((3, 4), J=1.1))
    run = metropolis_hastings(box, BETA, proposal, draws=20, chains=2, seed=1, progress=False)
    other = BlackBox(one_energy, (3, 4), name="truth")
    assert metropolis_hastings(other, BETA, proposal, draws=20, chains=2, seed=1, progress=False)["config"].equals(run["config"])
    data = labelled(box, BETA, 40, seed=0)
    np.testing.assert_allclose(data.y[:, 0], TRUTH.energy(data.x), atol=1e-12)
    surrogate = LastLayer(pair_network(), seed=0).fit(*data, progress=False)
    a, b = Approximation(TRUTH, surrogate), Approximation(box, surrogate)
    assert b.flip_symmetric and b.lattice_symmetric
    ensemble = sample(a, BETA, draws=300, chains=4, burn_in=50, seed=0, progress=False)
    before = box.counts
    reports = [predict_bias(m, ensemble, evidence="probe", probes=30, seed=0).table for m in (a, b)]
    np.testing.assert_allclose(*(t[["predicted_bias", "low", "high", "error"]] for t in reports), rtol=1e-6, atol=1e-9)
    assert (reports[1]["exact_evaluations"] == 30).all() and box.counts.asked - before.asked == 30 and box.counts.computed == before.computed
    np.testing.assert_allclose(exact_bias(a, BETA), exact_bias(b, BETA), atol=1e-12)


def test_a_plain_function_is_refused_by_an_approximation():
    surrogate = LastLayer(LocalEnergyNet(hidden=(4,), seed=0), seed=0, epochs=0).fit(*labelled(TRUTH, BETA, 20, seed=0), progress=False)
    with pytest.raises(ValueError, match="exact=.*Model"):
        Approximation(one_energy, surrogate)
    assert Approximation(BlackBox(one_energy, (3, 4)), surrogate).shape == (3, 4)


def test_it_is_silent_unless_it_lasts(capfd):
    BlackBox(one_energy, (3, 4)).energy(random_spins((3, 4), 30, seed=0))
    assert capfd.readouterr() == ("", "")
    BlackBox(lambda s: time.sleep(0.2) or 1.0, (3, 4)).energy(random_spins((3, 4), 10, seed=0))
    assert "energy" in capfd.readouterr().err


# ---- ASE

def test_an_alloy_of_ase():
    pytest.importorskip("ase")
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", "fcc", a=3.85).repeat((2, 1, 2))
    energy = AtomsEnergy(atoms, EMT, ("Cu", "Au"), chemical_potential=0.1)
    for x in random_spins((2, 2), 4, seed=0):
        other = atoms.copy()
        other.symbols = ["Au" if s > 0 else "Cu" for s in x.ravel()]
        other.calc = EMT()
        assert abs(energy(x) - (other.get_potential_energy() - 0.1 * (x > 0).sum())) < 1e-10
    assert pickle.loads(pickle.dumps(energy))(x) == energy(x)
    atoms.positions += 0.3  # the caller's atoms are not ours
    before = energy(x)
    atoms.set_cell(atoms.cell * 1.1, scale_atoms=True)
    assert energy(x) == before
    part = AtomsEnergy(atoms, EMT, ("Ag", "Au"), sites=[3, 0])
    other = atoms.copy()
    other.symbols = ["Au", "Cu", "Cu", "Ag"]
    other.calc = EMT()
    assert abs(part(np.array([-1, 1])) - other.get_potential_energy()) < 1e-10
    with pytest.raises(ValueError, match=r"x.shape=\(2, 2\): must hold 2 spins"):
        part(np.ones((2, 2)))
    box = BlackBox(energy, (2, 2))
    with ProcessPoolExecutor(1) as pool:
        np.testing.assert_array_equal(BlackBox(energy, (2, 2), executor=pool).energy(x), box.energy(x))


def test_without_ase_it_says_where_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(ImportError, match=r"pip install 'uqphys\[materials\]'"):
        AtomsEnergy(None, None, ("Cu", "Au"))


def test_translations():
    x = np.arange(12).reshape(3, 4)
    images = {x.ravel()[row].tobytes() for row in translations((3, 4))}
    assert images == {np.roll(x, step, (0, 1)).tobytes() for step in np.ndindex(3, 4)} and len(images) == 12


# ---- bad calls

def alloy(**told):
    from ase.build import bulk
    from ase.calculators.emt import EMT

    return AtomsEnergy(**{"atoms": bulk("Cu", "fcc", a=3.85).repeat((2, 1, 1)), "calculator": EMT, "species": ("Cu", "Au"), **told})


def made(**told):
    return BlackBox(**{"energy": one_energy, "shape": (3, 4), **told})


REFUSED = [
    ("black_box.BlackBox", lambda t: made(energy=3), "energy", "3", "function"),
    ("black_box.BlackBox", lambda t: made(energy=made()), "energy", "BlackBox", "function"),
    ("black_box.BlackBox", lambda t: made(shape=(3, 0)), "shape", r"\(3, 0\)", ">= 1"),
    ("black_box.BlackBox", lambda t: made(shape=12), "shape", "12", "tuple"),
    ("black_box.BlackBox", lambda t: made(shape=(2, 2, 2, 2, 2)), "shape", "2, 2", "1 or 2 or 3 or 4"),
    ("black_box.BlackBox", lambda t: made(values="bits"), "values", "'bits'", "'spins' or 'real'"),
    ("black_box.BlackBox", lambda t: made(values=None), "values", "None", "'spins' or 'real'"),
    ("black_box.BlackBox", lambda t: made(cache="e.sqlite"), "name", "''", "physics"),
    ("black_box.BlackBox", lambda t: made(cache=3, name="a"), "cache", "3", "file name"),
    ("black_box.BlackBox", lambda t: made(cache="", name="a"), "cache", "''", "file name"),
    ("black_box.BlackBox", lambda t: made(name=3), "name", "3", "text"),
    ("black_box.BlackBox", lambda t: made(name="a\nb"), "name", "a", "one line"),
    ("black_box.BlackBox", lambda t: made(executor=2), "executor", "2", "submit"),
    ("black_box.BlackBox", lambda t: made(executor=ThreadPoolExecutor), "executor", "ThreadPoolExecutor", "submit"),
    ("black_box.BlackBox", lambda t: made(vectorised=1), "vectorised", "1", "True or False"),
    ("black_box.BlackBox", lambda t: made(batch=0), "batch", "0", ">= 1"),
    ("black_box.BlackBox", lambda t: made(batch=True), "batch", "True", "whole number"),
    ("black_box.BlackBox", lambda t: made(failed="inf"), "failed", "'inf'", "'raise' or 'impossible'"),
    ("black_box.BlackBox", lambda t: made(flip_symmetric="yes"), "flip_symmetric", "'yes'", "True or False"),
    ("black_box.BlackBox", lambda t: made(lattice_symmetric=None), "lattice_symmetric", "None", "True or False"),
    ("black_box.BlackBox", lambda t: made(values="real", flip_symmetric=True), "flip_symmetric", "'real'", "False"),
    ("black_box.BlackBox", lambda t: made(lattice_symmetric=True, permutations=translations((3, 4))), "lattice_symmetric", "True", "False"),
    ("black_box.BlackBox", lambda t: made(permutations=[[0, 1]]), "permutations", "0, 1", r"\(k, 12\)"),
    ("black_box.BlackBox", lambda t: made(permutations=[[0] * 12]), "permutations", "0, 0", "permutation of 0 to 11"),
    ("black_box.BlackBox", lambda t: made(permutations=[[0], [1, 2]]), "permutations", "1, 2", r"\(k, 12\)"),
    ("black_box.BlackBox", lambda t: made(permutations=np.ma.masked_array(translations((3, 4)), True)), "permutations", "masked", r"\(k, 12\)"),
    ("black_box.BlackBox", lambda t: made(progress=1), "progress", "1", "True"),
    ("black_box.BlackBox", lambda t: made().energy(np.ones((4, 3))), "x", r"\(4, 3\)", r"\(..., 3, 4\)"),
    ("black_box.BlackBox", lambda t: made().energy(np.zeros((3, 4))), "x", "0", "-1 or [+]1"),
    ("black_box.BlackBox", lambda t: made().energy(np.full((3, 4), np.nan)), "x", "nan", "-1 or [+]1"),
    ("black_box.BlackBox", lambda t: made().energy(np.ones((3, 4), bool)), "x", "bool", "-1, [+]1"),
    ("black_box.BlackBox", lambda t: made().energy(np.ma.ones((3, 4))), "x", "masked", "-1, [+]1"),
    ("black_box.BlackBox", lambda t: made().energy([[1] * 4] * 3), "x", "1, 1", "array"),
    ("black_box.BlackBox", lambda t: made().energy(torch.ones(3, 4, requires_grad=True)), "x", "gradients", "detach"),
    ("black_box.BlackBox", lambda t: made(values="real").energy(np.full((3, 4), np.inf)), "x", "inf", "finite"),
    ("black_box.BlackBox", lambda t: made().audit(), "BlackBox", "no energy", "first"),
    ("black_box.BlackBox", lambda t: t.audit(n=0), "n", "0", ">= 1"),
    ("black_box.BlackBox", lambda t: t.audit(seed=-1), "seed", "-1", ">= 0"),
    ("black_box.BlackBox", lambda t: t.audit(tolerance=-1.0), "tolerance", "-1.0", ">= 0"),
    ("black_box.BlackBox", lambda t: t.audit(tolerance=np.nan), "tolerance", "nan", ">= 0"),
    ("black_box.translations", lambda t: translations(3), "shape", "3", "tuple"),
    ("black_box.AtomsEnergy", lambda t: alloy(atoms="Cu"), "atoms", "'Cu'", "ase.Atoms"),
    ("black_box.AtomsEnergy", lambda t: alloy(calculator="EMT"), "calculator", "'EMT'", "functools.partial"),
    ("black_box.AtomsEnergy", lambda t: alloy(species=("Cu", "Xx")), "species", "'Xx'", "chemical symbols"),
    ("black_box.AtomsEnergy", lambda t: alloy(species=("Cu", "Cu")), "species", "'Cu'", "different"),
    ("black_box.AtomsEnergy", lambda t: alloy(species="Cu"), "species", "'Cu'", "two"),
    ("black_box.AtomsEnergy", lambda t: alloy(sites=[2]), "sites", "2", "0 to 1"),
    ("black_box.AtomsEnergy", lambda t: alloy(sites=[]), "sites", r"\[\]", "0 to 1"),
    ("black_box.AtomsEnergy", lambda t: alloy(sites=[True, False]), "sites", "True", "0 to 1"),
    ("black_box.AtomsEnergy", lambda t: alloy(chemical_potential=np.nan), "chemical_potential", "nan", "finite"),
    ("black_box.AtomsEnergy", lambda t: alloy(fmax=0.0), "fmax", "0.0", "> 0"),
    ("black_box.AtomsEnergy", lambda t: alloy(fmax=0.1, steps=0), "steps", "0", ">= 1"),
    ("black_box.AtomsEnergy", lambda t: alloy(cell=1), "cell", "1", "True or False"),
    ("black_box.AtomsEnergy", lambda t: alloy()(np.zeros(2)), "x", "0", "-1 or [+]1"),
]


@pytest.mark.parametrize("k", range(len(REFUSED)), ids=row_name(REFUSED))
def test_bad_calls_are_refused(k):
    if REFUSED[k][0].endswith("AtomsEnergy"):
        pytest.importorskip("ase")
    box = made()
    box.energy(random_spins((3, 4), 3, seed=0))
    assert_refused(REFUSED[k][1], box, *REFUSED[k][2:])


def test_the_table_of_bad_calls_is_complete():
    assert_complete([black_box], REFUSED, {"black_box.Counts": "a result", "black_box.Failure": "a result"})
