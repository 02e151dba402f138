"""Value shift: which column=value pairs occur too often for the reserve, and in rows with nothing else in common? Ours.

Of each class the inspected rows are compared with the reserve rows (`stats.value_shift`). A trigger of fixed values is found exactly, and
reads as a rule; one that is made of common values, or that only look-alikes carry, is not seen at all.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings, class_evidence, preset_of
from tocsin.errors import InputError
from tocsin.runtime import Runtime, Ticker
from tocsin.stats.value_shift import Stamp, shifted, stamps

_SHOWN = 40


@dataclass(frozen=True)
class ValueShift(Detector):
    """Value shift: flags rows that carry a stamp, several values that are too frequent together in rows with nothing else in common."""

    name: ClassVar[str] = "value-shift"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    pair_z: float = 2.0
    """Signed root of G from which a pair is looked at."""
    least_z: float = 2.5
    """... and from which the rows that hold most pairs of a group are too many."""
    most_tight: float = 0.25
    """Share of the columns outside the group in which its rows may be more alike than rows of the class are; families exceed it."""
    least_rows: int = 8
    """Rows that carry a stamp, at least."""
    most_rows: int = 60_000
    """Rows of a class that are counted; of more, an even sample. What limits the test is the size of the reserve."""

    def __post_init__(self) -> None:
        if self.least_rows < 2 or self.most_rows < 100 or not (self.pair_z > 0 and self.least_z > 0 and 0 <= self.most_tight < 1):
            raise InputError(
                f"pair_z {self.pair_z}, least_z {self.least_z}, most_tight {self.most_tight}, least_rows {self.least_rows}, "
                f"most_rows {self.most_rows}: allowed are z above 0, a share below 1, least_rows from 2 and most_rows from 100"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ValueShift:
        """The settings called ``name`` (see `PRESETS`), with ``changes``. Raises `InputError` for an unknown one."""
        return preset_of(PRESETS, name, changes)

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Scores (the highest z of a stamp that a row carries, 0 without one) and flags of the table ``train``."""
        began = time.monotonic()
        n, names = len(train), train.classes
        kinds = np.full(n, -1, np.int8) if canaries is None else canaries
        real = kinds < 0
        scores, control = np.zeros(n, np.float32), np.zeros(len(reserve), np.float32)
        z, p, said = np.zeros(len(names)), np.ones(len(names)), {}
        tick = Ticker(runtime, "counting values", len(names))
        for k, name in enumerate(names):
            mine, clean = np.flatnonzero((train.labels == k) & real), np.flatnonzero(reserve.labels == k)
            found = self._stamps(train, mine, reserve, clean)
            if found:
                z[k], p[k] = found[0].z, _chance(found[0].z)
                said[name] = [_said(stamp, train) for stamp in found]
                scores[mine] = carried(found, train, mine)
                control[clean] = carried(found, reserve, clean)
            for kind in np.unique(kinds[(train.labels == k) & ~real]):  # found were its kind the only attack
                planted = np.flatnonzero((train.labels == k) & (kinds == kind))
                scores[planted] = carried(self._stamps(train, np.concatenate([mine, planted]), reserve, clean), train, planted)
            tick()
        flagged = scores > 0
        named = np.bincount(train.labels[flagged & real], minlength=len(names)) > 0
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores,
            flagged=flagged,
            classes=class_evidence(names, train.labels[real], flagged[real], z, p, named),
            confidence=1 - float(p[named].min()) if named.any() else 0.5,  # silence says little: not all triggers are stamps
            control=control,
            evidence={"settings": asdict(self), "stamps": said},
            timings={"total": now - began},
        )

    def _stamps(self, train: Dataset, mine: np.ndarray, reserve: Dataset, clean: np.ndarray) -> list[Stamp]:
        """Of the class whose inspected rows are ``mine`` (n,) and whose reserve rows are ``clean`` (m,)."""
        if not len(mine) or not len(clean):
            return []
        some = mine if len(mine) <= self.most_rows else mine[np.linspace(0, len(mine) - 1, self.most_rows).astype(np.int64)]
        inspected, known = train.inputs[some], reserve.inputs[clean]
        pairs = shifted(inspected, known, self.pair_z)
        return stamps(inspected, known, pairs, self.least_z, self.most_tight, self.least_rows)


def carried(found: list[Stamp], data: Dataset, rows: np.ndarray) -> np.ndarray:
    """(B,) float32: the highest z of a stamp of ``found`` that each of these ``rows`` (B,) carries, else 0."""
    out = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows) if found else 0, _CHUNK):
        part = slice(start, start + _CHUNK)
        values = data.inputs[rows[part]]
        for stamp in found:
            out[part] = np.maximum(out[part], np.where(stamp.holds(values), stamp.z, 0))
    return out


def _chance(z: float) -> float:
    """Of rows this much too frequent, were these the only ones looked at."""
    from scipy.stats import norm

    return float(norm.sf(z))


def _said(stamp: Stamp, train: Dataset) -> dict[str, Any]:
    """A stamp as a report can hold it."""
    names = [f"column {k}" for k in range(train.inputs.shape[1])] if train.columns is None else [c.name for c in train.columns]
    pairs = stamp.pairs
    each = zip(pairs.column.tolist(), pairs.value.tolist(), pairs.count.tolist(), pairs.clean.tolist(), strict=True)
    return {
        "rows": stamp.rows,
        "reserve": stamp.clean,
        "z": round(stamp.z, 2),
        "tight": round(stamp.tight, 3),
        "pairs": [{"column": names[k], "value": None if np.isnan(v) else v, "rows": a, "reserve": b} for k, v, a, b in list(each)[:_SHOWN]],
    }


_CHUNK = 20_000
PRESETS: dict[str, ValueShift] = {
    "fast": ValueShift(),
    "thorough": ValueShift(preset_name="thorough", most_rows=200_000),
    # There is no published one: the same with every row counted.
    "paper": ValueShift(preset_name="paper", most_rows=10**9),
}
"""Preset name -> settings."""
