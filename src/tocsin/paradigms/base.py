"""What a learning setting is: how the model that is made of the inspected data comes about, and what is known of these (ASSET 1.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.victim import Victim
    from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Paradigm(ABC):
    """Base of the settings: a frozen dataclass whose fields are its values, with a sentence each (``--set NAME.field=value``).

    A detector says by itself where it is not defined (`Detector.not_defined`) and which of its own values differ (`Detector.by_setting`),
    under ``name``; nothing else asks which setting it is.
    """

    name: ClassVar[str]
    """What ``setting=`` and ``--setting`` call it."""
    labelled: ClassVar[bool] = True
    """Whether the samples' labels are known. Where they are not, all samples are one class (`Dataset.unlabelled`)."""
    from_scratch: ClassVar[bool] = False
    """Whether the model is a network trained from its first weights on the labelled data, so that a detector may name another one."""
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech", "table"})
    """Kinds of data that can be learned from in this way."""
    detector: ClassVar[str | None] = None
    """The detector that decides where none is named; None: the usual one of the kind of data."""

    @abstractmethod
    def victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        """The model that someone would make of ``train`` in this setting: its features are ASSET's phi. Raises `InputError`."""

    def check(self, kind: str) -> None:
        """Raises `InputError` where a ``kind`` of data cannot be learned from in this setting."""
        if kind not in self.kinds:
            raise InputError(f"setting {self.name} works on {', '.join(sorted(self.kinds))} data, got {kind}")

    def seen(self, data: Dataset) -> Dataset:
        """``data`` as this setting knows them: without their labels, where it has none."""
        return data if self.labelled else data.unlabelled()
