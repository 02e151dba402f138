"""Which values some rows of a table share that the other rows have not: what a trigger looks like where nothing can be looked at.

Pairs column = value are counted among the suspects and among the others; those that many suspects have and few others are put
together, greedily, to rules that hold for the same rows (methods/table-findings.md, section 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
from scipy.stats import binom

SHARE = 0.3
"""Of the suspects that must have a value for it to count."""
LIFT = 2.0
"""How many times as frequent it must be among the suspects as among the others."""
COMMON, CHANCE = 0.8, 1e-6
"""A trigger may well hold a value that half the class has. One that at most the first share of the others have joins a rule if so many
of the rule's rows would have it with less than this chance, were they drawn like the others."""
TOGETHER = 0.95
"""Share of the rows of a rule's first pair that must have every further one too. High, because what nine of ten have is what honest rows
of their sort have as well, and would take the rest out of the rule; not all, because a false alarm or two that share some of the
trigger's values would take the others out."""
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
    usual = (elsewhere + 0.5) / (b + 1)
    lift = counts / a / usual
    kept = np.flatnonzero((lift >= LIFT) | (usual <= COMMON))
    kept = kept[np.argsort(-counts[kept] / a * np.log(lift[kept]), kind="stable")]
    columns, values, counts, elsewhere = (x[kept] for x in (columns, values, counts, elsewhere))
    usual, lift = usual[kept], lift[kept]
    every = [Pair(*entry) for entry in zip(columns.tolist(), values.tolist(), counts.tolist(), elsewhere.tolist(), strict=True)]
    rules = _rules(_has(suspects, columns, values), np.log(lift), usual, lift >= LIFT)
    held = np.zeros(len(rules), np.int64)
    for block in _blocks(others) if rules else ():
        held += [int(_has(block, columns[rule], values[rule]).all(axis=1).sum()) for rule, _ in rules]
    found = (Rule(tuple(every[k] for k in rule), count, int(m)) for (rule, count), m in zip(rules, held, strict=True))
    said = (lift >= LIFT) | np.isin(np.arange(len(every)), np.concatenate([rule for rule, _ in rules]) if rules else ())
    pairs = tuple(compress(every, said.tolist()))
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


def _rules(has: np.ndarray, gain: np.ndarray, usual: np.ndarray, telling: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Pairs (columns of ``has``, (A, P)) that hold for the same suspects, and for how many. Each rule starts from suspects without one,
    and from a pair that is ``telling`` (P,), of these suspects too; others, which the share ``usual`` (P,) of the other rows have, may
    only join."""
    rules: list[tuple[np.ndarray, int]] = []
    left = np.ones(len(has), bool)
    while len(rules) < MOST_RULES and left.any():
        share = has[left].mean(axis=0)
        weight, begins = share * gain, telling & (share >= LIFT * usual)
        if not begins.any():
            break
        first, order = int(np.argmax(np.where(begins, weight, -np.inf))), np.argsort(-weight, kind="stable")
        together = left & has[:, first]
        size = int(together.sum())
        least = max(LEAST, int(TOGETHER * size))
        rule = [first]
        for k in order[order != first].tolist():
            count = int((together & has[:, k]).sum())
            if count >= least and (telling[k] or binom.sf(count - 1, size, usual[k]) < CHANCE):
                together &= has[:, k]
                rule.append(k)
        if together.sum() < max(LEAST, SMALLEST_RULE * len(has)):
            break
        rules.append((np.array(rule), int(has[:, rule].all(axis=1).sum())))
        left &= ~has[:, first]
    return rules
