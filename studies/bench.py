"""How many spins does a program update in a nanosecond? uqphys beside peapods and mcising, in one run.

    pip install -e '.[bench]'            # brings the two other programs, both written in Rust
    python studies/bench.py              # what `make bench` runs, less than 4 minutes
    python studies/bench.py --quick      # a small rehearsal that judges nothing

What is compared. The same lattice, temperature (critical), number of sweeps and threads (one). All begin with the lattice
in equilibrium, since the cost of a cluster depends on its size, and nobody measures observables in the time that counts:
mcising's `IsingSimulation.sweep` does not, and peapods is told that all its sweeps are warm-up. peapods knows no cluster
update without a Metropolis sweep: the time of as many Metropolis sweeps, taken beside it, is subtracted. An update is one
site of the lattice visited; for Wolff it is one spin flipped: counted by uqphys and mcising, while for peapods, which
does not tell, a cluster counts as its expected size N <m^2>, from our run in equilibrium.

What is timed. Processor seconds of the process, which are wall seconds on a machine that does nothing else, and do not
count what others do on one that does; the wall seconds are recorded beside them. Each number is the median of several
repetitions in which all programs take turns, after a warm-up. Two threads are timed by the wall clock, of course: the
least wall seconds with one thread over the least with two, since other work on the machine can only add to either.

The result is a table, the list of targets with met or missed, and studies/bench.json. The exit status is 1 if a target
is missed or could not be measured.
"""

import argparse
import importlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

PEERS = {"peapods": "peapods==0.2.0", "mcising": "mcising==1.1.0"}
BETA = {2: math.log(1 + math.sqrt(2)) / 2, 3: 0.221654626}  # critical, of the square and of the cubic lattice
ENERGY = {2: -math.sqrt(2), 3: -0.9906}  # per site there, infinite lattice: has everybody simulated the same thing?
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Scale(NamedTuple):
    "How much is done."
    shapes: tuple  # lattices of the comparison
    visits: int  # sites that a program visits in a repetition, with local updates; a third of it with clusters
    equilibrate: int  # Swendsen-Wang sweeps before
    repetitions: int
    fields: tuple  # lengths of the phi4 lattices
    threads: tuple  # (method, lattice, sites visited in a repetition) of the two-thread test


FULL = Scale(((128, 128), (512, 512), (1024, 1024), (64, 64, 64)), 2**24, 60, 5, (32, 64, 128), (
    ("multispin", (512, 512), 2**30), ("multispin-replicas", (64, 64), 2**31), ("wolff", (128, 128), 2**25),
    ("swendsen-wang", (128, 128), 2**25), ("hmc", (64, 64), 2**24)))
QUICK = Scale(((128, 128), (8, 8, 8)), 2**18, 10, 2, (16,), (("multispin", (128, 128), 2**20), ("hmc", (16, 16), 2**12)))


# ---- a program at work

class Program(NamedTuple):
    "Somebody who can update a lattice."
    name: str  # uqphys, peapods, mcising
    method: str  # what it calls itself there
    advance: Callable  # number of sweeps (Wolff: of clusters) -> how many sites were updated
    energy: Callable  # () -> energy per site now
    without: Callable | None = None  # the same number of sweeps without that which is to be timed


def timed(work, *arguments) -> tuple:
    "(what the work returned, processor seconds, wall seconds)."
    wall, processor = time.perf_counter(), time.process_time()
    found = work(*arguments)
    return found, time.process_time() - processor, time.perf_counter() - wall


def once(program: Program, sweeps: int) -> tuple:
    "Updates per nanosecond by the processor's clock, and by the wall clock."
    updates, processor, wall = timed(program.advance, sweeps)
    if program.without:
        _, less, less_wall = timed(program.without, sweeps)
        processor, wall = processor - less, wall - less_wall
    return tuple(1e-9 * updates / seconds if seconds > 0 else math.nan for seconds in (processor, wall))


# ---- uqphys

def mover_of(model, method: str, beta: float, starts, settings=None, seed: int = 0):
    "The single mover that drives these starts."
    from uqphys.sampling import find_method
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(starts))]
    (move,) = find_method(model, method).movers(model, beta, starts, generators, **(settings or {}))
    return move


def equilibrium(shape: tuple, sweeps: int, seed: int) -> tuple:
    "A critical configuration, and the mean of m^2, after so many Swendsen-Wang sweeps from the ordered lattice."
    from uqphys.models import Ising
    move = mover_of(Ising(shape), "swendsen-wang", BETA[len(shape)], np.ones((1, *shape), dtype=np.int8), seed=seed)
    x, _ = move(1, sweeps, True)
    m2 = [Ising(shape).observables(move(1, 2, True)[0])["m2"].item() for _ in range(sweeps)]
    return x[0, 0], float(np.mean(m2))


