"""`uqphys sweep`: a file becomes a table, twice is once, failures are listed, mistakes are one line."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_cli import call

from uqphys.cli import parse_sweep, read_sweep
from uqphys.ensembles import load
from uqphys.models import Ising, Phi4
from uqphys.sweeps import sweep, tabulate

ROOT = Path(__file__).resolve().parents[1]
GOOD = """seed = 3
temperature = [2.0, 2.5]
[[model]]
shape = [8, 8]
[[model]]
kind = "phi4"
shape = [4, 4]
kappa = 0.2
lam = 0.5
[run]
draws = 200
burn_in = 20
"""


def write(folder, text=GOOD):
    (folder / "grid.toml").write_text(text)
    return folder / "grid.toml"


def test_a_file_becomes_a_table(tmp_path):
    "sweep.csv holds what tabulate() gives; the second call only looks; a third with more draws continues."
    code, out, err = call("sweep", write(tmp_path), "--out", tmp_path / "out")
    assert code == 0 and "4 sampled" in out and not err
    stored = pd.read_csv(tmp_path / "out" / "sweep.csv")
    table = sweep([Ising((8, 8)), Phi4((4, 4), 0.2, 0.5)], [1 / 2.0, 1 / 2.5], tmp_path / "out", draws=200, burn_in=20, seed=3, progress=False)
    assert (table.state == "kept").all()
    pd.testing.assert_frame_equal(stored, pd.read_csv(pd.io.common.StringIO(tabulate(table).to_csv(index=False))))
    before = {p.name: load(p).energy.values for p in (tmp_path / "out").glob("*.zarr")}
    assert "4 kept" in call("sweep", tmp_path / "grid.toml", "--out", tmp_path / "out")[1]
    assert "4 sampled" in call("sweep", write(tmp_path, GOOD.replace("draws = 200", "draws = 300")), "--out", tmp_path / "out")[1]
    for p in (tmp_path / "out").glob("*.zarr"):
        assert np.array_equal(load(p).energy.values[:, :200], before[p.name])


def test_failures_are_listed(tmp_path):
    "A point that is refused: exit code 1, its parameters on the error stream, the others done."
    text = GOOD.replace('draws = 200\nburn_in = 20', 'draws = 100\nmethod = "metropolis"').replace("[8, 8]", "[32, 32]").replace("[2.0, 2.5]", "[2.27, 9.0]")
    code, out, err = call("sweep", write(tmp_path, text), "--out", tmp_path / "out")
    assert code == 1 and "failed: Ising 32x32 at beta = 0.440529: draws * thin=100" in err and "sampled" in out


BAD = [
    ("seed = 3", "", "seed: missing"),
    ("[2.0, 2.5]", "[]", "temperature"),
    ("[2.0, 2.5]", "[2.0, 0.0]", "temperature"),
    ("[2.0, 2.5]", '{ from = 2, points = 3 }', "temperature"),
    ("[2.0, 2.5]", '{ from = 2, to = 3, points = 1 }', "temperature"),
    ("[2.0, 2.5]", '{ from = 2, to = "hot", points = 3 }', "temperature"),
    ("[2.0, 2.5]", "[2.0, 2.0]", "twice"),
    ("temperature", "tempreature", "tempreature"),
    ("[8, 8]", "[8]", "shape"),
    ("[8, 8]", "[8, 1]", "shape"),
    ('"phi4"', '"phi5"', "kind"),
    ("lam = 0.5", "lam = -0.5", "lam"),
    ("lam = 0.5", "", "lam: missing"),
    ("draws = 200", "draws = 0", "draws = 0"),
    ("draws = 200", 'draws = 200\nmethod = "magic"', "method"),
    ("draws = 200", 'draws = 200\nkeep = "all"', "keep"),
    ("[run]", "[rum]", "rum"),
    ("[run]", "[[run]]", "run"),
    ("seed = 3", "seed = ", "TOML"),
]


@pytest.mark.parametrize("old, new, named", BAD)
def test_a_bad_file_is_one_line(old, new, named, tmp_path):
    code, out, err = call("sweep", write(tmp_path, GOOD.replace(old, new, 1)), "--out", tmp_path / "out")
    assert code == 2 and err.count("\n") == 1 and err.startswith("uqphys: ") and named in err, err
    assert not list((tmp_path / "out").glob("*.zarr"))


def test_bad_options_are_one_line(tmp_path):
    file = write(tmp_path)
    for words, named in ((("--workers", "2", "--scheduler", "tcp://x:1"), "--scheduler"), (("--scheduler", "nonsense://"), "--scheduler"),
                         (("--out", file / "below"), "--out"), (("--workers", "0"), "--workers")):
        code, _, err = call("sweep", file, *words)
        assert code == 2 and named in err, err


def test_the_example_is_read():
    found = read_sweep(ROOT / "studies" / "transition.toml")
    assert [m.shape for m in found.models] == [(16, 16), (32, 32)] and len(found.betas) == 13
    assert parse_sweep({"seed": 0, "beta": [0.1], "model": {"shape": [4, 4]}}).betas == [0.1]


def test_stopped_and_started_again(tmp_path):
    "Ctrl-C in the middle, with two processes; the same words again end with the bits of an undisturbed sweep."
    text = GOOD.replace("draws = 200", "draws = 20000\ncheckpoint_every = 500").replace("[2.0, 2.5]", "[2.0, 2.5, 3.0, 4.0]")
    for attempt in range(10):  # a busy machine may see the first checkpoint only when all is done: then once more
        out = tmp_path / f"out{attempt}"
        command = [str(Path(sys.executable).with_name("uqphys")), "sweep", str(write(tmp_path, text)), "--workers", "2", "--out", str(out)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background job ignores it
        end = time.monotonic() + 60
        while not list(out.glob("*/.uqphys/states/*")) and time.monotonic() < end and child.poll() is None:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=60)
        if child.returncode != 0:
            break
    assert child.returncode in (130, -signal.SIGINT, 1), (child.returncode, err)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for path in out.glob("*.zarr"):
        model = Ising((8, 8)) if path.name.startswith("Ising") else Phi4((4, 4), 0.2, 0.5)
        beta = load(path).attrs["beta"]
        sweep(model, [beta], tmp_path / "alone", draws=20000, burn_in=20, seed=3, checkpoint_every=500, progress=False)
        assert load(path).identical(load(tmp_path / "alone" / path.name))


def test_the_cluster_script_runs_without_a_cluster(tmp_path):
    "studies/sweep_slurm.py --local gives what the command gives; --show prints a job for SLURM."
    file, script = write(tmp_path), ROOT / "studies" / "sweep_slurm.py"
    shown = subprocess.run([sys.executable, script, file, "--show"], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0 and "#SBATCH -p normal" in shown.stdout and "--requeue" in shown.stdout, shown.stderr
    done = subprocess.run([sys.executable, script, file, "--local", "--out", tmp_path / "there"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert call("sweep", file, "--out", tmp_path / "here")[0] == 0
    for path in (tmp_path / "here").glob("*.zarr"):
        assert load(path).identical(load(tmp_path / "there" / path.name))


def test_stored_speed_meets_its_targets():
    "studies/sweep_speed.json, as committed: less than 20 ms of overhead, 1.8 with two workers."
    found = json.loads((ROOT / "studies" / "sweep_speed.json").read_text())
    assert found["points"] == 64 and found["overhead_ms"] < 20 and found["speed_up"] >= 1.8
    done = subprocess.run([sys.executable, ROOT / "studies" / "sweep_speed.py", "--quick"], capture_output=True, text=True)
    assert done.returncode == 0 and "overhead" in done.stdout, done.stderr
