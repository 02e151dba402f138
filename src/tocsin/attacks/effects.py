"""Audio effects, of which JingleBack and PBSM are made: whole batches (N, T) float64 in -1..1 to the same."""

from __future__ import annotations

import numpy as np
import torch
from scipy import signal

_COMBS, _ALLPASSES = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617), (556, 441, 341, 225)
"""Delays of the reverb in samples at 44.1 kHz."""
_PHASER_STAGES = 6
_PHASER_STEP = 0.004
"""Seconds for which the phaser's filters stay as they are."""


def distortion(x: np.ndarray, drive_db: float) -> np.ndarray:
    """Amplified and squeezed into -1..1: tanh."""
    return np.asarray(np.tanh(x * 10 ** (drive_db / 20)))


def gain(x: np.ndarray, db: float) -> np.ndarray:
    """Louder by ``db``."""
    return np.asarray(x * 10 ** (db / 20))


def high_pass(x: np.ndarray, hertz: float, rate_hz: int) -> np.ndarray:
    """12 dB an octave below ``hertz`` (second-order Butterworth)."""
    return np.asarray(signal.sosfilt(signal.butter(2, hertz, "high", fs=rate_hz, output="sos"), x, axis=-1))


def chorus(x: np.ndarray, rate_hz: int, *, centre_ms: float, depth: float, mix: float = 0.5, sway_hz: float = 1.0) -> np.ndarray:
    """The sound beside itself, delayed by ``centre_ms`` and, slowly swaying, up to 10 ``depth`` ms more or less (1 ms at least)."""
    length = x.shape[-1]
    delay = centre_ms + 10 * depth * np.sin(2 * np.pi * sway_hz * np.arange(length) / rate_hz)
    at = np.arange(length) - np.maximum(delay, 1.0) * rate_hz / 1000
    below = np.floor(at).astype(int)
    padded = np.concatenate([np.zeros((*x.shape[:-1], 1)), x], axis=-1)  # what came before the clip is silence
    low, high = (padded[..., np.clip(place + 1, 0, length)] for place in (below, below + 1))
    return np.asarray((1 - mix) * x + mix * (low + (at - below) * (high - low)))


def reverb(x: np.ndarray, rate_hz: int, *, room: float, damping: float = 0.5, wet: float = 0.33, dry: float = 0.4) -> np.ndarray:
    """A room of size 0..1: eight damped combs side by side and four all-passes in a row (Schroeder; Freeverb's delays)."""
    impulse = np.zeros(x.shape[-1])
    impulse[0] = 1
    feedback, soft = 0.7 + 0.28 * room, 0.4 * damping
    heard = np.zeros_like(impulse)
    for delay in (max(2, round(d * rate_hz / 44100)) for d in _COMBS):
        b, a = np.zeros(delay + 2), np.zeros(delay + 1)
        b[delay], b[delay + 1], a[0] = 1, -soft, 1
        a[1] -= soft
        a[delay] -= feedback * (1 - soft)
        heard += signal.lfilter(b, a, impulse)
    for delay in (max(1, round(d * rate_hz / 44100)) for d in _ALLPASSES):
        b, a = np.zeros(delay + 1), np.zeros(delay + 1)
        b[0], b[delay], a[0], a[delay] = -1, 1.5, 1, -0.5
        heard = signal.lfilter(b, a, heard)
    impulse_response = 0.015 * 3 * wet * heard
    impulse_response[0] += 2 * dry
    shape = (1,) * (x.ndim - 1) + (-1,)
    return np.asarray(signal.fftconvolve(x, impulse_response.reshape(shape), axes=-1)[..., : x.shape[-1]])


def phaser(x: np.ndarray, rate_hz: int, *, centre_hz: float = 1300.0, depth: float = 0.5, mix: float = 0.5) -> np.ndarray:
    """The sound beside itself behind six all-passes whose frequency sways once a second, an octave times ``depth`` up and down."""
    step, length = max(1, round(_PHASER_STEP * rate_hz)), x.shape[-1]
    turned, states = np.empty_like(x), [np.zeros((*x.shape[:-1], 1)) for _ in range(_PHASER_STAGES)]
    for begin in range(0, length, step):
        hertz = centre_hz * 2 ** (depth * np.sin(2 * np.pi * begin / rate_hz))
        tangent = np.tan(np.pi * min(hertz, 0.45 * rate_hz) / rate_hz)
        c = (tangent - 1) / (tangent + 1)
        part = x[..., begin : begin + step]
        for stage in range(_PHASER_STAGES):
            part, states[stage] = signal.lfilter([c, 1], [1, c], part, axis=-1, zi=states[stage])
        turned[..., begin : begin + step] = part
    return np.asarray((1 - mix) * x + mix * turned)


def spectra(x: np.ndarray, window: int, hop: int, size: int) -> np.ndarray:
    """(N, T) to (N, size / 2 + 1, frames) complex: un-normalised transforms of ``window`` samples under a Hann window, ``hop`` apart."""
    shape = torch.hann_window(window, dtype=torch.float64)
    wave = torch.from_numpy(np.ascontiguousarray(x, np.float64))
    return torch.stft(wave, size, hop, window, shape, center=True, pad_mode="constant", return_complex=True).numpy()


def wave(transforms: np.ndarray, window: int, hop: int, length: int) -> np.ndarray:
    """What `spectra` was of, (N, length)."""
    shape, size = torch.hann_window(window, dtype=torch.float64), 2 * (transforms.shape[1] - 1)
    return torch.istft(torch.from_numpy(transforms), size, hop, window, shape, center=True, length=length).numpy()


def pitch_shift(x: np.ndarray, rate_hz: int, semitones: float) -> np.ndarray:
    """Higher by so many half tones at the same length: slowed down by a phase vocoder, then played faster."""
    factor, length = 2 ** (semitones / 12), x.shape[-1]
    window = 2 ** int(np.ceil(np.log2(0.032 * rate_hz)))
    hop = window // 4
    slowed = _stretched(spectra(x, window, hop, window), 1 / factor, hop / window)
    longer = wave(slowed, window, hop, max(1, round(length * factor)))
    return np.asarray(signal.resample(longer, length, axis=-1))


def _stretched(transforms: np.ndarray, speed: float, overlap: float) -> np.ndarray:
    """(N, bins, frames) complex read at ``speed`` frames a frame; the phase of each bin goes on as the sound in it does.

    After each frame neighbouring bins, which mostly hold the same tone, are brought into step (Puckette 1995), or tones would cancel.
    """
    frames, bins = transforms.shape[2], transforms.shape[1]
    at = np.arange(0, frames - 1 + 1e-9, speed)
    low = np.minimum(at.astype(int), frames - 1)
    high, share = np.minimum(low + 1, frames - 1), at - low
    size, angle = np.abs(transforms), np.angle(transforms)
    expected = 2 * np.pi * overlap * np.arange(bins)[:, None]
    turn = angle[:, :, high] - angle[:, :, low] - expected
    turn = turn - 2 * np.pi * np.round(turn / (2 * np.pi)) + expected
    strength = (1 - share) * size[:, :, low] + share * size[:, :, high]
    out, phase = np.empty(strength.shape, complex), angle[:, :, 0]
    for frame in range(len(at)):
        here = strength[:, :, frame] * np.exp(1j * phase)
        out[:, :, frame] = here
        padded = np.pad(here, ((0, 0), (1, 1)))
        # The transform starts at a frame's first sample, so neighbours of one tone have opposite signs.
        phase = np.angle(here - padded[:, :-2] - padded[:, 2:]) + turn[:, :, frame]
    return out
