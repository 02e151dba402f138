"""What is peculiar to ABL, beside tests/contract: what is set aside, and that it is unlearned while the rest is not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from tocsin.attacks import BadNet
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.defenses import ABL
from tocsin.defenses.abl import unlikelihood
from tocsin.errors import InputError
from tocsin.kinds import Kind, kind_of
from tocsin.learning import FitSettings, fit
from tocsin.networks import Classifier, build_network
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measure

CPU = Runtime(device="cpu", seed=4)


@cache
def poisoned() -> tuple[Dataset, Dataset, Trial, np.ndarray, Dataset]:
    """(training data, clean test, triggered test, which rows are planted, reserve)."""
    train, reserve, test = digits(0, 3000, 100, 400)
    result = BadNet(rate=0.05).poison(train, np.random.default_rng(0))
    truth = np.isin(np.arange(len(train)), result.planted)
    return result.dataset, test, Trial.of(result.attack, test), truth, reserve


def network() -> tuple[Classifier, Kind]:
    kind = kind_of(poisoned()[0])
    return build_network("small", kind.channels, 10, 1), kind


def test_what_is_learned_at_once_is_set_aside() -> None:
    train, _, _, truth, _ = poisoned()
    model, kind = network()
    rows = ABL(share=0.04, isolating=2).isolated(model, train, kind, CPU)
    assert len(rows) == 120
    assert (np.diff(rows) > 0).all()
    assert truth[rows].mean() > 0.9


def test_the_backdoor_is_unlearned_from_a_part_of_its_samples() -> None:
    train, test, trial, _, reserve = poisoned()
    model, kind = network()
    before = measure(fit(model, train.inputs, train.labels, kind, FitSettings(epochs=3, batch=64), CPU), test, kind, CPU, trial)
    defense = ABL(share=0.03, isolating=1, epochs=3, unlearning=3, unlearning_lr=0.005)
    after = measure(defense.repair(model, train, reserve, CPU), test, kind, CPU, trial)
    assert before.asr is not None
    assert after.asr is not None
    # Three seeds in either number type: at most 0.03 and 0.095. With half as many digits, and twice as many passes, up to 0.7 was left.
    assert after.asr < 0.2 < 0.9 < before.asr
    assert after.acc > before.acc - 0.1


def test_unlikelihood_is_that_of_the_other_classes_and_has_a_slope_where_the_network_is_sure() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 2, 2])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    assert float(unlikelihood(logits, labels)) == pytest.approx(-np.log(1 - p[np.arange(5), labels.numpy()]).mean(), rel=1e-5)
    sure = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    unlikelihood(sure, torch.tensor([0])).backward()
    assert sure.grad is not None
    assert sure.grad[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"isolating": 0}, {"unlearning": 0}, {"floor": 0.0}, {"ascent": "up"}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ABL(**wrong)  # type: ignore[arg-type]
