"""What is peculiar to audio-stego, beside tests/contract: which statistic sees what, and what an unlike reserve does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.detectors.coloured import RATE, planted, spoken
from tests.detectors.synthetic import pictures
from tocsin.detectors.audio_judges import disagreement, judge, levelled, parts
from tocsin.detectors.audio_stego import AudioStego, speakers_of
from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind
from tocsin.panel import configured
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=1)
QUICK = {"judge_epochs": 0, "folds": 3, "voices": 4}


def test_a_reserve_of_another_microphone_names_no_class() -> None:
    """All classes then differ from it alike."""
    train, reserve = spoken(480, seed=110), spoken(240, seed=1110)
    for k in range(len(reserve.classes)):
        reserve, _ = planted(reserve, 1.0, seed=0, target=k)
    assert not AudioStego(**QUICK).inspect(train, reserve, CPU).found


def test_a_whole_class_that_is_poison_is_found_by_its_reserve() -> None:
    train, truth = planted(spoken(480, seed=111), 1.0, seed=111)
    found = AudioStego(**QUICK).inspect(train, spoken(240, seed=1111), CPU)
    assert [c.index for c in found.classes if c.suspect] == [3]
    assert found.flagged[truth].mean() > 0.9
    assert found.flagged[~truth].mean() < 0.01


def test_speakers_where_named_are_matched_across_both_sides() -> None:
    train, reserve = spoken(40, seed=112, named=True), spoken(20, seed=113, named=True)
    number = speakers_of(train, reserve)
    assert number is not None
    same = train.groups[:, None] == reserve.groups  # type: ignore[index]
    np.testing.assert_array_equal(number[:40, None] == number[40:], same)
    assert speakers_of(replace(train, groups=None), replace(reserve, groups=None)) is None
    partly = speakers_of(replace(train, groups=None), reserve)
    assert partly is not None
    assert (partly[:40] == -1).all()


def test_levelled_maps_hear_no_static_colouring_and_no_silence() -> None:
    data = spoken(40, seed=114)
    loud = replace(data, inputs=np.clip(data.inputs.astype(int) * 8, -32768, 32767).astype(np.int16))
    moved, _ = planted(loud, 1.0, seed=114)
    changed = (moved.inputs != loud.inputs).any(1)
    kind = SpeechKind(RATE, 0.0, 1.0)
    plain, after = (kind.maps(torch.from_numpy(data.inputs[changed])).numpy()[..., 0] for data in (loud, moved))
    heard, still = levelled(loud.inputs, RATE)[changed], levelled(moved.inputs, RATE)[changed]
    assert np.abs(still - heard).mean() / np.abs(heard).mean() < 0.5 * np.abs(after - plain).mean() / np.abs(plain - plain.mean()).mean()
    silent = (plain.max(1) < np.log(0.011))[:, None].repeat(40, 1)
    assert silent.any()
    assert (heard[silent] == 0).all()


def test_wrong_labels_are_doubted_by_judges_that_did_not_see_them() -> None:
    data = spoken(240, seed=115, words=3)
    data = replace(data, inputs=data.inputs * 8)  # so that the front end hears more than its floor
    wrong = np.zeros(240, bool)
    wrong[np.random.default_rng(0).choice(240, 20, replace=False)] = True
    labels = np.where(wrong, (data.labels + 1) % 3, data.labels)
    found = judge(data.inputs, labels, 3, RATE, 2, 12, CPU)
    for values in (found.doubt, found.collision):
        assert np.median(values[wrong]) > np.quantile(values[~wrong], 0.8)


def test_disagreement_is_the_share_of_near_others_with_another_label() -> None:
    angle = np.array([0.0, 0.1, 0.2, 0.3, 2.0, 2.1, 2.2])
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.array([[1], [5], [1], [1], [3], [1], [1]])
    labels = np.array([0, 0, 1, 0, 1, 1, 1])
    np.testing.assert_allclose(disagreement(x, labels, 2), [0.5, 0.5, 1, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(disagreement(x[:1], labels[:1]), [0])


def test_parts_share_every_class_out_evenly() -> None:
    labels = np.repeat([0, 1, 2], [9, 6, 30])
    masks = list(parts(labels, 3, 0))
    assert np.sum(masks, axis=0).tolist() == [1] * 45
    assert [np.bincount(labels[m]).tolist() for m in masks] == [[3, 2, 10]] * 3


def test_it_is_for_speech_and_its_settings_are_checked() -> None:
    with pytest.raises(InputError, match="detector audio-stego works on speech data, got image"):
        configured(("audio-stego",), "fast", {}, pictures(4, seed=0).kind)
    with pytest.raises(InputError, match="alpha 2"):
        AudioStego(alpha=2)
    with pytest.raises(InputError, match="voices 0"):
        AudioStego(voices=0)


@pytest.mark.parametrize("few", [1, 3])
def test_classes_of_a_few_clips_neither_break_it_nor_are_a_finding(few: int) -> None:
    data = spoken(160, seed=116)
    keep = (data.labels != 2) | (np.cumsum(data.labels == 2) <= few)
    reserve = spoken(60, seed=1116)
    found = AudioStego(**QUICK).inspect(data[keep], reserve[reserve.labels != 1], CPU)
    assert not found.found
    assert np.isfinite(found.scores).all()
