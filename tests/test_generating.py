"""Generators trained to a law: the free energy, the weights and their errors, resuming to the bit, doubts, bad calls."""
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from common import assert_complete, assert_refused, assert_threads_do_not_matter, row_name, rows_of
from uqphys import generating
from uqphys.analysis import Estimate
from uqphys.architectures import Network
from uqphys.autoregressive import AutoregressiveNet
from uqphys.datasets import Samples, samples
from uqphys.exact import BETA_C, all_states, enumerate_states, kaufman
from uqphys.flows import CheckerboardFlow
from uqphys.generating import Weighted, WeightedEstimate, importance_weights, train_generator
from uqphys.models import Ising, Phi4, random_fields, random_spins
from uqphys.sampling import sample
from uqphys.training import load_state, save_state

STUDY = json.loads((Path(__file__).parents[1] / "studies" / "free_energy.json").read_text())
PLAIN = [f for f in STUDY["networks"] if f["kind"] == "plain"]


def shaken(shape=(3, 3), spread=0.3, seed=0, **options):
    "A network with random weights: some law that is not the Boltzmann law."
    net, generator = AutoregressiveNet(shape, **options), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p += spread * torch.randn(p.shape, dtype=p.dtype, generator=generator)
    return net


def log_laws(net, model, beta):
    "ln q and -beta E of all states, from an enumeration."
    states = np.concatenate(list(all_states(model.shape)))
    with torch.no_grad():
        return net.log_prob(states).numpy(), -beta * model.energy(states)


# ---- the study's targets

def test_the_study_meets_its_targets_at_the_critical_point():
    found = [f["result"] for f in PLAIN if f["L"] == 8 and f["beta"] == BETA_C]
    assert len(found) >= 3
    for r in found:
        assert abs(r["exact"] - kaufman(8, BETA_C).lnZ) < 1e-9
        assert abs(r["ln_z"] - r["exact"]) < 3 * r["error"] < 0.001 * r["exact"] and r["trusted"]
        assert 0 < -(r["raw"] - -r["exact"]) / -r["exact"] < 0.003
        assert abs(r["ess"] - r["chain_ess"]) < 0.05  # seen from both sides


def test_the_errors_of_the_study_are_right():
    learned = [f["result"] for f in PLAIN if f["beta"] < 0.7 and f["L"] == 8]  # each has random numbers of its own
    z = np.concatenate([r["repeated_z"] for r in learned])
    assert all(r["trusted"] for r in learned) and len(z) >= 300 and stats.kstest(z, "norm").pvalue > 0.001 and abs(z.std() - 1) < 0.12
    for name in ("energy", "abs_m"):
        averages = np.array([(r["averages"][name][0] - r["averages"][name][2]) / r["averages"][name][1] for r in learned])
        assert len(averages) >= 15 and abs(averages).max() < 4 and (averages**2).mean() < 2.2


def test_the_study_shows_what_can_go_wrong():
    ess = {L: np.mean([f["result"]["ess"] for f in PLAIN if f["L"] == L and f["beta"] == BETA_C]) for L in (4, 8, 12, 16)}
    assert ess[4] > ess[8] > ess[12] > ess[16]
    late = [f for f in STUDY["networks"] if f["kind"] == "late start"]
    assert late and all(f["result"]["pareto_k"] > 0.7 and not f["result"]["trusted"] for f in late)
    assert all(f["result"]["raw_excess"] < 0.003 and f["result"]["chain_ess"] < 0.2 < f["result"]["ess"] for f in late), "its own draws flatter a network"
    assert not any(f["result"]["trusted"] for f in PLAIN if abs(f["result"]["z"]) > 4), "what is far off at once is not trusted"


def test_what_is_taught_by_a_chain_is_better_and_not_cured():
    late = [f for f in STUDY["networks"] if f["kind"] == "late start"]
    both = [f for f in late if f["taught"]["trusted"]]
    before, after = (np.concatenate([f[name]["repeated_z"] for f in both]) for name in ("result", "taught"))
    assert len(both) == 2 and len(after) == 40 and all(f["taught"]["chain_ess"] > 0.4 > f["result"]["chain_ess"] for f in late)
    assert before.mean() < after.mean() - 1 and all(abs(f["taught"]["z"]) < abs(f["result"]["z"]) for f in late), "better"
    assert after.mean() < -2.5 / len(after) ** 0.5 and (abs(after) > 3).sum() == 3, "trusted, and its errors too small: the notebook says so"


