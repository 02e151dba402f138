"""Where the rows of a table come from, in batches: CSV, parquet, frames in memory. Nothing is interpreted here but the format."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tocsin.data.cells import restore
from tocsin.data.columns import MISSING, Part, Texts, part_of
from tocsin.data.names import counted, listed
from tocsin.errors import InputError

_BATCH_CELLS = 2_000_000
_MOST_ROWS = 65_536


class Source(Protocol):
    """A table that can be read from the top as often as needed."""

    @property
    def header(self) -> Sequence[str]:
        """Names of the columns as they stand there."""
        ...

    @property
    def infer(self) -> bool:
        """Whether texts that are all numbers are meant as numbers."""
        ...

    def batches(self) -> Iterator[list[Part]]:
        """All columns of some rows at a time. Raises `InputError` for a damaged table."""
        ...


def batch_rows(columns: int) -> int:
    """Rows of a batch, so that it stays small however wide the table is."""
    return max(1, min(_MOST_ROWS, _BATCH_CELLS // max(columns, 1)))


@dataclass(frozen=True)
class CsvTable:
    """Comma, semicolon, tab or bar separated text in UTF-8 with one header line."""

    path: Path
    header: tuple[str, ...]
    delimiter: str
    infer: bool = True

    @classmethod
    def open(cls, path: Path) -> CsvTable:
        """Reads the header line. Raises `InputError` where there is none."""
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                first = file.readline(2**24)
                file.seek(0)
                delimiter = max(",;\t|", key=first.count)
                header = next((row for row in csv.reader(file, delimiter=delimiter) if row), [])
        except (UnicodeDecodeError, csv.Error) as why:
            raise InputError(f"{path}: not a CSV table in UTF-8 ({why})") from why
        return cls(path, tuple(restore(name) for name in header), delimiter)

    def rows(self) -> Iterator[list[str]]:
        """The cells as they stand there, row by row, without the header and empty lines. Raises `InputError`."""
        width = len(self.header)
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter)
                next(row for row in reader if row)
                for row in reader:
                    if len(row) != width:
                        if not row:
                            continue
                        raise InputError(
                            f"{self.path}: {counted(len(row), 'cell')} in line {reader.line_num}; the first line has {width:,}"
                        )
                    yield row
        except (UnicodeDecodeError, csv.Error) as why:
            raise InputError(f"{self.path}: not a CSV table in UTF-8 ({why})") from why

    def batches(self) -> Iterator[list[Part]]:
        size, batch = batch_rows(len(self.header)), list[list[str]]()
        for row in self.rows():
            batch.append(row)
            if len(batch) == size:
                yield [cleaned(cells) for cells in zip(*batch, strict=True)]
                batch = []
        if batch:
            yield [cleaned(cells) for cells in zip(*batch, strict=True)]


def cleaned(cells: Sequence[str]) -> Texts:
    """Cells of a CSV column: without blanks around them and the apostrophe that defuses a formula."""
    return Texts.of(cells, lambda different: [_meant(cell or "") for cell in different])


def _meant(cell: str) -> str | None:
    plain = restore(cell.strip())
    return None if plain in MISSING else plain


@dataclass(frozen=True)
class ParquetTable:
    """A parquet file, read in batches."""

    path: Path
    header: tuple[str, ...]
    infer: bool = False

    @classmethod
    def open(cls, path: Path) -> ParquetTable:
        """Reads the schema. Raises `InputError` where pyarrow is missing or the file is damaged."""
        with parquet_errors(path) as parquet, parquet.ParquetFile(path) as file:
            return cls(path, tuple(file.schema_arrow.names))

    def batches(self) -> Iterator[list[Part]]:
        with parquet_errors(self.path) as parquet, parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=batch_rows(len(self.header))):
                yield [arrow_part(column, name) for column, name in zip(batch.columns, self.header, strict=True)]


class parquet_errors:
    """pyarrow.parquet in a block in which its errors are `InputError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            import pyarrow.parquet
        except ImportError as why:
            raise InputError(f"{self.path}: reading parquet needs pyarrow; install it with: pip install tocsin[parquet]") from why
        return pyarrow.parquet

    def __exit__(self, _: Any, why: BaseException | None, __: Any) -> None:
        import pyarrow

        if isinstance(why, pyarrow.ArrowException | OSError) and not isinstance(why, InputError):
            raise InputError(f"{self.path}: not a readable parquet table ({why})") from why


def arrow_part(column: Any, name: str) -> Part:
    """A pyarrow array as numbers or texts."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    if pyarrow.types.is_boolean(kind):
        return Texts(column.cast(pyarrow.int8()).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), ["False", "True"])
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        coded = column.dictionary_encode()
        codes, names = coded.indices.fill_null(-1).to_numpy(), part_of(np.array([*coded.dictionary.to_pylist(), None], object), name)
        return Texts(np.append(names.codes[:-1], -1)[codes], names.names) if isinstance(names, Texts) else names[:-1][codes]
    if pyarrow.types.is_temporal(kind) and not pyarrow.types.is_time(kind):
        return part_of(column.to_numpy(zero_copy_only=False), name)
    return part_of(np.array([*column.to_pylist(), None], object)[:-1], name)


@dataclass(frozen=True)
class FrameTable:
    """A frame in memory: pandas, polars, a pyarrow table, or anything that gives its columns by their names."""

    columns: tuple[Any, ...]
    header: tuple[str, ...]
    infer: bool = False

    @classmethod
    def of(cls, frame: Any) -> FrameTable:
        """Takes the columns apart; nothing is copied yet."""
        names = frame.column_names if hasattr(frame, "column_names") else list(frame.columns)
        if hasattr(frame, "iloc"):
            columns = [frame.iloc[:, k] for k in range(len(names))]
        elif hasattr(frame, "get_columns"):
            columns = list(frame.get_columns())
        else:
            columns = [frame[name] for name in names]
        return cls(tuple(columns), tuple(str(name) for name in names))

    def batches(self) -> Iterator[list[Part]]:
        parts = [part_of(_as_numpy(column), name) for column, name in zip(self.columns, self.header, strict=True)]
        if parts and len(parts[0]):
            yield parts


def _as_numpy(column: Any) -> Any:
    """A series as an array; those that hold pandas' own NA as objects, moments of a time zone (objects in pandas) as those of UTC."""
    if getattr(getattr(column, "dtype", None), "tz", None) is not None:
        column = column.dt.tz_convert(None)
    try:
        return np.asarray(column)
    except (TypeError, ValueError):
        return np.array([*column, None], object)[:-1]


def is_frame(data: Any) -> bool:
    """Whether ``data`` is a table that knows the names of its columns."""
    names = getattr(data, "column_names", None) if not hasattr(data, "columns") else data.columns
    return names is not None and hasattr(data, "__len__" if not hasattr(data, "num_rows") else "num_rows") and hasattr(data, "shape")


def without_header(header: Sequence[str]) -> bool:
    """Whether the first line holds numbers rather than names."""

    def number(cell: str) -> bool:
        try:
            float(cell)
        except ValueError:
            return False
        return True

    return bool(header) and all(number(cell) for cell in header)


def looks_like(header: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of ``names`` that the header has, as it stands there."""
    plain = {str(name).strip().lower(): str(name) for name in reversed(header)}
    return next((plain[name] for name in names if name in plain), None)


def shown_header(header: Sequence[str]) -> str:
    """The columns as a sentence may name them."""
    return listed(header, 8) or "nothing"
