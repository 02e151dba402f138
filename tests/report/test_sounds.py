"""Sounds on the pages: what a player holds is the clip, what a picture shows is its spectrogram."""

from __future__ import annotations

import io
import re
import wave
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.build import report
from tocsin import reserve
from tocsin.data.dataset import Dataset
from tocsin.report import page
from tocsin.report.model import Report
from tocsin.report.sounds import SMALLER, Playback, Spectrograms, fitting, wav_uri

RATE = 8000


def heard(uri: str) -> tuple[np.ndarray, int]:
    head, body = uri.split(",")
    assert head == "data:audio/wav;base64"
    with wave.open(io.BytesIO(b64decode(body))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def seen(uri: str) -> np.ndarray:
    """Brightness, which rises with loudness."""
    return np.asarray(Image.open(io.BytesIO(b64decode(uri.split(",")[1]))).convert("L")).astype(float)


def clips(count: int, rate: int = RATE, seconds: float = 0.3) -> Dataset:
    """Every clip a soft hiss; those of odd rows have a tone of 3 kHz in the first half."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * rate)) / rate
    values = rng.normal(0, 300, (count, len(t))) + 6000 * np.sin(2 * np.pi * 3000 * t) * (t < seconds / 2) * (np.arange(count) % 2)[:, None]
    return Dataset.of_arrays(values.astype(np.int16), np.arange(count) % 3, ("a", "b", "c"), kind="speech", rate=rate)


def spoken(**options: int) -> Report:
    made = report(**options)  # type: ignore[arg-type]
    data = clips(len(made.train))
    return replace(made, train=replace(made.train, inputs=data.inputs, kind="speech", rate=RATE))


def test_a_player_holds_the_clip_without_the_silence_behind_it() -> None:
    clip = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
    clip[3000:] = 0
    got, rate = heard(wav_uri(clip, RATE, Playback()))
    assert rate == RATE
    assert np.array_equal(got, clip[:3000])
    assert len(heard(wav_uri(clip, RATE, Playback(seconds=0.25)))[0]) == 2000
    got, rate = heard(wav_uri(clip, 48_000, Playback(rate=16_000)))
    assert (rate, len(got)) == (16_000, 1000)
    assert len(heard(wav_uri(np.zeros(400, np.int16), RATE, Playback()))[0]) == 1


def test_many_clips_get_smaller_players() -> None:
    data = clips(20, rate=16_000, seconds=5)
    sizes = [sum(len(wav_uri(clip, 16_000, playback)) for clip in data.inputs) for playback in SMALLER]
    assert sizes == sorted(sizes, reverse=True)
    for playback, size in zip(SMALLER, sizes, strict=True):
        assert fitting(data, round(1.02 * size)) == playback
    assert fitting(data, 0) == SMALLER[-1]


def test_a_spectrogram_has_time_to_the_right_and_pitch_to_the_top() -> None:
    shown = seen(Spectrograms(clips(20)).picture(clips(20).inputs[1]))
    height, width = shown.shape
    assert height == 40
    loudest = shown[:, : width // 3].mean(axis=1).argmax()
    assert loudest < height // 4  # 3 of 4 kHz
    assert shown[loudest, : width // 3].min() > shown[loudest, 2 * width // 3 :].max()
    long = clips(4, seconds=4)
    assert seen(Spectrograms(long).picture(long.inputs[0])).shape == (40, 128)


def test_the_mean_difference_lights_up_where_the_suspects_sound() -> None:
    data = clips(40)
    made = Spectrograms(data).mean(data.inputs[1::2], data.inputs[::2])
    assert made is not None
    difference = seen(made.difference)
    bright = np.unravel_index(difference.argmax(), difference.shape)
    assert bright[0] < 10
    assert bright[1] < difference.shape[1] // 2
    assert Spectrograms(data).mean(data.inputs[:1], data.inputs) is None


def test_every_picture_in_the_report_has_its_player() -> None:
    made = spoken(flagged=10)
    text = page.render(made)
    tiles = re.findall(r'<li class="[^"]*tile[^"]*"(?: data-row="(\d+)")?>(.*?)</li>', text, re.DOTALL)
    assert len(tiles) == 10 + page.ORDINARY + page.BEST_UNFLAGGED
    for row, tile in tiles:
        (source,) = re.findall(r'<audio controls preload="none" src="([^"]*)"', tile)
        assert tile.index("<audio") > tile.rfind("</label>")
        if row:
            assert np.array_equal(heard(source)[0], made.train.inputs[int(row)])
    assert "media-src data:" in text
    assert "log-mel spectrogram" in text
    assert "<audio" not in page.render(report())


def test_players_stop_where_the_page_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    one = len(wav_uri(clips(1).inputs[0], RATE, Playback()))
    monkeypatch.setattr(page, "SOUND_BYTES", 5 * one - 1)
    text = page.render(spoken(flagged=10))
    assert text.count("<audio") == 5
    assert text.count('alt="suspect ') == 10


def test_clips_are_vetted_by_ear(tmp_path: Path) -> None:
    data = clips(60)
    done = reserve.prepare(data, 30, tmp_path / "vet")
    text = done.page.read_text("utf-8")
    sounds = re.findall(r'<audio controls preload="none" src="([^"]*)"', text)
    kept = {row.tobytes() for row in data.inputs[reserve.draw(data, 30, 0)]}
    assert {heard(sound)[0].tobytes() for sound in sounds} == kept
    assert text.count("data:image/png") == 30
    assert done.notes == ()
