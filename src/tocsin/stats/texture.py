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


def texture(maps: Tensor) -> Tensor:
    """float maps (B, H, W, C), 0..255, to (B, h, w, 6): of each cell the log energies of the mean channel's first, second and third
    differences along either axis. The higher the order, the finer the detail."""
    rows = columns = maps.mean(dim=3)
    bands = []
    for _ in range(3):
        rows, columns = rows.diff(dim=1), columns.diff(dim=2)
        bands += [rows, columns]
    height, width = (max(1, min(MOST_CELLS, side // CELL)) for side in maps.shape[1:3])
    return torch.stack([torch.log(F.adaptive_avg_pool2d(band.square(), (height, width)) + _QUIET) for band in bands], dim=3)
