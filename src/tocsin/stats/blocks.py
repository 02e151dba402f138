"""Features that may be larger than memory: read in blocks of rows, and one class at a time."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

ROWS = 8192
"""Rows a block."""
_LANES = 4
"""Most classes at a time: each has a copy of its features."""
_COPIES = 2**30
"""Bytes of all these copies, where there is more than one."""
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


def each_class(
    features: np.ndarray,
    labels: np.ndarray,
    reserve_features: np.ndarray,
    reserve_labels: np.ndarray,
    classes: int,
    work: Callable[[Group], T],
) -> Iterator[tuple[Group, T]]:
    """As `by_class`, with ``work`` done for several classes at a time, in threads that share the cores. A group's ``x`` is there only
    while ``work`` is: what is yielded, in the order of the classes, has none.
    """
    mine, theirs = _rows_of(labels, classes), _rows_of(reserve_labels, classes)
    there = [k for k in range(classes) if len(mine[k])]
    width = features.shape[1]
    largest = max((len(mine[k]) + len(theirs[k]) for k in there), default=0)
    cores = _cores()
    lanes = max(1, min(cores, _LANES, len(there), _COPIES // max(1, 4 * largest * width)))
    own, nothing = threading.local(), np.empty((0, width), np.float32)

    def one(k: int) -> tuple[Group, T]:
        if not hasattr(own, "buffer"):
            own.buffer = np.empty((largest, width), np.float32)
        n, m = len(mine[k]), len(theirs[k])
        x = own.buffer[: n + m]
        take(features, mine[k], x[:n])
        take(reserve_features, theirs[k], x[n:])
        return Group(k, mine[k], theirs[k], nothing), work(Group(k, mine[k], theirs[k], x))

    # Much of the work is too small to be shared by the threads of one product.
    with _blas().limit(limits=max(1, cores // lanes), user_api="blas"), ThreadPoolExecutor(lanes) as pool:
        yield from pool.map(one, there)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _cores() -> int:
    """As many threads as a matrix product would use."""
    return max((library["num_threads"] for library in _blas().select(user_api="blas").info()), default=1)


def take(features: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copies ``rows`` of (N, F) ``features`` to ``out`` (len(rows), F), block by block."""
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        if features.dtype == out.dtype:
            np.take(features, some, axis=0, out=out[start : start + len(some)], mode="clip")  # without a copy in between
        else:
            out[start : start + len(some)] = features[some]
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
