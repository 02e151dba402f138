from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tocsin.auditing import audit
from tocsin.canaries import TRIGGERS, plant
from tocsin.data.builtin import digits
from tocsin.errors import InputError
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

QUICK = {"pretrain_least": 60, "confusion_steps": (60, 60, 60)}


@pytest.fixture(scope="module")
def report():
    poisoned = poison(pictures(1500, seed=1), build("trojan", rate=0.03, target=2), 5)
    return poisoned, audit(poisoned.dataset, pictures(600, seed=2), params=QUICK, runtime=Runtime(device="cpu", seed=0))


def test_canaries_are_counted_and_never_shown(report):
    poisoned, result = report
    assert result.findings.scores.shape == result.flagged.shape == (1500,)
    assert [c.trigger for c in result.canaries] == list(TRIGGERS["image"])
    assert [c.planted for c in result.canaries] == [20, 20, 20]
    assert sum(c.size for c in result.findings.classes) == 1500
    assert not any("canary" in str(i) for i in result.train.ids)
    assert result.flagged[poisoned.planted].mean() > 0.8
    assert len(result.kept) == 1500 - result.flagged.sum()


def test_clean_data_say_nothing_found_and_what_would_have_been():
    """At full length on the bundled digits: nothing is flagged, and patch and blend canaries come back. With half the confusion steps
    what the pictures show is not wiped out on every seed."""
    train, reserve, _ = digits(101, train=2000, reserve=600, test=200)
    result = audit(train, reserve, runtime=Runtime(device="cpu", seed=0))
    assert result.verdict == "nothing found"
    assert not result.flagged.any()
    assert not any(c.suspect for c in result.findings.classes)
    found = {c.trigger: c.found for c in result.canaries}
    assert found["patch"] >= 16
    assert found["blend"] >= 16
    assert f"we found {found['patch']}" in result.sentence


def test_the_persons_arrays_are_not_touched():
    train = pictures(400, seed=4)
    before = train.inputs.copy()
    plant(train, np.random.default_rng(0))
    assert np.array_equal(train.inputs, before)


@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 2), (16, 3, 6), (20, 3, 3), (64, 1, 43)])
def test_canaries_fit_any_picture_and_never_keep_their_label(size, channels, classes):
    train = pictures(500, seed=5, classes=classes, size=size, channels=channels)
    planted = plant(train, np.random.default_rng(1))
    rows = planted.mask
    assert np.array_equal(planted.dataset.inputs[~rows], train.inputs)
    assert planted.dataset.inputs.dtype == np.uint8
    assert set(planted.trigger[rows]) == {0, 1, 2}
    assert len(set(planted.dataset.ids)) == len(planted.dataset)
    for kind in range(3):
        assert len(set(planted.dataset.labels[planted.trigger == kind])) == 1


def test_each_trigger_changes_its_pictures_and_only_so_much():
    train = pictures(300, seed=6, size=32)
    for name, stamp in TRIGGERS["image"].items():
        out = stamp(train.inputs, np.random.default_rng(2)).astype(int)
        moved = np.abs(out - train.inputs).mean()
        assert 0 < moved < 60, name
    patched = TRIGGERS["image"]["patch"](train.inputs, np.random.default_rng(2))
    assert (patched != train.inputs).any(axis=(0, 3)).sum() == 9


def test_unknown_names_are_refused():
    train, reserve = pictures(300, seed=7), pictures(300, seed=8)
    for wrong, word in (({"detector": "cf"}, "detector"), ({"preset": "quick"}, "preset"), ({"params": {"alpah": 1}}, "alpha")):
        with pytest.raises(InputError, match=word):
            audit(train, reserve, **wrong)


def test_a_reserve_from_the_training_data_is_refused():
    train = pictures(600, seed=9)
    with pytest.raises(InputError, match="overlap"):
        audit(train, train[np.arange(300)])
