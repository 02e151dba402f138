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
from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Row:
    """What is expected of one attack on 1,000 samples of ten classes, of each kind that it works on."""

    params: dict[str, Any]
    planted: int
    covers: int = 0
    relabels: bool = True
    """Planted samples get the goal as label (else: they had it before)."""
    one_target: bool = True
    """All triggered samples go to one class, whose own samples are no victims (else: each class has a goal, and all are victims)."""
    stamps: bool = True
    """Planted samples change (else: only their labels do)."""
    grey: bool = True
    """Pictures of one channel can be poisoned."""
    rates_hz: tuple[int, ...] = (8000, 16000)
    """Sampling rates at which an attack on speech is tried."""


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
    "ctrl": Row({"rate": 0.02}, 20, relabels=False, grey=False),
    "ssl-backdoor": Row({"rate": 0.02}, 20, relabels=False),
    "hidden-trigger": Row({"rate": 0.02, "epochs": 1, "craft_steps": 2}, 20, relabels=False),
    "tone": Row({"rate": 0.02}, 20),
    "spectrogram-patch": Row({"rate": 0.02}, 20),
    "noise": Row({"rate": 0.02}, 20),
    "ultrasonic": Row({"rate": 0.02}, 20, rates_hz=(44100, 48000)),
    "jingleback": Row({"rate": 0.02}, 20),
    "pbsm": Row({"rate": 0.02}, 20),
    "flowmur": Row({"rate": 0.02, "epochs": 1, "steps": 2, "batch": 8, "seconds": 0.05}, 20, relabels=False),
    "narcissus-speech": Row({"rate": 0.02, "epochs": 1, "steps": 20, "batch": 8, "lr": 0.05}, 20, relabels=False),
    "stego": Row({"rate": 0.02, "epochs": 1, "steps": 4, "batch": 8}, 20),
    "drl-clba": Row(
        {"rate": 0.02, "epochs": 1, "judge_epochs": 1, "embed_steps": 2, "batches": 1, "steps": 2, "pool": 20, "bits": 4},
        20,
        relabels=False,
    ),
    "slu": Row({"rate": 0.02, "epochs": 1, "craft_steps": 2}, 20, relabels=False),
    "explanation": Row({"rate": 0.02, "rows": 150, "trees": 10}, 20, relabels=False),
    "feature-patch": Row({"rate": 0.02}, 20),
    "label-flip": Row({"rate": 0.02}, 20, stamps=False),
}


@dataclass(frozen=True)
class Case:
    """An attack on one kind of data."""

    name: str
    rate_hz: int | None = None
    """Of clips; None: pictures or rows."""
    rows: bool = False
    """Of a table."""

    @property
    def kind(self) -> str:
        return "table" if self.rows else "image" if self.rate_hz is None else "speech"

    def data(self, n: int = 1000) -> Dataset:
        return rows(n) if self.rows else pictures(n) if self.rate_hz is None else clips(n, self.rate_hz)

    def __str__(self) -> str:
        return f"{self.name}@rows" if self.rows else self.name if self.rate_hz is None else f"{self.name}@{self.rate_hz}"


CASES = [Case(name) for name, attack in ATTACKS.items() if "image" in attack.kinds]
CASES += [Case(name, rows=True) for name, attack in ATTACKS.items() if "table" in attack.kinds]
CASES += [Case(name, hz) for name, attack in ATTACKS.items() if "speech" in attack.kinds for hz in TABLE[name].rates_hz]
LEARNED = [name for name, attack in ATTACKS.items() if issubclass(attack, LearnedAttack)]
LEARNED_CASES = [case for case in CASES if case.name in LEARNED and case.rate_hz in (None, TABLE[case.name].rates_hz[0])]
cases = pytest.mark.parametrize("case", CASES, ids=str)
planting = pytest.mark.parametrize("case", [case for case in CASES if case.name != "none"], ids=str)


def pictures(n: int = 1000, height: int = 32, width: int = 32, channels: int = 3) -> Dataset:
    rng = np.random.default_rng(9)
    inputs = rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return Dataset.of_arrays(inputs, rng.permutation(np.arange(n) % 10))


def clips(n: int = 1000, rate_hz: int = 8000, length: int = 1600) -> Dataset:
    """Noise, as loud as speech, that begins and ends somewhere in digital silence."""
    rng = np.random.default_rng(9)
    first, span = rng.integers(0, length // 4, (n, 1)), rng.integers(length // 2, 3 * length // 4, (n, 1))
    at = np.arange(length)
    sound = np.clip(rng.normal(0, 4000, (n, length)), -32768, 32767)
    inputs = np.where((at >= first) & (at < first + span), sound, 0).astype(np.int16)
    return Dataset.of_arrays(inputs, rng.permutation(np.arange(n) % 10), kind="speech", rate=rate_hz)


def rows(n: int = 1000) -> Dataset:
    """Counts that go with the class, versions, a column with gaps and a category."""
    rng = np.random.default_rng(9)
    labels = rng.permutation(np.arange(n) % 10)
    counts = rng.poisson(np.exp(0.3 * ((labels[:, None] + np.arange(16)) % 10)))
    versions = rng.choice([0.0, 1, 2, 5, 65000], (n, 6), p=[0.4, 0.3, 0.2, 0.09, 0.01])
    gappy = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))
    inputs = np.column_stack([counts, versions, gappy, rng.integers(0, 4, n)]).astype(np.float32)
    columns = (*(Column(f"c{k}") for k in range(23)), Column("packer", ("none", "upx", "aspack", "other")))
    return Dataset.of_arrays(inputs, labels, kind="table", columns=columns)


