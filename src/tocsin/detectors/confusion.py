"""One round of Confusion Training: learn the inspected samples, then have the reserve's wrong labels wipe out what is semantic.

The paper's section 4 (specification 2.3). Everything here is about one network; `ct.py` strings rounds together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.data.dataset import Dataset
from tocsin.kinds import Kind, kind_of
from tocsin.learning import autocast, deterministic, fast_type, gatherer
from tocsin.networks import build_network
from tocsin.networks.shortcut import ShortcutNet
from tocsin.stats.whitening import whiten

NormMode = Literal["joint", "split", "both"]
_SEEDING = threading.Lock()  # layers draw from torch's one global generator, and members are built in threads
_SCORE_BATCH = 256  # small enough that a layer's activations stay in a CPU's second-level cache


@dataclass(frozen=True)
class RoundSettings:
    """What one round does, in steps of the optimiser."""

    pretrain_steps: int
    pretrain_lr: float
    pretrain_batch: int
    pretrain_momentum: float
    decay: bool
    """Pretraining rate falls linearly to a tenth after a short warm-up; else it is constant."""
    mixed: bool
    """Pretraining also sees the reserve, labelled one class on (the paper's last round)."""
    confusion_steps: int
    confusion_lr: float
    confusion_batch: int
    confusion_momentum: float
    reserve_weight: float
    """lambda: the reserve's part of the loss weighs (lambda - 1) / lambda."""
    mix_every: int
    """The inspected part joins every q-th confusion step."""
    class_weights: bool
    """Weigh inspected samples by 1 / sqrt(class frequency + 0.001)."""
    norm: NormMode
    """joint: one forward of both parts; split: two, running statistics from the reserve alone; both: two, from either."""
    weight_decay: float

    @classmethod
    def pretraining(cls, steps: int, lr: float, batch: int) -> RoundSettings:
        """Of `pretrain` alone, on the inspected samples, as Confusion Training's fast preset does it."""
        return cls(steps, lr, batch, 0.9, True, False, 0, 0.0, 1, 0.0, 1.0, 1, False, "joint", 5e-4)


@dataclass(frozen=True)
class Bench:
    """All samples of one audit where networks can reach them: rows 0..n-1 inspected, the rest reserve.

    ``labels`` (n + m,) on the device. ``feed(rows)`` gives the network's inputs for row numbers (B,) on the CPU.
    """

    inputs: np.ndarray
    labels: Tensor
    classes: int
    kind: Kind
    device: torch.device
    whitened: Tensor | None
    tensors: Callable[[Tensor], Tensor] = field(repr=False)
    """Row numbers (B,) on the CPU to what networks read, (B, C, H, W) on the device."""

    @classmethod
    def of(cls, inputs: np.ndarray, labels: np.ndarray, train: Dataset, device: torch.device, *, branch: bool) -> Bench:
        """``inputs`` and ``labels`` hold the inspected samples, then the reserve. ``branch``: the network wants whitened pixels."""
        dtype = fast_type(device) or torch.float32
        kind = kind_of(train)
        whitened = whiten(inputs, device, dtype, kind.maps) if branch else None
        answers = torch.from_numpy(np.asarray(labels, np.int64)).to(device)
        gather = gatherer(inputs, device)
        if kind.costly:
            kept = torch.cat([kind.to_tensor(gather(rows)) for rows in torch.split(torch.arange(len(inputs)), _SCORE_BATCH)])
            return cls(inputs, answers, len(train.classes), kind, device, whitened, lambda rows: kept[rows.to(device)])
        return cls(inputs, answers, len(train.classes), kind, device, whitened, lambda rows: kind.to_tensor(gather(rows)))

    def feed(self, rows: Tensor) -> tuple[Tensor, ...]:
        pixels = self.tensors(rows)
        return (pixels,) if self.whitened is None else (pixels, self.whitened[rows.to(self.device)])

    def network(self, name: str, width: float, seed: int) -> nn.Module:
        """A fresh network whose first weights depend on ``seed`` alone."""
        channels = self.kind.channels
        with _SEEDING:
            if self.whitened is None:
                return build_network(name, channels, self.classes, seed).to(self.device)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = ShortcutNet(channels, self.whitened.shape[1], self.classes, width)
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def batches(rows: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled mini-batches of row numbers for ever; ``size`` is cut to what there is."""
    size = min(size, len(rows))
    while True:
        order = rows[torch.randperm(len(rows), generator=generator)]
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def shift(step: int, classes: int) -> int:
    """The wrong label of confusion step ``step``: this many classes on; runs through 1..C-1, never 0 (specification 2.3)."""
    return 1 + step % (classes - 1)


def pretrain(
    network: nn.Module,
    bench: Bench,
    rows: Tensor,
    reserve: Tensor,
    how: RoundSettings,
    generator: torch.Generator,
    tick: Callable[[], None],
) -> None:
    """Stage B1: let the network absorb the shortcut from the inspected ``rows``. Changes ``network``."""
    reserve_rows = set(reserve.tolist()) if how.mixed else set()
    source = torch.cat([rows, reserve]) if how.mixed else rows
    optimizer = _optimizer(network, how.pretrain_lr, how.pretrain_momentum, how.weight_decay, how.decay)
    stream = batches(source, how.pretrain_batch, generator)
    is_reserve = torch.zeros(len(bench.labels), dtype=torch.bool)
    is_reserve[sorted(reserve_rows)] = True
    network.train()
    for step in range(how.pretrain_steps):
        picked = next(stream)
        answers = bench.labels[picked.to(bench.device)]
        if how.mixed:
            answers = torch.where(is_reserve[picked].to(bench.device), (answers + 1) % bench.classes, answers)
        if how.decay:
            warm, left = (step + 1) / 20, 1 - step / how.pretrain_steps
            optimizer.param_groups[0]["lr"] = how.pretrain_lr * min(1.0, warm) * max(0.1, left)
        with autocast(bench.device):
            loss = F.cross_entropy(network(*bench.feed(picked)).float(), answers)
        _step(optimizer, loss)
        tick()


def confuse(
    network: nn.Module,
    bench: Bench,
    rows: Tensor,
    reserve: Tensor,
    pseudo: Tensor,
    how: RoundSettings,
    generator: torch.Generator,
    tick: Callable[[], None],
) -> None:
    """Stage B2. ``pseudo`` (len(labels),) holds for reserve rows the label that the wrong ones are counted from. Changes ``network``."""
    optimizer = _optimizer(network, how.confusion_lr, how.confusion_momentum, how.weight_decay, how.decay)
    counts = torch.bincount(bench.labels[rows.to(bench.device)], minlength=bench.classes).float()
    omega = 1 / torch.sqrt(counts / len(rows) + 1e-3) if how.class_weights else torch.ones_like(counts)
    inspected, reserved = batches(rows, how.confusion_batch, generator), batches(reserve, how.confusion_batch, generator)
    weight = how.reserve_weight
    network.train()
    for step in range(how.confusion_steps):
        theirs = next(reserved)
        wrong = (pseudo[theirs.to(bench.device)] + shift(step, bench.classes)) % bench.classes
        with autocast(bench.device):
            if step % how.mix_every:
                loss = F.cross_entropy(network(*bench.feed(theirs)).float(), wrong)
            else:
                ours = next(inspected)
                answers = bench.labels[ours.to(bench.device)]
                out_theirs, out_ours = _both(network, bench, theirs, ours, how.norm)
                importance = omega[answers]
                fit = (importance * F.cross_entropy(out_ours.float(), answers, reduction="none")).sum() / importance.sum()
                loss = ((weight - 1) * F.cross_entropy(out_theirs.float(), wrong) + fit) / weight
        _step(optimizer, loss)
        tick()


def score(network: nn.Module, bench: Bench, tick: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
    """Stage B3, over all rows in eval mode without augmentation.

    Gives (margin, loss), float32 (n + m,): logit of the given label less the best other one, and the cross entropy.
    """
    network.eval()
    total = len(bench.labels)
    margin, losses = torch.empty(total), torch.empty(total)
    with torch.inference_mode(), autocast(bench.device), deterministic(bench.device):
        for start in range(0, total, _SCORE_BATCH):
            rows = torch.arange(start, min(total, start + _SCORE_BATCH))
            logits, own = network(*bench.feed(rows)).float(), bench.labels[rows.to(bench.device)][:, None]
            others = logits.scatter(1, own, -torch.inf).amax(1)
            margin[start : start + len(rows)] = (logits.gather(1, own)[:, 0] - others).cpu()
            losses[start : start + len(rows)] = F.cross_entropy(logits, own[:, 0], reduction="none").cpu()
            tick()
    return margin.numpy(), losses.numpy()


def penultimate(network: nn.Module, bench: Bench, count: int) -> np.ndarray:
    """Features (count, F) float32 of the first ``count`` rows, for the published class test."""
    network.eval()
    parts = []
    with torch.inference_mode(), autocast(bench.device), deterministic(bench.device):
        for start in range(0, count, _SCORE_BATCH):
            rows = torch.arange(start, min(count, start + _SCORE_BATCH))
            parts.append(network.features(*bench.feed(rows)).float().cpu())  # type: ignore[operator]
    return torch.cat(parts).numpy()


def _both(network: nn.Module, bench: Bench, theirs: Tensor, ours: Tensor, norm: NormMode) -> tuple[Tensor, Tensor]:
    """Logits of the reserve's and of the inspected part, with batch norm as ``norm`` says (specification 2.8, pitfall 1)."""
    if norm == "joint":
        out = network(*bench.feed(torch.cat([theirs, ours])))
        return out[: len(theirs)], out[len(theirs) :]
    out_theirs = network(*bench.feed(theirs))
    if norm == "both":
        return out_theirs, network(*bench.feed(ours))
    with _frozen_statistics(network):
        return out_theirs, network(*bench.feed(ours))


@contextmanager
def _frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm still normalises by its batch, but the running statistics do not move."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, before, strict=True):
            m.momentum = momentum


def _optimizer(network: nn.Module, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def _step(optimizer: torch.optim.SGD, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
