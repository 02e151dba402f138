"""The separators of one ASSET run: each is trained on a part of the inspected samples and scores those that it was not trained on.

Cross-fitting is ours; the offset loop that trains a separator is the paper's (`offset`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tocsin.detectors.offset import Concentrate, History, OffsetSettings, offset, offset_steps, recalibrate, score
from tocsin.detectors.scout import ScoutSettings, of_batch
from tocsin.detectors.workbench import SCORE_BATCH, Bench
from tocsin.errors import InputError
from tocsin.runtime import Runtime, Ticker
from tocsin.stats.outlyingness import Selection, select


@dataclass(frozen=True)
class Parts:
    """Which rows of the bench do what: 0..n-1 are inspected, the rest is the reserve."""

    groups: np.ndarray
    """(n,) equal for near duplicates, which are never parted."""
    base: Tensor
    """Rows of the reserve that separators are held still on."""
    control: np.ndarray
    """Rows of the reserve that are scored as if they were inspected."""

    @property
    def inspected(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class SeparatorSettings:
    """How the separators of a run are made."""

    network: str
    runs: int
    cross_fit: bool
    recalibrate: int
    """Rows that batch norm's statistics are taken from again before scoring; 0: they stay as training left them."""
    offset: OffsetSettings


def halves(parts: Parts, folds: int, seed: int, run: int) -> np.ndarray:
    """(n + control,) which separator of a run is trained on each inspected sample, near duplicates together, and, from n on, in which fold
    each control sample takes its place."""
    rng = np.random.default_rng([seed, 0xA5, run])
    return np.concatenate([rng.integers(0, folds, parts.inspected)[parts.groups], rng.permutation(len(parts.control)) % folds])


def levelled(values: np.ndarray, fold: np.ndarray, n: int) -> np.ndarray:
    """(n + m,) logarithms of the scores ``values``, less the median of the control rows (from ``n`` on) that the same separator scored,
    over their spread above it: what two separators say is then comparable. ``fold``: see `halves`."""
    logs, out = np.log(np.maximum(values, 1e-12)), np.zeros(len(values))
    for f in np.unique(fold):
        mine = fold == f
        clean = logs[n:][mine[n:]]
        centre = np.median(clean)
        scale = np.sqrt(2 * np.mean(np.square(np.maximum(clean - centre, 0))))
        out[mine] = (logs[mine] - centre) / max(float(scale), 1e-6)
    return out


def separate(
    bench: Bench, parts: Parts, concentrate: Concentrate, how: SeparatorSettings, run: int, runtime: Runtime
) -> tuple[np.ndarray, list[History]]:
    """(scores (n + control,) of the inspected, then of the control rows; what each separator's loop did). Raises `InputError`."""
    n, folds = parts.inspected, 2 if how.cross_fit else 1
    fold = halves(parts, folds, runtime.seed, run)
    everyone = torch.from_numpy(np.concatenate([np.arange(n), parts.control]))
    scorer = (fold + 1) % folds  # with one fold: the separator that was trained on the sample
    steps = sum(offset_steps(int((fold[:n] == f).sum()), how.offset) + -(-int((scorer == f).sum()) // SCORE_BATCH) for f in range(folds))
    ticker = Ticker(runtime, f"ASSET: run {run + 1} of {how.runs}", steps)
    scores, histories = np.zeros(len(everyone), np.float32), []
    for f in range(folds):
        rows = torch.from_numpy(np.flatnonzero(fold[:n] == f))
        if len(rows) < 2:
            raise InputError(f"training set: got {n} samples, ASSET needs more")
        seed = int(np.random.SeedSequence([runtime.seed, 0xA5, run, f]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        network = bench.network(how.network, 1.0, seed)
        histories.append(offset(network, bench, rows, parts.base, concentrate, how.offset, generator, ticker))
        if how.recalibrate:
            recalibrate(network, bench, rows[torch.randperm(len(rows), generator=generator)[: how.recalibrate]])
        mine = np.flatnonzero(scorer == f)
        scores[mine] = score(network, bench, everyone[mine], how.offset.labelled, ticker)
    return scores, histories


def looked_up(chosen: np.ndarray) -> Concentrate:
    """What a scout of the whole set has ``chosen`` (n,) bool beforehand."""
    mask = torch.from_numpy(chosen)
    return lambda ours, theirs, generator: mask[ours]


def by_batch(read: np.ndarray, how: ScoutSettings, rule: Selection, share: float, device: torch.device) -> Concentrate:
    """The published concentration: each batch has a scout of its own, which reads the features ``read`` (n + m, F)."""
    table = torch.from_numpy(read).to(device)

    def concentrate(ours: Tensor, theirs: Tensor, generator: torch.Generator) -> Tensor:
        logits = of_batch(table[ours.to(device)], table[theirs.to(device)], how, generator)
        values = 1 / (1 + np.exp(-logits)) if rule == "ao" else logits  # the published rule reads the sigmoid
        return torch.from_numpy(select(values, rule, share=share))

    return concentrate
