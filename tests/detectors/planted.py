"""Features with a planted cluster, and a Victim that holds them without any training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.victim import Victim
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Planted:
    features: np.ndarray
    labels: np.ndarray
    reserve_features: np.ndarray
    reserve_labels: np.ndarray
    poison: np.ndarray
    """(N,) bool."""
    classes: int

    def victim(self, runtime: Runtime | None = None) -> Victim:
        return victim_of(self.features, self.labels, self.reserve_features, self.reserve_labels, self.classes, runtime)


def planted(
    *,
    seed: int = 0,
    classes: int = 10,
    each: int = 200,
    reserve_each: int = 40,
    width: int = 32,
    share: float = 0.0,
    away: float = 12.0,
    target: int = 3,
    offset: float = 0.0,
    rectified: bool = False,
) -> Planted:
    """Gaussian classes of one covariance, its standard deviations from 0.5 to 1.5. ``share`` of class ``target`` is planted: another
    Gaussian, ``away`` standard deviations off in a random direction. All features are moved by ``offset``. ``rectified``: negative
    features become 0, as behind a ReLU. Rows are shuffled.
    """
    world = np.random.default_rng(4711)
    means = 3 * world.standard_normal((classes, width)) + offset
    scale = np.linspace(0.5, 1.5, width)
    direction = world.standard_normal(width)
    direction *= away / np.linalg.norm(direction)
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.repeat(np.arange(classes), count))
        return means[labels] + scale * rng.standard_normal((len(labels), width)), labels

    features, labels = draw(each)
    reserve_features, reserve_labels = draw(reserve_each)
    poison = np.zeros(len(labels), bool)
    poison[np.flatnonzero(labels == target)[: round(share * each)]] = True
    features[poison] += scale * direction
    if rectified:
        features, reserve_features = np.maximum(features, 0), np.maximum(reserve_features, 0)
    return Planted(features.astype(np.float32), labels, reserve_features.astype(np.float32), reserve_labels, poison, classes)


def victim_of(
    features: np.ndarray,
    labels: np.ndarray,
    reserve_features: np.ndarray,
    reserve_labels: np.ndarray,
    classes: int,
    runtime: Runtime | None = None,
) -> Victim:
    """A Victim whose readings are given: what it computes when first asked for is there already. It predicts every label."""
    names = tuple(f"kind {k}" for k in range(classes))
    train, reserve = (Dataset.of_arrays(np.zeros((len(y), 1, 1, 1), np.uint8), y, names) for y in (labels, reserve_labels))
    victim = Victim(train, reserve, None, None, runtime or Runtime(device="cpu"))  # type: ignore[arg-type]
    one_hot = np.eye(classes, dtype=np.float32)
    victim.__dict__.update(
        features=features, reserve_features=reserve_features, logits=one_hot[labels], reserve_logits=one_hot[reserve_labels]
    )
    return victim
