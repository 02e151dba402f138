"""Small random picture sets for the attack tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tocsin.data.dataset import Dataset

Maker = Callable[..., Dataset]


@pytest.fixture(scope="session")
def pictures() -> Maker:
    """``pictures(n, height, width, channels, classes)``: random uint8 pictures, every class equally often, shuffled."""

    def make(n: int = 1000, height: int = 32, width: int = 32, channels: int = 3, classes: int = 10) -> Dataset:
        rng = np.random.default_rng(5)
        inputs = rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)
        return Dataset.of_arrays(inputs, rng.permutation(np.arange(n) % classes), tuple(f"class {k}" for k in range(classes)))

    return make
