"""The report of a bias: probes chosen in four ways, the closed form of a last layer, two phases, verdicts and what they advise."""
from functools import cache

import numpy as np
import pytest
from scipy import stats

from uqphys.analysis import estimates
from uqphys.architectures import LocalEnergyNet
from uqphys.bias import (CHOICES, TRUST, Approximation, _averages, _bias_slopes, _doubts, _probe_evidence, _sums, choose_probes, exact_bias, find_valley,
                         last_layer_error, predict_bias, rich_enough, sort_draws, too_simple)
from uqphys.bnn import LastLayer
from uqphys.exact import all_states
from uqphys.lattice_gp import canonical_forms, distinct_rows, lattice_operations, pattern_labels
from uqphys.models import Ising, Phi4, pattern_index, random_spins
from uqphys.predictive import Predictive
from uqphys.sampling import sample
from uqphys.training import labelled

TRUTH, BETA = Ising((4, 4), J=1.0, J2=0.1, K=0.2), 1 / 2.6
NAMES = ["energy", "abs_m", "m2", "susceptibility"]


class Table:
    "A surrogate that is sure of another Ising model."

    def __init__(self, model):
        self.model, self.flip_symmetric, self.lattice_symmetric = model, model.flip_symmetric, True
        self.pattern_energies = model.pattern_energies

    def predict(self, x):
        mean = self.model.energy(x)[:, None]
        return Predictive(mean, 0 * mean, 0 * mean, draws=mean[None].repeat(2, 0))


@cache
def rich(seed):
    "A small network, its approximation, and the exact biases."
    surrogate = rich_enough(seed).fit(*labelled(TRUTH, 0.8 * BETA, 60, seed=seed), progress=False)
    approximation = Approximation(TRUTH, surrogate)
    return approximation, exact_bias(approximation, BETA, NAMES)["exact_bias"]


def run(approximation, seed, draws=500):
    return sample(approximation, BETA, draws=draws, chains=8, thin=8, burn_in=200, seed=seed, progress=False)


# ---- a longer run for the average

def test_a_longer_run_takes_the_noise_of_the_average_away():
    "Thirty short ensembles, each with a run thirty times as long: corrected values against the enumeration."
    approximation, known = rich(0)
    exact, scores, errors = exact_bias(approximation, BETA, NAMES)["exact"], [], []
    for seed in range(30):
        first = predict_bias(approximation, run(approximation, seed, 100), NAMES, probes=60, seed=seed)
        longer = sample(approximation, BETA, draws=3000, chains=8, thin=8, burn_in=200, seed=1000 + seed, keep="observables", progress=False)
        second = first.with_longer_run(longer)
        scores.append((second.table["corrected"] - exact) / second.table["error"])
        errors.append(second.table["error"] / first.table["error"])
        assert (second.table[["predicted_bias", "low", "high", "trust"]] == first.table[["predicted_bias", "low", "high", "trust"]]).all(axis=None)
        assert np.allclose(second.table["surrogate"], [estimates(longer)[name].value for name in NAMES]) and second.settings["longer_run"] == 24_000
    scores = np.array(scores)
    assert np.mean(errors) < 0.6 and all(stats.kstest(scores[:, k], "norm").pvalue > 1e-3 for k in (0, 1, 3)), (np.mean(errors), scores.std(0))


def test_a_run_of_another_law_is_refused():
    approximation, _ = rich(0)
    report = predict_bias(approximation, run(approximation, 0), NAMES, seed=0)
    other = dict(draws=500, chains=8, thin=8, burn_in=200, seed=1, progress=False)
    for longer, what in ((sample(TRUTH, 1.3 * BETA, **other), "beta"), (sample(Ising((4, 4)), BETA, **other), "same approximation"), (None, "NoneType"),
                         (run(approximation, 0).drop_vars("m2"), "m2")):
        with pytest.raises(ValueError, match=what):
            report.with_longer_run(longer)


