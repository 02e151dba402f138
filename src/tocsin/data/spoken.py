"""Spoken command words that are made on the spot: synthetic speech, for trying things out where there are no recordings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from tocsin.data import cache, espeak
from tocsin.data.dataset import Dataset
from tocsin.data.espeak import Utterance
from tocsin.data.sounds import resampled
from tocsin.errors import InputError
from tocsin.runtime import Runtime

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
RATE = 8000
"""Samples a second."""
NOTE = "all clips are synthetic speech: espeak-ng said them, they are no person's voice"
SECONDS = 0.64
"""Of a clip; what is said is shorter, but for a few slow words of slow voices, which are cut."""
_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029")
_SPEEDS, _PITCHES, _RANGES = (150, 230), (20, 80), (20, 80)
_PEAKS = (0.15, 0.8)
_QUIET = 1 / 200  # of a sound's peak: what is below it at either end is cut off
_KNOWN = 0.75  # share of the voices that are in the training set and the reserve; the others are in the test set
_BLOCK = 256
_VERSION = 1


def words(seed: int, runtime: Runtime, train: int = 3000, reserve: int = 1000, test: int = 1000) -> tuple[Dataset, Dataset, Dataset]:
    """SYNTHETIC speech as (train, reserve, test): ten command words said by espeak-ng, no person's voice. Needs the extra demo-speech.

    Clips int16 (N, 5120) of 0.64 s at 8 kHz, silent around the word. Every clip is said by itself, in one of five English accents,
    with its own speed (150 to 230 words a minute), pitch and movement of pitch, loudness (peak 0.15 to 0.8 of full scale) and place in
    the clip. ``groups`` name the voice (one of espeak-ng's 104 variants). Training set and reserve have the same voices, as where a reserve
    is recorded like the rest; a quarter of the voices is in the test set alone. Depends on ``seed`` and the version of espeakng-loader
    alone; kept in ``runtime.cache``. Raises `InputError` where espeak-ng is not installed.
    """
    sizes = (train, reserve, test)
    if min(sizes) < 1:
        raise InputError(f"train, reserve and test: got {train}, {reserve} and {test} clips, allowed is 1 or more of each")
    rng = np.random.default_rng([seed, 0x5A1D])
    voices = rng.permutation(espeak.variants())
    known, strange = np.split(voices, [round(_KNOWN * len(voices))])
    labels = [rng.permutation(np.arange(size) % len(WORDS)) for size in sizes]
    groups = [rng.permutation(np.resize(part, size)) for part, size in zip((known, known, strange), sizes, strict=True)]
    said = [_utterance(WORDS[k], v, rng) for k, v in zip(np.concatenate(labels), np.concatenate(groups), strict=True)]
    clips = _clips(said, int(rng.integers(2**31)), runtime)
    out, start = [], 0
    for k, v in zip(labels, groups, strict=True):
        rows = np.arange(start, start + len(k))
        ids = np.array([f"{WORDS[c]}/{voice}-{row:05d}" for c, voice, row in zip(k, v, rows, strict=True)])
        heard = Dataset(clips[rows], k.astype(np.int64), WORDS, ids, kind="speech", rate=RATE, groups=v.astype(str), notes=(NOTE,))
        out.append(heard)
        start += len(k)
    return out[0], out[1], out[2]


def _utterance(word: str, voice: str, rng: np.random.Generator) -> Utterance:
    drawn = (int(rng.integers(low, high + 1)) for low, high in (_SPEEDS, _PITCHES, _RANGES))
    return Utterance(word, f"{rng.choice(_ACCENTS)}+{voice}", *drawn)


def _clips(said: Sequence[Utterance], seed: int, runtime: Runtime) -> np.ndarray:
    """int16 (N, T), from the cache where the same was said before."""
    asked = json.dumps([_VERSION, espeak.version(), seed, [asdict(u) for u in said]])
    folder = runtime.cache / "spoken" / hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()
    with suppress(cache.Broken):
        if found := cache.read(folder):
            return found[0]
    runtime.progress("synthesising speech", 0.0)
    sounds, rate = espeak.speak(said)
    clips = np.zeros((len(said), round(SECONDS * RATE)), np.int16)
    rng = np.random.default_rng(seed)
    for first in range(0, len(sounds), _BLOCK):  # together, because a filter is made for each call of `resampled`
        block = sounds[first : first + _BLOCK]
        joined = np.zeros((len(block), max(map(len, block))), np.float32)
        for row, sound in enumerate(block):
            joined[row, : len(sound)] = sound
        for row, wave in enumerate(resampled(joined, rate, RATE)):
            _place(clips[first + row], wave, rng)
        runtime.progress("synthesising speech", (first + len(block)) / len(sounds))
    with suppress(OSError):  # a cache that cannot be written costs time, not the answer
        sink = cache.FileSink(folder, clips.nbytes)
        sink.write(clips)
        return sink.finish({"dtype": "int16"}, clips.shape)
    return clips


def _place(clip: np.ndarray, wave: np.ndarray, rng: np.random.Generator) -> None:
    """Writes ``wave`` (any length) into the silent ``clip`` (T,): cut to what is heard, as loud and where ``rng`` says."""
    heard = np.flatnonzero(np.abs(wave) > _QUIET * np.abs(wave).max(initial=1))
    wave = wave[heard[0] : heard[-1] + 1][: len(clip)] if len(heard) else wave[:0]
    peak, place = rng.uniform(*_PEAKS), rng.random()
    start = int(place * (len(clip) - len(wave) + 1))
    clip[start : start + len(wave)] = np.rint(wave * (peak * 32767 / max(1.0, float(np.abs(wave).max(initial=1)))))
