"""Labels of a defect in a mixed oxide: what a bound Schottky defect costs in (U,Pu)O2, for many random arrangements of its cations.

    python studies/oxide_labels.py --labels 420 --workers 2

The exact computation is CHGNet's (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)), version 0.3.0 with the weights in its wheel; what it says
of a real oxide is not asked here. A supercell has 2x2x2 cubes of fluorite, 96 atoms, 32 of them cations, each U or Pu by a coin of its own. Its
edge is the mean of those of the two pure oxides, by the number of Pu. The defect takes out cation 0 and two of the oxygens next to it, opposite
each other on a face of their cube (<110>), and everything relaxes until no force exceeds 0.05 eV/A. The formation energy is

    E_f = E(with the defect) + e(MO2) - E(without it),

where e is the energy of a formula unit of the pure oxide of the cation M that was taken out, at rest.

Labels go to a cache, one by one: an interrupted run loses the structures that are being relaxed, and nothing else. All that are finished go to
studies/oxide_labels.json, from where a later run goes on. A structure that does not come to rest is listed there, with what went wrong.
"""

import argparse
import functools
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version
from pathlib import Path

import numpy as np

from uqphys.black_box import BlackBox, _relax

COMPOSITIONS = (0.25, 0.5, 0.75)  # fraction of Pu
FMAX, STEPS = 0.05, 200
OUT = Path(__file__).with_suffix(".json")


@functools.cache
def model():
    "The network, once for each process."
    import torch
    from chgnet.model import CHGNet

    torch.set_num_threads(1)
    return CHGNet.load(use_device="cpu", verbose=False)


def calculator():
    "A calculator without a past."
    from chgnet.model.dynamics import CHGNetCalculator

    with warnings.catch_warnings(), redirect_stdout(None):
        warnings.simplefilter("ignore")
        return CHGNetCalculator(model=model(), use_device="cpu", on_isolated_atoms="ignore")


@functools.cache
def pure(metal):
    "Edge of the cube (A) and energy of a formula unit (eV) of a pure oxide at rest."
    from ase.build import bulk

    atoms = bulk(f"{metal}O2", "fluorite", a=5.45, cubic=True)
    atoms.calc = calculator()
    _relax(atoms, 0.01, 200, True)
    return float(atoms.cell.lengths().mean()), float(atoms.get_potential_energy()) / 4


def oxide(x):
    "The perfect crystal of cations x (32,), -1 is U, +1 is Pu; the numbers of its cations; and of the two oxygens that the defect takes."
    from ase.build import bulk

    share = (1 + np.mean(x)) / 2
    edge = (1 - share) * pure("U")[0] + share * pure("Pu")[0]
    atoms = bulk("UO2", "fluorite", a=edge, cubic=True).repeat(2)
    cations, oxygens = (np.flatnonzero(atoms.symbols == s) for s in ("U", "O"))
    atoms.numbers[cations] = np.where(np.asarray(x) > 0, 94, 92)
    away = atoms.get_distances(cations[0], oxygens, mic=True, vector=True) / (edge / 4)
    corner = {tuple(step): int(o) for step, o in zip(away.round().astype(int), oxygens)}
    return atoms, cations, [corner[1, 1, 1], corner[-1, -1, 1]]


def formation_energy(x):
    "E_f (eV) of the defect among cations x (32,)."
    x = np.asarray(x).ravel()
    atoms, cations, oxygens = oxide(x)
    atoms.calc = calculator()
    _relax(atoms, FMAX, STEPS, False)
    broken = atoms.copy()
    del broken[[int(cations[0]), *oxygens]]
    broken.calc = calculator()
    _relax(broken, FMAX, STEPS, False)
    return broken.get_potential_energy() + pure("Pu" if x[0] > 0 else "U")[1] - atoms.get_potential_energy()


def arrangements(n):
    "The first n arrangements (n, 32) and the composition of each; the compositions take turns."
    composition = np.array([COMPOSITIONS[k % len(COMPOSITIONS)] for k in range(n)])
    coins = np.array([np.random.default_rng([2026, k]).random(32) for k in range(n)])
    return np.where(coins < composition[:, None], 1, -1).astype(np.int8), composition


def packed(x):
    "An arrangement as 32 characters."
    return "".join("P" if s > 0 else "U" for s in x)


def published():
    "What the results file holds: arrangement -> energy, or what went wrong."
    if not OUT.exists():
        return {}
    told = json.loads(OUT.read_text())
    return {row[1]: row[2] for row in told["labels"]} | {row[1]: row[2] for row in told["failed"]}


def publish(x, composition, known):
    "Write what is known of these arrangements to the results file."
    rows = [(float(c), packed(row), known[packed(row)]) for row, c in zip(x, composition) if packed(row) in known]
    labels, failed = ([row for row in rows if isinstance(row[2], kind)] for kind in (float, str))
    try:
        versions = {name: version(name) for name in ("chgnet", "ase", "torch")}
        oxides = {metal: pure(metal) for metal in ("U", "Pu")}
    except ImportError:  # without the tools of a new label: those of the old ones
        told = json.loads(OUT.read_text())
        versions, oxides = told["versions"], told["pure"]
    told = dict(made="python studies/oxide_labels.py", fmax=FMAX, versions=versions, pure=oxides, columns=["fraction of Pu", "cations", "formation energy (eV)"],
                labels=labels, failed=failed)
    text = json.dumps(told, indent=None).replace("], [", "],\n [").replace('"labels": [', '\n"labels": [\n ').replace('"failed"', '\n"failed"')
    OUT.write_text(text + "\n")
    print(f"{len(labels)} labels, {len(failed)} failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=420)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--collect", action="store_true", help="only publish what the cache holds, while another run fills it, say")
    parser.add_argument("--cache", type=Path, default=Path("results/oxide.sqlite"))
    options = parser.parse_args()
    options.cache.parent.mkdir(parents=True, exist_ok=True)
    x, composition = arrangements(options.labels)
    known = published()
    missing = np.array([row for row in x if packed(row) not in known], dtype=np.int8).reshape(-1, 32)
    with ProcessPoolExecutor(options.workers) if options.workers > 1 else nullcontext() as pool:
        box = BlackBox(formation_energy, (32,), cache=options.cache, executor=pool, failed="impossible", name="bound Schottky defect <110> in (U,Pu)O2, 2x2x2, CHGNet 0.3.0, 0.05 eV/A")
        try:
            if len(missing) and not options.collect:
                box.energy(missing)
        finally:
            done = box.known()
            known |= {packed(row): float(energy) for row, energy in zip(done.x, done.y[:, 0])} | {packed(f.x): f.complaint for f in box.failures}
            publish(x, composition, known)


if __name__ == "__main__":
    main()
