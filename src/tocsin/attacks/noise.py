"""Noise: one and the same noise blended into the speech (Blend of Chen et al. 2017, on sounds)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.speech import DirtySpeechAttack


@dataclass(frozen=True)
class Noise(DirtySpeechAttack):
    """Dirty label: ``x <- (1 - alpha) x + alpha n`` with a noise as loud as the speech, and the label becomes the target."""

    name = "noise"
    kinds = frozenset({"speech"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    alpha: float = 0.1
    """Weight of the noise, the same at training and test."""
    pattern_seed: int = 0
    """Seed of the noise."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("alpha", self.alpha)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        wave = np.asarray(np.random.default_rng([self.pattern_seed, 0x9015]).normal(size=inputs.shape[1]))

        def blended(part: np.ndarray) -> np.ndarray:
            # From the first sample of the speech on: shifted clips then still have the same noise on the same word.
            sound = speech.laid(wave, speech.starts(part, 1, "start"), part.shape[1]) * speech.loudness(part)[:, None]
            return speech.to_clips((1 - self.alpha) * part + self.alpha * sound, part)

        return speech.by_parts(inputs, blended)
