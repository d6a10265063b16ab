"""What a sweep costs beside the sampling itself, and what a second worker is worth.

    python studies/sweep_speed.py            about 1.5 minutes on 2 idle cores; writes studies/sweep_speed.json
    python studies/sweep_speed.py --quick    a rehearsal: a few points, nothing judged or written

Sixty-four temperatures of the 64x64 Ising model, Metropolis, 4 chains.
* Overhead of a point: sweep() without an executor, less sample() of the same points in a loop, divided by 64. The points
  are as short as points can be, so that the difference of two long times does not hide it. Target: below 20 ms.
* Two workers: sweep() on a ProcessPoolExecutor of one worker, and of two, alternately, on points of some tenths of a second.
  The workers are started before the clock is. Target: 1.8 times faster.
The exit status is 1 if a target is missed.
"""
import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from uqphys.models import Ising
from uqphys.sampling import sample
from uqphys.sweeps import sweep

STORED = Path(__file__).with_suffix(".json")
LIMITS = {"overhead_ms": 20.0, "speed_up": 1.8}


def timed(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def overhead(points: int, repetitions: int) -> list:
    "Milliseconds a point costs beyond its sampling, in each repetition."
    model, betas = Ising((8, 8)), np.linspace(0.2, 0.4, points).tolist()
    options = dict(draws=50, burn_in=5, seed=0, method="metropolis", keep="observables", progress=False)
    found = []
    for _ in range(1 + repetitions):  # the first one warms up
        plain = timed(lambda: [sample(model, beta, **options) for beta in betas])
        with tempfile.TemporaryDirectory(dir=".") as folder:
            found.append(1e3 * (timed(lambda: sweep(model, betas, folder, **options)) - plain) / points)
    return found[1:]


def with_workers(workers: int, points: int, draws: int) -> float:
    "Seconds for a sweep on so many processes that are ready."
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool, tempfile.TemporaryDirectory(dir=".") as folder:
        options = dict(burn_in=10, seed=0, method="metropolis", progress=False, executor=pool)
        sweep(Ising((8, 8)), np.linspace(0.1, 0.2, 4 * workers).tolist(), Path(folder, "ready"), draws=20, **options)
        seconds = timed(lambda: tables.append(sweep(Ising((64, 64)), np.linspace(0.3, 0.5, points).tolist(), Path(folder, "run"), draws=draws, **options)))
    assert (tables[-1].state == "sampled").all()
    return seconds


tables = []


def measure(quick: bool) -> dict:
    points, draws, repetitions = (6, 200, 1) if quick else (64, 2000, 3)
    beside = overhead(points, repetitions + 2)
    pairs = [(with_workers(1, points, draws), with_workers(2, points, draws)) for _ in range(repetitions)]
    return {"points": points, "cores": os.cpu_count(), "load": os.getloadavg()[0], "overhead_ms": float(np.median(beside)),
            "overhead_ms_each": beside, "seconds": pairs, "speed_up": float(np.median([one / two for one, two in pairs]))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a rehearsal, not judged")
    found = measure(quick := parser.parse_args().quick)
    met = {"overhead_ms": found["overhead_ms"] < LIMITS["overhead_ms"], "speed_up": found["speed_up"] >= LIMITS["speed_up"]}
    print(f"overhead of a point   {found['overhead_ms']:6.1f} ms   < {LIMITS['overhead_ms']:g}   {'' if quick else 'met' if met['overhead_ms'] else 'MISSED'}")
    print(f"two workers against one  {found['speed_up']:.2f}    >= {LIMITS['speed_up']:g}  {'' if quick else 'met' if met['speed_up'] else 'MISSED'}")
    if not quick:
        STORED.write_text(json.dumps(found | {"met": met}, indent=1) + "\n")
    return 0 if quick or all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
