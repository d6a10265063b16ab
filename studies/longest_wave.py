"""A measurement of one's own, for observable.toml."""
import numpy as np


def longest_wave(x):
    "Structure factor at the longest wave, averaged over the axes, (n,), of spins x (n, L, L)."
    x = np.asarray(x, dtype=float)
    wave = np.exp(2j * np.pi * np.arange(x.shape[-1]) / x.shape[-1])
    return (abs(x.sum(-2) @ wave) ** 2 + abs(x.sum(-1) @ wave) ** 2) / (2 * x.shape[-1] ** 2)
