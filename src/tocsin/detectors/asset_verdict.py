"""How ASSET answers: from what its separators and scouts say to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tocsin.detectors import before_tuning
from tocsin.detectors.base import class_evidence
from tocsin.detectors.control import against_control
from tocsin.detectors.decide import Scored, Verdict, tail
from tocsin.detectors.finish import put_first, with_further
from tocsin.detectors.misfits import fit_of_labels
from tocsin.detectors.separation import halves, levelled
from tocsin.detectors.sharpen import by_class, count_distinct
from tocsin.detectors.testimony import said_by_scouts
from tocsin.stats.outlyingness import lower_half_threshold

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.asset import Asset
    from tocsin.detectors.fine_detail import FineDetail
    from tocsin.detectors.separation import Parts
    from tocsin.detectors.workbench import Bench
    from tocsin.runtime import Runtime

_NULL_SCALE, _NULL_SCALE_SMALL = 0.45, 0.8
"""Scale of the gap's law on clean data, and of small sets, whose concentrations are small, or small reserves (docs/asset.md): ..."""
_CONCENTRATED, _DISTINCT = 100, 75
"""... where fewer samples are concentrated, or fewer distinct ones are held out of the usual class's reserve."""
_LEAST_CLASSES = 4
"""With two classes one of them always stands out from the other: two clean classes of MNIST came to 5.2 and 2.8 in two runs."""
FIT_LEAST = 150
"""Steps of the networks that are asked how well labels fit, at least."""


def large(how: Asset, n: int, distinct: np.ndarray) -> bool:
    """Whether what is known of clean data holds: of ``n`` samples enough are concentrated, and of the usual class enough distinct ones are
    held out (``distinct``, (C,))."""
    return bool(round(how.share * n) >= _CONCENTRATED and np.median(distinct) >= _DISTINCT)


def why_unsure(how: Asset, samples: int, reserve: Dataset, runtime: Runtime) -> str | None:
    """None where it is known how still ASSET is on clean data of so many ``samples``, such a ``reserve`` and its classes, else why not, in
    words that follow "it needs"."""
    from tocsin.detectors.ct import hold_out
    from tocsin.kinds import kind_of

    if how.decision != "tail":  # somebody chose another rule, whose law this is not
        return None
    if len(reserve.classes) < _LEAST_CLASSES:
        return f"{_LEAST_CLASSES} classes or more, since it compares them with each other"
    least = int(np.ceil((_CONCENTRATED - 0.5) / how.share))
    if samples < least:
        return f"{least:,} samples to be sure of its silence on clean data, and these are {samples:,}"
    repeats = kind_of(reserve).duplicates(reserve.inputs, reserve.labels, runtime.torch_device())
    held = hold_out(reserve.labels, len(reserve.classes), how.control_share, runtime.seed)
    if large(how, samples, distinct := count_distinct(repeats[held], reserve.labels[held], len(reserve.classes))):
        return None
    return (
        f"a larger reserve to be sure of its silence on clean data: some {_DISTINCT / how.control_share:,.0f} samples of each class that "
        f"are no near duplicates, and half of them are {int(np.median(distinct)):,} in the usual class"
    )


@dataclass
class Seen:
    """What a verdict rests on."""

    train: Dataset
    reserve: Dataset
    held: np.ndarray
    """(M,) bool: reserve samples that are held out as a control."""
    scores: Sequence[np.ndarray]
    """Of each run's separators: (n + control,) of the inspected, then of the control samples."""
    logits: Sequence[np.ndarray]
    """The same of its scouts; none where they are scouts of a batch each."""
    bench: Bench
    parts: Parts
    runtime: Runtime
    detail: FineDetail | None = None
    """What scouts say of the samples as texture; for `by_classes`."""
    untuned: before_tuning.Untuned | None = None
    """What the encoder that was tuned to the samples made of them before."""

    @property
    def labels(self) -> np.ndarray:
        """(n + control,)."""
        return np.concatenate([self.train.labels, self.reserve.labels[self.held]])

    @cached_property
    def distinct(self) -> np.ndarray:
        """(C,) control samples of each class that are no near duplicates of each other."""
        repeats = self.bench.kind.duplicates(self.reserve.inputs, self.reserve.labels, self.bench.device)
        return count_distinct(repeats[self.held], self.reserve.labels[self.held], len(self.train.classes))


