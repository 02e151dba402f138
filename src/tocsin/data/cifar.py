"""The python batches of CIFAR-10 and CIFAR-100, read without unpickling (see `pickles`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data.arrays import to_dataset
from tocsin.data.dataset import Dataset
from tocsin.data.names import listed
from tocsin.data.pickles import Refused, array_of, parse
from tocsin.data.request import Request
from tocsin.errors import InputError

_SUBFOLDERS = ("", "cifar-10-batches-py", "cifar-100-python")
_LABELS = ("labels", "fine_labels")
_NAMES = {"batches.meta": "label_names", "meta": "fine_label_names"}
_MOST_BYTES = 512 * 2**20
FILES = frozenset({*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "train", "test"})


def batches_in(folder: Path) -> list[Path]:
    """The training batches in a folder as it is unpacked (or one above it); empty if it is none."""
    for inner in _SUBFOLDERS:
        here = folder / inner
        ten = sorted(file for file in here.glob("data_batch_*") if file.is_file())
        if ten:
            return ten
        if (here / "train").is_file() and (here / "meta").is_file():
            return [here / "train"]
    return []


def read_folder(request: Request) -> Dataset:
    """All training batches; the test batch is left alone."""
    return _read(request, batches_in(request.path))


def read_file(request: Request) -> Dataset:
    """A single batch."""
    return _read(request, [request.path])


def _read(request: Request, files: list[Path]) -> Dataset:
    batches = [_batch(file) for file in files]
    pixels = np.concatenate([pixels for pixels, _ in batches])
    labels = [label for _, part in batches for label in part]
    ids = [f"{file.name}/{row}" for file, (part, _) in zip(files, batches, strict=True) for row in range(len(part))]
    names, notes = (list(request.classes), []) if request.classes is not None else _class_names(files[0].parent, max(labels, default=0))
    return to_dataset(
        pixels,
        np.array(labels, np.int64),
        names,
        request.size,
        layout="cifar",
        source=request.path.resolve(),
        ids=np.array(ids),
        notes=notes,
    )


def _load(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MOST_BYTES:
        raise InputError(f"{file}: larger than {_MOST_BYTES >> 20} MiB, which no CIFAR batch is")
    try:
        value = parse(file.read_bytes())
    except Refused as why:
        raise InputError(f"{file}: this file holds something other than a CIFAR batch: {why}; nothing in it was run") from why
    if not isinstance(value, dict):
        raise InputError(f"{file}: this file holds something other than a CIFAR batch: no dict; nothing in it was run")
    return {key.decode("latin-1") if isinstance(key, bytes) else key: part for key, part in value.items()}


def _batch(file: Path) -> tuple[np.ndarray, list[int]]:
    """(N, 32, 32, 3) uint8 and N labels."""
    value = _load(file)
    key = next((key for key in _LABELS if key in value), None)
    if key is None or "data" not in value:
        raise InputError(f"{file}: this file holds something other than a CIFAR batch: got {listed(value)}, needed data and labels")
    try:
        data = array_of(value["data"])
    except Refused as why:
        raise InputError(f"{file}: this file holds something other than a CIFAR batch: {why}") from why
    labels = value[key]
    if data.ndim != 2 or data.shape[1] != 3072 or not isinstance(labels, list) or len(labels) != len(data):
        raise InputError(
            f"{file}: not a whole CIFAR batch: data of shape {data.shape} with {len(labels) if isinstance(labels, list) else 'no'} labels"
        )
    if not all(type(label) is int and 0 <= label < 2**31 for label in labels):
        raise InputError(f"{file}: labels must be whole numbers from 0")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _class_names(folder: Path, largest: int) -> tuple[list[str] | None, list[str]]:
    for file, key in _NAMES.items():
        if not (folder / file).is_file():
            continue
        try:
            names = _load(folder / file).get(key)
        except InputError as why:
            return None, [f"class names not read: {why}"]
        if isinstance(names, list) and len(names) > largest and all(isinstance(name, str | bytes) for name in names):
            return [name.decode("latin-1") if isinstance(name, bytes) else name for name in names], []
        return None, [f"class names not read: {file} does not name every class"]
    return None, []
