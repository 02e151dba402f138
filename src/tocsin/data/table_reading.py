"""Tables of features: CSV, parquet, frames and plain arrays of rows to a `Dataset` of the kind ``table``. Docs: docs/tables.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data import cache, tables
from tocsin.data.columns import MISSING, MOST_CLASSES, Part, Plan, Survey, Texts, named, part_of, plan_of, surveys_of, text_of
from tocsin.data.dataset import Column, Dataset, row_names
from tocsin.data.labels import assemble, encode
from tocsin.data.names import counted, listed, shown
from tocsin.data.request import Request
from tocsin.data.table_sources import CsvTable, FrameTable, ParquetTable, Source, looks_like, shown_header, without_header
from tocsin.errors import AuditIncomplete, InputError
from tocsin.runtime import Runtime

TABLE = "table"
_VERSION = 1
_ROW_LISTS = ({"row"}, {"row", "label"}, {"rank", "id", "label", "score", "flagged"}, {"id", "decision"})


def read_csv(request: Request) -> Dataset:
    """A ``.csv``: a list of files with their labels where it has a column of paths, else a table of features."""
    table = CsvTable.open(request.path)
    if _is_manifest(table.header, request):
        return tables.read_csv(request)
    return _read_file(table, request, "csv")


def read_parquet(request: Request) -> Dataset:
    """The same as parquet; needs pyarrow."""
    table = ParquetTable.open(request.path)
    if _is_manifest(table.header, request):
        return tables.read_parquet(request)
    return _read_file(table, request, "parquet")


def read_frame(frame: Any, labels: Any, classes: Sequence[str] | None, label: str | None, columns: Sequence[str] | None) -> Dataset:
    """A frame in memory (pandas, polars, pyarrow), with its labels beside it or in the column ``label``."""
    table = FrameTable.of(frame)
    beside = None if labels is None else part_of(_label_array(labels), "labels")
    if beside is not None and label is not None:
        raise InputError(f"label: {label!r} given as well as labels; which of them is meant?")
    wishes = _Wishes(label, None if columns is None else tuple(columns), beside)
    return _dataset(*_decoded(table, wishes, Runtime(), None), classes, "arrays", None, ())


def of_arrays(
    values: np.ndarray,
    labels: Any,
    classes: Sequence[str] | None,
    names: Sequence[str] | None = None,
    *,
    layout: str = "arrays",
    source: Path | None = None,
    notes: Sequence[str] = (),
    levels: Sequence[tuple[str, ...]] | None = None,
) -> Dataset:
    """One array of rows (N, F) of numbers, and its labels (N,). Whole numbers too wide for float32 make it float64."""
    if values.ndim != 2 or values.dtype.kind not in "iufb" or 0 in values.shape:
        raise InputError(f"inputs: a table is an array N,F of numbers, got {values.dtype} of shape {values.shape}")
    if names is not None and len(names) != values.shape[1]:
        raise InputError(f"columns: {len(names):,} names for {values.shape[1]:,} columns")
    called, renamed = named(names if names is not None else [f"column {k}" for k in range(1, values.shape[1] + 1)])
    floats, rounded = _as_floats(values)
    if rounded:
        notes = [*notes, "whole numbers beyond 2^53 are rounded to the nearest that a float64 holds"]
    texts = label_texts(part_of(_label_array(labels), "labels"))
    coder = _Coder()
    codes = coder.codes(texts)
    if len(texts) != len(values):
        raise InputError(f"labels: {len(texts):,} labels for {len(values):,} rows; one a row is needed")
    columns = tuple(Column(name, () if levels is None else levels[k]) for k, name in enumerate(called))
    kept = codes >= 0
    dropped = np.flatnonzero(~kept)
    return _dataset(
        floats if kept.all() else floats[kept],
        _Index(columns, _Labels(codes[kept], list(coder.known)), dropped, len(values), (*notes, *renamed)),
        classes, layout, source, (),
    )  # fmt: skip


def only(data: Dataset, names: Sequence[str]) -> Dataset:
    """The columns called ``names``, in the table's order. Raises `InputError` for one that is not there."""
    assert data.columns is not None
    have = [column.name for column in data.columns]
    if unknown := [name for name in names if name not in have]:
        raise InputError(f"columns: there is no {listed(unknown)}; the table has {listed(have, 8)}")
    kept = [k for k, name in enumerate(have) if name in set(names)]
    return replace(data, inputs=np.asarray(data.inputs)[:, kept], columns=tuple(data.columns[k] for k in kept))


def is_table(values: np.ndarray, kind: str, names: object = None) -> bool:
    """Whether an array holds rows of a table. Bytes (N, F) without names of columns may as well be flattened pictures."""
    return kind == TABLE or (kind == "auto" and values.ndim == 2 and (values.dtype != np.uint8 or names is not None))


