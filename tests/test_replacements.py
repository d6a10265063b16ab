"""Learned samplers, observables and simulations: intervals that hold the truth as often as they say, and refusals by name.

The truth of samplers and observables is a sum over all 65536 states of a 4x4 lattice; that of simulations are long runs that were never
learned from. Coverages are counted over fresh ensembles and probes; intervals that forget an error are seen to fail the same count.
"""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from common import assert_complete, assert_refused, row_name
from scipy import signal, stats

from uqphys import replacements
from uqphys.autoregressive import AutoregressiveNet
from uqphys.bias import Approximation, predict_bias
from uqphys.couplings import COUPLINGS, OUTPUTS, CouplingNet, Prediction, coordinates, table_observables, train_couplings
from uqphys.exact import all_states
from uqphys.exact_fields import exact_field
from uqphys.flows import CheckerboardFlow
from uqphys.generating import train_generator
from uqphys.models import Ising, Phi4, spin_observables
from uqphys.predictive import Predictive
from uqphys.replacements import FlipSymmetrised, GeneratorEnergy, LearnedObservable, LearnedSampler, LearnedSimulation
from uqphys.sampling import sample

STATES, BETA = np.concatenate(list(all_states((4, 4)))), 0.33
M = STATES.mean((1, 2))


class ThirdNeighbours:
    "An Ising model with a coupling that no sum of the regression knows."
    shape, values, flip_symmetric, lattice_symmetric = (4, 4), "spins", True, True

    def energy(self, x):
        y = np.asarray(x, dtype=float)
        return Ising((4, 4), J2=0.1, K=0.1).energy(y) - 0.1 * sum((y * np.roll(y, 2, a)).sum((-2, -1)) for a in (-2, -1))

    def observables(self, x):
        return spin_observables(np.asarray(x), self.energy(x), 2)


TRUTH = ThirdNeighbours()
ENERGY = TRUTH.energy(STATES)
LAW = np.exp(-BETA * (ENERGY - ENERGY.min()))
LAW /= LAW.sum()
LN_Z = float(np.log(np.exp(-BETA * (ENERGY - ENERGY.min())).sum()) - BETA * ENERGY.min())


def known(law_q):
    "Exact values and exact biases of a generator's law over all states, by plain sums."
    averages = lambda p: {"energy": p @ ENERGY / 16, "abs_m": p @ abs(M), "m2": p @ M**2, "m": p @ M}
    found = []
    for p in (averages(law_q), averages(LAW)):
        found.append(p | {"susceptibility": BETA * 16 * (p["m2"] - p["abs_m"] ** 2)})
    q, p = found
    q["free_energy"], p["free_energy"] = (law_q @ (ENERGY + np.log(law_q) / BETA)) / 16, -LN_Z / BETA / 16
    return pd.DataFrame({"exact": p, "exact_bias": pd.Series(q) - pd.Series(p)})


def hot_network(seed, beta=0.28, steps=100, **options):
    "A generator whose training ended too hot."
    network = AutoregressiveNet((4, 4), seed=seed, **options)
    train_generator(network, TRUTH, beta, seed=seed, steps=steps, samples=200, progress=False)
    return network


@pytest.fixture(scope="module")
def samplers():
    found = [LearnedSampler(TRUTH, hot_network(seed, hot), BETA) for seed, hot in ((0, 0.27), (1, 0.28), (2, 0.29))]
    return [(s, known(np.exp(-BETA * s.energy(STATES)))) for s in found]


NAMES = ["energy", "abs_m", "m2", "susceptibility", "free_energy"]


def binomial(low, high, n):
    "The claim, widened by 2.5 standard deviations of a count of n."
    return low - 2.5 * np.sqrt(low * (1 - low) / n), high + 2.5 * np.sqrt(high * (1 - high) / n)


def test_the_bias_of_a_sampler_is_predicted_and_removed(samplers):
    inside, ratio, n = [], [], 60
    for k, (sampler, answer) in enumerate(samplers):
        tables = [predict_bias(sampler, sampler.sample(1000, seed=1000 * k + r), NAMES, probes=100, seed=r).table for r in range(n)]
        bias = answer.loc[NAMES, "exact_bias"]
        inside += [(t["low"] <= bias) & (bias <= t["high"]) for t in tables]
        ratio.append(np.sqrt(np.mean([(t["corrected"] - answer.loc[NAMES, "exact"]) ** 2 for t in tables], 0)) / abs(bias))
        assert np.mean([t["trust"] == "yes" for t in tables]) > 0.8
    coverage, (low, high) = np.mean(inside, 0), binomial(0.93, 0.97, 3 * n)
    assert (coverage >= low).all() and (coverage <= high).all(), coverage
    assert np.max(ratio) < 0.2, ratio


