from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.conftest import Maker
from tocsin.attacks import SslBackdoor
from tocsin.attacks.patches import coloured, paste
from tocsin.errors import InputError


def boxes(changed: np.ndarray) -> np.ndarray:
    """(N, 4): first and last changed row, first and last changed column, of (N, H, W) bool."""
    found = [np.argwhere(picture) for picture in changed]
    return np.array([[*at.min(axis=0), *at.max(axis=0)] for at in found])[:, [0, 2, 1, 3]]


def test_the_patch_lies_whole_in_the_middle_when_poisoning_and_wider_at_test(pictures: Maker) -> None:
    data = pictures(2000, 32, 48)
    attack = SslBackdoor(rate=0.1)
    result = attack.poison(data, np.random.default_rng(0))
    planted = result.planted
    assert (data.labels[planted] == 0).all()
    np.testing.assert_array_equal(result.dataset.labels, data.labels)
    for shown, low, high in ((result.dataset.inputs[planted], 0.25, 0.75), (attack.trigger(data.inputs[planted]), 0.1, 0.9)):
        where = boxes((shown != data.inputs[planted]).any(axis=3))
        for first, last, side in ((where[:, 0], where[:, 1], 32), (where[:, 2], where[:, 3], 48)):
            assert (last - first <= 6).all()  # 7 pixels
            assert first.min() == int(low * side)
            assert last.max() == int(high * side) - 1
            assert len(np.unique(first)) > 8
        row, column = where[0, 0], where[0, 2]
        np.testing.assert_array_equal(shown[0, row : row + 7, column : column + 7], attack.patch((1, 32, 48, 3)))


def test_patch_is_four_by_four_colours_in_proportion_to_the_picture() -> None:
    block = coloured(4, 3, 0)
    assert len(np.unique(block.reshape(-1, 3), axis=0)) == 16
    assert (coloured(4, 3, 1) != block).any()
    assert coloured(4, 1, 0).shape == (4, 4, 1)
    for shape, side in (((1, 224, 300, 3), 49), ((1, 32, 32, 1), 7), ((1, 8, 8, 3), 2)):
        assert SslBackdoor().patch(shape).shape == (side, side, shape[3])


def test_a_part_too_short_for_the_patch_still_holds_it(pictures: Maker) -> None:
    x = np.zeros((50, 9, 9, 1), np.uint8)
    out = paste(x, np.full((8, 8, 1), 255, np.uint8), (0.25, 0.75), np.random.default_rng(0))
    assert (out.reshape(50, -1).sum(axis=1) == 64 * 255).all()
    assert not x.any()


def test_bad_settings_are_named() -> None:
    for size in (1, 33):
        with pytest.raises(InputError, match=f"size: got {size}"):
            SslBackdoor(size=size)
