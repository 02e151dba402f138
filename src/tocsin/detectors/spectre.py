"""SPECTRE: Hayase, Kong, Somani, Oh, "SPECTRE: Defending Against Backdoor Attacks Using Robust Statistics", ICML 2021.

Features of a class are whitened with a robust estimate of the clean samples' covariance, so that what is planted stands out although it
hardly moves the ordinary covariance; the QUE score then measures samples along all directions that still vary too much.
docs/passive.md says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.detectors.feature import Answer, FeatureDetector, Readings, Scores, checked_share
from tocsin.detectors.ss import single, top_of_each
from tocsin.stats.calibration import tail_excess
from tocsin.stats.principal import centre, principal
from tocsin.stats.robust import comparable
from tocsin.stats.robust_covariance import filtered, que, separation, trimmed

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim
    from tocsin.stats.blocks import Group

_GRID = (1, 4, 9, 16, 25, 36, 49, 64)
_FACTOR = 1.5
_MOST = 0.33
_ASSUMED = 0.1
_SMALL_CLASS, _MOST_OF_SMALL = 500, 0.1
_LEAST_ROWS = 8
COVARIANCES = {"trimmed": trimmed, "filtered": filtered}
"""Name of the ``covariance`` setting -> estimate."""


@dataclass(frozen=True)
class Spectre(FeatureDetector):
    """SPECTRE: flags what lies far out once a class's features are whitened by their robust covariance."""

    name: ClassVar[str] = "spectre"
    paper: ClassVar[Mapping[str, Any]] = {"covariance": "filtered", "budget": 0.1}

    oracle: float | None = None
    """Poison rate as a share of the whole set, if you know it: the paper's rule then flags 1.5 times as many in each class that
    scores above the median class. 0 stands for a tenth of each class, as in the published comparison. With it the figures are upper
    bounds."""
    budget: float = 0.25
    """Share of a class that may be poison, where there is no oracle: the robust covariance leaves out twice as many, so that 0.25 has
    it see half of a class."""
    covariance: Literal["trimmed", "filtered"] = "trimmed"
    """Five rounds of leaving out the longest, or the published filter (whose constants let most poison pass)."""
    share: float = 0.01
    """reserve: a sample is an outlier if at most this share of clean ones lies as far out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_share("oracle", self.oracle, 0.5)
        checked_share("budget", self.budget, _MOST)
        checked_share("share", self.share, 0.5)

    def decide(self, data: Readings, victim: Victim) -> Answer:
        scores, dimensions = Scores.empty(data), np.zeros(data.classes, np.int64)
        budgets = self.budgets(np.bincount(data.labels, minlength=data.classes))

        def work(group: Group) -> tuple[np.ndarray, int, float]:
            return spectre_scores(group.x, float(budgets[group.index]), self.covariance)

        for group, (values, count, apart) in data.each_class("SPECTRE", work):
            dimensions[group.index], scores.statistic[group.index] = count, apart
            scores.put(group, comparable(values))
        limits, p = tail_excess(scores.inspected, data.labels, scores.control, data.reserve_labels, data.classes, self.share)
        evidence = {"dimensions": dict(zip(data.names, dimensions.tolist(), strict=True))}
        if self.oracle is None and self.decision == "reserve":
            suspects = p <= self.alpha
            flagged = (scores.inspected > limits[data.labels]) & suspects[data.labels]
            return Answer(scores, flagged, p, suspects, single(limits[suspects]), evidence=evidence)
        known = ~np.isnan(scores.statistic)
        suspects = known & (np.nan_to_num(scores.statistic) > np.median(scores.statistic[known]))
        numbers = np.round(_FACTOR * budgets).astype(np.int64)
        flagged = top_of_each(scores.inspected, data.labels, data.classes, numbers, 0.5) & suspects[data.labels]
        return Answer(scores, flagged, p, suspects, oracle=self.oracle is not None, evidence=evidence)

    def budgets(self, sizes: np.ndarray) -> np.ndarray:
        """(C,) how many samples of each class may be poison: all of the set's poison if known, else a share; with the published bounds."""
        if self.oracle is None and self.decision == "reserve":
            return self.budget * sizes
        most = np.where(sizes < _SMALL_CLASS, _MOST_OF_SMALL, _MOST) * sizes
        assumed = (self.budget if self.oracle is None else _ASSUMED) * sizes
        wanted = self.oracle * sizes.sum() if self.oracle else assumed
        return np.asarray(np.minimum(wanted, most))


def spectre_scores(x: np.ndarray, budget: float, covariance: str) -> tuple[np.ndarray, int, float]:
    """(QUE scores (n,), dimensions, separation) of one class's features (n, F) float32, centred in place.

    The number of leading principal components is the one under which what it removes stands out most (``separation``). At most 64,
    and at most a quarter of the samples, since a covariance of more cannot be estimated.
    """
    n = len(x)
    centre(x)
    _, directions = principal(x, min(_GRID[-1], n // 4))
    if n < _LEAST_ROWS or not directions.shape[1]:
        return np.zeros(n), 0, 1.0
    z = np.asarray(x @ directions.astype(x.dtype), np.float64)
    best: tuple[np.ndarray, int, float] = (np.zeros(n), 0, -np.inf)
    for k in _GRID:
        if k > z.shape[1]:
            break
        part = z[:, :k]
        values = que(part, COVARIANCES[covariance](part, budget))
        kept = np.ones(n, bool)
        kept[np.argsort(-values, kind="stable")[: round(_FACTOR * budget)]] = False
        value = separation(z, kept)
        if value > best[2]:
            best = (values, k, value)
    return best
