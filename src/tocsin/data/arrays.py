"""Arrays as people keep them (any dtype, channels first or last) to uint8 (N, H, W, C), or to int16 clips (N, T)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data.dataset import Dataset, row_names
from tocsin.data.images import Size, choose_size, resize_all
from tocsin.data.labels import assemble, encode, no_labels
from tocsin.data.sounds import Clips, of_array
from tocsin.errors import InputError

_ROWS = 4096


def to_dataset(
    pixels: np.ndarray,
    labels: Any,
    classes: Sequence[str] | None,
    size: Size | None,
    *,
    layout: str = "arrays",
    source: Path | None = None,
    ids: np.ndarray | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """A data set from one array of pictures and its labels (None: not known): what every array-like source ends in."""
    images, said = to_images(pixels)
    numbers, names = _encoded(labels, len(images), classes)
    chosen, about_size = choose_size(np.array([images.shape[1:3]]), size) if len(images) else (Size(1, 1), [])
    about_size = [note.replace("1 of 1 pictures", f"all {len(images):,} pictures") for note in about_size]
    rows = row_names(np.arange(len(images))) if ids is None else ids
    return assemble(
        resize_all(images, chosen),
        numbers,
        names,
        rows,
        layout=layout,
        source=source,
        notes=[*notes, *said, *about_size],
        resized=bool(about_size),
    )


def clips_dataset(
    values: np.ndarray,
    labels: Any,
    classes: Sequence[str] | None,
    rate: int,
    wanted: Clips,
    *,
    layout: str = "arrays",
    source: Path | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """The same for one array of clips (N, T) at ``rate`` samples a second."""
    clips, rate, said = of_array(values, rate, wanted)
    numbers, names = _encoded(labels, len(clips), classes)
    rows = row_names(np.arange(len(clips)))
    resized = clips.shape != values.shape
    return assemble(
        clips, numbers, names, rows, layout=layout, source=source, notes=[*notes, *said], resized=resized, kind="speech", rate=rate
    )


def _encoded(labels: Any, count: int, classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels is None:
        return no_labels(count)
    raw = labels if isinstance(labels, list) else np.asarray(labels)
    if len(raw) != count:
        raise InputError(f"labels: {len(raw):,} labels for {count:,} samples; one a sample is needed")
    return encode(raw, classes)


def to_images(pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """uint8 (N, H, W, C), C 1 or 3, and notes about what was converted.

    Takes N,H,W / N,H,W,C / N,C,H,W with C 1, 3 or 4; uint8, bool, 8- or 16-bit whole numbers, floats in 0..1 or 0..255.
    """
    pixels, notes = _channels_last(pixels)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels), notes
    scale, note = _scale(pixels)
    out = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _ROWS):
        part = pixels[start : start + _ROWS]
        out[start : start + _ROWS] = np.rint(part.astype(np.float64) * scale) if scale >= 1 else part.astype(np.int64) >> 8
    return out, [*notes, note]


def _channels_last(pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    if pixels.dtype.kind not in "uifb":
        raise InputError(f"inputs: numbers are needed, got dtype {pixels.dtype}")
    shape = pixels.shape
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    elif pixels.ndim != 4 or not {1, 3, 4} & {shape[1], shape[3]}:
        hint = (
            "; flattened pictures must be reshaped first, as in x.reshape(-1, 28, 28), clips need rate=, tables kind='table'"
            if pixels.ndim == 2
            else ""
        )
        raise InputError(f"inputs: shape {shape} is no stack of pictures; allowed: N,H,W or N,H,W,C or N,C,H,W with C 1 or 3{hint}")
    elif shape[3] not in (1, 3) and (shape[1] in (1, 3) or shape[3] != 4):
        pixels = pixels.transpose(0, 2, 3, 1)
    if 0 in pixels.shape[1:]:
        raise InputError(f"inputs: shape {shape} holds no pixels")
    if pixels.shape[3] == 4:
        return pixels[..., :3], ["the fourth channel (transparency) was dropped"]
    return pixels, []


def _scale(pixels: np.ndarray) -> tuple[float, str]:
    """The factor to 0..255 (1/256 means: the high byte) and the note that says so. Looks at the range of the whole array."""
    if pixels.dtype == bool:
        return 255.0, "inputs converted from bool to uint8 (false 0, true 255)"
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = np.flatnonzero(~np.isfinite(pixels.reshape(len(pixels), -1)).all(1))
        raise InputError(f"inputs: NaN or infinite pixels in {len(bad):,} samples, the first in row {bad[0]}")
    if low < 0:
        raise InputError(
            f"inputs: pixels from {low:g} to {high:g}; allowed: 0..255, or floats 0..1; it seems they were normalised: undo that"
        )
    if pixels.dtype.kind == "f" and high <= 1:
        return 255.0, f"inputs converted from {pixels.dtype} 0..1 to uint8"
    if high <= 255:
        return 1.0, f"inputs converted from {pixels.dtype} 0..255 to uint8"
    if pixels.dtype.kind in "iu" and high <= 65535:
        return 1 / 256, f"inputs converted from {pixels.dtype} to uint8 (the high byte of 16 bits)"
    raise InputError(f"inputs: pixels from {low:g} to {high:g}; allowed: whole numbers 0..255 or 0..65535, or floats 0..1 or 0..255")
