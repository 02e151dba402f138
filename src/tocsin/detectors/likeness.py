"""What the flagged samples of a class have in common as small convolutions see it, and which further samples of it show the same. Ours.

Of a trigger that differs from sample to sample (Dynamic), or moves, the rounds find a part, and name the class. What sets that part off
from everything clean is then learned directly, which the rounds cannot do: to them poison is rare among all else. That is done only
where the flagged samples' labels are wrong, and goes on only as long as those of the added ones are wrong as often: what clean samples
of the class have in common looks like the flagged ones too, but their labels are right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from tocsin.detectors.confusion import PretrainSettings, pretrain
from tocsin.detectors.decide import cut
from tocsin.detectors.sharpen import by_class
from tocsin.detectors.suspects import WRONG, Suspects
from tocsin.detectors.workbench import Bench, side_by_side, sweep
from tocsin.runtime import Runtime, Ticker

LEAST = 8
"""Flagged samples of a class that are learned from, at least."""
ROUNDS = 5
"""At most. In each the samples that the last one added are learned from as well; those that were flagged at first stay."""
THIRDS = 3
"""Networks for either half of the clean samples. Each leaves out one part of the flagged ones, which it scores afterwards."""
DOUBT = 0.02
"""A further sample must look more like the flagged ones than this share of these do to networks that were not trained on them; those that
look like clean samples of the class are false alarms, and say nothing."""
MOST = 20_000
"""Samples of other classes that are taken for clean."""
_TRAINING = PretrainSettings(steps=300, lr=0.05, batch=128)


@dataclass(frozen=True)
class Likeness(Suspects):
    """Finds what looks like the flagged samples of their class."""

    distinct: np.ndarray
    """(C,) different reserve samples of each class."""

    def extended(self, flagged: np.ndarray, surest: np.ndarray | None = None) -> np.ndarray:
        """(n,) bool: ``flagged`` (n,) and the samples that look like the flagged ones of their class; never fewer.

        Only classes are asked about that have any of the ``surest`` (n,) bool of the flagged samples. Where `LEAST` are, these alone are
        learned from, for false alarms teach what clean samples look like; where that adds nothing, all that are flagged.
        """
        out, labels = np.array(flagged), self.labels[: len(flagged)]
        sure = flagged if surest is None else flagged & surest
        for k in np.unique(labels[sure & ~self.ignore]).tolist():
            mine = (labels == k) & ~self.ignore
            apart = (sure & mine).sum() >= LEAST and (flagged & mine & ~sure).any()
            for start in (sure, flagged) if apart else (flagged,):
                added = self._of_class(k, start) if self._teachable(k, start) else np.empty(0, np.int64)
                out[added] = True
                if not flagged[added].all():
                    break
        return out

    def _teachable(self, k: int, flagged: np.ndarray) -> bool:
        """Whether there are flagged samples of class ``k`` to learn from, whose labels are wrong, and others to ask about."""
        mine = (self.labels[: len(flagged)] == k) & ~self.ignore
        return bool(min((mine & flagged).sum(), (mine & ~flagged).sum()) >= LEAST and self.wrongly_labelled(k, flagged))

    def _of_class(self, k: int, flagged: np.ndarray) -> np.ndarray:
        """Row numbers of class ``k`` that look like its ``flagged`` ones and are not flagged."""
        n, labels, seed = len(flagged), self.labels, self.runtime.seed
        rng, mine = np.random.default_rng([seed, 0x11CE, k]), labels[:n] == k
        first, rest = np.flatnonzero(mine & flagged & ~self.ignore), np.flatnonzero(mine & ~flagged & ~self.ignore)
        others = rng.permutation(np.flatnonzero(~mine & ~flagged & ~self.ignore))[:MOST]
        added, right = rest[:0], self.right(k, flagged)
        if not len(others):
            return added
        asked = np.concatenate([rest, others, np.arange(n, len(labels))])
        inspected = len(rest) + len(others)
        for r in range(ROUNDS):
            half = np.concatenate([rng.integers(0, 2, n)[self.groups[asked[:inspected]]], rng.integers(0, 2, len(asked) - inspected)])
            stage = f"what the suspects share, {r + 1} of {ROUNDS}"
            odds, own = _odds(np.concatenate([first, added]), asked, half, len(rest), self.bench, [seed, k, r], self.runtime, stage)
            odds[np.searchsorted(rest, added)] = own[len(first) :]  # what the last round added was trained on
            level = by_class(odds, labels[asked], inspected, self.distinct)
            limit = cut(level[: len(rest)], level[len(rest) : inspected])
            # A family of the class's own is in its reserve too.
            clean = odds[inspected:][labels[n:] == k].max(initial=-np.inf)
            alike = own[: len(first)][own[: len(first)] > clean]
            if not len(alike):
                break
            seen = odds[: len(rest)]
            new = rest[(level[: len(rest)] >= limit) & (seen > clean) & (seen > np.quantile(alike, DOUBT))]
            if np.array_equal(new, added) or (len(new) and right[new].mean() > WRONG):  # it changes no more, or grows into the class itself
                break
            added = new
        return added


def _odds(
    likes: np.ndarray, asked: np.ndarray, half: np.ndarray, rest: int, bench: Bench, seeds: list[int], runtime: Runtime, stage: str
) -> tuple[np.ndarray, np.ndarray]:
    """(log odds of being like the rows ``likes``, of all rows ``asked``; the same of ``likes``), each by networks not trained on it.

    The first ``rest`` of ``asked`` may be poison and are not trained on; the others are clean: those of one ``half`` are trained on by the
    networks that score the other.
    """
    answers = torch.zeros_like(bench.labels)
    answers[torch.from_numpy(likes).to(bench.device)] = 1
    two = replace(bench, labels=answers, classes=2, whitened=None)
    third = np.random.default_rng([*seeds, 3]).permutation(len(likes)) % THIRDS
    jobs = list(product((0, 1), range(THIRDS)))
    ticker = Ticker(runtime, stage, len(jobs) * _TRAINING.steps)
    known = np.arange(len(asked)) >= rest

    def job(number: int) -> tuple[np.ndarray, np.ndarray]:
        h, t = jobs[number]
        seed = int(np.random.SeedSequence([*seeds, h, t]).generate_state(1)[0])
        network, generator = two.network("shortcut", 1.0, seed), torch.Generator().manual_seed(seed)
        clean, alike = asked[known & (half != h)], likes[third != t]
        both = np.concatenate([clean, np.resize(alike, len(clean))])  # either side weighs alike
        pretrain(network, two, torch.from_numpy(both), torch.empty(0, dtype=torch.long), _TRAINING, generator, ticker)

        def read(inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            clean_logit, alike_logit = network(*inputs).unbind(1)
            return torch.as_tensor(alike_logit - clean_logit)

        theirs, own = (sweep(read, network, two, torch.from_numpy(rows), lambda: None) for rows in (asked[half == h], likes[third == t]))
        return theirs, own

    odds, own = np.zeros(len(asked)), np.zeros(len(likes))
    for (h, t), (theirs, left_out) in zip(jobs, side_by_side(job, len(jobs), bench.device), strict=True):
        odds[half == h] += theirs / THIRDS
        own[third == t] += left_out / 2
    return odds, own
