"""Crystals, exchanges of atoms, networks of elements, and energies of atoms that relax."""
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from common import assert_complete, assert_refused, row_name, rows_of
from study import load_study
from uqphys import alloy_gp, atoms, crystals, swaps
from uqphys.alloy_gp import AlloyGP, alloy_features, alloy_forms
from uqphys.analysis import gamma_error
from uqphys.atoms import AtomicEnergyNet, SymmetryFunctions, site_table
from uqphys.bias import Approximation, predict_bias
from uqphys.black_box import AtomsEnergy, BlackBox
from uqphys.bnn import LastLayer
from uqphys.committees import EnsembleNet
from uqphys.crystals import Crystal, bond_averages, neighbour_shells, symmetries
from uqphys.hmc import HMCNet
from uqphys.models import BinaryAlloy, random_spins
from uqphys.swaps import SiteTable, _fast_sweep, _sweep, _TableWalk, sample_swaps
from uqphys.training import load_network, save_network


def fcc(lengths, a=3.9):
    primitive = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal(np.diag(lengths) @ primitive, np.array(list(np.ndindex(*lengths))) @ primitive, lengths)


def embedded(crystal):
    "An energy of densities: what a sum over pairs cannot express."
    tables = neighbour_shells(crystal, 2)

    def energy(x):
        up = (np.asarray(x).reshape(-1, crystal.n_sites) > 0).astype(float)
        n1, n2 = (sum(up[:, column] for column in table.T) for table in tables)
        total = -np.sqrt((1 + 0.25 * n1 + 0.1 * n2) * (1 + up)).sum(1) + 0.03 * (up * n1).sum(1)
        return total.reshape(np.shape(x)[: np.ndim(x) - len(crystal.shape)])

    return energy


