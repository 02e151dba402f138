"""Which cells of a table an attacker may move."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.attacks.constraints import Rule, check_rows, parsed, rules_for, shipped
from tocsin.data.dataset import Column
from tocsin.data.ember_shaped import EmberShaped
from tocsin.errors import InputError

COLUMNS = (Column("fixed"), Column("up"), Column("down"), Column("whole"), Column("packer", ("none", "upx", "aspack")))
RULES = {1: Rule("increase"), 2: Rule("decrease", low=-5), 3: Rule(integer=True, low=0, high=10), 4: Rule()}
CELLS = st.one_of(st.integers(-12, 12).map(float), st.sampled_from([0.5, float("nan"), float("inf")]))


def allowed(place: int, old: float, new: float) -> bool:
    """What `RULES` say of one cell, in plain words."""
    if old == new or (np.isnan(old) and np.isnan(new)):
        return True
    if not np.isfinite(new):
        return False
    return {
        0: False,
        1: new > old,
        2: new < old and new >= -5,
        3: new in range(11),
        4: new in (0, 1, 2),
    }[place]


@given(st.lists(st.tuples(*[st.tuples(CELLS, CELLS)] * 5), min_size=1, max_size=4))
def test_every_cell_of_every_row_is_checked(rows: list[tuple[tuple[float, float], ...]]) -> None:
    before = np.array([[old for old, _ in row] for row in rows])
    after = np.array([[new for _, new in row] for row in rows])
    wrong = {COLUMNS[k].name for row in rows for k, (old, new) in enumerate(row) if not allowed(k, old, new)}
    if not wrong:
        check_rows(before, after, RULES, COLUMNS)
        return
    with pytest.raises(InputError) as refused:
        check_rows(before, after, RULES, COLUMNS)
    assert any(f"column {name!r}" in str(refused.value) for name in wrong)


def test_a_refusal_says_what_is_allowed() -> None:
    row = np.array([[0.0, 4, 0, 1, 0]])
    for place, value, words in (
        (0, 1, "'fixed' may not be moved"),
        (1, 3, "'up': row 0 goes from 4.0 to 3.0.*not below"),
        (3, 1.5, "'whole'.*whole"),
    ):
        moved = row.copy()
        moved[0, place] = value
        with pytest.raises(InputError, match=words):
            check_rows(row, moved, RULES, COLUMNS)


@pytest.mark.parametrize("name", ["ember", "pe-headers"])
def test_shipped_sets_can_be_read(name: str) -> None:
    rules = shipped(name)
    assert all(rule.integer and rule.low == 0 and rule.high >= 95 for rule in rules.values())
    assert len(rules) >= 17


def test_the_set_that_fits_is_found() -> None:
    for version in (1, 2):
        columns = EmberShaped(0, version).columns
        rules = rules_for("auto", columns)
        assert len(rules) == 17
        assert {columns[place].name for place in rules} == shipped("ember").keys()
    assert rules_for("auto", COLUMNS) == rules_for("none", COLUMNS) == dict.fromkeys(range(5), Rule())
    assert rules_for("pe-headers", (Column("x"), Column("CheckSum"))).keys() == {1}
    with pytest.raises(InputError, match="no column of the set 'ember'"):
        rules_for("ember", COLUMNS)
    with pytest.raises(InputError, match="did you mean 'ember'"):
        rules_for("embre", COLUMNS)


def test_sets_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"columns": {"up": {"direction": "increase", "high": 9}}}))
    assert rules_for(str(file), COLUMNS) == {1: Rule("increase", high=9)}
    file.write_text(json.dumps({"columns": {"upp": {}}}))
    with pytest.raises(InputError, match="'upp', which the table lacks; did you mean 'up'"):
        rules_for(str(file), COLUMNS)
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        rules_for(str(file), COLUMNS)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"columns": {}},
        {"columns": {"a": 3}},
        {"columns": {"a": {"way": "up"}}},
        {"columns": {"a": {"direction": "up"}}},
        {"columns": {"a": {"integer": 1}}},
        {"columns": {"a": {"low": "0"}}},
        {"columns": {"a": {"low": 2, "high": 1}}},
        {"columns": {"a": {"low": True}}},
    ],
)
def test_what_is_no_set_is_refused(document: object) -> None:
    with pytest.raises(InputError, match="constraints: "):
        parsed(document, "mine")