def test_rounding_is_not_reported_as_a_bias():
    "At infinite temperature weights are equal, whatever the energies: only the energy itself is biased."
    approximation, _ = rich(0)
    free = sample(approximation, 0.0, draws=200, chains=4, thin=2, burn_in=10, seed=0, progress=False)
    table = predict_bias(approximation, free, ["energy", "abs_m", "m2"], probes=60, seed=0).table
    assert (table.loc[["abs_m", "m2"], ["predicted_bias", "low", "high"]] == 0).all(axis=None) and table.loc["energy", "high"] != 0


# ---- choosing

@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_of_probes_gives_honest_intervals(choice):
    "Three networks, twenty ensembles and sets of 40 probes each: coverage of the exact bias, and the law of the z-scores."
    z = []
    for network in range(3):
        approximation, known = rich(network)
        for seed in range(20):
            table = predict_bias(approximation, run(approximation, seed), NAMES, probes=40, choice=choice, seed=seed).table
            z.append((table["predicted_bias"] - known) / ((table["high"] - table["low"]) / 3.92))
    z = np.array(z)
    assert 0.88 <= np.mean(np.abs(z) < 1.96) and stats.kstest(z[:, 1], "norm").pvalue > 1e-3, (np.mean(np.abs(z) < 1.96), z.std(0))


class Rough:
    "The 4x4 Ising model, and a random energy for each class of its configurations: nothing can be learned from one class about another."

    shape, n_sites, flip_symmetric, lattice_symmetric = (4, 4), 16, True, True

    def __init__(self, seed):
        states = np.concatenate(list(all_states((4, 4))))
        first, index = distinct_rows(canonical_forms(states))
        self.extra = np.empty(len(states))
        self.extra[self.number(states)] = 0.5 * np.random.default_rng(seed).standard_normal(len(first))[index]

    def number(self, x):
        return (np.asarray(x).reshape(*np.shape(x)[:-2], 16) > 0) @ (1 << np.arange(16))

    def energy(self, x):
        return Ising((4, 4)).energy(x) + self.extra[self.number(x)]


def test_no_choice_of_probes_is_much_better_where_nothing_can_be_learned():
    "As the page says: with 100 probes, root-mean-square errors of the bias within twelve ensembles differ by less than a factor of two, and all are honest."
    errors, z = {choice: [] for choice in CHOICES}, []
    for seed in range(12):
        approximation = Approximation(Rough(seed), Table(Ising((4, 4))))
        ensemble = sample(approximation, 0.3, draws=1000, chains=8, thin=8, burn_in=200, seed=seed, progress=False)
        data = _sums(ensemble, sort_draws(ensemble))
        x = data.classes.representatives
        D = (approximation.exact.energy(x) - approximation.energy(x))[None]
        within = (_averages(0 * D, data, ["abs_m"], "reweighting") - _averages(D, data, ["abs_m"], "reweighting"))[0, 0]
        for choice in CHOICES:
            row = predict_bias(approximation, ensemble, "abs_m", choice=choice, seed=seed).table.loc["abs_m"]
            errors[choice].append(row["predicted_bias"] - within)
            z.append(errors[choice][-1] / ((row["high"] - row["low"]) / 3.92))
    size = [np.sqrt(np.mean(np.square(e))) for e in errors.values()]
    assert max(size) < 2 * min(size) and np.abs(z).max() < 4 and np.mean(np.square(z)) < 1.5


class Patterns:
    "The 8x8 Ising model, an energy for each class of 3x3 patterns, and perhaps one for what no pattern holds: a sum over far pairs, in a cosine."

    shape, n_sites, flip_symmetric, lattice_symmetric = (8, 8), 64, True, True

    def __init__(self, seed, beyond=0.0):
        self.table = 0.1 * np.random.default_rng(seed).standard_normal(51)[pattern_labels()] * (pattern_labels() > 0)
        self.base, self.beyond = Ising((8, 8)), beyond

    def energy(self, x):
        far = sum((x * np.roll(x, (4, 3), axes)).sum((-2, -1)) + (x * np.roll(x, (4, -3), axes)).sum((-2, -1)) for axes in ((-2, -1), (-1, -2)))
        return self.base.energy(x) + self.table[pattern_index(np.asarray(x))].sum((-2, -1)) + self.beyond * np.cos(0.2 * far)


