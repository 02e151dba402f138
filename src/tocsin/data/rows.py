"""Rows of arrays that are too large for memory: read by number, several arrays as one, and no page of a mapped file kept.

Pages of a memory map that were touched count as this process's memory until the kernel needs them elsewhere. Read through `read_rows`
they are given back at once; the file's contents stay in the system's cache, where a second reading finds them.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

LARGE = 2**28
"""Bytes from which mapped arrays are stacked without being copied."""
_AT_ONCE = 1024
"""Rows by number that are read before pages are given back: with each the system maps its neighbours, of 60,000 rows here and there
nearly the whole file."""


def read_rows(inputs: np.ndarray, which: np.ndarray | slice | int) -> np.ndarray:
    """``inputs[which]`` in memory of its own; of a mapped file no page stays resident for it."""
    mapped = _mapping(inputs)
    if mapped is not None and isinstance(which, np.ndarray):
        numbers = np.flatnonzero(which) if which.dtype == bool else which
        if len(numbers) > _AT_ONCE:
            out = np.empty((len(numbers), *inputs.shape[1:]), inputs.dtype)
            for start in range(0, len(numbers), _AT_ONCE):
                out[start : start + _AT_ONCE] = read_rows(inputs, numbers[start : start + _AT_ONCE])
            return out
    rows = np.asarray(inputs[which])
    rows = rows if rows.base is None else rows.copy()
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
    return rows


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """``arrays`` (N_i, ...) of one shape and type below each other: joined in memory or, if a large one is mapped, as a view of all.

    The view (`Rows`) has a shape and a type, and gives rows by slice, mask or numbers as an array does; nothing else of an array.
    """
    lazy = any(isinstance(a, Rows) or (a.nbytes >= LARGE and _mapping(a) is not None) for a in arrays)
    if not lazy:
        return arrays[0] if len(arrays) == 1 else np.concatenate(list(arrays))
    return cast(np.ndarray, Rows(arrays))


def row_hashes(inputs: np.ndarray) -> np.ndarray:
    """(N,) 16-byte hashes of the samples' bytes; equal exactly for equal samples."""
    out = bytearray()
    for start in range(0, len(inputs), 4096):
        rows = read_rows(inputs, slice(start, start + 4096))
        if rows.dtype.kind == "f":
            rows = np.where(np.isnan(rows), rows.dtype.type(np.nan), rows) + 0  # one NaN, and no negative zero
        out += b"".join([hashlib.blake2b(row.data, digest_size=16).digest() for row in rows])
    return np.frombuffer(bytes(out), "V16")


def chosen(inputs: np.ndarray, which: Any) -> np.ndarray:
    """``inputs[which]``; where that is large and lies in a mapped file, a view (`Rows`) that has not read it yet."""
    if isinstance(inputs, Rows) or (inputs.nbytes >= LARGE and _mapping(inputs) is not None):
        view = Rows([inputs]).take(which)
        return cast(np.ndarray, view) if view.nbytes >= LARGE else view[:]
    rows: np.ndarray = inputs[which]
    return rows


def replaced(inputs: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``inputs`` with ``values`` (M, ...) in the places of ``rows`` (M,) int64: a copy, or where they are large and mapped a view."""
    view = stacked([inputs, np.asarray(values, inputs.dtype)])
    if not isinstance(view, Rows):
        out = np.array(inputs)
        out[rows] = values
        return out
    places = np.arange(len(inputs))
    places[rows] = np.arange(len(inputs), len(view))
    return cast(np.ndarray, view.take(places))


class Rows:
    """Several arrays as one, and rows of them in any order, without a copy. See `stacked` and `chosen`."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.parts: tuple[np.ndarray, ...] = tuple(part for a in arrays for part in (a.parts if isinstance(a, Rows) else (a,)))
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.index = _joined_index(arrays)
        """(N,) int64 rows of the parts laid end to end; None: all of them in order."""
        count = int(self.starts[-1]) if self.index is None else len(self.index)
        self.shape: tuple[int, ...] = (count, *self.parts[0].shape[1:])
        self.dtype, self.ndim = np.result_type(*(part.dtype for part in self.parts)), len(self.shape)

    def take(self, which: Any) -> Rows:
        """The rows ``which`` (mask, numbers or slice), still unread."""
        view = Rows(self.parts)
        view.index = (np.arange(len(self)) if self.index is None else self.index)[which]
        view.shape = (len(view.index), *self.shape[1:])
        return view

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        """Rows by slice, mask (N,), numbers (B,) or a number, read into memory; ``[rows, columns]`` reads the rows first."""
        if isinstance(which, tuple):
            rows = self[which[0]]
            return np.asarray(rows[which[1:]] if rows.ndim < self.ndim else rows[(slice(None),) + which[1:]])  # noqa: RUF005
        if isinstance(which, int | np.integer):
            return np.asarray(self[np.array([which])][0])
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step == 1 and self.index is None:
                return self._stretch(start, max(start, stop))
            which = np.arange(start, stop, step)
        which = np.asarray(which)
        numbers = np.flatnonzero(which) if which.dtype == bool else which.astype(np.int64)
        if len(numbers) and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"row {numbers.min()}..{numbers.max()} of {len(self)}")
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        numbers = numbers if self.index is None else self.index[numbers]
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        owner = np.searchsorted(self.starts, numbers, side="right") - 1
        for k in np.unique(owner):
            mine = np.flatnonzero(owner == k)
            mine = mine[np.argsort(numbers[mine], kind="stable")]  # in the file's order
            out[mine] = read_rows(self.parts[k], numbers[mine] - self.starts[k])
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows in memory: for small ones only."""
        return np.asarray(self[:], dtype)

    def _stretch(self, start: int, stop: int) -> np.ndarray:
        pieces = [
            read_rows(part, slice(max(0, start - first), stop - first))
            for part, first in zip(self.parts, self.starts.tolist(), strict=False)
            if first < stop and first + len(part) > start
        ]
        return np.concatenate(pieces).astype(self.dtype, copy=False) if pieces else np.empty((0, *self.shape[1:]), self.dtype)


def _joined_index(arrays: Sequence[Any]) -> np.ndarray | None:
    """The indices of ``arrays`` that have one, as rows of all parts laid end to end; None where none has."""
    if all(getattr(a, "index", None) is None for a in arrays):
        return None
    found, start = [], 0
    for a in arrays:
        own = getattr(a, "index", None)
        found.append(start + (np.arange(len(a)) if own is None else own))
        start += int(a.starts[-1]) if isinstance(a, Rows) else len(a)
    return np.concatenate(found)


def _mapping(inputs: Any) -> mmap.mmap | None:
    """The mapped file that an array is a view of, if it is one that other processes or later reads can find again."""
    base: Any = inputs
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None) if not isinstance(base, memoryview) else base.obj
    # A copy-on-write map that was written to would lose what was written.
    return None if base is None or inputs.flags.writeable else base
