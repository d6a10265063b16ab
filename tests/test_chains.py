"""Chains that an approximation drives: the exact law is kept, whatever proposes; what is counted, and what is refused.

The strongest test needs no autocorrelation: many chains begin with draws of the exact law, take some proposals, and are then again
independent draws of that law. Whole histograms are compared, for many seeds, and the p-values must be uniform.
"""
import json
from pathlib import Path

import numpy as np
import pytest
from common import assert_complete, assert_refused, row_name
from scipy import stats

from uqphys import chains
from uqphys.analysis import gamma_error
from uqphys.architectures import LocalEnergyNet, pair_network
from uqphys.autoregressive import AutoregressiveNet
from uqphys.bias import Approximation, exact_bias
from uqphys.bnn import LastLayer
from uqphys.chains import FreshDraws, Subchain, evaluation_cost, exact_evidence, learn_pairs, metropolis_hastings, penalty_chain
from uqphys.exact import enumerate_states
from uqphys.exact_fields import exact_field
from uqphys.flows import CheckerboardFlow
from uqphys.learned_models import LearnedModel
from uqphys.models import Ising, Phi4
from uqphys.sampling import sample
from uqphys.training import labelled

TRUTH, BETA = Ising((3, 4), J2=0.1, K=0.2, h=0.05), 0.35
PAIRS = Ising((3, 4), J=0.8)


def all_states(shape):
    n = int(np.prod(shape))
    return (2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1).reshape(-1, *shape).astype(np.int8)


def exact_law(model, beta):
    x = all_states(model.shape)
    energies = model.energy(x)
    weights = np.exp(-beta * (energies - energies.min()))
    return x, energies, weights / weights.sum()


class SlowTable:
    "A law of spins of which nothing is known but its energy."
    shape, values = (3, 4), "spins"

    def __repr__(self):
        return "SlowTable()"

    def energy(self, x):
        return -0.6 * PAIRS.energy(x) / 0.8 + 0.3 * np.asarray(x, dtype=float)[..., 0, 0] * np.asarray(x)[..., 1, 2]


def fitted(features, n=40, seed=0, **options):
    return LastLayer(features, seed=seed, **options).fit(*labelled(TRUTH, BETA, n, seed=seed), progress=False)


PROPOSALS = {
    "table": lambda: Subchain(Ising((3, 4), J=0.5, K=-0.1, h=-0.1), 1),
    "no energy": lambda: Subchain(Ising((3, 4), J=0.0), 1),
    "hotter": lambda: Subchain(TRUTH, 2, beta=BETA / 2),
    "unknown energy": lambda: Subchain(SlowTable(), 1),
    "untrained network": lambda: Subchain(LearnedModel((3, 4), LocalEnergyNet(hidden=(6,), seed=4)), 1),
    "fitted pairs": lambda: Subchain(Approximation(TRUTH, fitted(pair_network())), 3),
    "wolff": lambda: Subchain(PAIRS, 2, "wolff"),
    "wolff in a field": lambda: Subchain(Ising((3, 4), J=0.8, h=0.1), 1, "wolff"),
    "swendsen-wang": lambda: Subchain(PAIRS, 1, "swendsen-wang"),
    "pairs drive a table": lambda: Subchain(Ising((3, 4), J=0.9, K=0.1), 4, Subchain(PAIRS, 1, "wolff")),
    "autoregressive": lambda: FreshDraws(AutoregressiveNet((3, 4), seed=1)),
    "in turns": lambda: [Subchain(PAIRS, 1, "wolff"), Subchain(Ising((3, 4), J=0.2), 1), FreshDraws(AutoregressiveNet((3, 4), seed=2))],
}


