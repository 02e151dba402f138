from __future__ import annotations

import threading

import numpy as np
import pytest

from tocsin.stats import blocks


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", 7)


def stored(folder, x):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def test_every_class_comes_whole_and_in_order(tmp_path, small_blocks):
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(100, 4)).astype(np.float32), rng.normal(size=(30, 4)).astype(np.float32)
    y, s = rng.choice([0, 2, 3, 5], 100), rng.choice([0, 1, 2, 3], 30)
    seen = []
    for g in blocks.by_class(stored(tmp_path, x), y, r, s, 6):
        np.testing.assert_array_equal(g.rows, np.flatnonzero(y == g.index))
        np.testing.assert_array_equal(g.reserve_rows, np.flatnonzero(s == g.index))
        np.testing.assert_array_equal(g.x, np.concatenate([x[y == g.index], r[s == g.index]]))
        g.x[:] = 0  # the caller's to change
        seen.append(g.index)
    assert seen == [0, 2, 3, 5]


@pytest.mark.parametrize("cores", [1, 3])
def test_classes_side_by_side_are_those_one_after_the_other(tmp_path, small_blocks, monkeypatch, cores):
    monkeypatch.setattr(blocks, "_cores", lambda: cores)
    rng = np.random.default_rng(2)
    x, r = rng.normal(size=(100, 4)), rng.normal(size=(30, 4)).astype(np.float32)
    y, s = rng.choice([0, 2, 3, 5], 100), rng.choice([0, 1, 2, 3], 30)
    together, at_work = threading.Barrier(cores), set()

    def work(group):
        at_work.add(threading.get_ident())
        if group.index in (0, 2, 3)[:cores]:
            together.wait(30)  # breaks where fewer are at work
        copy = group.x.copy()
        group.x[:] = 0  # the caller's to change
        return copy

    found = list(blocks.each_class(stored(tmp_path, x), y, r, s, 6, work))
    assert [group.index for group, _ in found] == [0, 2, 3, 5]
    assert len(at_work) == cores
    for (group, copy), expected in zip(found, blocks.by_class(x, y, r, s, 6), strict=True):
        np.testing.assert_array_equal(copy, expected.x)
        np.testing.assert_array_equal(group.rows, expected.rows)
        np.testing.assert_array_equal(group.reserve_rows, expected.reserve_rows)


def test_an_error_in_a_class_is_raised_and_the_threads_of_products_are_given_back(monkeypatch):
    monkeypatch.setattr(blocks, "_cores", lambda: 2)
    x, y = np.ones((6, 2), np.float32), np.arange(6) % 3
    before = blocks._blas().info()
    with pytest.raises(ZeroDivisionError):
        list(blocks.each_class(x, y, x[:0], y[:0], 3, lambda group: 1 // (group.index - 1)))
    assert blocks._blas().info() == before
    assert list(blocks.each_class(x[:0], y[:0], x[:0], y[:0], 3, len)) == []


def test_copies_of_large_classes_are_not_made_side_by_side(monkeypatch):
    monkeypatch.setattr(blocks, "_cores", lambda: 4)
    monkeypatch.setattr(blocks, "_COPIES", 2 * 4 * 50 * 8)  # bytes of two classes of 50 rows
    x, y, at_work = np.ones((200, 8), np.float32), np.arange(200) % 4, set()
    both = threading.Barrier(2)  # holds whoever is first until a second is at work, however late that one starts
    list(blocks.each_class(x, y, x[:0], y[:0], 4, lambda group: (both.wait(60), at_work.add(threading.get_ident()))))
    assert len(at_work) == 2


def test_mean_over_both_in_blocks(small_blocks):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(23, 3)).astype(np.float32), rng.normal(size=(10, 3)).astype(np.float32)
    np.testing.assert_allclose(blocks.mean(a, b), np.concatenate([a, b]).mean(0), atol=1e-6)


def test_unusable_rows_are_named(small_blocks):
    x = np.ones((40, 3), np.float32)
    x[3, 1], x[20, 0], x[39, 2] = np.nan, -np.inf, 1e30
    np.testing.assert_array_equal(blocks.unusable(x), [3, 20, 39])
    assert not len(blocks.unusable(np.full((5, 3), 1e12, np.float32)))
    np.testing.assert_array_equal(blocks.unusable(np.full((1, 2), 1e300)), [0])


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_released_pages_keep_what_was_written(tmp_path, mode):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((5000, 4), np.float32))
    x = np.load(path, mmap_mode=mode)
    if mode != "r":
        x[17] = 3
    blocks.release(x)
    assert x[17].sum() == (0 if mode == "r" else 12)
    assert x[18].sum() == 0
