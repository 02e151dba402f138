"""Feature collision: samples changed within a bound until an encoder sees other samples in them (Hidden Trigger)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tocsin.attacks.adversarial import PixelClassifier
from tocsin.attacks.training import pixels, to_bytes
from tocsin.learning import deterministic
from tocsin.runtime import Runtime

_HALVINGS = 5
"""The steps come in so many equal parts, each with half the length of the one before, as published."""


def collide(
    model: PixelClassifier, inputs: np.ndarray, wanted: np.ndarray, bound: float, step: float, steps: int, runtime: Runtime
) -> np.ndarray:
    """``inputs`` uint8 (B, H, W, C), no value further than ``bound`` from what it was, with features near those of ``wanted`` (B, ...).

    At each step the nearest pairs are formed anew and the sum of their squared distances descends. Steps are of the gradient's sign
    (PGD): the published ones are of the gradient itself, whose scale belongs to one network.
    """
    device = runtime.torch_device()
    x, others = (pixels(torch.from_numpy(np.array(a)).to(device)) for a in (inputs, wanted))
    goal, change = features_of(model, others).detach(), torch.zeros_like(x)
    with deterministic(device):
        for k in range(steps):
            length = step * 0.5 ** (k * _HALVINGS // steps)
            moved = (x + change).requires_grad_(True)
            features = features_of(model, moved)
            pairs = greedy_pairs(torch.cdist(features.detach(), goal))
            (gradient,) = torch.autograd.grad((features - goal[pairs]).square().sum(), moved)
            change = (change - length / 255 * gradient.sign()).clamp(-bound / 255, bound / 255)
            change = (x + change).clamp(0, 1) - x
    return to_bytes(x + change)


def features_of(model: PixelClassifier, x: Tensor) -> Tensor:
    """(B, F) float32 penultimate features of pixels (B, C, H, W). No mixed precision: the last steps are of a quarter of a byte."""
    found: Tensor = model.body.features(model.scale(x).contiguous(memory_format=torch.channels_last))
    return found.float()


def greedy_pairs(distances: Tensor) -> Tensor:
    """(B,) column for each row of ``distances`` (B, B): the closest pair first, then the closest of those that are left."""
    left, columns = distances.detach().cpu().clone(), torch.empty(len(distances), dtype=torch.int64)
    for _ in range(len(left)):
        row, column = divmod(int(left.argmin()), left.shape[1])
        columns[row] = column
        left[row], left[:, column] = torch.inf, torch.inf
    return columns.to(distances.device)
