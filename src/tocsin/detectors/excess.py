"""From scores with a cut at a quantile of clean ones to an answer that can be "nothing found".

STRIP, SentiNet and Frequency flag whatever scores above a quantile of clean samples, so on clean data they flag that share by design.
Here the flags count only in classes that hold more of them than the class's own held-out reserve samples and the other classes
predict. docs/model-based.md, "the class test".
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.detectors.base import Findings, class_evidence
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.victim import Victim

DEPTHS = (1.0, 0.3, 0.1, 0.03)
"""The class test looks at the share beyond the cut, and at these parts of it."""


@dataclass(frozen=True)
class Measurement:
    """What a method found before any decision."""

    scores: np.ndarray
    """(N,) of the inspected samples; higher is more suspicious."""
    control: np.ndarray
    """(M,) of reserve samples that took no other part."""
    control_labels: np.ndarray
    """(M,) int64."""
    cut: float | None = None
    """The method's own cut; None: the quantile of the control."""
    oracle: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassTest:
    """What `class_test` says of each class."""

    p: np.ndarray
    """(C,) chance of as many high scores, were the class clean; 1 where it has no control."""
    cuts: np.ndarray
    """(C,) the score that about the wanted share of the class's clean samples exceeds; infinite without control."""


@dataclass(frozen=True)
class QuantileDetector(VictimReader):
    """Base of the methods that flag a sample which scores above a quantile of clean ones."""

    not_defined: ClassVar[Mapping[str, str]] = {
        "self-supervised": "its flags count only in classes that hold more of them than the others, and without labels there are no classes"
    }

    share: float = 0.1
    """Share of clean samples beyond the cut."""
    decision: Literal["class", "every"] = "class"
    """class (ours): flag in the classes that the class test names, beyond a cut for each; every (published): beyond one cut in all
    classes, which flags about ``share`` of any clean set."""
    alpha: float = 0.01
    """Bound on the chance that the class test names any class of a clean set."""
    tolerance: float = 1.2
    """The class test lets a class's odds of being flagged exceed those of the typical class by this factor."""

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 < self.alpha < 1 and 1 <= self.tolerance < math.inf):
            raise InputError(
                f"share {self.share}, alpha {self.alpha}, tolerance {self.tolerance}: "
                "allowed are a share and an alpha between 0 and 1, and a tolerance from 1"
            )

    @classmethod
    def paper_fields(cls) -> dict[str, Any]:
        return {"decision": "every", **cls.paper}

    def judge(self, victim: Victim) -> Findings:
        began = time.monotonic()
        found = self.score(victim)
        check_numbers(found)
        decided = time.monotonic()
        train, names = victim.train, victim.train.classes
        test = class_test(
            found.scores, train.labels, found.control, found.control_labels, len(names), share=self.share, tolerance=self.tolerance
        )
        if self.decision == "every":  # the published rule names no class
            cut: float | None = float(np.quantile(found.control, 1 - self.share)) if found.cut is None else found.cut
            named = np.zeros(len(names), bool)
            flagged = found.scores > cut
        else:
            cuts = test.cuts if found.cut is None else np.full(len(names), found.cut)
            named = test.p * len(names) <= self.alpha
            flagged = named[train.labels] & (found.scores > cuts[train.labels])
            named &= np.isin(np.arange(len(names)), train.labels[flagged])
            cut = float(cuts[named].min()) if named.any() else None
        classes = class_evidence(names, train.labels, flagged, -np.log10(np.maximum(test.p, 1e-300)), test.p, named)
        clean = chance_of_clean(min(1.0, float(test.p.min(initial=1.0)) * len(names)))
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=found.scores,
            flagged=flagged,
            classes=classes,
            confidence=1 - clean if flagged.any() else clean,
            threshold=cut,
            control=found.control,
            evidence={
                "settings": {key: f"{len(v)} values" if isinstance(v, tuple) and len(v) > 9 else v for key, v in asdict(self).items()},
                "control": len(found.control),
                "class cuts": {names[k]: float(test.cuts[k]) for k in np.flatnonzero(np.isfinite(test.cuts))},
                **found.evidence,
            },
            timings={**found.timings, "deciding": now - decided, "total": now - began},
            oracle=found.oracle,
        )

    def score(self, victim: Victim) -> Measurement:
        """The method itself."""
        raise NotImplementedError


