"""Principal directions from an F x F (or n x n) matrix of products: no decomposition of the n x F data is ever made."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from scipy.sparse.linalg import ArpackError, eigsh

from tocsin.stats.blocks import ROWS

_TOLERANCE = 1e-8
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

    For few of many by Lanczos iteration from a fixed start, which takes a fraction of the time of a full decomposition; else, and where
    the iteration finds no end, by the full one.
    """
    size = len(matrix)
    if 16 * count <= size and size >= 64:
        start = np.random.default_rng(0).standard_normal(size)
        with suppress(ArpackError):
            values, vectors = eigsh(matrix, count, v0=start, tol=_TOLERANCE)
            return values[::-1], vectors[:, ::-1]
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def _real(values: np.ndarray) -> np.ndarray:
    return values > _LEAST_VARIANCE * max(float(values[0]) if len(values) else 0.0, 1e-30)
