"""EAT-S: convolutions on the waveform itself, then a transformer (Gazneli et al. 2022, "End-to-End Audio Strikes Back")."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.base import Classifier, check_values
from tocsin.networks.kwt import stretched

_SLOPE = 0.2


def convolved(inner: int, outer: int, kernel: int, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution along the last axis of (B, C, 1, T) that keeps its length, without bias; batch norm; leaky ReLU."""
    pad = dilation * (kernel // 2)
    convolution = nn.Conv2d(inner, outer, (1, kernel), padding=(0, pad), dilation=(1, dilation), groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.LeakyReLU(_SLOPE))


class Residual(nn.Module):
    """A long convolution of each channel, and one across the channels, beside a linear shortcut."""

    def __init__(self, maps: int, dilation: int) -> None:
        super().__init__()
        self.along, self.across = convolved(maps, maps, 15, dilation, groups=maps), convolved(maps, maps, 1)
        self.shortcut = nn.Conv2d(maps, maps, 1)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.shortcut(x) + self.across(x) + self.along(x)
        return summed


class Down(nn.Module):
    """Twice the channels, a ``factor``-th of the places; a triangular filter before places are dropped keeps high pitches from folding."""

    weights: Tensor

    def __init__(self, maps: int, factor: int) -> None:
        super().__init__()
        self.conv, self.factor = convolved(maps, 2 * maps, 2 * ((factor + 1) // 2) + 1), factor
        rise = torch.arange(1, factor + 2).float()
        triangle = torch.cat([rise, rise.flip(0)[1:]])
        self.register_buffer("weights", (triangle / triangle.sum()).repeat(2 * maps, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.conv(x)
        filters = self.weights.to(wide.dtype)
        return F.conv2d(wide, filters, stride=(1, self.factor), padding=(0, self.factor), groups=wide.shape[1])


class Transformer(nn.Module):
    """Maps (B, inner, 1, T) as tokens of ``dim`` values, a class token before them: (B, dim, 1, 1 + T)."""

    def __init__(self, inner: int, dim: int, layers: int, heads: int, wide: int, places: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(inner, dim, 1)
        self.token, self.place = nn.Parameter(torch.zeros(1, 1, dim)), nn.Parameter(torch.zeros(1 + places, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, wide, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.project(x)[:, :, 0].transpose(1, 2)
        places = torch.cat([self.place[:1], stretched(self.place[1:], tokens.shape[1])])
        tokens = torch.cat([self.token.expand(len(x), -1, -1).to(tokens.dtype), tokens], dim=1) + places
        out: Tensor = self.encoder(tokens)
        return out.transpose(1, 2)[:, :, None]


class EAT(Classifier):
    """EAT-S for clips of about a second. Positions are kept for 64 places (16,384 samples) and stretched to others."""

    reads: ClassVar[Literal["maps", "waves"]] = "waves"

    def __init__(
        self, channels: int, classes: int, factors: tuple[int, ...] = (4, 4, 4), maps: int = 16, dim: int = 128, places: int = 64
    ) -> None:
        super().__init__()
        self.channels = channels
        body: list[nn.Module] = [convolved(channels, maps, 7)]
        for step, factor in enumerate(factors):
            body.append(Down(maps, factor))
            maps *= 2
            if step % 2 == 0:
                body.append(Residual(maps, 1))
        for _ in range(2):
            body += [*(Residual(maps, dilation) for dilation in (1, 3, 9)), Down(maps, 2)]
            maps *= 2
        self.body = nn.Sequential(*body, Transformer(maps, dim, 4, 8, 512, places))
        self.head = nn.Linear(dim, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) waveforms to penultimate features (B, F)."""
        check_values(x, self.channels)
        return super().features(x)

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        """What the class token, the first column, has gathered."""
        return maps[:, :, 0, 0]
