"""Labels that do not fit: told by networks that did not see the sample, and added up where the wrong ones share a pattern."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.detectors.handmade import noise_set
from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors import misfits
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.decide import stands_out
from tocsin.detectors.misfits import fit_of_labels, looks
from tocsin.detectors.workbench import Bench
from tocsin.errors import InputError
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=4)
N, CLASSES = 2500, 5
WRONG = np.flatnonzero(np.arange(N) % CLASSES == 0)[:16]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misfits, "_BATCH", 64)
    monkeypatch.setattr(misfits, "PASSES", 1.9)  # 40 steps


def tinted(data: Dataset, shown: np.ndarray) -> Dataset:
    """``data`` with the colour, mixed of two channels, that says what class each picture shows (N,)."""
    x = np.array(data.inputs) // 2
    colours = np.array([(14, 0, 0), (0, 14, 0), (0, 0, 14), (12, 12, 0), (0, 12, 12)], np.uint8)
    return replace(data, inputs=x + colours[shown][:, None, None])


def bench_of(strength: int, reserve_count: int = 250) -> Bench:
    """16 of class 0's 500 pictures show another class; ``strength`` of a pattern that these share."""
    train, reserve = (noise_set(count, seed, classes=CLASSES, size=12) for seed, count in ((0, N), (1, reserve_count)))
    shown = np.array(train.labels)
    shown[WRONG] = 1 + np.arange(len(WRONG)) % (CLASSES - 1)
    train = tinted(train, shown)
    pattern = np.random.default_rng(9).integers(0, 2, train.inputs.shape[1:])
    x = np.array(train.inputs)
    x[WRONG] += (strength * pattern).astype(np.uint8)
    joined = concatenate(replace(train, inputs=x), tinted(reserve, reserve.labels))
    return Bench.of(joined.inputs, joined.labels, train, torch.device("cpu"), branch=True)


def looked(bench: Bench) -> tuple[np.ndarray, list[np.ndarray]]:
    fit = fit_of_labels(bench, np.arange(N), 1, CPU)
    series = looks(fit, bench, np.arange(N), np.zeros(N, bool), np.full(CLASSES, 50), CPU.seed)
    assert [list(view) for view in series.views] == [["shared 1"], ["shared 2"], ["labels 1"], ["labels 2"]]
    assert series.flagging == series.views[2:]
    return fit, [view for views in series.rounds for view in views.values()]


def test_wrong_labels_that_share_a_faint_pattern_stand_out_and_plain_mistakes_do_not() -> None:
    labels = np.arange(N) % CLASSES
    fit, views = looked(bench_of(strength=25))
    assert (fit[WRONG] < 0).mean() > 0.8
    assert (fit[np.setdiff1d(np.arange(N), WRONG)] > 0).mean() > 0.8
    mistakes = looked(bench_of(strength=0))[1]
    gaps, shared = (np.min([stands_out(view[:N], labels, CLASSES) for view in those], axis=0) for those in (mistakes, views))
    assert shared[0] > 1.5
    assert gaps[0] < 0.7
    assert max(gaps[1:].max(), shared[1:].max()) < 0.3


def test_no_network_is_asked_about_what_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen, asked, real_sweep = bench_of(strength=0), [], [], misfits.sweep

    def spy(read: object, network: object, bench: Bench, rows: torch.Tensor, tick: object) -> np.ndarray:
        asked.append((network, rows))
        return real_sweep(read, network, bench, rows, tick)  # type: ignore[arg-type]

    monkeypatch.setattr(misfits, "pretrain", lambda network, bench, rows, *rest: seen.append((network, set(rows.tolist()))))
    monkeypatch.setattr(misfits, "sweep", spy)
    groups = np.arange(N) // 2  # pairs of near duplicates
    fit_of_labels(bench, groups, 1, CPU)
    assert sorted(np.concatenate([rows.numpy() for _, rows in asked]).tolist()) == list(range(N + 250))
    for network, rows in asked:
        trained = next(those for other, those in seen if other is network)
        assert not trained & set(rows.tolist())
        inspected = rows.numpy()[rows.numpy() < N]
        assert not set(groups[inspected]) & {groups[row] for row in trained if row < N}


def test_the_same_seed_gives_the_same_answer() -> None:
    bench = bench_of(strength=20)
    np.testing.assert_array_equal(fit_of_labels(bench, np.arange(N), 1, CPU), fit_of_labels(bench, np.arange(N), 1, CPU))


def test_where_labels_cannot_be_looked_at_it_is_said() -> None:
    train, reserve = noise_set(90, 0), noise_set(60, 1)
    with pytest.raises(InputError, match="misfits: got true"):
        ConfusionTraining(misfits=True, sharpen=False).inspect(train, reserve, CPU)
    with pytest.raises(InputError, match="finish: on pictures"):
        ConfusionTraining(misfits=False, finish=True).inspect(train, reserve, CPU)


def test_of_few_classes_nobody_is_named_for_what_misfits_share_and_the_rounds_have_all_of_alpha() -> None:
    short = ConfusionTraining(pretrain_least=4, pretrain_epochs=(0.1,) * 3, confusion_steps=(4,) * 3)

    def limits(how: ConfusionTraining, classes: int) -> dict[str, float]:
        found = how.inspect(noise_set(120, 0, classes=classes), noise_set(80, 1, classes=classes), CPU)
        return found.evidence["limits"]  # type: ignore[no-any-return]

    assert {"rounds", "labels", "all labels"} <= set(limits(short, misfits.LEAST_CLASSES))
    few = limits(short, misfits.LEAST_CLASSES - 1)
    assert few == limits(replace(short, misfits=False), misfits.LEAST_CLASSES - 1)
    assert list(few) == ["rounds"]
