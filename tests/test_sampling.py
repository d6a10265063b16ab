"""What `sample` promises beyond the right averages: burn-in, refusals, settings, models of one's own, exchange of chains."""
import json

import numpy as np
import pytest
from scipy import stats

from uqphys.analysis import estimates, gamma_error
from uqphys.exact import BETA_C, all_states, enumerate_states, transfer_matrix
from uqphys.models import CustomModel, Ising, Phi4
from uqphys.sampling import METHODS, choose_method, equilibration, find_method, sample
from uqphys.tempering import temper

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


@pytest.mark.parametrize("L, draws, refused", [(8, 2000, False), (32, 200, True), (48, 500, True)])
def test_runs_shorter_than_twenty_tau_are_refused(L, draws, refused):
    arguments = dict(draws=draws, method="metropolis", seed=1, **QUIET)
    if not refused:
        assert "tau_int" in sample(Ising((L, L)), BETA_C, **arguments).attrs["burn_in_reason"]
        return
    with pytest.raises(ValueError, match=r"draws \* thin=\d+: shorter than 20 tau_int = \d+ sweeps .*burn_in="):
        sample(Ising((L, L)), BETA_C, **arguments)
    assert sample(Ising((L, L)), BETA_C, burn_in=10, **arguments).sizes["draw"] == draws  # by one's own decision


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


def test_exchanges_leave_the_product_law():
    "Exact starts at two temperatures, exchanges only: each temperature keeps its law (p-values uniform)."
    from uqphys.tempering import _Ladder

    model, betas = Ising((2, 2)), [0.1, 0.5]
    states = np.concatenate(list(all_states((2, 2))))
    energy = model.energy(states)
    laws = [np.exp(-b * energy) / np.exp(-b * energy).sum() for b in betas]

    class Still:
        "A mover that stays where it is."
        def __init__(self, x):
            self.state = (x.astype(float),)

        def __call__(self, draws, thin, keep):
            return self.state[0].reshape(1, 1, 2, 2).copy(), None

    p_values = []
    for seed in range(20):
        rng, counts = np.random.default_rng(seed), np.zeros((2, 16))
        picks = [rng.choice(16, size=1000, p=law) for law in laws]
        for a, b in zip(*picks):
            ladder = _Ladder(model, betas, [Still(states[a]), Still(states[b])], rng)
            ladder.sweep(())
            for k, move in enumerate(ladder.movers):
                counts[k, int(((move.state[0] > 0).ravel() @ (1 << np.arange(4))))] += 1
        for k in (0, 1):  # states of one energy together: every bin is well filled
            levels = [energy == level for level in np.unique(energy)]
            seen, due = [counts[k][s].sum() for s in levels], [laws[k][s].sum() * 1000 for s in levels]
            p_values.append(stats.chisquare(seen, due).pvalue)
    assert min(p_values) > 1e-4 and stats.kstest(p_values, "uniform").pvalue > 0.001


def test_ladders_are_refused_and_reported():
    gap = sample(Ising((12, 12)), 0.6, method="tempering", settings={"betas": [0.1, 0.6]}, draws=200, burn_in=20, seed=1, **QUIET)
    assert gap.attrs["lowest_swap_acceptance"] < 0.01 and gap.attrs["round_trips"] == 0
    auto = sample(Ising((12, 12)), 0.6, method="tempering", draws=200, burn_in=20, seed=1, **QUIET)
    assert json.loads(auto.attrs["settings"])["betas"][-1] == 0.6 and 0.2 < auto.attrs["swap_acceptance"] < 0.8
