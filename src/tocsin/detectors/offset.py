"""The offset loop of ASSET: one network, pushed to say nothing about base samples and to be wrong about concentrated poison.

Specification 2.2, 2.3. For clean inspected samples the two pushes act on one distribution and cancel; nothing cancels the push on poison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.detectors.workbench import SCORE_BATCH, Bench, batches, sweep
from tocsin.learning import autocast, batch_norms, descend, deterministic

Concentrate = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Row numbers of a batch (b,) and of the base batch (b',) to bool (b,): what looks poisoned."""


@dataclass(frozen=True)
class OffsetSettings:
    """How the separator is trained."""

    passes: float
    """Over the inspected samples."""
    least_steps: int
    batch: int
    lr: float
    labelled: bool
    """Ascend on the cross entropy of the given labels; else, where there are none, on the spread of the logits."""
    whole_batch: bool
    """Batch norm of the max step sees the whole batch; else the concentrated part alone, which then is normalised by itself."""
    least: int
    """The max step is left out where fewer samples are concentrated."""
    ceiling: float
    """... and where their mean loss is above this already: ascent has no end of its own."""


@dataclass
class History:
    """What the loop did."""

    steps: int = 0
    skipped: int = 0
    """Max steps left out for want of concentrated samples."""
    concentrated: int = 0
    """Samples in all max steps."""
    spread: float | None = None
    """Mean spread of the base set's logits in the last quarter of the steps."""
    ascended: float | None = None
    """Mean loss of the concentrated samples in the last max step; None if there was none."""


def spread(logits: Tensor) -> Tensor:
    """(B,) variance of each sample's logits (B, K), over K: 0 where the network says nothing."""
    return logits.var(dim=1, unbiased=False)


def offset(
    network: nn.Module,
    bench: Bench,
    rows: Tensor,
    base: Tensor,
    concentrate: Concentrate,
    how: OffsetSettings,
    generator: torch.Generator,
    tick: Callable[[], None],
) -> History:
    """Trains ``network`` on the inspected ``rows`` and the ``base`` rows of the bench, in place."""
    holds, drives = (torch.optim.Adam(network.parameters(), how.lr) for _ in range(2))  # two sets of moments, as in the official code
    inspected, bases = batches(rows, how.batch, generator), batches(base, how.batch, generator)
    steps = offset_steps(len(rows), how)
    history, late = History(steps=steps), []
    network.train()
    for step in range(steps):
        theirs, ours = next(bases), next(inspected)
        with autocast(bench.device):
            loss = spread(network(*bench.feed(theirs)).float()).mean()
        descend(holds, loss)
        if step >= 0.75 * steps:
            late.append(float(loss.detach()))
        chosen = concentrate(ours, theirs, generator)
        if int(chosen.sum()) < how.least:
            history.skipped += 1
        else:
            picked = ours[chosen]
            with autocast(bench.device):
                logits = network(*bench.feed(ours))[chosen.to(bench.device)] if how.whole_batch else network(*bench.feed(picked))
                wrong = (F.cross_entropy(logits.float(), bench.labels[picked.to(bench.device)]) if how.labelled
                         else spread(logits.float()).mean())  # fmt: skip
            history.ascended = float(wrong.detach())
            history.concentrated += len(picked)
            if history.ascended <= how.ceiling:
                descend(drives, -wrong)
        tick()
    history.spread = float(np.mean(late)) if late else None
    return history


def offset_steps(rows: int, how: OffsetSettings) -> int:
    """Steps that `offset` takes for so many inspected rows."""
    return max(how.least_steps, round(how.passes * rows / min(how.batch, max(1, rows))))


def recalibrate(network: nn.Module, bench: Bench, rows: Tensor) -> None:
    """Batch norm's running statistics anew, from ``rows`` alone: those of the loop are a mix of base and poison-heavy batches."""
    norms = batch_norms(network)
    before = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain average
    network.train()
    with torch.no_grad(), autocast(bench.device), deterministic(bench.device):
        for part in torch.split(rows, SCORE_BATCH):
            if len(part) > 1:
                network(*bench.feed(part))
    for m, momentum in zip(norms, before, strict=True):
        m.momentum = momentum


def score(network: nn.Module, bench: Bench, rows: Tensor, labelled: bool, tick: Callable[[], None]) -> np.ndarray:
    """(B,) float32 of ``rows``: cross entropy of the given labels, or the spread of the logits, in one mixed pass in eval mode."""

    def read(inputs: tuple[Tensor, ...], answers: Tensor) -> Tensor:
        logits = network(*inputs).float()
        return F.cross_entropy(logits, answers, reduction="none") if labelled else spread(logits)

    return sweep(read, network, bench, rows, tick)
