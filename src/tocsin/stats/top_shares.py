"""What do the samples at the top of an order have in common, and which others show it too? Ours; docs/audio-stego.md.

Of the samples that are doubted (or believed) more than others some are so because of a trigger, most for reasons of their own. Reasons of
their own average out; what is left is the trigger. It is the matched filter of `detectors/sharpen.py` for classes of some hundreds of
samples, where poison is no small part of a class and one draw of the folds more or less tells.
"""

from __future__ import annotations

import numpy as np

TOP = 0.2
"""Share of the samples that the direction is drawn from, against the rest of them."""
LOOKS = 3
"""Each draws the direction anew, from those that are high in the order and far along the direction before."""
FOLDS = 10
DRAWS = 3
"""Of the folds; what they show is averaged."""


def shared_by_top(x: np.ndarray, order: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) how far each sample of one class lies along what the highest in ``order`` (n,) have in common and the rest has not.

    ``x`` (n, d), its noise about of unit covariance. Only ``free`` (n,) bool samples shape the direction; no sample is measured by one
    that it had a part in, so that a clean free sample is treated exactly as one that is not free.
    """
    if len(x) < x.shape[1]:
        x = np.asarray(np.linalg.qr(x.T, mode="r")).T  # fewer numbers with the same products
    return np.asarray(np.mean([_along(x, order, free, rng.permutation(len(x)) % FOLDS) for _ in range(DRAWS)], axis=0))


def _along(x: np.ndarray, order: np.ndarray, free: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n,) as `shared_by_top`, of one draw of the folds: for each fold f every look is made without f, and what a look says of a sample of
    another fold g is told by a direction that was drawn without f and g."""
    other = fold[:, None] != np.arange(FOLDS)
    used = free[:, None, None] & other[:, :, None] & other[:, None, :]  # (n, f, g)
    score = high = _ranks(order[:, None])
    for _ in range(LOOKS):
        top = (_ranks(score) >= 1 - TOP)[:, :, None]
        direction = np.tensordot(x, _shares(top & used) - _shares(~top & used), (0, 0))  # (d, f, g)
        direction /= np.maximum(np.linalg.norm(direction, axis=0), 1e-9)
        along = np.empty((len(x), FOLDS))
        for g in range(FOLDS):
            along[fold == g] = x[fold == g] @ direction[:, :, g]
        score = high + _ranks(along)
    return np.asarray(along[np.arange(len(x)), fold])  # where f and g are the same


def _ranks(values: np.ndarray) -> np.ndarray:
    """As ``values`` (n, f): the share of the column that is lower."""
    return np.asarray(values.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") / len(values))


def _shares(member: np.ndarray) -> np.ndarray:
    """(n, f, g) bool to weights that sum to 1 over n, where there are members."""
    return np.asarray(member / np.maximum(member.sum(axis=0), 1))
