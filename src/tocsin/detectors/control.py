"""Each class against clean samples of its own that were treated as the inspected ones were. Ours, for data with few classes.

A comparison of classes with each other (`decide.tail`) needs several of them. A table often has two, and a clean-label attack poisons
one. There the reserve is the only measure: if no network saw the sample that it scores, on either side, then the scores of clean
inspected samples and of the reserve are draws from one law, and more high scores than the reserve has are no chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.detectors.base import class_evidence
from tocsin.detectors.excess import DEPTHS, chance_of_clean, excess_p

if TYPE_CHECKING:
    from tocsin.detectors.decide import Scored, Verdict

SHARE = 0.05
"""Share of the control above the deepest limit at which excesses are looked for."""
TOLERANCE = 1.5
"""A class's odds of a high score may exceed the control's by this factor, or by as much as they do in the other classes: rows come in
families, so that counts vary more than those of rows drawn one by one."""
_TAIL = 0.1
"""Share of the control that its tail is measured from ..."""
_LEAST_TAIL = 15
"""... if that are so many samples."""
_SCALE_DOUBT = 0.001
"""Chance that the tail's scale is larger than it is put."""
_FAR_SHARES = (0.0005, 0.002, 0.01, 0.05)
"""Depths, as shares of the samples, at which the far ones are counted, and ..."""
_LEAST_FAR = 8
"""... the least of them: a handful of odd samples is nothing to call data poisoned for."""


def against_control(
    scores: np.ndarray, control: np.ndarray, seen: Scored, view: str | None = None, *, far: bool = False, odds: float = 1.0
) -> Verdict:
    """Which classes hold more high ``scores`` (N,) than their ``control`` (M,), and from where on the samples are flagged.

    ``far``: a few scores that are far above the control's count too, as its tail, carried on, predicts (`far_test`).
    ``odds``: see `decide.cut`.
    """
    from tocsin.detectors.decide import Verdict, cut

    labels, names, real = seen.labels, seen.names, ~seen.ignore
    ranks = control_test(scores[real], labels[real], control, seen.control_labels, len(names))
    tails = [Tail.of(control[seen.control_labels == k]) if far else None for k in range(len(names))]
    beyond = np.array([far_test(scores[real & (labels == k)], tail) for k, tail in enumerate(tails)])
    p = np.minimum(1.0, (2 * np.minimum(ranks, beyond) if far else ranks) * len(names))
    named = p <= seen.alpha
    flagged, cuts = np.zeros(len(labels), bool), {}
    for k in np.flatnonzero(named):
        mine, tail = scores[real & (labels == k)], tails[k]
        cuts[k] = far_cut(mine, tail) if tail is not None and beyond[k] < ranks[k] else cut(mine, control[seen.control_labels == k], odds)
        flagged |= (labels == k) & (scores >= cuts[k])
    clean = chance_of_clean(float(p.min(initial=1.0)))
    return Verdict(
        flagged=flagged,
        classes=class_evidence(names, labels[real], flagged[real], -np.log10(np.maximum(p, 1e-300)), p, named),
        confidence=1 - clean if named.any() else clean,
        threshold=min((float(at) for at in cuts.values()), default=None),
        view=view,
        evidence={"p": {name: float(value) for name, value in zip(names, p, strict=True)}},
    )


def control_test(scores: np.ndarray, labels: np.ndarray, control: np.ndarray, control_labels: np.ndarray, classes: int) -> np.ndarray:
    """(C,) chance of as many high scores in each class, were it clean; 1 for a class without control.

    As `excess.class_test`, at the same depths. But by how much the odds may exceed the control's is told by the *other* classes, and by
    them at the deepest limit alone: with two classes and few control rows the highest limit of the other says nothing of it.
    """
    mine = [np.sort(scores[labels == k]) for k in range(classes)]
    clean = [np.sort(control[control_labels == k]) for k in range(classes)]
    known = [k for k in range(classes) if len(mine[k]) and len(clean[k])]

    def above(k: int, rank: int) -> int:
        return len(mine[k]) - int(np.searchsorted(mine[k], clean[k][len(clean[k]) - 1 - rank], side="right"))

    ratio, p = np.ones(classes), np.ones(classes)
    for k in known:
        n, m, rank = len(mine[k]), len(clean[k]), int(SHARE * len(clean[k]))
        x = above(k, rank)
        ratio[k] = (x + 0.5) / (n - x + 0.5) * (m - rank) / (rank + 1)
    for k in known:
        n, m = len(mine[k]), len(clean[k])
        others = np.sort([ratio[j] for j in known if j != k])
        odds = max(TOLERANCE, float(others[(len(others) - 1) // 2]) if len(others) else 1.0)
        ranks = sorted({int(SHARE * depth * m) for depth in DEPTHS})
        p[k] = min(1.0, len(ranks) * min(excess_p(above(k, rank), n, rank, m, odds) for rank in ranks))
    return p


@dataclass(frozen=True)
class Tail:
    """How many clean samples score beyond a limit that no control sample reaches: the control's upper tenth, carried on.

    It is taken for the beginning of an exponential tail, or of a lighter one (of logarithms of scores: a power law, which is heavy
    already). Its scale is put as high as it may be, with a chance of `_SCALE_DOUBT` for a higher one.
    """

    start: float
    scale: float
    share: float
    """Of clean samples above ``start``, with `TOLERANCE` for families of look-alikes."""

    @classmethod
    def of(cls, control: np.ndarray) -> Tail | None:
        """That of ``control`` (M,); None where it is too small, or all alike."""
        from scipy.stats import chi2

        above = int(_TAIL * len(control))
        if above < _LEAST_TAIL:
            return None
        clean = np.sort(control)[::-1]
        scale = float((clean[:above] - clean[above]).sum()) / (chi2.ppf(_SCALE_DOUBT, 2 * above) / 2)
        return cls(float(clean[above]), scale, min(1.0, TOLERANCE * (above + 1) / (len(clean) + 1))) if scale > 0 else None

    def beyond(self, limits: np.ndarray) -> np.ndarray:
        """The share of clean samples above each of the ``limits``, at most."""
        return np.asarray(np.where(limits > self.start, self.share * np.exp(-np.maximum(0.0, limits - self.start) / self.scale), 1.0))


def far_test(scores: np.ndarray, tail: Tail | None) -> float:
    """Chance that so many of ``scores`` (N,) lie so far above the control, were they clean; 1 without a tail to compare with.

    Ranks alone cannot tell a few samples far above a small control from its ordinary successors: of 20,000 clean samples some 200
    may well lie above the highest but five of a control of 1,000. So at several depths the number of scores beyond the depth's is
    compared with what the control's tail predicts.
    """
    from scipy.stats import binom

    if tail is None or len(scores) < _LEAST_FAR:
        return 1.0
    mine = np.sort(scores)[::-1]
    depths = np.unique(np.maximum(_LEAST_FAR, np.round(np.multiply(_FAR_SHARES, len(mine))).astype(np.int64)))
    p = binom.sf(depths - 1, len(mine), tail.beyond(mine[depths - 1]))
    return float(min(1.0, len(depths) * p.min() + _SCALE_DOUBT))


def far_cut(scores: np.ndarray, tail: Tail) -> float:
    """The score from which samples are flagged where `far_test` speaks: as `decide.cut`, with the tail's prediction for the clean ones."""
    from tocsin.detectors.decide import LEAST_SHARE

    mine = np.sort(scores)[::-1]
    worth = np.arange(1, len(mine) + 1) - len(mine) * tail.beyond(mine) / (1 - LEAST_SHARE)
    return float(mine[np.argmax(worth)])
