"""A small network on the discrete cosine transform of pictures (Zeng et al. 2021), and the transform itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PLACES = 4
_DROPOUT = (0.2, 0.3, 0.4)


def cosine_matrix(side: int) -> Tensor:
    """(side, side) float32: the orthonormal DCT-II of a column is this matrix times it."""
    from scipy.fft import dct

    return torch.from_numpy(dct(np.eye(side), axis=0, norm="ortho").astype(np.float32))


class Spectrum(nn.Module):
    """Pictures or maps (B, H, W, C) to their orthonormal 2-D DCT, float32 (B, C, H, W), each coefficient divided by its scale."""

    rows: Tensor
    columns: Tensor
    scale: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", cosine_matrix(height))
        self.register_buffer("columns", cosine_matrix(width))
        self.register_buffer("scale", torch.ones(1, 1, 1))

    def forward(self, raw: Tensor) -> Tensor:
        return self.rows @ raw.permute(0, 3, 1, 2).float() @ self.columns.T / self.scale


class SpectrumNet(nn.Module):
    """Six 3 x 3 convolutions in three stages, ELU then batch norm after each, a pool and dropout after each stage, one linear layer.

    ``width`` 32 is the published network, 292,898 parameters for 32 x 32 x 3. Pictures of other sizes end in at most 4 x 4 places.
    """

    def __init__(self, channels: int, height: int, width_px: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = channels
        for outer, dropout in zip((width, 2 * width, 4 * width), _DROPOUT, strict=True):
            for _ in range(2):
                layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ELU(), nn.BatchNorm2d(outer)]
                inner = outer
            # ceil_mode: a side of one pixel stays one
            layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(dropout)]
            height, width_px = (height + 1) // 2, (width_px + 1) // 2
        self.body = nn.Sequential(*layers)
        self.places = min(height, _PLACES), min(width_px, _PLACES)
        self.head = nn.Linear(inner * self.places[0] * self.places[1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) coefficients to logits (B, 2): clean, tampered with."""
        logits: Tensor = self.head(F.adaptive_avg_pool2d(self.body(x), self.places).flatten(1))
        return logits
