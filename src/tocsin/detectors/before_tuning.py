"""How well given labels fit what an encoder sees in the samples, before it was tuned to them. Ours, for the transfer setting.

Poison that is made for an encoder (Hidden Trigger) looks to it like samples of another class, whatever people see. The separators, which
start afresh, have nothing to learn of that, and a tuned encoder has been taught the label. But the encoder as it came was made of other,
clean data: to it clean inspected and reserve samples are draws from one law. So all that is taught is a linear head, to one half of the
reserve; it judges the other half, and half of the inspected samples, and of the halves each has its turn. Each class is compared with its
own reserve by how badly labels fit (`excess.class_test`). Of a class that stands out a second head tells the samples that gave it away
from the reserve, and both together say which samples it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.detectors.decide import clean_share, cut
from tocsin.detectors.excess import chance_of_clean, class_test
from tocsin.detectors.scout import standardised

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

QUESTION = "encoder"
SHARE = 0.2
"""Of alpha."""
FALSE_SHARE = 0.15
"""Up to this share of what is flagged may be false."""
_DEPTH, _TOLERANCE = 0.4, 1.5
"""Share of the reserve above the shallowest limit at which misfits are counted: poison may be half of a class, and a few clean samples fit
as badly. Odds may exceed the reserve's by this factor, for samples come in families."""
_FIT, _TOLD = 0.01, 0.03
"""How free the two heads are (scikit-learn's C, on features of deviation 1): held back, for a class has few samples for the features."""
_FOLDS = 5


@dataclass(frozen=True)
class Untuned:
    """What the encoder makes of the samples of one audit."""

    read: np.ndarray
    """(n + m, F) features of the inspected, then of the reserve samples, before the encoder was tuned to either."""
    labels: np.ndarray
    """(n + m,)."""
    names: tuple[str, ...]
    """Of the classes."""
    groups: np.ndarray
    """(n,) equal for near duplicates."""
    halves: tuple[np.ndarray, np.ndarray]
    """Rows of the two halves of the reserve."""
    seed: int


@dataclass(frozen=True)
class Judgement:
    """What the encoder has to say of them."""

    p: np.ndarray
    """(C,) chance of so many misfits in each class, were it clean; corrected for the number of classes."""
    flagged: np.ndarray
    """(n,) bool."""
    scores: np.ndarray
    """(n + m,) float32."""
    confidence: float


def judge(seen: Untuned, alpha: float) -> Judgement:
    """Names classes at the error ``alpha`` and flags their samples."""
    n, labels = len(seen.groups), seen.labels
    misfit = in_clean_units(misfits(seen), n)
    test = class_test(misfit[:n], labels[:n], misfit[n:], labels[n:], len(seen.names), share=_DEPTH, tolerance=_TOLERANCE)
    p = np.minimum(1.0, test.p * len(seen.names))
    flagged, scores = np.zeros(n, bool), misfit.copy()
    for k in np.flatnonzero(p <= alpha).tolist():
        here = np.flatnonzero(labels == k)
        mine, clean = here[here < n], here[here >= n]
        examples = mine[_high(misfit[mine], misfit[clean])]
        scores[here] += in_clean_units(likeness(seen, k, examples), n)[here]
        flagged[mine] = _high(scores[mine], scores[clean])
    sure = chance_of_clean(float(p.min()))
    return Judgement(p, flagged, scores.astype(np.float32), 1 - sure if flagged.any() else sure)


def _high(mine: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """(a,) bool: which of the scores ``mine`` (a,) of a class are flagged, by those of its reserve, ``clean``."""
    return np.asarray(mine >= cut(mine, clean, clean_share(mine, clean), FALSE_SHARE))


def misfits(seen: Untuned) -> np.ndarray:
    """(n + m,) minus the log probability of each sample's own label, by a head on that half of the reserve which it is not in; 0 for labels
    that not both halves hold, and where they have but one in common."""
    n, out = len(seen.groups), np.zeros(len(seen.labels))
    known = np.intersect1d(*(seen.labels[half] for half in seen.halves))
    side = np.random.default_rng([seen.seed, 0x5DA]).integers(0, 2, n)[seen.groups]
    if len(known) < 2:
        return out
    for half, (taught, others) in enumerate((seen.halves, seen.halves[::-1])):
        read, judged = standardised(seen.read, seen.read[taught]), np.concatenate([np.flatnonzero(side == half), others])
        head = _regression(_FIT).fit(read[taught], seen.labels[taught])
        judged = judged[np.isin(seen.labels[judged], known)]
        own = np.searchsorted(head.classes_, seen.labels[judged])
        out[judged] = -head.predict_log_proba(read[judged])[np.arange(len(judged)), own]
    return out


def likeness(seen: Untuned, k: int, examples: np.ndarray) -> np.ndarray:
    """(n + m,) log odds of being like the inspected rows ``examples`` rather than like class ``k`` of the reserve.

    No row is judged by a head that was taught it or its near duplicates.
    """
    n, rng = len(seen.groups), np.random.default_rng([seen.seed, 0x5DB])
    fold = np.concatenate([rng.integers(0, _FOLDS, n)[seen.groups], rng.permutation(len(seen.labels) - n) % _FOLDS])
    clean, out = n + np.flatnonzero(seen.labels[n:] == k), np.zeros(len(fold))
    read = standardised(seen.read, seen.read[n:])
    for f in range(_FOLDS):
        yes, no = examples[fold[examples] != f], clean[fold[clean] != f]
        if len(yes) and len(no):
            head = _regression(_TOLD, "balanced").fit(read[np.concatenate([yes, no])], np.repeat([1, 0], [len(yes), len(no)]))
            out[fold == f] = head.decision_function(read[fold == f])
    return out


def in_clean_units(values: np.ndarray, n: int) -> np.ndarray:
    """``values`` (n + m,) over the deviation of the reserve's."""
    return np.asarray(values / max(float(values[n:].std()), 1e-9))


def _regression(c: float, weights: str | None = None) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, class_weight=weights, max_iter=1000)
