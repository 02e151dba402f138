"""Principal directions from an F x F (or n x n) matrix of products: no decomposition of the n x F data is ever made."""

from __future__ import annotations

import numpy as np

from tocsin.stats.blocks import ROWS

_EXTRA = 8
_MOST_STEPS = 80
_TOLERANCE = 1e-9
_LEAST_VARIANCE = 1e-6
"""Directions with less than this share of the largest variance are rounding errors of float32 products."""


def centre(x: np.ndarray) -> np.ndarray:
    """Takes the mean of (n, F) float32 ``x`` from it, in place; returns the mean (F,) float64."""
    mean = np.zeros(x.shape[1])
    for start in range(0, len(x), ROWS):
        block = x[start : start + ROWS]
        mean += np.ones(len(block), np.float32) @ block
    mean /= max(1, len(x))
    x -= mean.astype(np.float32)
    return mean


def scatter(x: np.ndarray) -> np.ndarray:
    """(F, F) float64 sum of the outer products of the rows of (n, F) ``x``; float32 products within a block, added up in float64."""
    out = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), ROWS):
        block = x[start : start + ROWS]
        out += block.T @ block
    return out


def principal(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(values (r,), directions (F, r)) of centred (n, F) ``x``, the largest first; r <= ``count``, less where the data have less rank.

    ``values`` are squared singular values, ``directions`` the right singular vectors.
    """
    n, f = x.shape
    count = min(count, n, f)
    if n < f:
        inner = np.asarray(x, np.float64)
        values, left = leading(inner @ inner.T, count)
        keep = _real(values)
        return values[keep], inner.T @ (left[:, keep] / np.sqrt(values[keep]))
    values, vectors = leading(scatter(x), count)
    keep = _real(values)
    return values[keep], vectors[:, keep]


def leading(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(values (count,), vectors (s, count)): the largest eigenvalues of a positive (s, s) ``matrix``, the largest first.

    For few of many by subspace iteration from a fixed random start until the values stand still: directions of nearly equal
    eigenvalues may then be mixed with each other. Else by a full decomposition.
    """
    size = len(matrix)
    if 16 * count > size or size < 64:
        values, vectors = np.linalg.eigh(matrix)
        return values[::-1][:count], vectors[:, ::-1][:, :count]
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((size, count + _EXTRA)))[0]
    before = np.zeros(count)
    for step in range(_MOST_STEPS):
        image = matrix @ q
        if step % 4 == 3:
            values, turn = np.linalg.eigh(q.T @ image)
            values = values[::-1][:count]
            if np.abs(values - before).max() <= _TOLERANCE * max(values[0], 0.0):
                return values, q @ turn[:, ::-1][:, :count]
            before = values
        q = np.linalg.qr(image)[0]
    values, turn = np.linalg.eigh(q.T @ matrix @ q)
    return values[::-1][:count], q @ turn[:, ::-1][:, :count]


def _real(values: np.ndarray) -> np.ndarray:
    return values > _LEAST_VARIANCE * max(float(values[0]) if len(values) else 0.0, 1e-30)
