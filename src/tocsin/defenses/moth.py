"""MOTH: Tao, Liu, Shen, Xu, An, Zhang, Zhang, "Model Orthogonalization: Class Distance Hardening in Neural Networks for Better Backdoor
Security", IEEE S&P 2022.

How far one class is from another is told by the smallest patch that sends pictures of the one to the other. While the network is trained
on, such patches are sought, again and again, and stamped on pictures that keep their true labels: all classes move apart, and the two
that a backdoor brought together do. Patches are sought as in Neural Cleanse. Settings: the specification confusion-training 4.2.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense
from tocsin.defenses.neural_cleanse import Inverted, NeuralCleanse
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import FitSettings, fit, gatherer
from tocsin.networks import Classifier
from tocsin.runtime import Runtime

STAGE = "moving classes apart"


@dataclass(frozen=True)
class MOTH(Defense):
    """Seeks the smallest patches that turn one class into another, and trains on with them under true labels, until none is small."""

    name: ClassVar[str] = "moth"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})

    epochs: int = 10
    """Passes over the reserve in which pairs of classes are moved apart (published: 2, of a larger reserve)."""
    batch: int = 32
    """Pictures a step of training (published: 128)."""
    lr: float = 0.01
    """Highest learning rate of training (published: 1e-3 throughout, 1e-5 on GTSRB)."""
    warmup: int = 1
    """Steps of training before these for each class, with the patch that leads to it from all others."""
    warmup_search: int = 60
    """Most passes of the search for that patch (published: 500)."""
    warmup_stamped: float = 0.5
    """Share of a batch's pictures of other classes that it is stamped on."""
    every: int = 3
    """Steps of training with one pair of classes, before the next is chosen."""
    chance: float = 0.3
    """Share of the pairs that are drawn; the others are those that have gained the most distance."""
    first_search: int = 60
    """Most passes of the search for a pair's patches when it is chosen first (published: 200)."""
    later_search: int = 20
    """Most passes when it is chosen again, from the patches it had (published: 50)."""
    stamped: float = 0.3
    """Of the pictures of a pair in a batch, as a share of the rarer class, how many of each are stamped; published: 0.1, which of
    batches as small as these would be none."""
    pictures: int = 32
    """Most clean pictures that a patch is sought on."""
    search_lr: float = 0.3
    """Of Adam (0.5, 0.9) on mask and pattern (published: 0.1; with more passes)."""
    cost: float = 0.01
    """First weight of the mask's size against the cross entropy (published: 1e-3)."""
    success: float = 0.99
    """Share of the pictures that a patch must send to its class."""
    patience: int = 5
    """Passes of success after which the mask's size weighs more, or of failure after which it weighs less (published: 10)."""
    largest: float = 0.75
    """Share of the picture from which on a patch is not stamped."""

    def __post_init__(self) -> None:
        self.search(self.training.epochs)  # refuses what cannot be
        shares = {"warmup_stamped": self.warmup_stamped, "stamped": self.stamped, "largest": self.largest}
        if wrong := [f"{name} {value}" for name, value in shares.items() if not 0 < value <= 1]:
            raise InputError(f"{', '.join(wrong)}: allowed are shares above 0, up to 1")
        counts = {"every": self.every, "warmup_search": self.warmup_search, "first_search": self.first_search}
        counts["later_search"] = self.later_search
        if wrong := [f"{name} {value}" for name, value in counts.items() if value < 1]:
            raise InputError(f"{', '.join(wrong)}: allowed is 1 or more")
        if self.warmup < 0 or not 0 <= self.chance <= 1:
            raise InputError(f"warmup {self.warmup}, chance {self.chance}: allowed are a warm-up from 0 and a chance from 0 to 1")

    @property
    def training(self) -> FitSettings:
        """How the network is trained on, without the passes of the warm-up."""
        return FitSettings(epochs=self.epochs, lr=self.lr, batch=self.batch)

    def search(self, passes: int) -> NeuralCleanse:
        """What seeks one patch; a pass is one step."""
        return NeuralCleanse(
            epochs=passes, batch=self.pictures, lr=self.search_lr, cost=self.cost, success=self.success, patience=self.patience
        )

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        """Raises `InputError` also where the reserve has pictures of fewer than two classes."""
        reads, moved = self.check(train, reserve, kind), deepcopy(network)
        apart = Apart(self, moved, reserve, reads, runtime)
        return fit(moved, reserve.inputs, reserve.labels, reads, apart.training, runtime, stage=STAGE, altered=apart)


