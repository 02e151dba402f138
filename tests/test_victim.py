from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tocsin.attacks import BadNet, NoAttack
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.learning import FitSettings
from tocsin.poisoning import poison
from tocsin.runtime import Runtime
from tocsin.victim import VictimResult, attack_of, train_victim

CPU = Runtime(device="cpu")
QUICK = FitSettings(epochs=5)


@pytest.fixture(scope="module")
def sets() -> tuple[Dataset, Dataset]:
    train, _, test = digits(0, 1800, 10, 400)
    return train, test


def run(train: Dataset, test: Dataset, attack: BadNet | NoAttack | None) -> VictimResult:
    return train_victim(train, test, attack, settings=QUICK, runtime=CPU)


def test_backdoor_works_and_is_gone_without_the_planted_samples(sets: tuple[Dataset, Dataset]) -> None:
    train, test = sets
    poisoned = poison(train, BadNet(rate=0.04, target=3))
    attack = attack_of(poisoned.recipe)
    before = run(poisoned.dataset, test, attack)
    flagged = np.zeros(len(train), bool)
    flagged[poisoned.planted] = True
    after = run(poisoned.dataset[~flagged], test, attack)
    assert before.acc > 0.9
    assert before.asr is not None
    assert before.asr > 0.8
    assert before.asr_without_trigger is not None
    assert before.asr_without_trigger < 0.05
    assert before.victims == int((test.labels != 3).sum())
    assert after.asr is not None
    assert after.asr < 0.1
    assert after.samples == 1728
    assert set(before.as_dict()) >= {"acc", "asr", "network", "samples", "seconds"}


def test_without_an_attack_there_is_no_asr(sets: tuple[Dataset, Dataset]) -> None:
    train, test = sets
    result = train_victim(train[:300], test, settings=FitSettings(epochs=1), runtime=CPU)
    assert (result.asr, result.asr_without_trigger, result.victims) == (None, None, 0)
    assert 0 <= result.acc <= 1


def test_data_sets_that_do_not_belong_together_are_refused(sets: tuple[Dataset, Dataset]) -> None:
    train, test = sets
    with pytest.raises(InputError, match="test set: its classes"):
        run(train, replace(test, classes=(*tuple("012345678"), "nine")), None)
    with pytest.raises(InputError, match="the order differs"):
        run(train, replace(test, classes=tuple("1023456789")), None)
    with pytest.raises(InputError, match="test set: samples are"):
        run(train, replace(test, inputs=test.inputs[:, :8]), None)
    with pytest.raises(InputError, match="test set: is empty"):
        run(train, test[:0], None)
    with pytest.raises(InputError, match="no sample that the attack 'badnet' is measured on"):
        train_victim(train[:200], test[test.labels == 3], BadNet(target=3), settings=FitSettings(epochs=1), runtime=CPU)
    with pytest.raises(InputError, match="kind"):
        run(replace(train, kind="table"), test, None)
