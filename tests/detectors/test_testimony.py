"""What scouts say of the samples themselves, where they know more than the separators learn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tests.detectors.test_asset_unlabelled import Told
from tocsin.detectors.asset import Asset
from tocsin.detectors.decide import Scored, Verdict, tail
from tocsin.detectors.testimony import SHARE, said_by_scouts
from tocsin.runtime import Runtime

CLASSES, SIZE, HELD = 10, 400, 150


def drawn(seed: int, poisoned: float) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(logits of two runs, of inspected and control samples; labels; which are poisoned, all of class 3)."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(CLASSES), SIZE), np.repeat(np.arange(CLASSES), HELD)])
    truth = np.zeros(len(labels), bool)
    truth[3 * SIZE : 3 * SIZE + round(poisoned * SIZE)] = True
    known = rng.normal(size=len(labels)) + 4 * truth
    return [(known + 0.5 * rng.normal(size=len(labels))).astype(np.float32) for _ in range(2)], labels, truth[: CLASSES * SIZE]


def verdict(logits: list[np.ndarray], labels: np.ndarray) -> Verdict:
    n, rng = CLASSES * SIZE, np.random.default_rng(9)
    said = said_by_scouts(logits, labels, n, np.full(CLASSES, HELD)).part(slice(n))
    separators = [{f"run {run}": rng.normal(size=n)} for run in (1, 2)]
    names = tuple(str(k) for k in range(CLASSES))
    return tail(Scored(separators, labels[:n], names, np.zeros(n, bool), None, share=1 - SHARE, further=(said,)))


def test_a_class_is_named_by_the_scouts_alone():
    logits, labels, truth = drawn(0, 0.2)
    said = verdict(logits, labels)
    assert [entry.index for entry in said.classes if entry.suspect] == [3]
    assert said.flagged[truth].mean() > 0.85
    assert said.flagged[~truth].mean() < 0.01
    assert said.view == "scouts"


@pytest.mark.parametrize("seed", range(5))
def test_clean_samples_are_left_alone(seed):
    assert not verdict(*drawn(seed, 0.0)[:2]).flagged.any()


def test_classes_are_measured_by_their_own_control():
    """A class in which scouts see more than in others, in its clean samples too, is none to be named."""
    logits, labels, _ = drawn(1, 0.0)
    assert not verdict([values + 3 * (labels == 5) for values in logits], labels).flagged.any()


def test_asset_listens_to_them_where_they_read_a_victim():
    """Nothing in the pictures tells poison, so that no separator can learn it; the victim's features do.

    So many are concentrated and held out as ASSET's law for large sets asks for. With 15 and 50 the separators alone bring class 3 to 0.9
    to 2.3 (2.07 names it), farther than any other class in all of ten runs: whatever is concentrated is of it, and so small a control
    hardly shows that its clean samples are driven away too. Here they come to 0.5 to 0.7.
    """
    train, reserve, runtime = pictures(1500, seed=0), pictures(1000, seed=1000), Runtime(device="cpu", seed=1)
    truth = np.zeros(1500, bool)
    truth[np.flatnonzero(train.labels == 3)[::3]] = True
    quick = {"features": "victim", "share": 0.07, "steps_least": 40, "batch": 128, "scout_steps": 100, "fine_detail": False}
    for shift, heard, named in ((6.0, True, [3]), (6.0, False, []), (0.0, True, [])):
        detector = Asset.preset("fast", **quick, hear_scouts=heard)
        found = detector.inspect(train, reserve, runtime, victim=Told.of(train, reserve, truth, shift))
        assert [entry.index for entry in found.classes if entry.suspect] == named
        assert not named or found.flagged[truth].mean() > 0.8
        assert found.flagged[~truth].mean() < 0.02
        assert len(found.scores) == 1500
        assert len(found.control) > 0
