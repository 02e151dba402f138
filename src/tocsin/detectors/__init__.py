"""The detectors, one file each. To add one: its file and a line in `_DETECTORS`."""

from __future__ import annotations

from tocsin.detectors.ac import ActivationClustering
from tocsin.detectors.asset import Asset
from tocsin.detectors.audio_stego import AudioStego
from tocsin.detectors.base import ClassEvidence, Detector, Findings
from tocsin.detectors.beatrix import Beatrix
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.frequency import Frequency
from tocsin.detectors.scan import Scan
from tocsin.detectors.sentinet import SentiNet
from tocsin.detectors.spectre import Spectre
from tocsin.detectors.ss import SpectralSignatures
from tocsin.detectors.strip import Strip

_DETECTORS: tuple[type[Detector], ...] = (
    ConfusionTraining,
    Asset,
    SpectralSignatures,
    ActivationClustering,
    Scan,
    Spectre,
    Beatrix,
    Strip,
    SentiNet,
    Frequency,
    AudioStego,
)

DETECTORS: dict[str, type[Detector]] = {cls.name: cls for cls in _DETECTORS}
"""Name -> class."""

__all__ = [
    "DETECTORS",
    "ActivationClustering",
    "Asset",
    "AudioStego",
    "Beatrix",
    "ClassEvidence",
    "ConfusionTraining",
    "Detector",
    "Findings",
    "Frequency",
    "Scan",
    "SentiNet",
    "SpectralSignatures",
    "Spectre",
    "Strip",
]
