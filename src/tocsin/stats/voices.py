"""Who or what a clip sounds like, whatever it says: clusters that are alike in all classes, so that a class's own poison makes none."""

from __future__ import annotations

import numpy as np

_AXES = 10
_RESTARTS, _ROUNDS = 3, 15


def voices(
    sound: np.ndarray, labels: np.ndarray, leave: int, count: int, rng: np.random.Generator, speakers: np.ndarray | None = None
) -> np.ndarray:
    """(n,) int64: which of ``count`` clusters of the samples of all classes but ``leave`` each sample is nearest to.

    ``sound`` (n, d) from the centre of its class. ``speakers`` (n,) int64, -1 where not known: a speaker's samples then have one place, the
    mean of those outside class ``leave``, so that no speaker is divided.
    """
    values, vectors = np.linalg.eigh(sound.T @ sound)
    place = sound @ vectors[:, : -min(_AXES, len(values)) - 1 : -1]
    if speakers is not None:
        place = _by_speaker(place, labels != leave, speakers)
    others = place[labels != leave] if (labels != leave).any() else place
    return _nearest(place, _centres(others, min(count, len(others)), rng))


def _by_speaker(place: np.ndarray, outside: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """``place`` (n, q) with the mean of each known speaker's samples that are ``outside`` (n,) bool, if there are any."""
    told = speakers >= 0
    sums, sizes = np.zeros((int(speakers.max(initial=-1)) + 1, place.shape[1])), np.bincount(speakers[told & outside])
    sizes = np.pad(sizes, (0, len(sums) - len(sizes)))
    np.add.at(sums, speakers[told & outside], place[told & outside])
    heard = told & (sizes[speakers] > 0)
    out = place.copy()
    out[heard] = (sums / np.maximum(sizes, 1)[:, None])[speakers[heard]]
    return np.asarray(out)


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
            sums = np.zeros_like(centres)
            np.add.at(sums, own, place)
            centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
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
