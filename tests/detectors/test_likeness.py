"""Further pictures that look like the flagged ones: found where these share a moving blob and wrong labels, else next to none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.detectors import coloured
from tests.detectors.handmade import noise_set
from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors import likeness
from tocsin.detectors.confusion import PretrainSettings
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.likeness import Likeness
from tocsin.detectors.workbench import Bench
from tocsin.errors import InputError
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=4)
N, CLASSES = 900, 3
DISTINCT = np.full(CLASSES, 60)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_TRAINING", PretrainSettings(steps=60, lr=0.05, batch=64))
    monkeypatch.setattr(likeness, "ROUNDS", 2)


def blobs(data: Dataset, rows: np.ndarray) -> Dataset:
    """``data`` with a magenta square of 5 pixels in another place of each of the ``rows``."""
    rng, x = np.random.default_rng(7), np.array(data.inputs)
    for row in rows:
        top, left = rng.integers(0, x.shape[1] - 5, 2)
        x[row, top : top + 5, left : left + 5] = (255, 0, 255)
    return replace(data, inputs=x)


def bench_of(planted: np.ndarray) -> Bench:
    """900 pictures of noise in three classes, blobs in the rows ``planted``, and 180 clean ones in reserve."""
    train, reserve = noise_set(N, 0, classes=CLASSES, size=16), noise_set(180, 1, classes=CLASSES, size=16)
    train = blobs(train, planted)
    joined = concatenate(train, reserve)
    return Bench.of(joined.inputs, joined.labels, train, torch.device("cpu"), branch=False)


def grown(first: np.ndarray, planted: np.ndarray, ignore: np.ndarray | None = None, *, wrong: bool = True) -> np.ndarray:
    """What `Likeness` makes of the flagged rows ``first`` (N,) bool, where the labels of nine tenths of the ``planted`` ones do not fit."""
    fit = np.random.default_rng(3).normal(size=N + 180)
    if wrong:
        fit[np.delete(planted, np.s_[::10])] -= 5
    those = Likeness(bench_of(planted), fit, np.arange(N), np.zeros(N, bool) if ignore is None else ignore, CPU, DISTINCT)
    return those.extended(first)


def rows_of(k: int, count: int) -> np.ndarray:
    return np.flatnonzero(np.arange(N) % CLASSES == k)[:count]


def flags(rows: np.ndarray) -> np.ndarray:
    return np.isin(np.arange(N), rows)


def test_what_looks_like_the_flagged_ones_is_found_and_little_else() -> None:
    planted = rows_of(0, 60)
    found = grown(flags(planted[:20]), planted)
    assert found[planted].mean() > 0.9
    assert (found & ~flags(planted)).sum() <= 5


def test_false_alarms_among_the_flagged_open_no_door() -> None:
    planted, wrong = rows_of(0, 60), rows_of(0, N)[-5:]
    found = grown(flags(np.concatenate([planted[:25], wrong])), planted)
    assert found[planted].mean() > 0.7
    assert (found & ~flags(planted)).sum() <= 5 + 3


@pytest.mark.parametrize(("count", "learned_from"), [(likeness.LEAST, "the surest"), (likeness.LEAST - 1, "all")])
def test_the_surest_alone_are_learned_from_where_there_are_enough_and_without_any_nothing_is(
    count: int, learned_from: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted, other, learned, whole = rows_of(0, 60), rows_of(1, 20), [], likeness._odds
    monkeypatch.setattr(likeness, "_odds", lambda likes, *rest: (learned.append(likes), whole(likes, *rest))[1])
    flagged, surest = flags(np.concatenate([planted[:20], other])), flags(np.concatenate([planted[:count], rows_of(2, 30)]))
    fit = np.random.default_rng(3).normal(size=N + 180)
    fit[planted] -= 5
    those = Likeness(bench_of(planted), fit, np.arange(N), np.zeros(N, bool), CPU, DISTINCT)
    found = those.extended(flagged, surest)
    assert sorted(learned[0]) == planted[: count if learned_from == "the surest" else 20].tolist()
    assert found[flagged].all()
    assert not found[rows_of(2, N)].any()
    learned.clear()
    np.testing.assert_array_equal(those.extended(flagged, flags(rows_of(2, 30))), flagged)
    assert learned == []


def test_where_the_surest_add_nothing_all_flagged_ones_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    planted, asked = rows_of(0, 60), []
    adds = {10: planted[:15], 20: planted[20:50]}  # the first are flagged already
    monkeypatch.setattr(Likeness, "_of_class", lambda self, k, start: (asked.append(int(start.sum())), adds[int(start.sum())])[1])
    fit = np.random.default_rng(3).normal(size=N + 180)
    fit[planted] -= 5
    those = Likeness(bench_of(planted), fit, np.arange(N), np.zeros(N, bool), CPU, DISTINCT)
    found = those.extended(flags(planted[:20]), flags(planted[:10]))
    assert asked == [10, 20]
    np.testing.assert_array_equal(np.flatnonzero(found), planted[:50])
    adds[10] = planted[15:30]
    assert those.extended(flags(planted[:20]), flags(planted[:10])).sum() == 30
    assert asked == [10, 20, 10]
    adds[20] = planted[:0]
    asked.clear()
    those.extended(flags(planted[:20]), flags(planted[:20]))  # all are sure: nothing is learned from the same ones twice
    assert asked == [20]


def test_flagged_samples_that_share_nothing_bring_few_others() -> None:
    first = flags(rows_of(0, 20))
    found = grown(first, np.empty(0, np.int64))
    assert (found >= first).all()
    assert (found & ~first).sum() <= 0.03 * N / CLASSES


def test_where_labels_are_right_nothing_is_added() -> None:
    """A look that belongs to the class is not what makes its samples suspect."""
    planted = rows_of(0, 60)
    first = flags(planted[:20])
    np.testing.assert_array_equal(grown(first, planted, wrong=False), first)


def test_what_is_added_must_be_labelled_as_wrongly_as_what_was_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that take every sample of the class for one of the flagged ones do not get it flagged."""
    planted = rows_of(0, 60)

    def all_alike(likes: np.ndarray, asked: np.ndarray, half: np.ndarray, rest: int, *_: object) -> tuple[np.ndarray, np.ndarray]:
        return np.where(np.arange(len(asked)) < rest, 9.0, 0.0), np.where(np.arange(len(likes)) < len(planted), 8.0, 9.0)

    monkeypatch.setattr(likeness, "_odds", all_alike)
    monkeypatch.setattr(likeness, "cut", lambda mine, rest: 0.0)
    first = flags(planted)
    np.testing.assert_array_equal(grown(first, planted), first)
    monkeypatch.setattr(likeness, "WRONG", 0.6)
    assert grown(first, planted).sum() == N // CLASSES


