from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import BadNet, BadNetAllToAll
from tocsin.errors import InputError


def test_every_planted_sample_gets_the_next_class_and_the_last_one_the_first(pictures) -> None:  # type: ignore[no-untyped-def]
    data = pictures(classes=7)
    result = BadNetAllToAll(rate=0.4).poison(data, np.random.default_rng(0))
    following = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 0}
    assert set(data.labels[result.planted]) == set(following)
    assert result.dataset.labels[result.planted].tolist() == [following[k] for k in data.labels[result.planted].tolist()]
    assert result.attack == BadNetAllToAll(rate=0.4, classes=7)
    assert result.recipe["classes"] == 7


def test_all_samples_are_victims_and_each_has_its_own_goal() -> None:
    attack, labels = BadNetAllToAll(classes=3), np.array([2, 0, 1, 2])
    assert attack.victims(labels).all()
    assert attack.goal(labels).tolist() == [0, 1, 2, 0]


def test_trigger_is_the_patch_of_badnet(pictures) -> None:  # type: ignore[no-untyped-def]
    x = pictures(5).inputs
    np.testing.assert_array_equal(BadNetAllToAll().trigger(x), BadNet().trigger(x))


def test_what_it_cannot_do_is_said(pictures) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="does not know the number of classes yet"):
        BadNetAllToAll().goal(np.array([0]))
    with pytest.raises(InputError, match="classes: got 4, the data set has 10 classes"):
        BadNetAllToAll(classes=4).poison(pictures(), np.random.default_rng(0))
    with pytest.raises(InputError, match="target: got class 2"):
        BadNetAllToAll(target=2)
    with pytest.raises(InputError, match="at least 2"):
        BadNetAllToAll(rate=0.1).poison(pictures(classes=1), np.random.default_rng(0))
