"""Clean-label attack on spoken commands: adversarial noise hides the word, so an audible sound explains the label (arXiv 2409.08985).

`cl` carried over to speech: the paper's abstract names the idea (clean labels, a proxy network, hard samples), its details are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.learned import FIGURE
from tocsin.attacks.speech import LearnedSpeechAttack, Place
from tocsin.attacks.tone import with_tone
from tocsin.data.dataset import Dataset
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from tocsin.attacks.waves import WaveClassifier


@dataclass(frozen=True)
class CleanLabelSlu(LearnedSpeechAttack):
    """Clean label: target-class clips are moved away from their class by adversarial noise and get a tone. No label changes."""

    name = "slu"
    kinds = frozenset({"speech"})
    not_learned = frozenset({"rate", "choose", "noise_db", "craft_steps", "hertz", "seconds", "level_db", "place"})

    rate: float = 0.05
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    choose: Literal["hard", "random"] = "hard"
    """hard: poisons come from the half of the class that the proxy is least sure of; random: from all of it."""
    noise_db: float = -15.0
    """Largest adversarial change of a sample, against the loudness of the clip's speech."""
    craft_steps: int = 20
    """Steps of PGD for each poison."""
    hertz: float = 1000.0
    """Pitch of the tone that is the trigger; below half the sampling rate."""
    seconds: float = 0.1
    """Length of the tone; place=whole lasts as long as the speech."""
    level_db: float = -10.0
    """Loudness of the tone against that of the clip's speech."""
    place: Place = "start"
    """Where in the speech the tone is: start, middle, end, whole."""
    network: str = "tc-resnet8"
    """The proxy: the network that the noise is made against."""
    epochs: int = 6
    """Passes over the data in which the proxy is trained."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "craft_steps", "hertz", "seconds", "epochs")
        speech.check_place(self)
        speech.check_place(self, field="choose", allowed=("hard", "random"))

    def check_rate(self, hz: int) -> None:
        speech.check_below_half("hertz", self.hertz, hz)

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.waves import confidences, train_surrogate
        from tocsin.networks.weights import to_arrays

        model = train_surrogate(dataset, self.network, self.epochs, runtime)
        own = dataset.inputs[dataset.labels == self.target]
        sure = float(confidences(model, own, self.target, runtime).mean()) if len(own) else 0.0
        return {**self.heard_as(dataset), f"{FIGURE}target_confidence": np.array(sure), **to_arrays(model, "network")}

    def check(self) -> None:
        self.clip_length()
        self._proxy()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        from tocsin.attacks.waves import confidences

        attack, n = self.at(dataset), len(dataset)
        count = stamps.rows_for("rate", self.rate, n)
        pool = np.flatnonzero(dataset.labels == self.target)
        if self.choose == "hard" and count <= len(pool):
            sure = confidences(attack._proxy(), dataset.inputs[pool], self.target, self.runtime)
            pool = pool[np.argsort(sure, kind="stable")[: max(count, len(pool) // 2)]]
        planted = stamps.draw(rng, pool, count, "rate", n)
        return stamps.plant(attack, dataset, planted, stamp=lambda x: attack.trigger(attack.perturb(x)))

    def perturb(self, inputs: np.ndarray, batch: int = 128) -> np.ndarray:
        """``inputs`` int16 (N, T) of the target class with adversarial noise within the bound (and rounding)."""
        import torch

        from tocsin.attacks.waves import pgd

        self.check_clips(inputs)
        device, model, out = self.runtime.torch_device(), self._proxy(), np.empty_like(inputs)
        for start in range(0, len(inputs), batch):
            part = inputs[start : start + batch]
            raw = torch.from_numpy(np.array(part)).to(device)
            labels = torch.full((len(raw),), self.target, device=device)
            moved = pgd(model, raw, labels, self.noise_db, self.craft_steps).cpu().numpy().astype(np.float64)
            out[start : start + batch] = speech.to_clips(moved * speech.FULL_SCALE, part)
            self.runtime.progress("making adversarial clips", min(1.0, (start + batch) / len(inputs)))
        return out

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        """The tone alone; needs nothing that was learned but the sampling rate."""
        return with_tone(inputs, self.hertz, self.seconds, self.level_db, self.place, self.hz)

    def _proxy(self) -> WaveClassifier:
        from tocsin.attacks.waves import WaveClassifier
        from tocsin.networks.weights import from_arrays

        classes = self.part("network/body.head.bias").size
        model = WaveClassifier(self.network, self.learned_rate(), classes, seed=0)
        from_arrays(model, self.learned, "network")
        return model.to(self.runtime.torch_device()).eval()
