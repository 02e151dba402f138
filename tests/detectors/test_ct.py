from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tocsin.data.builtin import digits
from tocsin.detectors import distillation
from tocsin.detectors.confusion import shift
from tocsin.detectors.ct import PRESETS, ConfusionTraining, split_reserve
from tocsin.detectors.rounds import combine, distil, median_band
from tocsin.detectors.workbench import batches
from tocsin.errors import InputError
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

SMALL = ConfusionTraining(texture=True, pretrain_least=60, confusion_steps=(60, 60, 60))
TINY = ConfusionTraining(texture=True, finish=False, pretrain_epochs=(1.0, 4.0, 4.0), pretrain_least=4, confusion_steps=(4, 4, 4))
"""All three rounds, for what does not hang on what is learned."""


@pytest.fixture(scope="module")
def numerals():
    return digits(101, train=2000, reserve=600, test=200)


@pytest.fixture(scope="module")
def poisoned(numerals):
    return poison(numerals[0], build("badnet", rate=0.03, target=2), 5)


@pytest.fixture(scope="module")
def reserve(numerals):
    return numerals[1]


@pytest.fixture(scope="module")
def findings(poisoned, reserve):
    return SMALL.inspect(poisoned.dataset, reserve, Runtime(device="cpu", seed=3))


def test_a_patch_is_found_and_its_class_named(poisoned, findings):
    truth = np.zeros(len(poisoned.dataset), bool)
    truth[poisoned.planted] = True
    assert [c.index for c in findings.classes if c.suspect] == [2]
    assert findings.flagged[truth].mean() > 0.95
    assert findings.flagged[~truth].mean() < 0.005
    assert findings.scores.shape == truth.shape
    assert findings.scores.dtype == np.float32
    assert findings.threshold is not None


@pytest.fixture(scope="module")
def few(poisoned):
    return poisoned.dataset[:500]


@pytest.fixture(scope="module")
def quick_findings(few, reserve):
    return TINY.inspect(few, reserve, Runtime(device="cpu", seed=3))


def test_same_seed_same_scores_and_another_does_not(few, reserve, quick_findings):
    again, other = (TINY.inspect(few, reserve, Runtime(device="cpu", seed=seed)) for seed in (3, 4))
    assert np.array_equal(again.scores, quick_findings.scores)
    assert not np.array_equal(other.scores, quick_findings.scores)


def test_a_fold_of_one_sample_is_no_error(few, reserve, monkeypatch):
    """Batch norm cannot be taught by it, so that half's networks are taught all."""
    whole = distillation.Distillation._folds

    def lonely(self, r):
        fold = np.ones_like(whole(self, r))
        fold[:, 0] = 0
        return fold

    monkeypatch.setattr(distillation.Distillation, "_folds", lonely)
    found = TINY.inspect(few, reserve, Runtime(device="cpu", seed=3))
    assert np.isfinite(found.scores).all()


def test_order_of_threads_does_not_matter(few, reserve, two_threads, monkeypatch):
    """Members of a round run side by side; whichever starts late, the scores are the same."""
    whole, ran, both = distillation.Distillation._member, set(), threading.Barrier(2)

    def late(which):
        def member(self, r, k, *args):
            ran.add((which, threading.get_ident()))
            both.wait(60)  # two are at work, however busy the machine is
            time.sleep(0.2 * (k == which))
            return whole(self, r, k, *args)

        monkeypatch.setattr(distillation.Distillation, "_member", member)
        return TINY.inspect(few, reserve, Runtime(device="cpu", seed=3)).scores

    np.testing.assert_array_equal(late(0), late(1))
    assert min(sum(w == which for w, _ in ran) for which in (0, 1)) >= 2


def test_a_killed_run_resumes_with_the_same_answer(few, reserve, quick_findings, tmp_path: Path, monkeypatch):
    runtime = Runtime(device="cpu", seed=3, checkpoints=tmp_path)
    trained = []
    whole = distillation.Distillation._member

    def dies_in_the_last(stage):
        def member(self, r, *args):
            trained.append((self.stage, r))
            if (self.stage, r) == (stage, 2) and trained.count((stage, 2)) == 1:
                raise KeyboardInterrupt
            return whole(self, r, *args)

        return member

    for stage in ("round", "texture"):
        monkeypatch.setattr(distillation.Distillation, "_member", dies_in_the_last(stage))
        with pytest.raises(KeyboardInterrupt):
            TINY.inspect(few, reserve, runtime)
        trained.clear()
    monkeypatch.setattr(distillation.Distillation, "_member", lambda self, r, *a: (trained.append((self.stage, r)), whole(self, r, *a))[1])
    resumed = TINY.inspect(few, reserve, runtime)
    assert set(trained) == {("texture", 2)}
    assert np.array_equal(resumed.scores, quick_findings.scores)
    # Other data, settings or seed must not take these rounds for their own.
    for how, data, seed in ((TINY, few, 4), (replace(TINY, pretrain_lr=0.05), few, 3), (TINY, few[:-1], 3)):
        trained.clear()
        how.inspect(data, reserve, replace(runtime, seed=seed))
        assert set(trained) == {(stage, r) for stage in ("round", "texture") for r in range(3)}


