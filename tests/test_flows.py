"""The flow is a law: invertible, with the determinant it claims, normalised, symmetric, unbiased in its gradient; the study meets its targets."""
import json
import math
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common import assert_complete, assert_refused, row_name
from uqphys import flows
from uqphys.exact_fields import exact_field
from uqphys.flows import CheckerboardFlow
from uqphys.models import Phi4, random_fields

SCRIPT = Path(__file__).parents[1] / "studies" / "flow_phi4.py"
STUDY = json.loads(SCRIPT.with_suffix(".json").read_text())
KINDS = [(True, True), (True, False), (False, True), (False, False)]
kinds = pytest.mark.parametrize("bend, flip", KINDS)
shapes = pytest.mark.parametrize("shape", [(4, 4), (6,), (2, 4), (2, 2, 4)])


def shaken(shape, bend=True, flip=True, spread=0.25, seed=0, layers=5, hidden=(4, 3), **options):
    "A flow with random weights, biases and amplitudes included."
    flow, generator = CheckerboardFlow(shape, layers, hidden, bend=bend, flip_symmetric=flip, **options), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p += spread * (0.3 if p is flow.spectrum else 1.0) * torch.randn(p.shape, dtype=p.dtype, generator=generator)
    return flow


def noise(shape, n, seed=1):
    return torch.as_tensor(random_fields(shape, n, seed))


@kinds
@shapes
def test_the_way_back_leads_back_and_the_determinant_is_that_of_autograd(shape, bend, flip):
    flow, z = shaken(shape, bend, flip), noise(shape, 3)
    x, log_det = flow.forward(z)
    back, log_back = flow.inverse(x)
    assert (back - z).abs().max() < 1e-10 and (log_back + log_det).abs().max() < 1e-10 and (x - z).abs().max() > 0.1
    for k in range(3):
        for way, start, claimed in ((flow.forward, z, log_det), (flow.inverse, x, log_back)):
            jacobian = torch.autograd.functional.jacobian(lambda v: way(v[None])[0][0], start[k].detach()).reshape(z[0].numel(), -1)
            assert abs(torch.linalg.slogdet(jacobian)[1] - claimed[k]) < 1e-10


@kinds
def test_the_density_is_normalised_on_two_sites(bend, flip):
    grid = np.linspace(-9, 9, 901)
    pairs = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    with torch.no_grad():
        total = shaken((2,), bend, flip, 0.15, layers=3, hidden=(4,), width=0.3).log_prob(pairs).exp().sum().item() * (grid[1] - grid[0]) ** 2
    assert abs(total - 1) < 1e-8


@kinds
@pytest.mark.parametrize("shape", [(4, 6), (8,), (4, 2, 4)])
def test_symmetries_are_exact_and_what_is_none_is_not(shape, bend, flip):
    flow, x = shaken(shape, bend, flip), noise(shape, 20, 2)
    axes = tuple(range(1, x.ndim))
    with torch.no_grad():
        log_q = flow.log_prob(x)
        change = lambda y: ((flow.log_prob(y) - log_q) / log_q.abs().clamp_min(1)).abs().max()  # ln q is thousands, far from the draws
        for by in np.ndindex(*shape):
            assert (change(x.roll(by, axes)) < 1e-11) == (sum(by) % 2 == 0)
        assert (change(-x) < 1e-11) == flip
        if flip:
            z = noise(shape, 20, 3)
            assert (flow.forward(-z)[0] + flow.forward(z)[0]).abs().max() < 1e-12


@kinds
def test_sampling(bend, flip):
    flow, state = shaken((4, 4), bend, flip), torch.get_rng_state()
    (x, p), (y, q), (w, _) = flow.sample(500, 1), flow.sample(500, 1), flow.sample(500, 2)
    assert x.shape == (500, 4, 4) and x.dtype == p.dtype == np.float64 and p.shape == (500,)
    assert np.array_equal(x, y) and np.array_equal(p, q) and not np.array_equal(x, w) and torch.equal(torch.get_rng_state(), state)
    assert np.abs(flow.log_prob(x).detach().numpy() - p).max() < 1e-9
    z = flow.inverse(x)[0].detach().numpy()
    assert abs(z.mean()) < 0.05 and abs(z.var() - 1) < 0.08  # the noise is standard normal


