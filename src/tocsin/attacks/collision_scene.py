"""What an attempt at a feature collision is worth: distance to the anchor, what judges think of the label, content, audibility.

Specification drl-clba-speech 2.5.2 and 2.5.3. Every searcher, the agent among them, asks the same `Scene`; one question about one clip is
one query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tocsin.attacks.collision import ActionGrid
from tocsin.attacks.waves import WaveClassifier, heard
from tocsin.errors import InputError
from tocsin.kinds.speech import FLOOR, SpeechKind

PRINCIPAL = 32
"""Components of the features that the agent sees."""
CEPSTRA = 12
"""Cepstral coefficients that stand for what is said."""
_DB = 10 / np.log(10)


@dataclass(frozen=True)
class Weights:
    """How much each term of the reward counts (2.5.3); 0 leaves a term out."""

    collision: float = 10.0
    """Of the way to the anchor, as a share of the whole way."""
    label: float = 3.0
    """Of the judges' doubt of the label."""
    semantic: float = 2.0
    """Of the change of the cepstral envelope."""
    audible: float = 1.0
    """Of what is heard of the change."""
    last: float = 2.0
    """Of the distance that is left at the end of an episode, against a half."""
    sure: float = 0.6
    """Probability of the label from which on a judge has no doubt."""
    least_snr_db: float = 10.0
    """Signal-to-noise ratio from which on noise does not count; below, each 10 dB count 1, as 10 dB of spectral distance do."""


