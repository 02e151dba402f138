from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from tocsin.bench.provenance import forget_peak, peak_rss_mb
from tocsin.data import rows as module
from tocsin.data.dataset import Column, Dataset, concatenate
from tocsin.data.rows import Rows, read_rows, row_hashes, stacked


@pytest.fixture
def parts(tmp_path: Path) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(n, 5)).astype(np.float32) for n in (40, 1, 0, 17)]
    made[0].tofile(tmp_path / "x.dat")
    return [np.memmap(tmp_path / "x.dat", np.float32, "r", shape=(40, 5)), *made[1:]]


@pytest.mark.parametrize(
    "which",
    [
        slice(None), slice(3, 50), slice(38, 45), slice(50, 10), slice(0, 58, 7), slice(-5, None), slice(None, None, -1),
        np.array([57, 0, 40, 40, 3]), np.array([-1, -58]), np.array([], np.int64), np.arange(58) % 3 == 0, 41, -58, (slice(2, 43), 3),
        (np.array([57, 0]), np.array([1, 4])), (5, 2), (slice(None), np.array([0, 2])),
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_those_of_the_joined_array(parts: list[np.ndarray], which: object) -> None:
    whole, view = np.concatenate(parts), Rows(parts)
    expected = whole
    for axis in which if isinstance(which, tuple) else (which,):  # rows first, then columns, never a pair of each
        expected = expected[axis] if expected is whole else expected[..., axis]
    got = view[which]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.float32
    assert (view.shape, view.ndim, len(view), view.size, view.nbytes) == (whole.shape, 2, 58, 290, 1160)
    np.testing.assert_array_equal(np.asarray(view), whole)


def test_a_row_that_is_not_there_is_an_error(parts: list[np.ndarray]) -> None:
    with pytest.raises(IndexError, match="of 58"):
        Rows(parts)[np.array([58])]


def test_only_large_mapped_arrays_are_stacked_as_a_view(parts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(stacked(parts), np.ndarray)
    assert stacked(parts[1:2]) is parts[1]
    monkeypatch.setattr(module, "LARGE", 1)
    assert isinstance(stacked(parts), Rows)
    assert isinstance(stacked(parts[1:]), np.ndarray)
    assert isinstance(stacked([stacked(parts), parts[1]]), Rows)


def test_a_data_set_on_a_view_is_the_same_data_set(parts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    columns = tuple(Column(str(k)) for k in range(5))
    mine = Dataset.of_arrays(parts[0], np.arange(40) % 2, kind="table", columns=columns)
    more = Dataset.of_arrays(parts[3], np.arange(17) % 2, kind="table", columns=columns)
    joined = concatenate(mine, more)
    monkeypatch.setattr(module, "LARGE", 1)
    view = concatenate(mine, more)
    assert isinstance(view.inputs, Rows)
    assert view.fingerprint == joined.fingerprint
    np.testing.assert_array_equal(row_hashes(view.inputs), row_hashes(joined.inputs))
    np.testing.assert_array_equal(view[np.array([50, 2])].inputs, joined[np.array([50, 2])].inputs)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system cannot give pages back")
def test_pages_that_were_read_do_not_stay(tmp_path: Path) -> None:
    np.zeros(2**25, np.uint8).tofile(tmp_path / "x")
    x = np.memmap(tmp_path / "x", np.uint8, "r", shape=(2**13, 2**12))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    before = resident()
    for start in range(0, len(x), 64):
        read_rows(x, slice(start, start + 64))
    assert resident() - before < 2**23
    copy = np.memmap(tmp_path / "x", np.uint8, "c", shape=(2**13, 2**12))
    copy[0, 0] = 9  # what was written to a private map must not be given back
    assert read_rows(copy, slice(0, 1))[0, 0] == 9
    assert read_rows(copy, slice(0, 1))[0, 0] == 9


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc")
def test_rows_here_and_there_do_not_bring_the_file_into_memory(tmp_path: Path) -> None:
    width, rows = 2**12, 2**16  # 256 MiB; every sixteenth row, so that each fault maps a stretch of its own
    x = np.zeros((rows, width), np.uint8)
    x[:, 0] = np.arange(rows) % 251
    x.tofile(tmp_path / "x")
    del x
    mapped = np.memmap(tmp_path / "x", np.uint8, "r", shape=(rows, width))
    wanted = np.arange(0, rows, 16)
    forget_peak()
    before = peak_rss_mb()
    read = read_rows(mapped, wanted)
    after = peak_rss_mb()
    np.testing.assert_array_equal(read[:, 0], wanted % 251)
    np.testing.assert_array_equal(read_rows(mapped, np.isin(np.arange(rows), wanted)), read)
    assert before is not None
    assert after is not None
    assert after - before < 150
