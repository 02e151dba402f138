"""BadNet: a 3 x 3 black-and-white patch in the bottom right corner (Gu et al., "BadNets")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


def check_size(size: int) -> None:
    """Raises `InputError` unless the patch's pattern fits into ``size`` pixels."""
    if size < 3:
        raise InputError(f"size: got {size}, the pattern needs at least 3 pixels")


def stamp_patch(inputs: np.ndarray, size: int) -> np.ndarray:
    """A copy of ``inputs`` (N, H, W, C) with the ``size`` x ``size`` patch in the bottom right corner."""
    rows, cols = stamps.corner_box(size, 0, inputs.shape)
    out = np.array(inputs)
    out[:, rows, cols] = stamps.checker(size)[:, :, None]
    return out


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
        check_size(self.size)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_dirty(self, dataset, rng, self.from_target))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return stamp_patch(inputs, self.size)
