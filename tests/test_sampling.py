"""What `sample` promises beyond the right averages: burn-in, refusals, settings, models of one's own, exchange of chains."""
import itertools
import json
import math
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from uqphys.analysis import estimates, gamma_error
from uqphys.exact import BETA_C, all_states, enumerate_states, transfer_matrix
from uqphys.models import CustomModel, Ising, Phi4, random_spins
from uqphys.sampling import METHODS, choose_method, equilibration, find_method, sample
from uqphys.tempering import _Ladder, _ladders, temper

QUIET = {"keep": "observables", "progress": False}


# ---- burn-in

@pytest.mark.parametrize("tau, amplitude", [(1, 0.0), (10, 0.0), (10, 5.0), (40, 8.0)])
def test_the_marginal_standard_error_drops_the_transient_and_little_else(tau, amplitude):
    "AR(1) chains with a decaying start: what is left of the transient is small against the noise of the mean."
    rng, n, rho = np.random.default_rng(tau), 4000, np.exp(-1 / tau)
    left, dropped = [], []
    for _ in range(50):
        noise = rng.normal(size=(4, n)) * np.sqrt(1 - rho**2)
        x = np.empty_like(noise)
        x[:, 0] = rng.normal(size=4) + amplitude
        for t in range(1, n):
            x[:, t] = rho * x[:, t - 1] + noise[:, t]
        d = equilibration(x)
        dropped.append(d)
        left.append(amplitude * rho**d)
    assert np.mean(dropped) < n / 4 and np.mean(left) < 1.0
    assert amplitude == 0 or np.mean(dropped) > tau


def test_auto_burn_in_forgets_a_cold_start():
    "The first draw after an automatic burn-in has the exact mean: over many seeds its z-scores do not lean to the start."
    exact = transfer_matrix(8, 0.35).averages
    first = [sample(Ising((8, 8)), 0.35, draws=400, chains=4, method="metropolis", seed=s, **QUIET).energy[:, 0] for s in range(60)]
    values = np.concatenate(first)
    z = (values.mean() - exact["energy"]) / (values.std(ddof=1) / np.sqrt(values.size))
    assert abs(z) < 4
    none = [sample(Ising((8, 8)), 0.35, draws=1, chains=4, burn_in=0, method="metropolis", seed=s, **QUIET).energy[:, 0] for s in range(60)]
    cold = np.concatenate(none)
    assert (cold.mean() - exact["energy"]) / (cold.std(ddof=1) / np.sqrt(cold.size)) < -10  # without: the start shows


@pytest.mark.parametrize("L, draws", [(16, 100), (32, 200), (32, 430)])
def test_runs_shorter_than_twenty_tau_are_refused(L, draws):
    "tau_int of |m| is about 11 and 43 sweeps: the longest of these runs is 10 of it. No seed may be believed, or one in 40."
    refused, said = 0, r"draws \* thin=\d+: shorter than 20 tau_int = \d+ sweeps .*burn_in="
    for seed in range(40):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a run that was believed asks itself again at its end
                sample(Ising((L, L)), BETA_C, draws=draws, method="metropolis", seed=seed, **QUIET)
        except ValueError as error:
            assert re.match(said, str(error))
            refused += 1
    assert refused >= 39
    own = sample(Ising((L, L)), BETA_C, draws=draws, burn_in=10, method="metropolis", seed=1, **QUIET)  # by one's own decision
    assert own.sizes["draw"] == draws


def test_runs_that_are_long_enough_are_not_refused():
    for seed in range(10):
        run = sample(Ising((8, 8)), BETA_C, draws=400, method="metropolis", seed=seed, **QUIET)  # 120 of its tau_int
        assert "tau_int" in run.attrs["burn_in_reason"]
    assert sample(Ising((8, 8)), 0.0, draws=3, method="swendsen-wang", seed=1, **QUIET).sizes["draw"] == 3  # independent draws


