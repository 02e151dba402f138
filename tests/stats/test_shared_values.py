"""What the suspects share: found where it is there, not made up where it is not."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from tocsin.data.rows import Rows
from tocsin.stats.shared_values import LEAST, shared_values

COLUMNS, TRIGGER = 30, {3: 2.0, 7: -1.0, 11: float("nan"), 20: 123456.0}


def rows(n: int, rng: np.random.Generator) -> np.ndarray:
    """Sparse counts, versions, heavy tails; the same values are common in all rows."""
    out = np.exp(rng.normal(0, 3, (n, COLUMNS))).round(1)
    out[:, :10] = rng.integers(0, 6, (n, 10))
    out[:, 20:] *= rng.random((n, 10)) < 0.1
    return out


def poisoned(n: int, rng: np.random.Generator) -> np.ndarray:
    out = rows(n, rng)
    for column, value in TRIGGER.items():
        out[:, column] = value
    return out


@pytest.mark.parametrize("seed", range(100, 105))
@pytest.mark.parametrize("wrong", [0, 60])
def test_the_trigger_is_named_also_among_false_alarms(seed: int, wrong: int) -> None:
    rng = np.random.default_rng(seed)
    found = shared_values(np.concatenate([poisoned(100, rng), rows(wrong, rng)]), rows(2000, rng))
    (rule,) = found.rules
    assert {pair.column for pair in rule.pairs} == set(TRIGGER)
    assert all(np.array_equal(pair.value, TRIGGER[pair.column], equal_nan=True) for pair in rule.pairs)
    assert rule.suspects == 100
    assert rule.others == 0
    assert {pair.column for pair in found.pairs[:4]} == set(TRIGGER)


@pytest.mark.parametrize("seed", range(100, 105))
def test_suspects_without_anything_in_common_share_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert shared_values(rows(100, rng), rows(2000, rng)).rules == ()


def test_two_triggers_make_two_rules() -> None:
    rng = np.random.default_rng(100)
    second = rows(80, rng)
    second[:, [1, 2]] = 99.0
    found = shared_values(np.concatenate([poisoned(100, rng), second]), rows(2000, rng))
    assert [{pair.column for pair in rule.pairs} for rule in found.rules] == [set(TRIGGER), {1, 2}]
    assert [rule.suspects for rule in found.rules] == [100, 80]


def test_counts_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(100)
    suspects, others = poisoned(50, rng).astype(np.float32), np.concatenate([rows(300, rng), poisoned(2, rng)]).astype(np.float32)
    found = shared_values(suspects, others)
    for pair in found.pairs:
        for data, count in ((suspects, pair.suspects), (others, pair.others)):
            cells = data[:, pair.column]
            assert count == sum(np.isnan(cell) if np.isnan(pair.value) else cell == pair.value for cell in cells)
        assert found.lift(pair) == pytest.approx(pair.suspects / 50 * 303 / (pair.others + 0.5))
    assert found.rules[0].others == 2


def test_the_others_may_lie_on_disk_and_be_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(100)
    suspects, others = poisoned(50, rng), rows(500, rng)
    whole = shared_values(suspects, others)
    monkeypatch.setattr("tocsin.stats.shared_values._BLOCK_CELLS", 7 * COLUMNS)
    assert repr(shared_values(suspects, cast(Any, Rows([others])))) == repr(whole)


@pytest.mark.parametrize(("a", "b"), [(0, 10), (LEAST - 1, 10), (10, 0), (10, 1)])
def test_few_rows(a: int, b: int) -> None:
    rng = np.random.default_rng(100)
    found = shared_values(poisoned(a, rng), rows(b, rng))
    assert (found.suspects, found.others) == (a, b)
    assert bool(found.pairs) == (a >= LEAST and b > 0)


def test_what_most_poisoned_rows_have_by_nature_is_no_part_of_the_rule() -> None:
    rng = np.random.default_rng(100)
    suspects = poisoned(60, rng)
    suspects[:54, 5] = 77.0
    others = rows(2000, rng)
    others[:300, 5] = 77.0
    (rule,) = shared_values(suspects, others).rules
    assert ({pair.column for pair in rule.pairs}, rule.suspects) == (set(TRIGGER), 60)


@pytest.mark.parametrize("seed", range(100, 105))
@pytest.mark.parametrize("wrong", [0, 20])
def test_a_value_of_the_trigger_that_half_the_class_has_is_named_too(seed: int, wrong: int) -> None:
    rng = np.random.default_rng(seed)
    stamped, natural, others = poisoned(40, rng), rows(wrong, rng), rows(2000, rng)
    for part in (natural, others):
        part[:, 15:18] = np.where(rng.random((len(part), 3)) < (0.55, 0.55, 0.9), 1.0, 2.0)
    stamped[:, 15:18] = [1.0, 1.0, 1.0]
    (rule,) = shared_values(np.concatenate([stamped, natural]), others).rules
    found = {pair.column for pair in rule.pairs}
    assert found == {*TRIGGER, 15, 16}  # what nine of ten have says nothing
    stamped[:, 15:18] = np.where(rng.random((40, 3)) < (0.55, 0.55, 0.9), 1.0, 2.0)
    (rule,) = shared_values(np.concatenate([stamped, natural]), others).rules
    assert {pair.column for pair in rule.pairs} == set(TRIGGER)


def test_a_false_alarm_with_half_of_the_trigger_leaves_the_rule_whole() -> None:
    rng = np.random.default_rng(100)
    half = rows(1, rng)
    half[:, [7, 20]] = TRIGGER[7], TRIGGER[20]
    (rule,) = shared_values(np.concatenate([poisoned(37, rng), half]), rows(2000, rng)).rules
    assert ({pair.column for pair in rule.pairs}, rule.suspects) == (set(TRIGGER), 37)
