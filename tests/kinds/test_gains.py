"""Gains in dB on mel bands, put on a waveform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.kinds.test_speech import clips
from tocsin.attacks.gains import to_int16
from tocsin.attacks.waves import heard
from tocsin.errors import InputError
from tocsin.kinds.gains import apply_gains
from tocsin.kinds.speech import SpeechKind


def case(length: int = 4000, rate: int = 8000) -> tuple[SpeechKind, Tensor, Tensor, tuple[int, int, int]]:
    """Front end, waves, mask and the shape of gains for four clips."""
    kind = SpeechKind(rate, 0.0, 1.0)
    waves, mask, _ = heard(torch.from_numpy(clips(4, seed=1, length=length).inputs))
    return kind, waves, mask, (4, kind.mels, 1 + length // kind.frame[2])


@settings(max_examples=10, deadline=None)
@given(length=st.integers(300, 2000), rate=st.sampled_from([8000, 16000, 44100]))
def test_no_gain_changes_nothing_whatever_the_length(length: int, rate: int) -> None:
    kind, waves, mask, shape = case(length, rate)
    assert kind.power(waves).shape[2] == shape[2]
    torch.testing.assert_close(apply_gains(kind, waves, mask, torch.zeros(shape)), waves, atol=1e-6, rtol=0)


@settings(max_examples=10, deadline=None)
@given(length=st.integers(300, 2000), seed=st.integers(0, 99))
def test_nothing_changes_outside_the_speech_and_nothing_blows_up(length: int, seed: int) -> None:
    kind, waves, mask, shape = case(length)
    gains = 9 * (2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1)
    out = apply_gains(kind, waves, mask, gains)
    torch.testing.assert_close(out[~mask], waves[~mask], atol=0, rtol=0)
    assert (out != waves)[mask].any()
    assert out.abs().amax() < 4 * waves.abs().amax()  # +9 dB is a factor of 2.8


def test_six_decibels_are_twice_the_amplitude() -> None:
    kind, waves, mask, shape = case()
    louder = apply_gains(kind, waves, mask, torch.full(shape, 6.02))
    ratio = louder.norm(dim=1) / waves.norm(dim=1)
    np.testing.assert_allclose(ratio, 2.0, atol=0.06)  # a little more in quiet bins: they count louder than they are


def test_a_gain_on_a_band_is_heard_in_that_band() -> None:
    kind, waves, mask, shape = case()
    gains = torch.zeros(shape)
    gains[:, 20] = 6.0
    before, after = (kind.maps(x)[..., 0].mean(2) for x in (waves, apply_gains(kind, waves, mask, gains)))
    assert ((after - before).mean(0).argmax() == 20).item()
    assert float((after - before)[:, :15].abs().max()) < 0.05


def test_gradients_are_those_of_the_difference_quotient() -> None:
    kind, waves, mask, shape = case()
    generator = torch.Generator().manual_seed(0)
    gains, way = (torch.randn(shape, generator=generator) for _ in range(2))
    value = lambda g: apply_gains(kind, waves, mask, g).square().sum()  # noqa: E731
    gains.requires_grad_(True)
    (slope,) = torch.autograd.grad(value(gains), gains)
    with torch.no_grad():
        difference = (value(gains + 0.02 * way) - value(gains - 0.02 * way)) / 0.04
    assert float((slope * way).sum()) == pytest.approx(float(difference), rel=0.02)


def test_gradients_are_finite_in_digital_silence() -> None:
    kind, waves, mask, shape = case()
    gains = torch.ones(shape, requires_grad=True)
    silent = torch.zeros_like(waves).requires_grad_(True)
    apply_gains(kind, silent, torch.ones_like(mask), gains).square().sum().backward()
    assert gains.grad is not None
    assert silent.grad is not None
    assert gains.grad.isfinite().all()
    assert silent.grad.isfinite().all()


def test_gains_of_another_shape_are_refused() -> None:
    kind, waves, mask, shape = case()
    with pytest.raises(InputError, match=r"gains_db: got \(4, 40, 31\), allowed is \(4, 40, 32\)"):
        apply_gains(kind, waves, mask, torch.zeros(shape[0], shape[1], shape[2] - 1))


def test_a_change_that_would_clip_is_made_smaller_as_a_whole() -> None:
    clip = np.array([[0, 16000, -8000, 30000], [0, 100, 200, -300]], np.int16)
    change = np.array([[0, 400, 200, 5534], [0, 1, 2, 3]])
    written = to_int16(clip, torch.from_numpy((clip + change) / 32768).float())
    np.testing.assert_array_equal(written[0] - clip[0], [0, 200, 100, 2767])
    np.testing.assert_array_equal(written[1] - clip[1], change[1])


def test_a_sample_at_full_scale_is_cut_off_and_does_not_undo_the_change() -> None:
    clip = np.array([[32767, 100, -32768]], np.int16)
    written = to_int16(clip, torch.from_numpy((clip + np.array([[50, 60, -70]])) / 32768).float())
    assert written.tolist() == [[32767, 160, -32768]]
