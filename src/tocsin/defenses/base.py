"""What every model-side defence takes and gives back, and how those that train anew begin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import ClassVar

import torch

from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds import Kind, kind_of
from tocsin.networks import Classifier
from tocsin.runtime import Runtime


class Defense(ABC):
    """Base of the defences of a network: a frozen dataclass whose fields are the hyper-parameters, a sentence each."""

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    trusts: ClassVar[frozenset[str]] = frozenset({"reserve"})
    """What it learns from: reserve, train (poison and all, with its labels), or both. Those that do from ``train`` train anew (`anew`)."""

    @abstractmethod
    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        """A mended copy of ``network``, in eval mode on the runtime's device; the network given stays as it is.

        ``train``: what it was trained on, poison and all. ``reserve``: clean samples of the same classes; of the two a defence learns
        from those in `trusts`. ``kind``: how the network reads samples; None: `kind_of` ``train``, as ordinary victims do. Everything
        random derives from ``runtime.seed``. Raises `InputError` for data that do not belong together.
        """

    def check(self, train: Dataset, reserve: Dataset, kind: Kind | None) -> Kind:
        """How the network reads samples. Raises `InputError` where the two data sets or the kind do not fit."""
        if train.kind not in self.kinds:
            raise InputError(f"defense {self.name}: works on {', '.join(sorted(self.kinds))} data, got {train.kind}")
        if (train.kind, train.rate, train.classes) != (reserve.kind, reserve.rate, reserve.classes):
            raise InputError("reserve: must have the kind, sampling rate and classes of the training data")
        if train.inputs.shape[1:] != reserve.inputs.shape[1:]:
            raise InputError(f"reserve: samples are {reserve.inputs.shape[1:]}, those of the training set {train.inputs.shape[1:]}")
        return kind or kind_of(train)


def anew(network: Classifier, seed: int) -> Classifier:
    """A copy whose weights are drawn again, as if it had just been built with ``seed``; running statistics are forgotten too."""
    fresh, state, drawn = deepcopy(network).cpu(), torch.random.get_rng_state(), set[int]()
    torch.manual_seed(seed)
    for module in fresh.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
            drawn |= {id(weight) for weight in module.parameters()}
    for weight in fresh.parameters():  # tokens and places, which are of no layer
        if id(weight) not in drawn:
            torch.nn.init.normal_(weight, 0.0, 0.02)
    torch.random.set_rng_state(state)
    return fresh
