from __future__ import annotations

from math import comb

import numpy as np
import pytest

from tocsin.stats.calibration import conformal, excess, excess_among, surprise, tail_excess, upper_limit


def plain_conformal(scores, control):
    return np.array([(1 + sum(c >= s for c in control)) / (len(control) + 1) for s in scores])


def test_a_control_row_is_as_surprising_as_a_row_like_it():
    values = np.array([5.0, 1, 3, 3, 0, 9])
    control = np.array([False, False, True, True, True, True])
    np.testing.assert_allclose(surprise(values, control), -np.log10([2 / 5, 4 / 5, 3 / 4, 3 / 4, 1, 1 / 4]))
    np.testing.assert_array_equal(surprise(values, np.zeros(6, bool)), 0)


@pytest.mark.parametrize("m", [0, 1, 2, 7, 50])
def test_conformal_counts_ties_and_small_controls(m):
    rng = np.random.default_rng(m)
    scores, control = rng.integers(0, 5, 40).astype(float), rng.integers(0, 5, m).astype(float)
    np.testing.assert_allclose(conformal(scores, control), plain_conformal(scores, control))


def test_conformal_is_valid_and_a_higher_score_has_no_higher_p():
    rng = np.random.default_rng(0)
    p = np.concatenate([conformal(rng.normal(size=50), rng.normal(size=19)) for _ in range(400)])
    for level in (0.05, 0.25, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.02)
    s = np.sort(rng.normal(size=30))
    assert (np.diff(conformal(s, rng.normal(size=9))) <= 0).all()


def test_upper_limit_is_where_conformal_p_falls_below_the_share():
    rng = np.random.default_rng(1)
    control = rng.normal(size=199)
    limit = upper_limit(control, 0.05)
    s = rng.normal(size=1000)
    np.testing.assert_array_equal(s > limit, conformal(s, control) <= 0.05)
    assert upper_limit(control[:10], 0.05) == np.inf
    assert upper_limit(np.empty(0), 0.5) == np.inf


def plain_fisher(a, n, b, m):
    """Chance of b or fewer of the a + b among the m, by counting."""
    return sum(comb(m, j) * comb(n, a + b - j) for j in range(b + 1)) / comb(n + m, a + b)


def test_excess_is_fishers_test():
    cases = np.array([[150, 5000, 0, 200], [8, 20, 1, 10], [30, 100, 2, 40], [5, 5, 0, 3]])
    found, sizes, control_found, control_sizes = cases.T
    np.testing.assert_allclose(excess(found, sizes, control_found, control_sizes), [plain_fisher(*map(int, c)) for c in cases], rtol=1e-9)


def test_excess_says_nothing_without_a_control_or_a_real_difference():
    p = excess(np.array([5, 0, 0, 1900]), np.array([10, 10, 0, 10000]), np.array([0, 3, 2, 1000]), np.array([0, 10, 10, 10000]))
    np.testing.assert_array_equal(p, 1.0)  # the last is significant, but 1.9 times is not twice


def test_only_candidates_have_p_values_and_these_are_multiplied():
    counts = np.array([[30, 30, 30], [100, 100, 100], [0, 0, 9], [40, 40, 30]])
    one = excess(*counts)
    got = excess_among(np.array([True, True, False]), counts, times=4)
    np.testing.assert_allclose(got, [4 * one[0], 4 * one[1], 1.0])


def test_tail_excess_needs_the_classs_own_reserve_too():
    rng = np.random.default_rng(2)
    labels, control_labels = np.repeat(np.arange(5), 400), np.repeat(np.arange(5), 100)
    scores, control = rng.normal(size=2000), rng.normal(size=500)
    scores[:60] += 8
    limits, p = tail_excess(scores, labels, control, control_labels, 5, 0.01)
    assert (scores > limits[labels])[:60].all()
    assert p[0] < 0.001
    assert (p[1:] > 0.05).all()
    control[:15] += 8  # now class 0 is like that by nature
    _, p = tail_excess(scores, labels, control, control_labels, 5, 0.05)
    assert p[0] > 0.05


def test_a_class_is_judged_alone_where_the_others_tails_are_heavier():
    rng = np.random.default_rng(2)
    labels, control_labels = np.repeat(np.arange(5), 400), np.repeat(np.arange(5), 100)
    scores, control = rng.normal(size=2000), rng.normal(size=500)
    scores[400:] *= 20
    control[100:] *= 20
    scores[:60] += 8  # far out for class 0, ordinary for the others
    limits, p = tail_excess(scores, labels, control, control_labels, 5, 0.01)
    assert p[0] < 0.001
    assert limits[0] == control[:100].max()
    assert (p[1:] > 0.05).all()


def test_tail_excess_of_clean_scores_keeps_its_level():
    loud = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        _, p = tail_excess(rng.normal(size=1000), np.arange(1000) % 10, rng.normal(size=200), np.arange(200) % 10, 10, 0.01)
        loud += p.min() <= 0.05
    assert loud <= 15


def test_tail_excess_without_any_control_is_silent():
    _, p = tail_excess(np.arange(4.0), np.arange(4) % 2, np.empty(0), np.empty(0, np.int64), 3, 0.01)
    np.testing.assert_array_equal(p, 1.0)
