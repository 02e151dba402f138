"""The picture-to-picture network of the input-aware (Dynamic) attack (Nguyen and Tran 2020): its generator and its mask network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def squash(values: Tensor) -> Tensor:
    """To just inside (0, 1): tanh(v) / (2 + 1e-7) + 0.5."""
    return torch.tanh(values) / (2 + 1e-7) + 0.5


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) with its last row and column repeated until both sides are a multiple."""
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class EncoderDecoder(nn.Module):
    """(B, C, H, W) to (B, ``outer``, H, W) in (0, 1): a down step a width, a block in the middle, as many up steps.

    A down step is two convolution blocks and a pool, an up step a bilinear enlargement and two blocks, the second of which halves the
    width; the very last has no ReLU. Sides that the down steps do not divide are padded, and the result is cut again.
    """

    def __init__(self, inner: int, outer: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = inner
        for wider in widths:
            layers += [_block(width, wider), _block(wider, wider), nn.MaxPool2d(2)]
            width = wider
        layers.append(_block(width, width))
        for narrower in widths[-2::-1]:
            layers += [_enlarge(), _block(width, width), _block(width, narrower)]
            width = narrower
        layers += [_enlarge(), _block(width, width), _block(width, outer, relu=False)]
        self.body, self.multiple = nn.Sequential(*layers), 2 ** len(widths)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        out: Tensor = self.body(pad_to(x, self.multiple))
        return squash(out[:, :, :height, :width].float())


def _enlarge() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


def _block(inner: int, outer: int, relu: bool = True) -> nn.Sequential:
    block = nn.Sequential(nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer, momentum=0.05))
    return block.append(nn.ReLU()) if relu else block
