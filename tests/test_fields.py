"""Samplers of real fields against exact answers, and each update against the law it must leave unchanged.

Errors come from independent chains (64 or more, whose means scatter as they may) or from the Γ-method. Seeds are fixed; |z| < 4.5
for a single number, and the z of a collection together must be standard normal.
"""
import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

import uqphys.fields as fields
from uqphys.analysis import gamma_error
from uqphys.exact import enumerate_states
from uqphys.exact_fields import free_field, free_propagator, ring_field, site_field
from uqphys.models import CustomModel, Ising, Phi4
from uqphys.sampling import one_thread, sample

CHECKED = ("energy", "abs_m", "m2", "m4", "phi2", "phi4")
MODELS = {  # model, beta, exact averages
    "lone sites": (Phi4((3, 3), 0.0, 0.8), 1.0, site_field),
    "ring": (Phi4((5,), 0.3, 0.5), 0.8, ring_field),
    "antiferromagnetic ring": (Phi4((4,), -0.3, 0.5), 1.2, ring_field),
    "ring of two": (Phi4((2,), 0.25, 1.0), 1.0, ring_field),
    "torus": (Phi4((2, 2), 0.15, 1.0), 1.0, ring_field),
    "torus in masses": (Phi4.from_mass((2, 2), -1.0, 1.0), 0.9, ring_field),
    "free": (Phi4((4, 3), 0.2, 0.0), 1.0, free_field),
    "free in 3D": (Phi4((3, 2, 4), 0.12, 0.0), 1.3, free_field),
}
METHODS = ("hmc", "metropolis", "cluster-phi4", "batched", "hmc by torch")


def in_torch(model):
    "The same law as an energy of which nothing is known but that torch can differentiate it."
    def energy(x):
        square, dims = x * x, tuple(range(1, x.ndim))
        pairs = sum((x * x.roll(1, axis)).sum(dims) for axis in dims)
        return ((model.quadratic + model.quartic * square) * square).sum(dims) - model.hopping * pairs + model.constant * model.n_sites
    return CustomModel(model.shape, energy, "real", interaction_range=1, uses_torch=True)


def in_windows(model):
    "The same law in NumPy, with its range: local steps at many sites at once."
    def energy(x):
        square, axes = x * x, tuple(range(1, x.ndim))
        pairs = sum(x * np.roll(x, 1, axis) for axis in axes)
        return ((model.quadratic + model.quartic * square) * square - model.hopping * pairs + model.constant).sum(axis=axes)
    return CustomModel(model.shape, energy, "real", interaction_range=1)


def from_chains(values, exact):
    "z of a mean whose error is the scatter of the chains' means."
    means = np.asarray(values).mean(axis=1)
    return (means.mean() - exact) / (means.std(ddof=1) / math.sqrt(len(means)))


@cache
def z_scores(name, method):
    model, beta, exact = MODELS[name]
    seed = 100 * list(MODELS).index(name) + METHODS.index(method)
    law, draws, settings = {"hmc by torch": (in_torch, 100, {"step_size": 0.25, "steps": 5}),
                            "batched": (in_windows, 200, {"width": 1.0})}.get(method, (lambda model: model, 1500, None))
    found = sample(law(model), beta, method=method.split()[0], draws=draws, chains=128, burn_in=60, seed=seed,
                   settings=settings, keep="observables", progress=False)
    averages = exact(model, beta).averages
    return {key: from_chains(found[key], averages[key]) for key in CHECKED if averages.get(key) is not None}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_against_exact(name, method):
    for key, z in z_scores(name, method).items():
        assert abs(z) < 4.5, (key, z)


@pytest.mark.parametrize("key", CHECKED)
def test_z_scores_are_standard_normal(key):
    z = [z_scores(name, method)[key] for name in MODELS for method in METHODS if key in z_scores(name, method)]
    if key == "energy":  # the action of a free field has one exact answer for every method: keep all
        assert len(z) == len(MODELS) * len(METHODS)
    assert stats.kstest(z, "norm").pvalue > 1e-3, np.sort(z)
    assert 1e-3 < stats.chi2(len(z)).cdf(np.square(z).sum()) < 1 - 1e-3, (np.std(z), np.mean(z))


