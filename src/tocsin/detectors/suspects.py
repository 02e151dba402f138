"""What the looks at the pictures of a named class share: what they see, and whether its flagged samples are labelled wrongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.detectors.workbench import Bench
from tocsin.runtime import Runtime

WRONG = 0.25
"""Samples are taken to be labelled wrongly where at most this share of them fit their label better than its median sample. Of clean
ones half do; poison of which a tenth does, as of Dynamic, may have two clean ones among five when it reaches this."""


@dataclass(frozen=True)
class Suspects:
    """The samples of one audit: n inspected, then the reserve. Networks read pixels; labels say who is of a class."""

    bench: Bench
    fit: np.ndarray
    """(n + m,) how well labels fit (`misfits.fit_of_labels`)."""
    groups: np.ndarray
    """(n,) numbers, equal for near duplicates."""
    ignore: np.ndarray
    """(n,) bool: rows that stay as they are and teach or shape nothing."""
    runtime: Runtime

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.bench.labels.cpu().numpy())

    def right(self, k: int, flagged: np.ndarray) -> np.ndarray:
        """(n,) bool: samples whose label fits them better than it fits the median unflagged sample of class ``k``."""
        n = len(flagged)
        fit, rest = self.fit[:n], (self.labels[:n] == k) & ~flagged & ~self.ignore
        return np.asarray(fit > (np.median(fit[rest]) if rest.any() else -np.inf))

    def wrongly_labelled(self, k: int, flagged: np.ndarray) -> bool:
        """Whether the labels of the ``flagged`` (n,) samples of class ``k``, of which there are some, are wrong."""
        mine = flagged & (self.labels[: len(flagged)] == k) & ~self.ignore
        return bool(self.right(k, flagged)[mine].mean() <= WRONG)
