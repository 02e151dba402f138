"""Who or what a clip sounds like, whatever it says: clusters that are alike in all classes, so that a class's own poison makes none."""

from __future__ import annotations

import numpy as np

_AXES = 10
_RESTARTS, _ROUNDS = 3, 15


def voices(
    sound: np.ndarray, labels: np.ndarray, classes: int, count: int, rng: np.random.Generator, speakers: np.ndarray | None = None
) -> np.ndarray:
    """(classes, n) int64: for each class, which of ``count`` clusters of the samples of all *others* each sample is nearest to.

    ``sound`` (n, d) from the centre of its class. ``speakers`` (n,) int64, -1 where not known: a speaker's samples then have one place, the
    mean of those outside the class, so that no speaker is divided.
    """
    values, vectors = np.linalg.eigh(sound.T @ sound)
    everywhere = sound @ vectors[:, : -min(_AXES, len(values)) - 1 : -1]
    out = np.empty((classes, len(labels)), np.int64)
    for k in range(classes):
        outside = labels != k
        place = everywhere if speakers is None else _by_speaker(everywhere, outside, speakers)
        others = place[outside] if outside.any() else place
        out[k] = _nearest(place, _centres(others, min(count, len(others)), rng))
    return out


def _by_speaker(place: np.ndarray, outside: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """``place`` (n, q) with the mean of each known speaker's samples that are ``outside`` (n,) bool, if there are any."""
    told = speakers >= 0
    known = int(speakers.max(initial=-1)) + 1
    sizes = np.bincount(speakers[told & outside], minlength=known)
    sums = summed(place[told & outside], speakers[told & outside], known)
    heard = told.copy()
    heard[told] = sizes[speakers[told]] > 0
    out = place.copy()
    out[heard] = (sums / np.maximum(sizes, 1)[:, None])[speakers[heard]]
    return np.asarray(out)


def summed(values: np.ndarray, cells: np.ndarray, count: int) -> np.ndarray:
    """(count, d) sums of the rows of ``values`` (n, d) in each of the ``cells`` (n,) int64. Tens of times as fast as ``np.add.at``."""
    return np.stack([np.bincount(cells, column, minlength=count) for column in values.T], axis=1)


def _nearest(place: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.asarray((np.square(centres).sum(1) - 2 * place @ centres.T).argmin(1), np.int64)


def _centres(place: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means: (count, q), the best of a few random starts."""
    best, least = place[:count], np.inf
    for _ in range(_RESTARTS):
        centres = _apart(place, count, rng)
        for _ in range(_ROUNDS):
            own = _nearest(place, centres)
            sizes = np.bincount(own, minlength=count)
            centres = np.where(sizes[:, None] > 0, summed(place, own, count) / np.maximum(sizes, 1)[:, None], centres)
        rest = float(np.square(place - centres[_nearest(place, centres)]).sum())
        if rest < least:
            best, least = centres, rest
    return best


def _apart(place: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, q) samples to start from, each drawn by its squared distance from those before it (k-means++)."""
    chosen = [int(rng.integers(len(place)))]
    away = np.full(len(place), np.inf)
    for _ in range(count - 1):
        away = np.minimum(away, np.square(place - place[chosen[-1]]).sum(1))
        total = float(away.sum())
        chosen.append(int(rng.choice(len(place), p=away / total if total > 0 else None)))
    return place[chosen]