def test_gamma_errors_are_right():
    "The same with the error that a user gets: 60 runs of few long chains each."
    model, beta = Phi4((5,), 0.3, 0.5), 1.0
    exact = ring_field(model, beta).averages
    for method in ("hmc", "metropolis", "cluster-phi4"):
        z = []
        for seed in range(60):
            found = sample(model, beta, method=method, draws=3000, chains=2, burn_in=60, seed=seed, keep="observables",
                           settings={"width": 0.7} if method != "hmc" else {"step_size": 0.3, "steps": 5}, progress=False)
            for key in ("m2", "phi2"):
                mean = gamma_error(found[key].values)
                z.append((mean.value - exact[key]) / mean.error)
        z = np.array(z).reshape(-1, 2).T
        assert np.abs(z).max() < 4.5
        for one in z:
            assert 1e-3 < stats.chi2(60).cdf(np.square(one).sum()) < 1 - 1e-3, (method, one.std())
            assert abs(one.mean()) * math.sqrt(60) < 4


# ---- every momentum, every site


@pytest.mark.parametrize("method", ["hmc", "metropolis", "cluster-phi4"])
def test_free_field_at_every_momentum(method):
    model = Phi4((6, 5), 0.2, 0.0)
    x = sample(model, method=method, draws=1500, chains=64, burn_in=200, seed=5, progress=False).config.values
    power = np.abs(np.fft.fftn(x, axes=(2, 3))) ** 2 / model.n_sites
    exact, half = free_propagator(model), [(k, q) for k in range(6) for q in range(3) if q or k <= 3]  # k and -k are the same
    z = np.array([from_chains(power[:, :, k, q], exact[k, q]) for k, q in half])
    assert np.abs(z).max() < 4.5 and len(z) == 16
    assert 1e-3 < stats.chi2(len(z)).cdf(np.square(z).sum()) < 1 - 1e-3


@pytest.mark.parametrize("method", ["hmc", "metropolis", "cluster-phi4"])
@pytest.mark.parametrize("model", [Phi4((6, 6), 0.3, 0.7), Phi4.from_mass((4, 3, 4), -2.0, 1.5), Phi4((3, 2, 2, 4), 0.15, 1.0)])
def test_schwinger_dyson(model, method):
    "beta <phi_x dS/dphi_x> = 1 at every site, on lattices that nobody can integrate."
    found = sample(model, 0.9, method=method, draws=1500, chains=64, burn_in=300, seed=9, progress=False).config.values
    sides = -0.9 * found * model.force(found)
    z = np.array([from_chains(sides.reshape(*sides.shape[:2], -1)[..., i], 1.0) for i in range(model.n_sites)])
    total = from_chains(sides.mean(axis=tuple(range(2, sides.ndim))), 1.0)
    assert abs(total) < 4.5 and np.abs(z).max() < 5, (total, np.abs(z).max())
    assert 0.7 < z.std() < 1.35  # the sites of one lattice are not independent


# ---- the leapfrog


def run_leapfrog(model, x, p, eps, steps, beta=1.0):
    field = fields._Folded(x)
    field.p[field.inner] = fields._fold(p, p.ndim, int(field.lanes))
    fields._leapfrog(field.x, field.p, field.layout, field.lanes, fields._scaled(model, beta), eps, steps)
    return field.unfold(field.x[field.inner]), field.unfold(field.p[field.inner])


@pytest.mark.parametrize("shape", [(9,), (16, 16), (5, 7), (6, 4, 4), (4, 2, 3, 4)])
def test_reversible(shape):
    x, p = np.random.default_rng(1).standard_normal((2, *shape))
    model = Phi4(shape, 0.2, 0.4)
    y, q = run_leapfrog(model, x, p, 0.08, 200)
    back, momenta = run_leapfrog(model, y, -q, 0.08, 200)
    assert np.abs(y - x).max() > 0.5
    assert np.abs(back - x).max() < 1e-10 and np.abs(momenta + p).max() < 1e-10


def energy_errors(model, eps, length, n=64):
    "H(end) - H(start) from n equilibrated starts."
    start = sample(model, method="hmc", draws=1, chains=n, burn_in=200, seed=3, progress=False).config.values[:, 0]
    rng, errors = np.random.default_rng(4), []
    for x in start:
        p = rng.standard_normal(model.shape)
        y, q = run_leapfrog(model, x, p, eps, round(length / eps))
        errors.append(model.energy(y) - model.energy(x) + ((q**2).sum() - (p**2).sum()) / 2)
    return np.array(errors)


@pytest.mark.parametrize("model", [Phi4((8, 8), 0.25, 0.5), Phi4((4, 4, 4), 0.15, 1.0), Phi4((12,), 0.3, 0.3)])
def test_energy_error_is_quadratic(model):
    steps = np.array([0.1, 0.05, 0.025, 0.0125])
    sizes = [np.sqrt(np.mean(energy_errors(model, eps, 1.5) ** 2)) for eps in steps]
    slope = np.polyfit(np.log(steps), np.log(sizes), 1)[0]
    assert abs(slope - 2) < 0.05, slope


