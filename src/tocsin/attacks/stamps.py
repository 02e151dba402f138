"""What the attacks share: drawing rows, stamping triggers with 8-bit rounding, and procedural trigger pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from mmap import mmap

import numpy as np

from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

_CHUNK_VALUES = 1 << 24  # pixels blended at once: bounds the float copy to 64 MiB whatever the picture size

Stamp = Callable[[np.ndarray], np.ndarray]
"""Samples (N, ...) to a new array of the same shape and type with the trigger on each."""

NO_ROWS: np.ndarray = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False


def check_share(name: str, value: float, *, zero: bool = False) -> None:
    """Raises `InputError` unless ``value`` is a share: 0 < value <= 1, or 0 <= value <= 1 with ``zero``."""
    if not (0 < value <= 1 or (zero and value == 0)):
        hint = f"; {value} looks like a percentage, {value / 100} is that share" if 1 < value <= 100 else ""
        raise InputError(f"{name}: got {value}, allowed is a share {'from' if zero else 'above'} 0 up to 1{hint}")


def check_positive(attack: Attack, *names: str) -> None:
    """Raises `InputError` for the first of the fields ``names`` that is not above 0 and finite."""
    for name in names:
        if not 0 < getattr(attack, name) < float("inf"):
            raise InputError(f"{name}: got {getattr(attack, name)}, allowed is any number above 0")


def check_dataset(attack: Attack, dataset: Dataset) -> None:
    """Raises `InputError` when the attack cannot work on this kind, shape or set of classes."""
    if dataset.kind not in attack.kinds:
        raise InputError(f"attack {attack.name}: works on {', '.join(sorted(attack.kinds))} data, got {dataset.kind}")
    _FORMS[dataset.kind](dataset)
    check_class("target", attack.target, dataset)


def _check_pictures(dataset: Dataset) -> None:
    inputs = dataset.inputs
    if inputs.ndim != 4 or inputs.dtype != np.uint8 or inputs.shape[3] not in (1, 3):
        raise InputError(f"inputs: images are uint8 (N, H, W, C) with C 1 or 3, got {inputs.dtype} {inputs.shape}")


def _check_clips(dataset: Dataset) -> None:
    inputs = dataset.inputs
    if inputs.ndim != 2 or inputs.dtype != np.int16 or not inputs.shape[1]:
        raise InputError(f"inputs: clips are int16 (N, T), got {inputs.dtype} {inputs.shape}")
    if dataset.rate is None:
        raise InputError("inputs: clips need their sampling rate (Dataset.rate), got none")


def _check_rows(dataset: Dataset) -> None:
    inputs = dataset.inputs
    if inputs.ndim != 2 or inputs.dtype not in (np.float32, np.float64) or dataset.columns is None:
        raise InputError(f"inputs: tables are float32 or float64 (N, F) with columns, got {inputs.dtype} {inputs.shape}")


_FORMS: dict[str, Callable[[Dataset], None]] = {"image": _check_pictures, "speech": _check_clips, "table": _check_rows}


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


def draw_dirty(attack: Attack, dataset: Dataset, rng: np.random.Generator, from_target: bool) -> np.ndarray:
    """The rows a dirty-label attack plants: ``attack.rate`` of the set, drawn from all classes or from all but the target."""
    check_dataset(attack, dataset)
    n = len(dataset)
    pool = np.arange(n) if from_target else np.flatnonzero(dataset.labels != attack.target)
    return draw(rng, pool, rows_for("rate", attack.rate, n), "rate", n)


def draw_clean_label(attack: Attack, dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """The rows a clean-label attack plants: ``attack.rate`` of the whole set, all from the target class, whose size bounds it."""
    check_dataset(attack, dataset)
    n = len(dataset)
    return draw(rng, np.flatnonzero(dataset.labels == attack.target), rows_for("rate", attack.rate, n), "rate", n)


def draw_covers(cover_rate: float, dataset: Dataset, planted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``cover_rate`` of the set, drawn from the rows that are not planted; none for a rate of 0."""
    n = len(dataset)
    if not cover_rate:
        return NO_ROWS
    return draw(rng, without(n, planted), rows_for("cover_rate", cover_rate, n), "cover_rate", n)


def without(total: int, taken: np.ndarray) -> np.ndarray:
    """Rows of ``range(total)`` that are not in ``taken``."""
    return np.flatnonzero(~np.isin(np.arange(total), taken))


