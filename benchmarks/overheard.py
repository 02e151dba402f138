"""Detectors that ask others, with an ear on what each member says: for scripts that report members beside the joint verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from tocsin.detectors.base import Findings
from tocsin.detectors.combined import Combined

C = TypeVar("C", bound=Combined)
HEARD: list[Findings] = []
"""What each member of the last audit found."""


def overheard(method: type[C]) -> type[C]:
    """``method``, leaving its members' findings in `HEARD`."""

    class Overheard(method):  # type: ignore[valid-type,misc]
        def merged(self, found: Sequence[Findings], *data: Any, **more: Any) -> Findings:
            HEARD[:] = found
            return super().merged(found, *data, **more)  # type: ignore[no-any-return]

    return Overheard
