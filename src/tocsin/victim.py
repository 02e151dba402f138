"""The victim: an ordinary model trained on a data set, its accuracy (ACC) and the attack's success rate (ASR) on it.

A model is whatever gives logits (`Logits`): a network, or on tables boosted trees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tocsin.attacks.base import Attack
from tocsin.boosting import boost
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds import ImageKind, Kind, kind_of
from tocsin.learning import FitSettings, features, fit, predict, usual_settings
from tocsin.networks import NETWORKS, Classifier, build_network
from tocsin.networks.encoder import Encoder
from tocsin.paradigms import Transfer
from tocsin.params import closest
from tocsin.poisoning import attack_of
from tocsin.runtime import Runtime
from tocsin.tuning import fit_head

__all__ = [
    "BOOSTING",
    "Logits",
    "Measured",
    "Trial",
    "VictimResult",
    "attack_of",
    "check_test",
    "measure",
    "measured",
    "probed",
    "train_victim",
    "trained",
]

BOOSTING = "boosting"
Logits = Callable[[np.ndarray, str], np.ndarray]
"""A trained model: raw samples (N, ...) and the name of the stage, for progress, to logits (N, classes)."""


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
    fpr: float | None = field(default=None, kw_only=True)
    """Of tables with two classes: the share of clean test rows of the attack's target class (without an attack, of the first class)
    that are taken for the other, such as benign files called malware."""


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
    return measured(_logits_of(network, kind, runtime), test, trial)


def measured(logits: Logits, test: Dataset, trial: Trial | None = None) -> Measured:
    """What `measure` says, of any model."""
    guess = logits(test.inputs, "testing the victim").argmax(axis=1)
    acc = float(np.mean(guess == test.labels))
    target = 0 if trial is None else int(trial.goal[0])
    sound = guess[test.labels == target] if test.kind == "table" and len(test.classes) == 2 else np.empty(0)
    fpr = float(np.mean(sound != target)) if len(sound) else None
    if trial is None:
        return Measured(acc, None, None, 0, fpr=fpr)
    triggered = logits(trial.inputs, "testing the trigger").argmax(axis=1)
    asr, without = (float(np.mean(which == trial.goal)) for which in (triggered, guess[trial.rows]))
    return Measured(acc, asr, without, len(trial.rows), fpr=fpr)


def train_victim(
    train: Dataset,
    test: Dataset,
    attack: Attack | None = None,
    *,
    network: str | None = None,
    settings: FitSettings | None = None,
    runtime: Runtime | None = None,
    flip: bool = False,
    normalise: str = "none",
    transfer: Transfer | None = None,
    save: Path | None = None,
) -> VictimResult:
    """Trains an ordinary model on ``train`` (a data set, or what an audit kept of it: ``train[~flagged]``) and tests it.

    ``test`` is clean; the attack's trigger is put on those of its samples that are the attack's victims. ``attack``: None
    measures ACC only; `attack_of` gives it from a poisoned set's manifest. ``network``: a name of `NETWORKS`, or, for tables,
    ``boosting``; None: the usual network of the data's kind. ``settings``: None: those that are usual for the network. ``flip``:
    mirrored pictures as augmentation. ``normalise``: ``clip`` takes from a sound what is the same all through it
    (`Kind.normalising`). ``transfer``: an encoder is tuned to ``train``, as that says, in the place of a network trained from scratch,
    and ``network`` to ``normalise`` say nothing. ``save``: file that the network is written to, as an encoder of other data. Raises
    `InputError` for data sets that do not belong together and unknown networks.
    """
    check_test(train, test)
    runtime = runtime or Runtime()
    start = time.perf_counter()
    trial = Trial.of(attack, test) if attack is not None else None
    network = network or kind_of(train).network
    if transfer is not None:
        encoder, model = transfer.tuned(train, runtime)
        network, logits = encoder.network, _logits_of(model, encoder.kind, runtime)
        _save(model, network, encoder.kind, save)
    else:
        logits = trained(train, network, settings=settings, runtime=runtime, flip=flip, normalise=normalise, save=save)
    result = measured(logits, test, trial)
    return VictimResult(**asdict(result), network=network, samples=len(train), seconds=time.perf_counter() - start)


def trained(
    train: Dataset,
    network: str,
    *,
    settings: FitSettings | None = None,
    runtime: Runtime | None = None,
    flip: bool = False,
    normalise: str = "none",
    save: Path | None = None,
) -> Logits:
    """The model called ``network`` (as in `train_victim`) trained on ``train``. Raises `InputError` for an unknown name."""
    if network not in _TRAINERS and network not in NETWORKS:
        allowed = (*NETWORKS, *_TRAINERS)
        raise InputError(f"network: unknown network {network!r}{closest(network, allowed)} (allowed: {', '.join(allowed)})")
    if save is not None and (network in _TRAINERS or train.kind != "image"):
        what = f"{network} is none" if network in _TRAINERS else f"those are of pictures, and these are {train.kind} data"
        raise InputError(f"save: a network is saved as an encoder of other data; {what}")
    return _TRAINERS.get(network, _train_network)(
        network, train, kind_of(train, flip=flip, normalise=normalise), settings, runtime or Runtime(), save
    )


def _train_network(name: str, train: Dataset, kind: Kind, settings: FitSettings | None, runtime: Runtime, save: Path | None) -> Logits:
    model = build_network(name, kind.channels, len(train.classes), runtime.seed)
    fit(model, train.inputs, train.labels, kind, settings or usual_settings(name), runtime, stage="training the victim")
    _save(model, name, kind, save)
    return _logits_of(model, kind, runtime)


def _save(model: Classifier, name: str, kind: Kind, path: Path | None) -> None:
    if path is not None and isinstance(kind, ImageKind):
        Encoder(name, model, kind).save(path)


def _train_trees(name: str, train: Dataset, kind: Kind, settings: FitSettings | None, runtime: Runtime, save: Path | None) -> Logits:
    if settings is not None:
        raise InputError(f"settings: they are a network's, and {name} is none; leave them out (on the command line --epochs)")
    runtime.progress("training the victim", 0.0)
    model = boost(train, runtime.seed)
    runtime.progress("training the victim", 1.0)
    return lambda inputs, stage: model.logits(inputs)


_TRAINERS: Mapping[str, Callable[[str, Dataset, Kind, FitSettings | None, Runtime, Path | None], Logits]] = {BOOSTING: _train_trees}
"""Models that are no networks, by the name that is asked for in a network's place."""


def _logits_of(network: Classifier, kind: Kind, runtime: Runtime) -> Logits:
    return lambda inputs, stage: predict(network, inputs, kind, runtime, stage=stage)


def probed(network: Classifier, kind: Kind, labelled: Dataset, runtime: Runtime) -> Logits:
    """A linear classifier on the frozen encoder ``network``, fitted to the clean ``labelled`` samples (linear evaluation, `fit_head`).

    What self-supervised learning ends in (ASSET 1.4).
    """
    head = nn.Linear(network.head.in_features, len(labelled.classes))
    fit_head(head, features(network, labelled.inputs, kind, runtime, stage="reading features"), labelled.labels)
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    return lambda inputs, stage: features(network, inputs, kind, runtime, stage=stage) @ weight.T + bias


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
