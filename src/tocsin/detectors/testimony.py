"""What ASSET's scouts say of the samples themselves, beside what the separators that they steer make of them. Ours.

A separator is a fresh network and has some hundred steps to learn the trigger from the few samples that are concentrated in each batch.
Of a warp of half a pixel that is too little, though the scouts, where they read the features of a network that has learned the warp, point
at nothing but poison. They are cross-fitted, the control's samples take no part in their training, and so their logits are compared
between classes as the separators' scores are (`decide.tail`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tocsin.detectors.decide import Series
from tocsin.detectors.sharpen import by_class

NULL_SCALE = 0.45
"""Scale of the gap's law on clean data (docs/asset.md)."""
SHARE = 0.5
"""Of alpha; the separators have the rest."""
FALSE_SHARE = 0.1
"""Up to this share of what is flagged may be false: scouts rank less sharply than separators do."""


def said_by_scouts(logits: Sequence[np.ndarray], labels: np.ndarray, n: int, distinct: np.ndarray) -> Series:
    """A series for the class test of each run's ``logits`` (n + m,): of the inspected samples, then of the control.

    Samples are flagged by the mean over the runs. ``labels`` (n + m,); ``distinct`` (C,) control samples of each class that are no near
    duplicates of each other. All views are (n + m,).
    """
    views = [by_class(values, labels, n, distinct).astype(np.float32) for values in logits]
    mean = np.stack(views).mean(axis=0)
    control = [mean[n:][labels[n:] == k] for k in range(len(distinct))]
    rounds = [{f"scouts {run + 1}": view} for run, view in enumerate(views)]
    return Series("scouts", rounds, [{"scouts": mean}], NULL_SCALE, SHARE, reserve={"scouts": control}, false_share=FALSE_SHARE)
