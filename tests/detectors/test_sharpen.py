from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from tocsin.detectors import sharpen as module
from tocsin.detectors.sharpen import by_class, count_distinct, matched_filter, sharpen

N, M, D, CLASSES = 4000, 400, 200, 4


def planted(seed: int = 0, poison: int = 40, strength: float = 4.0):
    """White noise in which some samples of class 1 share a faint direction, and scores that know a little of it."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(N) % CLASSES, np.arange(M) % CLASSES])
    z = rng.normal(size=(N + M, D)).astype(np.float32)
    truth = np.zeros(N, bool)
    truth[rng.choice(np.flatnonzero(labels[:N] == 1), poison, replace=False)] = True
    direction = rng.normal(size=D)
    z[:N][truth] += strength * direction / np.linalg.norm(direction)
    scores = rng.normal(size=N + M).astype(np.float32)
    scores[:N][truth] += 2
    fold = rng.integers(0, module.FOLDS, N)
    return scores, labels, torch.from_numpy(z), fold, truth


def plain(scores, labels, z, n, fold, ignore):
    """The same filter, one sample at a time."""
    z = z.numpy().astype(np.float64)
    out = np.zeros(len(labels))
    for k in range(CLASSES):
        own = [i for i in range(n) if labels[i] == k and not ignore[i]]
        order = sorted(own, key=lambda i: -scores[i])
        top = order[: max(8, int(min(module.SHARE * n, module.MOST * len(own))))]
        median = np.median([scores[i] for i in range(n, len(labels)) if labels[i] == k])
        clean = [i for i in own if scores[i] < median]
        directions = []
        for f in range(module.FOLDS):
            w = np.mean([z[i] for i in top if fold[i] != f], axis=0) - np.mean([z[i] for i in clean if fold[i] != f], axis=0)
            directions.append(w / np.linalg.norm(w))
        for i in range(len(labels)):
            if labels[i] == k:
                out[i] = z[i] @ directions[fold[i]] if i < n else np.mean([z[i] @ w for w in directions])
    return out


def test_the_filter_is_a_difference_of_means_out_of_fold():
    scores, labels, z, fold, _ = planted()
    ignore = np.zeros(N, bool)
    ignore[::7] = True
    np.testing.assert_allclose(
        matched_filter(scores, labels, z, N, fold, ignore), plain(scores, labels, z, N, fold, ignore), rtol=1e-3, atol=1e-4
    )


def test_a_faint_shared_direction_is_seen_far_better_than_by_the_scores_alone():
    scores, labels, z, fold, truth = planted()
    mine = labels[:N] == 1
    before = roc_auc_score(truth[mine], scores[:N][mine])
    after = roc_auc_score(truth[mine], sharpen(scores, labels, z, N, fold, np.zeros(N, bool), np.full(CLASSES, M // CLASSES))[:N][mine])
    assert before < 0.95
    assert after > 0.985


def test_noise_gains_nothing_from_having_been_picked():
    scores, labels, z, fold, _ = planted(poison=0)
    filtered = matched_filter(scores, labels, z, N, fold, np.zeros(N, bool))[:N]
    assert abs(np.corrcoef(filtered, scores[:N])[0, 1]) < 0.05  # measured by its own direction it would be above 0.2


def test_near_duplicates_in_one_fold_do_not_vouch_for_each_other():
    scores, labels, z, fold, _ = planted(poison=0)
    family = np.flatnonzero(labels[:N] == 2)[:40]
    z[family] = z[family[0]].clone()  # copies of one picture ...
    scores[family] = 5  # ... that the rounds find suspicious
    apart, together = fold, fold.copy()
    together[family] = 3
    seen = [matched_filter(scores, labels, z, N, f, np.zeros(N, bool))[family].mean() for f in (apart, together)]
    assert seen[0] > 5
    assert abs(seen[1]) < 2


def test_ignored_rows_shape_nothing():
    scores, labels, z, fold, truth = planted()
    loud, other = scores.copy(), z.clone()
    loud[:N][truth] += 10
    other[:N][torch.from_numpy(truth)] *= 3
    first = matched_filter(scores, labels, z, N, fold, truth)
    second = matched_filter(loud, labels, other, N, fold, truth)
    np.testing.assert_array_equal(first[:N][~truth], second[:N][~truth])


def test_a_class_is_measured_by_its_own_reserve():
    rng = np.random.default_rng(1)
    labels = np.concatenate([np.repeat([0, 1, 2], 300), np.repeat([0, 1, 2], 300)])
    values = rng.normal(size=len(labels))
    values[labels == 1] = 5 + 4 * values[labels == 1]
    level = by_class(values, labels, 900, np.full(3, 300))
    spread = [level[:900][labels[:900] == k].std() for k in range(3)]
    assert max(spread) / min(spread) < 1.6  # 4 before
    assert all(abs(np.median(level[:900][labels[:900] == k])) < 0.5 for k in range(3))
    films = by_class(values, labels, 900, np.array([300, 3, 300]))  # 300 frames of three films say little of their class
    assert films[:900][labels[:900] == 1].std() > 2.5 * level[:900][labels[:900] == 1].std()


def test_repeats_count_once():
    assert count_distinct(np.array([5, 5, 7, 1, 1]), np.array([0, 0, 0, 1, 1]), 3).tolist() == [2, 1, 0]


def test_a_class_that_the_reserve_lacks_is_measured_like_the_usual_one():
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    level = by_class(np.array([1.0, 2.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0]), labels, 4, np.array([4, 0]))
    assert np.isfinite(level).all()
    assert by_class(np.zeros(4), np.zeros(4, np.int64), 4, np.zeros(1, int)).tolist() == [0, 0, 0, 0]  # no reserve at all


def test_tiny_classes_are_left_alone():
    labels = np.array([0] * 5 + [1] * 100 + [0, 1])
    z = torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(0))
    out = matched_filter(np.arange(len(labels), dtype=np.float32), labels, z, 105, np.arange(105) % module.FOLDS, np.zeros(105, bool))
    assert (out[:5] == 0).all()
    assert np.isfinite(out).all()