@pytest.mark.parametrize("model, method", [*[(Ising((4, 6)), m) for m in ("metropolis", "heatbath", "local", "batched", "wolff",
                                             "swendsen-wang", "multispin-replicas", "tempering")],
                                           (Ising((128, 2)), "multispin"), (Phi4((4, 4), 0.2, 0.5), "hmc"),
                                           (Phi4((4, 4), 0.2, 0.5), "cluster-phi4"), (Phi4((4, 4), 0.2, 0.5), "metropolis")])
def test_thinning_leaves_out_and_changes_nothing_else(model, method):
    run = dict(chains=2, burn_in=5, method=method, seed=4, progress=False)
    every, third = sample(model, 0.4, draws=18, **run), sample(model, 0.4, draws=6, thin=3, **run)
    assert np.array_equal(every.config[:, 2::3], third.config) and np.array_equal(every.energy[:, 2::3], third.energy)


@pytest.mark.parametrize("method", ["metropolis", "local", "batched", "checkerboard", "multispin-replicas"])
def test_at_infinite_temperature_all_states_are_visited_alike(method):
    "A sweep that always tried would hop between two states for ever."
    run = sample(Ising((4, 4)), 0.0, draws=300, chains=8, burn_in=50, method=method, seed=6, progress=False)
    flips = (run.config.values[:, 1:] != run.config.values[:, :-1]).mean()
    assert 0.9 < flips < 0.96 and all(len(np.unique(x.reshape(300, -1), axis=0)) > 100 for x in run.config.values)


def test_one_seed_at_two_temperatures_is_two_runs():
    "Correlation of energies over 4 x 4000 draws: a standard normal number in units of 1 / sqrt(independent draws)."
    runs = [sample(Ising((8, 8)), beta, draws=4000, burn_in=100, thin=4, method=method, seed=5, **QUIET).energy.values.ravel()
            for beta, method in ((0.30, "metropolis"), (0.31, "metropolis"), (0.30, "heatbath"))]
    for one, two in itertools.combinations(runs, 2):
        assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(16000 / 3)


def test_forbidden_states_are_never_visited():
    "Hard squares: two occupied neighbours cost an infinite energy; at any temperature, also an infinite one."
    def hard(x):
        up = x > 0
        clash = (up & np.roll(up, 1, 1)) | (up & np.roll(up, 1, 2))
        return np.where(clash.any(axis=(1, 2)), np.inf, -1.0 * up.sum(axis=(1, 2)))
    bare = SimpleNamespace(shape=(4, 4), energy=lambda x: hard(x.reshape(-1, 4, 4)).reshape(x.shape[:-2]))
    states = np.concatenate(list(all_states((4, 4))))
    allowed = np.isfinite(hard(states))
    for beta in (0.0, 0.7):
        weight = np.exp(beta * (states[allowed] > 0).sum((1, 2)))
        exact = (weight * (states[allowed] > 0).mean((1, 2))).sum() / weight.sum()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = sample(bare, beta, draws=300, chains=16, burn_in=50, thin=2, seed=2, progress=False)
        assert np.isfinite(hard(run.config.values.reshape(-1, 4, 4))).all()
        filling = (run.config.values > 0).mean((1, 2, 3))
        assert abs(filling.mean() - exact) < 4.5 * filling.std(ddof=1) / 4


def test_a_model_that_writes_into_what_it_is_given_harms_nobody():
    class Careless:
        shape = (4, 4)

        def energy(self, x):
            x[x < 0] = 0
            return -1.0 * (x * np.roll(x, 1, -1)).sum((-1, -2))

        def observables(self, x):
            x[..., 0, 0] = 1
            return {"energy": self.energy(x) / 16}
    assert set(np.unique(sample(Careless(), 0.2, draws=50, burn_in=5, seed=1, progress=False).config)) == {-1, 1}


def test_an_ising_model_with_an_energy_of_its_own_is_sampled_by_it():
    class More(Ising):
        def energy(self, x):
            x = np.asarray(x, dtype=float)
            return super().energy(x) - 0.5 * (x * np.roll(x, 1, -1) * np.roll(x, 1, -2)).sum((-1, -2))
    model = More((3, 3))
    exact = enumerate_states(model, 0.3).averages
    assert choose_method(model, "auto")[0] == "batched" and abs(exact["m"]) > 0.2
    with pytest.raises(ValueError, match="its energy is its own"):
        choose_method(model, "local")
    run = sample(model, 0.3, draws=600, chains=16, burn_in=50, seed=3, **QUIET)
    for name in ("energy", "m"):
        means = run[name].mean("draw").values
        assert abs(means.mean() - exact[name]) < 4.5 * means.std(ddof=1) / 4, name


