"""What the steganalyser reads of a clip, which clips it is held against, and how far it is from them: drl-clba-speech 5.3, item 7."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tocsin.kinds.speech import SpeechKind
from tocsin.runtime import Runtime
from tocsin.stats.shared_pattern import whitener

VIEWS = ("mel mean", "mean", "spread", "low", "mel low")
"""Of the log power of mel bands or of bins over the speech frames of a clip: its mean, its deviation, and what its quiet frames have."""
_QUIET = 1e-4
"""Added to powers before the logarithm, as in `stats/sounds.py`: marks hide in quiet bins."""
_SPEECH_DB = 35.0
"""A frame this far below the loudest of its clip is no speech."""
_LOW = 3
"""The quiet frames of a bin are told by the third lowest: a mark fills them."""
_COARSE = 8
"""Cosines along the mel spectrum by which voices are told apart; a code is finer."""
_LEAST = 0.02
"""Added to mean squares of 1 before the logarithm."""
_BLOCK = 128


@dataclass(frozen=True)
class Traces:
    """Of some clips."""

    views: tuple[np.ndarray, ...]
    """As `VIEWS`, (n, d) float32 each."""
    labels: np.ndarray
    """(n,)"""
    speakers: np.ndarray
    """(n,) int64, -1 where not known."""

    def part(self, rows: np.ndarray) -> Traces:
        return Traces(tuple(view[rows] for view in self.views), self.labels[rows], self.speakers[rows])


def views_of(kind: SpeechKind, clips: np.ndarray, runtime: Runtime, told: Callable[[float], None]) -> tuple[np.ndarray, ...]:
    """`Traces.views` of int16 ``clips`` (N, T); ``told`` hears which share of them is done."""
    found: list[list[np.ndarray]] = []
    for start in range(0, len(clips), _BLOCK):
        power = kind.power(torch.from_numpy(np.array(clips[start : start + _BLOCK])).to(runtime.torch_device()))
        energy = power.sum(1)
        on = energy >= energy.amax(1, keepdim=True) * 10 ** (-_SPEECH_DB / 10)
        mel_mean, _, mel_low = _over_speech((kind.bands.to(power.device) @ power + _QUIET).log(), on)
        mean, spread, low = _over_speech((power + _QUIET).log(), on)
        found.append([view.cpu().numpy() for view in (mel_mean, mean, spread, low, mel_low)])
        told(min(1.0, (start + _BLOCK) / len(clips)))
    sizes = (kind.mels, *3 * (kind.frame[0] // 2 + 1,), kind.mels)
    return tuple(np.concatenate([np.empty((0, size), np.float32), *(part[k] for part in found)]) for k, size in enumerate(sizes))


def _over_speech(level: Tensor, on: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, bins) each, of ``level`` (B, bins, frames) in the frames that are ``on`` (B, frames): mean, deviation, a low value."""
    weight = (on / on.sum(1, keepdim=True))[:, None]
    mean = (level * weight).sum(2)
    spread = ((level - mean[:, :, None]).square() * weight).sum(2).add(1e-4).sqrt()
    heard = torch.where(on[:, None], level, level.amax((1, 2), keepdim=True))
    place = min(_LOW, level.shape[2]) - 1
    low = np.partition(heard.cpu().numpy(), place, axis=2)[:, :, place]  # torch's topk takes eight times as long
    return mean, spread, torch.from_numpy(low)


def nearest(those: Traces, among: Traces, count: int, *, itself: bool = False) -> np.ndarray:
    """(n, count) rows of ``among`` that each of ``those`` clips is held against, at most as many as there are.

    First come clips of the same speaker, where speakers are known, then those of the same word, then those whose long-term spectrum is
    alike in its coarse form: who speaks tells there, a code hardly. ``itself``: row k of ``those``, and
    row k + m, k + 2m ..., is a form of row k of the m of ``among`` and never held against it.
    """
    count = max(1, min(count, len(among.labels) - itself))
    waves = np.cos(np.pi * np.arange(1, _COARSE + 1)[:, None] * (np.arange(among.views[0].shape[1]) + 0.5) / among.views[0].shape[1])
    known = among.views[0] @ waves.T
    unit = np.maximum(known.std(0), 1e-6)
    out = np.empty((len(those.labels), count), np.int64)
    for start in range(0, len(out), _BLOCK):
        rows = slice(start, start + _BLOCK)
        far = np.square((those.views[0][rows, None] @ waves.T - known) / unit).sum(2)
        unlike = (those.labels[rows, None] != among.labels).astype(np.float64)
        unlike += 2.0 * ((those.speakers[rows, None] != among.speakers) & (those.speakers[rows, None] >= 0))
        far += (far.max() + 1) * unlike
        if itself:
            far[np.arange(len(far)), (start + np.arange(len(far))) % len(among.labels)] = np.inf
        out[rows] = np.argsort(far, axis=1, kind="stable")[:, :count]
    return out


def apart(those: Traces, clean: Traces, references: int, *, itself: bool = False) -> list[np.ndarray]:
    """By view, (n, d): ``those`` clips less the mean of the ``clean`` ones that they are held against; as they are with no references."""
    if not references:
        return list(those.views)
    rows = nearest(those, clean, references, itself=itself)
    return [mine - sum(other[column] for column in rows.T) / rows.shape[1] for mine, other in zip(those.views, clean.views, strict=True)]


@dataclass(frozen=True)
class Ruler:
    """How far from its references a clip is, in units of how far clean clips are."""

    centres: tuple[np.ndarray, ...]
    whiteners: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, clean: list[np.ndarray], shrink: float) -> Ruler:
        """That of differences (n, d) by view of clean clips; ``shrink`` is the share of the diagonal in their covariance."""
        centres = tuple(view.mean(0) for view in clean)
        return cls(centres, tuple(whitener(np.float64(view - centre), shrink) for view, centre in zip(clean, centres, strict=True)))

    def far(self, apart: list[np.ndarray]) -> np.ndarray:
        """(n, views) float32: the logarithm of the mean square, in each view; about 0 for clean clips."""
        each = zip(apart, self.centres, self.whiteners, strict=True)
        return np.stack([np.log(np.square((x - centre) @ white).mean(1) + _LEAST) for x, centre, white in each], axis=1).astype(np.float32)


def crossed(clean: list[np.ndarray], others: list[np.ndarray], folds: int, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """((n, views), (k * n, views)) `Ruler.far` of ``clean`` differences, and of k copies of the same clips in turn, by other clips' rulers.

    A ruler says that the clips it was made of are nearer than other clean ones: with it the network would learn just that.
    """
    n = len(clean[0])
    first, rest = np.empty((n, len(clean)), np.float32), np.empty((len(others[0]), len(clean)), np.float32)
    for mine in _held(n, folds):
        ruler = Ruler.of([view[~mine] for view in clean], shrink)
        first[mine] = ruler.far([view[mine] for view in clean])
        copies = np.tile(mine, len(rest) // n)
        rest[copies] = ruler.far([view[copies] for view in others])
    return first, rest


def _held(n: int, folds: int) -> Iterator[np.ndarray]:
    for fold in range(min(folds, n)):
        yield np.arange(n) % folds == fold