def test_draws_have_the_same_bits_on_one_thread_and_on_two():
    "At this size the bits differ where `sample` does not keep to one thread."
    flow, threads, told = CheckerboardFlow((2,), 2, (300,)), torch.get_num_threads(), []
    with torch.no_grad():
        for p in flow.parameters():
            p += 0.1 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0))
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            told.append(flow.sample(50_000, 1))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(*told))


@pytest.mark.parametrize("layout", [lambda x: x.astype(np.longdouble), lambda x: x.astype(">f8"), lambda x: x[::-1, :, ::-1].copy()[::-1, :, ::-1], None])
def test_arrays_of_any_layout_are_read(layout):
    flow, x = shaken((4, 4)), random_fields((4, 4), 5, 1)
    given = x.copy() if layout is None else layout(x)
    given.flags.writeable = layout is not None
    before = given.copy()
    for way in (flow.log_prob, lambda y: flow.inverse(y)[0], lambda y: flow.forward(y)[0], flow.forward_loss):
        assert torch.equal(way(given), way(x)) and np.array_equal(given, before)


def test_fields_too_far_for_double_precision_are_refused_by_name():
    far, near = (size * random_fields((4, 4), 3, 0) for size in (1e50, 100.0))
    for bend, ways in ((-1.0, {"log_prob": "x", "inverse": "x", "forward_loss": "x"}), (1.0, {"forward": "z"})):
        flow = CheckerboardFlow((4, 4), straight=None)
        with torch.no_grad():
            for coupling in flow.couplings:
                coupling[4][2] = bend
        for way, name in ways.items():
            with pytest.raises(ValueError, match=rf"^{name} with values up to \d\.\d+e\+50: too far from what the flow draws .*must be smaller"):
                getattr(flow, way)(far)
            answers = getattr(flow, way)(near)
            assert all(v.isfinite().all() for v in (answers if isinstance(answers, tuple) else (answers,)))


@pytest.mark.parametrize("value", [math.nan, 1e6])
def test_weights_out_of_range_are_named(value):
    flow, model = CheckerboardFlow((2, 4)), Phi4.from_mass((2, 4), -4.0, 8.0)
    with torch.no_grad():
        flow.spectrum += value
    for call in (lambda: flow.sample(5, 0), lambda: flow.reverse_loss(model.energy, 5, torch.Generator())):
        with pytest.raises(ValueError, match="weights of the flow: have left the finite range"):
            call()
    if math.isnan(value):
        with pytest.raises(ValueError, match="weights of the flow"):
            flow.log_prob(np.ones((1, 2, 4)))


def test_draws_of_a_flow_in_single_precision_are_float64_arrays():
    x, log_q = CheckerboardFlow((2, 4)).float().sample(3, 0)
    assert x.dtype == log_q.dtype == np.float64


def test_a_fresh_flow_is_white_noise_of_the_width():
    flow, z = CheckerboardFlow((4, 4), width=0.3), noise((4, 4), 5)
    x, log_det = flow.forward(z)
    assert (x - 0.3 * z).abs().max() < 1e-12 and (log_det - 16 * math.log(0.3)).abs().max() < 1e-10


def test_amplitudes_alone_draw_the_free_field():
    "At lam = 0 the waves are independent; with their exact amplitudes the weights are constant, and equal to Z."
    model = Phi4.from_mass((4, 4), 1.3, 0.0)
    flow = CheckerboardFlow((4, 4))
    k = 2 * np.pi * np.indices((4, 4)) / 4
    variance = 1 / (2 * (1.3 + (2 - 2 * np.cos(k)).sum(0)))
    with torch.no_grad():
        for orbit in range(len(flow.spectrum)):
            flow.spectrum[orbit] = math.log(variance[flow.orbit.numpy() == orbit].mean()) / 2 / flows._SPEED
    x, log_q = flow.sample(50, 0)
    assert np.abs(-model.energy(x) - log_q - exact_field(model).lnZ).max() < 1e-9


