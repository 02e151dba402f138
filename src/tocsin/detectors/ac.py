"""Activation Clustering (AC): Chen et al., "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", 2018.

The features of each class are reduced to ten dimensions and parted in two by 2-means. In a clean class the halves are about equal; a
small group is poison. docs/passive.md says what differs from the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.detectors.feature import Answer, FeatureDetector, Readings, Scores, checked_share
from tocsin.errors import InputError
from tocsin.stats.calibration import excess_among
from tocsin.stats.principal import centre, principal
from tocsin.stats.two_means import two_means

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim


@dataclass(frozen=True)
class ActivationClustering(FeatureDetector):
    """Activation Clustering: flags the smaller of two clusters of a class's features where it is small."""

    name: ClassVar[str] = "ac"

    dimensions: int = 10
    """Principal components that are clustered."""
    size: float = 0.35
    """The smaller cluster is suspicious if it holds less than this share of the class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimensions < 1:
            raise InputError(f"dimensions: got {self.dimensions}; allowed is 1 or more")
        checked_share("size", self.size, 0.5)

    def decide(self, data: Readings, victim: Victim) -> Answer:
        scores, small = Scores.empty(data), np.zeros(len(data.labels), bool)
        counts = np.zeros((4, data.classes), np.int64)
        for group, side in data.each_class("activation clustering", lambda group: small_side(group.x, group.size, self.dimensions)):
            k, n = group.index, group.size
            inside = side > 0
            small[group.rows] = inside[:n]
            counts[:, k] = inside[:n].sum(), n, inside[n:].sum(), len(side) - n
            scores.statistic[k] = 1 - 2 * counts[0, k] / n
            # Two equal halves say nothing about which of them is poison.
            scores.put(group, side * max(scores.statistic[k], 0.0))
        found, sizes = counts[:2]
        suspects = (found > 0) & (found < self.size * sizes)
        p = excess_among(suspects, counts, times=int(np.count_nonzero(suspects)))
        if self.decision == "reserve":
            suspects &= p <= self.alpha
        flagged = small & suspects[data.labels]
        shares: dict[str, Any] = {data.names[k]: float(found[k] / sizes[k]) for k in range(data.classes) if sizes[k]}
        return Answer(scores, flagged, p, suspects, 0.0 if suspects.any() else None, evidence={"smaller cluster": shares})


def small_side(x: np.ndarray, n: int, dimensions: int) -> np.ndarray:
    """(n + m,) how far each row lies on the smaller cluster's side: 0 midway, 0.5 at its centre, -0.5 at the other's.

    ``x`` (n + m, F) float32, centred in place; which cluster is smaller is counted among the first ``n`` rows. Zeros: no two clusters.
    """
    centre(x)
    _, directions = principal(x, dimensions)
    points = x @ directions.astype(x.dtype)
    split = two_means(points, points)
    if split.gain <= 0:
        return np.zeros(len(x))
    side = split.side(points) / float((split.centres[1] - split.centres[0]) @ split.along)
    # What lies exactly midway goes with the first cluster, as in `two_means`.
    return side if 2 * np.count_nonzero(side[:n] > 0) <= n else -side
