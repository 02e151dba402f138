"""What scores mean, going by samples known to be clean: conformal p-values, and exact tests of "more than the reserve has"."""

from __future__ import annotations

import math

import numpy as np

AT_LEAST = 2.0
"""Samples of a kind must be this many times as common among the inspected ones as in the reserve to be called an excess: a network
knows what it was trained on somewhat better than the reserve, and with many samples every small difference is significant."""


def conformal(scores: np.ndarray, control: np.ndarray) -> np.ndarray:
    """(N,) p-values: (1 + how many of the (M,) ``control`` score at least as high) / (M + 1).

    Were a sample clean like the control, its p-value would be at most p with probability p (exactly so without ties). 1 for an empty
    control. The smallest value there can be is 1 / (M + 1).
    """
    ordered = np.sort(np.asarray(control))
    above = len(ordered) - np.searchsorted(ordered, np.asarray(scores), side="left")
    return np.asarray((1.0 + above) / (len(ordered) + 1.0))


def surprise(values: np.ndarray, control: np.ndarray) -> np.ndarray:
    """(N,) -log10 of the share of the others of the ``control`` (N,) bool that have ``values`` (N,) as high; what is rare is surprising.

    A row of the control is compared with the rest of it, so that it is treated as a row that is like it.
    """
    return np.asarray(-np.log10(np.where(control, _leaving_one(values, control), conformal(values, values[control]))))


def _leaving_one(values: np.ndarray, control: np.ndarray) -> np.ndarray:
    """As `conformal`, each row less one of the control: itself."""
    m = max(1, int(control.sum()))
    return np.asarray(np.maximum(1.0, conformal(values, values[control]) * (m + 1) - 1) / m)


def upper_limit(control: np.ndarray, share: float) -> float:
    """The score that a new clean sample exceeds with a probability of at most ``share``; infinity where the control is too small."""
    place = math.ceil((1 - share) * (len(control) + 1) - 1e-9)
    return float(np.partition(control, place - 1)[place - 1]) if 1 <= place <= len(control) else math.inf


def excess(found: np.ndarray, sizes: np.ndarray, control_found: np.ndarray, control_sizes: np.ndarray) -> np.ndarray:
    """(C,) p-values of Fisher's exact test that ``found`` of ``sizes`` is a larger share than ``control_found`` of ``control_sizes``.

    The chance of so few in the control, were inspected and control samples drawn from one urn. 1 where either side is empty, or the
    share is not at least `AT_LEAST` times the control's.
    """
    from scipy.stats import hypergeom

    found, sizes, control_found, control_sizes = (np.asarray(a, np.int64) for a in (found, sizes, control_found, control_sizes))
    p = hypergeom.cdf(control_found, sizes + control_sizes, found + control_found, control_sizes)
    enough = (sizes > 0) & (control_sizes > 0) & (found > 0) & (found * control_sizes >= AT_LEAST * control_found * sizes)
    return np.where(enough, np.clip(np.nan_to_num(p, nan=1.0), 0.0, 1.0), 1.0)


def excess_among(candidates: np.ndarray, counts: np.ndarray, times: int) -> np.ndarray:
    """(C,) p-values of `excess` for the ``candidates`` (C,) bool, multiplied by ``times``; 1 for the other classes.

    ``counts`` (4, C): found, sizes, control found, control sizes. ``times`` is how many tests there were to choose from: the candidates
    where these were named without a look at what the test counts, else all classes. Clean data then give any p-value below p with a
    probability of at most p.
    """
    return np.where(candidates, np.minimum(1.0, times * excess(*counts)), 1.0)


def tail_excess(
    scores: np.ndarray, labels: np.ndarray, control: np.ndarray, control_labels: np.ndarray, classes: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """(limits (C,), p-values (C,)): which classes have more samples above their limit than the reserve has?

    ``scores`` (N,) and ``control`` (M,) are about comparable across classes. There are two ways to find out, and the better one counts,
    times two. Together with the other classes: the limit is what a ``share`` of the whole control exceeds; the class must have more
    samples above it than the whole control has (times the number of classes) and than its own control has. Or alone, which is for a
    class whose tail is unlike the others': the limit is the highest score of its own control (times the number of classes).
    """
    sizes, control_sizes = np.bincount(labels, minlength=classes), np.bincount(control_labels, minlength=classes)
    present = max(1, np.count_nonzero(sizes))

    def above(limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.bincount(labels[scores > limits[labels]], minlength=classes)
        return found, np.bincount(control_labels[control > limits[control_labels]], minlength=classes)

    common = np.full(classes, min(upper_limit(control, share), float(control.max(initial=-np.inf))))
    found, control_found = above(common)
    everywhere = excess(found, sizes, np.full(classes, control_found.sum()), np.full(classes, len(control)))
    together = np.maximum(np.minimum(1.0, everywhere * present), excess(found, sizes, control_found, control_sizes))
    highest = np.full(classes, -np.inf)
    np.maximum.at(highest, control_labels, control)
    found, control_found = above(highest)
    alone = present * excess(found, sizes, control_found, control_sizes)
    return np.where(together <= alone, common, highest), np.minimum(1.0, 2 * np.minimum(together, alone))
