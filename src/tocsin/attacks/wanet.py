"""WaNet: a smooth, hardly visible warp is the trigger (Nguyen and Tran, "WaNet: Imperceptible Warping-based Backdoor Attack")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError


def identity_grid(height: int, width: int) -> np.ndarray:
    """(H, W, 2) float32: where each pixel lies, as (x, y) in [-1, 1] from the centre of the first pixel to that of the last."""
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)


def noise_field(grid: int, height: int, width: int, seed: int) -> np.ndarray:
    """(H, W, 2) float32: ``grid`` x ``grid`` uniform vectors in [-1, 1], divided by their mean absolute value, enlarged bicubically."""
    import torch

    control = np.random.default_rng([seed, 0x3A9E]).uniform(-1, 1, (1, 2, grid, grid)).astype(np.float32)
    control /= np.abs(control).mean()
    large = torch.nn.functional.interpolate(torch.from_numpy(control), (height, width), mode="bicubic", align_corners=True)
    return np.asarray(large[0].permute(1, 2, 0).numpy())


def pixel_noise(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """(count, H, W, 2) float32: for each pixel an independent uniform shift of up to half a pixel either way."""
    noise = 2 * rng.random((count, height, width, 2), np.float32) - 1
    return np.asarray(noise / np.array((width, height), np.float32))


def warp(inputs: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) sampled bilinearly at ``grid`` (H, W, 2) or (N, H, W, 2), places as in `identity_grid`; rounded."""
    import torch

    places = np.broadcast_to(grid, (len(inputs), *grid.shape[-3:]))
    out = np.empty_like(inputs)
    for part in stamps.chunks(inputs.shape):
        x = torch.from_numpy(inputs[part].astype(np.float32)).permute(0, 3, 1, 2)
        y = torch.nn.functional.grid_sample(x, torch.from_numpy(np.array(places[part])), mode="bilinear", align_corners=True)
        out[part] = stamps.to_bytes(y.permute(0, 2, 3, 1).numpy())
    return out


@dataclass(frozen=True)
class WaNet(Attack):
    """Dirty label with covers: poisons are warped by one fixed smooth field; covers by that field and noise, and keep their label."""

    name = "wanet"
    kinds = frozenset({"image"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    cover_rate: float = 0.1
    """Share of the whole training set that is warped with noise and keeps its label (the paper's noise mode)."""
    grid: int = 4
    """k: the warp is drawn on k x k control points."""
    strength: float = 0.5
    """s: a control point of mean size moves a pixel by s / 2 pixels."""
    cover_noise: Literal["sample", "shared"] = "sample"
    """Noise of the covers: drawn anew for each ``sample`` (the original), or one draw ``shared`` by all (the published CT code)."""
    pattern_seed: int = 0
    """Seed of the warp."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("cover_rate", self.cover_rate, zero=True)
        if self.grid < 2:
            raise InputError(f"grid: got {self.grid}, allowed is from 2 control points a side")
        if not 0 < self.strength < float("inf"):
            raise InputError(f"strength: got {self.strength}, allowed is any number above 0 (0.5 is the published one)")

    def warp_grid(self, height: int, width: int) -> np.ndarray:
        """(H, W, 2) float32: where the trigger takes each pixel from."""
        field = noise_field(self.grid, height, width, self.pattern_seed)
        shift = self.strength * field / np.array((width, height), np.float32)
        return np.clip(identity_grid(height, width) + shift, -1, 1)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_dirty(self, dataset, rng, self.from_target)
        covers = stamps.draw_covers(self.cover_rate, dataset, planted, rng)

        def noisy(x: np.ndarray) -> np.ndarray:
            out, size = np.empty_like(x), x.shape[1:3]
            grid, shared = self.warp_grid(*size), pixel_noise(rng, 1, *size)
            for part in stamps.chunks(x.shape):
                noise = pixel_noise(rng, len(x[part]), *size) if self.cover_noise == "sample" else shared
                out[part] = warp(x[part], np.clip(grid + noise, -1, 1))
            return out

        return stamps.plant(self, dataset, planted, covers, cover_stamp=noisy)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return warp(inputs, self.warp_grid(*inputs.shape[1:3]))
