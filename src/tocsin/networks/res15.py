"""Res15: a residual network over the whole log-mel map, with widening dilation (Tang and Lin 2018, "Deep Residual Learning ...")."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.base import Classifier


class PlanesFirst(nn.Conv2d):
    """A convolution that reads and gives planes, channels first, whatever the order its weights are kept in.

    With channels last, in bfloat16 on the CPU, torch's library (oneDNN, as of torch 2.13) writes NaN into the weight gradients of dilated
    convolutions whose number of channels is no multiple of 16, or falls over.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.contiguous(), self.weight.contiguous(), None, padding=self.padding, dilation=self.dilation)


def dilated(maps: int, dilation: int) -> nn.Conv2d:
    """3 x 3 convolution without bias that keeps the size."""
    return PlanesFirst(maps, maps, 3, padding=dilation, dilation=dilation, bias=False)


class Pair(nn.Module):
    """Two convolutions beside an identity. Batch norm, without weights, stands before each but the network's first."""

    def __init__(self, maps: int, dilations: tuple[int, int], first: bool) -> None:
        super().__init__()
        self.norm1: nn.Module = nn.Identity() if first else nn.BatchNorm2d(maps, affine=False)
        self.norm2 = nn.BatchNorm2d(maps, affine=False)
        self.conv1, self.conv2 = (dilated(maps, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.norm2(F.relu(self.conv1(self.norm1(x)))))) + x


class Last(nn.Module):
    """The convolution behind the pairs, without a shortcut."""

    def __init__(self, maps: int, dilation: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(maps, affine=False), nn.BatchNorm2d(maps, affine=False)
        self.conv = dilated(maps, dilation)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm2(F.relu(self.conv(self.norm1(x))))
        return normed


class Res15(Classifier):
    """Fourteen convolutions of 45 maps at the full size of the input, global average: 238 thousand parameters, costly on a CPU."""

    def __init__(self, channels: int, classes: int, maps: int = 45) -> None:
        super().__init__()
        steps = [2 ** (place // 3) for place in range(13)]
        self.body = nn.Sequential(
            nn.Sequential(PlanesFirst(channels, maps, 3, padding=1, bias=False), nn.ReLU()),
            *(Pair(maps, (steps[place], steps[place + 1]), place == 0) for place in range(0, 12, 2)),
            Last(maps, steps[12]),
        )
        self.head = nn.Linear(maps, classes)

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))
