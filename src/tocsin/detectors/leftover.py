"""What the flags leave of a named class: samples that show another class and share a pattern of their own. Ours.

A trigger may come in several forms (Adap-Patch: four faint patches), of which the rounds find some and name the class by these. The
others look like little that was flagged, so neither `likeness` nor `second_look` can learn them. But their labels are wrong too, and
ordinary networks know that far better than the quick ones of `misfits` do, as long as they have not learned single samples by heart. The
samples that they doubt most are few, many of them of one kind: what they have in common in whitened pixels, beside the kinds that are
known, is the pattern. Flagged samples that show it, too few for a kind that is known, help to draw it. Only samples whose labels fit worse
than those of half of their class are asked about.

Whether anything was left cannot be seen in these scores: they are as high in many a clean class. But where the flagged samples are of
several kinds themselves, one more is to be expected; where they are all of one, none is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.detectors.confusion import PretrainSettings
from tocsin.detectors.misfits import odds_of_labels
from tocsin.detectors.suspects import Suspects
from tocsin.detectors.workbench import side_by_side
from tocsin.runtime import Ticker

NETWORKS = 2
"""Whose doubts are averaged. Each is taught all samples but the flagged, so it judges what it was taught with, the clean ones alike."""
PASSES = 3.2
"""Over the samples: enough to know the classes, too few to know single samples. After ten most wrong labels are learned by heart
(docs/confusion-training.md)."""
LEAST_STEPS = 150
FIRST = 20
"""Samples that the pattern is drawn from ..."""
MOST = 0.1
"""... but at most this share of those asked about, and ..."""
LEAST = 8
"""... at least so many; smaller classes are left as they are."""
JOINED = 2.5
"""So many standard deviations along the pattern, and a flagged sample is of that kind."""
LOOKS = 5
"""In each the pattern is drawn anew from what label and pattern put first; the first goes by labels alone."""
KINDS = 0.025
"""Flagged samples are of several kinds where this share more of their variance lies along their second widest direction than of that of so
many samples of their class. Samples that differ in one thing alone, as poison and false alarms, are wide along one. With a few false alarms
Adap-Patch comes to 0.029 to 0.076 on four data sets, triggers that take one form to 0.023 at most (docs/confusion-training.md)."""
_DRAWS, _MOST = 10, 300
"""The comparison's sets of samples of the class, and the largest size of them and of the flagged."""
ADDED = 0.01
"""Share of a class that is flagged where its flagged samples are of several kinds, those that label and pattern put first: what
`decide.cut` lets go wrong."""
_NETWORK, _LR, _BATCH = "small", 0.1, 128


