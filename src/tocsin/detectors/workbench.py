"""Where the detectors that train networks of their own work: all samples of one audit as networks read them, in any order asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tocsin.data.dataset import Dataset
from tocsin.kinds import Kind, kind_of
from tocsin.learning import autocast, deterministic, fast_type, gatherer
from tocsin.networks import build_network
from tocsin.networks.shortcut import ShortcutNet
from tocsin.networks.texture import TextureNet
from tocsin.stats.texture import texture
from tocsin.stats.whitening import Whitener, whiten

T = TypeVar("T")
SCORE_BATCH = 256
"""Samples a forward pass without gradients: small enough that a layer's activations stay in a CPU's second-level cache."""
MOST_COPIES = 8
"""Of a sample, where the kind wants networks to be trained on moved ones too."""
_MOVES = 0x3C  # their seed: like the samples themselves, they are the same for all seeds of an audit
_SEEDING = threading.Lock()  # layers draw from torch's one global generator, and members are built in threads


@dataclass(frozen=True)
class Bench:
    """All samples of one audit where networks can reach them: rows 0..n-1 inspected, the rest reserve.

    ``labels`` (n + m,) on the device. ``feed(rows)`` gives the network's inputs for row numbers (B,) on the CPU.
    """

    labels: Tensor
    classes: int
    kind: Kind
    device: torch.device
    whitened: Tensor | None
    """(copies * (n + m), D), the samples themselves first."""
    tensors: Callable[[Tensor], Tensor] | None = field(repr=False)
    """Row numbers (B,) on the CPU to what networks read, (B, C, H, W) on the device; None where they read ``whitened`` alone."""
    copies: int = 1
    """Of each sample: itself, and moved ones (`Kind.augment`), which a network may be trained on in its place."""

    @classmethod
    def of(
        cls, inputs: np.ndarray, labels: np.ndarray, train: Dataset, device: torch.device, *, branch: bool, moved: bool = False
    ) -> Bench:
        """``inputs`` and ``labels`` hold the inspected samples, then the reserve. ``branch``: the network wants whitened pixels; ``moved``:
        it is to be trained on moved copies too, where the kind has such."""
        dtype = fast_type(device) or torch.float32
        kind = kind_of(train)
        branch = branch and kind.auditor == "shortcut"
        answers = torch.from_numpy(np.asarray(labels, np.int64)).to(device)
        gather = gatherer(inputs, device)
        if kind.costly:
            copies = max(1, min(MOST_COPIES, kind.moved // max(1, len(inputs)))) if moved else 1
            whitener = Whitener.fit(inputs, device, dtype, lambda raw: kind.shortened(kind.maps(raw))) if branch else None
            kept, white = [], []
            for raw in _copied(gather, len(inputs), kind, copies):
                maps = kind.shortened(kind.maps(raw))
                kept.append(kind.from_maps(maps))
                if whitener is not None:
                    white.append(whitener.of_maps(maps))
            seen, whitened = torch.cat(kept), torch.cat(white) if white else None
            return cls(answers, len(train.classes), kind, device, whitened, lambda rows: seen[rows.to(device)], copies)
        whitened = whiten(inputs, device, dtype, kind.maps) if branch else None
        return cls(answers, len(train.classes), kind, device, whitened, lambda rows: kind.to_tensor(gather(rows)))

    @classmethod
    def in_texture(cls, inputs: np.ndarray, labels: np.ndarray, train: Dataset, device: torch.device) -> Bench:
        """The same samples, pictures, of which networks see the whitened `texture` and nothing else."""
        kind = kind_of(train)
        whitened = whiten(inputs, device, fast_type(device) or torch.float32, lambda x: texture(kind.maps(x)))
        answers = torch.from_numpy(np.asarray(labels, np.int64)).to(device)
        return cls(answers, len(train.classes), kind, device, whitened, None)

    def feed(self, rows: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """With a ``generator``, for training: any copy of each of the ``rows`` (B,); else the samples themselves."""
        if generator is not None and self.copies > 1:
            rows = rows + len(self.labels) * torch.randint(self.copies, rows.shape, generator=generator)
        if self.tensors is None:
            assert self.whitened is not None
            return (self.whitened[rows.to(self.device)],)
        pixels = self.tensors(rows)
        return (pixels,) if self.whitened is None else (pixels, self.whitened[rows.to(self.device)])

    def network(self, name: str, width: float, seed: int) -> nn.Module:
        """A fresh network whose first weights depend on ``seed`` alone. ``shortcut``: what is that for this kind of data."""
        channels = self.kind.channels
        with _SEEDING:
            if self.whitened is None and (name, self.kind.auditor) != ("shortcut", "shortcut"):
                return build_network(self.kind.auditor if name == "shortcut" else name, channels, self.classes, seed).to(self.device)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                inner = 0 if self.whitened is None else self.whitened.shape[1]
                if self.tensors is None:
                    return TextureNet(inner, self.classes).to(self.device)
                network = ShortcutNet(channels, inner, self.classes, width)
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _copied(gather: Callable[[Tensor], Tensor], n: int, kind: Kind, copies: int) -> Iterator[Tensor]:
    """All ``n`` raw samples, some at a time, and then all again as `Kind.augment` moves them, ``copies`` - 1 times."""
    generator = torch.Generator().manual_seed(_MOVES)
    for copy in range(copies):
        for rows in torch.split(torch.arange(n), SCORE_BATCH):
            raw = gather(rows)
            yield kind.augment(raw, generator) if copy else raw


def batches(rows: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled mini-batches of row numbers for ever; ``size`` is cut to what there is."""
    size = min(size, len(rows))
    while True:
        order = rows[torch.randperm(len(rows), generator=generator)]
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def side_by_side(job: Callable[[int], T], count: int, device: torch.device) -> list[T]:
    """What ``job`` gives for 0..count-1, in threads of one core each on a CPU: for small networks that beats one on all cores by half."""
    cores = torch.get_num_threads()
    lanes = min(count, cores) if device.type == "cpu" else 1
    if lanes == 1:
        return [job(k) for k in range(count)]
    each = max(1, cores // lanes)
    try:
        # OpenMP keeps a number of threads per calling thread, so each lane sets its own.
        with ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            return list(pool.map(job, range(count)))
    finally:
        torch.set_num_threads(cores)


def sweep(
    read: Callable[[tuple[Tensor, ...], Tensor], Tensor], network: nn.Module, bench: Bench, rows: Tensor, tick: Callable[[], None]
) -> np.ndarray:
    """(B, ...) float32: what ``read`` makes of the inputs and the given labels of ``rows`` (B,), without gradients or augmentation.

    ``network`` is put into eval mode for it. One ``tick`` for each `SCORE_BATCH` rows.
    """
    network.eval()
    parts = []
    with torch.inference_mode(), autocast(bench.device), deterministic(bench.device):
        for part in torch.split(rows, SCORE_BATCH):
            parts.append(read(bench.feed(part), bench.labels[part.to(bench.device)]).float().cpu())
            tick()
    return torch.cat(parts).numpy()
