"""Which values some rows of a table share that the other rows have not: what a trigger looks like where nothing can be looked at.

Pairs column = value are counted among the suspects and among the others; those that many suspects have and few others are put
together, greedily, to rules that hold for the same rows (methods/table-findings.md, section 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SHARE = 0.3
"""Of the suspects that must have a value for it to count."""
LIFT = 2.0
"""How many times as frequent it must be among the suspects as among the others."""
TOGETHER = 0.98
"""Share of the rows of a rule's first pair that must have every further one too. So high because what nearly all of them have is what
honest rows of their sort have as well, and would take the rest out of the rule."""
LEAST = 3
"""Suspects that a rule must hold for; also the fewest of which anything is said."""
SMALLEST_RULE = 0.1
"""Share of the suspects that a rule must hold for."""
MOST_RULES = 3
_VALUES_A_COLUMN = 3
_BLOCK_CELLS = 8_000_000


@dataclass(frozen=True)
class Pair:
    """One value of one column."""

    column: int
    value: float
    """NaN: an empty cell."""
    suspects: int
    """How many of them have it."""
    others: int


@dataclass(frozen=True)
class Rule:
    """Values that come together: a row has them all or does not count."""

    pairs: tuple[Pair, ...]
    suspects: int
    others: int


@dataclass(frozen=True)
class Shared:
    """What the suspects share."""

    suspects: int
    others: int
    pairs: tuple[Pair, ...]
    """The most telling first: by share among the suspects times the logarithm of the lift."""
    rules: tuple[Rule, ...]

    def lift(self, pair: Pair) -> float:
        """How many times as frequent the pair is among the suspects as among the others; half a row more there, so never infinite."""
        return pair.suspects / max(self.suspects, 1) * (self.others + 1) / (pair.others + 0.5)


def shared_values(suspects: np.ndarray, others: np.ndarray) -> Shared:
    """Of ``suspects`` (A, F) against ``others`` (B, F), floats, NaN where a cell is empty. ``others`` is read in blocks of rows.

    Nothing is said of fewer than `LEAST` suspects, or where there is nothing to compare them with.
    """
    a, b = len(suspects), len(others)
    if a < LEAST or not b:
        return Shared(a, b, (), ())
    columns, values, counts = _frequent(suspects)
    elsewhere = np.zeros(len(columns), np.int64)
    for block in _blocks(others):
        elsewhere += _has(block, columns, values).sum(axis=0)
    lift = counts / a * (b + 1) / (elsewhere + 0.5)
    kept = np.flatnonzero(lift >= LIFT)
    kept = kept[np.argsort(-counts[kept] / a * np.log(lift[kept]), kind="stable")]
    columns, values, counts, elsewhere, lift = (x[kept] for x in (columns, values, counts, elsewhere, lift))
    pairs = tuple(Pair(*entry) for entry in zip(columns.tolist(), values.tolist(), counts.tolist(), elsewhere.tolist(), strict=True))
    rules = _rules(_has(suspects, columns, values), np.log(lift))
    held = np.zeros(len(rules), np.int64)
    for block in _blocks(others) if rules else ():
        held += [int(_has(block, columns[rule], values[rule]).all(axis=1).sum()) for rule, _ in rules]
    found = (Rule(tuple(pairs[k] for k in rule), count, int(m)) for (rule, count), m in zip(rules, held, strict=True))
    return Shared(a, b, pairs, tuple(found))


def _frequent(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) columns, values and counts of all pairs that at least `SHARE` of the ``rows`` (A, F) have."""
    least = max(LEAST, int(np.ceil(SHARE * len(rows))))
    columns, values, counts = [], [], []
    for k in range(rows.shape[1]):
        found, number = np.unique(rows[:, k], return_counts=True)
        best = np.argsort(-number, kind="stable")[:_VALUES_A_COLUMN]
        best = best[number[best] >= least]
        columns.append(np.full(len(best), k))
        values.append(found[best].astype(np.float64))
        counts.append(number[best])
    return np.concatenate(columns), np.concatenate(values), np.concatenate(counts)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    size = max(1, _BLOCK_CELLS // max(1, rows.shape[1]))
    for start in range(0, len(rows), size):
        yield np.asarray(rows[start : start + size])


def _has(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(B, P) bool: which of the pairs each row has."""
    cells = rows[:, columns]
    has: np.ndarray = (cells == values.astype(cells.dtype)) | (np.isnan(values) & np.isnan(cells))
    return has


def _rules(has: np.ndarray, gain: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Pairs (columns of ``has``, (A, P)) that hold for the same suspects, and for how many. Each rule starts from suspects without one."""
    rules: list[tuple[np.ndarray, int]] = []
    left = np.ones(len(has), bool)
    while len(rules) < MOST_RULES and has.shape[1]:
        order = np.argsort(-has[left].sum(axis=0) * gain, kind="stable")
        together = left & has[:, order[0]]
        least = max(LEAST, int(np.ceil(TOGETHER * together.sum())))
        rule = [int(order[0])]
        for k in order[1:].tolist():
            if (together & has[:, k]).sum() >= least:
                together &= has[:, k]
                rule.append(k)
        if together.sum() < max(LEAST, SMALLEST_RULE * len(has)):
            break
        rules.append((np.array(rule), int(has[:, rule].all(axis=1).sum())))
        left &= ~has[:, order[0]]
    return rules