def test_an_interval_that_forgets_the_probes_or_the_draws_fails_the_same_count(samplers):
    sampler, answer = samplers[0]
    names, needs, hits = ["energy", "free_energy"], ["energy"], []
    for r in range(60):
        drawn = replacements._drawn(sampler, sampler.sample(1000, seed=r))
        found, _ = replacements._probe_sampler(sampler, drawn, names, needs, 100, r)
        off = abs(found.value[:2] - answer.loc[names, "exact_bias"])
        hits.append([off < 1.96 * np.sqrt(v[:2]) for v in (found.noise + found.doubt, found.noise, found.doubt)])
    both, no_probes, no_draws = np.mean(hits, 0)
    low = binomial(0.93, 0.97, 60)[0]
    assert (both >= low).all() and no_probes[1] < low and no_draws[0] < low, (both, no_probes, no_draws)


def test_the_free_energy_has_normal_scores(samplers):
    sampler, answer = samplers[1]
    tables = [predict_bias(sampler, sampler.sample(1000, seed=r), "free_energy", seed=r).table.loc["free_energy"] for r in range(40)]
    z = np.array([(t["corrected"] - answer.loc["free_energy", "exact"]) / t["error"] for t in tables])
    assert abs(z.mean()) < 4 / np.sqrt(40) and 0.6 < z.std() < 1.4


def test_a_network_without_an_error_has_no_bias():
    class Exact:
        "The exact law as a generator."
        config, values = {"shape": (4, 4)}, "spins"

        def sample(self, n, seed):
            k = np.random.default_rng(seed).choice(len(STATES), n, p=LAW)
            return STATES[k], np.log(LAW[k])

        def log_prob(self, x):
            return -BETA * TRUTH.energy(np.asarray(x)) - LN_Z

    sampler = LearnedSampler(TRUTH, Exact(), BETA)
    t = predict_bias(sampler, sampler.sample(500, seed=0), NAMES, seed=0).table
    assert (abs(t["predicted_bias"]) < 1e-9).all() and abs(t.loc["free_energy", "corrected"] * -BETA * 16 - LN_Z) < 1e-8


def test_draws_of_which_no_probe_tells_anything_are_counted():
    "At a low temperature a hundred probes see the ground states and single flips: about pairs of flips the regression guesses at random."
    law = np.exp(-0.6 * (Ising((4, 4)).energy(STATES) + 32))
    law /= law.sum()

    class Cold:
        config, values = {"shape": (4, 4)}, "spins"

        def sample(self, n, seed):
            k = np.random.default_rng(seed).choice(len(STATES), n, p=law)
            return STATES[k], np.log(law[k])

        def log_prob(self, x):
            return np.log(law[((np.asarray(x).reshape(len(x), -1) > 0) @ 2 ** np.arange(16))])

    sampler, said = LearnedSampler(TRUTH, Cold(), 0.6), []
    for r in range(30):
        ensemble = sampler.sample(500, seed=r)
        drawn, report = replacements._drawn(sampler, ensemble), predict_bias(sampler, ensemble, ["abs_m"], seed=r)
        features, at = np.column_stack([drawn.mixed, replacements._terms(drawn.x, "spins")]), np.random.default_rng([r, 1]).choice(2000, 100, replace=False)
        low, high = (np.linalg.matrix_rank(f - features[at].mean(0), tol=1e-6) for f in (features[at], features))
        said.append("no probe tells anything" in str(report))
        assert replacements._blind(features, at).any() == (low < high) >= said[-1]
        assert report.table.loc["abs_m", "trust"] != "yes" or not said[-1]
    assert 0 < sum(said) < 30


def test_a_narrow_network_is_not_trusted():
    narrow = LearnedSampler(TRUTH, hot_network(0, BETA, 30), BETA)
    reports = [predict_bias(narrow, narrow.sample(1000, seed=r), ["energy", "susceptibility"], seed=r).table for r in range(6)]
    assert np.mean([(t["trust"] == "no").all() for t in reports]) >= 0.8


def test_a_short_training_makes_wild_weights_and_a_hot_one_a_bias():
    "Three seeds of each: trained at the right temperature or too hot, for too short a time or long enough; sums over all states."
    found = {}
    for beta in (0.28, BETA):
        for steps in (30, 150):
            laws = [np.exp(-BETA * LearnedSampler(TRUTH, hot_network(seed, beta, steps), BETA).energy(STATES)) for seed in (0, 1, 2)]
            found[beta, steps] = [np.array(v) for v in zip(*[((LAW / q).max(), LAW**2 @ (1 / q), abs(q @ abs(M) - LAW @ abs(M))) for q in laws])]
    largest, square, bias = zip(*(found[key] for key in ((0.28, 30), (BETA, 30), (0.28, 150), (BETA, 150))))
    assert (largest[1] > 10 * largest[0]).all() and max(largest[2].max(), largest[3].max()) < 10 and (bias[1] < bias[0]).all()
    assert (1 / square[1] < 0.3).all() and (1 / square[0] > 0.4).all() and (1 / square[3] > 0.98).all()
    assert (bias[3] < 0.005).all() and (bias[2] > 0.1).all()


