"""Samples as pictures inside the page. What a sample looks like depends on its kind: one row in `PICTURES` each."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

_NATIVE = 64
"""Pictures up to this side (pixels) are shown exactly, larger ones reduced."""
_REDUCED = 128


def png_data_uri(pixels: np.ndarray) -> str:
    """uint8 (H, W, C) with C 1 or 3, or (H, W), as a PNG ``data:`` address, pixel by pixel."""
    return _uri(_as_image(pixels), "png", optimize=False)


def picture_uri(pixels: np.ndarray) -> str:
    """As `png_data_uri`; a picture with a side above 64 pixels is reduced to 128 and packed as JPEG, to keep the page light."""
    image = _as_image(pixels)
    if max(image.size) <= _NATIVE:
        return _uri(image, "png", optimize=False)
    image.thumbnail((_REDUCED, _REDUCED), Image.Resampling.BOX)
    return _uri(image, "jpeg", quality=85, subsampling=0)


PICTURES: Mapping[str, Callable[[np.ndarray], str]] = {"image": picture_uri}
"""Kind of data -> how one raw sample becomes a ``data:`` address. Kinds that are not listed are shown without pictures."""


@dataclass(frozen=True)
class MeanPicture:
    """What the suspects of a class have in common that its ordinary samples have not; each a ``data:`` address."""

    suspects: str
    ordinary: str
    difference: str
    """Grey where the means agree, brighter or darker where the suspects' mean is."""
    alike: str
    """Bright where the suspects vary less than ordinary samples do: a fixed patch lights up."""
    gain: float
    """By how much the difference is amplified."""


def mean_picture(suspects: np.ndarray, ordinary: np.ndarray) -> MeanPicture | None:
    """Compare uint8 (A, H, W, C) with (B, H, W, C); None with fewer than two of either, where means say nothing."""
    if len(suspects) < 2 or len(ordinary) < 2:
        return None
    mean_a, mean_b = suspects.mean(axis=0, dtype=np.float32), ordinary.mean(axis=0, dtype=np.float32)
    difference = mean_a - mean_b
    # At most 20 times: beyond that even the rounding of a compressed picture would look like a trigger.
    gain = float(min(20.0, 127 / max(float(np.abs(difference).max()), 1e-6)))
    alike = 1 - (_spread(suspects) + 1) / (_spread(ordinary) + 1)
    return MeanPicture(
        suspects=picture_uri(mean_a.astype(np.uint8)),
        ordinary=picture_uri(mean_b.astype(np.uint8)),
        difference=picture_uri(np.clip(127 + gain * difference, 0, 255).astype(np.uint8)),
        alike=picture_uri((255 * np.clip(alike, 0, 1)).astype(np.uint8)),
        gain=gain,
    )


def _spread(pictures: np.ndarray) -> np.ndarray:
    """(H, W): standard deviation over the pictures, mean over channels."""
    spread: np.ndarray = pictures.std(axis=0, dtype=np.float32).mean(axis=-1)
    return spread


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels))


def _uri(image: Image.Image, form: str, **options: int | bool) -> str:
    out = io.BytesIO()
    image.save(out, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(out.getvalue()).decode()}"