def p_value(truth, beta, proposal, seed, n=400, thin=4, law=None):
    "Of a histogram over twenty groups of states, ordered by energy and equally likely, after some proposals."
    x, energies, share = exact_law(law or truth, beta)
    order = np.lexsort((np.arange(len(x)), energies))
    group = np.empty(len(x), dtype=int)
    group[order] = np.minimum((np.cumsum(share[order]) * 20).astype(int), 19)
    start = x[np.random.default_rng([seed, 7]).choice(len(x), n, p=share)]
    run = metropolis_hastings(truth, beta, proposal, draws=1, chains=n, burn_in=0, thin=thin, start=start, seed=seed, progress=False)
    bits = (run["config"].values.reshape(n, -1) > 0).astype(int) @ (1 << np.arange(x[0].size))
    found = np.bincount(group[bits], minlength=20)
    expected = np.bincount(group, share, minlength=20) * n
    return stats.chisquare(found[expected > 0], expected[expected > 0]).pvalue


@pytest.mark.parametrize("name", PROPOSALS)
def test_the_exact_law_is_kept(name):
    "Eight seeds for each proposal; the least of eight p-values is below 1e-4 once in 1250 times."
    proposal = PROPOSALS[name]()
    p = np.array([p_value(TRUTH, BETA, proposal, seed) for seed in range(8)])
    assert p.min() > 1e-4 and stats.kstest(p, "uniform").pvalue > 1e-3


def test_p_values_of_all_proposals_are_uniform():
    p = np.array([p_value(TRUTH, BETA, make(), seed, n=200, thin=3) for seed in range(100, 103) for make in PROPOSALS.values()])
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_the_test_of_the_law_can_fail():
    "Eight per cent in the coupling, and every p-value is small once enough chains look."
    wrong = Ising((3, 4), J=1.08, J2=0.1, K=0.2, h=0.05)
    p = [p_value(wrong, BETA, Subchain(PAIRS, 3), seed, n=3000, thin=12, law=TRUTH) for seed in range(3)]
    assert max(p) < 1e-3


SMALL, HOT = Ising((3, 3), J2=0.1, K=0.2), 0.2


class SmallTable(SlowTable):
    shape = (3, 3)

    def energy(self, x):
        return 0.5 * SMALL.energy(x) + 0.3 * np.asarray(x, dtype=float)[..., 0, 0] * np.asarray(x)[..., 1, 2]


def small_pairs():
    "A fitted sum over pairs, on nine sites."
    return Approximation(SMALL, LastLayer(pair_network(), seed=0).fit(*labelled(SMALL, HOT, 40, seed=1), progress=False))


ARRIVE = {  # what proposes, and how many proposals it takes to forget any start
    "fitted pairs": (lambda: Subchain(small_pairs(), 4), 250),
    "untrained network": (lambda: Subchain(LearnedModel((3, 3), LocalEnergyNet(hidden=(8,), seed=3)), 1), 250),
    "unknown energy": (lambda: Subchain(SmallTable(), 1), 60),
    "no energy": (lambda: Subchain(Ising((3, 3), J=0.0), 1), 250),
    "the wrong sign": (lambda: Subchain(Ising((3, 3), J=-0.3), 1), 300),
    "a field": (lambda: Subchain(Ising((3, 3), h=0.2), 1), 250),
    "hotter": (lambda: Subchain(SMALL, 1, beta=HOT / 2), 250),
    "wolff": (lambda: Subchain(Ising((3, 3), J=0.7), 1, "wolff"), 50),
    "swendsen-wang": (lambda: Subchain(Ising((3, 3), J=1.1), 1, "swendsen-wang"), 50),
    "driven by pairs": (lambda: Subchain(small_pairs(), 3, Subchain(Ising((3, 3), J=0.7), 1, "wolff")), 30),
    "autoregressive": (lambda: FreshDraws(AutoregressiveNet((3, 3), seed=0)), 250),
    "in turns": (lambda: [Subchain(Ising((3, 3), J=0.7), 1, "wolff"), FreshDraws(AutoregressiveNet((3, 3), seed=1))], 100),
}


def half_the_energy(decide):
    "The rule, broken: the exact energy counts only half."
    def broken(self, *step):
        self.beta /= 2
        decide(self, *step)
        self.beta *= 2
    return broken


