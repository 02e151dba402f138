"""Audible: auditors of speech and one verdict. Members and their parts of the error: docs/speech-detection.md.

Audio steganography (`audio_stego`) hears what some clips of a class share, whoever speaks, and labels that do not fit; it reads no network
that was trained on the trigger. Confusion Training (`ct`) asks what a network learns, whatever it is. Each flags some clean clips of a
class that it names, and not the same ones, and ranks the clips of a class well that it is not sure enough of to name: so once a class is
named by either, what both say of a clip is added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.audio_stego import AudioStego, unraised
from tocsin.detectors.base import Detector, Findings
from tocsin.detectors.combined import Combined, Flags
from tocsin.detectors.ct import ConfusionTraining
from tocsin.runtime import Runtime
from tocsin.stats.calibration import surprise


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

    second_hearing: bool = True
    """Whether networks are taught what the flagged clips of a named class have in common, and judge all clips of the class by it."""

    def flags(self, found: Sequence[Findings], train: Dataset, reserve: Dataset, real: np.ndarray, runtime: Runtime) -> Flags:
        """Of a class that any member names: what the first that names it flags, and the clips down to where the surprise of all members,
        added up, is no more than what classes that nobody names show (`decide.cut`), for as many clips as may be clean (`clean_share`).
        Then those that are like these clips and not like the others of the class (`second_hearing`), where that can be learned."""
        from tocsin.detectors.decide import clean_share, cut
        from tocsin.detectors.second_hearing import heard_again

        flagged = super().flags(found, train, reserve, real, runtime).flagged
        named = np.array([[c.suspect for c in one.classes] for one in found])
        guilty = np.flatnonzero(named.any(axis=0)).tolist()
        rest = real & ~np.isin(train.labels, guilty)
        together: dict[str, float] = {}
        if not guilty or not rest.any():
            return Flags(flagged)
        summed = np.sum([surprise(unraised(one), rest) for one in found], axis=0)
        for k in guilty if len(found) > 1 else ():
            mine, first = real & (train.labels == k), found[int(np.argmax(named[:, k]))]
            limit = cut(summed[mine], summed[rest], clean_share(summed[mine], summed[rest]))
            together[train.classes[k]] = limit
            flagged[mine] = first.flagged[mine] | (summed[mine] >= limit)
        if not self.second_hearing:
            return Flags(flagged, {"together": together})
        flagged, order, told = heard_again(train, reserve, real, flagged, guilty, summed, runtime)
        return Flags(flagged, {"together": together, "second hearing": {train.classes[k]: one for k, one in told.items()}}, order)
