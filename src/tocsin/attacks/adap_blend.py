"""Adap-Blend: poisons and covers each show half of a faint picture (Qi et al., "Revisiting ... Latent Separability")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


def visible_tiles(rng: np.random.Generator, count: int, grid: int, hidden: int) -> np.ndarray:
    """(count, grid * grid) bool: for each sample which tiles show; ``hidden`` of them, drawn uniformly, do not."""
    ranks = rng.random((count, grid * grid)).argsort(axis=1).argsort(axis=1)
    return ranks >= hidden


def tile_mask(visible: np.ndarray, grid: int, height: int, width: int) -> np.ndarray:
    """(N, H, W, 1) bool from (N, grid * grid): tiles as equal as the picture's size allows."""
    tile = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None, :]
    return visible[:, tile][..., None]


@dataclass(frozen=True)
class AdapBlend(Attack):
    """Dirty label with covers: each touched sample blends a random half of the tiles; the test trigger is whole and stronger."""

    name = "adap-blend"
    kinds = frozenset({"image"})

    rate: float = 0.003
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    cover_rate: float = 0.003
    """Share of the whole training set that carries the trigger and keeps its label."""
    alpha: float = 0.15
    """Weight of the trigger picture at training."""
    test_alpha: float = 0.2
    """Weight of the whole trigger picture at test."""
    grid: int = 4
    """The picture is cut into ``grid`` x ``grid`` tiles."""
    hidden: int = 8
    """How many of the tiles each poison and each cover hides."""
    pattern: str = "picture"
    """``picture`` (smooth coloured ellipses, like the published cartoon) or ``noise`` (uniform noise)."""
    pattern_seed: int = 0
    """Seed of the trigger picture."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("cover_rate", self.cover_rate, zero=True)
        stamps.check_share("alpha", self.alpha)
        stamps.check_share("test_alpha", self.test_alpha)
        stamps.check_pattern(self.pattern)
        if self.grid < 1 or not 0 <= self.hidden < self.grid**2:
            raise InputError(
                f"hidden: got {self.hidden} of {self.grid} x {self.grid} tiles, allowed is from 0 to one less than all of them"
            )

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        stamps.check_dataset(self, dataset)
        height, width = dataset.inputs.shape[1:3]
        if self.grid > min(height, width):
            raise InputError(f"grid: {self.grid} tiles a side do not fit a picture of {height} x {width}")
        planted = stamps.draw_dirty(self, dataset, rng, self.from_target)
        covers = stamps.draw_covers(self.cover_rate, dataset, planted, rng)
        trigger = stamps.picture(self.pattern, dataset.inputs.shape, self.pattern_seed)

        def half(x: np.ndarray) -> np.ndarray:
            mask = tile_mask(visible_tiles(rng, len(x), self.grid, self.hidden), self.grid, height, width)
            return stamps.blend(x, trigger, self.alpha * mask.astype(np.float32))

        return stamps.plant(self, dataset, planted, covers, stamp=half)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return stamps.blend(inputs, stamps.picture(self.pattern, inputs.shape, self.pattern_seed), self.test_alpha)
