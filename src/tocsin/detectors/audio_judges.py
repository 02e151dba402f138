"""Small networks that judge clips they were not trained on: the label check and the feature-collision test. Specification drl-clba-speech 5.3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tocsin.kinds.speech import FLOOR, SpeechKind
from tocsin.learning import FitSettings, features, fit
from tocsin.networks import build_network
from tocsin.runtime import Runtime

NETWORK = "tc-resnet8"
_NEIGHBOURS = 10
_BLOCK = 512


@dataclass(frozen=True)
class LevelledSpeech(SpeechKind):
    """Log-mel maps whose bands have mean 0 over each clip's own speech: a network that reads them cannot hear a static colouring.

    So the judges cannot learn such a trigger from the poison in their own training part, and go by what is said.
    """

    def to_tensor(self, inputs: Tensor) -> Tensor:
        values = self.maps(inputs)[..., 0]
        spoken = (values.amax(1, keepdim=True) > np.log(2 * FLOOR)).float()
        mean = (values * spoken).sum(2, keepdim=True) / spoken.sum(2, keepdim=True).clamp(min=1)
        return ((values - mean) * spoken / self.std)[:, None]


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

    kind = LevelledSpeech(rate, 0.0, 1.0)
    doubt, collision = np.zeros(len(labels)), np.zeros(len(labels))
    for number, part in enumerate(parts(labels, folds, runtime.seed)):
        rest = ~part
        if rest.sum() < 2 or not part.any():
            continue
        network = build_network(NETWORK, 1, classes, runtime.seed + number)
        how = FitSettings(epochs=epochs, batch=64)
        quiet = replace(runtime, progress=lambda stage, share, number=number: runtime.progress("judging labels", (number + share) / folds))
        fit(network, clips[rest], labels[rest], kind, how, quiet)
        inner = features(network, clips[part], kind, replace(runtime, progress=lambda stage, share: None))
        head = network.head
        logits = inner @ head.weight.detach().float().cpu().numpy().T + head.bias.detach().float().cpu().numpy()
        doubt[part] = -log_softmax(logits, axis=1)[np.arange(len(inner)), labels[part]]
        collision[part] = disagreement(inner, labels[part])
    runtime.progress("judging labels", 1.0)
    return Judged(doubt, collision)


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
