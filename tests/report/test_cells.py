from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.data.cells import restore
from tocsin.errors import InputError
from tocsin.report.cells import read_csv, to_csv

TEXT = st.text(alphabet=st.one_of(st.sampled_from("=+-@\t\r\n'\",; "), st.characters(exclude_categories=["Cs"], exclude_characters="\0")))


@given(st.lists(st.tuples(TEXT, st.integers(), st.booleans()), max_size=8))
def test_csv_round_trip(rows: list[tuple[str, int, bool]]) -> None:
    text = to_csv(("id", "rank", "flagged"), rows)
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert [(restore(a), int(b), c == "true") for a, b, c in back[1:]] == rows
    assert all(not cell or cell[0] not in "=+@\t\r" for row in back for cell in row)


@pytest.mark.parametrize(("separator", "mark"), [(",", ""), (";", "\ufeff"), ("\t", "\ufeff")])
def test_files_that_a_spreadsheet_saved_again_are_read(tmp_path: Path, separator: str, mark: str) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(f"{mark}ID{separator}Decision\r\n'=a.png{separator}keep\r\n\r\n", encoding="utf-8", newline="")
    assert read_csv(path) == (["id", "decision"], [["=a.png", "keep"]])


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_bytes(b"id,decision\n\xe9.png,keep\n")
    assert read_csv(path)[1][0][0].encode("utf-8", "surrogateescape") == b"\xe9.png"


@pytest.mark.parametrize("content", [b"", b'id,decision\n"a', b"id,decision\na\n", b"id\n" + b"x" * 200_000 + b"\n"])
def test_broken_tables_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "decisions.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"decisions\.csv"):
        read_csv(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_csv(tmp_path / "none.csv")
