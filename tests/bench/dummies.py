"""Cheap detectors for the benchmark's tests, and entries for worker processes, which know nothing of the test's own registry."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.bench import cell, shared
from tocsin.bench.grid import read_grid
from tocsin.data.dataset import Dataset
from tocsin.detectors import DETECTORS
from tocsin.detectors.base import Detector, Findings
from tocsin.detectors.reader import VictimReader
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.runtime import Runtime

LOG = "TOCSIN_BENCH_TEST_LOG"
"""Names a file in which every training and every inspection leaves a line, from whatever process."""
NAP = "TOCSIN_BENCH_TEST_NAP"
"""Seconds that an inspection takes in place of what the grid says."""


def note(text: str) -> None:
    if LOG in os.environ:
        with open(os.environ[LOG], "a") as file:
            file.write(f"{text}\n")


@dataclass(frozen=True)
class Corner(Detector):
    """Flags what is white in the bottom right corner, as BadNet's patch is; digits that reach there are dimmer."""

    name = "corner"
    kinds = frozenset({"image"})

    threshold: float = 254.0
    oracle: float | None = None
    number: int = 0
    nap: float = 0.0
    fails: str = ""

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Corner:
        if name not in ("fast", "paper"):
            raise InputError(f"preset: got {name!r}, corner has fast, paper")
        return cls(**changes)

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        note(f"inspect {self.number} {runtime.seed} {os.getpid()}")
        time.sleep(float(os.environ.get(NAP, self.nap)))
        if self.fails == "input":
            raise InputError("train: got what it did not like")
        if self.fails == "bug":
            raise ZeroDivisionError("a bug")
        scores = train.inputs[:, -2:, -2:].reshape(len(train), -1).max(axis=1).astype(np.float32)
        flagged = scores > self.threshold
        note(f"done {self.number} {runtime.seed} {os.getpid()}")
        return Findings(self.name, "fast", scores, flagged, (), 0.9, oracle=self.oracle is not None, evidence={"told": self.oracle})


@dataclass(frozen=True)
class Centre(VictimReader):
    """Scores the distance of a sample's features from the mean of its class; flags the far ones."""

    name = "centre"
    kinds = frozenset({"image"})

    factor: float = 3.0

    def judge(self, victim: Victim) -> Findings:
        note(f"judge {victim.runtime.seed}")
        means = np.stack([victim.features[victim.train.labels == k].mean(axis=0) for k in range(len(victim.train.classes))])
        scores = np.linalg.norm(victim.features - means[victim.train.labels], axis=1)
        flagged = scores > self.factor * np.median(scores)
        return Findings(self.name, "fast", scores.astype(np.float32), flagged, (), 0.5)


DUMMIES: dict[str, type[Detector]] = {"corner": Corner, "centre": Centre}


def register() -> None:
    """In a process of its own; a test's process uses the fixture, which takes them away again."""
    DETECTORS.update({name: cls for name, cls in DUMMIES.items() if name not in DETECTORS})


def work(task: cell.Task) -> dict[str, Any] | None:
    """`perform` for worker processes: knows the dummies, and notes each training."""
    register()
    if not hasattr(shared.fit, "noted"):
        shared.fit = noted(shared.fit)
    return cell.perform(task)


def noted(fit: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        note(f"fit {os.getpid()}")
        return fit(*args, **kwargs)

    call.noted = True  # type: ignore[attr-defined]
    return call


def main() -> None:
    """``python -m tests.bench.dummies GRID OUT``: a run to kill."""
    import tocsin.bench.running as running

    register()
    running.perform = work
    running.run(read_grid(Path(sys.argv[1])), Path(sys.argv[2]), device="cpu")


if __name__ == "__main__":
    main()
