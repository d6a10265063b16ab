"""Same seed, same bits: the whole road, walked in processes of their own with one thread and with two."""
import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
STEPS = ("data", "weights", "posterior", "configs", "energies", "probe", "posterior_report")
SIZES = (4, 8)


def digest(*arrays):
    "The sha256 of the bytes of arrays."
    import numpy as np

    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def walk(L, threads, seed):
    "Labelled data, a fit, an ensemble, two reports: what came out at every step, as a hash."
    import numba
    import torch

    torch.set_num_threads(threads)
    from uqphys.architectures import LocalEnergyNet
    from uqphys.bias import Approximation, predict_bias
    from uqphys.bnn import LastLayer
    from uqphys.models import Ising
    from uqphys.sampling import sample
    from uqphys.training import labelled

    assert numba.get_num_threads() == threads and torch.get_num_threads() == threads
    model, beta = Ising((L, L), J2=0.1, K=0.2), 0.35
    x, y = labelled(model, beta, 80, seed=seed)
    surrogate = LastLayer(LocalEnergyNet(hidden=(8,), seed=seed), seed=seed, epochs=60).fit(x, y, progress=False)
    approximation = Approximation(model, surrogate)
    ensemble = sample(approximation, beta, draws=150, chains=4, burn_in=100, thin=2, seed=seed, progress=False)
    out = {"data": digest(x, y), "weights": digest(*(v.numpy() for v in surrogate.architecture.state_dict().values()))}
    out["posterior"] = digest(*surrogate.posterior[:4], surrogate.row_covariance, surrogate.evidence)
    out["configs"], out["energies"] = digest(ensemble["config"].values), digest(ensemble["energy"].values)
    for evidence, step in (("probe", "probe"), ("posterior", "posterior_report")):
        report = predict_bias(approximation, ensemble, evidence=evidence, probes=30, seed=seed)
        text = json.dumps([report.verdicts, {k: str(v) for k, v in report.settings.items()}], sort_keys=True)
        out[step] = digest(report.table.drop(columns="trust").to_numpy(dtype=float)) + hashlib.sha256(text.encode()).hexdigest()
    assert torch.get_num_threads() == threads  # nobody left another number behind
    return out


@cache
def walked(threads, seed):
    "Both sizes, walked in a process of its own."
    code = f"import json, test_bits; print(json.dumps([test_bits.walk(L, {threads}, {seed}) for L in {SIZES}]))"
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(SIZES, json.loads(done.stdout.splitlines()[-1])))


def test_one_thread_and_two_give_the_same_bits():
    one, two = walked(1, 5), walked(2, 5)
    assert all(list(one[L]) == list(STEPS) for L in SIZES)
    assert [(L, step) for L in SIZES for step in STEPS if one[L][step] != two[L][step]] == []


def test_another_seed_gives_other_bits():
    "The comparison can fail: no step of the chain ignores its seed."
    one, other = walked(2, 5), walked(2, 6)
    assert [(L, step) for L in SIZES for step in STEPS if one[L][step] == other[L][step]] == []
