"""Poison concentration: scouts that tell inspected samples from base samples by a victim's features (ASSET, specification 2.4).

Clean inspected samples look like base samples but carry the other mark, so that the two marks offset and the scout stays undecided;
poison is on one side only. Results are logits, never sigmoids, which saturate and hide the order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.detectors.confusion import PretrainSettings, penultimate, pretrain
from tocsin.detectors.workbench import Bench
from tocsin.learning import descend
from tocsin.runtime import Runtime, Ticker

_LEAST_STEPS, _LR, _BATCH = 150, 0.1, 128
"""Of the network whose features are read where no victim is: steps at least, learning rate, samples a step."""


@dataclass(frozen=True)
class ScoutSettings:
    """How a scout is built and trained."""

    hidden: tuple[int, ...]
    """Widths of its hidden layers."""
    steps: int
    lr: float
    loss: Literal["bce", "mse"]
    """The paper's binary cross entropy, or the squared error that the official code has in its place."""
    batch: int
    """Samples of either side a step, in `whole_set`."""


def standardised(features: np.ndarray, base: np.ndarray) -> np.ndarray:
    """(N, F) float32 in units of the base set's mean and deviation. Without this a scout of some hundred steps hardly moves."""
    deviation = base.std(axis=0)
    return np.asarray((features - base.mean(axis=0)) / np.maximum(deviation, 1e-3 * max(float(deviation.max(initial=0)), 1e-6)), np.float32)


def shortcut_features(bench: Bench, n: int, passes: float, seed: int, runtime: Runtime, stage: str) -> np.ndarray:
    """(N + M, D) float32 of all rows of ``bench``, by a network greedy for shortcuts that was trained on the first ``n`` alone."""
    how = PretrainSettings(steps=max(_LEAST_STEPS, round(passes * n / _BATCH)), lr=_LR, batch=_BATCH)
    network, nobody = bench.network("shortcut", 1.0, seed), torch.empty(0, dtype=torch.long)
    pretrain(network, bench, torch.arange(n), nobody, how, torch.Generator().manual_seed(seed), Ticker(runtime, stage, how.steps))
    return penultimate(network, bench, len(bench.labels))


def beside_labels(features: np.ndarray, bench: Bench) -> np.ndarray:
    """(N, F + C) ``features`` (N, F) and the given labels of ``bench``, one-hot, times two."""
    return np.concatenate([features, 2 * np.eye(bench.classes, dtype=np.float32)[bench.labels.cpu().numpy()]], axis=1)


def whole_set(
    features: np.ndarray,
    base: np.ndarray,
    others: np.ndarray,
    fold: np.ndarray,
    how: ScoutSettings,
    seed: int,
    device: torch.device,
    tick: Callable[[], None],
    told_by: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the inspected ``features`` (N, F) and of ``others`` (M, F): one scout a fold (N,), which sees all samples but that fold's.

    Of each of the others the scout of the fold ``told_by`` (M,) speaks, as of each inspected sample one does; by default all do, and the
    mean is given. Ours: the published scouts see one batch each and start anew for every one.
    """
    x, clean, rest = (torch.from_numpy(np.asarray(a, np.float32)).to(device) for a in (features, base, others))
    out, aside = torch.zeros(len(x)), torch.zeros(len(rest))
    folds = np.unique(fold)
    for f in folds:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, int(f)]).generate_state(1)[0]))
        mine = torch.from_numpy(np.flatnonzero(fold != f))
        if not len(mine):  # one group of near duplicates is all there is
            continue
        scout = _mlp(x.shape[1], how.hidden, generator).to(device)
        optimizer = torch.optim.Adam(scout.parameters(), how.lr)
        for _ in range(how.steps):
            suspects = mine[torch.randint(len(mine), (how.batch,), generator=generator)]
            bases = torch.randint(len(clean), (how.batch,), generator=generator)
            r = scout(torch.cat([x[suspects.to(device)], clean[bases.to(device)]]))[:, 0]
            loss = _loss(r[: how.batch], 1.0, how.loss) + _loss(r[how.batch :], 0.0, how.loss)
            descend(optimizer, loss)
        with torch.inference_mode():
            left = torch.from_numpy(np.flatnonzero(fold == f))
            out[left] = scout(x[left.to(device)])[:, 0].cpu()
            said = scout(rest)[:, 0].cpu()
            aside += said / len(folds) if told_by is None else torch.where(torch.from_numpy(told_by == f), said, 0.0)
        tick()
    return out.numpy(), aside.numpy()


def of_batch(features: Tensor, base: Tensor, how: ScoutSettings, generator: torch.Generator) -> np.ndarray:
    """(b,) logits of a batch's ``features`` (b, F), from a scout of its own trained against ``base`` (b', F): the published form."""
    scout = _mlp(features.shape[1], how.hidden, generator).to(features.device)
    ours, theirs = (torch.optim.Adam(scout.parameters(), how.lr) for _ in range(2))
    for _ in range(how.steps):
        descend(ours, _loss(scout(features)[:, 0], 1.0, how.loss))
        descend(theirs, _loss(scout(base)[:, 0], 0.0, how.loss))
    with torch.inference_mode():
        logits: np.ndarray = scout(features)[:, 0].cpu().numpy()
    return logits


def _mlp(inputs: int, hidden: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLU between them and one output; first weights from ``generator``, as torch's defaults draw them."""
    layers: list[nn.Module] = []
    for width in (*hidden, 1):
        layer = nn.Linear(inputs, width)
        bound = inputs**-0.5
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
        layers += [layer, nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers[:-1])


def _loss(logits: Tensor, mark: float, kind: Literal["bce", "mse"]) -> Tensor:
    target = torch.full_like(logits, mark)
    if kind == "mse":
        return F.mse_loss(torch.sigmoid(logits), target)
    return F.binary_cross_entropy_with_logits(logits, target)
