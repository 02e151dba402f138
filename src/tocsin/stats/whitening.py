"""Whitened pixels: every direction of the pictures made equally loud, so that a faint pattern stands out whatever its frequency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MOST_DIMENSIONS = 3072
"""Larger pictures are averaged down to about this many values first: the covariance grows with the square."""
_FIT_ROWS = 8000
_CHUNK = 2000
_RIDGE = 0.01


@dataclass(frozen=True)
class Whitener:
    """``L^-1 (x - mean)`` with ``L L' = covariance + ridge``: a Cholesky factor, not ZCA. The two differ by a rotation, to which a linear
    layer trained by gradient descent is indifferent, and the factor costs seconds less."""

    mean: Tensor
    """(D,) float32."""
    inverse: Tensor
    """(D, D) ``L^-1``, transposed, in the type of what comes out."""
    maps: Callable[[Tensor], Tensor]

    @classmethod
    def fit(cls, inputs: np.ndarray, device: torch.device, dtype: torch.dtype, maps: Callable[[Tensor], Tensor] = Tensor.float) -> Whitener:
        """Of raw samples (N, ...), of which ``maps`` makes float maps (B, H, W, C). The covariance comes from at most 8,000 evenly spaced
        rows; the ridge is 1 % of the mean variance."""
        rows = np.unique(np.linspace(0, len(inputs) - 1, min(_FIT_ROWS, len(inputs))).astype(np.int64))
        sample = _rows(maps(_on(inputs[rows], device)))
        mean = sample.mean(0)
        sample -= mean
        covariance = sample.T @ sample / len(sample)
        covariance.diagonal().add_(_RIDGE * covariance.diagonal().mean().clamp_min(1e-6))
        factor = torch.linalg.cholesky(covariance)
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), device=device), upper=False).T.contiguous().to(dtype)
        return cls(mean, inverse, maps)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Whitened pixels (B, D) of raw samples (B, ...) on the device."""
        return self.of_maps(self.maps(inputs))

    def of_maps(self, maps: Tensor) -> Tensor:
        """The same of samples whose ``maps`` (B, H, W, C) are at hand."""
        return (_rows(maps) - self.mean).to(self.inverse.dtype) @ self.inverse


def whiten(inputs: np.ndarray, device: torch.device, dtype: torch.dtype, maps: Callable[[Tensor], Tensor] = Tensor.float) -> Tensor:
    """Whitened pixels (N, D) of raw samples (N, ...), in ``dtype`` on ``device``, by a `Whitener` of themselves."""
    whitener = Whitener.fit(inputs, device, dtype, maps)
    out = torch.empty(len(inputs), len(whitener.mean), dtype=dtype, device=device)
    for start in range(0, len(inputs), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = whitener(_on(inputs[part], device))
    return out


def _on(inputs: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(inputs)).to(device)


def _rows(maps: Tensor) -> Tensor:
    """Maps (B, H, W, C) as float rows (B, D), averaged down where D would be above `MOST_DIMENSIONS`."""
    x = maps / 255
    height, width, channels = x.shape[1:]
    shrink = math.sqrt(MOST_DIMENSIONS / (height * width * channels))
    if shrink < 1:
        size = (max(1, int(height * shrink)), max(1, int(width * shrink)))
        x = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size)
    return x.reshape(len(x), -1)