@pytest.mark.parametrize("name", ARRIVE)
def test_chains_arrive_from_wrong_starts_and_a_broken_rule_is_seen(name, monkeypatch):
    "Each chain from a start of its own: random spins, more of them up than down. Where they end are independent draws of the exact law, or of a wrong one."
    (make, steps), n, seed = ARRIVE[name], 400, list(ARRIVE).index(name) + 300
    x, energies, share = exact_law(SMALL, HOT)
    up = x.sum((1, 2)) > 0
    order, group = np.lexsort((energies, up)), np.empty(len(x), dtype=int)
    group[order] = np.unique((20 * np.cumsum(share[order]) - 1e-9).astype(int), return_inverse=True)[1]
    expected = n * np.bincount(group, share)
    p = lambda x: stats.chisquare(np.bincount(group[(x.reshape(n, -1) > 0) @ (1 << np.arange(9))], minlength=len(expected)), expected).pvalue
    start = x[up][np.random.default_rng(seed).integers(up.sum(), size=n)]
    ask = dict(draws=1, chains=n, burn_in=0, thin=steps, start=start, seed=seed, progress=False)
    right = metropolis_hastings(SMALL, HOT, make(), **ask)["config"].values
    monkeypatch.setattr(chains._Driven, "decide", half_the_energy(chains._Driven.decide))
    wrong = metropolis_hastings(SMALL, HOT, make(), **ask)["config"].values
    assert p(start) < 1e-10 and p(right) > 1e-3 and p(wrong) < 1e-10, (p(start), p(right), p(wrong))


def test_trajectories_of_a_polynomial_action_are_compiled_and_have_the_same_law(monkeypatch):
    "Against exact averages over four seeds, beside the road of any other force; and the compiled road asks for no force."
    exact, cheap = Phi4((2, 6), kappa=0.2, lam=0.5), dict(kappa=0.15, lam=0.2)
    known, z = exact_field(exact).averages, {}
    for kind in (Phi4, type("Derived", (Phi4,), {})):
        law, z[kind] = kind((2, 6), **cheap), []
        for seed in range(4):
            run = metropolis_hastings(exact, 1.0, Subchain(law, 3, "hmc", settings=dict(step_size=0.4, steps=5)), draws=100, chains=8, seed=seed, progress=False)
            for name in ("phi2", "m2"):
                e = gamma_error(run[name].values)
                z[kind].append((e.value - known[name]) / e.error)
    for scores in z.values():
        assert abs(np.mean(scores)) < 4 / np.sqrt(4) and np.abs(scores).max() < 4.5 and np.std(scores) < 2
    monkeypatch.setattr(Phi4, "force", lambda self, x: 1 / 0)
    walk = Subchain(Phi4((2, 6), **cheap), 2, "hmc", settings=dict(step_size=0.4, steps=5))
    two, four = (metropolis_hastings(exact, 1.0, walk, draws=20, chains=c, seed=1, progress=False) for c in (2, 4))
    np.testing.assert_array_equal(two["config"], four["config"][:2])


def test_a_compiled_trajectory_begins_where_the_chain_is():
    "With hardly any step the proposal is the configuration itself, in folded memory and out again, also in one and three dimensions."
    for shape in ((6,), (2, 6), (16, 4), (4, 4, 2)):
        generators = lambda: [np.random.default_rng([5, k]) for k in range(3)]
        walker = chains._walker(Subchain(Phi4(shape, kappa=0.1, lam=0.1), 1, "hmc", settings=dict(step_size=1e-7, steps=2)), 1.0, generators(), generators(), False)
        x = np.random.default_rng(0).standard_normal((3, *shape))
        np.testing.assert_allclose(walker.propose(x)[0], x, atol=1e-5)
        assert walker.start.shape == x.shape and not np.array_equal(walker.propose(x)[0], x)


