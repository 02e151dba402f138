from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import AdapBlend, Blend, stamps
from tocsin.attacks.adap_blend import tile_mask, visible_tiles
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


def test_each_touched_sample_shows_exactly_8_of_16_tiles() -> None:
    black = Dataset.of_arrays(np.zeros((200, 32, 32, 3), np.uint8), np.arange(200) % 10)
    result = AdapBlend(rate=0.2, cover_rate=0.1).poison(black, np.random.default_rng(0))
    touched = np.concatenate([result.planted, result.covers])
    tiles = result.dataset.inputs[touched].reshape(60, 4, 8, 4, 8, 3).any(axis=(2, 4, 5))
    assert (tiles.sum(axis=(1, 2)) == 8).all()
    assert len(np.unique(tiles.reshape(60, 16), axis=0)) > 50  # drawn for each sample anew
    shown = np.repeat(np.repeat(tiles, 8, 1), 8, 2)[..., None]
    expected = stamps.to_bytes(np.float32(0.15) * stamps.ellipses(32, 32, 3, 0)) * shown
    np.testing.assert_allclose(result.dataset.inputs[touched].astype(int), expected, atol=1)


def test_hidden_tiles_are_drawn_uniformly() -> None:
    visible = visible_tiles(np.random.default_rng(0), 20000, 4, 8)
    assert (visible.sum(axis=1) == 8).all()
    np.testing.assert_allclose(visible.mean(axis=0), 0.5, atol=0.02)


def test_tiles_share_out_odd_sizes() -> None:
    mask = tile_mask(np.eye(16, dtype=bool), 4, 10, 13)
    assert mask.shape == (16, 10, 13, 1)
    assert (mask.sum(axis=0) == 1).all()
    areas = mask.sum(axis=(1, 2, 3))
    assert areas.min() >= 2 * 3
    assert areas.max() <= 3 * 4


def test_test_trigger_is_the_whole_picture_at_a_fifth(pictures) -> None:  # type: ignore[no-untyped-def]
    x = pictures(5).inputs
    np.testing.assert_array_equal(AdapBlend().trigger(x), Blend(alpha=0.2).trigger(x))


def test_impossible_settings_are_named(pictures) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="hidden: got 16"):
        AdapBlend(hidden=16)
    with pytest.raises(InputError, match="grid: 9 tiles a side do not fit a picture of 8 x 8"):
        AdapBlend(rate=0.1, cover_rate=0.1, grid=9).poison(pictures(100, 8, 8, 1), np.random.default_rng(0))
    with pytest.raises(InputError, match="cover_rate: 50 samples wanted, only 40"):
        AdapBlend(rate=0.6, cover_rate=0.5).poison(pictures(100), np.random.default_rng(0))
