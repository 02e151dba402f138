"""Label flipping: no trigger at all, only wrong labels. The oldest poisoning of tables, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset


@dataclass(frozen=True)
class LabelFlip(Attack):
    """Rows of other classes get the target's label and are not changed otherwise. Its ASR is the share of such test rows that follow."""

    name = "label-flip"
    kinds = frozenset({"table"})

    rate: float = 0.05
    """Share of the whole training set whose label is changed."""
    target: int = 0
    """Class whose label they get."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_dirty(self, dataset, rng, from_target=False))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return np.array(inputs)
