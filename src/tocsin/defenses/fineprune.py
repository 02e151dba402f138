"""Fine-pruning: Liu, Dolan-Gavitt, Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks", RAID 2018.

Channels that are silent on clean samples are where a backdoor may live: silence them for good, then fine-tune. Settings are those of
the specification drl-clba-speech 5.2.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tocsin.data.dataset import Dataset
from tocsin.defenses.base import Defense
from tocsin.defenses.finetune import FineTune
from tocsin.detectors.ct import hold_out
from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.learning import EVAL_BATCH, OptimizerName, evaluating, tensor_for
from tocsin.networks import Classifier
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class FinePrune(Defense):
    """Silences the channels of the last stage that clean samples use least, as far as accuracy allows, and trains on with clean samples."""

    name: ClassVar[str] = "fineprune"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech", "table"})

    drop: float = 0.04
    """Most accuracy on held-out clean samples that pruning may cost, as a share of 1."""
    least_kept: float = 0.1
    """Share of the channels that stays whatever the accuracy says."""
    held_out: float = 0.25
    """Share of the reserve on which that accuracy is measured; channels are ranked on the rest, which alone is trained on afterwards."""
    epochs: int = 20
    """Passes of fine-tuning over the rest of the reserve; 0: prune only."""
    lr: float = 0.01
    """Highest learning rate of fine-tuning; with adamw 1e-4 is usual."""
    batch: int = 64
    """Samples a step of fine-tuning."""
    optimizer: OptimizerName = "sgd"
    """sgd or adamw; attention and recurrent layers need the second."""

    def __post_init__(self) -> None:
        shares = {"drop": self.drop, "least_kept": self.least_kept, "held_out": self.held_out}
        if wrong := [f"{name} {value}" for name, value in shares.items() if not 0 < value < 1]:
            raise InputError(f"{', '.join(wrong)}: allowed are shares between 0 and 1")
        if self.epochs < 0:
            raise InputError(f"epochs: got {self.epochs}, allowed is 0 or more")

    def repair(self, network: Classifier, train: Dataset, reserve: Dataset, runtime: Runtime, *, kind: Kind | None = None) -> Classifier:
        """Raises `InputError` also where the reserve is too small to hold a part of it out."""
        reads = self.check(train, reserve, kind)
        held = hold_out(reserve.labels, len(reserve.classes), self.held_out, runtime.seed)
        if held.all() or not held.any():
            raise InputError(f"reserve: {len(reserve)} samples cannot be split into a part to learn from and one to measure accuracy on")
        rest, control = reserve[~held], reserve[held]
        pruned = deepcopy(network)
        quietest = np.argsort(activity(pruned, rest, reads, runtime), kind="stable")
        most = int((1 - self.least_kept) * len(quietest))
        accuracy = (guesses(pruned, control, reads, quietest[:most], runtime) == control.labels).mean(axis=1)
        too_low = np.flatnonzero(accuracy < accuracy[0] - self.drop - 1e-9)
        count = int(too_low[0]) - 1 if len(too_low) else most
        silence(pruned, np.isin(np.arange(len(quietest)), quietest[:count]))
        if not self.epochs:
            return pruned
        tuning = FineTune(epochs=self.epochs, lr=self.lr, batch=self.batch, optimizer=self.optimizer)
        return tuning.repair(pruned, train, rest, runtime, kind=reads)


class Mask(nn.Module):
    """Maps (B, C, H, W) with some channels zero, whatever is trained later."""

    keep: Tensor

    def __init__(self, keep: Tensor) -> None:
        """``keep``: (C,) ones and zeros."""
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.keep[:, None, None].to(maps.dtype)


def activity(network: Classifier, dataset: Dataset, kind: Kind, runtime: Runtime) -> np.ndarray:
    """(C,) float64: mean absolute output of each channel of the last stage over ``dataset``, in eval mode."""
    maps = last_maps(network, dataset, kind, runtime)
    return maps.abs().mean(dim=(0, 2, 3), dtype=torch.float64).cpu().numpy()


def last_maps(network: Classifier, dataset: Dataset, kind: Kind, runtime: Runtime) -> Tensor:
    """(N, C, H, W) float32 output of the last stage, on the runtime's device, in eval mode."""
    device, parts = runtime.torch_device(), []
    with torch.inference_mode(), evaluating(network, device):
        for start in range(0, len(dataset), EVAL_BATCH):
            x = tensor_for(network, kind, torch.from_numpy(np.array(dataset.inputs[start : start + EVAL_BATCH])).to(device))
            for stage in network.stages():
                x = stage(x)
            parts.append(x.float())
    return torch.cat(parts)


def guesses(network: Classifier, dataset: Dataset, kind: Kind, order: np.ndarray, runtime: Runtime) -> np.ndarray:
    """(K + 1, N) int64: the classes that ``network`` gives with none of the channels ``order`` (K,) silent, the first, the first two ...

    The stages run once; only what reads the last one's maps is computed again.
    """
    maps, rows = last_maps(network, dataset, kind, runtime), []
    with torch.inference_mode(), evaluating(network, runtime.torch_device()):
        for count in range(len(order) + 1):
            maps[:, order[max(0, count - 1) : count].tolist()] = 0
            rows.append(network.head(network.pool(maps)).argmax(dim=1).cpu().numpy())
    return np.stack(rows)


def silence(network: Classifier, silent: np.ndarray, stage: int = -1) -> None:
    """Puts a `Mask` behind a stage of ``network``, which is changed: its channels ``silent`` (C,) bool give zero from now on."""
    loud = network.stages()[stage]
    owner, name = next((m, n) for m in network.modules() for n, child in m.named_children() if child is loud)
    mask = Mask(torch.from_numpy(~silent).float()).to(next(network.parameters()).device)
    setattr(owner, name, nn.Sequential(loud, mask))


def silent_share(network: Classifier) -> float:
    """Share of the last stage's channels that `silence` made silent; 0 where it was never called."""
    masks = [m for m in network.modules() if isinstance(m, Mask)]
    return 1 - float(masks[-1].keep.mean()) if masks else 0.0
