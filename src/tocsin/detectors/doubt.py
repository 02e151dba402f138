"""Classes in which very many labels do not fit, and whether these samples share a texture. Ours.

Poison as dense as a tenth of its class is learned by the networks that are asked whether labels fit (`misfits`), in part, and a warp leaves
no pattern in pixels for the filter to add up. But more labels then do not fit than do in the reserve of the same class, which was scored by
the same networks. Such a class is asked about once more, by networks that were not trained on what fitted worst, and its misfits are
compared as `texture`. Numbers of wrong labels alone name no class: mistakes raise them too.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from tocsin.detectors.decide import Series
from tocsin.detectors.misfits import filtered

QUESTION = "many labels"
SHARE = 0.05
"""Of alpha: bound on the chance that any clean class is doubted."""
NULL_SCALE = 0.151
"""The limit of what misfits share as texture is then 1.15; those of plain mistakes, up to a quarter of a class, come to 0.94 at most
(development; docs/confusion-training.md)."""
_CLEAR = 2.5
"""The excess of a doubted class must be so many times the usual class's ..."""
_LEAST = 75
"""... and its reserve must have so many distinct samples: a few films say how well labels fit those films (GTSRB by track)."""

_FALSE_SHARE = 0.2
"""Of what is flagged of such a class: a part of what fits badly is clean, and much of it is poison."""


def doubted(fit: np.ndarray, labels: np.ndarray, ignore: np.ndarray, distinct: np.ndarray, alpha: float) -> np.ndarray:
    """(C,) bool: classes more of whose inspected samples do not fit their label than of their reserve; arguments as of `excess`."""
    much, chance = excess(fit, labels, ignore, distinct)
    return np.asarray((chance * len(distinct) <= alpha * SHARE) & (much >= _CLEAR * np.median(much)))


def excess(fit: np.ndarray, labels: np.ndarray, ignore: np.ndarray, distinct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) each: how many more of a class's inspected samples than of its reserve do not fit their label, as a share, and the chance of
    that on clean data, 1 where the reserve is too small to say.

    ``fit`` (n + m,) as of `misfits.fit_of_labels`, ``labels`` (n + m,), ``ignore`` (n,), ``distinct`` (C,) as in `sharpen`. One-sided test
    of Kolmogorov and Smirnov on two samples: on clean data those of a class and of its reserve are draws from one law.
    """
    n, classes = len(ignore), len(distinct)
    out, chance = np.zeros(classes), np.ones(classes)
    for k in range(classes):
        mine = np.sort(fit[:n][(labels[:n] == k) & ~ignore])
        clean = np.sort(fit[n:][labels[n:] == k])
        known = min(len(clean), int(distinct[k]))
        if len(mine) and known >= _LEAST:
            at = np.unique(mine)
            worse = np.searchsorted(mine, at, side="right") / len(mine) - np.searchsorted(clean, at, side="right") / len(clean)
            out[k] = max(0.0, float(worse.max()))
            chance[k] = math.exp(-2 * out[k] ** 2 * known * len(mine) / (known + len(mine)))
    return out, chance


def trusted(fit: np.ndarray, labels: np.ndarray, which: np.ndarray) -> np.ndarray:
    """(n,) bool: all samples but the half of each class of ``which`` (C,) bool whose labels fit worst. ``fit``, ``labels``: (n,)."""
    out = np.ones(len(labels), bool)
    for k in np.flatnonzero(which):
        out[labels == k] = fit[labels == k] >= np.median(fit[labels == k])
    return out


def looks(
    fit: np.ndarray,
    labels: np.ndarray,
    textures: Tensor,
    groups: np.ndarray,
    ignore: np.ndarray,
    distinct: np.ndarray,
    which: np.ndarray,
    seed: int,
) -> Series:
    """What misfits of a class share as texture, (n + m,) float32 in each look ("grain 1" and so on), and with how badly labels
    fit ("many labels 1"), by which samples of classes in ``which`` (C,) bool are flagged.

    ``textures`` (n + m, D): whitened; the rest as in `misfits.looks`.
    """
    n, rng = len(groups), np.random.default_rng([seed, 0x5A, 0xD0])
    rounds, flagging = filtered(fit, labels, textures, groups, ignore, distinct, rng, ("grain", QUESTION))
    reserve = {name: [view[n:][labels[n:] == k] for k in range(len(distinct))] for views in flagging for name, view in views.items()}
    return Series(QUESTION, rounds, flagging, NULL_SCALE, SHARE, among=which, reserve=reserve, alike=False, false_share=_FALSE_SHARE)
