"""Which columns of a table an attacker can move, and how: sets of rules, as data (JSON).

A set is ``{"about": "...", "columns": {NAME: {"direction": "free", "integer": true, "low": 0, "high": 65535}}}``; a column that it does not
name cannot be moved. The sets in ``constraint_sets/`` come with tocsin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tocsin.data.dataset import Column
from tocsin.errors import InputError
from tocsin.params import closest

Direction = Literal["free", "increase", "decrease"]
SIGN: Mapping[str, int] = {"free": 0, "increase": 1, "decrease": -1}
AUTO, NONE = "auto", "none"
_SETS = ("ember", "pe-headers")


@dataclass(frozen=True)
class Rule:
    """What may be done to one column. Without anything said: any finite value, in a category any level."""

    direction: Direction = "free"
    """Whether a row's value may only grow, or only shrink; an empty cell has no value, so it can be filled where this is "free"."""
    integer: bool = False
    """Only whole numbers."""
    low: float = -float("inf")
    """Smallest value."""
    high: float = float("inf")
    """Largest value."""

    def suits(self, values: np.ndarray, column: Column) -> np.ndarray:
        """(n,) bool: which of the values (n,) the column may be given, whatever a row has now."""
        levels = len(column.levels)
        low, high = (0.0, levels - 1.0) if levels else (self.low, self.high)
        whole = values == np.floor(values) if self.integer or levels else np.ones(len(values), bool)
        return np.asarray(np.isfinite(values) & whole & (values >= low) & (values <= high))


Rules = dict[int, Rule]
"""By the column's place."""


def rules_for(wanted: str, columns: tuple[Column, ...]) -> Rules:
    """The rules of the set called ``wanted`` for a table of these ``columns``.

    ``none``: every column may take any value. ``auto``: the shipped set of which the table has at least half of the columns, else
    as ``none``. Else a shipped set, of which the columns count that the table has, or the path of a JSON file, all of whose columns
    it must have. Raises `InputError`.
    """
    places = {column.name: place for place, column in enumerate(columns)}
    if wanted == AUTO:
        sets = [shipped(name) for name in _SETS]
        known = [rules for rules in sets if 2 * len(rules.keys() & places.keys()) >= len(rules)]
        return _placed(known[0], places) if known else rules_for(NONE, columns)
    if wanted == NONE:
        return {place: Rule() for place in range(len(columns))}
    if wanted in _SETS:
        rules = _placed(shipped(wanted), places)
        if not rules:
            raise InputError(f"constraints: the table has no column of the set {wanted!r}; give a JSON file, or 'none'")
        return rules
    path = Path(wanted)
    if not path.is_file():
        raise InputError(f"constraints: got {wanted!r}{closest(wanted, _SETS)}, allowed: auto, none, {', '.join(_SETS)}, or a JSON file")
    rules_of_file = parsed(_read(path), str(path))
    for name in rules_of_file:
        if name not in places:
            raise InputError(f"constraints: {path} names the column {name!r}, which the table lacks{closest(name, places)}")
    return _placed(rules_of_file, places)


def shipped(name: str) -> dict[str, Rule]:
    """The set called ``name`` that comes with tocsin, by column."""
    file = resources.files("tocsin.attacks").joinpath("constraint_sets").joinpath(f"{name}.json")
    return parsed(json.loads(file.read_text("utf-8")), name)


def parsed(document: Any, source: str) -> dict[str, Rule]:
    """The rules in a JSON document, by column. Raises `InputError` with the column that is wrong."""
    columns = document.get("columns") if isinstance(document, dict) else None
    if not isinstance(columns, dict) or not columns:
        raise InputError(f'constraints: {source} is no set of constraints, which is {{"columns": {{NAME: {{"direction": ...}}, ...}}}}')
    return {name: _rule(name, words) for name, words in columns.items()}


def check_rows(before: np.ndarray, after: np.ndarray, rules: Rules, columns: tuple[Column, ...]) -> None:
    """Raises `InputError` that names the column unless every cell that differs in rows (n, F) was moved as ``rules`` allow."""
    moved = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    for place in np.flatnonzero(moved.any(axis=0)):
        rows = np.flatnonzero(moved[:, place])
        old, new, column = before[rows, place], after[rows, place], columns[place]
        rule = rules.get(int(place))
        if rule is None:
            raise InputError(f"constraints: column {column.name!r} may not be moved, but row {rows[0]} goes from {old[0]} to {new[0]}")
        bad = ~(rule.suits(new, column) & reachable(old, new, np.array(SIGN[rule.direction])))
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            step = f"row {rows[k]} goes from {old[k]} to {new[k]}"
            raise InputError(f"constraints: column {column.name!r}: {step}, allowed is {_words(rule, column)}")


def reachable(before: np.ndarray, after: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Which cells may go from ``before`` to ``after`` by their columns' ``sign`` (0 free, 1 up, -1 down); all of one shape or broadcast."""
    return np.asarray((sign == 0) | (np.sign(after - before) * sign >= 0))


def _words(rule: Rule, column: Column) -> str:
    if column.levels:
        return f"a level, 0 to {len(column.levels) - 1}"
    way = {"free": "", "increase": ", not below what the row has", "decrease": ", not above what the row has"}[rule.direction]
    bounds = [f" {word} {end:g}" for word, end in (("from", rule.low), ("to", rule.high)) if np.isfinite(end)]
    return f"{'a whole' if rule.integer else 'any finite'} number{''.join(bounds)}{way}"


def _placed(rules: Mapping[str, Rule], places: Mapping[str, int]) -> Rules:
    return {places[name]: rule for name, rule in rules.items() if name in places}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as why:
        raise InputError(f"constraints: {path} cannot be read as JSON ({why})") from None


def _rule(name: str, words: Any) -> Rule:
    allowed = [field.name for field in fields(Rule)]
    if not isinstance(words, dict) or not words.keys() <= set(allowed):
        raise InputError(f"constraints: column {name!r}: got {words!r}, allowed is an object with {', '.join(allowed)}")
    rule = Rule(**words)
    numbers = [value for value in (rule.low, rule.high) if isinstance(value, int | float) and not isinstance(value, bool)]
    if rule.direction not in get_args(Direction) or not isinstance(rule.integer, bool) or len(numbers) < 2 or not rule.low <= rule.high:
        raise InputError(
            f"constraints: column {name!r}: got {words!r}, allowed are direction {', '.join(get_args(Direction))}, integer true or false, "
            "and numbers low <= high"
        )
    return rule
