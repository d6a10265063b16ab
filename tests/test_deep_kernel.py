"Deep kernels: dense algebra on features, the witness against the evidence, calibration where the model is true, files, refusals."

import numpy as np
import pytest
import torch
from common import assert_complete, assert_refused
from scipy.stats import kstest, multivariate_normal

from uqphys import deep_kernel as module
from uqphys.architectures import MLP, LocalEnergyNet
from uqphys.deep_kernel import DeepKernelGP
from uqphys.models import random_spins
from uqphys.sampling import one_thread
from uqphys.training import _parts, as_samples, load_state, save_state, train


@pytest.fixture(autouse=True)
def single():
    with one_thread():
        yield


def data(n=30, d=1, seed=0):
    "Inputs (n, 2) and noisy waves (n, d)."
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 2))
    return x, np.stack([np.sin((1 + k) * x[:, 0]) * x[:, 1] for k in range(d)], 1) + 0.1 * rng.standard_normal((n, d))


def net(d=1, hidden=(12, 6), seed=1):
    return MLP((2,), hidden=hidden, outputs=d, seed=seed)


def columns(network, x, known):
    "Features without the first, of spread 1 on the known inputs."
    phi, base = (network.features(v).detach().numpy()[:, 1:] for v in (x, known))
    return (phi - base.mean(0)) / base.std(0)


def k0(name, a, b, length):
    "Kernels of variance 1 from their formulas."
    r = np.linalg.norm(a[:, None] - b[None], axis=-1) / length
    return {"rbf": lambda r: np.exp(-(r**2) / 2), "matern12": lambda r: np.exp(-r), "matern32": lambda r: (1 + 3**0.5 * r) * np.exp(-(3**0.5) * r),
            "matern52": lambda r: (1 + 5**0.5 * r + 5 * r**2 / 3) * np.exp(-(5**0.5) * r)}[name](r)


@pytest.mark.parametrize("name", ["rbf", "matern12", "matern32", "matern52"])
@pytest.mark.parametrize("noise", ["homoscedastic", "given"])
def test_predictions_are_those_of_dense_conditioning(name, noise):
    x, y = data(d=2)
    variance = np.random.default_rng(5).uniform(0.005, 0.05, y.shape) if noise == "given" else None
    network, t = net(2), np.random.default_rng(6).uniform(-3, 3, (5, 2))
    gp = DeepKernelGP(network, name, epochs=0, noise=noise, restarts=0, draws=4000).fit(x, y, variance=variance, progress=False)
    z, new, belief = columns(network, x, x), columns(network, t, x), gp.predict(t)
    for k in range(2):
        told = gp.hyperparameters[k]
        G = told["variance"] * k0(name, z, z, told["lengthscale"]) + np.diag(np.full(30, told["noise_variance"]) if variance is None else variance[:, k])
        cross = told["variance"] * k0(name, z, new, told["lengthscale"])
        mean = y[:, k].mean() + cross.T @ np.linalg.solve(G, y[:, k] - y[:, k].mean())
        covariance = told["variance"] * k0(name, new, new, told["lengthscale"]) - cross.T @ np.linalg.solve(G, cross)
        np.testing.assert_allclose(belief.mean[:, k], mean, atol=1e-7)
        np.testing.assert_allclose(gp.mean(t)[:, k], mean, atol=1e-7)
        np.testing.assert_allclose(belief.epistemic[:, k], covariance.diagonal(), atol=1e-7)
        assert abs(gp.log_marginal[k] - multivariate_normal(np.full(30, y[:, k].mean()), G).logpdf(y[:, k])) < 1e-6
        white = np.linalg.solve(np.linalg.cholesky(covariance + 1e-9 * np.eye(5)), (belief.draws[:, :, k] - mean).T)
        scores = (white @ white.T / 4000 - np.eye(5)) * np.sqrt(4000 / (1 + np.eye(5)))  # joint draws: their covariance, standard normal
        assert np.abs(scores).max() < 4.5
    assert (belief.aleatoric == (0 if variance is not None else [told["noise_variance"] for told in gp.hyperparameters])).all()
    assert not gp.features_trained and not gp.doubts


