"""Self-supervised learning: an encoder from samples without labels; what is put on it later sees labels, and clean ones (ASSET 2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tocsin.paradigms.base import Paradigm

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.victim import Victim
    from tocsin.kinds import Kind
    from tocsin.networks import Classifier
    from tocsin.runtime import Runtime


@dataclass(frozen=True)
class SelfSupervised(Paradigm):
    """self-supervised: an encoder trained by contrast on the data without labels (`tocsin.contrastive`)."""

    name: ClassVar[str] = "self-supervised"
    labelled: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})
    detector: ClassVar[str | None] = "asset"

    network: str | None = None
    """The encoder, a name of `NETWORKS`; None: the usual network of the kind of data."""
    epochs: int = 30
    """Its passes over the samples."""
    batch: int = 256
    """Samples a step, each in two views."""
    temperature: float = 0.5
    """Of the contrastive loss."""
    lr: float = 0.3
    """Highest learning rate."""
    flip: bool = True
    """Views of pictures may be mirrored; set false for signs and digits."""

    def victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        """The encoder learns from the reserve too. It needs no labels for that, and it then has seen clean inspected samples, base and
        control samples alike: a control that it had not seen would look unlike clean inspected samples, and these would be flagged."""
        from tocsin.detectors.victim import Victim

        network, kind = self.encoder(train, runtime, also=reserve)
        return Victim(train, reserve, network, kind, runtime)

    def encoder(self, data: Dataset, runtime: Runtime, also: Dataset | None = None) -> tuple[Classifier, Kind]:
        """An encoder trained on ``data`` (and ``also`` on others) without their labels, and how it reads samples; its head is untrained.

        `tocsin.victim.probed` makes a classifier of it. Raises `InputError`.
        """
        from tocsin.contrastive import ContrastiveSettings, pretrain
        from tocsin.data.rows import stacked
        from tocsin.kinds import kind_of
        from tocsin.networks import build_network

        kind = kind_of(data, flip=self.flip)
        network = build_network(self.network or kind.network, kind.channels, len(data.classes), runtime.seed)
        how = ContrastiveSettings(self.epochs, self.batch, self.temperature, self.lr)
        inputs = data.inputs if also is None else stacked([data.inputs, also.inputs])
        return pretrain(network, inputs, kind, how, runtime), kind
