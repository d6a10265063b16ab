"""One definition of the energy for NumPy and torch: the same bits from both, and the gradients that the formula has."""
import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch

from uqphys import models
from uqphys.models import Ising, random_spins

COUPLINGS = dict(J=0.7, J2=-0.3, K=0.2, h=0.15)
MODELS = [Ising((4, 6), **COUPLINGS), Ising((5, 3), **COUPLINGS), Ising((2, 4), **COUPLINGS), Ising((4, 3, 5), **COUPLINGS),
          Ising((2, 2, 3), **COUPLINGS), Ising((6, 6)), Ising((4, 4), J=0.0, h=1.0), Ising((3, 3, 3), J=0.0)]
every_model = pytest.mark.parametrize("model", MODELS, ids=repr)


@every_model
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float32, torch.float64])
def test_numpy_and_torch_agree_to_the_bit(model, dtype):
    x = random_spins(model.shape, 30, 1).reshape(5, 6, *model.shape)
    y = torch.as_tensor(x).to(dtype)
    energy = model.energy(y)
    assert isinstance(energy, torch.Tensor) and energy.dtype == torch.float64 and energy.shape == (5, 6)
    assert np.array_equal(energy.numpy(), model.energy(x))
    assert np.array_equal(model.energy(y.numpy()), model.energy(x))
    theirs, ours = model.observables(y), model.observables(x)
    assert list(theirs) == list(ours) == list(models.OBSERVABLES)
    for name in ours:
        assert isinstance(theirs[name], torch.Tensor) and np.array_equal(theirs[name].numpy(), ours[name]), name


@every_model
def test_energy_is_the_sum_that_the_formula_says(model):
    "Every bond and square written out, site by site."
    x, ndim = random_spins(model.shape, 3, 2).astype(int), model.ndim
    unit = np.eye(ndim, dtype=int)
    for s, energy in zip(x, model.energy(x)):
        at = lambda site: s[tuple(np.mod(site, model.shape))]
        total = 0.0
        for site in np.ndindex(*model.shape):
            total -= model.h * at(site)
            for a in range(ndim):
                total -= model.J * at(site) * at(site + unit[a])
                for b in range(a + 1, ndim):
                    corner = site + unit[a] + unit[b]
                    total -= model.J2 * (at(site) * at(corner) + at(site + unit[a]) * at(site + unit[b]))
                    total -= model.K * at(site) * at(site + unit[a]) * at(site + unit[b]) * at(corner)
        assert energy == pytest.approx(total, abs=1e-11)


@every_model
def test_gradient_is_that_of_the_polynomial(model):
    "Along one spin the energy is a straight line (lengths >= 3), so a flip changes it by -2 s times the gradient."
    x = torch.as_tensor(random_spins(model.shape, 2, 3)).double().requires_grad_()
    gradient, = torch.autograd.grad(model.energy(x).sum(), x)
    assert gradient.shape == x.shape and torch.isfinite(gradient).all()
    if min(model.shape) < 3:
        return
    for site in list(np.ndindex(*model.shape))[::3]:
        flipped = x.detach().clone()
        flipped[(slice(None), *site)] *= -1
        change = (model.energy(flipped) - model.energy(x)).detach()
        expected = -2 * (x * gradient).detach()[(slice(None), *site)]
        assert torch.allclose(change, expected, atol=1e-11)


def test_gradient_survives_observables_and_batches():
    model = MODELS[0]
    x = torch.as_tensor(random_spins(model.shape, 4, 4)).double().requires_grad_()
    values = model.observables(x)
    gradient, = torch.autograd.grad(values["energy"].sum() + values["m2"].sum(), x)
    alone = [torch.autograd.grad(model.energy(y) / model.n_sites, y)[0] + 2 * y.sum() / model.n_sites**2
             for y in (x[k].detach().requires_grad_() for k in range(4))]
    assert torch.allclose(gradient, torch.stack(alone), atol=1e-14)


def test_there_is_one_definition():
    "NumPy users never wait for torch, and the energy never asks which library it works with."
    use = ("import sys, numpy as np; from uqphys.models import *; Ising((4, 4)).energy(np.ones((4, 4))); "
           "Phi4((4,), 0.1, 1.0).force(np.ones(4)); CustomModel((4, 4), lambda x: x.sum((1, 2))).energy(np.ones((4, 4))); "
           "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", use], capture_output=True).returncode == 0
    energy = inspect.getsource(models._ising_energy)
    assert "torch" not in energy and "_is_tensor" not in energy and " if " not in energy.replace("if getattr(model, name)", "")


@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
def test_bad_spins_are_refused_alike(library):
    ones = library.ones((2, 4, 4))
    for bad in (0.5 * ones, 0 * ones, ones[:, :3], ones > 0):
        with pytest.raises(ValueError, match="x"):
            Ising((4, 4)).energy(bad)
