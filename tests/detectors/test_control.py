"""Far scores against a small control: how often the test speaks of clean data, and what it sees that ranks cannot."""

from __future__ import annotations

import numpy as np
import pytest

from tocsin.detectors.control import Tail, against_control, control_test, far_test
from tocsin.detectors.decide import Scored


@pytest.mark.parametrize("law", ["exponential", "normal", "gumbel"])
def test_clean_scores_are_not_called_far(law):
    rng = np.random.default_rng(0)
    draw = getattr(rng, law)
    assert min(far_test(draw(size=4000), Tail.of(draw(size=500))) for _ in range(60)) > 0.05


def test_a_few_far_scores_are_seen_where_ranks_say_nothing():
    rng = np.random.default_rng(1)
    scores, control = np.concatenate([rng.normal(size=3980), 7 + rng.normal(size=20)]), rng.normal(size=400)
    assert control_test(scores, np.zeros(4000, int), control, np.zeros(400, int), 1)[0] > 0.1
    assert far_test(scores, Tail.of(control)) < 0.005


def test_seven_odd_samples_are_too_few_and_so_is_a_small_control():
    rng = np.random.default_rng(2)
    scores, control = rng.normal(size=2000), rng.normal(size=400)
    scores[:7] = 50
    assert far_test(scores, Tail.of(control)) > 0.1
    scores[:8] = 50
    assert far_test(scores, Tail.of(control)) < 0.01
    assert far_test(scores, Tail.of(control[:100])) == 1.0
    assert far_test(scores[:5], Tail.of(control)) == 1.0
    assert far_test(scores, Tail.of(np.zeros(400))) == 1.0


def test_the_verdict_flags_the_far_ones_alone():
    rng = np.random.default_rng(3)
    scores, control = np.concatenate([rng.normal(size=3980), 7 + rng.normal(size=20)]).astype(np.float32), rng.normal(size=400)
    seen = Scored([], np.zeros(4000, int), ("all",), np.zeros(4000, bool), control_labels=np.zeros(400, int))
    assert not against_control(scores, control, seen).flagged.any()
    flagged = against_control(scores, control, seen, far=True).flagged
    assert flagged[3980:].mean() > 0.9
    assert flagged[:3980].mean() < 0.005
