from __future__ import annotations

import csv
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.build import CANARIES, report
from tocsin.data.cells import restore
from tocsin.detectors.base import ClassEvidence
from tocsin.errors import AuditIncomplete, InputError
from tocsin.report import tables
from tocsin.report.model import CanaryResult
from tocsin.report.page import render
from tocsin.report.tables import jsonable
from tocsin.report.words import percent, reasons, shown


def test_suspects_are_the_flagged_by_falling_score() -> None:
    made = report(flagged=10)
    assert len(made.suspects) == 10
    assert [s.score for s in made.suspects] == sorted((s.score for s in made.suspects), reverse=True)
    assert [s.rank for s in made.suspects] == list(range(1, 11))
    assert all(made.train.ids[s.row] == s.id and made.flagged[s.row] and s.label == "dog" for s in made.suspects)


def test_scores_that_are_not_numbers_rank_last() -> None:
    made = report(flagged=2)
    made.findings.scores[5] = np.nan
    assert made.ranks[5] == len(made.train)
    assert sorted(made.ranks.tolist()) == list(range(1, len(made.train) + 1))


def test_verdict_and_sentence() -> None:
    found, clean = report(flagged=10), report(flagged=0)
    assert (found.verdict, clean.verdict) == ("found", "nothing found")
    assert found.sentence == "10 of 120 samples look poisoned; they pull towards class 'dog' (confidence 99.3 %)."
    assert clean.sentence == "Nothing found (confidence 99.3 %); of 150 planted patch samples (0.3 %) we found 150, of 150 blended ones 92."
    assert "not known" in report(flagged=0, canaries=()).sentence


def test_sentence_names_few_classes_and_counts_many() -> None:
    made = report(flagged=10)
    classes = tuple(ClassEvidence(k, f"c{k}", 9, 9 - k, 1.0, 0.1, True) for k in range(5))
    some = [replace(made, findings=replace(made.findings, classes=classes[:n])).sentence for n in (0, 2, 5)]
    assert "pull" not in some[0]
    assert "towards classes 'c0' and 'c1'" in some[1]
    assert "towards 5 classes, most of them towards 'c0'" in some[2]


def test_different_canary_rates_are_all_said() -> None:
    canaries = (CanaryResult("patch", 0, 0, 0.5), CanaryResult("patch", 9, 8, 0.001), CanaryResult("odd", 5, 5, 0.01))
    assert report(flagged=0, canaries=canaries).sentence.endswith("of 9 planted patch samples (0.1 %) we found 8, of 5 odd ones (1 %) 5.")


def test_terminal_codes_in_class_names_do_not_reach_the_sentence() -> None:
    assert "\x1b" not in report(classes=("a", "\x1b[2Jb", "c")).sentence
    assert shown("a\u202eb\n") == "a�b�"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.003, "0.3 %"), (0.97, "97 %"), (0.9931, "99.3 %"), (0.9996, "99.9 %"), (0.999999, "99.9 %"), (1.0, "100 %")],
)
def test_only_certainty_reads_as_certain(share: float, text: str) -> None:
    assert percent(share) == text


def test_it_is_said_where_labels_named_a_class_or_likeness_flagged_samples() -> None:
    made = report()
    assert reasons(made) == ()

    def because(**evidence: object) -> tuple[str, ...]:
        return reasons(replace(made, findings=replace(made.findings, evidence=evidence)))

    # By the rounds too: then labels are one sign more, and no caution is due.
    assert because(**{"named by": {"dog": ["rounds", "labels"], "owl": ["labels", "texture"]}}) == ()
    (named,) = because(**{"named by": {"dog": ["labels"], "owl": ["rounds"]}})
    assert named.startswith("Class 'dog': named because labels")
    assert "owl" not in named
    (many,) = because(**{"named by": {"dog": ["many labels"], "owl": ["rounds", "many labels"]}})
    assert many.startswith("Class 'dog': named because many more labels")
    # What only labels named is told by the first of the questions, however many said so.
    (both,) = because(**{"named by": {"dog": ["labels", "many labels"]}})
    assert both == named
    (scouts,) = because(**{"named by": {"dog": ["scouts"], "owl": ["rounds", "scouts"]}})
    assert "'dog'" in scouts
    assert "'owl'" not in scouts
    assert "reserve" in scouts
    (detail,) = because(**{"named by": {"dog": ["detail"]}})
    assert detail.startswith("Class 'dog': named because small networks that see nothing but fine detail")
    (everywhere,) = because(**{"named by": {name: ["all labels"] for name in ("dog", "owl", "cat", "cow")}})
    assert everywhere.startswith("Classes 'dog', 'owl' and 'cat' and others: named because labels that do not fit, of all classes")
    (likeness,) = because(likeness={"dog\x1b[31m": 1234})
    assert likeness.endswith("1,234 in 'dog�[31m'.")
    page = replace(made, findings=replace(made.findings, evidence={"likeness": {"<b>": 2}}))
    assert "2 in &#39;&lt;b&gt;&#39;" in render(page, Path("out"))
    (left,) = reasons(replace(made, findings=replace(made.findings, evidence={"leftover": {"cat": 17}})))
    assert left.startswith("Flagged only because the other suspects of their class show several patterns")
    assert left.endswith("17 in 'cat'. More than half of these may be clean.")


