"""Proactive: Confusion Training and ASSET, one verdict on labelled pictures. What both have in common: the defender takes part in training.

They rest on opposite premises. CT makes a network forget what pictures mean and looks for what keeps its label; ASSET holds a network
still on clean samples and looks for what can be driven away. Parts of the error and measurements: docs/asset.md, "Together with Confusion
Training".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.asset import Asset
from tocsin.detectors.base import Detector, Findings
from tocsin.detectors.combined import Combined
from tocsin.detectors.ct import ConfusionTraining
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Proactive(Combined):
    """Proactive: Confusion Training and ASSET, merged into one verdict for pictures."""

    name: ClassVar[str] = "proactive"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    allowed: ClassVar[Mapping[str, type[Detector]]] = {cls.name: cls for cls in (ConfusionTraining, Asset)}
    weights: ClassVar[Mapping[str, float]] = {ConfusionTraining.name: 9.0}
    not_defined: ClassVar[Mapping[str, str]] = {
        "self-supervised": "Confusion Training reads the samples' labels, and there are none; ask asset",
        "transfer": "ASSET reads the tuned network there; ask ct and asset side by side: --detectors asset,ct",
    }

    members: tuple[str, ...] = ("ct", "asset")
    """Which of ct, asset are asked."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set; ct has nine tenths of it, since what ASSET sees at all it sees far above
    its limit."""

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """As `Combined.inspect`. ASSET cannot tell canaries from the person's rows, so it is given these alone and recovers none."""
        real = np.ones(len(train), bool) if canaries is None else canaries < 0
        found = [
            member.inspect(train, reserve, runtime, canaries=canaries)
            if member.takes_canaries
            else _spread(member.inspect(train[np.flatnonzero(real)], reserve, runtime), real)
            for member in self.built()
        ]
        return self.merged(found, train, reserve, canaries)


def _spread(found: Findings, real: np.ndarray) -> Findings:
    """What was ``found`` in the ``real`` (N,) rows alone, for all N: the others have the lowest score and no flag."""
    scores, flagged = np.full(len(real), found.scores.min(initial=0), np.float32), np.zeros(len(real), bool)
    scores[real], flagged[real] = found.scores, found.flagged
    return replace(found, scores=scores, flagged=flagged)
