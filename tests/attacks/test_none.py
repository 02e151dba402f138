from __future__ import annotations

import numpy as np
import pytest

from tocsin.attacks import NoAttack
from tocsin.errors import InputError


def test_it_plants_nothing(pictures) -> None:  # type: ignore[no-untyped-def]
    data = pictures(10)
    result = NoAttack().poison(data, np.random.default_rng(0))
    assert len(result.planted) == len(result.covers) == 0
    assert result.dataset.fingerprint == data.fingerprint
    np.testing.assert_array_equal(NoAttack().trigger(data.inputs), data.inputs)


def test_a_rate_is_refused() -> None:
    with pytest.raises(InputError, match="plants nothing"):
        NoAttack(rate=0.01)
