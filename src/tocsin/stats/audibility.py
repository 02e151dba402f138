"""How much a change of speech can be heard: SNR, segmental SNR and log-spectral distance (ours), PESQ and STOI (extra ``audibility``).

Specification drl-clba-speech 2.8. Only the speech of a clip is scored, never the silence around it: a change that keeps to the speech
would else look better the longer the padding is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import resample_poly

from tocsin.errors import InputError

_SEGMENT = 0.032
"""Seconds of a frame of the segmental SNR and of the log-spectral distance."""
_SEGMENT_RANGE = (-10.0, 35.0)
"""dB to which the SNR of one frame is cut, as is usual."""
_ACTIVE_DB = 40.0
"""Frames that are quieter than the loudest one by more than this are not scored."""
_LEAST_FLOOR_DB = 60.0
"""Bins count at least as loud as this much below the loudest bin of the clip."""
_REPEATS = 3
"""How often a word is said in a row before STOI scores it: that needs 30 active frames, some 0.4 s, and gives 1e-5 for less."""
_STOI_FAILED = 1e-4


@dataclass(frozen=True)
class Spread:
    """Of one measure over the clips."""

    median: float
    worst: float
    """The 5th percentile on the bad side: the 95th where lower is better."""
    clips: int
    """How many gave a value."""
    failed: int = 0
    """How many gave none: too short, or no speech in the judgement of PESQ or STOI."""


@dataclass(frozen=True)
class Audibility:
    """What was measured, by name; higher is better, but for ``lsd_db``. ``pesq`` and ``stoi`` only where they were asked for."""

    measures: dict[str, Spread] = field(default_factory=dict)

    def as_dict(self) -> dict[str, dict[str, float | None]]:
        """JSON-able: None where there is no number, or an infinite one."""
        return {
            name: {key: value if np.isfinite(value) else None for key, value in vars(spread).items()}
            for name, spread in self.measures.items()
        }


def audibility(before: np.ndarray, after: np.ndarray, rate_hz: int, *, perceptual: bool = True) -> Audibility:
    """How far ``after`` (N, T) int16 can be told from ``before`` (N, T) int16, medians and 5th percentiles over the clips.

    ``perceptual``: PESQ and STOI too. PESQ is narrow-band at 8 kHz and wide-band at 16 kHz; clips of other rates are brought to 16 kHz, to
    8 kHz where theirs is lower. Raises `InputError` for arrays that do not belong together, and without the packages of the extra.
    """
    if before.shape != after.shape or before.ndim != 2 or before.dtype != np.int16 or after.dtype != np.int16:
        raise InputError(
            f"before and after: got {before.dtype} {before.shape} and {after.dtype} {after.shape}, "
            "allowed are two int16 (N, T) of one shape"
        )
    if rate_hz <= 0:
        raise InputError(f"rate_hz: got {rate_hz}, allowed is any number above 0")
    measures = dict(_MEASURES)
    if perceptual:
        measures |= {"pesq": _pesq(), "stoi": _stoi()}
    pairs = [_speech(a, b) for a, b in zip(before, after, strict=True)]
    found = {name: np.array([measure(a, b, rate_hz) for a, b in pairs], np.float64) for name, measure in measures.items()}
    return Audibility({name: _spread(values, lower_is_better=name == "lsd_db") for name, values in found.items()})


def snr_db(before: np.ndarray, after: np.ndarray, rate_hz: int = 0) -> float:
    """Power of ``before`` (T,) against that of the change, in dB; infinite where nothing changed, NaN for silence."""
    signal, change = np.square(before).sum(), np.square(after - before).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(signal / change)) if signal else float("nan")


def segmental_snr_db(before: np.ndarray, after: np.ndarray, rate_hz: int) -> float:
    """Mean over the active frames of 32 ms of the SNR in dB, each cut to -10..35."""
    a, b = _frames(before, rate_hz), _frames(after, rate_hz)
    signal, change = np.square(a).sum(1), np.square(b - a).sum(1)
    active = _active(signal)
    if not active.any():
        return float("nan")
    each = 10 * np.log10((signal[active] + 1e-12) / (change[active] + 1e-12))
    return float(np.clip(each, *_SEGMENT_RANGE).mean())


def log_spectral_distance_db(before: np.ndarray, after: np.ndarray, rate_hz: int) -> float:
    """Mean over the active frames of 32 ms of the root mean square difference of the log power spectra, in dB."""
    window = np.hanning(_frames(before, rate_hz).shape[1])
    a, b = (np.square(np.abs(np.fft.rfft(_frames(x, rate_hz) * window, axis=1))) for x in (before, after))
    active = _active(a.sum(1))
    if not active.any():
        return float("nan")
    floor = a.max() * 10 ** (-_LEAST_FLOOR_DB / 10)
    difference = 10 * np.log10((b[active] + floor) / (a[active] + floor))
    return float(np.sqrt(np.square(difference).mean(1)).mean())


Measure = Callable[[np.ndarray, np.ndarray, int], float]
"""Two clips (T,) float64 in -1..1 and their rate to a number; NaN where there is none."""
_MEASURES: dict[str, Measure] = {"snr_db": snr_db, "segmental_snr_db": segmental_snr_db, "lsd_db": log_spectral_distance_db}


def _speech(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both clips (T,) from the first to the last sample that is not zero in either, in -1..1."""
    heard = np.flatnonzero((before != 0) | (after != 0))
    cut = slice(heard[0], heard[-1] + 1) if len(heard) else slice(0, 0)
    return before[cut] / 32768, after[cut] / 32768


