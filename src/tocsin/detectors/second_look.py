"""A second look: once a class of pictures is named, which others of its samples are of the kind that was flagged? Ours.

The rounds and the labels find a part of a trigger that differs from sample to sample, and `likeness` learns it with networks that are
greedy for shortcuts. An ordinary network learns what these do not, if it is taught nothing else: the flagged samples against all others,
from which it cannot tell them by what they show, since others show that too. No sample is judged by a network that it taught. What the
networks say and how well the label fits are two witnesses (`tocsin.stats.witnesses`); what both are sure of is taught in the next round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from tocsin.detectors.confusion import PretrainSettings
from tocsin.detectors.decide import LEAST_SHARE, OWN_LEAST, cut
from tocsin.detectors.suspects import WRONG, Suspects, Teaching
from tocsin.stats.witnesses import of_poison, outranked, two_witnesses

ROUNDS = 4
"""At most; in each what both witnesses were sure of in the last is taught."""
LEAST = 12
"""Samples that are taught, at least: four in each part."""
KNOWN_AGAIN = 0.75
"""How often, at least, the networks must put a flagged sample above one of the class's reserve. Flags that mean nothing come to a half;
where a third of the flagged ones is clean the best there can be is five sixths, and the rounds drop them from the teaching."""
NEWS = 0.1
"""So many further samples, as a share of the flagged ones, must be as likely poison as not after the first round; else nothing is added.
Where all poison of the kind is flagged already, the networks' mistakes come to less: 1 to 9 %; where it is not, to 13 to 27 (development;
docs/confusion-training.md)."""
_NETWORK = "small"
_TRAINING = PretrainSettings(steps=300, lr=0.1, batch=128)

Keep = Callable[[int, int, Callable[[], np.ndarray]], np.ndarray]
"""``keep(k, round, make)``: what ``make`` gave in that round for class k, from disk if it is there, so that a killed run goes on."""


class SecondLook(Suspects):
    """Finds what is of the kind of the flagged samples of their class, in rounds."""

    def extended(
        self, flagged: np.ndarray, alike: np.ndarray, surest: np.ndarray | None = None, keep: Keep = lambda k, r, make: make()
    ) -> np.ndarray:
        """(n,) bool: ``alike`` and the samples of its kind in its class; never fewer.

        ``flagged`` (n,) bool: what the verdict flags; ``alike`` (n,) bool: that and what `likeness` adds. Only classes are looked at that
        have any of the ``surest`` (n,) bool of the flagged samples, and whose flagged samples are labelled wrongly.
        """
        out, labels = np.array(alike), self.labels[: len(flagged)]
        sure = flagged if surest is None else flagged & surest
        for k in np.unique(labels[sure & ~self.ignore]).tolist():
            out[self._of_class(k, flagged, alike, keep)] = True
        return out

    def _of_class(self, k: int, flagged: np.ndarray, alike: np.ndarray, keep: Keep) -> np.ndarray:
        """Row numbers of class ``k`` that are of the kind of its ``alike`` ones, which are taught first, and are not of the ``flagged``."""
        n, labels = len(flagged), self.labels
        own = np.flatnonzero((labels[:n] == k) & ~self.ignore)
        rows = np.concatenate([own, n + np.flatnonzero(labels[n:] == k)])
        first, fits = flagged[own], self.right(k, flagged)[own]
        taught, both, nothing = alike[own], np.full(len(rows), -np.inf), own[:0]
        teaching = Teaching(replace(self.bench, whitened=None), _NETWORK, _TRAINING, ROUNDS)
        if not self.wrongly_labelled(k, flagged):
            return nothing
        for r in range(ROUNDS):
            if taught.sum() < LEAST or (~taught).sum() < LEAST:
                return nothing
            odds = keep(k, r, partial(self.odds_of_kind, k, r, rows, own[taught], flagged, teaching))
            if r == 0 and outranked(odds[: len(own)][taught], odds[len(own) :]) < KNOWN_AGAIN:
                return nothing
            both = two_witnesses(of_poison(odds, taught), -self.fit[rows], len(own))
            sure = both[: len(own)] >= 0
            if r == 0 and (sure & ~first).sum() < NEWS * first.sum():
                return nothing
            if np.array_equal(sure, taught):
                break
            taught = sure
        new = (both[: len(own)] >= _limit(both[: len(own)], both[len(own) :])) & ~first
        return own[new] if new.any() and fits[new].mean() <= WRONG else nothing


def _limit(mine: np.ndarray, clean: np.ndarray) -> float:
    """The log odds from which samples are flagged: where at least `LEAST_SHARE` of such samples are poison, by what the odds ``mine`` (a,)
    say themselves or, if that is lower, going by those of the class's reserve, ``clean`` (b,)."""
    by_odds = math.log(LEAST_SHARE / (1 - LEAST_SHARE))
    return min(by_odds, cut(mine, clean)) if len(clean) >= OWN_LEAST else by_odds
