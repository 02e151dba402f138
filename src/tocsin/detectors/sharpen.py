"""A second look at the rounds' scores: a matched filter, and each class measured by its own clean samples. Ours, not the paper's.

The rounds find part of a faint full-frame trigger's samples. What these have in common beyond their class is then estimated far better
by a difference of means in whitened pixels (linear discriminant analysis) than by further training on a few hundred samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SHARE = 0.002
"""Of the data set: so many of each class's highest scored samples the filter is drawn from ..."""
MOST = 0.1
"""... but at most this share of the class."""
_LEAST = 8
FOLDS = 10
_CHUNK = 4096
_HALF = 75.0
"""Distinct reserve samples of a class with which its own measure counts half, the usual class's the other half. Frames of one film are
one sample: with fewer, the noise of small or repetitive reserves makes gaps of its own (docs/confusion-training.md)."""


def sharpen(
    scores: np.ndarray, labels: np.ndarray, whitened: Tensor, n: int, fold: np.ndarray, ignore: np.ndarray, distinct: np.ndarray
) -> np.ndarray:
    """(n + m,) float32: ``scores`` plus the matched filter's, each in units of its classes' clean samples.

    The first ``n`` rows are inspected, the rest is reserve. ``fold`` (n,) 0..9, equal for near duplicates; rows in ``ignore`` (n,)
    are scored but shape nothing. ``distinct`` (C,): how many different reserve samples each class has, near duplicates counted once.
    """
    return added_up((scores, matched_filter(scores, labels, whitened, n, fold, ignore)), labels, n, ignore, distinct)


def added_up(views: Sequence[np.ndarray], labels: np.ndarray, n: int, ignore: np.ndarray, distinct: np.ndarray) -> np.ndarray:
    """(n + m,) float32: the sum of ``views`` (n + m,) each, in units of its classes' clean samples; the rest as in `sharpen`."""
    total = np.zeros(len(labels))
    for view in views:
        level = by_class(view, labels, n, distinct)
        total += level / max(float(level[:n][~ignore].std()), 1e-6)
    return total.astype(np.float32)


