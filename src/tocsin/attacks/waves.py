"""What the attacks on speech that learn share: a classifier of waveforms through which gradients reach every sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.data.dataset import Dataset
from tocsin.kinds.speech import SpeechKind, unit
from tocsin.learning import autocast, fit, usual_settings
from tocsin.networks import build_network
from tocsin.runtime import Runtime


class WaveClassifier(nn.Module):
    """A network of `NETWORKS` behind the front end of its kind: takes clips (B, T) in -1..1."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: str, rate_hz: int, classes: int, seed: int, mean: float = 0.0, std: float = 1.0) -> None:
        """``mean`` and ``std`` of the log-mel values; where weights are restored they come with those."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.kind, self.body = SpeechKind(rate_hz, 0.0, 1.0), build_network(network, 1, classes, seed)

    def seen(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate features (B, F) and logits (B, classes) of ``clips`` (B, T), float32."""
        own = self.body.reads == "waves"
        return self.heard(self.kind.waves(clips) if own else self.kind.to_tensor(clips))

    def heard(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same of what its kind makes of the clips: log-mel values (B, 1, mels, T), not yet standardised, or waves."""
        with autocast(x.device):
            features = self.body.features(x if self.body.reads == "waves" else (x - self.mean) / self.std)
            logits: Tensor = self.body.head(features)
        return features.float(), logits.float()

    def forward(self, clips: Tensor) -> Tensor:
        return self.seen(clips)[1]


def train_surrogate(dataset: Dataset, network: str, epochs: int, runtime: Runtime) -> WaveClassifier:
    """A classifier of all classes of ``dataset``, in eval mode on the runtime's device."""
    kind = SpeechKind.of(dataset)
    model = WaveClassifier(network, kind.rate, len(dataset.classes), runtime.seed, kind.mean, kind.std).to(runtime.torch_device())
    how = replace(usual_settings(network), epochs=epochs)
    fit(model.body, dataset.inputs, dataset.labels, kind, how, runtime, stage="training the surrogate")
    return model.eval()


def heard(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of clips int16 (B, T): waves in -1..1, their `speech.inside` (B, T) bool, and their `speech.loudness` (B, 1) on that scale."""
    on = raw != 0
    begun, over = on.cumsum(1) > 0, on.flip(1).cumsum(1).flip(1) == 0
    inside = (begun & ~over) | ~on.any(1, keepdim=True)
    wave = unit(raw)
    power = wave.square().sum(1, keepdim=True) / inside.sum(1, keepdim=True)
    return wave, inside, power.clamp(min=1 / 32768**2).sqrt()


def pgd(model: nn.Module, raw: Tensor, labels: Tensor, level_db: float, steps: int) -> Tensor:
    """Clips int16 (B, T) moved away from ``labels``: waves in -1..1, no sample of which moved by more than the bound.

    The bound is ``level_db`` against the loudness of the clip; untargeted projected gradient descent, steps of 2.5 bound / steps.
    """
    wave, inside, loud = heard(raw)
    bound = loud * 10 ** (level_db / 20) * inside
    change = torch.zeros_like(wave)
    for _ in range(steps):
        moved = (wave + change).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(moved), labels, reduction="sum"), moved)
        change = torch.minimum(torch.maximum(change + 2.5 / steps * bound * gradient.sign(), -bound), bound)
    return (wave + change).clamp(-1, 1)


def confidences(model: nn.Module, clips: np.ndarray, label: int, runtime: Runtime, batch: int = 256) -> np.ndarray:
    """(N,) float32: the probability that ``model`` gives ``label`` for each clip int16 (N, T)."""
    parts, device = [np.empty(0, np.float32)], runtime.torch_device()
    with torch.inference_mode():
        for start in range(0, len(clips), batch):
            raw = torch.from_numpy(np.array(clips[start : start + batch])).to(device)
            parts.append(model(unit(raw)).softmax(1)[:, label].cpu().numpy())
    return np.concatenate(parts)
