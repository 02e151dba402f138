"""One cell: poison, inspect, compare with the truth. Only here the truth and a detector's answer meet."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from tocsin.attacks import Attack, NoAttack, Poisoned
from tocsin.auditing import controlled
from tocsin.bench.choices import Cell
from tocsin.bench.provenance import forget_peak, peak_rss_mb, provenance
from tocsin.bench.shared import Planted, Shared
from tocsin.bench.splits import Split, load_split
from tocsin.detectors import Detector, Findings
from tocsin.detectors.reader import VictimReader
from tocsin.report.model import FOUND, NOTHING_FOUND
from tocsin.runtime import Runtime

_TRACE = 6


@dataclass(frozen=True)
class Task:
    """What a worker is given: a cell to run, or the network that a cell needs, trained ahead."""

    cell: Cell
    shared: Path
    """The folder of shared files; every worker must see it."""
    device: str
    command: str
    """What the person typed, for the provenance."""
    ahead: bool = False
    """Only train the cell's victim; no line comes of it."""
    clean: bool = False
    """With ``ahead``: the control, the same network on the clean data."""


def perform(task: Task) -> dict[str, Any] | None:
    """The cell's line; a cell that fails gives a line with its ``error``. None for a task that trains ahead."""
    shared = Shared(task.shared, Runtime(device=task.device, seed=task.cell.seed))
    try:
        if task.ahead:
            _train_ahead(task, shared)
            return None
        content = _run(task.cell, shared)
    except Exception as why:  # what a method raises is a result: it stands in the table, and the other cells go on
        if task.ahead:
            return None  # each cell that needs the network meets the same failure and records it
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(why.__traceback__)]
        content = {"error": {"type": type(why).__name__, "message": str(why), "where": where[-_TRACE:]}}
    return {**task.cell.head(), **content, "provenance": provenance(_device(task), task.command)}


def _device(task: Task) -> str:
    try:
        return str(Runtime(device=task.device).torch_device())
    except ValueError:
        return task.device


def _train_ahead(task: Task, shared: Shared) -> None:
    cell = task.cell
    split = load_split(cell.data, cell.seed, shared.runtime)
    attack: Attack = NoAttack() if task.clean else cell.attack.build()
    shared.trained(shared.poisoned(split, attack, cell.seed), cell.victim, cell.seed)


def _run(cell: Cell, shared: Shared) -> dict[str, Any]:
    split = load_split(cell.data, cell.seed, shared.runtime)
    planted = shared.poisoned(split, attack := cell.attack.build(), cell.seed)
    gate = shared.gate(split, planted, cell.victim, cell.seed)
    truths = {
        "truth.rate": len(planted.poisoned.planted) / len(split.train),
        "truth.count": len(planted.poisoned.planted),
        "truth.target": attack.target,
    }
    findings, cost = _inspected(cell, cell.detector.build(truths), split, planted, shared)
    content = {
        "samples": len(split.train),
        "planted": len(planted.poisoned.planted),
        "covers": len(planted.poisoned.covers),
        "oracle": findings.oracle or bool(cell.detector.told),
        "result": {**compare(findings, planted.poisoned), **cost},
        "gate": gate,
    }
    if cell.retrain:
        content["after"] = shared.retrained(split, planted, cell.victim, cell.seed, findings.flagged)
    return content


def _inspected(cell: Cell, method: Detector, split: Split, planted: Planted, shared: Shared) -> tuple[Findings, dict[str, Any]]:
    """Findings about ``planted`` and what they cost. A passive method's time begins with the shared features at hand,
    unless its settings name a network of its own."""
    train, reserve, runtime = planted.poisoned.dataset, split.reserve, shared.runtime
    if isinstance(method, VictimReader):
        victim = None if method.own_network else shared.read(split, planted, cell.victim, cell.seed)
        forget_peak()
        began = time.perf_counter()
        findings = method.inspect(train, reserve, runtime, victim=victim)
    else:
        forget_peak()
        began = time.perf_counter()
        if cell.detector.canaries and method.takes_canaries:
            findings, _ = controlled(method, train, reserve, runtime)
        else:
            findings = method.inspect(train, reserve, runtime)
    seconds = time.perf_counter() - began
    return findings, {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "timings": dict(findings.timings)}


def compare(findings: Findings, poisoned: Poisoned) -> dict[str, Any]:
    """The findings against the truth. Shares in 0..1, None where they are not defined; covers count as clean, as in the papers."""
    n, flagged, scores = len(poisoned.dataset), findings.flagged, findings.scores
    truth, covers = np.zeros(n, bool), np.zeros(n, bool)
    truth[poisoned.planted], covers[poisoned.covers] = True, True
    caught = int((flagged & truth).sum())
    both = truth.any() and not truth.all()
    return {
        "tpr": _share(flagged, truth),
        "fpr": _share(flagged, ~truth),
        "auc": float(roc_auc_score(truth, scores)) if both and np.isfinite(scores).all() else None,
        "f1": 2 * caught / float(flagged.sum() + truth.sum()) if truth.any() else None,
        "verdict": FOUND if findings.found else NOTHING_FOUND,
        "confidence": findings.confidence,
        "flagged": int(flagged.sum()),
        "covers_flagged": _share(flagged, covers),
        "suspect_classes": [c.index for c in findings.classes if c.suspect],
    }


def _share(flagged: np.ndarray, among: np.ndarray) -> float | None:
    return float(flagged[among].mean()) if among.any() else None
