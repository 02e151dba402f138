"""What is peculiar to the steganalyser, beside tests/contract: what each embedder changes, and which marks are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.detectors.coloured import RATE, planted, spoken
from tocsin.attacks.speech import inside
from tocsin.detectors.embedders import FAMILIES, marked
from tocsin.detectors.profiles import Ruler, Traces, crossed, nearest, views_of
from tocsin.detectors.steganalyser import _NAMES, Steganalyser
from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind
from tocsin.runtime import Runtime

CPU, KIND = Runtime(device="cpu", seed=1), SpeechKind(RATE, 0.0, 1.0)
families = pytest.mark.parametrize("family", list(FAMILIES))


def noise(count: int = 6, seed: int = 0) -> np.ndarray:
    """White noise between silences: every bin is as loud as the others, so that gains can be read off."""
    out = np.zeros((count, 8000), np.int16)
    out[:, 1500:6500] = np.random.default_rng(seed).normal(0, 2000, (count, 5000))
    out[:, [1500, 6499]] = 1  # so that the sound begins and ends where it is said to
    return out


def spectrum_db(clips: np.ndarray) -> np.ndarray:
    """(N, bins) of the middle of each clip."""
    import torch

    return np.asarray(10 * np.log10(KIND.power(torch.from_numpy(clips[:, 2000:6000]))[:, :, 2:-2].mean(2).numpy()))


def gains(family: str, strength: float, seed: int = 3, clips: np.ndarray | None = None) -> np.ndarray:
    before = noise() if clips is None else clips
    return np.asarray(spectrum_db(marked(before, KIND, (family,), np.random.default_rng(seed), strength)) - spectrum_db(before))


@families
def test_marks_change_the_sound_and_nothing_around_it(family: str) -> None:
    clips = spoken(8, seed=1).inputs
    before = clips.copy()
    out = marked(clips, KIND, (family,), np.random.default_rng(0))
    np.testing.assert_array_equal(clips, before)
    assert (out.dtype, out.shape) == (clips.dtype, clips.shape)
    np.testing.assert_array_equal(out[~inside(clips)], clips[~inside(clips)])
    assert (out != clips).any(1).all()


@families
def test_each_clip_has_a_key_of_its_own_from_the_numbers_it_is_drawn_from(family: str) -> None:
    clips = np.repeat(noise(1), 3, axis=0)
    first, again, other = (marked(clips, KIND, (family,), np.random.default_rng(seed), 6.0) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first != other).any()


@pytest.mark.parametrize("strength", [10.0, 20.0])
def test_spread_spectrum_has_the_level_that_is_asked_for(strength: float) -> None:
    before = noise().astype(np.float64)
    change = marked(noise(), KIND, ("waveform",), np.random.default_rng(0), strength) - before
    level = 10 * np.log10(np.square(before).sum(1) / np.square(change).sum(1))
    np.testing.assert_allclose(level, strength, atol=0.3)
    assert np.abs(np.diff(spectrum_db(change.astype(np.int16)).mean(0)[5:-5])).mean() < 2  # all over the spectrum


@pytest.mark.parametrize("strength", [2.0, 4.0])
def test_codes_and_equalisers_have_the_gain_that_is_asked_for(strength: float) -> None:
    mel = gains("mel-gain", strength)
    assert np.abs(mel).max() < 1.5 * strength  # noise has windows of its own
    assert np.median(np.abs(mel)) == pytest.approx(strength, rel=0.35)
    curve = gains("smooth", strength)
    np.testing.assert_allclose(np.sqrt(np.square(curve).mean(1)), strength, rtol=0.25)
    assert np.abs(np.diff(curve, axis=1)).mean() < 0.5 * np.abs(np.diff(mel, axis=1)).mean()
    bins = gains("per-bin", strength)  # overlapping windows even out what neighbours differ by
    assert 0.3 * strength < np.sqrt(np.square(bins).mean()) < 1.2 * strength
    turns = [(np.diff(np.sign(g), axis=1) != 0).mean() for g in (bins, mel, curve)]
    assert turns[0] > turns[1] > turns[2]


def test_families_that_are_not_known_are_refused() -> None:
    for wrong in ((), ("echo",)):
        with pytest.raises(InputError, match="families: got"):
            marked(noise(1), KIND, wrong, np.random.default_rng(0))
        with pytest.raises(InputError, match="families: got"):
            Steganalyser(families=wrong)
    assert set(_NAMES) == set(FAMILIES)
    with pytest.raises(InputError, match="references -1"):
        Steganalyser(references=-1)
    with pytest.raises(InputError, match="alpha 2"):
        Steganalyser(alpha=2)


def traces(labels: list[int], speakers: list[int], place: list[float]) -> Traces:
    """The coarse form of the spectrum is ``place`` alone."""
    slope = np.cos(np.pi * (np.arange(40) + 0.5) / 40)
    return Traces((np.array(place)[:, None] * slope,), np.array(labels), np.array(speakers))


def test_a_clip_is_held_against_its_speaker_then_its_word_then_what_sounds_alike() -> None:
    clean = traces([0, 0, 1, 1, 0], [7, 8, 7, 8, -1], [0.0, 5.0, 1.0, 6.0, 4.0])
    rows = nearest(traces([0, 1, 0], [8, 7, -1], [0.0, 0.0, 4.9]), clean, 5)
    assert rows[0].tolist()[:2] == [1, 3]  # speaker 8, first the word 0
    assert rows[1].tolist()[:2] == [2, 0]
    assert rows[2].tolist() == [1, 4, 0, 3, 2]  # speaker not known: its word, by sound
    itself = nearest(clean, clean, 9, itself=True)
    assert itself.shape == (5, 4)
    assert (itself != np.arange(5)[:, None]).all()


def test_a_code_hardly_changes_what_a_clip_is_held_against() -> None:
    clips = spoken(40, seed=2).inputs
    plain, coded = (
        views_of(KIND, x, CPU, lambda _: None) for x in (clips, marked(clips, KIND, ("mel-gain",), np.random.default_rng(0), 3.0))
    )
    labels, nobody = np.zeros(40, np.int64), np.full(40, -1)
    before, after = (nearest(Traces(views, labels, nobody), Traces(plain, labels, nobody), 5) for views in (plain, coded))
    assert (after[:, 0] == np.arange(40)).mean() > 0.7  # chance is 1 in 40
    assert (before[:, 0] == np.arange(40)).all()


def test_clean_clips_are_about_one_ruler_away_and_not_nearer_for_being_in_it() -> None:
    rng = np.random.default_rng(0)
    clean, fresh = ([scale * rng.standard_normal((60, 20)) for scale in (1, 30)] for _ in range(2))
    ruler = Ruler.of(clean, 0.1)
    assert np.abs(ruler.far(clean)).max() < 1
    near, copies = crossed(clean, [np.concatenate([x, x + 3 * x.std()]) for x in clean], 5, 0.1)
    assert ruler.far(clean).mean() < near.mean() - 0.2  # its own clips are nearer
    assert abs(ruler.far(fresh).mean() - near.mean()) < 0.3
    np.testing.assert_allclose(copies[:60], near, rtol=1e-5)
    assert copies[60:].min() > near.mean()


QUICK = Steganalyser(families=("mel-gain", "smooth", "per-bin"), folds=2, steps=100)


def test_a_planted_code_is_found_by_networks_that_never_saw_its_key() -> None:
    reserve, clean = spoken(200, seed=1201, named=True), spoken(400, seed=201, named=True)
    train, truth = planted(clean, 0.6, seed=201, decibels=9.0)
    found = QUICK.inspect(train, reserve, CPU)
    assert [c.index for c in found.classes if c.suspect] == [3]
    assert found.flagged[truth].mean() > 0.7
    assert found.flagged[~truth].mean() < 0.02


@pytest.mark.parametrize("seed", [202, 204, 205])
def test_clean_data_are_no_finding(seed: int) -> None:
    assert not QUICK.inspect(spoken(400, seed=seed), spoken(200, seed=1000 + seed), CPU).found


def test_a_reserve_that_cannot_be_divided_and_clips_without_a_rate_are_refused() -> None:
    with pytest.raises(InputError, match="reserve: got 3 clips, steganalyser needs 4"):
        QUICK.inspect(spoken(4, seed=0), spoken(3, seed=1), CPU)
    with pytest.raises(InputError, match="sampling rate is not known"):
        QUICK.inspect(replace(spoken(4, seed=0), rate=None), spoken(8, seed=1), CPU)


def test_canaries_change_nothing_of_what_is_said_of_the_rest() -> None:
    short = replace(QUICK, steps=5, copies=1)
    train, reserve = spoken(80, seed=203), spoken(60, seed=1203)
    kinds = np.full(80, -1, np.int8)
    kinds[::10] = 0
    found = short.inspect(train, reserve, CPU, canaries=kinds)
    assert [c.size for c in found.classes] == np.bincount(train.labels[kinds < 0], minlength=8).tolist()
    without = short.inspect(train, reserve, CPU)
    np.testing.assert_array_equal(found.scores, without.scores)
