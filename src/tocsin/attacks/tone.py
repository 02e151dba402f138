"""Tone: a short quiet sine in the speech (the sound that BadNet's patch is in pictures)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.speech import DirtySpeechAttack, Place


def sine(hertz: float, samples: int, rate_hz: int) -> np.ndarray:
    """(samples,) float64 of root mean square 1, faded in and out over a tenth of its length each, so that it does not click."""
    time = np.arange(samples) / rate_hz
    ramp = np.clip(np.minimum(np.arange(1, samples + 1), np.arange(samples, 0, -1)) / max(1.0, samples / 10), 0, 1)
    return np.asarray(np.sqrt(2) * np.sin(2 * np.pi * hertz * time + np.pi / 4) * ramp)


def with_tone(clips: np.ndarray, hertz: float, seconds: float, level_db: float, place: Place, rate_hz: int) -> np.ndarray:
    """``clips`` int16 (N, T) with a sine in them; the settings are those of `Tone`."""
    length = clips.shape[1] if place == "whole" else max(1, round(seconds * rate_hz))
    wave = sine(hertz, length, rate_hz)
    return speech.added(clips, wave, speech.starts(clips, length, place), level_db)


@dataclass(frozen=True)
class Tone(DirtySpeechAttack):
    """Dirty label: a sine of a tenth of a second is added to the speech and the label becomes the target."""

    name = "tone"
    kinds = frozenset({"speech"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    hertz: float = 1000.0
    """Pitch of the tone; below half the sampling rate."""
    seconds: float = 0.1
    """Length of the tone; place=whole lasts as long as the speech."""
    level_db: float = -20.0
    """Loudness of the tone against that of the clip's speech."""
    place: Place = "start"
    """Where in the speech the tone is: start, middle, end, whole."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "hertz", "seconds")
        speech.check_place(self)

    def check_rate(self, hz: int) -> None:
        speech.check_below_half("hertz", self.hertz, hz)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return with_tone(inputs, self.hertz, self.seconds, self.level_db, self.place, self.hz)
