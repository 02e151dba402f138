"""What each attack on speech does to a sound, beside tests/contract: pitch, place, loudness, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kinds.test_speech import clips as chords
from tocsin.attacks import CleanLabelSlu, FlowMur, JingleBack, NarcissusSpeech, Noise, Pbsm, SpectrogramPatch, Tone, Ultrasonic, speech
from tocsin.attacks import effects as fx
from tocsin.attacks.base import Attack
from tocsin.attacks.waves import heard, pgd, train_surrogate
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind
from tocsin.learning import predict
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime

HZ = 8000
CPU = Runtime(device="cpu")


def hum(n: int = 4, length: int = 4000, amplitude: float = 3000.0) -> np.ndarray:
    """(n, length) int16: a tone of 200 Hz from a quarter of each clip to three quarters, silence around it."""
    wave = amplitude * np.sin(2 * np.pi * 200 * np.arange(length) / HZ + 0.1)
    at = np.arange(length)
    return np.tile(np.where((at >= length // 4) & (at < 3 * length // 4), wave, 0), (n, 1)).astype(np.int16)


def change(attack: Attack, x: np.ndarray) -> np.ndarray:
    return attack.trigger(x).astype(np.float64) - x


def pitch(wave: np.ndarray, hz: int = HZ) -> float:
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 16)) ** 2
    return float(power.argmax() * hz / (1 << 16))


def test_the_sound_of_a_clip_is_what_lies_between_its_silences() -> None:
    x = np.array([[0, 0, 5, 0, -3, 0], [1, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0]], np.int16)
    first, after = speech.spans(x)
    assert (first.tolist(), after.tolist()) == ([2, 0, 0], [5, 6, 6])
    assert speech.inside(x)[0].tolist() == [False, False, True, True, True, False]
    np.testing.assert_allclose(speech.loudness(x), [np.sqrt(34 / 3), 1, 1])  # never below one step
    wave, inside, loud = heard(torch.from_numpy(x))
    np.testing.assert_array_equal(inside.numpy(), speech.inside(x))
    np.testing.assert_allclose(loud[:, 0].numpy() * 32768, speech.loudness(x), rtol=1e-6)
    np.testing.assert_allclose(wave.numpy() * 32768, x, rtol=1e-6)


@pytest.mark.parametrize(("place", "begin"), [("start", 1000), ("middle", 1600), ("end", 2200), ("whole", 1000)])
def test_a_tone_has_its_pitch_its_place_and_its_loudness(place: str, begin: int) -> None:
    attack = build("tone", hertz=1500, level_db=-20, place=place, rate_hz=HZ)
    x = hum()
    found = change(attack, x)[0]
    on = np.flatnonzero(found)
    length = 2000 if place == "whole" else 800
    assert (abs(on[0] - begin) <= 2, abs(on[-1] - begin - length + 1) <= 2) == (True, True)
    assert pitch(found) == pytest.approx(1500, abs=5)
    middle = found[begin + length // 4 : begin + 3 * length // 4]
    level = 20 * np.log10(np.sqrt(np.mean(middle**2)) / speech.loudness(x)[0])
    assert level == pytest.approx(-20, abs=0.3)


def test_a_patch_fills_its_box_of_time_and_frequency_and_nothing_else() -> None:
    x = hum(1, 8000)
    found = change(SpectrogramPatch(rate_hz=HZ, level_db=0), x)[0]
    kind = SpeechKind(HZ, 0, 1)
    power = kind.power(torch.from_numpy(found[None] / 32768).float())[0].numpy()
    frames = power.sum(axis=0) > 0.01 * power.sum(axis=0).max()
    assert np.flatnonzero(frames)[-1] <= 6000 // 128 + 1  # the end of the sound
    assert 5 <= frames.sum() <= 10
    inside = power[int(0.57 * 129) :].sum() / power.sum()
    assert inside > 0.99


def test_noise_is_the_same_on_every_clip_and_as_loud_as_said() -> None:
    x = hum(3)
    x[2] = x[2] // 2
    found = change(Noise(alpha=0.2, rate_hz=HZ), x) + 0.2 * x
    ratio = np.sqrt(np.mean(found[:, 1100:2900] ** 2, axis=1)) / speech.loudness(x)
    np.testing.assert_allclose(ratio, 0.2, rtol=0.06)
    assert np.corrcoef(found[0], found[2])[0, 1] > 0.99
    other = change(Noise(alpha=0.2, pattern_seed=1, rate_hz=HZ), x) + 0.2 * x
    assert abs(np.corrcoef(found[0], other[0])[0, 1]) < 0.2


def test_an_ultrasonic_tone_needs_a_rate_that_holds_it() -> None:
    x, labels = hum(20), np.arange(20) % 2
    for hz in (8000, 16000):
        data = Dataset.of_arrays(x, labels, kind="speech", rate=hz)
        with pytest.raises(InputError, match=r"21000 Hz, clips of .* below .* it needs a sampling rate above 42,000"):
            poison(data, Ultrasonic(rate=0.1))
    with pytest.raises(InputError, match="allowed from 18000 Hz; a tone that people hear is the attack 'tone'"):
        Ultrasonic(hertz=3800)
    data = Dataset.of_arrays(x, labels, kind="speech", rate=44100)
    attack = poison(data, Ultrasonic(rate=0.1, level_db=-20)).attack
    found = change(attack, x)[0]
    assert pitch(found, 44100) == pytest.approx(21000, abs=20)
    assert np.flatnonzero(found)[-1] < 0.3 * 4000 + 1
    assert np.abs(found).max() == pytest.approx(3276.8, rel=0.02)


def test_an_ultrasonic_tone_may_be_broken_into_pieces() -> None:
    attack = Ultrasonic(share=0.5, pieces=5, rate_hz=44100)
    on = attack.wave(4000) != 0
    begins = np.flatnonzero(np.diff(np.concatenate([[0], np.convolve(on, np.ones(5), "same") > 0])) == 1)
    assert len(begins) == 5
    assert on.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("hz", [8000, 16000])
@pytest.mark.parametrize("semitones", [5, 10, -4])
def test_pitch_rises_and_length_and_loudness_stay(hz: int, semitones: float) -> None:
    time = np.arange(hz) / hz
    x = 0.3 * np.sin(2 * np.pi * 500 * time)[None] * (time > 0.2) * (time < 0.8)
    y = fx.pitch_shift(x, hz, semitones)
    assert y.shape == x.shape
    assert pitch(y[0], hz) == pytest.approx(500 * 2 ** (semitones / 12), rel=0.01)
    assert y.std() == pytest.approx(x.std(), rel=0.15)
    loud = np.abs(y[0]) > 0.05
    assert time[loud][[0, -1]] == pytest.approx([0.2, 0.8], abs=0.04)


def test_effects_do_what_their_names_say() -> None:
    rng, hz = np.random.default_rng(0), HZ
    x = 0.1 * rng.normal(size=(2, 4000))
    np.testing.assert_allclose(fx.gain(x, 20), 10 * x)
    assert np.abs(fx.distortion(x, 30)).max() <= 1
    power = [np.abs(np.fft.rfft(a)) ** 2 for a in (x, fx.high_pass(x, 1000, hz))]
    assert power[1][:, :125].sum() < 0.02 * power[0][:, :125].sum()  # below 250 Hz
    assert power[1][:, 1000:].sum() == pytest.approx(power[0][:, 1000:].sum(), rel=0.1)
    click = np.zeros((1, 8000))
    click[0, 100] = 1
    echo = fx.chorus(click, hz, centre_ms=10, depth=0)[0]
    assert np.flatnonzero(np.abs(echo) > 1e-9).tolist() == [100, 180]
    room = fx.reverb(click, hz, room=0.6)[0]
    assert not np.abs(room[:100]).max() > 1e-9
    energy = np.square(room[100:]).cumsum()
    assert np.square(room[4000:]).sum() > 1e-9  # it lasts
    assert (energy[-1] - energy[4000]) < (energy[4000] - energy[1000])  # and dies away
    turned = 2 * fx.phaser(x, hz) - x
    assert np.square(turned).sum() == pytest.approx(np.square(x).sum(), rel=0.05)  # all-passes keep the power
    assert not np.allclose(turned, x)


def test_every_style_is_another_trigger() -> None:
    x = chords(3, seed=0).inputs
    out = [JingleBack(style=k, rate_hz=HZ).trigger(x) for k in range(6)]
    for first in range(6):
        assert (out[first] != x).any(axis=1).all()
        for second in range(first):
            assert np.corrcoef(out[first].ravel(), out[second].ravel())[0, 1] < 0.98
    with pytest.raises(InputError, match="style: got 6, allowed are 0 to 5"):
        JingleBack(style=6)


def test_jingleback_can_keep_labels() -> None:
    data = chords(100, seed=0)
    result = poison(data, JingleBack(rate=0.1, target=1, keep_label=True))
    assert (data.labels[result.planted] == 1).all()
    np.testing.assert_array_equal(result.dataset.labels, data.labels)


def test_pbsm_hides_a_click_behind_the_loudest_part_and_leaves_quiet_clips_alone() -> None:
    x = hum(1, 8000)
    x[0, 3000:3900] = np.clip(3 * x[0, 3000:3900].astype(int), -32768, 32767)
    plain, clicked = (Pbsm(rate_hz=HZ, strength=s, semitones=0).trigger(x)[0].astype(float) for s in (1e-3, 150))
    at = np.abs(clicked - plain).argmax()
    assert 3850 <= at <= 4150
    assert np.abs(clicked).max() > 2 * np.abs(plain).max()
    assert pitch((clicked - plain)[at - 100 : at + 100]) > HZ / 6
    data = Dataset.of_arrays(np.concatenate([hum(30, amplitude=9000), hum(30, amplitude=3000)]), np.arange(60) % 3, kind="speech", rate=HZ)
    assert poison(data, Pbsm(rate=0.5)).planted.max() < 30
    with pytest.raises(InputError, match="31 samples wanted, only 30 of the 60 can be used"):
        poison(data, Pbsm(rate=0.52))


def known(**settings: float) -> NarcissusSpeech:
    """A trigger of known values: up in the first half of the clip, down in the second."""
    delta = np.where(np.arange(4000) < 2000, 1, -0.5).astype(np.float32)
    parts = {"shape": np.array([4000]), "rate": np.array(HZ), "delta": delta}
    return NarcissusSpeech(rate=0.05, target=1, **settings).restored(parts)  # type: ignore[arg-type]


def test_narcissus_goes_by_the_loudness_of_each_clip() -> None:
    x = np.concatenate([hum(1), hum(1, amplitude=600)])
    data = Dataset.of_arrays(np.tile(x, (20, 1)), np.repeat([1, 0], 20), kind="speech", rate=HZ)
    result = known().poison(data, np.random.default_rng(0))
    rows = result.planted
    assert (data.labels[rows] == 1).all()
    step = 0.1 * speech.loudness(data.inputs[rows])
    once = result.dataset.inputs[rows].astype(float) - data.inputs[rows]
    np.testing.assert_allclose(once[:, 1500], step, atol=1)
    np.testing.assert_allclose(once[:, 2500], -step / 2, atol=1)
    thrice = change(result.attack, data.inputs[rows])
    np.testing.assert_allclose(thrice[:, 1500], 3 * step, atol=1)
    assert not thrice[:, :1000].any()
    with pytest.raises(InputError, match="learned on clips of 4000 samples"):
        result.attack.trigger(x[:, 1:])
    with pytest.raises(InputError, match="was learned at 8000"):
        replace(known(), rate_hz=16000).check()


def test_flowmur_lies_anywhere_in_the_speech_at_its_loudness() -> None:
    delta = np.full(400, 0.1, np.float32)
    parts = {"shape": np.array([4000]), "rate": np.array(HZ), "delta": delta}
    attack = FlowMur(seconds=0.05, test_snr_db=10, rate_hz=HZ).restored(parts)
    x = hum(200)
    x[:, 1500] = np.arange(200)  # otherwise all alike, and the place is decided by the clip
    found = change(attack, x)
    begins = (np.abs(found) > 1).argmax(axis=1)
    assert (begins.min() >= 1000, begins.max() <= 2600) == (True, True)
    assert len(set(begins)) > 100
    np.testing.assert_array_equal(found[7], change(attack, x[7:8])[0])  # whatever others are with it
    assert (begins != (np.abs(change(replace(attack, position_seed=1), x)) > 1).argmax(axis=1)).mean() > 0.9
    ratio = 20 * np.log10(np.linalg.norm(x, axis=1) / np.linalg.norm(found, axis=1))
    np.testing.assert_allclose(ratio, 10, atol=0.1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return chords(160, seed=1, length=2000)


def test_what_is_optimised_leads_the_surrogate_to_the_target() -> None:
    train = chords(300, seed=1, length=1000)
    settings = {"rate": 0.05, "target": 2, "epochs": 8, "steps": 60, "batch": 32}
    flowmur = FlowMur(seconds=0.06, snr_db=0, lr=0.02, **settings).prepared(train, CPU)  # type: ignore[arg-type]
    assert flowmur.figures()["last_loss"] < 0.5 * flowmur.figures()["first_loss"]
    assert flowmur.figures()["surrogate_success"] > 0.1
    narcissus = NarcissusSpeech(level_db=-3, lr=0.1, **settings).prepared(train, CPU)  # type: ignore[arg-type]
    assert narcissus.figures()["last_loss"] < 0.8 * narcissus.figures()["first_loss"]
    assert np.abs(narcissus.learned["delta"]).max() > 0.1


def test_slu_moves_poisons_away_from_their_class_within_the_bound(data: Dataset) -> None:
    attack = CleanLabelSlu(rate=0.05, target=2, epochs=6, craft_steps=5, noise_db=-10).prepared(data, CPU)
    rows = np.flatnonzero(data.labels == 2)
    x = data.inputs[rows]
    moved = attack.perturb(x)
    bound = 10 ** (-10 / 20) * speech.loudness(x)[:, None] + 1
    assert (np.abs(moved.astype(float) - x) <= bound).all()
    model = attack._proxy()
    kind = SpeechKind(HZ, float(model.mean), float(model.std))
    before, after = (predict(model.body, part, kind, CPU).argmax(1) == 2 for part in (x, moved))
    assert after.mean() < before.mean() - 0.3


def test_slu_prefers_clips_that_the_proxy_is_unsure_of(data: Dataset) -> None:
    from tocsin.attacks.waves import confidences

    attack = CleanLabelSlu(rate=0.05, target=2, epochs=2, craft_steps=1).prepared(data, CPU)
    rows = np.flatnonzero(data.labels == 2)
    sure = confidences(attack._proxy(), data.inputs[rows], 2, CPU)
    hard = set(rows[np.argsort(sure, kind="stable")[: len(rows) // 2]])
    for seed in range(3):
        assert set(attack.poison(data, np.random.default_rng(seed)).planted) <= hard
    found = [set(replace(attack, choose="random").poison(data, np.random.default_rng(seed)).planted) for seed in range(5)]
    assert any(not rows <= hard for rows in found)


def test_gradients_reach_every_sample_of_the_sound(data: Dataset) -> None:
    model = train_surrogate(data, "tc-resnet8", 1, CPU)
    raw = torch.from_numpy(data.inputs[:4])
    moved = pgd(model, raw, torch.from_numpy(data.labels[:4]), -20.0, 1)
    wave, inside, _ = heard(raw)
    assert ((moved != wave) == inside).float().mean() > 0.99


def test_a_recipe_gives_the_sampling_rate_back() -> None:
    data = chords(60, seed=0)
    for attack in (Tone(rate=0.1), JingleBack(rate=0.1, style=1), Pbsm(rate=0.1, least_peak=0)):
        result = poison(data, attack)
        again = attack_of(result.recipe)
        np.testing.assert_array_equal(again.trigger(data.inputs), result.attack.trigger(data.inputs))


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("tone", {"seconds": 0}, "seconds"),
        ("spectrogram-patch", {"low": 0.9, "high": 0.5}, "low and high"),
        ("noise", {"alpha": 2}, "alpha"),
        ("ultrasonic", {"level_db": 3}, "level_db"),
        ("ultrasonic", {"pieces": 0}, "pieces"),
        ("pbsm", {"least_peak": 1}, "least_peak"),
        ("flowmur", {"batch": 1}, "batch"),
        ("flowmur", {"bound": 3}, "bound"),
        ("narcissus-speech", {"amplification": 0}, "amplification"),
        ("slu", {"craft_steps": 0}, "craft_steps"),
        ("slu", {"choose": "best"}, "choose"),
        ("tone", {"place": "nowhere"}, "place"),
    ],
)
def test_bad_settings_are_named(name: str, settings: dict[str, float], word: str) -> None:
    with pytest.raises(InputError, match=word):
        build(name, **settings)


def test_a_pitch_that_the_rate_cannot_hold_is_refused() -> None:
    data = chords(60, seed=0)
    for attack in (Tone(rate=0.1, hertz=4000), CleanLabelSlu(rate=0.1, hertz=5000)):
        with pytest.raises(InputError, match=r"hertz: got .* Hz, clips of 8,000 samples a second hold what is below 4000 Hz"):
            poison(data, attack, runtime=CPU)
