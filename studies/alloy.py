"""An alloy whose energy is an effective-medium potential: Cu-Au on a rigid fcc crystal of 64 atoms, ordering and its loss.

    python studies/alloy.py --workers 2

For each composition and number a surrogate learns from 60 exact energies (ASE's EMT; Jacobsen, Stoltze & Norskov, Surf. Sci. 366, 394 (1996)),
is sampled at each temperature by exchanging atoms, and predict_bias asks for 100 exact energies more. The peer is a cluster expansion by icet
(Angqvist et al., Adv. Theory Simul. 2, 1900015 (2019)), fitted to the same 60 energies by automatic relevance determination, and judged alike.

The truth: on a rigid crystal this potential is a sum over sites of a function of who sits in the first four or five shells. That function is put into
a table here, from the published formulas and ASE's parameters; it has to agree with ASE's energies to 1e-9 eV, and then long exact chains cost
nothing. Chains that are *counted* count every energy they ask for.

Each (composition, number) is a file in results/alloy/, so that an interrupted study goes on; all finished ones go to studies/alloy.json.
"""

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

import numpy as np

from uqphys.analysis import gamma_error
from uqphys.atoms import AtomicEnergyNet, site_table
from uqphys.bias import Approximation, predict_bias
from uqphys.black_box import AtomsEnergy, BlackBox
from uqphys.bnn import LastLayer
from uqphys.crystals import Crystal, bond_averages, neighbour_shells, symmetries
from uqphys.sampling import one_thread
from uqphys.swaps import SiteTable, sample_swaps

SHAPE, SPECIES = (4, 4, 4), ("Cu", "Au")
COMPOSITIONS = {0.25: (575, 650, 800, 1000), 0.5: (500, 575, 650, 800), 0.75: (375, 425, 500, 600)}  # fraction of gold: temperatures in K
EXAMPLES, PROBES, TESTS, SEEDS = 60, 100, 300, 4
BOLTZMANN = 8.617333262e-5  # eV per kelvin
OBSERVABLES = ("energy", "pairs1", "pairs2", "specific_heat")
OUT = Path(__file__).with_suffix(".json")


def atoms_of(composition):
    "Sites as ASE has them, at the edge of the cube between those of the two metals, in A."
    from ase.build import bulk

    return bulk("Cu", "fcc", a=(1 - composition) * 3.59 + composition * 4.06).repeat(SHAPE)


@cache
def crystal_of(composition):
    atoms = atoms_of(composition)
    return Crystal(atoms.cell.array, atoms.positions, SHAPE)


@cache
def exact_of(composition):
    "The exact energy, asked from ASE and counted; it knows its symmetries."
    from ase.calculators.emt import EMT

    return BlackBox(AtomsEnergy(atoms_of(composition), EMT, SPECIES), SHAPE, permutations=symmetries(crystal_of(composition)), progress=False)


@cache
def rigid_table(composition):
    "The same energy as a table of sites, from the formulas of the potential; held against ASE."
    from ase.calculators.emt import EMT, beta

    calculator, crystal = EMT(), crystal_of(composition)
    atoms = atoms_of(composition)
    atoms.numbers[::2] = 79
    calculator.initialize(atoms)
    steps = ((1, 1, 0), (2, 0, 0), (2, 1, 1), (2, 2, 0), (3, 1, 0))
    lengths = [r for r in (np.linalg.norm(np.array(v) * atoms.cell[0, 1] / SHAPE[0]) for v in steps) if r < calculator.rc_list]
    shells = neighbour_shells(crystal, len(lengths))
    par = calculator.par
    cut = [1 / (1 + np.exp(calculator.acut * (r - calculator.rc))) for r in lengths]
    counts = np.meshgrid(*(np.arange(shell.shape[1] + 1) for shell in shells), indexing="ij")
    table = []
    for i in range(2):
        density, pairs = 0.0, 0.0
        for n, shell, r, weight in zip(counts, shells, lengths, cut):
            for number, j in ((shell.shape[1] - n, 0), (n, 1)):
                ratio = weight * par["n0"][j] / par["n0"][i]
                density = density + number * ratio * np.exp(-par["eta2"][j] * (r - beta * par["s0"][j]))
                pairs = pairs + number * ratio * np.exp(-par["kappa"][j] * (r / beta - par["s0"][j]))
        s = -np.log(density * par["inv12gamma1"][i]) / (beta * par["eta2"][i])
        bound = par["E0"][i] * ((1 + par["lambda"][i] * s) * np.exp(-par["lambda"][i] * s) - 1)
        table.append(bound + 6 * par["V0"][i] * np.exp(-par["kappa"][i] * s) + par["neghalfv0overgamma2"][i] * pairs)
    law = SiteTable(SHAPE, shells, np.array(table))
    x = arrangements(composition, 5, seed=1)
    asked = exact_of(composition).energy(x)
    if np.abs(law.energy(x) - asked).max() > 1e-9 * np.abs(asked).max():
        raise RuntimeError(f"the table is off by {np.abs(law.energy(x) - asked).max():.2g} eV")
    return law


