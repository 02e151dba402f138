"""Location and spread that a minority cannot move."""

from __future__ import annotations

import numpy as np

MAD_TO_SD = 1.4826
"""Standard deviations in a median absolute deviation of a Gaussian."""
MEAN_TO_SD = 1.2533
"""And in a mean absolute deviation."""


def spread(values: np.ndarray) -> tuple[float, float]:
    """(median, scale) of (n,) ``values``, the scale as a Gaussian's standard deviation.

    Where more than half of the values are equal the mean absolute deviation stands in for the median one; 0 if all are equal.
    """
    if not len(values):
        return 0.0, 0.0
    middle = float(np.median(values))
    away = np.abs(values - middle)
    return middle, MAD_TO_SD * float(np.median(away)) or MEAN_TO_SD * float(away.mean())


def robust_z(values: np.ndarray) -> np.ndarray:
    """(n,) distance from the median in units of `spread`; zeros where all values are equal."""
    middle, scale = spread(values)
    return (values - middle) / scale if scale > 0 else np.zeros(len(values))


def mad_index(values: np.ndarray) -> np.ndarray:
    """(C,) anomaly index of each class's statistic: how far *above* the median, in MADs as standard deviations. NaN: none, index 0.

    The published indices take the absolute distance; a class whose statistic is unusually low is no target. Where more than half of the
    classes have the same statistic any other stands out: the unit is then a millionth of the largest.
    """
    out = np.zeros(len(values))
    known = ~np.isnan(values)
    away = values[known] - np.median(values[known]) if known.any() else np.empty(0)
    unit = max(MAD_TO_SD * float(np.median(np.abs(away))), 1e-6 * float(np.abs(values[known]).max())) if known.any() else 0.0
    if unit > 0:
        out[known] = away / unit
    return out


def comparable(squares: np.ndarray) -> np.ndarray:
    """(n,) scores of one class that compare with those of another: `robust_z` of the cube roots of squared lengths.

    Cube roots of chi-squared values are nearly Gaussian whatever the degrees of freedom (Wilson and Hilferty 1931); the order stays.
    """
    return robust_z(np.cbrt(squares))
