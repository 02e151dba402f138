"""Pixels: from a picture file or an array of any kind to uint8 (H, W, C), within bounds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from tocsin.data.medium import MOST_BYTES, Medium, Plan, Row, refuse
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.data.request import Request

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".tif", ".tiff"}
)
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 30_000
CAP = 64
"""Default bound of a side, for memory and time: triggers that a network learns survive a reduction to 64 pixels."""
SMALLEST_COMMON = 16
_LARGE_PIXELS = 8_000_000

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})


class Size(NamedTuple):
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class Probe(NamedTuple):
    """What a file's header says."""

    size: Size
    grey: bool


def workers() -> int:
    return min(8, os.cpu_count() or 1)


def parse_size(size: object) -> Size | None:
    """``size=`` as given by a person: None, a side, or (height, width); 4..512 each."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int | np.integer) else size
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(s, int | np.integer) and 4 <= s <= 512 for s in pair):
        raise InputError(f"size: {size!r} given; allowed: a side in pixels or (height, width), each 4..512")
    return Size(int(pair[0]), int(pair[1]))


def choose_size(sizes: np.ndarray, wanted: Size | None, cap: int = CAP) -> tuple[Size, list[str]]:
    """The common size for pictures of ``sizes`` (N, 2) height, width, and a note if anything is resized."""
    low, high = Size(*sizes.min(0).tolist()), Size(*sizes.max(0).tolist())
    if wanted is not None:
        size, why = wanted, "as asked"
    elif low == high:
        shrink = min(1.0, cap / max(low))
        size, why = (
            Size(*(max(1, round(side * shrink)) for side in low)),
            f"sides over {cap} pixels are reduced unless size= says otherwise",
        )
    else:
        side = int(np.clip(round(float(np.median(sizes))), SMALLEST_COMMON, cap))
        size, why = Size(side, side), f"the median side, within {SMALLEST_COMMON} and {cap}; size= overrides"
    changed = int((sizes != np.array(size)).any(1).sum())
    if not changed:
        return size, []
    was = f"{low}" if low == high else f"{low} to {high}"
    return size, [f"{changed:,} of {len(sizes):,} pictures resized from {was} to {size} pixels, bilinear with antialiasing ({why})"]


def _check_bounds(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise Image.DecompressionBombError


def _is_grey(picture: Image.Image) -> bool:
    if picture.mode == "P":
        palette = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return picture.mode in _GREY_MODES or picture.mode.startswith("I;16")


@dataclass(frozen=True)
class Pictures(Medium[Probe]):
    """Picture files become uint8 (H, W, C) of one size, C 1 if all hold only grey, else 3."""

    noun = "picture"
    form = "PNG"
    suffixes = SUFFIXES
    magic = (
        (0, b"\x89PNG"), (0, b"\xff\xd8\xff"), (0, b"GIF8"), (0, b"BM"), (8, b"WEBP"), (0, b"II*\0"), (0, b"MM\0*"),
        *((0, b"P%d" % number) for number in range(1, 7)),
    )  # fmt: skip
    words = {  # noqa: RUF012 (a Mapping to the type checker)
        "broken": "could not be decoded and left out",
        "large": f"larger than {MOST_PIXELS // 10**6} megapixels, {LONGEST_SIDE:,} a side or {MOST_BYTES >> 20} MiB, left out",
    }

    size: Size | None = None
    cap: int = CAP

    @classmethod
    def of(cls, request: Request) -> Pictures:
        refuse({"rate": request.rate, "seconds": request.seconds}, cls.noun)
        return cls(request.size)

    def ready(self) -> None:
        Image.init()

    def probe(self, path: str, file_bytes: int) -> Probe | str:
        """Size and colour by the header alone; nothing is decoded yet."""
        if file_bytes > MOST_BYTES:
            return "large" if self.named(path) else "other"
        try:
            with Image.open(path, formats=FORMATS) as picture:
                _check_bounds(picture)
                return Probe(Size(picture.height, picture.width), _is_grey(picture))
        except Image.DecompressionBombError:
            return "large"
        except UnidentifiedImageError:
            return "broken" if self.named(path) else "other"
        except Exception:  # a hostile file may raise anything at all inside a decoder; the file is named to the person
            return "broken"

    def plan(self, headers: Sequence[Probe]) -> Plan:
        sizes = np.array([header.size for header in headers])
        size, notes = choose_size(sizes, self.size, self.cap)
        channels = 1 if all(header.grey for header in headers) else 3
        work = partial(_decode, size=size, channels=channels)
        return Plan((*size, channels), "uint8", work, sizes.prod(axis=1) > _LARGE_PIXELS, tuple(notes), bool(notes))

    def view(self, rows: np.ndarray, remarks: frozenset[str]) -> np.ndarray:
        return rows if "coloured" in remarks else rows[..., :1]  # colour files that hold only grey: a view of one channel

    @classmethod
    def suffix(cls, old: str) -> str:
        return ".png"

    @classmethod
    def save(cls, target: Path, sample: np.ndarray, rate: int | None, old: Path | None) -> None:
        Image.fromarray(sample[..., 0] if sample.shape[2] == 1 else sample).save(target, "PNG", compress_level=4)


def _decode(path: str, size: Size, channels: int) -> Row:
    """The picture as uint8 (H, W, C), remarked as coloured if it holds more than grey."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_bounds(picture)
            if picture.format == "JPEG":  # lets libjpeg skip detail that the resize would throw away
                picture.draft(picture.mode, (2 * size.width, 2 * size.height))
            row = of_picture(picture, size, channels)
    except Exception:  # as in probe
        return None, ("broken",)
    return row, () if channels == 1 or (row == row[..., :1]).all() else ("coloured",)


