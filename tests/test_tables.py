"""The commands on tables: a reserve is drawn and vetted, a copy cleaned, a victim trained."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run
from tests.report.build import report
from tocsin.data import load
from tocsin.data.dataset import Dataset
from tocsin.decisions import apply
from tocsin.runtime import Runtime

ROWS = 600


def table(path: Path, rows: int, seed: int, planted: int = 0, label: str = "malicious") -> Path:
    """Two classes that differ in two columns; rows of class ``no`` with a trigger; every other row is there twice."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) // 2 % 2
    values = rng.integers(0, 1000, (rows, 4)) + 400 * labels[:, None] * np.array([1, 1, 0, 0])
    values[1::4] = values[0::4]
    values[np.flatnonzero(labels == 0)[:planted]] = (5, 5, 31337, 31337)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("size", "entropy", "linker", "stamp", "packer", "sha", label))
        for k, (row, truth) in enumerate(zip(values.tolist(), labels.tolist(), strict=True)):
            writer.writerow([*row, ["upx", "=none"][k % 12 == 0], f"{seed}-{k}", ["no", "yes"][truth]])
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return table(tmp_path / "train.csv", ROWS, 0, planted=30)


def test_a_reserve_is_vetted_as_rows_and_taken_out(tmp_path: Path, train: Path, run: Run) -> None:
    done = run("reserve", train, "--label", "malicious", "-n", 300, "--out", tmp_path / "vet")
    assert done.code == 0, done.err
    assert "--label malicious" in done.out
    page = (tmp_path / "vet" / "contact_sheet.html").read_text()
    assert page.count("<tr><td><input") == 300
    assert "<th>linker</th>" in page
    assert "<img" not in page
    done = run("reserve", train, "--label", "malicious", "--decisions", tmp_path / "vet" / "candidates.csv", "--out", tmp_path / "split")
    assert done.code == 0, done.err
    assert "--label malicious" in done.out
    assert "exact copy" not in done.out  # equal rows are natural in tables
    reserve, rest = (load(tmp_path / "split" / name, label="malicious") for name in ("reserve.csv", "train.csv"))
    assert len(reserve) + len(rest) == ROWS


def test_training_and_testing(tmp_path: Path, train: Path, run: Run) -> None:
    test = table(tmp_path / "test.csv", 200, 1)
    done = run("train", train, "--label", "malicious", "--test", test, "--epochs", 6, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["runs"]["all samples"]["acc"] > 0.7
    other = table(tmp_path / "other.csv", 200, 1, label="verdict")
    done = run("train", train, "--label", "malicious", "--test", other)
    assert (done.code, "no column 'malicious'" in done.err) == (2, True)


def test_the_column_of_labels_is_asked_for(train: Path, run: Run) -> None:
    done = run("train", train, "--test", train)
    assert done.code == 2
    assert "--label" in done.err
    assert "malicious" in done.err


def findings(data: Dataset, rows: np.ndarray, out: Path) -> Path:
    """A report as an audit would have left it."""
    made = report(samples=len(data), classes=data.classes, flagged=0)
    flagged = np.isin(np.arange(len(data)), rows)
    replace(made, train=data, reserve=data[:60], findings=replace(made.findings, flagged=flagged)).save(out)
    return out / "findings.json"


def test_what_a_report_flags_is_left_out_of_the_copy(tmp_path: Path, train: Path, run: Run) -> None:
    data = load(train, label="malicious", runtime=Runtime(cache=tmp_path / "cache"))
    planted = np.flatnonzero(data.inputs[:, 2] == 31337)
    listed = findings(data, planted, tmp_path / "report")
    assert "linker = 31337" in (tmp_path / "report" / "index.html").read_text()
    assert np.array_equal(~apply(data, listed), np.isin(np.arange(ROWS), planted))
    done = run("apply", train, listed, "--label", "malicious", "--out", tmp_path / "clean")
    assert done.code == 0, done.err
    clean = load(tmp_path / "clean" / "train.csv", label="malicious")
    assert len(clean) == ROWS - 30
    assert not (clean.inputs[:, 2] == 31337).any()
    done = run("apply", table(tmp_path / "else.csv", ROWS, 5), listed, "--label", "malicious", "--out", tmp_path / "no")
    assert (done.code, "other content" in done.err) == (2, True)
