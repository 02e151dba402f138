"""What the passive detectors share: they look at an ordinary model after training and take no part in it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self

    from tocsin.detectors.victim import Victim


class PassiveDetector(Detector):
    """Base of the methods that read a `Victim`: a frozen dataclass whose fields are the hyper-parameters, with a sentence each.

    They carry no canaries: samples planted for a positive control would move the per-class statistics they rest on.
    """

    takes_canaries: ClassVar[bool] = False
    presets: ClassVar[tuple[str, ...]] = ("fast", "paper")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """These methods are cheap: every preset is the published procedure, less any oracle. Raises `InputError` for other names."""
        if name not in cls.presets:
            raise InputError(f"preset: got {name!r}, {cls.name} has {', '.join(cls.presets)}")
        return cls(**changes)

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
            raise InputError(f"canaries: {self.name} is a passive detector and cannot take them")
        if victim is None:
            from tocsin.detectors.victim import Victim

            victim = Victim.trained(train, reserve, runtime)
        return self.judge(victim)

    @abstractmethod
    def judge(self, victim: Victim) -> Findings:
        """The method itself. ``Findings.control`` holds the scores of ``victim.reserve`` as if its samples had been inspected."""
