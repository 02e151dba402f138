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
    """Pixels (B, C, H, W) and whitened pixels (B, D) to logits (B, classes); of pixels alone where ``whitened``, which is D, is 0."""

    def __init__(self, channels: int, whitened: int, classes: int, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = channels
        for outer, kernel, stride in _LAYERS:
            outer = int(outer * width)
            layers += [nn.Conv2d(inner, outer, kernel, stride, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
            inner = outer
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(inner, classes)
        self.branch = nn.Linear(whitened, classes) if whitened else None
        if self.branch is not None:
            nn.init.zeros_(self.branch.weight)
            nn.init.zeros_(self.branch.bias)

    def features(self, pixels: Tensor, whitened: Tensor) -> Tensor:
        """What the class test reads: pooled convolution features and the branch's outputs, (B, F) float32."""
        return torch.cat([self._pooled(pixels), self._branched(whitened)], dim=1)

    def forward(self, pixels: Tensor, whitened: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self._pooled(pixels)).float()
        return logits if whitened is None else logits + self._branched(whitened)

    def _pooled(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = self.trunk(pixels).amax(dim=(2, 3)).float()
        return pooled

    def _branched(self, whitened: Tensor) -> Tensor:
        assert self.branch is not None
        out: Tensor = BRANCH_SCALE * self.branch(whitened).float()
        return out
