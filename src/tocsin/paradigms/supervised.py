"""Supervised learning: all weights are trained from scratch on the labelled data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tocsin.paradigms.base import Paradigm

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.victim import Victim
    from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Supervised(Paradigm):
    """supervised: an ordinary network, trained from its first weights on the labelled data."""

    name: ClassVar[str] = "supervised"
    from_scratch: ClassVar[bool] = True

    def victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        from tocsin.detectors.victim import Victim

        return Victim.trained(train, reserve, runtime)
