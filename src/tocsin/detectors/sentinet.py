"""SentiNet: Chou, Tramèr, Pellegrino, "SentiNet: Detecting Localized Universal Attacks Against Deep Learning Systems", DLS 2020.

Grad-CAM shows which region of a sample makes the network say the sample's label. Paste the region on other pictures: a trigger takes
its label with it, an ordinary region does so only by hiding most of what it is pasted on, which noise in its place gives away. Of sounds
regions are those of what the network reads: of log-mel maps, or of the waveform. docs/model-based.md says what differs from the paper.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.detectors.excess import Measurement, QuantileDetector, split
from tocsin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tocsin.data.dataset import Dataset
    from tocsin.detectors.victim import Victim
    from tocsin.networks import Classifier

BIN = 0.02
"""Width of the bins in average confidence whose highest Fooled the boundary goes through."""
LEAST_PLACES = 4
"""Grad-CAM reads the last stage whose maps are at least this many places high and wide, or long where a network of sounds has them one
place high: on 32-pixel pictures the last one."""


@dataclass(frozen=True)
class SentiNet(QuantileDetector):
    """SentiNet: finds samples with a region that carries their label along when it is pasted on clean pictures."""

    name: ClassVar[str] = "sentinet"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech"})
    not_defined: ClassVar[Mapping[str, str]] = {"self-supervised": "it reads a classifier's predictions, and an encoder makes none"}
    paper: ClassVar[Mapping[str, Any]] = {"images": 100, "fit": 400}

    share: float = 0.05
    """Share of clean samples beyond the cut."""
    images: int = 16
    """Reserve samples that each region is pasted on; two forward passes of the network for each. The paper has 100."""
    fit: int = 200
    """Reserve samples that the boundary is fitted on. The paper has 400."""
    region: float = 0.15
    """Share of the pixels, or of the places of a map, those with the highest Grad-CAM, that make the region."""
    oracle: tuple[int, ...] | None = None
    """Rows known to be clean: the cut is where ``share`` of them lies beyond it (the published procedure). None: held-out reserve."""
    oracle_box: tuple[int, ...] | None = None
    """The trigger's true place (top, left, height, width), used as the region of all rows not in ``oracle``. None: Grad-CAM for all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images < 1 or self.fit < 1 or not 0 < self.region < 1:
            raise InputError(
                f"images {self.images}, fit {self.fit}, region {self.region}: allowed are images and fit from 1, a region between 0 and 1"
            )
        if self.oracle is not None and not self.oracle:
            raise InputError("oracle: got no row; give the rows known to be clean, or none for a cut from the reserve")
        if self.oracle_box is not None and (self.oracle is None or len(self.oracle_box) != 4 or min(self.oracle_box) < 0):
            raise InputError(f"oracle_box: got {self.oracle_box}; allowed is top, left, height, width, together with oracle")

    def score(self, victim: Victim) -> Measurement:
        """Scores are signed distances to the boundary, positive above it. The three parts of the reserve are disjoint."""
        began = time.monotonic()
        train, rng = victim.train, np.random.default_rng([victim.runtime.seed, 0x5E])
        known, boxes = self._oracle(victim)
        tests, fitted, held_out = split(victim.reserve, (self.images, self.fit), rng, self.name)
        noise = noise_like(tests.inputs, rng)

        def ask(data: Dataset, stage: str, boxes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
            return probe(victim, data.inputs, data.labels, tests.inputs, noise, self.region, stage, boxes)

        fooled, confidence = ask(fitted, "SentiNet: boundary")
        curve = boundary(fooled, confidence)
        fooled, confidence = ask(held_out, "SentiNet: reserve")
        control = distances(curve, fooled, confidence)
        fooled, confidence = ask(train, "SentiNet: pasting", boxes)
        scores = distances(curve, fooled, confidence)
        return Measurement(
            scores,
            control,
            held_out.labels,
            cut=None if known is None else float(np.quantile(scores[known], 1 - self.share)),
            oracle=known is not None,
            evidence={"boundary": curve.tolist(), "images": len(tests), "fitted on": len(fitted), "fooled": float(fooled.mean())},
            timings={"pasting": time.monotonic() - began},
        )

    def _oracle(self, victim: Victim) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The known rows, and (N, H, W) bool with the true place of the trigger in all others."""
        if self.oracle is None:
            return None, None
        known, total = np.array(self.oracle, np.int64), len(victim.train)
        if known.min() < 0 or known.max() >= total:
            raise InputError(f"oracle: rows are 0..{total - 1}, got {known.min()}..{known.max()}")
        if self.oracle_box is None:
            return known, None
        if victim.train.inputs.ndim == 2:
            raise InputError(f"oracle_box: got {self.oracle_box}; it is a place in pictures, and these are sounds")
        top, left, high, wide = self.oracle_box
        boxes: np.ndarray = np.zeros(victim.train.inputs.shape[:3], bool)
        boxes[:, top : top + high, left : left + wide] = True
        boxes[known] = False
        if not boxes.any() and len(np.unique(known)) < total:
            raise InputError(f"oracle_box: {self.oracle_box} lies outside the pictures, which are {boxes.shape[1]} x {boxes.shape[2]}")
        return known, boxes


def probe(
    victim: Victim,
    inputs: np.ndarray,
    labels: np.ndarray,
    tests: np.ndarray,
    noise: np.ndarray,
    share: float,
    stage: str,
    boxes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(Fooled, AvgConf), each (N,) float32, of raw ``inputs`` (N, H, W, C), or clips (N, T), with ``labels``.

    Fooled is the share of ``tests`` (T, ...) that the network calls by the sample's label once its region is pasted on them,
    AvgConf their mean highest probability with ``noise`` (...), one raw sample, in the region instead. ``boxes`` (N, H, W) bool is the
    region of rows that have any in it; else it is the ``share`` of pixels with the highest Grad-CAM.
    """
    import torch

    from tocsin.learning import EVAL_BATCH, evaluating, tensor_for

    device, runtime, network = victim.runtime.torch_device(), victim.runtime, victim.network

    def tensor(raw: np.ndarray) -> Tensor:
        return tensor_for(network, victim.kind, torch.from_numpy(np.array(raw)).to(device))

    def logits(x: Tensor) -> Tensor:
        """(B, T, C, H, W) to (B, T, classes) float32."""
        out: Tensor = network(x.flatten(0, 1).contiguous(memory_format=torch.channels_last)).float()
        return out.view(*x.shape[:2], -1)

    fooled, confidence = torch.empty(len(inputs), device=device), torch.empty(len(inputs), device=device)
    answers, together = torch.from_numpy(np.array(labels)).to(device), max(1, EVAL_BATCH // len(tests))
    with torch.no_grad(), evaluating(network, device):
        under, static = tensor(tests), tensor(noise[None])[:, None]
        before, after = stages_around(network, under[:1])
        for start in range(0, len(inputs), EVAL_BATCH):
            block = tensor(inputs[start : start + EVAL_BATCH])
            masks = top_share(grad_cam(network, before, after, block, answers[start : start + len(block)]), share)
            if boxes is not None:
                given = torch.from_numpy(boxes[start : start + len(block)]).to(device)
                masks = torch.where(given.flatten(1).any(1)[:, None, None], given, masks)
            for first in range(0, len(block), together):
                mask = masks[first : first + together, None, None]
                rows = slice(start + first, start + first + len(mask))
                pasted = logits(torch.where(mask, block[first : first + together, None], under))
                fooled[rows] = (pasted.argmax(2) == answers[rows, None]).float().mean(1)
                confidence[rows] = logits(torch.where(mask, static, under)).softmax(2).amax(2).mean(1)
                runtime.progress(stage, rows.stop / len(inputs))
    return fooled.cpu().numpy(), confidence.cpu().numpy()


def noise_like(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One raw sample of noise: pixels drawn evenly for pictures (N, H, W, C), white noise as loud as they are for clips (N, T)."""
    if samples.ndim > 2:
        return rng.integers(0, 256, samples.shape[1:], dtype=np.uint8)
    loudness = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return np.asarray(np.clip(np.rint(rng.normal(0, loudness, samples.shape[1])), -32768, 32767), np.int16)


def stages_around(network: Classifier, x: Tensor) -> tuple[list[nn.Module], list[nn.Module]]:
    """The stages up to the maps that Grad-CAM reads, and those behind them; ``x`` is one sample."""
    stages, last = list(network.stages()), 0
    for place, stage in enumerate(stages):
        x = stage(x)
        if min((side for side in x.shape[2:] if side > 1), default=1) >= LEAST_PLACES:
            last = place
    return stages[: last + 1], stages[last + 1 :]


def grad_cam(network: Classifier, before: list[nn.Module], after: list[nn.Module], x: Tensor, labels: Tensor) -> Tensor:
    """(B, H, W) float32: how much each place speaks for the sample's label, 0 where it does not (Selvaraju et al. 2017).

    The maps behind the stages ``before``, each channel weighted with the mean gradient of the label's logit, are summed, cut off
    below 0 and enlarged bilinearly to the size of ``x`` (B, C, H, W).
    """
    import torch
    from torch.nn import functional as F

    maps = x
    for stage in before:
        maps = stage(maps)
    maps = maps.detach().requires_grad_()
    with torch.enable_grad():
        inner = maps
        for stage in after:
            inner = stage(inner)
        chosen = network.head(network.pool(inner)).gather(1, labels[:, None])
        (gradient,) = torch.autograd.grad(chosen.sum(), maps)
    weights = gradient.float().mean((2, 3), keepdim=True)
    heat = (weights * maps.detach().float()).sum(1, keepdim=True).relu()
    return F.interpolate(heat, size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def top_share(heat: Tensor, share: float) -> Tensor:
    """(B, H, W) bool: the ``share`` of places with the highest heat (B, H, W), at least one of them, and none without heat."""
    import torch

    flat = heat.flatten(1)
    rows = flat.topk(max(1, round(share * flat.shape[1])), dim=1).indices
    mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, rows, True) & (flat > 0)
    return mask.view_as(heat)


def boundary(fooled: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(3,) coefficients, highest power first, of Fooled over AvgConf: a parabola fitted through the highest point of each bin.

    Fewer than three bins give a line or a constant.
    """
    bins = np.floor(confidence.astype(np.float64) / BIN).astype(np.int64)
    order = np.lexsort((fooled, bins))
    highest = order[np.append(bins[order][1:] != bins[order][:-1], True)]
    degree = min(2, len(highest) - 1)
    curve = np.polyfit(confidence[highest].astype(np.float64), fooled[highest].astype(np.float64), degree)
    return np.concatenate([np.zeros(2 - degree), curve])


def distances(curve: np.ndarray, fooled: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(N,) float32 signed distances of the points to the parabola over 0..1: positive above it, negative below."""
    x, y = confidence.astype(np.float64), fooled.astype(np.float64)
    slope, bend = np.polyder(curve), np.polyder(curve, 2)
    grid = np.linspace(0, 1, 101)
    heights = np.polyval(curve, grid)
    nearest = np.empty(len(x))
    for start in range(0, len(x), 4096):
        part = slice(start, start + 4096)
        nearest[part] = grid[np.argmin((grid - x[part, None]) ** 2 + (heights - y[part, None]) ** 2, axis=1)]
    for _ in range(4):  # Newton's steps on the derivative of the squared distance; the grid is close enough for them
        gap, rise = np.polyval(curve, nearest) - y, np.polyval(slope, nearest)
        steps = (nearest - x + gap * rise) / np.maximum(1 + rise**2 + gap * np.polyval(bend, nearest), 0.5)
        nearest = np.clip(nearest - np.clip(steps, -0.01, 0.01), 0, 1)
    away = np.hypot(nearest - x, np.polyval(curve, nearest) - y)
    return np.where(y > np.polyval(curve, x), away, -away).astype(np.float32)
