"""The chance of not being of a known normal law, against the laws that the samples were drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tocsin.stats.mixture import beliefs

MEAN, SPREAD = np.array([2.0, 1.5, 1.0]), np.array([[1.0, 0.4, 0.0], [0.4, 0.8, 0.0], [0.0, 0.0, 1.5]])


def drawn(seed: int, others: int, known: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(3000 samples, of which the first ``others`` are of the other law; known ones; a rough start)."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(3000, 3))
    samples[:others] = rng.multivariate_normal(MEAN, SPREAD, others)
    return samples, rng.normal(size=(known, 3)), samples.sum(axis=1) > 4


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_beliefs_are_those_of_bayes(share):
    others = round(3000 * share)
    samples, known, start = drawn(0, others)
    one, usual = multivariate_normal(MEAN, SPREAD).pdf(samples), multivariate_normal(np.zeros(3), np.eye(3)).pdf(samples)
    true = share * one / (share * one + (1 - share) * usual)
    found = beliefs(samples, known, start)
    assert np.abs(found - true).mean() < 0.02
    assert found.mean() == pytest.approx(share, abs=0.02)


def test_the_order_of_samples_and_their_units_do_not_matter():
    samples, known, start = drawn(1, 600)
    order, units = np.random.default_rng(2).permutation(3000), np.array([1.0, 10.0, 0.1])
    assert beliefs(samples[order] * units, known * units, start[order]) == pytest.approx(beliefs(samples, known, start)[order], abs=0.01)


def test_of_too_few_to_begin_with_nothing_else_is_believed():
    samples, known, _ = drawn(3, 600)
    start = np.arange(3000) < 4
    assert np.array_equal(beliefs(samples, known, start), start)


def test_views_that_say_the_same_are_no_error():
    samples, known, start = drawn(4, 600)
    found = beliefs(np.repeat(samples[:, :1], 2, axis=1), np.repeat(known[:, :1], 2, axis=1), start)
    assert np.isfinite(found).all()
    assert found[:600].mean() > found[600:].mean() + 0.3


def test_the_other_law_takes_no_more_than_it_may():
    samples, known, start = drawn(5, 900)
    assert beliefs(samples, known, start, most=0.1).mean() < 0.2
    assert beliefs(samples, known, start).mean() == pytest.approx(0.3, abs=0.02)


def test_long_tails_of_the_known_law_are_left_to_it():
    rng = np.random.default_rng(6)
    samples, known = rng.standard_t(6, size=(3000, 3)), rng.standard_t(6, size=(20_000, 3))
    start = samples.sum(axis=1) > 5
    assert (beliefs(samples, known, start, wider=1.5) > 0.5).sum() < (beliefs(samples, known, start) > 0.5).sum()
