"""What the misfits of all classes have in common: a trigger that sends every class to another. Ours.

Where every class is a target none stands out beside the others, and in none is there enough poison for a filter of its own to be sure of.
But the trigger is one and the same. So one matched filter is drawn from the least fitting samples of all classes together, and the tail
of its projections is held against the reserve's: of clean data the two are alike.
"""

from __future__ import annotations

import math

import numpy as np

from tocsin.detectors.decide import OWN_LEAST, Series
from tocsin.detectors.sharpen import FOLDS, added_up, by_class, common_filter
from tocsin.detectors.workbench import Bench

LOOKS = 3
"""In each the filter is drawn anew from what the one before put first, and the first sees a trigger that is partly learned but faintly; all
classes must stand out in two."""
SHARE = 0.05
"""Of alpha."""
NULL_SCALE = 0.182
"""Scale of the exponential law of `beyond` on clean data; the limit is then 1.38, four times as many samples as the reserve predicts
(development; docs/confusion-training.md)."""
_TAIL = 0.005
"""The tail begins where this share of the reserve lies beyond ..."""
_LEAST = 8
"""... but so many of its samples at least."""
_LOUD = 1.0
"""From there on it is asked what a filter shows that is drawn from any samples whose labels fit: of that much the reserve differs from the
data at large."""


def looks(fit: np.ndarray, bench: Bench, groups: np.ndarray, ignore: np.ndarray, distinct: np.ndarray, seed: int) -> Series:
    """What misfits of all classes share, (n + m,) float32 in each of `LOOKS` ("common 1" and so on); all as in `misfits.looks`."""
    assert bench.whitened is not None
    n, labels, misfit = len(groups), bench.labels.cpu().numpy(), -fit
    white, fits = bench.whitened[: len(labels)], fit > np.median(fit)
    rng, rounds, far, last = np.random.default_rng([seed, 0x5A, 0xEE]), [], [], misfit
    for r in range(LOOKS):
        fold = np.concatenate([rng.integers(0, FOLDS, n)[groups], rng.integers(0, FOLDS, len(labels) - n)])
        anything = rng.random(len(labels)) + fits  # of misfits there may be poison in any samples too
        level = by_class(common_filter(last, labels, white, n, fold, ignore), labels, n, distinct)
        seen = beyond(level, labels, ignore, len(distinct))
        if seen.max(initial=0) > _LOUD:
            usual = by_class(common_filter(anything, labels, white, n, fold, ignore), labels, n, distinct)
            seen = np.maximum(0, seen - beyond(usual, labels, ignore, len(distinct)).max())
        far.append(seen)
        last = added_up((misfit, level), labels, n, ignore, distinct)
        rounds.append({f"common {r + 1}": level.astype(np.float32)})
    reserve = {name: [view[n:]] * len(distinct) for views in rounds for name, view in views.items()}
    return Series("all labels", rounds, (), NULL_SCALE, SHARE, far=far, reserve=reserve, alike=False)


def beyond(level: np.ndarray, labels: np.ndarray, ignore: np.ndarray, classes: int) -> np.ndarray:
    """(C,) logarithm of how many times as many inspected samples as the reserve predicts lie in the tail of ``level`` (n + m,): of all
    classes together, or of the class if that is less. 0 where it is no more, and for small reserves."""
    n = len(ignore)
    out = np.zeros(classes)
    if len(level) - n < OWN_LEAST:
        return out
    tail = max(_LEAST, round(_TAIL * (len(level) - n)))
    far = level[:n] > np.sort(level[n:])[-tail]
    predicted = tail / (len(level) - n)
    for k in range(classes):
        mine = ~ignore & (labels[:n] == k)
        if mine.any():
            out[k] = math.log(max(1.0, min(far[~ignore].mean(), far[mine].mean()) / predicted))
    return out
