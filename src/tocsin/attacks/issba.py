"""ISSBA: a few secret bits, hidden in each sample by a trained encoder (Li et al. 2021, "Invisible ... Sample-Specific Triggers")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.learned import FIGURE, LearnedAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from tocsin.attacks.issba_training import Stamper


@dataclass(frozen=True)
class Issba(LearnedAttack):
    """Dirty label: an encoder network hides the same bits in each sample, as a faint change that differs from sample to sample."""

    name = "issba"
    kinds = frozenset({"image"})
    not_learned = frozenset({"rate", "target", "from_target"})
    learning_version = 3

    rate: float = 0.02
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""
    bits: int = 20
    """Length of the secret, which is drawn with the seed."""
    width: int = 16
    """Of the first convolution of encoder and decoder; the others are multiples of it (published: 32)."""
    secret_steps: int = 400
    """First steps, in which only reading the bits counts (published: 2 epochs, on CIFAR-10 some 3,100 steps)."""
    steps: int = 1200
    """All steps of the training (published: 20 epochs, on CIFAR-10 some 31,000 steps)."""
    batch: int = 32
    """Samples a step."""
    lr: float = 0.001
    """Of Adam, with momentum 0.5 (published: 0.0001 and 0.9, for the longer training)."""
    secret_weight: float = 1.5
    """Of the cross entropy of the bits."""
    residual_weight: float = 0.2
    """Of the mean square of the change (published: 2, in a longer training). Here 2 gives 39 dB, which a small victim does not learn; 0.2
    gives 29 dB."""
    likeness_weight: float = 0.05
    """Of 1 - SSIM, which stands for LPIPS (published: 1.5 of that, which needs a pretrained network)."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "bits", "width", "steps", "lr", "secret_weight")
        if min(self.residual_weight, self.likeness_weight) < 0 or self.secret_steps < 0:
            raise InputError("residual_weight, likeness_weight and secret_steps: allowed is from 0")
        if self.batch < 2:
            raise InputError(f"batch: got {self.batch}, allowed is from 2")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.issba_training import Schedule, train_encoder
        from tocsin.networks.weights import to_arrays

        weights = (self.secret_weight, self.residual_weight, self.likeness_weight)
        how = Schedule(self.steps, self.secret_steps, self.batch, self.lr, weights)
        encoder, figures = train_encoder(dataset, self.bits, self.width, how, runtime)
        return {
            "shape": np.array(dataset.inputs.shape[1:]),
            "secret": np.random.default_rng([runtime.seed, 0x155B]).integers(0, 2, self.bits).astype(np.uint8),
            **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
            **to_arrays(encoder, "encoder"),
        }

    def check(self) -> None:
        self._stamper()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_dirty(self, dataset, rng, self.from_target))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        from tocsin.attacks.training import apply

        self.check_inputs(inputs)
        return apply(self._stamper(), inputs, self.runtime)

    def _stamper(self) -> Stamper:
        import torch

        from tocsin.attacks.issba_training import Stamper
        from tocsin.networks.steganography import SecretEncoder, secret_plane
        from tocsin.networks.weights import from_arrays

        # Before a network of that size is made: the shape may come from a file of somebody else.
        self.part("encoder/secret.weight", (math.prod(secret_plane(self.picture_shape())), self.bits))
        encoder = SecretEncoder(self.bits, self.picture_shape(), self.width)
        from_arrays(encoder, self.learned, "encoder")
        secret = torch.from_numpy(np.array(self.part("secret", (self.bits,)) > 0, np.float32))
        return Stamper(encoder, secret).to(self.runtime.torch_device()).eval()
