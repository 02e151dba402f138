"""Class folders as other tools and hostile people write them."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tocsin.data import load
from tocsin.errors import InputError
from tocsin.runtime import Runtime

Put = Callable[..., np.ndarray]


def test_reads_pixels_labels_and_ids(two_classes: Path, runtime: Runtime) -> None:
    data = load(two_classes, runtime=runtime)
    assert data.classes == ("cat", "dog")
    assert data.ids.tolist() == [f"{name}/{k}.png" for name in ("cat", "dog") for k in range(3)]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (data.inputs.dtype, data.inputs.shape, data.notes, data.resized) == (np.uint8, (6, 8, 8, 3), (), False)
    for name, row in zip(data.ids, data.inputs, strict=True):
        assert np.array_equal(row, np.asarray(Image.open(two_classes / name)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff", "ppm"])
def test_every_format(tmp_path: Path, put: Put, runtime: Runtime, suffix: str) -> None:
    flat = {name: np.full((8, 8, 3), value, np.uint8) for name, value in (("a", (200, 30, 90)), ("b", (10, 120, 250)))}
    for name, array in flat.items():
        put(tmp_path / "root" / name / f"x.{suffix}", array)
        put(tmp_path / "root" / name / f"y.{suffix}", array)
    data = load(tmp_path / "root", runtime=runtime)
    for label, array in enumerate(flat.values()):
        assert np.abs(data.inputs[data.labels == label].astype(int) - array.astype(int)).max() <= 6


def _of_mode(mode: str) -> Image.Image:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    made = {
        "I;16": lambda: Image.fromarray(ramp.astype(np.uint16) * 256 + 7),
        "L": lambda: Image.fromarray(ramp),
        "LA": lambda: Image.merge("LA", (Image.fromarray(ramp), Image.fromarray(255 - ramp))),
        "P": lambda: Image.fromarray(np.stack([ramp, 255 - ramp, ramp], 2)).quantize(64),
        "grey P": lambda: Image.fromarray(ramp).convert("P"),
        "F": lambda: Image.fromarray(ramp.astype(np.float32) / 255),
    }
    return made[mode]() if mode in made else Image.fromarray(np.stack([ramp, 255 - ramp, ramp], 2)).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("L", "png", 1), ("LA", "png", 1), ("1", "png", 1), ("I;16", "png", 1), ("grey P", "png", 1), ("F", "tiff", 1),
        ("P", "png", 3), ("RGBA", "png", 3), ("CMYK", "jpg", 3), ("CMYK", "tiff", 3), ("P", "gif", 3),
    ],
)  # fmt: skip
def test_every_mode(tmp_path: Path, runtime: Runtime, mode: str, suffix: str, channels: int) -> None:
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for k in range(2):
            _of_mode(mode).save(tmp_path / "root" / name / f"{k}.{suffix}")
    data = load(tmp_path / "root", runtime=runtime)
    assert data.inputs.shape == (4, 8, 8, channels)
    assert data.notes == ()
    ramp = np.arange(64).reshape(8, 8) * 4
    if mode in ("L", "LA", "I;16", "grey P", "F"):
        assert np.abs(data.inputs[0, :, :, 0].astype(int) - ramp).max() <= 1
    if mode == "RGBA":  # transparency is dropped, not blended
        assert np.abs(data.inputs[0, :, :, 1].astype(int) - (255 - ramp)).max() <= 1


def test_mixed_modes_become_colour_and_grey_in_colour_files_becomes_grey(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    grey = put(tmp_path / "mixed" / "a" / "0.png", shape=(8, 8))
    put(tmp_path / "mixed" / "b" / "0.png")
    mixed = load(tmp_path / "mixed", runtime=runtime)
    assert mixed.inputs.shape == (2, 8, 8, 3)
    assert np.array_equal(mixed.inputs[0], np.repeat(grey[..., None], 3, 2))
    for name in ("a", "b"):
        put(tmp_path / "grey" / name / "0.png", np.repeat(grey[..., None], 3, 2))
    for _ in range(2):  # decoded, then from the cache
        plain = load(tmp_path / "grey", runtime=runtime)
        assert np.array_equal(plain.inputs, np.stack([grey, grey])[..., None])


def test_awkward_names_are_only_names(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    names = ["<script>alert(1)<", "with space", "zeile\nzwei", "ünï☃", "=cmd", "'quote'", "..dots", "nan", "\x1b[31mred"]
    for name in names:
        put(tmp_path / "root" / name / "deep" / "er" / "x y.png")
    put(tmp_path / "root" / ".hidden" / "0.png")
    put(tmp_path / "root" / "__MACOSX" / "0.png")
    data = load(tmp_path / "root", runtime=runtime)
    visible = [name for name in names if not name.startswith(".")]
    assert data.classes == tuple(sorted(visible))
    assert sorted(data.ids.tolist()) == sorted(f"{name}/deep/er/x y.png" for name in visible)
    assert not any(c in note for note in data.notes for c in "\x1b\n")


def test_names_that_are_no_text(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    put(tmp_path / "root" / "a" / "0.png")
    put(tmp_path / "root" / "b" / "0.png")
    odd = os.fsencode(tmp_path / "root") + b"/caf\xe9"
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("this file system takes only valid names")
    os.link(tmp_path / "root" / "a" / "0.png", odd + b"/0.png")
    data = load(tmp_path / "root", runtime=runtime)
    assert data.classes == ("a", "b", "caf\\xe9")
    assert "\n".join(data.ids.tolist()).encode()  # every id can be written as UTF-8


def test_classes_that_are_numbers_come_in_their_order(tmp_path: Path, put: Put, runtime: Runtime) -> None:
    for k in (10, 9, 1, 2):
        put(tmp_path / "root" / str(k) / "0.png")
    assert load(tmp_path / "root", runtime=runtime).classes == ("1", "2", "9", "10")


@pytest.mark.parametrize(
    ("shapes", "size", "got"),
    [
        ([(8, 8), (8, 8)], None, (8, 8)),
        ([(100, 200), (100, 200)], None, (32, 64)),
        ([(20, 30), (40, 24)], None, (27, 27)),
        ([(4, 4), (5, 5)], None, (16, 16)),
        ([(300, 300), (400, 400)], None, (64, 64)),
        ([(300, 300), (400, 400)], 100, (100, 100)),
        ([(20, 30), (40, 24)], (10, 12), (10, 12)),
    ],
)
def test_one_common_size(tmp_path: Path, put: Put, runtime: Runtime, shapes: list[tuple[int, int]], size: object, got: tuple) -> None:
    for name, shape in zip("ab", shapes, strict=True):
        put(tmp_path / "root" / name / "0.png", shape=(*shape, 3))
        put(tmp_path / "root" / name / "1.png", shape=(*shape, 3))
    data = load(tmp_path / "root", size=size, runtime=runtime)  # type: ignore[arg-type]
    assert data.inputs.shape[1:3] == got
    changed = 2 * sum(shape != got for shape in shapes)
    assert data.resized == bool(changed)
    assert [f"{changed} of 4 pictures resized" in note for note in data.notes] == ([True] if changed else [])


def test_other_files_are_counted(two_classes: Path, runtime: Runtime) -> None:
    (two_classes / "cat" / "notes.txt").write_text("x")
    (two_classes / "cat" / "Thumbs.db").write_bytes(b"x")
    (two_classes / "cat" / ".DS_Store").write_bytes(b"x")
    (two_classes / "cat" / "tocsin-poison.json").write_text("{}")
    data = load(two_classes, runtime=runtime)
    assert len(data) == 6
    assert data.notes == ("3 files ignored, not a picture",)


def test_pictures_are_told_by_content(two_classes: Path, put: Put, runtime: Runtime) -> None:
    array = put(two_classes / "cat" / "9.png")
    (two_classes / "cat" / "9.png").rename(two_classes / "cat" / "a0f3")
    data = load(two_classes, runtime=runtime)
    assert np.array_equal(data.inputs[data.ids.tolist().index("cat/a0f3")], array)


def test_damaged_files_are_named(two_classes: Path, put: Put, runtime: Runtime) -> None:
    whole = (two_classes / "dog" / "0.png").read_bytes()
    for k in range(4):
        (two_classes / "dog" / f"cut{k}.png").write_bytes(whole[: 60 + 20 * k])
    (two_classes / "dog" / "empty.jpg").write_bytes(b"")
    (two_classes / "dog" / "text.jpg").write_text("no picture")
    put(two_classes / "dog" / "cut.jpg", shape=(64, 64, 3))
    (two_classes / "dog" / "cut.jpg").write_bytes((two_classes / "dog" / "cut.jpg").read_bytes()[:900])
    data = load(two_classes, runtime=runtime)
    assert len(data) == 6
    broken = [note for note in data.notes if note.startswith("7 pictures could not be decoded")]
    assert len(broken) == 1
    assert "dog/cut.jpg" in broken[0]
    assert "and 2 more" in broken[0]
    assert load(two_classes, runtime=runtime).notes == data.notes  # the cache remembers


def _png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 6_000), (2_000_000_000, 2_000_000_000), (40_000, 1)])
def test_absurd_sizes_are_left_out_by_their_header(two_classes: Path, runtime: Runtime, size: tuple[int, int]) -> None:
    (two_classes / "cat" / "bomb.png").write_bytes(_png_header(*size))
    data = load(two_classes, runtime=runtime)
    assert len(data) == 6
    assert "cat/bomb.png" in " ".join(data.notes)
    assert "larger than 50 megapixels" in " ".join(data.notes)


def test_links_and_special_files(two_classes: Path, put: Put, tmp_path: Path, runtime: Runtime) -> None:
    put(tmp_path / "outside" / "secret.png")
    put(two_classes / ".store" / "z.png")
    (two_classes / "cat" / "out.png").symlink_to(tmp_path / "outside" / "secret.png")
    (two_classes / "cat" / "outdir").symlink_to(tmp_path / "outside")
    (two_classes / "cat" / "broken.png").symlink_to("nowhere.png")
    (two_classes / "cat" / "loop").symlink_to(two_classes)
    (two_classes / "again").symlink_to(two_classes / "dog")
    (two_classes / "cat" / "in.png").symlink_to("../.store/z.png")
    (two_classes / "cow").symlink_to(".store")
    os.mkfifo(two_classes / "cat" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(two_classes / "cat" / "socket.png"))
        data = load(two_classes, runtime=runtime)
    assert data.classes == ("cat", "cow", "dog")
    assert set(data.ids.tolist()) == {f"{c}/{k}.png" for c in ("cat", "dog") for k in range(3)} | {"cat/in.png", "cow/z.png"}
    said = "\n".join(data.notes)
    assert "2 links left out, it leads out of the folder: cat/out.png, cat/outdir" in said
    assert "2 links left out, the folder it points to is read already: again, cat/loop" in said
    assert "broken link or no access: cat/broken.png" in said
    assert "2 files left out, it is a pipe, socket or device: cat/pipe.png, cat/socket.png" in said


def test_a_linked_root_is_no_link_out(two_classes: Path, tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "link").symlink_to(two_classes)
    assert len(load(tmp_path / "link", runtime=runtime)) == 6


def _nothing(root: Path, put: Put) -> Path:
    root.mkdir()
    return root


def _flat(root: Path, put: Put) -> Path:
    put(root / "0.png")
    return root


def _one_class(root: Path, put: Put) -> Path:
    put(root / "cat" / "0.png")
    put(root / "cat" / "1.png")
    return root


def _one_too_high(root: Path, put: Put) -> Path:
    put(root / "images" / "cat" / "0.png")
    put(root / "images" / "dog" / "0.png")
    return root


def _splits(root: Path, put: Put) -> Path:
    for split in ("train", "test"):
        put(root / split / "cat" / "0.png")
    return root


def _all_broken(root: Path, put: Put) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return root


def _table_inside(root: Path, put: Put) -> Path:
    root.mkdir()
    (root / "train.csv").write_text("path,label\n")
    return root


def _missing(root: Path, put: Put) -> Path:
    root.mkdir()
    return root.parent / "rot"


def _fifo(root: Path, put: Put) -> Path:
    os.mkfifo(root)
    return root


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_nothing, ["no class folder"]),
        (_flat, ["directly in it", "metadata.csv"]),
        (_one_class, ["only one class", "cat"]),
        (_one_too_high, ["did you mean", "images"]),
        (_splits, ["look like splits", "train"]),
        (_all_broken, ["2 pictures could not be decoded"]),
        (_table_inside, ["did you mean", "train.csv"]),
        (_missing, ["no such file", "did you mean", "root"]),
        (_fifo, ["neither a file nor a folder"]),
    ],
)
def test_what_cannot_be_used_is_explained(
    tmp_path: Path, put: Put, runtime: Runtime, make: Callable[[Path, Put], Path], words: list[str]
) -> None:
    path = make(tmp_path / "root", put)
    with pytest.raises(InputError) as told:
        load(path, runtime=runtime)
    assert all(word in str(told.value) for word in words), told.value


@pytest.mark.parametrize(
    ("options", "word"),
    [({"size": 1}, "size"), ({"size": "big"}, "size"), ({"kind": "smell"}, "kind"), ({"classes": "cat"}, "classes"),
     ({"classes": ["cat"]}, "dog"), ({"classes": ["cat", "cat"]}, "twice"), ({"labels": [1]}, "labels"), ({"root": "/nowhere"}, "root")],
)  # fmt: skip
def test_wrong_arguments(two_classes: Path, runtime: Runtime, options: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        load(two_classes, runtime=runtime, **options)


def test_classes_give_the_order_and_small_ones_are_noted(two_classes: Path, put: Put, runtime: Runtime) -> None:
    put(two_classes / "ant" / "0.png")
    (two_classes / "void").mkdir()
    data = load(two_classes, classes=["dog", "cat", "ant"], runtime=runtime)
    assert data.classes == ("dog", "cat", "ant")
    assert data.class_counts.tolist() == [3, 3, 1]
    assert "too few samples (under 2) in class ant (1)" in data.notes
    assert any("void" in note for note in data.notes)
