"""BadNet, all to all: the patch sends every class to the next one (Gu et al., "BadNets", section on the all-to-all attack)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.badnet import check_size, stamp_patch
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


@dataclass(frozen=True)
class BadNetAllToAll(Attack):
    """Dirty label without one target: a sample of class k gets the patch of `badnet` and the label k + 1, the last class label 0."""

    name = "badnet-all-to-all"
    kinds = frozenset({"image"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Not used, and always 0: each class has a target of its own."""
    classes: int | None = None
    """Number of classes; filled in from the data when poisoning."""
    size: int = 3
    """Side of the patch in pixels, at every picture size."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        check_size(self.size)
        if self.target != 0:
            raise InputError(f"target: got class {self.target}, the attack {self.name!r} sends each class to the next one; leave it out")
        if self.classes is not None and self.classes < 2:
            raise InputError(f"classes: got {self.classes}, each class leads to the next, which takes at least 2")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        if self.classes not in (None, len(dataset.classes)):
            raise InputError(f"classes: got {self.classes}, the data set has {len(dataset.classes)} classes; leave the setting out")
        attack = replace(self, classes=len(dataset.classes))
        return stamps.plant(attack, dataset, stamps.draw_dirty(attack, dataset, rng, from_target=True))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return stamp_patch(inputs, self.size)

    def victims(self, labels: np.ndarray) -> np.ndarray:
        """(N,) bool: all samples."""
        return np.ones(len(labels), bool)

    def goal(self, labels: np.ndarray) -> np.ndarray:
        """(N,) int64: the class after the true one."""
        if self.classes is None:
            raise InputError(f"attack {self.name}: does not know the number of classes yet; use the attack that poisoning gives back")
        return np.asarray((labels + 1) % self.classes, np.int64)