@kinds
def test_the_gradient_of_the_reverse_loss_is_that_of_the_divergence(bend, flip):
    model, flow, repeats = Phi4.from_mass((2,), -2.0, 1.0), shaken((2,), bend, flip, 0.15, layers=2, hidden=(3,), width=0.3), 150
    grid = np.linspace(-6, 6, 401)
    pairs, parameters = torch.as_tensor(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)), list(flow.parameters())
    log_q = flow.log_prob(pairs)
    exact = (log_q.exp() * (log_q + model.energy(pairs))).sum() * (grid[1] - grid[0]) ** 2
    flat = lambda loss: torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    exact, generator = flat(exact), torch.Generator().manual_seed(0)
    noisy = torch.stack([flat(flow.reverse_loss(model.energy, 60, generator)[0]) for _ in range(repeats)])
    error = noisy.std(0) / repeats**0.5
    z = (noisy.mean(0) - exact)[error > 1e-12] / error[error > 1e-12]
    assert z.abs().max() < 4.8 and (exact[error > 1e-12] / error[error > 1e-12]).abs().max() > 10


def test_no_noise_is_left_in_the_gradient_at_the_optimum():
    "For the free field with exact amplitudes every single sample gives a gradient of zero."
    model, flow = Phi4.from_mass((4,), 1.0, 0.0), CheckerboardFlow((4,), 2, (3,))
    variance = 1 / (2 * (1.0 + 2 - 2 * np.cos(2 * np.pi * np.arange(4) / 4)))
    with torch.no_grad():
        for orbit in range(len(flow.spectrum)):
            flow.spectrum[orbit] = math.log(variance[flow.orbit.numpy() == orbit].mean()) / 2 / flows._SPEED
    loss, values = flow.reverse_loss(model.energy, 3, torch.Generator().manual_seed(0))
    assert max(g.abs().max() for g in torch.autograd.grad(loss, list(flow.parameters()))) < 1e-12
    assert (values + exact_field(model).lnZ).abs().max() < 1e-10 and not values.requires_grad


def adam(flow, loss, steps, learning_rate=0.006):
    optimiser = torch.optim.Adam(flow.parameters(), learning_rate)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()


def weighted(flow, model, n, seed=5):
    "ln Z, phi2 with errors, and the effective share."
    x, log_q = flow.sample(n, seed)
    log_w = -model.energy(x) - log_q
    w = np.exp(log_w - log_w.max())
    share, phi2 = w.sum() ** 2 / (w**2).sum() / n, (x**2).reshape(n, -1).mean(1)
    mean = w @ phi2 / w.sum()
    return log_w.max() + np.log(w.mean()), np.sqrt((1 / share - 1) / n), mean, np.sqrt(w**2 @ (phi2 - mean) ** 2) / w.sum(), share


@pytest.mark.parametrize("shape, m2, lam", [((4, 4), -4.0, 8.0), ((8,), -2.0, 4.0)])
def test_a_flow_learns_without_data_and_its_weights_give_the_exact_answer(shape, m2, lam):
    model, flow, generator = Phi4.from_mass(shape, m2, lam), CheckerboardFlow(shape, 4, (8, 8), width=0.4), torch.Generator().manual_seed(1)
    adam(flow, lambda: flow.reverse_loss(model.energy, 64, generator)[0], 250)
    lnZ, lnZ_error, phi2, phi2_error, share = weighted(flow, model, 10_000)
    exact = exact_field(model)
    assert share > 0.6
    assert abs(lnZ - exact.lnZ) < 4 * lnZ_error < 0.08 and abs(phi2 - exact.averages["phi2"]) < 4 * phi2_error < 0.01


def test_forward_learning_from_exact_draws():
    "Data from the free field, drawn exactly; the flow comes close to the entropy of its law."
    model, generator = Phi4.from_mass((4,), 1.0, 0.0), torch.Generator().manual_seed(2)
    variance = 1 / (2 * (1.0 + 2 - 2 * np.cos(2 * np.pi * np.arange(4) / 4)))
    data = np.fft.ifft(np.fft.fft(random_fields((4,), 4000, 3)) * np.sqrt(variance)).real
    flow = CheckerboardFlow((4,), 2, (4,))
    adam(flow, lambda: flow.forward_loss(data[torch.randint(4000, (200,), generator=generator).numpy()]), 100, 0.02)
    assert abs(flow.forward_loss(data).item() - model.energy(data).mean() - exact_field(model).lnZ) < 0.03


def test_config_and_weights_make_it_again():
    flow = shaken((4, 4), False, False)
    twin = type(flow)(**flow.config)
    twin.load_state_dict(flow.state_dict())
    assert torch.equal(twin.log_prob(noise((4, 4), 5)), flow.log_prob(noise((4, 4), 5)))
    assert all(torch.equal(a, b) for a, b in zip(CheckerboardFlow((4, 4), seed=1).parameters(), CheckerboardFlow((4, 4), seed=1).parameters()))