# ---- training, for real

@pytest.fixture(scope="module")
def critical():
    net, model = AutoregressiveNet((8, 8)), Ising((8, 8))
    history = train_generator(net, model, BETA_C, seed=1, steps=250, samples=250, progress=False)
    return SimpleNamespace(net=net, model=model, history=history, w=importance_weights(net, model, BETA_C, n=20_000, seed=2))


def test_the_free_energy_at_the_critical_point(critical):
    exact = -kaufman(8, BETA_C).lnZ / BETA_C / 64
    f, raw = critical.w.free_energy(), critical.w.free_energy(reweighted=False)
    assert abs(f.value - exact) < 3 * f.error < 0.001 * abs(exact) and critical.w.trusted
    assert 0 < (raw.value - exact) / abs(exact) < 0.003 and raw.value - exact > 3 * raw.error, "the raw value is a bound, and not the value"
    energy = critical.w.expectation("energy")
    assert abs(energy.value - kaufman(8, BETA_C).energy) < 3 * energy.error < 0.03


def test_the_history_says_what_happened(critical):
    h = critical.history
    assert h.direction == "reverse" and len(h.beta) == len(h.objective) == len(h.spread) == len(h.slope) == 250 and not h.held_out
    assert h.beta[0] == BETA_C / 4 and h.beta[125:] == [BETA_C] * 125 and (np.diff(h.beta) >= 0).all()
    assert h.spread[-1] < 0.3 < h.spread[0] or h.spread[-1] < 0.5 * max(h.spread)


@pytest.mark.parametrize("anneal", (0.5, 0.999, 1.0))
@pytest.mark.parametrize("steps", (1, 2, 7))
def test_the_last_step_is_at_the_temperature_that_was_asked_for(anneal, steps):
    history = train_generator(AutoregressiveNet((2, 3)), Ising((2, 3)), 0.4, seed=0, steps=steps, samples=5, anneal=anneal, progress=False)
    assert history.beta[-1] == 0.4 and len(history.beta) == steps and (steps == 1 or history.beta[0] == 0.1)


def test_nothing_global_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), torch.get_num_threads()
    net = AutoregressiveNet((2, 3))
    train_generator(net, Ising((2, 3)), 0.3, seed=0, steps=5, samples=10, progress=False)
    importance_weights(net, Ising((2, 3)), 0.3, n=100, seed=0)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1:] == (np.random.get_state()[1].tobytes(), torch.get_num_threads())


def test_the_seed_decides():
    def trained(seed):
        net = AutoregressiveNet((3, 3))
        return train_generator(net, Ising((3, 3)), 0.4, seed=seed, steps=15, samples=30, progress=False), torch.cat([p.flatten() for p in net.parameters()])

    (a, p), (b, q), (c, r) = trained(1), trained(1), trained(2)
    assert a == b and torch.equal(p, q) and a != c and not torch.equal(p, r)


def test_threads_do_not_matter():
    assert_threads_do_not_matter("""
import hashlib, torch
from uqphys.autoregressive import AutoregressiveNet
from uqphys.generating import importance_weights, train_generator
from uqphys.models import Ising
net = AutoregressiveNet((8, 8))
train_generator(net, Ising((8, 8)), 0.4, seed=0, steps=2, samples=300, progress=False)
w = importance_weights(net, Ising((8, 8)), 0.4, n=500, seed=0)
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters()) + w.log_weights.tobytes()).hexdigest())""")


def test_an_outlier_among_the_gradients_is_shortened():
    history, net = generating.GeneratorHistory("reverse", slope=[2.0] * 60), torch.nn.Linear(2, 1, bias=False)
    net.weight.grad = torch.tensor([[300.0, 400.0]])
    assert generating._clip(net, history, 5.0) and torch.allclose(net.weight.grad, torch.tensor([[6.0, 8.0]])) and history.slope[-1] == 500
    net.weight.grad = torch.tensor([[3.0, 4.0]])
    assert generating._clip(net, history, 5.0) and torch.equal(net.weight.grad, torch.tensor([[3.0, 4.0]]))
    net.weight.grad = torch.tensor([[math.nan, 4.0]])
    assert not generating._clip(net, history, 5.0)


# ---- forward

