"""What every network offers: logits, and the features its last layer reads."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Classifier(nn.Module):
    """A feature extractor followed by one linear layer ``head``."""

    head: nn.Linear

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to penultimate features (B, F)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits
