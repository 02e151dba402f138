"""What every network offers: logits, and the features its last layer reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Classifier(nn.Module):
    """Convolutional stages, a pool over their last maps, and one linear layer ``head``."""

    head: nn.Linear

    @abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """The convolutional stages in order; each takes and gives maps (B, C, H, W)."""

    @abstractmethod
    def pool(self, maps: Tensor) -> Tensor:
        """The last stage's maps (B, F, H, W) to penultimate features (B, F)."""

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to penultimate features (B, F)."""
        for stage in self.stages():
            x = stage(x)
        return self.pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits
