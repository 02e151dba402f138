"""Copies of a data set in the layout it was read from. The source is never touched, nothing is overwritten."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tocsin.data.cells import write_csv
from tocsin.data.dataset import Dataset
from tocsin.data.images import workers
from tocsin.data.media import MEDIA
from tocsin.data.names import contained, file_of, shown
from tocsin.data.npz import INPUT_KEYS, header_of, pick, read_arrays, read_member, write_arrays
from tocsin.data.staging import POISON_MANIFEST, Extra, MakesExtra, manifest_name, staged, write_extra, write_single
from tocsin.data.table_reading import TABLE
from tocsin.data.table_writing import write_table as write_rows
from tocsin.data.tables import GROUP_COLUMNS, METADATA
from tocsin.errors import InputError

_MOST_MANIFEST = 2**30


@dataclass(frozen=True)
class _Files:
    """What a copy in files consists of: for each row its new id, and whether the old file is copied or the sample written."""

    data: Dataset
    ids: list[str]
    old: list[str]
    """The id of the row's file in the source."""
    again: np.ndarray
    """(N,) bool: the sample is written anew; else the old file is copied byte for byte."""


class PoisonedLike(Protocol):
    """What `tocsin.attacks.Poisoned` has (the data layer knows no attacks)."""

    @property
    def dataset(self) -> Dataset: ...
    @property
    def planted(self) -> np.ndarray: ...
    @property
    def covers(self) -> np.ndarray: ...
    @property
    def recipe(self) -> dict[str, Any]: ...
    @property
    def learned(self) -> Mapping[str, np.ndarray]: ...


def write(what: Dataset | PoisonedLike, destination: str | os.PathLike[str]) -> Path:
    """A poisoned copy with its manifest, or a (part of a) data set as it was read; returns what to load.

    A plain data set is copied from its files: samples changed in memory are not looked at. See `write_copy`, `write_subset`.
    """
    if isinstance(what, Dataset):
        return write_subset(what, np.ones(len(what), bool), destination)
    rows = np.zeros(len(what.dataset), bool)
    rows[what.planted] = rows[what.covers] = True
    manifest = {"recipe": what.recipe, "planted": what.planted, "covers": what.covers}
    return write_copy(what.dataset, what.dataset, destination, rows, manifest, what.learned)