def test_forward_training_learns_from_a_chain_and_is_judged_by_other_chains():
    model = Ising((3, 3))
    run = sample(model, 0.4, draws=1500, chains=5, seed=0, progress=False)
    data, net = samples(run), AutoregressiveNet((3, 3))
    history = train_generator(net, model, 0.4, seed=0, steps=250, samples=200, direction="forward", data=data, progress=False)
    log_q, log_p = log_laws(net, model, 0.4)
    log_p -= enumerate_states(model, 0.4).lnZ
    assert 0 < np.exp(log_p) @ (log_p - log_q) < 0.03
    assert [step for step, _ in history.held_out] == [99, 199, 249] and not history.spread
    settings = dict(direction="forward", validation=0.2, seed=0)
    learn, judge = generating._parts(net, model, data, settings)
    assert len(learn) == 6000 and len(judge) == 1500 and any(np.array_equal(judge, run.config.values[k]) for k in range(5))
    assert math.isclose(generating._score(net, judge), min(score for _, score in history.held_out), rel_tol=1e-12)


def test_the_best_weights_are_kept_where_there_is_too_little_data():
    x, net = random_spins((4, 4), 40, seed=0), AutoregressiveNet((4, 4), (8,))
    history = train_generator(net, Ising((4, 4)), 0.0, seed=0, steps=120, samples=40, direction="forward", data=x, checkpoint_every=10, progress=False)
    scores = dict(history.held_out)
    assert history.best_step < 60 and scores[119] > scores[history.best_step] + 0.5, "it learned the rows by heart"
    judge = generating._parts(net, Ising((4, 4)), x, dict(direction="forward", validation=0.2, seed=0))[1]
    assert math.isclose(generating._score(net, judge), scores[history.best_step], rel_tol=1e-12)


def test_nothing_held_out():
    net = AutoregressiveNet((2, 3))
    history = train_generator(net, Ising((2, 3)), 0.1, seed=0, steps=4, direction="forward", data=random_spins((2, 3), 30, 0), validation=0, progress=False)
    assert history.held_out == [] and history.best_step == -1 and len(history.objective) == 4


# ---- interrupted

class Cut(Exception):
    "Someone pulled the plug."


def run_until(calls, direction, path):
    "A training of 24 steps that is cut off after some calls of the loss (None: not at all)."
    net, name = AutoregressiveNet((3, 3), seed=4), f"{direction}_loss"
    loss, left = getattr(net, name), [math.inf if calls is None else calls]

    def failing(*args):
        left[0] -= 1
        if left[0] < 0:
            raise Cut
        return loss(*args)

    setattr(net, name, failing)
    data = random_spins((3, 3), 50, seed=9) if direction == "forward" else None
    history = train_generator(net, Ising((3, 3)), 0.4, seed=5, steps=24, samples=20, direction=direction, data=data, checkpoint=path,
                              checkpoint_every=7, progress=False)
    return net, history


@pytest.mark.parametrize("direction", ("reverse", "forward"))
def test_an_interrupted_training_gives_the_same_bits(direction, tmp_path):
    whole, told = run_until(None, direction, None)
    for number, cuts in enumerate([(0,), (1,), (6,), (7,), (8,), (23,), (3, 8, 2, 9)]):
        path = tmp_path / f"{number}.safetensors"
        for calls in cuts:
            with pytest.raises(Cut):
                run_until(calls, direction, path)
        parts, again = run_until(None, direction, path)
        assert vars(again) == vars(told), cuts
        assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values())), cuts
    parts, again = run_until(0, direction, path)  # finished: not one more step
    assert vars(again) == vars(told) and all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))


