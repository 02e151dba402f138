"""The media that are read from files, by the name of their kind, and which of them a set of files is. To add one: a line in `MEDIA`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tocsin.data.images import Pictures
from tocsin.data.listing import Entry
from tocsin.data.medium import Medium
from tocsin.data.request import Request
from tocsin.data.sounds import Clips

MEDIA: Mapping[str, type[Medium[Any]]] = {"image": Pictures, "speech": Clips}
AUTO = "auto"
"""The kind that is recognised by content."""
_LOOKED_AT = 512
"""Files whose first bytes decide, at most."""
_HEAD = 16


def kind_of_files(files: Sequence[Entry], wanted: str = AUTO) -> str:
    """``wanted``, or the kind that most of the files have: by their first bytes, else by their names. Of a tie, the first in `MEDIA`."""
    if wanted != AUTO:
        return wanted
    rows = np.unique(np.linspace(0, max(len(files) - 1, 0), _LOOKED_AT).astype(np.int64))
    votes = Counter(_kind_of_file(files[row]) for row in rows.tolist()) if len(files) else Counter[str]()
    return max(MEDIA, key=lambda kind: votes[kind])


def medium_of(files: Sequence[Entry], request: Request) -> Medium[Any]:
    """The medium to read ``files`` with, which knows the person's wishes."""
    return MEDIA[kind_of_files(files, request.kind)].of(request)


def is_sample_name(name: str) -> bool:
    """Whether a file of this name would be read under some kind."""
    return any(medium.named(name) for medium in MEDIA.values())


def _kind_of_file(file: Entry) -> str:
    try:
        with open(file.path, "rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        head = b""
    by_content = (kind for kind, medium in MEDIA.items() if medium.begins(head))
    by_name = (kind for kind, medium in MEDIA.items() if medium.named(file.id))
    return next(by_content, None) or next(by_name, "")
