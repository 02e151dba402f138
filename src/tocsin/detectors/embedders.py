"""The auditor's own embedders: marks of random keys, on which the steganalyser is trained (specification drl-clba-speech 5.3, item 7).

None of them is an attack's: no carrier, key or network of `tocsin.attacks` is in here. Each clip has a key of its own, drawn afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.attacks.speech import inside
from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind, mel_bands, unit

Mark = Callable[[SpeechKind, Tensor, np.ndarray, np.random.Generator], Tensor]
"""(front end, waves (B, T) in -1..1, strengths (B,), random numbers) to the marked waves (B, T)."""
_BANDS = (20, 60)
"""Mel bands that a mel-gain code may have: their edges are part of the key."""
_SMOOTHEST = 8
"""Cosines over the spectrum that a random equaliser is the sum of."""
_LOUDEST = 32767
_BLOCK = 256


@dataclass(frozen=True)
class Family:
    """A way to mark clips, and how strongly it does."""

    mark: Mark
    weakest: float
    strongest: float
    """Strengths are drawn evenly between these; in dB of gain, or of clip over change."""


def per_bin(kind: SpeechKind, waves: Tensor, strength: np.ndarray, rng: np.random.Generator) -> Tensor:
    """A code of signs, one for each bin of the transform: louder or softer by ``strength`` dB, alike all through the clip."""
    bins = kind.frame[0] // 2 + 1
    return shaped(kind, waves, strength[:, None] * rng.choice([-1.0, 1.0], (len(waves), bins)))


def mel_gain(kind: SpeechKind, waves: Tensor, strength: np.ndarray, rng: np.random.Generator) -> Tensor:
    """A code of signs, one for each of some mel bands, whose number is part of the key: ``strength`` dB up or down, alike all through."""
    bins, gains = kind.frame[0] // 2 + 1, np.empty((len(waves), kind.frame[0] // 2 + 1))
    for row, most in enumerate(strength):
        bands = mel_bands(bins, kind.rate, int(rng.integers(*_BANDS, endpoint=True)), 40.0).numpy()
        gains[row] = most * rng.choice([-1.0, 1.0], len(bands)) @ (bands / np.maximum(bands.sum(0), 1e-6))
    return shaped(kind, waves, gains)


def waveform(kind: SpeechKind, waves: Tensor, strength: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Spread spectrum: a keyed sequence of signs, ``strength`` dB below the clip."""
    signs = torch.from_numpy(rng.choice(np.array([-1.0, 1.0], np.float32), tuple(waves.shape)))
    spoken = (waves != 0).sum(1, keepdim=True).clamp(min=1)
    loud = (waves.square().sum(1, keepdim=True) / spoken).sqrt()
    return waves + signs * loud * torch.from_numpy(10 ** (-strength / 20)).float()[:, None]


def smooth(kind: SpeechKind, waves: Tensor, strength: np.ndarray, rng: np.random.Generator) -> Tensor:
    """A random equaliser: the sum of a few cosines over the spectrum, of ``strength`` dB (root mean square)."""
    bins = kind.frame[0] // 2 + 1
    waves_of = np.cos(np.pi * np.arange(1, _SMOOTHEST + 1)[:, None] * (np.arange(bins) + 0.5) / bins)
    curve = rng.standard_normal((len(waves), _SMOOTHEST)) @ waves_of
    return shaped(kind, waves, strength[:, None] * curve / np.sqrt(np.square(curve).mean(1, keepdims=True)))


FAMILIES: Mapping[str, Family] = {
    "per-bin": Family(per_bin, 1.5, 6.0),
    "mel-gain": Family(mel_gain, 1.5, 6.0),
    "waveform": Family(waveform, 12.0, 30.0),
    "smooth": Family(smooth, 1.5, 6.0),
}
"""Name -> family."""


def shaped(kind: SpeechKind, waves: Tensor, gains_db: np.ndarray) -> Tensor:
    """``waves`` (B, T) with each bin of the transform louder by ``gains_db`` (B, bins); phases are kept."""
    more = -waves.shape[1] % kind.frame[2]  # whole hops: see SpeechKind.clips
    gain = torch.from_numpy(10 ** (gains_db / 20)).float()[:, :, None]
    return kind.clips(kind.spectra(F.pad(waves, (0, more))) * gain, waves.shape[1] + more)[:, : waves.shape[1]]


def marked(
    clips: np.ndarray, kind: SpeechKind, families: Sequence[str], rng: np.random.Generator, strength: float | None = None
) -> np.ndarray:
    """``clips`` int16 (N, T), each marked by one of the ``families``, drawn at random: int16 (N, T), a key and a strength each.

    ``strength``: that of all clips; else drawn within the family's. What is silence around the sound of a clip stays so; a clip that would
    leave the range of int16 is cut off there. Raises `InputError` for an unknown family.
    """
    wrong = [name for name in families if name not in FAMILIES]
    if wrong or not families:
        raise InputError(f"families: got {', '.join(wrong) or 'none'}; allowed are some of {', '.join(FAMILIES)}")
    out, whose = np.array(clips), rng.integers(0, len(families), len(clips))
    some = ((name, rows) for k, name in enumerate(families) for rows in _blocks(np.flatnonzero(whose == k)))
    for name, rows in some:
        family = FAMILIES[name]
        drawn = rng.uniform(family.weakest, family.strongest, len(rows))
        part = np.array(clips[rows])
        waves = family.mark(kind, unit(torch.from_numpy(part)), drawn if strength is None else np.full(len(rows), strength), rng)
        steps = np.clip(np.rint(waves.numpy() * 32768), -_LOUDEST - 1, _LOUDEST).astype(np.int16)
        out[rows] = np.where(inside(part), steps, part)
    return out


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    """A few ``rows`` at a time, which bounds the memory that spectra take."""
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