def test_the_same_network_may_come_back_after_a_cut(tmp_path):
    model, options = Ising((3, 3)), dict(seed=0, steps=9, samples=10, checkpoint=tmp_path / "net", checkpoint_every=50, progress=False)
    whole, parts = AutoregressiveNet((3, 3)), AutoregressiveNet((3, 3))
    train_generator(whole, model, 0.4, **options | {"checkpoint": None})
    loss, calls = parts.reverse_loss, []
    parts.reverse_loss = lambda *a: loss(*a) if calls.append(0) or len(calls) < 5 else (_ for _ in ()).throw(Cut)
    with pytest.raises(Cut):
        train_generator(parts, model, 0.4, **options)
    del parts.reverse_loss
    train_generator(parts, model, 0.4, **options)  # its weights are four steps old, but the checkpoint holds the first ones
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path, model = tmp_path / "net", Ising((3, 3))
    options = dict(seed=0, steps=4, samples=10, checkpoint=path, progress=False)
    train_generator(AutoregressiveNet((3, 3)), model, 0.4, **options)
    sound = path.read_bytes()
    for change, net, law, name in (({"seed": 1}, AutoregressiveNet((3, 3)), model, "seed"), ({"steps": 5}, AutoregressiveNet((3, 3)), model, "steps"),
                                   ({}, AutoregressiveNet((3, 3), (2,)), model, "config"), ({}, AutoregressiveNet((3, 3)), Ising((3, 3), h=0.1), "law"),
                                   ({"beta": 0.5}, AutoregressiveNet((3, 3)), model, "beta"), ({"clip": 3}, AutoregressiveNet((3, 3)), model, "clip"),
                                   ({"direction": "forward", "data": random_spins((3, 3), 9, 0)}, AutoregressiveNet((3, 3)), model, "start|direction|data")):
        before = [p.clone() for p in net.parameters()]
        with pytest.raises(ValueError, match=f"checkpoint=.*another training; expected ({name})="):
            train_generator(net, law, **{"beta": 0.4, **options, **change})
        assert all(torch.equal(a, b) for a, b in zip(before, net.parameters())), "a refusal changes nothing"
    for damage in (sound[:200], sound[:-1] + bytes([sound[-1] ^ 1]), b""):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match="damaged"):
            train_generator(AutoregressiveNet((3, 3)), model, 0.4, **options)
    save_state(path, {"kind": "network"})
    with pytest.raises(ValueError, match="something else than 'generator training'"):
        train_generator(AutoregressiveNet((3, 3)), model, 0.4, **options)


def test_a_checkpoint_holds_the_random_generator(tmp_path):
    path = tmp_path / "net"
    train_generator(AutoregressiveNet((3, 3)), Ising((3, 3)), 0.4, seed=3, steps=4, samples=10, checkpoint=path, progress=False)
    fresh = generating.torch_generators(3, 1)[0].get_state()
    assert not torch.equal(load_state(path, "generator training")["random"], fresh)


# ---- weights

def by_hand(log_weights, values):
    w = np.exp(log_weights - log_weights.max())
    mean = (w * values).sum() / w.sum()
    return SimpleNamespace(ess=w.sum() ** 2 / (w**2).sum() / len(w), ln_z=np.log(np.mean(np.exp(log_weights - log_weights.max()))) + log_weights.max(),
                           error=(w.std() / w.mean()) / len(w) ** 0.5, mean=mean, mean_error=np.sqrt((w**2 * (values - mean) ** 2).sum()) / w.sum())


def test_every_number_is_what_its_formula_says():
    net, model = shaken(), Ising((3, 3), h=0.2)
    w = importance_weights(net, model, 0.35, n=3000, seed=4)
    with torch.no_grad():
        assert np.allclose(w.log_q, net.log_prob(w.x).numpy(), atol=1e-12)
    assert np.allclose(w.log_weights, -0.35 * model.energy(w.x) - w.log_q, atol=1e-12) and isinstance(w, Weighted)
    hand, e = by_hand(w.log_weights, w.x.mean((1, 2))), w.expectation("m")
    assert math.isclose(w.ess, hand.ess) and math.isclose(w.ln_z.value, hand.ln_z) and math.isclose(w.ln_z.error, hand.error, rel_tol=1e-9)
    assert math.isclose(e.value, hand.mean) and math.isclose(e.error, hand.mean_error) and isinstance(e, WeightedEstimate)
    assert math.isclose(e.n_eff, 3000 * hand.ess) and math.isclose(w.shares.sum(), 1)
    assert w.expectation(lambda x: x.mean((1, 2))) == e == w.expectation(w.x.mean((1, 2)))
    assert math.isclose(w.free_energy().value, -w.ln_z.value / 0.35 / 9) and math.isclose(w.free_energy().error, w.ln_z.error / 0.35 / 9)
    raw = w.free_energy(reweighted=False)
    assert math.isclose(raw.value, -w.log_weights.mean() / 0.35 / 9) and math.isclose(raw.error, w.log_weights.std(ddof=1) / 3000**0.5 / 0.35 / 9)
    assert type(raw) is Estimate and raw.tau_int == 0.5


