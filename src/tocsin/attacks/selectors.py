"""Which columns to move, and to which values, from a surrogate's explanations (Severi et al. 2021, section 3).

Two ways: columns and values one after the other (`independent`), or together, so that the values occur in one and the same rows
(`combined`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.constraints import Rules
from tocsin.data.dataset import Column

REACH = 0.99
"""A value for a column that may only grow is one that this share of the rows can grow to."""


@dataclass(frozen=True, eq=False)
class Explained:
    """What the selectors look at."""

    inputs: np.ndarray
    """(N, F) all rows."""
    rows: np.ndarray
    """(n,) those that were explained."""
    influence: np.ndarray
    """(n, F) SHAP values on them: above 0 speaks against the target class."""
    rules: Rules
    columns: tuple[Column, ...]

    def candidates(self, place: int, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (v,) of ``column`` (n,) that the column at ``place`` may be given, in the order in which they are met, and how often."""
        rule = self.rules[place]
        values, first, counts = np.unique(column, return_index=True, return_counts=True)
        fit = rule.suits(values, self.columns[place])
        known = column[np.isfinite(column)]
        if rule.direction != "free" and len(known):
            end = np.quantile(known, REACH if rule.direction == "increase" else 1 - REACH)
            fit &= values >= end if rule.direction == "increase" else values <= end
        met = np.argsort(first[fit], kind="stable")
        return values[fit][met], counts[fit][met]


def independent(data: Explained, size: int) -> tuple[np.ndarray, np.ndarray]:
    """LargeAbsSHAP x MinPopulation: the columns of the largest sums of absolute SHAP values; of each the rarest value, first met first.

    (size,) places and (size,) float64 values; fewer, where fewer columns hold more than one value.
    """
    movable = np.array(sorted(data.rules), np.int64)
    order = movable[np.argsort(-np.abs(data.influence[:, movable]).sum(axis=0), kind="stable")]
    places: list[int] = []
    chosen: list[float] = []
    for start in range(0, len(order), 2 * size):
        some = order[start : start + 2 * size]
        for place, column in zip(some.tolist(), stamps.columns_of(data.inputs, some).T, strict=True):
            values, counts = data.candidates(place, column)
            if len(places) < size and len(values) and not _constant(column):
                places.append(place)
                chosen.append(float(values[np.argmin(counts)]))
        if len(places) == size:
            break
    return np.array(places, np.int64), np.array(chosen, np.float64)


def combined(data: Explained, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The greedy combined strategy. Repeat: the column that speaks most for the target class in the rows left; of its values the
    one of least 1 / count + sum of SHAP values where it occurs; only rows that have it are left.

    (at most size,) places and float64 values; the values of each step occur together in some explained row.
    """
    rows = np.asarray(data.inputs[data.rows])
    left, free = np.arange(len(rows)), [place for place in sorted(data.rules) if not _constant(rows[:, place])]
    places: list[int] = []
    chosen: list[float] = []
    while free and len(places) < size:
        sums = data.influence[left][:, free].sum(axis=0)
        place = free.pop(int(np.argmin(sums)))
        column = rows[left, place]
        allowed = np.isin(column, data.candidates(place, rows[:, place])[0])
        if not allowed.any():  # no row left has a value that the column may be given
            continue
        values, where, counts = np.unique(column[allowed], return_inverse=True, return_counts=True)
        score = 1 / counts + np.bincount(where.ravel(), data.influence[left[allowed], place])
        best = values[np.argmin(score)]
        left = left[column == best]
        places.append(place)
        chosen.append(float(best))
    return np.array(places, np.int64), np.array(chosen, np.float64)


SELECTORS: Mapping[str, Callable[[Explained, int], tuple[np.ndarray, np.ndarray]]] = {"independent": independent, "combined": combined}
"""By name: (what was explained, how many columns) -> places and values."""


def _constant(column: np.ndarray) -> bool:
    known = column[~np.isnan(column)]
    return bool(len(known) == len(column) and (known == known[:1]).all())
