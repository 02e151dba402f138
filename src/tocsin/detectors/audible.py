"""Audible: auditors of speech and one verdict. Members and their parts of the error: docs/speech-detection.md.

Audio steganography (`audio_stego`) hears what some clips of a class share, whoever speaks, and labels that do not fit; it reads no network
that was trained on the trigger. Confusion Training (`ct`) asks what a network learns, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tocsin.detectors.audio_stego import AudioStego
from tocsin.detectors.base import Detector
from tocsin.detectors.combined import Combined
from tocsin.detectors.ct import ConfusionTraining


@dataclass(frozen=True)
class Audible(Combined):
    """Audible: audio steganography and Confusion Training, merged into one verdict for speech."""

    name: ClassVar[str] = "audible"
    kinds: ClassVar[frozenset[str]] = frozenset({"speech"})
    allowed: ClassVar[Mapping[str, type[Detector]]] = {cls.name: cls for cls in (AudioStego, ConfusionTraining)}
    weights: ClassVar[Mapping[str, float]] = {AudioStego.name: 9.0}

    members: tuple[str, ...] = ("audio-stego", "ct")
    """Which of audio-stego, ct are asked."""
    alpha: float = 0.05
    """Bound on the chance of naming any class of a clean data set; audio-stego has nine tenths of it."""
