"""Tables of paths and labels, and the cells in them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.data import load
from tocsin.data.cells import RISKY, defuse, restore, write_csv
from tocsin.errors import InputError
from tocsin.runtime import Runtime

Put = Callable[..., np.ndarray]


@pytest.fixture
def pictures(tmp_path: Path, put: Put) -> Path:
    """A folder with pictures/0.png ... 3.png below it, and one picture outside."""
    for k in range(4):
        put(tmp_path / "set" / "pictures" / f"{k}.png")
    put(tmp_path / "outside.png")
    return tmp_path / "set"


def _table(folder: Path, text: str, name: str = "table.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


FOUR = "".join(f"pictures/{k}.png,{'ab'[k % 2]}\n" for k in range(4))


@pytest.mark.parametrize("header", ["path,label", "file_name,class", "Image,Target", "\ufefffilepath,LABEL"])
def test_reads_a_manifest(pictures: Path, runtime: Runtime, header: str) -> None:
    data = load(_table(pictures, f"{header}\n{FOUR}"), runtime=runtime)
    assert data.classes == ("a", "b")
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.ids.tolist() == [f"pictures/{k}.png" for k in range(4)]
    assert (data.layout, data.root, data.notes) == ("manifest", pictures.resolve(), ())


@pytest.mark.parametrize("delimiter", [";", "\t", ", "])
def test_other_delimiters_and_columns(pictures: Path, runtime: Runtime, delimiter: str) -> None:
    text = "id,path,label\n" + "".join(f"{k},pictures/{k}.png,{'ab'[k % 2]}\n" for k in range(4))
    data = load(_table(pictures, text.replace(",", delimiter)), runtime=runtime)
    assert (len(data), data.classes) == (4, ("a", "b"))


def test_reads_a_metadata_folder(pictures: Path, runtime: Runtime) -> None:
    _table(pictures, f"file_name,label\n{FOUR}", "metadata.csv")
    data = load(pictures, runtime=runtime)
    assert (data.layout, data.source, len(data)) == ("metadata", pictures.resolve(), 4)


def test_whole_numbers_as_labels(pictures: Path, runtime: Runtime) -> None:
    table = _table(pictures, "path,label\npictures/0.png,10\npictures/1.png,9\npictures/2.png,10\n")
    assert load(table, runtime=runtime).classes == ("9", "10")
    named = load(_table(pictures, "path,label\npictures/0.png,1\npictures/1.png,0\n"), classes=["no", "yes"], runtime=runtime)
    assert (named.classes, named.labels.tolist()) == (("no", "yes"), [1, 0])


def test_paths_that_lead_out_are_left_out(pictures: Path, runtime: Runtime) -> None:
    (pictures / "link.png").symlink_to(pictures.parent / "outside.png")
    (pictures / "up").symlink_to(pictures.parent)
    escapes = [
        "../outside.png",
        str(pictures.parent / "outside.png"),
        "link.png",
        "up/outside.png",
        "pictures/../../outside.png",
        "C:\\x.png",
    ]
    data = load(_table(pictures, f"path,label\n{FOUR}" + "".join(f"{path},a\n" for path in escapes)), runtime=runtime)
    assert len(data) == 4
    said = "\n".join(data.notes)
    assert "4 rows left out, the path leads out of the table's folder" in said
    assert "2 rows left out, a link leads out of the table's folder: link.png, up/outside.png" in said


def test_missing_files_and_repeated_rows_are_listed(pictures: Path, runtime: Runtime) -> None:
    text = f"path,label\n{FOUR}gone.png,a\n./pictures/0.png,a\npictures,b\n"
    data = load(_table(pictures, text), runtime=runtime)
    assert len(data) == 4
    assert set(data.notes) == {
        "1 row left out, no such file: gone.png",
        "1 row left out, the same file is named twice: pictures/0.png",
        "1 row left out, no regular file: pictures",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n", ["no rows"]),
        ("", ["no path column"]),
        (FOUR, ["no path column", "allowed", "file_name"]),
        ("path,size\nx,1\n", ["no label column"]),
        ("path,label\nx\n", ["too few cells in line 2"]),
        (f"path,label\n{FOUR}pictures/0.png,\n", ["missing in row 6"]),
        (f"path,label\n{FOUR}pictures/0.png,-1\n", ["negative in row 6"]),
        (f"path,label\n{FOUR}pictures/0.png,b\n", ["different labels", "pictures/0.png (rows 2 and 6)"]),
        ("path,label\npictures/0.png,a\npictures/1.png,a\n", ["one class"]),
        ("path,label\n../a.png,a\ngone.png,b\n", ["none of its 2 paths"]),
        (f"path,label\nx,{'y' * 200_000}\n", ["not a CSV table"]),
        (f"path,label\nx,{'y' * 1000}\n", ["longer than 256"]),
    ],
)
def test_mistakes_are_named(pictures: Path, runtime: Runtime, text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as told:
        load(_table(pictures, text), runtime=runtime)
    assert all(word in str(told.value) for word in words), told.value


def test_a_table_that_is_not_utf8(pictures: Path, runtime: Runtime) -> None:
    (pictures / "table.csv").write_bytes(b"path,label\npictures/\xe9.png,a\n")
    with pytest.raises(InputError, match="UTF-8"):
        load(pictures / "table.csv", runtime=runtime)


def test_root_is_named_by_the_person(pictures: Path, tmp_path: Path, runtime: Runtime) -> None:
    table = _table(tmp_path, f"path,label\n{FOUR}")
    with pytest.raises(InputError, match="none of its 4 paths"):
        load(table, runtime=runtime)
    assert len(load(table, root=pictures, runtime=runtime)) == 4


def test_a_class_without_a_readable_file_is_none(pictures: Path, runtime: Runtime) -> None:
    (pictures / "bad.png").write_bytes(b"x")
    data = load(_table(pictures, f"path,label\n{FOUR}bad.png,A\n"), runtime=runtime)
    assert data.classes == ("a", "b")
    assert data.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("labels", [["a", "b", "a", "b"], [3, 5, 3, 5], [3.0, 5.0, 3.0, 5.0]])
def test_reads_parquet(pictures: Path, runtime: Runtime, labels: list) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": [f"pictures/{k}.png" for k in range(4)], "label": labels}), pictures / "t.parquet")
    data = load(pictures / "t.parquet", runtime=runtime)
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.classes == (("a", "b") if labels[0] == "a" else ("3", "5"))


def test_parquet_mistakes(pictures: Path, runtime: Runtime) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [f"pictures/{k}.png" for k in range(4)]
    for columns, word in (
        ({"path": paths, "label": [1, None, 0, 1]}, "missing in row 1"),
        ({"path": paths, "label": [1, -1, 0, 1]}, "negative in row 1"),
        ({"path": paths, "label": [[1], [0], [0], [1]]}, "neither text nor a number"),
        ({"path": [1, 2, 3, 4], "label": [1, 1, 0, 1]}, "no text"),
        ({"x": paths}, "no path column"),
    ):
        parquet.write_table(pyarrow.table(columns), pictures / "t.parquet")
        with pytest.raises(InputError, match=word):
            load(pictures / "t.parquet", runtime=runtime)
    (pictures / "t.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="not a readable parquet"):
        load(pictures / "t.parquet", runtime=runtime)


def test_parquet_without_pyarrow_says_what_to_install(pictures: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    (pictures / "t.parquet").write_bytes(b"PAR1PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install tocsin\[parquet\]"):
        load(pictures / "t.parquet", runtime=runtime)


def test_cells_that_look_like_formulas_round_trip(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    names = ["=1+1.png", "'=x.png", "-a.png", "@b.png", " blank.png", "new\nline.png", 'quo"te.png', "com,ma.png"]
    labels = ["=cmd|x", "-1", "'+", " a", "b", "@c", "nan-like", "d"]
    for name in names:
        put(tmp_path / name)
    write_csv(tmp_path / "t.csv", ("path", "label"), list(zip(names, labels, strict=True)))
    assert not any(line.startswith(('"=', '"-', '"@')) for line in (tmp_path / "t.csv").read_text().splitlines())
    data = load(tmp_path / "t.csv", runtime=runtime)
    assert data.ids.tolist() == names
    assert [data.classes[k] for k in data.labels] == labels


def test_foreign_tables_may_hold_apostrophes(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    for name in ("'=a.png", "b.png"):
        put(tmp_path / name)
    data = load(_table(tmp_path, "path,label\n'=a.png,x\nb.png,y\n"), runtime=runtime)
    assert data.ids.tolist() == ["'=a.png", "b.png"]


@given(st.text(max_size=8) | st.text(alphabet=RISKY + "a", max_size=4))
def test_defusing_is_exact(cell: str) -> None:
    safe = defuse(cell)
    assert restore(safe) == cell
    assert not safe or safe[0] not in RISKY or safe[0] == "'"


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_csv_files_are_exact(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_csv(path, ("a", "b"), rows)
    with open(path, encoding="utf-8", newline="") as file:
        read = [tuple(restore(cell) for cell in row) for row in csv.reader(file)]
    assert read == [("a", "b"), *rows]
