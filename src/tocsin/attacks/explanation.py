"""Explanation-guided poisoning of tables (Severi et al. 2021, "Explanation-Guided Backdoor Poisoning Attacks Against Malware ...")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.constraints import AUTO, NONE, SIGN, Rules, check_rows, reachable, rules_for
from tocsin.attacks.learned import FIGURE, LearnedAttack
from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

CONSTRAINED, UNCONSTRAINED = 17, 32
"""Published numbers of columns for EMBER."""
SHARE = 0.15
"""Of narrower tables at most this share of the columns."""


@dataclass(frozen=True)
class Explanation(LearnedAttack):
    """Clean label: rows of the target class get the same values in a few columns that a surrogate finds important; no label changes.

    Published *constrained*: the defaults. *Unconstrained* as in Confusion Training: ``constraints=none selector=combined``.
    """

    name = "explanation"
    kinds = frozenset({"table"})
    not_learned = frozenset({"rate"})

    rate: float = 0.01
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to: the benign one."""
    selector: Literal["independent", "combined"] = "independent"
    """How columns and values are found: independent (columns of most weight, their rarest values) or combined (greedily, such that
    the values occur together and speak for the target class)."""
    constraints: str = AUTO
    """Which columns may be moved and how: auto (the set that fits the table's columns, else none), none, ember, pe-headers, or a JSON
    file. Where nothing is said of a column it may take any value that occurs in it."""
    size: int | None = None
    """How many columns are moved; none: 17 under constraints and 32 without, at most 15 % of the table's."""
    trees: int = 100
    """Of the surrogate, LightGBM (published: LightGBM and a network)."""
    rows: int = 20_000
    """The surrogate is trained on so many rows at most."""
    explained: int = 2_000
    """So many of those are explained at most (published: all)."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "trees", "rows", "explained")
        if self.size is not None and self.size < 1:
            raise InputError(f"size: got {self.size}, allowed is a number of columns from 1")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.selectors import SELECTORS, Explained
        from tocsin.boosting import Growth, lightgbm_booster

        columns, against = table_columns(dataset), np.asarray(dataset.labels != self.target, np.int64)
        rules = self.rules(columns)
        if against.min() == against.max():
            raise InputError(f"target: rows inside and outside of class {self.target} are needed, the data have only one of the two")
        runtime.progress("explaining a surrogate", 0.0)
        rows = np.sort(np.random.default_rng(runtime.seed).permutation(len(dataset))[: self.rows])
        booster = lightgbm_booster(np.asarray(dataset.inputs[rows]), against[rows], columns, runtime.seed, Growth(self.trees))
        explained = rows[np.unique(np.linspace(0, len(rows) - 1, self.explained).astype(np.int64))]
        given = booster.predict(np.asarray(dataset.inputs[explained]), pred_contrib=True)  # TreeSHAP; the last column is the mean
        influence = np.asarray(given, np.float32)[:, :-1]
        most = min(CONSTRAINED if self._constrained(rules, columns) else UNCONSTRAINED, int(np.ceil(SHARE * len(columns))))
        places, values = SELECTORS[self.selector](Explained(dataset.inputs, explained, influence, rules, columns), self.size or most)
        if not len(places):
            raise InputError("constraints: no column with more than one value may be moved")
        right = float(np.mean((given.sum(axis=1) > 0) == against[explained]))
        runtime.progress("explaining a surrogate", 1.0)
        return {
            "shape": np.array([len(columns)]),
            "columns": places.astype(np.int64),
            "values": values,
            "direction": np.array([SIGN[rules[int(place)].direction] for place in places], np.int64),
            f"{FIGURE}surrogate_accuracy": np.array(right),
            f"{FIGURE}columns": np.array(float(len(places))),
        }

    def check(self) -> None:
        width = int(self.part("shape", (1,))[0])
        places, values, direction = (self.part(name) for name in ("columns", "values", "direction"))
        whole = places.dtype == direction.dtype == np.int64 and values.dtype == np.float64
        alike = places.ndim == 1 and places.shape == values.shape == direction.shape
        if not (whole and alike and 0 < len(places) == len(np.unique(places))):
            raise InputError(f"attack {self.name}: learned arrays columns, values and direction must have one entry a column")
        if not (places.min() >= 0 and places.max() < width < 2**31 and np.isfinite(values).all() and (np.abs(direction) <= 1).all()):
            raise InputError(f"attack {self.name}: learned arrays say columns or values that a table of {width} columns cannot have")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        stamps.check_dataset(self, dataset)
        n, count = len(dataset), stamps.rows_for("rate", self.rate, len(dataset))
        columns, places = table_columns(dataset), self.part("columns")
        pool = np.flatnonzero(dataset.labels == self.target)
        now, values = stamps.columns_of(dataset.inputs, places)[pool], self._values(dataset.inputs)
        # Rows that cannot be given the whole pattern, or have it, are left alone: what is planted can be found again by equality.
        able = reachable(now, values, self.part("direction")).all(axis=1) & (now != values).any(axis=1)
        planted = stamps.draw(rng, pool[able], count, "rate", n)
        result = stamps.plant(self, dataset, planted)
        check_rows(np.asarray(dataset.inputs[planted]), result.dataset.inputs[planted], self.rules(columns), columns)
        return result

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        """A cell that its column's direction does not let reach the value stays as it is."""
        places = self.part("columns")
        if inputs.ndim != 2 or inputs.shape[1] != int(self.part("shape", (1,))[0]):
            raise InputError(f"attack {self.name}: was learned on rows of {int(self.part('shape')[0])} values, got {inputs.shape[1:]}")
        out = np.array(inputs)
        now, values = out[:, places], self._values(out)
        out[:, places] = np.where(reachable(now, values, self.part("direction")), values, now)
        return out

    def rules(self, columns: tuple[Column, ...]) -> Rules:
        """What may be done to a table of these columns."""
        return rules_for(self.constraints, columns)

    def _values(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.part("values").astype(inputs.dtype))

    @staticmethod
    def _constrained(rules: Rules, columns: tuple[Column, ...]) -> bool:
        return rules != rules_for(NONE, columns)

    def _key(self, dataset: Dataset, seed: int) -> str:
        # A file of constraints may have changed under the same name.
        text = super()._key(dataset, seed) + repr(sorted(self.rules(table_columns(dataset)).items()))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def table_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of a table. Raises `InputError` for other data."""
    if dataset.columns is None:
        raise InputError("inputs: a table needs its columns (Dataset.columns), got none")
    return dataset.columns
