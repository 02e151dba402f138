"""One change for all samples, optimised until a frozen classifier takes them for the target: what Narcissus and FlowMur have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.attacks.training import batches
from tocsin.data.dataset import Dataset
from tocsin.learning import deterministic, gatherer
from tocsin.runtime import Runtime

Change = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Raw samples (B, ...), the change, and where to draw places from, to what the classifier reads."""


@dataclass(frozen=True)
class Schedule:
    """How the change is optimised."""

    steps: int
    batch: int
    lr: float
    optimizer: Callable[..., torch.optim.Optimizer]


def optimise(
    model: nn.Module, dataset: Dataset, rows: np.ndarray, target: int, start: Tensor, change: Change, how: Schedule, runtime: Runtime
) -> tuple[Tensor, list[float]]:
    """The change, of the shape of ``start`` and as the optimiser left it, and the loss at each step, over the samples ``rows``.

    The weights are frozen; the model stays in the mode it is in. Stops where the gradient is exactly 0.
    """
    device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
    model.requires_grad_(False)
    gather = gatherer(dataset.inputs[rows], device)
    delta = start.to(device).clone().requires_grad_(True)
    optimizer = how.optimizer([delta], how.lr)
    losses: list[float] = []
    with deterministic(device):
        for step, chosen in enumerate(batches(len(rows), how.batch, how.steps, generator)):
            x = change(gather(chosen), delta, generator)
            loss = F.cross_entropy(model(x), torch.full((len(x),), target, device=device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            if delta.grad is None or not delta.grad.any():
                break
            optimizer.step()
            if step % 10 == 9 or step == how.steps - 1:
                runtime.progress("optimising the trigger", (step + 1) / how.steps)
    return delta.detach(), losses


@torch.inference_mode()
def success(model: nn.Module, dataset: Dataset, delta: Tensor, change: Change, target: int, runtime: Runtime) -> float:
    """Share of at most 500 training samples of other classes that ``model`` takes for the target with the change on them."""
    device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
    rows = np.flatnonzero(dataset.labels != target)
    rows = np.random.default_rng(runtime.seed).permutation(rows)[:500]
    hits = 0
    for part in np.array_split(rows, max(1, len(rows) // 250)):
        x = change(torch.from_numpy(np.array(dataset.inputs[part])).to(device), delta.to(device), generator)
        hits += int((model(x).argmax(dim=1) == target).sum())
    return hits / max(1, len(rows))