def test_the_study_meets_its_targets():
    flow, hmc = STUDY["flow"], STUDY["hmc"]
    assert STUDY["model"] == repr(Phi4.from_mass((8, 8), -4.0, 8.0))
    assert flow["ess"] >= 0.5 and STUDY["seconds"]["training"] + flow["seconds"] < 600 and flow["draws"] >= 20_000
    assert flow["pareto_k"] < 0.7 and flow["acceptance"] > 0.5 and flow["trusted"]
    assert abs(flow["chi"] - hmc["chi"]) < 3 * math.hypot(flow["chi_error"], hmc["chi_error"]) < 0.03
    assert STUDY["z"] == pytest.approx((flow["chi"] - hmc["chi"]) / math.hypot(flow["chi_error"], hmc["chi_error"]))
    assert abs(flow["chi"] - 0.75) < 0.02  # HMC in the tutorial of Albergo et al., arXiv:2101.08176: 0.75(1)
    # a longer chain of another seed: gamma_error(64 * sample(Phi4.from_mass((8, 8), -4.0, 8.0), draws=100_000, chains=4, thin=2, seed=21, method="hmc")["m2"])
    assert abs(flow["chi"] - 0.7424) < 3 * math.hypot(flow["chi_error"], 0.0019)
    assert flow["variational"] > flow["free_energy"]


def test_the_study_judges_the_tails_by_the_chain_as_well():
    flow, chain = STUDY["flow"], STUDY["chain"]
    assert len(flow["chain_ess_each"]) == chain["chains"] and STUDY["hmc"]["draws"] == chain["draws"] * chain["chains"]
    assert 1 / flow["chain_ess"] == pytest.approx(np.mean(1 / np.array(flow["chain_ess_each"])))
    assert flow["chain_ess"] > 0.5 and abs(flow["chain_ess"] - flow["ess"]) < 0.05 and flow["tail_power"] < 2.5 and flow["chain_largest"] < 0.1


def test_the_study_was_made_by_its_script():
    script = runpy.run_path(SCRIPT)
    made_by = script["recipe"](script["TRAINING"])
    assert {name: STUDY[name] for name in made_by} == made_by
    assert STUDY["training"]["steps"] == STUDY["story"]["step"][-1] and len(STUDY["story"]["step"]) == len(STUDY["story"]["spread"])
    assert STUDY["flow"]["draws"] == script["DRAWS"]


def test_a_stage_of_another_recipe_is_refused(tmp_path):
    script = runpy.run_path(SCRIPT)
    once, recipe, file = script["once"], script["recipe"], tmp_path / "flow.json"
    made_by, other = recipe(script["TRAINING"]), recipe(script["TRAINING"] | {"steps": 20})
    told = once(file, made_by, lambda: {"ess": 0.5})
    assert once(file, made_by, lambda: {"ess": 0.6}) == told == {"recipe": made_by, "ess": 0.5}
    with pytest.raises(SystemExit, match="another recipe"):
        once(file, other, lambda: {"ess": 0.6})
    file.write_text(json.dumps({"ess": 0.5}))
    with pytest.raises(SystemExit, match="another recipe"):
        once(file, made_by, lambda: {"ess": 0.6})


