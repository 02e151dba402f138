"""Is a clip marked? A small network over how far the clip is from clips that sound like it, in several views (drl-clba-speech 5.3, 7)."""

from __future__ import annotations

from torch import Tensor, nn


class Steganalyser(nn.Module):
    """Distances (B, views), standardised, to logits (B,): above 0 is marked.

    It is small on purpose: with finer distances, or convolutions along the spectrum, it learns the marks that it is shown and is worse at
    others (docs/audio-stego.md).
    """

    def __init__(self, views: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(views, width), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits[:, 0]
