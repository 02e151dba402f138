"""Blend: a faint full-frame picture over the whole sample (Chen et al., "Targeted Backdoor Attacks ... Using Data Poisoning")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset


@dataclass(frozen=True)
class Blend(Attack):
    """Dirty label: ``x <- (1 - alpha) x + alpha t`` and the label becomes the target."""

    name = "blend"
    kinds = frozenset({"image"})

    rate: float = 0.003
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    alpha: float = 0.2
    """Weight of the trigger picture, the same at training and test."""
    pattern: str = "picture"
    """``picture`` (smooth coloured ellipses, like the published cartoon) or ``noise`` (uniform noise)."""
    pattern_seed: int = 0
    """Seed of the trigger picture."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("alpha", self.alpha)
        stamps.check_pattern(self.pattern)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_dirty(self, dataset, rng, self.from_target))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return stamps.blend(inputs, stamps.picture(self.pattern, inputs.shape, self.pattern_seed), self.alpha)
