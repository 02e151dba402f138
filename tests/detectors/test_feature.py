from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.planted import planted, victim_of
from tocsin.detectors import DETECTORS
from tocsin.detectors.feature import FeatureDetector, Readings, confidence
from tocsin.errors import InputError

names = pytest.mark.parametrize("name", [name for name, cls in DETECTORS.items() if issubclass(cls, FeatureDetector)])


def test_confidence_is_the_smallest_p_value_or_the_rest_of_it():
    assert confidence(np.array([0.5, 0.01]), True) == 0.99
    assert confidence(np.array([0.5, 0.2]), False) == 0.2
    assert confidence(np.empty(0), False) == 1.0


@names
def test_the_paper_preset_takes_the_published_rule(name):
    cls = DETECTORS[name]
    assert cls.preset("fast") == cls()
    paper = cls.preset("paper")
    assert (paper.preset_name, paper.decision) == ("paper", "paper")
    assert all(getattr(paper, field) == value for field, value in cls.paper.items())
    assert cls.preset("paper", alpha=0.2).alpha == 0.2
    case = planted(classes=4)
    assert paper.judge(case.victim()).preset == "paper"


@names
def test_features_on_disk_give_the_same_answer(name, tmp_path):
    case = planted(share=0.2, classes=4)
    np.save(tmp_path / "x.npy", case.features)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    detector = DETECTORS[name]()
    expected = detector.judge(case.victim())
    got = detector.judge(victim_of(stored, case.labels, case.reserve_features, case.reserve_labels, 4))
    np.testing.assert_array_equal(got.scores, expected.scores)
    np.testing.assert_array_equal(got.control, expected.control)


@names
@pytest.mark.parametrize("wide", [np.float16, np.float64])
def test_other_floats_are_taken(name, wide):
    case = planted(share=0.2, classes=4)
    victim = victim_of(case.features.astype(wide), case.labels, case.reserve_features.astype(wide), case.reserve_labels, 4)
    assert DETECTORS[name]().judge(victim).flagged[case.poison].mean() > 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("side", ["features", "reserve features"])
def test_rows_that_are_no_numbers_are_named(value, side):
    case = planted(classes=2)
    victim = case.victim()
    x = getattr(victim, side.replace(" ", "_"))
    x[[7, 30], 2] = value
    with pytest.raises(InputError, match=rf"^{side}: 2 of {len(x)} rows hold NaN.*the first is row 7.*diverged"):
        Readings.of(victim)


@pytest.mark.parametrize(
    ("shape", "kind", "word"),
    [
        ((400, 2, 2), "f4", "shape"),
        ((3, 4), "f4", "shape"),
        ((400, 4), "i8", "int64"),
        ((400, 0), "f4", "shape"),
        ((400, 5), "f4", "reserve features: got 32 a sample, the inspected have 5"),
    ],
)
def test_arrays_of_another_form_are_refused(shape, kind, word):
    case = planted(classes=2)
    with pytest.raises(InputError, match=word):
        Readings.of(victim_of(np.zeros(shape, kind), case.labels, case.reserve_features, case.reserve_labels, 2))
