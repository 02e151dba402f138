"""File and class names: how they are shown, compared with a root, and kept as ids. Names are never trusted."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

LONGEST = 512
"""Characters of an id. ids are a fixed-width numpy string array, so one absurd path would cost every other row its length."""

_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def shown(name: str, limit: int = 80) -> str:
    """A name as a sentence may hold it: no control characters (they would steer a terminal), not too long."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def listed(names: Iterable[object], first: int = 5) -> str:
    """``a, b, c and 7 more``."""
    every = [shown(str(name)) for name in names]
    rest = f" and {len(every) - first:,} more" if len(every) > first else ""
    return ", ".join(every[:first]) + rest


def counted(number: int, noun: str) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def id_of(relative: str) -> str:
    """The id of a file from its path relative to the root: posix, valid Unicode (odd bytes become ``\\xNN``)."""
    if os.sep != "/":
        relative = relative.replace(os.sep, "/")
    if relative.isascii():
        return relative
    return relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def file_of(root: Path, name: str) -> Path:
    """The file (or folder) below ``root`` that has this id: `id_of` turned round."""
    plain = root / name
    if "\\x" not in name or plain.exists():
        return plain
    raw = _ESCAPED_BYTE.sub(lambda m: chr(0xDC00 + int(m[1], 16)), name)
    return root / raw if (root / raw).exists() else plain


def inside(real: str, root: str) -> bool:
    """Whether the resolved path ``real`` lies in the resolved folder ``root``."""
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


def contained(relative: str) -> str | None:
    """The normalised form of a relative path, or None if it is absolute, empty or climbs out."""
    if not relative or "\0" in relative or posixpath.isabs(relative) or re.match(r"[A-Za-z]:[\\/]", relative):
        return None
    normal = posixpath.normpath(relative)
    return None if normal == "." or normal == ".." or normal.startswith("../") else normal


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names sorted: by value if all are plain whole numbers (2 before 10), else by text."""
    unique: Sequence[str] = list(set(names))
    if all(is_number(name) for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def is_number(name: str) -> bool:
    """A plain whole number of sane length, such as ``7``, ``-1`` or ``00012``."""
    return re.fullmatch(r"-?[0-9]{1,18}", name) is not None