def ours(method: str, start, label: str, copies: int = 1) -> Program:
    "uqphys, from this configuration."
    from uqphys.models import Ising
    model, settings = Ising(start.shape), {"clusters": 1} if method == "wolff" else None
    move = mover_of(model, method, BETA[start.ndim], np.repeat(start[None], copies, axis=0), settings)
    done = {"clusters": 0, "flipped": 0.0}

    def advance(sweeps):
        move(1, sweeps, False)
        if method != "wolff":
            return sweeps * start.size * copies
        before = done["flipped"]
        done["clusters"] += sweeps
        done["flipped"] = move.report()["mean_cluster_size"] * done["clusters"]
        return done["flipped"] - before

    def energy():
        done["clusters"] += 1
        return float(np.mean(model.observables(move(1, 1, True)[0])["energy"]))
    return Program("uqphys", label, advance, energy)


# ---- the peers

def of_mcising(method: str, start) -> Program:
    "mcising's Rust core, from this configuration."
    from mcising._core import IsingSimulation
    lattice = {2: "square", 3: "cubic"}[start.ndim]
    simulation = IsingSimulation(len(start), 1.0, 0.0, 0.0, 0.0, 1, method.replace("-", "_"), lattice)
    simulation.set_spins(start)
    advance = lambda sweeps: simulation.sweep(sweeps, temperature=1 / BETA[start.ndim])[1]
    return Program("mcising", method, advance, simulation.energy)


def of_peapods(shape: tuple, equilibrate: int):
    "A function method, <m^2> -> Program; peapods takes no configuration, so it equilibrates by itself."
    from peapods import Ising
    simulation = Ising(shape, temperatures=np.array([1 / BETA[len(shape)]]))
    clusters = {"wolff": "wolff", "swendsen-wang": "sw"}

    def run(sweeps, method, warmup_ratio=1.0):
        options = dict(cluster_update_interval=1, cluster_mode=clusters[method]) if method in clusters else {}
        with warnings.catch_warnings():  # it divides by the number of measurements, which is zero here
            warnings.simplefilter("ignore", RuntimeWarning)
            simulation.sample(sweeps, warmup_ratio=warmup_ratio, sequential=True, **options)
        return sweeps * math.prod(shape)

    def energy():
        run(4, "swendsen-wang", 0.0)
        return -float(simulation.energies_avg[0])

    def program(method, m2):
        share = m2 if method == "wolff" else 1.0
        advance = lambda sweeps: share * run(sweeps, method)
        return Program("peapods", method, advance, energy, (lambda n: run(n, "metropolis")) if method in clusters else None)
    run(equilibrate, "swendsen-wang")
    return program


def missing() -> list:
    "The peers that are not installed."
    def absent(name):
        try:
            return not importlib.import_module(name)
        except ImportError:
            return True
    return [name for name in PEERS if absent(name)]


# ---- the comparison, one lattice at a time

def spread(values) -> dict:
    return dict(median=float(np.median(values)), min=float(np.min(values)), max=float(np.max(values)), repetitions=list(values))