def _frames(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """(F, L) frames of 32 ms, half overlapping; a shorter clip is one frame."""
    length = max(2, round(_SEGMENT * rate_hz))
    padded = np.pad(wave, (0, max(0, length - len(wave))))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[:: max(1, length // 2)]


def _active(power: np.ndarray) -> np.ndarray:
    """(F,) bool: the frames of that power (F,) that count."""
    return np.asarray((power > 0) & (power >= power.max(initial=0) * 10 ** (-_ACTIVE_DB / 10)))


def _spread(values: np.ndarray, *, lower_is_better: bool) -> Spread:
    good = values[~np.isnan(values)]
    if not len(good):
        return Spread(float("nan"), float("nan"), 0, len(values))
    # "lower": an infinite SNR (a clip that did not change) has no neighbour to be interpolated with
    worst = np.percentile(good, 95 if lower_is_better else 5, method="lower")
    return Spread(float(np.percentile(good, 50, method="lower")), float(worst), len(good), len(values) - len(good))


def _pesq() -> Measure:
    """PESQ as the package ``pesq`` has it."""
    try:
        from pesq import PesqError, pesq
    except ImportError:
        raise _missing("pesq") from None

    def score(before: np.ndarray, after: np.ndarray, rate_hz: int) -> float:
        hz = 16000 if rate_hz >= 16000 else 8000
        try:
            return float(pesq(hz, _at(before, rate_hz, hz), _at(after, rate_hz, hz), "wb" if hz == 16000 else "nb"))
        except (PesqError, ValueError):  # too short, or nothing that it takes for an utterance
            return float("nan")

    return score


def _stoi() -> Measure:
    """STOI as the package ``pystoi`` has it, of the speech said three times in a row."""
    try:
        from pystoi import stoi
    except ImportError:
        raise _missing("pystoi") from None

    def score(before: np.ndarray, after: np.ndarray, rate_hz: int) -> float:
        if not before.any():
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what it says of clips that are too short, which we count
            try:
                value = float(stoi(np.tile(before, _REPEATS), np.tile(after, _REPEATS), rate_hz))
            except ValueError:  # shorter than one of its frames
                return float("nan")
        return value if value > _STOI_FAILED else float("nan")

    return score


def _at(wave: np.ndarray, rate_hz: int, hz: int) -> np.ndarray:
    return wave if rate_hz == hz else np.asarray(resample_poly(wave, hz, rate_hz))


def _missing(package: str) -> InputError:
    return InputError(f"audibility: PESQ and STOI need the package {package}, which is not installed: pip install tocsin[audibility]")
