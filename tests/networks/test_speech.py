from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.kinds.test_speech import clips
from tocsin.errors import InputError
from tocsin.kinds import kind_of
from tocsin.learning import USUAL, FitSettings, features, fit, predict, seeded, tensor_for, usual_settings
from tocsin.networks import NETWORKS, build_network
from tocsin.networks.att_rnn import AttRNN
from tocsin.networks.base import Classifier
from tocsin.networks.eat import EAT
from tocsin.networks.kwt import KWT, stretched
from tocsin.networks.tc_resnet import TCResNet8
from tocsin.runtime import Runtime
from tocsin.victim import train_victim

SPEECH = ("tc-resnet8", "res15", "att-rnn", "kwt-1", "eat-s")
CPU = Runtime(device="cpu", seed=1)
speaking = pytest.mark.parametrize("name", SPEECH)


def weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_the_published_ones() -> None:
    """Papers and READMEs: TC-ResNet8 66 and 145 thousand (batch statistics counted), res15 238, Att-RNN 201 or 202, KWT-1 607."""
    statistics = {w: sum(b.numel() for n, b in TCResNet8(1, 12, w).named_buffers() if n.endswith(("mean", "var"))) for w in (1.0, 1.5)}
    assert [round((weights(TCResNet8(1, 12, w)) + statistics[w]) / 1000) for w in (1.0, 1.5)] == [66, 145]
    assert round(weights(build_network("res15", 1, 12, 0)) / 1000) == 238
    twice = 2 * 2 * 4 * 64  # torch's LSTM has two biases where one is enough: two layers, two directions, four gates
    assert round((weights(AttRNN(1, 36, bands=80)) - twice) / 1000) == 201
    assert round(weights(KWT(1, 12)) / 1000) == 607


def test_eat_has_the_layers_of_the_specification() -> None:
    """Its table gives no figure; so layer by layer: convolutions and their norms, shortcuts, transformer."""

    def block(maps: int) -> int:
        return 15 * maps + 2 * maps + maps * maps + 2 * maps + maps * maps + maps

    def down(maps: int, kernel: int) -> int:
        return 2 * maps * maps * kernel + 4 * maps

    convolutions = 7 * 16 + 32 + down(16, 5) + block(32) + down(32, 5) + down(64, 5) + block(128)
    convolutions += 3 * block(128) + down(128, 3) + 3 * block(256) + down(256, 3)
    layer = 3 * (128 * 128 + 128) + 128 * 128 + 128 + 2 * 128 * 512 + 512 + 128 + 4 * 128
    tokens = 512 * 128 + 128 + 128 + 65 * 128
    assert weights(EAT(1, 35)) == convolutions + tokens + 4 * layer + 2 * 128 + 35 * 129


@speaking
def test_gradients_in_bfloat16_are_those_in_float32(name: str) -> None:
    """At the sizes in use: there, with channels last, oneDNN's weight gradients of dilated convolutions are NaN (`PlanesFirst`)."""
    data, network = clips(8, seed=1, length=8000), build_network(name, 1, 4, 3)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, labels = tensor_for(network, kind_of(data), torch.from_numpy(data.inputs)), torch.from_numpy(data.labels.astype(np.int64))
    found = []
    for fast in (False, True):
        with seeded(torch.device("cpu"), 1), torch.autocast("cpu", torch.bfloat16, enabled=fast):
            logits = network(x)
        gradients = torch.autograd.grad(nn.functional.cross_entropy(logits.float(), labels), list(network.parameters()))
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.95


