"""The demo's bookkeeping, with a stand-in for the audit and small data. The real demo is `make demo`, which CI runs."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kinds.test_speech import clips
from tocsin import demo
from tocsin.attacks import stamps
from tocsin.cli import main
from tocsin.data import builtin, spoken
from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Findings
from tocsin.errors import InputError
from tocsin.report.model import Report
from tocsin.runtime import Runtime


def sees_patches(train: Dataset, reserve: Dataset, *, runtime: Runtime, **options: Any) -> Report:
    """Flags what shows BadNet's patch: enough of a detector for one of the two attacks on pictures. Hears nothing."""
    pictures = train.kind == "image"
    flagged = (train.inputs[:, -3:, -3:, 0] == stamps.checker(3)).all(axis=(1, 2)) if pictures else np.zeros(len(train), bool)
    scores = flagged.astype(np.float32)
    return Report(train, reserve, Findings("ct", "fast", scores, flagged, (), 0.5), seconds=1.0)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = builtin.digits
    monkeypatch.setattr(builtin, "digits", lambda seed: digits(seed, train=1000, reserve=300, test=200))
    quick = {kind: replace(show, training={"epochs": 1}) for kind, show in demo.SHOWS.items()}
    monkeypatch.setattr(demo, "SHOWS", quick)
    monkeypatch.setattr(spoken, "words", lambda seed, runtime: tuple(clips(n, seed=n, classes=10) for n in (300, 120, 60)))
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


@pytest.mark.usefixtures("_small")
def test_speech_is_shown_with_spectrograms_players_and_its_nature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--kind", "speech", "--out", str(tmp_path / "demo"), "--device", "cpu"])
    assert not ended.value.code
    assert "synthetic speech" in capsys.readouterr().out
    document = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert "no person's voice" in document["data"]
    rows = document["rows"]
    assert [row["planted"] for row in rows][-1] == 0
    assert rows[0]["planted"] > 0
    assert rows[0]["asr_after"] == rows[0]["asr_before"]  # nothing was flagged, so the same network
    page = (tmp_path / "demo" / rows[0]["attack"] / "index.html").read_text()
    assert "--normalise clip" in page


@pytest.mark.usefixtures("_small")
def test_a_table_is_shown_by_its_rows(tmp_path: Path) -> None:
    rows = {row.attack: row for row in demo.run(tmp_path, Runtime(seed=3, device="cpu"), "table")}
    assert {name: row.planted for name, row in rows.items()} == {"feature-patch": 26, "none": 0}
    assert '<th scope="col">mean radius</th>' in (tmp_path / "feature-patch" / "index.html").read_text()


def test_the_tumours_are_divided_and_no_row_is_twice() -> None:
    parts = builtin.tumours(5)
    assert [len(part) for part in parts] == [269, 200, 100]
    assert len(np.unique(np.concatenate([part.ids for part in parts]))) == 569
    assert all((part.class_counts > 10).all() for part in parts)


def test_a_kind_that_the_demo_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind: got 'smell', allowed: image, speech"):
        list(demo.run(tmp_path, Runtime(device="cpu"), "smell"))
