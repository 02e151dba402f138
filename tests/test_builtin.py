from __future__ import annotations

import numpy as np
import pytest

from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset


@pytest.fixture(scope="module")
def sets() -> tuple[Dataset, Dataset, Dataset]:
    return digits(0)


def bases(data: Dataset) -> set[str]:
    return {name.rsplit("-", 1)[0] for name in data.ids.tolist()}


def test_sizes_types_and_classes(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    assert [len(s) for s in sets] == [6000, 1000, 1000]
    for s in sets:
        assert s.inputs.shape == (len(s), 16, 16, 1)
        assert s.inputs.dtype == np.uint8
        assert s.classes == tuple("0123456789")
        assert len(np.unique(s.ids)) == len(s)
        assert (s.class_counts > 0.08 * len(s)).all()


def test_no_base_digit_is_in_two_sets_and_none_is_left_out(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    train, reserve, test = map(bases, sets)
    assert not train & reserve
    assert not train & test
    assert not reserve & test
    assert len(train | reserve | test) == 1797


def test_no_picture_occurs_twice(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    everything = np.concatenate([s.inputs.reshape(len(s), -1) for s in sets])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_variants_are_recognisably_their_base_digit(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    from sklearn.datasets import load_digits

    train = sets[0]
    small = train.inputs[..., 0].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(len(train), 64)
    base = load_digits()
    row = np.array([int(name.split("-")[1]) for name in train.ids.tolist()])
    np.testing.assert_array_equal(train.labels, base.target[row])
    own = [np.corrcoef(a, b)[0, 1] for a, b in zip(small[:500], base.data[row[:500]], strict=True)]
    strangers = [np.corrcoef(a, b)[0, 1] for a, b in zip(small[:500], base.data[row[1:501]], strict=True)]
    assert np.median(own) > 0.7
    assert np.median(strangers) < 0.5


def test_seed_decides(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    assert digits(0, 500, 100, 100)[0].fingerprint == digits(0, 500, 100, 100)[0].fingerprint
    assert digits(1)[0].fingerprint != sets[0].fingerprint
