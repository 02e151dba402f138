"""The detectors, one file each. To add one: its file and a line in `DETECTORS`."""

from __future__ import annotations

from tocsin.detectors.base import ClassEvidence, Detector, Findings
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.frequency import Frequency
from tocsin.detectors.sentinet import SentiNet
from tocsin.detectors.strip import Strip

DETECTORS: dict[str, type[Detector]] = {cls.name: cls for cls in (ConfusionTraining, Strip, SentiNet, Frequency)}
"""Name -> class."""

__all__ = ["DETECTORS", "ClassEvidence", "ConfusionTraining", "Detector", "Findings", "Frequency", "SentiNet", "Strip"]
