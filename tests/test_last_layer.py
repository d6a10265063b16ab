"""The Bayesian last layer against brute force: one Gaussian over all weights and all targets, written out with Kronecker products.

vec stacks the rows of Y (n, d), so that y[(i, a)] has covariance V[a, b] (φᵢᵀ K φⱼ + σᵢ² δᵢⱼ): a matrix of (nd, nd) and nothing clever.
"""
import numpy as np
import pytest
from scipy import stats

from uqphys.architectures import LocalEnergyNet, pair_network
from uqphys.bnn import LastLayer, draw_weights, expectation_maximisation, last_layer_posterior, last_layer_predictive
from uqphys.models import Ising, random_spins

CASES = [(seed, n, p, d) for seed, (n, p, d) in enumerate([(12, 3, 1), (7, 3, 2), (20, 5, 3), (5, 9, 1), (4, 11, 2), (1, 4, 2), (6, 6, 4),
                                                           (30, 1, 2), (3, 20, 3), (2, 2, 1)] * 4)]
problems = pytest.mark.parametrize("case", CASES, ids=lambda c: "seed{}-n{}-p{}-d{}".format(*c))


def positive(rng, k):
    "A random covariance that is not close to diagonal."
    a = rng.standard_normal((k, k + 1))
    return a @ a.T / k + 0.1 * np.eye(k)


def problem(seed, n, p, d):
    "A random regression: features, targets, M, K, V, σ; every third with σ = 1, every fourth badly scaled."
    rng = np.random.default_rng([seed, 77])
    scale = 10.0 ** rng.uniform(-2, 2, p) if seed % 4 == 3 else np.ones(p)
    features, prior_mean = rng.standard_normal((n, p)) * scale, rng.standard_normal((d, p)) / scale
    K, V = positive(rng, p) / np.outer(scale, scale), positive(rng, d)
    sigma = np.ones(n) if seed % 3 == 0 else np.exp(rng.uniform(-1, 1, n))
    targets = features @ prior_mean.T + 2 * rng.standard_normal((n, d))
    return features, targets, prior_mean, K, V, sigma


def brute_force(features, targets, prior_mean, K, V, sigma):
    "Mean (d, p) and covariance (dp, dp) of vec(A) with A's rows stacked, and ln p(Y): from one joint Gaussian."
    (n, p), d = features.shape, targets.shape[1]
    prior = np.kron(V, K)
    design = np.kron(np.eye(d), features)  # stacked targets, output by output
    noise = np.kron(V, np.diag(sigma**2))
    total = design @ prior @ design.T + noise
    residual = (targets - features @ prior_mean.T).T.ravel()
    gain = np.linalg.solve(total, design @ prior).T
    mean = prior_mean.ravel() + gain @ residual
    evidence = -0.5 * (np.linalg.slogdet(total)[1] + residual @ np.linalg.solve(total, residual) + n * d * np.log(2 * np.pi))
    return mean.reshape(d, p), prior - gain @ design @ prior, evidence


def agrees(found, exact):
    "To 1e-8, relative to the largest entry."
    return np.abs(np.asarray(found) - exact).max() <= 1e-8 * max(1.0, np.abs(exact).max())


# ---- posterior and evidence

@problems
def test_posterior_and_evidence_equal_brute_force(case):
    features, targets, prior_mean, K, V, sigma = args = problem(*case)
    found, (mean, covariance, evidence) = last_layer_posterior(*args), brute_force(*args)
    assert agrees(found.mean, mean)
    assert agrees(np.kron(V, found.covariance), covariance)
    assert agrees(found.factor @ found.factor.T, found.covariance)
    assert agrees(found.evidence, evidence)
    G = features @ K @ features.T + np.diag(sigma**2)
    rest = targets - features @ prior_mean.T
    assert agrees(found.misfit, rest.T @ np.linalg.solve(G, rest))


@problems
def test_evidence_is_a_chain_of_predictions(case):
    "ln p(Y) is the sum of ln p(yᵢ | y before): a second way that uses no determinant of the whole."
    features, targets, prior_mean, K, V, sigma = problem(*case)
    mean, covariance, total = prior_mean, K, 0.0
    for phi, y, s in zip(features, targets, sigma):
        spread = (s**2 + phi @ covariance @ phi) * V
        total += stats.multivariate_normal.logpdf(y, mean @ phi, spread)
        step = last_layer_posterior(phi[None], y[None], mean, covariance, V, np.array([s]))
        mean, covariance = step.mean, step.covariance
    whole = last_layer_posterior(*problem(*case))
    assert agrees(whole.evidence, total) and agrees(whole.mean, mean) and agrees(whole.covariance, covariance)


