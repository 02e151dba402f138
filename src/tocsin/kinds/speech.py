"""Speech: int16 waveforms to log-mel maps, in plain torch on the device. Specification drl-clba-speech 2.1."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds import views
from tocsin.kinds.base import Kind

_STATISTICS_ROWS = 1000
FLOOR = 1e-2
"""Added to the power before the logarithm, for samples in -1..1 under an un-normalised Hann window. Most of a short word's clip is digital
silence: with a far lower floor that silence is all a network sees (98.7 against 84 % on FSDD, specification 2.1)."""
_SHIFT = 0.1
"""Most of a clip that augmentation moves it by."""
FRAME = 0.016
"""Seconds, about, between the frames that networks of detectors which train their own see: finer ones cost twice and show no more."""
HIDDEN_SHARE = 0.4
"""Of the bands and of the frames of a clip, at most, that a view of it hides."""
Normalise = Literal["none", "clip"]
"""What networks read of the log-mel maps: the maps, or what is left once each clip's own mean of every band is taken off."""


@dataclass(frozen=True)
class SpeechKind(Kind):
    """Clips of one length become log-mel maps (B, 1, mels, frames), brought to mean 0 and deviation 1 by the data's statistics."""

    costly: ClassVar[bool] = True
    moved: ClassVar[int] = 24_000
    network: ClassVar[str] = "tc-resnet8"

    rate: int
    """Samples a second."""
    mean: float
    """Of the log-mel values."""
    std: float
    mels: int = 40
    """Triangular bands on the HTK scale."""
    normalise: Normalise = "none"
    """clip: networks read `levelled` maps, to which a filter that is the same all through a clip makes little difference."""

    @classmethod
    def of(cls, dataset: Dataset, *, flip: bool = False) -> SpeechKind:
        """Statistics of ``dataset``, int16 (N, T), from at most 1,000 evenly spaced clips. Raises `InputError` without a rate."""
        if dataset.rate is None or dataset.inputs.ndim != 2:
            raise InputError(f"speech: clips must be (N, T) with a sampling rate, got {dataset.inputs.shape} and rate {dataset.rate}")
        return cls(dataset.rate, 0.0, 1.0)._measured(dataset)

    def normalising(self, how: str, dataset: Dataset) -> SpeechKind:
        ways: tuple[Normalise, ...] = get_args(Normalise)
        found = next((way for way in ways if way == how), None)
        if found is None:
            raise InputError(f"normalise: got {how!r}, allowed: {', '.join(ways)}")
        return replace(self, normalise=found)._measured(dataset)

    def _measured(self, dataset: Dataset) -> SpeechKind:
        rows = np.unique(np.linspace(0, max(len(dataset) - 1, 0), _STATISTICS_ROWS).astype(np.int64))
        values = self._read(self.maps(torch.from_numpy(np.asarray(dataset.inputs[rows]))))
        return replace(self, mean=float(values.mean()), std=max(float(values.std()), 1e-3))

    @property
    def channels(self) -> int:
        return 1

    @cached_property
    def frame(self) -> tuple[int, int, int]:
        """(size of the transform, window, hop) in samples: 32 and 16 ms at telephone rates, else 30 and 10 ms."""
        if self.rate <= 11_025:
            return 2 ** math.ceil(math.log2(0.032 * self.rate)), 2 ** math.ceil(math.log2(0.032 * self.rate)), round(0.016 * self.rate)
        window = round(0.03 * self.rate)
        return 2 ** math.ceil(math.log2(window)), window, round(0.01 * self.rate)

    @cached_property
    def bands(self) -> Tensor:
        """(mels, bins) float32."""
        return mel_bands(self.frame[0] // 2 + 1, self.rate, self.mels, 40.0 if self.rate <= 11_025 else 20.0)

    def spectra(self, inputs: Tensor) -> Tensor:
        """int16 or float (in -1..1) clips (B, T) to complex spectra (B, bins, frames)."""
        size, window, hop = self.frame
        wave = unit(inputs)
        shape = torch.hann_window(window, device=wave.device)
        return torch.stft(wave, size, hop, window, shape, center=True, pad_mode="constant", return_complex=True)

    def clips(self, spectra: Tensor, length: int) -> Tensor:
        """The clips (B, length) in -1..1 that complex spectra (B, bins, frames) are nearest to: `spectra` backwards.

        The last sample must lie at a multiple of the hop: beyond it a window that has all but ended would blow changes up.
        """
        size, window, hop = self.frame
        shape = torch.hann_window(window, device=spectra.device)
        return torch.istft(spectra, size, hop, window, shape, center=True, length=length)

    def power(self, inputs: Tensor) -> Tensor:
        """int16 or float (in -1..1) clips (B, T) to power spectra (B, bins, frames)."""
        real, imaginary = torch.view_as_real(self.spectra(inputs)).unbind(-1)
        return real.square().addcmul_(imaginary, imaginary)  # abs() would take a root first, at three times the cost

    def maps(self, inputs: Tensor) -> Tensor:
        mel = self.bands.to(inputs.device) @ self.power(inputs)
        return (mel + FLOOR).log()[..., None]

    def _read(self, maps: Tensor) -> Tensor:
        return levelled(maps) if self.normalise == "clip" else maps

    def to_tensor(self, inputs: Tensor) -> Tensor:
        return self.from_maps(self.maps(inputs))

    def from_maps(self, maps: Tensor) -> Tensor:
        return ((self._read(maps) - self.mean) / self.std).permute(0, 3, 1, 2)

    def shortened(self, maps: Tensor) -> Tensor:
        """Neighbouring frames averaged to about `FRAME`: two of the 10 ms of higher rates, none at telephone rates."""
        together = max(1, round(FRAME * self.rate / self.frame[2]))
        return F.avg_pool2d(maps.permute(0, 3, 1, 2), (1, together), ceil_mode=True).permute(0, 2, 3, 1) if together > 1 else maps

    def waves(self, inputs: Tensor) -> Tensor:
        return unit(inputs)[:, None, None]

    def view(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Each clip moved in time, with some of its bands and of its frames hidden; (B, 1, mels, frames)."""
        return views.masked(self.to_tensor(self.augment(inputs, generator)), HIDDEN_SHARE, generator)

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Each clip moved in time by up to a tenth of its length; what comes in is silence."""
        batch, length = inputs.shape
        return moved(inputs, torch.randint(0, 2 * furthest(length) + 1, (batch, 1), generator=generator))


def furthest(length: int) -> int:
    """Samples that a clip of ``length`` may be moved by."""
    return max(1, round(_SHIFT * length))


def moved(clips: Tensor, start: Tensor) -> Tensor:
    """Clips (B, T) with `furthest` samples of silence on either side, each cut to its length again from sample ``start`` (B, 1) on."""
    length, most = clips.shape[1], furthest(clips.shape[1])
    return F.pad(clips, (most, most)).gather(1, (start + torch.arange(length)).to(clips.device))


def levelled(maps: Tensor) -> Tensor:
    """Log-mel maps (B, M, T, 1) less each clip's mean of every band over the frames in which something is heard; zero in the others.

    Silent frames must not stay as they are: without its mean, silence would show what that was.
    """
    heard = (maps > math.log(2 * FLOOR)).any(dim=1, keepdim=True)
    count = heard.sum(dim=2, keepdim=True).clamp(min=1)
    return torch.where(heard, maps - (maps * heard).sum(dim=2, keepdim=True) / count, 0.0)


def unit(inputs: Tensor) -> Tensor:
    """int16 clips to float32 in -1..1; floats are taken as such already."""
    return inputs if inputs.is_floating_point() else inputs.float() / 32768


def mel_bands(bins: int, rate: int, mels: int, lowest: float) -> Tensor:
    """(mels, bins) float32 triangular filters between ``lowest`` and half the ``rate``, evenly spaced on the HTK mel scale.

    A band narrower than the distance of two bins holds the one that is nearest to its middle.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(2595 * math.log10(1 + lowest / 700), top, mels + 2) / 2595) - 1)
    at = np.arange(bins) * rate / 2 / (bins - 1)
    rise = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rise, fall))
    empty = np.flatnonzero(weights.sum(1) == 0)
    weights[empty, np.abs(at[None, :] - edges[1:-1][empty, None]).argmin(1)] = 1
    return torch.from_numpy(weights.astype(np.float32))
