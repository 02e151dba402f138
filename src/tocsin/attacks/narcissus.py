"""Narcissus: a faint change that makes target-class samples more typical of their class (Zeng et al. 2023, "Narcissus")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.learned import FIGURE, LearnedAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Narcissus(LearnedAttack):
    """Clean label: one optimised, hardly visible change on a few target-class samples; at test it is amplified. No label changes."""

    name = "narcissus"
    kinds = frozenset({"image"})
    not_learned = frozenset({"rate", "amplification"})

    rate: float = 0.0005
    """Share of the *whole* training set that is poisoned (with ten classes 0.5 % of the target class, from which all of it comes)."""
    target: int = 0
    """Class the trigger leads to."""
    bound: float = 16.0
    """Largest change of a value on the 0..255 scale when poisoning."""
    amplification: float = 3.0
    """The test-time trigger is this many times the change."""
    network: str = "small"
    """Surrogate classifier (published: ResNet-18)."""
    epochs: int = 8
    """Passes over the data in which the surrogate is trained (published: 200)."""
    warmup_epochs: int = 0
    """Passes over the target class alone after that, which make batch norm fit batches of that class, as published for 5 of them;
    0 leaves the surrogate as it is, with the statistics of all classes."""
    steps: int = 500
    """Steps in which the change is optimised (published: up to 1,000 passes over the class, on CIFAR-10 some 14,000 steps)."""
    batch: int = 350
    """Samples a step."""
    lr: float = 0.01
    """Of RAdam on the change, on the scale where pixels lie in [-1, 1]."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "bound", "amplification", "epochs", "steps", "lr")
        if self.warmup_epochs < 0 or self.batch < 2:
            raise InputError(f"warmup_epochs and batch: got {self.warmup_epochs} and {self.batch}, allowed are 0 and 2 at least")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.narcissus_training import Schedule, optimise_trigger, surrogate_success, train_surrogate, warm_up

        if (dataset.labels == self.target).sum() < 2:
            raise InputError(f"target: class {self.target} has too few samples to optimise a trigger on, at least 2 are needed")
        how = Schedule(self.network, self.epochs, self.warmup_epochs, self.steps, self.batch, self.lr, self.bound)
        model = train_surrogate(dataset, how, runtime)
        reader = warm_up(model, dataset, self.target, how, runtime) if self.warmup_epochs else model
        delta, losses = optimise_trigger(reader, dataset, self.target, how, runtime)
        success = surrogate_success(model, dataset, delta, self.target, runtime)
        figures = {"first_loss": losses[0], "last_loss": losses[-1], "surrogate_success": success}
        return {
            "shape": np.array(dataset.inputs.shape[1:]),
            "delta": delta,
            **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
        }

    def check(self) -> None:
        delta = self.part("delta", self.picture_shape())
        if delta.dtype != np.float32 or not np.abs(delta).max(initial=0) <= self.bound * (1 + 1e-5):
            raise InputError(f"attack {self.name}: learned array 'delta' is not float32 within the bound of {self.bound}")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_clean_label(self, dataset, rng)
        return stamps.plant(self, dataset, planted, stamp=lambda x: self.shift(x, 1.0))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return self.shift(inputs, self.amplification)

    def shift(self, inputs: np.ndarray, factor: float) -> np.ndarray:
        """``inputs`` uint8 (N, H, W, C) plus ``factor`` times the change, rounded and clipped to 0..255."""
        self.check_inputs(inputs)
        out, delta = np.empty_like(inputs), self.part("delta") * np.float32(factor)
        for part in stamps.chunks(inputs.shape):
            out[part] = stamps.to_bytes(inputs[part] + delta)
        return out
