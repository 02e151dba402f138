"""The published class tests of Confusion Training: is the "still correct" group of a class a cluster of its own? (specification 2.5)"""

from __future__ import annotations

import numpy as np

_LOAD = 1e-3
_LOG_FLOOR = float(np.log(1e-8))


def simplified_ratio(features: np.ndarray, consistent: np.ndarray, band: np.ndarray, *, compat: bool = False) -> float:
    """Likelihood ratio Lambda of one class; 1.0 where either group has fewer than two samples.

    ``features`` (n, F) of the class, ``consistent`` (n,) bool: prediction equals label. ``band`` is not used (as shipped). With
    ``compat`` 0.001 is added to every entry of the covariances, as in the official code; else to the diagonal.
    """
    a, b = consistent, ~consistent
    if a.sum() < 2 or b.sum() < 2:
        return 1.0
    u = project(features)
    mean_a, cov_a = _moments(u[a], compat)
    mean_b, cov_b = _moments(u[b], compat)
    gain = log_normal(u[a], mean_a, cov_a) - log_normal(u[a], mean_b, cov_b)
    return float(np.exp(min(700.0, gain.sum() / len(u))))


def em_ratio(features: np.ndarray, consistent: np.ndarray, band: np.ndarray) -> float:
    """The older variant: EM of two Gaussians in a plane, the ``band`` (n,) of probably clean samples tied to one of them.

    Whiten by mean and covariance of the band (eigenvalues + 1e-4), PCA to 2-D; component 0 starts at the band (weight 0.9),
    component 1 at the farthest tenth (weight 0.1); at most 100 iterations or until posteriors move by less than 0.01.
    """
    if band.sum() < 2 or len(features) < 10:
        return 1.0
    u = project(_whitened(features, band))
    free = ~band
    far = np.argsort(np.linalg.norm(u - u[band].mean(0), axis=1))[-max(2, len(u) // 10) :]
    parts = [_moments(u[band], False), _moments(u[far], False)]
    weight = np.array([0.9, 0.1])
    posterior = np.zeros(len(u))
    for _ in range(100):
        logs = np.stack([np.maximum(log_normal(u, *part), _LOG_FLOOR) for part in parts])
        joint = logs + np.log(np.maximum(weight, 1e-12))[:, None]
        new = 1 / (1 + np.exp(np.clip(joint[0] - joint[1], -700, 700)))  # of component 1
        tied = logs[:, band].sum(1)  # the band is one block: it goes to one component as a whole
        new[band] = float(tied[1] + np.log(weight[1]) > tied[0] + np.log(weight[0]))
        moved = float(np.abs(new - posterior).max())
        posterior = new
        if moved < 1e-2:
            break
        shares = np.stack([1 - posterior, posterior])
        weight = np.maximum(shares.mean(1), 1e-6)
        parts = [_weighted_moments(u, share) if share.sum() > 2 else part for share, part in zip(shares, parts, strict=True)]
    logs = np.stack([np.maximum(log_normal(u, *part), _LOG_FLOOR) for part in parts])
    clean = int(posterior[band].mean() > 0.5)
    assigned = np.where(posterior > 0.5, logs[1], logs[0])
    gain = float((assigned - logs[clean])[free].sum() / len(u))
    return float(np.exp(min(700.0, gain)))


def project(features: np.ndarray) -> np.ndarray:
    """(n, 2): raw features along the two leading directions of the centred ones."""
    centred = features - features.mean(0)
    _, _, directions = np.linalg.svd(np.linalg.qr(centred, mode="r"), full_matrices=False)
    return np.asarray(features @ directions[:2].T)


def log_normal(u: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(n,) log density of a Gaussian at (n, d) points."""
    away = u - mean
    _, logdet = np.linalg.slogdet(covariance)
    distance = np.einsum("nd,nd->n", away, np.linalg.solve(covariance, away.T).T)
    return np.asarray(-0.5 * (distance + logdet + u.shape[1] * np.log(2 * np.pi)))


def _moments(u: np.ndarray, compat: bool) -> tuple[np.ndarray, np.ndarray]:
    load = np.full((2, 2), _LOAD) if compat else _LOAD * np.eye(2)
    return u.mean(0), np.cov(u.T) + load


def _weighted_moments(u: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = (share[:, None] * u).sum(0) / share.sum()
    away = u - mean
    return mean, (share[:, None] * away).T @ away / share.sum() + _LOAD * np.eye(2)


def _whitened(features: np.ndarray, band: np.ndarray) -> np.ndarray:
    mean = features[band].mean(0)
    values, vectors = np.linalg.eigh(np.cov(features[band].T))
    return np.asarray((features - mean) @ vectors * (np.maximum(values, 0) + 1e-4) ** -0.5)