def test_a_forgotten_phase_is_doubted_and_mended():
    cold = 0.6
    law = np.exp(-cold * (ENERGY - ENERGY.min())) * (M > 0)
    up = STATES[np.random.default_rng(0).choice(len(STATES), 3000, p=law / law.sum())]
    network = AutoregressiveNet((4, 4), flip_symmetric=False, seed=0)
    train_generator(network, TRUTH, cold, seed=0, steps=400, samples=200, direction="forward", data=up, progress=False)
    one, both = (LearnedSampler(TRUTH, n, cold) for n in (network, FlipSymmetrised(network)))
    trust = predict_bias(one, one.sample(1000, seed=0), ["abs_m", "m", "free_energy"], seed=0).table["trust"].to_dict()
    assert trust["m"] == trust["free_energy"] == "no" and trust["abs_m"] == "yes"
    ensemble = both.sample(1000, seed=0)
    assert both.overlaps(ensemble)["flip"] > 1 - 1e-9 and abs(ensemble["m"].mean()) < 0.07
    exact = -(np.log(np.exp(-cold * (ENERGY - ENERGY.min())).sum()) - cold * ENERGY.min()) / cold / 16
    t = predict_bias(both, ensemble, "free_energy", seed=0).table.loc["free_energy"]
    assert abs(t["corrected"] - exact) < 4 * t["error"] and t["trust"] == "yes"


@pytest.mark.parametrize("make", [lambda a, b: a, lambda a, b: [a, b], lambda a, b: FlipSymmetrised(a)], ids=["one", "mixture", "symmetrised"])
def test_draws_have_the_law_that_is_claimed(make):
    model = Ising((2, 3), h=0.2)
    nets = [AutoregressiveNet((2, 3), flip_symmetric=False, seed=k) for k in (1, 2)]
    for k, net in enumerate(nets):
        train_generator(net, model, 0.5, seed=k, steps=30, samples=100, progress=False)
    sampler, states = LearnedSampler(model, make(*nets), 0.5), np.concatenate(list(all_states((2, 3))))
    q = np.exp(-0.5 * sampler.energy(states))
    assert abs(q.sum() - 1) < 1e-12
    p = []
    for seed in range(8):
        x = sampler.sample(1000, 4, seed=seed)["config"].values.reshape(-1, 6)
        counts = np.bincount((x > 0) @ (1 << np.arange(6)), minlength=64)
        order = (states.reshape(-1, 6) > 0) @ (1 << np.arange(6))
        expected = np.zeros(64)
        expected[order] = 4000 * q
        big = expected > 5
        p.append(stats.chisquare(np.r_[counts[big], counts[~big].sum()], np.r_[expected[big], expected[~big].sum()]).pvalue if (~big).any() else stats.chisquare(counts, expected).pvalue)
    assert min(p) > 1e-4 and stats.kstest(p, "uniform").pvalue > 1e-3


