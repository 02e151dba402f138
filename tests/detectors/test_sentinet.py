from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from tests.detectors.coloured import spoken
from tests.detectors.handmade import by_hand, linear_victim, noise_set, trained
from tocsin import learning
from tocsin.detectors import sentinet
from tocsin.detectors.sentinet import SentiNet, boundary, distances, grad_cam, noise_like, probe, stages_around, top_share
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.networks import Classifier, build_network
from tocsin.networks.resnet import ResNet18, SmallResNet
from tocsin.runtime import Runtime


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "fast_type", lambda device: None)


def test_fooled_and_average_confidence_are_those_computed_by_hand() -> None:
    """With a linear network Grad-CAM is the mean weight of a channel times the channel, cut off below zero."""
    victim, weight = linear_victim(noise_set(6, 0), noise_set(9, 1), scale=0.3)
    noise = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    fooled, confidence = probe(victim, victim.train.inputs, victim.train.labels, victim.reserve.inputs, noise, 0.15, "")
    mean, std = np.array(victim.kind.mean), np.array(victim.kind.std)
    for i, label in enumerate(victim.train.labels):
        x = (victim.train.inputs[i] - mean) / std
        heat = np.maximum(sum(weight[label, c].mean() * x[:, :, c] for c in range(3)), 0)
        region = heat >= np.sort(heat, axis=None)[-10]  # 15 % of 64 pixels are 9.6
        said, certain = [], []
        for other in victim.reserve.inputs:
            pasted = np.where(region[:, :, None], x, (other - mean) / std)
            hidden = np.where(region[:, :, None], (noise - mean) / std, (other - mean) / std)
            said.append(by_hand(weight, pasted).argmax() == label)
            certain.append(by_hand(weight, hidden).max())
        assert fooled[i] == pytest.approx(np.mean(said))
        assert confidence[i] == pytest.approx(np.mean(certain), abs=1e-5)
    assert 0 < fooled.mean() < 1


@pytest.mark.parametrize("name", ["tc-resnet8", "res15", "eat-s"])
def test_of_sounds_regions_of_what_the_network_reads_are_pasted(name: str) -> None:
    sounds = spoken(14, seed=0)
    victim = Victim.untrained(sounds[np.arange(4)], sounds[np.arange(4, 14)], Runtime("cpu", 0))
    network = build_network(name, 1, len(sounds.classes), 0).eval()
    victim = replace(victim, network=network)
    noise = noise_like(sounds.inputs, np.random.default_rng(0))
    assert noise.shape == sounds.inputs.shape[1:]
    assert np.square(noise, dtype=float).mean() == pytest.approx(np.square(sounds.inputs, dtype=float).mean(), rel=0.1)
    fooled, confidence = probe(victim, victim.train.inputs, victim.train.labels, victim.reserve.inputs, noise, 0.15, "")

    def read(raw: np.ndarray) -> torch.Tensor:
        return learning.tensor_for(network, victim.kind, torch.from_numpy(np.array(raw)))

    x, under, static = read(victim.train.inputs), read(victim.reserve.inputs), read(noise[None])
    before, after = stages_around(network, under[:1])
    assert before, after
    masks = top_share(grad_cam(network, before, after, x, torch.from_numpy(victim.train.labels)), 0.15)
    assert masks.any()
    with torch.inference_mode():
        for i, label in enumerate(victim.train.labels):
            said = network(torch.where(masks[i], x[i], under)).argmax(1) == label
            certain = network(torch.where(masks[i], static, under)).softmax(1).amax(1)
            assert fooled[i] == pytest.approx(said.float().mean().item())
            assert confidence[i] == pytest.approx(certain.mean().item(), abs=1e-4)


def test_the_place_of_a_trigger_is_one_in_pictures() -> None:
    sounds = spoken(60, seed=0)
    victim = Victim.untrained(sounds[np.arange(20)], sounds[np.arange(20, 60)], Runtime("cpu", 0))
    with pytest.raises(InputError, match="these are sounds"):
        SentiNet(images=2, fit=10, oracle=(0, 1), oracle_box=(0, 0, 2, 2)).judge(victim)
    found = SentiNet(images=2, fit=10).judge(victim)
    assert (len(found.scores), len(found.control)) == (20, 28)


