"""The demo: data of one kind, poisoned and once not, audited, and trained before and after. To add a kind: a line in `SHOWS`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.attacks.base import Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

Sets = tuple[Dataset, Dataset, Dataset]


@dataclass(frozen=True)
class Show:
    """What the demo shows of one kind of data."""

    what: str
    """The data, in plain words."""
    sets: Callable[[Runtime], Sets]
    """Training set, reserve and test set, from the runtime's seed."""
    attacks: tuple[tuple[str, dict[str, Any]], ...]
    """Attack and settings of each of the demo's data sets."""
    training: Mapping[str, Any]
    """How the victims are trained (`FitSettings`)."""
    detectors: str = "ct"
    """What audits: the first decides."""


def _digits(runtime: Runtime) -> Sets:
    from tocsin.data.builtin import digits

    return digits(runtime.seed)


def _words(runtime: Runtime) -> Sets:
    from tocsin.data.spoken import words

    return words(runtime.seed, runtime)


def _tumours(runtime: Runtime) -> Sets:
    from tocsin.data.builtin import tumours

    return tumours(runtime.seed)


SHOWS: Mapping[str, Show] = {
    "image": Show(
        "real handwritten digits",
        _digits,
        (("badnet", {"rate": 0.01, "target": 0}), ("blend", {"rate": 0.02, "target": 0}), ("none", {})),
        {"epochs": 3},
    ),
    "speech": Show(
        "synthetic speech: ten command words said by espeak-ng, no person's voice",
        _words,
        (("spectrogram-patch", {"rate": 0.05, "target": 0}), ("none", {})),
        {"epochs": 10, "batch": 64},
        "audible",
    ),
    "table": Show(
        "real measurements of breast tumours, 30 columns",
        _tumours,
        (("feature-patch", {"rate": 0.1, "target": 1}), ("none", {})),
        {"epochs": 40, "lr": 3e-3, "batch": 64, "optimizer": "adamw"},
        "tabular",
    ),
}
"""Kind of data -> what is shown of it."""


@dataclass(frozen=True)
class Row:
    """One line of the demo's table. Shares are in 0..1."""

    attack: str
    planted: int
    flagged: int
    verdict: str
    asr_before: float | None
    """Attack success rate of a network trained on all samples; None where nothing was planted."""
    tpr: float | None
    """Share of the planted samples that were flagged."""
    fpr: float
    """Share of the others that were flagged."""
    asr_after: float | None
    """The same network trained on what was kept."""
    acc_before: float
    acc_after: float
    audit_seconds: float
    report: str


def show_of(kind: str) -> Show:
    """What is shown of a kind of data. Raises `InputError` for a kind that the demo does not have."""
    if kind not in SHOWS:
        raise InputError(f"kind: got {kind!r}, allowed: {', '.join(SHOWS)}")
    return SHOWS[kind]


def run(out: Path, runtime: Runtime, kind: str = "image") -> Iterator[Row]:
    """Build, audit and train each data set in turn; a row as soon as it is known.

    Reports go to ``out``/attack, the rows to ``out``/demo.json. Nothing is tuned on any seed: what the audit gives is shown.
    """
    from tocsin.poisoning import build, poison

    began = time.monotonic()
    show = show_of(kind)
    train, reserve, test = show.sets(runtime)
    rows: list[Row] = []
    for name, settings in show.attacks:
        poisoned = poison(train, build(name, **settings), runtime.seed, runtime)
        rows.append(_row(name, poisoned, (reserve, test), show, out, runtime))
        yield rows[-1]
    seconds = round(time.monotonic() - began, 1)
    document = {
        "kind": kind, "data": show.what, "detectors": show.detectors, "seed": runtime.seed, "seconds": seconds,
        "rows": [asdict(r) for r in rows],
    }  # fmt: skip
    (out / "demo.json").write_text(json.dumps(document, indent=2) + "\n")


def _row(name: str, poisoned: Poisoned, others: tuple[Dataset, Dataset], show: Show, out: Path, runtime: Runtime) -> Row:
    from tocsin.auditing import audit
    from tocsin.learning import FitSettings
    from tocsin.victim import train_victim

    reserve, test = others
    report = audit(poisoned.dataset, reserve, preset="fast", detector=show.detectors, runtime=runtime)
    page = report.save(out / name)
    settings, measured = FitSettings(**show.training), poisoned.attack if len(poisoned.planted) else None
    before = train_victim(poisoned.dataset, test, measured, settings=settings, runtime=runtime)
    # The same rows give the same network: there is nothing to train again where nothing was flagged.
    after = train_victim(report.kept, test, measured, settings=settings, runtime=runtime) if report.flagged.any() else before
    truth = np.zeros(len(poisoned.dataset), bool)
    truth[poisoned.planted] = True
    return Row(
        attack=name,
        planted=len(poisoned.planted),
        flagged=int(report.flagged.sum()),
        verdict=report.verdict,
        asr_before=before.asr,
        tpr=float(report.flagged[truth].mean()) if truth.any() else None,
        fpr=float(report.flagged[~truth].mean()),
        asr_after=after.asr,
        acc_before=before.acc,
        acc_after=after.acc,
        audit_seconds=report.seconds,
        report=str(page),
    )
