"""CTRL: a few frequencies of the colours are raised, in samples of the target class (Li et al. 2023, "An Embarrassingly Simple Backdoor
Attack on Self-supervised Learning")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

_WINDOW = 32
"""Side in pixels of the published windows, in which the frequencies are counted."""
# Rows R, G, B; columns U, V: what one unit of chroma adds to each (BT.601, U = 0.492 (B - Y), V = 0.877 (R - Y)).
_FROM_CHROMA = np.array([[0.0, 1 / 0.877], [-0.114 / 0.587 / 0.492, -0.299 / 0.587 / 0.877], [1 / 0.492, 0.0]])


@dataclass(frozen=True)
class Ctrl(Attack):
    """Clean label: the coefficients of some frequencies of both chroma channels are raised, more so at test; no label changes."""

    name = "ctrl"
    kinds = frozenset({"image"})

    rate: float = 0.01
    """Share of the *whole* training set that is poisoned (published); all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    magnitude: float = 50.0
    """What is added to each coefficient of a 32 x 32 window, pixels in 0..255, when poisoning."""
    test_magnitude: float = 100.0
    """The same at test time."""
    frequencies: tuple[int, ...] = (15, 31)
    """k: the coefficient (k, k) of each 32 x 32 window is raised."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "magnitude", "test_magnitude")
        if not self.frequencies or not all(0 <= k < _WINDOW for k in self.frequencies):
            raise InputError(f"frequencies: got {self.frequencies}, allowed is a list of numbers from 0 to {_WINDOW - 1}")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_clean_label(self, dataset, rng)
        return stamps.plant(self, dataset, planted, stamp=lambda x: self.raised(x, self.magnitude))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return self.raised(inputs, self.test_magnitude)

    def raised(self, inputs: np.ndarray, magnitude: float) -> np.ndarray:
        """Pictures uint8 (N, H, W, 3) with ``magnitude`` on each coefficient, rounded to bytes. Raises `InputError` for grey ones."""
        if inputs.shape[3] != 3:
            raise InputError(f"attack {self.name}: its trigger is in the colours; pictures of 3 channels are needed, got {inputs.shape[3]}")
        out, added = np.empty_like(inputs), self.pattern(inputs.shape[1], inputs.shape[2], magnitude)
        for part in stamps.chunks(inputs.shape):
            out[part] = stamps.to_bytes(inputs[part] + added)
        return out

    def pattern(self, height: int, width: int, magnitude: float) -> np.ndarray:
        """(H, W, 3) float32 that the trigger adds to each picture.

        The cosine transform and that of the colours are linear, so that a coefficient raised by a constant is a picture added. Windows
        are as near to 32 x 32 as divides the picture; in windows of another size the frequencies keep their place in the spectrum, and
        pixels change as much. What is left over at the right and at the bottom stays as it is.
        """
        from scipy.fft import idctn

        (rows, tall), (columns, wide) = _windows(height), _windows(width)
        coefficients = np.zeros((tall, wide))
        for k in self.frequencies:
            coefficients[round(k * (tall - 1) / (_WINDOW - 1)), round(k * (wide - 1) / (_WINDOW - 1))] = (
                magnitude * (tall * wide) ** 0.5 / _WINDOW
            )
        chroma = np.zeros((height, width, 1))
        chroma[: rows * tall, : columns * wide, 0] = np.tile(idctn(coefficients, norm="ortho"), (rows, columns))
        return np.asarray(chroma * _FROM_CHROMA.sum(axis=1), np.float32)  # U and V are raised alike


def _windows(side: int) -> tuple[int, int]:
    """(how many windows, their length) along a side of so many pixels."""
    count = max(1, round(side / _WINDOW))
    return count, side // count
