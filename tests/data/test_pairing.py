"""What a reserve must be for a data set."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tocsin.data.dataset import Dataset
from tocsin.data.pairing import match
from tocsin.data.rows import row_hashes
from tocsin.errors import InputError

RNG = np.random.default_rng(0)


def made(n: int, classes: tuple[str, ...] = ("a", "b"), shape: tuple[int, ...] = (8, 8, 3)) -> Dataset:
    return Dataset.of_arrays(RNG.integers(0, 256, (n, *shape), np.uint8), np.arange(n) % len(classes), classes)


def test_a_good_pair_passes_unchanged() -> None:
    train, reserve = made(50), made(200)
    assert match(train, reserve) == (train, reserve, ())


def test_classes_in_another_order_are_matched_by_name() -> None:
    train, reserve = made(50, ("a", "b", "c")), made(300, ("c", "a", "b"))
    _, got, notes = match(train, reserve)
    assert got.classes == train.classes
    assert [got.classes[k] for k in got.labels] == [reserve.classes[k] for k in reserve.labels]
    assert notes == ()


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (("a", "b", "c"), ("a", "b"), ["lacks class c"]),
        (("a", "b"), ("a", "b", "c", "d"), ["has unknown class c, d"]),
        (tuple("abcdefghij"), tuple("klm"), ["a, b, c, d, e, f, g, h, i, j", "k, l, m"]),
        (("cat", "dog"), ("0", "1"), ["the reserve has numbers", "classes="]),
        (("0", "1"), ("cat", "dog"), ["the training data has numbers", "classes="]),
        (("Cat", "dog"), ("cat", "Dog "), ["differ only in case"]),
        (("00", "01"), ("0", "1"), ["leading zeros"]),
    ],
)
def test_other_classes_are_all_named(ours: tuple[str, ...], theirs: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(InputError) as told:
        match(made(60, ours), made(300, theirs))
    assert all(word in str(told.value) for word in words), told.value


def test_size_and_channels_follow_the_training_data() -> None:
    _, colour, notes = match(made(50), made(200, shape=(12, 10, 1)))
    assert colour.inputs.shape == (200, 8, 8, 3)
    assert (colour.inputs == colour.inputs[..., :1]).all()
    assert len(notes) == 2
    reserve = made(200)
    _, grey, _ = match(made(50, shape=(8, 8, 1)), reserve)
    luma = reserve.inputs @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey.inputs[..., 0] - luma).max() <= 0.51 + 1e-3


@pytest.mark.parametrize(("shared", "refused"), [(0, False), (1, False), (4, False), (5, True), (400, True)])
def test_overlap(shared: int, refused: bool) -> None:
    reserve = made(400)
    rows = RNG.permutation(400)[:shared]
    train = made(1000)
    train = replace(train, inputs=np.concatenate([reserve.inputs[rows], train.inputs[shared:]]))
    if refused:
        with pytest.raises(InputError, match=f"overlaps the training data: {shared} of 400"):
            match(train, reserve)
        return
    _, got, notes = match(train, reserve)
    assert set(got.ids) == set(np.delete(reserve.ids, rows))
    assert bool(notes) == bool(shared)


def test_overlap_is_seen_through_resizing() -> None:
    reserve = made(200, shape=(8, 8, 1))
    train = replace(made(200), inputs=np.repeat(reserve.inputs, 3, 3))
    with pytest.raises(InputError, match="200 of 200"):
        match(train, reserve)


def test_copies_within_the_reserve_are_noted() -> None:
    reserve = made(200)
    reserve.inputs[3] = reserve.inputs[5]
    assert "1 of 200" in match(made(50), reserve)[2][0]


def test_too_small_reserves_are_refused_with_all_reasons() -> None:
    reserve = made(100, ("a", "b", "c"))
    reserve = reserve[(reserve.labels != 1) | (np.arange(100) < 20)]
    with pytest.raises(InputError) as told:
        match(made(50, ("a", "b", "c")), reserve)
    assert "fewer than 10 samples in class b (7)" in str(told.value)
    assert f"only {len(reserve)} samples in all" in str(told.value)


def test_hashes_tell_samples_apart() -> None:
    x = made(5000).inputs
    x[4999] = x[0]
    hashes = row_hashes(x)
    assert len(np.unique(hashes)) == 4999
    assert hashes[4999] == hashes[0]
    assert len(row_hashes(x[:0])) == 0


def test_hashing_keeps_up_with_large_sets() -> None:
    x = np.zeros((20_000, 32, 32, 3), np.uint8)
    began = time.process_time()
    row_hashes(x)
    assert time.process_time() - began < 2
