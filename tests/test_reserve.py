"""Drawing, vetting and accepting a reserve."""

from __future__ import annotations

import csv
import html
import io
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tocsin import reserve
from tocsin.data import load
from tocsin.data.cells import restore, write_csv
from tocsin.data.dataset import Dataset
from tocsin.data.pairing import match
from tocsin.errors import InputError
from tocsin.runtime import Runtime

RNG = np.random.default_rng(0)
NASTY = ('<script>alert("x")</script>', "=1+1", "{{ 7*7 }}", "a'b\"c&d", "new\nline\r")


def made(counts: list[int], side: int = 8, classes: tuple[str, ...] | None = None) -> Dataset:
    labels = RNG.permutation(np.repeat(np.arange(len(counts)), counts))
    return Dataset.of_arrays(
        RNG.integers(0, 256, (len(labels), side, side, 3), np.uint8), labels, classes or tuple("abcdefgh"[: len(counts)])
    )


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), st.data())
def test_draws_are_as_balanced_as_the_classes_allow(counts: list[int], data: st.DataObject) -> None:
    train = Dataset.of_arrays(
        np.zeros((sum(counts), 1, 1, 1), np.uint8), np.repeat(np.arange(len(counts)), counts), tuple(map(str, counts))
    )
    n = data.draw(st.integers(1, len(train)))
    rows = reserve.draw(train, n, 0)
    assert len(set(rows.tolist())) == n
    assert rows.tolist() == sorted(rows.tolist())
    got = np.bincount(train.labels[rows], minlength=len(counts))
    level = got.max()
    assert all(have >= min(size, level - 1) for have, size in zip(got.tolist(), counts, strict=True))


def test_draws_depend_on_the_seed_only() -> None:
    train = made([100, 100])
    assert np.array_equal(reserve.draw(train, 50, 1), reserve.draw(train, 50, 1))
    assert not np.array_equal(reserve.draw(train, 50, 1), reserve.draw(train, 50, 2))
    for n in (0, -1, 201):
        with pytest.raises(InputError, match="n:"):
            reserve.draw(train, n, 0)


def test_the_page_holds_every_candidate_and_no_markup_of_theirs(tmp_path: Path) -> None:
    train = made([10] * 5, classes=NASTY)
    train = replace(train, ids=np.array([f"{k}<img src=x onerror=alert(1)>\n\r{{{{k}}}}" for k in range(50)]))
    page = reserve.prepare(train, 30, tmp_path / "vet").page.read_text("utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert re.findall(r"<script[^>]*>", page) == re.findall(r'<script nonce="[0-9a-f]{32}">', page)
    assert len(re.findall(r"<script", page)) == 1
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    boxes = re.findall(r'<input type="checkbox" checked data-id="([^"]*)" data-label="([^"]*)"', page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert len(boxes) == len(pictures) == 30
    place = {str(name): row for row, name in enumerate(train.ids)}
    for (name, label), picture in zip(boxes, pictures, strict=True):
        row = place[unquote(html.unescape(name))]
        assert unquote(html.unescape(label)) == train.classes[train.labels[row]]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(b64decode(picture)))), train.inputs[row])
    with open(tmp_path / "vet" / "candidates.csv", encoding="utf-8", newline="") as file:
        rows = [[restore(cell) for cell in row] for row in csv.reader(file)]
    assert rows[0] == ["id", "label", "keep"]
    assert {row[0] for row in rows[1:]} == {unquote(html.unescape(name)) for name, _ in boxes}
    with pytest.raises(InputError, match="exists"):
        reserve.prepare(train, 30, tmp_path / "vet")


def test_the_page_stays_small_whatever_the_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train = made([150, 150], side=64)
    monkeypatch.setattr(reserve, "MOST_PAGE_BYTES", 500_000)  # 300 pictures of noise: far over it at full size
    page = reserve.prepare(train, 300, tmp_path / "vet", runtime=Runtime()).page
    assert page.stat().st_size < 520_000
    assert page.read_text("utf-8").count("data:image/png") == 300


def _decide(path: Path, data: Dataset, rows: np.ndarray, rejected: set[int]) -> Path:
    cells = [(str(data.ids[k]), data.classes[data.labels[k]], "0" if k in rejected else "1") for k in rows.tolist()]
    write_csv(path, ("id", "label", "keep"), cells)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("=a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k in range(150):
            Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "train" / name / f"-{k}.png")
    return tmp_path / "train"


