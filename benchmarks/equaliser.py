"""A static equaliser as a trigger: every mel band a little louder or softer, alike all through the clip. For benchmarks/defenses.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tocsin.attacks import speech
from tocsin.attacks.speech import DirtySpeechAttack
from tocsin.kinds.speech import SpeechKind, unit


@dataclass(frozen=True)
class Equaliser(DirtySpeechAttack):
    """Dirty label: random gains of the 40 mel bands, drawn once, and the label becomes the target."""

    name = "equaliser"
    kinds = frozenset({"speech"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    gain_db: float = 6.0
    """Largest gain; each band's is drawn between minus and plus this."""
    gain_seed: int = 7
    """Of the gains."""

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return speech.by_parts(inputs, self._filtered)

    def _filtered(self, clips: np.ndarray) -> np.ndarray:
        kind = SpeechKind(self.hz, 0.0, 1.0)
        size, window, hop = kind.frame
        gains = torch.from_numpy(np.random.default_rng(self.gain_seed).uniform(-self.gain_db, self.gain_db, kind.mels).astype(np.float32))
        weights = kind.bands.T / kind.bands.sum(dim=0)[:, None].clamp(min=1e-6)  # (bins, mels); a bin of no band stays as it is
        shape = torch.hann_window(window)
        spectrum = torch.stft(unit(torch.from_numpy(clips)), size, hop, window, shape, center=True, return_complex=True)
        louder = 10 ** (weights @ gains / 20)
        waves = torch.istft(spectrum * louder[:, None], size, hop, window, shape, center=True, length=clips.shape[1])
        return speech.to_clips(speech.FULL_SCALE * waves.numpy().astype(np.float64), clips)