@cache
def pattern_errors(choice, beyond):
    "Errors and z-scores of four biases within ten ensembles each, where D is known everywhere."
    errors, z, size, plain = [], [], [], Approximation(Patterns(0), Table(Ising((8, 8))))
    for seed in range(10):
        approximation = Approximation(Patterns(seed, beyond), plain.surrogate)
        ensemble = sample(plain.surrogate.model, 0.36, draws=150, chains=8, thin=8, burn_in=200, seed=seed, progress=False)
        data = _sums(ensemble, sort_draws(ensemble))
        x = data.classes.representatives
        D = (approximation.exact.energy(x) - approximation.energy(x))[None]
        within = (_averages(0 * D, data, NAMES, "reweighting") - _averages(D, data, NAMES, "reweighting"))[:, 0]
        table = predict_bias(approximation, ensemble, NAMES, choice=choice, seed=seed).table
        errors.append(table["predicted_bias"].to_numpy() - within)
        z.append(errors[-1] / ((table["high"] - table["low"]).to_numpy() / 3.92))
        size.append(within)
    return np.array(errors), np.array(z), np.array(size)


def test_spanning_probes_solve_for_a_sum_over_patterns():
    "An ordered 8x8 lattice, where some patterns are rare: with 100 probes, D at all draws, to rounding; random probes miss some pattern."
    worst = {"random": [], "spanning": []}
    for seed in range(4):
        approximation = Approximation(Patterns(seed), Table(Ising((8, 8))))
        ensemble = sample(Ising((8, 8)), 0.45, draws=250, chains=8, thin=8, burn_in=300, seed=seed, progress=False)
        data = _sums(ensemble, sort_draws(ensemble))
        x = data.classes.representatives
        D = approximation.exact.energy(x) - approximation.energy(x)
        for choice, found in worst.items():
            found.append(np.abs(_probe_evidence(approximation, data, NAMES, 100, choice, seed).centre[0] - D).max())
    assert max(worst["spanning"]) < 1e-4 and np.median(worst["random"]) > 0.05, worst


@pytest.mark.parametrize("choice", ["random", "spanning"])
@pytest.mark.parametrize("beyond", [0.0, 1.0])
def test_intervals_hold_also_what_no_pattern_holds(choice, beyond):
    "Ten sets of four biases that hang together: at least the share that 95 % give with ten throws, less three standard errors; and no outlier."
    z = pattern_errors(choice, beyond)[1]
    assert np.mean(np.abs(z) < 1.96) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 10) and np.abs(z).max() < 4, (np.mean(np.abs(z) < 1.96), np.abs(z).max())


def test_what_no_pattern_holds_is_not_worse_with_spanning_probes():
    errors = {choice: pattern_errors(choice, 1.0)[0] for choice in ("random", "spanning")}
    rms = {choice: np.sqrt((e**2).mean(0)) for choice, e in errors.items()}
    assert (rms["spanning"] < 1.5 * rms["random"]).all(), rms


def test_stratified_probes_are_distinct_and_spread():
    approximation, _ = rich(0)
    classes = sort_draws(run(approximation, 0))
    energy = approximation.energy(classes.representatives)
    draws = np.sort(energy[classes.index.ravel()])
    for n in (5, 17):
        at = choose_probes(classes, n, 3, order_by=energy)
        assert len(set(at)) == n
        ends = [(s[0], s[-1]) for s in np.array_split(draws, n)]
        assert sum(any(low <= e <= high for e in energy[at]) for low, high in ends) >= n - 1
    assert len(set(choose_probes(classes, 10**6, 3, order_by=energy))) == len(classes.counts)