def test_accepting_splits_a_folder(folder: Path, tmp_path: Path) -> None:
    runtime = Runtime(cache=tmp_path / "cache")
    train = load(folder, runtime=runtime)
    rows = reserve.draw(train, 220, 0)
    rejected = {int(rows[3]), int(rows[7])}
    done = reserve.accept(train, _decide(tmp_path / "decisions.csv", train, rows, rejected), tmp_path / "out")
    assert done.notes == ()
    clean = load(done.reserve, runtime=runtime)
    rest = load(done.train, root=done.root, runtime=runtime)
    assert set(clean.ids) == {str(train.ids[k]) for k in rows if k not in rejected}
    assert set(clean.ids) | set(rest.ids) == set(train.ids)
    assert len(clean) + len(rest) == len(train)
    assert len(match(rest, clean)[1]) == 218
    with pytest.raises(InputError, match="exists"):
        reserve.accept(train, tmp_path / "decisions.csv", tmp_path / "out")


def test_accepting_splits_an_archive(tmp_path: Path) -> None:
    data = made([150, 150])
    np.savez(tmp_path / "d.npz", x=data.inputs, y=data.labels, classes=np.array(data.classes))
    train = load(tmp_path / "d.npz")
    rows = reserve.draw(train, 220, 0)
    done = reserve.accept(train, _decide(tmp_path / "decisions.csv", train, rows, set()), tmp_path / "out")
    rest, clean = load(done.train), load(done.reserve)
    assert done.root is None
    assert (len(rest), len(clean)) == (80, 220)
    assert match(rest, clean)[2] == ()


def test_copies_of_what_stays_in_training_are_no_reserve(tmp_path: Path) -> None:
    train = made([20, 20])
    train.inputs[5] = train.inputs[0]
    done = reserve.accept(train, _decide(tmp_path / "d.csv", train, np.arange(5), set()), tmp_path / "out")
    assert "1 vetted samples have an exact copy" in done.notes[0]
    assert len(done.notes) == 3  # and two about a reserve that is too small
    assert len(load(done.train)) == 36


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ("id,label,keep\n99,a,1\n", "unknown id: 99"),
        ("id,label,keep\n0,OTHER,1\n", "another class"),
        ("id,label,keep\n0,LABEL,maybe\n", "neither 1 nor 0"),
        ("id,label,keep\n0,LABEL,1\n0,LABEL,0\n", "decided twice"),
        ("id,label,keep\n0,LABEL,0\n", "leaves no sample"),
        ("id,label,keep\n0\n", "another class"),
    ],
)
def test_decisions_that_do_not_fit(tmp_path: Path, text: str, word: str) -> None:
    train = made([20, 20])
    label = train.classes[train.labels[0]]
    (tmp_path / "d.csv").write_text(text.replace("LABEL", label))
    with pytest.raises(InputError, match=word):
        reserve.accept(train, tmp_path / "d.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_decisions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        reserve.accept(made([20, 20]), tmp_path / "nowhere.csv", tmp_path / "out")


def test_whole_speakers_are_drawn_where_they_fit() -> None:
    train = made([100] * 4)
    speakers = np.array([f"s{k % 20}" for k in range(400)])
    train = replace(train, groups=speakers)
    for seed in range(5):
        rows = reserve.draw(train, 110, seed)
        chosen = np.zeros(400, bool)
        chosen[rows] = True
        assert 88 <= len(rows) <= 110
        assert not set(speakers[chosen]) & set(speakers[~chosen])
        assert reserve.shared_speakers(train, chosen) == []


@pytest.mark.parametrize("speakers", [["a"] * 400, ["a", "b"] * 200, [""] * 400])
def test_where_they_do_not_fit_the_draw_is_the_usual_one_and_says_so(speakers: list[str], tmp_path: Path) -> None:
    plain = made([100] * 4)
    train = replace(plain, groups=np.array(speakers))
    assert np.array_equal(reserve.draw(train, 100, 3), np.sort(reserve.draw(train, 100, 3)))
    assert len(reserve.draw(train, 100, 3)) == 100
    notes = reserve.prepare(train, 100, tmp_path / "vet", seed=3).notes
    assert bool(notes) == (speakers[0] != "")
    assert all("also speak in the training data" in note for note in notes)