@pytest.mark.parametrize("basis, cell, numbers", [
    ([[0, 0, 0]], np.eye(3), (6, 12, 8)),
    ([[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3), (8, 6, 12)),
    ([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], np.eye(3), (12, 6, 24)),
    ([[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0], [0.75, 0.75, 0.25], [0.5, 0, 0.5], [0.75, 0.25, 0.75], [0, 0.5, 0.5], [0.25, 0.75, 0.75]], np.eye(3), (4, 12, 12)),
])
def test_known_crystals_have_known_shells(basis, cell, numbers):
    "Simple cubic, body-centred, face-centred, diamond; from one cell, where sites meet their own images, and from eight."
    for repeat in (1, 2):
        steps = np.array(list(np.ndindex(repeat, repeat, repeat)))
        crystal = Crystal(repeat * cell, (steps[:, None] + np.array(basis)).reshape(-1, 3))
        assert tuple(shell.shape[1] for shell in neighbour_shells(crystal)) == numbers


@pytest.mark.parametrize("lengths, count", [((3, 3, 3), 27 * 48), ((4, 4, 4), 64 * 48), ((2, 2, 3), 12 * 12)])
def test_symmetries_are_a_group_that_energies_cannot_see(lengths, count):
    crystal = fcc(lengths)
    group = symmetries(crystal)
    known = {p.tobytes() for p in group}
    rng = np.random.default_rng(0)
    assert len(known) == len(group) and (len(group) == count or lengths == (2, 2, 3))
    for _ in range(50):
        p, q = group[rng.integers(len(group), size=2)]
        assert p[q].tobytes() in known and np.argsort(p).tobytes() in known
    x, energy = random_spins(lengths, 5, seed=1), embedded(crystal)
    for p in group[rng.integers(len(group), size=10)]:
        assert np.allclose(energy(x.reshape(5, -1)[:, p].reshape(x.shape)), energy(x), rtol=1e-12)


def test_rotated_and_shifted_crystals_are_the_same():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    one = fcc((3, 3, 3))
    two = Crystal(one.cell @ turn, one.positions @ turn + 0.7, one.shape)
    assert all(np.array_equal(a, b) for a, b in zip(neighbour_shells(one), neighbour_shells(two)))
    assert np.array_equal(symmetries(one), symmetries(two))
    x = random_spins((3, 3, 3), 4, seed=0)
    assert np.array_equal(bond_averages(x, one), bond_averages(x, two))


@pytest.mark.parametrize("lengths", [(2, 2, 2), (3, 3, 3), (4, 2, 3)])
def test_compiled_exchanges_are_the_readable_ones(lengths):
    "To the bit, also where a site meets itself among its neighbours."
    crystal, rng = fcc(lengths), np.random.default_rng(2)
    shells = neighbour_shells(crystal, 3)
    law = SiteTable(lengths, shells, rng.normal(size=(2, *(s.shape[1] + 1 for s in shells))))
    x = random_spins(lengths, 1, seed=4)[0]
    walks = [_TableWalk(law, 0.5, x, sweep) for sweep in (_fast_sweep, _sweep)]
    made = [walk.go(20, np.random.default_rng(7)) for walk in walks]
    assert made[0] == made[1] > 0 and np.array_equal(walks[0].x, walks[1].x) and np.array_equal(walks[0].places, walks[1].places)
    assert np.array_equal(walks[0].places, law._places(walks[0].x[None])[0]) and walks[0].x.sum() == x.sum()


def test_exchanges_sample_the_law_and_their_errors_hold():
    "z-scores of 60 runs against the enumeration of all arrangements are normal."
    lengths, second, beta = (2, 2, 3), 4, 3.0
    crystal = fcc(lengths)
    shells = neighbour_shells(crystal, 2)
    law = SiteTable(lengths, shells, 0.2 * np.random.default_rng(5).normal(size=(2, *(s.shape[1] + 1 for s in shells))))
    import itertools

    states = np.array([np.isin(np.arange(12), chosen) for chosen in itertools.combinations(range(12), second)]) * 2 - 1
    energy = law.energy(states.reshape(-1, *lengths).astype(np.int8))
    share = np.exp(-beta * (energy - energy.min()))
    share /= share.sum()
    exact = share @ energy / 12
    found = [gamma_error(sample_swaps(law, beta, second, draws=400, chains=4, burn_in=20, seed=seed, progress=False)["energy"]) for seed in range(60)]
    z = np.array([(f.value - exact) / f.error for f in found])
    assert kstest(z, norm.cdf).pvalue > 1e-3 and abs(z.mean()) < 4 / math.sqrt(60)


def test_both_walks_have_the_same_seeded_bits_and_grow_by_chains():
    alloy = BinaryAlloy((3, 3, 3), pairs=(0.1,))
    runs = [sample_swaps(alloy, 2.0, 9, draws=5, chains=chains, burn_in=3, seed=3, progress=False) for chains in (2, 2, 3)]
    assert np.array_equal(runs[0]["config"], runs[1]["config"]) and np.array_equal(runs[0]["config"], runs[2]["config"][:2])
    assert runs[0].attrs["second"] == 9 and (runs[0]["config"].values.sum((2, 3, 4)) == 9 - 18).all()


def test_a_network_of_elements_is_invariant_and_travels(tmp_path):
    crystal = fcc((3, 3, 3))
    net, x = AtomicEnergyNet(crystal, hidden=(6, 5), shells=3, seed=3), random_spins((3, 3, 3), 6, seed=0)
    for p in symmetries(crystal)[::97]:
        assert torch.allclose(net(x.reshape(6, -1)[:, p].reshape(x.shape)), net(x), rtol=1e-12)
    save_network(tmp_path / "net.safetensors", net)
    assert torch.equal(load_network(tmp_path / "net.safetensors")(x), net(x))
    assert np.abs(site_table(net).energy(x) - net(x).detach().numpy()[:, 0]).max() < 1e-10


def test_symmetry_functions_are_invariant_and_learn(tmp_path):
    pytest.importorskip("dscribe")
    crystal = fcc((3, 3, 3))
    functions = dict(species=("Cu", "Au"), reach=4.5, radial=[(1.0, 2.8)], angular=[(0.01, 2.0, 1.0)])
    net, x = AtomicEnergyNet(crystal, hidden=(4,), shells=1, functions=functions, seed=3), random_spins((3, 3, 3), 6, seed=0)
    net.standardise(x)
    for p in symmetries(crystal)[::331]:
        assert torch.allclose(net(x.reshape(6, -1)[:, p].reshape(x.shape)), net(x), rtol=1e-9)
    save_network(tmp_path / "net.safetensors", net)
    assert torch.equal(load_network(tmp_path / "net.safetensors")(x), net(x))
    assert SymmetryFunctions(crystal, **functions)(x).shape == (6, 27, net.symmetry.size)


def test_chapter_three_takes_the_network():
    "A last layer, a committee and chains of weights on it; all learn the energy of densities."
    crystal = fcc((3, 3, 3))
    x = random_spins((3, 3, 3), 160, seed=1)
    y = embedded(crystal)(x)[:, None]
    makers = {"last layer": LastLayer(AtomicEnergyNet(crystal, seed=0), seed=0, epochs=100), "ensemble": EnsembleNet(AtomicEnergyNet(crystal, seed=0), noise="none", members=4, epochs=100, seed=0),
              "HMC": HMCNet(AtomicEnergyNet(crystal, hidden=(4,), seed=0), noise="none", tolerance=0.1, chains=2, steps=10, warmup=60, seed=0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few draws of weights are no posterior; here they have to run, and to learn
        for name, one in makers.items():
            belief = one.fit(x[:100], y[:100], progress=False).predict(x[100:])
            assert np.std(belief.mean - y[100:]) < 0.1 * y.std() and belief.draws.shape[1:] == (60, 1), name
    fitted = makers["last layer"]
    assert np.abs(site_table(fitted).energy(x) - fitted.predict(x).mean[:, 0]).max() < 1e-8


def test_the_bias_of_a_learned_alloy_is_predicted():
    "Against the exact law, walked in by its own table, at three temperatures of the ordering alloy."
    crystal, second = fcc((4, 4, 2)), 8
    energy = embedded(crystal)
    shells = neighbour_shells(crystal, 2)
    n1, n2 = np.meshgrid(np.arange(13), np.arange(7), indexing="ij")
    exact_table = SiteTable(crystal.shape, shells, np.stack([-np.sqrt(1 + 0.25 * n1 + 0.1 * n2), -np.sqrt(2 * (1 + 0.25 * n1 + 0.1 * n2)) + 0.03 * n1]))
    exact = BlackBox(lambda x: float(energy(x)), crystal.shape, permutations=symmetries(crystal), progress=False)
    x = sample_swaps(exact_table, 4.0, second, draws=5, chains=8, burn_in=20, seed=0, progress=False)["config"].values.reshape(-1, *crystal.shape)
    assert np.allclose(exact_table.energy(x), energy(x))
    learned = LastLayer(AtomicEnergyNet(crystal, hidden=(), shells=1), seed=0, epochs=0).fit(x, energy(x)[:, None], progress=False)
    law, table, inside = Approximation(exact, learned), site_table(learned), []
    measure = {"pairs1": lambda y: bond_averages(y, crystal, 1)[0]}
    for k, beta in enumerate((6.0, 12.0, 20.0)):
        cheap = sample_swaps(law, beta, second, table=table, draws=100, chains=8, thin=4, measure=measure, seed=10 + k, progress=False)
        report = predict_bias(law, cheap, ["energy", "pairs1"], probes=60, seed=k)
        truth, long = (sample_swaps(m, beta, second, table=t, draws=5000, chains=8, thin=4, measure=measure, seed=20 + k, progress=False) for m, t in ((exact_table, None), (table, None)))
        for name in ("energy", "pairs1"):
            bias, row = long[name].values.mean() - truth[name].values.mean(), report.table.loc[name]
            inside.append(row["low"] <= bias <= row["high"])
    assert sum(inside) >= 5


def test_a_process_over_alloys_holds_what_it_promises():
    "Intervals for 24 functions of densities with random exponents and weights, 40 known values each; and no interval where a symmetry knows the value."
    crystal = fcc((3, 3, 3))
    shells, group, held, z = neighbour_shells(crystal, 3), symmetries(crystal), [], []
    for seed in range(24):
        rng, x = np.random.default_rng(seed), random_spins((3, 3, 3), 140, seed=seed)
        up = (x.reshape(140, -1) > 0).astype(float)
        density = 1 + sum(weight * up[:, column] for weight, shell in zip(rng.uniform(0, 0.3, 3), shells) for column in shell.T)
        y = -(density ** rng.uniform(0.3, 0.9) * (1 + rng.uniform(-0.5, 1) * up)).sum(1)
        belief = AlloyGP(crystal, permutations=group, draws=100, seed=seed).fit(x[:40], y[:40, None]).predict(x[40:])
        known = belief.epistemic[:, 0] == 0
        assert np.allclose(belief.mean[known, 0], y[40:][known], rtol=1e-9)
        z += list((y[40:] - belief.mean[:, 0])[~known] / np.sqrt(belief.epistemic[~known, 0]))
        low, high = belief.interval(0.95)
        held.append(np.mean((low[:, 0] <= y[40:]) & (y[40:] <= high[:, 0])))
    held, z = np.array(held), np.array(z)
    assert abs(held.mean() - 0.95) < 4 * held.std(ddof=1) / math.sqrt(24) and 0.8 < np.sqrt(np.mean(z**2)) < 1.3


def test_a_skewed_cell_has_all_symmetries_and_near_misses_are_refused():
    crystal = fcc((3, 3, 3))
    for shear in ([[1, 0, 0], [1, 1, 0], [0, 0, 1]], [[1, 0, 0], [3, 1, 0], [-2, 4, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]):
        assert np.array_equal(symmetries(Crystal(np.array(shear) @ crystal.cell, crystal.positions, crystal.shape)), symmetries(crystal))
    with pytest.raises(ValueError, match="no group"):
        symmetries(Crystal(crystal.cell, crystal.positions + 0.15 * np.eye(27, 3, -5), crystal.shape), tolerance=0.1)


def test_what_a_measure_does_to_its_argument_stays_there():
    def vandal(y):
        y[:] = 1
        return np.ones(len(y))

    alloy = BinaryAlloy((3, 3, 3))
    runs = [sample_swaps(alloy, 1.0, 5, draws=4, chains=2, burn_in=0, measure=measure, seed=1, progress=False) for measure in (None, {"ones": vandal})]
    assert np.array_equal(*(run["config"] for run in runs))


def test_a_table_that_is_wrong_where_only_cold_chains_go_is_refused():
    "A table that agrees at random arrangements and not in perfect order."
    crystal = fcc((4, 4, 4))
    shells = neighbour_shells(crystal, 2)
    s, n1, n2 = np.meshgrid([-1, 1], np.arange(13), np.arange(7), indexing="ij")
    table = 0.01 * s * (2 * n1 - 12) - 0.005 * s * (2 * n2 - 6)
    alloy = BinaryAlloy((4, 4, 4), pairs=(0.02, -0.01))
    assert sample_swaps(alloy, 20.0, 16, table=SiteTable((4, 4, 4), shells, table), draws=20, chains=2, seed=0, progress=False).attrs["second"] == 16
    table[1, 0, 6] += 0.003  # a second atom in perfect order
    with pytest.raises(ValueError, match="where the chains went"):
        sample_swaps(alloy, 40.0, 16, table=SiteTable((4, 4, 4), shells, table), draws=20, chains=2, burn_in=400, seed=0, progress=False)


def test_arrangements_that_are_impossible_are_left_and_never_recorded():
    class Strict:
        shape = (2, 2, 3)

        def energy(self, x):
            flat = np.asarray(x).reshape(-1, 12)
            return np.where((flat[:, :2] > 0).any(1), 0.0, np.inf)

        def observables(self, x):
            return dict(energy=self.energy(x) / 12, m=np.asarray(x).mean((1, 2, 3)))

    run = sample_swaps(Strict(), 1.0, 2, draws=50, chains=4, burn_in=20, seed=0, progress=False)
    assert (run["energy"] == 0).all() and run.attrs["acceptance"] > 0

    class Nowhere(Strict):
        def energy(self, x):
            return np.full(len(np.asarray(x)), np.inf)

    with pytest.raises(ValueError, match="possible"):
        sample_swaps(Nowhere(), 1.0, 2, draws=5, chains=2, burn_in=2, seed=0, progress=False)


def test_forms_of_alloys_are_those_of_their_images():
    crystal = fcc((3, 3, 3))
    group, x = symmetries(crystal), random_spins((3, 3, 3), 20, seed=1)
    forms = alloy_forms(x, group)
    for p in group[::111]:
        assert np.array_equal(alloy_forms(x.reshape(20, -1)[:, p].reshape(x.shape), group), forms)
    assert np.array_equal(alloy_forms(forms, group), forms) and np.array_equal(alloy_forms(x, group[:1]), x)
    smallest = [min(tuple(row[p]) for p in group) for row in x.reshape(20, -1)]
    assert np.array_equal(forms.reshape(20, -1), smallest)


class Jumpy:
    "A calculator that fails in three ways, by the number of gold atoms."

    def __new__(cls):
        from ase.calculators.calculator import Calculator, all_changes

        class Failing(Calculator):
            implemented_properties = ["energy", "forces"]

            def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
                super().calculate(atoms, properties, system_changes)
                gold = int((atoms.numbers == 79).sum())
                if gold == 1:
                    raise RuntimeError("no convergence")
                forces = np.full((len(atoms), 3), np.nan if gold == 2 else 10.0 if gold == 3 else 0.0)
                self.results = dict(energy=float("nan") if gold == 2 else float(gold), forces=forces)

        return Failing()


@pytest.mark.parametrize("fmax", [None, 0.05])
def test_a_calculator_that_fails_or_diverges_is_listed_and_the_rest_is_kept(fmax, tmp_path):
    from ase.build import bulk

    energy = AtomsEnergy(bulk("Cu", "fcc", a=3.85).repeat((2, 2, 3)), Jumpy, ("Cu", "Au"), fmax=fmax, steps=5)
    x = np.full((5, 12), -1, np.int8)
    for k in range(5):
        x[k, :k] = 1
    box = BlackBox(energy, (12,), cache=tmp_path / "alloys.sqlite", name="jumpy", failed="impossible", progress=False)
    found, complaints = box.energy(x), [f.complaint for f in box.failures]
    bad = [1, 2] if fmax is None else [1, 2, 3]
    assert np.isinf(found[bad]).all() and np.isfinite(np.delete(found, bad)).all() and len(complaints) == len(bad)
    assert "no convergence" in complaints[0] and (fmax is None or "not at rest after 5 steps" in complaints[2])
    box.close()
    again = BlackBox(energy, (12,), cache=tmp_path / "alloys.sqlite", name="jumpy", failed="impossible", progress=False)
    assert np.array_equal(again.energy(x), found) and again.counts.computed == 0


def test_relaxed_energies_are_those_of_atoms_at_rest():
    from ase.build import bulk
    from ase.calculators.emt import EMT

    plain, moved, breathing = (AtomsEnergy(bulk("Cu", "fcc", a=3.8).repeat((2, 2, 3)), EMT, ("Cu", "Au"), fmax=fmax, cell=cell) for fmax, cell in ((None, False), (0.01, False), (0.01, True)))
    x = random_spins((2, 2, 3), 3, seed=1)
    for one in x:
        assert breathing(one) < moved(one) < plain(one)
    assert moved(x[0]) == moved(x[0])


HERE = fcc((3, 3, 3))
FLAT = SiteTable((3, 3, 3), neighbour_shells(HERE, 1), np.zeros((2, 13)))
SIX = dict(species=("Cu", "Au"), reach=4.5)


def swapped(**told):
    return sample_swaps(**(dict(model=FLAT, beta=1.0, second=3, draws=2, chains=2, burn_in=0, seed=0, progress=False) | told))


REFUSED = [
    *rows_of("crystals.Crystal", lambda t, v: Crystal(v, [[0.0, 0, 0]]), "cell", ((np.zeros((3, 3)), "0"), (np.eye(2), "1"), (np.full((3, 3), np.nan), "nan"), ("fcc", "'fcc'")), "vectors|finite|numeric|numbers"),
    *rows_of("crystals.Crystal", lambda t, v: Crystal(np.eye(3), v), "positions", ((np.zeros((0, 3)), r"\(0, 3\)"), (np.zeros(3), r"\(3,\)"), (np.full((1, 3), np.inf), "inf")), "finite"),
    ("crystals.Crystal", lambda t: Crystal(np.eye(3), np.zeros((2, 3))), "positions", r"\[0, 1\]", "different places"),
    ("crystals.Crystal", lambda t: Crystal(np.eye(3), [[0.0, 0, 0]], (2,)), "shape", r"\(2,\)", "1 sites"),
    *rows_of("crystals.neighbour_shells", lambda t, v: neighbour_shells(HERE, v), "shells", ((0, "0"), (21, "21"), (2.5, "2.5")), "whole number|at most"),
    *rows_of("crystals.neighbour_shells", lambda t, v: neighbour_shells(HERE, tolerance=v), "tolerance", ((0, "0"), (0.5, "0.5"), (math.nan, "nan")), "between 0 and 0.2"),
    ("crystals.neighbour_shells", lambda t: neighbour_shells(np.eye(3)), "crystal", "1", "Crystal"),
    ("crystals.symmetries", lambda t: symmetries(None), "crystal", "None", "Crystal"),
    ("crystals.symmetries", lambda t: symmetries(HERE, -1.0), "tolerance", "-1.0", "between 0 and 0.2"),
    ("crystals.bond_averages", lambda t: bond_averages(np.ones((2, 3, 3)), HERE), "x", r"\(2, 3, 3\)", r"3, 3, 3"),
    ("crystals.bond_averages", lambda t: bond_averages(np.ones((3, 3, 3)), "fcc"), "crystal", "'fcc'", "Crystal"),
    ("swaps.SiteTable", lambda t: SiteTable((3, 3), FLAT.shells, FLAT.table), "shells", r"\(27, 12\)", r"\(9, z\)"),
    ("swaps.SiteTable", lambda t: SiteTable((3, 3, 3), 3, FLAT.table), "shells", "3", "list"),
    ("swaps.SiteTable", lambda t: SiteTable((2,), [np.array([[1], [1]])], np.zeros((2, 2))), "shells", r"\(2, 1\)", "neighbour of its neighbours"),
    ("swaps.SiteTable", lambda t: SiteTable((3, 3, 3), FLAT.shells, np.zeros((2, 12))), "table", r"\(2, 12\)", r"\(2, 13\)"),
    ("swaps.SiteTable", lambda t: SiteTable((3, 3, 3), FLAT.shells, np.full((2, 13), np.nan)), "table", "nan", "finite"),
    ("swaps.SiteTable", lambda t: FLAT.energy(np.zeros((3, 3, 3))), "x", "0", "-1 or [+]1"),
    *rows_of("swaps.sample_swaps", lambda t, v: swapped(second=v), "second", ((0, "0"), (27, "27"), (1.5, "1.5"), (True, "True")), "whole number|from 1 to 26"),
    *rows_of("swaps.sample_swaps", lambda t, v: swapped(beta=v), "inverse temperature|beta", ((-1.0, "-1.0"), (math.nan, "nan")), ">= 0|finite"),
    *rows_of("swaps.sample_swaps", lambda t, v: swapped(measure=v), "measure", ((3, "3"), ({"a b": len}, "a b"), ({"a": 3}, "3"), ({"config": len}, "config")), "dictionary"),
    ("swaps.sample_swaps", lambda t: swapped(measure={"a": lambda y: y}), "measure", r"4, 3, 3, 3", "finite"),
    ("swaps.sample_swaps", lambda t: swapped(measure={"energy": lambda y: y.sum((1, 2, 3))}), "measure", "energy", "another name"),
    ("swaps.sample_swaps", lambda t: swapped(table="table"), "table", "'table'", "SiteTable"),
    ("swaps.sample_swaps", lambda t: swapped(model=BinaryAlloy((3, 3, 3)), table=FLAT), "table", "SiteTable", "same law"),
    ("swaps.sample_swaps", lambda t: swapped(burn_in=-1), "burn_in", "-1", ">= 0"),
    ("swaps.sample_swaps", lambda t: swapped(seed=-1), "seed", "-1", ">= 0"),
    ("swaps.sample_swaps", lambda t: swapped(model="alloy"), "model", "'alloy'", "shape"),
    ("alloy_gp.alloy_forms", lambda t: alloy_forms(np.ones((2, 3)), np.array([[0, 1]])), "permutations", r"\[0, 1\]", r"\(k, 3\)"),
    ("alloy_gp.alloy_forms", lambda t: alloy_forms(np.zeros((2, 3)), np.array([[0, 1, 2]])), "x", "0", "-1 or [+]1"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP("fcc"), "crystal", "'fcc'", "Crystal"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, shells=0), "shells", "0", ">= 1"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, permutations=[[0, 0]]), "permutations", "0, 0", "permutation of 0 to 26"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, permutations=np.empty((0, 27), int)), "permutations", r"\[\]", "k >= 1"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, permutations=symmetries(HERE)[:5]), "permutations", r"\(5, 27\)", "group"),
    ("alloy_gp.alloy_forms", lambda t: alloy_forms(np.ones((0, 3, 3, 3)), symmetries(HERE)), "x", r"\(0, 3, 3, 3\)", "n >= 1"),
    ("crystals.bond_averages", lambda t: bond_averages(np.ones((1, 3, 3, 3)), HERE, [np.array([[1, 2]])]), "shells", r"\(1, 2\)", r"\(27, z\)"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, ("Cu", "Foo"), 4.5), "species", "'Foo'", "chemical symbol"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, **SIX, angular=[(1.0, 1.0, 3.0)]), "angular", "3.0", "1 or -1"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, nuggets=()), "nuggets", r"\(\)", "sequence"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, draws=1), "draws", "1", ">= 2"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE, seed=-1), "seed", "-1", ">= 0"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE).predict(np.ones((1, 3, 3, 3))), "process", "not fitted", "fit"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE).fit(np.ones((9, 2, 2)), np.zeros((9, 1))), "x", r"\(9, 2, 2\)", r"\(n, 3, 3, 3\)"),
    ("alloy_gp.AlloyGP", lambda t: AlloyGP(HERE).fit(np.ones((9, 3, 3, 3)), np.zeros((9, 1))), "x", "1 distinct", "at least 5"),
    ("alloy_gp.alloy_features", lambda t: alloy_features(np.ones((1, 3, 3, 3)), "fcc"), "crystal", "'fcc'", "Crystal"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet("fcc"), "crystal", "'fcc'", "Crystal"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet({"cell": 1}), "crystal", "cell", "Crystal"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, shells=0), "shells", "0", "at least 1"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, hidden=3), "hidden", "3", "sequence"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, linear=1), "linear", "1", "True or False"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, outputs=0), "outputs", "0", ">= 1"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, seed=-1), "seed", "-1", ">= 0"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, values="real"), "values", "'real'", "'spins'"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE, functions={"kind": 1}), "functions", "kind", "species"),
    ("atoms.AtomicEnergyNet", lambda t: AtomicEnergyNet(HERE).features(np.ones((1, 2, 2, 2))), "x", r"\(1, 2, 2, 2\)", r"\(n, 3, 3, 3\)"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions("fcc", **SIX), "crystal", "'fcc'", "Crystal"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, ("Cu", "Cu"), 4.5), "species", "'Cu'", "different"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, ("Cu", "Au"), 0.0), "reach", "0.0", "> 0"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, **SIX, radial=[(1.0,)]), "radial", "1.0", "2 numbers"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, **SIX, angular=3), "angular", "3", "3 numbers"),
    ("atoms.SymmetryFunctions", lambda t: SymmetryFunctions(HERE, **SIX, radial=()), "radial", r"\(\)", "at least one"),
    ("atoms.site_table", lambda t: site_table(3), "surrogate", "3", "AtomicEnergyNet"),
    ("atoms.site_table", lambda t: site_table(LastLayer(AtomicEnergyNet(HERE))), "surrogate", "LastLayer", "fitted"),
    ("atoms.site_table", lambda t: site_table(AtomicEnergyNet(HERE, outputs=2)), "surrogate", "2", "one"),
]


