"""What flagged samples teach of the others of their class: from the odds of being flagged to those of being poison, and two witnesses.

Shared by the second hearing of sounds and the second look at pictures.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

_ROUNDS = 5
_CERTAIN = 1 - 1e-6


def outranked(high: np.ndarray, low: np.ndarray) -> float:
    """How often a value of ``high`` (a,) is above one of ``low`` (b,), ties counted half; 0 where there is none of either."""
    from sklearn.metrics import roc_auc_score

    marks = np.repeat([1, 0], [len(high), len(low)])
    return float(roc_auc_score(marks, np.concatenate([high, low]))) if len(high) and len(low) else 0.0


def of_poison(odds: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """(n,) log odds of being poison from the log ``odds`` of being ``flagged``: what was not flagged is not known to be clean.

    ``flagged`` (m,) bool tells it of the first m; any others are only read.

    Elkan and Noto, "Learning classifiers from only positive and unlabeled data", KDD 2008: the chance of being flagged is that of being
    poison times a constant, which is the mean chance of the flagged ones.
    """
    chance = _sigmoid(odds)
    return np.asarray(logit(np.minimum(chance / chance[: len(flagged)][flagged].mean(), _CERTAIN)))


def two_witnesses(odds: np.ndarray, scores: np.ndarray, learned: int | None = None) -> np.ndarray:
    """(n,) log odds of being poison, from what networks say, log ``odds`` (n,), and from ``scores`` (n,) of any scale.

    Given what a clip is, the two are taken to be independent (naive Bayes; co-training, Blum and Mitchell 1998): what the one says teaches
    how the other is to be read, by logistic regression, and both together teach it again, for a few rounds. Scores that fall where the odds
    rise say nothing. Only the first ``learned`` of the n, if given, teach; the others are known to be clean and are only read.
    """
    belief = _sigmoid(odds[:learned])
    before = logit(belief.mean())
    both = odds
    for _ in range(_ROUNDS):
        both = odds - before + _read_by(scores, belief)
        belief = _sigmoid(both[:learned])
    return both


def _read_by(scores: np.ndarray, belief: np.ndarray) -> np.ndarray:
    """(n,) log odds of poison that ``scores`` (n,) speak for, where each of the first is poison with the chance ``belief``."""
    from sklearn.linear_model import LogisticRegression

    theirs = scores[: len(belief)]
    spread = float(theirs.std())
    if spread < 1e-9:
        return np.full(len(scores), logit(belief.mean()))
    x = ((scores - theirs.mean()) / spread)[:, None]
    taught, sides = x[: len(belief)], np.repeat([1, 0], len(belief))
    fitted = LogisticRegression(C=float(len(taught))).fit(np.concatenate([taught, taught]), sides, np.concatenate([belief, 1 - belief]))
    return np.asarray(fitted.decision_function(x)) if fitted.coef_[0, 0] > 0 else np.full(len(scores), logit(belief.mean()))


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(expit(odds), 1 - _CERTAIN, _CERTAIN))
