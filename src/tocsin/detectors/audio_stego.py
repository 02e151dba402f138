"""Audio steganography: finds the trigger that a part of a class shares. Specification drl-clba-speech 5.3; docs/audio-stego.md.

Clips are read in several ways (long-term spectrum, narrow peaks, beginning, end, fine residuals). In each class it is asked whether some
clips share a shift that none of the class's clean reserve clips has, whoever speaks; whether some are further out, doubted or surrounded
by another label more often than the reserve's are; whether they share what the most doubted or the most believed clips have in common;
and, with most of the error, whether all of that, and what the steganalyser says of each clip, is too much together. No trained victim is
read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.audio_clips import DOUBT, VIEWS, Clips, heard
from tocsin.detectors.base import Detector, Findings, class_evidence, found_beside, preset_of
from tocsin.detectors.excess import excess_p
from tocsin.detectors.feature import confidence
from tocsin.errors import InputError
from tocsin.runtime import Runtime
from tocsin.stats.calibration import excess, surprise, tail_excess, upper_limit
from tocsin.stats.robust import comparable, mad_index, spread
from tocsin.stats.shared_pattern import Shift, centred, centred_within, cross_fitted, leading, whitener
from tocsin.stats.top_shares import shared_by_top
from tocsin.stats.voices import voices

DISTANT = ("long-term spectrum", "residuals")
"""Views in which a single clip far from its class is suspect too, whatever others do."""
_SPEND = {"everything": 0.6, "candidates": 0.3, "views": 0.05, "single clips": 0.05}
"""How alpha is divided: all statistics of a clip added up; classes that stand out, in all such views together; each view in which a class
is above the typical one; each statistic of single clips. A share a of poison in a class of m reserve clips cannot have a p below
(1 - a)^m, so most of it goes to one test."""
_PROVED = 20.0
"""What the scores of flagged clips are raised by, to be above those of classes that are not named."""
_WEIGHT = 2.0
"""How much what the most doubted or believed clips share counts in the sum, where other statistics count once: it reads all views."""
_AGREES = 0.05
"""In a class that is named, a view's shifted clips are flagged too if its own test, uncorrected, comes to this."""
_FURTHER = 0.1
"""A backdoor has one target, seldom more: beside the class that is named first any other needs a p of this part of alpha."""
_LEAST_CLEAN = 5
"""Reserve clips of a class from which on they say where its clean clips lie."""
_ABOVE_TYPICAL = 1.0
"""Deviations by which a class's gain must exceed the median class's for a view to be tested by itself."""


def unraised(found: Findings) -> np.ndarray:
    """(N,) the scores of what any detector ``found``; those of audio-stego without what lifts flagged clips above all others."""
    return found.scores - _PROVED * found.flagged if found.detector == AudioStego.name else found.scores


@dataclass(frozen=True)
class Heard:
    """All clips of an audit, the inspected first, as their classes have them."""

    views: Mapping[str, np.ndarray]
    """By name (n + m, d) float64, from the median of the class."""
    labels: np.ndarray
    """(n + m,)"""
    reserve: np.ndarray
    """(n + m,) bool."""
    fold: np.ndarray
    """(n + m,) int64."""
    voice: np.ndarray
    """(classes, n + m) int64: what each clip sounds like, as the other classes see it."""
    classes: int


@dataclass(frozen=True)
class Shifts:
    """The shared-pattern test in every class and view."""

    found: Mapping[tuple[int, str], Shift]
    index: np.ndarray
    """(classes, views): how far the class's gain stands out from those of the others, in deviations."""
    p: np.ndarray
    """(classes, views): chance of so few reserve clips among the shifted ones."""

    def odds(self, k: int, views: np.ndarray) -> np.ndarray:
        """(size of class k,) log odds of being shifted, added up over ``views`` (views,) bool."""
        return np.asarray(np.sum([self.found[k, view].odds for view, taken in zip(VIEWS, views, strict=True) if taken], axis=0))

    def everywhere(self, view: str, labels: np.ndarray) -> np.ndarray:
        """(n + m,) log odds of being shifted in one view; certainly not for classes without clips."""
        out = np.full(len(labels), -60.0)
        for (k, name), shift in self.found.items():
            if name == view:
                out[labels == k] = shift.odds
        return out


