"""The auditor's network: greedy for shortcuts, not for accuracy.

Strided convolutions with a global maximum see a patch wherever it is; one linear layer on whitened pixels beside them sees a
faint pattern over the whole frame, which small convolutions learn late or never (docs/confusion-training.md, "what we changed").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BRANCH_SCALE = 0.2
"""The linear branch's output times this: keeps its first steps small, since whitened pixels have some 3,000 unit directions."""

# Output channels, kernel, stride of each convolution. Stride, not pooling: a max pool costs a CPU more than the convolution before it.
_LAYERS = ((24, 4, 2), (48, 3, 2), (64, 3, 2), (64, 3, 1))


class ShortcutNet(nn.Module):
    """Pixels (B, C, H, W) and whitened pixels (B, D) to logits (B, classes)."""

    def __init__(self, channels: int, whitened: int, classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.trunk, inner = _trunk(channels, width)
        self.head = nn.Linear(inner, classes)
        self.branch = nn.Linear(whitened, classes)
        nn.init.zeros_(self.branch.weight)
        nn.init.zeros_(self.branch.bias)

    def features(self, pixels: Tensor, whitened: Tensor) -> Tensor:
        """What the class test reads: pooled convolution features and the branch's outputs, (B, F) float32."""
        return torch.cat([self._pooled(pixels), BRANCH_SCALE * self.branch(whitened).float()], dim=1)

    def forward(self, pixels: Tensor, whitened: Tensor) -> Tensor:
        logits: Tensor = self.head(self._pooled(pixels)).float() + BRANCH_SCALE * self.branch(whitened).float()
        return logits

    def _pooled(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = self.trunk(pixels).amax(dim=(2, 3)).float()
        return pooled


class TrunkNet(nn.Module):
    """The convolutions of `ShortcutNet` alone: pixels (B, C, H, W) to logits (B, classes)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk, inner = _trunk(channels, 1.0)
        self.head = nn.Linear(inner, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.trunk(pixels).amax(dim=(2, 3)).float())
        return logits


def _trunk(channels: int, width: float) -> tuple[nn.Sequential, int]:
    """The convolutions, and the channels that they give."""
    layers: list[nn.Module] = []
    inner = channels
    for outer, kernel, stride in _LAYERS:
        outer = int(outer * width)
        layers += [nn.Conv2d(inner, outer, kernel, stride, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
        inner = outer
    return nn.Sequential(*layers), inner
