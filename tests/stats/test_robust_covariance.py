from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import expm, sqrtm

from tocsin.stats.robust_covariance import (
    far_end,
    filtered,
    fourth_moment,
    inverse_root,
    moments,
    que,
    que_weights,
    separation,
    trimmed,
)


def contaminated(share, away, n=2000, d=6, seed=0):
    """Gaussian with standard deviations 1..d, and a share of it ``away`` deviations off along the first and the second axis."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1.0, d + 1)
    x = rng.normal(size=(n, d)) * scale
    bad = np.arange(n) < round(share * n)
    x[bad, :2] += away / math.sqrt(2) * scale[:2]
    return x - x.mean(0), bad, np.diag(scale**2)


def test_moments_and_inverse_root_are_the_textbooks():
    x, _, _ = contaminated(0, 0)
    kept = np.arange(len(x)) % 3 > 0
    found = moments(x, kept)
    np.testing.assert_allclose(found.covariance, np.cov(x[kept].T))
    np.testing.assert_allclose(inverse_root(found.covariance), np.linalg.inv(np.real(sqrtm(found.covariance))), atol=1e-8)
    y = found.whiten(x[kept])
    np.testing.assert_allclose(np.cov(y.T), np.eye(6), atol=1e-8)
    flat = inverse_root(np.diag([4.0, 0.0]))
    np.testing.assert_allclose(flat, np.diag([0.5, 0.0]))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_trimming_drops_the_planted_rows(share):
    x, bad, truth = contaminated(share, 15)
    found = trimmed(x, share * len(x))
    assert found.kept[bad].mean() < 0.02
    assert (~found.kept).sum() == round(2 * share * len(x))
    shape = found.covariance / np.trace(found.covariance) * np.trace(truth)
    assert np.linalg.norm(shape - truth) < 0.5 * np.linalg.norm(np.cov(x.T) - truth)


def test_filter_drops_few_far_rows_and_no_gaussian_ones():
    x, bad, _ = contaminated(0.005, 20)
    found = filtered(x, 0.005 * len(x))
    assert not found.kept[bad].any()
    assert found.kept[~bad].mean() > 0.99
    clean = np.cov(x[~bad].T)
    assert np.linalg.norm(found.covariance - clean) < 0.2 * np.linalg.norm(np.cov(x.T) - clean)
    clean, _, _ = contaminated(0, 0)
    assert filtered(clean, 100).kept.all()


def test_filter_never_drops_more_than_twice_the_budget():
    x, bad, _ = contaminated(0.005, 40)
    found = filtered(x, 3)
    assert (~found.kept).sum() == 6
    assert bad[~found.kept].all()
    assert filtered(x, 0).kept.all()


def test_published_constants_let_common_poison_pass():
    """A tenth of the rows can never lie so far out, in units of the deviation they cause themselves, that the constants see them."""
    x, bad, _ = contaminated(0.1, 20)
    assert filtered(x, 0.1 * len(x)).kept[bad].all()
    assert not trimmed(x, 0.1 * len(x)).kept[bad].any()


def test_fourth_moment_is_the_leading_eigenpair_of_the_operator_in_full():
    x, _, _ = contaminated(0.02, 12, n=600, d=4)
    y = moments(x, np.ones(len(x), bool)).whiten(x)
    products = np.einsum("ni,nj->nij", y, y).reshape(len(y), 16)
    eye = np.eye(4).ravel()
    values, vectors = np.linalg.eigh(products.T @ products / len(y) - np.outer(eye, eye))
    value, form = fourth_moment(y, np.eye(4) / 2)
    assert value == pytest.approx(values[-1], rel=1e-3)
    assert abs(form.ravel() @ vectors[:, -1]) == pytest.approx(1, abs=1e-2)
    gauss = np.random.default_rng(0).normal(size=(20000, 2))
    assert fourth_moment(gauss, np.eye(2))[0] == pytest.approx(2, rel=0.1)


def test_far_end_is_the_rule_one_value_at_a_time():
    rng = np.random.default_rng(3)
    for share in (0.01, 0.1):
        for p in (rng.normal(size=500), np.concatenate([rng.normal(size=480), rng.normal(70, 5, 20)]), 100 * rng.normal(size=50)):
            away = np.abs(p - np.median(p))
            cuts = []
            for i, a in enumerate(np.sort(away)):
                t = a - 3
                if t > 0:
                    allowed = 1.0 if t <= 10 * math.log(1 / share) else 3 * share / (t * math.log(t)) ** 2
                    if 1 - i / len(p) >= allowed:
                        cuts.append(t)
            expected = away >= min(cuts) if cuts else np.zeros(len(p), bool)
            np.testing.assert_array_equal(far_end(p, share) >= 0, expected)


def test_weights_are_a_matrix_exponential():
    covariance = np.array([[3.0, 0.8], [0.8, 1.2]])
    q = expm(4 * (covariance - np.eye(2)) / (np.linalg.norm(covariance, 2) - 1))
    np.testing.assert_allclose(que_weights(covariance), q / np.trace(q), rtol=1e-9)
    by_entry = np.exp(4 * (covariance - np.eye(2)) / (np.linalg.norm(covariance, 2) - 1))  # what two ports compute
    assert np.abs(que_weights(covariance) - by_entry / np.trace(by_entry)).max() > 0.05
    np.testing.assert_allclose(que_weights(np.eye(3)), np.eye(3) / 3)


def test_que_and_separation_are_the_formulas():
    x, bad, _ = contaminated(0.05, 10)
    robust = trimmed(x, 100)
    root = np.linalg.inv(np.real(sqrtm(robust.covariance)))
    y = (x - robust.mean) @ root
    s = np.cov(y.T)
    q = expm(4 * (s - np.eye(6)) / (np.linalg.norm(s, 2) - 1))
    np.testing.assert_allclose(que(x, robust), np.diag(y @ q @ y.T) / np.trace(q), rtol=1e-6)
    assert np.median(que(x, robust)[bad]) > 10 * np.median(que(x, robust)[~bad])
    kept = ~bad
    clean = x[kept]
    y = (x - clean.mean(0)) @ np.linalg.inv(np.real(sqrtm(np.cov(clean.T))))
    s = np.cov(y.T)
    q = expm(4 * (s - np.eye(6)) / (np.linalg.norm(s, 2) - 1))
    assert separation(x, kept) == pytest.approx(np.trace(s @ q) / np.trace(q), rel=1e-6)
    assert separation(clean, np.ones(len(clean), bool)) == pytest.approx(1)