def test_inducing_inputs_among_all_features_believe_what_the_exact_process_does():
    x, y = data(40)
    exact, sparse = (DeepKernelGP(net(), epochs=0, restarts=0, inducing=m).fit(x, y, progress=False) for m in (None, 40))
    told = dict(exact.gp.processes[0].named_parameters())
    with torch.no_grad():
        for name, value in sparse.gp.processes[0].named_parameters():
            value.copy_(told[name])
    module._condition(sparse.gp.processes[0])
    t = np.random.default_rng(6).uniform(-2, 2, (20, 2))
    for name in ("mean", "epistemic"):
        np.testing.assert_allclose(getattr(sparse.predict(t), name), getattr(exact.predict(t), name), atol=1e-5)
    np.testing.assert_allclose(sparse.mean(t), sparse.predict(t).mean, atol=1e-9)


@pytest.mark.parametrize("inducing", [None, 35])
def test_the_witness_is_the_rows_that_the_training_held_out(inducing):
    x, y = data(40)
    gp = DeepKernelGP(net(), epochs=0, restarts=0, inducing=inducing, seed=3).fit(x, y, progress=False)
    learn, judge = (np.sort(rows) for rows in _parts(as_samples(x, y), 0.2, 3))
    assert np.array_equal(gp.held_out["rows"], judge) and len(judge) == 8
    told, z = gp.hyperparameters[0], columns(gp.architecture, x, x)
    K = told["variance"] * k0("rbf", z, z, told["lengthscale"])
    G, cross = K[np.ix_(learn, learn)] + told["noise_variance"] * np.eye(32), K[np.ix_(learn, judge)]
    error = y[judge, 0] - y.mean() - cross.T @ np.linalg.solve(G, y[learn, 0] - y.mean())
    total = told["variance"] - (cross * np.linalg.solve(G, cross)).sum(0) + told["noise_variance"]
    tolerance = 1e-6 if inducing is None else 0.02  # inducing inputs are not all of the data
    assert abs(gp.held_out["square"][0] - np.mean(error**2 / total)) < tolerance
    assert abs(gp.held_out["log_score"][0] + 0.5 * np.mean(error**2 / total + np.log(2 * np.pi * total))) < tolerance


def test_without_tuning_the_features_are_those_of_train():
    x, y = data()
    gp, network = DeepKernelGP(net(), epochs=30, restarts=0, seed=4).fit(x, y, progress=False), net()
    train(network, x, y, seed=4, epochs=30, progress=False)
    np.testing.assert_array_equal(gp.architecture.features(x).detach().numpy(), network.features(x).detach().numpy())
    assert gp.features_trained and "features were trained" in gp.doubts[0]
    assert all(torch.equal(a, b) for a, b in zip(gp.template.parameters(), net().parameters()))


def test_slopes_by_weights_are_those_of_differences():
    x, y = data(20)
    gp = DeepKernelGP(net(), epochs=0, restarts=0).fit(x, y, progress=False)
    process, weight = gp.gp.processes[0], gp.architecture.shared[0].weight

    def evidence():
        process.x = gp.columns.with_slopes(x)
        return process.log_posterior()

    slope = torch.autograd.grad(evidence(), weight)[0]
    for i, j in ((0, 0), (3, 1), (11, 0)):
        ends = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                weight[i, j] += step
            ends.append(evidence().item())
        with torch.no_grad():
            weight[i, j] += 1e-5
        assert abs((ends[0] - ends[1]) / 2e-5 - slope[i, j].item()) < 1e-4 * (1 + abs(slope[i, j].item()))


def overfit(tune, seed=0):
    "Few noisy examples of many inputs."
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (60, 5))
    y = np.sin(2 * x[:, :1]) + 0.5 * x[:, 1:2] + 0.3 * rng.standard_normal((60, 1))
    return DeepKernelGP(MLP((5,), hidden=(32, 32), seed=0), epochs=0, tune=tune, restarts=0, seed=seed).fit(x, y, progress=False), x


