"""CSV cells that a spreadsheet would take for a formula: defused on write, restored on read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_DANGEROUS = re.compile(r"'*[=+\-@\t\r]")
_DEFUSED = re.compile(r"'+[=+\-@\t\r]")


def defuse(cell: str) -> str:
    """An apostrophe before ``= + - @``, tab or carriage return (and before what already looks defused, so that `restore` is exact)."""
    return "'" + cell if _DANGEROUS.match(cell) else cell


def restore(cell: str) -> str:
    """`defuse` undone."""
    return cell[1:] if _DEFUSED.match(cell) else cell


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """UTF-8, quoted where needed, every cell defused."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([defuse(cell) for cell in row] for row in rows)
