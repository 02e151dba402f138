"""What is peculiar to NONE, beside tests/contract: which channels are compromised, whom they betray, and what is trained on then."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.contract.test_defenses import case
from tests.defenses.test_neural_cleanse import backdoored
from tocsin.attacks.badnet import stamp_patch
from tocsin.defenses import NoneTraining
from tocsin.defenses.base import anew
from tocsin.defenses.fineprune import Mask
from tocsin.defenses.nad import answered
from tocsin.defenses.none_training import gaps, high_group, looked_at
from tocsin.errors import InputError
from tocsin.networks import build_network
from tocsin.runtime import Runtime
from tocsin.victim import measure

CPU = Runtime(device="cpu", seed=5)


def test_a_gap_is_how_far_a_class_goes_beyond_what_is_usual_of_the_others() -> None:
    rng = np.random.default_rng(0)
    peaks, odds = rng.gamma(2, 1, (60, 4)).astype(np.float32), rng.dirichlet(np.full(3, 0.2), 60).astype(np.float32)
    odds[:, 2] *= 0.5  # never sure of the third class
    plain = np.full((3, 4), -np.inf)
    for k in (0, 1):
        for c in range(4):
            inside = [float(peaks[i, c]) for i in range(60) if odds[i, k] > 0.8]
            outside = [float(peaks[i, c]) for i in range(60) if odds[i, k] < 0.2]
            plain[k, c] = max(inside) - (np.mean(outside) + 1.5 * np.std(outside))
    np.testing.assert_allclose(gaps(peaks, odds, 0.8, 1.5), plain.max(axis=0), rtol=1e-5)


def test_one_sample_that_drives_a_channel_is_enough_and_driving_it_in_every_class_is_not() -> None:
    odds = np.repeat(np.float32([[0.98, 0.02], [0.02, 0.98]]), 50, axis=0)
    peaks = np.ones((100, 3), np.float32)
    peaks[3, 1] = 9
    peaks[::5, 2] = 9  # of both classes alike
    deviation = np.std([9] * 10 + [1] * 40)
    assert gaps(peaks, odds, 0.9, 3.0) == pytest.approx([0, 8, 9 - (2.6 + 3 * deviation)], abs=1e-5)


def test_only_the_deep_stages_are_looked_at_and_the_channels_with_the_widest_gaps_are_reset() -> None:
    c = case("image")
    peaks, odds = looked_at(c.network, c.train, c.kind, 2 / 3, CPU)
    assert [stage.shape for stage in peaks] == [(800, 48), (800, 48), (800, 96), (800, 96)]  # of five stages
    assert len(looked_at(c.network, c.test, c.kind, 0.4, CPU)[0]) == 2
    np.testing.assert_allclose(odds.sum(axis=1), 1, rtol=1e-5)
    found = NoneTraining(share=0.05).found(c.network, c.train, c.kind, CPU)
    for stage, gap, silent in zip(peaks, found.gaps, found.silent, strict=True):
        np.testing.assert_array_equal(gap, gaps(stage, odds, 0.9, 3.0))
        assert silent.sum() == math.ceil(0.05 * len(silent))
        assert gap[silent].min() >= gap[~silent].max()
    driven = sum(stage[:, gap.argmax()].astype(np.float64) for stage, gap in zip(peaks, found.gaps, strict=True))
    np.testing.assert_allclose(found.driven, driven)
    np.testing.assert_array_equal(found.dropped, high_group(driven, c.train.labels, 0.25))


def test_the_high_group_is_dropped_but_for_what_a_class_must_have_left() -> None:
    driven = np.array([1.0, 1.5, 2.0, 9.0, 1.2, 8.0, 8.5, 9.5, 7.5, 1.1])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    assert np.flatnonzero(high_group(driven, labels, 0.0)).tolist() == [3, 5, 6, 7, 8]
    assert np.flatnonzero(high_group(driven, labels, 0.5)).tolist() == [3, 6, 7]  # the two least driven of class 1 stay
    assert not high_group(np.ones(10), labels, 0.0).any()


def test_the_channels_stay_silent_and_batch_norm_is_frozen() -> None:
    c, how = case("image"), NoneTraining(share=0.1, epochs=1)
    found, mended = how.found(c.network, c.train, c.kind, CPU), how.repair(c.network, c.train, c.reserve, CPU)
    with torch.inference_mode():
        maps = answered(mended, c.kind.to_tensor(torch.from_numpy(np.array(c.test.inputs))))[1]
    for of_stage, silent in zip(maps[1:], found.silent, strict=True):
        assert (of_stage[:, silent] == 0).all()
        assert (of_stage[:, ~silent] != 0).any()
    masks = [m for m in mended.modules() if isinstance(m, Mask)]
    assert len(masks) == 4
    norms = [[m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)] for network in (c.network, mended)]
    for before, after in zip(*norms, strict=True):
        assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items())
        assert all(weight.requires_grad for weight in after.parameters())


def test_the_poisons_drive_the_channels_and_are_dropped() -> None:
    network, kind, train, _, _, _ = backdoored()
    planted = (stamp_patch(train.inputs, 3) == train.inputs).all(axis=(1, 2, 3))
    found = NoneTraining().found(network, train, kind, CPU)
    assert 40 < planted.sum() < 80
    assert found.dropped[planted].mean() > 0.95
    assert found.dropped[~planted].mean() < 0.02


def test_the_backdoor_is_removed_and_the_digits_are_not() -> None:
    network, kind, train, reserve, test, trial = backdoored()
    before = measure(network, test, kind, CPU, trial)
    after = measure(NoneTraining().repair(network, train, reserve, CPU, kind=kind), test, kind, CPU, trial)
    assert before.asr is not None
    assert after.asr is not None
    assert before.asr >= 0.9
    assert after.asr < 0.2
    assert after.acc > before.acc - 0.05


@pytest.mark.parametrize("without", [{"kept": 0.999}, {"share": 0.001}])
def test_neither_resetting_nor_dropping_is_enough(without: dict[str, float]) -> None:
    network, kind, train, reserve, test, trial = backdoored()
    after = measure(NoneTraining(**without).repair(network, train, reserve, CPU, kind=kind), test, kind, CPU, trial)  # type: ignore[arg-type]
    assert after.asr is not None
    assert after.asr > 0.5


def test_of_the_dropped_nothing_is_learned_and_of_the_others_much() -> None:
    c, how = case("image"), NoneTraining(epochs=1, kept=0.0)  # no label is read before the training
    dropped = how.found(c.network, c.train, c.kind, CPU).dropped
    assert 0 < dropped.sum() < len(dropped)
    first = how.repair(c.network, c.train, c.reserve, CPU)
    for rows, same in ((dropped, True), (~dropped, False)):
        wrong = replace(c.train, labels=np.where(rows, (c.train.labels + 1) % 10, c.train.labels))
        again = how.repair(c.network, wrong, c.reserve, CPU)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), first.parameters(), strict=True)) == same


def test_trained_anew_it_is_no_matter_what_the_network_knew() -> None:
    c, how = case("image"), NoneTraining(epochs=1, training_epochs=1)
    one, other = (how.repair(network, c.train, c.reserve, CPU) for network in (c.network, build_network("small", 1, 10, 77)))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_network_that_is_sure_of_nothing_betrays_nothing() -> None:
    c = case("image")
    found = NoneTraining().found(anew(c.network, 0), c.train, c.kind, CPU)
    assert not found.dropped.any()
    assert not np.concatenate(found.silent).any()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"training_epochs": -1}, {"training_lr": 0}, {"sure": 0.4}, {"sure": 1.0}, {"deviations": -1}, {"share": 0}, {"share": 1.0}),
        *({"deep": 0}, {"deep": 1.1}, {"kept": -0.1}, {"kept": 1.0}, {"epochs": 0}, {"lr": 0}, {"batch": 1}, {"weight_decay": -1}),
    ],
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        NoneTraining(**wrong)  # type: ignore[arg-type]
