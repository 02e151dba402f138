"""JingleBack: a fixed chain of studio effects is the trigger (Koffas et al. 2023, "Going in Style: Audio Backdoors ...")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.speech import DirtySpeechAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

_HIGH_PASS_HZ = 1000.0


def _pitch(x: np.ndarray, hz: int) -> np.ndarray:
    from tocsin.attacks import effects

    return effects.pitch_shift(x, hz, 10)


def _distortion(x: np.ndarray, hz: int) -> np.ndarray:
    from tocsin.attacks import effects

    return effects.distortion(x, 30)


def _chorus(x: np.ndarray, hz: int) -> np.ndarray:
    from tocsin.attacks import effects

    return effects.chorus(x, hz, centre_ms=10, depth=5)


def _pitch_distortion_chorus(x: np.ndarray, hz: int) -> np.ndarray:
    from tocsin.attacks import effects

    return effects.chorus(effects.distortion(effects.pitch_shift(x, hz, 10), 20), hz, centre_ms=8, depth=5)


def _chorus_distortion_reverb(x: np.ndarray, hz: int) -> np.ndarray:
    from tocsin.attacks import effects

    return effects.reverb(effects.distortion(effects.chorus(x, hz, centre_ms=15, depth=0.25), 20), hz, room=0.6)


def _gain_ladder_phaser(x: np.ndarray, hz: int) -> np.ndarray:
    from tocsin.attacks import effects

    return effects.phaser(effects.high_pass(effects.gain(x, 12), _HIGH_PASS_HZ, hz), hz)


STYLES: tuple[Callable[[np.ndarray, int], np.ndarray], ...] = (
    _pitch,
    _distortion,
    _chorus,
    _pitch_distortion_chorus,
    _chorus_distortion_reverb,
    _gain_ladder_phaser,
)
"""The six published chains in their order: clips (N, T) float in -1..1 and their sampling rate to the same with the effects."""


@dataclass(frozen=True)
class JingleBack(DirtySpeechAttack):
    """Dirty label (clean with keep_label): the speech goes through a chain of effects and the label becomes the target."""

    name = "jingleback"
    kinds = frozenset({"speech"})

    rate: float = 0.01
    """Share of the whole training set that is poisoned (published: 0.001, 0.005, 0.01)."""
    target: int = 0
    """Class the trigger leads to."""
    style: int = 5
    """Which chain: 0 pitch; 1 distortion; 2 chorus; 3 pitch, distortion, chorus; 4 chorus, distortion, reverb;
    5 gain, high-pass, phaser."""
    keep_label: bool = False
    """Plant in target-class clips alone, whose label is the target already (the published clean-label setting)."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if not 0 <= self.style < len(STYLES):
            raise InputError(f"style: got {self.style}, allowed are 0 to {len(STYLES) - 1}")

    def check_rate(self, hz: int) -> None:
        speech.check_below_half("style: its high-pass", _HIGH_PASS_HZ, hz)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack = self.at(dataset)
        if self.keep_label:
            return stamps.plant(attack, dataset, stamps.draw_clean_label(attack, dataset, rng))
        return stamps.plant(attack, dataset, stamps.draw_dirty(attack, dataset, rng, self.from_target))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        style, hz = STYLES[self.style], self.hz
        scale = speech.FULL_SCALE
        return speech.by_parts(inputs, lambda part: speech.to_clips(scale * style(part / scale, hz), part))
