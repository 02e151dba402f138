"""Copies: byte for byte where nothing changed, lossless where something did, and the source as it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tocsin.data import load, manifest_of, read_manifest, write, write_copy, write_subset
from tocsin.data.cells import write_csv
from tocsin.data.dataset import Dataset
from tocsin.errors import AuditIncomplete, InputError
from tocsin.runtime import Runtime

Put = Callable[..., np.ndarray]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@dataclass
class Poisoned:
    dataset: Dataset
    planted: np.ndarray
    covers: np.ndarray
    recipe: dict[str, Any] = field(default_factory=lambda: {"attack": "badnet", "seed": 3})
    learned: dict[str, np.ndarray] = field(default_factory=dict)


def poisoned(data: Dataset, planted: list[int], covers: list[int], target: int) -> Poisoned:
    """Inverts the pixels of planted and cover rows; planted ones get the target's label."""
    rows = planted + covers
    inputs, labels = np.array(data.inputs), data.labels.copy()
    inputs[rows] = 255 - inputs[rows]
    labels[planted] = target
    return Poisoned(replace(data, inputs=inputs, labels=labels), np.array(planted, np.int64), np.array(covers, np.int64))


@pytest.fixture
def jpegs(tmp_path: Path, put: Put) -> Path:
    """JPEGs in class folders, one below a deeper folder, names that occur in both classes."""
    root = tmp_path / "root"
    for name in ("a", "b"):
        for k in range(4):
            put(root / name / f"{k}.jpg")
    put(root / "a" / "deep" / "9.jpg")
    return root


def _as_folder(root: Path) -> Path:
    return root


def _as_metadata(root: Path) -> Path:
    write_csv(
        root / "metadata.csv", ("file_name", "label"), [(str(p.relative_to(root)), p.parts[-2][0]) for p in sorted(root.rglob("*.jpg"))]
    )
    return root


def _as_csv(root: Path) -> Path:
    _as_metadata(root)
    (root / "metadata.csv").rename(root / "list.csv")
    return root / "list.csv"


def _as_parquet(root: Path) -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files = sorted(root.rglob("*.jpg"))
    table = {"path": [str(p.relative_to(root)) for p in files], "label": [p.parts[-2][0] for p in files]}
    parquet.write_table(pyarrow.table(table), root / "list.parquet")
    return root / "list.parquet"


