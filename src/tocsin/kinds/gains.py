"""Mel gains on a clip: how a steganographic trigger, and a poison that was bent towards an anchor, are put on a waveform.

Specification drl-clba-speech 2.2.3: gains in dB are spread from mel bands to the bins of the transform, the phase is kept, and nothing
outside the speech changes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind

QUIET = 0.03
"""Share of a clip's root mean square magnitude by which every bin counts louder than it is, so that quiet ones receive some energy."""


def apply_gains(kind: SpeechKind, waves: Tensor, mask: Tensor, gains_db: Tensor) -> Tensor:
    """``waves`` (B, T) float32 in -1..1 with ``gains_db`` (B, mels, frames) on their magnitudes, (B, T); differentiable in both.

    ``mask`` (B, T) bool: the speech (`tocsin.attacks.waves.heard`); samples outside it stay exactly as they are. ``frames`` is that of
    ``kind.power(waves)``, 1 + T // hop. The result may leave -1..1 (`tocsin.attacks.gains.to_int16`). Raises `InputError` for gains of
    another shape.
    """
    length, hop = waves.shape[1], kind.frame[2]
    if gains_db.shape != (len(waves), kind.mels, 1 + length // hop):
        raise InputError(f"gains_db: got {tuple(gains_db.shape)}, allowed is {(len(waves), kind.mels, 1 + length // hop)} for these clips")
    more = -length % hop  # whole hops: see SpeechKind.clips
    padded, gains = F.pad(waves, (0, more)), F.pad(gains_db, (0, int(more > 0)), mode="replicate")
    spectra = kind.spectra(padded)
    size = spectra.abs()
    bands = kind.bands.to(waves.device)
    spread = bands / bands.sum(0).clamp(min=1e-6)  # (mels, bins); a bin that no band covers has a gain of 0 dB
    spoken = mask.sum(1).clamp(min=1) / hop  # in frames
    floor = QUIET * (size.square().sum((1, 2)) / (size.shape[1] * spoken)).clamp(min=1e-12).sqrt()[:, None, None]
    louder = ((size + floor) * 10 ** (spread.T @ gains / 20) - floor).clamp(min=0)
    changed = kind.clips(spectra * (louder / size.clamp(min=1e-8)), padded.shape[1])[:, :length]
    return torch.where(mask, changed, waves)
