"""Each class against clean samples of its own that were treated as the inspected ones were. Ours, for data with few classes.

A comparison of classes with each other (`decide.tail`) needs several of them. A table often has two, and a clean-label attack poisons
one. There the reserve is the only measure: if no network saw the sample that it scores, on either side, then the scores of clean
inspected samples and of the reserve are draws from one law, and more high scores than the reserve has are no chance.
"""

from __future__ import annotations

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


def against_control(scores: np.ndarray, control: np.ndarray, seen: Scored, view: str | None = None) -> Verdict:
    """Which classes hold more high ``scores`` (N,) than their ``control`` (M,), and from where on the samples are flagged."""
    from tocsin.detectors.decide import Verdict, cut

    labels, names, real = seen.labels, seen.names, ~seen.ignore
    p = np.minimum(1.0, control_test(scores[real], labels[real], control, seen.control_labels, len(names)) * len(names))
    named = p <= seen.alpha
    flagged, cuts = np.zeros(len(labels), bool), {}
    for k in np.flatnonzero(named):
        cuts[k] = cut(scores[real & (labels == k)], control[seen.control_labels == k])
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
