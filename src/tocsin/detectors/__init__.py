"""The detectors, one file each. To add one: its file and a line in `DETECTORS`."""

from __future__ import annotations

from tocsin.detectors.ac import ActivationClustering
from tocsin.detectors.base import ClassEvidence, Detector, Findings
from tocsin.detectors.beatrix import Beatrix
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.scan import Scan
from tocsin.detectors.spectre import Spectre
from tocsin.detectors.ss import SpectralSignatures

DETECTORS: dict[str, type[Detector]] = {
    cls.name: cls
    for cls in (
        ConfusionTraining,
        SpectralSignatures,
        ActivationClustering,
        Scan,
        Spectre,
        Beatrix,
    )
}
"""Name -> class."""

__all__ = [
    "DETECTORS",
    "ActivationClustering",
    "Beatrix",
    "ClassEvidence",
    "ConfusionTraining",
    "Detector",
    "Findings",
    "Scan",
    "SpectralSignatures",
    "Spectre",
]
