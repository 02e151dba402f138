"""Data that is already in Python: array pairs and map-style data sets (torch, torchvision, or anything with len and [])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tocsin.data.arrays import clips_dataset, to_dataset, to_images
from tocsin.data.dataset import Dataset, row_names
from tocsin.data.images import CAP, Size, as_channels, choose_size, of_picture, resized
from tocsin.data.labels import assemble, encode
from tocsin.data.sounds import Clips
from tocsin.data.table_reading import is_table, of_arrays
from tocsin.errors import InputError
from tocsin.runtime import Runtime


def read_arrays(inputs: Any, labels: Any, classes: Sequence[str] | None, size: Size | None, kind: str = "auto") -> Dataset:
    """A pair of arrays or tensors: pictures, or the rows of a table. Without labels (None), pictures."""
    values = as_array(inputs, "inputs")
    if is_table(values, kind):
        return of_arrays(values, labels, classes)
    return to_dataset(values, None if labels is None else as_array(labels, "labels"), classes, size)


def read_clips(inputs: Any, labels: Any, classes: Sequence[str] | None, rate: int, seconds: float | None) -> Dataset:
    """A pair of arrays or tensors: clips N,T at ``rate`` samples a second, and labels."""
    known = None if labels is None else as_array(labels, "labels")
    return clips_dataset(as_array(inputs, "inputs"), known, classes, rate, Clips(seconds=seconds))


def as_array(value: Any, name: str) -> np.ndarray:
    """An array from an array, a tensor on any device, or a list. Raises `InputError` for what is none of these."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as why:
        raise InputError(f"{name}: {type(value).__name__} cannot be read as one array ({why})") from why
    if array.dtype.hasobject:
        raise InputError(
            f"{name}: {type(value).__name__} is no array of plain numbers or text; if pictures differ in size, give a data set"
        )
    return array


def read_map_style(data: Any, classes: Sequence[str] | None, size: Size | None, runtime: Runtime) -> Dataset:
    """A data set with ``len`` and ``[]`` that gives (picture, label): PIL, array H,W,C or tensor C,H,W."""
    names = classes if classes is not None else _class_names(data)
    whole = _whole(data)
    if whole is not None:
        return to_dataset(*whole, names, size)
    number = len(data)
    pictures: list[np.ndarray] = []
    sizes = np.empty((number, 2), np.int64)
    labels: list[Any] = []
    for row in range(number):
        if row % 512 == 0:
            runtime.progress("reading the data set", row / number)
        picture, label = _item(data, row)
        sizes[row] = picture.shape[:2]
        pictures.append(_capped(picture, size))
        labels.append(label)
    if not number:
        raise InputError("the data set is empty")
    runtime.progress("reading the data set", 1.0)
    chosen, notes = choose_size(sizes, size)
    was_resized = bool(notes)
    channels = max(picture.shape[2] for picture in pictures)
    inputs = np.empty((number, *chosen, channels), np.uint8)
    for row, picture in enumerate(pictures):
        inputs[row] = as_channels(resized(picture, chosen)[None], channels)[0]
    if not np.array_equal(_item(data, 0)[0], _item(data, 0)[0]):
        notes.append("the data set's transform is random: what was read is one draw of it; give it without augmentation")
    numbers, found = encode(_label_array(labels), names)
    return assemble(inputs, numbers, found, row_names(np.arange(number)), layout="arrays", notes=notes, resized=was_resized)


def _class_names(data: Any) -> list[str] | None:
    """``classes`` of the data set, or of the one inside a torch Subset."""
    for _ in range(8):
        names = getattr(data, "classes", None)
        if isinstance(names, list | tuple) and names:
            return [str(name) for name in names]
        data = getattr(data, "dataset", None)
    return None


def _whole(data: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """The arrays behind a torchvision data set that has no transform.

    Only where ``[]`` is torchvision's own: a subclass may give other pictures than its ``data`` holds, and poison does just that.
    """
    own = getattr(type(data).__getitem__, "__module__", "").startswith("torchvision.datasets.")
    transforms = ("transform", "target_transform", "transforms")
    if not own or any(getattr(data, name, None) is not None for name in transforms) or not hasattr(data, "targets"):
        return None
    try:
        pixels, labels = as_array(data.data, "data"), as_array(data.targets, "targets")
    except (InputError, AttributeError):
        return None
    fits = pixels.dtype == np.uint8 and pixels.ndim in (3, 4) and labels.ndim == 1 and len(pixels) == len(labels) == len(data)
    return (pixels, labels) if fits else None


def _item(data: Any, row: int) -> tuple[np.ndarray, Any]:
    """One sample as uint8 (H, W, C), and its label as it came."""
    item = data[row]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(f"the data set: item {row} is {type(item).__name__}; a pair (picture, label) is needed")
    picture, label = item
    if isinstance(picture, Image.Image):
        return of_picture(picture), label
    pixels = as_array(picture, f"item {row}")
    tensor = hasattr(picture, "detach")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif pixels.ndim == 3 and pixels.shape[0] in (1, 3) and (tensor or pixels.shape[2] not in (1, 3, 4)):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3:
        raise InputError(f"the data set: the picture of item {row} has shape {pixels.shape}; allowed: H,W or H,W,C, tensors C,H,W")
    if tensor and pixels.dtype.kind == "f" and not (pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1):
        low, high = pixels.min(), pixels.max()
        raise InputError(f"the data set: item {row} has values {low:g}..{high:g}, not 0..1; take Normalize out of its transform")
    return to_images(pixels[None])[0][0], label


def _capped(picture: np.ndarray, size: Size | None) -> np.ndarray:
    """No larger than will be kept anyway, so that large pictures do not fill memory while the common size is still unknown."""
    shrink = CAP / max(picture.shape[:2])
    if size is None and shrink < 1:
        size = Size(*(max(1, round(side * shrink)) for side in picture.shape[:2]))
    return picture if size is None else resized(picture, size)


def _label_array(labels: list[Any]) -> np.ndarray | list[str]:
    if all(isinstance(label, str) for label in labels):
        return labels
    return as_array([label.item() if hasattr(label, "item") else label for label in labels], "labels")
