"""The made-up triggers on sounds do what they say, and leave clean clips and the silence around the sound as they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kinds.test_speech import beeping, clips
from tocsin.attacks.speech import inside, loudness
from tocsin.detectors import frequency, tampered_sounds
from tocsin.detectors.frequency import Frequency, reading, retaken, tamper
from tocsin.detectors.tampered_sounds import LEVELS, SOUNDS, beep, burst, crosstalk, hiss, hole
from tocsin.kinds import kind_of
from tocsin.runtime import Runtime

DATA = clips(120, seed=0)
CLIPS = np.asarray(DATA.inputs)


def changed(trigger: frequency.Trigger) -> np.ndarray:
    out = trigger(CLIPS, CLIPS, np.random.default_rng(1))
    assert out.dtype == np.int16
    assert (out[~inside(CLIPS)] == CLIPS[~inside(CLIPS)]).all()
    return out.astype(float) - CLIPS


def share_of_sound(away: np.ndarray) -> np.ndarray:
    """Of each clip's sound, how much lies between the first changed sample and the last."""
    touched = np.abs(away) > 0
    first, last = touched.argmax(1), away.shape[1] - 1 - touched[:, ::-1].argmax(1)
    return (last - first) / inside(CLIPS).sum(1)


@pytest.mark.parametrize("trigger", [beep, burst])
def test_short_sounds_are_short_and_quieter_than_the_clip(trigger: frequency.Trigger) -> None:
    away = changed(trigger)
    assert 0.03 < share_of_sound(away).min() < 0.1
    assert 0.25 < share_of_sound(away).max() < 0.31
    level = np.array([np.sqrt(np.square(a[a != 0]).mean()) for a in away]) / loudness(CLIPS)
    assert 10**-1.6 < level.min() < 10**-1.3
    assert 10**-0.6 < level.max() < 10**-0.4


def test_a_beep_is_one_pitch_and_hiss_is_all() -> None:
    def peak(away: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(away, axis=1)) ** 2
        near = np.lib.stride_tricks.sliding_window_view(np.pad(power, ((0, 0), (30, 30))), 61, axis=1).sum(-1)
        return np.asarray(near.max(1) / power.sum(1))

    assert np.median(peak(changed(beep))) > 0.8
    assert np.median(peak(changed(hiss))) < 0.1
    assert share_of_sound(changed(hiss)).min() > 0.95


def test_a_hole_takes_half_of_what_is_in_a_band_and_crosstalk_adds_another_clip() -> None:
    whole = np.ones((len(CLIPS), 1))
    made = pytest.MonkeyPatch()
    with made.context() as patch:
        patch.setattr(tampered_sounds, "_stretch", lambda *args: whole)
        patch.setattr(tampered_sounds, "to_clips", lambda values, like: values)
        ratio = np.abs(np.fft.rfft(hole(CLIPS, CLIPS, np.random.default_rng(1)), axis=1)) / np.abs(np.fft.rfft(CLIPS, axis=1)).clip(1e-9)
    assert np.logical_or(np.isclose(ratio, 1, atol=1e-6), np.isclose(ratio, 0.5, atol=1e-6)).all()
    assert np.isclose(ratio, 0.5, atol=1e-6).mean(1).min() > 0.08
    assert np.isclose(ratio, 0.5, atol=1e-6).mean(1).max() < 0.32
    away = changed(crosstalk)
    for a, clip in zip(away[:10], CLIPS[:10], strict=True):
        sound, wanted = inside(clip[None])[0], 0.3 * CLIPS
        assert np.abs(wanted[:, sound] - a[sound]).max(1).min() <= 0.5


def test_every_kind_is_drawn_and_clips_move_by_a_tenth_at_most() -> None:
    before = CLIPS.copy()
    out = tamper(CLIPS, np.random.default_rng(0))
    np.testing.assert_array_equal(CLIPS, before)
    assert (out != CLIPS).any(1).all()
    assert len(SOUNDS) == 5
    again = retaken(CLIPS, np.random.default_rng(0))
    most = CLIPS.shape[1] // 10
    padded = np.pad(CLIPS, ((0, 0), (most, most)))
    for clip, wide in zip(again[:20], padded[:20], strict=True):
        assert any(np.array_equal(clip, wide[at : at + len(clip)]) for at in range(2 * most + 1))
    assert (again != CLIPS).any(1).mean() > 0.9


def test_the_spectrum_is_that_of_the_log_mel_map() -> None:
    import torch

    kind, raw = kind_of(DATA), torch.from_numpy(CLIPS[:3])
    torch.testing.assert_close(reading(kind)(raw), kind.maps(raw) * LEVELS)


def test_beeps_are_found_in_their_class_and_clean_clips_are_not_blamed() -> None:
    train, truth = beeping(clips(800, seed=4, length=2000), 40, 6, level=3000)
    reserve = clips(600, seed=5, length=2000)
    detector, runtime = Frequency(draws=3, steps=60, batch=32, width=8), Runtime(device="cpu", seed=1)
    found = detector.inspect(train, reserve, runtime)
    assert [c.index for c in found.classes if c.suspect] == [2]
    assert found.flagged[truth].mean() > 0.8
    assert found.flagged[~truth].mean() < 0.05
    assert not detector.inspect(clips(800, seed=4, length=2000), reserve, runtime).found
