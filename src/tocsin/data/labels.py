"""From labels as they come (whole numbers, text) to 0..K-1 with class names, and the last checks of every reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data.dataset import UNLABELLED, Dataset
from tocsin.data.names import in_order, is_number, listed
from tocsin.errors import InputError

MISSING = frozenset({"", "nan", "NaN", "null"})
_LONGEST_NAME = 256


def no_labels(count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """What `encode` gives, of samples whose labels are not known: one class."""
    return np.zeros(count, np.int64), (UNLABELLED,)


def encode(
    raw: Any, classes: Sequence[str] | None = None, rows: Sequence[int] | None = None, missing: frozenset[str] = MISSING
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (N,) int64 in 0..K-1 and the K class names.

    ``raw``: array or list of whole numbers (any dtype, also floats such as 3.0) or of text. Numbers are positions in
    ``classes`` if those are given, else become the names themselves; text must be among ``classes`` if given.
    ``rows``: the numbers by which the person knows the rows (lines of a file); default 0, 1, 2 ...
    ``missing``: the text that means no label (none where the names are those of folders).
    Raises `InputError` with the rows of missing, negative or fractional labels, all kinds of mistake at once.
    """
    names = None if classes is None else tuple(str(name) for name in classes)
    if names is not None and len(set(names)) != len(names):
        raise InputError("classes: a name is given twice; class names must be unique")
    if names is not None and any("\0" in name or len(name) > _LONGEST_NAME for name in names):
        raise InputError(f"classes: a name is longer than {_LONGEST_NAME} characters or holds a zero character")
    if isinstance(raw, np.ndarray):
        raw = _flat(raw)
        if raw.dtype.kind in "iufb":
            return _of_numbers(raw, names, rows)
        raw = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in raw.tolist()]
    wrong = {
        "missing": {name for name in set(raw) if name.strip() in missing},
        f"longer than {_LONGEST_NAME} characters": {name for name in set(raw) if len(name) > _LONGEST_NAME},
        "with a zero character": {name for name in set(raw) if "\0" in name},  # no CSV before Python 3.11 can hold one
    }
    if any(wrong.values()):
        _complain({what: np.array([name in bad for name in raw], bool) for what, bad in wrong.items()}, rows)
    return _of_text(raw, names, rows)


def _flat(raw: np.ndarray) -> np.ndarray:
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim == 2:
        raise InputError(
            f"labels: one number or name a sample is needed, got shape {raw.shape}; if they are one-hot, give labels.argmax(1)"
        )
    if raw.ndim != 1:
        raise InputError(f"labels: one number or name a sample is needed, got shape {raw.shape}")
    if raw.dtype.kind not in "iufbUS":
        raise InputError(f"labels: whole numbers or text are needed, got dtype {raw.dtype}")
    return raw


def _complain(mistakes: dict[str, np.ndarray], rows: Sequence[int] | None) -> None:
    found = {what: np.flatnonzero(wrong) for what, wrong in mistakes.items()}
    parts = [f"{what} in row {listed(at if rows is None else [rows[k] for k in at.tolist()])}" for what, at in found.items() if len(at)]
    if parts:
        raise InputError("labels: " + "; ".join(parts) + "; every sample needs a label, a whole number from 0 or a class name")


def _of_numbers(raw: np.ndarray, names: tuple[str, ...] | None, rows: Sequence[int] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    missing = ~np.isfinite(raw) if raw.dtype.kind == "f" else np.zeros(len(raw), bool)
    safe = np.where(missing, 0, raw)
    broken = (safe != np.floor(safe)) | (np.abs(safe) > 2**53) if raw.dtype.kind == "f" else (safe > np.iinfo(np.int64).max)
    _complain({"missing (NaN)": missing, "negative": (safe < 0), "not a whole number": broken}, rows)
    values = safe.astype(np.int64)
    if names is None:
        unique, labels = np.unique(values, return_inverse=True)
        return labels.reshape(-1).astype(np.int64), tuple(str(value) for value in unique)
    if len(values) and values.max() >= len(names):
        raise InputError(
            f"labels: the largest is {values.max()} but classes has {len(names)} names; labels must lie in 0..{len(names) - 1}"
        )
    return values, names


def _of_text(raw: Sequence[str], names: tuple[str, ...] | None, rows: Sequence[int] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    found = set(raw)
    if names is None:
        names = in_order(found)
    elif unknown := found.difference(names):
        if all(is_number(name) for name in found):
            return _of_numbers(np.array([int(name) for name in raw], np.int64), names, rows)
        raise InputError(f"classes: the data has {listed(in_order(unknown))}, which classes does not name")
    place = {name: k for k, name in enumerate(names)}
    return np.array([place[name] for name in raw], np.int64), names


def assemble(
    inputs: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    ids: np.ndarray,
    *,
    layout: str,
    source: Path | None = None,
    root: Path | None = None,
    notes: Sequence[str] = (),
    resized: bool = False,
    kind: str = "image",
    rate: int | None = None,
    groups: np.ndarray | None = None,
) -> Dataset:
    """The data set, checked as every reader must: not empty, at least two classes (or none, `UNLABELLED`); small ones become a note."""
    where = f"{source}: " if source is not None else ""
    if not len(labels):
        raise InputError(f"{where}no sample could be read" + (f" ({'; '.join(notes)})" if notes else ""))
    counts = np.bincount(labels, minlength=len(classes))
    if np.count_nonzero(counts) < 2 and classes != (UNLABELLED,):
        only = classes[int(counts.argmax())]
        raise InputError(f"{where}all {len(labels):,} samples belong to one class ({listed([only])}); at least two classes are needed")
    few = [f"{name} ({count})" for name, count in zip(classes, counts.tolist(), strict=True) if count < 2]
    said = [*notes, f"too few samples (under 2) in class {listed(few)}"] if few else list(notes)
    return Dataset(inputs, labels, classes, ids, kind, source, root, layout, tuple(said), resized, rate, groups)
