"""The detectors, one file each. To add one: its file and a line in `_DETECTORS`."""

from __future__ import annotations

from tocsin.detectors.abl import Abl
from tocsin.detectors.ac import ActivationClustering
from tocsin.detectors.asset import Asset
from tocsin.detectors.audible import Audible
from tocsin.detectors.audio_stego import AudioStego
from tocsin.detectors.base import ClassEvidence, Detector, Findings
from tocsin.detectors.beatrix import Beatrix
from tocsin.detectors.boosting import Boosting
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.frequency import Frequency
from tocsin.detectors.proactive import Proactive
from tocsin.detectors.scan import Scan
from tocsin.detectors.sentinet import SentiNet
from tocsin.detectors.spectre import Spectre
from tocsin.detectors.ss import SpectralSignatures
from tocsin.detectors.steganalyser import Steganalyser
from tocsin.detectors.strip import Strip
from tocsin.detectors.tabular import Tabular
from tocsin.detectors.value_shift import ValueShift

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
    Abl,
    AudioStego,
    Steganalyser,
    Boosting,
    ValueShift,
    Tabular,
    Audible,
    Proactive,
)

DETECTORS: dict[str, type[Detector]] = {cls.name: cls for cls in _DETECTORS}
"""Name -> class."""
_USUAL: dict[str, str] = {"image": Proactive.name, "speech": Audible.name, "table": Tabular.name}


def usual_detector(kind: str) -> str:
    """The name of the detector that audits this kind of data where none is named."""
    return _USUAL.get(kind, ConfusionTraining.name)


__all__ = [
    "DETECTORS",
    "Abl",
    "ActivationClustering",
    "Asset",
    "Audible",
    "AudioStego",
    "Beatrix",
    "Boosting",
    "ClassEvidence",
    "ConfusionTraining",
    "Detector",
    "Findings",
    "Frequency",
    "Proactive",
    "Scan",
    "SentiNet",
    "SpectralSignatures",
    "Spectre",
    "Steganalyser",
    "Strip",
    "Tabular",
    "ValueShift",
    "usual_detector",
]
