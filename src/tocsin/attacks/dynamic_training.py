"""What the Dynamic attack trains: a mask network that says where, and a generator that says what, to paste on each sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.attacks.adversarial import PixelClassifier
from tocsin.attacks.training import Standardise, batches, pixels
from tocsin.data.dataset import Dataset
from tocsin.kinds.image import ImageKind
from tocsin.learning import autocast, deterministic, gatherer, one_cycle
from tocsin.networks.encoder_decoder import EncoderDecoder
from tocsin.runtime import Runtime

_MASK_DROPS = (10 / 25, 20 / 25)  # where the published schedules divide the learning rate by ten
_GENERATOR_LR, _CLASSIFIER_LR = 1e-2, 0.1  # at the top of the cycle


@dataclass(frozen=True)
class Schedule:
    """How long and on how much the networks are trained."""

    mask_steps: int
    mask_batch: int
    steps: int
    batch: int
    density: float
    share: float
    network: str
    target: int


class Painter(nn.Module):
    """The two networks together. Pixels (B, C, H, W) in [0, 1] come in and go out."""

    def __init__(self, scale: Standardise, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = scale
        self.generator, self.masker = EncoderDecoder(channels, channels, widths), EncoderDecoder(channels, 1, widths)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def pattern(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in (0, 1): what is pasted on each sample."""
        pattern: Tensor = self.generator(self.scale(x))
        return pattern

    def mask(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) in (0, 1), nearly all of it close to 0 or 1: where it is pasted."""
        return torch.tanh(20 * self.masker(self.scale(x)) - 10) / (2 + 1e-7) + 0.5

    def paste(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """``x`` with the trigger of ``source``, which is ``x`` itself at an attack and another sample at a cross trigger."""
        source = x if source is None else source
        return x + (self.pattern(source) - x) * self.mask(source)

    def forward(self, x: Tensor) -> Tensor:
        return self.paste(x)


def diversity(first: Tensor, second: Tensor, of_first: Tensor, of_second: Tensor) -> Tensor:
    """Mean of rms(first - second) / rms(of_first - of_second): small where different samples get different triggers."""
    return (rms(first - second) / (rms(of_first - of_second) + 1e-7)).mean()


def rms(values: Tensor) -> Tensor:
    """(B,) root mean square of each of (B, C, H, W)."""
    return values.square().mean(dim=(1, 2, 3)).sqrt()


def train_painter(dataset: Dataset, widths: tuple[int, ...], how: Schedule, runtime: Runtime) -> tuple[Painter, dict[str, float]]:
    """The trained networks in eval mode, and how well they do on the classifier they were trained with."""
    device, channels = runtime.torch_device(), dataset.inputs.shape[3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed)
        painter = Painter(Standardise.of(dataset), channels, widths).to(device)
    classifier = PixelClassifier(how.network, Standardise.of(dataset), channels, len(dataset.classes), runtime.seed).to(device)
    with deterministic(device):
        train_masker(painter, dataset, how, runtime)
        train_generator(painter, classifier, dataset, how, runtime)
    painter.eval().requires_grad_(False)
    return painter, figures(painter, classifier.eval(), dataset, how.target, runtime)


def train_masker(painter: Painter, dataset: Dataset, how: Schedule, runtime: Runtime) -> list[float]:
    """Trains the masks to cover no more than ``how.density`` and to differ between samples; the loss at each step."""
    painter.masker.train()
    optimizer = torch.optim.Adam(painter.masker.parameters(), 1e-2, betas=(0.5, 0.9))
    schedule = _drops(optimizer, _MASK_DROPS, how.mask_steps)
    losses: list[float] = []
    for step, (x1, _, x2) in enumerate(_pairs(dataset, how.mask_batch, how.mask_steps, runtime)):
        with autocast(x1.device):
            m1, m2 = painter.mask(x1), painter.mask(x2)
        loss = 100 * F.relu(m1 - how.density).mean() + diversity(painter.scale(x1), painter.scale(x2), m1, m2)
        _descend(loss, optimizer)
        schedule.step()
        losses.append(float(loss.detach()))
        _report(runtime, "training the trigger's mask", step, how.mask_steps)
    return losses


def train_generator(painter: Painter, classifier: PixelClassifier, dataset: Dataset, how: Schedule, runtime: Runtime) -> list[float]:
    """Trains generator and classifier together, the masks fixed; the loss at each step.

    Of each batch a share gets its own trigger and the target's label, as much gets another sample's trigger and keeps its label.
    """
    painter.masker.eval().requires_grad_(False)
    painter.generator.train(), classifier.train()
    generator = torch.optim.Adam(painter.generator.parameters(), _GENERATOR_LR, betas=(0.5, 0.9))
    learner = torch.optim.SGD(classifier.parameters(), _CLASSIFIER_LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    losses: list[float] = []
    for step, (x1, labels, x2) in enumerate(_pairs(dataset, how.batch, how.steps, runtime)):
        count = max(2, int(how.share * len(x1)))
        own, cross = slice(0, count), slice(count, 2 * count)
        with autocast(x1.device):
            pattern = painter.pattern(x1[own])
            attacked = x1[own] + (pattern - x1[own]) * painter.mask(x1[own])
            crossed = painter.paste(x1[cross], x2[cross])
            other = painter.pattern(x2[own])
        # As published, a tenth of the rate from a sixth of so few steps on, the classifier would learn nothing of the samples.
        generator.param_groups[0]["lr"] = one_cycle(step, how.steps, _GENERATOR_LR)
        learner.param_groups[0]["lr"] = one_cycle(step, how.steps, _CLASSIFIER_LR)
        wanted = torch.cat([torch.full_like(labels[own], how.target), labels[count:]])
        logits = classifier(torch.cat([attacked, crossed, x1[2 * count :]]))
        loss = F.cross_entropy(logits, wanted) + diversity(x1[own], x2[own], pattern, other)
        _descend(loss, generator, learner)
        losses.append(float(loss.detach()))
        _report(runtime, "training the trigger's generator", step, how.steps)
    return losses


@torch.inference_mode()
def figures(painter: Painter, classifier: PixelClassifier, dataset: Dataset, target: int, runtime: Runtime) -> dict[str, float]:
    """On at most 500 training samples: share sent to the target by their own trigger, share kept right under another's trigger."""
    device = runtime.torch_device()
    rows = np.random.default_rng(runtime.seed).permutation(len(dataset))[:500]
    own = cross = others = 0
    for part in np.array_split(rows, max(1, len(rows) // 250)):
        x, labels = pixels(torch.from_numpy(np.array(dataset.inputs[part])).to(device)), torch.from_numpy(dataset.labels[part]).to(device)
        victims = labels != target
        own += int((classifier(painter.paste(x)).argmax(dim=1) == target)[victims].sum())
        cross += int((classifier(painter.paste(x, x.roll(1, dims=0))).argmax(dim=1) == labels).sum())
        others += int(victims.sum())
    return {"attack": own / max(1, others), "cross": cross / max(1, len(rows))}


def _pairs(dataset: Dataset, batch: int, steps: int, runtime: Runtime) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """``steps`` times pixels (B, C, H, W), their labels (B,), and pixels of an independent batch; cropped at random."""
    device, kind = runtime.torch_device(), ImageKind.of(dataset)
    gather, labels = gatherer(dataset.inputs, device), torch.from_numpy(dataset.labels.copy()).to(device)
    generator, second = torch.Generator().manual_seed(runtime.seed), torch.Generator().manual_seed(runtime.seed + 1)
    orders = batches(len(dataset), batch, steps, generator), batches(len(dataset), batch, steps, second)
    for rows, others in zip(*orders, strict=True):
        x1, x2 = (pixels(kind.augment(gather(r), generator)) for r in (rows, others))
        yield x1, labels[rows.to(device)], x2


def _drops(optimizer: torch.optim.Optimizer, shares: tuple[float, ...], steps: int) -> torch.optim.lr_scheduler.MultiStepLR:
    """The learning rate divided by ten after each of these shares of the steps."""
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [max(1, round(share * steps)) for share in shares], 0.1)


def _descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()


def _report(runtime: Runtime, stage: str, step: int, steps: int) -> None:
    if step % 10 == 9 or step == steps - 1:
        runtime.progress(stage, (step + 1) / steps)
