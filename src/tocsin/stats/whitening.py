"""Whitened pixels: every direction of the pictures made equally loud, so that a faint pattern stands out whatever its frequency."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MOST_DIMENSIONS = 3072
"""Larger pictures are averaged down to about this many values first: the covariance grows with the square."""
_FIT_ROWS = 8000
_CHUNK = 2000
_RIDGE = 0.01


def whiten(inputs: np.ndarray, device: torch.device, dtype: torch.dtype, maps: Callable[[Tensor], Tensor] = Tensor.float) -> Tensor:
    """Whitened pixels (N, D) of raw samples (N, ...), in ``dtype`` on ``device``; ``maps`` makes them float maps (B, H, W, C).

    ``L^-1 (x - mean)`` with ``L L' = covariance + ridge``: a Cholesky factor, not ZCA. The two differ by a rotation, to which a
    linear layer trained by gradient descent is indifferent, and the factor costs seconds less. The covariance comes from at most
    8,000 evenly spaced rows; the ridge is 1 % of the mean variance.
    """
    rows = np.unique(np.linspace(0, len(inputs) - 1, min(_FIT_ROWS, len(inputs))).astype(np.int64))
    sample = _flat(inputs[rows], device, maps)
    mean = sample.mean(0)
    sample -= mean
    covariance = sample.T @ sample / len(sample)
    covariance.diagonal().add_(_RIDGE * covariance.diagonal().mean().clamp_min(1e-6))
    factor = torch.linalg.cholesky(covariance)
    inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), device=device), upper=False).T.contiguous().to(dtype)
    out = torch.empty(len(inputs), len(mean), dtype=dtype, device=device)
    for start in range(0, len(inputs), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = (_flat(inputs[part], device, maps) - mean).to(dtype) @ inverse
    return out


def _flat(inputs: np.ndarray, device: torch.device, maps: Callable[[Tensor], Tensor]) -> Tensor:
    """Maps as float rows (B, D), averaged down where D would be above `MOST_DIMENSIONS`."""
    x = maps(torch.from_numpy(np.ascontiguousarray(inputs)).to(device)).div_(255)
    height, width, channels = x.shape[1:]
    shrink = math.sqrt(MOST_DIMENSIONS / (height * width * channels))
    if shrink < 1:
        size = (max(1, int(height * shrink)), max(1, int(width * shrink)))
        x = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size)
    return x.reshape(len(x), -1)