def of_picture(picture: Image.Image, size: Size | None = None, channels: int | None = None) -> np.ndarray:
    """A PIL picture of any mode as uint8 (H, W, C). Transparency is dropped, as the usual training loaders do."""
    if channels is None:
        channels = 1 if _is_grey(picture) else 3
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = Image.fromarray(_narrow(np.asarray(picture)))
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None and picture.size != (size.width, size.height):
        picture = picture.resize((size.width, size.height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(picture, np.uint8).reshape(picture.height, picture.width, channels)


def _narrow(wide: np.ndarray) -> np.ndarray:
    """16-bit whole numbers or floats (0..1, else 0..255) to uint8."""
    if wide.dtype.kind == "f":
        wide = np.nan_to_num(wide)
        wide = np.rint(wide * (255.0 if wide.max(initial=0) <= 1 else 1.0))
    else:
        wide = np.right_shift(np.clip(wide, 0, 65535).astype(np.uint16), 8)
    narrow: np.ndarray = np.clip(wide, 0, 255).astype(np.uint8)
    return narrow


def resize_all(pixels: np.ndarray, size: Size) -> np.ndarray:
    """(N, H, W, C) uint8 resized to (N, *size, C) as files are."""
    if pixels.shape[1:3] == size:
        return pixels
    out = np.empty((len(pixels), *size, pixels.shape[3]), np.uint8)

    def one(row: int) -> None:
        out[row] = resized(pixels[row], size)

    with ThreadPoolExecutor(workers()) as pool:
        list(pool.map(one, range(len(pixels)), chunksize=256))
    return out


def resized(pixels: np.ndarray, size: Size) -> np.ndarray:
    """One (H, W, C) uint8 sample resized."""
    if pixels.shape[:2] == size:
        return pixels
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return of_picture(picture, size, pixels.shape[2])


def as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(N, H, W, C) uint8 as grey (C = 1, luma as Pillow has it) or colour (C = 3, grey repeated)."""
    if pixels.shape[3] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=3)
    weights = np.array([19595, 38470, 7471], np.uint32)
    luma: np.ndarray = (pixels.astype(np.uint32) * weights).sum(3, keepdims=True) + 0x8000
    return (luma >> 16).astype(np.uint8)
