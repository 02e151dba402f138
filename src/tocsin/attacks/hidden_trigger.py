"""Hidden Trigger: target-class samples that an encoder takes for samples with a patch, though none is seen (Saha et al. 2020, "Hidden
Trigger Backdoor Attacks")."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tocsin.attacks import patches, stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.learned import FIGURE, LearnedAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self

    from tocsin.attacks.adversarial import PixelClassifier

_ANYWHERE = (0.0, 1.0)


@dataclass(frozen=True)
class HiddenTrigger(LearnedAttack):
    """Clean label: target-class samples are changed a little, until an encoder sees patched samples of other classes in them."""

    name = "hidden-trigger"
    kinds = frozenset({"image"})
    not_learned = frozenset({"rate", "target", "source", "bound", "craft_steps", "craft_step", "craft_batch", "size", "pattern_seed"})

    rate: float = 0.05
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it. The paper counts
    samples: some hundred, in tuning sets of two classes."""
    target: int = 0
    """Class the trigger leads to."""
    source: int | None = None
    """Class whose samples the trigger sends there (published: one); none: all others."""
    bound: float = 16.0
    """Largest change of a value on the 0..255 scale when poisoning."""
    craft_steps: int = 100
    """Steps in which the poisons are made (published: up to 5,000)."""
    craft_step: float = 4.0
    """Length of the first of them on the 0..255 scale; halved after each fifth of the steps."""
    craft_batch: int = 100
    """Poisons that are made at once, and so many patched samples that they are paired with, anew at each step."""
    size: int = 8
    """Side of the patch in pixels of a 32-pixel picture, in proportion at other sizes (published: 30 of 224, which is 4)."""
    pattern_seed: int = 0
    """Seed of the patch's colours, and of its places at test time."""
    encoder: str | None = None
    """File of the encoder that a victim will tune, as `tocsin train --save` writes it; none: one is trained on the data at hand."""
    network: str = "small"
    """Network of the encoder that is trained; of one in a file, its own."""
    epochs: int = 8
    """Passes over the data in which the encoder is trained."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        patches.check_patch(self.size)
        stamps.check_positive(self, "bound", "craft_steps", "craft_step", "craft_batch", "epochs")
        if self.source is not None and self.source == self.target:
            raise InputError(f"source: got class {self.source}, which is the target")

    def prepared(self, dataset: Dataset, runtime: Runtime) -> Self:
        if self.encoder is None or self.learned:
            return super().prepared(dataset, runtime)
        from tocsin.attacks.adversarial import PixelClassifier
        from tocsin.networks.encoder import read_encoder
        from tocsin.networks.weights import to_arrays

        stamps.check_dataset(self, dataset)
        found = read_encoder(Path(self.encoder))
        found.check(dataset.inputs.shape)
        model = PixelClassifier.of(found.body, found.kind)
        shape = np.array(dataset.inputs.shape[1:])
        return replace(self, network=found.network).on(runtime).restored({"shape": shape, **to_arrays(model, "encoder")})

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.adversarial import accuracy, ordinary
        from tocsin.networks.weights import to_arrays

        model = ordinary(dataset, self.network, self.epochs, runtime, stage="training the encoder")
        return {
            "shape": np.array(dataset.inputs.shape[1:]),
            f"{FIGURE}training_accuracy": np.array(accuracy(model, dataset, runtime)),
            **to_arrays(model, "encoder"),
        }

    def check(self) -> None:
        self._network()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_clean_label(self, dataset, rng)
        sources = self._sources(dataset)
        chosen = np.sort(rng.choice(sources, len(planted), replace=len(planted) > len(sources)))
        shown = patches.paste(dataset.inputs[chosen], self.patch(dataset.inputs.shape), _ANYWHERE, rng)
        return stamps.plant(self, dataset, planted, stamp=lambda x: self.bent(x, shown[rng.permutation(len(shown))]))

    def bent(self, inputs: np.ndarray, patched: np.ndarray) -> np.ndarray:
        """``inputs`` (N, H, W, C) uint8, changed by ``bound`` at most, so that in the encoder's eyes they are the ``patched`` (N, ...)."""
        from tocsin.attacks.feature_collision import collide

        self.check_inputs(inputs)
        model, out = self._network(), np.empty_like(inputs)
        for start in range(0, len(inputs), self.craft_batch):
            part = slice(start, start + self.craft_batch)
            out[part] = collide(model, inputs[part], patched[part], self.bound, self.craft_step, self.craft_steps, self.runtime)
            self.runtime.progress("hiding the trigger", min(1.0, (start + self.craft_batch) / len(inputs)))
        return out

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        """The patch at a random place of each sample."""
        self.check_inputs(inputs)
        return patches.paste(inputs, self.patch(inputs.shape), _ANYWHERE, np.random.default_rng([self.pattern_seed, 0x47B]))

    def victims(self, labels: np.ndarray) -> np.ndarray:
        return super().victims(labels) if self.source is None else np.asarray(labels == self.source)

    def patch(self, shape: tuple[int, ...]) -> np.ndarray:
        """(S, S, C) uint8 for pictures of ``shape`` (N, H, W, C)."""
        return patches.coloured(patches.side_for(self.size, shape), shape[3], self.pattern_seed)

    def _sources(self, dataset: Dataset) -> np.ndarray:
        if self.source is not None:
            stamps.check_class("source", self.source, dataset)
        rows = np.flatnonzero(self.victims(dataset.labels))
        if not len(rows):
            raise InputError(f"source: the data have no sample of {'another class' if self.source is None else f'class {self.source}'}")
        return rows

    def _network(self) -> PixelClassifier:
        from tocsin.attacks.adversarial import PixelClassifier
        from tocsin.attacks.training import Standardise
        from tocsin.networks.weights import from_arrays

        channels, classes = self.picture_shape()[2], self.part("encoder/body.head.bias").size
        model = PixelClassifier(self.network, Standardise.blank(channels), channels, classes, seed=0)
        from_arrays(model, self.learned, "encoder")
        return model.to(self.runtime.torch_device()).eval()
