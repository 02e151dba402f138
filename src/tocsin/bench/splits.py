"""The samples of a cell: what is audited, the clean reserve, the clean test set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tocsin.bench.choices import DataChoice
from tocsin.bench.grid import BUILTIN
from tocsin.data import load
from tocsin.data.dataset import Dataset
from tocsin.data.pairing import match
from tocsin.errors import InputError
from tocsin.reserve import draw
from tocsin.runtime import Runtime
from tocsin.victim import check_test


@dataclass(frozen=True, eq=False)
class Split:
    """Three data sets of the same classes and sample shape, without a common sample."""

    train: Dataset
    """Clean; the attacks poison copies of it."""
    reserve: Dataset
    test: Dataset

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all samples, labels and class names."""
        parts = "".join(part.fingerprint for part in (self.train, self.reserve, self.test))
        return hashlib.blake2b(parts.encode(), digest_size=10).hexdigest()


def load_split(data: DataChoice, seed: int, runtime: Runtime) -> Split:
    """The samples that ``data`` stands for at ``seed``, which decides on what is drawn. Raises `InputError`."""
    try:
        if data.builtin is not None:
            sets = BUILTIN[data.builtin](seed, int(data.train), int(data.reserve), int(data.test))  # type: ignore[arg-type]
            return Split(*sets)
        return _from_files(data, seed, runtime)
    except InputError as why:
        raise InputError(f"data {data.name}: {why}") from why


def _from_files(data: DataChoice, seed: int, runtime: Runtime) -> Split:
    train = load(data.train, size=data.size, root=data.root, runtime=runtime)
    # as in `tocsin audit`: pictures of mixed sizes are resized once, to the size of the training data
    size = train.inputs.shape[1:3] if train.resized and data.size is None else data.size
    sets: dict[str, Dataset] = {}
    for name, source in (("test", data.test), ("reserve", data.reserve)):
        if isinstance(source, Path):
            sets[name] = load(source, size=size, runtime=runtime)
        else:
            if source >= len(train):
                raise InputError(f"{name}: {source:,} samples cannot be drawn from {len(train):,}; some must be left to train on")
            rows = draw(train, source, seed)
            left = np.ones(len(train), bool)
            left[rows] = False
            sets[name], train = train[rows], train[left]
    train, reserve, _ = match(train, sets["reserve"])
    test = sets["test"]
    if test.classes != train.classes and set(test.classes) <= set(train.classes):
        place = np.array([train.classes.index(name) for name in test.classes], np.int64)
        test = replace(test, classes=train.classes, labels=place[test.labels])
    check_test(train, test)
    return Split(train, reserve, test)
