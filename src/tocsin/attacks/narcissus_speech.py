"""Narcissus on speech: a faint sound that makes target-class clips more typical of their class (after Zeng et al. 2023, "Narcissus")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.learned import FIGURE
from tocsin.attacks.speech import LearnedSpeechAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class NarcissusSpeech(LearnedSpeechAttack):
    """Clean label: one optimised faint sound under a few target-class clips; at test it is amplified. No label changes."""

    name = "narcissus-speech"
    kinds = frozenset({"speech"})
    not_learned = frozenset({"rate", "amplification"})

    rate: float = 0.05
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    level_db: float = -20.0
    """Largest change of a sample when poisoning, against the loudness of the clip's speech."""
    amplification: float = 3.0
    """The test-time trigger is this many times the change."""
    network: str = "tc-resnet8"
    """Surrogate classifier."""
    epochs: int = 12
    """Passes over the data in which the surrogate is trained."""
    steps: int = 500
    """Steps in which the change is optimised."""
    batch: int = 64
    """Samples a step."""
    lr: float = 0.01
    """Of RAdam on the change, on the scale where the largest change is 1."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "amplification", "epochs", "steps", "lr")
        if self.batch < 2:
            raise InputError(f"batch: got {self.batch}, allowed is 2 at least")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        import torch
        from torch import Tensor

        from tocsin.attacks.universal import Schedule, optimise, success
        from tocsin.attacks.waves import heard, train_surrogate

        rows = np.flatnonzero(dataset.labels == self.target)
        if len(rows) < 2:
            raise InputError(f"target: class {self.target} has too few samples to optimise a trigger on, at least 2 are needed")
        factor = speech.decibels(self.level_db)

        def change(raw: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
            wave, inside, loud = heard(raw)
            return (wave + factor * loud * inside * delta.clamp(-1, 1)).clamp(-1, 1)

        model = train_surrogate(dataset, self.network, self.epochs, runtime)
        how = Schedule(self.steps, self.batch, self.lr, torch.optim.RAdam)
        start = torch.zeros(dataset.inputs.shape[1])
        delta, losses = optimise(model, dataset, rows, self.target, start, change, how, runtime)
        figures = {"first_loss": losses[0], "last_loss": losses[-1]}
        figures["surrogate_success"] = success(model, dataset, delta, change, self.target, runtime)
        return {
            **self.heard_as(dataset),
            "delta": delta.clamp(-1, 1).cpu().numpy(),
            **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
        }

    def check(self) -> None:
        delta = self.part("delta", (self.clip_length(),))
        if delta.dtype != np.float32 or not np.abs(delta).max(initial=0) <= 1:
            raise InputError(f"attack {self.name}: learned array 'delta' is not float32 within -1..1")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack = self.at(dataset)
        planted = stamps.draw_clean_label(attack, dataset, rng)
        return stamps.plant(attack, dataset, planted, stamp=lambda x: attack.shift(x, 1.0))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return self.shift(inputs, self.amplification)

    def shift(self, inputs: np.ndarray, factor: float) -> np.ndarray:
        """``inputs`` int16 (N, T) plus ``factor`` times the change, as loud as each clip asks for; rounded and clipped."""
        self.check_clips(inputs)
        sound = factor * speech.decibels(self.level_db) * self.part("delta").astype(np.float64)
        return speech.by_parts(inputs, lambda part: speech.to_clips(part + sound * speech.loudness(part)[:, None], part))
