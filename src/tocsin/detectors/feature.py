"""What the detectors that read penultimate features share: their input, checked; their two decisions; and how an answer is put together."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np

from tocsin.detectors.base import Findings, class_evidence
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError
from tocsin.stats.blocks import LARGEST, Group, by_class, each_class, unusable

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim
    from tocsin.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True)
class Readings:
    """Features and labels of both sides: (N, F), (N,) of the inspected samples, (M, F), (M,) of the reserve."""

    features: np.ndarray
    labels: np.ndarray
    reserve_features: np.ndarray
    reserve_labels: np.ndarray
    names: tuple[str, ...]
    runtime: Runtime

    @classmethod
    def of(cls, victim: Victim) -> Readings:
        """Raises `InputError` for features that are no finite (N, F) numbers."""
        sides = {"features": (victim.features, len(victim.train)), "reserve features": (victim.reserve_features, len(victim.reserve))}
        for what, (array, count) in sides.items():
            if array.ndim != 2 or len(array) != count or not array.shape[1] or array.dtype.kind != "f":
                raise InputError(
                    f"{what}: got {array.dtype} of shape {array.shape}; allowed are floats of shape ({count}, F), a row for each sample"
                )
            bad = unusable(array)
            if len(bad):
                raise InputError(
                    f"{what}: {len(bad):,} of {count:,} rows hold NaN, infinity or a vector longer than {LARGEST:g} "
                    f"(the first is row {bad[0]}); "
                    "finite numbers are allowed; has the training of the victim diverged?"
                )
        if victim.features.shape[1] != victim.reserve_features.shape[1]:
            raise InputError(
                f"reserve features: got {victim.reserve_features.shape[1]} a sample, the inspected have {victim.features.shape[1]}"
            )
        return cls(
            victim.features, victim.train.labels, victim.reserve_features, victim.reserve.labels, victim.train.classes, victim.runtime
        )

    @property
    def classes(self) -> int:
        return len(self.names)

    def by_class(self, stage: str) -> Iterator[Group]:
        """The classes one after the other, with progress."""
        self.runtime.progress(stage, 0.0)
        for group in by_class(self.features, self.labels, self.reserve_features, self.reserve_labels, self.classes):
            yield group
            self.runtime.progress(stage, (group.index + 1) / self.classes)
        self.runtime.progress(stage, 1.0)

    def each_class(self, stage: str, work: Callable[[Group], T]) -> Iterator[tuple[Group, T]]:
        """``work`` of every class, side by side on the cores, with progress; a group's ``x`` is for ``work`` alone."""
        self.runtime.progress(stage, 0.0)
        sides = (self.features, self.labels, self.reserve_features, self.reserve_labels)
        for group, result in each_class(*sides, self.classes, work):
            yield group, result
            self.runtime.progress(stage, (group.index + 1) / self.classes)
        self.runtime.progress(stage, 1.0)


@dataclass
class Scores:
    """What a method fills in class by class."""

    inspected: np.ndarray
    """(N,) float64; higher is more suspicious."""
    control: np.ndarray
    """(M,) float64, of the reserve, on the same scale."""
    statistic: np.ndarray
    """(C,) float64 of the classes."""

    @classmethod
    def empty(cls, data: Readings) -> Scores:
        return cls(np.zeros(len(data.labels)), np.zeros(len(data.reserve_labels)), np.full(data.classes, np.nan))

    def put(self, group: Group, values: np.ndarray) -> None:
        """``values`` (n + m,) of one class's rows, in the group's order."""
        self.inspected[group.rows], self.control[group.reserve_rows] = values[: group.size], values[group.size :]


@dataclass(frozen=True)
class Answer:
    """What a method decided."""

    scores: Scores
    flagged: np.ndarray
    """(N,) bool."""
    p_values: np.ndarray
    """(C,) as the reserve sees it."""
    suspects: np.ndarray
    """(C,) bool."""
    threshold: float | None = None
    oracle: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureDetector(VictimReader):
    """Base of the methods that look for a group of its own among the features of a class.

    Reserve samples are put among the inspected samples of their class before anything is fitted. So they are treated exactly as clean
    inspected samples are, and may be compared with them.
    """

    not_defined: ClassVar[Mapping[str, str]] = {
        "self-supervised": "it looks for a group of its own among the samples of a class, and without labels there are no classes"
    }

    decision: Literal["reserve", "paper"] = "reserve"
    """reserve (ours): a class is suspect if its reserve samples, too, say that something was added to it; paper: the published rule."""
    alpha: float = 0.05
    """reserve: bound on the chance of finding anything in clean data, as far as the reserve is like them."""

    def __post_init__(self) -> None:
        checked_share("alpha", self.alpha, 1.0)

    @classmethod
    def paper_fields(cls) -> dict[str, Any]:
        return {"decision": "paper", **cls.paper}

    def judge(self, victim: Victim) -> Findings:
        began = time.monotonic()
        data = Readings.of(victim)
        read = time.monotonic()
        answer = self.decide(data, victim)
        done = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=answer.scores.inspected.astype(np.float32),
            flagged=answer.flagged,
            classes=class_evidence(data.names, data.labels, answer.flagged, answer.scores.statistic, answer.p_values, answer.suspects),
            confidence=confidence(answer.p_values, bool(answer.flagged.any())),
            threshold=answer.threshold,
            control=answer.scores.control.astype(np.float32),
            evidence={"settings": asdict(self), **answer.evidence},
            timings={"features": read - began, "statistics": done - read, "total": done - began},
            oracle=answer.oracle,
        )

    @abstractmethod
    def decide(self, data: Readings, victim: Victim) -> Answer:
        """The method itself."""


def confidence(p_values: np.ndarray, found: bool) -> float:
    """One minus the smallest class p-value where something was found; that p-value where nothing was.

    So a finding that the reserve does not support gets little confidence, and so does silence over data that look unlike the
    reserve. It is no probability that the data are clean: what a method cannot see does not lower it.
    """
    p = float(p_values.min(initial=1.0))
    return 1 - p if found else p


def checked_share(name: str, value: float | None, most: float) -> None:
    """Raises `InputError` for an oracle or a budget that is no share."""
    if value is not None and not 0 <= value <= most:
        raise InputError(f"{name}: got {value}; allowed is a share from 0 to {most:g}")
