"""Maximum mean discrepancy: are two groups of points drawn from one distribution?"""

from __future__ import annotations

import numpy as np


def kernel_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD of (n, F) ``a`` and (m, F) ``b`` with a Gaussian kernel as wide as the median distance; 0 below two points.

    Around 0 for one distribution (it can be negative), up to 2 for two that do not meet.
    """
    n, m = len(a), len(b)
    if n < 2 or m < 2:
        return 0.0
    x = np.concatenate([a, b]).astype(np.float64)
    x -= x.mean(axis=0)
    lengths = np.einsum("nf,nf->n", x, x)
    squares = np.maximum(lengths[:, None] + lengths - 2 * (x @ x.T), 0.0)
    width = float(np.median(squares[np.triu_indices(n + m, 1)]))
    if width <= 1e-12 * max(1.0, float(lengths.max())):
        return 0.0
    k = np.exp(-squares / width)
    np.fill_diagonal(k, 0.0)
    return float(k[:n, :n].sum() / (n * (n - 1)) + k[n:, n:].sum() / (m * (m - 1)) - 2 * k[:n, n:].mean())
