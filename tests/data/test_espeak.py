from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from tocsin.data import espeak
from tocsin.data.espeak import Utterance, speak, variants
from tocsin.errors import InputError

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed (extra demo-speech)")
SAID = [Utterance("stop", "en-us+Alicia"), Utterance("go", "en+whisper", speed=120), Utterance("stop", "en-us+Alicia", pitch=90)]


def test_the_same_list_is_said_alike_and_settings_are_heard() -> None:
    one, rate = speak(SAID)
    time.sleep(1.1)  # the library seeds its noise with the second of the clock where it is not told
    same, _ = speak(SAID)
    assert rate == 22050
    assert [sound.dtype for sound in one] == [np.int16] * 3
    for a, b in zip(one, same, strict=True):  # a whisper too, whose noise the library draws
        np.testing.assert_array_equal(a, b)
    assert all(0.1 < len(sound) / rate < 2 for sound in one)
    assert all(np.abs(sound).max() > 1000 for sound in one)
    assert not np.array_equal(one[0], one[2])


def test_nothing_to_say_is_no_error() -> None:
    assert speak([])[0] == []


def test_a_voice_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="espeak-ng could not speak: RuntimeError: there is no voice 'tlh'"):
        speak([Utterance("go", "tlh")])


def test_there_are_many_voices() -> None:
    assert len(variants()) > 50
    assert {"Alicia", "m1", "f1"} <= set(variants())


def test_the_library_is_never_loaded_into_this_process() -> None:
    speak(SAID[:1])
    with open("/proc/self/maps") if sys.platform == "linux" else pytest.skip("needs /proc") as maps:
        assert "libespeak-ng" not in maps.read()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    for call in (espeak.variants, espeak.version, lambda: speak(SAID)):
        with pytest.raises(InputError, match="pip install tocsin\\[demo-speech\\]"):
            call()


def test_a_process_that_cannot_be_begun_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match="espeak-ng could not be run"):
        speak(SAID)
