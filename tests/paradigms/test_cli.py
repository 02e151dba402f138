"""Pictures without labels through the commands: reserve, audit, apply."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.detectors.synthetic import pictures

FEW = [
    word
    for value in (
        "self-supervised.network=small-narrow", "self-supervised.epochs=1", "steps_least=4", "passes=0.1", "scout_steps=5", "runs=1",
        "decision=scale-free", "eps=0.5",  # flags some whatever it sees
    )
    for word in ("--set", value)
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``flat/`` with 300 pictures, a few of them in a folder below, and ``clean/`` with 210."""
    for folder, count, seed in (("flat", 300, 1), ("clean", 210, 2)):
        for row, pixels in enumerate(pictures(count, seed=seed).inputs):
            place = tmp_path / folder / ("more" if row % 10 == 0 else ".")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{row:03d}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_flat_folder_from_audit_to_a_clean_copy(run: Run, here: Path) -> None:
    before = {p: p.read_bytes() for p in Path("flat").rglob("*.png")}
    done = run("audit", "flat", "--reserve", "clean", "--setting", "self-supervised", "--out", "out", *FEW)
    assert done.code == 1, done.err
    assert "pull" not in done.out  # there is no target class to name
    found = json.loads(Path("out/findings.json").read_text())
    assert (found["detector"], found["settings"]["setting"]["name"]) == ("asset", "self-supervised")
    assert found["data"]["classes"] == ["unlabelled"]
    assert found["canaries"] == []
    kept = [line.split(",") for line in Path("out/kept.csv").read_text().splitlines()]
    assert kept[0] == ["path"]
    left = {name for (name,) in kept[1:]}
    suspects = {s["id"] for s in found["suspects"]}
    assert suspects
    assert left | suspects == {str(p.relative_to("flat")) for p in before}
    page = Path("out/index.html").read_text()
    assert "tocsin apply" in page
    assert "--unlabelled" in page

    assert run("apply", "flat", "out/findings.json", "--out", "copy").code == 0
    assert {str(p.relative_to("copy")) for p in Path("copy").rglob("*.png")} == left
    assert run("apply", "flat", "out/findings.csv", "--out", "again.csv").code == 0
    assert Path("again.csv").read_text() == Path("out/kept.csv").read_text()
    Path("decisions.csv").write_text("id,decision\n001.png,remove\n")
    assert run("apply", "flat", "decisions.csv", "--out", "fails").code == 2
    assert "299 of 300" in run("apply", "flat", "decisions.csv", "--unlabelled", "--out", "one").out
    assert {p: p.read_bytes() for p in Path("flat").rglob("*.png")} == before


def test_an_archive_keeps_the_labels_that_were_left_aside(run: Run, here: Path) -> None:
    train, reserve = pictures(300, seed=1), pictures(210, seed=2)
    np.savez("train.npz", x=train.inputs, y=train.labels)
    np.savez("reserve.npz", x=reserve.inputs)
    assert run("audit", "train.npz", "--reserve", "reserve.npz", "--setting", "self-supervised", "--out", "out", *FEW).code == 1
    assert Path("out/kept.csv").read_text().splitlines()[0] == "row"
    assert run("apply", "train.npz", "out/findings.json", "--out", "kept.npz").code == 0
    flagged = {int(s["id"]) for s in json.loads(Path("out/findings.json").read_text())["suspects"]}
    with np.load("kept.npz") as stored:
        assert stored["y"].tolist() == [int(y) for k, y in enumerate(train.labels) if k not in flagged]


def test_a_reserve_is_drawn_without_labels(run: Run, here: Path) -> None:
    done = run("reserve", "flat", "-n", 30, "--unlabelled", "--out", "vet")
    assert "--unlabelled" in done.out
    done = run("reserve", "flat", "--unlabelled", "--decisions", "vet/candidates.csv", "--out", "vetted")
    assert done.code == 0, done.err
    assert "--setting self-supervised" in done.out
    assert len(list(Path("vetted/reserve").rglob("*.png"))) == 30
    assert Path("vetted/train.csv").read_text().splitlines()[0].strip(chr(34)) == "path"


def test_what_is_not_defined_is_refused_in_a_sentence(run: Run, here: Path) -> None:
    done = run("audit", "flat", "--reserve", "clean", "--setting", "self-supervised", "--detector", "ct", "--out", "out")
    assert done.code == 2
    assert "detector ct is not defined here, because" in done.err.replace("\n", " ")
    done = run("audit", "flat", "--reserve", "clean", "--setting", "self-supervized", "--out", "out")
    assert done.code == 2
    assert "did you mean 'self-supervised'" in done.err.replace("\n", " ")
    done = run("audit", "flat/more", "--reserve", "clean", "--out", "out")
    assert done.code == 2
    assert "--setting self-supervised" in done.err.replace("\n", " ")
