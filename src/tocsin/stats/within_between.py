"""Covariance within and between classes by EM: x = class mean + noise, both Gaussian (Tang et al., SCAn, USENIX Security 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_ROUNDS = 100
_TOLERANCE = 1e-5
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class WithinBetween:
    """Both covariances (F, F), and the coordinates in which within is the identity and between is diagonal."""

    between: np.ndarray
    within: np.ndarray
    into: np.ndarray
    """(F, r): ``x @ into`` are the coordinates of a row x; r is the rank of ``within``."""
    back: np.ndarray
    """(r, F): the inverse, on the range of ``within``."""
    ratio: np.ndarray
    """(r,) variance between, in these coordinates."""
    rounds: int

    @property
    def metric(self) -> np.ndarray:
        """(F, F) pseudo-inverse of ``within``."""
        return np.asarray(self.into @ self.into.T)


def within_between(products: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> WithinBetween:
    """EM until both covariances change by less than 1e-5 of their size together, or 100 rounds.

    ``products`` (F, F) is the sum of outer products of all rows, ``sums`` (C, F) and ``counts`` (C,) are per class; all of rows
    centred on their overall mean. The class means' posterior mean is S_u (n_k S_u + S_e)^-1 times the class's sum, S_u between and S_e
    within; no pass over the samples is needed, and the inverses of all classes are one diagonal in the right coordinates.
    """
    present = counts > 0
    sums, counts = sums[present], counts[present].astype(np.float64)
    between, within = _covariances(products, sums, counts, sums / counts[:, None])
    rounds, moved = 0, np.inf
    unit = max(float(np.linalg.norm(between) + np.linalg.norm(within)), 1e-300)
    while moved > _TOLERANCE * unit and rounds < _MOST_ROUNDS:
        rounds += 1
        into, back, ratio = coordinates(between, within)
        means = (sums @ into) * (ratio / (counts[:, None] * ratio + 1)) @ back
        new_between, new_within = _covariances(products, sums, counts, means)
        moved = float(np.linalg.norm(new_between - between) + np.linalg.norm(new_within - within))
        between, within = new_between, new_within
    return WithinBetween(between, within, *coordinates(between, within), rounds)


def coordinates(between: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(into (F, r), back (r, F), ratio (r,)): into' within into = I, into' between into = diag(ratio), back = into^-1."""
    values, vectors = np.linalg.eigh(within)
    real = values > _LEAST_VARIANCE * max(float(values[-1]), 1e-30)
    root = np.sqrt(values[real])
    whiten = vectors[:, real] / root
    ratio, turn = np.linalg.eigh(whiten.T @ between @ whiten)
    return whiten @ turn, turn.T @ (vectors[:, real] * root).T, np.maximum(ratio, 0.0)


def _covariances(products: np.ndarray, sums: np.ndarray, counts: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample covariances of the class means (each as often as the class has rows) and of what is left of the rows."""
    total = counts.sum()
    heavy = means * counts[:, None]
    overall = heavy.sum(axis=0) / total
    of_means = means.T @ heavy
    cross = sums.T @ means
    between = of_means - total * np.outer(overall, overall)
    left = products - cross - cross.T + of_means - total * np.outer(overall, overall)  # the rows' own mean is 0
    scale = max(1.0, total - 1)
    return (between + between.T) / (2 * scale), (left + left.T) / (2 * scale)
