"""What Narcissus trains: a surrogate classifier, and the small universal change that makes samples look most like the target class."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from tocsin.attacks import universal
from tocsin.attacks.adversarial import PixelClassifier, ordinary
from tocsin.attacks.training import batches, pixels
from tocsin.data.dataset import Dataset
from tocsin.kinds.image import ImageKind
from tocsin.learning import deterministic, gatherer
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Schedule:
    """How the surrogate is trained, and how the trigger is optimised on it."""

    network: str
    epochs: int
    warmup_epochs: int
    steps: int
    batch: int
    lr: float
    bound: float


def train_surrogate(dataset: Dataset, how: Schedule, runtime: Runtime) -> PixelClassifier:
    """A classifier of all classes of ``dataset``, in eval mode."""
    return ordinary(dataset, how.network, how.epochs, runtime, stage="training the surrogate")


def warm_up(surrogate: PixelClassifier, dataset: Dataset, target: int, how: Schedule, runtime: Runtime) -> PixelClassifier:
    """A copy of the surrogate tuned on samples of the target class alone, in train mode, as which it is used (the paper's poi-warm-up)."""
    model, kind, device = copy.deepcopy(surrogate).train(), ImageKind.of(dataset), runtime.torch_device()
    rows = np.flatnonzero(dataset.labels == target)
    gather, generator = gatherer(dataset.inputs[rows], device), torch.Generator().manual_seed(runtime.seed)
    optimizer = torch.optim.RAdam(model.parameters(), 0.1)
    steps = how.warmup_epochs * -(-len(rows) // how.batch)
    with deterministic(device):
        for step, chosen in enumerate(batches(len(rows), how.batch, steps, generator)):
            x = pixels(kind.augment(gather(chosen), generator))
            loss = F.cross_entropy(model(x), torch.full((len(x),), target, device=device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            runtime.progress("warming up on the target class", (step + 1) / steps)
    return model


def optimise_trigger(
    model: PixelClassifier, dataset: Dataset, target: int, how: Schedule, runtime: Runtime
) -> tuple[np.ndarray, list[float]]:
    """(H, W, C) float32 on the 0..255 scale, each value within ``how.bound``, and the loss at each step.

    The weights are frozen; the model stays in the mode it is in. Stops where the gradient is exactly 0.
    """
    height, width, channels = dataset.inputs.shape[1:]
    # The published scale is [-1, 1]: the step length of RAdam belongs to it.
    bound = how.bound / 127.5
    schedule = universal.Schedule(how.steps, how.batch, how.lr, torch.optim.RAdam)
    rows, start = np.flatnonzero(dataset.labels == target), torch.zeros((1, channels, height, width))
    change = lambda raw, delta, _: (pixels(raw) + delta.clamp(-bound, bound) / 2).clamp(0, 1)  # noqa: E731
    delta, losses = universal.optimise(model, dataset, rows, target, start, change, schedule, runtime)
    found = delta.clamp(-bound, bound)[0].permute(1, 2, 0).cpu().numpy() * 127.5
    return np.asarray(found, np.float32), losses


def surrogate_success(model: PixelClassifier, dataset: Dataset, delta: np.ndarray, target: int, runtime: Runtime) -> float:
    """Share of at most 500 training samples of other classes that the surrogate takes for the target with ``delta`` on them."""
    change = lambda raw, delta, _: (pixels(raw) + delta).clamp(0, 1)  # noqa: E731
    return universal.success(model, dataset, torch.from_numpy(delta).permute(2, 0, 1) / 255, change, target, runtime)
