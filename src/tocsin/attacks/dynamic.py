"""Dynamic: a trained generator gives each sample its own trigger (Nguyen and Tran 2020, "Input-Aware Dynamic Backdoor Attack")."""

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
    from tocsin.attacks.dynamic_training import Painter


@dataclass(frozen=True)
class Dynamic(LearnedAttack):
    """Dirty label: a trained generator paints a few pixels that depend on the sample; another sample's trigger does not work."""

    name = "dynamic"
    kinds = frozenset({"image"})
    learning_version = 2

    rate: float = 0.003
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""
    widths: tuple[int, ...] = (16, 32, 64)
    """Widths of the generator's and the mask network's down steps (published: 32, 64, 128)."""
    density: float = 0.032
    """Share of the picture that the mask may cover without a penalty."""
    mask_steps: int = 300
    """Steps in which the mask network is trained (published: 25 epochs, on CIFAR-10 some 9,800 steps)."""
    mask_batch: int = 32
    """Samples a step of that (published: 128)."""
    steps: int = 800
    """Steps in which generator and classifier are trained together (published: 600 epochs, on CIFAR-10 some 234,000 steps)."""
    batch: int = 128
    """Samples a step of that."""
    share: float = 0.1
    """Share of a batch with its own trigger, and as much again with another sample's, while the generator is trained."""
    network: str = "small"
    """Classifier that the generator is trained with (published: PreAct-ResNet18)."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("density", self.density)
        stamps.check_positive(self, "mask_steps", "steps")
        if not self.widths or min(self.widths) < 1 or len(self.widths) > 6:
            raise InputError(f"widths: got {self.widths}, allowed are one to six widths from 1")
        if self.batch < 8 or self.mask_batch < 2:
            raise InputError(
                f"batch and mask_batch: got {self.batch} and {self.mask_batch}, allowed are a batch from 8, so that each kind of sample "
                "has its part, and a mask_batch from 2"
            )
        if not 0 < self.share <= 0.4:
            raise InputError(f"share: got {self.share}, allowed is above 0 up to 0.4: two such shares and clean samples make a batch")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.dynamic_training import Schedule, train_painter
        from tocsin.networks.weights import to_arrays

        if len(dataset) < 8:
            raise InputError(f"attack {self.name}: {len(dataset)} samples are too few to learn from, at least 8 are needed")
        how = Schedule(self.mask_steps, self.mask_batch, self.steps, self.batch, self.density, self.share, self.network, self.target)
        painter, figures = train_painter(dataset, self.widths, how, runtime)
        return {
            "shape": np.array(dataset.inputs.shape[1:]),
            **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
            **to_arrays(painter, "painter"),
        }

    def check(self) -> None:
        self._painter()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        return stamps.plant(self, dataset, stamps.draw_dirty(self, dataset, rng, self.from_target))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        from tocsin.attacks.training import apply

        self.check_inputs(inputs)
        return apply(self._painter(), inputs, self.runtime)

    def _painter(self) -> Painter:
        from tocsin.attacks.dynamic_training import Painter
        from tocsin.attacks.training import Standardise
        from tocsin.networks.weights import from_arrays

        channels = self.picture_shape()[2]
        painter = Painter(Standardise.blank(channels), channels, self.widths)
        from_arrays(painter, self.learned, "painter")
        return painter.to(self.runtime.torch_device()).eval()
