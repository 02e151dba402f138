"""DBD: Huang, Li, Wu, Qin, Ren, "Backdoor Defense via Decoupling the Training Process", ICLR 2022.

A trigger is learned by way of its label. So the network is trained anew, and its encoder without labels (SimCLR); a linear head on the
still encoder tells which labels are credible; with those alone, and the rest of the samples without labels, the whole is tuned (MixMatch:
Berthelot, Carlini, Goodfellow, Papernot, Oliver, Raffel, NeurIPS 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.contrastive import ContrastiveSettings, pretrain
from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense, anew
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import autocast, descend, deterministic, features, gatherer, one_cycle, predict, seeded, tensor_for
from tocsin.networks import Classifier
from tocsin.runtime import Runtime

_FLOOR = 1e-4
"""What the reversed cross entropy takes for a probability of 0, of which there is no logarithm."""
Within = Literal["all", "class"]
"""Among which samples the lowest losses are sought."""


@dataclass(frozen=True)
class DBD(Defense):
    """Trains anew: an encoder without labels, a head that shows which labels are credible, and the whole with those labels alone."""

    name: ClassVar[str] = "dbd"
    # Of tables' rows no changes are known that leave their meaning as it is, and without views there is no contrast.
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})
    trusts: ClassVar[frozenset[str]] = frozenset({"train"})

    contrast_epochs: int = 20
    """Passes over the samples without labels (published: 1000; the authors' example goes on from the 100th)."""
    contrast_batch: int = 256
    """Samples a step of these, each in two views (published: 512)."""
    contrast_lr: float = 0.3
    """Highest learning rate of these, of SGD (published: 0.4)."""
    temperature: float = 0.5
    """Cosines of views are divided by it before the softmax."""
    head_epochs: int = 10
    """Passes over the features in which the head learns."""
    lr: float = 2e-3
    """Of Adam: the head's learning rate, and the highest one of tuning (published: the rate throughout)."""
    batch: int = 64
    """Samples a step of the head; in tuning so many with labels, and as many without."""
    ce: float = 0.1
    """Weight of the cross entropy in the head's loss."""
    rce: float = 1.0
    """Weight of the reversed cross entropy, with label and answer in each other's place; a label that is hard to learn pulls less by it."""
    credible: float = 0.5
    """Share of the samples that keep their labels in a round of tuning: those of the lowest loss."""
    within: Within = "class"
    """class (ours): that share of every class; all (published): of all samples together, by which a class that is hard to learn may lose
    all of its labels, and then its name, where tuning is short."""
    rounds: int = 3
    """Times that the credible labels are chosen, each time followed by ``epochs`` (published: 190)."""
    epochs: int = 6
    """Passes of tuning over the credible samples in each round (published: 1024 steps)."""
    sharpening: float = 0.5
    """Temperature of guessed labels: guesses are raised to 1 over this and brought to sum 1 again."""
    mixing: float = 0.75
    """Both parameters of the Beta distribution from which it is drawn how far samples are mixed."""
    unlabelled: float = 15.0
    """Weight at the end of the squared error on samples without labels; it grows from 0 in proportion to the steps done."""

    def __post_init__(self) -> None:
        self.contrast  # noqa: B018 (refuses what cannot be)
        if min(self.head_epochs, self.rounds, self.epochs) < 1 or self.batch < 2:
            raise InputError(
                f"head_epochs {self.head_epochs}, rounds {self.rounds}, epochs {self.epochs}, batch {self.batch}: "
                "allowed are epochs and rounds from 1, and a batch from 2"
            )
        if self.within not in get_args(Within):
            raise InputError(f"within: got {self.within!r}, allowed: {', '.join(get_args(Within))}")
        if not 0 < self.credible < 1:
            raise InputError(f"credible: got {self.credible}, allowed is a share between 0 and 1")
        above = {"lr": self.lr, "sharpening": self.sharpening, "mixing": self.mixing, "ce + rce": self.ce + self.rce}
        weights = {"ce": self.ce, "rce": self.rce, "unlabelled": self.unlabelled}
        wrong = [f"{name} {value}" for name, value in above.items() if not 0 < value < math.inf]
        wrong += [f"{name} {value}" for name, value in weights.items() if not 0 <= value < math.inf]
        if wrong:
            raise InputError(f"{', '.join(wrong)}: allowed are weights from 0, ce and rce not both 0, and the others above 0")

    @property
    def contrast(self) -> ContrastiveSettings:
        """How the encoder is trained."""
        return ContrastiveSettings(self.contrast_epochs, self.contrast_batch, self.temperature, self.contrast_lr)

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        """A network of the same form that has learned from ``train`` alone; of ``network`` it knows nothing else.

        Raises `InputError` also for networks that read waveforms, of which there are no views, and where there is nothing to choose.
        """
        reads = self.check(train, reserve, kind)
        if network.reads == "waves":
            raise InputError("defense dbd: views of sounds are maps, and this network reads waveforms; choose another")
        chosen = self.chosen(np.zeros(len(train)), train.labels)  # as many as it will be, whatever the losses
        if chosen.all() or not chosen.any() or len(train.classes) < 2:
            raise InputError(
                f"defense dbd: {len(train)} samples of {len(train.classes)} classes, of which a share of {self.credible} keeps its labels: "
                "allowed are two classes or more, and samples on both sides"
            )
        fresh = pretrain(anew(network, runtime.seed), train.inputs, reads, self.contrast, runtime)
        self._teach_head(fresh, train, reads, runtime)
        return self._tune(fresh, train, reads, runtime)

    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        """(B,) float32 symmetric cross entropy of ``logits`` (B, K) and ``answers`` (B,) int64, in nats.

        The reversed one is the sum of the probabilities of all other classes, times minus the logarithm of what is taken for 0.
        """
        direct = F.cross_entropy(logits.float(), answers, reduction="none")
        return self.ce * direct - self.rce * math.log(_FLOOR) * (1 - torch.exp(-direct))

    def _teach_head(self, network: Classifier, train: Dataset, kind: Kind, runtime: Runtime) -> None:
        """The encoder is still, and its running statistics stay: its features are read once, without augmentation."""
        device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
        known = torch.from_numpy(features(network, train.inputs, kind, runtime)).to(device)
        answers = torch.from_numpy(np.array(train.labels, np.int64)).to(device)
        optimizer = torch.optim.Adam(network.head.parameters(), self.lr)
        with deterministic(device):
            for done in range(self.head_epochs):
                for rows in torch.split(torch.randperm(len(train), generator=generator).to(device), self.batch):
                    descend(optimizer, self.losses(network.head(known[rows]), answers[rows]).mean())
                runtime.progress("teaching the head", (done + 1) / self.head_epochs)

    def credibles(self, network: Classifier, train: Dataset, kind: Kind, runtime: Runtime) -> np.ndarray:
        """(N,) bool: the samples of ``train`` whose labels ``network`` believes, those of the lowest loss."""
        logits = predict(network, train.inputs, kind, runtime, stage="reading losses")
        losses = self.losses(torch.from_numpy(logits), torch.from_numpy(np.array(train.labels, np.int64)))
        return self.chosen(losses.numpy(), train.labels)

    def chosen(self, losses: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(N,) bool: where the lowest of the ``losses`` (N,) of samples with the ``labels`` (N,) are."""
        out = np.zeros(len(losses), bool)
        groups = [np.arange(len(losses))] if self.within == "all" else [np.flatnonzero(labels == label) for label in np.unique(labels)]
        for group in groups:
            out[group[lowest(losses[group], self.credible)]] = True
        return out

    def _tune(self, network: Classifier, train: Dataset, kind: Kind, runtime: Runtime) -> Classifier:
        """MixMatch: in place, in eval mode at the end. Which labels are credible is asked before every round."""
        device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
        rng = np.random.default_rng([runtime.seed, 0xDBD])
        gather = gatherer(train.inputs, device)
        targets = F.one_hot(torch.from_numpy(np.array(train.labels, np.int64)), len(train.classes)).float().to(device)
        optimizer = torch.optim.Adam(network.parameters(), self.lr)
        count = int(self.chosen(np.zeros(len(train)), train.labels).sum())
        per_round = self.epochs * max(1, count // self.batch)
        steps = self.rounds * per_round
        with deterministic(device), seeded(device, runtime.seed):
            for step in range(steps):
                if step % per_round == 0:
                    sure = self.credibles(network, train, kind, runtime)
                    sides = [shuffled(side, generator) for side in (sure, ~sure)]
                rows, others = (turn(side, step % per_round, self.batch) for side in sides)
                raw = gather(torch.cat([rows, others, others]))
                x = tensor_for(network, kind, kind.augment(raw, generator))
                guess = self.guessed(network, x[len(rows) :])
                y = torch.cat([targets[rows.to(device)], guess, guess])
                drawn = rng.beta(self.mixing, self.mixing)
                order = torch.randperm(len(x), generator=generator).to(device)
                x, y = (mixed(part, order, max(drawn, 1 - drawn)) for part in (x, y))
                optimizer.param_groups[0]["lr"] = one_cycle(step, steps, self.lr)
                with autocast(device):
                    logits = network.train()(x)
                descend(optimizer, self.apart(logits, y, len(rows), (step + 1) / steps))
                if step % 10 == 9 or step == steps - 1:
                    runtime.progress("tuning with the credible labels", (step + 1) / steps)
        return network.eval()

    def guessed(self, network: Classifier, x: Tensor) -> Tensor:
        """(B, K) float32: what ``network`` makes of B samples of which ``x`` (2 B, C, H, W) has first one copy each and then another.

        Dropout is silent for it, and running statistics are taken from what is learned alone.
        """
        with torch.no_grad(), autocast(x.device):
            one, other = network.eval()(x).float().softmax(1).chunk(2)
        return sharpened((one + other) / 2, self.sharpening)

    def apart(self, logits: Tensor, y: Tensor, named: int, done: float) -> Tensor:
        """The loss of logits (B, K) of mixed samples whose labels are ``y`` (B, K): cross entropy of the first ``named``, squared error of
        the others, whose weight is the share ``done`` of the last one."""
        logits = logits.float()
        told = F.cross_entropy(logits[:named], y[:named])
        return told + self.unlabelled * done * F.mse_loss(logits[named:].softmax(1), y[named:])


def lowest(losses: np.ndarray, share: float) -> np.ndarray:
    """Row numbers of the ``share`` of the ``losses`` (N,) that is lowest, of equal ones the first."""
    return np.argsort(losses, kind="stable")[: round(share * len(losses))]


def sharpened(shares: Tensor, temperature: float) -> Tensor:
    """Probabilities (B, K), raised to 1 / ``temperature`` and brought to sum 1 again."""
    return (shares.clamp(min=1e-12).log() / temperature).softmax(1)


def mixed(values: Tensor, order: Tensor, share: float) -> Tensor:
    """``share`` of each of ``values`` (B, ...), and for the rest the one that ``order`` (B,) puts in its place."""
    return share * values + (1 - share) * values[order]


def shuffled(side: np.ndarray, generator: torch.Generator) -> Tensor:
    """The row numbers at which ``side`` (N,) bool is true, in any order."""
    rows = torch.from_numpy(np.flatnonzero(side))
    return rows[torch.randperm(len(rows), generator=generator)]


def turn(rows: Tensor, step: int, batch: int) -> Tensor:
    """(batch,) of ``rows`` (N,), those whose turn is at ``step``; behind the last comes the first again."""
    return rows[(step * batch + torch.arange(batch)) % len(rows)]
