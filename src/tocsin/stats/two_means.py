"""2-means, and the exact solution on a line to start it from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_STEPS = 100


@dataclass(frozen=True)
class Split:
    """Two groups of points."""

    second: np.ndarray
    """(n,) bool: not in the first group. All False where the points cannot be split."""
    centres: np.ndarray
    """(2, F) float64; both the mean of all where there is no split."""
    along: np.ndarray
    """(F,) float64: the metric times the difference of the centres (second - first)."""
    gain: float
    """Squared length of ``centres`` apart times n0 n1 / n: how much of the sum of squares the split explains."""

    def side(self, x: np.ndarray) -> np.ndarray:
        """(n,) float64: how much nearer each point is to the second centre: half the difference of the squared distances."""
        middle = float(self.centres.mean(axis=0) @ self.along)
        return np.asarray(np.subtract(x @ self.along.astype(x.dtype), middle, dtype=np.float64))


def cut(values: np.ndarray) -> tuple[float, float]:
    """(threshold, gain): the best 2-means split of (n,) numbers, exactly; the second group lies above. (inf, 0) if all are equal."""
    order = np.sort(values).astype(np.float64)
    n = len(order)
    if n < 2 or order[0] == order[-1]:
        return float("inf"), 0.0
    order -= order.mean()
    below = np.arange(1, n)
    gains = np.cumsum(order)[:-1] ** 2 * n / (below * (n - below))
    gains[order[1:] == order[:-1]] = -1.0  # equal values cannot be parted
    best = int(np.argmax(gains))
    return float((order[best] + order[best + 1]) / 2 + values.mean(dtype=np.float64)), float(gains[best])


def two_means(x: np.ndarray, axes: np.ndarray, metric: np.ndarray | None = None, starts: int = 3) -> Split:
    """The best of the 2-means solutions reached from the exact splits along the columns of ``axes`` (n, s), for (n, F) float ``x``.

    Distances are (a - b)' metric (a - b), ``metric`` (F, F) symmetric; None: Euclidean. The ``starts`` best columns are tried. No
    chance is involved.
    """
    n = len(x)
    cuts = [cut(axes[:, j]) for j in range(axes.shape[1])]
    order = sorted(range(len(cuts)), key=lambda j: -cuts[j][1])[:starts]
    total = np.ones(n, x.dtype) @ x if n else np.zeros(x.shape[1])
    middle = np.asarray(total, np.float64) / max(1, n)
    best = Split(np.zeros(n, bool), np.stack([middle, middle]), np.zeros(x.shape[1]), 0.0)
    for j in order:
        if cuts[j][1] > 0:
            found = _lloyd(x, total, axes[:, j] > cuts[j][0], metric)
            if found is not None and found.gain > best.gain:
                best = found
    return best


def _lloyd(x: np.ndarray, total: np.ndarray, second: np.ndarray, metric: np.ndarray | None) -> Split | None:
    n, split = len(x), None
    for _ in range(_MOST_STEPS):
        size = int(np.count_nonzero(second))
        if not 0 < size < n:
            return split
        inside = np.asarray(second.astype(x.dtype) @ x, np.float64)
        centres = np.stack([(total - inside) / (n - size), inside / size])
        apart = centres[1] - centres[0]
        along = apart if metric is None else metric @ apart
        split = Split(second, centres, along, float(apart @ along) * size * (n - size) / n)
        moved = split.side(x) > 0
        if np.array_equal(moved, second):
            break
        second = moved
    return split