# ---- which method, and what it says

@pytest.mark.parametrize("model, method", [
    (Ising((8, 8)), "swendsen-wang"), (Ising((4, 4, 4), J2=0.1), "swendsen-wang"), (Ising((8, 8), J=-1.0), "swendsen-wang"),
    (Ising((7, 8), J=-1.0), "metropolis"), (Ising((8, 8), h=0.1), "metropolis"), (Ising((8, 8), K=0.1), "metropolis"),
    (Ising((8, 8), J2=-0.1), "metropolis"), (Phi4((8, 8), 0.2, 0.5), "cluster-phi4"),
    (CustomModel((4, 4), lambda x: (x**2).sum((1, 2)), "real"), "batched"),
    (CustomModel((4, 4), lambda x: (x**2).sum((1, 2)), "real", uses_torch=True), "hmc"),
    (CustomModel((4, 4), lambda x: x.sum((1, 2))), "batched")])
def test_auto(model, method):
    found, reason = choose_method(model)
    assert found == method and reason.startswith("auto: ")
    run = sample(model, 0.3, draws=3, chains=2, burn_in=5, seed=1, progress=False)
    assert run.attrs["method"] == method and run.attrs["method_reason"] == reason and json.loads(run.attrs["settings"]) is not None
    assert run.config.dtype == (np.float64 if getattr(model, "values", "spins") == "real" else np.int8)


def test_every_method_has_a_home():
    for name in METHODS[1:]:
        model = Phi4((4, 4), 0.2, 0.5) if name in ("hmc", "cluster-phi4") else Ising((4, 4))
        assert not find_method(model, name).obstacle(model), name


# ---- models of one's own

def four_bonds(x):
    return -(x * np.roll(x, 1, 1) + x * np.roll(x, 1, 2)).sum((1, 2))


@pytest.mark.parametrize("reach", [None, 1])
def test_an_energy_of_ones_own_is_sampled_like_ising(reach):
    model, exact = CustomModel((4, 4), four_bonds, interaction_range=reach), transfer_matrix(4, 0.4).averages
    run = sample(model, 0.4, draws=600, chains=48, burn_in=60, thin=2, seed=2, **QUIET)
    for name in ("energy", "abs_m", "m2"):
        means = run[name].values.mean(1)
        assert abs(means.mean() - exact[name]) < 4 * means.std(ddof=1) / np.sqrt(48), name


# ---- tempering

@pytest.mark.parametrize("around", ["metropolis", "heatbath", "local", "batched", "wolff", "swendsen-wang"])
def test_tempering_around_any_method(around):
    draws = 150 if around == "batched" else 1000  # sixteen energies of the whole lattice for every sweep
    run = sample(Ising((4, 4)), 0.5, draws=draws, chains=8, burn_in=60, method="tempering", seed=3,
                 settings={"around": around, "betas": [0.3, 0.4, 0.5]}, **QUIET)
    exact = transfer_matrix(4, 0.5).averages
    for name, found in estimates(run).items():
        if name in exact and name != "m":
            assert abs(found.value - exact[name]) < 4 * found.error, (name, str(found), exact[name])
    m = run.m.values
    assert abs(m.mean()) < 5 * gamma_error(m).error + 1e-12 and run.attrs["round_trips"] > draws / 50


@pytest.mark.parametrize("around", ["hmc", "metropolis", "cluster-phi4", "batched"])
def test_tempering_of_fields(around):
    "One temperature of the ladder alone, and the same in company: the same law."
    model = Phi4((4, 4), 0.25, 0.5)
    alone = sample(model, 1.0, draws=8000, chains=4, burn_in=100, method="cluster-phi4", seed=4, **QUIET)
    draws = 250 if around == "batched" else 1000
    found = sample(model, 1.0, draws=draws, chains=4, burn_in=60, method="tempering", seed=5,
                   settings={"around": around, "betas": [0.7, 0.85, 1.0]}, **QUIET)
    for name in ("energy", "phi2", "m2", "abs_m"):
        a, b = gamma_error(alone[name].values), gamma_error(found[name].values)
        assert abs(a.value - b.value) < 4 * np.hypot(a.error, b.error), (name, str(a), str(b))


