from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import AdapPatch, Trojan, stamps
from tocsin.attacks.adap_patch import icon, logo
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

CORNERS = {  # top left, top right, bottom left, bottom right, as published
    (0, 0): ("101", "010", "100"),
    (0, 29): ("101", "010", "001"),
    (29, 0): ("100", "010", "101"),
    (29, 29): ("001", "010", "101"),
}


def grey(n: int, value: int = 100) -> Dataset:
    return Dataset.of_arrays(np.full((n, 32, 32, 3), value, np.uint8), np.arange(n) % 10)


def touched(picture: np.ndarray) -> tuple[set[int], set[int]]:
    rows, cols = np.nonzero((picture != 100).any(axis=2))
    return set(rows.tolist()), set(cols.tolist())


def test_quarters_in_index_order_show_one_trigger_each_at_its_own_weight() -> None:
    result = AdapPatch(rate=0.2, cover_rate=0.4).poison(grey(200), np.random.default_rng(0))
    square = Trojan().trigger(np.full((1, 32, 32, 3), 100, np.uint8))[0, 21:29, 21:29].astype(float)
    for rows in (result.planted, result.covers):
        first, second, third, fourth = np.split(result.dataset.inputs[rows], 4)
        for quarter in (first, second, third, fourth):
            assert (quarter == quarter[0]).all()
        five = set(range(27, 32))
        assert touched(first[0]) == (five, five)
        np.testing.assert_allclose(first[0, 27:, 27:].astype(float), 0.5 * 100 + 0.5 * icon(5, 3), atol=0.51)
        assert touched(second[0]) == (set(range(1, 14)), set(range(18, 31)))
        assert abs(int((second[0] != 100).any(axis=2).sum()) - 140) <= 5
        np.testing.assert_allclose(second[0, 7, 24], 0.8 * 100 + 0.2 * logo(13, 3)[0][6, 6], atol=0.51)
        expected = np.full((32, 32), 100)
        for (top, left), rows_of_bits in CORNERS.items():
            for i, bits in enumerate(rows_of_bits):
                for j, bit in enumerate(bits):
                    expected[top + i, left + j] = 178 if bit == "1" else 50  # 177.5 is rounded up
        np.testing.assert_array_equal(third[0], np.repeat(expected[:, :, None], 3, axis=2))
        np.testing.assert_allclose(fourth[0, 21:29, 21:29].astype(float), 0.7 * 100 + 0.3 * square, atol=0.51)
        assert touched(fourth[0]) == (set(range(21, 29)), set(range(21, 29)))


def test_triggers_have_the_published_colours() -> None:
    np.testing.assert_allclose(icon(5, 3).mean(axis=(0, 1)), [180, 204, 244], atol=0.5)
    picture, disc = logo(13, 3)
    np.testing.assert_allclose(picture[disc[..., 0]].mean(axis=0), [192, 114, 82], atol=0.6)


def test_test_trigger_is_both_icons_with_the_patches_over_them() -> None:
    out = AdapPatch().trigger(grey(3).inputs)
    assert (out == out[0]).all()
    np.testing.assert_array_equal(out[0, 27:29, 27:], icon(5, 3)[:2])
    np.testing.assert_array_equal(out[0, 27:29, :5], icon(5, 3)[:2])
    np.testing.assert_array_equal(out[0, 29:, 27:29], icon(5, 3)[2:, :2])
    np.testing.assert_array_equal(out[0, 29:, 3:5], icon(5, 3)[2:, 3:])
    for (top, left), rows_of_bits in CORNERS.items():
        bits = np.array([[255 * int(bit) for bit in row] for row in rows_of_bits])
        np.testing.assert_array_equal(out[0, top : top + 3, left : left + 3], np.repeat(bits[:, :, None], 3, axis=2))
    assert int((out[0] != 100).any(axis=2).sum()) == 2 * 25 + 2 * 9


def test_other_test_trigger_is_the_logo_and_the_square() -> None:
    out = AdapPatch(test_trigger="logo+square").trigger(grey(1).inputs)[0]
    np.testing.assert_array_equal(out[21:29, 21:29], stamps.colour_square(8, 3, 0))
    picture, disc = logo(13, 3)
    np.testing.assert_array_equal(out[1:14, 18:31][disc[..., 0]], picture[disc[..., 0]])
    assert int((out != 100).any(axis=2).sum()) == 64 + int(disc.sum())


def test_impossible_settings_are_named() -> None:
    with pytest.raises(InputError, match="alphas: got 3 weights"):
        AdapPatch(alphas=(0.1, 0.2, 0.3))
    with pytest.raises(InputError, match="alphas: got 20"):
        AdapPatch(alphas=(0.1, 20, 0.3, 0.1))
    with pytest.raises(InputError, match="a patch of 3 pixels in each corner does not fit a picture of 5 x 5"):
        AdapPatch().trigger(np.zeros((1, 5, 5, 1), np.uint8))