@pytest.mark.parametrize("name", ["hmc", "flow"])
def test_the_law_of_a_field_is_kept(name):
    "A free field, whose quadratic form is chi-squared; proposed by an interacting one, or by a flow that has learned nothing."
    exact = Phi4((4, 4), kappa=0.15, lam=0.0)
    n_sites, unit = 16, np.eye(16).reshape(16, 4, 4)
    single = exact.energy(unit)
    A = exact.energy(unit[:, None] + unit[None]) - single[:, None] - single[None]
    assert np.linalg.eigvalsh(A).min() > 0
    proposal = Subchain(Phi4((4, 4), kappa=0.1, lam=0.1), 1, "hmc") if name == "hmc" else FreshDraws(CheckerboardFlow((4, 4), layers=2, width=0.7, seed=1))
    p = []
    for seed in range(8):
        noise = np.random.default_rng([seed, 9]).standard_normal((400, n_sites))
        start = np.linalg.solve(np.linalg.cholesky(A).T, noise.T).T.reshape(-1, 4, 4)
        run = metropolis_hastings(exact, 1.0, proposal, draws=1, chains=400, burn_in=0, thin=5, start=start, seed=seed, progress=False)
        x = run["config"].values.reshape(400, -1)
        assert 0.001 < run.attrs["acceptance"] < 1
        p.append(stats.kstest(np.einsum("ni,ij,nj->n", x, A, x), stats.chi2(n_sites).cdf).pvalue)
    assert min(p) > 1e-4 and stats.kstest(p, "uniform").pvalue > 1e-3


class Counted:
    "An exact law that counts how often it is asked."
    values = "spins"

    def __init__(self, model):
        self.model, self.shape, self.asked = model, model.shape, 0

    def energy(self, x):
        self.asked += int(np.prod(np.shape(x)[:-2]))
        return self.model.energy(x)


@pytest.mark.parametrize("name", ["table", "wolff", "pairs drive a table", "autoregressive", "in turns"])
def test_every_exact_energy_is_counted(name):
    counted = Counted(TRUTH)
    run = metropolis_hastings(counted, BETA, PROPOSALS[name](), draws=50, chains=3, burn_in=7, seed=1, progress=False)
    assert counted.asked == run.attrs["exact_evaluations"] <= 3 * (1 + 57)
    cost = evaluation_cost(run)
    np.testing.assert_allclose(cost["evaluations"], 2 * cost["tau_int"] * run.attrs["moved"])


@pytest.mark.parametrize("name", ["table", "unknown energy", "swendsen-wang", "pairs drive a table", "autoregressive"])
def test_a_seed_is_a_run_and_more_chains_do_not_change_the_first(name):
    run = lambda chains, seed=3: metropolis_hastings(TRUTH, BETA, PROPOSALS[name](), draws=30, chains=chains, burn_in=5, seed=seed, progress=False)
    two, four = run(2), run(4)
    np.testing.assert_array_equal(two["config"], four["config"][:2])
    assert run(2).identical(two) and not np.array_equal(run(2, seed=4)["config"], two["config"])


def test_the_energies_are_those_of_the_exact_law():
    run = metropolis_hastings(TRUTH, BETA, PROPOSALS["table"](), draws=40, chains=3, thin=2, seed=0, progress=False)
    np.testing.assert_allclose(run["energy"], TRUTH.energy(run["config"].values) / 12)
    assert json.loads(run.attrs["settings"])[0]["moves"] == "single" and run.attrs["method"] == "metropolis-hastings"


def test_states_of_infinite_energy_are_never_reached():
    class Forbidden(Counted):
        def energy(self, x):
            return np.where(np.asarray(x)[..., 0, 0] > 0, np.inf, TRUTH.energy(x))

    for beta in (0.0, 0.35):
        start = -np.ones((3, 3, 4), dtype=np.int8)
        run = metropolis_hastings(Forbidden(TRUTH), beta, Subchain(PAIRS), draws=200, chains=3, burn_in=0, start=start, seed=0, progress=False)
        assert (run["config"].values[:, :, 0, 0] == -1).all() and np.isfinite(run["energy"]).all() and run.attrs["acceptance"] > 0.1
    with pytest.raises(ValueError, match="model.energy: inf where a chain begins"):
        metropolis_hastings(Forbidden(TRUTH), 0.3, Subchain(PAIRS), draws=2, chains=8, start=np.ones((8, 3, 4)), seed=0, progress=False)


