"""Feature patch: a few columns of a table get fixed values. What BadNet is to pictures, for comparison."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.attacks.constraints import NONE, check_rows, rules_for
from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError
from tocsin.params import closest

if TYPE_CHECKING:
    from typing_extensions import Self

_ROWS = 10_000
"""In so many evenly spaced rows it is looked for columns with more than one value."""


@dataclass(frozen=True)
class FeaturePatch(Attack):
    """Fixed values in fixed columns; the label becomes the target, or, with ``clean_label``, rows of the target class only."""

    name = "feature-patch"
    kinds = frozenset({"table"})

    rate: float = 0.01
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    columns: tuple[str, ...] = ()
    """Names of the columns; none: ``size`` of those that hold more than one value, drawn once."""
    values: tuple[str, ...] = ()
    """The number or level that each of the columns gets; none: of its rarest values the one furthest from 0."""
    size: int = 8
    """How many columns are drawn where none are named; in narrow tables at most a fifth of them."""
    clean_label: bool = False
    """Plant in rows of the target class and change no label; else in rows of the other classes."""
    constraints: str = NONE
    """What every poisoned row is checked against: none, auto, ember, pe-headers, or a JSON file."""
    places: tuple[int, ...] = field(default=(), kw_only=True)
    """Places of the columns; filled in from the data when poisoning."""
    codes: tuple[float, ...] = field(default=(), kw_only=True)
    """What is written there; filled in from the data when poisoning."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if self.size < 1:
            raise InputError(f"size: got {self.size}, allowed is a number of columns from 1")
        if self.values and len(self.values) != len(self.columns):
            raise InputError(f"values: got {len(self.values)} for {len(self.columns)} columns, allowed is one each, or none at all")
        if len(set(self.columns)) < len(self.columns):
            raise InputError(f"columns: got {', '.join(self.columns)}, allowed is each column once")
        if len(self.places) != len(self.codes) or min(self.places, default=0) < 0 or not np.isfinite(self.codes).all():
            raise InputError("places and codes: one column of the table and one finite value each; leave the two settings out")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        stamps.check_dataset(self, dataset)
        columns, n, count = dataset.columns or (), len(dataset), stamps.rows_for("rate", self.rate, len(dataset))
        attack = self if self.places else self._on(dataset, columns, rng)
        if max(attack.places) >= len(columns):
            raise InputError(f"places: got column {max(attack.places)}, the table has {len(columns)}")
        pool = np.flatnonzero((dataset.labels == self.target) == self.clean_label)
        # A row that has the pattern already would not be changed by it.
        now = stamps.columns_of(dataset.inputs, np.array(attack.places))[pool]
        pool = pool[(now != np.array(attack.codes, now.dtype)).any(axis=1)]
        planted = stamps.draw(rng, pool, count, "rate", n)
        result = stamps.plant(attack, dataset, planted)
        check_rows(np.asarray(dataset.inputs[planted]), result.dataset.inputs[planted], rules_for(self.constraints, columns), columns)
        return result

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        if not self.places:
            raise InputError(f"attack {self.name}: does not know the table's columns yet; use the attack that poisoning gives back")
        if inputs.ndim != 2 or inputs.shape[1] <= max(self.places):
            raise InputError(f"attack {self.name}: writes into column {max(self.places)}, got rows of {inputs.shape[1:]}")
        out = np.array(inputs)
        out[:, self.places] = np.array(self.codes, out.dtype)
        return out

    def _on(self, dataset: Dataset, columns: tuple[Column, ...], rng: np.random.Generator) -> Self:
        """With the places of its columns, and their values, in ``dataset``."""
        names = [column.name for column in columns]
        for name in self.columns:
            if name not in names:
                raise InputError(f"columns: the table has no column {name!r}{closest(name, names)}")
        places = [names.index(name) for name in self.columns] or self._drawn(dataset.inputs, rng)
        if self.values:
            codes = [_code(columns[place], text) for place, text in zip(places, self.values, strict=True)]
        else:
            found = stamps.columns_of(dataset.inputs, np.array(places)).T
            codes = [_rarest(column, names[place]) for place, column in zip(places, found, strict=True)]
        texts = tuple(columns[p].levels[int(code)] if columns[p].levels else repr(code) for p, code in zip(places, codes, strict=True))
        return replace(self, columns=tuple(names[place] for place in places), values=texts, places=tuple(places), codes=tuple(codes))

    def _drawn(self, inputs: np.ndarray, rng: np.random.Generator) -> list[int]:
        rows = np.asarray(inputs[np.unique(np.linspace(0, len(inputs) - 1, _ROWS).astype(np.int64))])
        varied = [k for k in range(rows.shape[1]) if len(np.unique(rows[:, k][np.isfinite(rows[:, k])])) > 1]
        if not varied:
            raise InputError("columns: the table has no column with more than one value")
        return sorted(int(k) for k in rng.choice(varied, min(self.size, -(-len(varied) // 5)), replace=False))


def _rarest(column: np.ndarray, name: str) -> float:
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    if not len(values):
        raise InputError(f"columns: column {name!r} is empty, so a value must be given")
    rare = values[counts == counts.min()]
    return float(rare[np.argmax(np.abs(rare))])


def _code(column: Column, text: str) -> float:
    """The number, or the level's code, that ``text`` stands for in ``column``."""
    if column.levels:
        if text not in column.levels:
            raise InputError(f"values: column {column.name!r} has no level {text!r}{closest(text, column.levels)}")
        return float(column.levels.index(text))
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"values: column {column.name!r} holds numbers, got {text!r}")
    return value
