"""Tables of ``path, label``: CSV, parquet, and the ``metadata.csv`` of a folder of pictures or sounds."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data.cells import restore
from tocsin.data.dataset import Dataset
from tocsin.data.decoding import decode_files
from tocsin.data.labels import assemble, encode, no_labels
from tocsin.data.listing import Entry, Skips, entry_of, is_hidden
from tocsin.data.media import medium_of
from tocsin.data.names import LONGEST, contained, counted, file_of, id_of, inside, is_number, listed
from tocsin.data.request import Request
from tocsin.errors import InputError

PATH_COLUMNS = ("path", "file_name", "filename", "file", "filepath", "file_path", "image", "image_path", "audio", "audio_path")
LABEL_COLUMNS = ("label", "class", "target", "labels", "class_name", "y")
GROUP_COLUMNS = ("speaker", "speaker_id", "client_id")
METADATA = "metadata.csv"
_LARGEST_TABLE = 2**30


@dataclass(frozen=True)
class Table:
    """The columns that matter, as text, and the row numbers by which a person finds them (CSV: lines)."""

    paths: list[str]
    labels: list[str] | None
    """None: not asked for."""
    rows: list[int]
    groups: list[str] | None
    """Of the column that names the speaker, if there is one."""


def read_csv(request: Request) -> Dataset:
    """``something.csv`` with a path and a label column; paths start at the table's folder."""
    table = _parse_csv(request.path, not request.unlabelled)
    return _read(request, table, request.root or request.path.parent, "manifest", request.path)


def read_parquet(request: Request) -> Dataset:
    """The same as parquet; needs pyarrow."""
    table = _parse_parquet(request.path, not request.unlabelled)
    return _read(request, table, request.root or request.path.parent, "manifest", request.path)


def read_metadata(request: Request) -> Dataset:
    """A folder with ``metadata.csv`` (``file_name,label``) at its root."""
    return _read(request, _parse_csv(request.path / METADATA, not request.unlabelled), request.path, "metadata", request.path)


def split_of(path: Path) -> Path | None:
    """The training split of a Hugging Face folder: ``train/metadata.csv``, where ``path`` has no table of its own."""
    split = path / "train"
    return split if (split / METADATA).is_file() else None


def read_split(request: Request) -> Dataset:
    """The split ``train/`` of a Hugging Face folder; other splits are left alone, and a note says so."""
    split = split_of(request.path)
    assert split is not None
    data = read_metadata(replace(request, path=split))
    beside = [entry.name for entry in sorted(request.path.iterdir()) if entry.is_dir() and entry != split and not is_hidden(entry.name)]
    return replace(data, notes=(f"read the split train/ alone{f', and not {listed(beside)}' if beside else ''}", *data.notes))


def _column(header: Sequence[str], wanted: Sequence[str], path: Path, what: str) -> int:
    plain = [name.strip().lower() for name in header]
    for name in wanted:
        if name in plain:
            return plain.index(name)
    raise InputError(f"{path}: no {what} column; got {listed(header, 8) or 'nothing'}; allowed: {', '.join(wanted)} (in the first line)")


def _group_column(header: Sequence[str]) -> int | None:
    plain = [name.strip().lower() for name in header]
    return next((plain.index(name) for name in GROUP_COLUMNS if name in plain), None)


