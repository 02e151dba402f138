"""Each class against clean samples of its own that were treated as the inspected ones were. Ours, for data with few classes.

A comparison of classes with each other (`decide.tail`) needs several of them. A table often has two, and a clean-label attack poisons
one. There the reserve is the only measure: if no network saw the sample that it scores, on either side, then the scores of clean
inspected samples and of the reserve are draws from one law, and more high scores than the reserve has are no chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tocsin.detectors.base import class_evidence
from tocsin.detectors.excess import chance_of_clean, class_test

if TYPE_CHECKING:
    from tocsin.detectors.decide import Scored, Verdict

SHARE = 0.05
"""Share of the control above the deepest limit at which excesses are looked for."""
TOLERANCE = 1.5
"""A class's odds of a high score may exceed the control's by this factor, beside what they do in the other class: rows come in families,
so that counts vary more than those of rows drawn one by one."""


def against_control(scores: np.ndarray, control: np.ndarray, seen: Scored, view: str | None = None) -> Verdict:
    """Which classes hold more high ``scores`` (N,) than their ``control`` (M,), and from where on the samples are flagged."""
    from tocsin.detectors.decide import Verdict, cut

    labels, names, real = seen.labels, seen.names, ~seen.ignore
    test = class_test(scores[real], labels[real], control, seen.control_labels, len(names), share=SHARE, tolerance=TOLERANCE)
    p = np.minimum(1.0, test.p * len(names))
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
