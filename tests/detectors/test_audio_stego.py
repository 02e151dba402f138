"""What is peculiar to audio-stego, beside tests/contract: which statistic sees what, and what an unlike reserve does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.detectors.coloured import RATE, planted, spoken
from tests.detectors.synthetic import pictures
from tocsin.detectors.audio_clips import mark_odds, speakers_of
from tocsin.detectors.audio_judges import disagreement, judge, levelled, parts
from tocsin.detectors.audio_stego import AudioStego, Heard, sum_excess, unraised
from tocsin.errors import InputError
from tocsin.panel import configured
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=1)
QUICK = {"judge_epochs": 0, "folds": 3, "voices": 4}


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


def test_marks_are_seen_from_what_the_reserve_of_the_class_has() -> None:
    """Words differ in how far their clips are from each other, which is no sign of a mark."""
    train, truth = planted(spoken(300, seed=117), 0.3, seed=117)
    reserve = spoken(120, seed=1117)
    found = mark_odds(train, reserve, CPU)
    assert found is not None
    assert found.shape == (420,)
    for k in range(len(train.classes)):
        assert np.median(found[300:][reserve.labels == k]) == pytest.approx(0, abs=1e-9)
    mine = train.labels == 3
    assert np.median(found[:300][truth]) > np.quantile(found[:300][mine & ~truth], 0.9)
    assert mark_odds(train, reserve[:9], CPU) is None, "nine clips cannot be divided among five networks"


def test_the_steganalyser_has_a_part_in_the_sum_and_in_no_test_of_single_clips() -> None:
    train, reserve = planted(spoken(240, seed=118), 0.3, seed=118)[0], spoken(100, seed=1118)
    with_marks, without = (AudioStego(**QUICK, marks=asked).inspect(train, reserve, CPU) for asked in (True, False))
    assert with_marks.evidence["single clips"] == without.evidence["single clips"]
    raised = np.abs(unraised(with_marks) - unraised(without))
    assert raised.max() > 0.5
    assert "marks" in AudioStego(**QUICK).statistics(train, reserve, CPU)
    assert "marks" not in AudioStego(**QUICK, marks=False).statistics(train, reserve, CPU)


def handmade(labels: np.ndarray, reserve: np.ndarray) -> Heard:
    return Heard({}, labels, reserve, np.zeros(len(labels), np.int64), np.zeros((10, len(labels)), np.int64), 10)


def test_the_sum_of_all_statistics_names_what_its_own_reserve_does_not_show() -> None:
    rng = np.random.default_rng(0)
    labels, reserve = np.concatenate([np.arange(2400) % 10, np.arange(300) % 10]), np.arange(2700) >= 2400
    total = rng.exponential(size=2700)
    poison = (labels == 4) & ~reserve & (rng.random(2700) < 0.2)
    total[poison] += 8
    total[(labels == 7) & (rng.random(2700) < 0.3)] += 8  # natural: the reserve has it too
    limits, p = sum_excess(handmade(labels, reserve), total, 0.05)
    assert p[4] < 0.02
    assert (np.delete(p, 4) > 0.05).all()
    assert (total[poison] > limits[4]).all()
    assert (total[(labels == 4) & ~poison] > limits[4]).mean() < 0.1


def test_its_own_reserve_can_withhold_a_name_and_has_no_part_of_the_error_to_share() -> None:
    """A class far odder than the others by nature, of which its 30 reserve clips show about as much."""
    labels, reserve = np.concatenate([np.arange(2400) % 10, np.arange(300) % 10]), np.arange(2700) >= 2400
    total = np.random.default_rng(3).exponential(size=2700)
    odd = labels == 4
    total[odd & ~reserve & (np.cumsum(odd) % 4 == 0)] += 8  # 60 of 240, where 3 of 30 of the reserve
    total[np.flatnonzero(odd & reserve)[:3]] += 8
    spent, whole = (sum_excess(handmade(labels, reserve), total, 0.05, spend)[1] for spend in (0.6, 1.0))
    assert spent[4] == pytest.approx(whole[4]), "what its own reserve says is not divided"
    assert whole[4] > 0.05
    total[odd & reserve] = 0.0
    assert sum_excess(handmade(labels, reserve), total, 0.05, 0.6)[1][4] < 0.02


def test_data_that_are_odder_than_their_reserve_in_all_classes_are_no_finding() -> None:
    """Such as wrong labels here and there, in data whose reserve was vetted."""
    rng = np.random.default_rng(1)
    labels, reserve = np.concatenate([np.arange(2400) % 10, np.arange(300) % 10]), np.arange(2700) >= 2400
    total = rng.exponential(size=2700)
    total[~reserve & (rng.random(2700) < 0.1)] += 8
    assert (sum_excess(handmade(labels, reserve), total, 0.05)[1] > 0.02).all()


def test_clean_sums_keep_their_level() -> None:
    labels, reserve = np.concatenate([np.arange(2400) % 10, np.arange(300) % 10]), np.arange(2700) >= 2400
    loud = 0
    for seed in range(200):
        total = np.random.default_rng(seed).exponential(size=2700) * np.linspace(1, 1.5, 10)[labels]  # classes are not alike
        loud += sum_excess(handmade(labels, reserve), total, 0.05)[1].min() <= 0.05
    assert loud <= 10


def in_order(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two tones, one after the other: the label says which comes first. All clips have about the same long-term spectrum."""
    rng = np.random.default_rng(seed)
    labels, t = rng.integers(0, 2, count), np.arange(1500) / RATE
    clips = np.zeros((count, 4000), np.int16)
    for row, first in enumerate(labels):
        low, high = (6000 * np.sin(2 * np.pi * f * rng.uniform(0.95, 1.05) * t) for f in (400, 2000))
        start = int(rng.integers(0, 900))
        clips[row, start : start + 3000] = np.concatenate([high, low] if first else [low, high]) + rng.normal(0, 300, 3000)
    return clips, labels


