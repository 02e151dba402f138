"""From scores to an answer: is any class a target, and which of its samples are flagged?

`tail` is ours. `likelihood` and `em` are the published class tests (specification 2.5), kept for the paper preset: they miss low
poison rates although the scores separate (docs/confusion-training.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.detectors.base import ClassEvidence, class_evidence

if TYPE_CHECKING:
    from tocsin.detectors.distillation import Distilled

SHARES = (0.0005, 0.002, 0.01, 0.05)
"""Depths, as shares of the data set, at which classes are compared: a rare trigger shows at the first, a common one at the last."""
_LEAST_DEPTH = 8
_SPREAD_FLOOR = 0.25
_FEW_CLASSES = 1.0
_NULL_SCALE = 0.39
"""Scale of the exponential law of the gap on clean data, from development runs (seeds from 100; docs/confusion-training.md)."""
_POISON_GAP = (5.0, 0.7)
"""Median and log-deviation of the gap on poisoned data, taken as log-normal, from the same runs; for the confidence only."""
_IMPURITY = 0.15
"""Expected share of clean samples among the flagged ones of a target class, at most."""
_FALSE_SHARE = 0.01
"""And of the class's samples, at most."""


@dataclass(frozen=True)
class Verdict:
    flagged: np.ndarray
    classes: tuple[ClassEvidence, ...]
    confidence: float
    threshold: float | None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """How far the most suspicious class stands out."""
        return max(c.statistic for c in self.classes)


@dataclass(frozen=True)
class Scored:
    """What a decision rests on."""

    scores: np.ndarray
    """(N,) of the inspected rows, canaries included."""
    labels: np.ndarray
    """(N,) int64."""
    control: np.ndarray
    """(M,) scores of the reserve samples that no network was trained on; may be empty."""
    control_labels: np.ndarray
    """(M,) int64."""
    names: tuple[str, ...]
    """Of the classes."""
    ignore: np.ndarray
    """(N,) bool: rows that take no part."""
    run: Distilled | None = None
    """What else the rounds left behind; the published tests need its features."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set."""
    levelled: bool = False
    """What sets clean classes apart has been taken out of the scores already."""


Decision = Callable[[Scored], Verdict]


def tail(seen: Scored) -> Verdict:
    """Compares the upper tails of the classes with each other, after the control has taken out what sets the classes apart anyway.

    A backdoor has one or few targets, so its samples make the tail of few classes stand out from those of the rest. At each depth m
    the m-th largest score of every class is taken, classes are put in order, and the widest gap between neighbours in the upper half
    is measured in units of the spread of the classes below it. Natural families of look-alikes make tails of all classes heavy and
    leave no such gap. In the classes above the gap, samples are flagged from where they outnumber what the rest predicts.
    """
    scores, labels, names, real = seen.scores, seen.labels, seen.names, ~seen.ignore
    location = np.zeros(len(names)) if seen.levelled else class_locations(seen.control, seen.control_labels, len(names))
    level = scores - location[labels]
    unit = tail_unit(level[real], labels[real], len(names))
    gaps = [widest_gap(tails(level[real], labels[real], len(names), m), unit) for m in depths(int(real.sum()))]
    best = max(range(len(gaps)), key=lambda i: gaps[i][0])
    gap = gaps[best][0]
    statistic = np.max([g * np.isin(np.arange(len(names)), s) for g, s in gaps], axis=0)
    threshold = -_NULL_SCALE * math.log(seen.alpha)
    guilty = [k for k in range(len(names)) if statistic[k] > threshold]
    flagged = np.zeros(len(scores), bool)
    cuts = {}
    for k in guilty:
        rest = np.concatenate([level[real & (labels == j)] for j in range(len(names)) if j not in guilty])
        cuts[k] = cut(level[real & (labels == k)], rest)
        flagged |= (labels == k) & (level >= cuts[k])
    poisoned = chance_of_poison(gap)
    named = np.isin(np.arange(len(names)), guilty)
    classes = class_evidence(names, labels[real], flagged[real], statistic, np.exp(-statistic / _NULL_SCALE), named)
    shown = {names[k]: float(cuts[k] + location[k]) for k in guilty}
    return Verdict(
        flagged=flagged,
        classes=classes,
        confidence=poisoned if guilty else 1 - poisoned,
        threshold=min(shown.values()) if shown else None,
        evidence={"gap": float(gap), "gap needed": threshold, "depth": depths(int(real.sum()))[best], "thresholds": shown},
    )


def chance_of_poison(gap: float) -> float:
    """Posterior chance, at even odds, that a data set with this ``gap`` is poisoned by something the audit can see."""
    median, deviation = _POISON_GAP
    at = max(gap, 1e-6)
    clean = math.exp(-at / _NULL_SCALE) / _NULL_SCALE
    z = math.log(at / median) / deviation
    poison = math.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * deviation * at)
    return poison / (poison + clean)


def depths(n: int) -> list[int]:
    """Numbers of samples m at which the tails of ``n`` samples are compared."""
    return sorted({max(_LEAST_DEPTH, round(share * n)) for share in SHARES})


