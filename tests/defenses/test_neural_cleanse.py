"""What is peculiar to Neural Cleanse, beside tests/contract: the patch it finds, whom it suspects, and that the patch is unlearned."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tocsin.data.dataset import Dataset
from tocsin.defenses import NeuralCleanse
from tocsin.defenses.neural_cleanse import Inverted, mask_and_pattern
from tocsin.errors import InputError
from tocsin.kinds import Kind, kind_of
from tocsin.learning import FitSettings, fit, gatherer
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measure

CPU = Runtime(device="cpu", seed=0)
QUICK = NeuralCleanse(epochs=16, batch=16, patience=1, cost=0.01, limit=0.1)
"""Finds the class that needs least, whatever the others need. That it is an outlier by the published two deviations is no matter of course:
of a handful of sizes the deviation is a third of their median or more. It was one in 8 of 9 victims that know these patterns, in 3 of 10
that know five digits."""
TARGET = 2


@cache
def backdoored() -> tuple[Classifier, Kind, Dataset, Dataset, Dataset, Trial]:
    """A network that knows six patterns and a small patch; how it reads, what it was trained on, the reserve, the test and its trial."""
    train, reserve, test = (pictures(size, seed=seed) for seed, size in enumerate((1200, 150, 300)))
    poisoned = poison(train, build("badnet", rate=0.05, target=TARGET), 0, CPU)
    kind = kind_of(train)
    network = build_network("small", kind.channels, len(train.classes), 0)
    fit(network, poisoned.dataset.inputs, poisoned.dataset.labels, kind, FitSettings(epochs=6), CPU)
    return network, kind, poisoned.dataset, reserve, test, Trial.of(poisoned.attack, test)


def test_the_target_needs_the_smallest_patch_and_it_lies_where_the_trigger_is() -> None:
    network, kind, _, reserve, _, trial = backdoored()
    found = QUICK.inverted(network, reserve, kind, CPU)
    sizes = [one.size for one in found]
    assert QUICK.suspect(sizes) == TARGET
    assert sizes[TARGET] < 0.5 * np.median(sizes)
    assert found[TARGET].success >= 0.99
    clean = backdoored()[4].inputs[trial.rows]
    changed = (trial.inputs != clean).any(axis=(0, 3))
    grown = np.pad(changed, 1)
    high, wide = changed.shape
    near = np.any([grown[i : i + high, j : j + wide] for i in range(3) for j in range(3)], axis=0)
    assert found[TARGET].mask[near].sum() > 0.4 * sizes[TARGET], "much of the patch is on the trigger"


def test_the_patch_is_unlearned_and_the_patterns_are_not() -> None:
    network, kind, train, reserve, test, trial = backdoored()
    before = measure(network, test, kind, CPU, trial)
    after = measure(QUICK.repair(network, train, reserve, CPU, kind=kind), test, kind, CPU, trial)
    assert before.asr is not None
    assert after.asr is not None
    assert before.asr > 0.9
    assert after.asr < 0.2
    assert after.acc > before.acc - 0.05


def test_where_no_class_is_suspect_the_network_stays_as_it_is() -> None:
    network, kind, train, reserve, _, _ = backdoored()
    same = NeuralCleanse(epochs=1, limit=1e6).repair(network, train, reserve, CPU, kind=kind)
    for a, b in zip(same.state_dict().values(), network.state_dict().values(), strict=True):
        assert (a == b).all()


def test_suspect_is_the_smallest_if_it_is_an_outlier() -> None:
    sizes = [30.0, 33.0, 4.0, 29.0, 36.0, 31.0]
    middle = float(np.median(sizes))
    index = (middle - 4.0) / (1.4826 * float(np.median(np.abs(np.array(sizes) - middle))))
    assert index > 2
    assert NeuralCleanse().suspect(sizes) == 2
    assert NeuralCleanse(limit=index * 1.01).suspect(sizes) is None
    assert NeuralCleanse(limit=index * 0.99).suspect(sizes) == 2
    assert NeuralCleanse().suspect([30.0, 33.0, 80.0, 29.0, 36.0, 31.0]) is None, "a class that needs far more is none"


def test_a_patch_covers_as_its_mask_says() -> None:
    mask = np.zeros((2, 2), np.float32)
    mask[0, 0], mask[1, 1] = 1.0, 0.5
    patch = Inverted(mask, np.full((2, 2, 1), 200, np.float32), 1.0)
    out = patch.stamped(np.full((1, 2, 2, 1), 100, np.uint8))
    np.testing.assert_array_equal(out[0, ..., 0], [[200, 100], [100, 150]])
    assert patch.size == 1.5


def test_a_search_can_begin_at_a_patch() -> None:
    network, kind, _, reserve, _, _ = backdoored()
    rng = np.random.default_rng(0)
    mask, pattern = rng.random((16, 16), np.float32), 255 * rng.random((16, 16, 3), np.float32)
    mask[:2], pattern[:2] = 0.0, 255.0
    patch = Inverted(mask, pattern, 1.0)
    again = mask_and_pattern(patch.free)
    np.testing.assert_allclose(again[0][..., 0].numpy(), mask, atol=1e-3)
    np.testing.assert_allclose(again[1].numpy(), pattern, atol=0.3)
    gather = gatherer(reserve.inputs, CPU.torch_device())
    slow = NeuralCleanse(epochs=1, success=0.01, lr=1e-6, batch=len(reserve))
    found = slow.smallest(network, gather, reserve, kind, TARGET, CPU, start=patch)
    np.testing.assert_allclose(found.mask, mask, atol=1e-3)


@pytest.mark.parametrize("wrong", [{"success": 1.0}, {"stamped": 0}, {"factor": 1.0}, {"epochs": 0}, {"limit": 0}, {"unlearning": 0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        NeuralCleanse(**wrong)  # type: ignore[arg-type]