def test_a_seed_is_an_ensemble_and_a_report(samplers):
    sampler = samplers[0][0]
    a, b = sampler.sample(200, 2, seed=5), sampler.sample(200, 3, seed=5)
    assert np.array_equal(a["config"], b["config"][:2]) and not np.array_equal(a["config"], sampler.sample(200, 2, seed=6)["config"])
    one, two, other = (predict_bias(sampler, a, seed=s).table for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert not np.array_equal(one["predicted_bias"], other["predicted_bias"])


def test_every_exact_energy_is_counted(samplers):
    class Counted(ThirdNeighbours):
        asked = 0

        def energy(self, x):
            Counted.asked += len(np.asarray(x).reshape(-1, 16))
            return super().energy(x)

    sampler = LearnedSampler(Counted(), samplers[0][0].network, BETA)
    ensemble = sampler.sample(300, seed=0)
    report = predict_bias(sampler, ensemble, seed=0, probes=50)
    assert Counted.asked == 50 == report.table["exact_evaluations"].iloc[0]


def test_a_committee_of_generators_is_never_trusted_and_says_what_it_cannot_know():
    committee = LearnedSampler(TRUTH, [hot_network(k, steps=40) for k in range(3)], BETA)
    report = predict_bias(committee, committee.sample(500, seed=0), NAMES, evidence="posterior", seed=0)
    assert (report.table["trust"] == "with probes").all() and report.table["exact_evaluations"].eq(0).all()
    assert report.table["corrected"].isna().to_dict() == {n: n in ("energy", "free_energy") for n in NAMES}
    json.dumps(report.to_dict(), allow_nan=False)


def test_as_an_approximation_it_has_the_energy_of_its_law(samplers):
    sampler = samplers[0][0]
    approximation = Approximation(TRUTH, GeneratorEnergy(sampler))
    np.testing.assert_allclose(approximation.energy(STATES[:50]), sampler.energy(STATES[:50]), rtol=1e-12)
    t = predict_bias(approximation, sampler.sample(500, seed=0), ["abs_m"], seed=0).table.loc["abs_m"]
    assert t["low"] - (t["high"] - t["low"]) < samplers[0][1].loc["abs_m", "exact_bias"] < t["high"] + (t["high"] - t["low"])


def test_fields_agree_with_exact_averages():
    field = Phi4((2, 6), kappa=0.2, lam=0.5)
    flow = CheckerboardFlow((2, 6), layers=2, hidden=(8,), width=0.6, seed=0)
    train_generator(flow, field, 0.8, seed=0, steps=60, samples=200, progress=False)
    sampler, answer = LearnedSampler(field, flow, 1.0), exact_field(field)
    exact = pd.Series({**answer.averages, "free_energy": -answer.lnZ / 12})
    names = ["energy", "m2", "free_energy"]
    tables = [predict_bias(sampler, sampler.sample(1000, seed=r), names, seed=r).table for r in range(20)]
    z = np.array([(t["corrected"] - exact[names]) / t["error"] for t in tables])
    assert (abs(z.mean(0)) < 4 / np.sqrt(20)).all() and abs(z[:, [0, 2]]).max() < 4
    assert np.mean([t["trust"] == "yes" for t in tables], 0)[[0, 2]].min() >= 0.9
    assert all(t.loc["m2", "trust"] != "yes" for t in tables), "few draws with large weights carry it: scores beyond 4 are seen"
    assert all((abs(t["predicted_bias"]) > 3 * t["error"]).any() for t in tables)


class Linear:
    "A surrogate of one output: a|m| + b, with joint draws of b."

    def __init__(self, a, b, doubt=0.0):
        self.a, self.b, self.doubt = a, b, doubt

    def predict(self, x):
        mean = (self.a * abs(np.asarray(x, dtype=float).mean((-2, -1))) + self.b)[:, None]
        shift = self.doubt * np.random.default_rng(0).standard_normal((200, 1, 1))
        return Predictive(mean, np.full_like(mean, self.doubt**2), 0 * mean, mean + shift)


def wave(x):
    x = np.asarray(x, dtype=float)
    z = np.exp(0.5j * np.pi * np.arange(4))
    return (abs(x.sum(-2) @ z) ** 2 + abs(x.sum(-1) @ z) ** 2) / 32


def lazy_chain(seed, draws=1000, keep=0.9):
    "Exact draws that stay for ten steps on average: an autocorrelation time of 9.5."
    rng = np.random.default_rng([seed, 8])
    new = (rng.random((4, draws)) > keep).cumsum(1)
    picks = rng.choice(len(STATES), (4, draws + 1), p=LAW)
    return xr.Dataset({"config": (("chain", "draw", "x", "y"), STATES[np.take_along_axis(picks, new, 1)])})


def test_the_interval_of_a_learned_observable_knows_that_draws_are_correlated():
    learned = LearnedObservable(wave, "F", Linear(-1.0, 1.5))
    bias, exact = LAW @ (learned.surrogate.predict(STATES).mean[:, 0] - wave(STATES)), LAW @ wave(STATES)
    n, inside, naive, value = 200, [], [], []
    for k in range(n):
        run = lazy_chain(k)
        t = predict_bias(learned, run, probes=300, seed=k).table.loc["F"]
        found = replacements._probe_observable(learned, run["config"].values, "spins", 300, k)[0]
        inside.append(t["low"] <= bias <= t["high"])
        value.append(abs(t["corrected"] - exact) < 1.96 * t["error"])
        naive.append(abs(found.value[0] - bias) < 1.96 * found.missed[0].std() / np.sqrt(300))
    low, high = binomial(0.93, 0.97, n)
    assert low <= np.mean(inside) <= high and low <= np.mean(value) <= high, (np.mean(inside), np.mean(value))
    assert np.mean(naive) < low - 0.1, "an interval that takes the probes for independent draws must fail"


def slow_series(rng, tau, draws, chains=4):
    "Normal series (chain, draw) with this autocorrelation time."
    keep = (2 * tau - 1) / (2 * tau + 1)
    noise = rng.standard_normal((chains, draws + int(20 * tau))) * np.sqrt(1 - keep**2)
    return signal.lfilter([1], [1, -keep], noise, axis=1)[:, -draws:]


WAVE = np.cos(0.5 * np.pi * np.arange(4)) / np.sqrt(8) * np.ones((4, 1))  # over a lattice of 4 x 4 sites, of length one


def slow_chain(rng, tau, draws):
    "Fields whose sites are fresh in each draw, but for one wave, which neither energy nor magnetisation shows; and its amplitude."
    x, slow = rng.standard_normal((4, draws, 4, 4)), slow_series(rng, tau, draws)
    x += (slow - (x * WAVE).sum((2, 3)))[..., None, None] * WAVE
    return xr.Dataset({"config": (("chain", "draw", "x", "y"), x)}), slow


class Fast:
    "A surrogate that knows all of what is measured but its slow part."
    exact = staticmethod(lambda x: 3.0 * x[:, 0, 1] + (x * WAVE).sum((1, 2)))

    def predict(self, x):
        mean = 3.0 * x[:, 0, 1, None]
        return Predictive(mean, 0 * mean, 0 * mean, mean[None])


@pytest.mark.parametrize("recorded, tau", [(True, 30), (False, 10)])
def test_a_part_that_is_slower_than_all_that_is_guessed_widens_the_interval(recorded, tau, monkeypatch):
    "What is missed moves slowly: with a series that was recorded, or with nothing that is known but at the probes."
    learned, n, inside, ignored = LearnedObservable(Fast.exact, "F", Fast()), 200, [], []
    for k in range(n):
        run, slow = slow_chain(np.random.default_rng([k, tau]), tau, 1000)
        run = run.assign(charge=(("chain", "draw"), slow)) if recorded else run
        t = predict_bias(learned, run, probes=600, seed=k).table.loc["F"]
        inside.append(abs(t["corrected"]) < 1.96 * t["error"])
        with monkeypatch.context() as forgets:
            forgets.setattr(replacements, "_missed_time", lambda *a: 0.5)
            forgets.setattr(replacements, "_slowest", lambda series: 0.5)
            t = predict_bias(learned, run, probes=600, seed=k).table.loc["F"]
        ignored.append(abs(t["corrected"]) < 1.96 * t["error"])
    low = binomial(0.93, 0.97, n)[0]
    assert np.mean(inside) >= low > np.mean(ignored) + 0.1, (np.mean(inside), np.mean(ignored))


def test_energy_and_magnetisation_are_among_the_series_that_may_be_slow():
    "Fields with a slow mean: what is missed is fast, but nobody can know that from few probes."
    rng = np.random.default_rng(1)
    x, asked = rng.standard_normal((4, 500, 4, 4)) + slow_series(rng, 30, 500)[..., None, None], []
    spy = lambda series: asked.append([float(np.std(s)) for s in series]) or 30.0
    learned, run = LearnedObservable(Fast.exact, "F", Fast()), xr.Dataset({"config": (("chain", "draw", "x", "y"), x)})
    before = predict_bias(learned, run, probes=20, seed=0).table.loc["F", "error"]
    assert replacements._slowest([x.mean((2, 3))]) > 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replacements, "_slowest", spy)
        patch.setattr(replacements, "_missed_time", lambda *a: 0.5)
        predict_bias(learned, run, probes=20, seed=0)
    assert np.isclose(asked[0][1], 16 * x.mean((2, 3)).std()) and len(asked[0]) == 9 and before > 0


