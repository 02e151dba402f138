"""STRIP: Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, as a cleanser of training sets.

Lay many clean pictures over a sample, or mix many clean clips with it. What the sample shows is drowned and the prediction becomes
uncertain; a trigger shines through, and the prediction stays. docs/model-based.md says what differs from the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.detectors.excess import Measurement, QuantileDetector, split
from tocsin.errors import InputError

if TYPE_CHECKING:
    import torch

    from tocsin.detectors.victim import Victim

    Ways = tuple[Callable[[np.ndarray], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
    """Raw samples to what is added up, (B, D) float32; and such sums to what the network reads."""


@dataclass(frozen=True)
class Strip(QuantileDetector):
    """STRIP: finds samples whose prediction stays certain when other samples are laid over them."""

    name: ClassVar[str] = "strip"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})
    not_defined: ClassVar[Mapping[str, str]] = {"self-supervised": "it reads a classifier's predictions, and an encoder makes none"}
    paper: ClassVar[Mapping[str, Any]] = {"overlays": 100}

    overlays: int = 32
    """N: reserve samples laid over each sample; half of the reserve at most. All samples get the same ones."""
    weight: float = 1.0
    """An overlay is added with this weight to the sample, both normalised pictures or both waveforms; no average is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlays < 1 or not 0 < self.weight < math.inf:
            raise InputError(f"overlays {self.overlays}, weight {self.weight}: allowed are overlays from 1 and a weight above 0")

    def score(self, victim: Victim) -> Measurement:
        """Scores are the negative mean entropy in nats, so that certain is high. Overlays and control are different reserve samples."""
        began = time.monotonic()
        overlays, held_out = split(victim.reserve, (self.overlays,), np.random.default_rng([victim.runtime.seed, 0x57]), self.name)
        control = entropies(victim, held_out.inputs, overlays.inputs, self.weight, "STRIP: reserve")
        scores = entropies(victim, victim.train.inputs, overlays.inputs, self.weight, "STRIP: superimposing")
        return Measurement(
            -scores,
            -control,
            held_out.labels,
            evidence={"overlays": len(overlays)},
            timings={"superimposing": time.monotonic() - began},
        )


def entropies(victim: Victim, inputs: np.ndarray, overlays: np.ndarray, weight: float, stage: str) -> np.ndarray:
    """(N,) float32: mean over the overlays u of the entropy of softmax f(x + weight u), in nats.

    ``inputs`` (N, H, W, C) or clips (N, T) and as many ``overlays`` (J, ...) as one likes are raw. The sum is taken of normalised pictures,
    or of waveforms in -1..1, of which it may leave that range: nothing is clipped.
    """
    import torch
    from torch.nn import functional as F

    from tocsin.learning import EVAL_BATCH, evaluating

    device = victim.runtime.torch_device()
    flat, read = _sounds(victim, device) if inputs.ndim == 2 else _pictures(victim, device, inputs.shape[1:])
    out = torch.empty(len(inputs), device=device)
    together = max(1, EVAL_BATCH // len(overlays))
    with torch.inference_mode(), evaluating(victim.network, device):
        above = weight * flat(overlays)
        mixed = torch.empty(together, *above.shape, device=device)
        for start in range(0, len(inputs), EVAL_BATCH):
            block = flat(inputs[start : start + EVAL_BATCH])
            for first in range(0, len(block), together):
                below = block[first : first + together, None]
                x = read(torch.add(below, above, out=mixed[: len(below)]).flatten(0, 1))
                logs = F.log_softmax(victim.network(x).float(), dim=1)
                entropy = -(logs.exp() * logs).sum(1)
                rows = slice(start + first, start + first + len(below))
                out[rows] = entropy.view(len(below), -1).mean(1)
                victim.runtime.progress(stage, rows.stop / len(inputs))
    return out.cpu().numpy()


def _pictures(victim: Victim, device: torch.device, shape: tuple[int, ...]) -> Ways:
    """Pixels as they lie in memory, (B, H * W * C), so that a sum is one pass and needs no other layout afterwards."""
    import torch

    height, width, channels = shape

    def flat(raw: np.ndarray) -> torch.Tensor:
        return victim.kind.to_tensor(torch.from_numpy(np.array(raw)).to(device)).permute(0, 2, 3, 1).flatten(1)

    return flat, lambda mixed: mixed.view(-1, height, width, channels).permute(0, 3, 1, 2)


def _sounds(victim: Victim, device: torch.device) -> Ways:
    """Waveforms (B, T): sounds add up in the air, before anything is made of them."""
    import torch

    from tocsin.kinds.speech import unit
    from tocsin.learning import tensor_for

    return lambda raw: unit(torch.from_numpy(np.array(raw)).to(device)), partial(tensor_for, victim.network, victim.kind)
