from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.dummies import DUMMIES, LOG
from tocsin.detectors import DETECTORS

TINY = """
[[data]]
builtin = "digits"
train = 200
reserve = 60
test = 60
[victim]
epochs = 1
"""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in DUMMIES.items():
        monkeypatch.setitem(DETECTORS, name, cls)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The lines that trainings (``fit``) and inspections (``inspect``, ``done``, ``judge``) left, in this process or another."""
    file = tmp_path / "log.txt"
    monkeypatch.setenv(LOG, str(file))
    return lambda word: [line for line in (file.read_text().splitlines() if file.exists() else []) if line.startswith(word)]


@pytest.fixture
def grid_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a grid on 200 digits; gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "grid.toml"
        # keys of the file itself come before its tables
        top = [line for line in text.strip().splitlines() if line.startswith(("seeds", "retrain"))]
        rest = [line for line in text.strip().splitlines() if line not in top]
        path.write_text("\n".join([*top, TINY, *rest]) + "\n")
        return path

    return write