def test_rows_of_other_classes_and_those_to_be_left_alone_stay_as_they_are() -> None:
    planted, covers = rows_of(0, 60), rows_of(1, 3)
    ignore = flags(planted[30:])
    found = grown(flags(planted[:20]), np.concatenate([planted, covers]), ignore)
    assert found[planted[20:30]].mean() > 0.6
    assert not found[planted[30:]].any()
    assert not found[covers].any()


@pytest.mark.parametrize("count", [0, likeness.LEAST - 1, N // CLASSES])
def test_too_few_and_whole_classes_are_not_learned_from(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_odds", lambda *args: pytest.fail("it trained"))
    first = flags(rows_of(0, count))
    np.testing.assert_array_equal(grown(first, first.nonzero()[0]), first)


def test_the_same_seed_gives_the_same_answer_in_one_thread_and_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_TRAINING", PretrainSettings(steps=10, lr=0.05, batch=64))
    planted, odds = rows_of(0, 40), []
    bench, before = bench_of(planted), torch.get_num_threads()
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            odds.append(likeness._odds(planted[:20], np.arange(200, 500), np.arange(300) % 2, 100, bench, [1, 0, 0], CPU, "")[0])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*odds)


def test_published_decisions_and_sounds_have_no_likeness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.detectors.distillation.pretrain", lambda *args: pytest.fail("it trained"))
    train, reserve = noise_set(90, 0), noise_set(60, 1)
    with pytest.raises(InputError, match="finish: got true with image data and decision=likelihood"):
        ConfusionTraining(decision="likelihood", finish=True).inspect(train, reserve, CPU)
    heard = coloured.spoken(40, seed=1), coloured.spoken(40, seed=2)
    with pytest.raises(InputError, match="finish: got true with speech data"):
        ConfusionTraining(finish=True).inspect(*heard, CPU)
