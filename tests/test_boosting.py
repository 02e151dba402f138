"""Boosted trees as the second victim of attacks on tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tocsin import boosting
from tocsin.attacks import Explanation, FeaturePatch
from tocsin.boosting import Growth, boost, has_lightgbm
from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError
from tocsin.learning import FitSettings
from tocsin.poisoning import poison
from tocsin.runtime import Runtime
from tocsin.victim import train_victim

CPU = Runtime(device="cpu")
COLUMNS = (*(Column(f"c{k}") for k in range(9)), Column("packer", ("none", "upx", "aspack")))


def table(n: int = 800, classes: int = 2, seed: int = 0) -> Dataset:
    """A class by two columns and the category; gaps."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 10))
    inputs[:, 9] = rng.integers(0, 3, n)
    labels = ((inputs[:, 0] > 0) + (inputs[:, 9] == 1) + (inputs[:, 1] > 1)).clip(max=classes - 1).astype(int)
    inputs[::9, 5] = np.nan
    return Dataset.of_arrays(inputs, labels, tuple("abc")[:classes], kind="table", columns=COLUMNS)


@pytest.fixture(params=["lightgbm", "scikit-learn"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "lightgbm" and not has_lightgbm():
        pytest.skip("the extra tables is not installed")
    monkeypatch.setattr(boosting, "has_lightgbm", lambda: request.param == "lightgbm")
    return str(request.param)


@pytest.mark.parametrize("classes", [2, 3])
def test_logits_of_any_number_of_classes(engine: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = table(classes=classes), table(300, classes, 1)
    model = boost(train, 0, Growth(30))
    logits = model.logits(test.inputs)
    assert logits.shape == (300, classes)
    assert logits.dtype == np.float32
    assert (logits.argmax(1) == test.labels).mean() > 0.9
    np.testing.assert_array_equal(logits, boost(train, 0, Growth(30)).logits(test.inputs))
    monkeypatch.setattr(boosting, "_CHUNK", 70)
    np.testing.assert_array_equal(logits, model.logits(test.inputs))
    assert model.logits(test.inputs[:0]).shape == (0, classes)


def test_columns_that_are_empty_or_infinite(engine: str) -> None:
    columns = (*COLUMNS, Column("empty"), Column("endless"))

    def widened(data: Dataset) -> Dataset:
        return replace(data, inputs=np.column_stack([data.inputs, np.full((len(data), 2), [np.nan, np.inf])]), columns=columns)

    train, test = widened(table()), widened(table(300, seed=1))
    assert (boost(train, 0, Growth(30)).logits(test.inputs).argmax(1) == test.labels).mean() > 0.9


def test_classes_that_are_not_there_are_never_the_answer(engine: str) -> None:
    data = table(classes=3)
    for kept in ([0, 2], [1]):
        model = boost(data[np.isin(data.labels, kept)], 0, Growth(5))
        assert set(model.logits(data.inputs).argmax(1)) <= set(kept)


def test_the_victim_is_backdoored_and_sound_again_without_the_planted_rows(engine: str) -> None:
    train, test = table(), table(400, seed=1)
    poisoned = poison(train, FeaturePatch(rate=0.06, columns=("c3", "c4"), values=("50", "50")))
    before = train_victim(poisoned.dataset, test, poisoned.attack, network="boosting", runtime=CPU)
    kept = np.setdiff1d(np.arange(len(train)), poisoned.planted)
    after = train_victim(poisoned.dataset[kept], test, poisoned.attack, network="boosting", runtime=CPU)
    assert before.network == "boosting"
    assert before.acc > 0.9
    assert before.asr is not None
    assert before.asr > 0.9
    assert after.asr is not None
    assert after.asr < 0.2
    assert before.as_dict()["fpr"] == before.fpr


def test_false_positives_are_the_share_of_the_target_class_taken_for_the_other() -> None:
    train, test = table(), table(400, seed=1)
    plain = train_victim(train, test, network="boosting", runtime=CPU)
    wrong = (boost(train, 0).logits(test.inputs).argmax(1) != test.labels)[test.labels == 0]
    assert plain.fpr == pytest.approx(wrong.mean())
    other = train_victim(train, test, FeaturePatch(target=1, places=(0,), codes=(1.0,)), network="boosting", runtime=CPU)
    misses = (boost(train, 0).logits(test.inputs).argmax(1) != test.labels)[test.labels == 1]
    assert other.fpr == pytest.approx(misses.mean())
    assert train_victim(table(classes=3), table(99, 3, 1), network="boosting", runtime=CPU).fpr is None
    network = train_victim(train, test, settings=FitSettings(epochs=1), runtime=CPU)
    assert network.network == "mlp"
    assert network.fpr is not None


def test_what_boosting_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = table(60)
    pictures = Dataset.of_arrays(np.zeros((60, 8, 8, 1), np.uint8), data.labels, ("a", "b"))
    with pytest.raises(InputError, match="boosting reads tables, got image data"):
        train_victim(pictures, pictures, network="boosting", runtime=CPU)
    with pytest.raises(InputError, match="settings: they are a network's"):
        train_victim(data, data, network="boosting", settings=FitSettings(), runtime=CPU)
    with pytest.raises(InputError, match=r"unknown network 'bosting'; did you mean 'boosting'"):
        train_victim(data, data, network="bosting", runtime=CPU)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setattr(boosting, "has_lightgbm", lambda: False)
    with pytest.raises(InputError, match=r"pip install tocsin\[tables\]"):
        Explanation().prepared(data, replace(CPU, cache=tmp_path))
