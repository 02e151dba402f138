"""The networks, one family a file. To add one: its file and a line in `NETWORKS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tocsin.errors import InputError
from tocsin.networks.att_rnn import AttRNN
from tocsin.networks.base import Classifier
from tocsin.networks.eat import EAT
from tocsin.networks.kwt import KWT
from tocsin.networks.mlp import MLP
from tocsin.networks.res15 import Res15
from tocsin.networks.resnet import ResNet18, SmallResNet
from tocsin.networks.tc_resnet import TCResNet8
from tocsin.params import closest

NETWORKS: dict[str, Callable[[int, int], Classifier]] = {
    "small": SmallResNet,
    "small-narrow": partial(SmallResNet, width=8),
    "resnet18": ResNet18,
    "resnet18-narrow": partial(ResNet18, widths=(16, 32, 48, 64)),
    "tc-resnet8": TCResNet8,
    "res15": Res15,
    "att-rnn": AttRNN,
    "kwt-1": KWT,
    "eat-s": EAT,
    "mlp": MLP,
    "ember-mlp": partial(MLP, widths=(4000, 2000, 100), dropout=0.5),
}
"""Name -> (channels, classes) -> network with fresh weights. ``tc-resnet8`` to ``kwt-1`` read sounds of 40 bands, ``eat-s`` their
waveforms, the last two rows of tables."""

__all__ = ["NETWORKS", "Classifier", "build_network"]


def build_network(name: str, channels: int, classes: int, seed: int) -> Classifier:
    """A network of ``NETWORKS`` whose first weights depend on ``seed`` alone. Raises `InputError` for an unknown name."""
    if name not in NETWORKS:
        raise InputError(f"network: unknown network {name!r}{closest(name, NETWORKS)} (allowed: {', '.join(NETWORKS)})")
    with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator; give it back as it was
        torch.manual_seed(seed)
        network = NETWORKS[name](channels, classes)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
