"""What do 100 functions at 100,000 configurations cost? Each case in a fresh process, whose peak memory is read at its end.

    python studies/bench_pathwise.py              # a minute; writes studies/bench_pathwise.json
    python studies/bench_pathwise.py --quick      # a hundredth of the configurations; writes and judges nothing

Cases: an ExtensiveGP (tables over 3x3 patterns, exact draws) with 300 examples on 8 x 8 sites, asked on 8 x 8 and on 32 x 32
sites; and `pathwise_draws` of a Gaussian kernel over pair correlations with 500 examples, ten groups of 256 random frequencies.
Wall seconds are those of drawing and evaluating; fits and the making of configurations are not counted. The peak is of the whole
process, imports and configurations included. Targets: below 30 s on 2 cores, and 2 GB. The exit status is 1 if one is missed.
"""
import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

DRAWS, CONFIGURATIONS, CASES = 100, 100_000, ("tables, 8 x 8", "tables, 32 x 32", "random waves, pair correlations, 8 x 8")
TARGETS = dict(seconds=30.0, peak_bytes=2e9)


def measure(case, n):
    "Run one case in this process, and return seconds and peak memory."
    import gpytorch
    import numpy as np

    from uqphys.gp import pathwise_draws
    from uqphys.lattice_kernels import ExtensiveGP, PairCorrelationKernel
    from uqphys.models import Ising, random_spins

    L = 32 if "32" in case else 8
    x, new = random_spins((8, 8), 500, seed=1), random_spins((L, L), n, seed=2)
    y = Ising((8, 8), K=0.2).energy(x)
    if "tables" in case:
        gp = ExtensiveGP().fit(x[:300], y[:300, None])
        gp.functions(2, seed=0)(new[:10])  # compile
        begin = time.perf_counter()
        draws = gp.functions(DRAWS, seed=3)(new)
    else:
        pairs = PairCorrelationKernel(shells=4)
        pairs.lengthscale = 0.5
        kernel = gpytorch.kernels.ScaleKernel(pairs).double()
        begin = time.perf_counter()
        f = pathwise_draws(kernel, pairs.inputs(x).numpy(), y / 64, 1e-4, DRAWS, seed=3)
        draws = np.concatenate([f(pairs.inputs(new[i : i + 4096]).numpy()) for i in range(0, n, 4096)], axis=1)
    seconds = time.perf_counter() - begin
    assert draws.shape == (DRAWS, n) and np.isfinite(draws).all()
    unit = 1 if sys.platform == "darwin" else 1024
    return dict(name=f"{DRAWS} x {n}: {case}", seconds=seconds, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, cores=os.cpu_count())


def main():
    "Run all cases, print, write and judge."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a rehearsal that writes and judges nothing")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    n = CONFIGURATIONS // (100 if options.quick else 1)
    if options.case:
        print(json.dumps(measure(options.case, n)))
        return 0
    rows = []
    for case in CASES:
        command = [sys.executable, __file__, "--case", case, *(["--quick"] if options.quick else [])]
        rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))
        print(f"{rows[-1]['name']:56s} {rows[-1]['seconds']:6.2f} s   peak {rows[-1]['peak_bytes'] / 1e9:.2f} GB", flush=True)
    if options.quick:
        return 0
    machine = dict(platform=platform.platform(), python=platform.python_version(), cores=os.cpu_count())
    Path(__file__).with_suffix(".json").write_text(json.dumps(dict(rows=rows, targets=TARGETS, machine=machine), indent=1) + "\n")
    return int(any(row[name] >= limit for row in rows for name, limit in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