LAYOUTS = [_as_folder, _as_metadata, _as_csv, _as_parquet]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_poisoned_copy_of_files(jpegs: Path, tmp_path: Path, runtime: Runtime, layout: Callable[[Path], Path]) -> None:
    data = load(layout(jpegs), runtime=runtime)
    before = snapshot(jpegs)
    planted = [row for row in range(len(data)) if data.labels[row] == 0][:3]
    cover = int(np.flatnonzero(data.labels == 1)[0])
    copy = poisoned(data, planted, [cover], target=1)
    path = write(copy, tmp_path / "copy")
    assert snapshot(jpegs) == before
    back = load(path, runtime=runtime)
    assert (back.layout, back.classes, len(back)) == (data.layout, data.classes, len(data))
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest_of(path) == copy.recipe
    place = {str(name): row for row, name in enumerate(back.ids)}
    for row, name in zip(planted, manifest["planted"], strict=True):
        assert name.endswith(".png")
        assert np.array_equal(back.inputs[place[name]], copy.dataset.inputs[row])
        assert back.labels[place[name]] == 1
    assert len(manifest["covers"]) == 1
    assert np.array_equal(back.inputs[place[manifest["covers"][0]]], copy.dataset.inputs[cover])
    untouched = {str(data.ids[row]) for row in range(len(data)) if row not in [*planted, cover]}
    after = snapshot(tmp_path / "copy")
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    assert set(back.ids) == untouched | set(manifest["planted"]) | set(manifest["covers"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subset_of_files_is_byte_for_byte(jpegs: Path, tmp_path: Path, runtime: Runtime, layout: Callable[[Path], Path]) -> None:
    data = load(layout(jpegs), runtime=runtime)
    keep = np.arange(len(data)) % 2 == 0
    back = load(write_subset(data, keep, tmp_path / "copy"), runtime=runtime)
    assert back.ids.tolist() == data.ids[keep].tolist()
    assert back.fingerprint == data[keep].fingerprint
    before, after = snapshot(jpegs), snapshot(tmp_path / "copy")
    assert all(after[name] == before[name] for name in back.ids)
    assert len(after) == len(back) + (layout is not _as_folder)


def test_resized_data_is_written_whole_at_the_loaded_size(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    for k in range(6):
        put(tmp_path / "root" / "ab"[k % 2] / f"{k}.jpg", shape=(20 + k, 20, 3))
    data = load(tmp_path / "root", runtime=runtime)
    assert data.resized
    copy = poisoned(data, [0], [], target=1)
    path = write(copy, tmp_path / "copy")
    back = load(path, runtime=runtime)
    assert {Image.open(path / name).size for name in back.ids} == {(20, 20)} or {Image.open(path / n).size for n in back.ids} == {(21, 21)}
    assert all(name.endswith(".png") for name in back.ids)
    assert not back.resized
    assert sorted(row.tobytes() for row in back.inputs) == sorted(row.tobytes() for row in copy.dataset.inputs)
    manifest = read_manifest(path)
    assert manifest is not None
    assert "all rows written as PNG" in manifest["written"]


def test_new_names_never_collide(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    for name in ("a/0.jpg", "a/0.png", "a/1.png", "b/0.png", "b/0-1.png", "b/1.PNG", "b/0.jpg"):
        put(tmp_path / "root" / name, np.full((8, 8, 3), hash(name) % 256, np.uint8))
    data = load(tmp_path / "root", runtime=runtime)
    copy = poisoned(data, [int(k) for k in np.flatnonzero(data.labels == 0)], [], target=1)
    copy.dataset.labels[0] = 0
    back = load(write(copy, tmp_path / "copy"), runtime=runtime)
    assert len(back) == len(data)
    assert len({name.casefold() for name in back.ids.tolist()}) == len(data)


def _zip_of(path: Path, data: Dataset) -> Path:
    np.savez(
        path, x=data.inputs.astype(np.float32) / 255, y=data.labels.astype(np.int8), classes=np.array(data.classes), note=np.array("hi")
    )
    return path


def small(n: int = 12) -> Dataset:
    return Dataset.of_arrays(np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8), np.arange(n) % 3, ("a", "<b>", "=c"))


@pytest.mark.parametrize("name", ["copy.npz", "folder"])
def test_a_poisoned_copy_of_an_archive(tmp_path: Path, name: str) -> None:
    data = load(_zip_of(tmp_path / "source.npz", small()))
    before = (tmp_path / "source.npz").read_bytes()
    copy = poisoned(data, [0, 3], [4], target=2)
    path = write(copy, tmp_path / name)
    assert path == (tmp_path / "copy.npz" if name == "copy.npz" else tmp_path / "folder" / "source.npz")
    back = load(path)
    assert np.array_equal(back.inputs, copy.dataset.inputs)
    assert np.array_equal(back.labels, copy.dataset.labels)
    assert back.classes == data.classes
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest["planted"], manifest["covers"], manifest["recipe"]) == (["0", "3"], ["4"], copy.recipe)
    assert (tmp_path / "source.npz").read_bytes() == before


def test_a_subset_of_an_archive_keeps_its_own_form(tmp_path: Path) -> None:
    data = load(_zip_of(tmp_path / "source.npz", small()))
    keep = np.arange(12) % 4 != 0
    part = data[np.arange(12) != 5]  # rows are found by id, also in a part
    path = write_subset(part, np.delete(keep, 5), tmp_path / "copy.npz")
    keep[5] = False
    with np.load(path) as got, np.load(tmp_path / "source.npz") as source:
        assert got["x"].dtype == np.float32
        assert np.array_equal(got["x"], source["x"][keep])
        assert np.array_equal(got["y"], source["y"][keep])
        assert got["y"].dtype == np.int8
        assert (got["classes"].tolist(), str(got["note"])) == (source["classes"].tolist(), "hi")
    assert load(path).classes == data.classes


def test_arrays_become_an_archive(tmp_path: Path) -> None:
    data = small()
    back = load(write(data, tmp_path / "out"))
    assert back.fingerprint == data.fingerprint


@pytest.mark.parametrize("where", ["file", "folder", "inside", "same", "npz"])
def test_nothing_is_overwritten(jpegs: Path, tmp_path: Path, runtime: Runtime, where: str) -> None:
    data: Dataset = load(jpegs, runtime=runtime)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "old.npz").write_text("mine")
    places = {"file": "file", "folder": "folder", "inside": "root/a/copy", "same": "root", "npz": "old.npz"}
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="destination"):
        write(small() if where == "npz" else data, tmp_path / places[where])
    assert snapshot(tmp_path) == before


def test_an_empty_folder_and_missing_parents_are_fine(jpegs: Path, tmp_path: Path, runtime: Runtime) -> None:
    data = load(jpegs, runtime=runtime)
    (tmp_path / "empty").mkdir()
    assert len(load(write(data, tmp_path / "empty"), runtime=runtime)) == len(data)
    assert len(load(write(data, tmp_path / "x" / "y"), runtime=runtime)) == len(data)


@pytest.mark.parametrize("target", ["copyfile", "savez"])
def test_a_full_disk_leaves_nothing(jpegs: Path, tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    calls = []
    real = shutil.copyfile

    def full(*arguments: Any, **_: Any) -> None:
        calls.append(arguments)
        if len(calls) > 2 or target == "savez":
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))  # as sendfile does: it names the source
        real(*arguments)

    data = load(jpegs, runtime=runtime) if target == "copyfile" else small()
    before = snapshot(tmp_path)
    monkeypatch.setattr({"copyfile": shutil, "savez": np}[target], target, full)
    with pytest.raises(AuditIncomplete, match="No space left on device"):
        write(data, tmp_path / "copy")
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["root"]


