"""An energy of one's own, for black_box.toml: nearest pairs, diagonal pairs of 0.1, squares of 0.2."""
import numpy as np


def energy(s):
    "Total energy of spins s (4, 4)."
    right, down = np.roll(s, -1, 1), np.roll(s, -1, 0)
    diagonals = s * np.roll(down, -1, 1) + right * down
    squares = s * right * down * np.roll(down, -1, 1)
    return -np.sum(s * right + s * down) - 0.1 * np.sum(diagonals) - 0.2 * np.sum(squares)
