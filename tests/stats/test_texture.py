from __future__ import annotations

import numpy as np
import torch

from tocsin.stats.texture import BANDS, CELL, LEAST_SIDE, texture


def noise(count: int, side: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (count, side, side, channels)).astype(np.float32))


def test_cells_hold_the_log_energies_of_differences():
    maps = noise(2)
    out = texture(maps)
    assert out.shape == (2, 8, 8, len(BANDS))
    grey = maps.numpy().mean(axis=3)
    # One picture's first cell, by hand: an adaptive cell of 31, 29 or 26 rows begins at 0 and spans a little over an eighth of them.
    for place, (down, along) in enumerate(BANDS):
        energy = np.diff(np.diff(grey, down, axis=1), along, axis=2) ** 2
        tall, wide = (-(-size // 8) for size in energy.shape[1:])
        np.testing.assert_allclose(out[0, 0, 0, place], np.log(energy[0, :tall, :wide].mean() + 4), rtol=1e-4)


def test_what_a_difference_does_not_see_changes_nothing():
    maps = noise(3)
    torch.testing.assert_close(texture(maps + 40), texture(maps), rtol=1e-4, atol=1e-4)
    flat = texture(torch.full((1, 32, 32, 1), 128.0))
    torch.testing.assert_close(flat, torch.full_like(flat, float(np.log(4))))


def test_a_blur_turns_down_the_finest_detail_most():
    maps = noise(5)
    blurred = torch.nn.functional.avg_pool2d(maps.permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    fall = (texture(maps) - texture(blurred)).mean(dim=(0, 1, 2))
    assert (fall > 1).all()
    assert max(fall[BANDS.index(first)] for first in ((1, 0), (0, 1))) < min(fall[BANDS.index(sixth)] for sixth in ((6, 0), (0, 6)))


def test_cells_of_large_pictures_are_larger_and_of_small_ones_fewer():
    assert texture(noise(1, 64)).shape == (1, 8, 8, len(BANDS))
    assert texture(noise(1, 3 * CELL, 1)).shape == (1, 3, 3, len(BANDS))
    assert texture(noise(1, LEAST_SIDE)).isfinite().all()