def test_the_evidence_overfits_and_the_witness_catches_it():
    fell = []
    for seed in range(4):
        gp, _ = overfit(250, seed)
        evidence, score = (np.array(gp.history[name]) for name in ("evidence", "log_score"))
        best = score.argmax()
        fell.append(score.max() - score[-1])
        assert evidence[-1] > evidence[0] + 10 and len(evidence) == 51
        assert abs(gp.held_out["log_score"][0] + np.log(gp.gp.outside[1][0]) - score.max()) < 1e-6  # what was kept is what was judged
        assert (fell[-1] > 0.05 and evidence[-1] > evidence[best]) == any("tuning went back" in text for text in gp.doubts)
    assert np.mean(np.array(fell) > 1) > 0.7


def test_what_tuning_keeps_is_the_step_that_scored_best():
    x, y = data()
    first = DeepKernelGP(net(), epochs=0, restarts=0).fit(x, y, progress=False)
    learn, judge = (torch.from_numpy(np.sort(rows)) for rows in _parts(as_samples(x, y), 0.2, 0))
    first.options["tune"] = 40
    states, real = [], module._judged
    module._judged = lambda *a: states.append([p.detach().clone() for p in first.architecture.parameters()]) or real(*a)
    try:
        history = module._tune(first, as_samples(x, y), learn, judge, False)
    finally:
        module._judged = real
    best = int(np.argmax(history["log_score"]))
    assert all(torch.equal(a, b) for a, b in zip(states[best], first.architecture.parameters())) and history["step"][-1] == 40


@pytest.mark.parametrize("noise", ["homoscedastic", "given"])
def test_a_function_of_the_prior_is_covered_as_often_as_it_should(noise):
    "Functions drawn from the kernel on the features of a network that is known: squared errors over believed variance, over 60 functions."
    rng, z, network = np.random.default_rng(9), [], net(hidden=(16, 8))
    x, t = rng.uniform(-2, 2, (120, 2)), rng.uniform(-2, 2, (60, 2))
    both = columns(network, np.concatenate([x, t]), x)
    root = np.linalg.cholesky(k0("rbf", both, both, 2.0) + 1e-9 * np.eye(180))
    for k in range(60):
        f = root @ rng.standard_normal(180)
        variance = rng.uniform(0.05, 0.4, (120, 1)) ** 2 if noise == "given" else np.full((120, 1), 0.04)
        y = f[:120, None] + np.sqrt(variance) * rng.standard_normal((120, 1))
        gp = DeepKernelGP(network, epochs=0, noise=noise, restarts=0, draws=2).fit(x, y, variance=variance if noise == "given" else None, progress=False)
        belief = gp.predict(t[k : k + 1])
        z.append((belief.mean[0, 0] - f[120 + k]) / np.sqrt(belief.epistemic[0, 0]))
    assert kstest(z, "norm").pvalue > 1e-3 and abs(np.mean(np.square(z)) - 1) < 4 * np.sqrt(2 / 60)


def test_errors_that_are_told_too_small_are_a_doubt():
    x, y = (np.repeat(v, 4, 0) for v in data(20))  # four targets for each input, so that no function goes through all
    y = y + 0.5 * np.random.default_rng(1).standard_normal(y.shape)
    for variance, doubted in ((1e-4, True), (0.26, False)):
        gp = DeepKernelGP(net(), epochs=0, noise="given", restarts=0).fit(x, y, variance=variance, progress=False)
        assert any("times as large as believed" in text for text in gp.doubts) == doubted


def test_spins_are_taken_as_they_are_and_symmetries_hold():
    spins = random_spins((4, 4), 60, seed=0)
    energy = -(spins * (np.roll(spins, 1, 1) + np.roll(spins, 1, 2))).sum((1, 2), dtype=float)[:, None]
    assert spins.dtype == np.int8
    gp = DeepKernelGP(epochs=20, noise="none", kernel="matern52", restarts=0).fit(spins, np.exp(energy / 16), progress=False)
    assert type(gp.architecture) is LocalEnergyNet
    np.testing.assert_allclose(gp.mean(-np.roll(spins, 1, 1)), gp.mean(spins), atol=1e-7)
    with pytest.raises(ValueError, match="m, 4, 4"):
        gp.mean(random_spins((6, 6), 3, seed=1))


