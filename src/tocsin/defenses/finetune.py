"""Fine-tuning: train the poisoned network on, with clean samples alone. Specification drl-clba-speech 5.2."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense
from tocsin.kinds import Kind
from tocsin.learning import FitSettings, OptimizerName, fit
from tocsin.networks import Classifier
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class FineTune(Defense):
    """Some passes over the clean reserve at a low rate: what only the poison taught is forgotten, or so one hopes."""

    name: ClassVar[str] = "finetune"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech", "table"})

    epochs: int = 20
    """Passes over the reserve."""
    lr: float = 0.01
    """Highest learning rate; with adamw 1e-4 is usual."""
    batch: int = 64
    """Samples a step."""
    optimizer: OptimizerName = "sgd"
    """sgd or adamw; attention and recurrent layers need the second."""

    def __post_init__(self) -> None:
        self.training  # noqa: B018 (refuses what cannot be)

    @property
    def training(self) -> FitSettings:
        """The settings of the training loop."""
        return FitSettings(epochs=self.epochs, lr=self.lr, batch=self.batch, optimizer=self.optimizer)

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        reads = self.check(train, reserve, kind)
        return fit(deepcopy(network), reserve.inputs, reserve.labels, reads, self.training, runtime, stage="fine-tuning")
