"""Drawn tables with EMBER's shape."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.attacks.constraints import shipped
from tocsin.data.ember_shaped import BLOCK, COPIES, WIDTHS, EmberShaped
from tocsin.errors import InputError


@cache
def table() -> tuple[np.ndarray, np.ndarray]:
    return EmberShaped(100).rows(0, 3 * BLOCK)


@pytest.mark.parametrize("version", WIDTHS)
def test_width_names_and_type(version: int) -> None:
    data = EmberShaped(100, version).dataset(50)
    assert data.inputs.shape == (50, WIDTHS[version])
    assert data.inputs.dtype == np.float32
    names = [column.name for column in data.columns or ()]
    assert len(set(names)) == WIDTHS[version]
    assert shipped("ember").keys() <= set(names)
    assert data.classes == ("benign", "malware")


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK))
def test_any_range_is_a_part_of_the_same_table(one: int, other: int) -> None:
    start, stop = sorted((one, other))
    x, y = EmberShaped(100).rows(start, stop)
    np.testing.assert_array_equal(x, table()[0][start:stop])
    np.testing.assert_array_equal(y, table()[1][start:stop])


def test_another_seed_is_another_table() -> None:
    assert (EmberShaped(101).rows(0, 20)[0] != table()[0][:20]).any(axis=1).all()


def test_marginals() -> None:
    x, y = table()
    names = {column.name: k for k, column in enumerate(EmberShaped(100).columns)}
    assert np.isfinite(x).all()
    assert 0.45 < y.mean() < 0.55
    assert 0.7 < (x == 0).mean() < 0.85
    copies = 1 - len(np.unique(x, axis=0)) / len(x)
    assert abs(copies - COPIES) < 0.01
    for name, width in (("histogram", 256), ("byteentropy", 256), ("printabledist", 96)):
        part = x[:, names[f"{name}_0"] :][:, :width]
        np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-4)
        assert part.min() >= 0
    size = x[:, names["size"]]
    assert size.max() > 50 * np.median(size)
    for name in shipped("ember"):
        column = x[:, names[name]]
        assert (column == np.floor(column)).all()
        assert column.min() >= 0
    version = x[:, names["major_image_version"]]
    assert np.isin(version, [0, 1, 2, 5, 6, 10]).mean() > 0.98
    assert version.max() > 300
    functions = x[:, names["imports_function_hash_0"] :][:, :1024]
    assert 0.005 < (functions != 0).mean() < 0.15
    assert functions.min() < 0 < functions.max()


def test_a_line_tells_most_files_apart() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = table()
    logs = np.sign(x) * np.log1p(np.abs(x))
    logs = (logs - logs.mean(0)) / (logs.std(0) + 1e-3)
    right = LogisticRegression(C=0.001, max_iter=50).fit(logs[: 2 * BLOCK], y[: 2 * BLOCK]).score(logs[2 * BLOCK :], y[2 * BLOCK :])
    assert 0.8 < right < 1  # of so few rows; all of 60,000 and a network give more


def test_files_are_what_the_rows_are(tmp_path: Path) -> None:
    count = BLOCK + 100
    EmberShaped(100).write(tmp_path / "v", count, start=50)
    x = np.memmap(tmp_path / "v" / "X_train.dat", np.float32, "r", shape=(count, WIDTHS[1]))
    y = np.memmap(tmp_path / "v" / "y_train.dat", np.float32, "r")
    np.testing.assert_array_equal(x, table()[0][50 : 50 + count])
    np.testing.assert_array_equal(y, table()[1][50 : 50 + count])
    with pytest.raises(FileExistsError):
        EmberShaped(100).write(tmp_path / "v", 5)


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"version": 3}, {"seed": -1}):
        with pytest.raises(InputError):
            EmberShaped(**wrong)
    with pytest.raises(InputError, match="rows"):
        EmberShaped().rows(5, 3)
