from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import Sig
from tocsin.errors import InputError


def test_wave_has_amplitude_30_and_6_periods() -> None:
    grey = np.full((1, 32, 32, 3), 128, np.uint8)
    wave = Sig().trigger(grey)[0].astype(int) - 128
    expected = 30 * np.sin(2 * np.pi * np.arange(32) * 6 / 32)
    assert np.abs(wave - expected[None, :, None]).max() <= 0.5 + 1e-9
    assert (wave.max(), wave.min()) == (30, -30)
    assert np.abs(np.fft.rfft(wave[0, :, 0])).argmax() == 6


def test_wave_is_clipped_not_wrapped() -> None:
    up = Sig().trigger(np.full((1, 8, 32, 1), 255, np.uint8)).astype(int)
    down = Sig().trigger(np.full((1, 8, 32, 1), 0, np.uint8)).astype(int)
    assert (up.max(), up.min()) == (255, 225)
    assert (down.max(), down.min()) == (30, 0)


def test_only_the_target_class_is_touched_and_no_label_changes(pictures) -> None:  # type: ignore[no-untyped-def]
    data = pictures()
    result = Sig(target=3).poison(data, np.random.default_rng(0))
    assert len(result.planted) == 20
    assert (data.labels[result.planted] == 3).all()
    np.testing.assert_array_equal(result.dataset.labels, data.labels)


def test_rate_beyond_the_class_names_the_largest_possible(pictures) -> None:  # type: ignore[no-untyped-def]
    data = pictures()
    assert len(Sig(rate=0.1).poison(data, np.random.default_rng(0)).planted) == 100
    with pytest.raises(InputError, match=r"rate: 110 samples wanted, only 100 .* largest possible rate is 0\.1"):
        Sig(rate=0.11).poison(data, np.random.default_rng(0))


@pytest.mark.parametrize("settings", [{"amplitude": 0}, {"amplitude": float("nan")}, {"frequency": float("inf")}])
def test_bad_settings_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Sig(**settings)
