"""Confusion Training with boosted trees, for tables. Ours; the idea is the paper's (`ct`).

Trees are what people train on tables, and they isolate a single value that a network of linear layers smooths over. One fit takes the
place of pretraining and confusion: the inspected rows with their labels, and reserve rows with wrong ones, with the same weight in all.
docs/tables-detection.md says what it finds that networks do not, and the other way round.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tocsin.boosting import WIDE, Boosted, Growth, boost, has_lightgbm
from tocsin.data.dataset import Dataset, concatenate
from tocsin.data.rows import row_hashes
from tocsin.detectors.base import Detector, Findings, preset_of
from tocsin.errors import InputError
from tocsin.runtime import Runtime, Ticker

_CHUNK = 20_000


@dataclass(frozen=True)
class Boosting(Detector):
    """Boosted Confusion Training: finds rows whose label trees still know after the reserve has contradicted everything else."""

    name: ClassVar[str] = "boosting"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    keep: tuple[float, ...] = (0.2, 0.05)
    """Share of all rows that each later round is fitted on (poison distillation)."""
    reserve_weight: float = 1.0
    """lambda: what all reserve rows together weigh for each unit of the inspected ones; far less than for a network, trees obey at once."""
    trees: int = 60
    """Boosting rounds of a fit."""
    leaves: int = 31
    """Of a tree, at most."""
    lr: float = 0.15
    """Shrinkage of each tree."""
    least_leaf: int = 5
    """Rows in a leaf, at least."""
    most_rows: int = 30_000
    """Inspected rows of a fit; of more, a random part."""
    repeats: int = 1
    """Times that every round is fitted with other folds; margins are averaged."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set."""

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in self.keep) or not (self.reserve_weight > 0 and self.lr > 0 and 0 < self.alpha < 1):
            raise InputError(
                f"keep {self.keep}, reserve_weight {self.reserve_weight}, lr {self.lr}, alpha {self.alpha}: "
                "allowed are shares of 1, a weight and a rate above 0, and an alpha between 0 and 1"
            )
        if min(self.trees, self.least_leaf, self.repeats) < 1 or self.leaves < 2 or self.most_rows < 100:
            raise InputError(
                f"trees {self.trees}, least_leaf {self.least_leaf}, repeats {self.repeats}, leaves {self.leaves}, "
                f"most_rows {self.most_rows}: allowed are from 1, 1, 1, 2 and 100"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Boosting:
        """The settings called ``name`` (see `PRESETS`), with ``changes``. Raises `InputError` for an unknown one."""
        return preset_of(PRESETS, name, changes)

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Scores, flags and class evidence for the table ``train``; ``reserve``: clean rows of the same classes. Raises `InputError`."""
        from tocsin.detectors.control import against_control
        from tocsin.detectors.decide import Scored, judged_apart

        if len(train.classes) < 2:
            raise InputError("the training data has one class only; boosting needs at least two")
        began = time.monotonic()
        margins = self._margins(train, reserve, runtime)
        fitted = time.monotonic()
        scores = np.mean(margins, axis=0).astype(np.float32)
        n = len(train)
        seen = Scored(
            [{"margins": scores[:n]}], train.labels, train.classes, np.zeros(n, bool), None, self.alpha,
            control=[{"margins": scores[n:]}], control_labels=reserve.labels,
        )  # fmt: skip
        verdict = judged_apart(lambda rest: against_control(rest.rounds[0]["margins"], scores[n:], rest), seen, canaries)
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores[:n],
            flagged=verdict.flagged,
            classes=verdict.classes,
            confidence=verdict.confidence,
            threshold=verdict.threshold,
            control=scores[n:],
            evidence={"settings": asdict(self), "engine": "lightgbm" if _by_lightgbm(train) else "scikit-learn", **verdict.evidence},
            timings={"fitting": fitted - began, "deciding": now - fitted, "total": now - began},
        )

    def _margins(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> list[np.ndarray]:
        """(n + m,) of each round: margins by the model that did not see the row, in units of its spread over the rows it judges."""
        from tocsin.detectors.rounds import distil

        n, m = len(train), len(reserve)
        groups = np.unique(row_hashes(train.inputs), return_inverse=True)[1].reshape(-1)
        kept, margins = np.arange(n), []
        rounds = len(self.keep) + 1
        ticker = Ticker(runtime, "boosting", 2 * rounds * self.repeats)
        for r in range(rounds):
            total = np.zeros(n + m)
            for repeat in range(self.repeats):
                rng = np.random.default_rng([runtime.seed, 0xB0, r, repeat])
                fold, half = rng.integers(0, 2, n)[groups], halves(reserve.labels, rng)
                for f in range(2):
                    mine = kept[fold[kept] == f]
                    mine = rng.choice(mine, min(len(mine), self.most_rows), replace=False)
                    model = self._fitted(train[mine], reserve[half == f], rng)
                    ours, theirs = np.flatnonzero(fold != f), np.flatnonzero(half != f)
                    inspected, clean = _judged(model, train, ours), _judged(model, reserve, theirs)
                    spread = max(float(inspected.std()), 1e-6) if len(ours) else 1.0
                    total[ours] += inspected / spread
                    total[n + theirs] += clean / spread
                    ticker()
            margins.append(total)
            if r + 1 < rounds:
                order = np.argsort(-np.mean(margins, axis=0)[:n], kind="stable")
                kept = distil(order, train.labels, len(train.classes), self.keep[r], 50)
        return margins

    def _fitted(self, inspected: Dataset, reserve: Dataset, rng: np.random.Generator) -> Boosted:
        """Trees on ``inspected`` rows as labelled and ``reserve`` rows with wrong labels, drawn anew for each of them."""
        classes = len(reserve.classes)
        wrong = (reserve.labels + rng.integers(1, classes, len(reserve))) % classes
        # Copies share a fold, so of a table of equal rows one fold has none.
        weight = self.reserve_weight * max(1, len(inspected)) / max(1, len(reserve))
        weights = np.concatenate([np.ones(len(inspected)), np.full(len(reserve), weight)])
        both = concatenate(inspected, replace(reserve, labels=wrong))
        how = Growth(self.trees, self.leaves, self.lr, self.least_leaf)
        return boost(both, int(rng.integers(2**31)), how, weights=weights, lightgbm=_by_lightgbm(both))


def _by_lightgbm(data: Dataset) -> bool:
    """On wide tables, where it is installed: on narrow ones an answer should not depend on what is."""
    return bool(data.inputs.shape[1] >= WIDE and has_lightgbm())


def halves(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(M,) 0 or 1: a random half of each class of ``labels`` (M,)."""
    out = np.empty(len(labels), np.int64)
    out[np.lexsort((rng.random(len(labels)), labels))] = np.arange(len(labels)) % 2
    return out


def _judged(model: Boosted, data: Dataset, rows: np.ndarray) -> np.ndarray:
    """(B,) margin of the given label of these ``rows`` (B,)."""
    out = np.empty(len(rows))
    absent = np.setdiff1d(np.arange(model.classes), model.present)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        logits, own = model.logits(data.inputs[part]), data.labels[part]
        logits[:, absent] = logits[:, model.present].min(initial=0) - 1  # a class that the fit did not see is the least likely
        mine = logits[np.arange(len(part)), own]
        logits[np.arange(len(part)), own] = -np.inf
        out[start : start + _CHUNK] = mine - logits.max(1)
    return out


PRESETS: dict[str, Boosting] = {
    "fast": Boosting(),
    "thorough": Boosting(preset_name="thorough", keep=(0.2, 0.05, 0.025, 0.0125), repeats=2),
    # As Confusion Training's schedule for EMBER would be with trees; there is no published one.
    "paper": Boosting(preset_name="paper", keep=(0.2, 0.05, 0.025, 0.0125), reserve_weight=20.0),
}
"""Preset name -> settings."""
