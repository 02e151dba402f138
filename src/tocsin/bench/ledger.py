"""The results: one json line a finished cell, appended so that a kill at any moment costs at most the line being written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from tocsin.errors import AuditIncomplete, InputError
from tocsin.report.tables import jsonable

SCHEMA = "tocsin-bench/1"
_PARTS = ("key", "seed", "data", "attack", "detector", "victim")


@dataclass(frozen=True)
class Ledger:
    """The file of lines. A line counts once its end of line is written."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines, in the order they were written. Raises `InputError` for a line that is not a cell's."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as why:
            raise InputError(f"results: {self.path} cannot be read ({why.strerror or why})") from why
        return [self._cell(number, text) for number, text in enumerate(content.split(b"\n")[:-1], 1) if text.strip()]

    def latest(self) -> dict[str, dict[str, Any]]:
        """The last line of every cell, by its key."""
        return {line["key"]: line for line in self.read()}

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds a line, whole or not at all; cuts off what a killed run left unfinished. Raises `AuditIncomplete`."""
        text = json.dumps({"schema": SCHEMA, **jsonable(line)}, allow_nan=False) + "\n"
        try:
            with FileLock(f"{self.path}.lock"), open(self.path, "a+b") as file:
                _cut_unfinished(file)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as why:
            raise AuditIncomplete(f"results: {self.path} could not be written ({why.strerror or why}); finished cells are kept") from why

    def _cell(self, number: int, text: bytes) -> dict[str, Any]:
        try:
            line = json.loads(text)
            good = isinstance(line, dict) and line.get("schema") == SCHEMA and all(part in line for part in _PARTS)
        except (ValueError, RecursionError):
            good = False
        if not good:
            raise InputError(f"results: line {number} of {self.path} is no cell of `tocsin bench` ({SCHEMA}); remove it or the file")
        found: dict[str, Any] = line
        return found


def _cut_unfinished(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