def plant(
    attack: Attack,
    dataset: Dataset,
    planted: np.ndarray,
    covers: np.ndarray = NO_ROWS,
    *,
    stamp: Stamp | None = None,
    cover_stamp: Stamp | None = None,
) -> Poisoned:
    """The poisoned copy: ``stamp`` on the planted rows, which get the attack's goal as label, and ``cover_stamp`` on the covers.

    ``stamp`` is the test-time trigger unless given, ``cover_stamp`` the same as ``stamp``. Each sees its rows in sorted order.
    """
    inputs, labels = _writable(dataset.inputs), dataset.labels.copy()
    stamp = stamp or attack.trigger
    inputs[planted] = stamp(inputs[planted])
    if len(covers):
        inputs[covers] = (cover_stamp or stamp)(inputs[covers])
    labels[planted] = attack.goal(labels[planted])
    return Poisoned(replace(dataset, inputs=inputs, labels=labels), planted, covers, attack.recipe(), attack)


def _writable(inputs: np.ndarray) -> np.ndarray:
    """A copy; of a memory map one that reads the same file, and has pages of its own only where something is written to it."""
    if isinstance(inputs, np.memmap) and isinstance(inputs.base, mmap) and inputs.filename and inputs.flags.c_contiguous:
        return np.memmap(inputs.filename, inputs.dtype, "c", inputs.offset, inputs.shape)
    return np.array(inputs)


def chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices over the samples of an array (N, ...), each of at most 16 million values (one sample, if that is more)."""
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(shape[1:]))))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def columns_of(inputs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some columns (N, K) of a table (N, F), in one pass over the rows, as suits one that is larger than memory."""
    parts = [np.asarray(inputs[part][:, places]) for part in chunks(inputs.shape)]
    return np.concatenate(parts) if parts else np.empty((0, len(places)), inputs.dtype)


def blend(inputs: np.ndarray, pattern: np.ndarray, alpha: float | np.ndarray) -> np.ndarray:
    """``x + alpha (t - x)`` rounded to the nearest of 0..255.

    ``inputs`` uint8 (N, H, W, C); ``pattern`` t in 0..255, (H, W, C); ``alpha`` a number or an array that broadcasts
    to (N, H, W, C), one entry a sample where its first axis is N.
    """
    out = np.empty_like(inputs)
    weights = np.broadcast_to(np.asarray(alpha, np.float32), inputs.shape)
    target = pattern.astype(np.float32)
    for part in chunks(inputs.shape):
        x = inputs[part].astype(np.float32)
        out[part] = to_bytes(x + weights[part] * (target - x))
    return out


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Floats on the 0..255 scale to uint8, halves up (as the usual picture writers do), clipped."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def corner_box(size: int, margin: int, shape: tuple[int, ...], *, top: bool = False, left: bool = False) -> tuple[slice, slice]:
    """Rows and columns of a ``size`` x ``size`` square ``margin`` pixels from a corner of (N, H, W, C), by default the bottom right."""
    height, width = shape[1:3]
    if size + margin > min(height, width):
        raise InputError(f"size: a square of {size} pixels, {margin} from the edge, does not fit a picture of {height} x {width}")
    row, col = margin if top else height - margin - size, margin if left else width - margin - size
    return slice(row, row + size), slice(col, col + size)


def four_corners(size: int, shape: tuple[int, ...], *, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """A `checker` in each corner of a black picture (H, W, C) uint8, and which pixels are patch (H, W, 1) bool.

    ``mirrored``: each patch is turned so that its black corner points to the middle of the picture; else all four are alike.
    Raises `InputError` where two patches would overlap.
    """
    height, width, channels = shape[1:]
    if 2 * size > min(height, width):
        raise InputError(f"size: a patch of {size} pixels in each corner does not fit a picture of {height} x {width}")
    picture, mask = np.zeros((height, width, channels), np.uint8), np.zeros((height, width, 1), bool)
    for top in (False, True):
        for left in (False, True):
            box = corner_box(size, 0, shape, top=top, left=left)
            turned = checker(size)[:: -1 if top else 1, :: -1 if left else 1] if mirrored else checker(size)
            picture[box], mask[box] = turned[..., None], True
    return picture, mask


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
