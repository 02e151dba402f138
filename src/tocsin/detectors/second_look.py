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
import torch
from torch import Tensor

from tocsin.detectors.confusion import PretrainSettings, pretrain
from tocsin.detectors.decide import LEAST_SHARE, OWN_LEAST, cut
from tocsin.detectors.suspects import WRONG, Suspects
from tocsin.detectors.workbench import Bench, side_by_side, sweep
from tocsin.runtime import Ticker
from tocsin.stats.witnesses import of_poison, outranked, two_witnesses

FOLDS = 3
"""Networks a round; each judges the part of the class and of its reserve that it was not taught with."""
ROUNDS = 4
"""At most; in each what both witnesses were sure of in the last is taught."""
LEAST = 12
"""Samples that are taught, at least: four in each part."""
OTHERS = 20_000
"""Unflagged samples of other classes that are taught beside, at most."""
KNOWN_AGAIN = 0.75
"""How often, at least, the networks must put a flagged sample above one of the class's reserve. Flags that mean nothing come to a half;
where a third of the flagged ones is clean the best there can be is five sixths, and the rounds drop them from the teaching."""
NEWS = 0.15
"""So many further samples, as a share of the flagged ones, must be as likely poison as not after the first round; else nothing is added.
Where all poison is flagged already, the networks' mistakes come to less: 4 to 9 % (development; docs/confusion-training.md)."""
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
        if not self.wrongly_labelled(k, flagged):
            return nothing
        for r in range(ROUNDS):
            if taught.sum() < LEAST or (~taught).sum() < LEAST:
                return nothing
            odds = keep(k, r, partial(self._odds, k, r, rows, own[taught], flagged))
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

    def _teaching(self) -> tuple[Bench, str, PretrainSettings, int]:
        """What networks see, which they are, how they are taught, and how often at most."""
        return replace(self.bench, whitened=None), _NETWORK, _TRAINING, ROUNDS

    def _odds(self, k: int, r: int, rows: np.ndarray, taught: np.ndarray, flagged: np.ndarray) -> np.ndarray:
        """(len(rows),) log odds that the samples ``rows``, of class ``k`` or reserve, are of the kind of those ``taught``, each by the
        network that was not taught with it, nor with its near duplicates."""
        n, labels, rng = len(flagged), self.labels, np.random.default_rng([self.runtime.seed, 0x2E0, k, r])
        others = rng.permutation(np.flatnonzero((labels[:n] != k) & ~flagged & ~self.ignore))[:OTHERS]
        seen = np.concatenate([rows, others, np.setdiff1d(n + np.flatnonzero(labels[n:] != k), rows)])
        place = np.concatenate([rng.integers(0, FOLDS, n)[self.groups], rng.integers(0, FOLDS, len(labels) - n)])[seen]
        kind = np.zeros(len(labels), np.int64)
        kind[taught] = 1
        bench, name, how, times = self._teaching()
        two = replace(bench, labels=torch.from_numpy(kind).to(bench.device), classes=2)
        ticker = Ticker(self.runtime, f"looking at suspects again, {r + 1} of {times}", FOLDS * how.steps)

        def job(fold: int) -> np.ndarray:
            seed = int(np.random.SeedSequence([self.runtime.seed, 0x2E0, k, r, fold]).generate_state(1)[0])
            network, generator = two.network(name, 1.0, seed), torch.Generator().manual_seed(seed)
            learned = seen[place != fold]
            clean, alike = learned[kind[learned] == 0], learned[kind[learned] == 1]
            if not len(alike):  # all are near duplicates of each other
                return np.zeros(int((place[: len(rows)] == fold).sum()))
            both = np.concatenate([clean, np.resize(alike, len(clean))])  # either side weighs alike
            pretrain(network, two, torch.from_numpy(both), torch.empty(0, dtype=torch.long), how, generator, ticker)

            def read(inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
                other, same = network(*inputs).float().unbind(1)
                return torch.as_tensor(same - other)

            return sweep(read, network, two, torch.from_numpy(rows[place[: len(rows)] == fold]), lambda: None)

        odds = np.zeros(len(rows))
        for fold, theirs in enumerate(side_by_side(job, FOLDS, self.bench.device)):
            odds[place[: len(rows)] == fold] = theirs
        return odds


def _limit(mine: np.ndarray, clean: np.ndarray) -> float:
    """The log odds from which samples are flagged: where at least `LEAST_SHARE` of such samples are poison, by what the odds ``mine`` (a,)
    say themselves or, if that is lower, going by those of the class's reserve, ``clean`` (b,)."""
    by_odds = math.log(LEAST_SHARE / (1 - LEAST_SHARE))
    return min(by_odds, cut(mine, clean)) if len(clean) >= OWN_LEAST else by_odds
