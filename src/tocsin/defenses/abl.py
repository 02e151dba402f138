"""ABL: Li, Lyu, Koren, Lyu, Li, Ma, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data", NeurIPS 2021; all of its steps.

A network is trained anew: shortly, while its loss is held up, so that what is learned at once shows (that is the detector `abl`); the
samples of the lowest loss are set aside; the network goes on learning from the others; and at last it unlearns those that were set aside,
while it is held to the others. Settings: the specification confusion-training 4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense, anew
from tocsin.detectors.abl import Ascent, held_up, log_odds
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import FitSettings, OptimizerName, batch_norms, fit, gatherer, predict, tensor_for
from tocsin.networks import Classifier
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class ABL(Defense):
    """Anti-backdoor learning: trains anew on the suspect data, without and then against the samples that were learned at once."""

    name: ClassVar[str] = "abl"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech", "table"})
    trusts: ClassVar[frozenset[str]] = frozenset({"train"})

    share: float = 0.01
    """Share of the training set that is set aside and unlearned (published; the toolbox takes 0.001 of pictures)."""
    isolating: int = 5
    """Passes in which the loss is held up, without augmentation (published: 20)."""
    floor: float = 0.5
    """Mean loss of a batch, in nats, below which it is driven back up."""
    ascent: Ascent = "lga"
    """lga (published): sign(loss - floor) loss, local gradient ascent; flooding: |loss - floor| + floor, as in the toolbox."""
    epochs: int = 20
    """Passes over the others, with augmentation (published: 60)."""
    lr: float = 0.1
    """Highest learning rate of these and of the first passes."""
    unlearning: int = 5
    """Passes over the others in which those that were set aside are unlearned (published: 20)."""
    unlearning_lr: float = 5e-4
    """Highest learning rate of these (published)."""
    batch: int = 64
    """Samples a step."""
    optimizer: OptimizerName = "sgd"
    """sgd or adamw; attention and recurrent layers need the second, and rates of 1e-3 or so."""

    def __post_init__(self) -> None:
        self.training  # noqa: B018 (refuses what cannot be)
        if not 0 < self.share < 1 or min(self.isolating, self.unlearning) < 1 or not min(self.floor, self.unlearning_lr) > 0:
            raise InputError(
                f"share {self.share}, isolating {self.isolating}, unlearning {self.unlearning}, floor {self.floor}, unlearning_lr "
                f"{self.unlearning_lr}: allowed are a share between 0 and 1, passes from 1, and a floor and rates above 0"
            )
        if self.ascent not in get_args(Ascent):
            raise InputError(f"ascent: got {self.ascent!r}, allowed: {', '.join(get_args(Ascent))}")

    @property
    def training(self) -> FitSettings:
        """How the others are learned."""
        return FitSettings(epochs=self.epochs, lr=self.lr, batch=self.batch, optimizer=self.optimizer)

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        reads = self.check(train, reserve, kind)
        fresh = anew(network, runtime.seed)
        aside = self.isolated(fresh, train, reads, runtime)
        rest = np.setdiff1d(np.arange(len(train)), aside)
        fit(fresh, train.inputs[rest], train.labels[rest], reads, self.training, runtime, stage="learning from the others")
        return self.unlearned(fresh, train[rest], train[aside], reads, runtime)

    def isolated(self, network: Classifier, train: Dataset, kind: Kind, runtime: Runtime) -> np.ndarray:
        """Sorted rows of the ``share`` that ``network``, which is trained in place, has the lowest loss of; one at least."""
        how, bend = replace(self.training, epochs=self.isolating, augment=False), partial(held_up, floor=self.floor, ascent=self.ascent)
        fit(network, train.inputs, train.labels, kind, how, runtime, stage="isolating", bend=bend)
        sure = log_odds(predict(network, train.inputs, kind, runtime, stage="reading losses"), train.labels)
        return np.sort(np.argsort(-sure, kind="stable")[: max(1, math.floor(self.share * len(train)))])

    def unlearned(self, network: Classifier, others: Dataset, aside: Dataset, kind: Kind, runtime: Runtime) -> Classifier:
        """``network``, in place, after descending the loss of the ``others`` and `unlikelihood` of as many samples ``aside``, a step.

        Batch norm reads the samples aside by the statistics that it has, which they take no part in.
        """
        device = runtime.torch_device()
        gather, answers = gatherer(aside.inputs, device), torch.from_numpy(np.array(aside.labels, np.int64)).to(device)
        generator = torch.Generator().manual_seed(runtime.seed + 1)
        norms = batch_norms(network)

        def beside(x: Tensor) -> tuple[Tensor, Tensor]:
            rows = torch.randint(0, len(aside), (len(x),), generator=generator)
            logits = network(x)
            for norm in norms:
                norm.eval()
            told = network(tensor_for(network, kind, gather(rows)))
            for norm in norms:
                norm.train()
            return logits, unlikelihood(told, answers[rows.to(device)])

        how = replace(self.training, epochs=self.unlearning, lr=self.unlearning_lr)
        return fit(network, others.inputs, others.labels, kind, how, runtime, stage="unlearning", beside=beside)


def unlikelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of minus log (1 - p) of ``labels`` (B,), a scalar; ``logits`` (B, C).

    The paper climbs -log p instead. That has no bound, and where the network is sure, as it is of its backdoor, no slope to begin with.
    """
    others = logits.float().scatter(1, labels[:, None], -torch.inf)
    return (logits.float().logsumexp(1) - others.logsumexp(1)).mean()
