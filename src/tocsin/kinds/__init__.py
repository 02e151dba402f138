"""What a sample is: raw array -> tensor on the device, augmentation, one file a kind. To add one: its file and a line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds.base import Kind
from tocsin.kinds.image import ImageKind
from tocsin.kinds.speech import SpeechKind
from tocsin.kinds.table import TableKind

KINDS: Mapping[str, Callable[..., Kind]] = {"image": ImageKind.of, "speech": SpeechKind.of, "table": TableKind.of}
"""Name -> (data set, whether a mirrored sample keeps its meaning) -> the kind with that data set's statistics."""

__all__ = ["KINDS", "ImageKind", "Kind", "SpeechKind", "TableKind", "kind_of"]


def kind_of(dataset: Dataset, *, flip: bool = False) -> Kind:
    """The kind of ``dataset`` with its statistics. Raises `InputError` for a kind that nothing here knows."""
    if dataset.kind not in KINDS:
        raise InputError(f"kind: {dataset.kind!r} is not known, allowed: {', '.join(KINDS)}")
    return KINDS[dataset.kind](dataset, flip=flip)