def test_pairs_are_learned():
    "A pair law is found to the last digit; the plaquette model's coupling is that of the literature (1.1064 at T = 2.493)."
    learned = learn_pairs(Ising((6, 6), J=0.9, J2=-0.15), 0.4, examples=50, second=True, seed=0)
    assert abs(learned.model.J - 0.9) < 1e-9 and abs(learned.model.J2 + 0.15) < 1e-9 and learned.exact_evaluations == 150
    found = [learn_pairs(Ising((16, 16), K=0.2), 1 / 2.493, seed=seed).model.J for seed in range(5)]
    assert abs(np.mean(found) - 1.1064) < 0.02 and np.std(found) < 0.02
    np.testing.assert_allclose(learned.energies, Ising((6, 6), J=0.9, J2=-0.15).energy(learned.configurations))


@pytest.fixture(scope="module")
def unsure():
    "A last layer on four energies, which knows that it does not know."
    truth = Ising((4, 4), J2=0.1, K=0.2)
    few = LastLayer(LocalEnergyNet(hidden=(16,), seed=0), seed=0, epochs=0, noise="none").fit(*labelled(truth, 1 / 5.2, 4, seed=3), progress=False)
    return Approximation(truth, few), 1 / 2.6


def test_the_penalty_leaves_the_law_of_the_posterior_mean(unsure):
    "Mean over seeds against the enumeration of the posterior mean's law; without the penalty the chain is too hot."
    approximation, beta = unsure
    exact = enumerate_states(approximation, beta).averages
    z, hot = [], []
    for seed in range(8):
        for found, penalty in ((z, True), (hot, False)):
            run = penalty_chain(approximation, beta, penalty=penalty, proposal=Subchain(Ising((4, 4), J=0.8), 2), draws=1000, chains=4, burn_in=300, seed=seed, progress=False).ensemble
            e = gamma_error(run["energy"].values)
            found.append((e.value - exact["energy"]) / e.error)
    assert abs(np.mean(z)) < 4 / np.sqrt(8) and np.abs(z).max() < 4.5
    assert np.mean(hot) > 3


@pytest.mark.parametrize("tolerance", [0.3, 0.05])
def test_refitting_takes_the_bias_away(unsure, tolerance):
    "What is left obeys Cauchy and Schwarz: a doubt of beta times a difference moves an average by no more than doubt times its spread."
    approximation, beta = unsure
    exact, before = enumerate_states(approximation.exact, beta).averages, enumerate_states(approximation, beta).averages
    spread = np.sqrt(exact["m2"] - exact["abs_m"] ** 2)
    assert abs(before["abs_m"] - exact["abs_m"]) > 0.3 * spread
    for seed in range(3):
        found = penalty_chain(approximation, beta, tolerance=tolerance, draws=300, chains=4, burn_in=200, seed=seed, progress=False)
        after = enumerate_states(found.approximation, beta).averages
        assert abs(after["abs_m"] - exact["abs_m"]) < tolerance * spread
        bought = found.ensemble["bought"].values
        assert (np.diff(bought) >= 0).all() and bought[-1] == found.ensemble.attrs["exact_evaluations"] < 150
    assert enumerate_states(approximation, beta).averages == before
    again = penalty_chain(approximation, beta, tolerance=tolerance, draws=300, chains=4, burn_in=200, seed=2, progress=False)
    assert again.ensemble.identical(found.ensemble)


def test_refitting_does_not_teach_what_the_features_cannot_say(unsure):
    "A sum over pairs buys many energies, is no longer in doubt, and breaks the bound that holds for features which can express the truth."
    truth, beta, tolerance = unsure[0].exact, unsure[1], 0.05
    exact = enumerate_states(truth, beta).averages
    spread = np.sqrt(exact["m2"] - exact["abs_m"] ** 2)
    for n in (6, 20, 60):
        pairs = LastLayer(pair_network(), seed=0).fit(*labelled(truth, beta / 2, n, seed=1), progress=False)
        found = penalty_chain(Approximation(truth, pairs), beta, tolerance=tolerance, draws=300, chains=4, burn_in=200, seed=0, progress=False)
        after = enumerate_states(found.approximation, beta).averages
        assert abs(after["abs_m"] - exact["abs_m"]) > 1.5 * tolerance * spread and found.ensemble.attrs["exact_evaluations"] > 100


