"""Audio steganography: finds the trigger that a part of a class shares. Specification drl-clba-speech 5.3; docs/audio-stego.md.

Clips are read in several ways (long-term spectrum, narrow peaks, beginning, end, fine residuals). In each class it is asked whether some
clips share a shift that none of the class's clean reserve clips has, whoever speaks; and whether some are further out, doubted or
surrounded by another label more often than the reserve's are. No trained victim is read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Findings, class_evidence
from tocsin.detectors.excess import excess_p
from tocsin.detectors.feature import confidence
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError
from tocsin.runtime import Runtime
from tocsin.stats import sounds
from tocsin.stats.calibration import conformal, tail_excess
from tocsin.stats.robust import comparable, mad_index
from tocsin.stats.shared_pattern import Shift, centred, centred_within, cross_fitted, leading, whitener
from tocsin.stats.voices import voices

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim

VIEWS: Mapping[str, tuple[Callable[[sounds.Sounds], np.ndarray], ...]] = {
    "long-term spectrum": (sounds.long_term,),
    "narrow peaks": (sounds.prominence,),
    "beginning": (sounds.beginning,),
    "end": (sounds.end,),
    "residuals": (sounds.residuals, sounds.checks),
}
"""By name, what a clip is described by. To add one: a function in `stats/sounds.py` and a line here."""
DISTANT = ("long-term spectrum", "residuals")
"""Views in which a single clip far from its class is suspect too, whatever others do."""
_CLIPS = 256
_SPEND = {"candidates": 0.6, "views": 0.2, "single clips": 0.2}
"""How alpha is divided: classes that stand out, in all such views together; each view in which a class is above the typical one;
single clips."""
_HINT, _PROVED = 0.1, 20.0
"""Weight of the shift in the scores of a class that is not named, and what the scores of flagged clips are raised by, to be above those."""
_ABOVE_TYPICAL = 1.0
"""Deviations by which a class's gain must exceed the median class's for a view to be tested by itself."""


@dataclass(frozen=True)
class Heard:
    """All clips of an audit, the inspected first."""

    views: Mapping[str, np.ndarray]
    """By name (n + m, d) float64, from the median of the class."""
    labels: np.ndarray
    """(n + m,)"""
    reserve: np.ndarray
    """(n + m,) bool."""
    fold: np.ndarray
    """(n + m,) int64, of the reserve."""
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


@dataclass(frozen=True)
class AudioStego(VictimReader):
    """Audio steganography: finds clips of a class that share a trace which its clean clips do not have."""

    name: ClassVar[str] = "audio-stego"
    kinds: ClassVar[frozenset[str]] = frozenset({"speech"})
    paper: ClassVar[Mapping[str, Any]] = {"judge_epochs": 20, "folds": 10}

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
    judge_folds: int = 3
    """Networks of the label check; each judges the part that it was not trained on."""
    judge_epochs: int = 8
    """Passes each of them is trained for; 0 leaves the label check and the collision test out."""

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 <= self.shrink <= 1 and 0 <= self.share <= 0.5 and math.isfinite(self.stands_out)):
            raise InputError(
                f"alpha {self.alpha}, shrink {self.shrink}, share {self.share}, stands_out {self.stands_out}: "
                "allowed are an alpha between 0 and 1, a shrink from 0 to 1, a share from 0 to 0.5 and a finite number"
            )
        if self.voices < 1 or self.folds < 2 or self.judge_folds < 2 or self.judge_epochs < 0:
            raise InputError(
                f"voices {self.voices}, folds {self.folds}, judge_folds {self.judge_folds}, judge_epochs {self.judge_epochs}: "
                "allowed are voices from 1, folds and judge_folds from 2 and judge_epochs from 0"
            )

    @property
    def asks_network(self) -> bool:
        return False

    def judge(self, victim: Victim) -> Findings:
        began = time.monotonic()
        train, reserve, runtime = victim.train, victim.reserve, victim.runtime
        heard = self._listen(train, reserve, runtime)
        listened = time.monotonic()
        shifts = self._shifts(heard, runtime)
        shifted = time.monotonic()
        single = self._single(heard, train, reserve, runtime)
        judged = time.monotonic()
        scores, flagged, p, evidence = self._decide(heard, shifts, single)
        n = len(train)
        suspects = p <= self.alpha
        statistic = -np.log10(np.maximum(p, 1e-300))
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores[:n].astype(np.float32),
            flagged=flagged[:n],
            classes=class_evidence(train.classes, train.labels, flagged[:n], statistic, p, suspects),
            confidence=confidence(p, bool(flagged[:n].any())),
            control=scores[n:].astype(np.float32),
            evidence={"settings": asdict(self), **evidence},
            timings={
                "listening": listened - began, "shared patterns": shifted - listened, "single clips": judged - shifted,
                "total": time.monotonic() - began,
            },
        )  # fmt: skip

    def statistics(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        """By name, (N,) of the inspected clips: each statistic by itself, without any decision; for benchmarks."""
        heard = self._listen(train, reserve, runtime)
        shifts, out = self._shifts(heard, runtime), {}
        for view in VIEWS:
            values = np.zeros(len(heard.labels))
            for (k, name), shift in shifts.found.items():
                if name == view:
                    values[heard.labels == k] = shift.odds
            out[f"shared: {view}"] = values
        out |= self._single(heard, train, reserve, runtime)
        return {name: values[: len(train)] for name, values in out.items()}

    def _listen(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Heard:
        labels = np.concatenate([train.labels, reserve.labels])
        inside = np.arange(len(labels)) >= len(train)
        raw = read(train, reserve, runtime)
        views = {name: centred(values, labels) for name, values in raw.items()}
        sound = np.concatenate([v / max(float(np.sqrt(np.square(v).sum(1).mean())), 1e-9) for v in views.values()], axis=1)
        speakers = speakers_of(train, reserve)
        rng = np.random.default_rng([runtime.seed, 0xA1])
        fold = np.zeros(len(labels), np.int64)
        fold[np.flatnonzero(inside)[np.lexsort((rng.random(inside.sum()), labels[inside]))]] = np.arange(inside.sum()) % self.folds
        classes = len(train.classes)
        voice = np.stack([voices(sound, labels, k, self.voices, rng, speakers) for k in range(classes)])
        return Heard(views, labels, inside, fold, voice, classes)

    def _white(self, heard: Heard, k: int, view: str) -> np.ndarray:
        """(size of class k, d): its clips in units of how the clips of other classes spread within their voices."""
        x, mine = heard.views[view], heard.labels == k
        others = ~mine if not mine.all() else mine
        return np.asarray(
            x[mine] @ whitener(centred_within(x[others], heard.labels[others] * self.voices + heard.voice[k][others]), self.shrink)
        )

    def _shifts(self, heard: Heard, runtime: Runtime) -> Shifts:
        found: dict[tuple[int, str], Shift] = {}
        gain, p = np.full((heard.classes, len(VIEWS)), np.nan), np.ones((heard.classes, len(VIEWS)))
        for column, view in enumerate(VIEWS):
            for k in np.unique(heard.labels[~heard.reserve]).tolist():
                mine = heard.labels == k
                white, voice = self._white(heard, k, view), heard.voice[k][mine]
                found[k, view] = cross_fitted(leading(white, voice), voice, heard.reserve[mine], heard.fold[mine])
                gain[k, column] = found[k, view].gain
                runtime.progress("shared patterns", (column + (k + 1) / heard.classes) / len(VIEWS))
            p[:, column] = unlike_reserve(heard, {k: shift.odds > 0 for (k, v), shift in found.items() if v == view})
        runtime.progress("shared patterns", 1.0)
        return Shifts(found, np.stack([mad_index(column) for column in gain.T], axis=1), p)

    def _single(self, heard: Heard, train: Dataset, reserve: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        """By name (n + m,): statistics of clips by themselves, comparable between classes."""
        out = {f"distance: {view}": np.zeros(len(heard.labels)) for view in DISTANT}
        for view in DISTANT:
            for k in np.unique(heard.labels).tolist():
                mine = heard.labels == k
                white = centred_within(self._white(heard, k, view), heard.voice[k][mine])
                out[f"distance: {view}"][mine] = comparable(np.square(white).sum(1))
        if self.judge_epochs:
            from tocsin.detectors.audio_judges import judge

            clips = np.concatenate([np.asarray(train.inputs), np.asarray(reserve.inputs)])
            judged = judge(clips, heard.labels, heard.classes, train.rate or 0, self.judge_folds, self.judge_epochs, runtime)
            out |= {"doubted label": judged.doubt, "other labels around": judged.collision}
        return out

    def _decide(
        self, heard: Heard, shifts: Shifts, single: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """(scores (n + m,), flagged (n + m,), p-values (classes,), evidence)."""
        labels, reserve, classes = heard.labels, heard.reserve, heard.classes
        present = np.unique(labels[~reserve]).tolist()
        odds, flagged = np.zeros(len(labels)), np.zeros(len(labels), bool)
        outstanding, tested = shifts.index > self.stands_out, shifts.index > _ABOVE_TYPICAL
        # Where nothing stands out, what stands out most is the hint that clips are ranked by.
        chosen = {k: outstanding[k] if outstanding[k].any() else shifts.index[k] == shifts.index[k].max() for k in present}
        candidates = [k for k in present if outstanding[k].any()]
        together = unlike_reserve(heard, {k: shifts.odds(k, chosen[k]) > 0 for k in present})
        together = np.where(outstanding.any(1), np.minimum(1.0, together * max(1, len(candidates)) / _SPEND["candidates"]), 1.0)
        each = np.where(tested, np.minimum(1.0, shifts.p * max(1, int(tested.sum())) / _SPEND["views"]), 1.0)
        for k in present:
            telling = each[k] <= self.alpha
            if together[k] <= self.alpha:
                telling = telling | chosen[k]
            if telling.any():
                values = shifts.odds(k, telling)
                flagged[labels == k] = values > 0
                odds[labels == k] = np.where(values > 0, values + _PROVED, _HINT * values)
            else:
                odds[labels == k] = _HINT * shifts.odds(k, chosen[k])
        p, surprise, alone = np.minimum(together, each.min(1)), np.zeros(len(labels)), {}
        for name, values in single.items():
            limits, mine = tail_excess(values[~reserve], labels[~reserve], values[reserve], labels[reserve], classes, self.share)
            mine = np.minimum(1.0, mine * len(single) / _SPEND["single clips"])
            p, alone[name] = np.minimum(p, mine), mine.tolist()
            flagged |= (mine <= self.alpha)[labels] & (values > limits[labels])
            surprise -= np.log10(conformal(values, values[reserve]))
        told = {v: {"index": shifts.index[:, c].tolist(), "p": shifts.p[:, c].tolist()} for c, v in enumerate(VIEWS)}
        return odds + surprise, flagged, p, {"views": told, "single clips": alone, "candidates": candidates}


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


def read(train: Dataset, reserve: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
    """What each of `VIEWS` says of the clips of both sides: (n + m, d) by name."""
    import torch

    from tocsin.attacks.speech import spans
    from tocsin.kinds.speech import SpeechKind

    if train.rate is None:
        raise InputError("audio-stego: the clips' sampling rate is not known")
    kind, device = SpeechKind(train.rate, 0.0, 1.0), runtime.torch_device()
    told: dict[str, list[np.ndarray]] = {name: [] for name in VIEWS}
    total = len(train) + len(reserve)
    for side, before in ((train, 0), (reserve, len(train))):
        for start in range(0, len(side), _CLIPS):
            clips = np.array(side.inputs[start : start + _CLIPS])
            power = kind.power(torch.from_numpy(clips).to(device)).cpu().numpy()
            part = sounds.Sounds(clips, power, *spans(clips), kind.bands.numpy(), kind.frame[2], train.rate)
            for name, ways in VIEWS.items():
                told[name].append(np.concatenate([way(part) for way in ways], axis=1))
            runtime.progress("listening", (before + start + len(clips)) / total)
    return {name: np.concatenate(values) for name, values in told.items()}


def speakers_of(train: Dataset, reserve: Dataset) -> np.ndarray | None:
    """(n + m,) int64 number of each clip's speaker, -1 where not known; None where no data name any."""
    if train.groups is None and reserve.groups is None:
        return None
    named = np.concatenate([np.full(len(side), "") if side.groups is None else side.groups.astype(str) for side in (train, reserve)])
    names, number = np.unique(named, return_inverse=True)
    return np.asarray(np.where(names == "", -1, np.arange(len(names)))[number.reshape(-1)], np.int64)
