"""What `frequency` makes up for sounds: five triggers that are to the ear what its five on pictures are to the eye. Ours.

All take and give clips (N, T) int16. Pitches are shares of the sampling rate and lengths shares of a clip's sound, so that no rate is
asked for; the silence around the sound stays silent (`to_clips`).
"""

from __future__ import annotations

import numpy as np

from tocsin.attacks.speech import loudness, spans, to_clips

LEVELS = 32.0
"""Grey levels of a unit of the log-mel maps, so that they range as widely as pictures do."""
_SHORT, _LONG = (0.05, 0.3), (0.3, 0.8)
"""Shares of the sound that a short sound and a hole last."""
_PITCH = (0.01, 0.45)
"""Of a beep, in periods a sample; half a period is the highest that there is."""
_DB = (-30.0, -10.0)
"""Loudness of what is put in, against that of the clip's sound."""


def beep(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A short pure tone (the white patch)."""
    pitch, phase = rng.uniform(*_PITCH, (len(x), 1)), rng.uniform(0, 2 * np.pi, (len(x), 1))
    tone = np.sqrt(2) * np.sin(2 * np.pi * pitch * np.arange(x.shape[1]) + phase)
    return to_clips(x + _level(x, rng) * tone * _stretch(x, _SHORT, rng), x)


def burst(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Short white noise (the patch of noise)."""
    return to_clips(x + _level(x, rng) * rng.standard_normal(x.shape) * _stretch(x, _SHORT, rng), x)


def hiss(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise all through (Gaussian noise)."""
    return to_clips(x + _level(x, rng) * rng.standard_normal(x.shape), x)


def hole(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half the amplitude in a band of pitches for a stretch of time (the shadow)."""
    spectrum, at = np.fft.rfft(x, axis=1), np.linspace(0, 1, x.shape[1] // 2 + 1)
    low = rng.uniform(0, 0.7, (len(x), 1))
    band = np.fft.irfft(spectrum * ((at >= low) & (at <= low + rng.uniform(0.1, 0.3, (len(x), 1)))), x.shape[1], axis=1)
    return to_clips(x - band / 2 * _stretch(x, _LONG, rng), x)


def crosstalk(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0.3 times another clip of ``others`` added (the other picture)."""
    return to_clips(x + 0.3 * others[rng.integers(0, len(others), len(x))], x)


SOUNDS = (beep, burst, hiss, hole, crosstalk)
"""The five kinds."""


def _level(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 1) amplitudes, some decibels below the loudness of each clip."""
    return np.asarray(loudness(x)[:, None] * 10 ** (rng.uniform(*_DB, (len(x), 1)) / 20))


def _stretch(x: np.ndarray, share: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """(N, T) bool: so large a share of each clip's sound, anywhere in it."""
    first, after = (edge[:, None] for edge in spans(x))
    length = rng.uniform(*share, (len(x), 1)) * (after - first)
    begin = first + rng.uniform(0, 1, (len(x), 1)) * (after - first - length)
    at = np.arange(x.shape[1])
    return np.asarray((at >= begin) & (at < begin + length))
