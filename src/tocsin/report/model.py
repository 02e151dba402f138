"""The Report: everything an audit found out, in one immutable value that knows how to save itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Findings


@dataclass(frozen=True)
class CanaryResult:
    """One kind of planted positive control and how many of it the detector flagged."""

    trigger: str
    """patch, blend, warp."""
    planted: int
    found: int
    rate: float
    """Share of the working copy."""
    mean_rank: float = 0.0
    """Mean percentile of its scores among the real samples, 0..1 (1 = above all of them)."""


@dataclass(frozen=True)
class Report:
    """The answer of `tocsin.audit`."""

    train: Dataset
    reserve: Dataset
    findings: Findings
    canaries: tuple[CanaryResult, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: preset, seed, device, versions, sources, the command where there was one."""
    notes: tuple[str, ...] = ()
    """Warnings, one sentence each, the data sets' own included."""
    seconds: float = 0.0

    @property
    def flagged(self) -> np.ndarray:
        """(N,) bool over ``train``."""
        return self.findings.flagged

    @property
    def kept(self) -> Dataset:
        """The data set to train on."""
        return self.train[~self.flagged]
