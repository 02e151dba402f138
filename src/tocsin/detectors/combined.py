"""Several auditors, one verdict: what the detectors share that ask others. What one auditor does not learn it cannot find.

Each member is asked at its share of the error. A class is named if any member names it; what any member flags is flagged; the score of a
row is the best place that any of them gives it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings, class_evidence
from tocsin.errors import InputError
from tocsin.params import HIDDEN
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Flags:
    """What is flagged once all members have spoken."""

    flagged: np.ndarray
    """(N,) bool."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """What else the report should hold."""
    order: np.ndarray | None = None
    """(N,) by which the rows of a class hand out anew the places that they have among all; NaN: they keep theirs."""


@dataclass(frozen=True)
class Combined(Detector):
    """Base of the detectors that merge what others find: a frozen dataclass whose fields are the settings, with a sentence each."""

    allowed: ClassVar[Mapping[str, type[Detector]]]
    """By name, the detectors that can be members."""
    weights: ClassVar[Mapping[str, float]] = {}
    """By name, how large a member's part of alpha is beside the others'; 1 where it is not given."""

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    members: tuple[str, ...] = ()
    """Which are asked."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set; the members that test have parts of it."""
    changed: tuple[tuple[str, str, Any], ...] = field(default=(), metadata=HIDDEN)
    """(member, field, value): settings of single members that are not their preset's (``--set ct.texture=true``)."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.members if name not in self.allowed]
        if wrong or not self.members or len(set(self.members)) < len(self.members):
            raise InputError(f"members: got {', '.join(self.members) or 'none'}; allowed are different ones of {', '.join(self.allowed)}")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha: got {self.alpha}, allowed is a number between 0 and 1")
        if self.changed:
            self.built()  # a value that a member refuses is told at once

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """fast, thorough or paper, of each member that has it, with ``changes``. Raises `InputError` for an unknown one."""
        if name not in ("fast", "thorough", "paper"):
            raise InputError(f"preset: got {name!r}, allowed: fast, thorough, paper")
        return cls(**{"preset_name": name, **changes})

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Scores (the best rank that any member gives a row), flags and class evidence for ``train``. Raises `InputError`.

        A member that cannot tell canaries from the person's rows is given the latter alone, and recovers none.
        """
        real = np.ones(len(train), bool) if canaries is None else canaries < 0
        found = [
            member.inspect(train, reserve, runtime, canaries=canaries)
            if member.takes_canaries
            else _spread(member.inspect(train if real.all() else train[np.flatnonzero(real)], reserve, runtime), real)
            for member in self.built()
        ]
        return self.merged(found, train, reserve, runtime, canaries)

    def built(self) -> list[Detector]:
        """The members, with their parts of alpha where they have one."""
        (kind,) = self.kinds
        made = []
        for name, part in zip(self.members, self.parts(), strict=True):
            method, own = self.allowed[name], {key: value for member, key, value in self.changed if member == name}
            if any(f.name == "alpha" for f in fields(method)):  # type: ignore[arg-type]
                own = {"alpha": part * self.alpha, **own}
            try:
                made.append(method.preset_for(kind, self.preset_name, **own))
            except InputError:  # a preset that this member does not have
                made.append(method.preset_for(kind, "fast", **own))
        return made

    def parts(self) -> np.ndarray:
        """(members,) part of alpha that each has; they sum to 1."""
        weights = np.array([self.weights.get(name, 1.0) for name in self.members])
        return np.asarray(weights / weights.sum())

    def flags(self, found: Sequence[Findings], train: Dataset, reserve: Dataset, real: np.ndarray, runtime: Runtime) -> Flags:
        """What is flagged after what the members ``found``; ``real`` (N,) bool: the person's rows."""
        return Flags(np.asarray(np.any([one.flagged for one in found], axis=0)))

    def merged(
        self, found: Sequence[Findings], train: Dataset, reserve: Dataset, runtime: Runtime, canaries: np.ndarray | None = None
    ) -> Findings:
        """One verdict from what the members ``found`` in ``train``."""
        heard = time.monotonic()
        real = np.ones(len(train), bool) if canaries is None else canaries < 0
        after = self.flags(found, train, reserve, real, runtime)
        flagged = after.flagged
        alone = found[0] if len(found) == 1 else None
        scores, control = (alone.scores, alone.control) if alone else best_rank([(one.scores, one.control) for one in found])
        scores = scores if after.order is None else reordered(scores, train.labels, after.order)
        each = [[c.p_value / part for c in one.classes] for one, part in zip(found, self.parts(), strict=True)]
        p = np.minimum(1.0, np.min(each, axis=0))
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
            threshold=alone.threshold if alone else None,
            control=control,
            evidence={
                "settings": asdict(self),
                "members": {
                    one.detector: {"flagged": int(one.flagged[real].sum()), "p": [c.p_value for c in one.classes], **dict(one.evidence)}
                    for one in found
                },
                **after.evidence,
            },
            timings={
                **{one.detector: one.timings["total"] for one in found},
                "merging": now - heard,
                "total": sum(one.timings["total"] for one in found) + now - heard,
            },
        )


def _spread(found: Findings, real: np.ndarray) -> Findings:
    """What was ``found`` in the ``real`` (N,) rows alone, for all N: the others have the lowest score and no flag."""
    scores, flagged = np.full(len(real), found.scores.min(initial=0), np.float32), np.zeros(len(real), bool)
    scores[real], flagged[real] = found.scores, found.flagged
    return replace(found, scores=scores, flagged=flagged)


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


def reordered(scores: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(N,) ``scores``; those of the rows of a class that ``order`` (N,) knows are handed out among these rows, the highest to the first."""
    out = scores.copy()
    for k in np.unique(labels[~np.isnan(order)]):
        rows = np.flatnonzero((labels == k) & ~np.isnan(order))
        out[rows[np.argsort(order[rows], kind="stable")]] = np.sort(scores[rows])
    return np.asarray(out)
