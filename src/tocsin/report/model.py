"""The Report: everything an audit found out, in one immutable value that knows how to save itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Findings
from tocsin.errors import InputError
from tocsin.report import words

if TYPE_CHECKING:
    from tocsin.report.records import ClassShared

FOUND = "found"
NOTHING_FOUND = "nothing found"


@dataclass(frozen=True)
class CanaryResult:
    """One kind of planted positive control and how many of it the detector flagged."""

    trigger: str
    """patch, blend, warp; of speech tone, hiss, colour."""
    planted: int
    found: int
    rate: float
    """Share of the working copy."""
    mean_rank: float = 0.0
    """Mean percentile of its scores among the real samples, 0..1 (1 = above all of them)."""


class Suspect(NamedTuple):
    """One flagged sample."""

    id: str
    score: float
    rank: int
    """1 = the highest score of the whole set."""
    label: str
    """The class it is filed under: for a dirty-label attack, the attacker's target."""
    row: int
    """Its index in ``report.train``."""


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
    panel: tuple[Findings, ...] = ()
    """What further detectors found in the same samples; they have no say in the verdict."""

    @property
    def flagged(self) -> np.ndarray:
        """(N,) bool over ``train``."""
        return self.findings.flagged

    @property
    def kept(self) -> Dataset:
        """The data set to train on."""
        return self.train[~self.flagged]

    @property
    def preset(self) -> str:
        """The preset that ran."""
        return self.findings.preset

    @cached_property
    def order(self) -> np.ndarray:
        """(N,) rows by falling score; ties in the data's order, scores that are not numbers last."""
        return np.argsort(-np.nan_to_num(self.findings.scores.astype(np.float64), nan=-np.inf), kind="stable")

    @cached_property
    def ranks(self) -> np.ndarray:
        """(N,) int64: 1 for the highest score."""
        ranks = np.empty(len(self.order), np.int64)
        ranks[self.order] = np.arange(1, len(self.order) + 1)
        return ranks

    @cached_property
    def suspects(self) -> tuple[Suspect, ...]:
        """The flagged samples by falling score."""
        from tocsin.report.tables import shortest

        rows = self.order[self.flagged[self.order]]
        columns = (self.train.ids[rows], shortest(self.findings.scores[rows]), self.ranks[rows], self.train.labels[rows], rows)
        names = self.train.classes
        return tuple(Suspect(i, s, r, names[k], row) for i, s, r, k, row in zip(*(c.tolist() for c in columns), strict=True))

    @cached_property
    def shared(self) -> tuple[ClassShared, ...]:
        """Of a table: which columns and values the suspects of each class share against the rest of it."""
        from tocsin.report.records import of_report

        return of_report(self)

    @property
    def verdict(self) -> str:
        """``found`` or ``nothing found``."""
        return FOUND if self.findings.found else NOTHING_FOUND

    @property
    def sentence(self) -> str:
        """The verdict in one plain sentence; for "nothing found" with what the canaries say about the audit's power."""
        return words.sentence(self)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do next, one sentence each."""
        return words.advice(self)

    def save(self, folder: str | Path) -> Path:
        """Write ``index.html``, ``findings.csv``, ``findings.json`` and ``kept.csv`` into ``folder``; the path of the page.

        The files of an earlier report are replaced, each in one step; nothing else in the folder is touched.
        Raises `InputError` where ``folder`` is a file, `AuditIncomplete` where the disk refuses.
        """
        # here, not above: these import this module
        from tocsin.report.files import write_text
        from tocsin.report.page import render
        from tocsin.report.tables import findings_csv, findings_json, kept_csv

        folder = Path(folder)
        if os.path.exists(folder) and not os.path.isdir(folder):  # unlike Path's, these never raise
            raise InputError(f"out: {folder} is a file; a folder for the report was expected")
        # The tables first: they matter most, should the disk fill up.
        write_text(folder / "findings.json", findings_json(self))
        write_text(folder / "findings.csv", findings_csv(self))
        write_text(folder / "kept.csv", kept_csv(self))
        write_text(folder / "index.html", render(self, folder))
        return folder / "index.html"
