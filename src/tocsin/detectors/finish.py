"""After a verdict: further samples of its classes are flagged, for what they have in common with the flagged ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.decide import Verdict


def with_further(verdict: Verdict, steps: Mapping[str, np.ndarray], train: Dataset, real: np.ndarray) -> Verdict:
    """``verdict`` after ``steps``: by the name of each, in order, (N,) bool of what is flagged after it; ``real`` (N,): the person's rows.

    The evidence says under that name how many samples of which class the step added, if any.
    """
    for why, flagged in steps.items():
        added = np.bincount(train.labels[flagged & ~verdict.flagged], minlength=len(train.classes)).tolist()
        if any(added):
            told = {name: count for name, count in zip(train.classes, added, strict=True) if count}
            verdict = _with(verdict, flagged, train, real, why, told)
    return verdict


def with_rules(verdict: Verdict, train: Dataset, reserve: Dataset, real: np.ndarray) -> Verdict:
    """``verdict`` with the rows that obey the rule of the flagged ones flagged too; ``real`` as in `with_further`."""
    from tocsin.detectors.rules import completed

    flagged, rules = completed(verdict.flagged, train, reserve, real)
    return _with(verdict, flagged, train, real, "rules", rules)


def _with(verdict: Verdict, flagged: np.ndarray, train: Dataset, real: np.ndarray, why: str, told: dict[str, Any]) -> Verdict:
    sizes = np.bincount(train.labels[flagged & real], minlength=len(train.classes)).tolist()
    classes = tuple(replace(c, flagged=sizes[c.index]) for c in verdict.classes)
    return replace(verdict, flagged=flagged, classes=classes, evidence={**verdict.evidence, why: told})


def put_first(scores: np.ndarray, flagged: np.ndarray, labels: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(N,) ``scores`` in which the ``flagged`` samples of a class come before its others, whatever it was that they were flagged for."""
    out = np.array(scores)
    for k in np.unique(labels[flagged]):
        mine = labels == k
        rest = scores[mine & ~flagged & real]
        if len(rest):
            out[mine & flagged] = np.maximum(scores[mine & flagged], np.nextafter(rest.max(), np.float32(np.inf), dtype=np.float32))
    return out
