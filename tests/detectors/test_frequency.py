from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from tests.detectors.handmade import noise_set, trained
from tocsin.data.dataset import Dataset
from tocsin.detectors import frequency
from tocsin.detectors.frequency import TRIGGERS, Frequency, addition, gaussian_noise, mirrored, noise_patch, shadow, tamper, white_patch
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.networks.spectrum import Spectrum, SpectrumNet
from tocsin.runtime import Runtime

SMALL = Frequency(width=6, draws=2, steps=20, batch=32)
TINY = Frequency(width=2, draws=1, steps=2)


@pytest.mark.parametrize("shape", [(3, 32, 32, 3), (2, 8, 8, 1), (2, 7, 12, 3)])
def test_spectrum_is_the_orthonormal_cosine_transform_of_each_channel(shape: tuple[int, ...]) -> None:
    raw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    got = Spectrum(shape[1], shape[2])(torch.from_numpy(raw)).numpy()
    for i in range(shape[0]):
        for c in range(shape[3]):
            np.testing.assert_allclose(got[i, c], dctn(raw[i, :, :, c].astype(float), norm="ortho"), atol=2e-3)


def test_the_network_is_the_published_one() -> None:
    """292,898 numbers for 32 x 32 x 3, counted as Keras does: batch norm's running statistics among them."""
    network = SpectrumNet(3, 32, 32)
    count = sum(p.numel() for p in network.parameters())
    count += sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert count == 292_898


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (1, 3, 1), (28, 20, 3), (96, 96, 3)])
def test_the_network_takes_pictures_of_any_size(height: int, width: int, channels: int) -> None:
    network = SpectrumNet(channels, height, width, 4).eval()
    assert network(torch.zeros(2, channels, height, width)).shape == (2, 2)
    assert network.head.in_features <= 16 * 16


def grey(count: int = 200, side: int = 32) -> np.ndarray:
    return np.full((count, side, side, 3), 100, np.uint8)


@pytest.mark.parametrize("patch", [white_patch, noise_patch])
def test_patches_are_small_squares_near_a_corner(patch: frequency.Trigger) -> None:
    out = patch(grey(), grey(), np.random.default_rng(1))
    sizes, corners = set(), set()
    for picture in out:
        rows, columns = (np.flatnonzero((picture != 100).any(axis)) for axis in ((1, 2), (0, 2)))
        high, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert min(rows[0], 31 - rows[-1]) <= 6
        assert min(columns[0], 31 - columns[-1]) <= 6
        sizes.add(int(max(high, wide)))
        corners.add((bool(rows[0] < 16), bool(columns[0] < 16)))
        if patch is white_patch:
            assert high == wide
            assert (picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 255).all()
            assert (picture == 255).sum() == 3 * high * wide
    assert sizes == set(range(2, 8))
    assert len(corners) == 4
    small = white_patch(grey(50, 8), grey(1, 8), np.random.default_rng(1))
    assert (small == 255).any((1, 2, 3)).all()
    assert (small == 255).sum((1, 2, 3)).max() <= 3 * 4


def test_noise_shadow_and_addition_do_what_they_say() -> None:
    rng = np.random.default_rng(2)
    away = gaussian_noise(grey(), grey(), rng).astype(float) - 100
    assert away.mean() == pytest.approx(25, abs=0.3)
    assert 10 <= away.reshape(200, -1).var(1).min() < 20 < 60 < away.reshape(200, -1).var(1).max() <= 75
    dark = shadow(grey(), grey(), rng)
    assert set(np.unique(dark)) == {50, 100}
    assert 0.05 < (dark == 50).mean() < 0.6
    others = np.random.default_rng(3).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    out = addition(grey(9, 4), others, np.random.default_rng(4))
    sums = [np.clip(np.floor(100 + 0.3 * o.astype(float) + 0.5), 0, 255) for o in others]
    assert all(any(np.abs(o - s).max() <= 1 for s in sums) for o in out.astype(float))


def test_a_shadow_is_the_inside_of_its_polygon() -> None:
    """Against a ray cast for each pixel on its own."""
    dark = shadow(grey(3, 12), grey(), np.random.default_rng(5)) == 50
    at = np.random.default_rng(5).uniform(0, 1, (5, 2, 3, 1, 1)) * 12
    for i in range(3):
        corners = [(float(at[v, 0, i, 0, 0]), float(at[v, 1, i, 0, 0])) for v in range(5)]
        for row in range(12):
            for column in range(12):
                crossed = 0
                for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
                    if min(y0, y1) <= row + 0.5 < max(y0, y1):
                        crossed += x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0) < column + 0.5
                assert dark[i, row, column, 0] == (crossed % 2 == 1)


