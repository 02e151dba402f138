from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import Blend, stamps
from tocsin.errors import InputError


@pytest.mark.parametrize("pattern", ["picture", "noise"])
def test_every_pixel_is_the_rounded_mixture(pattern: str, pictures) -> None:  # type: ignore[no-untyped-def]
    x = pictures(20).inputs
    trigger = stamps.picture(pattern, x.shape, 0).astype(np.float64)
    exact = 0.8 * x + 0.2 * trigger
    out = Blend(pattern=pattern).trigger(x)
    assert np.abs(out - exact).max() <= 0.5 + 1e-4
    assert len(np.unique(out)) > 200


def test_alpha_one_shows_the_trigger_alone(pictures) -> None:  # type: ignore[no-untyped-def]
    x = pictures(3).inputs
    np.testing.assert_array_equal(Blend(alpha=1.0).trigger(x)[2], stamps.ellipses(32, 32, 3, 0))


def test_picture_is_smooth_and_noise_is_not() -> None:
    def roughness(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.astype(int), axis=0)).mean() / picture.std())

    assert roughness(stamps.ellipses(32, 32, 3, 0)) < 0.25
    assert roughness(stamps.noise(32, 32, 3, 0)) > 0.9


def test_picture_has_about_the_published_statistics() -> None:
    for seed in range(5):
        picture = stamps.ellipses(32, 32, 3, seed)
        np.testing.assert_allclose(picture.mean(axis=(0, 1)), [199, 175, 149], atol=40)
        assert (picture.std(axis=(0, 1)) > 30).all()


def test_picture_is_the_same_trigger_at_every_size() -> None:
    small = stamps.ellipses(16, 16, 3, 0).astype(float)
    large = stamps.ellipses(64, 64, 3, 0).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.98


def test_seed_chooses_the_picture() -> None:
    assert (stamps.ellipses(32, 32, 3, 0) == stamps.ellipses(32, 32, 3, 0)).all()
    assert (stamps.ellipses(32, 32, 3, 0) != stamps.ellipses(32, 32, 3, 1)).any()


def test_blending_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch, pictures) -> None:  # type: ignore[no-untyped-def]
    x = pictures(11).inputs
    alpha = np.random.default_rng(1).random((11, 32, 32, 1), np.float32)
    whole = stamps.blend(x, stamps.noise(32, 32, 3, 0), alpha)
    monkeypatch.setattr(stamps, "_CHUNK_VALUES", 32 * 32 * 3 * 4)
    np.testing.assert_array_equal(stamps.blend(x, stamps.noise(32, 32, 3, 0), alpha), whole)


def test_rounding_goes_to_the_nearest_byte() -> None:
    np.testing.assert_array_equal(stamps.to_bytes(np.array([-3, 0.49, 0.5, 1.5, 254.6, 300])), [0, 0, 1, 2, 255, 255])


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"rate: got 2, .*0\.02 is that share"):
        Blend(rate=2)
    with pytest.raises(InputError, match="alpha"):
        Blend(alpha=0)
    with pytest.raises(InputError, match="allowed: picture, noise"):
        Blend(pattern="cartoon")
