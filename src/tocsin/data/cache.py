"""Decoded samples on disk, memory-mapped: one folder an entry, written whole or not at all.

An entry is ``rows.bin`` (raw numbers) and ``index.json`` (shape, type, checksum, what the reader wants to remember).
It is built in a temporary sibling and renamed, so a half-written one is never seen; a damaged one fails its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

FORMAT = 2
_TYPES = ("uint8", "int16", "float32", "float64")
_BLOCK = 2**20
_BLOCKS = 256
_STALE_SECONDS = 24 * 3600


class Broken(Exception):
    """The entry is there but is not what was written."""


class Sink(Protocol):
    """Where decoded rows go, in order."""

    def write(self, rows: np.ndarray) -> None: ...

    def finish(self, index: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
        """All rows as one array (N, ...) of the type ``index["dtype"]``."""
        ...

    def close(self) -> None:
        """Lets go of everything temporary; safe to call twice."""
        ...


class MemorySink:
    """For when the disk cannot take the cache."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def write(self, rows: np.ndarray) -> None:
        self._parts.append(rows)

    def finish(self, index: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
        parts, self._parts = self._parts, []
        return np.concatenate(parts) if parts else np.empty(shape, index["dtype"])

    def close(self) -> None:
        self._parts = []


class FileSink:
    """Writes a cache entry at ``folder``. Raises OSError when the disk is full or not writable.

    Plain writes, not writes through a memory map: a full disk is then an error that can be caught, not a killed process.
    """

    def __init__(self, folder: Path, expected_bytes: int) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(folder.parent)
        if shutil.disk_usage(folder.parent).free < expected_bytes + 2**24:
            raise OSError(28, "not enough space for the decoded samples", str(folder.parent))
        self._folder = folder
        self._work = Path(tempfile.mkdtemp(prefix=folder.name + ".", suffix=".tmp", dir=folder.parent))
        self._file = open(self._work / "rows.bin", "wb")  # noqa: SIM115 (closed by finish or close)

    def write(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows).data)

    def finish(self, index: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
        self._file.close()
        rows = self._work / "rows.bin"
        full = {**index, "format": FORMAT, "shape": list(shape), "checksum": _checksum(rows)}
        text = json.dumps(full)
        (self._work / "index.json").write_text(json.dumps({"index": full, "digest": _digest(text)}))
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.replace(self._work, self._folder)
        except OSError:  # another process put the same entry there meanwhile
            if not self._folder.is_dir():
                raise
            self.close()
        found = read(self._folder)
        if found is None:
            raise OSError(5, "the cache entry vanished", str(self._folder))
        return found[0]

    def close(self) -> None:
        self._file.close()
        shutil.rmtree(self._work, ignore_errors=True)


def read(folder: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The entry as (read-only memory-mapped rows, index), None if there is none. Raises `Broken`."""
    if not folder.is_dir():
        return None
    try:
        outer = json.loads((folder / "index.json").read_text())
        index = outer["index"]
        if outer["digest"] != _digest(json.dumps(index)) or index["format"] != FORMAT:
            raise Broken("index")
        shape = tuple(int(side) for side in index["shape"])
        rows, dtype = folder / "rows.bin", index["dtype"]
        if dtype not in _TYPES:
            raise Broken("type")
        expected = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        if rows.stat().st_size != expected or _checksum(rows) != index["checksum"]:
            raise Broken("rows")
        if 0 in shape:
            return np.empty(shape, dtype), index
        return np.asarray(np.memmap(rows, dtype, "r", shape=shape)), index
    except (OSError, ValueError, KeyError, TypeError) as why:
        raise Broken(str(why)) from why


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _checksum(path: Path) -> int:
    """Of the length and up to 256 blocks of 1 MiB spread evenly: all of a usual data set, and still quick on a large one."""
    length = path.stat().st_size
    value = zlib.crc32(str(length).encode())
    count = -(-length // _BLOCK)
    with open(path, "rb") as file:
        for block in range(count) if count <= _BLOCKS else np.linspace(0, count - 1, _BLOCKS).astype(int).tolist():
            file.seek(block * _BLOCK)
            value = zlib.crc32(file.read(_BLOCK), value)
    return value


def _sweep(folder: Path) -> None:
    """Removes what killed processes left behind, once it is a day old."""
    for left in folder.glob("*.tmp"):
        try:
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue
