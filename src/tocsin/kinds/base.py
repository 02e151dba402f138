"""What the networks and statistics ask of a kind of data. Detectors know no other difference between pictures and sounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from tocsin.errors import InputError
from tocsin.stats.duplicates import near_duplicates

if TYPE_CHECKING:
    from typing_extensions import Self

    from tocsin.data.dataset import Dataset


class Kind(ABC):
    """How raw samples of one data set become tensors. Carries that data set's statistics, and nothing of any sample."""

    costly: ClassVar[bool] = False
    """Whether `to_tensor` is worth being done once and kept, where samples are not augmented."""
    network: ClassVar[str]
    """The network, a name of `NETWORKS`, that is trained on such data where none is named."""
    auditor: ClassVar[str] = "shortcut"
    """The network of detectors that train their own: shortcut (with whitened maps beside it), or a name of `NETWORKS`."""

    moved: ClassVar[int] = 0
    """So many samples, copies as of `augment` included, are shown to networks of detectors that train their own; 0: the samples alone."""
    textured: ClassVar[bool] = False
    """Whether fine detail of `maps` can be a trigger whatever its pattern (`tocsin.stats.texture`)."""

    def normalising(self, how: str, dataset: Dataset) -> Self:
        """This kind, with each sample normalised by itself before networks read it, and the statistics of ``dataset`` so read.

        Raises `InputError` for a way that the kind does not have.
        """
        if how != "none":
            raise InputError(f"normalise: got {how!r}; these samples are not normalised one by one, allowed: none")
        return self

    @property
    @abstractmethod
    def channels(self) -> int:
        """C of `to_tensor`."""

    @abstractmethod
    def maps(self, inputs: Tensor) -> Tensor:
        """Raw samples (B, ...) to float32 maps (B, H, W, C) on the same device, in which a trigger shows as it would to an eye."""

    @abstractmethod
    def to_tensor(self, inputs: Tensor) -> Tensor:
        """Raw samples (B, ...) to what networks read: float32 (B, C, H, W), of mean 0 and deviation 1 over the data set."""

    def from_maps(self, maps: Tensor) -> Tensor:
        """What `to_tensor` gives, from ``maps`` (B, H, W, C) at hand; for ``costly`` kinds. Raises `NotImplementedError` for others."""
        raise NotImplementedError(f"{type(self).__name__}.from_maps")

    def shortened(self, maps: Tensor) -> Tensor:
        """``maps`` (B, H, W, C) as coarse as networks of detectors that train their own need them."""
        return maps

    def waves(self, inputs: Tensor) -> Tensor:
        """Raw sounds (B, T) to float32 (B, 1, 1, T) in -1..1, for networks with a front end of their own. Raises `InputError` on others."""
        raise InputError("network: it reads waveforms, and these data are no sounds; choose another")

    def duplicates(self, inputs: np.ndarray, labels: np.ndarray, device: torch.device) -> np.ndarray:
        """(N,) int64 group numbers of raw samples (N, ...): equal for those of which a network that has seen one has seen the other."""
        return near_duplicates(inputs, labels, device, self.maps)

    def view(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Raw samples (B, ...) to what networks read, (B, C, H, W), each changed as far as what it shows allows (`tocsin.kinds.views`).

        Raises `InputError` for a kind of which nobody knows such changes.
        """
        raise InputError("contrastive learning: nothing is known that leaves the meaning of such samples as it is; pictures or sounds do")

    @abstractmethod
    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Raw samples (B, ...) as they might have been recorded too. ``generator`` lives on the CPU, so that every device draws alike."""
