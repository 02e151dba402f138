from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, norm

from tocsin.stats.mmd import kernel_mmd
from tocsin.stats.robust import comparable, mad_index, robust_z


def test_robust_z_ignores_a_minority_and_survives_ties():
    values = np.concatenate([np.random.default_rng(0).normal(5, 2, 9000), np.full(900, 1000.0)])
    z = robust_z(values)
    assert np.median(z) == 0
    assert z[:9000].std() == pytest.approx(1, abs=0.15)
    assert (z[9000:] > 300).all()
    np.testing.assert_array_equal(robust_z(np.full(4, 7.0)), 0)
    assert robust_z(np.array([0, 0, 0, 0, 0, 3.0]))[-1] > 4
    assert len(robust_z(np.empty(0))) == 0


def test_index_is_one_sided_and_leaves_missing_classes_out():
    index = mad_index(np.array([1.0, 1.1, 0.9, 1.05, 0.95, 9.0, -9.0, np.nan]))
    assert index[5] > 7.39
    assert index[6] < -7.39  # the published two-sided index would name this one too
    assert index[7] == 0


def test_index_where_most_classes_are_equal():
    index = mad_index(np.array([0, 0, 0, 0, 3.0, 100.0]))
    assert (index[4:] > 7.39).all()
    assert np.isfinite(index).all()
    assert not index[:4].any()
    assert np.abs(mad_index(5 + 1e-15 * np.arange(6.0))).max() < 1e-6
    assert not mad_index(np.zeros(4)).any()
    assert not mad_index(np.full(3, np.nan)).any()


@pytest.mark.parametrize("degrees", [1, 5, 64])
def test_scores_of_any_dimension_compare(degrees):
    squares = chi2.ppf((np.arange(5000) + 0.5) / 5000, degrees)
    for level in (0.95, 0.99, 0.999):
        assert np.quantile(comparable(squares), level) == pytest.approx(norm.ppf(level), abs=0.15)


def test_mmd_is_the_plain_sum():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(12, 3)), rng.normal(1, 1, size=(9, 3))
    points = np.concatenate([a, b])
    squares = [float(np.sum((p - q) ** 2)) for i, p in enumerate(points) for q in points[:i]]
    width = np.median(squares)
    k = lambda p, q: np.exp(-np.sum((p - q) ** 2) / width)  # noqa: E731
    inner = lambda x: np.mean([k(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j])  # noqa: E731
    assert kernel_mmd(a, b) == pytest.approx(inner(a) + inner(b) - 2 * np.mean([k(p, q) for p in a for q in b]))
    assert kernel_mmd(a, a[:1]) == 0.0
    assert kernel_mmd(np.ones((3, 2)), np.ones((4, 2))) == 0.0
    assert abs(kernel_mmd(rng.normal(size=(300, 3)), rng.normal(size=(300, 3)))) < 0.01
