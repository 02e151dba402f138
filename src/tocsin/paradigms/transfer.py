"""Transfer learning: an encoder that was trained on other, clean data is tuned to the labelled data (ASSET 1.4, 2.9)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tocsin.errors import InputError
from tocsin.paradigms.base import Paradigm

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.victim import Victim
    from tocsin.networks import Classifier
    from tocsin.networks.encoder import Encoder
    from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Transfer(Paradigm):
    """transfer: an encoder from a file is tuned to the labelled data, all of it or its last layer."""

    name: ClassVar[str] = "transfer"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    detector: ClassVar[str | None] = "asset"

    encoder: str | None = None
    """File of the encoder, as `tocsin train --save` writes it; it has to be one that was trained on clean data."""
    tune: Literal["all", "last"] = "all"
    """all: every weight is tuned (FT-all); last: a linear layer on features that stay as they are (FT-last)."""
    epochs: int = 10
    """tune=all: passes over the data."""
    lr: float = 0.02
    """tune=all: highest learning rate."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.lr < float("inf"):
            raise InputError(f"epochs {self.epochs}, lr {self.lr}: allowed are epochs from 1 and lr above 0")

    def victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        """The encoder is tuned to the reserve too, which is labelled and clean: clean inspected, base and control samples have then been
        treated alike. One that had seen the inspected samples alone knows them a little better, and scouts tell them by that."""
        from tocsin.data.dataset import concatenate
        from tocsin.detectors.victim import Victim

        encoder, network = self.tuned(concatenate(train, reserve), runtime)
        before = network if self.tune == "last" else encoder.body.to(runtime.torch_device()).eval()  # features stay as they are, or do not
        return Victim(train, reserve, network, encoder.kind, runtime, untuned=before)

    def tuned(self, train: Dataset, runtime: Runtime) -> tuple[Encoder, Classifier]:
        """(the encoder, a copy of it that was tuned to ``train``). Raises `InputError`."""
        from tocsin.networks.encoder import read_encoder
        from tocsin.tuning import tuned

        if self.encoder is None:
            raise InputError(
                "encoder: the setting transfer starts from a trained one and none is given; name its file with --encoder FILE "
                "(or encoder=), and make one with `tocsin train DATA --test TEST --save FILE`"
            )
        encoder = read_encoder(Path(self.encoder))
        how: dict[str, Any] = {"tune": self.tune, "epochs": self.epochs, "lr": self.lr}
        return encoder, tuned(encoder, train.inputs, train.labels, len(train.classes), runtime, **how)
