"""Rows that are somewhere already (a memory map of several GB), chosen and put together without copying them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np


class Rows:
    """Looks like an array (N, ...): row ``i`` is row ``index[i]`` of the parts laid end to end. Read by slice, mask or row numbers.

    What is read is a copy in memory; `take` chooses rows without reading them. So rows of a memory map can be left out, added to and
    replaced, while the map itself stays on disk.
    """

    def __init__(self, parts: Sequence[np.ndarray], index: np.ndarray | None = None) -> None:
        self.parts = tuple(np.asarray(part) for part in parts)
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.index = np.arange(self._starts[-1]) if index is None else np.asarray(index, np.int64)
        self.dtype = self.parts[0].dtype
        self.shape = (len(self.index), *self.parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of all rows, were they in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: Any) -> np.ndarray:
        if isinstance(which, tuple):
            rows: np.ndarray = self[which[0]][(slice(None), *which[1:]) if not isinstance(which[0], int | np.integer) else which[1:]]
            return rows
        index = self.index[which]
        if np.ndim(index) == 0:
            one: np.ndarray = self._read(index[None])[0]
            return one
        return self._read(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._read(self.index).astype(dtype or self.dtype, copy=False)

    def take(self, which: Any) -> Rows:
        """The rows ``which`` (mask, row numbers or slice), still unread."""
        return Rows(self.parts, self.index[which])

    def _read(self, index: np.ndarray) -> np.ndarray:
        if len(self.parts) == 1:
            only: np.ndarray = self.parts[0][index]
            return only
        out = np.empty((len(index), *self.shape[1:]), self.dtype)
        part = np.searchsorted(self._starts, index, side="right") - 1
        for k, rows in enumerate(self.parts):
            here = part == k
            if here.any():
                out[here] = rows[index[here] - self._starts[k]]
        return out


def as_inputs(rows: Rows) -> np.ndarray:
    """``rows`` as the type of `Dataset.inputs`, which it behaves like."""
    return cast(np.ndarray, rows)


def chosen(inputs: np.ndarray | Rows, which: Any) -> np.ndarray:
    """``inputs[which]``; `Rows` stay unread."""
    return as_inputs(inputs.take(which)) if isinstance(inputs, Rows) else inputs[which]


def stacked(parts: Sequence[np.ndarray | Rows]) -> np.ndarray:
    """One array of all ``parts``; the first, where it is `Rows`, stays unread."""
    first = parts[0]
    if not isinstance(first, Rows):
        return np.concatenate([np.asarray(part) for part in parts])
    rest = [np.asarray(part, first.dtype) for part in parts[1:]]
    start = sum(len(part) for part in first.parts)
    added = np.arange(start, start + sum(map(len, rest)))
    return as_inputs(Rows([*first.parts, *rest], np.concatenate([first.index, added])))


def replaced(inputs: np.ndarray | Rows, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``inputs`` with ``values`` (M, ...) in the places of ``rows`` (M,) int64; a copy, but for `Rows`, which stay unread."""
    if not isinstance(inputs, Rows):
        out = np.array(inputs)
        out[rows] = values
        return out
    start = sum(len(part) for part in inputs.parts)
    index = inputs.index.copy()
    index[rows] = np.arange(start, start + len(rows))
    return as_inputs(Rows([*inputs.parts, np.asarray(values, inputs.dtype)], index))
