"""Adjusted outlyingness with the medcouple, other cuts for a one-sided tail, and thresholds from the lower half of scores.

Brys, Hubert and Struyf 2004 (medcouple), Hubert and Vandervieren 2008 (fences); ASSET's specification 2.5, 2.6 and 2.10.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Selection = Literal["ao", "ao_upper", "mad", "half", "top"]
Formula = Literal["scale-free", "intended", "shipped"]


def medcouple(values: np.ndarray) -> float:
    """Robust skewness of (n,) ``values``, -1..1; 0 for fewer than three. Takes n * n / 4 numbers of memory."""
    if len(values) < 3:
        return 0.0
    z = np.sort(np.asarray(values, np.float64)) - np.median(values)
    low, high = z[z <= 0], z[z >= 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        h = (high[None, :] + low[:, None]) / (high[None, :] - low[:, None])
    ties = int(np.sum(z == 0))
    if ties:  # both sides hold the median: pairs of them count by their places (specification 2.5)
        place = np.arange(1, ties + 1)
        h[len(low) - ties :, :ties] = np.sign(place[:, None] + place[None, :] - 1 - ties)
    return float(np.median(h))


def adjusted_outlyingness(values: np.ndarray, *, whisker: bool = False) -> np.ndarray:
    """(n,) how far each of ``values`` lies from the median, in units of the skewness-adjusted fence on its side.

    ``whisker``: in units of the most extreme value inside that fence, as the statistics literature has it, which is never smaller.
    All 0 where the middle half of the values is one and the same.
    """
    r = np.asarray(values, np.float64)
    q1, middle, q3 = np.quantile(r, [0.25, 0.5, 0.75])
    spread, mc = q3 - q1, medcouple(r)
    if spread <= 0:
        return np.zeros(len(r))
    down, up = (-4.0, 3.0) if mc >= 0 else (-3.0, 4.0)
    low, high = q1 - 1.5 * math.exp(down * mc) * spread, q3 + 1.5 * math.exp(up * mc) * spread
    if whisker:
        low, high = float(r[r >= low].min()), float(r[r <= high].max())
    return np.asarray(np.where(r > middle, (r - middle) / max(high - middle, 1e-300), (middle - r) / max(middle - low, 1e-300)))


def select(values: np.ndarray, rule: Selection, *, cut: float = 2.0, share: float = 0.02) -> np.ndarray:
    """(n,) bool: which of the scout's ``values`` look poisoned.

    ao (published, two-sided) and ao_upper: adjusted outlyingness above ``cut``. mad: robust z above 3.5. half: above the median by four
    times the spread of the lower half. top: the highest ``share``.
    """
    r = np.asarray(values, np.float64)
    if not len(r):
        return np.zeros(0, bool)
    middle = np.median(r)
    if rule in ("ao", "ao_upper"):
        out = adjusted_outlyingness(r) > cut
        return out if rule == "ao" else out & (r > middle)
    if rule == "mad":
        return np.asarray(r - middle > 3.5 * 1.4826 * max(float(np.median(np.abs(r - middle))), 1e-300))
    if rule == "half":
        return np.asarray(r - middle > 4 * max(math.sqrt(np.mean(np.square(middle - r[r <= middle]))), 1e-300))
    count = max(1, round(share * len(r)))
    out = np.zeros(len(r), bool)
    out[np.argsort(-r, kind="stable")[:count]] = True
    return out


def lower_half_threshold(scores: np.ndarray, formula: Formula = "scale-free", eps: float = 1e-6) -> float:
    """The score at which a Gaussian through the lower half of (N,) ``scores`` falls to a density of ``eps`` (specification 2.6).

    intended: the density itself, which depends on the unit of the scores; shipped: with the official code's misplaced parenthesis, which
    flags a large part of clean data where the spread is small; scale-free (ours): the density over its maximum.
    """
    half = np.sort(np.asarray(scores, np.float64))[: max(1, (len(scores) + 1) // 2)]
    half = half[half <= np.median(scores)]
    mean, deviation = float(half.mean()), float(half.std())
    unit = deviation * math.sqrt(2 * math.pi)
    inner = {
        "scale-free": -2 * math.log(eps),
        "intended": -2 * math.log(eps * unit) if unit > 0 else 0.0,
        "shipped": -2 * math.log(eps) * unit,
    }[formula]
    return mean + deviation * math.sqrt(max(0.0, inner))
