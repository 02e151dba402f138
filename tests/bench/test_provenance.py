"""Where a number comes from, and how much memory a process held."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tocsin.bench import provenance
from tocsin.bench.provenance import peak_rss_mb


@pytest.mark.skipif(sys.platform != "linux", reason="other systems only tell the most that was ever held")
def test_a_process_does_not_inherit_the_peak_of_its_parent() -> None:
    held = np.ones(200 * 2**17)  # 200 MiB
    mine = peak_rss_mb()
    child = subprocess.run(
        [sys.executable, "-c", "from tocsin.bench.provenance import peak_rss_mb; print(peak_rss_mb())"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert mine is not None
    assert mine > held.nbytes / 2**20
    assert float(child.stdout) < 150


def test_a_copy_says_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_COMMIT", "abc1234")
    assert provenance.commit() == {"commit": "abc1234", "dirty": None}
    monkeypatch.delenv("TOCSIN_COMMIT")
    assert provenance.commit() != {"commit": "abc1234", "dirty": None}
    monkeypatch.setattr(provenance, "_git", lambda *words: "")
    assert provenance.commit() == {"commit": None, "dirty": None}
