"""Made-up speech in which some clips of one class are coloured by one and the same equaliser, as a steganographic trigger colours them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tocsin.data.dataset import Dataset

RATE = 8000
WORDS, VOICES = 8, 3


def spoken(count: int, *, seed: int, words: int = WORDS, length: int = 3000, named: bool = False) -> Dataset:
    """Each word is a chord under noise, each of the voices colours all words in its own way; pitch, loudness, length and place vary."""
    world, rng = np.random.default_rng(11), np.random.default_rng(seed)
    chords, tilts = world.uniform(200, 3000, (words, 4)), world.normal(0, 3, (VOICES, 8))
    labels, voice = rng.integers(0, words, count), rng.integers(0, VOICES, count)
    out = np.zeros((count, length), np.int16)
    for row in range(count):
        span = int(rng.integers(length // 2, 3 * length // 4))
        t = np.arange(span) / RATE
        sound = sum(np.sin(2 * np.pi * f * rng.uniform(0.97, 1.03) * t + rng.uniform(0, 6)) for f in chords[labels[row]])
        sound = coloured(0.5 * sound + rng.normal(0, 0.5, span), tilts[voice[row]] + rng.normal(0, 0.7, 8))
        start = int(rng.integers(0, length - span))
        out[row, start : start + span] = np.clip(rng.uniform(0.03, 0.06) * sound, -1, 1) * 32767
    data = Dataset.of_arrays(out, labels, tuple(f"word {k}" for k in range(words)), kind="speech", rate=RATE)
    return replace(data, groups=np.char.add("voice ", voice.astype(str))) if named else data


def coloured(wave: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """``wave`` (..., T) with its evenly spaced bands made louder by ``decibels`` (bands,), steps between them smoothed."""
    bins = wave.shape[-1] // 2 + 1
    gain = np.interp(np.linspace(0, len(decibels) - 1, bins), np.arange(len(decibels)), decibels)
    return np.fft.irfft(np.fft.rfft(wave, axis=-1) * 10 ** (gain / 20), wave.shape[-1], axis=-1)


def planted(
    data: Dataset, share: float, *, seed: int, target: int = 3, decibels: float = 6.0, dirty: bool = False
) -> tuple[Dataset, np.ndarray]:
    """(data, truth (N,) bool): a ``share`` of the target class (dirty: as many others, relabelled) gets one random equaliser."""
    rng = np.random.default_rng([seed, 3])
    pool = np.flatnonzero((data.labels == target) != dirty)
    rows = rng.choice(pool, round(share * int((data.labels == target).sum())), replace=False)
    inputs, labels, truth = data.inputs.copy(), data.labels.copy(), np.zeros(len(data), bool)
    gains = decibels * np.random.default_rng(21).choice([-1.0, 1.0], 20)
    inputs[rows] = np.where(inputs[rows] == 0, 0, np.clip(np.rint(coloured(inputs[rows].astype(float), gains)), -32768, 32767))
    labels[rows], truth[rows] = target, True
    return replace(data, inputs=inputs, labels=labels), truth
