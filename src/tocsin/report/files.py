"""Writing a report's files: each appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tocsin.errors import AuditIncomplete


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write ``text``, whole or in parts, to ``path`` by way of a temporary neighbour and a rename. Raises `AuditIncomplete` when the disk
    refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                for part in [text] if isinstance(text, str) else text:
                    out.write(_bytes(part))
                out.flush()
                os.fsync(out.fileno())
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files only their owner can read
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as why:
        raise AuditIncomplete(
            f"the file {path} could not be written ({why.strerror or why}); is the disk full or the folder protected?"
        ) from why


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", errors="surrogateescape")  # file names that are not UTF-8 keep their bytes
    except UnicodeEncodeError:
        return text.encode("utf-8", errors="replace")


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
