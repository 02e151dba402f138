"""Columns of a table, as texts or as numbers, to one array of floats in which texts are codes.

A table is looked at twice: a `Survey` of each column says whether it holds numbers or texts, which texts, and how wide its numbers
are; the `Plan` made of it turns every batch of rows into floats. So a table larger than memory can be read.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tocsin.data.dataset import Column
from tocsin.data.names import counted, listed, shown
from tocsin.errors import InputError

MISSING = frozenset(
    {
        "", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null", "None", "none", "<NA>", "NaT", "?", "\\N",
        "#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
    }
)  # fmt: skip
"""Texts that stand for an empty cell: those of the usual readers, and the question mark of older collections."""
MOST_LEVELS = 1000
"""Different texts in a column; with more it says which sample it is rather than what it is like."""
FEW_LEVELS = 20
"""Different texts that may also be more than half as many as there are rows."""
MOST_CLASSES = 1000
_REMEMBERED = 10 * MOST_LEVELS
_LARGEST_EXACT = 2**53

_INDEX = re.compile(r"column 1|Unnamed: 0|__index_level_\d+__|index|row|id", re.IGNORECASE)
"""What the column of row numbers is called that data frames are saved with; the first stands for no name."""


@dataclass(frozen=True)
class Texts:
    """Some rows of a column of texts: each different one once, and which of them each row has."""

    codes: np.ndarray
    """(B,) int64; -1 where the cell is empty."""
    names: list[str]

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, cells: Sequence[str | None], clean: Callable[[Sequence[str | None]], list[str | None]] = list) -> Texts:
        """From the cells row by row, None where one is empty. ``clean`` sees each different cell once."""
        first: dict[str | None, int] = {}
        met = np.array([first.setdefault(cell, len(first)) for cell in cells], np.int64)
        places: dict[str, int] = {}
        codes = [-1 if cell is None else places.setdefault(cell, len(places)) for cell in clean(list(first))]
        return cls(np.array(codes, np.int64)[met], list(places))

    def looked_up(self, values: Sequence[float], empty: float = np.nan) -> np.ndarray:
        """float64 (B,) of one value a name."""
        found: np.ndarray = np.array([*values, empty], np.float64)[self.codes]
        return found

    def renamed(self, change: Callable[[str], str]) -> Texts:
        """Every name changed; those that then are the same become one."""
        names = Texts.of([change(name) for name in self.names])
        return Texts(np.append(names.codes, -1)[self.codes], names.names)

    def listed(self) -> list[str | None]:
        """The cells row by row."""
        return [None if code < 0 else self.names[code] for code in self.codes.tolist()]


Part = np.ndarray | Texts
"""Some rows of a column: float64 (B,), NaN where empty, or texts."""


@dataclass
class Survey:
    """What is known of a column after the rows seen so far."""

    infer: bool
    """Texts that are all numbers are numbers (CSV has nothing but text)."""
    numbering: bool = False
    """By its name it may be the column of row numbers: no number comes twice, all are whole, and none is negative."""
    is_numbers: bool = True
    narrow: bool = True
    """Every number is exact as float32."""
    rounded: bool = False
    """Holds whole numbers that not even float64 holds exactly."""
    texts: set[str] = field(default_factory=set)
    """At most `_REMEMBERED` of them."""
    filled: int = 0

    def see(self, part: Part) -> None:
        """Takes note of further rows."""
        values = part if isinstance(part, np.ndarray) else (numbers_of(part) if self.infer else None)
        self.filled += int((~np.isnan(part)).sum() if isinstance(part, np.ndarray) else (part.codes >= 0).sum())
        if isinstance(part, Texts) and len(self.texts) <= _REMEMBERED:
            self.texts.update(part.names)
        if values is None:
            self.is_numbers = self.is_numbers and isinstance(part, Texts) and not part.names
            return
        known = values[np.isfinite(values)]
        whole = bool((known == np.rint(known)).all())
        self.narrow = self.narrow and bool((np.abs(known) <= np.finfo(np.float32).max).all() and (known.astype(np.float32) == known).all())
        self.rounded = self.rounded or (whole and bool((np.abs(known) > _LARGEST_EXACT).any()))
        if self.numbering:
            self.numbering = whole and bool((known >= 0).all()) and len(np.unique(known)) == len(values)


def surveys_of(names: Sequence[str], infer: bool) -> list[Survey]:
    """One a column, that have seen nothing yet."""
    return [Survey(infer, _INDEX.fullmatch(name) is not None) for name in names]


def numbers_of(texts: Texts) -> np.ndarray | None:
    """float64 (B,) of texts that are all numbers or empty, else None."""
    try:
        values = texts.looked_up([float(name) for name in texts.names])
    except ValueError:
        return None
    return None if "_" in "".join(texts.names) else values  # float() allows 1_000, which no table means as a number


def part_of(values: Any, name: str) -> Part:
    """A column of any library (array, series, list) as numbers or texts. Raises `InputError` for lists, pictures and the like in cells."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"column {shown(name)!r}: holds lists or records (shape {array.shape}); a table has one number or text a cell")
    kind = array.dtype.kind
    if kind in "iuf":
        return array.astype(np.float64)
    if kind == "b":
        return Texts(array.astype(np.int64), ["False", "True"])
    if kind in "Mm":
        seconds = array.astype("datetime64[us]" if kind == "M" else "timedelta64[us]").astype(np.int64) / 1e6
        return np.where(np.isnat(array), np.nan, seconds)
    return _of_objects(array.tolist(), name)


