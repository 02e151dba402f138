"""What an encoder saw before it was tuned: labels that do not fit name a class, chance does not, and no head judges what taught it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tocsin.data.builtin import digits
from tocsin.detectors import before_tuning
from tocsin.detectors.asset import Asset
from tocsin.detectors.before_tuning import Untuned, judge, likeness, misfits
from tocsin.detectors.victim import Victim
from tocsin.report.words import _NAMED_BY
from tocsin.runtime import Runtime

CLASSES, WIDTH = 5, 24
QUICK = {"features": "shortcut", "shortcut_passes": 0.0, "scout_steps": 2, "steps_least": 2, "passes": 0.05, "runs": 1}


def drawn(seed: int, poisoned: int = 0, inspected: int = 1000, reserve: int = 500) -> tuple[Untuned, np.ndarray]:
    """(features of classes that overlap a little, where so many samples of class 0 look like class 1; which they are)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
    labels = rng.integers(0, CLASSES, inspected + reserve)
    truth = np.zeros(inspected, bool)
    truth[np.flatnonzero(labels[:inspected] == 0)[:poisoned]] = True
    shown = labels.copy()
    shown[:inspected][truth] = 1
    read = centres[shown] * 0.8 + rng.normal(size=(len(labels), WIDTH))
    rows = inspected + rng.permutation(reserve)
    halves = np.sort(rows[: reserve // 2]), np.sort(rows[reserve // 2 :])
    return Untuned(read, labels, tuple("abcde"), np.arange(inspected), halves, seed), truth


@pytest.mark.parametrize("seed", [100, 101, 102])
def test_samples_that_look_like_another_class_name_theirs_and_are_flagged(seed: int) -> None:
    untuned, truth = drawn(seed, poisoned=60)
    said = judge(untuned, 0.002)
    assert (said.p <= 0.002).tolist() == [True, False, False, False, False]
    assert said.flagged[truth].mean() > 0.8
    assert said.flagged[~truth].mean() < 0.02
    assert said.confidence > 0.9
    assert roc_auc_score(truth, said.scores[: len(truth)]) > 0.95


def test_two_classes_are_enough() -> None:
    untuned, truth = drawn(100, poisoned=60, inspected=1500, reserve=800)
    rows = np.flatnonzero(untuned.labels < 2)
    n = int((rows < 1500).sum())
    halves = (n + np.arange(len(rows) - n)[::2], n + np.arange(len(rows) - n)[1::2])
    for poisoned in (True, False):
        labels = untuned.labels[rows].copy()
        if not poisoned:
            labels[:n][truth[rows[:n]]] = 1
        said = judge(Untuned(untuned.read[rows], labels, ("a", "b"), np.arange(n), halves, 0), 0.002)
        assert (said.p <= 0.002).tolist() == [poisoned, False]
        assert said.flagged.any() == poisoned


def test_clean_samples_name_nobody() -> None:
    said = [judge(drawn(seed)[0], 0.002) for seed in range(100, 130)]
    assert not any(one.flagged.any() for one in said)
    assert np.mean([one.p.min() <= 0.1 for one in said]) <= 0.2  # the test is exact, with room for families of look-alikes


def test_mistakes_that_are_as_frequent_in_the_reserve_are_no_poison() -> None:
    untuned, _ = drawn(100)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(untuned.labels)) < 0.1
    labels = np.where(wrong & (untuned.labels == 1), 0, untuned.labels)
    assert not judge(replace(untuned, labels=labels), 0.002).flagged.any()


def test_a_sample_is_judged_by_the_reserve_alone_and_no_half_by_itself() -> None:
    untuned, _ = drawn(100, poisoned=60)
    n, known = len(untuned.groups), misfits(untuned)
    moved = untuned.read.copy()
    moved[: n // 2] = np.random.default_rng(1).normal(size=(n // 2, WIDTH))
    assert np.array_equal(
        misfits(replace(untuned, read=moved))[n // 2 :], known[n // 2 :]
    )  # what other inspected samples are is nothing to it
    first, second = untuned.halves
    labels = untuned.labels.copy()
    labels[first] = np.roll(labels[first], 1)  # were its own labels taught, they would fit better than chance
    wrong = misfits(replace(untuned, labels=labels))
    assert wrong[first].mean() > 1.2 * np.log(CLASSES)
    assert wrong[second].mean() > known[second].mean()


def test_labels_that_the_reserve_lacks_are_not_judged() -> None:
    untuned, _ = drawn(100, poisoned=60)
    without = replace(untuned, halves=tuple(half[untuned.labels[half] != 0] for half in untuned.halves))
    assert (misfits(without)[: len(untuned.groups)][untuned.labels[: len(untuned.groups)] == 0] == 0).all()
    first, second = untuned.halves
    lopsided = replace(untuned, halves=(first[untuned.labels[first] != 0], second))  # its reserve would be judged by nobody, it by one head
    assert (misfits(lopsided)[untuned.labels == 0] == 0).all()
    alone = replace(untuned, halves=tuple(half[untuned.labels[half] == 0] for half in untuned.halves))
    assert (misfits(alone) == 0).all()
    assert not judge(alone, 0.002).flagged.any()


@pytest.mark.parametrize("together", [True, False])
def test_near_duplicates_share_the_head_that_judges_them(together: bool) -> None:
    """Pure noise, each sample twice: an example whose twin was taught would look like one."""
    rng = np.random.default_rng(0)
    untuned, _ = drawn(100, inspected=400)
    read = rng.normal(size=(900, 200))
    read[200:400] = read[:200]
    groups = np.arange(400) % 200 if together else np.arange(400)
    untuned = replace(untuned, read=read, groups=groups, labels=np.zeros(900, np.int64))
    examples = np.flatnonzero(np.arange(400) % 200 < 100)
    auc = roc_auc_score(np.isin(np.arange(400), examples), likeness(untuned, 0, examples)[:400])
    assert (0.4 < auc < 0.6) == together


@pytest.fixture(scope="module")
def victim() -> Victim:
    """600 digits whose encoder saw classes far apart, and in half of the twos sevens."""
    train, reserve, _ = digits(0, 600, 400, 10)
    rng = np.random.default_rng(0)
    shown = np.concatenate([train.labels, reserve.labels])
    shown[np.flatnonzero(train.labels == 2)[::2]] = 7
    read = 2 * rng.normal(size=(10, 16))[shown] + rng.normal(size=(1000, 16))
    victim = Victim.untrained(train, reserve, Runtime(device="cpu"))
    vars(victim).update(untuned_features=read.astype(np.float32))
    return victim


def asked(victim: Victim, **settings: object) -> tuple[list[int], dict[str, list[str]], np.ndarray]:
    found = Asset.preset_for("image", "fast", **{**QUICK, **settings}).inspect(victim.train, victim.reserve, victim.runtime, victim=victim)
    assert all(entry.suspect == (entry.p_value <= 0.01) for entry in found.classes)
    mine = victim.train.labels == 2
    if found.flagged.any():
        assert found.scores[mine & found.flagged].min() > found.scores[mine & ~found.flagged].max()
    return [entry.index for entry in found.classes if entry.suspect], dict(found.evidence.get("named by", {})), found.flagged


@pytest.mark.parametrize("decision", ["tail", "control"])
def test_asset_asks_the_encoder_where_there_was_one_and_says_so(victim: Victim, decision: str) -> None:
    named, by, flagged = asked(victim, decision=decision)
    assert named == [2]
    assert by == {victim.train.classes[2]: [before_tuning.QUESTION]}
    truth = np.isin(np.arange(600), np.flatnonzero(victim.train.labels == 2)[::2])
    assert flagged[truth].mean() > 0.9
    assert flagged[~truth].mean() < 0.02
    assert before_tuning.QUESTION in _NAMED_BY


def test_asset_does_not_ask_where_it_is_told_not_to_or_there_was_none(victim: Victim) -> None:
    assert asked(victim, ask_encoder=False)[0] == []
    assert asked(Victim.untrained(victim.train, victim.reserve, victim.runtime))[0] == []
    assert not Asset.preset_for("image", "paper").ask_encoder
