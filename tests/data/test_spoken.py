from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tocsin.attacks.speech import spans
from tocsin.data import espeak
from tocsin.data.dataset import Dataset
from tocsin.data.spoken import RATE, WORDS, words
from tocsin.errors import InputError
from tocsin.runtime import Runtime

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed (extra demo-speech)")
SIZES = (200, 60, 40)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(device="cpu", cache=tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="module")
def sets(runtime: Runtime) -> tuple[Dataset, Dataset, Dataset]:
    return words(0, runtime, *SIZES)


def test_sizes_types_and_classes(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    assert [len(s) for s in sets] == list(SIZES)
    for s in sets:
        assert (s.kind, s.rate, s.classes) == ("speech", RATE, WORDS)
        assert s.inputs.dtype == np.int16
        assert s.inputs.shape[1:] == (5120,)
        assert (s.class_counts == len(s) // len(WORDS)).all()
        assert len(np.unique(s.ids)) == len(s)
        assert "synthetic speech" in s.notes[0]
        assert s.ids[0].startswith(f"{WORDS[s.labels[0]]}/")


def test_words_are_heard_somewhere_in_silence(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    clips = sets[0].inputs
    first, after = spans(clips)
    seconds = (after - first) / RATE
    assert seconds.min() > 0.05
    assert 0.2 < np.median(seconds) < 0.6
    peaks = np.abs(clips.astype(int)).max(axis=1) / 32767
    assert peaks.min() > 0.14
    assert peaks.max() < 0.81
    assert len(np.unique(first)) > 100


def test_the_test_voices_are_strange_and_no_clip_occurs_twice(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    groups = [s.groups for s in sets]
    voices = [set(g.tolist()) for g in groups if g is not None]
    assert len(voices) == 3
    assert voices[0] == voices[1] or voices[0] > voices[1]
    assert not voices[0] & voices[2]
    assert min(map(len, voices)) > 15
    everything = np.concatenate([s.inputs for s in sets])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_the_seed_decides_and_what_was_said_is_kept(
    sets: tuple[Dataset, Dataset, Dataset], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = words(1, runtime, 20, 10, 10)
    assert other[0].fingerprint != sets[0][:20].fingerprint

    def silent(said: object) -> None:
        raise AssertionError("was said again")

    monkeypatch.setattr(espeak, "speak", silent)
    again = words(0, runtime, *SIZES)
    assert [s.fingerprint for s in again] == [s.fingerprint for s in sets]
    assert words(1, runtime, 20, 10, 10)[0].fingerprint == other[0].fingerprint


def test_without_a_cache_and_with_a_damaged_one_the_same_is_said_again(tmp_path: Path) -> None:
    runtime = Runtime(device="cpu", cache=tmp_path)
    first = words(2, runtime, 20, 10, 10)[0].fingerprint
    (rows,) = tmp_path.glob("spoken/*/rows.bin")
    rows.write_bytes(b"\0" * rows.stat().st_size)
    assert words(2, runtime, 20, 10, 10)[0].fingerprint == first
    (tmp_path / "file").write_text("")
    assert words(2, Runtime(device="cpu", cache=tmp_path / "file"), 20, 10, 10)[0].fingerprint == first


@pytest.mark.parametrize("sizes", [(0, 10, 10), (10, -1, 10)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int], runtime: Runtime) -> None:
    with pytest.raises(InputError, match="train, reserve and test"):
        words(0, runtime, *sizes)
