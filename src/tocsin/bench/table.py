"""The table of a benchmark, from its lines alone: rows are attacks, columns detectors, figures mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin.errors import InputError

DETECTED = 0.8
"""The papers' rule: a detection works if its TPR is above this."""
DEFENDED = 0.2
"""The papers' rule: a defence works if the ASR afterwards is below this."""

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Stat:
    """A figure over seeds."""

    mean: float
    spread: float | None
    """Standard deviation over the seeds (n - 1); None for a single one."""

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Stat | None:
        """None where no seed has a value."""
        known = [float(value) for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class Box:
    """One detector against one attack."""

    seeds: int
    """How many seeds the figures are over."""
    tpr: Stat | None
    fpr: Stat | None
    auc: Stat | None
    asr_after: Stat | None
    acc_after: Stat | None
    seconds: Stat | None
    failed: tuple[str, ...]
    """What the seeds without figures failed with."""

    @property
    def detects(self) -> bool | None:
        """The papers' rule on the mean TPR; None without one."""
        return None if self.tpr is None else self.tpr.mean > DETECTED

    @property
    def defends(self) -> bool | None:
        """The papers' rule on the mean ASR after removal; None without one."""
        return None if self.asr_after is None else self.asr_after.mean < DEFENDED


@dataclass(frozen=True)
class Row:
    """One attack. The gate: what it does to a network without any defence, and its trigger to a network trained on clean data."""

    label: str
    asr: Stat | None
    control_asr: Stat | None
    acc: Stat | None
    control_acc: Stat | None
    gated: int
    """Seeds at which the gate was measured."""
    idle: int
    """Seeds of those at which the attack does not work: its ASR is less than 50 points above the control."""
    boxes: tuple[Box | None, ...]
    """One a column; None: not run."""


@dataclass(frozen=True)
class Column:
    """One detector."""

    label: str
    oracle: bool
    """It was told something that a person who audits does not know."""


@dataclass(frozen=True)
class Section:
    """One data set and one network."""

    data: str
    victim: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Everything a rendering shows."""

    sections: tuple[Section, ...]
    cells: int
    failures: tuple[tuple[str, str], ...]
    """(cell, error) of each cell that failed."""
    commits: tuple[str, ...]
    """The commits the numbers come from; a plus: with changes."""
    devices: tuple[str, ...]


def tabulate(lines: Sequence[Line]) -> Table:
    """The table of ``lines``, whatever their order; of two lines of one cell the later counts.

    Raises `InputError` for lines that lack what every line has.
    """
    try:
        return _tabulate(lines)
    except (KeyError, TypeError, AttributeError, ValueError) as why:
        raise InputError(f"results: a line is not as `tocsin bench` writes it ({type(why).__name__}: {why})") from why


def _tabulate(lines: Sequence[Line]) -> Table:
    # Not by key: a cell that was run again with or without retraining is the same place in the table.
    last = {_identity(line): line for line in lines}
    ordered = sorted(last.values(), key=lambda line: (line["place"], line["key"]))
    sections = []
    for part in _groups(ordered, lambda line: (line["data"]["id"], line["victim"]["id"])):
        sections.append(_section(part))
    failed = [line for line in ordered if "error" in line]
    known = [line["provenance"] for line in ordered]
    return Table(
        tuple(sections),
        len(ordered),
        tuple((_name(line), _error(line)) for line in failed),
        tuple(sorted({f"{p['commit'][:12]}{'+' if p['dirty'] else ''}" for p in known if p.get("commit")})),
        tuple(sorted({f"{p.get('gpu') or p.get('cpu') or ''} ({p['device']})" for p in known})),
    )


def _identity(line: Line) -> tuple[Any, ...]:
    return (line["data"]["id"], line["victim"]["id"], line["attack"]["id"], line["detector"]["id"], line["seed"])


def _groups(lines: Sequence[Line], of: Callable[[Line], Any]) -> list[list[Line]]:
    """Lines with the same ``of``, in the order of their first."""
    found: dict[Any, list[Line]] = {}
    for line in lines:
        found.setdefault(of(line), []).append(line)
    return list(found.values())


def _section(lines: Sequence[Line]) -> Section:
    by_detector = _groups(lines, lambda line: line["detector"]["id"])
    # The grid's order, though the first attack may lack a detector.
    by_detector.sort(key=lambda group: (min(line["place"][3] for line in group), group[0]["detector"]["label"]))
    columns = [group[0]["detector"]["id"] for group in by_detector]
    by_attack = _groups(lines, lambda line: line["attack"]["id"])
    names = _apart([(group[0]["detector"]["label"], group[0]["detector"]["id"]) for group in by_detector])
    labels = _apart([(group[0]["attack"]["label"], group[0]["attack"]["id"]) for group in by_attack])
    return Section(
        data=str(lines[0]["data"]["name"]),
        victim=str(lines[0]["victim"]["label"]),
        columns=tuple(Column(name, any(line.get("oracle") for line in group)) for name, group in zip(names, by_detector, strict=True)),
        rows=tuple(_row(label, group, columns) for label, group in zip(labels, by_attack, strict=True)),
    )


def _apart(named: Sequence[tuple[str, str]]) -> list[str]:
    """Labels, with a piece of the id where two are the same (settings that a newer version has other defaults for)."""
    labels = [label for label, _ in named]
    return [f"{label} [{key[:6]}]" if labels.count(label) > 1 else label for label, key in named]


def _row(label: str, lines: Sequence[Line], columns: Sequence[str]) -> Row:
    # The gate is the attack's, the same beside every detector: one a seed.
    gates = list({line["seed"]: line["gate"] for line in lines if "gate" in line}.values())
    known = [gate["works"] for gate in gates if gate["works"] is not None]
    boxes = []
    for column in columns:
        mine = [line for line in lines if line["detector"]["id"] == column]
        boxes.append(_box(mine) if mine else None)

    def over(key: str) -> Stat | None:
        return Stat.of(gate[key] for gate in gates)

    return Row(
        label, over("asr"), over("control_asr"), over("acc"), over("control_acc"), len(known), idle=known.count(False), boxes=tuple(boxes)
    )


def _box(lines: Sequence[Line]) -> Box:
    good = [line for line in lines if "error" not in line]

    def over(part: str, key: str) -> Stat | None:
        return Stat.of(line[part][key] for line in good if line.get(part))

    return Box(
        seeds=len(good),
        tpr=over("result", "tpr"),
        fpr=over("result", "fpr"),
        auc=over("result", "auc"),
        asr_after=over("after", "asr"),
        acc_after=over("after", "acc"),
        seconds=over("result", "seconds"),
        failed=tuple(_error(line) for line in lines if "error" in line),
    )


def _name(line: Line) -> str:
    parts = (line["data"]["name"], line["attack"]["label"], line["detector"]["label"], line["victim"]["label"])
    return ", ".join([*map(str, parts), f"seed {line['seed']}"])


def _error(line: Line) -> str:
    return f"{line['error']['type']}: {line['error']['message']}"
