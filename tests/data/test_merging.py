"""Two tables brought into one form, and rows that stay where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.data.dataset import Column, Dataset, concatenate
from tocsin.data.merging import same_columns
from tocsin.data.pairing import match
from tocsin.data.rows import Rows, chosen, replaced, stacked
from tocsin.errors import InputError

RNG = np.random.default_rng(0)


def table(values: np.ndarray, *columns: Column) -> Dataset:
    return Dataset.of_arrays(values, np.arange(len(values)) % 2, ("a", "b"), kind="table", columns=columns)


def test_columns_are_matched_by_name_and_levels_merged() -> None:
    train = table(np.array([[1.0, 0], [2, 1]], np.float32), Column("n"), Column("w", ("red", "tea")))
    other = table(np.array([[9.0, 1, 5], [8, np.nan, 6]], np.float64), Column("extra"), Column("w", ("ant", "tea")), Column("n"))
    left, right, notes = same_columns(train, other)
    assert left.columns == right.columns == (Column("n"), Column("w", ("red", "tea", "ant")))
    assert np.array_equal(left.inputs, train.inputs)
    assert right.inputs.dtype == np.float32
    assert np.array_equal(right.inputs, [[5, 1], [6, np.nan]], equal_nan=True)
    assert notes == ["1 column that only the reserve has left out: extra", "texts that only the reserve has in w"]
    assert left.fingerprint == train.fingerprint


def test_numbers_that_are_texts_on_the_other_side() -> None:
    train = table(np.array([[0.0], [1]]), Column("v", ("1", "1a")))
    left, right, _ = same_columns(train, table(np.array([[1.0], [2.5]]), Column("v")))
    assert left.columns == (Column("v", ("1", "1a", "2.5")),)
    assert right.inputs.tolist() == [[0], [2]]
    with pytest.raises(InputError, match=r"'v' holds texts .1, 1a., in the training data numbers"):
        same_columns(table(np.zeros((2, 1)), Column("v")), train)
    with pytest.raises(InputError, match="test set: lacks 1 column that the training data has: v"):
        same_columns(train, table(np.zeros((2, 1)), Column("w")), "test set")


def test_natural_duplicates_stay_in_the_reserve_and_do_not_refuse_it() -> None:
    rows = RNG.integers(0, 10**6, (700, 3)).astype(np.float32)
    train = table(rows[:400], *map(Column, "abc"))
    _, kept, notes = match(train, table(rows[300:], *map(Column, "abc")))
    assert len(kept) == 400
    assert any("100 of 400 samples" in note for note in notes)
    with pytest.raises(InputError, match="value by value"):
        match(train, table(rows[150:550], *map(Column, "abc")))


def test_equal_rows_are_equal_however_their_gaps_are_stored() -> None:
    train = table(np.array([[np.nan, 0.0]] * 300, np.float32), Column("a"), Column("b"))
    train.inputs[:, 0].view(np.uint32)[:] = 0x7FC00001  # another NaN than numpy's
    reserve = table(np.array([[np.nan, -0.0], *([k, 1.0] for k in range(300))], np.float32), Column("a"), Column("b"))
    assert any(note.startswith("1 of 301 samples") for note in match(train, reserve)[2])


def index_of(n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, n - 1), max_size=8)


@given(st.data())
def test_rows_behave_like_the_array_they_stand_for(data: st.DataObject) -> None:
    parts = [RNG.random((data.draw(st.integers(1, 5)), 3)) for _ in range(data.draw(st.integers(1, 3)))]
    whole = np.concatenate(parts)
    index = np.array(data.draw(index_of(len(whole))), np.int64)
    rows, plain = cast(Any, Rows(parts)).take(index), whole[index]
    assert (rows.shape, rows.dtype, rows.ndim, len(rows), rows.nbytes) == (plain.shape, plain.dtype, 2, len(plain), plain.nbytes)
    assert np.array_equal(np.asarray(rows), plain)
    assert np.array_equal(rows[1:4], plain[1:4])
    assert np.array_equal(rows[:, [0, 2]], plain[:, [0, 2]])
    if len(plain):
        assert np.array_equal(rows[-1], plain[-1])
        mask = np.arange(len(plain)) % 2 == 0
        assert np.array_equal(np.asarray(rows.take(mask)), plain[mask])
        assert np.array_equal(chosen(rows, mask), plain[mask])
        new = replaced(rows, np.array([0]), np.full((1, 3), 7.0))
        assert isinstance(new, Rows)
        assert np.asarray(new)[0].tolist() == [7] * 3
        assert np.array_equal(new[1:], plain[1:])
    assert np.array_equal(np.asarray(stacked([whole, rows, whole])), np.concatenate([whole, plain, whole]))
    assert np.array_equal(np.asarray(rows), plain)


def test_data_sets_of_rows_on_disk_are_joined_without_reading_them() -> None:
    whole = RNG.random((6, 2))
    data = table(whole, Column("a"), Column("b"))
    lazy = replace(data, inputs=cast(Any, Rows([whole])))
    joined = concatenate(lazy, data)
    assert isinstance(joined.inputs, Rows)
    assert joined.inputs.parts[0] is whole
    assert joined.fingerprint == concatenate(data, data).fingerprint
