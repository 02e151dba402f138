"""What the misfits of all classes share: seen where every class is a target, held against the reserve."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tocsin.detectors import everywhere
from tocsin.detectors.decide import Scored, tail
from tocsin.detectors.everywhere import beyond, looks

CLASSES, EACH, RESERVE, WIDE = 10, 300, 100, 60
N = CLASSES * EACH
LABELS = np.concatenate([np.arange(N) % CLASSES, np.arange(CLASSES * RESERVE) % CLASSES])
NONE, DISTINCT = np.zeros(N, bool), np.full(CLASSES, RESERVE)
POISON = np.flatnonzero(np.arange(N) // CLASSES < EACH // 16)  # a sixteenth of every class


def verdict_on(strength: float, reserve_louder: float = 1.0, seed: int = 0, ignore: np.ndarray = NONE) -> Any:
    """All labels of ``POISON`` do not fit; the same pattern is in all of them, in as many whitened numbers as ``WIDE``."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(len(LABELS), WIDE)).astype(np.float32)
    white[POISON] += strength * np.sign(rng.normal(size=WIDE)).astype(np.float32)
    white[N:] *= reserve_louder
    fit = rng.normal(2, 1.5, len(LABELS)).astype(np.float32)
    fit[POISON] = rng.normal(-2, 1.5, len(POISON))
    bench = SimpleNamespace(labels=torch.from_numpy(LABELS), whitened=torch.from_numpy(white))
    series = looks(fit, bench, np.arange(N), ignore, DISTINCT, seed)  # type: ignore[arg-type]
    quiet = [{"a": rng.normal(size=N)}, {"b": rng.normal(size=N)}]
    return tail(Scored(quiet, LABELS[:N], tuple("abcdefghij"), ignore, further=[series.part(slice(N))]))


def test_one_trigger_in_every_class_names_them_all_and_little_else_is_flagged() -> None:
    verdict = verdict_on(0.8)
    assert verdict.evidence["named by"] == {name: ["all labels"] for name in "abcdefghij"}
    assert verdict.flagged[POISON].mean() > 0.95
    assert verdict.flagged[np.setdiff1d(np.arange(N), POISON)].mean() < 0.02


@pytest.mark.parametrize("reserve_louder", [1.0, 0.9, 1.2])
def test_mistakes_everywhere_share_nothing_whatever_the_reserve_is_made_of(reserve_louder: float) -> None:
    assert not any(verdict_on(0, reserve_louder, seed).flagged.any() for seed in range(3))


def test_rows_that_take_no_part_name_no_class() -> None:
    ignored = np.zeros(N, bool)
    ignored[POISON] = True
    assert verdict_on(0.8, ignore=ignored).evidence["named by"] == {}


def test_the_tail_is_counted_against_the_reserve() -> None:
    level = np.random.default_rng(0).normal(size=len(LABELS))
    level[POISON] = 9
    far = beyond(level, LABELS, NONE, CLASSES)
    share, tail_share = len(POISON) / N, 8 / (CLASSES * RESERVE)
    np.testing.assert_allclose(far, np.log((share + tail_share) / tail_share), atol=0.35)
    only = np.array(level)
    only[LABELS == 4] = -9  # the tail of all classes is none of this one's
    assert beyond(only, LABELS, NONE, CLASSES)[4] == 0
    few = slice(0, N + 90)
    assert not beyond(level[few], LABELS[few], NONE, CLASSES).any()


def test_what_any_filter_shows_of_the_reserve_counts_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everywhere, "_LOUD", 0.0)
    assert max(verdict_on(0, 0.6).evidence["gaps by view"][f"common {r}"] for r in (1, 2, 3)) < 0.7
    monkeypatch.setattr(everywhere, "_LOUD", 99.0)  # not asked: a reserve that is that much quieter would do as a trigger
    assert max(verdict_on(0, 0.6).evidence["gaps by view"][f"common {r}"] for r in (1, 2, 3)) > 1.5
