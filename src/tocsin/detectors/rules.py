"""What the flagged rows of a class have in common, as column=value pairs, and which further rows obey it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.stats.value_shift import same

SHARE = 0.3
"""Of the flagged rows that hold a pair of the rule."""
LIFT = 5.0
"""Times as frequent among the flagged rows as among clean ones and the rest of the class."""
LEAST_PAIRS = 3
"""Pairs of the rule that a further row holds."""
LEAST_ROWS = 8
"""Flagged rows that a rule is drawn from, at least."""
_MOST_PAIRS = 64
_CHUNK = 20_000


Pairs = list[dict[str, Any]]
"""Column, value, share among the flagged rows and among the rest of the class."""


def completed(flagged: np.ndarray, train: Dataset, reserve: Dataset, real: np.ndarray) -> tuple[np.ndarray, dict[str, Pairs]]:
    """((N,) bool: ``flagged`` (N,) and the rows that obey what the flagged ones of their class share, the rules by class's name).

    ``real`` (N,): the person's rows; the others stay as they are. Of a backdoor that is nearly removed the rest is enough.
    """
    out, rules = flagged.copy(), {}
    for k, name in enumerate(train.classes):
        mine = np.flatnonzero((train.labels == k) & real)
        more, said = finished(train, mine, flagged[mine], reserve.inputs[reserve.labels == k])
        out[mine] |= more
        if said:
            rules[name] = said
    return out, rules


def finished(train: Dataset, rows: np.ndarray, flagged: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, Pairs]:
    """((n,) bool: more of a class's ``rows`` (n,) that obey what its ``flagged`` (n,) rows share, the pairs of that rule).

    ``clean`` (m, F): reserve rows of the class; a rule that they obey as often as the class does is none. Nothing is added where fewer than
    three pairs are shared.
    """
    suspects = train.inputs[rows[flagged]]
    if len(suspects) < LEAST_ROWS or not len(clean):
        return np.zeros(len(rows), bool), []
    pairs = shared(suspects, clean)
    if len(pairs) < LEAST_PAIRS:
        return np.zeros(len(rows), bool), []
    columns, values = np.array([k for k, _, _ in pairs]), np.array([v for _, v, _ in pairs])
    held = np.concatenate([same(train.inputs[rows[start : start + _CHUNK]][:, columns], values) for start in range(0, len(rows), _CHUNK)])
    # A pair of the class's own would add its rows: it must be as rare in the rest of the class as in the reserve.
    rest = held[~flagged].mean(0) if (~flagged).any() else np.zeros(len(pairs))
    own = held[flagged].mean(0) >= LIFT * rest
    if own.sum() < LEAST_PAIRS:
        return np.zeros(len(rows), bool), []
    obeys = held[:, own].sum(1) >= max(LEAST_PAIRS, int(np.ceil(own.sum() / 2)))
    if (same(clean[:, columns[own]], values[own]).sum(1) >= LEAST_PAIRS).mean() > 0.5 * obeys.mean():
        return np.zeros(len(rows), bool), []
    names = [str(k) for k in range(suspects.shape[1])] if train.columns is None else [c.name for c in train.columns]
    said = [
        {"column": names[k], "value": None if np.isnan(v) else float(v), "share": round(share, 3), "rest": round(float(other), 4)}
        for (k, v, share), other, good in zip(pairs, rest, own, strict=True)
        if good
    ]
    return np.asarray(obeys & ~flagged), said


def shared(suspects: np.ndarray, clean: np.ndarray) -> list[tuple[int, float, float]]:
    """(column, value, share) of the pairs that `SHARE` of the ``suspects`` (n, F) hold, `LIFT` times as often as ``clean`` rows (m, F)."""
    out = []
    for k in range(suspects.shape[1]):
        values, counts = np.unique(suspects[:, k], return_counts=True)
        for v, count in zip(values[counts > SHARE * len(suspects)], counts[counts > SHARE * len(suspects)], strict=True):
            share, other = count / len(suspects), (same(clean[:, k], v).sum() + 0.5) / (len(clean) + 1)
            if share >= LIFT * other:
                out.append((k, float(v), float(share), float(share * np.log(share / other))))
    out.sort(key=lambda pair: -pair[3])
    return [(k, v, share) for k, v, share, _ in out[:_MOST_PAIRS]]
