"""Which values are more frequent among inspected rows than clean ones predict? Counting, and no training.

A trigger of a table is a few columns that hold one value each. The reserve says how often each value should occur; a signed G-test of
each column=value says where the inspected rows have too many. Rows that hold several such values at once are the suspects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LEAST_COUNT = 5
"""A value in fewer inspected rows is not tested."""
LEAST_SHARE = 1 / 2000
"""... nor one in a smaller share of them."""
_BLOCK = 2**25
"""Values looked at together."""


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

    def weights(self, inspected: int, reserve: int) -> np.ndarray:
        """(P,) log of how much more frequent each value is among so many inspected rows than in the reserve."""
        return np.asarray(np.log(((self.count + 0.5) / (inspected + 1)) / ((self.clean + 0.5) / (reserve + 1))))


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


def matched(inputs: np.ndarray, pairs: Pairs) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, (B, P) bool): which rows of ``inputs`` (N, F) hold which pairs, a block of rows at a time."""
    step = max(1, _BLOCK // max(1, inputs.shape[1]))
    for start in range(0, len(inputs), step):
        part = slice(start, min(start + step, len(inputs)))
        rows = inputs[part]
        yield part, same(rows[:, pairs.column], pairs.value)


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
