"""NONE: Wang, Ding, Zhai, Ma, "Training with More Confidence: Mitigating Injected and Natural Backdoors During Training", NeurIPS 2022.

A backdoor lives in channels that are nearly linear for its target: what bears the trigger drives them far beyond all that other classes
do. They are looked for with the suspect data themselves and reset, and the network is trained on without the samples that drive them.
Settings: the specification confusion-training 4.2.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense, anew
from tocsin.defenses.fineprune import silence
from tocsin.defenses.nad import answered
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import EVAL_BATCH, FitSettings, OptimizerName, batch_norms, evaluating, fit, tensor_for
from tocsin.networks import Classifier
from tocsin.runtime import Runtime
from tocsin.stats.two_means import cut


@dataclass(frozen=True)
class Found:
    """What of a network and of its training set looks compromised."""

    gaps: tuple[np.ndarray, ...]
    """By stage looked at, (C,) float64: how far the channel goes beyond what it does on other classes (`gaps`)."""
    silent: tuple[np.ndarray, ...]
    """By stage looked at, (C,) bool: the channels to reset."""
    driven: np.ndarray
    """(N,) float64: by sample, the sum of what the stages' most suspect channels give."""
    dropped: np.ndarray
    """(N,) bool: the samples to leave out."""


@dataclass(frozen=True)
class NoneTraining(Defense):
    """Resets the channels that some samples of a class drive beyond all others, and trains on without those samples."""

    name: ClassVar[str] = "none-training"  # the attack called none is no attack
    # On tables maps have a single place, and were not published.
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})
    # No clean sample is asked for: what it trains on is what the suspect data are without those it drops.
    trusts: ClassVar[frozenset[str]] = frozenset({"train"})

    training_epochs: int = 0
    """Passes over the training set with new weights, before anything is looked for; 0: the network given is the one trained (published:
    200, from new weights)."""
    training_lr: float = 0.1
    """Highest learning rate of these (published: steps down from it)."""
    sure: float = 0.9
    """Probability above which a sample counts as the class's, and below one less which as another's."""
    deviations: float = 3.0
    """Standard deviations above the mean that a channel may reach on the other classes."""
    share: float = 0.3
    """Share of each stage's channels that is reset, rounded up (published: 0.03, of layers three to five times as wide as those of
    ``small``, in which so few leave most of the backdoor where it was)."""
    deep: float = 2 / 3
    """Share of the stages that is looked at, the last ones, rounded up (published: stages 2 to 4 of a ResNet-18, which are that)."""
    kept: float = 0.25
    """Least share of each class, by label, that is trained on: of more, the most driven alone are dropped (published: no such limit, by
    which on clean data a class is lost whose samples all drive the channels)."""
    epochs: int = 10
    """Passes over the samples that are left (published: 40; in the authors' code 20)."""
    lr: float = 0.01
    """Highest learning rate of these (in the authors' code 1e-4)."""
    batch: int = 128
    """Samples a step."""
    weight_decay: float = 1e-4
    """Of the optimiser, in both trainings."""
    optimizer: OptimizerName = "sgd"
    """sgd or adamw; attention and recurrent layers need the second, and a rate of 1e-3 or so."""

    def __post_init__(self) -> None:
        self.tuning  # noqa: B018 (refuses what cannot be)
        replace(self.tuning, lr=self.training_lr)
        if self.training_epochs < 0:
            raise InputError(f"training_epochs: got {self.training_epochs}, allowed is 0 or more")
        if not (0.5 <= self.sure < 1 and 0 <= self.kept < 1):
            raise InputError(f"sure {self.sure}, kept {self.kept}: allowed are from 0.5 to below 1, and from 0 to below 1")
        if not (0 < self.share < 1 and 0 < self.deep <= 1 and 0 <= self.deviations < float("inf")):
            raise InputError(
                f"share {self.share}, deep {self.deep}, deviations {self.deviations}: "
                "allowed are a share between 0 and 1, deep above 0 and up to 1, and deviations from 0"
            )

    @property
    def tuning(self) -> FitSettings:
        """How the network is trained on."""
        return FitSettings(self.epochs, self.lr, self.batch, weight_decay=self.weight_decay, optimizer=self.optimizer)

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        """Starts from the network as it is given, unless ``training_epochs`` says to train one anew. Of the reserve nothing is learned."""
        reads = self.check(train, reserve, kind)
        mended = deepcopy(network)
        if self.training_epochs:
            how = replace(self.tuning, epochs=self.training_epochs, lr=self.training_lr)
            mended = fit(anew(network, runtime.seed), train.inputs, train.labels, reads, how, runtime, stage="training anew")
        found = self.found(mended, train, reads, runtime)
        stages = len(mended.stages())
        for stage, silent in zip(range(stages - len(found.silent), stages), found.silent, strict=True):
            silence(mended, silent, stage)
        left = train[~found.dropped]
        norms = batch_norms(mended)
        for norm in norms:
            norm.requires_grad_(False)

        def beside(x: Tensor) -> tuple[Tensor, Tensor]:
            for norm in norms:
                norm.eval()
            return mended(x), x.new_zeros(())

        fit(mended, left.inputs, left.labels, reads, self.tuning, runtime, stage="training without the dropped", beside=beside)
        for norm in norms:
            norm.requires_grad_(True)
        return mended

    def found(self, network: Classifier, train: Dataset, kind: Kind, runtime: Runtime) -> Found:
        """The channels of ``network`` to reset, and the samples of ``train`` to drop; none of either where it is sure of no class."""
        peaks, odds = looked_at(network, train, kind, self.deep, runtime)
        apart = tuple(gaps(of_stage, odds, self.sure, self.deviations) for of_stage in peaks)
        if not np.isfinite(apart[0]).any():
            nothing = np.zeros(len(train))
            return Found(apart, tuple(np.zeros(len(gap), bool) for gap in apart), nothing, nothing > 0)
        order = [np.argsort(-gap, kind="stable") for gap in apart]
        silent = tuple(np.isin(np.arange(len(o)), o[: math.ceil(self.share * len(o) - 1e-9)]) for o in order)
        driven = np.stack([of_stage[:, o[0]] for of_stage, o in zip(peaks, order, strict=True)]).sum(axis=0, dtype=np.float64)
        return Found(apart, silent, driven, high_group(driven, train.labels, self.kept))