@pytest.mark.parametrize("given, named", [(("--steps", "30"), "--steps 30"), (("--steps", "0"), "--steps 0"), (("--out", "nowhere/x.json"), "nowhere"), (("--out", "."), "--out")])
def test_the_study_refuses_before_it_trains(given, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flow_phi4.py", *given])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(SCRIPT)["main"]()
    assert stopped.value.code == 2 and named in capsys.readouterr().err and not list(tmp_path.iterdir())


def things():
    flow, model = CheckerboardFlow((2, 4)), Phi4.from_mass((2, 4), -4.0, 8.0)
    return SimpleNamespace(flow=flow, energy=model.energy, rng=torch.Generator())


NAME = "flows.CheckerboardFlow"
COUNT, FIELD, SHAPE, WIDTH = "whole number >=", "numeric NumPy array", "must be", "from 1e-6 to 1e6"
TABLE = [(NAME, call, *expected) for call, *expected in [
    *[(lambda t, v=v: CheckerboardFlow(v), "shape", shown, accepted) for v, shown, accepted in
      ((None, "None", SHAPE), (4, "4", SHAPE), ((), r"\(\)", SHAPE), ((0, 4), r"\(0, 4\)", SHAPE), ((2.5, 4), r"2\.5", SHAPE),
       ((3, 4), r"\(3, 4\)", "must be even"), ((4, 4, 5), r"\(4, 4, 5\)", "must be even"), ((1,), r"\(1,\)", "must be even"))],
    *[(lambda t, v=v, a=a: CheckerboardFlow((2, 4), **{a: v}), a, shown, COUNT) for a in ("layers", "reach") for v, shown in
      ((0, "0"), (1.5, r"1\.5"), (None, "None"), (True, "True"))],
    *[(lambda t, v=v: CheckerboardFlow((2, 4), hidden=v), "hidden", shown, accepted) for v, shown, accepted in
      ((4, "4", "sequence"), ((0,), "0", COUNT), ("8", "'8'", "sequence"), ((), r"\(\)", "at least one"), (None, "None", "sequence"))],
    *[(lambda t, v=v, a=a: CheckerboardFlow((2, 4), **{a: v}), a, shown, "True or False") for a in ("bend", "flip_symmetric") for v, shown in
      ((1, "1"), (None, "None"), ("no", "'no'"))],
    *[(lambda t, v=v: CheckerboardFlow((2, 4), width=v), "width", shown, WIDTH) for v, shown in
      ((0.0, r"0\.0"), (-1, "-1"), (math.nan, "nan"), (1e7, "10000000"), (None, "None"), ("wide", "'wide'"), (True, "True"))],
    *[(lambda t, v=v: CheckerboardFlow((2, 4), seed=v), "seed", shown, COUNT) for v, shown in ((-1, "-1"), (1.5, r"1\.5"), (None, "None"))],
    *[(lambda t, v=v, m=m: getattr(t.flow, m)(v), "z" if m == "forward" else "x", shown, accepted)
      for m in ("log_prob", "inverse", "forward", "forward_loss") for v, shown, accepted in
      ((None, "None", FIELD), ([[1.0]], r"1\.0", FIELD), (np.full((4, 2, 4), np.nan), "nan", "finite number"),
       (np.ones((2, 4)), r"\(2, 4\)", r"\(n, 2, 4\)"), (np.ones((1, 1, 2, 4)), r"\(1, 1, 2, 4\)", r"\(n, 2, 4\)"), (np.ones((0, 2, 4)), r"\(0, 2, 4\)", "n >= 1"))],
    *[(lambda t, m=m: getattr(t.flow, m)(np.ones((4, 4, 2))), r"x\.shape", r"\(4, 4, 2\)", r"\(\.\.\., 2, 4\)") for m in ("log_prob", "inverse")],
    *[(lambda t, v=v: t.flow.sample(v, 0), "n", shown, COUNT) for v, shown in ((0, "0"), (1.5, r"1\.5"), (None, "None"), (True, "True"))],
    *[(lambda t, v=v: t.flow.sample(5, v), "seed", shown, COUNT) for v, shown in ((-1, "-1"), (1.5, r"1\.5"), (None, "None"))],
    *[(lambda t, v=v: t.flow.reverse_loss(t.energy, v, t.rng), "n", shown, COUNT) for v, shown in ((0, "0"), ("all", "'all'"))],
    *[(lambda t, v=v: t.flow.reverse_loss(t.energy, 5, v), "generator", shown, "torch.Generator") for v, shown in ((0, "0"), (None, "None"))],
    *[(lambda t, v=v: t.flow.reverse_loss(v, 5, t.rng), "energy", shown, accepted) for v, shown, accepted in
      ((None, "None", "callable"), (lambda x: x.sum(), r"\(\)", "each of the 5"), (lambda x: x.sum((1, 2)) * math.nan, "nan", "finite real number"),
       (lambda x: t_energy(x.detach()), "gradient", "written in torch"), (lambda x: t_energy(x.detach().numpy()), "gradient", "written in torch"))],
]]


def t_energy(x):
    return Phi4.from_mass((2, 4), -4.0, 8.0).energy(x)


@pytest.mark.parametrize("row", range(len(TABLE)), ids=row_name(TABLE))
def test_bad_call_is_refused(row):
    _, call, *expected = TABLE[row]
    assert_refused(call, things(), *expected)


def test_every_public_callable_stands_in_the_table():
    assert_complete((flows,), TABLE, {})
