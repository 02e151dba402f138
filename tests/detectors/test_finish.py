"""Once a class is named: what is flagged later is counted, told and put before the rest of its class."""

from __future__ import annotations

import numpy as np

from tests.detectors.handmade import noise_set
from tocsin.detectors.base import ClassEvidence
from tocsin.detectors.decide import Verdict
from tocsin.detectors.finish import put_first, with_further

TRAIN = noise_set(12, 0)  # classes 0, 1, 2 in turns
REAL = np.arange(12) != 9
FIRST = np.isin(np.arange(12), [0, 3])


def verdict_of(flagged: np.ndarray) -> Verdict:
    return Verdict(flagged, tuple(ClassEvidence(k, str(k), 4, 2 if k == 0 else 0, 1.0, 0.5, k == 0) for k in range(3)), 0.9, 5.0)


def test_what_each_step_adds_is_counted_and_told() -> None:
    found, alike = verdict_of(FIRST), FIRST | np.isin(np.arange(12), [6])
    more = with_further(found, {"likeness": alike, "leftover": alike}, TRAIN, REAL)
    assert [c.flagged for c in more.classes] == [3, 0, 0]
    assert (more.evidence, more.flagged.sum()) == ({"likeness": {"0": 1}}, 3)
    more = with_further(found, {"likeness": FIRST, "leftover": alike | np.isin(np.arange(12), [1])}, TRAIN, REAL)
    assert more.evidence == {"leftover": {"0": 1, "1": 1}}
    assert with_further(found, {"likeness": FIRST, "leftover": FIRST}, TRAIN, REAL) is found


def test_the_flagged_of_a_class_come_before_its_others() -> None:
    scores = np.arange(12, 0, -1).astype(np.float32)
    scores[9] = 99  # not the person's: no measure
    flagged = np.isin(np.arange(12), [3, 6])
    out = put_first(scores, flagged, TRAIN.labels, REAL)
    assert (out[flagged] > scores[0]).all()
    np.testing.assert_array_equal(out[~flagged], scores[~flagged])
    assert out.dtype == np.float32
    already = np.isin(np.arange(12), [0, 3])
    np.testing.assert_array_equal(put_first(scores, already, TRAIN.labels, REAL), scores)
    whole = TRAIN.labels == 1
    np.testing.assert_array_equal(put_first(scores, whole, TRAIN.labels, REAL), scores)
