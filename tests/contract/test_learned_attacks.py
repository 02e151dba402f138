"""What holds beside tests/contract/test_attacks.py for the attacks that train a part of themselves on the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.test_attacks import LEARNED, LEARNED_CASES, TABLE, Case, clips, of, pictures, rows
from tests.contract.test_attacks import poisoned as poisoned_case
from tocsin.attacks import ATTACKS, Poisoned
from tocsin.attacks.learned import LearnedAttack
from tocsin.attacks.speech import SpeechAttack
from tocsin.cli import main
from tocsin.cli.methods import described
from tocsin.data import learned_of, load, manifest_of, write
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.params import settings_of
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime

CASE = {case.name: case for case in LEARNED_CASES}
learned = pytest.mark.parametrize("name", LEARNED)
on_pictures = pytest.mark.parametrize("name", [name for name, case in CASE.items() if case.kind == "image"])
ARITHMETIC = ("narcissus", "narcissus-speech", "flowmur", "explanation")
"""Attacks that need no network once they have learned."""
Arrays = dict[str, np.ndarray]


def poisoned(name: str) -> Poisoned:
    return poisoned_case(CASE[name])


def small(name: str, n: int = 60) -> Dataset:
    """Small samples of the kind that the attack works on."""
    makers = {"image": lambda: pictures(n, 16, 16, 1), "speech": lambda: clips(n, 8000, 500), "table": lambda: rows(5 * n)}
    return makers[CASE[name].kind]()


def fresh(name: str, **changes: Any) -> LearnedAttack:
    attack = build(name, **{**TABLE[name].params, **changes})
    assert isinstance(attack, LearnedAttack)
    return attack


def part_of(name: str) -> Arrays:
    return dict(poisoned(name).attack.learned)


@learned
def test_what_is_not_prepared_says_so(name: str) -> None:
    data = CASE[name].data(100)
    with pytest.raises(InputError, match=f"attack {name}: its trigger is learned from data and was not yet"):
        fresh(name, rate=0.1).poison(data, np.random.default_rng(0))
    if name != "cl":  # its test-time trigger is a plain patch; that of slu is a plain tone, which must know the sampling rate
        with pytest.raises(InputError, match=r"use the attack that poisoning gives back"):
            fresh(name).trigger(data.inputs)


@learned
def test_learning_repeats_and_depends_on_the_seed(name: str) -> None:
    data = small(name)
    first, again, other = (fresh(name).learn(data, Runtime(device="cpu", seed=seed)) for seed in (5, 5, 6))
    assert first.keys() == again.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
        assert not value.dtype.hasobject
    assert any((first[key] != other[key]).any() for key in first)


@learned
def test_learning_reads_no_setting_that_the_cache_ignores(name: str) -> None:
    seen: set[str] = set()

    class Spy(ATTACKS[name]):  # type: ignore[misc]
        def __getattribute__(self, key: str) -> Any:
            seen.add(key)
            return super().__getattribute__(key)

    spy = Spy(**TABLE[name].params)
    seen.clear()
    spy.learn(small(name), Runtime(device="cpu"))
    assert seen
    assert Spy.not_learned <= {f.name for f in settings_of(ATTACKS[name])}
    assert not seen & Spy.not_learned


@learned
def test_the_cache_holds_until_something_learned_from_changes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def learn(self: LearnedAttack, dataset: Any, runtime: Runtime) -> Arrays:
        calls.append(runtime.seed)
        return {"shape": np.array(dataset.inputs.shape[1:])}

    monkeypatch.setattr(ATTACKS[name], "learn", learn)
    monkeypatch.setattr(ATTACKS[name], "check", lambda self: None)
    data, here = small(name), Runtime(device="cpu", cache=tmp_path / "cache")
    first = fresh(name).prepared(data, here)
    assert calls == [0]
    for again in (fresh(name), fresh(name, rate=0.3), first):
        assert again.prepared(data, here).learned.keys() == {"shape"}
    assert calls == [0]
    fresh(name).prepared(data, replace(here, seed=1))
    fresh(name).prepared(small(name, 61), here)
    fresh(name, **{{"slu": "epochs", "explanation": "trees", "hidden-trigger": "epochs"}.get(name, "steps"): 9}).prepared(data, here)
    assert calls == [0, 1, 0, 0]
    files = sorted((tmp_path / "cache").rglob("*"))
    assert len(files) == 5  # the folder and four entries, nothing half written
    for file in files:
        if file.is_file():
            file.write_bytes(file.read_bytes()[:40])
    assert fresh(name).prepared(data, here).learned.keys() == {"shape"}
    assert len(calls) == 5


@learned
def test_a_cache_that_cannot_be_written_costs_no_answer(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert poison(small(name), fresh(name, rate=0.1), runtime=Runtime(device="cpu", cache=tmp_path / "file" / "below")).attack.learned


WRONG: dict[str, Callable[[Arrays], Arrays]] = {
    "no shape": lambda a: {k: v for k, v in a.items() if k != "shape"},
    "a huge shape": lambda a: {**a, "shape": np.array([2**40, 32, 3])},
    "four channels": lambda a: {**a, "shape": np.array([32, 32, 4])},
    "a shape of two": lambda a: {**a, "shape": np.array([32, 32])},
    "a shape alone": lambda a: {k: v for k, v in a.items() if k == "shape"},
    "cut arrays": lambda a: {k: v[..., :-1] if v.ndim > 1 or k in ("delta", "values") else v for k, v in a.items()},
    "not finite": lambda a: {k: np.full_like(v, np.nan) if v.dtype.kind == "f" else v for k, v in a.items()},
    "float64": lambda a: {k: v.astype(np.float64) for k, v in a.items()},
}


@learned
@pytest.mark.parametrize("wrong", list(WRONG))
def test_arrays_that_are_no_such_part_are_refused(name: str, wrong: str) -> None:
    whole = part_of(name)
    assert fresh(name).restored(whole).learned.keys() == whole.keys()
    with pytest.raises(InputError):
        fresh(name).restored(WRONG[wrong](whole))


@learned
def test_another_attacks_part_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        fresh(name).restored(part_of(next(other for other in LEARNED if other != name)))
    with pytest.raises(InputError, match="learns nothing"):
        build("badnet").restored(part_of(name))


@on_pictures  # how clips are stored is tested where they are read
@pytest.mark.parametrize("to", ["red", "red.npz"])
def test_another_process_restores_the_trigger_from_beside_the_copy(name: str, to: str, tmp_path: Path) -> None:
    result = poisoned(name)
    place = write(result, tmp_path / to)
    recipe = manifest_of(place)
    assert recipe is not None
    attack = attack_of(recipe, learned_of(place))
    x = pictures(20).inputs
    np.testing.assert_array_equal(attack.trigger(x), result.attack.trigger(x))
    np.testing.assert_array_equal(load(place).inputs, result.dataset.inputs)
    with pytest.raises(InputError, match=r"32, 32, 3\), got \(31, 32, 3\)"):
        attack.trigger(x[:, 1:]) if name != "cl" else attack.perturb(x[:, 1:])  # type: ignore[attr-defined]


def test_a_part_that_is_missing_or_no_plain_archive_is_told(tmp_path: Path) -> None:
    place = write(poisoned("narcissus"), tmp_path / "red.npz")
    beside = tmp_path / "red.poison.npz"
    arrays = learned_of(place)
    np.savez(beside, shape=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        learned_of(place)
    np.savez_compressed(beside, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="compressed"):
        learned_of(place)
    beside.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(InputError, match="damaged"):
        learned_of(place)
    beside.unlink()
    with pytest.raises(InputError, match=r"red\.poison\.npz: is missing beside the manifest"):
        learned_of(place)
    assert learned_of(write(poisoned_case(Case("badnet")), tmp_path / "plain.npz")) == {}
    assert not (tmp_path / "plain.poison.npz").exists()


def test_nothing_is_overwritten_beside_a_copy(tmp_path: Path) -> None:
    (tmp_path / "red.poison.npz").write_text("mine")
    with pytest.raises(InputError, match="exists; nothing is ever overwritten"):
        write(poisoned("narcissus"), tmp_path / "red.npz")


@learned
def test_what_was_learned_is_no_setting(name: str) -> None:
    attack = poisoned(name).attack
    assert isinstance(attack, LearnedAttack)
    bare = replace(attack, rate_hz=None) if isinstance(attack, SpeechAttack) else attack
    assert bare == of(name)
    assert hash(bare) == hash(of(name))
    assert not {"learned", "runtime"} & attack.recipe().keys()
    assert not {"learned", "runtime"} & {s["name"] for s in described(type(attack))["settings"]}
    assert "learned" not in repr(attack)
    with pytest.raises(InputError, match="unknown setting 'learned'"):
        build(name, learned={})
    assert attack.figures()
    assert all(np.isfinite(value) for value in attack.figures().values())


@learned
def test_it_runs_where_it_is_told(name: str) -> None:
    attack, data = poisoned(name).attack, CASE[name].data(100)
    nowhere = attack.on(Runtime(device="xpu:9"))
    assert nowhere == attack
    assert nowhere.learned is attack.learned
    if name not in ARITHMETIC:
        with pytest.raises(InputError, match="device: 'xpu:9' cannot be used here"):
            replace(nowhere, rate=0.05).poison(data, np.random.default_rng(0))  # type: ignore[type-var]


def test_commands_learn_and_find_the_part_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    data = pictures(120, 16, 16, 1)
    np.savez(tmp_path / "train.npz", x=data.inputs, y=data.labels)
    np.savez(tmp_path / "test.npz", x=data.inputs[:60], y=data.labels[:60])
    settings = [word for pair in ("epochs=1", "steps=3", "batch=8") for word in ("--set", pair)]
    run("poison", tmp_path / "train.npz", "--attack", "narcissus", "--rate", 0.05, *settings, "--device", "cpu", "--out", tmp_path / "red")
    place = tmp_path / "red" / "train.npz"
    assert json.loads((tmp_path / "red" / "train.poison.json").read_text())["learned"] == "train.poison.npz"
    words = ("train", place, "--test", tmp_path / "test.npz", "--epochs", 1, "--device", "cpu", "--json")
    assert json.loads(run(*words))["runs"]["all samples"]["victims"] == int((data.labels[:60] != 0).sum())
    (tmp_path / "red" / "train.poison.npz").unlink()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 2
    assert "train.poison.npz: is missing" in capsys.readouterr().err
