"""From scores to an answer: is any class a target, and which of its samples are flagged?

`tail` is ours. `likelihood` and `em` are the published class tests (specification 2.5), kept for the paper preset: they miss low
poison rates although the scores separate (docs/confusion-training.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.detectors.base import ClassEvidence, class_evidence

if TYPE_CHECKING:
    from tocsin.detectors.distillation import Distilled

SHARES = (0.0005, 0.002, 0.01, 0.05)
"""Depths, as shares of the data set, at which classes are compared: a rare trigger shows at the first, a common one at the last."""
_LEAST_DEPTH = 8
_SPREAD_FLOOR = 0.25
_FEW_CLASSES = 1.0
_NULL_SCALE = 0.39
"""Scale of the exponential law of the gap on clean data, from development runs (seeds from 100; docs/confusion-training.md)."""
_POISON_GAP = (5.0, 0.7)
"""Median and log-deviation of the gap on poisoned data, taken as log-normal, from the same runs; for the confidence only."""
LEAST_SHARE = 0.2
"""A target class's samples are flagged from the top down as long as this share of the next ones would be poison: one poisoned sample that
stays does more harm than four clean ones that go ..."""
_FALSE_SHARE = 0.01
"""... but not so far that more than this share of the class would be flagged by mistake."""
OWN_LEAST = 100
"""Reserve samples from which on they say how many clean ones to expect (`Series.reserve`)."""


@dataclass(frozen=True)
class Verdict:
    flagged: np.ndarray
    classes: tuple[ClassEvidence, ...]
    confidence: float
    threshold: float | None
    view: str | None = None
    """Name of the scores in which the most suspicious class stands out most."""
    surest: np.ndarray | None = None
    """(N,) bool: of each class what is flagged by the first of the series that name it, if likeness may be learned from that; None: no
    series were asked."""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """Scores that stand for one question asked of the samples more than once, with the law that its answer has on clean data."""

    question: str
    """What it is called where classes are said to be named by it."""
    rounds: Sequence[Mapping[str, np.ndarray]]
    """Of each time it was asked, by the view's name: (N,) scores by which classes are compared with each other."""
    flagging: Sequence[Mapping[str, np.ndarray]] = ()
    """(N,) scores by each of which samples of a class that it names are flagged; none: by the view of ``rounds`` in which the class stands
    out most."""
    null_scale: float = _NULL_SCALE
    """Scale of the exponential law of the gap on clean data, with these scores."""
    share: float = 1.0
    """Of alpha."""
    far: Sequence[np.ndarray] = ()
    """(C,) of each time, how far each class stands out, where that is not told by comparing classes with each other; else none."""
    among: np.ndarray | None = None
    """(C,) bool: classes that it may name; None: all."""
    reserve: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    """By the name of a view that samples are flagged by: of each class the scores of its reserve. Where a class has many, they say what is
    expected of its clean samples, in place of the other classes."""
    alike: bool = True
    """Whether what looks like the flagged samples of a class may be flagged too (`likeness`), where it is the first to name the class."""
    false_share: float = 0.0
    """Up to this share of what is flagged may be false, where the reserve says what is expected."""

    @property
    def views(self) -> list[Mapping[str, np.ndarray]]:
        return [*self.rounds, *self.flagging]

    def part(self, rows: slice) -> Series:
        """The same of ``rows`` alone."""

        def cut_out(those: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
            return [{name: scores[rows] for name, scores in views.items()} for views in those]

        return replace(self, rounds=cut_out(self.rounds), flagging=cut_out(self.flagging))


@dataclass(frozen=True)
class Scored:
    """What a decision rests on."""

    rounds: Sequence[Mapping[str, np.ndarray]]
    """Of each round, by the view's name: (N,) scores of the inspected rows, canaries included, comparable between classes."""
    labels: np.ndarray
    """(N,) int64."""
    names: tuple[str, ...]
    """Of the classes."""
    ignore: np.ndarray
    """(N,) bool: rows that take no part."""
    run: Distilled | None = None
    """What else the rounds left behind; the published tests need its features."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set."""
    null_scale: float = _NULL_SCALE
    """Scale of the exponential law of the gap on clean data, with this detector's scores."""
    share: float = 1.0
    """Of alpha, for ``rounds``."""
    control: Sequence[Mapping[str, np.ndarray]] = ()
    """As ``rounds``, (M,) each, of known-clean rows that were treated as the inspected ones were."""
    control_labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """(M,) int64."""
    further: Sequence[Series] = ()
    """Other questions asked of the same samples: as texture alone, how well labels fit; for `tail`."""


Decision = Callable[[Scored], Verdict]


def tail(seen: Scored) -> Verdict:
    """Compares the upper tails of the classes with each other: in which class, if any, does a group stand out, and after two rounds?

    A backdoor has one or few targets, so its samples make the tail of few classes stand out from those of the rest (`stands_out`).
    Natural families of look-alikes make tails of all classes heavy and leave no gap; a family that one round's networks happen
    not to forget is gone in the next. So of each round the better view counts, and of the rounds the second best; so too, by itself and
    by a limit of its own, in each further series. In every series that names a class its samples are flagged, from where they outnumber
    what the other classes predict.
    """
    labels, names, real = seen.labels, seen.names, ~seen.ignore
    series = [s for s in (Series("rounds", seen.rounds, (), seen.null_scale, seen.share), *seen.further) if s.rounds]
    scores = {name: view for s in series for views in s.views for name, view in views.items()}
    looks = _looks(series, scores, labels, real, len(names))
    each = np.array([_second_best(looks, s.rounds) * (1 if s.among is None else s.among) for s in series])
    scales, shares = (np.array([getattr(s, of) for s in series])[:, None] for of in ("null_scale", "share"))
    limits = -scales * np.log(seen.alpha * shares)
    beyond = each / limits  # a class is named from 1 on
    statistic = beyond.max(axis=0) * limits[0, 0]  # in the units of the first

    def telling(k: int, which: int) -> list[str]:
        """Views that samples of class k are flagged by, the one in which it stands out most first."""
        rounds = series[which].flagging or series[which].rounds
        ordered = sorted((name for views in rounds for name in views), key=lambda name: looks[name][k], reverse=True)
        return ordered if series[which].flagging else ordered[:1]

    guilty = np.flatnonzero(beyond.max(axis=0) > 1)
    flagged, surest = np.zeros((2, len(labels)), bool)
    sound = real & ~np.isin(labels, guilty)
    cuts: dict[tuple[int, str], float] = {}
    for k in guilty.tolist():
        naming = np.flatnonzero(beyond[:, k] > 1).tolist()
        for which, name in ((one, name) for one in naming for name in telling(k, one)):
            rest = scores[name][sound if sound.any() else real & (labels != k)]
            cuts[k, name] = _cut_of(series[which], name, k, scores[name][real & (labels == k)], rest)
            high = (labels == k) & (scores[name] >= cuts[k, name])
            flagged |= high
            surest |= high & (which == naming[0] and series[which].alike)
    poisoned = chance_of_poison(float(statistic.max()), seen.null_scale)
    named = np.isin(np.arange(len(names)), guilty)
    top = int(np.argmax(statistic))
    lead = telling(top, int(np.argmax(beyond[:, top])))[0]
    shown = [score for (_, name), score in cuts.items() if name == lead]
    p = np.minimum((np.exp(-each / scales) / shares).min(axis=0), 1.0)
    return Verdict(
        flagged=flagged,
        classes=class_evidence(names, labels[real], flagged[real], statistic, p, named),
        confidence=poisoned if len(guilty) else 1 - poisoned,
        threshold=min(shown) if shown else None,
        view=lead,
        surest=surest,
        evidence={
            "gap": float(statistic.max()),
            "gap needed": float(limits[0, 0]),
            "gaps by view": {name: float(look.max()) for name, look in looks.items()},
            "limits": {s.question: float(limit) for s, limit in zip(series, limits[:, 0], strict=True)},
            "named by": {names[k]: [s.question for s, far in zip(series, beyond[:, k], strict=True) if far > 1] for k in guilty},
            "thresholds": {names[k]: [{"view": name, "score": score} for (of, name), score in cuts.items() if of == k] for k in guilty},
        },
    )


def _looks(
    series: Sequence[Series], scores: Mapping[str, np.ndarray], labels: np.ndarray, real: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """By the view's name, (C,) how far each class stands out in it."""
    told = {name: far for s in series for views, far in zip(s.rounds, s.far, strict=False) for name in views}
    return {name: told[name] if name in told else stands_out(view[real], labels[real], classes) for name, view in scores.items()}


def _cut_of(series: Series, name: str, k: int, mine: np.ndarray, rest: np.ndarray) -> float:
    """The score in the view ``name`` from which samples of class ``k`` are flagged: ``mine`` (n,) its own, ``rest`` of sound classes."""
    own = series.reserve[name][k] if name in series.reserve else rest[:0]
    return cut(mine, own, among=series.false_share) if len(own) >= OWN_LEAST else cut(mine, rest)


def _second_best(looks: Mapping[str, np.ndarray], rounds: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """(C,) of each class the second widest gap of the rounds', each round's in its better view."""
    by_round = np.array([np.max([looks[name] for name in views], axis=0) for views in rounds])
    return np.asarray(np.sort(by_round, axis=0)[-min(2, len(by_round))])


def stands_out(scores: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(C,) how far each class's upper tail stands out from the classes below it; 0 for those that do not.

    At each depth m the m-th largest score of every class is taken, classes are put in order, and the widest gap between neighbours in
    the upper half is measured in units of the spread of the classes below it.
    """
    unit = tail_unit(scores, labels, classes)
    gaps = [widest_gap(tails(scores, labels, classes, m), unit) for m in depths(len(scores))]
    return np.asarray(np.max([gap * np.isin(np.arange(classes), above) for gap, above in gaps], axis=0))


def chance_of_poison(gap: float, null_scale: float = _NULL_SCALE) -> float:
    """Posterior chance, at even odds, that a data set with this ``gap`` is poisoned by something the audit can see."""
    median, deviation = _POISON_GAP
    at = max(gap, 1e-6)
    clean = math.exp(-at / null_scale) / null_scale
    z = math.log(at / median) / deviation
    poison = math.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * deviation * at)
    return poison / (poison + clean)


def depths(n: int) -> list[int]:
    """Numbers of samples m at which the tails of ``n`` samples are compared."""
    return sorted({max(_LEAST_DEPTH, round(share * n)) for share in SHARES})


def tails(scores: np.ndarray, labels: np.ndarray, classes: int, m: int) -> np.ndarray:
    """(C,) the m-th largest score of each class; NaN for a class that m takes up nearly whole."""
    out = np.full(classes, np.nan)
    for k in range(classes):
        mine = scores[labels == k]
        if m <= 0.9 * len(mine):
            out[k] = -np.partition(-mine, m - 1)[m - 1]
    return out


def tail_unit(scores: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """How long a usual class's upper tail is: the (lower) median over classes of the way from the 75 % to the 99 % quantile."""
    lengths = [np.subtract(*np.quantile(scores[labels == k], [0.99, 0.75])) for k in range(classes) if (labels == k).any()]
    return max(float(np.sort(lengths)[(len(lengths) - 1) // 2]), 1e-6)


def widest_gap(values: np.ndarray, unit: float) -> tuple[float, np.ndarray]:
    """(gap in units of spread, classes above it): the widest among neighbours in the upper half of (C,) ``values``; NaN are left out.

    The spread is that of the classes below the gap: 1.4826 MAD plus a floor in ``unit``s, the larger the fewer classes there are.
    """
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2:
        return 0.0, np.empty(0, np.int64)
    order = known[np.argsort(-values[known])]
    best: tuple[float, np.ndarray] = (0.0, np.empty(0, np.int64))
    for above in range(1, len(order) // 2 + 1):
        below = values[order[above:]]
        spread = 1.4826 * float(np.median(np.abs(below - np.median(below))))
        spread += unit * (_SPREAD_FLOOR + _FEW_CLASSES / (len(order) - 1))
        gap = float(values[order[above - 1]] - values[order[above]]) / spread / math.sqrt(above)  # several targets need a wider gap
        if gap > best[0]:
            best = (gap, order[:above])
    return best


def cut(mine: np.ndarray, rest: np.ndarray, odds: float = 1.0, among: float = 0.0) -> float:
    """The score from which samples of a target class are flagged: down to it, poison is at least `LEAST_SHARE` of any stretch of scores.

    ``mine`` (n,) scores of the class, ``rest`` (r,) of the classes that are not targets; their tail, scaled to n, is what is expected
    of the class's clean samples. As many samples are flagged as make (observed - expected / (1 - share)) largest: there, fewer
    would leave poison behind and more would be mostly clean. Where nothing lies between poison and the rest it stops at the poison.
    ``odds``: clean samples may be so many times as frequent there as ``rest`` says. At most `_FALSE_SHARE` of the class is flagged by
    mistake, or the share ``among`` of what is flagged, whichever is more.
    """
    candidates = np.sort(mine)[::-1]
    observed = np.arange(1, len(candidates) + 1)
    expected = odds * len(mine) * (len(rest) - np.searchsorted(np.sort(rest), candidates, side="left")) / max(1, len(rest))
    worth = np.where(expected <= np.maximum(_FALSE_SHARE * len(mine), among * observed), observed - expected / (1 - LEAST_SHARE), -np.inf)
    return float(candidates[np.argmax(worth)])


def clean_share(mine: np.ndarray, rest: np.ndarray) -> float:
    """How large a share of the scores ``mine`` (n,) of a target class may be clean, going by ``rest`` (r,) of clean classes.

    Twice the share at or below their median, where few poisoned samples are (Storey's estimate of true null hypotheses), at most 1.

    For `cut`'s ``odds``: where a class is poison through and through there is hardly a clean sample that could be flagged by mistake.
    """
    return float(min(1.0, 2 * (np.count_nonzero(mine <= np.median(rest)) + 1) / max(1, len(mine))))


def control(seen: Scored) -> Verdict:
    """Compares each class with its own clean control, for data with too few classes to be compared with each other (`control_test`).

    Poison that a network keeps stands clear of the rest, so the cut may be wary of a small control (docs/tables-detection.md).
    """
    from tocsin.detectors.control import TOLERANCE, against_control

    name, scores = list(seen.rounds[-1].items())[-1]
    return against_control(scores, seen.control[-1][name], seen, view=name, odds=TOLERANCE)


def likelihood(seen: Scored) -> Verdict:
    """The shipped, simplified test of specification 2.5: one ratio a class, flag above 2, or the largest above 1.5."""
    from tocsin.stats.class_test import simplified_ratio

    return _published(simplified_ratio, (1.5, 2.0), seen)


def em(seen: Scored) -> Verdict:
    """The older variant: two Gaussians by constrained EM; flag above 5, or the largest above 2."""
    from tocsin.stats.class_test import em_ratio

    return _published(em_ratio, (2.0, 5.0), seen)


DECISIONS: dict[str, Decision] = {"tail": tail, "control": control, "likelihood": likelihood, "em": em}
"""Name of the ``decision`` setting -> rule."""


def judged_apart(decision: Decision, seen: Scored, canaries: np.ndarray | None) -> Verdict:
    """The verdict on the person's rows, in which ``flagged`` also says of each kind of canary what it would be were it the only attack.

    ``canaries`` (N,) int8 as in `Detector.inspect`.
    """
    kinds = np.full(len(seen.labels), -1, np.int8) if canaries is None else canaries
    ignore = kinds >= 0
    verdict = decision(replace(seen, ignore=ignore))
    flagged = verdict.flagged & ~ignore
    for kind in range(int(kinds.max(initial=-1)) + 1):
        mine = kinds == kind
        flagged |= decision(replace(seen, ignore=(ignore & ~mine) | flagged)).flagged & mine
    return replace(verdict, flagged=flagged)


def _published(ratio: Callable[[np.ndarray, np.ndarray, np.ndarray], float], limits: tuple[float, float], seen: Scored) -> Verdict:
    labels, names, ignore, run = seen.labels, seen.names, seen.ignore, seen.run
    assert run is not None
    assert run.features is not None
    statistic = np.ones(len(names))
    for k in range(len(names)):
        rows = np.flatnonzero((labels == k) & ~ignore)
        statistic[k] = ratio(run.features[rows], run.predicted[rows], run.median_band[rows])
    largest = int(np.argmax(statistic))
    guilty = {k for k in range(len(names)) if statistic[k] > limits[1] or (k == largest and statistic[k] > limits[0])}
    flagged = run.predicted & np.isin(labels, sorted(guilty))
    # The published test gives no probability: the distance from its limit is all there is.
    margin = statistic[largest] / limits[0]
    confidence = 1 - 0.5 / margin if guilty else 1 - 0.5 * margin
    named = np.isin(np.arange(len(names)), sorted(guilty))
    classes = class_evidence(names, labels[~ignore], flagged[~ignore], statistic, np.ones(len(names)), named)
    return Verdict(flagged, classes, float(np.clip(confidence, 0, 1)), None)
