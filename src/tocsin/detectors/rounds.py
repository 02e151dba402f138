"""What is left of each round of Confusion Training: how margins add up, which rows the next one gets, and what survives a killed run."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tocsin.data.npz import write_arrays
from tocsin.errors import AuditIncomplete


def place(values: np.ndarray) -> np.ndarray:
    """(n,) place of each value, 0 the lowest."""
    out = np.empty(len(values), np.int64)
    out[np.argsort(values, kind="stable")] = np.arange(len(values))
    return out


def combine(margins: list[np.ndarray], n: int, ignore: np.ndarray, first: float = 0.5) -> np.ndarray:
    """(n + m,) float32: mean over rounds of each round's margin in units of its deviation over the inspected rows.

    The first round, trained on everything with the least density of poison, counts ``first``, by default half, once there are others.
    """
    weight = np.ones(len(margins))
    weight[0] = first if len(margins) > 1 else 1.0
    scaled = [w * m / max(float(m[:n][~ignore].std()), 1e-6) for w, m in zip(weight, margins, strict=True)]
    return np.asarray(sum(scaled) / weight.sum(), np.float32)


LEAST_KEPT = 16
"""Rows that every round has, however few there are in all: of four, one fold may well get none."""


def distil(order: np.ndarray, labels: np.ndarray, classes: int, share: float, floor: int) -> np.ndarray:
    """Sorted rows for the next round: the first ``share`` of all in ``order`` (n,), topped up so that every class keeps n_c // floor."""
    kept = np.zeros(len(order), bool)
    kept[order[: int(share * len(order))]] = True
    for k in range(classes):
        members = order[labels[order] == k]
        lacking = len(members) // floor - int(kept[members].sum())
        if lacking > 0:
            kept[members[~kept[members]][:lacking]] = True
    if kept.sum() < LEAST_KEPT:
        kept[order[:LEAST_KEPT]] = True
    return np.flatnonzero(kept)


def median_band(loss: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(n,) bool: positions n_c / 2 +- 5 % of each class in order of loss."""
    band = np.zeros(len(loss), bool)
    for k in range(classes):
        members = np.flatnonzero(labels == k)
        members = members[np.argsort(loss[members], kind="stable")]
        half = len(members) // 2
        reach = max(1, int(0.05 * len(members)))
        band[members[max(0, half - reach) : half + reach]] = True
    return band


class Store:
    """Finished rounds on disk, each file written whole or not at all."""

    def __init__(self, folder: Path | None, key: Callable[[], str]) -> None:
        self.folder = None if folder is None else folder / key()  # the key takes a pass over the data

    def read(self, r: int) -> tuple[np.ndarray, np.ndarray] | None:
        if self.folder is None:
            return None
        try:
            with np.load(self.folder / f"round-{r}.npz", allow_pickle=False) as data:
                return data["margin"], data["loss"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # missing or damaged: the round is done again

    def write(self, r: int, margin: np.ndarray, loss: np.ndarray) -> None:
        if self.folder is None:
            return
        try:
            write_arrays(self.folder / f"round-{r}.npz", {"margin": margin, "loss": loss})
        except OSError as why:
            raise AuditIncomplete(f"round {r + 1} could not be saved in {self.folder}: {why.strerror or why}") from why