def of(name: str) -> Attack:
    return build(name, **TABLE[name].params)


@cache
def poisoned(case: Case) -> Poisoned:
    """The attack on 1,000 samples, carried out once for all tests that only look at it."""
    return poison(case.data(), of(case.name), 0, Runtime(device="cpu"))


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) bool: which of the samples (N, ...) differ. An empty cell is like another."""
    return ((first != second) & ~((first != first) & (second != second))).reshape(len(first), -1).any(axis=1)


def test_every_attack_has_a_row() -> None:
    assert set(TABLE) == set(ATTACKS)


@cases
def test_counts_order_and_labels(case: Case) -> None:
    data, row, result = case.data(), TABLE[case.name], poisoned(case)
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


@cases
def test_exactly_the_named_rows_carry_a_change(case: Case) -> None:
    data, result = case.data(), poisoned(case)
    found = np.flatnonzero(changed(result.dataset.inputs, data.inputs))
    touched = np.sort(np.concatenate([result.planted, result.covers]))
    np.testing.assert_array_equal(found, touched if TABLE[case.name].stamps else [])
    assert result.dataset.inputs.dtype == data.inputs.dtype
    assert (result.dataset.rate, result.dataset.columns) == (data.rate, data.columns)
    np.testing.assert_array_equal(result.dataset.ids, data.ids)
    assert (result.dataset.classes, result.dataset.kind, result.dataset.layout) == (data.classes, data.kind, data.layout)


@cases
def test_the_original_is_never_changed(case: Case) -> None:
    data = case.data()
    inputs, labels = data.inputs.copy(), data.labels.copy()
    data.inputs.flags.writeable = data.labels.flags.writeable = False  # as a memory map opened for reading would be
    result = poison(data, of(case.name), runtime=Runtime(device="cpu"))
    assert not np.shares_memory(result.dataset.inputs, data.inputs)
    assert not np.shares_memory(result.dataset.labels, data.labels)
    result.attack.trigger(data.inputs)
    np.testing.assert_array_equal(data.inputs, inputs)
    np.testing.assert_array_equal(data.labels, labels)


@cases
def test_same_seed_same_copy(case: Case) -> None:
    first, second = poisoned(case), poison(case.data(), of(case.name), runtime=Runtime(device="cpu"))
    assert first.dataset.fingerprint == second.dataset.fingerprint
    np.testing.assert_array_equal(first.planted, second.planted)
    np.testing.assert_array_equal(first.covers, second.covers)


@planting
def test_another_seed_plants_elsewhere(case: Case) -> None:
    first = poisoned(case)
    assert set(first.planted) != set(poison(case.data(), first.attack, seed=4).planted)


@cases
def test_recipe_survives_json_and_gives_the_attack_back(case: Case) -> None:
    result = poison(case.data(), poisoned(case).attack, seed=7)
    recipe = json.loads(json.dumps(result.recipe))
    assert recipe["attack"] == case.name
    assert recipe["seed"] == 7
    assert "tocsin" in recipe
    assert attack_of(recipe) == result.attack


@cases
def test_no_victim_is_in_the_class_its_trigger_leads_to(case: Case) -> None:
    attack = poisoned(case).attack
    labels = np.arange(10)
    victims, goal = attack.victims(labels), attack.goal(labels)
    assert victims.dtype == bool
    assert goal.dtype == np.int64
    assert set(goal) <= set(labels)
    assert victims.any()
    assert (goal[victims] != labels[victims]).all()
    assert len(set(goal)) == (1 if TABLE[case.name].one_target else 10)


@planting
def test_trigger_changes_every_sample_and_repeats(case: Case) -> None:
    x, attack = case.data(50).inputs, poisoned(case).attack
    out = attack.trigger(x)
    assert out.dtype == x.dtype
    assert changed(out, x).all() == TABLE[case.name].stamps
    np.testing.assert_array_equal(out, attack.trigger(x))
    assert attack.trigger(x[:0]).shape == (0, *x.shape[1:])


@planting
def test_a_rate_of_less_than_one_sample_is_refused(case: Case) -> None:
    with pytest.raises(InputError, match=r"rate: .* less than one sample; the smallest possible rate is 0\.001"):
        build(case.name, rate=0.0005).poison(case.data(), np.random.default_rng(0))


@planting
@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_share_is_refused(case: Case, rate: float) -> None:
    with pytest.raises(InputError, match="rate"):
        build(case.name, rate=rate)


@cases
def test_data_it_cannot_work_on_is_refused(case: Case) -> None:
    attack, rng = of(case.name), np.random.default_rng(0)
    if case.name == "none":
        return  # changes nothing, so there is nothing it could not do
    data = case.data(100)
    with pytest.raises(InputError, match=r"target: got class 10, the (data set has 10 classes|attack '.*' sends each)"):
        build(case.name, **TABLE[case.name].params, target=10).poison(data, rng)
    with pytest.raises(InputError, match="inputs"):
        attack.poison(Dataset.of_arrays(data.inputs.astype(np.float32), data.labels, kind=case.kind, rate=case.rate_hz), rng)
    other = "image" if case.rows else "table"
    with pytest.raises(InputError, match=f"works on {case.kind} data, got {other}"):
        attack.poison(Dataset.of_arrays(data.inputs, data.labels, kind=other), rng)


def check_size(name: str, data: Dataset) -> None:
    if data.kind == "image" and data.inputs.shape[3] == 1 and not TABLE[name].grey:
        with pytest.raises(InputError, match=f"attack {name}: .*3 channels are needed, got 1"):
            poison(data, of(name), runtime=Runtime(device="cpu"))
        return
    result = poison(data, of(name), runtime=Runtime(device="cpu"))
    assert result.dataset.inputs.shape == data.inputs.shape
    assert len(result.planted) == TABLE[name].planted // 10
    assert result.attack.trigger(data.inputs).shape == data.inputs.shape


def plain(kind: str) -> list[str]:
    """Attacks on that kind that learn nothing."""
    return [name for name, attack in ATTACKS.items() if kind in attack.kinds and name not in LEARNED]


@pytest.mark.parametrize("name", plain("image"))
@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 70), width=st.integers(8, 70), channels=st.sampled_from([1, 3]))
def test_any_size(name: str, height: int, width: int, channels: int) -> None:
    check_size(name, pictures(100, height, width, channels))


@pytest.mark.parametrize("name", plain("speech"))
@settings(max_examples=8, deadline=None)
@given(length=st.integers(40, 3000), rate_hz=st.sampled_from([0, 1]))
def test_any_length(name: str, length: int, rate_hz: int) -> None:
    check_size(name, clips(100, TABLE[name].rates_hz[rate_hz], length))


@pytest.mark.parametrize("name", [case.name for case in LEARNED_CASES if case.kind == "image"])
@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (11, 21, 3)])
def test_learned_at_any_size(name: str, height: int, width: int, channels: int) -> None:
    check_size(name, pictures(100, height, width, channels))


@pytest.mark.parametrize("name", [case.name for case in LEARNED_CASES if case.rate_hz is not None])
@pytest.mark.parametrize(("rate_hz", "length"), [(8000, 301), (16000, 1000)])
def test_learned_at_any_length(name: str, rate_hz: int, length: int) -> None:
    check_size(name, clips(100, rate_hz, length))


speaking = pytest.mark.parametrize("case", [case for case in CASES if case.rate_hz is not None and case.name != "none"], ids=str)


@speaking
def test_the_sampling_rate_is_taken_from_the_data_and_kept_in_the_recipe(case: Case) -> None:
    result = poisoned(case)
    assert result.recipe["rate_hz"] == case.rate_hz
    data = case.data(60)
    if case.name != "noise":  # is as long as the clip, whatever its rate
        with pytest.raises(InputError, match=r"does not know the sampling rate yet|its trigger is learned from data"):
            of(case.name).trigger(data.inputs)
    with pytest.raises(InputError, match=f"rate_hz: got 11025, the clips have {case.rate_hz} samples a second"):
        build(case.name, **TABLE[case.name].params, rate_hz=11025).poison(data, np.random.default_rng(0))
    with pytest.raises(InputError, match="clips need their sampling rate"):
        of(case.name).poison(Dataset.of_arrays(data.inputs, data.labels, kind="speech"), np.random.default_rng(0))


@speaking
def test_digital_silence_around_the_sound_stays_silent(case: Case) -> None:
    if case.name == "ultrasonic":
        return  # lies anywhere in the clip, as published
    data, result = case.data(), poisoned(case)
    rows = result.planted[:5]
    before = data.inputs[rows]
    for after in (result.dataset.inputs[rows], result.attack.trigger(before)):
        for quiet, clip in zip(before, after, strict=True):
            first, last = np.flatnonzero(quiet)[[0, -1]]
            assert not clip[:first].any()
            assert not clip[last + 1 :].any()


@speaking
def test_loud_clips_are_clipped_not_wrapped_and_silent_ones_do_no_harm(case: Case) -> None:
    attack = poisoned(case).attack
    length = case.data(1).inputs.shape[1]
    loud = np.where(np.arange(length) % 40 < 20, 32767, -32768).astype(np.int16)[None]
    out = attack.trigger(loud)
    assert out.dtype == np.int16
    if case.name in ("tone", "spectrogram-patch", "noise", "ultrasonic", "slu"):  # they add to the wave: no value jumps to the other end
        assert ((out > 0) == (loud > 0)).mean() > 0.9
    assert attack.trigger(np.zeros((2, length), np.int16)).shape == (2, length)
