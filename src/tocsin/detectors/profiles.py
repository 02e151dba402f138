"""What the steganalyser reads of a clip, and which clips it is held against: specification drl-clba-speech 5.3, item 7."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tocsin.kinds.speech import SpeechKind
from tocsin.runtime import Runtime

_QUIET = 1e-4
"""Added to powers before the logarithm, as in `stats/sounds.py`: marks hide in quiet bins."""
_SPEECH_DB = 35.0
"""A frame this far below the loudest of its clip is no speech."""
_HEARD = 7.0
"""Mel values further below the loudest of a clip (a natural logarithm: 30 dB) say nothing of what is said."""
_SLOTS = 12
"""Places in time, from the first to the last frame of speech, at which what is said is compared."""
_LOW = 3
"""The quiet frames of a bin are told by the third lowest: a mark fills them."""
_BLOCK = 128


def profiles(kind: SpeechKind, clips: np.ndarray, runtime: Runtime, *, quiet: bool = False) -> np.ndarray:
    """(N, 3, bins) float32 of int16 ``clips`` (N, T): mean, deviation and a low value of each bin's log power over the speech frames.

    ``quiet``: no progress is told.
    """
    parts: list[Tensor] = [torch.empty(0, 3, kind.frame[0] // 2 + 1)]
    for start in range(0, len(clips), _BLOCK):
        power = kind.power(torch.from_numpy(np.array(clips[start : start + _BLOCK])).to(runtime.torch_device()))
        on = _spoken(power)
        weight = (on / on.sum(1, keepdim=True))[:, None]
        level = (power + _QUIET).log()
        mean = (level * weight).sum(2)
        spread = ((level - mean[:, :, None]).square() * weight).sum(2).add(1e-4).sqrt()
        place = min(_LOW, level.shape[2])
        low = torch.where(on[:, None] > 0, level, level.amax((1, 2), keepdim=True)).topk(place, 2, largest=False).values[:, :, -1]
        parts.append(torch.stack([mean, spread, low], 1).cpu())
        if not quiet:
            runtime.progress("listening", min(1.0, (start + _BLOCK) / len(clips)))
    return torch.cat(parts).numpy()


def contents(kind: SpeechKind, clips: np.ndarray, runtime: Runtime) -> np.ndarray:
    """(N, mels * 12) float32 of int16 ``clips`` (N, T): log-mel values from the first to the last frame of speech, each band of mean 0.

    A colouring that is alike all through a clip, and how fast the word is said, make no difference.
    """
    parts: list[Tensor] = [torch.empty(0, kind.mels * _SLOTS)]
    for start in range(0, len(clips), _BLOCK):
        power = kind.power(torch.from_numpy(np.array(clips[start : start + _BLOCK])).to(runtime.torch_device()))
        on = _spoken(power)
        first = on.argmax(1)
        last = on.shape[1] - 1 - on.flip(1).argmax(1)
        at = first[:, None] + torch.linspace(0, 1, _SLOTS, device=on.device) * (last - first)[:, None]
        mel = (kind.bands.to(power.device) @ power + _QUIET).log()
        mel = mel.maximum(mel.amax((1, 2), keepdim=True) - _HEARD)
        before = at.floor().long()[:, None].expand(-1, kind.mels, -1)
        after, share = (before + 1).clamp(max=on.shape[1] - 1), (at - at.floor())[:, None]
        said = mel.gather(2, before) * (1 - share) + mel.gather(2, after) * share
        parts.append((said - said.mean(2, keepdim=True)).flatten(1).cpu())
    return torch.cat(parts).numpy()


def _spoken(power: Tensor) -> Tensor:
    """(B, frames) float32 of power spectra (B, bins, frames): 1 where there is speech."""
    energy = power.sum(1)
    return (energy >= energy.amax(1, keepdim=True) * 10 ** (-_SPEECH_DB / 10)).float()


@dataclass(frozen=True)
class Traces:
    """Of some clips."""

    profile: np.ndarray
    """(n, 3, bins) float32."""
    content: np.ndarray
    """(n, d) float32."""
    labels: np.ndarray
    """(n,)"""
    speakers: np.ndarray
    """(n,) int64, -1 where not known."""

    def part(self, rows: np.ndarray) -> Traces:
        return Traces(self.profile[rows], self.content[rows], self.labels[rows], self.speakers[rows])


def nearest(those: Traces, among: Traces, count: int, *, itself: bool = False) -> np.ndarray:
    """(n, count) rows of ``among`` that each of ``those`` clips is held against, at most as many as there are.

    First come clips of the same speaker, where speakers are known, then those of the same word, then those that are most alike in what is
    said (`contents`). ``itself``: the two are the same clips, and none is held against itself.
    """
    most = max(1, min(count, len(among.labels) - itself))
    out = np.empty((len(those.labels), most), np.int64)
    for start in range(0, len(out), _BLOCK):
        rows = slice(start, start + _BLOCK)
        far = _far(those.content[rows], among.content)
        unlike = (those.labels[rows, None] != among.labels).astype(np.float64)
        unlike += 2.0 * ((those.speakers[rows, None] != among.speakers) & (those.speakers[rows, None] >= 0))
        far += (far.max() + 1) * unlike
        if itself:
            far[np.arange(len(far)), start + np.arange(len(far))] = np.inf
        out[rows] = np.argsort(far, axis=1, kind="stable")[:, :most]
    return out


def _far(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, m) float64 squared distances of the rows of ``x`` and ``y``."""
    return np.asarray(np.maximum(np.square(x).sum(1)[:, None] - 2.0 * x @ y.T + np.square(y).sum(1), 0.0), np.float64)