def arrangements(composition, n, seed):
    "Random arrangements (n, *SHAPE)."
    rng, second = np.random.default_rng(seed), round(64 * composition)
    return np.array([rng.permutation(np.repeat(np.array([-1, 1], np.int8), (64 - second, second))) for _ in range(n)]).reshape(n, *SHAPE)


def learned(composition, seed):
    "Our surrogate, and the examples that it has seen; their energies are asked from ASE."
    x = arrangements(composition, EXAMPLES, [seed, round(100 * composition)])
    y = exact_of(composition).energy(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a fit doubts, its reports say
        net = AtomicEnergyNet(crystal_of(composition), hidden=(8,), shells=2, seed=seed)
        return LastLayer(net, seed=seed, epochs=200).fit(x, y[:, None], progress=False), x, y


class Expansion:
    "A cluster expansion by icet: cutoffs by cross-validation, parameters by automatic relevance determination."

    def __init__(self, composition, x, y):
        from ase.build import bulk
        from icet import ClusterExpansion, ClusterSpace, StructureContainer
        from trainstation import CrossValidationEstimator

        edge, self.composition, best = (1 - composition) * 3.59 + composition * 4.06, composition, None
        for cutoffs in ([0.8, 0.8], [1.05, 0.8], [1.3, 0.8, 0.8], [1.3, 1.05, 0.8], [1.5, 1.05, 0.8], [1.5, 1.3, 0.8]):
            space = ClusterSpace(bulk("Cu", "fcc", a=edge), [c * edge for c in cutoffs], list(SPECIES))
            known = StructureContainer(space)
            for atoms, energy in zip(self.atoms(x), y):
                known.add_structure(atoms, properties=dict(energy=energy / 64))
            fit = CrossValidationEstimator(known.get_fit_data(key="energy"), fit_method="ardr", validation_method="k-fold", n_splits=10, seed=0)
            fit.validate()
            if best is None or fit.rmse_validation < best[0]:
                fit.train()
                best = fit.rmse_validation, ClusterExpansion(space, fit.parameters), cutoffs
        self.validation, self.model, self.cutoffs = best

    def atoms(self, x):
        "Arrangements as ASE has them."
        found = []
        for one in x.reshape(len(x), -1):
            found.append(atoms_of(self.composition))
            found[-1].numbers[:] = np.where(one > 0, 79, 29)
        return found

    def energy(self, x):
        "Total energies (n,) in eV."
        return np.array([64 * float(self.model.predict(atoms)) for atoms in self.atoms(x)])


def measured(composition):
    "Order over bonds, as observables of a run."
    crystal, shells = crystal_of(composition), neighbour_shells(crystal_of(composition), 2)
    return {f"pairs{k + 1}": partial(_bonds, crystal=crystal, shells=[shells[k]]) for k in range(2)}


def _bonds(x, crystal, shells):
    return bond_averages(x, crystal, shells)[0]


@cache
def exact_run(composition, temperature):
    "A long chain of the exact energy."
    beta, second = 1 / (BOLTZMANN * temperature), round(64 * composition)
    return sample_swaps(rigid_table(composition), beta, second, draws=1500, chains=32, burn_in=1000, thin=8, measure=measured(composition), seed=17, progress=False)


def biases(run, energies, beta):
    "Biases of another energy, given at the configurations of an exact run, by weights; with errors from a jackknife over chains."
    from uqphys.benchmark import _jackknife, _left_out, _with_energy2

    values = {name: run[name].values for name in ("energy", "pairs1", "pairs2")}
    off = energies / 64 - values["energy"]
    log_weight = -beta * 64 * off
    weights, plain = np.exp(log_weight - log_weight.max()), np.ones_like(off)
    there = _left_out(_with_energy2(values, values["energy"] + off), weights, OBSERVABLES, beta, 64)
    bias, error = _jackknife(there - _left_out(_with_energy2(values, values["energy"]), plain, OBSERVABLES, beta, 64))
    return bias, error, float(weights.sum() ** 2 / (weights**2).sum() / weights.size)


def row(job):
    "All temperatures of one composition and number."
    (composition, seed), started = job, time.process_time()
    with one_thread():
        exact = exact_of(composition)
        ours, x, y = learned(composition, seed)
        table, peer = site_table(ours), Expansion(composition, x, y)
        tests = arrangements(composition, TESTS, [seed, 1, round(100 * composition)])
        truth = rigid_table(composition).energy(tests)
        rmse = {name: float(1000 / 64 * np.sqrt(np.mean((energy(tests) - truth) ** 2))) for name, energy in (("ours", table.energy), ("icet", peer.energy))}
        cases = [case for temperature in COMPOSITIONS[composition] for case in cases_of(composition, seed, temperature, ours, table, peer)]
    return dict(composition=composition, seed=seed, rmse=rmse, cutoffs=peer.cutoffs, asked=exact.counts.asked, seconds=time.process_time() - started, cases=cases)


def cases_of(composition, seed, temperature, ours, table, peer):
    "One temperature: the bias, what was predicted, and what the peer would have had."
    beta, second, run = 1 / (BOLTZMANN * temperature), round(64 * composition), exact_run(composition, temperature)
    law = Approximation(exact_of(composition), ours)
    told = dict(table=table, measure=measured(composition), progress=False)
    cheap = sample_swaps(law, beta, second, draws=300, chains=8, burn_in=400, thin=8, seed=1000 * seed + round(temperature), **told)
    longer = sample_swaps(law, beta, second, draws=2000, chains=8, burn_in=400, thin=8, seed=1000 * seed + round(temperature) + 1, **told)
    report = predict_bias(law, cheap, OBSERVABLES, probes=PROBES, choice="spanning", seed=seed).with_longer_run(longer)
    x = run["config"].values
    bias, error, share = biases(run, np.stack([table.energy(chain) for chain in x]), beta)
    some = run.isel(draw=slice(None, None, 25))  # the peer's energies take a hundredth of a second each
    peer_bias = biases(some, np.stack([peer.energy(chain) for chain in some["config"].values]), beta)
    exact = _exact(run, beta)
    attempts, found = x.shape[0] * x.shape[1] * 8 * 64, []
    for k, name in enumerate(OBSERVABLES):
        r = report.table.loc[name]
        found.append(dict(temperature=temperature, observable=name, exact=exact[name][0], exact_error=exact[name][1], true_bias=bias[k], truth_error=error[k], share=share,
                          **{key: (r[key] if isinstance(r[key], str) else float(r[key])) for key in ("predicted_bias", "low", "high", "corrected", "error", "trust")},
                          peer_bias=float(peer_bias[0][k]), peer_error=float(peer_bias[1][k]), plain_chain=float(attempts * (exact[name][1] / r["error"]) ** 2), spent=EXAMPLES + PROBES))
    return [{key: (float(v) if isinstance(v, np.floating) else v) for key, v in case.items()} for case in found]


def _exact(run, beta):
    "Values and errors of the exact run."
    from uqphys.benchmark import _jackknife, _left_out, _with_energy2

    values = {name: run[name].values for name in ("energy", "pairs1", "pairs2")}
    value, error = _jackknife(_left_out(_with_energy2(values, values["energy"]), np.ones_like(values["energy"]), OBSERVABLES, beta, 64))
    return {name: (float(v), float(e)) for name, v, e in zip(OBSERVABLES, value, error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("results/alloy"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    file_of = lambda job: options.folder / f"{job[0]}-{job[1]}.json"
    jobs = [(composition, seed) for seed in range(options.seeds) for composition in COMPOSITIONS]
    missing = [job for job in jobs if not file_of(job).exists()]
    with ProcessPoolExecutor(options.workers) if options.workers > 1 else nullcontext() as pool:
        for job, found in zip(missing, (pool.map if pool else map)(row, missing)):
            partial_file = file_of(job).with_suffix(".part")
            partial_file.write_text(json.dumps(found))
            partial_file.replace(file_of(job))
            print(f"{job}: {found['seconds']:.0f} s; RMSE {found['rmse']['ours']:.3f} and {found['rmse']['icet']:.3f} meV per atom", flush=True)
    rows = [json.loads(file_of(job).read_text()) for job in jobs if file_of(job).exists()]
    options.out.write_text(json.dumps(dict(made="python studies/alloy.py", examples=EXAMPLES, probes=PROBES, rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