@pytest.mark.parametrize(
    ("build", "channels", "size", "stage"),
    [
        (lambda: SmallResNet(1, 3, width=4), 1, 16, 2),
        (lambda: SmallResNet(1, 3, width=4), 1, 32, 4),
        (lambda: ResNet18(3, 3, (2, 3, 4, 5)), 3, 32, 8),
    ],
)
def test_grad_cam_is_the_one_autograd_gives(build: Callable[[], Classifier], channels: int, size: int, stage: int) -> None:
    """Of the last stage on 32-pixel pictures, of the last with 4 x 4 places on smaller ones; max and mean pools alike."""
    network = build().eval()
    x = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1])
    kept: list[torch.Tensor] = []
    hook = network.stages()[stage].register_forward_hook(lambda module, given, out: (out.retain_grad(), kept.append(out))[0])
    logits = network(x)
    hook.remove()
    sum(logits[i, labels[i]] for i in range(4)).backward()
    (maps,) = kept
    assert maps.grad is not None
    assert maps.shape[2:] == (4, 4)
    raw = torch.stack([torch.stack([maps.grad[i, c].mean() * maps[i, c] for c in range(maps.shape[1])]).sum(0).relu() for i in range(4)])
    wanted = torch.nn.functional.interpolate(raw[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    with torch.no_grad():
        before, after = stages_around(network, x[:1])
        got = grad_cam(network, before, after, x, labels)
    assert len(before) == stage + 1
    assert wanted.max() > 0
    torch.testing.assert_close(got, wanted.detach(), atol=1e-6, rtol=1e-4)


def test_tiny_pictures_keep_the_first_stage() -> None:
    network = SmallResNet(1, 2, width=4).eval()
    assert len(stages_around(network, torch.zeros(1, 1, 5, 5))[0]) == 1
    assert len(stages_around(network, torch.zeros(1, 1, 8, 8))[0]) == 1
    assert len(stages_around(network, torch.zeros(1, 1, 32, 32))[1]) == 0


def test_the_region_has_its_share_and_only_places_with_heat() -> None:
    heat = torch.rand(5, 10, 10, generator=torch.Generator().manual_seed(1))
    heat[1] = 0
    heat[2] = 0
    heat[2, 3, 4:7] = 1
    mask = top_share(heat, 0.15)
    assert mask.flatten(1).sum(1).tolist() == [15, 0, 3, 15, 15]
    assert heat[0][mask[0]].min() > heat[0][~mask[0]].max()


def test_the_boundary_goes_through_the_highest_point_of_each_bin() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(0.31, 0.9, 0.04), 6)  # the middles of every second bin
    tops = 2 * x**2 - x + 0.3
    y = tops - np.tile([0, 0.05, 0.1, 0.1, 0.2, 0.3], len(x) // 6)
    order = rng.permutation(len(x))
    np.testing.assert_allclose(boundary(y[order].astype(np.float32), x[order].astype(np.float32)), [2, -1, 0.3], atol=1e-4)
    np.testing.assert_allclose(boundary(np.array([0.2, 0.6]), np.array([0.5, 0.7])), [0, 2, -0.8], atol=1e-12)
    np.testing.assert_allclose(boundary(np.array([0.2, 0.6]), np.array([0.501, 0.502])), [0, 0, 0.6], atol=1e-12)


@pytest.mark.parametrize("curve", [[2.0, -1.0, 0.3], [-47.0, 80.0, -33.8], [0.0, 0.0, 0.4], [0.0, -1.0, 1.0]])
def test_distances_are_the_nearest_ones_positive_above(curve: list[float]) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.random(25).astype(np.float32), rng.random(25).astype(np.float32)
    got = distances(np.array(curve), y, x)
    grid = np.linspace(0, 1, 501)
    for i in range(25):

        def away(t: float, i: int = i) -> float:
            return float(np.hypot(t - x[i], np.polyval(curve, t) - y[i]))

        best = grid[np.argmin([away(t) for t in grid])]
        nearest = minimize_scalar(away, bounds=(max(0, best - 4e-3), min(1, best + 4e-3)), method="bounded", options={"xatol": 1e-10}).fun
        assert abs(got[i]) == pytest.approx(min(nearest, away(0), away(1)), abs=1e-4)
        assert (got[i] > 0) == (y[i] > np.polyval(curve, x[i]))


def test_the_parts_of_the_reserve_do_different_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(sentinet, "probe", lambda v, x, y, tests, *rest: (calls.append((x, tests)), probe(v, x, y, tests, *rest))[1])
    victim, _ = linear_victim(noise_set(10, 0), noise_set(40, 1))
    found = SentiNet(images=8, fit=12).judge(victim)
    fitted, control, inspected = ({x.tobytes() for x in call[0]} for call in calls)
    tests = {x.tobytes() for x in calls[0][1]}
    assert [len(p) for p in (tests, fitted, control, inspected)] == [8, 12, 20, 10]
    assert len(tests | fitted | control) == 40
    assert tests | fitted | control == {x.tobytes() for x in victim.reserve.inputs}
    assert all(np.array_equal(call[1], calls[0][1]) for call in calls)
    assert len(found.control) == 20


def test_a_patch_is_found_in_its_class_alone_and_clean_data_are_not_blamed() -> None:
    victim, planted = trained(0.06)
    stages: list[tuple[str, float]] = []
    victim = replace(victim, runtime=replace(victim.runtime, progress=lambda stage, done: stages.append((stage, done))))
    found = SentiNet(images=8).judge(victim)
    assert [c.index for c in found.classes if c.suspect] == [2]
    assert found.flagged[planted].mean() > 0.7
    assert found.flagged[~planted].mean() < 0.03
    assert stages[-1] == ("SentiNet: pasting", 1.0)
    assert not found.oracle
    clean = SentiNet(images=8).judge(trained(0.0)[0])
    assert not clean.found
    assert clean.confidence <= 0.5


def test_the_oracles_set_the_cut_and_the_region() -> None:
    victim, planted = trained(0.06)
    rows = np.concatenate([np.flatnonzero(planted)[:20], np.flatnonzero(~planted)[:180]])
    victim, planted = replace(victim, train=victim.train[rows], reserve=victim.reserve[:100]), planted[rows]
    known = tuple(np.flatnonzero(~planted).tolist())
    told = SentiNet.preset("paper", images=8, fit=50, oracle=known)
    found = told.judge(victim)
    assert found.oracle
    assert found.flagged[~planted].mean() == pytest.approx(0.05, abs=0.006)
    shown = SentiNet.preset("paper", images=8, fit=50, oracle=known, oracle_box=(12, 12, 4, 4)).judge(victim)
    np.testing.assert_array_equal(shown.scores[~planted], found.scores[~planted])
    assert not np.array_equal(shown.scores[planted], found.scores[planted])
    nothing = SentiNet.preset("paper", images=8, fit=50, oracle=known, oracle_box=(0, 0, 1, 1)).judge(victim)
    assert nothing.scores[planted].mean() < shown.scores[planted].mean()


@pytest.mark.parametrize(("size", "channels", "classes", "reserve"), [(8, 1, 2, 4), (8, 3, 5, 3), (9, 1, 4, 40)])
def test_small_and_odd_data_pass(size: int, channels: int, classes: int, reserve: int) -> None:
    train = noise_set(30, 0, classes=classes, size=size, channels=channels)
    victim, _ = linear_victim(train, noise_set(reserve, 1, classes=classes, size=size, channels=channels))
    found = SentiNet().judge(replace(victim, network=SmallResNet(channels, classes, width=4)))
    assert found.scores.dtype == np.float32
    assert np.isfinite(found.scores).all()
    assert not found.found


def test_impossible_settings_are_refused() -> None:
    victim, _ = linear_victim(noise_set(5, 0), noise_set(2, 1))
    with pytest.raises(InputError, match="reserve: got 2 samples, sentinet needs at least 3"):
        SentiNet().judge(victim)
    for wrong in ({"images": 0}, {"fit": 0}, {"region": 1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            SentiNet(**wrong)
    with pytest.raises(InputError, match="oracle_box"):
        SentiNet(oracle_box=(0, 0, 2, 2))
    with pytest.raises(InputError, match="oracle: got no row"):
        SentiNet(oracle=())
    victim, _ = linear_victim(noise_set(5, 0), noise_set(9, 1))
    with pytest.raises(InputError, match=r"rows are 0\.\.4"):
        SentiNet(oracle=(5,)).judge(victim)
    with pytest.raises(InputError, match="lies outside"):
        SentiNet(oracle=(1,), oracle_box=(8, 8, 2, 2)).judge(victim)