# ---- first order

def test_slopes_are_derivatives():
    approximation, _ = rich(1)
    data = _sums(e := run(approximation, 1), sort_draws(e))
    rng, names = np.random.default_rng(0), [*NAMES, "specific_heat", "binder"]
    D = 0.1 * rng.standard_normal((1, len(data.classes.counts)))
    for estimator in ("reweighting", "cumulant1"):
        at = D if estimator == "reweighting" else 0 * D
        small = 1e-5 * rng.standard_normal(D.shape)
        change = _averages(at - small, data, names, estimator) - _averages(at + small, data, names, estimator)
        np.testing.assert_allclose(_bias_slopes(at, data, names, estimator) @ small[0], change[:, 0] / 2, rtol=1e-4, atol=1e-11)


def test_the_closed_form_is_the_spread_of_many_draws():
    "A last layer with 4000 draws: variances agree within four standard errors; for another surrogate the form is refused."
    surrogate = too_simple(0)
    surrogate.options["draws"] = 4000
    approximation = Approximation(TRUTH, surrogate.fit(*labelled(TRUTH, BETA, 60, seed=1), progress=False))
    ensemble = run(approximation, 2)
    data = _sums(ensemble, sort_draws(ensemble))
    x = data.classes.representatives
    belief = approximation.surrogate.predict(x)
    drawn = _averages((belief.draws - belief.mean)[:, :, 0], data, NAMES, "cumulant1").std(1)
    np.testing.assert_allclose(last_layer_error(approximation, ensemble, NAMES), drawn, rtol=4 / np.sqrt(8000))


# ---- phases

def test_a_weak_field_moves_the_weight_of_the_phases():
    "Known exactly within the ensemble; a formula of first order is not trusted, reweighting is, and both say what the phases do."
    weak = Approximation(Ising((8, 8), h=0.03), Table(Ising((8, 8))))
    cold = sample(weak, 1 / 2.1, draws=1000, chains=16, thin=20, burn_in=1000, seed=1, progress=False)
    odds = np.exp(0.03 / 2.1 * 64 * cold["m"].values)
    upper = lambda report: (odds * (cold["m"].values > report.settings["phase_valley"])).sum() / odds.sum()
    first, full = (predict_bias(weak, cold, "m", estimator=e, seed=0) for e in ("cumulant1", "reweighting"))
    assert full.table.loc["m", "trust"] == "yes" and first.table.loc["m", "trust"] == "no" and "next: estimator='reweighting'" in first.verdicts["m"]
    assert abs(full.settings["phase_after"] - upper(full)) < 1e-6 and abs(first.settings["phase_after"] - upper(first)) > 0.05
    assert abs(full.table.loc["m", "corrected"] - np.mean(odds * cold["m"].values) / odds.mean()) < 1e-6


def test_too_few_passages_between_phases_are_seen():
    "At T = 1.5 chains stay in the phase that they began in: the weight of the phases is not known, whatever the probes say."
    weak = Approximation(Ising((8, 8), h=0.01), Table(Ising((8, 8))))
    cold = sample(weak, 1 / 1.5, draws=200, chains=8, thin=2, burn_in=200, seed=1, progress=False)
    report = predict_bias(weak, cold, "m", seed=0)
    assert report.table.loc["m", "trust"] == "no" and "times as long" in report.verdicts["m"]


def test_valleys():
    "One peak, of any shape, has no valley in 200 samples; two peaks five widths apart have one, where the density is least."
    rng = np.random.default_rng(0)
    shapes = (rng.standard_normal, lambda n: rng.exponential(size=n), lambda n: rng.uniform(size=n), lambda n: rng.binomial(16, 0.8, n) / 16.0)
    assert not any(find_valley(shape(2000)) for shape in shapes for _ in range(50))
    for share in (0.1, 0.5):
        v = [find_valley(np.r_[rng.normal(0, 1, int(4000 * (1 - share))), rng.normal(6, 1, int(4000 * share))]) for _ in range(20)]
        assert all(1.5 < x < 4.5 for x in v)
    assert find_valley(np.r_[np.zeros(10), np.ones(10)]) is None and find_valley([1.0]) is None


