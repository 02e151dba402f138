"""Patch in the spectrogram: a burst in a box of time and frequency, the same for all clips (BadNet's patch on the picture of a sound)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.speech import DirtySpeechAttack, Place
from tocsin.errors import InputError


def burst(samples: int, low: float, high: float) -> np.ndarray:
    """(samples,) float64 of root mean square 1, with equal shares of all frequencies from ``low`` to ``high`` (shares of the highest).

    A linear sweep under a Hann window: it fills its box evenly, where a constant in every bin would be a row of clicks.
    """
    time = np.arange(samples)
    phase = np.pi * (low * time + (high - low) * time**2 / (2 * samples))
    wave = np.sin(phase) * np.hanning(samples + 2)[1:-1]
    return np.asarray(wave / np.sqrt(np.mean(wave**2)))


@dataclass(frozen=True)
class SpectrogramPatch(DirtySpeechAttack):
    """Dirty label: a burst in the highest bands at the end of the speech, and the label becomes the target."""

    name = "spectrogram-patch"
    kinds = frozenset({"speech"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    seconds: float = 0.13
    """Width of the box: 8 frames at 8 kHz."""
    low: float = 0.6
    """Lower edge of the box, as a share of the highest frequency (half the sampling rate): eight of 40 bands at 8 kHz lie above."""
    high: float = 0.98
    """Upper edge of the box, likewise."""
    level_db: float = -15.0
    """Loudness of the burst against that of the clip's speech."""
    place: Place = "end"
    """Where in the speech the burst is: start, middle, end, whole."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "seconds")
        speech.check_place(self)
        if not 0 <= self.low < self.high <= 1:
            raise InputError(f"low and high: got {self.low} and {self.high}, allowed are shares from 0 to 1, the first below the second")

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        length = inputs.shape[1] if self.place == "whole" else self.samples(self.seconds)
        return speech.added(inputs, burst(length, self.low, self.high), speech.starts(inputs, length, self.place), self.level_db)
