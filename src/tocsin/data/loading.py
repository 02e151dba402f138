"""`load`: looks at what it is given and hands it to the reader for that."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tocsin.data import cifar, ember, folder, npz, objects, table_reading, table_sources, tables
from tocsin.data.dataset import Dataset
from tocsin.data.images import Size, parse_size
from tocsin.data.media import AUTO, MEDIA
from tocsin.data.names import listed, shown
from tocsin.data.request import Request
from tocsin.data.sounds import check_wishes
from tocsin.errors import InputError
from tocsin.runtime import Runtime

_KINDS = (AUTO, *MEDIA, table_reading.TABLE)
_HEAD = 512


def _is_text(path: Path, head: bytes) -> bool:
    return b"\0" not in head and path.suffix.lower() in (".csv", ".tsv", ".txt")


# Tried from the top; a recogniser sees the path and, for a file, its first bytes.
_FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Request], Dataset]], ...] = (
    (ember.is_folder, ember.read),
    (lambda path: (path / tables.METADATA).is_file(), tables.read_metadata),
    (lambda path: bool(cifar.batches_in(path)), cifar.read_folder),
    (lambda path: tables.split_of(path) is not None, tables.read_split),
    (lambda path: True, folder.read),
)
_FILES: tuple[tuple[Callable[[Path, bytes], bool], Callable[[Request], Dataset]], ...] = (
    (lambda path, head: head.startswith((b"PK\x03\x04", b"PK\x05\x06")), npz.read),
    (lambda path, head: head.startswith(b"PAR1"), table_reading.read_parquet),
    (lambda path, head: ember.is_file(path), ember.read),
    (_is_text, table_reading.read_csv),
    (
        lambda path, head: head.startswith(b"\x80") or path.name in cifar.FILES or path.suffix.lower() in (".pkl", ".pickle"),
        cifar.read_file,
    ),
)
_ALLOWED = (
    "class folders, a folder with metadata.csv, .npz, a .csv or .parquet table of path,label or of features, EMBER's X_train.dat,"
    " CIFAR python batches"
)


def load(
    data: Any,
    labels: Any = None,
    *,
    classes: Sequence[str] | None = None,
    kind: str = AUTO,
    size: int | tuple[int, int] | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    columns: Sequence[str] | None = None,
    unlabelled: bool = False,
    runtime: Runtime | None = None,
) -> Dataset:
    """A data set from a path, an array pair, or a map-style object. What was skipped or changed is in its ``notes``.

    ``data``: a path (class folders, a folder with ``metadata.csv``, ``.npz``, a CSV or parquet table of ``path,label`` or of features,
    EMBER's memory maps, CIFAR python batches), pictures, clips or rows as an array together with ``labels``, a pandas, polars or
    pyarrow frame, or an object with ``len`` and ``[]`` that gives (picture, label). ``kind``: ``image``, ``speech``, ``table``, or
    ``auto``, by content. ``classes``: the names, in order, where the data has
    numbers or to fix the order. ``size``: pixels, a side or (height, width); default: as they are if all are alike and within 64
    pixels, else reduced to a common size (see docs). For sounds, ``rate``: samples a second (of files by default the most common
    one; of an array that of its clips, which nothing else says); ``seconds``: length of a clip, shorter ones end in silence
    (default: that of most of them, at most 5 s). ``root``: the folder a table's paths start from; default its own. Of a table,
    ``label``: the column of labels (default: one called label, class, target ...), ``columns``: those to read, whatever they hold
    (default: all that can be features). ``unlabelled``: labels are not needed, and left aside where there are any: a folder of
    pictures without class folders, an ``.npz`` or a table of paths without labels, an array alone; all samples become one class,
    ``unlabelled``. ``runtime``: cache folder and progress.
    Raises `InputError` with everything that is wrong.
    """
    if kind not in _KINDS:
        raise InputError(f"kind: {kind!r} given; allowed: {', '.join(_KINDS)}")
    if isinstance(classes, str):
        raise InputError(f"classes: a list of names is needed, got the text {shown(classes)!r}")
    runtime = runtime or Runtime()
    rate, seconds = check_wishes(rate, seconds)
    wanted, names = parse_size(size), None if classes is None else tuple(str(name) for name in classes)
    chosen = None if columns is None else tuple(str(name) for name in columns)
    if isinstance(data, Dataset):
        return data.unlabelled() if unlabelled else data
    if isinstance(data, str | os.PathLike):
        if labels is not None:
            raise InputError("labels: not used with a path; they are read from the files (give arrays, or a table of path,label)")
        top = None if root is None else Path(root)
        if top is not None and not top.is_dir():
            raise InputError(f"root: {shown(str(top))} is no folder; give the one that the table's paths start from")
        read = _read_path(Request(Path(data), names, wanted, runtime, top, kind, rate, seconds, label, chosen, unlabelled))
        return read.unlabelled() if unlabelled else read
    if hasattr(data, "collect_schema") and hasattr(data, "collect"):
        raise InputError("data: a lazy frame given; read it first: load(frame.collect())")
    if unlabelled:
        return _without_labels(data, names, wanted, kind, rate, seconds, runtime)
    if table_sources.is_frame(data):
        return table_reading.read_frame(data, labels, names, label, chosen)
    if kind == "speech" or (kind == AUTO and rate is not None):
        if labels is None or rate is None:
            raise InputError("data: of sounds in memory, an array of clips N,T, labels and rate= are needed")
        return objects.read_clips(data, labels, names, rate, seconds)
    if labels is not None:
        return objects.read_arrays(data, labels, names, wanted, kind)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not hasattr(data, "dtype"):
        return objects.read_map_style(data, names, wanted, runtime)
    hint = "; labels are missing: load(x, y)" if hasattr(data, "dtype") else "; an iterable data set must be made a map-style one first"
    raise InputError(f"data: {type(data).__name__} given; allowed: a path, two arrays, or a data set with len and []{hint}")


def _without_labels(
    data: Any, names: tuple[str, ...] | None, wanted: Size | None, kind: str, rate: int | None, seconds: float | None, runtime: Runtime
) -> Dataset:
    """What is in memory, without labels: an array of pictures or clips, or a data set whose labels are left aside."""
    if table_sources.is_frame(data) or kind == table_reading.TABLE:
        raise InputError(
            "unlabelled: pictures or sounds are needed; of a table all columns would be features, which nothing here learns from"
        )
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not hasattr(data, "dtype"):
        return objects.read_map_style(data, names, wanted, runtime).unlabelled()
    values = objects.as_array(data, "data")
    if kind == "speech" or (kind == AUTO and rate is not None):
        if rate is None:
            raise InputError("data: of sounds in memory, an array of clips N,T and rate= are needed")
        return objects.read_clips(values, None, None, rate, seconds)
    return objects.read_arrays(values, None, None, wanted, "image")


def _read_path(request: Request) -> Dataset:
    path = request.path
    try:
        if path.is_dir():
            if request.kind == table_reading.TABLE and not ember.is_folder(path):
                raise InputError(f"{shown(str(path))}: a table is a .csv, .parquet or .npz file, or a folder with {ember.TRAIN}")
            return _of_kind(request, next(reader for recognise, reader in _FOLDERS if recognise(path))(request))
        if not path.is_file():
            raise InputError(_missing(path))
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        reader = next((reader for recognise, reader in _FILES if recognise(path, head)), None)
        if reader is None:
            hint = "; an .npy holds no labels: use load(x, y) or an .npz" if head.startswith(b"\x93NUMPY") else ""
            raise InputError(f"{shown(str(path))}: not a kind of data known here; allowed: {_ALLOWED}{hint}")
        return _of_kind(request, reader(request))
    except (OSError, ValueError) as why:
        if isinstance(why, InputError):
            raise
        raise InputError(f"{shown(str(path))}: cannot be read ({why})") from why


def _of_kind(request: Request, data: Dataset) -> Dataset:
    """``data``, if it is of the kind that was asked for: some layouts hold only pictures."""
    if request.kind not in (AUTO, data.kind):
        raise InputError(f"kind: {request.kind} given, but {shown(str(request.path))} holds samples of the kind {data.kind}")
    if data.kind != table_reading.TABLE and (request.columns is not None or (request.label is not None and data.layout != "manifest")):
        raise InputError(f"label and columns: given, but {shown(str(request.path))} is no table with named columns")
    return data


def _missing(path: Path) -> str:
    if os.path.lexists(path):
        return f"{shown(str(path))}: neither a file nor a folder"
    parent = path.parent
    while not parent.is_dir():
        parent = parent.parent
    wanted = path.relative_to(parent).parts[0]
    near = difflib.get_close_matches(wanted, [entry.name for entry in os.scandir(parent)], 3, 0.5)
    hint = f"; did you mean {listed(str(parent / name) for name in near)}?" if near else ""
    return f"{shown(str(path))}: no such file or folder{hint}"