def decided(how: Asset, seen: Seen) -> tuple[Verdict, np.ndarray]:
    """(verdict, the scores (n + control,) that it rests on), by the rule ``how.decision`` and, where an encoder was tuned, by what it made
    of the samples before: a class is named if either names it, what either flags is flagged, and each has its part of alpha."""
    rule = DECISIONS.get(how.decision, by_threshold)
    if seen.untuned is None:
        return rule(how, seen)
    share, train, everyone = before_tuning.SHARE, seen.train, np.ones(len(seen.train), bool)
    verdict, best = rule(replace(how, alpha=(1 - share) * how.alpha), seen)
    said = before_tuning.judge(seen.untuned, share * how.alpha)
    p = np.minimum(1.0, np.minimum([entry.p_value / (1 - share) for entry in verdict.classes], said.p / share))
    by_encoder, flagged = said.p <= share * how.alpha, verdict.flagged | said.flagged
    named_by = {name: list(questions) for name, questions in verdict.evidence.get("named by", {}).items()}
    for k in np.flatnonzero(by_encoder):
        named_by.setdefault(train.classes[k], []).append(before_tuning.QUESTION)
    named = by_encoder | np.array([entry.suspect for entry in verdict.classes])
    found = [one.confidence for one in (verdict, said) if one.flagged.any()]
    evidence = {**verdict.evidence, "named by": named_by, "p by encoder": dict(zip(train.classes, said.p.tolist(), strict=True))}
    if by_encoder.any() and not verdict.flagged.any():
        best = np.concatenate([said.scores[: len(train)], said.scores[seen.parts.control]])
    first = put_first(best[: len(train)], flagged, train.labels, everyone)
    verdict = replace(
        verdict,
        flagged=flagged,
        classes=class_evidence(train.classes, train.labels, flagged, -np.log10(np.maximum(p, 1e-300)), p, named),
        confidence=max(found) if found else min(verdict.confidence, said.confidence),
        threshold=None if by_encoder.any() else verdict.threshold,  # no single score that all are flagged by
        evidence=evidence,
    )
    return verdict, np.concatenate([first, best[len(train) :]])


def by_classes(how: Asset, seen: Seen) -> tuple[Verdict, np.ndarray]:
    """(verdict, the scores (n + control,) that it rests on): classes whose tails stand out from the others' (`decide.tail`), by the
    separators' scores, by what the scouts say, or, where neither names them, by fine detail."""
    from tocsin.detectors.fine_detail import QUESTION, SHARE

    train, n, labels, names, detail = seen.train, len(seen.train), seen.labels, seen.train.classes, seen.detail
    views = {f"run {r + 1}": by_class(values, labels, n, seen.distinct).astype(np.float32) for r, values in enumerate(seen.scores)}
    rounds, nobody = [{name: view[:n]} for name, view in views.items()], np.zeros(n, bool)
    known = large(how, n, seen.distinct)
    scale, share = _NULL_SCALE if known else _NULL_SCALE_SMALL, 1.0 if detail is None else 1 - SHARE
    scored = Scored(rounds, train.labels, names, nobody, None, how.alpha, scale, share)
    if known and how.hear_scouts and how.features != "shortcut" and len(seen.logits) == len(seen.scores):
        said = said_by_scouts(seen.logits, labels, n, seen.distinct)
        views |= {name: view for each in said.views for name, view in each.items()}
        scored = replace(scored, share=share - said.share, further=(said.part(slice(n)),))
    verdict = tail(scored)
    best = views[verdict.view or "run 1"]
    if detail is None:
        return verdict, best
    unnamed = np.array([not entry.suspect for entry in verdict.classes])

    def with_detail() -> tuple[Verdict, list[int]]:
        told = tail(replace(scored, further=(*scored.further, detail.series(unnamed))))
        return told, [entry.index for entry in told.classes if entry.suspect and unnamed[entry.index]]

    verdict, by_detail = with_detail()
    if not by_detail:
        return verdict, best
    fit = fit_of_labels(seen.bench, seen.parts.groups, FIT_LEAST, seen.runtime)
    flagged, scores = detail.suspects(by_detail, fit)
    mistaken = [k for k in by_detail if not flagged[train.labels == k].any()]
    if mistaken:  # labels that do not fit are no trigger
        unnamed[mistaken] = False
        verdict, by_detail = with_detail()
    if not by_detail:
        return verdict, best
    verdict = with_further(verdict, {QUESTION: verdict.flagged | flagged}, train, ~nobody)
    verdict = replace(verdict, threshold=None)  # the view that named the class is not the one that all are flagged by
    best = scores if unnamed.all() else best
    return verdict, np.concatenate([put_first(best[:n], verdict.flagged, train.labels, ~nobody), best[n:]])