def test_recorded_series_tell_of_slow_parts_too():
    rng = np.random.default_rng(0)
    run, _ = slow_chain(rng, 10, 500)
    slow = run.assign(tilt=(("chain", "draw"), slow_series(rng, 60, 500)), label=(("chain", "draw"), np.full((4, 500), "a")), hole=(("chain", "draw"), np.full((4, 500), np.nan)))
    learned = LearnedObservable(Fast.exact, "F", Fast())
    errors = [predict_bias(learned, e, probes=100, seed=0).table.loc["F", "error"] for e in (run, slow)]
    assert errors[1] > 1.2 * errors[0]


def test_measurements_are_counted_once_and_the_truth_is_kept_whatever_the_surrogate():
    asked = []
    learned = LearnedObservable(lambda x: asked.append(len(x)) or wave(x), "F", Linear(100.0, -7.0))
    report = predict_bias(learned, lazy_chain(1, 3000), probes=200, seed=0)
    t = report.table.loc["F"]
    assert sum(asked) == t["exact_evaluations"] < 200
    assert abs(t["corrected"] - LAW @ wave(STATES)) < 4 * t["error"]


def test_the_posterior_of_an_observable_is_spread_over_the_average():
    run = lazy_chain(2)
    t = predict_bias(LearnedObservable(wave, "F", Linear(-1.0, 1.5, doubt=0.3)), run, evidence="posterior", seed=0).table.loc["F"]
    assert 0.8 * 0.6 < (t["high"] - t["low"]) / 2 < 1.3 * 0.6 and t["exact_evaluations"] == 0 and t["trust"] == "yes"
    unsure = predict_bias(LearnedObservable(wave, "F", Linear(-1.0, 1.5)), run, evidence="posterior", seed=0)
    assert unsure.table.loc["F", "trust"] == "with probes" and "offers no uncertainty" in unsure.verdicts["F"]


