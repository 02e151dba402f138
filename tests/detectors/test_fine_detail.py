"""ASSET sees what a warp or a blur does to fine detail, in networks that are shown nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.detectors.synthetic import pictures
from tocsin.data.dataset import Dataset
from tocsin.detectors.asset import Asset
from tocsin.detectors.base import Findings
from tocsin.runtime import Runtime

SIZE, RESERVE, BLUR = 2000, 1600, 0.45


@lru_cache(maxsize=1)
def noisy() -> tuple[Dataset, Dataset]:
    """Clean pictures of six classes, with fine grain, and a reserve of which some 130 a class are held out."""
    return pictures(SIZE, seed=0), pictures(RESERVE, seed=1000)


def softened(data: Dataset, rows: np.ndarray, labels: np.ndarray) -> Dataset:
    """The pictures ``rows`` blurred by less than a pixel, and all with the given ``labels``."""
    inputs = np.array(data.inputs)
    inputs[rows] = gaussian_filter(inputs[rows].astype(np.float32), (0, BLUR, BLUR, 0)).round().astype(np.uint8)
    return Dataset.of_arrays(inputs, labels, data.classes)


def inspected(train: Dataset, **settings: object) -> Findings:
    return replace(Asset(), steps_least=30, **settings).inspect(train, noisy()[1], Runtime(device="cpu", seed=0))  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def poisoned() -> tuple[Dataset, np.ndarray]:
    """(blurred pictures of other classes, labelled 3; which)."""
    train = noisy()[0]
    truth = np.zeros(len(train), bool)
    truth[np.flatnonzero(train.labels != 3)[:160]] = True
    return softened(train, np.flatnonzero(truth), np.where(truth, 3, train.labels)), truth


def test_a_blur_is_found_by_it_and_by_nothing_else():
    train, truth = poisoned()
    found, without = inspected(train), inspected(train, fine_detail=False)
    assert not without.found
    assert [entry.index for entry in found.classes if entry.suspect] == [3]
    assert found.evidence["named by"] == {train.classes[3]: ["detail"]}
    assert found.flagged[truth].mean() > 0.9
    assert found.flagged[~truth].mean() < 0.03
    assert found.evidence["detail"][train.classes[3]] > 0
    assert found.threshold is None
    own = train.labels == 3
    assert found.scores[own & found.flagged].min() > found.scores[own & ~found.flagged].max()


def test_clean_pictures_are_left_alone():
    assert not inspected(noisy()[0]).found


def test_pictures_blurred_in_all_classes_name_none():
    """A camera that is a little out of focus is no trigger: no class has more of its pictures than another."""
    train = noisy()[0]
    rows = np.random.default_rng(3).permutation(len(train))[:200]
    assert not inspected(softened(train, rows, np.asarray(train.labels))).found


@pytest.mark.parametrize("settings", [{"fine_detail": False}, {"control_share": 0.1}])
def test_it_is_not_asked_where_it_is_not_wanted_or_the_control_is_small(settings):
    found = inspected(noisy()[0], **settings)
    assert "fine detail" not in found.timings
    assert "detail 1" not in found.evidence["gaps by view"]


def test_a_class_whose_suspects_are_not_known_again_is_not_named(monkeypatch: pytest.MonkeyPatch):
    """As mislabelled pictures are not, which have the texture of what they show."""
    monkeypatch.setattr("tocsin.detectors.texture_look.TextureLook.again", lambda *_: None)
    found = inspected(poisoned()[0])
    assert not found.found
    assert not found.flagged.any()
    assert found.evidence["named by"] == {}