class Leftover(Suspects):
    """Finds samples of a further kind, by their labels and by a pattern of whitened pixels."""

    def extended(
        self,
        flagged: np.ndarray,
        named: np.ndarray,
        keep: Callable[[Callable[[], np.ndarray]], np.ndarray] = lambda make: make(),
    ) -> np.ndarray:
        """(n,) bool: ``flagged`` (n,) and what is left of the same classes' poison; never fewer.

        Only classes are looked at that have any of the flagged samples ``named`` (n,) bool, and whose flagged samples are labelled
        wrongly and of several kinds. ``keep(make)``: what ``make`` gave, from disk if it is there.
        """
        n, out = len(flagged), np.array(flagged)
        labels = self.labels[:n]
        if self.bench.whitened is None:
            return out
        asked = [k for k in np.unique(labels[named & flagged & ~self.ignore]).tolist() if self.wrongly_labelled(k, flagged)]
        rows = {k: self._doubtful(k, labels, flagged) for k in asked}
        kinds = {k: self._kinds(k, labels, flagged & named) for k, mine in rows.items() if MOST * len(mine) >= LEAST}
        kinds = {k: known for k, known in kinds.items() if len(known) > 1}
        if not kinds:
            return out
        doubt = keep(lambda: self._doubt(flagged))[:n]
        for k, known in kinds.items():
            mine, own = rows[k], (labels == k) & ~self.ignore
            scores = self._of_class(mine, np.flatnonzero(own & flagged), doubt[mine], known)
            out[mine[np.argsort(-scores, kind="stable")[: round(ADDED * own.sum())]]] = True
        return out

    def _doubtful(self, k: int, labels: np.ndarray, flagged: np.ndarray) -> np.ndarray:
        """Row numbers of the unflagged half of class ``k`` that its label fits worse."""
        return np.flatnonzero((labels == k) & ~flagged & ~self.ignore & ~self.right(k, flagged))

    def _kinds(self, k: int, labels: np.ndarray, flagged: np.ndarray) -> Tensor:
        """(q, D) directions along which the surest ``flagged`` samples of class ``k`` vary more than samples of the class do (`KINDS`).

        One where poison and false alarms differ, more where they are of several kinds, none where they are too few.
        """
        mine, rest = (np.flatnonzero((labels == k) & which & ~self.ignore) for which in (flagged, ~flagged))
        count = min(len(mine), len(rest), _MOST)
        if count < LEAST:
            return self._white(mine[:0])
        rng = np.random.default_rng([self.runtime.seed, 0x1EF8, k])
        usual = np.mean([self.widest(rng.choice(rest, count, replace=False))[0][1] for _ in range(_DRAWS)])
        widths, directions = self.widest(rng.choice(mine, count, replace=False))
        return directions[widths > usual + KINDS]

    def widest(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """(r,) variances along the directions (r, D) in which ``rows`` (r,) vary most, widest first; all add up to 1, or little less."""
        white = self._white(rows)
        _, widths, directions = torch.linalg.svd(white - white.mean(0), full_matrices=False)
        return widths.cpu().numpy() ** 2 / len(rows), directions

    def _white(self, rows: np.ndarray) -> Tensor:
        """(r, D) whitened pixels of ``rows`` (r,), each sample brought to length 1: else a few busy pictures set the directions."""
        assert self.bench.whitened is not None
        white = self.bench.whitened[torch.from_numpy(rows).to(self.bench.whitened.device)].float()
        return F.normalize(white, dim=1)

    def _doubt(self, flagged: np.ndarray) -> np.ndarray:
        """(n + m,) log odds against each sample's label, by networks that were taught all but the ``flagged``."""
        n, total, plain = len(flagged), len(self.fit), replace(self.bench, whitened=None)
        taught = np.concatenate([np.flatnonzero(~flagged & ~self.ignore), np.arange(n, total)])
        how = PretrainSettings(steps=max(LEAST_STEPS, round(PASSES * len(taught) / _BATCH)), lr=_LR, batch=_BATCH)
        ticker = Ticker(self.runtime, "what the suspects left", NETWORKS * how.steps)

        def job(number: int) -> np.ndarray:
            seed = int(np.random.SeedSequence([self.runtime.seed, 0x1EF7, number]).generate_state(1)[0])
            return odds_of_labels(plain, _NETWORK, taught, np.arange(total), how, seed, ticker)

        return -np.asarray(np.mean(side_by_side(job, NETWORKS, self.bench.device), axis=0))

    def _of_class(self, rows: np.ndarray, known: np.ndarray, doubt: np.ndarray, kinds: Tensor) -> np.ndarray:
        """Of the samples ``rows`` (r,) of one class, how far they are from their middle by ``doubt`` (r,) and by the pattern, added up.

        ``known``: its flagged samples, which help to draw the pattern where they show it. It is looked for beside what they have in
        common and the ``kinds`` (q, D) that they are of.
        """
        both, r = np.concatenate([rows, known]), len(rows)
        white = self._white(both)
        white -= white[:r].mean(0)
        seen, _ = torch.linalg.qr(torch.cat([kinds, white[r:].mean(0, keepdim=True)]).T)
        white -= (white @ seen) @ seen.T
        scores = doubt = _standard(doubt)
        joined, count = known[:0], max(LEAST, min(FIRST, int(MOST * r)))
        for _ in range(LOOKS):
            first = np.argsort(-scores, kind="stable")[:count]
            along = _standard(pattern(white, np.concatenate([first, joined]), self.groups[both]), r)
            joined = r + np.flatnonzero(along[r:] > JOINED)
            scores = doubt + along[:r]
        return scores


def pattern(white: Tensor, first: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) projections of ``white`` (n, D) on the mean of the rows ``first`` (f,), of which none is measured by a mean that it, or a near
    duplicate of it (equal in ``groups`` (n,)), had a part in."""
    total = white[torch.from_numpy(first).to(white.device)].sum(0)
    along = (white @ total).cpu().numpy()
    out = along / len(first)
    for group in np.unique(groups[first]):
        inside = np.flatnonzero(groups == group)
        own = first[groups[first] == group]
        less = white[torch.from_numpy(own).to(white.device)].sum(0)
        without = along[inside] - (white[torch.from_numpy(inside).to(white.device)] @ less).cpu().numpy()
        out[inside] = without / max(1, len(first) - len(own))
    return np.asarray(out)


def _standard(values: np.ndarray, of: int | None = None) -> np.ndarray:
    """(n,) ``values`` less their median, in units of their standard deviation, both those of the first ``of`` values (None: of all)."""
    return np.asarray((values - np.median(values[:of])) / max(float(values[:of].std()), 1e-9))