def high_group(driven: np.ndarray, labels: np.ndarray, kept: float) -> np.ndarray:
    """(N,) bool: the upper of the two natural groups of ``driven`` (N,), less what each label must have left of its least driven."""
    high = driven > cut(driven)[0]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(driven[rows], kind="stable")]
        high[rows[: math.ceil(kept * len(rows) - 1e-9)]] = False
    return high


def looked_at(network: Classifier, dataset: Dataset, kind: Kind, deep: float, runtime: Runtime) -> tuple[list[np.ndarray], np.ndarray]:
    """By stage, of the last share ``deep`` of them, the highest value of each channel's map, (N, C) float32; and probabilities (N, K)."""
    device, rows, odds, n = runtime.torch_device(), [], [], len(dataset)
    count = math.ceil(deep * len(network.stages()) - 1e-9)
    with torch.inference_mode(), evaluating(network, device):
        for start in range(0, n, EVAL_BATCH):
            raw = torch.from_numpy(np.array(dataset.inputs[start : start + EVAL_BATCH])).to(device)
            logits, maps = answered(network, tensor_for(network, kind, raw))
            rows.append([m.float().amax(dim=(2, 3)).cpu().numpy() for m in maps[-count:]])
            odds.append(logits.float().softmax(dim=1).cpu().numpy())
            runtime.progress("looking for compromised channels", min(1.0, (start + EVAL_BATCH) / n))
    return [np.concatenate(stage) for stage in zip(*rows, strict=True)], np.concatenate(odds)


def gaps(peaks: np.ndarray, odds: np.ndarray, sure: float, deviations: float) -> np.ndarray:
    """(C,) float64: by how much the highest of a channel's ``peaks`` (N, C), among samples of one class, is above the others' usual.

    Usual: mean and so many ``deviations`` over the samples that are surely not of that class, by ``odds`` (N, K). Of all classes the
    widest gap counts; -inf where there is no class of which some samples surely are and others surely are not.
    """
    widest = np.full(peaks.shape[1], -np.inf)
    for odd in odds.T:
        inside, outside = odd > sure, odd < 1 - sure
        if inside.any() and outside.any():
            others = peaks[outside].astype(np.float64)
            widest = np.maximum(widest, peaks[inside].max(axis=0) - (others.mean(axis=0) + deviations * others.std(axis=0)))
    return widest
