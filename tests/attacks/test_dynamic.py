from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tocsin.attacks import Dynamic
from tocsin.attacks.adversarial import PixelClassifier
from tocsin.attacks.dynamic_training import Painter, Schedule, diversity, train_generator, train_masker
from tocsin.attacks.training import Standardise
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.networks.encoder_decoder import EncoderDecoder, squash
from tocsin.runtime import Runtime

WIDTHS = (4, 8)
QUICK = Schedule(mask_steps=40, mask_batch=32, steps=40, batch=32, density=0.032, share=0.2, network="small", target=0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0, 400, 10, 10)[0]


@pytest.fixture(scope="module")
def trained(data: Dataset) -> tuple[Painter, list[float], list[float]]:
    torch.manual_seed(0)
    painter = Painter(Standardise.of(data), 1, WIDTHS)
    classifier = PixelClassifier("small", Standardise.of(data), 1, 10, 0)
    masks = train_masker(painter, data, QUICK, Runtime(device="cpu"))
    before = [p.detach().clone() for p in painter.masker.parameters()]
    losses = train_generator(painter, classifier, data, QUICK, Runtime(device="cpu"))
    assert all((a == b).all() for a, b in zip(before, painter.masker.parameters(), strict=True))  # the masks stay as they are
    return painter.eval(), masks, losses


def test_losses_fall(trained: tuple[Painter, list[float], list[float]]) -> None:
    for losses in trained[1:]:
        assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


@torch.no_grad()
def test_trigger_is_the_pattern_where_the_mask_is_and_differs_from_sample_to_sample(
    trained: tuple[Painter, list[float], list[float]], data: Dataset
) -> None:
    painter = trained[0]
    x = torch.from_numpy(data.inputs[:40]).permute(0, 3, 1, 2).float() / 255
    pattern, mask = painter.pattern(x), painter.mask(x)
    assert (tuple(pattern.shape), tuple(mask.shape)) == ((40, 1, 16, 16), (40, 1, 16, 16))
    for values in (pattern, mask):
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1
    torch.testing.assert_close(painter(x), (1 - mask) * x + mask * pattern)
    assert (mask - mask[0]).abs().amax(dim=(1, 2, 3))[1:].min() > 0.01
    assert (pattern - pattern[0]).abs().amax(dim=(1, 2, 3))[1:].min() > 0.01


@torch.no_grad()
def test_cross_trigger_is_the_other_samples(trained: tuple[Painter, list[float], list[float]], data: Dataset) -> None:
    painter = trained[0]
    x = torch.from_numpy(data.inputs[:20]).permute(0, 3, 1, 2).float() / 255
    other = x.roll(1, dims=0)
    crossed = painter.paste(x, other)
    torch.testing.assert_close(crossed, x + (painter.pattern(other) - x) * painter.mask(other))
    assert ((crossed - painter.paste(x)).abs().amax(dim=(1, 2, 3)) > 1e-3).all()


def test_diversity_is_the_ratio_of_root_mean_squares() -> None:
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.random((6, 2, 4, 4)) for _ in range(4))
    rms = lambda v: np.sqrt((v**2).mean(axis=(1, 2, 3)))  # noqa: E731
    expected = (rms(a - b) / (rms(c - d) + 1e-7)).mean()
    np.testing.assert_allclose(float(diversity(*(torch.from_numpy(v) for v in (a, b, c, d)))), expected)


def test_mask_is_sharpened() -> None:
    """sigma(v) = tanh(20 v - 10) / (2 + 1e-7) + 0.5 of the network's output v."""
    painter = Painter(Standardise.blank(1), 1, WIDTHS).eval()

    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.4, 0.5, 0.6])

    painter.masker = Fixed()  # type: ignore[assignment]
    low = 0.5 - np.tanh(2) / 2
    np.testing.assert_allclose(painter.mask(torch.zeros(1, 1, 1, 3)).numpy(), [low, 0.5, 1 - low], atol=1e-6)
    np.testing.assert_allclose(float(squash(torch.tensor(0.7))), np.tanh(0.7) / 2 + 0.5, atol=1e-6)


def test_network_has_the_published_layers() -> None:
    net = EncoderDecoder(3, 1, (32, 64, 128))
    convolutions = [(m.in_channels, m.out_channels) for m in net.modules() if isinstance(m, nn.Conv2d)]
    down = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    up = [(128, 128), (128, 64), (64, 64), (64, 32), (32, 32), (32, 1)]
    assert convolutions == [*down, (128, 128), *up]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 13
    assert {m.momentum for m in norms} == {0.05}
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) == 12  # none at the end
    assert sum(isinstance(m, nn.MaxPool2d) for m in net.modules()) == sum(isinstance(m, nn.Upsample) for m in net.modules()) == 3


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (1, 5)])
def test_network_keeps_any_size(size: tuple[int, int]) -> None:
    assert EncoderDecoder(3, 2, (2, 2, 2)).eval()(torch.zeros(2, 3, *size)).shape == (2, 2, *size)


def test_bad_settings_are_named() -> None:
    for settings in ({"widths": ()}, {"batch": 4}, {"share": 0.5}, {"density": 0}, {"mask_steps": 0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Dynamic(**settings)  # type: ignore[arg-type]
