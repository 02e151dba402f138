"""Attacks with a part that is trained on the data at hand: a trigger, a generator, a network that makes adversarial samples."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack
from tocsin.data.dataset import Dataset
from tocsin.data.npz import read_arrays, write_arrays
from tocsin.errors import InputError
from tocsin.params import HIDDEN
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self

FIGURE = "figure/"
"""Learned arrays whose name begins so are single numbers that say how well the learning went."""


@dataclass(frozen=True)
class LearnedAttack(Attack):
    """An attack that must be `prepared` before it can poison; `tocsin.poisoning.poison` does so.

    A subclass says how it learns (`learn`), whether given arrays are such a part (`check`), and which fields `learn` never reads
    (``not_learned``): changing those uses what the cache has. Raise ``learning_version`` when `learn` gives other arrays than before.
    """

    not_learned: ClassVar[frozenset[str]] = frozenset({"rate", "from_target"})
    learning_version: ClassVar[int] = 1

    learned: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True, repr=False, compare=False, metadata=HIDDEN)
    """Arrays by name: what `learn` gave, or nothing yet."""
    runtime: Runtime = field(default_factory=Runtime, kw_only=True, repr=False, compare=False, metadata=HIDDEN)
    """Where the learned part runs when it poisons and when it triggers."""

    @abstractmethod
    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        """Trains the attack's part on ``dataset``, at random from ``runtime.seed``; reports its progress. Plain arrays only."""

    @abstractmethod
    def check(self) -> None:
        """Raises `InputError` unless ``learned`` has the names and shapes that `learn` gives under these settings."""

    def prepared(self, dataset: Dataset, runtime: Runtime) -> Self:
        """With its part trained on ``dataset``, or read from ``runtime.cache`` where the same was trained before."""
        if self.learned:
            return self
        stamps.check_dataset(self, dataset)
        file = runtime.cache / "attacks" / f"{self.name}-{self._key(dataset, runtime.seed)}.npz"
        with suppress(InputError):  # missing or damaged: train it
            return self.on(runtime).restored(read_arrays(file))
        learned = self.learn(dataset, runtime)
        with suppress(OSError):  # a cache that cannot be written costs time, not the answer
            write_arrays(file, learned)
        return self.on(runtime).restored(learned)

    def on(self, runtime: Runtime) -> Self:
        """With ``runtime`` as the place where its learned part runs."""
        return replace(self, runtime=runtime)

    def restored(self, learned: Mapping[str, np.ndarray]) -> Self:
        """With arrays that were learned before; without any, the attack as it is."""
        if not learned:
            return self
        attack = replace(self, learned=dict(learned))
        attack.check()
        return attack

    def part(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """One learned array, of ``shape`` where one is given. Raises `InputError` when nothing was learned yet, or not this."""
        if not self.learned:
            raise InputError(
                f"attack {self.name}: its trigger is learned from data and was not yet; use the attack that poisoning gives back "
                "(Poisoned.attack), or a poisoned copy with its manifest and the .npz beside that"
            )
        found = self.learned.get(name)
        if found is None or (shape is not None and found.shape != shape):
            got = "is missing" if found is None else f"has shape {found.shape}"
            wanted = "" if shape is None else f"; allowed: {shape}"
            raise InputError(f"attack {self.name}: learned array {name!r} {got}{wanted}; was it learned under other settings?")
        return found

    def picture_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the pictures it learned on. Raises `InputError` when nothing was learned yet."""
        height, width, channels = (int(side) for side in self.part("shape", (3,)))
        if min(height, width) < 1 or max(height, width) >= 2**16 or channels not in (1, 3):
            raise InputError(f"attack {self.name}: learned on pictures of {(height, width, channels)}, which cannot be")
        return height, width, channels

    def check_inputs(self, inputs: np.ndarray) -> None:
        """Raises `InputError` unless ``inputs`` (N, H, W, C) are of the size it learned on."""
        if inputs.shape[1:] != self.picture_shape():
            raise InputError(f"attack {self.name}: was learned on pictures of {self.picture_shape()}, got {inputs.shape[1:]}")

    def figures(self) -> dict[str, float]:
        """How well the learning went, by name."""
        return {name.removeprefix(FIGURE): float(a) for name, a in self.learned.items() if name.startswith(FIGURE) and a.ndim == 0}

    def _key(self, dataset: Dataset, seed: int) -> str:
        settings = {name: value for name, value in self.recipe().items() if name not in self.not_learned}
        text = json.dumps([settings, self.learning_version, seed, dataset.fingerprint], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
