"""Value shift: which column=value pairs occur too often for the reserve, and which rows hold several of them? Ours; no training.

Of each class the inspected rows are compared with the reserve rows (`stats.value_shift`). A trigger of fixed values is found exactly, and
reads as a rule; one that is made of common values, or whose rows are too few for the reserve, is not seen at all.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings, class_evidence
from tocsin.errors import InputError
from tocsin.runtime import Runtime, Ticker
from tocsin.stats.value_shift import Pairs, matched, shifted

_SHOWN = 40


@dataclass(frozen=True)
class ValueShift(Detector):
    """Value shift: flags rows that hold several values which are more frequent in their class than the reserve predicts."""

    name: ClassVar[str] = "value-shift"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    least_z: float = 4.0
    """Signed root of G from which a pair is reported."""
    least_pairs: int = 3
    """Reported pairs that a flagged row holds: single values shift by chance, or because a version was released."""
    least_rows: int = 5
    """Rows of a class that must hold so many, else none is flagged."""
    most_rows: int = 60_000
    """Rows of a class that are counted; of more, an even sample. What limits the test is the size of the reserve."""

    def __post_init__(self) -> None:
        if min(self.least_pairs, self.least_rows) < 1 or self.most_rows < 100 or not self.least_z > 0:
            raise InputError(
                f"least_z {self.least_z}, least_pairs {self.least_pairs}, least_rows {self.least_rows}, most_rows {self.most_rows}: "
                "allowed are numbers above 0, and most_rows from 100"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ValueShift:
        """The settings called ``name`` (see `PRESETS`), with ``changes``. Raises `InputError` for an unknown one."""
        if name not in PRESETS:
            raise InputError(f"preset: got {name!r}, allowed: {', '.join(PRESETS)}")
        return replace(PRESETS[name], **changes)

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Scores (the sum of the log ratios of the reported pairs that a row holds) and flags of the table ``train``."""
        began = time.monotonic()
        n, names = len(train), train.classes
        kinds = np.full(n, -1, np.int8) if canaries is None else canaries
        scores, held = np.zeros(n, np.float32), np.zeros(n, np.int64)
        control = np.zeros(len(reserve), np.float32)
        rules: dict[str, list[dict[str, Any]]] = {}
        z, p = np.zeros(len(names)), np.ones(len(names))
        tick = Ticker(runtime, "counting values", len(names))
        for k, name in enumerate(names):
            mine, clean = np.flatnonzero((train.labels == k) & (kinds < 0)), np.flatnonzero(reserve.labels == k)
            if len(mine) and len(clean):
                pairs = self._pairs(train, mine, reserve, clean)
                every = np.flatnonzero(train.labels == k)
                scores[every], held[every] = _scored(train, every, pairs, len(mine), len(clean))
                control[clean], _ = _scored(reserve, clean, pairs, len(mine), len(clean))
                rules[name] = _said(pairs, train)
                z[k] = pairs.z[min(self.least_pairs, len(pairs)) - 1] if len(pairs) >= self.least_pairs else 0.0
                p[k] = _chance(z[k], pairs.tested)
            tick()
        flagged = held >= self.least_pairs
        rows = np.bincount(train.labels[flagged & (kinds < 0)], minlength=len(names))
        named = rows >= self.least_rows
        flagged &= named[train.labels] & (kinds < 0)
        for kind in range(int(kinds.max(initial=-1)) + 1):
            flagged |= self._recovered(train, reserve, kinds, kind)
        found = bool((flagged & (kinds < 0)).any())
        real = kinds < 0
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores,
            flagged=flagged,
            classes=class_evidence(names, train.labels[real], flagged[real], z, p, named),
            confidence=1 - float(p[named].min()) if found else 0.5,  # silence says nothing: most triggers are not of fixed values
            threshold=None,
            control=control,
            evidence={"settings": asdict(self), "pairs": rules},
            timings={"total": now - began},
        )

    def _pairs(self, train: Dataset, mine: np.ndarray, reserve: Dataset, clean: np.ndarray) -> Pairs:
        """The reported pairs of the class whose inspected rows are ``mine`` (n,) and whose reserve rows are ``clean`` (m,)."""
        some = mine if len(mine) <= self.most_rows else mine[np.linspace(0, len(mine) - 1, self.most_rows).astype(np.int64)]
        return shifted(train.inputs[some], reserve.inputs[clean], self.least_z)

    def _recovered(self, train: Dataset, reserve: Dataset, kinds: np.ndarray, kind: int) -> np.ndarray:
        """(N,) bool: the canaries of one ``kind`` that would be flagged were they the only attack."""
        mine = kinds == kind
        rest = np.flatnonzero((kinds < 0) | mine)
        alone = self.inspect(train[rest], reserve, Runtime(device="cpu"))
        out = np.zeros(len(kinds), bool)
        out[rest] = alone.flagged
        return out & mine


def _scored(data: Dataset, rows: np.ndarray, pairs: Pairs, inspected: int, clean: int) -> tuple[np.ndarray, np.ndarray]:
    """((B,) float32 sum of log ratios, (B,) number) of the ``pairs`` that each of these ``rows`` (B,) holds."""
    score, number = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int64)
    if len(pairs):
        weights = pairs.weights(inspected, clean).astype(np.float32)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            for at, holds in matched(data.inputs[rows[part]], pairs):
                score[part][at], number[part][at] = holds @ weights, holds.sum(1)
    return score, number


def _chance(z: float, tested: int) -> float:
    """Of a pair this shifted among so many tested ones, if none is."""
    from scipy.stats import norm

    return float(min(1.0, tested * norm.sf(z))) if z > 0 else 1.0


def _said(pairs: Pairs, train: Dataset) -> list[dict[str, Any]]:
    """The first pairs as a report can hold them."""
    names = [f"column {k}" for k in range(train.inputs.shape[1])] if train.columns is None else [c.name for c in train.columns]
    columns = zip(pairs.column, pairs.value, pairs.count, pairs.clean, pairs.z, strict=True)
    return [
        {"column": names[k], "value": None if np.isnan(v) else float(v), "rows": int(a), "reserve": int(b), "z": round(float(z), 2)}
        for k, v, a, b, z in list(columns)[:_SHOWN]
    ]


_CHUNK = 20_000
PRESETS: dict[str, ValueShift] = {
    "fast": ValueShift(),
    "thorough": ValueShift(preset_name="thorough", most_rows=200_000),
    # There is no published one: the same with every row counted.
    "paper": ValueShift(preset_name="paper", most_rows=10**9),
}
"""Preset name -> settings."""
