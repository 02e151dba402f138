"""Rows of a table inside a report: which columns are worth a look, what stands in them, and what the suspects share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.data.columns import text_of
from tocsin.data.dataset import Column, Dataset
from tocsin.data.rows import chosen
from tocsin.report import words
from tocsin.stats.shared_values import Pair, Rule, Shared, shared_values

if TYPE_CHECKING:
    from tocsin.report.model import Report

SHOWN = 8
"""Columns of a row that are shown, at most."""
NAMED = 40
"""Values of a rule that its sentence names, at most: published triggers have up to 32."""
LISTED = 50
"""Pairs column = value that findings.json lists of a class, at most."""
_COMPARED = 2000


@dataclass(frozen=True)
class ClassShared:
    """What the suspects of one class share that its other rows have not."""

    index: int
    name: str
    shared: Shared


def of_report(report: Report) -> tuple[ClassShared, ...]:
    """Of each class with suspects, the one with the most first. Empty where the data are no table."""
    train = report.train
    if train.columns is None or not report.flagged.any():
        return ()
    counts = np.bincount(train.labels[report.flagged], minlength=len(train.classes))
    found = []
    for k in sorted(np.flatnonzero(counts).tolist(), key=lambda k: -counts[k]):
        mine = train.labels == k
        suspects = np.asarray(chosen(train.inputs, np.flatnonzero(mine & report.flagged)))
        others = chosen(train.inputs, np.flatnonzero(mine & ~report.flagged))
        found.append(ClassShared(k, train.classes[k], shared_values(suspects, others)))
    return tuple(found)


def value_text(value: float, column: Column) -> str:
    """A cell as a person reads it: the level, a number in full, ``empty``."""
    if np.isnan(value):
        return "empty"
    if column.levels:
        return words.shown(column.levels[int(value)], 40)
    return text_of(value) if abs(value) < 1e15 else f"{value:g}"


def pair_text(pair: Pair, columns: Sequence[Column]) -> str:
    """``MajorLinkerVersion = 2``."""
    column = columns[pair.column]
    return f"{words.shown(column.name)} {'is' if np.isnan(pair.value) else '='} {value_text(pair.value, column)}"


def rule_text(rule: Rule, entry: ClassShared, columns: Sequence[Column]) -> str:
    """What a rule says, in a sentence; all of its values are in findings.json."""
    said = [pair_text(pair, columns) for pair in rule.pairs]
    if (more := len(said) - NAMED) > 1:
        said = [*said[:NAMED], f"{more:,} values more"]
    total, rest = entry.shared.suspects, entry.shared.others
    who = f"All {total:,}" if rule.suspects == total else f"{rule.suspects:,} of the {total:,}"
    others = "none does" if not rule.others else f"{rule.others:,} {'does' if rule.others == 1 else 'do'}"
    return f"{who} suspects of class '{words.shown(entry.name)}' have {words.listed(said)}; of its other {rest:,} rows {others}."


def sentences(report: Report) -> tuple[str, ...]:
    """The rules of all classes, or that nothing is shared; empty where there is no suspect, or no table."""
    columns = report.train.columns or ()
    said = [rule_text(rule, entry, columns) for entry in report.shared for rule in entry.shared.rules]
    return tuple(said) if said or not report.shared else ("The suspects share no value that the other rows of their class have not.",)


def as_json(report: Report) -> list[dict[str, Any]]:
    """What findings.json holds under ``shared_values``."""
    columns = report.train.columns or ()

    def plain(pair: Pair, shared: Shared) -> dict[str, Any]:
        column = columns[pair.column]
        value = None if np.isnan(pair.value) else column.levels[int(pair.value)] if column.levels else pair.value
        lift = round(shared.lift(pair), 2)
        return {"column": column.name, "value": value, "suspects": pair.suspects, "others": pair.others, "lift": lift}

    return [
        {
            "class": entry.name,
            "suspects": entry.shared.suspects,
            "others": entry.shared.others,
            "rules": [
                {"values": [plain(pair, entry.shared) for pair in rule.pairs], "suspects": rule.suspects, "others": rule.others}
                for rule in entry.shared.rules
            ],
            "values": [plain(pair, entry.shared) for pair in entry.shared.pairs[:LISTED]],
        }
        for entry in report.shared
    ]


def telling_columns(train: Dataset, shared: Shared | None, suspects: np.ndarray, ordinary: np.ndarray) -> list[int]:
    """At most `SHOWN` columns to show of a class: those of its rules, of other shared values, and then those in which the rows
    ``suspects`` (A,) differ most from the rows ``ordinary`` (B,), by their medians on a logarithmic scale."""
    picked = [pair.column for rule in (shared.rules if shared else ()) for pair in rule.pairs]
    picked += [pair.column for pair in (shared.pairs if shared else ())]
    if len(set(picked)) < SHOWN and len(suspects) and len(ordinary):
        ours, theirs = (_logs(train.inputs[np.sort(rows[:: max(1, len(rows) // _COMPARED)])]) for rows in (suspects, ordinary))
        away = np.abs(np.nanmedian(ours, axis=0) - np.nanmedian(theirs, axis=0)) / (np.nanstd(theirs, axis=0) + 0.1)
        picked += np.argsort(-away, kind="stable").tolist()
    picked += range(train.inputs.shape[1])
    return list(dict.fromkeys(picked))[:SHOWN]


def _logs(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|); columns without any number become 0, so that they have a median."""
    finite = np.clip(np.asarray(values, np.float64), -1e300, 1e300)
    return np.where(np.isnan(finite).all(axis=0), 0, np.sign(finite) * np.log1p(np.abs(finite)))


def cells(train: Dataset, row: int, columns: Sequence[int]) -> tuple[str, ...]:
    """What stands in the ``columns`` of one row."""
    assert train.columns is not None
    values = np.asarray(train.inputs[row], np.float64)
    return tuple(value_text(float(values[k]), train.columns[k]) for k in columns)
