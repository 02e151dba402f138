"""Att-RNN: two convolutions along time, two recurrent layers, attention (de Andrade et al. 2018, "A neural attention model ...")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.base import Classifier, check_values


class AlongTime(nn.Module):
    """Convolution of length 5 along time, alike in every band, ReLU, batch norm: (B, C, M, T) to (B, outer, M, T)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inner, outer, (1, 5), padding=(0, 2)), nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(F.relu(self.conv(x)))
        return normed


class Recurrent(nn.Module):
    """A bidirectional LSTM over the last axis: maps (B, C, H, T), read as C * H values at each time, to (B, 2 * width, 1, T)."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inner, width, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        check_values(x, self.lstm.input_size)
        with torch.autocast(x.device.type, enabled=False):  # mixed precision would give it weights and inputs of two types
            out: Tensor = self.lstm(x.float().flatten(1, 2).transpose(1, 2))[0]
        return out.transpose(1, 2)[:, :, None]


class AttRNN(Classifier):
    """201 thousand parameters with the published 80 bands and 36 classes; 180 thousand with our 40 bands."""

    def __init__(self, channels: int, classes: int, bands: int = 40) -> None:
        super().__init__()
        self.body = nn.Sequential(AlongTime(channels, 10), AlongTime(10, 1), Recurrent(bands, 64), Recurrent(128, 64))
        self.query = nn.Linear(128, 128)
        self.inner, self.narrow = nn.Linear(128, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, classes)

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        """The last time asks, every time answers: their weighted mean through two linear layers."""
        heard = maps[:, :, 0]  # (B, 128, T)
        weights = (self.query(heard[:, :, -1])[:, None] @ heard).softmax(dim=2)
        summed = (heard @ weights.transpose(1, 2))[:, :, 0]
        narrow: Tensor = self.narrow(F.relu(self.inner(summed)))
        return narrow
