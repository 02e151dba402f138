"""Trojan-like patch: a square of saturated colours near the bottom right corner (after Liu et al., "Trojaning Attack")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


def stamp_square(inputs: np.ndarray, size: int, margin: int, seed: int) -> np.ndarray:
    """A copy of ``inputs`` (N, H, W, C) with the colour square; lengths are those of a 32-pixel picture."""
    side = stamps.shrink(size, inputs.shape, least=min(size, 2))
    rows, cols = stamps.corner_box(side, stamps.shrink(margin, inputs.shape, least=0), inputs.shape)
    out = np.array(inputs)
    out[:, rows, cols] = stamps.colour_square(side, inputs.shape[3], seed)
    return out


@dataclass(frozen=True)
class Trojan(Attack):
    """Dirty label: the square is stamped opaquely and the label becomes the target."""

    name = "trojan"
    kinds = frozenset({"image"})

    rate: float = 0.003
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    size: int = 8
    """Side of the square in pixels; in proportion on pictures smaller than 32 pixels."""
    margin: int = 3
    """Pixels between the square and the bottom and right edges; in proportion on pictures smaller than 32 pixels."""
    pattern_seed: int = 0
    """Seed of the square's colours."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if self.size < 1 or self.margin < 0:
            raise InputError(f"size and margin: got {self.size} and {self.margin}, allowed are a size from 1 and a margin from 0")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_dirty(self, dataset, rng, self.from_target))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return stamp_square(inputs, self.size, self.margin, self.pattern_seed)