class Apart:
    """What is stamped on the pictures of each step of training, by what the network is then."""

    def __init__(self, how: MOTH, network: Classifier, reserve: Dataset, kind: Kind, runtime: Runtime) -> None:
        """``network`` is what is being trained; it is looked at and never changed."""
        self.how, self.network, self.reserve, self.kind, self.runtime = how, network, reserve, kind, runtime
        self.there = np.flatnonzero(reserve.class_counts)
        if len(self.there) < 2:
            raise InputError(f"reserve: pictures of at least two classes are needed, got {len(self.there)}")
        self.warm_steps, self.step = how.warmup * len(self.there), 0
        self.rng = np.random.default_rng([runtime.seed, 0x307A])
        self.distances = Distances(len(reserve.classes), self.there)
        self.patches: dict[tuple[int, int], Inverted | None] = {}
        """The last patch from one class to another; None: the last search found none."""
        self.pair = (0, 0)
        self.universal: Inverted | None = None

    @property
    def training(self) -> FitSettings:
        """With as many passes more as the warm-up takes."""
        how, count = self.how.training, len(self.reserve)
        return replace(how, epochs=how.epochs + -(-self.warm_steps // (count // min(how.batch, count))))

    def __call__(self, rows: Tensor, raw: Tensor) -> Tensor:
        """Of the rows (B,) of the reserve, its pictures ``raw`` uint8 (B, H, W, C), some with a patch."""
        step, self.step, labels = self.step, self.step + 1, self.reserve.labels[rows.numpy()]
        if step < self.warm_steps:
            return self.warm(step, labels, raw)
        if (step - self.warm_steps) % self.how.every == 0:
            self.choose()
        (one, two), out = self.pair, raw
        count = np.ceil(self.how.stamped * min((labels == one).sum(), (labels == two).sum()))
        for source, goal in ((one, two), (two, one)):
            out = self.stamp(out, np.flatnonzero(labels == source), int(count), self.patches.get((source, goal)))
        return out

    def warm(self, step: int, labels: np.ndarray, raw: Tensor) -> Tensor:
        """Pictures ``raw`` with ``labels`` (B,), some with the patch of the class whose turn it is."""
        goal = int(self.there[step // self.how.warmup])
        if step % self.how.warmup == 0:
            self.universal = self.seek(np.flatnonzero(self.reserve.labels != goal), goal, self.how.warmup_search, None)
            self.distances.began(goal, self.size(self.universal))
        others = np.flatnonzero(labels != goal)
        return self.stamp(raw, others, round(self.how.warmup_stamped * len(others)), self.universal)

    def choose(self) -> None:
        """Takes a pair of classes, and seeks its patches anew."""
        self.pair = one, two = self.distances.drawn(self.rng) if self.rng.random() < self.how.chance else self.distances.gained_most()
        for source, goal in ((one, two), (two, one)):
            start = self.patches.get((source, goal))
            passes = self.how.first_search if start is None else self.how.later_search
            self.patches[source, goal] = self.seek(np.flatnonzero(self.reserve.labels == source), goal, passes, start)
        there, back = self.patches[one, two], self.patches[two, one]
        self.distances.measured(self.pair, there.size + back.size if there and back else None)

    def seek(self, rows: np.ndarray, goal: int, passes: int, start: Inverted | None) -> Inverted | None:
        """The smallest patch found that sends pictures of the reserve, of its ``rows`` (N,), to a class; None: no patch does."""
        chosen = self.reserve[np.sort(self.rng.permutation(rows)[: self.how.pictures])]
        still = deepcopy(self.network).eval().requires_grad_(False)
        gather = gatherer(chosen.inputs, self.runtime.torch_device())
        found = self.how.search(passes).smallest(still, gather, chosen, self.kind, goal, self.runtime, start=start)
        return found if found.success else None

    def size(self, patch: Inverted | None) -> float:
        """In pixels; where there is no patch, of the whole picture."""
        return float(np.prod(self.reserve.inputs.shape[1:3])) if patch is None else patch.size

    def stamp(self, raw: Tensor, places: np.ndarray, count: int, patch: Inverted | None) -> Tensor:
        """``raw`` (B, H, W, C) with the patch, if it is one and not too large, on ``count`` of the ``places`` in it, drawn."""
        places = self.rng.permutation(places)[:count]
        if patch is None or not len(places) or patch.size >= self.how.largest * self.size(None):
            return raw
        out, chosen = raw.clone(), torch.from_numpy(places).to(raw.device)
        out[chosen] = torch.from_numpy(patch.stamped(raw[chosen].cpu().numpy())).to(raw.device)
        return out


class Distances:
    """How far apart the classes are, in pixels of patch to and fro, as far as that is known, and what each pair has gained."""

    def __init__(self, classes: int, there: np.ndarray) -> None:
        """``there``: the classes of which there are pictures; pairs are made of them."""
        self.pairs = [(int(a), int(b)) for place, a in enumerate(there) for b in there[place + 1 :]]
        self.to = np.zeros(classes)
        """Pixels of the patch that leads to a class from all others, before training."""
        self.last: dict[tuple[int, int], float] = {}
        self.gain: dict[tuple[int, int], float] = {}

    def began(self, goal: int, size: float) -> None:
        self.to[goal] = size

    def measured(self, pair: tuple[int, int], size: float | None) -> None:
        """``size``: of both patches of a ``pair``; what it gained is the growth of it as a share of what it was.

        None: one was not found; there is nothing to train with, and the pair comes last.
        """
        before = self.last.get(pair, float(self.to[list(pair)].sum()))  # 0 without a warm-up: nothing is known to have been gained
        self.gain[pair] = -np.inf if size is None else (size - before) / before if before else 0.0
        self.last[pair] = before if size is None else size

    def gained_most(self) -> tuple[int, int]:
        """A pair not yet measured, the nearest by the patches that lead to its classes, while there is one; else that of most gain."""
        new = [pair for pair in self.pairs if pair not in self.gain]
        return min(new, key=lambda pair: self.to[list(pair)].sum()) if new else max(self.pairs, key=self.gain.__getitem__)

    def drawn(self, rng: np.random.Generator) -> tuple[int, int]:
        return self.pairs[rng.integers(len(self.pairs))]
