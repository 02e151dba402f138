"""The victim: an ordinary network trained on a data set, its accuracy (ACC) and the attack's success rate (ASR) on it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tocsin.attacks.base import Attack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds import Kind, kind_of
from tocsin.learning import FitSettings, fit, predict, usual_settings
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import attack_of
from tocsin.runtime import Runtime

__all__ = ["Measured", "Trial", "VictimResult", "attack_of", "check_test", "measure", "train_victim"]


@dataclass(frozen=True, eq=False)
class Trial:
    """The test samples on which the attack is tried, with its trigger on them."""

    rows: np.ndarray
    """(V,) int64 rows of the test set."""
    inputs: np.ndarray
    """(V, ...) those samples with the trigger."""
    goal: np.ndarray
    """(V,) int64 the class that the trigger leads each of them to."""

    @classmethod
    def of(cls, attack: Attack, test: Dataset) -> Trial:
        """The attack's victims in ``test``. Raises `InputError` where there are none."""
        rows = np.flatnonzero(attack.victims(test.labels))
        if not len(rows):
            raise InputError(f"test set: has no sample that the attack {attack.name!r} is measured on (target class {attack.target})")
        return cls(rows, attack.trigger(test.inputs[rows]), attack.goal(test.labels[rows]))


@dataclass(frozen=True)
class Measured:
    """What one network does on the test set. Shares are in 0..1."""

    acc: float
    """Share of clean test samples classified as labelled."""
    asr: float | None
    """Share of the attack's victims that the trigger sends to the target; None without an attack."""
    asr_without_trigger: float | None
    """The same share with the trigger left off: what the ASR is on a sound network, by confusion alone."""
    victims: int
    """How many test samples the ASR is measured on."""


@dataclass(frozen=True)
class VictimResult(Measured):
    """What one victim, trained for the purpose, does on the test set."""

    network: str
    samples: int
    """Size of the training set."""
    seconds: float
    """Of training and testing."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def measure(network: Classifier, test: Dataset, kind: Kind, runtime: Runtime, trial: Trial | None = None) -> Measured:
    """ACC of ``network`` on the clean ``test``, and the ASR of the attack in ``trial``, which was made from the same test set."""
    guess = predict(network, test.inputs, kind, runtime, stage="testing the victim").argmax(axis=1)
    acc = float(np.mean(guess == test.labels))
    if trial is None:
        return Measured(acc, None, None, 0)
    triggered = predict(network, trial.inputs, kind, runtime, stage="testing the trigger").argmax(axis=1)
    return Measured(acc, float(np.mean(triggered == trial.goal)), float(np.mean(guess[trial.rows] == trial.goal)), len(trial.rows))


def train_victim(
    train: Dataset,
    test: Dataset,
    attack: Attack | None = None,
    *,
    network: str | None = None,
    settings: FitSettings | None = None,
    runtime: Runtime | None = None,
    flip: bool = False,
) -> VictimResult:
    """Trains an ordinary network on ``train`` (a data set, or what an audit kept of it: ``train[~flagged]``) and tests it.

    ``test`` is clean; the attack's trigger is put on those of its samples that are the attack's victims. ``attack``: None
    measures ACC only; `attack_of` gives it from a poisoned set's manifest. ``network``: a name of `NETWORKS`; None: the usual
    one of the data's kind. ``settings``: None: those that are usual for the network. ``flip``: mirrored pictures as
    augmentation. Raises `InputError` for data sets that do not belong together and unknown networks.
    """
    check_test(train, test)
    runtime = runtime or Runtime()
    start = time.perf_counter()
    trial = Trial.of(attack, test) if attack is not None else None
    kind = kind_of(train, flip=flip)
    network = network or kind.network
    settings = settings or usual_settings(network)
    model = build_network(network, kind.channels, len(train.classes), runtime.seed)
    fit(model, train.inputs, train.labels, kind, settings, runtime, stage="training the victim")
    result = measure(model, test, kind, runtime, trial)
    return VictimResult(**asdict(result), network=network, samples=len(train), seconds=time.perf_counter() - start)


def check_test(train: Dataset, test: Dataset) -> None:
    """Raises `InputError` where ``test`` does not belong to ``train``, or is empty."""
    if train.kind != test.kind or train.rate != test.rate:
        raise InputError(f"kind: got {train.kind} data (rate {train.rate}) for training and {test.kind} (rate {test.rate}) for the test")
    if train.classes != test.classes:
        only = sorted(set(train.classes) ^ set(test.classes))[:5]
        raise InputError(
            f"test set: its classes are not those of the training set (in one only: {', '.join(only) or 'none, the order differs'})"
        )
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise InputError(f"test set: samples are {test.inputs.shape[1:]}, those of the training set {train.inputs.shape[1:]}")
    if train.columns != test.columns:
        raise InputError(
            "test set: its columns are not those of the training set; bring them together with tocsin.data.merging.same_columns"
        )
    if not len(test):
        raise InputError("test set: is empty")
