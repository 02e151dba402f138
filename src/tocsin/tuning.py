"""Transfer learning: a trained encoder becomes a classifier of other data, all of its weights tuned to them or a new head alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from tocsin.errors import InputError
from tocsin.learning import FitSettings, features, fit
from tocsin.networks.base import Classifier
from tocsin.networks.encoder import Encoder
from tocsin.runtime import Runtime

_RIDGE = 1000.0
"""Weight of the mean cross entropy against half the squared length of the weights, in units of features of deviation 1."""
_NEVER = -1e4
"""Bias of a class that has no sample."""


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

    ``tune``: ``all`` weights, in ``epochs`` passes with augmentation and at most the learning rate ``lr``, or the ``last`` layer, to
    convergence, on features that stay as they are. Raises `InputError` for pictures that the encoder cannot read.
    """
    encoder.check(inputs.shape)
    network = encoder.with_head(classes, runtime.seed)
    if tune == "all":
        return fit(network, inputs, labels, encoder.kind, FitSettings(epochs=epochs, lr=lr), runtime, stage=stage)
    network.to(runtime.torch_device()).eval()
    fit_head(network.head, features(network, inputs, encoder.kind, runtime, stage=stage), labels)
    return network


def fit_head(head: nn.Linear, read: np.ndarray, labels: np.ndarray) -> None:
    """Makes ``head`` the logistic regression on features ``read`` (N, F) and labels (N,), to convergence.

    Features are taken in units of their own deviation, and the ridge is the same for any number of samples. A class without a sample is
    never guessed. Raises `InputError` where there are not two classes to tell apart.
    """
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    if len(present) < 2:
        raise InputError(f"training set: got samples of {len(present)} class, two at least are needed")
    mean, deviation = read.mean(axis=0, dtype=np.float64), read.std(axis=0, dtype=np.float64)
    deviation = np.maximum(deviation, 1e-6 * deviation.max() + 1e-12)
    found = LogisticRegression(C=_RIDGE / len(read), max_iter=1000).fit((read - mean) / deviation, labels)
    # Of two classes it keeps one row, the second's against the first's.
    rows, offsets = (np.concatenate([-a / 2, a / 2]) if len(present) == 2 else a for a in (found.coef_, found.intercept_))
    weight, bias = np.zeros(head.weight.shape), np.full(head.bias.shape, _NEVER)
    weight[present] = rows / deviation  # from here on it reads features as they come
    bias[present] = offsets - weight[present] @ mean
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
