"""ASSET without labels: spread for loss and score, and a decision against the held-out reserve that can say "nothing found"."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.detectors.synthetic import pictures
from tocsin.attacks import BadNet
from tocsin.auditing import audit
from tocsin.data.dataset import Dataset
from tocsin.detectors.asset import Asset
from tocsin.detectors.scout import ScoutSettings, whole_set
from tocsin.detectors.separation import Parts, halves, levelled
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.paradigms import SelfSupervised
from tocsin.poisoning import poison
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=1)
QUICK = {"steps_least": 60, "scout_steps": 100, "batch": 128, "runs": 1, "share": 0.02}
UNLABELLED = Asset.by_setting["self-supervised"]


def stamped(count: int, seed: int, rate: float) -> tuple[Dataset, np.ndarray]:
    """Pictures without labels, a share of which shows a patch."""
    clean = pictures(count, seed=seed)
    truth = np.zeros(count, bool)
    truth[np.random.default_rng(seed).choice(count, round(rate * count), replace=False)] = True
    inputs = clean.inputs.copy()
    inputs[truth] = BadNet().trigger(inputs[truth])
    return replace(clean, inputs=inputs).unlabelled(), truth


class Told(Victim):
    """A victim whose features are given: a few directions of noise, and one that poison stands out in by ``shift``."""

    @classmethod
    def of(cls, train: Dataset, reserve: Dataset, truth: np.ndarray, shift: float) -> Victim:
        rng = np.random.default_rng(0)
        ours, theirs = (rng.normal(size=(len(data), 8)).astype(np.float32) for data in (train, reserve))
        ours[truth, 0] += shift
        return Victim.untrained(train, reserve, CPU).holding(ours, theirs)


def found(train: Dataset, truth: np.ndarray, shift: float = 8.0, **changes: object):
    reserve = pictures(600, seed=1000).unlabelled()
    detector = Asset.preset("fast", **{**UNLABELLED["fast"], **QUICK, **changes})
    return detector.inspect(train, reserve, CPU, victim=Told.of(train, reserve, truth, shift))


def test_poison_is_found_without_labels_and_no_class_is_named():
    train, truth = stamped(1500, 0, 0.03)
    answer = found(train, truth)
    assert answer.flagged[truth].mean() > 0.9
    assert answer.flagged[~truth].mean() < 0.01
    assert roc_auc_score(truth, answer.scores) > 0.98
    assert [(c.name, c.suspect) for c in answer.classes] == [("unlabelled", False)]
    assert answer.classes[0].flagged == answer.flagged.sum()
    assert answer.confidence > 0.9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_data_are_left_alone_and_score_as_the_control_does(seed):
    train, truth = stamped(1500, seed, 0.0)
    answer = found(train, truth)
    assert not answer.found
    marks = np.repeat([1, 0], [len(answer.scores), len(answer.control)])
    assert roc_auc_score(marks, np.concatenate([answer.scores, answer.control])) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("shift", "heard", "caught"), [(8.0, True, True), (8.0, False, False), (0.0, True, False)])
def test_scouts_alone_are_heard_where_the_encoder_knows_what_no_separator_sees(shift, heard, caught):
    """Nothing in the inputs tells poison; the features do."""
    train, _ = stamped(1500, 0, 0.0)
    truth = np.arange(1500) % 25 == 0
    answer = found(train, truth, shift, hear_scouts=heard)
    assert answer.found == caught
    assert not caught or answer.flagged[truth].mean() > 0.9
    assert answer.flagged[~truth].mean() < 0.01
    assert ("scouts" in answer.evidence["p by view"]) == heard


def test_features_that_know_nothing_find_nothing():
    train, truth = stamped(1500, 3, 0.03)
    assert not found(train, truth, shift=0.0).found


def test_the_published_procedure_runs_without_labels():
    train, truth = stamped(400, 0, 0.1)
    reserve = pictures(200, seed=1000).unlabelled()
    short = {"victim_network": "small", "victim_epochs": 1, "network": "small", "batch": 100, "scout_steps": 5}
    detector = Asset.preset("paper", **{**UNLABELLED["paper"], **short})
    answer = detector.inspect(train, reserve, CPU, victim=Told.of(train, reserve, truth, 5.0))
    assert np.isfinite(answer.scores).all()
    assert not any(c.suspect for c in answer.classes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"labels": False}, "features=victim"),
        ({**UNLABELLED["fast"], "scout_labels": True}, "scout_labels=false"),
        ({**UNLABELLED["fast"], "decision": "tail"}, "other than tail"),
        ({**UNLABELLED["fast"], "outputs": 1}, "two outputs"),
        ({**UNLABELLED["fast"], "cross_fit": False}, "needs cross_fit"),
        ({**UNLABELLED["fast"], "control_share": 0.0}, "control_share"),
    ],
)
def test_what_needs_labels_is_refused(changes, word):
    with pytest.raises(InputError, match=word):
        Asset(**changes)


def test_halves_keep_duplicates_together_and_are_the_separators_own():
    groups = np.repeat(np.arange(50), 4)
    parts = Parts(groups, None, np.arange(200, 261))
    fold = halves(parts, 2, 7, 0)
    assert fold.shape == (261,)
    assert all(len(set(fold[:200][groups == g])) == 1 for g in range(50))
    assert abs((fold[200:] == 0).sum() - 30.5) < 1
    assert np.array_equal(fold, halves(parts, 2, 7, 0))
    assert not np.array_equal(fold, halves(parts, 2, 7, 1))


def test_two_separators_are_brought_to_one_scale():
    rng = np.random.default_rng(0)
    fold = np.arange(2000) % 2
    values = np.exp(rng.normal(size=2000) * np.where(fold == 0, 1.0, 3.0) + np.where(fold == 0, 0.0, 5.0))
    level = levelled(values, fold, 1000)
    for f in (0, 1):
        assert np.median(level[1000:][fold[1000:] == f]) == pytest.approx(0.0, abs=1e-9)
        assert level[:1000][fold[:1000] == f].std() == pytest.approx(1.0, abs=0.15)
    assert np.isfinite(levelled(np.zeros(10), np.arange(10) % 2, 5)).all()


def test_an_audit_says_the_same_whatever_the_labels_are():
    """No label leaks: encoder, scouts, separators and decision see pictures alone."""
    clean, reserve = pictures(400, seed=1), pictures(240, seed=2)
    made = poison(clean, BadNet(rate=0.05, target=3), 0).dataset
    shuffled = replace(made, labels=np.random.default_rng(0).permutation(made.labels))
    setting = SelfSupervised(network="small-narrow", epochs=1, batch=64)
    few = {"steps_least": 6, "scout_steps": 10, "runs": 1}
    reports = [audit(data, reserve, setting=setting, params=few, runtime=CPU) for data in (made, shuffled, made.unlabelled())]
    for report in reports:
        assert np.array_equal(report.findings.scores, reports[0].findings.scores)
        assert np.array_equal(report.findings.control, reports[0].findings.control)
        assert report.canaries == ()
        assert report.findings.detector == "asset"
        assert report.findings.evidence["settings"]["decision"] == "control"
    assert "have none" in " ".join(reports[0].advice)


def test_the_encoder_learns_from_the_reserve_too(monkeypatch):
    """Else the control would look unlike clean inspected samples."""
    seen = []
    monkeypatch.setattr("tocsin.contrastive.pretrain", lambda network, inputs, *rest, **more: seen.append(inputs) or network)
    train, reserve = pictures(30, seed=1).unlabelled(), pictures(20, seed=2).unlabelled()
    SelfSupervised().victim(train, reserve, CPU)
    assert np.array_equal(seen[0], np.concatenate([train.inputs, reserve.inputs]))
    SelfSupervised().encoder(train, CPU)
    assert np.array_equal(seen[1], train.inputs)


def test_each_of_the_others_is_told_of_by_the_scout_that_it_is_given_to():
    rng, cpu = np.random.default_rng(0), torch.device("cpu")
    ours, base, others = rng.normal(size=(200, 4)), rng.normal(size=(50, 4)), rng.normal(size=(30, 4))
    fold, given = rng.integers(0, 3, 200), np.arange(30) % 3
    how = ScoutSettings((8,), 20, 1e-2, "bce", 32)
    both = [whole_set(ours, base, others, fold, how, 5, cpu, lambda: None, told_by) for told_by in (None, given)]
    each = [whole_set(ours, base, others, fold, how, 5, cpu, lambda: None, np.full(30, f))[1] for f in range(3)]
    assert np.array_equal(both[0][0], both[1][0])
    assert both[0][1] == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert np.array_equal(both[1][1], np.choose(given, each))
