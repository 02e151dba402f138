"""Hiding a few bits in speech and reading them again: gains on mel bands that hardly change along a clip (drl-clba-speech 2.2.3).

Two measurements forced the form (2.2.2): what a victim's mel bands and pooling average away cannot be learned as a trigger, so both
networks work on log-mel maps; and a pattern that changes with time dies under shifts, so each bit has a carrier that is constant in time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.kinds.gains import apply_gains
from tocsin.kinds.speech import FLOOR, SpeechKind

_CONTEXT = 16  # values by which the network that reads the host knows the code


class Embedder(nn.Module):
    """Clips (B, T) and codes (B, bits) to clips with the code in them: `tocsin.kinds.gains.apply_gains` of the field `gains`."""

    mean: Tensor
    std: Tensor

    def __init__(self, rate_hz: int, bits: int = 16, beta_db: float = 5.0, width: int = 64, *, mean: float = 0.0, std: float = 1.0) -> None:
        """``beta_db``: the largest gain at strength 1. ``mean``, ``std`` of the log-mel values; restored weights bring their own."""
        super().__init__()
        self.kind, self.bits, self.beta_db = SpeechKind(rate_hz, 0.0, 1.0), bits, beta_db
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        mels = self.kind.mels
        self.carriers = nn.Parameter(torch.empty(bits, mels))
        # Of deviation 0.8 as specified, but at right angles: bits that overlap by chance are read for one another.
        nn.init.orthogonal_(self.carriers, gain=0.8 * math.sqrt(mels))
        self.context = nn.Linear(bits, _CONTEXT)
        self.host = nn.Sequential(
            nn.Conv1d(mels + _CONTEXT, width, 5, padding=2), nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, mels, 1),
        )  # fmt: skip

    def gains(self, waves: Tensor, code: Tensor) -> Tensor:
        """The field (B, mels, frames) in dB, within beta: the carriers of the code, and what the network adds after reading the host."""
        heard = (self.kind.maps(waves)[..., 0] - self.mean) / self.std
        signs = 2 * code - 1
        carried = (signs @ self.carriers / math.sqrt(self.bits))[:, :, None]
        known = self.context(signs)[:, :, None].expand(-1, -1, heard.shape[2])
        field: Tensor = self.beta_db * torch.tanh(carried + self.host(torch.cat([heard, known], 1)))
        return field

    def forward(self, waves: Tensor, mask: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        """``waves`` (B, T) float32 in -1..1, ``mask`` (B, T) bool (the speech), ``code`` (B, bits) float of 0 and 1, to waves (B, T).

        ``strength`` amplifies the field. Differentiable; nothing outside the mask changes; the result may leave -1..1.
        """
        return apply_gains(self.kind, waves, mask, strength * self.gains(waves, code))


class Decoder(nn.Module):
    """Clips (B, T) to bit logits (B, bits): correlation with the embedder's carriers, and a small network that mends it.

    It has the carriers in common with the embedder: with carriers of its own the pair learns nothing for a long time.
    """

    def __init__(self, embedder: Embedder, width: int = 64) -> None:
        super().__init__()
        self.kind, self.carriers = embedder.kind, embedder.carriers
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        mels = self.kind.mels
        self.body = nn.Sequential(
            nn.Conv1d(mels, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(2 * width, embedder.bits)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, waves: Tensor, mask: Tensor) -> Tensor:
        """``waves`` (B, T) float32 in -1..1 and ``mask`` (B, T) bool, the speech, to logits (B, bits): above 0 is a 1."""
        mel = self.kind.maps(waves * mask)[..., 0]
        smooth = F.avg_pool2d(mel[:, None], 5, stride=1, padding=2, count_include_pad=False)[:, 0]
        active = (mel.amax(1, keepdim=True) > math.log(10 * FLOOR)).float()  # (B, 1, frames): 10 dB above silence
        rough = (mel - smooth).clamp(-1, 1) * active
        frames = active.sum((1, 2)).clamp(min=1)[:, None]
        match = rough.sum(2) @ self.carriers.T / (self.kind.mels * frames).sqrt()
        maps = self.body(rough) * active  # not negative, so that silence is never the largest
        pooled = torch.cat([maps.sum(2) / frames, maps.amax(2)], 1)
        logits: Tensor = self.sharpness * match + self.head(pooled)
        return logits