@speaking
@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_stage_gives_maps_and_the_head_reads_their_pool(name: str, rate: int) -> None:
    network = build_network(name, 1, 7, 3).eval()
    assert isinstance(network, Classifier)
    data = clips(4, seed=0, length=rate // 2)
    kind = kind_of(data)
    raw = torch.from_numpy(data.inputs)
    x = kind.waves(raw) if network.reads == "waves" else kind.to_tensor(raw)
    maps = x
    with torch.no_grad():
        for stage in network.stages():
            maps = stage(maps)
            assert maps.ndim == 4
            assert len(maps) == 4
        pooled = network.pool(maps)
        assert pooled.shape == (4, network.head.in_features)
        torch.testing.assert_close(network.head(pooled), network(x))
        assert network(x).shape == (4, 7)
        assert not torch.allclose(network(x[:2]), network(x[2:]))


@speaking
def test_first_weights_and_dropout_depend_on_the_seed_alone(name: str) -> None:
    data = clips(40, seed=1, length=1000)
    how = FitSettings(epochs=1, batch=20, lr=1e-3, optimizer="adamw")

    def trained(seed: int) -> np.ndarray:
        torch.rand(3)  # whatever was drawn before
        runtime = Runtime(device="cpu", seed=seed)
        network = build_network(name, 1, 4, seed)
        fit(network, data.inputs, data.labels, kind_of(data), how, runtime)
        return predict(network, data.inputs, kind_of(data), runtime)

    before = torch.random.get_rng_state()
    first = trained(1)
    torch.random.set_rng_state(before)
    np.testing.assert_array_equal(first, trained(1))
    assert (first != trained(2)).any()
    assert np.isfinite(first).all()


@speaking
@pytest.mark.parametrize("length", [1, 130, 700])
def test_very_short_clips_pass(name: str, length: int) -> None:
    data = clips(6, seed=1, length=4000)
    kind, network = kind_of(data), build_network(name, 1, 4, 0)
    short = data.inputs[:, 1500 : 1500 + length]
    network = fit(network, short, data.labels, kind, FitSettings(epochs=1, batch=6, augment=False, lr=1e-3), CPU)
    assert np.isfinite(predict(network, short, kind, CPU)).all()
    assert features(network, short, kind, CPU).shape == (6, network.head.in_features)


def test_positions_are_stretched_linearly() -> None:
    table = torch.arange(5.0)[:, None] * torch.tensor([1.0, -2.0])
    torch.testing.assert_close(stretched(table, 9), torch.arange(0, 4.25, 0.5)[:, None] * torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(stretched(table, 5), table)


def test_the_usual_network_on_speech_learns_words() -> None:
    train, test = clips(300, seed=1, length=2000), clips(80, seed=2, length=2000)
    result = train_victim(train, test, settings=FitSettings(epochs=8, batch=32), runtime=CPU)
    assert result.network == "tc-resnet8"
    assert result.acc > 0.9


def test_attention_and_recurrence_learn_with_adamw() -> None:
    train, test = clips(200, seed=1, length=1000), clips(80, seed=2, length=1000)
    for name, lr in (("att-rnn", 5e-3), ("kwt-1", 2e-3)):
        how = FitSettings(epochs=12, batch=25, lr=lr, optimizer="adamw")
        assert train_victim(train, test, network=name, settings=how, runtime=CPU).acc > 0.6, name


def test_a_network_of_waveforms_says_that_pictures_are_none() -> None:
    from tocsin.data.builtin import digits

    train, _, test = digits(0, 60, 10, 10)
    with pytest.raises(InputError, match="network: it reads waveforms"):
        train_victim(train, test, network="eat-s", runtime=CPU)
    assert train_victim(train, test, settings=FitSettings(epochs=1), runtime=CPU).network == "small"


@pytest.mark.parametrize("name", ["tc-resnet8", "att-rnn", "kwt-1", "eat-s"])
def test_maps_of_another_height_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"network: it reads sounds with (40|1) values at each time"):
        build_network(name, 1, 4, 0)(torch.zeros(2, 1, 32, 32))


def test_how_a_network_is_usually_trained() -> None:
    assert set(SPEECH) <= set(USUAL) <= set(NETWORKS)
    assert usual_settings("small") == FitSettings()
    with pytest.raises(InputError, match="optimizer: got 'lion', allowed: sgd, adamw"):
        FitSettings(optimizer="lion")  # type: ignore[arg-type]