@dataclass(frozen=True)
class AudioStego(Detector):
    """Audio steganography: finds clips of a class that share a trace which its clean clips do not have."""

    name: ClassVar[str] = "audio-stego"
    kinds: ClassVar[frozenset[str]] = frozenset({"speech"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    alpha: float = 0.05
    """Bound on the chance of finding anything in clean data, as far as the reserve is like them."""
    voices: int = 8
    """Clusters of speakers; the clips of a class are compared within them."""
    folds: int = 5
    """The reserve is held out in so many parts, so that its clips are scored as inspected ones are."""
    shrink: float = 0.05
    """Share of the diagonal in the covariance that distances are measured by."""
    stands_out: float = 2.0
    """A class is a candidate in a view if a shared shift explains more of it than of the median class, by so many robust deviations."""
    share: float = 0.01
    """Single clips: suspect beyond what this share of the reserve exceeds."""
    sum_share: float = 0.05
    """All statistics added up: suspect beyond what this share of the reserve exceeds."""
    judge_folds: int = 3
    """Networks of the label check; each judges the part that it was not trained on."""
    judge_epochs: int = 8
    """Passes each of them is trained for; 0 leaves the label check and the collision test out."""
    marks: bool = True
    """Whether what the steganalyser says of a clip is a part of the sum."""

    def __post_init__(self) -> None:
        if not (
            0 < self.alpha < 1
            and 0 <= self.shrink <= 1
            and 0 <= self.share <= 0.5
            and 0 < self.sum_share <= 0.5
            and math.isfinite(self.stands_out)
        ):
            raise InputError(
                f"alpha {self.alpha}, shrink {self.shrink}, share {self.share}, sum_share {self.sum_share}, stands_out {self.stands_out}: "
                "allowed are an alpha between 0 and 1, a shrink from 0 to 1, shares up to 0.5 and a finite number"
            )
        if self.voices < 1 or self.folds < 2 or self.judge_folds < 2 or self.judge_epochs < 0:
            raise InputError(
                f"voices {self.voices}, folds {self.folds}, judge_folds {self.judge_folds}, judge_epochs {self.judge_epochs}: "
                "allowed are voices from 1, folds and judge_folds from 2 and judge_epochs from 0"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> AudioStego:
        """The settings called ``name`` (see `PRESETS`), with ``changes``. Raises `InputError` for an unknown one."""
        return preset_of(PRESETS, name, changes)

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """As `Detector.inspect`. Clips are heard and judged once, canaries among them; what is asked of a class is asked without
        canaries, and again beside each kind. Raises `InputError` without a sampling rate."""
        began = time.monotonic()
        clips = heard(train, reserve, runtime, self.judge_folds, self.judge_epochs, self.marks)
        listened = time.monotonic()
        found = found_beside(lambda rows: self.decided(clips.part(rows), runtime), canaries, len(train))
        now = time.monotonic()
        return replace(found, timings={"listening": listened - began, "deciding": now - listened, "total": now - began})

    def decided(self, clips: Clips, runtime: Runtime) -> Findings:
        """What is found in the inspected ``clips``."""
        those = self._listen(clips, runtime)
        white = self._whitened(those)
        shifts = self._shifts(those, white, runtime)
        single = self._single(those, white) | dict(clips.judged)
        scores, flagged, p, evidence = self._decide(those, shifts, single, self._extremes(those, clips.judged, runtime), clips.marks)
        n = int((~clips.reserve).sum())
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores[:n].astype(np.float32),
            flagged=flagged[:n],
            classes=class_evidence(clips.names, clips.labels[:n], flagged[:n], -np.log10(np.maximum(p, 1e-300)), p, self._named(p)),
            confidence=confidence(p, bool(flagged[:n].any())),
            control=scores[n:].astype(np.float32),
            evidence={"settings": asdict(self), **evidence},
        )

    def statistics(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        """By name, (N,) of the inspected clips: each statistic by itself, without any decision; for benchmarks."""
        clips = heard(train, reserve, runtime, self.judge_folds, self.judge_epochs, self.marks)
        those = self._listen(clips, runtime)
        white = self._whitened(those)
        shifts = self._shifts(those, white, runtime)
        out = {f"shared: {view}": shifts.everywhere(view, those.labels) for view in VIEWS}
        out |= self._extremes(those, clips.judged, runtime) | ({} if clips.marks is None else {"marks": clips.marks})
        return {name: values[: len(train)] for name, values in (out | self._single(those, white) | dict(clips.judged)).items()}

    def _listen(self, clips: Clips, runtime: Runtime) -> Heard:
        labels, inside, classes = clips.labels, clips.reserve, len(clips.names)
        views = {name: centred(values, labels) for name, values in clips.views.items()}
        sound = np.concatenate([v / max(float(np.sqrt(np.square(v).sum(1).mean())), 1e-9) for v in views.values()], axis=1)
        rng = np.random.default_rng([runtime.seed, 0xA1])
        fold = np.zeros(len(labels), np.int64)
        for side in (~inside, inside):
            fold[np.flatnonzero(side)[np.lexsort((rng.random(side.sum()), labels[side]))]] = np.arange(side.sum()) % self.folds
        voice = voices(sound, labels, classes, self.voices, rng, clips.speakers)
        return Heard(views, labels, inside, fold, voice, classes)

    def _whitened(self, heard: Heard) -> dict[tuple[int, str], np.ndarray]:
        """(size of class k, d) by (k, view): a class's clips in units of how the clips of other classes spread within their voices."""
        out = {}
        for view, x in heard.views.items():
            for k in np.unique(heard.labels).tolist():
                out[k, view] = self._in_units(heard, k, x, heard.labels * self.voices + heard.voice[k])
        return out

    def _in_units(self, heard: Heard, k: int, x: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """(size of class k, d): the class's rows of ``x`` (n + m, d), in units of how other classes' spread within ``cells`` (n + m,)."""
        mine = heard.labels == k
        others = ~mine if not mine.all() else mine
        return np.asarray(x[mine] @ whitener(centred_within(x[others], cells[others]), self.shrink))

    def _shifts(self, heard: Heard, whitened: Mapping[tuple[int, str], np.ndarray], runtime: Runtime) -> Shifts:
        found: dict[tuple[int, str], Shift] = {}
        gain, p = np.full((heard.classes, len(VIEWS)), np.nan), np.ones((heard.classes, len(VIEWS)))
        for column, view in enumerate(VIEWS):
            for k in np.unique(heard.labels[~heard.reserve]).tolist():
                mine = heard.labels == k
                white, voice = whitened[k, view], heard.voice[k][mine]
                found[k, view] = cross_fitted(leading(white, voice), voice, heard.reserve[mine], heard.fold[mine])
                gain[k, column] = found[k, view].gain
                runtime.progress("shared patterns", (column + (k + 1) / heard.classes) / len(VIEWS))
            p[:, column] = unlike_reserve(heard, {k: shift.odds > 0 for (k, v), shift in found.items() if v == view})
        runtime.progress("shared patterns", 1.0)
        return Shifts(found, np.stack([mad_index(column) for column in gain.T], axis=1), p)

    def _single(self, heard: Heard, whitened: Mapping[tuple[int, str], np.ndarray]) -> dict[str, np.ndarray]:
        """By name (n + m,): how far out clips are by themselves, comparable between classes."""
        out = {f"distance: {view}": np.zeros(len(heard.labels)) for view in DISTANT}
        for view in DISTANT:
            for k in np.unique(heard.labels).tolist():
                mine = heard.labels == k
                white = centred_within(whitened[k, view], heard.voice[k][mine])
                out[f"distance: {view}"][mine] = comparable(np.square(white).sum(1))
        return out

    def _extremes(self, heard: Heard, judged: Mapping[str, np.ndarray], runtime: Runtime) -> dict[str, np.ndarray]:
        """By name (n + m,): how far clips share what those have in common whose label fits least, and what those whose label fits best.

        The judges learn a loud trigger from the poison that they are trained on, and take the label of the rest for the surest of all; a
        faint one they do not learn, and doubt the label. Measured from the class's reserve, in units of the class's spread. Without
        judges there is neither.
        """
        if DOUBT not in judged:
            return {}
        rng = np.random.default_rng([runtime.seed, 0xE4])
        out = {"shared by the doubted": np.zeros(len(heard.labels)), "shared by the believed": np.zeros(len(heard.labels))}
        for k in np.unique(heard.labels[~heard.reserve]).tolist():
            mine = heard.labels == k
            white = np.concatenate([self._in_units(heard, k, x, heard.labels) for x in heard.views.values()], axis=1)
            clean = heard.reserve[mine]
            for values, sign in zip(out.values(), (1.0, -1.0), strict=True):
                along = shared_by_top(white, sign * judged[DOUBT][mine], ~clean, rng)
                middle, unit = spread(along)
                values[mine] = (along - (np.median(along[clean]) if clean.sum() >= _LEAST_CLEAN else middle)) / max(unit, 1e-9)
        return out

    def _decide(
        self,
        heard: Heard,
        shifts: Shifts,
        single: Mapping[str, np.ndarray],
        extremes: Mapping[str, np.ndarray],
        marks: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """(scores (n + m,), flagged (n + m,), p-values (classes,), evidence)."""
        labels, reserve, classes = heard.labels, heard.reserve, heard.classes
        flagged = np.zeros(len(labels), bool)
        # A view in which a clip is on the side of the clean ones says nothing of it.
        odd = {view: np.maximum(shifts.everywhere(view, labels), 0.0) for view in VIEWS} | dict(single)
        total = np.sum([surprise(values, reserve) for values in odd.values()], axis=0)
        if extremes:
            total += _WEIGHT * np.max([surprise(values, reserve) for values in extremes.values()], axis=0)
        total += 0.0 if marks is None else surprise(marks, reserve)
        limits, everything = sum_excess(heard, total, self.sum_share, _SPEND["everything"])
        p, alone = everything, {}
        for name, values in single.items():
            beyond, mine = tail_excess(values[~reserve], labels[~reserve], values[reserve], labels[reserve], classes, self.share)
            mine = np.minimum(1.0, mine * len(single) / _SPEND["single clips"])
            p, alone[name] = np.minimum(p, mine), mine.tolist()
            flagged |= (mine <= self.alpha)[labels] & (values > beyond[labels])
        together, each, candidates = self._shifted(heard, shifts)
        p = np.minimum(p, np.minimum(together, each.min(1)))
        scores = total.copy()
        named = self._named(p)
        flagged &= named[labels]
        for k in np.flatnonzero(named).tolist():
            mine = labels == k
            telling = (shifts.p[k] <= _AGREES) | ((shifts.index[k] > self.stands_out) & (together[k] <= self.alpha))
            agreeing = shifts.odds(k, telling)
            flagged[mine] |= (total[mine] > limits[k]) | (agreeing > 0)
            scores[mine] += np.where(flagged[mine], _PROVED + np.maximum(agreeing, 0.0), 0.0)
        told = {v: {"index": shifts.index[:, c].tolist(), "p": shifts.p[:, c].tolist()} for c, v in enumerate(VIEWS)}
        evidence = {"everything": everything.tolist(), "views": told, "single clips": alone, "candidates": candidates}
        return scores, flagged, p, evidence

    def _named(self, p: np.ndarray) -> np.ndarray:
        """(classes,) bool."""
        return np.asarray(p <= np.where(np.arange(len(p)) == p.argmin(), 1.0, _FURTHER) * self.alpha)

    def _shifted(self, heard: Heard, shifts: Shifts) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """p-values of the shared patterns: (classes,) of the views in which a class stands out, together; (classes, views) of each view in
        which it is above the typical class; and the classes that stand out."""
        outstanding, tested = shifts.index > self.stands_out, shifts.index > _ABOVE_TYPICAL
        candidates = np.flatnonzero(outstanding.any(1)).tolist()
        together = unlike_reserve(heard, {k: shifts.odds(k, outstanding[k]) > 0 for k in candidates})
        together = np.where(outstanding.any(1), np.minimum(1.0, together * max(1, len(candidates)) / _SPEND["candidates"]), 1.0)
        each = np.where(tested, np.minimum(1.0, shifts.p * max(1, int(tested.sum())) / _SPEND["views"]), 1.0)
        return together, each, candidates


_FAST = AudioStego()
PRESETS: dict[str, AudioStego] = {"fast": _FAST, "paper": replace(_FAST, preset_name="paper", judge_epochs=20, folds=10)}
"""Preset name -> settings."""


def sum_excess(heard: Heard, total: np.ndarray, share: float, spend: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """((classes,) limits of ``total`` (n + m,) from which clips of a named class are flagged, (classes,) p-values).

    A class must have more clips beyond what a ``share`` of the whole reserve exceeds than the whole reserve has, and than its own reserve
    has. The first is the test: its p-value is multiplied by the number of classes, and divided by the part of the error it may ``spend``.
    The second asks whether the class is only unlike the others, of few reserve clips; it can but withhold a name, so nothing is divided.
    The flags go on down to the highest of its own reserve clips, at most to what twice the ``share`` exceeds.
    """
    labels, reserve, classes = heard.labels, heard.reserve, heard.classes
    control, everyone = total[reserve], range(classes)
    beyond = total > upper_limit(control, share)
    sizes, found = (np.bincount(labels[~reserve & rows], minlength=classes) for rows in (np.ones(len(labels), bool), beyond))
    clean = np.full(classes, int((beyond & reserve).sum())), np.full(classes, len(control))
    elsewhere = np.minimum(1.0, excess(found, sizes, *clean) * max(1, np.count_nonzero(sizes)) / spend)
    own = unlike_reserve(heard, {k: beyond[labels == k] for k in everyone})
    highest = np.full(classes, -np.inf)
    np.maximum.at(highest, labels[reserve], control)
    limits = np.minimum(upper_limit(control, share), np.maximum(highest, upper_limit(control, 2 * share)))
    return limits, np.maximum(elsewhere, own)


def unlike_reserve(heard: Heard, shifted: Mapping[int, np.ndarray]) -> np.ndarray:
    """(classes,) chance that a class has so few reserve clips among those in ``shifted`` (its clips, bool); 1 for the others.

    Inspected clips may be shifted as much more often than reserve clips as they are in the typical (lower median) class: a reserve of other
    speakers or another microphone differs in all classes.
    """
    counts = {}
    for k, side in shifted.items():
        mine = heard.reserve[heard.labels == k]
        counts[k] = (int(side[~mine].sum()), int((~mine).sum()), int(side[mine].sum()), int(mine.sum()))
    ratios = [(x + 0.5) * (m - c + 0.5) / ((n - x + 0.5) * (c + 0.5)) for x, n, c, m in counts.values() if m]
    typical = max(1.0, float(np.sort(ratios)[(len(ratios) - 1) // 2])) if len(ratios) > 2 else 1.0
    p = np.ones(heard.classes)
    for k, (x, n, c, m) in counts.items():
        p[k] = excess_p(x, n, c, m, typical) if x and m else 1.0
    return p
