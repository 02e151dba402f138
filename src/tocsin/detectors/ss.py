"""Spectral Signatures (SS): Tran, Li, Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018.

Poison of a class is a second group among its features, and the direction between the groups is one of large variance. So the score is
the squared projection of a centred feature on the class's leading singular vector. docs/passive.md says what differs from the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tocsin.detectors.feature import Answer, FeatureDetector, Readings, Scores, checked_share
from tocsin.stats.calibration import tail_excess
from tocsin.stats.principal import centre, principal
from tocsin.stats.robust import comparable

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim

_ASSUMED_RATE = 0.01
_FACTOR = 1.5


@dataclass(frozen=True)
class SpectralSignatures(FeatureDetector):
    """Spectral Signatures: flags what lies far out along the direction in which a class varies most."""

    name: ClassVar[str] = "ss"

    oracle: float | None = None
    """Poison rate as a share of the whole set, if you know it: the paper's rule then flags 1.5 times as many in *every* class.
    0 stands for 1 %, as in the published comparison. With it the figures are upper bounds."""
    share: float = 0.01
    """reserve: a sample is an outlier if at most this share of clean ones lies as far out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_share("oracle", self.oracle, 0.5)
        checked_share("share", self.share, 0.5)

    def decide(self, data: Readings, victim: Victim) -> Answer:
        scores = Scores.empty(data)
        for group, (squares, share) in data.each_class("spectral signatures", lambda group: spectral_scores(group.x)):
            scores.put(group, comparable(squares))
            scores.statistic[group.index] = share
        limits, p = tail_excess(scores.inspected, data.labels, scores.control, data.reserve_labels, data.classes, self.share)
        suspects = p <= self.alpha
        if self.oracle is None and self.decision == "reserve":
            flagged = (scores.inspected > limits[data.labels]) & suspects[data.labels]
            return Answer(scores, flagged, p, suspects, single(limits[suspects]))
        number = math.floor(_FACTOR * (self.oracle or _ASSUMED_RATE) * len(data.labels) + 1e-6)
        flagged = top_of_each(scores.inspected, data.labels, data.classes, number, 0.5)
        return Answer(scores, flagged, p, suspects, oracle=self.oracle is not None, evidence={"flagged a class": number})


def spectral_scores(x: np.ndarray) -> tuple[np.ndarray, float]:
    """((n,) squared projection on the leading singular vector, its share of the sum of squares) of (n, F) float32 ``x``.

    ``x`` is centred in place first. Peers that project the features as they are measure their mean's length instead.
    """
    centre(x)
    values, directions = principal(x, 1)
    if not len(values):
        return np.zeros(len(x)), 0.0
    total = float(np.einsum("nf,nf->n", x, x).sum(dtype=np.float64))
    return np.square(x @ directions[:, 0].astype(x.dtype), dtype=np.float64), float(values[0]) / total


def single(limits: np.ndarray) -> float | None:
    """The one limit of the suspect classes; None where there is none, or more than one."""
    return float(limits[0]) if len(limits) and (limits == limits[0]).all() else None


def top_of_each(scores: np.ndarray, labels: np.ndarray, classes: int, number: int | np.ndarray, most: float) -> np.ndarray:
    """(N,) bool: the ``number`` (one, or (C,)) highest scores of each class, but at most the share ``most`` of it."""
    flagged = np.zeros(len(scores), bool)
    order = np.lexsort((-scores, labels))
    sizes = np.bincount(labels, minlength=classes)
    place = np.arange(len(scores)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    flagged[order] = place < np.minimum(number, np.floor(sizes * most))[labels[order]]
    return flagged
