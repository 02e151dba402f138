"""Clips inside a page: a log-mel spectrogram to look at and a player to listen to."""

from __future__ import annotations

import base64
import io
import math
import wave
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from tocsin.data.dataset import Dataset
from tocsin.data.sounds import resampled, to_int16
from tocsin.report.pictures import Look, MeanPicture, data_uri, mean_picture, png_data_uri

_WIDEST = 128
"""Columns of a spectrogram; longer clips are averaged over time."""
_SCALE_OF = 200
_CHUNK = 256
# viridis (matplotlib, CC0) at seventeen even steps: equal steps of loudness look equal, also in print and to colour-blind eyes
_COLOURS = np.array(
    [(68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141),
     (44, 114, 142), (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128), (63, 188, 115),
     (94, 201, 98), (132, 212, 75), (173, 220, 48), (216, 226, 25), (253, 231, 37)],
    np.float64,
)  # fmt: skip
_PALETTE = np.stack([np.interp(np.linspace(0, 16, 256), np.arange(17), channel) for channel in _COLOURS.T], axis=1).round().astype(np.uint8)


@dataclass(frozen=True)
class Playback:
    """How much of a clip a player holds."""

    rate: int = 16_000
    """Samples a second, at most."""
    seconds: float = 3.0
    """From the beginning, at most."""


HINT = "A picture shows a sound as a log-mel spectrogram: time from left to right, pitch from bottom to top, bright where it is loud. "
SMALLER = (Playback(16_000, 4), Playback(8_000, 4), Playback(8_000, 2), Playback(8_000, 1), Playback(8_000, 0.5))
"""For pages that hold many clips, from the best to the smallest."""


def said(playback: Playback) -> str:
    """What a player holds, as a sentence."""
    return f"A player holds at most the first {playback.seconds:g} s, at no more than {playback.rate / 1000:g} kHz."


def fitting(dataset: Dataset, most_bytes: int) -> Playback:
    """The best of `SMALLER` with which players for all clips need at most ``most_bytes``."""
    rate = dataset.rate or 1
    lengths = np.array([_ends(clip) for clip in dataset.inputs])

    def size(playback: Playback) -> float:
        samples = np.minimum(lengths / rate, playback.seconds).sum() * min(rate, playback.rate)
        return float(samples) * 2 * 4 / 3 + 100 * len(lengths)

    return next((playback for playback in SMALLER if size(playback) <= most_bytes), SMALLER[-1])


def wav_uri(clip: np.ndarray, rate: int, playback: Playback) -> str:
    """int16 (T,) as a WAV ``data:`` address, without the silence at its end."""
    clip = clip[: min(max(1, _ends(clip)), math.ceil(playback.seconds * rate))]
    if rate > playback.rate:
        clip, rate = to_int16(resampled(clip / np.float32(32768), rate, playback.rate)), playback.rate
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(clip, "<i2").tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(out.getvalue()).decode()}"


def _ends(clip: np.ndarray) -> int:
    """Samples up to the last that is not silence."""
    sounding = np.flatnonzero(clip)
    return int(sounding[-1]) + 1 if len(sounding) else 0


@dataclass(frozen=True)
class Spectrograms:
    """Spectrograms of one data set, all in the same colours: dark is the floor of the log-mel maps, bright its loudest parts."""

    dataset: Dataset

    @cached_property
    def _range(self) -> tuple[float, float]:
        from tocsin.kinds.speech import FLOOR

        rows = np.unique(np.linspace(0, len(self.dataset) - 1, _SCALE_OF).astype(np.int64))
        low = math.log(FLOOR)
        return low, max(float(np.quantile(self._maps(self.dataset.inputs[rows]), 0.999)), low + 1)

    def _maps(self, clips: np.ndarray) -> np.ndarray:
        """(B, mels, frames, 1) with the highest band on top and at most `_WIDEST` frames."""
        import torch
        from torch.nn import functional as F

        from tocsin.kinds.speech import SpeechKind

        assert self.dataset.rate is not None
        kind, parts = SpeechKind(self.dataset.rate, 0.0, 1.0), []
        for start in range(0, len(clips), _CHUNK):
            maps = kind.maps(torch.from_numpy(np.array(clips[start : start + _CHUNK])))[..., 0].flip(1)
            parts.append(F.adaptive_avg_pool2d(maps, (maps.shape[1], _WIDEST)) if maps.shape[2] > _WIDEST else maps)
        return torch.cat(parts)[..., None].numpy()

    def grey(self, clips: np.ndarray) -> np.ndarray:
        """int16 (B, T) to loudness (B, mels, frames, 1), float32 in 0..255."""
        low, high = self._range
        scaled: np.ndarray = np.clip(255 * (self._maps(clips) - low) / (high - low), 0, 255)
        return scaled

    def picture(self, clip: np.ndarray) -> str:
        """One clip (T,) in colours."""
        return painted(self.grey(clip[None])[0].astype(np.uint8))

    def mean(self, suspects: np.ndarray, ordinary: np.ndarray) -> MeanPicture | None:
        """As `mean_picture`, of clips (A, T) and (B, T)."""
        if len(suspects) < 2 or len(ordinary) < 2:
            return None
        return mean_picture(self.grey(suspects), self.grey(ordinary), painted, png_data_uri)


def painted(loudness: np.ndarray) -> str:
    """uint8 (H, W, 1) in the colours above, as a PNG ``data:`` address."""
    image = Image.fromarray(np.ascontiguousarray(loudness[..., 0]))
    image.putpalette(_PALETTE.tobytes())
    return data_uri(image, "png", optimize=False)


def look(dataset: Dataset) -> Look:
    """How the clips of ``dataset`` are shown in a report."""
    rate, shown = dataset.rate, Spectrograms(dataset)
    assert rate is not None
    return Look(shown.picture, shown.mean, lambda clip: wav_uri(clip, rate, Playback()), HINT + said(Playback()))
