"""What the attacks share: drawing rows, stamping triggers with 8-bit rounding, and procedural trigger pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

_CHUNK_VALUES = 1 << 24  # pixels blended at once: bounds the float copy to 64 MiB whatever the picture size


def check_share(name: str, value: float, *, zero: bool = False) -> None:
    """Raises `InputError` unless ``value`` is a share: 0 < value <= 1, or 0 <= value <= 1 with ``zero``."""
    if not (0 < value <= 1 or (zero and value == 0)):
        hint = f"; {value} looks like a percentage, {value / 100} is that share" if 1 < value <= 100 else ""
        raise InputError(f"{name}: got {value}, allowed is a share {'from' if zero else 'above'} 0 up to 1{hint}")


def check_dataset(attack: Attack, dataset: Dataset) -> None:
    """Raises `InputError` when the attack cannot work on this kind, shape or set of classes."""
    if dataset.kind not in attack.kinds:
        raise InputError(f"attack {attack.name}: works on {', '.join(sorted(attack.kinds))} data, got {dataset.kind}")
    inputs = dataset.inputs
    if inputs.ndim != 4 or inputs.dtype != np.uint8 or inputs.shape[3] not in (1, 3):
        raise InputError(f"inputs: images are uint8 (N, H, W, C) with C 1 or 3, got {inputs.dtype} {inputs.shape}")
    check_class("target", attack.target, dataset)


def check_class(name: str, index: int, dataset: Dataset) -> None:
    """Raises `InputError` unless ``index`` is a class of ``dataset``."""
    if not 0 <= index < len(dataset.classes):
        raise InputError(f"{name}: got class {index}, the data set has {len(dataset.classes)} classes (0..{len(dataset.classes) - 1})")


def rows_for(name: str, rate: float, total: int) -> int:
    """floor(rate * total), the published rounding. Raises `InputError` when that is no row at all."""
    count = int(rate * total + 1e-9)  # 0.29 * 100 is 28.999...96
    if count == 0:
        raise InputError(
            f"{name}: {rate} of {total} samples is less than one sample; the smallest possible {name} is {1 / max(total, 1):.2g}"
        )
    return count


def draw(rng: np.random.Generator, pool: np.ndarray, count: int, name: str, total: int) -> np.ndarray:
    """``count`` sorted rows drawn uniformly from ``pool``. Raises `InputError` when the pool is too small."""
    if count > len(pool):
        raise InputError(
            f"{name}: {count} samples wanted, only {len(pool)} of the {total} can be used; "
            f"largest possible {name} is {len(pool) / total:.4g}"
        )
    return np.sort(rng.choice(pool, count, replace=False)).astype(np.int64)


def dirty_pool(labels: np.ndarray, target: int, from_target: bool) -> np.ndarray:
    """Rows a dirty-label attack draws from: all of them, or all whose class is not the target."""
    return np.arange(len(labels)) if from_target else np.flatnonzero(labels != target)


def without(total: int, taken: np.ndarray) -> np.ndarray:
    """Rows of ``range(total)`` that are not in ``taken``."""
    return np.flatnonzero(~np.isin(np.arange(total), taken))


def plant(attack: Attack, dataset: Dataset, planted: np.ndarray, covers: np.ndarray, stamp: Callable[[np.ndarray], np.ndarray]) -> Poisoned:
    """The poisoned copy: ``stamp`` on the planted and cover rows (in sorted row order), the target as label of the planted ones."""
    inputs, labels = np.array(dataset.inputs), dataset.labels.copy()
    touched = np.sort(np.concatenate([planted, covers]))
    inputs[touched] = stamp(inputs[touched])
    labels[planted] = attack.target
    return Poisoned(replace(dataset, inputs=inputs, labels=labels), planted, covers, attack.recipe())


def blend(inputs: np.ndarray, pattern: np.ndarray, alpha: float | np.ndarray) -> np.ndarray:
    """``x + alpha (t - x)`` rounded to the nearest of 0..255.

    ``inputs`` uint8 (N, H, W, C); ``pattern`` t in 0..255, (H, W, C); ``alpha`` a number or an array that broadcasts
    to (N, H, W, C), one entry a sample where its first axis is N.
    """
    out = np.empty_like(inputs)
    weights = np.broadcast_to(np.asarray(alpha, np.float32), inputs.shape)
    target = pattern.astype(np.float32)
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(inputs.shape[1:]))))
    for start in range(0, len(inputs), step):
        part = slice(start, start + step)
        x = inputs[part].astype(np.float32)
        out[part] = to_bytes(x + weights[part] * (target - x))
    return out


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Floats on the 0..255 scale to uint8, halves up (as the usual picture writers do), clipped."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def corner_box(size: int, margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a ``size`` x ``size`` square ``margin`` pixels from the bottom right corner of (N, H, W, C)."""
    height, width = shape[1:3]
    if size + margin > min(height, width):
        raise InputError(f"size: a square of {size} pixels, {margin} from the edge, does not fit a picture of {height} x {width}")
    return slice(height - margin - size, height - margin), slice(width - margin - size, width - margin)


