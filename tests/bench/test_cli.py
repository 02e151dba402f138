from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench.test_table import HOSTILE, LINES, hostile
from tocsin.bench.ledger import Ledger
from tocsin.cli import main

ONE = """
[[attack]]
name = "badnet"
rate = 0.05
[[detector]]
name = "corner"
"""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def run(*words: object) -> SimpleNamespace:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["bench", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=int(ended.value.code or 0), out=out, err=err)

    return run


def test_a_run_its_table_and_its_page(
    call: Callable[..., SimpleNamespace], grid_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = grid_file(ONE)
    done = call(path, "--device", "cpu")
    assert done.code == 0, done.err
    assert "✓ 100.0 / 0.00" in done.out
    assert "1 of 1 cells run" in done.out
    assert "tocsin: digits, badnet 5 %, corner, seed 0: TPR 100.00 %, FPR 0.00 %" in done.err
    out = tmp_path / "tocsin-bench" / "grid"
    assert "badnet 5 %" in (out / "index.html").read_text("utf-8")
    again = call(path, "--quiet")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert len(Ledger(out / "cells.jsonl").read()) == 1
    path.unlink()  # the table needs the lines alone
    assert "| badnet 5 %" in call(path, "--table", "markdown").out
    assert call(path, "--table", "html").out.startswith("<!doctype html>")
    assert "✓ 100.0 / 0.00" in call(path, "--table", "terminal").out


def test_failed_cells_end_with_code_3_until_they_are_mended(
    call: Callable[..., SimpleNamespace], grid_file: Callable[[str], Path], tmp_path: Path
) -> None:
    path, words = grid_file(ONE + 'fails = "bug"\n'), ("--out", tmp_path / "out", "--device", "cpu")
    first = call(path, *words)
    assert first.code == 3
    assert "failed: 1 of 1 seeds" in first.out
    assert "1 of 1 cells failed" in first.err
    assert call(path, *words).code == 3
    assert len(Ledger(tmp_path / "out" / "cells.jsonl").read()) == 1
    assert call(path, *words, "--retry-failed").code == 3
    assert len(Ledger(tmp_path / "out" / "cells.jsonl").read()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["GRID", "--jobs", "0"], "--jobs: got 0"),
        (["nowhere.toml"], "nowhere.toml cannot be read"),
        (["GRID", "--table", "markdown"], "has no finished cell"),
        (["GRID", "--table", "pdf"], "pdf"),
        (["GRID", "--out", "GRID"], "is a file"),
    ],
    ids=str,
)
def test_usage_errors(
    call: Callable[..., SimpleNamespace],
    grid_file: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = grid_file(ONE)
    done = call(*(str(path) if word == "GRID" else word for word in words))
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_terminal_shows_every_mark_and_no_escape(
    call: Callable[..., SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "cells.jsonl")
    for entry in [*LINES, *hostile()]:
        ledger.append(entry)
    said = call("any.toml", "--out", tmp_path, "--table", "terminal").out
    for text in (
        "✓ 97.0 ± 3.0 / 0.30 ± 0.26",
        "after: ASR ✗ 20.0",
        "weak † (1 of 2 seeds)",
        "ss (oracle)",
        "not run",
        "Failed: digits, dead",
    ):
        assert text in said
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert HOSTILE not in said