def matched_filter(scores: np.ndarray, labels: np.ndarray, whitened: Tensor, n: int, fold: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """(n + m,) float32 projections of ``whitened`` (n + m, D) on what sets the top of a row's class apart from its clean part.

    The direction of a class is the mean of its highest scored samples less the mean of those that score below its reserve. It is
    drawn once for each fold, without that fold, so that no sample is measured by a direction it had a part in.
    """
    out = np.zeros(len(labels), np.float32)
    for k in np.unique(labels[:n]):
        contrast = _contrast(k, scores, labels, n, fold, ignore)
        if contrast is None:
            continue
        rows = np.flatnonzero(labels == k)
        values = _project(whitened, rows, _directions([contrast], whitened))
        inspected = rows < n
        out[rows] = np.where(inspected, values[np.arange(len(rows)), fold[np.where(inspected, rows, 0)]], values.mean(1))
    return out


def common_filter(scores: np.ndarray, labels: np.ndarray, whitened: Tensor, n: int, fold: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """(n + m,) float32 as `matched_filter`, on what sets the tops of all classes apart from their clean parts: one direction for them all.

    ``fold`` (n + m,): reserve rows too are measured by one fold's direction each, so that inspected and reserve rows are treated alike.
    """
    contrasts = [_contrast(k, scores, labels, n, fold[:n], ignore) for k in np.unique(labels[:n])]
    known = [contrast for contrast in contrasts if contrast is not None]
    if not known:
        return np.zeros(len(labels), np.float32)
    rows = np.arange(len(labels))
    return np.asarray(_project(whitened, rows, _directions(known, whitened))[rows, fold], np.float32)


def _contrast(
    k: int, scores: np.ndarray, labels: np.ndarray, n: int, fold: np.ndarray, ignore: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """(rows (B,), their weights (FOLDS, B)): class ``k``'s top less its clean part, each time without one fold; None of small classes."""
    rows = np.flatnonzero(labels == k)
    own = rows[rows < n]
    own = own[~ignore[own]]
    if len(own) < 4 * _LEAST:
        return None
    order = own[np.argsort(-scores[own], kind="stable")]
    reserved = scores[rows[rows >= n]]
    clean = own[scores[own] < (np.median(reserved) if len(reserved) >= 5 else np.median(scores[own]))]
    if len(clean) < _LEAST:
        clean = order[-len(own) // 4 :]
    top = order[: max(_LEAST, int(min(SHARE * n, MOST * len(own))))]
    picked = np.concatenate([top, clean])
    other = fold[picked] != np.arange(FOLDS)[:, None]
    return picked, np.concatenate([_shares(other[:, : len(top)]), -_shares(other[:, len(top) :])], axis=1)


def _directions(contrasts: Sequence[tuple[np.ndarray, np.ndarray]], whitened: Tensor) -> Tensor:
    """(FOLDS, D) of length one: the sum of ``contrasts``, of each fold."""
    rows, weights = (np.concatenate(parts, axis=-1) for parts in zip(*contrasts, strict=True))
    direction = _weighted_sums(weights, whitened, rows)
    direction /= direction.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return direction


def by_class(values: np.ndarray, labels: np.ndarray, n: int, distinct: np.ndarray) -> np.ndarray:
    """(n + m,) ``values`` less the median of their class's reserve rows (from ``n`` on), over those rows' spread above it.

    Natural families of look-alikes make a class's tail long in the reserve too; a trigger does not. The fewer ``distinct`` (C,) reserve
    samples a class has, the more it is measured like the usual class.
    """
    classes = len(distinct)
    centre, scale = np.full(classes, np.nan), np.full(classes, np.nan)
    for k in range(classes):
        clean = values[n:][labels[n:] == k]
        if len(clean):
            centre[k] = np.median(clean)
        if len(clean) >= 3:
            scale[k] = np.sqrt(2 * np.mean(np.square(np.maximum(clean - centre[k], 0))))
    # A middle is known from fewer samples than the length of a tail.
    centre = _towards_usual(centre, distinct / (distinct + 0.4 * _HALF), 0.0)
    scale = _towards_usual(scale, distinct**2 / (distinct**2 + _HALF**2), 1.0)
    return np.asarray((values - centre[labels]) / np.maximum(scale, 1e-6)[labels])


def _towards_usual(measured: np.ndarray, weight: np.ndarray, otherwise: float) -> np.ndarray:
    """(C,) ``measured``, drawn towards the usual class's where ``weight`` (0..1) is low; NaN are unknown, ``otherwise`` if all are."""
    usual = float(np.nanmedian(measured)) if np.isfinite(measured).any() else otherwise
    return np.asarray(weight * np.nan_to_num(measured, nan=usual) + (1 - weight) * usual)


def count_distinct(groups: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(C,) how many different ``groups`` (M,) of near duplicates each class has among ``labels`` (M,)."""
    return np.array([len(np.unique(groups[labels == k])) for k in range(classes)])


def _shares(member: np.ndarray) -> np.ndarray:
    """(F, B) bool to weights that add up to one in each row that has members."""
    return np.asarray(member / np.maximum(member.sum(1, keepdims=True), 1), np.float32)


def _weighted_sums(weight: np.ndarray, whitened: Tensor, rows: np.ndarray) -> Tensor:
    total = torch.zeros(len(weight), whitened.shape[1], device=whitened.device)
    for start in range(0, len(rows), _CHUNK):
        part = torch.from_numpy(rows[start : start + _CHUNK]).to(whitened.device)
        total += torch.from_numpy(weight[:, start : start + _CHUNK]).to(whitened.device) @ whitened[part].float()
    return total


def _project(whitened: Tensor, rows: np.ndarray, direction: Tensor) -> np.ndarray:
    parts = []
    for start in range(0, len(rows), _CHUNK):
        part = torch.from_numpy(rows[start : start + _CHUNK]).to(whitened.device)
        parts.append((whitened[part].float() @ direction.T).cpu())
    return torch.cat(parts).numpy()