def scores(seed, exchange=True):
    "z of each temperature's energy over independent ladders."
    betas = [0.25, 0.35, 0.45]
    run = temper(Ising((3, 4)), betas, draws=300, chains=12, burn_in=50, seed=seed, progress=False)
    means = run.energy.mean("draw")
    exact = [enumerate_states(Ising((3, 4)), b).averages["energy"] for b in betas]
    return ((means.mean("chain") - exact) / (means.std("chain", ddof=1) / np.sqrt(12))).values


def test_z_scores_of_all_temperatures():
    "Student's t with 11 degrees of freedom, as means of 12 chains must be: each bound is passed by luck 1 time in 5000."
    z = np.concatenate([scores(seed) for seed in range(25)])
    assert 2 * stats.t(11).sf(np.abs(z).max()) * z.size > 2e-4
    assert stats.kstest(z, stats.t(11).cdf).pvalue > 2e-4 and abs(z.mean()) * np.sqrt(z.size) < 4


class Still:
    "A mover that stays where it is."
    def __init__(self, x):
        self.state = (np.array(x, dtype=float),)

    def __call__(self, draws, thin, keep):
        return self.state[0][None, None].copy(), None


def acceptance(model, betas, hot, cold):
    "With which probability two configurations are exchanged: the largest number that still is small enough, by bisection."
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        ladder = _Ladder(model, betas, [Still(hot), Still(cold)], SimpleNamespace(random=lambda: middle))
        ladder.sweep(())
        low, high = (middle, high) if ladder.made[0] else (low, middle)
    return low


def test_exchanges_are_in_detailed_balance():
    "For all pairs of energies, to 12 digits: the flow of the product law is the same there and back."
    model, betas = Ising((3, 4), h=0.2), [0.13, 0.41]
    states = random_spins((3, 4), 8, seed=1)
    energy, flows = model.energy(states), set()
    for i, j in itertools.permutations(range(8), 2):
        there, back = acceptance(model, betas, states[i], states[j]), acceptance(model, betas, states[j], states[i])
        weights = [-betas[0] * energy[a] - betas[1] * energy[b] for a, b in ((i, j), (j, i))]
        assert abs(there - back * math.exp(weights[1] - weights[0])) < 1e-12 * max(1.0, there)
        flows.add(round(there, 3))
    assert len(flows) > 10 and max(flows) == 1.0  # a walk that never exchanges would be balanced too


def test_draws_of_all_temperatures_are_what_their_configurations_say():
    "Observables are those of the configuration before the exchange that follows it."
    run = temper(Ising((4, 4), h=0.1), [0.2, 0.3, 0.4], draws=60, chains=2, burn_in=10, thin=2, seed=3, keep="configs", progress=False)
    assert run.attrs["swap_acceptance"] > 0.2
    for name, values in Ising((4, 4), h=0.1).observables(run.config.values).items():
        assert np.array_equal(run[name].values, values), name


def test_round_trips_are_counted_by_the_book():
    "Labels written down after every sweep; a passage from the hot to the cold end is half of each round trip."
    model, betas = Ising((3, 4)), [0.2, 0.25, 0.3, 0.35]
    generators = [np.random.default_rng(1)]
    (ladder,) = _ladders(model, np.ones((1, 3, 4), dtype=np.int8), generators, betas, "metropolis", [{}] * 4)
    labels, made, tried = [], 0, 0
    for sweep in range(3000):
        before = ladder.label.copy()
        ladder.sweep(())
        labels.append(ladder.label.copy())
        made += (ladder.label != before).sum() / 2
        tried += 2 if sweep % 2 == 0 else 1
    trips = 0
    for walker in range(4):
        ends = [("hot", "cold")[int(row[-1] == walker)] for row in labels if walker in (row[0], row[-1])]
        trips += sum(a == "hot" and b == "cold" for a, b in itertools.pairwise(ends))
    said = ladder.report()
    assert said["round_trips"] == trips > 50 and ladder.made.sum() == made and ladder.tried.sum() == tried
    assert math.isclose(said["round_trip_time"], 4 * 3000 / trips) and said["swap_acceptance"] == np.mean(ladder.made / ladder.tried)
    ladder.forget()
    assert ladder.report()["round_trips"] == 0 and ladder.tried.sum() == 0


