"""CSV cells that a spreadsheet would take for a formula: defused on write, restored on read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

# Full-width forms count as formulas too. The apostrophe is among them so that taking one off is the exact inverse of putting one on.
RISKY = "=+-@\t\r\n＝＋－＠'"


def defuse(cell: str) -> str:
    """The cell as text for a spreadsheet: an apostrophe before a leading ``= + - @``, tab, line break or apostrophe."""
    return "'" + cell if cell and cell[0] in RISKY else cell


def restore(cell: str) -> str:
    """Inverse of `defuse`; cells that `defuse` cannot have written come back unchanged."""
    return cell[1:] if len(cell) > 1 and cell[0] == "'" and cell[1] in RISKY else cell


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """UTF-8, every cell quoted (leading blanks of a name survive) and defused."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(header)
        writer.writerows([defuse(cell) for cell in row] for row in rows)
