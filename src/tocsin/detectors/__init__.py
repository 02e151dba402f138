"""The detectors, one file each. To add one: its file and a line in `DETECTORS`."""

from __future__ import annotations

from tocsin.detectors.base import ClassEvidence, Detector, Findings
from tocsin.detectors.ct import ConfusionTraining

DETECTORS: dict[str, type[Detector]] = {cls.name: cls for cls in (ConfusionTraining,)}
"""Name -> class."""

__all__ = ["DETECTORS", "ClassEvidence", "ConfusionTraining", "Detector", "Findings"]
