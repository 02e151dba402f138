"""One table of expectations over every model-side defence. A new one adds its row to `TABLE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.kinds.test_speech import clips
from tocsin.data.builtin import digits, tumours
from tocsin.data.dataset import Dataset
from tocsin.defenses import DEFENSES, Defense
from tocsin.errors import InputError
from tocsin.kinds import Kind, kind_of
from tocsin.learning import FitSettings, fit, predict
from tocsin.networks import Classifier, build_network
from tocsin.params import parse_fields
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Row:
    """What is expected of one defence on a network that knows its classes and one wrong thing."""

    params: dict[str, Any] = field(default_factory=dict)
    """Settings that keep the tests short."""
    cost: float = 0.1
    """Most accuracy, as a share of 1, that it may cost on clean samples."""


TABLE = {
    # By AdamW, as such a network is usually trained: by 40 steps of SGD the table is hardly learned again after two rows are unlearned.
    "abl": Row({"isolating": 1, "epochs": 10, "lr": 3e-3, "optimizer": "adamw", "unlearning_lr": 1e-4}),
    "finetune": Row({"epochs": 2}),
    "fineprune": Row({"epochs": 2}),
    "nad": Row({"epochs": 2, "teacher_epochs": 2, "lr": 0.005}),
    # Every class is suspect enough, and the patch of the least is unlearned.
    "neural-cleanse": Row({"epochs": 3, "patience": 1, "success": 0.3, "limit": 0.1, "batch": 64}),
    "none-training": Row({"epochs": 4, "share": 0.1}),
    # It forgets all that the network knew, and has moments to learn it anew.
    "dbd": Row({"contrast_epochs": 3, "contrast_batch": 64, "rounds": 1, "epochs": 3, "batch": 16}, cost=0.4),
    # Patches are small and work seldom.
    "moth": Row({"epochs": 1, "warmup_search": 4, "first_search": 4, "later_search": 2, "pictures": 16, "success": 0.3}),
}
CPU = Runtime(device="cpu", seed=3)
NETWORK = {"image": "small", "speech": "tc-resnet8", "table": "mlp"}
SETS: dict[str, Callable[[], tuple[Dataset, ...]]] = {
    "image": lambda: digits(0, 800, 200, 200),
    "speech": lambda: tuple(clips(n, seed=s) for n, s in ((400, 1), (200, 2), (200, 3))),
    "table": tumours,
}


@dataclass(frozen=True)
class Case:
    train: Dataset
    reserve: Dataset
    test: Dataset
    network: Classifier
    kind: Kind


@cache
def case(kind: str) -> Case:
    train, reserve, test = SETS[kind]()
    reads = kind_of(train)
    network = build_network(NETWORK[kind], reads.channels, len(train.classes), 0)
    fit(network, train.inputs, train.labels, reads, FitSettings(epochs=4 if kind != "table" else 20, batch=64), CPU)
    return Case(train, reserve, test, network, reads)


def made(name: str) -> Defense:
    return DEFENSES[name](**parse_fields(DEFENSES[name], TABLE[name].params))


def accuracy(network: Classifier, test: Dataset, kind: Kind) -> float:
    return float((predict(network, test.inputs, kind, CPU).argmax(axis=1) == test.labels).mean())


EVERY = [(name, kind) for name, defense in DEFENSES.items() for kind in sorted(defense.kinds)]
each = pytest.mark.parametrize(("name", "kind"), EVERY)


def test_every_defense_has_a_row() -> None:
    assert TABLE.keys() == DEFENSES.keys()


@each
def test_the_mended_copy_is_a_network_that_still_knows_its_classes(name: str, kind: str) -> None:
    c = case(kind)
    before = {key: value.clone() for key, value in c.network.state_dict().items()}
    mended = made(name).repair(c.network, c.train, c.reserve, CPU)
    assert not mended.training
    assert accuracy(mended, c.test, c.kind) >= accuracy(c.network, c.test, c.kind) - TABLE[name].cost
    assert all(torch.equal(value, before[key]) for key, value in c.network.state_dict().items())  # the one given stays as it is
    assert any(not torch.equal(a, b) for a, b in zip(mended.parameters(), c.network.parameters(), strict=True))


@each
def test_the_seed_decides(name: str, kind: str) -> None:
    c, inputs = case(kind), case(kind).test.inputs[:50]
    one, same, other = (
        predict(made(name).repair(c.network, c.train, c.reserve, Runtime(device="cpu", seed=seed)), inputs, c.kind, CPU)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@each
def test_only_what_is_trusted_is_learned_from(name: str, kind: str) -> None:
    """Labels of the suspect data make no difference where only the reserve is trusted, and do where they are learned from."""
    c = case(kind)
    wrong = replace(c.train, labels=(c.train.labels + 1) % len(c.train.classes))
    answers = [predict(made(name).repair(c.network, data, c.reserve, CPU), c.test.inputs[:50], c.kind, CPU) for data in (c.train, wrong)]
    assert np.array_equal(*answers) == ("train" not in DEFENSES[name].trusts)


@each
def test_data_that_do_not_belong_together_are_refused(name: str, kind: str) -> None:
    c, other = case(kind), case("image" if kind == "speech" else "speech")
    with pytest.raises(InputError, match="reserve: must have the kind"):
        made(name).repair(c.network, c.train, other.reserve, CPU)
    short = Dataset.of_arrays(c.reserve.inputs[:, :8], c.reserve.labels, c.reserve.classes, kind=kind, rate=c.reserve.rate)
    with pytest.raises(InputError, match="reserve: samples are"):
        made(name).repair(c.network, c.train, short, CPU)
    table = Dataset.of_arrays(c.train.inputs, c.train.labels, c.train.classes, kind="scent")
    allowed = ", ".join(sorted(DEFENSES[name].kinds))
    with pytest.raises(InputError, match=f"defense {name}: works on {allowed} data, got scent"):
        made(name).repair(c.network, table, c.reserve, CPU)
