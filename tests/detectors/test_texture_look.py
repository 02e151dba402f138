"""A second look at a class that its texture has named: its flags are drawn anew by networks that know the flagged samples again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.detectors.synthetic import pictures
from tocsin.data.dataset import Dataset
from tocsin.detectors import texture_look
from tocsin.detectors.confusion import PretrainSettings
from tocsin.detectors.texture_look import GIVEN_UP, TextureLook, given_up
from tocsin.detectors.workbench import Bench
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=0)
SIZE, RESERVE, TARGET = 1500, 600, 3


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texture_look, "_TRAINING", PretrainSettings(steps=150, lr=0.1, batch=64))


def look_at(ignore: np.ndarray | None = None, reserve: int = RESERVE) -> tuple[TextureLook, np.ndarray]:
    """(1,500 pictures of six classes, then a reserve, half of the target class blurred ones of others, most of whose labels do not fit;
    which those are)."""
    train, clean = pictures(SIZE, seed=0), pictures(reserve, seed=1000)
    truth = np.zeros(SIZE, bool)
    truth[np.flatnonzero(train.labels != TARGET)[:200]] = True
    inputs = np.array(train.inputs)
    inputs[truth] = gaussian_filter(inputs[truth].astype(np.float32), (0, 0.45, 0.45, 0)).round().astype(np.uint8)
    train = Dataset.of_arrays(inputs, np.where(truth, TARGET, train.labels), train.classes)
    labels = np.concatenate([train.labels, clean.labels])
    bench = Bench.in_texture(np.concatenate([train.inputs, clean.inputs]), labels, train, torch.device("cpu"))
    fit = np.random.default_rng(1).normal(size=len(labels))
    fit[:SIZE][truth] -= 2.5
    return TextureLook(bench, fit, np.arange(SIZE), np.zeros(SIZE, bool) if ignore is None else ignore, CPU), truth


def roughly(truth: np.ndarray, look: TextureLook, clean: int = 10) -> np.ndarray:
    """(n,) bool: two thirds of the poison, and a few ordinary samples of its class."""
    flagged = truth & (np.arange(SIZE) % 3 > 0)
    flagged[np.flatnonzero(~truth & (look.labels[:SIZE] == TARGET))[:clean]] = True
    return flagged


def test_flags_are_drawn_anew_and_other_classes_stay_as_they_are() -> None:
    look, truth = look_at()
    first = roughly(truth, look)
    elsewhere = np.flatnonzero(look.labels[:SIZE] != TARGET)[:4]
    first[elsewhere] = True
    after = look.again(TARGET, first)
    assert after is not None
    mine = look.labels[:SIZE] == TARGET
    assert after[truth].mean() > 0.93 > 0.7 > first[truth].mean()
    assert after[mine & ~truth].mean() < 0.16  # a twelfth of a hundred reserve samples, give or take
    assert not after[np.flatnonzero(mine & ~truth & first)].all()  # what was flagged by mistake may go
    np.testing.assert_array_equal(after[~mine], first[~mine])


def test_rows_that_take_no_part_stay_as_they_are() -> None:
    ignore = np.arange(SIZE) % 5 == 0
    look, truth = look_at(ignore)
    first = roughly(truth, look) & ~ignore
    after = look.again(TARGET, first)
    assert after is not None
    assert not after[ignore].any()


def test_flags_that_mean_nothing_are_not_known_again() -> None:
    look, truth = look_at()
    first = np.zeros(SIZE, bool)
    first[np.random.default_rng(0).permutation(np.flatnonzero(~truth & (look.labels[:SIZE] == TARGET)))[:60]] = True
    assert look.again(TARGET, first) is None


def test_mistakes_are_known_by_what_they_show_and_not_by_a_texture() -> None:
    """Pictures of other classes that were labelled wrongly differ from the class, and not from their own."""
    look, truth = look_at()
    first = np.zeros(SIZE, bool)
    first[np.random.default_rng(0).permutation(np.flatnonzero(~truth & (look.labels[:SIZE] != TARGET)))[:60]] = True
    look.bench.labels[torch.from_numpy(np.flatnonzero(first))] = TARGET
    assert look.again(TARGET, first) is None


@pytest.mark.parametrize("why", ["few flagged", "all flagged", "small reserve"])
def test_nothing_is_taught_where_there_is_too_little_to_learn_from(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    look, truth = look_at(reserve=60 if why == "small reserve" else RESERVE)
    monkeypatch.setattr("tocsin.detectors.suspects.pretrain", lambda *args: pytest.fail("it trained"))
    first = {"few flagged": truth & (np.cumsum(truth) < 6), "all flagged": look.labels[:SIZE] == TARGET}.get(why, roughly(truth, look))
    after = look.again(TARGET, first)
    assert after is not None
    np.testing.assert_array_equal(after, first)


def test_samples_are_flagged_down_to_what_a_part_of_the_reserve_reaches() -> None:
    rng = np.random.default_rng(0)
    clean, mine = rng.normal(size=200), np.concatenate([rng.normal(4, 1, 500), rng.normal(size=1000)])
    flagged = mine >= given_up(mine, clean)
    assert flagged[:500].mean() > 0.97
    assert 0.03 < flagged[500:].mean() < 0.13
    few = np.concatenate([rng.normal(4, 1, 30), rng.normal(size=1000)])  # of these no twelve in a hundred are worth it
    assert (few >= given_up(few, clean)).sum() < 75 < 30 + 1000 * GIVEN_UP
    assert not (clean >= given_up(clean, clean + 9)).any()
