"""SSL-Backdoor: a small opaque patch at a random place of target-class samples (Saha et al. 2022, "Backdoor Attacks on Self-Supervised
Learning")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import patches, stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset

_POISONED, _TESTED = (0.25, 0.75), (0.1, 0.9)
"""Part of either side in which the patch lies, when poisoning and at test time."""


@dataclass(frozen=True)
class SslBackdoor(Attack):
    """Clean label: a coloured patch is pasted into target-class samples, near the middle; no label changes."""

    name = "ssl-backdoor"
    kinds = frozenset({"image"})

    rate: float = 0.05
    """Share of the *whole* training set that is poisoned; all of it comes from the target class. Published: half of that class,
    which is 0.5 % of 100 classes, and is 5 % of ten."""
    target: int = 0
    """Class the trigger leads to."""
    size: int = 7
    """Side of the patch in pixels of a 32-pixel picture, in proportion at other sizes (published: 50 of 224)."""
    pattern_seed: int = 0
    """Seed of the patch's colours, and of its places at test time."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        patches.check_patch(self.size)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_clean_label(self, dataset, rng)
        return stamps.plant(self, dataset, planted, stamp=lambda x: patches.paste(x, self.patch(x.shape), _POISONED, rng))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        places = np.random.default_rng([self.pattern_seed, 0x55B])
        return patches.paste(inputs, self.patch(inputs.shape), _TESTED, places)

    def patch(self, shape: tuple[int, ...]) -> np.ndarray:
        """(S, S, C) uint8 for pictures of ``shape`` (N, H, W, C)."""
        return patches.coloured(patches.side_for(self.size, shape), shape[3], self.pattern_seed)
