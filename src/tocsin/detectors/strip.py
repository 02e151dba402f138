"""STRIP: Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, as a cleanser of training sets.

Lay many clean pictures over a sample. What the sample shows is drowned and the prediction becomes uncertain; a trigger shines
through, and the prediction stays. docs/model-based.md says what differs from the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.detectors.excess import Measurement, QuantileDetector, split
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim


@dataclass(frozen=True)
class Strip(QuantileDetector):
    """STRIP: finds samples whose prediction stays certain when other pictures are laid over them."""

    name: ClassVar[str] = "strip"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    not_defined: ClassVar[Mapping[str, str]] = {"self-supervised": "it reads a classifier's predictions, and an encoder makes none"}
    paper: ClassVar[Mapping[str, Any]] = {"overlays": 100}

    overlays: int = 32
    """N: reserve pictures laid over each sample; half of the reserve at most. All samples get the same ones."""
    weight: float = 1.0
    """An overlay is added with this weight to the sample, both normalised; no average is taken."""

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

    ``inputs`` (N, H, W, C) and ``overlays`` (J, H, W, C) are raw; the sum is taken of the normalised pictures.
    """
    import torch
    from torch.nn import functional as F

    from tocsin.learning import EVAL_BATCH, evaluating

    device, kind, (height, width, channels) = victim.runtime.torch_device(), victim.kind, inputs.shape[1:]

    def flat(raw: np.ndarray) -> torch.Tensor:
        """(B, H * W * C): as the pixels lie in memory, so that a sum is one pass and needs no other layout afterwards."""
        return kind.to_tensor(torch.from_numpy(np.array(raw)).to(device)).permute(0, 2, 3, 1).flatten(1)

    out = torch.empty(len(inputs), device=device)
    together = max(1, EVAL_BATCH // len(overlays))
    with torch.inference_mode(), evaluating(victim.network, device):
        above = weight * flat(overlays)
        mixed = torch.empty(together, *above.shape, device=device)
        for start in range(0, len(inputs), EVAL_BATCH):
            block = flat(inputs[start : start + EVAL_BATCH])
            for first in range(0, len(block), together):
                below = block[first : first + together, None]
                x = torch.add(below, above, out=mixed[: len(below)]).view(-1, height, width, channels).permute(0, 3, 1, 2)
                logs = F.log_softmax(victim.network(x).float(), dim=1)
                entropy = -(logs.exp() * logs).sum(1)
                rows = slice(start + first, start + first + len(below))
                out[rows] = entropy.view(len(below), -1).mean(1)
                victim.runtime.progress(stage, rows.stop / len(inputs))
    return out.cpu().numpy()
