"""Tables of features as other tools write them, to rows of floats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.data import load
from tocsin.data.columns import MISSING, MOST_LEVELS
from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

ROWS = 40


def csv(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def lines(columns: dict[str, list[Any]], delimiter: str = ",") -> str:
    rows = zip(*columns.values(), strict=True)
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [list(columns), *rows])


def small(**more: list[Any]) -> dict[str, list[Any]]:
    """Two classes, a number, a text, and what a test adds."""
    return {
        "size": [10 * k for k in range(ROWS)],
        "packer": [["upx", "none of these", "aspack"][k % 3] for k in range(ROWS)],
        **more,
        "label": [["benign", "malware"][k % 2] for k in range(ROWS)],
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_reads_numbers_and_texts(tmp_path: Path, runtime: Runtime, delimiter: str) -> None:
    data = load(csv(tmp_path, lines(small(), delimiter)), runtime=runtime)
    assert (data.kind, data.layout, data.classes, data.label_column) == ("table", "csv", ("benign", "malware"), "label")
    assert data.columns == (Column("size"), Column("packer", ("aspack", "none of these", "upx")))
    assert data.inputs.dtype == np.float32
    assert data.inputs[:4].tolist() == [[0, 2], [10, 1], [20, 0], [30, 2]]
    assert data.ids[:3].tolist() == ["0", "1", "2"]
    assert (data.notes, data.root) == ((), None)


def test_the_second_reading_is_from_the_cache(tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    table = csv(tmp_path, lines(small(gap=["" if k % 5 == 0 else k / 10 for k in range(ROWS)])))
    first = load(table, runtime=runtime)
    monkeypatch.setattr("tocsin.data.table_sources.CsvTable.batches", None)
    again = load(table, runtime=runtime)
    assert same(first, again)
    assert (again.label_column, again.notes, again.ids.tolist()) == (first.label_column, first.notes, first.ids.tolist())


def same(a: Dataset, b: Dataset) -> bool:
    parts = ((np.asarray(a.inputs), np.asarray(b.inputs)), (a.labels, b.labels))
    equal = all(np.array_equal(x, y, equal_nan=True) and x.dtype == y.dtype for x, y in parts)
    return equal and (a.columns, a.classes, a.kind) == (b.columns, b.classes, b.kind)


@pytest.mark.parametrize(
    ("value", "dtype"), [(2**24, np.float32), (2**24 + 1, np.float64), (0.5, np.float32), (0.1, np.float64), (1e300, np.float64)]
)
def test_float32_where_it_is_exact(tmp_path: Path, runtime: Runtime, value: float, dtype: type) -> None:
    data = load(csv(tmp_path, lines(small(wide=[value] * ROWS))), runtime=runtime)
    assert data.inputs.dtype == dtype
    assert data.inputs[0, 2] == value


def test_numbers_too_wide_for_any_float_are_noted(tmp_path: Path, runtime: Runtime) -> None:
    data = load(csv(tmp_path, lines(small(address=[2**63 + 1025] * ROWS))), runtime=runtime)
    assert any("2^53" in note and "address" in note for note in data.notes)


@pytest.mark.parametrize("empty", sorted(MISSING))
def test_missing_cells_in_all_the_usual_spellings(tmp_path: Path, runtime: Runtime, empty: str) -> None:
    columns = small(gap=[empty if k % 4 == 0 else k for k in range(ROWS)], word=[empty if k % 4 == 1 else "yes" for k in range(ROWS)])
    data = load(csv(tmp_path, lines(columns)), runtime=runtime)
    assert data.columns is not None
    assert [column.levels for column in data.columns[2:]] == [(), ("yes",)]
    assert np.flatnonzero(np.isnan(data.inputs[:, 2])).tolist() == list(range(0, ROWS, 4))
    assert np.flatnonzero(np.isnan(data.inputs[:, 3])).tolist() == list(range(1, ROWS, 4))


def test_columns_that_name_samples_or_number_rows_are_left_out(tmp_path: Path, runtime: Runtime) -> None:
    columns = {"": list(range(3, ROWS + 3)), **small(sha=[f"{k:064x}x" for k in range(ROWS)], constant=[7] * ROWS)}
    data = load(csv(tmp_path, lines(columns)), runtime=runtime)
    assert data.columns is not None
    assert [column.name for column in data.columns] == ["size", "packer", "constant"]
    assert len(data.notes) == 2
    assert any("'sha' left out" in note and "40 different texts" in note for note in data.notes)
    kept = load(csv(tmp_path, lines(columns)), columns=["sha", "size"], runtime=runtime)
    assert [len(column.levels) for column in kept.columns or ()] == [0, ROWS]


def test_too_many_levels_are_left_out(tmp_path: Path, runtime: Runtime) -> None:
    rows = 3 * (MOST_LEVELS + 1)
    columns = {"a": list(range(rows)), "town": [f"town {k % (MOST_LEVELS + 1)}" for k in range(rows)], "y": [k % 2 for k in range(rows)]}
    data = load(csv(tmp_path, lines(columns)), runtime=runtime)
    assert data.columns == (Column("a"),)
    assert "1,001 different texts" in data.notes[0]


def test_names_that_come_twice_or_not_at_all(tmp_path: Path, runtime: Runtime) -> None:
    data = load(csv(tmp_path, "a,a,,y\n1.5,2.5,3.5,0\n4.5,5.5,6.5,1\n"), runtime=runtime)
    assert [column.name for column in data.columns or ()] == ["a", "a (2)", "column 3"]
    assert any("a (2)" in note for note in data.notes)


def test_the_column_of_labels(tmp_path: Path, runtime: Runtime) -> None:
    table = csv(tmp_path, lines(small(**{"Class": [k % 4 for k in range(ROWS)]})))
    data = load(table, runtime=runtime)
    assert data.classes == ("benign", "malware")
    assert any("'label'" in note and "Class stays a feature" in note for note in data.notes)
    other = load(table, label="class", runtime=runtime)
    assert (other.classes, other.label_column) == (("0", "1", "2", "3"), "Class")
    with pytest.raises(InputError, match=r"label: .* no column 'nope'; got size, packer"):
        load(table, label="nope", runtime=runtime)
    with pytest.raises(InputError, match=r"no column '0'.*first line holds numbers"):
        load(csv(tmp_path, "1\t0.5\t3\n0\t1.5\t4\n", "binary.tsv"), label="0", runtime=runtime)  # as LightGBM's examples are


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1], ("0", "1")),
        (["1.0", "0.0"], ("0", "1")),
        ([-1, 1], ("-1", "1")),
        (["yes", "no"], ("no", "yes")),
        ([True, False], ("False", "True")),
    ],
)
def test_labels_as_people_write_them(tmp_path: Path, runtime: Runtime, labels: list[Any], classes: tuple[str, ...]) -> None:
    data = load(csv(tmp_path, lines({"a": list(range(ROWS)), "y": labels * (ROWS // 2)})), runtime=runtime)
    assert data.classes == classes


def test_rows_without_a_label_are_dropped_and_keep_their_numbers(tmp_path: Path, runtime: Runtime) -> None:
    columns = {"a": list(range(ROWS)), "y": ["NaN" if k % 10 == 3 else k % 2 for k in range(ROWS)]}
    data = load(csv(tmp_path, lines(columns)), runtime=runtime)
    assert (len(data), data.classes) == (36, ("0", "1"))
    assert data.ids[:4].tolist() == ["0", "1", "2", "4"]
    assert data.inputs[:4, 0].tolist() == [0, 1, 2, 4]
    assert "4 rows without a label left out: 3, 13, 23, 33" in data.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", ["no label column", "--label"]),
        ("1,2,3\n4,5,6\n", ["no label column", "first line holds numbers"]),
        ("a,y\n", ["no rows"]),
        ("a,y\n1,0\n2\n", ["1 cell in line 3", "has 2"]),
        ("a,y\n1,0\n2,0\n", ["one class"]),
        ("y\n0\n1\n", ["no column of features"]),
        ("row,label\n0,cat\n1,dog\n", ["list of rows", "tocsin apply"]),
        ("a,y\n1,\n2,NA\n", ["no row has a label"]),
        ("a,y\n" + "".join(f"{k},{k / 7}\n" for k in range(1002)), ["more than 1,000 different labels", "--label"]),
        ("a,y\n\x00,1\n2,0\n1,\xff", []),
    ],
)
def test_mistakes_are_named(tmp_path: Path, runtime: Runtime, text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as told:
        load(csv(tmp_path, text), runtime=runtime)
    assert all(word in str(told.value) for word in words), told.value


def test_a_table_with_paths_is_a_manifest_unless_the_person_says_otherwise(tmp_path: Path, runtime: Runtime) -> None:
    table = csv(tmp_path, lines({"path": [f"{k % 3}.exe" for k in range(ROWS)], **small()}))
    with pytest.raises(InputError, match="none of its 40 paths"):
        load(table, runtime=runtime)
    assert [column.name for column in load(table, kind="table", runtime=runtime).columns or ()] == ["path", "size", "packer"]
    with pytest.raises(InputError, match="no path column"):
        load(csv(tmp_path, lines(small())), kind="image", runtime=runtime)


def test_formulas_are_texts(tmp_path: Path, runtime: Runtime) -> None:
    cells = ["=1+1", "@SUM(A1)", "-2+3", "'=2"]
    data = load(csv(tmp_path, lines(small(f=[cells[k % 4] for k in range(ROWS)], n=["-5"] * ROWS))), runtime=runtime)
    assert data.columns is not None
    assert data.columns[2].levels == ("-2+3", "=1+1", "=2", "@SUM(A1)")
    assert (data.inputs[:, 3] == -5).all()


def test_underscores_make_no_numbers(tmp_path: Path, runtime: Runtime) -> None:
    data = load(csv(tmp_path, lines(small(code=["1_000", "2_000"] * (ROWS // 2)))), runtime=runtime)
    assert data.columns is not None
    assert data.columns[2].levels == ("1_000", "2_000")


def test_batches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = csv(tmp_path, lines(small(late=[k if k < 30 else "text" for k in range(ROWS)], gap=["" if k < 20 else k for k in range(ROWS)])))
    whole = load(table, runtime=Runtime(cache=tmp_path / "a"))
    monkeypatch.setattr("tocsin.data.table_sources._BATCH_CELLS", 36)
    assert same(whole, load(table, runtime=Runtime(cache=tmp_path / "b")))


def test_what_pandas_writes(tmp_path: Path, runtime: Runtime) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        small(flag=[k % 3 == 0 for k in range(ROWS)], when=pandas.date_range("2024-01-01", periods=ROWS), real=np.linspace(0, 1, ROWS))
    )
    frame["maybe"] = pandas.array([None if k % 7 == 0 else k for k in range(ROWS)], "Int64")
    frame["kind"] = pandas.Categorical(frame.packer)
    frame.index = np.random.default_rng(0).permutation(ROWS)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.drop(columns="when").to_csv(tmp_path / "t.csv")
    direct, parquet, text = load(frame), load(tmp_path / "t.parquet", runtime=runtime), load(tmp_path / "t.csv", runtime=runtime)
    assert same(direct, parquet)
    names = [column.name for column in text.columns or ()]
    assert names == ["size", "packer", "flag", "real", "maybe", "kind"]
    at = [[column.name for column in direct.columns or ()].index(name) for name in names]
    assert np.array_equal(direct.inputs[:, at], text.inputs, equal_nan=True)
    assert [(direct.columns or ())[k] for k in at] == list(text.columns or ())
    assert same(direct, load(frame.drop(columns="label"), frame["label"]))
    assert (direct.layout, parquet.layout) == ("arrays", "parquet")
    with pytest.raises(InputError, match="5 labels for 40 rows"):
        load(frame.drop(columns="label"), [0, 1, 0, 1, 1])
    zoned = frame.assign(when=frame.when.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    assert same(load(zoned), direct)
    zoned.to_parquet(tmp_path / "zoned.parquet")
    assert same(load(tmp_path / "zoned.parquet", runtime=runtime), direct)
    frame["lists"] = [[1]] * ROWS
    with pytest.raises(InputError, match="'lists': holds lists"):
        load(frame)


def test_what_pyarrow_and_polars_hold(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(small())

    class Polars:
        """The little of a polars frame that is used."""

        columns = table.column_names
        shape = (ROWS, 3)

        def __len__(self) -> int:
            return ROWS

        def get_columns(self) -> list[Any]:
            return [column.to_numpy() for column in table.columns]

    assert same(load(table), load(Polars()))
    assert load(table).classes == ("benign", "malware")


def test_what_polars_holds() -> None:
    polars = pytest.importorskip("polars")
    packers = small()["packer"]
    frame = polars.DataFrame(small(maybe=[None if k % 7 == 0 else k for k in range(ROWS)])).with_columns(
        polars.Series("kind", packers, dtype=polars.Categorical), polars.Series("enum", packers, dtype=polars.Enum(sorted(set(packers))))
    )
    data = load(frame)
    assert [(column.name, len(column.levels)) for column in data.columns or ()] == [
        ("size", 0), ("packer", 3), ("maybe", 0), ("kind", 3), ("enum", 3)
    ]  # fmt: skip
    assert np.isnan(data.inputs).sum() == 6
    assert same(data, load(frame.drop("label"), frame["label"]))
    with pytest.raises(InputError, match=r"lazy frame given; read it first: load\(frame.collect\(\)\)"):
        load(frame.lazy())
    with pytest.raises(InputError, match="'nested': holds lists or records"):
        load(frame.with_columns(polars.Series("nested", [{"a": 1}] * ROWS)))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install tocsin\[parquet\]"):
        load(tmp_path / "t.parquet", runtime=runtime)


@pytest.mark.parametrize("keys", [("X", "y", "features"), ("x", "labels", "columns")])
def test_archives_of_rows(tmp_path: Path, keys: tuple[str, str, str]) -> None:
    x = np.arange(ROWS * 3, dtype=np.uint64).reshape(ROWS, 3)
    arrays = dict(zip(keys, (x, np.arange(ROWS) % 2, np.array(["a", "b", "c"])), strict=True))
    np.savez(tmp_path / "t.npz", **arrays, name=np.arange(ROWS).astype(str))
    data = load(tmp_path / "t.npz")
    assert (data.kind, data.layout, data.inputs.dtype) == ("table", "npz", np.float32)
    assert [column.name for column in data.columns or ()] == ["a", "b", "c"]
    assert data.notes == ("not read from the archive: name",)
    assert [column.name for column in load(tmp_path / "t.npz", columns=["c"]).columns or ()] == ["c"]


def test_arrays_in_memory() -> None:
    x, y = np.random.default_rng(0).random((ROWS, 5)), np.arange(ROWS) % 2
    data = load(x, y)
    assert (data.kind, data.inputs.dtype, data.columns[4].name if data.columns else "") == ("table", np.float64, "column 5")
    with pytest.raises(InputError, match="kind='table'"):
        load((x * 255).astype(np.uint8), y)
    assert load((x * 255).astype(np.uint8), y, kind="table").inputs.dtype == np.float32
    with pytest.raises(InputError, match="array N,F"):
        load(x[0], y, kind="table")


CELLS = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.just(""), st.text(alphabet="ab=-+'@ ;\"\n", max_size=3))


@given(st.lists(st.tuples(CELLS, CELLS), min_size=2, max_size=12))
def test_any_cells_can_be_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, Any]]) -> None:
    import csv as writer

    folder = tmp_path_factory.mktemp("t")
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        writer.writer(file).writerows([("a", "b", "y"), *((*row, k % 2) for k, row in enumerate(rows))])
    data = load(folder / "t.csv", columns=["a", "b"], runtime=Runtime(cache=folder / "cache"))
    assert data.columns is not None
    for k, column in enumerate(data.columns):
        for cell, value in zip([row[k] for row in rows], data.inputs[:, k].tolist(), strict=True):
            text = str(cell).strip()
            if text in MISSING:
                assert np.isnan(value)
            elif column.levels:
                assert column.levels[int(value)] in (text, text[1:])
            else:
                assert value == float(text.removeprefix("'"))
