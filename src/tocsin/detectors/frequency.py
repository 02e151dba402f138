"""Frequency: Zeng et al., "Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective", ICCV 2021.

Triggers leave traces in the spectrum that photographs do not have. A small network learns to tell the cosine transforms of clean
pictures from those of the same pictures with made-up triggers, and is then shown the inspected ones. No model of the data is read.
Of sounds it reads the transform of their log-mel maps, and the triggers are sounds (`tampered_sounds`).
docs/model-based.md says what differs from the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from tocsin.attacks.stamps import shrink, to_bytes
from tocsin.detectors.excess import Measurement, QuantileDetector
from tocsin.detectors.tampered_sounds import LEVELS, SOUNDS
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.detectors.victim import Victim
    from tocsin.kinds import Kind
    from tocsin.networks.spectrum import Spectrum, SpectrumNet

Judge: TypeAlias = "tuple[Spectrum, SpectrumNet]"
"""A transform with its scale, and the network that reads it."""
Read: TypeAlias = "Callable[[Tensor], Tensor]"
"""Raw samples (B, ...) -> (B, H, W, C) float32 in grey levels."""
Trigger: TypeAlias = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""(samples, all clean samples, rng) -> samples with a made-up trigger, all raw: (N, H, W, C) uint8 or (N, T) int16."""
_CORNERS = 5
"""Vertices of a shadow."""


