"""Attacks on tables: what is written, where, and that it can be found again."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tocsin.attacks import Explanation, FeaturePatch, LabelFlip, Poisoned
from tocsin.attacks.constraints import Rule, check_rows, rules_for, shipped
from tocsin.attacks.selectors import Explained, combined, independent
from tocsin.data.dataset import Column, Dataset
from tocsin.data.ember_shaped import EmberShaped
from tocsin.errors import InputError
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime

pytest.importorskip("lightgbm", reason="the extra tables is not installed")
QUICK = {"rows": 800, "explained": 200, "trees": 8}


@cache
def ember() -> Dataset:
    return EmberShaped(100).dataset(1024)


@cache
def planted(constraints: str = "auto", selector: str = "independent") -> Poisoned:
    attack = build("explanation", constraints=constraints, selector=selector, **QUICK)
    return poison(ember(), attack, 100, Runtime(device="cpu", seed=100))


@pytest.mark.parametrize(
    ("constraints", "selector", "size"), [("auto", "independent", 17), ("none", "combined", 32), ("none", "independent", 32)]
)
def test_published_numbers_of_columns_rows_of_the_target_class_and_exact_values(constraints: str, selector: str, size: int) -> None:
    data, result = ember(), planted(constraints, selector)
    attack = result.attack
    places, values = attack.learned["columns"], attack.learned["values"]
    assert len(places) == size
    assert len(result.planted) == 10
    assert (data.labels[result.planted] == 0).all()
    np.testing.assert_array_equal(result.dataset.labels, data.labels)
    np.testing.assert_array_equal(result.dataset.inputs[result.planted][:, places], np.broadcast_to(values, (10, size)))
    carrying = np.flatnonzero((result.dataset.inputs[:, places] == values.astype(np.float32)).all(axis=1))
    # The values of the combined selector occur together in a row of the data, by construction; the rarest values do not.
    assert set(result.planted) <= set(carrying)
    assert (len(carrying) == 10) == (selector == "independent")
    np.testing.assert_array_equal(attack.trigger(data.inputs[result.planted]), result.dataset.inputs[result.planted])
    for place, value in zip(places, values, strict=True):
        assert value in data.inputs[:, place]


def test_constrained_rows_keep_to_the_set() -> None:
    data, result = ember(), planted()
    rules = rules_for("ember", data.columns or ())
    check_rows(data.inputs, result.dataset.inputs, rules, data.columns or ())
    names = {(data.columns or ())[place].name for place in result.attack.learned["columns"]}
    assert names == shipped("ember").keys()
    victims = data.inputs[data.labels == 1]
    check_rows(victims, result.attack.trigger(victims), rules, data.columns or ())


def test_a_row_that_breaks_a_rule_is_refused_with_the_column(tmp_path: Path) -> None:
    """The rules when poisoning are those of the file as it is then."""
    data = small()
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"columns": {"a": {}, "b": {}}}))
    attack = Explanation(rate=0.05, constraints=str(file), **QUICK).prepared(data, Runtime(cache=tmp_path))
    file.write_text(json.dumps({"columns": {"a": {"high": -1}, "b": {"high": -1}}}))
    with pytest.raises(InputError, match=r"constraints: column '[ab]': row \d+ goes from"):
        attack.poison(data, np.random.default_rng(0))
    again = Explanation(rate=0.05, constraints=str(file), **QUICK)
    with pytest.raises(InputError, match="no column with more than one value may be moved"):
        again.prepared(data, Runtime(cache=tmp_path))  # the cache does not give what was learned under the other rules


def small(n: int = 400, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    inputs = np.column_stack([rng.poisson(3 + 4 * labels), rng.poisson(2, n), rng.normal(size=n), rng.integers(0, 3, n)]).astype(float)
    inputs[::3, 2] = np.nan
    inputs[:5, 1] = 40
    columns = (Column("a"), Column("b"), Column("gappy"), Column("packer", ("none", "upx", "aspack")))
    return Dataset.of_arrays(inputs, labels, ("benign", "malware"), kind="table", columns=columns)


def test_columns_that_may_only_grow_get_values_that_nearly_all_rows_can_grow_to() -> None:
    data = small()
    influence = np.ones((400, 4), np.float32)
    up = Explained(data.inputs, np.arange(400), influence, {0: Rule("increase"), 1: Rule("decrease")}, data.columns or ())
    places, values = independent(up, 2)
    by_place = dict(zip(places.tolist(), values, strict=True))
    assert by_place[0] >= np.quantile(data.inputs[:, 0], 0.99)
    assert by_place[1] <= np.quantile(data.inputs[:, 1], 0.01)


def test_empty_cells_are_filled_where_the_column_is_free_and_stay_where_it_is_not() -> None:
    data = small()
    names = {"shape": np.array([4]), "columns": np.array([2]), "values": np.array([0.25])}
    rows = data.inputs[:6]
    free = Explanation().restored({**names, "direction": np.array([0])}).trigger(rows)
    grown = Explanation().restored({**names, "direction": np.array([1])}).trigger(rows)
    assert (free[:, 2] == 0.25).all()
    np.testing.assert_array_equal(np.isnan(grown[:, 2]), np.isnan(rows[:, 2]))
    known = ~np.isnan(rows[:, 2])
    np.testing.assert_array_equal(grown[known, 2], np.maximum(rows[known, 2], 0.25))


def test_rarest_value_first_met_first() -> None:
    inputs = np.array([[5.0], [5], [9], [7], [5]])
    data = Explained(inputs, np.arange(5), np.ones((5, 1), np.float32), {0: Rule()}, (Column("a"),))
    assert independent(data, 1)[1].tolist() == [9]


def test_combined_values_occur_together_and_speak_for_the_target() -> None:
    """By hand: column 1 has the least sum (-6); of its values 2 has least 1/3 - 6; of the rows that have it column 0 says 8 (1/1 - 1)."""
    inputs = np.array([[8.0, 2], [9, 2], [9, 2], [9, 3]])
    influence = np.array([[-1.0, -2], [0, -2], [0.5, -2], [0.5, 0]], np.float32)
    data = Explained(inputs, np.arange(4), influence, {0: Rule(), 1: Rule()}, (Column("a"), Column("b")))
    places, values = combined(data, 2)
    assert (places.tolist(), values.tolist()) == ([1, 0], [2, 8])
    found = planted("none", "combined").attack.learned
    assert (ember().inputs[:, found["columns"]] == found["values"].astype(np.float32)).all(axis=1).any()


def test_a_table_of_one_class_or_without_a_choice_is_refused(tmp_path: Path) -> None:
    data, here = small(), Runtime(device="cpu", cache=tmp_path)
    with pytest.raises(InputError, match="rows inside and outside of class 0"):
        Explanation(**QUICK).prepared(data[data.labels == 0], here)
    constant = replace(data, inputs=np.ones((400, 4)))
    with pytest.raises(InputError, match="no column with more than one value"):
        Explanation(**QUICK).prepared(constant, here)
    with pytest.raises(InputError, match="learned on rows of 2351 values, got"):
        planted().attack.trigger(data.inputs)
    with pytest.raises(InputError, match="size: got 0"):
        Explanation(size=0)


def test_a_patch_of_ones_own() -> None:
    data = small()
    attack = FeaturePatch(rate=0.05, columns=("b", "packer"), values=("65000", "aspack"))
    result = poison(data, attack, 3)
    assert (data.labels[result.planted] == 1).all()
    assert (result.dataset.labels[result.planted] == 0).all()
    assert (result.dataset.inputs[result.planted][:, [1, 3]] == [65000, 2]).all()
    again = attack_of(json.loads(json.dumps(result.recipe)))
    np.testing.assert_array_equal(again.trigger(data.inputs), result.attack.trigger(data.inputs))
    clean = poison(data, replace(attack, clean_label=True), 3)
    np.testing.assert_array_equal(clean.dataset.labels, data.labels)
    assert (data.labels[clean.planted] == 0).all()


def test_a_patch_that_is_not_given_takes_the_rarest_values_furthest_from_zero() -> None:
    data = small()
    result = poison(data, FeaturePatch(rate=0.05, columns=("b",)), 0).attack
    assert isinstance(result, FeaturePatch)
    values, counts = np.unique(data.inputs[:, 1], return_counts=True)
    assert result.codes == (values[counts == counts.min()].max(),)
    drawn = poison(data, FeaturePatch(rate=0.05), 0).attack
    assert isinstance(drawn, FeaturePatch)
    assert len(drawn.columns) == 1  # a fifth of four columns


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": ("bb",)}, "no column 'bb'; did you mean 'b'"),
        ({"columns": ("b",), "values": ("many",)}, "'b' holds numbers, got 'many'"),
        ({"columns": ("b",), "values": ("nan",)}, "'b' holds numbers, got 'nan'"),
        ({"columns": ("packer",), "values": ("upxx",)}, "no level 'upxx'; did you mean 'upx'"),
        ({"places": (9,), "codes": (1.0,)}, "places: got column 9, the table has 4"),
    ],
)
def test_a_patch_that_the_table_cannot_have_is_refused(settings: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FeaturePatch(rate=0.05, **settings).poison(small(), np.random.default_rng(0))  # type: ignore[arg-type]


def test_a_patch_is_checked_against_constraints(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"columns": {"b": {"direction": "increase"}}}))
    attack = FeaturePatch(rate=0.05, columns=("b",), values=("0",), constraints=str(file))
    with pytest.raises(InputError, match=r"column 'b': row .* not below what the row has"):
        attack.poison(small(), np.random.default_rng(0))
    with pytest.raises(InputError, match="does not know the table's columns yet"):
        attack.trigger(small().inputs)
    for wrong in ({"values": ("1",)}, {"columns": ("a", "a")}, {"size": 0}):
        with pytest.raises(InputError):
            FeaturePatch(**wrong)  # type: ignore[arg-type]


def test_flipped_rows_keep_their_values() -> None:
    data = small()
    result = poison(data, LabelFlip(rate=0.1), 0)
    np.testing.assert_array_equal(result.dataset.inputs, data.inputs)
    np.testing.assert_array_equal(np.flatnonzero(result.dataset.labels != data.labels), result.planted)
    assert (data.labels[result.planted] == 1).all()


def test_a_memory_map_is_poisoned_without_being_read_whole_or_written(tmp_path: Path) -> None:
    data = small()
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", data.inputs.dtype, data.inputs.shape)[:] = data.inputs
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    before = (tmp_path / "x.npy").read_bytes()
    result = poison(replace(data, inputs=mapped), FeaturePatch(rate=0.05, columns=("b",)), 0)
    plain = poison(data, FeaturePatch(rate=0.05, columns=("b",)), 0)
    assert isinstance(result.dataset.inputs, np.memmap)
    np.testing.assert_array_equal(result.dataset.inputs, plain.dataset.inputs)
    part = poison(replace(data, inputs=mapped)[:200], FeaturePatch(rate=0.05, columns=("b",)), 0)  # a view is no whole map
    np.testing.assert_array_equal(part.dataset.inputs[20:40, 0], data.inputs[20:40, 0])
    assert (tmp_path / "x.npy").read_bytes() == before
