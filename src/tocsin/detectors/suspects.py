"""What the looks at the pictures of a named class share: what they see, whether its flagged samples are labelled wrongly, and which of its
samples networks take for one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tocsin.detectors.confusion import PretrainSettings, pretrain
from tocsin.detectors.workbench import Bench, side_by_side, sweep
from tocsin.runtime import Runtime, Ticker

FOLDS = 3
"""Networks a draw; each judges the part of the class and of its reserve that it was not taught with."""
OTHERS = 20_000
"""Unflagged samples of other classes that are taught beside, at most."""

WRONG = 0.25
"""Samples are taken to be labelled wrongly where at most this share of them fit their label better than its median sample. Of clean
ones half do; poison of which a tenth does, as of Dynamic, may have two clean ones among five when it reaches this."""


@dataclass(frozen=True)
class Teaching:
    """Of the networks that are to know suspects again: what they see, which they are, how they are taught, and how often at most."""

    bench: Bench
    network: str
    how: PretrainSettings
    times: int


@dataclass(frozen=True)
class Suspects:
    """The samples of one audit: n inspected, then the reserve. Networks read pixels; labels say who is of a class."""

    bench: Bench
    fit: np.ndarray
    """(n + m,) how well labels fit (`misfits.fit_of_labels`)."""
    groups: np.ndarray
    """(n,) numbers, equal for near duplicates."""
    ignore: np.ndarray
    """(n,) bool: rows that stay as they are and teach or shape nothing."""
    runtime: Runtime

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.bench.labels.cpu().numpy())

    def right(self, k: int, flagged: np.ndarray) -> np.ndarray:
        """(n,) bool: samples whose label fits them better than it fits the median unflagged sample of class ``k``."""
        n = len(flagged)
        fit, rest = self.fit[:n], (self.labels[:n] == k) & ~flagged & ~self.ignore
        return np.asarray(fit > (np.median(fit[rest]) if rest.any() else -np.inf))

    def wrongly_labelled(self, k: int, flagged: np.ndarray) -> bool:
        """Whether the labels of the ``flagged`` (n,) samples of class ``k``, of which there are some, are wrong."""
        mine = flagged & (self.labels[: len(flagged)] == k) & ~self.ignore
        return bool(self.right(k, flagged)[mine].mean() <= WRONG)

    def odds_of_kind(self, k: int, draw: int, rows: np.ndarray, taught: np.ndarray, flagged: np.ndarray, by: Teaching) -> np.ndarray:
        """(r,) log odds that the samples ``rows`` (r,), of class ``k`` or reserve, are of the kind of those ``taught`` (t,), row numbers as
        well, each by the network that was not taught with it, nor with its near duplicates. Each ``draw`` has other parts and networks.

        Taught beside are the other ``rows``, the reserve, and samples of other classes that are not ``flagged`` (n,) bool.
        """
        n, labels, rng = len(flagged), self.labels, np.random.default_rng([self.runtime.seed, 0x2E0, k, draw])
        others = rng.permutation(np.flatnonzero((labels[:n] != k) & ~flagged & ~self.ignore))[:OTHERS]
        seen = np.concatenate([rows, others, np.setdiff1d(n + np.flatnonzero(labels[n:] != k), rows)])
        place = np.concatenate([rng.integers(0, FOLDS, n)[self.groups], rng.integers(0, FOLDS, len(labels) - n)])[seen]
        kind = np.zeros(len(labels), np.int64)
        kind[taught] = 1
        two = replace(by.bench, labels=torch.from_numpy(kind).to(by.bench.device), classes=2)
        ticker = Ticker(self.runtime, f"looking at suspects again, {draw + 1} of {by.times}", FOLDS * by.how.steps)

        def job(fold: int) -> np.ndarray:
            seed = int(np.random.SeedSequence([self.runtime.seed, 0x2E0, k, draw, fold]).generate_state(1)[0])
            network, generator = two.network(by.network, 1.0, seed), torch.Generator().manual_seed(seed)
            learned = seen[place != fold]
            clean, alike = learned[kind[learned] == 0], learned[kind[learned] == 1]
            if not len(alike):  # all are near duplicates of each other
                return np.zeros(int((place[: len(rows)] == fold).sum()))
            both = np.concatenate([clean, np.resize(alike, len(clean))])  # either side weighs alike
            pretrain(network, two, torch.from_numpy(both), torch.empty(0, dtype=torch.long), by.how, generator, ticker)

            def read(inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
                other, same = network(*inputs).float().unbind(1)
                return torch.as_tensor(same - other)

            return sweep(read, network, two, torch.from_numpy(rows[place[: len(rows)] == fold]), lambda: None)

        odds = np.zeros(len(rows))
        for fold, theirs in enumerate(side_by_side(job, FOLDS, self.bench.device)):
            odds[place[: len(rows)] == fold] = theirs
        return odds