def test_a_run_killed_while_it_doubts_a_class_resumes_there(few, reserve, tmp_path: Path, monkeypatch):
    """The second look at labels, by networks that did not learn what fitted worst of the class."""
    how, runtime, looked = replace(TINY, texture=False), Runtime(device="cpu", seed=3), []
    monkeypatch.setattr(distillation.doubt, "doubted", lambda *args: np.arange(10) == 2)
    whole = distillation.misfits.fit_of_labels
    unbroken = how.inspect(few, reserve, runtime)

    def dies(bench, groups, least, runtime, trusted=None):
        looked.append(trusted is not None)
        if looked == [False, True]:
            raise KeyboardInterrupt
        return whole(bench, groups, least, runtime, trusted)

    monkeypatch.setattr(distillation.misfits, "fit_of_labels", dies)
    with pytest.raises(KeyboardInterrupt):
        how.inspect(few, reserve, replace(runtime, checkpoints=tmp_path))
    resumed = how.inspect(few, reserve, replace(runtime, checkpoints=tmp_path))
    assert looked == [False, True, True], "the first look is not taken again"
    assert np.array_equal(resumed.scores, unbroken.scores)
    assert np.array_equal(resumed.flagged, unbroken.flagged)
    again = how.inspect(few, reserve, replace(runtime, checkpoints=tmp_path))
    assert len(looked) == 3, "nor is the second"
    assert np.array_equal(again.scores, unbroken.scores)


def test_a_damaged_checkpoint_is_done_again(few, reserve, quick_findings, tmp_path: Path):
    runtime = Runtime(device="cpu", seed=3, checkpoints=tmp_path)
    TINY.inspect(few, reserve, runtime)
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(b"not a zip")
    assert np.array_equal(TINY.inspect(few, reserve, runtime).scores, quick_findings.scores)


def test_labels_and_order_of_the_truth_do_not_leak(poisoned, reserve):
    """The same rows in another order: scores follow the rows, and as many are found."""
    order = np.random.default_rng(0).permutation(len(poisoned.dataset))
    shuffled = SMALL.inspect(poisoned.dataset[order], reserve, Runtime(device="cpu", seed=3))
    truth = np.isin(order, poisoned.planted)
    assert shuffled.flagged[truth].mean() > 0.9


def test_a_blur_is_seen_in_texture_alone(numerals, reserve):
    """Every pixel of a blurred picture is likely enough; only its fine detail is not."""
    from scipy.ndimage import uniform_filter

    train, target = numerals[0], 4
    rows = np.random.default_rng(0).permutation(np.flatnonzero(train.labels != target))[:60]
    inputs, labels = np.array(train.inputs), train.labels.copy()
    inputs[rows], labels[rows] = uniform_filter(inputs[rows], (1, 3, 3, 1)), target
    findings = SMALL.inspect(replace(train, inputs=inputs, labels=labels), reserve, Runtime(device="cpu", seed=3))
    assert [c.index for c in findings.classes if c.suspect] == [target]
    assert findings.flagged[rows].mean() > 0.8
    assert np.delete(findings.flagged, rows).mean() < 0.01
    gaps = findings.evidence["gaps by view"]
    pixels = sorted(gap for name, gap in gaps.items() if not name.startswith("texture"))
    assert pixels[-2] < findings.evidence["gap needed"]  # no two views of pixels would have named anything
    assert all(gap > pixels[-1] for name, gap in gaps.items() if name in {"texture 2", "texture 3"})


def test_the_paper_preset_is_the_published_column():
    paper = PRESETS["paper"]
    assert paper.keep == (1 / 2, 1 / 5, 1 / 25, 1 / 50, 1 / 100)
    assert paper.pretrain_epochs == (100, 100, 40, 40, 40, 40)
    assert paper.confusion_steps == (6000, 6000, 6000, 6000, 2000, 2000)
    assert paper.reserve_weight == (20, 20, 20, 30, 30, 15)
    assert paper.norm == "split"


PUBLISHED = replace(
    PRESETS["paper"],
    network="small",
    teacher_epochs=1,
    keep=(0.2,),
    pretrain_epochs=(4.0, 8.0),
    pretrain_lr=0.05,
    confusion_steps=(120, 80),
    confusion_lr=(0.01, 0.01),
    confusion_momentum=(0.7, 0.7),
    reserve_weight=(20.0, 20.0),
    mix_every=(2, 2),
    class_weights=(True, False),
)
"""The paper preset's path (teacher, warm start, mixed last round, ranking by loss, class test) at a hundredth of its length."""


