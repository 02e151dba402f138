from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tocsin.runtime import Runtime


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(cache=tmp_path / "cache")


@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    """Random pictures: pixels(4, 8, 8, 3)."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.integers(0, 256, shape, np.uint8)


@pytest.fixture
def put(pixels: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Saves one random (or given) picture, makes its folders, returns its pixels."""

    def save(path: Path, array: np.ndarray | None = None, shape: tuple[int, ...] = (8, 8, 3), **options: object) -> np.ndarray:
        array = pixels(*shape) if array is None else array
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path, **options)
        return array

    return save


@pytest.fixture
def two_classes(tmp_path: Path, put: Callable[..., np.ndarray]) -> Path:
    """root/cat and root/dog, three 8x8 PNGs each."""
    root = tmp_path / "root"
    for name in ("cat", "dog"):
        for k in range(3):
            put(root / name / f"{k}.png")
    return root