def _of_objects(cells: list[Any], name: str) -> Part:
    known = [cell for cell in cells if not _is_empty(cell)]
    if known and all(isinstance(cell, numbers.Number) and not isinstance(cell, bool | np.bool_ | complex) for cell in known):
        return np.array([np.nan if _is_empty(cell) else float(cell) for cell in cells], np.float64)
    if any(isinstance(cell, list | tuple | dict | set | np.ndarray) for cell in known):
        raise InputError(f"column {shown(name)!r}: holds lists or records; a table has one number or text a cell")
    return Texts.of([None if _is_empty(cell) else text_of(cell) for cell in cells])


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell) or (not isinstance(cell, bytes) and str(cell).strip() in MISSING)


def text_of(cell: Any) -> str:
    """A cell as a level is called: 3.0 as ``3``, bytes as the text they hold."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace").strip()
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def named(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that are there and differ, and notes on those that were not or did not."""
    names: list[str] = []
    again: list[str] = []
    taken: set[str] = set()
    for at, raw in enumerate(header):
        name = str(raw).strip() or f"column {at + 1}"
        number = 1
        while (candidate := name if number == 1 else f"{name} ({number})") in taken:
            number += 1
        if number > 1:
            again.append(candidate)
        taken.add(candidate)
        names.append(candidate)
    return names, [f"{counted(len(again), 'column')} with the name of another renamed: {listed(again)}"] if again else []


@dataclass(frozen=True)
class Plan:
    """How the columns of a table become floats."""

    columns: tuple[Column, ...]
    at: tuple[int, ...]
    """(F,) the place of each in the table."""
    dtype: str
    """float32 where that holds every number exactly, else float64."""
    notes: tuple[str, ...]

    def encode(self, parts: Sequence[Part]) -> np.ndarray:
        """(B, F) of a batch, ``parts`` being all the table's columns."""
        size = len(parts[0]) if parts else 0
        out = np.empty((size, len(self.at)), self.dtype)
        for k, (column, at) in enumerate(zip(self.columns, self.at, strict=True)):
            out[:, k] = encoded(parts[at], column)
        return out


def encoded(part: Part, column: Column) -> np.ndarray:
    """float64 (B,): the numbers, or the codes of the texts."""
    if not column.levels:
        values = part if isinstance(part, np.ndarray) else numbers_of(part)
        if values is None:
            raise InputError(f"column {shown(column.name)!r}: holds texts where numbers were; did the file change while it was read?")
        return values
    texts = part if isinstance(part, Texts) else Texts.of([None if np.isnan(value) else text_of(value) for value in part.tolist()])
    place = {level: float(code) for code, level in enumerate(column.levels)}
    try:
        return texts.looked_up([place[name] for name in texts.names])
    except KeyError as why:
        raise InputError(f"column {shown(column.name)!r}: has no level {shown(str(why.args[0]))!r}") from why


def plan_of(names: Sequence[str], surveys: Sequence[Survey], label: int | None, wanted: Sequence[str] | None) -> Plan:
    """From the columns' names and surveys. ``label``: the place of the labels, which are no feature. ``wanted``: the columns to keep.

    Raises `InputError` where nothing is left, or something wanted is not there.
    """
    columns: list[Column] = []
    at: list[int] = []
    notes: list[str] = []
    rounded: list[str] = []
    narrow = True
    if wanted is not None and (unknown := [name for name in wanted if name not in names]):
        raise InputError(f"columns: there is no {listed(unknown)}; the table has {listed(names, 8)}")
    for k, (name, survey) in enumerate(zip(names, surveys, strict=True)):
        if k == label or (wanted is not None and name not in wanted):
            continue
        why = None if wanted is not None else _no_feature(survey)
        if why:
            notes.append(f"column {shown(name)!r} left out: {why}")
            continue
        if not survey.is_numbers and len(survey.texts) > _REMEMBERED:
            raise InputError(f"column {shown(name)!r}: has more than {_REMEMBERED:,} different texts, too many for categories")
        at.append(k)
        columns.append(Column(name, () if survey.is_numbers else tuple(sorted(survey.texts))))
        narrow = narrow and (not survey.is_numbers or survey.narrow)
        if survey.is_numbers and survey.rounded:
            rounded.append(name)
    if not columns:
        raise InputError(f"the table has no column of features{'; ' + '; '.join(notes) if notes else ''}; got {listed(names, 8)}")
    if rounded:
        notes.append(f"whole numbers beyond 2^53 are rounded to the nearest that a float64 holds in {listed(rounded)}")
    return Plan(tuple(columns), tuple(at), "float32" if narrow else "float64", tuple(notes))


def _no_feature(survey: Survey) -> str | None:
    """Why a column is none that a model should learn from, if so."""
    if survey.is_numbers:
        return "it numbers the rows" if survey.numbering and survey.filled else None
    different = len(survey.texts)
    if different > MOST_LEVELS or (different > FEW_LEVELS and 2 * different > survey.filled):
        many = f"more than {_REMEMBERED:,}" if different > _REMEMBERED else f"{different:,}"
        return (
            f"its {many} different texts in {survey.filled:,} rows name the samples rather than describe them"
            if 2 * different > min(survey.filled, _REMEMBERED)
            else f"it has {many} different texts, and at most {MOST_LEVELS:,} are taken for categories"
        )
    return None
