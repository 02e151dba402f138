"""CIFAR batches: the real forms are read, and nothing else, without running anything."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.data import load
from tocsin.data.pickles import Refused, array_of, parse
from tocsin.errors import InputError
from tocsin.runtime import Runtime

RNG = np.random.default_rng(0)
DATA = RNG.integers(0, 256, (4, 3072), np.uint8)
PICTURES = DATA.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)


def _text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def python2(data: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """Byte for byte what Python 2 with an old numpy wrote: protocol 2, text for bytes."""
    n = len(data)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08\x87q\x09Rq\x0a"
        b"(K\x01M" + struct.pack("<H", n) + b"M\x00\x0c\x86q\x0b"
        b"cnumpy\ndtype\nq\x0cU\x02u1q\x0dK\x00K\x01\x87q\x0eRq\x0f(K\x03U\x01|q\x10NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x11b"
        b"\x89T" + struct.pack("<I", n * 3072) + data.tobytes() + b"q\x12tq\x13b"
    )
    numbers = b"]q\x14(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"]q\x15(" + b"".join(_text(f"{k}.png".encode()) for k in range(n)) + b"e"
    return (
        b"\x80\x02}q\x01(" + _text(b"data") + b"q\x04" + array + _text(key) + numbers + _text(b"batch_label")
        + _text(b"batch 1 of 5") + _text(b"filenames") + names + b"u."
    )  # fmt: skip


def batch(labels: list[int], data: np.ndarray = DATA, key: bytes = b"labels") -> dict[bytes, Any]:
    return {b"batch_label": b"batch", key: labels, b"data": data, b"filenames": [b"x.png"] * len(labels)}


def test_the_model_of_a_real_batch_is_a_valid_pickle() -> None:
    value = pickle.loads(python2(DATA, [3, 1, 1, 0]), encoding="bytes")
    assert np.array_equal(value[b"data"], DATA)


@pytest.mark.parametrize(
    "raw",
    [
        python2(DATA, [3, 1, 1, 0]),
        *(pickle.dumps(batch([3, 1, 1, 0]), protocol) for protocol in range(6)),
        pickle.dumps({"data": np.asfortranarray(DATA), "labels": [3, 1, 1, 0]}, 2),
    ],
    ids=["python 2", *(f"protocol {k}" for k in range(6)), "fortran order"],
)
def test_reads_a_single_batch(tmp_path: Path, raw: bytes, runtime: Runtime) -> None:
    (tmp_path / "test_batch").write_bytes(raw)
    data = load(tmp_path / "test_batch", runtime=runtime)
    assert np.array_equal(data.inputs, PICTURES)
    assert [data.classes[k] for k in data.labels] == ["3", "1", "1", "0"]
    assert data.ids.tolist() == [f"test_batch/{k}" for k in range(4)]
    assert data.layout == "cifar"


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_reads_the_folder_of_cifar10(tmp_path: Path, inner: str, runtime: Runtime) -> None:
    folder = tmp_path / "c" / inner
    folder.mkdir(parents=True)
    for k in range(1, 6):
        (folder / f"data_batch_{k}").write_bytes(python2(DATA, [0, 1, 2, 1]))
    (folder / "test_batch").write_bytes(b"never read")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "<b>", "bird"]}, 2))
    data = load(tmp_path / "c", runtime=runtime)
    assert data.classes == ("plane", "<b>", "bird")
    assert len(data) == 20
    assert data.ids[4] == "data_batch_2/0"
    (folder / "batches.meta").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    hostile = load(tmp_path / "c", runtime=runtime)
    assert hostile.classes == ("0", "1", "2")
    assert "class names not read" in hostile.notes[0]


def test_reads_the_folder_of_cifar100_with_fine_labels(tmp_path: Path, runtime: Runtime) -> None:
    value = {**batch([5, 7, 5, 7], key=b"fine_labels"), b"coarse_labels": [0, 0, 1, 1]}
    (tmp_path / "train").write_bytes(pickle.dumps(value, 2))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"n%d" % k for k in range(8)]}, 2))
    data = load(tmp_path, runtime=runtime)
    assert [data.classes[k] for k in data.labels] == ["n5", "n7", "n5", "n7"]


class _Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


HOSTILE: dict[str, bytes] = {
    "os.system": pickle.dumps(_Call(os.system, "touch BANG"), 2),
    "os.system, protocol 0": b"cos\nsystem\n(S'touch BANG'\ntR.",
    "in a dict": pickle.dumps({b"data": _Call(os.system, "touch BANG"), b"labels": [0]}, 2),
    "STACK_GLOBAL": pickle.dumps(_Call(os.system, "touch BANG"), 4),
    "eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "getattr chain": b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'x'\ntR.",
    "numpy.load": b"cnumpy\nload\n(S'x'\ntR.",
    "dtype of objects": pickle.dumps({b"data": np.array([None, {}]), b"labels": [0, 1]}, 2),
    "dtype call with a string": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
    "dtype build with fields": b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt(dI-1\nI-1\nI0\ntb.",
    "reconstruct of something else": b"cnumpy.core.multiarray\n_reconstruct\n(c__builtin__\ndict\n(I0\ntS'b'\ntR.",
    "reconstruct without ndarray": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
    "calling ndarray": b"cnumpy\nndarray\n((I1000000000000\ntS'u1'\ntR.",
    "codec with a side effect": b"c_codecs\nencode\n(Vx\nVzlib\ntR.",
    "codec by number": b"c_codecs\nencode\n(Vx\nI1\ntR.",
    "EXT1": b"\x80\x02\x82\x01.",
    "persistent id": b"Pabc\n.",
    "binary persistent id": b"]Q.",
    "INST": b"(S'touch BANG'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch BANG'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n(t\x81.",
    "BUILD on a dict": b"}}b.",
    "next buffer": b"\x80\x05\x97.",
    "huge shape": python2(DATA, [0] * 4).replace(b"M\x00\x0c\x86", b"J\xff\xff\xff\x7f\x86"),
    "negative shape": python2(DATA, [0] * 4).replace(b"M\x00\x0c\x86", b"J\x00\xf4\xff\xff\x86"),
    "signed bytes": python2(DATA, [0] * 4).replace(b"U\x02u1", b"U\x02i1"),
    "huge claimed string": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "huge claimed bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.",
    "unknown memo": b"h\x07.",
    "memo of nothing": b"q\x07.",
    "memo of a mark": b"(q\x07.",
    "empty stack": b".",
    "mark as value": b"(.",
    "append to nothing": b"]a.",
    "append to a dict": b"}Na.",
    "odd dict": b"(Nd.",
    "dict with list keys": b"(]Nd.",
    "setitems without mark": b"}Nu.",
    "endless digits": b"I" + b"9" * 10_000 + b"\n.",
    "not a pickle": b"\x80\x99\xff\xfe",
    "nothing": b"",
    "no end": b"\x80\x02}q\x01",
    "long": b"\x80\x02" + b"N0" * 10,
    "cut": python2(DATA, [0, 1, 0, 1])[:5000],
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_everything_else_is_refused(tmp_path: Path, raw: bytes, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused):
        parse(raw)
    (tmp_path / "data_batch_1").write_bytes(raw)
    for path in (tmp_path, tmp_path / "data_batch_1"):
        with pytest.raises(InputError, match="data_batch_1: this file holds something other than a CIFAR batch"):
            load(path, runtime=runtime)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data_batch_1"]


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.data.pickles.MOST_STEPS", 100)
    with pytest.raises(Refused, match="too long"):
        parse(b"]" * 1000 + b".")


def test_a_list_in_itself_is_harmless(tmp_path: Path, runtime: Runtime) -> None:
    loop = parse(b"]q\x01h\x01a.")
    assert loop[0] is loop
    (tmp_path / "data_batch_1").write_bytes(b"}(U\x04dataU\x01xU\x06labels]q\x01h\x01au.")
    with pytest.raises(InputError, match="something other"):
        load(tmp_path, runtime=runtime)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({b"data": DATA}, "needed data and labels"),
        ([1, 2], "no dict"),
        ({b"data": b"x", b"labels": [0]}, "array of pictures"),
        (batch([0, 1, 0]), "not a whole CIFAR batch"),
        (batch([0, 1, 0, 1], DATA[:, :100]), "not a whole CIFAR batch"),
        (batch([0, 1, 0, -1]), "whole numbers"),
        (batch([0, 1, 0, "x"]), "whole numbers"),  # type: ignore[list-item]
        (batch([0, 0, 0, 0]), "one class"),
    ],
)
def test_batches_with_wrong_contents(tmp_path: Path, value: Any, word: str, runtime: Runtime) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(InputError, match=word):
        load(tmp_path / "test_batch", runtime=runtime)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(min_size=1),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.binary(min_size=1), inner),
    max_leaves=10,
)


@given(PLAIN, st.integers(2, 5))
def test_plain_values_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert parse(pickle.dumps(value, protocol)) == value


@given(st.binary(max_size=60))
def test_random_bytes_end_in_a_value_or_a_refusal(raw: bytes) -> None:
    with suppress(Refused):  # any other exception fails the test
        parse(b"\x80\x02" + raw)


@given(st.data())
def test_a_flipped_byte_never_runs_anything(data: st.DataObject) -> None:
    small = pickle.dumps({b"data": DATA[:1, :20], b"labels": [1]}, 2)
    at = data.draw(st.integers(0, len(small) - 1))
    raw = small[:at] + bytes([data.draw(st.integers(0, 255))]) + small[at + 1 :]
    try:
        value = parse(raw)
    except Refused:
        return
    if isinstance(value, dict) and b"data" in value:
        assert array_of(value[b"data"]).dtype == np.uint8
