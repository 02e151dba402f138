"""The victim: an ordinary network trained on a data set, its accuracy (ACC) and the attack's success rate (ASR) on it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tocsin.attacks.base import Attack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds.image import ImageKind
from tocsin.learning import FitSettings, fit, predict
from tocsin.networks import build_network
from tocsin.poisoning import attack_of
from tocsin.runtime import Runtime

__all__ = ["VictimResult", "attack_of", "train_victim"]


@dataclass(frozen=True)
class VictimResult:
    """What one victim does on the test set. Shares are in 0..1."""

    network: str
    samples: int
    """Size of the training set."""
    acc: float
    """Share of clean test samples classified as labelled."""
    asr: float | None
    """Share of the attack's victims that the trigger sends to the target; None without an attack."""
    asr_without_trigger: float | None
    """The same share with the trigger left off: what the ASR is on a sound network, by confusion alone."""
    victims: int
    """How many test samples the ASR is measured on."""
    seconds: float
    """Of training and testing."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def train_victim(
    train: Dataset,
    test: Dataset,
    attack: Attack | None = None,
    *,
    network: str = "small",
    settings: FitSettings | None = None,
    runtime: Runtime | None = None,
    flip: bool = False,
) -> VictimResult:
    """Trains an ordinary network on ``train`` (a data set, or what an audit kept of it: ``train[~flagged]``) and tests it.

    ``test`` is clean; the attack's trigger is put on those of its samples that are the attack's victims. ``attack``: None
    measures ACC only; `attack_of` gives it from a poisoned set's manifest. ``network``: a name of `NETWORKS`. ``flip``: mirrored
    pictures as augmentation. Raises `InputError` for data sets that do not belong together and unknown networks.
    """
    _check(train, test)
    settings, runtime = settings or FitSettings(), runtime or Runtime()
    start = time.perf_counter()
    kind = ImageKind.of(train, flip=flip)
    model = build_network(network, train.inputs.shape[-1], len(train.classes), runtime.seed)
    fit(model, train.inputs, train.labels, kind, settings, runtime, stage="training the victim")
    guess = predict(model, test.inputs, kind, runtime, stage="testing the victim").argmax(axis=1)
    asr = baseline = None
    rows = np.empty(0, np.int64)
    if attack is not None:
        rows = np.flatnonzero(attack.victims(test.labels))
        if not len(rows):
            raise InputError(f"test set: has no sample that the attack {attack.name!r} is measured on (target class {attack.target})")
        triggered = predict(model, attack.trigger(test.inputs[rows]), kind, runtime, stage="testing the trigger").argmax(axis=1)
        goal = attack.goal(test.labels[rows])
        asr, baseline = float(np.mean(triggered == goal)), float(np.mean(guess[rows] == goal))
    acc = float(np.mean(guess == test.labels))
    return VictimResult(network, len(train), acc, asr, baseline, len(rows), time.perf_counter() - start)


def _check(train: Dataset, test: Dataset) -> None:
    if train.kind != "image" or test.kind != "image":
        raise InputError(f"kind: a victim can be trained on image data, got {train.kind} for training and {test.kind} for the test")
    if train.classes != test.classes:
        only = sorted(set(train.classes) ^ set(test.classes))[:5]
        raise InputError(
            f"test set: its classes are not those of the training set (in one only: {', '.join(only) or 'none, the order differs'})"
        )
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise InputError(f"test set: samples are {test.inputs.shape[1:]}, those of the training set {train.inputs.shape[1:]}")
    if not len(test):
        raise InputError("test set: is empty")
