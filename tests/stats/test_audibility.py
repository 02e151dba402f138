"""What can be heard of a change: our measures against arithmetic, and the traps of PESQ and STOI."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kinds.test_speech import clips
from tocsin.errors import InputError
from tocsin.stats.audibility import Spread, audibility

HZ = 8000
HOSTS = clips(12, seed=3).inputs


def ours(before: np.ndarray, after: np.ndarray) -> dict[str, Spread]:
    return audibility(before, after, HZ, perceptual=False).measures


def with_noise(share: float, hosts: np.ndarray = HOSTS) -> np.ndarray:
    """Noise of that share of each clip's loudness in its sound, none in the silence."""
    noise = np.random.default_rng(1).normal(0, 1, hosts.shape) * np.abs(hosts).mean(1, keepdims=True)
    return np.where(hosts != 0, np.clip(hosts + share * noise, -32768, 32767), 0).astype(np.int16)


@settings(max_examples=10, deadline=None)
@given(gain=st.floats(1.05, 2.0), pad=st.integers(0, 3000))
def test_a_gain_has_the_snr_and_the_distance_that_it_must_have_however_long_the_silence(gain: float, pad: int) -> None:
    before = np.pad(HOSTS // 4 * 4, ((0, 0), (pad, 0)))
    found = ours(before, np.rint(before * gain).astype(np.int16))
    assert found["snr_db"].median == pytest.approx(-20 * np.log10(gain - 1), abs=0.05)
    assert found["segmental_snr_db"].median == pytest.approx(-20 * np.log10(gain - 1), abs=0.3)
    assert found["lsd_db"].median == pytest.approx(20 * np.log10(gain), abs=0.3)


def test_no_change_is_no_distance_and_silence_has_no_measure() -> None:
    same = audibility(HOSTS, HOSTS, HZ, perceptual=False)
    assert (same.measures["lsd_db"].median, same.measures["segmental_snr_db"].median) == (0.0, 35.0)
    assert same.as_dict()["snr_db"]["median"] is None  # infinite
    silent = np.zeros((2, 900), np.int16)
    for spread in ours(silent, silent).values():
        assert (spread.clips, spread.failed) == (0, 2)
    json.dumps(same.as_dict() | audibility(silent, silent, HZ, perceptual=False).as_dict(), allow_nan=False)


def test_the_worst_are_those_that_changed_most() -> None:
    after = HOSTS.copy()
    after[:1] = with_noise(1.0)[:1]
    after[1:] = with_noise(0.01)[1:]
    found = ours(HOSTS, after)
    for name in ("snr_db", "segmental_snr_db"):
        assert found[name].worst < found[name].median - 10
    assert found["lsd_db"].worst >= found["lsd_db"].median


def test_more_noise_is_worse_by_every_measure() -> None:
    pytest.importorskip("pesq", reason="extra audibility is not installed")
    pytest.importorskip("pystoi", reason="extra audibility is not installed")
    little, much = (audibility(HOSTS, with_noise(share), HZ).measures for share in (0.05, 1.0))
    for name in ("snr_db", "segmental_snr_db", "pesq", "stoi"):
        assert little[name].median > much[name].median
    assert little["lsd_db"].median < much["lsd_db"].median


def test_pesq_that_fails_on_short_clips_is_counted() -> None:
    pytest.importorskip("pesq", reason="extra audibility is not installed")
    pytest.importorskip("pystoi", reason="extra audibility is not installed")
    short = np.zeros_like(HOSTS)
    short[:, 100:900] = np.random.default_rng(0).integers(-4000, 4000, (len(HOSTS), 800))  # a tenth of a second
    short[3:] = HOSTS[3:]
    found = audibility(short, short, HZ).measures["pesq"]
    assert (found.clips, found.failed) == (9, 3)
    assert found.median == pytest.approx(4.55, abs=0.01)  # the most that narrow band gives


def test_stoi_scores_a_short_word_instead_of_giving_almost_nothing() -> None:
    pytest.importorskip("pesq", reason="extra audibility is not installed")
    pystoi = pytest.importorskip("pystoi", reason="extra audibility is not installed")
    words = HOSTS[:, 1200:2900].copy()  # 0.2 s
    with pytest.warns(RuntimeWarning, match="Not enough STFT frames"):
        assert pystoi.stoi(words[0] / 32768, words[0] / 32768, HZ) == 1e-5
    found = audibility(words, words, HZ).measures["stoi"]
    assert (found.clips, found.failed) == (12, 0)
    assert found.median == pytest.approx(1.0, abs=1e-6)
    tiny = audibility(words[:, :100], words[:, :100], HZ).measures["stoi"]
    assert tiny.failed == 12


@pytest.mark.parametrize("hz", [16000, 11025])
def test_other_rates_are_scored_too(hz: int) -> None:
    pytest.importorskip("pesq", reason="extra audibility is not installed")
    pytest.importorskip("pystoi", reason="extra audibility is not installed")
    long = np.tile(HOSTS[:3], (1, 3))
    found = audibility(long, long, hz).measures
    assert found["pesq"].clips == 3
    assert found["pesq"].median > 4.4


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_without_a_package_the_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install tocsin\[audibility\]"):
        audibility(HOSTS, HOSTS, HZ)
    assert ours(HOSTS, HOSTS)["snr_db"].clips == len(HOSTS)


@pytest.mark.parametrize("after", [HOSTS[:, 1:], HOSTS[1:], HOSTS.astype(np.float32)])
def test_what_does_not_belong_together_is_refused(after: np.ndarray) -> None:
    with pytest.raises(InputError, match="before and after"):
        audibility(HOSTS, after, HZ)


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="rate_hz: got 0"):
        audibility(HOSTS, HOSTS, 0)