@pytest.mark.parametrize("beta", (0.0, 0.2, 0.5))
def test_weights_of_any_law_give_the_exact_answer(beta):
    net, model = shaken(spread=0.1, flip_symmetric=False, seed=3), Ising((3, 3), h=0.1)
    w, exact = importance_weights(net, model, beta, n=60_000, seed=1), enumerate_states(model, beta)
    log_q, log_p = log_laws(net, model, beta)
    assert abs(w.ln_z.value - exact.lnZ) < 3.5 * w.ln_z.error < 0.2
    for name in ("energy", "m", "abs_m", "m2"):
        e = w.expectation(name)
        assert abs(e.value - exact.averages[name]) < 3.5 * e.error
    assert abs(w.ess - 1 / np.exp(2 * (log_p - exact.lnZ) - log_q).sum()) < 0.05
    assert w.variational.value + exact.lnZ > 5 * w.variational.error


def test_the_errors_are_the_scatter():
    net, model = shaken(spread=0.05), Ising((3, 3))
    exact, z = enumerate_states(model, 0.1), []
    for k in range(300):
        w = importance_weights(net, model, 0.1, n=1000, seed=k)
        z.append([(w.ln_z.value - exact.lnZ) / w.ln_z.error, *((w.expectation(name).value - exact.averages[name]) / w.expectation(name).error for name in ("energy", "abs_m"))])
    for column in np.transpose(z):
        assert stats.kstest(column, "norm").pvalue > 0.001 and 0.87 < column.std() < 1.13


def test_batches():
    net, model = shaken(), Ising((3, 3))
    whole, more = (importance_weights(net, model, 0.3, n=n, seed=4, batch=100) for n in (250, 300))
    assert len(whole.x) == 250 and np.array_equal(whole.x[:200], more.x[:200]) and not np.array_equal(whole.x[:100], whole.x[100:200])
    assert not np.array_equal(whole.x, importance_weights(net, model, 0.3, n=250, seed=5, batch=100).x)


def test_without_a_temperature_there_is_ln_z_but_no_free_energy():
    w = importance_weights(AutoregressiveNet((4, 4)), Ising((4, 4)), 0.0, n=1000, seed=0)
    assert abs(w.ln_z.value - 16 * math.log(2)) < 4 * w.ln_z.error + 1e-9 and w.trusted
    for reweighted in (True, False):
        with pytest.raises(ValueError, match="beta=0.*ln_z"):
            w.free_energy(reweighted=reweighted)


def test_a_perfect_generator_has_no_error():
    model = Ising((3, 3))
    net = AutoregressiveNet((3, 3), ())
    with torch.no_grad():
        _ = [p.zero_() for p in net.parameters()]
    w = importance_weights(net, model, 0.0, n=100, seed=0)
    assert w.pareto_k == -math.inf and w.trusted and abs(w.ess - 1) < 1e-12 and w.ln_z.error < 1e-6 and abs(w.ln_z.value - 9 * math.log(2)) < 1e-12
    assert "Pareto k none" in repr(w)


# ---- doubts

def made(log_weights):
    n = len(log_weights)
    return Weighted(np.ones((n, 2, 2), dtype=np.int8), np.zeros(n), np.asarray(log_weights, dtype=float), 1.0, Ising((2, 2)))


def test_doubts_are_named_and_printed():
    normal = np.random.default_rng(0).standard_normal(20_000)
    good, heavy, poor = made(0.3 * normal), made(stats.expon.ppf(stats.norm.cdf(normal))), made(4 * normal[:5000])
    assert good.trusted and good.doubts == () and good.pareto_k < 0.4 and "trusted" not in str(good.ln_z)
    assert abs(heavy.pareto_k - 1) < 0.25 and not heavy.trusted and "Pareto k" in str(heavy.ln_z) and heavy.ln_z.doubts == heavy.doubts
    assert abs(good.ess - math.exp(-0.09)) < 0.01, "a normal ln w of spread s leaves e^(-s²)"
    assert any("effective share" in d for d in poor.doubts) and any("effective draws" in d for d in poor.doubts) and "not to be trusted" in str(poor.expectation(normal[:5000]))


