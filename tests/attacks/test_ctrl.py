from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn, idctn

from tests.attacks.conftest import Maker
from tocsin.attacks import Ctrl
from tocsin.errors import InputError

# Rows Y, U, V; columns R, G, B (BT.601), as the definition of U and V gives them.
_LUMA = np.array([0.299, 0.587, 0.114])
TO_YUV = np.stack([_LUMA, 0.492 * (np.array([0, 0, 1]) - _LUMA), 0.877 * (np.array([1, 0, 0]) - _LUMA)])


def by_the_paper(picture: np.ndarray, magnitude: float) -> np.ndarray:
    """One 32 x 32 picture through the published steps: to YUV, transform, raise, transform back, to RGB. Floats, not yet bytes."""
    yuv = picture.astype(float) @ TO_YUV.T
    for channel in (1, 2):
        coefficients = dctn(yuv[:, :, channel], norm="ortho")
        for k in (15, 31):
            coefficients[k, k] += magnitude
        yuv[:, :, channel] = idctn(coefficients, norm="ortho")
    return np.asarray(yuv @ np.linalg.inv(TO_YUV).T)


def test_is_what_the_published_steps_give(pictures: Maker) -> None:
    x = pictures(20).inputs
    for magnitude, ours in ((50, Ctrl().raised(x, 50)), (100, Ctrl().trigger(x))):
        theirs = np.stack([by_the_paper(picture, magnitude) for picture in x])
        np.testing.assert_array_equal(ours, np.clip(np.floor(theirs + 0.5), 0, 255))


@pytest.mark.parametrize(("height", "width", "windows"), [(32, 32, [(32, 32)]), (64, 33, [(32, 33)] * 2), (8, 40, [(8, 40)])])
def test_only_the_named_coefficients_of_the_colours_change(height: int, width: int, windows: list[tuple[int, int]]) -> None:
    added = Ctrl().pattern(height, width, 50.0).astype(float) @ TO_YUV.T
    assert np.abs(added[:, :, 0]).max() < 1e-3  # brightness stays
    for k, (tall, wide) in enumerate(windows):
        box = added[k * tall : (k + 1) * tall, :wide]
        for channel in (1, 2):
            found = dctn(box[:, :, channel], norm="ortho")
            named = [(round(f * (tall - 1) / 31), round(f * (wide - 1) / 31)) for f in (15, 31)]
            wanted = np.zeros((tall, wide))
            wanted[tuple(zip(*named, strict=True))] = 50 * (tall * wide) ** 0.5 / 32
            np.testing.assert_allclose(found, wanted, atol=0.01)


def test_after_rounding_the_coefficients_are_still_there() -> None:
    grey = np.full((1, 32, 32, 3), 128, np.uint8)
    yuv = (Ctrl().trigger(grey)[0].astype(float) - 128) @ TO_YUV.T
    found = dctn(yuv[:, :, 1], norm="ortho")
    assert abs(found[15, 15] - 100) < 3
    assert abs(found[31, 31] - 100) < 3
    found[[15, 31], [15, 31]] = 0
    assert np.abs(found).max() < 5


def test_poisons_are_fainter_than_the_test_trigger_and_of_the_target_class(pictures: Maker) -> None:
    data = pictures(500)
    result = Ctrl(rate=0.04, target=3).poison(data, np.random.default_rng(0))
    assert len(result.planted) == 20
    assert (data.labels[result.planted] == 3).all()
    np.testing.assert_array_equal(result.dataset.labels, data.labels)
    before = data.inputs[result.planted].astype(int)
    poisoned, shown = (
        np.abs(x.astype(int) - before).mean()
        for x in (result.dataset.inputs[result.planted], result.attack.trigger(before.astype(np.uint8)))
    )
    assert 1.7 < shown / poisoned < 2.1


def test_grey_pictures_and_bad_settings_are_refused(pictures: Maker) -> None:
    with pytest.raises(InputError, match="in the colours; pictures of 3 channels are needed, got 1"):
        Ctrl().trigger(pictures(5, channels=1).inputs)
    for settings in ({"magnitude": 0}, {"test_magnitude": -1}, {"frequencies": ()}, {"frequencies": (32,)}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Ctrl(**settings)  # type: ignore[arg-type]
