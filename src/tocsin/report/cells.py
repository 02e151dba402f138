"""The report's CSV files as text, and back: names in a hostile data set must not become formulas, and must survive unchanged."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tocsin.data.cells import defuse, restore
from tocsin.errors import InputError


def to_csv(header: Sequence[str], rows: Iterable[Sequence[str | int | float | bool]]) -> str:
    """The rows as CSV text. Text cells are defused; numbers stand as they are and truth values as true/false."""
    return "".join(csv_parts(header, [rows]))


def csv_parts(header: Sequence[str], parts: Iterable[Iterable[Sequence[str | int | float | bool]]]) -> Iterator[str]:
    """As `to_csv`, of rows that come in ``parts``, part by part: the cells of five million rows at once are gigabytes."""
    first = [tuple(header)]
    for rows in parts:
        text = [[_cell(cell) for cell in row] for row in rows]
        # Older Pythons leave a bare carriage return unquoted when the line ends in "\n"; many readers drop bare leading blanks.
        odd = any("\r" in cell or cell[:1] == " " for row in text for cell in row)
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)
        writer.writerows((*first, *text))
        yield out.getvalue()
        first = []


def _cell(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        return defuse(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header (lower case) and rows of a CSV file, cells un-defused.

    Comma, semicolon or tab separated, with or without byte-order mark: spreadsheets save all of these.
    Raises `InputError` for what is not such a table.
    """
    try:
        text = read_text(path)
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        rows = [
            [restore(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row
        ]
    except csv.Error as why:
        raise InputError(f"decisions: {path} is not a readable CSV file ({why})") from why
    if not rows:
        raise InputError(f"decisions: {path} is empty; a CSV file with a header line was expected")
    header = [cell.strip().lower() for cell in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(f"decisions: {path}: row {number} has {len(row)} cells where the header has {len(header)}; was it cut off?")
    return header, rows[1:]


def read_text(path: Path) -> str:
    """The file as text; bytes that are not UTF-8 survive, since file names need not be UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as why:
        raise InputError(f"decisions: cannot read {path} ({why.strerror or why})") from why