def test_levelled_maps_do_not_hear_loudness_or_silence() -> None:
    clips, _ = in_order(6, 114)
    plain, louder = levelled(clips, RATE), levelled((2 * clips.astype(int)).astype(np.int16), RATE)
    assert np.abs(louder - plain).mean() < 0.2 * np.abs(plain).mean()
    assert (plain[:, :, -1] == 0).all()


def test_wrong_labels_are_doubted_by_judges_that_did_not_see_them() -> None:
    clips, right = in_order(160, 115)
    wrong = np.arange(160) % 12 == 0
    found = judge(clips, np.where(wrong, 1 - right, right), 2, RATE, 2, 40, CPU)
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


def test_a_class_beside_the_surest_needs_a_tenth_of_alpha() -> None:
    named = AudioStego(alpha=0.05)._named
    np.testing.assert_array_equal(named(np.array([1.0, 0.04, 0.6])), [False, True, False])
    np.testing.assert_array_equal(named(np.array([0.03, 1e-9, 0.006])), [False, True, False])
    np.testing.assert_array_equal(named(np.array([0.03, 1e-9, 0.004])), [False, True, True])


@pytest.mark.parametrize(("sign", "name"), [(1.0, "shared by the doubted"), (-1.0, "shared by the believed")])
def test_a_trigger_is_shared_by_the_doubted_or_by_the_believed(sign: float, name: str) -> None:
    """Judges that did not learn a trigger doubt the label, judges that did take it for the surest of all."""
    rng = np.random.default_rng(31)
    labels, reserve = rng.integers(0, 4, 900), np.arange(900) >= 800
    truth = (labels == 2) & ~reserve & (rng.random(900) < 0.3)
    views = {"one": rng.normal(size=(900, 30)) + 1.2 * truth[:, None], "other": rng.normal(size=(900, 50))}
    heard = Heard(views, labels, reserve, np.zeros(900, np.int64), np.zeros((4, 900), np.int64), 4)
    doubt = rng.normal(size=900) + sign * truth
    said = AudioStego()._extremes(heard, {"doubted label": doubt}, CPU)
    mine = labels == 2
    assert np.quantile(said[name][mine & truth], 0.1) > np.quantile(said[name][~truth], 0.9)
    assert abs(np.median(said[name][mine & reserve])) < 1e-9
    assert AudioStego()._extremes(heard, {}, CPU) == {}, "without judges nobody is doubted"
