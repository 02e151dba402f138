"""What every detector takes and gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class ClassEvidence:
    """What the detector holds against one class."""

    index: int
    name: str
    size: int
    """Samples of the class in the inspected set."""
    flagged: int
    """How many of them are flagged."""
    statistic: float
    """The detector's class statistic; higher is more suspicious."""
    p_value: float
    """Probability of a statistic this high were the class clean (1.0 where the method has none)."""
    suspect: bool
    """Named as a target class."""


def class_evidence(
    names: tuple[str, ...],
    labels: np.ndarray,
    flagged: np.ndarray,
    statistic: np.ndarray,
    p_values: np.ndarray,
    suspects: np.ndarray,
) -> tuple[ClassEvidence, ...]:
    """One entry a class. ``labels`` and ``flagged`` (N,) of the samples that count; the others (C,), NaN statistics as 0."""
    sizes, counts = np.bincount(labels, minlength=len(names)), np.bincount(labels[flagged], minlength=len(names))
    columns = zip(names, sizes, counts, np.nan_to_num(statistic, nan=0.0), p_values, suspects, strict=True)
    return tuple(ClassEvidence(k, n, int(s), int(f), float(t), float(p), bool(g)) for k, (n, s, f, t, p, g) in enumerate(columns))


@dataclass(frozen=True)
class Findings:
    """A detector's answer about one data set. Arrays are (N,) over the inspected set, in its order."""

    detector: str
    preset: str
    scores: np.ndarray
    """float32; higher is more suspicious, always."""
    flagged: np.ndarray
    """bool; decided by the method itself, never from a known poison rate. All False: nothing found."""
    classes: tuple[ClassEvidence, ...]
    confidence: float
    """Of the verdict (found / nothing found), 0..1; how it is reckoned is on the method's page in docs/."""
    threshold: float | None = None
    """The score above which a sample of a suspect class is flagged; None where there is no single one."""
    control: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """(M,) scores of known-clean held-out reserve samples on the same scale; may be empty."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able details for the report: one entry a round, and the like."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    oracle: bool = False
    """The method was told something that a person who audits does not know (``oracle=``); its figures are upper bounds."""

    @property
    def found(self) -> bool:
        return bool(self.flagged.any())


class Detector(ABC):
    """Base of the methods: a frozen dataclass whose fields are the hyper-parameters, with a sentence each."""

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    takes_canaries: ClassVar[bool] = True
    """Whether rows planted by the audit can be told apart from the person's (see `inspect`)."""
    by_kind: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Kind of data -> preset's name -> the preset that takes its place for such data."""
    not_defined: ClassVar[Mapping[str, str]] = {"self-supervised": "it reads the samples' labels, and there are none"}
    """Learning setting (`tocsin.paradigms`) -> why the method cannot be used there."""
    by_setting: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    """Learning setting -> preset's name -> the fields that have other values there."""

    @classmethod
    @abstractmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The settings called ``name``, with ``changes`` of single fields. Raises `InputError` for an unknown name."""

    @classmethod
    def preset_for(cls, kind: str, name: str, **changes: Any) -> Self:
        """`preset`, with the values that suit one kind of data where there are such. Raises `InputError` for an unknown name."""
        return cls.preset(cls.by_kind.get(kind, {}).get(name, name), **changes)

    @abstractmethod
    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Score and flag the samples of ``train`` with the help of the clean ``reserve``.

        ``canaries`` (N,) int8 is the kind (0, 1, ...) of each row that the audit itself planted, -1 for the person's rows. Canaries are
        trained on and scored like any other row but take no part in the answer about the person's rows; ``flagged`` says of a
        canary whether it would be flagged were its kind the only attack.
        """


D = TypeVar("D", bound=Detector)


def preset_of(presets: Mapping[str, D], name: str, changes: Mapping[str, Any]) -> D:
    """The detector called ``name`` in ``presets``, with ``changes`` of single fields. Raises `InputError` for an unknown name."""
    if name not in presets:
        raise InputError(f"preset: got {name!r}, allowed: {', '.join(presets)}")
    return replace(presets[name], **changes)  # type: ignore[type-var]


def found_beside(find: Callable[[np.ndarray], Findings], canaries: np.ndarray | None, n: int) -> Findings:
    """What a method finds in the person's rows of ``n`` without any canary, with scores and flags for canaries as well.

    ``find`` is the method on some rows (n,) bool. Each kind of canary is judged beside those of the person's rows that were not
    flagged, as if it were the only attack; ``canaries`` as in `Detector.inspect`.
    """
    kinds = np.full(n, -1, np.int8) if canaries is None else canaries
    real = kinds < 0
    found = find(real)
    scores, flagged, rest = np.zeros(n, np.float32), np.zeros(n, bool), real.copy()
    scores[real], flagged[real], rest[real] = found.scores, found.flagged, ~found.flagged
    for kind in range(int(kinds.max(initial=-1)) + 1):
        mine = kinds == kind
        rows = rest | mine
        beside = find(rows)
        scores[mine], flagged[mine] = beside.scores[mine[rows]], beside.flagged[mine[rows]]
    return replace(found, scores=scores, flagged=flagged)
