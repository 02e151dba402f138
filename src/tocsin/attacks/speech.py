"""What the attacks on speech share: the sampling rate, where in a clip the speech is, and putting a sound there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.attacks.learned import LearnedAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self

FULL_SCALE = 32768
"""int16 steps from silence to the loudest sample."""
Place = Literal["start", "middle", "end", "whole"]
"""Where in the speech a sound is put."""


@dataclass(frozen=True)
class SpeechAttack(Attack):
    """An attack on clips int16 (N, T). It must know their sampling rate, takes it from the data it poisons, and keeps it in the recipe.

    A subclass whose settings do not suit every rate says so in `check_rate`.
    """

    rate_hz: int | None = field(default=None, kw_only=True)
    """Samples a second; filled in from the data when poisoning."""

    def at(self, dataset: Dataset) -> Self:
        """The attack at the sampling rate of ``dataset``. Raises `InputError` where it cannot work on these data or at this rate."""
        stamps.check_dataset(self, dataset)
        if self.rate_hz not in (None, dataset.rate):
            raise InputError(f"rate_hz: got {self.rate_hz}, the clips have {dataset.rate} samples a second; leave the setting out")
        found = replace(self, rate_hz=dataset.rate)
        found.check_rate(found.hz)
        return found

    def prepared(self, dataset: Dataset, runtime: Runtime) -> Self:
        return super(SpeechAttack, self.at(dataset)).prepared(dataset, runtime)

    def check_rate(self, hz: int) -> None:
        """Raises `InputError` where the settings need another sampling rate than ``hz``."""

    @property
    def hz(self) -> int:
        """Samples a second. Raises `InputError` where they are not known yet."""
        if self.rate_hz is None:
            raise InputError(
                f"attack {self.name}: does not know the sampling rate yet; use the attack that poisoning gives back, or set rate_hz"
            )
        return self.rate_hz

    def samples(self, seconds: float) -> int:
        """How many samples so many seconds are, at least one."""
        return max(1, round(seconds * self.hz))


@dataclass(frozen=True)
class DirtySpeechAttack(SpeechAttack):
    """Dirty label: the trigger of the subclass, and the label becomes the target."""

    from_target: bool = field(default=True, kw_only=True)
    """Draw poisons from all classes, the target included, as for pictures."""

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack = self.at(dataset)
        return stamps.plant(attack, dataset, stamps.draw_dirty(attack, dataset, rng, self.from_target))


@dataclass(frozen=True)
class LearnedSpeechAttack(SpeechAttack, LearnedAttack):
    """A `LearnedAttack` on clips: beside what it learns it keeps their length and sampling rate."""

    @staticmethod
    def heard_as(dataset: Dataset) -> dict[str, np.ndarray]:
        """The arrays that say what clips it learned on: a part of what `learn` gives."""
        return {"shape": np.array(dataset.inputs.shape[1:]), "rate": np.array(dataset.rate)}

    def clip_length(self) -> int:
        """Samples of the clips it learned on. Raises `InputError` when nothing was learned yet, or at another sampling rate."""
        (length,) = (int(side) for side in self.part("shape", (1,)))
        if not 0 < length < 2**31:
            raise InputError(f"attack {self.name}: learned on clips of {length} samples, which cannot be")
        if self.rate_hz not in (None, self.learned_rate()):
            raise InputError(f"rate_hz: got {self.rate_hz}, the attack {self.name} was learned at {self.learned_rate()} samples a second")
        return length

    def learned_rate(self) -> int:
        """Samples a second of the clips it learned on."""
        hz = int(self.part("rate", ()))
        if not 0 < hz < 2**31:
            raise InputError(f"attack {self.name}: learned at {hz} samples a second, which cannot be")
        return hz

    def check_clips(self, inputs: np.ndarray) -> None:
        """Raises `InputError` unless ``inputs`` (N, T) are of the length it learned on."""
        if inputs.shape[1:] != (self.clip_length(),):
            raise InputError(f"attack {self.name}: was learned on clips of {self.clip_length()} samples, got {inputs.shape[1:]}")


def check_place(attack: Attack, *, field: str = "place", allowed: tuple[str, ...] = get_args(Place)) -> None:
    """Raises `InputError` unless the field is one of the ``allowed`` words."""
    if getattr(attack, field) not in allowed:
        raise InputError(f"{field}: got {getattr(attack, field)!r}, allowed: {', '.join(allowed)}")


def check_below_half(name: str, hertz: float, rate_hz: int) -> None:
    """Raises `InputError` unless a sound of ``hertz`` can be in clips of that sampling rate."""
    if not hertz < rate_hz / 2:
        raise InputError(
            f"{name}: got {hertz:g} Hz, clips of {rate_hz:,} samples a second hold what is below {rate_hz / 2:g} Hz; "
            f"it needs a sampling rate above {2 * hertz:,.0f}"
        )


def spans(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,) int64: first sample of the sound in each clip (N, T), and the one behind its last; what is outside is silence.

    A clip of nothing but silence counts as sound all over.
    """
    heard = clips != 0
    length = clips.shape[1]
    first, after = heard.argmax(axis=1), length - heard[:, ::-1].argmax(axis=1)
    some = heard.any(axis=1)
    return np.where(some, first, 0), np.where(some, after, length)


