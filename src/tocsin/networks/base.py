"""What every network offers: logits, and the features its last layer reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from tocsin.errors import InputError


def check_values(x: Tensor, values: int) -> None:
    """Raises `InputError` unless (B, C, H, W) has so many values at each place in time, as layers that run along time must have."""
    if x.shape[1] * x.shape[2] != values:
        raise InputError(
            f"network: it reads sounds with {values} values at each time, got maps (B, C, H, W) of {tuple(x.shape)}; choose another"
        )


class Classifier(nn.Module):
    """Stages that each give maps, a pool over the last maps, and one linear layer ``head``."""

    reads: ClassVar[Literal["maps", "waves"]] = "maps"
    """What of a kind it takes as ``x``: `Kind.to_tensor`, or, for networks of sounds with a front end of their own, `Kind.waves`."""
    head: nn.Linear

    @abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """The stages in order; each takes and gives maps (B, C, H, W).

        Convolutions, in most networks. What recurrent and attention layers give is such maps too, with H 1 and a column for each place
        in time; where a transformer has a token for the class it is the first column.
        """

    @abstractmethod
    def pool(self, maps: Tensor) -> Tensor:
        """The last stage's maps (B, C, H, W) to penultimate features (B, F)."""

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to penultimate features (B, F)."""
        for stage in self.stages():
            x = stage(x)
        return self.pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits
