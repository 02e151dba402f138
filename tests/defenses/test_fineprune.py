from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.detectors.rows import table
from tocsin.data.dataset import Dataset
from tocsin.defenses import FinePrune, FineTune
from tocsin.defenses.fineprune import activity, guesses, last_maps, silence, silent_share
from tocsin.errors import InputError
from tocsin.kinds import kind_of
from tocsin.learning import predict
from tocsin.networks import NETWORKS, Classifier, build_network
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu")


class Corners(nn.Module):
    """Pictures (B, 1, H, W) to four channels: brightness of the left half, of the right half, of the last pixel, and nothing."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        left, right = x[..., :half].mean(dim=(2, 3)), x[..., half:].mean(dim=(2, 3))
        return torch.stack([left, right, x[:, :, -1, -1], 0 * left], dim=1).clamp(min=0).reshape(len(x), 4, 1, 1)


class Backdoored(Classifier):
    """Tells which half is brighter; a bright last pixel means class 0 whatever else is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Corners())
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0, 0, 50, 0], [0, 1, 0, 0]]))
            self.head.bias.zero_()

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


def halves(count: int, seed: int, *, trigger: bool = False) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = rng.integers(0, 60, (count, 8, 8, 1))
    for row, k in enumerate(labels):
        x[row, :, 4 * k : 4 * k + 4] += 150
    x[:, -1, -1] = 255 if trigger else 0
    return Dataset.of_arrays(x.astype(np.uint8), labels)


def answers(network: Classifier, data: Dataset) -> np.ndarray:
    return predict(network, data.inputs, kind_of(halves(100, 0)), CPU).argmax(axis=1)


def test_the_channel_that_only_the_trigger_uses_is_silenced() -> None:
    network, train, reserve = Backdoored(), halves(100, 0), halves(60, 1)
    triggered = halves(50, 2, trigger=True)
    assert (answers(network, triggered) == 0).all()
    mended = FinePrune(epochs=0, least_kept=0.5).repair(network, train, reserve, CPU)
    np.testing.assert_array_equal(answers(mended, triggered), triggered.labels)
    np.testing.assert_array_equal(answers(mended, halves(50, 3)), halves(50, 3).labels)
    assert silent_share(mended) == 0.5
    assert silent_share(network) == 0
    assert (answers(network, triggered) == 0).all()


def test_pruning_stops_before_it_costs_too_much() -> None:
    """With one channel left the network no longer tells the halves apart, so two must stay however few may."""
    mended = FinePrune(epochs=0, least_kept=0.01).repair(Backdoored(), halves(100, 0), halves(60, 1), CPU)
    assert silent_share(mended) == 0.5


def test_silent_channels_stay_silent_under_fine_tuning() -> None:
    mended = FinePrune(epochs=3, least_kept=0.5, lr=0.1).repair(Backdoored(), halves(100, 0), halves(60, 1), CPU)
    maps = last_maps(mended, halves(50, 2, trigger=True), kind_of(halves(100, 0)), CPU)
    assert float(maps[:, 2:].abs().max()) == 0
    assert silent_share(mended) == 0.5


def test_activity_is_the_mean_absolute_output() -> None:
    data = halves(40, 4)
    kind = kind_of(data)
    network = Backdoored()
    x = kind.to_tensor(torch.from_numpy(data.inputs))
    expected = network.body(x).abs().mean(dim=(0, 2, 3))
    np.testing.assert_allclose(activity(network, data, kind, CPU), expected.numpy(), rtol=1e-4)


@cache
def noises(length: int) -> Dataset:
    rng = np.random.default_rng(1)
    return Dataset.of_arrays(rng.normal(0, 3000, (6, length)).astype(np.int16), np.arange(6) % 3, kind="speech", rate=8000)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_can_be_pruned_and_the_guesses_are_those_of_the_pruned_network(name: str) -> None:
    speech, rows = ("tc-resnet8", "res15", "att-rnn", "kwt-1", "eat-s"), ("mlp", "ember-mlp")
    data = noises(4000) if name in speech else table(6, 0) if name in rows else halves(6, 5)
    kind = kind_of(data)
    network = build_network(name, kind.channels, 3, 0).eval()
    order = np.argsort(activity(network, data, kind, CPU), kind="stable")[:3]
    told = guesses(network, data, kind, order, CPU)
    assert told.shape == (4, 6)
    np.testing.assert_array_equal(told[0], predict(network, data.inputs, kind, CPU).argmax(axis=1))
    channels = last_maps(network, data, kind, CPU).shape[1]
    silence(network, np.isin(np.arange(channels), order))
    assert float(last_maps(network, data, kind, CPU)[:, order.tolist()].abs().max()) == 0
    np.testing.assert_array_equal(told[3], predict(network, data.inputs, kind, CPU).argmax(axis=1))
    assert silent_share(network) == pytest.approx(3 / channels)


@pytest.mark.parametrize("wrong", [{"drop": 0}, {"drop": 1.5}, {"least_kept": 1}, {"held_out": 0}, {"epochs": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        FinePrune(**wrong)  # type: ignore[arg-type]


def test_fine_tuning_refuses_what_no_training_can_be() -> None:
    with pytest.raises(InputError, match="epochs"):
        FineTune(epochs=0)
    with pytest.raises(InputError, match="optimizer"):
        FineTune(optimizer="adam")  # type: ignore[arg-type]


def test_a_reserve_of_one_sample_a_class_cannot_be_split() -> None:
    with pytest.raises(InputError, match="reserve: 2 samples cannot be split"):
        FinePrune().repair(Backdoored(), halves(100, 0), halves(2, 1), CPU)
