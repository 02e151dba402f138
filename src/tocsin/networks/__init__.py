"""The networks, one family a file. To add one: its file and a line in `NETWORKS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tocsin.errors import InputError
from tocsin.networks.base import Classifier
from tocsin.networks.resnet import ResNet18, SmallResNet
from tocsin.params import closest

NETWORKS: dict[str, Callable[[int, int], Classifier]] = {
    "small": SmallResNet,
    "resnet18": ResNet18,
    "resnet18-narrow": partial(ResNet18, widths=(16, 32, 48, 64)),
}
"""Name -> (channels, classes) -> network with fresh weights."""

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
