"""Copies of tables in the layout they were read from: what did not change is taken from the source as it stands there."""

from __future__ import annotations

import csv
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data import ember
from tocsin.data.cells import RISKY, defuse, restore
from tocsin.data.columns import Part, Texts, encoded, named, numbers_of, text_of
from tocsin.data.dataset import Column, Dataset
from tocsin.data.names import shown
from tocsin.data.npz import CLASS_KEYS, INPUT_KEYS, LABEL_KEYS, columns_of, pick, read_member, table_arrays, write_arrays
from tocsin.data.staging import POISON_MANIFEST, MakesExtra, staged, write_extra, write_single
from tocsin.data.table_reading import label_texts
from tocsin.data.table_sources import CsvTable, ParquetTable, arrow_part, batch_rows, cleaned, parquet_errors
from tocsin.errors import InputError

_BLOCK = 4096


@dataclass(frozen=True)
class _Copy:
    """What a copy consists of: rows of the source in their order, some of them changed."""

    data: Dataset
    source: Path
    rows: np.ndarray
    """(N,) int64, rising: the row of the source that each row of ``data`` is."""
    changed: np.ndarray
    """(N,) bool: rows in which cells and labels may differ from the source's."""


def write_table(data: Dataset, changed: np.ndarray, destination: Path, extra: MakesExtra | None) -> Path:
    """``data`` as a table in its layout, ``changed`` (N,) bool being the rows that are not as they were read; returns what to load.

    Layouts without a source, and rows in another order than the source's, become an ``.npz``.
    """
    rows, source = _row_numbers(data), data.source
    known = data.layout in (*_SAVERS, ember.LAYOUT) and source is not None and rows is not None and bool((np.diff(rows) > 0).all())
    if not known or source is None or rows is None:
        return write_single(len(data), destination, "data.npz", source, lambda path: save_arrays(path, data), extra)
    copy = _Copy(data, source, rows, changed)
    if data.layout == ember.LAYOUT:
        return _write_ember(copy, destination, extra)
    return write_single(len(data), destination, source.name, source, lambda path: _SAVERS[data.layout](copy, path), extra)


def suffix_of_copy(data: Dataset) -> str:
    """How the name of a copy in one file ends; empty where a copy is a folder."""
    if data.layout == ember.LAYOUT:
        return ""
    return data.source.suffix if data.layout in _SAVERS and data.source is not None else ".npz"


def _row_numbers(data: Dataset) -> np.ndarray | None:
    names = data.ids.astype(str)
    return names.astype(np.int64) if np.char.isdecimal(names).all() else None


def save_arrays(path: Path, data: Dataset) -> None:
    """``data`` as an archive of its own: rows, labels, and the names of all there is."""
    arrays = {"x": np.asarray(data.inputs), "y": data.labels, "classes": np.array(data.classes)}
    write_arrays(path, {**arrays, **table_arrays(data.columns or ())})


def spelled(value: float, column: Column) -> str:
    """A value as a CSV cell that reads back as the same."""
    if np.isnan(value):
        return ""
    if column.levels:
        return defuse(column.levels[int(value)])
    return text_of(float(value)) if abs(value) < 2**53 else repr(float(value))


def _same(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    same: np.ndarray = (old == new) | (np.isnan(old) & np.isnan(new))
    return same


def _save_csv(copy: _Copy, path: Path) -> None:
    table = CsvTable.open(copy.source)
    columns = copy.data.columns or ()
    at, at_label = _places(table.header, copy.data)
    label_of = _labels_in(copy, (cleaned([row[at_label]]) for row in table.rows())) if at_label is not None else None
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=table.delimiter)
        writer.writerow([defuse(name) for name in table.header])
        for place, row in _taken(copy, enumerate(table.rows())):
            if copy.changed[place]:
                for k, value in enumerate(np.asarray(copy.data.inputs[place], np.float64)):
                    old = encoded(cleaned([row[at[k]]]), columns[k])[0]
                    if not (old == value or (np.isnan(old) and np.isnan(value))):
                        row[at[k]] = spelled(value, columns[k])
                if at_label is not None and label_of is not None:
                    row[at_label] = label_of.text(place, row[at_label])
            writer.writerow([_defused(cell) for cell in row])


def _defused(cell: str) -> str:
    """A cell of the source for the copy: numbers stand as they are, texts that a spreadsheet would run are defused."""
    return cell if not cell or cell[0] not in RISKY or numbers_of(Texts.of([cell])) is not None else defuse(restore(cell))


def _places(header: Sequence[str], data: Dataset) -> tuple[list[int], int | None]:
    """Where the data's columns and labels stand in the source. Raises `InputError` where one is gone."""
    names = named(header)[0]
    wanted = [column.name for column in data.columns or ()] + ([data.label_column] if data.label_column is not None else [])
    if gone := [name for name in wanted if name not in names]:
        raise InputError(f"{data.source}: has no column {shown(gone[0])!r} any more; the data changed since it was read")
    places = [names.index(name) for name in wanted]
    return (places[:-1], places[-1]) if data.label_column is not None else (places, None)


