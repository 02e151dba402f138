"""Which values are more frequent among inspected rows than clean ones predict? Counting, and no training.

A trigger of a table is a few columns that hold one value each. The reserve says how often each value should occur; a signed G-test of
each column=value says where the inspected rows have too many. Values that are too frequent *in the same rows* are a family of look-alikes,
or a stamp: a family is alike in its other columns too, stamped rows differ there as any rows of their class do (`stamps`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEAST_COUNT = 5
"""A value in fewer inspected rows is not tested."""
LEAST_SHARE = 1 / 2000
"""... nor one in a smaller share of them."""
LEAST_PAIRS = 3
"""Fewer pairs are no stamp: single values shift by chance, or because a version was released."""
HELD = 0.6
"""Share of a group's pairs that its rows hold."""
TOGETHER = 0.6
"""Share of the rows with either of two pairs that hold both, from which the pairs are one group."""
TIGHT = 0.1
"""A group is tight in a column if two of its rows agree there more often than two rows of the class, by this much."""
LIFT = 3.0
"""Times as frequent as in the reserve: the usual values of a class are too frequent by chance, and its rows have little else in common."""
TIED = 0.95
"""Two columns tell the same from this on (`tied`)."""
MOST_PAIRS = 1000
_MOST_TIED = 8
_COMPARED = 8000


@dataclass(frozen=True)
class Pairs:
    """Column=value pairs, arrays (P,), the most shifted first."""

    column: np.ndarray
    """int64."""
    value: np.ndarray
    """In the table's type; NaN is an empty cell."""
    count: np.ndarray
    """int64: inspected rows that hold it."""
    clean: np.ndarray
    """int64: reserve rows that hold it."""
    z: np.ndarray
    """Signed root of G; above 0: more frequent among the inspected rows."""
    tested: int
    """How many pairs were tested to find these."""

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, which: np.ndarray | slice) -> Pairs:
        return Pairs(self.column[which], self.value[which], self.count[which], self.clean[which], self.z[which], self.tested)


def shifted(inspected: np.ndarray, reserve: np.ndarray, least: float) -> Pairs:
    """The pairs with z above ``least``, of ``inspected`` (N, F) against ``reserve`` (M, F); a pair is tested if N rows hold it often."""
    n, m = len(inspected), len(reserve)
    enough = max(LEAST_COUNT, LEAST_SHARE * n)
    found: list[tuple[np.ndarray, ...]] = []
    tested = 0
    for k in range(inspected.shape[1]):
        values, counts = _counted(inspected[:, k])
        often = counts >= enough
        values, counts = values[often], counts[often]
        tested += len(values)
        clean = _looked_up(reserve[:, k], values)
        z = signed_root(counts, n, clean, m)
        high = z > least
        found.append((np.full(int(high.sum()), k), values[high], counts[high], clean[high], z[high]))
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)] if found else [np.empty(0)] * 5
    order = np.argsort(-columns[4], kind="stable")
    column, value, count, clean, z = (part[order] for part in columns)
    return Pairs(column.astype(np.int64), value, count.astype(np.int64), clean.astype(np.int64), z, tested)


def signed_root(count: np.ndarray, n: int, clean: np.ndarray, m: int) -> np.ndarray:
    """(P,) signed root of the likelihood ratio G of ``count`` of ``n`` against ``clean`` of ``m``: about standard normal if alike."""
    count, clean = np.asarray(count, np.float64), np.asarray(clean, np.float64)
    if not n or not m:
        return np.zeros(len(count))
    share = (count + clean) / (n + m)
    g = sum(_term(a, e) for a, e in ((count, n * share), (clean, m * share), (n - count, n * (1 - share)), (m - clean, m * (1 - share))))
    return np.asarray(np.sign(count / n - clean / m) * np.sqrt(np.maximum(2 * g, 0)))


