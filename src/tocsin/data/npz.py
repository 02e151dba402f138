"""``.npz`` archives: pictures or clips, labels and perhaps class names, never a Python object."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from tocsin.data.arrays import clips_dataset, to_dataset
from tocsin.data.dataset import Dataset
from tocsin.data.images import Pictures
from tocsin.data.names import listed
from tocsin.data.request import Request
from tocsin.data.sounds import HIGHEST_RATE, LOWEST_RATE, Clips
from tocsin.errors import InputError

INPUT_KEYS = ("x", "inputs", "images", "data", "features", "x_train", "train_images")
LABEL_KEYS = ("y", "labels", "label", "targets", "target", "y_train", "train_labels")
CLASS_KEYS = ("classes", "class_names", "label_names")
RATE_KEYS = ("rate", "sample_rate", "sampling_rate", "sr")
MOST_BYTES = 64 * 2**30


def read(request: Request) -> Dataset:
    """Inputs and labels by the usual names (see the tables above), ids are row numbers. With a rate, inputs N,T are clips."""
    path = request.path.resolve()
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name[:-4]: name for name in archive.namelist() if name.endswith(".npy")}
            if not members:
                raise InputError(f"{request.path}: a zip archive without arrays; if it holds pictures, unpack it and give the folder")
            at_x, at_y = (pick(members, keys, request.path, what) for keys, what in ((INPUT_KEYS, "inputs"), (LABEL_KEYS, "labels")))
            at_classes, at_rate = (next((name for name in members if name.lower() in keys), None) for keys in (CLASS_KEYS, RATE_KEYS))
            values, labels = read_member(archive, members[at_x]), read_member(archive, members[at_y])
            rate = None if at_rate is None else _rate(read_member(archive, members[at_rate]), request.path)
            names = None if at_classes is None else [str(name) for name in read_member(archive, members[at_classes]).reshape(-1)]
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError) as why:
        raise InputError(f"{request.path}: the archive is damaged or cannot be read ({why})") from why
    unread = [name for name in members if name not in (at_x, at_y, at_classes, at_rate)]
    notes = [f"not read from the archive: {listed(unread)}"] if unread else []
    wanted = names if request.classes is None else request.classes
    if request.kind == "speech" or (request.kind == "auto" and rate is not None and values.ndim == 2):
        if rate is None and request.rate is None:
            raise InputError(f"{request.path}: clips without a rate; add an array named rate to the archive, or give rate=")
        clips = Clips.of(request)
        return clips_dataset(values, labels, wanted, rate or request.rate or 0, clips, layout="npz", source=path, notes=notes)
    return to_dataset(values, labels, wanted, Pictures.of(request).size, layout="npz", source=path, notes=notes)


def _rate(array: np.ndarray, path: Path) -> int:
    if array.size != 1 or array.dtype.kind not in "iuf" or not LOWEST_RATE <= float(array.reshape(())) <= HIGHEST_RATE:
        raise InputError(f"{path}: its rate must be one number, {LOWEST_RATE:,} to {HIGHEST_RATE:,} samples a second")
    return int(array.reshape(()))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an uncompressed archive. Raises `InputError` for objects, compressed and damaged members.

    Uncompressed, because then nothing in it is larger than the file is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise InputError(f"{path}: has compressed arrays; allowed are plain ones, as numpy.savez writes them")
            return {name.removesuffix(".npy"): read_member(archive, name) for name in archive.namelist()}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as why:
        raise InputError(f"{path}: the archive is damaged or cannot be read ({why})") from why


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An uncompressed archive at ``path``, whole or not at all. Raises `OSError` when the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # processes that write the same file stay out of each other's way
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def pick(members: dict[str, str], keys: Sequence[str], path: Path, what: str) -> str:
    """The first of ``keys`` that ``members`` has, as it is spelled there. Raises `InputError`."""
    for key in keys:
        for name in members:
            if name.lower() == key:
                return name
    raise InputError(f"{path}: no array of {what}; got {listed(members)}; allowed: {', '.join(keys)}")


def header_of(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an ``.npy`` stream, which is left behind its header. Raises `InputError`, also for objects."""
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
    except Exception as why:  # numpy parses the header as Python source, which has many ways to fail on a hostile one
        raise InputError(f"{name}: not an array ({why})") from why
    if dtype.hasobject:
        raise InputError(
            f"{name}: an array of Python objects, which is never read because loading one can run code; save plain numbers or text"
        )
    return shape, dtype


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, after its header has been checked: no objects, no more than it says, no absurd size."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        shape, dtype = header_of(file, name)
    nbytes = dtype.itemsize * int(np.prod([int(side) for side in shape], dtype=object) if shape else 1)
    if nbytes > MOST_BYTES or nbytes > info.file_size:
        raise InputError(f"{name}: its header claims {nbytes:,} bytes of shape {listed([shape])}; the archive has {info.file_size:,}")
    try:
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as why:
        raise InputError(f"{name}: damaged ({why})") from why
    except MemoryError as why:
        raise InputError(f"{name}: its {nbytes:,} bytes do not fit in memory") from why