def compare(programs: list, sweeps: int, repetitions: int, **about) -> list:
    "All take turns; one row for each."
    for program in programs:  # warm-up: compilation, caches, pages
        once(program, max(1, sweeps // 4))
    found = [[once(program, sweeps) for program in programs] for _ in range(repetitions)]
    rows = []
    for program, rates in zip(programs, np.array(found).transpose(1, 2, 0).tolist()):
        limit = 0.1 if len(about["shape"]) == 2 else 0.06
        energy, expected = program.energy(), ENERGY[len(about["shape"])]
        if min(about["shape"]) >= 64 and abs(energy - expected) > limit:
            raise RuntimeError(f"{program.name} {program.method} at {about['shape']}: energy per site {energy:.3f}, not {expected:.3f}")
        rows.append(about | dict(program=program.name, method=program.method, sweeps=sweeps, energy=energy,
                                 updates_per_ns=spread(rates[0]), by_wall_clock=spread(rates[1])))
    return rows


def contests(shape: tuple, start, m2: float, scale: Scale, peers: list):
    "(algorithm, programs, number of sweeps) for one lattice."
    peapods = of_peapods(shape, scale.equilibrate) if "peapods" in peers else None
    def others(method):
        return ([of_mcising(method, start)] if "mcising" in peers else []) + ([peapods(method, m2)] if peapods else [])
    sweeps = max(2, scale.visits // start.size)
    words = [ours("multispin", start, "64 sites in a word")] if shape[0] % 128 == 0 else []
    words.append(ours("multispin-replicas", start, "64 replicas in a word", copies=64))
    yield "metropolis", [*words, ours("metropolis", start, PLAIN), *others("metropolis")], sweeps
    yield "swendsen-wang", [ours("swendsen-wang", start, "swendsen-wang"), *others("swendsen-wang")], max(2, sweeps // 3)
    yield "wolff", [ours("wolff", start, "wolff"), *others("wolff")], max(2, int(sweeps / 3 / m2))


def fields(L: int, repetitions: int, seconds: float) -> dict:
    "The leapfrog of phi4 on an L x L lattice, without what surrounds it in hmc."
    from uqphys.fields import _Folded, _leapfrog, _scaled
    from uqphys.models import Phi4
    model, rng = Phi4.from_mass((L, L), m2=-4.0, lam=8.0), np.random.default_rng(1)
    field = _Folded(0.5 * rng.standard_normal((L, L)))
    def advance(steps):
        field.p[field.inner] = rng.standard_normal(field.p[field.inner].shape)
        _leapfrog(field.x, field.p, field.layout, field.lanes, _scaled(model, 1.0), 0.02, steps)
        return steps * L * L
    program, steps = Program("uqphys", "leapfrog", advance, None), 64
    once(program, steps)
    while timed(advance, steps)[1] < seconds:
        steps *= 2
    rates = np.transpose([once(program, steps) for _ in range(repetitions)]).tolist()
    return dict(shape=[L, L], algorithm="leapfrog", program="uqphys", method="leapfrog", sweeps=steps,
                updates_per_ns=spread(rates[0]), by_wall_clock=spread(rates[1]))


def one_thread(scale: Scale) -> dict:
    "All rows that need one thread."
    absent, rows = missing(), []
    peers = [name for name in PEERS if name not in absent]
    for shape in scale.shapes:
        start, m2 = equilibrium(shape, scale.equilibrate, seed=1)
        for algorithm, programs, sweeps in contests(shape, start, m2, scale, peers):
            rows += compare(programs, sweeps, scale.repetitions, shape=list(shape), algorithm=algorithm)
            print(f"  {algorithm} at {name_of(shape)} done", file=sys.stderr, flush=True)
    rows += [fields(L, scale.repetitions, 0.02 if scale is QUICK else 0.2) for L in scale.fields]
    return {"rows": rows, "missing": absent}


# ---- two threads

def two_threads(scale: Scale) -> dict:
    "How much faster do two chains come out of `sample` with two threads than with one, by the wall clock?"
    import numba

    from uqphys.models import Ising, Phi4
    from uqphys.sampling import sample

    def run(method, shape, sweeps, threads):
        numba.set_num_threads(threads)
        real, copies = method == "hmc", 128 if method == "multispin-replicas" else 2
        model, beta = (Phi4.from_mass(shape, -4.0, 8.0), 1.0) if real else (Ising(shape), BETA[len(shape)])
        settings = {"step_size": 0.05, "steps": 20} if real else {"clusters": 2} if method == "wolff" else None
        sample(model, beta, draws=1, thin=sweeps, chains=copies, burn_in=0, method=method, settings=settings, seed=1,
               keep="observables", progress=False)

    rows = []
    for method, shape, visits in scale.threads:
        sweeps = max(2, visits // math.prod(shape) // (128 if method == "multispin-replicas" else 2))
        run(method, shape, sweeps, 1)  # compile
        walls = [[timed(run, method, shape, sweeps, threads)[2] for threads in (1, 2)] for _ in range(scale.repetitions)]
        one, two = np.min(walls, axis=0)
        rows.append(dict(method=method, shape=list(shape), sweeps=sweeps, speed_up=float(one / two),
                         by_repetition=spread([a / b for a, b in walls]), walls=walls))
    return {"threads": rows}


# ---- targets

def target(text: str, value, limit: float) -> dict:
    "A number that is to be reached; None if it could not be measured."
    return dict(target=text, value=value, limit=limit, met=None if value is None else bool(value >= limit))


def median_of(rows: list, shape: list, algorithm: str, program: str, method: str | None = None):
    "Updates per nanosecond of the first row that fits; None if there is none."
    wanted = dict(shape=shape, algorithm=algorithm, program=program) | ({"method": method} if method else {})
    found = [r["updates_per_ns"]["median"] for r in rows if all(r[key] == value for key, value in wanted.items())]
    return found[0] if found else None


def name_of(shape) -> str:
    return " x ".join(map(str, shape))


FAST = (("metropolis", "64 sites in a word", 2.0), ("metropolis", "64 replicas in a word", 6.0),
        ("swendsen-wang", "swendsen-wang", 0.08), ("wolff", "wolff", 0.08))  # updates/ns, in two dimensions
AHEAD = (("metropolis", 10.0), ("swendsen-wang", 2.5), ("wolff", 2.5))  # times each peer; one lattice in words, else replicas
PLAIN = "plain metropolis, any couplings"  # ahead of the peers as well, though it treats spin after spin


def targets(rows: list, threads: list) -> list:
    "What has to be reached."
    shapes = [list(shape) for shape in dict.fromkeys(tuple(r["shape"]) for r in rows if r["algorithm"] == "metropolis")]
    out = [target(f"{method}, {name_of(shape)}: updates/ns", median_of(rows, shape, algorithm, "uqphys", method), limit)
           for shape in shapes if len(shape) == 2 for algorithm, method, limit in FAST]
    for shape in shapes:
        ours_here = {r["algorithm"]: r["method"] for r in reversed(rows) if r["shape"] == shape and r["program"] == "uqphys"}
        for algorithm, method, limit in [(name, ours_here[name], limit) for name, limit in AHEAD] + [("metropolis", PLAIN, 1.0)]:
            mine = median_of(rows, shape, algorithm, "uqphys", method)
            for peer in PEERS:
                theirs = median_of(rows, shape, algorithm, peer)
                out.append(target(f"{method}, {name_of(shape)}: times {peer}", mine / theirs if mine and theirs else None, limit))
    out += [target(f"phi4 leapfrog, {name_of(r['shape'])}: site-steps/ns", r["updates_per_ns"]["median"], 2.0)
            for r in rows if r["algorithm"] == "leapfrog"]
    out += [target(f"two threads, {r['method']}: speed-up", r["speed_up"], 1.8) for r in threads]
    return out if threads else out + [target("two threads: speed-up, but there is one core only", None, 1.8)]


# ---- the whole, and what is printed

def part(name: str, quick: bool) -> dict:
    "Run one part in a process of its own, whose threads are limited before anything is loaded."
    threads = ONE_THREAD | ({"NUMBA_NUM_THREADS": "2"} if name == "two" else {})
    command = [sys.executable, __file__, "--part", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=os.environ | threads, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"bench: the part with {name} thread(s) stopped, see above")
    return json.loads(done.stdout)


def machine() -> dict:
    "Where it was measured."
    def version(name):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None
    try:
        cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    versions = {name: version(name) for name in ("numpy", "numba", "uqphys", *PEERS)}
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def show(found: dict):
    "The table, the two threads, the targets."
    rows, last = found["rows"], None
    print(f"{found['machine']['cpu']}, {found['machine']['cores']} cores; one thread; updates per nanosecond: median [min, max]\n")
    for r in rows:
        if (head := f"{r['algorithm']}, {name_of(r['shape'])}, {r['sweeps']} sweeps") != last:
            print(head)
            best, last = r["updates_per_ns"]["median"], head
        rate = r["updates_per_ns"]
        ratio = f"uqphys is {best / rate['median']:6.1f} times as fast" if r["program"] != "uqphys" else ""
        print(f"  {r['program']:9s}{r['method']:26s}{rate['median']:9.4f} [{rate['min']:.4f}, {rate['max']:.4f}]  {ratio}")
    print("\nhow much faster two threads are than one, with two chains (two words of replicas): by least wall seconds [min, max]")
    for r in found["threads"]:
        each = r["by_repetition"]
        print(f"  {r['method']:20s}{name_of(r['shape']):16s}{r['speed_up']:6.2f} [{each['min']:.2f}, {each['max']:.2f}]")
    for name in found["missing"]:
        print(f"\n{name} is missing and was not compared: pip install {PEERS[name]}")
    print("\n" + ("targets (a rehearsal: not judged)" if found["quick"] else "targets"))
    for t in found["targets"]:
        verdict = {True: "met", False: "MISSED", None: "NOT MEASURED"}[t["met"]]
        value = "-" if t["value"] is None else f"{t['value']:.3g}"
        print(f"  {t['target']:58s}{value:>8s} >= {t['limit']:<6g}{'' if found['quick'] else verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small rehearsal: the same table, nothing is judged")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--part", choices=("one", "two"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    if options.part:
        print(json.dumps((one_thread if options.part == "one" else two_threads)(scale)))
        return 0
    begin, load = time.perf_counter(), os.getloadavg()[0]
    found = dict(machine=machine(), quick=options.quick, options=scale._asdict(), load_before=load)
    found |= part("one", options.quick)
    found |= part("two", options.quick) if os.cpu_count() > 1 else {"threads": []}
    found["targets"] = targets(found["rows"], found["threads"])
    found["seconds"] = time.perf_counter() - begin
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    show(found)
    return 0 if options.quick or all(t["met"] for t in found["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
