"""A second look at a named class: further poison is found where networks know the flagged again, and nothing is added without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.detectors.handmade import noise_set
from tests.detectors.test_likeness import CLASSES, N, bench_of, flags, rows_of
from tocsin.detectors import second_look, suspects
from tocsin.detectors.confusion import PretrainSettings
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.distillation import Distillation
from tocsin.detectors.rounds import Store
from tocsin.detectors.second_look import SecondLook
from tocsin.detectors.suspects import Teaching
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=4)
HOW = PretrainSettings(steps=60, lr=0.05, batch=64)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "_NETWORK", "shortcut")  # it learns these blobs in a few steps
    monkeypatch.setattr(second_look, "_TRAINING", HOW)
    monkeypatch.setattr(second_look, "ROUNDS", 2)


def look_at(planted: np.ndarray, ignore: np.ndarray | None = None, *, wrong: bool = True) -> SecondLook:
    """900 pictures of noise, a moving blob in the rows ``planted``, nine tenths of whose labels do not fit where they are ``wrong``."""
    fit = np.random.default_rng(3).normal(size=N + 180)
    if wrong:
        fit[np.delete(planted, np.s_[::10])] -= 5
    return SecondLook(bench_of(planted), fit, np.arange(N), np.zeros(N, bool) if ignore is None else ignore, CPU)


def test_poison_that_was_not_flagged_is_known_by_what_was_and_canaries_and_other_classes_stay_as_they_are() -> None:
    planted, covers, canaries = rows_of(0, 100), rows_of(1, 3), rows_of(0, 104)[100:]
    first = flags(np.concatenate([planted[:60], rows_of(0, N)[-3:]]))
    found = look_at(np.concatenate([planted, canaries, covers]), flags(canaries)).extended(first, first)
    assert (found >= first).all()
    assert found[planted[60:]].mean() > 0.4  # 0.45 to 0.73, by how many steps
    assert (found & ~first & ~flags(planted)).sum() <= 5
    assert not found[canaries].any()
    assert not found[covers].any()


@pytest.mark.parametrize("network", ["shortcut", "small"])
def test_flags_that_mean_nothing_add_nothing(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks can learn them by heart; none is asked about what it learned."""
    monkeypatch.setattr(second_look, "_NETWORK", network)
    first = flags(rows_of(0, 30))
    look = look_at(rows_of(0, 0))
    look.fit[np.flatnonzero(first)] -= 5
    np.testing.assert_array_equal(look.extended(first, first), first)


def test_no_network_judges_what_it_was_taught_with_or_a_near_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    look, taught = look_at(rows_of(0, 0)), []
    object.__setattr__(look, "groups", np.arange(N) // 6)  # two of each class
    monkeypatch.setattr(suspects, "side_by_side", lambda job, count, device: [job(k) for k in range(count)])
    monkeypatch.setattr(suspects, "pretrain", lambda network, bench, rows, *_: taught.append(set(rows.tolist())))

    def judged(read: object, network: object, bench: object, rows: object, tick: object) -> np.ndarray:
        known = taught[-1]
        theirs = rows.tolist()  # type: ignore[attr-defined]
        assert not known & set(theirs)
        assert not {one // 6 for one in known if one < N} & {one // 6 for one in theirs if one < N}
        return np.ones(len(theirs))

    monkeypatch.setattr(suspects, "sweep", judged)
    mine = rows_of(0, N)
    odds = look.odds_of_kind(
        0, 0, np.concatenate([mine, [N, N + 3]]), mine[:30], flags(mine[:30]), Teaching(look.bench, "shortcut", HOW, 1)
    )
    np.testing.assert_array_equal(odds, 1)


@pytest.mark.parametrize("why", ["right labels", "few", "not asked", "the whole class"])
def test_what_is_not_to_be_learned_is_not_learned(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "pretrain", lambda *args: pytest.fail("it trained"))
    planted = rows_of(0, 60)
    first = flags(rows_of(0, {"few": second_look.LEAST - 1, "the whole class": N // CLASSES}.get(why, 30)))
    look = look_at(planted, wrong=why != "right labels")
    np.testing.assert_array_equal(look.extended(first, first, flags(rows_of(1, 30)) if why == "not asked" else None), first)


@pytest.mark.parametrize(("unlike", "more", "added"), [(0, 6, 6), (0, 2, 0), (10, 6, 6), (17, 6, 0)])
def test_flags_stay_where_networks_do_not_know_them_again_or_find_next_to_nothing_new(
    unlike: int, more: int, added: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 flagged samples, some ``unlike`` the others, as those of a third are which were flagged by mistake; less than a tenth more is
    what networks mistake where there is nothing left to find."""
    planted, mine = rows_of(0, 60), rows_of(0, N)
    odds = np.full(N // CLASSES + 60, -8.0)
    odds[: 30 + more] = 8.0
    odds[:unlike] = -8.0
    monkeypatch.setattr(SecondLook, "odds_of_kind", lambda *args: odds)
    found = look_at(planted).extended(flags(planted[:30]), flags(planted[:30]))
    assert (found.sum(), found[mine[: 30 + added]].all()) == (30 + added, True)


def test_what_is_added_must_be_labelled_wrongly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    odds = np.full(N // CLASSES + 60, -8.0)
    odds[:45] = 8.0
    monkeypatch.setattr(SecondLook, "odds_of_kind", lambda *args: odds)
    first, look = flags(rows_of(0, 30)), look_at(rows_of(0, 30))
    look.fit[rows_of(0, 45)[30:]] = 1.0
    np.testing.assert_array_equal(look.extended(first, first), first)


def test_a_killed_run_goes_on_from_the_rounds_that_it_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted, audit = rows_of(0, 100), object.__new__(Distillation)
    audit.how, audit.train, audit.store = ConfusionTraining(), noise_set(9, 0, classes=CLASSES), Store(tmp_path, lambda: "key")
    keep = audit._kept
    look, first = look_at(planted), flags(planted[:60])
    whole = look.extended(first, first, None, keep)
    assert len({path.name for path in (tmp_path / "key").iterdir()}) == 2
    monkeypatch.setattr(suspects, "pretrain", lambda *args: pytest.fail("it trained"))
    np.testing.assert_array_equal(look.extended(first, first, None, keep), whole)
