"""What every reader is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tocsin.data.images import Size
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Request:
    """A path to read and the person's wishes."""

    path: Path
    classes: tuple[str, ...] | None
    size: Size | None
    runtime: Runtime
    root: Path | None = None
    """For tables: the folder that their paths start from (default: the table's own). Only the person may name it, never a file."""
    kind: str = "auto"
    """``auto``: by content."""
    rate: int | None = None
    """Of sounds, in samples a second (default: the most common one)."""
    seconds: float | None = None
    """Length of a clip (default: chosen from the data)."""
    label: str | None = None
    """Of a table: the column of labels (default: one with a usual name)."""
    columns: tuple[str, ...] | None = None
    """Of a table of features: the columns to read, whatever they hold (default: all that can be features)."""
    unlabelled: bool = False
    """Labels are neither needed nor read: every sample is of the one class `UNLABELLED`."""
