from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from tests.detectors.rows import stamped, table
from tocsin.stats.value_shift import Pairs, agreement, independent, shifted, signed_root, stamps, tied, tightness


def every_pair(inspected: np.ndarray, reserve: np.ndarray, least: float) -> dict[tuple[int, str], tuple[int, int, float]]:
    """The plain reading of `shifted`: one pair at a time, with SciPy's G-test."""
    n, m, out = len(inspected), len(reserve), {}
    for k in range(inspected.shape[1]):
        for value in {str(v) for v in inspected[:, k]}:
            a = sum(str(v) == value for v in inspected[:, k])
            b = sum(str(v) == value for v in reserve[:, k])
            if a < max(5, n / 2000) or (a == n and b == m):
                continue
            g = chi2_contingency([[a, n - a], [b, m - b]], correction=False, lambda_="log-likelihood").statistic
            z = math.copysign(math.sqrt(max(g, 0)), a / n - b / m)
            if z > least:
                out[k, value] = (a, b, z)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_the_plain_reading(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inspected, reserve = rng.integers(0, 6, (200, 4)).astype(np.float32), rng.integers(0, 8, (60, 4)).astype(np.float32)
    inspected[rng.random(inspected.shape) < 0.1] = np.nan
    expected = every_pair(inspected, reserve, 0.5)
    pairs = shifted(inspected, reserve, 0.5)
    columns = zip(pairs.column, pairs.value, pairs.count, pairs.clean, pairs.z, strict=True)
    got = {(int(k), str(v)): (int(a), int(b), float(z)) for k, v, a, b, z in columns}
    assert expected
    assert got.keys() == expected.keys()
    for key, (a, b, z) in expected.items():
        assert got[key] == (a, b, pytest.approx(z, abs=1e-6))
    assert (np.diff(pairs.z) <= 0).all()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 50))
def test_the_root_has_the_sign_of_the_difference(a: int, b: int, more: int, others: int) -> None:
    n, m = a + more, b + others
    z = float(signed_root(np.array([a]), n, np.array([b]), m)[0])
    assert math.isfinite(z)
    assert np.sign(round(z, 6)) in (0, np.sign(a * m - b * n))


def test_a_stamp_is_found_with_its_columns_and_rows() -> None:
    clean, reserve = table(3000, 5), table(700, 6)
    data, truth = stamped(clean, 40, 5)
    mine = data.labels == 0
    inspected, known = data.inputs[mine], reserve.inputs[reserve.labels == 0]
    (found,) = stamps(inspected, known, shifted(inspected, known, 2.0), 2.5, 0.25, 8)
    assert set(found.pairs.column) >= set(range(18, 24))
    np.testing.assert_array_equal(found.holds(inspected), truth[mine])
    assert (found.rows, found.tight <= 0.1) == (40, True)


def test_a_family_that_the_reserve_lacks_is_no_stamp() -> None:
    clean, reserve = table(3000, 5), table(700, 6)
    rng = np.random.default_rng(0)
    inspected, known = clean.inputs[clean.labels == 0].copy(), reserve.inputs[reserve.labels == 0]
    family = inspected[0].copy()
    family[-6:] = 77  # a new program in 40 builds that differ in one size
    inspected[:40] = family
    inspected[:40, 0] = rng.integers(10, 99, 40)
    pairs = shifted(inspected, known, 2.0)
    assert (pairs.value == 77).sum() == 6
    assert not stamps(inspected, known, pairs, 2.5, 0.25, 8)
    assert tightness(inspected, np.arange(len(inspected)) < 40, np.arange(18)) > 0.5


def test_columns_derived_from_one_are_no_stamp() -> None:
    clean, reserve = table(3000, 5), table(700, 6)
    inspected, known = clean.inputs[clean.labels == 0].copy(), reserve.inputs[reserve.labels == 0].copy()
    month = np.random.default_rng(1).integers(1, 12, len(inspected))
    month[:60] = 12  # a month after the reserve was drawn
    for rows, of in ((inspected, month), (known, np.random.default_rng(2).integers(1, 12, len(known)))):
        rows[:, 18], rows[:, 19], rows[:, 20] = of, 10 * of, 100 - of
    assert independent(inspected[60:, 18:21]) == 1
    assert not stamps(inspected, known, shifted(inspected, known, 2.0), 2.5, 0.25, 8)


def test_agreement_and_ties() -> None:
    assert agreement(np.array([1.0, 1, 2, 2])) == pytest.approx(1 / 3)
    assert agreement(np.array([np.nan, np.nan])) == 1
    a = np.array([0.0, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    assert tied(a, 5 - a) == 1
    assert tied(a, np.array([0.0, 1, 2, 3, 0, 1, 0, 1, 0, 1])) < 0.5
    assert tied(np.zeros(9), a[:9]) == 0


def test_nothing_to_count_is_no_error() -> None:
    empty = np.empty((0, 3), np.float32)
    assert len(shifted(empty, empty, 2.0)) == 0
    none = Pairs(*[np.empty(0, np.int64)] * 5, tested=0)
    assert stamps(np.zeros((9, 3)), np.zeros((4, 3)), none, 2.5, 0.25, 8) == []
    assert tightness(np.zeros((9, 3)), np.ones(9, bool), np.empty(0, np.int64)) == 1
