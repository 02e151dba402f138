"""Makes sure that a data set and its reserve belong together before anything is computed from both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.data.images import Size, as_channels, resize_all
from tocsin.data.merging import same_columns
from tocsin.data.names import is_number, listed, shown
from tocsin.data.rows import row_hashes
from tocsin.errors import InputError

LEAST_PER_CLASS = 10
LEAST_IN_ALL = 200
MOST_OVERLAP = {"image": 0.01, "speech": 0.01, "table": 0.5}
"""By kind, the share of the reserve that may also lie in the training data: sets such as CIFAR-10 hold a few natural duplicates, and
in tables rows that are equal by chance are the rule (in real PE headers a fifth of all)."""


def match(train: Dataset, reserve: Dataset) -> tuple[Dataset, Dataset, tuple[str, ...]]:
    """``(train, reserve, notes)``: the reserve in the training data's class order, sample size and channels.

    Exact duplicates of training samples are dropped from the reserve if they are few (`MOST_OVERLAP`); in tables they stay, and are
    noted. Of tables the columns are matched by name, and both sides get the levels that either has. Raises `InputError` if the class
    sets differ, if more of the reserve lies in the training data, or if it is too small: at least 10 samples a class and 200 in all.
    """
    if train.kind != reserve.kind:
        raise InputError(f"reserve: holds {reserve.kind} samples but the training data {train.kind} samples")
    reserve = _same_classes(train, reserve)
    train, reserve, notes = _SAME_FORM[train.kind](train, reserve)
    reserve, more = _apart(train, reserve)
    _check_enough(reserve)
    return train, reserve, (*notes, *more)


def _same_classes(train: Dataset, reserve: Dataset) -> Dataset:
    if train.classes == reserve.classes:
        return reserve
    missing = [name for name in train.classes if name not in set(reserve.classes)]
    extra = [name for name in reserve.classes if name not in set(train.classes)]
    if missing or extra:
        parts = [f"{what} {listed(names, len(names))}" for what, names in (("lacks class", missing), ("has unknown class", extra)) if names]
        raise InputError(f"reserve: {' and '.join(parts)}; it must have the training data's classes{_intention(train, reserve)}")
    place = np.array([train.classes.index(name) for name in reserve.classes], np.int64)
    return replace(reserve, classes=train.classes, labels=place[reserve.labels])


def _intention(train: Dataset, reserve: Dataset) -> str:
    """What the person may have meant, where the names give a hint."""
    sides = {"training data": train, "reserve": reserve}
    numbered = [what for what, data in sides.items() if all(is_number(name) for name in data.classes)]
    if len(numbered) == 1:
        named = sides["reserve" if numbered[0] == "training data" else "training data"]
        if len(named.classes) == len(sides[numbered[0]].classes):
            return f" (the {numbered[0]} has numbers where the other has names: give the names, in order, with classes=)"
        return f" (the {numbered[0]} has numbers where the other has names)"
    ours, theirs = ([_plain(name) for name in data.classes] for data in (train, reserve))
    if sorted(ours) == sorted(theirs):
        return " (the names differ only in case, blanks or leading zeros: rename one side)"
    return ""


def _plain(name: str) -> str:
    return str(int(name)) if is_number(name) else "".join(name.casefold().split())


def _same_clips(train: Dataset, reserve: Dataset) -> tuple[Dataset, Dataset, list[str]]:
    if (train.rate, train.inputs.shape[1:]) != (reserve.rate, reserve.inputs.shape[1:]):
        ours, theirs = (f"{data.inputs.shape[-1]:,} samples at {data.rate} Hz" for data in (train, reserve))
        hint = "bring them to one rate and length, by loading it with rate= and seconds="
        raise InputError(f"reserve: clips have {theirs}, those of the training data {ours}; {hint}")
    return train, reserve, []


def _same_shape(train: Dataset, reserve: Dataset) -> tuple[Dataset, Dataset, list[str]]:
    notes: list[str] = []
    inputs, wanted = reserve.inputs, train.inputs.shape[1:]
    if inputs.shape[1:] == wanted:
        return train, reserve, notes
    if inputs.shape[3] != wanted[2]:
        notes.append(f"reserve converted to {'grey' if wanted[2] == 1 else 'colour'} like the training data")
        inputs = as_channels(inputs, wanted[2])
    if inputs.shape[1:3] != wanted[:2]:
        was, size = Size(*inputs.shape[1:3]), Size(*wanted[:2])
        notes.append(
            f"reserve resized from {was} to {size} pixels like the training data; a reserve that was stored alike is a better control"
        )
        inputs = resize_all(inputs, size)
    return train, replace(reserve, inputs=inputs, resized=True), notes


_SAME_FORM: Mapping[str, Callable[[Dataset, Dataset], tuple[Dataset, Dataset, list[str]]]] = {
    "image": _same_shape,
    "speech": _same_clips,
    "table": same_columns,
}
"""By kind: both in one form, and what had to be done for that."""


def _apart(train: Dataset, reserve: Dataset) -> tuple[Dataset, list[str]]:
    theirs = row_hashes(reserve.inputs)
    shared = np.isin(theirs, row_hashes(train.inputs))
    notes: list[str] = []
    if repeated := len(theirs) - len(np.unique(theirs)):
        notes.append(f"{repeated:,} of {len(reserve):,} reserve samples are exact copies of others in it")
    number = int(shared.sum())
    if not number:
        return reserve, notes
    where = f"{number:,} of {len(reserve):,} samples ({listed(reserve.ids[shared])})"
    if number > MOST_OVERLAP[train.kind] * len(reserve):
        raise InputError(
            f"reserve: it overlaps the training data: {where} are also there, value by value; what is trained on cannot be the"
            " clean control; take the reserve's samples out of the training data (tocsin reserve does both)"
        )
    if train.kind == "table":
        # Frequent rows are equal by nature. A reserve without them would make their families look too frequent in the training data.
        return reserve, [*notes, f"{where} of the reserve are equal to rows of the training data, as frequent rows of tables are"]
    return reserve[~shared], [*notes, f"{where} of the reserve also lie in the training data and were dropped from the reserve"]


def _check_enough(reserve: Dataset) -> None:
    counts = reserve.class_counts
    few = [f"{shown(reserve.classes[k])} ({counts[k]})" for k in np.flatnonzero(counts < LEAST_PER_CLASS)]
    parts = [f"fewer than {LEAST_PER_CLASS} samples in class {listed(few, len(few))}"] if few else []
    if len(reserve) < LEAST_IN_ALL:
        parts.append(f"only {len(reserve)} samples in all")
    if parts:
        raise InputError(f"reserve: {' and '.join(parts)}; at least {LEAST_PER_CLASS} a class and {LEAST_IN_ALL} in all are needed")
