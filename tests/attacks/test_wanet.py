from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import WaNet
from tocsin.attacks.wanet import identity_grid, noise_field, pixel_noise, warp
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


def bilinear(picture: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Plain reference: one pixel after the other; -1 and 1 are the centres of the first and the last pixel."""
    height, width, _ = picture.shape
    out = np.zeros(picture.shape)
    for i in range(height):
        for j in range(width):
            x, y = (grid[i, j, 0] + 1) / 2 * (width - 1), (grid[i, j, 1] + 1) / 2 * (height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            a, b = x - left, y - top
            out[i, j] = (1 - b) * ((1 - a) * picture[top, left] + a * picture[top, left + 1]) + b * (
                (1 - a) * picture[top + 1, left] + a * picture[top + 1, left + 1]
            )
    return out


def bicubic(control: np.ndarray, size: int) -> np.ndarray:
    """Plain reference along one axis: cubic convolution with a = -0.75, ends repeated, corners on corners."""

    def kernel(t: float) -> float:
        t = abs(t)
        return 1.25 * t**3 - 2.25 * t**2 + 1 if t <= 1 else -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    k = len(control)
    out = np.zeros((size, *control.shape[1:]))
    for i in range(size):
        place = i * (k - 1) / (size - 1)
        for j in range(int(place) - 1, int(place) + 3):
            out[i] += kernel(place - j) * control[min(max(j, 0), k - 1)]
    return out


def test_identity_grid_gives_the_picture_back(pictures) -> None:  # type: ignore[no-untyped-def]
    for shape in ((32, 32, 3), (9, 21, 1)):
        x = pictures(20, *shape).inputs
        np.testing.assert_array_equal(warp(x, identity_grid(*shape[:2])), x)


@pytest.mark.parametrize("shape", [(32, 32, 3), (11, 24, 1)])
def test_warp_is_bilinear_sampling(shape: tuple[int, int, int], pictures) -> None:  # type: ignore[no-untyped-def]
    x = pictures(3, *shape).inputs
    grid = WaNet(strength=3).warp_grid(*shape[:2])
    expected = np.stack([bilinear(picture.astype(float), grid.astype(float)) for picture in x])
    assert np.abs(WaNet(strength=3).trigger(x) - expected).max() <= 0.5 + 1e-3


def test_field_is_the_control_noise_divided_by_its_mean_size_and_enlarged_bicubically() -> None:
    control = noise_field(4, 4, 4, seed=7).astype(float)  # corners on corners: at 4 x 4 it is the control points
    np.testing.assert_allclose(np.abs(control).mean(), 1, rtol=1e-6)
    assert np.abs(control).max() < 4
    field = noise_field(4, 32, 20, seed=7)
    expected = np.swapaxes(bicubic(np.swapaxes(bicubic(control, 32), 0, 1), 20), 0, 1)
    np.testing.assert_allclose(field, expected, atol=1e-5)
    assert (noise_field(4, 32, 32, 8) != noise_field(4, 32, 32, 7)).any()


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (8, 8)])
def test_most_pixels_move_by_less_than_one_and_none_leaves_the_picture(size: tuple[int, int]) -> None:
    height, width = size
    grid = WaNet().warp_grid(height, width)
    pixels = (grid - identity_grid(height, width)) * (np.array([width, height]) - 1) / 2
    assert (np.linalg.norm(pixels, axis=2) <= 1).mean() > 0.95
    assert np.abs(pixels).mean() > 0.1
    assert np.abs(grid).max() <= 1


def gradient(n: int) -> Dataset:
    """Pictures whose value grows by 8 a column: a warp by d columns changes a pixel by 8 d."""
    column = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None] * 8, (32, 32, 1))
    return Dataset.of_arrays(np.stack([column] * n), np.arange(n) % 10)


def test_poisons_are_warped_alike_and_covers_with_a_noise_of_their_own() -> None:
    data, attack = gradient(200), WaNet(rate=0.1, cover_rate=0.1)
    result = attack.poison(data, np.random.default_rng(0))
    assert (len(result.planted), len(result.covers)) == (20, 20)
    x = result.dataset.inputs
    np.testing.assert_array_equal(x[result.planted], attack.trigger(data.inputs[:20]))
    assert len(np.unique(x[result.covers], axis=0)) == 20
    off = np.abs(x[result.covers].astype(int) - attack.trigger(data.inputs[:20])).astype(float)
    assert off.max() <= 0.5 * 8 * 31 / 32 + 1  # up to half a pixel, and rounding
    assert 0.15 * 8 < off.mean() < 0.35 * 8  # a uniform shift of up to half a pixel is a quarter on average
    np.testing.assert_array_equal(result.dataset.labels[result.covers], data.labels[result.covers])


def test_shared_noise_is_one_for_all_covers() -> None:
    data = gradient(200)
    result = WaNet(rate=0.1, cover_rate=0.1, cover_noise="shared").poison(data, np.random.default_rng(0))
    assert len(np.unique(result.dataset.inputs[result.covers], axis=0)) == 1
    assert (result.dataset.inputs[result.covers[0]] != result.dataset.inputs[result.planted[0]]).any()


def test_noise_is_independent_and_up_to_half_a_pixel() -> None:
    noise = pixel_noise(np.random.default_rng(0), 40, 20, 10) * (10, 20)  # in [-1, 1], twice the shift in pixels
    assert np.abs(noise).max() <= 1
    np.testing.assert_allclose(noise.var(), 1 / 3, atol=0.01)


def test_bad_settings_are_named() -> None:
    for settings in ({"grid": 1}, {"strength": 0}, {"cover_rate": 2}):
        with pytest.raises(InputError, match=next(iter(settings))):
            WaNet(**settings)  # type: ignore[arg-type]
