"""What flagged samples teach of others: witnesses, ranks, and the chance of not having been flagged."""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tocsin.stats.witnesses import of_poison, outranked, two_witnesses


def test_two_witnesses_are_worth_what_they_know() -> None:
    """Both normal given what a clip is, so that the right answer has a formula."""
    rng, n, share = np.random.default_rng(0), 4000, 0.3
    truth = rng.random(n) < share
    first, second = rng.normal(size=n) + 2.5 * truth, rng.normal(size=n) + 1.5 * truth
    prior = np.log(share / (1 - share))
    odds = prior + norm.logpdf(first, 2.5) - norm.logpdf(first)
    right = odds + norm.logpdf(second, 1.5) - norm.logpdf(second)
    both = two_witnesses(odds, 100 * second - 7)
    assert np.abs(expit(both) - expit(right)).mean() < 0.02
    assert roc_auc_score(truth, both) > roc_auc_score(truth, odds) + 0.01
    # One who knows nothing, or says the opposite, is not listened to.
    assert np.abs(expit(two_witnesses(odds, rng.normal(size=n))) - expit(odds)).mean() < 0.02
    np.testing.assert_allclose(two_witnesses(odds, -second), odds, atol=0.05)
    np.testing.assert_allclose(two_witnesses(odds, np.ones(n)), odds, atol=0.05)


def test_how_often_one_is_above_another_counts_ties_half() -> None:
    high, low = np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.0, 2.0, 3.0])
    assert outranked(high, low) == np.mean([(a > b) + 0.5 * (a == b) for a in high for b in low])
    assert outranked(high, low[:0]) == outranked(high[:0], low) == 0.0


def test_what_was_not_flagged_is_not_known_to_be_clean() -> None:
    """Poison is flagged with a chance of 0.6 whatever it looks like, so the chance of being flagged is 0.6 times that of being poison."""
    rng, n = np.random.default_rng(0), 20_000
    truth = rng.random(n) < 0.3
    seen = rng.normal(size=n) + 3 * truth
    poison = expit(np.log(0.3 / 0.7) + norm.logpdf(seen, 3) - norm.logpdf(seen))
    flagged = truth & (rng.random(n) < 0.6)
    chance = 0.6 * poison
    corrected = expit(of_poison(np.log(chance / (1 - chance)), flagged))
    assert np.abs(corrected - poison).mean() < 0.02 < np.abs(chance - poison).mean()
