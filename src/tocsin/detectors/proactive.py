"""Proactive: Confusion Training and ASSET, one verdict on labelled pictures. What both have in common: the defender takes part in training.

They rest on opposite premises. CT makes a network forget what pictures mean and looks for what keeps its label; ASSET holds a network
still on clean samples and looks for what can be driven away. ASSET takes no canaries, so these speak of CT alone. Parts of the error and
measurements: docs/asset.md, "Together with Confusion Training".

ASSET is asked only where it is known how still it is on clean data: of large sets of several classes with a large reserve. On others CT
has the word, and all of alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.asset import Asset
from tocsin.detectors.base import Detector, Findings
from tocsin.detectors.combined import Combined
from tocsin.detectors.ct import ConfusionTraining
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Proactive(Combined):
    """Proactive: Confusion Training and, on large sets, ASSET, merged into one verdict for pictures."""

    name: ClassVar[str] = "proactive"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    allowed: ClassVar[Mapping[str, type[Detector]]] = {cls.name: cls for cls in (ConfusionTraining, Asset)}
    weights: ClassVar[Mapping[str, float]] = {ConfusionTraining.name: 9.0}
    not_defined: ClassVar[Mapping[str, str]] = {
        "self-supervised": "Confusion Training reads the samples' labels, and there are none; ask asset",
        "transfer": "ASSET reads the tuned network there; ask ct and asset side by side: --detectors asset,ct",
    }

    members: tuple[str, ...] = ("ct", "asset")
    """Which of ct, asset are asked; of both, asset only where it is known how still it is on clean data."""
    alpha: float = 0.01
    """Bound on the chance of naming any class of a clean data set; ct has nine tenths of it, since what ASSET sees at all it sees far above
    its limit."""

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """As `Combined.preset`; paper is CT's alone, since the threshold that ASSET's paper publishes flags some of any data."""
        return super().preset(name, **{**({"members": (ConfusionTraining.name,)} if name == "paper" else {}), **changes})

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """As `Combined.inspect`. Where ASSET is not asked, ``evidence`` says why under "not asked"."""
        from tocsin.detectors.asset_verdict import why_unsure

        asset = next((member for member in self.built() if isinstance(member, Asset)), None)
        samples = len(train) if canaries is None else int((canaries < 0).sum())
        why = why_unsure(asset, samples, reserve, runtime) if asset is not None and len(self.members) > 1 else None
        if why is None:
            return super().inspect(train, reserve, runtime, canaries=canaries)
        found = super(Proactive, replace(self, members=(ConfusionTraining.name,))).inspect(train, reserve, runtime, canaries=canaries)
        return replace(found, evidence={**found.evidence, "settings": asdict(self), "not asked": {Asset.name: why}})