@dataclass(frozen=True)
class Frequency(QuantileDetector):
    """Frequency: finds pictures and sounds whose spectrum looks tampered with to a network trained on made-up triggers."""

    name: ClassVar[str] = "frequency"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})
    paper: ClassVar[Mapping[str, Any]] = {
        "cut": "network",
        "width": 32,
        "whiten": False,
        "optimizer": "adadelta",
        "lr": 0.05,
        "weight_decay": 2e-4,
        "draws": 5,
        "steps": None,
    }

    share: float = 0.05
    """Share of clean samples beyond the cut."""
    cut: Literal["quantile", "network"] = "quantile"
    """quantile (ours): ``share`` of the held-out reserve lies beyond; network (published): where the network thinks tampering likelier."""
    folds: int = 2
    """Parts of the reserve. Each part is the control of a network of its own, trained on the other parts; each inspected sample is
    scored by one of the networks, drawn at random, as each reserve sample is by the one that has not seen it."""
    width: int = 16
    """Channels of the first two convolutions; then twice and four times as many."""
    whiten: bool = True
    """Divide each coefficient by its root mean square over the clean pictures; the paper feeds coefficients as they are."""
    optimizer: Literal["adam", "adadelta"] = "adam"
    """adam on a one-cycle schedule, or adadelta at a constant rate (published)."""
    lr: float = 0.003
    """Highest learning rate."""
    weight_decay: float = 1e-4
    """L2 penalty's gradient factor (twice what Keras calls l2)."""
    batch: int = 64
    """Pictures a step, about half of them tampered with."""
    draws: int = 5
    """How often triggers are made up anew for all pictures, for each network."""
    steps: int | None = 60
    """Steps a draw; None: as many as ``epochs`` passes take."""
    epochs: int = 10
    """Passes a draw over the clean and the tampered pictures, where ``steps`` is none."""

    @property
    def asks_network(self) -> bool:
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"width": self.width, "draws": self.draws, "steps": self.steps, "epochs": self.epochs, "batch": self.batch - 1}
        if wrong := [name for name, value in counts.items() if value is not None and value < 1]:
            raise InputError(f"{', '.join(wrong)}: too small; allowed are whole numbers from 1, and a batch from 2")
        if not (0 < self.lr < math.inf and self.weight_decay >= 0 and self.folds >= 2):
            raise InputError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, folds {self.folds}: "
                "allowed are an lr above 0, a weight_decay from 0 and folds from 2"
            )

    def score(self, victim: Victim) -> Measurement:
        """Scores are log odds of "tampered with". No network scores a reserve sample that it was trained on."""
        began, runtime, reserve = time.monotonic(), victim.runtime, victim.reserve
        if len(reserve) < self.folds:
            raise InputError(f"reserve: got {len(reserve)} samples, {self.name} needs at least one for each of its {self.folds} folds")
        rng = np.random.default_rng([runtime.seed, 0xF4])
        part = np.empty(len(reserve), np.int64)
        part[np.lexsort((rng.random(len(reserve)), reserve.labels))] = np.arange(len(reserve)) % self.folds  # equal parts of each class
        read = reading(victim.kind)
        judges = [self._trained(np.asarray(reserve.inputs[part != fold]), fold, read, runtime) for fold in range(self.folds)]
        trained = time.monotonic()
        control = _log_odds(judges, part, reserve.inputs, read, runtime, "Frequency: reserve")
        drawn = rng.integers(0, self.folds, len(victim.train))
        scores = _log_odds(judges, drawn, victim.train.inputs, read, runtime, "Frequency: reading spectra")
        return Measurement(
            scores,
            control,
            reserve.labels,
            cut=0.0 if self.cut == "network" else None,
            evidence={
                "tampered, say the networks": float((scores > 0).mean()) if len(scores) else 0.0,
                "of the reserve": float((control > 0).mean()),
            },
            timings={"training": trained - began, "reading": time.monotonic() - trained},
        )

    def _trained(self, clean: np.ndarray, fold: int, read: Read, runtime: Runtime) -> Judge:
        """A network trained on ``clean`` raw samples (n, ...) and made-up triggers on them."""
        import torch
        from torch.nn import functional as F

        from tocsin.learning import autocast, deterministic, gatherer, one_cycle
        from tocsin.networks.spectrum import Spectrum, SpectrumNet

        device, rng = runtime.torch_device(), np.random.default_rng([runtime.seed, 0xF4, fold])
        n, (height, width, channels) = len(clean), read(torch.from_numpy(clean[:1])).shape[1:]
        spectrum = Spectrum(height, width).to(device)
        if self.whiten:
            spectrum.scale = _root_mean_square(spectrum, clean, read, device)
        steps = self.draws * (self.steps or self.epochs * max(1, 2 * n // self.batch))
        # Layers and dropout draw from the global generator: it is seeded here and given back as it was.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), deterministic(device):
            torch.manual_seed(runtime.seed + fold)
            network = SpectrumNet(channels, height, width, self.width).to(device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            method = torch.optim.Adadelta if self.optimizer == "adadelta" else torch.optim.Adam
            optimizer = method(network.parameters(), self.lr, weight_decay=self.weight_decay)
            for step, rows in enumerate(_batches(2 * n, self.batch, steps, rng)):
                if step % (steps // self.draws) == 0:
                    base = retaken(clean, rng)
                    gather = gatherer(np.concatenate([base, tamper(base, rng)]), device)
                if self.optimizer == "adam":
                    optimizer.param_groups[0]["lr"] = one_cycle(step, steps, self.lr)
                x = spectrum(read(gather(rows)))
                with autocast(device):
                    logits = network(x.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits.float(), (rows >= n).long().to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                runtime.progress("Frequency: training", (fold + (step + 1) / steps) / self.folds)
        return spectrum, network


def _batches(total: int, size: int, steps: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """``steps`` batches of rows, shuffled anew for each pass; what is left over at its end has its turn in another pass."""
    import torch

    size = min(size, total)
    for step in range(steps):
        place = step % (total // size)
        if place == 0:
            order = torch.from_numpy(rng.permutation(total))
        yield order[place * size :][:size]


def _root_mean_square(spectrum: Spectrum, clean: np.ndarray, read: Read, device: Any) -> Tensor:
    """(C, H, W): of each coefficient over the clean samples, at least one grey level."""
    import torch

    from tocsin.learning import EVAL_BATCH

    total = sum(
        spectrum(read(torch.from_numpy(clean[start : start + EVAL_BATCH]).to(device))).square().sum(0, dtype=torch.float64)
        for start in range(0, len(clean), EVAL_BATCH)
    )
    return (torch.as_tensor(total) / len(clean)).sqrt().clamp(min=1.0).float()


def _log_odds(judges: list[Judge], drawn: np.ndarray, inputs: np.ndarray, read: Read, runtime: Runtime, stage: str) -> np.ndarray:
    """(N,) float32: how much likelier tampered with than clean, says the judge number ``drawn`` (N,), as a difference of logits."""
    import torch

    from tocsin.learning import EVAL_BATCH, evaluating

    device = runtime.torch_device()
    out = np.empty(len(inputs), np.float32)
    with torch.inference_mode():
        for start in range(0, len(inputs), EVAL_BATCH):
            raw, asked = np.array(inputs[start : start + EVAL_BATCH]), drawn[start : start + EVAL_BATCH]
            for number, (spectrum, network) in enumerate(judges):
                mine = np.flatnonzero(asked == number)
                if not len(mine):
                    continue
                x = spectrum(read(torch.from_numpy(raw[mine]).to(device))).contiguous(memory_format=torch.channels_last)
                with evaluating(network, device):
                    logits = network(x).float()
                out[start + mine] = (logits[:, 1] - logits[:, 0]).cpu().numpy()
            runtime.progress(stage, (start + len(raw)) / len(inputs))
    return out


def reading(kind: Kind) -> Read:
    """What a spectrum is taken of: pixels, or log-mel maps, as `Kind.maps` gives them."""
    from tocsin.kinds.speech import SpeechKind

    levels = LEVELS if isinstance(kind, SpeechKind) else 1.0
    return lambda raw: kind.maps(raw) * levels


def retaken(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Raw samples as they might have been taken too: pictures `mirrored`, clips moved in time as for training."""
    if clean.ndim > 2:
        return mirrored(clean, rng)
    import torch

    from tocsin.kinds.speech import furthest, moved

    start = rng.integers(0, 2 * furthest(clean.shape[1]) + 1, (len(clean), 1))
    return moved(torch.from_numpy(clean), torch.from_numpy(start)).numpy()


def mirrored(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, H, W, C): each picture mirrored left to right and top to bottom at random, square ones transposed too.

    That multiplies a small reserve by eight; a shifted crop would not do, since its border is an artefact of its own.
    """
    out = np.array(pictures)
    turns: list[Callable[[np.ndarray], np.ndarray]] = [lambda x: x[:, :, ::-1], lambda x: x[:, ::-1]]
    if pictures.shape[1] == pictures.shape[2]:
        turns.append(lambda x: x.swapaxes(1, 2))
    for turn in turns:
        rows = np.flatnonzero(rng.random(len(out)) < 0.5)
        out[rows] = turn(out[rows])
    return out


def tamper(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of raw ``clean`` with one of the five kinds of `TRIGGERS`, of clips (N, T) of `SOUNDS`, drawn at random, on each sample."""
    triggers = SOUNDS if clean.ndim == 2 else TRIGGERS
    out, kinds = np.array(clean), rng.integers(0, len(triggers), len(clean))
    for kind, trigger in enumerate(triggers):
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            out[rows] = trigger(clean[rows], clean, rng)
    return out


def white_patch(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A white square of 2 to 7 pixels, 0 to 5 pixels from a random corner (in proportion on pictures below 32 pixels)."""
    return np.where(_corner_squares(x, rng), np.uint8(255), x)


def noise_patch(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Such a square of uniform noise."""
    return np.where(_corner_squares(x, rng), rng.integers(0, 256, x.shape, dtype=np.uint8), x)


def gaussian_noise(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of mean 25 and a variance of 10 to 70 on the 0..255 scale."""
    spread = np.sqrt(rng.uniform(10, 70, (len(x), 1, 1, 1)))
    return to_bytes(x + 25 + spread * rng.standard_normal(x.shape))


def shadow(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half the brightness inside a random polygon (five random vertices, even-odd rule; vertices and factor are ours)."""
    height, width = x.shape[1:3]
    at = rng.uniform(0, 1, (_CORNERS, 2, len(x), 1, 1)) * np.array([height, width]).reshape(2, 1, 1, 1)
    row, column = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    inside = np.zeros(x.shape[:3], bool)
    for (y0, x0), (y1, x1) in zip(at, np.roll(at, -1, axis=0), strict=True):  # a ray to the left flips at each edge it crosses
        inside ^= ((y0 > row) != (y1 > row)) & (column > x0 + (row - y0) * (x1 - x0) / (y1 - y0))
    return np.where(inside[..., None], x // 2, x)


def addition(x: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0.3 times another picture of ``others`` added."""
    return to_bytes(x + np.float32(0.3) * others[rng.integers(0, len(others), len(x))])


TRIGGERS: tuple[Trigger, ...] = (
    white_patch,
    noise_patch,
    gaussian_noise,
    shadow,
    addition,
)
"""The five kinds of made-up triggers on pictures."""


def _corner_squares(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, H, W, 1) bool: a square near a corner of each picture."""

    def near(side: int) -> np.ndarray:
        """(N, side): pixels within the square along one side."""
        margin, place = rng.integers(0, shrink(5, x.shape, 0) + 1, (len(x), 1)), np.arange(side)
        place = np.where(rng.random((len(x), 1)) < 0.5, place, side - 1 - place)
        return (place >= margin) & (place < margin + size)

    size = rng.integers(shrink(2, x.shape, 1), shrink(7, x.shape, 2) + 1, (len(x), 1))
    rows, columns = near(x.shape[1]), near(x.shape[2])
    return np.asarray(rows[:, :, None, None] & columns[:, None, :, None])
