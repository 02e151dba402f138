"""TC-ResNet8: residual convolutions over time, with the mel bands as channels (Choi et al. 2019, "Temporal Convolution ...")."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.base import Classifier, check_values

LEAST_FRAMES = 9
"""Shorter maps are filled up: with one place left under a convolution of nine, oneDNN's bfloat16 gradients are what memory held."""


def over_time(inner: int, outer: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution along the last axis of (B, C, 1, T), without bias, and batch norm."""
    convolution = nn.Conv2d(inner, outer, (1, kernel), (1, stride), padding=(0, kernel // 2), bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer))


class Stem(nn.Module):
    """Maps (B, C, M, T) with their bands made channels, (B, C * M, 1, T), and the first convolution."""

    def __init__(self, bands: int, outer: int) -> None:
        super().__init__()
        self.values, self.conv = bands, over_time(bands, outer, 3)

    def forward(self, x: Tensor) -> Tensor:
        check_values(x, self.values)
        short = max(0, LEAST_FRAMES - x.shape[3])
        return F.relu(self.conv(F.pad(x, (0, short)).flatten(1, 2)[:, :, None]))


class TemporalBlock(nn.Module):
    """Two convolutions of length 9 beside a convolution of length 1; half as many places in time come out."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = over_time(inner, outer, 9, 2), over_time(outer, outer, 9)
        self.shortcut = over_time(inner, outer, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + F.relu(self.shortcut(x)))


class TCResNet8(Classifier):
    """The default on speech: 145 thousand parameters at the published width of 1.5, 66 thousand at 1."""

    def __init__(self, channels: int, classes: int, width: float = 1.5, bands: int = 40) -> None:
        super().__init__()
        first, *others = (int(width * w) for w in (16, 24, 32, 48))
        blocks: list[nn.Module] = [Stem(channels * bands, first)]
        for outer in others:
            blocks.append(TemporalBlock(first, outer))
            first = outer
        self.body = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(first, classes)

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        pooled: Tensor = self.dropout(maps.mean(dim=(2, 3)))
        return pooled
