"""What a steganographic or audible trigger changes in a clip, as plain numbers: specification drl-clba-speech 5.3, items 1, 3 and 5.

All functions are of a few clips at a time and know nothing of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

_QUIET = 1e-4
"""Added to powers before the logarithm: 20 dB below what the networks' front end hears, since triggers hide in quiet bands."""
_SPEECH_DB = 35.0
"""A frame this far below the loudest of its clip is no speech."""
_NEIGHBOURS = 7
"""Bins of the local mean that a narrow-band peak stands out from."""
_LEVELS = 2
"""Residuals are rounded to -2..2 times their median size."""
ORDERS = (2, 3, 4)
"""Of the differences that are high-pass residuals: [1,-2,1], [1,-3,3,-1], [1,-4,6,-4,1]."""


@dataclass(frozen=True)
class Sounds:
    """Clips and their short-time power spectra."""

    clips: np.ndarray
    """(B, T) int16."""
    power: np.ndarray
    """(B, bins, frames) float32, of clips in -1..1."""
    first: np.ndarray
    """(B,) first sample of the sound."""
    after: np.ndarray
    """(B,) the sample behind its last."""
    bands: np.ndarray
    """(mels, bins)."""
    hop: int
    """Samples from frame to frame; frame j is centred on sample j * hop."""
    rate: int

    @cached_property
    def log_power(self) -> np.ndarray:
        """(B, bins, frames)."""
        return np.log(self.power + _QUIET)

    @cached_property
    def speech(self) -> np.ndarray:
        """(B, frames) float32: weights of the frames that hold speech, which sum to 1."""
        energy = self.power.sum(1)
        on = (energy >= energy.max(1, keepdims=True) * 10 ** (-_SPEECH_DB / 10)).astype(np.float32)
        return np.asarray(on / on.sum(1, keepdims=True))

    @cached_property
    def inside(self) -> np.ndarray:
        """(B, T) bool."""
        at = np.arange(self.clips.shape[1])
        return np.asarray((at >= self.first[:, None]) & (at < self.after[:, None]))


def long_term(sounds: Sounds) -> np.ndarray:
    """(B, mels): long-term average spectrum, the mean over speech frames of the log-mel values."""
    mel = np.log(np.matmul(sounds.bands, sounds.power) + _QUIET)
    return np.asarray(np.einsum("bmt,bt->bm", mel, sounds.speech))


def prominence(sounds: Sounds) -> np.ndarray:
    """(B, bins): by how much the long-term log spectrum stands out from the mean of the seven bins around; tones and combs are peaks."""
    spectrum = np.einsum("bft,bt->bf", sounds.log_power, sounds.speech)
    side = _NEIGHBOURS // 2
    padded = np.pad(spectrum, ((0, 0), (side, side)), mode="edge")
    return np.asarray(spectrum - np.lib.stride_tricks.sliding_window_view(padded, _NEIGHBOURS, axis=1).mean(2))