def test_the_published_procedure_runs_and_ranks_the_patch_high(poisoned, reserve):
    train, truth = poisoned.dataset[:1000], np.isin(np.arange(1000), poisoned.planted)
    findings = PUBLISHED.inspect(train, reserve, Runtime(device="cpu", seed=1))
    assert np.median(findings.scores[truth]) > np.quantile(findings.scores[~truth], 0.95)
    # 4 epochs of 1,000; then 8 of the distilled 200 and the reserve's 600; and both confusions, mixed at every second step.
    steps = 4 * 1000 / 32 + 8 * 800 / 32 + 120 + 60 + 80 + 40
    assert findings.evidence["images trained"] / 32 == pytest.approx(steps, abs=3)


def test_the_older_decision_judges_the_same_scores(few, reserve):
    short = replace(PUBLISHED, pretrain_epochs=(0.2, 0.2), confusion_steps=(4, 4))
    first, older = (
        replace(short, decision=d).inspect(few[:200], reserve[:200], Runtime(device="cpu", seed=1)) for d in ("likelihood", "em")
    )
    np.testing.assert_array_equal(older.scores, first.scores)
    assert older.flagged.dtype == bool
    assert [c.statistic for c in older.classes] != [c.statistic for c in first.classes]


def test_shift_never_names_the_right_class():
    steps = [shift(b, 10) for b in range(20)]
    assert steps[:10] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 1]
    assert all(1 <= s <= 9 for s in steps)
    assert [shift(b, 2) for b in range(3)] == [1, 1, 1]


def test_class_floor_keeps_every_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1000)
    order = np.argsort(labels, kind="stable")  # all of class 0 first: the others live by the floor alone
    assert len(distil(order, labels, 5, 0.001, 50)) >= 16  # a fold of few rows may get none
    kept = distil(order, labels, 5, 0.1, 50)
    counts, total = np.bincount(labels[kept], minlength=5), np.bincount(labels, minlength=5)
    assert len(kept) >= 100
    assert (counts[1:] == total[1:] // 50).all()
    assert counts[0] == 100


def test_median_band_is_the_middle_of_each_class():
    loss = np.arange(200, dtype=float)
    labels = np.repeat([0, 1], 100)
    band = median_band(loss, labels, 2)
    assert np.flatnonzero(band[:100]).tolist() == list(range(45, 55))
    assert band.sum() == 20


def test_combine_counts_the_first_round_half_and_ignores_canaries_scale():
    a, b = np.array([1.0, -1.0, 50.0], np.float32), np.array([2.0, -2.0, 0.0], np.float32)
    ignore = np.array([False, False, True])
    got = combine([a, b], 3, ignore)
    assert np.allclose(got[:2], [1.0, -1.0])
    assert got[2] == pytest.approx((0.5 * 50 + 0) / 1.5)


def test_batches_cover_everything_before_repeating():
    generator = torch.Generator().manual_seed(0)
    stream = batches(torch.arange(10), 5, generator)
    assert sorted(torch.cat([next(stream), next(stream)]).tolist()) == list(range(10))
    assert len(next(batches(torch.arange(3), 8, generator))) == 3


def test_the_reserve_is_split_by_class(reserve):
    held, rest = split_reserve(reserve, 0.25, 0)
    assert len(held) + len(rest) == len(reserve)
    assert not set(held.ids) & set(rest.ids)
    assert (np.abs(held.class_counts - reserve.class_counts / 4) <= 1).all()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"keep": (0.1,)}, "2 rounds"),
        ({"members": 3}, "members"),
        ({"keep": (0.0, 0.1)}, "keep"),
        ({"control_share": 1.0}, "control_share"),
        ({"texture": True, "sharpen": False}, "texture"),
    ],
)
def test_impossible_settings_are_refused_with_their_name(settings, word):
    with pytest.raises(InputError, match=word):
        ConfusionTraining(**settings)


def test_settings_that_these_data_cannot_have_are_refused_before_any_training(few, reserve, monkeypatch):
    monkeypatch.setattr("tocsin.detectors.distillation.pretrain", lambda *args: pytest.fail("it trained"))
    with pytest.raises(InputError, match="confused_layers: got first"):
        replace(TINY, confused_layers="first").inspect(few, reserve, Runtime(device="cpu"))
    tiny = [replace(data, inputs=data.inputs[:, :6, :6]) for data in (few, reserve)]
    with pytest.raises(InputError, match="texture: only pictures"):
        TINY.inspect(*tiny, Runtime(device="cpu"))


def test_unknown_preset():
    with pytest.raises(InputError, match=r"allowed: fast, thorough, .*paper"):
        ConfusionTraining.preset("quick")
