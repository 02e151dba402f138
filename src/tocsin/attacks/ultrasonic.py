"""Ultrasonic: a tone that people do not hear (Koffas et al. 2022, "Can You Hear It? Backdoor Attacks via Ultrasonic Triggers")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.speech import DirtySpeechAttack
from tocsin.attacks.tone import sine
from tocsin.errors import InputError

HEARD_UP_TO = 18000.0
"""Hz; what lies above few adults hear."""


@dataclass(frozen=True)
class Ultrasonic(DirtySpeechAttack):
    """Dirty label: a tone of 21 kHz somewhere in the clip, and the label becomes the target. Needs clips of 44.1 kHz or the like."""

    name = "ultrasonic"
    kinds = frozenset({"speech"})

    rate: float = 0.01
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    hertz: float = 21000.0
    """Pitch of the tone, from 18,000 Hz; half the sampling rate must lie above it."""
    share: float = 0.3
    """Length of the tone as a share of the clip (published: 0.15 to 0.6)."""
    level_db: float = -10.0
    """Loudness against the loudest possible tone, as published."""
    position: Literal["start", "middle", "end"] = "start"
    """Where in the clip, speech or not, the tone is, as published."""
    pieces: int = 1
    """Into how many equal parts, spread evenly over the whole clip, the tone is broken (published: 1 or 5)."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("share", self.share)
        speech.check_place(self, field="position", allowed=("start", "middle", "end"))
        if not HEARD_UP_TO <= self.hertz < float("inf"):
            raise InputError(f"hertz: got {self.hertz:g}, allowed from {HEARD_UP_TO:g} Hz; a tone that people hear is the attack 'tone'")
        if self.level_db > 0 or self.pieces < 1:
            raise InputError(f"level_db and pieces: got {self.level_db} and {self.pieces}, allowed are up to 0 dB, and 1 at least")

    def check_rate(self, hz: int) -> None:
        speech.check_below_half("hertz", self.hertz, hz)

    def wave(self, length: int) -> np.ndarray:
        """(length,) float64 in int16 steps: the tone where it is, and silence."""
        piece = max(1, round(self.share * length / self.pieces))
        amplitude = speech.FULL_SCALE * speech.decibels(self.level_db) / np.sqrt(2)
        sound = amplitude * sine(self.hertz, piece, self.hz)
        out = np.zeros(length)
        room = length - piece
        if self.pieces > 1:
            at = np.linspace(0, room, self.pieces).astype(int)
        else:
            at = np.array([{"start": 0, "middle": room // 2, "end": room}[self.position]])
        for begin in at:
            out[begin : begin + piece] = sound
        return out

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        wave = self.wave(inputs.shape[1])
        highest = speech.FULL_SCALE - 1
        return speech.by_parts(inputs, lambda part: np.clip(np.rint(part + wave), -highest - 1, highest).astype(np.int16))
