"""Two tables in one form: the same columns in the same order, and codes that mean the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tocsin.data.columns import Texts, encoded, text_of
from tocsin.data.dataset import Column, Dataset
from tocsin.data.names import counted, listed, shown
from tocsin.errors import InputError


def same_columns(train: Dataset, other: Dataset, what: str = "reserve") -> tuple[Dataset, Dataset, list[str]]:
    """``(train, other, notes)``: ``other`` in the columns, order and type of ``train``; both with the levels that either has.

    The codes of ``train`` stay as they are: levels that only ``other`` has come after its own. Raises `InputError`, naming ``what``,
    where ``other`` lacks a column, or holds texts where ``train`` has numbers.
    """
    if train.columns is None or other.columns is None:
        raise InputError(f"{what}: a table is needed on both sides, with columns")
    place = {column.name: k for k, column in enumerate(other.columns)}
    if missing := [column.name for column in train.columns if column.name not in place]:
        raise InputError(f"{what}: lacks {counted(len(missing), 'column')} that the training data has: {listed(missing)}")
    notes: list[str] = []
    if extra := [name for name in place if name not in {column.name for column in train.columns}]:
        notes.append(f"{counted(len(extra), 'column')} that only the {what} has left out: {listed(extra)}")
    if train.columns == other.columns:
        return train, _as_type(train, other), notes
    order = [place[column.name] for column in train.columns]
    values = np.array(np.asarray(other.inputs)[:, order], train.inputs.dtype)
    columns: list[Column] = []
    new: list[str] = []
    for k, (ours, at) in enumerate(zip(train.columns, order, strict=True)):
        theirs = other.columns[at]
        merged = _merged(ours, theirs, values[:, k], what)
        if merged.levels != theirs.levels:
            values[:, k] = encoded(_as_texts(values[:, k], theirs), merged)
        if len(merged.levels) > len(ours.levels):
            new.append(ours.name)
        columns.append(merged)
    if new:
        notes.append(f"texts that only the {what} has in {listed(new)}")
    return replace(train, columns=tuple(columns)), replace(other, inputs=values, columns=tuple(columns)), notes


def _as_type(train: Dataset, other: Dataset) -> Dataset:
    if other.inputs.dtype == train.inputs.dtype:
        return other
    return replace(other, inputs=np.asarray(other.inputs).astype(train.inputs.dtype))


def _merged(ours: Column, theirs: Column, values: np.ndarray, what: str) -> Column:
    """The column with the levels of both."""
    if not ours.levels and theirs.levels:
        raise InputError(f"{what}: column {shown(ours.name)!r} holds texts ({listed(theirs.levels, 3)}), in the training data numbers")
    if not ours.levels:
        return ours
    known = set(ours.levels)
    met = theirs.levels or sorted(_as_texts(values, theirs).names)
    return Column(ours.name, (*ours.levels, *(level for level in met if level not in known)))


def _as_texts(values: np.ndarray, column: Column) -> Texts:
    """The cells as texts: what the codes stand for, or numbers as a level would be called."""
    levels = column.levels
    return Texts.of([None if np.isnan(value) else levels[int(value)] if levels else text_of(value) for value in values.tolist()])
