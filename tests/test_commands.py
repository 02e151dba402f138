"""The commands one after another on real files, nothing replaced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tocsin.data.builtin import digits
from tocsin.poisoning import build, poison


def test_from_poison_to_a_clean_copy(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands fit together on a folder of pictures; nothing in it changes."""
    rng = np.random.default_rng(0)
    for folder, count in (("train", 120), ("test", 30)):
        for row in range(count):
            place = tmp_path / folder / ("cat", "dog & <b>", "eel")[row % 3]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(place / f"{row}.png")
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in Path("train").rglob("*.png")}

    assert run("poison", "train", "--attack", "badnet", "--rate", 0.1, "--target", "dog & <b>", "--out", "red").code == 0
    planted = json.loads(Path("red/tocsin-poison.json").read_text())["planted"]
    assert len(planted) == 12
    assert all(name.startswith("dog & <b>/") for name in planted)
    assert run("poison", "train", "--out", "red").code == 2

    Path("decisions.csv").write_text("id,decision\n" + "".join(f"{name},remove\n" for name in planted))
    done = run("train", "red", "--test", "test", "--without", "decisions.csv", "--epochs", 1, "--json", "--quiet")
    result = json.loads(done.out)
    assert (result["attack"]["attack"], result["attack"]["target"]) == ("badnet", 1)
    assert [r["samples"] for r in result["runs"].values()] == [120, 108]
    assert all(0 <= r["asr"] <= 1 for r in result["runs"].values())
    assert "without decisions.csv" in run("train", "red", "--test", "test", "--without", "decisions.csv", "--epochs", 1).out

    assert "108 of 120 samples kept" in run("apply", "red", "decisions.csv", "--out", "kept").out
    assert len(list(Path("kept").rglob("*.png"))) == 108
    assert run("apply", "red", "decisions.csv", "--out", "kept.csv").code == 0
    assert run("train", "kept.csv", "--root", "red", "--test", "test", "--epochs", 1).code == 0
    assert run("apply", "train", "decisions.csv", "--out", "other").code == 2
    assert run("apply", "train", "decisions.csv", "--out", "train/kept").code == 2

    assert run("reserve", "train", "-n", 30, "--out", "vet").code == 0
    done = run("reserve", "train", "--decisions", "vet/candidates.csv", "--out", "vetted")
    assert done.code == 0
    assert "--reserve vetted/reserve" in done.out
    assert len(list(Path("vetted/reserve").rglob("*.png"))) == 30
    assert {p: p.read_bytes() for p in Path("train").rglob("*.png")} == before


def test_a_real_audit_finds_an_obvious_backdoor(run: Run, tmp_path: Path) -> None:
    """Nothing replaced: digits with a patch on 4 % of them, through the fast preset, to the exit code and the report."""
    train, reserve, _ = digits(5, train=1500, reserve=400, test=10)
    red = poison(train, build("badnet", rate=0.04, target=7), 5)
    np.savez(tmp_path / "red.npz", x=red.dataset.inputs, y=red.dataset.labels)
    np.savez(tmp_path / "clean.npz", x=reserve.inputs, y=reserve.labels)
    done = run("audit", tmp_path / "red.npz", "--reserve", tmp_path / "clean.npz", "--out", tmp_path / "out", "--device", "cpu", "--json")
    assert done.code == 1, done.err
    suspects = {int(s["id"]) for s in json.loads(done.out)["suspects"]}
    planted = set(red.planted.tolist())
    assert len(suspects & planted) >= 0.9 * len(planted)
    assert len(suspects - planted) <= 0.01 * len(train)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"index.html", "findings.csv", "findings.json", "kept.csv"}


def test_sounds_go_through_every_command(tmp_path: Path, run: Run) -> None:
    sf = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for k in range(count):
            for name, pitch in (("high", 1500), ("low", 300)):
                path = tmp_path / split / name / f"{k}.{('wav', 'flac')[k % 2]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                length = 2000 + 20 * k  # the test clips are shorter: they are brought to the training data's length
                sf.write(path, 0.2 * np.sin(2 * np.pi * pitch * np.arange(length) / 8000) + rng.normal(0, 0.01, length), 8000)
    drawn = run("reserve", tmp_path / "train", "-n", 20, "--out", tmp_path / "vet")
    assert drawn.code == 0
    assert (tmp_path / "vet" / "contact_sheet.html").read_text("utf-8").count("<audio") == 20
    taken = run("reserve", tmp_path / "train", "--decisions", tmp_path / "vet" / "candidates.csv", "--out", tmp_path / "vetted")
    assert taken.code == 0
    assert len([path for path in (tmp_path / "vetted" / "reserve").rglob("*") if path.is_file()]) == 20
    refused = run("audit", tmp_path / "vetted" / "train.csv", "--root", tmp_path / "train", "--reserve", tmp_path / "vetted" / "reserve")
    assert (refused.code, "only 20 samples in all" in refused.err) == (2, True)  # and nothing about rates or lengths
    (tmp_path / "decisions.csv").write_text("id,decision\nhigh/0.wav,remove\n")
    assert run("apply", tmp_path / "train", tmp_path / "decisions.csv", "--out", tmp_path / "kept").code == 0
    assert (tmp_path / "kept" / "high" / "1.flac").read_bytes() == (tmp_path / "train" / "high" / "1.flac").read_bytes()
    assert not (tmp_path / "kept" / "high" / "0.wav").exists()
    trained = run("train", tmp_path / "train", "--test", tmp_path / "test", "--epochs", 1, "--json")
    assert trained.code == 0
    assert json.loads(trained.out)["runs"]["all samples"]["samples"] == 60
    made = run("poison", tmp_path / "train", "--attack", "tone", "--rate", 0.1, "--target", "low", "--out", tmp_path / "red")
    assert made.code == 0
    planted = json.loads((tmp_path / "red" / "tocsin-poison.json").read_text())["planted"]
    assert len(planted) == 6
    assert all((tmp_path / "red" / name).is_file() and name.startswith("low/") for name in planted)
    trained = run("train", tmp_path / "red", "--test", tmp_path / "test", "--epochs", 1, "--json")
    assert trained.code == 0
    assert json.loads(trained.out)["runs"]["all samples"]["asr"] is not None
    unfit = run("poison", tmp_path / "train", "--out", tmp_path / "blue")  # the default attack is one on pictures
    assert (unfit.code, "speech" in unfit.err) == (2, True)
    wrong = run("audit", tmp_path / "train", "--reserve", tmp_path / "test", "--kind", "image")
    assert (wrong.code, "no picture could be read" in wrong.err) == (2, True)
