"""The ordinary training loop: fit, predict, features. Data stay uint8 in one array; there is no loader and no worker process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.errors import InputError
from tocsin.kinds import Kind
from tocsin.networks.base import Classifier
from tocsin.runtime import Runtime, cpu_name

EVAL_BATCH = 512
"""Samples a forward pass without gradients."""
OptimizerName = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class FitSettings:
    """How an ordinary network is trained: by default SGD with Nesterov momentum, on a one-cycle schedule."""

    epochs: int = 8
    """Passes over the training set."""
    lr: float = 0.1
    """Highest learning rate of the cycle."""
    batch: int = 128
    """Samples a step."""
    momentum: float = 0.9
    """Of SGD; AdamW takes no notice of it."""
    weight_decay: float = 5e-4
    """Of the optimiser."""
    augment: bool = True
    """Random crops, and mirrored pictures where the kind allows them."""
    label_smoothing: float = 0.0
    """Of the cross entropy."""
    optimizer: OptimizerName = "sgd"
    """sgd or adamw; attention and recurrent layers need the second."""

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(OptimizerName):
            raise InputError(f"optimizer: got {self.optimizer!r}, allowed: {', '.join(get_args(OptimizerName))}")
        if self.epochs < 1 or self.batch < 2:
            raise InputError(f"epochs and batch: got {self.epochs} and {self.batch}, allowed are epochs from 1 and a batch from 2")
        if not (0 < self.lr < float("inf") and self.weight_decay >= 0 and 0 <= self.momentum < 1 and 0 <= self.label_smoothing < 1):
            raise InputError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, momentum {self.momentum}, label_smoothing {self.label_smoothing}: "
                "allowed are lr above 0, weight_decay from 0, momentum and label_smoothing from 0 to below 1"
            )

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Of all weights of ``network``."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(network.parameters(), self.lr, weight_decay=self.weight_decay)
        nesterov = self.momentum > 0
        return torch.optim.SGD(network.parameters(), self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=nesterov)


USUAL: Mapping[str, FitSettings] = {
    "tc-resnet8": FitSettings(epochs=20, batch=64),
    "res15": FitSettings(epochs=12, lr=0.1, batch=64, weight_decay=1e-5),
    "att-rnn": FitSettings(epochs=20, lr=2e-3, batch=64, optimizer="adamw"),
    "kwt-1": FitSettings(epochs=60, lr=1e-3, batch=64, weight_decay=0.1, label_smoothing=0.1, optimizer="adamw"),
    "eat-s": FitSettings(epochs=40, lr=1e-3, batch=64, optimizer="adamw"),
    "mlp": FitSettings(epochs=20, lr=3e-3, batch=256, weight_decay=1e-4, optimizer="adamw"),
    # The paper's, for EMBER (confusion-training 2.1).
    "ember-mlp": FitSettings(epochs=10, lr=0.1, batch=512, weight_decay=1e-6),
}
"""By network, how it is trained where nothing is said, if not as `FitSettings` are by themselves."""


def usual_settings(network: str) -> FitSettings:
    """How the network of that name is trained where nothing is said."""
    return USUAL.get(network, FitSettings())


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of ``step`` in 0..steps-1: linear rise over the first fifth, then a half cosine down to almost 0."""
    place, rise = (step + 1) / (steps + 1), 0.2
    if place < rise:
        return peak * place / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (place - rise) / (1 - rise)))


