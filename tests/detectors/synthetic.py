"""Small pictures whose classes are coloured patterns, for tests that need a data set with a meaning and none on disk."""

from __future__ import annotations

import numpy as np

from tocsin.data.dataset import Dataset


def pictures(count: int, *, seed: int, classes: int = 6, size: int = 16, channels: int = 3) -> Dataset:
    """Each class is a smooth pattern at a random brightness and place, under noise."""
    world = np.random.default_rng(77)
    patterns = world.normal(size=(classes, 4, 4, channels)).repeat(size // 4, 1).repeat(size // 4, 2)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    gain = rng.uniform(0.5, 1.5, (count, 1, 1, 1))
    x = 128 + 25 * gain * patterns[labels] + rng.normal(0, 30, (count, size, size, channels))
    return Dataset.of_arrays(np.clip(x, 0, 255).astype(np.uint8), labels, tuple(f"kind {k}" for k in range(classes)))
