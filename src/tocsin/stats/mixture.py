"""A mixture of two normal laws of which one is known."""

from __future__ import annotations

import numpy as np

_ROUNDS = 100
_RIDGE = 1e-6


def beliefs(samples: np.ndarray, known: np.ndarray, start: np.ndarray, *, most: float = 1.0, wider: float = 1.0) -> np.ndarray:
    """(n,) chance that each of the ``samples`` (n, D) is not of the law of the ``known`` (m, D).

    That law is taken to be normal, and so is the other, whose mean, spread and share of the samples are found by expectation and
    maximisation (Dempster, Laird and Rubin 1977), beginning with those of ``start`` (n,) bool. Of fewer than D + 2 of these there is
    nothing to begin with: they are believed, and nothing else. The other law's share is ``most`` at most, so that it cannot take over what
    the known one, whose tails may be longer than normal ones, leaves it; ``wider``: the known spread's variances are taken so many times.
    """
    from scipy.stats import multivariate_normal

    def log_density(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return np.asarray(multivariate_normal(mean, spread + _RIDGE * np.eye(len(spread))).logpdf(samples))

    belief, dimensions = start.astype(float), samples.shape[1]
    usual = log_density(known.mean(axis=0), wider * np.atleast_2d(np.cov(known.T)))
    for _ in range(_ROUNDS):
        if belief.sum() < dimensions + 2 or (1 - belief).sum() < 1:
            break
        mean = belief @ samples / belief.sum()
        apart = samples - mean
        other = log_density(mean, (belief[:, None] * apart).T @ apart / belief.sum())
        share = min(most, belief.mean())
        odds = other - usual + np.log(share / (1 - share))
        before, belief = belief, 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        if np.abs(belief - before).max() < 1e-4:
            break
    return belief