class Plain(torch.nn.Module):
    "A torch module as `train` takes it."

    extensive = False

    def __init__(self):
        super().__init__()
        self.layer, self.head = torch.nn.Linear(2, 5, dtype=torch.float64), torch.nn.Linear(6, 1, bias=False, dtype=torch.float64)

    def features(self, x):
        return torch.cat([torch.ones(len(x), 1, dtype=torch.float64), torch.tanh(self.layer(x))], 1)

    def forward(self, x):
        return self.head(self.features(x))


def test_a_plain_torch_module_can_be_used_but_not_written(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = Plain()
    gp = DeepKernelGP(plain, epochs=10, tune=5, restarts=0).fit(*data(), progress=False)
    assert gp.predict(data()[0]).draws.shape == (200, 30, 1)
    with pytest.raises(ValueError, match="cannot be written"):
        gp.save(tmp_path / "gp")


@pytest.mark.parametrize("more", [dict(), dict(inducing=8), dict(tune=10)], ids=str)
def test_files_seeds_and_refusals_leave_everything_as_it_was(more, tmp_path):
    x, y = data(d=2)
    make = lambda seed=0: DeepKernelGP(net(2), epochs=10, restarts=1, seed=seed, **more)
    gp, other, third = make().fit(x, y, progress=False), make().fit(x, y, progress=False), make(1).fit(x, y, progress=False)
    before = gp.predict(x).draws
    assert np.array_equal(before, other.predict(x).draws) and not np.array_equal(before, third.predict(x).draws)
    gp.save(tmp_path / "gp")
    again = DeepKernelGP.load(tmp_path / "gp")
    assert np.array_equal(again.predict(x).draws, before) and repr(again) == repr(gp) and again.doubts == gp.doubts and again.history == gp.history
    assert np.array_equal(again.fit(x, y, progress=False).predict(x).draws, before)  # template and options, too
    for call in (lambda: gp.fit(x, np.full_like(y, np.nan), progress=False), lambda: gp.fit(x, y, variance=-1.0, progress=False)):
        with pytest.raises(ValueError):
            call()
    assert np.array_equal(gp.predict(x).draws, before)
    bad = (tmp_path / "gp").read_bytes()
    (tmp_path / "gp").write_bytes(bad[: len(bad) // 2])
    with pytest.raises(ValueError, match="gp"):
        DeepKernelGP.load(tmp_path / "gp")


@pytest.mark.parametrize("where", ["train", "_judged", "_conclude_deep"])
def test_an_interrupted_fit_changes_nothing(where, monkeypatch):
    x, y = data()
    gp = DeepKernelGP(net(), epochs=5, tune=5, restarts=0).fit(x, y, progress=False)
    before, text = gp.predict(x).draws, repr(gp)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        gp.fit(x, 2 * y, progress=False)
    assert np.array_equal(gp.predict(x).draws, before) and repr(gp) == text


def test_a_damaged_file_is_named(tmp_path):
    quick().fit(X, Y, progress=False).save(tmp_path / "deep")
    state = load_state(tmp_path / "deep", "DeepKernelGP")
    damages = [{key: value for key, value in state.items() if key != lost} for lost in state if lost != "kind"]
    for damaged in (*damages, state | dict(columns=[v[:3] for v in state["columns"]])):
        save_state(tmp_path / "hurt", damaged)
        with pytest.raises(ValueError, match="hurt.*damaged.*DeepKernelGP.save"):
            DeepKernelGP.load(tmp_path / "hurt")


X, Y = data(12)
NAME = "deep_kernel.DeepKernelGP"
quick = lambda **more: DeepKernelGP(net(), epochs=0, restarts=0, **more)
BAD = [
    (NAME, lambda t: DeepKernelGP("net"), "architecture", "net", "features"),
    (NAME, lambda t: DeepKernelGP(torch.nn.Linear(2, 1)), "architecture", "Linear", "features"),
    (NAME, lambda t: DeepKernelGP(kernel="cubic"), "kernel", "cubic", "one of"),
    (NAME, lambda t: DeepKernelGP(kernel=None), "kernel", "None", "one of"),
    (NAME, lambda t: DeepKernelGP(epochs=-1), "epochs", "-1", ">= 0"),
    (NAME, lambda t: DeepKernelGP(tune=0.5), "tune", "0.5", ">= 0"),
    (NAME, lambda t: DeepKernelGP(tune=5, inducing=5), "tune", "5", "expected 0"),
    (NAME, lambda t: DeepKernelGP(noise="much"), "noise", "much", "one of"),
    (NAME, lambda t: DeepKernelGP(noise="none", inducing=5), "noise", "none", "one of"),
    (NAME, lambda t: DeepKernelGP(inducing=0), "inducing", "0", ">= 1"),
    (NAME, lambda t: DeepKernelGP(inducing=X), "inducing", "array", ">= 1"),
    (NAME, lambda t: DeepKernelGP(restarts=-1), "restarts", "-1", ">= 0"),
    (NAME, lambda t: DeepKernelGP(draws=1), "draws", "1", ">= 2"),
    (NAME, lambda t: DeepKernelGP(seed=-1), "seed", "-1", ">= 0"),
    (NAME, lambda t: quick().fit(X[:4], Y[:4]), "x", "4", "5"),
    (NAME, lambda t: quick().fit(X, Y[:5]), "y", "5", "12"),
    (NAME, lambda t: quick().fit(X, np.full_like(Y, np.inf)), "y", "inf", "finite"),
    (NAME, lambda t: quick().fit(X, Y, groups=np.zeros(12, int)), "groups", "12 rows", "at least two chains"),
    (NAME, lambda t: quick().fit(np.ma.masked_greater(X, 0.0), Y), "x", "mask", "without"),
    (NAME, lambda t: quick().fit(X, Y, progress=2), "progress", "2", "True"),
    (NAME, lambda t: quick().fit(X, Y, variance=-1.0), "variance", "-1", ">= 0"),
    (NAME, lambda t: quick(noise="given").fit(X, Y), "variance", "None", "variance of each"),
    (NAME, lambda t: quick(noise="none").fit(X, Y, variance=1.0), "variance", "1", "None"),
    (NAME, lambda t: quick(inducing=13).fit(X, Y), "inducing", "13", "12"),
    (NAME, lambda t: quick().fit(np.tile(X[:1], (12, 1)), Y), "architecture", "features", "tell the inputs apart"),
    (NAME, lambda t: DeepKernelGP(net(), epochs=1, restarts=0).fit(X, np.tile(Y, 2)), "y", "12, 2", "12, 1"),
    (NAME, lambda t: DeepKernelGP().predict(X), "fit", "process", "call fit"),
    (NAME, lambda t: DeepKernelGP().mean(X), "fit", "process", "call fit"),
    (NAME, lambda t: DeepKernelGP().save("here"), "fit", "process", "call fit"),
    (NAME, lambda t: DeepKernelGP().features_trained, "fit", "process", "call fit"),
    (NAME, lambda t: t["deep"].predict(np.zeros((4, 3))), "x", "4, 3", "m, 2"),
    (NAME, lambda t: t["deep"].mean(np.full((4, 2), np.nan)), "x", "nan", "finite"),
    (NAME, lambda t: t["deep"].predict(X, variance=np.ones(3)), "variance", "3", "12, 1"),
    (NAME, lambda t: DeepKernelGP.load("nowhere"), "path", "nowhere", "file"),
]


@pytest.fixture(scope="module")
def things():
    return dict(deep=quick().fit(X, Y, progress=False))


@pytest.mark.parametrize("k", range(len(BAD)), ids=lambda k: f"{k}-{BAD[k][2]}-{BAD[k][3]}")
def test_bad_calls_are_refused(k, things):
    _, call, argument, value, accepted = BAD[k]
    assert_refused(call, things, argument, value, accepted)


def test_every_public_callable_is_walked():
    assert_complete([module], BAD, {})
