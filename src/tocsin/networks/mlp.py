"""Networks for rows of tables: linear layers only. Specification confusion-training 2.1 and 2.6 (EMBER)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tocsin.errors import InputError
from tocsin.networks.base import Classifier


class MLP(Classifier):
    """Rows as maps (B, F, 1, 1); hidden layers of ``widths``, each linear, ReLU, batch norm and dropout, in the papers' order.

    The defaults are the narrow network that Confusion Training trains on EMBER (F-200-100-20-1); its victim is F-4000-2000-100-1 with
    a dropout of one half. Both have one sigmoid output in the papers; here a logit a class, so that tables may have any number.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = (200, 100, 20), dropout: float = 0.0) -> None:
        super().__init__()
        inner = (channels, *widths[:-1])
        self.layers = nn.ModuleList(_Layer(i, o, dropout) for i, o in zip(inner, widths, strict=True))
        self.head = nn.Linear(widths[-1], classes)

    def stages(self) -> Sequence[nn.Module]:
        return list(self.layers)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.flatten(1)

    def features(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (1, 1):
            raise InputError(f"network: it reads rows of tables, got maps (B, C, H, W) of {tuple(x.shape)}; choose another")
        return super().features(x)


class _Layer(nn.Module):
    def __init__(self, inner: int, outer: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inner, outer), nn.ReLU(), nn.BatchNorm1d(outer), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.flatten(1))
        return out[:, :, None, None]
