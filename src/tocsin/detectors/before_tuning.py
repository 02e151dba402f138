"""How well given labels fit what an encoder sees in the samples, before it was tuned to them. Ours, for the transfer setting.

Poison that is made for an encoder (Hidden Trigger) looks to it like samples of another class, whatever people see. The separators, which
start afresh, have nothing to learn of that, and a tuned encoder has been taught the label. But the encoder as it came was made of other,
clean data: to it clean inspected, base and control samples are draws from one law. So the one thing that is taught is a linear head, to
the base set; and each class is compared with its own control by how badly labels fit (`control.against_control`). Of a class that stands
out a second head tells the samples that gave it away from the base set, and both together say which samples it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.detectors.control import against_control
from tocsin.detectors.decide import Scored, clean_share, cut
from tocsin.detectors.scout import standardised

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

QUESTION = "encoder"
SHARE = 0.2
"""Of alpha."""
FALSE_SHARE = 0.1
"""Up to this share of what is flagged may be false."""
_FIT, _TOLD = 0.01, 0.03
"""How free the two heads are (scikit-learn's C, on features of deviation 1): there are no more samples than features to teach them."""
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
    base: np.ndarray
    """Rows of the reserve that heads are taught."""
    control: np.ndarray
    """Rows of the reserve that are asked about as inspected ones are."""
    seed: int

    @property
    def asked(self) -> np.ndarray:
        """(n + control,) rows."""
        return np.concatenate([np.arange(len(self.groups)), self.control])


@dataclass(frozen=True)
class Word:
    """What comes of it."""

    p: np.ndarray
    """(C,) chance of so many misfits in each class, were it clean; corrected for the number of classes."""
    flagged: np.ndarray
    """(n,) bool."""
    scores: np.ndarray
    """(n + control,) float32."""
    confidence: float


def word(seen: Untuned, alpha: float) -> Word:
    """Names classes at the error ``alpha`` and flags their samples. With fewer than two classes in the base set there is nothing to say."""
    n, asked = len(seen.groups), seen.asked
    labels, theirs = seen.labels[:n], seen.labels[seen.control]
    if len(np.unique(seen.labels[seen.base])) < 2:
        return Word(np.ones(len(seen.names)), np.zeros(n, bool), np.zeros(len(asked), np.float32), 0.5)
    read = standardised(seen.read, seen.read[seen.base])
    misfit = in_control_units(misfits(read, seen)[asked], n)
    scored = Scored([], labels, seen.names, np.zeros(n, bool), None, alpha, control_labels=theirs)
    verdict = against_control(misfit[:n], misfit[n:], scored, far=True)
    flagged, scores = np.zeros(n, bool), misfit.copy()
    for k in (entry.index for entry in verdict.classes if entry.suspect):
        mine = seen.labels[asked] == k
        scores[mine] += in_control_units(likeness(read, seen, k, np.flatnonzero(verdict.flagged & (labels == k)))[asked], n)[mine]
        inspected, clean = scores[:n][mine[:n]], scores[n:][mine[n:]]
        flagged[mine[:n]] = inspected >= cut(inspected, clean, clean_share(inspected, clean), FALSE_SHARE)
    p = np.array([entry.p_value for entry in verdict.classes])
    return Word(p, flagged, scores.astype(np.float32), verdict.confidence)


def misfits(read: np.ndarray, seen: Untuned) -> np.ndarray:
    """(n + m,) minus the log probability of each sample's own label, by a head on the base set; 0 for labels that it does not hold."""
    head = _regression(_FIT).fit(read[seen.base], seen.labels[seen.base])
    known = np.isin(seen.labels, head.classes_)
    own = np.searchsorted(head.classes_, np.where(known, seen.labels, head.classes_[0]))
    return np.where(known, -head.predict_log_proba(read)[np.arange(len(read)), own], 0.0)


def likeness(read: np.ndarray, seen: Untuned, k: int, examples: np.ndarray) -> np.ndarray:
    """(n + m,) log odds of being like the inspected rows ``examples`` rather than like class ``k`` of the base set.

    No row is asked about by a head that was taught it or its near duplicates; each control row by one of them, as each inspected one is.
    """
    rng = np.random.default_rng([seen.seed, 0x5DB])
    fold = np.concatenate([rng.integers(0, _FOLDS, len(seen.groups))[seen.groups], rng.permutation(len(read) - len(seen.groups)) % _FOLDS])
    clean = seen.base[seen.labels[seen.base] == k]
    clean = clean if len(clean) else seen.base
    out = np.zeros(len(read))
    for f in range(_FOLDS):
        yes, no = examples[fold[examples] != f], clean[fold[clean] != f]
        if len(yes) and len(no):
            marks = np.repeat([1, 0], [len(yes), len(no)])
            weights = np.repeat([len(marks) / 2 / len(yes), len(marks) / 2 / len(no)], [len(yes), len(no)])
            head = _regression(_TOLD).fit(read[np.concatenate([yes, no])], marks, sample_weight=weights)
            out[fold == f] = head.decision_function(read[fold == f])
    return out


def in_control_units(values: np.ndarray, n: int) -> np.ndarray:
    """``values`` (n + control,) over the deviation of the control's."""
    return np.asarray(values / max(float(values[n:].std()), 1e-9))


def _regression(c: float) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=1000)