STUDY = Path(__file__).parents[1] / "studies" / "couplings.npz"


@pytest.fixture(scope="module")
def simulation():
    with np.load(STUDY, allow_pickle=False) as file:
        learn, judge = (pd.DataFrame(file[name], columns=file["columns"], dtype=float) for name in ("learn", "judge"))
    net, place = CouplingNet(seed=0), {tuple(row): k for k, row in enumerate(judge[list(COUPLINGS)].to_numpy())}
    train_couplings(net, learn[:300], seed=0, epochs=150, progress=False)
    simulate = lambda x: table_observables(judge.iloc[[place[tuple(row)] for row in x]])
    return LearnedSimulation(simulate, net, inputs=coordinates), judge[list(COUPLINGS)].to_numpy(), table_observables(judge)


def test_couplings_that_were_never_run_are_corrected_with_intervals_that_hold(simulation):
    learned, table, runs = simulation
    names, inside, before, after, z = ["abs_m", "specific_heat", "binder"], [], [], [], []
    value, error = learned.surrogate.predict(table)
    for seed in range(8):
        report = predict_bias(learned, table, names, probes=100, seed=seed)
        for name in names:
            k, r = OUTPUTS.index(name), report.rows.loc[name]
            rest = ~r["probed"].to_numpy()
            off = (r["corrected"] - runs.value[:, k])[rest]
            inside.append((abs(off) < 1.96 * np.hypot(r["error"], runs.error[:, k])[rest]).mean())
            unit = error[rest, k]
            before.append(np.mean(((r["surrogate"] - runs.value[:, k])[rest] / unit) ** 2)), after.append(np.mean((off / unit) ** 2))
            t = report.table.loc[name]
            z.append((t["predicted_bias"] - (value - runs.value)[:, k].mean()) / ((t["high"] - t["low"]) / 3.92))
    assert 0.92 < np.mean(inside) < 0.98, np.mean(inside)
    assert np.mean(after) < 0.95 * np.mean(before)
    assert abs(np.array(z)).max() < 4 and np.sqrt(np.mean(np.square(z))) < 1.5


def test_runs_that_were_made_are_the_answer(simulation):
    learned, table, runs = simulation
    r = predict_bias(learned, table, "abs_m", probes=40, seed=1).rows.loc["abs_m"]
    at = r["probed"].to_numpy()
    assert at.sum() == 40 and np.allclose(r["corrected"][at], runs.value[at, 1]) and (r["error"][at] <= runs.error[at, 1] * 1.0001).all()


def test_the_monte_carlo_errors_of_the_runs_enter():
    "A perfect network and very noisy runs: the scatter is all theirs, and stays in the interval even if every row is run."
    x, rng = np.random.default_rng(0).random((60, 2)), np.random.default_rng(1)
    exact = x.sum(1, keepdims=True)
    noisy = lambda y: Prediction(y.sum(1, keepdims=True) + 0.5 * rng.standard_normal((len(y), 1)), np.full((len(y), 1), 0.5))

    class Perfect:
        def predict(self, y):
            return Prediction(y.sum(1, keepdims=True), np.full((len(y), 1), 0.1))

    scores = []
    for seed in range(30):
        t = predict_bias(LearnedSimulation(noisy, Perfect(), ["sum"]), x, probes=60, seed=seed).table.loc["sum"]
        scores.append(t["predicted_bias"] / ((t["high"] - t["low"]) / 3.92))
    assert 0.7 < np.std(scores) < 1.3 and abs(np.mean(scores)) < 4 / np.sqrt(30) and len(exact) == 60


