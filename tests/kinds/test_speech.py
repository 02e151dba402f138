from __future__ import annotations

import numpy as np
import pytest
import torch

from tocsin.attacks.speech import inside
from tocsin.canaries import TRIGGERS, plant
from tocsin.data.dataset import Dataset
from tocsin.detectors import DETECTORS, Asset, ConfusionTraining, Detector, Findings, SpectralSignatures
from tocsin.errors import InputError
from tocsin.kinds import KINDS, SpeechKind, kind_of
from tocsin.kinds.speech import FLOOR, levelled, mel_bands
from tocsin.runtime import Runtime

RATE = 8000


def clips(count: int, *, seed: int, classes: int = 4, length: int = 4000) -> Dataset:
    """Each class is a chord of its own; pitch, loudness and place vary, and around it is digital silence."""
    world, rng = np.random.default_rng(5), np.random.default_rng(seed)
    chords = world.uniform(200, 1500, (classes, 3))
    labels = rng.integers(0, classes, count)
    out = np.zeros((count, length))
    for row, k in enumerate(labels):
        span = int(rng.integers(length // 2, 3 * length // 4))
        start = int(rng.integers(0, length - span))
        t = np.arange(span) / RATE
        tones = sum(np.sin(2 * np.pi * f * rng.uniform(0.9, 1.1) * t + rng.uniform(0, 6)) for f in chords[k])
        out[row, start : start + span] = rng.uniform(0.05, 0.2) * tones * np.hanning(span) + rng.normal(0, 0.01, span)
    return Dataset.of_arrays((np.clip(out, -1, 1) * 32767).astype(np.int16), labels, kind="speech", rate=RATE)


def test_the_front_end_is_the_plain_formula():
    """The short-time spectrum, the mel matrix and the logarithm, one frame at a time in numpy."""
    data = clips(3, seed=0)
    kind = SpeechKind.of(data)
    size, window, hop = kind.frame
    assert (size, window, hop) == (256, 256, 128)
    got = kind.maps(torch.from_numpy(data.inputs)).numpy()
    assert got.shape == (3, 40, 4000 // 128 + 1, 1)
    wave = np.pad(data.inputs[1] / 32768, size // 2)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    bands = mel_bands(size // 2 + 1, RATE, 40, 40.0).numpy()
    for frame in (0, 7, 20, 31):
        power = np.abs(np.fft.rfft(wave[frame * hop : frame * hop + size] * taper)) ** 2
        np.testing.assert_allclose(got[1, :, frame, 0], np.log(bands @ power + FLOOR), atol=1e-3)


def test_frames_of_higher_rates_are_thirty_and_ten_milliseconds():
    assert SpeechKind(16000, 0, 1).frame == (512, 480, 160)
    assert SpeechKind(44100, 0, 1).frame == (2048, 1323, 441)


def test_networks_of_detectors_see_frames_of_sixteen_milliseconds_and_more():
    maps = torch.rand(2, 40, 101, 1)
    for rate in (8000, 11_025):
        assert SpeechKind(rate, 0, 1).shortened(maps) is maps
    for rate in (16_000, 44_100):
        short = SpeechKind(rate, 0, 1).shortened(maps)
        assert short.shape == (2, 40, 51, 1)
        torch.testing.assert_close(short[:, :, 3], maps[:, :, 6:8].mean(2))
        torch.testing.assert_close(short[:, :, -1], maps[:, :, -1])  # the odd one out is not halved


def test_networks_read_the_same_of_maps_as_of_clips():
    data = clips(8, seed=0)
    for kind in (SpeechKind.of(data), SpeechKind.of(data).normalising("clip", data)):
        raw = torch.from_numpy(data.inputs)
        assert torch.equal(kind.to_tensor(raw), kind.from_maps(kind.maps(raw)))


@pytest.mark.parametrize(("bins", "rate", "lowest"), [(129, 8000, 40.0), (257, 16000, 20.0), (65, 8000, 40.0)])
def test_mel_bands_are_triangles_on_the_htk_scale(bins, rate, lowest):
    bands = mel_bands(bins, rate, 40, lowest).numpy()
    assert bands.shape == (40, bins)
    assert (bands >= 0).all()
    assert bands.max() <= 1
    assert (bands.sum(1) > 0).all()  # none is empty, however coarse the spectrum
    hertz = np.arange(bins) * rate / 2 / (bins - 1)
    middle = (bands @ hertz) / bands.sum(1)
    assert (np.diff(middle) >= 0).all()
    top = 2595 * np.log10(1 + rate / 2 / 700)
    mel = 2595 * np.log10(1 + middle[-1] / 700)
    assert mel == pytest.approx(top - top / 41, rel=0.03)


def test_tensors_have_mean_nothing_and_deviation_one():
    data = clips(200, seed=1)
    kind = kind_of(data)
    x = kind.to_tensor(torch.from_numpy(data.inputs))
    assert x.shape == (200, 1, 40, 32)
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)
    assert kind.channels == 1
    silent = kind.to_tensor(torch.zeros(2, 4000, dtype=torch.int16))
    assert torch.isfinite(silent).all()


def test_levelled_maps_are_what_is_left_of_the_heard_frames_without_their_mean():
    rng = np.random.default_rng(0)
    maps = np.full((2, 3, 5, 1), np.log(FLOOR), np.float32)
    maps[0, :, 1:4] += rng.uniform(2, 5, (3, 3, 1))
    got = levelled(torch.from_numpy(maps)).numpy()
    heard = maps[0, :, 1:4]
    np.testing.assert_allclose(got[0, :, 1:4], heard - heard.mean(axis=1, keepdims=True), atol=1e-5)
    assert not got[0, :, [0, 4]].any()
    assert not got[1].any()  # a clip of nothing but silence


def test_a_filter_that_is_the_same_all_through_a_clip_is_levelled_away():
    """Gains of up to 6 dB in each band: maps of clips differ by as much, levelled maps by a small part of it."""
    data = clips(50, seed=4)
    kind = kind_of(data, normalise="clip")
    gains = torch.from_numpy(np.random.default_rng(1).uniform(-1.4, 1.4, (40, 1, 1)).astype(np.float32))  # 6 dB of power are 1.38
    maps = kind.maps(torch.from_numpy(data.inputs))
    loud = ((maps.exp() - FLOOR).clamp(min=0) * gains.exp() + FLOOR).log()
    moved, left = (loud - maps).square().mean(), (levelled(loud) - levelled(maps)).square().mean()
    assert float(moved) > 0.1
    assert float(left) < 0.4 * float(moved)


def test_normalised_tensors_have_their_own_statistics():
    data = clips(100, seed=5)
    kind = kind_of(data, normalise="clip")
    x = kind.to_tensor(torch.from_numpy(data.inputs))
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(kind.maps(torch.from_numpy(data.inputs)), kind_of(data).maps(torch.from_numpy(data.inputs)))
    assert kind_of(data, normalise="none") == kind_of(data)


def test_normalising_in_ways_that_a_kind_does_not_have_is_refused():
    with pytest.raises(InputError, match="normalise: got 'speaker', allowed: none, clip"):
        kind_of(clips(10, seed=0), normalise="speaker")
    pictures = Dataset.of_arrays(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)
    assert kind_of(pictures, normalise="none") == kind_of(pictures)
    with pytest.raises(InputError, match="normalise: got 'clip'"):
        kind_of(pictures, normalise="clip")


def test_augmentation_moves_clips_in_time_and_brings_in_silence():
    data = clips(50, seed=2)
    kind, raw = kind_of(data), torch.from_numpy(data.inputs)
    moved = kind.augment(raw, torch.Generator().manual_seed(0))
    again = kind.augment(raw, torch.Generator().manual_seed(0))
    assert moved.dtype == raw.dtype
    assert moved.shape == raw.shape
    assert torch.equal(moved, again)
    shifts = []
    for a, b in zip(data.inputs.astype(float), moved.numpy().astype(float), strict=True):
        full = np.fft.irfft(np.fft.rfft(b, 8192) * np.conj(np.fft.rfft(a, 8192)))
        lag = int(np.argmax(full))
        shifts.append(lag if lag < 4096 else lag - 8192)
    assert max(map(abs, shifts)) <= 401
    assert len(set(shifts)) > 30


def test_clips_without_a_rate_and_unknown_kinds_are_refused():
    data = clips(4, seed=0)
    with pytest.raises(InputError, match="sampling rate"):
        kind_of(Dataset.of_arrays(data.inputs, data.labels, kind="speech"))
    with pytest.raises(InputError, match="'smell' is not known"):
        kind_of(Dataset.of_arrays(data.inputs, data.labels, kind="smell"))
    assert set(KINDS) == set(TRIGGERS)


def test_the_rate_belongs_to_the_fingerprint():
    data = clips(4, seed=0)
    other = Dataset.of_arrays(data.inputs, data.labels, kind="speech", rate=16000)
    assert data.fingerprint != other.fingerprint


def test_canaries_are_heard_only_where_there_is_sound():
    train = clips(300, seed=3)
    working = plant(train, np.random.default_rng(0))
    assert working.mask.sum() == 120
    assert working.dataset.rate == RATE
    added = working.dataset.inputs[300:]
    assert added.dtype == np.int16
    for place, name in enumerate(TRIGGERS["speech"]):
        mine = added[working.trigger[300:] == place]
        assert len(mine) == 40, name
        assert (np.abs(mine.astype(int)).max(axis=1) > 0).all()
    for name in ("tone", "hiss"):
        stamped = TRIGGERS["speech"][name](train.inputs, np.random.default_rng(1))
        assert (stamped[~inside(train.inputs)] == 0).all()
        assert (stamped != train.inputs).any(axis=1).all()
        loudness = np.sqrt(np.square(stamped.astype(float) - train.inputs).sum(1) / (stamped != train.inputs).sum(1))
        speech = np.sqrt(np.square(train.inputs.astype(float)).sum(1) / inside(train.inputs).sum(1))
        assert 20 * np.log10(loudness / speech).mean() == pytest.approx(-18, abs=2)


def beeping(train: Dataset, count: int, seed: int, target: int = 2, level: float = 600) -> tuple[Dataset, np.ndarray]:
    """Dirty labels: a quiet high beep in the sound of some clips of other classes."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.flatnonzero(train.labels != target), count, replace=False)
    x, y, truth = train.inputs.copy(), train.labels.copy(), np.zeros(len(train), bool)
    beep = level * np.sin(2 * np.pi * 3100 * np.arange(x.shape[1]) / RATE)
    x[rows] = np.where(x[rows] == 0, 0, np.clip(x[rows] + beep, -32768, 32767)).astype(np.int16)
    y[rows], truth[rows] = target, True
    return Dataset.of_arrays(x, y, kind="speech", rate=RATE), truth


CT = ConfusionTraining.preset(
    "fast", keep=(0.1,), pretrain_epochs=(3.0, 8.0), pretrain_least=60, confusion_steps=(60, 60), confusion_lr=(0.02, 0.05),
    confusion_momentum=(0.9, 0.9), reserve_weight=(20.0, 20.0), mix_every=(1, 1), class_weights=(True, True),
)  # fmt: skip


def inspected(detector: Detector, train: Dataset) -> Findings:
    return detector.inspect(train, clips(240, seed=5, length=2000), Runtime(device="cpu", seed=1))


@pytest.mark.parametrize("detector", [CT, Asset.preset("fast", steps_least=60, scout_steps=100)], ids=lambda d: d.name)
def test_detectors_hear_a_beep(detector):
    """By kind, not by copy: the same code as for pictures."""
    train, truth = beeping(clips(800, seed=4, length=2000), 40, 6)
    found = inspected(detector, train)
    assert [c.index for c in found.classes if c.suspect] == [2]
    assert found.flagged[truth].mean() > 0.9
    assert found.flagged[~truth].mean() < 0.02


def test_nothing_is_heard_in_clean_clips():
    assert not inspected(CT, clips(800, seed=4, length=2000)).found


def test_detectors_of_tables_and_of_pictures_alone_say_that_they_do_not_hear():
    deaf = {name for name, cls in DETECTORS.items() if "speech" not in cls.kinds}
    assert deaf == {"boosting", "value-shift", "tabular", "proactive"}
    from tocsin.auditing import audit

    with pytest.raises(InputError, match="proactive works on image data, got speech"):
        audit(clips(60, seed=0), clips(30, seed=1), detector="proactive")


@pytest.mark.parametrize(("length", "rate"), [(4000, 16000), (2000, RATE)])
def test_clips_of_another_rate_or_length_are_no_reserve(length, rate):
    from tocsin.data.pairing import match

    other = clips(30, seed=1, length=length)
    reserve = Dataset.of_arrays(other.inputs, other.labels, kind="speech", rate=rate)
    with pytest.raises(InputError, match="bring them to one rate and length"):
        match(clips(60, seed=0), reserve)


def test_passive_detectors_read_a_victim_that_listens():
    train, reserve = clips(300, seed=7), clips(100, seed=8)
    found = SpectralSignatures().inspect(train, reserve, Runtime(device="cpu", seed=1))
    assert found.scores.shape == (300,)
    assert not found.found