def beginning(sounds: Sounds) -> np.ndarray:
    """(B, bins): mean log spectrum of the first tenth of a second of the sound."""
    return _part(sounds, sounds.first // sounds.hop)


def end(sounds: Sounds) -> np.ndarray:
    """(B, bins): mean log spectrum of the last tenth of a second of the sound."""
    return _part(sounds, sounds.after // sounds.hop - _tenth(sounds) + 1)


def _tenth(sounds: Sounds) -> int:
    return max(1, round(0.1 * sounds.rate / sounds.hop))


def _part(sounds: Sounds, start: np.ndarray) -> np.ndarray:
    frames = np.clip(start[:, None] + np.arange(_tenth(sounds)), 0, sounds.power.shape[2] - 1)
    return np.asarray(np.take_along_axis(sounds.log_power, frames[:, None, :], axis=2).mean(2))


def residuals(sounds: Sounds) -> np.ndarray:
    """(B, 3 * (2 + orbits)): of each high-pass residual its mean size over that of the clip and its kurtosis (logarithms), and the
    square roots
    of its third-order co-occurrences, brought
    together with their mirror images in time and in sign.
    """
    return np.concatenate([_residual(sounds, order) for order in ORDERS], axis=1)


def _residual(sounds: Sounds, order: int) -> np.ndarray:
    rows, base = len(sounds.clips), 2 * _LEVELS + 1
    r = np.diff(sounds.clips.astype(np.int32), n=order, axis=1)
    on = sounds.inside[:, order:] & sounds.inside[:, :-order]
    count = np.maximum(on.sum(1), 1)
    far = np.abs(r)
    own = np.abs(sounds.clips.astype(np.float32)).sum(1) / np.maximum(sounds.inside.sum(1), 1)  # silent outside
    size = (far * on).sum(1) / count
    away = (r - ((r * on).sum(1) / count)[:, None].astype(np.float32)) * on
    squares = np.square(away)
    variance, fourth = squares.sum(1, dtype=np.float64) / count, np.square(squares).sum(1, dtype=np.float64) / count
    moments = np.stack([np.log((size + 1e-3) / (own + 1e-3)), np.log((fourth + 1e-3) / (np.square(variance) + 1e-3))], axis=1)
    ordered = np.sort(np.where(on, far, np.iinfo(np.int32).max), axis=1)
    typical = np.take_along_axis(ordered, ((count - 1) // 2)[:, None], axis=1)
    typical = np.where(on.any(1, keepdims=True), np.maximum(typical, 1), 1).astype(np.float32)
    coded = np.clip(np.rint(r / typical), -_LEVELS, _LEVELS).astype(np.int16) + np.int16(_LEVELS)
    usable, table = on[:, :-2] & on[:, 2:], _orbits(base)
    triple = ((coded[:, :-2] * base + coded[:, 1:-1]) * base + coded[:, 2:])[usable]
    orbits = int(table.max()) + 1
    counts = np.bincount(np.repeat(np.arange(rows) * orbits, usable.sum(1)) + table[triple], minlength=rows * orbits).reshape(rows, orbits)
    return np.concatenate([moments, np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))], axis=1)


@lru_cache(maxsize=4)
def _orbits(base: int) -> np.ndarray:
    """(base**3,) number of the set of triples that are alike but for their direction in time and their sign."""
    a, b, c = np.unravel_index(np.arange(base**3), (base,) * 3)
    alike = [(u * base + v) * base + w for u, v, w in ((a, b, c), (c, b, a))]
    alike += [base**3 - 1 - code for code in alike]  # the negative of every value
    return np.asarray(np.unique(np.min(alike, axis=0), return_inverse=True)[1].reshape(-1))


def checks(sounds: Sounds) -> np.ndarray:
    """(B, 8): energy above 0.9 of half the rate over all; energy in the highest band over the median band's; energy where
    the clip is silent;
    length of the sound; exact zeros in it; loudest over mean loudness; constant offset; level of its quiet frames."""
    wave, inside = sounds.clips / 32768, sounds.inside
    length = np.maximum(inside.sum(1), 1)
    spectrum = np.einsum("bft,bt->bf", sounds.power, sounds.speech) + 1e-9
    top = spectrum[:, int(0.9 * spectrum.shape[1]) :]
    level = np.sqrt((np.square(wave) * inside).sum(1) / length) + 1e-6
    energy = sounds.power.sum(1)
    columns = [
        np.log(top.sum(1) / spectrum.sum(1)),
        np.log(top.max(1) / np.median(spectrum, axis=1)),
        np.log(np.quantile(energy, 0.05, axis=1) + 1e-9),
        length / sounds.clips.shape[1],
        ((sounds.clips == 0) & inside).sum(1) / length,
        np.log(np.abs(wave).max(1) / level + 1e-6),
        (wave * inside).sum(1) / length / level,
        np.log((energy * (sounds.speech > 0)).min(1, initial=np.inf, where=sounds.speech > 0) + 1e-9),
    ]
    return np.stack(columns, axis=1)
