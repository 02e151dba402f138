from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.stats.outlyingness import adjusted_outlyingness, lower_half_threshold, medcouple, select

FIRST, SECOND = [0, 1, 2, 3, 4, 5, 6, 20], [1, 1, 1, 2, 2, 3, 5, 8, 13]


def by_pairs(values: list[float]) -> float:
    """The definition of the medcouple, pair by pair (specification 2.5)."""
    x = sorted(values)
    middle = float(np.median(x))
    low, high = [v for v in x if v <= middle], [v for v in x if v >= middle]
    ties = sum(v == middle for v in x)
    out = []
    for i, u in enumerate(low):
        for j, v in enumerate(high):
            if u == v:
                a, b = i - (len(low) - ties) + 1, j + 1
                out.append(float(np.sign(a + b - 1 - ties)))
            else:
                out.append(((v - middle) - (middle - u)) / (v - u))
    return float(np.median(out))


def test_golden_values_of_the_specification():
    assert medcouple(np.array(FIRST)) == pytest.approx(0)
    ao = adjusted_outlyingness(np.array(FIRST))
    assert (ao[-1], ao[0]) == pytest.approx((2.3571, 0.5), abs=1e-4)
    assert medcouple(np.array(SECOND)) == pytest.approx(0.607142857)
    ao = adjusted_outlyingness(np.array(SECOND))
    assert (ao[8], ao[0], ao[7]) == pytest.approx((0.2744, 0.6540, 0.1497), abs=1e-4)
    assert adjusted_outlyingness(np.array(FIRST), whisker=True)[-1] == pytest.approx(6.6)
    mirror = -np.array(FIRST, float)
    assert adjusted_outlyingness(mirror)[-1] == pytest.approx(2.3571, abs=1e-4)
    assert select(mirror, "ao")[-1]
    assert not select(mirror, "ao_upper").any()


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=25))
def test_medcouple_is_the_definition_with_ties_too(values):
    assert medcouple(np.array(values, float)) == pytest.approx(by_pairs(values), abs=1e-12)
    assert medcouple(-np.array(values, float)) == pytest.approx(-by_pairs(values), abs=1e-12)


def test_no_spread_is_no_outlier():
    assert (adjusted_outlyingness(np.ones(9)) == 0).all()
    assert (adjusted_outlyingness(np.array([1.0] * 20 + [5.0])) == 0).all()
    assert medcouple(np.array([1.0, 2.0])) == 0
    for rule in ("ao", "ao_upper", "mad", "half"):
        assert not select(np.ones(9), rule).any()


@pytest.mark.parametrize(
    ("share", "shift", "rule", "least", "most"),
    [
        (0.05, 8, "ao_upper", 0.7, 1.0),
        (0.05, 8, "half", 0.99, 1.0),
        (0.05, 8, "mad", 0.99, 1.0),
        (0.10, 8, "ao_upper", 0.1, 0.6),
        (0.20, 8, "ao_upper", 0.0, 0.02),  # pitfall P5: a large group pushes the fence past itself
        (0.20, 8, "half", 0.99, 1.0),
        (0.05, 4, "half", 0.25, 0.65),
    ],
)
def test_recall_of_the_rules_is_as_specified(share, shift, rule, least, most):
    """Table of pitfall P5: 512 normal scores, a part of them shifted."""
    recalls, precise = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        poison = np.arange(512) < round(share * 512)
        picked = select(rng.normal(size=512) + shift * poison, rule)
        recalls.append(picked[poison].mean())
        if picked.any():
            precise.append(picked[poison].mean() * poison.sum() / picked.sum())
    assert least <= np.mean(recalls) <= most
    assert most < 0.1 or np.mean(precise) > 0.9


def test_two_sided_selection_takes_clean_samples_at_high_rates():
    """Why `ao_upper` exists: the lower fence tightens, and what the scout finds too clean is taken."""
    rng = np.random.default_rng(0)
    poison = np.arange(512) < 154
    picked = select(rng.normal(size=512) + 8 * poison, "ao")
    assert picked.any()
    assert not picked[poison].any()


def test_top_takes_its_share_and_at_least_one():
    r = np.arange(100.0)
    assert np.flatnonzero(select(r, "top", share=0.02)).tolist() == [98, 99]
    assert select(r, "top", share=1e-6).sum() == 1
    assert not len(select(np.empty(0), "top"))


def test_thresholds_of_the_specification():
    scores = np.arange(1, 101) / 100
    for eps, shipped, intended, free in ((1e-3, 0.57760, 0.82951, 0.79138), (1e-6, 0.71123, 1.04098, 1.01356)):
        assert lower_half_threshold(scores, "shipped", eps) == pytest.approx(shipped, abs=1e-5)
        assert lower_half_threshold(scores, "intended", eps) == pytest.approx(intended, abs=1e-5)
        assert lower_half_threshold(scores, "scale-free", eps) == pytest.approx(free, abs=1e-5)
    assert lower_half_threshold(scores * 50 + 3) == pytest.approx(50 * lower_half_threshold(scores) + 3)


@pytest.mark.parametrize(("deviation", "shipped", "free"), [(0.05, 0.47, 0.009), (1.0, 0.0009, 0.009)])
def test_false_alarms_of_the_formulas_on_clean_scores(deviation, shipped, free):
    """Specification 2.6's table: the shipped formula depends on the unit of the scores."""
    scores = np.random.default_rng(0).normal(size=50_000) * deviation
    assert (scores > lower_half_threshold(scores, "shipped")).mean() == pytest.approx(shipped, rel=0.25)
    assert (scores > lower_half_threshold(scores)).mean() == pytest.approx(free, rel=0.25)