def test_the_tail_index_is_that_of_a_pareto_law():
    for k in (0.3, 1.0, 1.5):
        u = np.random.default_rng(1).random(50_000)
        assert abs(made(-k * np.log(u)).pareto_k - k) < 0.2


def test_a_missed_mode_raises_no_doubt_and_a_chain_shows_it():
    net, model, beta = AutoregressiveNet((6, 6), flip_symmetric=False), Ising((6, 6)), 0.55
    train_generator(net, Ising((6, 6), h=0.5), beta, seed=0, steps=150, samples=200, progress=False)
    train_generator(net, model, beta, seed=0, steps=150, samples=200, start=beta, learning_rate=0.005, progress=False)
    w, exact = importance_weights(net, model, beta, n=5000, seed=1), kaufman(6, beta).lnZ
    assert w.trusted and w.ess > 0.8 and abs(w.ln_z.value - exact + math.log(2)) < 0.03
    x = sample(model, beta, draws=250, chains=4, seed=1, progress=False).config.values.reshape(-1, 6, 6)
    with torch.no_grad():
        assert (-beta * model.energy(x) - net.log_prob(x).numpy()).mean() > exact + 1


# ---- any generator, any model

class Gaussian(Network):
    "Independent normal numbers of one width on a ring: the smallest flow, whose loss needs the gradient of the energy."

    def __init__(self, shape):
        super().__init__(shape=tuple(shape))
        self.log_width = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def log_prob(self, x):
        return (-0.5 * (torch.as_tensor(x) / self.log_width.exp()) ** 2 - self.log_width - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def _draw(self, n, generator):
        return self.log_width.exp() * torch.randn(n, *self.config["shape"], dtype=torch.float64, generator=generator)

    def sample(self, n, seed):
        x = self._draw(n, torch.Generator().manual_seed(seed)).detach()
        return x.numpy(), self.log_prob(x).detach().numpy()

    def reverse_loss(self, energy, n, generator):
        x = self._draw(n, generator)
        values = self.log_prob(x) + energy(x)
        return values.mean(), values.detach()

    def forward_loss(self, x):
        return -self.log_prob(x).mean()


class Springs:
    "Independent springs: beta E = 8 x² at beta = 2; ln Z and all averages are known."
    shape, values = (5,), "real"

    def __init__(self, in_numpy=False):
        self.in_numpy = in_numpy

    def __repr__(self):
        return "Springs()"

    def energy(self, x):
        if self.in_numpy and isinstance(x, torch.Tensor):
            return 4 * (x.detach().numpy() ** 2).sum(-1)
        return 4 * (x**2).sum(-1)

    def observables(self, x):
        return {"x2": (x**2).mean(-1)}


@pytest.mark.parametrize("direction", ("reverse", "forward"))
def test_a_generator_of_real_numbers_finds_the_width(direction):
    net, data = Gaussian((5,)), 0.25 * np.random.default_rng(0).standard_normal((4000, 5)) if direction == "forward" else None
    train_generator(net, Springs(), 2.0, seed=0, steps=300, samples=200, learning_rate=0.05, direction=direction, data=data, progress=False)
    w = importance_weights(net, Springs(), 2.0, n=20_000, seed=0)
    assert abs(net.log_width.exp().item() - 0.25) < 0.01 and abs(w.ln_z.value - 2.5 * math.log(math.pi / 8)) < 4 * w.ln_z.error + 1e-4
    assert abs(w.expectation("x2").value - 1 / 16) < 0.002


def test_an_energy_without_a_gradient_is_refused_where_one_is_needed():
    with pytest.raises(ValueError, match="model=.*gradient.*must be written in torch"):
        train_generator(Gaussian((5,)), Springs(in_numpy=True), 2.0, seed=0, steps=2, samples=5, progress=False)
    spins = Springs(in_numpy=True)
    spins.values = "spins"
    train_generator(AutoregressiveNet((5,)), spins, 2.0, seed=0, steps=2, samples=5, progress=False)  # needs none


def test_a_generator_that_does_not_say_what_it_draws_is_not_asked():
    assert not hasattr(Gaussian, "values") and generating._check_together(Gaussian((5,)), Springs()) is None
    generating._check_together(AutoregressiveNet((3, 3)), Ising((3, 3)))
    generating._check_together(CheckerboardFlow((2, 4), 2, (4,)), FIELD)


def test_one_learning_rate_after_the_other_ends_well_or_is_named():
    ended = []
    for rate in (0.01, 1.0, 3.0, 10.0, 100.0, 1e308):
        try:
            history = train_generator(CheckerboardFlow((2, 4), 2, (4,)), FIELD, seed=0, steps=20, samples=20, learning_rate=rate, progress=False)
            ended.append(history.spread[-1] < 1e4)
        except ValueError as error:
            ended.append(str(error).startswith(f"learning_rate={rate}: ") and str(error).endswith("must be smaller"))
    assert ended == [True] * 6


def test_a_class_of_ones_own_with_a_borrowed_name_is_another_one():
    borrowed = type("AutoregressiveNet", (AutoregressiveNet,), {})
    assert generating._name_of(AutoregressiveNet((2, 2))) == "AutoregressiveNet" != generating._name_of(borrowed((2, 2)))


# ---- bad calls

class Broken(Ising):
    def energy(self, x):
        values = super().energy(x)
        values[:1] = math.nan
        return values


SMALL, SPINS = Ising((3, 3)), random_spins((3, 3), 20, seed=0)
FIELD, OUTLIER = Phi4.from_mass((2, 4), -4.0, 8.0), random_fields((2, 4), 20, seed=0)
OUTLIER[4, 1, 2] = -1e40


def flow_with(**change):
    return lambda t: train_generator(CheckerboardFlow((2, 4), 2, (4,)), **{"model": FIELD, "seed": 0, "steps": 20, "samples": 20, "progress": False} | change)


def train_with(**change):
    return lambda t: train_generator(t.net, **{"model": SMALL, "beta": 0.4, "seed": 0, "steps": 2, "samples": 5, "progress": False} | change)


def weigh_with(**change):
    return lambda t: importance_weights(t.net, **{"model": SMALL, "beta": 0.4, "n": 50, "seed": 0} | change)


def trained(name, accepted, *pairs):
    return rows_of("generating.train_generator", lambda t, v: train_with(**{name: v})(t), name, pairs, accepted)


def weighed(name, accepted, *pairs):
    return rows_of("generating.importance_weights", lambda t, v: weigh_with(**{name: v})(t), name, pairs, accepted)


FORWARD = dict(direction="forward", data=SPINS)
BAD = [
    ("generating.train_generator", lambda t: train_generator("net", SMALL, 0.4, seed=0), "generator", "str", "must be a torch network"),
    ("generating.train_generator", lambda t: train_generator(torch.nn.Linear(2, 2), SMALL, 0.4, seed=0), "generator", "Linear", "sample, log_prob"),
    ("generating.importance_weights", lambda t: importance_weights(None, SMALL, 0.4, n=20, seed=0), "generator", "NoneType", "must be a torch network"),
    *trained("model", "shape|must have", (Ising((3, 4)), r"\(3, 4\)"), (7, "7"), (Ising, "Ising")),
    *weighed("model", "shape|must have", (Ising((3, 4)), r"\(3, 4\)"), ("Ising", "Ising")),
    ("generating.train_generator", train_with(model=Broken((3, 3))), "energy", "nan", "must be one finite real number"),
    ("generating.importance_weights", weigh_with(model=Broken((3, 3))), "energy", "nan", "must be one finite real number"),
    *trained("beta", "must be a finite number >= 0", (-0.1, "-0.1"), (math.nan, "nan"), (None, "None")),
    *weighed("beta", "must be a finite number >= 0", (-0.1, "-0.1"), (math.inf, "inf"), ("cold", "cold")),
    *trained("seed", "whole number", (-1, "-1"), (None, "None"), (0.5, "0.5")),
    *weighed("seed", "whole number", (-1, "-1"), (True, "True")),
    *trained("steps", "whole number >= 1", (0, "0"), (2.5, "2.5")),
    *trained("samples", "whole number >= 2", (1, "1"), ("many", "many")),
    *trained("checkpoint_every", "whole number >= 1", (0, "0")),
    *trained("learning_rate", "> 0", (0, "0"), (-1, "-1"), (math.inf, "inf"), ("fast", "fast")),
    ("generating.train_generator", train_with(learning_rate=1e308, steps=8), "learning_rate", r"1e\+308", "must be smaller"),
    *(("generating.train_generator", flow_with(learning_rate=rate), "learning_rate", shown, "must be smaller")
      for rate, shown in ((1.0, "1.0"), (3.0, "3.0"), (10.0, "10.0"), (100.0, "100.0"), (1e308, r"1e\+308"))),
    ("generating.train_generator", flow_with(direction="forward", data=OUTLIER), "data", r"1e\+40", "at most 10,000 times the median"),
    ("generating.train_generator", lambda t: train_generator(AutoregressiveNet((2, 4)), FIELD, seed=0), "model", "Phi4.*'real'.*AutoregressiveNet", "must have 'spins'"),
    ("generating.importance_weights", lambda t: importance_weights(AutoregressiveNet((2, 4)), FIELD, n=20, seed=0), "model", "Phi4", "must have 'spins'"),
    ("generating.train_generator", flow_with(model=Ising((2, 4))), "model", "Ising.*'spins'.*CheckerboardFlow", "must have 'real'"),
    ("generating.importance_weights", lambda t: importance_weights(CheckerboardFlow((2, 4), 2, (4,)), Ising((2, 4)), n=20, seed=0), "model", "Ising", "must have 'real'"),
    ("generating.train_generator", lambda t: train_generator(t.net.requires_grad_(False), SMALL, 0.4, seed=0), "generator", "AutoregressiveNet", "weights that can learn"),
    *trained("beta", "must be smaller", (1e308, r"1e\+308")),
    *weighed("beta", "must be smaller", (1e308, r"1e\+308")),
    *trained("start", ">= 0, or None", (-0.1, "-0.1"), (math.nan, "nan"), ("hot", "hot")),
    *trained("anneal", "share of the steps", (-0.1, "-0.1"), (1.5, "1.5")),
    *trained("clip", ">= 1", (0.5, "0.5"), (None, "None")),
    *trained("validation", "share of the data", (1, "1"), (-0.2, "-0.2")),
    *trained("direction", "must be one of 'reverse', 'forward'", ("back", "back"), (None, "None")),
    *trained("data", "must be None", (SPINS, "ndarray")),
    ("generating.train_generator", train_with(**FORWARD, start=0.1), "start", "0.1", "must be None"),
    *(("generating.train_generator", train_with(direction="forward", data=bad), "data", shown, "must be Samples, or an array")
      for bad, shown in ((None, "NoneType"), (SPINS[:1], r"\(1, 3, 3\)"), (SPINS[0], r"\(3, 3\)"), (random_spins((3, 4), 9, 0), r"\(9, 3, 4\)"))),
    ("generating.train_generator", train_with(direction="forward", data=0 * SPINS), "x", "0", "must be -1 or \\+1"),
    ("generating.train_generator", train_with(direction="forward", data=Samples(SPINS, np.zeros((20, 1)), np.zeros(20, int), np.zeros(20, int))), "data", "1 chain", "at least 2"),
    *trained("checkpoint", "existing, writable folder", ("no/such/folder/net", "no/such"), ("", "''"), (3, "3"), ("..", r"\.\.")),
    *trained("device", "expected a device", ("moon", "moon"), ("cuda:99", "cuda:99")),
    *weighed("n", "whole number >= 10", (9, "9"), (20.5, "20.5")),
    *weighed("batch", "whole number >= 1", (0, "0"), (None, "None")),
]


@pytest.fixture(scope="module")
def things():
    return SimpleNamespace(net=AutoregressiveNet((3, 3)))


@pytest.mark.parametrize("k", range(len(BAD)), ids=row_name(BAD))
def test_a_bad_call_is_refused(k, things):
    things.net = AutoregressiveNet((3, 3))
    assert_refused(BAD[k][1], things, *BAD[k][2:])


def test_bad_questions_to_weights():
    w = importance_weights(AutoregressiveNet((3, 3)), SMALL, 0.4, n=50, seed=0)
    for values, told in (("warmth", "values='warmth'.*energy"), (np.ones(49), r"values has shape \(49,\)"), (lambda x: x, "values has shape"),
                         (np.full(50, math.nan), "values contains nan")):
        with pytest.raises(ValueError, match=told):
            w.expectation(values)
    with pytest.raises(ValueError, match="reweighted='no'"):
        w.free_energy(reweighted="no")


def test_every_public_function_is_in_the_table():
    assert_complete([generating], BAD, exempt=["generating.GeneratorHistory", "generating.Weighted", "generating.WeightedEstimate"])