def evidence_without(term, features, targets, prior_mean, K, V, sigma):
    "The evidence in its cheap form, with one term left out on purpose."
    n, d = targets.shape
    fit = last_layer_posterior(features, targets, prior_mean, K, V, sigma)
    logdet = {"noise": 2 * np.log(sigma).sum(), "prior": np.linalg.slogdet(K)[1], "posterior": -np.linalg.slogdet(fit.covariance)[1]}
    terms = {"row": n * np.linalg.slogdet(V)[1], "misfit": np.trace(np.linalg.solve(V, fit.misfit)), "norm": n * d * np.log(2 * np.pi)}
    terms |= {name: d * value for name, value in logdet.items()}
    assert term is None or term in terms
    return -0.5 * sum(value for name, value in terms.items() if name != term)


def test_the_comparison_has_power():
    "The same comparison passes the right formula everywhere, and fails it without ln|K|, or without any other of its terms."
    exact = [brute_force(*problem(*case))[2] for case in CASES]
    judge = lambda term: [agrees(evidence_without(term, *problem(*case)), e) for case, e in zip(CASES, exact)]
    assert all(judge(None))
    for term in ("prior", "posterior", "row", "misfit", "norm"):
        assert not any(judge(term)), term
    flat = [np.all(problem(*case)[-1] == 1) for case in CASES]  # at σ = 1 the noise term is zero
    assert judge("noise") == flat


# ---- expectation maximisation

def data(seed, d=2, p=4, n=40, strength=2.0):
    "Targets of a linear layer with noise that depends on the first direction."
    rng = np.random.default_rng([seed, 5])
    features = np.hstack([np.full((n, 1), 9.0), rng.standard_normal((n, p - 1))])
    directions = rng.standard_normal((n, 2))
    noise = np.exp(0.5 * directions[:, :1]) * (rng.standard_normal((n, d)) @ positive(rng, d))
    return features, features @ rng.standard_normal((d, p)).T + noise, rng.standard_normal((d, p)), positive(rng, p), directions


KINDS = {"scalar": {}, "full": dict(column_covariance="full"), "full with strength": dict(column_covariance="full", strength=6.0)}