def test_every_kind_of_trigger_is_drawn_and_the_clean_pictures_stay_as_they_are() -> None:
    clean = noise_set(300, 0).inputs
    before = clean.copy()
    out = tamper(clean, np.random.default_rng(0))
    assert np.array_equal(clean, before)
    assert out.shape == clean.shape
    assert out.dtype == np.uint8
    assert (out != clean).any((1, 2, 3)).mean() > 0.9
    assert len(TRIGGERS) == 5
    turned = mirrored(clean, np.random.default_rng(0))
    assert {tuple(sorted(x.ravel())) for x in turned} == {tuple(sorted(x.ravel())) for x in clean}
    forms = {
        f(clean[i]).tobytes()
        for i in range(300)
        for f in (lambda x: x, lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x.swapaxes(0, 1))
    }
    assert 0.3 < np.mean([x.tobytes() in forms for x in turned]) < 0.7
    wide = clean[:, :5]
    assert mirrored(wide, np.random.default_rng(0)).shape == wide.shape


def test_no_network_scores_a_reserve_sample_that_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on, asked = [], []
    train_one, read = Frequency._trained, frequency._log_odds
    monkeypatch.setattr(Frequency, "_trained", lambda self, clean, *rest: (trained_on.append(clean), train_one(self, clean, *rest))[1])
    monkeypatch.setattr(
        frequency, "_log_odds", lambda judges, drawn, inputs, *rest: (asked.append((drawn, inputs)), read(judges, drawn, inputs, *rest))[1]
    )
    train, reserve = noise_set(40, 0), noise_set(31, 1)
    found = TINY.inspect(train, reserve, Runtime(device="cpu"))
    assert np.array_equal(asked[0][1], reserve.inputs)
    assert len(found.control) == 31
    for fold in range(2):
        seen = {x.tobytes() for x in trained_on[fold]}
        assert len(seen) in (15, 16)
        assert not seen & {x.tobytes() for x in reserve.inputs[asked[0][0] == fold]}
        assert not seen & {x.tobytes() for x in train.inputs}
        assert 0.2 < (asked[1][0] == fold).mean() < 0.8
        assert np.bincount(reserve.labels[asked[0][0] == fold]).min() >= 5


def test_a_patch_is_found_in_its_class_alone_and_clean_data_are_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    victim, planted = trained(0.06)
    monkeypatch.setattr(Victim, "trained", None)  # no model is read, so none may be trained
    stages: list[tuple[str, float]] = []
    runtime = replace(victim.runtime, progress=lambda stage, done: stages.append((stage, done)))
    found = SMALL.inspect(victim.train, victim.reserve, runtime)
    assert [c.index for c in found.classes if c.suspect] == [2]
    assert found.flagged[planted].mean() > 0.8
    assert found.flagged[~planted].mean() < 0.03
    assert stages[-1] == ("Frequency: reading spectra", 1.0)
    clean = SMALL.inspect(trained(0.0)[0].train, victim.reserve, runtime)
    assert not clean.found
    assert clean.confidence <= 0.5


def test_same_seed_same_scores_and_the_global_generator_is_left_alone() -> None:
    train, reserve = noise_set(30, 0), noise_set(30, 1)
    torch.manual_seed(1)
    first = TINY.inspect(train, reserve, Runtime(device="cpu", seed=4))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    assert np.array_equal(first.scores, TINY.inspect(train, reserve, Runtime(device="cpu", seed=4)).scores)
    assert not np.array_equal(first.scores, TINY.inspect(train, reserve, Runtime(device="cpu", seed=5)).scores)


def test_the_published_preset_flags_what_its_network_thinks_tampered_with() -> None:
    paper = Frequency.preset("paper", width=2, draws=2, epochs=1)
    assert (paper.optimizer, paper.lr, paper.steps, paper.whiten) == ("adadelta", 0.05, None, False)
    stages: list[float] = []
    runtime = Runtime(device="cpu", progress=lambda stage, done: stages.append(done) if "training" in stage else None)
    found = paper.inspect(noise_set(30, 0), noise_set(66, 1), runtime)
    assert found.threshold == 0
    assert np.array_equal(found.flagged, found.scores > 0)
    assert len(stages) == 2 * 2 * (66 // 64)  # two networks, two draws, one pass over 33 clean and 33 tampered pictures


@pytest.mark.parametrize(("size", "channels", "classes", "reserve"), [(8, 1, 2, 2), (8, 3, 5, 3), (9, 1, 4, 40)])
def test_small_and_odd_data_pass(size: int, channels: int, classes: int, reserve: int) -> None:
    given = {"classes": classes, "size": size, "channels": channels}
    found = TINY.inspect(noise_set(30, 0, **given), noise_set(reserve, 1, **given), Runtime(device="cpu"))
    assert found.scores.dtype == np.float32
    assert np.isfinite(found.scores).all()
    assert not found.found


def test_constant_pictures_pass() -> None:
    data = Dataset.of_arrays(np.full((20, 8, 8, 1), 7, np.uint8), np.arange(20) % 2)
    assert np.isfinite(TINY.inspect(data, data, Runtime(device="cpu")).scores).all()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="reserve: got 1"):
        TINY.inspect(noise_set(9, 0), noise_set(1, 1, classes=1), Runtime(device="cpu"))
    for wrong in ({"width": 0}, {"draws": 0}, {"steps": 0}, {"batch": 1}, {"lr": 0.0}, {"folds": 1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Frequency(**wrong)
    with pytest.raises(InputError, match="canaries"):
        TINY.inspect(noise_set(9, 0), noise_set(9, 1), Runtime(device="cpu"), canaries=np.zeros(9, np.int8))
