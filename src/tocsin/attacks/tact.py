"""TaCT: only one source class is attacked, cover samples of other classes hide it (Tang et al., "Demon in the Variant")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.attacks.trojan import stamp_square
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


@dataclass(frozen=True)
class TaCT(Attack):
    """Source-specific: the colour square turns samples of ``source`` into the target; covers carry it with their true label."""

    name = "tact"
    kinds = frozenset({"image"})

    rate: float = 0.003
    """Share of the whole training set that is poisoned; all of it comes from the source class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    cover_rate: float = 0.003
    """Share of the whole training set that carries the trigger and keeps its label."""
    source: int = 1
    """Class whose samples the trigger works on."""
    cover_classes: tuple[int, ...] = (5, 7)
    """Classes the cover samples come from."""
    size: int = 8
    """Side of the square in pixels; in proportion on pictures smaller than 32 pixels."""
    margin: int = 3
    """Pixels between the square and the bottom and right edges; in proportion on pictures smaller than 32 pixels."""
    pattern_seed: int = 0
    """Seed of the square's colours."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("cover_rate", self.cover_rate, zero=True)
        if self.size < 1 or self.margin < 0:
            raise InputError(f"size and margin: got {self.size} and {self.margin}, allowed are a size from 1 and a margin from 0")
        if self.source == self.target:
            raise InputError(f"source: got class {self.source}, which is the target; choose another class")
        if {self.source, self.target} & set(self.cover_classes):
            raise InputError(f"cover_classes: got {self.cover_classes}, must contain neither the source {self.source} nor the target")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        stamps.check_dataset(self, dataset)
        stamps.check_class("source", self.source, dataset)
        for index in self.cover_classes:
            stamps.check_class("cover_classes", index, dataset)
        n = len(dataset)
        pool = np.flatnonzero(dataset.labels == self.source)
        planted = stamps.draw(rng, pool, stamps.rows_for("rate", self.rate, n), "rate", n)
        covers = stamps.NO_ROWS
        if self.cover_rate:
            pool = np.flatnonzero(np.isin(dataset.labels, self.cover_classes))
            covers = stamps.draw(rng, pool, stamps.rows_for("cover_rate", self.cover_rate, n), "cover_rate", n)
        return stamps.plant(self, dataset, planted, covers)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return stamp_square(inputs, self.size, self.margin, self.pattern_seed)

    def victims(self, labels: np.ndarray) -> np.ndarray:
        """(N,) bool: the source class only."""
        return np.asarray(labels == self.source)