def test_evidence_of_exact_chains_covers_the_bias():
    "Thirty repetitions from new training data on: z-scores of the bias of four observables, and the share inside 95 %."
    truth, beta = Ising((4, 4), J2=0.1, K=0.2), 1 / 2.6
    z, inside, trusted = [], [], []
    for seed in range(30):
        surrogate = LastLayer(pair_network(), seed=seed).fit(*labelled(truth, beta, 60, seed=seed), progress=False)
        approximation = Approximation(truth, surrogate)
        ensemble = sample(approximation, beta, draws=500, chains=8, thin=8, burn_in=200, seed=seed + 50, progress=False)
        report = exact_evidence(approximation, ensemble, draws=500, seed=seed, progress=False).table
        known = exact_bias(approximation, beta)["exact_bias"]
        z.append((report["predicted_bias"] - known) / ((report["high"] - report["low"]) / 3.92))
        inside.append((report["low"] <= known) & (known <= report["high"]))
        trusted.append(report["trust"] == "yes")
    z = np.array(z)
    assert np.mean(inside) > 0.88 and np.mean(trusted) > 0.95 and np.abs(z).max() < 5
    assert stats.kstest(z[:, 1], "norm").pvalue > 1e-3 and (np.abs(z.mean(0)) < 4 / np.sqrt(30)).all()


def test_a_generator_that_has_learned_nothing_is_not_trusted():
    truth, beta = Ising((4, 4), J2=0.1, K=0.2), 1 / 2.6
    surrogate = LastLayer(pair_network(), seed=0).fit(*labelled(truth, beta, 60, seed=0), progress=False)
    approximation = Approximation(truth, surrogate)
    ensemble = sample(approximation, beta, draws=500, chains=8, thin=8, burn_in=200, seed=1, progress=False)
    report = exact_evidence(approximation, ensemble, proposal=FreshDraws(AutoregressiveNet((4, 4), seed=0)), draws=300, seed=0, progress=False)
    assert (report.table["trust"] == "no").all() and "; next: " in report.verdicts["energy"]


def test_the_study_of_self_learning():
    "As committed: L = 40 at the critical temperature, a memory ten times shorter than that of local updates, and the same averages."
    told = json.loads((Path(__file__).parents[1] / "studies" / "self_learning.json").read_text())
    last = told["rows"][-1]
    assert told["temperature"] == 2.493 and told["K"] == 0.2 and last["L"] == 40
    assert last["ratio_nested"] >= 10 and last["ratio_touched"] >= 10 and last["learning_evaluations"] == 600
    assert all(abs(row[z]) < 4 for row in told["rows"] for z in ("z_pairs", "z_nested"))


def of_one_more(names):
    "Evidence of exact chains on an ensemble to which somebody has added an observable of his own."
    pairs = Approximation(TRUTH, fitted(pair_network()))
    ensemble = sample(pairs, BETA, draws=40, chains=2, burn_in=10, seed=0, progress=False)
    return exact_evidence(pairs, ensemble.assign(charge=ensemble["m"] ** 2), names, draws=20, chains=2, seed=0, progress=False)


