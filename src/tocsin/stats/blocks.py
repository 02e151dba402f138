"""Features that may be larger than memory: read in blocks of rows, and one class at a time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 8192
"""Rows a block."""
LARGEST = 1e15
"""Length of a feature vector that can be squared and summed over a data set in float32."""


@dataclass(frozen=True)
class Group:
    """One class's inspected and reserve samples, as one copy."""

    index: int
    rows: np.ndarray
    """(n,) int64, ascending: which inspected samples."""
    reserve_rows: np.ndarray
    """(m,) int64, ascending: which reserve samples."""
    x: np.ndarray
    """(n + m, F) float32, the caller's to change until the next group: the inspected samples first, then the reserve's."""

    @property
    def size(self) -> int:
        """n."""
        return len(self.rows)


def by_class(
    features: np.ndarray, labels: np.ndarray, reserve_features: np.ndarray, reserve_labels: np.ndarray, classes: int
) -> Iterator[Group]:
    """The classes that have an inspected sample, in order. Arrays are (N, F), (N,), (M, F), (M,); features may be memory maps.

    Features are copied into one buffer as large as the largest class, which all groups share.
    """
    mine, theirs = _rows_of(labels, classes), _rows_of(reserve_labels, classes)
    largest = max((len(a) + len(b) for a, b in zip(mine, theirs, strict=True) if len(a)), default=0)
    buffer = np.empty((largest, features.shape[1]), np.float32)
    for k, (rows, reserve_rows) in enumerate(zip(mine, theirs, strict=True)):
        if not len(rows):
            continue
        x = buffer[: len(rows) + len(reserve_rows)]
        take(features, rows, x[: len(rows)])
        take(reserve_features, reserve_rows, x[len(rows) :])
        yield Group(k, rows, reserve_rows, x)


def take(features: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copies ``rows`` of (N, F) ``features`` to ``out`` (len(rows), F), block by block."""
    for start in range(0, len(rows), ROWS):
        out[start : start + ROWS] = features[rows[start : start + ROWS]]
        release(features)


def blocks(features: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows (B, F)) one after the other."""
    for start in range(0, len(features), ROWS):
        yield start, features[start : start + ROWS]
        release(features)


def mean(features: np.ndarray, more: np.ndarray) -> np.ndarray:
    """(F,) float64 mean of the rows of both arrays together."""
    total = np.zeros(features.shape[1])
    for part in (features, more):
        for _, block in blocks(part):
            total += block.sum(axis=0, dtype=np.float64)
    return total / max(1, len(features) + len(more))


def unusable(features: np.ndarray) -> np.ndarray:
    """Rows of (N, F) ``features`` that hold NaN or infinity, or are longer than `LARGEST`."""
    bad = [np.empty(0, np.int64)]
    for start, block in blocks(features):
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("nf,nf->n", block, block, dtype=np.float32, casting="same_kind")
        bad.append(start + np.flatnonzero(~(squares <= LARGEST**2)))  # NaN compares false
    return np.concatenate(bad)


def release(features: np.ndarray) -> None:
    """Gives the pages of a memory map back: they stay in the system's cache, but no longer count as this process's memory."""
    mapping = getattr(features, "_mmap", None)
    # A private map ("c") would lose what was written to it.
    if isinstance(mapping, mmap.mmap) and getattr(features, "mode", "") in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _rows_of(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=classes))[:-1])
