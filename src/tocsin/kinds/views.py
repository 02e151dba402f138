"""Changed views of whole batches of samples, on the device: what contrastive learning tells one sample's views from others' by.

Every function takes and gives float32 (B, C, H, W), and draws from a ``generator`` on the CPU, so that every device draws alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Colours:
    """How much the colours of a picture change (those of CTRL's and of most SimCLR recipes on CIFAR-10)."""

    brightness: float = 0.4
    """A picture is multiplied by up to so much more or less than 1."""
    contrast: float = 0.4
    """The same for the distance of its pixels from its mean grey."""
    saturation: float = 0.4
    """The same for the distance of its pixels from their own grey."""
    hue: float = 0.1
    """Its hues are turned by up to this share of the circle."""
    share: float = 0.8
    """Of the pictures that are changed so."""
    grey: float = 0.2
    """Share of the pictures that lose their colour altogether."""


def crops(x: Tensor, least: float, flip: bool, generator: torch.Generator) -> Tensor:
    """A part of each picture, of ``least`` to all of its area and a ratio of sides within 3/4 to 4/3 of its own, at the old size; half
    of them mirrored where ``flip`` allows it."""
    area = least + (1 - least) * torch.rand(len(x), generator=generator)
    ratio = torch.exp((2 * torch.rand(len(x), generator=generator) - 1) * math.log(4 / 3)).sqrt()
    sides = torch.stack([area.sqrt() * ratio, area.sqrt() / ratio]).clamp(max=1)  # of the whole, across and down
    centre = (1 - sides) * (2 * torch.rand((2, len(x)), generator=generator) - 1)
    mirror = torch.where(torch.rand(len(x), generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(len(x))
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = sides[0] * mirror, sides[1], centre.T
    grid = F.affine_grid(theta, list(x.shape), align_corners=False).to(x.device)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def coloured(x: Tensor, how: Colours, generator: torch.Generator) -> Tensor:
    """Pictures with values in 0..1 in other colours, still in 0..1. Grey ones (C 1) change in brightness and contrast alone."""

    def drawn(most: float) -> Tensor:
        value = 1 + most * (2 * torch.rand((len(x), 1, 1, 1), generator=generator) - 1)
        return torch.where(changed, value, 1.0).to(x.device)

    changed = torch.rand((len(x), 1, 1, 1), generator=generator) < how.share
    x = x * drawn(how.brightness)
    mean = _grey(x).mean((2, 3), keepdim=True)
    x = mean + (x - mean) * drawn(how.contrast)
    if x.shape[1] == 3:
        grey = _grey(x)
        x = grey + (x - grey) * drawn(how.saturation)
        x = _turned(x, 2 * math.pi * (drawn(how.hue) - 1))
        faded = torch.rand((len(x), 1, 1, 1), generator=generator) < how.grey
        x = torch.where(faded.to(x.device), _grey(x), x)
    return x.clamp(0, 1)


def masked(x: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Maps of sounds (B, 1, bands, frames) with a block of bands and a block of frames, each up to ``most`` of the whole, set to 0."""
    for dim in (2, 3):
        length = x.shape[dim]
        width = most * torch.rand((len(x), 1), generator=generator) * length
        start = torch.rand((len(x), 1), generator=generator) * (length - width)
        at = torch.arange(length)
        hidden = ((at >= start) & (at < start + width)).to(x.device)
        x = x.masked_fill(hidden[:, None, :, None] if dim == 2 else hidden[:, None, None, :], 0.0)
    return x


def _grey(x: Tensor) -> Tensor:
    """(B, 1, H, W) luma."""
    weights = torch.tensor([0.299, 0.587, 0.114] if x.shape[1] == 3 else [1.0], device=x.device)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    """Hues turned by ``angle`` (B, 1, 1, 1) in radians: a rotation of the chroma plane of YIQ."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], device=x.device)
    yiq = torch.einsum("kc,bchw->bkhw", to_yiq, x)
    cos, sin = angle[:, 0].cos(), angle[:, 0].sin()
    turned = torch.stack([yiq[:, 0], cos * yiq[:, 1] - sin * yiq[:, 2], sin * yiq[:, 1] + cos * yiq[:, 2]], dim=1)
    return torch.einsum("ck,bkhw->bchw", torch.linalg.inv(to_yiq), turned)
