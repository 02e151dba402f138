"""Tables: rows of numbers and categories to normalised tensors. Docs: docs/tables.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.data.dataset import Column, Dataset
from tocsin.data.rows import read_rows, row_hashes
from tocsin.errors import InputError
from tocsin.kinds.base import Kind

_STATISTICS_ROWS = 10_000
MOST_LEVELS = 32
"""Levels of a categorical column that have an input of their own; rarer ones share one."""
LOUDEST = 8.0
"""Deviations from the mean at which a value is cut off: a rare extreme value stays extreme, and does not drown the others."""


@dataclass(frozen=True, eq=False)
class TableKind(Kind):
    """How rows become tensors: numbers as sign(x) log(1 + |x|), standardised by this data's statistics; categories as 0 and 1.

    The logarithm keeps rare values extreme, which ranks squash, and tames tails, which standardising alone does not
    (methods/table-findings.md, section 3). An empty cell is the mean, with a further input that says so.
    """

    network: ClassVar[str] = "mlp"
    auditor: ClassVar[str] = "mlp"

    numeric: Tensor
    """(A,) int64: columns that hold numbers."""
    mean: Tensor
    """(A,) of their logarithms."""
    std: Tensor
    """(A,) likewise."""
    gaps: Tensor
    """(G,) int64: places in ``numeric`` of columns with empty cells."""
    categories: tuple[tuple[int, Tensor], ...]
    """(column, its level's place (levels + 1,) in 0..places-1; the last entry is for an empty cell)."""

    @classmethod
    def of(cls, dataset: Dataset, *, flip: bool = False) -> TableKind:
        """Statistics of ``dataset``, (N, F), from at most 10,000 evenly spaced rows. Raises `InputError` for what is no table."""
        if dataset.columns is None or dataset.inputs.dtype.kind != "f":
            raise InputError(f"table: rows of floats with columns are needed, got {dataset.inputs.dtype} {dataset.inputs.shape}")
        rows = np.unique(np.linspace(0, max(len(dataset) - 1, 0), _STATISTICS_ROWS).astype(np.int64))
        sample = read_rows(dataset.inputs, rows)
        levels = np.array([len(column.levels) for column in dataset.columns])
        values = signed_log(torch.from_numpy(sample[:, levels == 0])).numpy()
        known = np.isfinite(values)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, values, 0).sum(0) / count
        std = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)
        # A column that is constant in the sample may hold a trigger in other rows, so it stays, at a scale of its own size.
        scale = np.where(std > 1e-6, std, np.maximum(np.abs(mean), 1.0))
        return cls(
            torch.from_numpy(np.flatnonzero(levels == 0)),
            torch.from_numpy(mean.astype(np.float32)),
            torch.from_numpy(scale.astype(np.float32)),
            torch.from_numpy(np.flatnonzero(~known.all(0))),
            tuple((int(k), _places(sample[:, k], dataset.columns[k])) for k in np.flatnonzero(levels)),
        )

    @property
    def channels(self) -> int:
        return len(self.numeric) + len(self.gaps) + sum(int(places.max()) + 1 for _, places in self.categories)

    def maps(self, inputs: Tensor) -> Tensor:
        """(B, F) to (B, 1, 1, D)."""
        return self.to_tensor(inputs).permute(0, 2, 3, 1)

    def to_tensor(self, inputs: Tensor) -> Tensor:
        """(B, F) float32 or float64 to (B, D, 1, 1): numbers, then which of them are missing, then categories."""
        device = inputs.device
        values = (signed_log(inputs[:, self.numeric.to(device)]) - self.mean.to(device)) / self.std.to(device)
        missing = values.isnan()
        parts = [values.masked_fill(missing, 0).clamp(-LOUDEST, LOUDEST), missing[:, self.gaps.to(device)].float()]
        for column, places in self.categories:
            codes = inputs[:, column].nan_to_num(nan=len(places) - 1).long().clamp(0, len(places) - 1)
            parts.append(F.one_hot(places.to(device)[codes], int(places.max()) + 1).float())
        return torch.cat(parts, dim=1)[:, :, None, None]

    def duplicates(self, inputs: np.ndarray, labels: np.ndarray, device: torch.device) -> np.ndarray:
        """Equal for equal rows, whatever their labels; time grows with the rows, where comparing all pairs would grow with their square."""
        return np.unique(row_hashes(inputs), return_inverse=True)[1].reshape(-1)

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """The rows as they are: there is no way in which any table's rows might have been recorded too."""
        return inputs


def signed_log(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|), float32. Infinities, which some tables hold, become the largest float."""
    return (values.sign() * values.abs().clamp(max=torch.finfo(torch.float32).max).log1p()).float()


def _places(codes: np.ndarray, column: Column) -> Tensor:
    """(levels + 1,) int64: where each level's 1 stands. The most frequent levels have places of their own, empty cells the last."""
    counts = np.bincount(codes[np.isfinite(codes)].astype(np.int64), minlength=len(column.levels))[: len(column.levels)]
    order = np.argsort(-counts, kind="stable")
    places = np.full(len(column.levels) + 1, min(len(column.levels), MOST_LEVELS))
    places[order[:MOST_LEVELS]] = np.arange(len(order[:MOST_LEVELS]))
    return torch.from_numpy(places)