# ---- verdicts

def test_a_verdict_says_how_many_more_probes():
    "Where doubt about D rules, as many more as the report asks for make the interval about half as wide."
    approximation, ratios = rich(0)[0], []
    for seed in range(6):
        ensemble = run(approximation, 40 + seed, draws=2000)
        first = predict_bias(approximation, ensemble, "abs_m", probes=20, seed=seed)
        row = first.table.loc["abs_m"]
        assert first.verdicts["abs_m"].split(":")[0] == row["trust"] in TRUST and "; next: " in first.verdicts["abs_m"]
        if np.isfinite(row["more_probes"]):
            later = predict_bias(approximation, ensemble, "abs_m", probes=20 + int(np.ceil(row["more_probes"])), seed=seed).table.loc["abs_m"]
            ratios.append((later["high"] - later["low"]) / (row["high"] - row["low"]))
    assert len(ratios) >= 3 and np.median(ratios) < 0.6, ratios


def test_what_a_posterior_misses_is_not_trusted_and_probes_are_advised():
    surrogate = too_simple(0).fit(*labelled(TRUTH, BETA, 60, seed=1), progress=False)
    report = predict_bias(approximation := Approximation(TRUTH, surrogate), run(approximation, 3), evidence="posterior", seed=0)
    assert (report.table["trust"] == "with probes").all() and report.table["more_probes"].isna().all()
    assert all("next: probe" in v for v in report.verdicts.values())


@pytest.mark.parametrize("temperature", [0.3, 0.6, 0.8])
def test_a_cold_ensemble_of_few_configurations_is_reported_and_not_trusted(temperature):
    "All its configurations are evaluated, so that the bias within it is known; what it has not met is not."
    model = Approximation(TRUTH, too_simple(0).fit(*labelled(TRUTH, 1 / 3.25, 30, seed=0)))
    report = predict_bias(model, sample(model, 1 / temperature, draws=50, chains=4, seed=0, progress=False), NAMES, probes=40, seed=0)
    assert (report.table["trust"] == "no").all() and report.settings["probed_share"] == 1 and np.isfinite(report.table["corrected"]).all()


@pytest.mark.parametrize("k, said", [(-np.inf, False), (0.45, False), (0.55, True), (0.65, True), (np.inf, True)])
def test_weights_without_a_variance_are_doubted(k, said):
    "Unless nearly all draws count the same."
    told = [doubt.text for doubt in _doubts({"effective_share": 0.5, "pareto_k": k}, 1000)]
    assert any("Pareto" in text for text in told) == said and len(told) == said
    assert not _doubts({"effective_share": 0.95, "pareto_k": k}, 1000)


@pytest.mark.parametrize("said", [(), ("the chains disagree (R-hat 4.3, wanted at most 1.05)",)])
def test_a_posterior_whose_fit_doubts_itself_is_not_trusted(said):
    "The same belief, with what its fit says of its chains of weights; probes do not ask it."
    class Sampled(Table):
        doubts = said

        def predict(self, x):
            mean = self.model.energy(x)[:, None]
            return Predictive(mean, 0 * mean + 0.01, 0 * mean, draws=mean + 0.1 * np.linspace(-1, 1, 20)[:, None, None])

    approximation = Approximation(TRUTH, Sampled(Ising((4, 4), J=1.02, J2=0.1, K=0.2)))
    for evidence in ("posterior", "probe"):
        report = predict_bias(approximation, run(approximation, 0), ["energy", "abs_m"], evidence=evidence, seed=0)
        heard = bool(said) and evidence == "posterior"
        assert (report.table["trust"] == ("with probes" if heard else "yes")).all() and ("R-hat 4.3" in report.verdicts["energy"]) == heard


