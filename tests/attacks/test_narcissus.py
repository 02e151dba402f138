from __future__ import annotations

import copy

import numpy as np
import pytest

from tocsin.attacks import Narcissus
from tocsin.attacks.narcissus_training import Schedule, optimise_trigger, surrogate_success, train_surrogate, warm_up
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

QUICK = Schedule(network="small", epochs=10, warmup_epochs=0, steps=40, batch=30, lr=0.03, bound=16)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0, 500, 10, 10)[0]


def test_change_stays_within_the_bound_and_makes_the_class_easier(data: Dataset) -> None:
    model = train_surrogate(data, QUICK, Runtime(device="cpu"))
    delta, losses = optimise_trigger(model, data, 2, QUICK, Runtime(device="cpu"))
    assert delta.shape == (16, 16, 1)
    assert np.abs(delta).max() <= 16 + 1e-4
    assert (np.abs(delta) > 4).mean() > 0.2
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    plain, shifted = (surrogate_success(model, data, change, 2, Runtime(device="cpu")) for change in (0 * delta, 4 * delta))
    assert shifted > plain + 0.08


def test_warm_up_makes_batches_of_one_class_readable(data: Dataset) -> None:
    how = Schedule(network="small", epochs=4, warmup_epochs=2, steps=1, batch=30, lr=0.03, bound=16)
    model = train_surrogate(data, how, Runtime(device="cpu"))
    warm = warm_up(model, data, 2, how, Runtime(device="cpu"))
    assert warm.training
    assert not model.training
    losses = [optimise_trigger(m, data, 2, how, Runtime(device="cpu"))[1][0] for m in (copy.deepcopy(model).train(), warm)]
    assert losses[1] < 0.5 * losses[0]


def known(**settings: float) -> Narcissus:
    """A trigger of known values: +10 in the upper half, -16 in the lower."""
    delta = np.full((8, 8, 1), 10, np.float32)
    delta[4:] = -16
    return Narcissus(rate=0.05, target=1, **settings).restored({"shape": np.array([8, 8, 1]), "delta": delta})  # type: ignore[arg-type]


def test_poisons_carry_the_change_once_and_the_test_trigger_three_times() -> None:
    data = Dataset.of_arrays(np.full((100, 8, 8, 1), 100, np.uint8), np.arange(100) % 4)
    result = known().poison(data, np.random.default_rng(0))
    assert (data.labels[result.planted] == 1).all()
    np.testing.assert_array_equal(result.dataset.labels, data.labels)
    assert (result.dataset.inputs[result.planted, :4] == 110).all()
    assert (result.dataset.inputs[result.planted, 4:] == 84).all()
    out = known().trigger(data.inputs)
    assert (out[:, :4] == 130).all()
    assert (out[:, 4:] == 52).all()
    assert (known(amplification=1.5).trigger(data.inputs)[:, :4] == 115).all()


def test_change_is_clipped_not_wrapped() -> None:
    x = np.stack([np.full((8, 8, 1), v, np.uint8) for v in (250, 20)])
    out = known().trigger(x)
    assert (out[0, :4] == 255).all()
    assert (out[1, 4:] == 0).all()


def test_a_change_beyond_the_bound_is_refused() -> None:
    with pytest.raises(InputError, match="within the bound of 8"):
        known(bound=8)


def test_bad_settings_are_named(data: Dataset) -> None:
    for settings in ({"bound": 0}, {"amplification": 0}, {"warmup_epochs": -1}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Narcissus(**settings)  # type: ignore[arg-type]
    lonely = Dataset.of_arrays(data.inputs, np.arange(500) % 9, tuple("0123456789"))
    with pytest.raises(InputError, match="class 9 has too few samples"):
        Narcissus(target=9).learn(lonely, Runtime(device="cpu"))