@pytest.mark.parametrize("step_size, steps", [(0.1, 10), (0.2, 6), (0.3, 4)])
def test_mean_of_exp_minus_dH(step_size, steps):
    "Creutz: <exp(-dH)> = 1, in equilibrium and at any step size; and the rate of acceptance is what it then must be."
    model = Phi4((8, 8), 0.25, 0.5)
    generators = [np.random.default_rng([17, steps, c]) for c in range(32)]
    starts = np.stack([rng.standard_normal(model.shape) for rng in generators])
    for law, draws in ((model, 3000), (in_torch(model), 60))[: 2 if steps == 6 else 1]:
        movers = fields._hmc_movers(law, 1.0, starts, generators, step_size, steps)
        [move(1, 200) for move in movers]
        [move.forget() for move in movers]
        [move(1, draws) for move in movers]
        notes = np.concatenate([move.notes for move in movers])[:, 0]
        changes = notes.reshape(32, draws) if law is model else notes.reshape(draws, 32).T
        assert abs(from_chains(np.exp(-changes), 1.0)) < 4.5
        means, accepted = changes.mean(), np.minimum(1, np.exp(-changes))
        assert abs(accepted.mean() - math.erfc(math.sqrt(means) / 2)) < 0.03  # Gaussian dH; Gupta et al. (1990)


def test_number_of_steps_does_not_look_at_the_field():
    rng = np.random.default_rng(0)
    for mean in range(1, 12):
        drawn = np.array([fields._count_steps(mean, rng) for _ in range(2000)])
        fewest = (mean + 1) // 2
        assert drawn.min() == fewest and drawn.max() == 2 * mean - fewest
        spread = math.sqrt(((2 * (mean - fewest) + 1) ** 2 - 1) / 12)
        assert abs(drawn.mean() - mean) <= 4.5 * spread / math.sqrt(2000)


# ---- one update leaves the law unchanged


def exact_pairs(model, beta, n, rng):
    "Independent draws of a field on two sites, by rejection from a Gaussian."
    spread = 1.0
    log_ratio = lambda x: -beta * model.energy(x) + (x**2).sum(-1) / (2 * spread**2)
    grid = np.stack(np.meshgrid(*[np.linspace(-6, 6, 601)] * 2, indexing="ij"), axis=-1)
    bound = log_ratio(grid).max() + 0.01  # the grid misses the maximum by less: its spacing is 0.02
    out = np.empty((0, 2))
    while len(out) < n:
        x = spread * rng.standard_normal((4 * n, 2))
        out = np.concatenate([out, x[np.log(rng.random(len(x))) < log_ratio(x) - bound]])
    return out[:n]


def updated(method, model, beta, starts, seed):
    "Each start after one sweep."
    law = in_torch(model) if method == "hmc by torch" else model
    generators = [np.random.default_rng([seed, 0])]
    if method == "hmc":
        (move,) = fields._phi4_hmc_movers(model, beta, starts[:1], generators, step_size=0.45, steps=3)
        first = np.s_[:1, 1:-1]
    elif method in ("metropolis", "cluster-phi4"):
        (move,), first = fields.METHODS[method].movers(model, beta, starts[:1], generators, width=1.5), np.s_[:]
    if method in ("hmc", "metropolis", "cluster-phi4"):
        out = np.empty_like(starts)
        for k, x in enumerate(starts):
            move.state[0][first] = x
            if method == "hmc":
                fields._close_all(move.arguments[0], move.arguments[4].ghosts, move.arguments[5])
            out[k] = move(1, 1)[0][0, 0]
        return out
    generators = [np.random.default_rng([seed, k]) for k in range(len(starts))]
    if method == "batched":
        (move,) = fields._batched_movers(law, beta, starts, generators, width=1.5)
    else:
        (move,) = fields._gradient_hmc_movers(law, beta, starts, generators, step_size=0.45, steps=3)
    return move(1, 1)[0][:, 0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [Phi4((2,), 0.3, 0.8), Phi4((2,), -0.2, 0.3)])