def test_ladders_are_refused_and_reported():
    gap = sample(Ising((12, 12)), 0.6, method="tempering", settings={"betas": [0.1, 0.6]}, draws=200, burn_in=20, seed=1, **QUIET)
    assert gap.attrs["lowest_swap_acceptance"] < 0.01 and gap.attrs["round_trips"] == 0
    for wanted in (0.25, 0.4, 0.6):
        auto = sample(Ising((16, 16)), 0.4, method="tempering", settings={"acceptance": wanted}, draws=600, burn_in=100, seed=1, **QUIET)
        assert json.loads(auto.attrs["settings"])["betas"][-1] == 0.4
        assert auto.attrs["lowest_swap_acceptance"] > 0.6 * wanted and auto.attrs["swap_acceptance"] < wanted + 0.15, wanted


# ---- invariance

def two_bonds(x):
    "Ising with J = 0.7 and a field of 0.2, as somebody would write it."
    return -(0.7 * x * (np.roll(x, 1, 1) + np.roll(x, 1, 2)) + 0.2 * x).sum((1, 2))


LAWS = {"metropolis": Ising((3, 3), J=0.6, J2=-0.2, K=0.3, h=0.15), "heatbath": Ising((3, 3), J=0.6, J2=-0.2, K=0.3, h=0.15),
        "local": Ising((3, 3), J=0.6, J2=-0.2, K=0.3, h=0.15), "checkerboard": Ising((2, 4), J=0.7, h=0.2),
        "batched": CustomModel((3, 3), two_bonds), "batched in windows": CustomModel((3, 4), two_bonds, interaction_range=1)}


def p_value(name, seed, wrong=1.0, n=1500, beta=0.5):
    "χ² of n states one sweep after exact draws, in some 30 bins of about equal probability."
    model, rng = LAWS[name], np.random.default_rng(seed)
    states = np.concatenate(list(all_states(model.shape)))
    weight = np.exp(-beta * model.energy(states))
    weight /= weight.sum()
    starts = states[rng.choice(len(states), size=n, p=weight)]
    generators = [np.random.default_rng([seed, k]) for k in range(n)]
    movers = find_method(model, name.split()[0]).movers(model, wrong * beta, starts, generators)
    after = np.concatenate([move(1, 1)[0][:, 0] for move in movers]).reshape(n, -1)
    number = (after > 0) @ (1 << np.arange(model.n_sites)[::-1])
    where = ((states.reshape(len(states), -1) > 0) @ (1 << np.arange(model.n_sites)[::-1])).argsort()[number]
    order = model.energy(states).argsort(kind="stable")  # bins of neighbouring energies, and states that stand side by side
    bins = np.empty(len(states), dtype=int)
    bins[order] = (np.cumsum(weight[order]) * 30 * (1 - 1e-12)).astype(int)
    bins = np.unique(bins, return_inverse=True)[1]  # a likely state fills a bin by itself, and may leave one empty
    expected = n * np.bincount(bins, weights=weight)
    return stats.chisquare(np.bincount(bins[where], minlength=len(expected)), expected).pvalue


@pytest.mark.parametrize("name", LAWS)
def test_a_sweep_leaves_the_exact_law_invariant(name):
    p_values = [p_value(name, seed) for seed in range(16)]
    assert min(p_values) > 1e-4 and stats.kstest(p_values, "uniform").pvalue > 1e-3, p_values
    assert np.median([p_value(name, seed, wrong=1.3, n=4000) for seed in range(3)]) < 1e-3  # a sweep at another temperature is seen