def by_control(how: Asset, seen: Seen) -> tuple[Verdict, np.ndarray]:
    """As `by_classes`: those that hold more high scores than their held-out reserve (`control.against_control`).

    Of samples without labels the scouts' own logits are asked too, each with half of alpha. The encoder has learned from inspected, base
    and control samples alike, and each sample is told of by a scout that has not seen it; then clean ones and control are draws from one
    law. (A victim with labels has been taught the inspected samples alone: its scouts tell these from the control.)
    """
    train, reserve, n = seen.train, seen.reserve, len(seen.train)
    level = [levelled(values, halves(seen.parts, 2, seen.runtime.seed, r), n) for r, values in enumerate(seen.scores)]
    views = {"separators": np.mean(level, axis=0).astype(np.float32)}
    if how.hear_scouts and how.features == "victim" and not train.labelled and len(seen.logits) == len(seen.scores):
        views["scouts"] = np.mean(seen.logits, axis=0).astype(np.float32)
    alpha = how.alpha / len(views)
    scored = Scored([], train.labels, train.classes, np.zeros(n, bool), None, alpha, control_labels=reserve.labels[seen.held])
    verdicts = {name: against_control(view[:n], view[n:], scored, name, far=True) for name, view in views.items()}
    lead = min(verdicts, key=lambda name: min(entry.p_value for entry in verdicts[name].classes))
    flagged = np.any([verdict.flagged for verdict in verdicts.values()], axis=0)
    p = np.min([[min(1.0, entry.p_value * len(views)) for entry in verdict.classes] for verdict in verdicts.values()], axis=0)
    named = p <= how.alpha if train.labelled else np.zeros(len(p), bool)  # without labels there is no class to be named as a target
    classes = class_evidence(train.classes, train.labels, flagged, -np.log10(np.maximum(p, 1e-300)), p, named)
    evidence = {
        "p": dict(zip(train.classes, p.tolist(), strict=True)),
        "p by view": {name: v.evidence["p"] for name, v in verdicts.items()},
    }
    return replace(verdicts[lead], flagged=flagged, classes=classes, evidence=evidence), views[lead]


def by_threshold(how: Asset, seen: Seen) -> tuple[Verdict, np.ndarray]:
    """As `by_classes`: all that score above a threshold from the lower half of the scores (specification 2.7)."""
    train, n = seen.train, len(seen.train)
    mean = np.mean(seen.scores, axis=0).astype(np.float32)
    assert how.decision != "tail"
    assert how.decision != "control"
    limit = lower_half_threshold(mean[:n], how.decision, how.eps)
    flagged = mean[:n] > limit
    share = np.bincount(train.labels[flagged], minlength=len(train.classes)) / np.maximum(train.class_counts, 1)
    named = share > 0 if train.labelled else np.zeros(len(train.classes), bool)
    classes = class_evidence(train.classes, train.labels, flagged, share, np.ones(len(train.classes)), named)  # the rule names none
    return Verdict(flagged, classes, 0.5, limit), mean


DECISIONS: dict[str, Callable[[Asset, Seen], tuple[Verdict, np.ndarray]]] = {
    "tail": by_classes,
    "control": by_control,
}
"""The ``decision`` setting -> rule; any other is a threshold of the lower half."""