def test_it_is_said_what_the_second_hearing_did() -> None:
    made = report()

    def because(**told: dict[str, object]) -> tuple[str, ...]:
        return reasons(replace(made, findings=replace(made.findings, evidence={"second hearing": told})))

    assert because() == ()
    one = {"before": 1200, "kept": 1100, "added": 14, "known again": 0.97, "believed": True, "clean": 0.8, "spoilt": False}
    (agreed,) = because(**{"dog\x1b": one})
    assert agreed.endswith("of 1,200 in 'dog�' 1,100 were kept, and 14 added.")
    other = {**one, "known again": 0.7, "believed": False}
    assert len(because(dog=one, owl=other)) == 2
    (doubted,) = because(dog=other, owl=other)
    assert doubted.startswith("Classes 'dog' and 'owl': networks could not learn")
    spoilt = because(dog={**one, "clean": 0.08, "spoilt": True})[-1]
    assert spoilt == "Hardly any of class 'dog' is clean (by estimate 8 %), so all of it is flagged."


def test_advice_follows_what_was_measured() -> None:
    weak, strong = report(flagged=3), report(flagged=0, canaries=CANARIES[:1])
    assert any("--preset thorough" in line for line in weak.advice)
    assert not any("--preset thorough" in line for line in report(preset="thorough").advice)
    assert not any("thorough" in line for line in strong.advice)
    assert any("tocsin apply" in line for line in weak.advice)
    assert any("reserve is small (60 samples, 20" in line for line in weak.advice)
    assert not any("reserve is small" in line for line in report(samples=1500, reserve=1200).advice)
    assert all("reserve being clean" in made.advice[-1] for made in (weak, strong))
    assert any("not measured" in line for line in report(canaries=()).advice)
    # A method that takes no test samples cannot be asked to.
    bare = report(canaries=())
    for detector, asked in (("ct", True), ("asset", False)):
        told = replace(bare, findings=replace(bare.findings, detector=detector)).advice
        assert any("run it with canaries" in line for line in told) == asked
        assert any("not measured" in line for line in told)


def test_an_unsure_nothing_found_names_the_class_that_came_nearest() -> None:
    sure = report(flagged=0)
    unsure = replace(sure, findings=replace(sure.findings, confidence=0.7))
    assert not any("nearest" in line for line in sure.advice)
    assert any("nearest to standing out" in line for line in unsure.advice)


def test_save_writes_four_files_and_leaves_others_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "kept.csv").write_text("old")
    page = report().save(tmp_path)
    assert page == tmp_path / "index.html"
    assert {p.name for p in tmp_path.iterdir()} == {"index.html", "findings.csv", "findings.json", "kept.csv", "mine.txt"}
    assert (tmp_path / "kept.csv").read_text() != "old"


def test_saving_onto_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        report().save(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report().save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AuditIncomplete, match="No space left on device"):
        report(flagged=0).save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_findings_json_has_the_documented_keys_and_plain_values(tmp_path: Path) -> None:
    made = report()
    made.save(tmp_path)
    content = json.loads((tmp_path / "findings.json").read_text(), parse_constant=pytest.fail)
    documented = Path(__file__).parents[2].joinpath("docs/report.md").read_text()
    assert content["schema"] == "tocsin.findings/1"
    assert all(f"`{key}`" in documented for key in content)
    assert content["data"]["samples"] == 120
    assert content["settings"]["seed"] == 3
    assert content["evidence"]["rounds"][0]["loss"] is None
    assert [s["id"] for s in content["suspects"]] == [s.id for s in made.suspects]
    assert [c["found"] for c in content["canaries"]] == [150, 92]


def test_numpy_becomes_json() -> None:
    value = {1: np.float32(np.inf), "a": np.arange(3), "b": (np.bool_(True), Path("x")), "c": {2}}
    assert jsonable(value) == {"1": None, "a": [0, 1, 2], "b": [True, "x"], "c": [2]}


def test_findings_csv_has_every_sample_by_rank(tmp_path: Path) -> None:
    made = report(ids=[f"=HYPERLINK({i})" for i in range(120)])
    made.save(tmp_path)
    with (tmp_path / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == list(range(1, 121))
    assert all(row["id"].startswith("'=") for row in rows)
    assert {restore(row["id"]) for row in rows} == set(made.train.ids.tolist())
    assert [row["flagged"] for row in rows].count("true") == 10
    assert np.array_equal([np.float32(row["score"]) for row in rows], made.findings.scores[made.order])


@pytest.mark.parametrize(("layout", "column"), [("folder", "path"), ("manifest", "path"), ("npz", "row"), ("arrays", "row")])
def test_kept_csv_lists_what_stays(tmp_path: Path, layout: str, column: str) -> None:
    made = report(layout=layout)
    made.save(tmp_path)
    with (tmp_path / "kept.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [column, "label"]
    assert [row[column] for row in rows] == made.kept.ids.tolist()
    assert [row["label"] for row in rows] == [made.train.classes[k] for k in made.kept.labels]


def test_long_tables_are_written_in_parts_and_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = report(layout="folder")
    made.save(tmp_path / "whole")
    monkeypatch.setattr(tables, "_PART", 7)
    made.save(tmp_path / "parts")
    for name in ("findings.csv", "kept.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(list(tables.findings_csv(made))) == 18  # of 120 samples


def test_where_nothing_is_kept_the_table_has_its_header() -> None:
    made = report(layout="folder")
    assert "".join(tables.manifest(made.train, np.zeros(120, bool))) == "path,label\n"
