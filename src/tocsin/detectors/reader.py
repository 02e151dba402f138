"""What detectors share that read a `Victim`: the passive ones, and those whose scouts look at its features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self

    from tocsin.detectors.victim import Victim


@dataclass(frozen=True)
class VictimReader(Detector):
    """Base of the methods that read a `Victim`: a frozen dataclass whose fields are the hyper-parameters, with a sentence each.

    They carry no canaries: samples planted for a positive control would move the statistics they rest on.
    """

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech", "table"})
    takes_canaries: ClassVar[bool] = False
    paper: ClassVar[Mapping[str, Any]] = {}
    """The fields that ``preset="paper"`` changes, beside those of the family."""

    @property
    def asks_network(self) -> bool:
        """Whether the victim's network has to be trained; some look at the pictures alone."""
        return True

    @property
    def own_network(self) -> bool:
        """Whether the settings name the victim's network or its passes: that one is then trained for this detector, where samples are
        labelled and networks trained from scratch, and the one that others share is not read."""
        return False

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """fast (the defaults) or paper (the published rule and values, less any oracle), with ``changes``. Raises `InputError`."""
        if name not in ("fast", "paper"):
            raise InputError(f"preset: got {name!r}, {cls.name} has fast, paper")
        given = {"preset_name": "paper", **cls.paper_fields()} if name == "paper" else {}
        return cls(**{**given, **changes})

    @classmethod
    def paper_fields(cls) -> dict[str, Any]:
        """What ``preset="paper"`` changes."""
        return dict(cls.paper)

    def inspect(
        self,
        train: Dataset,
        reserve: Dataset,
        runtime: Runtime,
        *,
        canaries: np.ndarray | None = None,
        victim: Victim | None = None,
    ) -> Findings:
        """Scores and flags; ``victim`` (of this ``train`` and ``reserve``) saves training one. Raises `InputError`."""
        if canaries is not None and (canaries >= 0).any():
            raise InputError(f"canaries: {self.name} cannot take them")
        if victim is None:
            victim = self.own_victim(train, reserve, runtime)
        return self.judge(victim)

    def own_victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        """The victim that is read where none is given."""
        from tocsin.detectors.victim import Victim

        return (Victim.trained if self.asks_network else Victim.untrained)(train, reserve, runtime)

    @abstractmethod
    def judge(self, victim: Victim) -> Findings:
        """The method itself. ``Findings.control`` holds the scores of ``victim.reserve`` as if its samples had been inspected."""
