"""Clips: from a sound file or an array of any kind to int16 (T,) at one rate and of one length, within bounds."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tocsin.data.medium import MOST_BYTES, Medium, Plan, Row, refuse
from tocsin.data.names import shown
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.data.request import Request

CODINGS = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS"})
"""What is decoded; libsndfile knows more, which hardly any data set has and a hostile one might use against it."""
LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000
HIGHEST_COMMON = 48_000
MOST_CHANNELS = 8
MOST_SECONDS = 60.0
CAP_SECONDS = 5.0
"""Default bound of the common length, for memory and time."""
LEAST_SECONDS = 0.05
_QUANTILE = 0.99
_SPARE = 1.5
"""The longest clip sets the length if it is at most so many times the quantile: then little is gained by cutting."""
_HEAVY = 4_000_000
_CLIPPED = 0.001
"""Share of a clip at full scale from which it is called clipped."""
_FOREIGN = frozenset({".mp3", ".m4a", ".aac", ".wma", ".amr", ".mp4"})
_TOO_SHORT = re.compile(r"^ *data : .*\(should be", re.MULTILINE)


class Header(NamedTuple):
    """What a sound file says about itself."""

    rate: int
    channels: int
    frames: int


@dataclass(frozen=True)
class Clips(Medium[Header]):
    """Sound files become int16 (T,): mean of the channels, one rate, cut to one length or silent at the end."""

    noun = "sound"
    form = "WAV or FLAC of 16 bits"
    suffixes = frozenset({".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64", ".rf64"}) | _FOREIGN
    magic = ((8, b"WAVE"), (0, b"fLaC"), (0, b"OggS"), (8, b"AIFF"), (8, b"AIFC"), (0, b"riff\x2e\x91\xcf\x11"))
    words = {  # noqa: RUF012 (a Mapping to the type checker)
        "broken": "could not be decoded and left out",
        "empty": "without a single sample left out",
        "large": f"larger than {MOST_BYTES >> 20} MiB left out",
        "odd": f"left out, not of {LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz and 1 to {MOST_CHANNELS} channels",
        "coding": "left out, in a coding that is not read (allowed: WAV, FLAC, OGG and AIFF with PCM, float, Vorbis or Opus)",
        "cut off": "shorter than the header says; what is there was used",
        "nan": "with NaN or infinite samples, read as silence there",
        "loud": "beyond full scale (-1..1), clipped there",
        "clipped": "clipped: a thousandth or more of the samples are at full scale",
        "silent": "digitally silent from beginning to end",
    }

    rate: int | None = None
    seconds: float | None = None
    cap: float = CAP_SECONDS

    @classmethod
    def of(cls, request: Request) -> Clips:
        refuse({"size": request.size}, cls.noun)
        return cls(request.rate, request.seconds)

    def ready(self) -> None:
        library()

    def probe(self, path: str, file_bytes: int) -> Header | str:
        """Rate, channels and length by the header alone; nothing is decoded yet."""
        try:
            with open(path, "rb") as opened:
                sound = self.begins(opened.read(16))
        except OSError:
            return "broken"
        if not sound:
            return "coding" if path.lower().endswith(tuple(_FOREIGN)) else "broken" if self.named(path) else "other"
        if file_bytes > MOST_BYTES:
            return "large"
        try:
            with library().SoundFile(path) as file:
                return header_of(file)
        except Exception:  # a hostile file may raise anything at all inside a decoder; the file is named to the person
            return "broken"

    def plan(self, headers: Sequence[Header]) -> Plan:
        rates, channels, frames = (np.array(column, np.int64) for column in zip(*headers, strict=True))
        rate = self.rate or min(int(np.unique(rates)[np.unique(rates, return_counts=True)[1].argmax()]), HIGHEST_COMMON)
        length, notes = choose_length(frames / rates, rate, self.seconds, self.cap)
        if len(other := np.unique(rates[rates != rate])):
            was = f"{other[0]:,}" if len(other) == 1 else f"{other[0]:,} to {other[-1]:,}"
            why = "as asked" if self.rate else "the most common rate; rate= overrides"
            notes.insert(0, f"{int((rates != rate).sum()):,} of {len(rates):,} sounds resampled from {was} to {rate:,} Hz ({why})")
            import scipy.signal  # noqa: F401  (here, and not by all threads at once)
        if mixed := int((channels > 1).sum()):
            notes.append(f"{mixed:,} of {len(rates):,} sounds mixed down to one channel, the mean of theirs")
        heavy = np.minimum(frames, length / rate * rates) * channels > _HEAVY
        return Plan((length,), "int16", partial(_decode, rate=rate, length=length), heavy, tuple(notes), bool(notes), rate)

    @classmethod
    def suffix(cls, old: str) -> str:
        return ".flac" if old.lower().endswith(".flac") else ".wav"

    @classmethod
    def save(cls, target: Path, sample: np.ndarray, rate: int | None, old: Path | None) -> None:
        """16-bit PCM WAV, or FLAC; as long as the old file was, so that a changed clip does not stand out by its length."""
        assert rate is not None
        sounding = np.flatnonzero(sample)
        length = int(sounding[-1]) + 1 if len(sounding) else 1
        if old is not None:
            try:
                with library().SoundFile(old) as file:
                    length = max(length, min(len(sample), math.ceil(file.frames * rate / file.samplerate)))
            except RuntimeError as why:
                raise InputError(f"{shown(str(old))}: cannot be read ({why}); the data changed since it was loaded") from why
        made = io.BytesIO()  # and not straight to the file: libsndfile does not say clearly when the disk is full
        library().write(made, sample[:length], rate, subtype="PCM_16", format="FLAC" if target.suffix == ".flac" else "WAV")
        target.write_bytes(made.getvalue())


def library() -> Any:
    """soundfile. Raises `InputError` that says how to install it."""
    try:
        import soundfile
    except (ImportError, OSError) as why:  # OSError: installed without its libsndfile
        raise InputError(f"reading and writing sounds needs soundfile ({why}); install it with: pip install tocsin[speech]") from why
    return soundfile


def check_wishes(rate: object, seconds: object) -> tuple[int | None, float | None]:
    """``rate=`` and ``seconds=`` as given by a person."""
    if rate is not None and (not isinstance(rate, int | np.integer) or not LOWEST_RATE <= rate <= HIGHEST_RATE):
        raise InputError(f"rate: {rate!r} given; allowed: whole samples a second, {LOWEST_RATE:,} to {HIGHEST_RATE:,}")
    if seconds is not None and (not isinstance(seconds, int | float | np.number) or not LEAST_SECONDS <= float(seconds) <= MOST_SECONDS):
        raise InputError(f"seconds: {seconds!r} given; allowed: {LEAST_SECONDS:g} to {MOST_SECONDS:g}")
    return None if rate is None else int(rate), None if seconds is None else float(seconds)  # type: ignore[call-overload, arg-type]


def choose_length(durations: np.ndarray, rate: int, wanted: float | None, cap: float = CAP_SECONDS) -> tuple[int, list[str]]:
    """The common length in samples for clips of ``durations`` (N,) seconds, and a note if any is cut.

    The 99 % quantile, unless the longest is little longer: one clip of ten minutes does not set the length of all.
    """
    longest = float(durations.max())
    if wanted is not None:
        seconds, why = wanted, "as asked"
    else:
        usual = float(np.quantile(durations, _QUANTILE, method="lower"))
        seconds = min(longest if longest <= _SPARE * usual else usual, cap)
        why = f"the 99 % quantile of all lengths, at most {cap:g} s; seconds= overrides"
        seconds = max(seconds, LEAST_SECONDS)
    length = max(1, round(seconds * rate))
    cut = int((np.round(durations * rate) > length).sum())
    if not cut:
        return length, []
    return length, [f"{cut:,} of {len(durations):,} sounds cut to {length / rate:.3g} s, the longest had {longest:.3g} s ({why})"]


def header_of(file: Any) -> Header | str:
    """Of an open sound file; the problem, if it is out of bounds."""
    if file.subtype not in CODINGS:
        return "coding"
    if not (LOWEST_RATE <= file.samplerate <= HIGHEST_RATE and 1 <= file.channels <= MOST_CHANNELS):
        return "odd"
    return Header(int(file.samplerate), int(file.channels), int(file.frames)) if file.frames > 0 else "empty"


def _decode(path: str, rate: int, length: int) -> Row:
    """No more than is needed is read, whatever the header claims."""
    try:
        with library().SoundFile(path) as file:
            header = header_of(file)
            if isinstance(header, str):
                return None, (header,)
            spare = 0 if header.rate == rate else 16 + math.ceil(10 * max(1, header.rate / rate))  # what the filter looks ahead
            frames = min(header.frames, math.ceil(length * header.rate / rate) + spare)
            wave = file.read(frames, dtype="float32", always_2d=True)
            short = len(wave) < frames or _TOO_SHORT.search(file.extra_info) is not None
    except Exception:  # as in probe
        return None, ("broken",)
    if not len(wave):
        return None, ("empty",)
    finite = bool(np.isfinite(wave).all())
    mono = (wave if finite else np.nan_to_num(wave, nan=0, posinf=0, neginf=0)).mean(axis=1)
    loud = float(np.abs(mono).max()) > 1
    row = np.zeros(length, np.int16)
    clip = to_int16(resampled(mono, header.rate, rate))[:length]
    row[: len(clip)] = clip
    clipped = not loud and int((np.abs(clip.astype(np.int32)) >= 32767).sum()) >= _CLIPPED * len(clip)
    told = {"cut off": short, "nan": not finite, "loud": loud, "clipped": clipped, "silent": not clip.any()}
    return row, tuple(word for word, true in told.items() if true)


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Floats in -1..1 (what lies beyond is clipped) to int16: exactly the samples that a 16-bit file holds."""
    clipped: np.ndarray = np.clip(np.rint(wave * np.float32(32768)), -32768, 32767).astype(np.int16)
    return clipped


