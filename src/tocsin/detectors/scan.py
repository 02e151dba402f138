"""SCAn: Tang et al., "Demon in the Variant: Statistical Analysis of DNNs for Robust Backdoor Contamination Detection", USENIX 2021.

A feature is its class's mean plus noise that is alike in all classes. Clean samples tell how noise and means vary; then each class is
asked whether two means explain it better than one. docs/passive.md says what differs from the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.detectors.feature import Answer, FeatureDetector, Readings, Scores
from tocsin.errors import InputError
from tocsin.stats.blocks import mean
from tocsin.stats.calibration import excess_among
from tocsin.stats.principal import centre, leading, scatter
from tocsin.stats.robust import mad_index
from tocsin.stats.two_means import Split, two_means
from tocsin.stats.within_between import WithinBetween, within_between

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim

_AXES = 16
_STARTS = 8


@dataclass(frozen=True)
class Scan(FeatureDetector):
    """SCAn: flags the second group of a class that two means explain much better than one."""

    name: ClassVar[str] = "scan"
    paper: ClassVar[Mapping[str, Any]] = {"null_mean": "shipped"}

    limit: float = math.e
    """A class stands out if its statistic lies this many robust deviations above the median class: e as in the published comparison;
    e^2 in SCAn's own paper, which has no other test."""
    null_mean: Literal["posterior", "shipped"] = "posterior"
    """The one mean of a class: what the model says it is, or what the official code computes (much too near to the overall mean)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.limit < math.inf:
            raise InputError(f"limit: got {self.limit}; allowed is a number above 0")

    def decide(self, data: Readings, victim: Victim) -> Answer:
        clean = reserve_model(data)
        overall = mean(data.features, data.reserve_features)
        scores, second = Scores.empty(data), np.zeros(len(data.labels), bool)
        counts = np.zeros((4, data.classes), np.int64)
        for group in data.by_class("SCAn"):
            k, n = group.index, group.size
            own = centre(group.x) - overall
            split = best_split(group.x, clean)
            side = split.side(group.x)
            inside = side > 0
            if fewer_reserved(inside[n:], inside[:n]):
                side, inside = -side, ~inside
            second[group.rows] = inside[:n]
            counts[:, k] = inside[:n].sum(), n, inside[n:].sum(), len(side) - n
            scores.put(group, side)
            if len(side) > 1:
                scores.statistic[k] = two_against_one(own, len(side), split, clean, self.null_mean)
        index = mad_index(scores.statistic)
        suspects = (index > self.limit) & (counts[0] > 0)
        # Which of the two groups is asked about was chosen by looking at the reserve: hence twice.
        p = excess_among(suspects, counts, times=2 * np.count_nonzero(suspects))
        if self.decision == "reserve":
            suspects &= p <= self.alpha
        raw = {data.names[k]: float(v) for k, v in enumerate(scores.statistic) if not math.isnan(v)}
        scores.statistic = index
        threshold = 0.0 if suspects.any() else None
        evidence = {"J": raw, "rounds": clean.rounds, "rank": len(clean.ratio)}
        return Answer(scores, second & suspects[data.labels], p, suspects, threshold, evidence=evidence)


def reserve_model(data: Readings) -> WithinBetween:
    """Covariances within and between the classes of the clean reserve. Raises `InputError` where it cannot tell them apart."""
    if len(data.reserve_labels) < 2:
        raise InputError(f"reserve: got {len(data.reserve_labels)} samples; SCAn's model of clean samples needs at least 2")
    x = np.array(data.reserve_features, np.float32)
    centre(x)
    sums = np.zeros((data.classes, x.shape[1]))
    np.add.at(sums, data.reserve_labels, x)
    return within_between(scatter(x), sums, np.bincount(data.reserve_labels, minlength=data.classes))


def best_split(x: np.ndarray, clean: WithinBetween) -> Split:
    """The hard split of (n, F) float32 ``x``, centred, in two groups of one covariance: 2-means under the metric of ``clean``."""
    whitened = clean.into.T @ scatter(x) @ clean.into
    _, directions = leading(whitened, min(_AXES, len(whitened)))
    axes = x @ (clean.into @ directions).astype(x.dtype)
    return two_means(x, axes, clean.metric, starts=_STARTS)


def fewer_reserved(second_reserve: np.ndarray, second: np.ndarray) -> bool:
    """Whether the first group is the one that holds fewer reserve samples (ties: fewer inspected ones)."""
    reserve, inspected = np.count_nonzero(second_reserve), np.count_nonzero(second)
    return bool((len(second_reserve) - reserve, len(second) - inspected) < (reserve, inspected))


def two_against_one(own: np.ndarray, count: int, split: Split, clean: WithinBetween, null_mean: str) -> float:
    """J of a class: mean of (x - mu)'F(x - mu) - (x - u_g)'F(x - u_g), with F the inverse of the covariance within.

    ``own`` (F,) is the class's mean from the overall mean, ``count`` its number of samples; the two means u_g of ``split`` are from
    the class's own. mu is its one mean under the model. Only means are needed: the squares of x cancel.
    """
    centred = own @ clean.into
    weight = 1.0 / (count * clean.ratio + 1)
    if null_mean == "posterior":
        weight = weight * clean.ratio
    mu = count * centred * weight
    # mean (x - mu)'F(x - mu) = var + |m - mu|^2, and the two groups explain gain / count of var.
    return float(np.square(centred - mu).sum()) + split.gain / count
