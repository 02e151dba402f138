"""Mel gains in attacks: `apply_gains`, which lies with the front end, and how a changed waveform becomes int16 again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tocsin.kinds.gains import apply_gains
from tocsin.kinds.speech import unit

__all__ = ["apply_gains", "to_int16"]

_LOUDEST = 32767 / 32768


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
