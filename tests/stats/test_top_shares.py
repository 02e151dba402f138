from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tocsin.stats.top_shares import FOLDS, LOOKS, TOP, _along, shared_by_top


def samples(seed: int, share: float, n: int = 240, m: int = 30, d: int = 400, length: float = 5.0) -> tuple[np.ndarray, ...]:
    """(x, order, free, truth): unit noise, a share of the free moved by one vector, and an order in which these are higher on average."""
    rng = np.random.default_rng(seed)
    truth, free = np.zeros(n + m, bool), np.arange(n + m) < n
    truth[rng.choice(n, round(share * n), replace=False)] = True
    shift = rng.normal(size=d)
    x = rng.normal(size=(n + m, d)) + truth[:, None] * length * shift / np.linalg.norm(shift)
    return x, rng.normal(size=n + m) + 1.3 * truth, free, truth


@pytest.mark.parametrize("share", [0.15, 0.35])
def test_what_the_top_of_a_poor_order_shares_tells_poison_from_the_rest(share: float) -> None:
    x, order, free, truth = samples(0, share)
    along = shared_by_top(x, order, free, np.random.default_rng(0))
    assert roc_auc_score(truth, order) < 0.88
    assert roc_auc_score(truth, along) > 0.98


def test_an_order_that_has_nothing_to_do_with_the_shift_says_nothing() -> None:
    x, _, free, _ = samples(1, 0.0)
    order = np.random.default_rng(1).normal(size=len(x))
    along = shared_by_top(x, order, free, np.random.default_rng(1))
    assert abs(along[order > np.quantile(order, 1 - TOP)].mean() - along.mean()) < 0.4, "in its own direction a sample would be far along"


def test_samples_that_shape_the_direction_are_measured_as_those_that_do_not() -> None:
    """More directions than samples: by a direction of its own any sample would lie far along."""
    free_mean, other_mean = [], []
    for seed in range(30):
        x, order, free, _ = samples(100 + seed, 0.0, n=120, m=120, d=500)
        along = shared_by_top(x, order, free, np.random.default_rng(seed))
        top = order > np.quantile(order, 1 - TOP)
        free_mean.append(along[free & top].mean())
        other_mean.append(along[~free & top].mean())
    gap = np.array(free_mean) - other_mean
    assert abs(gap.mean()) < 3 * gap.std() / np.sqrt(len(gap))


def test_it_is_what_plain_loops_say() -> None:
    x, order, free, _ = samples(2, 0.3, n=60, m=20, d=15)
    fold = np.random.default_rng(2).permutation(80) % FOLDS

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.argsort(np.argsort(values, kind="stable"), kind="stable") / len(values)

    def project(top: np.ndarray, used: np.ndarray, rows: np.ndarray) -> np.ndarray:
        direction = x[top & used].mean(0) - x[~top & used].mean(0)
        return np.asarray(x[rows] @ direction / np.linalg.norm(direction))

    wanted = np.zeros(80)
    for f in range(FOLDS):
        rest, along = free & (fold != f), np.zeros(80)
        for look in range(LOOKS):
            top = ranks(ranks(order) + ranks(along) if look else ranks(order)) >= 1 - TOP
            along = np.zeros(80)
            for g in range(FOLDS):
                along[fold == g] = project(top, rest & (fold != g), fold == g)
        wanted[fold == f] = along[fold == f]
    np.testing.assert_allclose(_along(x, order, free, fold), wanted, atol=1e-9)


def test_samples_that_are_not_free_shape_nothing() -> None:
    x, order, free, _ = samples(3, 0.3, d=20)
    moved = np.where(free[:, None], x, x + 100)
    first, second = (shared_by_top(values, order, free, np.random.default_rng(3)) for values in (x, moved))
    # their places among all along the direction may change, and with them who is at the top; nobody's direction is drawn from them
    assert np.corrcoef(first[free], second[free])[0, 1] > 0.9


def test_turning_the_space_changes_nothing() -> None:
    x, order, free, _ = samples(4, 0.3, n=50, m=10, d=90)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(90, 90)))[0]
    first, second = (shared_by_top(values, order, free, np.random.default_rng(4)) for values in (x, x @ turn))
    np.testing.assert_allclose(first, second, atol=1e-8)


def test_a_class_of_a_few_samples_gets_numbers() -> None:
    for n in (1, 2, 5):
        along = shared_by_top(np.random.default_rng(n).normal(size=(n, 40)), np.arange(n), np.ones(n, bool), np.random.default_rng(0))
        assert np.isfinite(along).all()
