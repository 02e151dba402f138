"""Do some samples of a class share a shift that its clean ones do not? Specification drl-clba-speech 5.3, items 1 and 2.

A trigger that is the same in all poisons moves their features by about the same vector, whoever speaks. So a sample of a class is
explained as its voice's centre, plus the shift if it is poison, plus noise of the spread that samples of the *other* classes have.
Samples known to be clean have no shift. The shift is fitted by EM, and what it explains is compared with what voices alone do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tocsin.stats.voices import summed

AXES = 16
"""Directions of largest variance that are looked at."""
_STARTS = 4
"""Leading axes along which a first split is tried, both ways."""
_TRIAL, _ROUNDS = 6, 25
"""Rounds of every start, and of the best."""
_LIMIT = 60.0
"""Log odds beyond this are certain."""


def centred(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, d) float64: ``x`` from the median of its class."""
    out = np.array(x, np.float64)
    for k in np.unique(labels):
        out[labels == k] -= np.median(out[labels == k], axis=0)
    return out


def centred_within(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(n, d): ``x`` from the mean of its cell; ``cells`` (n,) int64."""
    _, place, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    means = summed(x, place.reshape(-1), len(sizes)) / sizes[:, None]
    return np.asarray(x - means[place.reshape(-1)])


def whitener(residuals: np.ndarray, shrink: float) -> np.ndarray:
    """(d, d) W such that ``residuals @ W`` (n, d) has about unit covariance; a share ``shrink`` of the covariance is its diagonal alone."""
    covariance = residuals.T @ residuals / max(1, len(residuals))
    diagonal = np.diag(covariance).copy()
    floor = 1e-6 * max(float(diagonal.mean()), 1e-12)
    values, vectors = np.linalg.eigh((1 - shrink) * covariance + np.diag(shrink * diagonal + floor))
    return np.asarray(vectors / np.sqrt(np.maximum(values, floor)))


def leading(white: np.ndarray, voice: np.ndarray, most: int = AXES) -> np.ndarray:
    """(n, q) coordinates of ``white`` (n, d), centred, along the directions in which it varies most within its voices."""
    within = centred_within(white, voice)
    q = max(1, min(most, len(white) // 4, white.shape[1]))
    _, vectors = np.linalg.eigh(within.T @ within)
    return np.asarray((white - white.mean(0)) @ vectors[:, : -q - 1 : -1])


@dataclass(frozen=True)
class Shift:
    """What a shift in a part of a class explains."""

    odds: np.ndarray
    """(n,) log odds that the sample is shifted, as if it were not known."""
    share: float
    """Of the samples that are not known, shifted."""
    length: float
    """Of the shift, in deviations of the noise."""
    gain: float
    """Mean log likelihood with the shift over that without, in nats a sample; at least 0."""


def common_shift(x: np.ndarray, voice: np.ndarray, known: np.ndarray) -> Shift:
    """EM on (n, q) ``x`` of unit noise; ``voice`` (n,) int64; the samples of ``known`` (n,) bool are not shifted.

    The best of several starts: either end of each leading axis, away from the known samples, and all that is not known.
    """
    n, free = len(x), ~known
    nothing = Shift(np.full(n, -_LIMIT), 0.0, 0.0, 0.0)
    if free.sum() < 4:
        return nothing
    member = (voice[:, None] == np.unique(voice)).astype(np.float64)
    best = max(
        (_fit(x, member, free, start, _TRIAL)[1] for start in _starts(x, voice, free)), key=lambda found: found.gain, default=nothing
    )
    p = np.where(free, 1 / (1 + np.exp(-best.odds)), 0.0)
    found = _fit(x, member, free, p, _ROUNDS, widths=True)[1]
    return found if found.gain > 0 else nothing


def _own_widths(along: np.ndarray, length: float, free: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """(n,) log odds along the shift alone, if each of the two groups has the width it has.

    ``along`` (n,) is how far a sample lies along the shift, 0 at its voice's centre. Unit noise puts the border
    halfway; but a trigger moves some
    samples less than others, and the border belongs nearer to the narrower group. Beyond the two centres the odds go on as straight lines.
    """
    p, low = np.where(free, 1 / (1 + np.exp(-odds)), 0.0), 1.0 / (free.sum() + 1)
    for _ in range(_ROUNDS):
        weights = np.stack([1 - p, p])
        total = np.maximum(weights.sum(1), 1e-9)
        m = weights @ along / total
        sd = np.sqrt(np.maximum((weights * np.square(along - m[:, None])).sum(1) / total, 0.25))
        share = min(max(float(p[free].mean()), low), 1 - low)
        if m[1] - m[0] < 0.5 * length:
            return odds
        at = np.clip(along, m[0], m[1])
        z = (at - m[:, None]) / sd[:, None]
        out = 0.5 * np.square(z[0]) - 0.5 * np.square(z[1]) + np.log(sd[0] / sd[1]) + np.log(share / (1 - share)) + (along - at)
        p = np.where(free, 1 / (1 + np.exp(-np.clip(out, -_LIMIT, _LIMIT))), 0.0)
    return np.asarray(np.clip(out, -_LIMIT, _LIMIT))


def _starts(x: np.ndarray, voice: np.ndarray, free: np.ndarray) -> Iterator[np.ndarray]:
    """(n,) first guesses of the probability of being shifted."""
    within = centred_within(x, voice)
    for axis in range(min(_STARTS, x.shape[1])):
        for sign in (1.0, -1.0):
            along = sign * within[:, axis]
            yield ((along > np.quantile(along[free], 0.8)) & free).astype(np.float64)
    if not free.all():
        along = within @ (within[free].mean(0) - within[~free].mean(0))
        yield ((along > np.quantile(along[free], 0.5)) & free).astype(np.float64)
        yield free.astype(np.float64)


def _fit(x: np.ndarray, member: np.ndarray, free: np.ndarray, p: np.ndarray, rounds: int, widths: bool = False) -> tuple[np.ndarray, Shift]:
    """EM from ``p`` (n,): voices' centres and the shift by least squares, then the odds."""
    sizes = member.sum(0) + 0.3  # a voice with hardly a sample stays near the middle
    low = 1.0 / (free.sum() + 1)

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.asarray(member @ ((member.T @ values) / (sizes if values.ndim == 1 else sizes[:, None])))

    alone = -0.5 * np.square(x - smooth(x)).sum(1)
    for _ in range(rounds):
        share = min(max(float(p[free].mean()), low), 1 - low)
        apart = p - smooth(p)
        shift = (apart @ x) / max(float(apart @ p + (p * (1 - p)).sum()), 1e-9)
        centres = smooth(x - p[:, None] * shift)
        odds = np.clip((x - centres) @ shift - 0.5 * shift @ shift + np.log(share / (1 - share)), -_LIMIT, _LIMIT)
        p = np.where(free, 1 / (1 + np.exp(-odds)), 0.0)
    plain = -0.5 * np.square(x - centres).sum(1)
    mixed = np.where(free, np.log1p(-share) + plain + np.logaddexp(0, odds), plain)
    length = float(np.linalg.norm(shift))
    if widths:
        odds = _own_widths((x - centres) @ shift / max(length, 1e-9), length, free, odds)
    return p, Shift(odds, float(p[free].mean()), length, float((mixed - alone).mean()))


def cross_fitted(x: np.ndarray, voice: np.ndarray, reserve: np.ndarray, fold: np.ndarray) -> Shift:
    """`common_shift` of one class with its clean samples known, all but one ``fold`` (n,) int64 of them at a time.

    Every sample, inspected or of the ``reserve`` (n,) bool, gets the odds of the fit that was told nothing of its fold. So a reserve
    sample is treated exactly as a clean inspected one is, whatever the fits disagree about.
    """
    held = np.where(np.isin(fold, fold[reserve]), fold, -1)  # folds without clean samples share the fit that knows all of them
    fits = {part: common_shift(x, voice, reserve & (held != part)) for part in np.unique(held).tolist()}
    odds = np.zeros(len(x))
    for part, fit in fits.items():
        odds[held == part] = fit.odds[held == part]
    share, length, gain = np.mean([(fit.share, fit.length, fit.gain) for fit in fits.values()], axis=0).tolist()
    return Shift(odds, share, length, gain)
