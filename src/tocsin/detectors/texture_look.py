"""A second look at a class that is named by its texture: which of its samples are of the kind that was flagged? Ours.

A warp or a blur names a class by poison that is frequent in it, and what named it ranks the samples only roughly. But then there are
examples, and a small network that sees texture, taught the flagged samples against all others, tells the rest apart far better. As in
the second look at pixels (`second_look`) no sample is judged by a network that it taught, and how well its label fits is the other
witness. Such odds put samples in order and are too sure of themselves (docs/asset.md), so the class's reserve says where to stop.
"""

from __future__ import annotations

import numpy as np

from tocsin.detectors.confusion import PretrainSettings
from tocsin.detectors.second_look import LEAST
from tocsin.detectors.suspects import Suspects, Teaching
from tocsin.stats.witnesses import of_poison, outranked, two_witnesses

ROUNDS = 2
"""In the second what both witnesses were sure of in the first is taught."""
DRAWS = 2
"""Of the parts and of the networks, whose odds are averaged."""
KNOWN_AGAIN = 0.7
"""How often, at least, networks must put a flagged sample above a clean one. Plain mistakes come to 0.60 to 0.65 (a quarter of a class of
digits), a warp to 0.95 and more, a blur that lowers fine detail by a sixth to 0.73 (development; docs/asset.md)."""
SURE = 0.9
"""And so often for their word to be taken on which samples they are; else what was flagged stays, which they would tell no better."""
GIVEN_UP = 0.08
"""Samples are flagged down to where this share of the class's reserve would be: of a class that is a third poison, the ordinary samples
between are worth less than the poison that would stay."""
FALSE_SHARE = 0.3
"""But not so far that by the reserve more than this share of what is flagged would be clean."""
OWN_LEAST = 20
"""Reserve samples of the class that say so, at least; else all stays as it was."""
_TRAINING = PretrainSettings(steps=600, lr=0.1, batch=128)


class TextureLook(Suspects):
    """`Suspects` whose ``bench`` holds the samples as texture (`Bench.in_texture`)."""

    def again(self, k: int, flagged: np.ndarray) -> np.ndarray | None:
        """(n,) bool: ``flagged`` (n,), but of class ``k`` what is poison by this look in place of what was flagged there.

        None where networks do not know the flagged samples again among clean ones of their class and, as surely, among those of other
        classes: plain mistakes have the texture of what they show. Nor where none would be flagged. All stays as it was where there is too
        little to learn from, or they are not sure.
        """
        n, labels = len(flagged), self.labels
        own, reserve = np.flatnonzero((labels[:n] == k) & ~self.ignore), np.arange(n, len(labels))
        rows, taught, same = np.concatenate([own, reserve]), flagged[own], labels[n:] == k
        teaching = Teaching(self.bench, "shortcut", _TRAINING, ROUNDS * DRAWS)
        if same.sum() < OWN_LEAST:
            return flagged
        for r in range(ROUNDS):
            if min(taught.sum(), (~taught).sum()) < LEAST:
                return flagged
            draws = range(r * DRAWS, (r + 1) * DRAWS)
            odds = np.mean([self.odds_of_kind(k, draw, rows, own[taught], flagged, teaching) for draw in draws], axis=0)
            mine, clean = odds[: len(own)], odds[len(own) :]
            if r == 0 and (known := min(outranked(mine[taught], clean[which]) for which in (same, ~same))) < SURE:
                return None if known < KNOWN_AGAIN else flagged
            asked = np.concatenate([own, reserve[same]])
            both = two_witnesses(of_poison(np.concatenate([mine, clean[same]]), taught), -self.fit[asked], len(own))
            taught = both[: len(own)] >= 0
        out, poison = np.array(flagged), both[: len(own)] >= given_up(both[: len(own)], both[len(own) :])
        out[own] = poison
        return out if poison.any() else None


def given_up(mine: np.ndarray, clean: np.ndarray) -> float:
    """The score from which samples of a class are flagged: the lowest that `GIVEN_UP` of the ``clean`` (m,) reach and at which no more than
    `FALSE_SHARE` of the flagged ones of ``mine`` (n,) would be clean, were all of ``mine`` but these."""
    scores = np.sort(mine)[::-1]
    above = (len(clean) - np.searchsorted(np.sort(clean), scores, side="left")) / len(clean)
    flagged = np.arange(1, len(scores) + 1)
    fine = (above <= GIVEN_UP) & (above * (len(scores) - flagged) <= FALSE_SHARE * flagged * (1 - above))
    return float(scores[np.flatnonzero(fine)[-1]]) if fine.any() else float("inf")
