"""What audio-stego hears in each clip by itself, before anything is said of classes: specification drl-clba-speech 5.3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime
from tocsin.stats import sounds

VIEWS: Mapping[str, tuple[Callable[[sounds.Sounds], np.ndarray], ...]] = {
    "long-term spectrum": (sounds.long_term,),
    "narrow peaks": (sounds.prominence,),
    "beginning": (sounds.beginning,),
    "end": (sounds.end,),
    "residuals": (sounds.residuals, sounds.checks),
}
"""By name, what a clip is described by. To add one: a function in `stats/sounds.py` and a line here."""
DOUBT = "doubted label"
"""Of `Clips.judged`: how little the label fits."""
_CLIPS = 256


@dataclass(frozen=True)
class Clips:
    """All clips of an audit, the inspected first: what each of them says whatever the others are."""

    views: Mapping[str, np.ndarray]
    """By name (n + m, d) float64."""
    judged: Mapping[str, np.ndarray]
    """By name (n + m,): what networks that were not trained on a clip hold against it; may be empty."""
    marks: np.ndarray | None
    """(n + m,) log odds of being marked, by the steganalyser, from what its class's reserve has; None where it was not asked."""
    labels: np.ndarray
    """(n + m,)"""
    reserve: np.ndarray
    """(n + m,) bool."""
    speakers: np.ndarray | None
    """(n + m,) int64, -1 where not known."""
    names: tuple[str, ...]
    """Of the classes."""

    def part(self, rows: np.ndarray) -> Clips:
        """These ``rows`` (n,) bool of the inspected clips, and the reserve."""
        kept = np.concatenate([rows, np.ones(int(self.reserve.sum()), bool)])
        return replace(
            self,
            views={name: values[kept] for name, values in self.views.items()},
            judged={name: values[kept] for name, values in self.judged.items()},
            marks=None if self.marks is None else self.marks[kept],
            labels=self.labels[kept],
            reserve=self.reserve[kept],
            speakers=None if self.speakers is None else self.speakers[kept],
        )


def heard(train: Dataset, reserve: Dataset, runtime: Runtime, judge_folds: int, judge_epochs: int, marks: bool) -> Clips:
    """Both sides' `Clips`; without judges for 0 epochs, with ``marks`` where the reserve can teach the steganalyser.

    Raises `InputError` without a sampling rate.
    """
    labels = np.concatenate([train.labels, reserve.labels])
    views, judged = read(train, reserve, runtime), {}
    if judge_epochs:
        from tocsin.detectors.audio_judges import judge

        clips = np.concatenate([np.asarray(train.inputs), np.asarray(reserve.inputs)])
        found = judge(clips, labels, len(train.classes), train.rate or 0, judge_folds, judge_epochs, runtime)
        judged = {DOUBT: found.doubt, "other labels around": found.collision}
    found_marks = mark_odds(train, reserve, runtime) if marks else None
    return Clips(views, judged, found_marks, labels, np.arange(len(labels)) >= len(train), speakers_of(train, reserve), train.classes)


def mark_odds(train: Dataset, reserve: Dataset, runtime: Runtime) -> np.ndarray | None:
    """`Clips.marks`; None for a reserve too small to be divided. Words differ in how far their clips are from each other, so each class
    is seen from the median of its reserve (of all of it where it has none)."""
    from tocsin.detectors.steganalyser import Steganalyser

    analyst = Steganalyser()
    if len(reserve) < 2 * analyst.folds:
        return None
    found, clean = analyst.scored(train, reserve, runtime)
    usual = np.full(len(train.classes), np.median(clean))
    for k in np.unique(reserve.labels):
        usual[k] = np.median(clean[reserve.labels == k])
    return np.concatenate([found - usual[train.labels], clean - usual[reserve.labels]])


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
