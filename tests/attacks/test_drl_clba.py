"""What DRL-CLBA plants in each mode, what it says of every poison, and that its trigger can be had back."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.kinds.test_speech import clips as chords
from tocsin.attacks import DrlClba, Poisoned, speech
from tocsin.attacks.base import Attack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu")
SMALL = {"epochs": 2, "judge_epochs": 2, "embed_steps": 4, "batches": 2, "steps": 2, "pool": 20, "bits": 4}


def small(**changes: object) -> DrlClba:
    attack = build("drl-clba", **{**SMALL, "rate": 0.1, "target": 1, **changes})
    assert isinstance(attack, DrlClba)
    return attack


@pytest.fixture(scope="module")
def data() -> Dataset:
    return chords(120, seed=3, length=1600)


@pytest.fixture(scope="module")
def ready(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> DrlClba:
    """Learned once; mode, rate and choice are no part of what is learned."""
    return small().prepared(data, replace(CPU, cache=tmp_path_factory.mktemp("cache")))


def planted(ready: DrlClba, data: Dataset, seed: int = 0, **changes: object) -> Poisoned:
    return poison(data, replace(ready, **changes), seed)  # type: ignore[arg-type]


def of(attack: Attack) -> DrlClba:
    assert isinstance(attack, DrlClba)
    return attack


@pytest.mark.parametrize("mode", ["collide", "collide+stego", "stego"])
def test_clean_label_modes_keep_every_label_and_plant_exactly_the_rate(ready: DrlClba, data: Dataset, mode: str) -> None:
    result = planted(ready, data, mode=mode)
    np.testing.assert_array_equal(result.dataset.labels, data.labels)
    assert len(result.planted) == 12
    assert (data.labels[result.planted] == 1).all()
    changed = (result.dataset.inputs != data.inputs).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(changed), result.planted)
    outside = ~speech.inside(data.inputs)
    np.testing.assert_array_equal(result.dataset.inputs[outside], data.inputs[outside])


def test_dirty_stego_relabels_clips_of_other_classes(ready: DrlClba, data: Dataset) -> None:
    result = planted(ready, data, mode="dirty_stego")
    assert (data.labels[result.planted] != 1).all()
    assert (result.dataset.labels[result.planted] == 1).all()
    np.testing.assert_array_equal(result.dataset.inputs[result.planted], ready.trigger(data.inputs[result.planted]))


def test_none_plants_nothing_and_still_has_the_trigger(ready: DrlClba, data: Dataset) -> None:
    result = planted(ready, data, mode="none")
    assert not len(result.planted)
    np.testing.assert_array_equal(result.dataset.inputs, data.inputs)
    np.testing.assert_array_equal(result.attack.trigger(data.inputs[:5]), ready.trigger(data.inputs[:5]))


def test_the_trigger_is_put_on_after_the_clip_was_bent(ready: DrlClba, data: Dataset) -> None:
    bent, both = (planted(ready, data, mode=mode).dataset.inputs for mode in ("collide", "collide+stego"))
    rows = planted(ready, data).planted
    np.testing.assert_array_equal(ready._crafter().hide(bent[rows]), both[rows])


def test_what_is_known_of_each_poison(ready: DrlClba, data: Dataset) -> None:
    result = planted(ready, data)
    facts, rows = of(result.attack).facts(), result.planted
    assert {name for name, value in facts.items() if len(value) != 12} == set()
    np.testing.assert_array_equal(facts["rows"], rows)
    assert (data.labels[facts["anchor"]] != 1).all()
    assert len(set(facts["anchor"].tolist())) == 12
    assert facts["action"].shape == (12, 40)
    assert np.abs(facts["action"]).max() <= 1
    np.testing.assert_array_equal(facts["code"], np.tile(ready.part("key"), (12, 1)))
    for name, clips in (("before", data.inputs[rows]), ("after", result.dataset.inputs[rows])):
        assert facts[f"sha256_{name}"][3].tobytes() == hashlib.sha256(clips[3].astype("<i2").tobytes()).digest()
        assert ((facts[f"sure_{name}"] >= 0) & (facts[f"sure_{name}"] <= 1)).all()
    for name in ("snr_db", "lsd_db", "distance_before", "distance_after"):
        assert np.isfinite(facts[name]).all(), name
    assert not ready.facts()
    stego = of(planted(ready, data, mode="stego").attack).facts()
    assert "anchor" not in stego
    assert stego["snr_db"].mean() > facts["snr_db"].mean()
    assert of(planted(ready, data, mode="collide").attack).facts()["code"].shape == (12, 0)


def test_a_manifest_and_its_arrays_give_the_same_trigger(ready: DrlClba, data: Dataset) -> None:
    result = planted(ready, data, amplification=1.5)
    again = attack_of(result.recipe, result.attack.learned)
    np.testing.assert_array_equal(again.trigger(data.inputs), result.attack.trigger(data.inputs))
    np.testing.assert_array_equal(of(again).facts()["rows"], result.planted)
    with pytest.raises(InputError, match="learned"):
        attack_of(result.recipe, {k: v for k, v in result.attack.learned.items() if not k.startswith("pool")})


def test_amplification_is_of_the_test_alone(ready: DrlClba, data: Dataset) -> None:
    first, second = (planted(ready, data, amplification=a) for a in (1.0, 1.8))
    np.testing.assert_array_equal(first.dataset.inputs, second.dataset.inputs)
    plain = data.inputs[:20].astype(float)
    change = [np.square(r.attack.trigger(data.inputs[:20]) - plain).sum() for r in (first, second)]
    assert change[1] > 1.5 * change[0]


def test_hard_clips_are_those_the_judges_are_least_sure_of(ready: DrlClba, data: Dataset) -> None:
    pool = np.flatnonzero(data.labels == 1)
    sure = ready._crafter().sure(data.inputs[pool])
    rows = planted(ready, data, select="hard").planted
    assert set(rows) == set(pool[np.argsort(sure, kind="stable")[:12]])


def test_the_class_bounds_the_rate(ready: DrlClba, data: Dataset) -> None:
    own = int((data.labels == 1).sum())
    with pytest.raises(InputError, match=f"rate: 60 samples wanted, only {own} of the 120 can be used"):
        planted(ready, data, rate=0.5)


@pytest.mark.parametrize("mode", ["collide", "collide+stego", "stego"])
def test_where_the_rate_takes_the_whole_class_a_tenth_is_changed_faintly(ready: DrlClba, data: Dataset, mode: str) -> None:
    own = np.flatnonzero(data.labels == 1)
    result = planted(ready, data, rate=len(own) / len(data), mode=mode)
    np.testing.assert_array_equal(result.planted, own)
    assert (result.dataset.inputs[own] != data.inputs[own]).any(axis=1).all()
    dose = of(result.attack).facts()["dose"]
    weak = dose < 1
    assert weak.sum() == int(np.ceil(0.1 * len(own)))
    np.testing.assert_allclose(dose[weak], ready.faint_dose)
    whole = planted(ready, data, rate=len(own) / len(data), mode=mode, faint=0)
    np.testing.assert_array_equal(result.dataset.inputs[own[~weak]], whole.dataset.inputs[own[~weak]])
    change, full = (np.abs(r.dataset.inputs[own[weak]] - data.inputs[own[weak]].astype(float)).sum() for r in (result, whole))
    assert 0 < change < 0.5 * full


def test_clean_clips_of_the_class_stand_for_faint_ones(ready: DrlClba, data: Dataset) -> None:
    """Where the rate leaves a tenth of the class clean, ``faint`` changes nothing; where it leaves less, the rest is faint."""
    own = int((data.labels == 1).sum())
    for left, weak in ((own // 2, 0), (math.ceil(0.1 * own), 0), (1, math.ceil(0.1 * own) - 1)):
        with_it, without = (planted(ready, data, rate=(own - left) / len(data), faint=faint) for faint in (0.1, 0))
        assert (of(with_it.attack).facts()["dose"] < 1).sum() == weak
        if not weak:
            np.testing.assert_array_equal(with_it.dataset.inputs, without.dataset.inputs)
    dirty = of(planted(ready, data, mode="dirty_stego", rate=0.3).attack).facts()
    assert (dirty["dose"] == 1).all()


def test_a_set_of_one_class_is_refused(data: Dataset) -> None:
    with pytest.raises(InputError, match="it needs some, and so do other classes"):
        small().prepared(data[data.labels == 1], CPU)


def test_without_the_extra_it_says_how_to_get_it(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.attacks.test_collision import scene
    from tocsin.attacks.collision_agent import Training, train_agent
    from tocsin.attacks.collision_scene import Episode

    for name in [name for name in sys.modules if name.startswith(("stable_baselines3", "tocsin.attacks.collision_ddpg"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(InputError, match=r"pip install tocsin\[rl\]"):
        train_agent(scene(4), Episode(), Training(1), CPU)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"mode": "collide+"}, "mode"),
        ({"select": "easy"}, "select"),
        ({"bits": 0}, "bits"),
        ({"steps": 0}, "steps"),
        ({"gamma": 1.5}, "gamma"),
        ({"select": "hard", "judges": 0}, "select"),
        ({"anchors": "far"}, "anchors"),
        ({"faint": -0.1}, "faint"),
        ({"faint_dose": 0}, "faint_dose"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        build("drl-clba", **settings)
