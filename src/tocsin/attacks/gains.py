"""Mel gains on a clip: how a steganographic trigger, and a poison that was bent towards an anchor, are put on a waveform.

Specification drl-clba-speech 2.2.3: gains in dB are spread from mel bands to the bins of the transform, the phase is kept, and nothing
outside the speech changes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind, unit

QUIET = 0.03
"""Share of a clip's root mean square magnitude by which every bin counts louder than it is, so that quiet ones receive some energy."""
_LOUDEST = 32767 / 32768


def apply_gains(kind: SpeechKind, waves: Tensor, mask: Tensor, gains_db: Tensor) -> Tensor:
    """``waves`` (B, T) float32 in -1..1 with ``gains_db`` (B, mels, frames) on their magnitudes, (B, T); differentiable in both.

    ``mask`` (B, T) bool: the speech (`tocsin.attacks.waves.heard`); samples outside it stay exactly as they are. ``frames`` is that of
    ``kind.power(waves)``, 1 + T // hop. The result may leave -1..1: see `to_int16`. Raises `InputError` for gains of another shape.
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


def to_int16(clips: np.ndarray, waves: Tensor) -> np.ndarray:
    """Changed ``waves`` (B, T) in -1..1 as int16, beside the int16 ``clips`` (B, T) that they were made from.

    Where a change would clip, the whole change of that clip is made smaller until it does not (specification 2.7); only samples that
    were at full scale before are cut off instead, since they leave no room for any change.
    """
    before = unit(torch.from_numpy(np.array(clips))).to(waves.device)
    change = waves - before
    room = (_LOUDEST - before * change.sign()).clamp(min=0) / change.abs().clamp(min=1e-9)
    full = before.abs() >= _LOUDEST
    scale = torch.where(full, torch.ones_like(room), room).amin(1, keepdim=True).clamp(max=1)
    return ((before + scale * change) * 32768).round().clamp(-32768, 32767).to(torch.int16).cpu().numpy()
