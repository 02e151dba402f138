from __future__ import annotations

import numpy as np
import pytest

from tocsin.stats.principal import centre, leading, principal, scatter


def features(n, f, seed=0, spikes=(6.0, 4.0, 3.0)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, f))
    for s in spikes:
        x += s * rng.normal(size=(n, 1)) * np.linalg.qr(rng.normal(size=(f, 1)))[0].T
    return (x + 50).astype(np.float32)


@pytest.mark.parametrize(("n", "f"), [(900, 200), (60, 200), (500, 20), (3, 7)])
def test_directions_are_those_of_a_full_svd(n, f):
    x = features(n, f)
    middle = x.astype(np.float64).mean(0)
    away = x.astype(np.float64) - middle
    _, s, vt = np.linalg.svd(away, full_matrices=False)
    np.testing.assert_allclose(centre(x), middle, rtol=1e-6)
    np.testing.assert_allclose(x, away, atol=1e-4)
    values, directions = principal(x, 2)
    np.testing.assert_allclose(values, s[:2] ** 2, rtol=1e-4)
    np.testing.assert_allclose(np.abs((directions * vt[:2].T).sum(0)), 1, atol=1e-4)


def test_a_flat_spectrum_still_gives_directions_of_the_largest_variance():
    x = features(2000, 128, spikes=())
    centre(x)
    _, s, _ = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    values, directions = principal(x, 5)
    assert values.sum() > 0.99 * (s[:5] ** 2).sum()
    np.testing.assert_allclose(directions.T @ directions, np.eye(5), atol=1e-8)


def test_rank_is_not_made_up():
    x = np.zeros((40, 100), np.float32)
    assert principal(x, 3)[1].shape == (100, 0)
    x[:, 0] = np.arange(40)
    centre(x)
    assert principal(x, 3)[1].shape == (100, 1)
    assert principal(np.empty((0, 5), np.float32), 3)[1].shape == (5, 0)


def test_scatter_in_blocks_is_the_product():
    x = features(20000, 6)
    np.testing.assert_allclose(scatter(x), x.astype(np.float64).T @ x, rtol=1e-5)


def test_leading_repeats():
    x = features(1000, 300).astype(np.float64)
    m = x.T @ x
    np.testing.assert_array_equal(leading(m, 3)[1], leading(m, 3)[1])
