"""How a command ends: the exit codes, and the one sentence that goes with each way of failing."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import NamedTuple

from tocsin.errors import AuditIncomplete, InputError

NOTHING_FOUND = 0
SUSPECTS_FOUND = 1
BAD_INPUT = 2
NOT_FINISHED = 3
INTERRUPTED = 128 + 2
PIPE_CLOSED = 128 + 13
"""As the shell reports a program ended by SIGINT or SIGPIPE."""

EXIT_CODES = """**Exit codes**: 0 nothing found (or: done), 1 suspects found, 2 usage or input error, 3 could not finish,
130 stopped by Ctrl-C."""


class Outcome(NamedTuple):
    """What a failed command says on stderr, and its exit code."""

    code: int
    sentence: str


_FULL = {errno.ENOSPC, errno.EDQUOT}
# numpy and torch report a full disk without an errno
_FULL_WORDS = re.compile(r"\d+ requested and \d+ written|failed writing file|No space left", re.IGNORECASE)
_MEMORY_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|Unable to allocate", re.IGNORECASE)
_PERSONS_PATH = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)

_NO_MEMORY = Outcome(
    NOT_FINISHED,
    "out of memory before the work was done; close other programs, give smaller pictures (--size), or use a machine with more memory",
)


def explain(why: BaseException) -> Outcome:
    """The exit code and the sentence for an exception that ended a command."""
    if isinstance(why, InputError):
        return Outcome(BAD_INPUT, str(why))
    if isinstance(why, AuditIncomplete):
        return Outcome(NOT_FINISHED, str(why))
    if isinstance(why, KeyboardInterrupt):
        return Outcome(INTERRUPTED, "stopped; finished rounds of an audit and cells of a bench are kept, and the same command resumes it")
    if isinstance(why, MemoryError) or (isinstance(why, RuntimeError) and _MEMORY_WORDS.search(str(why))):
        return _NO_MEMORY
    if isinstance(why, OSError | RuntimeError) and (getattr(why, "errno", None) in _FULL or _FULL_WORDS.search(str(why))):
        where = f" while writing {why.filename}" if isinstance(why, OSError) and why.filename else ""
        return Outcome(NOT_FINISHED, f"the disk is full{where}; make room and give the same command again: it resumes")
    if isinstance(why, _PERSONS_PATH) and why.filename:
        return Outcome(BAD_INPUT, f"{why.filename}: {(why.strerror or 'cannot be used').lower()}")
    if isinstance(why, OSError):
        return Outcome(NOT_FINISHED, f"the system refused a read or write: {why}")
    return Outcome(NOT_FINISHED, f"{type(why).__name__}: {why}\nthis is a bug in tocsin; run with --traceback and report what it prints")


def refuse_inside(out: Path, data: Path, option: str = "--out") -> None:
    """Raises `InputError` where ``out`` lies in the folder ``data``: it would be read as samples the next time."""
    place, folder = out.resolve(), data.resolve()
    if folder.is_dir() and (place == folder or folder in place.parents):
        raise InputError(f"{option}: {out} lies inside the data folder {data}, which is never written to; give a folder outside it")
