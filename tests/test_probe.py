"""The linear probe on a frozen encoder: what self-supervised learning is measured by."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tocsin.attacks import BadNet
from tocsin.kinds import kind_of
from tocsin.learning import features
from tocsin.networks import build_network
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measured, probed

CPU = Runtime(device="cpu", seed=0)


def test_a_probe_reads_what_the_features_hold_and_leaves_the_encoder_alone():
    labelled, test = pictures(400, seed=1), pictures(200, seed=2)
    kind = kind_of(labelled)
    network = build_network("small-narrow", kind.channels, 1, 0).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logits = probed(network, kind, labelled, CPU)
    result = measured(logits, test, Trial.of(BadNet(target=2), test))
    assert result.acc > 0.6  # of six classes, from first weights
    assert result.asr is not None
    assert result.victims == int((test.labels != 2).sum())
    assert all(bool((before[name] == value).all()) for name, value in network.state_dict().items())


def test_a_class_without_samples_is_never_said_and_two_classes_work():
    labelled, test = pictures(300, seed=3), pictures(50, seed=4)
    kind = kind_of(labelled)
    network = build_network("small-narrow", kind.channels, 1, 0).eval()
    some = labelled[labelled.labels < 2]
    out = probed(network, kind, some, CPU)(test.inputs, "testing")
    assert out.shape == (50, 6)
    assert set(out.argmax(1)) == {0, 1}


def test_the_ridge_does_not_depend_on_the_number_of_samples():
    data = pictures(200, seed=5)
    kind = kind_of(data)
    network = build_network("small-narrow", kind.channels, 1, 0).eval()
    assert features(network, data.inputs, kind, CPU).shape[0] == 200
    twice = data[np.concatenate([np.arange(200), np.arange(200)])]
    once, again = (probed(network, kind, which, CPU)(data.inputs, "testing") for which in (data, twice))
    assert once == pytest.approx(again, abs=0.05)
