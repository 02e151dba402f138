"""A second hearing: once a class of sounds is named, which of its clips are of the kind that was flagged? Ours; docs/speech-detection.md.

To name a class, little may be assumed of what its poison is. Once it is named there are examples, the flagged clips, and a network can be
taught to know them; a backdoor is, after all, what networks learn easily. It is taught with mistakes on both sides, clean clips that were
flagged and poison that was not, but no clip is judged by a network that it taught. What the networks say and what was said before are two
witnesses, who learn from each other how far either is to be trusted; what both are sure of is taught once more, to further networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from tocsin.data.dataset import Dataset
from tocsin.detectors.audio_judges import Maps, log_mel, parts
from tocsin.detectors.decide import LEAST_SHARE, clean_share
from tocsin.learning import FitSettings, fit, predict
from tocsin.networks import build_network
from tocsin.runtime import Runtime, silent
from tocsin.stats.witnesses import of_poison, outranked, two_witnesses

FOLDS = 3
"""Networks; each judges the part of every class, and of the flagged clips of every class, that it was not taught with."""
TEACHING = FitSettings(epochs=15, batch=64)
STEPS = 200
"""That a network is taught for, at least: of few clips there are more passes."""
LEAST = 12
"""Flagged clips of a class that are learned from, at least: four in each part."""
OTHERS = 4000
"""Clips of classes that are not named that are learned beside, at most; they keep what is said apart from how it sounds."""
KNOWN_AGAIN = 0.85
"""How often, at least, the networks must put a flagged clip above one of the class's reserve. Where they do not, they have not learned
what the flagged ones have in common, and have no say."""
HEARINGS = 2
"""In the second only what the first is sure of is taught: a natural group of clips that was flagged by mistake is learned as well as
poison is."""
ONE_OF = 30
"""Sure are the clips that are as likely poison as not, and that networks put above all but one in so many of the class's reserve."""
SPOILT = 0.15
"""Where by estimate no more than this share of a class is clean, all of it is flagged: who poisoned so much of it has been over the rest,
and what cannot be told from clean clips there may have been made so."""
_OWN_LEAST = 20
"""Reserve clips of a class from which that is estimated."""
_LEAST_ODDS = math.log(LEAST_SHARE / (1 - LEAST_SHARE))


def heard_again(
    train: Dataset, reserve: Dataset, real: np.ndarray, flagged: np.ndarray, named: Sequence[int], scores: np.ndarray, runtime: Runtime
) -> tuple[np.ndarray, np.ndarray, dict[int, dict[str, Any]]]:
    """((N,) bool: what is flagged after it; (N,) log odds of being poison, NaN where it has no say; by class, what it did).

    Of the classes that are ``named`` those with `LEAST` flagged clips are heard. ``real`` and ``flagged`` (N,) bool: the person's clips,
    and what was flagged at first; ``scores`` (N,) what was said of the clips then, comparable within a class. A clip is flagged if of
    clips such as it at least `LEAST_SHARE` are poison, or if hardly any of its class is clean (`SPOILT`).
    """
    n, labels, after, both = len(train), train.labels, flagged.copy(), np.full(len(train), np.nan)
    taught, unsure, heard = flagged, np.zeros(n, bool), []
    told: dict[int, dict[str, Any]] = {}
    rows = {k: np.flatnonzero(real & (labels == k)) for k in named}
    for hearing in range(HEARINGS):
        rows = {k: mine for k, mine in rows.items() if taught[mine].sum() >= LEAST}
        if not rows:
            break
        heard.append(odds_of_kind(train, reserve, real, taught, list(rows), runtime, unsure, hearing))
        odds, sure = np.mean(heard, axis=0), np.zeros(n, bool)
        for k, mine in rows.items():
            own = odds[n:][reserve.labels == k]
            if not hearing:
                known = outranked(odds[mine][flagged[mine]], own)
                told[k] = {"known again": known, "believed": known >= KNOWN_AGAIN}
            both[mine] = two_witnesses(of_poison(odds[mine], taught[mine]), scores[mine])
            sure[mine] = (both[mine] >= 0) & (odds[mine] > all_but_few(own))
            after[mine] = both[mine] >= _LEAST_ODDS
            told[k]["clean"] = clean_share(odds[mine], own) if len(own) >= _OWN_LEAST else 1.0
        rows = {k: mine for k, mine in rows.items() if told[k]["believed"]}  # what was not learned is not taught again
        taught, unsure = sure, (flagged | after) & ~sure
    for k in told:
        told[k]["spoilt"] = told[k]["believed"] and told[k]["clean"] <= SPOILT
        after |= told[k]["spoilt"] & real & (labels == k)
        before, now = (flags[real & (labels == k)] for flags in (flagged, after))
        told[k] |= {"before": int(before.sum()), "kept": int((before & now).sum()), "added": int((now & ~before).sum())}
    # Where the networks have no say all stays as it was.
    deaf = ~real | ~np.isin(labels, [k for k in told if told[k]["believed"]])
    after[deaf], both[deaf] = flagged[deaf], np.nan
    return after, both, told


