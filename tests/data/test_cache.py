"""The cache answers only for files that are still the same, and never with something half written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tocsin.data import cache, load
from tocsin.runtime import Runtime


def _entries(runtime: Runtime) -> list[Path]:
    return sorted((runtime.cache / "decoded").iterdir())


def test_second_time_nothing_is_decoded(two_classes: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(two_classes, runtime=runtime)
    monkeypatch.setattr("tocsin.data.images._decode", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("tocsin.data.images.Pictures.probe", lambda *_: pytest.fail("probed again"))
    second = load(two_classes, runtime=runtime)
    assert second.fingerprint == first.fingerprint
    assert not second.inputs.flags.writeable


def test_a_file_rewritten_with_its_old_size_and_time_is_seen(tmp_path: Path, put, runtime: Runtime) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "root"
    for name in ("a", "b"):
        put(root / name / "0.bmp")
    load(root, runtime=runtime)
    before = os.stat(root / "a" / "0.bmp")
    poisoned = put(root / "a" / "0.bmp")
    os.utime(root / "a" / "0.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(root / "a" / "0.bmp").st_size == before.st_size
    assert np.array_equal(load(root, runtime=runtime).inputs[0], poisoned)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("rows.bin", lambda raw: raw[:-1]),
        ("rows.bin", lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
        ("index.json", lambda raw: raw[:-10]),
        ("index.json", lambda raw: raw.replace(b'"shape": [6', b'"shape": [9')),
        ("index.json", lambda raw: b"[]"),
        ("index.json", lambda raw: b"\xff\xfe"),
    ],
)
def test_damage_is_noticed_and_repaired(two_classes: Path, runtime: Runtime, file: str, damage) -> None:  # type: ignore[no-untyped-def]
    first = load(two_classes, runtime=runtime)
    before = first.fingerprint  # now: the file behind the map is about to be damaged
    path = _entries(runtime)[0] / file
    path.write_bytes(damage(path.read_bytes()))
    again = load(two_classes, runtime=runtime)
    assert again.fingerprint == before
    assert any("damaged" in note for note in again.notes)
    assert load(two_classes, runtime=runtime).notes == first.notes


def test_half_written_entries_are_never_used(two_classes: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.FileSink, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        load(two_classes, runtime=runtime)
    assert _entries(runtime) == []


def test_full_disk_falls_back_to_memory(two_classes: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(two_classes, runtime=Runtime(cache=runtime.cache / "other")).fingerprint

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.FileSink, "write", full)
    data = load(two_classes, runtime=runtime)
    assert data.fingerprint == expected
    assert any("No space left on device" in note and "in memory" in note for note in data.notes)
    assert _entries(runtime) == []


def test_a_cache_that_is_a_file_falls_back_to_memory(two_classes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = load(two_classes, runtime=Runtime(cache=tmp_path / "file"))
    assert len(data) == 6
    assert any("could not be cached" in note for note in data.notes)


def test_progress_runs_to_its_end(two_classes: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, float]] = []
    load(two_classes, runtime=Runtime(cache=tmp_path / "cache", progress=lambda *call: calls.append(call)))
    assert ("decoding", 1.0) in calls
    assert all(0 <= fraction <= 1 for _, fraction in calls)


def test_a_grey_set_of_more_than_one_chunk(tmp_path: Path, put, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("tocsin.data.decoding._CHUNK", 2)
    for k in range(5):
        put(tmp_path / "root" / str(k % 2) / f"{k}.png", shape=(6, 6) if k != 4 else (6, 6, 3))
    data = load(tmp_path / "root", runtime=runtime)
    assert data.inputs.shape == (5, 6, 6, 3)