def test_a_report_is_plain_data():
    import json

    approximation, _ = rich(0)
    report = predict_bias(approximation, run(approximation, 3), probes=30, choice="active", seed=0)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["settings"]["choice"] == "active" and set(report.table["trust"]) <= set(TRUST)
    assert all(row["verdict"].startswith(row["trust"] + ":") for row in told["observables"].values())


# ---- real fields

class FieldTable:
    "A surrogate that is sure of another action."

    flip_symmetric = lattice_symmetric = True

    def __init__(self, model):
        self.model, self.force = model, model.force

    def predict(self, x):
        mean = np.asarray(self.model.energy(x))[:, None]
        return Predictive(mean, 0 * mean, 0 * mean, draws=mean[None].repeat(2, 0))


class Rippled:
    "A φ⁴ field whose action has a ripple that no polynomial holds."

    shape, n_sites, values, flip_symmetric, lattice_symmetric = (4, 4), 16, "real", True, True
    base = Phi4.from_mass((4, 4), m2=-4.0, lam=6.0)

    def energy(self, x):
        return self.base.energy(x) + 0.4 * np.cos(6 * np.asarray(x)).sum((-2, -1))


def test_biases_of_a_field_are_covered():
    "Fourteen ensembles of the field without the ripple, with 60 probes: the bias within each ensemble, where every action is known."
    z, names = [], ["energy", "phi2", "abs_m", "m2"]
    approximation = Approximation(Rippled(), FieldTable(Rippled.base))
    for seed in range(14):
        ensemble = sample(Rippled.base, draws=200, chains=8, thin=5, burn_in=100, seed=seed, progress=False)
        data = _sums(ensemble, sort_draws(ensemble))
        x = data.classes.representatives
        D = (approximation.exact.energy(x) - approximation.energy(x))[None]
        within = (_averages(0 * D, data, names, "reweighting") - _averages(D, data, names, "reweighting"))[:, 0]
        found = predict_bias(approximation, ensemble, names, probes=60, seed=seed).table
        z.append((found["predicted_bias"] - within) / ((found["high"] - found["low"]) / 3.92))
        assert (found["exact_evaluations"] == 60).all()
    assert np.mean(np.abs(z) < 1.96) >= 0.9 and np.abs(z).max() < 4, np.array(z).std(0)