def all_but_few(clean: np.ndarray) -> float:
    """The value that no more than one in `ONE_OF` of the known ``clean`` (m,) exceeds; infinity where there are none to go by."""
    return float(np.sort(clean)[::-1][len(clean) // ONE_OF]) if len(clean) else math.inf


def odds_of_kind(
    train: Dataset,
    reserve: Dataset,
    real: np.ndarray,
    flagged: np.ndarray,
    named: Sequence[int],
    runtime: Runtime,
    unsure: np.ndarray | None = None,
    hearing: int = 0,
) -> np.ndarray:
    """(N + m,) log odds that a clip of one of the ``named`` classes, inspected or in the reserve, is of the kind of its flagged clips and
    not of that of its others, by networks that were not taught with it; NaN for clips of other classes.

    The flagged clips of each named class are taught as a class of their own, beside all words and the reserve. Those of which one is
    ``unsure`` (N,) bool are judged, but teach nothing. Each ``hearing`` draws other parts and other networks.
    """
    classes, rng = len(train.classes), np.random.default_rng([runtime.seed, 0x2E, hearing])
    asked = real & np.isin(train.labels, named)
    others = np.flatnonzero(real & ~asked)
    rows = np.sort(np.concatenate([np.flatnonzero(asked), rng.permutation(others)[:OTHERS]]))
    kinds = np.where(flagged & asked, classes + np.searchsorted(named, train.labels), train.labels)[rows]
    taught = np.concatenate([kinds, reserve.labels])
    clips = np.concatenate([np.asarray(train.inputs[rows]), np.asarray(reserve.inputs)])
    maps = torch.cat(list(log_mel(clips, train.rate or 0))).numpy()
    maps = (maps - maps.mean()) / max(float(maps.std()), 1e-3)
    words = np.concatenate([train.labels[rows], reserve.labels])
    place = np.concatenate([rows, len(train) + np.arange(len(reserve))])
    teaching = np.ones(len(place), bool) if unsure is None else np.append(~unsure[rows], np.ones(len(reserve), bool))
    kind, odds, first = Maps(), np.full(len(train) + len(reserve), np.nan), runtime.seed + FOLDS * hearing
    for number, part in enumerate(parts(taught, FOLDS, first)):
        network, learned = build_network(kind.network, 1, classes + len(named), first + number), teaching & ~part
        how = replace(TEACHING, epochs=max(TEACHING.epochs, math.ceil(STEPS * TEACHING.batch / int(learned.sum()))))
        ticking = replace(runtime, progress=partial(_tell, runtime, FOLDS * hearing + number))
        fit(network, maps[learned], taught[learned], kind, how, ticking)
        judged = np.flatnonzero(part & np.isin(words, named))
        logits, at = predict(network, maps[judged], kind, replace(runtime, progress=silent)), np.arange(len(judged))
        odds[place[judged]] = logits[at, classes + np.searchsorted(named, words[judged])] - logits[at, words[judged]]
    return odds


def _tell(runtime: Runtime, number: int, stage: str, share: float) -> None:
    runtime.progress("hearing suspects again", (number + share) / (FOLDS * HEARINGS))
