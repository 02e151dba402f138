"""Copies of tables: what did not change stays as it stood in the source, and what is read again is what was written."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.data import load, manifest_of, read_manifest, write_copy, write_subset
from tocsin.data.cells import restore
from tocsin.data.dataset import Dataset
from tocsin.data.ember import CLASSES, TRAIN, feature_names
from tocsin.data.ember_shaped import EmberShaped
from tocsin.data.rows import Rows, replaced
from tocsin.errors import InputError
from tocsin.runtime import Runtime

ROWS = 60
RNG = np.random.default_rng(0)


def columns() -> dict[str, list[Any]]:
    return {
        "": [str(k) for k in range(ROWS)],
        "size": [str(k * 1000) for k in range(ROWS)],
        "ratio": [repr(float(value)) for value in RNG.random(ROWS)],
        "ratio2": ["1.50" if k % 2 else "NA" for k in range(ROWS)],
        "=packer": [["upx", "=cmd|x", "'odd", "-5", "?"][k % 5] for k in range(ROWS)],
        "sha": [f"hash-{k}" for k in range(ROWS)],
        "verdict": [["1.0", "0.0", ""][k % 3] for k in range(ROWS)],
    }


def as_csv(folder: Path) -> Path:
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(columns())
        writer.writerows(zip(*columns().values(), strict=True))
    return folder / "t.csv"


def as_parquet(folder: Path) -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = columns()
    when = pyarrow.array([None if k % 4 == 0 else k * 10**9 for k in range(ROWS)], pyarrow.timestamp("ns"))
    table = pyarrow.table(
        {
            "size": pyarrow.array([int(cell) for cell in texts["size"]], pyarrow.int32()),
            "ratio": pyarrow.array([float(cell) for cell in texts["ratio"]]),
            "flag": pyarrow.array([None if k % 7 == 0 else k % 2 == 0 for k in range(ROWS)]),
            "=packer": pyarrow.array(texts["=packer"]).dictionary_encode(),
            "when": when,
            "sha": texts["sha"],
            "verdict": pyarrow.array([None if cell == "" else int(float(cell)) for cell in texts["verdict"]], pyarrow.int8()),
        }
    )
    parquet.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


def as_npz(folder: Path) -> Path:
    x = RNG.integers(0, 2**40, (ROWS, 4)).astype(np.uint64)
    np.savez(folder / "t.npz", X=x, verdict=np.zeros(3), y=np.arange(ROWS) % 3 + 4, features=list("abcd"), name=np.arange(ROWS).astype(str))
    return folder / "t.npz"


def as_ember(folder: Path) -> Path:
    (folder / "e").mkdir()
    RNG.random((ROWS, 2381), np.float32).tofile(folder / "e" / TRAIN)
    (np.arange(ROWS) % 3 - 1).astype(np.float32).tofile(folder / "e" / "y_train.dat")
    return folder / "e"


FORMS = [as_csv, as_parquet, as_npz, as_ember]


def read(path: Path, folder: Path) -> Dataset:
    named = path.suffix in (".csv", ".parquet")
    return load(path, label="verdict" if named else None, runtime=Runtime(cache=folder / "cache"))


def values(data: Dataset) -> list[list[Any]]:
    """The cells as what they stand for."""
    assert data.columns is not None
    return [
        [None if np.isnan(cell) else column.levels[int(cell)] if column.levels else cell for cell in np.asarray(data.inputs)[:, k].tolist()]
        for k, column in enumerate(data.columns)
    ]


def same(a: Dataset, b: Dataset) -> bool:
    names = [[column.name for column in data.columns or ()] for data in (a, b)]
    classes = [[data.classes[k] for k in data.labels] for data in (a, b)]
    return names[0] == names[1] and classes[0] == classes[1] and values(a) == values(b) and a.inputs.dtype == b.inputs.dtype


def changed(data: Dataset, rows: list[int]) -> Dataset:
    """Other cells and the other class in ``rows``."""
    cells = np.asarray(data.inputs[np.array(rows)]).copy()
    for k, column in enumerate(data.columns or ()):
        cells[:, k] = 0 if column.levels else 3000.0
    cells[0, -1] = np.nan if data.layout != "npz" else 3000.0
    labels = data.labels.copy()
    labels[rows] = (labels[rows] + 1) % len(data.classes)
    return replace(data, inputs=replaced(data.inputs, np.array(rows), cells), labels=labels)


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_written_again_is_the_same(tmp_path: Path, form: Any) -> None:
    data = read(form(tmp_path), tmp_path)
    path = write_subset(data, np.ones(len(data), bool), tmp_path / "out")
    again = read(path, tmp_path)
    assert again.layout == data.layout
    assert same(data, again)
    assert write_subset(again, np.ones(len(again), bool), tmp_path / "out2").name == path.name.replace("out", "out2")


@pytest.mark.parametrize("form", FORMS)
def test_a_part(tmp_path: Path, form: Any) -> None:
    data = read(form(tmp_path), tmp_path)
    keep = np.arange(len(data)) % 4 != 1
    again = read(write_subset(data, keep, tmp_path / "out"), tmp_path)
    assert values(again) == values(data[keep])
    assert again.ids.tolist() == [str(k) for k in range(int(keep.sum()))]


@pytest.mark.parametrize("form", FORMS)
def test_a_poisoned_copy(tmp_path: Path, form: Any) -> None:
    data = read(form(tmp_path), tmp_path)
    rows = [2, 7, len(data) - 1]
    marks = np.isin(np.arange(len(data)), rows)
    copy = changed(data, rows)
    recipe = {"recipe": {"attack": "x"}, "planted": np.array(rows[:2]), "covers": np.array(rows[2:])}
    path = write_copy(data, copy, tmp_path / "out", marks, recipe)
    again = read(path, tmp_path)
    assert same(copy, again)
    manifest = read_manifest(path)
    assert manifest is not None
    assert [again.ids.tolist().index(name) for name in manifest["planted"] + manifest["covers"]] == rows
    assert (manifest["written"], manifest_of(path)) == (data.layout, {"attack": "x"})


def test_a_csv_keeps_what_no_feature_is_made_of(tmp_path: Path) -> None:
    data = read(as_csv(tmp_path), tmp_path)
    path = write_subset(data, np.ones(len(data), bool), tmp_path / "copy.csv")
    before, after = ([*csv.reader(open(p, encoding="utf-8", newline=""), delimiter=";")] for p in (tmp_path / "t.csv", path))  # noqa: SIM115
    labelled = [before[0], *(row for row in before[1:] if row[-1])]
    assert [[restore(cell) for cell in row] for row in after] == [[restore(cell) for cell in row] for row in labelled]
    assert not any(cell[0] in "=@" for row in after for cell in row if cell)
    assert after[1][4] == "upx"
    assert after[2][4] == "'=cmd|x"
    assert any(row[4] == "-5" for row in after)


def test_a_parquet_keeps_its_schema_to_the_bit(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    data = read(as_parquet(tmp_path), tmp_path)
    before = parquet.read_table(tmp_path / "t.parquet")
    path = write_copy(data, changed(data, [3]), tmp_path / "copy.parquet", np.arange(len(data)) == 3, {"recipe": {}})
    after = parquet.read_table(path)
    assert after.schema == before.schema
    kept = np.array([cell is not None for cell in before.column("verdict").to_pylist()])
    rest = np.arange(len(data)) != 3
    assert after.filter(rest).to_pydict() == before.filter(kept).filter(rest).to_pydict()


def test_an_archive_keeps_types_and_other_arrays(tmp_path: Path) -> None:
    data = read(as_npz(tmp_path), tmp_path)
    path = write_copy(data, changed(data, [3]), tmp_path / "copy.npz", np.arange(len(data)) == 3, {"recipe": {}})
    before, after = np.load(tmp_path / "t.npz"), np.load(path)
    assert {key: after[key].dtype for key in after} == {key: before[key].dtype for key in before}
    assert after["X"][3].tolist() == [3000] * 4
    assert after["y"][3] == 5
    assert np.array_equal(np.delete(after["X"], 3, 0), np.delete(before["X"], 3, 0))
    assert np.array_equal(after["name"], before["name"])


@pytest.mark.parametrize("form", [as_parquet, as_npz])
def test_types_that_cannot_hold_a_value_are_named(tmp_path: Path, form: Any) -> None:
    data = read(form(tmp_path), tmp_path)
    inputs = np.array(data.inputs)
    inputs[3, 0] = 0.5
    with pytest.raises(InputError, match="cannot hold"):
        write_copy(data, replace(data, inputs=inputs), tmp_path / "out", np.arange(len(data)) == 3, {"recipe": {}})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_source_that_was_cut_off_meanwhile(tmp_path: Path, form: Any) -> None:
    data = read(form(tmp_path), tmp_path)
    if form is as_ember:
        pytest.skip("its rows are read from the map that is still open")
    short = tmp_path / "short"
    short.mkdir()
    part = write_subset(data, np.arange(len(data)) < 10, short)
    assert data.source is not None
    data.source.write_bytes(part.read_bytes())
    with pytest.raises(InputError, match="changed since it was read"):
        write_subset(data, np.ones(len(data), bool), tmp_path / "out")


def test_rows_in_another_order_become_an_archive(tmp_path: Path) -> None:
    data = read(as_csv(tmp_path), tmp_path)[np.arange(20)[::-1]]
    path = write_subset(data, np.ones(20, bool), tmp_path / "out")
    assert path.name == "data.npz"
    assert values(load(path)) == values(data)
    assert load(path).columns == data.columns


CELL = st.one_of(
    st.just(float("nan")),
    st.integers(-(2**53), 2**53).map(float),
    st.floats(width=64, allow_nan=False),
)


@settings(max_examples=40)
@given(
    cells=st.lists(st.tuples(CELL, CELL), min_size=4, max_size=10),
    texts=st.lists(st.text(max_size=4), min_size=2, max_size=4),
    data=st.data(),
)
def test_any_values_come_back(tmp_path_factory: pytest.TempPathFactory, cells: Any, texts: list[str], data: Any) -> None:
    """A text table and an archive of the same rows, other values put into some rows, written and read again."""
    from tocsin.data.columns import MISSING

    folder = tmp_path_factory.mktemp("t")
    words = [text for text in texts if text.strip() == text and text not in MISSING and "\0" not in text] or ["upx"]
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("a", "b", "word", "y"))
        for k, row in enumerate(cells):
            writer.writerow([*("" if np.isnan(cell) else repr(cell) for cell in row), words[k % len(words)], f"class {k % 2}"])
    read_in = load(folder / "t.csv", columns=["a", "b", "word"], runtime=Runtime(cache=folder / "cache"))
    row = data.draw(st.integers(0, len(cells) - 1))
    inputs = np.array(read_in.inputs)
    inputs[row, :2] = data.draw(st.tuples(CELL, CELL))
    copy = replace(read_in, inputs=inputs)
    marks = np.arange(len(cells)) == row
    for number, source in enumerate((read_in, replace(read_in, layout="arrays", source=None, label_column=None))):
        path = write_copy(source, replace(copy, layout=source.layout, source=source.source), folder / f"out{number}", marks, {"recipe": {}})
        again = load(path, columns=["a", "b", "word"], runtime=Runtime(cache=folder / "cache"))
        assert same(again, copy) or (values(again) == values(copy) and again.inputs.dtype == np.float32)  # fewer digits were left


def test_ember_is_never_copied_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.data.rows.LARGE", 1)
    data = read(as_ember(tmp_path), tmp_path)
    assert isinstance(data.inputs, Rows)
    assert not data.inputs.parts[0].flags.owndata
    assert isinstance(data[data.labels == 1].inputs, Rows)
    assert (len(data), data.classes, data.ids[:3].tolist()) == (40, CLASSES, ["1", "2", "4"])
    assert "20 rows without a label left out" in data.notes
    names = [column.name for column in data.columns or ()]
    assert (len(names), len(set(names)), names[616], names[626]) == (2381, 2381, "size", "timestamp")
    assert names == [column.name for column in EmberShaped(version=2).columns]


@pytest.mark.parametrize(("version", "count"), [(1, 2351), (2, 2381)])
def test_ember_versions(version: int, count: int) -> None:
    assert len(feature_names(version)) == count


def test_ember_that_is_no_ember(tmp_path: Path) -> None:
    folder = as_ember(tmp_path)
    for cut, word in ((5, "2,380.9"), (4 * 2381, "2,341.32")):
        size = (folder / TRAIN).stat().st_size
        with open(folder / TRAIN, "r+b") as file:
            file.truncate(size - cut)
        with pytest.raises(InputError, match=rf"{word}.*2,351 or 2,381"):
            load(folder)
        with open(folder / TRAIN, "r+b") as file:
            file.truncate(size)
    np.full(ROWS, 0.5, np.float32).tofile(folder / "y_train.dat")
    with pytest.raises(InputError, match="whole numbers"):
        load(folder)
    np.full(ROWS, -1, np.float32).tofile(folder / "y_train.dat")
    with pytest.raises(InputError, match="no row has a label"):
        load(folder)
    (folder / "y_train.dat").unlink()
    with pytest.raises(InputError, match="is missing"):
        load(folder)
    with pytest.raises(InputError, match="X_train"):
        load(tmp_path, kind="table")


def test_ember_test_set_by_its_own_name(tmp_path: Path) -> None:
    folder = as_ember(tmp_path)
    (folder / TRAIN).rename(folder / "X_test.dat")
    (folder / "y_train.dat").rename(folder / "y_test.dat")
    assert len(load(folder / "X_test.dat")) == 40
