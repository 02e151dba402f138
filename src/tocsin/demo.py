"""The demo: real handwritten digits, poisoned by two attacks and once not at all, audited, and trained before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.attacks.base import Poisoned
from tocsin.runtime import Runtime

ATTACKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("badnet", {"rate": 0.01, "target": 0}),
    ("blend", {"rate": 0.02, "target": 0}),
    ("none", {}),
)
"""Attack and settings of each of the demo's data sets."""
EPOCHS = 3
"""Of the victims."""


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


def run(out: Path, runtime: Runtime) -> Iterator[Row]:
    """Build, audit and train each data set in turn; a row as soon as it is known.

    Reports go to ``out``/attack, the rows to ``out``/demo.json. Nothing is tuned on any seed: what the audit gives is shown.
    """
    from tocsin.data.builtin import digits
    from tocsin.poisoning import build, poison

    began = time.monotonic()
    train, reserve, test = digits(runtime.seed)
    rows: list[Row] = []
    for name, settings in ATTACKS:
        attack = build(name, **settings)
        rows.append(_row(name, poison(train, attack, runtime.seed), (reserve, test), attack, out, runtime))
        yield rows[-1]
    document = {"seed": runtime.seed, "seconds": round(time.monotonic() - began, 1), "rows": [asdict(r) for r in rows]}
    (out / "demo.json").write_text(json.dumps(document, indent=2) + "\n")


def _row(name: str, poisoned: Poisoned, others: tuple[Any, Any], attack: Any, out: Path, runtime: Runtime) -> Row:
    from tocsin.auditing import audit
    from tocsin.learning import FitSettings
    from tocsin.victim import train_victim

    reserve, test = others
    report = audit(poisoned.dataset, reserve, preset="fast", runtime=runtime)
    page = report.save(out / name)
    settings, measured = FitSettings(epochs=EPOCHS), attack if len(poisoned.planted) else None
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