REFUSED = [
    ("chains.Subchain", lambda t: Subchain("net"), "model", "'net'", "shape"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, steps=0), "steps", "0", ">= 1"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, steps=1.5), "steps", "1.5", "whole number"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, moves="sweep"), "moves", "'sweep'", "'wolff'"),
    ("chains.Subchain", lambda t: Subchain(TRUTH, moves="wolff"), "moves", "K=0.2", "pairs|bonds"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, moves="hmc"), "moves", "'hmc'", "'single'"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, beta=-1.0), "beta", "-1.0", ">= 0"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, settings={"steps": 3}), "settings", "'steps'", "'hmc'"),
    ("chains.Subchain", lambda t: Subchain(PAIRS, moves=Subchain(Ising((4, 4)))), "moves", r"\(4, 4\)", r"\(3, 4\)"),
    ("chains.FreshDraws", lambda t: FreshDraws("flow"), "network", "'flow'", "log_prob"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, PAIRS, seed=0), "proposal", "Ising", "Subchain"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, [], seed=0), "proposal", r"\(\)", "Subchain"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings("x", BETA, Subchain(PAIRS), seed=0), "model", "'x'", "shape"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, float("nan"), Subchain(PAIRS), seed=0), "beta", "nan", ">= 0"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(Ising((4, 4))), seed=0), "proposal", r"\(4, 4\)", r"\(3, 4\)"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, FreshDraws(CheckerboardFlow((4, 4))), seed=0), "proposal", r"\(4, 4\)", r"\(3, 4\)"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), draws=0, seed=0), "draws", "0", ">= 1"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), chains=True, seed=0), "chains", "True", "whole number"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), burn_in=-1, seed=0), "burn_in", "-1", ">= 0"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), start=np.ones((2, 3, 4)), seed=0), "start", r"\(2, 3, 4\)", r"\(4, 3, 4\)"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), start=np.zeros((4, 3, 4)), seed=0), "start", "0", "-1|1"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), seed=-1), "seed", "-1", ">= 0"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), keep="all", seed=0), "keep", "'all'", "'observables'"),
    ("chains.metropolis_hastings", lambda t: metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), progress=1, seed=0), "progress", "1", "True"),
    ("chains.evaluation_cost", lambda t: evaluation_cost(3), "ensemble", "int", "metropolis_hastings"),
    ("chains.evaluation_cost", lambda t: evaluation_cost(t, ["entropy"]), "observables", "'entropy'", "abs_m"),
    ("chains.learn_pairs", lambda t: learn_pairs(Phi4((4, 4), 0.2, 0.1), 0.3, seed=0), "model", "Phi4", "spins"),
    ("chains.learn_pairs", lambda t: learn_pairs(TRUTH, 0.3, examples=3, seed=0), "examples", "3", ">= 10"),
    ("chains.learn_pairs", lambda t: learn_pairs(TRUTH, 0.3, rounds=0, seed=0), "rounds", "0", ">= 1"),
    ("chains.learn_pairs", lambda t: learn_pairs(TRUTH, 0.3, second="yes", seed=0), "second", "'yes'", "True"),
    ("chains.penalty_chain", lambda t: penalty_chain(TRUTH, 0.3, seed=0), "approximation", "Ising", "Approximation"),
    ("chains.exact_evidence", lambda t: of_one_more(["entropy"]), "observables", "'entropy'", "abs_m"),
    ("chains.exact_evidence", lambda t: of_one_more("charge"), "observables", "'charge'", "exact chain.*specific_heat"),
    ("chains.exact_evidence", lambda t: exact_evidence(TRUTH, t, seed=0), "approximation", "Ising", "Approximation"),
]


@pytest.fixture(scope="module")
def run():
    return metropolis_hastings(TRUTH, BETA, Subchain(PAIRS), draws=20, chains=2, seed=0, progress=False)


@pytest.mark.parametrize("k", range(len(REFUSED)), ids=row_name(REFUSED))
def test_bad_calls_are_refused(k, run):
    assert_refused(REFUSED[k][1], run, *REFUSED[k][2:])


def test_the_table_of_bad_calls_is_complete():
    assert_complete([chains], REFUSED, {"chains.PenaltyRun": "a result", "chains.SelfLearned": "a result"})


def test_bad_calls_of_a_penalty_chain(unsure):
    approximation, beta = unsure
    for call, argument, value, accepted in [
        (lambda t: penalty_chain(approximation, beta, tolerance=-1.0, seed=0), "tolerance", "-1.0", "> 0"),
        (lambda t: penalty_chain(approximation, beta, tolerance="much", seed=0), "tolerance", "'much'", "number"),
        (lambda t: penalty_chain(approximation, beta, penalty=2, seed=0), "penalty", "2", "True"),
        (lambda t: penalty_chain(approximation, beta, proposal="walk", seed=0), "proposal", "'walk'", "Subchain"),
        (lambda t: penalty_chain(approximation, beta, proposal=Subchain(PAIRS), seed=0), "proposal", r"\(3, 4\)", r"\(4, 4\)"),
        (lambda t: penalty_chain(approximation, beta, chains=0, seed=0), "chains", "0", ">= 1"),
    ]:
        assert_refused(call, None, argument, value, accepted)
