"""Hiding a few bits in a picture and reading them again: the encoder and the decoder of ISSBA (Li et al. 2021, after StegaStamp)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.encoder_decoder import pad_to

_STEPS = 4  # of the encoder, each halving the picture


def secret_plane(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W) of the plane that the bits are spread over, for pictures of ``shape`` (H, W, C): sides the halvings divide."""
    multiple = 2**_STEPS
    return shape[2], -(-shape[0] // multiple) * multiple, -(-shape[1] // multiple) * multiple


class SecretEncoder(nn.Module):
    """Bits (B, S) in {0, 1} and pixels (B, C, H, W) in [0, 1] to the residual (B, C, H, W) that carries the bits.

    A U-Net. Sides that four halvings do not divide are padded, and the residual is cut again. ``width`` 32 is the published one.
    """

    def __init__(self, bits: int, shape: tuple[int, int, int], width: int) -> None:
        """``shape`` (H, W, C) of the pictures."""
        super().__init__()
        channels = shape[2]
        self.plane = secret_plane(shape)
        self.secret = nn.Linear(bits, math.prod(self.plane))
        w = width
        self.first = _conv(2 * channels, w)
        self.down = nn.ModuleList([_conv(w, w, 2), _conv(w, 2 * w, 2), _conv(2 * w, 4 * w, 2), _conv(4 * w, 8 * w, 2)])
        self.up = nn.ModuleList([_enlarge(8 * w, 4 * w), _enlarge(4 * w, 2 * w), _enlarge(2 * w, w), _enlarge(w, w)])
        joined = (8 * w, 4 * w, 2 * w, 2 * w + 2 * channels)  # enlarged, beside what the down path had at that size
        self.join = nn.ModuleList([_conv(a, b) for a, b in zip(joined, (4 * w, 2 * w, w, w), strict=True)])
        self.residual = nn.Conv2d(w, channels, 1)

    def forward(self, bits: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        plane = F.relu(self.secret(bits - 0.5)).reshape(-1, *self.plane)
        both = torch.cat([plane, pad_to(x - 0.5, 2**_STEPS)], dim=1)
        sizes = [self.first(both)]
        for down in self.down:
            sizes.append(down(sizes[-1]))
        y = sizes.pop()
        for up, join in zip(self.up, self.join, strict=True):
            beside = [up(y), sizes.pop()] + ([] if sizes else [both])
            y = join(torch.cat(beside, dim=1))
        residual: Tensor = self.residual(y)
        return residual[:, :, :height, :width]


class SecretDecoder(nn.Module):
    """Pixels (B, C, H, W) to bit logits (B, S): the picture is put straight by a learned affine map, then read by convolutions."""

    def __init__(self, bits: int, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        channels, w = shape[2], width
        self.locate = nn.Sequential(
            _conv(channels, w, 2),
            _conv(w, 2 * w, 2),
            _conv(2 * w, 4 * w, 2),
            nn.Flatten(),
            nn.Linear(4 * w * _places(shape, 3), 4 * w),
            nn.ReLU(),
        )
        self.affine = nn.Linear(4 * w, 6)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
        self.read = nn.Sequential(
            _conv(channels, w, 2), _conv(w, w), _conv(w, 2 * w, 2), _conv(2 * w, 2 * w), _conv(2 * w, 2 * w, 2),
            _conv(2 * w, 4 * w, 2), _conv(4 * w, 4 * w, 2), nn.Flatten(),
            nn.Linear(4 * w * _places(shape, 5), 16 * w), nn.ReLU(), nn.Linear(16 * w, bits),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x - 0.5
        grid = F.affine_grid(self.affine(self.locate(x)).reshape(-1, 2, 3), list(x.shape), align_corners=False)
        logits: Tensor = self.read(F.grid_sample(x, grid, align_corners=False))
        return logits


def _places(shape: tuple[int, int, int], halvings: int) -> int:
    """How many pixels are left of (H, W, C) after that many convolutions of stride 2."""
    height, width, _ = shape
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    return height * width


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, padding=1), nn.ReLU())


def _enlarge(inner: int, outer: int) -> nn.Sequential:
    """Twice the size by repeating pixels, and a 2 x 2 convolution that keeps it."""
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(inner, outer, 2), nn.ReLU())
