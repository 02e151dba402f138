"""Networks whose answers can be computed by hand, and small trained victims, for the tests of the detectors that read a model."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.detectors.victim import Victim
from tocsin.kinds.image import ImageKind
from tocsin.learning import FitSettings, fit
from tocsin.networks import Classifier
from tocsin.networks.resnet import SmallResNet
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime


class LinearNet(Classifier):
    """Logits linear in the normalised pixels: ``weight`` (K, C, H, W)."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.whole = nn.Identity()
        self.head = nn.Linear(int(np.prod(weight.shape[1:])), len(weight), bias=False)
        self.head.weight.data = torch.from_numpy(weight.reshape(len(weight), -1).astype(np.float32))

    def stages(self) -> tuple[nn.Module, ...]:
        return (self.whole,)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.flatten(1)


def by_hand(weight: np.ndarray, normalised: np.ndarray) -> np.ndarray:
    """(K,) probabilities that `LinearNet` gives one normalised picture (H, W, C)."""
    logits = np.array([(weight[k] * normalised.transpose(2, 0, 1)).sum() for k in range(len(weight))])
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def noise_set(count: int, seed: int, *, classes: int = 3, size: int = 8, channels: int = 3) -> Dataset:
    """Uniform noise with random labels; with the same arguments the same."""
    rng = np.random.default_rng([seed, 1])
    x = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    return Dataset.of_arrays(x, np.arange(count) % classes, tuple(map(str, range(classes))))


def linear_victim(train: Dataset, reserve: Dataset, seed: int = 0, scale: float = 0.15) -> tuple[Victim, np.ndarray]:
    """A victim with a random `LinearNet`, and its weight (K, C, H, W)."""
    height, width, channels = train.inputs.shape[1:]
    weight = scale * np.random.default_rng([seed, 2]).normal(size=(len(train.classes), channels, height, width))
    return Victim(train, reserve, LinearNet(weight), ImageKind.of(train), Runtime(device="cpu", seed=seed)), weight


@cache
def trained(rate: float) -> tuple[Victim, np.ndarray]:
    """A small network trained on digits, of which the share ``rate`` carries a patch and the label 2; and the planted rows (N,) bool."""
    train, reserve, _ = digits(101, 1000, 600, 10)
    planted = np.zeros(len(train), bool)
    if rate:
        poisoned = poison(train, build("badnet", rate=rate, target=2), 5)
        train, planted[poisoned.planted] = poisoned.dataset, True
    runtime, kind = Runtime(device="cpu", seed=3), ImageKind.of(train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SmallResNet(1, 10, width=12)
    fit(network, train.inputs, train.labels, kind, FitSettings(epochs=5), runtime)
    return Victim(train, reserve, network, kind, runtime), planted
