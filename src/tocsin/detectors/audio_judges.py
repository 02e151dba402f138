"""Small networks that judge clips they were not trained on: the label check and the feature-collision test (drl-clba-speech 5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tocsin.kinds import Kind
from tocsin.kinds.speech import FLOOR, SpeechKind
from tocsin.learning import FitSettings, features, fit
from tocsin.networks import build_network
from tocsin.runtime import Runtime, silent

_NEIGHBOURS = 10
_BLOCK = 512


_SHIFT = 0.1
"""Most of a clip that augmentation moves it by."""


@dataclass(frozen=True)
class Maps(Kind):
    """Ready-made maps (B, mels, frames), moved in time as augmentation."""

    network: ClassVar[str] = "tc-resnet8"

    @property
    def channels(self) -> int:
        return 1

    def maps(self, inputs: Tensor) -> Tensor:
        return inputs[..., None]

    def to_tensor(self, inputs: Tensor) -> Tensor:
        return inputs[:, None]

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        frames = inputs.shape[2]
        most = max(1, round(_SHIFT * frames))
        shift = torch.randint(0, 2 * most + 1, (len(inputs), 1), generator=generator)
        at = (shift + torch.arange(frames)).to(inputs.device)[:, None].expand_as(inputs)
        return torch.nn.functional.pad(inputs, (most, most)).gather(2, at)


def log_mel(clips: np.ndarray, rate: int) -> Iterator[Tensor]:
    """(B, mels, frames) of int16 (n, T), some hundreds at a time."""
    kind = SpeechKind(rate, 0.0, 1.0)
    for start in range(0, len(clips), _BLOCK):
        yield kind.maps(torch.from_numpy(np.array(clips[start : start + _BLOCK])))[..., 0]


def levelled(clips: np.ndarray, rate: int) -> np.ndarray:
    """(n, mels, frames) float32 log-mel maps of int16 (n, T), each band of mean 0 over the clip's own speech, 0 where there is none.

    A network that reads them hears no static colouring. So the judges cannot learn such a trigger from the poison in their own training
    part, and go by what is said.
    """
    out = []
    for values in log_mel(clips, rate):
        spoken = (values.amax(1, keepdim=True) > math.log(2 * FLOOR)).float()
        mean = (values * spoken).sum(2, keepdim=True) / spoken.sum(2, keepdim=True).clamp(min=1)
        out.append((values - mean) * spoken)
    maps = torch.cat(out)
    return np.asarray(maps / maps.std().clamp(min=1e-3))


@dataclass(frozen=True)
class Judged:
    """(n,) float64 each; higher is more suspicious."""

    doubt: np.ndarray
    """Minus the log probability of the given label."""
    collision: np.ndarray
    """Share of the ten nearest clips, in the features of a network that knows none of them, that have another label."""


def judge(clips: np.ndarray, labels: np.ndarray, classes: int, rate: int, folds: int, epochs: int, runtime: Runtime) -> Judged:
    """Each part of ``clips`` int16 (n, T) is judged by a network trained on the others, with the labels they came with."""
    from scipy.special import log_softmax

    kind, maps = Maps(), levelled(clips, rate)
    doubt, collision = np.zeros(len(labels)), np.zeros(len(labels))
    for number, part in enumerate(parts(labels, folds, runtime.seed)):
        rest = ~part
        if rest.sum() < 2 or not part.any():
            continue
        network = build_network(kind.network, 1, classes, runtime.seed + number)
        how = FitSettings(epochs=epochs, batch=64)
        quiet = replace(runtime, progress=partial(_tell, runtime, number, folds))
        fit(network, maps[rest], labels[rest], kind, how, quiet)
        inner = features(network, maps[part], kind, replace(runtime, progress=silent))
        head = network.head
        logits = inner @ head.weight.detach().float().cpu().numpy().T + head.bias.detach().float().cpu().numpy()
        doubt[part] = -log_softmax(logits, axis=1)[np.arange(len(inner)), labels[part]]
        collision[part] = disagreement(inner, labels[part])
    runtime.progress("judging labels", 1.0)
    return Judged(doubt, collision)


def _tell(runtime: Runtime, number: int, folds: int, stage: str, share: float) -> None:
    runtime.progress("judging labels", (number + share) / folds)


def parts(labels: np.ndarray, folds: int, seed: int) -> Iterator[np.ndarray]:
    """(n,) bool masks of equal random parts of each class."""
    rng = np.random.default_rng([seed, 0xA5])
    place = np.empty(len(labels), np.int64)
    place[np.lexsort((rng.random(len(labels)), labels))] = np.arange(len(labels)) % folds
    for fold in range(folds):
        yield place == fold


def disagreement(features: np.ndarray, labels: np.ndarray, neighbours: int = _NEIGHBOURS) -> np.ndarray:
    """(n,): share of each sample's nearest others (by angle) whose label is not its own. ``features`` (n, F), ``labels`` (n,)."""
    n, near = len(labels), min(neighbours, len(labels) - 1)
    if near < 1:
        return np.zeros(n)
    x = torch.nn.functional.normalize(torch.from_numpy(np.asarray(features, np.float32)), dim=1)
    out = np.empty(n)
    for start in range(0, n, _BLOCK):
        like = x[start : start + _BLOCK] @ x.T
        like[torch.arange(len(like)), start + torch.arange(len(like))] = -2.0
        found = like.topk(near, dim=1).indices.numpy()
        out[start : start + _BLOCK] = (labels[found] != labels[start : start + _BLOCK, None]).mean(1)
    return out