def test_a_source_that_changed_is_an_input_error(jpegs: Path, tmp_path: Path, runtime: Runtime) -> None:
    data = load(jpegs, runtime=runtime)
    (jpegs / "a" / "0.jpg").unlink()
    with pytest.raises(InputError, match="changed since it was read"):
        write(data, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png"])
def test_ids_never_lead_out(jpegs: Path, tmp_path: Path, runtime: Runtime, name: str) -> None:
    data = load(jpegs, runtime=runtime)
    ids = data.ids.astype("<U64")
    ids[0] = name
    with pytest.raises(InputError, match="not paths below"):
        write(replace(data, ids=ids), tmp_path / "copy")


def test_folders_whose_names_are_no_text(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    put(tmp_path / "root" / "a" / "0.png")
    put(tmp_path / "root" / "a" / "1.png")
    odd = os.fsencode(tmp_path / "root") + b"/caf\xe9"
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("this file system takes only valid names")
    put(tmp_path / "b.png")
    os.rename(tmp_path / "b.png", odd + b"/0.png")
    data = load(tmp_path / "root", runtime=runtime)
    copy = poisoned(data, [1], [], target=1)
    back = load(write(copy, tmp_path / "copy"), runtime=runtime)
    assert back.classes == data.classes
    assert back.class_counts.tolist() == [1, 2]


def test_links_become_files(tmp_path: Path, two_classes: Path, runtime: Runtime) -> None:
    (two_classes / "cat" / "link.png").symlink_to("0.png")
    path = write(load(two_classes, runtime=runtime), tmp_path / "copy")
    assert not (path / "cat" / "link.png").is_symlink()
    assert (path / "cat" / "link.png").read_bytes() == (two_classes / "cat" / "0.png").read_bytes()


def test_manifests_that_are_not_ours(jpegs: Path) -> None:
    assert read_manifest(jpegs) is None
    assert manifest_of(jpegs) is None
    for text in ("{", "[]", json.dumps({"recipe": 3}), "[" * 100_000):
        (jpegs / "tocsin-poison.json").write_text(text)
        with pytest.raises(InputError, match="not a manifest"):
            read_manifest(jpegs)


def test_mistakes(jpegs: Path, tmp_path: Path, runtime: Runtime) -> None:
    data = load(jpegs, runtime=runtime)
    with pytest.raises(InputError, match="no sample is kept"):
        write_subset(data, np.zeros(len(data), bool), tmp_path / "copy")
    with pytest.raises(InputError, match="must agree"):
        write_copy(data, data[1:], tmp_path / "copy", np.zeros(len(data), bool), {})


@settings(max_examples=12, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
            lambda name: name[0] != "." and name != "__MACOSX"
        ),
        min_size=2,
        max_size=4,
        unique_by=lambda name: name.casefold(),
    ),
    layout=st.sampled_from(["folder", "manifest"]),
    rows=st.data(),
)
def test_any_names_survive_a_copy(tmp_path_factory: pytest.TempPathFactory, names: list[str], layout: str, rows: st.DataObject) -> None:
    tmp = tmp_path_factory.mktemp("any")
    runtime = Runtime(cache=tmp / "cache")
    rng = np.random.default_rng(0)
    root = tmp / "root"
    for name in names:
        (root / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(root / name / f"{k}.bmp")
    if {name.lower() for name in names} <= {"train", "test", "dev", "val", "valid", "validation", "training", "testing"}:
        return
    data = load(root, runtime=runtime)
    if layout == "manifest":
        if any(name.strip() in ("", "nan", "NaN", "null") for name in names):
            return
        write_csv(root / "t.csv", ("path", "label"), [(str(i), data.classes[k]) for i, k in zip(data.ids, data.labels, strict=True)])
        data = load(root / "t.csv", runtime=runtime)
    assert sorted(data.classes) == sorted(names)
    planted = sorted(rows.draw(st.sets(st.integers(0, len(data) - 1), min_size=1, max_size=2)))
    copy = poisoned(data, planted, [], target=len(names) - 1)
    if np.bincount(copy.dataset.labels, minlength=len(names)).min() == 0:
        return
    path = write(copy, tmp / "copy")
    back = load(path, runtime=runtime)
    assert back.classes == data.classes
    truth = sorted((row.tobytes(), int(label)) for row, label in zip(copy.dataset.inputs, copy.dataset.labels, strict=True))
    assert sorted((row.tobytes(), int(label)) for row, label in zip(back.inputs, back.labels, strict=True)) == truth
    manifest = read_manifest(path)
    assert manifest is not None
    assert set(manifest["planted"]) <= set(back.ids.tolist())