@pytest.mark.parametrize("noise", ["constant noise", "noise that varies"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_objective_never_falls(seed, kind, noise):
    features, targets, prior_mean, base, directions = data(seed, d=1 + seed % 3, p=3 + seed % 4, n=(40, 25, 6, 3)[seed % 4] + 2)
    chosen = directions if noise == "noise that varies" else None
    parameters = targets.shape[1] + features.shape[1] + (0 if chosen is None else 2)
    try:
        fit, *_, history = expectation_maximisation(features, targets, prior_mean, base, chosen, iterations=150, tolerance=1e-13, **KINDS[kind])
    except ValueError as refused:  # a full K without a hyper-prior has no best evidence when the data are this few
        assert kind == "full" and len(targets) < parameters and "strength" in str(refused), refused
        return
    assert np.isfinite(history).all() and len(history) > 1
    assert np.diff(history).min() >= -1e-9 * max(1.0, np.abs(history).max())
    assert history[-1] > history[0]


@pytest.mark.parametrize("iterations", [1, 7, 800])
@pytest.mark.parametrize("noise", ["constant noise", "noise that varies"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_belongs_together(kind, noise, iterations):
    "The posterior is that of the K, V and b returned with it, whether the iteration came to its end or was cut off."
    for seed in range(3):
        features, targets, prior_mean, base, directions = data(seed, d=1 + seed, n=30)
        chosen = directions if noise == "noise that varies" else None
        fit, K, V, b, _ = expectation_maximisation(features, targets, prior_mean, base, chosen, iterations=iterations, **KINDS[kind])
        sigma = np.ones(30) if b is None else np.exp(0.5 * np.clip(directions @ b, -20, 20))
        mean, _, evidence = brute_force(features, targets, prior_mean, K, V, sigma)
        assert agrees(fit.evidence, evidence) and agrees(fit.mean, mean)


@pytest.mark.parametrize("seed", range(6))
def test_maximum_is_a_maximum(seed):
    "No scaling of K or V, and no shift of b, near the end of the iteration has a better evidence."
    features, targets, prior_mean, base, directions = data(seed)
    fit, K, V, b, _ = expectation_maximisation(features, targets, prior_mean, base, directions, iterations=3000, tolerance=1e-13)
    sigma = lambda b: np.exp(0.5 * directions @ b)
    at = lambda K=K, V=V, b=b: last_layer_posterior(features, targets, prior_mean, K, V, sigma(b)).evidence
    for step in (1 / 1.05, 1.05):
        assert at(K=K * step) <= fit.evidence + 1e-4 and at(V=V * step) <= fit.evidence + 1e-4
    for shift in 0.05 * np.vstack([np.eye(2), -np.eye(2)]):
        assert at(b=b + shift) <= fit.evidence + 1e-4


# ---- the law of total variance

@pytest.mark.parametrize("case", CASES[:12:2] + CASES[3:6], ids=str)
def test_total_variance_is_that_of_brute_force(case):
    "Var y = E Var(y|A) + Var E(y|A): aleatoric and epistemic parts, each against the joint Gaussian."
    _, targets, _, _, V, _ = args = problem(*case)
    rng, d = np.random.default_rng(case[0]), targets.shape[1]
    new, sigma = rng.standard_normal((5, args[0].shape[1])), np.exp(rng.uniform(-1, 1, 5))
    mean, covariance, _ = brute_force(*args)
    believed = last_layer_predictive(new, last_layer_posterior(*args), V, sigma, 10, 0)
    design = np.kron(np.eye(d), new)
    epistemic = np.diag(design @ covariance @ design.T).reshape(d, 5).T
    aleatoric = sigma[:, None] ** 2 * np.diag(V)
    assert agrees(believed.mean, new @ mean.T)
    assert agrees(believed.epistemic, epistemic) and agrees(believed.aleatoric, aleatoric)
    assert np.array_equal(believed.variance, believed.epistemic + believed.aleatoric)
    assert agrees(believed.variance, epistemic + aleatoric)


def believed(draws, seed=0, n=6, d=2):
    "A predictive at n inputs with many joint draws, and what its parts are exactly."
    features, targets, prior_mean, K, V, sigma = args = problem(1, 20, 5, d)
    new, noise = features[:n] * 1.3, sigma[:n]
    posterior = last_layer_posterior(*args)
    return last_layer_predictive(new, posterior, V, noise, draws, seed), posterior, new, noise, V


def test_total_variance_of_samples():
    """Tower rule over weight draws: given a draw, samples of y vary by the noise; their means vary by the epistemic part.

    Each of the 24 z-scores below is a standard normal in the limit; at |z| < 5 a right program fails with probability < 24 x 6e-7 = 1.4e-5.
    """
    k, copies = 4000, 8
    p, *_ = believed(k)
    rng = np.random.default_rng(3)
    given = p.draws[None] + rng.multivariate_normal(np.zeros(2), p.correlation, (copies, k, 6)) * np.sqrt(p.aleatoric)
    within, between = given.var(axis=0, ddof=1).mean(axis=0), p.draws.var(axis=0, ddof=1)
    samples = p.sample(k * copies, seed=4)
    z = [(within / p.aleatoric - 1) * np.sqrt(k * (copies - 1) / 2), (between / p.epistemic - 1) * np.sqrt((k - 1) / 2)]
    assert np.abs(z).max() < 5
    # each draw is used `copies` times: its epistemic part counts k times only
    error = np.sqrt(2 * (p.epistemic**2 / k + (p.aleatoric**2 + 2 * p.aleatoric * p.epistemic) / (k * copies)))
    assert np.abs((samples.var(axis=0) - p.variance) / error).max() < 5
    assert np.abs((samples.mean(axis=0) - p.mean) / np.sqrt(p.epistemic / k + p.aleatoric / (k * copies))).max() < 5


def whitened(draws, p, posterior, new, V):
    "Joint draws in coordinates where they are independent standard normals if the program is right: (k, rank * d)."
    cut = np.linalg.svd(new @ posterior.factor, full_matrices=False)
    keep = cut[1] > 1e-10 * cut[1][0]
    back = (cut[0] / cut[1])[:, keep]
    out = np.linalg.cholesky(V)
    z = np.einsum("kna,nr->kra", draws - p.mean, back)
    return np.linalg.solve(out, z.reshape(-1, V.shape[0]).T).T.reshape(len(draws), -1)


def p_value(z):
    "Of k draws of q numbers: are means, variances and covariances those of independent standard normals?"
    k, q = z.shape
    mean = k * (z.mean(0) ** 2).sum()
    covariance = z.T @ z / k - np.eye(q)
    upper = np.triu_indices(q, 1)
    squares = k * ((covariance[upper] ** 2).sum() + (np.diag(covariance) ** 2).sum() / 2)
    return min(stats.chi2.sf(mean, q), stats.chi2.sf(squares, q * (q + 1) / 2))


def test_joint_draws_have_the_posterior_covariance_across_inputs():
    "With the stated level a right program fails with probability 2 x 2 x 1e-5; here the seeds are fixed, so it never will again."
    p, posterior, new, _, V = believed(20000, seed=11)
    assert p_value(whitened(p.draws, p, posterior, new, V)) > 1e-5
    weights = draw_weights(posterior, V, 20000, 12)
    white = np.linalg.solve(posterior.factor, (weights - posterior.mean).reshape(-1, 5).T).T.reshape(20000, 2, 5)
    white = np.linalg.solve(np.linalg.cholesky(V), white.swapaxes(0, 1).reshape(2, -1)).reshape(2, 20000, 5)
    assert p_value(white.swapaxes(0, 1).reshape(20000, -1)) > 1e-5


def test_the_test_of_draws_has_power():
    "Draws that are right at every input but independent across inputs, or 3 % too wide, are found out."
    p, posterior, new, _, V = believed(20000, seed=11)
    rng = np.random.default_rng(0)
    apart = np.stack([rng.permutation(p.draws[:, i]) for i in range(p.draws.shape[1])], axis=1)
    assert p_value(whitened(apart, p, posterior, new, V)) < 1e-5
    wide = p.mean + 1.03 * (p.draws - p.mean)
    assert p_value(whitened(wide, p, posterior, new, V)) < 1e-5
    assert p_value(whitened(p.draws + 0.06 * np.sqrt(p.epistemic), p, posterior, new, V)) < 1e-5


# ---- the whole surrogate

def fitted(**options):
    "A LastLayer on 60 configurations of a lattice with squares, two outputs if asked."
    outputs = options.pop("outputs", 1)
    network = options.pop("network", None) or LocalEnergyNet(hidden=(5,), outputs=outputs, seed=2)
    model, x = Ising((4, 4), K=0.3), random_spins((4, 4), 60, 3)
    y = np.stack([model.energy(x), x.sum((-2, -1)) ** 2.0], 1)[:, :outputs]
    return LastLayer(network, seed=1, **dict(dict(epochs=15), **options)).fit(x, y, progress=False)


SURROGATES = {"scalar": {}, "full": dict(column_covariance="full", strength=30.0), "heteroscedastic": dict(heteroscedastic=True),
              "two outputs": dict(outputs=2, heteroscedastic=True), "pairs": dict(network=pair_network())}


@pytest.mark.parametrize("kind", SURROGATES)
def test_saved_and_loaded_to_the_same_bits(kind, tmp_path):
    surrogate = fitted(**SURROGATES[kind])
    surrogate.save(tmp_path / "layer.pt")
    loaded = LastLayer.load(tmp_path / "layer.pt")
    x = random_spins((6, 6), 20, 9)
    one, two = surrogate.predict(x), loaded.predict(x)
    for name in ("mean", "epistemic", "aleatoric", "draws", "correlation"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    assert surrogate.pattern_energies().tobytes() == loaded.pattern_energies().tobytes()
    assert all(np.array_equal(a, b) for a, b in zip(surrogate.posterior, loaded.posterior)), "posterior and evidence"
    assert (loaded.options, loaded.flip_symmetric, loaded.features_trained) == (surrogate.options, surrogate.flip_symmetric, surrogate.features_trained)
    assert np.array_equal(loaded.residual, surrogate.residual)
    loaded.save(tmp_path / "again.pt")
    third = LastLayer.load(tmp_path / "again.pt").predict(x)
    assert third.draws.tobytes() == one.draws.tobytes()


@pytest.mark.parametrize("kind", SURROGATES)
def test_a_fitted_surrogate_is_the_posterior_of_its_features(kind):
    "What `fit` holds is what brute force makes of the features, K, V and σ that it ended with."
    surrogate, model, x = fitted(**SURROGATES[kind]), Ising((4, 4), K=0.3), random_spins((4, 4), 60, 3)
    d = len(surrogate.row_covariance)
    y = np.stack([model.energy(x), x.sum((-2, -1)) ** 2.0], 1)[:, :d]
    features, belief = surrogate.architecture.features(x).detach().numpy(), surrogate.predict(x)
    prior_mean = np.zeros((d, features.shape[1]))
    prior_mean[:, 0] = y.mean(0) / 16
    sigma = np.sqrt(belief.aleatoric[:, 0] / surrogate.row_covariance[0, 0])
    mean, covariance, evidence = brute_force(features, y, prior_mean, surrogate.column_covariance, surrogate.row_covariance, sigma)
    scale = np.abs(y).max()
    assert np.abs(features @ mean.T - belief.mean).max() < 1e-6 * scale
    assert abs(evidence - surrogate.posterior.evidence) < 1e-5 * abs(evidence)
    assert np.diff(surrogate.evidence).min() >= -1e-9 * np.abs(surrogate.evidence).max()
    design = np.kron(np.eye(d), features)
    epistemic = np.diag(design @ covariance @ design.T).reshape(d, -1).T
    assert np.abs(epistemic - belief.epistemic).max() < 1e-5 * belief.variance.max()


def test_two_outputs_without_a_network_of_ones_own():
    "The default network takes as many outputs as the targets have."
    model, x = Ising((4, 4), K=0.3), random_spins((4, 4), 40, 3)
    y = np.stack([model.energy(x), x.sum((-2, -1)) ** 2.0], 1)
    assert LastLayer(seed=0, epochs=5).fit(x, y, progress=False).predict(x).mean.shape == (40, 2)
