"""Neural Cleanse: Wang, Yao, Shan, Li, Viswanath, Zheng, Zhao, "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks", IEEE S&P 2019.

For each class the smallest patch is sought that sends all clean pictures to it. The target of a backdoor needs far less than the others;
then the network is taught that the patch means nothing. Settings: the specification confusion-training 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import FitSettings, autocast, descend, deterministic, fit, gatherer, seeded, tensor_for
from tocsin.networks import Classifier
from tocsin.runtime import Runtime
from tocsin.stats.robust import mad_index

_DOWN = 1.5
"""The weight of the mask's size falls by this power of the factor by which it rises."""
_ENDS = 0.999
"""Of the way to 0 and 1, where a search begins at a patch; at the ends themselves nothing moves it."""


@dataclass(frozen=True)
class Inverted:
    """The smallest patch found that sends pictures to one class."""

    mask: np.ndarray
    """(H, W) float32 in 0..1: how far the pattern covers each pixel."""
    pattern: np.ndarray
    """(H, W, C) float32 in 0..255."""
    success: float
    """Share of the pictures that it sends there; where that stayed below what is wanted, the mask is the whole picture's."""

    @property
    def size(self) -> float:
        """Sum of the mask, in pixels."""
        return float(self.mask.sum())

    @property
    def free(self) -> Tensor:
        """(H, W, 1 + C) of which `mask_and_pattern` makes this patch, short of the very ends of what they can be."""
        bounded = torch.from_numpy(np.concatenate([self.mask[..., None], self.pattern / 255], axis=2))
        return torch.atanh((2 * bounded - 1) * _ENDS)

    def stamped(self, inputs: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, C) with the patch."""
        mixed = (1 - self.mask[..., None]) * inputs + self.mask[..., None] * self.pattern
        return np.asarray(np.rint(np.clip(mixed, 0, 255)), np.uint8)


@dataclass(frozen=True)
class NeuralCleanse(Defense):
    """Seeks, for each class, the smallest patch that leads to it; if one class needs far less than the others, unlearns its patch."""

    name: ClassVar[str] = "neural-cleanse"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})

    epochs: int = 30
    """Most passes over the reserve for each class."""
    batch: int = 32
    """Pictures a step."""
    lr: float = 0.1
    """Of Adam (0.5, 0.9) on mask and pattern."""
    cost: float = 1e-3
    """First weight of the mask's size against the cross entropy."""
    factor: float = 1.5
    """The weight rises by this after ``patience`` passes of success, and falls by its power of 1.5 after as many without."""
    success: float = 0.99
    """Share of the pictures that a patch must send to its class."""
    patience: int = 5
    """Passes; after twice as many without a smaller patch the search ends, once the weight has moved both ways."""
    limit: float = 2.0
    """Deviations (median absolute deviation) below the median size at which a class is suspect."""
    stamped: float = 0.2
    """Share of the reserve that is stamped, under its true labels, to unlearn the patch."""
    unlearning: int = 10
    """Passes over the reserve to unlearn it (published: one over ten times as many clean pictures)."""
    unlearning_lr: float = 0.01
    """Highest learning rate of these."""

    def __post_init__(self) -> None:
        self.training  # noqa: B018 (refuses what cannot be)
        shares = {"success": self.success, "stamped": self.stamped}
        if wrong := [f"{name} {value}" for name, value in shares.items() if not 0 < value < 1]:
            raise InputError(f"{', '.join(wrong)}: allowed are shares between 0 and 1")
        if min(self.epochs, self.patience) < 1 or self.batch < 2 or not self.factor > 1 or not min(self.lr, self.cost, self.limit) > 0:
            raise InputError(
                f"epochs {self.epochs}, patience {self.patience}, batch {self.batch}, factor {self.factor}, lr {self.lr}, "
                f"cost {self.cost}, limit {self.limit}: "
                "allowed are epochs and patience from 1, a batch from 2, a factor above 1 and the others above 0"
            )

    @property
    def training(self) -> FitSettings:
        """How the patch is unlearned."""
        return FitSettings(epochs=self.unlearning, lr=self.unlearning_lr, batch=self.batch)

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        """A copy that is unchanged where no class is suspect."""
        reads, mended = self.check(train, reserve, kind), deepcopy(network).to(runtime.torch_device()).eval()
        found = self.inverted(network, reserve, reads, runtime)
        suspect = self.suspect([one.size for one in found])
        if suspect is None:
            return mended
        rng = np.random.default_rng([runtime.seed, 0xC1EA])
        rows = rng.permutation(len(reserve))[: round(self.stamped * len(reserve))]
        inputs = np.array(reserve.inputs)
        inputs[rows] = found[suspect].stamped(inputs[rows])
        return fit(mended, inputs, reserve.labels, reads, self.training, runtime, stage="unlearning the patch")

    def inverted(self, network: Classifier, reserve: Dataset, kind: Kind, runtime: Runtime) -> list[Inverted]:
        """By class, the smallest patch that leads to it from the pictures of ``reserve``."""
        device = runtime.torch_device()
        still = deepcopy(network).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        gather, out = gatherer(reserve.inputs, device), []
        with deterministic(device), seeded(device, runtime.seed):
            for goal in range(len(reserve.classes)):
                out.append(self.smallest(still, gather, reserve, kind, goal, runtime))
                runtime.progress("inverting triggers", (goal + 1) / len(reserve.classes))
        return out

    def suspect(self, sizes: Sequence[float]) -> int | None:
        """The class whose patch is smallest, if it is an outlier among the ``sizes`` (classes,); else None."""
        smallness = mad_index(-np.asarray(sizes, np.float64))
        least = int(smallness.argmax())
        return least if smallness[least] > self.limit else None

    def smallest(
        self,
        network: Classifier,
        gather: Callable[[Tensor], Tensor],
        reserve: Dataset,
        kind: Kind,
        goal: int,
        runtime: Runtime,
        *,
        start: Inverted | None = None,
    ) -> Inverted:
        """The search for one class; ``gather`` gives rows of the ``reserve``. ``start``: where it begins, instead of anywhere."""
        device, (height, width, channels) = runtime.torch_device(), reserve.inputs.shape[1:]
        generator = torch.Generator().manual_seed(runtime.seed)
        free = torch.zeros(height, width, 1 + channels).uniform_(-1, 1, generator=generator) if start is None else start.free
        free = free.to(device).requires_grad_(True)
        optimizer = torch.optim.Adam([free], self.lr, betas=(0.5, 0.9))
        best = Inverted(*whole(reserve), success=0.0)
        weight, good, bad, stale, moved = self.cost, 0, 0, 0, set[str]()
        for _ in range(self.epochs):
            hits = torch.zeros((), device=device)
            order = torch.randperm(len(reserve), generator=generator)
            for rows in torch.split(order, self.batch):
                x = gather(rows).float()
                mask, pattern = mask_and_pattern(free)
                with autocast(device):
                    logits = network(tensor_for(network, kind, (1 - mask) * x + mask * pattern)).float()
                answers = torch.full((len(rows),), goal, device=device)
                hits += (logits.argmax(1) == answers).sum()
                descend(optimizer, F.cross_entropy(logits, answers) + weight * mask.sum())
            share = float(hits) / len(reserve)
            mask, pattern = mask_and_pattern(free.detach())
            if share >= self.success and float(mask.sum()) < best.size:
                best, stale = Inverted(mask[..., 0].cpu().numpy(), pattern.cpu().numpy(), share), 0
            else:
                stale += 1
            good, bad = (good + 1, 0) if share >= self.success else (0, bad + 1)
            if good >= self.patience:
                weight, good = weight * self.factor, 0
                moved.add("up")
            elif bad >= self.patience:
                weight, bad = weight / self.factor**_DOWN, 0
                moved.add("down")
            if stale >= 2 * self.patience and len(moved) == 2:
                break
        return best


def mask_and_pattern(free: Tensor) -> tuple[Tensor, Tensor]:
    """((H, W, 1) mask in 0..1, (H, W, C) pattern in 0..255) of what is searched: (H, W, 1 + C), any numbers (tanh)."""
    bounded = (torch.tanh(free) + 1) / 2
    return bounded[..., :1], 255 * bounded[..., 1:]


def whole(reserve: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """A mask over all of the picture, and a grey pattern: what is taken where no patch sends the pictures to a class."""
    height, width, channels = reserve.inputs.shape[1:]
    return np.ones((height, width), np.float32), np.full((height, width, channels), 127.5, np.float32)
