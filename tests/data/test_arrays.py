"""Arrays, npz archives and data sets in memory."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tocsin.data import load
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 8, 9, 3), np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (X, X),
        (X.transpose(0, 3, 1, 2), X),
        (X[..., 0], X[..., :1]),
        (X[:, None, :, :, 0], X[..., :1]),
        (X / 255.0, X),
        ((X / 255.0).astype(np.float32), X),
        (X.astype(np.float64), X),
        (X.astype(np.int64), X),
        (X.astype(np.uint16) * 257, X),
        (X > 128, (X > 128) * np.uint8(255)),
        (np.concatenate([X, X[..., :1]], 3), X),
        (X.astype(">i4"), X),
        (np.asfortranarray(X), X),
    ],
)
def test_any_form_of_pictures(x: np.ndarray, expected: np.ndarray) -> None:
    data = load(x, Y)
    assert data.inputs.dtype == np.uint8
    assert np.array_equal(data.inputs, expected)
    assert data.inputs.flags.c_contiguous


@pytest.mark.parametrize(
    ("y", "classes", "expected", "names"),
    [
        (Y, None, Y, "0 1 2"),
        (Y.tolist(), None, Y, "0 1 2"),
        (Y.astype(np.uint8)[:, None], None, Y, "0 1 2"),
        (Y.astype(np.float32), None, Y, "0 1 2"),
        (Y * 5 + 3, None, Y, "3 8 13"),
        (Y, ["a", "b", "c", "d"], Y, "a b c d"),
        (np.array(["x", "y", "z"])[Y], None, Y, "x y z"),
        (np.array([b"x", b"y", b"z"])[Y], None, Y, "x y z"),
        (np.array(["x", "y", "z"])[Y], ["z", "y", "x"], 2 - Y, "z y x"),
        (np.array(["2", "10", "1"])[Y], None, [1, 2, 0, 1, 2, 0], "1 2 10"),
        (Y > 0, None, (Y > 0).astype(int), "0 1"),
    ],
)
def test_any_form_of_labels(y: Any, classes: Any, expected: np.ndarray, names: str) -> None:
    data = load(X, y, classes=classes)
    assert data.labels.tolist() == np.asarray(expected).tolist()
    assert data.classes == tuple(names.split())


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y[:5], ["5 labels for 6 samples"]),
        (X, Y - 1, ["negative in row 0, 3"]),
        (X, np.where(Y == 1, np.nan, Y), ["missing (NaN) in row 1, 4"]),
        (X, np.array([0, np.nan, -1, 0.5, 1, 2]), ["missing (NaN) in row 1", "negative in row 2", "not a whole number in row 3"]),
        (X, np.array(["a", "", "b", "a", "nan", "b"]), ["missing in row 1, 4"]),
        (X, np.eye(3)[Y], ["argmax"]),
        (X, np.array(["a", "b\0c", "b", "a", "b", "b"]), ["zero character in row 1"]),
        (X, np.zeros(6, int), ["one class"]),
        (X, np.array([1, None, 2, 3, 4, 5], object), ["labels"]),
        (X, np.full(6, 2**64 - 1, np.uint64) - Y.astype(np.uint64), ["not a whole number"]),
        (X.reshape(6, -1), Y, ["flattened", "reshape"]),
        (X[..., :2], Y, ["shape (6, 8, 9, 2)"]),
        (X.astype(object), Y, ["inputs"]),
        (X.astype(complex), Y, ["dtype complex"]),
        (X / 127.5 - 1, Y, ["normalised"]),
        (X * 1e6, Y, ["allowed"]),
        (np.where(X > 250, np.nan, X), Y, ["NaN"]),
        (X[:0], Y[:0], ["no sample"]),
        (X[:, :0], Y, ["no pixels"]),
        (X, None, ["labels are missing"]),
        (iter(X), None, ["map-style"]),
        (7, None, ["int given"]),
    ],
)
def test_mistakes_are_named(x: Any, y: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as told:
        load(x, y)
    assert all(word in str(told.value) for word in words), told.value


def test_large_pictures_are_reduced_and_size_overrides() -> None:
    x = RNG.integers(0, 256, (4, 100, 50, 3), np.uint8)
    data = load(x, [0, 1, 0, 1])
    assert data.inputs.shape == (4, 64, 32, 3)
    assert data.resized
    assert "all 4 pictures resized from 100x50 to 64x32" in data.notes[0]
    expected = np.asarray(Image.fromarray(x[0]).resize((32, 64), Image.Resampling.BILINEAR, reducing_gap=3.0))
    assert np.array_equal(data.inputs[0], expected)
    whole = load(x, [0, 1, 0, 1], size=(100, 50))
    assert np.array_equal(whole.inputs, x)
    assert not whole.resized


def test_a_data_set_passes_through() -> None:
    data = load(X, Y)
    assert load(data) is data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names", [("x", "y"), ("inputs", "labels"), ("X", "Y"), ("images", "targets"), ("data", "label"), ("x_train", "y_train")]
)
def test_npz_by_any_usual_names(tmp_path: Path, save: Any, names: tuple[str, str]) -> None:
    save(tmp_path / "d.npz", **{names[0]: X, names[1]: Y, "other": np.zeros(3)})
    data = load(tmp_path / "d.npz")
    assert np.array_equal(data.inputs, X)
    assert data.ids.tolist() == [str(k) for k in range(6)]
    assert (data.layout, data.source) == ("npz", (tmp_path / "d.npz").resolve())
    assert data.notes == ("not read from the archive: other",)


def test_npz_with_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, classes=np.array(["<b>", "=x", "c"]))
    assert load(tmp_path / "d.npz").classes == ("<b>", "=x", "c")
    assert load(tmp_path / "d.npz", classes=["p", "q", "r"]).classes == ("p", "q", "r")


class _Boom:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("code in the archive was run",))


@pytest.mark.parametrize("member", ["x", "y", "classes"])
def test_npz_with_objects_is_refused_unread(tmp_path: Path, member: str) -> None:
    arrays: dict[str, Any] = {"x": X, "y": Y, "classes": np.array(["a", "b", "c"])}
    arrays[member] = np.array([_Boom()] * 6, object)
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match="Python objects"):
        load(tmp_path / "d.npz")


def _npy(header_shape: tuple[int, ...], body: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": header_shape})
    return file.getvalue() + body


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (_npy((2**40, 32, 32, 3), b"\0" * 100), "claims"),
        (_npy((6, 8, 9, 3), b"\0" * 100), "claims"),
        (_npy((-1, 8, 9, 3), b"\0" * 100), "x"),
        (b"not an array", "not an array"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': __import__('os')}", "not an array"),
    ],
)
def test_npz_with_lying_members(tmp_path: Path, x: bytes, word: str) -> None:
    labels = io.BytesIO()
    np.save(labels, Y)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(InputError, match=word):
        load(tmp_path / "d.npz")


def test_npz_damaged_or_of_another_kind(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=X, y=Y)
    raw = (tmp_path / "whole.npz").read_bytes()
    for k, bad in enumerate((raw[:200], raw[:-30], raw[:80] + b"\xff" * 60 + raw[140:])):
        (tmp_path / f"{k}.npz").write_bytes(bad)
        with pytest.raises(InputError, match=f"{k}.npz|x.npy"):
            load(tmp_path / f"{k}.npz")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("cat/0.png", b"x")
    with pytest.raises(InputError, match="unpack"):
        load(tmp_path / "pictures.zip")
    np.savez(tmp_path / "names.npz", a=X, b=Y)
    with pytest.raises(InputError, match="no array of inputs; got a, b"):
        load(tmp_path / "names.npz")
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"load\(x, y\)"):
        load(tmp_path / "x.npy")
    (tmp_path / "x.tar").write_bytes(b"\x01\x02\x03")
    with pytest.raises(InputError, match="not a kind of data known here"):
        load(tmp_path / "x.tar")


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(2, 5), st.integers(4, 9), st.integers(4, 9), st.sampled_from([1, 3]))),
    st.data(),
)
def test_uint8_pictures_are_never_changed(x: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(hnp.arrays(np.int8, len(x), elements=st.integers(0, 3)).filter(lambda y: len(set(y.tolist())) > 1))
    loaded = load(x, y)
    assert np.array_equal(loaded.inputs, x)
    assert [int(loaded.classes[k]) for k in loaded.labels] == y.tolist()


class _MapStyle:
    """Like a torch data set; gives what ``make`` makes of the row."""

    def __init__(self, make: Any, classes: Any = None) -> None:
        self.make = make
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> Any:
        if not 0 <= row < len(X):
            raise IndexError
        return self.make(row)


def test_map_style_pictures_of_any_kind(runtime: Runtime) -> None:
    torch = pytest.importorskip("torch")
    makers: list[Any] = [
        lambda k: (Image.fromarray(X[k]), int(Y[k])),
        lambda k: (X[k], Y[k]),
        lambda k: (torch.from_numpy(X[k]).permute(2, 0, 1) / 255, torch.tensor(Y[k])),
        lambda k: (torch.from_numpy(X[k]).permute(2, 0, 1), Y[k]),
    ]
    for make in makers:
        data = load(_MapStyle(make, ["a", "b", "c"]), runtime=runtime)
        assert np.array_equal(data.inputs, X)
        assert (data.classes, data.labels.tolist(), data.notes) == (("a", "b", "c"), Y.tolist(), ())
    subset = torch.utils.data.Subset(_MapStyle(makers[0], ["a", "b", "c"]), [5, 0])
    assert load(subset, runtime=runtime).classes == ("a", "b", "c")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X).permute(0, 3, 1, 2), torch.from_numpy(Y))
    assert np.array_equal(load(pairs, runtime=runtime).inputs, X)
    assert np.array_equal(load(torch.from_numpy(X), torch.from_numpy(Y)).inputs, X)


def test_map_style_mixed_sizes_and_modes(runtime: Runtime) -> None:
    sizes = [(20, 20), (24, 24), (200, 100)] * 2
    pictures = [Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    pictures[0] = pictures[0].convert("L")
    data = load(_MapStyle(lambda k: (pictures[k], "xyz"[Y[k]])), runtime=runtime)
    assert data.inputs.shape == (6, 24, 24, 3)
    assert data.classes == ("x", "y", "z")
    assert data.resized
    assert "4 of 6 pictures resized" in data.notes[0]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda k: X[k], "pair"),
        (lambda k: (X[k], Y[k], 0), "pair"),
        (lambda k: (X[k].ravel(), Y[k]), "shape"),
        (lambda k: ("cat.png", Y[k]), "item 0"),
        (lambda k: (X[k], None), "labels"),
    ],
)
def test_map_style_mistakes(make: Any, word: str, runtime: Runtime) -> None:
    with pytest.raises(InputError, match=word):
        load(_MapStyle(make), runtime=runtime)


def test_map_style_with_normalize_is_refused(runtime: Runtime) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="take Normalize out"):
        load(_MapStyle(lambda k: (torch.from_numpy(X[k]).permute(2, 0, 1) / 127.5 - 1, Y[k])), runtime=runtime)


def test_random_transforms_are_noted(runtime: Runtime) -> None:
    rng = np.random.default_rng(0)
    data = load(_MapStyle(lambda k: (rng.integers(0, 256, (8, 8, 3), np.uint8), Y[k])), runtime=runtime)
    assert "random" in data.notes[0]
    assert not data.resized


class _Torchvision(_MapStyle):
    """Has the attributes of torchvision's CIFAR10."""

    def __init__(self, poisoned: bool) -> None:
        super().__init__(lambda k: (Image.fromarray(255 - X[k] if poisoned else X[k]), int(Y[k])))
        self.data, self.targets, self.transform = X, Y.tolist(), None


def test_arrays_behind_a_data_set_are_trusted_only_where_torchvision_reads_them(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.array_equal(load(_Torchvision(poisoned=True), runtime=runtime).inputs, 255 - X)
    monkeypatch.setattr(_MapStyle.__getitem__, "__module__", "torchvision.datasets.cifar")
    assert np.array_equal(load(_Torchvision(poisoned=True), runtime=runtime).inputs, X)


def test_result_is_a_dataset(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    assert isinstance(load(str(tmp_path / "d.npz")), Dataset)
