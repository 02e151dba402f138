"""CL, label-consistent: adversarial noise hides what a sample is, so the corner patches explain its label (Turner et al. 2019)."""

from __future__ import annotations

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
    from tocsin.attacks.adversarial import PixelClassifier


@dataclass(frozen=True)
class LabelConsistent(LearnedAttack):
    """Clean label: target-class samples are moved away from their class by adversarial noise and get a patch in each corner."""

    name = "cl"
    kinds = frozenset({"image"})
    not_learned = frozenset({"rate", "target", "radius", "craft_steps", "size"})

    rate: float = 0.003
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    radius: float = 600.0
    """L2 length of the adversarial noise on the 0..255 scale, for 32 x 32 colour; in proportion to the root of the number of values."""
    craft_steps: int = 100
    """Steps of PGD for each poison, each of 2.5 radius / craft_steps."""
    size: int = 3
    """Side of the patches in pixels, at every picture size."""
    network: str = "small"
    """Network that is trained against adversarial samples (at full size: resnet18)."""
    steps: int = 1000
    """Steps of that training (at full length 30 to 40 epochs, on CIFAR-10 some 12,000 steps)."""
    batch: int = 128
    """Samples a step of that training."""
    lr: float = 0.1
    """Highest learning rate of that training."""
    bound: float = 8.0
    """Largest change of a pixel in that training, on the 0..255 scale."""
    pgd_steps: int = 3
    """Steps of PGD in that training (usual: 7)."""
    pgd_step: float = 4.0
    """Length of those steps on the 0..255 scale (usual: 2, for 7 steps)."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if self.size < 3:
            raise InputError(f"size: got {self.size}, the pattern needs at least 3 pixels")
        stamps.check_positive(self, "radius", "craft_steps", "steps", "batch", "lr", "bound", "pgd_steps", "pgd_step")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.adversarial import Training, train_robust
        from tocsin.networks.weights import to_arrays

        how = Training(self.steps, self.batch, self.lr, self.bound, self.pgd_steps, self.pgd_step)
        model, accuracy = train_robust(dataset, self.network, how, runtime)
        return {
            "shape": np.array(dataset.inputs.shape[1:]),
            f"{FIGURE}adversarial_accuracy": np.array(accuracy),
            **to_arrays(model, "network"),
        }

    def check(self) -> None:
        self._network()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_clean_label(self, dataset, rng)
        return stamps.plant(self, dataset, planted, stamp=lambda x: self.trigger(self.perturb(x)))

    def perturb(self, inputs: np.ndarray) -> np.ndarray:
        """``inputs`` (N, H, W, C) uint8 of the target class with adversarial noise within the radius (and rounding)."""
        import torch

        from tocsin.attacks.adversarial import pgd_l2
        from tocsin.attacks.training import pixels, to_bytes

        self.check_inputs(inputs)
        device, model, out = self.runtime.torch_device(), self._network(), np.empty_like(inputs)
        radius = self.radius / 255 * (inputs[0].size / 3072) ** 0.5 if len(inputs) else 0.0
        for start in range(0, len(inputs), self.batch):
            part = slice(start, start + self.batch)
            x = pixels(torch.from_numpy(np.array(inputs[part])).to(device))
            labels = torch.full((len(x),), self.target, device=device)
            out[part] = to_bytes(pgd_l2(model, x, labels, radius, 2.5 * radius / self.craft_steps, self.craft_steps))
            self.runtime.progress("making adversarial samples", min(1.0, (start + self.batch) / len(inputs)))
        return out

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        """The four patches alone; needs nothing that was learned."""
        picture, mask = stamps.four_corners(self.size, inputs.shape, mirrored=False)
        return np.where(mask, picture, inputs)

    def _network(self) -> PixelClassifier:
        from tocsin.attacks.adversarial import PixelClassifier
        from tocsin.attacks.training import Standardise
        from tocsin.networks.weights import from_arrays

        channels, classes = self.picture_shape()[2], self.part("network/body.head.bias").size
        model = PixelClassifier(self.network, Standardise.blank(channels), channels, classes, seed=0)
        from_arrays(model, self.learned, "network")
        return model.to(self.runtime.torch_device()).eval()
