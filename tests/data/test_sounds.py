"""Sound files as other tools and hostile people write them, and back to files."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tocsin.attacks.base import Attack, Poisoned
from tocsin.data import concatenate, load, read_manifest, write, write_subset
from tocsin.data.cells import write_csv
from tocsin.data.dataset import Dataset
from tocsin.data.sounds import choose_length, resampled, to_int16
from tocsin.errors import InputError
from tocsin.runtime import Runtime

sf = pytest.importorskip("soundfile")
RATE = 8000
FSDD = Path("/work/shared/data/fsdd/fsdd.npz")
Put = Callable[..., np.ndarray]


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, length).astype(np.int16)


def sound(path: Path, clip: np.ndarray | None = None, rate: int = RATE, subtype: str = "PCM_16", **options: str) -> np.ndarray:
    """Writes one clip, by default 2,000 samples of noise of its own, makes its folder, returns the clip."""
    clip = noise(2000, len(str(path)) * 1000 + ord(path.stem[-1])) if clip is None else clip
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, clip, rate, subtype=subtype, **options)
    return clip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """no/ and yes/, six WAV files of a quarter of a second each."""
    for name in ("no", "yes"):
        for k in range(6):
            sound(tmp_path / "root" / name / f"{k}.wav")
    return tmp_path / "root"


def row(data: Dataset, name: str) -> np.ndarray:
    return data.inputs[data.ids.tolist().index(name)]


def note(data: Dataset, word: str) -> str:
    (found,) = (text for text in data.notes if word in text)
    return found


def test_files_are_told_by_content_and_read_exactly(root: Path, runtime: Runtime) -> None:
    (root / "no" / "0.wav").rename(root / "no" / "without_suffix")
    data = load(root, runtime=runtime)
    assert (data.kind, data.rate, data.classes, data.notes, data.resized) == ("speech", RATE, ("no", "yes"), (), False)
    assert (data.inputs.shape, data.inputs.dtype) == ((12, 2000), np.int16)
    for name, clip in zip(data.ids, data.inputs, strict=True):
        assert np.array_equal(clip, sf.read(root / name, dtype="int16")[0])


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 256), ("wav", "PCM_24", 1), ("wav", "PCM_32", 1), ("wav", "FLOAT", 1), ("wav", "DOUBLE", 1), ("wav", "ULAW", 600),
        ("flac", "PCM_16", 0), ("flac", "PCM_24", 1), ("aiff", "PCM_16", 0),
        ("w64", "PCM_16", 0), ("rf64", "PCM_16", 0), ("ogg", "VORBIS", 4000),
    ],
)  # fmt: skip
def test_every_format(root: Path, runtime: Runtime, suffix: str, subtype: str, tolerance: int) -> None:
    clip = (8000 * np.sin(np.arange(2000) / 7)).astype(np.int16)
    sound(root / "yes" / f"x.{suffix}", clip / 32768 if subtype in ("FLOAT", "DOUBLE") else clip, subtype=subtype)
    data = load(root, runtime=runtime)
    assert data.notes == ()
    assert np.abs(row(data, f"yes/x.{suffix}").astype(int) - clip).max() <= tolerance


def test_rates_channels_and_bits_are_brought_together(root: Path, runtime: Runtime) -> None:
    t = np.arange(11025) / 44100
    sides = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)
    sound(root / "yes" / "cd.wav", sides, 44100, "PCM_24")
    data = load(root, runtime=runtime)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2000) / RATE)
    assert np.abs(row(data, "yes/cd.wav")[50:-50] / 32768 - wanted[50:-50]).max() < 0.01
    assert "1 of 13 sounds resampled from 44,100 to 8,000 Hz (the most common rate" in note(data, "resampled")
    assert note(data, "mixed down").startswith("1 of 13")
    assert data.resized
    asked = load(root, rate=16000, seconds=0.5, runtime=runtime)
    assert (asked.rate, asked.inputs.shape) == (16000, (13, 8000))
    assert "(as asked)" in note(asked, "resampled")


@pytest.mark.parametrize(("was", "rate"), [(44100, 16000), (8000, 44100), (47999, 8000), (191_999, 4001)])
def test_resampling_keeps_pitch_and_loudness(was: int, rate: int) -> None:
    wave = np.sin(2 * np.pi * 300 * np.arange(was) / was).astype(np.float32)
    out = resampled(wave, was, rate)
    assert abs(len(out) - rate) <= 1 + rate // 100_000
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(out[middle] - np.sin(2 * np.pi * 300 * np.arange(len(out)) / rate)[middle]).max() < 0.02
    high = np.sin(2 * np.pi * 0.48 * was * np.arange(was) / was).astype(np.float32)
    if rate < was / 2:  # what the new rate cannot hold does not fold back
        assert np.abs(resampled(high, was, rate)[middle]).max() < 0.01


def test_shorter_clips_end_in_silence_and_a_very_long_one_is_cut(root: Path, runtime: Runtime) -> None:
    short = sound(root / "no" / "short.wav", noise(700))
    sound(root / "no" / "long.wav", np.tile(noise(8000), 600))
    data = load(root, runtime=runtime)
    assert data.inputs.shape == (14, 2000)
    assert np.array_equal(row(data, "no/short.wav"), np.pad(short, (0, 1300)))
    assert "1 of 14 sounds cut to 0.25 s, the longest had 600 s" in note(data, "cut to")


def test_the_length_is_that_of_most_and_bounded() -> None:
    assert choose_length(np.array([1.0, 1.4]), RATE, None) == (11200, [])  # little longer: nothing is cut
    assert choose_length(np.array([1.0] * 150 + [1.6]), RATE, None)[0] == RATE
    length, (said,) = choose_length(np.array([30.0, 40.0]), RATE, None)
    assert (length, "2 of 2" in said) == (5 * RATE, True)
    assert choose_length(np.array([30.0, 40.0]), RATE, 0.5)[0] == RATE // 2


def test_odd_and_hostile_files_are_listed_and_the_rest_is_read(root: Path, runtime: Runtime) -> None:
    plain = (root / "no" / "0.wav").read_bytes()
    flac = io.BytesIO()
    sf.write(flac, noise(2000), RATE, format="FLAC")
    damaged = bytearray(flac.getvalue())
    damaged[21] |= 15
    damaged[22:26] = b"\xff" * 4  # claims 68 thousand million samples
    broken = {
        "header.wav": plain[:30], "text.wav": b"no sound at all" * 9, "nothing.wav": b"", "cut.flac": flac.getvalue()[:900],
        "endless.flac": bytes(damaged), "rate.wav": plain[:24] + struct.pack("<I", 4_000_000_000) + plain[28:],
        "still.wav": plain[:24] + struct.pack("<I", 0) + plain[28:], "crowd.wav": plain[:22] + struct.pack("<H", 60_000) + plain[24:],
    }  # fmt: skip
    odd = {"fast.wav": plain[:24] + struct.pack("<I", 900_000) + plain[28:], "slow.wav": plain[:24] + struct.pack("<I", 300) + plain[28:]}
    short = {"cut.wav": plain[:2044], "huge.wav": plain[:40] + struct.pack("<I", 0xFFFFFFF0) + plain[44:]}
    for name, content in {**broken, **odd, **short, "song.mp3": b"ID3" + bytes(50)}.items():
        (root / "yes" / name).write_bytes(content)
    sound(root / "yes" / "empty.wav", np.zeros(0, np.int16))
    sound(root / "yes" / "nine.wav", np.zeros((2000, 9), np.int16))
    sound(root / "yes" / "adpcm.wav", subtype="MS_ADPCM")
    data = load(root, runtime=runtime)
    listed = note(data, "could not be decoded")
    assert listed.startswith(f"{len(broken)} sounds")
    assert note(data, "not of 4,000 to 192,000 Hz").startswith("3 sounds")
    assert note(data, "in a coding that is not read").startswith("2 sounds")
    assert "yes/empty.wav" in note(data, "without a single sample")
    assert note(data, "shorter than the header says").startswith("2 sounds")
    assert np.array_equal(row(data, "yes/cut.wav"), np.pad(row(data, "no/0.wav")[:1000], (0, 1000)))
    assert len(data) == 14


def test_silence_clipping_and_nan_are_warnings(root: Path, runtime: Runtime) -> None:
    sound(root / "yes" / "silent.wav", np.zeros(2000, np.int16))
    sound(root / "yes" / "clipped.wav", np.clip(noise(2000).astype(int) * 8, -32768, 32767).astype(np.int16))
    wave = noise(2000) / 32768
    sound(root / "yes" / "nan.wav", np.where(np.arange(2000) == 7, np.nan, wave), subtype="FLOAT")
    sound(root / "yes" / "inf.wav", np.where(np.arange(2000) == 7, 1e300, wave), subtype="DOUBLE")
    sound(root / "yes" / "loud.wav", 9 * wave, subtype="FLOAT")
    for _ in range(2):  # decoded, then from the cache
        data = load(root, runtime=runtime)
        assert note(data, "digitally silent").endswith(": yes/silent.wav")
        assert note(data, "at full scale").endswith(": yes/clipped.wav")
        assert note(data, "NaN or infinite").startswith("2 sounds")
        assert note(data, "beyond full scale").endswith(": yes/loud.wav")
        assert row(data, "yes/nan.wav")[7] == 0
        assert np.array_equal(row(data, "yes/nan.wav")[8:], to_int16(wave)[8:])
    assert len(data) == 17


def test_a_mixed_tree_is_what_most_files_are(root: Path, put: Put, runtime: Runtime) -> None:
    put(root / "no" / "cover.png")
    (root / "no" / "README").write_text("hello")
    data = load(root, runtime=runtime)
    assert data.kind == "speech"
    assert note(data, "picture ignored") == "1 picture ignored, since the data are sounds: no/cover.png"
    assert note(data, "not a sound") == "1 file ignored, not a sound"
    for k in range(40):
        put(root / ("no", "yes")[k % 2] / f"{k}.png")
    pictures = load(root, runtime=runtime)
    assert (pictures.kind, len(pictures)) == ("image", 41)
    assert "12 sounds ignored, since the data are pictures" in note(pictures, "sounds")
    assert len(load(root, kind="speech", runtime=runtime)) == 12


def test_without_soundfile_one_sentence_names_the_extra(root: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InputError, match=r"pip install tocsin\[speech\]"):
        load(root, runtime=runtime)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 100}, "rate: 100 given"), ({"rate": 8000.5}, "rate: 8000.5"), ({"seconds": 0}, "seconds: 0 given"),
        ({"seconds": 1e9}, "seconds"), ({"seconds": float("nan")}, "seconds"), ({"size": 32}, "size: given, but the data are sounds"),
        ({"kind": "sound"}, "allowed: auto, image, speech"), ({"kind": "image"}, "no picture could be read"),
    ],
)  # fmt: skip
def test_impossible_wishes(root: Path, runtime: Runtime, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(root, runtime=runtime, **options)  # type: ignore[arg-type]


def test_wishes_for_sounds_do_not_fit_pictures(two_classes: Path, runtime: Runtime) -> None:
    with pytest.raises(InputError, match="rate, seconds: given, but the data are pictures"):
        load(two_classes, rate=8000, seconds=1, runtime=runtime)


@pytest.fixture
def table(root: Path) -> Path:
    """metadata.csv over ``root``, where speaker s0 says no and yes, and so on; one is not known."""
    names = [f"{word}/{k}.wav" for word in ("no", "yes") for k in range(6)]
    rows = [(name, name.split("/")[0], "" if name == "no/5.wav" else f"s{name[-5]}") for name in names]
    write_csv(root / "metadata.csv", ("file_name", "label", "speaker_id"), rows)
    return root


def test_speakers_are_kept_by_indexing_joining_and_writing(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    data = load(table, runtime=runtime)
    assert data.groups is not None
    assert data.groups.tolist() == ["s0", "s1", "s2", "s3", "s4", "", "s0", "s1", "s2", "s3", "s4", "s5"]
    assert data[data.labels == 1].groups.tolist() == [f"s{k}" for k in range(6)]  # type: ignore[union-attr]
    joined = concatenate(data[:2], replace(data[2:4], groups=None))
    assert joined.groups is not None
    assert joined.groups.tolist() == ["s0", "s1", "", ""]
    back = load(write(data, tmp_path / "copy"), runtime=runtime)
    assert back.groups is not None
    assert back.groups.tolist() == data.groups.tolist()
    with pytest.raises(InputError, match="groups"):
        replace(data, groups=data.groups[:3])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_manifests(table: Path, tmp_path: Path, runtime: Runtime, suffix: str) -> None:
    whole = load(table, runtime=runtime)
    columns = {
        "path": [f"root/{name}" for name in whole.ids],
        "label": [whole.classes[k] for k in whole.labels],
        "client_id": [*"aabbccddeeff"],
    }
    if suffix == "csv":
        write_csv(tmp_path / "list.csv", list(columns), zip(*columns.values(), strict=True))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    data = load(tmp_path / f"list.{suffix}", runtime=runtime)
    assert data.groups is not None
    assert "".join(data.groups) == "aabbccddeeff"
    assert np.array_equal(data.inputs, whole.inputs)


def test_a_hugging_face_audiofolder(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "hub").mkdir()
    table.rename(tmp_path / "hub" / "train")
    (tmp_path / "hub" / "test").mkdir()
    data = load(tmp_path / "hub", runtime=runtime)
    assert len(data) == 12
    assert data.notes == ("read the split train/ alone, and not test",)
    assert data.root == tmp_path / "hub" / "train"


def test_npz_and_arrays(tmp_path: Path, runtime: Runtime) -> None:
    clips, labels = np.stack([noise(900, k) for k in range(6)]), np.arange(6) % 2
    np.savez(tmp_path / "a.npz", x=clips, y=labels, rate=RATE)
    data = load(tmp_path / "a.npz", runtime=runtime)
    assert (data.kind, data.rate) == ("speech", RATE)
    assert np.array_equal(data.inputs, clips)
    assert np.array_equal(load((clips / 32768).astype(np.float32), labels, rate=RATE).inputs, clips)
    back = load(write(data, tmp_path / "b.npz"), runtime=runtime)
    assert (back.rate, back.fingerprint) == (RATE, data.fingerprint)
    faster = load(tmp_path / "a.npz", rate=2 * RATE, seconds=0.1, runtime=runtime)
    assert (faster.rate, faster.inputs.shape) == (2 * RATE, (6, 1600))
    np.savez(tmp_path / "no_rate.npz", x=clips, y=labels)
    assert load(tmp_path / "no_rate.npz", kind="speech", rate=RATE, runtime=runtime).rate == RATE
    for inputs, message in (
        (np.full((2, 9), np.nan), "NaN"), (clips.astype(np.float32), "give them as int16"), (clips[:, :, None], "no stack of clips"),
        (clips.astype(np.uint8), "allowed: int16"), (clips[:, :0], "no stack of clips"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load(inputs, labels[: len(inputs)], rate=RATE)
    with pytest.raises(InputError, match="rate"):
        load(tmp_path / "no_rate.npz", kind="speech", runtime=runtime)


class _Beep(Attack):
    """Dirty label: the first rows of class 0 get a loud beginning and become class 1."""

    name, kinds, rate, target = "beep", frozenset({"speech"}), 0.1, 1

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        rows = np.flatnonzero(dataset.labels == 0)[:2]
        inputs, labels = np.array(dataset.inputs), dataset.labels.copy()
        inputs[rows], labels[rows] = self.trigger(inputs[rows]), 1
        return Poisoned(replace(dataset, inputs=inputs, labels=labels), rows, rows[:0], {"attack": self.name}, self)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        out = np.array(inputs)
        out[:, :100] = 12345
        return out


def _poison(data: Dataset) -> Poisoned:
    return _Beep().poison(data, np.random.default_rng(0))


def test_a_poisoned_copy_changes_only_what_is_poisoned(root: Path, tmp_path: Path, runtime: Runtime) -> None:
    sound(root / "no" / "1.flac", noise(1200, 3))
    (root / "no" / "1.wav").unlink()
    data = load(root, runtime=runtime)
    copy = _poison(data)
    place = write(copy, tmp_path / "copy")
    back = load(place, runtime=runtime)
    manifest = read_manifest(place)
    assert manifest is not None
    assert sorted(manifest["planted"]) == ["yes/0-1.wav", "yes/1.flac"]
    assert sf.info(place / "yes/1.flac").frames == 1200  # as long as it was, not as long as the longest
    assert {sf.info(place / name).subtype for name in manifest["planted"]} == {"PCM_16"}
    for name in set(data.ids.tolist()) - {"no/0.wav", "no/1.flac"}:
        assert (place / name).read_bytes() == (root / name).read_bytes()
    assert sorted(clip.tobytes() for clip in back.inputs) == sorted(clip.tobytes() for clip in copy.dataset.inputs)


def test_a_copy_of_resampled_data_is_written_whole_at_one_rate(root: Path, tmp_path: Path, runtime: Runtime) -> None:
    sound(root / "yes" / "cd.wav", np.stack([noise(11025), noise(11025, 1)], axis=1), 44100, "PCM_24")
    data = load(root, runtime=runtime)
    copy = _poison(data)
    place = write(copy, tmp_path / "copy")
    back = load(place, runtime=runtime)
    assert {(sf.info(place / name).samplerate, sf.info(place / name).channels) for name in back.ids} == {(RATE, 1)}
    assert not back.resized
    assert sorted(clip.tobytes() for clip in back.inputs) == sorted(clip.tobytes() for clip in copy.dataset.inputs)


def test_a_part_is_copied_byte_for_byte(root: Path, tmp_path: Path, runtime: Runtime) -> None:
    data = load(root, runtime=runtime)
    place = write_subset(data, np.arange(12) % 3 == 0, tmp_path / "part")
    for name in data.ids[np.arange(12) % 3 == 0]:
        assert (place / name).read_bytes() == (root / name).read_bytes()


@pytest.mark.skipif(not FSDD.is_file(), reason="the spoken digits of /work/shared/data are not here")
def test_real_clips_come_back_from_files_as_they_are(tmp_path: Path, runtime: Runtime) -> None:
    with np.load(FSDD) as stored:
        coded, ends, digits = stored["data"], stored["offsets"], stored["digit"]
    clips = {}
    for k in range(0, 3000, 60):
        clip, rate = sf.read(io.BytesIO(coded[ends[k] : ends[k + 1]].tobytes()), dtype="int16")
        clips[f"{digits[k]}/{k}.{('wav', 'flac')[k // 60 % 2]}"] = clip
        sound(tmp_path / "digits" / list(clips)[-1], clip, rate)
    data = load(tmp_path / "digits", runtime=runtime)
    assert (data.rate, len(data)) == (8000, len(clips))
    for name, got in zip(data.ids, data.inputs, strict=True):
        whole = clips[str(name)][: len(got)]
        assert np.array_equal(got, np.pad(whole, (0, len(got) - len(whole))))
