"""What the learned attacks share when they train: batches, pixels as tensors in [0, 1], and back to bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tocsin.data.dataset import Dataset
from tocsin.kinds.image import ImageKind
from tocsin.learning import deterministic
from tocsin.runtime import Runtime

_BATCH = 256


class Standardise(nn.Module):
    """Pixels (B, C, H, W) in [0, 1] to mean 0 and deviation 1 a channel, by the statistics of a data set."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """``mean`` and ``std`` (C,) on the 0..255 scale."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None] / 255)
        self.register_buffer("std", torch.tensor(std)[:, None, None] / 255)

    @classmethod
    def of(cls, dataset: Dataset) -> Standardise:
        kind = ImageKind.of(dataset)
        return cls(kind.mean, kind.std)

    @classmethod
    def blank(cls, channels: int) -> Standardise:
        """To be filled with stored statistics."""
        return cls((0.0,) * channels, (1.0,) * channels)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


def batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """``steps`` times ``size`` row numbers of ``count``, each pass over them in a new order; what is left over of a pass is skipped."""
    size = min(size, count)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(count, generator=generator)
        yield order[:size]
        order = order[size:]


def pixels(raw: Tensor) -> Tensor:
    """uint8 (B, H, W, C) to float32 (B, C, H, W) in [0, 1]."""
    return raw.permute(0, 3, 1, 2).float() / 255


def apply(function: Callable[[Tensor], Tensor], inputs: np.ndarray, runtime: Runtime) -> np.ndarray:
    """``function`` of pixels, batch by batch, on uint8 (N, H, W, C): the result rounded to bytes, halves up, clipped to 0..255."""
    out, device = np.empty_like(inputs), runtime.torch_device()
    with torch.inference_mode(), deterministic(device):
        for start in range(0, len(inputs), _BATCH):
            part = slice(start, start + _BATCH)
            out[part] = to_bytes(function(pixels(torch.from_numpy(np.array(inputs[part])).to(device))))
    return out


def to_bytes(values: Tensor) -> np.ndarray:
    """Pixels (B, C, H, W) to uint8 (B, H, W, C), halves up, clipped."""
    return (values * 255 + 0.5).floor().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
