"""Texture: how loud the finest detail of a picture is, and what is next to finest, place by place.

A warp, a blur, a sharpening or another codec leaves no pattern of its own in pixels, so nothing linear sees it. It turns down fine
detail and leaves coarser detail alone, and that shows in the logarithms of their energies, linearly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 4
"""Pixels a side of the cells in which energies are taken ..."""
MOST_CELLS = 8
"""... of which there are at most so many a side: cells of larger pictures are larger."""
LEAST_SIDE = 8
"""Pixels; smaller pictures have no texture to speak of."""
_QUIET = 4.0
"""Added to energies, on the 0..255 scale: below two grey levels detail is rounding."""


BANDS = ((1, 0), (6, 0), (0, 1), (0, 6), (3, 3))
"""How often a picture is differenced down its columns and along its rows. Sixth differences hold the finest detail alone, which
interpolation loses first, third along both axes the finest of all; first ones say how much detail there was."""


def texture(maps: Tensor) -> Tensor:
    """float maps (B, H, W, C), 0..255, to (B, h, w, 5): of each cell the log energies of the mean channel in `BANDS`."""
    grey = maps.mean(dim=3)
    height, width = (max(1, min(MOST_CELLS, side // CELL)) for side in maps.shape[1:3])
    bands = [_differenced(grey, down, along) for down, along in BANDS]
    return torch.stack([torch.log(F.adaptive_avg_pool2d(band.square(), (height, width)) + _QUIET) for band in bands], dim=3)


def _differenced(grey: Tensor, down: int, along: int) -> Tensor:
    for _ in range(down):
        grey = grey.diff(dim=1)
    for _ in range(along):
        grey = grey.diff(dim=2)
    return grey
