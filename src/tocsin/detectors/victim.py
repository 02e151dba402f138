"""The Victim: the ordinary model trained on the suspect data. All passive detectors read one and the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import log_softmax

from tocsin.data.dataset import Dataset
from tocsin.kinds import Kind, kind_of
from tocsin.learning import features, fit, usual_settings
from tocsin.networks import Classifier, build_network
from tocsin.runtime import Runtime


@dataclass(frozen=True, eq=False)
class Victim:
    """A trained network and what it says of the inspected and of the reserve samples, each computed once, when first asked for."""

    train: Dataset
    """What is inspected, and what the network was trained on."""
    reserve: Dataset
    """Clean samples that the network has not seen."""
    network: Classifier
    kind: Kind
    runtime: Runtime
    untuned: Classifier | None = None
    """The network as it was before it was tuned to ``train`` and ``reserve`` (setting transfer)."""

    @classmethod
    def trained(
        cls, train: Dataset, reserve: Dataset, runtime: Runtime, *, network: str | None = None, epochs: int | None = None
    ) -> Victim:
        """An ordinary ``network`` (a name of `NETWORKS`; None: the kind's) trained on ``train`` with augmentation for ``epochs`` passes
        (None: as many as is usual for it). Raises `InputError`."""
        kind = kind_of(train)
        name = network or kind.network
        usual = usual_settings(name)
        model = build_network(name, kind.channels, len(train.classes), runtime.seed)
        how = usual if epochs is None else replace(usual, epochs=epochs)
        fit(model, train.inputs, train.labels, kind, how, runtime, stage="training the victim")
        return cls(train, reserve, model, kind, runtime)

    @classmethod
    def untrained(cls, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        """For methods that read no network: the data with one that has only its first weights."""
        kind = kind_of(train)
        return cls(train, reserve, build_network(kind.network, kind.channels, len(train.classes), runtime.seed), kind, runtime)

    def holding(self, features: np.ndarray, reserve_features: np.ndarray) -> Victim:
        """This victim with features, (N, F) and (M, F) float32, that the same network gave before; returns itself."""
        vars(self).update(features=features, reserve_features=reserve_features)  # where cached_property looks first
        return self

    @cached_property
    def features(self) -> np.ndarray:
        """(N, F) float32 penultimate features of the inspected samples."""
        return features(self.network, self.train.inputs, self.kind, self.runtime)

    @cached_property
    def reserve_features(self) -> np.ndarray:
        """(M, F) float32 penultimate features of the reserve."""
        return features(self.network, self.reserve.inputs, self.kind, self.runtime)

    @cached_property
    def untuned_features(self) -> np.ndarray | None:
        """(N + M, F) float32 penultimate features of the inspected, then of the reserve, by the untuned network; None without one."""
        if self.untuned is None:
            return None
        if self.untuned is self.network:  # its last layer alone was tuned
            return np.concatenate([self.features, self.reserve_features])
        return np.concatenate([features(self.untuned, data.inputs, self.kind, self.runtime) for data in (self.train, self.reserve)])

    @cached_property
    def logits(self) -> np.ndarray:
        """(N, C) float32."""
        return self._head(self.features)

    @cached_property
    def reserve_logits(self) -> np.ndarray:
        """(M, C) float32."""
        return self._head(self.reserve_features)

    @cached_property
    def losses(self) -> np.ndarray:
        """(N,) float32 cross entropy of the given labels."""
        logs = log_softmax(self.logits, axis=1)
        return np.asarray(-logs[np.arange(len(logs)), self.train.labels], np.float32)

    def _head(self, inner: np.ndarray) -> np.ndarray:
        weight = self.network.head.weight.detach().float().cpu().numpy()
        bias = self.network.head.bias.detach().float().cpu().numpy()
        return np.asarray(inner @ weight.T + bias, np.float32)
