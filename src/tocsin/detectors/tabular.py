"""Tabular: three auditors of tables and one verdict. What one of them does not learn it cannot find, and they fail in different places.

Confusion Training with a network (`ct`), with trees (`boosting`), and counting (`value_shift`). A class is named if any of them names it
at its share of the error; rows that are flagged by any of these are flagged. What they have in common is then a rule, and rows that
obey it are flagged too: of a backdoor that is nearly removed the rest is enough (docs/tables-detection.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings, class_evidence
from tocsin.detectors.boosting import Boosting
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.value_shift import ValueShift
from tocsin.errors import InputError
from tocsin.runtime import Runtime

_MEMBERS: dict[str, type[Detector]] = {cls.name: cls for cls in (ConfusionTraining, Boosting, ValueShift)}


@dataclass(frozen=True)
class Tabular(Detector):
    """Tabular: Confusion Training with a network and with trees, and value counts, merged into one verdict for tables."""

    name: ClassVar[str] = "tabular"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    members: tuple[str, ...] = tuple(_MEMBERS)
    """Which of ct, boosting, value-shift are asked."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set; the members that test have equal parts of it."""
    finish: bool = True
    """Rows of a named class that obey the rule which the flagged rows share are flagged too."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.members if name not in _MEMBERS]
        if wrong or not self.members or len(set(self.members)) < len(self.members):
            raise InputError(f"members: got {', '.join(self.members) or 'none'}; allowed are different ones of {', '.join(_MEMBERS)}")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha: got {self.alpha}, allowed is a number between 0 and 1")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Tabular:
        """fast, thorough or paper, of each member, with ``changes``. Raises `InputError` for an unknown one."""
        if name not in ("fast", "thorough", "paper"):
            raise InputError(f"preset: got {name!r}, allowed: fast, thorough, paper")
        return cls(**{"preset_name": name, **changes})

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Scores (the best rank that any member gives a row), flags and class evidence for the table ``train``. Raises `InputError`."""
        return self.merged(
            [member.inspect(train, reserve, runtime, canaries=canaries) for member in self.built()], train, reserve, canaries
        )

    def merged(self, found: Sequence[Findings], train: Dataset, reserve: Dataset, canaries: np.ndarray | None = None) -> Findings:
        """One verdict from what the members ``found`` in ``train``."""
        from tocsin.detectors.rules import finished

        heard = time.monotonic()
        kinds = np.full(len(train), -1, np.int8) if canaries is None else canaries
        real = kinds < 0
        flagged = self._flags(found, train, reserve, real)
        rules: dict[str, Any] = {}
        if self.finish:
            for k, name in enumerate(train.classes):
                mine = np.flatnonzero((train.labels == k) & real)
                clean = reserve.inputs[reserve.labels == k]
                more, said = finished(train, mine, flagged[mine], clean)
                flagged[mine] |= more
                if said:
                    rules[name] = said
        scores, control = best_rank([(one.scores, one.control) for one in found])
        p = np.minimum(1.0, np.min([[c.p_value for c in one.classes] for one in found], axis=0) * len(found))
        named = np.any([[c.suspect for c in one.classes] for one in found], axis=0)
        loud = [one for one in found if one.flagged[real].any()]
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores,
            flagged=flagged,
            classes=class_evidence(train.classes, train.labels[real], flagged[real], -np.log10(np.maximum(p, 1e-300)), p, named),
            confidence=max(one.confidence for one in loud) if loud else min(one.confidence for one in found),
            threshold=None,
            control=control,
            evidence={
                "settings": asdict(self),
                "members": {
                    one.detector: {"flagged": int(one.flagged[real].sum()), "p": [c.p_value for c in one.classes], **dict(one.evidence)}
                    for one in found
                },
                "rules": rules,
            },
            timings={
                **{one.detector: one.timings["total"] for one in found},
                "merging": now - heard,
                "total": sum(one.timings["total"] for one in found) + now - heard,
            },
        )

    def _flags(self, found: Sequence[Findings], train: Dataset, reserve: Dataset, real: np.ndarray) -> np.ndarray:
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

    def built(self) -> list[Detector]:
        """The members, with equal parts of alpha for those that have one."""
        made = [_MEMBERS[name].preset_for("table", self.preset_name) for name in self.members]
        return [replace(one, alpha=self.alpha / len(made)) if hasattr(one, "alpha") else one for one in made]  # type: ignore[type-var]


def best_rank(views: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """((N,), (M,)) float32: -log10 of the best share of inspected rows that score as high, over the ``views`` (scores, control).

    Rows that share a score share its mean place, so that a view which knows nothing of most rows says nothing of them. A control row is
    placed as if it had been inspected.
    """
    best, aside = np.zeros(len(views[0][0])), np.full(min(len(control) for _, control in views), 0.0)
    for scores, control in views:
        ordered = np.sort(scores)
        for values, out in ((scores, best), (control[: len(aside)], aside)):
            above = len(ordered) - np.searchsorted(ordered, values, side="right")
            alike = np.searchsorted(ordered, values, side="right") - np.searchsorted(ordered, values, side="left")
            np.maximum(out, -np.log10((above + (alike + 1) / 2) / (len(ordered) + 1)), out=out)
    return best.astype(np.float32), aside.astype(np.float32)
