"""FlowMur: a short optimised sound that works wherever it is put (Lan et al. 2024, "FlowMur: ... Audio Backdoor Attack")."""

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
class FlowMur(LearnedSpeechAttack):
    """Clean label: half a second of optimised sound, somewhere in target-class clips; at test it is louder. No label changes."""

    name = "flowmur"
    kinds = frozenset({"speech"})
    not_learned = frozenset({"rate", "test_snr_db", "position_seed"})

    rate: float = 0.05
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    seconds: float = 0.5
    """Length of the sound (published: 0.5)."""
    bound: float = 0.2
    """Largest value of the sound on the scale of -1..1 as it is optimised (published: 0.2)."""
    snr_db: float = 30.0
    """Loudness of a clip against that of the sound, when optimising and when poisoning (published: 30)."""
    test_snr_db: float = 10.0
    """The same at test. The published test code adds the sound as it is and halves the sum, which is much louder than 30 dB."""
    network: str = "tc-resnet8"
    """Surrogate classifier (published: small and large CNN, RNN, ResNet)."""
    epochs: int = 12
    """Passes over the data in which the surrogate is trained."""
    steps: int = 500
    """Steps in which the sound is optimised (published: up to 1,000 passes over 5,000 clips)."""
    batch: int = 64
    """Samples a step."""
    lr: float = 0.001
    """Of Adam on the sound."""
    position_seed: int = 0
    """Together with the samples of a clip it decides where in its speech the sound lies."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "seconds", "epochs", "steps", "lr")
        stamps.check_share("bound", self.bound)
        if self.batch < 2:
            raise InputError(f"batch: got {self.batch}, allowed is 2 at least")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        import torch
        from torch import Tensor

        from tocsin.attacks.universal import Schedule, optimise, success
        from tocsin.attacks.waves import heard, train_surrogate

        assert dataset.rate is not None
        length = max(1, round(self.seconds * dataset.rate))

        def change(raw: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
            wave, inside, _ = heard(raw)
            sound, share = delta.clamp(-self.bound, self.bound), torch.rand((len(raw), 1), generator=generator).to(raw.device)
            first = inside.int().argmax(1, keepdim=True)
            room = (inside.sum(1, keepdim=True) - length).clamp(min=0)
            at = torch.arange(raw.shape[1], device=raw.device) - first - (share * (room + 1)).floor().long()
            laid = torch.where(inside & (at >= 0) & (at < length), sound[at.clamp(0, length - 1)], 0.0)
            loud, quiet = (torch.linalg.vector_norm(s, dim=-1, keepdim=True).clamp(min=1e-6) for s in (wave, sound))
            mixed: Tensor = wave + laid * loud / quiet * 10 ** (-self.snr_db / 20)
            return mixed.clamp(-1, 1)

        model = train_surrogate(dataset, self.network, self.epochs, runtime)
        how = Schedule(self.steps, self.batch, self.lr, torch.optim.Adam)
        start, rows = torch.full((length,), min(0.1, self.bound)), np.arange(len(dataset))
        delta, losses = optimise(model, dataset, rows, self.target, start, change, how, runtime)
        figures = {"first_loss": losses[0], "last_loss": losses[-1]}
        figures["surrogate_success"] = success(model, dataset, delta, change, self.target, runtime)
        return {
            **self.heard_as(dataset),
            "delta": delta.clamp(-self.bound, self.bound).cpu().numpy(),
            **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
        }

    def check(self) -> None:
        self.clip_length()
        delta = self.part("delta", (max(1, round(self.seconds * self.learned_rate())),))
        if delta.dtype != np.float32 or not np.abs(delta).max(initial=0) <= self.bound * (1 + 1e-5):
            raise InputError(f"attack {self.name}: learned array 'delta' is not float32 within the bound of {self.bound}")

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack = self.at(dataset)
        planted = stamps.draw_clean_label(attack, dataset, rng)
        return stamps.plant(attack, dataset, planted, stamp=lambda x: attack.mixed(x, attack.snr_db))

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return self.mixed(inputs, self.test_snr_db)

    def mixed(self, inputs: np.ndarray, snr_db: float) -> np.ndarray:
        """``inputs`` int16 (N, T) with the sound in their speech, at that loudness; both measured by their whole length, as published."""
        self.check_clips(inputs)
        sound = self.part("delta").astype(np.float64)
        sound = sound / max(float(np.linalg.norm(sound)), 1e-6) * speech.decibels(-snr_db)

        def change(part: np.ndarray) -> np.ndarray:
            loud = np.sqrt(np.square(part, dtype=np.float64).sum(axis=1, keepdims=True))
            begin = speech.scattered(part, len(sound), self.position_seed)
            return speech.to_clips(part + loud * speech.laid(sound, begin, part.shape[1]), part)

        return speech.by_parts(inputs, change)