def check_numbers(found: Measurement) -> None:
    """Raises `InputError` for scores that are no numbers, as a diverged network gives: no comparison with a cut would hold for them."""
    for what, values in (("inspected", found.scores), ("reserve", found.control)):
        bad = np.flatnonzero(np.isnan(values))
        if len(bad):
            raise InputError(
                f"victim: {len(bad):,} of {len(values):,} {what} samples got no number as their score (the first is row {bad[0]}); "
                "finite outputs of the network are allowed; has its training diverged?"
            )


def split(reserve: Dataset, parts: tuple[int, ...], rng: np.random.Generator, name: str) -> list[Dataset]:
    """Disjoint random parts of the reserve, one for each wanted size, and the rest, which becomes the control.

    A reserve too small gives every part at most an equal share, one sample at least. Raises `InputError` where that cannot be.
    """
    if len(reserve) <= len(parts):
        raise InputError(f"reserve: got {len(reserve)} samples, {name} needs at least {len(parts) + 1}")
    order, out = rng.permutation(len(reserve)), []
    for place, wanted in enumerate(parts):
        size = min(wanted, len(order) // (len(parts) - place + 1))
        out.append(reserve[np.sort(order[:size])])
        order = order[size:]
    return [*out, reserve[np.sort(order)]]


def class_test(
    scores: np.ndarray,
    labels: np.ndarray,
    control: np.ndarray,
    control_labels: np.ndarray,
    classes: int,
    *,
    share: float,
    tolerance: float,
) -> ClassTest:
    """Which classes hold more high scores than their own control and the other classes predict.

    In each class the inspected samples above the (c + 1)-th highest control of the same class are counted, for c a `DEPTHS` part of
    the ``share`` beyond the cut, and an exact test says whether they are too many for c of the control's samples. A network knows what
    it was trained on a little better than the reserve; so the odds may exceed the control's by as much as they do in the typical
    (lower median) class, times ``tolerance``. The smallest p-value counts, times the number of different c (Bonferroni).
    """
    mine = [np.sort(scores[labels == k]) for k in range(classes)]
    clean = [np.sort(control[control_labels == k]) for k in range(classes)]
    n, m = np.array([len(s) for s in mine]), np.array([len(s) for s in clean])
    known = np.flatnonzero((n > 0) & (m > 0))
    p, ranks = np.ones(classes), np.floor(share * np.outer(DEPTHS, m)).astype(np.int64)
    for c in ranks if len(known) else ():
        x = np.zeros(classes, np.int64)
        for k in known:
            x[k] = n[k] - np.searchsorted(mine[k], clean[k][m[k] - 1 - c[k]], side="right")
        # of clean samples (c + 1) / (m + 1) lie above the (c + 1)-th highest control, on average
        ratios = ((x + 0.5) / (n - x + 0.5))[known] * (m[known] - c[known]) / (c[known] + 1)
        odds = tolerance * max(1.0, float(np.sort(ratios)[(len(known) - 1) // 2]))
        for k in known:
            p[k] = min(p[k], excess_p(int(x[k]), int(n[k]), int(c[k]), int(m[k]), odds))
    looks = np.array([len(np.unique(column)) for column in ranks.T])
    cuts = np.full(classes, np.inf)
    cuts[known] = [clean[k][m[k] - 1 - ranks[0, k]] for k in known]
    return ClassTest(np.minimum(1.0, p * looks), cuts)


def excess_p(x: int, n: int, c: int, m: int, odds: float) -> float:
    """Fisher's exact test that x of n exceeds c of m by more than an odds ratio of ``odds``: the chance of c or fewer of the x + c."""
    from scipy.special import gammaln, logsumexp

    j = np.arange(max(0, x + c - n), min(m, x + c) + 1)  # how many of the x + c may lie in the control
    i = x + c - j
    logs = -(gammaln(j + 1) + gammaln(m - j + 1) + gammaln(i + 1) + gammaln(n - i + 1)) + i * math.log(odds)
    return float(np.exp(min(0.0, logsumexp(logs[j <= c]) - logsumexp(logs))))


def chance_of_clean(p: float) -> float:
    """Probability of "clean" at even odds before, from a p-value: the lower bound of Sellke, Bayarri and Berger (2001); 0.5 from 1/e on."""
    doubt = -math.e * p * math.log(p) if 0 < p < 1 / math.e else float(p > 0)
    return doubt / (1 + doubt)