def test_one_update_leaves_the_law_unchanged(model, method):
    "Independent exact starts, one update, and fresh exact draws: p-values of a two-sample test are uniform."
    n, repeats, beta = 1000, 30, 1.1
    looks = {"x": lambda x: x[:, 0], "xy": lambda x: x[:, 0] * x[:, 1], "S": model.energy, "m": lambda x: abs(x.sum(1))}
    p, pool, moved = {name: [] for name in looks}, [], 0.0
    for repeat in range(repeats):
        rng = np.random.default_rng([31, repeat])
        starts, fresh = exact_pairs(model, beta, n, rng), exact_pairs(model, beta, n, rng)
        after = updated(method, model, beta, starts, seed=1000 + repeat)
        moved = max(moved, (after != starts).mean())
        pool.append((after, fresh))
        for name, look in looks.items():
            p[name].append(stats.ks_2samp(look(after), look(fresh)).pvalue)
    assert moved > 0.3
    after, fresh = (np.concatenate(side) for side in zip(*pool))
    for name, look in looks.items():
        assert stats.kstest(p[name], "uniform").pvalue > 1e-3, (name, np.sort(p[name]))
        assert stats.ks_2samp(look(after), look(fresh)).pvalue > 1e-4, name  # all together: much sharper


# ---- known numbers, and each other


def test_tutorial_point():
    "Albergo et al., arXiv:2101.08176: two-point susceptibility 0.75 +- 0.01 at L = 8, m² = -4, lambda = 8."
    model, found = Phi4.from_mass((8, 8), -4.0, 8.0), {}
    for method in ("hmc", "cluster-phi4", "metropolis"):
        run = sample(model, method=method, draws=12000, chains=24, burn_in=500, seed=2, keep="observables", progress=False)
        mean = gamma_error(run.m2.values)
        found[method] = 64 * mean.value, 64 * mean.error  # <m> = 0 by symmetry
    for method in ("hmc", "cluster-phi4"):
        assert found[method][1] < 0.0035 and abs(found[method][0] - 0.75) < 0.01 + 2 * found[method][1], found
    for a, da in found.values():
        for b, db in found.values():
            assert abs(a - b) <= 4 * math.hypot(da, db), found


@pytest.mark.parametrize("model", [Phi4((5, 6), 0.32, 0.6), Phi4((4, 4, 3), 0.19, 1.1)])
def test_methods_agree(model):
    seen = {}
    for seed, method in enumerate(METHODS):
        law = in_torch(model) if method == "hmc by torch" else in_windows(model) if method == "batched" else model
        draws, settings = (3000, None) if law is model else (80, {"step_size": 0.25, "steps": 8})
        settings = {"width": 0.9} if method == "batched" else settings
        run = sample(law, method=method.split()[0], draws=draws, chains=64, burn_in=100, seed=40 + seed, keep="observables",
                     settings=settings, progress=False)
        seen[method] = {key: run[key].values.mean(axis=1) for key in CHECKED}
    for key in CHECKED:
        for one in METHODS[1:]:
            gap = seen[one][key].mean() - seen["hmc"][key].mean()
            error = math.sqrt((seen[one][key].var(ddof=1) + seen["hmc"][key].var(ddof=1)) / 64)
            assert abs(gap) < 4.5 * error, (key, one, gap / error)


def test_ising_limit():
    "lambda -> infinity: phi = +-1 up to 1/lambda, and beta J = 2 kappa. Only clusters still turn a sign there."
    kappa, gaps = 0.15, []
    exact = enumerate_states(Ising((4, 4)), 2 * kappa).averages["m2"]
    for lam in (25.0, 100.0):
        run = sample(Phi4((4, 4), kappa, lam), method="cluster-phi4", draws=3000, chains=64, burn_in=300, seed=6,
                     keep="observables", progress=False)
        gaps.append((run.m2.values.mean() - exact, run.m2.values.mean(1).std(ddof=1) / 8))
        assert abs(run.phi2.values.mean() - 1) < 1 / lam
    (near, e1), (far, e2) = gaps
    assert abs(near) > 4 * e1  # seen at lambda = 25,
    assert abs(near - 4 * far) < 4 * math.hypot(e1, 4 * e2) + 0.15 * abs(near)  # and four times smaller at 100


# ---- what a user meets


def test_bits():
    model = Phi4((6, 5), 0.3, 0.5)
    for law, method in [(model, m) for m in METHODS[:4]] + [(in_torch(model), "hmc"), (in_torch(model), "batched")]:
        settings = None if law is model else {"width": 1.0} if method == "batched" else {"step_size": 0.2, "steps": 5}
        arguments = dict(method=method, draws=12, burn_in=3, settings=settings, seed=8, progress=False)
        few, more = (sample(law, chains=chains, **arguments) for chains in (2, 5))
        assert np.array_equal(few.config, more.config[:2]), method
        with one_thread():
            assert sample(law, chains=2, **arguments).identical(few)
        assert np.array_equal(sample(law, chains=2, keep="observables", **arguments).energy, few.energy)
        assert not np.array_equal(few.config[0], few.config[1])


