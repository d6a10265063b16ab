"Every surrogate that is read from a file: right kind, wrong contents, and the error names the file."

import warnings

import numpy as np
import pytest

from uqphys.architectures import MLP
from uqphys.committees import EnsembleNet
from uqphys.gp import ExactGP
from uqphys.hmc import HMCNet
from uqphys.lattice_gp import LatticeGP
from uqphys.lattice_kernels import ExtensiveGP
from uqphys.models import Ising, random_spins
from uqphys.training import load_state, save_state
from uqphys.variational import VariationalNet

SPINS = random_spins((4, 4), 12, seed=1)
ENERGIES = Ising((4, 4), K=0.2).energy(SPINS)[:, None]
X = np.linspace(-1, 1, 20)[:, None]
NET = MLP((1,), hidden=(3,))
MAKE = {
    "ExactGP": lambda: ExactGP(restarts=0).fit(X, np.sin(3 * X), progress=False),
    "LatticeGP": lambda: LatticeGP().fit(SPINS, ENERGIES),
    "ExtensiveGP": lambda: ExtensiveGP().fit(SPINS, ENERGIES),
    "EnsembleNet": lambda: EnsembleNet(NET, members=4, epochs=2).fit(X, np.sin(3 * X), progress=False),
    "HMCNet": lambda: HMCNet(NET, chains=2, steps=4, warmup=20).fit(X, np.sin(3 * X), progress=False),
    "VariationalNet": lambda: VariationalNet(NET, steps=20, starts=1).fit(X, np.sin(3 * X), progress=False),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_damaged_file_is_named(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such short fits doubt themselves
        fitted = MAKE[name]()
    fitted.save(tmp_path / "whole")
    assert type(type(fitted).load(tmp_path / "whole")) is type(fitted)
    state = load_state(tmp_path / "whole", name)
    damages = {key: {k: v for k, v in state.items() if k != key} for key in state if key != "kind"}
    damages["an option that nobody knows"] = state | {"options": state["options"] | {"unknown": 1}}
    for what, damaged in damages.items():
        save_state(tmp_path / "hurt", damaged)
        with pytest.raises(ValueError, match=f"path=.*hurt.*damaged.*{name}.save"):
            type(fitted).load(tmp_path / "hurt")
            raise AssertionError(f"loaded without {what}")