def class_locations(control: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(C,) how much higher each class's clean samples score than the average class's, from the control, shrunk where it is small."""
    if not len(control):
        return np.zeros(classes)
    overall = float(np.median(control))
    out = np.zeros(classes)
    for k in range(classes):
        mine = control[labels == k]
        if len(mine):
            out[k] = (np.median(mine) - overall) * len(mine) / (len(mine) + 10)
    return np.asarray(out - out.mean())


def tails(scores: np.ndarray, labels: np.ndarray, classes: int, m: int) -> np.ndarray:
    """(C,) the m-th largest score of each class; NaN for a class that m takes up nearly whole."""
    out = np.full(classes, np.nan)
    for k in range(classes):
        mine = scores[labels == k]
        if m <= 0.9 * len(mine):
            out[k] = -np.partition(-mine, m - 1)[m - 1]
    return out


def tail_unit(scores: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """How long a usual class's upper tail is: the (lower) median over classes of the way from the 75 % to the 99 % quantile."""
    lengths = [np.subtract(*np.quantile(scores[labels == k], [0.99, 0.75])) for k in range(classes) if (labels == k).any()]
    return max(float(np.sort(lengths)[(len(lengths) - 1) // 2]), 1e-6)


def widest_gap(values: np.ndarray, unit: float) -> tuple[float, np.ndarray]:
    """(gap in units of spread, classes above it): the widest among neighbours in the upper half of (C,) ``values``; NaN are left out.

    The spread is that of the classes below the gap: 1.4826 MAD plus a floor in ``unit``s, the larger the fewer classes there are.
    """
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2:
        return 0.0, np.empty(0, np.int64)
    order = known[np.argsort(-values[known])]
    best: tuple[float, np.ndarray] = (0.0, np.empty(0, np.int64))
    for above in range(1, len(order) // 2 + 1):
        below = values[order[above:]]
        spread = 1.4826 * float(np.median(np.abs(below - np.median(below))))
        spread += unit * (_SPREAD_FLOOR + _FEW_CLASSES / (len(order) - 1))
        gap = float(values[order[above - 1]] - values[order[above]]) / spread / math.sqrt(above)  # several targets need a wider gap
        if gap > best[0]:
            best = (gap, order[:above])
    return best


def cut(mine: np.ndarray, rest: np.ndarray) -> float:
    """The score from which samples of a target class are flagged: the lowest at which few false alarms are expected.

    ``mine`` (n,) scores of the class, ``rest`` (r,) of the classes that are not targets; their tail, scaled to n, is what is expected
    of the class's clean samples. Expected may be at most `_IMPURITY` of what is flagged and `_FALSE_SHARE` of the class.
    """
    candidates = np.sort(mine)[::-1]
    observed = np.arange(1, len(candidates) + 1)
    expected = len(mine) * (len(rest) - np.searchsorted(np.sort(rest), candidates, side="left")) / max(1, len(rest))
    allowed = np.flatnonzero(expected <= np.minimum(_IMPURITY * observed, _FALSE_SHARE * len(mine)))
    return float(candidates[allowed[-1] if len(allowed) else int(np.argmax(observed - expected))])


def likelihood(seen: Scored) -> Verdict:
    """The shipped, simplified test of specification 2.5: one ratio a class, flag above 2, or the largest above 1.5."""
    from tocsin.stats.class_test import simplified_ratio

    return _published(simplified_ratio, (1.5, 2.0), seen)


def em(seen: Scored) -> Verdict:
    """The older variant: two Gaussians by constrained EM; flag above 5, or the largest above 2."""
    from tocsin.stats.class_test import em_ratio

    return _published(em_ratio, (2.0, 5.0), seen)


DECISIONS: dict[str, Decision] = {"tail": tail, "likelihood": likelihood, "em": em}
"""Name of the ``decision`` setting -> rule."""


def _published(ratio: Callable[[np.ndarray, np.ndarray, np.ndarray], float], limits: tuple[float, float], seen: Scored) -> Verdict:
    labels, names, ignore, run = seen.labels, seen.names, seen.ignore, seen.run
    assert run is not None
    assert run.features is not None
    statistic = np.ones(len(names))
    for k in range(len(names)):
        rows = np.flatnonzero((labels == k) & ~ignore)
        statistic[k] = ratio(run.features[rows], run.predicted[rows], run.median_band[rows])
    largest = int(np.argmax(statistic))
    guilty = {k for k in range(len(names)) if statistic[k] > limits[1] or (k == largest and statistic[k] > limits[0])}
    flagged = run.predicted & np.isin(labels, sorted(guilty))
    # The published test gives no probability: the distance from its limit is all there is.
    margin = statistic[largest] / limits[0]
    confidence = 1 - 0.5 / margin if guilty else 1 - 0.5 * margin
    named = np.isin(np.arange(len(names)), sorted(guilty))
    classes = class_evidence(names, labels[~ignore], flagged[~ignore], statistic, np.ones(len(names)), named)
    return Verdict(flagged, classes, float(np.clip(confidence, 0, 1)), None)
