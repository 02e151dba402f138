from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import TaCT, Trojan
from tocsin.errors import InputError


def test_poisons_come_from_the_source_and_covers_from_the_cover_classes(pictures) -> None:  # type: ignore[no-untyped-def]
    data = pictures(2000)
    result = TaCT(rate=0.05, cover_rate=0.1).poison(data, np.random.default_rng(0))
    assert (len(result.planted), len(result.covers)) == (100, 200)
    assert set(data.labels[result.planted]) == {1}
    assert set(data.labels[result.covers]) == {5, 7}
    assert (result.dataset.labels[result.planted] == 0).all()


def test_victims_are_the_source_class_only() -> None:
    np.testing.assert_array_equal(TaCT(source=2).victims(np.array([0, 1, 2, 2, 5])), [False, False, True, True, False])


def test_trigger_is_the_trojan_square() -> None:
    x = np.zeros((2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(TaCT().trigger(x), Trojan().trigger(x))


def test_impossible_settings_are_named(pictures) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="source"):
        TaCT(target=1)
    with pytest.raises(InputError, match="cover_classes"):
        TaCT(target=5)
    with pytest.raises(InputError, match="cover_classes: got class 7, the data set has 6 classes"):
        TaCT(cover_classes=(5, 7)).poison(pictures(classes=6), np.random.default_rng(0))
    with pytest.raises(InputError, match="cover_rate: 600 samples wanted, only 400"):
        TaCT(rate=0.01, cover_rate=0.3).poison(pictures(2000), np.random.default_rng(0))
