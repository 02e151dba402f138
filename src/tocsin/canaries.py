"""The audit's own positive control: samples with known triggers, planted in the working copy only.

They are appended, never in place of a person's sample, and carry no weight in any verdict. How many of them the detector flags says
what an audit that found nothing would have found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tocsin.attacks import speech
from tocsin.attacks.stamps import blend, shrink, to_bytes
from tocsin.attacks.tone import sine
from tocsin.data.dataset import Dataset, row_names
from tocsin.data.rows import stacked

RATE = 0.003
"""Share of the data set that is planted of each kind."""
LEAST = 20
"""But at least this many: fewer would say little ..."""
LEAST_OF = {"speech": 40}
"""... and more by kind: data sets are small there, and attacks on them plant more than a hundredth."""

AROUND = {"table": 5000}
"""By kind: other rows that a stamp is shown beside those that it changes, where it looks for what is rare in the data."""

_LEVEL_DB = -18.0
"""Of the sounds that are added, against the speech. The attacks `tone` and `noise` lie at -20 and -19 dB."""

Stamp = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Planted:
    """The working copy: the person's rows first and unchanged, then the canaries."""

    dataset: Dataset
    mask: np.ndarray
    """(N,) bool over the working copy."""
    trigger: np.ndarray
    """(N,) int8: index into the kind's `TRIGGERS`, -1 for the person's rows."""


def plant(train: Dataset, rng: np.random.Generator, rate: float = RATE) -> Planted:
    """Copies of random samples with each kind of trigger, labelled with a class drawn for the kind (never their own)."""
    count = max(LEAST_OF.get(train.kind, LEAST), round(rate * len(train)))
    targets = rng.permutation(len(train.classes))
    inputs, labels, kinds = [], [], []
    for place, stamp in enumerate(TRIGGERS[train.kind].values()):
        target = int(targets[place % len(targets)])
        others = np.flatnonzero(train.labels != target)
        rows = rng.choice(others, min(count, len(others)), replace=False)
        around = np.linspace(0, len(train) - 1, min(AROUND.get(train.kind, 0), len(train))).astype(np.int64)
        inputs.append(stamp(np.asarray(train.inputs[np.concatenate([rows, around])]), rng)[: len(rows)])
        labels.append(np.full(len(rows), target, np.int64))
        kinds.append(np.full(len(rows), place, np.int8))
    trigger = np.concatenate([np.full(len(train), -1, np.int8), *kinds])
    planted = sum(map(len, labels))
    groups = None if train.groups is None else np.concatenate([train.groups, np.full(planted, "")])
    working = replace(
        train,
        inputs=stacked([train.inputs, *inputs]),
        labels=np.concatenate([train.labels, *labels]),
        ids=np.concatenate([train.ids, np.char.add("canary/", row_names(np.arange(planted)))]),
        groups=groups,
    )
    return Planted(working, trigger >= 0, trigger)


def _patch(inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small square of random saturated colours, at one random place for all."""
    _, height, width, channels = inputs.shape
    size = shrink(3, inputs.shape, 2)
    top, left = int(rng.integers(0, height - size + 1)), int(rng.integers(0, width - size + 1))
    out: np.ndarray = inputs.copy()
    out[:, top : top + size, left : left + size] = rng.choice(np.array([0, 255], np.uint8), (size, size, channels))
    return out


def _blend(inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random picture around mid grey over the whole frame at 20 %.

    Mid grey on purpose: two bright pictures share their brightness, and a canary that looks like a real trigger but pulls elsewhere
    would hide it.
    """
    _, height, width, channels = inputs.shape
    rough = rng.normal(size=(4, 4, channels))
    smooth = np.stack([_enlarged(rough[:, :, c] - rough[:, :, c].mean(), height, width) for c in range(channels)], axis=2)
    return blend(inputs, to_bytes(128 + 70 * smooth / max(float(smooth.std()), 1e-6)), 0.2)


def _warp(inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One smooth random displacement field for all, about a pixel strong at 32 pixels (WaNet's, twice as strong)."""
    from scipy.ndimage import map_coordinates

    _, height, width, channels = inputs.shape
    rough = rng.uniform(-1, 1, (2, 4, 4))
    rough /= np.abs(rough).mean()
    field = np.stack([_enlarged(part, height, width) for part in rough])
    at = np.mgrid[:height, :width] + field * max(1.0, min(height, width) / 32)
    at = np.clip(at, 0, np.array([height - 1, width - 1])[:, None, None])
    out = np.empty_like(inputs)
    for row in range(len(inputs)):
        for c in range(channels):
            out[row, :, :, c] = to_bytes(map_coordinates(inputs[row, :, :, c].astype(np.float32), at, order=1, mode="nearest"))
    return out


def _enlarged(rough: np.ndarray, height: int, width: int) -> np.ndarray:
    """(4, 4) values to a smooth (H, W) field."""
    from scipy.ndimage import zoom

    return np.asarray(zoom(rough, (height / 4, width / 4), order=3, mode="nearest", grid_mode=True))


def _tone(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A beep of a tenth of the clip where its sound begins: the attack `tone`, somewhat louder, with a pitch of its own."""
    wave = sine(1 / float(rng.uniform(6, 16)), max(8, clips.shape[1] // 10), 1)
    return speech.added(clips, wave, speech.starts(clips, len(wave), "start"), _LEVEL_DB)


def _hiss(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One and the same noise under the whole sound: the attack `noise`."""
    return speech.added(clips, np.asarray(rng.normal(size=clips.shape[1])), speech.starts(clips, 1, "start"), _LEVEL_DB)


def _colour(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some bands 6 dB louder and others 6 dB softer: smooth over the frequencies, the same all along the clip."""
    bins = clips.shape[1] // 2 + 1
    rough = rng.choice(np.array([-6.0, 6.0]), 12)
    gain = 10 ** (np.interp(np.linspace(0, 11, bins), np.arange(12), rough) / 20)
    return speech.to_clips(np.fft.irfft(np.fft.rfft(clips.astype(np.float64), axis=1) * gain, clips.shape[1], axis=1), clips)


def _values(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Eight columns (a fifth of them in narrow tables) hold one and the same value each, the rarest there is among ``rows``."""
    varied = np.flatnonzero([len(np.unique(column)) > 1 for column in rows.T])
    out: np.ndarray = rows.copy()
    for k in rng.choice(varied, min(8, -(-len(varied) // 5)), replace=False):
        found, counts = np.unique(rows[:, k][~np.isnan(rows[:, k])], return_counts=True)
        out[:, k] = rng.choice(found[counts == counts.min()])
    return out


TRIGGERS: dict[str, dict[str, Stamp]] = {
    "image": {"patch": _patch, "blend": _blend, "warp": _warp},
    "speech": {"tone": _tone, "hiss": _hiss, "colour": _colour},
    "table": {"values": _values},
}
"""By kind of data, the kinds of canary in the order in which they are reported."""