def resampled(wave: np.ndarray, was: int, rate: int) -> np.ndarray:
    """Float clips (..., T) at ``was`` samples a second, at ``rate``; by a polyphase filter that lets no higher pitch fold back."""
    if was == rate:
        return wave
    from scipy.signal import resample_poly

    ratio = Fraction(rate, was)  # of odd rates it has large terms, but none above `HIGHEST_RATE`: half a second a file at worst
    out: np.ndarray = resample_poly(wave, ratio.numerator, ratio.denominator, axis=-1)
    return out.astype(np.float32)


def of_array(values: np.ndarray, was: int, wanted: Clips) -> tuple[np.ndarray, int, list[str]]:
    """Clips (N, T) of any number type at ``was`` samples a second as (int16 (N, T), rate, notes), at the rate and length ``wanted``."""
    clips, notes = _as_int16(values)
    rate = wanted.rate or was
    length = clips.shape[1] if wanted.seconds is None else round(wanted.seconds * was)
    if length < clips.shape[1]:
        notes.append(f"all {len(clips):,} sounds cut to {length / was:.3g} s (as asked)")
    if length != clips.shape[1]:
        clips = np.pad(clips[:, :length], ((0, 0), (0, max(0, length - clips.shape[1]))))
    if rate != was:
        notes.append(f"all {len(clips):,} sounds resampled from {was:,} to {rate:,} Hz (as asked)")
        parts = [to_int16(resampled(clips[at : at + 512] / np.float32(32768), was, rate)) for at in range(0, len(clips), 512)]
        clips = np.concatenate(parts) if parts else clips
    if silent := int((~clips.any(axis=1)).sum()):
        notes.append(f"{silent:,} of {len(clips):,} sounds digitally silent from beginning to end")
    return clips, rate, notes


def _as_int16(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"inputs: shape {values.shape} is no stack of clips; allowed: N,T, one channel, silence where a clip ends")
    if values.dtype == np.int16:
        return np.ascontiguousarray(values), []
    note = f"inputs converted from {values.dtype} to int16"
    if values.dtype == np.int32:
        return (values >> 16).astype(np.int16), [f"{note} (the high half of 32 bits)"]
    if values.dtype.kind != "f":
        raise InputError(f"inputs: clips of dtype {values.dtype}; allowed: int16, int32 over its whole range, floats in -1..1")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        raise InputError(f"inputs: NaN or infinite samples in {len(bad):,} clips, the first in row {bad[0]}")
    if max(-low, high) > 1:
        hint = "; it seems they are 16-bit values: give them as int16" if max(-low, high) > 100 else "; scale them down"
        raise InputError(f"inputs: clips from {low:g} to {high:g}; allowed: int16, or floats in -1..1{hint}")
    return np.concatenate([to_int16(values[at : at + 512]) for at in range(0, len(values), 512)] or [values.astype(np.int16)]), [note]
