"""Adversarial samples by projected gradient descent (PGD), and a network trained against them (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.attacks.training import Standardise, batches, pixels
from tocsin.data.dataset import Dataset
from tocsin.kinds.image import ImageKind
from tocsin.learning import FitSettings, autocast, deterministic, fit, gatherer, one_cycle
from tocsin.networks import Classifier, build_network
from tocsin.runtime import Runtime


class PixelClassifier(nn.Module):
    """A network of `NETWORKS` that takes pixels (B, C, H, W) in [0, 1]."""

    def __init__(self, network: str, scale: Standardise, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        self.scale, self.body = scale, build_network(network, channels, classes, seed)

    @classmethod
    def of(cls, body: Classifier, kind: ImageKind) -> PixelClassifier:
        """With a network that is there already, and the statistics by which it reads pictures."""
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model.scale, model.body = Standardise(kind.mean, kind.std), body
        return model

    def forward(self, x: Tensor) -> Tensor:
        with autocast(x.device):
            logits: Tensor = self.body(self.scale(x).contiguous(memory_format=torch.channels_last))
        return logits.float()


def ordinary(dataset: Dataset, network: str, epochs: int, runtime: Runtime, *, stage: str) -> PixelClassifier:
    """A classifier of all classes of ``dataset``, trained as usual, in eval mode."""
    model = PixelClassifier(network, Standardise.of(dataset), dataset.inputs.shape[3], len(dataset.classes), runtime.seed)
    model.to(runtime.torch_device())
    fit(model.body, dataset.inputs, dataset.labels, ImageKind.of(dataset), FitSettings(epochs=epochs), runtime, stage=stage)
    return model.eval()


@torch.inference_mode()
def accuracy(model: PixelClassifier, dataset: Dataset, runtime: Runtime) -> float:
    """Share of at most 500 samples of ``dataset`` that ``model`` says the labels of."""
    rows = np.random.default_rng(runtime.seed).permutation(len(dataset))[:500]
    guess = model(pixels(torch.from_numpy(np.array(dataset.inputs[rows])).to(runtime.torch_device()))).argmax(dim=1).cpu().numpy()
    return float(np.mean(guess == dataset.labels[rows]))


@dataclass(frozen=True)
class Training:
    """How the network is trained against PGD. Lengths are on the 0..255 scale."""

    steps: int
    batch: int
    lr: float
    bound: float
    pgd_steps: int
    pgd_step: float


def loss_gradient(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Gradient (B, C, H, W) of the summed cross entropy with respect to the pixels."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(x), labels, reduction="sum"), x)
    return gradient


def pgd_linf(network: nn.Module, x: Tensor, labels: Tensor, bound: float, step: float, steps: int, generator: torch.Generator) -> Tensor:
    """Untargeted PGD: pixels no further than ``bound`` from ``x`` each, from a random start; all in [0, 1]."""
    start = (2 * torch.rand(x.shape, generator=generator).to(x.device) - 1) * bound
    moved = (x + start).clamp(0, 1)
    for _ in range(steps):
        moved = moved + step * loss_gradient(network, moved, labels).sign()
        moved = torch.minimum(torch.maximum(moved, x - bound), x + bound).clamp(0, 1)
    return moved


def lengths(changes: Tensor) -> Tensor:
    """(B, 1, 1, 1) L2 length of each of (B, C, H, W)."""
    norms: Tensor = torch.linalg.vector_norm(changes.flatten(1), dim=1)
    return norms[:, None, None, None]


def pgd_l2(network: nn.Module, x: Tensor, labels: Tensor, radius: float, step: float, steps: int) -> Tensor:
    """Untargeted PGD: each sample stays within L2 distance ``radius`` of its own ``x``; all in [0, 1]."""
    moved = x
    for _ in range(steps):
        gradient = loss_gradient(network, moved, labels)
        away = moved + step * gradient / (lengths(gradient) + 1e-12) - x
        # Clipping to [0, 1] brings a pixel nearer to x, so the result is in the ball and in the range.
        moved = (x + away * (radius / (lengths(away) + 1e-12)).clamp(max=1)).clamp(0, 1)
    return moved


def train_robust(dataset: Dataset, network: str, how: Training, runtime: Runtime) -> tuple[PixelClassifier, float]:
    """A ``network`` trained on adversarial samples alone, in eval mode, and its accuracy on those of the last tenth of the steps."""
    device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
    kind = ImageKind.of(dataset)
    model = PixelClassifier(network, Standardise.of(dataset), dataset.inputs.shape[3], len(dataset.classes), runtime.seed).to(device)
    gather, labels = gatherer(dataset.inputs, device), torch.from_numpy(dataset.labels.copy()).to(device)
    optimizer = torch.optim.SGD(model.parameters(), how.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    right: list[float] = []
    with deterministic(device):
        for step, rows in enumerate(batches(len(dataset), how.batch, how.steps, generator)):
            x, y = pixels(kind.augment(gather(rows), generator)), labels[rows.to(device)]
            x = pgd_linf(model.train(), x, y, how.bound / 255, how.pgd_step / 255, how.pgd_steps, generator)
            optimizer.param_groups[0]["lr"] = one_cycle(step, how.steps, how.lr)
            logits = model(x)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step >= how.steps - max(1, how.steps // 10):
                right.append(float((logits.argmax(dim=1) == y).float().mean()))
            if step % 10 == 9 or step == how.steps - 1:
                runtime.progress("training the adversarial network", (step + 1) / how.steps)
    return model.eval(), sum(right) / len(right)
