"""The noun everything else is about: samples, labels, names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tocsin.data.rows import chosen, read_rows, stacked
from tocsin.errors import InputError

UNLABELLED = "unlabelled"
"""The one class of all samples whose labels are not known."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    levels: tuple[str, ...] = ()
    """Of a column of text or categories: what its codes 0, 1, ... stand for. Empty: the column holds numbers."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples in their native form. Immutable; indexing gives a Dataset.

    Shapes: ``inputs`` (N, ...), for images uint8 (N, H, W, C) with C 1 or 3, for sounds int16 (N, T), for tables float32 or float64
    (N, F), NaN where a cell is empty (`tocsin.data.rows.Rows` where they stay on disk); ``labels`` (N,) int64 in
    ``range(len(classes))``; ``ids`` (N,) str, unique: relative file path or row number.
    """

    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: np.ndarray
    kind: str = "image"
    source: Path | None = None
    """Where it was read from (None: arrays)."""
    root: Path | None = None
    """The folder that the ids are paths below (None: ids are row numbers, or there are no files)."""
    layout: str = "arrays"
    """How it was stored: folder (of class folders), flat (a folder read without labels), metadata, npz, manifest, cifar, csv, parquet,
    ember, arrays. `data.write` writes the same back."""
    notes: tuple[str, ...] = ()
    """Warnings for the person, one plain sentence each (files skipped, pictures resized ...)."""
    resized: bool = False
    """Some samples do not have the size they have in the source (`data.write` then cannot mix copied files with changed ones)."""
    rate: int | None = None
    """Samples a second, where inputs are sounds: int16 (N, T), silent (zero) from where a clip ends."""
    groups: np.ndarray | None = None
    """(N,) str: who or what each sample comes from, such as the speaker, where the data say so (empty text: not known)."""
    columns: tuple[Column, ...] | None = None
    """Of a table: what each of the F values of a row is."""
    label_column: str | None = None
    """Of a table whose labels are one of its columns: what that is called."""

    def __post_init__(self) -> None:
        n = len(self.inputs)
        if self.labels.shape != (n,) or self.ids.shape != (n,):
            raise InputError(f"labels and ids must have one entry a sample: {n} inputs, {self.labels.shape} labels, {self.ids.shape} ids")
        if self.groups is not None and self.groups.shape != (n,):
            raise InputError(f"groups: one entry a sample is needed, got {self.groups.shape} for {n} samples")
        if self.columns is not None and self.inputs.shape[1:] != (len(self.columns),):
            raise InputError(
                f"columns: {len(self.columns)} given for inputs of shape {self.inputs.shape}; one for each value of a row is needed"
            )
        if n and not (int(self.labels.min()) >= 0 and int(self.labels.max()) < len(self.classes)):
            raise InputError(f"labels must lie in 0..{len(self.classes) - 1}; got {self.labels.min()}..{self.labels.max()}")

    @classmethod
    def of_arrays(
        cls,
        inputs: np.ndarray,
        labels: np.ndarray,
        classes: tuple[str, ...] | None = None,
        *,
        kind: str = "image",
        rate: int | None = None,
        columns: tuple[Column, ...] | None = None,
    ) -> Dataset:
        """A data set from arrays that already have their final form (see the class for shapes)."""
        labels = np.asarray(labels, dtype=np.int64)
        names = classes if classes is not None else tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
        return cls(np.asarray(inputs), labels, names, row_names(np.arange(len(labels))), kind, rate=rate, columns=columns)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether the labels say anything: all samples without are of one class, `UNLABELLED`."""
        return self.classes != (UNLABELLED,)

    def unlabelled(self) -> Dataset:
        """The same samples without their labels."""
        return replace(self, labels=np.zeros(len(self), np.int64), classes=(UNLABELLED,)) if self.labelled else self

    def __getitem__(self, which: np.ndarray | slice) -> Dataset:
        """Rows by boolean mask (N,), integer array or slice."""
        if isinstance(which, np.ndarray) and which.dtype == bool and len(which) != len(self):
            raise InputError(f"mask: {len(which)} entries for {len(self)} samples")
        groups = None if self.groups is None else self.groups[which]
        return replace(self, inputs=chosen(self.inputs, which), labels=self.labels[which], ids=self.ids[which], groups=groups)

    @property
    def class_counts(self) -> np.ndarray:
        """(C,) number of samples of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of inputs, labels and class names: what a checkpoint or a cached result belongs to."""
        digest = hashlib.blake2b(digest_size=16)
        what = (self.inputs.shape, str(self.inputs.dtype), self.classes, self.kind)
        # Not which levels: a reserve adds some, and what was found must still fit the same data read again.
        names = None if self.columns is None else tuple((column.name, bool(column.levels)) for column in self.columns)
        more = [value for value in (self.rate, names) if value is not None]
        digest.update(repr((*what, *more)).encode())
        for start in range(0, len(self), 4096):
            digest.update(read_rows(self.inputs, slice(start, start + 4096)).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def row_names(rows: np.ndarray) -> np.ndarray:
    """Row numbers (n,) int64 as ids, no wider than the largest needs: `astype(str)` takes 84 bytes for each of five million."""
    return rows.astype(f"U{len(str(int(rows.max(initial=0))))}")


def concatenate(first: Dataset, second: Dataset) -> Dataset:
    """Both data sets' rows, the first's names and classes; the second's ids get a prefix so that ids stay unique."""
    if first.classes != second.classes or first.inputs.shape[1:] != second.inputs.shape[1:]:
        raise InputError("cannot join data sets of different classes or sample shapes")
    if (first.rate, first.kind, first.columns) != (second.rate, second.kind, second.columns):
        raise InputError("cannot join data sets of different kinds, rates or columns")
    return replace(
        first,
        inputs=stacked([first.inputs, second.inputs]),
        labels=np.concatenate([first.labels, second.labels]),
        ids=np.concatenate([first.ids, np.char.add("+/", second.ids.astype(str))]),
        groups=_joined_groups(first, second),
    )


def _joined_groups(first: Dataset, second: Dataset) -> np.ndarray | None:
    if first.groups is None and second.groups is None:
        return None
    return np.concatenate([np.full(len(data), "") if data.groups is None else data.groups for data in (first, second)])