def fast_type(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it faster (GPU, CPU with AMX, AMD's with AVX512-BF16), else None (float32).

    Intel's AVX512-BF16 without AMX, as some virtual machines show it, is slower than its float32 (`benchmarks/number_type.py`).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    amx, avx512 = (getattr(torch.cpu, name, lambda: False)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return torch.bfloat16 if amx or (avx512 and "AMD" in cpu_name()) else None


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision where it is faster, else nothing."""
    dtype = fast_type(device)
    # The cache of cast weights is one for all threads: a thread that leaves its block empties it under the others, and the order
    # in which gradients are then summed is no longer the same from run to run.
    return torch.autocast(device.type, dtype, cache_enabled=False) if dtype else nullcontext()


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """cuDNN restricted to its reproducible kernels for the time of the block; the CPU's are reproducible as they are."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """torch's global generators, from which dropout draws, start from ``seed`` in the block and are given back as they were."""
    places = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=places):
        torch.manual_seed(seed)
        yield


def tensor_for(network: Classifier, kind: Kind, raw: Tensor) -> Tensor:
    """Raw samples (B, ...) to what ``network`` reads, (B, C, H, W) float32. Raises `InputError` where the kind has no such thing."""
    return kind.waves(raw) if network.reads == "waves" else kind.to_tensor(raw)


@contextmanager
def evaluating(network: nn.Module, device: torch.device) -> Iterator[None]:
    """``network`` on the device in eval mode, in mixed precision where that is faster; its mode is put back after the block."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    was_training = network.training
    network.eval()
    try:
        with autocast(device), deterministic(device):
            yield
    finally:
        network.train(was_training)


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Its layers of batch norm."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def gatherer(inputs: np.ndarray, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function from row numbers (B,) to raw samples (B, ...) on the device.

    On a GPU the whole array is uploaded once; on the CPU rows are read from the array or memory map it is.
    """
    if device.type == "cpu":
        return lambda rows: torch.from_numpy(np.asarray(inputs[rows.numpy()]))
    resident = torch.from_numpy(np.array(inputs)).to(device)
    return lambda rows: resident[rows.to(device)]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down ``loss``."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def fit(
    network: Classifier,
    inputs: np.ndarray,
    labels: np.ndarray,
    kind: Kind,
    settings: FitSettings,
    runtime: Runtime,
    *,
    stage: str = "training",
    bend: Callable[[Tensor], Tensor] | None = None,
    beside: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    altered: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Classifier:
    """Trains ``network`` in place and returns it in eval mode on the runtime's device.

    ``inputs`` raw samples (N, ...), ``labels`` (N,). Order and augmentation derive from ``runtime.seed``; progress is
    reported under ``stage``. ``bend``: what is descended, made of a batch's mean loss. ``beside``: from what the network reads of a batch,
    its logits and what is added to the loss. ``altered``: from the row numbers (B,) and raw samples of a batch, what is learned from in
    their place; called before each step, when ``network`` may be looked at. Raises `InputError` for fewer than two samples, and where the
    loss is no number any more.
    """
    n = len(labels)
    if n < 2:
        raise InputError(f"training set: got {n} samples, at least 2 are needed")
    device = runtime.torch_device()
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    gather, answers = gatherer(inputs, device), torch.from_numpy(np.array(labels, np.int64)).to(device)
    generator = torch.Generator().manual_seed(runtime.seed)
    batch = min(settings.batch, n)
    per_epoch = n // batch  # what is left over has its turn in another epoch's order
    steps = per_epoch * settings.epochs
    optimizer = settings.make_optimizer(network)
    with deterministic(device), seeded(device, runtime.seed):
        for step in range(steps):
            if step % per_epoch == 0:
                order = torch.randperm(n, generator=generator)
            rows = order[(step % per_epoch) * batch :][:batch]
            raw = gather(rows) if altered is None else altered(rows, gather(rows))
            x = tensor_for(network, kind, kind.augment(raw, generator) if settings.augment else raw)
            optimizer.param_groups[0]["lr"] = one_cycle(step, steps, settings.lr)
            with autocast(device):
                logits, more = (network(x), 0.0) if beside is None else beside(x)
            loss = F.cross_entropy(logits.float(), answers[rows.to(device)], label_smoothing=settings.label_smoothing) + more
            descend(optimizer, loss if bend is None else bend(loss))
            if step % 20 == 19 or step == steps - 1:
                # What is bent may be meant to grow without end; a network of NaN would answer as if it had been trained.
                if bend is None and not math.isfinite(last := loss.item()):
                    raise InputError(f"{stage}: the loss is {last} at step {step + 1} of {steps}; a lower lr than {settings.lr} may learn")
                runtime.progress(stage, (step + 1) / steps)
    return network.eval()


def predict(network: Classifier, inputs: np.ndarray, kind: Kind, runtime: Runtime, *, stage: str = "predicting") -> np.ndarray:
    """Logits (N, classes) float32 of raw samples (N, ...), in eval mode without augmentation."""
    return _forward(network, network, inputs, kind, runtime, stage)


def features(network: Classifier, inputs: np.ndarray, kind: Kind, runtime: Runtime, *, stage: str = "reading features") -> np.ndarray:
    """Penultimate features (N, F) float32 of raw samples (N, ...), in eval mode without augmentation."""
    return _forward(network, network.features, inputs, kind, runtime, stage)


def _forward(
    network: Classifier, function: Callable[[Tensor], Tensor], inputs: np.ndarray, kind: Kind, runtime: Runtime, stage: str
) -> np.ndarray:
    n, device = len(inputs), runtime.torch_device()
    parts: list[Tensor] = []
    with torch.inference_mode(), evaluating(network, device):
        for start in range(0, n, EVAL_BATCH):
            raw = torch.from_numpy(np.array(inputs[start : start + EVAL_BATCH])).to(device)
            parts.append(function(tensor_for(network, kind, raw)).float())
            runtime.progress(stage, min(1.0, (start + EVAL_BATCH) / n))
    if not parts:
        return np.empty((0, network.head.out_features if function is network else network.head.in_features), np.float32)
    return torch.cat(parts).cpu().numpy()
