from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import Trojan, stamps
from tocsin.errors import InputError


def test_square_covers_rows_and_columns_21_to_28() -> None:
    black = np.zeros((3, 32, 32, 3), np.uint8)
    out = Trojan().trigger(black)
    touched = np.zeros((32, 32), bool)
    touched[21:29, 21:29] = True
    assert (out[:, touched] > 0).all()
    assert (out[:, ~touched] == 0).all()
    np.testing.assert_array_equal(out[0], out[2])


def test_square_has_64_distinct_saturated_colours() -> None:
    colours = stamps.colour_square(8, 3, 0).reshape(64, 3)
    assert len(np.unique(colours, axis=0)) == 64
    assert (colours.max(axis=1) >= 200).all()
    assert ((colours.max(axis=1).astype(int) - colours.min(axis=1)) >= 60).all()


@pytest.mark.parametrize(("side", "first", "size"), [(8, 5, 2), (16, 10, 4), (64, 53, 8)])
def test_square_shrinks_with_small_pictures(side: int, first: int, size: int) -> None:
    out = Trojan().trigger(np.zeros((1, side, side, 1), np.uint8))
    rows, cols = np.nonzero(out[0, :, :, 0])
    assert (rows.min(), cols.min()) == (first, first)
    assert (rows.max(), cols.max()) == (first + size - 1, first + size - 1)
    assert len(rows) == size**2


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match="size and margin"):
        Trojan(size=0)
