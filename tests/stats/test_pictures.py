from __future__ import annotations

import numpy as np
import torch

from tocsin.stats.duplicates import LARGEST_GROUP, near_duplicates
from tocsin.stats.whitening import MOST_DIMENSIONS, whiten

CPU = torch.device("cpu")


def test_whitened_pixels_are_the_plain_formula():
    rng = np.random.default_rng(0)
    x = np.clip(128 + rng.normal(size=(6000, 48)) @ rng.normal(size=(48, 48)) * 4, 0, 255).astype(np.uint8)
    z = whiten(x.reshape(6000, 4, 4, 3), CPU, torch.float32).numpy()
    flat = x / 255.0
    covariance = np.cov(flat.T, bias=True)
    ridged = covariance + 0.01 * np.trace(covariance) / 48 * np.eye(48)
    expected = np.linalg.solve(np.linalg.cholesky(ridged), (flat - flat.mean(0)).T).T
    assert np.allclose(z, expected, atol=2e-2)
    assert np.abs(np.corrcoef(z.T) - np.eye(48)).max() < 0.5


def test_a_faint_pattern_is_louder_whitened():
    rng = np.random.default_rng(1)
    smooth = rng.normal(size=(4000, 2, 2, 1)).repeat(4, 1).repeat(4, 2)
    x = np.clip(128 + 40 * smooth + rng.normal(0, 2, (4000, 8, 8, 1)), 0, 255)
    pattern = 6.0 * np.sign(rng.normal(size=(8, 8, 1)))
    x[:200] = np.clip(x[:200] + pattern, 0, 255)
    x = x.astype(np.uint8)

    def separation(z: np.ndarray) -> float:
        direction = z[:200].mean(0) - z[200:].mean(0)
        p = z @ direction
        return float((p[:200].mean() - p[200:].mean()) / p[200:].std())

    assert separation(whiten(x, CPU, torch.float32).numpy()) > 3 * separation(x.reshape(4000, -1).astype(float))


def test_large_and_constant_pictures():
    x = np.random.default_rng(2).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    assert whiten(x, CPU, torch.float32).shape[1] <= MOST_DIMENSIONS
    assert torch.isfinite(whiten(np.zeros((10, 8, 8, 1), np.uint8), CPU, torch.float32)).all()


def test_frames_of_one_scene_share_a_group_and_a_shared_trigger_does_not():
    rng = np.random.default_rng(3)
    scenes = rng.integers(0, 256, (50, 8, 8, 3)).repeat(2, 1).repeat(2, 2)
    frames = np.concatenate([scenes + rng.normal(0, 3, scenes.shape) for _ in range(3)])
    x = np.clip(frames, 0, 255).astype(np.uint8)
    groups = near_duplicates(x, np.zeros(150, np.int64), CPU)
    assert all(len(set(groups[i::50])) == 1 for i in range(50))
    assert len(set(groups)) == 50
    single = x[:50].copy()
    single[:, -3:, -3:] = 255
    assert len(set(near_duplicates(single, np.zeros(50, np.int64), CPU))) == 50


def test_labels_keep_groups_apart_and_groups_stay_small():
    x = np.random.default_rng(4).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8).repeat(300, 0)
    labels = np.repeat([0, 1], 150)
    groups = near_duplicates(x, labels, CPU)
    assert not set(groups[:150]) & set(groups[150:])
    assert np.unique(groups, return_counts=True)[1].max() <= LARGEST_GROUP