def shrink(pixels: int, shape: tuple[int, ...], least: int) -> int:
    """A length given for 32-pixel pictures, in proportion on smaller ones; larger pictures keep it."""
    return max(least, round(pixels * min(1.0, min(shape[1:3]) / 32)))


def checker(size: int) -> np.ndarray:
    """(size, size) uint8: the 3 x 3 pattern ``001/010/101`` in white on black, enlarged to ``size`` by repetition."""
    pattern: np.ndarray = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 255]], np.uint8)
    index = np.arange(size) * 3 // size
    return np.asarray(pattern[index][:, index])


def colour_square(size: int, channels: int, seed: int) -> np.ndarray:
    """(size, size, C) uint8 of seeded saturated colours, no value zero: the stand-in for the published Trojan square.

    One channel: the first of the three, which keeps the contrast that a mean of colours would lose.
    """
    rng = np.random.default_rng([seed, 0x7201])
    colours = rng.integers(1, 256, (size, size, 3))
    strongest = colours == colours.max(axis=2, keepdims=True)
    saturated = np.where(strongest, np.maximum(colours, 200), np.maximum(colours // 2, 1))
    return saturated[:, :, :channels].astype(np.uint8)


def ellipses(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """(H, W, C) uint8: a fixed smooth picture of ten filled ellipses, blurred by one pixel of a 32-pixel picture.

    Drawn once on a 128 x 128 canvas and resampled, so that every picture size shows the same trigger. Channel means and
    deviations are brought to those of the published cartoon (199/175/149, 69/68/95) before clipping.
    """
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([seed, 0xE111])
    side = 128
    y, x = np.mgrid[0:side, 0:side] / side
    canvas = np.broadcast_to(rng.uniform(0, 255, 3), (side, side, 3)).copy()
    for _ in range(10):
        cy, cx = rng.uniform(0, 1, 2)
        a, b = rng.uniform(0.12, 0.4, 2)
        turn = rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        canvas[(u / a) ** 2 + (v / b) ** 2 < 1] = rng.uniform(0, 255, 3)
    smooth = gaussian_filter(canvas, (side / 32, side / 32, 0))
    spread = np.maximum(smooth.std(axis=(0, 1)), 1.0)
    smooth = (smooth - smooth.mean(axis=(0, 1))) / spread * np.array([69, 68, 95]) + np.array([199, 175, 149])
    picture = Image.fromarray(to_bytes(smooth)).resize((width, height), Image.Resampling.BILINEAR)
    return to_channels(np.asarray(picture), channels)


def noise(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """(H, W, C) uint8 uniform noise: the full-frame trigger of the published ImageNet runs."""
    return np.random.default_rng([seed, 0x9015]).integers(0, 256, (height, width, channels), dtype=np.uint8)


def to_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    """(H, W, 3) uint8 as it is, or its channel mean as (H, W, 1)."""
    return picture if channels == 3 else to_bytes(picture.mean(axis=2, keepdims=True))


PICTURES: dict[str, Callable[[int, int, int, int], np.ndarray]] = {"picture": ellipses, "noise": noise}
"""Full-frame triggers by name: (height, width, channels, seed) -> (H, W, C) uint8."""


def picture(pattern: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The full-frame trigger ``pattern`` for inputs of ``shape`` (N, H, W, C)."""
    return PICTURES[pattern](shape[1], shape[2], shape[3], seed)


def check_pattern(pattern: str) -> None:
    """Raises `InputError` unless ``pattern`` names a full-frame trigger."""
    if pattern not in PICTURES:
        raise InputError(f"pattern: got {pattern!r}, allowed: {', '.join(PICTURES)}")
