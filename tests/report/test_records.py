"""Reports on tables: rows instead of pictures, what the suspects share, names that nobody can trust."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.build import HOSTILE, report
from tocsin.data.dataset import Column
from tocsin.report.model import Report
from tocsin.report.page import context, render
from tocsin.report.records import NAMED, SHOWN, ClassShared, cells, pair_text, rule_text, sentences
from tocsin.stats.shared_values import Pair, Rule, Shared


def on_table(flagged: int = 10, names: tuple[str, ...] = (), levels: tuple[str, ...] = ("upx", "none")) -> Report:
    """Ten columns; the planted rows have column 2 = 7, column 3 empty and column 4 on its first level."""
    made = report(flagged=flagged, layout="csv")
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 10, (len(made.train), 10)).round(2)
    inputs[:, 4] = 1
    rows = np.flatnonzero(made.flagged)
    inputs[rows, 2], inputs[rows, 3], inputs[rows, 4] = 7, np.nan, 0
    called = [*names, *(f"c{k}" for k in range(len(names), 10))]
    columns = tuple(Column(name, levels if k == 4 else ()) for k, name in enumerate(called))
    ids = np.arange(len(made.train)).astype(str)
    train = replace(made.train, inputs=inputs, kind="table", columns=columns, ids=ids, label_column="malicious")
    return replace(made, train=train, reserve=train[np.arange(60)])


def test_the_rule_is_said_in_a_sentence_and_in_json(tmp_path: Path) -> None:
    made = on_table()
    (said,) = sentences(made)
    assert said.startswith("All 10 suspects of class 'dog' have c")
    assert all(part in said for part in ("c2 = 7", "c3 is empty", "c4 = upx"))
    assert said.endswith("; of its other 30 rows none does.")
    page = made.save(tmp_path).read_text()
    assert "What the suspects share" in page
    assert page.index(said.replace("'", "&#39;")) < page.index("What to do next</h2>")
    (entry,) = json.loads((tmp_path / "findings.json").read_text())["shared_values"]
    assert (entry["class"], entry["suspects"], entry["others"]) == ("dog", 10, 30)
    assert {(v["column"], v["value"]) for v in entry["rules"][0]["values"]} == {("c2", 7.0), ("c3", None), ("c4", "upx")}
    assert (entry["rules"][0]["suspects"], entry["rules"][0]["others"]) == (10, 0)
    assert {v["column"] for v in entry["values"][:3]} == {"c2", "c3", "c4"}


@pytest.mark.parametrize("size", [8, 17, 32, 200])
def test_a_sentence_names_the_columns_of_a_trigger_of_any_published_size(size: int) -> None:
    pairs = tuple(Pair(k, float(k), 20, 0) for k in range(size))
    rule = Rule(pairs, 20, 0)
    said = rule_text(rule, ClassShared(0, "benign", Shared(20, 80, pairs, (rule,))), [Column(f"c{k}") for k in range(size)])
    assert said.count(" = ") == min(size, NAMED)
    assert size <= NAMED or f"and {size - NAMED} values more" in said


def test_suspects_are_shown_as_rows_with_the_shared_columns_first() -> None:
    made = on_table()
    shown = context(made)
    (group,) = shown["groups"]
    assert set(group.header[:3]) == {"c2", "c3", "c4"}
    assert len(group.header) == SHOWN
    assert dict(zip(group.header, group.first[0].cells, strict=True))["c4"] == "upx"
    page = render(made)
    assert page.count('<tr class="item"') == 10
    assert "<img" not in page
    assert "no picture" not in page
    assert "--label malicious" in page


def test_nothing_found_in_a_table() -> None:
    made = on_table(flagged=0)
    assert sentences(made) == ()
    page = render(made)
    assert "What the suspects share" not in page
    assert page.count('<tr class="item unflagged"') == 24


def test_suspects_without_a_common_value_are_called_so() -> None:
    made = on_table()
    inputs = np.random.default_rng(1).normal(size=made.train.inputs.shape)
    inputs[:, 4] = 1
    assert sentences(replace(made, train=replace(made.train, inputs=inputs))) == (
        "The suspects share no value that the other rows of their class have not.",
    )


def test_names_and_levels_stay_text(tmp_path: Path) -> None:
    made = on_table(names=(*HOSTILE, "=cmd|' /C calc'!A0\n\x1b[31m"), levels=HOSTILE)
    page = made.save(tmp_path).read_text()
    assert not any(hostile in page for hostile in HOSTILE)
    assert "\x1b" not in page
    assert json.loads((tmp_path / "findings.json").read_text())["shared_values"][0]["class"] == "dog"


def test_reports_on_pictures_say_nothing_of_values(tmp_path: Path) -> None:
    report().save(tmp_path)
    assert "shared_values" not in json.loads((tmp_path / "findings.json").read_text())
    assert "What the suspects share" not in (tmp_path / "index.html").read_text()


def test_cells_read_as_a_person_would_write_them() -> None:
    made = on_table()
    row = int(np.flatnonzero(made.flagged)[0])
    assert cells(made.train, row, [2, 3, 4]) == ("7", "empty", "upx")
    columns = (Column("size"), Column("word", ("a", "b")))
    assert [pair_text(Pair(0, value, 1, 1), columns) for value in (3.0, 0.25, 4294967296.0, 1e30)] == [
        "size = 3",
        "size = 0.25",
        "size = 4294967296",
        "size = 1e+30",
    ]