@dataclass(frozen=True)
class Episode:
    """How an episode runs."""

    steps: int = 6
    """Decisions, and so queries, for each clip."""
    eta: float = 0.5
    """How far one decision moves the gains, as a share of half their range."""
    gamma: float = 0.95
    """Discount of the agent; the rewards read it only where they are shaped."""
    shaped: bool = False
    """Rewards are ``gamma * worth' - worth``, which leaves the best policy as it is under any discount, not ``worth' - worth``."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.eta <= 2 or not 0 <= self.gamma <= 1:
            got = f"steps {self.steps}, eta {self.eta}, gamma {self.gamma}"
            raise InputError(f"{got}: allowed are steps from 1, eta above 0 up to 2, gamma from 0 to 1")


def moved(actions: Tensor, decision: Tensor, eta: float) -> Tensor:
    """(B, size) the gains after a decision, on the scale where their bounds are -1 and 1."""
    return (actions + eta * decision).clamp(-1, 1)


@dataclass(frozen=True, eq=False)
class Look:
    """What B clips with actions look like. Tensors keep their gradients where there are any."""

    features: Tensor
    """(B, F) of the surrogate."""
    probabilities: Tensor
    """(B, classes) of the surrogate."""
    distance: Tensor
    """(B,) D_k / D_0: the way that is left to the anchor, as a share of the whole."""
    judged: Tensor
    """(B,) mean over the judges of the probability of the label."""
    doubt: Tensor
    """(B,) phi: mean over the judges of what the probability lacks."""
    strange: Tensor
    """(B,) psi: 1 - cosine of the cepstral envelopes."""
    audible: Tensor
    """(B,) xi: log-mel distance, noise, and size of the action."""

    def worth(self, weights: Weights) -> Tensor:
        """(B,) the potential whose differences are the rewards of an episode (without its last term)."""
        gone = weights.collision * self.distance + weights.label * self.doubt
        return -(gone + weights.semantic * self.strange + weights.audible * self.audible)


@dataclass(frozen=True, eq=False)
class Scene:
    """Clips of the target class, the anchor of each, and who looks at them. Nothing in it changes."""

    surrogate: WaveClassifier
    judges: Sequence[WaveClassifier]
    """Independent of the surrogate. None: nobody doubts."""
    grid: ActionGrid
    weights: Weights
    label: int
    """The class of all clips."""
    clips: Tensor
    """(N, T) int16."""
    anchors: Tensor
    """(N, F)."""
    mean: Tensor
    """(F,) of the surrogate's features of clean clips."""
    basis: Tensor
    """(F, K) their principal directions, each divided by the deviation along it."""

    def __post_init__(self) -> None:
        if len(self.clips) != len(self.anchors) or not len(self.clips):
            raise InputError(f"anchors: got {len(self.anchors)} for {len(self.clips)} clips, allowed is one for each of at least one clip")

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def kind(self) -> SpeechKind:
        """How waves become maps."""
        return self.surrogate.kind

    @cached_property
    def _voice(self) -> tuple[Tensor, Tensor]:
        waves, mask, _ = heard(self.clips)
        return waves, mask

    @cached_property
    def _plain(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, 1, mels, frames) log-mel values, (N, frames) which frames count, (N, cepstra) envelopes, (N,) D_0, all of the plain clips."""
        waves = self._voice[0]
        parts = []
        with torch.no_grad():
            for rows in torch.split(torch.arange(len(self)), 256):
                maps = self.kind.to_tensor(waves[rows])
                spoken = maps[:, 0].amax(1) > np.log(2 * FLOOR)  # frames that stand out of the floor
                spoken = spoken | ~spoken.any(1, keepdim=True)
                features = self.surrogate.heard(self._for(self.surrogate, maps, waves[rows]))[0]
                away = (features - self.anchors[rows]).norm(dim=1).clamp(min=1e-6)
                parts.append((maps, spoken, self._envelope(maps, spoken), away))
        maps, spoken, envelope, away = (torch.cat(part) for part in zip(*parts, strict=True))
        return maps, spoken, envelope, away

    def _for(self, model: WaveClassifier, maps: Tensor, waves: Tensor) -> Tensor:
        return maps if model.body.reads == "maps" else self.kind.waves(waves)

    @cached_property
    def _cosines(self) -> Tensor:
        """(cepstra, mels): coefficients 1 to 12 of the DCT-II."""
        bands = torch.arange(self.kind.mels, device=self.clips.device) + 0.5
        return torch.cos(torch.pi / self.kind.mels * torch.arange(1, CEPSTRA + 1, device=self.clips.device)[:, None] * bands)

    def _envelope(self, maps: Tensor, spoken: Tensor) -> Tensor:
        mean = (maps[:, 0] * spoken[:, None]).sum(2) / spoken.sum(1, keepdim=True)
        return mean @ self._cosines.T

    def waves(self, rows: Tensor, actions: Tensor) -> Tensor:
        """(B, T) the clips ``rows`` (B,) with ``actions`` (B, size)."""
        waves, mask = self._voice
        return self.grid.apply(self.kind, waves[rows], mask[rows], actions)

    def look(self, rows: Tensor, actions: Tensor) -> Look:
        """One query for each of ``rows`` (B,), with ``actions`` (B, size) in -1..1."""
        plain = self._voice[0]
        before, spoken, envelope, away = (part[rows] for part in self._plain)
        waves = self.waves(rows, actions)
        maps = self.kind.to_tensor(waves)
        features, logits = self.surrogate.heard(self._for(self.surrogate, maps, waves))
        judged, doubt = self._judge(maps, waves)
        strange = 1 - torch.cosine_similarity(envelope, self._envelope(maps, spoken), dim=1)
        moved = ((maps - before)[:, 0].square().mean(1) + 1e-12).sqrt() * _DB  # (B, frames) dB
        distance = (moved * spoken).sum(1) / spoken.sum(1)
        noise = (waves - plain[rows]).square().sum(1) + 1e-9
        snr = _DB * (plain[rows].square().sum(1).clamp(min=1e-9) / noise).log()
        audible = distance / 10 + (self.weights.least_snr_db - snr).clamp(min=0) / 10 + 0.02 * actions.square().mean(1)
        left = (features - self.anchors[rows]).norm(dim=1) / away
        return Look(features, logits.softmax(1), left, judged, doubt, strange, audible)

    def _judge(self, maps: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
        if not self.judges:
            return maps.new_ones(len(maps)), maps.new_zeros(len(maps))
        sure = torch.stack([j.heard(self._for(j, maps, waves))[1].softmax(1)[:, self.label] for j in self.judges])
        return sure.mean(0), (self.weights.sure - sure).clamp(min=0).mean(0)

    def state(self, rows: Tensor, actions: Tensor, look: Look, done: float) -> Tensor:
        """(B, `state_size`) what the agent sees (2.5.2); ``done``: the share of the episode that is over."""
        here, there = ((f - self.mean) @ self.basis for f in (look.features, self.anchors[rows]))
        over = actions.new_full((len(rows), 1), done)
        return torch.cat([here, there, there - here, look.probabilities, actions, over], dim=1)

    @property
    def state_size(self) -> int:
        """Values of a state."""
        return 3 * self.basis.shape[1] + self.surrogate.body.head.out_features + self.grid.size + 1


def returns(scene: Scene, first: Look, last: Look) -> Tensor:
    """(B,) undiscounted return of episodes that lead from ``first`` to ``last``, whatever lies between (rewards are differences)."""
    return last.worth(scene.weights) - first.worth(scene.weights) + scene.weights.last * (0.5 - last.distance)


def principal(features: np.ndarray, count: int = PRINCIPAL) -> tuple[np.ndarray, np.ndarray]:
    """Mean (F,) of ``features`` (N, F) and their first ``count`` principal directions, each over its deviation (F, K); float32."""
    mean = features.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(features - mean, full_matrices=False)
    kept = min(count, int((sizes > 1e-6 * max(sizes[0], 1e-9)).sum()) or 1)
    deviation = np.maximum(sizes[:kept] / np.sqrt(max(len(features), 1)), 1e-6)
    return mean.astype(np.float32), (directions[:kept].T / deviation).astype(np.float32)