@pytest.mark.parametrize("k", range(len(REFUSED)), ids=row_name(REFUSED))
def test_bad_calls_are_refused(k):
    assert_refused(REFUSED[k][1], None, *REFUSED[k][2:])


def test_the_table_of_bad_calls_is_complete():
    assert_complete([alloy_gp, atoms, crystals, swaps], REFUSED, {})


def test_the_study_of_copper_and_gold_knows_its_truth():
    "Its table is ASE's potential, in order as at random; the results are those of its settings, and reach what was asked for."
    import json

    study = load_study("alloy.py")
    for composition, temperatures in study.COMPOSITIONS.items():
        law, exact = study.rigid_table(composition), study.exact_of(composition)
        cold = sample_swaps(law, 1 / (study.BOLTZMANN * temperatures[0]), round(64 * composition), draws=2, chains=2, burn_in=200, seed=1, progress=False)["config"].values.reshape(-1, 4, 4, 4)
        x = np.concatenate([cold, study.arrangements(composition, 3, seed=8)])
        assert (x.sum((1, 2, 3)) == 64 * (2 * composition - 1)).all() and np.abs(law.energy(x) - exact.energy(x)).max() < 1e-9
    told = json.loads(study.OUT.read_text())
    assert {(row["composition"], row["seed"]) for row in told["rows"]} == {(c, s) for c in study.COMPOSITIONS for s in range(study.SEEDS)}
    assert all(row["rmse"]["ours"] <= row["rmse"]["icet"] for row in told["rows"])


