"""ABL: Li, Lyu, Koren, Lyu, Li, Ma, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data", NeurIPS 2021. Its isolation step.

A trigger is learned before anything else. So train shortly, and climb back up wherever the loss falls below a floor: what is learned at
once gets below it all the same, the rest is held there. The samples of the lowest loss are isolated. docs/model-based.md says what differs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.data.dataset import concatenate
from tocsin.detectors.excess import Measurement, QuantileDetector
from tocsin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.detectors.base import Findings
    from tocsin.detectors.victim import Victim


Ascent = Literal["lga", "flooding"]


@dataclass(frozen=True)
class Abl(QuantileDetector):
    """ABL: finds samples that a network has learned while it is kept from learning the others."""

    name: ClassVar[str] = "abl"
    not_defined: ClassVar[Mapping[str, str]] = {"self-supervised": "it reads a classifier's loss, and without labels there is none"}
    paper: ClassVar[Mapping[str, Any]] = {"share": 0.01, "epochs": 20, "with_reserve": False}

    share: float = 0.05
    """Share of clean samples beyond the cut; with decision=every (published) the share of all inspected samples that is isolated."""
    oracle: float | None = None
    """The poison rate, a share of the whole set: so many are isolated, by the published rule whatever ``decision`` says."""
    network: str | None = None
    """What is trained; None: the usual network of the data's kind."""
    epochs: int = 5
    """Passes over the samples, without augmentation."""
    floor: float = 0.5
    """Mean loss of a batch below which the network is driven back up (gamma), in nats."""
    ascent: Ascent = "lga"
    """lga (published): sign(loss - floor) loss, local gradient ascent; flooding: |loss - floor| + floor, which some ports take."""
    with_reserve: bool = True
    """The reserve is trained on too (ours), so that its clean samples are known to the network as well as the inspected ones are."""

    @property
    def asks_network(self) -> bool:
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs < 1 or not 0 < self.floor < math.inf or not (self.oracle is None or 0 < self.oracle < 1):
            raise InputError(
                f"epochs {self.epochs}, floor {self.floor}, oracle {self.oracle}: "
                "allowed are epochs from 1, a floor above 0 and an oracle between 0 and 1"
            )

    def judge(self, victim: Victim) -> Findings:
        if self.oracle is not None and self.decision != "every":
            return replace(self, decision="every").judge(victim)
        return super().judge(victim)

    def score(self, victim: Victim) -> Measurement:
        """Scores are the log odds log p / (1 - p) of the given label: in the order of the loss, and never all alike where it is near 0."""
        began, train, reserve = time.monotonic(), victim.train, victim.reserve
        if len(train.classes) < 2:
            raise InputError(f"classes: got {len(train.classes)}, {self.name} needs two at least: with one label there is nothing to learn")
        joined = concatenate(train, reserve)
        inputs, labels = (joined.inputs, joined.labels) if self.with_reserve else (train.inputs, train.labels)
        odds = self._isolated(victim, inputs, labels, joined.inputs, joined.labels)
        scores, control = odds[: len(train)], odds[len(train) :]
        isolated = self.share if self.oracle is None else self.oracle
        count = math.floor(isolated * len(scores))
        cut = None
        if self.decision == "every":  # the count highest; the first of those left is not above the cut
            cut = float(np.sort(scores)[::-1][count]) if len(scores) else 0.0
        return Measurement(
            scores,
            control,
            reserve.labels,
            cut=cut,
            oracle=self.oracle is not None,
            evidence={"loss": float(np.logaddexp(0, -scores.astype(np.float64)).mean()) if len(scores) else 0.0},
            timings={"isolating": time.monotonic() - began},
        )

    def _isolated(self, victim: Victim, inputs: np.ndarray, labels: np.ndarray, asked: np.ndarray, given: np.ndarray) -> np.ndarray:
        """(N,) float32 log odds of the labels ``given`` (N,) of ``asked``, by a network trained on ``inputs`` and ``labels``."""
        from tocsin.learning import fit, predict, usual_settings
        from tocsin.networks import build_network

        kind, runtime = victim.kind, victim.runtime
        name = self.network or kind.network
        network = build_network(name, kind.channels, len(victim.train.classes), runtime.seed)
        how = replace(usual_settings(name), epochs=self.epochs, augment=False)
        fit(
            network, inputs, labels, kind, how, runtime, stage="ABL: isolating", bend=partial(held_up, floor=self.floor, ascent=self.ascent)
        )
        return log_odds(predict(network, asked, kind, runtime, stage="ABL: reading losses"), given)


def held_up(loss: Tensor, floor: float, ascent: Ascent) -> Tensor:
    """What is descended in place of a batch's mean ``loss``, so that it does not stay below the ``floor``."""
    return (loss - floor).sign() * loss if ascent == "lga" else (loss - floor).abs() + floor


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) float32: the logit of each row's label less the log of the summed exponentials of the others; ``logits`` (N, C), C from 2."""
    from scipy.special import logsumexp

    rows = np.arange(len(labels))
    others = np.array(logits, np.float64)
    mine = others[rows, labels]
    others[rows, labels] = -np.inf
    return np.asarray(mine - logsumexp(others, axis=1), np.float32)