def manifest_of(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The recipe in the manifest of a poisoned copy (see `read_manifest`), None if there is no manifest."""
    manifest = read_manifest(path)
    return None if manifest is None else dict(manifest["recipe"])


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `write_copy` put beside the data at ``path``: recipe, planted and cover ids ... None if nothing is there.

    Raises `InputError` if there is one that tocsin did not write.
    """
    beside = _manifest_path(Path(path))
    if not beside.is_file():
        return None
    try:
        found = json.loads(beside.read_text("utf-8")) if beside.stat().st_size < _MOST_MANIFEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
        raise InputError(f"{shown(str(beside))}: not a manifest that tocsin poison wrote; was it cut off?")
    return found


def learned_of(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """What the attack on the copy at ``path`` had learned, from beside its manifest; empty if it had learned nothing.

    Raises `InputError` if the file is missing or is not one that tocsin wrote. Nothing in it is ever executed.
    """
    if not (read_manifest(path) or {}).get("learned"):
        return {}
    beside = _manifest_path(Path(path)).with_suffix(".npz")
    if not beside.is_file():
        raise InputError(f"{shown(beside.name)}: is missing beside the manifest in {shown(str(beside.parent))}; the attack learned it")
    return read_arrays(beside)


def _manifest_path(path: Path) -> Path:
    """Where the manifest of the data at ``path`` lies; what the attack learned has the same name with ``.npz``."""
    if path.is_dir():
        return path / POISON_MANIFEST
    own = path.with_name(manifest_name(path.name))
    return own if path.suffix.lower() == ".npz" or own.is_file() else path.parent / POISON_MANIFEST


def write_copy(
    original: Dataset,
    changed: Dataset,
    destination: str | os.PathLike[str],
    changed_rows: np.ndarray,
    manifest: Mapping[str, Any],
    learned: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A copy of ``original`` in which ``changed_rows`` (N,) bool have the samples and labels of ``changed``; returns what to load.

    Files whose row did not change are copied byte for byte, changed rows are written without loss (PNG; 16-bit WAV, or FLAC where the
    old file was) into the folder of their new label. If loading resized, resampled or cut anything, all rows are written so, as loaded:
    a changed one then does not stand out by its size. Layouts without files become ``.npz``: ``destination`` is then a ``.npz``
    file or a folder for one.

    ``manifest`` is written beside the copy (``tocsin-poison.json``, for ``NAME.npz`` ``NAME.poison.json``): JSON-able, with the
    row indices ``planted`` and ``covers`` turned into the ids they have in the copy. The arrays ``learned``, if any, lie beside it
    (``tocsin-poison.npz``, ``NAME.poison.npz``). Raises `InputError` if the destination exists and is not empty or lies in
    the source; `AuditIncomplete` if the disk is full, leaving nothing behind.
    """
    if len(original) != len(changed) or changed_rows.shape != (len(original),):
        raise InputError(f"changed: {len(changed)} rows and {changed_rows.shape} marks for {len(original)} original samples; must agree")
    rewritten = changed_rows | (original.labels != changed.labels)
    whole = original.root is not None and original.resized
    form = MEDIA[original.kind].form if original.root is not None else ""
    how = f"all rows written as {form}, as loaded" if whole else f"unchanged files copied, changed rows written as {form}"
    facts = {"source": None if original.source is None else str(original.source), "samples": len(changed), "classes": changed.classes}

    def extra(ids: Sequence[str], name: str) -> Extra:
        rows = {key: [ids[row] for row in np.asarray(manifest[key]).tolist()] for key in ("planted", "covers") if key in manifest}
        arrays = Path(name).with_suffix(".npz").name if learned else None
        written = how if original.root is not None else original.layout if original.kind == TABLE else "npz"
        text = json.dumps({"format": 1, **manifest, **rows, **facts, "learned": arrays, "written": written}, indent=1)
        return {name: text} | ({arrays: learned} if arrays and learned else {})

    if original.kind == TABLE:
        return write_rows(changed, rewritten, Path(destination), extra)
    if original.root is None:
        return _write_npz(changed, Path(destination), lambda path: _save_arrays(path, changed), extra)
    files = _renamed(original, changed, np.ones_like(rewritten) if whole else rewritten)
    return _write_files(files, Path(destination), extra(files.ids, POISON_MANIFEST))


def write_subset(dataset: Dataset, keep: np.ndarray, destination: str | os.PathLike[str]) -> Path:
    """The rows ``keep`` (N,) bool as a copy in the same layout; returns what to load.

    Files are copied byte for byte; of an ``.npz`` every array that has a row a sample is filtered, in its own dtype, and the rest
    carried over. Errors as in `write_copy`.
    """
    part = dataset[np.asarray(keep, bool)]
    if not len(part):
        raise InputError("keep: no sample is kept, so there is nothing to write")
    if part.kind == TABLE:
        return write_rows(part, np.zeros(len(part), bool), Path(destination), None)
    if part.root is not None:
        names = [str(name) for name in part.ids]
        return _write_files(_Files(part, names, names, np.zeros(len(part), bool)), Path(destination), {})
    rows = _row_numbers(part)
    if part.layout == "npz" and part.source is not None and rows is not None:
        source = part.source
        return _write_npz(part, Path(destination), lambda path: _filter_npz(source, rows, path), None)
    return _write_npz(part, Path(destination), lambda path: _save_arrays(path, part), None)


def _write_npz(data: Dataset, destination: Path, save: Callable[[Path], None], extra: MakesExtra | None) -> Path:
    name = f"{data.source.stem if data.source is not None and data.layout == 'npz' else 'data'}.npz"
    return write_single(len(data), destination, name, data.source, save, extra)


def _renamed(original: Dataset, changed: Dataset, rewritten: np.ndarray) -> _Files:
    """New ids: rewritten rows end as their medium does and, in class folders, lie under their label; no name is given twice."""
    medium = MEDIA[original.kind]
    old = [str(name) for name in original.ids]
    taken = {name.casefold() for name, again in zip(old, rewritten.tolist(), strict=True) if not again}
    ids = list(old)
    for row in np.flatnonzero(rewritten).tolist():
        name = old[row]
        if original.layout == "folder":
            name = posixpath.join(changed.classes[changed.labels[row]], name.split("/", 1)[1])
        stem = name if not posixpath.splitext(name)[1] else posixpath.splitext(name)[0]
        suffix = medium.suffix(name)
        ids[row], number = stem + suffix, 0
        while ids[row].casefold() in taken:
            number += 1
            ids[row] = f"{stem}-{number}{suffix}"
        taken.add(ids[row].casefold())
    return _Files(changed, ids, old, rewritten)


def _write_files(files: _Files, destination: Path, extra: Extra) -> Path:
    data, medium = files.data, MEDIA[files.data.kind]
    root = data.root
    if root is None or data.source is None or any(contained(name) != name for name in files.ids):
        raise InputError("the data set's ids are not paths below its folder, so it cannot be written as files")

    def place(folder: Path, row: int) -> None:
        name, old, again = files.ids[row], file_of(root, files.old[row]), bool(files.again[row])
        # A folder whose name is not valid Unicode keeps its bytes, so that its class stays one.
        parent = file_of(root, posixpath.dirname(name)).relative_to(root)
        target = folder / (parent / posixpath.basename(name) if again else old.relative_to(root))
        target.parent.mkdir(parents=True, exist_ok=True)
        if again:
            medium.save(target, np.asarray(data.inputs[row]), data.rate, old)
        else:
            _copy(old, target)

    with staged(destination, root) as folder:
        with ThreadPoolExecutor(workers()) as pool:
            list(pool.map(lambda row: place(folder, row), range(len(data))))
        write_extra(folder, extra)
        table = _TABLES.get(data.layout)
        name = "" if table is None else table(folder, data, files.ids)
    return destination / name


def _copy(old: Path, target: Path) -> None:
    try:
        shutil.copyfile(old, target)
    except (FileNotFoundError, PermissionError) as why:  # a full disk names the old file too, but is neither of these
        if why.filename is None or Path(why.filename) != old:
            raise
        raise InputError(f"{shown(str(old))}: cannot be copied ({why.strerror}); the data changed since it was read") from why


def table_of(data: Dataset, first: str, ids: Sequence[str] | None = None, rows: np.ndarray | slice = slice(None)) -> dict[str, list[str]]:
    """Column name -> cells: the ids (or what stands in their place) under the name ``first``, the labels and the speakers where they are
    known; of all samples, or of these ``rows``."""
    names = [str(name) for name in data.ids[rows]] if ids is None else list(ids)
    labels = {"label": [data.classes[label] for label in data.labels[rows].tolist()]} if data.labelled else {}
    speakers = {} if data.groups is None else {GROUP_COLUMNS[0]: [str(name) for name in data.groups[rows]]}
    return {first: names, **labels, **speakers}


def write_table(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """``columns`` as CSV."""
    write_csv(path, list(columns), zip(*columns.values(), strict=True))


def _metadata(folder: Path, data: Dataset, ids: Sequence[str]) -> str:
    write_table(folder / METADATA, table_of(data, "file_name", ids))
    return ""


def _manifest(folder: Path, data: Dataset, ids: Sequence[str]) -> str:
    name = data.source.name if data.source is not None else "data.csv"
    if name.lower().endswith((".csv", ".tsv", ".txt")):
        write_table(folder / name, table_of(data, "path", ids))
        return name
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(table_of(data, "path", ids)), folder / name)
    return name


# What names the classes in each layout with files; class folders need nothing.
_TABLES: dict[str, Callable[[Path, Dataset, Sequence[str]], str]] = {"metadata": _metadata, "manifest": _manifest}


def _row_numbers(data: Dataset) -> np.ndarray | None:
    names = data.ids.astype(str)
    return names.astype(np.int64) if np.char.isdecimal(names).all() else None


def _save_arrays(path: Path, data: Dataset) -> None:
    arrays = {"x": data.inputs, **({"y": data.labels, "classes": np.array(data.classes)} if data.labelled else {})}
    write_arrays(path, arrays if data.rate is None else {**arrays, "rate": np.array(data.rate)})


def _filter_npz(source: Path, rows: np.ndarray, path: Path) -> None:
    """Each array of ``source`` that has one row a sample, cut to ``rows``; every other member byte for byte."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as new:
        shapes: dict[str, tuple[int, ...]] = {}
        for name in old.namelist():
            try:
                with old.open(name) as file:
                    shapes[name] = header_of(file, name)[0]
            except InputError:
                shapes[name] = ()
        members = {name.removesuffix(".npy"): name for name in shapes}
        total = shapes[members[pick(members, INPUT_KEYS, source, "inputs")]][0]
        for name, shape in shapes.items():
            with new.open(name, "w", force_zip64=True) as out:
                if shape[:1] == (total,):
                    np.lib.format.write_array(out, np.ascontiguousarray(read_member(old, name)[rows]), allow_pickle=False)
                else:
                    with old.open(name) as file:
                        shutil.copyfileobj(file, out)