def _as_floats(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """float32 where that is exact, else float64; and whether even that rounds. Floats keep their type."""
    if values.dtype in (np.float32, np.float64):
        return values, False
    narrow = values.astype(np.float32)
    if values.dtype.kind == "b" or values.dtype.itemsize <= 2 or np.array_equal(narrow.astype(np.float64), values.astype(np.float64)):
        return narrow, False
    wide = values.astype(np.float64)
    return wide, values.dtype.kind in "iu" and bool((np.abs(wide) > 2**53).any())


@dataclass(frozen=True)
class _Wishes:
    """What the person said about the columns."""

    label: str | None
    columns: tuple[str, ...] | None
    beside: Part | None = None
    """The labels, where they are no column."""


@dataclass(frozen=True)
class _Labels:
    """Labels as numbers in the order in which their names were met."""

    codes: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class _Index:
    """What is known of a decoded table beside its floats."""

    columns: tuple[Column, ...]
    labels: _Labels
    dropped: np.ndarray
    """Rows without a label."""
    rows: int
    """In the source."""
    notes: tuple[str, ...]
    label_column: str | None = None


@dataclass
class _Coder:
    """Gives labels numbers, batch by batch."""

    known: dict[str, int] = field(default_factory=dict)

    def codes(self, part: Part) -> np.ndarray:
        """int64 (B,), -1 where there is no label. Raises `InputError` where there are too many classes."""
        texts = label_texts(part)
        out = texts.looked_up([self.known.setdefault(name, len(self.known)) for name in texts.names], -1).astype(np.int64)
        if len(self.known) > MOST_CLASSES:
            raise InputError(
                f"label: more than {MOST_CLASSES:,} different labels ({listed(self.known, 3)}); classes are needed, not measurements;"
                " name another column with label= (--label)"
            )
        return out


def _label_array(labels: Any) -> Any:
    value = labels.detach().cpu().numpy() if hasattr(labels, "detach") else labels
    array = value if isinstance(value, list) else np.asarray(value)
    return array[:, 0] if isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == 1 else array


def label_texts(part: Part) -> Texts:
    """Labels as names: 1.0 is ``1``."""
    if isinstance(part, np.ndarray):
        values, places = np.unique(part, return_inverse=True)
        names = Texts.of([None if np.isnan(value) else text_of(float(value)) for value in values.tolist()])
        return Texts(names.codes[places.reshape(-1)], names.names)
    return part.renamed(lambda name: str(int(float(name))) if re.fullmatch(r"[+-]?[0-9]+\.0*", name) else name)


def _is_manifest(header: Sequence[str], request: Request) -> bool:
    """Whether the table lists files. A table of features that has a column of paths is one if the person says so."""
    return request.kind != TABLE and (request.kind != "auto" or looks_like(header, tables.PATH_COLUMNS) is not None or not header)


def _hint(header: Sequence[str]) -> str:
    """What to add to an error about columns of tables that begin with a row of numbers, such as LightGBM's examples."""
    return "; the first line holds numbers, and must hold the columns' names" if without_header(header) else ""


def _label_column(names: Sequence[str], header: Sequence[str], wanted: str | None, where: str) -> tuple[int, list[str]]:
    """The place of the labels, and what is to be said of the choice. Raises `InputError`."""
    if wanted is not None:
        found = [k for k, name in enumerate(names) if name == wanted] or [
            k for k, name in enumerate(names) if name.lower() == wanted.strip().lower()
        ]
        if not found:
            raise InputError(f"label: {where} has no column {shown(wanted)!r}; got {shown_header(header)}{_hint(header)}")
        return found[0], []
    if {str(entry).strip().lower() for entry in header} in _ROW_LISTS:
        raise InputError(f"{where}: a list of rows and no data; give it to tocsin apply together with the data")
    name = looks_like(names, tables.LABEL_COLUMNS)
    if name is None:
        raise InputError(
            f"{where}: no path column and no label column; got {shown_header(header)}; of a table of features, name the column of labels"
            f" with label= (--label), or call it {', '.join(tables.LABEL_COLUMNS)}; of a list of files, allowed for the paths are"
            f" {', '.join(tables.PATH_COLUMNS[:4])} ... (in the first line){_hint(header)}"
        )
    place = names.index(name)
    rest = [other for k, other in enumerate(names) if k != place and other.lower() in tables.LABEL_COLUMNS]
    return place, [f"labels taken from the column {shown(name)!r}; {listed(rest)} stays a feature"] if rest else []


def _read_file(table: Source, request: Request, layout: str) -> Dataset:
    path = request.path.resolve()
    status = path.stat()
    wishes = _Wishes(request.label, request.columns)
    facts = (_VERSION, cache.FORMAT, str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, wishes)
    key = hashlib.blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
    folder = request.runtime.cache / "decoded" / key
    extra: list[str] = []
    try:
        found = cache.read(folder)
    except cache.Broken:
        found = None
        extra.append("the cache of decoded tables was damaged and has been rebuilt")
    except OSError:
        found = None
    if found is not None:
        matrix, index = _of_cache(*found)
    else:
        matrix, index = _decoded(table, wishes, request.runtime, folder)
    return _dataset(matrix, index, request.classes, layout, path, extra)


def _of_cache(rows: np.ndarray, facts: dict[str, Any]) -> tuple[np.ndarray, _Index]:
    """Of what `_decoded` wrote: each row has its features, and its label's number last."""
    columns = tuple(Column(name, tuple(levels)) for name, levels in facts["columns"])
    labels = _Labels(rows[:, -1].astype(np.int64), facts["labels"])
    return rows[:, :-1], _Index(columns, labels, np.array(facts["dropped"], np.int64), facts["rows"], tuple(facts["notes"]), facts["label"])


def _decoded(table: Source, wishes: _Wishes, runtime: Runtime, folder: Path | None) -> tuple[np.ndarray, _Index]:
    """The table looked at, then turned into floats, on disk below ``folder`` or else in memory."""
    names, notes = named(table.header)
    where = str(getattr(table, "path", "the frame"))
    place: int | None = None
    if wishes.beside is None:
        place, said = _label_column(names, table.header, wishes.label, where)
        notes += said
    surveys, rows = _surveyed(table, names, runtime)
    if not rows:
        raise InputError(f"{where}: the table has no rows")
    if wishes.beside is not None and len(wishes.beside) != rows:
        raise InputError(f"labels: {len(wishes.beside):,} labels for {rows:,} rows; one a row is needed")
    wanted = None if wishes.columns is None else [name for name in wishes.columns if place is None or name != names[place]]
    plan = plan_of(names, surveys, place, wanted)
    notes += plan.notes
    size = np.dtype(plan.dtype).itemsize * rows * (len(plan.at) + 1)
    if folder is None:
        return _of_cache(*_filled(table, plan, place, wishes, cache.MemorySink(), rows, notes, runtime))
    try:
        return _of_cache(*_filled(table, plan, place, wishes, cache.FileSink(folder, size), rows, notes, runtime))
    except OSError as why:
        said = [f"the table could not be cached in {runtime.cache} ({why.strerror or why}); it is held in memory"]
        try:
            return _of_cache(*_filled(table, plan, place, wishes, cache.MemorySink(), rows, [*notes, *said], runtime))
        except MemoryError as out:
            raise AuditIncomplete(f"{size / 2**30:.1f} GiB of the table fit neither on disk nor in memory") from out


def _surveyed(table: Source, names: Sequence[str], runtime: Runtime) -> tuple[list[Survey], int]:
    surveys, rows = surveys_of(names, table.infer), 0
    for parts in table.batches():
        for survey, part in zip(surveys, parts, strict=True):
            survey.see(part)
        rows += len(parts[0])
        runtime.progress("looking at the table", rows / (rows + 100_000))
    runtime.progress("looking at the table", 1.0)
    return surveys, rows


def _filled(
    table: Source, plan: Plan, place: int | None, wishes: _Wishes, sink: cache.Sink, rows: int, notes: Sequence[str], runtime: Runtime
) -> tuple[np.ndarray, dict[str, Any]]:
    coder, dropped, done, names = _Coder(), list[int](), 0, named(table.header)[0]
    try:
        for parts in table.batches():
            size = len(parts[0])
            beside = None if wishes.beside is None else _slice(wishes.beside, done, done + size)
            codes = coder.codes(beside if place is None and beside is not None else parts[place or 0])
            values = np.concatenate([plan.encode(parts), codes[:, None].astype(plan.dtype)], axis=1)
            sink.write(values[codes >= 0])
            dropped += (np.flatnonzero(codes < 0) + done).tolist()
            done += size
            runtime.progress("reading the table", done / rows)
        if done != rows:
            raise InputError("the table changed while it was read; try again")
        columns = [[column.name, list(column.levels)] for column in plan.columns]
        facts: dict[str, Any] = {
            "columns": columns,
            "label": None if place is None else names[place],
            "labels": list(coder.known),
            "dropped": dropped,
            "rows": rows,
            "notes": list(notes),
        }
        matrix = sink.finish({**facts, "dtype": plan.dtype}, (rows - len(dropped), len(plan.at) + 1))
    finally:
        sink.close()
    return matrix, facts


def _slice(part: Part, start: int, end: int) -> Part:
    return part[start:end] if isinstance(part, np.ndarray) else Texts(part.codes[start:end], part.names)


def _dataset(
    matrix: np.ndarray, index: _Index, classes: Sequence[str] | None, layout: str, source: Path | None, extra: Sequence[str]
) -> Dataset:
    notes = [*index.notes, *extra]
    if len(index.dropped):
        notes.append(f"{counted(len(index.dropped), 'row')} without a label left out: {listed(index.dropped.tolist())}")
    if not len(matrix):
        raise InputError(f"{source or 'the table'}: no row has a label")
    places, names = encode(index.labels.names, classes, missing=MISSING)
    kept = np.delete(np.arange(index.rows), index.dropped) if len(index.dropped) else np.arange(index.rows)
    data = assemble(
        matrix, places[index.labels.codes], names, row_names(kept), layout=layout, source=source, notes=notes, kind=TABLE
    )  # fmt: skip
    return replace(data, columns=index.columns, label_column=index.label_column)