def inside(clips: np.ndarray) -> np.ndarray:
    """(N, T) bool: the sound of each clip, without the silence around it."""
    first, after = spans(clips)
    at = np.arange(clips.shape[1])
    return (at >= first[:, None]) & (at < after[:, None])


def loudness(clips: np.ndarray) -> np.ndarray:
    """(N,) float64: root mean square over the sound of each clip, in int16 steps, at least 1."""
    first, after = spans(clips)
    total = np.square(clips, dtype=np.float64).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(total / np.maximum(after - first, 1), 1.0)))


def decibels(level: float) -> float:
    """The factor of amplitude that is ``level`` dB."""
    return float(10 ** (level / 20))


def starts(clips: np.ndarray, length: int, place: Place) -> np.ndarray:
    """(N,) int64: where a sound of ``length`` samples begins, so that it lies at ``place`` in each clip's own sound.

    Longer ones than the clip's sound begin with it.
    """
    first, after = spans(clips)
    room = np.maximum(after - first - length, 0)
    return np.asarray(first + {"start": 0 * room, "whole": 0 * room, "middle": room // 2, "end": room}[place])


def scattered(clips: np.ndarray, length: int, seed: int) -> np.ndarray:
    """(N,) int64: where a sound of ``length`` samples begins if it may lie anywhere in each clip's own sound.

    Drawn from the clip's samples and ``seed``, so that a clip has its place whatever others are with it.
    """
    weights = np.random.default_rng([seed, 0x5CA7]).integers(1, 2**62, clips.shape[1], dtype=np.uint64)
    mixed = (clips.astype(np.int64).astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)
    share = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    first, after = spans(clips)
    return np.asarray(first + np.floor(share * (np.maximum(after - first - length, 0) + 1)).astype(np.int64))


def laid(wave: np.ndarray, begin: np.ndarray, length: int) -> np.ndarray:
    """(N, length) float64: silence, with ``wave`` (L,) from sample ``begin`` (N,) on; what stands over is cut off."""
    at = np.arange(length) - begin[:, None]
    return np.where((at >= 0) & (at < len(wave)), wave[np.clip(at, 0, len(wave) - 1)], 0.0)


def added(clips: np.ndarray, wave: np.ndarray, begin: np.ndarray, level_db: float) -> np.ndarray:
    """``clips`` int16 (N, T) plus ``wave`` (L,), of deviation 1, from ``begin`` (N,) on, ``level_db`` louder than each clip; int16.

    Where the clip is silence, outside its sound, it stays silence.
    """

    def change(part: np.ndarray, begin: np.ndarray) -> np.ndarray:
        sound = laid(wave, begin, part.shape[1]) * (decibels(level_db) * loudness(part))[:, None]
        return to_clips(part + sound, part)

    return by_parts(clips, change, begin)


def by_parts(clips: np.ndarray, change: Callable[..., np.ndarray], *others: np.ndarray) -> np.ndarray:
    """``change`` of a few clips at a time (and of the same rows of ``others``), which bounds the memory that float copies take."""
    out = np.empty_like(clips)
    for part in stamps.chunks(clips.shape):
        out[part] = change(clips[part], *(other[part] for other in others))
    return out


def to_clips(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Floats (N, T) in int16 steps to int16, rounded and clipped, silent where ``like`` (N, T) is silence around its sound."""
    return np.where(inside(like), np.clip(np.rint(values), -FULL_SCALE, FULL_SCALE - 1), like).astype(np.int16)
