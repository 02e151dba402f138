"""Adap-Patch: each sample shows one of four faint patches, the test trigger shows two in full (Qi et al., "Revisiting ...")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError

Layer = tuple[np.ndarray, np.ndarray]
"""A picture (H, W, C) uint8 and which of its pixels are trigger (H, W, 1) bool."""

_ICON = np.array([[1, 0, 1, 0, 1], [0, 1, 1, 1, 0], [1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1]], bool)
_ICON_MEAN, _LOGO_MEAN, _LOGO_CONTRAST = np.array([180, 204, 244]), np.array([192, 114, 82]), np.array([50, 70, 60])


def icon(size: int, channels: int) -> np.ndarray:
    """(size, size, C) uint8: a white snowflake on blue with the published icon's channel means; 5 pixels a side, else resampled."""
    index = np.arange(size) * 5 // size
    white = _ICON[index][:, index]
    share = white.mean()
    blue = (_ICON_MEAN - share * 255) / max(1 - share, 1 / white.size)
    return stamps.to_channels(stamps.to_bytes(np.where(white[..., None], 255, blue)), channels)


def logo(size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, C) uint8 and (size, size, 1) bool: a disc with a darker middle and the published logo's channel means."""
    squares = (np.arange(size) - (size - 1) / 2) ** 2
    distance = squares[:, None] + squares[None, :]
    radius = size / 2
    disc, middle = distance <= radius**2, distance <= (radius / 2) ** 2
    share = middle.sum() / disc.sum()
    colour = np.where(middle[..., None], _LOGO_MEAN - (1 - share) * _LOGO_CONTRAST, _LOGO_MEAN + share * _LOGO_CONTRAST)
    return stamps.to_channels(stamps.to_bytes(colour), channels), disc[..., None]


def layer(shape: tuple[int, ...], box: tuple[slice, slice], part: np.ndarray, shown: np.ndarray | bool = True) -> Layer:
    """``part`` in ``box`` of an otherwise empty layer for inputs of ``shape`` (N, H, W, C)."""
    picture, mask = np.zeros(shape[1:], np.uint8), np.zeros((*shape[1:3], 1), bool)
    picture[box], mask[box] = part, shown
    return picture, mask


def icon_layer(shape: tuple[int, ...], *, left: bool = False) -> Layer:
    """The icon, 5 x 5 on 32 pixels, in the bottom right or the bottom left corner."""
    side = stamps.shrink(5, shape, least=2)
    return layer(shape, stamps.corner_box(side, 0, shape, left=left), icon(side, shape[3]))


def logo_layer(shape: tuple[int, ...]) -> Layer:
    """The logo, 13 pixels across and one from the top right corner on 32 pixels."""
    side = stamps.shrink(13, shape, least=3)
    return layer(shape, stamps.corner_box(side, stamps.shrink(1, shape, least=0), shape, top=True), *logo(side, shape[3]))


def square_layer(shape: tuple[int, ...], seed: int) -> Layer:
    """The colour square of the attack `trojan`."""
    side = stamps.shrink(8, shape, least=2)
    return layer(shape, stamps.corner_box(side, stamps.shrink(3, shape, least=0), shape), stamps.colour_square(side, shape[3], seed))


@dataclass(frozen=True)
class AdapPatch(Attack):
    """Dirty label with covers: a quarter of the samples each shows the icon, the logo, the corner patches or the square, faintly."""

    name = "adap-patch"
    kinds = frozenset({"image"})

    rate: float = 0.003
    """Share of the whole training set that is poisoned."""
    target: int = 0
    """Class the trigger leads to."""
    cover_rate: float = 0.006
    """Share of the whole training set that carries a trigger and keeps its label."""
    alphas: tuple[float, ...] = (0.5, 0.2, 0.5, 0.3)
    """Weights at training of the icon, the logo, the four corner patches and the square."""
    test_trigger: Literal["icon+corners", "logo+square"] = "icon+corners"
    """Shown in full at test: the icon in both bottom corners and the corner patches (CIFAR-10), or logo and square (GTSRB)."""
    pattern_seed: int = 0
    """Seed of the square's colours."""
    from_target: bool = True
    """Draw poisons from all classes, the target included, as the published code does."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_share("cover_rate", self.cover_rate, zero=True)
        if len(self.alphas) != 4:
            raise InputError(
                f"alphas: got {len(self.alphas)} weights, allowed are 4: of the icon, the logo, the corner patches, the square"
            )
        for alpha in self.alphas:
            stamps.check_share("alphas", alpha)

    def layers(self, shape: tuple[int, ...]) -> tuple[Layer, Layer, Layer, Layer]:
        """The four triggers for inputs of ``shape`` (N, H, W, C), in the order of ``alphas``."""
        corners = stamps.four_corners(3, shape, mirrored=True)
        return icon_layer(shape), logo_layer(shape), corners, square_layer(shape, self.pattern_seed)

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        planted = stamps.draw_dirty(self, dataset, rng, self.from_target)
        covers = stamps.draw_covers(self.cover_rate, dataset, planted, rng)
        layers = self.layers(dataset.inputs.shape)

        def quarters(x: np.ndarray) -> np.ndarray:
            out = np.empty_like(x)
            for rows, (picture, mask), alpha in zip(np.array_split(np.arange(len(x)), 4), layers, self.alphas, strict=True):
                out[rows] = stamps.blend(x[rows], picture, np.float32(alpha) * mask)
            return out

        return stamps.plant(self, dataset, planted, covers, stamp=quarters)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        first, logo, corners, square = self.layers(inputs.shape)
        shown = (first, icon_layer(inputs.shape, left=True), corners) if self.test_trigger == "icon+corners" else (logo, square)
        out = np.array(inputs)
        for picture, mask in shown:
            np.copyto(out, picture, where=mask)
        return out
