"""NAD: Li, Lyu, Koren, Lyu, Li, Ma, "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural Networks", ICLR 2021.

A copy of the poisoned network, fine-tuned on clean samples, is the teacher; another copy is trained on the same samples to look where the
teacher looks. Where a stage looks is told by its attention map, the sum of its channels' squares at each place. Settings: the
specification confusion-training 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense
from tocsin.defenses.finetune import FineTune
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import OptimizerName, fit
from tocsin.networks import Classifier
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class NAD(Defense):
    """Attention distillation: the network learns to look where a fine-tuned copy of it looks, and so away from the trigger."""

    name: ClassVar[str] = "nad"
    # On tables maps have a single place, and nowhere else to look.
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})

    epochs: int = 20
    """Passes over the reserve."""
    teacher_epochs: int = 10
    """Passes of fine-tuning that make the teacher."""
    lr: float = 0.1
    """Highest learning rate of the teacher's cycle and of the student's (published: steps down from it)."""
    batch: int = 64
    """Samples a step."""
    beta: tuple[float, ...] = (0.5, 4.0, 16.0)
    """Weights of the attention maps of the last stages, in order, against the cross entropy. Published: 500, 1000 and 1000 times the mean
    over 32 x 32, 16 x 16 and 8 x 8 places; these are of the sum, which maps of any size have alike."""
    optimizer: OptimizerName = "sgd"
    """sgd or adamw; attention and recurrent layers need the second, and a rate of 1e-3 or so."""

    def __post_init__(self) -> None:
        self.teaching  # noqa: B018 (refuses what cannot be)
        if self.epochs < 1 or not self.beta or not all(0 <= weight < float("inf") for weight in self.beta):
            raise InputError(f"epochs {self.epochs}, beta {self.beta}: allowed are epochs from 1 and one weight or more, from 0")

    @property
    def teaching(self) -> FineTune:
        """What makes the teacher."""
        return FineTune(epochs=self.teacher_epochs, lr=self.lr, batch=self.batch, optimizer=self.optimizer)

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        reads = self.check(train, reserve, kind)
        teacher = self.teaching.repair(network, train, reserve, runtime, kind=reads).requires_grad_(False)
        student = deepcopy(network)

        def beside(x: Tensor) -> tuple[Tensor, Tensor]:
            logits, seen = answered(student, x)
            with torch.no_grad():
                shown = answered(teacher, x)[1]
            return logits, self.apart(seen, shown)

        how = replace(self.teaching.training, epochs=self.epochs)
        return fit(student, reserve.inputs, reserve.labels, reads, how, runtime, stage="distilling attention", beside=beside)

    def apart(self, seen: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """How differently two networks look at a batch: from the maps (B, C, H, W) of their stages, the last ones weighted by `beta`."""
        weights = self.beta[-len(seen) :]
        pairs = zip(seen[-len(weights) :], shown[-len(weights) :], weights, strict=True)
        return torch.stack([weight * (attention(a) - attention(b)).square().sum(1).mean() for a, b, weight in pairs]).sum()


def attention(maps: Tensor) -> Tensor:
    """(B, H * W) float32 of length 1: the sum of the squares of the channels of ``maps`` (B, C, H, W) at each place."""
    return F.normalize(maps.float().square().sum(1).flatten(1), dim=1)


def answered(network: Classifier, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits of (B, C, H, W), and the maps of every stage."""
    maps = []
    for stage in network.stages():
        x = stage(x)
        maps.append(x)
    return network.head(network.pool(x)), maps