def _taken(copy: _Copy, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Of the source's rows those in the copy, with their place in it. Raises `InputError` where the source has become shorter."""
    place, wanted = 0, copy.rows.tolist()
    for number, row in rows:
        if place < len(wanted) and number == wanted[place]:
            yield place, row
            place += 1
    if place < len(wanted):
        raise InputError(f"{copy.source}: has fewer rows than before; the data changed since it was read")


@dataclass(frozen=True)
class _Labels:
    """How the source spells its classes."""

    data: Dataset
    meaning: Mapping[str | None, int]
    """Label as a name -> class."""
    spelling: Mapping[int, Any]
    """Class -> a label as it stands in the source."""

    def text(self, place: int, raw: str) -> str:
        """The label of a row for the copy; ``raw`` is the one it had."""
        label = int(self.data.labels[place])
        (name,) = label_texts(cleaned([raw])).listed()
        return raw if self.meaning.get(name) == label else str(self.spelling.get(label, defuse(self.data.classes[label])))


def _labels_in(copy: _Copy, parts: Iterator[Part]) -> _Labels:
    """Learned from the rows that did not change; nothing is read where none did."""
    meaning: dict[str | None, int] = {}
    spelling: dict[int, Any] = {}
    if copy.changed.any():
        start, place = 0, 0
        for part in parts:
            while place < len(copy.rows) and copy.rows[place] < start + len(part):
                if not copy.changed[place]:
                    at = slice(row := copy.rows[place] - start, row + 1)
                    one = part[at] if isinstance(part, np.ndarray) else Texts(part.codes[at], part.names)
                    raw = part[row] if isinstance(part, np.ndarray) else part.names[part.codes[row]]
                    label = int(copy.data.labels[place])
                    if label not in spelling:
                        spelling[label] = raw
                        meaning[label_texts(one).listed()[0]] = label
                place += 1
            start += len(part)
    return _Labels(copy.data, meaning, spelling)


def _save_parquet(copy: _Copy, path: Path) -> None:
    table = ParquetTable.open(copy.source)
    at, at_label = _places(table.header, copy.data)
    with parquet_errors(copy.source) as parquet, parquet.ParquetFile(copy.source) as file:
        size = batch_rows(len(table.header))
        label_of = None
        if at_label is not None:
            name = table.header[at_label]
            found = (batch.column(0) for batch in file.iter_batches(batch_size=size, columns=[name]))
            label_of = _labels_in(copy, (arrow_part(column, name) for column in found))
        start = place = 0
        with parquet.ParquetWriter(path, file.schema_arrow) as writer:
            for batch in file.iter_batches(batch_size=size):
                end = int(np.searchsorted(copy.rows, start + batch.num_rows))
                mine = np.arange(place, end)
                if len(mine):
                    kept = batch.take(copy.rows[mine] - start)
                    writer.write_batch(_changed_batch(copy, kept, mine, at, at_label, label_of) if copy.changed[mine].any() else kept)
                start, place = start + batch.num_rows, end
    if place < len(copy.rows):
        raise InputError(f"{copy.source}: has fewer rows than before; the data changed since it was read")


def _changed_batch(copy: _Copy, batch: Any, mine: np.ndarray, at: Sequence[int], at_label: int | None, label_of: _Labels | None) -> Any:
    """The rows ``mine`` of the copy as a pyarrow batch: the source's, with the cells that differ put in."""
    import pyarrow

    arrays, changed = list(batch.columns), copy.changed[mine]
    values = np.asarray(copy.data.inputs[mine], np.float64)
    for k, column in enumerate(copy.data.columns or ()):
        old = encoded(arrow_part(arrays[at[k]], column.name), column)
        if (differ := changed & ~_same(old, values[:, k])).any():
            new = [_cell(value, column) for value in values[differ, k].tolist()]
            arrays[at[k]] = _put(arrays[at[k]], differ, new, column.name)
    if at_label is not None and label_of is not None and copy.data.label_column is not None:
        names = label_texts(arrow_part(arrays[at_label], copy.data.label_column)).listed()
        labels = copy.data.labels[mine].tolist()
        differ = changed & np.array([label_of.meaning.get(name) != label for name, label in zip(names, labels, strict=True)])
        if differ.any():
            new = [label_of.spelling.get(labels[row], copy.data.classes[labels[row]]) for row in np.flatnonzero(differ).tolist()]
            arrays[at_label] = _put(arrays[at_label], differ, new, copy.data.label_column)
    return pyarrow.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _cell(value: float, column: Column) -> float | str | None:
    return None if np.isnan(value) else column.levels[int(value)] if column.levels else value


def _put(array: Any, where: np.ndarray, cells: Sequence[float | str | None], name: str) -> Any:
    """A pyarrow array with ``cells`` in the places of ``where``, in its own type. Raises `InputError` where that cannot hold them."""
    import pyarrow
    import pyarrow.compute

    kind = array.type
    plain = array.dictionary_decode() if pyarrow.types.is_dictionary(kind) else array
    try:
        if pyarrow.types.is_boolean(plain.type):
            new = pyarrow.array([None if cell is None else cell in ("True", 1.0) for cell in cells])
        elif pyarrow.types.is_temporal(plain.type):
            micro = pyarrow.array([None if cell is None else round(float(cell) * 1e6) for cell in cells], pyarrow.int64())
            new = micro.cast(pyarrow.duration("us") if pyarrow.types.is_duration(plain.type) else pyarrow.timestamp("us")).cast(plain.type)
        else:
            new = pyarrow.array(cells).cast(plain.type)
    except pyarrow.ArrowException as why:
        raise InputError(f"column {shown(name)!r}: is {plain.type} in the source, which cannot hold what is to be written ({why})") from why
    out = pyarrow.compute.replace_with_mask(plain, pyarrow.array(where), new)
    return out.dictionary_encode().cast(kind) if pyarrow.types.is_dictionary(kind) else out


def _save_npz(copy: _Copy, path: Path) -> None:
    """Each array of the source that has one row a sample, cut to the rows of the copy; every other member byte for byte."""
    with zipfile.ZipFile(copy.source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as new:
        members = {name.removesuffix(".npy"): name for name in old.namelist()}
        at_x, at_y = (pick(members, keys, copy.source, what) for keys, what in ((INPUT_KEYS, "inputs"), (LABEL_KEYS, "labels")))
        values = read_member(old, members[at_x])
        names, _, fixed = columns_of(old, members, at_x, values)
        total = len(values)
        if not len(copy.rows) or copy.rows[-1] >= total:
            raise InputError(f"{copy.source}: has fewer rows than before; the data changed since it was read")
        for name, member in members.items():
            array = values if name == at_x else read_member(old, member) if member.endswith(".npy") and name not in fixed else None
            if array is None or array.shape[:1] != (total,) or name.lower() in CLASS_KEYS:
                with old.open(member) as file, new.open(member, "w", force_zip64=True) as out:
                    shutil.copyfileobj(file, out)
                continue
            mine = array[copy.rows]
            if name == at_x:
                mine = _changed_rows(copy, mine, names)
            elif name == at_y:
                mine = _changed_labels(copy, mine)
            with new.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.ascontiguousarray(mine), allow_pickle=False)


def _changed_rows(copy: _Copy, values: np.ndarray, names: Sequence[str] | None) -> np.ndarray:
    rows = np.flatnonzero(copy.changed)
    header = named(names if names is not None else [""] * values.shape[1])[0]
    at = np.array([header.index(column.name) for column in copy.data.columns or ()])
    wanted = np.asarray(copy.data.inputs[rows], np.float64)
    differ = ~_same(values[np.ix_(rows, at)].astype(np.float64), wanted)
    places, which = np.nonzero(differ)
    with np.errstate(invalid="ignore"):
        cells = wanted[differ].astype(values.dtype)
    if not _same(cells.astype(np.float64), wanted[differ]).all():
        raise InputError(f"inputs: are {values.dtype} in {shown(str(copy.source))}, which cannot hold what is to be written")
    values[rows[places], at[which]] = cells
    return values


def _changed_labels(copy: _Copy, labels: np.ndarray) -> np.ndarray:
    """The labels as the archive has them, each changed one as another row of its class has it."""
    first = {label: row for row, label in reversed(list(enumerate(copy.data.labels.tolist()))) if not copy.changed[row]}
    for row in np.flatnonzero(copy.changed).tolist():
        label = int(copy.data.labels[row])
        if label not in first:
            raise InputError(f"labels: no row of the class {shown(copy.data.classes[label])!r} stays as it was, so its label is not known")
        labels[row] = labels[first[label]]
    return labels


_SAVERS: Mapping[str, Callable[[_Copy, Path], None]] = {"csv": _save_csv, "parquet": _save_parquet, "npz": _save_npz}
"""Layout -> what writes a copy in one file."""


def _write_ember(copy: _Copy, destination: Path, extra: MakesExtra | None) -> Path:
    """A folder of ``X_train.dat`` and ``y_train.dat`` with the rows of the copy, written block by block."""
    data = copy.data
    with staged(destination, copy.source) as folder:
        with open(folder / ember.TRAIN, "wb") as file:
            for start in range(0, len(data), _BLOCK):
                file.write(np.ascontiguousarray(data.inputs[start : start + _BLOCK], np.float32).data)
        (folder / ember.labels_of(Path(ember.TRAIN))).write_bytes(ember.raw_labels(data).tobytes())
        if extra is not None:
            write_extra(folder, extra([str(row) for row in range(len(data))], POISON_MANIFEST))
    return destination
