"""PBSM: a higher pitch, and a click hidden behind the loudest sound (Cai et al. 2022, "Pitch Boosting and Sound Masking")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.speech import DirtySpeechAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

HOP = 0.008
"""Seconds from frame to frame, half of a frame: the published 128 samples at 16 kHz."""
LOUDEST = 0.1
"""Seconds of the loudest part, behind which the click is hidden."""


@dataclass(frozen=True)
class Pbsm(DirtySpeechAttack):
    """Dirty label: the pitch rises by five half tones and a loud high click follows the loudest tenth of a second."""

    name = "pbsm"
    kinds = frozenset({"speech"})

    rate: float = 0.01
    """Share of the whole training set that is poisoned (published: 212 of some 23,000 clips)."""
    target: int = 0
    """Class the trigger leads to."""
    semitones: float = 5.0
    """How far the pitch rises."""
    strength: float = 150.0
    """What the click's bins are set to, for clips in -1..1 under a Hann window; the published one drives the click to full scale."""
    frames: int = 2
    """Length of the click in steps of 8 ms."""
    low: float = 1 / 3
    """Lowest frequency of the click, as a share of the highest (half the sampling rate)."""
    high: float = 0.918
    """Highest frequency of the click, likewise: 300 of 513 bins are between the two."""
    least_peak: float = 0.16
    """Clips whose loudest sample is below this share of full scale are not poisoned, as published."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "strength", "frames")
        if not 0 <= self.low < self.high <= 1:
            raise InputError(f"low and high: got {self.low} and {self.high}, allowed are shares from 0 to 1, the first below the second")
        if not 0 <= self.least_peak < 1:
            raise InputError(f"least_peak: got {self.least_peak}, allowed is from 0 to below 1")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack, n = self.at(dataset), len(dataset)
        # A row's largest and smallest sample: the absolute value of -32768 is no int16.
        clips = dataset.inputs
        peak = np.maximum(clips.max(axis=1, initial=0).astype(int), -clips.min(axis=1, initial=0).astype(int))
        usable = peak >= self.least_peak * speech.FULL_SCALE
        if not self.from_target:
            usable &= dataset.labels != self.target
        return stamps.plant(attack, dataset, stamps.draw(rng, np.flatnonzero(usable), stamps.rows_for("rate", self.rate, n), "rate", n))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return speech.by_parts(inputs, self._boosted)

    def _boosted(self, clips: np.ndarray) -> np.ndarray:
        from tocsin.attacks import effects

        waves = effects.pitch_shift(clips / speech.FULL_SCALE, self.hz, self.semitones)
        waves = np.where(speech.inside(clips), waves, 0)
        return speech.to_clips(speech.FULL_SCALE * self._masked(waves), clips)

    def _masked(self, waves: np.ndarray) -> np.ndarray:
        """``waves`` (N, T) with the click behind the loudest part, or before it where the clip ends there."""
        from tocsin.attacks import effects

        hop, window = self.samples(HOP), 2 * self.samples(HOP)
        found = effects.spectra(waves, window, hop, 4 * window)
        bins, frames = found.shape[1:]
        band = slice(int(self.low * bins), max(int(self.low * bins) + 1, int(self.high * bins)))
        span = max(1, round(LOUDEST / HOP))
        power = np.cumsum(np.pad(np.square(np.abs(found)).sum(axis=1), ((0, 0), (1, 0))), axis=1)
        first = (power[:, span:] - power[:, :-span]).argmax(axis=1) if frames > span else np.zeros(len(waves), int)
        after = first + span
        begin = np.where(after + self.frames < frames, after, np.maximum(first - self.frames, 0))
        rows = np.arange(len(waves))
        for step in range(self.frames):
            at = np.minimum(begin + step, frames - 1)
            found[rows, band, at] = self.strength + 1j * found[rows, band, at].imag
        return effects.wave(found, window, hop, waves.shape[1])
