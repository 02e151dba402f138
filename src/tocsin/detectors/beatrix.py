"""Beatrix: Ma et al., "The 'Beatrix' Resurrections: Robust Backdoor Detection via Gram Matrices", NDSS 2023.

Products of pairs of features are bounded by what clean samples of a class show. Poison of the class leaves these bounds, however near
it lies in each feature by itself. docs/passive.md says what differs from the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.detectors.feature import Answer, FeatureDetector, Readings, Scores, checked_share
from tocsin.errors import InputError
from tocsin.stats.blocks import Group
from tocsin.stats.calibration import excess_among, upper_limit
from tocsin.stats.mmd import kernel_mmd
from tocsin.stats.robust import mad_index

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim

_FOLDS = 5
_LEAST_CLEAN = 4
_BLOCK = 256
_FLOOR = 0.01
_MOST_IN_MMD = 500


@dataclass(frozen=True)
class Beatrix(FeatureDetector):
    """Beatrix: flags what leaves the bounds of the pairwise products of features of its class."""

    name: ClassVar[str] = "beatrix"
    paper: ClassVar[Mapping[str, Any]] = {"share": 0.05, "distance": "mmd"}

    width: float = 10.0
    """Bounds are the median of clean samples plus and minus this many median absolute deviations."""
    share: float = 0.01
    """A sample is an outlier if at most this share of the class's clean ones leaves the bounds by as much."""
    limit: float = math.e**2
    """A class stands out if its outliers differ from its other samples by this many robust deviations more than in the median class."""
    distance: Literal["test", "mmd"] = "test"
    """How outliers differ from other samples: the two-sample test's statistic, n m / (n + m) times the squared MMD, in which a group of
    two counts for little; or the squared MMD itself, as published, mostly noise where a clean class has few outliers."""
    most_features: int = 512
    """The features that vary most are paired: the work grows with their square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.width < math.inf or not 0 < self.limit < math.inf or self.most_features < 1:
            raise InputError(
                f"width {self.width}, limit {self.limit}, most_features {self.most_features}: "
                "allowed are numbers above 0, and at least 1 feature"
            )
        checked_share("share", self.share, 0.5)

    def decide(self, data: Readings, victim: Victim) -> Answer:
        # The paper sorts samples by what the network says they are, not by their labels.
        predicted, reserve_predicted = victim.logits.argmax(axis=1), victim.reserve_logits.argmax(axis=1)
        seen = replace(data, labels=predicted, reserve_labels=reserve_predicted)
        columns = widest(data.reserve_features, self.most_features)
        scores, outlier = Scores.empty(data), np.zeros(len(data.labels), bool)
        counts = np.zeros((4, data.classes), np.int64)
        for group in seen.by_class("Beatrix"):
            k, n = group.index, group.size
            deviation, limit = class_deviations(group, columns, self.width, self.share)
            beyond = deviation > limit
            counts[:, k] = np.count_nonzero(deviation[:n] > deviation[n:].max(initial=0.0)), n, 0, len(beyond) - n
            outlier[group.rows] = beyond[:n]
            # In units of the limit; where no clean sample leaves the bounds at all, whatever leaves them counts for more than 1.
            scores.put(group, deviation / limit if limit > 0 else np.where(beyond, 1 + deviation, 0.0))
            outliers, others = _thinned(group.x[:n], beyond[:n]), _thinned(group.x[:n], ~beyond[:n])
            weight = len(outliers) * len(others) / (len(outliers) + len(others)) if self.distance == "test" else 1.0
            scores.statistic[k] = weight * kernel_mmd(outliers, others)
        index = mad_index(scores.statistic)
        suspects = (index > self.limit) & (scores.statistic > 0)
        # More samples beyond the highest reserve sample than chance has. A class with many outliers is a candidate more easily: so the
        # number of classes counts, not that of candidates.
        p = excess_among(suspects, counts, times=int(np.count_nonzero(counts[1])))
        if self.decision == "reserve":
            suspects &= p <= self.alpha
        mmd = {data.names[k]: float(v) for k, v in enumerate(scores.statistic) if not math.isnan(v)}
        scores.statistic = index
        # Poison of a class is seen as that class and carries its label.
        flagged = outlier & suspects[data.labels] & (predicted == data.labels)
        return Answer(scores, flagged, p, suspects, 1.0 if suspects.any() else None, evidence={"mmd": mmd, "features": len(columns)})


def widest(reserve: np.ndarray, most: int) -> np.ndarray:
    """(f,) ascending: the ``most`` columns of (M, F) features with the largest variance."""
    variance = np.asarray(reserve, np.float64).var(axis=0) if len(reserve) else np.zeros(reserve.shape[1])
    return np.sort(np.argsort(-variance, kind="stable")[:most])


def class_deviations(group: Group, columns: np.ndarray, width: float, share: float) -> tuple[np.ndarray, float]:
    """((n + m,) deviations, the limit that a ``share`` of clean samples exceeds) for one class's inspected and reserve samples.

    Bounds come from the reserve samples. Their own deviations are cross-fitted: from the bounds of four fifths, for the other fifth.
    With fewer than 4 reserve samples nothing can be said: zeros, and an infinite limit.
    """
    x, n = group.x if len(columns) == group.x.shape[1] else group.x[:, columns], group.size
    clean = x[n:]
    if len(clean) < _LEAST_CLEAN:
        return np.zeros(len(x)), math.inf
    out = np.empty(len(x))
    bounds = gram_bounds(clean, width)
    out[:n] = deviations(x[:n], *bounds)
    fold = np.arange(len(clean)) % _FOLDS
    for f in range(min(_FOLDS, len(clean))):
        out[n:][fold == f] = deviations(clean[fold == f], *gram_bounds(clean[fold != f], width))
    return out, min(upper_limit(out[n:], share), float(out[n:].max()))


def gram_bounds(clean: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each (2, F, F) float32 upper triangles: median -+ ``width`` MAD of the Gram entries of (m, F) ``clean`` samples.

    Entry [0] is of odd orders: g = f_i f_j. Entry [1] is of even ones: the p-th root of (f_i f_j)^p is |f_i f_j|. A vector has no other
    Gram matrices, whatever the order, so that the published eight are these two. Medians are the lower ones, as in the official code.
    """
    m, f = clean.shape
    low, high = np.zeros((2, 2, f, f), np.float32)
    place = (m - 1) // 2
    for order in (0, 1):
        if order and (clean >= 0).all():
            low[1], high[1] = low[0], high[0]
            break
        columns = np.ascontiguousarray((np.abs(clean) if order else clean).T)
        for i in range(f):
            g = columns[i:] * columns[i]
            middle = np.partition(g, place, axis=1)[:, place]
            np.abs(np.subtract(g, middle[:, None], out=g), out=g)
            reach = width * np.partition(g, place, axis=1)[:, place]
            low[order, i, i:], high[order, i, i:] = middle - reach, middle + reach
    return low, high


