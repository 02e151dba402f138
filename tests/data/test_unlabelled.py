"""Data without labels: a flat folder, an archive or a table without them, and labels that are left aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tocsin.data import load, write_subset
from tocsin.data.dataset import UNLABELLED
from tocsin.decisions import write_manifest
from tocsin.errors import InputError
from tocsin.runtime import Runtime

Put = Callable[..., np.ndarray]


@pytest.fixture
def flat(tmp_path: Path, put: Put) -> Path:
    for k in range(4):
        put(tmp_path / "flat" / f"{k}.png", np.full((8, 8, 3), (40 * k, 90, 10), np.uint8))
    (tmp_path / "flat" / "notes.txt").write_text("no picture")
    return tmp_path / "flat"


def check(data, count: int) -> None:
    assert data.classes == (UNLABELLED,)
    assert not data.labelled
    assert data.labels.tolist() == [0] * count
    assert data.unlabelled() is data


def test_a_flat_folder_needs_no_class_folders(flat: Path, runtime: Runtime) -> None:
    data = load(flat, unlabelled=True, runtime=runtime)
    check(data, 4)
    assert data.ids.tolist() == [f"{k}.png" for k in range(4)]
    assert data.layout == "flat"
    assert data.notes == ("1 file ignored, not a picture",)
    with pytest.raises(InputError, match=r"lie directly in it.*unlabelled=True"):
        load(flat, runtime=runtime)


def test_class_folders_are_only_folders(two_classes: Path, put: Put, runtime: Runtime) -> None:
    put(two_classes / "beside.png", np.zeros((8, 8, 3), np.uint8))
    data = load(two_classes, unlabelled=True, runtime=runtime)
    check(data, 7)
    known = load(two_classes, runtime=runtime)
    assert set(known.ids) < set(data.ids)
    assert known.unlabelled().fingerprint == data[data.ids != "beside.png"].fingerprint


def test_splits_and_empty_folders_are_told(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    for name in ("train", "test"):
        put(tmp_path / "both" / name / "0.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="look like splits"):
        load(tmp_path / "both", unlabelled=True, runtime=runtime)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in it"):
        load(tmp_path / "empty", unlabelled=True, runtime=runtime)


def test_an_archive_without_labels(tmp_path: Path, runtime: Runtime) -> None:
    x = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xy.npz", x=x, y=np.zeros(5, int), classes=np.array(["only"]))
    for name in ("x.npz", "xy.npz"):  # of one class alone, which a labelled set may not be
        data = load(tmp_path / name, unlabelled=True, runtime=runtime)
        check(data, 5)
        assert np.array_equal(data.inputs, x)
    with pytest.raises(InputError, match="no array of labels"):
        load(tmp_path / "x.npz", runtime=runtime)
    np.savez(tmp_path / "rows.npz", x=np.zeros((5, 3), np.float32))
    with pytest.raises(InputError, match="rows of a table"):
        load(tmp_path / "rows.npz", unlabelled=True, runtime=runtime)


def test_a_list_of_paths_without_labels(flat: Path, tmp_path: Path, runtime: Runtime) -> None:
    data = load(flat, unlabelled=True, runtime=runtime)
    keep = np.array([True, False, True, True])
    kept = write_manifest(data, keep, tmp_path / "kept.csv")
    assert kept.read_text().split() == ["path", "0.png", "2.png", "3.png"]
    again = load(kept, root=flat, unlabelled=True, runtime=runtime)
    check(again, 3)
    assert np.array_equal(again.inputs, data.inputs[keep])
    with pytest.raises(InputError, match="no label column"):
        load(kept, root=flat, runtime=runtime)


def test_arrays_and_data_sets_in_memory(runtime: Runtime) -> None:
    x = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)
    y = np.arange(6) % 2
    check(load(x, unlabelled=True, runtime=runtime), 6)
    check(load(x, y, unlabelled=True, runtime=runtime), 6)
    check(load(load(x, y, runtime=runtime), unlabelled=True), 6)
    check(load([(row[..., None], label) for row, label in zip(x, y, strict=True)], unlabelled=True, runtime=runtime), 6)
    check(load(np.zeros((6, 800), np.int16), rate=8000, unlabelled=True, runtime=runtime), 6)
    with pytest.raises(InputError, match="unlabelled: pictures or sounds"):
        load(np.zeros((6, 3), np.float32), kind="table", unlabelled=True, runtime=runtime)


def test_copies_keep_what_was_read(flat: Path, tmp_path: Path, runtime: Runtime) -> None:
    keep = np.array([True, True, False, True])
    copy = write_subset(load(flat, unlabelled=True, runtime=runtime), keep, tmp_path / "copy")
    assert sorted(path.name for path in copy.iterdir()) == ["0.png", "1.png", "3.png"]
    x = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    arrays = write_subset(load(x, unlabelled=True, runtime=runtime), keep, tmp_path / "arrays.npz")
    with np.load(arrays) as stored:
        assert stored.files == ["x"]
    np.savez(tmp_path / "xy.npz", x=x, y=np.arange(4))
    again = write_subset(load(tmp_path / "xy.npz", unlabelled=True, runtime=runtime), keep, tmp_path / "part.npz")
    with np.load(again) as stored:  # labels that were left aside are still there
        assert stored["y"].tolist() == [0, 1, 3]
