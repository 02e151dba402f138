from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tocsin.stats.two_means import cut, two_means


def test_a_line_is_cut_exactly():
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=30).round(1)

        def gain(t, values=values):
            low, high = values[values <= t], values[values > t]
            return values.var() * 30 - low.var() * len(low) - high.var() * len(high)

        threshold, got = cut(values)
        best = max(gain(t) for t in np.unique(values)[:-1])
        assert got == pytest.approx(best)
        assert gain(threshold) == pytest.approx(best)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_nothing_to_cut(values):
    assert cut(np.array(values)) == (np.inf, 0.0)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_as_good_as_scikit_learn(share):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 6)).astype(np.float32)
    x[: round(share * 600), 2] += 9
    x -= x.mean(0)
    split = two_means(x, x)
    reference = KMeans(2, n_init=10, random_state=0).fit(x.astype(np.float64))
    total = float((x.astype(np.float64) ** 2).sum())
    assert total - split.gain <= reference.inertia_ * (1 + 1e-4)
    assert {split.second[: round(share * 600)].mean(), split.second[round(share * 600) :].mean()} == {0.0, 1.0}


def test_a_metric_is_the_same_as_whitened_points():
    rng = np.random.default_rng(6)
    x = (rng.normal(size=(400, 4)) * [1, 2, 5, 20]).astype(np.float64)
    x[:60, 0] += 8
    root = np.diag([1, 1 / 2, 1 / 5, 1 / 20])
    x -= x.mean(0)
    split, white = two_means(x, x @ root, root @ root), two_means(x @ root, x @ root)
    np.testing.assert_array_equal(split.second, white.second)
    np.testing.assert_allclose(split.side(x), white.side(x @ root), atol=1e-8)
    assert split.gain == pytest.approx(white.gain)
    nearer = np.square(x @ root - split.centres[0] @ root).sum(1) - np.square(x @ root - split.centres[1] @ root).sum(1)
    np.testing.assert_allclose(split.side(x), nearer / 2, atol=1e-8)


def test_equal_points_are_not_split():
    split = two_means(np.ones((5, 3), np.float32), np.ones((5, 3)))
    assert (split.gain, split.second.any()) == (0.0, False)
    assert not two_means(np.empty((0, 3), np.float32), np.empty((0, 3))).gain
