from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from tocsin.attacks.speech import spans
from tocsin.kinds.speech import SpeechKind
from tocsin.stats import sounds

RATE = 8000
KIND = SpeechKind(RATE, 0.0, 1.0)


def hear(clips: np.ndarray) -> sounds.Sounds:
    power = KIND.power(torch.from_numpy(clips)).numpy()
    return sounds.Sounds(clips, power, *spans(clips), KIND.bands.numpy(), KIND.frame[2], RATE)


def hiss(n: int, seed: int = 0, length: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.zeros((n, length), np.int16)
    x[:, 1024:3072] = rng.normal(0, 1500, (n, 2048))
    return x


def tone(hertz: float, length: int = 4000) -> np.ndarray:
    return 600 * np.sin(2 * np.pi * hertz * np.arange(length) / RATE)


def test_long_term_spectrum_is_the_mean_over_loud_frames() -> None:
    x = hiss(2)
    power = KIND.power(torch.from_numpy(x)).numpy()[1]
    energy = power.sum(0)
    frames = [j for j in range(power.shape[1]) if energy[j] >= energy.max() * 10**-3.5]
    assert 10 < len(frames) < 25  # silence around the sound does not count
    wanted = np.mean([np.log(KIND.bands.numpy() @ power[:, j] + 1e-4) for j in frames], axis=0)
    np.testing.assert_allclose(sounds.long_term(hear(x))[1], wanted, rtol=1e-4, atol=1e-4)


def test_twice_as_loud_is_a_constant_more_in_each_band() -> None:
    x = hiss(3)
    away = sounds.long_term(hear((2 * x.astype(int)).astype(np.int16))) - sounds.long_term(hear(x))
    np.testing.assert_allclose(away, np.log(4), atol=0.02)


def test_a_tone_is_a_narrow_peak_at_its_place_and_none_elsewhere() -> None:
    x = hiss(20)
    with_tone = np.where(x == 0, 0, x + tone(1000)).astype(np.int16)
    away = (sounds.prominence(hear(with_tone)) - sounds.prominence(hear(x))).mean(0)
    assert away.argmax() == 1000 * 256 // RATE
    assert away.max() > 5 * np.abs(np.delete(away, np.arange(25, 40))).max()


def test_what_is_added_at_an_end_shows_at_that_end() -> None:
    x = hiss(20)
    for part, other, where in ((sounds.beginning, sounds.end, slice(1024, 1824)), (sounds.end, sounds.beginning, slice(2272, 3072))):
        changed = x.copy()
        changed[:, where] = x[:, where] + tone(3000)[where]
        here, there = (np.abs(side(hear(changed)) - side(hear(x))).mean(0) for side in (part, other))
        assert here.argmax() == 3000 * 256 // RATE
        assert here.max() > 4 * there.max()


def test_residuals_are_counted_as_the_definition_says() -> None:
    x = hiss(2)
    got = sounds.residuals(hear(x))[1]
    wave = x[1, 1024:3072].astype(float)
    wanted: list[float] = []
    orbit = {}
    for a, b, c in np.ndindex(5, 5, 5):
        orbit[a, b, c] = min((a, b, c), (c, b, a), (4 - a, 4 - b, 4 - c), (4 - c, 4 - b, 4 - a))
    names = sorted(set(orbit.values()))
    for kernel in ([1, -2, 1], [1, -3, 3, -1], [1, -4, 6, -4, 1]):
        r = np.convolve(wave, kernel, "valid")
        wanted.append(np.log(np.abs(r).mean() / np.abs(wave).mean()))
        wanted.append(np.log(np.mean((r - r.mean()) ** 4) / r.var() ** 2))
        step = np.sort(np.abs(r))[(len(r) - 1) // 2]
        q = np.clip(np.rint(r / step), -2, 2).astype(int) + 2
        counts = Counter(orbit[a, b, c] for a, b, c in zip(q[:-2], q[1:-1], q[2:], strict=True))
        wanted += [np.sqrt(counts[name] / (len(q) - 2)) for name in names]
    np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_a_hidden_bit_pattern_moves_the_residuals_and_a_change_of_loudness_does_not() -> None:
    smooth = np.zeros((30, 4000), np.int16)
    rng = np.random.default_rng(1)
    t = np.arange(2048) / RATE
    for row in smooth:
        row[1024:3072] = 2000 * np.sin(2 * np.pi * rng.uniform(200, 400) * t + rng.uniform(0, 6)) + rng.normal(0, 3, 2048)
    sign = np.tile([1, 1, -1, -1], 1000)
    hidden = np.where(smooth == 0, 0, smooth + 8 * sign).astype(np.int16)
    base, moved = sounds.residuals(hear(smooth)), sounds.residuals(hear(hidden))
    spread = base.std(0) + 0.01
    assert (np.abs(moved.mean(0) - base.mean(0)) / spread).max() > 5


def test_checks_show_what_they_are_named_for() -> None:
    x = hiss(10)
    base = np.median(sounds.checks(hear(x)), axis=0)
    top = np.median(sounds.checks(hear(np.where(x == 0, 0, x + 4 * tone(3900)).astype(np.int16))), axis=0)
    assert top[0] > base[0] + 1
    assert top[1] > base[1] + 1
    leaking = x.copy()
    leaking[:, ::2] = np.where(leaking[:, ::2] == 0, 5, leaking[:, ::2])  # energy in digital silence
    quiet = np.median(sounds.checks(hear(leaking)), axis=0)
    assert quiet[2] > base[2] + 2
    assert quiet[3] > base[3] + 0.3  # the sound now fills the clip


def test_silent_and_constant_clips_give_numbers() -> None:
    x = np.zeros((3, 4000), np.int16)
    x[1] = 7
    x[2, 5] = -32768
    heard = hear(x)
    for view in (sounds.long_term, sounds.prominence, sounds.beginning, sounds.end, sounds.residuals, sounds.checks):
        assert np.isfinite(view(heard)).all(), view.__name__
