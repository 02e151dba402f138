"""The contrastive learner: its loss against a plain reference, its views, and that it learns the same from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.detectors import coloured
from tests.detectors.rows import table
from tests.detectors.synthetic import pictures
from tocsin.contrastive import ContrastiveSettings, nt_xent, pretrain
from tocsin.errors import InputError
from tocsin.kinds import kind_of
from tocsin.kinds.views import Colours, crops, masked
from tocsin.kinds.views import coloured as recoloured
from tocsin.learning import features
from tocsin.networks import build_network
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=3)
SHORT = ContrastiveSettings(epochs=2, batch=32, lr=0.1)


def reference(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """SimCLR's equation 1, view by view."""
    z = np.concatenate([first, second]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [np.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-np.log(np.exp(z[i] @ z[j] / temperature) / np.sum(others)))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_the_published_one(temperature):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 7, 5)).astype(np.float32)
    got = nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert float(got) == pytest.approx(reference(first, second, temperature), rel=1e-5)


def test_the_loss_knows_partners_and_no_scale():
    rng = np.random.default_rng(1)
    z = torch.from_numpy(rng.normal(size=(6, 4)).astype(np.float32))
    same, moved = nt_xent(z, z, 0.5), nt_xent(z, z.roll(1, 0), 0.5)
    assert float(same) < float(moved)
    assert float(nt_xent(3 * z, z / 7, 0.5)) == pytest.approx(float(same), rel=1e-5)


def test_views_differ_from_their_sample_and_from_each_other():
    data = pictures(20, seed=1)
    kind = kind_of(data, flip=True)
    raw = torch.from_numpy(data.inputs)
    one, other = (kind.view(raw, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    again = kind.view(raw, torch.Generator().manual_seed(0))
    assert one.shape == kind.to_tensor(raw).shape
    assert torch.equal(one, again)
    assert (one - other).abs().amax((1, 2, 3)).min() > 0.05
    assert torch.equal(raw, torch.from_numpy(data.inputs))


def test_a_whole_crop_is_the_picture_and_half_are_mirrored():
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    got = crops(x, 1.0, True, torch.Generator().manual_seed(2))
    # an area of 1 at a ratio of sides other than 1 is cut to the picture's edge on one side, so that at most a third of it is cut off
    straight = (got - x).abs().mean((1, 2, 3))
    mirrored = (got - x.flip(3)).abs().mean((1, 2, 3))
    assert 16 < int((mirrored < straight).sum()) < 48
    assert torch.minimum(straight, mirrored).mean() < 0.6 * torch.maximum(straight, mirrored).mean()
    never = crops(x, 1.0, False, torch.Generator().manual_seed(2))
    assert ((never - x).abs().mean((1, 2, 3)) < (never - x.flip(3)).abs().mean((1, 2, 3))).all()


def test_colours_stay_within_bounds_and_nothing_changes_without_strength():
    x = torch.rand(50, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    none = Colours(0, 0, 0, 0, 1.0, 0.0)
    assert torch.allclose(recoloured(x, none, torch.Generator().manual_seed(0)), x, atol=1e-5)
    strong = recoloured(x, Colours(), torch.Generator().manual_seed(0))
    assert strong.min() >= 0
    assert strong.max() <= 1
    grey = recoloured(x, Colours(0, 0, 0, 0, 0.0, 1.0), torch.Generator().manual_seed(0))
    assert torch.allclose(grey, (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True).expand_as(x), atol=1e-5)
    assert recoloured(x[:, :1], Colours(), torch.Generator().manual_seed(0)).shape == (50, 1, 6, 6)


def test_sounds_have_views_and_tables_none():
    clips = coloured.spoken(6, seed=0)
    kind = kind_of(clips)
    view = kind.view(torch.from_numpy(clips.inputs), torch.Generator().manual_seed(0))
    assert view.shape == kind.to_tensor(torch.from_numpy(clips.inputs)).shape
    maps = torch.ones(9, 1, 10, 20)
    hidden = 1 - masked(maps, 0.4, torch.Generator().manual_seed(0))
    assert ((hidden.mean((1, 2, 3)) >= 0) & (hidden.mean((1, 2, 3)) <= 1 - 0.6**2 + 0.05)).all()
    assert hidden.sum() > 0
    rows = table(40, 0)
    with pytest.raises(InputError, match="pictures or sounds do"):
        kind_of(rows).view(torch.from_numpy(np.asarray(rows.inputs)), torch.Generator())


def encoder(data, runtime=CPU, how=SHORT):
    kind = kind_of(data, flip=True)
    network = build_network("small-narrow", kind.channels, 6, runtime.seed)
    return pretrain(network, data.inputs, kind, how, runtime), kind


def test_the_same_seed_learns_the_same_whatever_the_labels():
    data = pictures(100, seed=4)
    shuffled = type(data).of_arrays(data.inputs, np.roll(data.labels, 5), data.classes)
    read = [features(*encoder(d)[:1], d.inputs, kind_of(d), CPU) for d in (data, data, shuffled)]
    assert np.array_equal(read[0], read[1])
    assert np.array_equal(read[0], read[2])
    other = encoder(data, Runtime(device="cpu", seed=4))[0]
    assert not np.array_equal(read[0], features(other, data.inputs, kind_of(data), CPU))


def test_it_learns_and_reports_and_leaves_the_head_alone():
    data, said = pictures(256, seed=5), []
    kind = kind_of(data, flip=True)
    network = build_network("small-narrow", kind.channels, 6, 0)
    head = network.head.weight.detach().clone()
    raw = torch.from_numpy(data.inputs)

    def loss() -> float:
        with torch.inference_mode():
            views = [network.features(kind.view(raw, torch.Generator().manual_seed(seed))) for seed in (8, 9)]
        return float(nt_xent(*views, 0.5))

    network.eval()
    before = loss()
    runtime = Runtime(device="cpu", seed=0, progress=lambda stage, share: said.append((stage, share)))
    assert not pretrain(network, data.inputs, kind, ContrastiveSettings(epochs=8, batch=64, lr=0.1), runtime).training
    assert loss() < before
    assert torch.equal(head, network.head.weight)
    assert said[-1] == ("learning without labels", 1.0)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 1}, {"temperature": 0.0}, {"lr": float("inf")}, {"projection": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ContrastiveSettings(**wrong)


def test_one_sample_is_too_few():
    data = pictures(1, seed=0)
    with pytest.raises(InputError, match="at least 2"):
        encoder(data)
