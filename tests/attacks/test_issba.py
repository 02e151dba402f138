from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tocsin.attacks import Issba
from tocsin.attacks.issba_training import Schedule, Stamper, ssim, train_encoder
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.networks.steganography import SecretDecoder, SecretEncoder
from tocsin.runtime import Runtime


def smooth() -> Dataset:
    """Pictures of one brightness each: something is easily hidden in them."""
    rng = np.random.default_rng(0)
    return Dataset.of_arrays(np.broadcast_to(rng.integers(60, 200, (200, 1, 1, 1), dtype=np.uint8), (200, 8, 8, 1)), np.arange(200) % 4)


def test_secret_is_read_better_than_by_chance() -> None:
    how = Schedule(steps=100, secret_steps=100, batch=16, lr=0.01, weights=(1.5, 2.0, 1.5))
    encoder, figures = train_encoder(smooth(), 1, 4, how, Runtime(device="cpu"))
    assert figures["bit_accuracy"] > 0.9
    x = torch.full((2, 1, 8, 8), 0.5)
    with torch.no_grad():
        one, other = encoder(torch.tensor([[0.0], [1]]), x)
    assert float((one - other).abs().max()) > 1 / 255  # another secret is another change


def test_later_losses_keep_the_change_small() -> None:
    loud = Schedule(steps=30, secret_steps=30, batch=16, lr=0.01, weights=(1.5, 2.0, 1.5))
    quiet = Schedule(steps=30, secret_steps=0, batch=16, lr=0.01, weights=(0.01, 20.0, 15.0))
    assert (
        train_encoder(smooth(), 2, 4, quiet, Runtime(device="cpu"))[1]["psnr"]
        > train_encoder(smooth(), 2, 4, loud, Runtime(device="cpu"))[1]["psnr"] + 3
    )


def test_same_bits_are_a_different_change_on_each_sample() -> None:
    torch.manual_seed(0)
    stamper = Stamper(SecretEncoder(20, (16, 16, 3), 4), torch.ones(20)).eval()
    x = 0.25 + 0.5 * torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        change = stamper(x) - x
    for i in range(5):
        for j in range(i):
            assert float((change[i] - change[j]).abs().max()) > 1e-3


def test_secret_belongs_to_the_seed_and_is_fixed() -> None:
    attack = Issba(rate=0.1, width=2, steps=2, batch=8)
    secrets = [attack.learn(smooth(), Runtime(device="cpu", seed=seed))["secret"] for seed in (0, 0, 1)]
    assert secrets[0].shape == (20,)
    assert set(secrets[0]) == {0, 1}
    np.testing.assert_array_equal(secrets[0], secrets[1])
    assert (secrets[0] != secrets[2]).any()


def test_ssim_is_the_published_formula_in_windows() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, 9, 8)), rng.random((2, 1, 9, 8))
    expected = []
    for a, b in zip(x[:, 0], y[:, 0], strict=True):
        values = []
        for i in range(3):
            for j in range(2):
                p, q = a[i : i + 7, j : j + 7], b[i : i + 7, j : j + 7]
                both = ((p - p.mean()) * (q - q.mean())).mean()
                top = (2 * p.mean() * q.mean() + 1e-4) * (2 * both + 9e-4)
                values.append(top / ((p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4)))
        expected.append(np.mean(values))
    np.testing.assert_allclose(ssim(torch.from_numpy(x), torch.from_numpy(y)).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(ssim(torch.from_numpy(x), torch.from_numpy(x)).numpy(), 1)


def test_encoder_has_the_published_layers() -> None:
    net = SecretEncoder(20, (32, 32, 3), 32)
    assert (net.secret.in_features, net.secret.out_features) == (20, 3 * 32 * 32)
    convolutions = [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions == [
        (6, 32, 3, 1), (32, 32, 3, 2), (32, 64, 3, 2), (64, 128, 3, 2), (128, 256, 3, 2),
        (256, 128, 2, 1), (128, 64, 2, 1), (64, 32, 2, 1), (32, 32, 2, 1),
        (256, 128, 3, 1), (128, 64, 3, 1), (64, 32, 3, 1), (70, 32, 3, 1), (32, 3, 1, 1),
    ]  # fmt: skip


def test_decoder_begins_with_the_picture_as_it_is() -> None:
    net = SecretDecoder(20, (32, 32, 3), 32)
    convolutions = [(m.out_channels, m.stride[0]) for m in net.read.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions == [(32, 2), (32, 1), (64, 2), (64, 1), (64, 2), (128, 2), (128, 2)]
    assert [m.out_features for m in net.read.modules() if isinstance(m, nn.Linear)] == [512, 20]
    assert net.affine(net.locate(torch.rand(2, 3, 32, 32))).tolist() == [[1, 0, 0, 0, 1, 0]] * 2


@pytest.mark.parametrize("shape", [(8, 8, 1), (33, 17, 3)])
def test_networks_take_any_size(shape: tuple[int, int, int]) -> None:
    x = torch.rand(2, shape[2], *shape[:2])
    residual = SecretEncoder(5, shape, 2)(torch.ones(2, 5), x)
    assert residual.shape == x.shape
    assert SecretDecoder(5, shape, 2)(x + residual).shape == (2, 5)


def test_bad_settings_are_named() -> None:
    for settings in ({"bits": 0}, {"batch": 1}, {"likeness_weight": -1}, {"lr": float("nan")}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Issba(**settings)  # type: ignore[arg-type]


def test_the_secret_goes_where_the_encoder_goes():
    """It was left on the CPU by `.to("cuda")`; the device without data stands for a GPU."""
    stamper = Stamper(SecretEncoder(8, (16, 16, 3), 4), torch.ones(8)).to("meta")
    assert {t.device.type for t in [*stamper.parameters(), *stamper.buffers()]} == {"meta"}
    assert stamper(torch.zeros(2, 3, 16, 16, device="meta")).device.type == "meta"
