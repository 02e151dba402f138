"""The demo's bookkeeping, with a stand-in for the audit and small data. The real demo is `make demo`, which CI runs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tocsin import demo
from tocsin.attacks import stamps
from tocsin.cli import main
from tocsin.data import builtin
from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Findings
from tocsin.report.model import Report
from tocsin.runtime import Runtime


def sees_patches(train: Dataset, reserve: Dataset, *, runtime: Runtime, **options: Any) -> Report:
    """Flags what shows BadNet's patch: enough of a detector for one of the two attacks."""
    flagged = (train.inputs[:, -3:, -3:, 0] == stamps.checker(3)).all(axis=(1, 2))
    scores = flagged.astype(np.float32)
    return Report(train, reserve, Findings("ct", "fast", scores, flagged, (), 0.5), seconds=1.0)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = builtin.digits
    monkeypatch.setattr(builtin, "digits", lambda seed: digits(seed, train=1000, reserve=300, test=200))
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(importlib.import_module("tocsin.auditing"), "audit", sees_patches)


@pytest.mark.usefixtures("_small")
def test_rows_are_what_the_audit_and_the_victims_gave(tmp_path: Path) -> None:
    rows = {row.attack: row for row in demo.run(tmp_path, Runtime(seed=3, device="cpu"))}
    assert list(rows) == ["badnet", "blend", "none"]
    badnet, blend, none = rows.values()
    assert (badnet.planted, badnet.tpr, badnet.fpr, badnet.verdict) == (10, 1.0, 0.0, "found")
    assert (blend.planted, blend.tpr, blend.flagged, blend.verdict) == (20, 0.0, 0, "nothing found")
    assert (none.planted, none.tpr, none.asr_before, none.asr_after) == (0, None, None, None)
    assert blend.asr_after == blend.asr_before
    assert all((tmp_path / name / "index.html").is_file() for name in rows)
    document = json.loads((tmp_path / "demo.json").read_text())
    assert document["seed"] == 3
    assert [row["attack"] for row in document["rows"]] == list(rows)


@pytest.mark.usefixtures("_small")
def test_the_command_prints_the_table_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu"])
    assert not ended.value.code
    out = capsys.readouterr().out
    assert [word for word in ("ASR before", "TPR", "FPR", "ASR after", "100.0 %", "nothing found") if word not in out] == []
    assert str(tmp_path / "demo" / "blend" / "index.html") in out
