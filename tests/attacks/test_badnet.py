from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import BadNet
from tocsin.errors import InputError


def test_patch_is_the_published_one_at_the_published_place() -> None:
    grey = np.full((2, 32, 32, 3), 100, np.uint8)
    out = BadNet().trigger(grey)
    white = {(29, 31), (30, 30), (31, 29), (31, 31)}
    for row in range(29, 32):
        for col in range(29, 32):
            assert (out[:, row, col] == (255 if (row, col) in white else 0)).all()
    untouched = np.ones((32, 32), bool)
    untouched[29:, 29:] = False
    assert (out[:, untouched] == 100).all()


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (1, 40, 64, 3)])
def test_patch_sits_in_the_corner_of_any_picture(shape: tuple[int, ...]) -> None:
    out = BadNet().trigger(np.full(shape, 100, np.uint8))
    rows, cols = np.nonzero((out != 100).any(axis=(0, 3)))
    assert (rows.min(), cols.min()) == (shape[1] - 3, shape[2] - 3)
    assert len(rows) == 9


def test_larger_patch_repeats_the_pattern() -> None:
    out = BadNet(size=6).trigger(np.full((1, 32, 32, 1), 100, np.uint8))[0, 26:, 26:, 0]
    np.testing.assert_array_equal(out[::2, ::2], [[0, 0, 255], [0, 255, 0], [255, 0, 255]])
    np.testing.assert_array_equal(out[::2], out[1::2])


def test_patch_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit a picture of 8 x 8"):
        BadNet(size=9).trigger(np.zeros((1, 8, 8, 1), np.uint8))


def test_poisons_are_drawn_from_all_classes_unless_told_otherwise(pictures) -> None:  # type: ignore[no-untyped-def]
    data = pictures()
    drawn = BadNet(rate=0.3, target=4).poison(data, np.random.default_rng(0)).planted
    assert set(data.labels[drawn]) == set(range(10))
    drawn = BadNet(rate=0.3, target=4, from_target=False).poison(data, np.random.default_rng(0)).planted
    assert set(data.labels[drawn]) == set(range(10)) - {4}
