"""A compact contrastive learner: an encoder from samples without labels, as in SimCLR.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020: two changed views
of every sample go through the encoder and a small projector; each view must tell its partner from all other views of the batch. The
changes are the kind's (`Kind.view`), the encoder is one of `NETWORKS`, read where its last layer would read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import autocast, descend, deterministic, gatherer, one_cycle, seeded
from tocsin.networks import Classifier
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class ContrastiveSettings:
    """How the encoder is trained: SGD with Nesterov momentum, on a one-cycle schedule."""

    epochs: int = 30
    """Passes over the samples; each pass sees two views of every sample."""
    batch: int = 256
    """Samples a step; twice as many views are compared with each other."""
    temperature: float = 0.5
    """Cosines are divided by it before the softmax."""
    lr: float = 0.3
    """Highest learning rate of the cycle."""
    weight_decay: float = 5e-4
    """Of SGD."""
    projection: int = 64
    """Width of the projector's output, in which views are compared."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or self.projection < 1:
            raise InputError(
                f"epochs {self.epochs}, batch {self.batch}, projection {self.projection}: allowed are epochs and a projection from 1, "
                "and a batch from 2"
            )
        if not (0 < self.temperature < float("inf") and 0 < self.lr < float("inf") and self.weight_decay >= 0):
            raise InputError(
                f"temperature {self.temperature}, lr {self.lr}, weight_decay {self.weight_decay}: allowed are a temperature and an lr "
                "above 0, and a weight_decay from 0"
            )


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The loss, a scalar, of projections (B, P) of two views of the same samples: normalised, temperature-scaled cross entropy.

    For each of the 2 B views: minus the logarithm of exp(cosine / temperature) with its partner, over the sum of that with all others.
    """
    z = F.normalize(torch.cat([first, second]).float(), dim=1)
    alike = z @ z.T / temperature
    alike = alike.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(alike, partner)


def pretrain(
    network: Classifier,
    inputs: np.ndarray,
    kind: Kind,
    how: ContrastiveSettings,
    runtime: Runtime,
    *,
    stage: str = "learning without labels",
) -> Classifier:
    """Trains all of ``network`` but its head in place on raw samples (N, ...); returns it in eval mode on the runtime's device.

    The projector is left behind: what an encoder gives is ``network.features``. Weights, order and views derive from ``runtime.seed``;
    progress is reported under ``stage``. Raises `InputError` for fewer than two samples, or a kind without views.
    """
    n, device = len(inputs), runtime.torch_device()
    if n < 2:
        raise InputError(f"contrastive learning: got {n} samples, at least 2 are needed")
    generator = torch.Generator().manual_seed(runtime.seed)
    gather, batch = gatherer(inputs, device), min(how.batch, n)
    steps = how.epochs * (n // batch)
    with deterministic(device), seeded(device, runtime.seed):
        width = network.head.in_features
        projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, how.projection)).to(device)
        both = nn.ModuleList([network, projector]).to(device).train()
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(both.parameters(), how.lr, 0.9, weight_decay=how.weight_decay, nesterov=True)
        for step in range(steps):
            if step % (n // batch) == 0:
                order = torch.randperm(n, generator=generator)
            raw = gather(order[(step % (n // batch)) * batch :][:batch])
            views = torch.cat([kind.view(raw, generator), kind.view(raw, generator)])
            optimizer.param_groups[0]["lr"] = one_cycle(step, steps, how.lr)
            with autocast(device):
                first, second = projector(network.features(views)).chunk(2)
            descend(optimizer, nt_xent(first, second, how.temperature))
            if step % 10 == 9 or step == steps - 1:
                runtime.progress(stage, (step + 1) / steps)
    return network.eval()
