"""Proactive: Confusion Training and ASSET, one verdict on labelled pictures. What both have in common: the defender takes part in training.

They rest on opposite premises. CT makes a network forget what pictures mean and looks for what keeps its label; ASSET holds a network
still on clean samples and looks for what can be driven away. ASSET takes no canaries, so these speak of CT alone. Parts of the error and
measurements: docs/asset.md, "Together with Confusion Training".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tocsin.detectors.asset import Asset
from tocsin.detectors.base import Detector
from tocsin.detectors.combined import Combined
from tocsin.detectors.ct import ConfusionTraining


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
