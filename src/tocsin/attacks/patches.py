"""Small coloured patches at random places: the trigger of Hidden Trigger and of SSL-Backdoor."""

from __future__ import annotations

import numpy as np

from tocsin.attacks import stamps
from tocsin.errors import InputError

_BLOCK = 4
"""The patch is so many random colours a side, enlarged."""


def coloured(size: int, channels: int, seed: int) -> np.ndarray:
    """(size, size, C) uint8: 4 x 4 random colours, enlarged bilinearly; with one channel their mean."""
    from PIL import Image

    block = np.random.default_rng([seed, 0xB10C]).integers(0, 256, (_BLOCK, _BLOCK, 3), dtype=np.uint8)
    return stamps.to_channels(np.asarray(Image.fromarray(block).resize((size, size), Image.Resampling.BILINEAR)), channels)


def side_for(size: int, shape: tuple[int, ...]) -> int:
    """A patch of ``size`` pixels on a picture of 32 x 32, in proportion to the shorter side of pictures (N, H, W, C); 2 at least."""
    return max(2, round(size * min(shape[1:3]) / 32))


def check_patch(size: int) -> None:
    """Raises `InputError` unless a patch of ``size`` pixels fits a picture of 32 x 32."""
    if not 2 <= size <= 32:
        raise InputError(f"size: got {size}, allowed is a patch of 2 to 32 pixels on a picture of 32 x 32")


def paste(inputs: np.ndarray, patch: np.ndarray, within: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A copy of ``inputs`` (N, H, W, C) with ``patch`` (S, S, C) at a place of its own on each.

    The whole patch lies in the part ``within`` (from, to) of either side; where that part is shorter than the patch, the patch starts
    where the part does, or as near to that as fits.
    """
    n, (height, width), size = len(inputs), inputs.shape[1:3], len(patch)
    first = []
    for side in (height, width):
        least = min(int(within[0] * side), side - size)
        first.append(rng.integers(least, max(least, int(within[1] * side) - size) + 1, n))
    out, across = np.array(inputs), np.arange(size)
    rows, columns = (start[:, None] + across for start in first)
    out[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]] = patch
    return out
