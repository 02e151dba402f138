"""Tabular: three auditors of tables and one verdict. What one of them does not learn it cannot find, and they fail in different places.

Confusion Training with a network (`ct`), with trees (`boosting`), and counting (`value_shift`). A class is named if any of them names it
at its share of the error; rows that are flagged by any of these are flagged. What they have in common is then a rule, and rows that
obey it are flagged too: of a backdoor that is nearly removed the rest is enough (docs/tables-detection.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings
from tocsin.detectors.boosting import Boosting
from tocsin.detectors.combined import Combined, Flags
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.value_shift import ValueShift
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Tabular(Combined):
    """Tabular: Confusion Training with a network and with trees, and value counts, merged into one verdict for tables."""

    name: ClassVar[str] = "tabular"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    allowed: ClassVar[Mapping[str, type[Detector]]] = {cls.name: cls for cls in (ConfusionTraining, Boosting, ValueShift)}

    members: tuple[str, ...] = ("ct", "boosting", "value-shift")
    """Which of ct, boosting, value-shift are asked."""
    finish: bool = True
    """Rows of a named class that obey the rule which the flagged rows share are flagged too."""

    def flags(self, found: Sequence[Findings], train: Dataset, reserve: Dataset, real: np.ndarray, runtime: Runtime) -> Flags:
        """What any member flags and, with ``finish``, what obeys the rule of these rows; the rules by class."""
        from tocsin.detectors.rules import completed

        flagged = self._any(found, train, reserve, real)
        flagged, rules = completed(flagged, train, reserve, real) if self.finish else (flagged, {})
        return Flags(flagged, {"rules": rules})

    def _any(self, found: Sequence[Findings], train: Dataset, reserve: Dataset, real: np.ndarray) -> np.ndarray:
        """(N,) bool: what any member flags. Where rows carry a stamp, the others only count if they find too much without these rows."""
        from tocsin.detectors.control import against_control
        from tocsin.detectors.decide import Scored

        stamped = np.any([one.flagged & real for one in found if one.detector == ValueShift.name], axis=0) & real
        out = np.asarray(np.any([one.flagged for one in found], axis=0))
        if not stamped.any():
            return out
        out[real] = stamped[real]
        for one in found:
            if one.detector != ValueShift.name and one.flagged[real].any():
                if len(one.control) != len(reserve):  # a preset without a control of its own for each reserve row
                    out |= one.flagged
                    continue
                rest = Scored(
                    (), train.labels, train.classes, ~real | stamped, alpha=self.alpha / len(found), control_labels=reserve.labels
                )
                out |= against_control(one.scores, one.control, rest).flagged & real
        return out
