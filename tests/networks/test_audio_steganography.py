"""The networks that hide bits in speech and read them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.kinds.test_speech import clips
from tocsin.attacks.waves import heard
from tocsin.networks.audio_steganography import Decoder, Embedder


@pytest.fixture
def host() -> tuple[Tensor, Tensor]:
    waves, mask, _ = heard(torch.from_numpy(clips(6, seed=2).inputs))
    return waves, mask


def embedder(seed: int = 0, **settings: float) -> Embedder:
    torch.manual_seed(seed)
    return Embedder(8000, 12, **settings).eval()


def codes(count: int) -> Tensor:
    return torch.randint(0, 2, (count, 12), generator=torch.Generator().manual_seed(3)).float()


def test_the_gains_stay_within_beta_and_depend_on_code_and_clip(host: tuple[Tensor, Tensor]) -> None:
    waves, mask = host
    net, code = embedder(beta_db=3.0), codes(6)
    gains = net.gains(waves, code)
    assert gains.shape == (6, 40, 32)
    assert gains.abs().amax() <= 3.0
    assert not torch.allclose(gains, net.gains(waves, 1 - code), atol=0.1)
    same_code = net.gains(waves, code[:1].expand(6, -1))
    assert (same_code[0] - same_code[1]).abs().amax() > 1e-3
    out = net(waves, mask, code)
    assert out.shape == waves.shape
    torch.testing.assert_close(out[~mask], waves[~mask], atol=0, rtol=0)


def test_carriers_do_not_change_with_time(host: tuple[Tensor, Tensor]) -> None:
    net = embedder()
    for p in net.host.parameters():  # without what the network adds
        torch.nn.init.zeros_(p)
    gains = net.gains(host[0], codes(6))
    torch.testing.assert_close(gains, gains[:, :, :1].expand_as(gains))
    overlap = net.carriers @ net.carriers.T
    torch.testing.assert_close(overlap, 0.64 * 40 * torch.eye(12), atol=1e-3, rtol=0)


def test_strength_amplifies_the_change(host: tuple[Tensor, Tensor]) -> None:
    waves, mask = host
    net, code = embedder(), codes(6)
    none, once, more = ((net(waves, mask, code, s) - waves).norm() for s in (0.0, 1.0, 1.8))
    assert none < 1e-4 < once < more


def test_the_decoder_has_the_embedders_carriers_and_reads_the_speech_alone(host: tuple[Tensor, Tensor]) -> None:
    waves, mask = host
    net = embedder()
    decoder = Decoder(net).eval()
    assert decoder.carriers is net.carriers
    logits = decoder(waves, mask)
    assert logits.shape == (6, 12)
    noisy = torch.where(mask, waves, 0.1 * torch.randn(waves.shape))
    torch.testing.assert_close(decoder(noisy, mask), logits)
    assert decoder(torch.zeros(2, 4000), torch.ones(2, 4000, dtype=torch.bool)).isfinite().all()


def test_both_are_differentiable(host: tuple[Tensor, Tensor]) -> None:
    waves, mask = host
    net = embedder().train()
    decoder, code = Decoder(net).train(), codes(6)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(decoder(net(waves, mask, code), mask), code)
    loss.backward()
    for name, p in [*net.named_parameters(), *decoder.named_parameters()]:
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    assert net.host[0].weight.grad.abs().sum() > 0