def _parse_csv(path: Path, labelled: bool) -> Table:
    if path.stat().st_size > _LARGEST_TABLE:
        raise InputError(f"{path}: larger than 1 GiB, which is no table of paths and labels")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            lines = [(reader.line_num, row) for reader in [csv.reader(file, delimiter=delimiter)] for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as why:
        raise InputError(f"{path}: not a CSV table in UTF-8 ({why})") from why
    header = lines[0][1] if lines else []
    at_path = _column(header, PATH_COLUMNS, path, "path")
    at_label = _column(header, LABEL_COLUMNS, path, "label") if labelled else None
    at_group = _group_column(header)
    width = max(at_path, at_label or 0, at_group or 0) + 1
    if short := [number for number, row in lines[1:] if len(row) < width]:
        raise InputError(f"{path}: too few cells in line {listed(short)}; the first line has {counted(len(header), 'column')}")
    rows = [number for number, _ in lines[1:]]
    labels, groups = (None if at is None else [row[at] for _, row in lines[1:]] for at in (at_label, at_group))
    return Table([row[at_path] for _, row in lines[1:]], labels, rows, groups)


def _parse_parquet(path: Path, labelled: bool) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as why:
        raise InputError(f"{path}: reading parquet needs pyarrow; install it with: pip install tocsin[parquet]") from why
    try:
        file = pyarrow.parquet.ParquetFile(path)
        header = list(file.schema_arrow.names)
        at_path = _column(header, PATH_COLUMNS, path, "path")
        at_label = _column(header, LABEL_COLUMNS, path, "label") if labelled else None
        columns = [None if at is None else header[at] for at in (at_path, at_label, _group_column(header))]
        table = file.read(columns=[name for name in columns if name is not None])
        paths, labels, groups = (None if name is None else table.column(name).to_pylist() for name in columns)
    except (pyarrow.ArrowException, OSError) as why:
        raise InputError(f"{path}: not a readable parquet table ({why})") from why
    assert paths is not None
    if wrong := [k for k, value in enumerate(paths) if not isinstance(value, str)]:
        raise InputError(f"{path}: the path is missing or no text in row {listed(wrong)}")
    if wrong := [k for k, value in enumerate(labels or ()) if not isinstance(value, str | int | float | None)]:
        raise InputError(f"{path}: the label is neither text nor a number in row {listed(wrong)}")
    texts, speakers = (None if values is None else [_label_text(value) for value in values] for values in (labels, groups))
    return Table(paths, texts, list(range(len(paths))), speakers)


def _label_text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read(request: Request, table: Table, root: Path, layout: str, source: Path) -> Dataset:
    if not table.paths:
        raise InputError(f"{source}: the table has no rows")
    numbers, classes = no_labels(len(table.paths)) if table.labels is None else _numbered(table.labels, table.rows, request.classes)
    skips = Skips()
    rows, files = _find(table, numbers, root.resolve(), skips)
    if not files:
        raise InputError(f"{source}: none of its {counted(len(table.paths), 'path')} can be used ({'; '.join(skips.notes())})")
    decoded = decode_files(files, medium_of(files, request), request.runtime)
    kept = rows[decoded.kept]
    labels = numbers[kept]
    groups = None if table.groups is None else np.array([restore(table.groups[row].strip())[:LONGEST] for row in kept.tolist()])
    if request.classes is None and table.labels is not None:  # a class all of whose files are unreadable is none
        labels, classes = encode([classes[k] for k in labels], missing=frozenset())
    return assemble(
        decoded.inputs,
        labels,
        classes,
        np.array([files[at].id for at in decoded.kept.tolist()]),
        layout=layout,
        source=source.resolve(),
        root=root.resolve(),
        notes=[*skips.notes(), *decoded.notes],
        resized=decoded.resized,
        kind=decoded.kind,
        rate=decoded.rate,
        groups=groups,
    )


def _numbered(labels: Sequence[str], rows: Sequence[int], names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (N,) as numbers, and the class names, from a column as it stands in the file."""
    if negative := [row for row, label in zip(rows, labels, strict=True) if label.strip().startswith("-") and is_number(label.strip())]:
        raise InputError(f"labels: negative in row {listed(negative)}; allowed: whole numbers from 0, or class names")
    spaced = all(label.startswith(" ") for label in labels)  # written with ", " between the cells
    return encode([restore(label.strip() if spaced else label) for label in labels], names, rows)


def _find(table: Table, labels: np.ndarray, root: Path, skips: Skips) -> tuple[np.ndarray, list[Entry]]:
    """The rows whose file exists inside ``root``, each file once, and those files."""
    found: list[Entry] = []
    rows: list[int] = []
    known: dict[str, int] = {}
    conflicts: list[str] = []
    parents: dict[str, bool] = {}
    for at, cell in enumerate(table.paths):
        entry = _entry(cell, root, parents, skips)
        if entry is None:
            continue
        if entry.id in known:
            if labels[known[entry.id]] != labels[at]:
                conflicts.append(f"{entry.id} (rows {table.rows[known[entry.id]]} and {table.rows[at]})")
            skips.add("row", "the same file is named twice", entry.id)
            continue
        known[entry.id] = at
        rows.append(at)
        found.append(entry)
    if conflicts:
        raise InputError(f"{counted(len(conflicts), 'file')} named twice with different labels: {listed(conflicts)}")
    return np.array(rows, np.int64), found


def _entry(cell: str, root: Path, parents: dict[str, bool], skips: Skips) -> Entry | None:
    relative = contained(restore(cell))
    if relative is None or len(relative) > LONGEST:
        skips.add("row", "the path leads out of the table's folder" if relative is None else f"longer than {LONGEST} characters", cell)
        return None
    for candidate in dict.fromkeys(contained(text) or relative for text in (relative, cell, cell.strip(), cell.replace("\\", "/"))):
        path = os.path.join(root, candidate) if candidate.isascii() and "\\x" not in candidate else str(file_of(root, candidate))
        try:
            status = os.lstat(path)
            parent = os.path.dirname(path)
            if parent not in parents:
                parents[parent] = inside(os.path.realpath(parent), str(root))
            linked = stat.S_ISLNK(status.st_mode)
            if not parents[parent] or (linked and not inside(os.path.realpath(path), str(root))):
                skips.add("row", "a link leads out of the table's folder", candidate)
                return None
            status = os.stat(path) if linked else status
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(status.st_mode):
            skips.add("row", "no regular file", candidate)
            return None
        return entry_of(id_of(candidate), path, status)
    skips.add("row", "no such file", relative)
    return None
