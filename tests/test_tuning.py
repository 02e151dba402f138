from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds import ImageKind
from tocsin.learning import FitSettings, fit, predict
from tocsin.networks import build_network
from tocsin.networks.encoder import Encoder
from tocsin.runtime import Runtime
from tocsin.tuning import fit_head, tuned

CPU = Runtime(device="cpu")


def half(data: Dataset, upper: bool) -> Dataset:
    """The digits 0 to 4, or 5 to 9."""
    part = data[(data.labels >= 5) == upper]
    return Dataset.of_arrays(part.inputs, part.labels - 5 * upper)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Trained on the digits 0 to 4."""
    data = half(digits(0, 1500, 10, 10)[0], False)
    kind = ImageKind.of(data)
    body = build_network("small-narrow", 1, 5, 0)
    return Encoder("small-narrow", fit(body, data.inputs, data.labels, kind, FitSettings(epochs=4), CPU), kind)


@pytest.mark.parametrize("tune", ["all", "last"])
def test_what_the_encoder_knows_of_other_digits_is_used(encoder: Encoder, tune: Literal["all", "last"]) -> None:
    train, _, test = (half(part, True) for part in digits(1, 1200, 10, 400))
    before = {name: value.clone() for name, value in encoder.body.state_dict().items()}
    network = tuned(encoder, train.inputs, train.labels, 5, CPU, tune=tune)
    assert not network.training
    right = (predict(network, test.inputs, encoder.kind, CPU).argmax(1) == test.labels).mean()
    assert right > (0.85 if tune == "all" else 0.6)
    if tune == "all":
        blank = Encoder(encoder.network, build_network("small-narrow", 1, 5, 3), encoder.kind)
        scratch = tuned(blank, train.inputs, train.labels, 5, CPU)
        assert right > (predict(scratch, test.inputs, encoder.kind, CPU).argmax(1) == test.labels).mean()
    changed = [name for name, value in network.state_dict().items() if not name.startswith("head") and (value != before[name]).any()]
    assert bool(changed) == (tune == "all")  # FT-last leaves everything but the head, the statistics of batch norm included
    assert all((encoder.body.state_dict()[name] == value).all() for name, value in before.items())
    again = tuned(encoder, train.inputs, train.labels, 5, CPU, tune=tune)
    assert all((value == again.state_dict()[name]).all() for name, value in network.state_dict().items())


def test_a_head_reads_features_as_they_come_whatever_their_units() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 3):
        labels = np.arange(300) % classes
        read = (rng.normal(size=(300, 4)) + 5 * np.eye(3, 4)[labels]).astype(np.float32)
        answers = []
        for units in (np.ones(4), np.array([1e-2, 1e2, 5, 1])):
            head, scaled = nn.Linear(4, classes), (read * units + 7 * units).astype(np.float32)
            fit_head(head, scaled, labels)
            with torch.no_grad():
                answers.append(head(torch.from_numpy(scaled)).numpy())
            assert (answers[-1].argmax(1) == labels).mean() > 0.98
        np.testing.assert_allclose(answers[0], answers[1], atol=0.05)


def test_a_constant_feature_and_a_class_without_samples_do_no_harm_and_one_class_is_refused() -> None:
    head = nn.Linear(2, 4)
    read = np.column_stack([np.arange(20.0) % 2, np.full(20, 3.0)]).astype(np.float32)
    fit_head(head, read, 1 + 2 * (np.arange(20) % 2))
    assert all(torch.isfinite(parameter).all() for parameter in head.parameters())
    assert head(torch.from_numpy(read)).argmax(1).tolist() == [1, 3] * 10
    with pytest.raises(InputError, match="got samples of 1 class"):
        fit_head(head, read, np.zeros(20, np.int64))


def test_pictures_it_cannot_read_are_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="encoder: reads pictures of 1 channels, those of the data have 3"):
        tuned(encoder, np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2, 2, CPU)