def test_observables_and_reports():
    model = Phi4((6, 6), 0.3, 0.5)
    for method, names in (("hmc", {"acceptance", "exp_minus_dH"}), ("cluster-phi4", {"acceptance", "cluster_size"})):
        run = sample(model, method=method, draws=400, seed=1, progress=False)
        assert names <= set(run.attrs) and 0 < run.attrs["acceptance"] <= 1
        for name, values in model.observables(run.config.values).items():
            assert np.array_equal(run[name], values), name


@pytest.mark.parametrize("model", [Phi4((8, 8), 0.3, 0.5), Phi4.from_mass((16, 16), -4.0, 8.0), Phi4((4, 4, 4), 0.19, 1.1)])
def test_tuning_reaches_its_target(model):
    for law, draws in ((model, 300), (in_torch(model), 40))[: 2 if model.ndim == 3 else 1]:
        run = sample(law, method="hmc", draws=draws, chains=16, burn_in=50, seed=3, keep="observables", progress=False)
        assert 0.7 < run.attrs["acceptance"] < 0.9, run.attrs
    for method in ("metropolis", "cluster-phi4", "batched"):
        run = sample(model, method=method, draws=40, chains=4, burn_in=20, seed=3, keep="observables", progress=False)
        assert 0.42 < run.attrs["acceptance"] < 0.58, run.attrs
    own = sample(model, method="hmc", draws=5, burn_in=5, settings={"step_size": 0.05}, seed=1, progress=False)
    assert json.loads(own.attrs["settings"])["step_size"] == 0.05


@pytest.mark.parametrize("far", [30.0, -300.0])
def test_a_far_start_is_left(far):
    "A step that is good near the bottom is refused for ever up there."
    model = Phi4.from_mass((8, 8), -4.0, 8.0)
    starts = np.full((3, 8, 8), far)
    for law in (model, in_torch(model)):
        generators = [np.random.default_rng([2, c]) for c in range(3)]
        movers = fields._hmc_movers(law, 1.0, starts, generators, step_size=0.12, steps=9)
        last = np.concatenate([move(1, 100)[0] for move in movers])[:, 0]
        assert np.abs(last).max() < 3


def test_runaway_trajectories_are_refused():
    "With an absurd step size nothing moves, and nothing overflows."
    model = Phi4((6, 6), 0.2, 0.5)
    with np.errstate(all="raise", under="ignore"):
        for law in (model, in_torch(model)):
            starts = np.random.default_rng(1).standard_normal((2, 6, 6))
            movers = (fields._phi4_hmc_movers if law is model else fields._gradient_hmc_movers)(
                law, 1.0, starts, [np.random.default_rng(c) for c in range(2)], step_size=50.0, steps=20)
            assert np.array_equal(np.concatenate([move(3, 1)[0] for move in movers])[:, -1], starts)


class OnlyEnergy:
    shape, values = (4, 4), "real"

    def energy(self, x):
        return (x**2).sum((-2, -1))


@pytest.mark.parametrize("model, arguments, told", [
    (Phi4((4, 4), 0.2, 0.5), {"method": "hmc", "settings": {"step_size": -0.1}}, "step_size=-0.1"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "hmc", "settings": {"step_size": math.nan}}, "step_size=nan"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "hmc", "settings": {"steps": 0}}, "steps=0"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "hmc", "settings": {"steps": 2.5}}, "steps=2.5"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "hmc", "settings": {"width": 1.0}}, "width"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "metropolis", "settings": {"width": 0.0}}, "width=0.0"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "cluster-phi4", "settings": {"width": "wide"}}, "width='wide'"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "hmc", "beta": 0.0}, "beta=0"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "metropolis", "beta": 0.0}, "beta=0"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "batched", "beta": 0.0}, "beta=0"),
    (Phi4((4, 4), 0.2, 0.5), {"method": "wolff"}, "wolff"),
    (OnlyEnergy(), {"method": "hmc"}, "gradient"),
    (OnlyEnergy(), {"method": "metropolis"}, "Phi4"),
    (OnlyEnergy(), {"method": "cluster-phi4"}, "Phi4"),
    (Ising((4, 4)), {"method": "hmc"}, "hmc"),
    (Ising((4, 4)), {"method": "cluster-phi4"}, "cluster-phi4"),
])
def test_bad_input(model, arguments, told):
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        sample(model, **({"draws": 20, "burn_in": 5, "seed": 1, "progress": False} | arguments))
