"""One round of Confusion Training: learn the inspected samples, then have the reserve's wrong labels wipe out what is semantic.

The paper's section 4 (specification 2.3). Everything here is about one network; `ct.py` strings rounds together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.detectors.workbench import Bench, batches, sweep
from tocsin.learning import autocast, batch_norms, descend
from tocsin.networks.base import Classifier

NormMode = Literal["joint", "split", "both"]
WrongLabels = Literal["shift", "any"]
Layers = Literal["all", "first"]


@dataclass(frozen=True)
class PretrainSettings:
    """How a network absorbs shortcuts (stage B1)."""

    steps: int
    lr: float
    batch: int
    momentum: float = 0.9
    decay: bool = True
    """The rate falls linearly to a tenth after a short warm-up; else it is constant."""
    mixed: bool = False
    """The reserve is seen too, labelled one class on (the paper's last round)."""
    nesterov: bool = True
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class ConfuseSettings:
    """How wrong labels then wipe out what is semantic (stage B2)."""

    steps: int
    lr: float
    batch: int
    momentum: float
    nesterov: bool
    reserve_weight: float
    """lambda: the reserve's part of the loss weighs (lambda - 1) / lambda."""
    mix_every: int
    """The inspected part joins every q-th step."""
    class_weights: bool
    """Weigh inspected samples by 1 / sqrt(class frequency + 0.001)."""
    wrong_labels: WrongLabels
    """shift: one class on, two, ... as published; any: each drawn from all classes, the right one too."""
    layers: Layers
    """all, as published; first: only the weights that read the inputs are trained."""
    norm: NormMode
    """joint: one forward of both parts; split: two, running statistics from the reserve alone; both: two, from either."""
    weight_decay: float


def shift(step: int, classes: int) -> int:
    """The wrong label of confusion step ``step``: this many classes on; runs through 1..C-1, never 0 (specification 2.3)."""
    return 1 + step % (classes - 1)


def wrong_labels(right: Tensor, step: int, classes: int, how: WrongLabels, generator: torch.Generator) -> Tensor:
    """Those of confusion step ``step``, (B,) int64 as ``right``.

    Of two classes the published ones are always the opposite, which a network satisfies at once by turning its last layer round, the
    trigger's effect included: planted rows then come *last*. Drawn from all classes they say nothing at all.
    """
    if how == "any":
        return torch.randint(classes, right.shape, generator=generator).to(right.device)
    return (right + shift(step, classes)) % classes


def pretrain(
    network: nn.Module,
    bench: Bench,
    rows: Tensor,
    reserve: Tensor,
    how: PretrainSettings,
    generator: torch.Generator,
    tick: Callable[[], None],
) -> None:
    """Stage B1: let the network absorb the shortcut from the inspected ``rows``. Changes ``network``."""
    reserve_rows = set(reserve.tolist()) if how.mixed else set()
    source = torch.cat([rows, reserve]) if how.mixed else rows
    optimizer = _optimizer(list(network.parameters()), how)
    stream = batches(source, how.batch, generator)
    is_reserve = torch.zeros(len(bench.labels), dtype=torch.bool)
    is_reserve[sorted(reserve_rows)] = True
    network.train()
    for step in range(how.steps):
        picked = next(stream)
        answers = bench.labels[picked.to(bench.device)]
        if how.mixed:
            answers = torch.where(is_reserve[picked].to(bench.device), (answers + 1) % bench.classes, answers)
        if how.decay:
            warm, left = (step + 1) / 20, 1 - step / how.steps
            optimizer.param_groups[0]["lr"] = how.lr * min(1.0, warm) * max(0.1, left)
        with autocast(bench.device):
            loss = F.cross_entropy(network(*bench.feed(picked, generator)).float(), answers)
        descend(optimizer, loss)
        tick()


def confuse(
    network: nn.Module,
    bench: Bench,
    rows: Tensor,
    reserve: Tensor,
    pseudo: Tensor,
    how: ConfuseSettings,
    generator: torch.Generator,
    tick: Callable[[], None],
) -> None:
    """Stage B2. ``pseudo`` (len(labels),) holds for reserve rows the label that the wrong ones are counted from. Changes ``network``."""
    trained = forgetting(network, how.layers)
    network.requires_grad_(False)  # else gradients nobody reads are computed, and add up
    for one in trained:
        one.requires_grad_(True)
    optimizer = _optimizer(trained, how)
    counts = torch.bincount(bench.labels[rows.to(bench.device)], minlength=bench.classes).float()
    omega = 1 / torch.sqrt(counts / len(rows) + 1e-3) if how.class_weights else torch.ones_like(counts)
    inspected, reserved = batches(rows, how.batch, generator), batches(reserve, how.batch, generator)
    weight = how.reserve_weight
    network.train()
    for step in range(how.steps):
        theirs = next(reserved)
        wrong = wrong_labels(pseudo[theirs.to(bench.device)], step, bench.classes, how.wrong_labels, generator)
        with autocast(bench.device):
            if step % how.mix_every:
                loss = F.cross_entropy(network(*bench.feed(theirs, generator)).float(), wrong)
            else:
                ours = next(inspected)
                answers = bench.labels[ours.to(bench.device)]
                out_theirs, out_ours = _both(network, bench, theirs, ours, how.norm, generator)
                importance = omega[answers]
                fit = (importance * F.cross_entropy(out_ours.float(), answers, reduction="none")).sum() / importance.sum()
                loss = ((weight - 1) * F.cross_entropy(out_theirs.float(), wrong) + fit) / weight
        descend(optimizer, loss)
        tick()


def score(network: nn.Module, bench: Bench, rows: Tensor, tick: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
    """Stage B3, over ``rows`` (B,) in eval mode without augmentation.

    Gives (margin, loss), float32 (B,): logit of the given label less the best other one, and the cross entropy.
    """

    def read(inputs: tuple[Tensor, ...], answers: Tensor) -> Tensor:
        logits, own = network(*inputs).float(), answers[:, None]
        margin = logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)
        return torch.stack([margin, F.cross_entropy(logits, answers, reduction="none")], dim=1)

    both = sweep(read, network, bench, rows, tick)
    return both[:, 0].copy(), both[:, 1].copy()


def penultimate(network: nn.Module, bench: Bench, count: int) -> np.ndarray:
    """Features (count, F) float32 of the first ``count`` rows."""
    return sweep(lambda inputs, _: network.features(*inputs), network, bench, torch.arange(count), lambda: None)  # type: ignore[operator]


def _both(
    network: nn.Module, bench: Bench, theirs: Tensor, ours: Tensor, norm: NormMode, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Logits of the reserve's and of the inspected part, with batch norm as ``norm`` says (specification 2.8, pitfall 1)."""
    if norm == "joint":
        out = network(*bench.feed(torch.cat([theirs, ours]), generator))
        return out[: len(theirs)], out[len(theirs) :]
    out_theirs = network(*bench.feed(theirs, generator))
    if norm == "both":
        return out_theirs, network(*bench.feed(ours, generator))
    with _frozen_statistics(network):
        return out_theirs, network(*bench.feed(ours, generator))


@contextmanager
def _frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm still normalises by its batch, but the running statistics do not move."""
    norms = batch_norms(network)
    before = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, before, strict=True):
            m.momentum = momentum


def forgetting(network: nn.Module, layers: Layers) -> list[nn.Parameter]:
    """What confusion trains. The first layer's weights are those of single inputs: what the reserve does not show keeps its own, while
    in later layers a trigger shares weights with all else, and is shrunk or turned round with it."""
    if layers == "all":
        return list(network.parameters())
    assert isinstance(network, Classifier)  # `Distillation` refuses the shortcut network of pictures and sounds
    return [weight for weight in network.stages()[0].parameters() if weight.ndim > 1]


def _optimizer(weights: list[nn.Parameter], how: PretrainSettings | ConfuseSettings) -> torch.optim.SGD:
    return torch.optim.SGD(weights, how.lr, momentum=how.momentum, weight_decay=how.weight_decay, nesterov=how.nesterov)
