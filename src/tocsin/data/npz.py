"""``.npz`` archives: pictures, clips or rows of a table, labels and perhaps names, never a Python object."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from tocsin.data.arrays import clips_dataset, to_dataset
from tocsin.data.columns import text_of
from tocsin.data.dataset import Column, Dataset
from tocsin.data.images import Pictures
from tocsin.data.names import listed
from tocsin.data.request import Request
from tocsin.data.sounds import HIGHEST_RATE, LOWEST_RATE, Clips
from tocsin.data.table_reading import is_table, of_arrays, only
from tocsin.errors import InputError

INPUT_KEYS = ("x", "inputs", "images", "data", "features", "x_train", "train_images")
LABEL_KEYS = ("y", "labels", "label", "targets", "target", "y_train", "train_labels")
NAME_KEYS = ("columns", "features", "feature_names", "column_names")
LEVEL_KEYS = ("levels", "level_counts")
CLASS_KEYS = ("classes", "class_names", "label_names")
RATE_KEYS = ("rate", "sample_rate", "sampling_rate", "sr")
MOST_BYTES = 64 * 2**30


def read(request: Request) -> Dataset:
    """Inputs and labels by the usual names (see the tables above), ids are row numbers. With a rate, inputs N,T are clips, else rows."""
    path = request.path.resolve()
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name[:-4]: name for name in archive.namelist() if name.endswith(".npy")}
            if not members:
                raise InputError(f"{request.path}: a zip archive without arrays; if it holds pictures, unpack it and give the folder")
            at_x = pick(members, INPUT_KEYS, request.path, "inputs")
            at_y = None if request.unlabelled else pick(members, LABEL_KEYS, request.path, "labels")
            at_classes, at_rate = (next((name for name in members if name.lower() in keys), None) for keys in (CLASS_KEYS, RATE_KEYS))
            values, labels = read_member(archive, members[at_x]), None if at_y is None else read_member(archive, members[at_y])
            rate = None if at_rate is None else _rate(read_member(archive, members[at_rate]), request.path)
            names = None if at_classes is None else [str(name) for name in read_member(archive, members[at_classes]).reshape(-1)]
            columns, levels, described = columns_of(archive, members, at_x, values)
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError) as why:
        raise InputError(f"{request.path}: the archive is damaged or cannot be read ({why})") from why
    unread = [name for name in members if name not in (at_x, at_y, at_classes, at_rate, *described)]
    notes = [f"not read from the archive: {listed(unread)}"] if unread else []
    wanted = None if request.unlabelled else names if request.classes is None else request.classes
    if request.kind == "speech" or (request.kind == "auto" and rate is not None and values.ndim == 2):
        if rate is None and request.rate is None:
            raise InputError(f"{request.path}: clips without a rate; add an array named rate to the archive, or give rate=")
        clips = Clips.of(request)
        return clips_dataset(values, labels, wanted, rate or request.rate or 0, clips, layout="npz", source=path, notes=notes)
    if is_table(values, request.kind, columns):
        if labels is None:
            raise InputError(f"{request.path}: holds rows of a table, which cannot be read without labels")
        data = of_arrays(values, labels, wanted, columns, layout="npz", source=path, notes=notes, levels=levels)
        return data if request.columns is None else only(data, request.columns)
    return to_dataset(values, labels, wanted, Pictures.of(request).size, layout="npz", source=path, notes=notes)


def columns_of(
    archive: zipfile.ZipFile, members: Mapping[str, str], inputs: str, values: np.ndarray
) -> tuple[list[str] | None, list[tuple[str, ...]] | None, list[str]]:
    """Of an archive whose inputs are rows (N, F): names of the columns and the levels of each, if it has them, and where these stand."""
    if values.ndim != 2:
        return None, None, []
    named = [name for key in NAME_KEYS for name in members if name.lower() == key and name != inputs]
    texts = {name: read_member(archive, members[name]).reshape(-1) for name in named}
    found = next((name for name, text in texts.items() if text.dtype.kind in "US" and len(text) == values.shape[1]), None)
    names = None if found is None else [text_of(name) for name in texts[found].tolist()]
    if found is None or any(key not in members for key in LEVEL_KEYS):
        return names, None, [found] if found else []
    every, counts = (read_member(archive, members[key]).reshape(-1) for key in LEVEL_KEYS)
    if counts.dtype.kind not in "iu" or len(counts) != values.shape[1] or counts.sum() != len(every) or (counts < 0).any():
        raise InputError(f"{LEVEL_KEYS[1]}: one number of levels a column is needed, {len(every):,} in all")
    ends = np.cumsum(counts).tolist()
    levels = [tuple(str(name) for name in every[end - count : end]) for end, count in zip(ends, counts.tolist(), strict=True)]
    for k, known in enumerate(levels):
        if known and not (np.isnan(codes := values[:, k].astype(np.float64)) | np.isin(codes, np.arange(len(known)))).all():
            raise InputError(f"{inputs}: column {k} holds numbers that are no codes of its {len(known):,} levels")
    return names, levels, [found, *LEVEL_KEYS]


def table_arrays(columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """What an archive holds to say what the columns of its rows are."""
    levels = [level for column in columns for level in column.levels]
    arrays = {"columns": np.array([column.name for column in columns], str)}
    if levels:
        arrays |= {"levels": np.array(levels, str), "level_counts": np.array([len(column.levels) for column in columns])}
    return arrays


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
