"""SIG: a horizontal sinusoid on samples of the target class, labels untouched (Barni et al., "A New Backdoor Attack in CNNs ...")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


@dataclass(frozen=True)
class Sig(Attack):
    """Clean label: ``x <- clip(x + amplitude sin(2 pi c frequency / W))`` on target-class samples only; no label changes."""

    name = "sig"
    kinds = frozenset({"image"})

    rate: float = 0.02
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    amplitude: float = 30.0
    """Height of the wave on the 0..255 scale."""
    frequency: float = 6.0
    """Periods across the width of the picture."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if not 0 < self.amplitude <= 255:
            raise InputError(f"amplitude: got {self.amplitude}, allowed is above 0 up to 255 (30 means 30/255)")
        if not 0 < self.frequency < float("inf"):
            raise InputError(f"frequency: got {self.frequency}, allowed is any number of periods above 0")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_clean_label(self, dataset, rng))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        width = inputs.shape[2]
        wave = self.amplitude * np.sin(2 * np.pi * np.arange(width) * self.frequency / width)
        # A 256-entry table for each column replaces float arithmetic on every pixel: (256, W) uint8.
        table = stamps.to_bytes(np.arange(256)[:, None] + wave[None, :])
        return np.asarray(table[inputs, np.arange(width)[None, None, :, None]])
