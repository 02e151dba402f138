"""The bits that the steganographic attacks hide in a clip (drl-clba-speech 2.2.3)."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

from tocsin.attacks import speech

CodeMode = Literal["key", "key+hash", "hash"]
"""All bits are the attack's key; or its first half is, and the rest a hash of the clip; or all are that hash, which nothing can learn."""


def draw_key(bits: int, seed: int) -> np.ndarray:
    """(bits,) uint8 of 0 and 1: the key of an attack that was learned with that seed, or the first of those it chooses from."""
    return np.asarray(draw_keys(1, bits, seed)[0])


def draw_keys(count: int, bits: int, seed: int) -> np.ndarray:
    """(count, bits) uint8 of 0 and 1."""
    return np.random.default_rng([seed, 0x57E6]).integers(0, 2, (count, bits)).astype(np.uint8)


def codes_of(clips: np.ndarray, key: np.ndarray, mode: CodeMode) -> np.ndarray:
    """(N, bits) uint8: what is hidden in each of ``clips`` int16 (N, T) under ``key`` (bits,).

    The hash is SHA-256 of the clip's sound (without the silence around it) as 16-bit little-endian PCM, up to 256 bits of it.
    """
    own = {"key": len(key), "key+hash": len(key) // 2, "hash": 0}[mode]
    if own == len(key) or not len(clips):
        return np.tile(np.asarray(key, np.uint8), (len(clips), 1))
    sounds = (clip[first:after] for clip, first, after in zip(clips, *speech.spans(clips), strict=True))
    digests = [np.frombuffer(hashlib.sha256(sound.astype("<i2").tobytes()).digest(), np.uint8) for sound in sounds]
    hashed = np.unpackbits(np.stack(digests), axis=1)[:, : len(key) - own]
    return np.concatenate([np.tile(np.asarray(key[:own], np.uint8), (len(clips), 1)), hashed], axis=1)
