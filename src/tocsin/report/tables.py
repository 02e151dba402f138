"""The report as tables for programs and spreadsheets: findings.csv, findings.json, kept.csv (docs/report.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.data.writing import table_of
from tocsin.report import records
from tocsin.report.cells import to_csv
from tocsin.stats.calibration import conformal

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.base import Findings
    from tocsin.report.model import Report

SCHEMA = "tocsin.findings/1"


def findings_csv(report: Report) -> str:
    """Every sample, most suspicious first: rank, id, label, score, flagged; with a panel also each detector's p-value and flag."""
    rows, train = report.order, report.train
    columns = (report.ranks[rows], train.ids[rows], train.labels[rows], shortest(report.findings.scores[rows]), report.flagged[rows])
    ranks, ids, labels, scores, flagged = (column.tolist() for column in columns)
    header = ["rank", "id", "label", "score", "flagged"]
    table = [ranks, ids, [train.classes[k] for k in labels], scores, flagged]
    if report.panel:
        for found in (report.findings, *report.panel):
            header += [f"p_{found.detector}", f"flagged_{found.detector}"]
            table += [shortest(conformal(found.scores, found.control)[rows]).tolist(), found.flagged[rows].tolist()]
        header.append("votes")
        table.append(np.sum([found.flagged[rows] for found in (report.findings, *report.panel)], axis=0).tolist())
    return to_csv(tuple(header), zip(*table, strict=True))


def shortest(scores: np.ndarray) -> np.ndarray:
    """float32 scores as the float64 with the fewest digits that stand for them: 2.906678, not 2.9066779613494873."""
    return scores.astype(np.float32).astype("U32").astype(np.float64)


def kept_csv(report: Report) -> str:
    """The samples to train on, in the data's order."""
    return manifest(report.train, ~report.flagged)


def manifest(train: Dataset, keep: np.ndarray) -> str:
    """Of the samples in ``keep`` (N,) bool: ``path,label`` (paths below the data's root), ``row,label`` for data without files, and
    ``speaker`` where it is known."""
    column = "row" if train.root is None else "path"
    columns = table_of(train, column)
    return to_csv(tuple(columns), compress(zip(*columns.values(), strict=True), keep.tolist()))


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