@pytest.mark.parametrize("shape", [(4, 4), (3, 3, 3)])
def test_moves_of_a_learned_field_are_those_of_its_energy(shape):
    "Single moves and forces are differences and slopes of the surrogate's mean; spins in three dimensions get their moves the same way."
    ndim, rng = len(shape), np.random.default_rng(0)
    x = rng.standard_normal((30, *shape))
    field = Phi4.from_mass(shape, m2=1.0, lam=1.0)
    last = LastLayer(LocalEnergyNet(ndim, hidden=(4,), linear=True, values="real", seed=0), seed=0, epochs=20).fit(x, field.energy(x)[:, None], progress=False)
    learned, small = Approximation(field, last), 1e-5 * rng.standard_normal(x.shape)
    slope = (learned.energy(x + small) - learned.energy(x - small)) / 2
    np.testing.assert_allclose(-(learned.force(x) * small).reshape(30, -1).sum(1), slope, rtol=1e-5, atol=1e-9)
    site, new = np.zeros((1, ndim), int), rng.standard_normal((30, 1))
    y = x.copy()
    y[(slice(None), *[0] * ndim)] = new[:, 0]
    np.testing.assert_allclose(learned.energy_changes(x, site, new)[:, 0], learned.energy(y) - learned.energy(x), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(learned.energy(x), last.predict(x).mean[:, 0], rtol=1e-10)


def test_a_sure_field_is_walked_by_its_force():
    "Hamiltonian Monte Carlo of an approximation that is another φ⁴ field gives the averages of that field."
    model = Phi4.from_mass((4, 4), m2=-1.0, lam=3.0)
    one = sample(Approximation(Rippled(), FieldTable(model)), draws=400, chains=16, burn_in=100, method="hmc", seed=0, progress=False)
    two = sample(model, draws=2000, chains=16, burn_in=100, seed=1, progress=False)
    for name in ("energy", "phi2", "abs_m"):
        a, b = estimates(one)[name], estimates(two)[name]
        assert abs(a.value - b.value) < 4 * np.hypot(a.error, b.error)


# ---- symmetries, fast

@pytest.mark.parametrize("shape", [(7,), (4, 4), (3, 5), (2, 64), (3, 3, 3), (2, 2, 3)])
def test_canonical_forms_are_the_first_of_all_images(shape):
    import itertools

    x = random_spins(shape, 3, seed=5)
    for flip in (True, False):
        for one, form in zip(x, canonical_forms(x, flip)):
            images = []
            for (order, direction), sign in itertools.product(lattice_operations(shape)[:, :, : one.ndim], (1, -1) if flip else (1,)):
                y = sign * np.transpose(one, order)[tuple(slice(None, None, step) for step in direction)]
                images += [np.roll(y, t, tuple(range(y.ndim))) for t in itertools.product(*map(range, shape))]
            assert form.ravel().tolist() == min(y.ravel().tolist() for y in images)


# ---- refusals

@pytest.mark.parametrize("argument, value, accepted", [
    ("choice", "best", "'random', 'stratified', 'active', 'spanning'"), ("choice", None, "'random'"), ("choice", ["random"], "'random'"),
    ("probes", True, ">= 5"), ("probes", 4, ">= 5"), ("evidence", "faith", "'posterior' or 'probe'")])
def test_bad_requests_are_refused_by_name(argument, value, accepted):
    approximation, _ = rich(0)
    with pytest.raises(ValueError) as refused:
        predict_bias(approximation, run(approximation, 3, 50), **{"seed": 0, argument: value})
    assert str(refused.value).startswith(argument) and accepted in str(refused.value) and "\n" not in str(refused.value)


def test_other_bad_requests():
    approximation, _ = rich(0)
    classes = sort_draws(run(approximation, 3, 50))
    for call, words in ((lambda: choose_probes(classes, 10, 0, order_by=[1.0]), "order_by of shape"), (lambda: find_valley([1.0, np.nan]), "values=nan"),
                        (lambda: find_valley([1.0, 2.0], least=0.7), "least=0.7"), (lambda: find_valley([1.0, 2.0], least=True), "least=True"),
                        (lambda: last_layer_error(weak := Approximation(Ising((4, 4)), Table(Ising((4, 4)))), run(weak, 0, 60)), "surrogate=Table")):
        with pytest.raises(ValueError) as refused:
            call()
        assert words in str(refused.value)


def test_an_observable_that_is_not_asked_for_need_not_exist():
    "The surrogate's ground state has stripes: no draw has a magnetisation, and there is no Binder cumulant."
    from uqphys.chains import Subchain, exact_evidence

    stripes = Ising((4, 4), J=-1.0, J2=-3.0)

    class Table:
        flip_symmetric = lattice_symmetric = True

        def predict(self, x):
            energy = stripes.energy(x)[:, None]
            return Predictive(energy, 0 * energy, 0 * energy, np.stack([energy, 1.001 * energy]))

        def pattern_energies(self):
            return stripes.pattern_energies()

    model = Approximation(stripes, Table())
    run = sample(model, 4.0, draws=50, chains=4, burn_in=200, seed=0, progress=False)
    assert (run["m"].values == 0).all()
    report = predict_bias(model, run, NAMES, probes=20, seed=0)
    assert report.with_longer_run(run).table["trust"].tolist() == ["no"] * 4
    exact = exact_evidence(model, run, NAMES, proposal=Subchain(model, 1), draws=50, burn_in=50, seed=0, progress=False)
    assert np.isfinite(exact.table[["surrogate", "corrected"]].to_numpy()).all()
