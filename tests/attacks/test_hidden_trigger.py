from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tocsin.attacks import HiddenTrigger
from tocsin.attacks.feature_collision import features_of, greedy_pairs
from tocsin.attacks.training import pixels
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds import ImageKind
from tocsin.networks import build_network
from tocsin.networks.encoder import Encoder
from tocsin.poisoning import attack_of, poison
from tocsin.runtime import Runtime

HERE = Runtime(device="cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0, 400, 10, 10)[0]


@pytest.fixture(scope="module")
def attack(data: Dataset) -> HiddenTrigger:
    return HiddenTrigger(rate=0.05, target=2, source=7, epochs=3, craft_steps=20).prepared(data, HERE)


def test_poisons_stay_within_the_bound_and_look_like_patched_sources_to_the_encoder(attack: HiddenTrigger, data: Dataset) -> None:
    planted = attack.poison(data, np.random.default_rng(0)).planted
    assert (data.labels[planted] == 2).all()
    before = data.inputs[planted]
    patched = attack.trigger(data.inputs[data.labels == 7][: len(planted)])
    after = attack.bent(before, patched)
    assert np.abs(after.astype(int) - before).max() == 16
    near, far = (distances(attack, x, patched).min(axis=1) for x in (after, before))
    assert (near < far).mean() >= 0.75  # pairs are formed without replacement, so that one may lose a good one to another
    assert near.mean() < 0.6 * far.mean()


def distances(attack: HiddenTrigger, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        a, b = (features_of(attack._network(), pixels(torch.from_numpy(x))) for x in (first, second))
    return torch.cdist(a, b).numpy()


def test_the_poisoned_copy_shows_no_patch_and_keeps_its_labels(attack: HiddenTrigger, data: Dataset) -> None:
    result = attack.poison(data, np.random.default_rng(0))
    np.testing.assert_array_equal(result.dataset.labels, data.labels)
    assert np.abs(result.dataset.inputs[result.planted].astype(int) - data.inputs[result.planted]).max() <= 16
    shown = attack.trigger(data.inputs[:50])
    changed = (shown != data.inputs[:50]).reshape(50, -1).sum(axis=1)
    assert (changed <= 16).all()  # a patch of 4 x 4 on 16 x 16
    assert (changed > 8).all()


def test_asr_is_measured_on_the_source_or_on_all_but_the_target(attack: HiddenTrigger) -> None:
    labels = np.arange(10)
    assert attack.victims(labels).tolist() == [k == 7 for k in range(10)]
    assert HiddenTrigger(target=2).victims(labels).sum() == 9


def test_pairs_are_taken_nearest_first() -> None:
    distances = torch.tensor([[1.0, 2.0, 9.0], [0.5, 3.0, 4.0], [7.0, 0.6, 5.0]])
    assert greedy_pairs(distances).tolist() == [2, 0, 1]


def test_a_given_encoder_is_used_instead_of_one_of_its_own(data: Dataset, tmp_path: Path) -> None:
    kind = ImageKind.of(data)
    file = tmp_path / "encoder.npz"
    Encoder("small-narrow", build_network("small-narrow", 1, 4, seed=5), kind).save(file)
    result = poison(data, HiddenTrigger(rate=0.05, craft_steps=2, encoder=str(file)), runtime=HERE)
    assert isinstance(result.attack, HiddenTrigger)
    assert result.recipe["network"] == "small-narrow"
    model = result.attack._network()
    for name, value in build_network("small-narrow", 1, 4, seed=5).state_dict().items():
        torch.testing.assert_close(model.body.state_dict()[name], value)
    torch.testing.assert_close(model.scale.mean.flatten(), torch.tensor(kind.mean) / 255)
    file.unlink()  # the trigger can be shown without it
    restored = attack_of(result.recipe, result.attack.learned)
    np.testing.assert_array_equal(restored.trigger(data.inputs[:9]), result.attack.trigger(data.inputs[:9]))


def test_what_cannot_be_is_named(data: Dataset, tmp_path: Path) -> None:
    for settings, match in (
        ({"source": 0}, "source: got class 0, which is the target"),
        ({"bound": 0}, "bound"),
        ({"size": 33}, "size"),
        ({"craft_step": -1}, "craft_step"),
    ):
        with pytest.raises(InputError, match=match):
            HiddenTrigger(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"nothing\.npz"):
        poison(data, HiddenTrigger(rate=0.05, encoder=str(tmp_path / "nothing.npz")), runtime=HERE)
    file = tmp_path / "colour.npz"
    Encoder("small", build_network("small", 3, 4, seed=5), ImageKind((1.0,) * 3, (1.0,) * 3)).save(file)
    with pytest.raises(InputError, match="encoder: reads pictures of 3 channels, those of the data have 1"):
        poison(data, HiddenTrigger(rate=0.05, encoder=str(file)), runtime=HERE)
    with pytest.raises(InputError, match="source: got class 10"):
        poison(data, HiddenTrigger(rate=0.05, source=10, epochs=1, craft_steps=1), runtime=HERE)
