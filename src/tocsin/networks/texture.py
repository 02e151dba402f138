"""The auditor's network for texture: a few hundred numbers a picture, so one hidden layer is enough."""

from __future__ import annotations

from torch import Tensor, nn


class TextureNet(nn.Module):
    """Whitened texture (B, D) to logits (B, classes)."""

    def __init__(self, inner: int, classes: int, width: int = 64) -> None:
        super().__init__()
        # Batch norm before the bend: behind it, the same rounds found warps with gaps a quarter narrower (docs/confusion-training.md).
        self.hidden = nn.Sequential(nn.Linear(inner, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, width) float32."""
        out: Tensor = self.hidden(x).float()
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out
