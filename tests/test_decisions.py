from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.build import report
from tocsin.data import load
from tocsin.decisions import apply, read_decisions, write_manifest
from tocsin.errors import InputError
from tocsin.runtime import Runtime


@pytest.mark.parametrize("name", ["findings.csv", "findings.json", "."])
@pytest.mark.parametrize("layout", ["folder", "npz"])
def test_findings_give_the_reports_own_mask(tmp_path: Path, name: str, layout: str) -> None:
    made = report(layout=layout, ids=[f"={i}" for i in range(120)])
    made.save(tmp_path)
    assert np.array_equal(apply(made.train, tmp_path / name), ~made.flagged)
    assert np.array_equal(apply(made.train, made), ~made.flagged)


def test_decisions_change_only_what_they_name(tmp_path: Path) -> None:
    made = report()
    path = tmp_path / "decisions.csv"
    path.write_text("id,decision\ncat/0000.png,Remove \ndog/0001.png,keep\n")
    assert read_decisions(path) == {"cat/0000.png": False, "dog/0001.png": True}
    keep = apply(made.train, path)
    assert np.flatnonzero(~keep).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,decision\na,keep\nb,remove\nc,keep\nd,keep\n", "4 of the 4 ids .* not in the data .first: 'a', 'b', 'c'"),
        ("id,decision\ncat/0000.png,keep\ncat/0000.png,keep\n", "more than once"),
        ("id,decision\ncat/0000.png,maybe\n", "'maybe' for 'cat/0000.png'"),
        ("rank,id,label,score,flagged\n1,cat/0000.png,cat,2,perhaps\n", "true or false"),
        ("file,verdict\na,b\n", "columns file, verdict; expected decisions.csv"),
        ("PK\x03\x04", "expected decisions.csv"),
    ],
)
def test_wrong_files_are_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        apply(report().train, path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "tocsin.findings/9"}', '{"schema": "tocsin.findings/1"}', "[" * 100_000])
def test_wrong_json_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "findings.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"findings\.json"):
        read_decisions(path)


@pytest.mark.parametrize("name", ["findings.csv", "findings.json"])
def test_findings_of_other_data_are_refused(tmp_path: Path, name: str) -> None:
    made = report(layout="npz", ids=[str(i) for i in range(120)])
    made.save(tmp_path)
    fewer = made.train[np.arange(119)]
    renamed = replace(made.train, classes=("cat", "wolf", "owl"))
    for other in (fewer, renamed):
        with pytest.raises(InputError, match="another data set"):
            apply(other, tmp_path / name)


def test_row_numbers_of_other_content_are_refused_but_not_of_another_size(tmp_path: Path) -> None:
    made = report(layout="npz", ids=[str(i) for i in range(120)])
    made.save(tmp_path)
    with pytest.raises(InputError, match="other content"):
        apply(replace(made.train, inputs=made.train.inputs + 1), tmp_path / "findings.json")
    smaller = replace(made.train, inputs=made.train.inputs[:, ::2, ::2])
    assert np.array_equal(apply(smaller, tmp_path / "findings.json"), ~made.flagged)


def test_a_report_about_other_data_is_refused() -> None:
    with pytest.raises(InputError, match="other data"):
        apply(report(samples=60).train, report())


def test_manifest_lists_what_stays(tmp_path: Path) -> None:
    made = report(classes=("cat", "=dog", "owl"))
    with write_manifest(made.train, ~made.flagged, tmp_path / "deep" / "clean.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "label"]
    assert len(rows) == 111
    assert {label for _, label in rows[1:]} == {"cat", "'=dog", "owl"}


def test_manifest_of_a_folder_with_odd_names_loads_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("=a", "b c", " d"):
        for k in range(4):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "data" / name / f"-{k},'x.png")
    runtime = Runtime(cache=tmp_path / "cache")
    train = load(tmp_path / "data", runtime=runtime)
    keep = np.arange(len(train)) % 4 > 0
    again = load(write_manifest(train, keep, tmp_path / "kept.csv"), root=train.root, runtime=runtime)
    assert again.classes == train.classes
    assert {*zip(again.ids.tolist(), again.labels.tolist(), strict=True)} == {
        *zip(train[keep].ids.tolist(), train[keep].labels.tolist(), strict=True)
    }


def test_manifest_refuses_a_wrong_mask_and_a_folder(tmp_path: Path) -> None:
    train = report().train
    for mask in (np.ones(3, bool), np.arange(120)):
        with pytest.raises(InputError, match="keep"):
            write_manifest(train, mask, tmp_path / "clean.csv")
    with pytest.raises(InputError, match="folder"):
        write_manifest(train, np.ones(120, bool), tmp_path)


def test_a_json_changed_by_hand_still_counts(tmp_path: Path) -> None:
    made = report()
    made.save(tmp_path)
    path = tmp_path / "findings.json"
    content = json.loads(path.read_text())
    spared = content["suspects"].pop(0)["id"]
    path.write_text(json.dumps(content))
    keep = apply(made.train, path)
    assert keep[made.train.ids == spared].all()
    assert int((~keep).sum()) == 9