def test_biases_by_weights_are_those_of_two_chains():
    study = load_study("alloy.py")
    composition, temperature = 0.5, 650
    beta, law = 1 / (study.BOLTZMANN * temperature), study.rigid_table(composition)
    other = SiteTable(law.shape, law.shells, law.table + 0.002 * np.random.default_rng(0).normal(size=law.table.shape))
    told = dict(draws=300, chains=16, burn_in=200, thin=8, measure=study.measured(composition), progress=False)
    here, there = (sample_swaps(one, beta, 32, seed=k, **told) for k, one in enumerate((law, other)))
    bias, error, _ = study.biases(here, other.energy(here["config"].values), beta)
    for k, name in enumerate(("energy", "pairs1", "pairs2")):
        a, b = (run[name].values.mean(1) for run in (here, there))
        apart = b.mean() - a.mean()
        assert abs(apart - bias[k]) < 5 * np.sqrt(a.var(ddof=1) / 16 + b.var(ddof=1) / 16) and error[k] < np.sqrt(a.var(ddof=1) / 16)


@pytest.mark.parametrize("program", ["oxide_labels.py", "alloy.py"])
def test_programs_of_the_studies_start(program):
    "As a user starts them: their folder holds a coverage.py, which numba takes for the package of that name."
    import subprocess
    import sys
    from pathlib import Path

    file = Path(__file__).resolve().parents[1] / "studies" / program
    done = subprocess.run([sys.executable, str(file), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--workers" in done.stdout, done.stderr[-300:]
