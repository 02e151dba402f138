"""What is peculiar to DBD, beside tests/contract: its losses, whose labels it believes, what each step learns from, and a backdoor lost."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.defenses.five_digits import TARGET, backdoored
from tests.kinds.test_speech import clips
from tocsin.data.dataset import Dataset
from tocsin.defenses import DBD
from tocsin.defenses.dbd import mixed, sharpened, turn
from tocsin.errors import InputError
from tocsin.kinds import kind_of
from tocsin.networks import Classifier, build_network
from tocsin.runtime import Runtime
from tocsin.victim import measure

CPU = Runtime(device="cpu", seed=5)
SHORT = DBD(contrast_epochs=1, contrast_batch=20, contrast_lr=0.05, head_epochs=2, rounds=2, epochs=1, batch=8)


@cache
def mended() -> Classifier:
    """What becomes of the network that knows five digits and a small patch."""
    network, kind, train, reserve, _, _ = backdoored()
    return DBD(contrast_epochs=8, contrast_batch=128, rounds=2, epochs=4).repair(network, train, reserve, CPU, kind=kind)


def test_the_patch_is_not_learned_and_the_digits_are() -> None:
    network, kind, _, _, test, trial = backdoored()
    before, after = (measure(one, test, kind, CPU, trial) for one in (network, mended()))
    assert before.asr is not None
    assert after.asr is not None
    assert before.asr >= 0.9
    assert after.asr < 0.35
    assert after.acc > before.acc - 0.08


def test_the_labels_of_poison_are_not_believed() -> None:
    _, kind, train, _, _, trial = backdoored()
    # Poison is known by the patch, which is the same in every victim.
    clean = backdoored()[4].inputs[trial.rows]
    at = (trial.inputs != clean).any(axis=(0, 3))
    stamp = trial.inputs[0][at]
    planted = (train.inputs[:, at] == stamp).all(axis=(1, 2)) & (train.labels == TARGET)
    assert planted.sum() == int(0.05 * len(train))
    believed = DBD().credibles(mended(), train, kind, CPU)
    assert abs(believed.sum() - 0.5 * len(train)) <= 5
    assert believed[planted].mean() < 0.25
    assert believed[~planted].mean() > 0.5


def small(classes: int = 2, side: int = 8, n: int = 60, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    inputs = rng.integers(0, 60, (n, side, side, 3)) + 150 * (labels == 0)[:, None, None, None]
    return Dataset.of_arrays(inputs.astype(np.uint8), labels, tuple("abcdef"[:classes]))


def same(a: Classifier, b: Classifier) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_neither_the_network_given_nor_the_reserve_is_learned_from() -> None:
    train, kind = small(), kind_of(small())
    one, other = (build_network("small-narrow", kind.channels, 2, seed) for seed in (0, 1))
    first = SHORT.repair(one, train, small(seed=1), CPU)
    assert same(first, SHORT.repair(other, train, small(seed=1), CPU))
    assert same(first, SHORT.repair(one, train, small(seed=2), CPU))
    assert not same(first, SHORT.repair(one, replace(train, labels=1 - train.labels), small(seed=1), CPU))


def test_the_head_learns_and_the_encoder_is_still() -> None:
    train = small(classes=3)
    kind = kind_of(train)
    network = build_network("small-narrow", kind.channels, 3, 0).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    SHORT._teach_head(network, train, kind, CPU)
    assert {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])} == {"head.weight", "head.bias"}


def test_the_head_s_loss_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    logits, answers = 4 * rng.normal(size=(9, 5)), rng.integers(0, 5, 9)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = np.eye(5)[answers]
    direct = -(right * np.log(p)).sum(1)
    reverse = -(p * np.log(np.clip(right, 1e-4, 1))).sum(1)
    got = DBD().losses(torch.from_numpy(logits), torch.from_numpy(answers))
    np.testing.assert_allclose(got.numpy(), 0.1 * direct + 1.0 * reverse, rtol=1e-4)
    alone = DBD(ce=2.0, rce=0.0).losses(torch.from_numpy(logits), torch.from_numpy(answers))
    np.testing.assert_allclose(alone.numpy(), 2 * direct, rtol=1e-4)


def test_the_lowest_losses_are_believed_of_all_or_of_each_class() -> None:
    losses = np.array([0.9, 0.1, 0.8, 0.2, 0.1, 0.3, 2.0, 1.0])
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    assert np.flatnonzero(DBD(within="all").chosen(losses, labels)).tolist() == [1, 3, 4, 5]
    assert np.flatnonzero(DBD().chosen(losses, labels)).tolist() == [1, 3, 4, 7]
    assert np.flatnonzero(DBD(credible=0.25, within="all").chosen(losses, labels)).tolist() == [1, 4]
    assert np.flatnonzero(DBD(credible=0.25, within="all").chosen(np.zeros(8), labels)).tolist() == [0, 1], "of equal ones the first"


def test_samples_are_mixed_and_guesses_sharpened_as_the_plain_formulas_say() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), 6)
    np.testing.assert_allclose(sharpened(torch.from_numpy(p), 0.5).numpy(), p**2 / (p**2).sum(1, keepdims=True), rtol=1e-6)
    sure = sharpened(torch.tensor([[1.0, 0.0, 0.0]]), 0.5)
    np.testing.assert_allclose(sure.numpy(), [[1, 0, 0]], atol=1e-6)
    x, order = rng.normal(size=(6, 2, 3)), rng.permutation(6)
    expected = [0.7 * x[i] + 0.3 * x[order[i]] for i in range(6)]
    np.testing.assert_allclose(mixed(torch.from_numpy(x), torch.from_numpy(order), 0.7).numpy(), expected, rtol=1e-6)
    rows = torch.tensor([5, 6, 7])
    assert [turn(rows, step, 2).tolist() for step in range(3)] == [[5, 6], [7, 5], [6, 7]]
    assert turn(rows, 0, 4).tolist() == [5, 6, 7, 5]


def test_labels_told_count_as_cross_entropy_and_guesses_as_squared_error_whose_weight_grows() -> None:
    rng = np.random.default_rng(2)
    logits, y = rng.normal(size=(7, 3)), rng.dirichlet(np.ones(3), 7)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    told, guessed = -(y[:3] * np.log(p[:3])).sum(1).mean(), np.square(p[3:] - y[3:]).mean()
    for done in (0.1, 1.0):
        got = DBD(unlabelled=20.0).apart(torch.from_numpy(logits), torch.from_numpy(y).float(), 3, done)
        assert float(got) == pytest.approx(told + 20 * done * guessed, rel=1e-5)


def test_a_guess_is_of_both_copies_and_changes_nothing() -> None:
    network = build_network("small-narrow", 3, 4, 0)
    one, other = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    got = DBD(sharpening=1.0).guessed(network.train(), torch.cat([one, other]))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        expected = (network.eval()(one).softmax(1) + network(other).softmax(1)) / 2
    np.testing.assert_allclose(got.numpy(), expected.numpy(), atol=0.02)  # mixed precision, where there is any


@pytest.mark.parametrize(
    "wrong",
    [
        {"contrast_epochs": 0}, {"temperature": 0.0}, {"head_epochs": 0}, {"rounds": 0}, {"epochs": 0}, {"batch": 1}, {"lr": 0.0},
        {"credible": 1.0}, {"within": "label"}, {"ce": 0.0, "rce": 0.0}, {"rce": -1.0}, {"sharpening": 0.0}, {"mixing": 0.0},
        {"unlabelled": -1.0},
    ],
)  # fmt: skip
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        DBD(**wrong)


def test_what_cannot_be_is_refused_before_anything_is_learned() -> None:
    said: list[str] = []
    runtime = Runtime(device="cpu", progress=lambda stage, share: said.append(stage))
    network = build_network("small-narrow", 3, 2, 0)
    one = Dataset.of_arrays(small().inputs, np.zeros(60, np.int64), ("a",))
    with pytest.raises(InputError, match="two classes or more"):
        DBD().repair(network, one, one, runtime)
    with pytest.raises(InputError, match="samples on both sides"):
        DBD(credible=0.001).repair(network, small(), small(), runtime)
    sounds = clips(20, seed=0)
    with pytest.raises(InputError, match="reads waveforms"):
        DBD().repair(build_network("eat-s", 1, 4, 0), sounds, sounds, runtime)
    assert not said