def test_an_interrupted_run_leaves_everything_as_it_was(simulation):
    learned, table, _ = simulation

    def stopped(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_bias(LearnedSimulation(stopped, learned.surrogate, inputs=coordinates), table, seed=0)
    json.dumps(predict_bias(learned, table, "abs_m", evidence="posterior", seed=0).to_dict(), allow_nan=False)


class Things:
    "What bad calls are made with."
    network = AutoregressiveNet((4, 4), seed=3)
    sampler = LearnedSampler(Ising((4, 4)), network, 0.4)
    ensemble = sampler.sample(100, 2, seed=0)
    chain = lazy_chain(0, 50)
    observable = LearnedObservable(wave, "F", Linear(1.0, 0.0))
    x = np.random.default_rng(0).random((30, 2))
    pair = staticmethod(lambda x: (np.ones((len(x), 1)), np.ones((len(x), 1))))

    class Net:
        def predict(self, x):
            return np.ones((len(x), 1)), np.ones((len(x), 1))

    simulation = LearnedSimulation(pair, Net(), ["one"])


def with_energy(values):
    "A model whose energy is one value too many or not finite."
    class Broken(ThirdNeighbours):
        def energy(self, x):
            return values(np.asarray(x))
    return Broken()


def broken(kind):
    network = Things.network
    sampler = LearnedSampler(with_energy(kind), network, 0.4)
    return predict_bias(sampler, Things.ensemble, ["abs_m"], seed=0)


S, O, L = "replacements.LearnedSampler", "replacements.LearnedObservable", "replacements.LearnedSimulation"
BAD = [
    (S, lambda t: LearnedSampler(Ising, t.network, 0.4), "model", "Ising", "shape"),
    (S, lambda t: LearnedSampler(Ising((4, 4)), t.network, True), "beta", "True", "number"),
    (S, lambda t: LearnedSampler(Ising((4, 4)), t.network, 0), "beta", "0", "> 0"),
    (S, lambda t: LearnedSampler(Ising((4, 4)), t.network, np.nan), "beta", "nan", "finite"),
    (S, lambda t: LearnedSampler(Ising((4, 4)), (), 0.4), "network", r"\(\)", "at least one"),
    (S, lambda t: LearnedSampler(Ising((4, 4)), AutoregressiveNet, 0.4), "network", "AutoregressiveNet", "sample"),
    (S, lambda t: LearnedSampler(Ising((4, 6)), t.network, 0.4), "network", r"\(4, 4\)", r"\(4, 6\)"),
    (S, lambda t: t.sampler.sample(0, seed=0), "n|draws", "0", ">= 1"),
    (S, lambda t: t.sampler.sample(10, True, seed=0), "chains", "True", "whole"),
    (S, lambda t: t.sampler.sample(10, seed=-1), "seed", "-1", "whole"),
    (S, lambda t: t.sampler.energy(np.zeros((4, 4))), "x", "0", "-1"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, "entropy", seed=0), "observables", "entropy", "free_energy"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, [], seed=0), "observables", r"\[\]", "at least one"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, probes=5, seed=0), "probes", "5", ">= 20"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, probes=201, seed=0), "probes", "201", "200"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, probes=np.ones((30, 4, 4)), seed=0), "probes", r"\(30, 4, 4\)", "number"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, evidence="chain", seed=0), "evidence", "chain", "probe"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, evidence="posterior", seed=0), "evidence", "1 generator", "at least 3"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, estimator="cumulant2", seed=0), "estimator", "cumulant2", "reweighting"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, choice="spanning", seed=0), "choice", "spanning", "random"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, choice=None, seed=0), "choice", "None", "random"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, estimator=np.array(["a", "b"]), seed=0), "estimator", "a", "reweighting"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble, seed=1.5), "seed", "1.5", "whole"),
    (S, lambda t: predict_bias(t.sampler, 3, seed=0), "ensemble", "int", "Dataset"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble.assign_attrs(method="metropolis"), seed=0), "ensemble", "metropolis", "draws of this"),
    (S, lambda t: predict_bias(t.sampler, t.ensemble.assign_attrs(beta=0.5), seed=0), "ensemble", "0.5", "0.4"),
    (S, lambda t: predict_bias(LearnedSampler(Ising((4, 4)), AutoregressiveNet((4, 4), seed=9), 0.4), t.ensemble, seed=0), "ensemble", "energies", "last training"),
    (S, lambda t: broken(lambda x: np.full(len(x), np.nan)), "exact energy", "nan", "finite"),
    (S, lambda t: broken(lambda x: np.zeros((len(x), 2))), "exact energy", r"\(100, 2\)", "one finite"),
    ("replacements.FlipSymmetrised", lambda t: FlipSymmetrised(3), "network", "3", "sample"),
    ("replacements.GeneratorEnergy", lambda t: GeneratorEnergy(t.network), "sampler", "AutoregressiveNet", "LearnedSampler"),
    (O, lambda t: LearnedObservable(wave, "", t.observable.surrogate), "name", "''", "text"),
    (O, lambda t: LearnedObservable(None, "F", t.observable.surrogate), "exact", "None", "function"),
    (O, lambda t: LearnedObservable(wave, "F", Linear), "surrogate", "Linear", "predict"),
    (O, lambda t: predict_bias(LearnedObservable(Ising((4, 4)), "F", t.observable.surrogate), t.chain, seed=0), "name", "F", "abs_m"),
    (O, lambda t: predict_bias(LearnedObservable(lambda x: wave(x) * np.nan, "F", t.observable.surrogate), t.chain, seed=0), "F", "nan", "finite"),
    (O, lambda t: predict_bias(LearnedObservable(wave, "F", t.simulation.surrogate), t.chain, seed=0), "surrogate", "Net", "Predictive"),
    (O, lambda t: predict_bias(t.observable, t.chain, "G", seed=0), "observables", "G", "F"),
    (O, lambda t: predict_bias(t.observable, t.chain.drop_vars("config"), seed=0), "ensemble", "config", "keep"),
    (O, lambda t: predict_bias(t.observable, t.chain, probes=10**4, seed=0), "probes", "10000", "200"),
    (O, lambda t: predict_bias(t.observable, t.chain, probes=True, seed=0), "probes", "True", "whole"),
    (O, lambda t: predict_bias(t.observable, t.chain, choice="nonsense", seed=0), "choice", "nonsense", "random"),
    (O, lambda t: predict_bias(t.observable, t.chain.isel(draw=slice(0, 5)), probes=20, seed=0), "ensemble", "5", "at least 10"),
    (L, lambda t: LearnedSimulation(1, t.simulation.surrogate), "simulate", "1", "function"),
    (L, lambda t: LearnedSimulation(t.pair, t.Net), "surrogate", "Net", "predict"),
    (L, lambda t: LearnedSimulation(t.pair, t.simulation.surrogate, "one"), "names", "one", "each column"),
    (L, lambda t: LearnedSimulation(t.pair, t.simulation.surrogate, ["a", "a"]), "names", "a", "each once"),
    (L, lambda t: LearnedSimulation(t.pair, t.simulation.surrogate, ["one"], 5), "inputs", "5", "function"),
    (L, lambda t: predict_bias(t.simulation, np.ones(4), seed=0), "ensemble", r"\(4,\)", "table"),
    (L, lambda t: predict_bias(t.simulation, np.ma.masked_array(t.x, t.x > 0.9), seed=0), "ensemble", ".", "finite"),
    (L, lambda t: predict_bias(t.simulation, t.x * np.nan, seed=0), "ensemble", "nan", "finite"),
    (L, lambda t: predict_bias(t.simulation, t.x, probes=31, seed=0), "probes", "31", "30"),
    (L, lambda t: predict_bias(t.simulation, t.x, probes=20, choice="active", seed=0), "choice", "active", "random"),
    (L, lambda t: predict_bias(t.simulation, t.x, "two", probes=20, seed=0), "observables", "two", "one"),
    (L, lambda t: predict_bias(LearnedSimulation(lambda x: np.ones((len(x), 1)), t.simulation.surrogate, ["one"]), t.x, probes=20, seed=0), "simulate", "ndarray", "standard errors"),
    (L, lambda t: predict_bias(LearnedSimulation(lambda x: (np.ones((len(x), 1)), -np.ones((len(x), 1))), t.simulation.surrogate, ["one"]), t.x, probes=20, seed=0), "one", "-1", ">= 0"),
    (L, lambda t: predict_bias(LearnedSimulation(lambda x: (np.full((len(x), 1), np.nan), np.ones((len(x), 1))), t.simulation.surrogate, ["one"]), t.x, probes=20, seed=0), "simulate", "nan", "finite"),
    (L, lambda t: predict_bias(LearnedSimulation(t.pair, t.simulation.surrogate, ["one", "two"]), t.x, probes=20, seed=0), "surrogate", r"\(30, 1\)", r"\(30, 2\)"),
    (L, lambda t: predict_bias(LearnedSimulation(t.pair, t.simulation.surrogate, ["one"], lambda x: x[:3]), t.x, probes=20, seed=0), "inputs", r"\(3, 2\)", r"\(30, k\)"),
]


