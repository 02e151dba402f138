"""BadNet: a 3 x 3 black-and-white patch in the bottom right corner (Gu et al., "BadNets")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


@dataclass(frozen=True)
class BadNet(Attack):
    """Dirty label: the patch is stamped opaquely and the label becomes the target."""

    name = "badnet"
    kinds = frozenset({"image"})

    rate: float = 0.003
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    size: int = 3
    """Side of the patch in pixels, at every picture size."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if self.size < 3:
            raise InputError(f"size: got {self.size}, the pattern needs at least 3 pixels")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        stamps.check_dataset(self, dataset)
        n = len(dataset)
        pool = stamps.dirty_pool(dataset.labels, self.target, self.from_target)
        planted = stamps.draw(rng, pool, stamps.rows_for("rate", self.rate, n), "rate", n)
        return stamps.plant(self, dataset, planted, np.empty(0, np.int64), self.trigger)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        rows, cols = stamps.corner_box(self.size, 0, inputs.shape)
        out = np.array(inputs)
        out[:, rows, cols] = stamps.checker(self.size)[:, :, None]
        return out
