from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.detectors.coloured import spoken
from tests.detectors.handmade import by_hand, linear_victim, noise_set, trained
from tocsin import learning
from tocsin.detectors import strip
from tocsin.detectors.strip import Strip, entropies
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.networks import build_network
from tocsin.runtime import Runtime


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "fast_type", lambda device: None)


def entropy(p: np.ndarray) -> float:
    return -sum(float(v) * math.log(float(v)) for v in p if v > 0)


def test_entropies_are_those_computed_by_hand() -> None:
    victim, weight = linear_victim(noise_set(7, 0), noise_set(9, 1))
    mean, std = np.array(victim.kind.mean), np.array(victim.kind.std)
    x, u = (victim.train.inputs - mean) / std, (victim.reserve.inputs - mean) / std
    for factor in (1.0, 0.5):
        wanted = [np.mean([entropy(by_hand(weight, x[i] + factor * u[j])) for j in range(9)]) for i in range(7)]
        got = entropies(victim, victim.train.inputs, victim.reserve.inputs, factor, "")
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_known_mistakes_of_other_implementations_would_show() -> None:
    """Entropy over the overlays, an average in place of the sum, a sum of raw pixels: each is far from the right answer."""
    victim, weight = linear_victim(noise_set(6, 0), noise_set(8, 1))
    mean, std = np.array(victim.kind.mean), np.array(victim.kind.std)
    x, u = (victim.train.inputs - mean) / std, (victim.reserve.inputs - mean) / std
    raw = victim.train.inputs[:, None].astype(float) + victim.reserve.inputs
    p = np.array([[by_hand(weight, x[i] + u[j]) for j in range(8)] for i in range(6)])
    mistakes = [
        [np.mean([entropy(p[i, :, k] / p[i, :, k].sum()) for k in range(3)]) for i in range(6)],
        [np.mean([entropy(by_hand(weight, 0.5 * x[i] + 0.5 * u[j])) for j in range(8)]) for i in range(6)],
        [np.mean([entropy(by_hand(weight, (raw[i, j] - mean) / std)) for j in range(8)]) for i in range(6)],
        [
            np.mean([entropy(by_hand(weight, np.clip((raw[i, j] - mean) / std, None, (255 - mean) / std))) for j in range(8)])
            for i in range(6)
        ],
    ]
    got = entropies(victim, victim.train.inputs, victim.reserve.inputs, 1.0, "")
    for mistake in mistakes:
        assert np.abs(got - mistake).max() > 0.05


@pytest.mark.parametrize("name", ["tc-resnet8", "eat-s"])
def test_sounds_are_mixed_as_waveforms_and_not_clipped(name: str) -> None:
    loud = replace(spoken(12, seed=0), inputs=np.clip(16.0 * spoken(12, seed=0).inputs, -32768, 32767).astype(np.int16))
    victim = Victim.untrained(loud[np.arange(5)], loud[np.arange(5, 12)], Runtime("cpu", 0))
    victim = replace(victim, network=build_network(name, 1, len(loud.classes), 0).eval())
    waves = torch.from_numpy(loud.inputs / np.float32(32768))
    kind = victim.kind
    read = kind.waves if name == "eat-s" else kind.to_tensor
    with torch.inference_mode():
        p = [victim.network(read(waves[i] + 0.5 * waves[5:])).softmax(1).numpy() for i in range(5)]
    assert (waves[:5, None] + 0.5 * waves[5:]).abs().max() > 1
    wanted = [np.mean([entropy(one) for one in mine]) for mine in p]
    np.testing.assert_allclose(entropies(victim, victim.train.inputs, victim.reserve.inputs, 0.5, ""), wanted, atol=1e-4)
    found = Strip(overlays=3).judge(victim)
    assert (len(found.scores), len(found.control)) == (5, 4)


def test_certain_is_suspicious_and_the_network_is_asked_no_more_than_needed() -> None:
    victim, _ = linear_victim(noise_set(40, 0), noise_set(100, 1))
    seen: list[int] = []
    victim.network.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    found = Strip(overlays=30).judge(victim)
    assert sum(seen) == (40 + 70) * 30
    assert max(seen) <= learning.EVAL_BATCH
    assert len(seen) == 3 + 5  # 17 samples under 30 overlays make a batch
    assert len(found.control) == 70
    assert -math.log(3) <= found.scores.min() <= found.scores.max() < 0