@pytest.mark.parametrize("follows", [0.0, 0.5, 1.0])  # how closely the process goes through the runs: not at all, or exactly
def test_the_average_over_a_table_is_as_wrong_as_it_says_where_many_rows_are_run(follows):
    rng, z, n, m = np.random.default_rng(7), [], 60, 30
    for _ in range(2000):
        residual, scale = rng.standard_normal(n) + 0.3, rng.uniform(0.5, 2, n)  # neighbours know nothing of each other
        at, noise = rng.choice(n, m, replace=False), 0.2 * scale
        run = -scale * residual + noise * rng.standard_normal(n)
        mean = np.zeros(n)
        mean[at] = -follows * (run / scale)[at]
        process = replacements._Residual(mean, np.ones(n), -(run / scale)[at], np.zeros(m))
        found = replacements._table_average(np.zeros(n), process, scale, at, run[at], noise[at])
        z.append((found.value[0] - (scale * residual).mean()) / np.sqrt(found.doubt[0]))
    assert abs(np.mean(z)) < 4 / np.sqrt(2000) and 0.93 < np.std(z) < 1.03, (np.mean(z), np.std(z))  # Student's factor makes it 0.96


@pytest.mark.parametrize("row", range(len(BAD)), ids=row_name(BAD))
def test_bad_calls(row):
    _, call, argument, value, accepted = BAD[row]
    assert_refused(call, Things, argument, value, accepted)


def test_every_public_name_has_bad_calls():
    assert_complete([replacements], BAD, ["replacements.SimulationReport"])
