"""No attack: the clean control row of every table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


@dataclass(frozen=True)
class NoAttack(Attack):
    """Plants nothing; its "trigger" changes nothing."""

    name = "none"
    kinds = frozenset({"image", "speech", "table"})

    rate: float = 0.0
    """Always 0: nothing is planted."""
    target: int = 0
    """Class into which errors are counted where an ASR is asked for."""

    def __post_init__(self) -> None:
        if self.rate != 0:
            raise InputError(f"rate: got {self.rate}, the attack 'none' plants nothing; choose an attack or leave the rate out")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.NO_ROWS)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return np.array(inputs)
