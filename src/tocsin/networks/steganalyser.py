"""Is a clip marked? A small network over the spectrum of what sets a clip apart from clips that sound like it (drl-clba-speech 5.3, item 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIGH_PASS = ((0, 0, 1, 0, 0), (0, -1 / 2, 1, -1 / 2, 0), (0, 1 / 4, -3 / 4, 3 / 4, -1 / 4), (1 / 8, -4 / 8, 6 / 8, -4 / 8, 1 / 8))
"""Fixed filters along the spectrum that the network reads through: none, and the second to the fourth difference."""


class Steganalyser(nn.Module):
    """Differences of profiles (B, C, bins) to logits (B,): above 0 is marked."""

    kernels: Tensor

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.tensor(HIGH_PASS)[:, None])
        inner = len(HIGH_PASS) * channels
        self.body = nn.Sequential(
            nn.BatchNorm1d(inner),
            nn.Conv1d(inner, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bins = x.shape
        rough = F.conv1d(x.reshape(batch * channels, 1, bins), self.kernels, padding=2).reshape(batch, -1, bins)
        maps = self.body(rough)
        logits: Tensor = self.head(self.dropout(torch.cat([maps.mean(2), maps.amax(2)], 1)))
        return logits[:, 0]
