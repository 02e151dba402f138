"""The report as tables for programs and spreadsheets: findings.csv, findings.json, kept.csv (docs/report.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.data.writing import table_of
from tocsin.report import records, words
from tocsin.report.cells import csv_parts
from tocsin.stats.calibration import conformal

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.base import Findings
    from tocsin.report.model import Report

SCHEMA = "tocsin.findings/1"
_PART = 50_000
"""Rows of a CSV file that are put into words at a time."""


def findings_csv(report: Report) -> Iterator[str]:
    """Every sample, most suspicious first, in parts: rank, id, label, score, flagged; with a panel each detector's p-value and flag."""
    train, heard = report.train, (report.findings, *report.panel) if report.panel else ()
    p_values = [conformal(found.scores, found.control) for found in heard]
    header = ["rank", "id", "label", "score", "flagged"]
    header += [f"{what}_{found.detector}" for found in heard for what in ("p", "flagged")]

    def part(rows: np.ndarray) -> Iterator[tuple[Any, ...]]:
        columns = [report.ranks[rows], train.ids[rows], train.labels[rows], shortest(report.findings.scores[rows]), report.flagged[rows]]
        for found, p in zip(heard, p_values, strict=True):
            columns += [shortest(p[rows]), found.flagged[rows]]
        if heard:
            columns.append(np.sum([found.flagged[rows] for found in heard], axis=0))
        table = [column.tolist() for column in columns]
        table[2] = [train.classes[k] for k in table[2]]
        return zip(*table, strict=True)

    return csv_parts([*header, "votes"] if heard else header, (part(rows) for rows in _in_parts(report.order)))


def _in_parts(rows: np.ndarray) -> list[np.ndarray]:
    """``rows`` (n,), `_PART` of them at a time; one empty part where there are none."""
    return [rows[start : start + _PART] for start in range(0, max(1, len(rows)), _PART)]


def shortest(scores: np.ndarray) -> np.ndarray:
    """float32 scores as the float64 with the fewest digits that stand for them: 2.906678, not 2.9066779613494873."""
    return scores.astype(np.float32).astype("U32").astype(np.float64)


def kept_csv(report: Report) -> Iterator[str]:
    """The samples to train on, in the data's order. In parts."""
    return manifest(report.train, ~report.flagged)


def manifest(train: Dataset, keep: np.ndarray) -> Iterator[str]:
    """Of the samples in ``keep`` (N,) bool: ``path,label`` (paths below the data's root), ``row,label`` for data without files, and
    ``speaker`` where it is known. In parts."""
    column = "row" if train.root is None else "path"
    tables = (table_of(train, column, rows=rows) for rows in _in_parts(np.flatnonzero(keep)))
    header = tuple(table_of(train, column, rows=np.empty(0, np.int64)))
    return csv_parts(header, (zip(*table.values(), strict=True) for table in tables))


def findings_json(report: Report) -> str:
    """The findings as JSON text, schema `SCHEMA`."""
    return json.dumps(findings_dict(report), indent=1, allow_nan=False) + "\n"


def findings_dict(report: Report) -> dict[str, Any]:
    """What findings.json holds: plain JSON types only, NaN and infinities as null."""
    from tocsin import __version__

    found = report.findings
    content = {
        "schema": SCHEMA,
        "tocsin": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "verdict": report.verdict,
        "sentence": report.sentence,
        "reasons": words.reasons(report),
        "confidence": found.confidence,
        "detector": found.detector,
        "preset": found.preset,
        "seconds": report.seconds,
        "data": {**describe(report.train), "shape": report.train.inputs.shape[1:], "fingerprint": report.train.fingerprint},
        "reserve": describe(report.reserve),
        "settings": report.settings,
        "classes": [asdict(c) for c in found.classes],
        "canaries": [asdict(c) for c in report.canaries],
        "panel": [panellist(report, other) for other in report.panel],
        "suspects": [{"id": s.id, "label": s.label, "score": s.score, "rank": s.rank} for s in report.suspects],
        **({} if report.train.columns is None else {"shared_values": records.as_json(report)}),
        "threshold": found.threshold,
        "evidence": found.evidence,
        "timings": found.timings,
        "notes": report.notes,
        "advice": report.advice,
    }
    plain: dict[str, Any] = jsonable(content)
    return plain


def panellist(report: Report, found: Findings) -> dict[str, Any]:
    """What one further detector found, beside the leading one."""
    return {
        "detector": found.detector,
        "preset": found.preset,
        "oracle": found.oracle,
        "verdict": "found" if found.found else "nothing found",
        "confidence": found.confidence,
        "flagged": int(found.flagged.sum()),
        "flagged_by_both": int((found.flagged & report.flagged).sum()),
        "classes": [asdict(c) for c in found.classes if c.suspect],
        "evidence": found.evidence,
        "timings": found.timings,
    }


def describe(data: Dataset) -> dict[str, Any]:
    """Where a data set came from and how large it is."""
    return {
        "source": None if data.source is None else str(data.source),
        "layout": data.layout,
        "kind": data.kind,
        "samples": len(data),
        "classes": list(data.classes),
    }


def jsonable(value: Any) -> Any:
    """``value`` in plain JSON types: numpy scalars and arrays converted, NaN and infinities null, the unknown as text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(entry) for entry in value]
    return str(value) if isinstance(value, Path) else repr(value)