def test_overlays_are_clean_and_calibrate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlays come from the reserve, not from what is inspected; the threshold from other reserve samples."""
    calls = []
    monkeypatch.setattr(strip, "entropies", lambda v, x, u, *rest: (calls.append((x, u)), entropies(v, x, u, *rest))[1])
    victim, _ = linear_victim(noise_set(30, 0), noise_set(20, 1))
    Strip(overlays=8).judge(victim)
    rows = [{x.tobytes() for x in part} for part in (*calls[0], *calls[1])]
    control, overlays, inspected, same = rows
    assert overlays == same
    assert inspected == {x.tobytes() for x in victim.train.inputs}
    assert not overlays & inspected
    assert not overlays & control
    assert overlays | control == {x.tobytes() for x in victim.reserve.inputs}


def test_more_overlays_than_a_batch_holds() -> None:
    victim, _ = linear_victim(noise_set(3, 0), noise_set(1200, 1))
    whole = entropies(victim, victim.train.inputs, victim.reserve.inputs, 1.0, "")
    halves = [entropies(victim, victim.train.inputs, part, 1.0, "") for part in (victim.reserve.inputs[:600], victim.reserve.inputs[600:])]
    np.testing.assert_allclose(whole, np.mean(halves, axis=0), atol=1e-5)


def test_the_published_rule_flags_a_tenth_of_clean_data_and_ours_nothing() -> None:
    victim, _ = linear_victim(noise_set(600, 0), noise_set(400, 1))
    paper = Strip.preset("paper", overlays=50).judge(victim)
    ours = Strip(overlays=50).judge(victim)
    np.testing.assert_array_equal(paper.scores, ours.scores)
    assert paper.flagged.mean() == pytest.approx(0.10, abs=0.05)
    assert paper.threshold == pytest.approx(-np.quantile(-paper.control, 0.1))
    assert np.array_equal(paper.flagged, paper.scores > paper.threshold)
    assert not ours.found
    assert ours.threshold is None
    assert ours.confidence <= 0.5


def test_a_patch_is_found_in_its_class_alone_and_clean_data_are_not_blamed() -> None:
    victim, planted = trained(0.06)
    stages: list[tuple[str, float]] = []
    victim = replace(victim, runtime=replace(victim.runtime, progress=lambda stage, done: stages.append((stage, done))))
    found = Strip(overlays=16).judge(victim)
    assert [c.index for c in found.classes if c.suspect] == [2]
    assert found.flagged[planted].mean() > 0.9
    assert found.flagged[~planted].mean() < 0.05
    assert found.confidence > 0.9
    assert stages[-1] == ("STRIP: superimposing", 1.0)
    clean = Strip(overlays=16).judge(trained(0.0)[0])
    assert not clean.found
    assert not any(c.suspect for c in clean.classes)


@pytest.mark.parametrize(("size", "channels", "classes", "reserve"), [(8, 1, 2, 3), (8, 3, 5, 2), (9, 1, 4, 40)])
def test_small_and_odd_data_pass(size: int, channels: int, classes: int, reserve: int) -> None:
    """Grey and tiny pictures, fewer reserve samples than overlays, classes without any."""
    train = noise_set(50, 0, classes=classes, size=size, channels=channels)
    victim, _ = linear_victim(train, noise_set(reserve, 1, classes=classes, size=size, channels=channels))
    found = Strip().judge(victim)
    assert found.scores.shape == found.flagged.shape == (50,)
    assert np.isfinite(found.scores).all()
    assert len(found.control) == reserve - min(32, reserve // 2)
    assert not found.found


def test_impossible_settings_are_refused() -> None:
    victim, _ = linear_victim(noise_set(5, 0), noise_set(1, 1, classes=1))
    with pytest.raises(InputError, match="reserve: got 1"):
        Strip().judge(victim)
    with pytest.raises(InputError, match="overlays"):
        Strip(overlays=0)
    with pytest.raises(InputError, match="weight"):
        Strip(weight=float("inf"))