@dataclass(frozen=True)
class Stamp:
    """Pairs that occur together in rows that have nothing else in common."""

    pairs: Pairs
    rows: int
    """Inspected rows that hold at least `HELD` of the pairs."""
    clean: int
    """Reserve rows that do."""
    z: float
    """Signed root of G of the rows."""
    tight: float
    """Share of the other columns in which the rows are more alike than rows of the class are."""

    def holds(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: which of ``rows`` (B, F) carry the stamp."""
        return np.asarray(same(rows[:, self.pairs.column], self.pairs.value).sum(1) >= held(len(self.pairs)))


def held(pairs: int) -> int:
    """How many of so many pairs a row of the group must hold."""
    return max(LEAST_PAIRS, math.ceil(HELD * pairs))


def stamps(inspected: np.ndarray, reserve: np.ndarray, pairs: Pairs, least_z: float, most_tight: float, least_rows: int) -> list[Stamp]:
    """The stamps among ``pairs``, the most shifted first, in ``inspected`` (N, F) against ``reserve`` (M, F) rows of a class.

    Pairs are one group if most of the rows that hold the one hold the other. A group is a stamp if at least ``least_rows`` rows hold it,
    with z above ``least_z`` and `LIFT` times as often as in the reserve, three of its columns tell different things of the other rows
    (`independent`; there must be some), and at most the share ``most_tight`` of the columns outside it are tight (`tightness`).
    """
    pairs = pairs[:MOST_PAIRS]
    holds = same(inspected[:, pairs.column], pairs.value)
    both = holds.T.astype(np.float32) @ holds.astype(np.float32)
    alone = np.diag(both)
    near = both / np.maximum(alone[:, None] + alone[None] - both, 1) > TOGETHER
    free, found = np.ones(len(pairs), bool), []
    for first in range(len(pairs)):
        group = np.flatnonzero(near[first] & free)
        if not free[first] or len(group) < LEAST_PAIRS:
            continue
        free[group] = False
        rows = holds[:, group].sum(1) >= held(len(group))
        some = pairs[group]
        clean = int((same(reserve[:, some.column], some.value).sum(1) >= held(len(group))).sum())
        z = float(signed_root(np.array([rows.sum()]), len(inspected), np.array([clean]), len(reserve))[0])
        lifted = (rows.sum() + 0.5) / (len(inspected) + 1) >= LIFT * (clean + 0.5) / (len(reserve) + 1)
        if rows.sum() < least_rows or z < least_z or not lifted or rows.all():
            continue
        if independent(inspected[np.ix_(_some(~rows), np.unique(some.column))]) < LEAST_PAIRS:
            continue
        tight = tightness(inspected, rows, np.setdiff1d(np.arange(inspected.shape[1]), some.column))
        if tight <= most_tight:
            found.append(Stamp(some, int(rows.sum()), clean, z, tight))
    return found


def tightness(inspected: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Share of ``columns`` (K,) in which two of ``rows`` (N,) bool agree more often, by `TIGHT`, than two of ``inspected`` (N, F)."""
    if not len(columns):
        return 1.0
    mine, every = inspected[_some(rows)], inspected[_some(np.ones(len(inspected), bool))]
    return float(np.mean([agreement(mine[:, k]) > agreement(every[:, k]) + TIGHT for k in columns]))


def _some(rows: np.ndarray) -> np.ndarray:
    """At most `_COMPARED` of ``rows`` (N,) bool, evenly spaced, as numbers."""
    numbers = np.flatnonzero(rows)
    return numbers if len(numbers) <= _COMPARED else numbers[np.linspace(0, len(numbers) - 1, _COMPARED).astype(np.int64)]


def agreement(column: np.ndarray) -> float:
    """How often two different rows hold the same value."""
    counts, n = _counted(column)[1].astype(np.float64), len(column)
    return float((counts * (counts - 1)).sum() / max(1, n * (n - 1)))


def independent(others: np.ndarray) -> int:
    """How many columns are not tied to one before them: in the rows ``others`` (N, K) the one's value does not give the other's.

    A value that is too frequent is so in every column that is derived from its own, and this is no stamp.
    """
    kept: list[int] = []
    for k in range(others.shape[1]):
        if all(tied(others[:, j], others[:, k]) < TIED for j in kept[:_MOST_TIED]):
            kept.append(k)
    return len(kept)


def tied(first: np.ndarray, second: np.ndarray) -> float:
    """How far equal values of one column make equal values of the other, 0..1, where the first does not hold its usual value."""
    values, code, counts = np.unique(first, return_inverse=True, return_counts=True)
    odd = code.reshape(-1) != int(np.argmax(counts))
    if len(values) < 2 or odd.sum() < 2:
        return 0.0
    inner = np.unique(second[odd], return_inverse=True)[1].reshape(-1).astype(np.int64)
    outer = code.reshape(-1)[odd].astype(np.int64)
    joint = np.unique(outer * (int(inner.max()) + 1) + inner, return_counts=True)[1].astype(np.float64)
    own = np.bincount(outer).astype(np.float64)
    base = agreement(second[odd])
    chances = (own * (own - 1)).sum()
    if chances == 0 or base >= 1:
        return 0.0
    return float(((joint * (joint - 1)).sum() / chances - base) / (1 - base))


def same(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Elementwise equality in which an empty cell equals an empty cell."""
    return np.asarray((values == wanted) | (np.isnan(values) & np.isnan(wanted)))


def _counted(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, counts) of one column; all empty cells are one value."""
    values, counts = np.unique(column, return_counts=True)
    return values, counts


def _looked_up(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How often each of the sorted ``values`` occurs in ``column``."""
    found, counts = _counted(column)
    if not len(found):
        return np.zeros(len(values), np.int64)
    place = np.minimum(np.searchsorted(found, values), len(found) - 1)
    return np.asarray(np.where(same(found[place], values), counts[place], 0))


def _term(count: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """count * log(count / expected), 0 where nothing was counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 0, count * np.log(count / expected), 0.0))
