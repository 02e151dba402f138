"""Samples as pictures inside the page. What a sample looks like depends on its kind: one row in `PICTURES` each."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tocsin.data.dataset import Dataset

_NATIVE = 64
"""Pictures up to this side (pixels) are shown exactly, larger ones reduced."""
_REDUCED = 128


def png_data_uri(pixels: np.ndarray) -> str:
    """uint8 (H, W, C) with C 1 or 3, or (H, W), as a PNG ``data:`` address, pixel by pixel."""
    return data_uri(_as_image(pixels), "png", optimize=False)


def picture_uri(pixels: np.ndarray) -> str:
    """As `png_data_uri`; a picture with a side above 64 pixels is reduced to 128 and packed as JPEG, to keep the page light."""
    image = _as_image(pixels)
    if max(image.size) <= _NATIVE:
        return data_uri(image, "png", optimize=False)
    image.thumbnail((_REDUCED, _REDUCED), Image.Resampling.BOX)
    return data_uri(image, "jpeg", quality=85, subsampling=0)


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


@dataclass(frozen=True)
class Look:
    """How the samples of one data set are shown. Addresses are ``data:`` ones."""

    picture: Callable[[np.ndarray], str]
    """One raw sample as a picture."""
    mean: Callable[[np.ndarray, np.ndarray], MeanPicture | None]
    """What raw suspects have in common that raw ordinary samples have not."""
    sound: Callable[[np.ndarray], str] | None = None
    """One raw sample to listen to, where it can be heard."""
    hint: str = ""
    """What a reader has to know to read such a picture."""


def mean_picture(
    suspects: np.ndarray,
    ordinary: np.ndarray,
    paint: Callable[[np.ndarray], str] = picture_uri,
    plain: Callable[[np.ndarray], str] = picture_uri,
) -> MeanPicture | None:
    """Compare (A, H, W, C) with (B, H, W, C), 0..255; None with fewer than two of either, where means say nothing.

    ``paint`` draws the means, ``plain`` what is no sample, both from uint8 (H, W, C).
    """
    if len(suspects) < 2 or len(ordinary) < 2:
        return None
    mean_a, mean_b = suspects.mean(axis=0, dtype=np.float32), ordinary.mean(axis=0, dtype=np.float32)
    difference = mean_a - mean_b
    # At most 20 times: beyond that even the rounding of a compressed picture would look like a trigger.
    gain = float(min(20.0, 127 / max(float(np.abs(difference).max()), 1e-6)))
    alike = 1 - (_spread(suspects) + 1) / (_spread(ordinary) + 1)
    return MeanPicture(
        suspects=paint(mean_a.astype(np.uint8)),
        ordinary=paint(mean_b.astype(np.uint8)),
        difference=plain(np.clip(127 + gain * difference, 0, 255).astype(np.uint8)),
        alike=plain((255 * np.clip(alike, 0, 1)).astype(np.uint8)),
        gain=gain,
    )


def _spread(pictures: np.ndarray) -> np.ndarray:
    """(H, W): standard deviation over the pictures, mean over channels."""
    spread: np.ndarray = pictures.std(axis=0, dtype=np.float32).mean(axis=-1)
    return spread


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels))


def data_uri(image: Image.Image, form: str, **options: int | bool) -> str:
    """A Pillow picture as a ``data:`` address."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(out.getvalue()).decode()}"


def _sounds(dataset: Dataset) -> Look:
    from tocsin.report.sounds import look  # which imports this module

    return look(dataset)


PICTURES: Mapping[str, Callable[[Dataset], Look]] = {"image": lambda dataset: Look(picture_uri, mean_picture), "speech": _sounds}
"""Kind of data -> how the samples of a data set are shown. Kinds that are not listed are shown without pictures."""
