"""Feature collision on speech: gains an agent may put on a clip, and anchors it moves clips to (specification drl-clba-speech 2.3, 2.4).

An anchor is where a clip of another class *with the trigger* lies in a surrogate's feature space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tocsin.attacks.gains import apply_gains
from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind

Choice = Literal["nearest", "kmeans", "random", "displace"]
"""How each clip gets its anchor."""
CENTRES = 8
"""Of each source class, where anchors are centres."""


@dataclass(frozen=True)
class ActionGrid:
    """What may be done to a clip: ``bands`` x ``segments`` gains over its mel bands and the length of its speech (2.4, ``melgain``).

    Between the middles of the fields gains are interpolated linearly in both directions. Time runs from the first to the last sample of
    the clip's own speech, so that no gain is spent on silence (ours; the specification says "over the clip").
    """

    bands: int = 10
    segments: int = 4
    bound_db: float = 9.0

    def __post_init__(self) -> None:
        if not (self.bands >= 1 and self.segments >= 1 and 0 < self.bound_db < 100):
            got = f"bands {self.bands}, segments {self.segments}, bound_db {self.bound_db}"
            raise InputError(f"{got}: allowed are bands and segments from 1, bound_db above 0 and below 100")

    @property
    def size(self) -> int:
        """Values of an action."""
        return self.bands * self.segments

    def gains(self, kind: SpeechKind, mask: Tensor, actions: Tensor) -> Tensor:
        """``actions`` (B, size) in -1..1 as gains in dB (B, mels, frames) for clips whose speech is ``mask`` (B, T); differentiable."""
        length, hop = mask.shape[1], kind.frame[2]
        at = torch.arange(length, device=mask.device)
        first, last = (torch.where(mask, at, other).to(torch.float32) for other in (length, -1))
        begin, end = first.amin(1, keepdim=True), last.amax(1, keepdim=True)
        frames = torch.arange(1 + length // hop, device=mask.device) * hop
        along = hats((frames - begin) / (end - begin).clamp(min=1), self.segments)  # (B, frames, segments)
        across = hats((torch.arange(kind.mels, device=mask.device) + 0.5) / kind.mels, self.bands)  # (mels, bands)
        fields = actions.clamp(-1, 1).reshape(-1, self.bands, self.segments)
        return self.bound_db * (across @ fields @ along.transpose(1, 2))

    def apply(self, kind: SpeechKind, waves: Tensor, mask: Tensor, actions: Tensor) -> Tensor:
        """``waves`` (B, T) in -1..1 with the gains that ``actions`` (B, size) stand for; what lies outside ``mask`` stays as it is."""
        return apply_gains(kind, waves, mask, self.gains(kind, mask, actions))


def hats(places: Tensor, count: int) -> Tensor:
    """Weights (..., count) with which values at the middles of ``count`` equal fields of 0..1 are interpolated at ``places`` (...)."""
    at = (places.clamp(0, 1) * count - 0.5).clamp(0, count - 1)
    return (1 - (at[..., None] - torch.arange(count, device=places.device)).abs()).clamp(min=0)


@dataclass(frozen=True, eq=False)
class Pool:
    """Source clips in the surrogate's feature space, before and after the trigger."""

    rows: np.ndarray
    """(P,) int64 rows of the data set."""
    labels: np.ndarray
    """(P,) int64."""
    plain: np.ndarray
    """(P, F) float32 features without the trigger."""
    triggered: np.ndarray
    """(P, F) float32 features with it."""

    def shift(self) -> np.ndarray:
        """(F,) mean of what the trigger does to features."""
        return np.asarray((self.triggered - self.plain).mean(axis=0))

    def relative_shift(self) -> float:
        """Mean length of what the trigger does, against the mean distance of a clip from the middle of its class (2.3).

        Below about 0.3 the anchors are plain source features: poisons then teach "source class", not "trigger".
        """
        spread = [np.linalg.norm(own - own.mean(axis=0), axis=1) for own in (self.plain[self.labels == k] for k in np.unique(self.labels))]
        return float(np.linalg.norm(self.triggered - self.plain, axis=1).mean() / max(np.concatenate(spread).mean(), 1e-9))


def draw_pool(labels: np.ndarray, target: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``size`` sorted rows of the classes other than ``target``, equally many of each as far as they have them (2.3)."""
    order = rng.permutation(np.flatnonzero(labels != target))
    turn = np.empty(len(order), np.int64)  # how many of its class come before it
    for k in np.unique(labels[order]):
        own = np.flatnonzero(labels[order] == k)
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn, kind="stable")][:size])


def choose_anchors(
    choice: Choice, features: np.ndarray, pool: Pool, kappa: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """An anchor (N, F) for each of the clips with ``features`` (N, F), and which source clip it is: (N,) rows, -1 where it is none.

    nearest: the closest triggered source clip that no clip before has taken; random: any; kmeans: the closest of eight centres of each
    source class; displace: the clip's own features, moved ``kappa`` times the mean effect of the trigger.
    """
    return _CHOICES[choice](features, pool, kappa, rng)


def _nearest(features: np.ndarray, pool: Pool, kappa: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    taken = np.zeros(len(pool.rows), bool)
    chosen = np.empty(len(features), np.int64)
    for row, own in enumerate(features):
        if taken.all():  # more clips than source clips: another round
            taken[:] = False
        far = np.where(taken, np.inf, np.linalg.norm(pool.triggered - own, axis=1))
        chosen[row] = far.argmin()
        taken[chosen[row]] = True
    return pool.triggered[chosen], pool.rows[chosen]


def _random(features: np.ndarray, pool: Pool, kappa: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rounds = -(-len(features) // len(pool.rows))
    chosen = np.concatenate([rng.permutation(len(pool.rows)) for _ in range(max(1, rounds))])[: len(features)]
    return pool.triggered[chosen], pool.rows[chosen]


def _kmeans(features: np.ndarray, pool: Pool, kappa: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.cluster import KMeans

    centres = []
    for k in np.unique(pool.labels):
        own = pool.triggered[pool.labels == k]
        means = KMeans(min(CENTRES, len(own)), n_init=3, random_state=int(rng.integers(2**31))).fit(own)
        centres.append(means.cluster_centers_.astype(np.float32))
    middle = np.concatenate(centres)
    far = np.linalg.norm(features[:, None] - middle[None], axis=2)
    return middle[far.argmin(axis=1)], np.full(len(features), -1)


def _displace(features: np.ndarray, pool: Pool, kappa: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return (features + kappa * pool.shift()).astype(np.float32), np.full(len(features), -1)


_CHOICES: dict[str, Callable[[np.ndarray, Pool, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]] = {
    "nearest": _nearest,
    "kmeans": _kmeans,
    "random": _random,
    "displace": _displace,
}
assert _CHOICES.keys() == set(get_args(Choice))
