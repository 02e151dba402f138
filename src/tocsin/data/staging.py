"""How a copy is put on disk: beside its place, whole, and nothing over what is there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tocsin.data.names import inside, shown
from tocsin.errors import AuditIncomplete, InputError

POISON_MANIFEST = "tocsin-poison.json"

Extra = Mapping[str, str | Mapping[str, np.ndarray]]
"""File name -> what lies beside a copy: text, or named arrays for an ``.npz``."""
MakesExtra = Callable[[Sequence[str], str], Extra]
"""From the rows' new ids and the manifest's name to what lies beside the copy."""


def manifest_name(file: str) -> str:
    """What the manifest of a copy in one file is called."""
    return f"{Path(file).stem}.poison.json"


def write_extra(folder: Path, extra: Extra) -> None:
    for name, content in extra.items():
        if isinstance(content, str):
            (folder / name).write_text(content, encoding="utf-8")
        else:
            np.savez(folder / name, **content)  # type: ignore[arg-type]


def write_single(
    rows: int, destination: Path, usual: str, source: Path | None, save: Callable[[Path], None], extra: MakesExtra | None
) -> Path:
    """A copy in one file. ``destination``: a name that ends as ``usual`` does, or a folder for a file called ``usual``.

    ``save`` writes the file; ``extra`` makes what lies beside it from the new ids, which are row numbers.
    """
    single = destination.suffix.lower() == Path(usual).suffix.lower()
    name = destination.name if single else usual
    beside = manifest_name(name)
    folder = destination.parent if single else destination
    if single:
        for taken in (destination, folder / beside, (folder / beside).with_suffix(".npz")):
            if os.path.lexists(taken):
                raise InputError(f"destination: {shown(str(taken))} exists; nothing is ever overwritten, give a new name")
    with staged(destination, source, into_parent=single) as work:
        save(work / name)
        if extra is not None:
            write_extra(work, extra([str(row) for row in range(rows)], beside))
    return folder / name


@contextmanager
def staged(destination: Path, source: Path | None, into_parent: bool = False) -> Iterator[Path]:
    """A temporary folder beside the destination that takes its place (or whose files move beside it) once all is written."""
    if not into_parent and os.path.lexists(destination) and not (destination.is_dir() and not any(destination.iterdir())):
        raise InputError(f"destination: {shown(str(destination))} exists and is not an empty folder; nothing is ever overwritten")
    real = os.path.realpath(destination)
    if source is not None and inside(real, os.path.realpath(source)):
        raise InputError(f"destination: {shown(str(destination))} lies in the source {shown(str(source))}, which is never changed")
    work = destination.parent / f".{secrets.token_hex(6)}.tocsin"
    try:
        work.mkdir(parents=True)
        yield work
        if into_parent:
            for file in sorted(work.iterdir(), key=lambda file: file.name == destination.name):  # the data last: what is there is complete
                os.rename(file, destination.parent / file.name)
        else:
            if destination.is_dir():
                destination.rmdir()
            os.rename(work, destination)
    except OSError as why:
        raise AuditIncomplete(
            f"the copy could not be written to {shown(str(destination))}: {why.strerror or why}; nothing of it was kept"
        ) from why
    finally:
        shutil.rmtree(work, ignore_errors=True)
