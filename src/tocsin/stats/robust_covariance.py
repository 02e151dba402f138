"""Covariances of data of which some are planted, and the QUE score that reads them (Hayase et al., SPECTRE, ICML 2021, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_TRIMS = 5
_MOST_POWER_STEPS = 100
_POWER_TOLERANCE = 1e-4
_ALPHA = 4.0
_FLOOR = 1e-9


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and covariance (d, d) of the samples that were kept."""

    mean: np.ndarray
    covariance: np.ndarray
    kept: np.ndarray
    """(n,) bool."""

    def whiten(self, x: np.ndarray) -> np.ndarray:
        """(n, d) ``x`` in units in which the kept samples have mean 0 and covariance I; directions without variance become 0."""
        return np.asarray((x - self.mean) @ inverse_root(self.covariance))


def moments(x: np.ndarray, kept: np.ndarray) -> Gaussian:
    """Of the ``kept`` (n,) bool rows of (n, d) ``x``."""
    inside = x[kept]
    mean = inside.mean(axis=0)
    away = inside - mean
    return Gaussian(mean, away.T @ away / max(1, len(inside) - 1), kept)


def inverse_root(covariance: np.ndarray) -> np.ndarray:
    """(d, d) symmetric inverse square root; pseudo-inverse where eigenvalues are below 1e-9 of the largest."""
    values, vectors = np.linalg.eigh(covariance)
    real = values > _FLOOR * max(float(values[-1]), 1e-300)
    scale = np.zeros(len(values))
    scale[real] = values[real] ** -0.5
    return np.asarray((vectors * scale) @ vectors.T)


def trimmed(x: np.ndarray, budget: float) -> Gaussian:
    """Five times over, the rows with the largest Mahalanobis lengths are left out, in the end 2 ``budget`` of them.

    A plain substitute for `filtered`: it always uses up what it may drop, and the covariance of what is left is somewhat too small.
    """
    n = len(x)
    most = min(int(2 * budget), max(0, n - 2))
    found = moments(x, np.ones(n, bool))
    for step in range(1, _TRIMS + 1):
        lengths = np.square(found.whiten(x)).sum(axis=1)
        kept = np.ones(n, bool)
        dropped = most * step // _TRIMS
        if dropped:
            kept[np.argsort(-lengths, kind="stable")[:dropped]] = False
        found = moments(x, kept)
    return found


def filtered(x: np.ndarray, budget: float, tau: float = 0.1) -> Gaussian:
    """Iterative filtering (Diakonikolas et al. 2017, "DKK") with the constants of SPECTRE's code; at most 2 ``budget`` rows go.

    Each turn whitens the rows left. Rows longer than a Gaussian's could be go first. Else the quadratic form y'Vy that varies most is
    sought (the leading eigenpair of the centred fourth-moment operator); no form may vary much more than on a Gaussian. If one does,
    the rows at the far end of its values go, from where there are more of them than a Gaussian's tail allows.
    """
    n, d = x.shape
    share = min(max(budget, 1e-9) / max(1, n), 0.49)
    most = min(int(2 * budget), max(0, n - 2))
    found = moments(x, np.ones(n, bool))
    form = np.eye(d) / math.sqrt(d)
    while n - found.kept.sum() < most:
        rows = np.flatnonzero(found.kept)
        y = found.whiten(x[rows])
        excess = np.square(y).sum(axis=1) - 10 * d * math.log(len(rows) / tau)
        if (excess < 0).all():
            value, form = fourth_moment(y, form)
            if value <= 1 + 10 * share * math.log(1 / share) ** 2:
                break
            p = (np.einsum("nd,nd->n", y @ form, y) - np.trace(form)) / math.sqrt(2)
            excess = far_end(p, share)
        out = np.flatnonzero(excess >= 0)
        if not len(out):
            break
        out = out[np.argsort(-excess[out], kind="stable")[: most - int(n - found.kept.sum())]]
        kept = found.kept.copy()
        kept[rows[out]] = False
        found = moments(x, kept)
    return found


def fourth_moment(y: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """(eigenvalue, form (d, d) of norm 1): the leading eigenpair of E[vec(yy')vec(yy')'] - vec(I)vec(I)' for (n, d) whitened ``y``.

    Power iteration from ``start``. The d^2 x d^2 operator is never made: a product is two passes over ``y``. It is 2 for a Gaussian.
    """
    eye = np.eye(y.shape[1])
    # The constant form (the identity) may be orthogonal to what varies, so a fixed unsymmetric start is mixed in.
    mix = np.add.outer(np.sqrt(np.arange(1.0, len(eye) + 1)), np.sqrt(np.arange(1.0, len(eye) + 1)))
    form, value = start + mix / np.linalg.norm(mix), 0.0
    form /= np.linalg.norm(form)
    for _ in range(_MOST_POWER_STEPS):
        weights = np.einsum("nd,nd->n", y @ form, y)
        image = (y * weights[:, None]).T @ y / len(y) - np.trace(form) * eye
        before, value = value, float((image * form).sum())
        norm = float(np.linalg.norm(image))
        if norm < 1e-12:
            return 0.0, form
        form = image / norm
        if abs(value - before) <= _POWER_TOLERANCE * abs(value):
            break
    return value, (form + form.T) / 2


def far_end(p: np.ndarray, share: float) -> np.ndarray:
    """(n,) how far each of the values ``p`` lies beyond the cut T; negative: it stays.

    T is the smallest distance from the median (less 3) that a larger share of the values exceeds than tail(T) allows: 1 up to
    10 ln(1 / share), 3 share / (T ln T)^2 beyond.
    """
    away = np.abs(p - np.median(p))
    t = np.sort(away) - 3
    allowed = np.ones(len(p))
    deep = t > max(10 * math.log(1 / share), 1.0 + 1e-9)
    allowed[deep] = 3 * share / np.square(t[deep] * np.log(t[deep]))
    beyond = 1 - np.arange(len(p)) / len(p)  # the share at or above each sorted value
    places = np.flatnonzero((t > 0) & (beyond >= allowed))
    return away - t[places[0]] if len(places) else np.full(len(p), -1.0)


def que(x: np.ndarray, robust: Gaussian) -> np.ndarray:
    """(n,) quantum entropy scores of (n, d) ``x``: how long samples are in the directions in which whitened data vary too much.

    y'Qy with y the samples whitened by ``robust``, and Q = `que_weights` of their covariance. Near 1 for a clean Gaussian.
    """
    y = robust.whiten(x)
    return np.asarray(np.einsum("nd,nd->n", y @ que_weights(moments(y, np.ones(len(y), bool)).covariance), y))


def que_weights(covariance: np.ndarray) -> np.ndarray:
    """Q = exp(4 (S - I) / (||S|| - 1)) / trace, the matrix exponential of (d, d) ``covariance`` S; I / d where ||S|| <= 1.

    Two ports of the reference take the exponential of each entry; that is another matrix.
    """
    values, vectors = np.linalg.eigh(covariance)
    over = float(values[-1]) - 1
    weights = np.exp(_ALPHA * (values - values[-1]) / over) if over > 1e-9 else np.ones(len(values))
    return np.asarray((vectors * (weights / weights.sum())) @ vectors.T)


def separation(x: np.ndarray, kept: np.ndarray) -> float:
    """tr(S Q) / tr(Q): how much all of (n, d) ``x``, whitened by the ``kept`` rows, vary where they vary too much.

    1: nothing sticks out.
    """
    y = moments(x, kept).whiten(x)
    covariance = moments(y, np.ones(len(y), bool)).covariance
    return float((covariance * que_weights(covariance)).sum())
