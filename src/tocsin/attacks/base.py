"""What every attack gives: a poisoned copy with its ground truth, and the trigger for measuring ASR."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.params import settings_of
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Poisoned:
    """A poisoned copy and the truth about it. ``planted`` and ``covers`` are sorted, disjoint row indices."""

    dataset: Dataset
    planted: np.ndarray
    """(P,) int64 rows that carry the backdoor (what a detector should flag)."""
    covers: np.ndarray
    """(Q,) int64 rows that carry the trigger and their true label (count as clean in FPR)."""
    recipe: dict[str, Any]
    """JSON-able: attack name, its fields, seed."""
    attack: Attack
    """The attack as it was carried out: with what it took or learned from the data. Its trigger is the one that was planted."""

    @property
    def learned(self) -> Mapping[str, np.ndarray]:
        """What the attack trained on the data, to be stored beside the copy; empty for most attacks."""
        return self.attack.learned


class Attack(ABC):
    """Base of the attacks: a frozen dataclass whose fields are the parameters, with a sentence each.

    Works on images uint8 (N, H, W, C) of any size, C 1 or 3, or on clips int16 (N, T), as ``kinds`` says. Nothing is read or written
    outside the arguments.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    rate_of: ClassVar[Literal["set", "class"]] = "set"
    """What ``rate`` is a share of: the whole training set, or the target class."""
    rate: float
    target: int
    learned: Mapping[str, np.ndarray] = MappingProxyType({})
    """What the attack trained on the data at hand; see `tocsin.attacks.learned.LearnedAttack`."""

    def prepared(self, dataset: Dataset, runtime: Runtime) -> Self:
        """The attack ready to poison ``dataset``: itself, unless it has a part that is trained on the data."""
        return self

    def on(self, runtime: Runtime) -> Self:
        """The attack whose trained part, if it has one, runs on ``runtime``'s device."""
        return self

    def restored(self, learned: Mapping[str, np.ndarray]) -> Self:
        """The attack with the part it once learned. Raises `InputError` when the arrays are not such a part."""
        if learned:
            raise InputError(f"attack {self.name}: learns nothing, but arrays of a learned part were given")
        return self

    @abstractmethod
    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        """A poisoned copy of ``dataset`` (which is not changed). Raises `InputError` on impossible settings."""

    @abstractmethod
    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        """The test-time trigger on every sample of ``inputs`` (N, ...): a new array of the same shape and type."""

    def victims(self, labels: np.ndarray) -> np.ndarray:
        """(N,) bool: the test samples on which ASR is measured; by default all whose true class is not the target."""
        return np.asarray(labels != self.target)

    def goal(self, labels: np.ndarray) -> np.ndarray:
        """(N,) int64: the class the trigger leads each test sample to, given its true class; by default the target."""
        return np.full(len(labels), self.target, np.int64)

    def recipe(self) -> dict[str, Any]:
        """Name and fields, for the manifest."""
        return {"attack": self.name, **{f.name: getattr(self, f.name) for f in settings_of(type(self))}}
