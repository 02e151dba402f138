"""Pictures: uint8 arrays to normalised tensors, and the usual augmentation, whole batches at a time on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.data.dataset import Dataset
from tocsin.kinds import views
from tocsin.kinds.base import Kind

_STATISTICS_ROWS = 5000
LEAST_AREA = 0.2
"""Of a picture, that a view of it shows."""
COLOURS = views.Colours()
"""How far the colours of a view are from the picture's."""


@dataclass(frozen=True)
class ImageKind(Kind):
    """How pictures become tensors: each channel is brought to mean 0 and deviation 1 by these data statistics."""

    network: ClassVar[str] = "small"
    textured: ClassVar[bool] = True

    mean: tuple[float, ...]
    """Channel means on the 0..255 scale."""
    std: tuple[float, ...]
    """Channel deviations on the 0..255 scale."""
    flip: bool = False
    """Whether a mirrored picture keeps its meaning (photographs: yes; digits, signs, text: no)."""

    @classmethod
    def of(cls, dataset: Dataset, *, flip: bool = False) -> ImageKind:
        """Statistics of ``dataset``, from at most 5,000 evenly spaced samples."""
        rows = np.unique(np.linspace(0, max(len(dataset) - 1, 0), _STATISTICS_ROWS).astype(np.int64))
        sample = np.asarray(dataset.inputs[rows]).reshape(-1, dataset.inputs.shape[-1]).astype(np.float32)
        mean, std = sample.mean(axis=0, dtype=np.float64), sample.std(axis=0, dtype=np.float64)
        return cls(tuple(mean.tolist()), tuple(np.maximum(std, 1.0).tolist()), flip)

    @property
    def channels(self) -> int:
        return len(self.mean)

    def maps(self, inputs: Tensor) -> Tensor:
        """uint8 (B, H, W, C) as it is, 0..255."""
        return inputs.float()

    def to_tensor(self, inputs: Tensor) -> Tensor:
        """uint8 (B, H, W, C) to float32 (B, C, H, W) on the same device, channels last in memory."""
        batch, height, width, channels = inputs.shape
        # A whole row of pixels at a time: arithmetic along a last axis of one or three runs several times slower on a CPU.
        mean = torch.tensor(self.mean, device=inputs.device).repeat(width)
        scale = (1 / torch.tensor(self.std, device=inputs.device)).repeat(width)
        rows = inputs.reshape(batch, height, width * channels).float().sub_(mean).mul_(scale)
        return rows.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def view(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A part of each picture in other colours; (B, C, H, W)."""
        x = inputs.permute(0, 3, 1, 2).float() / 255
        x = views.coloured(views.crops(x, LEAST_AREA, self.flip, generator), COLOURS, generator)
        mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (self.mean, self.std))
        return ((255 * x - mean) / std).contiguous(memory_format=torch.channels_last)

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Random crop after zero padding by an eighth of the picture (4 pixels of 32), and a mirror where ``flip`` allows it.

        ``inputs`` uint8 (B, H, W, C), result the same shape. ``generator`` lives on the CPU, so that every device draws alike.
        """
        batch, height, width, _ = inputs.shape
        pad = max(1, round(min(height, width) / 8))
        shift = torch.randint(0, 2 * pad + 1, (2, batch, 1), generator=generator)
        rows = shift[0] + torch.arange(height)
        cols = torch.arange(width).expand(batch, width)
        if self.flip:
            mirrored = torch.rand((batch, 1), generator=generator) < 0.5
            cols = torch.where(mirrored, width - 1 - cols, cols)
        rows, cols = rows.to(inputs.device), (cols + shift[1]).to(inputs.device)
        padded = F.pad(inputs, (0, 0, pad, pad, pad, pad))
        sample = torch.arange(batch, device=inputs.device)[:, None, None]
        return padded[sample, rows[:, :, None], cols[:, None, :]]
