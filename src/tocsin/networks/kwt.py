"""KWT-1: a transformer with a token for each frame (Berg et al. 2021, "Keyword Transformer")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.base import Classifier, check_values


def stretched(table: Tensor, places: int) -> Tensor:
    """(P, D) values at evenly spaced places, interpolated linearly to ``places`` of them: (places, D).

    A product with a matrix, not `F.interpolate`, whose gradient is not the same from run to run on a GPU.
    """
    if places == len(table):
        return table
    at = torch.linspace(0, len(table) - 1, places, device=table.device)
    hats = (1 - (at[:, None] - torch.arange(len(table), device=table.device)).abs()).clamp(min=0)
    spread: Tensor = hats @ table
    return spread


class Tokens(nn.Module):
    """Each frame of (B, C, M, T) made a token, a class token before them, positions added: (B, dim, 1, 1 + T)."""

    def __init__(self, values: int, dim: int, frames: int, dropout: float) -> None:
        super().__init__()
        self.embed, self.dropout = nn.Linear(values, dim), nn.Dropout(dropout)
        self.token, self.place = nn.Parameter(torch.randn(1, dim) * 0.02), nn.Parameter(torch.randn(1 + frames, dim) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        check_values(x, self.embed.in_features)
        frames = self.embed(x.flatten(1, 2).transpose(1, 2))
        places = torch.cat([self.place[:1], stretched(self.place[1:], frames.shape[1])])
        tokens = torch.cat([self.token.expand(len(x), 1, -1).to(frames.dtype), frames], dim=1) + places
        out: Tensor = self.dropout(tokens)
        return out.transpose(1, 2)[:, :, None]


class Layer(nn.Module):
    """Attention among all places and a small network at each, each beside an identity, norms behind: (B, dim, 1, T) to the same."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.read, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, maps: Tensor) -> Tensor:
        x = maps[:, :, 0].transpose(1, 2)
        x = self.norm1(x + self.out(self._attended(x)))
        x = self.norm2(x + self.narrow(F.gelu(self.wide(x))))
        out: Tensor = x.transpose(1, 2)[:, :, None]
        return out

    def _attended(self, x: Tensor) -> Tensor:
        batch, places, dim = x.shape
        query, key, value = self.read(x).reshape(batch, places, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) * (dim // self.heads) ** -0.5).softmax(dim=3)
        mixed: Tensor = weights.to(value.dtype) @ value
        return mixed.transpose(1, 2).reshape(batch, places, dim)


class KWT(Classifier):
    """KWT-1: 12 layers of 64 values, one head, 607 thousand parameters. Positions are kept for 98 frames and stretched to others."""

    def __init__(
        self, channels: int, classes: int, dim: int = 64, heads: int = 1, depth: int = 12, bands: int = 40, frames: int = 98
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(Tokens(channels * bands, dim, frames, 0.1), *(Layer(dim, heads, 4 * dim) for _ in range(depth)))
        self.head = nn.Linear(dim, classes)

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        """What the class token, the first column, has gathered."""
        return maps[:, :, 0, 0]
