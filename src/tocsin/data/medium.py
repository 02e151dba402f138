"""What the files of one kind of sample have in common with those of any other: headers, rows of one shape, words for what went wrong."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from tocsin.data.request import Request

MOST_BYTES = 256 * 2**20
"""Of a file."""

H = TypeVar("H")
Row = tuple[np.ndarray | None, tuple[str, ...]]
"""A decoded sample (None: it could not be decoded), and remarks about it: keys of `Medium.words`, or of the medium's own."""


@dataclass(frozen=True)
class Plan:
    """How the files whose headers were read become rows of one array."""

    shape: tuple[int, ...]
    """Of one sample."""
    dtype: str
    decode: Callable[[str], Row]
    """A file's path to its row. Raises nothing: what a hostile file does inside a decoder becomes a remark."""
    heavy: np.ndarray
    """(M,) bool: files of which only one at a time is decoded, to bound memory."""
    notes: tuple[str, ...] = ()
    resized: bool = False
    """Some samples do not have the form they have in their files."""
    rate: int | None = None


class Medium(ABC, Generic[H]):
    """Base of the media: a frozen dataclass whose fields are the person's wishes, so that its repr is part of the cache's key."""

    noun: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]
    magic: ClassVar[tuple[tuple[int, bytes], ...]]
    """Where files of this medium carry which bytes; any one is enough."""
    form: ClassVar[str]
    """What new files are."""
    words: ClassVar[Mapping[str, str]]
    """Problem or remark -> what the note about such files says."""

    @classmethod
    @abstractmethod
    def of(cls, request: Request) -> Medium[H]:
        """With the wishes in ``request``. Raises `InputError` for a wish that belongs to another medium."""

    @classmethod
    def named(cls, name: str) -> bool:
        """Whether the name ends as files of this medium do."""
        return os.path.splitext(name)[1].lower() in cls.suffixes

    @classmethod
    def begins(cls, head: bytes) -> bool:
        """Whether a file's first 16 bytes are those of this medium."""
        return any(head[at : at + len(mark)] == mark for at, mark in cls.magic)

    def ready(self) -> None:
        """Before anything is decoded: loads what that needs. Raises `InputError` where it is not installed."""

    @abstractmethod
    def probe(self, path: str, file_bytes: int) -> H | str:
        """What the header says, or the problem: a key of `words`, or ``other`` for what is no file of this medium."""

    @abstractmethod
    def plan(self, headers: Sequence[H]) -> Plan:
        """From the headers of all usable files, at least one."""

    def view(self, rows: np.ndarray, remarks: frozenset[str]) -> np.ndarray:
        """The data set's inputs, given all rows and what was remarked of any of them."""
        return rows

    @classmethod
    @abstractmethod
    def suffix(cls, old: str) -> str:
        """How a new file ends that takes the place of one called ``old``."""

    @classmethod
    @abstractmethod
    def save(cls, target: Path, sample: np.ndarray, rate: int | None, old: Path | None) -> None:
        """Writes one sample, without loss. ``old``: the file it takes the place of."""


def refuse(wishes: Mapping[str, Any], noun: str) -> None:
    """Raises `InputError` if one of the ``wishes``, which belong to another medium, is not None."""
    from tocsin.errors import InputError

    if given := [name for name, value in wishes.items() if value is not None]:
        raise InputError(f"{', '.join(given)}: given, but the data are {noun}s, for which there is no such option")