def deviations(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(n,) float64: how far the Gram entries of (n, F) float32 ``x`` leave their bounds, relative to the bounds.

    The mean over pairs and orders. A bound counts as at least 1 % of the mean bound, so that a pair that is nearly always 0 does not
    decide alone.
    """
    pairs = x.shape[1] * (x.shape[1] + 1) / 2
    odd = _outside(x, low[0], high[0])
    if (x >= 0).all() and np.array_equal(low[0], low[1]) and np.array_equal(high[0], high[1]):
        return np.asarray(odd / pairs)  # without negative features the orders are the same
    return np.asarray((odd + _outside(np.abs(x), low[1], high[1])) / (2 * pairs))


def _outside(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(n,) sum over the upper triangle of relative excess below ``low`` and above ``high`` (F, F)."""
    n, f = x.shape
    over, under = _weights(high), _weights(low)
    out = np.zeros(n)
    grams, beyond = np.empty((2, _BLOCK * f), np.float32)
    positive = bool((x >= 0).all())
    for start in range(0, n, _BLOCK):
        block = x[start : start + _BLOCK]
        for i in range(f):
            shape = (len(block), f - i)
            g, away = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in (grams, beyond))
            np.multiply(block[:, i:], block[:, i : i + 1], out=g)
            np.maximum(np.subtract(g, high[i, i:], out=away), 0, out=away)
            out[start : start + _BLOCK] += away @ over[i, i:]
            if positive and (low[i, i:] <= 0).all():
                continue  # nothing can fall below
            np.maximum(np.subtract(low[i, i:], g, out=away), 0, out=away)
            out[start : start + _BLOCK] += away @ under[i, i:]
    return out


def _weights(bound: np.ndarray) -> np.ndarray:
    size = np.abs(bound)
    typical = float(size.sum()) / (len(bound) * (len(bound) + 1) / 2)
    return np.asarray(1 / np.maximum(size, _FLOOR * typical), np.float32) if typical > 0 else np.ones_like(bound)


def _thinned(x: np.ndarray, which: np.ndarray) -> np.ndarray:
    """At most 500 of the rows ``which`` (n,) bool, evenly spaced."""
    rows = np.flatnonzero(which)
    return x[rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_IN_MMD)).astype(np.int64))]] if len(rows) else x[:0]
