"""Transfer learning: a trained encoder becomes a classifier of other data, all of its weights tuned to them or a new head alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tocsin.errors import InputError
from tocsin.learning import FitSettings, descend, features, fit, one_cycle
from tocsin.networks.base import Classifier
from tocsin.networks.encoder import Encoder
from tocsin.runtime import Runtime

_HEAD_LR, _HEAD_BATCH, _HEAD_DECAY = 0.05, 128, 5e-4


def tuned(
    encoder: Encoder,
    inputs: np.ndarray,
    labels: np.ndarray,
    classes: int,
    runtime: Runtime,
    *,
    tune: Literal["all", "last"] = "all",
    epochs: int = 10,
    lr: float = 0.02,
    stage: str = "tuning the encoder",
) -> Classifier:
    """A copy of ``encoder`` for pictures (N, H, W, C) and labels (N,), in eval mode; it reads pictures as the encoder did.

    ``tune``: ``all`` weights, with augmentation and at most the learning rate ``lr``, or the ``last`` layer on features that stay as
    they are. Raises `InputError` for pictures that the encoder cannot read.
    """
    encoder.check(inputs.shape)
    network = encoder.with_head(classes, runtime.seed)
    if tune == "all":
        return fit(network, inputs, labels, encoder.kind, FitSettings(epochs=epochs, lr=lr), runtime, stage=stage)
    network.to(runtime.torch_device()).eval()
    fit_head(network.head, features(network, inputs, encoder.kind, runtime, stage=stage), labels, epochs, runtime)
    return network


def fit_head(head: nn.Linear, read: np.ndarray, labels: np.ndarray, epochs: int, runtime: Runtime) -> None:
    """Trains ``head`` in place on features ``read`` (N, F) and labels (N,), from zero weights, on standardised features."""
    if len(labels) < 2:
        raise InputError(f"training set: got {len(labels)} samples, at least 2 are needed")
    device, generator = head.weight.device, torch.Generator().manual_seed(runtime.seed)
    x, y = torch.from_numpy(read).to(device), torch.from_numpy(np.array(labels, np.int64)).to(device)
    mean, deviation = x.mean(dim=0), x.std(dim=0)
    deviation = deviation.clamp(min=1e-3 * float(deviation.max()) + 1e-6)
    x, batch = (x - mean) / deviation, min(_HEAD_BATCH, len(labels))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), _HEAD_LR, 0.9, weight_decay=_HEAD_DECAY)
    per_epoch = len(labels) // batch
    steps = epochs * per_epoch
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(labels), generator=generator)
        rows = order[(step % per_epoch) * batch :][:batch].to(device)
        optimizer.param_groups[0]["lr"] = one_cycle(step, steps, _HEAD_LR)
        descend(optimizer, F.cross_entropy(head(x[rows]), y[rows]))
    with torch.no_grad():  # from here on it reads features as they come
        head.weight /= deviation
        head.bias -= head.weight @ mean
