"""One table of expectations over every attack. A new attack adds its row to `TABLE`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.attacks import ATTACKS, Attack, Poisoned
from tocsin.attacks.learned import LearnedAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Row:
    """What is expected of one attack on 1,000 samples of ten classes."""

    params: dict[str, Any]
    planted: int
    covers: int = 0
    relabels: bool = True
    """Planted samples get the goal as label (else: they had it before)."""
    one_target: bool = True
    """All triggered samples go to one class, whose own samples are no victims (else: each class has a goal, and all are victims)."""


TABLE = {
    "none": Row({}, 0),
    "badnet": Row({"rate": 0.02}, 20),
    "badnet-all-to-all": Row({"rate": 0.02}, 20, one_target=False),
    "blend": Row({"rate": 0.02}, 20),
    "trojan": Row({"rate": 0.02}, 20),
    "sig": Row({"rate": 0.02}, 20, relabels=False),
    "cl": Row({"rate": 0.02, "steps": 2, "batch": 8, "craft_steps": 3, "pgd_steps": 1}, 20, relabels=False),
    "narcissus": Row({"rate": 0.02, "epochs": 1, "steps": 20, "batch": 8, "lr": 0.05}, 20, relabels=False),
    "dynamic": Row({"rate": 0.02, "widths": (2, 2), "mask_steps": 1, "steps": 2, "batch": 8}, 20),
    "issba": Row({"rate": 0.02, "width": 2, "steps": 2, "batch": 8}, 20),
    "tact": Row({"rate": 0.02, "cover_rate": 0.03}, 20, 30),
    "wanet": Row({"rate": 0.02, "cover_rate": 0.03}, 20, 30),
    "adap-blend": Row({"rate": 0.02, "cover_rate": 0.03}, 20, 30),
    "adap-patch": Row({"rate": 0.02, "cover_rate": 0.03}, 20, 30),
}
LEARNED = [name for name, attack in ATTACKS.items() if issubclass(attack, LearnedAttack)]
names = pytest.mark.parametrize("name", list(ATTACKS))
planting = pytest.mark.parametrize("name", [name for name in ATTACKS if name != "none"])


def pictures(n: int = 1000, height: int = 32, width: int = 32, channels: int = 3) -> Dataset:
    rng = np.random.default_rng(9)
    inputs = rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return Dataset.of_arrays(inputs, rng.permutation(np.arange(n) % 10))


def of(name: str) -> Attack:
    return build(name, **TABLE[name].params)


@cache
def poisoned(name: str) -> Poisoned:
    """The attack on `pictures`, carried out once for all tests that only look at it."""
    return poison(pictures(), of(name), 0, Runtime(device="cpu"))


def test_every_attack_has_a_row() -> None:
    assert set(TABLE) == set(ATTACKS)


@names
def test_counts_order_and_labels(name: str) -> None:
    data, row, result = pictures(), TABLE[name], poisoned(name)
    assert (len(result.planted), len(result.covers)) == (row.planted, row.covers)
    for rows in (result.planted, result.covers):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
    touched = np.concatenate([result.planted, result.covers])
    assert len(np.unique(touched)) == len(touched)
    goal = result.attack.goal(data.labels[result.planted])
    np.testing.assert_array_equal(result.dataset.labels[result.planted], goal)
    assert (goal == result.attack.target).all() == (row.one_target or not row.planted)
    if not row.relabels:
        np.testing.assert_array_equal(data.labels[result.planted], goal)
    others = np.setdiff1d(np.arange(len(data)), result.planted)
    np.testing.assert_array_equal(result.dataset.labels[others], data.labels[others])


@names
def test_exactly_the_named_rows_carry_a_change(name: str) -> None:
    data, result = pictures(), poisoned(name)
    changed = np.flatnonzero((result.dataset.inputs != data.inputs).any(axis=(1, 2, 3)))
    np.testing.assert_array_equal(changed, np.sort(np.concatenate([result.planted, result.covers])))
    assert result.dataset.inputs.dtype == np.uint8
    np.testing.assert_array_equal(result.dataset.ids, data.ids)
    assert (result.dataset.classes, result.dataset.kind, result.dataset.layout) == (data.classes, data.kind, data.layout)


@names
def test_the_original_is_never_changed(name: str) -> None:
    data = pictures()
    inputs, labels = data.inputs.copy(), data.labels.copy()
    data.inputs.flags.writeable = data.labels.flags.writeable = False  # as a memory map opened for reading would be
    result = poison(data, of(name), runtime=Runtime(device="cpu"))
    assert not np.shares_memory(result.dataset.inputs, data.inputs)
    assert not np.shares_memory(result.dataset.labels, data.labels)
    result.attack.trigger(data.inputs)
    np.testing.assert_array_equal(data.inputs, inputs)
    np.testing.assert_array_equal(data.labels, labels)


@names
def test_same_seed_same_copy(name: str) -> None:
    first, second = poisoned(name), poison(pictures(), of(name), runtime=Runtime(device="cpu"))
    assert first.dataset.fingerprint == second.dataset.fingerprint
    np.testing.assert_array_equal(first.planted, second.planted)
    np.testing.assert_array_equal(first.covers, second.covers)


@planting
def test_another_seed_plants_elsewhere(name: str) -> None:
    first = poisoned(name)
    assert set(first.planted) != set(poison(pictures(), first.attack, seed=4).planted)


@names
def test_recipe_survives_json_and_gives_the_attack_back(name: str) -> None:
    result = poison(pictures(), poisoned(name).attack, seed=7)
    recipe = json.loads(json.dumps(result.recipe))
    assert recipe["attack"] == name
    assert recipe["seed"] == 7
    assert "tocsin" in recipe
    assert attack_of(recipe) == result.attack


@names
def test_no_victim_is_in_the_class_its_trigger_leads_to(name: str) -> None:
    attack = poisoned(name).attack
    labels = np.arange(10)
    victims, goal = attack.victims(labels), attack.goal(labels)
    assert victims.dtype == bool
    assert goal.dtype == np.int64
    assert set(goal) <= set(labels)
    assert victims.any()
    assert (goal[victims] != labels[victims]).all()
    assert len(set(goal)) == (1 if TABLE[name].one_target else 10)


@planting
def test_trigger_changes_every_sample_and_repeats(name: str) -> None:
    x, attack = pictures(50).inputs, poisoned(name).attack
    out = attack.trigger(x)
    assert out.dtype == np.uint8
    assert (out != x).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(out, attack.trigger(x))
    assert attack.trigger(x[:0]).shape == (0, 32, 32, 3)


@planting
def test_a_rate_of_less_than_one_sample_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"rate: .* less than one sample; the smallest possible rate is 0\.001"):
        build(name, rate=0.0005).poison(pictures(), np.random.default_rng(0))


@planting
@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_share_is_refused(name: str, rate: float) -> None:
    with pytest.raises(InputError, match="rate"):
        build(name, rate=rate)


@names
def test_data_it_cannot_work_on_is_refused(name: str) -> None:
    attack, rng = of(name), np.random.default_rng(0)
    if name == "none":
        return  # changes nothing, so there is nothing it could not do
    data = pictures(100)
    with pytest.raises(InputError, match=r"target: got class 10, the (data set has 10 classes|attack '.*' sends each)"):
        build(name, **TABLE[name].params, target=10).poison(data, rng)
    with pytest.raises(InputError, match="inputs"):
        attack.poison(Dataset.of_arrays(data.inputs.astype(np.float32), data.labels), rng)
    with pytest.raises(InputError, match="works on image data, got table"):
        attack.poison(Dataset.of_arrays(data.inputs, data.labels, kind="table"), rng)


def check_size(name: str, height: int, width: int, channels: int) -> None:
    data = pictures(100, height, width, channels)
    result = poison(data, of(name), runtime=Runtime(device="cpu"))
    assert result.dataset.inputs.shape == data.inputs.shape
    assert len(result.planted) == TABLE[name].planted // 10
    assert result.attack.trigger(data.inputs).shape == data.inputs.shape


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in LEARNED])
@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 70), width=st.integers(8, 70), channels=st.sampled_from([1, 3]))
def test_any_size(name: str, height: int, width: int, channels: int) -> None:
    check_size(name, height, width, channels)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (11, 21, 3)])
def test_learned_at_any_size(name: str, height: int, width: int, channels: int) -> None:
    check_size(name, height, width, channels)
