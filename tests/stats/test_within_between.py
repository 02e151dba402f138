from __future__ import annotations

import numpy as np

from tocsin.stats.within_between import within_between


def samples(counts, f=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means = rng.normal(size=(len(counts), f)) * 2
    x = means[labels] + rng.normal(size=(len(labels), f)) * np.linspace(0.5, 2, f)
    return x - x.mean(0), labels


def plain(x, labels, classes, rounds):
    """The EM sample by sample, with the inverses written out."""
    u = np.array([x[labels == k].mean(0) for k in range(classes)])
    su, se = np.cov(u[labels].T), np.cov((x - u[labels]).T)
    for _ in range(rounds):
        for k in range(classes):
            n = (labels == k).sum()
            gain = se @ np.linalg.pinv(n * su + se) @ su @ np.linalg.pinv(se)
            u[k] = sum(gain @ row for row in x[labels == k])
        su, se = np.cov(u[labels].T), np.cov((x - u[labels]).T)
    return su, se


def summed(x, labels, classes):
    sums = np.stack([x[labels == k].sum(0) for k in range(classes)])
    return x.T @ x, sums, np.bincount(labels, minlength=classes)


def test_em_equals_the_sample_by_sample_one():
    x, labels = samples([30, 4, 12, 2, 50, 8, 9])
    found = within_between(*summed(x, labels, 7))
    su, se = plain(x, labels, 7, found.rounds)
    np.testing.assert_allclose(found.between, su, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.within, se, rtol=1e-6, atol=1e-9)
    assert 2 <= found.rounds < 100
    further = plain(x, labels, 7, found.rounds + 1)
    assert np.linalg.norm(further[0] - su) + np.linalg.norm(further[1] - se) < 1e-4 * (np.linalg.norm(su) + np.linalg.norm(se))


def test_coordinates_diagonalise_both():
    x, labels = samples([20, 30, 40])
    found = within_between(*summed(x, labels, 3))
    np.testing.assert_allclose(found.into.T @ found.within @ found.into, np.eye(5), atol=1e-8)
    np.testing.assert_allclose(found.into.T @ found.between @ found.into, np.diag(found.ratio), atol=1e-8)
    np.testing.assert_allclose(found.back @ found.into, np.eye(5), atol=1e-8)
    np.testing.assert_allclose(found.metric, np.linalg.inv(found.within), rtol=1e-6)


def test_directions_without_noise_are_left_out_and_empty_classes_too():
    x, labels = samples([20, 30, 40])
    x[:, 2] = 0
    with_empty = within_between(*summed(x, labels, 5))
    assert with_empty.into.shape == (5, 4)
    assert np.isfinite(with_empty.metric).all()
    np.testing.assert_allclose(with_empty.within, within_between(*summed(x, labels, 3)).within)


def test_constant_features_have_rank_zero():
    found = within_between(np.zeros((3, 3)), np.zeros((2, 3)), np.array([4, 4]))
    assert found.into.shape == (3, 0)
    assert not found.metric.any()
